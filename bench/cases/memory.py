"""Peak memory of each method against the data it clusters.

python -m bench memory [--rows 1000000 --columns 128 --k 1000] [--data FILE.npy] [--methods fastann,faiss] [--small]

A run loads the rows as a float32 array, fits a few of them (so that libraries do not count), forgets
the peak so far, then fits them all. Methods "from a file" are given the path of a .npy file instead. Inertia is
recomputed in float64 over all float32 rows, outside the timer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import data, methods
from bench.harness import (
    MB,
    Record,
    about,
    do,
    done,
    failures,
    grouped,
    markdown,
    median,
    middle,
    names,
    parsed,
    parser,
    publish,
    reasons,
    run_all,
    task,
    three,
    turns,
)
from bench.measures import Peak, memory, quality
from bench.methods import Fitted, Problem

SMALL = {"rows": 20_000, "columns": 32, "k": 64, "iterations": 2}


@dataclass(frozen=True)
class Method:
    """What is run: its name in the table, what `bench.methods` calls it, and the dtype in the file it reads, if any."""

    shown: str
    name: str
    file: str | None = None


METHODS = {
    "fastann": Method("fastann, auto", "fastann"),
    "fastann-flat": Method("fastann, flat", "fastann-flat@max_iter={iterations}@tol=0"),
    "fastann-ivf": Method("fastann, ivf", "fastann-ivf@max_iter={iterations}@tol=0"),
    "fastann-hnsw": Method("fastann, hnsw", "fastann-hnsw@max_iter={iterations}@tol=0"),
    "fastann-npy": Method("fastann, auto, from a float32 file", "fastann", "float32"),
    "fastann-npy16": Method("fastann, auto, from a float16 file", "fastann", "float16"),
    "faiss": Method("faiss.Kmeans, all rows", "faiss-{iterations}"),
    "sklearn": Method("scikit-learn KMeans, lloyd", "sklearn-{iterations}"),
    "sklearn-minibatch": Method("scikit-learn MiniBatchKMeans", "sklearn-minibatch"),
    "superkmeans": Method("superkmeans", "superkmeans-{iterations}"),
    "fastkmeans": Method("fastkmeans", "fastkmeans-{iterations}"),
}


# --------------------------------------------------------------------- one run


def fit_file(path: Path, k: int, order: Record) -> Fitted:
    """Fit the rows of a file."""
    from fastann import KMeans

    km = KMeans(k, n_jobs=order["threads"], random_state=order["seed"]).fit(path)
    return Fitted(km.cluster_centers_, extra={"iterations": km.n_iter_})


def warm_file(rows: np.ndarray, k: int, order: Record) -> None:
    """Fit a small file, so that what reads and fits files is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "few.npy", rows)
        fit_file(Path(folder) / "few.npy", k, order)


@task
def one(order: Record) -> Record:
    """Load, warm, fit with an eye on memory, then measure the centres.

    Returns
    -------
    dict
        `seconds` of the fit, `extra` bytes at its peak beyond what was held before, `by` what these were measured,
        `held` bytes of the data in memory (none from a file), `ratio` of both together to the float32 rows,
        `passes` (iterations done) where the method tells, `inertia` per row.
    """
    wanted, path = METHODS[order["method"]], Path(order["path"])
    name = wanted.name.format(iterations=order["iterations"])
    rows = np.load(path, mmap_mode="r" if wanted.file else None)
    p = Problem(rows, order["k"], order["seed"], order["threads"])
    few, size = methods.small(name, p), rows.nbytes
    if wanted.file:
        warm_file(np.asarray(few.x, wanted.file), few.k, order)
        del rows, p, few  # what stays mapped would count as memory of files
        file = data.half(path) if wanted.file == "float16" else path
        with Peak(in_file=True) as peak:
            clock = time.perf_counter()
            fitted = fit_file(file, order["k"], order)
            seconds = time.perf_counter() - clock
    else:
        fit = methods.method(name)
        fit(few)
        with Peak() as peak:
            clock = time.perf_counter()
            fitted = fit(p)
            seconds = time.perf_counter() - clock
    held = 0 if wanted.file else size
    return {
        "seconds": seconds,
        "passes": fitted.extra.get("iterations"),
        "bytes": size,
        "held": held,
        "extra": peak.extra,
        "ratio": (held + peak.extra) / size,
        "by": peak.by,
        "resident": memory()["VmHWM"],
        "inertia": quality(np.load(path, mmap_mode="r"), fitted.centers)["inertia"],
    }


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """All runs; the methods take turns, in another order for each seed."""
    name = args.data or f"mixture:{args.rows or 1_000_000}:{args.columns}"
    path = data.prepared(name, args.cache, args.rows if args.data else None)
    if "fastann-npy16" in args.methods:
        data.write_half(path)
    n, d = np.load(path, mmap_mode="r").shape
    case = {"data": data.name_of(name), "n": n, "d": d, "k": args.k, "iterations": args.iterations}
    case |= {"path": str(path)} | about(args)
    label = f"{case['data']}_n={n}_k={args.k}_iterations={args.iterations}"
    for seed, _, method in turns(args.methods, args.seeds):
        yield f"{label}_{method}_threads={args.threads}_seed={seed}", case | {"method": method, "seed": seed}


# --------------------------------------------------------------------- report


HEAD = ["method", "extra memory, MB", "peak / data", "seconds", "iterations", "inertia per row", "measured by"]


def line(shown: str, rows: list[Record]) -> list[str]:
    """A method's row of the table."""
    return [
        shown,
        middle(rows, "extra", "{:,.0f}".format, MB),
        middle(rows, "ratio", "{:.2f}".format),
        middle(rows, "seconds"),
        middle(rows, "passes", "{:.0f}".format),
        middle(rows, "inertia", "{:.5g}".format),
        ", ".join(sorted({r["by"] for r in rows})),
    ]


def finding(ended: dict[str, list[Record]]) -> str:
    """One sentence: the defaults against the thriftiest peer that is given all rows."""
    peers = {m: median(rows, "extra") for m, rows in ended.items() if rows and not m.startswith("fastann")}
    if not peers or not ended.get("fastann"):
        return ""
    best = min(peers, key=lambda m: peers[m])
    mine, theirs = (f"{median(ended[m], 'extra') / MB:,.0f} MB" for m in ("fastann", best))
    quick, slow = (f"{three(median(ended[m], 'seconds'))} s" for m in ("fastann", best))
    return (
        f"fastann's automatic mode holds {mine} beyond the data and takes {quick}; the thriftiest peer, "
        f"{METHODS[best].shown}, holds {theirs} and takes {slow}."
    )


def report_case(key: tuple[Any, ...], records: list[Record]) -> str:
    """Setup, table and finding of one data set and k."""
    name, n, d, k, iterations = key
    by_method = {m: [r for r in records if r["method"] == m] for m in METHODS}
    ended = {m: done(rows) for m, rows in by_method.items()}
    lines = []
    for m, rows in by_method.items():
        lines += [line(METHODS[m].shown, ended[m])] if ended[m] else []
        lines += failures(METHODS[m].shown, rows, len(HEAD))
    seeds = len({r["seed"] for r in records})
    setup = (
        f"{name}: {n:,} x {d:,} rows of float32, {4 * n * d / MB:,.0f} MB; k={k:,}; {seeds} seed"
        f"{'s, medians with the range in brackets' if seeds > 1 else ''}. Methods with a number of iterations do "
        f"{iterations}; the automatic mode and MiniBatchKMeans stop by their own rules, so inertia is comparable "
        "among the others only."
    )
    why = reasons(lambda r: METHODS[r["method"]].shown, records)
    return "\n\n".join(filter(None, [setup, markdown(HEAD, lines), why, finding(ended)]))


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print the tables from the JSON files alone, and write them beside these."""
    cases = grouped(records, "data", "n", "d", "k", "iterations")
    note = (
        "Extra memory: peak of the process during the fit less what it held before (data and libraries); MB are 10^6 "
        "bytes. Peak / data: data in memory and extra together, over the bytes of the float32 rows; rows in a file are "
        "not in memory, so these methods can be below 1. VmHWM: the kernel's own peak, which misses nothing. RssAnon: "
        f"memory without pages of files, sampled every {1000 * Peak.every:g} ms. Inertia is that of the float32 rows, "
        "also where a float16 file was read."
    )
    publish(args.out, records, "# Peak memory", [*(report_case(key, rows) for key, rows in cases.items()), note])


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("memory", __doc__)
    options.add_argument("--rows", type=int, help="of the mixture, 1,000,000; of --data, all")
    options.add_argument("--columns", type=int, default=128, help="of the mixture")
    options.add_argument("--data", help="wordnet, tokens, patches or a .npy file instead of the mixture")
    options.add_argument("--k", type=int, default=1000)
    options.add_argument("--iterations", type=int, default=3, help="3: memory does not grow with them")
    options.add_argument("--methods", default=",".join(METHODS), help=f"by commas, of {', '.join(METHODS)}")
    args = parsed("memory", options, argv, SMALL)
    args.methods = names(args.methods, METHODS, "method")
    do(args, lambda args: run_all(one, orders(args), args), report)
