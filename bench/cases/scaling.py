"""How the automatic engine's time grows with k and n, where it spends it, and how fast its model predicts.

python -m bench scaling [--data FILE.npy] [--rows 250000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import data
from bench.harness import Record, about, do, done, markdown, parsed, parser, publish, reasons, run_all, slug, task

KS, FIXED, PREDICTED = (1024, 2048, 4096, 8192, 16384, 32768), 4096, 16384
SMALL = {"rows": 2000, "ks": (16, 32), "fixed": 16, "predicted": 32}


@task
def one(order: Record) -> Record:
    """Fit the first rows; where the order says so, predict too."""
    from fastann import KMeans

    x, k = np.load(order["path"]), order["k"]
    KMeans(min(1500, len(x) // 8), n_jobs=order["threads"], random_state=0).fit(x[:30_000])  # loads all that is used
    rows = x[: order["n"]]
    clock = time.perf_counter()
    km = KMeans(k, n_jobs=order["threads"], random_state=order["seed"]).fit(rows)
    seconds = time.perf_counter() - clock
    return {
        "seconds": seconds,
        "iterations": km.n_iter_,
        "phases": {p: sum(r.seconds[p] for r in km.history_) for p in ("build", "assign", "update")},
        "recall": km.assignment_recall_,
        **(predicting(km, x[:50_000]) if order["predict"] else {}),
    }


def predicting(km: Any, x: np.ndarray) -> Record:
    """Predict through the model's index, and by flat search with FAISS and with this package."""
    import faiss

    from fastann.index.own import FlatIndex

    km.predict(x[:2000])
    clock = time.perf_counter()
    labels = km.predict(x)
    ours = time.perf_counter() - clock
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(km.cluster_centers_)
    clock = time.perf_counter()
    index.search(x, 1)
    flat = time.perf_counter() - clock
    clock = time.perf_counter()
    exact = FlatIndex(km.cluster_centers_).search(x, 1)[0][:, 0]
    own = time.perf_counter() - clock
    return {"to_faiss": flat / ours, "to_flat": own / ours, "predict_recall": float((labels == exact).mean())}


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """Fits of all rows at growing k, and of growing numbers of rows at one k."""
    name = args.data or f"sphere:{args.rows}"
    path = data.prepared(name, args.cache)
    n, d = np.load(path, mmap_mode="r").shape
    n = min(n, args.rows)
    case = {"data": data.name_of(name), "d": d, "path": str(path)} | about(args)
    sizes = [(n, k) for k in args.ks] + [(n // part, args.fixed) for part in (8, 4, 2)]
    for seed in range(args.seeds):
        for rows, k in sizes:
            label = f"{slug(case['data'])}_n={rows}_k={k}_threads={args.threads}_seed={seed}"
            yield label, case | {"n": rows, "k": k, "seed": seed, "predict": k == args.predicted}


# --------------------------------------------------------------------- report


def line(r: Record, name: str, known: dict[tuple[int, int], Record]) -> list[str]:
    """A fit beside the one of half its k, or of half its rows."""
    half = known.get((r["n"], r["k"] // 2) if name == "k" else (r["n"] // 2, r["k"]))
    ratio = "" if half is None else f"{r['seconds'] / half['seconds']:.2f}x"
    phases = [f"{r['phases'][p]:.2f}" for p in ("build", "assign", "update")]
    return [f"{r[name]:,}", f"{r['seconds']:.2f}", ratio, str(r["iterations"]), *phases, f"{r['recall']:.4f}"]


def report_case(name: str, rows: list[Record]) -> str:
    """Tables of growth in k and in n, and what was predicted, of one seed."""
    known = {(r["n"], r["k"]): r for r in rows}
    most = max(n for n, _ in known)
    out = [f"{name}, {most:,} x {rows[0]['d']}"]
    fixed = {k for n, k in known if n < most}
    for axis, some in (
        ("k", [r for r in rows if r["n"] == most]),
        ("n", [r for r in rows if r["k"] in fixed]),
    ):
        head = [axis, "seconds", "x half", "iterations", "build", "assign", "update", "recall"]
        lines = [line(r, axis, known) for r in sorted(some, key=lambda r: r[axis])]
        at = f" at k={min(fixed):,}" if axis == "n" and fixed else ""
        out.append(f"Growth with {axis}{at}:\n\n{markdown(head, lines)}" if lines else "")
    for r in (r for r in rows if r["predict"]):
        out.append(
            f"predict at k={r['k']:,}: {r['to_faiss']:.1f}x faster than faiss.IndexFlatL2 and {r['to_flat']:.1f}x than "
            f"this package's flat search, recall@1 {r['predict_recall']:.4f}"
        )
    return "\n\n".join(filter(None, out))


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print the tables from the JSON files alone, and write them beside these."""
    cases: dict[tuple, list[Record]] = {}
    for record in done(records):
        cases.setdefault((record["data"], record["threads"], record["seed"]), []).append(record)
    parts = [report_case(f"{name}, seed {seed}", rows) for (name, _, seed), rows in sorted(cases.items())]
    publish(args.out, records, "# Growth", [*parts, reasons(lambda r: f"n={r['n']:,}, k={r['k']:,}", records)])


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("scaling", __doc__)
    options.add_argument("--data", help=f"{data.KNOWN}; a mixture on the unit sphere when not given")
    options.add_argument("--rows", type=int, default=250_000)
    options.set_defaults(ks=KS, fixed=FIXED, predicted=PREDICTED)
    args = parsed("scaling", options, argv, SMALL)
    do(args, lambda args: run_all(one, orders(args), args), report)
