"""The kinds of index that users choose from; imports FAISS when one of its indexes is built, not before.

A spec is a frozen dataclass with nothing but its own options. Their names, defaults, limits and meaning live here
alone: the command line, saved models, estimates and error messages read them from the fields.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fastann.index import faiss
from fastann.index.base import Index, Spec, option
from fastann.index.own import CellsIndex, FlatIndex
from fastann.index.trees import TreeIndex

GRID_FROM = 64  # clusters from which `fastann.tune` tries other indexes than exact search


@dataclass(frozen=True)
class Flat(Spec):
    """Compare every row with every centroid: exact, one matrix product. The best below ~2,000 clusters."""

    name: ClassVar[str] = "flat"
    build_rank: ClassVar[int] = 0

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        return FlatIndex(centroids) if device == "cpu" else faiss.flat(centroids, device)

    @classmethod
    def grid(cls, k: int) -> list[Spec]:
        return [cls()]


class _InCells(Spec):
    """What the kinds have in common that put centroids into `nlist` cells and search `nprobe` of these."""

    nlist: int | None
    nprobe: int | str
    richer: ClassVar[str] = "search more cells (a larger nprobe)"

    @staticmethod
    @abstractmethod
    def usual_nlist(k: int) -> int:
        """The number of cells for `k` centroids when none is given."""

    def nlist_for(self, k: int) -> int:
        """The number of cells that `k` centroids are put into."""
        return min(k, self.nlist or self.usual_nlist(k))

    def cut(self, k: int, what: str = "n_clusters=") -> str:
        if self.nlist is not None and self.nlist > k:
            return f"nlist={self.nlist} exceeds {what}{k}; take at most as many cells"
        if self.nlist is not None and isinstance(self.nprobe, int) and self.nprobe > self.nlist:
            return f"nprobe={self.nprobe} exceeds nlist={self.nlist}; search at most as many cells"
        return ""

    def distances(self, k: int) -> float:
        """Those to the centre of every cell, and to the members of `nprobe` cells of equal size."""
        nlist = self.nlist_for(k)
        return nlist + min(self.number("nprobe"), nlist) * k / nlist

    @classmethod
    def grid(cls, k: int) -> list[Spec]:
        if k < GRID_FROM:
            return []
        root = max(1, round(math.sqrt(k)))
        sizes = sorted({min(k // 4, max(1, round(root * share))) for share in (0.5, 1, 2, 4, 8)})
        return [cls(nlist=size) for size in sizes]  # type: ignore[call-arg]  # a field of the kinds


@dataclass(frozen=True)
class IVF(_InCells):
    """Centroids in `nlist` cells, of which the `nprobe` nearest to a row are searched (IndexIVFFlat).

    The cells are clustered afresh from the current centroids at every build; FAISS keeps those of the
    first centroids it saw.

    Parameters
    ----------
    nlist : int or None, default=None
        Cells; None is about the square root of the number of clusters.
    nprobe : int or "auto", default=8
        Cells searched for each row; "auto" is found while fitting, for the `recall` of `KMeans`.
    train_iter : int, default=5
        Iterations of k-means that place the cells.
    """

    name: ClassVar[str] = "ivf"
    build_rank: ClassVar[int] = 2
    nlist: int | None = option(None, 1, "cells; about the square root of the clusters when not given")
    nprobe: int | str = option(8, 1, "cells searched per row", search=True)
    train_iter: int = option(5, 1, "k-means iterations that place the cells")

    @staticmethod
    def usual_nlist(k: int) -> int:
        return max(1, round(math.sqrt(k)))

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        nlist = self.nlist_for(len(centroids))
        return faiss.ivf(centroids, nlist, self.number("nprobe"), self.train_iter, seed, device)

    def read(self, data: np.ndarray, centroids: np.ndarray) -> Index:
        return faiss.FaissIVF(faiss.read(data), centroids, self.nlist_for(len(centroids)), self.number("nprobe"))


@dataclass(frozen=True)
class HNSW(Spec):
    """A navigable small-world graph of the centroids (Malkov and Yashunin, 2016; IndexHNSWFlat).

    Parameters
    ----------
    m : int, default=32
        Links of each centroid.
    ef_construction : int, default=40
        Candidates kept while the graph is built.
    ef_search : int or "auto", default=64
        Candidates kept while searching; "auto" is found while fitting, for the `recall` of `KMeans`.
    """

    name: ClassVar[str] = "hnsw"
    build_rank: ClassVar[int] = 3
    richer: ClassVar[str] = "search more candidates (a larger ef_search) or take more links (a larger m)"
    m: int = option(32, 2, "links per centroid")
    ef_construction: int = option(40, 1, "candidates kept while building")
    ef_search: int | str = option(64, 1, "candidates kept while searching", search=True)

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        self.on_cpu(device)
        return faiss.hnsw(centroids, self.m, self.ef_construction, self.number("ef_search"))

    def read(self, data: np.ndarray, centroids: np.ndarray) -> Index:
        return faiss.FaissHNSW(faiss.read(data), centroids, self.number("ef_search"))

    def distances(self, k: int) -> float:
        """Those to half the links of each candidate, and of each step on the way: about two for each doubling of k."""
        return float(min(k, (self.number("ef_search") + 2 * np.log2(k)) * self.m / 2))

    @classmethod
    def growth(cls, before: int, k: int) -> float:
        return k / before * max(1.0, float(np.log2(k) / np.log2(max(2, before))))

    @classmethod
    def grid(cls, k: int) -> list[Spec]:
        return [] if k < GRID_FROM else [cls(m=m) for m in (16, 32, 64)]


@dataclass(frozen=True)
class Factory(Spec):
    """Any FAISS factory string, such as ``"PQ16x4fs,RFlat"``, ``"SQ8"`` or ``"IVF64,PQ16"``.

    `search` is a FAISS parameter string, such as ``"nprobe=8,k_factor_rf=4"``. The candidates such an
    index returns are sorted again by true distance. As a string: ``"factory:IVF64,Flat;nprobe=8"``.

    Parameters
    ----------
    string : str
        What ``faiss.index_factory`` takes.
    search : str, default=""
        FAISS's search parameters.
    """

    name: ClassVar[str] = "factory"
    richer: ClassVar[str] = "take a string with more of everything, or search parameters that look further"
    string: str = field(default="", metadata={"help": "what FAISS's index_factory takes, such as PQ16x4fs,RFlat"})
    search: str = field(default="", metadata={"help": "FAISS's search parameters, after a ;", "search": True})

    def __post_init__(self) -> None:
        if not isinstance(self.string, str) or not self.string:
            raise ValueError(f"factory: a FAISS factory string is needed, such as 'SQ8', got {self.string!r}")

    def __str__(self) -> str:
        return f"factory:{self.string}" + (f";{self.search}" if self.search else "")

    @classmethod
    def parsed(cls, options: str) -> Spec:
        """The spec of ``STRING`` or ``STRING;SEARCH``."""
        string, _, search = options.partition(";")
        return cls(string, search)

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        return faiss.factory(centroids, self.string, self.search, seed, device, polysemous=self._polysemous)

    def read(self, data: np.ndarray, centroids: np.ndarray) -> Index:
        return faiss.FaissFactory(faiss.read(data), centroids, self.search)

    @property
    def _polysemous(self) -> bool:
        """Whether the search compares codes by their Hamming distances first, for which they are trained otherwise."""
        return any(item.partition("=")[0].strip() == "ht" for item in self.search.split(","))

    @property
    def built_with(self) -> tuple[Any, ...]:
        return (*super().built_with, self._polysemous)


@dataclass(frozen=True)
class Cells(_InCells):
    """Centroids in `nlist` cells, searched cell by cell for many rows at once: the IVF of the automatic mode.

    A block of rows is grouped by the cells nearest to each, and every cell is one matrix product; FAISS's IVF
    scans row by row.

    Parameters
    ----------
    nlist : int or None, default=None
        Cells; None is about half the square root of the number of clusters, and at least 8.
    nprobe : int or "auto", default=16
        Cells searched for each row; "auto" is found while fitting, for the `recall` of `KMeans`.
    train_iter : int, default=3
        Iterations of k-means that place the cells.
    """

    name: ClassVar[str] = "cells"
    build_rank: ClassVar[int] = 1
    nlist: int | None = option(None, 1, "cells; about half the square root of the clusters when not given")
    nprobe: int | str = option(16, 1, "cells searched per row", search=True)
    train_iter: int = option(3, 1, "k-means iterations that place the cells")

    @staticmethod
    def usual_nlist(k: int) -> int:
        return max(8, round(math.sqrt(k) / 2))

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        self.on_cpu(device)
        return CellsIndex(centroids, self.nlist_for(len(centroids)), self.number("nprobe"), self.train_iter, seed)


@dataclass(frozen=True)
class LSH(Spec):
    """Centroids as `bits` bits, each the side of a random hyperplane (Charikar, 2002; IndexLSH).

    The `rerank` centroids whose bits differ least from a row's are compared by true distance.

    Parameters
    ----------
    bits : int, default=256
        Bits of each centroid, one per hyperplane.
    rerank : int or "auto", default=32
        Centroids compared by true distance; "auto" is found while fitting, for the `recall` of `KMeans`.
    """

    name: ClassVar[str] = "lsh"
    build_rank: ClassVar[int] = 4
    richer: ClassVar[str] = "take more bits or compare more centroids by true distance (a larger rerank)"
    bits: int = option(256, 1, "bits per centroid")
    rerank: int | str = option(32, 1, "centroids compared by true distance", search=True)

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        self.on_cpu(device)
        return faiss.lsh(centroids, self.bits, self.number("rerank"), seed)

    def read(self, data: np.ndarray, centroids: np.ndarray) -> Index:
        return faiss.FaissLSH(faiss.read(data), centroids, self.number("rerank"))


@dataclass(frozen=True)
class _Tree(Spec):
    """One of scikit-learn's trees over the centroids."""

    leaf_size: int = option(40, 1, "centroids in a leaf")

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        self.on_cpu(device)
        return TreeIndex(type(self).__name__, centroids, self.leaf_size)


@dataclass(frozen=True)
class KDTree(_Tree):
    """A k-d tree of the centroids (Bentley, 1975; scikit-learn's): exact, and quick up to about 10 columns.

    Parameters
    ----------
    leaf_size : int, default=40
        Centroids in a leaf, which are compared one by one.
    """

    name: ClassVar[str] = "kd_tree"
    build_rank: ClassVar[int] = 5


@dataclass(frozen=True)
class BallTree(_Tree):
    """A ball tree of the centroids (Omohundro, 1989; scikit-learn's): exact, and quick up to about 20 columns.

    Parameters
    ----------
    leaf_size : int, default=40
        Centroids in a leaf, which are compared one by one.
    """

    name: ClassVar[str] = "ball_tree"
    build_rank: ClassVar[int] = 6


SPECS: dict[str, type[Spec]] = {spec.name: spec for spec in (Flat, IVF, HNSW, Factory, Cells, LSH, KDTree, BallTree)}
ALIASES = {"brute": Flat.name}  # scikit-learn's words


def kinds() -> list[type[Spec]]:
    """All kinds of index, the quickest to build first."""
    return sorted(SPECS.values(), key=lambda kind: kind.build_rank)
