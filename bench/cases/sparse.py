"""K-means on sparse rows against the same rows made dense.

python -m bench sparse [--rows 20000 --columns 20000 --k 100] [--seeds 3] [--small]
python -m bench sparse --large

Rows are made, not read: documents of Zipf-distributed words from topics, TF-IDF weighted, of unit norm. All methods
start from the same rows and do as many iterations; the automatic mode may stop sooner. Dense rows are made after the
peak of memory was forgotten, so they count; the seconds of making them do not. Inertia is computed in float64 on the
CSR matrix, outside the timer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse

from bench import data
from bench.harness import (
    MB,
    Record,
    about,
    do,
    done,
    failures,
    grouped,
    made,
    markdown,
    middle,
    names,
    paired,
    parsed,
    parser,
    publish,
    reasons,
    run_all,
    spread,
    task,
    turns,
)
from bench.measures import Peak, inertia

DEFAULT = {"rows": 20_000, "columns": 20_000, "k": 100, "iterations": 10, "seeds": 3}
LARGE = {"rows": 200_000, "columns": 100_000, "k": 1000, "iterations": 5, "seeds": 1}
SMALL = {"rows": 2000, "columns": 2000, "k": 20, "iterations": 3, "seeds": 1}


# --------------------------------------------------------------------- methods

Fit = Callable[[Any, np.ndarray, int], tuple[np.ndarray, int]]  # rows, start, iterations -> centres, iterations done


def fastann(index: str) -> Fit:
    """Make a fit by fastann; clusters that lose their rows are refilled in scikit-learn's way."""

    def fit(x: Any, start: np.ndarray, iterations: int) -> tuple[np.ndarray, int]:
        from fastann import KMeans

        options: dict[str, Any] = {"max_iter": iterations, "tol": 0, "empty": "farthest", "random_state": 0}
        km = KMeans(len(start), index=index, init=start, **options).fit(x)
        return km.cluster_centers_, km.n_iter_

    return fit


def sklearn(x: Any, start: np.ndarray, iterations: int) -> tuple[np.ndarray, int]:
    """Run scikit-learn's Lloyd."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        km = KMeans(len(start), init=start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(x)
    return km.cluster_centers_, km.n_iter_


def csr(x: Any) -> Any:
    return x


def dense(x: Any) -> np.ndarray:
    return x.toarray()


def blocks(x: Any) -> Any:
    """The rows as dense ones, of which only a block exists at a time."""
    from fastann.data.csr import CSRSource, Densified

    return Densified(CSRSource(x))


# What a method is called, how it is given the rows, and what fits them.
METHODS: dict[str, tuple[str, Callable[[Any], Any], Fit]] = {
    "fastann-flat": ("fastann, flat, CSR", csr, fastann("flat")),
    "fastann-auto": ("fastann, auto, CSR", csr, fastann("auto")),
    "fastann-flat-dense": ("fastann, flat, dense", dense, fastann("flat")),
    "fastann-auto-dense": ("fastann, auto, dense", dense, fastann("auto")),
    "fastann-flat-blocks": ("fastann, flat, dense block by block", blocks, fastann("flat")),
    "sklearn": ("scikit-learn, CSR", csr, sklearn),
    "sklearn-dense": ("scikit-learn, dense", dense, sklearn),
}
USUAL = "fastann-flat,fastann-auto,fastann-flat-dense,fastann-auto-dense,sklearn,sklearn-dense"
USUAL_LARGE = "fastann-flat,fastann-auto,fastann-flat-blocks,sklearn"
SAME = {  # by what a method's seconds are divided
    "fastann-flat": ("fastann-flat-dense", "fastann-flat-blocks"),
    "fastann-auto": ("fastann-auto-dense",),
    "sklearn": ("sklearn-dense",),
}


# --------------------------------------------------------------------- one run


def warm(method: str, x: Any, start: np.ndarray) -> None:
    """Fit a few rows, so that all a method will use is loaded.

    The automatic mode goes other ways with little work, so it gets as much as takes it off them.
    """
    _, shape, fit = METHODS[method]
    k = len(start)
    if "auto" not in method:
        k = min(k, 64)
        fit(shape(x[: 4 * k]), start[:k], 1)
        return
    width = x.shape[1] if "dense" in method else max(1, x.nnz // x.shape[0])
    fit(shape(x[: max(4 * k, 2**29 // (k * width) + 1)]), start, 4)


@task
def one(order: Record) -> Record:
    """Load, warm, fit with an eye on memory, then measure the centres.

    Returns
    -------
    dict
        `seconds` of the fit, `shaping` of making the rows dense before it, `extra` bytes at the peak beyond what was
        held before both, `by` what these were measured, `passes` (iterations done), `inertia` per row, `bytes` and
        `nonzeros` of the CSR matrix.
    """
    x = sparse.load_npz(order["path"])
    rows = np.random.default_rng(order["seed"]).choice(x.shape[0], order["k"], replace=False)
    start = x[rows].toarray()
    warm(order["method"], x, start)
    _, shape, fit = METHODS[order["method"]]
    with Peak() as peak:
        began = time.perf_counter()
        given = shape(x)
        clock = time.perf_counter()
        centers, passes = fit(given, start, order["iterations"])
        seconds = time.perf_counter() - clock
    del given
    return {
        "seconds": seconds,
        "shaping": clock - began,
        "extra": peak.extra,
        "by": peak.by,
        "passes": int(passes),
        "inertia": inertia(x, centers),
        "bytes": sum(part.nbytes for part in (x.data, x.indices, x.indptr)),
        "nonzeros": int(x.nnz),
    }


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """All runs; the methods take turns, in another order for each seed."""
    size = {"n": args.rows, "d": args.columns}
    path = made(args.cache / f"documents-{args.rows}x{args.columns}.npz", data.write_documents, size)
    case = size | {"k": args.k, "iterations": args.iterations, "path": str(path)} | about(args)
    label = f"{args.rows}x{args.columns}_k={args.k}_iterations={args.iterations}"
    for seed, _, method in turns(args.methods, args.seeds):
        yield f"{label}_{method}_threads={args.threads}_seed={seed}", case | {"method": method, "seed": seed}


# --------------------------------------------------------------------- report


HEAD = [
    "method",
    "seconds",
    "x dense",
    "extra memory, MB",
    "iterations",
    "inertia per row",
    "inertia to scikit-learn's",
]


def line(method: str, ended: dict[str, list[Record]]) -> list[str]:
    """A method's row of the table."""
    rows = ended[method]
    other: list[Record] = next((ended[name] for name in SAME.get(method, ()) if ended[name]), [])
    against = [100 * (ratio - 1) for ratio in paired(rows, ended["sklearn"], "inertia")]
    return [
        METHODS[method][0],
        middle(rows, "seconds"),
        spread(paired(rows, other, "seconds"), "{:.2f}".format),
        middle(rows, "extra", "{:,.0f}".format, MB),
        middle(rows, "passes", "{:.0f}".format),
        middle(rows, "inertia", "{:.6f}".format),
        "-" if method == "sklearn" else spread(against, lambda v: f"{round(v, 4) + 0:+.4f}%"),
    ]


def finding(ended: dict[str, list[Record]]) -> str:
    """One sentence: exact assignment of sparse rows against scikit-learn on the same, and against dense ones."""
    mine, peer, thick = (ended[m] for m in ("fastann-flat", "sklearn", "fastann-flat-dense"))
    if not mine or not peer:
        return ""
    seconds = np.median(paired(mine, peer, "seconds"))
    said = f"Exact assignment of the CSR matrix takes {seconds:.2g} times the seconds of scikit-learn on the same"
    if thick:
        said += f", and {np.median(paired(mine, thick, 'extra')):.2g} times the extra memory of dense rows"
    return said + "."


def report_case(key: tuple[Any, ...], records: list[Record]) -> str:
    """Setup, table and finding of one size."""
    n, d, k, iterations = key
    by_method = {m: [r for r in records if r["method"] == m] for m in METHODS}
    ended = {m: done(rows) for m, rows in by_method.items()}
    lines = []
    for m, rows in by_method.items():
        lines += [line(m, ended)] if ended[m] else []
        lines += failures(METHODS[m][0], rows, len(HEAD))
    known = [r for rows in ended.values() for r in rows][:1]
    stored = "".join(f", {r['nonzeros'] / n:.1f} stored values a row, {r['bytes'] / MB:,.0f} MB as CSR" for r in known)
    seeds = len({r["seed"] for r in records})
    setup = (
        f"{n:,} x {d:,} documents{stored}, {4 * n * d / MB:,.0f} MB as dense float32; k={k:,}, {iterations} iterations"
        f" at most; {seeds} seed{'s: medians, with the range in brackets' if seeds > 1 else ''}."
    )
    why = reasons(lambda r: METHODS[r["method"]][0], records)
    return "\n\n".join(filter(None, [setup, markdown(HEAD, lines), why, finding(ended)]))


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print the tables from the JSON files alone, and write them beside these."""
    note = (
        "Seconds: of the fit, without making rows dense. x dense: seconds over those of the same method on dense rows, "
        "seed by seed. Extra memory: peak of the process less what it held before (CSR matrix, start and libraries), "
        "dense rows included where there are any; MB are 10^6 bytes. Inertia to scikit-learn's: on the CSR matrix, "
        "from the same start, seed by seed. The automatic mode stops by its own rule as well, and is no plain Lloyd."
    )
    cases = grouped(records, "n", "d", "k", "iterations")
    publish(args.out, records, "# Sparse rows", [*(report_case(key, rows) for key, rows in cases.items()), note])


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("sparse", __doc__, time_limit=7200)
    options.set_defaults(seeds=None)
    for name in ("rows", "columns", "k", "iterations"):
        options.add_argument(f"--{name}", type=int, help=f"{DEFAULT[name]:,}, or {LARGE[name]:,} with --large")
    options.add_argument("--large", action="store_true", help="the case whose dense rows would not fit anywhere")
    options.add_argument("--methods", help=f"by commas, of {', '.join(METHODS)}; those that fit when not given")
    args = parsed("sparse", options, argv, SMALL)
    sizes = LARGE if args.large else DEFAULT
    vars(args).update({name: value for name, value in sizes.items() if getattr(args, name) is None})
    args.methods = names(args.methods or (USUAL_LARGE if args.large else USUAL), METHODS, "method")
    do(args, lambda args: run_all(one, orders(args), args), report)
