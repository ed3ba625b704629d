"""The classifier over streams of batches, and on disk: what goes on is what would have been without a break."""

import hashlib
import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.exceptions import NotFittedError
from test_classifier import METRICS, bits, fitted, has, modes, refusal

from fastann import KMeans, PrototypeClassifier
from fastann.storage import RunError


@pytest.fixture(scope="module")
def table():
    return modes(n=900)


def streamed(x, y, size, model=None, **parameters):
    model = model or PrototypeClassifier(**{"random_state": 0, **parameters})
    for start in range(0, len(y), size):
        model.partial_fit(x[start : start + size], y[start : start + size])
    return model


def mean_sqdist(model, x, y, metric):
    """Mean squared distance of rows to the nearest prototype of their class."""
    p, owner = np.asarray(model.prototypes_, np.float64), model.prototype_labels_
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x
    far = ((x[:, None] - p[None]) ** 2).sum(axis=2)
    return np.where(owner[None] == y[:, None], far, np.inf).min(axis=1).mean()


# --------------------------------------------------------------------------- streams


@pytest.mark.parametrize("metric", METRICS)
def test_the_outcome_hardly_depends_on_how_a_stream_is_cut(table, metric):
    x, y = table
    x_test, y_test = modes(seed=1, n=900)
    models = [streamed(x, y, size, metric=metric, n_jobs=1) for size in (1, 7, 100, len(x))]
    scores = [m.score(x_test, y_test) for m in models]
    far = [mean_sqdist(m, x_test, y_test, metric) for m in models]
    assert max(scores) - min(scores) <= 0.03
    assert max(far) <= 1.05 * min(far)
    batch = fitted((x, y), metric=metric, refine="none")
    assert min(scores) > batch.score(x_test, y_test) - 0.05
    assert max(far) < 1.15 * mean_sqdist(batch, x_test, y_test, metric)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_classes_are_learned_as_they_come_and_stay_sorted(table, kind):
    x, y = table
    names = np.array(["d", "b", "c", "a"])[y]
    order = np.argsort(y, kind="stable")
    rows = sparse.csr_matrix(x[order]) if kind == "sparse" else x[order]
    model, seen = PrototypeClassifier(random_state=0), set()
    for start in range(0, 900, 50):
        part = names[order][start : start + 50]
        model.partial_fit(rows[start : start + 50], part)
        seen |= set(part)
        assert list(model.classes_) == sorted(seen)
        owner = model.prototype_labels_
        assert list(owner) == sorted(owner)
        assert set(owner) == seen
    assert (model.predict(x) == names).mean() > 0.85
    held = {c: model.prototype_weights_[owner == c].sum() for c in "abcd"}
    assert held == pytest.approx({c: (names == c).sum() for c in "abcd"})
    assert sparse.issparse(model.prototypes_) == (kind == "sparse")


def test_a_late_class_of_longer_name_or_larger_type_is_kept_whole(table):
    x, y = table
    model = PrototypeClassifier(random_state=0).partial_fit(x[y == 0], ["no"] * (y == 0).sum())
    model.partial_fit(x[y == 1], ["a much longer name"] * (y == 1).sum())
    assert list(model.classes_) == ["a much longer name", "no"]
    numbers = PrototypeClassifier(random_state=0).partial_fit(x[y == 0], np.zeros((y == 0).sum(), np.int8))
    numbers.partial_fit(x[y == 1], np.full((y == 1).sum(), 70_000))
    assert list(numbers.classes_) == [0, 70_000]
    assert set(numbers.predict(x[y < 2])) == {0, 70_000}


def test_classes_may_be_announced(table):
    x, y = table
    model = PrototypeClassifier(random_state=0).partial_fit(x[y == 2], y[y == 2], classes=[0, 1, 2, 3])
    assert list(model.classes_) == [0, 1, 2, 3]
    assert set(model.prototype_labels_) == {2}
    assert (model.predict(x) == 2).all()
    np.testing.assert_array_equal(model.predict_proba(x)[:, 2], 1)
    assert (model.decision_function(x)[:, [0, 1, 3]] == -1).all()
    model.partial_fit(x, y)
    assert model.score(x, y) > 0.85
    two = PrototypeClassifier(n_prototypes=[1, 2], random_state=0, metric="euclidean")
    two.partial_fit(x[y == 0] * 9, y[y == 0], classes=[0, 1])
    assert (two.decision_function(x) < 0).all()
    two.partial_fit(x[y == 1], y[y == 1])
    assert np.bincount(two.prototype_labels_).tolist() == [1, 2]


def test_object_strings_and_strings_are_one_kind_of_label(table):
    x, y = table
    names = np.array(["d", "b", "c", "a"])[y]
    model = PrototypeClassifier(random_state=0).partial_fit(x[y < 2], names[y < 2].astype(object))
    model.partial_fit(x[y >= 2], names[y >= 2])
    assert list(model.classes_) == ["a", "b", "c", "d"]
    assert (model.predict(x) == names).mean() > 0.85


def test_a_single_row_makes_a_model():
    model = PrototypeClassifier(random_state=0).partial_fit([[3.0, 4.0]], ["only"])
    np.testing.assert_allclose(model.prototypes_, [[0.6, 0.8]])
    assert list(model.predict([[1.0, 0.0], [-1.0, 0.0]])) == ["only", "only"]
    np.testing.assert_array_equal(model.predict_proba([[1.0, 0.0]]), [[1]])
    model.partial_fit([[-1.0, 0.0]], ["other"])
    assert list(model.predict([[1.0, 0.0], [-1.0, 0.0]])) == ["only", "other"]


def test_prototypes_are_running_means():
    """One prototype a class: the mean of all rows, however they come."""
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((300, 4)), rng.integers(0, 2, 300), rng.random(300) + 0.1
    model = PrototypeClassifier(1, metric="euclidean", random_state=0)
    for start in range(0, 300, 11):
        part = slice(start, start + 11)
        model.partial_fit(x[part], y[part], sample_weight=w[part])
    for c in (0, 1):
        np.testing.assert_allclose(model.prototypes_[c], np.average(x[y == c], axis=0, weights=w[y == c]), rtol=1e-4)
    np.testing.assert_allclose(model.prototype_weights_, np.bincount(y, w))


def test_rows_that_cancel_leave_a_direction():
    """The mean of opposite rows is zero, which has no direction; the prototype must keep one."""
    model = PrototypeClassifier(1, random_state=0)
    for i in range(60):
        model.partial_fit([[1.0, 0.0] if i % 2 else [-1.0, 0.0]], [0])
        np.testing.assert_allclose(np.linalg.norm(model.prototypes_, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("metric", METRICS)
def test_prototypes_follow_a_drift(metric, kind, rng):
    def rows(angle):
        y = rng.integers(0, 2, 50)
        turn = angle + y * np.pi / 2
        x = 5 * np.c_[np.cos(turn), np.sin(turn)] + 0.3 * rng.standard_normal((50, 2))
        return (sparse.csr_matrix(x) if kind == "sparse" else x), y

    model = PrototypeClassifier(2, metric=metric, random_state=0, n_jobs=1).partial_fit(*rows(0))
    start = model.prototypes_
    for angle in np.linspace(0, 0.9, 100):
        model.partial_fit(*rows(angle))
    x, y = rows(0.9)
    assert model.score(x, y) > 0.95
    moved = model.prototypes_ - start
    moved = moved.toarray() if kind == "sparse" else moved
    length = np.linalg.norm(moved, axis=1)
    assert all(length[model.prototype_labels_ == c].max() > 0.1 for c in (0, 1))


@pytest.mark.parametrize("metric", METRICS)
def test_sparse_and_dense_batches_give_the_same_prototypes(table, metric):
    x, y = table
    dense = streamed(x, y, 60, metric=metric)
    thin = streamed(sparse.csr_matrix(x), y, 60, metric=metric)
    assert sparse.issparse(thin.prototypes_)
    np.testing.assert_allclose(thin.prototypes_.toarray(), dense.prototypes_, atol=1e-4)
    np.testing.assert_array_equal(thin.predict(x), dense.predict(x))
    mixed = streamed(sparse.csr_matrix(x[:450]), y[:450], 60, metric=metric)
    streamed(x[450:], y[450:], 60, model=mixed)
    assert sparse.issparse(mixed.prototypes_)
    assert mixed.score(x, y) > 0.85


@pytest.mark.parametrize("scores", ["linear", "softmax"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_soft_assignment_in_a_stream(table, scores, kind):
    x, y = table
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    soft = streamed(rows, y, 60, assignment="soft", scores=scores, temperature=0.05)
    assert soft.score(x, y) > 0.75
    assert soft.prototype_weights_.sum() == pytest.approx(len(x))
    assert bits(soft) != bits(streamed(rows, y, 60))


def test_numbers_of_prototypes_in_a_stream(table):
    x, y = table
    model = streamed(x, y, 50, n_prototypes={0: 1, 1: 2, 2: 3, 3: 4})
    assert np.bincount(model.prototype_labels_).tolist() == [1, 2, 3, 4]
    auto = streamed(x, y, 50, n_prototypes="auto")
    assert np.bincount(auto.prototype_labels_).min() >= 2  # every class has three modes
    assert auto.score(x, y) > 0.85


def test_merging_and_pruning_in_a_stream(table):
    x, y = table
    merged = streamed(x, y, 50, n_prototypes=6, metric="euclidean", merge_threshold=3.0)
    assert sum(e.merged for e in merged.history_) > 0
    heavy = streamed(x, y, 50, n_prototypes=6, metric="euclidean", min_weight=30)
    for model in (merged, heavy):
        assert 4 <= len(model.prototypes_) < 24
        assert set(model.prototype_labels_) == {0, 1, 2, 3}


@pytest.mark.parametrize("metric", METRICS)
def test_a_stream_goes_on_from_a_fit(table, metric):
    x, y = table
    new = np.vstack([x[600:], x[:30] * 0 + np.eye(10, dtype="f")[[0]] * 9])
    labels = np.r_[y[600:], np.full(30, -1)]
    model = fitted((x[:600], y[:600]), metric=metric).partial_fit(new, labels)
    assert list(model.classes_) == [-1, 0, 1, 2, 3]
    assert (model.predict(new) == labels).mean() > 0.85
    assert model.prototype_weights_.sum() == pytest.approx(930)
    assert model.history_[-1].phase == "stream"
    assert model.fit(x, y).prototype_weights_.sum() == pytest.approx(900)  # a fit begins anew
    assert list(model.classes_) == [0, 1, 2, 3]


def test_the_same_stream_gives_the_same_bits_on_any_number_of_threads(table):
    x, y = table
    for rows in (x, sparse.csr_matrix(x)):
        one, two = (streamed(rows, y, 37, n_jobs=jobs) for jobs in (1, 2))
        assert bits(one) == bits(two)


def test_a_record_of_every_batch_is_kept_up_to_a_thousand():
    model = PrototypeClassifier(1, random_state=0, n_jobs=1)
    x = np.random.default_rng(0).standard_normal((3, 2)) + 5
    for _ in range(1005):
        model.partial_fit(x, [0, 1, 1])
    assert len(model.history_) == 1000
    assert {(e.phase, e.rows, e.active) for e in model.history_} == {("stream", 3, 2)}


def test_memory_does_not_grow_with_the_stream():
    rng = np.random.default_rng(0)
    model = PrototypeClassifier(2, random_state=0, n_jobs=1)  # tiny batches: threads would only wait

    def run(batches):
        for _ in range(batches):
            model.partial_fit(rng.standard_normal((4, 8)).astype(np.float32) + 3, [0, 1, 0, 1])

    run(1100)  # until the record of batches is full
    tracemalloc.start()
    try:
        run(100)
        before = tracemalloc.get_traced_memory()[0]
        run(1000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 400_000  # of which the records that replaced older ones make the most


# --------------------------------------------------------------------------- batches that are refused


BAD = {
    "NaN": (lambda x, y: (np.where(np.arange(len(x))[:, None] == 5, np.nan, x), y), ["NaN", "row 5"]),
    "columns": (lambda x, y: (x[:, :3], y), ["3 features", "expecting 10"]),
    "labels short": (lambda x, y: (x, y[:-2]), ["58 labels for 60 rows"]),
    "labels of another kind": (lambda x, y: (x, np.array(list("abcd"))[y]), ["labels of <U1", "classes of int64"]),
    "class and NaN": (lambda x, y: (x * np.nan, np.where(y == 1, 9, y)), ["NaN"]),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("young", [True, False], ids=["young", "settled"])
def test_a_refused_batch_leaves_the_model_as_it_was(table, bad, young):
    x, y = table
    sizes = dict.fromkeys(range(4), 3)
    model = streamed(x[:24], y[:24], 24, n_prototypes=sizes) if young else streamed(x, y, 300, n_prototypes=sizes)
    same = streamed(x[:24], y[:24], 24, n_prototypes=sizes) if young else streamed(x, y, 300, n_prototypes=sizes)
    before, history = bits(model), list(model.history_)
    make, parts = BAD[bad]
    has(refusal(ValueError, model.partial_fit, *make(x[:60], y[:60])), *parts)
    assert bits(model) == before
    assert model.history_ == history
    assert list(model.classes_) == [0, 1, 2, 3]
    assert bits(model.partial_fit(x[60:200], y[60:200])) == bits(same.partial_fit(x[60:200], y[60:200]))


def test_a_refused_first_batch_leaves_a_new_model_unfitted(table):
    x, y = table
    model = PrototypeClassifier()
    refusal(ValueError, model.partial_fit, x * np.nan, y)
    refusal(NotFittedError, model.predict, x)
    message = refusal(ValueError, model.partial_fit, x, y, classes=["a", "b"])
    has(message, "labels of int64", "classes of <U1", "one kind of label")
    assert not hasattr(model, "classes_")


@pytest.mark.parametrize("young", [True, False], ids=["young", "settled"])
def test_an_interrupted_batch_leaves_the_model_as_it_was(table, young, monkeypatch):
    """A batch of several blocks is taken in whole or not at all."""
    from fastann.classify import stream

    x, y = table
    model = streamed(x[:24], y[:24], 24) if young else streamed(x, y, 300)
    before, expected = bits(model), model.predict(x)
    model.classification_.stream.block = 20
    calls, update = [], stream.Stream._wait if young else stream.Stream._run

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(stream.Stream, "_wait" if young else "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(x[:200], y[:200])
    assert bits(model) == before
    np.testing.assert_array_equal(model.predict(x), expected)


# --------------------------------------------------------------------------- on disk


NAMES = {
    "integers": np.array([5, -2, 900]),
    "unsigned": np.array([5, 2, 200], np.uint8),
    "strings": np.array(["no", "yes", "a third one"]),
    "objects": np.array(["no", "yes", "a third one"], object),
    "whole floats": np.array([1.0, 2.0, 5.0]),
    "bools": np.array([False, True]),
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "far"])
def test_what_is_loaded_is_what_was_saved(tmp_path, table, kind, dtype, names):
    x, y = table
    x = x + np.float32(1000 * (kind == "far"))
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    labels = NAMES[names][y % len(NAMES[names])]
    model = fitted((rows, labels), dtype=dtype, metric="euclidean" if kind == "far" else "cosine")
    model.save(tmp_path / "model")
    again = PrototypeClassifier.load(tmp_path / "model")
    assert bits(again) == bits(model)
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    np.testing.assert_array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert again.classes_.dtype.kind == ("U" if names == "objects" else model.classes_.dtype.kind)
    assert again.history_ == model.history_
    assert again.refinement_ == model.refinement_
    assert again.n_iter_ == model.n_iter_
    assert str(again.index_) == str(model.index_)


def test_parameters_and_feature_names_are_loaded(tmp_path, table):
    pd = pytest.importorskip("pandas")
    x, y = table
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(10)])
    parameters = {
        "n_prototypes": {0: 1, np.int64(1): 2, 2: 3, 3: 1},
        "reject_below": 0.5,
        "reject_label": -9,
        "index": "ivf:nlist=2,nprobe=2",
        "assignment": "soft",
        "random_state": 3,
    }
    model = PrototypeClassifier(**parameters).fit(frame, y)
    model.save(tmp_path / "model")
    again = PrototypeClassifier.load(tmp_path / "model")
    assert again.get_params() == model.get_params()
    assert list(again.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    assert bits(again.fit(frame, y)) == bits(model)


@pytest.mark.parametrize("kind", ["dense", "sparse", "strings"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("after", [20, 500], ids=["young", "settled"])
def test_a_loaded_stream_goes_on_as_if_it_had_not_been_saved(tmp_path, table, metric, kind, after):
    x, y = table
    rows = sparse.csr_matrix(x) if kind == "sparse" else x
    labels = np.array(["d", "b", "c", "a"], object)[y] if kind == "strings" else y
    early = np.flatnonzero(y[:after] < 3)  # the last class comes late
    model = streamed(rows[early], labels[early], 50, metric=metric)
    model.save(tmp_path / "model")
    again = PrototypeClassifier.load(tmp_path / "model")
    for m in (model, again):
        streamed(rows[after:], labels[after:], 50, model=m)
    assert len(model.classes_) == 4
    if kind == "sparse":  # entries of a row are sorted when saved, and sums of another order round otherwise
        np.testing.assert_allclose(again.prototypes_.toarray(), model.prototypes_.toarray(), atol=1e-6)
    else:
        assert bits(again) == bits(model)
    np.testing.assert_array_equal(again.prototype_labels_, model.prototype_labels_)
    np.testing.assert_array_equal(again.prototype_weights_, model.prototype_weights_)


def test_a_folder_is_replaced_only_by_force(tmp_path, table):
    model = fitted(table, refine="none")
    model.save(tmp_path / "model")
    with pytest.raises(FileExistsError, match="exists already"):
        model.save(tmp_path / "model")
    other = fitted(table, refine="none", n_prototypes=1)
    other.save(tmp_path / "model", force=True)
    assert bits(PrototypeClassifier.load(tmp_path / "model")) == bits(other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not a run directory"):
        model.save(tmp_path / "mine", force=True)
    with pytest.raises(FileNotFoundError, match="no run directory"):
        PrototypeClassifier.load(tmp_path / "nowhere")


def test_each_estimator_refuses_the_folder_of_the_other(tmp_path, table):
    x, y = table
    KMeans(3, random_state=0).fit(x).save(tmp_path / "clusters")
    fitted((x, y), refine="none").save(tmp_path / "classes")
    has(refusal(RunError, PrototypeClassifier.load, tmp_path / "clusters"), "PrototypeClassifier", "of a KMeans")
    has(refusal(RunError, KMeans.load, tmp_path / "classes"), "KMeans", "of a PrototypeClassifier")


def manifest_of(run):
    return json.loads((run / "manifest.json").read_text())


def sign(run, name):
    """Make the manifest agree with a file that was replaced, as somebody who means harm would."""
    data = (run / name).read_bytes()
    manifest = manifest_of(run)
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(params=["dense", "sparse"])
def run(request, tmp_path, table):
    x, y = table
    rows = sparse.csr_matrix(x) if request.param == "sparse" else x
    streamed(rows[:20], y[:20], 20).save(tmp_path / "run")
    PrototypeClassifier.load(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["manifest.json", "centroids.safetensors", "classes.npy"])
def test_files_that_are_missing_or_altered_are_refused(run, name):
    data = (run / name).read_bytes()
    for damaged in (data[:-3], data[:40] + bytes([data[40] ^ 1]) + data[41:]):
        (run / name).write_bytes(damaged)
        if name != "manifest.json" or damaged != data:
            with pytest.raises(RunError, match=r".* "):
                PrototypeClassifier.load(run)
    (run / name).unlink()
    with pytest.raises(RunError, match=name):
        PrototypeClassifier.load(run)


def larger(t):
    return np.concatenate([t, t[-1:]])


TENSORS = {
    "owner unsorted": ("owner", lambda t: t[::-1].copy()),
    "owner too large": ("owner", lambda t: t + 9),
    "owner negative": ("owner", lambda t: t - 1),
    "owner long": ("owner", larger),
    "owner floats": ("owner", lambda t: t.astype(np.float32)),
    "weights short": ("weights", lambda t: t[:-1]),
    "weights negative": ("weights", lambda t: -t),
    "weights NaN": ("weights", lambda t: t * np.nan),
    "spread negative": ("spread", lambda t: t - 5),
    "waiting class": ("waiting.class", lambda t: t + 99),
    "waiting short": ("waiting.class", lambda t: t[:-1]),
}


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_do_not_fit_are_refused(run, what):
    name, change = TENSORS[what]
    tensors = load_file(run / "centroids.safetensors")
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    save_file(tensors, run / "centroids.safetensors")
    sign(run, "centroids.safetensors")
    has(refusal(RunError, PrototypeClassifier.load, run), "does not describe a fitted PrototypeClassifier", "fit again")


@pytest.mark.parametrize("damage", ["NaN", "gone", "rows", "indices"])
def test_vectors_that_do_not_fit_are_refused(run, damage):
    tensors = load_file(run / "centroids.safetensors")
    name = "prototypes" if "prototypes" in tensors else "prototypes.data"
    if damage == "NaN":
        tensors[name] = tensors[name] * np.float32(np.nan)
    elif damage == "gone":
        del tensors[name]
    elif damage == "rows":
        tensors[name] = tensors[name][:-1].copy()
    elif name == "prototypes.data":
        tensors["prototypes.indices"] = tensors["prototypes.indices"] + np.int32(10_000)
    else:
        tensors[name] = tensors[name][:, :-1].copy()
    save_file(tensors, run / "centroids.safetensors")
    sign(run, "centroids.safetensors")
    has(refusal(RunError, PrototypeClassifier.load, run), "does not describe a fitted PrototypeClassifier", "fit again")


MANIFEST = {
    "scale text": {"scale": "large"},
    "scale negative": {"scale": -1.0},
    "seed": {"seed": -4},
    "index": {"index": "nonsense"},
    "metric": {"parameters": {"metric": "manhattan"}},
    "unknown parameter": {"parameters": {"colour": 3}},
    "n_features": {"n_features": 4},
    "history": {"history": [{"phase": "stream"}]},
    "refinement": {"refinement": {"better": True}},
    "names": {"feature_names": ["a"]},
}


@pytest.mark.parametrize("what", MANIFEST)
def test_a_manifest_that_does_not_fit_is_refused(run, what):
    manifest = manifest_of(run)
    (run / "manifest.json").write_text(json.dumps({**manifest, **MANIFEST[what]}))
    has(refusal(RunError, PrototypeClassifier.load, run), "does not describe a fitted PrototypeClassifier", "fit again")


CLASSES = {
    "unsorted": lambda c: c[::-1],
    "twice": lambda c: np.r_[c[:1], c[:-1]],
    "two columns": lambda c: np.stack([c, c], axis=1),
    "few": lambda c: c[:1],
}


@pytest.mark.parametrize("what", CLASSES)
def test_classes_that_do_not_fit_are_refused(run, what):
    np.save(run / "classes.npy", CLASSES[what](np.load(run / "classes.npy")))
    sign(run, "classes.npy")
    has(refusal(RunError, PrototypeClassifier.load, run), "does not describe a fitted PrototypeClassifier", "fit again")
