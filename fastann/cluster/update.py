"""What centroids are made from, and what an assignment counts: two things that add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.cluster.space import Space


@dataclass
class Sums:
    """Sums of the rows of each cluster. Those of disjoint rows add, on whatever machine they were made.

    Attributes
    ----------
    sums : float64 [k, d], or a float64 CSR matrix where centroids are sparse
        Weighted sum of each cluster's rows.
    counts : int64 [k], or float64 [k] when weighted
        Number, or total weight, of each cluster's rows.
    """

    sums: Any
    counts: np.ndarray

    @classmethod
    def zero(cls, centroids: Any, *, weighted: bool) -> Sums:
        """Of no rows, for centroids of this shape and kind (dense, or a CSR matrix)."""
        k, counts = centroids.shape[0], np.zeros(centroids.shape[0], np.float64 if weighted else np.int64)
        if sparse.issparse(centroids):
            return cls(sparse.csr_matrix(centroids.shape, dtype=np.float64), counts)
        return cls(np.zeros((k, centroids.shape[1])), counts)

    def add(self, block: Any, weights: np.ndarray | None, ids: np.ndarray) -> None:
        """Add rows (float32 [n, d] or CSR) with their weights to the clusters `ids` (int32 [n]), in place."""
        if not sparse.issparse(self.sums):
            weights = None if weights is None else np.ascontiguousarray(weights)  # a column of shares
            kernels.add_rows(block, weights, np.ascontiguousarray(ids), self.sums, self.counts)
            return
        n, k = block.shape[0], self.sums.shape[0]
        w = np.ones(n) if weights is None else weights
        self.sums = self.sums + sparse.csr_matrix((w, ids, np.arange(n + 1)), (n, k)).T @ block
        self.counts += np.bincount(ids, weights, minlength=k).astype(self.counts.dtype)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.sums + other.sums, self.counts + other.counts)

    def __mul__(self, share: float) -> Sums:
        """As if every row weighed this share of what it does."""
        return Sums(self.sums * share, self.counts * share)

    def means(self, space: Space, centroids: Any) -> Any:
        """Centroid of each cluster in a space, float32, dense or CSR as the sums are; one without rows stays."""
        if not sparse.issparse(self.sums):
            return space.means(self.sums, self.counts, centroids)
        scale = space.divisor(self.counts, kernels.sqnorms(self.sums))
        held = (self.counts > 0) & (scale > 0)
        kept = sparse.diags(1.0 * ~held) @ centroids
        return (sparse.diags(held / np.where(held, scale, 1)) @ self.sums + kept).astype(np.float32).tocsr()


@dataclass(frozen=True)
class Tally:
    """What an assignment of rows counted. Tallies of disjoint rows add.

    Attributes
    ----------
    moved : int
        Rows whose label changed.
    repaired : int
        Rows for which the index found nothing and exact search stepped in.
    looked : int
        Rows compared with the candidates they remember.
    searched : int
        Rows searched in the index.
    """

    moved: int = 0
    repaired: int = 0
    looked: int = 0
    searched: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.moved + other.moved,
            self.repaired + other.repaired,
            self.looked + other.looked,
            self.searched + other.searched,
        )
