"""Tens of thousands of classes: learned and predicted in seconds, by fit, by stream, dense, sparse and half."""

import time

import numpy as np
import pytest
from scipy import sparse

from fastann import PrototypeClassifier

CLASSES = 50_000


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLASSES, 12)).astype(np.float32)
    y = np.repeat(np.arange(CLASSES), 2)
    return centres[y] + 0.02 * rng.standard_normal((2 * CLASSES, 12)).astype(np.float32), y


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fifty_thousand_classes(table, dtype):
    x, y = table
    began = time.perf_counter()
    model = PrototypeClassifier(1, metric="euclidean", refine="none", dtype=dtype, random_state=0).fit(x, y)
    assert len(model.classes_) == len(model.prototypes_) == CLASSES
    assert (model.predict(x[:20_000]) == y[:20_000]).mean() > 0.98
    assert model.kneighbors(x[:5], 3)[1].shape == (5, 3)
    assert time.perf_counter() - began < 60
    assert model.classification_.nbytes == CLASSES * 12 * (4 if dtype == "float32" else 2)


def test_fifty_thousand_classes_in_a_stream():
    rng = np.random.default_rng(0)
    x, names = rng.standard_normal((CLASSES, 4)), np.char.add("class ", np.arange(CLASSES).astype(str))
    model = PrototypeClassifier(1, random_state=0)
    for start in range(0, CLASSES, 25_000):
        part = np.tile(np.arange(start, start + 25_000), 2)
        model.partial_fit(x[part], names[part])
        assert len(model.last_batch_.new_classes) == 25_000
    assert len(model.classes_) == CLASSES


def test_fifty_thousand_classes_of_sparse_rows():
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, 5000, (CLASSES, 4)), axis=1)
    x = sparse.csr_matrix((np.ones(4 * CLASSES, np.float32), columns.ravel(), np.arange(0, 4 * CLASSES + 1, 4)))
    x, y = sparse.vstack([x, x], format="csr"), np.tile(np.arange(CLASSES), 2)
    model = PrototypeClassifier(1, refine="none", random_state=0).fit(x, y)
    assert (model.predict(x[:2000]) == y[:2000]).mean() > 0.99
