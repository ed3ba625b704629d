"""What `evaluate` says of a clustering is what scikit-learn, brute force or a hand computes."""

import importlib.util
import json

import numpy as np
import pytest
from scipy import sparse
from sklearn import metrics
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import paired_distances, pairwise_distances

from fastann import KMeans, records, report
from fastann.cluster.clock import in_words
from fastann.data.limits import Limits
from fastann.data.open import as_source
from fastann.data.source import ArraySource
from fastann.quality import given
from fastann.quality import metrics as quality
from fastann.quality.evaluate import FILE, LISTED, Evaluation, evaluate
from fastann.quality.metrics import Clusters, Findings
from fastann.quality.projection import draw_map
from fastann.quality.retrieval import true_neighbours
from fastann.storage import RunError

METRICS = ["euclidean", "cosine"]
SAMPLED = {
    "silhouette": metrics.silhouette_score,
    "davies_bouldin": metrics.davies_bouldin_score,
    "calinski_harabasz": metrics.calinski_harabasz_score,
}
ALWAYS = {"inertia", "intra", "empty", "imbalance"}
OF_TWO = {"simplified_silhouette", "inter", *SAMPLED}


@pytest.fixture(scope="module")
def x():
    """900 rows in 9 overlapping blobs of unequal sizes, float32."""
    rng = np.random.default_rng(3)
    y = rng.choice(9, 900, p=np.arange(1, 10) / 45)
    return (rng.standard_normal((9, 5))[y] * 2 + rng.standard_normal((900, 5))).astype(np.float32)


@pytest.fixture(scope="module", params=METRICS)
def metric(request):
    return request.param


@pytest.fixture(scope="module")
def km(x, metric):
    return KMeans(9, metric=metric, random_state=0).fit(x)


@pytest.fixture(scope="module")
def whole(km, x):
    return evaluate(km, x)


@pytest.fixture(scope="module")
def euclidean(x):
    return KMeans(9, random_state=0).fit(x)


def seen(x, metric):
    """Rows as scikit-learn should see them, float64."""
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x


def refusal(error, *args, **kwargs):
    with pytest.raises(error) as caught:
        evaluate(*args, **kwargs)
    return str(caught.value)


def has(message, *parts):
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in {message!r}"


def clusters_of(x, labels):
    """Clusters of the rows of `x`, for the functions below `evaluate`."""
    return given.clusters_of(labels, as_source(x), "euclidean")[0]


# --------------------------------------------------------------------------- values


def test_a_tiny_example_computed_by_hand():
    x = np.array([[0.0], [2.0], [9.0], [11.0], [10.0]])
    e = evaluate([0, 0, 1, 1, 1], x, members=2, retrieval=True)
    # Centres 1 and 10; distances to the own 1, 1, 1, 1, 0, and to the other 10, 8, 8, 10, 9.
    assert e.values["inertia"] == pytest.approx(4 / 5)
    assert e.values["intra"] == pytest.approx(4 / 5)
    assert e.values["inter"] == pytest.approx(9)
    assert e.values["simplified_silhouette"] == pytest.approx((9 / 10 + 7 / 8 + 7 / 8 + 9 / 10 + 1) / 5)
    assert e.values["imbalance"] == pytest.approx(2 * (0.4**2 + 0.6**2))
    assert e.values["davies_bouldin"] == pytest.approx((1 + 2 / 3) / 9)
    assert e.values["empty"] == 0
    assert e.sizes.tolist() == [2, 3]
    assert e.clusters["mean_distance"].tolist() == pytest.approx([1, 2 / 3])
    assert e.clusters["radius"].tolist() == [1, 1]
    assert e.clusters["nearest"].tolist() == [1, 0]
    assert e.clusters["representatives"].tolist() == [[0, 1], [4, 2]]
    assert e.clusters["outliers"].tolist() == [[0, 1], [2, 3]]
    # The four others of a row are its neighbours: the first probe holds those of its own cluster, 1 of 4 or 2 of 4.
    assert e.retrieval[0] == pytest.approx((1, (2 * 2 + 3 * 3) / 25, (2 * 1 + 3 * 2) / 20))


@pytest.mark.parametrize("name", SAMPLED)
def test_measures_of_all_rows_are_those_of_scikit_learn(whole, km, x, metric, name):
    kwargs = {"metric": metric} if name == "silhouette" else {}
    assert whole.values[name] == pytest.approx(SAMPLED[name](seen(x, metric), km.labels_, **kwargs), rel=1e-5)
    assert name not in whole.intervals
    assert name not in whole.samples


@pytest.mark.parametrize("name", SAMPLED)
def test_measures_of_a_sample_are_those_of_scikit_learn_on_the_same_rows(km, x, metric, name):
    e = evaluate(km, x, sample=300, random_state=4)
    picks = np.sort(np.random.default_rng([4, 0]).choice(len(x), 300, replace=False))
    kwargs = {"metric": metric} if name == "silhouette" else {}
    expected = SAMPLED[name](seen(x, metric)[picks], km.labels_[picks], **kwargs)
    assert e.values[name] == pytest.approx(expected, rel=1e-5)
    assert e.samples[name] == 300
    low, high = e.intervals[name]
    assert low < e.values[name] < high


def test_measures_of_all_rows_are_those_of_brute_force(whole, km, x, metric):
    rows, centers = seen(x, metric), km.cluster_centers_.astype(np.float64)
    own = paired_distances(rows, centers[km.labels_])
    far = pairwise_distances(x, centers, metric=metric)
    a = far[np.arange(len(x)), km.labels_]
    far[np.arange(len(x)), km.labels_] = np.inf
    b = far.min(axis=1)
    between = pairwise_distances(centers, metric=metric)
    np.fill_diagonal(between, np.inf)
    shares = np.bincount(km.labels_) / len(x)
    expected = {
        "inertia": (own**2).mean(),
        "intra": a.mean(),
        "inter": between.min(axis=1).mean(),
        "simplified_silhouette": ((b - a) / np.maximum(a, b)).mean(),
        "imbalance": 9 * (shares**2).sum(),
        "empty": 0,
    }
    assert {name: whole.values[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert whole.values["inertia"] == pytest.approx(km.inertia_ / len(x), rel=1e-6)


def test_every_value_has_a_metric_of_that_name(km, x):
    e = evaluate(km, x, truth=km.labels_, stability=2, retrieval=True)
    assert set(e.values) <= set(records.METRICS)
    assert set(e.values) == ALWAYS | OF_TWO | {
        *("ari", "ami", "v_measure", "purity", "stability", "ivf_recall_10", "ivf_scanned")
    }


def test_labels_alone_give_what_a_converged_model_gives(x, metric):
    km = KMeans(9, metric=metric, index="flat", tol=0, max_iter=200, random_state=0).fit(x)
    given, fitted = evaluate(km.labels_, x, metric=metric), evaluate(km, x)
    assert given.values == pytest.approx(fitted.values, rel=1e-5)
    np.testing.assert_array_equal(given.clusters["representatives"], fitted.clusters["representatives"])
    assert (given.labels, fitted.labels) == ("given", "stored")


def test_rows_far_from_the_origin_give_the_same(euclidean, x):
    near = evaluate(euclidean.labels_, x.astype(np.float64))
    far = evaluate(euclidean.labels_, x.astype(np.float64) + 1e6)
    assert far.values == pytest.approx(near.values, rel=1e-4)


@pytest.fixture(scope="module")
def in_one_chunk(x, km):
    stored = x.astype(np.float64)
    return evaluate(km, stored, retrieval=True, sample=400), evaluate(km.labels_, stored, metric=km.metric)


@pytest.mark.parametrize("rows", [13, 300])
def test_the_size_of_chunks_changes_nothing(x, km, in_one_chunk, rows):
    stored = as_source(x.astype(np.float64), limits=Limits(chunk_bytes=20 * rows))
    expected, of_labels = in_one_chunk
    found = evaluate(km, stored, retrieval=True, sample=400)
    assert found.values == pytest.approx(expected.values, rel=1e-12)
    for name, column in expected.clusters.items():
        np.testing.assert_array_equal(found.clusters[name], column, name)
    assert found.retrieval == expected.retrieval
    # Means summed in another order differ in their last digit.
    assert evaluate(km.labels_, stored, metric=km.metric).values == pytest.approx(of_labels.values, rel=1e-5)


def test_rows_are_never_read_whole(euclidean, x):
    class Watched(ArraySource):
        most = 0

        def native(self, rows):
            block = super().native(rows)
            Watched.most = max(Watched.most, len(block))
            return block

    rows = Watched(x.astype(np.float64), Limits(chunk_bytes=20 * 37))
    evaluate(euclidean.labels_, rows, sample=50, retrieval=False)
    assert Watched.most == 50


def test_the_same_seed_gives_the_same_and_another_does_not(euclidean, x):
    def run(seed):
        e = evaluate(euclidean, x, sample=200, retrieval=True, stability=2, random_state=seed)
        return e.values, e.intervals, e.map, e.retrieval

    assert run(1) == run(1)
    assert run(1)[0]["silhouette"] != run(2)[0]["silhouette"]


def test_options_do_not_change_the_other_measures(euclidean, x):
    plain = evaluate(euclidean, x, sample=200).values
    more = evaluate(euclidean, x, sample=200, retrieval=True, stability=2, truth=euclidean.labels_).values
    assert plain.items() <= more.items()


def test_the_callers_arrays_are_left_alone(x):
    rows, labels = x.copy(), np.arange(len(x)) % 4
    evaluate(labels, rows, retrieval=True)
    np.testing.assert_array_equal(rows, x)
    np.testing.assert_array_equal(labels, np.arange(len(x)) % 4)


# --------------------------------------------------------------------------- intervals


def test_the_silhouette_without_each_part_is_that_of_scikit_learn(x, metric, rng):
    labels, part = rng.integers(0, 9, len(x)), rng.permutation(len(x)) % 10
    labels[:2] = [9, 10]  # rows alone, and gone with their part
    rows = seen(x, metric)
    value, without = quality.silhouette(rows, labels, part, metric)
    assert value == pytest.approx(metrics.silhouette_score(rows, labels, metric=metric), rel=1e-9)
    for g in range(10):
        some = part != g
        expected = metrics.silhouette_score(rows[some], labels[some], metric=metric)
        assert without[g] == pytest.approx(expected, rel=1e-9), g


@pytest.fixture(scope="module")
def draws():
    """Two hundred samples of 160 of 1,600 rows in 12 clusters: their findings, and those of all rows."""
    rng = np.random.default_rng(5)
    centers = rng.standard_normal((12, 4)) * 1.5
    x = centers[rng.integers(12, size=1600)] + rng.standard_normal((1600, 4))
    labels = pairwise_distances(x, centers).argmin(axis=1)
    c = clusters_of(x, labels)

    def measured(size, seed):
        out = Findings()
        rng = np.random.default_rng(seed)
        quality.measure_sample(c, quality.draw(1600, size, rng), out, rng)
        return out

    return measured(1600, 0), [measured(160, seed) for seed in range(200)]


@pytest.mark.parametrize("name", SAMPLED)
def test_intervals_cover_what_all_rows_give(draws, name):
    everything, samples = draws
    truth = everything.values[name]
    if name == "calinski_harabasz":  # of samples of this size
        truth = 1 + (truth - 1) * 160 / 1600
    inside = [low <= truth <= high for low, high in (out.intervals[name] for out in samples)]
    assert np.mean(inside) >= 0.91  # 95% less what 200 draws leave to chance


@pytest.mark.parametrize("name", SAMPLED)
def test_intervals_are_no_wider_than_the_doubt(draws, name):
    _, samples = draws
    spread = np.std([out.values[name] for out in samples])
    width = np.mean([high - low for low, high in (out.intervals[name] for out in samples)])
    assert 2 * 1.96 * spread * 0.9 < width < 2 * 1.96 * spread * 3


def test_a_sample_of_nearly_all_rows_leaves_little_doubt(euclidean, x):
    e, all_rows = evaluate(euclidean, x, sample=899), evaluate(euclidean, x)
    low, high = e.intervals["silhouette"]
    assert high - low < 0.01
    assert low <= all_rows.values["silhouette"] <= high


def test_few_rows_a_cluster_are_warned_of(x):
    e = evaluate(np.arange(900) % 100, x, sample=300)
    assert any("3.0 rows a cluster" in note and "sample=900" in note for note in e.notes)


def test_samples_too_small_for_intervals_say_so(x):
    labels = np.zeros(900, int)
    labels[quality.draw(900, 10, np.random.default_rng([0, 0]))[3]] = 1
    e = evaluate(labels, x, sample=10)
    assert "silhouette" in e.values
    assert "silhouette" not in e.intervals
    assert any("too small" in note for note in e.notes)


# --------------------------------------------------------------------------- clusters


def test_representatives_and_outliers_are_those_of_brute_force(whole, km, x, metric):
    distance = paired_distances(x.astype(np.float64), km.cluster_centers_[km.labels_].astype(np.float64), metric=metric)
    for j in range(9):
        rows = np.flatnonzero(km.labels_ == j)
        by_distance = rows[np.argsort(distance[rows], kind="stable")]
        assert whole.clusters["representatives"][j].tolist() == by_distance[:5].tolist()
        assert whole.clusters["outliers"][j].tolist() == by_distance[::-1][:5].tolist()
        assert whole.clusters["size"][j] == len(rows)
        assert whole.clusters["radius"][j] == pytest.approx(distance[rows].max(), rel=1e-4)
        assert whole.clusters["mean_distance"][j] == pytest.approx(distance[rows].mean(), rel=1e-4)


def test_nearest_clusters_are_those_of_brute_force(whole, km, metric):
    between = pairwise_distances(km.cluster_centers_, metric=metric)
    np.fill_diagonal(between, np.inf)
    np.testing.assert_array_equal(whole.clusters["nearest"], between.argmin(axis=1))
    np.testing.assert_allclose(whole.clusters["nearest_distance"], between.min(axis=1), rtol=1e-3)


def test_clusters_with_few_members_are_padded(x):
    labels = np.zeros(900, int)
    labels[[5, 9]] = 1
    listed = evaluate(labels, x, members=4).clusters
    assert sorted(listed["representatives"][1].tolist()) == [-1, -1, 5, 9]
    assert listed["representatives"][1].tolist()[2:] == [-1, -1]
    assert listed["representatives"].dtype == np.int64
    assert listed["representatives"].shape == listed["outliers"].shape == (2, 4)


def test_gaps_between_labels_are_empty_clusters(euclidean, x):
    plain = evaluate(euclidean.labels_, x, retrieval=True)
    gaps = evaluate(euclidean.labels_ * 2 + 3, x, retrieval=True)
    assert (gaps.k, gaps.values["empty"]) == (20, 11)
    assert gaps.values["imbalance"] == pytest.approx(plain.values["imbalance"] * 20 / 9)
    same = (ALWAYS | OF_TWO | {"ivf_recall_10", "ivf_scanned"}) - {"empty", "imbalance"}
    assert {n: gaps.values[n] for n in same} == {n: plain.values[n] for n in same}
    used = np.arange(9) * 2 + 3
    assert gaps.clusters["size"].nonzero()[0].tolist() == used.tolist()
    np.testing.assert_array_equal(gaps.clusters["nearest"][used], plain.clusters["nearest"] * 2 + 3)
    np.testing.assert_array_equal(gaps.clusters["outliers"][used], plain.clusters["outliers"])
    assert (gaps.clusters["representatives"][0] == -1).all()
    assert np.isnan(gaps.clusters["radius"][0])
    assert set(gaps.map["labels"]) == set(used.tolist())


def test_empty_clusters_of_a_model_are_counted_and_are_nobodys_neighbour(x):
    start = np.vstack([x[:3], np.full((1, 5), 1e3)]).astype(np.float32)
    km = KMeans(4, init=start, empty="keep", index="flat", random_state=0).fit(x)
    e = evaluate(km, x)
    assert (e.values["empty"], e.sizes[3], e.clusters["nearest"][3]) == (1, 0, -1)
    assert 3 not in e.clusters["nearest"][:3]


def test_a_single_cluster_has_no_separation(x):
    e = evaluate(np.zeros(900, int), x, retrieval=True)
    assert set(e.values) == ALWAYS | {"ivf_recall_10", "ivf_scanned"}
    assert e.values["imbalance"] == 1
    assert e.retrieval == [(1, 1.0, 1.0)]
    assert e.clusters["nearest"].tolist() == [-1]
    assert any("in one cluster" in note for note in e.notes)
    assert any("need at least two" in note for note in e.notes)


def test_every_row_a_cluster_of_its_own(x):
    e = evaluate(np.arange(900), x)
    assert e.values["inertia"] == 0
    assert e.values["simplified_silhouette"] == 0  # as the silhouette of rows alone
    assert "silhouette" not in e.values


def test_a_single_row():
    e = evaluate([0], [[1.0, 2.0]], retrieval=True)
    assert set(e.values) == ALWAYS
    assert any("no neighbours" in note for note in e.notes)


def test_duplicates_everywhere():
    x = np.repeat([[1.0, 2.0], [1.0, 2.0]], 30, axis=0)
    e = evaluate(np.arange(60) % 3, x, retrieval=True, truth=np.arange(60) % 2)
    assert e.values["inertia"] == e.values["inter"] == e.values["silhouette"] == e.values["simplified_silhouette"] == 0
    assert 0 <= e.values["ivf_recall_10"] <= 1
    assert all(np.isfinite(list(e.values.values())))


def test_cosine_clusters_whose_rows_cancel_have_values():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    e = evaluate([0, 0, 1, 1], x, metric="cosine")
    assert e.values["inertia"] == pytest.approx(0.5)  # 1 from the zero centre, 0 from the other


def test_too_many_clusters_for_davies_bouldin_are_left_out_and_said(x):
    c, e = clusters_of(x, np.arange(900) % 9), Findings()
    quality.measure_sample(c, np.arange(900), e, np.random.default_rng(0), quality.Limits(pairs=8))
    assert "davies_bouldin" not in e.values
    assert any("Davies-Bouldin" in note and "left out" in note for note in e.notes)
    assert "calinski_harabasz" in e.values


# --------------------------------------------------------------------------- whose labels


def test_other_rows_are_predicted(km, x, metric):
    other = x[:400] + np.float32(0.1)
    e = evaluate(km, other)
    assert e.labels == "predicted"
    np.testing.assert_array_equal(e.sizes, np.bincount(km.predict(other), minlength=9))


def test_as_many_other_rows_are_predicted_too(km, x):
    other = np.ascontiguousarray(x[::-1])
    e = evaluate(km, other)
    assert e.labels == "predicted"
    np.testing.assert_array_equal(e.sizes, np.bincount(km.labels_, minlength=9))


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", "int8"])
def test_rows_a_model_was_fitted_on_are_known_in_every_dtype(x, dtype):
    stored = (x * 10).astype(dtype)
    km = KMeans(5, random_state=0).fit(stored)
    assert evaluate(km, stored).labels == "stored"


def test_rows_far_from_the_origin_are_known(x):
    stored = x.astype(np.float64) + 1e5
    assert evaluate(KMeans(5, random_state=0).fit(stored), stored).labels == "stored"


def test_runs_and_files_give_what_the_model_gives(tmp_path, km, x, whole):
    km.save(tmp_path / "run")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "labels.npy", km.labels_)
    e = evaluate(tmp_path / "run", str(tmp_path / "x.npy"))
    assert (e.values, e.labels, e.metric) == (whole.values, "stored", km.metric)
    given = evaluate(str(tmp_path / "labels.npy"), tmp_path / "x.npy", metric=km.metric)
    assert given.values == evaluate(km.labels_, x, metric=km.metric).values


# --------------------------------------------------------------------------- truth


def purity(truth, labels):
    return sum(np.unique(truth[labels == j], return_counts=True)[1].max() for j in np.unique(labels)) / len(truth)


def test_agreement_is_that_of_scikit_learn(euclidean, x, rng):
    truth, labels = rng.integers(0, 4, len(x)), euclidean.labels_
    values = evaluate(euclidean, x, truth=truth).values
    assert values["ari"] == pytest.approx(metrics.adjusted_rand_score(truth, labels))
    assert values["ami"] == pytest.approx(metrics.adjusted_mutual_info_score(truth, labels))
    assert values["v_measure"] == pytest.approx(metrics.v_measure_score(truth, labels))
    assert values["purity"] == pytest.approx(purity(truth, labels))


TRUTHS = {
    "strings": lambda y: np.array(list("abcd"))[y],
    "list of strings": lambda y: [f"class {v}" for v in y],
    "list of tuples": lambda y: [("a", int(v)) for v in y],
    "objects": lambda y: np.array([b"b", "a", 3, 2.5], dtype=object)[y],
    "floats": lambda y: y / 7,
    "booleans of two": lambda y: y > 1,
    "negative": lambda y: y.astype(np.int8) - 3,
}


@pytest.mark.parametrize("kind", TRUTHS)
def test_truth_of_any_hashable_labels(euclidean, x, rng, kind):
    y = rng.integers(0, 4, len(x))
    codes = (y > 1).astype(int) if kind == "booleans of two" else y
    expected = evaluate(euclidean, x, truth=codes).values
    assert evaluate(euclidean, x, truth=TRUTHS[kind](y)).values == pytest.approx(expected)


def test_truth_from_a_file(tmp_path, euclidean, x, rng):
    truth = np.array(list("abcd"))[rng.integers(0, 4, len(x))]
    np.save(tmp_path / "truth.npy", truth)
    assert evaluate(euclidean, x, truth=tmp_path / "truth.npy").values == evaluate(euclidean, x, truth=truth).values


@pytest.mark.parametrize("kind", ["txt", "csv", "csv of several columns", "parquet", "parquet categories"])
@pytest.mark.parametrize("dtype", ["str", "int64"])
def test_truth_from_a_file_of_text_or_a_table(tmp_path, euclidean, x, rng, kind, dtype):
    pd = pytest.importorskip("pandas")
    if "parquet" in kind:
        pytest.importorskip("pyarrow")
    truth = (np.array(list("dabc")) if dtype == "str" else np.array([7, -3, 40, 0]))[rng.integers(0, 4, len(x))]
    path, options = tmp_path / f"truth.{kind.split()[0]}", {}
    if kind == "txt":
        path.write_text("".join(f"{label}\n" for label in truth), encoding="utf-8")
    else:
        frame = pd.DataFrame({"label": truth})
        if "several" in kind:
            frame, options = pd.DataFrame({"row": range(len(x)), "kind": truth}), {"label_column": "kind"}
        if kind == "parquet categories":
            frame = frame.astype("category")
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    assert evaluate(euclidean, x, truth=path, **options).values == evaluate(euclidean, x, truth=truth).values


def test_columns_of_truth_that_there_are_not_are_refused(tmp_path, euclidean, x):
    (tmp_path / "two.csv").write_text("a,b\n" + "1,2\n" * 900, encoding="utf-8")
    has(refusal(ValueError, euclidean, x, truth=tmp_path / "two.csv"), "no column 'label'", "'a', 'b'")
    has(refusal(ValueError, euclidean, x, truth=tmp_path / "two.csv", label_column="c"), "no column 'c'")
    has(refusal(ValueError, euclidean, x, truth=np.zeros(900, int), label_column="c"), "label_column='c'", "no path")
    has(refusal(ValueError, euclidean, x, label_column="c"), "label_column='c'", "pass truth")


@pytest.fixture(scope="module")
def texts():
    """300 sparse rows of 40 columns, dense."""
    rows = sparse.random(300, 40, 0.15, format="csr", random_state=0, dtype=np.float32).toarray()
    rows[:, 0] += 0.01
    return rows


def agree(a, b, **tolerance):
    for found in (a, b):  # fits of other seeds, whose starts need not be the same
        assert 0 < found.values.pop("stability", 1) <= 1
        found.notes[:] = [note for note in found.notes if not note.startswith("Stability")]
    assert (a.labels, a.n, a.d, a.k, a.notes, a.samples) == (b.labels, b.n, b.d, b.k, b.notes, b.samples)
    assert a.values == pytest.approx(b.values, **({"rel": 1e-5, "abs": 1e-6} | tolerance))
    assert a.retrieval == b.retrieval
    np.testing.assert_array_equal(a.sizes, b.sizes)
    np.testing.assert_array_equal(a.clusters["representatives"], b.clusters["representatives"])


@pytest.mark.parametrize("fitted", ["sparse", "dense", "dense, ivf"])
@pytest.mark.parametrize("metric", METRICS)
def test_sparse_rows_are_measured_as_dense_ones(texts, metric, fitted):
    index = "ivf:nlist=3,nprobe=3" if "ivf" in fitted else "auto"
    model = KMeans(7, metric=metric, index=index, random_state=0)
    model.fit(sparse.csr_matrix(texts) if fitted == "sparse" else texts)
    more = {"retrieval": True, "stability": 2, "truth": np.arange(300) % 4, "sample": 200}
    for kind in (sparse.csr_matrix, sparse.coo_array):
        agree(evaluate(model, kind(texts), **more), evaluate(model, texts, **more))
    agree(evaluate(model, sparse.csr_matrix(texts[:200])), evaluate(model, texts[:200]))


@pytest.mark.parametrize("metric", METRICS)
def test_labels_of_sparse_rows_are_measured(texts, tmp_path, metric):
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(texts))
    labels = np.arange(300) % 5
    expected = evaluate(labels, texts, metric=metric, retrieval=True)
    for rows in (sparse.csr_matrix(texts), tmp_path / "x.npz", as_source(sparse.csr_matrix(texts))):
        agree(evaluate(labels, rows, metric=metric, retrieval=True), expected)


def test_sparse_rows_of_a_model_of_rows_far_away(texts):
    model = KMeans(5, random_state=0).fit(texts + 1000)
    agree(evaluate(model, sparse.csr_matrix(texts + 1000)), evaluate(model, texts + 1000), rel=1e-4)


def test_wide_sparse_rows_are_sampled_sparingly(texts):
    model = KMeans(5, random_state=0).fit(sparse.csr_matrix(texts))
    rows = quality.Clusters(as_source(sparse.csr_matrix(texts)), None, None, None, None, None, 5)
    few, out = quality.Limits(dense_bytes=8 * 40 * 60, dense_rows=10), quality.Findings()
    assert quality.affordable(rows, 20_000, out, few) == 60
    has(out.notes[0], "Sparse rows of 40 columns", "samples are of 60 rows")
    assert quality.affordable(rows, 50, quality.Findings(), few) == 50
    assert evaluate(model, sparse.csr_matrix(texts)).samples == {}


def test_the_command_measures_sparse_rows(texts, tmp_path):
    from click.testing import CliRunner

    from fastann.cli import main

    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(texts))
    KMeans(5, random_state=0).fit(tmp_path / "x.npz").save(tmp_path / "run")
    done = CliRunner().invoke(main, ["evaluate", str(tmp_path / "run"), str(tmp_path / "x.npz")])
    assert done.exit_code == 0, done.output
    assert "labels stored" in done.output


def test_the_distance_between_centres_is_called_that(euclidean, x):
    told = evaluate(euclidean, x).summary()
    assert "distance of centre to nearest centre" in told
    assert "nearest other centre" not in told


def test_truth_from_a_table(euclidean, x):
    pd = pytest.importorskip("pandas")
    truth = pd.Series(np.array(list("abc"))[np.arange(900) % 3], dtype="category")
    assert evaluate(euclidean, x, truth=truth).values["ari"] == pytest.approx(
        metrics.adjusted_rand_score(np.arange(900) % 3, euclidean.labels_)
    )


def test_slow_mutual_information_is_that_of_a_sample(euclidean, x):
    truth = np.arange(900) % 7
    picks = quality.draw(900, 300, np.random.default_rng([0, 0]))
    c, e = clusters_of(x, euclidean.labels_), Findings()
    quality.measure_agreement(c, truth, picks, e, np.random.default_rng([0, 2]), quality.Limits(ami_pairs=62))
    assert e.values["ami"] == pytest.approx(metrics.adjusted_mutual_info_score(truth[picks], euclidean.labels_[picks]))
    assert e.samples["ami"] == 300
    assert e.intervals["ami"][0] < e.values["ami"] < e.intervals["ami"][1]
    assert any("mutual information of 9 clusters and 7 classes" in note for note in e.notes)
    assert "ari" not in e.samples


# --------------------------------------------------------------------------- stability


@pytest.fixture(scope="module")
def apart():
    """Five blobs far apart."""
    rng = np.random.default_rng(0)
    return (np.repeat(rng.standard_normal((5, 8)) * 50, 60, axis=0) + rng.standard_normal((300, 8))).astype(np.float32)


def test_well_separated_blobs_are_stable(apart):
    e = evaluate(KMeans(5, n_init=5, random_state=0).fit(apart), apart, stability=3)
    assert e.values["stability"] == 1
    assert any("3 pairs of 3 fits" in note for note in e.notes)


def test_more_clusters_than_blobs_are_not_stable(apart):
    assert evaluate(KMeans(12, random_state=0).fit(apart), apart, stability=2).values["stability"] < 0.99


def test_stability_on_a_sample_says_so(apart):
    model, e = KMeans(5, n_init=5, random_state=0).fit(apart), Findings()
    rng = np.random.default_rng([0, 3])
    quality.measure_stability(model, ArraySource(apart), 2, rng, e, quality.Limits(refit_rows=100))
    assert (e.values["stability"], e.samples["stability"]) == (1, 250)  # at least 50 a cluster


def test_stability_of_a_run(tmp_path, apart):
    KMeans(5, n_init=5, random_state=0).fit(apart).save(tmp_path / "run")
    assert evaluate(tmp_path / "run", apart, stability=2).values["stability"] == 1


# --------------------------------------------------------------------------- retrieval


def test_recall_of_the_ivf_is_that_of_brute_force(km, x, metric):
    e = evaluate(km, x, retrieval=True)  # no more rows than queries: every row is one
    distances = pairwise_distances(x.astype(np.float64), metric=metric)
    np.fill_diagonal(distances, np.inf)
    neighbours = np.argsort(distances, axis=1)[:, :10]
    probed = np.argsort(pairwise_distances(x, km.cluster_centers_, metric=metric), axis=1)
    sizes = np.bincount(km.labels_)
    for nprobe, share, recall in e.retrieval:
        in_probe = [np.isin(km.labels_[neighbours[i]], probed[i, :nprobe]).mean() for i in range(len(x))]
        assert recall == pytest.approx(np.mean(in_probe), abs=1e-4)
        assert share == pytest.approx(sizes[probed[:, :nprobe]].sum(axis=1).mean() / len(x))
    nprobe, share, recall = min(e.retrieval, key=lambda point: abs(point[1] - 0.05))
    assert (e.values["ivf_scanned"], e.values["ivf_recall_10"]) == (share, recall)
    low, high = e.intervals["ivf_recall_10"]
    assert low < recall < high
    assert e.samples["ivf_recall_10"] == 900


def test_the_curve_has_the_probes_that_scan_about_these_shares(x):
    km = KMeans(200, random_state=0).fit(x)
    e = evaluate(km, x, retrieval=True)
    probes, shares, recalls = map(np.array, zip(*e.retrieval, strict=True))
    assert np.abs(shares - [0.01, 0.02, 0.05, 0.1][-len(shares) :]).max() < 0.006
    assert (np.diff(probes) > 0).all()
    assert (np.diff(recalls) >= 0).all()


@pytest.mark.parametrize("chunk", [1, 7, 64, 900])
def test_true_neighbours_are_those_of_brute_force_in_any_chunks(x, chunk):
    picks = np.array([0, 3, 450, 899])
    distances = pairwise_distances(x[picks], x)
    distances[np.arange(4), picks] = np.inf
    source = as_source(x.astype(np.float64), limits=Limits(chunk_bytes=20 * chunk))
    found = true_neighbours(source, picks, x[picks])
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[:, :10])


def test_a_row_is_no_neighbour_of_itself_among_many_duplicates():
    x = np.zeros((40, 3), np.float32)
    found = true_neighbours(as_source(x), np.array([5, 30]), x[[5, 30]])
    assert found.shape == (2, 10)
    assert not (found == [[5], [30]]).any()


# --------------------------------------------------------------------------- the map


def test_the_map_is_that_of_the_principal_components(km, x, whole):
    m = whole.map
    assert m["method"] == "pca"
    assert np.shape(m["points"]) == (900, 2)
    assert np.shape(m["centroids"]) == (9, 2)
    assert m["labels"] == km.labels_.tolist()
    assert m["sizes"] == np.bincount(km.labels_).tolist()
    from sklearn.decomposition import PCA

    pca = PCA(2).fit(seen(x, km.metric))  # fewer than ten centroids: of the rows
    np.testing.assert_allclose(m["explained"], pca.explained_variance_ratio_, rtol=1e-4)
    ours, theirs = np.array(m["points"]), pca.transform(seen(x, km.metric))
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)


def test_maps_are_limited_to_the_largest_clusters_and_some_rows(x):
    labels = np.minimum(np.arange(900) // 10, 20)
    m = draw_map(clusters_of(x, labels), np.arange(900), "pca", 0, quality.Limits(map_rows=100, map_centroids=4))
    assert len(m["points"]) == len(m["labels"]) == 100
    assert m["clusters"] == [0, 1, 2, 20]
    assert m["sizes"] == [10, 10, 10, 700]


@pytest.mark.parametrize("k", [3, 12])
def test_centres_of_unit_rows_are_drawn_amid_their_rows(k, rng):
    x = rng.standard_normal((600, 8)) + 2 * rng.standard_normal((k, 8))[np.arange(600) % k]
    m = evaluate(np.arange(600) % k, x, metric="cosine").map
    middles = [np.array(m["points"])[np.array(m["labels"]) == j].mean(axis=0) for j in m["clusters"]]
    np.testing.assert_allclose(m["centroids"], middles, atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 1), (1, 3), (2, 2)])
def test_maps_of_little_are_flat(shape, rng):
    m = evaluate(np.zeros(shape[0], int), rng.standard_normal(shape)).map
    assert np.shape(m["points"]) == (shape[0], 2)
    assert np.isfinite(m["points"]).all()
    assert np.isfinite(m["explained"]).all()


@pytest.mark.parametrize("columns", [1, 5])
def test_a_map_by_tsne(x, columns):
    m = evaluate(np.arange(60) % 3, x[:60, :columns], projection="tsne").map
    assert (m["method"], m["explained"]) == ("tsne", [])
    assert np.shape(m["points"]) == (60, 2)
    assert np.shape(m["centroids"]) == (3, 2)


@pytest.mark.parametrize("projection", ["pca", "tsne", "umap"])
def test_a_map_in_three_dimensions(x, km, tmp_path, projection):
    if projection == "umap":
        pytest.importorskip("umap", reason="needs the extra umap")
    if projection != "pca" and km.metric == "cosine":
        return  # both are slow
    e = evaluate(km.labels_[:40], x[:40], metric=km.metric, projection=projection, components=3)
    points, centroids = np.array(e.map["points"]), np.array(e.map["centroids"])
    assert (points.shape[1], centroids.shape[1]) == (3, 3)
    assert (np.ptp(points, axis=0) > 0).all()
    assert np.linalg.matrix_rank(points - points.mean(axis=0)) == 3
    if projection == "pca":
        flat = evaluate(km.labels_[:40], x[:40], metric=km.metric).map
        np.testing.assert_allclose(points[:, :2], flat["points"], atol=1e-6)
        assert e.map["explained"][:2] == pytest.approx(flat["explained"])
        assert e.map["explained"][1] >= e.map["explained"][2] > 0
    e.save(tmp_path)
    page = report(tmp_path).read_text()
    assert [f"Directions {pair} of three" in page for pair in ("1 and 2", "1 and 3", "2 and 3")] == [True] * 3
    assert "third direction" in page


@pytest.mark.parametrize("components", [1, 4, 2.0, True])
def test_other_dimensions_are_refused(x, components):
    with pytest.raises((ValueError, TypeError), match="components must be"):
        evaluate(np.zeros(900, int), x, components=components)


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is installed")
def test_umap_says_what_to_install(x):
    has(refusal(ImportError, np.zeros(900, int), x, projection="umap"), "pip install umap-learn", "'pca'")


# --------------------------------------------------------------------------- files and text


def test_what_is_saved_is_what_is_loaded(tmp_path, km, x):
    e = evaluate(km, x, truth=km.labels_, retrieval=True, sample=200)
    assert e.save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / FILE
    loaded = Evaluation.load(tmp_path / "new" / "folder")
    for name in ("values", "intervals", "samples", "notes", "n", "d", "k", "metric", "labels", "retrieval", "map"):
        assert getattr(loaded, name) == getattr(e, name), name
    np.testing.assert_array_equal(loaded.sizes, e.sizes)
    assert list(loaded.clusters) == list(e.clusters)
    for name, column in e.clusters.items():
        np.testing.assert_array_equal(loaded.clusters[name], column, name)
        assert loaded.clusters[name].dtype == column.dtype, name
    assert loaded.summary() == e.summary()


def test_the_file_is_json_of_its_kind(tmp_path, whole):
    content = json.loads(whole.save(tmp_path).read_text(encoding="utf-8"))
    assert (content["schema"], content["kind"], content["labels"]) == (1, "evaluation", "stored")
    assert content["clusters"]["cluster"] == list(range(9))


def test_clusters_without_rows_survive_the_file(tmp_path, x):
    e = evaluate(np.arange(900) % 3 * 2, x)
    e.save(tmp_path)
    np.testing.assert_array_equal(Evaluation.load(tmp_path).clusters["radius"], e.clusters["radius"])


def test_the_table_in_the_file_is_limited_and_says_so(tmp_path, rng):
    labels = np.concatenate([np.arange(LISTED + 50), np.arange(7, 7 + LISTED)])
    e = evaluate(labels, rng.standard_normal((len(labels), 3)), sample=50)
    e.save(tmp_path)
    loaded = Evaluation.load(tmp_path)
    assert loaded.clusters["cluster"].tolist() == list(range(7, 7 + LISTED))
    assert len(loaded.sizes) == LISTED + 50
    assert "1,000 largest" in loaded.notes[-1]
    assert not any("1,000 largest" in note for note in e.notes)
    loaded.save(tmp_path)
    assert Evaluation.load(tmp_path).notes == loaded.notes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, [FILE, "Evaluation.save"]),
        ("{", ["cannot be read"]),
        ('{"schema": 2}', ["schema 2"]),
        ('{"schema": 1, "kind": "sweep"}', ["'sweep'", "not an evaluation"]),
        ('{"schema": 1, "kind": "evaluation", "n": 3}', ["not a whole evaluation"]),
        ('{"schema": 1, "kind": "evaluation", "sizes": [], "clusters": 3}', ["not a whole evaluation"]),
    ],
)
def test_what_is_no_evaluation_is_refused(tmp_path, text, parts):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(records.RecordError) as caught:
        Evaluation.load(tmp_path)
    has(str(caught.value), str(tmp_path), *parts)


def test_the_summary_is_aligned_and_has_intervals_and_samples(euclidean, x):
    e = evaluate(euclidean, x, sample=200)
    lines = e.summary().splitlines()
    labelled = {line[:38].strip(): line[38:] for line in lines if line[36:38] == "  " and line[38] != " "}
    assert labelled["clusters"] == "9, euclidean, labels stored"
    low, high = e.intervals["silhouette"]
    assert labelled["silhouette"] == f"{e.values['silhouette']:.5g} [{low:.5g} to {high:.5g}] (sample of 200 rows)"
    assert labelled["inertia a row"] == f"{e.values['inertia']:.5g}"
    assert labelled["empty clusters"] == "0"
    assert labelled["seconds of the fit"] == in_words(euclidean.seconds_)
    assert len(labelled) == 3 + len(e.values)
    assert lines[-len(e.notes) :] == e.notes


# --------------------------------------------------------------------------- refusals


LABELS = {
    "too few": (np.zeros(899, int), ValueError, ["899 labels", "900 rows"]),
    "too many": (np.zeros(901, int), ValueError, ["901 labels", "900 rows"]),
    "none": (np.zeros(0, int), ValueError, ["0 labels", "900 rows"]),
    "noise": (np.where(np.arange(900) == 17, -1, 0), ValueError, ["labels[17] is -1", "0 or more"]),
    "floats": (np.zeros(900), ValueError, ["float64", "integers"]),
    "booleans": (np.zeros(900, bool), ValueError, ["bool", "integers"]),
    "strings": (["a"] * 900, ValueError, ["<U1", "integers"]),
    "a table": (np.zeros((900, 2), int), ValueError, ["(900, 2)", "(900,)"]),
    "hashes": (np.full(900, 2**40), ValueError, [str(2**40), "900 rows", "return_inverse"]),
    "a number": (3, ValueError, ["shape ()", "(900,)"]),
    "another library's model": (SklearnKMeans(3), TypeError, ["KMeans", "labels_"]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_make_no_sense_are_refused(x, kind):
    labels, error, parts = LABELS[kind]
    has(refusal(error, labels, x), *parts)


ARGUMENTS = [
    ("metric", "manhattan", ValueError, ["metric must be one of", "'manhattan'"]),
    ("metric", "cosine", ValueError, ["metric='cosine'", "'euclidean'", "leave metric out"]),
    ("sample", 9, ValueError, ["sample must be >= 10", "got 9"]),
    ("sample", 0.5, TypeError, ["sample must be an integer", "0.5"]),
    ("stability", 1, ValueError, ["stability=1", "2 fits or more"]),
    ("stability", -1, ValueError, ["stability must be >= 0"]),
    ("stability", True, TypeError, ["stability must be an integer"]),
    ("retrieval", 1, TypeError, ["retrieval must be True or False", "1"]),
    ("members", 0, ValueError, ["members must be between 1 and 1000", "got 0"]),
    ("random_state", -1, ValueError, ["random_state must be >= 0", "-1"]),
    ("random_state", None, TypeError, ["random_state must be an integer"]),
    ("projection", "mds", ValueError, ["projection must be one of", "'tsne'", "'mds'"]),
    ("truth", np.zeros(3), ValueError, ["truth has 3 labels", "900 rows"]),
    ("truth", np.zeros((900, 2)), ValueError, ["(900, 2)", "(900,)"]),
    ("truth", [np.nan] * 900, ValueError, ["truth[0] is NaN"]),
    ("truth", [[1]] * 900, TypeError, ["truth[0] is [1]", "not hashable"]),
    ("truth", "nowhere.npy", FileNotFoundError, ["nowhere.npy"]),
]


@pytest.mark.parametrize(
    ("name", "value", "error", "parts"), ARGUMENTS, ids=[f"{a[0]}={str(a[1])[:20]}" for a in ARGUMENTS]
)
def test_arguments_that_make_no_sense_are_refused(euclidean, x, name, value, error, parts):
    has(refusal(error, euclidean, x, **{name: value}), *parts)


def test_missing_files_are_named(tmp_path, euclidean, x):
    has(refusal(FileNotFoundError, tmp_path / "run", x), str(tmp_path / "run"), "check the path")
    has(refusal(FileNotFoundError, tmp_path / "labels.npy", x), "labels.npy", "check the path")
    has(refusal(FileNotFoundError, euclidean, tmp_path / "x.npy"), "x.npy", "check the path")
    has(refusal(RunError, tmp_path, x), "manifest.json")
    (tmp_path / "labels.txt").write_text("0 1 2")
    has(refusal(ValueError, tmp_path / "labels.txt", x), "labels.txt", "numpy.save")


def test_a_model_that_is_not_fitted_is_refused(x):
    assert "not fitted" in refusal(NotFittedError, KMeans(3), x)


def test_rows_of_other_columns_are_refused(euclidean, x):
    has(refusal(ValueError, euclidean, x[:, :3]), "3 features", "5 features")


def test_rows_that_are_not_finite_are_named(euclidean, x):
    bad = x.copy()
    bad[17, 2] = np.nan
    has(refusal(ValueError, euclidean, bad), "NaN", "row 17")
    has(refusal(ValueError, euclidean.labels_, bad), "NaN", "row 17")


def test_stability_needs_a_model_with_random_starts_and_enough_rows(euclidean, x):
    has(refusal(ValueError, np.zeros(900, int), x, stability=2), "labels cannot", "fastann.KMeans")
    given = KMeans(3, init=x[:3]).fit(x)
    has(refusal(ValueError, given, x, stability=2), "random starts", "stability=0")
    has(refusal(ValueError, euclidean, x[:5], stability=2), "n_clusters=9", "n_samples=5")


def test_clusters_know_their_places(euclidean, x):
    c = clusters_of(x, euclidean.labels_ * 2)
    assert isinstance(c, Clusters)
    np.testing.assert_array_equal(c.used[c.labels], euclidean.labels_ * 2)
    assert c.spread_out(c.sizes, -7)[1::2].tolist() == [-7] * 8
