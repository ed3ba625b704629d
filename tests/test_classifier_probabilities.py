"""Probabilities of the classifier mean what they say: of few rows, in streams, in any unit, where rows tell nothing."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import log_loss
from test_classifier import METRICS, fitted

from fastann import PrototypeClassifier
from fastann.classify.calibration import UNKNOWN, Judged, differences, judge, leave_out
from fastann.classify.training import Course, LabelledRows, train
from fastann.cluster.space import fit_space
from fastann.data.csr import CSRSource
from fastann.data.source import ArraySource
from fastann.estimators.classifier_parameters import recipe_of


def groups(seed, n, classes=5, modes=1, d=12, apart=0.9):
    """Rows of classes that overlap: float32 [n, d], and the class of each."""
    centres = np.random.default_rng(7).normal(0, apart, (classes, modes, d))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = centres[y, rng.integers(0, modes, n)] + rng.normal(0, 1, (n, d))
    return x.astype(np.float32), y


def streamed(x, y, size, **parameters):
    model = PrototypeClassifier(**{"random_state": 0, **parameters})
    for start in range(0, len(y), size):
        model.partial_fit(x[start : start + size], y[start : start + size])
    return model


SOFT = {"assignment": "soft"}
WAYS = {
    "plain": {"refine": "none"},
    "one prototype": {"refine": "none", "n_prototypes": 1},
    "refined": {"refine": "softmax"},
    "auto": {},
    "soft": {"refine": "none", **SOFT},
    "soft and refined": {"refine": "softmax", **SOFT},
    "without shrinkage": {"refine": "none", "shrinkage": 0.0},
    "auto sizes": {"refine": "none", "n_prototypes": "auto"},
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("way", WAYS)
def test_few_rows_do_not_make_certain(way, metric):
    """150 rows of 10 classes: a scale that suits the rows of training is certain of nearly all."""
    x_test, y_test = groups(1, 2000, classes=10, d=30, apart=0.4)
    certain, right = [], []
    for seed in (2, 3, 4):
        q = fitted(groups(seed, 150, classes=10, d=30, apart=0.4), metric=metric, **WAYS[way]).predict_proba(x_test)
        certain.append(q.max(axis=1).mean())
        right.append((q.argmax(axis=1) == y_test).mean())
    assert np.mean(right) < 0.65
    assert np.mean(certain) == pytest.approx(np.mean(right), abs=0.07)


@pytest.mark.parametrize("parameters", [{"n_prototypes": 1}, {}, SOFT], ids=["one", "three", "soft"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [40, 250, 1500])
def test_probabilities_of_a_stream_do_not_depend_on_units_or_cuts(size, metric, parameters):
    x, y = groups(0, 1500)
    x_test, y_test = groups(1, 2000)
    whole = fitted((x, y), metric=metric, refine="none", **parameters)
    right = log_loss(y_test, whole.predict_proba(x_test))
    for unit in (0.01, 1.0, 100.0) if parameters != SOFT else (1.0,):  # shares of soft assignment do have a unit
        stream = streamed(unit * x, y, size, metric=metric, **parameters)
        assert log_loss(y_test, stream.predict_proba(unit * x_test)) < right + 0.08


def test_a_stream_of_single_rows_is_judged_too():
    x, y = groups(0, 300)
    x_test, y_test = groups(1, 2000)
    right = log_loss(y_test, fitted((x, y), metric="euclidean", refine="none").predict_proba(x_test))
    stream = streamed(x * 1000, y, 1, metric="euclidean", n_jobs=1)
    assert log_loss(y_test, stream.predict_proba(x_test * 1000)) < right + 0.15


@pytest.mark.parametrize("metric", METRICS)
def test_a_stream_that_goes_on_from_a_fit_or_a_folder_is_as_sure(metric, tmp_path):
    x, y = groups(0, 1200)
    x_test, y_test = groups(1, 2000)
    model = fitted((x[:600], y[:600]), metric=metric, refine="none")
    model.save(tmp_path / "model")
    again = PrototypeClassifier.load(tmp_path / "model")
    for m in (model, again):
        for start in range(600, 1200, 20):
            m.partial_fit(x[start : start + 20], y[start : start + 20])
    assert again.scale_ == model.scale_
    right = log_loss(y_test, fitted((x, y), metric=metric, refine="none").predict_proba(x_test))
    assert log_loss(y_test, model.predict_proba(x_test)) < right + 0.05


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_row_is_judged_as_by_the_mean_of_the_others(kind, metric, weighted):
    x, y = groups(0, 40, classes=3)
    w = np.random.default_rng(0).integers(1, 4, 40).astype(np.float64) if weighted else None
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    model = PrototypeClassifier(1, metric=metric)
    space, view = fit_space(CSRSource(rows) if kind == "sparse" else ArraySource(rows), metric)
    recipe = recipe_of(model, space)
    data = LabelledRows(view, y.astype(np.int32), w, 3)
    p, pulled = train(recipe, data, np.ones(3, np.int64), np.random.default_rng(0), Course())
    block = view.take(np.arange(40))
    sqdist = differences(block, p.vectors)
    leave_out(sqdist, data.labels, np.ones(40) if w is None else w, p, pulled, recipe)
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x
    for i in range(40):
        others = (np.arange(40) != i) & (y == y[i])
        mean = np.average(x[others], axis=0, weights=None if w is None else w[others])
        mean = mean / np.linalg.norm(mean) if metric == "cosine" else mean
        assert sqdist[i, y[i]] == pytest.approx(((x[i] - mean) ** 2).sum(), rel=1e-4)


def test_a_row_that_is_alone_is_no_evidence():
    """Without it its class has no prototype; the others must tell how sure to be."""
    x, y = groups(0, 60, classes=3)
    alone = np.r_[y, np.arange(3, 43)]
    q = fitted((np.vstack([x, x[:40] + 50]), alone), metric="euclidean", refine="none").predict_proba(groups(1, 500)[0])
    assert q[:, 3:].sum() < 1e-6
    assert 0.5 < q.max(axis=1).mean() < 0.99


@pytest.mark.parametrize("refine", ["none", "softmax", "auto"])
@pytest.mark.parametrize("metric", METRICS)
def test_one_row_a_class_is_sure_of_nothing_in_any_unit(metric, refine):
    x, _ = groups(0, 6)
    far = groups(1, 50)[0]
    q = [fitted((x * u, range(6)), metric=metric, refine=refine).predict_proba(far * u) for u in (1.0, 1e-3, 1e3)]
    for other in q[1:]:
        np.testing.assert_allclose(other, q[0], atol=1e-4)
    assert q[0].max(axis=1).mean() < 0.8


def test_rows_at_no_distance():
    x = np.ones((8, 3))
    np.testing.assert_allclose(fitted((x, [0, 1] * 4), metric="euclidean").predict_proba(x + 1), 0.5)
    two = np.repeat([[0, 0, 1.0], [1e-3, 0, 0]], 10, axis=0)
    model = fitted((two, np.repeat([0, 1], 10)), metric="euclidean")
    q = model.predict_proba(two[[0, 10]])
    assert (np.diag(q) > 0.8).all()
    assert (np.diag(q) < 0.999).all()  # ten rows a class leave a doubt


def test_a_stream_of_one_class_then_two():
    x, y = groups(0, 400, classes=2, apart=2.0)
    model = PrototypeClassifier(metric="euclidean", random_state=0).partial_fit(x[y == 0], y[y == 0])
    np.testing.assert_array_equal(model.predict_proba(x), 1)
    np.testing.assert_array_equal(model.predict_log_proba(x), 0)
    q = model.partial_fit(x[y == 1], y[y == 1]).predict_proba(x)
    assert log_loss(y, q) < 0.1


def test_confusable_classes_among_classes_far_apart():
    """Nearly all distances are huge beside those that decide."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 200, 6000)
    x = 1e4 * np.c_[np.cos(y // 2), np.sin(y // 2), y // 2] + np.c_[y % 2, np.zeros(6000), np.zeros(6000)]
    x = x + rng.normal(0, 0.5, x.shape)
    q = fitted((x[:3000], y[:3000]), n_prototypes=1, metric="euclidean", refine="none").predict_proba(x[3000:])
    right = (q.argmax(axis=1) == y[3000:]).mean()
    assert 0.7 < right < 0.9
    assert q.max(axis=1).mean() == pytest.approx(right, abs=0.05)


@pytest.mark.parametrize("metric", METRICS)
def test_more_classes_than_are_looked_at_one_by_one(metric):
    x, y = groups(0, 3000, classes=600, d=30, apart=1.0)
    x_test, y_test = groups(1, 2000, classes=600, d=30, apart=1.0)
    model = fitted((x, y), metric=metric, n_prototypes=1, refine="none")
    right = (model.predict(x_test) == y_test).mean()
    assert 0.3 < right < 0.9
    assert model.predict_proba(x_test).max(axis=1).mean() == pytest.approx(right, abs=0.06)


def test_the_scale_is_judged_by_weight():
    """Light rows, of which there are 100 times as many, have labels drawn at random."""
    x, y = groups(0, 200, classes=2, apart=2.0)
    noise, _ = groups(1, 20_000, classes=2, apart=2.0)
    labels = np.random.default_rng(0).integers(0, 2, 20_000)
    w = np.r_[np.ones(200), np.full(20_000, 1e-6)]
    model = PrototypeClassifier(1, metric="euclidean", refine="none", random_state=0)
    model.fit(np.vstack([x, noise]), np.r_[y, labels], sample_weight=w)
    alone = fitted((x, y), n_prototypes=1, metric="euclidean", refine="none")
    assert model.scale_ == pytest.approx(alone.scale_, rel=0.2)


def test_judging_draws_rows_by_weight_from_many():
    x, y = groups(0, 30_000, classes=3)
    w = np.full(30_000, 1e-9)
    w[::100] = 1.0
    space, view = fit_space(ArraySource(x), "euclidean")
    recipe = recipe_of(PrototypeClassifier(1, metric="euclidean"), space)
    data = LabelledRows(view, y.astype(np.int32), w, 3)
    p, _ = train(recipe, data, np.ones(3, np.int64), np.random.default_rng(0), Course())
    judged = judge(recipe, data, p, np.random.default_rng(0))
    assert judged.weights.sum() == pytest.approx(300, rel=0.01)
    assert np.count_nonzero(judged.weights > 0.5) == 300


def test_what_is_known_of_the_scale_adds(rng):
    """Of rows in ten batches much the same is found as of all together."""
    score = 2 * rng.standard_normal((1000, 4))
    q = np.exp(1.5 * score)
    truth = (rng.random((1000, 1)) > np.cumsum(q / q.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    own = np.take_along_axis(score, truth[:, None], axis=1)
    others = np.where(np.arange(4) == truth[:, None], -np.inf, score)
    whole = Judged(np.hstack([own, others]), np.ones(5), np.ones(1000))
    parts = UNKNOWN
    for i in range(0, 1000, 100):
        parts = parts.after(Judged(whole.score[i : i + 100], whole.times, whole.weights[i : i + 100]))
    assert parts.scale == pytest.approx(UNKNOWN.after(whole).scale, rel=0.1)


# --------------------------------------------------------------------------- predict_log_proba


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("metric", METRICS)
def test_logarithms_of_probabilities_are_finite(kind, metric):
    x, y = groups(0, 400, apart=3.0)
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    model = fitted((rows, y), metric=metric)
    model.scale_ *= 1000
    logs, q = model.predict_log_proba(rows), model.predict_proba(rows)
    assert (q == 0).any()
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs), q, rtol=1e-9)
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1)


def test_a_class_without_prototypes_has_the_logarithm_of_zero():
    x, y = groups(0, 50)
    model = PrototypeClassifier(random_state=0).partial_fit(x, y, classes=range(6))
    logs = model.predict_log_proba(x)
    assert np.isfinite(logs[:, :5]).all()
    assert (logs[:, 5] == -np.inf).all()
