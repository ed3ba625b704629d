"""One look at every row before anything is done: rows that float32 arithmetic cannot hold are refused by name."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastann import checks, kernels
from fastann.data.source import Source

_LARGEST = 2.0**120  # squared norms up to here leave room for the sums of four that a distance takes
SMALLEST = 1e-30  # spreads below this vanish when squared in float32


@dataclass(frozen=True)
class Survey:
    """What one look at every row tells: mean (float64 [d]), total variance, extreme squared norms, zero rows."""

    mean: np.ndarray
    variance: float
    least: float
    least_row: int
    most: float
    zeros: np.ndarray


def survey(source: Source) -> Survey:
    """Look at every row once; refuse those that float32 arithmetic cannot hold."""
    total = np.zeros(source.d)
    squares, least, least_row, most = 0.0, np.inf, 0, 0.0
    zeros = [np.empty(0, np.int64)]
    for start, block in source.chunks(source.rows_per_chunk()):
        if source.sparse:
            sqnorm, sums = kernels.sqnorms(block), np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
        else:
            sqnorm, sums = kernels.survey(block)
        bad = np.flatnonzero(~(sqnorm <= _LARGEST))
        if len(bad):
            _refuse(source, start + int(bad[0]))
        total += sums
        squares += float(sqnorm.sum())
        low = int(sqnorm.argmin())
        if sqnorm[low] < least:
            least, least_row = float(sqnorm[low]), start + low
        most = max(most, float(sqnorm.max()))
        zeros.append(start + np.flatnonzero(sqnorm == 0))
    mean = total / source.n
    variance = max(0.0, squares / source.n - float(mean @ mean))
    return Survey(mean, variance, least, least_row, most, np.concatenate(zeros))


def _refuse(source: Source, row: int) -> None:
    values: Any = source.native(np.array([row]))
    values = np.asarray(values.toarray() if source.sparse else values)[0]
    for what, bad in (("NaN", np.isnan(values)), ("infinity", np.isinf(values))):
        if bad.any():
            raise ValueError(
                f"Input X contains {what}, first in row {row}, column {int(bad.argmax())}; "
                "every value must be finite: remove or impute such rows"
            )
    worst = float(np.abs(values.astype(np.float64)).max())
    raise ValueError(
        f"row {row} holds values up to {worst:.3g}, whose squares overflow float32; divide the data by a "
        f"constant so that values stay below about {checks.LARGEST:g}"
    )
