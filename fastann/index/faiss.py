"""FAISS: the only module that imports it, on first use, and the indexes that it builds and searches."""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from functools import cached_property, lru_cache
from importlib import metadata
from typing import Any, Self

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.index import gpu
from fastann.index.base import Index, Spec, distances_in_cells
from fastann.index.own import FlatIndex

FEW = 2e6  # multiplications and additions that one thread does before OpenMP's others have woken up
MOST_EF = 4096  # a graph that does not reach a recall with this ef_search does not reach it


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
    _held.free = module.omp_get_max_threads()
    if getattr(_held, "count", None) is not None:
        module.omp_set_num_threads(_held.count)
    return module


class faiss_threads:
    """Context in which FAISS uses at most `count` threads (OpenMP's setting, of the calling thread).

    FAISS is not loaded for it: if it is loaded inside, it is limited then.
    """

    def __init__(self, count: int):
        self.count = count

    def __enter__(self) -> None:
        self.before = faiss().omp_get_max_threads() if _loaded() else None
        self.outer, _held.count = getattr(_held, "count", None), self.count
        if self.before is not None:
            faiss().omp_set_num_threads(self.count)

    def __exit__(self, *exc: object) -> None:
        _held.count = self.outer
        if _loaded():
            faiss().omp_set_num_threads(_held.free if self.before is None else self.before)


def threads_for(operations: float) -> AbstractContextManager[None]:
    """Context in which FAISS does so many multiplications and additions, by itself where they are few."""
    return faiss_threads(1) if operations < FEW else nullcontext()


_held = threading.local()  # count: what FAISS is limited to in this thread; free: what it had when it was loaded


def _loaded() -> bool:
    return "faiss" in sys.modules


class FaissIndex(Index):
    """A FAISS index over centroids.

    Parameters
    ----------
    index : faiss.Index
        On the CPU; it is copied to the device.
    centroids : float32 [k, d]
    device : "cpu" or tuple of int

    Attributes
    ----------
    nprobe, ef_search : int or None
        The search option, of the kinds that have it.
    on_gpu : bool
        Whether FAISS's copy lies on GPUs: what is set or asked is set and asked in another way there.
    """

    nprobe: int | None = None
    ef_search: int | None = None

    def __init__(self, index: Any, centroids: np.ndarray, device: Any = "cpu"):
        self.index, self.centroids, self.on_gpu = gpu.place(faiss(), index, device), centroids, device != "cpu"

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        with threads_for(x.shape[0] * self.centroids.size):
            sqdist, ids = gpu.search(
                faiss(), self.index, x, m, on_gpu=self.on_gpu, nprobe=self.nprobe, ef_search=self.ef_search
            )
        return self._finished(x, ids.astype(np.int32), sqdist)

    def _finished(self, x: np.ndarray, ids: np.ndarray, sqdist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the search returns, of what FAISS found."""
        sqdist[ids < 0] = np.inf
        return ids, sqdist

    def written(self) -> np.ndarray | None:
        return None if self.on_gpu else faiss().serialize_index(self.index)

    def light(self) -> Self:
        """FAISS has its own copy of what it needs; here only their number and columns are asked for."""
        other = copy(self)
        other.centroids = np.broadcast_to(np.float32(0), self.centroids.shape)
        return other


class FaissIVF(FaissIndex):
    """Centroids in `nlist` cells, of which the `nprobe` nearest to a row are searched."""

    def __init__(self, index: Any, centroids: np.ndarray, nlist: int, nprobe: int, device: Any = "cpu"):
        super().__init__(index, centroids, device)
        self.nlist, self.nprobe = nlist, min(nprobe, nlist)

    def retuned(self, spec: Spec) -> Self:
        other = copy(self)
        other.nprobe = min(spec.number("nprobe"), self.nlist)
        return other

    @property
    def most(self) -> int:
        return self.nlist

    @property
    def distances(self) -> float | None:
        if self.on_gpu:  # which does not tell how long its lists are
            return None
        lists = self.index.invlists
        assert self.nprobe is not None
        return distances_in_cells(np.array([lists.list_size(cell) for cell in range(self.nlist)]), self.nprobe)


class FaissHNSW(FaissIndex):
    """A graph of the centroids, searched with `ef_search` candidates."""

    def __init__(self, index: Any, centroids: np.ndarray, ef_search: int):
        super().__init__(index, centroids)
        self.ef_search = ef_search

    def retuned(self, spec: Spec) -> Self:
        other = copy(self)
        other.ef_search = spec.number("ef_search")
        return other

    @property
    def most(self) -> int:
        return min(MOST_EF, len(self.centroids))


class FaissRescored(FaissIndex):
    """An index whose distances are approximate or foreign, such as those of codes: computed again, and sorted."""

    def light(self) -> Self:
        return self

    def _finished(self, x: np.ndarray, ids: np.ndarray, sqdist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return kernels.rescore(x, self.centroids, ids)


class FaissFlat(FaissRescored):
    """Exact search on GPUs, which do not take sparse rows: those are searched on the CPU."""

    @cached_property
    def _of_sparse(self) -> FlatIndex:
        return FlatIndex(self.centroids)

    def search(self, x: Any, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        return self._of_sparse.search(x, m) if sparse.issparse(x) else super().search(x, m, hint)


class FaissLSH(FaissRescored):
    """Codes of bits, each the side of a random hyperplane; the `rerank` nearest codes are compared by true distance."""

    def __init__(self, index: Any, centroids: np.ndarray, rerank: int):
        super().__init__(index, centroids)
        self.rerank = rerank

    def retuned(self, spec: Spec) -> Self:
        other = copy(self)
        other.rerank = spec.number("rerank")
        return other

    @property
    def most(self) -> int:
        return len(self.centroids)

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        ids, sqdist = super().search(x, min(self.most, max(m, self.rerank)))
        return np.ascontiguousarray(ids[:, :m]), np.ascontiguousarray(sqdist[:, :m])


class Parameters:
    """Search parameters of a FAISS index, which are set in it and hold for whoever searches it next.

    Parameters
    ----------
    index : faiss.Index
        As it was made: what it searches with then is what no text means.
    on_gpu : bool
    """

    # What FAISS's parameters are called in its objects: of an index, and of a graph in it.
    NAMES = ("verbose", "nprobe", "max_codes", "k_factor", "polysemous_ht", "search_type")
    OF_GRAPHS = ("efSearch", "efConstruction")

    def __init__(self, index: Any, on_gpu: bool):
        self.index, self.on_gpu, self.text = index, on_gpu, ""
        holders: list[tuple[Any, tuple[str, ...]]] = [(part, self.NAMES) for part in parts(index)]
        holders += [(part.hnsw, self.OF_GRAPHS) for part in parts(index) if hasattr(part, "hnsw")]
        self.usual = [(of, name, getattr(of, name)) for of, names in holders for name in names if hasattr(of, name)]

    def set(self, text: str) -> None:
        """Search with the parameters of a text, such as ``nprobe=8,k_factor_rf=4``, and no others from now on."""
        if text == self.text:
            return
        for of, name, value in self.usual:
            setattr(of, name, value)
        self.text = ""
        if text:
            space = faiss().GpuParameterSpace() if self.on_gpu else faiss().ParameterSpace()
            space.set_index_parameters(self.index, text)
            self.text = text


class FaissFactory(FaissRescored):
    """What a factory string makes, searched with a text of FAISS's parameters.

    It follows centroids that move: what was trained (cells, codes) stays, and the centroids are added anew. A fit that
    trained it only once would end 2% to 5% higher: other codes find what these miss.
    """

    def __init__(self, index: Any, centroids: np.ndarray, text: str, device: Any = "cpu"):
        super().__init__(index, centroids, device)
        self.text, self.parameters = text, Parameters(self.index, self.on_gpu)
        self.moves = not self.on_gpu
        self.parameters.set(text)

    def search(self, x: np.ndarray, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        with refusals(f"search with the parameters {self.text!r}"):
            self.parameters.set(self.text)
            return super().search(x, m, hint)

    def retuned(self, spec: Spec) -> Self:
        text = getattr(spec, "search", "")
        with refusals(f"search {spec}"):
            self.parameters.set(text)
        if text == self.text:
            return self
        other = copy(self)
        other.text = text
        return other

    def moved(self, centroids: np.ndarray, changed: np.ndarray) -> Self:
        other = copy(self)
        other.centroids = centroids
        with faiss_threads(1):  # as when it was built
            self.index.reset()
            self.index.add(centroids)
        return other


def parts(index: Any) -> Iterator[Any]:
    """Yield a FAISS index and those that it is made of."""
    lib = faiss()
    yield index
    if isinstance(index, (lib.IndexReplicas, lib.IndexShards)):
        inner = [index.at(i) for i in range(index.count())]
    else:
        inner = [getattr(index, name, None) for name in ("index", "base_index", "refine_index", "quantizer", "storage")]
    for part in inner:
        if isinstance(part, lib.Index):
            yield from parts(lib.downcast_index(part))


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Context in which what FAISS refuses is a `ValueError` that says what it was asked for."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"FAISS cannot {doing}: {reason}; see the factory strings in FAISS's documentation") from None


def flat(centroids: np.ndarray, device: Any) -> FaissIndex:
    """Exact search on GPUs; distances are computed again in the same way as on CPUs."""
    index = faiss().IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    return FaissFlat(index, centroids, device)


def ivf(centroids: np.ndarray, nlist: int, nprobe: int, train_iter: int, seed: int, device: Any) -> FaissIndex:
    """An IndexIVFFlat whose cells are clustered from the centroids."""
    k, d = centroids.shape
    index = faiss().IndexIVFFlat(faiss().IndexFlatL2(d), d, nlist)
    index.cp.niter = train_iter
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = k  # else FAISS trains on a subsample of 256 per cell
    with threads_for(train_iter * nlist * centroids.size):
        index.train(centroids)
        index.add(centroids)
    return FaissIVF(index, centroids, nlist, nprobe, device)


def hnsw(centroids: np.ndarray, m: int, ef_construction: int, ef_search: int) -> FaissIndex:
    """An IndexHNSWFlat, the same in every run."""
    index = faiss().IndexHNSWFlat(centroids.shape[1], m)
    index.hnsw.efConstruction = ef_construction
    with faiss_threads(1):  # links depend on the order of insertion, which threads would make random
        index.add(centroids)
    return FaissHNSW(index, centroids, ef_search)


def lsh(centroids: np.ndarray, bits: int, rerank: int, seed: int) -> FaissIndex:
    """An IndexLSH whose random rotation is drawn by the seed; each bit halves the centroids at their median."""
    d = centroids.shape[1]
    index = faiss().IndexLSH(d, bits, True, True)
    index.rrot.init(seed)
    with threads_for(bits * centroids.size):
        index.train(centroids)
        index.add(centroids)
    return FaissLSH(index, centroids, rerank)


def read(data: np.ndarray) -> Any:
    """The FAISS index of what `FaissIndex.written` gave, uint8."""
    return faiss().deserialize_index(np.array(data))


def factory(
    centroids: np.ndarray, string: str, search: str, seed: int, device: Any, *, polysemous: bool = False
) -> FaissIndex:
    """What FAISS's `index_factory` makes of a string, with its search options set by a FAISS parameter string.

    A factory has product quantisers sort their codes so that Hamming distances tell something ("polysemous" codes;
    Douze, Jegou and Perronnin, 2016). That takes most of the time and serves the parameter ht alone, so it is done
    only if `polysemous` says so.

    Raises
    ------
    ValueError
        If FAISS refuses either string, or the device.
    """
    lib, (k, d) = faiss(), centroids.shape
    called = f"factory:{string};{search}" if search else f"factory:{string}"
    with refusals(f"build {called} for {k} centroids of {d} dimensions"):
        index = lib.index_factory(d, string)
        cells = lib.try_extract_index_ivf(index)
        if cells is not None:
            cells.cp.seed, cells.cp.min_points_per_centroid = seed, 1
        for part in parts(index):
            if hasattr(part, "do_polysemous_training"):
                part.do_polysemous_training = polysemous
            if hasattr(part, "pq"):
                part.pq.cp.min_points_per_centroid = 1  # else FAISS complains on standard error
        with faiss_threads(1):  # graphs inside a factory index depend on the order of insertion
            index.train(centroids)
            index.add(centroids)
        return FaissFactory(index, centroids, search, device)
