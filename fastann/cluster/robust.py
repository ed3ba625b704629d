"""Starts that outliers do not get a centre in, and the share of rows that are outliers, both from a sample of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastann.cluster import start
from fastann.cluster.memory import Memory
from fastann.cluster.space import Space
from fastann.cluster.swap import Found, Swaps, enough
from fastann.cluster.trim import Trim, threshold
from fastann.data.source import dense
from fastann.index.spec import Flat

_STARTS = 4  # starts on the sample, each with the limit that the best one before it led to
_COSTLY = 2**24  # rows x centres x columns from which there are half as many, judged without any iteration
# To lie apart, all but a tenth of the rows left out must be so many times as far, squared, as the limit, and as any
# centre is from its neighbour. The others may cost so many times as much then.
_APART, _LOW, _WORSE = 2.0, 0.1, 2.0
# A start is good enough if each cluster weighs this share of their mean, and no row is so many times beyond the limit.
_LIGHT, _FAINT = 0.25, 4.0
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)  # shares that are tried where it is to be found
_ROUNDS = 4  # times a scale is told anew by the rows within it
_FAR = 3.3  # standard deviations beyond the mean from which a row counts as an outlier
_BY_CHANCE = 5e-4  # share of rows that are as far by chance
_FEWEST = 3e-3  # share of outliers below which there are none
_BELOW = 0.1587  # share of a normal law more than one deviation below its mean
_SEEN = 8  # rows of a cluster from which its own distances tell its scale


@dataclass(frozen=True)
class Seeds:
    """Rows of a table to start from (int64 [k]), the rows that swaps may look at, and what these leave out."""

    rows: np.ndarray
    kept: np.ndarray
    trim: Trim | None


@dataclass(frozen=True)
class Problem:
    """Rows (float32 [m, d] or CSR) with their weights (float64 [m] or None), and what is sought in them."""

    x: Any
    weights: np.ndarray | None
    k: int
    space: Space
    rng: np.random.Generator

    def swaps(self, trim: Trim | None, kept: np.ndarray | None = None) -> Swaps:
        """What improves centres of these rows, or of some of them."""
        x, weights = self.x, self.weights
        if kept is not None and len(kept) < x.shape[0]:
            x, weights = x[kept], None if weights is None else weights[kept]
        return Swaps(x, weights, self.k, self.space, self.rng, trim)

    def sqdist(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest centre of each row (int32 [m]), and the squared distance to it (float32 [m])."""
        ids, sqdist = Flat().build(centres).search(self.x, 1)
        return ids[:, 0], np.ascontiguousarray(sqdist[:, 0])


def plus_plus(
    lot: start.Lot, k: int, trim: Trim, space: Space, rng: np.random.Generator, memory: Memory
) -> tuple[start.Begun, Trim | None]:
    """Greedy k-means++ on a sample, where no row costs more than the distance from which on rows are left out.

    That makes a row far from all others worth no more than any row left out, where k-means++ is all but certain to
    draw it. The distance is not known before there are centres: the first start goes without, and the others by what
    the best one before them leaves out. The one whose rows that stay cost least is kept, after some iterations.

    A group of outliers can be as dense as a cluster. So one more start is made among the rows nearest to the middle of
    all, and kept if what it leaves out lies farther out than any cluster does from the next. Swaps are to look at the
    others only, then.

    Returns
    -------
    begun : Begun
    trim : Trim or None
        What swaps on its sample leave out.
    """
    some = start.sample(lot, k, rng, memory)
    seeds = _seeds(Problem(lot.take(some.ids), some.weights, k, space, rng), trim)
    kept = start.Sample(some.ids[seeds.kept], None if some.weights is None else some.weights[seeds.kept])
    return start.Begun(start.filled(some.ids[seeds.rows], lot, k, rng), kept), seeds.trim


def _seeds(given: Problem, trim: Trim) -> Seeds:
    x, weights, k, rng = given.x, given.weights, given.k, given.rng
    best, least, limit = np.empty(0, np.int64), np.inf, np.inf
    costly = x.shape[0] * k * start.values_of(x) > _COSTLY
    for _ in range(_STARTS // 2 if costly else _STARTS):
        chosen = start.among(x, weights, k, rng, limit)
        centres, swaps = dense(x[chosen]), given.swaps(trim)
        found = swaps.found(centres) if costly else swaps.settled(centres)
        if found.cost < least or not len(best):
            best, least, limit = chosen, found.cost, found.limit
        if not limit > 0 or _even(given, found):
            break
    return _apart(given, trim, least) or Seeds(best, np.arange(x.shape[0]), trim)


def _even(given: Problem, found: Found) -> bool:
    """Whether no cluster is so light that its centre may be an outlier, and no row so far that it may be one."""
    weights = np.ones(given.x.shape[0]) if given.weights is None else given.weights
    kept = np.where(found.sqdist[:, 0] < found.limit, weights, 0.0)
    held = np.bincount(found.ids[:, 0], kept, given.k)
    return bool(held.min() >= _LIGHT * held.mean() and found.farthest <= _FAINT * found.limit)


def _apart(given: Problem, trim: Trim, least: float) -> Seeds | None:
    """Seeds among the rows nearest to the middle of all, if those that are left out then lie apart from the others."""
    x, weights = given.x, given.weights
    one = replace(given, k=1)
    middle = one.swaps(trim).settled(dense(x[:1])).centres  # the mean of all at first, then of those nearest to it
    sqdist = one.sqdist(one.swaps(trim).settled(middle).centres)[1]
    near = np.flatnonzero(sqdist <= trim.limit(sqdist, weights, given.space))
    if len(near) in (0, len(sqdist)) or not _low(sqdist, weights, near) > _APART * sqdist[near].max():
        return None
    chosen = near[start.among(x[near], None if weights is None else weights[near], given.k, given.rng)]
    found = given.swaps(trim).settled(dense(x[chosen]))
    sqdist = given.sqdist(found.centres)[1]
    out = sqdist > found.limit
    if not out.any() or found.cost > _WORSE * least:
        return None
    low = _low(sqdist, weights, np.flatnonzero(~out))
    between = _neighbours(found.centres[np.unique(given.sqdist(found.centres)[0][~out])])
    return Seeds(chosen, np.flatnonzero(~out), None) if low > _APART * max(found.limit, between) else None


def _low(sqdist: np.ndarray, weights: np.ndarray | None, kept: np.ndarray) -> float:
    """What all but a tenth of the rows that are not kept are beyond."""
    out = np.delete(np.arange(len(sqdist)), kept)
    return float(_quantiles(sqdist[out], np.ones(len(out)) if weights is None else weights[out], (_LOW,))[0])


def _neighbours(centres: np.ndarray) -> float:
    """The largest squared distance of a centre to the nearest other one, 0 for one alone."""
    sqdist = Flat().build(centres).search(centres, min(2, len(centres)))[1]
    return float(sqdist[:, 1].max()) if len(centres) > 1 else 0.0


def share(lot: start.Lot, k: int, space: Space, rng: np.random.Generator, memory: Memory) -> float:
    """Share of the rows' weight that are outliers, by the tail of the distances on a sample; 0 if hardly any are.

    Cubic roots of squared distances to a mean are close to normal, whatever the number of columns (Wilson and
    Hilferty, 1931). Their mean and deviation in each cluster are told by the lower half, which outliers do not reach;
    rows more than 3.3 deviations above the mean are outliers, but for the 0.05% that are so by chance. Centres are
    sought with five shares left out, up to 30%: those count by which all rows cost least, if none costs more than one
    at the narrowest of the bounds found.
    """
    some = start.sample(lot, k, rng, memory)
    few = some.fewer(enough(k, start.row_values(lot)), rng)
    given = Problem(lot.take(few.ids), few.weights, k, space, rng)
    tried = []
    for left in _SHARES:
        seeds = _seeds(given, Trim(left))
        if len(seeds.rows) < k:
            return 0.0
        centres = given.swaps(seeds.trim, seeds.kept).improved(dense(given.x[seeds.rows]))
        labels, sqdist = given.sqdist(centres)
        tried.append((_tail(labels, sqdist, given.weights, k, left), sqdist, centres))
    narrowest = min(bound for (_, bound), _, _ in tried)
    weights = np.ones(len(few.ids)) if given.weights is None else given.weights
    costs = [float(np.minimum(sqdist, narrowest) @ weights) for _, sqdist, _ in tried]
    (found, _), _, centres = tried[int(np.argmin(costs))]
    if found > 0:  # once more by the centres without these
        centres = given.swaps(Trim(found)).settled(centres).centres
        found, _ = _tail(*given.sqdist(centres), given.weights, k, found)
    return 0.0 if found < _FEWEST else min(found, _SHARES[-1])


def _tail(
    labels: np.ndarray, sqdist: np.ndarray, weights: np.ndarray | None, k: int, left: float
) -> tuple[float, float]:
    """Share of the weight beyond what the distances of each cluster lead to expect, and the median of these bounds."""
    w = np.ones(len(labels)) if weights is None else weights
    inside = sqdist <= threshold(sqdist, weights, left)
    root = np.cbrt(sqdist.astype(np.float64))
    far, bounds = ~inside, np.full(k, np.nan)
    for j in range(k):
        rows = np.flatnonzero(labels == j)
        held = rows[inside[rows]]
        if len(held) < _SEEN:  # a handful of rows that most others of the sample are not like
            continue
        for _ in range(_ROUNDS):  # those that are far by what is known so far do not tell the scale
            low, middle = _quantiles(root[held], w[held], (_BELOW, 0.5))
            bounds[j] = middle + _FAR * max(middle - low, 1e-9 * middle)
            now = rows[root[rows] <= bounds[j]]
            if len(now) == len(held):
                break
            held = now
        far[rows] = root[rows] > bounds[j]
    told = bounds[labels[inside & ~np.isnan(bounds[labels])]]
    bound = float(np.median(told)) ** 3 if len(told) else np.inf
    return max(0.0, float(w[far].sum()) / float(w.sum()) - _BY_CHANCE), bound


def _quantiles(values: np.ndarray, weights: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order])
    at = np.searchsorted(mass, np.array(levels) * mass[-1])
    return values[order[np.minimum(at, len(order) - 1)]]
