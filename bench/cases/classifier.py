"""PrototypeClassifier against its peers: case x method x seed.

python -m bench classifier [--cases embeddings,tfidf] [--methods fastann,knn-5] [--seeds 3] [--small]

A method is warmed on a slice first, so that nothing is imported under the timer; accuracy is computed
outside it. A seed draws the order of the training rows, what a method leaves to chance and, in the case "few", the
rows.

Cases on data: embeddings, tfidf, wordnet, few. Synthetic: many, classes, sparse, stream.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import f1_score

from bench import classes
from bench.classes import Data
from bench.classifiers import LIMITS, METHODS, inside, numbers, refuse
from bench.harness import (
    Record,
    about,
    do,
    done,
    grouped,
    markdown,
    median,
    names,
    parsed,
    parser,
    publish,
    run_all,
    task,
    turns,
)
from fastann.study.process import forget_peak, peak, resident

SLICE = 40_000  # rows that flat search is timed on


# --------------------------------------------------------------------- one run


def slice_of(y: np.ndarray, rows: int, a_class: int) -> np.ndarray:
    """Places of so many rows, `a_class` of each of as many classes as it takes, or more: what a method is warmed on.

    Enough for fastann to hold rows out (50 of 500), to let classes of a stream settle (24 rows) and, where there are
    that many, to search cells of prototypes (more than 4,096).
    """
    a_class = max(a_class, -(-rows // len(np.unique(y))))
    order = np.argsort(y, kind="stable")
    starts = np.flatnonzero(np.append(True, y[order][1:] != y[order][:-1]))
    nth = np.arange(len(y)) - np.repeat(starts, np.diff(np.append(starts, len(y))))
    return order[nth < a_class][:rows]


def fit_and_predict(order: Record, data: Data, warm: np.ndarray) -> tuple[Any, Record]:
    """Warm a method, time it, measure it."""
    refuse(order["method"], data.x)
    first = METHODS[order["method"]].make(order["seed"])
    model = clone(first)
    first.fit(data.x[warm], data.y[warm])
    first.predict(data.x_test[:200])
    del first
    since = forget_peak()
    before = resident()
    clock = time.perf_counter()
    model.fit(data.x, data.y)
    fit_seconds = time.perf_counter() - clock
    most = peak()
    clock = time.perf_counter()
    found = model.predict(data.x_test)
    predict_seconds = time.perf_counter() - clock
    return model, {
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
        "accuracy": float(np.mean(found == data.y_test)),
        "macro_f1": float(f1_score(data.y_test, found, average="macro")),
        "numbers": numbers(model),
        "fit_mb": max(0, most - before) / 2**20,
        "before_mb": before / 2**20,
        "mb_is_exact": since,
        "inside": inside(model),
        "about": data.about(),
    }


def measure_table(order: Record, load: Callable[[Record], Data]) -> Record:
    """Fit on one table, predict another."""
    data = load(order)
    return fit_and_predict(order, data, slice_of(data.y, 1200, 30))[1]


def measure_classes(order: Record) -> Record:
    """As few rows a class as there are many classes."""
    data = classes.modes(order, 10, 128, order["rows"] // 5)
    return fit_and_predict(order, data, slice_of(data.y, 16_000, 8))[1]


def measure_many(order: Record) -> Record:
    """Fit and predict against one exact search of the same rows among the same prototypes, by FAISS."""
    import faiss

    data = classes.modes(order, 100, 384, SLICE)
    model, out = fit_and_predict(order, data, slice_of(data.y, 16_000, 8))
    prototypes = np.ascontiguousarray(model.prototypes_, np.float32)
    n = min(SLICE, len(data.x))
    index = faiss.IndexFlatIP(prototypes.shape[1])
    index.add(prototypes)
    index.search(data.x[:1000], 1)
    clock = time.perf_counter()
    nearest = index.search(data.x[:n], 1)[1][:, 0]
    flat = (time.perf_counter() - clock) * len(data.x) / n
    clock = time.perf_counter()
    found = model.predict(data.x)
    seconds = time.perf_counter() - clock
    exact = model.prototype_labels_[nearest]
    return out | {
        "flat_seconds": flat,
        "flat_rows": n,
        "fit_to_flat": out["fit_seconds"] / flat,
        "predict_all_seconds": seconds,
        "speed_up": flat / seconds,
        "agreement": float(np.mean(found[:n] == exact)),
        "accuracy_trained": float(np.mean(found == data.y)),
        "accuracy_flat": float(np.mean(exact == data.y[:n])),
    }


def measure_sparse(order: Record) -> Record:
    """Sparse rows, in growing numbers."""
    data = classes.documents(order)
    return fit_and_predict(order, data, slice_of(data.y, 2000, 20))[1]


@dataclass
class Stream:
    """Batches of 16 embeddings: noise, drift by 30 degrees in all, and one class that comes after half of them."""

    data: Data
    batches: int
    rng: np.random.Generator

    END, NOISE = np.pi / 6, np.float32(0.02)

    def __post_init__(self) -> None:
        self.late = self.data.y.max()
        self.early = np.flatnonzero(self.data.y != self.late)

    def batch(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and classes of a batch."""
        every = i >= self.batches // 2
        some = self.rng.choice(len(self.data.y), 16) if every else self.rng.choice(self.early, 16)
        x = classes.turned(self.data.x[some], self.END * i / self.batches)
        return x + self.NOISE * self.rng.standard_normal(x.shape, dtype=np.float32), self.data.y[some]


def taught(model: Any, stream: Stream) -> tuple[np.ndarray, dict[int, float]]:
    """Learn all batches: the seconds of each, and the MiB held after a tenth and after all."""
    seconds, held = np.empty(stream.batches), {}
    for i in range(stream.batches):
        x, y = stream.batch(i)
        clock = time.perf_counter()
        model.partial_fit(x, y)
        seconds[i] = time.perf_counter() - clock
        if i + 1 in (stream.batches // 10, stream.batches):
            gc.collect()
            held[i + 1] = resident() / 2**20
    return seconds, held


def measure_stream(order: Record) -> Record:
    """A long stream of small batches."""
    data, batches = classes.embeddings(order), order["rows"]
    stream = Stream(data, batches, np.random.default_rng([order["seed"], 4]))
    warm, model = (METHODS[order["method"]].make(order["seed"]).model for _ in range(2))
    some = slice_of(data.y, 320, 40)
    for i in range(0, len(some), 16):
        warm.partial_fit(data.x[some[i : i + 16]], data.y[some[i : i + 16]])
    warm.predict(data.x_test[:200])
    del warm
    forget_peak()
    seconds, held = taught(model, stream)
    found = model.predict(classes.turned(data.x_test, stream.END))
    unturned = model.predict(data.x_test)
    tenth = batches // 10
    return {
        "batches": batches,
        "mb_early": held[tenth],
        "mb_late": held[batches],
        "batch_ms": 1e3 * float(seconds.mean()),
        "batch_ms_first": 1e3 * float(seconds[:tenth].mean()),
        "batch_ms_last": 1e3 * float(seconds[-tenth:].mean()),
        "batch_ms_worst": 1e3 * float(seconds.max()),
        "accuracy": float(np.mean(found == data.y_test)),
        "accuracy_unturned": float(np.mean(unturned == data.y_test)),
        "recall_late": float(np.mean(found[data.y_test == stream.late] == stream.late)),
        "numbers": numbers(model),
        "inside": inside(model),
        "about": data.about(),
    }


# --------------------------------------------------------------------- cases


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, what of a record it shows and how, and whether with its range over seeds."""

    head: str
    key: str
    form: str
    ranged: bool = False

    def cell(self, records: list[Record]) -> str:
        """Median over seeds."""
        values = [r.get(self.key, r["inside"].get(self.key)) for r in records]
        values = [v for v in values if v is not None]
        if not values:
            return ""
        low, middle, high = (self.form.format(f(values)) for f in (min, statistics.median, max))
        return f"{middle} ({low} to {high})" if self.ranged and low != high else middle


ACCURACY, FIT, MB = (
    Column("accuracy", "accuracy", "{:.4f}", True),
    Column("seconds to fit", "fit_seconds", "{:.3g}", True),
    Column("MB to fit", "fit_mb", "{:,.0f}"),
)
PREDICT, KEPT = Column("to predict", "predict_seconds", "{:.3g}"), Column("prototypes", "prototypes", "{:,.0f}")
TABLE = (
    ACCURACY,
    Column("macro F1", "macro_f1", "{:.4f}"),
    FIT,
    PREDICT,
    Column("numbers stored", "numbers", "{:,.0f}"),
    KEPT,
    MB,
)


@dataclass(frozen=True)
class Case:
    """What is measured, by which methods, on how many rows (or batches), and what the report says of it."""

    title: str
    measure: Callable[[Record], Record]
    methods: tuple[str, ...] = ("fastann",)
    needs: tuple[Path, ...] = ()
    sizes: tuple[int, ...] = (0,)
    small: tuple[int, ...] = (0,)
    columns: tuple[Column, ...] = TABLE
    notes: tuple[str, ...] = ()


ALL = tuple(name for name, method in METHODS.items() if method.everywhere)
ELSEWHERE = (
    "FastKMeansClassifier, which users have today, cannot be installed here. Measured earlier, elsewhere, and not in "
    "this run: accuracy {} with its defaults, {} with the best of its settings."
)
CASES: dict[str, Case] = {
    "embeddings": Case(
        "CLINC150, MiniLM embeddings",
        lambda order: measure_table(order, classes.shuffled(classes.embeddings)),
        ALL,
        (classes.EMBEDDINGS,),
        notes=(ELSEWHERE.format(0.6998, 0.9249),),
    ),
    "tfidf": Case(
        "CLINC150, TF-IDF",
        lambda order: measure_table(order, classes.shuffled(classes.tfidf)),
        ALL,
        (classes.TEXTS,),
        notes=(
            ELSEWHERE.format(0.6447, 0.8589),
            "Of sparse models the stored values are counted, without their places.",
        ),
    ),
    "wordnet": Case(
        "WordNet, MiniLM embeddings of glosses, lexicographer files",
        lambda order: measure_table(order, classes.shuffled(classes.wordnet)),
        ALL,
        (classes.WORDNET, classes.WORDNET_LABELS),
        notes=("Nothing was chosen by these data.",),
    ),
    "few": Case(
        "CLINC150, MiniLM embeddings, 10 rows a class",
        lambda order: measure_table(order, classes.shuffled(classes.few)),
        ALL,
        (classes.EMBEDDINGS,),
        notes=("Every seed draws other rows, the same for all methods.",),
    ),
    "many": Case(
        "Many classes: two modes each, 100 rows a class",
        measure_many,
        sizes=(1_000_000,),
        small=(50_000,),
        columns=(
            FIT,
            Column("flat search", "flat_seconds", "{:.3g}"),
            Column("fit / flat", "fit_to_flat", "{:.2f}"),
            Column("predict all rows", "predict_all_seconds", "{:.3g}"),
            Column("flat / predict", "speed_up", "{:.1f}", True),
            Column("agreement", "agreement", "{:.4f}"),
            Column("accuracy, fresh rows", "accuracy", "{:.4f}"),
            Column("rows trained on", "accuracy_trained", "{:.4f}"),
            Column("by flat search", "accuracy_flat", "{:.4f}"),
            KEPT,
            MB,
        ),
        notes=(
            "Flat search: the rows against the prototypes once, by faiss.IndexFlatIP with all threads, timed on "
            f"{SLICE:,} rows and scaled to all. Agreement: of predicted classes with flat search's, on these rows.",
        ),
    ),
    "classes": Case(
        "Very many classes: two modes each, 10 rows a class",
        measure_classes,
        sizes=(500_000,),
        small=(25_000,),
        columns=(FIT, PREDICT, ACCURACY, KEPT, MB),
        notes=("Predicted are fresh rows, two a class.",),
    ),
    "sparse": Case(
        "Sparse documents: two topics a class",
        measure_sparse,
        ("fastann", "class-means", "nearest-centroid"),
        sizes=(50_000, 100_000, 200_000),
        small=(2_000, 4_000),
        columns=(
            ACCURACY,
            FIT,
            Column("s per million non-zeros", "per_million", "{:.3g}"),
            Column("x half the rows", "growth", "{:.2f}"),
            PREDICT,
            Column("numbers stored", "numbers", "{:,.0f}"),
            MB,
        ),
        notes=("x half the rows: seconds to fit over those for half the documents; 2 is linear in the non-zeros.",),
    ),
    "stream": Case(
        "A long stream: batches of 16 embeddings with noise, turned by 30 degrees in all; one class comes after half",
        measure_stream,
        ("fastann-stream",),
        (classes.EMBEDDINGS,),
        (10_000,),
        (400,),
        (
            Column("batches", "batches", "{:,.0f}"),
            Column("MB held after a tenth", "mb_early", "{:,.1f}"),
            Column("after all", "mb_late", "{:,.1f}"),
            Column("ms a batch", "batch_ms", "{:.3g}", True),
            Column("first tenth", "batch_ms_first", "{:.3g}"),
            Column("last tenth", "batch_ms_last", "{:.3g}"),
            Column("worst", "batch_ms_worst", "{:.3g}"),
            Column("accuracy at the end", "accuracy", "{:.4f}", True),
            Column("on rows as at the start", "accuracy_unturned", "{:.4f}"),
            Column("recall of the late class", "recall_late", "{:.2f}"),
        ),
        notes=("Resident memory of the whole process, libraries and data included.",),
    ),
}


@task
def one(order: Record) -> Record:
    """Do one run: that of the order's case."""
    return CASES[order["case"]].measure(order)


def missing(case: Case) -> str:
    """A sentence, if data are not there."""
    gone = [str(path) for path in case.needs if not path.exists()]
    return f"Skipped: {', '.join(gone)} is not there." if gone else ""


def orders(args: argparse.Namespace) -> Iterator[tuple[str, Record]]:
    """All runs; methods take turns, in another order for each seed."""
    where = about(args)
    for name in args.cases:
        case = CASES[name]
        if missing(case):
            print(f"{name}: {missing(case)}", file=sys.stderr)
            continue
        methods = [m for m in case.methods if args.methods is None or m in args.methods]
        for seed, size, method in turns(methods, args.seeds, case.small if args.small else case.sizes):
            label = f"{name}_rows={size or 'all'}_{method}_threads={args.threads}_seed={seed}"
            yield label, {"case": name, "method": method, "rows": size, "seed": seed} | where


def told(record: Record) -> str:
    """What came of a run."""
    spent = f"{record['fit_seconds']:.3g} s" if "fit_seconds" in record else f"{record['batch_ms']:.3g} ms"
    return f"{spent}, accuracy {record['accuracy']:.4f}"


# --------------------------------------------------------------------- report


def with_growth(records: list[Record]) -> None:
    """Add to records on sparse rows their time per non-zero, and relative to half the rows of the same seed."""
    known = {(r["method"], r["seed"], r["rows"]): r for r in done(records)}
    for (method, seed, rows), record in known.items():
        record["per_million"] = 1e6 * record["fit_seconds"] / record["about"]["nonzeros"]
        half = known.get((method, seed, rows // 2))
        record["growth"] = None if half is None else record["fit_seconds"] / half["fit_seconds"]


def finding(name: str, by_method: dict[Any, list[Record]]) -> str:
    """One sentence: the defaults against the most accurate of the others."""
    ended = {key[0]: done(rows) for key, rows in by_method.items()}
    mine = ended.get("fastann")
    peers = {m: rows for m, rows in ended.items() if rows and not m.startswith("fastann")}
    if CASES[name].columns != TABLE or not mine or not peers:
        return ""
    best = max(peers, key=lambda m: median(peers[m], "accuracy"))
    slower = median(peers[best], "fit_seconds") / median(mine, "fit_seconds")
    verdicts = [r["inside"]["refinement"] for r in mine]
    kept = sum(bool(v and v["kept"]) for v in verdicts)
    return (
        f"The most accurate peer, {METHODS[best].shown}, reaches {median(peers[best], 'accuracy'):.4f} where fastann's "
        f"defaults reach {median(mine, 'accuracy'):.4f}, in {slower:.2g} times their seconds to fit. "
        f"Refinement was kept in {kept} of {len(verdicts)} fits by the defaults."
    )


def setup(records: list[Record]) -> str:
    """What the rows were."""
    about = [r["about"] for r in done(records)]
    if not about:
        return "No run was done."
    numbers = sorted({a["n"] for a in about})
    stored = sorted({round(a["nonzeros"] / a["n"], 1) for a in about if "nonzeros" in a})
    tested = f", {about[0]['tested']:,} to test" if records[0]["case"] != "stream" else ""
    return (
        f"{', '.join(f'{n:,}' for n in numbers)} x {about[0]['d']:,} rows to learn from{tested}, "
        f"{about[0]['classes']:,} classes{f', {stored[-1]:g} stored values a row' if stored else ''}."
    )


def report_case(name: str, records: list[Record]) -> str:
    """Title, setup, table, finding and notes of one case."""
    case = CASES[name]
    by_method = grouped(records, "method", "rows")
    if name == "sparse":
        with_growth(records)
    lines = []
    for key in sorted(by_method, key=lambda key: (list(METHODS).index(key[0]), key[1])):
        shown = METHODS[key[0]].shown + (f", {key[1]:,} rows" if len({k[1] for k in by_method}) > 1 else "")
        ended = done(by_method[key])
        if ended:
            partly = "" if len(ended) == len(by_method[key]) else f" ({len(ended)} of {len(by_method[key])} runs)"
            lines.append([shown + partly, *(column.cell(ended) for column in case.columns)])
        for why in sorted({f"{r['status']}: {r['error']}" for r in by_method[key] if "error" in r}):
            lines.append([shown, why.replace("|", "/").replace("\n", " "), *[""] * (len(case.columns) - 1)])
    parts = [f"## {case.title}", setup(records), markdown(["method", *(c.head for c in case.columns)], lines)]
    return "\n\n".join([*parts, *filter(None, [finding(name, by_method), *case.notes])])


def report(args: argparse.Namespace, records: list[Record]) -> None:
    """Print tables from the JSON files alone, and write them beside these."""
    wanted = [r for r in records if r["case"] in args.cases and (args.methods is None or r["method"] in args.methods)]
    if not wanted:
        print(f"no results of these cases and methods in {args.out} yet")
        return
    cases = grouped(wanted, "case")
    seeds = 1 + max(r["seed"] for r in wanted)
    small = " --small" if any(r["small"] for r in wanted) else ""
    out = [
        f"Every run in a process of its own, methods in turns, {seeds} "
        f"seed{'s: medians, with the range in brackets' if seeds > 1 else ''}. Seconds are those of a warm process. "
        "To predict: the test rows, what is built at the first call included. MB to fit: peak of the process less what "
        "it held before the fit."
    ]
    for name in args.cases:
        if name in cases:
            out.append(report_case(name, cases[name]))
        elif missing(CASES[name]):
            out.append(f"## {CASES[name].title}\n\n{missing(CASES[name])}")
    out.append(f"Made by `python -m bench classifier --cases {','.join(cases)} --seeds {seeds}{small}`.")
    publish(args.out, wanted, "# PrototypeClassifier against its peers", out)


def main(argv: list[str]) -> None:
    """Command line."""
    options = parser("classifier", __doc__, seeds=3)
    options.add_argument("--cases", default=",".join(CASES), help=f"by commas, of {', '.join(CASES)}")
    options.add_argument("--methods", help=f"by commas, of {', '.join(METHODS)}; those of each case when not given")
    args = parsed("classifier", options, argv, {})
    args.cases = names(args.cases, CASES, "case")
    args.methods = None if args.methods is None else names(args.methods, METHODS, "method")
    do(args, lambda args: run_all(one, orders(args), args, told, LIMITS), report)
