"""All rows of a source in memory at once: for methods that cannot read chunks."""

from typing import Any

import numpy as np

from fastann.data.source import Source


def stored_rows(source: Source, picks: np.ndarray | None = None) -> Any:
    """Rows in memory as they are stored (bfloat16, which NumPy has not, as float32), [n, d]; dense ones never a view.

    With `picks` (int, ascending) only these. Sparse rows are a CSR matrix.
    """
    if source.sparse:
        return source.native(slice(0, source.n) if picks is None else picks)
    if picks is not None:
        rows = source.native(picks)
        return rows if rows.base is None else np.array(rows)
    out = np.empty((source.n, source.d), source.dtype)
    step = source.rows_per_chunk()
    for start in range(0, source.n, step):
        out[start : start + step] = source.native(slice(start, min(start + step, source.n)))
    return out


def float32_rows(source: Source) -> Any:
    """All rows in one piece, float32 [n, d], C-ordered or CSR; not copied where dense ones lie so in memory."""
    if source.direct or source.sparse:
        return next(block for _, block in source.chunks(source.n))
    out = np.empty((source.n, source.d), np.float32)
    for start, block in source.chunks():
        out[start : start + len(block)] = block
    return out
