"""Indexes over centroids: specs that users write, and what they build; imports FAISS, on first use.

A spec (`Flat`, `IVF`, `HNSW`, `Factory`) is a frozen dataclass with nothing but its own arguments. Their
names, defaults, limits and meaning live here alone: the command line, saved models and error messages
read them from the fields. ``parse_index("ivf:nlist=64,nprobe=8")`` and ``str(spec)`` go back and forth.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from importlib import metadata
from typing import Any, ClassVar

import numpy as np

from fastann import checks, kernels
from fastann.index import gpu
from fastann.index.own import CellsIndex, FlatIndex, Index, listed_by_search


@lru_cache(maxsize=1)
def faiss() -> Any:
    """FAISS, imported on first use, or an error that says how to install it."""
    try:
        import faiss as module
    except ImportError as error:
        raise ImportError(
            f"fastann needs FAISS ({error}); install one build of it: pip install 'fastann[cpu]', "
            "or pip install 'fastann[gpu]' on Linux with an NVIDIA GPU"
        ) from error
    builds = {d.metadata["Name"] for d in metadata.distributions() if d.metadata["Name"]}
    builds = {name for name in builds if name.lower().replace("_", "-").startswith(("faiss-cpu", "faiss-gpu"))}
    if len(builds) > 1:
        warnings.warn(
            f"{' and '.join(sorted(builds))} are both installed and overwrite each other's files; "
            f"uninstall them all, then install one",
            RuntimeWarning,
            stacklevel=2,
        )
    return module


class faiss_threads:
    """Context in which FAISS uses at most `count` threads (OpenMP's setting, of the calling thread)."""

    def __init__(self, count: int):
        self.count = count

    def __enter__(self) -> None:
        self.before = faiss().omp_get_max_threads()
        faiss().omp_set_num_threads(self.count)

    def __exit__(self, *exc: object) -> None:
        faiss().omp_set_num_threads(self.before)


_LARGEST = 2**31 - 1  # FAISS keeps these numbers in C ints
AUTO = "auto"


def option(default: Any, low: int, help: str, *, search: bool = False) -> Any:
    """Declare a spec's integer field; `search` marks those that may change after the index is built.

    These may also be "auto": found from a recall that is asked for.
    """
    help = f"{help}, or auto" if search else help
    return field(default=default, metadata={"low": low, "help": help, "search": search})


@dataclass(frozen=True)
class Spec(ABC):
    """Base of index specs: checks and prints its own fields."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, str) and value == AUTO and f.metadata.get("search"):
                continue
            if "low" in f.metadata and not (value is None and f.default is None):
                checks.integer(value, f"{self.name}: {f.name}", f.metadata["low"])
                if value > _LARGEST:
                    raise ValueError(f"{self.name}: {f.name} must be at most {_LARGEST}, got {value}")

    def __str__(self) -> str:
        given = [f"{f.name}={v}" for f in fields(self) if (v := getattr(self, f.name)) != f.default]
        return self.name + (":" + ",".join(given) if given else "")

    @abstractmethod
    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        """Index `centroids` (float32 [k, d])."""

    def searching(self, **options: Any) -> "Spec":
        """Copy with other search-time options; refuses those that need a new build."""
        allowed = [f.name for f in fields(self) if f.metadata.get("search")]
        for name in options:
            if name not in allowed:
                raise ValueError(
                    f"{name!r} is not a search option of {self}; "
                    + (f"it has {', '.join(allowed)}" if allowed else "it has none")
                )
        return replace(self, **options)

    @property
    def open(self) -> str | None:
        """The search option that is "auto", if one is."""
        return next((f.name for f in fields(self) if getattr(self, f.name) == AUTO and f.metadata.get("search")), None)

    def number(self, name: str) -> int:
        """An option that an index cannot be built without."""
        value = getattr(self, name)
        if value == AUTO:
            raise ValueError(
                f"{self.name}: {name}='auto' is found while fitting, KMeans(index={str(self)!r}, recall=0.99); "
                "give a number to build the index by itself"
            )
        return value

    def started(self) -> "Spec":
        """The same with a number for the option that is "auto": its default, to start from."""
        return self if self.open is None else replace(self, **{self.open: _default(self, self.open)})

    @property
    def built_with(self) -> tuple:
        """The arguments a built index depends on; two specs that agree on them can share it."""
        return (type(self), *(getattr(self, f.name) for f in fields(self) if not f.metadata.get("search")))


def _default(spec: Spec, name: str) -> Any:
    return next(f.default for f in fields(spec) if f.name == name)


@dataclass(frozen=True)
class Flat(Spec):
    """Compare every row with every centroid: exact, one matrix product. The best below ~2,000 clusters."""

    name: ClassVar[str] = "flat"

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        if device != "cpu":
            cpu = faiss().IndexFlatL2(centroids.shape[1])
            cpu.add(centroids)
            return FaissIndex(gpu.place(faiss(), cpu, device), centroids, rescored=True)
        return FlatIndex(centroids)


@dataclass(frozen=True)
class IVF(Spec):
    """Centroids in `nlist` cells, of which the `nprobe` nearest to a row are searched (IndexIVFFlat).

    The cells are clustered afresh from the current centroids at every build; FAISS keeps those of the
    first centroids it saw.
    """

    name: ClassVar[str] = "ivf"
    nlist: int | None = option(None, 1, "cells; about sqrt(n_clusters) when not given")
    nprobe: int | str = option(8, 1, "cells searched per row", search=True)
    train_iter: int = option(5, 1, "k-means iterations that place the cells")

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        k, d = centroids.shape
        nlist = min(k, self.nlist or max(1, round(k**0.5)))
        index = faiss().IndexIVFFlat(faiss().IndexFlatL2(d), d, nlist)
        index.cp.niter = self.train_iter
        index.cp.seed = seed
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = k  # else FAISS trains on a subsample of 256 per cell
        index.train(centroids)
        index.add(centroids)
        return FaissIndex(gpu.place(faiss(), index, device), centroids, nprobe=min(self.number("nprobe"), nlist))


@dataclass(frozen=True)
class HNSW(Spec):
    """A navigable small-world graph of the centroids (Malkov and Yashunin, 2016; IndexHNSWFlat)."""

    name: ClassVar[str] = "hnsw"
    m: int = option(32, 2, "links per centroid")
    ef_construction: int = option(40, 1, "candidates kept while building")
    ef_search: int | str = option(64, 1, "candidates kept while searching", search=True)

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        if device != "cpu":
            raise ValueError("FAISS has no HNSW for GPUs; use index='ivf' or 'flat' there, or device='cpu'")
        index = faiss().IndexHNSWFlat(centroids.shape[1], self.m)
        index.hnsw.efConstruction = self.ef_construction
        with faiss_threads(1):  # links depend on the order of insertion, which threads would make random
            index.add(centroids)
        return FaissIndex(index, centroids, ef_search=self.number("ef_search"))


@dataclass(frozen=True)
class Cells(Spec):
    """Centroids in `nlist` cells, searched cell by cell for many rows at once: the IVF of the automatic mode.

    A block of rows is grouped by the cells nearest to each, and every cell is one matrix product; FAISS's IVF
    scans row by row.
    """

    name: ClassVar[str] = "cells"
    nlist: int | None = option(None, 1, "cells; about sqrt(n_clusters) / 2 when not given")
    nprobe: int | str = option(16, 1, "cells searched per row", search=True)
    train_iter: int = option(3, 1, "k-means iterations that place the cells")

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        if device != "cpu":
            raise ValueError("index='cells' searches on CPUs; use index='ivf' or 'flat' on a GPU, or device='cpu'")
        nlist = min(len(centroids), self.nlist or max(8, round(len(centroids) ** 0.5 / 2)))
        return CellsIndex(centroids, nlist, self.number("nprobe"), self.train_iter, seed)


@dataclass(frozen=True)
class Factory(Spec):
    """Any FAISS factory string, such as ``"PQ16x4fs,RFlat"``, ``"SQ8"`` or ``"IVF64,PQ16"``.

    `search` is a FAISS parameter string, such as ``"nprobe=8,k_factor_rf=4"``. The candidates such an
    index returns are sorted again by true distance. As a string: ``"factory:IVF64,Flat;nprobe=8"``.
    """

    name: ClassVar[str] = "factory"
    string: str = field(default="", metadata={"help": "what FAISS's index_factory takes, such as PQ16x4fs,RFlat"})
    search: str = field(default="", metadata={"help": "FAISS's search parameters, after a ;", "search": True})

    def __post_init__(self) -> None:
        if not isinstance(self.string, str) or not self.string:
            raise ValueError(f"factory: a FAISS factory string is needed, such as 'SQ8', got {self.string!r}")

    def __str__(self) -> str:
        return f"factory:{self.string}" + (f";{self.search}" if self.search else "")

    def build(self, centroids: np.ndarray, *, seed: int = 0, device: Any = "cpu") -> Index:
        k, d = centroids.shape
        lib = faiss()
        try:
            index = lib.index_factory(d, self.string)
            ivf = lib.try_extract_index_ivf(index)
            if ivf is not None:
                ivf.cp.seed, ivf.cp.min_points_per_centroid = seed, 1
            with faiss_threads(1):  # graphs inside a factory index depend on the order of insertion
                index.train(centroids)
                index.add(centroids)
            index = gpu.place(lib, index, device)
            if self.search:
                lib.ParameterSpace().set_index_parameters(index, self.search)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                f"FAISS cannot build {self} for {k} centroids of {d} dimensions: {reason}; "
                "see the factory strings in FAISS's documentation"
            ) from None
        return FaissIndex(index, centroids, rescored=True)


SPECS: dict[str, type[Spec]] = {spec.name: spec for spec in (Flat, IVF, HNSW, Factory, Cells)}


def parse_index(text: Any) -> Spec:
    """Turn ``"ivf:nlist=64,nprobe=8"`` into ``IVF(nlist=64, nprobe=8)``; a spec is returned as it is.

    Raises
    ------
    ValueError
        For an unknown index or option; the message lists the valid ones.
    """
    if isinstance(text, Spec):
        return text
    if not isinstance(text, str):
        raise TypeError(f"index must be 'auto', a string or one of {_names()}, got {text!r}")
    name, _, rest = text.partition(":")
    if name not in SPECS:
        raise ValueError(f"unknown index {name!r}; the indexes are 'auto', {', '.join(map(repr, SPECS))}")
    spec = SPECS[name]
    if spec is Factory:
        string, _, search = rest.partition(";")
        return Factory(string, search)
    known = {f.name: f for f in fields(spec)}
    options = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            valid = ", ".join(f"{f.name} ({f.metadata['help']})" for f in known.values())
            raise ValueError(f"index {name!r} has no option {key!r}; it has {valid or 'none'}")
        if key in options:
            raise ValueError(f"index {name!r}: {key} is given twice in {text!r}; give it once")
        try:
            words = {"None": None, AUTO: AUTO} if known[key].metadata.get("search") else {"None": None}
            options[key] = words[value] if value in words else int(value)
        except ValueError:
            or_auto = " or auto" if known[key].metadata.get("search") else ""
            raise ValueError(f"index {name!r}: {key} must be an integer{or_auto}, got {value!r}") from None
    return spec(**options)


def _names() -> str:
    return ", ".join(f"fastann.{spec.__name__}" for spec in SPECS.values())


class FaissIndex:
    """A FAISS index over centroids, with the search options of its spec."""

    exact = False

    def __init__(
        self,
        index: Any,
        centroids: np.ndarray,
        *,
        nprobe: int | None = None,
        ef_search: int | None = None,
        rescored: bool = False,
    ):
        self.index, self.centroids, self.rescored = index, centroids, rescored
        self.nprobe, self.ef_search = nprobe, ef_search

    def retuned(self, spec: Spec) -> "FaissIndex":
        """The same built index, searched with the options of `spec`."""
        nprobe = min(spec.number("nprobe"), self.index.nlist) if isinstance(spec, IVF) else None
        ef_search = spec.number("ef_search") if isinstance(spec, HNSW) else None
        if isinstance(spec, Factory) and spec.search:
            faiss().ParameterSpace().set_index_parameters(self.index, spec.search)
        return FaissIndex(self.index, self.centroids, nprobe=nprobe, ef_search=ef_search, rescored=self.rescored)

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        sqdist, ids = gpu.search(faiss(), self.index, x, m, nprobe=self.nprobe, ef_search=self.ef_search)
        ids = ids.astype(np.int32)
        if self.rescored:  # codes and hashes give approximate or foreign distances
            return kernels.rescore(x, self.centroids, ids)
        sqdist[ids < 0] = np.inf
        return ids, sqdist

    def listed(
        self, x: np.ndarray, rows: np.ndarray, m: int, within: np.ndarray, *, rough: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        return listed_by_search(self, x, rows, min(m, len(self.centroids)))
