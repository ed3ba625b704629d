"""What is far from its centre: which rows a fit left out, and how far those of a cluster are, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import betaln, expit, gammaincinv, gammaln, ndtri

from fastann import kernels
from fastann.cluster.memory import PART
from fastann.cluster.space import Space
from fastann.cluster.trim import Trim

# Shares of a cluster's rows whose largest distance is kept.
LEVELS = (0.5, 0.75, 0.9, 0.95, 0.975, 0.98, 0.99, 0.995, 0.999)
_AT_ONCE = 2**20  # rows of several clusters that are looked at together
_POOLED = 2**20  # rows, of all clusters, that tell what a cluster's own do not
_OWN = 10  # rows beyond a level from which a cluster's own distances tell it, not those of all clusters
_LENT = 2.0  # rows of a usual scale that the scale of a small cluster is told by, beside its own,
_STRAIGHT, _SKEW_TO = (
    1e-3,
    300.0,
)  # skewness below which a law is normal, and shape of a gamma law from which its root is
_BELIEVED = 3.0  # odds, before any row is looked at, of a law that distances usually follow
_ENOUGH = 30  # none of a cluster of so many rows


@dataclass(frozen=True)
class Outliers:
    """Which rows a fit left out of the means: those farther from their centre than the threshold.

    Attributes
    ----------
    trim : Trim
        The rule, with the share that was found where none was given.
    threshold : float
        A distance in the metric; infinite where no row is an outlier.
    share : float
        Of the rows' weight that is beyond.
    inertia_all : float
        Of all rows, where that of a fit is of those that stay.
    marked : bool
        Whether their label is -1 for users, not the nearest centre.
    """

    trim: Trim
    threshold: float
    share: float
    inertia_all: float
    marked: bool = False

    def told(self) -> str:
        """In a line, for people."""
        if self.threshold == np.inf:
            return "no row: none is far from its centre"
        far = f"{self.share:.2%} of the rows' weight, beyond a distance of {self.threshold:.6g}"
        return f"{far}; inertia with them {self.inertia_all:.6g}"

    @classmethod
    def none(cls, inertia: float, marked: bool) -> Self:
        """Of rows among which none were found."""
        return cls(Trim(), np.inf, 0.0, inertia, marked)

    @classmethod
    def among(
        cls,
        distances: np.ndarray,
        weights: np.ndarray | None,
        trim: Trim,
        space: Space,
        marked: bool,
        part: int = PART,
    ) -> tuple[Self, float]:
        """Of rows at such distances (float32 [n]) from their centres, and the inertia of those that stay."""
        limit = trim.farthest(distances, weights, part)
        inside = beyond = kept = total = 0.0
        for at in range(0, len(distances), part):
            some = distances[at : at + part]
            w = np.ones(len(some)) if weights is None else weights[at : at + part]
            cost, stays = w * space.squared(some), some <= limit
            inside, beyond = inside + float(cost[stays].sum()), beyond + float(cost[~stays].sum())
            kept, total = kept + float(w[stays].sum()), total + float(w.sum())
        share = 1 - kept / total if total > 0 else 0.0
        return cls(trim, limit, share, inside + beyond, marked), inside


@dataclass(frozen=True, eq=False)
class Tails:
    """How far from its centre the rows of each cluster are.

    Attributes
    ----------
    scales : float32 [k]
        Mean of their squared distances, in the space that rows are compared in, as a distance in the metric.
    quantiles : float32 [k, len(LEVELS)]
        Distances in the metric that the shares `LEVELS` of rows not fitted on are expected within.
    """

    scales: np.ndarray
    quantiles: np.ndarray

    @classmethod
    def of(
        cls, labels: np.ndarray, distances: np.ndarray, weights: np.ndarray | None, k: int, space: Space, limit: float
    ) -> Self | None:
        """Of the rows that lie within the distance `limit` of the centres of their labels; None if each is alone there.

        A centre is drawn towards its own rows: seen from the mean of the n - 1 others a row is n / (n - 1) times as far
        away, as a row that was not fitted on is. Clusters with fewer than
        10 rows beyond a level take the quantile of all clusters' distances, each divided by the scale of its cluster as
        the others of it tell that.
        """
        inside = labels if limit == np.inf else np.where(distances <= limit, labels, np.int32(-1))
        offsets, order = kernels.group(inside, k)
        parts = [(first, last, order[offsets[first] : offsets[last]]) for first, last in runs_of(offsets, _AT_ONCE)]
        size, square, total = np.zeros(k), np.zeros(k), np.zeros(k)
        for first, last, rows in parts:
            own, w = _owners(offsets, first, last), _weights(weights, rows)
            size[first:last] = np.bincount(own, w, last - first)
            square[first:last] = np.bincount(own, w * w, last - first)
            total[first:last] = np.bincount(own, w * space.squared(distances[rows]), last - first)
        count = np.divide(
            size * size, square, out=np.zeros(k), where=square > 0
        )  # of rows of equal weight (Kish, 1965)
        more = count > 1 + 1e-9
        if not more.any():
            return None
        factor = np.divide(count, count - 1, out=np.zeros(k), where=more) ** 2
        total *= factor
        spread = np.divide(total, size, out=np.zeros(k), where=more)
        some = spread > 0
        mean = float(np.exp(np.average(np.log(spread[some]), weights=size[some]))) if some.any() else 0.0
        few = _LENT * np.maximum(0, 1 - count / _ENOUGH)
        lent = few * np.divide(size, count, out=np.zeros(k), where=count > 0)
        scale = np.divide(total + lent * mean, size * more + lent, out=np.full(k, mean), where=(lent > 0) | more)
        tells = count[:, None] * (1 - np.array(LEVELS)) >= _OWN
        quantiles, ratios, masses = np.zeros((k, len(LEVELS))), [np.empty(0)], [np.empty(0)]
        every = -(-len(order) // _POOLED) if len(order) else 1
        for first, last, rows in parts:
            own, w = first + _owners(offsets, first, last), _weights(weights, rows)
            far = space.squared(distances[rows]) * factor[own]
            for j in first + np.flatnonzero(tells[first:last, 0]):
                its = slice(offsets[j] - offsets[first], offsets[j + 1] - offsets[first])
                quantiles[j] = _quantiles(far[its], w[its], count[j])
            own, w, far = own[::every], w[::every], far[::every]
            rest = np.maximum(size[own] - w, 0) + lent[own]
            others = (np.maximum(total[own] - w * far, 0) + lent[own] * mean) / np.where(rest > 0, rest, 1)
            known = more[own] & (w > 0) & (others > 0)
            ratios.append(far[known] / others[known])
            masses.append(w[known])
        ratio = np.concatenate(ratios)
        pooled = (
            np.zeros(len(LEVELS)) if not len(ratio) else _quantiles(ratio, np.concatenate(masses), float(len(ratio)))
        )
        quantiles = np.maximum.accumulate(np.where(tells, quantiles, scale[:, None] * pooled), axis=1)
        return cls(_as_distance(scale, space), _as_distance(quantiles, space))

    def within(self, level: float) -> np.ndarray:
        """The distance that a share `level` of each cluster's rows is expected within: float64 [k].

        Between two of `LEVELS` it follows the logarithm of the share beyond, in which tails of distances are near to
        straight.
        """
        x = -np.log1p(-np.array(LEVELS))
        at = -np.log1p(-level)
        right = int(np.clip(np.searchsorted(x, at), 1, len(x) - 1))
        q = self.quantiles.astype(np.float64)
        share = (at - x[right - 1]) / (x[right] - x[right - 1])
        return np.asarray(q[:, right - 1] + share * (q[:, right] - q[:, right - 1]))

    def scores(self, distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Distances over the scales of the rows' clusters: float32 [n]; 1 is usual, 0 / 0 counts as 0."""
        scale = self.scales[labels]
        over = np.where(distances > 0, np.inf, 0.0).astype(np.float32)
        return np.divide(distances, scale, out=over, where=scale > 0)


def runs_of(offsets: np.ndarray, rows: int) -> list[tuple[int, int]]:
    """Cut clusters into runs, (first, last + 1), of at most so many rows, or one cluster."""
    k, runs, first = len(offsets) - 1, [], 0
    while first < k:
        last = int(np.searchsorted(offsets, offsets[first] + rows, "right")) - 1
        runs.append((first, min(k, max(last, first + 1))))
        first = runs[-1][1]
    return runs


def _owners(offsets: np.ndarray, first: int, last: int) -> np.ndarray:
    """Cluster of each row of a run, from 0."""
    return np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))


def _weights(weights: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows)) if weights is None else weights[rows]


def _quantiles(values: np.ndarray, w: np.ndarray, count: float) -> np.ndarray:
    """Quantiles at `LEVELS` of squared distances that amount to `count` rows of equal weight: float64 [levels].

    That of n rows has the rank (n + 1) level (Weibull, 1939). A far one of few rows is a matter of chance: of 2,000
    rows 20 are beyond that of 0.99, give or take 4.5. A law that distances usually follow (`_law`) tells it with little
    more than half that error. How far it is to be believed is its probability given how many rows are beyond what it
    says, against a law under which any share may be (Kass and Raftery, 1995), at odds of three to one before: the more
    rows there are, the closer it must be.
    """
    order = np.argsort(values, kind="stable")
    values, w = values[order], w[order]
    mass = np.cumsum(w)
    middle = (mass - w / 2) / mass[-1]  # of equal weights (i - 1/2) / n
    ranked = np.interp(np.array(LEVELS) * (count + 1) / count - 0.5 / count, middle, values)
    lawful = _law(np.cbrt(values), w, count) ** 3
    within = np.append(0.0, mass)[np.searchsorted(values, lawful, side="right")] / mass[-1] * count
    level, beyond = np.array(LEVELS), count - within
    ratio = level / (1 - level)  # the other law's share beyond is Beta(1, ratio): in the mean the same
    other = betaln(1 + beyond, ratio + within) - betaln(1, ratio)
    trust = expit(np.log(_BELIEVED) + beyond * np.log1p(-level) + within * np.log(level) - other)
    return np.asarray(lawful**trust * ranked ** (1 - trust))


def _law(root: np.ndarray, w: np.ndarray, count: float) -> np.ndarray:
    """Quantiles at `LEVELS` of a law that such cubic roots of squared distances follow: float64 [levels], 0 or more.

    Squared distances of a normal law to its mean have a gamma law, whose cubic root is close to normal (Wilson and
    Hilferty, 1931); mean and deviation of the roots tell which. By how much these are more skew than that, beyond what
    chance makes of `count` rows, the quantiles are bent, as by Pearson's third law.
    """
    total, z, levels = w.sum(), ndtri(LEVELS), np.array(LEVELS)
    mean = root @ w / total
    deviation = np.sqrt((root - mean) ** 2 @ w / total)
    if not deviation > 0:
        return np.full(len(levels), mean)
    skew = (root - mean) ** 3 @ w / total / deviation**3
    shape = np.interp(-np.log(deviation / mean), -np.log(_GAMMA[1] / _GAMMA[0]), _SHAPES)  # both ascend
    one, spread, usual = (np.interp(shape, _SHAPES, of) for of in _GAMMA)
    more = skew - usual
    more *= max(0.0, 1 - 6 / count / more**2) if more else 0.0
    base = (np.cbrt(gammaincinv(np.exp(shape), levels)) - one) / spread
    bent = base + _bent(z, usual + more) - _bent(z, usual)
    return np.asarray(np.maximum(mean + bent * deviation * np.sqrt(count / max(count - 1, 1)), 0))


def _bent(z: np.ndarray, skew: float) -> np.ndarray:
    """Normal quantiles as those of Pearson's third law (Wilson and Hilferty)."""
    if abs(skew) < _STRAIGHT:
        return z
    return np.asarray(2 / skew * (np.maximum(1 + skew * z / 6 - (skew / 6) ** 2, 0) ** 3 - 1))


def _roots_of_gamma() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, deviation and skewness of the cubic root of a gamma law, of each of `_SHAPES`."""
    shape = np.exp(_SHAPES)
    one, two = (np.exp(gammaln(shape + power / 3) - gammaln(shape)) for power in (1, 2))
    spread = np.sqrt(two - one**2)
    third = np.where(shape < _SKEW_TO, shape - 3 * one * two + 2 * one**3, 0)
    return one, spread, third / spread**3


_SHAPES = np.linspace(-3.5, 14, 1000)  # logarithms
_GAMMA = _roots_of_gamma()


def _as_distance(sqdist: np.ndarray, space: Space) -> np.ndarray:
    out: Any = space.distance(np.asarray(sqdist, np.float64))
    return np.asarray(out, np.float32)
