"""K-means on sparse rows: the same answers as on dense ones, at the cost of their stored values."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from fastann import IVF, KMeans
from fastann.index.own import FlatIndex

DENSE_TO_SPARSE = [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.csr_array, sparse.lil_matrix]


@pytest.fixture(scope="module")
def rows():
    """600 rows of 40 columns around 6 sparse topics; none is empty."""
    rng = np.random.default_rng(0)
    topics = rng.random((6, 40)) * (rng.random((6, 40)) < 0.25)
    x = topics[rng.integers(0, 6, 600)] * (rng.random((600, 40)) < 0.7) + 0.05 * (rng.random((600, 40)) < 0.03)
    x[:, 0] += 0.01
    return x.astype(np.float32)


PLANS = [
    {"index": "flat"},
    {"index": "auto"},
    {"index": "flat", "candidates": 4},
    {"index": "flat", "size_aware": True},
]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_equals_dense(rows, rng, metric, plan, weighted):
    weights = rng.random(len(rows)) if weighted else None
    fits = [
        KMeans(12, metric=metric, init=rows[:12], **plan).fit(x, sample_weight=weights)
        for x in (sparse.csr_matrix(rows), rows)
    ]
    np.testing.assert_array_equal(fits[0].labels_, fits[1].labels_)
    np.testing.assert_allclose(fits[0].cluster_centers_, fits[1].cluster_centers_, atol=1e-6)
    assert fits[0].inertia_ == pytest.approx(fits[1].inertia_, rel=1e-6)
    assert fits[0].assignment_recall_ == 1


@pytest.mark.parametrize("index", ["flat", "ivf:nlist=4,nprobe=4", "hnsw"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_model_of_dense_rows_measures_sparse_ones_alike(rows, metric, index):
    km = KMeans(12, metric=metric, index=index, random_state=0).fit(rows)
    for found, expected in zip(km.kneighbors(sparse.csr_matrix(rows), 3), km.kneighbors(rows, 3), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert km.score(sparse.csr_matrix(rows)) == pytest.approx(km.score(rows), rel=1e-6)


@pytest.mark.parametrize("init", ["random", "k-means++", "k-means||", "afk-mc2"])
@pytest.mark.parametrize("empty", ["split", "farthest", "keep"])
def test_starts_and_refills_equal_those_of_dense_rows(rows, init, empty):
    a, b = (KMeans(40, init=init, empty=empty, random_state=3).fit(x) for x in (sparse.csr_matrix(rows), rows))
    assert a.inertia_ == pytest.approx(b.inertia_, rel=1e-5)


def test_equals_scikit_learn_on_the_same_rows_and_start(rows):
    x = sparse.csr_matrix(rows.astype(np.float64))
    start = rows[:8].astype(np.float64) + 1e-4 * np.random.default_rng(1).random((8, 40))
    ours = KMeans(8, index="flat", init=start, max_iter=100, tol=0, empty="farthest").fit(x)
    theirs = sklearn.cluster.KMeans(8, init=start, n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(x)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-5)
    assert np.mean(ours.labels_ == theirs.labels_) > 0.998


@pytest.mark.parametrize("kind", DENSE_TO_SPARSE)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8])
def test_every_kind_of_matrix(rows, kind, dtype):
    x = np.rint(rows * 20).astype(dtype)
    x[:, 0] = 1
    given_matrix = kind(x)
    labels = KMeans(6, init=x[:6], random_state=0).fit(given_matrix).labels_
    np.testing.assert_array_equal(labels, KMeans(6, init=x[:6], random_state=0).fit(x).labels_)
    np.testing.assert_array_equal(given_matrix.toarray(), x)  # untouched


def test_unsorted_duplicate_negative_and_explicit_zero_entries():
    """Row 0 is (0, 3, 0), written with a column twice and a zero; row 1 is (-2, 0, 1), columns out of order."""
    x = sparse.csr_matrix(
        (np.array([1.0, 2, 0, 1, -2, 5]), np.array([1, 1, 2, 2, 0, 0]), np.array([0, 3, 5, 6])), shape=(3, 3)
    )
    data = x.data.copy()
    km = KMeans(3, random_state=0, max_iter=1).fit(x)
    expected = {(0.0, 3.0, 0.0), (-2.0, 0.0, 1.0), (5.0, 0.0, 0.0)}
    assert {tuple(c) for c in km.cluster_centers_.tolist()} == expected
    np.testing.assert_array_equal(x.data, data)


def test_models_take_either_kind_of_rows(rows):
    x = sparse.csr_matrix(rows)
    from_sparse, from_dense = KMeans(9, random_state=0).fit(x), KMeans(9, index=IVF(nprobe=9), random_state=0).fit(rows)
    for km in (from_sparse, from_dense):
        np.testing.assert_array_equal(km.predict(x), km.predict(rows))
        np.testing.assert_allclose(km.transform(x), km.transform(rows), atol=1e-5)
        np.testing.assert_array_equal(km.kneighbors(x, 3)[1], km.kneighbors(rows, 3)[1])
        assert km.score(x) == pytest.approx(km.score(rows), rel=1e-6)


def test_file_of_a_sparse_matrix(rows, tmp_path):
    x = sparse.csr_matrix(rows)
    sparse.save_npz(tmp_path / "x.npz", x)
    km = KMeans(5, random_state=0).fit(tmp_path / "x.npz")
    np.testing.assert_array_equal(km.labels_, KMeans(5, random_state=0).fit(x).labels_)
    km.save(tmp_path / "run")
    np.testing.assert_array_equal(KMeans.load(tmp_path / "run").predict(x), km.predict(x))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc to tell")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_centres_of_many_columns_are_held_about_four_times(metric):
    """Centres, centres by column, and their sums in float64; in a process of its own, as the core's memory counts."""
    code = f"""if True:
        import numpy as np, scipy.sparse as sp
        from fastann import KMeans
        def memory(name):
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
        def rows(n, d):
            ends = np.arange(0, n * 60 + 1, 60)
            columns = np.sort(np.random.default_rng(0).integers(0, d, (n, 60)), 1).ravel()
            x = sp.csr_matrix((np.ones(n * 60, "f"), columns, ends), shape=(n, d))
            x.sum_duplicates()
            return x
        KMeans(20, metric={metric!r}, max_iter=3, random_state=0).fit(rows(1000, 1000))
        x = rows(3000, 60_000)
        before = memory("VmRSS")
        km = KMeans(150, metric={metric!r}, max_iter=6, random_state=0).fit(x)
        print((memory("VmHWM") - before) / (km.cluster_centers_.size * 4 / 2**20))"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 4.9


def test_rows_are_never_made_dense():
    """20,000 rows of 50,000 columns would take 4 GB; what is allocated stays below the centres' few copies."""
    rng = np.random.default_rng(0)
    n, d, k, each = 20_000, 50_000, 20, 20
    x = sparse.csr_matrix(
        (rng.random(n * each), rng.integers(0, d, n * each), np.arange(0, n * each + 1, each)), (n, d)
    )
    KMeans(k, index="flat", init="random", max_iter=2, random_state=0).fit(x[:100])  # compiled before
    tracemalloc.start()
    KMeans(k, index="flat", init="random", max_iter=3, random_state=0).fit(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30),
    d=st.integers(1, 60),
    k=st.integers(1, 70),
    m=st.integers(1, 5),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_search_equals_brute_force(n, d, k, m, density, seed):
    rng = np.random.default_rng(seed)
    x = (rng.integers(-2, 3, (n, d)) * (rng.random((n, d)) < density)).astype(np.float32)
    centroids = rng.integers(-2, 3, (k, d)).astype(np.float32)
    m = min(m, k)
    ids, sqdist = FlatIndex(centroids).search(sparse.csr_matrix(x), m)
    true = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    order = np.argsort(true, axis=1, kind="stable")[:, :m]  # ties, which integers have plenty of, to the lowest
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(sqdist, np.take_along_axis(true, order, axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("matrix", "parts"),
    [
        (sparse.csr_matrix((0, 4)), ["0 sample(s)"]),
        (sparse.csr_matrix((4, 0)), ["0 feature(s)"]),
        (sparse.csr_matrix(np.eye(4) * 1j), ["Complex data", "complex128"]),
        (sparse.csr_matrix(np.array([[1, np.nan], [1, 2]])), ["contains NaN", "row 0, column 1"]),
        (sparse.csr_matrix(np.array([[1, 2], [np.inf, 2]])), ["contains infinity", "row 1, column 0"]),
        (sparse.csr_matrix(np.array([[1, 2], [1e30, 2]])), ["row 1 holds values up to 1e+30", "divide the data"]),
    ],
    ids=["no rows", "no columns", "complex", "NaN", "infinity", "huge"],
)
def test_bad_matrices_are_refused(matrix, parts):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the parts are checked below
        KMeans(1).fit(matrix)
    for part in parts:
        assert part in str(refused.value)


def test_indices_beyond_the_shape_are_refused():
    x = sparse.csr_matrix(np.eye(4))
    x.indices[2] = 9
    with pytest.raises(ValueError, match=r"not a valid sparse matrix.*build it again"):
        KMeans(2).fit(x)


def test_an_empty_row_has_no_direction(rows):
    x = sparse.csr_matrix(np.vstack([rows[:5], np.zeros((1, 40))]))
    with pytest.warns(UserWarning, match="1 of 6 rows are zero, row 5 first: they have no direction"):
        km = KMeans(2, metric="cosine", random_state=0).fit(x)
    assert (km.labels_[5], km.distances_[5]) == (0, 1)
    assert len(KMeans(2, random_state=0).fit(x).labels_) == 6


@pytest.mark.parametrize("index", ["ivf", "hnsw", "cells", "factory:SQ8"])
def test_other_indexes_do_not_take_sparse_rows(rows, index):
    with pytest.raises(ValueError, match="sparse rows are searched by index='flat' or 'auto'"):
        KMeans(4, index=index).fit(sparse.csr_matrix(rows))
