"""Rows with classes: what the classifiers are compared on. All from an order's `seed`, `rows` and `small`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from bench.data import BLOCK, FILES, SHARED
from bench.harness import Record

EMBEDDINGS, TEXTS = SHARED / "clinc150_minilm384.npz", SHARED / "clinc150.json"
WORDNET, WORDNET_LABELS = FILES["wordnet"], SHARED / "wordnet_labels.npy"
NOISE = 0.05  # standard deviation of a coordinate around its mode
SMALL_CLASSES, SMALL_ROWS = 15, 6000  # what --small keeps of real data
OWN, COMMON, STORED = 12, 170, 100  # draws from a topic's features and from all, and distinct ones kept, a document


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

    def about(self) -> Record:
        out = {"n": self.x.shape[0], "d": self.x.shape[1], "tested": self.x_test.shape[0]}
        stored = {"nonzeros": int(self.x.nnz)} if sparse.issparse(self.x) else {}
        return out | stored | {"classes": len(np.unique(self.y))}


def embeddings(order: Record) -> Data:
    """CLINC150, embedded."""
    with np.load(EMBEDDINGS) as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    data = Data(x.astype(np.float32), y.astype(np.int64), x_test.astype(np.float32), y_test.astype(np.int64))
    return data.part(lambda y: y < SMALL_CLASSES) if order["small"] else data


def few(order: Record) -> Data:
    """Ten rows a class of the same."""
    data, rng = embeddings(order), np.random.default_rng([order["seed"], 1])
    places = [rng.choice(np.flatnonzero(data.y == c), 10, replace=False) for c in np.unique(data.y)]
    return data[np.concatenate(places)]


def tfidf(order: Record) -> Data:
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


def wordnet(order: Record) -> Data:
    """WordNet's synsets and their lexicographer files; a fifth, drawn with a fixed seed, is for testing."""
    x, y = np.load(WORDNET, mmap_mode="r"), np.load(WORDNET_LABELS).astype(np.int64)
    places = np.random.default_rng(0).permutation(len(y))[: SMALL_ROWS if order["small"] else None]
    test, train = np.split(places, [len(places) // 5])
    return Data(x[train].astype(np.float32), y[train], x[test].astype(np.float32), y[test])


def shuffled(load: Callable[[Record], Data]) -> Callable[[Record], Data]:
    """The same data, training rows in an order drawn by the seed."""

    def loaded(order: Record) -> Data:
        data = load(order)
        return data[np.random.default_rng([order["seed"], 0]).permutation(len(data.y))]

    return loaded


def modes(order: Record, rows_a_class: int, d: int, tested: int) -> Data:
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


def documents(order: Record) -> Data:
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


def turned(x: np.ndarray, angle: float) -> np.ndarray:
    """Rows turned by an angle in every plane of coordinates 2i and 2i + 1: nothing moves relative to the rest."""
    a, b = x[:, 0::2], x[:, 1::2]
    out = np.empty_like(x)
    out[:, 0::2], out[:, 1::2] = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    return out
