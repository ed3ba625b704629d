"""Weights of rows and classes in the classifier: rows are drawn and judged by them, and classes named that fall."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import balanced_accuracy_score
from test_classifier import METRICS, bits, fitted, has, modes, refusal

from fastann import PrototypeClassifier
from fastann.classify.fit import FEWEST_HELD_OUT, Verdict, some_of
from fastann.classify.refine import Descent
from fastann.classify.start import LEAST, drawn, start
from fastann.classify.training import LabelledRows
from fastann.data.source import ArraySource
from fastann.storage import read_run


def unlike(seed, many, few, d=16, apart=0.8):
    """A class of many rows and one of few that overlap."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (many + few, d)).astype(np.float32)
    x[:, : d // 2] += np.float32(apart)
    x[many:, d // 2 :] += np.float32(apart)
    return x, np.repeat(["common", "rare"], [many, few])


# --------------------------------------------------------------------------- small classes


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("few", [50, 150])
def test_refinement_does_not_give_up_a_small_class(few, metric):
    x, y = unlike(0, 5000, few)
    x_test, y_test = unlike(1, 3000, 500)
    plain, model, weighted = (
        fitted((x, y), metric=metric, **options)
        for options in ({"refine": "none"}, {}, {"class_weight": "balanced", "refine": "auto"})
    )
    least = balanced_accuracy_score(y_test, plain.predict(x_test)) - 0.03
    assert balanced_accuracy_score(y_test, model.predict(x_test)) > least
    assert balanced_accuracy_score(y_test, weighted.predict(x_test)) > least
    verdict = model.refinement_
    assert not verdict.kept
    assert verdict.after > verdict.before  # accuracy alone would have kept it
    assert verdict.balanced_after < verdict.balanced_before - 0.02
    (fall,) = verdict.fell
    assert (fall.label, fall.rows) == ("rare", few // 10)
    assert fall.after < fall.before
    judged = weighted.refinement_
    assert judged.rows == 0 if few == 50 else judged.before == pytest.approx(judged.balanced_before, abs=0.02)


def test_a_refinement_that_costs_a_class_is_said():
    x, y = unlike(0, 5000, 300)
    with pytest.warns(
        UserWarning, match=r"lowers recall .* of class 'rare' from 0\.\d\d to 0\.\d\d \(30 rows\)"
    ) as got:
        PrototypeClassifier(metric="euclidean", refine="softmax", random_state=0).fit(x, y)
    assert "accuracy goes from" in str(got[0].message)
    assert "class_weight='balanced' or refine='none'" in str(got[0].message)
    assert got[0].filename == __file__
    PrototypeClassifier(metric="euclidean", refine="softmax", class_weight="balanced", random_state=0).fit(x, y)


@pytest.mark.parametrize(
    ("rows", "before", "after", "kept"),
    [
        ([100, 100], [80, 80], [90, 80], True),
        ([100, 100], [80, 80], [80, 80], False),
        ([100, 100], [80, 80], [79, 90], True),
        ([100, 100], [90, 60], [99, 55], True),
        ([1000, 100], [900, 90], [990, 20], False),
        ([1000, 100], [900, 90], [950, 90], True),
        ([1000, 100], [900, 90], [910, 80], False),
        ([1000, 1000, 100], [500, 500, 80], [700, 700, 65], True),
        ([1000, 10], [800, 9], [830, 8], False),  # of ten rows one may as well stand for three
    ],
)
def test_refinement_is_judged_by_accuracy_and_balanced_accuracy(rows, before, after, kept):
    labels = np.repeat(np.arange(len(rows)), rows).astype(np.int32)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(rows) - rows, rows)
    data = LabelledRows(ArraySource(np.ones((len(labels), 1), np.float32)), labels, None, len(rows))
    verdict = Verdict.of(data, *(place < np.array(hits)[labels] for hits in (before, after)))
    verdict = verdict.named(np.array(["a", "b", "c"]))
    assert verdict.kept == kept
    assert verdict.rows == sum(rows)
    assert verdict.before == pytest.approx(sum(before) / sum(rows))
    assert verdict.balanced_after == pytest.approx((np.array(after) / rows).mean())
    assert [fall.label for fall in verdict.fell] == [c for c, b, a in zip("abc", before, after, strict=False) if a < b]


def test_the_verdict_is_saved_with_its_classes(tmp_path):
    model = fitted(unlike(0, 3000, 60), metric="euclidean", class_weight={"rare": 2.0, "common": 1})
    model.save(tmp_path / "model")
    again = PrototypeClassifier.load(tmp_path / "model")
    assert again.refinement_ == model.refinement_
    assert again.refinement_.fell
    assert again.class_weight == {"rare": 2.0, "common": 1}
    manifest, _, _ = read_run(tmp_path / "model")
    assert manifest["refinement"]["fell"][0]["label"] == "rare"


# --------------------------------------------------------------------------- class_weight


@pytest.mark.parametrize("refine", ["none", "auto", "softmax"])
@pytest.mark.parametrize("metric", METRICS)
def test_class_weights_multiply_sample_weights(metric, refine):
    x, y = modes(n=1200)
    w = np.random.default_rng(0).random(1200) + 0.5
    common = {"metric": metric, "refine": refine, "random_state": 0}
    model = PrototypeClassifier(class_weight={0: 1, 1: 3, 2: 0.5}, **common).fit(x, y, sample_weight=w)
    same = PrototypeClassifier(**common).fit(x, y, sample_weight=w * np.array([1, 3, 0.5, 1])[y])
    assert bits(model) == bits(same)
    assert model.scale_ == same.scale_
    balanced = PrototypeClassifier(class_weight="balanced", **common).fit(x, y, sample_weight=w)
    held = np.bincount(balanced.prototype_labels_, balanced.prototype_weights_)
    np.testing.assert_allclose(held, w.sum() / 4)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_unit_of_weights_changes_nothing(factor):
    x, y = modes(n=900)
    for parameters in ({}, {"refine": "none", "n_prototypes": "auto"}, {"assignment": "soft"}):
        one, two = (
            PrototypeClassifier(random_state=0, **parameters).fit(x, y, sample_weight=np.full(900, w))
            for w in (1.0, factor)
        )
        np.testing.assert_allclose(two.prototypes_, one.prototypes_, atol=1e-5)
        assert two.scale_ == pytest.approx(one.scale_, rel=0.01)


def test_balanced_weights_leave_out_what_has_no_weight():
    x, y = modes(n=600)
    w = np.where(y == 2, 0.0, 1.0)
    model = PrototypeClassifier(class_weight="balanced", refine="none", random_state=0).fit(x, y, sample_weight=w)
    held = np.bincount(model.prototype_labels_, model.prototype_weights_, minlength=4)
    np.testing.assert_allclose(held, np.array([1, 1, 0, 1]) * w.sum() / 3)


def test_labels_that_look_like_numbers_are_weighted_as_text():
    x, y = modes(n=400)
    zips = np.array(["02108", "7", "07", "9"])[y]
    model = fitted((x, zips), class_weight={"02108": 1, "7": 5, "07": 2, "9": 1}, refine="none")
    held = np.bincount(model.prototype_labels_ == "7", model.prototype_weights_)
    assert held[1] == pytest.approx(5 * (zips == "7").sum())


@pytest.mark.parametrize(
    ("value", "error", "parts"),
    [
        ("even", ValueError, ["class_weight must be None, 'balanced' or a dict", "'even'"]),
        (2.0, ValueError, ["class_weight must be None, 'balanced' or a dict", "2.0"]),
        ([1, 1, 1, 1], ValueError, ["class_weight must be None, 'balanced' or a dict", "[1, 1, 1, 1]"]),
        ({0: -1}, ValueError, ["class_weight[0] must be >= 0", "-1"]),
        ({0: "much"}, TypeError, ["class_weight[0] must be a number", "'much'"]),
        (
            {0: 1, "1": 2},
            ValueError,
            ["The classes, [1, 2, 3], are not in class_weight", "'1'", "labels as they stand"],
        ),
        ({0: 1, 1: 0, 2: 0, 3: 0}, ValueError, ["class_weight=", "fewer than 2 classes", "positive weight"]),
    ],
)
def test_class_weights_that_make_no_sense_are_refused(value, error, parts):
    has(refusal(error, PrototypeClassifier(class_weight=value).fit, *modes(n=100)), *parts)


def test_a_stream_takes_weights_of_classes_but_does_not_balance_them():
    x, y = modes(n=600)
    message = refusal(ValueError, PrototypeClassifier(class_weight="balanced").partial_fit, x, y)
    has(message, "'balanced' is not supported for partial_fit", "compute_class_weight", "class_weight=dict(")
    model = PrototypeClassifier(class_weight={0: 1, 1: 4, "unseen": 3}, random_state=0)  # labels to come
    for begin in range(0, 600, 50):
        model.partial_fit(x[begin : begin + 50], y[begin : begin + 50])
    held = np.bincount(model.prototype_labels_, model.prototype_weights_)
    np.testing.assert_allclose(held, np.bincount(y) * [1, 4, 1, 1])


# --------------------------------------------------------------------------- rows drawn by weight


def heavy(n=20_000, few=60):
    """Rows of two classes around one place, and a few, of nearly all the weight, around another."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (n, 4))
    x[:few] += 100
    w = np.full(n, 1e-4)
    w[:few] = 1.0
    return x.astype(np.float32), (np.arange(n) % 2).astype(np.int32), w


@pytest.mark.parametrize("method", ["k-means++", "random"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_prototypes_start_where_the_weight_is(kind, method):
    x, y, w = heavy()
    rows = ArraySource(x)
    if kind == "sparse":
        from fastann.data.csr import CSRSource

        rows = CSRSource(sparse.csr_matrix(x))
    for seed in range(5):
        got, sizes = start(rows, y, w, np.array([4, 4]), method, np.random.default_rng(seed))
        got = got.toarray() if kind == "sparse" else got
        owner = np.repeat([0, 1], sizes)
        assert all((got[owner == c][:, 0] > 50).any() for c in (0, 1))


def test_a_mode_of_few_heavy_rows_gets_a_prototype():
    x, y, w = heavy()
    for size in (2, 3):
        model = PrototypeClassifier(size, metric="euclidean", refine="none", shrinkage=0.0, random_state=0)
        p = model.fit(x, y, sample_weight=w).prototypes_
        assert (p[model.prototype_labels_ == 0, 0] > 50).any()
        assert (p[model.prototype_labels_ == 1, 0] > 50).any()


def test_weights_that_differ_by_class_alone_start_from_the_same_rows(rng):
    x, y, _ = heavy(2000)
    starts = [
        start(ArraySource(x), y, w, np.array([3, 3]), "k-means++", np.random.default_rng(1))[0]
        for w in (None, np.ones(2000), np.where(y == 1, 8.0, 0.5))
    ]
    for other in starts[1:]:
        np.testing.assert_array_equal(other, starts[0])


def test_rows_drawn_stand_for_all():
    w = np.random.default_rng(0).pareto(1.0, 5000)
    w[::7] = 0
    totals = []
    for seed in range(200):
        picks, standing = drawn(5000, w, 300, np.random.default_rng(seed))
        assert (w[picks] > 0).all()
        assert (np.diff(picks) > 0).all()
        totals.append(standing[picks < 2500].sum())
    assert np.mean(totals) == pytest.approx(w[:2500].sum(), rel=4 * np.std(totals) / np.mean(totals) / 200**0.5)
    assert len(drawn(5000, w, 10_000, np.random.default_rng(0))[0]) == np.count_nonzero(w)


def test_a_trial_is_made_with_the_rows_of_weight(monkeypatch):
    from fastann.classify import fit

    monkeypatch.setattr(fit, "TRIAL_ROWS", 1000)
    x, y, w = heavy()
    data = some_of(LabelledRows(ArraySource(x), y, w, 2), np.random.default_rng(0))
    assert data.source.n == 1000
    assert (data.source.take(np.arange(1000))[:, 0] > 50).sum() == 60
    assert data.weights.sum() == pytest.approx(w.sum(), rel=0.05)
    everything = some_of(LabelledRows(ArraySource(x), y, np.where(w < 1, 0, w), 2), np.random.default_rng(0))
    assert everything.source.n == 60


def test_rows_without_weight_are_not_held_out():
    x, y = modes(n=8 * FEWEST_HELD_OUT)
    noise = np.random.default_rng(0).permutation(np.vstack([x, x, x]))
    w = np.r_[np.ones(len(x)), np.zeros(len(noise))]
    model = PrototypeClassifier(random_state=0).fit(np.vstack([x, noise]), np.r_[y, y, y, y], sample_weight=w)
    assert (model.refinement_.rows, model.refinement_.kept) == (0, False)  # too few that count


def test_refinement_sees_rows_as_often_as_they_weigh(rng):
    from fastann.classify.prototypes import Prototypes
    from fastann.classify.search import PrototypeSearch

    p = Prototypes(np.eye(3, dtype=np.float32), np.arange(3, dtype=np.int32), np.ones(3), np.zeros(3))
    descent = Descent(p, 3, euclidean=True, candidates=2, spec=PrototypeSearch("flat"), device="cpu", rng=rng)
    w = np.array([0.0, 1.0, 2.5, 0.5])
    times = np.mean([np.bincount(descent._order(4, w), minlength=4) for _ in range(300)], axis=0)
    np.testing.assert_allclose(times, w, atol=0.15)
    assert times[0] == 0
    assert sorted(descent._order(4, np.full(4, 3.0))) == [0, 1, 2, 3]


def test_refinement_goes_by_the_weights():
    """Light rows of a class stand among those of the other, and are all but ignored."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (3000, 6)), np.arange(3000) % 2
    x[:, 0] += 2 * y
    light = np.arange(3000) >= 300
    x[light & (y == 1), 0] -= 2
    w = np.where(light, 1e-4, 1.0)
    options = {"n_prototypes": 1, "metric": "euclidean", "refine": "softmax", "random_state": 0}
    model = PrototypeClassifier(**options).fit(x, y, sample_weight=w)
    assert model.score(x[~light], y[~light]) > 0.8


def test_the_search_option_is_found_on_rows_of_weight(monkeypatch):
    from fastann.classify import search

    seen = []
    monkeypatch.setattr(search, "AUDITED", 500)

    class Spy(search.Adaptive):
        def __init__(self, spec, target, rows, rng, sample):
            seen.append(rows.take(np.arange(rows.n)))
            super().__init__(spec, target, rows, rng, sample)

    monkeypatch.setattr(search, "Adaptive", Spy)
    x, y, w = heavy(5000)
    model = PrototypeClassifier(20, metric="euclidean", refine="none", index="ivf:nlist=10,nprobe=auto", random_state=0)
    model.fit(x, y, sample_weight=w)
    assert (seen[0][:, 0] > 50).sum() == 60


def test_small_classes_are_started_from_all_their_rows():
    x, y, w = heavy(2 * LEAST - 2)
    got, sizes = start(ArraySource(x), y, w, np.array([LEAST, LEAST]), "random", np.random.default_rng(0))
    assert sizes.tolist() == [LEAST - 1, LEAST - 1]
    assert len(np.unique(got, axis=0)) == 2 * LEAST - 2


# --------------------------------------------------------------------------- two scales


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("data", ["a flag of a million", "two cities in metres", "a column far off"])
@pytest.mark.parametrize("learn", ["fit", "stream"])
def test_groups_within_classes_are_found_on_two_scales(learn, data, kind):
    rng = np.random.default_rng(1)
    n = 3000
    which = rng.integers(0, 20, n)
    if data == "two cities in metres":
        city = np.repeat([[4.5e5, 5.4e6], [6.9e5, 5.33e6]], 10, axis=0)
        centres, noise = city + rng.uniform(0, 5e3, (20, 2)), rng.normal(0, 30, (n, 2))
    else:
        first = np.full(20, 1e6) if data == "a column far off" else np.repeat([0, 1e6], 10)
        centres = np.c_[first, rng.normal(0, 5, (20, 6))]
        noise = np.c_[np.zeros(n), rng.normal(0, 0.5, (n, 6))]
    x, y = centres[which] + noise, which % 2
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    model = PrototypeClassifier(10, metric="euclidean", refine="none", shrinkage=0.0, random_state=0)
    if learn == "fit":
        model.fit(rows, y)
    else:
        for begin in range(0, n, 500):
            model.partial_fit(rows[begin : begin + 500], y[begin : begin + 500])
    p = np.asarray(model.prototypes_.toarray() if kind == "sparse" else model.prototypes_, np.float64)
    far = ((x[:, None] - p[None]) ** 2).sum(axis=2)
    far[model.prototype_labels_[None] != y[:, None]] = np.inf
    assert far.min(axis=1).sum() < 2 * (noise**2).sum()
    assert (model.predict(rows) == y).mean() > 0.99


# --------------------------------------------------------------------------- zero rows, and fits that begin anew


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize(
    "options", [{}, {"assignment": "soft"}, {"refine": "softmax"}, {"n_prototypes": "auto"}], ids=str
)
def test_rows_that_are_all_zero(options, kind):
    zero, y = np.zeros((10, 3)), np.arange(10) % 2
    x = np.random.default_rng(0).normal(size=(10, 3))
    as_kind = sparse.csr_matrix if kind == "sparse" else np.asarray
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing but the error
        message = refusal(ValueError, PrototypeClassifier(random_state=0, **options).fit, as_kind(zero), y)
    has(message, "10 of 10 rows are zero", "no direction", "metric='cosine'", "metric='euclidean'")
    half = np.where(y[:, None] == 1, x, 0)
    has(refusal(ValueError, PrototypeClassifier().fit, as_kind(half), y), "5 of 10 rows are zero", "one class: 1")
    model = PrototypeClassifier(random_state=0, **options)
    with pytest.warns(UserWarning, match="10 of 10 rows are zero"):
        model.partial_fit(as_kind(zero), y)
    for use in (model.predict, model.predict_proba, model.decision_function, model.kneighbors):
        has(refusal(ValueError, use, as_kind(x)), "no row to learn from", "zero", "partial_fit")
    model.partial_fit(as_kind(x), y)
    same = PrototypeClassifier(random_state=0, **options).partial_fit(as_kind(x), y)
    assert bits(model) == bits(same)
    with pytest.warns(UserWarning, match="10 of 10 rows are zero"):
        model.partial_fit(as_kind(zero), y)
    assert bits(model) == bits(same)


def test_a_refit_depends_on_nothing_from_before():
    options = {"n_prototypes": 60, "refine": "none", "index": "ivf:nlist=40,nprobe=auto", "random_state": 0}
    model = PrototypeClassifier(recall=0.5, **options).fit(*modes(n=3000))
    low = model.index_.nprobe
    x, y = modes(seed=1, n=3000)
    model.set_params(recall=0.99).fit(x, y)
    fresh = PrototypeClassifier(recall=0.99, **options).fit(x, y)
    assert model.index_ == fresh.index_
    assert fresh.index_.nprobe > low
    assert bits(model) == bits(fresh)
    assert model.scale_ == fresh.scale_
    stream = PrototypeClassifier(recall=0.99, **options).partial_fit(*modes(seed=5, n=3000)).fit(x, y)
    assert stream.index_ == fresh.index_
    assert stream.scale_ == fresh.scale_


# --------------------------------------------------------------------------- labels of one kind


MIXED = {
    "list": (["a", 1] * 40, ["strings (row 0: 'a')", "numbers (row 1: 1)"]),
    "objects": (np.array(["a", 1] * 40, object), ["strings (row 0: 'a')", "numbers (row 1: 1)"]),
    "booleans and text": (np.array([True, "a"] * 40, object), ["numbers (row 0: True)", "strings (row 1: 'a')"]),
    "bytes and text": (np.array([b"a", "a"] * 40, object), ["bytes (row 0: b'a')", "strings (row 1: 'a')"]),
    "tuples": ([(1, 2), (3,)] * 40, ["values of type tuple", "(1, 2)", "pandas.factorize"]),
    "huge": ([10**30, 1] * 40, ["beyond 64 bits", "as strings"]),
}


@pytest.mark.parametrize("mixed", MIXED)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_labels_of_several_kinds_are_refused(mixed, method):
    y, parts = MIXED[mixed]
    message = refusal(ValueError, getattr(PrototypeClassifier(), method), np.eye(80), y)
    has(message, *parts)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_objects_of_one_kind_are_that_kind(method):
    pd = pytest.importorskip("pandas")
    x, y = modes(n=200)
    whole = {
        np.int64: [y.astype(object), pd.Series(y, dtype="Int64"), y.tolist()],
        np.bool_: [(y > 1).astype(object), pd.Series(y > 1, dtype="boolean")],
        np.float64: [y.astype(float).astype(object)],
    }
    for dtype, forms in whole.items():
        for labels in forms:
            model = getattr(PrototypeClassifier(random_state=0), method)(x, labels)
            assert model.classes_.dtype == dtype
    text = np.array(list("abcd"))[y]
    for labels in (text.tolist(), pd.Series(text, dtype="string"), pd.Series(text, dtype="category")):
        model = getattr(PrototypeClassifier(random_state=0), method)(x, labels)
        assert model.classes_.tolist() == list("abcd")


@pytest.mark.parametrize(("classes", "part"), [(["a", 1], "classes mixes"), (5, "list of labels"), ([[1]], "(1, 1)")])
def test_classes_to_expect_are_a_list_of_one_kind(classes, part):
    x, y = modes(n=50)
    has(refusal(ValueError, PrototypeClassifier().partial_fit, x, y, classes=classes), part)
