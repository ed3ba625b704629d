"""Runs that services read while trainers replace them, that colleagues share, and that are shipped without labels."""

import copy
import io
import os
import pickle
import shutil
import sys
import tracemalloc
from pathlib import Path

import joblib
import numpy as np
import pytest
from click.testing import CliRunner

from fastann import KMeans, PrototypeClassifier, RunError, dedup, evaluate, export, report, storage, sweep
from fastann.cli import main
from fastann.cluster.memory import needed
from fastann.data.open import as_source
from fastann.storage import folder as writing
from fastann.storage import reading
from fastann.study.process import Answer


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((400, 6)).astype(np.float32)


def clusters(x, seed):
    return KMeans(5, margins=True, random_state=seed).fit(x)


def classes(x, seed):
    return PrototypeClassifier(random_state=seed, refine="none").fit(x, np.random.default_rng(seed).integers(0, 3, 400))


def state(model):
    """Arrays that two runs do not share."""
    if isinstance(model, KMeans):
        names = ("cluster_centers_", "labels_", "distances_", "second_labels_", "margins_")
        return [getattr(model, name) for name in names]
    return [model.prototypes_, model.prototype_weights_, model.classification_.prototypes.spread]


def same(a, b):
    return [np.array_equal(*pair) for pair in zip(state(a), state(b), strict=True)]


# --------------------------------------------------------------------------- replaced while they are read


@pytest.mark.parametrize("two_steps", [False, True], ids=["exchanged", "renamed twice"])
@pytest.mark.parametrize("kind", [clusters, classes])
def test_a_run_that_is_replaced_at_any_moment_is_read_whole(x, tmp_path, monkeypatch, kind, two_steps):
    pair, path = [kind(x, seed) for seed in (0, 1)], tmp_path / "run"
    if two_steps:
        monkeypatch.setattr(writing, "_exchange", lambda a, b: False)
    real = {name: getattr(reading, name) for name in ("_opened", "digest", "_array")}
    calls, at = 0, -1

    def replacing(name):
        def step(*args):
            nonlocal calls
            calls += 1
            if calls == at:
                with monkeypatch.context() as patch:
                    patch.setattr(reading, "digest", real["digest"])
                    pair[1].save(path, force=True)
            return real[name](*args)

        return step

    for name in real:
        monkeypatch.setattr(reading, name, replacing(name))
    seen = set()
    while calls >= at:
        at, calls = at + 2 if at > 0 else 1, 0
        pair[0].save(path, force=True)
        calls = 0
        loaded = type(pair[0]).load(path)
        whole = [i for i, of in enumerate(pair) if all(same(loaded, of))]
        assert len(whole) == 1, (at, [same(loaded, of) for of in pair])
        seen |= set(whole)
    assert seen == {0, 1}


def test_tensors_that_were_replaced_before_they_are_read_are_read_anew(x, tmp_path, monkeypatch):
    import safetensors.numpy

    pair, path, real, calls = [clusters(x, 0), clusters(x, 1)], tmp_path / "run", safetensors.numpy.load_file, []

    def load_file(file):
        if not calls:
            pair[1].save(path, force=True)
        calls.append(file)
        return real(file)

    monkeypatch.setattr(safetensors.numpy, "load_file", load_file)
    pair[0].save(path)
    assert all(same(KMeans.load(path), pair[1]))
    assert len(calls) == 2


def test_a_run_between_two_renames_is_waited_for(x, tmp_path, monkeypatch):
    km, path, old = clusters(x, 0), tmp_path / "run", tmp_path / f".run.1{storage.manifest.OLD}"
    km.save(path)
    old.mkdir()
    path.rename(old / "run")
    monkeypatch.setattr(reading.time, "sleep", lambda seconds: (old / "run").rename(path) if old.exists() else None)
    assert all(same(KMeans.load(path), km))
    old.rmdir()
    shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match="no run directory"):
        KMeans.load(path)


def test_waiting_has_an_end(tmp_path, monkeypatch):
    (tmp_path / f".run.1{storage.manifest.OLD}").mkdir()  # a crash between two renames left it
    monkeypatch.setattr(reading, "PATIENCE", 0.02)
    with pytest.raises(FileNotFoundError, match="no run directory"):
        KMeans.load(tmp_path / "run")


def test_a_damaged_run_is_not_read_again_and_again(x, tmp_path, monkeypatch):
    clusters(x, 0).save(tmp_path / "run")
    (tmp_path / "run" / "labels.npy").write_bytes(b"other")
    monkeypatch.setattr(reading.time, "sleep", lambda seconds: pytest.fail("waits"))
    with pytest.raises(RunError, match=r"labels\.npy is not the file that was saved"):
        KMeans.load(tmp_path / "run")


@pytest.mark.parametrize("mapped", [True, False])
def test_what_was_loaded_outlives_its_run(x, tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(reading, "MAPPED", mapped and reading.MAPPED)
    km = clusters(x, 0)
    km.save(tmp_path / "run")
    loaded = KMeans.load(tmp_path / "run")
    loaded.labels_[3] = 4  # its own copy
    other = KMeans.load(tmp_path / "run")
    clusters(x, 1).save(tmp_path / "run", force=True)
    shutil.rmtree(tmp_path / "run")
    assert all(same(other, km))
    loaded.labels_[3] = km.labels_[3]
    assert all(same(loaded, km))


def test_a_checkpoint_that_is_replaced_is_read_whole(tmp_path, monkeypatch):
    def write(value):
        storage.write_folder(
            tmp_path / "c", {"at": value}, {"a": np.full(9, value), "b": np.full(9, value)}, name="c.json", force=True
        )

    real, calls = reading.digest, []

    def digest(file):
        calls.append(file)
        if len(calls) == 2:
            write(2)
        return real(file)

    write(1)
    monkeypatch.setattr(reading, "digest", digest)
    record, arrays = storage.read_folder(tmp_path / "c", name="c.json", what="a checkpoint")
    assert {record["at"], *arrays["a"].tolist(), *arrays["b"].tolist()} in ({1}, {2})


def test_a_report_shows_no_evaluation_of_other_centres(x, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    km, path = clusters(x, 0), tmp_path / "run"
    km.save(path)
    evaluate(path, x).save(path)
    assert "silhouette" in report.build(path).read_text(encoding="utf-8")
    clusters(x, 1).save(tmp_path / "other")
    shutil.copy(path / "evaluation.json", tmp_path / "other")
    told = report.build(tmp_path / "other").read_text(encoding="utf-8")
    assert "is of other centres, so it is left out; evaluate again" in told
    assert "silhouette" not in told


# --------------------------------------------------------------------------- permissions


def pretended(order, **limits):
    """A run of a study that needs no process."""
    return Answer("done", "", [], {"values": {"seconds": 1.0, "inertia": 1.0}, "series": {}})


def write_all(x, here):
    """Have everything written that fastann writes."""
    km, y = clusters(x, 0), np.arange(400) % 3
    km.save(here / "run")
    km.save(here / "run", force=True)
    km.save(here / "alone", labels=False)
    PrototypeClassifier(random_state=0).fit(x, y).save(here / "classes")
    np.save(here / "x.npy", x)
    np.save(here / "y.npy", y)
    begun = KMeans(5, random_state=0, checkpoint_seconds=0, callback=lambda state: state.record.iteration == 2)
    begun.begin_run(as_source(here / "x.npy"), here / "begun")
    begun.fit(here / "x.npy")
    shutil.copytree(here / "begun", here / "going", copy_function=shutil.copy2)  # with its checkpoints
    begun.save(here / "begun")
    for format in ("faiss", "faiss-ivf", "npy", "csv", "km"):
        export(km, here / f"export.{format}", format)
    found = dedup(km, x)
    found.save(here / "duplicates")
    found.save(here / "duplicates.csv")
    evaluate(km, x).save(here / "run")
    sweep(x, 4, ["flat"], seeds=1, out=here / "sweep", runner=pretended)
    for command in (
        ["predict", "run", "x.npy", "--out", "labels.npy"],
        ["predict", "run", "x.npy", "--out", "labels.csv"],
        ["classify", "predict", "classes", "x.npy", "--out", "classes.txt"],
        ["classify", "predict", "classes", "x.npy", "--out", "classes.csv"],
        ["classify", "evaluate", "classes", "x.npy", "y.npy", "--json", "classes.json"],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    if not any(sys.modules.get(name, True) is None for name in ("jinja2", "matplotlib")):
        for name in ("run", "classes", "sweep"):
            report.build(here / name)


@pytest.mark.skipif(os.name != "posix", reason="no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_everything_that_is_written_follows_the_umask(x, tmp_path, monkeypatch, umask):
    monkeypatch.chdir(tmp_path)
    before = os.umask(umask)
    try:
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        write_all(x, here)
    finally:
        os.umask(before)
    modes = {str(p.relative_to(here)): (p.is_dir(), p.stat().st_mode & 0o777) for p in here.rglob("*")}
    assert {"run/report.html", "run/evaluation.json", "going/checkpoints", "begun/manifest.json"} <= set(modes)
    assert {"classes/centroids.safetensors", "sweep/study.json", "duplicates/kept.npy", "export.csv"} <= set(modes)
    wrong = {name: oct(mode) for name, (folder, mode) in modes.items() if mode != (0o777 if folder else 0o666) & ~umask}
    assert not wrong


@pytest.mark.skipif(os.name != "posix", reason="no groups of folders")
def test_a_run_keeps_the_group_of_a_shared_folder(x, tmp_path):
    tmp_path.chmod(0o2775)
    if not (tmp_path.stat().st_mode & 0o2000):
        pytest.skip("this file system has no groups of folders")
    clusters(x, 0).save(tmp_path / "run")
    assert (tmp_path / "run").stat().st_mode & 0o2000


# --------------------------------------------------------------------------- sent elsewhere


def spilled(x, tmp_path, **options):
    """A model whose rows' state is mapped from files."""
    limit = needed(as_source(x), 5)
    km = KMeans(5, random_state=0, max_memory=limit, temp_folder=tmp_path, **options).fit(x)
    assert km.labels_.base is not None
    return km


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "cloudpickle": lambda model: pickle.loads(pytest.importorskip("cloudpickle").dumps(model)),
    "joblib": by_joblib,
    "deepcopy": copy.deepcopy,
}
MODELS = {
    "spilled": lambda x, path: spilled(x, path),
    "spilled, margins": lambda x, path: spilled(x, path, margins=True),
    "spilled, candidates": lambda x, path: spilled(x, path, candidates=4),
    "loaded": lambda x, path: (clusters(x, 0).save(path / "run"), KMeans.load(path / "run"))[1],
    "without labels": lambda x, path: (clusters(x, 0).save(path / "run", labels=False), KMeans.load(path / "run"))[1],
    "stream": lambda x, path: KMeans(5, random_state=0).partial_fit(x).partial_fit(x[:50]),
}


@pytest.mark.parametrize("by", COPIES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_whose_rows_are_in_files_can_be_copied(x, tmp_path, kind, by):
    model = MODELS[kind](x, tmp_path)
    again = COPIES[by](model)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert {name for name in vars(again) if name.endswith("_")} == {n for n in vars(model) if n.endswith("_")}
    for name in ("labels_", "distances_", "second_labels_", "margins_"):
        if name in vars(model):
            np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    for m in (model, again):
        m.partial_fit(x[:40])
    np.testing.assert_array_equal(again.cluster_centers_, model.cluster_centers_)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "without labels"])
def test_no_process_is_told_to_open_a_model_s_files(x, tmp_path, kind):
    """joblib has its workers map what is a `numpy.memmap` here by its name, where another run may lie by then."""
    of = MODELS[kind](x, tmp_path).labels_
    while isinstance(of, np.ndarray):
        assert not isinstance(of, np.memmap)
        of = of.base


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spilled", "loaded"])
def test_workers_of_joblib_predict(x, tmp_path, kind):
    model = MODELS[kind](x, tmp_path)
    parts = joblib.Parallel(n_jobs=2, max_nbytes=1000)(joblib.delayed(model.predict)(x[i::2]) for i in (0, 1))
    for i, labels in enumerate(parts):
        np.testing.assert_array_equal(labels, model.predict(x[i::2]))


# --------------------------------------------------------------------------- without labels


@pytest.fixture
def alone(x, tmp_path):
    """A fitted model, and the same loaded from a run that it was saved to without labels."""
    km = KMeans(5, margins=True, random_state=0).fit(x)
    km.ids_ = np.arange(400)
    km.save(tmp_path / "alone", labels=False)
    return km, KMeans.load(tmp_path / "alone"), tmp_path / "alone"


def test_a_run_without_labels_is_two_files(alone):
    assert sorted(p.name for p in alone[2].iterdir()) == ["centroids.safetensors", "manifest.json"]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("index", ["auto", "ivf:nlist=3,nprobe=2", "hnsw:m=4,ef_search=8"])
def test_a_model_without_labels_answers_alike(x, tmp_path, metric, index):
    km = KMeans(12, metric=metric, index=index, random_state=0).fit(x + 100)
    km.save(tmp_path / "alone", labels=False)
    loaded = KMeans.load(tmp_path / "alone")
    for method in ("predict", "transform", "score", "kneighbors"):
        np.testing.assert_array_equal(getattr(loaded, method)(x + 100), getattr(km, method)(x + 100))
    assert (loaded.inertia_, loaded.stop_reason_, loaded.history_) == (km.inertia_, km.stop_reason_, km.history_)
    for m in (km, loaded):
        m.partial_fit(x[:50] + 100)
    np.testing.assert_array_equal(loaded.cluster_centers_, km.cluster_centers_)
    np.testing.assert_array_equal(loaded.labels_, km.labels_)


def test_what_needs_labels_says_that_there_are_none(alone, x, tmp_path):
    _, loaded, run = alone
    for name in ("labels_", "distances_"):
        assert not hasattr(loaded, name)
        with pytest.raises(AttributeError, match=rf"saved without labels \(labels=False, --no-labels\).*no {name}"):
            getattr(loaded, name)
    with pytest.raises(AttributeError, match="'KMeans' object has no attribute 'labels_'"):
        KMeans().labels_  # noqa: B018
    assert loaded.ids_ is None
    for format in ("csv", "km"):
        with pytest.raises(ValueError, match=r"needs the label of every row.*saved without labels.*fit again"):
            export(loaded, tmp_path / "out", format)
        done = CliRunner().invoke(main, ["export", str(run), "--format", format, "--out", str(tmp_path / "out")])
        assert (done.exit_code, "--no-labels" in done.output) == (2, True)
    assert not (tmp_path / "out").exists()


def test_what_needs_no_labels_works_without(alone, x, tmp_path):
    km, loaded, run = alone
    export(loaded, tmp_path / "c.npy", "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), km.cluster_centers_)
    found = evaluate(run, x)
    assert found.labels == "predicted"
    assert found.values == evaluate(km, x).values
    np.testing.assert_array_equal(dedup(loaded, x, threshold=0.9).kept, dedup(km, x, threshold=0.9).kept)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "centroids.safetensors").read_bytes() == (run / "centroids.safetensors").read_bytes()
    assert not (tmp_path / "again" / "labels.npy").exists()
    loaded.fit(x).save(tmp_path / "again", force=True)
    np.testing.assert_array_equal(KMeans.load(tmp_path / "again").labels_, km.labels_)


def test_a_report_of_a_run_without_labels_has_sizes(alone):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    km, _, run = alone
    told = report.build(run).read_text(encoding="utf-8")
    assert "5 clusters of 400 rows" in told
    sizes = np.bincount(km.labels_)
    assert f"{sizes.min()} to {sizes.max()}" in told


def test_a_run_that_lacks_labels_without_saying_so_is_refused(alone):
    run = alone[2]
    manifest = storage.read_manifest(run)
    storage.amend_run(run, labels=True)
    with pytest.raises(RunError, match="labels"):
        KMeans.load(run)
    storage.amend_run(run, labels=False, n_rows=manifest["n_rows"] - 500)
    with pytest.raises(RunError, match="n_rows"):
        KMeans.load(run)


@pytest.mark.parametrize("labels", [None, "no", 0, np.arange(400)], ids=str)
def test_labels_are_wanted_or_not(x, tmp_path, labels):
    with pytest.raises(TypeError, match="labels must be True or False"):
        clusters(x, 0).save(tmp_path / "run", labels=labels)


@pytest.mark.parametrize("checkpoint", [[], ["--checkpoint", "0"]], ids=["at once", "with checkpoints"])
def test_the_command_line_leaves_labels_out(x, tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    fit = ["fit", "x.npy", "-k", "5", "--quiet", "--no-labels", *checkpoint, "--out", "run"]
    done = CliRunner().invoke(main, fit)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in Path("run").iterdir()) == ["centroids.safetensors", "manifest.json"]
    assert CliRunner().invoke(main, ["predict", "run", "x.npy", "--out", "labels.npy"]).exit_code == 0
    np.testing.assert_array_equal(np.load("labels.npy"), KMeans(5, random_state=0).fit(x).labels_)
    assert CliRunner().invoke(main, ["fit", "--resume", "run"]).output == "run is complete: 400 rows in 5 clusters\n"


def test_an_unfinished_run_remembers_that_labels_are_left_out(x, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    KMeans(5, random_state=0).begin_run(as_source("x.npy"), "run", labels=False)
    done = CliRunner().invoke(main, ["fit", "--resume", "run"])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in Path("run").iterdir()) == ["centroids.safetensors", "manifest.json"]


@pytest.mark.skipif(not reading.MAPPED, reason="files are not mapped here")
def test_loading_takes_no_memory_for_rows(tmp_path):
    x = np.random.default_rng(0).standard_normal((200_000, 2)).astype(np.float32)
    KMeans(3, margins=True, max_iter=2, random_state=0).fit(x).save(tmp_path / "run")
    KMeans.load(tmp_path / "run")
    tracemalloc.start()
    try:
        km = KMeans.load(tmp_path / "run")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(x)  # of labels, distances, second labels and margins, 16 bytes a row
    assert len(km.labels_) == len(x)
