"""K-means to compare: this package and its peers, by name.

Methods (N is a number of iterations):

- ``faiss-N``, ``faiss-pp-N``, ``faiss-super-N``: faiss.Kmeans, from k-means++, and faiss.SuperKmeans
- ``superkmeans-N``: flat; ``superkmeans-hR``: hierarchical with R refinements; with ``superkmeans-sq8-N``,
  ``superkmeans-rabitq-hR`` and so on in a compressed domain (sq8, lvq4, rabitq)
- ``sklearn-N``, ``sklearn-minibatch`` or ``sklearn-minibatch-BATCH``, ``sklearnex-N``, ``fastkmeans-N``; to
  scikit-learn and its patch, parameters as in ``sklearn-300@init=k-means++@n_init=10@algorithm=elkan@tol=1e-4``
- ``flspp``: k-means++ with local search (FLS++); ``bkmeans``: breathing k-means
- ``fastann``: the automatic mode; ``fastann-INDEX``, such as fastann-flat; parameters of KMeans follow as in
  ``fastann-flat@max_iter=10@tol=0``

A method is one entry of `METHODS`.
"""

from __future__ import annotations

import ast
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np

from bench.harness import NotInstalled
from fastann.study.methods import part_size

USUAL = (
    "faiss-25,faiss-10,faiss-super-25,faiss-super-10,superkmeans-25,superkmeans-10,superkmeans-h0,superkmeans-h2,"
    "superkmeans-h5,superkmeans-sq8-10,superkmeans-sq8-h5,superkmeans-rabitq-10,superkmeans-rabitq-h5,sklearn-25,"
    "sklearn-10,sklearn-minibatch,sklearnex-25,sklearnex-10,fastkmeans-25,fastkmeans-10,fastann,fastann-flat"
)


@dataclass
class Fitted:
    """What a method returned.

    Attributes
    ----------
    centers : ndarray [k, d]
    course : list of (seconds, inertia)
        Seconds from the start, and the method's own sum of squared distances of all rows to the centres it
        had by then. Empty where a method does not tell.
    extra : dict
        Anything else worth keeping.
    """

    centers: np.ndarray
    course: list[tuple[float, float]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What is asked of a method: cluster all rows of `x` (float32 [n, d]).

    `start` [k, d] is where to start, of the methods that take it (faiss, fastann); None leaves that to the method.
    """

    x: np.ndarray
    k: int
    seed: int
    threads: int
    start: np.ndarray | None = None


def faiss_kmeans(p: Problem, kind: str, iterations: int, plus_plus: bool = False) -> Fitted:
    """Run faiss.Kmeans or faiss.SuperKmeans.

    An iteration's objective belongs to the centres it began with. Kmeans tells seconds since the start,
    SuperKmeans those of each iteration; what it spends outside them is counted before the first.
    """
    import faiss

    if not hasattr(faiss, kind):
        raise NotInstalled(f"faiss {faiss.__version__} has no {kind}")
    km = getattr(faiss, kind)(
        p.x.shape[1],
        p.k,
        niter=iterations,
        max_points_per_centroid=10**9,
        min_points_per_centroid=1,
        seed=p.seed,
    )
    if hasattr(km.cp, "early_stop_threshold"):
        km.cp.early_stop_threshold = -1.0  # else it stops once its float32 objective repeats
    if plus_plus:
        if not hasattr(faiss, "ClusteringInitMethod_KMEANS_PLUS_PLUS"):
            raise NotInstalled(f"faiss {faiss.__version__} has no k-means++")
        km.cp.init_method = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    clock = time.perf_counter()
    km.train(p.x, **({} if p.start is None else {"init_centroids": p.start}))
    seconds = time.perf_counter() - clock
    ends = [step["time"] for step in km.iteration_stats]
    if kind == "SuperKmeans":
        ends = [seconds - sum(ends) + end for end in accumulate(ends)]
    after = [step["obj"] for step in km.iteration_stats[1:]]
    course = list(zip(ends[:-1], after, strict=True))
    return Fitted(km.centroids, course, {"iterations": len(ends)})


def superkmeans(p: Problem, quantizer: str | None, hierarchical: bool, iterations: int) -> Fitted:
    """Run superkmeans from PyPI; hierarchical, its three phases have their default lengths but for the refinements."""
    from superkmeans import SuperKMeans

    km = SuperKMeans(
        p.k,
        p.x.shape[1],
        hierarchical=hierarchical,
        quantizer=quantizer or "f32",
        sampling_fraction=1.0,
        max_points_per_cluster=10**6,
        n_threads=p.threads,
        seed=p.seed,
        full_precision_final_centroids=True,  # of the quantizers: better centres in the same time
        tol=0.0,
        early_termination=False,
        **({"iters_refinement": iterations} if hierarchical else {"iters": iterations}),
    )
    return Fitted(km.train(p.x))


RANDOM = {"init": "random", "n_init": 1, "tol": 0}  # what scikit-learn's classes are asked for if nothing else is said


def sklearn_kmeans(p: Problem, iterations: int, options: dict[str, Any]) -> Fitted:
    """Run scikit-learn's KMeans: Lloyd and one random start, if nothing else is asked for."""
    from sklearn.cluster import KMeans

    km = KMeans(p.k, max_iter=iterations, random_state=p.seed, **RANDOM | options).fit(p.x)
    return Fitted(km.cluster_centers_, extra={"iterations": int(km.n_iter_)})


def minibatch(p: Problem, batch: int | None) -> Fitted:
    """Run scikit-learn's MiniBatchKMeans, one random start, its own stopping rule."""
    from sklearn.cluster import MiniBatchKMeans

    km = MiniBatchKMeans(p.k, init="random", n_init=1, batch_size=batch or 1024, random_state=p.seed).fit(p.x)
    return Fitted(km.cluster_centers_, extra={"iterations": int(km.n_iter_)})


def flspp(p: Problem) -> Fitted:
    """Run FLS++ (Conrads et al., 2024): k-means++ and twenty steps of local search, with its own stopping rule."""
    from flspp import FLSpp

    km = FLSpp(p.k, local_search_iterations=20, random_state=p.seed)
    km.fit(p.x)
    return Fitted(np.asarray(km.cluster_centers_))


def breathing(p: Problem) -> Fitted:
    """Run breathing k-means (Fritzke, 2020) with its defaults."""
    from bkmeans import BKMeans

    return Fitted(BKMeans(n_clusters=p.k, random_state=p.seed).fit(p.x).cluster_centers_)


def sklearnex(p: Problem, iterations: int, options: dict[str, Any]) -> Fitted:
    """Run scikit-learn-intelex; it says in its log whether it fell back to scikit-learn."""
    from sklearnex.cluster import KMeans

    said: list[str] = []
    log, handler = logging.getLogger("sklearnex"), logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    km = KMeans(p.k, max_iter=iterations, random_state=p.seed, n_jobs=p.threads, **RANDOM | options).fit(p.x)
    log.removeHandler(handler)
    return Fitted(np.asarray(km.cluster_centers_), extra={"iterations": int(km.n_iter_), "said": said[:3]})


def fastkmeans(p: Problem, iterations: int) -> Fitted:
    """Run fastkmeans (PyTorch) on the CPU."""
    from fastkmeans import FastKMeans

    km = FastKMeans(
        p.x.shape[1],
        p.k,
        niter=iterations,
        tol=0.0,
        gpu=False,
        seed=p.seed,
        max_points_per_centroid=None,
        use_triton=False,
    )
    km.train(p.x)
    return Fitted(km.centroids)


def fastann(p: Problem, index: str | None, options: dict[str, Any]) -> Fitted:
    """Run this package.

    Iterations on a sample are left out of the course. Where every row is searched in every iteration, an
    iteration's inertia belongs to the centres it began with, as FAISS's; elsewhere to those it ended with.
    """
    from fastann import KMeans

    clock = time.perf_counter()
    ends: list[float] = []

    def watch(state: Any) -> None:
        ends.append(time.perf_counter() - clock)

    settings = {"index": index or "auto", "n_jobs": p.threads, "random_state": p.seed, "callback": watch} | options
    settings |= {} if p.start is None else {"init": p.start}
    km = KMeans(p.k, **settings).fit(p.x)
    history = km.history_
    course: list[tuple[float, float]] = []
    if len(ends) == len(history):  # else there were several starts
        delay = int(all(record.looked == 0 for record in history))
        course = [
            (ends[i - delay], record.inertia)
            for i, record in enumerate(history)
            if record.rows == len(p.x) and i >= delay
        ]
    extra = {
        "iterations": km.n_iter_,
        "trained": ends[-1],  # seconds until the centres were final: the rest is labels and their recall
        "own_inertia": km.inertia_ / len(p.x),
        "recall": km.assignment_recall_,
        "stop_reason": str(km.stop_reason_),
        "plan": history[-1].plan,
        "seconds_by_phase": {phase: sum(r.seconds[phase] for r in history) for phase in history[-1].seconds},
    }
    return Fitted(km.cluster_centers_, course, extra)


def _options(text: str) -> dict[str, Any]:
    """Read ``@name=value@name=value``; values are Python literals, or else strings."""
    out: dict[str, Any] = {}
    for part in filter(None, text.split("@")):
        name, value = part.split("=", 1)
        try:
            out[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            out[name] = value
    return out


# What a name means: a pattern, and what runs it with the pattern's groups.
METHODS: list[tuple[str, Callable[..., Fitted]]] = [
    (r"faiss-(pp-)?(\d+)", lambda p, pp, n: faiss_kmeans(p, "Kmeans", int(n), bool(pp))),
    (r"faiss-super-(\d+)", lambda p, n: faiss_kmeans(p, "SuperKmeans", int(n))),
    (
        r"superkmeans(?:-(sq8|lvq4|rabitq))?-(h?)(\d+)",
        lambda p, quantizer, h, n: superkmeans(p, quantizer, bool(h), int(n)),
    ),
    (r"sklearn-(\d+)((?:@\w+=[^@]+)*)", lambda p, n, options: sklearn_kmeans(p, int(n), _options(options))),
    (r"flspp", flspp),
    (r"bkmeans", breathing),
    (r"sklearn-minibatch(?:-(\d+))?", lambda p, batch: minibatch(p, batch and int(batch))),
    (r"sklearnex-(\d+)((?:@\w+=[^@]+)*)", lambda p, n, options: sklearnex(p, int(n), _options(options))),
    (r"fastkmeans-(\d+)", lambda p, n: fastkmeans(p, int(n))),
    (
        r"fastann(?:-([^@]+))?((?:@\w+=[^@]+)*)",
        lambda p, index, options: fastann(p, index, _options(options)),
    ),
]


def method(name: str) -> Callable[[Problem], Fitted]:
    """Find what a method's name means.

    Raises
    ------
    ValueError
        If it means nothing.
    """
    for pattern, fit in METHODS:
        found = re.fullmatch(pattern, name)
        if found:
            return lambda p: fit(p, *found.groups())
    raise ValueError(f"no method is called {name!r}; known are, for instance, {USUAL}")


def small(name: str, p: Problem) -> Problem:
    """Return a small problem that loads all a method will use."""
    n, k = part_size(p.k, p.x.shape[1], own=name.startswith("fastann"))
    return replace(p, x=p.x[:n], k=k, start=None if p.start is None else p.start[:k])
