"""Starts that outliers do not get a centre in, from a sample of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastann.cluster import start
from fastann.cluster.greedy import Some, among
from fastann.cluster.memory import Memory
from fastann.cluster.space import Space
from fastann.cluster.swap import Found, Swaps
from fastann.cluster.trim import Trim
from fastann.data.source import dense
from fastann.index.spec import Flat

_STARTS = 4  # starts on the sample, each with the limit that the best one before it led to
_COSTLY = 2**24  # rows x centres x columns from which there are half as many, judged without any iteration
# To lie apart, all but a tenth of the rows left out must be so many times as far, squared, as the limit, and as any
# centre is from its neighbour. The others may cost so many times as much then.
APART, _LOW, _WORSE = 2.0, 0.1, 2.0
# A cluster is light that weighs less than this share of their mean, and a row faint that is so many limits away.
_LIGHT, _FAINT = 0.25, 4.0
_WASTED = 0.01  # share of the centres that may be outliers in a start
_GLANCED = 2**12  # rows that tell whether a group may lie apart


@dataclass(frozen=True)
class Seeds:
    """Rows of a table to start from (int64 [k]), the rows that swaps may look at, and what these leave out.

    Also the centres (float32 [k, d]) that some iterations led to, if there were any.
    """

    rows: np.ndarray
    kept: np.ndarray
    trim: Trim | None
    centres: np.ndarray | None = None

    def among(self, x: Any) -> np.ndarray:
        """The centres, or the rows themselves."""
        return dense(x[self.rows]) if self.centres is None else self.centres


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

    def fewer(self, count: int) -> Problem:
        """The same of so many of the rows, if there are more."""
        n = self.x.shape[0]
        if n <= count:
            return self
        some = np.sort(self.rng.choice(n, count, replace=False))
        return replace(self, x=self.x[some], weights=None if self.weights is None else self.weights[some])

    def sqdist(self, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest centre of each row (int32 [m]), and the squared distance to it (float32 [m])."""
        ids, sqdist = Flat().build(centres).search(self.x, 1)
        return ids[:, 0], np.ascontiguousarray(sqdist[:, 0])


def plus_plus(
    lot: start.Lot, k: int, trim: Trim, space: Space, rng: np.random.Generator, memory: Memory, swapped: bool = False
) -> tuple[start.Begun, Trim | None]:
    """Greedy k-means++ on a sample, where no row costs more than the distance from which on rows are left out.

    That makes a row far from all others worth no more than any row left out, where k-means++ is all but certain to
    draw it. The distance is not known before there are centres: the first start goes without, and the others by what
    the best one before them leaves out. The one whose rows that stay cost least is kept, after some iterations. Where
    it is `swapped` afterwards, and that costs little, one start does as well.

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
    begun = seeds(Problem(lot.take(some.ids), some.weights, k, space, rng), trim, swapped)
    kept = start.Sample(some.ids[begun.kept], None if some.weights is None else some.weights[begun.kept])
    rows, centres = some.ids[begun.rows], begun.centres if len(begun.rows) == k else None
    return start.Begun(start.filled(rows, lot, k, rng), kept, centres), begun.trim


def seeds(given: Problem, trim: Trim, swapped: bool = True) -> Seeds:
    """The start of `plus_plus` on rows in memory; `swapped` says whether swaps are to improve it."""
    x, weights, k, rng = given.x, given.weights, given.k, given.rng
    every, swaps = np.arange(x.shape[0]), given.swaps(trim)
    if swapped and swaps.cheap:  # these take a centre away from rows that are left out
        chosen = among(Some(x), weights, k, rng)
        first = Seeds(chosen, every, trim)
        return _among_nearest(given, trim, lambda: swaps.settled(dense(x[chosen])).cost) or first
    best, least, limit = Seeds(np.empty(0, np.int64), every, trim), np.inf, np.inf
    costly = x.shape[0] * k * start.values_of(x) > _COSTLY
    for _ in range(_STARTS // 2 if costly else _STARTS):
        chosen = among(Some(x), weights, k, rng, limit)
        centres = dense(x[chosen])
        found = swaps.found(centres, 1) if costly else swaps.settled(centres)
        if found.cost < least or not len(best.rows):
            best = replace(best, rows=chosen, centres=None if costly else found.centres)
            least, limit = found.cost, found.limit
        if not limit > 0 or _even(given, found):
            break
    return _among_nearest(given, trim, lambda: least) or best


def _even(given: Problem, found: Found) -> bool:
    """Whether hardly a centre may be an outlier, nor any row that is far from all.

    A centre that is one has few rows, which without it would be left out.
    """
    weights = np.ones(given.x.shape[0]) if given.weights is None else given.weights
    kept = np.where(found.sqdist[:, 0] < found.limit, weights, 0.0)
    held = np.bincount(found.ids[:, 0], kept, len(found.centres))
    alone = (held < _LIGHT * held.mean()) & (neighbours(found.centres) > found.limit)
    return bool(alone.sum() <= _WASTED * len(held) and found.farthest <= _FAINT * found.limit)


def _among_nearest(given: Problem, trim: Trim, least: Callable[[], float]) -> Seeds | None:
    """Seeds among the rows nearest to the middle of all, if those that are left out then lie apart from the others."""
    x, weights = given.x, given.weights
    few, near = given.fewer(_GLANCED), np.empty(0, np.int64)
    swaps = replace(few, k=1).swaps(trim)
    mean = swaps.means(swaps.weights, np.zeros(few.x.shape[0], np.int32), dense(x[:1]))
    middle = swaps.settled(mean).centres  # the mean of those nearest to it, not of all
    for some in (given,) if few is given else (few, given):
        sqdist = some.sqdist(middle)[1]
        near = np.flatnonzero(sqdist <= trim.limit(sqdist, some.weights, given.space))
        if len(near) in (0, len(sqdist)) or not _low(sqdist, some.weights, near) > APART * sqdist[near].max():
            return None
    chosen = near[among(Some(x[near]), None if weights is None else weights[near], given.k, given.rng)]
    found = given.swaps(trim).settled(dense(x[chosen]))
    if found.cost > _WORSE * least():
        return None
    labels, sqdist = given.sqdist(found.centres)
    out = sqdist > found.limit
    if not out.any():
        return None
    low = _low(sqdist, weights, np.flatnonzero(~out))
    between = neighbours(found.centres[np.unique(labels[~out])]).max()
    return Seeds(chosen, np.flatnonzero(~out), None, found.centres) if low > APART * max(found.limit, between) else None


def _low(sqdist: np.ndarray, weights: np.ndarray | None, kept: np.ndarray) -> float:
    """What all but a tenth of the rows that are not kept are beyond."""
    out = np.delete(np.arange(len(sqdist)), kept)
    return float(quantiles(sqdist[out], np.ones(len(out)) if weights is None else weights[out], (_LOW,))[0])


def neighbours(centres: np.ndarray) -> np.ndarray:
    """The squared distance of each centre to the nearest other one, 0 for one alone: float32 [k]."""
    sqdist = Flat().build(centres).search(centres, min(2, len(centres)))[1]
    return sqdist[:, -1] if len(centres) > 1 else np.zeros(1, np.float32)


def quantiles(values: np.ndarray, weights: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """The values that such shares of the weight are up to: [levels]."""
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order])
    at = np.searchsorted(mass, np.array(levels) * mass[-1])
    return values[order[np.minimum(at, len(order) - 1)]]
