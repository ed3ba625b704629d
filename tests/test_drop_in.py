"""What code written for scikit-learn's KMeans asks of ours: parameters, starts, tags, callbacks, given centres."""

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import sklearn.cluster
from conftest import limited
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import get_tags

import fastann
from fastann import HNSW, IVF, Cells, Factory, Flat, KMeans
from fastann.cli import main
from fastann.index.recall import Sampled

# --------------------------------------------------------------------------- parameters


def test_scikit_learn_parameters_are_taken_as_they_are(blobs):
    asked = sklearn.cluster.KMeans(5, random_state=0).get_params()
    assert len(KMeans(**asked).fit(blobs[:500]).labels_) == 500


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
def test_either_algorithm_is_exact_lloyd(blobs, algorithm):
    plan = limited(small=1, few=1)  # on which "auto" would keep candidates
    options = {"init": blobs[:40], "max_iter": 5, "tol": 0}
    km, flat = plan(40, algorithm=algorithm, **options).fit(blobs), plan(40, index="flat", **options).fit(blobs)
    np.testing.assert_array_equal(km.cluster_centers_, flat.cluster_centers_)
    assert {record.looked for record in km.history_} == {0}
    assert any(record.looked for record in plan(40, **options).fit(blobs).history_)


def test_an_algorithm_and_another_index_contradict_each_other(blobs):
    KMeans(5, algorithm="lloyd", index=Flat(), random_state=0).fit(blobs[:99])
    with pytest.raises(ValueError, match=r"algorithm='lloyd' compares every row .* index='ivf' does not"):
        KMeans(5, algorithm="lloyd", index="ivf").fit(blobs)


@pytest.mark.parametrize("copy_x", [True, False])
def test_rows_are_never_changed(blobs, copy_x):
    x = blobs[:500] + np.float32(1000)  # far from the origin, where scikit-learn centres
    before = x.copy()
    KMeans(5, copy_x=copy_x, random_state=0).fit(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("use", ["predict", "transform", "score", "partial_fit"])
def test_columns_that_a_frame_lacks_are_named(blobs, use):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(blobs[:99, :4], columns=list("abcd"))
    km = KMeans(3, random_state=0).fit(frame)
    with pytest.raises(ValueError, match=r"(?s)names .* missing:\n- c"):
        getattr(km, use)(frame.drop(columns="c"))
    with pytest.raises(ValueError, match=r"X has 3 features, but KMeans is expecting 4 .*; pass rows of 4 columns"):
        getattr(km, use)(blobs[:99, :3])


def tried(model, x):
    """The starts of a fit: as many as there are first iterations."""
    seen = []

    def note(state):
        seen.append(state.record.iteration == 1)

    model.set_params(callback=note).fit(x)
    return sum(seen)


def rows_of(X, k, random_state):
    return X[random_state.choice(X.shape[0], k, replace=False)]


@pytest.mark.parametrize(("init", "count"), [("k-means++", 1), ("auto", 1), ("random", 10), (rows_of, 10)])
def test_automatic_number_of_starts_is_scikit_learn_s(blobs, init, count):
    assert tried(KMeans(3, init=init, n_init="auto", max_iter=2, random_state=0), blobs[:200]) == count


@pytest.mark.parametrize("kind", [np.asarray, list])
def test_given_centres_are_one_start_with_a_warning(blobs, kind):
    x, start = blobs[:200], kind(blobs[:3])
    with pytest.warns(RuntimeWarning, match=r"Explicit initial center position passed: .* n_init=10; pass") as said:
        assert tried(KMeans(3, init=start, n_init=10, max_iter=2), x) == 1
    assert said[0].filename == __file__
    assert tried(KMeans(3, init=start, n_init="auto", max_iter=2), x) == 1


def test_scikit_learn_s_result_by_the_settings_the_readme_names(rng):
    x = rng.standard_normal((3000, 8), dtype="f")
    options = {"init": x[:20], "n_init": 1, "tol": 0, "max_iter": 300}
    ours = KMeans(20, index="flat", empty="farthest", size_aware=False, **options).fit(x)
    theirs = sklearn.cluster.KMeans(20, **options).fit(x)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)


# --------------------------------------------------------------------------- starts


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_a_callable_is_called_once_per_start_with_a_state_of_its_own(blobs, kind):
    x, drawn = kind(np.abs(blobs[:300])), []

    def start(X, k, random_state):
        assert X is x or (X.dtype == x.dtype and abs(X - x).sum() == 0)
        drawn.append(random_state.randint(2**31))
        return rows_of(X, k, random_state)

    one = KMeans(4, init=start, random_state=0).fit(x)
    first = list(drawn)
    best = KMeans(4, init=start, n_init=5, random_state=0).fit(x)
    assert drawn == [*first, *first, *drawn[2:]]  # the first start is the one there is alone
    assert len(set(drawn)) == 5
    assert best.inertia_ <= one.inertia_


@pytest.mark.parametrize("start", [lambda x: x[:3], lambda x: x[:3].tolist(), lambda x: lambda X, k, state: X[:k]])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_a_stream_may_start_from_given_centres(blobs, start, kind):
    x = blobs[:300]
    km = KMeans(3, init=start(x), max_iter=4).partial_fit(kind(x)).partial_fit(kind(x))
    expected = KMeans(3, init="auto", max_iter=4)
    expected = expected.set_params(init=x[:3]).partial_fit(x).partial_fit(x)
    np.testing.assert_allclose(km.cluster_centers_, expected.cluster_centers_, rtol=1e-5)


@pytest.mark.parametrize("index", ["auto", "flat", "ivf", HNSW(), Factory("SQ8"), "cells"])
def test_tags_say_whether_rows_may_be_sparse(blobs, index):
    model = KMeans(4, index=index, random_state=0)
    x = sparse.csr_matrix(np.abs(blobs[:200]))
    if get_tags(model).input_tags.sparse:
        model.fit(x)
    else:
        with pytest.raises(ValueError, match="sparse rows are searched by"):
            model.fit(x)
    assert get_tags(model).input_tags.sparse == (index in ("auto", "flat"))


# --------------------------------------------------------------------------- callbacks


class Recorder:
    """A callback of scikit-learn's that notes what it is told, and may fail at the end of some task."""

    def __init__(self, failing=None):
        self.names, self.models, self.failing = [], [], failing

    def setup(self, estimator, context):
        self.names.append("setup")

    def teardown(self, estimator, context):
        self.names.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.names.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.names.append(f"end {context.task_name}")
        self.models.append(fitted_estimator)
        if context.task_name == self.failing:
            raise OSError("disk full")


@pytest.fixture
def recorder():
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn >= 1.9")
    return Recorder()


def test_callbacks_follow_a_fit_that_begins_on_samples(blobs, recorder):
    plan = limited(small=1, few=8, rows_per_cluster=16, level=4)
    km = plan(6, n_init=2, max_iter=4, tol=0, random_state=0).set_callbacks(recorder).fit(blobs)
    assert len({record.rows for record in km.history_}) > 1
    assert recorder.names.count("end iteration") > len(km.history_)  # which has those of the better start
    assert recorder.names[-2:] == ["end fit", "teardown"]
    np.testing.assert_array_equal(recorder.models[-1].predict(blobs), km.labels_)


def test_a_batch_sets_callbacks_up_and_tears_them_down(blobs, recorder):
    km = KMeans(5, max_iter=2, random_state=0).set_callbacks(recorder).partial_fit(blobs[:1000])
    step = ["begin iteration", "end iteration"]
    assert recorder.names == ["setup", "begin fit", *step * km.n_iter_, "end fit", "teardown"]
    recorder.names.clear()
    km.partial_fit(blobs[1000:1010])
    assert recorder.names == ["setup", "begin fit", "end fit", "teardown"]
    assert not [name for name in vars(km) if name.startswith("_callback")]


@pytest.mark.parametrize("task", ["iteration", "fit"])
@pytest.mark.parametrize("use", [lambda km, x: km.fit(x), lambda km, x: km.partial_fit(x)])
def test_a_callback_that_fails_is_not_called_again(blobs, recorder, task, use):
    recorder.failing = task
    with pytest.raises(OSError, match="disk full"):
        use(KMeans(4, random_state=0).set_callbacks(recorder), blobs[:500])
    assert recorder.names[-2:] == [f"end {task}", "teardown"]
    assert recorder.names.count(f"end {task}") == 1


def test_a_model_of_a_running_iteration_predicts_with_an_open_index(blobs, recorder):
    km = KMeans(40, index=IVF(nprobe="auto"), max_iter=2, random_state=0).set_callbacks(recorder).fit(blobs)
    assert {len(model.predict(blobs[:7])) for model in recorder.models} == {7}
    assert recorder.models[0].cluster_centers_.shape == km.cluster_centers_.shape


# --------------------------------------------------------------------------- centres that change


def changed(km, x):
    """Ways to a model whose centres nobody may write to."""
    return {
        "fit": lambda: km.fit(x),
        "batch": lambda: clone(km).partial_fit(x).partial_fit(x),
        "pickle": lambda: pickle.loads(pickle.dumps(km.fit(x))),
        "copy": lambda: copy.deepcopy(km.fit(x)),
        "given": lambda: KMeans.from_centers(x[:5]),
        "assigned": lambda: setattr(km.fit(x), "cluster_centers_", x[:5]) or km,
    }


@pytest.mark.parametrize("way", ["fit", "batch", "pickle", "copy", "given", "assigned", "load"])
def test_centres_cannot_be_changed_in_place(blobs, way, tmp_path):
    km = KMeans(5, random_state=0)
    if way == "load":
        km.fit(blobs).save(tmp_path / "run")
        model = KMeans.load(tmp_path / "run")
    else:
        model = changed(km, blobs)[way]()
    for centers in (model.cluster_centers_, model.clustering_.centers):
        with pytest.raises(ValueError, match="read-only"):
            centers[:] = 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_other_centres_are_heeded_by_everything(blobs, metric, tmp_path):
    km = KMeans(6, metric=metric, random_state=0).fit(blobs)
    km.predict(blobs)
    given = blobs[10:16] * 2
    km.cluster_centers_ = given
    given[:] = 0  # which is the caller's array
    near = km.transform(blobs).argmin(axis=1)
    np.testing.assert_array_equal(km.predict(blobs), near)
    assert near[12] == 2
    km.save(tmp_path / "run")
    np.testing.assert_array_equal(KMeans.load(tmp_path / "run").predict(blobs), near)
    np.testing.assert_array_equal(clone(km).fit(blobs).labels_, km.labels_)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((5, 24)), r"cluster_centers_ has shape \(5, 24\), but n_clusters=6"),
        (np.full((6, 24), np.nan), "cluster_centers_ contains NaN"),
        ([["a"] * 24] * 6, "numeric"),
    ],
)
def test_centres_that_make_no_sense_are_refused(blobs, given, words):
    km = KMeans(6, random_state=0).fit(blobs)
    with pytest.raises((ValueError, TypeError), match=words):
        km.cluster_centers_ = given
    np.testing.assert_array_equal(km.predict(blobs), km.labels_)


def test_an_unfitted_model_has_no_centres():
    assert not hasattr(KMeans(), "cluster_centers_")
    assert not hasattr(KMeans(), "predict_recall_")


# --------------------------------------------------------------------------- given centres


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", [np.asarray, lambda c: c.astype(np.float64), lambda c: c.tolist(), sparse.csr_matrix])
def test_a_model_of_given_centres_finds_the_nearest(blobs, metric, kind):
    km = KMeans.from_centers(kind(blobs[:30] * 3), metric=metric)
    x = blobs[5000:6000].astype(np.float64)
    c = blobs[:30].astype(np.float64) * 3
    if metric == "cosine":
        x, c = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, c))
    near = ((x[:, None] - c) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(km.predict(blobs[5000:6000]), near)
    np.testing.assert_array_equal(km.predict(sparse.csr_matrix(blobs[5000:6000])), near)


def test_given_centres_go_on_with_a_stream_and_are_saved(blobs, tmp_path):
    np.save(tmp_path / "centres.npy", blobs[:8] + 1e6)
    km = KMeans.from_centers(tmp_path / "centres.npy", random_state=0)
    km.save(tmp_path / "run")
    again = KMeans.load(tmp_path / "run")
    rows = blobs[:4000] + 1e6
    np.testing.assert_array_equal(again.predict(rows), km.predict(rows))
    before = km.score(rows)
    assert km.partial_fit(rows).partial_fit(rows).score(rows) > 0.8 * before  # both negative
    assert (km.n_init, km.max_iter, km.init) == (1, 25, "auto")
    assert km.fit(blobs).n_iter_ > 0


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (np.eye(3), {"index": IVF(nprobe="auto")}, "is tuned on rows, and there are centres only"),
        (np.full((2, 2), np.inf), {}, "centers contains NaN or infinity, first in row 0"),
        (np.eye(3)[0], {}, "centers needs 2 dimensions"),
        (np.diag([1.0, 0.0]), {"metric": "cosine"}, "centre 1 is zero and has no direction"),
    ],
)
def test_given_centres_that_make_no_sense_are_refused(given, options, words):
    with pytest.raises(ValueError, match=words):
        KMeans.from_centers(given, **options)


@pytest.mark.parametrize("index", ["auto", "ivf:nlist=4,nprobe=4", IVF(nprobe="auto")])
@pytest.mark.parametrize("plan", [{}, {"small": 1, "few": 1}])
def test_no_iterations_label_rows_by_the_given_centres(blobs, index, plan):
    km = limited(**plan)(20, init=blobs[:20], max_iter=0, index=index).fit(blobs)
    np.testing.assert_array_equal(km.cluster_centers_, blobs[:20])
    exact = ((blobs[:, None] - blobs[:20]) ** 2).sum(-1).argmin(1)
    assert (km.labels_ == exact).mean() > 0.98
    np.testing.assert_array_equal(km.predict(blobs), km.labels_)
    assert (km.n_iter_, km.history_, km.stop_reason_) == (0, [], "given")
    called = KMeans(20, init=lambda X, k, state: X[:k], n_init="auto", max_iter=0).fit(blobs)
    np.testing.assert_array_equal(called.labels_, exact)


def test_labels_by_a_file_of_centres_on_the_command_line(blobs, tmp_path):
    from click.testing import CliRunner

    for name, array in (("centres", blobs[:8]), ("rows", blobs)):
        np.save(tmp_path / f"{name}.npy", array)
    paths = [str(tmp_path / f"{name}.npy") for name in ("centres", "rows", "labels")]
    for metric in ("euclidean", "cosine"):
        call = ["predict", *paths[:2], "--out", paths[2], "--metric", metric, "--force"]
        done = CliRunner().invoke(main, call)
        assert done.exit_code == 0, done.output
        expected = KMeans.from_centers(blobs[:8], metric=metric).predict(blobs)
        np.testing.assert_array_equal(np.load(paths[2]), expected)
    KMeans(8, random_state=0).fit(blobs).save(tmp_path / "run")
    done = CliRunner().invoke(main, ["predict", str(tmp_path / "run"), *paths[1:2], "--out", paths[2], *call[-3:]])
    assert done.exit_code == 2
    assert "--metric is for a file of centres" in done.output


# --------------------------------------------------------------------------- what predictions are worth


@pytest.mark.parametrize("small", [1, 2**40], ids=["candidates", "exact passes"])
def test_predictions_agree_with_the_labels_of_the_fit(rng, small):
    x = rng.standard_normal((9000, 32), dtype="f")
    km = limited(small=small)(4200, max_iter=3, random_state=0).fit(x)
    assert isinstance(km.index_, Cells)
    nearest = Flat().build(km.cluster_centers_).search(x, 1)[0][:, 0]
    assert 0.99 <= km.predict_recall_ < 1
    assert (km.predict(x) == nearest).mean() == pytest.approx(km.predict_recall_, abs=0.002)
    assert (km.predict(x) == km.labels_).mean() > 0.985
    assert (km.predict(x) == km.labels_).mean() > min(km.assignment_recall_, km.predict_recall_) - 0.002


@pytest.mark.filterwarnings("ignore:index .* has a recall below 0.9")
@pytest.mark.parametrize("index", ["ivf:nprobe=2", "hnsw:m=4,ef_search=1", "factory:SQ4", "cells:nlist=40,nprobe=2"])
@pytest.mark.parametrize("options", [{}, {"exact_labels": True}, {"candidates": 8}])
def test_the_recall_of_predictions_is_what_an_exact_search_says(blobs, index, options, tmp_path):
    km = KMeans(300, index=index, max_iter=3, random_state=0, **options).fit(blobs)
    nearest = Flat().build(km.cluster_centers_).search(blobs, 1)[0][:, 0]
    assert (km.predict(blobs) == nearest).mean() == pytest.approx(km.predict_recall_, abs=0.04)
    km.save(tmp_path / "run")
    assert KMeans.load(tmp_path / "run").predict_recall_ == km.predict_recall_ < 1
    batch = blobs[:3000]
    nearest = Flat().build(km.partial_fit(batch).cluster_centers_).search(batch, 1)[0][:, 0]
    assert (km.predict(batch) == nearest).mean() == pytest.approx(km.predict_recall_, abs=0.04)


@pytest.mark.filterwarnings("ignore:index .* has a recall below 0.9")
def test_the_recall_of_predictions_is_known_as_long_as_nothing_changes(blobs):
    km = KMeans(100, index="ivf:nprobe=2", max_iter=2, random_state=0).fit(blobs)
    assert km.predict_recall_ < 1
    assert np.isnan(km.set_search(nprobe=1).predict_recall_)
    km.index_ = Flat()
    assert km.predict_recall_ == 1
    other = KMeans(100, index="ivf:nprobe=2", max_iter=2, random_state=0).fit(blobs)
    other.cluster_centers_ = blobs[:100]
    assert np.isnan(other.predict_recall_)
    assert np.isnan(KMeans.from_centers(blobs[:100], index="ivf").predict_recall_)
    assert KMeans.from_centers(blobs[:100]).predict_recall_ == 1


def test_recall_is_not_measured_on_the_rows_that_a_fit_started_from(blobs):
    """A seed alone and that seed with zeros give the same numbers: NumPy fills up with zeros."""
    start = np.random.default_rng([7, 0, 0]).choice(len(blobs), 2000, replace=False)
    picks = Sampled(fastann.open_source(lambda: [blobs]), blobs[:5], 7, 2000).picks
    assert len(np.intersect1d(start, picks)) < 500  # 333 by chance


# --------------------------------------------------------------------------- the package


@pytest.mark.parametrize("error", ["AttributeError", "ValueError", "ImportError"])
def test_what_breaks_a_public_name_is_said(error, tmp_path):
    (tmp_path / "scipy").mkdir()
    (tmp_path / "scipy" / "__init__.py").write_text(f"raise {error}('numpy has no attribute bool8')")
    code = "from fastann import KMeans"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "numpy has no attribute bool8" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"]])
def test_the_package_is_a_command(arguments):
    done = subprocess.run([sys.executable, "-m", "fastann", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: python -m fastann")


def test_report_is_a_function_and_a_package(blobs, tmp_path):
    pytest.importorskip("matplotlib")
    import fastann.report
    from fastann.report import build

    KMeans(4, random_state=0).fit(blobs[:200]).save(tmp_path / "run")
    page = fastann.report(tmp_path / "run")
    assert page == build(tmp_path / "run") == tmp_path / "run" / "report.html"
    assert "report" in dir(fastann)


def test_small_fits_start_no_threads():
    code = """
import os
import numpy as np
from tqdm import tqdm
from fastann import KMeans
tqdm.monitor_interval = 0
x = np.random.default_rng(0).standard_normal((600, 8), dtype="f")
before = len(os.listdir("/proc/self/task"))
for seed in range(3):
    KMeans(5, random_state=seed).fit(x).predict(x)
print(len(os.listdir("/proc/self/task")) - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("threads are counted in /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_warnings_point_at_the_line_that_fits():
    x = np.zeros((9, 2), np.float32)  # of which no three differ
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        KMeans(3, random_state=0).fit(x)
        KMeans(3, random_state=0).fit_predict(x)
    assert [one.filename for one in said] == [__file__] * 2
