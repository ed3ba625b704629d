"""Peak memory of each method against the data it clusters, each run in its own process.

python -m bench.memory [--rows 1000000 --columns 128 --k 1000] [--data FILE.npy] [--methods fastann,faiss] [--small]
python -m bench.memory report

Without a command it runs, then reports. A run leaves one JSON file, named by its configuration; what exists is
skipped, and failures are rows with their error. A run loads the rows as a float32 array, fits a few of them (so that
compiled code and libraries do not count), forgets the peak so far, then fits them all. Methods "from a file" are given
the path of a .npy file instead. Inertia is recomputed in float64 over all float32 rows, outside the timer.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import engine
from bench.engine import DONE, ROOT, Fitted, Problem
from bench.measure import (
    CACHE,
    MB,
    Peak,
    Record,
    about,
    answer,
    failures,
    markdown,
    median,
    memory,
    middle,
    page,
    reasons,
    run_all,
    three,
    turns,
)

SMALL = {"rows": 20_000, "columns": 32, "k": 64, "iterations": 2}


@dataclass(frozen=True)
class Method:
    """What is run: its name in the table, what `bench.engine` calls it, and the dtype in the file it reads, if any."""

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


# --------------------------------------------------------------------- one run, in its own process


def fit_file(path: Path, k: int, order: Record) -> Fitted:
    """Fit the rows of a file."""
    from fastann import KMeans

    km = KMeans(k, n_jobs=order["threads"], random_state=order["seed"]).fit(path)
    return Fitted(km.cluster_centers_, extra={"iterations": km.n_iter_})


def warm_file(rows: np.ndarray, k: int, order: Record) -> None:
    """Fit a small file, so that what reads and fits files is loaded and compiled."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "few.npy", rows)
        fit_file(Path(folder) / "few.npy", k, order)


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
    few, size = engine.small(name, p), rows.nbytes
    if wanted.file:
        warm_file(np.asarray(few.x, wanted.file), few.k, order)
        del rows, p, few  # what stays mapped would count as memory of files
        file = half(path) if wanted.file == "float16" else path
        with Peak(in_file=True) as peak:
            clock = time.perf_counter()
            fitted = fit_file(file, order["k"], order)
            seconds = time.perf_counter() - clock
    else:
        fit = engine.method(name)
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
        "inertia": engine.quality(np.load(path, mmap_mode="r"), fitted.centers)["inertia"],
    }


# --------------------------------------------------------------------- run


def half(path: Path) -> Path:
    """Name of the float16 copy of a float32 file."""
    return path.with_name(path.name.replace(".f32.npy", ".f16.npy"))


def write_half(path: Path) -> None:
    """Write the float16 copy of a float32 file, unless it is there."""
    copy, rows = half(path), np.load(path, mmap_mode="r")
    if copy.exists() and copy.stat().st_mtime >= path.stat().st_mtime:
        return
    part = copy.with_suffix(".part.npy")
    out = np.lib.format.open_memmap(part, "w+", np.float16, rows.shape)
    for i in range(0, len(rows), 65_536):
        out[i : i + 65_536] = rows[i : i + 65_536]
    out.flush()
    part.replace(copy)


def run(args: argparse.Namespace) -> None:
    """Make the data once, then all runs that do not exist yet."""
    data = args.data or f"mixture:{args.rows}:{args.columns}"
    path = engine.prepare(data, args.rows if args.data else None, args.cache)
    if "fastann-npy16" in args.methods:
        write_half(path)
    n, d = np.load(path, mmap_mode="r").shape
    case = {"data": engine.name_of(data), "n": n, "d": d, "k": args.k, "iterations": args.iterations}
    case |= {"path": str(path), "small": args.small} | about(args.threads)
    label = f"{engine.name_of(data)}_n={n}_k={args.k}_iterations={args.iterations}"
    orders = (
        (f"{label}_{method}_threads={args.threads}_seed={seed}", case | {"method": method, "seed": seed})
        for seed, method in turns(args.methods, args.repeats)
    )
    run_all("bench.memory", orders, args.out, args.timeout, args.redo)


# --------------------------------------------------------------------- report


HEAD = ["method", "extra memory, MB", "peak / data", "seconds", "iterations", "inertia per row", "measured by"]


def line(shown: str, done: list[Record]) -> list[str]:
    """A method's row of the table."""
    return [
        shown,
        middle(done, "extra", "{:,.0f}".format, MB),
        middle(done, "ratio", "{:.2f}".format),
        middle(done, "seconds"),
        middle(done, "passes", "{:.0f}".format),
        middle(done, "inertia", "{:.5g}".format),
        ", ".join(sorted({r["by"] for r in done})),
    ]


def finding(done: dict[str, list[Record]]) -> str:
    """One sentence: the defaults against the thriftiest peer that is given all rows."""
    peers = {m: median(rows, "extra") for m, rows in done.items() if rows and not m.startswith("fastann")}
    if not peers or not done.get("fastann"):
        return ""
    best = min(peers, key=lambda m: peers[m])
    mine, theirs = (f"{median(done[m], 'extra') / MB:,.0f} MB" for m in ("fastann", best))
    quick, slow = (f"{three(median(done[m], 'seconds'))} s" for m in ("fastann", best))
    return (
        f"fastann's automatic mode holds {mine} beyond the data and takes {quick}; the thriftiest peer, "
        f"{METHODS[best].shown}, holds {theirs} and takes {slow}."
    )


def report_case(key: tuple[Any, ...], records: list[Record]) -> str:
    """Setup, table and finding of one data set and k."""
    data, n, d, k, iterations = key
    by_method = {m: [r for r in records if r["method"] == m] for m in METHODS}
    done = {m: [r for r in rows if r["status"] == DONE] for m, rows in by_method.items()}
    lines = []
    for m, rows in by_method.items():
        lines += [line(METHODS[m].shown, done[m])] if done[m] else []
        lines += failures(METHODS[m].shown, rows, len(HEAD))
    seeds = len({r["seed"] for r in records})
    setup = (
        f"{data}: {n:,} x {d:,} rows of float32, {4 * n * d / MB:,.0f} MB; k={k:,}; {seeds} seed"
        f"{'s, medians with the range in brackets' if seeds > 1 else ''}. Methods with a number of iterations do "
        f"{iterations}; the automatic mode and MiniBatchKMeans stop by their own rules, so inertia is comparable "
        "among the others only."
    )
    why = reasons(lambda r: METHODS[r["method"]].shown, records)
    return "\n\n".join(filter(None, [setup, markdown(HEAD, lines), why, finding(done)]))


def report(args: argparse.Namespace) -> None:
    """Print the tables from the JSON files alone, and write them beside these."""
    note = (
        "Extra memory: peak of the process during the fit less what it held before (data and libraries); MB are 10^6 "
        "bytes. Peak / data: data in memory and extra together, over the bytes of the float32 rows; rows in a file are "
        "not in memory, so these methods can be below 1. VmHWM: the kernel's own peak, which misses nothing. RssAnon: "
        f"memory without pages of files, sampled every {1000 * Peak.EVERY:g} ms. Inertia is that of the float32 rows, "
        "also where a float16 file was read."
    )
    page(args.out, "bench.memory", "# Peak memory", report_case, ["data", "n", "d", "k", "iterations"], note)


# --------------------------------------------------------------------- command line


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("run", "report"), help="both, when not given")
    parser.add_argument("--rows", type=int, help="of the mixture, 1,000,000; of --data, all")
    parser.add_argument("--columns", type=int, default=128, help="of the mixture")
    parser.add_argument("--data", help="wordnet, tokens, patches or a .npy file instead of the mixture")
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=3, help="3: memory does not grow with them")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"by commas, of {', '.join(METHODS)}")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, with seeds from 0")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every method; all when not given")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds a run may take, loading included")
    parser.add_argument("--redo", action="store_true", help="run again what exists")
    parser.add_argument("--small", action="store_true", help="sizes that show that everything works")
    parser.add_argument("--out", type=Path, help="folder of the results; bench/results/memory, or -small")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the data")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # how `run` calls itself
    args = parser.parse_args()
    if args.one:
        answer(one, args.one)
        return
    args.methods = args.methods.split(",")
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        parser.error(f"no method is called {unknown[0]!r}; known are {', '.join(METHODS)}")
    if args.small:
        vars(args).update(SMALL)
    args.rows = args.rows if args.data else args.rows or 1_000_000
    args.out = args.out or ROOT / f"bench/results/memory{'-small' if args.small else ''}"
    if args.command != "report":
        run(args)
    if args.command != "run":
        report(args)


if __name__ == "__main__":
    main()
