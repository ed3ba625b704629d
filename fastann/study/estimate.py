"""What a fit will cost before it is run: operations, memory and seconds, from a short calibration on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastann import checks, kernels
from fastann.cluster import plan
from fastann.cluster.clock import ITERATED, PHASES, in_words
from fastann.cluster.draw import draw_any
from fastann.cluster.memory import PER_CENTROID, Memory
from fastann.cluster.passes.bounded import Candidates
from fastann.cluster.passes.rows import Rows
from fastann.data.open import as_source
from fastann.data.source import Source, dense
from fastann.estimators.kmeans import KMeans
from fastann.index.base import Spec
from fastann.index.faiss import faiss_threads
from fastann.index.own import FlatIndex
from fastann.index.parse import parse_index
from fastann.index.spec import Flat, kinds
from fastann.study.results import fitted

SIZES = (1024, 4096)  # clusters at which searches are timed: two, so that fixed and growing costs come apart
ROWS = 16_384  # rows per timed search
FIT_ROWS, FIT_VALUES = 98_304, 2**26  # rows of the fits that are timed, and values of these at most
EACH = 64  # rows a cluster from which a smaller fit has as many clusters as the real one
FEWEST = 8  # rows a cluster that it has at least
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
        Floating-point operations of assignment, update and closing pass together.
    memory : float
        Bytes, with all rows in memory as float32: these, what a fit remembers of each (48 bytes in the automatic mode,
        8 with a given index and on small problems), and what it takes for the centroids.
    seconds_pass : float
        To search every row once.
    seconds : float
        Of the whole fit.
    operations_assign : float
        Of all iterations: two per coordinate and distance.
    operations_update : float
        Of all iterations: one per coordinate of a row that is added to a sum, or taken off one.
    operations_close : float
        Of the final labels: two per coordinate and distance.
    seconds_by_phase : dict of str to float
        Those of the whole fit, by the phases of `KMeans.seconds_`.
    """

    index: str
    distances: float
    operations: float
    memory: float
    seconds_pass: float
    seconds: float
    operations_assign: float = 0.0
    operations_update: float = 0.0
    operations_close: float = 0.0
    seconds_by_phase: dict[str, float] = field(default_factory=dict)


def estimate(
    rows: float | None = None,
    dims: int | None = None,
    n_clusters: int | None = None,
    *,
    data: Any = None,
    index: Any = None,
    iterations: int = 25,
    n_jobs: int | None = None,
) -> list[Estimate]:
    """Predict what fits of a given size will cost on this machine.

    Up to 98,304 rows, of `data` or made up, are clustered by the plan that the fit would have, into as many clusters
    where these have 64 rows each: what that took is scaled to all rows, phase by phase. Above, searches are timed at
    1,024 and 4,096 clusters, and the time of one is taken to be a constant plus a share of its distance computations
    (of their logarithm for HNSW).

    Parameters
    ----------
    rows : int or float, optional
        How many there will be; those of `data` when not given.
    dims : int, optional
        Their columns, the same.
    n_clusters : int
        Clusters to find.
    data : array, DataFrame, path or list of paths, optional
        Rows like those that will be clustered, or a part of them, dense: how soon a fit stops is in the rows. Made-up
        ones say it within a factor of 1.5 for embeddings; rows in clear groups take a half to a quarter of what these
        do.
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

    Raises
    ------
    ValueError
        If there are neither rows and dims nor `data`, `data` has other columns than dims, or fewer rows than clusters.
    """
    source = None if data is None else as_source(data, "data", sparse=False)
    shape = (None, None) if source is None else (source.n, source.d)
    n = int(checks.real(_size(rows, "rows", shape[0]), "rows", 1.0))
    d = int(checks.integer(_size(dims, "dims", shape[1]), "dims", 1))
    if source is not None and source.d != d:
        raise ValueError(f"data has {source.d} columns and dims is {d}; leave dims out to take those of data")
    if n_clusters is None:
        raise ValueError("n_clusters is needed: how many clusters the fit will find")
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
        x = _rows(_affordable(n, d), d, 3) if source is None else _drawn(source, _affordable(n, d))
        found = [
            _automatic(x, n, k, n_jobs) if isinstance(spec, str) else _indexed(spec, x, n, k, iterations, n_jobs)
            for spec in specs
        ]
    return sorted(found, key=lambda e: e.seconds)


HEADS = ("index", "distances a row", "operations", "assignment", "update", "closing", "memory", "a pass", "a fit")
SPARED = (
    "update",
    "closing",
    "assignment",
    "distances a row",
)  # columns that a narrow table does without, in this order


def table(found: list[Estimate], width: int | None = None) -> str:
    """Estimates as lines of text of at most `width` characters, and below these the seconds of each by phase."""
    cells = [
        [
            e.index,
            f"{e.distances:,.0f}",
            *(f"{of:.2g}" for of in (e.operations, e.operations_assign, e.operations_update, e.operations_close)),
            f"{e.memory / 2**30:.1f} GiB",
            *(_duration(seconds) for seconds in (e.seconds_pass, e.seconds)),
        ]
        for e in found
    ]
    longest = max(5, *(len(e.index) for e in found))
    phases = [f"{e.index:<{longest}}  {in_words(e.seconds_by_phase)}" for e in found]
    return "\n".join([fitted([[*HEADS], *cells], SPARED, width), "", "seconds of a fit by phase", *phases])


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"


def _size(given: float | None, name: str, of_data: int | None) -> float:
    """A size as it was given, else that of the data."""
    size = of_data if given is None else given
    if size is None:
        raise ValueError(f"{name} is needed where there is no data; give it, or data to take it from")
    return size


def _drawn(source: Source, count: int) -> np.ndarray:
    """Some rows of those that were given."""
    rng = np.random.default_rng(3)
    return dense(source.take(draw_any(source.n, min(count, source.n), rng)))


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
    """Made-up embeddings: a mixture whose sizes follow a power law and whose variance decays over the columns.

    As slowly (the fourth root) that fits take between those of embeddings of sentences, with more iterations, and of
    round blobs, with fewer.
    """
    rng, scale = np.random.default_rng(seed), (np.arange(1, d + 1) ** -0.25).astype(np.float32)
    centers = np.random.default_rng(0).standard_normal((2048, d), dtype=np.float32) * scale
    share = 1 / np.arange(1, 2049)
    x = centers[rng.choice(2048, count, p=share / share.sum())]
    x += centers[rng.integers(2048, size=count)] * np.float32(0.5)
    x += rng.standard_normal(x.shape, dtype=np.float32) * scale
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


def _searched(spec: Spec, d: int, k: int) -> tuple[float, float]:
    """Seconds to search a row, and to build the index, at any number of centroids."""
    spec.build(_rows(256, d, 2)).search(_rows(256, d, 1), 1)  # loads what is timed
    if k <= SIZES[1]:
        return _timed(spec, d, k)
    (low, _), (high, build_high) = (_timed(spec, d, size) for size in SIZES)
    work = [spec.distances(size) for size in (*SIZES, k)]
    slope = max(0.0, (high - low) / (work[1] - work[0])) if work[1] > work[0] else 0.0
    return max(high - slope * work[1], 0.0) + slope * work[2], build_high * spec.growth(SIZES[1], k)


# --------------------------------------------------------------------- smaller fits


@dataclass(frozen=True)
class _Trial:
    """A smaller fit that was made.

    Attributes
    ----------
    model : KMeans
    rows, clusters : int
    """

    model: KMeans
    rows: int
    clusters: int

    @classmethod
    def of(cls, x: np.ndarray, k: int, planned: plan.Plan, n_jobs: int | None, **parameters: Any) -> _Trial:
        """Fit some rows by a plan that was made for another problem, whose levels have been cut to these rows."""
        kind = type("KMeans", (KMeans,), {"_plan": lambda self, *args, **kwargs: planned, "__module__": __name__})
        return cls(kind(k, n_jobs=n_jobs, random_state=0, **parameters).fit(x), len(x), k)

    def __getitem__(self, phase: str) -> float:
        """Seconds of a phase."""
        return float(self.model.seconds_[phase])

    def mean(self, name: str) -> float:
        """What all iterations counted under a name, per row of the fit."""
        return float(sum(getattr(record, name) for record in self.model.history_) / self.rows)


def _affordable(n: int, d: int) -> int:
    """Rows of a smaller fit."""
    return int(min(n, FIT_ROWS, max(ROWS, FIT_VALUES // d)))


def _begun(x: np.ndarray, n: int, k: int, planned: plan.Plan, n_jobs: int | None) -> dict[str, float]:
    """Seconds before the first iteration, of `n` rows such as some in `k` clusters: those of these phases.

    A start is chosen from a sample, whose size goes by the clusters, after one look at all rows.
    """
    size = min(k, max(1, len(x) // FEWEST))
    trial = _Trial.of(x, size, replace(planned, spec=Flat(), candidates=0, levels=(len(x),)), n_jobs, max_iter=1)
    look = 0.0
    if n > len(x):
        index = FlatIndex(x[:16])
        index.search(x[:256], 1)
        clock = time.perf_counter()
        index.search(x, 1)
        look = (time.perf_counter() - clock) / len(x)
    return {
        "read": trial["read"] * n / len(x),
        "start": trial["start"] * k / size + look * (n - len(x)),
        "swaps": trial["swaps"] * k / size,
    }


def _audited(d: int, k: int, n: int) -> float:
    """Seconds to measure on a sample what labels and predictions miss."""
    sample: int = min(n, KMeans.limits.audited)
    return sample * _searched(Flat(), d, k)[0]


def _indexed(spec: Spec, x: np.ndarray, n: int, k: int, iterations: int, n_jobs: int | None) -> Estimate:
    d, distances = x.shape[1], spec.distances(k)
    search, build = _searched(spec, d, k)
    few = min(k, 64, len(x))
    trial = _Trial.of(x, few, plan.Plan(Flat(), levels=(len(x),)), n_jobs, init="random", max_iter=3, tol=0)
    update = trial["update"] / len(trial.model.history_) * n / len(x)
    seconds = _begun(x, n, k, plan.Plan(spec), n_jobs) | {
        "build": build * iterations,
        "assign": n * search * iterations,
        "update": update * iterations,
        "close": n * search + build + (0.0 if spec == Flat() else _audited(d, k, n)),
    }
    one = 2.0 * d * distances * n
    return _sum(
        index=str(spec),
        distances=distances,
        memory=_memory(n, d, k, candidates=0),
        seconds_pass=n * search,
        seconds=seconds,
        operations=(one * iterations, float(d) * n * iterations, one),
    )


def _sum(*, operations: tuple[float, float, float], seconds: dict[str, float], **rest: Any) -> Estimate:
    """An estimate of its parts."""
    assign, update, close = operations
    return Estimate(
        **rest,
        operations=sum(operations),
        seconds=sum(seconds.values()),
        operations_assign=assign,
        operations_update=update,
        operations_close=close,
        seconds_by_phase={phase: seconds.get(phase, 0.0) for phase in PHASES},
    )


def _automatic(x: np.ndarray, n: int, k: int, n_jobs: int | None) -> Estimate:
    """From a smaller fit by the same plan: with as many clusters if it has rows for these, else as many rows a cluster.

    Where it has as many clusters, all that goes by rows grows with these. Else the rows that were searched are taken
    out of its time, and put in at what a search costs among all clusters.
    """
    count, d = x.shape
    planned, more = plan.choose(plan.Wishes(), n, d, k), n / count
    same = count == n or k <= count // EACH
    size = k if same else int(np.clip(k / more, count // EACH, count // FEWEST))
    levels = tuple(max(size, round(level / more)) for level in planned.levels)
    fewer = replace(planned, levels=levels)
    if not same:
        fewer = replace(fewer, spec=plan.searcher("auto", size, d), swaps=False)
    KMeans(min(64, count), max_iter=2, n_jobs=n_jobs, random_state=0).fit(x[:4096])  # loads what is timed
    trial = _Trial.of(x, size, fewer, n_jobs, **({} if same else {"init": "random"}))
    seconds = {phase: trial[phase] * more for phase in (*ITERATED, "read", "close", "other")}
    seconds |= {phase: trial[phase] for phase in ("start", "swaps")} if same else {}
    if not same or n > count:
        seconds |= _begun(x, n, k, planned, n_jobs)
    search, build = _searched(planned.spec, d, k)
    visits, searched = trial.mean("rows"), trial.mean("searched")
    if not same:
        small, _ = _searched(fewer.spec, d, size)
        kept = max(trial["assign"] / count - searched * small, 0.2 * trial["assign"] / count)
        seconds["assign"] = n * (kept + searched * search)
        anew = 0.0 if type(fewer.spec) is type(planned.spec) else 3 + trial.model.n_iter_ / 4  # see `Upkeep`
        seconds["build"] = trial["build"] * k / size + anew * build
    audits = [_audited(d, number, rows) for number, rows in ((size, count), (k, n))]
    if fewer.candidates:
        seconds["close"] = more * max(trial["close"] - audits[0], 0.1 * trial["close"]) + audits[1]
    looked = trial.mean("looked") if fewer.candidates else 0.0
    found = looked * planned.candidates + (searched if fewer.candidates else visits) * planned.spec.distances(k)
    closing = planned.candidates or k
    moved = trial.mean("moved") * 2 if fewer.candidates else visits
    iterations = max(1, trial.model.n_iter_)
    return _sum(
        index="auto",
        distances=found / iterations,
        memory=_memory(n, d, k, planned.candidates),
        seconds_pass=n * search,
        seconds=seconds,
        operations=(2.0 * d * found * n, d * moved * n, 2.0 * d * closing * n),
    )
