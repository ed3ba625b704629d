"""The space rows are clustered in: which view of them the engine sees, the way back for centroids, and what a mean is.

A metric is an object here, `Euclidean` or `Cosine`; nowhere else in the package is one compared by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastann import checks, kernels
from fastann.cluster.survey import SMALLEST, Survey, TooLarge, survey, survey_from, warn_of_lost_digits
from fastann.data.source import Centred, Source, UnitNorm

_FAR = 10.0  # centre when the mean's squared norm exceeds the variance this many times
_BLOCK = 2**20  # numbers that are converted at once
_UNIT = 1e-6  # rows whose squared norms are this close to 1 are taken as they are


class Space(ABC):
    """What a metric means to the engine, which knows squared L2 distances only.

    Attributes
    ----------
    metric : str
        Its name, as users give it.
    unit : bool
        Whether rows and centroids have unit norm in this space.
    per_score : float
        Squared L2 distance that counts as 1 in a score: a squared distance of 2 is a cosine that is less by 1.
    mean : float64 [d] or None
        Subtracted from rows, for numerical reasons.
    """

    metric: ClassVar[str]
    unit: ClassVar[bool]
    per_score: ClassVar[float]
    mean: np.ndarray | None = None

    def view(self, source: Source, *, zero_rows: bool = False, name: str = "X") -> Source:
        """See `source` in this space, after checking every row of it.

        With `zero_rows` these pass under the cosine metric too, as rows at the same distance from every direction.
        Messages call the rows by their `name`.

        Raises
        ------
        ValueError
            If a row has NaN or infinity, is too large for float32, or is zero under the cosine metric;
            the message names the first such row.
        """
        return self.seen(source, survey(source, name), zero_rows)

    @abstractmethod
    def seen(self, source: Source, look: Survey, zero_rows: bool = False) -> Source:
        """The same for a source that was looked at already."""

    @abstractmethod
    def inward(self, centers: np.ndarray) -> np.ndarray:
        """Centres in the user's coordinates -> float32 [k, d] centroids in this space."""

    def outward(self, centroids: np.ndarray) -> np.ndarray:
        """Centroids of this space -> centres [k, d] in the user's coordinates.

        float32, or float64 far from the origin, where float32 centres would be too coarse to go back.
        """
        return centroids.copy() if self.mean is None else centroids + self.mean

    @abstractmethod
    def distance(self, sqdist: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Squared L2 distances in this space -> the metric's distance: Euclidean, or 1 - cosine."""

    @abstractmethod
    def squared(self, distance: np.ndarray) -> np.ndarray:
        """The metric's distances as squared L2 distances in this space, float64."""

    @abstractmethod
    def similarity(self, sqdist: np.ndarray) -> np.ndarray:
        """Squared L2 distances as similarities, float64: the cosine, or 1 / (1 + squared distance)."""

    @abstractmethod
    def closeness(self, distance: np.ndarray) -> np.ndarray:
        """The metric's distances as similarities: the cosine, or 1 / (1 + squared distance)."""

    def means(self, sums: np.ndarray, counts: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """Centroid of each cluster, float32 [k, d]; that of one without rows stays.

        Parameters
        ----------
        sums : float64 [k, d]
            Weighted sums of rows.
        counts : int64 or float64 [k]
            Their number, or their weight.
        centroids : float32 [k, d]
            As before.
        """
        return kernels.means(sums, counts, centroids, cosine=self.unit)[0]

    @abstractmethod
    def divisor(self, counts: np.ndarray, sqnorm: np.ndarray) -> np.ndarray:
        """What sums of rows are divided by to be centroids: float64 [k], from their counts and squared norms."""

    @abstractmethod
    def restored(self, centroids: np.ndarray) -> np.ndarray:
        """Centroids that were moved freely, back in this space, in place."""

    @abstractmethod
    def lengths(self, weights: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Length of each cluster's mean as a share of its centroid's: float64 [k].

        Parameters
        ----------
        weights, spread : float64 [k]
            Weight of the rows of each cluster, and the weighted sum of their distances.
        """


@dataclass(frozen=True)
class Euclidean(Space):
    """Rows as they are, or less their mean where they lie far from the origin."""

    metric: ClassVar[str] = "euclidean"
    unit: ClassVar[bool] = False
    per_score: ClassVar[float] = 1.0
    mean: np.ndarray | None = None

    def view(self, source: Source, *, zero_rows: bool = False, name: str = "X") -> Source:
        seen = source if self.mean is None else Centred(source, self.mean)
        survey(seen, name)  # rows may be too far from the origin, and yet near to the mean
        return seen

    def seen(self, source: Source, look: Survey, zero_rows: bool = False) -> Source:
        return source if self.mean is None else Centred(source, self.mean)

    def inward(self, centers: np.ndarray) -> np.ndarray:
        if self.mean is None:
            return np.ascontiguousarray(centers, np.float32)
        return np.ascontiguousarray(np.asarray(centers, np.float64) - self.mean, np.float32)

    def distance(self, sqdist: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.sqrt(sqdist, out=out)

    def squared(self, distance: np.ndarray) -> np.ndarray:
        return np.square(distance, dtype=np.float64)

    def similarity(self, sqdist: np.ndarray) -> np.ndarray:
        return 1 / (1 + sqdist.astype(np.float64))

    def closeness(self, distance: np.ndarray) -> np.ndarray:
        return 1 / (1 + distance.astype(np.float64) ** 2)

    def divisor(self, counts: np.ndarray, sqnorm: np.ndarray) -> np.ndarray:
        return counts

    def restored(self, centroids: np.ndarray) -> np.ndarray:
        return centroids

    def lengths(self, weights: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return np.ones(len(weights))


@dataclass(frozen=True)
class Cosine(Space):
    """Rows scaled to unit norm, whose means are too (spherical k-means; Dhillon and Modha, 2001)."""

    metric: ClassVar[str] = "cosine"
    unit: ClassVar[bool] = True
    per_score: ClassVar[float] = 2.0

    def seen(self, source: Source, look: Survey, zero_rows: bool = False) -> Source:
        if len(look.zeros) and not zero_rows:
            raise ValueError(
                f"row {look.zeros[0]} is zero and has no direction, which metric='cosine' needs; "
                "remove zero rows or use metric='euclidean'"
            )
        if look.least < SMALLEST:
            raise ValueError(
                f"row {look.least_row} has norm {look.least**0.5:.1e}, whose square vanishes in float32; "
                "scale the rows up, which changes no direction"
            )
        unit = not len(look.zeros) and abs(look.least - 1) < _UNIT and abs(look.most - 1) < _UNIT
        return source if unit else UnitNorm(source, look.zeros)

    def inward(self, centers: np.ndarray) -> np.ndarray:
        out = np.empty(centers.shape, np.float32)
        step = max(1, _BLOCK // max(1, centers.shape[1]))  # in parts: centres of many columns are large in float64
        for start in range(0, len(out), step):
            c = np.asarray(centers[start : start + step], np.float64)
            norm = np.linalg.norm(c, axis=1, keepdims=True)
            if not norm.all():
                row = start + int(np.flatnonzero(norm == 0)[0])
                raise ValueError(f"centre {row} is zero and has no direction, which metric='cosine' needs")
            out[start : start + step] = c / norm
        return out

    def distance(self, sqdist: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.multiply(sqdist, 0.5, out=out)

    def squared(self, distance: np.ndarray) -> np.ndarray:
        return 2 * distance.astype(np.float64)

    def similarity(self, sqdist: np.ndarray) -> np.ndarray:
        return 1 - sqdist.astype(np.float64) / 2

    def closeness(self, distance: np.ndarray) -> np.ndarray:
        return 1 - distance

    def divisor(self, counts: np.ndarray, sqnorm: np.ndarray) -> np.ndarray:
        return np.sqrt(sqnorm)

    def restored(self, centroids: np.ndarray) -> np.ndarray:
        norm = np.linalg.norm(centroids, axis=1, keepdims=True)
        centroids /= np.where(norm > 0, norm, 1)
        return centroids

    def lengths(self, weights: np.ndarray, spread: np.ndarray) -> np.ndarray:
        along = weights - spread  # the mean cosine is the length of the mean
        return np.divide(along, weights, out=np.ones(len(weights)), where=weights > 0)


SPACES: dict[str, type[Space]] = {space.metric: space for space in (Euclidean, Cosine)}
METRICS = tuple(SPACES)


def space_of(metric: str, mean: np.ndarray | None = None) -> Space:
    """The space of a metric, of rows from which `mean` (float64 [d]) is subtracted."""
    checks.choice(metric, "metric", METRICS)
    if mean is None:
        return SPACES[metric]()
    if metric != Euclidean.metric:
        raise ValueError(f"rows are centred in Euclidean space only, not for metric={metric!r}")
    return Euclidean(mean)


def fit_space(source: Source, metric: str, *, zero_rows: bool = False) -> tuple[Space, Source]:
    """Choose the space for data to fit, and see the data in it; `zero_rows` as in `Space.view`."""
    space, look = space_of(metric), None
    try:
        look = survey(source)
    except TooLarge:
        if space.unit or source.sparse or source.dtype.itemsize <= 4:
            raise
    beyond, look = look is None, look or survey_from(source)
    if not space.unit:
        # Sparse rows stay sparse: their distances are summed in float64, whose digits suffice without centring.
        far = not source.sparse and (beyond or float(look.mean @ look.mean) > _FAR * look.variance)
        if 0 < look.variance < SMALLEST and not far:
            raise ValueError(
                f"the rows differ so little (variance {look.variance:.1e}) that their squares vanish in float32; "
                "multiply the data, for example by 1 / X.std()"
            )
        # Rows of float32 are centred in float32, so by a mean that it holds: centres are moved back by the same.
        short = source.dtype.kind == "f" and source.dtype.itemsize <= 4
        mean = look.mean.astype(np.float32).astype(np.float64) if short else look.mean
        space = space_of(metric, mean) if far else space
    view = space.seen(source, look, zero_rows)
    warn_of_lost_digits(view)
    return space, view
