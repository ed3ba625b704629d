"""The one door for rows, what it refuses, and how rows reach another process."""

import json

import numpy as np
import pytest
from scipy import sparse

from fastann import open_source
from fastann.data.formats import FORMATS
from fastann.data.identity import sampled
from fastann.data.labels import read_labels
from fastann.data.limits import Limits
from fastann.data.open import as_source, can_reopen, in_files, reopen
from fastann.data.source import Subset
from fastann.data.whole import float32_rows, stored_rows


@pytest.fixture
def x(rng):
    return rng.integers(-9, 9, (300, 5)).astype(np.float32)


@pytest.fixture
def thin(tmp_path, x):
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(x))
    return tmp_path / "x.npz"


def test_sparse_rows_come_through_the_same_door(thin, x):
    folder = thin.parent
    for given in (sparse.csr_matrix(x), thin, [thin], folder, str(folder / "*.npz"), open_source(thin)):
        source = as_source(given, limits=Limits(chunk_bytes=100))
        assert source.sparse
        np.testing.assert_array_equal(source.take(np.arange(300)).toarray(), x)


def test_sparse_rows_are_refused_where_dense_ones_are_needed(thin, x):
    for given in (sparse.csr_matrix(x), as_source(thin)):
        with pytest.raises(TypeError, match=r"Sparse data was passed as X, but dense data is required.*\.toarray"):
            as_source(given, sparse=False)
    with pytest.raises(ValueError, match=r"x\.npz holds sparse data, but dense data is required"):
        as_source(thin, sparse=False)
    assert not as_source(x, sparse=False).sparse


def test_limits_reach_files_and_are_kept_by_copies(tmp_path, x):
    import pickle

    np.save(tmp_path / "x.npy", x)
    limits = Limits(chunk_bytes=200, at_once=7, direct_bytes=0, memory=0)
    for given in (x, tmp_path / "x.npy", [tmp_path / "x.npy"] * 2, sparse.csr_matrix(x), lambda: [x]):
        assert as_source(given, limits=limits).limits == limits
    copy = pickle.loads(pickle.dumps(as_source(tmp_path / "x.npy", limits=limits)))
    assert copy.limits == limits
    assert as_source(tmp_path / "x.npy", limits=limits).fingerprint() == open_source(tmp_path / "x.npy").fingerprint()


def test_every_suffix_is_in_the_table_of_formats():
    assert next(iter(FORMATS)) == ".npy"
    assert all(suffix.startswith(".") and callable(kind.open) for suffix, kind in FORMATS.items())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", ">f4"])
@pytest.mark.parametrize("kind", ["array", "file", "shards", "selection", "function", "Fortran"])
def test_another_process_finds_the_rows(tmp_path, x, kind, dtype):
    stored = x.astype(dtype)
    np.save(tmp_path / "x.npy", np.asfortranarray(stored) if kind == "Fortran" else stored)
    np.save(tmp_path / "x 2.npy", stored[:50])
    given = {
        "array": lambda: as_source(stored),
        "file": lambda: as_source(tmp_path / "x.npy"),
        "shards": lambda: as_source([tmp_path / "x.npy", tmp_path / "x 2.npy"]),
        "selection": lambda: Subset(as_source(tmp_path / "x.npy"), np.arange(0, 300, 7)),
        "function": lambda: as_source(lambda: iter([stored[:100], stored[100:]])),
        "Fortran": lambda: as_source(tmp_path / "x.npy"),
    }[kind]()
    given.limits = Limits(chunk_bytes=400)
    writes = []

    def write(source):
        writes.append(source)
        np.save(tmp_path / "written.npy", stored_rows(source))
        return tmp_path / "written.npy"

    known = json.loads(json.dumps(in_files(given, write)))
    assert bool(writes) == (kind not in ("file", "shards", "Fortran"))
    assert can_reopen(known)
    again = reopen(known)
    assert (again.n, again.d, again.stored) == (given.n, given.d, given.stored)
    assert sampled(again) == sampled(given)
    rows = stored_rows(again)
    assert rows.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(rows, stored_rows(given))
    np.testing.assert_array_equal(stored_rows(again, np.array([0, 3, 41])), rows[[0, 3, 41]])
    np.testing.assert_array_equal(float32_rows(again), rows.astype(np.float32))


def test_a_sampled_fingerprint_is_that_of_shape_and_rows(x):
    import hashlib

    assert sampled(as_source(x)) == hashlib.sha256(b"(300, 5)" + x.tobytes()).hexdigest()
    wide = np.arange(4 * 2**20, dtype=np.float32).reshape(-1, 64)
    at = np.unique(np.linspace(0, len(wide) - 1, 2**20 // 256).astype(np.int64))
    assert sampled(as_source(wide)) == hashlib.sha256(b"(65536, 64)" + wide[at].tobytes()).hexdigest()
    assert sampled(as_source(wide.astype(np.float64))) != sampled(as_source(wide))


def test_labels_in_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(**columns):
        parquet.write_table(pa.table(columns), tmp_path / "y.parquet")
        return tmp_path / "y.parquet"

    assert read_labels(write(kind=["b", "a"])).tolist() == ["b", "a"]
    assert read_labels(write(label=[3, 1], other=[0, 0])).tolist() == [3, 1]
    assert read_labels(write(a=["1", "2"], b=[0, 0]), "a").tolist() == ["1", "2"]  # text stays text
    assert read_labels(write(a=pa.array(["x", "y"]).dictionary_encode())).tolist() == ["x", "y"]
    for columns, parts in (
        ({"a": [1], "b": [2]}, ["no column 'label'", "'a', 'b'", "label_column='a'"]),
        ({"a": [1, None]}, ["row 1 of", "no 'a' (null)"]),
        ({"a": [[1.0], [2.0]]}, ["column 'a' of", "list", "integers or strings"]),
        ({"a": pa.array([], pa.int64())}, ["has no rows"]),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            read_labels(write(**columns))
        assert all(part in str(caught.value) for part in [*parts, "y.parquet"]), caught.value
    (tmp_path / "y.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read_labels(tmp_path / "y.parquet")
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_labels(tmp_path / "none.parquet")
