"""Rows without a direction under the cosine metric: labelled, and left out of everything that centres are made from."""

import warnings

import numpy as np
import pytest
from conftest import limited
from scipy import sparse
from sklearn.metrics import silhouette_score

import fastann
from fastann import KMeans, open_source
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.data.source import ArraySource, Without

ZEROS = np.array([0, 1, 17, 64, 65, 66, 399])


@pytest.fixture(scope="module")
def clean():
    return np.random.default_rng(0).standard_normal((393, 12), dtype="f")


@pytest.fixture(scope="module")
def x(clean):
    out = np.zeros((400, 12), np.float32)
    out[others()] = clean
    return out


def others():
    return np.setdiff1d(np.arange(400), ZEROS)


def in_file(x, tmp_path):
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    return str(tmp_path / "x.npy")


def in_small_chunks(x, tmp_path):
    return as_source(x, limits=Limits(chunk_bytes=4 * 12 * 3))  # some of them have zero rows only


KINDS = {
    "float32": lambda x, tmp_path: x,
    "float64, by columns": lambda x, tmp_path: np.asfortranarray(x, np.float64),
    "sparse": lambda x, tmp_path: sparse.csr_matrix(x),
    "half, in a file": in_file,
    "small chunks": in_small_chunks,
    "a function": lambda x, tmp_path: open_source(lambda: [x[:1], x[1:18], x[18:70], x[70:]]),
    "unit rows": lambda x, tmp_path: x / np.where(x.any(axis=1), np.linalg.norm(x, axis=1), 1)[:, None],
}
PLANS = {
    "exact": {"index": "flat"},
    "candidates": {"small": 1, "few": 1},
    "samples": {"small": 1, "few": 8, "rows_per_cluster": 4, "level": 4},
    "ivf": {"index": "ivf:nlist=2,nprobe=2"},
    "sample": {"sample": 350},
}


def model(plan, **options):
    given = dict(PLANS[plan])
    limits = {name: given.pop(name) for name in list(given) if hasattr(KMeans.limits, name)}
    return limited(**limits)(6, metric="cosine", random_state=0, **given, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", PLANS)
def test_zero_rows_are_left_out_of_the_centres(x, clean, kind, plan, tmp_path):
    if kind == "sparse" and plan == "ivf":
        pytest.skip("ivf takes no sparse rows")
    km, given = model(plan, margins=True), KINDS[kind](x, tmp_path)
    with pytest.warns(UserWarning, match=r"7 of 400 rows are zero, row 0 first: .* label 0 at distance 1") as said:
        km.fit(given)
    assert (len(said), said[0].filename) == (1, __file__)
    without = KINDS[kind](clean, tmp_path / "clean") if kind != "half, in a file" else clean.astype(np.float16)
    if kind == "a function":
        without = clean
    same = model(plan, margins=True).fit(without)
    np.testing.assert_allclose(km.cluster_centers_, same.cluster_centers_, atol=1e-6)
    assert km.inertia_ == pytest.approx(same.inertia_, rel=1e-6)
    np.testing.assert_array_equal(km.weights_, same.weights_)
    for name in ("labels_", "distances_", "second_labels_", "margins_"):
        np.testing.assert_allclose(getattr(km, name)[others()], getattr(same, name), atol=1e-6)
    assert set(km.labels_[ZEROS]) == {0}
    assert set(km.distances_[ZEROS]) == {1}
    assert set(km.second_labels_[ZEROS]) == {1}
    assert set(km.margins_[ZEROS]) == {0}
    np.testing.assert_array_equal(km.predict(KINDS[kind](x, tmp_path)), km.labels_)


@pytest.mark.parametrize("kind", ["float32", "sparse", "small chunks"])
def test_a_fitted_model_answers_for_zero_rows(x, clean, kind, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # only what learns warns
        km = KMeans(6, metric="cosine", random_state=0).fit(clean)
        given = KINDS[kind](x, tmp_path)
        np.testing.assert_array_equal(km.predict(given)[others()], km.labels_)
        np.testing.assert_allclose(km.transform(given)[others()], km.transform(clean), atol=1e-6)
        assert (km.transform(given)[ZEROS] == 1).all()
        distances, ids = km.kneighbors(given, 3)
        np.testing.assert_array_equal(ids[ZEROS], [[0, 1, 2]] * len(ZEROS))
        assert (distances[ZEROS] == 1).all()
        assert km.score(given) == pytest.approx(km.score(clean), rel=1e-6)
        weights = np.ones(400)
        weights[ZEROS] = 1000
        assert km.score(given, sample_weight=weights) == pytest.approx(km.score(clean), rel=1e-6)
        assert km.score(np.zeros((3, 12))) == 0


@pytest.mark.parametrize("kind", ["float32", "sparse", "small chunks", "a function"])
def test_a_stream_leaves_zero_rows_out(x, clean, kind, tmp_path):
    km, same = (KMeans(6, metric="cosine", random_state=0, margins=True) for _ in range(2))
    rows = sparse.csr_matrix(clean) if kind == "sparse" else clean  # starts are improved where rows are dense
    same.partial_fit(rows).partial_fit(rows)
    for _ in range(2):
        with pytest.warns(UserWarning, match="7 of 400 rows are zero"):
            km.partial_fit(KINDS[kind](x, tmp_path))
    np.testing.assert_allclose(km.cluster_centers_, same.cluster_centers_, atol=1e-5)
    np.testing.assert_allclose(km.weights_, same.weights_)
    np.testing.assert_array_equal(km.labels_[others()], same.labels_)
    assert set(km.labels_[ZEROS]) == {0}
    assert len(km.distances_) == len(km.second_labels_) == 400


def test_a_batch_of_nothing_but_zero_rows_teaches_nothing(clean):
    km = KMeans(6, metric="cosine", random_state=0, margins=True).partial_fit(clean)
    centers, weights = km.cluster_centers_, km.weights_
    with pytest.warns(UserWarning, match="2 of 2 rows are zero"):
        km.partial_fit(np.zeros((2, 12)))
    np.testing.assert_array_equal(km.cluster_centers_, centers)
    np.testing.assert_array_equal(km.weights_, weights)
    assert (km.labels_.tolist(), km.distances_.tolist(), km.inertia_, km.n_steps_) == ([0, 0], [1, 1], 0, 2)
    assert km.partial_fit(clean).n_steps_ == 3


def test_weights_of_zero_rows_count_nothing(x, clean):
    w = np.random.default_rng(1).random(400)
    w[ZEROS] = 1e6
    start = clean[:6]
    with pytest.warns(UserWarning, match="are zero"):
        km = KMeans(6, metric="cosine", init=start).fit(x, sample_weight=w)
    same = KMeans(6, metric="cosine", init=start).fit(clean, sample_weight=w[others()])
    np.testing.assert_allclose(km.cluster_centers_, same.cluster_centers_, atol=1e-6)
    assert km.inertia_ == pytest.approx(same.inertia_)


@pytest.mark.parametrize("empty", ["split", "farthest", "keep"])
def test_empty_clusters_are_not_filled_with_zero_rows(clean, empty):
    x = np.concatenate([np.zeros((300, 12), np.float32), clean])
    start = np.concatenate([clean[:3], np.tile(clean[0], (3, 1))])
    with pytest.warns(UserWarning, match="300 of 693 rows are zero"):
        km = KMeans(6, metric="cosine", init=start, empty=empty, tol=0, max_iter=100, random_state=0).fit(x)
    np.testing.assert_allclose(np.linalg.norm(km.cluster_centers_, axis=1), 1, rtol=1e-5)
    assert km.stop_reason_ == "converged"


@pytest.mark.filterwarnings("ignore:.* are zero")
def test_a_model_of_zero_rows_is_saved_whole(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    km = KMeans(6, metric="cosine", margins=True, random_state=0).fit(tmp_path / "x.npy")
    km.save(tmp_path / "run")
    again = KMeans.load(tmp_path / "run")
    for name in ("labels_", "distances_", "second_labels_", "margins_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(km, name))
    assert again.clustering_.rows.data["n"] == 400
    np.testing.assert_array_equal(again.predict(x), km.labels_)
    one = KMeans(1, metric="cosine", margins=True).fit(x)
    assert (one.second_labels_[0], one.margins_[0]) == (-1, np.inf)


@pytest.mark.parametrize(
    ("rows", "weights", "words"),
    [
        (np.eye(5)[:3], None, r"n_clusters=4 needs at least 4 rows that are not zero, .* 6 of 9 rows are zero, row 3"),
        (np.zeros((3, 5)), None, r"n_clusters=4 needs .* 9 of 9 rows are zero, row 0 first"),
        (np.eye(5), [0] * 5 + [1] * 4, "every row of positive sample_weight is zero"),
    ],
)
def test_too_few_rows_with_a_direction_are_refused(rows, weights, words):
    x = np.zeros((9, 5))
    x[: len(rows)] = rows
    with pytest.raises(ValueError, match=words):
        KMeans(4, metric="cosine").fit(x, sample_weight=weights)


def test_rows_that_are_almost_zero_are_named_beside_zero_rows(x):
    bad = x.astype(np.float64)
    bad[200] = 1e-20
    with pytest.raises(ValueError, match=r"row 200 has norm .* scale the rows up"):
        KMeans(6, metric="cosine").fit(bad)


def test_a_source_without_some_rows(x, clean):
    source = Without(ArraySource(x, Limits(chunk_bytes=4 * 12 * 3)), ZEROS)
    for part in (None, slice(0, 0), slice(1, 2), slice(14, 70), slice(392, 393)):
        some = slice(0, source.n) if part is None else part
        blocks = list(source.chunks(part=part))
        rows = np.concatenate([np.empty((0, 12), "f"), *(block for _, block in blocks)])
        np.testing.assert_array_equal(rows, clean[some])
        sizes = [len(block) for _, block in blocks]
        assert [start for start, _ in blocks] == (some.start + np.cumsum([0, *sizes])[:-1]).tolist()
    picks = np.array([392, 0, 61, 61])
    np.testing.assert_array_equal(source.take(picks), clean[picks])
    np.testing.assert_array_equal(source.convert(source.native(slice(60, 64))), clean[60:64])


@pytest.mark.filterwarnings("ignore:.* are zero")
def test_zero_rows_are_evaluated_and_drawn(x):
    km = KMeans(4, metric="cosine", random_state=0).fit(x)
    of_model, of_labels = fastann.evaluate(km, x), fastann.evaluate(km.labels_, x, metric="cosine")
    expected = silhouette_score(x, km.labels_, metric="cosine")
    assert of_model.values["silhouette"] == pytest.approx(expected, abs=1e-5)
    assert of_labels.values["silhouette"] == pytest.approx(expected, abs=1e-5)
    assert len(fastann.plot.clusters(km, x).lines) > 1


@pytest.mark.filterwarnings("ignore:.* are zero")
@pytest.mark.parametrize("kind", ["float32", "sparse", "small chunks"])
def test_an_evaluation_has_zero_rows_as_far_away_as_the_fit(x, kind, tmp_path):
    given = KINDS[kind](x, tmp_path)
    km = KMeans(4, metric="cosine", random_state=0).fit(given)
    e = fastann.evaluate(km, given, members=20)
    assert e.values["intra"] == pytest.approx(km.distances_.mean(), rel=1e-5)
    assert e.values["inertia"] == pytest.approx(2 * km.distances_.mean(), rel=1e-5)
    assert e.clusters["radius"][0] == pytest.approx(km.distances_[km.labels_ == 0].max(), rel=1e-5)
    assert not np.isin(e.clusters["representatives"], ZEROS).any()
    labels = np.arange(400) % 4  # in wide clusters, rows at half the distance would represent them
    assert not np.isin(fastann.evaluate(labels, given, metric="cosine").clusters["representatives"], ZEROS).any()
