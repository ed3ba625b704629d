"""Sweeps of searches of rows, and benchmarks over numbers of columns."""

from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import sparse
from sklearn.metrics import pairwise_distances

from fastann import bench, build_index, records, report, sweep
from fastann.cli import main
from fastann.study import worker
from fastann.study.data import made_up
from fastann.study.process import Answer


def here(order, **limits):
    """Does a run in this process."""
    return Answer("done", "", [], worker.carry_out(order, lambda phase: None))


swept = partial(sweep, what="search", seeds=1, n_jobs=1, runner=here)


@pytest.fixture(scope="module")
def x(blobs):
    return blobs[:2000]


@pytest.fixture(scope="module")
def q(blobs):
    return blobs[4000:4150]


def recall(ids, x, q, m, metric="euclidean"):
    far = pairwise_distances(q.astype(np.float64), x.astype(np.float64), metric=metric)
    best = np.sort(far, axis=1)[:, m - 1 : m]
    return (np.take_along_axis(far, ids[:, :m], 1) <= best * (1 + 1e-6)).mean()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_recalls_are_those_of_the_index(x, q, metric, tmp_path):
    names = ["ivf:nlist=16,nprobe=2", "hnsw:m=4,ef_search=8", "lsh:bits=32,rerank=100", "kd_tree", "brute"]
    done = swept(x, None, names, queries=q, m=[20, 1, 10], metric=metric, out=tmp_path / "out")
    assert {record.status for record in done.records} == {"done"}
    values = {record.method: record.values for record in done.records}
    for name in names:
        index, drawn = build_index(x, name, metric=metric, random_state=0), name.startswith(("ivf", "lsh"))
        for m in (1, 10, 20):
            found = recall(index.search(q, m)[1], x, q, m, metric)
            assert values[name][f"recall_{m}"] == pytest.approx(found, abs=0.1 if drawn else 1e-9)
            assert values[name][f"recall_{m}_low"] <= values[name][f"recall_{m}"] <= values[name][f"recall_{m}_high"]
        assert values[name]["throughput"] == pytest.approx(150 / values[name]["seconds"])
        assert values[name]["seconds_build"] > 0
    hnsw = values["hnsw:m=4,ef_search=8"]
    assert hnsw["recall_1"] < hnsw["recall_20"], "a search for one looks at 8 candidates, one for 20 at 20"
    assert values["brute"]["recall_20"] == values["kd_tree"]["recall_20"] == 1
    assert all("n_clusters" not in record.configuration for record in done.records)
    head = done.table().splitlines()[0]
    assert all(f"recall@{m}" in head for m in (1, 10, 20))
    assert done.best().values["recall_10"] >= 0.95
    page = report(tmp_path / "out").read_text(encoding="utf-8")
    assert "Sweep of searches of rows" in page
    assert "recall@10 against time" in page.lower()


def test_a_grid_over_rows_and_more_effort_is_skipped(x, q, tmp_path):
    grid = ["ivf:nlist=8|16,nprobe=1|8|16", "hnsw:m=8,ef_search=16|64"]
    done = swept(x, None, grid, queries=q[:20], m=5, prune=True, out=tmp_path / "out")
    assert len(done.records) == 1 + 6 + 2
    status = {record.method: record.status for record in done.records}
    assert status["ivf:nlist=8,nprobe=8"] == "done"
    assert status["ivf:nlist=8,nprobe=16"] == "skipped"


def test_without_queries_rows_are_no_neighbours_of_themselves(x, tmp_path):
    done = swept(x[:300], None, "ivf:nlist=30,nprobe=1", baseline="", sample=250, out=tmp_path / "out")
    assert done.study.settings["m"] == [1, 10, 100]
    values = done.records[0].values
    assert values["recall_1"] < 1, "the nearest row of a row is itself, which is in its own cell"
    assert done.records[0].values["recall_100"] == 1, "too few in a cell: searched exactly"


@pytest.mark.parametrize("kind", ["file", "sparse"])
def test_rows_and_queries_of_other_kinds(kind, x, q, tmp_path):
    rows, queries = x[:400], q
    if kind == "file":
        np.save(tmp_path / "x.npy", rows)
        np.save(tmp_path / "q.npy", queries)
        rows, queries = tmp_path / "x.npy", tmp_path / "q.npy"
    else:
        rows, queries = sparse.csr_matrix(np.maximum(rows, 0)), sparse.csr_matrix(np.maximum(queries, 0))
    done = swept(rows, None, ["auto"], queries=queries, m=3, out=tmp_path / "out")
    assert {record.values["recall_3"] for record in done.records} == {1.0}
    assert (tmp_path / "out" / "queries.npy").exists() is False
    assert (tmp_path / "out" / "queries.npz").exists() == (kind == "sparse")


def test_other_queries_are_another_study(x, q, tmp_path):
    swept(x[:100], None, "flat", queries=q, m=2, out=tmp_path / "out")
    with pytest.raises(records.RecordError, match="queries"):
        swept(x[:100], None, "flat", queries=q[:50], m=2, out=tmp_path / "out")
    with pytest.raises(records.RecordError, match="m = "):
        swept(x[:100], None, "flat", queries=q, m=3, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"indexes": ["vanilla"]}, "'vanilla' clusters; what='search' takes 'auto' and indexes"),
        ({"queries": [[1.0, 2.0]]}, "queries have 2 columns, and the rows have 24"),
        ({"m": 101}, "m=101 rows are asked for, and there are 100; lower m"),
        ({"m": 0}, "m must be >= 1"),
        ({"m": []}, "at least one number"),
    ],
)
def test_bad_searches_are_refused(changed, message, x, q, tmp_path):
    with pytest.raises(ValueError, match=message):
        swept(x[:100], **({"n_clusters": None, "indexes": ["flat"], "queries": q, "out": tmp_path / "out"} | changed))


def test_a_sweep_of_searches_from_the_command_line(x, q, tmp_path):
    np.save(tmp_path / "x.npy", x[:500])
    np.save(tmp_path / "q.npy", q)
    asked = ["sweep", tmp_path / "x.npy", "--what", "search", "--queries", tmp_path / "q.npy", "-m", "1,5"]
    asked += ["--index", "ivf:nlist=4,nprobe=1|4", "--seeds", 1, "--no-report", "--out", tmp_path / "out"]
    done = CliRunner().invoke(main, [str(a) for a in asked])
    assert done.exit_code == 0, done.output
    assert "recall@5" in done.output
    wrong = CliRunner().invoke(main, [str(a) for a in [*asked, "-k", 3]])
    assert wrong.exit_code == 2
    assert "--what search searches rows, not clusters; leave --n-clusters 3 out" in wrong.output


# --------------------------------------------------------------------- columns


def test_a_benchmark_over_numbers_of_columns(tmp_path):
    done = bench(
        None, 5, dims=[2, 9], sizes=[400], methods=["flat", "kd_tree"], baseline="flat", seeds=1, max_iter=3,
        n_jobs=1, out=tmp_path / "out", runner=here,
    )  # fmt: skip
    assert {(r.configuration["d"], r.method) for r in done.records} == {
        (d, method) for d in (2, 9) for method in ("flat", "kd_tree")
    }
    assert {record.status for record in done.records} == {"done"}
    inertia = {(r.configuration["d"], r.method): r.values["inertia"] for r in done.records}
    assert inertia[2, "flat"] == pytest.approx(inertia[2, "kd_tree"], rel=1e-6)
    assert inertia[9, "flat"] > inertia[2, "flat"]
    assert "columns" in done.table().splitlines()[0]
    page = report(tmp_path / "out").read_text(encoding="utf-8")
    assert "9 columns" in page
    assert not list((tmp_path / "out").glob("data.*"))


def test_made_up_rows_are_the_same_every_time():
    np.testing.assert_array_equal(made_up(100, 3), made_up(100, 3))
    assert made_up(100, 3).shape == (100, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": np.ones((10, 2)), "dims": [3]}, "rows, or dims .* got both"),
        ({}, "got neither"),
        ({"dims": [0]}, "dims must be >= 1"),
    ],
)
def test_rows_or_dims(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        bench(n_clusters=2, out=tmp_path / "out", **options)


def test_rows_or_dims_on_the_command_line(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((10, 2)))
    done = CliRunner().invoke(main, ["bench", str(tmp_path / "x.npy"), "--dims", "3", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "pass one of them" in done.output
