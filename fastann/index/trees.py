"""Trees over centroids, of scikit-learn: exact, and quick where columns are few."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastann import kernels
from fastann.index.base import Index

PIECE = 2**12  # rows that one thread searches at a time


class TreeIndex(Index):
    """A k-d tree or ball tree, whose distances are float64.

    Parameters
    ----------
    kind : {"KDTree", "BallTree"}
        Of ``sklearn.neighbors``.
    centroids : float32 [k, d]
        The tree has a float64 copy.
    leaf_size : int
        Centroids in a leaf, which are compared one by one.
    """

    exact = True

    def __init__(self, kind: str, centroids: np.ndarray, leaf_size: int):
        from sklearn import neighbors

        self.centroids = centroids
        self.tree: Any = getattr(neighbors, kind)(centroids, leaf_size=leaf_size)

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        ids, sqdist = np.empty((len(x), m), np.int32), np.empty((len(x), m), np.float32)

        def some(start: int) -> None:
            part = slice(start, start + PIECE)
            far, ids[part] = self.tree.query(x[part], k=m)
            sqdist[part] = far * far

        starts = range(0, len(x), PIECE)
        threads = min(kernels.threads(), len(starts))
        if threads < 2:
            for start in starts:
                some(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(some, starts))
        return ids, sqdist
