"""The automatic engine against its peers: method x data x k x seed.

python -m bench engine run --data wordnet --k 1024 --methods faiss-25,fastann,superkmeans-h5 --seeds 3
python -m bench engine report

All rows are given to every method. Methods are those of bench/methods.py: faiss-25, superkmeans-h5, sklearn-minibatch,
fastann, fastann-flat@max_iter=10@tol=0 and so on.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from bench import data, methods
from bench.harness import (
    Record,
    about,
    do,
    done,
    footing,
    grouped,
    markdown,
    median,
    parsed,
    parser,
    reasons,
    run_all,
    slug,
    task,
    turns,
)
from bench.measures import quality
from fastann.study.process import forget_peak, peak, resident

SMALL = {"data": "mixture:20000:32", "k": "64", "methods": "faiss-25,fastann,fastann-flat", "seeds": 1}


@task
def one(order: Record) -> Record:
    """Do one run: load, warm, time, then measure.

    Returns
    -------
    dict
        `seconds` of the fit alone; `peak_mb` and `extra_mb`, the peak of memory and how much it lies above what the
        process held before the fit (data and libraries); quality, by `quality`; `course`, with inertia per row. With
        `start` in the order, methods begin from the same rows for a seed.
    """
    x, k, seed = np.load(order["path"]), order["k"], order["seed"]
    picks = np.random.default_rng(seed).choice(len(x), k, replace=False) if order.get("start") else None
    start = None if picks is None else np.ascontiguousarray(x[picks])
    p = methods.Problem(x, k, seed, order["threads"], start)
    fit = methods.method(order["method"])
    fit(methods.small(order["method"], p))
    since = forget_peak()
    before = resident()
    clock = time.perf_counter()
    fitted = fit(p)
    seconds = time.perf_counter() - clock
    most = peak()
    if fitted.centers.shape != (k, x.shape[1]):
        raise ValueError(f"centres of shape {fitted.centers.shape}, wanted {(k, x.shape[1])}")
    return {
        "seconds": seconds,
        "peak_mb": most / 2**20,
        "extra_mb": max(0, most - before) / 2**20,
        "extra_is_exact": since,
        **quality(x, fitted.centers),
        "course": [(float(s), float(i) / len(x)) for s, i in fitted.course],
        "extra": fitted.extra,
    }


def orders(args: argparse.Namespace, names: list[str]) -> Iterator[tuple[str, Record]]:
    """All runs; the methods take turns, in another order for each seed."""
    where = about(args)
    rows = "all" if args.rows is None else args.rows
    for name in args.data.split(","):
        path = data.prepared(name, args.cache, args.rows)
        n, d = np.load(path, mmap_mode="r").shape
        case = {"data": data.name_of(name), "n": n, "d": d, "path": str(path)} | where
        for k in map(int, args.k.split(",")):
            for seed, _, method in turns(names, args.seeds):
                label = f"{slug(case['data'])}_rows={rows}_k={k}_{slug(method)}_threads={args.threads}_seed={seed}"
                yield label, case | {"k": k, "method": method, "seed": seed}


def run(args: argparse.Namespace) -> None:
    """Make all runs that do not exist yet."""
    names = args.methods.split(",")
    for name in names:
        methods.method(name)
    run_all(one, orders(args, names), args, lambda r: f"{r['seconds']:.2f} s, inertia {r['inertia']:.6g}")


# --------------------------------------------------------------------- report


def time_to(record: Record, target: float) -> float:
    """Seconds after which a run had an inertia of at most `target`; infinite if never.

    By the course where the method tells it; the end of the fit counts with the exact inertia.
    """
    course = [*record["course"], (record["seconds"], record["inertia"])]
    return min((seconds for seconds, inertia in course if inertia <= target), default=math.inf)


def family(name: str) -> str:
    """A method without its number of iterations: what a time to target may choose among."""
    return re.sub(r"(\d+)$", "*", name) if re.search(r"(^|-)h?\d+$", name) else name


def speedups(mine: list[Record], reference: list[Record]) -> tuple[list[float], bool]:
    """Ratios of the reference's seconds to a method's, seed by seed; and whether all pairs are of one run each."""
    by_seed = {record["seed"]: record for record in reference}
    pairs = [(record, by_seed[record["seed"]]) for record in mine if record["seed"] in by_seed]
    return [b["seconds"] / a["seconds"] for a, b in pairs], all(a["run"] == b["run"] for a, b in pairs)


HEAD = ["method", "seeds", "seconds", "trained", "x faster", "pairs", "inertia", "vs ref", "extra MB", "peak MB"]
HEAD += ["empty", "imbalance", "size CV", "largest/mean", "p99 scanned"]


def line(name: str, rows: list[Record], tried: int, reference: list[Record], bar: float | None) -> list[str]:
    """A method's row of the table."""
    ratios, same = speedups(rows, reference)
    inertia = statistics.mean(r["inertia"] for r in rows)
    trained = [r["extra"]["trained"] for r in rows if "trained" in r["extra"]]
    return [
        name,
        f"{len(rows)}/{tried}",
        f"{median(rows, 'seconds'):.2f}",
        f"{statistics.median(trained):.2f}" if trained else "",
        f"{statistics.median(ratios):.2f}{'' if same else '*'}" if ratios else "",
        f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "",
        f"{inertia:.6g}",
        f"{100 * (inertia / bar - 1):+.2f}%" if bar else "",
        f"{median(rows, 'extra_mb'):.0f}",
        f"{median(rows, 'peak_mb'):.0f}",
        f"{statistics.mean(r['empty'] for r in rows):.3g}",
        *(f"{statistics.mean(r[name] for r in rows):.3f}" for name in ("imbalance", "size_cv", "largest")),
        f"{statistics.mean(r['scanned_p99'] for r in rows):,.0f}",
    ]


def report_case(records: list[Record], reference_name: str, factors: list[float]) -> str:
    """Tables of one data set, k and number of threads."""
    by_method = grouped(records, "method")
    ended = {name: rows for name, rows in ((name, done(rows)) for name, rows in by_method.items()) if rows}
    reference = ended.get(reference_name, [])
    bar = statistics.mean(r["inertia"] for r in reference) if reference else None
    order = sorted(ended, key=lambda name: median(ended[name], "seconds"))
    lines = [line(name, ended[name], len(by_method[name]), reference, bar) for name in order]
    out = [markdown(HEAD, lines)] if lines else []
    if any(not speedups(rows, reference)[1] for rows in ended.values()):
        out.append("* pairs from different runs")
    if bar:
        out.append(f"Seconds to {', '.join(f'{f:g}' for f in factors)} times the mean inertia of {reference_name}:")
        out.append(markdown(["method", *(f"x {f:g}" for f in factors), "by"], targets(ended, bar, factors)))
    return "\n\n".join([*out, reasons(lambda r: r["method"], records)]).rstrip()


def targets(ended: dict[str, list[Record]], bar: float, factors: list[float]) -> list[list[str]]:
    """Lines of the table of times to target; median over seeds, with the seeds that got there if not all did.

    A method that tells its course has its own line. The others are taken together, over their numbers of
    iterations, and the fastest run that got there counts.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for name, rows in ended.items():
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


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print tables from the JSON files alone."""
    factors = [float(factor) for factor in args.targets.split(",")]
    cases = grouped(records, "data", "n", "d", "k", "threads", "processor")
    for (name, n, d, k, threads, cpu), rows in cases.items():
        print(f"\n{name}, {n:,} x {d}, k={k:,}; {threads} threads of {cpu}\n")
        print(report_case(rows, args.reference, factors))
    print(
        "\nseconds: median over seeds of the fit; fastann's includes labels of all rows and their recall, and\n"
        f"trained is without; x faster: median ratio to {args.reference} by seed. inertia: mean over seeds of\n"
        "the exact mean squared distance. extra MB: peak above data and libraries. imbalance: 1 is equal sizes;\n"
        "p99 scanned: rows that 99% of queries scan at most in the cluster nearest to them.\n"
        f"{footing(records)}"
    )


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("engine", __doc__, seeds=3)
    options.add_argument("--data", default="wordnet", help=f"{data.KNOWN}; several by commas")
    options.add_argument("--k", default="1024", help="numbers of clusters, separated by commas")
    options.add_argument("--methods", default=methods.USUAL, help="by commas; all of them when not given")
    options.add_argument("--rows", type=int, help="only this many rows, drawn with a fixed seed")
    options.add_argument("--reference", default="faiss-25", help="method the others are compared with")
    options.add_argument("--targets", default="1.01,1.005,1", help="inertia to reach, relative to the reference's mean")
    do(parsed("engine", options, argv, SMALL), run, report)
