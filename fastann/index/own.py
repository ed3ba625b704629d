"""What every index over centroids does, and the two of this package's own: flat and cells."""

from copy import copy
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from fastann import kernels


class Searcher(Protocol):
    """Something that finds centroids near rows.

    Attributes
    ----------
    exact : bool
        Whether the first neighbour is the true nearest centroid, always.
    """

    exact: bool

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find about the `m` nearest centroids of each row, nearest first.

        Parameters
        ----------
        x : float32 [n, d]
        m : int
        hint : int32 [n], optional
            A centroid believed near each row, or -1. It may make the search faster, and changes no result.

        Returns
        -------
        ids : int32 [n, m]
            -1 where the index found too few.
        sqdist : float32 [n, m]
            Squared L2 distances, infinite where the id is -1.
        """
        ...


class Index(Searcher, Protocol):
    """A searcher that also makes lists of candidates."""

    def listed(
        self, x: np.ndarray, rows: np.ndarray, m: int, within: np.ndarray, *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find about the `m` (at most 8) nearest centroids of some rows, for lists of candidates.

        Parameters
        ----------
        x : float32 [n, d]
        rows : int32 [r]
            Which rows.
        m : int
        within : float32 [r]
            Distances beyond which no centroid is wanted; an index that cannot use them ignores them.
        rough : bool
            Whether distances may be off by about 1%.

        Returns
        -------
        ids : int32 [r, 8]
            -1 where there are fewer.
        dist : float32 [r, 8]
            L2 distances, not squared; infinite where the id is -1.
        """
        ...


class Builder(Protocol):
    """Something that builds an index over centroids, such as a spec."""

    def started(self) -> "Builder":
        """The same with a number for every option that is left open."""
        ...

    def build(self, centroids: Any, *, seed: int = 0, device: Any = "cpu") -> Any:
        """Index `centroids`."""
        ...


class FlatIndex:
    """Exact search by this package's own kernels, certified exact; with AMX several times faster than FAISS's.

    On CPUs with AMX, centroids are screened in bfloat16 and the few that may be nearest compared in float64;
    elsewhere all products are float32, and near-ties decided in float64.
    """

    exact = True

    def __init__(self, centroids: np.ndarray):
        self.centroids = centroids
        self.by_column: np.ndarray | None = None  # the centroids, transposed, once sparse rows are searched
        sqnorm, mean, suits = _look_at(centroids)
        self.sqnorm: np.ndarray | None = sqnorm.astype(np.float32)
        self.sqnorm64: np.ndarray | None = sqnorm
        self.packed = None
        if suits:
            columns = kernels.pad_columns(np.arange(len(centroids)))
            self.packed = kernels.pack_screen(centroids, columns, mean)

    def moved(self, centroids: np.ndarray, changed: np.ndarray) -> "FlatIndex":
        """The same index over centroids some of which (`changed`: bool [k]) moved; it takes over this one's memory."""
        if self.packed is None:
            return FlatIndex(centroids)
        other = copy(self)
        other.centroids, other.sqnorm, other.sqnorm64, other.by_column = centroids, None, None, None
        self.packed.update(centroids, changed)
        return other

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        if sparse.issparse(x):
            return self._search_sparse(x, m)
        if m > 1:
            return kernels.nearest_m(x, self.centroids, self._norms(), m)
        if self.packed is None:
            ids, sqdist = kernels.nearest(x, self.centroids, self._norms())
        else:
            ids, sqdist = kernels.nearest_screened(x, self.centroids, self.packed, hint)
        return ids[:, None], sqdist[:, None]

    def listed(
        self, x: np.ndarray, rows: np.ndarray, m: int, within: np.ndarray, *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.packed is None or sparse.issparse(x):
            return listed_by_search(self, x, rows, min(m, len(self.centroids)))
        ids, dist = kernels.eight_screened(x, rows, self.centroids, self.packed, within, None, 0, rough)
        return _first(ids, dist, m)

    def _search_sparse(self, x: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
        if self.by_column is None:
            self.by_column = np.ascontiguousarray(self.centroids.T)
        if self.sqnorm64 is None:
            self.sqnorm64 = kernels.sqnorms(self.centroids)
        return kernels.search_sparse(x, self.by_column, self.sqnorm64, m)

    def _norms(self) -> np.ndarray:
        if self.sqnorm is None:
            self.sqnorm = kernels.survey(self.centroids)[0].astype(np.float32)
        return self.sqnorm


class CellsIndex:
    """Cells of centroids and the cell-major search over them, by AMX tiles or by BLAS."""

    exact = False

    def __init__(self, centroids: np.ndarray, nlist: int, nprobe: int, train_iter: int, seed: int):
        self.nprobe = min(nprobe, nlist)
        picks = np.random.default_rng(seed).choice(len(centroids), nlist, replace=False)
        self.centers = centroids[np.sort(picks)]
        owner = FlatIndex(self.centers).search(centroids, 1)[0][:, 0]
        for _ in range(train_iter):
            sums, counts = np.zeros(self.centers.shape), np.zeros(nlist, np.int64)
            kernels.add_rows(centroids, None, owner, sums, counts)
            self.centers, _ = kernels.means(sums, counts, self.centers, cosine=False)
            owner = FlatIndex(self.centers).search(centroids, 1, owner)[0][:, 0]
        self.centroids = centroids
        self.offsets, self.columns = kernels.group(owner, nlist)
        self.cells = None
        _, mean, suits = _look_at(centroids)
        if suits:
            self.cells = kernels.ScreenedCells(self.centers, np.split(self.columns, self.offsets[1:-1]), mean)
            self.packed = kernels.pack_screen(centroids, self.cells.columns, mean)
        else:
            self.sorted = centroids[self.columns]
            self.sqnorm = np.einsum("ij,ij->i", self.sorted, self.sorted)

    def moved(self, centroids: np.ndarray, changed: np.ndarray) -> "CellsIndex":
        """The same cells over centroids some of which moved: see `FlatIndex`."""
        other = copy(self)
        other.centroids = centroids
        if self.cells is not None:
            self.packed.update(centroids, changed)
        else:
            some = changed[self.columns]
            self.sorted[some] = centroids[self.columns[some]]
            self.sqnorm[some] = np.einsum("ij,ij->i", self.sorted[some], self.sorted[some])
        return other

    def retuned(self, nprobe: int) -> "CellsIndex":
        """The same cells, of which `nprobe` are searched."""
        other = copy(self)
        other.nprobe = min(nprobe, len(self.centers))
        return other

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        if m > 8:  # the lists of a cell search are eight long
            return FlatIndex(self.centroids).search(x, m)
        rows = np.arange(len(x), dtype=np.int32)
        ids, _ = self.listed(x, rows, 8, np.full(len(x), np.inf, np.float32), rough=True)
        # The list is in order to about 1%: the true nearest is among its first few.
        ids, sqdist = kernels.rescore(x, self.centroids, np.ascontiguousarray(ids[:, : min(8, m + 2)]))
        return np.ascontiguousarray(ids[:, :m]), np.ascontiguousarray(sqdist[:, :m])

    def listed(
        self, x: np.ndarray, rows: np.ndarray, m: int, within: np.ndarray, *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.cells is not None:
            ids, dist = kernels.eight_screened(
                x, rows, self.centroids, self.packed, within, self.cells, self.nprobe, rough
            )
        else:
            ids, dist = kernels.eight_in_cells(
                x, rows, self.sorted, self.sqnorm, self.centers, self.offsets, self.columns, self.nprobe, within
            )
        return _first(ids, dist, m)


def _look_at(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Squared norms (float64 [k]) and mean of centroids, and whether they suit screening in bfloat16."""
    k, d = centroids.shape
    sqnorm, sums = kernels.survey(centroids)
    mean = sums / k
    spread = max(0.0, float(sqnorm.mean() - mean @ mean)) ** 0.5
    return sqnorm, mean, kernels.suits_screen(k, d, spread)


def _first(ids: np.ndarray, dist: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    ids[:, m:], dist[:, m:] = -1, np.inf
    return ids, dist


def listed_by_search(index: Index, x: np.ndarray, rows: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of candidates from an index that searches whole arrays: its rows are gathered a few at a time."""
    ids, dist = np.full((len(rows), 8), -1, np.int32), np.full((len(rows), 8), np.inf, np.float32)
    for start in range(0, len(rows), _GATHER):
        part = slice(start, start + _GATHER)
        ids[part, :m], sqdist = index.search(x[rows[part]], m)
        dist[part, :m] = np.sqrt(sqdist)
    return ids, dist


_GATHER = 2**14
