"""Exact assignment against faiss.Kmeans: the same iterations on all rows, from the same rows.

python -m bench flat [--seeds 5] [--data patches,wordnet --k 100,1024]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench import data
from bench.cases.engine import one
from bench.harness import (
    Record,
    about,
    do,
    done,
    grouped,
    median,
    paired,
    parsed,
    parser,
    publish,
    reasons,
    run_all,
    slug,
    turns,
)

ITERATIONS = 10
OURS, THEIRS = f"fastann-flat@max_iter={ITERATIONS}@tol=0", f"faiss-{ITERATIONS}"
SMALL = {"data": "mixture:20000:32", "k": "64", "seeds": 1}


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """All runs; the two take turns."""
    where = about(args)
    for name, k in zip(args.data.split(","), map(int, args.k.split(",")), strict=True):
        if name in data.FILES and not Path(data.FILES[name]).exists():
            continue
        path = data.prepared(name, args.cache)
        n, d = np.load(path, mmap_mode="r").shape
        case = {"data": data.name_of(name), "n": n, "d": d, "k": k, "path": str(path), "start": True} | where
        for seed, _, method in turns((OURS, THEIRS), args.seeds):
            label = f"{slug(case['data'])}_k={k}_{slug(method)}_threads={args.threads}_seed={seed}"
            yield label, case | {"method": method, "seed": seed}


def report_case(name: str, k: int, records: list[Record]) -> str:
    """One sentence: seconds, their ratio seed by seed, and inertia."""
    ended = grouped(done(records), "method")
    if len(ended) < 2:
        return f"{name}, k={k}: not both were done\n{reasons(lambda r: r['method'], records)}"
    mine, theirs = ended[OURS], ended[THEIRS]
    ratios = paired(theirs, mine, "seconds")
    a, b = (np.mean([r["inertia"] for r in rows]) for rows in (mine, theirs))
    return (
        f"{name}, k={k}, {ITERATIONS} iterations: fastann {median(mine, 'seconds'):.2f} s, faiss.Kmeans "
        f"{median(theirs, 'seconds'):.2f} s, {np.median(ratios):.2f}x faster (pairs {min(ratios):.2f} to "
        f"{max(ratios):.2f}), mean inertia {a:.5f} and {b:.5f}"
    )


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print a sentence for each data set."""
    parts = [report_case(name, k, rows) for (name, k), rows in grouped(records, "data", "k").items()]
    publish(args.out, records, "# Exact assignment", parts)


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("flat", __doc__, seeds=5)
    options.add_argument("--data", default="patches,wordnet", help=f"{data.KNOWN}; several by commas")
    options.add_argument("--k", default="100,1024", help="numbers of clusters, one for each data set")
    args = parsed("flat", options, argv, SMALL)
    do(args, lambda args: run_all(one, orders(args), args), report)
