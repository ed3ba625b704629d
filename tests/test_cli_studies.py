"""The commands that measure, as a shell sees them."""

import json
import os
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse

from fastann import KMeans
from fastann.cli import common, main, studies
from fastann.records import load_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    np.save(path / "x.npy", np.random.default_rng(0).standard_normal((3000, 16)).astype("f"))
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_a_sweep_is_resumed_and_reported(folder):
    command = [
        "sweep",
        folder / "x.npy",
        "-k",
        40,
        "--index",
        "ivf:nlist=4,nprobe=1|4",
        "--seeds",
        1,
        "--what",
        "assign",
    ]
    first = run(*command, "--out", folder / "sweep")
    assert first.exit_code == 0, first.output
    records = load_records(folder / "sweep")
    assert {r.method for r in records} == {"flat", "ivf:nlist=4,nprobe=1", "ivf:nlist=4,nprobe=4"}
    stamps = {p.name: p.stat().st_mtime_ns for p in (folder / "sweep" / "runs").glob("*.json")}
    again = run(*command, "--out", folder / "sweep")
    assert again.exit_code == 0
    assert {p.name: p.stat().st_mtime_ns for p in (folder / "sweep" / "runs").glob("*.json")} == stamps
    (folder / "sweep" / "report.html").unlink()
    assert run("report", folder / "sweep").exit_code == 0
    assert "recall@1" in (folder / "sweep" / "report.html").read_text(encoding="utf-8")


def test_a_sweep_and_a_benchmark_take_what_fit_takes(folder):
    x = np.load(folder / "x.npy")
    (folder / "shards").mkdir()
    for i, rows in enumerate(np.split(x, 2)):
        np.save(folder / "shards" / f"part-{i}.npy", rows)
    x.tofile(folder / "rows.bin")
    options = ["-k", 10, "--seeds", 1, "--max-iter", 2, "--no-report"]
    shards = ["sweep", folder / "shards" / "*.npy", "--index", "flat", "--out", folder / "of-shards", *options]
    raw = ["bench", folder / "rows.bin", "--dtype", "float32", "--dim", 16, "--methods", "flat", *options]
    done = run(*shards)
    assert done.exit_code == 0, done.output
    done = run(*raw, "--out", folder / "of-raw")
    assert done.exit_code == 0, done.output
    inertias = [
        {r.values["inertia"] for r in load_records(folder / name) if r.method == "flat"}
        for name in ("of-shards", "of-raw")
    ]
    assert inertias[0] == inertias[1] != set()
    assert not list(folder.glob("of-*/data.npy"))


def test_an_evaluation_is_printed_saved_and_reported(folder):
    assert run("fit", folder / "x.npy", "-k", 5, "--out", folder / "run", "--quiet", "--report").exit_code == 0
    assert (folder / "run" / "report.html").is_file()
    truth = np.random.default_rng(1).integers(5, size=3000)
    np.save(folder / "truth.npy", truth)
    done = run("evaluate", folder / "run", folder / "x.npy", "--truth", folder / "truth.npy", "--out", folder / "ev")
    assert done.exit_code == 0, done.output
    assert "silhouette" in done.output
    assert "adjusted Rand index" in done.output
    assert json.loads((folder / "ev" / "evaluation.json").read_text())["k"] == 5
    lines = "".join(f"{row},{label}\n" for row, label in enumerate(truth))
    (folder / "truth.csv").write_text("row,kind\n" + lines, encoding="utf-8")
    table = run("evaluate", folder / "run", folder / "x.npy", "--truth", folder / "truth.csv", "--label-column", "kind")
    assert table.output in done.output
    assert (folder / "ev" / "report.html").is_file()
    assert run("report", folder / "run").exit_code == 0
    few = run("evaluate", folder / "run", folder / "x.npy", "--sample", 10)
    assert "--sample 50 would tell more" in few.output


def test_tune_says_what_its_budget_leaves_out():
    told = " ".join(run("tune", "--help").stdout.split())
    assert "Reading DATA, a short fit before and timing the fastest again afterwards come on top." in told


@pytest.mark.parametrize("options", [(), ("--metric", "cosine", "--dtype", "float32", "--dim", 8)])
def test_tune_prints_the_command_to_use(folder, options):
    data, fitted = folder / "x.npy", folder / f"fitted{len(options)}"
    if options:
        data = folder / "x 1.raw"
        np.load(folder / "x.npy")[:, :8].tofile(data)
    done = run("tune", data, "-k", 64, *options, "--recall", 0.9, "--index", "ivf", "--budget", "2s")
    assert done.exit_code == 0, done.output
    words = shlex.split(done.output.rstrip().splitlines()[-1])
    assert words[:3] == ["fastann", "fit", str(data)]
    assert words[words.index("--index") + 1].startswith("ivf:nlist=")
    assert words[-2:] == ["--out", "RUN"]
    done = run(*words[1:-1], fitted)
    assert done.exit_code == 0, done.output
    assert KMeans.load(fitted).metric == ("cosine" if options else "euclidean")


def test_estimate_prints_a_table():
    done = run("estimate", "--rows", "1e6", "--dims", 8, "-k", 100, "--index", "flat")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1].startswith("flat")
    assert "operations  assignment  update  closing" in done.output  # whole, as it is no terminal


@pytest.mark.parametrize("index", ["auto", "ivf:nlist=10,nprobe=2"])
def test_estimate_fits_a_terminal(monkeypatch, index):
    for module in (common, studies):
        monkeypatch.setattr(module, "width_of_lines", lambda: 80)
    done = run("estimate", "--rows", "1e8", "--dims", 8, "-k", 100, "--index", "flat", "--index", index)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert {"index", "operations", "memory", "a pass", "a fit"} <= set(re.split("  +", lines[0]))
    assert any(line.startswith("left out, as lines are short here: update") for line in lines)
    assert all(re.search(r"GiB.*[a-z]$", line) for line in lines[1:3])  # to the last column


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "{x}", "-k", 9, "--index", "tree", "--out", "{d}/s1"], "unknown index 'tree'"),
        (["sweep", "{x}", "-k", 9, "--index", "ivf:cells=3", "--out", "{d}/s2"], "no option 'cells'"),
        (["sweep", "{d}/none.npy", "-k", 9, "--index", "flat", "--out", "{d}/s3"], "none.npy"),
        (["sweep", "{x}", "-k", 9, "--index", "flat", "--what", "guess", "--out", "{d}/s4"], "what"),
        (["sweep", "{x}", "-k", 9000, "--index", "flat", "--out", "{d}/s5"], "--n-clusters 9000"),
        (["sweep", "{x}", "-k", 9, "--index", "flat", "--out", "{x}"], "x.npy"),
        (["bench", "{x}", "-k", "ten", "--out", "{d}/b1"], "--n-clusters must be numbers separated by commas"),
        (
            ["bench", "{x}", "-k", "1,000", "--out", "{d}/b1"],
            "--n-clusters 1,000: commas stand between numbers here; wri",
        ),
        (["bench", "{x}", "-k", "9.5", "--out", "{d}/b1"], "--n-clusters must be numbers separated by commas"),
        (["bench", "{x}", "-k", "9", "--sizes", "inf", "--out", "{d}/b1"], "--sizes must be numbers separated by com"),
        (["bench", "{x}", "-k", 9, "--methods", "magic", "--out", "{d}/b2"], "magic"),
        (["bench", "-k", 9, "--column", "v", "--out", "{d}/b3"], "give DATA too"),
        (["tune", "{x}", "-k", 9, "--budget", "soon"], "--budget must be a time such as 60s"),
        (["tune", "{x}", "-k", 9, "--recall", 1], "--recall must be below 1"),
        (["tune", "{d}/none.npy", "-k", 9], "none.npy"),
        (["evaluate", "{d}/nothing", "{x}"], "nothing"),
        (["estimate", "--rows", 10, "--dims", 4, "-k", 11], "--n-clusters 11"),
        (["report", "{d}"], "study.json"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(folder, arguments, message):
    given = [str(a).format(x=folder / "x.npy", d=folder) for a in arguments]
    done = run(*given)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    error = done.output[done.output.index("Error: ") :].strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_sweep_whose_every_run_fails_is_a_failure(folder):
    done = run(
        "sweep", folder / "x.npy", "-k", 9, "--index", "ivf:nlist=99", "--baseline", "", "--out", folder / "none"
    )
    assert done.exit_code == 1
    assert "every run failed, all 3 of them: ivf:nlist=99: ValueError: nlist=99 exceeds" in done.output


def test_tune_and_sweep_take_sparse_rows(folder):
    sparse.save_npz(folder / "x.npz", sparse.random(900, 30, 0.1, "csr", np.float32, random_state=0))
    done = run("tune", folder / "x.npz", "-k", 8, "--budget", "1s")
    assert done.exit_code == 0, done.output
    command = f"fastann fit {folder / 'x.npz'} -k 8 --metric euclidean --index flat --out RUN"
    assert done.output.rstrip().splitlines()[-1] == command
    done = run(
        "sweep", folder / "x.npz", "-k", 8, "--index", "auto", "--seeds", 1, "--no-report", "--out", folder / "sp"
    )
    assert done.exit_code == 0, done.output
    assert {r.status for r in load_records(folder / "sp")} == {"done"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_folder_is_an_error(folder):
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    done = run("sweep", folder / "x.npy", "-k", 9, "--index", "flat", "--out", locked / "s")
    assert done.exit_code == 1
    assert "Permission" in done.output
