"""PrototypeClassifier against its peers: case x method x seed, each run in its own process.

python -m bench.classifier [--cases embeddings,tfidf] [--methods fastann,knn-5] [--repeats 3] [--small]
python -m bench.classifier report

Without a command it runs, then reports. A run leaves one JSON file, named by its configuration; what exists is
skipped, and failures are rows with their error. `report` reads those files alone, prints Markdown and writes it to
report.md beside them. Methods take turns, seed by seed. A method is warmed on a slice first, so that nothing is
compiled or imported under the timer; accuracy is computed outside it. A seed draws the order of the training rows,
what a method leaves to chance and, in the case "few", the rows.

Cases on data: embeddings, tfidf, wordnet, few. Synthetic: many, classes, sparse, stream.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import f1_score

from bench.engine import (
    DONE,
    FAILED,
    MISSING,
    ROOT,
    THREADS,
    NotInstalled,
    forget_peak,
    peak,
    processor,
    resident,
    slug,
    versions,
    write,
)

SHARED = ROOT.parent / "shared/data"
EMBEDDINGS, TEXTS = SHARED / "clinc150_minilm384.npz", SHARED / "clinc150.json"
WORDNET, WORDNET_LABELS = SHARED / "wordnet_117k_384.f16.npy", SHARED / "wordnet_labels.npy"
SKIPPED = "skipped"
BATCH = 256  # rows, where a table is given as a stream
SLICE = 40_000  # rows that flat search is timed on
BLOCK = 65_536  # rows made at once
NOISE = 0.05  # standard deviation of a coordinate around its mode
SMALL_CLASSES, SMALL_ROWS = 15, 6000  # what --small keeps of real data
LIMITS = {"linear-svc": 300.0, "glvq": 600.0, "gmlvq": 600.0}  # seconds: what takes longer is no peer here
OWN, COMMON, STORED = 12, 170, 100  # draws from a topic's features and from all, and distinct ones kept, a document


class Skip(Exception):
    """A run that makes no sense here; the message is a sentence."""


# --------------------------------------------------------------------- data


@dataclass
class Data:
    """Rows to learn from and rows to predict, with their classes; rows are float32, dense or CSR."""

    x: Any
    y: np.ndarray
    x_test: Any
    y_test: np.ndarray

    def __getitem__(self, some: np.ndarray) -> Data:
        return Data(self.x[some], self.y[some], self.x_test, self.y_test)

    def part(self, wanted: Callable[[np.ndarray], np.ndarray]) -> Data:
        """Rows of some classes."""
        train, test = wanted(self.y), wanted(self.y_test)
        return Data(self.x[train], self.y[train], self.x_test[test], self.y_test[test])

    def about(self) -> dict[str, Any]:
        out = {"n": self.x.shape[0], "d": self.x.shape[1], "tested": self.x_test.shape[0]}
        stored = {"nonzeros": int(self.x.nnz)} if sparse.issparse(self.x) else {}
        return out | stored | {"classes": len(np.unique(self.y))}


def embeddings(order: dict[str, Any]) -> Data:
    """CLINC150, embedded."""
    with np.load(EMBEDDINGS) as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    data = Data(x.astype(np.float32), y.astype(np.int64), x_test.astype(np.float32), y_test.astype(np.int64))
    return data.part(lambda y: y < SMALL_CLASSES) if order["small"] else data


def few(order: dict[str, Any]) -> Data:
    """Ten rows a class of the same."""
    data, rng = embeddings(order), np.random.default_rng([order["seed"], 1])
    places = [rng.choice(np.flatnonzero(data.y == c), 10, replace=False) for c in np.unique(data.y)]
    return data[np.concatenate(places)]


def tfidf(order: dict[str, Any]) -> Data:
    """CLINC150 as TF-IDF; training rows without a word go."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    content = json.loads(TEXTS.read_text())
    code = {name: i for i, name in enumerate(content["labels"])}
    kept = code if not order["small"] else dict(list(code.items())[:SMALL_CLASSES])
    train, test = ([(text, code[c]) for text, c in content[part] if c in kept] for part in ("train", "test"))
    words = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit([text for text, _ in train])
    x, x_test = (sparse.csr_matrix(words.transform([text for text, _ in part])) for part in (train, test))
    data = Data(x, np.array([c for _, c in train]), x_test, np.array([c for _, c in test]))
    return data[np.flatnonzero(np.diff(x.indptr))]


def wordnet(order: dict[str, Any]) -> Data:
    """WordNet's synsets and their lexicographer files; a fifth, drawn with a fixed seed, is for testing."""
    x, y = np.load(WORDNET, mmap_mode="r"), np.load(WORDNET_LABELS).astype(np.int64)
    places = np.random.default_rng(0).permutation(len(y))[: SMALL_ROWS if order["small"] else None]
    test, train = np.split(places, [len(places) // 5])
    return Data(x[train].astype(np.float32), y[train], x[test].astype(np.float32), y[test])


def shuffled(load: Callable[[dict[str, Any]], Data]) -> Callable[[dict[str, Any]], Data]:
    """The same data, training rows in an order drawn by the seed."""

    def loaded(order: dict[str, Any]) -> Data:
        data = load(order)
        return data[np.random.default_rng([order["seed"], 0]).permutation(len(data.y))]

    return loaded


def modes(order: dict[str, Any], rows_a_class: int, d: int, tested: int) -> Data:
    """Classes of two modes each: rows are noise around unit vectors drawn at random."""
    n = order["rows"]
    classes = n // rows_a_class
    rng = np.random.default_rng([order["seed"], 2])
    centres = rng.standard_normal((2 * classes, d), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def made(m: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.permutation(np.arange(m) % classes)
        x = np.empty((m, d), np.float32)
        for i in range(0, m, BLOCK):
            part = slice(i, i + BLOCK)
            mode = 2 * y[part] + rng.integers(2, size=len(y[part]))
            x[part] = centres[mode] + NOISE * rng.standard_normal((len(mode), d), dtype=np.float32)
        return x, y

    return Data(*made(n), *made(tested))


def documents(order: dict[str, Any]) -> Data:
    """Sparse rows of two topics a class: some features of the topic's own 300, most of a common background.

    Both are drawn by a Zipf law (share 1 / rank). Values are a weight that grows with the rank, as idf does,
    times uniform noise.
    """
    tenth = 10 if order["small"] else 1
    d, classes = 100_000 // tenth, 2000 // tenth
    rng = np.random.default_rng([order["seed"], 3])
    topics = rng.integers(d, size=(2 * classes, 300))
    rank = rng.permutation(d)
    common, own = (np.cumsum(1 / np.arange(1, m + 1)) for m in (d, 300))
    place = np.argsort(rank)
    idf = (1 + np.log1p(rank)).astype(np.float32)

    def block(y: np.ndarray) -> sparse.csr_matrix:
        topic = 2 * y + rng.integers(2, size=len(y))
        mine = np.searchsorted(own, own[-1] * rng.random((len(y), OWN)))
        rest = np.searchsorted(common, common[-1] * rng.random((len(y), COMMON)))
        drawn = np.hstack([topics[topic[:, None], mine], place[rest]])
        by_feature = np.argsort(drawn, axis=1, kind="stable")
        ordered = np.take_along_axis(drawn, by_feature, axis=1)
        new = np.ones(drawn.shape, bool)
        np.put_along_axis(new, by_feature[:, 1:], ordered[:, 1:] != ordered[:, :-1], axis=1)
        new &= np.cumsum(new, axis=1) <= STORED
        columns = drawn[new]
        values = idf[columns] * rng.uniform(0.5, 1.5, len(columns)).astype(np.float32)
        found = sparse.csr_matrix((values, columns, np.append(0, np.cumsum(new.sum(axis=1)))), (len(y), d))
        found.sort_indices()
        return found

    def made(n: int) -> tuple[sparse.csr_matrix, np.ndarray]:
        y = rng.permutation(np.arange(n) % classes)
        return sparse.vstack([block(y[i : i + 8192]) for i in range(0, n, 8192)], format="csr"), y

    return Data(*made(order["rows"]), *made(10_000 // tenth))


# --------------------------------------------------------------------- methods


class KMeansPerClass(ClassifierMixin, BaseEstimator):
    """The plain baseline: scikit-learn's k-means within each class, rows and centres of unit norm; the nearest."""

    def __init__(self, n_prototypes: int = 3, random_state: int = 0):
        self.n_prototypes = n_prototypes
        self.random_state = random_state

    def fit(self, x: Any, y: np.ndarray) -> KMeansPerClass:
        from sklearn.cluster import KMeans
        from sklearn.preprocessing import normalize

        x, centres, owner = normalize(x), [], []
        for c in np.unique(y):
            rows = x[np.flatnonzero(y == c)]
            k = min(self.n_prototypes, rows.shape[0])
            centres.append(KMeans(k, random_state=self.random_state).fit(rows).cluster_centers_)
            owner += [c] * k
        self.prototypes_, self.owner_ = normalize(np.vstack(centres)), np.array(owner)
        return self

    def predict(self, x: Any) -> np.ndarray:
        return self.owner_[np.asarray(x @ self.prototypes_.T).argmax(axis=1)]


class ClassMeans(ClassifierMixin, BaseEstimator):
    """The mean of each class by a product of sparse matrices: what NearestCentroid would be without dense ones."""

    def fit(self, x: Any, y: np.ndarray) -> ClassMeans:
        from sklearn.preprocessing import normalize

        self.classes_, codes = np.unique(y, return_inverse=True)
        member = sparse.csr_matrix((np.ones(len(y), np.float32), (codes, np.arange(len(y)))))
        self.prototypes_ = normalize(member @ normalize(x))
        return self

    def predict(self, x: Any) -> np.ndarray:
        out, across = np.empty(x.shape[0], np.int64), sparse.csr_matrix(self.prototypes_.T)
        for i in range(0, x.shape[0], 1024):
            out[i : i + 1024] = (x[i : i + 1024] @ across).toarray().argmax(axis=1)
        return self.classes_[out]


class Streamed(ClassifierMixin, BaseEstimator):
    """An estimator that is given its rows in batches."""

    def __init__(self, model: Any):
        self.model = model

    def fit(self, x: Any, y: np.ndarray) -> Streamed:
        for i in range(0, len(y), BATCH):
            self.model.partial_fit(x[i : i + BATCH], y[i : i + BATCH])
        return self

    def predict(self, x: Any) -> np.ndarray:
        return self.model.predict(x)


def prototype_classifier(seed: int, **options: Any) -> Any:
    from fastann import PrototypeClassifier

    return PrototypeClassifier(random_state=seed, **options)


def logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10, max_iter=1000, random_state=seed)


def linear_svc(seed: int) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(random_state=seed)


def nearest_centroid(seed: int) -> Any:
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


def nearest_neighbours(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5, metric="cosine")


def lvq(name: str, other: str, seed: int) -> Any:
    """Learning vector quantisation by sklvq, or else by sklearn-lvq."""
    try:
        import sklvq
    except ImportError:
        try:
            import sklearn_lvq
        except ImportError:
            raise NotInstalled("neither sklvq nor sklearn-lvq can be imported") from None
        return getattr(sklearn_lvq, other)(prototypes_per_class=1, random_state=seed)
    return getattr(sklvq, name)(random_state=seed)


# What a name means: from a seed to an estimator.
METHODS: dict[str, Callable[[int], Any]] = {
    "fastann": prototype_classifier,
    "fastann-unrefined": lambda seed: prototype_classifier(seed, refine="none"),
    "fastann-1": lambda seed: prototype_classifier(seed, n_prototypes=1),
    "fastann-auto": lambda seed: prototype_classifier(seed, n_prototypes="auto"),
    "fastann-soft": lambda seed: prototype_classifier(seed, assignment="soft", scores="softmax", refine="none"),
    "fastann-stream": lambda seed: Streamed(prototype_classifier(seed)),
    "nearest-centroid": nearest_centroid,
    "class-means": lambda seed: ClassMeans(),
    "kmeans-3": lambda seed: KMeansPerClass(3, seed),
    "knn-5": nearest_neighbours,
    "logistic": logistic,
    "linear-svc": linear_svc,
    "glvq": lambda seed: lvq("GLVQ", "GlvqModel", seed),
    "gmlvq": lambda seed: lvq("GMLVQ", "GmlvqModel", seed),
}
SHOWN = {
    "fastann": "**fastann**",
    "fastann-unrefined": 'fastann, refine="none"',
    "fastann-1": "fastann, n_prototypes=1",
    "fastann-auto": 'fastann, n_prototypes="auto"',
    "fastann-soft": 'fastann, assignment="soft", scores="softmax", refine="none"',
    "fastann-stream": "fastann, partial_fit",
    "nearest-centroid": "sklearn NearestCentroid",
    "class-means": "class means by SciPy's sparse product",
    "kmeans-3": "sklearn KMeans(3) within each class",
    "knn-5": "sklearn KNeighborsClassifier(5), cosine",
    "logistic": "sklearn LogisticRegression(C=10)",
    "linear-svc": "sklearn LinearSVC",
    "glvq": "GLVQ",
    "gmlvq": "GMLVQ",
}
NOT_FOR_TABLES = {"class-means"}


def refuse(method: str, x: Any) -> None:
    """Skip what cannot work, or would not fit in memory, before it takes the machine with it."""
    if not sparse.issparse(x):
        return
    if "lvq" in method:
        raise Skip("takes dense rows only")
    need = 3 * 8 * x.shape[0] * x.shape[1]  # NearestCentroid.fit computes float64 X - centroids[y], and squares it
    if method == "nearest-centroid" and need > 0.6 * available():
        raise Skip(f"would make the rows dense: about {need / 1e9:.0f} GB, of {available() / 1e9:.0f} GB free")


def available() -> int:
    """Bytes of memory that are free, or can be."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def numbers(model: Any) -> int:
    """How many numbers a fitted model stores; of sparse matrices the values."""

    def size(a: Any) -> int:
        return int(a.nnz) if sparse.issparse(a) else int(np.size(a))

    model = getattr(model, "model", model)
    names = ("prototypes_", "w_", "centroids_", "coef_", "intercept_", "omega_", "_fit_X")
    return sum(size(getattr(model, name)) for name in names if hasattr(model, name))


def inside(model: Any) -> dict[str, Any]:
    """What else a model tells about itself."""
    model = getattr(model, "model", model)
    out: dict[str, Any] = {}
    if hasattr(model, "prototypes_"):
        out["prototypes"] = int(model.prototypes_.shape[0])
    if hasattr(model, "history_"):
        verdict = model.refinement_
        out |= {"epochs": len(model.history_), "index": str(model.index_)}
        out["refinement"] = None if verdict is None else asdict(verdict)
    return out


# --------------------------------------------------------------------- one run, in its own process


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


def fit_and_predict(order: dict[str, Any], data: Data, warm: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """Warm a method, time it, measure it."""
    refuse(order["method"], data.x)
    try:
        first = METHODS[order["method"]](order["seed"])
    except ImportError as error:
        raise NotInstalled(str(error)) from None
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


def measure_table(order: dict[str, Any], load: Callable[[dict[str, Any]], Data]) -> dict[str, Any]:
    """Fit on one table, predict another."""
    data = load(order)
    return fit_and_predict(order, data, slice_of(data.y, 1200, 30))[1]


def measure_classes(order: dict[str, Any]) -> dict[str, Any]:
    """As few rows a class as there are many classes."""
    data = modes(order, 10, 128, order["rows"] // 5)
    return fit_and_predict(order, data, slice_of(data.y, 16_000, 8))[1]


def measure_many(order: dict[str, Any]) -> dict[str, Any]:
    """Fit and predict against one exact search of the same rows among the same prototypes, by FAISS."""
    import faiss

    data = modes(order, 100, 384, SLICE)
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


def measure_sparse(order: dict[str, Any]) -> dict[str, Any]:
    """Sparse rows, in growing numbers."""
    data = documents(order)
    return fit_and_predict(order, data, slice_of(data.y, 2000, 20))[1]


def turned(x: np.ndarray, angle: float) -> np.ndarray:
    """Rows turned by an angle in every plane of coordinates 2i and 2i + 1: nothing moves relative to the rest."""
    a, b = x[:, 0::2], x[:, 1::2]
    out = np.empty_like(x)
    out[:, 0::2], out[:, 1::2] = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    return out


def measure_stream(order: dict[str, Any]) -> dict[str, Any]:
    """A long stream of small batches: noise, drift by 30 degrees, and one class that comes after half of it."""
    data, batches, rng = embeddings(order), order["rows"], np.random.default_rng([order["seed"], 4])
    late = data.y.max()
    end, noise = np.pi / 6, np.float32(0.02)
    early = np.flatnonzero(data.y != late)

    def batch(i: int) -> tuple[np.ndarray, np.ndarray]:
        some = rng.choice(len(data.y), 16) if i >= batches // 2 else rng.choice(early, 16)
        x = turned(data.x[some], end * i / batches)
        return x + noise * rng.standard_normal(x.shape, dtype=np.float32), data.y[some]

    warm, model = METHODS[order["method"]](order["seed"]).model, METHODS[order["method"]](order["seed"]).model
    some = slice_of(data.y, 320, 40)
    for i in range(0, len(some), 16):
        warm.partial_fit(data.x[some[i : i + 16]], data.y[some[i : i + 16]])
    warm.predict(data.x_test[:200])
    del warm
    forget_peak()
    seconds, held, out = np.empty(batches), {}, {}
    for i in range(batches):
        x, y = batch(i)
        clock = time.perf_counter()
        model.partial_fit(x, y)
        seconds[i] = time.perf_counter() - clock
        if i + 1 in (batches // 10, batches):
            gc.collect()
            held[i + 1] = resident() / 2**20
    found = model.predict(turned(data.x_test, end))
    unturned = model.predict(data.x_test)
    tenth = batches // 10
    return out | {
        "batches": batches,
        "mb_early": held[tenth],
        "mb_late": held[batches],
        "batch_ms": 1e3 * float(seconds.mean()),
        "batch_ms_first": 1e3 * float(seconds[:tenth].mean()),
        "batch_ms_last": 1e3 * float(seconds[-tenth:].mean()),
        "batch_ms_worst": 1e3 * float(seconds.max()),
        "accuracy": float(np.mean(found == data.y_test)),
        "accuracy_unturned": float(np.mean(unturned == data.y_test)),
        "recall_late": float(np.mean(found[data.y_test == late] == late)),
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

    def cell(self, records: list[dict[str, Any]]) -> str:
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
    measure: Callable[[dict[str, Any]], dict[str, Any]]
    methods: tuple[str, ...] = ("fastann",)
    needs: tuple[Path, ...] = ()
    sizes: tuple[int, ...] = (0,)
    small: tuple[int, ...] = (0,)
    columns: tuple[Column, ...] = TABLE
    notes: tuple[str, ...] = field(default=())


ALL = tuple(name for name in METHODS if name not in NOT_FOR_TABLES)
ELSEWHERE = (
    "FastKMeansClassifier, which users have today, cannot be installed here. Measured earlier, elsewhere, and not in "
    "this run: accuracy {} with its defaults, {} with the best of its settings."
)
CASES: dict[str, Case] = {
    "embeddings": Case(
        "CLINC150, MiniLM embeddings",
        lambda order: measure_table(order, shuffled(embeddings)),
        ALL,
        (EMBEDDINGS,),
        notes=(ELSEWHERE.format(0.6998, 0.9249),),
    ),
    "tfidf": Case(
        "CLINC150, TF-IDF",
        lambda order: measure_table(order, shuffled(tfidf)),
        ALL,
        (TEXTS,),
        notes=(
            ELSEWHERE.format(0.6447, 0.8589),
            "Of sparse models the stored values are counted, without their places.",
        ),
    ),
    "wordnet": Case(
        "WordNet, MiniLM embeddings of glosses, lexicographer files",
        lambda order: measure_table(order, shuffled(wordnet)),
        ALL,
        (WORDNET, WORDNET_LABELS),
        notes=("Nothing was chosen by these data.",),
    ),
    "few": Case(
        "CLINC150, MiniLM embeddings, 10 rows a class",
        lambda order: measure_table(order, shuffled(few)),
        ALL,
        (EMBEDDINGS,),
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
        small=(5_000, 10_000, 20_000),
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
        (EMBEDDINGS,),
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


def one(order: dict[str, Any]) -> dict[str, Any]:
    """Do one run in this process; whatever goes wrong is a row too."""
    try:
        return order | CASES[order["case"]].measure(order) | {"status": DONE}
    except Skip as error:
        return order | {"status": SKIPPED, "error": str(error)}
    except NotInstalled as error:
        return order | {"status": MISSING, "error": str(error)}
    except Exception as error:
        trace = traceback.format_exc().splitlines()[-12:]
        return order | {"status": FAILED, "error": f"{type(error).__name__}: {error}", "trace": trace}


# --------------------------------------------------------------------- run


def in_its_own_process(order: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Do one run in a child with the threads asked for; crashes and lateness are rows."""
    env = os.environ | {f"{library}_NUM_THREADS": str(order["threads"]) for library in THREADS}
    order = order | {"load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "bench.classifier", "--one", json.dumps(order | {"answer": str(answer)})]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=env,
                timeout=timeout,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            return order | {"status": FAILED, "error": f"not done after {timeout:g} s"}
        if answer.exists():
            return json.loads(answer.read_text())
        trace = done.stderr.splitlines()[-12:]
        return order | {"status": FAILED, "error": f"ended with exit code {done.returncode}", "trace": trace}


def missing(case: Case) -> str:
    """A sentence, if data are not there."""
    gone = [str(path) for path in case.needs if not path.exists()]
    return f"Skipped: {', '.join(gone)} is not there." if gone else ""


def turns(name: str, wanted: list[str] | None, repeats: int, small: bool) -> Iterator[tuple[int, str, int]]:
    """Yield seed, method and size of all runs of a case; methods take turns, in another order for each seed."""
    case = CASES[name]
    methods = [m for m in case.methods if wanted is None or m in wanted]
    for seed in range(repeats):
        turn = seed % max(1, len(methods))
        for size in case.small if small else case.sizes:
            for method in methods[turn:] + methods[:turn]:
                yield seed, method, size


def run(args: argparse.Namespace) -> None:
    """Make all runs that do not exist yet."""
    args.out.mkdir(parents=True, exist_ok=True)
    about = {
        "run": f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}",
        "threads": args.threads,
        "processor": processor(),
        "cores": os.cpu_count(),
        "small": args.small,
        "versions": versions() | lvq_versions(),
    }
    for name in args.cases:
        if missing(CASES[name]):
            print(f"{name}: {missing(CASES[name])}", file=sys.stderr)
            continue
        for seed, method, size in turns(name, args.methods, args.repeats, args.small):
            label = slug(f"{name}_rows={size or 'all'}_{method}_threads={args.threads}_seed={seed}")
            file = args.out / f"{label}.json"
            if file.exists() and not args.redo:
                continue
            order = {"case": name, "method": method, "rows": size, "seed": seed} | about
            record = in_its_own_process(order, min(args.timeout, LIMITS.get(method, args.timeout)))
            write(file, record)
            told = f"{record['status']}: {record.get('error')}"
            if record["status"] == DONE:
                spent = f"{record['fit_seconds']:.3g} s" if "fit_seconds" in record else f"{record['batch_ms']:.3g} ms"
                told = f"{spent}, accuracy {record['accuracy']:.4f}"
            print(f"{label}: {told}", file=sys.stderr, flush=True)


def lvq_versions() -> dict[str, str]:
    found = {}
    for name in ("scipy", "sklvq", "sklearn-lvq"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --------------------------------------------------------------------- report


def markdown(head: list[str], lines: list[list[str]]) -> str:
    """Lay out a table: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def with_growth(records: list[dict[str, Any]]) -> None:
    """Add to records on sparse rows their time per non-zero, and relative to half the rows of the same seed."""
    known = {(r["method"], r["seed"], r["rows"]): r for r in records if r["status"] == DONE}
    for (method, seed, rows), record in known.items():
        record["per_million"] = 1e6 * record["fit_seconds"] / record["about"]["nonzeros"]
        half = known.get((method, seed, rows // 2))
        record["growth"] = None if half is None else record["fit_seconds"] / half["fit_seconds"]


def finding(name: str, by_method: dict[Any, list[dict[str, Any]]]) -> str:
    """One sentence: the defaults against the most accurate of the others."""
    done = {key[0]: [r for r in rows if r["status"] == DONE] for key, rows in by_method.items()}
    mine = done.get("fastann")
    peers = {m: rows for m, rows in done.items() if rows and not m.startswith("fastann")}
    if CASES[name].columns != TABLE or not mine or not peers:
        return ""

    def median(rows: list[dict[str, Any]], key: str) -> float:
        return statistics.median(r[key] for r in rows)

    best = max(peers, key=lambda m: median(peers[m], "accuracy"))
    slower = median(peers[best], "fit_seconds") / median(mine, "fit_seconds")
    verdicts = [r["inside"]["refinement"] for r in mine]
    kept = sum(bool(v and v["kept"]) for v in verdicts)
    return (
        f"The most accurate peer, {SHOWN[best]}, reaches {median(peers[best], 'accuracy'):.4f} where fastann's "
        f"defaults reach {median(mine, 'accuracy'):.4f}, in {slower:.2g} times their seconds to fit. "
        f"Refinement was kept in {kept} of {len(verdicts)} fits by the defaults."
    )


def setup(records: list[dict[str, Any]]) -> str:
    """What the rows were."""
    about = [r["about"] for r in records if r["status"] == DONE]
    if not about:
        return "No run was done."
    numbers = sorted({a["n"] for a in about})
    stored = sorted({round(a["nonzeros"] / a["n"], 1) for a in about if "nonzeros" in a})
    tested = f", {about[0]['tested']:,} to test" if records[0]["case"] != "stream" else ""
    return (
        f"{', '.join(f'{n:,}' for n in numbers)} x {about[0]['d']:,} rows to learn from{tested}, "
        f"{about[0]['classes']:,} classes{f', {stored[-1]:g} stored values a row' if stored else ''}."
    )


def report_case(name: str, records: list[dict[str, Any]]) -> str:
    """Title, setup, table, finding and notes of one case."""
    case = CASES[name]
    by_method: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_method[record["method"], record["rows"]].append(record)
    if name == "sparse":
        with_growth(records)
    lines = []
    for key in sorted(by_method, key=lambda key: (list(METHODS).index(key[0]), key[1])):
        shown = SHOWN[key[0]] + (f", {key[1]:,} rows" if len({k[1] for k in by_method}) > 1 else "")
        done = [r for r in by_method[key] if r["status"] == DONE]
        if done:
            partly = "" if len(done) == len(by_method[key]) else f" ({len(done)} of {len(by_method[key])} runs)"
            lines.append([shown + partly, *(column.cell(done) for column in case.columns)])
        for why in sorted({f"{r['status']}: {r['error']}" for r in by_method[key] if r["status"] != DONE}):
            lines.append([shown, why.replace("|", "/").replace("\n", " "), *[""] * (len(case.columns) - 1)])
    parts = [f"## {case.title}", setup(records), markdown(["method", *(c.head for c in case.columns)], lines)]
    return "\n\n".join([*parts, *filter(None, [finding(name, by_method), *case.notes])])


def report(args: argparse.Namespace) -> None:
    """Print tables from the JSON files alone, and write them beside these."""
    cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(args.out.glob("*_seed=*.json")):
        record = json.loads(path.read_text())
        if record["case"] in args.cases and (args.methods is None or record["method"] in args.methods):
            cases[record["case"]].append(record)
    if not cases:
        print(f"no results in {args.out}; python -m bench.classifier run")
        return
    every = [r for rows in cases.values() for r in rows]
    machines = sorted({f"{r['threads']} threads of {r['cores']} on {r['processor']}" for r in every})
    repeats = 1 + max(r["seed"] for r in every)
    command = f"python -m bench.classifier --cases {','.join(cases)} --repeats {repeats}"
    command += " --small" if any(r["small"] for r in every) else ""
    out = [
        "# PrototypeClassifier against its peers",
        f"{'; '.join(machines)}. Every run in a process of its own, methods in turns, {repeats} "
        f"seed{'s: medians, with the range in brackets' if repeats > 1 else ''}. Seconds are those of a warm process. "
        "To predict: the test rows, what is built at the first call included. MB to fit: peak of the process less what "
        "it held before the fit.",
    ]
    if any(r["small"] for r in every):
        out.append("**A run with --small: too small to conclude anything from.**")
    for name in args.cases:
        sentence = missing(CASES[name])
        if name in cases:
            out.append(report_case(name, cases[name]))
        elif sentence:
            out.append(f"## {CASES[name].title}\n\n{sentence}")
    used = sorted({f"{name} {version}" for r in every for name, version in r["versions"].items()})
    several = len({r["run"] for r in every})
    load = max(r["load"] - r["threads"] for r in every)
    if load > 0.5:
        out.append(f"The machine was busy with other work as well: load up to {load:.1f} above the threads used.")
    out.append(f"Versions: {', '.join(used)}." + (f" Made in {several} sittings." if several > 1 else ""))
    out.append(f"Made by `{command}`.")
    text = "\n\n".join(out) + "\n"
    (args.out / "report.md").write_text(text)
    print(text)


# --------------------------------------------------------------------- command line


def names(text: str, known: Any, what: str) -> list[str]:
    """Names separated by commas, each of them known."""
    found = text.split(",")
    for name in found:
        if name not in known:
            raise SystemExit(f"no {what} is called {name!r}; known are {', '.join(known)}")
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("run", "report"), help="both, when not given")
    parser.add_argument("--cases", default=",".join(CASES), help=f"by commas, of {', '.join(CASES)}")
    parser.add_argument("--methods", help=f"by commas, of {', '.join(METHODS)}; those of each case when not given")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, with seeds from 0")
    parser.add_argument("--out", type=Path, help="folder of the results; bench/results/classifier, or -small")
    parser.add_argument("--small", action="store_true", help="sizes that show that everything works")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="for every method; all cores when not given"
    )
    parser.add_argument("--timeout", type=float, default=3600, help="seconds a run may take, loading included")
    parser.add_argument("--redo", action="store_true", help="run again what exists")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # how `run` calls itself
    args = parser.parse_args()
    if args.one:
        answer = Path(args.one.pop("answer"))
        write(answer, one(args.one))
        return
    args.cases = names(args.cases, CASES, "case")
    args.methods = None if args.methods is None else names(args.methods, METHODS, "method")
    args.out = args.out or ROOT / f"bench/results/classifier{'-small' if args.small else ''}"
    if args.command != "report":
        run(args)
    if args.command != "run":
        report(args)


if __name__ == "__main__":
    main()
