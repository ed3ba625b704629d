"""A file larger than memory, clustered where it lies; and rows per second against the same in memory.

python -m bench outofcore make FILE.npy [--rows 26000000 --columns 192 --dtype float32]
python -m bench outofcore run FILE.npy [--k 4096] [--index auto] [--max-iter 25] [--max-memory 2GiB]
python -m bench outofcore run FILE.npy --in-memory --rows 5000000
python -m bench outofcore report

`make` writes rows of a seeded mixture, a part at a time. `run` fits the file by its path, whose pages that are cached
are dropped first, while a thread writes down memory and bytes read from disk every 50 ms. With `--in-memory` the first
rows are loaded and fitted instead. A report follows every run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import data, methods
from bench.harness import (
    GB,
    MB,
    Record,
    about,
    done,
    grouped,
    markdown,
    parsed,
    parser,
    publish,
    reasons,
    run_all,
    saved,
    task,
    three,
)
from bench.measures import Watch, memory, own
from fastann.study.process import forget_peak

GAP = 0.02  # seconds between iterations that are worth a row of the table
SMALL = {"k": 64}
SMALL_FILE = {"rows": 270_000, "columns": 64}  # enough that the automatic mode begins with a sample


# --------------------------------------------------------------------- the file


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
    clock = time.perf_counter()
    data.write_blocks(args.file, shape, dtype, data.overlapping(*shape, args.seed))
    print(f"{args.file.name}: {told}, written in {time.perf_counter() - clock:,.0f} s")


def forget_file(path: Path) -> None:
    """Have the kernel drop the cached pages of a file, so that reads are from disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())  # pages not yet written cannot be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# --------------------------------------------------------------------- one run


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


def settings_of(order: Record) -> dict[str, Any]:
    """Parameters of KMeans, those that were asked for."""
    given = {name: order[name] for name in ("index", "max_iter", "tol", "max_memory") if order[name] is not None}
    return given | {"n_jobs": order["threads"], "random_state": order["seed"]}


@task
def one(order: Record) -> Record:
    """Warm on the first rows, then fit the file, or its first rows in memory, and tell its course."""
    from fastann import KMeans

    path, k, settings = Path(order["path"]), order["k"], settings_of(order)
    mapped = np.load(path, mmap_mode="r")
    few = methods.small("fastann", methods.Problem(mapped, k, order["seed"], order["threads"]))
    KMeans(few.k, **settings | {"max_iter": 4}).fit(np.array(few.x, np.float32))
    x = np.array(mapped[: order["n"]], np.float32) if order["in_memory"] else path
    stored = str(mapped.dtype)
    del mapped, few
    forget_peak()  # trims the heap
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
    case = {"data": args.file.stem, "n": n, "d": d, "k": args.k, "in_memory": args.in_memory}
    case |= {name: getattr(args, name) for name in ("index", "max_iter", "tol", "max_memory")}
    label = f"{args.file.stem}_{'memory' if args.in_memory else 'file'}_n={n}_k={args.k}_{args.index}"
    label += "".join(
        f"_{name.replace('_', '-')}={case[name]}"
        for name in ("max_iter", "tol", "max_memory")
        if case[name] is not None
    )
    order = case | {"path": str(args.file.resolve())} | about(args)
    label += f"_threads={args.threads}"
    run_all(one, ((f"{label}_seed={seed}", order | {"seed": seed}) for seed in range(args.seeds)), args)


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


NOTE = (
    "Rows/s: rows trained on over the seconds of an iteration, whether it compared them or skipped those whose bounds "
    "hold; medians over iterations. Peak beyond page cache: the process's own memory (RssAnon, RssShmem), sampled "
    "every 50 ms, libraries included; peak resident has pages of the file too, which the kernel may drop at any time. "
    "From disk: all that was read and not in the page cache, from which the file's pages were dropped first. MB and GB "
    "are 10^6 and 10^9 bytes. Inertia is float64, of all rows to the centres of their labels, as the fit tells it."
)


def report(args: argparse.Namespace) -> None:
    """Print the tables from the JSON files alone, and write them beside these."""
    records = saved(args.out)
    if not records:
        print("no results yet; python -m bench outofcore run FILE.npy")
        return
    ended, out = done(records), []
    if ended:
        out += [f"The machine has {max(r['memory'] for r in ended) / GB:,.1f} GB of memory.", summary(ended)]
    out.append(reasons(shown, records))
    compared = []
    for rows in grouped(ended, "d", "k", "index", "threads").values():
        files, loaded = ([r for r in rows if r["in_memory"] is held] for held in (False, True))
        compared += [comparison(a, b) for a in files for b in loaded]
    out += ["## Rows per second against memory", *compared] if any(compared) else []
    out += ["## Courses", *map(course, ended)] if ended else []
    publish(args.out, records, "# A file larger than memory", [*out, NOTE])


# --------------------------------------------------------------------- command line


def making(argv: list[str]) -> argparse.Namespace:
    """Options of `make`."""
    options = argparse.ArgumentParser("python -m bench outofcore make")
    options.add_argument("file", type=Path)
    options.add_argument("--rows", type=int, default=26_000_000)
    options.add_argument("--columns", type=int, default=192)
    options.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--redo", action="store_true", help="write it again if it exists")
    options.add_argument("--small", action="store_true", help="sizes that show that everything works")
    args = options.parse_args(argv)
    vars(args).update(SMALL_FILE if args.small else {})
    return args


def main(argv: list[str]) -> None:
    """Command line."""
    if argv[:1] == ["make"]:
        make(making(argv[1:]))
        return
    options = parser("outofcore", __doc__, time_limit=6 * 3600)
    options.add_argument("file", type=Path, nargs="?", help="to fit, or to fit the first rows of")
    options.add_argument("--k", type=int, default=4096)
    options.add_argument("--index", default="auto")
    options.add_argument("--max-iter", type=int, help="on each sample, and on all rows; KMeans' own when not given")
    options.add_argument("--tol", type=float, help="as KMeans has it when not given")
    options.add_argument("--max-memory", help="that of KMeans, such as 2GiB; passed on only when given")
    options.add_argument("--in-memory", action="store_true", help="load rows as float32 first")
    options.add_argument("--rows", type=int, help="how many of the first rows, with --in-memory")
    args = parsed("outofcore", options, argv, SMALL)
    if args.command != "report":
        if args.file is None:
            raise SystemExit("name the file: python -m bench outofcore run FILE.npy")
        run(args)
    report(args)
