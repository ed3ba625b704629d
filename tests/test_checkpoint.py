"""A fit that was cut off goes on from its last checkpoint and ends where it would have ended; errors are clear."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import limited
from scipy import sparse

from fastann import KMeans, open_source, storage
from fastann.cli import main
from fastann.cluster import checkpoint
from fastann.cluster.beginning import Beginning


class Cut(BaseException):
    """Ends a fit as a crash would: nothing below catches it."""


def cut_after(iterations):
    """A callback that lets some iterations pass."""
    left = [iterations]

    def watch(state):
        left[0] -= 1
        if left[0] < 0:
            raise Cut

    return watch


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((60, 12)) * 2
    return (centers[rng.integers(60, size=30_000)] + rng.standard_normal((30_000, 12))).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def interrupted(x, folder, after, weights=None, kind=KMeans, **options):
    km = kind(checkpoint=folder, checkpoint_seconds=0, callback=cut_after(after), random_state=0, **options)
    with pytest.raises(Cut):
        km.fit(x, sample_weight=weights)
    return kind(checkpoint=folder, checkpoint_seconds=0, random_state=0, **options)


def assert_same(a, b):
    np.testing.assert_array_equal(a.cluster_centers_, b.cluster_centers_)
    np.testing.assert_array_equal(a.labels_, b.labels_)
    np.testing.assert_array_equal(a.distances_, b.distances_)
    assert a.inertia_ == b.inertia_
    assert [record.inertia for record in a.history_] == [record.inertia for record in b.history_]
    assert a.stop_reason_ == b.stop_reason_


Large = limited(small=0)
KINDS = {
    "candidates": {"n_clusters": 1500, "max_iter": 9},
    "cells": {"n_clusters": 300, "max_iter": 9, "index": "cells:nlist=8,nprobe=auto", "candidates": 6},
    "flat": {"n_clusters": 80, "index": "flat", "max_iter": 8},
    "ivf": {"n_clusters": 100, "index": "ivf:nlist=10,nprobe=auto", "max_iter": 8},
    "factory": {"n_clusters": 100, "index": "factory:IVF8,SQ8;nprobe=6", "max_iter": 8},
    "cosine": {"n_clusters": 1500, "max_iter": 8, "metric": "cosine"},
    "farthest": {"n_clusters": 200, "index": "flat", "max_iter": 8, "empty": "farthest", "init": "random"},
}


@pytest.mark.parametrize("after", [0, 1, 4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_cut_off_ends_as_one_that_was_not(x, folder, kind, after):
    whole = KMeans(random_state=0, **KINDS[kind]).fit(x)
    resumed = interrupted(x, folder, after, **KINDS[kind]).fit(x)
    assert_same(resumed, whole)


@pytest.mark.parametrize("after", [0, 1, 3, 5, 7])
def test_samples_trained_on_first_are_drawn_again(x, folder, after):
    options = {"n_clusters": 7, "max_iter": 10, "tol": 0, "effort": 100, "init": "random"}
    whole = Large(random_state=0, **options).fit(x)
    assert {7500 <= record.rows <= 7507 for record in whole.history_} == {True, False}  # and the rows it starts from
    assert whole.n_iter_ == 10
    assert_same(interrupted(x, folder, after, kind=Large, **options).fit(x), whole)


def test_weights_are_part_of_it(x, folder):
    w = np.random.default_rng(1).random(len(x))
    options = {"n_clusters": 1500, "max_iter": 7}
    whole = KMeans(random_state=0, **options).fit(x, sample_weight=w)
    assert_same(interrupted(x, folder, 4, w, **options).fit(x, sample_weight=w), whole)


@pytest.mark.parametrize("after", [2, 5, 9])
def test_of_several_starts_the_best_is_still_kept(x, folder, after):
    options = {"n_clusters": 30, "n_init": 3, "max_iter": 4, "init": "random"}
    whole = KMeans(random_state=0, **options).fit(x)
    assert_same(interrupted(x, folder, after, **options).fit(x), whole)


def test_it_may_be_cut_off_again_and_again(x, folder):
    options = {"n_clusters": 1500, "max_iter": 9}
    whole = KMeans(random_state=0, **options).fit(x)
    for _ in range(5):
        resumed = interrupted(x, folder, 1, **options)
    assert_same(resumed.fit(x), whole)


def test_a_fit_of_several_starts_ends_however_often_it_is_cut_off(x, folder):
    """Each run lasts for two iterations, of which the second is lost: also from one start to the next."""
    options = {"n_clusters": 30, "n_init": 3, "max_iter": 4, "init": "random"}
    whole = KMeans(random_state=0, **options).fit(x)
    for _ in range(3 * 4 + 1):
        with suppress(Cut):
            km = KMeans(checkpoint=folder, checkpoint_seconds=0, callback=cut_after(1), random_state=0, **options)
            assert_same(km.fit(x), whole)
            return
    pytest.fail("it made no progress")


def test_a_start_is_written_down_before_the_first_iteration(x, folder, monkeypatch):
    options = {"n_clusters": 1500, "max_iter": 4}
    whole = KMeans(random_state=0, **options).fit(x)
    resumed = interrupted(x, folder, 0, **options)

    def again(*_args, **_options):
        raise AssertionError("the start is made a second time")

    monkeypatch.setattr(Beginning, "centroids", again)
    assert_same(resumed.fit(x), whole)


def test_sparse_rows_too(x, folder):
    csr = sparse.csr_array(np.where(x > 1, x, 0))
    options = {"n_clusters": 500, "max_iter": 6, "init": "random"}
    whole = KMeans(random_state=0, **options).fit(csr)
    assert_same(interrupted(csr, folder, 3, **options).fit(csr), whole)


def test_the_seed_of_no_random_state_is_kept(x, folder):
    km = KMeans(50, swaps=False, checkpoint=folder, checkpoint_seconds=0, callback=cut_after(3))
    with pytest.raises(Cut):
        km.fit(x)
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    one = KMeans(50, swaps=False, checkpoint=folder, checkpoint_seconds=0).fit(x)
    assert_same(KMeans(50, swaps=False, checkpoint=copy, checkpoint_seconds=0).fit(x), one)


def test_more_iterations_may_be_asked_for(x, folder):
    interrupted(x, folder, 3, n_clusters=50, swaps=False, max_iter=5, tol=0)
    km = KMeans(50, swaps=False, checkpoint=folder, checkpoint_seconds=0, max_iter=8, tol=0, random_state=0).fit(x)
    assert_same(km, KMeans(50, swaps=False, max_iter=8, tol=0, random_state=0).fit(x))


def test_time_spent_before_counts(x, folder):
    interrupted(x, folder, 3, n_clusters=50, swaps=False, tol=0)
    path = next(folder.iterdir()) / checkpoint.NAME
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"seconds": record["seconds"] + 1e6}))
    km = KMeans(50, swaps=False, checkpoint=folder, time_limit=1000, tol=0, random_state=0).fit(x)
    assert km.stop_reason_ == "time_limit"
    assert km.n_iter_ == 4


def test_only_the_last_checkpoint_is_kept(x, folder):
    interrupted(x, folder, 5, n_clusters=50, swaps=False)
    assert [path.name for path in folder.iterdir()] == ["000006"]


def test_there_are_none_before_their_time(x, folder):
    KMeans(50, swaps=False, checkpoint=folder, random_state=0).fit(x)
    assert list(folder.iterdir()) == []


def test_save_removes_them(x, folder, tmp_path):
    km = KMeans(50, swaps=False, checkpoint=folder, checkpoint_seconds=0, random_state=0).fit(x)
    assert list(folder.iterdir())
    km.save(tmp_path / "run")
    assert not folder.exists()


def test_what_a_crash_left_half_written_is_removed(x, folder):
    km = interrupted(x, folder, 3, n_clusters=50, swaps=False)
    (folder / ".000004.abc.partial").mkdir()
    (folder / ".000004.abc.partial" / "work_labels.npy").write_bytes(b"half")
    km.fit(x)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


# --------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_clusters": 51}, "n_clusters=50, given was 51"),
        ({"metric": "cosine"}, "metric='euclidean', given was 'cosine'"),
        ({"random_state": 1}, "random_state=0, given was 1"),
        ({"index": "flat"}, "index='auto', given was 'flat'"),
        ({"init": np.zeros((50, 12))}, "init='auto', given was 'array"),
    ],
)
def test_other_parameters_are_refused(x, folder, change, says):
    km = interrupted(x, folder, 3, n_clusters=50, swaps=False).set_params(**change)
    with pytest.raises(ValueError, match="holds checkpoints of a fit with") as caught:
        km.fit(x)
    assert says in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["000004"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda x: x[:-1], id="fewer rows"),
        pytest.param(lambda x: x.astype(np.float64), id="another dtype"),
        pytest.param(lambda x: x + 1, id="other values"),
        pytest.param(lambda x: np.where(np.arange(len(x))[:, None] == 77, -x, x), id="one other row"),
        pytest.param(lambda x: sparse.csr_array(x), id="sparse"),
    ],
)
def test_other_data_is_refused(x, folder, other):
    km = interrupted(x, folder, 3, n_clusters=50, swaps=False)
    with pytest.raises(ValueError, match="holds checkpoints of other data"):
        km.fit(other(x))
    assert [path.name for path in folder.iterdir()] == ["000004"]


def test_other_places_of_the_same_sparse_values_are_refused(folder):
    def ones(seed):
        rng = np.random.default_rng(seed)
        columns = np.argsort(rng.random((3000, 40)), axis=1)[:, :5]
        return sparse.csr_array((np.ones(15_000), columns.ravel(), np.arange(0, 15_001, 5)), (3000, 40))

    km = interrupted(ones(0), folder, 2, n_clusters=9, tol=0, init="random")
    with pytest.raises(ValueError, match="other data"):
        km.fit(ones(1))


def test_what_is_not_a_checkpoint_stays(x, folder):
    for name in ("0", "2024", ".run.xyz.partial"):
        (folder / name).mkdir(parents=True)
        (folder / name / "mine.txt").write_text("mine")
    (folder / ".labels.abc.partial").write_text("mine")
    km = interrupted(x, folder, 3, n_clusters=50, swaps=False).fit(x)
    assert_same(km, KMeans(50, swaps=False, random_state=0).fit(x))
    checkpoint.remove(folder)
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".labels.abc.partial", ".run.xyz.partial", "0", "2024"]


def test_another_folder_does_not_matter_later(x, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    km = KMeans(
        50,
        swaps=False,
        checkpoint="here",
        checkpoint_seconds=0,
        random_state=0,
        callback=lambda state: os.chdir(elsewhere),
    )
    km.fit(x)
    assert (tmp_path / "here").is_dir()
    assert not list(elsewhere.iterdir())


def test_a_callable_start_is_known_again(x, folder):
    class Start:
        def __call__(self, rows, k, random_state):
            return rows[:k]

    km = interrupted(x, folder, 3, n_clusters=50, swaps=False, init=Start()).set_params(init=Start())
    assert_same(km.fit(x), KMeans(50, swaps=False, init=Start(), random_state=0).fit(x))


def test_a_start_cut_short_on_a_sample_does_not_win(x):
    options = {"n_clusters": 7, "init": "random", "random_state": 0}
    seen = []

    def second_start(state):
        seen.append(state.record)
        return len(seen) > 1 and seen[-2].rows == len(x) and state.record.rows < len(x)

    km = Large(n_init=3, callback=second_start, **options).fit(x)
    assert km.stop_reason_ != "callback"
    assert km.history_[-1].rows == len(x)
    assert_same(km, Large(**options).fit(x))


def test_other_weights_are_refused(x, folder):
    km = interrupted(x, folder, 3, n_clusters=50, swaps=False)
    with pytest.raises(ValueError, match="other data"):
        km.fit(x, sample_weight=np.arange(len(x)) + 1.0)


def test_a_file_that_changed_is_refused(x, folder, tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, x)
    km = interrupted(file, folder, 3, n_clusters=50, swaps=False)
    np.save(file, x[:-10])
    with pytest.raises(ValueError, match=r"rows\.npy"):
        km.fit(file)
    assert [path.name for path in folder.iterdir()] == ["000004"]


def test_a_file_that_vanished_is_named(x, folder, tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, x)
    km = interrupted(file, folder, 3, n_clusters=50, swaps=False)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"rows\.npy"):
        km.fit(file)


def test_a_damaged_checkpoint_is_named(x, folder):
    km = interrupted(x, folder, 3, n_clusters=50, swaps=False)
    path = folder / "000004" / "work_labels.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(storage.RunError, match=r"work_labels\.npy"):
        km.fit(x)


@pytest.mark.parametrize(("left", "wrote"), [({}, "of an earlier version"), ({"fastann": "9.1", "format": 99}, "9.1")])
def test_a_checkpoint_of_another_version_is_refused(x, folder, left, wrote):
    km = interrupted(x, folder, 3, n_clusters=50, swaps=False)
    [path] = folder.glob("*/checkpoint.json")
    values = json.loads(path.read_text())
    kept = {name: value for name, value in values.items() if name not in ("fastann", "format")}
    path.write_text(json.dumps(kept | left))
    with pytest.raises(ValueError, match=rf"fastann {wrote} wrote, with which .* or remove .* to begin anew"):
        km.fit(x)
    path.write_text(json.dumps(values))
    km.fit(x)


def test_a_file_in_place_of_the_folder_is_refused(x, folder):
    folder.write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        KMeans(50, swaps=False, checkpoint=folder).fit(x)
    assert folder.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused_at_once(x, folder):
    folder.mkdir()
    folder.chmod(0o500)
    with pytest.raises(PermissionError, match="read-only"):
        KMeans(50, swaps=False, checkpoint=folder).fit(x)


def test_a_folder_that_cannot_be_made_is_named(x, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be made"):
        KMeans(50, swaps=False, checkpoint=tmp_path / "file" / "checkpoints").fit(x)


@pytest.mark.parametrize("seconds", [-1, "soon", float("nan")])
def test_seconds_that_make_no_sense_are_refused(x, folder, seconds):
    with pytest.raises((ValueError, TypeError), match="checkpoint_seconds"):
        KMeans(50, swaps=False, checkpoint=folder, checkpoint_seconds=seconds).fit(x)


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(x, folder, monkeypatch):
    write, written = storage.write_folder, []

    def full(path, *args, **options):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write(path, *args, **options)

    monkeypatch.setattr(storage, "write_folder", full)
    km = KMeans(50, swaps=False, checkpoint=folder, checkpoint_seconds=0, random_state=0)
    with pytest.raises(OSError, match=r"cannot be written.*No space left.*000003, stays") as caught:
        km.fit(x)
    assert caught.value.errno == errno.ENOSPC
    assert not hasattr(km, "cluster_centers_")
    monkeypatch.undo()
    assert [path.name for path in folder.iterdir()] == ["000003"]
    assert_same(km.fit(x), KMeans(50, swaps=False, random_state=0).fit(x))


SMALL_DISK = """
import numpy as np, resource, sys, signal
from fastann import KMeans
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
x = np.load(sys.argv[1])
KMeans(50, swaps=False, random_state=0).fit(x[:1000])
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
    KMeans(50, swaps=False, checkpoint=sys.argv[2], checkpoint_seconds=0, random_state=0).fit(x)
except OSError as error:
    print(error)
"""


def test_a_file_that_cannot_be_written_whole_leaves_nothing(x, folder, tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, x)
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, file, folder], capture_output=True, text=True, check=True, timeout=300
    )
    assert re.search(r"cannot be written.*(File too large|requested and \d+ written)", done.stdout)
    assert "there is none yet" in done.stdout
    assert "None" not in done.stdout
    assert list(folder.iterdir()) == []


# --------------------------------------------------------------------- the command line, killed


# Writing takes as long as fitting here, so that a kill falls into either.
CHILD = """
import os, sys, time
from fastann.cli import main
from fastann.storage import folder
fsync, finish = os.fsync, folder._finish
os.fsync = lambda handle: (time.sleep(0.004), fsync(handle))
folder._finish = lambda *given: (print("writing", flush=True), finish(*given))[1]
print("ready", flush=True)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_thirty_kills_lose_nothing(x, tmp_path):
    rng = np.random.default_rng(0)
    data, run, whole = tmp_path / "rows of 30 k.npy", tmp_path / "run", tmp_path / "whole"
    np.save(data, x)
    first = ["fit", data, "-k", "1500", "--max-iter", "9", "--quiet", "--checkpoint", "0", "--max-memory", "250MiB"]
    main.main([str(a) for a in (*first, "--out", whole)], standalone_mode=False)
    expected = KMeans.load(whole)
    kills, ends, states = 0, 0, []
    while kills < 30 or not ends:
        arguments = ["fit", "--quiet", "--resume", run] if run.exists() else [*first, "--out", run]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        if kills % 3 == 2:  # in the last writing
            child.stdout.readline()
            time.sleep(rng.uniform(0, 0.12))
        elif kills < 30:  # anywhere
            with suppress(subprocess.TimeoutExpired):
                child.wait(rng.uniform(0, 3))
        else:
            child.wait()
        child.kill()
        child.stdout.close()
        code = child.wait()
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        if not run.exists():
            states.append("nothing yet")
            continue
        status = storage.read_manifest(run)["status"]
        if status == storage.COMPLETE:
            ended = KMeans.load(run)
            for name in ("cluster_centers_", "labels_", "distances_", "margins_", "inertia_"):
                np.testing.assert_array_equal(getattr(ended, name), getattr(expected, name), err_msg=name)
            shutil.rmtree(run)
            ends += 1
            states.append(status)
            continue
        if list(run.glob(".finish.*")):
            states.append("half finished")
        found = [path for path in (run / storage.CHECKPOINTS).glob("*") if path.name.isdecimal()]
        for path in found:
            storage.read_folder(path, name=checkpoint.NAME, what="a checkpoint")  # whole, to the byte
        states.append(f"{len(found)} checkpoints")
    assert {"1 checkpoints", "half finished", "complete"} <= set(states)


def test_a_kill_before_the_first_checkpoint_begins_anew(x, tmp_path):
    data, run = tmp_path / "rows.npy", tmp_path / "run"
    np.save(data, x)
    km = KMeans(50, swaps=False, random_state=0, verbose=False)
    km.begin_run(open_source(data), run)
    invoke("fit", "--resume", run)
    assert_same(KMeans.load(run), KMeans(50, swaps=False, random_state=0).fit(x))
    assert invoke("fit", "--resume", run).output == f"{run} is complete: 30,000 rows in 50 clusters\n"


def invoke(*arguments, code=0):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def begun(x, tmp_path):
    """A run that was cut off after three iterations."""
    data, run = tmp_path / "rows.npy", tmp_path / "run"
    np.save(data, x)
    km = KMeans(50, swaps=False, random_state=0, checkpoint_seconds=0)
    km.begin_run(open_source(data), run)
    km.callback = cut_after(3)
    with pytest.raises(Cut):
        km.fit(data)
    return data, run


def test_a_begun_run_is_readable_and_says_how_to_go_on(begun, tmp_path):
    data, run = begun
    assert storage.read_manifest(run)["status"] == "running"
    for arguments in (
        ["export", run, "--format", "csv", "--out", tmp_path / "a.csv"],
        ["predict", run, data, "--out", "a.npy"],
    ):
        assert f"fastann fit --resume {run}" in invoke(*arguments, code=2).output
    assert "--resume" in invoke("fit", data, "-k", 50, "--out", run, code=2).output
    invoke("fit", "--resume", run)
    assert_same(KMeans.load(run), KMeans(50, swaps=False, random_state=0).fit(np.load(data)))
    assert not (run / "checkpoints").exists()


def test_force_replaces_a_begun_run(begun):
    data, run = begun
    invoke("fit", data, "-k", 5, "--out", run, "--force", "--checkpoint", 60)
    assert len(KMeans.load(run).cluster_centers_) == 5


def test_a_source_that_changed_is_named_and_the_checkpoint_stays(begun, x):
    data, run = begun
    np.save(data, x[:100])
    assert "rows.npy" in invoke("fit", "--resume", run, code=2).output
    data.unlink()
    assert "rows.npy" in invoke("fit", "--resume", run, code=2).output
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000004"]


def test_another_model_does_not_finish_a_run_that_was_begun(begun, x):
    run = begun[1]
    with pytest.raises(FileExistsError, match="unfinished"):
        KMeans(3, random_state=0).fit(x[:100]).save(run)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000004"]


def test_what_cannot_be_written_down_is_not_begun(x, tmp_path):
    np.save(tmp_path / "rows.npy", x)
    km = KMeans(50, swaps=False, init=x[:50])
    with pytest.raises(ValueError, match="init cannot be written down"):
        km.begin_run(open_source(tmp_path / "rows.npy"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "extra", [["-k", "5"], ["--column", "x"], ["--no-labels"], ["--out", "other"], ["--seed", "1"]]
)
def test_resume_refuses_what_the_run_says_already(begun, extra):
    assert "leave it out" in invoke("fit", "--resume", begun[1], *extra, code=2).output


def test_what_is_not_a_run_cannot_be_resumed(tmp_path):
    assert "nowhere" in invoke("fit", "--resume", tmp_path / "nowhere", code=2).output
    assert "--resume, with an unfinished run" in invoke("fit", code=2).output


def test_parameters_are_checked_before_anything_is_replaced(begun, x, tmp_path):
    data, run = begun
    for bad in (["-k", "40000"], ["-k", "5", "--metric", "cosmic"], ["-k", "5", "--index", "ivf:nlist=0"]):
        invoke("fit", data, *bad, "--out", run, "--force", "--checkpoint", 0, code=2)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000004"]


def test_a_classifier_is_not_a_fit_to_go_on_with(tmp_path):
    storage.begin_run(tmp_path / "run", {"estimator": "PrototypeClassifier", "parameters": {}, "data": None})
    assert "PrototypeClassifier" in invoke("fit", "--resume", tmp_path / "run", code=2).output
