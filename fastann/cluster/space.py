"""The space rows are clustered in: which view of them the engine sees, and the way back for centroids."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastann import checks, kernels
from fastann.data.source import Centred, Source, UnitNorm

METRICS = ("euclidean", "cosine")

_LARGEST = 2.0**120  # squared norms up to here leave room for the sums of four that a distance takes
_SMALLEST = 1e-30  # spreads below this vanish when squared in float32
_FAR = 10.0  # centre when the mean's squared norm exceeds the variance this many times
_UNIT = 1e-6  # rows whose squared norms are this close to 1 are taken as they are


@dataclass(frozen=True)
class Space:
    """A metric, and the mean subtracted from rows for numerical reasons (None: none is)."""

    metric: str
    mean: np.ndarray | None = None

    def view(self, source: Source, *, zero_rows: bool = False) -> Source:
        """See `source` in this space, after checking every row of it.

        With `zero_rows` these pass under the cosine metric too, as rows at the same distance from every direction.

        Raises
        ------
        ValueError
            If a row has NaN or infinity, is too large for float32, or is zero under the cosine metric;
            the message names the first such row.
        """
        return self._view(source, survey(source), zero_rows)

    def _view(self, source: Source, seen: "Survey", zero_rows: bool = False) -> Source:
        if self.metric == "cosine":
            if seen.least == 0 and zero_rows:
                return UnitNorm(source, seen.zeros)
            if seen.least == 0:
                raise ValueError(
                    f"row {seen.least_row} is zero and has no direction, which metric='cosine' needs; "
                    "remove zero rows or use metric='euclidean'"
                )
            if seen.least < _SMALLEST:
                raise ValueError(
                    f"row {seen.least_row} has norm {seen.least**0.5:.1e}, whose square vanishes in float32; "
                    "scale the rows up, which changes no direction"
                )
            unit = abs(seen.least - 1) < _UNIT and abs(seen.most - 1) < _UNIT
            return source if unit else UnitNorm(source)
        return source if self.mean is None else Centred(source, self.mean)

    def inward(self, centers: np.ndarray) -> np.ndarray:
        """Centres in the user's coordinates -> float32 [k, d] centroids in this space."""
        if self.metric == "euclidean" and self.mean is None:
            return np.ascontiguousarray(centers, np.float32)
        c = np.asarray(centers, np.float64)
        if self.metric == "cosine":
            norm = np.linalg.norm(c, axis=1, keepdims=True)
            if not norm.all():
                row = int(np.flatnonzero(norm == 0)[0])
                raise ValueError(f"centre {row} is zero and has no direction, which metric='cosine' needs")
            c = c / norm
        elif self.mean is not None:
            c = c - self.mean
        return np.ascontiguousarray(c, np.float32)

    def outward(self, centroids: np.ndarray) -> np.ndarray:
        """Centroids of this space -> centres [k, d] in the user's coordinates.

        float32, or float64 far from the origin, where float32 centres would be too coarse to go back.
        """
        return centroids.copy() if self.mean is None else centroids + self.mean

    def distance(self, sqdist: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Squared L2 distances in this space -> the metric's distance: Euclidean, or 1 - cosine."""
        return np.multiply(sqdist, 0.5, out=out) if self.metric == "cosine" else np.sqrt(sqdist, out=out)


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


def fit_space(source: Source, metric: str, *, zero_rows: bool = False) -> tuple[Space, Source]:
    """Choose the space for data to fit, and see the data in it; `zero_rows` as in `Space.view`."""
    seen = survey(source)
    mean = None
    if metric == "euclidean":
        # Sparse rows stay sparse: their distances are summed in float64, whose digits suffice without centring.
        far = not source.sparse and float(seen.mean @ seen.mean) > _FAR * seen.variance
        if 0 < seen.variance < _SMALLEST and not far:
            raise ValueError(
                f"the rows differ so little (variance {seen.variance:.1e}) that their squares vanish in float32; "
                "multiply the data, for example by 1 / X.std()"
            )
        mean = seen.mean if far else None
    space = Space(metric, mean)
    return space, space._view(source, seen, zero_rows)


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
