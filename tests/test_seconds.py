"""Where the time of a fit goes: by phase, adding up to the wall clock; in summaries, files and evaluations."""

import json
import math
import re
import time
from contextlib import suppress
from dataclasses import fields

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import limited
from scipy import sparse

from fastann import KMeans, evaluate, report
from fastann.cli import main
from fastann.cluster import clock
from fastann.cluster.clock import PHASES, Clock


class Hand:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def hand(monkeypatch):
    found = Hand()
    monkeypatch.setattr(clock, "time", found)
    return found


def test_one_phase_runs_at_a_time(hand):
    seconds = Clock({"start": 1.0, "a phase of old": 3.0})
    with seconds("assign"):
        hand.now += 2
        with seconds("read"):
            hand.now += 4
        hand.now += 8
    hand.now += 16
    with suppress(KeyError), seconds("close"):
        hand.now += 32
        raise KeyError
    hand.now += 64
    assert seconds.read() == dict.fromkeys(PHASES, 0.0) | {
        "start": 1, "assign": 10, "read": 4, "close": 32, "other": 3 + 16 + 64,
    }  # fmt: skip
    assert clock.in_words(seconds.read()) == "130.0 (read 4.0, start 1.0, assign 10.0, close 32.0, other 83.0)"
    assert clock.in_words({"read": 0.0004, "close": 0.2}) == "0.2 (read 0.0004, close 0.2)"
    assert clock.in_words({}) == "0.0"


KINDS = {
    "auto": {},
    "swaps": {"swaps": True},
    "starts": {"n_init": 3},
    "ivf": {"index": "ivf:nlist=8,nprobe=2", "margins": True},
    "hnsw": {"index": "hnsw"},
    "sample": {"sample": 0.5},
    "candidates": {"candidates": 4, "exact_labels": True},
    "cosine": {"metric": "cosine"},
    "labels": {"max_iter": 0, "init": "first"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["array", "file", "sparse"])
def test_seconds_add_up_to_the_wall_clock(blobs, tmp_path, kind, form):
    options = dict(KINDS[kind])
    if form == "sparse" and "index" in options:
        return  # which takes dense rows
    if options.get("init") == "first":
        options["init"] = blobs[:40]
    x = sparse.csr_matrix(blobs) if form == "sparse" else blobs
    if form == "file":
        np.save(tmp_path / "x.npy", blobs)
        x = tmp_path / "x.npy"
    began = time.perf_counter()
    km = KMeans(40, random_state=0, **options).fit(x)
    wall = time.perf_counter() - began
    assert set(km.seconds_) == set(PHASES)
    assert min(km.seconds_.values()) >= 0
    assert km.fit_seconds_ == sum(km.seconds_.values())
    assert km.fit_seconds_ == pytest.approx(wall, rel=0.1, abs=0.02)
    assert km.seconds_["other"] < 0.2 * wall + 0.05
    assert km.seconds_["read"] > 0
    assert km.seconds_["close"] > 0
    if options.get("max_iter") != 0:
        iterated = [sum(record.seconds[phase] for record in km.history_) for phase in clock.ITERATED]
        ours = [km.seconds_[phase] for phase in clock.ITERATED]
        assert sum(ours) == pytest.approx(sum(iterated)) if km.n_init == 1 else sum(ours) > sum(iterated)
        assert km.seconds_["start"] > 0
    assert (km.seconds_["swaps"] > 0) == (
        options.get("swaps") is True or ("init" not in options and "index" not in options)
    )


def test_phases_take_what_is_theirs(blobs):
    """Each of these makes one phase long, by something that is known to be done there."""

    def slow(seconds, result):
        def function(*args):
            time.sleep(seconds)
            return result

        return function

    km = KMeans(9, init=slow(0.2, blobs[:9]), callback=slow(0.1, False), max_iter=2, tol=0, random_state=0).fit(blobs)
    assert 0.2 <= km.seconds_["start"] < 0.3
    assert 0.2 <= km.seconds_["other"] < 0.35
    assert km.fit_seconds_ > 0.4


def test_samples_that_come_first_count_too(blobs):
    km = limited(few=8, rows_per_cluster=32, small=0)(40, random_state=0).fit(blobs)
    assert km.history_[0].rows < km.history_[-1].rows
    assert sum(sum(record.seconds.values()) for record in km.history_) == pytest.approx(
        sum(km.seconds_[phase] for phase in clock.ITERATED)
    )


def test_a_batch_has_its_own(blobs):
    km = KMeans(40, random_state=0).partial_fit(blobs[:6000])
    first = dict(km.seconds_)
    began = time.perf_counter()
    km.partial_fit(blobs[6000:])
    wall = time.perf_counter() - began
    assert km.seconds_ != first
    assert km.fit_seconds_ == pytest.approx(wall, rel=0.1, abs=0.02)
    assert min(km.seconds_[phase] for phase in ("assign", "update", "close")) > 0


def test_what_a_checkpoint_went_on_from_counts(blobs, tmp_path):
    class Killed(Exception):
        pass

    def killed(state):
        time.sleep(0.1)
        if state.record.iteration == 3:
            raise Killed

    options = {"init": "random", "random_state": 0, "tol": 0, "max_iter": 6}
    options |= {"checkpoint": tmp_path / "on", "checkpoint_seconds": 0}
    with pytest.raises(Killed):
        KMeans(40, callback=killed, **options).fit(blobs)
    began = time.perf_counter()
    km = KMeans(40, **options).fit(blobs)
    wall = time.perf_counter() - began
    assert km.fit_seconds_ > wall + 0.2  # two iterations of those that were lost had been written down
    assert km.seconds_["start"] > 0  # which this call did not choose


def test_they_are_saved_and_read(blobs, tmp_path):
    km = KMeans(40, random_state=0).fit(blobs)
    km.save(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["seconds"] == km.seconds_
    loaded = KMeans.load(tmp_path / "run")
    assert (loaded.seconds_, loaded.fit_seconds_) == (km.seconds_, km.fit_seconds_)
    del manifest["seconds"]  # a run of old
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    loaded = KMeans.load(tmp_path / "run")
    assert loaded.seconds_ == {}
    assert math.isnan(loaded.fit_seconds_)


@pytest.mark.parametrize("seconds", [3, {"assign": "long"}, {"assign": -1.0}])
def test_seconds_that_make_no_sense_are_refused(blobs, tmp_path, seconds):
    KMeans(4, random_state=0).fit(blobs[:200]).save(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest | {"seconds": seconds}))
    with pytest.raises(ValueError, match="does not describe a fitted KMeans: seconds"):
        KMeans.load(tmp_path / "run")


def test_an_evaluation_has_them(blobs, tmp_path):
    km = KMeans(40, random_state=0).fit(blobs)
    found = evaluate(km, blobs, sample=200)
    assert (found.seconds, found.fit_seconds) == (km.seconds_, km.fit_seconds_)
    (line,) = (line for line in found.summary().splitlines() if line.startswith("seconds of the fit"))
    assert line.endswith(f"  {clock.in_words(km.seconds_)}")
    found.save(tmp_path)
    read = type(found).load(tmp_path)
    assert (read.seconds, read.fit_seconds) == (found.seconds, found.fit_seconds)
    of_labels = evaluate(km.labels_, blobs, sample=200)
    assert of_labels.seconds == {}
    assert math.isnan(of_labels.fit_seconds)
    assert "seconds of the fit" not in of_labels.summary()
    assert "seconds" in {f.name for f in fields(found)}


def test_the_command_line_and_the_report_say_them(blobs, tmp_path):
    np.save(tmp_path / "x.npy", blobs)
    run = tmp_path / "run"
    done = CliRunner().invoke(main, ["fit", str(tmp_path / "x.npy"), "-k", "40", "--quiet", "--out", str(run)])
    assert done.exit_code == 0, done.output
    told = clock.in_words(KMeans.load(run).seconds_)
    assert re.search(rf"^seconds +{re.escape(told)}$", done.stdout, re.M)
    assert "assign" in told
    assert told in report.build(run).read_text()
