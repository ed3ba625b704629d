"""The benchmarks of memory, sparse rows and large files run, and report what they ran."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "bench").exists() or sys.platform != "linux", reason="needs the benchmarks, and Linux's /proc"
)


def bench(name, *arguments):
    command = [sys.executable, "-m", f"bench.{name}", *map(str, arguments)]
    env = os.environ | {"GIT_DIR": os.devnull}  # whatever the commit is
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(out):
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    return {r.get("method", r.get("in_memory")): r for r in found}


def test_memory(tmp_path):
    folders = ["--out", tmp_path / "out", "--cache", tmp_path]
    methods = "fastann,fastann-npy16,superkmeans"
    table = bench("memory", "--small", "--methods", methods, *folders)
    found = records(tmp_path / "out")
    assert all(found[name]["status"] == "done" for name in ("fastann", "fastann-npy16"))
    assert found["fastann"]["by"] == "VmHWM" or "sampled" in found["fastann"]["by"]
    assert found["fastann-npy16"]["held"] == 0
    assert found["fastann"]["ratio"] > 1
    assert "superkmeans" in table  # a failure is a row too
    assert str(tmp_path) not in table


def test_sparse(tmp_path):
    methods = "fastann-flat,sklearn"
    table = bench("sparse", "--small", "--methods", methods, "--out", tmp_path / "out", "--cache", tmp_path)
    found = records(tmp_path / "out")
    assert all(r["status"] == "done" for r in found.values())
    assert found["fastann-flat"]["inertia"] == pytest.approx(found["sklearn"]["inertia"], rel=1e-5)
    assert "+0.0000%" in table


def test_a_file_by_its_path_and_its_rows_in_memory(tmp_path):
    file, out = tmp_path / "rows.npy", ["--out", tmp_path / "out"]
    assert "270,000 x 64 rows of float16" in bench("outofcore", "make", file, "--small", "--dtype", "float16")
    bench("outofcore", "run", file, "--small", "--max-iter", 2, *out)
    table = bench("outofcore", "run", file, "--small", "--max-iter", 2, "--in-memory", "--rows", 265_000, *out)
    found = records(tmp_path / "out")
    assert all(r["status"] == "done" for r in found.values())
    iterations = [s for s in found[False]["steps"] if s["what"] == "iteration"]
    assert {s["rows"] for s in iterations} == {67_500, 270_000}  # a sample, then all rows
    assert sum(s["seconds"] for s in found[False]["steps"]) == pytest.approx(found[False]["seconds"], rel=0.05)
    assert "file / memory" in table
