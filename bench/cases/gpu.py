"""Fits whose index is searched on GPUs beside the same on the CPU: seconds, and whether labels are the same.

python -m bench gpu [--rows 500000 --columns 128 --k 4096]

It needs faiss-gpu and a card, and says so where there is none. `python -m bench gpu-names` needs no card.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from bench import data
from bench.harness import (
    Record,
    about,
    do,
    done,
    grouped,
    markdown,
    middle,
    parsed,
    parser,
    publish,
    reasons,
    run_all,
    slug,
    spread,
    task,
)

INDEXES = (
    "flat",
    "auto",
    "ivf:nprobe=8",
    "factory:IVF64,Flat;nprobe=8",
    "factory:IVF64,SQ8;nprobe=8",
    "factory:IVF64,SQfp16;nprobe=8",
    "factory:IVF64,PQ8np;nprobe=8",
    "factory:PCA16,IVF64,Flat;nprobe=8",
)
SPLIT = "cuda:all, shard"  # centroids, and not rows, are split over all cards
SMALL = {"rows": 4000, "columns": 32, "k": 260, "max_iter": 1}


def cards() -> tuple[int, str]:
    """How many FAISS sees, and why if there are none."""
    from fastann.index import gpu
    from fastann.index.faiss import faiss

    seen = gpu.visible(faiss())
    build = "is for GPUs" if hasattr(faiss(), "StandardGpuResources") else "is for CPUs (pip install faiss-gpu)"
    return seen, "" if seen else f"FAISS {faiss().__version__} here {build} and sees no card: nothing was run on one."


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """All runs: each index on each device."""
    devices = ["cuda"] if args.seen == 1 else ["cuda", "cuda:all", SPLIT]
    sizes = {"n": args.rows, "d": args.columns, "k": args.k, "max_iter": args.max_iter}
    for seed in range(args.seeds):
        for index in INDEXES:
            for device in devices:
                if device == SPLIT and "PCA" in index:  # of which FAISS has no shards
                    continue
                order = {"index": index, "device": device, "seed": seed} | sizes | about(args)
                yield slug(f"{index}_{device}_k={args.k}_seed={seed}"), order


@task
def one(order: Record) -> Record:
    """The same fit on the CPU and there, each for the second time: the first sets up the card."""
    from fastann import KMeans

    x = data.mixture(order["n"], order["d"])
    there = {"device": order["device"].split(",")[0], "shard": order["device"] == SPLIT}
    fits, seconds = {}, {}
    for where, options in {"cpu": {}, "gpu": there}.items():
        for _ in range(2):
            km = KMeans(
                order["k"],
                index=order["index"],
                max_iter=order["max_iter"],
                tol=0,
                n_jobs=order["threads"],
                random_state=order["seed"],
                **options,
            )
            clock = time.perf_counter()
            fits[where] = km.fit(x)
            seconds[where] = time.perf_counter() - clock
    cpu, card = fits["cpu"], fits["gpu"]
    return {
        "seconds": seconds["gpu"],
        "seconds_cpu": seconds["cpu"],
        "same": float((cpu.labels_ == card.labels_).mean()),
        "inertia": card.inertia_ / cpu.inertia_,
        "recall": card.assignment_recall_,
        "faster": seconds["cpu"] / seconds["gpu"],
        "assign": card.seconds_["assign"],
        "found": card.device_,
        "predicted": float(np.mean(card.predict(x) == card.labels_)),
    }


HEAD = [
    "index, device",
    "seconds",
    "assigning",
    "on the CPU",
    "x faster",
    "same labels",
    "inertia, x the CPU's",
    "recall",
]


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print a table of indexes and devices."""
    lines = []
    for (index, device), rows in grouped(done(records), "index", "device").items():
        lines.append(
            [
                f"{index} on {device}",
                *(middle(rows, name) for name in ("seconds", "assign", "seconds_cpu", "faster")),
                *(spread([r[name] for r in rows], "{:.4f}".format) for name in ("same", "inertia", "recall")),
            ]
        )
    n, d, k = (records[0][name] for name in ("n", "d", "k"))
    title = f"# Indexes on GPUs: {n:,} x {d} rows, k={k:,}"
    publish(
        args.out, records, title, [markdown(HEAD, lines), reasons(lambda r: f"{r['index']} on {r['device']}", records)]
    )


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("gpu", __doc__)
    options.add_argument("--rows", type=int, default=500_000, help="rows of a made-up mixture")
    options.add_argument("--columns", type=int, default=128)
    options.add_argument("--k", type=int, default=4096, help="clusters")
    options.add_argument("--max-iter", type=int, default=10)
    args = parsed("gpu", options, argv, SMALL)
    args.seen, why = cards()
    if not args.seen and args.command != "report":
        print(why)
        return
    do(args, lambda args: run_all(one, orders(args), args), report)
