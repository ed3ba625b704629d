"""What a user of FastKMeansClassifier meets: its words, merging at a distance and by spread, batches of a stream."""

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from test_classifier import METRICS, bits, counts_of, fitted, has, modes, refusal

from fastann import PrototypeClassifier
from fastann.estimators.foreign import CLASSIFIER

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "coming-from-fastkmeansclassifier.md").read_text(
    encoding="utf-8"
)


@pytest.fixture(scope="module")
def table():
    return modes(n=600)


# --------------------------------------------------------------------------- words

OURS = {
    "k_init": (3, "n_prototypes=3"),
    "k_list": ({0: 5}, "n_prototypes="),
    "init_method": ("kmeans++", "init='k-means++'"),
    "soft": (True, "assignment='soft'"),
    "lambda_penalty": (1.0, "wrong_class_penalty="),
    "n_threads": (4, "n_jobs=4"),
    "batch_size": (1024, "partial_fit"),
}


@pytest.mark.parametrize("name", OURS)
def test_a_parameter_of_another_name_is_told_ours(table, name):
    value, ours = OURS[name]
    has(refusal(TypeError, PrototypeClassifier, **{name: value}), name, ours, "FastKMeansClassifier")
    has(refusal(ValueError, PrototypeClassifier().set_params, **{name: value}), name, ours)
    for method in ("fit", "partial_fit"):
        has(refusal(TypeError, getattr(PrototypeClassifier(), method), *table, **{name: value}), name, ours, method)
    has(refusal(AttributeError, getattr, PrototypeClassifier(), name), name, ours)
    assert f"`{name}" in PAGE


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_verbose_is_a_parameter_of_the_constructor(table, method):
    message = refusal(TypeError, getattr(PrototypeClassifier(), method), *table, verbose=True)
    has(message, method, "'verbose'", "PrototypeClassifier(verbose=True)")
    with pytest.raises(TypeError, match=r"predict has no argument 'n_threads'.*n_jobs"):
        fitted(table).predict(table[0], n_threads=2)


def test_a_method_of_another_name_is_told_ours():
    has(refusal(AttributeError, getattr, PrototypeClassifier(), "fit_batch"), "'fit_batch'", "partial_fit(X, y)")
    assert not hasattr(PrototypeClassifier(), "fit_batch")
    with pytest.raises(AttributeError, match="object has no attribute 'fit_batches'"):
        PrototypeClassifier().fit_batches  # noqa: B018
    with pytest.raises(TypeError, match="unexpected keyword argument 'k_inits'"):
        PrototypeClassifier(k_inits=3)


def test_every_word_that_is_explained_is_on_the_page():
    words = set(CLASSIFIER)
    assert words >= {*OURS, "fit_batch", "verbose"}
    named = set(PrototypeClassifier().get_params()) | {"partial_fit"}
    assert words & named == {"verbose"}
    for word in words:
        row = next(line for line in PAGE.splitlines() if line.startswith("|") and re.search(rf"\b{word}\b", line))
        assert word == "batch_size" or any(name in row.split("|")[2] for name in named), row


# --------------------------------------------------------------------------- merging


def clusters(scale=1.0, seed=0):
    """Two classes of four modes each, of which two are near to each other; the second class is ten times as wide."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0], [1, 0], [8, 0], [0, 8]])
    x = np.concatenate([np.repeat(centres * wide, 50, axis=0) for wide in (1, 10)])
    x += rng.normal(0, 0.05, x.shape) * np.repeat([1, 10], 200)[:, None]
    x[200:] += 300
    return (x * scale).astype(np.float32), np.repeat([0, 1], 200)


MERGING = {"n_prototypes": 4, "metric": "euclidean", "refine": "none", "shrinkage": 0.0}


def test_a_distance_is_the_same_for_all_classes():
    assert counts_of(fitted(clusters(), **MERGING)) == [4, 4]
    assert counts_of(fitted(clusters(), merge_threshold=2.0, **MERGING)) == [3, 4]
    assert counts_of(fitted(clusters(), merge_threshold=2.0, relative_merge=False, **MERGING)) == [3, 4]


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
def test_a_share_of_the_spread_goes_by_the_class_and_not_by_the_unit(scale, kind):
    x, y = clusters(scale)
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    assert counts_of(fitted((rows, y), merge_threshold=0.4, relative_merge=True, **MERGING)) == [3, 3]
    assert counts_of(fitted((rows, y), merge_threshold=0.1, relative_merge=True, **MERGING)) == [4, 4]


def test_spread_is_the_root_mean_square_distance_of_the_rows_from_their_mean():
    x, y = clusters()
    spread = [np.sqrt(((x[y == c] - x[y == c].mean(axis=0)) ** 2).sum(axis=1).mean()) for c in (0, 1)]
    p = fitted((x, y), **MERGING).prototypes_[:4]
    apart = np.linalg.norm(p[:, None] - p[None], axis=2)
    share = apart[apart > 0].min() / spread[0]
    assert counts_of(fitted((x, y), merge_threshold=share * 1.01, relative_merge=True, **MERGING))[0] == 3
    assert counts_of(fitted((x, y), merge_threshold=share * 0.99, relative_merge=True, **MERGING))[0] == 4


@pytest.mark.parametrize("metric", METRICS)
def test_in_a_stream_prototypes_merge_by_spread_too(metric):
    x, y = modes(n=800)
    few = PrototypeClassifier(6, metric=metric, merge_threshold=0.9, relative_merge=True, random_state=0)
    many = PrototypeClassifier(6, metric=metric, random_state=0)
    for model in (few, many):
        for start in range(0, 800, 200):
            model.partial_fit(x[start : start + 200], y[start : start + 200])
    assert len(few.prototypes_) < len(many.prototypes_) == 24


def test_relative_without_a_threshold_and_two_ways_at_once_are_refused(table):
    has(refusal(ValueError, PrototypeClassifier(relative_merge=True).fit, *table), "merge_threshold", "give it too")
    message = refusal(ValueError, PrototypeClassifier(merge_threshold=0.1, relative_merge=0.5).fit, *table)
    has(message, "0.1", "0.5", "one of them", "relative_merge=True")


# --------------------------------------------------------------------------- streams


@pytest.mark.parametrize("sizes", [{"b": 5, "d": 1}, [5, 1]], ids=["dict", "list"])
def test_a_class_that_comes_later_takes_the_default_and_the_stream_goes_on(table, sizes, tmp_path):
    """The list names b and d, which were there first; a and c sort before and between them."""
    x, y = table
    names = np.array(["b", "d", "a", "c"])[y]
    model = PrototypeClassifier(sizes, default_prototypes=2, random_state=0)
    first = np.isin(names, ["b", "d"])
    model.partial_fit(x[first][:200], names[first][:200])
    assert counts_of(model) == [5, 1]
    model.save(tmp_path / "model")
    again = PrototypeClassifier.load(tmp_path / "model")
    for one in (model, again):
        one.partial_fit(x[~first], names[~first])
        one.partial_fit(x, names)
        assert counts_of(one) == [2, 5, 2, 1]
    np.testing.assert_array_equal(model.predict(x), again.predict(x))


def test_a_fitted_model_goes_on_with_classes_that_its_list_did_not_name(table):
    x, y = table
    model = fitted((x[y < 3], y[y < 3]), n_prototypes=[1, 2, 4])
    model.partial_fit(x[y == 3], y[y == 3])
    assert counts_of(model) == [1, 2, 4, 3]


def test_the_last_batch_says_what_changed(table, tmp_path):
    x, y = table
    model = PrototypeClassifier(random_state=0)
    model.partial_fit(x[y < 2], y[y < 2])
    assert model.last_batch_.new_classes == (0, 1)
    before = model.prototypes_
    model.partial_fit(x[y == 0] + 1, y[y == 0])
    last = model.last_batch_
    assert (last.rows, last.new_classes, last.merged) == (int((y == 0).sum()), (), 0)
    assert last.active == len(model.prototypes_) == 6
    moved = np.linalg.norm(model.prototypes_ - before, axis=1)
    assert last.shift == pytest.approx(moved.mean(), rel=1e-5)
    assert model.history_[-1].shift == last.shift
    before = model.prototypes_
    model.partial_fit(np.tile(x[y < 2], (20, 1)), np.tile(y[y < 2], 20))  # several blocks
    assert model.last_batch_.shift == pytest.approx(np.linalg.norm(model.prototypes_ - before, axis=1).mean(), rel=1e-4)
    model.partial_fit(x[y > 1], y[y > 1])
    assert model.last_batch_.new_classes == (2, 3)
    assert (model.last_batch_.active, model.last_batch_.shift) == (12, 0.0)
    with pytest.raises(FrozenInstanceError):
        model.last_batch_.rows = 0
    model.save(tmp_path / "model")
    assert PrototypeClassifier.load(tmp_path / "model").last_batch_ == model.last_batch_
    assert model.fit(x, y).last_batch_ is None
    assert not hasattr(clone(model), "last_batch_")


def test_a_batch_that_fails_leaves_the_last_one(table):
    x, y = table
    model = PrototypeClassifier(random_state=0).partial_fit(x, y)
    before, known = model.last_batch_, bits(model)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.full_like(x, np.nan), y)
    assert (model.last_batch_, bits(model)) == (before, known)
