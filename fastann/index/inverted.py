"""Search among sparse centroids, through the lists of centroids that have each column."""

from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.index.base import Index

SPREAD_FROM = 1000  # rows searched from which laying centroids out has paid: it takes as long as about 500 rows


class InvertedIndex(Index):
    """Search among sparse centroids, by the columns that rows and centroids share: exact, or on a budget.

    Parameters
    ----------
    centroids : float32 CSR matrix [k, d]
    budget : int, optional
        Stored values of centroids looked at for a row, see `kernels.search_inverted`; by default all that it takes.
    """

    def __init__(self, centroids: sparse.csr_matrix, budget: int | None = None):
        self.centroids, self.exact, self.budget = centroids, budget is None, budget
        self.lists = centroids.T.tocsr()  # the centroids that have each column
        self.sqnorm = kernels.sqnorms(centroids)
        self.searched = 0  # rows
        self.spread: kernels.Spread | None = None

    def search(self, x: Any, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        self.searched += x.shape[0]
        if self.spread is None and self.exact and self.searched >= SPREAD_FROM:
            ordered = self.centroids if self.centroids.has_sorted_indices else self.centroids.sorted_indices()
            self.spread = kernels.Spread(ordered, self.lists, self.sqnorm)
        if self.spread is not None:
            return kernels.search_spread(x, self.spread, m)
        return kernels.search_inverted(x, self.lists, self.sqnorm, m, self.budget)
