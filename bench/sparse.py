"""K-means on sparse rows against the same rows made dense, each run in its own process.

python -m bench.sparse [--rows 20000 --columns 20000 --k 100] [--repeats 3] [--small]
python -m bench.sparse --large
python -m bench.sparse report

Without a command it runs, then reports. A run leaves one JSON file, named by its configuration; what exists is
skipped, and failures are rows with their error. Rows are made, not read: documents of Zipf-distributed words from
topics, TF-IDF weighted, of unit norm. All methods start from the same rows and do as many iterations; the automatic
mode may stop sooner. Dense rows are made after the peak of memory was forgotten, so they count; the seconds of making
them do not. Inertia is computed in float64 on the CSR matrix, outside the timer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from bench.engine import DONE, ROOT
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
    middle,
    page,
    reasons,
    run_all,
    turns,
)

DEFAULT = {"rows": 20_000, "columns": 20_000, "k": 100, "iterations": 10, "repeats": 3}
LARGE = {"rows": 200_000, "columns": 100_000, "k": 1000, "iterations": 5, "repeats": 1}
SMALL = {"rows": 2000, "columns": 2000, "k": 20, "iterations": 3, "repeats": 1}
DRAWN = 66  # mean number of words in a document: about 60 distinct ones
OWN = 0.5  # share of these from the document's topic
TOPIC = 400  # words of a topic
BLOCK = 8192  # rows made, or measured, at once


# --------------------------------------------------------------------- data


def zipf(rng: np.random.Generator, words: int, size: int) -> np.ndarray:
    """Draw ranks whose share falls as 1 / (rank + 10), as if stop words had been left out: int64 [size]."""
    share = np.cumsum(1 / np.arange(10, words + 10))
    return np.searchsorted(share, share[-1] * rng.random(size))


def documents(n: int, d: int, seed: int) -> Any:
    """TF-IDF of made-up documents: float32 CSR [n, d], rows of unit norm, about 60 stored values each.

    Half of a document's words are from one topic of d / 100, the rest from all words; words, and the sizes of topics,
    follow a Zipf law.
    """
    rng = np.random.default_rng(seed)
    count = max(2, d // 100)
    topics = rng.integers(d, size=(count, min(TOPIC, d)))
    places = rng.permutation(d)
    blocks = []
    for i in range(0, n, BLOCK):
        m = min(BLOCK, n - i)
        lengths = rng.integers(DRAWN // 2, 3 * DRAWN // 2 + 1, size=m)
        row = np.repeat(np.arange(m), lengths)
        topic = np.repeat(zipf(rng, count, m), lengths)
        mine = topics[topic, zipf(rng, topics.shape[1], len(row))]
        column = np.where(rng.random(len(row)) < OWN, mine, places[zipf(rng, d, len(row))])
        blocks.append(sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), (m, d)))  # sums up copies
    x = sparse.vstack(blocks, format="csr")
    idf = 1 + np.log((1 + n) / (1 + np.bincount(x.indices, minlength=d)))
    x.data *= idf[x.indices].astype(np.float32)
    squares = np.add.reduceat(x.data.astype(np.float64) ** 2, x.indptr[:-1])  # no document is empty
    x.data /= np.repeat(np.sqrt(squares), np.diff(x.indptr)).astype(np.float32)
    x.sort_indices()
    return x


def prepare(args: argparse.Namespace) -> Path:
    """Have the documents as a file, made in another process: so a run's peak memory is the run's own."""
    path = args.cache / f"documents-{args.rows}x{args.columns}.npz"
    if not path.exists():
        args.cache.mkdir(parents=True, exist_ok=True)
        order = {"path": str(path), "n": args.rows, "d": args.columns}
        subprocess.run([sys.executable, "-m", "bench.sparse", "--prepare", json.dumps(order)], cwd=ROOT, check=True)
    return path


def write_documents(order: Record) -> None:
    path = Path(order["path"])
    part = path.with_suffix(".part.npz")
    sparse.save_npz(part, documents(order["n"], order["d"], seed=0), compressed=False)
    part.replace(path)


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


# --------------------------------------------------------------------- one run, in its own process


def inertia(x: Any, centers: np.ndarray) -> float:
    """Mean squared distance to the nearest centre, by float64 products of sparse rows."""
    across = np.ascontiguousarray(centers.T, np.float64)
    norms, total = np.einsum("ij,ij->j", across, across), 0.0
    for i in range(0, x.shape[0], BLOCK):
        block = x[i : i + BLOCK].astype(np.float64)
        near = (norms - 2 * (block @ across)).min(axis=1)
        total += float(near.sum() + (block.data**2).sum())
    return total / x.shape[0]


def warm(method: str, x: Any, start: np.ndarray) -> None:
    """Fit a few rows, so that all a method will use is loaded and compiled.

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


def run(args: argparse.Namespace) -> None:
    """Make the data once, then all runs that do not exist yet."""
    case = {"n": args.rows, "d": args.columns, "k": args.k, "iterations": args.iterations, "small": args.small}
    case |= {"path": str(prepare(args))} | about(args.threads)
    label = f"{args.rows}x{args.columns}_k={args.k}_iterations={args.iterations}"
    orders = (
        (f"{label}_{method}_threads={args.threads}_seed={seed}", case | {"method": method, "seed": seed})
        for seed, method in turns(args.methods, args.repeats)
    )
    run_all("bench.sparse", orders, args.out, args.timeout, args.redo)


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


def paired(mine: list[Record], theirs: list[Record], name: str) -> list[Record]:
    """Ratios of what two methods have under a name, seed by seed."""
    by_seed = {r["seed"]: r[name] for r in theirs}
    return [{"ratio": r[name] / by_seed[r["seed"]]} for r in mine if r["seed"] in by_seed]


def line(method: str, done: dict[str, list[Record]]) -> list[str]:
    """A method's row of the table."""
    rows = done[method]
    other: list[Record] = next((done[name] for name in SAME.get(method, ()) if done[name]), [])
    against = [{"change": 100 * (r["ratio"] - 1)} for r in paired(rows, done["sklearn"], "inertia")]
    return [
        METHODS[method][0],
        middle(rows, "seconds"),
        middle(paired(rows, other, "seconds"), "ratio", "{:.2f}".format),
        middle(rows, "extra", "{:,.0f}".format, MB),
        middle(rows, "passes", "{:.0f}".format),
        middle(rows, "inertia", "{:.6f}".format),
        "-" if method == "sklearn" else middle(against, "change", lambda v: f"{round(v, 4) + 0:+.4f}%"),
    ]


def finding(done: dict[str, list[Record]]) -> str:
    """One sentence: exact assignment of sparse rows against scikit-learn on the same, and against dense ones."""
    mine, peer = done["fastann-flat"], done["sklearn"]
    if not mine or not peer:
        return ""
    seconds = median(paired(mine, peer, "seconds"), "ratio")
    said = f"Exact assignment of the CSR matrix takes {seconds:.2g} times the seconds of scikit-learn on the same"
    thick = done["fastann-flat-dense"]
    if thick:
        said += f", and {median(paired(mine, thick, 'extra'), 'ratio'):.2g} times the extra memory of dense rows"
    return said + "."


def report_case(key: tuple[Any, ...], records: list[Record]) -> str:
    """Setup, table and finding of one size."""
    n, d, k, iterations = key
    by_method = {m: [r for r in records if r["method"] == m] for m in METHODS}
    done = {m: [r for r in rows if r["status"] == DONE] for m, rows in by_method.items()}
    lines = []
    for m, rows in by_method.items():
        lines += [line(m, done)] if done[m] else []
        lines += failures(METHODS[m][0], rows, len(HEAD))
    known = [r for rows in done.values() for r in rows][:1]
    stored = "".join(f", {r['nonzeros'] / n:.1f} stored values a row, {r['bytes'] / MB:,.0f} MB as CSR" for r in known)
    seeds = len({r["seed"] for r in records})
    setup = (
        f"{n:,} x {d:,} documents{stored}, {4 * n * d / MB:,.0f} MB as dense float32; k={k:,}, {iterations} iterations"
        f" at most; {seeds} seed{'s: medians, with the range in brackets' if seeds > 1 else ''}."
    )
    why = reasons(lambda r: METHODS[r["method"]][0], records)
    return "\n\n".join(filter(None, [setup, markdown(HEAD, lines), why, finding(done)]))


def report(args: argparse.Namespace) -> None:
    """Print the tables from the JSON files alone, and write them beside these."""
    note = (
        "Seconds: of the fit, without making rows dense. x dense: seconds over those of the same method on dense rows, "
        "seed by seed. Extra memory: peak of the process less what it held before (CSR matrix, start and libraries), "
        "dense rows included where there are any; MB are 10^6 bytes. Inertia to scikit-learn's: on the CSR matrix, "
        "from the same start, seed by seed. The automatic mode stops by its own rule as well, and is no plain Lloyd."
    )
    page(args.out, "bench.sparse", "# Sparse rows", report_case, ["n", "d", "k", "iterations"], note)


# --------------------------------------------------------------------- command line


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("run", "report"), help="both, when not given")
    for name, value in DEFAULT.items():
        told = "runs of each, with seeds from 0; " if name == "repeats" else ""
        parser.add_argument(f"--{name}", type=int, help=f"{told}{value:,}, or {LARGE[name]:,} with --large")
    parser.add_argument("--large", action="store_true", help="the case whose dense rows would not fit anywhere")
    parser.add_argument("--methods", help=f"by commas, of {', '.join(METHODS)}; those that fit when not given")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every method; all when not given")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds a run may take, loading included")
    parser.add_argument("--redo", action="store_true", help="run again what exists")
    parser.add_argument("--small", action="store_true", help="sizes that show that everything works")
    parser.add_argument("--out", type=Path, help="folder of the results; bench/results/sparse, or -small")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the data")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # how `run` calls itself
    parser.add_argument("--prepare", type=json.loads, help=argparse.SUPPRESS)  # and `prepare`
    args = parser.parse_args()
    if args.one:
        answer(one, args.one)
        return
    if args.prepare:
        write_documents(args.prepare)
        return
    sizes = SMALL if args.small else LARGE if args.large else DEFAULT
    vars(args).update({name: value for name, value in sizes.items() if getattr(args, name) is None})
    args.methods = (args.methods or (USUAL_LARGE if args.large else USUAL)).split(",")
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        parser.error(f"no method is called {unknown[0]!r}; known are {', '.join(METHODS)}")
    args.out = args.out or ROOT / f"bench/results/sparse{'-small' if args.small else ''}"
    if args.command != "report":
        run(args)
    if args.command != "run":
        report(args)


if __name__ == "__main__":
    main()
