"""The two indexes of this package's own, over its kernels: flat and cells."""

from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.index.base import LISTED, Index, Spec, distances_in_cells

_TELL = 32  # centroids, for each cell, that tell where it is


class FlatIndex(Index):
    """Exact search by this package's own kernels, certified exact.

    Products of rounded operands (bfloat16 or int8, where the CPU has instructions for them), or of float32, rule
    centroids out; the few that may be nearest are compared in float64. Rows may be sparse.

    Parameters
    ----------
    centroids : float32 [k, d]
    screened : bool, optional
        Whether operands are rounded, where the CPU can; by default, where it pays.
    """

    exact = True
    moves = True

    def __init__(self, centroids: np.ndarray, *, screened: bool | None = None):
        self.centroids = centroids
        self.by_column: np.ndarray | None = None  # the centroids, transposed, once sparse rows are searched
        self.plain: kernels.Packed | None = None  # not rounded, once more than the nearest is asked for
        self.screened = screened

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of the centroids it was built over: float32 [d]."""
        return self._look[0]

    @cached_property
    def packed(self) -> kernels.Packed:
        """The centroids as dense rows are compared with them; sparse ones need none."""
        return kernels.pack(self.centroids, self._look[1], self.mean)

    @cached_property
    def _look(self) -> tuple[np.ndarray, bool]:
        return _look_at(self.centroids, self.screened)

    def moved(self, centroids: np.ndarray, changed: np.ndarray) -> "FlatIndex":
        self.packed.update(centroids, changed)
        other = copy(self)
        other.centroids, other.by_column, other.plain = centroids, None, None
        return other

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        if sparse.issparse(x):
            return self._search_sparse(x, m)
        if m > 1:
            return kernels.nearest_m(x, self.centroids, self._plain(), m)
        ids, sqdist = kernels.nearest(x, self.centroids, self.packed, hint)
        return ids[:, None], sqdist[:, None]

    def measured(self, x: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
        ids, sqdist = self.search(x, m)
        if m == 1 and not sparse.issparse(x):
            sqdist = kernels.own_sqdist(x, self.centroids, ids[:, 0]).astype(np.float32)[:, None]
        return ids, sqdist

    def listed(
        self, x: np.ndarray, rows: np.ndarray, m: int, within: np.ndarray, *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        if sparse.issparse(x):
            return super().listed(x, rows, m, within, rough=rough)
        listed = m if rough else LISTED  # the screen chooses from among these
        return _first(*kernels.eight(x, rows, self.centroids, self.packed, within, rough=rough, m=listed), m)

    @property
    def distances(self) -> float:
        return float(len(self.centroids))

    def _search_sparse(self, x: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
        if self.by_column is None:
            self.by_column = np.ascontiguousarray(self.centroids.T)
        return kernels.search_sparse(x, self.by_column, kernels.sqnorms(self.centroids), m)

    def _plain(self) -> kernels.Packed:
        if not self.packed.rounded:
            return self.packed
        if self.plain is None:
            self.plain = kernels.pack(self.centroids, False, self.mean)
        return self.plain


class CellsIndex(Index):
    """Cells of centroids and the cell-major search over them.

    Parameters
    ----------
    centroids : float32 [k, d]
    nlist : int
        Cells, at most k.
    nprobe : int
        Cells searched per row.
    train_iter : int
        K-means iterations that place the cells.
    seed : int
        Of the cells' start.
    screened : bool, optional
        As of `FlatIndex`.
    """

    moves = True

    def __init__(
        self,
        centroids: np.ndarray,
        nlist: int,
        nprobe: int,
        train_iter: int,
        seed: int,
        *,
        screened: bool | None = None,
    ):
        k, rng = len(centroids), np.random.default_rng(seed)
        self.nprobe, self.screened = min(nprobe, nlist), screened
        some = rng.choice(k, min(k, _TELL * nlist), replace=False).astype(np.int32)
        self.centers, some = centroids[np.sort(some[:nlist])], np.sort(some)
        for _ in range(train_iter):
            sums, counts = np.zeros(self.centers.shape), np.zeros(nlist, np.int64)
            kernels.add_rows(centroids, None, self._nearest_cells(centroids, some), sums, counts, some)
            self.centers, _ = kernels.means(sums, counts, self.centers, cosine=False)
        self.centroids = centroids
        self.offsets, self.columns = kernels.group(self._nearest_cells(centroids, np.arange(k, dtype=np.int32)), nlist)
        mean, rounded = _look_at(centroids, screened)
        self.packed = kernels.pack(centroids, rounded, mean, self.columns, self.offsets)
        self.cells = kernels.pack(self.centers, rounded, mean)

    def _nearest_cells(self, centroids: np.ndarray, some: np.ndarray) -> np.ndarray:
        """The cells that some centroids (int32 [s]) go to, one of about the same distance being as good: int32 [s]."""
        far = np.full(len(some), np.inf, np.float32)
        ids, _ = FlatIndex(self.centers, screened=self.screened).listed(centroids, some, 1, far, rough=True)
        return np.ascontiguousarray(ids[:, 0])

    def moved(self, centroids: np.ndarray, changed: np.ndarray) -> "CellsIndex":
        other = copy(self)
        other.centroids = centroids
        self.packed.update(centroids, changed)
        return other

    def retuned(self, spec: Spec) -> "CellsIndex":
        other = copy(self)
        other.nprobe = min(spec.number("nprobe"), len(self.centers))
        return other

    def reach(self, x: np.ndarray, ids: np.ndarray) -> np.ndarray:
        cell = np.empty(len(self.centroids), np.int32)
        cell[self.columns] = np.repeat(np.arange(len(self.centers), dtype=np.int32), np.diff(self.offsets))
        coarse, most, m = FlatIndex(self.centers, screened=False), len(self.centers), 32
        reach, left = np.empty(len(ids), np.int64), np.arange(len(ids))
        while len(left):  # most rows find theirs among the first few, and long lists are slow
            m = min(2 * m, most)
            found = coarse.search(x[left], m)[0] == cell[ids[left]][:, None]
            there = found.any(axis=1)
            reach[left[there]] = 1 + np.argmax(found[there], axis=1)
            left = left[~there]
        return reach

    @property
    def ranks(self) -> np.ndarray:
        ranks = np.empty(len(self.columns), np.int32)
        ranks[self.columns] = np.arange(len(ranks), dtype=np.int32)
        return ranks

    @property
    def most(self) -> int:
        return len(self.centers)

    @property
    def distances(self) -> float:
        return distances_in_cells(np.diff(self.offsets), self.nprobe)

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        if m > LISTED:  # more than a search of cells keeps
            return FlatIndex(self.centroids, screened=self.screened).search(x, m)
        rows = np.arange(len(x), dtype=np.int32)
        some = min(LISTED, m + 2)  # the list is in order to about 1%: the true nearest is among its first few
        ids, _ = self.listed(x, rows, some, np.full(len(x), np.inf, np.float32), rough=True)
        ids, sqdist = kernels.rescore(x, self.centroids, np.ascontiguousarray(ids[:, :some]))
        return np.ascontiguousarray(ids[:, :m]), np.ascontiguousarray(sqdist[:, :m])

    def listed(
        self, x: np.ndarray, rows: np.ndarray, m: int, within: np.ndarray, *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        listed = m if rough else LISTED
        ids, dist = kernels.eight(x, rows, self.centroids, self.packed, within, self.cells, self.nprobe, rough, listed)
        return _first(ids, dist, m)


def _look_at(centroids: np.ndarray, screened: bool | None) -> tuple[np.ndarray, bool]:
    """Mean of centroids (float32 [d]), and whether to round them to screen: as told, or where it pays."""
    k, d = centroids.shape
    sqnorm, sums = kernels.survey(centroids)
    mean = sums / k
    spread = max(0.0, float(sqnorm.mean() - mean @ mean)) ** 0.5
    return mean.astype(np.float32), kernels.suits_screen(k, d, spread) if screened is None else screened


def _first(ids: np.ndarray, dist: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    ids[:, m:], dist[:, m:] = -1, np.inf
    return ids, dist
