"""The estimator as a scikit-learn user meets it."""

import json
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import limited
from sklearn.base import clone
from sklearn.metrics import euclidean_distances
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastann import HNSW, IVF, Factory, KMeans, StopReason, kernels


def distances(x, c):
    return euclidean_distances(x.astype(np.float64), c.astype(np.float64), squared=True)


def expected_failures(estimator):
    """Return the two that scikit-learn's own KMeans declares: a random start depends on rows of weight zero."""
    reason = "the random start draws among the rows, so weights and repeated rows do not start alike"
    return {
        "check_sample_weight_equivalence_on_dense_data": reason,
        "check_sample_weight_equivalence_on_sparse_data": reason,
    }


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # some checks repeat rows on purpose
@parametrize_with_checks([KMeans()], expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_weights_are_equivalent_to_copies_in_distribution():
    """Stands in for the two expected failures: over many seeds, weights and copies give the same inertia."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3))
    w = rng.integers(0, 4, 60)
    copies = np.repeat(x, w, axis=0)
    runs = [
        [KMeans(6, init=how, random_state=s).fit(data, sample_weight=weight).inertia_ for s in range(60)]
        for how in ("random", "k-means++")
        for data, weight in ((x, w), (copies, None))
    ]
    for weighted, repeated in (runs[:2], runs[2:]):
        error = np.hypot(np.std(weighted), np.std(repeated)) / np.sqrt(60)
        assert abs(np.mean(weighted) - np.mean(repeated)) < 4 * error


def test_fitted_attributes(blobs):
    km = KMeans(40, random_state=0).fit(blobs)
    assert (km.labels_.dtype, km.labels_.shape) == (np.int32, (len(blobs),))
    assert (km.cluster_centers_.dtype, km.cluster_centers_.shape) == (np.float32, (40, 24))
    assert km.n_features_in_ == 24
    assert km.n_iter_ == len(km.history_)
    assert km.assignment_recall_ == 1.0
    assert km.assignment_recall_interval_ == (1.0, 1.0)
    record = km.history_[0]
    assert (record.iteration, record.moved, record.rows, record.index) == (1, len(blobs), len(blobs), "flat")
    assert set(record.seconds) == {"build", "assign", "update"}
    assert all(a.inertia >= b.inertia for a, b in zip(km.history_, km.history_[1:], strict=False))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("index", ["flat", "ivf", "hnsw", "factory:SQ8"])
def test_labels_centres_and_inertia_agree(blobs, index, metric):
    w = np.random.default_rng(0).random(len(blobs))
    km = KMeans(60, index=index, metric=metric, max_iter=4, random_state=0).fit(blobs, sample_weight=w)
    x = blobs.astype(np.float64)
    if metric == "cosine":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        np.testing.assert_allclose(np.linalg.norm(km.cluster_centers_, axis=1), 1, rtol=1e-6)
    own = ((x - km.cluster_centers_[km.labels_]) ** 2).sum(1)
    assert km.inertia_ == pytest.approx(own @ w, rel=1e-6)
    np.testing.assert_allclose(km.distances_, own / 2 if metric == "cosine" else np.sqrt(own), rtol=1e-4)
    assert km.score(blobs, sample_weight=w) == pytest.approx(-km.inertia_, rel=1e-3)


@pytest.mark.parametrize("index", ["flat", "ivf:nprobe=2", "hnsw:ef_search=8"])
def test_recall_is_what_an_exact_search_says(blobs, index):
    km = KMeans(300, index=index, max_iter=2, random_state=0).fit(blobs)
    truth = distances(blobs, km.cluster_centers_).argmin(1)
    low, high = km.assignment_recall_interval_
    assert low <= (km.labels_ == truth).mean() <= high
    assert low <= km.assignment_recall_ <= high


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_transform_kneighbors_and_predict_agree(blobs, metric):
    km = KMeans(30, metric=metric, random_state=0).fit(blobs)
    table = km.transform(blobs[:500])
    distances, ids = km.kneighbors(blobs[:500], 3)
    np.testing.assert_allclose(np.sort(table, axis=1)[:, :3], distances, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ids[:, 0], km.predict(blobs[:500]))
    np.testing.assert_array_equal(km.kneighbors(blobs[:500], 3, return_distance=False), ids)
    np.testing.assert_array_equal(km.predict(blobs), km.labels_)


@pytest.mark.filterwarnings("ignore:index .* has a recall below 0.9")
def test_search_options_change_on_a_fitted_model(blobs):
    km = KMeans(400, index=IVF(nlist=40, nprobe=1), max_iter=2, random_state=0).fit(blobs)
    exact = distances(blobs[:2000], km.cluster_centers_).argmin(1)
    few = (km.predict(blobs[:2000]) == exact).mean()
    many = (km.set_search(nprobe=40).predict(blobs[:2000]) == exact).mean()
    assert few < many == 1.0
    hnsw = KMeans(400, index=HNSW(m=8, ef_search=1), max_iter=2, random_state=0).fit(blobs)
    exact = distances(blobs[:2000], hnsw.cluster_centers_).argmin(1)
    few = (hnsw.predict(blobs[:2000]) == exact).mean()
    assert few < (hnsw.set_search(ef_search=64).predict(blobs[:2000]) == exact).mean()
    with pytest.raises(ValueError, match="not a search option"):
        km.set_search(nlist=3)


def test_clone_pickle_pipeline_grid_search(blobs):
    km = KMeans(12, index=IVF(nlist=4, nprobe=4), random_state=0)
    assert clone(km).get_params() == km.get_params()
    km.fit(blobs)
    again = pickle.loads(pickle.dumps(km))
    np.testing.assert_array_equal(again.predict(blobs), km.predict(blobs))
    piped = make_pipeline(StandardScaler(), KMeans(5, random_state=0)).fit(blobs)
    assert piped.predict(blobs[:9]).shape == (9,)
    grid = GridSearchCV(KMeans(random_state=0), {"n_clusters": [2, 40]}, cv=2).fit(blobs)
    assert grid.best_params_ == {"n_clusters": 40}


def test_set_output_pandas(blobs):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(blobs[:300, :3], columns=["a", "b", "c"])
    km = KMeans(4, random_state=0).set_output(transform="pandas").fit(frame)
    assert list(km.feature_names_in_) == ["a", "b", "c"]
    out = km.transform(frame)
    assert list(out.columns) == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"] == list(km.get_feature_names_out())


@pytest.mark.parametrize("empty", ["split", "farthest"])
def test_empty_clusters_are_counted_and_refilled(blobs, empty):
    start = np.concatenate([blobs[:10], np.full((5, 24), 100, "f")])  # five centres nobody is near to
    km = KMeans(15, init=start, empty=empty, random_state=0).fit(blobs)
    assert km.history_[0].empty == 5
    assert len(np.unique(km.labels_)) == 15


def test_empty_clusters_may_be_kept(blobs):
    start = np.concatenate([blobs[:10], np.full((5, 24), 100, "f")])
    km = KMeans(15, init=start, empty="keep", random_state=0).fit(blobs)
    assert km.history_[-1].empty == 5
    np.testing.assert_array_equal(km.cluster_centers_[10:], 100)


def test_an_all_zero_duplicate_centre_is_split():
    x = np.random.default_rng(0).standard_normal((500, 4)).astype("f")
    km = KMeans(3, init=np.zeros((3, 4)), random_state=0).fit(x)
    assert len(np.unique(km.labels_)) == 3


def test_sample_trains_on_some_rows_and_labels_all(blobs):
    km = KMeans(20, sample=2000, random_state=0).fit(blobs)
    assert {record.rows for record in km.history_} == {2000}
    assert len(km.labels_) == len(blobs)
    same = KMeans(20, sample=2000 / len(blobs), random_state=0).fit(blobs)
    np.testing.assert_array_equal(km.labels_, same.labels_)
    full = KMeans(20, random_state=0).fit(blobs)
    assert km.inertia_ < 1.2 * full.inertia_


def test_n_init_keeps_the_best_start(blobs):
    one = [KMeans(40, init="random", random_state=s, max_iter=5).fit(blobs).inertia_ for s in range(5)]
    best = KMeans(40, init="random", n_init=5, random_state=0, max_iter=5).fit(blobs)
    assert best.inertia_ < np.mean(one)


@pytest.mark.parametrize("how", ["auto", "random", "k-means++", "k-means||", "afk-mc2"])
def test_starts(blobs, how):
    km = KMeans(40, init=how, random_state=1).fit(blobs)
    bound = KMeans(40, n_init=5, random_state=0).fit(blobs).inertia_
    assert km.inertia_ < 1.15 * bound
    np.testing.assert_array_equal(KMeans(40, init=how, random_state=1).fit(blobs).labels_, km.labels_)


def test_start_from_a_callable_and_an_array(blobs):
    def first(X, n_clusters, random_state):
        assert X is blobs
        return X[:n_clusters]

    by_call = KMeans(9, init=first).fit(blobs)
    np.testing.assert_array_equal(by_call.labels_, KMeans(9, init=blobs[:9]).fit(blobs).labels_)


def test_start_with_fewer_positive_weights_than_clusters():
    x = np.arange(20.0).reshape(-1, 1)
    w = np.zeros(20)
    w[[3, 9]] = 1
    km = KMeans(4, init="random", random_state=0, empty="keep").fit(x, sample_weight=w)
    assert km.inertia_ == 0


def test_stops_when_converged(blobs):
    km = KMeans(5, max_iter=500, tol=0, random_state=0).fit(blobs)
    assert km.stop_reason_ is StopReason.CONVERGED
    assert km.stop_reason_ == "converged"
    assert km.history_[-1].moved == 0
    assert km.stop_reason_.sentence.endswith(".")
    strict, loose = (KMeans(5, max_iter=500, tol=t, swaps=False, random_state=0).fit(blobs) for t in (0, 0.1))
    assert loose.n_iter_ < strict.n_iter_


RULES = {
    "tol": ({"tol": 0.05}, r"decreased the inertia by [0-9.]+%: no more than tol, 5%\."),
    "no row": ({"tol": 0, "max_iter": 300}, r"^No row moved in the last iteration\.$"),
    "max_iter": (
        {"tol": 0, "max_iter": 3},
        r"max_iter iterations were done; the last one decreased .*, and [0-9,]+ rows",
    ),
    "callback": ({"tol": 0, "callback": lambda state: True}, r"callback returned True"),
    "one iteration": ({"max_iter": 1}, r"max_iter iterations were done"),
}


@pytest.mark.parametrize("rule", RULES)
def test_which_rule_stopped_a_fit_is_said_with_its_numbers(blobs, tmp_path, rule):
    options, told = RULES[rule]
    km = KMeans(20, index="flat", init="random", random_state=0, **options).fit(blobs)
    assert re.search(told, km.clustering_.stopped(km.tol))
    km.save(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["stopped"] == km.clustering_.stopped(km.tol)
    last, before = km.history_[-1], km.history_[-2] if km.n_iter_ > 1 else None
    if rule == "tol":
        assert f"{100 * (before.inertia - last.inertia) / before.inertia:.2g}%" in manifest["stopped"]


def test_the_automatic_mode_says_that_its_own_rule_stopped_a_fit(blobs):
    km = limited(small=0)(20, init="random", tol=0, max_iter=300, random_state=0).fit(blobs)
    assert km.stop_reason_ == "converged"
    assert km.history_[-1].moved > 0
    assert "too little for the automatic mode to go on (a larger effort does)" in km.clustering_.stopped(km.tol)


def test_stops_at_max_iter_time_limit_and_callback(blobs):
    assert KMeans(40, max_iter=2, swaps=False, random_state=0).fit(blobs).stop_reason_ == "max_iter"
    km = KMeans(400, time_limit=1e-9, random_state=0).fit(blobs)
    assert (km.stop_reason_, km.n_iter_) == ("time_limit", 1)
    seen = []
    km = KMeans(40, callback=lambda s: seen.append(s) or len(seen) == 3, swaps=False, random_state=0).fit(blobs)
    assert (km.stop_reason_, km.n_iter_, len(seen)) == ("callback", 3, 3)
    assert seen[0].centroids.shape == (40, 24)


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C, which a shell's background jobs run without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_fit_and_leaves_a_usable_model(blobs):
    def press(state):
        if state.record.iteration == 2:
            signal.raise_signal(signal.SIGINT)

    km = KMeans(40, callback=press, tol=0, swaps=False, random_state=0).fit(blobs)
    assert (km.stop_reason_, km.n_iter_) == ("interrupted", 2)
    assert km.predict(blobs).shape == (len(blobs),)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interruptible")
def test_second_ctrl_c_interrupts_at_once(blobs):
    def press(state):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        KMeans(40, callback=press, random_state=0).fit(blobs)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_fits_in_threads_at_once(blobs):
    alone = KMeans(30, random_state=0).fit(blobs).labels_
    out = {}

    def work(name):
        out[name] = KMeans(30, random_state=0).fit(blobs).labels_

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for labels in out.values():
        np.testing.assert_array_equal(labels, alone)


def test_scikit_learn_callbacks(blobs):
    callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn >= 1.9")

    class Recorder:
        def __init__(self):
            self.names, self.centers = [], []

        def setup(self, estimator, context):
            self.names.append("setup")

        def teardown(self, estimator, context):
            self.names.append("teardown")

        def on_fit_task_begin(self, estimator, context, *, X=None):
            self.names.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            self.names.append(f"end {context.task_name}")
            if fitted_estimator is not None:
                self.centers.append(fitted_estimator.predict(blobs[:5]))
                return len(self.centers) == 2  # ask to stop
            return False

    recorder = Recorder()
    km = KMeans(40, swaps=False, random_state=0).set_callbacks(recorder).fit(blobs)
    assert issubclass(KMeans, callback.CallbackSupportMixin)
    assert (km.stop_reason_, km.n_iter_) == ("callback", 2)
    step = ["begin iteration", "end iteration"]
    assert recorder.names == ["setup", "begin fit", *step, *step, "end fit", "teardown"]


def test_scikit_learn_callbacks_are_torn_down_when_a_fit_fails(blobs):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn >= 1.9")
    calls = []

    class Failing:
        def setup(self, estimator, context):
            calls.append("setup")

        def teardown(self, estimator, context):
            calls.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            raise OSError("disk full")

    km = KMeans(4, random_state=0).set_callbacks(Failing())
    with pytest.raises(OSError, match="disk full"):
        km.fit(blobs)
    assert calls == ["setup", "teardown"]
    assert not hasattr(km, "cluster_centers_")


def test_verbose_is_silent_when_not_on_a_terminal(blobs, capfd):
    KMeans(5, verbose=True, random_state=0).fit(blobs)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:index .* has a recall below 0.9")
def test_parameters_all_do_something(blobs):
    """No parameter is stored and not read: each, changed, changes the outcome of a fit."""
    base = KMeans(30, index="flat", init="random", max_iter=3, tol=0, random_state=0).fit(blobs)
    changed = {
        "n_clusters": 31,
        "index": Factory("LSH"),
        "metric": "cosine",
        "init": "k-means++",
        "n_init": 5,
        "max_iter": 5,
        "tol": 0.5,
        "sample": 500,
        "swaps": True,
        "trim": 0.1,
        "outlier_threshold": 1.5,
        "time_limit": 1e-9,
        "callback": lambda state: True,
        "random_state": 1,
    }
    for name, value in changed.items():
        other = clone(base).set_params(**{name: value}).fit(blobs)
        assert other.inertia_ != base.inertia_, name
    elsewhere = {
        "recall",  # test_tuning.py
        "empty",
        "verbose",
        "device",
        "shard",  # test_gpu.py
        "n_jobs",
        "candidates",
        "size_aware",
        "exact_labels",
        "effort",
        "decay",  # test_online.py
        "margins",
        "outlier_labels",  # test_outliers.py
        "algorithm",  # test_drop_in.py
        "copy_x",
        "max_memory",  # test_memory.py
        "temp_folder",
        "checkpoint",  # test_checkpoint.py
        "checkpoint_seconds",
    }  # each has a test of its own
    assert set(changed) | elsewhere == set(base.get_params())


def test_n_jobs_limits_threads(blobs, monkeypatch):
    import faiss

    seen = []
    km = KMeans(20, n_jobs=1, callback=lambda s: seen.append((kernels.threads(), faiss.omp_get_max_threads())))
    before = kernels.threads(), faiss.omp_get_max_threads()
    km.fit(blobs)
    assert set(seen) == {(1, 1)}
    assert (kernels.threads(), faiss.omp_get_max_threads()) == before


def test_import_is_light():
    code = "import sys, time; t = time.perf_counter(); import fastann; print(time.perf_counter() - t); "
    code += "assert not {'faiss', 'sklearn', 'fastann.kernels'} & set(sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 1


def test_time_limit_is_kept(blobs):
    """Iterations of 0.1 s and a limit of 0.35 s: the one that would end later is not begun."""
    km = KMeans(400, tol=0, time_limit=0.35, callback=lambda state: time.sleep(0.1), random_state=0).fit(blobs)
    assert km.stop_reason_ == "time_limit"
    assert km.n_iter_ <= 3
