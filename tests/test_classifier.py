"""The classifier as a scikit-learn user meets it: accuracy, invariances, parameters, bad input."""

import io
import json
import pickle
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import euclidean_distances
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastann import IVF, PrototypeClassifier
from fastann.classify.fit import held_out
from fastann.data.source import dense

METRICS = ["cosine", "euclidean"]


def expected_failures(estimator):
    """Name the two that KMeans declares too, and one that asks for a prior."""
    reason = "the random start draws among the rows, so weights and repeated rows do not start alike"
    return {
        "check_sample_weight_equivalence_on_dense_data": reason,
        "check_sample_weight_equivalence_on_sparse_data": reason,
        "check_class_weight_classifiers": "nearest prototypes have no prior, which 50 rows, too few to refine, test",
    }


@pytest.mark.filterwarnings("ignore:.*have no direction")  # some checks fit rows of zeros
@parametrize_with_checks(
    [PrototypeClassifier(), PrototypeClassifier(metric="euclidean")], expected_failed_checks=expected_failures
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_weights_are_equivalent_to_copies_in_distribution(init):
    """Stands in for the two expected failures: over many seeds, weights and copies end at the same objective."""
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((60, 3)), np.repeat([0, 1], 30), rng.integers(0, 4, 60)
    settings = {"metric": "euclidean", "refine": "none", "init": init, "shrinkage": 0.0}
    ends = [
        [
            PrototypeClassifier(random_state=s, **settings).fit(*data, sample_weight=weight).history_[-1].objective
            for s in range(60)
        ]
        for data, weight in (((x, y), w), ((np.repeat(x, w, axis=0), np.repeat(y, w)), None))
    ]
    error = np.hypot(np.std(ends[0]), np.std(ends[1])) / np.sqrt(60)
    assert abs(np.mean(ends[0]) - np.mean(ends[1])) < 4 * error


# --------------------------------------------------------------------------- data


def modes(seed=0, n=600, noise=0.35):
    """Four classes of three directions each, that overlap somewhat: float32 rows away from zero."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((12, 10))
    which = rng.integers(0, 12, n)
    x = centres[which] + noise * 2 * rng.standard_normal((n, 10))
    return x.astype(np.float32), which % 4


@pytest.fixture(scope="module")
def table():
    return modes()


@pytest.fixture(scope="module")
def thin(table):
    """The same rows with a third of their entries gone: still none is orthogonal to others, which makes ties."""
    x, y = table
    return np.where(np.random.default_rng(3).random(x.shape) < 0.3, 0, x), y


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[::2], y[::2], x[1::2], y[1::2]


def shared_file(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs the real data {name}, which are not at hand")
    return path


@pytest.fixture(scope="module")
def intents():
    """CLINC150 as embeddings: 150 classes of 100 rows."""
    with np.load(shared_file("clinc150_minilm384.npz")) as z:
        return [z[name] for name in ("x_train", "y_train", "x_test", "y_test")]


@pytest.fixture(scope="module")
def texts():
    """CLINC150 as TF-IDF: CSR rows."""
    data = json.loads(shared_file("clinc150.json").read_text(encoding="utf-8"))
    tfidf = TfidfVectorizer(sublinear_tf=True)
    x = tfidf.fit_transform([text for text, _ in data["train"]])
    y = np.array([label for _, label in data["train"]])
    some = np.flatnonzero(np.diff(x.indptr) > 0)
    test = tfidf.transform([text for text, _ in data["test"]])
    return x[some], y[some], test, np.array([label for _, label in data["test"]])


def bits(model):
    p = model.prototypes_
    values = (p.data, p.indices, p.indptr) if sparse.issparse(p) else (p,)
    return [v.tobytes() for v in (*values, model.prototype_labels_.astype(str), model.prototype_weights_)]


def fitted(data, **parameters):
    return PrototypeClassifier(**{"random_state": 0, **parameters}).fit(*data)


# --------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("refine", ["none", "auto"])
@pytest.mark.parametrize("metric", METRICS)
def test_classes_of_two_modes_that_one_mean_cannot_tell_apart(metric, refine, rng):
    corners = np.array([[3, 0], [-3, 0], [0, 3], [0, -3]])
    which = rng.integers(0, 4, 2000)
    x, y = corners[which] + 0.5 * rng.standard_normal((2000, 2)), which // 2
    assert NearestCentroid().fit(x[:1000], y[:1000]).score(x[1000:], y[1000:]) < 0.65
    assert fitted((x[:1000], y[:1000]), metric=metric, refine=refine).score(x[1000:], y[1000:]) > 0.98


@pytest.mark.parametrize("refine", ["none", "auto"])
@pytest.mark.parametrize("metric", METRICS)
def test_digits(digits, metric, refine):
    x, y, x_test, y_test = digits
    mean = NearestCentroid()
    with pytest.warns(UserWarning, match="zero standard deviation"):
        mean.fit(x, y)
    model = fitted((x, y), metric=metric, refine=refine)
    assert model.score(x_test, y_test) > 0.94 > mean.score(x_test, y_test) + 0.03


@pytest.mark.parametrize(("refine", "least"), [("auto", 0.945), ("none", 0.925)])
def test_embeddings_of_intents(intents, refine, least):
    x, y, x_test, y_test = intents
    assert fitted((x, y), refine=refine).score(x_test, y_test) >= least


@pytest.mark.parametrize(("refine", "least"), [("auto", 0.90), ("none", 0.845)])
def test_texts_of_intents(texts, refine, least):
    x, y, x_test, y_test = texts
    model = fitted((x, y), refine=refine)
    assert sparse.issparse(model.prototypes_)
    assert model.score(x_test, y_test) >= least


def test_refinement_is_kept_only_where_it_helps():
    x, y = modes(n=2000)
    model = fitted((x, y), n_prototypes=1)
    verdict = model.refinement_
    assert 150 < verdict.rows < 250
    assert verdict.kept == (verdict.after > verdict.before)
    assert verdict.kept
    told = f"kept: accuracy {verdict.before:.4f} -> {verdict.after:.4f}, balanced {verdict.balanced_before:.4f} -> "
    assert str(verdict).startswith(f"{told}{verdict.balanced_after:.4f}, on {verdict.rows} rows held out")
    assert [e.phase for e in model.history_[-5:]] == ["refine"] * 5
    far = np.repeat(np.eye(4), 50, axis=0) + 1e-3 * np.random.default_rng(0).standard_normal((200, 4))
    easy = fitted((np.tile(far, (3, 1)), np.tile(np.repeat(range(4), 50), 3)))
    assert (easy.refinement_.before, easy.refinement_.kept) == (1.0, False)
    assert {e.phase for e in easy.history_} == {"k-means"}
    few = fitted(modes(n=40))
    assert (few.refinement_.rows, few.refinement_.before, few.refinement_.kept) == (0, None, False)
    assert str(few.refinement_) == "none: too few rows to hold some out"
    assert fitted((x, y), refine="none").refinement_ is None
    assert fitted((x, y), refine="softmax").refinement_ is None


def test_every_class_keeps_a_row_when_rows_are_held_out(rng):
    labels = rng.integers(0, 300, 1000).astype(np.int32)
    labels = np.searchsorted(np.unique(labels), labels)
    out = held_out(labels, rng)
    assert set(labels[~out]) == set(labels)
    assert 60 < out.sum() < 140


# --------------------------------------------------------------------------- invariances


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(thin, metric, kind):
    x, y = thin
    x = sparse.csr_matrix(x) if kind == "sparse" else x
    for parameters in ({"refine": "softmax"}, {"refine": "none", "assignment": "soft"}):
        one, two, again = (fitted((x, y), metric=metric, n_jobs=jobs, **parameters) for jobs in (1, 2, 2))
        assert bits(one) == bits(two) == bits(again)
        np.testing.assert_array_equal(one.predict(x), two.predict(x))
        assert one.scale_ == two.scale_


def test_another_seed_gives_other_prototypes(table):
    assert bits(fitted(table)) != bits(fitted(table, random_state=1))
    same = [fitted(table, random_state=np.random.RandomState(5)) for _ in range(2)]
    assert bits(same[0]) == bits(same[1])


@pytest.mark.parametrize("metric", METRICS)
def test_what_a_caller_passes_is_left_alone(thin, metric):
    x, y = thin
    w = np.linspace(0.1, 2, len(y))
    csr = sparse.csr_matrix(x)
    for rows in (x.copy(), x.astype(np.float64), csr):
        parts = [rows.data, rows.indices, rows.indptr] if sparse.issparse(rows) else [rows]
        given = [*parts, y.copy(), w.copy()]
        before = [a.copy() for a in given]
        model = PrototypeClassifier(metric=metric, truncation_threshold=0.05, merge_threshold=0.05, refine="softmax")
        model.fit(rows, *given[-2:]).predict(rows)
        model.partial_fit(rows, given[-2], sample_weight=given[-1])
        for a, b in zip(given, before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("metric", METRICS)
def test_dense_and_sparse_rows_are_classified_alike(thin, metric):
    x, y = thin
    csr = sparse.csr_matrix(x)
    models = [fitted((rows, y), metric=metric, refine="none") for rows in (x, csr)]
    assert [sparse.issparse(m.prototypes_) for m in models] == [False, True]
    np.testing.assert_allclose(models[1].prototypes_.toarray(), models[0].prototypes_, atol=1e-5)
    expected = models[0].predict(x)
    for model in models:
        for rows in (x, csr, csr.tocsc()):
            np.testing.assert_array_equal(model.predict(rows), expected)
        np.testing.assert_allclose(model.predict_proba(csr), models[0].predict_proba(x), atol=1e-4)


def test_refined_prototypes_of_dense_and_sparse_rows_classify_alike(digits):
    x, y, x_test, _ = digits
    models = [fitted((rows, y), refine="softmax") for rows in (x, sparse.csr_matrix(x))]
    assert (models[0].predict(x_test) == models[1].predict(x_test)).mean() >= 0.98


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_of_dense_rows_far_from_the_origin_takes_sparse_ones(table, metric):
    x, y = table[0] + np.float32(100), table[1]
    model = fitted((x, y), metric=metric)
    np.testing.assert_array_equal(model.predict(sparse.csr_matrix(x)), model.predict(x))
    model.partial_fit(sparse.csr_matrix(x), y)
    assert not sparse.issparse(model.prototypes_)


def test_sparse_rows_of_very_many_columns_are_never_made_dense(rng):
    n, d, each = 1000, 2_000_000, 20
    x = sparse.csr_matrix(
        (rng.random(n * each), rng.integers(2, d, n * each), np.arange(0, n * each + 1, each)), (n, d)
    )
    y = np.arange(n) % 2
    x = (x + sparse.csr_matrix((np.full(n, 3.0), (np.arange(n), y)), (n, d))).tocsr()
    tracemalloc.start()
    try:
        model = fitted((x, y), refine="none")
        assert model.score(x, y) == 1
        assert model.partial_fit(x[:50], y[:50]).predict_proba(x).shape == (n, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6  # a few vectors of all columns; the rows take 8e9 bytes as float32


KINDS = {
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "big endian": lambda x: x.astype(">f4"),
    "int64": lambda x: x.astype(np.int64),
    "int8": lambda x: x.astype(np.int8),
    "fortran": np.asfortranarray,
    "list": lambda x: x.tolist(),
    "frame": pd.DataFrame,
    "csr": sparse.csr_matrix,
    "csr of integers": lambda x: sparse.csr_matrix(x.astype(np.int16)),
    "csr of float64": lambda x: sparse.csr_matrix(x.astype(np.float64)),
    "csr_array": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_array,
    "explicit zeros": lambda x: sparse.csr_matrix(
        (x.ravel(), np.tile(np.arange(6), 80), np.arange(0, 481, 6)), (80, 6)
    ),
}


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(1)
    x = rng.integers(-2, 3, (80, 6)).astype(np.float32)
    x[~x.any(axis=1), 0] = 1
    return x, (x[:, 0] + x[:, 1] > 0).astype(int)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_model(small, kind, metric):
    x, y = small
    plain = fitted((x, y), metric=metric, refine="none")
    model = fitted((KINDS[kind](x), y), metric=metric, refine="none")
    np.testing.assert_array_equal(model.predict(KINDS[kind](x)), plain.predict(x))
    p = model.prototypes_
    np.testing.assert_allclose(p.toarray() if sparse.issparse(p) else p, plain.prototypes_, atol=1e-6)


def test_files_and_memmaps(tmp_path, small):
    x, y = small
    np.save(tmp_path / "x.npy", x)
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(x))
    expected = fitted((x, y)).predict(x)
    for rows in (tmp_path / "x.npy", str(tmp_path / "x.npy"), np.load(tmp_path / "x.npy", mmap_mode="r")):
        np.testing.assert_array_equal(fitted((rows, y)).predict(rows), expected)
    thin = fitted((tmp_path / "x.npz", y))
    assert sparse.issparse(thin.prototypes_)
    np.testing.assert_array_equal(thin.predict(tmp_path / "x.npz"), thin.predict(x))
    np.testing.assert_array_equal(fitted((x, y)).predict(tmp_path / "x.npz"), expected)


def test_torch_tensors(small):
    torch = pytest.importorskip("torch")
    x, y = small
    model = fitted((torch.from_numpy(x), torch.from_numpy(y)))
    np.testing.assert_array_equal(model.predict(torch.from_numpy(x)), fitted((x, y)).predict(x))


def test_named_columns(small):
    x, y = small
    frame = pd.DataFrame(x, columns=list("abcdef"))
    model = fitted((frame, pd.Series(np.where(y, "yes", "no"))))
    assert list(model.feature_names_in_) == list("abcdef")
    assert set(model.predict(frame)) == {"yes", "no"}
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list("fedcba")])


def test_clone_pickle_pipeline_and_grid_search(table):
    x, y = table
    model = PrototypeClassifier({0: 1, 1: 2, 2: 1, 3: 1}, index=IVF(nlist=2, nprobe=2), random_state=0)
    assert clone(model).get_params() == model.get_params()
    model.fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert make_pipeline(StandardScaler(), PrototypeClassifier(random_state=0)).fit(x, y).score(x, y) > 0.8
    grid = GridSearchCV(PrototypeClassifier(refine="none", random_state=0), {"n_prototypes": [1, 3]}, cv=3).fit(x, y)
    assert grid.best_params_ == {"n_prototypes": 3}


# --------------------------------------------------------------------------- predictions


@pytest.mark.parametrize("index", ["flat", "ivf:nlist=4,nprobe=4"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("metric", METRICS)
def test_predictions_scores_and_probabilities_agree(table, metric, classes, index):
    x, y = table
    y = np.array(["a", "b", "c", "d"])[y % classes]
    model = fitted((x, y), metric=metric, index=index)
    predicted, scores, q = model.predict(x), model.decision_function(x), model.predict_proba(x)
    assert q.shape == (len(x), classes)
    np.testing.assert_allclose(q.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[q.argmax(axis=1)], predicted)
    if classes == 2:
        assert scores.shape == (len(x),)
        np.testing.assert_array_equal(model.classes_[(scores > 0).astype(int)], predicted)
        np.testing.assert_allclose(np.log(q[:, 1] / q[:, 0]), model.scale_ * scores, rtol=1e-6, atol=1e-9)
    else:
        np.testing.assert_array_equal(model.classes_[scores.argmax(axis=1)], predicted)
        distance, ids = model.kneighbors(x, 1)
        best = 1 - distance[:, 0] if metric == "cosine" else 1 / (1 + distance[:, 0] ** 2)
        np.testing.assert_allclose(scores.max(axis=1), best, rtol=1e-5)
        np.testing.assert_array_equal(model.prototype_labels_[ids[:, 0]], predicted)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_are_what_brute_force_finds(thin, metric, kind):
    x, y = thin
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    model = fitted((rows, y), metric=metric)
    p = np.asarray(model.prototypes_.toarray() if kind == "sparse" else model.prototypes_, np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    far = 1 - unit @ p.T if metric == "cosine" else euclidean_distances(x.astype(np.float64), p)
    distance, ids = model.kneighbors(rows, 4)
    np.testing.assert_allclose(distance, np.sort(far, axis=1)[:, :4], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(far, ids, axis=1), distance, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.kneighbors(rows, 4, return_distance=False), ids)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_probabilities_are_calibrated(kind):
    x, y = modes(n=3000, noise=0.6)
    x_test, y_test = modes(seed=5, n=3000, noise=0.6)
    model = fitted((sparse.csr_matrix(x) if kind == "sparse" else x, y))
    q = model.predict_proba(x_test)
    assert q.max(axis=1).mean() == pytest.approx((q.argmax(axis=1) == y_test).mean(), abs=0.06)


@pytest.mark.parametrize("kind", ["dense", "sparse", "explicit zero"])
def test_a_row_of_zeros_gets_the_first_class_or_is_rejected(table, kind):
    x, y = table
    zero = np.zeros((2, 10), np.float32)
    if kind != "dense":
        x, zero = sparse.csr_matrix(x), sparse.csr_matrix(zero)
    if kind == "explicit zero":
        zero = sparse.csr_matrix((np.zeros(2, np.float32), ([0, 1], [3, 3])), (2, 10))
    model = fitted((x, y + 5))
    np.testing.assert_array_equal(model.predict(zero), [5, 5])
    np.testing.assert_array_equal(model.decision_function(zero), 0)
    np.testing.assert_allclose(model.predict_proba(zero), 0.25)
    np.testing.assert_array_equal(model.kneighbors(zero, 2)[0], 1)
    np.testing.assert_array_equal(model.set_params(reject_below=0.1).predict(zero), [-1, -1])


def test_a_class_of_no_weight_is_never_predicted(table):
    x, y = table
    w = np.where(y == 2, 0.0, 1.0)
    model = fitted((x, y), n_prototypes=2)
    model.fit(x, y, sample_weight=w)
    assert list(model.classes_) == [0, 1, 2, 3]
    assert set(model.predict(x)) == {0, 1, 3}
    assert (model.predict_proba(x)[:, 2] == 0).all()
    assert (model.decision_function(x)[:, 2] == -1).all()


def test_weights_are_summed_over_the_rows_of_the_class(table, rng):
    x, y = table
    w = rng.random(len(y))
    for refine in ("none", "softmax"):
        model = PrototypeClassifier(refine=refine, random_state=0).fit(x, y, w)
        held = np.bincount(model.prototype_labels_, model.prototype_weights_)
        np.testing.assert_allclose(held, np.bincount(y, w))


# --------------------------------------------------------------------------- parameters


SOFT = {"assignment": "soft"}
CHANGES = [  # parameter, its other value, what both share
    ("n_prototypes", 2, {}),
    ("default_prototypes", 2, {"n_prototypes": {0: 5}}),
    ("metric", "euclidean", {}),
    ("init", "random", {}),
    ("assignment", "soft", {}),
    ("scores", "softmax", SOFT),
    ("temperature", 0.5, {**SOFT, "scores": "softmax"}),
    ("wrong_class_penalty", 0.1, SOFT),
    ("candidates", 2, {**SOFT, "wrong_class_penalty": 0.0}),
    ("candidates", 2, {"refine": "softmax"}),
    ("shrinkage", 0.0, {}),
    ("merge_threshold", 0.5, {"n_prototypes": 6}),
    ("relative_merge", 0.9, {"n_prototypes": 6}),
    ("relative_merge", True, {"n_prototypes": 6, "merge_threshold": 0.9}),
    ("percentile_threshold", 0.1, {"n_prototypes": 6, "merge_threshold": 0.5}),
    ("min_weight", 40.0, {"n_prototypes": 6}),
    ("truncation_threshold", 0.1, {}),
    ("refine", "softmax", {}),
    ("class_weight", {0: 1, 1: 5, 2: 1, 3: 1}, {"refine": "softmax"}),
    ("max_iter", 1, {}),
    ("tol", 0.5, {"n_prototypes": 8}),
    ("index", "hnsw", {}),
    ("recall", 0.5, {"n_prototypes": 60, "index": "ivf:nlist=20,nprobe=auto"}),
    ("dtype", "float16", {}),
    ("dtype", "bfloat16", {}),
    ("reject_below", 0.9, {}),
    ("reject_label", 77, {"reject_below": 0.9}),
    ("random_state", 1, {}),
]


@pytest.mark.parametrize(("name", "value", "base"), CHANGES, ids=[f"{c[0]}={c[1]}" for c in CHANGES])
def test_every_parameter_changes_something(name, value, base):
    data = modes(n=1200)
    base = {"refine": "none", **base}
    outcomes = []
    for parameters in (base, {**base, name: value}):
        model = fitted(data, **parameters)
        outcomes.append((bits(model), str(model.index_), model.predict(data[0]).tolist()))
    assert outcomes[0] != outcomes[1]


def test_no_parameter_is_left_out_above():
    elsewhere = {"verbose", "device", "n_jobs", "output"}
    assert {c[0] for c in CHANGES} | elsewhere == set(PrototypeClassifier().get_params())


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_verbose_shows_a_bar_on_a_terminal_only(table, monkeypatch, capfd):
    fitted(table, verbose=True)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    fitted(table)
    assert sys.stderr.getvalue() == ""
    fitted(table, verbose=True)
    assert "prototypes" in sys.stderr.getvalue()


def counts_of(model):
    return np.unique(model.prototype_labels_, return_counts=True)[1].tolist()


def test_numbers_of_prototypes(table):
    x, y = table
    names = np.array(list("abcd"))[y]
    assert counts_of(fitted((x, names), n_prototypes=2)) == [2, 2, 2, 2]
    assert counts_of(fitted((x, names), n_prototypes={"b": 2, "a": 1, "c": 3, "d": 4, "unknown": 9})) == [1, 2, 3, 4]
    assert counts_of(fitted((x, y), n_prototypes={0: 1, 1: 2, 2: 3, 3: 4})) == [1, 2, 3, 4]
    assert counts_of(fitted((x, names), n_prototypes=[4, 3, 2, 1])) == [4, 3, 2, 1]
    assert counts_of(fitted((x, names), n_prototypes=np.array([1, 1, 2, 1]))) == [1, 1, 2, 1]


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_classes_that_are_not_named_take_the_default(table, kind):
    x, y = table
    x, names = sparse.csr_matrix(x) if kind == "sparse" else x, np.array(list("abcd"))[y]
    assert counts_of(fitted((x, y), n_prototypes={0: 5})) == [5, 3, 3, 3]
    assert counts_of(fitted((x, y), n_prototypes={0: 5, 2: 1}, default_prototypes=2)) == [5, 2, 1, 2]
    assert counts_of(fitted((x, names), n_prototypes={"c": 4, "unknown": 9}, default_prototypes=1)) == [1, 1, 4, 1]
    assert counts_of(fitted((x, names), n_prototypes=[1, 4])) == [1, 4, 3, 3]
    assert counts_of(fitted((x, names), n_prototypes=(), default_prototypes=2)) == [2, 2, 2, 2]


def test_a_dict_that_names_no_class_is_refused(table):
    message = refusal(ValueError, PrototypeClassifier({"0": 5}).fit, *table)
    has(message, "n_prototypes names ['0']", "none of which is a class of y", "[0, 1, 2, 3]")


@pytest.mark.parametrize("metric", METRICS)
def test_auto_gives_a_class_of_separated_modes_more_prototypes_than_a_tight_one(metric, rng):
    a = np.repeat(np.eye(40)[:4], 100, axis=0) + 0.05 * rng.standard_normal((400, 40))
    b = np.eye(40)[[6]] + 0.05 * rng.standard_normal((400, 40))
    few = np.eye(40)[[7]] + 0.05 * rng.standard_normal((3, 40))
    y = np.repeat(["modes", "tight", "few"], [400, 400, 3])
    model = fitted((np.vstack([a, b, few]), y), n_prototypes="auto", metric=metric)
    numbers = dict(zip(*np.unique(model.prototype_labels_, return_counts=True), strict=True))
    assert numbers["modes"] >= 4
    assert numbers["tight"] <= 2
    assert numbers["few"] == 1


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_fewer_rows_than_prototypes(init, kind, rng):
    x = np.vstack([rng.standard_normal((2, 5)), np.tile(rng.standard_normal((1, 5)), (6, 1))]).astype(np.float32)
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    model = fitted((rows, [0, 0, *[1] * 6]), n_prototypes=5, init=init, shrinkage=0.0)
    assert counts_of(model) == [2, 1]
    np.testing.assert_array_equal(model.predict(rows), [0, 0, *[1] * 6])
    assert list(model.prototype_weights_) == [1, 1, 6]


@pytest.mark.parametrize("scores", ["linear", "softmax"])
def test_soft_assignment_still_classifies(table, scores):
    x, y = table
    x_test, y_test = modes(seed=1)
    hard = fitted((x, y), refine="none").score(x_test, y_test)
    soft = fitted((x, y), refine="none", assignment="soft", scores=scores, temperature=0.05)
    assert soft.score(x_test, y_test) > hard - 0.1
    assert soft.prototype_weights_.sum() == pytest.approx(len(x))


def test_a_row_that_is_like_no_prototype_goes_to_the_nearest_of_its_class():
    """With a penalty of 2 no prototype of another class has a positive score: as if classes were alone."""
    x = np.array([[1, 0.1], [1, -0.1], [-1, 0.1], [-1, -0.1], [0.1, 1], [-0.1, 1]])
    y = [0, 0, 0, 0, 1, 1]
    alike = {"n_prototypes": 1, "refine": "none", "shrinkage": 0.0}
    soft = fitted((x, y), assignment="soft", wrong_class_penalty=2.0, **alike)
    hard = fitted((x, y), **alike)
    np.testing.assert_allclose(soft.prototypes_, hard.prototypes_, atol=1e-6)
    assert list(soft.prototype_weights_) == [4, 2]


def test_a_penalty_keeps_rows_of_other_classes_out(table):
    x, y = table
    for penalty, shared in ((0.0, True), (2.0, False)):
        model = fitted((x, y), assignment="soft", wrong_class_penalty=penalty, refine="none")
        held = np.bincount(model.prototype_labels_, model.prototype_weights_)
        assert (np.abs(held - np.bincount(y)).max() > 0.5) == shared


def test_merging_and_pruning_leave_fewer_prototypes(table):
    x, y = table
    common = {"n_prototypes": 8, "refine": "none", "metric": "euclidean"}
    full = fitted((x, y), **common)
    merged = fitted((x, y), merge_threshold=2.0, **common)
    assert sum(e.merged for e in merged.history_) > 0
    assert len(merged.prototypes_) == merged.history_[-1].active < len(full.prototypes_) == 32
    assert set(merged.prototype_labels_) == set(y)
    gaps = [euclidean_distances(merged.prototypes_[merged.prototype_labels_ == c]) for c in range(4)]
    assert min((g + 1e9 * np.eye(len(g))).min() for g in gaps) > 1.5
    heavy = fitted((x, y), min_weight=25.0, **common)
    assert 4 <= len(heavy.prototypes_) < 32
    alone = np.bincount(heavy.prototype_labels_)[heavy.prototype_labels_] == 1
    assert (alone | (heavy.prototype_weights_ >= 25)).all()


def test_truncated_prototypes_stay_sparse(texts):
    x, y, x_test, y_test = texts
    some = np.isin(y, np.unique(y)[:20])
    part = (x[np.flatnonzero(some)], y[some])
    full = fitted(part, refine="none")
    thin = fitted(part, refine="none", truncation_threshold=0.03)
    assert thin.prototypes_.nnz < 0.8 * full.prototypes_.nnz
    among = np.isin(y_test, part[1])
    rows = x_test[np.flatnonzero(among)]
    assert thin.score(rows, y_test[among]) > full.score(rows, y_test[among]) - 0.03


def test_shrinkage_pulls_prototypes_to_the_mean_of_the_class(table):
    x, y = table
    spread = []
    for strength in (0.0, 10.0, 1e9):
        model = fitted((x, y), shrinkage=strength, metric="euclidean", refine="none")
        own = model.prototypes_[model.prototype_labels_ == 0]
        spread.append(own.std(axis=0).mean())
    assert spread[0] > spread[1] > spread[2]
    np.testing.assert_allclose(own, np.tile(x[y == 0].mean(axis=0), (3, 1)), atol=1e-3)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_smaller_dtypes_classify_nearly_alike(digits, dtype, kind):
    x, y, x_test, _ = digits
    x = sparse.csr_matrix(x) if kind == "sparse" else x
    full, small = fitted((x, y)), fitted((x, y), dtype=dtype)
    p = small.prototypes_
    values = p.data if kind == "sparse" else p
    assert values.dtype == (np.float16 if (dtype, kind) == ("float16", "dense") else np.float32)
    if dtype == "float16":
        np.testing.assert_array_equal(values, values.astype(np.float16))
    else:
        assert (values.view(np.uint32) & 0xFFFF == 0).all()
    assert (small.predict(x_test) == full.predict(x_test)).mean() > 0.99


@pytest.mark.parametrize(
    ("labels", "given", "mark"),
    [
        ([3, 8], None, -1),
        ([3, 8], 0, 0),
        (["cat", "no"], None, "rejected"),
        (["cat", "no"], "something quite else", "something quite else"),
        (np.array(["cat", "no"], object), None, "rejected"),
        (np.array([3, 8], np.uint8), None, -1),
    ],
    ids=["integers", "an integer given", "strings", "a string given", "objects", "unsigned"],
)
@pytest.mark.parametrize("metric", METRICS)
def test_rows_unlike_all_prototypes_are_rejected(labels, given, mark, metric):
    x = np.tile([[1.0, 0, 0], [0, 1, 0]], (20, 1)) + 0.01 * np.random.default_rng(0).standard_normal((40, 3))
    y = np.asarray(labels)[np.arange(40) % 2]
    model = fitted((x, y), metric=metric, reject_below=0.6, reject_label=given, n_prototypes=1)
    np.testing.assert_array_equal(model.predict(np.eye(3) * [1, 1, 5]), [labels[0], labels[1], mark])
    model.set_params(reject_below=None)
    assert set(model.predict(np.eye(3))) <= set(labels)


@pytest.mark.parametrize("index", ["flat", "ivf:nlist=8,nprobe=4", "hnsw", "cells:nlist=8,nprobe=4"])
def test_every_index_finds_nearly_all_nearest_prototypes(index):
    x, y = modes(n=1500)
    exact = fitted((x, y), n_prototypes=40, refine="none")
    model = fitted((x, y), n_prototypes=40, refine="none", index=index)
    assert str(model.index_).startswith(index.split(":")[0])
    assert bits(model) == bits(exact)
    agree = (model.kneighbors(x, 1)[1] == exact.kneighbors(x, 1)[1]).mean()
    assert agree == 1 if index == "flat" else agree > 0.8


def test_the_search_option_left_open_is_set_by_the_recall():
    x, y = modes(n=3000)
    shares = []
    for recall in (0.6, 0.99):
        model = fitted((x, y), n_prototypes=60, refine="none", index="ivf:nlist=40,nprobe=auto", recall=recall)
        truth = euclidean_distances(x / np.linalg.norm(x, axis=1, keepdims=True), model.prototypes_).argmin(axis=1)
        shares.append((model.kneighbors(x, 1)[1][:, 0] == truth).mean())
        assert shares[-1] >= recall - 0.02
    assert model.index_.nprobe > 1
    assert shares[0] < shares[1]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_warning_of_zero_rows_names_the_line_that_called(table, method):
    x, y = table
    x = np.where(np.arange(len(x))[:, None] % 100 == 7, 0, x)
    with pytest.warns(UserWarning, match="6 of 600 rows are zero, row 7 first: they have no direction") as caught:
        getattr(PrototypeClassifier(random_state=0), method)(x, y)
    assert [w.filename for w in caught] == [__file__]


# --------------------------------------------------------------------------- bad input


def refusal(error, call, *args, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def has(message, *parts):
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in {message!r}"


KINDS_OF_LABELS = {
    "integers": np.array([3, -1, 7]),
    "unsigned": np.array([3, 1, 7], np.uint8),
    "strings": np.array(["c", "a", "bb"]),
    "objects": np.array(["c", "a", "bb"], object),
    "whole floats": np.array([3.0, 1.0, 7.0]),
}


@pytest.mark.parametrize("kind", [*KINDS_OF_LABELS, "bools", "list"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_every_kind_of_label_comes_back(table, kind, method):
    x, y = table
    kinds = {**KINDS_OF_LABELS, "bools": np.array([True, False]), "list": np.array(["x", "y"])}
    labels = kinds[kind][y % len(kinds[kind])]
    given = labels.tolist() if kind == "list" else labels
    model = getattr(PrototypeClassifier(random_state=0), method)(x, given)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    assert model.classes_.dtype == labels.dtype
    assert (model.predict(x) == labels).mean() > 0.7


LABELS = {
    "one-hot": (lambda y: np.eye(4)[y], ["(600, 4)", "one class label per row", "y.argmax(axis=1)"]),
    "probabilities": (lambda y: np.full((600, 4), 0.25), ["(600, 4)", "probabilities", "y.argmax(axis=1)"]),
    "sparse one-hot": (lambda y: sparse.csr_matrix(np.eye(4)[y]), ["y is a sparse matrix", "one class label per row"]),
    "parts": (lambda y: y + 0.5, ["y[0] is", "class labels are integers or strings", "regressor"]),
    "NaN": (lambda y: np.where(np.arange(600) == 9, np.nan, y), ["NaN", "row 9", "every row needs a class label"]),
    "None": (lambda y: np.where(np.arange(600) == 9, None, y), ["None", "row 9", "every row needs a class label"]),
    "short": (lambda y: y[:-1], ["599 labels for 600 rows", "one per row is needed"]),
    "one class": (lambda y: y * 0 + 4, ["at least 2 classes", "one class: 4", "add"]),
    "missing": (lambda y: None, ["requires y to be passed", "one class label per row"]),
    "complex": (lambda y: y + 1j, ["Complex data not supported"]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_make_no_sense_are_refused(table, kind):
    make, parts = LABELS[kind]
    model = PrototypeClassifier()
    has(refusal(ValueError, model.fit, table[0], make(table[1])), *parts)
    with pytest.raises(NotFittedError):
        model.predict(table[0])
    if kind != "one class":  # a stream may begin with one
        has(refusal(ValueError, PrototypeClassifier().partial_fit, table[0], make(table[1])), *parts)


def test_one_class_after_weights_is_named(table):
    x, y = table
    message = refusal(ValueError, PrototypeClassifier().fit, x, y, sample_weight=(y == 2) * 1.0)
    has(message, "2 classes", "positive weight", "one class: 2")


def test_a_column_of_labels_is_taken_with_a_warning(table):
    from sklearn.exceptions import DataConversionWarning

    x, y = table
    with pytest.warns(DataConversionWarning):
        model = PrototypeClassifier(random_state=0).fit(x, y[:, None])
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 3])


USES = {
    "fit": lambda m, x, y: PrototypeClassifier().fit(x, y),
    "first batch": lambda m, x, y: PrototypeClassifier().partial_fit(x, y),
    "partial_fit": lambda m, x, y: m.partial_fit(x, y),
    "predict": lambda m, x, y: m.predict(x),
    "predict_proba": lambda m, x, y: m.predict_proba(x),
    "decision_function": lambda m, x, y: m.decision_function(x),
    "kneighbors": lambda m, x, y: m.kneighbors(x, 2),
    "score": lambda m, x, y: m.score(x, y),
}


@pytest.fixture
def model(table):
    return fitted(table, refine="none")


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_the_first_row_that_is_not_finite_is_named(model, table, value, word, use, kind):
    x, y = table[0].copy(), table[1]
    x[[17, 40], [2, 0]] = value
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    has(refusal(ValueError, USES[use], model, rows, y), f"contains {word}", "row 17", "column 2", "remove or impute")


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("learn", ["fit", "partial_fit"])
def test_zero_rows_to_learn_from_are_left_out_under_the_cosine(table, learn, kind):
    x, y = table[0].copy(), table[1]
    weights = np.ones(len(x))
    weights[17] = 0
    same = getattr(PrototypeClassifier(random_state=0), learn)(x, y, sample_weight=weights)
    x[17] = 0
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    model = PrototypeClassifier(random_state=0)
    with pytest.warns(UserWarning, match=r"1 of \d+ rows are zero, row 17 first.*left out"):
        getattr(model, learn)(rows, y)
    np.testing.assert_allclose(dense(model.prototypes_), dense(same.prototypes_), atol=1e-5)
    assert fitted((rows, y), metric="euclidean").predict(rows[17:18]).shape == (1,)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("use", ["partial_fit", "predict", "predict_proba", "kneighbors"])
def test_a_wrong_number_of_columns_is_named(model, table, use, kind):
    x, y = table
    rows = sparse.csr_matrix(x[:, :7]) if kind == "sparse" else x[:, :7]
    message = refusal(ValueError, USES[use], model, rows, y)
    has(message, "X has 7 features, but PrototypeClassifier is expecting 10 features")


PARAMETERS = [
    ("n_prototypes", 0, ValueError, ["n_prototypes must be >= 1", "0"]),
    ("n_prototypes", 2.5, TypeError, ["n_prototypes must be an integer", "2.5"]),
    ("n_prototypes", True, TypeError, ["n_prototypes", "True"]),
    ("n_prototypes", "many", ValueError, ["n_prototypes", "'auto'", "'many'"]),
    ("n_prototypes", [1] * 5, ValueError, ["n_prototypes lists 5 numbers for 4 classes", "one per class"]),
    ("default_prototypes", 0, ValueError, ["default_prototypes must be >= 1", "0"]),
    ("output", "jax", ValueError, ["output must be one of", "'numpy', 'torch'", "'jax'"]),
    ("n_prototypes", [1, 2, 0, 1], ValueError, ["n_prototypes must be >= 1", "0"]),
    ("n_prototypes", {0: 1, 1: 1, 2: 0, 3: 1}, ValueError, ["n_prototypes[2] must be >= 1", "0"]),
    ("metric", "manhattan", ValueError, ["metric must be one of", "'euclidean', 'cosine'", "'manhattan'"]),
    ("init", "auto", ValueError, ["init must be one of", "'k-means++', 'random'", "'auto'"]),
    ("assignment", "fuzzy", ValueError, ["assignment must be one of", "'hard', 'soft'", "'fuzzy'"]),
    ("scores", "cubic", ValueError, ["scores must be one of", "'linear', 'softmax'", "'cubic'"]),
    ("temperature", 0, ValueError, ["temperature must be > 0", "0"]),
    ("temperature", "hot", TypeError, ["temperature must be a number", "'hot'"]),
    ("wrong_class_penalty", -1.0, ValueError, ["wrong_class_penalty must be >= 0", "-1.0"]),
    ("candidates", 0, ValueError, ["candidates must be >= 1", "0"]),
    ("shrinkage", -0.5, ValueError, ["shrinkage must be >= 0", "-0.5"]),
    ("shrinkage", "some", TypeError, ["shrinkage must be a number", "'some'"]),
    ("merge_threshold", -0.5, ValueError, ["merge_threshold must be >= 0", "-0.5"]),
    ("relative_merge", np.inf, ValueError, ["relative_merge", "finite", "inf"]),
    ("percentile_threshold", 1.5, ValueError, ["percentile_threshold must be in (0, 1]", "1.5"]),
    ("percentile_threshold", 0.0, ValueError, ["percentile_threshold must be in (0, 1]", "0.0"]),
    ("min_weight", -1, ValueError, ["min_weight must be >= 0", "-1"]),
    ("truncation_threshold", np.nan, ValueError, ["truncation_threshold", "finite", "nan"]),
    ("refine", "adam", ValueError, ["refine must be one of", "'softmax'", "'adam'"]),
    ("max_iter", 0, ValueError, ["max_iter must be >= 1", "0"]),
    ("tol", -1e-3, ValueError, ["tol must be >= 0", "-0.001"]),
    ("index", "fast", ValueError, ["fast"]),
    ("index", 3, TypeError, ["3"]),
    ("recall", 1.0, ValueError, ["recall must be below 1", "1.0", "index='flat'"]),
    ("recall", 0, ValueError, ["recall must be > 0", "0"]),
    ("dtype", "float64", ValueError, ["dtype must be one of", "'bfloat16'", "'float64'"]),
    ("reject_below", -2, ValueError, ["reject_below must be >= -1", "-2"]),
    ("device", "gpu7", ValueError, ["gpu7"]),
    ("n_jobs", 0, ValueError, ["n_jobs == 0 has no meaning", "for all cores"]),
    ("n_jobs", 1.5, TypeError, ["n_jobs must be an integer", "1.5"]),
]


@pytest.mark.parametrize(("name", "value", "error", "parts"), PARAMETERS, ids=[f"{p[0]}={p[1]!r}" for p in PARAMETERS])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_parameters_that_make_no_sense_are_refused(table, name, value, error, parts, method):
    model = PrototypeClassifier().set_params(**{name: value})
    has(refusal(error, getattr(model, method), *table), *parts)
    with pytest.raises(NotFittedError):
        model.predict(table[0])


def test_two_ways_to_say_when_to_merge_are_refused(table):
    message = refusal(ValueError, PrototypeClassifier(merge_threshold=0.1, relative_merge=0.1).fit, *table)
    has(message, "merge_threshold", "relative_merge", "one of them")


@pytest.mark.parametrize("count", [0, 13])
def test_kneighbors_refuses_more_neighbours_than_prototypes(model, table, count):
    has(refusal(ValueError, model.kneighbors, table[0], count), "n_neighbors must be between 1 and 12", str(count))


@pytest.mark.parametrize("use", [*[u for u in USES if u not in ("fit", "first batch", "partial_fit")], "save"], ids=str)
def test_using_a_classifier_before_fit_is_refused(table, use, tmp_path):
    call = USES.get(use, lambda m, x, y: m.save(tmp_path / "nowhere"))
    has(refusal(NotFittedError, call, PrototypeClassifier(), *table), "not fitted yet")


FAILING = {
    "NaN": lambda m, x, y: m.fit(np.where(np.arange(len(x))[:, None] == 5, np.nan, x[:, :4]), y),
    "labels": lambda m, x, y: m.fit(x[:, :4], y[:-1]),
    "one class": lambda m, x, y: m.fit(x[:, :4], y * 0),
    "weights": lambda m, x, y: m.fit(x[:, :4], y, -np.ones(len(y))),
    "parameter": lambda m, x, y: m.set_params(n_prototypes={0: 0}).fit(pd.DataFrame(x[:, :4], columns=list("abcd")), y),
}


@pytest.mark.parametrize("failing", FAILING)
def test_a_failed_fit_leaves_a_fitted_model_usable(model, table, failing):
    x, y = table
    before, expected = bits(model), model.predict(x)
    with pytest.raises(ValueError):  # noqa: PT011 - which words, other tests say
        FAILING[failing](model, x, y)
    assert bits(model) == before
    np.testing.assert_array_equal(model.predict(x), expected)
    assert not hasattr(model, "feature_names_in_")
