"""One measured run in a process of its own: `run` starts it and keeps it within its limits, `main` is the process.

An order is a dict of plain values. The process reads it as JSON from its standard input, and answers on its standard
output in lines of JSON: the phase that begins ("load", "timed", "measure"), and in the end what was measured.
Whatever goes wrong, crash and lateness included, is an answer too.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastann import kernels, storage
from fastann.cluster import plan
from fastann.cluster.passes.every import label
from fastann.cluster.space import fit_space
from fastann.cluster.update import Rows
from fastann.data.source import ArraySource, Source
from fastann.index.base import Spec
from fastann.index.faiss import FaissIndex, faiss
from fastann.index.own import CellsIndex, FlatIndex
from fastann.index.recall import recall, wilson
from fastann.index.repair import search
from fastann.index.spec import IVF, Cells, Factory, Flat
from fastann.study import vanilla

COMMAND = [sys.executable, "-m", "fastann.study.worker"]
POLL = 0.1  # seconds between looks at a process
GRACE = 600.0  # seconds that loading, warming up and measuring may take beyond the time limit
POOLS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "BLIS", "VECLIB", "NUMEXPR")  # libraries with threads of their own
SILHOUETTE_ROWS = 5000
REPEAT_UP_TO = 2.0  # seconds of a search up to which it is done three times
PEERS = ("vanilla", "sklearn", "faiss")  # methods that are no index


# --------------------------------------------------------------------- starting a run


class LimitError(Exception):
    """A run that took more than it may."""


def run(order: dict[str, Any], *, time_limit: float | None = None, memory_limit: float | None = None) -> dict[str, Any]:
    """Do one run in a process of its own.

    Parameters
    ----------
    order : dict
        See `carry_out`.
    time_limit : float or None
        Seconds for the timed part; loading before it and measuring after it have `GRACE` more.
    memory_limit : float or None
        GiB of resident memory, data included; looked at ten times a second.

    Returns
    -------
    dict
        ``status`` ("done" or "failed"), ``error``, ``values``, ``series``.
    """
    environment = os.environ | {f"{pool}_NUM_THREADS": str(order["threads"]) for pool in POOLS}
    with tempfile.TemporaryFile() as errors:
        # A session of its own: Ctrl-C is for this process, which then ends the child.
        child = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin, child.stdout:
            try:
                with suppress(BrokenPipeError):  # it ended before reading; its exit code tells
                    child.stdin.write(json.dumps(order | {"parent": os.getpid()}).encode())
                    child.stdin.close()
                answer = _listen(child, child.stdout, time_limit, memory_limit)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=10)
            except LimitError as error:
                return _failed(str(error))
            finally:
                if child.poll() is None:
                    child.kill()
                child.wait()
        return _failed(_ending(child.returncode, errors)) if answer is None else answer


def _listen(
    child: subprocess.Popen, output: IO[bytes], time_limit: float | None, memory_limit: float | None
) -> dict[str, Any] | None:
    """Follow a run to its end, and return its answer if it gave one."""
    phase, since, rest = "load", time.monotonic(), b""
    while True:
        if select.select([output], [], [], POLL)[0]:
            said = os.read(output.fileno(), 2**16)
            if not said:
                return None
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "answer" in message:
                    return message["answer"]
                phase, since = message["phase"], time.monotonic()
        if time_limit is not None:
            allowed = time_limit if phase == "timed" else time_limit + GRACE
            if time.monotonic() - since > allowed:
                what = "took longer" if phase == "timed" else f"needed longer to {phase}"
                raise LimitError(f"{what} than {allowed:g} s; raise time_limit")
        if memory_limit is not None and _resident(child.pid) > memory_limit * 2**30:
            raise LimitError(f"needed more than {float(memory_limit)} GiB; raise memory_limit")


def _ending(code: int, errors: IO[bytes]) -> str:
    """Say how a process ended that gave no answer."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"crashed with {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return f"ended with exit code {code}" + (f": {lines[-1]}" if lines else "")


def _failed(error: str) -> dict[str, Any]:
    return {"status": "failed", "error": error, "values": {}, "series": {}}


# --------------------------------------------------------------------- memory of a process


def _resident(pid: int) -> int:
    """Bytes that a process has in memory now; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        pass
    if sys.platform.startswith("linux"):
        return 0
    done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True)
    return 1024 * int(done.stdout.strip() or 0)


def _peak() -> int:
    """Most bytes this process had in memory, since `_forget_peak` where that works (Linux)."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    """Start the peak anew, so that loading and warming up do not count."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what warming up left in the heap would hide what the run needs
        Path("/proc/self/clear_refs").write_text("5")


# --------------------------------------------------------------------- what is run


@dataclass
class Problem:
    """What is asked of a method: cluster the rows of `x` [n, d] into as many clusters as there are starting rows.

    `sample` is the number of rows to train on, None for all; all rows are labelled.
    """

    x: np.ndarray
    start: np.ndarray
    seed: int
    metric: str
    max_iter: int
    tol: float
    sample: int | None
    threads: int

    def training(self) -> np.ndarray:
        """The rows to train on, of the methods that know no samples."""
        if self.sample is None or self.sample >= len(self.x):
            return self.x
        return self.x[np.sort(np.random.default_rng([self.seed, 1]).choice(len(self.x), self.sample, replace=False))]


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


def _fit_own(p: Problem, index: str) -> Fitted:
    """Fit by this package, with any index."""
    from fastann import KMeans

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


def _fit_sklearn(p: Problem) -> Fitted:
    """Fit by scikit-learn's Lloyd; `tol` is its own, of the movement of centres."""
    from sklearn.cluster import KMeans

    x = p.training()
    km = KMeans(len(p.start), init=p.start, n_init=1, max_iter=p.max_iter, tol=p.tol, random_state=p.seed).fit(x)
    labels = km.labels_ if x is p.x else km.predict(p.x)
    return Fitted(km.cluster_centers_, labels, {"iterations": float(km.n_iter_)}, index=Flat())


def _fit_faiss(p: Problem) -> Fitted:
    """Fit by faiss.Kmeans; it always does `max_iter` iterations."""
    x = p.training()
    km = faiss().Kmeans(
        x.shape[1],
        len(p.start),
        niter=p.max_iter,
        seed=p.seed,
        spherical=p.metric == "cosine",
        min_points_per_centroid=1,
        max_points_per_centroid=2**31 // len(p.start),
    )
    km.train(x, init_centroids=p.start)
    labels = km.index.search(p.x, 1)[1][:, 0]
    steps, series = km.iteration_stats, {}
    if p.metric == "euclidean":  # of unit rows it sums cosines
        series = {"inertia": [s["obj"] / len(x) for s in steps], "seconds": [s["time"] for s in steps]}
    return Fitted(km.centroids, labels, {"iterations": float(len(steps))}, series, Flat())


FITS: dict[str, Callable[[Problem], Fitted]] = {"vanilla": _fit_vanilla, "sklearn": _fit_sklearn, "faiss": _fit_faiss}


def fit_by(method: str) -> Callable[[Problem], Fitted]:
    """What fits by a method: one of `PEERS`, "auto" or an index."""
    return FITS[method] if method in FITS else lambda p: _fit_own(p, method)


# --------------------------------------------------------------------- in the process


def carry_out(order: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """Do what an order says: load, warm up, time, measure.

    Parameters
    ----------
    order : dict
        ``task`` ("fit", "assign", "prepare"), ``path``, ``n`` (rows, of a permutation where that is not all),
        ``method``, ``n_clusters``, ``seed``, ``metric``, ``max_iter``, ``tol``, ``sample``, ``threads``;
        ``silhouette`` of a fit; ``centroids`` and ``truth`` (paths) of the other two.
    tell : callable
        Called with each phase as it begins.

    Returns
    -------
    dict
        ``status`` ("done"), ``error`` (""), ``values``, ``series``.
    """
    values, series = TASKS[order["task"]](order, tell)
    return {"status": "done", "error": "", "values": values, "series": series}


def _read(order: dict[str, Any]) -> np.ndarray:
    """The rows, in memory, as they are stored."""
    x = np.load(order["path"], mmap_mode="r", allow_pickle=False)
    if order["n"] < len(x):
        return x[np.sort(np.random.default_rng(0).permutation(len(x))[: order["n"]])]
    return np.array(x)


def _float32(source: Source) -> np.ndarray:
    """All rows of a source, in one piece."""
    if source.direct:
        return next(block for _, block in source.chunks(source.n))
    out = np.empty((source.n, source.d), np.float32)
    for start, block in source.chunks():
        out[start : start + len(block)] = block
    return out


def _fit(order: dict[str, Any], tell: Callable[[str], None]) -> tuple[dict, dict]:
    """Time a fit, then measure its centres against all rows."""
    method, k, seed = order["method"], order["n_clusters"], order["seed"]
    if method not in PEERS:
        check_options(method, k)
    x = _read(order)
    space, view = fit_space(ArraySource(x), order["metric"])
    picks = np.sort(np.random.default_rng([seed, 2]).choice(len(x), k, replace=False))
    start = view.take(picks) if order["metric"] == "cosine" else ArraySource(x).take(picks)
    if method in PEERS:  # these want float32, and know no cosine
        x = _float32(view if order["metric"] == "cosine" else ArraySource(x))
    asked = ("metric", "max_iter", "tol", "sample", "threads")
    problem = Problem(x, start, seed, **{name: order[name] for name in asked})
    fit = fit_by(method)
    _warm(fit, problem, method)
    _forget_peak()
    before = _resident(os.getpid())
    tell("timed")
    clock = time.perf_counter()
    fitted = fit(problem)
    seconds = time.perf_counter() - clock
    peak = _peak()
    tell("measure")
    values = {"seconds": seconds, **fitted.values, "peak_mib": max(0, peak - before) / 2**20}
    centroids = space.inward(_finite(fitted.centers))
    values |= _quality(view, centroids, order)
    if "recall" not in values:
        values |= _recall(*recall(view, fitted.labels.astype(np.int32), centroids, seed))
    if fitted.index is not None:
        count = distances(fitted.index.build(centroids), k)
        values |= {} if count is None else {"distances": count}
    return values, fitted.series


def _warm(fit: Callable[[Problem], Fitted], p: Problem, method: str) -> None:
    """Load and compile all a method will use, on a small part of the problem.

    This package chooses its way by the size of the problem, so its part is larger: enough work not to be taken for
    small, and, up to 4,096, as many clusters.
    """
    k = min(len(p.start), 256 if method in PEERS else 4096)
    n = max(4 * k, 16_384)
    if method not in PEERS:
        n = max(n, min(200_000, plan.SMALL * 2 // (k * p.x.shape[1]) + 1))
    with suppress(Exception):  # what fails here, but not on the whole problem, is no matter
        fit(replace(p, x=p.x[:n], start=p.start[:k], max_iter=3, sample=None))


def _finite(centers: np.ndarray) -> np.ndarray:
    bad = np.count_nonzero(~np.isfinite(centers).all(axis=1))
    if bad:
        raise ValueError(f"{bad} of {len(centers)} centres are not finite; the method failed on this data")
    return centers


def _quality(view: Source, centroids: np.ndarray, order: dict[str, Any]) -> dict[str, float]:
    """Measure centroids against all rows: exact nearest ones, distances summed in float64."""
    n, k = view.n, len(centroids)
    rows = Rows.new(n)
    inertia = label(view, rows, FlatIndex(centroids), centroids)
    sizes = np.bincount(rows.labels, minlength=k).astype(np.float64)
    values = {
        "inertia": inertia / n,
        "empty": float((sizes == 0).sum()),
        "imbalance": k * float(sizes @ sizes) / n**2,
    }
    if order.get("silhouette"):
        values |= _silhouette(view, rows.labels, order["metric"])
    return values


def _silhouette(view: Source, labels: np.ndarray, metric: str) -> dict[str, float]:
    from sklearn.metrics import silhouette_score

    size = min(view.n, SILHOUETTE_ROWS)
    picks = np.sort(np.random.default_rng(0).choice(view.n, size, replace=False))
    if not 2 <= len(np.unique(labels[picks])) < size:  # it is not defined then
        return {}
    return {"silhouette": float(silhouette_score(view.take(picks), labels[picks], metric=metric))}


def _recall(right: int, trials: int) -> dict[str, float]:
    low, high = wilson(right, trials)
    return {"recall": right / trials, "recall_low": low, "recall_high": high}


def distances(index: Any, k: int) -> float | None:
    """Distances that an index computes per row, where that can be told.

    Of cells: every cell's centre, and `nprobe` cells of a mean size weighted by size, as rows fall into large cells
    more often.
    """
    if index.exact:
        return float(k)
    if isinstance(index, CellsIndex):
        sizes, nprobe = np.diff(index.offsets), index.nprobe
    elif isinstance(index, FaissIndex) and index.nprobe is not None:
        cells = index.index.nlist
        sizes = np.array([index.index.invlists.list_size(cell) for cell in range(cells)])
        nprobe = index.nprobe
    else:
        return None
    return len(sizes) + min(float(k), nprobe * float((sizes.astype(np.float64) ** 2).sum()) / k)


def check_options(method: str, k: int) -> None:
    """Refuse options that an index would cut to the number of clusters: the run would not be what it is called."""
    spec = plan.choose_index(method, k)
    if isinstance(spec, IVF | Cells) and spec.nlist is not None:
        if spec.nlist > k:
            raise ValueError(f"nlist={spec.nlist} exceeds n_clusters={k}; take at most as many cells as clusters")
        if isinstance(spec.nprobe, int) and spec.nprobe > spec.nlist:
            raise ValueError(f"nprobe={spec.nprobe} exceeds nlist={spec.nlist}; search at most as many cells")


# --------------------------------------------------------------------- one search of fixed centroids


def _searched(order: dict[str, Any], view: Source) -> np.ndarray:
    """The rows that are searched, float32: all, or a sample that is the same in every run."""
    size = order["sample"]
    if size is None or size >= view.n:
        return _float32(view)
    return view.take(np.sort(np.random.default_rng(1).choice(view.n, size, replace=False)))


def _prepare(order: dict[str, Any], tell: Callable[[str], None]) -> tuple[dict, dict]:
    """Write the centroids of a short fit, and which of them is nearest to each row that will be searched."""
    from fastann import KMeans

    x = _read(order)
    km = KMeans(
        order["n_clusters"], metric=order["metric"], max_iter=10, n_jobs=order["threads"], random_state=order["seed"]
    ).fit(x)
    space, view = fit_space(ArraySource(x), order["metric"])
    truth = FlatIndex(space.inward(km.cluster_centers_)).search(_searched(order, view), 1)[0][:, 0]
    storage.write_array(order["centroids"], km.cluster_centers_)
    storage.write_array(order["truth"], truth)
    return {}, {}


def _builder(method: str, k: int, seed: int) -> Callable[[np.ndarray], tuple[Any, Callable[[np.ndarray], np.ndarray]]]:
    """What builds, over centroids, a method's index (None of a peer) and its search for the nearest one."""

    def own(centroids: np.ndarray) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
        index = plan.choose_index(method, k).build(centroids, seed=seed)
        return index, lambda x: search(index, x, 1, centroids)[0][:, 0]

    def sklearn(centroids: np.ndarray) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
        from sklearn.metrics import pairwise_distances_argmin

        return None, lambda x: pairwise_distances_argmin(x, centroids)

    def faiss_flat(centroids: np.ndarray) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
        index = faiss().IndexFlatL2(centroids.shape[1])
        index.add(centroids)
        return None, lambda x: index.search(x, 1)[1][:, 0]

    def textbook(centroids: np.ndarray) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
        return None, lambda x: vanilla.assign(x, centroids)[0]

    return {"vanilla": textbook, "sklearn": sklearn, "faiss": faiss_flat}.get(method, own)


def _assign(order: dict[str, Any], tell: Callable[[str], None]) -> tuple[dict, dict]:
    """Time building an index over fixed centroids and searching rows in it, then compare with the truth."""
    method, k = order["method"], order["n_clusters"]
    space, view = fit_space(ArraySource(_read(order)), order["metric"])
    centroids, truth = space.inward(np.load(order["centroids"])), np.load(order["truth"])
    x = _searched(order, view)
    if method not in PEERS:
        check_options(method, k)
    build = _builder(method, k, order["seed"])
    if not method.startswith(Factory.name):  # nothing to compile there, and some cannot train on fewer centroids
        build(centroids[:4096])[1](x[:4096])
    _forget_peak()
    before = _resident(os.getpid())
    tell("timed")
    clock = time.perf_counter()
    index, find = build(centroids)
    seconds_build = time.perf_counter() - clock
    find(x[:4096])
    times: list[float] = []
    while not times or (times[0] < REPEAT_UP_TO and len(times) < 3):
        clock = time.perf_counter()
        ids = find(x)
        times.append(time.perf_counter() - clock)
    peak = _peak()
    tell("measure")
    best = kernels.own_sqdist(x, centroids, truth)
    found = kernels.own_sqdist(x, centroids, ids.astype(np.int32))
    values = {
        "seconds": float(np.median(times)),
        "seconds_build": seconds_build,
        **_recall(int(np.count_nonzero(found <= best)), len(x)),  # a centroid equally near is right too
        "inertia": float(found.mean()),
        "relative_inertia": _over(float(found.sum()), float(best.sum())),
        "peak_mib": max(0, peak - before) / 2**20,
    }
    count = float(k) if method in PEERS else distances(index, k)
    return values | ({} if count is None else {"distances": count}), {}


def _over(value: float, base: float) -> float:
    return value / base - 1 if base > 0 else 0.0


TASKS: dict[str, Callable[..., tuple[dict, dict]]] = {"fit": _fit, "assign": _assign, "prepare": _prepare}


# --------------------------------------------------------------------- the process


def main() -> None:
    """Read an order, carry it out, answer."""
    order = json.load(sys.stdin)
    _die_with(order["parent"])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print is no answer

    def tell(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        answer = carry_out(order, lambda phase: tell({"phase": phase}))
    except Exception as error:
        answer = _failed(f"{type(error).__name__}: {' '.join(str(error).split())}")
    tell({"answer": _plain(answer)})


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Leave out values that are not finite: a metric that could not be computed is absent."""
    values = {name: float(value) for name, value in answer["values"].items() if np.isfinite(value)}
    return answer | {"values": values}


def _die_with(parent: int) -> None:
    """End this process when its parent does, however that ends."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):  # not Linux
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before that was set
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
