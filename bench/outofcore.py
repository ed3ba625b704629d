"""A file larger than memory, clustered where it lies; and rows per second against the same in memory.

python -m bench.outofcore make FILE.npy [--rows 26000000 --columns 192 --dtype float32]
python -m bench.outofcore run FILE.npy [--k 4096] [--index auto] [--max-iter 25] [--max-memory 2GiB]
python -m bench.outofcore run FILE.npy --in-memory --rows 5000000
python -m bench.outofcore report

`make` writes rows of a seeded mixture, a part at a time. `run` fits the file by its path in a process of its own, whose
memory, and bytes read from disk, a thread writes down every 50 ms; pages of the file that are cached are dropped first.
With `--in-memory` the first rows are loaded and fitted instead. A run leaves one JSON file, named by its configuration;
what exists is skipped. `report`, which also follows every run, makes the tables from these files alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import engine
from bench.engine import DONE, ROOT
from bench.measure import (
    GB,
    MB,
    Record,
    about,
    answer,
    footing,
    grouped,
    markdown,
    memory,
    own,
    publish,
    reasons,
    run_all,
    saved,
    three,
)

BLOCK = 65_536  # rows made at once
CENTRES = 4000
EVERY = 0.05  # seconds between samples of memory
GAP = 0.02  # seconds between iterations that are worth a row of the table
SMALL = {"rows": 270_000, "columns": 64, "k": 64}  # enough that the automatic mode begins with a sample


# --------------------------------------------------------------------- data


def block(i: int, n: int, d: int, seed: int) -> np.ndarray:
    """Make rows from i * BLOCK on: float32 [at most BLOCK, d], of Gaussian clusters whose sizes fall as 1 / rank.

    Variance decays over the columns, as it does in embeddings, and clusters overlap. Every block has its own seed.
    """
    scale = (np.arange(1, d + 1) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(seed).standard_normal((CENTRES, d), dtype=np.float32) * scale
    share = np.cumsum(1 / np.arange(1, CENTRES + 1))
    rng = np.random.default_rng([seed, i])
    m = min(BLOCK, n - i * BLOCK)
    owner = np.searchsorted(share, share[-1] * rng.random(m))
    return centres[owner] + rng.standard_normal((m, d), dtype=np.float32) * (0.5 * scale)


def make(args: argparse.Namespace) -> None:
    """Write the file, block by block, whole or not at all."""
    shape, dtype = (args.rows, args.columns), np.dtype(args.dtype)
    size = shape[0] * shape[1] * dtype.itemsize
    told = f"{args.rows:,} x {args.columns} rows of {dtype}, {size / GB:,.1f} GB"
    if args.file.exists() and not args.redo:
        there = np.load(args.file, mmap_mode="r")
        if (there.shape, there.dtype) == (shape, dtype):
            print(f"{args.file.name} is there: {told}")
            return
        raise SystemExit(
            f"{args.file.name} exists with {there.shape[0]:,} x {there.shape[1]} rows of {there.dtype}, wanted {told}; "
            "name another file or pass --redo"
        )
    args.file.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(args.file.parent).free
    if free < size + GB // 10:
        raise SystemExit(f"{told} do not fit: {free / GB:,.1f} GB are free; pass fewer --rows, or --dtype float16")
    part, clock = args.file.with_suffix(".part"), time.perf_counter()
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        for i in range(-(-args.rows // BLOCK)):
            file.write(block(i, *shape, args.seed).astype(dtype, copy=False).data)
    part.replace(args.file)
    print(f"{args.file.name}: {told}, written in {time.perf_counter() - clock:,.0f} s")


def forget_file(path: Path) -> None:
    """Have the kernel drop the cached pages of a file, so that reads are from disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())  # pages not yet written cannot be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# --------------------------------------------------------------------- watching


def reading() -> tuple[int, int]:
    """Bytes that this process had fetched from disk, and bytes it asked for by read calls, as no mapped page is."""
    pairs = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(pairs["read_bytes"]), int(pairs["rchar"])


class Watch:
    """A thread that writes down, every 50 ms, memory and bytes read so far: columns of `course`, by the clock."""

    COLUMNS = ("clock", "anonymous", "file", "resident", "disk", "asked")

    def __enter__(self) -> Watch:
        self.samples = [self._sample()]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _sample(self) -> tuple[float, ...]:
        now = memory()
        return (time.perf_counter(), own(now), now["RssFile"], now["VmRSS"], *reading())

    def _watch(self) -> None:
        while not self.over.wait(EVERY):
            self.samples.append(self._sample())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.samples.append(self._sample())
        self.course = dict(zip(self.COLUMNS, np.array(self.samples).T, strict=True))

    def most(self, name: str) -> int:
        """Peak of a column."""
        return int(self.course[name].max())

    def between(self, name: str, begin: float, end: float) -> int:
        """How much a column grew from one time to another."""
        a, b = np.interp([begin, end], self.course["clock"], self.course[name])
        return int(b - a)


def steps(watch: Watch, ends: list[float], history: list[Any], began: float, ended: float) -> list[Record]:
    """What was done, in order: iterations, and what took time before, between and after them.

    An iteration's seconds are those it tells; what precedes it is looking at every row, drawing samples, the start.
    """
    out, last = [], began

    def add(what: str, begin: float, end: float, **more: Any) -> None:
        read = {name: watch.between(name, begin, end) for name in ("disk", "asked")}
        out.append({"what": what, "seconds": end - begin} | read | more)

    for end, record in zip(ends, history, strict=True):
        begin = max(last, end - sum(record.seconds.values()))
        if begin - last > GAP:
            add("looking at all rows, start" if last == began else "in between", last, begin)
        kept = {name: getattr(record, name) for name in ("rows", "looked", "searched", "moved", "inertia", "plan")}
        add("iteration", begin, end, number=record.iteration, phases=record.seconds, **kept)
        last = end
    add("labels and recall", last, ended)
    return out


# --------------------------------------------------------------------- one run, in its own process


def options(order: Record) -> dict[str, Any]:
    """Parameters of KMeans, those that were asked for."""
    given = {name: order[name] for name in ("index", "max_iter", "tol", "max_memory") if order[name] is not None}
    return given | {"n_jobs": order["threads"], "random_state": order["seed"]}


def one(order: Record) -> Record:
    """Warm on the first rows, then fit the file, or its first rows in memory, and tell its course."""
    from fastann import KMeans

    path, k, settings = Path(order["path"]), order["k"], options(order)
    mapped = np.load(path, mmap_mode="r")
    few = engine.small("fastann", engine.Problem(mapped, k, order["seed"], order["threads"]))
    KMeans(few.k, **settings | {"max_iter": 4}).fit(np.array(few.x, np.float32))
    x = np.array(mapped[: order["n"]], np.float32) if order["in_memory"] else path
    stored = str(mapped.dtype)
    del mapped, few
    engine.forget_peak()  # trims the heap
    forget_file(path)
    ends: list[float] = []
    km = KMeans(k, callback=lambda _: ends.append(time.perf_counter()), **settings)
    before = own(memory())
    with Watch() as watch:
        began = time.perf_counter()
        km.fit(x)
        ended = time.perf_counter()
    return {
        "stored": stored,
        "seconds": ended - began,
        "before": before,
        "anonymous": watch.most("anonymous"),
        "resident": watch.most("resident"),
        "disk": watch.between("disk", began, ended),
        "inertia": km.inertia_ / len(km.labels_),
        "recall": km.assignment_recall_,
        "stop_reason": str(km.stop_reason_),
        "steps": steps(watch, ends, km.history_, began, ended),
        "memory": int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }


def run(args: argparse.Namespace) -> None:
    """Make the run, unless it exists."""
    there = np.load(args.file, mmap_mode="r")
    n, d = there.shape
    if args.rows and not args.in_memory:
        raise SystemExit("--rows says how many to load, with --in-memory; a file is fitted whole")
    n = min(n, args.rows or n)
    case = {"data": args.file.stem, "n": n, "d": d, "k": args.k, "in_memory": args.in_memory, "seed": args.seed}
    case |= {name: getattr(args, name) for name in ("index", "max_iter", "tol", "max_memory", "small")}
    label = f"{args.file.stem}_{'memory' if args.in_memory else 'file'}_n={n}_k={args.k}_{args.index}"
    label += "".join(
        f"_{name.replace('_', '-')}={case[name]}"
        for name in ("max_iter", "tol", "max_memory")
        if case[name] is not None
    )
    label += f"_threads={args.threads}_seed={args.seed}"
    order = case | {"path": str(args.file.resolve())} | about(args.threads)
    run_all("bench.outofcore", [(label, order)], args.out, args.timeout, args.redo)


# --------------------------------------------------------------------- report


def shown(r: Record) -> str:
    """A run in words."""
    where = "in memory" if r["in_memory"] else "file"
    limit = "" if r["max_memory"] is None else f", max_memory={r['max_memory']}"
    most = "" if r["max_iter"] is None else f", max_iter={r['max_iter']}"
    return f"{r['data']}, {where}, {r['n']:,} x {r['d']} {r.get('stored', '')}, k={r['k']:,}, {r['index']}{most}{limit}"


def passes(r: Record, *, whole: bool) -> list[Record]:
    """Iterations over all rows, or those over samples."""
    return [s for s in r["steps"] if s["what"] == "iteration" and (s["rows"] == r["n"]) == whole]


def speed(step: Record) -> float:
    """Rows per second."""
    return step["rows"] / step["seconds"]


def typical(steps: list[Record]) -> str:
    """Median of rows per second, in thousands."""
    return f"{statistics.median(map(speed, steps)) / 1000:,.0f}" if steps else "-"


def summary(records: list[Record]) -> str:
    """Table of the runs."""
    head = [
        "run",
        "data, GB",
        "seconds",
        "peak beyond page cache, MB",
        "of which before the fit, MB",
        "peak resident, MB",
    ]
    head += ["from disk, GB", "iterations, samples + all rows", "thousand rows/s, samples", "thousand rows/s, all rows"]
    head += ["inertia per row", "recall"]
    lines = []
    for r in records:
        part, whole = passes(r, whole=False), passes(r, whole=True)
        size = r["n"] * r["d"] * (4 if r["in_memory"] else np.dtype(r["stored"]).itemsize)
        cells = [f"{size / GB:,.2f}", three(r["seconds"])]
        cells += [f"{r[name] / MB:,.0f}" for name in ("anonymous", "before", "resident")]
        cells += [f"{r['disk'] / GB:,.2f}", f"{len(part)} + {len(whole)}", typical(part), typical(whole)]
        lines.append([shown(r), *cells, f"{r['inertia']:.6g}", f"{r['recall']:.4f}"])
    return markdown(head, lines)


def course(r: Record) -> str:
    """Table of what one run did."""
    head = ["step", "rows", "looked at", "searched", "seconds", "thousand rows/s", "from disk, GB", "disk, GB/s"]
    lines = []
    for s in r["steps"]:
        name, cells = s["what"], ["-"] * 3
        if "rows" in s:
            name += f" {s['number']}"
            cells = [f"{s['rows']:,}", *(f"{s[part] / s['rows']:.0%}" for part in ("looked", "searched"))]
        cells += [three(s["seconds"]), typical([s]) if "rows" in s else "-"]
        lines.append([name, *cells, f"{s['disk'] / GB:,.2f}", f"{s['disk'] / GB / max(s['seconds'], 1e-9):.2f}"])
    return f"{shown(r)}; stopped: {r['stop_reason']}\n\n{markdown(head, lines)}"


def comparison(file: Record, loaded: Record) -> str:
    """Rows per second of iterations of the same number over all rows, from the file and in memory."""
    a, b = ({s["number"]: s for s in passes(r, whole=True)} for r in (file, loaded))
    common = sorted(a.keys() & b.keys())
    if not common:
        return ""
    lines = [
        [
            str(i),
            *(f"{speed(s[i]) / 1000:,.0f}" for s in (a, b)),
            *(f"{s[i]['searched'] / s[i]['rows']:.0%}" for s in (a, b)),
            f"{speed(a[i]) / speed(b[i]):.2f}",
        ]
        for i in common
    ]
    middles = [statistics.median(speed(s[i]) for i in common) for s in (a, b)]
    ratio = statistics.median(speed(a[i]) / speed(b[i]) for i in common)
    lines.append(["median", *(f"{m / 1000:,.0f}" for m in middles), "", "", f"{ratio:.2f}"])
    head = [
        "iteration over all rows",
        "file, thousand rows/s",
        "in memory",
        "file, searched",
        "in memory",
        "file / memory",
    ]
    return f"{shown(file)}, against {shown(loaded)}\n\n{markdown(head, lines)}"


def report(args: argparse.Namespace) -> None:
    """Print the tables from the JSON files alone, and write them beside these."""
    records = saved(args.out)
    if not records:
        print("no results yet; python -m bench.outofcore run FILE.npy")
        return
    done = [r for r in records if r["status"] == DONE]
    out = ["# A file larger than memory"]
    if any(r["small"] for r in records):
        out.append("**A run with --small: too small to conclude anything from.**")
    if done:
        out.append(f"The machine has {max(r['memory'] for r in done) / GB:,.1f} GB of memory.")
        out.append(summary(done))
    out.append(reasons(shown, records))
    compared = []
    for rows in grouped(done, "d", "k", "index", "threads").values():
        files, loaded = ([r for r in rows if r["in_memory"] is held] for held in (False, True))
        compared += [comparison(a, b) for a in files for b in loaded]
    out += ["## Rows per second against memory", *compared] if any(compared) else []
    out += ["## Courses", *map(course, done)] if done else []
    out.append(
        "Rows/s: rows trained on over the seconds of an iteration, whether it compared them or skipped those whose "
        "bounds hold; medians over iterations. Peak beyond page cache: the process's own memory (RssAnon, RssShmem), "
        "sampled every 50 ms, libraries included; peak resident has pages of the file too, which the kernel may drop "
        "at any time. From disk: all that was read and not in the page cache, from which the file's pages were dropped "
        "first. MB and GB are 10^6 and 10^9 bytes. Inertia is float64, of all rows to the centres of their labels, as "
        "the fit tells it."
    )
    publish(args.out, [part for part in [*out, footing(records)] if part])


# --------------------------------------------------------------------- command line


def main() -> None:
    """Command line."""
    if len(sys.argv) == 3 and sys.argv[1] == "--one":  # how `run` calls itself
        answer(one, json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{make,run,report}")
    sub = commands.add_parser("make", help="write the file")
    sub.add_argument("file", type=Path)
    sub.add_argument("--rows", type=int, default=26_000_000)
    sub.add_argument("--columns", type=int, default=192)
    sub.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--redo", action="store_true", help="write it again if it exists")
    small = {"action": "store_true", "help": "sizes that show that everything works"}
    sub.add_argument("--small", **small)
    sub = commands.add_parser("run", help="fit it, or its first rows in memory; then report")
    sub.add_argument("file", type=Path)
    sub.add_argument("--k", type=int, default=4096)
    sub.add_argument("--index", default="auto")
    sub.add_argument("--max-iter", type=int, help="on each sample, and on all rows; as KMeans has it when not given")
    sub.add_argument("--tol", type=float, help="as KMeans has it when not given")
    sub.add_argument("--max-memory", help="that of KMeans, such as 2GiB; passed on only when given")
    sub.add_argument("--in-memory", action="store_true", help="load rows as float32 first")
    sub.add_argument("--rows", type=int, help="how many of the first rows, with --in-memory")
    sub.add_argument("--threads", type=int, default=os.cpu_count())
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--timeout", type=float, default=6 * 3600, help="seconds")
    sub.add_argument("--redo", action="store_true", help="run again if the result exists")
    sub.add_argument("--small", **small)
    sub.add_argument("--out", type=Path, help="folder of the results; bench/results/outofcore, or -small")
    sub = commands.add_parser("report", help="make the tables")
    sub.add_argument("--out", type=Path)
    sub.add_argument("--small", **small)
    args = parser.parse_args()
    if args.command == "make":
        vars(args).update({name: SMALL[name] for name in ("rows", "columns")} if args.small else {})
        make(args)
        return
    args.out = args.out or ROOT / f"bench/results/outofcore{'-small' if args.small else ''}"
    if args.command == "run":
        args.k = SMALL["k"] if args.small else args.k
        run(args)
    report(args)


if __name__ == "__main__":
    main()
