"""Sparse rows as a `Source`: chunks are CSR matrices, never dense ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from fastann.data.identity import about, written
from fastann.data.limits import DEFAULT, Limits
from fastann.data.source import Source, View


class CSRSource(Source):
    """A CSR matrix of any float or integer dtype; `chunks` and `take` give float32 CSR matrices."""

    sparse = True

    def __init__(self, matrix: Any, path: Path | None = None, limits: Limits = DEFAULT):
        self.matrix, self.limits = matrix, limits
        self.files = {} if path is None else {str(path.absolute()): written(path)}
        self.n, self.d = matrix.shape
        self.dtype = matrix.dtype
        self.direct = matrix.dtype == np.float32

    def fingerprint(self) -> dict[str, Any] | None:
        return about(self, self.files) if self.files else None

    def native(self, rows: Any) -> Any:
        return self.matrix if isinstance(rows, slice) and rows == slice(0, self.n) else self.matrix[rows]

    def convert(self, block: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return block.astype(np.float32, copy=False)

    def take(self, indices: np.ndarray) -> Any:
        return self.convert(self.matrix[np.asarray(indices)])

    def rows_per_chunk(self) -> int:
        return max(1, self.n * self.limits.chunk_bytes // (8 * max(1, self.matrix.nnz)))

    def rows_at_once(self) -> int:
        return self.n if self.direct else self.rows_per_chunk()  # SciPy copies what it slices


class Densified(View):
    """Sparse rows seen as dense ones, a chunk at a time: for a model that was fitted on dense rows."""

    def __init__(self, base: Source):
        super().__init__(base)
        self.sparse = False

    def native(self, rows: Any) -> np.ndarray:
        block: Any = self.base.native(rows)
        return block.toarray()

    def convert(self, block: np.ndarray) -> np.ndarray:
        return self.base.convert(block)

    def rows_per_chunk(self) -> int:
        return Source.rows_per_chunk(self)


class Sparsified(View):
    """Dense rows seen as sparse ones, a chunk at a time: for a model that was fitted on sparse rows."""

    def __init__(self, base: Source):
        super().__init__(base)
        self.sparse = True

    def native(self, rows: Any) -> Any:
        return sparse.csr_matrix(self.base.convert(self.base.native(rows)))  # SciPy has no sparse float16

    def convert(self, block: Any) -> Any:
        return block


def entries_per_row(source: Source) -> int:
    """Values that a product with a row takes: columns, or for sparse rows the mean number stored, rounded up."""
    while isinstance(source, View):
        source = source.base
    return max(1, -(-source.matrix.nnz // source.n)) if isinstance(source, CSRSource) else source.d
