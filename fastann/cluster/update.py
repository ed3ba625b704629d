"""From assigned rows to new centroids: sums that add up, their means, and what to do with empty clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastann import kernels
from fastann.cluster.memory import Memory
from fastann.data.source import Source, dense

_PART = 2**18  # rows looked at once


@dataclass
class Rows:
    """What the engine remembers of each row; slicing gives views, so a chunk is handled like the whole.

    Attributes
    ----------
    labels : int32 [n]
        Cluster of the row, -1 before the first assignment.
    sqdist : float32 [n]
        Squared L2 distance to the centroid it was assigned to.
    weights : float64 [n] or None
    """

    labels: np.ndarray
    sqdist: np.ndarray
    weights: np.ndarray | None = None

    @classmethod
    def new(cls, n: int, weights: np.ndarray | None = None, memory: Memory | None = None) -> Rows:
        """State of `n` rows that were never assigned."""
        memory = memory or Memory()
        return cls(memory.full(n, np.int32, -1), memory.full(n, np.float32, np.inf), weights)

    def __getitem__(self, part: slice) -> Rows:
        weights = None if self.weights is None else self.weights[part]
        return Rows(self.labels[part], self.sqdist[part], weights)

    def inertia(self) -> float:
        """Sum of squared distances, weighted, in float64."""
        if self.weights is None:
            return float(self.sqdist.sum(dtype=np.float64))
        parts = (slice(start, start + _PART) for start in range(0, len(self.sqdist), _PART))
        return float(sum(self.sqdist[part] @ self.weights[part] for part in parts))


@dataclass
class Partial:
    """The outcome of assigning some rows. Partials of disjoint rows add.

    Attributes
    ----------
    sums : float64 [k, d]
        Weighted sum of each cluster's rows.
    counts : int64 [k], or float64 [k] when weighted
        Number, or total weight, of each cluster's rows.
    inertia : float
        Weighted sum of squared distances to the centroids assigned to.
    moved : int
        Rows whose label changed.
    repaired : int
        Rows for which the index found nothing and exact search stepped in.
    looked : int
        Rows compared with their candidates.
    searched : int
        Rows searched in the index.
    """

    sums: np.ndarray
    counts: np.ndarray
    inertia: float = 0.0
    moved: int = 0
    repaired: int = 0
    looked: int = 0
    searched: int = 0

    @classmethod
    def zero(cls, k: int, d: int, weighted: bool) -> Partial:
        """Nothing assigned yet."""
        return cls(np.zeros((k, d)), np.zeros(k, np.float64 if weighted else np.int64))

    def add(self, block: np.ndarray, rows: Rows, moved: int, repaired: int) -> None:
        """Take in a block of rows with their labels, in place: cheaper than adding a Partial per block."""
        kernels.add_rows(block, rows.weights, rows.labels, self.sums, self.counts)
        self.inertia += rows.inertia()
        self.moved += moved
        self.repaired += repaired
        self.searched += block.shape[0]

    def tally(self, other: Partial) -> None:
        """Take over the counts of a batch, without its sums; the inertia is the last batch's."""
        self.inertia = other.inertia
        self.moved += other.moved
        self.repaired += other.repaired
        self.looked += other.looked
        self.searched += other.searched

    def __add__(self, other: Partial) -> Partial:
        return Partial(
            self.sums + other.sums,
            self.counts + other.counts,
            self.inertia + other.inertia,
            self.moved + other.moved,
            self.repaired + other.repaired,
            self.looked + other.looked,
            self.searched + other.searched,
        )


def recenter(partial: Partial, centroids: np.ndarray, metric: str) -> np.ndarray:
    """Mean of each cluster, float32 [k, d]; scaled to unit norm for cosine. Empty clusters stay put.

    The normalised mean maximises the sum of cosines (spherical k-means; Dhillon and Modha, 2001).
    """
    return kernels.means(partial.sums, partial.counts, centroids, cosine=metric == "cosine")[0]


class EmptyPolicy(Protocol):
    """Moves the centroids of empty clusters somewhere useful, in place."""

    def __call__(
        self,
        empty: np.ndarray,
        centroids: np.ndarray,
        partial: Partial,
        rows: Rows,
        source: Source,
        rng: np.random.Generator,
    ) -> None: ...


def keep(
    empty: np.ndarray,
    centroids: np.ndarray,
    partial: Partial,
    rows: Rows,
    source: Source,
    rng: np.random.Generator,
) -> None:
    """Leave empty clusters where they are."""


def split(
    empty: np.ndarray,
    centroids: np.ndarray,
    partial: Partial,
    rows: Rows,
    source: Source,
    rng: np.random.Generator,
) -> None:
    """Split clusters drawn with probability proportional to their inertia.

    The two halves stand half-way towards, and away from, a random member: FAISS's relative perturbation
    leaves an all-zero centroid as a duplicate for ever.
    """
    spread = kernels.tally(rows.labels, len(centroids), rows.sqdist, rows.weights)
    donors = np.flatnonzero(spread > 0)
    count = min(len(empty), len(donors))
    if not count:
        return
    chosen = rng.choice(donors, count, replace=False, p=spread[donors] / spread[donors].sum())
    sizes = kernels.tally(rows.labels, len(centroids))[chosen]
    picks = kernels.members_at(rows.labels, chosen, (rng.random(count) * sizes).astype(int))
    half = (dense(source.take(picks)) - centroids[chosen]) / 2
    centroids[empty[:count]] = centroids[chosen] + half
    centroids[chosen] -= half


def farthest(
    empty: np.ndarray,
    centroids: np.ndarray,
    partial: Partial,
    rows: Rows,
    source: Source,
    rng: np.random.Generator,
) -> None:
    """Move empty clusters to the rows farthest from their centroids, as scikit-learn does."""
    count = min(len(empty), len(rows.sqdist))
    sums: dict[int, np.ndarray] = {}  # of donors, less the rows taken; the partial's own stay as they are
    counts: dict[int, float] = {}
    far = _largest(rows.sqdist, count)
    for j, i, x in zip(empty[:count], far, dense(source.take(far)), strict=True):
        w = 1 if rows.weights is None else rows.weights[i]
        old = int(rows.labels[i])
        left = counts.get(old, partial.counts[old]) - w
        if w == 0 or left <= 0:  # nothing gained, or the donor would be empty
            continue
        counts[old], sums[old] = left, sums.get(old, partial.sums[old]) - w * x.astype(np.float64)
        centroids[old] = sums[old] / left
        centroids[j] = x


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest values, these first; looks at a part at a time."""
    best = np.empty(0, np.int64)
    for start in range(0, len(values), _PART):
        some = np.concatenate([best, np.arange(start, min(start + _PART, len(values)))])
        best = some[np.argsort(-values[some], kind="stable")[:count]]
    return best


EMPTY: dict[str, EmptyPolicy] = {"split": split, "farthest": farthest, "keep": keep}


def refill(
    policy: str,
    centroids: np.ndarray,
    partial: Partial,
    rows: Rows,
    source: Source,
    metric: str,
    rng: np.random.Generator,
) -> int:
    """Apply an empty-cluster policy in place; return how many clusters were empty."""
    empty = np.flatnonzero(partial.counts == 0)
    if len(empty):
        EMPTY[policy](empty, centroids, partial, rows, source, rng)
        if metric == "cosine" and policy != "keep":
            norm = np.linalg.norm(centroids, axis=1, keepdims=True)
            centroids /= np.where(norm > 0, norm, 1)
    return len(empty)
