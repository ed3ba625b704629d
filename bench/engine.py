"""The automatic engine against its peers: method x data x k x seed, each run in its own process.

python -m bench.engine run --data wordnet --k 1024 --methods faiss-25,fastann,superkmeans-h5 --seeds 3
python -m bench.engine report
python -m bench.engine --self-check

`run` writes one JSON file per run, named by its configuration; what exists is skipped, and failures are rows
with their error. `report` reads those files alone. All rows are given to every method, all with the same
number of threads; methods take turns, seed by seed.

Methods (N is a number of iterations):

- ``faiss-N``, ``faiss-super-N``: faiss.Kmeans and faiss.SuperKmeans
- ``superkmeans-N``: flat; ``superkmeans-hR``: hierarchical with R refinements; with ``superkmeans-sq8-N``,
  ``superkmeans-rabitq-hR`` and so on in a compressed domain (sq8, lvq4, rabitq)
- ``sklearn-N``, ``sklearn-minibatch`` or ``sklearn-minibatch-BATCH``, ``sklearnex-N``, ``fastkmeans-N``
- ``fastann``: the automatic mode; ``fastann-INDEX``, such as fastann-flat; parameters of KMeans follow as in
  ``fastann-flat@max_iter=10@tol=0``
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import gc
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from bench import flat

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "wordnet": ROOT.parent / "shared/data/wordnet_117k_384.f16.npy",
    "tokens": ROOT.parent / "shared/data/tokens_300k_128.f16.npy",
}
METHODS = (
    "faiss-25,faiss-10,faiss-super-25,faiss-super-10,superkmeans-25,superkmeans-10,superkmeans-h0,superkmeans-h2,"
    "superkmeans-h5,superkmeans-sq8-10,superkmeans-sq8-h5,superkmeans-rabitq-10,superkmeans-rabitq-h5,sklearn-25,"
    "sklearn-10,sklearn-minibatch,sklearnex-25,sklearnex-10,fastkmeans-25,fastkmeans-10,fastann,fastann-flat"
)
PACKAGES = ("numpy", "faiss-cpu", "superkmeans", "scikit-learn", "scikit-learn-intelex", "fastkmeans", "torch", "numba")
THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "BLIS", "VECLIB", "NUMEXPR")
BLOCK = 8192  # rows whose float64 differences are held at once
MISSING, FAILED, DONE = "not installed", "failed", "done"


# --------------------------------------------------------------------- data


def slug(text: str) -> str:
    """Text that may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9_.=@-]+", "-", text).strip("-")


def name_of(data: str) -> str:
    """Short name of a data set: a path's stem, or what was typed."""
    return Path(data).stem if data.endswith(".npy") else data


def mixture(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Rows of a Gaussian mixture whose sizes follow a power law: float32 [n, d], in random order.

    Component r of n / 100 (at most 4,096) has a size in proportion to 1 / r. Variance decays over the
    directions, as it does in embeddings, and components overlap.
    """
    rng = np.random.default_rng(seed)
    m = max(2, min(4096, n // 100))
    share = 1.0 / np.arange(1, m + 1)
    scale = (np.arange(1, d + 1) ** -0.5).astype(np.float32)
    means = rng.standard_normal((m, d), dtype=np.float32) * scale
    owner = rng.choice(m, size=n, p=share / share.sum())
    x = np.empty((n, d), np.float32)
    for i in range(0, n, 65536):
        part = owner[i : i + 65536]
        x[i : i + 65536] = means[part] + rng.standard_normal((len(part), d), dtype=np.float32) * (0.5 * scale)
    return x


def read(data: str, rows: int | None) -> np.ndarray:
    """Read or make a data set as float32 [n, d]; with `rows`, that many, drawn with a fixed seed."""
    if data == "patches":
        from fastann.data.patches import patches

        x = patches()
    elif data.startswith("mixture:"):
        x = mixture(*(int(part) for part in data.split(":")[1:]))
    else:
        x = np.load(FILES.get(data, data), mmap_mode="r")
    if rows is not None and rows < len(x):
        x = x[np.sort(np.random.default_rng(0).choice(len(x), rows, replace=False))]
    return np.ascontiguousarray(x, np.float32)


def prepare(data: str, rows: int | None, cache: Path) -> Path:
    """Have a data set as a float32 file, made in another process: so a run's peak memory is the run's own."""
    path = cache / f"{slug(name_of(data))}{'' if rows is None else f'-rows{rows}'}.f32.npy"
    source = Path(FILES.get(data, data))
    if not path.exists() or (source.exists() and source.stat().st_mtime > path.stat().st_mtime):
        cache.mkdir(parents=True, exist_ok=True)
        order = {"data": data, "rows": rows, "path": str(path)}
        subprocess.run([sys.executable, "-m", "bench.engine", "prepare", json.dumps(order)], check=True)
    return path


# --------------------------------------------------------------------- methods


class NotInstalled(Exception):
    """A peer, or the part of it that is wanted, is not there."""


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
    """What is asked of a method: cluster all rows of `x` (float32 [n, d])."""

    x: np.ndarray
    k: int
    seed: int
    threads: int


def faiss_kmeans(p: Problem, kind: str, iterations: int) -> Fitted:
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
    clock = time.perf_counter()
    km.train(p.x)
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


def sklearn_kmeans(p: Problem, iterations: int) -> Fitted:
    """Run scikit-learn's KMeans: Lloyd, one random start."""
    from sklearn.cluster import KMeans

    km = KMeans(p.k, init="random", n_init=1, max_iter=iterations, tol=0, random_state=p.seed).fit(p.x)
    return Fitted(km.cluster_centers_, extra={"iterations": int(km.n_iter_)})


def minibatch(p: Problem, batch: int | None) -> Fitted:
    """Run scikit-learn's MiniBatchKMeans, one random start, its own stopping rule."""
    from sklearn.cluster import MiniBatchKMeans

    km = MiniBatchKMeans(p.k, init="random", n_init=1, batch_size=batch or 1024, random_state=p.seed).fit(p.x)
    return Fitted(km.cluster_centers_, extra={"iterations": int(km.n_iter_)})


def sklearnex(p: Problem, iterations: int) -> Fitted:
    """Run scikit-learn-intelex; it says in its log whether it fell back to scikit-learn."""
    from sklearnex.cluster import KMeans

    said: list[str] = []
    log, handler = logging.getLogger("sklearnex"), logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    km = KMeans(p.k, init="random", n_init=1, max_iter=iterations, tol=0, random_state=p.seed, n_jobs=p.threads).fit(
        p.x
    )
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
PEERS: list[tuple[str, Callable[..., Fitted]]] = [
    (r"faiss-(\d+)", lambda p, n: faiss_kmeans(p, "Kmeans", int(n))),
    (r"faiss-super-(\d+)", lambda p, n: faiss_kmeans(p, "SuperKmeans", int(n))),
    (
        r"superkmeans(?:-(sq8|lvq4|rabitq))?-(h?)(\d+)",
        lambda p, quantizer, h, n: superkmeans(p, quantizer, bool(h), int(n)),
    ),
    (r"sklearn-(\d+)", lambda p, n: sklearn_kmeans(p, int(n))),
    (r"sklearn-minibatch(?:-(\d+))?", lambda p, batch: minibatch(p, batch and int(batch))),
    (r"sklearnex-(\d+)", lambda p, n: sklearnex(p, int(n))),
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
    for pattern, fit in PEERS:
        found = re.fullmatch(pattern, name)
        if found:
            return lambda p: fit(p, *found.groups())
    raise ValueError(f"no method is called {name!r}; known are, for instance, {METHODS}")


def small(name: str, p: Problem) -> Problem:
    """Return a small problem that loads, and compiles, all a method will use.

    fastann chooses its way by the size of the problem, so its own is larger: enough work not to be taken for
    small, and, up to 4,096, as many clusters.
    """
    k = min(p.k, 4096 if name.startswith("fastann") else 256)
    n = max(4 * k, 16_384)
    if name.startswith("fastann"):
        n = max(n, min(200_000, 2**30 // (k * p.x.shape[1]) + 1))
    return Problem(p.x[:n], k, p.seed, p.threads)


# --------------------------------------------------------------------- one run, in its own process


def quality(x: np.ndarray, centers: np.ndarray) -> dict[str, float]:
    """Measure centres against all rows: exact nearest centres, distances summed in float64.

    Returns
    -------
    dict
        `inertia`, the mean squared distance; `empty`, clusters no row is nearest to; `imbalance`,
        k * sum(size^2) / n^2, which is 1 for equal sizes.
    """
    from fastann.index.own import FlatIndex

    if not np.isfinite(centers).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(centers).all(1))} centres are not finite")
    n, k = len(x), len(centers)
    index = FlatIndex(np.ascontiguousarray(centers, np.float32))
    wide = centers.astype(np.float64)
    total, sizes = 0.0, np.zeros(k, np.int64)
    for i in range(0, n, BLOCK):
        block = x[i : i + BLOCK]
        ids = index.search(block, 1)[0][:, 0]
        gap = block - wide[ids]
        total += float(np.einsum("ij,ij->", gap, gap))
        sizes += np.bincount(ids, minlength=k)
    imbalance = k * float((sizes.astype(np.float64) ** 2).sum()) / n**2
    return {"inertia": total / n, "empty": int((sizes == 0).sum()), "imbalance": imbalance}


def resident() -> int:
    """Bytes this process now has in memory."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux: the peak so far
        return peak()


def peak() -> int:
    """Most bytes this process has had in memory, since `forget_peak` where that works (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> bool:
    """Start the peak anew, so that loading and warming do not count; whether that worked."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what warming left in the heap would hide what the fit needs
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError, TypeError):
        return False
    return True


def one(order: dict[str, Any]) -> dict[str, Any]:
    """Do one run in this process: load, warm, time, then measure.

    Returns
    -------
    dict
        The order with `status` and, if done, what was measured: `seconds` of the fit alone; `peak_mb`
        and `extra_mb`, the peak of memory and how much it lies above what the process held before the fit
        (data and libraries); quality, by `quality`; `course`, with inertia per row.
    """
    x = np.load(order["path"])
    p = Problem(x, order["k"], order["seed"], order["threads"])
    fit = method(order["method"])
    try:
        fit(small(order["method"], p))
    except (ImportError, NotInstalled) as error:
        return order | {"status": MISSING, "error": str(error)}
    since = forget_peak()
    before = resident()
    clock = time.perf_counter()
    fitted = fit(p)
    seconds = time.perf_counter() - clock
    most = peak()
    if fitted.centers.shape != (p.k, x.shape[1]):
        raise ValueError(f"centres of shape {fitted.centers.shape}, wanted {(p.k, x.shape[1])}")
    return order | {
        "status": DONE,
        "seconds": seconds,
        "peak_mb": most / 2**20,
        "extra_mb": max(0, most - before) / 2**20,
        "extra_is_exact": since,
        **quality(x, fitted.centers),
        "course": [(float(s), float(i) / len(x)) for s, i in fitted.course],
        "extra": fitted.extra,
    }


def one_guarded(order: dict[str, Any]) -> dict[str, Any]:
    """Do one run; whatever goes wrong is a row too."""
    try:
        return one(order)
    except Exception as error:
        trace = traceback.format_exc().splitlines()[-12:]
        return order | {"status": FAILED, "error": f"{type(error).__name__}: {error}", "trace": trace}


# --------------------------------------------------------------------- run


def versions() -> dict[str, str]:
    """Versions of what takes part, and the commit of this package."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        found["fastann"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["fastann"] = importlib.metadata.version("fastann")
    return found


def processor() -> str:
    """Name of the processor."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def in_its_own_process(order: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Do one run in a child with the threads asked for; crashes and lateness are rows."""
    env = os.environ | {f"{library}_NUM_THREADS": str(order["threads"]) for library in THREADS}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "bench.engine", "one", json.dumps(order | {"answer": str(answer)})]
        try:
            done = subprocess.run(
                command,
                env=env,
                timeout=timeout,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            return order | {"status": FAILED, "error": f"not done after {timeout:g} s"}
        if answer.exists():
            return json.loads(answer.read_text())
        trace = done.stderr.splitlines()[-12:]
        return order | {"status": FAILED, "error": f"ended with exit code {done.returncode}", "trace": trace}


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1))
    part.replace(path)


def run(args: argparse.Namespace) -> None:
    """Make all runs that do not exist yet; the methods take turns, in another order for each seed."""
    methods = args.methods.split(",")
    for name in methods:
        method(name)
    args.out.mkdir(parents=True, exist_ok=True)
    about = {
        "run": f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}",
        "threads": args.threads,
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    for data in args.data.split(","):
        path = prepare(data, args.rows, args.cache)
        n, d = np.load(path, mmap_mode="r").shape
        for k in map(int, args.k.split(",")):
            for seed in range(args.seeds):
                turn = seed % len(methods)
                for name in methods[turn:] + methods[:turn]:
                    rows = "all" if args.rows is None else args.rows
                    label = f"{slug(name_of(data))}_rows={rows}_k={k}_{slug(name)}_threads={args.threads}_seed={seed}"
                    file = args.out / f"{label}.json"
                    if file.exists() and not args.redo:
                        continue
                    order = {"data": name_of(data), "n": n, "d": d, "k": k, "method": name, "seed": seed}
                    record = in_its_own_process(order | {"path": str(path)} | about, args.timeout)
                    write(file, record)
                    told = (
                        f"{record['seconds']:.2f} s, inertia {record['inertia']:.6g}"
                        if record["status"] == DONE
                        else f"{record['status']}: {record['error']}"
                    )
                    print(f"{label}: {told}", file=sys.stderr, flush=True)


# --------------------------------------------------------------------- report


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Lay out a table: the first column to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    out = []
    for line in lines:
        cells = [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(out)


def time_to(record: dict[str, Any], target: float) -> float:
    """Seconds after which a run had an inertia of at most `target`; infinite if never.

    By the course where the method tells it; the end of the fit counts with the exact inertia.
    """
    course = [*record["course"], (record["seconds"], record["inertia"])]
    return min((seconds for seconds, inertia in course if inertia <= target), default=math.inf)


def family(name: str) -> str:
    """A method without its number of iterations: what a time to target may choose among."""
    return re.sub(r"(\d+)$", "*", name) if re.search(r"(^|-)h?\d+$", name) else name


def speedups(mine: list[dict], reference: list[dict]) -> tuple[list[float], bool]:
    """Ratios of the reference's seconds to a method's, seed by seed; and whether all pairs are of one run each."""
    by_seed = {record["seed"]: record for record in reference}
    pairs = [(record, by_seed[record["seed"]]) for record in mine if record["seed"] in by_seed]
    return [b["seconds"] / a["seconds"] for a, b in pairs], all(a["run"] == b["run"] for a, b in pairs)


def report_case(records: list[dict], reference_name: str, factors: list[float]) -> str:
    """Tables of one data set, k and number of threads."""
    by_method: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        by_method[record["method"]].append(record)
    done = {name: [r for r in rows if r["status"] == DONE] for name, rows in by_method.items()}
    reference = done.get(reference_name, [])
    bar = statistics.mean(r["inertia"] for r in reference) if reference else None
    mixed = False
    lines = []
    order = sorted(done, key=lambda name: statistics.median(r["seconds"] for r in done[name]) if done[name] else 1e99)
    for name in order:
        rows = done[name]
        if not rows:
            continue
        ratios, same = speedups(rows, reference)
        mixed |= not same
        inertia = statistics.mean(r["inertia"] for r in rows)
        trained = [r["extra"]["trained"] for r in rows if "trained" in r["extra"]]
        lines.append(
            [
                name,
                f"{len(rows)}/{len(by_method[name])}",
                f"{statistics.median(r['seconds'] for r in rows):.2f}",
                f"{statistics.median(trained):.2f}" if trained else "",
                f"{statistics.median(ratios):.2f}{'' if same else '*'}" if ratios else "",
                f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "",
                f"{inertia:.6g}",
                f"{100 * (inertia / bar - 1):+.2f}%" if bar else "",
                f"{statistics.median(r['extra_mb'] for r in rows):.0f}",
                f"{statistics.median(r['peak_mb'] for r in rows):.0f}",
                f"{statistics.mean(r['empty'] for r in rows):.3g}",
                f"{statistics.mean(r['imbalance'] for r in rows):.3f}",
            ]
        )
    head = ["method", "seeds", "seconds", "trained", "x faster", "pairs", "inertia", "vs ref", "extra MB", "peak MB"]
    out = [table([*head, "empty", "imbalance"], lines)]
    if mixed:
        out.append("* pairs from different runs")
    if bar:
        out.append(f"\nSeconds to {', '.join(f'{f:g}' for f in factors)} times the mean inertia of {reference_name}:\n")
        out.append(table(["method", *(f"x {f:g}" for f in factors), "by"], targets(done, bar, factors)))
    for name, rows in by_method.items():
        for error in sorted({f"{r['status']}: {r['error']}" for r in rows if r["status"] != DONE}):
            out.append(f"{name}: {error}")
    return "\n".join(out)


def targets(done: dict[str, list[dict]], bar: float, factors: list[float]) -> list[list[str]]:
    """Lines of the table of times to target; median over seeds, with the seeds that got there if not all did.

    A method that tells its course has its own line. The others are taken together, over their numbers of
    iterations, and the fastest run that got there counts.
    """
    groups: dict[str, list[dict]] = defaultdict(list)
    for name, rows in done.items():
        for record in rows:
            groups[name if record["course"] else family(name)].append(record)
    lines = []
    for group, rows in groups.items():
        cells, first = [], []
        for factor in factors:
            best: dict[int, float] = defaultdict(lambda: math.inf)
            for record in rows:
                best[record["seed"]] = min(best[record["seed"]], time_to(record, factor * bar))
            reached = [seconds for seconds in best.values() if seconds < math.inf]
            part = "" if len(reached) == len(best) else f" ({len(reached)}/{len(best)})"
            cells.append(f"{statistics.median(reached):.2f}{part}" if reached else "never")
            first.append(statistics.median(reached) if reached else math.inf)
        by = "course" if rows[0]["course"] else f"{len({r['method'] for r in rows})} lengths"
        lines.append((first, [group, *cells, by]))
    return [line for _, line in sorted(lines, key=lambda pair: pair[0][::-1])]


def report(args: argparse.Namespace) -> None:
    """Print tables from the JSON files alone."""
    records = [json.loads(path.read_text()) for path in sorted(args.out.glob("*.json"))]
    cases: dict[tuple, list[dict]] = defaultdict(list)
    for record in records:
        cases[tuple(record[name] for name in ("data", "n", "d", "k", "threads", "processor"))].append(record)
    if not cases:
        print(f"no results in {args.out}; python -m bench.engine run")
    factors = [float(factor) for factor in args.targets.split(",")]
    for (data, n, d, k, threads, cpu), rows in sorted(cases.items()):
        print(f"\n{data}, {n:,} x {d}, k={k:,}; {threads} threads of {cpu}\n")
        print(report_case(rows, args.reference, factors))
    used = {f"{name} {version}" for record in records for name, version in record["versions"].items()}
    if used:
        print(f"\nVersions: {', '.join(sorted(used))}")
        print(
            "seconds: median over seeds of the fit; fastann's includes labels of all rows and their recall, and\n"
            f"trained is without; x faster: median ratio to {args.reference} by seed. inertia: mean over seeds of\n"
            "the exact mean squared distance. extra MB: peak above data and libraries. imbalance: 1 is equal sizes."
        )


# --------------------------------------------------------------------- command line


def self_check() -> None:
    """Compare `quality` with bench.flat.inertia and with sizes counted by hand."""
    x = mixture(5000, 24)
    centers = x[np.random.default_rng(1).choice(len(x), 60, replace=False)].copy()
    centers[7] = 1e3  # so far away that no row is nearest
    found, wanted = quality(x, centers), flat.inertia(x, centers)
    assert abs(found["inertia"] / wanted - 1) < 1e-12, (found, wanted)
    assert found["empty"] == 1, found
    pair = quality(np.array([[0.0], [0.1], [0.2], [9.0]], np.float32), np.array([[0.0], [9.0]], np.float32))
    assert pair["imbalance"] == 2 * (9 + 1) / 16, pair
    print(f"inertia {found['inertia']!r} here, {wanted!r} by bench.flat; sizes agree")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-check", action="store_true", help="check the measuring itself on a small case")
    commands = parser.add_subparsers(dest="command", metavar="{run,report}")
    sub = commands.add_parser("run", help="make the runs that do not exist yet")
    sub.add_argument("--data", default="wordnet", help="wordnet, tokens, patches, mixture:N:D, .npy files; by commas")
    sub.add_argument("--k", default="1024", help="numbers of clusters, separated by commas")
    sub.add_argument("--methods", default=METHODS, help="by commas; all of them when not given")
    sub.add_argument("--seeds", type=int, default=3, help="runs of each, with seeds from 0")
    sub.add_argument("--rows", type=int, help="only this many rows, drawn with a fixed seed")
    sub.add_argument("--threads", type=int, default=os.cpu_count(), help="for every method; all cores when not given")
    sub.add_argument("--timeout", type=float, default=3600, help="seconds a run may take, loading included")
    sub.add_argument("--redo", action="store_true", help="run again what exists")
    sub.add_argument("--out", type=Path, default=Path("bench/results"))
    sub.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "fastann-bench", help="for the data")
    sub = commands.add_parser("report", help="print tables from the results")
    sub.add_argument("--out", type=Path, default=Path("bench/results"))
    sub.add_argument("--reference", default="faiss-25", help="method the others are compared with")
    sub.add_argument("--targets", default="1.01,1.005,1", help="inertia to reach, relative to the reference's mean")
    for name in ("one", "prepare"):  # how `run` calls itself
        commands.add_parser(name).add_argument("order", type=json.loads)
    args = parser.parse_args()
    if args.self_check:
        self_check()
    elif args.command == "run":
        run(args)
    elif args.command == "report":
        report(args)
    elif args.command == "one":
        answer = Path(args.order.pop("answer"))
        write(answer, one_guarded(args.order))
    elif args.command == "prepare":
        path = Path(args.order["path"])
        part = path.with_suffix(".part.npy")
        np.save(part, read(args.order["data"], args.order["rows"]))
        part.replace(path)
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
