"""Greedy k-means++ (Arthur and Vassilvitskii, 2007) among rows in memory: a row drawn meets all, or its own group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster.draw import draw, draw_any, draw_at
from fastann.cluster.space import Euclidean
from fastann.cluster.update import Sums
from fastann.data.source import dense
from fastann.index.base import GATHER, Index
from fastann.index.spec import Flat

WHOLE_UP_TO = 256  # clusters up to which each row drawn is compared with all others, not only with those of its group
GROUPED_FROM = 64  # the same where no row costs more than a limit, which takes longer
_NEAR = 4  # groups in which rows may be nearest to a centre just drawn
_FINER = 4096  # centres from which groups are half as large
_WAVE = 8  # centres there are for each one drawn at the same time


@dataclass(frozen=True)
class Some:
    """Rows of a table, where they lie: copies of many rows take longer than all that is done with them here.

    Attributes
    ----------
    x : float32 [t, d], or a float32 CSR matrix
    rows : int32 [m] or None
        Which rows; None for all.
    """

    x: Any
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0]) if self.rows is None else len(self.rows)

    def __getitem__(self, ids: np.ndarray) -> Any:
        """Rows by their place among these: float32 [len(ids), d], or a CSR matrix."""
        return self.x[ids if self.rows is None else self.rows[ids]]

    def only(self, ids: np.ndarray) -> Some:
        """These alone."""
        return Some(self.x, self.places(ids))

    def places(self, ids: np.ndarray) -> np.ndarray:
        """Where these are in the table: int32 [len(ids)]."""
        return (ids if self.rows is None else self.rows[ids]).astype(np.int32)

    def copied(self) -> Any:
        """As a table of their own, or the whole table that they are."""
        return self.x if self.rows is None else self.x[self.rows]

    def nearest(self, index: Index) -> np.ndarray:
        """The nearest of the centroids of an index to each row: int32 [m]."""
        m = len(self)
        if self.rows is None:
            return np.ascontiguousarray(index.search(self.x, 1)[0][:, 0])
        labels = np.empty(m, np.int32)
        for start in range(0, m, GATHER):
            part = slice(start, start + GATHER)
            labels[part] = index.search(self.x[self.rows[part]], 1)[0][:, 0]
        return labels


def among(
    given: Some, weights: np.ndarray | None, k: int, rng: np.random.Generator, limit: float = np.inf
) -> np.ndarray:
    """Draw `k` of some rows by greedy k-means++, or fewer where there are fewer distinct ones: their places, int64.

    With a `limit` no row costs more than that squared distance: one far from all others is not worth a centre.
    """
    if k > (WHOLE_UP_TO if limit == np.inf else GROUPED_FROM):
        return _in_groups(given, weights, k, rng, limit)
    return _whole(given.copied(), weights, k, rng, limit)


def _whole(x: Any, weights: np.ndarray | None, k: int, rng: np.random.Generator, limit: float) -> np.ndarray:
    uniform = rng.random((k, 2 * (2 + int(np.log(k)))))
    if not sparse.issparse(x) and limit == np.inf:
        return kernels.greedy(x, weights, uniform)
    n = x.shape[0]
    weights = np.ones(n) if weights is None else weights
    closest = None if limit == np.inf else np.full(n, limit)
    whole = kernels.grouped(x, np.zeros(n, np.int32), 1)
    picks = kernels.plus_plus(x, weights, whole, np.array([k]), uniform, closest)
    return picks[picks >= 0]


def _in_groups(given: Some, weights: np.ndarray | None, k: int, rng: np.random.Generator, limit: float) -> np.ndarray:
    """Greedy k-means++ for many centres: a row drawn is compared with the rows near to it only.

    Rows are divided into groups by some k-means. Centres are drawn in waves, an eighth of those there are at a time:
    each wave is shared among the groups by their costs, the centres of a group are drawn one after the other, and the
    groups near to a centre hear of it before the next wave.
    """
    weights = np.ones(len(given)) if weights is None else weights
    means = _means(given, weights, min(_groups_for(k), len(given)), rng)
    index, groups = Flat().build(means), len(means)
    labels = given.nearest(index)
    grouped = kernels.grouped(given.x, labels, groups, rounded=True, rows=given.rows)
    closest, found = np.full(len(given), limit), np.empty(0, np.int64)
    sizes, trials = np.minimum(np.bincount(labels, minlength=groups), 1), 2 + int(np.log(k / groups))
    while True:
        uniform = rng.random((int(sizes.sum()), trials))
        new = kernels.plus_plus(given.x, weights, grouped, sizes, uniform, closest)
        new = new[new >= 0]
        found = np.concatenate([found, new])
        _tell(given, labels, grouped, closest, index, new)
        cost = np.where(weights > 0, closest, 0).astype(np.float32)  # infinite for groups of rows without a weight
        total = np.cumsum(kernels.tally(labels, groups, cost, weights))
        wave = min(k - len(found), max(1, len(found) // _WAVE))
        if wave == 0 or not len(new) or not total[-1] > 0:
            return found
        sizes = np.bincount(draw_at(total, rng.random(wave)), minlength=groups)


def _groups_for(k: int) -> int:
    """Groups of rows, within which k centres are drawn: twice as many where the centres are so many that these cost."""
    return min(k, max(8, int((2 if k < _FINER else 4) * np.sqrt(k))))


def _means(given: Some, weights: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Means of some rows after two plain iterations from others: float32 [k, d]."""
    some = given.only(draw(len(given), weights, min(len(given), 64 * k), rng))
    means = dense(some[draw_any(len(some), k, rng)])
    for _ in range(2):
        sums = Sums.zero(means, weighted=False)
        kernels.add_rows(some.x, None, some.nearest(Flat().build(means)), sums.sums, sums.counts, some.rows)
        means = sums.means(Euclidean(), means)
    return means


def _tell(
    given: Some, labels: np.ndarray, grouped: kernels.Grouped, closest: np.ndarray, index: Index, new: np.ndarray
) -> None:
    """Tell the groups near to the new centres of these: their rows may be closer to them."""
    most, far = min(_NEAR, len(index.centroids)), np.full(len(new), np.inf, np.float32)
    groups, dist = index.listed(given.x, given.places(new), most, far, rough=True)
    # Farther groups, of more than twice the distance, have few rows to which these centres are nearest.
    near = (dist <= 2 * dist[:, :1]) & (groups >= 0) & (groups != labels[new, None])
    centre, column = np.nonzero(near)
    order = np.argsort(groups[centre, column], kind="stable")
    group = groups[centre, column][order]
    first = np.searchsorted(group, np.arange(len(index.centroids) + 1))
    kernels.hear(given.x, grouped, new[centre[order]], first, closest)
