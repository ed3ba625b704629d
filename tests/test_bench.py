"""Every benchmark runs, and reports what it ran."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_gpu import Cards

from fastann.index.faiss import faiss
from fastann.index.gpu import visible

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "bench").exists() or sys.platform != "linux", reason="needs the benchmarks, and Linux's /proc"
)


def bench(name, *arguments):
    command = [sys.executable, "-m", "bench", name, *map(str, arguments)]
    env = os.environ | {"GIT_DIR": os.devnull}  # whatever the commit is
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(capsys, monkeypatch):
    """A benchmark whose runs are done in this process: what it prints."""
    from bench.__main__ import main

    monkeypatch.setenv("GIT_DIR", os.devnull)

    def run(name, *arguments):
        main([name, "--here", "--small", *map(str, arguments)])
        return capsys.readouterr().out

    return run


def records(out):
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    return {r.get("method", r.get("in_memory")): r for r in found}


def test_the_measure_of_quality_agrees_with_one_that_owes_this_package_nothing():
    from bench.data import mixture
    from bench.measures import inertia, quality

    x = mixture(5000, 24)
    centers = x[np.random.default_rng(1).choice(len(x), 60, replace=False)].copy()
    centers[7] = 1e3  # so far away that no row is nearest
    found = quality(x, centers)
    assert found["inertia"] == pytest.approx(inertia(x, centers), rel=1e-10)
    assert found["empty"] == 1
    pair = quality(np.array([[0.0], [0.1], [0.2], [9.0]], np.float32), np.array([[0.0], [9.0]], np.float32))
    assert pair["imbalance"] == 2 * (9 + 1) / 16
    assert (pair["size_cv"], pair["largest"], pair["scanned_p99"]) == (0.5, 1.5, 3)


def test_engine(tmp_path, here):
    out = ["--out", tmp_path / "out", "--cache", tmp_path]
    command = ["engine", "--data", "mixture:3000:8", *out]
    table = here(*command)
    found = records(tmp_path / "out")
    assert {r["status"] for r in found.values()} == {"done"}
    assert found["fastann-flat"]["inertia"] == pytest.approx(found["faiss-25"]["inertia"], rel=0.1)
    assert found["faiss-25"]["course"]
    assert "Seconds to 1.01, 1.005, 1 times the mean inertia of faiss-25" in table
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    here(*command)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")} == stamps


def test_flat(tmp_path, here):
    table = here("flat", "--out", tmp_path / "out", "--cache", tmp_path)
    assert "mixture:20000:32, k=64, 10 iterations: fastann" in table
    inertias = [r["inertia"] for r in records(tmp_path / "out").values()]
    assert inertias[0] == pytest.approx(inertias[1], rel=1e-4), "the same iterations from the same start"


def test_first(tmp_path, here):
    table = " ".join(here("first", "--only", "tenth,row", "--out", tmp_path / "out", "--cache", tmp_path).split())
    assert "| tenth | 20,000 x 384, k=100 | fastann |" in table
    assert "| row | k=1,000 | scikit-learn |" in table


def test_names_that_faiss_has_for_gpus(monkeypatch, capsys):
    from bench.cases import gpu_names

    used = gpu_names.used()
    assert {"index_cpu_to_gpu", "StandardGpuResources", "IndexShards", "index_factory", "isGpuIndex"} <= set(used)
    stand_in = Cards(faiss(), 2)
    monkeypatch.setitem(sys.modules, "faiss", stand_in)
    gpu_names.main([])
    assert capsys.readouterr().out.count("right") == len(gpu_names.CHECKS)
    stand_in.GpuMultipleClonerOptions = SimpleNamespace  # takes any option, and has none
    stand_in.GpuParameterSpace = lambda: SimpleNamespace(set_index_parameter=lambda *args: None)
    stand_in.index_cpu_to_gpu = lambda provider, index: index
    with pytest.raises(SystemExit):
        gpu_names.main([])
    told = capsys.readouterr().out
    assert "AssertionError: GpuMultipleClonerOptions has no shard" in told
    assert "AssertionError: nprobe does not reach Index" in told
    assert "TypeError: too many positional arguments" in told
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(__version__="1.15.1"))
    with pytest.raises(SystemExit, match=r"FAISS 1\.15\.1 here is a build for CPUs"):
        gpu_names.main([])


def test_gpu(tmp_path, here, monkeypatch):
    if not visible(faiss()):
        assert "sees no card: nothing was run" in here("gpu", "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    some = ("auto", "ivf:nprobe=8", "factory:PCA16,IVF64,Flat;nprobe=8")
    monkeypatch.setattr("bench.cases.gpu.INDEXES", some)
    monkeypatch.setattr("bench.cases.gpu.SMALL", {"rows": 2000, "columns": 32, "k": 80, "max_iter": 1})
    monkeypatch.setitem(sys.modules, "faiss", Cards(faiss(), 2))
    faiss.cache_clear()
    try:
        table = here("gpu", "--out", tmp_path / "out")
    finally:
        faiss.cache_clear()
    found = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert {r["status"] for r in found} == {"done"}
    assert len(found) == 3 * len(some) - 1  # FAISS has no shards of what is transformed first
    assert all(r["same"] == r["inertia"] == 1 for r in found), "the stand-in for a card is the CPU"
    assert {r["found"] for r in found} == {"cuda:0", "cuda:0,cuda:1", "cuda:0,cuda:1 (sharded)"}
    assert "| ivf:nprobe=8 on cuda:all, shard" in table


def test_scaling(tmp_path, here):
    table = here("scaling", "--out", tmp_path / "out", "--cache", tmp_path)
    assert "Growth with k" in table
    assert "Growth with n at k=16" in table
    assert "predict at k=32" in table


def test_classifier(tmp_path, here):
    cases = ["--cases", "sparse", "--methods", "fastann"]
    table = here("classifier", "--seeds", 1, *cases, "--out", tmp_path / "out")
    found = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert {(r["case"], r["method"], r["status"]) for r in found} >= {("sparse", "fastann", "done")}
    assert all({"accuracy", "fit_seconds", "fit_mb", "numbers", "about"} <= set(r) for r in found)
    assert "x half the rows" in table


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


def test_sparse(tmp_path, here):
    methods = "fastann-flat,sklearn"
    table = here("sparse", "--methods", methods, "--out", tmp_path / "out", "--cache", tmp_path)
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
    sizes = [s["rows"] for s in iterations]  # a sample, with the rows it starts from; then all rows
    assert 67_500 <= sizes[0] <= 67_564  # 64 clusters
    assert sizes[-1] == 270_000
    assert sum(s["seconds"] for s in found[False]["steps"]) == pytest.approx(found[False]["seconds"], rel=0.05)
    assert "file / memory" in table
