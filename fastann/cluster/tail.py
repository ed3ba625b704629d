"""The share of rows that are outliers, by how far rows are from the centres of a sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import boxcox, inv_boxcox

from fastann import kernels
from fastann.cluster import start
from fastann.cluster.memory import Memory
from fastann.cluster.robust import APART, Problem, neighbours, quantiles, seeds
from fastann.cluster.space import Space
from fastann.cluster.swap import enough
from fastann.cluster.trim import Trim, threshold
from fastann.data.source import dense
from fastann.index.spec import Flat

_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)  # shares that are tried
_ROUNDS = 4  # times a scale is told anew by the rows within it
_FAR = 3.3  # standard deviations beyond the middle from which a row counts as an outlier
_BY_CHANCE = 5e-4  # share of rows that are as far by chance
_FEWEST, _FEW = 3e-3, 3  # share of outliers, and rows, below which there are none
_BELOW = 0.1587  # share of a normal law more than one deviation below its mean
_SEEN = 8  # rows of a cluster from which its own distances tell its scale,
_NOISE = 2.2  # by quantiles whose difference, squared, varies by so many variances over its rows
_WIDEST = 12.0  # times the variance that is usual: that of a cluster; beyond, its rows are scattered
_AROUND = 16  # clusters that a row may belong to
_ROUND = 1 / 3  # power of squared distances that is close to normal where clusters are round
_LEAST = 1e-6  # of a median: so small are squared distances, and deviations, at least
_PAIRED, _VALUES = 512, 2**24  # rows, and values of these, that tell how long clusters are


def share(lot: start.Lot, k: int, space: Space, rng: np.random.Generator, memory: Memory) -> float:
    """Share of the rows' weight that are outliers, by the tail of the distances on a sample; 0 if hardly any are.

    A power of squared distances to a mean is close to normal (`_power`). Its mean and deviation in each cluster are
    told by the lower half, which outliers do not reach; rows more than 3.3 deviations above the mean are outliers, but
    for the 0.05% that are so by chance. Some more lie nearer, among the rows of a cluster: as many as just beyond
    these, in the same volume. Centres are sought with five shares left out, up to 30%, and the likeliest count.
    """
    some = start.sample(lot, k, rng, memory)
    few = some.fewer(enough(k, start.row_values(lot)), rng)
    given = Problem(lot.take(few.ids), few.weights, k, space, rng)
    tried = []
    for left in _SHARES:
        begun = seeds(given, Trim(left))
        if len(begun.rows) < k:
            return 0.0
        tried.append(Tail.of(given, given.swaps(begun.trim, begun.kept).improved(begun.among(given.x)), left))
    narrow = min(tried, key=lambda tail: tail.usual)
    best = min(tried, key=lambda tail: tail.cost(narrow))
    best = _without_group(given, best) or best
    if best.share >= _FEWEST:  # once more by the centres without these
        best = Tail.of(given, given.swaps(Trim(best.share)).settled(best.centres).centres, best.share)
    return 0.0 if best.share < _FEWEST else min(best.share, _SHARES[-1])


def _without_group(given: Problem, best: Tail) -> Tail | None:
    """The same where outliers are a group of their own, which has the centre that a cluster is in need of.

    They are those whose centre is farther from the next one than any cluster is, if the others are more likely in one
    cluster more. A cluster that is but cut in two makes them less likely.
    """
    if given.k < 3:
        return None
    sqdist = neighbours(best.centres)
    group = int(sqdist.argmax())
    others = np.delete(best.centres, group, axis=0)
    rest, inside = np.flatnonzero(best.labels != group), ~best.far
    left = 1 - float(best.weights[rest].sum() / best.weights.sum())
    if not (0 < left <= _SHARES[-1] and sqdist[group] > APART * neighbours(others).max()) or len(rest) <= given.k:
        return None
    weights = None if given.weights is None else given.weights[rest]
    some = replace(given, x=given.x[rest], weights=weights)
    scattered = 1 - float(best.weights[rest][inside[rest]].sum() / best.weights[rest].sum())
    before = Tail.of(replace(some, k=given.k - 1), others, scattered)
    begun = seeds(some, Trim(min(scattered, _SHARES[-1])))
    if len(begun.rows) < given.k:
        return None
    after = Tail.of(some, some.swaps(begun.trim, begun.kept).improved(begun.among(some.x)), _SHARES[0])
    return Tail.of(given, after.centres, left) if after.cost(after) < before.cost(after) else None


@dataclass(frozen=True)
class Tail:
    """What the distances of rows to some centres tell.

    Attributes
    ----------
    centres : float32 [k, d]
    labels : int32 [m]
    sqdist : float32 [m]
    weights : float64 [m]
    middle, deviation : float64 [k]
        Median of each cluster's squared distances, and the deviation of their power over it; NaN where the rows are
        too few.
    power, columns : float
        Of squared distances that is close to normal; and of how many columns they might be, if clusters were round.
    far : bool [m]
        Rows beyond what is expected of their cluster.
    share : float
        Of the weight, that are outliers.
    """

    centres: np.ndarray
    labels: np.ndarray
    sqdist: np.ndarray
    weights: np.ndarray
    middle: np.ndarray
    deviation: np.ndarray
    power: float
    columns: float
    far: np.ndarray
    share: float

    @classmethod
    def of(cls, given: Problem, centres: np.ndarray, left: float) -> Tail:
        """Of rows of which the farthest, a share `left`, tell no scale."""
        labels, sqdist = given.sqdist(centres)
        w = np.ones(len(labels)) if given.weights is None else given.weights
        inside = sqdist <= threshold(sqdist, given.weights, left)
        power, columns, far, middle = _ROUND, float(given.x.shape[1]), ~inside, np.empty(0)
        for again in (False, True):
            if again:  # at first as if clusters were round
                power, columns = _power(given.x, centres, labels, np.flatnonzero(~far), middle)
            middle, deviation = _scales(sqdist.astype(np.float64), w, labels, inside, len(centres), power)
            bounds = np.maximum(middle * inv_boxcox(_FAR * deviation, power), np.finfo(np.float32).tiny)
            step = _beyond(given.x, centres, labels, sqdist, bounds)
            far = np.where(np.isnan(step), ~inside, step > 1)
        share = 0.0
        if np.count_nonzero(far) >= _FEW:
            # Beyond the bounds, as much space as within, in halves: a group of its own is hardly in both.
            ends = np.array([1, 1.5, 2]) ** (2 / given.x.shape[1])
            shells = [float(w[(low < step) & (step <= high)].sum()) for low, high in pairwise(ends)]
            hidden = max(0.0, 2 * min(shells) / float(w.sum()) - _BY_CHANCE)
            share = max(0.0, float(w[far].sum()) / float(w.sum()) + hidden - _BY_CHANCE)
        return cls(centres, labels, sqdist, w, middle, deviation, power, columns, far, share)

    @property
    def usual(self) -> float:
        """The median, by rows that are not far, of the clusters' squared distances."""
        scales = self.middle[self.labels[~self.far]]
        scales = scales[~np.isnan(scales)]
        return float(np.median(scales)) if len(scales) else np.inf

    def cost(self, narrow: Tail) -> float:
        """Minus the logarithm of the likelihood of the rows, in clusters that are normal, with a variance each.

        Far rows, and those of a cluster whose variance is more than 12 times what is usual of the clusters of `narrow`
        (the restriction of TCLUST; Garcia-Escudero et al., 2008), count as if at the bound of one of that variance.
        """
        k, usual, columns = len(self.middle), narrow.usual, narrow.columns
        if not 0 < usual < np.inf:  # rows that are all alike
            return float(self.weights[self.far].sum())
        scale = np.maximum(self.middle, usual / _WIDEST)
        lost = self.far | ~(scale <= _WIDEST * usual)[self.labels]
        mass = np.bincount(self.labels, self.weights * ~lost, k)
        own = 0.5 * columns * np.log(scale) - np.log(np.maximum(mass, 1e-9) / max(mass.sum(), 1e-9))
        bound = inv_boxcox(_FAR * float(np.nanmedian(narrow.deviation)), narrow.power)
        most = 0.5 * columns * (np.log(_WIDEST * usual) + bound) + np.log(k)
        value = own[self.labels] + 0.5 * columns * self.sqdist / scale[self.labels]
        return float(np.where(lost, most, np.minimum(value, most)) @ self.weights)


def _beyond(x: Any, centres: np.ndarray, labels: np.ndarray, sqdist: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Squared distances as multiples of a cluster's bound: float64 [m]; NaN where that is not known.

    A row beyond the bound of its own cluster may be a usual one of a wider cluster near by: the least multiple counts.
    """
    step = sqdist / bounds[labels]
    rows = np.flatnonzero(step > 1)
    if len(rows) and len(centres) > 1:
        ids, far = Flat().build(centres).search(x[rows], min(_AROUND, len(centres)))
        step[rows] = np.nanmin(far / bounds[ids], axis=1)
    return step


def _power(
    x: Any, centres: np.ndarray, labels: np.ndarray, rows: np.ndarray, middle: np.ndarray
) -> tuple[float, float]:
    """The power of squared distances to a mean that is close to normal, and the columns that they vary like.

    With the sums of the first three powers of the covariance's eigenvalues, a, b and c, it is 1 - 2ac / 3b^2 (Jensen
    and Solomon, 1972): a third where clusters are round (Wilson and Hilferty, 1931), less where they are long; negative
    ones are too heavy far out. Products of different rows' differences from their centres tell the sums without bias.
    """
    d, round_ = x.shape[1], (_ROUND, float(x.shape[1]))
    rows = rows[middle[labels[rows]] > 0]
    count = min(_PAIRED, _VALUES // d)
    if min(count, len(rows)) < 3:
        return round_
    some = rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))]
    near = (dense(x[some]) - centres[labels[some]]) / np.sqrt(middle[labels[some]])[:, None].astype(np.float32)
    products = (near @ near.T).astype(np.float64)
    one, m = float(np.trace(products)) / len(some), len(some)
    np.fill_diagonal(products, 0)
    two = float((products**2).sum()) / (m * (m - 1))
    three = float(((products @ products) * products).sum()) / (m * (m - 1) * (m - 2))
    if not two > 0:
        return round_
    return float(np.clip(1 - 2 * one * three / (3 * two**2), 0, _ROUND)), float(np.clip(one**2 / two, 1, d))


def _scales(
    sqdist: np.ndarray, w: np.ndarray, labels: np.ndarray, inside: np.ndarray, k: int, power: float
) -> tuple[np.ndarray, np.ndarray]:
    """`middle` and `deviation` of a `Tail`.

    Deviations are alike in clusters of one law. How much they vary beyond what the number of their rows explains says
    how far a cluster's own is to be believed, beside that of all (DerSimonian and Laird, 1986).
    """
    offsets, order = kernels.group(labels, k)
    middle, deviation, count = np.full(k, np.nan), np.full(k, np.nan), np.zeros(k)
    for j in range(k):
        rows = order[offsets[j] : offsets[j + 1]]
        held = rows[inside[rows]]
        if len(held) < _SEEN:  # a handful of rows that most others of the sample are not like
            continue
        for _ in range(_ROUNDS):  # those that are far by what is known so far do not tell the scale
            low, middle[j] = quantiles(sqdist[held], w[held], (_BELOW, 0.5))
            deviation[j] = -boxcox(max(low / middle[j], _LEAST), power) if middle[j] > 0 else 0.0
            now = rows[sqdist[rows] <= middle[j] * inv_boxcox(_FAR * deviation[j], power)]
            if len(now) == len(held):
                break
            held = now
        count[j] = w[held].sum() ** 2 / (w[held] ** 2).sum()  # of rows of equal weight (Kish, 1965)
    told = ~np.isnan(deviation)
    if told.any():
        pooled = float(np.average(deviation[told], weights=count[told]))
        noise = _NOISE * pooled**2 / count[told]
        own = max(0.0, float(np.average((deviation[told] - pooled) ** 2 - noise, weights=count[told])))
        deviation[told] = pooled + (deviation[told] - pooled) * (own / (own + noise) if own > 0 else 0.0)
        deviation[told] = np.maximum(deviation[told], _LEAST)
    return middle, deviation
