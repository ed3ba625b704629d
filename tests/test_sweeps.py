"""Sweeps and benchmarks: every combination once, resumable, and whatever goes wrong is a row."""

import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import KMeans as SklearnKMeans

from fastann import KMeans, bench, open_source, records, sweep
from fastann.data.csr import CSRSource
from fastann.index.parse import parse_index
from fastann.index.recall import wilson
from fastann.records import RecordError
from fastann.study import data, methods, process, vanilla, worker
from fastann.study.data import Data
from fastann.study.grid import expand
from fastann.study.process import Answer
from fastann.study.results import ProgressLine, Result

GRID = ["flat", "ivf:nlist=8,nprobe=1"]
SETTINGS = {"n_clusters": 30, "indexes": GRID, "seeds": 2, "max_iter": 4, "n_jobs": 1}


@pytest.fixture(scope="module")
def x(blobs):
    return blobs[:3000]


@pytest.fixture(scope="module")
def file(x, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.npy"
    np.save(path, x)
    return path


@pytest.fixture(scope="module")
def study(file, tmp_path_factory):
    """A sweep of fits that ran through, in real processes."""
    return sweep(file, out=tmp_path_factory.mktemp("study") / "sweep", **SETTINGS)


@pytest.fixture(scope="module")
def comparison(x, tmp_path_factory):
    """A benchmark under the cosine metric, of half-precision rows given as an array."""
    methods = ["vanilla", "sklearn", "faiss", "auto", "ivf:nlist=17"]
    folder = tmp_path_factory.mktemp("bench") / "out"
    return bench(x.astype(np.float16), 16, methods=methods, sizes=[2000], seeds=1, metric="cosine", out=folder)


@pytest.fixture(scope="module")
def search(file, tmp_path_factory):
    """A sweep of searches of fixed centroids."""
    folder = tmp_path_factory.mktemp("search") / "out"
    return sweep(file, 50, ["ivf:nlist=10,nprobe=1", "sklearn"], what="assign", seeds=1, out=folder)


class Runner(list):
    """Does no processes: a run's values follow from its order. A list of the orders, and `answers` to change them."""

    def __init__(self):
        self.answers = {}
        self.sweep, self.bench = (partial(study, runner=self) for study in (sweep, bench))

    def __call__(self, order, **limits):
        if order["task"] == "prepare":
            return Answer()
        self.append(order | limits)
        method, seed = order["method"], order["seed"]
        values = {"seconds": 1.0 + seed, "inertia": 10.0 + seed, "recall": 0.5, "recall_low": 0.4}
        answer = self.answers.get(method, {})
        if isinstance(answer, BaseException):
            raise answer
        result = {"values": values | answer.get("values", {}), "series": {}}
        return Answer(answer.get("status", "done"), answer.get("error", ""), [], result)


@pytest.fixture
def pretend():
    return Runner()


def outcome(folder):
    """Of each run, what does not depend on the clock."""
    same = ("inertia", "recall", "iterations", "relative_inertia", "empty", "distances")
    found = records.load_records(folder)
    return {r.name: (r.status, r.configuration, [r.values.get(name) for name in same]) for r in found}


# --------------------------------------------------------------------- what to run


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("auto", ["auto"]),
        ("auto|flat", ["auto", "flat"]),
        ("ivf:nlist=32|64,nprobe=1|2", [f"ivf:nlist={a},nprobe={b}" for a in (32, 64) for b in (1, 2)]),
        ("hnsw:m=8|16", ["hnsw:m=8", "hnsw:m=16"]),
        ("ivf:nprobe=4|8|4", ["ivf:nprobe=4", "ivf:nprobe=8"]),
        ("factory:SQ8|LSH", ["factory:SQ8", "factory:LSH"]),
        ("factory:IVF16,Flat;nprobe=1|2", ["factory:IVF16,Flat;nprobe=1", "factory:IVF16,Flat;nprobe=2"]),
    ],
)
def test_a_pattern_expands_to_every_combination_once(text, wanted):
    assert expand(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("annoy", "unknown index 'annoy'"),
        ("ivf:nlists=3|4", "no option 'nlists'"),
        ("ivf:nprobe=1|two", "nprobe must be an integer"),
        ("ivf:nprobe=1|0", "nprobe must be >= 1, got 0"),
    ],
)
def test_nonsense_fails_before_anything_runs(text, message, x, tmp_path, pretend):
    with pytest.raises(ValueError, match=message):
        pretend.sweep(x, 10, ["flat", text], out=tmp_path / "out")
    assert not pretend
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"what": "searches"}, "what must be one of 'fit', 'assign', 'search'"),
        ({"what": "search"}, "what='search' searches rows, not clusters; leave n_clusters=10 out"),
        ({"queries": [[1.0]]}, "queries is for what='search', got what='fit'; leave it out"),
        ({"m": 5}, "m is for what='search', got what='fit'"),
        ({"n_clusters": None}, "what='fit' needs n_clusters"),
        ({"metric": "l1"}, "metric must be one of"),
        ({"n_clusters": 3001}, "n_clusters=3001 needs at least 3001 rows"),
        ({"seeds": 0}, "seeds must be >= 1"),
        ({"seeds": []}, "at least one number"),
        ({"time_limit": 0}, "time_limit must be > 0"),
        ({"memory_limit": -1}, "memory_limit must be > 0"),
        ({"indexes": []}, "nothing to run"),
        ({"baseline": "ivf:nprobe=1|2"}, "means 2 indexes"),
        ({"sample": 2}, "gives 2 rows for n_clusters=10"),
    ],
)
def test_bad_requests_are_refused(changed, message, x, tmp_path, pretend):
    with pytest.raises(ValueError, match=message):
        pretend.sweep(x, **({"n_clusters": 10, "indexes": ["auto"], "out": tmp_path / "out"} | changed))
    assert not pretend


def test_methods_take_turns_and_start_from_another_one_for_each_seed(x, tmp_path, pretend):
    pretend.sweep(x, 10, ["auto", "hnsw"], baseline="vanilla", seeds=[4, 2], out=tmp_path / "out")
    turns = [(order["seed"], order["method"]) for order in pretend]
    assert turns == [(4, "vanilla"), (4, "auto"), (4, "hnsw"), (2, "auto"), (2, "hnsw"), (2, "vanilla")]
    assert {order["threads"] for order in pretend} == {worker_threads()}


def worker_threads():
    from fastann import checks

    return checks.jobs(None)


def test_a_baseline_of_the_same_meaning_is_not_run_twice(x, tmp_path, pretend):
    result = pretend.sweep(x, 10, ["auto", "ivf:nprobe=8"], baseline="ivf", seeds=1, out=tmp_path / "out")
    assert [order["method"] for order in pretend] == ["auto", "ivf:nprobe=8"]
    assert result.study.baseline == "ivf:nprobe=8"


def test_methods_whose_file_names_would_be_alike_stay_apart(x, tmp_path, pretend):
    result = pretend.sweep(
        x, 10, ["factory:IVF4,Flat", "factory:IVF4;Flat"], seeds=1, baseline="", out=tmp_path / "out"
    )
    assert len(result.records) == 2


def test_benchmarks_cover_sizes_and_numbers_of_clusters(x, tmp_path, pretend):
    result = pretend.bench(x, [5, 9], methods=["auto"], baseline="", sizes=[100, 3000], seeds=1, out=tmp_path / "out")
    cases = {(r.configuration["n"], r.configuration["n_clusters"]) for r in result.records}
    assert cases == {(100, 5), (100, 9), (3000, 5), (3000, 9)}
    assert result.best().n == 3000
    assert result.best().n_clusters == 9
    assert "rows" in result.table().splitlines()[0]
    with pytest.raises(ValueError, match="n_clusters=101 needs at least 101 rows, got n_samples=100"):
        pretend.bench(x, [5, 101], sizes=[100], out=tmp_path / "other")


# --------------------------------------------------------------------- runs


def test_a_fit_is_measured(study, x):
    assert {r.status for r in study.records} == {"done"}
    for record in study.records:
        wanted = {"seconds", "seconds_build", "seconds_assign", "seconds_update", "speedup", "recall", "recall_low"}
        wanted |= {"recall_high", "inertia", "relative_inertia", "distances", "iterations", "peak_mib", "empty"}
        assert wanted | {"imbalance"} == set(record.values)
        assert set(record.values) <= set(records.METRICS)
        assert len(record.series["inertia"]) == len(record.series["seconds"]) == len(record.series["moved"]) == 4
        assert record.series["seconds"] == sorted(record.series["seconds"])
        assert record.configuration["n_clusters"] == 30
        assert record.configuration["n"] == 3000
    flat = next(r for r in study.records if r.method == "flat" and r.configuration["seed"] == 1)
    start = x[np.sort(np.random.default_rng([1, 2]).choice(3000, 30, replace=False))]
    km = KMeans(30, index="flat", init=start, max_iter=4, random_state=1).fit(x)
    gaps = ((x.astype(np.float64)[:, None] - km.cluster_centers_) ** 2).sum(-1)
    assert flat.values["inertia"] == pytest.approx(gaps.min(axis=1).mean(), rel=1e-9)
    sizes = np.bincount(gaps.argmin(axis=1), minlength=30)
    assert flat.values["imbalance"] == pytest.approx(30 * ((sizes / 3000) ** 2).sum())
    assert flat.values["distances"] == 30


def test_a_benchmark_is_measured_in_the_space_of_the_metric(comparison, x):
    by_method = {r.method: r for r in comparison.records}
    fitted = [by_method[m] for m in ("vanilla", "sklearn", "faiss", "auto")]
    assert [r.status for r in fitted] == ["done"] * 4
    inertias = np.array([r.values["inertia"] for r in fitted])
    assert (abs(inertias / inertias[0] - 1) < 0.1).all()
    assert (inertias < 2).all(), "2 - 2 cosine"
    for record in fitted:
        assert {"seconds", "inertia", "recall", "silhouette", "peak_mib", "iterations"} <= set(record.values)
        assert -1 < record.values["silhouette"] < 1
        assert record.values["recall"] > 0.8
    assert (comparison.folder / "data.npy").exists()
    assert np.load(comparison.folder / "data.npy").dtype == np.float16


def test_what_cannot_be_done_is_a_row(comparison):
    record = next(r for r in comparison.records if r.method == "ivf:nlist=17")
    assert record.status == "failed"
    assert record.error.startswith("ValueError: nlist=17 exceeds n_clusters=16")
    assert record.values == {}
    assert comparison.table().splitlines()[-1].startswith("ivf:nlist=17 failed: ValueError")


def test_recall_of_a_search_equals_brute_force(search, x):
    record = next(r for r in search.records if r.method.startswith("ivf"))
    centers = np.load(search.folder / "centroids.npy")
    gaps = ((x.astype(np.float64)[:, None] - centers.astype(np.float64)) ** 2).sum(-1)
    np.testing.assert_array_equal(np.load(search.folder / "truth.npy"), gaps.argmin(axis=1))
    ids = parse_index("ivf:nlist=10,nprobe=1").build(centers, seed=0).search(x, 1)[0][:, 0]
    found = gaps[np.arange(len(x)), ids]
    assert record.values["recall"] == (found == gaps.min(axis=1)).mean()
    assert record.values["recall"] < 1
    assert (record.values["recall_low"], record.values["recall_high"]) == wilson(
        int((found == gaps.min(axis=1)).sum()), len(x)
    )
    assert record.values["relative_inertia"] == pytest.approx(found.sum() / gaps.min(axis=1).sum() - 1, rel=1e-6)
    assert 10 + 50 / 10 <= record.values["distances"] < 60
    peer = next(r for r in search.records if r.method == "sklearn")
    assert peer.values["recall"] > 0.999
    assert peer.values["distances"] == 50


def test_a_sample_of_rows_is_searched_and_centroids_are_reused(search, file, tmp_path):
    for name in ("centroids.npy", "truth.npy"):
        assert (search.folder / name).exists()
    order = Data(file).place(file.parent) | {"task": "prepare", "n": 3000, "n_clusters": 5, "seed": 0}
    order |= {
        "metric": "cosine",
        "sample": 40,
        "threads": 1,
        "centroids": str(tmp_path / "c.npy"),
        "truth": str(tmp_path / "t.npy"),
    }
    answer = worker.carry_out(order, lambda phase: None)
    assert answer == {"values": {}, "series": {}}
    phases: list = []
    answer = worker.carry_out(order | {"task": "assign", "method": "flat"}, phases.append)
    assert phases == ["timed", "measure"]
    assert np.load(tmp_path / "t.npy").shape == (40,)
    assert answer["values"]["recall"] == 1.0
    assert answer["values"]["recall_low"] == wilson(40, 40)[0]


@pytest.mark.parametrize("method", ["auto", "hnsw", "factory:SQ8", "vanilla", "sklearn", "faiss"])
def test_a_fit_on_a_sample_labels_all_rows(method, file):
    order = Data(file).place(file.parent) | {"task": "fit", "n": 3000, "n_clusters": 6, "seed": 0}
    order |= {
        "metric": "euclidean",
        "sample": 500,
        "threads": 1,
        "max_iter": 3,
        "tol": 1e-4,
        "method": method,
        "silhouette": False,
    }
    values = worker.carry_out(order, lambda phase: None)["values"]
    assert values["recall"] > 0.9
    assert ("distances" in values) == (method in methods.PEERS)


@pytest.mark.parametrize("method", ["faiss", "faiss-k-means++", "faiss-super"])
def test_faiss_does_every_iteration_where_its_objective_repeats(method):
    """Rows in a narrow cone: from 1.15 on faiss.Kmeans stops by itself after some of the iterations."""
    rng = np.random.default_rng(0)
    rows = (1 + 0.02 * rng.standard_normal((5000, 32))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = methods.Problem(rows, rows[:50].copy(), 1, "cosine", 25, 1e-4, None, 1, unit=True)
    found = methods.PEERS[method].fit(asked)
    assert found.values["iterations"] == 25
    assert (found.centers[found.labels] * rows).sum(axis=1).mean() > 0.999
    again = methods.PEERS[method].fit(asked)
    np.testing.assert_array_equal(found.labels, again.labels)


def test_a_method_that_this_faiss_lacks_says_so(x, monkeypatch):
    import faiss

    monkeypatch.delattr(faiss, "SuperKmeans")
    with pytest.raises(ImportError, match="has no SuperKmeans; install a newer one"):
        methods.PEERS["faiss-super"].fit(methods.Problem(x, x[:5].copy(), 1, "euclidean", 2, 0.0, None, 1))


# --------------------------------------------------------------------- limits, crashes

TROUBLE = """
import os, signal, sys, time
import numpy as np

def slow(order, tell):
    tell("timed")
    time.sleep(600)

def asleep(order, tell):
    time.sleep(600)

def hungry(order, tell):
    kept = [np.ones(2**24) for _ in range(10)]  # 1.25 GiB, beside what the libraries need
    time.sleep(600)

def crash(order, tell):
    os.kill(os.getpid(), signal.SIGSEGV)

def leave(order, tell):
    print("this is no answer", flush=True)
    print("it is over", file=sys.stderr)
    os._exit(3)

def refuse(order, tell):
    raise OSError("no\\nluck")

def tidy(order, tell):
    print("this is no answer", flush=True)
    return {"asked": order, "threads": os.environ["OMP_NUM_THREADS"]}
"""


@pytest.fixture
def trouble(tmp_path, monkeypatch):
    """A module with tasks, most of which do not end well, that processes can import."""
    (tmp_path / "trouble.py").write_text(TROUBLE)
    others = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *others]))


@pytest.mark.parametrize(
    ("task", "limits", "error"),
    [
        ("slow", {"time_limit": 0.5}, "took longer than 0.5 s; raise time_limit"),
        ("asleep", {"time_limit": 0.25, "grace": 0.25}, "needed longer to load than 0.5 s; raise time_limit"),
        ("asleep", {"time_limit": 0.5, "begins": "timed"}, "took longer than 0.5 s; raise time_limit"),
        ("hungry", {"memory_limit": 1}, "needed more than 1.0 GiB; raise memory_limit"),
        ("crash", {}, "crashed with SIGSEGV"),
        ("leave", {}, "ended with exit code 3: it is over"),
        ("refuse", {}, "OSError: no luck"),
        ("absent", {}, "AttributeError: module 'trouble' has no attribute 'absent'"),
    ],
)
def test_trouble_is_an_answer(task, limits, error, trouble):
    answer = process.run(f"trouble:{task}", {}, threads=1, **limits)
    assert (answer.status, answer.error, answer.result) == ("failed", error, {})


def test_a_result_is_what_the_function_returns_and_nothing_that_is_printed(trouble):
    answer = process.run("trouble:tidy", {"of": [1, "a"]}, threads=3)
    assert answer == Answer("done", "", [], {"asked": {"of": [1, "a"]}, "threads": "3"})


TASKS = """
import os
import numpy as np
from fastann.study import process
import nearby

def who(order, tell):
    if order.get("fail"):
        raise ValueError("no")
    return {"pid": os.getpid(), "nearby": nearby.__file__}

def held(order, tell):
    process.forget_peak()
    before = process.resident()
    rows = np.ones(order["mib"] * 2**17)
    return {"mib": (process.peak() - before) / 2**20}
"""


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Modules that only ``sys.path`` leads to."""
    (tmp_path / "nearby.py").write_text("")
    (tmp_path / "sometasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_process_finds_what_is_on_the_path_and_goes_on_to_the_next_order(on_path, trouble):
    with process.Worker("sometasks:who", threads=1) as one:
        first, refused, last = (one.run(order) for order in ({}, {"fail": True}, {}))
        assert first.result["nearby"] == str(on_path / "nearby.py")
        assert (refused.status, refused.error) == ("failed", "ValueError: no")
        assert last.result["pid"] == first.result["pid"]
        alone = one.run({}, memory_limit=8).result["pid"]
        after = one.run({}).result["pid"]
        assert len({first.result["pid"], alone, after}) == 3, "one with a limit of memory is for one order"
        one.task = "trouble:crash"
        assert one.run({}).error == "crashed with SIGSEGV"
        one.task = "trouble:slow"
        assert one.run({}, time_limit=0.3).error == "took longer than 0.3 s; raise time_limit"
        one.task = "sometasks:who"
        assert one.run({}).result["pid"] not in (first.result["pid"], after)
    assert one.child is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_the_peak_of_an_order_is_its_own_in_a_process_that_did_others(on_path):
    with process.Worker("sometasks:held", threads=1) as one:
        found = [one.run({"mib": mib}).result["mib"] for mib in (4, 300, 4, 40)]
    np.testing.assert_allclose(found, [4, 300, 4, 40], atol=1.5)


def test_a_process_that_would_import_another_installation_says_so(on_path, monkeypatch):
    monkeypatch.setattr(process, "PACKAGE", "/elsewhere/fastann/__init__.py")
    answer = process.run("sometasks:who", {})
    assert answer.status == "failed"
    assert "but /elsewhere/fastann/__init__.py asked for it; uninstall one" in answer.error


def test_a_sweep_whose_every_run_fails_is_an_error(x, tmp_path):
    with pytest.raises(RuntimeError, match=r"every run failed, all 2 of them: ivf:nlist=99: ValueError: nlist=99 exce"):
        sweep(x, 10, ["ivf:nlist=99"], baseline="", seeds=2, out=tmp_path / "out")
    assert [r.status for r in records.load_records(tmp_path / "out")] == ["failed"] * 2


def test_a_failed_run_is_a_record_without_values(x, tmp_path, trouble):
    def refuse(order, **limits):
        return process.run("trouble:refuse", order, **limits)

    found = sweep(x, 10, ["auto"], baseline="", seeds=1, out=tmp_path / "out", runner=refuse).records
    assert [(r.status, r.error, r.values, r.series) for r in found] == [("failed", "OSError: no luck", {}, {})]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the process")
def test_ctrl_c_ends_the_running_process(trouble):
    children, others = [], set(children_of(os.getpid()))  # that earlier tests left

    def interrupt(*_):
        children.extend(set(children_of(os.getpid())) - others)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            process.run("trouble:asleep", {})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert children
    assert not any(running(pid) for pid in children)


def test_ctrl_c_leaves_finished_runs(x, tmp_path, pretend):
    folder = tmp_path / "out"
    pretend.answers["hnsw"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pretend.sweep(x, 10, ["auto", "hnsw", "ivf"], baseline="auto", seeds=1, out=folder)
    assert [r.method for r in records.load_records(folder)] == ["auto"]
    assert records.load_records(folder)[0].values["speedup"] == 1
    pretend.answers.clear()
    assert len(pretend.sweep(x, 10, ["auto", "hnsw", "ivf"], baseline="auto", seeds=1, out=folder).records) == 3
    assert [order["method"] for order in pretend] == ["auto", "hnsw", "hnsw", "ivf"]


# --------------------------------------------------------------------- resuming

DRIVER = """
import sys
from fastann import sweep
sweep(sys.argv[1], out=sys.argv[2], **eval(sys.argv[3]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the processes of a sweep")
def test_a_killed_sweep_leaves_no_process_and_resumes_to_the_same(study, file, tmp_path):
    folder = tmp_path / "out"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(file), str(folder), repr(SETTINGS)])
    try:
        until(lambda: len(list(folder.glob("runs/*.json"))) >= 1 or driver.poll() is not None)
        assert driver.poll() is None, "it ended before it could be killed"
        until(lambda: children_of(driver.pid))
        workers = children_of(driver.pid)
    finally:
        driver.kill()
        driver.wait()
    until(lambda: not any(running(pid) for pid in workers))
    assert len(outcome(folder)) < len(study.records)
    sweep(file, out=folder, **SETTINGS)
    assert outcome(folder) == outcome(study.folder)
    assert sorted(p.name for p in folder.iterdir() if p.suffix == ".json") == ["study.json"]


def until(holds):
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("waited for a minute")


def children_of(pid):
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_what_is_there_is_not_run_again(study, file, pretend):
    before = {p.name: p.stat().st_mtime_ns for p in (study.folder / "runs").iterdir()}
    pretend.sweep(file, out=study.folder, **SETTINGS)
    assert not pretend
    assert {p.name: p.stat().st_mtime_ns for p in (study.folder / "runs").iterdir()} == before


@pytest.mark.parametrize("moved", [False, True], ids=["touched", "elsewhere"])
def test_rows_that_were_touched_or_moved_are_the_same(x, tmp_path, pretend, moved):
    path = tmp_path / "rows.npy"
    np.save(path, x)
    pretend.sweep(path, out=tmp_path / "out", **SETTINGS)
    pretend.clear()
    os.utime(path, ns=(0, 0))
    path = path.rename(tmp_path / "moved.npy") if moved else path
    pretend.sweep(path, out=tmp_path / "out", **SETTINGS)
    assert not pretend


def test_failed_runs_are_run_again_only_when_asked(x, tmp_path, pretend):
    def again(**more):
        return pretend.sweep(x, 10, ["auto", "hnsw"], baseline="auto", seeds=1, out=tmp_path / "out", **more)

    pretend.answers["hnsw"] = {"status": "failed", "error": "took longer than 1 s; raise time_limit"}
    again(time_limit=1)
    pretend.answers.clear()
    assert [r.status for r in again(time_limit=9).records] == ["done", "failed"]
    result = again(time_limit=9, retry=True)
    assert [r.status for r in result.records] == ["done", "done"]
    assert [order["time_limit"] for order in pretend] == [1, 1, 9]
    assert result.study.settings["time_limit"] == 9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_clusters": 31}, r"n_clusters = \[30\], and \[31\] was asked for"),
        ({"seeds": 3}, r"seeds = \[0, 1\], and \[0, 1, 2\] was asked for"),
        ({"metric": "cosine"}, "metric = 'euclidean', and 'cosine' was asked for"),
        ({"indexes": ["auto"]}, "methods = "),
        ({"what": "assign"}, "what = 'fit', and 'assign' was asked for"),
        ({"tol": 0.5}, "tol = 0.0001, and 0.5 was asked for"),
        ({"baseline": "ivf:nlist=8,nprobe=1"}, "baseline = 'flat'"),
    ],
)
def test_other_requests_are_refused(changed, message, study, file, pretend):
    with pytest.raises(RecordError, match=message):
        pretend.sweep(file, out=study.folder, **(SETTINGS | changed))
    assert not pretend


def test_other_data_is_refused(study, x, pretend):
    with pytest.raises(RecordError, match=r"data n = 3000, and 2999 was asked for"):
        pretend.sweep(x[:-1], out=study.folder, **SETTINGS)
    with pytest.raises(RecordError, match=r"data dtype = 'float32', and 'float64' was asked for"):
        pretend.sweep(x.astype(np.float64), out=study.folder, **SETTINGS)
    other = x.copy()
    other[-1, 3] += 1
    with pytest.raises(RecordError, match=r"data fingerprint = "):
        pretend.sweep(other, out=study.folder, **SETTINGS)
    with pytest.raises(RecordError, match=r"kind = 'sweep', and 'bench' was asked for"):
        pretend.bench(x, 30, out=study.folder)
    assert not pretend


def test_folders_of_others_are_refused(x, tmp_path, pretend):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RecordError, match=r"is no study \(it has mine.txt\)"):
        pretend.sweep(x, 10, ["auto"], out=tmp_path)
    with pytest.raises(RecordError, match="is no study"):
        pretend.sweep(x, 10, ["auto"], out=tmp_path / "mine.txt")
    assert not pretend


def test_two_processes_do_not_write_to_one_study(x, tmp_path, pretend, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "out"
    folder.mkdir()
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RecordError, match="another process is writing"):
            pretend.sweep(x, 10, ["auto"], out=folder)
    pretend.sweep(x, 10, ["auto"], out=folder)


def fingerprint(x):
    return Data(x).about()["fingerprint"]


def test_the_fingerprint_sees_shape_and_values(rng):
    x = rng.standard_normal((5000, 300)).astype(np.float32)
    assert fingerprint(x) == fingerprint(np.asfortranarray(x))
    assert fingerprint(x) != fingerprint(x.reshape(2500, 600))
    assert fingerprint(x) != fingerprint(x[:-1])
    assert fingerprint(x) != fingerprint(x + 1)


def test_the_fingerprint_is_the_one_of_former_versions(tmp_path):
    """Else studies that were begun with them could not be resumed."""
    x = np.arange(5000 * 300, dtype=np.float32).reshape(5000, 300)
    np.save(tmp_path / "x.npy", x)
    for given in (x, tmp_path / "x.npy"):
        assert fingerprint(given) == "ed0281ef01e6e00881f14b1386cb992861e8ec6b2e67fa23cd550f319f9d13df"


@pytest.fixture(scope="module")
def files(x, tmp_path_factory):
    """The same rows in files of several kinds, by what these are passed as."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("files")
    for i, rows in enumerate(np.split(x, [1300])):
        table = pa.table({"v": pa.FixedSizeListArray.from_arrays(rows.ravel(), x.shape[1]), "id": range(len(rows))})
        (folder / "parquet").mkdir(exist_ok=True)
        pq.write_table(table, folder / "parquet" / f"part-{i}.parquet", row_group_size=500)
        (folder / "npy").mkdir(exist_ok=True)
        np.save(folder / "npy" / f"part-{i}.npy", rows)
    x.tofile(folder / "rows.bin")
    return {
        "folder": folder / "parquet",
        "glob": str(folder / "parquet" / "part-*.parquet"),
        "list": [folder / "npy" / f"part-{i}.npy" for i in range(2)],
        "opened": open_source(folder / "rows.bin", dtype="float32", d=x.shape[1]),
        "function": lambda: iter(np.array_split(x, 7)),
    }


@pytest.mark.parametrize("kind", ["folder", "glob", "list", "opened", "function"])
def test_a_study_takes_what_can_be_opened(kind, files, study, x, tmp_path, pretend):
    """All are the rows of the `.npy` file: the same study, which resumes from any of them."""
    given = files[kind]
    pretend.sweep(given, out=study.folder, **SETTINGS)
    assert not pretend, "all was done already"
    pretend.sweep(given, out=tmp_path / "out", **SETTINGS)
    order = pretend[0]
    assert (tmp_path / "out" / "data.npy").exists() == (kind == "function"), "files stay where they are"
    np.testing.assert_array_equal(data.read(order), x)
    some = np.sort(np.random.default_rng(0).permutation(len(x))[:50])
    np.testing.assert_array_equal(data.read(order | {"n": 50}), x[some])


def test_a_run_reads_the_files_again(files, study, tmp_path):
    found = sweep(files["folder"], out=tmp_path / "out", **SETTINGS | {"indexes": ["flat"]})
    again, before = outcome(found.folder), outcome(study.folder)
    assert again == {name: before[name] for name in again} != {}
    assert found.study.data["name"] == "parquet"
    assert study.study.data["name"] == "rows"


def test_files_that_changed_are_refused_by_the_run(x, tmp_path):
    for i in range(2):
        np.save(tmp_path / f"part-{i}.npy", x)
    order = Data(str(tmp_path / "part-*.npy")).place(tmp_path)
    np.save(tmp_path / "part-1.npy", x[:-1])
    with pytest.raises(ValueError, match=r"part-1.npy is not as it was before"):
        data.read(order | {"n": 6000})


@pytest.mark.parametrize("kind", ["matrix", "source", "file"])
def test_sparse_rows_are_stored_and_read_as_they_are(kind, tmp_path, pretend):
    matrix = sparse.random(200, 30, 0.1, "csr", np.float32, random_state=0)
    sparse.save_npz(tmp_path / "x.npz", matrix)
    given = {"matrix": matrix, "source": CSRSource(matrix), "file": tmp_path / "x.npz"}[kind]
    found = pretend.sweep(given, 10, ["auto"], seeds=1, out=tmp_path / "out")
    assert (tmp_path / "out" / "data.npz").exists() == (kind != "file")
    back = data.read(pretend[0] | {"n": 200})
    assert abs(back - matrix).nnz == 0
    assert data.read(pretend[0] | {"n": 150}).shape == (150, 30)
    pretend.sweep(given, 10, ["auto"], seeds=1, out=tmp_path / "out")
    assert len(pretend) == 2, "resumed, as the data is the same"
    with pytest.raises(RecordError, match="data fingerprint"):
        pretend.sweep(matrix * 2, 10, ["auto"], seeds=1, out=tmp_path / "out")
    assert found.study.data["n"] == 200


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("method", ["auto", "flat", "sklearn", "vanilla", "faiss", "ivf:nlist=2,nprobe=1"])
def test_methods_that_take_sparse_rows_do_and_others_say_so(method, metric, tmp_path):
    matrix = sparse.random(300, 40, 0.2, "csr", np.float32, random_state=1)
    order = Data(matrix).place(tmp_path) | {"n": 300, "n_clusters": 6, "seed": 0, "method": method, "metric": metric}
    order |= {"sample": None, "threads": 1, "max_iter": 3, "tol": 1e-4, "silhouette": True}
    order |= {name: str(tmp_path / f"{name}.npy") for name in ("centroids", "truth")}
    worker.carry_out(order | {"task": "prepare"}, lambda phase: None)
    tasks = ("fit", "assign")
    if method in ("vanilla", "faiss", "ivf:nlist=2,nprobe=1"):
        for task in tasks:
            with pytest.raises(TypeError, match=r"takes dense rows, and these are sparse; sparse ones are for auto, "):
                worker.carry_out(order | {"task": task}, lambda phase: None)
        return
    fitted, searched = (worker.carry_out(order | {"task": task}, lambda phase: None)["values"] for task in tasks)
    assert searched["recall"] == 1
    assert fitted["recall"] > 0.99 or (method, metric) == ("sklearn", "cosine")
    start = np.sort(np.random.default_rng([0, 2]).choice(300, 6, replace=False))
    full = matrix.toarray()
    if metric == "cosine":
        full /= np.maximum(np.linalg.norm(full, axis=1, keepdims=True), 1e-30)
    dense = KMeans(6, index="flat", init=full[start], max_iter=3, metric=metric, random_state=0).fit(full)
    assert fitted["inertia"] == pytest.approx(dense.inertia_ / 300, rel=0.02)


# --------------------------------------------------------------------- comparing


def test_inertia_is_compared_with_the_median_and_time_with_the_same_seed(x, tmp_path, pretend):
    pretend.answers["hnsw"] = {"values": {"seconds": 2.0, "inertia": 22.0}}
    result = pretend.sweep(x, 10, ["flat", "hnsw"], seeds=3, out=tmp_path / "out")
    found = {(r.method, r.configuration["seed"]): r.values for r in result.records}
    # The baseline's inertia is 10, 11, 12 and its seconds 1, 2, 3.
    assert [found["hnsw", s]["relative_inertia"] for s in range(3)] == [1.0, 1.0, 1.0]
    assert [found["hnsw", s]["speedup"] for s in range(3)] == [0.5, 1.0, 1.5]
    assert [found["flat", s]["relative_inertia"] for s in range(3)] == pytest.approx([-1 / 11, 0, 1 / 11])
    assert [found["flat", s]["speedup"] for s in range(3)] == [1, 1, 1]
    row = next(row for row in result.rows() if row.method == "hnsw")
    assert (row.runs, row.done, row.values["speedup"]) == (3, 3, 1.0)


def test_without_its_baseline_nothing_is_compared(x, tmp_path, pretend):
    pretend.answers["flat"] = {"status": "failed", "error": "crashed with SIGSEGV", "values": {}}
    result = pretend.sweep(x, 10, ["auto", "flat"], seeds=1, out=tmp_path / "out")
    assert not {"speedup", "relative_inertia"} & set(result.records[0].values)


def test_more_effort_is_skipped_where_less_is_enough(x, tmp_path, pretend):
    pretend.answers["ivf:nlist=8,nprobe=2"] = {"values": {"recall": 1.0, "recall_low": 0.998}}
    pretend.answers["hnsw:ef_search=16"] = {"values": {"recall": 0.99999, "recall_low": 0.99995}}
    indexes = ["ivf:nlist=8|4,nprobe=4|1|2", "hnsw:ef_search=16|32", "hnsw:m=8,ef_search=32"]
    result = pretend.sweep(x, 10, indexes, prune=True, seeds=2, out=tmp_path / "out")
    skipped = [r for r in result.records if r.status == "skipped"]
    assert {r.method for r in skipped} == {"ivf:nlist=8,nprobe=4", "hnsw:ef_search=32"}
    assert len(skipped) == 4, "both seeds"
    assert skipped[0].error == "hnsw:ef_search=16 already found 99.9990% of the nearest centroids"
    assert skipped[0].values == {}
    assert "ivf:nlist=8,nprobe=4 skipped: ivf:nlist=8,nprobe=2 already" in result.table()
    pretend.sweep(x, 10, indexes, seeds=2, out=tmp_path / "all")
    assert len(pretend) == 2 * (8 + 10)


def test_the_best_is_the_fastest_of_the_good(x, tmp_path, pretend):
    pretend.answers["auto"] = {"values": {"seconds": 0.5, "inertia": 10.05}}
    pretend.answers["ivf"] = {"values": {"seconds": 0.1, "inertia": 10.5}}
    result = pretend.sweep(x, 10, ["flat", "auto", "ivf", "hnsw"], seeds=1, out=tmp_path / "fit")
    assert result.best().method == "auto"
    assert [line.split()[0] for line in result.table().splitlines()] == ["method", "ivf", "auto", "flat", "hnsw"]
    pretend.answers["hnsw"] = {"values": {"recall": 0.995, "seconds": 0.7}}
    result = pretend.sweep(x, 10, ["flat", "auto", "ivf", "hnsw"], what="assign", seeds=1, out=tmp_path / "assign")
    assert result.best().method == "hnsw"
    assert Result.load(tmp_path / "assign").best() == result.best()


def test_nothing_is_not_minus_nothing(x, tmp_path, pretend):
    pretend.answers["auto"] = {"values": {"seconds": 0.5, "inertia": 10 - 1e-8}}
    lines = pretend.sweep(x, 10, ["flat", "auto"], seeds=1, out=tmp_path / "out").table().splitlines()
    at = lines[0].index("relative inertia")
    assert [line[at : at + len("relative inertia")].strip() for line in lines[1:]] == ["+0.00%", "+0.00%"]


def test_with_nothing_done_there_is_no_best(x, tmp_path, pretend):
    pretend.answers["auto"] = {"status": "failed", "error": "no"}
    result = pretend.sweep(x, 10, ["auto"], baseline="", seeds=1, out=tmp_path / "out")
    result.records[0].values.clear()
    assert result.best() is None
    assert result.table() == "auto failed: no"


def test_a_narrow_table_leaves_out_what_can_be_spared(x, tmp_path, pretend):
    pretend.answers["auto"] = {"values": {"seconds": 0.5, "inertia": 9.0, "recall": 0.9, "peak_mib": 7.0}}
    result = pretend.sweep(x, 10, ["flat", "auto"], seeds=1, out=tmp_path / "out")
    whole = result.table()
    assert result.table(200) == whole
    lines = result.table(70).splitlines()
    assert all(len(line) <= 70 for line in lines[:-1])
    assert lines[-1] == "left out, as lines are short here: peak memory (MiB), inertia a row"
    assert {"method", "recall@1"} <= set(lines[0].split())
    assert "peak memory" in whole


@pytest.mark.parametrize("p", [0.9, 0.99, 0.998])
def test_the_interval_of_recall_covers_the_truth(p):
    rng = np.random.default_rng(5)
    drawn = [wilson(int(rng.binomial(4096, p)), 4096) for _ in range(200)]
    covered = sum(low <= p <= high for low, high in drawn)
    assert covered >= 180, "95% of 200 are 190; 180 or fewer happen once in a thousand times"


# --------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_live_line_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    progress = ProgressLine(stream)
    progress(12, "ivf:nlist=64,nprobe=4 seed 1", 28, "auto 2.3 s at -0.4%")
    assert stream.getvalue() == (
        "\r\x1b[K12 of 40 done, running ivf:nlist=64,nprobe=4 seed 1, best so far auto 2.3 s at -0.4%"
    )
    progress(40, "", 0, "auto 2.3 s at -0.4%")
    assert stream.getvalue().endswith("\r\x1b[K40 of 40 done, best auto 2.3 s at -0.4%\n")
    monkeypatch.setenv("COLUMNS", "20")
    progress(12, "ivf:nlist=64,nprobe=4 seed 1", 28, "")
    assert stream.getvalue().endswith("\x1b[K12 of 40 done, runn")


def test_progress_is_plain_lines_elsewhere(x, tmp_path, pretend):
    stream = io.StringIO()
    pretend.answers["auto"] = {"values": {"seconds": 0.5, "inertia": 9.0}}
    pretend.sweep(x, 10, ["flat", "auto"], seeds=1, out=tmp_path / "out", progress=ProgressLine(stream))
    assert stream.getvalue().splitlines() == [
        "0 of 2 done, running flat seed 0",
        "1 of 2 done, running auto seed 0, best so far flat 1 s at inertia +0.0%",
        "2 of 2 done, best auto 0.5 s at inertia -10.0%",
    ]


def test_progress_says_of_which_size_the_best_is(tmp_path, pretend):
    stream = io.StringIO()
    sizes = {"dims": [2, 10], "sizes": [300, 2000], "n_clusters": 3}
    watch = ProgressLine(stream)
    pretend.bench(None, **sizes, methods=["flat"], baseline="flat", seeds=1, out=tmp_path / "out", progress=watch)
    first, second, *_, last = stream.getvalue().splitlines()
    assert "best" not in first
    assert second.endswith("best so far flat 1 s at inertia +0.0%, with 300 rows and 2 columns")
    assert last == "4 of 4 done, best flat 1 s at inertia +0.0%, with 2,000 rows and 10 columns"


# --------------------------------------------------------------------- vanilla


def test_vanilla_equals_scikit_learn_from_the_same_start(x):
    start = x[:20].copy()
    ours = vanilla.lloyd(x, start, max_iter=15, tol=0)
    theirs = SklearnKMeans(20, init=start, n_init=1, max_iter=15, tol=0)
    theirs.fit(x)
    np.testing.assert_allclose(ours[0], theirs.cluster_centers_, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours[1], theirs.labels_)
    assert ours[2] == pytest.approx(theirs.inertia_, rel=1e-5)
    assert ours[3] == theirs.n_iter_
    np.testing.assert_array_equal(start, x[:20])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vanilla_does_not_depend_on_chunks(x, dtype):
    x = x.astype(dtype)
    whole, parts = (vanilla.lloyd(x, x[:20], max_iter=5, chunk=chunk) for chunk in (None, 77))
    np.testing.assert_array_equal(whole[1], parts[1])
    np.testing.assert_allclose(whole[0], parts[0], rtol=1e-5)
    assert whole[2] == pytest.approx(parts[2])


def test_vanilla_by_hand():
    x = np.array([[0.0], [2.0], [10.0], [14.0]])
    seen: list = []
    centers, labels, inertia, iterations = vanilla.lloyd(
        x, np.array([[0.0], [10.0], [99.0]]), watch=lambda *told: seen.append(told)
    )
    np.testing.assert_array_equal(centers, [[1.0], [12.0], [99.0]])  # the empty cluster keeps its centre
    assert labels.tolist() == [0, 0, 1, 1]
    assert (inertia, iterations) == (10.0, 2)
    assert seen == [(20.0, 4), (10.0, 0)]


def test_vanilla_stops_by_its_rules(x):
    assert vanilla.lloyd(x, x[:20], max_iter=3, tol=0)[3] == 3
    early = vanilla.lloyd(x, x[:20], max_iter=100, tol=0.05)
    late = vanilla.lloyd(x, x[:20], max_iter=100, tol=0)
    assert early[3] < late[3] < 100
    again, inertia = vanilla.assign(x, early[0])
    np.testing.assert_array_equal(early[1], again)
    assert early[2] == inertia
