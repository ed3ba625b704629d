"""The engine against scikit-learn, a hand-computed example, and itself under changes that must not matter."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Sklearn
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score

from fastann import IVF, KMeans, kernels
from fastann.cluster.criterion import NEAREST
from fastann.cluster.passes.every import Every
from fastann.cluster.space import Euclidean
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.data.source import ArraySource
from fastann.index.spec import Flat

# --------------------------------------------------------------------------- scikit-learn as oracle


def same_as_sklearn(x, k, weights, iterations, least_equal=0.999):
    """Same start, same number of iterations; scikit-learn in float64, as its float32 sums are the coarser."""
    noise = np.random.default_rng(1).standard_normal((k, x.shape[1])) * 1e-3 * x.std()  # no exact ties
    start = (x[:k] + noise).astype(np.float32)
    common = {"n_init": 1, "max_iter": iterations, "tol": 0}
    ours = KMeans(k, index="flat", empty="farthest", init=start, **common).fit(x, sample_weight=weights)
    wide = x.astype(np.float64)
    theirs = Sklearn(k, init=start.astype(np.float64), **common).fit(wide, sample_weight=weights)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-5)
    assert (ours.labels_ == theirs.labels_).mean() >= least_equal
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-3 * np.abs(x).max())


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "k"), [("digits", 10), ("digits", 100), ("photo", 50), ("wordnet", 64), ("tokens", 64)]
)
def test_flat_equals_scikit_learn(request, rng, name, k, weighted):
    x = load_digits().data if name == "digits" else request.getfixturevalue(name)[:20_000]
    same_as_sklearn(x, k, rng.random(len(x)) if weighted else None, iterations=8)


def test_flat_equals_scikit_learn_until_convergence():
    x = load_digits().data
    same_as_sklearn(x, 10, None, iterations=300)


@pytest.mark.slow
@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_ivf_and_hnsw_come_within_two_percent_of_flat(wordnet, index):
    common = {"init": wordnet[:1024], "max_iter": 6, "tol": 0, "random_state": 0}
    flat = KMeans(1024, index="flat", **common).fit(wordnet)
    km = KMeans(1024, index=index, **common).fit(wordnet)
    assert km.inertia_ < 1.02 * flat.inertia_
    assert km.assignment_recall_interval_[0] > 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("k", "d"), [(10, 2), (10, 64), (50, 2), (50, 16), (50, 64), (200, 8), (200, 64)])
def test_blobs_are_found_as_often_as_by_scikit_learn(k, d):
    """Well-separated blobs, 20 seeds: how often the clusters are exactly the blobs."""
    ours = theirs = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        centers = separated(k, d, rng)
        x, y = make_blobs(40 * k, d, centers=centers, cluster_std=1.0, random_state=seed)
        ours += adjusted_rand_score(y, KMeans(k, random_state=seed).fit_predict(x)) == 1
        theirs += adjusted_rand_score(y, Sklearn(k, random_state=seed).fit_predict(x)) == 1
    assert ours >= theirs


def separated(k, d, rng):
    """Centres in a cube, at least 16 standard deviations apart."""
    side = 16 * (3 * k) ** (1 / min(d, 8)) + 16
    centers = np.empty((0, d))
    while len(centers) < k:
        new = rng.uniform(0, side, d)
        if not len(centers) or np.linalg.norm(centers - new, axis=1).min() >= 16:
            centers = np.vstack([centers, new])
    return centers


# --------------------------------------------------------------------------- by hand


def test_by_hand():
    """Rows 0, 1, 2, 10, 12 with centres 0 and 1.

    First step: {0} to 0, {1, 2, 10, 12} to 1, inertia 0 + 0 + 1 + 81 + 121 = 203, centres 0 and 6.25.
    Second: {0, 1, 2} and {10, 12}, inertia 0 + 1 + 4 + 14.0625 + 33.0625 = 52.125, centres 1 and 11.
    Third: nothing moves, inertia 1 + 0 + 1 + 1 + 1 = 4.
    """
    x = np.array([[0], [1], [2], [10], [12]])
    km = KMeans(2, init=[[0], [1]], tol=0).fit(x)
    assert [record.inertia for record in km.history_] == [203, 52.125, 4]
    assert [record.moved for record in km.history_] == [5, 2, 0]
    np.testing.assert_array_equal(km.cluster_centers_, [[1], [11]])
    np.testing.assert_array_equal(km.labels_, [0, 0, 0, 1, 1])
    assert km.inertia_ == 4
    np.testing.assert_array_equal(km.distances_, [1, 0, 1, 1, 1])


def test_by_hand_weighted():
    """Weights 1 and 3 in one cluster put the mean at three quarters of the way."""
    km = KMeans(1, init=[[0.0]]).fit([[0.0], [4.0]], sample_weight=[1, 3])
    assert km.cluster_centers_[0, 0] == 3
    assert km.inertia_ == 1 * 9 + 3 * 1


def test_by_hand_cosine():
    """Directions, not lengths: two bundles of rays, whatever their norms."""
    x = np.array([[1, 0.1], [100, -10], [0.1, 1], [-3, 30]])
    km = KMeans(2, metric="cosine", init=[[1, 0], [0, 1]]).fit(x)
    np.testing.assert_array_equal(km.labels_, [0, 0, 1, 1])
    np.testing.assert_allclose(km.cluster_centers_, [[1, 0], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(km.distances_, 1 - 1 / np.sqrt(1.01), rtol=1e-4)


# --------------------------------------------------------------------------- invariances


def fit(x, k=40, **options):
    return KMeans(k, **{"init": x[:k].copy(), "max_iter": 6, "tol": 0, "random_state": 0, **options}).fit(x)


@pytest.mark.parametrize("index", ["flat", "ivf", "hnsw"])
def test_same_seed_same_bits(blobs, index):
    one, two = (KMeans(50, index=index, init="random", max_iter=5, random_state=4).fit(blobs) for _ in range(2))
    np.testing.assert_array_equal(one.cluster_centers_, two.cluster_centers_)
    np.testing.assert_array_equal(one.labels_, two.labels_)
    assert one.inertia_ == two.inertia_


def assigned(source, index, c):
    """A pass over rows that were never assigned, after one assignment, and what it counted."""
    work = Every.over(source, None, c, Euclidean())
    return work, work.assign(index, 0, NEAREST)


@pytest.mark.parametrize("index", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("chunk", [1, 77, 5000])
def test_chunk_size_does_not_matter(blobs, index, chunk):
    x = blobs[:2000]
    built = (Flat() if index == "flat" else IVF(nlist=5, nprobe=2)).build(x[:30])
    whole, _ = assigned(ArraySource(x), built, x[:30])
    cut, _ = assigned(as_source(x, limits=Limits(chunk_bytes=chunk * 4 * x.shape[1], at_once=chunk)), built, x[:30])
    np.testing.assert_array_equal(whole.rows.labels, cut.rows.labels)
    np.testing.assert_array_equal(whole.sums.counts, cut.sums.counts)
    np.testing.assert_allclose(whole.sums.sums, cut.sums.sums, rtol=1e-12, atol=1e-12)
    assert whole.inertia == pytest.approx(cut.inertia, rel=1e-6)


def test_sums_and_tallies_of_shards_add_up(blobs):
    index, c = Flat().build(blobs[:30]), blobs[:30]
    work, counted = assigned(ArraySource(blobs), index, c)
    halves = [assigned(ArraySource(part), index, c) for part in (blobs[:5000], blobs[5000:])]
    total = halves[0][0].sums + halves[1][0].sums
    np.testing.assert_array_equal(work.sums.counts, total.counts)
    np.testing.assert_allclose(work.sums.sums, total.sums, rtol=1e-12, atol=1e-12)
    assert counted == halves[0][1] + halves[1][1]


def test_number_of_threads_does_not_matter(blobs):
    one, two = fit(blobs, n_jobs=1), fit(blobs, n_jobs=2)
    np.testing.assert_array_equal(one.labels_, two.labels_)
    np.testing.assert_array_equal(one.cluster_centers_, two.cluster_centers_)


def test_row_order_does_not_matter(blobs, rng):
    order = rng.permutation(len(blobs))
    one = fit(blobs)
    two = fit(blobs[order], init=blobs[:40].copy())
    np.testing.assert_array_equal(one.labels_[order], two.labels_)
    assert one.inertia_ == pytest.approx(two.inertia_, rel=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_weight_n_is_n_copies(blobs, rng, metric):
    w = rng.integers(0, 4, len(blobs))
    start = blobs[:40].copy()
    one = fit(blobs, init=start, metric=metric)
    weighted = KMeans(40, init=start, metric=metric, max_iter=6, tol=0).fit(blobs, sample_weight=w)
    copies = fit(np.repeat(blobs, w, axis=0), init=start, metric=metric)
    np.testing.assert_array_equal(np.repeat(weighted.labels_, w), copies.labels_)
    assert weighted.inertia_ == pytest.approx(copies.inertia_, rel=1e-9)
    assert weighted.inertia_ != one.inertia_


def test_scaling_weights_does_not_matter(blobs, rng):
    w = rng.random(len(blobs))
    one = KMeans(40, init="random", random_state=0).fit(blobs, sample_weight=w)
    two = KMeans(40, init="random", random_state=0).fit(blobs, sample_weight=8 * w)
    np.testing.assert_array_equal(one.labels_, two.labels_)


@pytest.mark.parametrize("shift", [10.0, 1000.0, 1e6])
def test_translation_does_not_matter(blobs, shift):
    x = blobs.astype(np.float64)
    one, two = fit(x), fit(x + shift)
    assert (one.labels_ == two.labels_).mean() > 0.999
    assert two.inertia_ == pytest.approx(one.inertia_, rel=1e-4)
    np.testing.assert_array_equal(two.predict(x + shift), two.labels_)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_far_from_the_origin_centres_are_the_means_of_their_rows(rng, dtype):
    x = (1e7 + np.repeat([0, 50, 100], 100)[:, None] + rng.integers(0, 9, (300, 4))).astype(dtype)  # float32 steps by 1
    km = KMeans(3, random_state=0).fit(x)
    means = [x[km.labels_ == j].mean(axis=0, dtype=np.float64) for j in range(3)]
    np.testing.assert_allclose(km.cluster_centers_, means, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("fitted", "asked"), [("float32", "float64"), ("float64", "float32")])
def test_rows_far_from_the_origin_get_the_same_labels_whatever_holds_them(rng, fitted, asked):
    x = np.round(1e7 + rng.normal(0, 3, (4000, 4)))
    km = KMeans(30, random_state=0).fit(x.astype(fitted))
    np.testing.assert_array_equal(km.predict(x.astype(asked)), km.labels_)
    np.testing.assert_allclose(km.transform(x[:9].astype(asked)).min(axis=1), km.distances_[:9], rtol=1e-5)


def test_rotation_does_not_matter(blobs, rng):
    q = np.linalg.qr(rng.standard_normal((24, 24)))[0]
    one = fit(blobs.astype(np.float64))
    two = fit(blobs.astype(np.float64) @ q)
    assert (one.labels_ == two.labels_).mean() > 0.999
    assert two.inertia_ == pytest.approx(one.inertia_, rel=1e-5)


def test_scale_of_rows_does_not_matter_for_cosine(blobs, rng):
    scale = rng.uniform(0.1, 50, len(blobs))[:, None]
    one = fit(blobs, metric="cosine")
    two = fit((blobs * scale).astype("f"), metric="cosine", init=blobs[:40].copy())
    assert (one.labels_ == two.labels_).mean() > 0.999


def test_inertia_never_rises_with_a_poor_index(blobs):
    km = KMeans(400, index=IVF(nlist=40, nprobe=1), max_iter=12, tol=0, empty="keep", random_state=0).fit(blobs)
    inertias = [record.inertia for record in km.history_]
    assert all(a >= b * (1 - 1e-6) for a, b in pairwise(inertias))


# --------------------------------------------------------------------------- properties

DTYPES = [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64]


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    n=st.integers(1, 60),
    d=st.integers(1, 9),
    k=st.integers(1, 60),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from("CF"),
    strided=st.booleans(),
    weighted=st.booleans(),
    metric=st.sampled_from(["euclidean", "cosine"]),
    how=st.sampled_from(["auto", "random", "k-means++", "k-means||"]),
    empty=st.sampled_from(["split", "farthest", "keep"]),
    seed=st.integers(0, 3),
)
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_any_shape_dtype_order_weight_and_metric(n, d, k, dtype, order, strided, weighted, metric, how, empty, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((2 * n, d)) * 20 + 1).astype(dtype)
    x[(x == 0).all(axis=1)] = 1  # no direction, which cosine refuses
    x = np.asarray(x, order=order)
    x = x[::2] if strided else x[:n]
    k = min(k, n)
    w = rng.random(n) + 0.01 if weighted else None
    before = x.copy()
    km = KMeans(k, metric=metric, init=how, empty=empty, max_iter=5, random_state=seed).fit(x, sample_weight=w)
    np.testing.assert_array_equal(x, before)
    wide = x.astype(np.float32).astype(np.float64)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    table = ((wide[:, None] - km.cluster_centers_) ** 2).sum(-1)
    own = table[np.arange(n), km.labels_]
    scale = (wide**2).sum(1).max() + 1e-9
    assert (own <= table.min(1) + 1e-5 * scale).all()
    assert km.inertia_ == pytest.approx(own @ (np.ones(n) if w is None else w), abs=1e-4 * scale * n)
    assert np.isfinite(km.cluster_centers_).all()
    if metric == "euclidean" and empty == "keep" and how != "random":
        inertias = [record.inertia for record in km.history_]
        assert all(a >= b - 1e-4 * scale * n for a, b in pairwise(inertias))


def test_threads_are_limited_within_a_context():
    before = kernels.threads()
    with kernels.limit_threads(1):
        assert kernels.threads() == 1
    assert kernels.threads() == before


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_margins_are_those_to_the_second_nearest_centre(blobs, metric, weighted):
    w = np.random.default_rng(0).random(len(blobs)) + 0.5 if weighted else None
    km = KMeans(60, index="flat", metric=metric, margins=True, random_state=0).fit(blobs, sample_weight=w)
    distances = km.transform(blobs).astype(np.float64)
    nearest = np.sort(distances, axis=1)
    assert (km.second_labels_ != km.labels_).all()
    second = np.take_along_axis(distances, km.second_labels_[:, None].astype(np.int64), axis=1)[:, 0]
    np.testing.assert_allclose(second, nearest[:, 1], rtol=1e-6)  # of two that are as near, either
    np.testing.assert_allclose(km.margins_, nearest[:, 1] - nearest[:, 0], atol=1e-5)
    assert not hasattr(km.set_params(margins=False).fit(blobs), "margins_")


def test_margins_come_from_candidates_where_rows_have_them(blobs):
    km = KMeans(60, candidates=8, index="flat", margins=True, random_state=0).fit(blobs)
    exact = np.argsort(km.transform(blobs), axis=1)[:, 1]
    assert np.mean(km.second_labels_ == exact) > 0.98
    assert (km.second_labels_ != km.labels_).all()
    assert km.margins_.min() >= 0


def test_a_single_centre_has_no_second(blobs):
    km = KMeans(1, margins=True, random_state=0).fit(blobs)
    assert set(km.second_labels_.tolist()) == {-1}
    assert np.isinf(km.margins_).all()
    assert km.partial_fit(blobs[:5]).margins_.shape == (5,)
