"""One look at every row before anything is done: rows that float32 arithmetic cannot hold are refused by name."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from fastann import checks, kernels
from fastann.data.source import Centred, Source

_LARGEST = 2.0**120  # squared norms up to here leave room for the sums of four that a distance takes
_COMPARED = 2**24  # values that are looked at to compare some rows with each other
_AT_MOST = 512  # rows so compared
_LOST = 0.25  # of the distance to the nearest neighbour: rounding by more loses what float64 rows tell apart
SMALLEST = 1e-30  # spreads below this vanish when squared in float32


class TooLarge(ValueError):
    """Rows are too far from the origin for float32, at least as they are."""


@dataclass(frozen=True)
class Survey:
    """What one look at every row tells: mean (float64 [d]), total variance, extreme squared norms, zero rows.

    `least` is of the rows that are not zero, infinite if there are none.
    """

    mean: np.ndarray
    variance: float
    least: float
    least_row: int
    most: float
    zeros: np.ndarray


def survey(source: Source, name: str = "X") -> Survey:
    """Look at every row once; refuse those that float32 arithmetic cannot hold, by the `name` of the rows."""
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
            _refuse(source, start + int(bad[0]), name)
        total += sums
        squares += float(sqnorm.sum())
        most = max(most, float(sqnorm.max()))
        zero = np.flatnonzero(sqnorm == 0)
        zeros.append(start + zero)
        sqnorm[zero] = np.inf
        low = int(sqnorm.argmin())
        if sqnorm[low] < least:
            least, least_row = float(sqnorm[low]), start + low
    mean = total / source.n
    variance = max(0.0, squares / source.n - float(mean @ mean))
    return Survey(mean, variance, least, least_row, most, np.concatenate(zeros))


def survey_from(source: Source) -> Survey:
    """The same for rows that are too far from the origin, seen from the first of them; the mean is that of the rows.

    Nanoseconds since 1970 are an example: their squares overflow float32, and their differences do not.
    """
    origin = source.exact(source.native(slice(0, 1)))[0]
    look = survey(Centred(source, origin))
    return replace(look, mean=origin + look.mean)


def warn_of_lost_digits(view: Source) -> None:
    """Warn if rounding to float32 moves rows of more digits by much of what they differ by, on a sample of them."""
    kind, size = view.dtype.kind, view.dtype.itemsize
    if view.sparse or not ((kind == "f" and size > 4) or (kind in "iu" and size >= 4)):
        return
    rows = min(view.n, view.rows_per_chunk(), _AT_MOST, max(2, int((_COMPARED / view.d) ** 0.5)))
    block = view.native(np.unique(np.linspace(0, view.n - 1, rows).astype(np.int64)))
    exact = view.exact(block)
    lost = float(np.median(np.linalg.norm(exact - view.convert(block), axis=1)))
    gaps = cdist(exact, exact)
    gaps[gaps == 0] = np.inf
    nearest = gaps.min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    if lost == 0 or not len(nearest) or lost <= _LOST * (gap := float(np.median(nearest))):
        return
    warnings.warn(
        f"float32, in which distances are computed, is too coarse for these {view.stored} rows: it moves them by "
        f"{lost:.2g}, and of a sample the nearest are {gap:.2g} apart (values reach {np.abs(exact).max():.2g} from the "
        "mean of all), so clusters that near are not told apart; cluster parts that lie far from each other one by "
        "one, as each is centred then, or scale down the columns that spread so far",
        UserWarning,
        stacklevel=5,
    )


def _refuse(source: Source, row: int, name: str) -> None:
    values: Any = source.native(np.array([row]))
    values = np.asarray(values.toarray() if source.sparse else values)[0]
    for what, bad in (("NaN", np.isnan(values)), ("infinity", np.isinf(values))):
        if bad.any():
            raise ValueError(
                f"Input {name} contains {what}, first in row {row}, column {int(bad.argmax())}; "
                "every value must be finite: remove or impute such rows"
            )
    worst = float(np.abs(values.astype(np.float64)).max())
    raise TooLarge(
        f"row {row} holds values up to {worst:.3g}, whose squares overflow float32; divide the data by a "
        f"constant so that values stay below about {checks.LARGEST:g}"
    )
