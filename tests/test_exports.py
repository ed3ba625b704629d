"""A clustering in the formats of other programs."""

import csv

import faiss
import numpy as np
import pytest
from click.testing import CliRunner

from fastann import KMeans, export
from fastann.cli import main


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)


@pytest.fixture(scope="module", params=["euclidean", "cosine"])
def model(request, rows):
    return KMeans(12, metric=request.param, random_state=0).fit(rows)


def unit(x, model):
    return x / np.linalg.norm(x, axis=1, keepdims=True) if model.metric == "cosine" else x


def test_faiss_finds_the_labels(model, rows, tmp_path):
    export(model, tmp_path / "centres.index", "faiss")
    index = faiss.read_index(str(tmp_path / "centres.index"))
    assert index.ntotal == 12
    np.testing.assert_array_equal(index.search(unit(rows, model), 1)[1][:, 0], model.labels_)


def test_faiss_ivf_is_ready_to_be_filled(model, rows, tmp_path):
    export(model, tmp_path / "ivf.index", "faiss-ivf")
    index = faiss.read_index(str(tmp_path / "ivf.index"))
    assert index.is_trained
    assert index.ntotal == 0
    index.add(unit(rows, model))
    sizes = [index.invlists.list_size(j) for j in range(12)]
    np.testing.assert_array_equal(sizes, np.bincount(model.labels_, minlength=12))
    np.testing.assert_array_equal(index.search(unit(rows, model)[:50], 1)[1][:, 0], np.arange(50))


def test_centres(model, tmp_path):
    export(model, tmp_path / "c.npy", "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), model.cluster_centers_)


@pytest.mark.parametrize("ids", [None, np.arange(500)[::-1] * 7, np.array([f"doc, {i}" for i in range(500)])])
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables(model, tmp_path, ids, format):
    path = tmp_path / f"tables ü.{format}"
    export(model, path, format, ids=ids)
    if format == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file)
        names, labels, distances = zip(*lines, strict=True)
        assert head == ["row", "cluster", "distance"]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        names, labels, distances = (column.to_pylist() for column in parquet.read_table(path).columns)
    expected = np.arange(500) if ids is None else ids
    assert list(map(str, names)) == list(map(str, expected))
    np.testing.assert_array_equal(np.array(labels, int), model.labels_)
    np.testing.assert_array_equal(np.array(distances, np.float32), model.distances_)


def test_units_one_utterance_a_line(model, tmp_path):
    export(model, tmp_path / "units.km", "km", lengths=[200, 0, 300])
    lines = (tmp_path / "units.km").read_text().split("\n")
    assert len(lines) == 4
    assert lines[1] == lines[3] == ""
    np.testing.assert_array_equal(np.array(lines[0].split() + lines[2].split(), int), model.labels_)


@pytest.mark.parametrize(
    ("settings", "error", "parts"),
    [
        ({"format": "xml"}, ValueError, ["'xml'", "'faiss'", "'parquet'"]),
        ({"format": "csv", "ids": np.arange(3)}, ValueError, ["shape (3,)", "500 rows"]),
        ({"format": "csv", "ids": np.zeros(500)}, TypeError, ["float64", "integers or strings"]),
        ({"format": "km", "lengths": [3, 4]}, ValueError, ["add up to the 500 rows", "7"]),
        ({"format": "km", "lengths": [501, -1]}, ValueError, ["0 or more"]),
        ({"format": "km", "lengths": [0.5]}, TypeError, ["integers", "float64"]),
        ({"format": "csv", "lengths": [500]}, ValueError, ["lengths are for format='km'", "'csv'"]),
    ],
)
def test_what_does_not_match_is_refused(model, tmp_path, settings, error, parts):
    with pytest.raises(error) as refused:
        export(model, tmp_path / "x", **settings)
    for part in parts:
        assert part in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_existing_files_are_replaced_only_by_force(model, tmp_path):
    target = tmp_path / "c.npy"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match="exists already; pass force"):
        export(model, target, "npy")
    with pytest.raises(FileExistsError, match="is a folder"):
        export(model, tmp_path, "npy", force=True)
    assert target.read_text() == "mine"
    export(model, target, "npy", force=True)
    assert np.load(target).shape == (12, 8)


def test_command(model, rows, tmp_path):
    model.save(tmp_path / "run")
    np.save(tmp_path / "ids.npy", np.arange(500) + 1000)

    def run(*args):
        return CliRunner().invoke(main, ["export", str(tmp_path / "run"), *map(str, args)])

    done = run("--format", "csv", "--ids", tmp_path / "ids.npy", "--out", tmp_path / "a.csv")
    assert done.exit_code == 0, done.output
    assert "bytes written to" in done.output
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("1000,")
    again = run("--format", "csv", "--out", tmp_path / "a.csv")
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert run("--format", "npy", "--force", "--out", tmp_path / "a.csv").exit_code == 0
    assert run("--format", "tar", "--out", tmp_path / "b").exit_code == 2
