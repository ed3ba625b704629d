"""First use, and use beside other work.

From the start of a process to labels; the first fit against the tenth; exact passes, and predictions of one row, while
other processes keep the cores busy.

python -m bench first [--seeds 3] [--only start,tenth,busy,row]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pool
from typing import Any

import numpy as np

from bench.harness import (
    Record,
    about,
    do,
    done,
    grouped,
    markdown,
    parsed,
    parser,
    publish,
    reasons,
    run_all,
    slug,
    task,
    three,
)

KINDS = ("start", "tenth", "busy", "row")
STARTS = {
    "digits, k=10": "from sklearn.datasets import load_digits; x, k = load_digits().data, 10",
    "20,000 x 384, k=100": "import numpy; x, k = numpy.random.default_rng(0).standard_normal((20000, 384), 'f'), 100",
}
PACKAGES = {"fastann": "fastann", "scikit-learn": "sklearn.cluster"}
TENTH = {"20,000 x 384, k=100": (20_000, 384, 100), "300,000 x 128, k=8,192": (300_000, 128, 8192)}
BUSY = {
    "patches, k=1,000": (265_860, 192, 1000),
    "pixels 546,560 x 3, k=256": (546_560, 3, 256),
    "200,000 x 8, k=256": (200_000, 8, 256),
}
CASES: dict[str, dict[str, Any]] = {
    "start": STARTS,
    "tenth": TENTH,
    "busy": BUSY,
    "row": {"k=1,000": (20_000, 16, 1000)},
}
OTHERS = {"start": ["scikit-learn"], "row": ["scikit-learn"], "busy": ["faiss.Kmeans", "even shares"], "tenth": []}
BESIDE = "import time\nend = time.time() + 600\nwhile time.time() < end: pass"
SMALL = {"seeds": 1, "shrink": 100}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other processes that only compute."""
    others = [subprocess.Popen([sys.executable, "-c", BESIDE]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@task
def one(order: Record) -> Record:
    """Carry out one order: seconds, in the unit of its kind."""
    return {"seconds": {"start": start, "tenth": tenth, "busy": beside, "row": row}[order["kind"]](order)}


def start(order: Record) -> list[float]:
    """From the start of a process, in an empty home, to labels: the first and the second process."""
    code = STARTS[order["case"]] + f"; from {PACKAGES[order['method']]} import KMeans"
    code += f"; KMeans(k, random_state=0).fit(x[:: {order['shrink']}]).labels_[0]"
    with tempfile.TemporaryDirectory() as home:
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), home)
        command = [sys.executable, "-c", code]
        return [timed(lambda: subprocess.run(command, env=os.environ | places, check=True)) for _ in range(2)]


def timed(work: Any) -> float:
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def tenth(order: Record) -> list[float]:
    """Ten fits of one process."""
    from fastann import KMeans

    n, d, k = order["shape"]
    rng = np.random.default_rng(order["seed"])
    x = rng.standard_normal((k, d), dtype="f")[rng.integers(k, size=n)] + rng.standard_normal((n, d), dtype="f")
    return [timed(lambda: KMeans(k, random_state=0, max_iter=8).fit(x)) for _ in range(10)]


def beside(order: Record) -> list[float]:
    """Three exact passes and their means, alone and then beside others; the best of each three."""
    n, d, k = order["shape"]
    if d == 192:
        from fastann.data.patches import patches

        x = patches()[:n]
    else:
        x = (128 + 40 * np.random.default_rng(order["seed"]).standard_normal((n, d))).astype(np.float32)
    first = x[np.random.default_rng(order["seed"]).choice(n, k, replace=False)].copy()
    work = passes_of(order["method"], x, first, order["threads"])
    work()
    alone = min(timed(work) for _ in range(3))
    with busy(2):
        return [alone, statistics.median(timed(work) for _ in range(5))]


def share(number: int) -> int:
    """Some milliseconds of one core."""
    return sum(range(100_000 + number))


def passes_of(method: str, x: np.ndarray, first: np.ndarray, threads: int) -> Any:
    """Three iterations of Lloyd from the rows `first`; "even shares" is work that parallelises perfectly.

    Beside as many busy processes as there are cores, even shares take twice their time: no program that keeps all cores
    busy can be slowed less, and one that is runs on one core for a part of its time.
    """
    if method == "even shares":
        workers = Pool(threads)
        return lambda: workers.map(share, range(100 * threads), chunksize=1)
    if method == "fastann":
        from fastann import KMeans

        k = len(first)
        km = KMeans(k, index="flat", init=first, max_iter=3, tol=0, n_jobs=threads)
        return lambda: km.fit(x)
    import faiss

    faiss.omp_set_num_threads(threads)
    km = faiss.Kmeans(x.shape[1], len(first), niter=3, max_points_per_centroid=len(x), seed=1)
    return lambda: km.train(x, init_centroids=first)


def row(order: Record) -> list[float]:
    """Prediction of one row, alone and at load 4; medians of 200."""
    n, d, k = order["shape"]
    x = np.random.default_rng(order["seed"]).standard_normal((n, d), dtype="f")
    module = __import__(PACKAGES[order["method"]], fromlist=["KMeans"])
    km = module.KMeans(k, random_state=0, max_iter=2).fit(x)

    def median() -> float:
        return statistics.median(timed(lambda i=i: km.predict(x[i : i + 1])) for i in range(min(200, n)))

    alone = median()
    with busy(4):
        return [alone, median()]


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """Methods take turns, seed by seed."""
    shrink = args.shrink
    for seed in range(args.seeds):
        for kind in args.only.split(","):
            for case, shape in CASES[kind].items():
                for method in ["fastann", *OTHERS[kind]]:
                    order = {"kind": kind, "case": case, "method": method, "seed": seed, "shrink": shrink} | about(args)
                    if isinstance(shape, tuple):
                        n, d, k = shape
                        order["shape"] = (max(400, n // shrink), d, max(4, k // shrink))
                    yield f"{kind}_{slug(case)}_{slug(method)}_seed={seed}", order


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """A line for each case: seconds of both, and the ratio that matters."""
    lines = []
    for (kind, case), some in sorted(grouped(done(records), "kind", "case").items()):
        for method, rows in grouped(some, "method").items():
            found = np.median([r["seconds"] for r in rows], axis=0)
            each = [r["seconds"][-1] / r["seconds"][0] for r in rows]  # of one run: its conditions are the same
            told = f"{np.median(each if kind in ('busy', 'row') else 1 / np.array(each)):.2f}"
            lines.append([kind, case, method, three(found[0]), three(found[-1]), told])
    head = ["what", "case", "method", "first process, first fit, or alone", "second, tenth, or beside others", "ratio"]
    parts = [markdown(head, lines), reasons(lambda r: r["case"], records)]
    publish(args.out, records, "# First use, and beside others", parts)


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("first", __doc__, seeds=3)
    options.add_argument("--only", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    options.set_defaults(shrink=1)
    args = parsed("first", options, argv, SMALL)
    do(args, lambda args: run_all(one, orders(args), args, lambda r: ", ".join(map(three, r["seconds"]))), report)
