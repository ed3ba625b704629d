"""Two builds are compared to the bit, each in a process that imports the right one, and timed in turns."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "bench").exists():
    pytest.skip("needs the benchmarks", allow_module_level=True)

from bench import builds  # noqa: E402


def command(*arguments):
    words = [sys.executable, "-m", "bench.builds", *map(str, arguments), "--tree", ROOT]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_first_difference_is_told():
    old = {"labels": np.arange(4, dtype=np.int32), "inertia": np.array(2.0), "stop": np.array("converged")}
    assert builds.difference(old, {name: value.copy() for name, value in old.items()}) == ""
    assert "labels: int32 (4,) became int64 (4,)" in builds.difference(old, old | {"labels": np.arange(4)})
    moved = old | {"labels": np.array([0, 1, 3, 3], np.int32)}
    assert builds.difference(old, moved) == "labels: 1 of 4 rows differ, by 0.33 relative at most"
    assert "1 of 1 rows differ, by 2.2e-16" in builds.difference(old, old | {"inertia": np.nextafter(2.0, 3)[()]})
    assert "'converged' became 'time limit'" in builds.difference(old, old | {"stop": np.array("time limit")})
    assert builds.difference(old, old | {"more": np.array(1)}) == "more: only in the present build"
    zeros = np.zeros((3, 2), np.float32)
    assert "3 of 3 rows" in builds.difference({"x": zeros}, {"x": -zeros})  # equal numbers, other bits


def test_what_a_case_comes_to():
    fine, failed = {"a": np.array(1)}, {"failed": np.array("ValueError: no")}
    assert builds.verdict(fine, fine) == (True, "equal: 1 arrays")
    assert builds.verdict(failed, failed) == (False, "failed in the other build: ValueError: no")
    assert builds.verdict(fine, None) == (False, "no result from the present build")
    assert builds.verdict(fine, {"refused": np.array("x")}) == (True, "refused by the present build: x")


def test_a_commit_is_checked_out_and_removed(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("then")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "file").write_text("now")
    with builds.checkout("HEAD", tmp_path) as tree:
        assert (tree / "file").read_text() == "then"
    listed = subprocess.run([*git, "worktree", "list"], check=True, capture_output=True, text=True).stdout
    assert not tree.exists()
    assert len(listed.splitlines()) == 1


def test_another_build_than_the_one_asked_for_is_refused(tmp_path, capfd):
    (tmp_path / "fastann.py").write_text("")
    with pytest.raises(SystemExit, match="failed"):
        builds.run(tmp_path / "elsewhere", 1, "same", {"cases": [], "out": str(tmp_path)})
    assert "which does not lie in" in capfd.readouterr().err


def test_a_build_equals_itself():
    done = command("same", "--cases", "integers", "classifier, softmax", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "2 cases, 0 different" in done.stdout


def test_turns_and_ratios():
    assert builds.turns(2) == ["other", "present", "present", "other"]
    row = builds.line("case", {"other": [1.0, 1.0, 2.0], "present": [1.1, 1.0, 2.4]}, {"other": 0.5, "present": None})
    assert row == ["case", "1", "1.1", "1.100", "1.00 to 1.20", "0.5", "-", "slower"]


def test_both_builds_are_timed():
    done = command("speed", "--cases", "classifier, 1,000", "import", "--pairs", 1, "--shrink", 40, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "| classifier, 1,000 batches of 16 |" in done.stdout
    assert "| import fastann " in done.stdout


def test_missing_data_is_told(tmp_path, capsys):
    args = argparse.Namespace(cases=["sentences"], data=str(tmp_path), pairs=1, threads=1, shrink=1, avx2=False)
    assert builds.speed({"other": ROOT, "present": ROOT}, args) == 0
    assert "sentences, 1,024: skipped, as wordnet_117k_384.f16.npy" in capsys.readouterr().out
