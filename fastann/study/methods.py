"""What sweeps and benchmarks run: this package with any index, and its peers. A peer is one entry of `PEERS`."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastann.cluster import plan
from fastann.estimators.kmeans import KMeans
from fastann.index.base import Spec
from fastann.index.faiss import faiss
from fastann.index.parse import parse_index
from fastann.index.repair import search
from fastann.index.spec import Flat
from fastann.study import vanilla

Search = Callable[[np.ndarray], np.ndarray]  # rows [n, d] -> the nearest centroid of each, int [n]


@dataclass
class Problem:
    """What is asked of a method: cluster the rows of `x` [n, d] into as many clusters as there are starting rows.

    `x` is an array, or a CSR matrix.

    `sample` is the number of rows to train on, None for all; all rows are labelled. `unit` says that centres are
    compared by their direction: the metric is one of unit-norm rows.
    """

    x: Any
    start: np.ndarray
    seed: int
    metric: str
    max_iter: int
    tol: float
    sample: int | None
    threads: int
    unit: bool = False

    def training(self) -> Any:
        """The rows to train on, of the methods that know no samples."""
        n = self.x.shape[0]
        if self.sample is None or self.sample >= n:
            return self.x
        return self.x[np.sort(np.random.default_rng([self.seed, 1]).choice(n, self.sample, replace=False))]


@dataclass
class Fitted:
    """What a method returned: centres [k, d], label of each row, and what it knows of its own course.

    `index` is the spec that found the nearest centres, None where that is not one index.
    """

    centers: np.ndarray
    labels: np.ndarray
    values: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    index: Spec | None = None


@dataclass(frozen=True)
class Method:
    """A way to cluster rows, and to search fixed centroids.

    Attributes
    ----------
    fit : callable
        From a `Problem` to a `Fitted`.
    build : callable
        From centroids [k, d] and a seed to the index over them (None of a peer) and its `Search`.
    own : bool
        Whether it is this package, which is given rows as they are stored; peers are given float32, of unit norm
        where the metric wants that.
    sparse : bool
        Whether it takes sparse rows.
    """

    fit: Callable[[Problem], Fitted]
    build: Callable[[np.ndarray, int], tuple[Any, Search]]
    own: bool = False
    sparse: bool = False


def method_of(name: str, k: int) -> Method:
    """What runs by a name: one of `PEERS`, "auto" or an index, over `k` clusters."""
    if name in PEERS:
        return PEERS[name]

    def build(centroids: np.ndarray, seed: int) -> tuple[Any, Search]:
        index = plan.choose_index(name, k).build(centroids, seed=seed)
        return index, lambda x: search(index, x, 1, centroids)[0][:, 0]

    exact = name == "auto" or parse_index(name) == Flat()  # sparse rows know no other search
    return Method(lambda p: _fit_own(p, name), build, own=True, sparse=exact)


def part_of(p: Problem, *, own: bool) -> Problem:
    """A small part of a problem, on which a method loads and compiles all that it will use.

    This package chooses its way by the size of the problem, so its part is larger: enough work not to be taken for
    small, and, up to 4,096, as many clusters.
    """
    n, k = part_size(len(p.start), p.x.shape[1], own=own)
    return replace(p, x=p.x[:n], start=p.start[:k], max_iter=3, sample=None)


def part_size(k: int, d: int, *, own: bool) -> tuple[int, int]:
    """Rows and clusters of a small part of a problem of `k` clusters and `d` columns; see `part_of`."""
    k = min(k, 4096 if own else 256)
    n = max(4 * k, 16_384)
    return (max(n, min(200_000, plan.LIMITS.small * 2 // (k * d) + 1)) if own else n), k


# --------------------------------------------------------------------- this package


def _fit_own(p: Problem, index: str) -> Fitted:
    """Fit by this package, with any index."""
    ends: list[float] = []
    km = KMeans(
        len(p.start),
        index=index,
        metric=p.metric,
        init=p.start,
        max_iter=p.max_iter,
        tol=p.tol,
        sample=p.sample,
        n_jobs=p.threads,
        random_state=p.seed,
        callback=lambda state: ends.append(time.perf_counter()),
    )
    clock = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # how low a recall is, is among the results
        km.fit(p.x)
    low, high = km.assignment_recall_interval_
    values = {
        "iterations": float(km.n_iter_),
        "recall": km.assignment_recall_,
        "recall_low": low,
        "recall_high": high,
    }
    for phase in ("build", "assign", "update"):
        values[f"seconds_{phase}"] = sum(r.seconds[phase] for r in km.history_)
    series = {
        "inertia": [r.inertia / r.rows for r in km.history_],
        "seconds": [end - clock for end in ends],
        "moved": [float(r.moved) for r in km.history_],
    }
    return Fitted(km.cluster_centers_, km.labels_, values, series, None if index == "auto" else km.index_)


# --------------------------------------------------------------------- its peers


def _fit_vanilla(p: Problem) -> Fitted:
    """Fit by the textbook, in NumPy."""
    x, clock = p.training(), time.perf_counter()
    series: dict[str, list[float]] = {"inertia": [], "seconds": [], "moved": []}

    def watch(inertia: float, moved: int) -> None:
        series["inertia"].append(inertia / len(x))
        series["seconds"].append(time.perf_counter() - clock)
        series["moved"].append(float(moved))

    centers, labels, _, iterations = vanilla.lloyd(x, p.start, p.max_iter, p.tol, watch=watch)
    if x is not p.x:
        labels, _ = vanilla.assign(p.x, centers)
    return Fitted(centers, labels, {"iterations": float(iterations)}, series, Flat())


def _search_vanilla(centroids: np.ndarray, seed: int) -> tuple[None, Search]:
    return None, lambda x: vanilla.assign(x, centroids)[0]


def _fit_sklearn(p: Problem) -> Fitted:
    """Fit by scikit-learn's Lloyd; `tol` is its own, of the movement of centres."""
    from sklearn.cluster import KMeans

    x = p.training()
    km = KMeans(len(p.start), init=p.start, n_init=1, max_iter=p.max_iter, tol=p.tol, random_state=p.seed).fit(x)
    labels = km.labels_ if x is p.x else km.predict(p.x)
    return Fitted(km.cluster_centers_, labels, {"iterations": float(km.n_iter_)}, index=Flat())


def _search_sklearn(centroids: np.ndarray, seed: int) -> tuple[None, Search]:
    from sklearn.metrics import pairwise_distances_argmin

    return None, lambda x: pairwise_distances_argmin(x, centroids)


def _fit_faiss(p: Problem, kind: str = "Kmeans", init: str | None = None) -> Fitted:
    """Fit by faiss.Kmeans, or another `kind` of it, for exactly `max_iter` iterations.

    Parameters
    ----------
    p : Problem
    kind : str
        Name of a class of FAISS.
    init : str or None
        A start of FAISS's own, by the end of its constant's name; None begins with `Problem.start`, where the kind
        takes that.
    """
    library, x = faiss(), p.training()
    if not hasattr(library, kind):
        raise ImportError(f"faiss {library.__version__} has no {kind}; install a newer one")
    own = kind != "Kmeans" or init is not None  # it chooses its start, by the seed
    options: dict[str, Any] = {} if init is None else {"init_method": getattr(library, f"ClusteringInitMethod_{init}")}
    if kind == "Kmeans" and hasattr(library.ClusteringParameters, "early_stop_threshold"):
        # From 1.15 on it would stop when its objective, a float32 sum, does not change.
        options["early_stop_threshold"] = -1.0
    km = getattr(library, kind)(
        x.shape[1],
        len(p.start),
        niter=p.max_iter,
        seed=p.seed,
        spherical=p.unit,
        min_points_per_centroid=1,
        max_points_per_centroid=2**31 // len(p.start),
        **options,
    )
    km.train(x, **({} if own else {"init_centroids": p.start}))
    _, labels = km.assign(p.x)
    steps, series = km.iteration_stats, {}
    if not p.unit:  # of unit rows it sums cosines
        ends = [s["time"] for s in steps]
        # SuperKmeans tells the seconds of each iteration, Kmeans those since the start.
        ends = ends if kind == "Kmeans" else list(itertools.accumulate(ends))
        series = {"inertia": [s["obj"] / len(x) for s in steps], "seconds": ends}
    return Fitted(km.centroids, labels, {"iterations": float(len(steps))}, series, Flat())


def _search_faiss(centroids: np.ndarray, seed: int) -> tuple[None, Search]:
    index = faiss().IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    return None, lambda x: index.search(x, 1)[1][:, 0]


PEERS: dict[str, Method] = {
    "vanilla": Method(_fit_vanilla, _search_vanilla),
    "sklearn": Method(_fit_sklearn, _search_sklearn, sparse=True),
    "faiss": Method(_fit_faiss, _search_faiss),
    "faiss-k-means++": Method(partial(_fit_faiss, init="KMEANS_PLUS_PLUS"), _search_faiss),
    "faiss-super": Method(partial(_fit_faiss, kind="SuperKmeans"), _search_faiss),
}
