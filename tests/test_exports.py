"""A clustering in the formats of other programs."""

import csv

import faiss
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.exceptions import NotFittedError

from fastann import KMeans, PrototypeClassifier, export
from fastann.cli import main
from fastann.runs import exports
from fastann.storage import tables


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


def read(path):
    """A table's columns, as CSV or Parquet has them."""
    if path.suffix == ".parquet":
        found = pytest.importorskip("pyarrow.parquet").read_table(path)
        return {name: found[name].to_pylist() for name in found.column_names}
    with path.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    return dict(zip(head, map(list, zip(*lines, strict=True)), strict=True))


IDS = {
    "no ids": None,
    "integers": np.arange(500)[::-1] * 7,
    "strings": np.array([f'doc, "ü"\n{i}' for i in range(500)]),
}


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables(model, tmp_path, ids, format):
    path = tmp_path / f"tables ü.{format}"
    export(model, path, format, ids=IDS[ids])
    found = read(path)
    assert list(found) == ["row", *(["id"] if IDS[ids] is not None else []), "cluster", "distance"]
    if IDS[ids] is not None:
        assert list(map(str, found["id"])) == list(map(str, IDS[ids]))
    np.testing.assert_array_equal(np.array(found["row"], int), np.arange(500))
    np.testing.assert_array_equal(np.array(found["cluster"], int), model.labels_)
    np.testing.assert_array_equal(np.array(found["distance"], np.float32), model.distances_)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables_have_what_the_model_has(rows, tmp_path, format):
    km = KMeans(12, margins=True, random_state=0).fit(rows)
    km.ids_ = np.array([f"doc {i}" for i in range(500)])
    km.save(tmp_path / "run")
    path = tmp_path / f"assignments.{format}"
    export(KMeans.load(tmp_path / "run"), path, format)
    found = read(path)
    assert list(found) == ["row", "id", "cluster", "distance", "second_cluster", "margin"]
    assert found["id"] == km.ids_.tolist()
    np.testing.assert_array_equal(np.array(found["second_cluster"], int), km.second_labels_)
    np.testing.assert_array_equal(np.array(found["margin"], np.float32), km.margins_)
    export(km, path, format, ids=np.arange(500) + 3, force=True)
    assert list(map(int, read(path)["id"])) == list(range(3, 503))


@pytest.mark.parametrize("rows", [None, 1, 7, 499, 500, 501])
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables_in_pieces_of_any_size_hold_the_same(tmp_path, format, rows):
    columns = {"row": range(500), "id": IDS["strings"], "half": np.arange(500) / 2, "even": np.arange(500) % 2 == 0}
    tables.write(tmp_path / "whole", columns, format, rows=500)
    tables.write(tmp_path / "pieces", columns, format, rows=rows)
    if format == "csv":
        assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
        return
    parquet = pytest.importorskip("pyarrow.parquet")
    whole, pieces = (parquet.ParquetFile(tmp_path / name) for name in ("whole", "pieces"))
    with whole, pieces:
        assert pieces.num_row_groups == -(-500 // (rows or tables.GROUP_ROWS))
        assert pieces.read().to_pydict() == whole.read().to_pydict()


def test_types_of_parquet_columns(model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(model, tmp_path / "x.parquet", "parquet", ids=IDS["strings"])
    schema = parquet.read_schema(tmp_path / "x.parquet")
    assert list(map(str, schema.types)) == ["int64", "string", "int32", "float"]
    file = parquet.ParquetFile(tmp_path / "x.parquet")
    assert file.num_row_groups == 1
    file.close()


def test_a_table_that_fails_half_way_leaves_nothing(tmp_path):
    class Full:
        """A column whose second piece is too much for the disk."""

        def __len__(self):
            return 500

        def __getitem__(self, part):
            if part.start:
                raise OSError(28, "No space left on device")
            return range(part.stop)

    with pytest.raises(OSError, match="No space left"):
        tables.write(tmp_path / "x.csv", {"row": Full()}, "csv", rows=100)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("units", [2**16, 7])
def test_units_one_utterance_a_line(model, tmp_path, units):
    export(model, tmp_path / "units.km", "km", lengths=[200, 0, 300])
    exports.write_units(tmp_path / "parts.km", model.labels_, [200, 0, 300], units)
    assert (tmp_path / "parts.km").read_bytes() == (tmp_path / "units.km").read_bytes()
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


@pytest.mark.parametrize("format", exports.FORMATS)
def test_what_is_not_fitted_is_refused_as_such(tmp_path, format):
    with pytest.raises(NotFittedError, match="KMeans instance is not fitted yet"):
        export(KMeans(3), tmp_path / "x", format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "what", [lambda x: PrototypeClassifier(random_state=0).fit(x, np.arange(500) % 2), lambda x: "run"]
)
def test_what_is_no_clustering_is_refused(rows, tmp_path, what):
    with pytest.raises(
        TypeError, match=r"model must be a fitted fastann\.KMeans, got (PrototypeClassifier|str); .*load"
    ):
        export(what(rows), tmp_path / "x", "npy")


def test_existing_files_are_replaced_only_by_force(model, tmp_path):
    target = tmp_path / "c.npy"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists already; choose another path, or pass force \(--force\)"):
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
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("0,1000,")
    again = run("--format", "csv", "--out", tmp_path / "a.csv")
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert run("--format", "npy", "--force", "--out", tmp_path / "a.csv").exit_code == 0
    assert run("--format", "tar", "--out", tmp_path / "b").exit_code == 2
