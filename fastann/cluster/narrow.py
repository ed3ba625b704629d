"""Starts of rows of many columns, found in the directions in which these differ most.

What tells one clustering from another lies in few directions: those of the means, and means of many rows differ where
rows differ most. There a look at rows costs a fraction, so that all this can be done with several times the rows, and
the centres that are found are means of more. Directions that are nearly those of the largest variance will do (Cohen et
al., Dimensionality reduction for k-means clustering, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastann import kernels
from fastann.cluster import start
from fastann.cluster.draw import draw_any, draw_either
from fastann.cluster.greedy import Some, among
from fastann.cluster.memory import Memory
from fastann.cluster.space import Space
from fastann.cluster.swap import Swaps
from fastann.cluster.update import Sums
from fastann.data.source import Source, dense

_COLUMNS, _DIRECTIONS = 128, 96  # columns from which rows are looked at so, and what is left of them; at most half
_TELL, _TURNS = 2**11, 3  # rows that tell the directions, and products with their covariance
_MOST, _VALUES = 2**15, 2**24  # rows at most, and their values in all,
_PER_CENTRE, _COMPARED = 64, 2**28  # as many for each centre, or as are compared with all in next to no time
# What one row may cost for lying off the directions: so much of what a cluster does for that, or so many times what a
# row does; which is taken to be no less than so much of its squared distance to the mean.
_ALONE, _FAR, _NOTHING = 0.1, 16.0, 1e-3
_DRAWN = 2**12  # rows that k-means++ chooses from
_ROUNDED = 1e-10  # share of a row's length that is no more than what float64 rounds


def suits(source: Source) -> bool:
    """Whether rows have so many columns."""
    return not source.sparse and source.d >= _COLUMNS


@dataclass(frozen=True)
class Narrow:
    """A sample of rows, and what is left of it.

    Attributes
    ----------
    x : float32 [m, d]
        The rows.
    y : float32 [m, directions]
        What is left of them.
    weights : float64 [m] or None
    few : Sample
        Rows of it that k-means++ chooses from.
    rows : int64 [k]
        Rows of the whole that it chose.
    centres : float32 [k, d]
        These, and
    narrow : float32 [k, directions]
        what is left of them.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    few: start.Sample
    rows: np.ndarray
    centres: np.ndarray
    narrow: np.ndarray

    @classmethod
    def of(cls, lot: start.Lot, k: int, space: Space, rng: np.random.Generator, memory: Memory) -> Narrow | None:
        """Choose a sample, directions, and the rows to start from; None if directions do not tell where all rows are.

        A few rows that lie elsewhere, far from all others, are worth centres of their own, which nothing would give
        them here.
        """
        size = min(_MOST, max(_PER_CENTRE * k, _COMPARED // (k * _DIRECTIONS)))
        some = start.chosen(lot, k, min(size, int(_VALUES / start.row_values(lot))), rng, memory)
        x, weights = start.table(lot, some.ids).copied(), some.weights
        tell = _some(lot, weights, len(x), _TELL, rng)
        mean, q = directions(x[tell.ids], tell.weights, rng)
        if space.unit:  # how long the sum of a cluster's rows is they cannot tell without what all rows share
            q = orthonormal(np.concatenate([mean[None], q]))
        y = kernels.project(x, q)
        if _elsewhere(x, y, weights, mean, q, k):
            return None
        few = _some(lot, weights, len(y), max(k, _DRAWN), rng)
        drawn = among(Some(y[few.ids]), few.weights, k, rng)
        rows = start.filled(some.ids[few.ids[drawn]], lot, k, rng)
        centres = dense(lot.take(rows))
        return cls(x, y, weights, few, rows, centres, kernels.project(centres, q))

    def best(self, n: int, space: Space, rng: np.random.Generator) -> np.ndarray:
        """Means of the clusters that swaps and breaths lead to, for `n` rows in all: float32 [k, d]."""
        k, weights = len(self.centres), self.weights

        def again() -> np.ndarray:
            return space.restored(start.again(self.y[self.few.ids], self.few.weights, k, rng))

        # What is left of rows of unit norm is shorter. Their distances to centres of unit norm among the directions are
        # less than those of the rows by what each row has lost, whichever the centre.
        narrow = space.restored(self.narrow.copy())
        as_many = n * self.x.shape[1] // self.y.shape[1]  # of these as long to look at as the rows themselves
        best = Swaps(self.y, weights, k, space, rng).best_found(narrow, as_many, again)
        sums = Sums.zero(self.centres, weighted=weights is not None)
        sums.add(self.x, weights, best.ids[:, 0])
        means: np.ndarray = sums.means(space, self.centres)
        return means


def _some(lot: start.Lot, weights: np.ndarray | None, m: int, size: int, rng: np.random.Generator) -> start.Sample:
    """At most `size` of `m` rows, of such weights, which come of how they were drawn where all of a lot weigh one."""
    size = min(m, size)
    if weights is None or lot.weights is None:
        picks = draw_any(m, size, rng)
        return start.Sample(picks, None if weights is None else weights[picks])
    return start.Sample(*draw_either(weights, size, rng))


def directions(x: np.ndarray, weights: np.ndarray | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The mean of some rows, float32 [d], and orthonormal directions in which they nearly differ most: [directions, d].

    Products of random directions with the covariance of the rows lean to those of the largest variance (Halko,
    Martinsson and Tropp, 2011).
    """
    rows = x.astype(np.float64)
    mass = np.ones(len(x)) if weights is None else weights / max(weights.max(), 1e-300)
    mean = np.einsum("i,ij->j", mass, rows) / max(mass.sum(), 1e-300)
    rows -= mean
    rows *= np.sqrt(mass)[:, None]
    rows /= max(np.abs(rows).max(), 1e-300)
    wide, d = rows.astype(np.float32), x.shape[1]
    tall, q = np.ascontiguousarray(wide.T), rng.standard_normal((min(_DIRECTIONS, d // 2), d), dtype=np.float32)
    for _ in range(_TURNS):
        q = orthonormal(kernels.project(tall, np.ascontiguousarray(kernels.project(wide, q).T)).T)
    return mean.astype(np.float32), q


def orthonormal(q: np.ndarray) -> np.ndarray:
    """Gram-Schmidt, the same on any threads: float32, of the shape of `q`; zeros where a row adds no direction.

    What rounding leaves of such a row lies in directions that there are already: with it they would count several
    times, and some more often than others.
    """
    q = np.array(q, np.float64, order="C")
    whole = np.sqrt(np.einsum("ij,ij->i", q, q))
    for j in range(len(q)):
        norm = np.sqrt(np.einsum("i,i->", q[j], q[j]))
        q[j] *= 1 / norm if norm > _ROUNDED * whole[j] else 0.0
        rest = q[j + 1 :]
        rest -= np.einsum("ij,j->i", rest, q[j])[:, None] * q[j]
    return q.astype(np.float32)


def _elsewhere(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray | None, mean: np.ndarray, q: np.ndarray, k: int
) -> bool:
    """Whether a row lies so far off what is spanned by directions that it would be worth a centre."""
    whole = kernels.sqnorms(x) - 2.0 * kernels.project(x, mean[None])[:, 0] + float(np.einsum("i,i->", mean, mean))
    rest = np.maximum(whole - kernels.sqnorms(y - kernels.project(mean[None], q)), 0)
    weights = np.ones(len(x)) if weights is None else weights
    typical = max(float(rest @ weights), _NOTHING * float(whole @ weights)) / max(float(weights.sum()), 1e-300)
    return bool((rest * weights).max() > max(_ALONE * len(x) / k, _FAR) * typical)
