"""What a fit will cost before it is run: operations, memory and seconds, from a short calibration on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastann import checks, kernels
from fastann.cluster import plan
from fastann.cluster.memory import PER_CENTROID, Memory
from fastann.cluster.passes.bounded import Candidates
from fastann.cluster.passes.rows import Rows
from fastann.estimators.kmeans import KMeans
from fastann.index.base import Spec
from fastann.index.faiss import faiss_threads
from fastann.index.parse import parse_index
from fastann.index.spec import kinds

SIZES = (1024, 4096)  # clusters at which searches are timed: two, so that fixed and growing costs come apart
ROWS = 16_384  # rows per timed search
FIT_ROWS = 98_304  # rows of the automatic fit that is timed
REPEATS = 3


@dataclass(frozen=True)
class Estimate:
    """What a fit with one index would take.

    Attributes
    ----------
    index : str
    distances : float
        Distance computations per row and iteration.
    operations : float
        Floating-point operations of the whole fit, two per coordinate and distance.
    memory : float
        Bytes, with all rows in memory as float32: these, what a fit remembers of each (48 bytes in the automatic mode,
        8 with a given index and on small problems), and what it takes for the centroids.
    seconds_pass : float
        To search every row once.
    seconds : float
        Of the whole fit.
    """

    index: str
    distances: float
    operations: float
    memory: float
    seconds_pass: float
    seconds: float


def estimate(
    rows: float,
    dims: int,
    n_clusters: int,
    *,
    index: Any = None,
    iterations: int = 25,
    n_jobs: int | None = None,
) -> list[Estimate]:
    """Predict what fits of a given size will cost on this machine.

    Searches are timed on made-up rows of the given width at 1,024 and 4,096 clusters; the time of a search is
    taken to be a constant plus a share of its distance computations (of their logarithm for HNSW), and that of the
    automatic mode comes from a fit of 98,304 such rows: how many rows an iteration compares and searches. The
    structure of real data changes how soon a fit stops; expect the truth within a factor of two.

    Parameters
    ----------
    rows : int or float
        How many there will be.
    dims : int
        Their columns.
    n_clusters : int
        Clusters to find.
    index : str, spec or list of them, default=None
        Those to estimate; None is auto and the kinds that `tune` tries: flat, cells, ivf and hnsw.
    iterations : int, default=25
        Of fits with a given index; the automatic mode stops by itself.
    n_jobs : int or None, default=None
        Threads; None is all cores.

    Returns
    -------
    list of Estimate
        Fastest first.
    """
    n = int(checks.real(rows, "rows", 1.0))
    d = int(checks.integer(dims, "dims", 1))
    k = checks.n_clusters(n_clusters, n)
    checks.integer(iterations, "iterations", 1)
    wanted = index if isinstance(index, list | tuple) else [index] if index is not None else None
    specs: list[Spec | str] = (
        ["auto", *(kind() for kind in kinds() if kind.grid(SIZES[0]))]
        if wanted is None
        else [_parse(one) for one in wanted]
    )
    threads = checks.jobs(n_jobs)
    with kernels.limit_threads(threads), faiss_threads(threads):
        found = [
            _automatic(n, d, k, n_jobs) if isinstance(spec, str) else _indexed(spec, n, d, k, iterations)
            for spec in specs
        ]
    return sorted(found, key=lambda e: e.seconds)


def table(found: list[Estimate]) -> str:
    """Estimates as lines of text."""
    width = max(5, *(len(e.index) for e in found))
    lines = [f"{'index':<{width}}  distances a row  operations    memory    a pass       a fit"]
    for e in found:
        lines.append(
            f"{e.index:<{width}}  {e.distances:>15,.0f}  {e.operations:>10.2g}  {e.memory / 2**30:>6.1f} GiB"
            f"  {_duration(e.seconds_pass):>8}  {_duration(e.seconds):>10}"
        )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"


def _parse(index: Any) -> Spec | str:
    return "auto" if isinstance(index, str) and index == "auto" else parse_index(index).started()


def _memory(n: int, d: int, k: int, candidates: int) -> float:
    """Rows, what a fit remembers of each, and what it takes for the centroids."""
    remembered: list[Rows | Candidates] = [Rows.new(1)]
    if candidates:
        remembered.append(Candidates.new(1, Memory()))
    each = sum(array.nbytes for part in remembered for array in vars(part).values() if isinstance(array, np.ndarray))
    return float(n * (4 * d + each) + PER_CENTROID * k * d)


def _rows(count: int, d: int, seed: int) -> np.ndarray:
    """Made-up embeddings: a mixture of directions with noise."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).standard_normal((2048, d), dtype=np.float32)
    x = centers[rng.integers(2048, size=count)] + centers[rng.integers(2048, size=count)] * np.float32(0.5)
    x += np.float32(0.5) * rng.standard_normal(x.shape, dtype=np.float32)
    return x


def _timed(spec: Spec, d: int, k: int) -> tuple[float, float]:
    """Seconds to search a row, and to build the index, at `k` centroids."""
    x, c = _rows(ROWS, d, 1), _rows(k, d, 2)
    clock = time.perf_counter()
    index = spec.build(c)
    build = time.perf_counter() - clock
    index.search(x[:256], 1)
    seconds = []
    for _ in range(REPEATS):
        clock = time.perf_counter()
        index.search(x, 1)
        seconds.append(time.perf_counter() - clock)
    return float(np.median(seconds)) / len(x), build


def _extrapolated(spec: Spec, d: int, k: int) -> tuple[float, float]:
    """Seconds to search a row, and to build the index, at any number of centroids."""
    spec.build(_rows(256, d, 2)).search(_rows(256, d, 1), 1)  # compiles, or loads, what is timed
    (low, _), (high, build_high) = (_timed(spec, d, size) for size in SIZES)
    work = [spec.distances(size) for size in (*SIZES, k)]
    slope = max(0.0, (high - low) / (work[1] - work[0])) if work[1] > work[0] else 0.0
    search = max(high - slope * work[1], 0.0) + slope * work[2] if k > SIZES[0] else low
    return search, build_high * spec.growth(SIZES[1], k)


def _indexed(spec: Spec, n: int, d: int, k: int, iterations: int) -> Estimate:
    search, build = _extrapolated(spec, d, k)
    distances = spec.distances(k)
    return Estimate(
        index=str(spec),
        distances=distances,
        operations=2.0 * d * distances * n * (iterations + 1),
        memory=_memory(n, d, k, candidates=0),
        seconds_pass=n * search,
        seconds=(n * search + build) * (iterations + 1),  # and the closing labels
    )


def _automatic(n: int, d: int, k: int, n_jobs: int | None) -> Estimate:
    """From a smaller fit with as many rows a cluster, or as near to it as its size allows."""
    count = min(n, FIT_ROWS)
    size = int(np.clip(k * count / n, 64, min(k, count // 4)))
    x = _rows(count, d, 3)
    KMeans(size, init="random", max_iter=2, n_jobs=n_jobs, random_state=0).fit(x[: max(4 * size, 4096)])
    clock = time.perf_counter()
    km = KMeans(size, init="random", n_jobs=n_jobs, random_state=0).fit(x)
    total = time.perf_counter() - clock
    visits = sum(r.rows for r in km.history_) / count
    searched = sum(r.searched for r in km.history_) / count + 1e-9
    planned = plan.choose(plan.Wishes(), n, d, k)
    spec = plan.searcher("auto", k)
    small, _ = _extrapolated(plan.searcher("auto", size), d, size)
    large, _ = _extrapolated(spec, d, k)
    other = max(total - searched * count * small, 0.2 * total) / count
    distances = (searched * spec.distances(k) + planned.candidates * visits) / max(1, km.n_iter_)
    return Estimate(
        index="auto",
        distances=distances,
        operations=2.0 * d * distances * n * km.n_iter_,
        memory=_memory(n, d, k, planned.candidates),
        seconds_pass=n * large,
        seconds=n * (other + searched * large),
    )
