"""Prototypes of half precision: kept, searched and saved in two bytes a value, with answers as of what is stored."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import euclidean_distances
from test_classifier import METRICS, fitted, has, modes, refusal

from fastann import PrototypeClassifier
from fastann.classify.half import Half
from fastann.classify.search import PrototypeSearch
from fastann.data.source import dense
from fastann.index.spec import Cells

HALVES = ["float16", "bfloat16"]
KINDS = ["dense", "sparse"]


def wide_rows(kind, n=900, d=400, seed=0):
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((n, d)) < 0.2, rng.random((n, d)), 0).astype(np.float32)
    y = rng.integers(0, 6, n)
    x[np.arange(n), y] += 4
    return (sparse.csr_matrix(x) if kind == "sparse" else x), y


def file_bytes(model, folder):
    model.save(folder)
    return (Path(folder) / "centroids.safetensors").stat().st_size


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_memory_and_file_are_half(kind, dtype, tmp_path):
    data = wide_rows(kind)
    common = {"n_prototypes": 20, "refine": "none", "metric": "euclidean"}
    full, half = fitted(data, **common), fitted(data, dtype=dtype, **common)
    values = full.classification_.prototypes.vectors.size
    assert half.classification_.nbytes < 0.51 * full.classification_.nbytes
    assert full.classification_.nbytes >= 4 * values
    assert file_bytes(half, tmp_path / "half") < 0.56 * file_bytes(full, tmp_path / "full")  # with names and weights
    again = PrototypeClassifier.load(tmp_path / "half")
    assert again.classification_.nbytes == half.classification_.nbytes
    for model in (half, again):
        model.predict(data[0])
        assert len(pickle.dumps(model)) < 0.56 * len(pickle.dumps(full))
    np.testing.assert_array_equal(dense(again.prototypes_), dense(half.prototypes_))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_answers_are_those_of_the_stored_values(kind, metric, dtype):
    x, y = wide_rows(kind, d=30)
    model = fitted((x, y), metric=metric, n_prototypes=5, dtype=dtype)
    p, rows = dense(model.prototypes_).astype(np.float64), dense(x).astype(np.float64)
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    true = euclidean_distances(rows, p, squared=True)
    distance, ids = model.kneighbors(x, 4)
    expected = np.sort(true, axis=1)[:, :4]
    found = np.take_along_axis(true, ids.astype(int), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(distance, np.sqrt(found) if metric == "euclidean" else found / 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model.predict(x), model.prototype_labels_[model.kneighbors(x, 1)[1][:, 0]])
    one = np.array([model.predict(x[i : i + 1])[0] for i in range(20)])
    np.testing.assert_array_equal(one, model.predict(x)[:20])
    proba = model.predict_proba(x)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (model.classes_[proba.argmax(axis=1)] == model.predict(x)).mean() > 0.99
    assert model.score(x, y) > fitted((x, y), metric=metric, n_prototypes=5).score(x, y) - 0.01


def test_values_are_rounded_to_nearest_even():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32) * np.float32(10.0) ** np.arange(-20, 20)
    np.testing.assert_array_equal(Half.of(x, "bfloat16")[:], x.astype(ml_dtypes.bfloat16).astype(np.float32))
    few = x[:, 15:22]
    np.testing.assert_array_equal(Half.of(few, "float16")[:], few.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("dtype", HALVES)
def test_some_rows_of_sparse_ones(dtype, rng):
    x = sparse.random(30, 70_000, 0.001, format="csr", random_state=rng, dtype=np.float32)
    half, whole = Half.of(x, dtype), Half.of(x.toarray(), dtype)
    assert half.nbytes < 0.8 * (x.data.nbytes + x.indices.nbytes)
    for some in (slice(None), slice(3, 9), slice(9, 3), slice(0, 30, 4), np.array([5, 0, 0, 29]), np.empty(0, int)):
        np.testing.assert_array_equal(half[some].toarray(), whole[some])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", ["flat", "cells"])
def test_searches_of_many_prototypes_agree_with_those_of_float32(kind, dtype, monkeypatch, rng):
    monkeypatch.setattr("fastann.classify.half.AT_ONCE", 1000)  # several parts
    vectors = Half.of(rng.standard_normal((700, 9)).astype(np.float32), dtype)
    x = rng.standard_normal((300, 9)).astype(np.float32)
    search = PrototypeSearch("flat" if kind == "flat" else Cells(nlist=20, nprobe=20))
    for m in (1, 3, 700):
        ids, sqdist = search.build(vectors).search(x, m)
        same, far = PrototypeSearch("flat").build(vectors[:]).search(x, m)
        np.testing.assert_array_equal(ids, same)
        np.testing.assert_allclose(sqdist, far, rtol=1e-5)
    near = PrototypeSearch(Cells(nlist=20, nprobe=3)).build(vectors).search(x, 1)[0]
    assert 0.6 < (near == same[:, :1]).mean() < 1 or kind == "flat"
    assert (PrototypeSearch(Cells(nlist=300, nprobe=1)).build(vectors).search(x, 50)[0] >= 0).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_moves_on_after_many_rows_and_is_half_once_it_is_saved(kind, dtype, tmp_path):
    """In half precision the mean of so many rows would stand still: a row moves it by less than the next value."""
    x = np.tile(np.array([[1.0, 2.0], [2.0, 1.0]], np.float32), (3000, 1))
    y = np.tile([0, 1], 3000)
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    model = PrototypeClassifier(1, metric="euclidean", dtype=dtype, random_state=0)
    for start in range(0, 6000, 2000):
        model.partial_fit(rows[start : start + 2000], y[start : start + 2000])
    for start in range(0, 6000, 500):
        model.partial_fit(rows[start : start + 500] * 1.5, y[start : start + 500])
    np.testing.assert_allclose(dense(model.prototypes_), np.array([[1.25, 2.5], [2.5, 1.25]]), rtol=5e-3)
    streaming = model.classification_.nbytes
    model.save(tmp_path / "model")
    again = PrototypeClassifier.load(tmp_path / "model")
    assert again.classification_.nbytes < streaming
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    again.partial_fit(rows, y)
    assert again.score(rows, y) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_batch_leaves_half_precision_as_it_was(kind):
    x, y = wide_rows(kind, d=20)
    model = fitted((x, y), dtype="float16")
    before, found = model.classification_.nbytes, model.predict(x)
    bad = x * np.float32(np.nan)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(bad, y)
    assert model.classification_.nbytes == before
    np.testing.assert_array_equal(model.predict(x), found)


def test_rows_that_wait_are_half_too(tmp_path):
    x, y = modes(n=40)
    for dtype in HALVES:
        model = PrototypeClassifier(8, dtype=dtype, random_state=0).partial_fit(x, y)
        waiting = [rows for blocks in model.classification_.stream.waiting.values() for rows, _ in blocks]
        assert sum(rows.nbytes for rows in waiting) == 2 * x.size
        model.save(tmp_path / dtype)
        again = PrototypeClassifier.load(tmp_path / dtype)
        for one in (model, again):
            one.partial_fit(x, y)
        np.testing.assert_allclose(again.prototypes_, model.prototypes_, rtol=0.02, atol=0.01)


def test_values_beyond_float16_are_refused():
    x, y = modes(n=100)
    big = PrototypeClassifier(metric="euclidean", dtype="float16", refine="none")
    has(refusal(ValueError, big.fit, x * 1e5, y), "float16", "65504", "dtype='bfloat16'")
    assert big.set_params(dtype="bfloat16").fit(x * 1e5, y).score(x * 1e5, y) > 0.8


def test_a_type_that_is_set_later_is_taken(tmp_path):
    x, y = modes(n=300)
    model = fitted((x, y))
    full, nbytes = model.prototypes_, model.classification_.nbytes
    assert model.set_params(dtype="float16").prototypes_.dtype == np.float16
    model.save(tmp_path / "half")
    half = PrototypeClassifier.load(tmp_path / "half")
    assert 2 * half.classification_.nbytes == nbytes
    np.testing.assert_allclose(half.set_params(dtype="float32").prototypes_, full, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("index", ["hnsw", "ivf:nlist=4,nprobe=4", "cells:nlist=4,nprobe=4"])
def test_other_indexes_search_half_precision(index):
    x, y = modes(n=400)
    model = fitted((x, y), n_prototypes=10, index=index, dtype="bfloat16")
    exact = fitted((x, y), n_prototypes=10, dtype="bfloat16")
    assert (model.predict(x) == exact.predict(x)).mean() > 0.98
