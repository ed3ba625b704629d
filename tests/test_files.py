"""Rows in files of every format are the rows that were written, whatever way and in whatever shards they lie."""

import copy
import gc
import json
import os
import pickle
import sys
import threading
import time
import traceback
from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

import fastann
from fastann import KMeans, open_source
from fastann.data import ahead
from fastann.data.blocks import FunctionSource
from fastann.data.identity import check_unchanged
from fastann.data.limits import Limits
from fastann.data.open import as_source, reopen
from fastann.data.paths import natural
from fastann.data.shards import Shards
from fastann.data.source import ArraySource, Centred, Source, Subset, UnitNorm

SMALL_CHUNKS = Limits(chunk_bytes=5 * 4 * 37)
NUMBERS = ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64"]


@pytest.fixture
def grid(rng):
    """300 rows of small whole numbers, exact in every dtype, bfloat16 too."""
    return rng.integers(0, 100, (300, 5))


def whole(source, rows=None):
    return np.concatenate([block for _, block in source.chunks(rows)])


def refusal(error, call, *args, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def refused(message, *parts):
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in {message!r}"


# --------------------------------------------------------------------------- writing each format


def halves(x):
    """Bits of bfloat16."""
    return (np.asarray(x, np.float32).view(np.uint32) >> 16).astype("<u2")


def write_vecs(path, x):
    d = np.full((len(x), 1), x.shape[1], "<i4")
    path.write_bytes(np.hstack([d.view(np.uint8), np.ascontiguousarray(x).view(np.uint8)]).tobytes())


def write_bin(path, x):
    path.write_bytes(np.array(x.shape, "<i4").tobytes() + np.ascontiguousarray(x).tobytes())


def write_safetensors(path, x):
    from safetensors.numpy import save_file

    save_file({"bias": np.zeros(3, np.float32), "embedding": np.ascontiguousarray(x)}, path)


def write_bf16_tensor(path, x):
    body = halves(x).tobytes()
    header = json.dumps({"w": {"dtype": "BF16", "shape": x.shape, "data_offsets": [0, len(body)]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)


def arrow_table(x, kind="fixed", ids=None):
    pa = pytest.importorskip("pyarrow")
    x = np.ascontiguousarray(x)
    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    else:
        offsets = np.arange(len(x) + 1) * x.shape[1]
        wide = kind == "large"
        make = pa.LargeListArray if wide else pa.ListArray
        column = make.from_arrays(pa.array(offsets, pa.int64() if wide else pa.int32()), pa.array(x.ravel()))
    return pa.table({"id": pa.array(np.arange(len(x)) if ids is None else ids), "embedding": column})


def write_parquet(path, x, kind="fixed", ids=None, rows=64):
    table = arrow_table(x, kind, ids)
    pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=rows)


def write_arrow(path, x, kind="fixed", ids=None, rows=64):
    table = arrow_table(x, kind, ids)
    pa = pytest.importorskip("pyarrow")
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table, rows)


def write_stream(path, x):
    table = arrow_table(x)
    pa = pytest.importorskip("pyarrow")
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as file:
        file.write_table(table, 64)


def write_feather(path, x):
    table = arrow_table(x, "large")
    pytest.importorskip("pyarrow.feather").write_feather(table, str(path), compression="lz4", chunksize=64)


def write_h5(path, x):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["train"], file["test"] = x, x[:2]


def write_zarr(path, x):
    array = pytest.importorskip("zarr").open(str(path), mode="w", shape=x.shape, dtype=x.dtype, chunks=(64, 3))
    if len(x):
        array[:] = x


def write_text(path, x, mark=",", head=True):
    head = mark.join(f"x{i}" for i in range(x.shape[1])) + "\n" if head else ""
    path.write_text(head + "".join(mark.join(map(repr, row)) + "\n" for row in x.tolist()))


def write_wide(path, x):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({f"x{i}": np.ascontiguousarray(x[:, i]) for i in range(x.shape[1])})
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=64)
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table, 64)


# name: suffix, writer, dtypes that it can hold, options
FORMATS = {
    "npy": (".npy", np.save, [*NUMBERS, "bool", ">f4"], {}),
    "npy bfloat16": (".npy", lambda path, x: np.save(path, halves(x).view("V2")), ["bfloat16"], {"dtype": ""}),
    "raw named .npy": (".npy", lambda path, x: path.write_bytes(x.tobytes()), ["float32", "int8"], {"d": 5}),
    "npz": (".npz", lambda path, x: np.savez(path, x), [*NUMBERS, "bool", ">f4"], {}),
    "npz, compressed": (".npz", lambda p, x: np.savez_compressed(p, y=x[:, 0], x=x), ["float32"], {}),
    "csv": (".csv", write_text, ["float64"], {}),
    "csv without names": (".csv", lambda path, x: write_text(path, x, head=False), ["float64"], {}),
    "csv of semicolons": (".csv", lambda path, x: write_text(path, x, ";"), ["float64"], {}),
    "tsv": (".tsv", lambda path, x: write_text(path, x, "\t"), ["float64"], {}),
    "parquet, wide": (".parquet", write_wide, NUMBERS, {}),
    "arrow, wide": (".arrow", write_wide, NUMBERS, {}),
    "raw": (".bin", lambda path, x: path.write_bytes(x.tobytes()), NUMBERS, {"d": 5}),
    "raw of another suffix": (".dat", lambda path, x: path.write_bytes(x.tobytes()), ["float32"], {"d": 5}),
    "raw bfloat16": (".raw", lambda p, x: p.write_bytes(halves(x).tobytes()), ["bfloat16"], {"d": 5}),
    "fvecs": (".fvecs", write_vecs, ["float32"], {}),
    "ivecs": (".ivecs", write_vecs, ["int32"], {}),
    "bvecs": (".bvecs", write_vecs, ["uint8"], {}),
    "fbin": (".fbin", write_bin, ["float32"], {}),
    "f16bin": (".f16bin", write_bin, ["float16"], {}),
    "raw of DiskANN": (".bin", write_bin, ["float32", "int8", "uint8"], {"dtype": ""}),
    "raw of DiskANN with d": (".bin", write_bin, ["float32", "float16"], {"d": 5}),
    "u8bin": (".u8bin", write_bin, ["uint8"], {}),
    "i8bin": (".i8bin", write_bin, ["int8"], {}),
    "safetensors": (".safetensors", write_safetensors, [*NUMBERS, "bool"], {}),
    "safetensors bfloat16": (".safetensors", write_bf16_tensor, ["bfloat16"], {}),
    "parquet": (".parquet", write_parquet, NUMBERS, {}),
    "parquet lists": (".parquet", lambda path, x: write_parquet(path, x, "list"), NUMBERS, {}),
    "parquet large lists": (".parquet", lambda path, x: write_parquet(path, x, "large"), ["float32"], {}),
    "arrow": (".arrow", write_arrow, [*NUMBERS, "bool"], {}),
    "arrow lists": (".arrow", lambda path, x: write_arrow(path, x, "list"), NUMBERS, {}),
    "arrow stream": (".arrow", write_stream, NUMBERS, {}),
    "feather": (".feather", write_feather, NUMBERS, {}),
    "hdf5": (".h5", write_h5, [*NUMBERS, ">f4"], {}),
    "hdf5 bfloat16": (".h5", lambda path, x: write_h5(path, halves(x).view("V2")), ["bfloat16"], {"dtype": ""}),
    "zarr": (".zarr", write_zarr, NUMBERS, {}),
    "zarr bfloat16": (".zarr", lambda path, x: write_zarr(path, halves(x)), ["bfloat16"], {"dtype": ""}),
}
BFLOAT16 = [name for name in FORMATS if "bfloat16" in name]
CASES = [(name, dtype) for name, (_, _, dtypes, _) in FORMATS.items() for dtype in dtypes]
# Of the others no rows are no bytes, or no numbers.
NO_ROWS = [name for name in FORMATS if not any(kind in name for kind in ("raw", "vecs", "csv", "tsv"))]


def values(x, dtype):
    return np.asarray(x, np.float32 if dtype == "bfloat16" else dtype)


def write(folder, name, x, dtype, stem="x"):
    """Write a file; returns its path and the options that it is opened with."""
    suffix, writer, _, options = FORMATS[name]
    path = folder / (stem + suffix)
    writer(path, values(x, dtype))
    return path, options | ({"dtype": dtype} if options else {})


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_file_gives_the_rows_that_were_written(tmp_path, grid, name, dtype):
    path, options = write(tmp_path, name, grid, dtype)
    source = open_source(path, **options)
    expected = values(grid, dtype).astype(np.float32)
    assert (source.n, source.d, source.stored) == (300, 5, str(np.dtype(dtype)) if dtype != "bfloat16" else dtype)
    np.testing.assert_array_equal(whole(source), expected)
    np.testing.assert_array_equal(whole(source, 70), expected)
    block = source.native(slice(60, 140))
    assert block.dtype == source.dtype
    np.testing.assert_array_equal(block, expected[60:140])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "picks", [[], [0], [299], [3, 3, 64, 65, 290], [290, 1, 64, 1], list(range(299, -1, -3))], ids=str
)
def test_take_gives_rows_in_the_order_asked_for(tmp_path, grid, name, picks):
    dtype = FORMATS[name][2][0]
    path, options = write(tmp_path, name, grid, dtype)
    taken = open_source(path, **options).take(np.array(picks, np.int64))
    np.testing.assert_array_equal(taken, grid[picks].astype(np.float32))
    assert taken.shape == (len(picks), 5)


@pytest.mark.parametrize("name", FORMATS)
def test_shards_of_unequal_sizes_give_their_rows_one_after_the_other(tmp_path, grid, name):
    dtype = FORMATS[name][2][0]
    cuts = [0, 1, 1, 120, 300] if name in NO_ROWS else [0, 1, 120, 300]
    for i, (a, b) in enumerate(pairwise(cuts)):
        _, options = write(tmp_path, name, grid[a:b], dtype, f"x-{i + 8}")
    suffix = FORMATS[name][0]
    source = open_source(f"{tmp_path}/x-*{suffix}", **options)
    assert isinstance(source, Shards)
    source.limits = SMALL_CHUNKS
    for shard in source.shards:
        shard.limits = SMALL_CHUNKS
    for rows in (None, 1, 7, 119, 120, 300, 1000):
        np.testing.assert_array_equal(whole(source, rows), grid)
    picks = np.array([299, 0, 119, 120, 1, 0, 118])
    np.testing.assert_array_equal(source.take(picks), grid[picks])
    np.testing.assert_array_equal(source.take(np.sort(picks)), grid[np.sort(picks)])
    np.testing.assert_array_equal(np.concatenate([b for _, b in source.chunks(50, slice(100, 220))]), grid[100:220])


@pytest.mark.parametrize("name", FORMATS)
def test_a_source_can_be_pickled_and_copied(tmp_path, grid, name):
    path, options = write(tmp_path, name, grid, FORMATS[name][2][0])
    source = open_source([path, path], **options)
    source.take(np.array([3]))
    for other in (pickle.loads(pickle.dumps(source)), copy.deepcopy(source.shards[0]), copy.copy(source.shards[0])):
        np.testing.assert_array_equal(other.take(np.array([7])), grid[[7]])
    assert len(pickle.dumps(source)) < 5000


@pytest.mark.parametrize("name", FORMATS)
def test_paths_with_spaces_unicode_and_glob_characters(tmp_path, grid, name):
    folder = tmp_path / "mit Leerzeichen 日本語 [1]*"
    folder.mkdir()
    path, options = write(folder, name, grid, FORMATS[name][2][0], "ünï çødé?")
    np.testing.assert_array_equal(whole(open_source(path, **options)), grid)
    np.testing.assert_array_equal(whole(open_source([str(path), str(path)], **options)), np.concatenate([grid, grid]))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_file_of_its_suffix_is_refused_by_name(tmp_path, grid, name):
    path, options = write(tmp_path, name, grid, FORMATS[name][2][0])
    missing = path.with_stem("missing")
    refused(refusal(FileNotFoundError, open_source, missing, **options), str(missing), "check the path")
    if path.is_file():
        size = path.stat().st_size
        os.truncate(path, size - 3)
        if path.suffix not in (".csv", ".tsv"):  # whose last number may be any
            refused(refusal(ValueError, lambda: whole(open_source(path, **options))), str(path))
        path.write_bytes(b"")
        refused(refusal(ValueError, open_source, path, **options), str(path), "is empty (0 bytes)", "write it again")
        if "raw" not in name:
            path.write_bytes(b"\0\1\2\3 this is text, and no numbers at all" * 3)
            refused(refusal(ValueError, open_source, path, **options), str(path))
        path.unlink()
        path.mkdir()
        (path / "inside").write_bytes(b"")
        refused(refusal(ValueError, open_source, path, **options), str(path), "is a folder")
        refused(refusal(ValueError, open_source, f"{tmp_path}/x*", **options), str(path), "is a folder", "needed")


@pytest.mark.parametrize("name", NO_ROWS)
def test_a_source_without_rows_is_refused(tmp_path, grid, name):
    path, options = write(tmp_path, name, grid[:0], FORMATS[name][2][0])
    refused(refusal(ValueError, open_source, [path, path], **options), str(path), "0 sample(s)", "at least one row")


# --------------------------------------------------------------------------- fits


@pytest.mark.parametrize("name", ["npy", "parquet", "arrow stream", "hdf5", "zarr", "fvecs", "safetensors bfloat16"])
def test_a_fit_to_shards_is_the_fit_to_the_array(tmp_path, grid, name):
    dtype = "float32" if "float32" in FORMATS[name][2] else FORMATS[name][2][0]
    for i, (a, b) in enumerate([(0, 50), (50, 51), (51, 300)]):
        write(tmp_path, name, grid[a:b], dtype, f"x-{i + 9}")
    expected = KMeans(4, random_state=0).fit(grid.astype(np.float32))
    for x in (tmp_path, f"{tmp_path}/x-*", as_source(str(tmp_path))) if name == "npy" else (tmp_path,):
        given = as_source(x, limits=SMALL_CHUNKS)
        km = KMeans(4, random_state=0).fit(given)
        np.testing.assert_array_equal(km.labels_, expected.labels_)
        np.testing.assert_array_equal(km.cluster_centers_, expected.cluster_centers_)
        np.testing.assert_array_equal(km.predict(given), km.labels_)


def test_a_fit_to_one_file_is_the_fit_to_the_array(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid.astype(np.float16))
    write_parquet(tmp_path / "x.parquet", grid.astype(np.float16))
    expected = KMeans(4, random_state=0).fit(grid)
    for name in ("x.npy", "x.parquet"):
        np.testing.assert_array_equal(KMeans(4, random_state=0).fit(tmp_path / name).labels_, expected.labels_)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_bfloat16_far_from_the_origin_is_centred_as_numbers(tmp_path, grid, metric):
    x = grid.astype(np.float32) + 1024
    (tmp_path / "x.bin").write_bytes(halves(x).tobytes())
    read = open_source(tmp_path / "x.bin", dtype="bfloat16", d=5)
    seen = (halves(x).astype(np.uint32) << 16).view(np.float32)
    km = KMeans(4, metric=metric, random_state=0).fit(read)
    np.testing.assert_array_equal(km.labels_, KMeans(4, metric=metric, random_state=0).fit_predict(seen))


def test_nan_in_a_shard_is_named_by_its_row(tmp_path, grid):
    x = grid.astype(np.float32)
    np.save(tmp_path / "x-1.npy", x)
    x[17, 2] = np.nan
    np.save(tmp_path / "x-2.npy", x)
    refused(refusal(ValueError, KMeans(3).fit, tmp_path), "contains NaN", "row 317, column 2")


# --------------------------------------------------------------------------- finding files


def test_shards_are_sorted_naturally(tmp_path):
    for i in (10, 2, 1, 33):
        np.save(tmp_path / f"shard-{i}.npy", np.full((2, 3), i))
    for given in (tmp_path, str(tmp_path / "*.npy"), str(tmp_path / "shard-?*.npy")):
        assert whole(open_source(given))[:, 0].tolist() == [1, 1, 2, 2, 10, 10, 33, 33]
    assert sorted(map(natural, ["a", "a1", "1a", "b-2-x", "b-10", "²", "x٣"]))  # any names compare


def test_a_list_keeps_its_order_and_may_mix_formats_globs_and_folders(tmp_path, grid):
    x = grid.astype(np.float32)
    (tmp_path / "more").mkdir()
    np.save(tmp_path / "b.npy", x[:10])
    write_vecs(tmp_path / "a.fvecs", x[10:30])
    np.save(tmp_path / "more" / "c1.npy", x[30:40])
    np.save(tmp_path / "more" / "c2.npy", x[40:])
    given = (str(tmp_path / "b.npy"), tmp_path / "a.fvecs", tmp_path / "more")
    np.testing.assert_array_equal(whole(as_source(given)), x)
    np.testing.assert_array_equal(whole(as_source([*given[:2], f"{tmp_path}/**/c*.npy"])), x)


def test_a_folder_ignores_what_holds_no_rows(tmp_path, grid):
    for name in ("README.md", ".hidden.npy", "meta.json"):
        (tmp_path / name).write_text("no rows")
    np.save(tmp_path / "x.npy", grid)
    np.testing.assert_array_equal(whole(open_source(tmp_path)), grid)


def test_a_folder_of_raw_files(tmp_path, grid):
    for i in (9, 10):
        (tmp_path / f"x{i}.raw").write_bytes(grid.astype(np.float16)[(i - 9) * 150 :][:150].tobytes())
    np.save(tmp_path / "labels.npy", np.zeros(300))
    np.testing.assert_array_equal(whole(open_source(tmp_path, dtype="float16", d=5)), grid)


def test_a_folder_of_several_kinds_is_refused(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid)
    np.save(tmp_path / "y.npy", grid)
    write_bin(tmp_path / "x.fbin", grid.astype(np.float32))
    refused(refusal(ValueError, open_source, tmp_path), str(tmp_path), "1 .fbin, 2 .npy", "glob")


def test_a_folder_of_zarr_arrays(tmp_path, grid):
    write_zarr(tmp_path / "x-2.zarr", grid[:100])
    write_zarr(tmp_path / "x-10.zarr", grid[100:])
    np.testing.assert_array_equal(whole(open_source(tmp_path)), grid)


BAD_PATHS = {
    "": (FileNotFoundError, ["the path is empty"]),
    "no/*.npy": (FileNotFoundError, ["no file matches", "no/*.npy", "check the path"]),
    "x.pdf": (ValueError, ["is a .pdf file", ".npy file (numpy.save) is needed", ".parquet", "dtype=..., d=..."]),
    "x": (ValueError, ["is a suffix-less file", ".npy file (numpy.save) is needed"]),
    "folder": (ValueError, ["is a folder without files of rows", ".npy files (numpy.save)"]),
}


@pytest.mark.parametrize("name", BAD_PATHS)
def test_paths_that_hold_no_rows_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.pdf").write_text("1,2")
    (tmp_path / "x").write_text("1,2")
    error, parts = BAD_PATHS[name]
    refused(refusal(error, open_source, name), *parts)


def test_sparse_shards_are_refused(tmp_path, grid):
    for name in ("a.npz", "b.npz"):
        sparse.save_npz(tmp_path / name, sparse.csr_matrix(grid))
    for given in (tmp_path, str(tmp_path / "*.npz"), [tmp_path / "a.npz", tmp_path / "b.npz"]):
        refused(
            refusal(ValueError, open_source, given), "a.npz is one of 2 files", "not from shards", "scipy.sparse.vstack"
        )


def test_shards_of_different_dimensions_are_refused_with_both_numbers(tmp_path, grid):
    for i in range(8):
        np.save(tmp_path / f"x-{i + 1}.npy", grid[:, : 4 if i == 6 else 5])
    message = refusal(ValueError, open_source, tmp_path)
    refused(message, "shard 7 of 8", "x-7.npy, has 4 columns", "x-1.npy has 5", "the same number")


def test_shards_of_different_dtypes_are_refused_with_both_names(tmp_path, grid):
    np.save(tmp_path / "x-1.npy", grid.astype(np.float16))
    np.save(tmp_path / "x-2.npy", grid.astype(np.float32))
    refused(refusal(ValueError, open_source, tmp_path), "x-2.npy, holds float32", "x-1.npy holds float16", "one dtype")


def test_an_empty_shard_leaves_dtype_and_dimension_open(tmp_path, grid):
    np.save(tmp_path / "x-1.npy", np.empty((0, 0)))
    np.save(tmp_path / "x-2.npy", grid.astype(np.float16))
    source = open_source(tmp_path)
    assert (source.d, source.stored) == (5, "float16")
    np.testing.assert_array_equal(source.take(np.array([0])), grid[:1])


# --------------------------------------------------------------------------- options


def test_options_that_a_format_has_no_use_for_are_refused(tmp_path, grid):
    write_bin(tmp_path / "x.fbin", grid.astype(np.float32))
    for option in ({"column": "a"}, {"id_column": "a"}, {"dtype": "f4"}, {"d": 4}):
        refused(
            refusal(ValueError, open_source, tmp_path / "x.fbin", **option), *option, "takes no options", "leave it out"
        )


def test_a_dtype_or_dimension_that_contradicts_the_file_is_refused(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid)
    for options, own in (({"dtype": "f4"}, "int64"), ({"d": 4}, "5"), ({"dtype": "bfloat16", "d": 5}, "int64")):
        refused(refusal(ValueError, open_source, tmp_path / "x.npy", **options), f"that it is {own}", "leave it out")
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.npy", dtype="int64", d=5)), grid)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, ["give both dtype and d"]),
        ({"dtype": "float32"}, ["give both dtype and d"]),
        ({"d": 5}, ["give both dtype and d"]),
        ({"dtype": "float32", "d": 7}, ["6000 bytes", "no multiple of a row's 28", "d=7 of float32"]),
        ({"dtype": "float32", "d": 0}, ["d must be >= 1"]),
        ({"dtype": "U3", "d": 5}, ["dtype='U3'", "not one of numbers"]),
    ],
)
def test_raw_files_need_dtype_and_d(tmp_path, grid, options, parts):
    (tmp_path / "x.bin").write_bytes(grid.astype(np.float32).tobytes())
    refused(refusal(ValueError, open_source, tmp_path / "x.bin", **options), *parts)


@pytest.mark.parametrize("options", [{"d": 5, "dtype": "nonsense"}, {"dtype": "f4", "d": 5.0}, {"column": 3}])
def test_options_of_the_wrong_type_are_refused(tmp_path, options):
    refused(refusal(TypeError, open_source, tmp_path / "x.bin", **options), list(options)[-1])


def test_what_names_no_files_is_refused(grid):
    refused(refusal(TypeError, open_source, grid), "open_source takes paths", "ndarray")


@pytest.mark.parametrize("wrong", [0, 123, 299])
def test_a_vecs_row_of_another_dimension_is_named(tmp_path, grid, wrong):
    path = tmp_path / "x.fvecs"
    write_vecs(path, grid.astype(np.float32))
    data = np.fromfile(path, "<i4").reshape(300, 6)
    data[wrong, 0] = 4
    data.tofile(path)
    message = refusal(ValueError, open_source, path)
    refused(message, str(path), f"row {wrong}" if wrong else "row 0 has 4", "damaged")


def test_a_header_that_promises_more_rows_is_refused(tmp_path, grid):
    write_bin(tmp_path / "x.fbin", grid.astype(np.float32))
    os.truncate(tmp_path / "x.fbin", 5000)
    message = refusal(ValueError, open_source, tmp_path / "x.fbin")
    refused(message, "5000 bytes", "(300 rows, 5 dimensions) takes 6008", "truncated", "write it again")


def test_safetensors_with_several_tensors_need_a_column(tmp_path, grid):
    from safetensors.numpy import save_file

    path, x = tmp_path / "x.safetensors", grid.astype(np.float32)
    save_file({"a": x, "b": x + 1, "c": x.ravel()}, path)
    refused(refusal(ValueError, open_source, path), "several 2-D tensors ('a', 'b')", "column='a'")
    refused(refusal(ValueError, open_source, path, column="c"), "no 'c' among its 2-D tensors ('a', 'b')")
    np.testing.assert_array_equal(whole(open_source(path, column="b")), x + 1)


def test_safetensors_of_float8_are_refused(tmp_path):
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2, 3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(6))
    refused(refusal(ValueError, open_source, tmp_path / "x.safetensors"), "as F8_E4M3", "BF16")


def test_hdf5_takes_train_or_the_only_table_or_a_column(tmp_path, grid):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["deep/a"] = grid
        file["labels"] = np.arange(300)
        file["names"] = ["a", "b"]
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.h5")), grid)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["b"] = grid + 1
    refused(refusal(ValueError, open_source, tmp_path / "x.h5"), "'b', 'deep/a'", "column='b'")
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.h5", column="b")), grid + 1)
    refused(refusal(ValueError, open_source, tmp_path / "x.h5", column="labels"), "no 'labels' among its 2-D arrays")


def test_zarr_groups_take_the_only_array_or_a_column(tmp_path, grid):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    make = getattr(group, "create_array", None) or group.create_dataset  # zarr 3, zarr 2
    for name, x in {"a": grid, "labels": np.arange(300)}.items():
        make(name, shape=x.shape, dtype=x.dtype, chunks=(64,) * x.ndim)[:] = x
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.zarr")), grid)
    make("b", shape=grid.shape, dtype=grid.dtype, chunks=(10, 5))[:] = grid + 1
    refused(refusal(ValueError, open_source, tmp_path / "x.zarr"), "'a', 'b'", "column='a'")
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.zarr", column="b")), grid + 1)


@pytest.mark.parametrize("name", ["x.parquet", "x.h5", "x.zarr", "x.arrow"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path, name, monkeypatch):
    for library in ("pyarrow", "pyarrow.parquet", "h5py", "zarr"):
        monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / name
    if name == "x.zarr":
        path.mkdir()
        (path / "zarr.json").write_text("{}")
    else:
        path.write_bytes(b"something")
    refused(refusal(ImportError, open_source, path), str(path), "pip install 'fastann[files]'")


# --------------------------------------------------------------------------- what files do not say, or say elsewhere


@pytest.mark.parametrize("name", BFLOAT16)
def test_numbers_without_a_type_are_refused_unless_it_is_said(tmp_path, grid, name):
    path, options = write(tmp_path, name, grid, "bfloat16")
    if "dtype" in options and "d" not in options and "zarr" not in name:
        refused(refusal(ValueError, open_source, path), "(V2), as bfloat16", "open_source(path, dtype='bfloat16')")
        refused(refusal(ValueError, open_source, path, dtype="float16"), "says itself", "leave it out")
    expected = KMeans(3, random_state=0).fit(grid)
    np.testing.assert_array_equal(KMeans(3, random_state=0).fit(open_source(path, **options)).labels_, expected.labels_)


def test_arrays_of_bfloat16_are_taken_from_npz(tmp_path, grid):
    np.savez(tmp_path / "x.npz", halves(grid).view("V2"))
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.npz", dtype="bfloat16")), grid)


def test_an_npz_of_several_arrays_needs_a_column(tmp_path, grid):
    path = tmp_path / "x.npz"
    np.savez(path, a=grid, b=grid + 1, labels=np.arange(300), names=np.array([["x", None]], object))
    refused(refusal(ValueError, open_source, path), "'a', 'b'", "column='a'")
    np.testing.assert_array_equal(whole(open_source(path, column="b")), grid + 1)
    refused(refusal(ValueError, open_source, path, column="labels"), "no 'labels' among its 2-D arrays")
    np.savez(path, labels=np.arange(300))
    refused(refusal(ValueError, open_source, path), "has no 2-D arrays of numbers")
    sparse.save_npz(path, sparse.csr_matrix(grid))
    refused(refusal(ValueError, open_source, path, column="data"), "a sparse matrix takes no options")


@pytest.mark.parametrize("size", [1, 2, 4])
def test_files_of_diskann_are_named_as_what_they_are(tmp_path, grid, size):
    write_bin(tmp_path / "x.bin", grid.astype(f"i{size}"))
    message = refusal(ValueError, open_source, tmp_path / "x.bin")
    refused(message, "DiskANN", "300 rows and 5 dimensions", f"of {size} bytes", "open_source(path, dtype='")
    refused(refusal(ValueError, open_source, tmp_path / "x.bin", dtype="float64"), "DiskANN", "which float64 has not")


def test_raw_numbers_under_another_name_are_hinted_at(tmp_path, grid):
    (tmp_path / "x.npy").write_bytes(grid.astype(np.float32).tobytes())
    refused(refusal(ValueError, open_source, tmp_path / "x.npy"), "no", "raw numbers", "dtype='float32', d=768")


def test_zarr_arrays_in_groups_of_groups(tmp_path, grid):
    zarr = pytest.importorskip("zarr")
    path = str(tmp_path / "x.zarr")
    deep = zarr.open_group(path, mode="w").create_group("a").create_group("b")
    make = getattr(deep, "create_array", None) or deep.create_dataset
    make("emb", shape=grid.shape, dtype=grid.dtype, chunks=(64, 5))[:] = grid
    for given in (
        open_source(path),
        open_source(path, column="a/b/emb"),
        open_source(f"{path}/a"),
        open_source(tmp_path),
    ):
        np.testing.assert_array_equal(whole(given), grid)
    refused(refusal(ValueError, open_source, path, column="emb"), "'a/b/emb'")


@pytest.mark.parametrize("folders", [["day=1", "day=2", "day=10"], ["2024/1", "2024/2", "2025/1"]])
@pytest.mark.parametrize("name", ["npy", "parquet", "zarr", "csv"])
def test_shards_in_folders_below(tmp_path, grid, folders, name):
    for folder, part in zip(folders, np.array_split(grid, 3), strict=True):
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder, name, part, FORMATS[name][2][0], "part-0")
    for hidden in ("_temporary", ".ipynb_checkpoints"):
        (tmp_path / hidden).mkdir()
        write(tmp_path / hidden, name, grid[:3], FORMATS[name][2][0])
    (tmp_path / "_SUCCESS").write_text("")
    np.testing.assert_array_equal(whole(open_source(tmp_path)), grid)
    if name == "npy":  # files beside folders: these alone, as ever
        np.save(tmp_path / "x.npy", grid[:9])
        np.testing.assert_array_equal(whole(open_source(tmp_path)), grid[:9])


def test_a_csv_beside_other_files_is_no_shard(tmp_path, grid):
    np.save(tmp_path / "x.npy", grid)
    write_text(tmp_path / "labels.csv", grid[:, :1])
    np.testing.assert_array_equal(whole(open_source(tmp_path)), grid)


def test_paths_in_the_home_folder(tmp_path, grid, monkeypatch):
    from fastann.data.labels import read_labels

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    np.save(tmp_path / "x.npy", grid)
    np.save(tmp_path / "y.npy", grid[:, 0])
    for given in ("~/x.npy", "~/x*.npy", ["~/x.npy"]):
        np.testing.assert_array_equal(whole(open_source(given)), grid)
    np.testing.assert_array_equal(read_labels("~/y.npy"), grid[:, 0])
    (tmp_path / "~").mkdir()
    np.save(tmp_path / "~" / "x.npy", grid + 1)  # a folder of that name comes first
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(whole(open_source("~/x.npy")), grid + 1)


# --------------------------------------------------------------------------- a column for each dimension


def frame(grid, **more):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame({**{f"x{i}": grid[:, i].astype(float) for i in range(5)}, **more})


def write_frame(path, table, index=False):
    pytest.importorskip("pyarrow")
    getattr(table, "to_csv" if path.suffix == ".csv" else "to_parquet")(path, index=index)
    return path


WIDE = [".csv", ".parquet"]


@pytest.mark.parametrize("suffix", WIDE)
@pytest.mark.parametrize("index", ["range", "names", "numbers"])
def test_the_index_of_a_frame_is_no_dimension(tmp_path, grid, suffix, index):
    table = frame(grid)
    if index != "range":
        table.index = [f"row {i}" if index == "names" else i * 7 for i in range(300)]
    path = write_frame(tmp_path / f"x{suffix}", table, index=True)
    np.testing.assert_array_equal(whole(open_source(path)), grid)


@pytest.mark.parametrize("suffix", WIDE)
@pytest.mark.parametrize(("name", "values"), [("text", "word"), ("label", 3), ("ID", 3)])
def test_columns_that_are_no_dimensions_are_refused_and_left_out(tmp_path, grid, suffix, name, values):
    path = write_frame(tmp_path / f"x{suffix}", frame(grid, **{name: values}))
    refused(refusal(ValueError, open_source, path), repr(name), "no dimensions", "open_source(path, column='x*')")
    np.testing.assert_array_equal(whole(open_source(path, column="x*")), grid)
    np.testing.assert_array_equal(whole(open_source(path, column="x[13]")), grid[:, [1, 3]])
    np.testing.assert_array_equal(whole(open_source(path, column="x3")), grid[:, [3]])
    np.testing.assert_array_equal(whole(open_source(path, column="x4,x0")), grid[:, [0, 4]])
    refused(refusal(ValueError, open_source, path, column="z*"), "'z*'", "'x0', 'x1'")
    if values == 3:
        assert open_source(path, column="*").d == 6


@pytest.mark.parametrize("suffix", WIDE)
@pytest.mark.parametrize("ids", [[f"{i:05}" for i in range(300)], list(range(7, 307))], ids=["text", "numbers"])
def test_ids_stand_beside_dimensions(tmp_path, grid, suffix, ids):
    path = write_frame(tmp_path / f"x{suffix}", frame(grid, code=ids))
    source = open_source(path, id_column="code")
    assert source.ids().tolist() == ids
    np.testing.assert_array_equal(whole(source), grid)
    assert reopen(source.fingerprint()).ids().tolist() == ids


@pytest.mark.parametrize("suffix", WIDE)
def test_a_value_that_is_missing_is_named_by_its_row(tmp_path, grid, suffix):
    table = frame(grid)
    table.loc[17, "x2"] = None
    refused(refusal(ValueError, KMeans(3).fit, write_frame(tmp_path / f"x{suffix}", table)), "row 17", "2")


@pytest.mark.parametrize("suffix", WIDE)
def test_shards_of_other_columns_are_refused(tmp_path, grid, suffix):
    write_frame(tmp_path / f"x-1{suffix}", frame(grid))
    write_frame(tmp_path / f"x-2{suffix}", frame(grid)[["x0", "x2", "x1", "x3", "x4"]])
    message = refusal(ValueError, open_source, tmp_path)
    refused(message, f"x-2{suffix} are not those of", f"x-1{suffix}", "from column 1 on", "same order")


def test_names_that_are_numbers_are_names(tmp_path, grid):
    pd = pytest.importorskip("pandas")
    for index in (False, True):
        pd.DataFrame(grid).to_csv(tmp_path / "x.csv", index=index)
        np.testing.assert_array_equal(whole(open_source(tmp_path / "x.csv")), grid)
    np.savetxt(tmp_path / "x.csv", grid, delimiter=",")
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.csv")), grid)


def test_decimal_commas(tmp_path):
    (tmp_path / "x.csv").write_text("a;b\n1,5;2,25\n-3;4,0\n")
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.csv")), [[1.5, 2.25], [-3, 4]])


BAD_TEXTS = {
    "names alone": ("a,b\n", ["has no numbers"]),
    "words": ("a,b\nc,d\n", ["has no numbers"]),
    "a word": ("a,b\n1,2\n3,x\n", ["cannot be read", "x"]),
    "a short line": ("a,b\n1,2\n3\n", ["cannot be read", "columns"]),
    "one name twice": ("a,a\n1,2\n3,4\n", ["several columns of one name ('a', 'a')"]),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_texts_that_are_no_tables_are_refused(tmp_path, name):
    pytest.importorskip("pyarrow")
    text, parts = BAD_TEXTS[name]
    (tmp_path / "x.csv").write_text(text)
    refused(refusal(ValueError, open_source, tmp_path / "x.csv"), "x.csv", *parts)


def test_a_text_that_memory_cannot_hold_is_refused_before_it_is_read(tmp_path, grid):
    write_text(tmp_path / "x.csv", grid)
    message = refusal(ValueError, as_source, tmp_path / "x.csv", limits=Limits(memory=1000))
    refused(message, "read as a whole", "this machine has 1,000", "Parquet")


def test_a_dataset_with_a_column_for_each_dimension(datasets, grid):
    data = datasets.Dataset.from_pandas(frame(grid, key="k"))
    np.testing.assert_array_equal(whole(open_source(data, column="x*"), 70), grid)
    refused(refusal(ValueError, as_source, data), "'key'", "column='x*'")


# --------------------------------------------------------------------------- large groups of rows


@pytest.mark.parametrize("kind", ["fixed", "list"])
@pytest.mark.parametrize("held", [False, True])
def test_a_large_row_group_is_read_in_blocks(tmp_path, grid, kind, held, monkeypatch):
    path, x = tmp_path / "x.parquet", grid.astype(np.float32)
    write_parquet(path, x, kind, rows=250)
    source = as_source(path, limits=SMALL_CHUNKS)
    decoded, rows = [], type(source.columns).rows
    monkeypatch.setattr(type(source.columns), "rows", lambda *a: decoded.append(rows(*a)) or decoded[-1])
    assert source.hold(1e9 if held else 100) == (x.nbytes if held else 0)
    np.testing.assert_array_equal(whole(source), x)
    once = sum(map(len, decoded))
    assert once == 300
    assert max(map(len, decoded)) <= 9  # a quarter of a chunk, if not all of a group
    for picks in ([299, 0, 119, 120, 1], [5], [250], [249, 250], []):
        np.testing.assert_array_equal(source.take(np.array(picks, np.int64)), x[picks])
    np.testing.assert_array_equal(whole(source, 70), x)
    assert sum(map(len, decoded)) == once if held else sum(map(len, decoded)) > 2 * once
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).take(np.array([7])), x[[7]])


def test_a_wide_row_group_is_decoded_some_columns_at_a_time(tmp_path, rng, monkeypatch):
    x = rng.integers(0, 9, (300, 40)).astype(np.float32)
    write_wide(tmp_path / "x.parquet", x)
    source = as_source(tmp_path / "x.parquet", limits=SMALL_CHUNKS)
    asked, tables = [], source._tables
    monkeypatch.setattr(source, "_tables", lambda *a: asked.append(len(a[3])) or tables(*a))
    np.testing.assert_array_equal(whole(source), x)
    assert asked == [16, 16, 8] * 5  # of each of five groups, once
    np.testing.assert_array_equal(source.take(np.array([299, 0, 64])), x[[299, 0, 64]])


def test_rows_in_order_decode_a_large_group_once(tmp_path, grid, monkeypatch):
    write_parquet(tmp_path / "x.parquet", grid.astype(np.float32), rows=300)
    source = as_source(tmp_path / "x.parquet", limits=SMALL_CHUNKS)
    made = []
    monkeypatch.setattr(source, "_blocks", lambda *a, blocks=source._blocks: made.append(a) or blocks(*a))
    for start in range(0, 300, 50):
        picks = np.arange(start, start + 50, 3)
        np.testing.assert_array_equal(source.native(picks), grid[picks])
    assert len(made) == 1


def test_what_a_format_decodes_at_once_counts_as_memory(tmp_path, grid):
    from fastann.cluster.memory import needed

    x = np.repeat(grid.astype(np.float32), 5, axis=0)
    pa, h5py = pytest.importorskip("pyarrow"), pytest.importorskip("h5py")
    write_parquet(tmp_path / "x.parquet", x, rows=2000)
    write_wide(tmp_path / "wide.parquet", x)
    write_arrow(tmp_path / "x.arrow", x, rows=2000)
    pa.feather.write_feather(arrow_table(x), str(tmp_path / "x.feather"), compression="lz4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=x, chunks=x.shape, compression="gzip")
    np.savez(tmp_path / "x.npz", x)
    counted = {path.name: open_source(path).buffered for path in tmp_path.iterdir()}
    shares = {"x.parquet": 0, "x.arrow": 0, "wide.parquet": 64 / len(x), "x.feather": 2, "x.h5": 1, "x.npz": 1}
    assert counted == {name: x.nbytes * share for name, share in shares.items()}
    bare = needed(as_source(x), 3)
    source = open_source(tmp_path / "x.h5")
    assert needed(source, 3) >= bare + x.nbytes - 16 * len(x)
    with pytest.warns(UserWarning, match=r"less memory than the fit takes.*rows that can only be read together"):
        KMeans(3, max_memory=needed(source, 3) - 1).fit(source)
    KMeans(3, max_memory=needed(source, 3)).fit(source)
    refused(refusal(ValueError, KMeans(3, max_memory=1000).fit, source), "is too little", "give at least")
    assert open_source([tmp_path / "x.h5"] * 2).buffered == x.nbytes
    assert UnitNorm(source).buffered == x.nbytes


# --------------------------------------------------------------------------- columns of lists


def ragged(tmp_path, suffix, rows):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"v": pa.array(rows, pa.list_(pa.float32()))})
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=4)
    else:
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table, 4)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("bad", "what"),
    [(None, "is null in column 'v'"), ([1.0], "has 1 numbers"), ([1.0, None, 3.0], "is null"), ([], "has 0 numbers")],
    ids=str,
)
def test_rows_that_are_no_vectors_are_named(tmp_path, suffix, bad, what):
    rows = [[float(i), 0.0, 1.0] for i in range(12)]
    rows[9] = bad
    source = open_source(ragged(tmp_path, suffix, rows))
    for use in (lambda: whole(source), lambda: whole(source, 3), lambda: source.take(np.array([8, 9]))):
        refused(refusal(ValueError, use), "row 9 of", f"x{suffix}", what, "remove such rows")
    np.testing.assert_array_equal(source.take(np.arange(8)), np.array(rows[:8]))


def test_a_null_in_lists_of_fixed_size_is_named(tmp_path):
    pa = pytest.importorskip("pyarrow")
    column = pa.array([[1, 2], [3, 4], None, [5, 6]], pa.list_(pa.float32(), 2))
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"v": column}), tmp_path / "x.parquet")
    refused(refusal(ValueError, lambda: whole(open_source(tmp_path / "x.parquet"))), "row 2 of", "is null")


def test_columns_of_lists_are_chosen_by_name(tmp_path, grid):
    pq = pytest.importorskip("pyarrow.parquet")
    table = arrow_table(grid.astype(np.float32))
    names = {"a": table["embedding"], "b.c": table["embedding"], "text": table["id"].cast("string")}
    pq.write_table(type(table).from_pydict(names), tmp_path / "x.parquet")
    refused(refusal(ValueError, open_source, tmp_path / "x.parquet"), "'a', 'b.c'", "column='a'")
    refused(
        refusal(ValueError, open_source, tmp_path / "x.parquet", column="text"), "no 'text' among its columns of lists"
    )
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.parquet", column="b.c")), grid)
    pq.write_table(table.select(["id"]), tmp_path / "y.parquet")
    refused(refusal(ValueError, open_source, tmp_path / "y.parquet"), "has no columns of lists of numbers")


def test_tensors_of_fixed_shape_are_read(tmp_path, grid):
    pa = pytest.importorskip("pyarrow")
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(grid.astype(np.float32))
    pytest.importorskip("pyarrow.parquet").write_table(
        pa.table({"v": column}), tmp_path / "x.parquet", row_group_size=64
    )
    np.testing.assert_array_equal(whole(open_source(tmp_path / "x.parquet"), 100), grid)


def test_a_compressed_stream_is_refused(tmp_path, grid):
    pa = pytest.importorskip("pyarrow")
    table = arrow_table(np.zeros((300, 5), np.float32))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema, options=options) as f:
        f.write_table(table)
    refused(refusal(ValueError, open_source, tmp_path / "x.arrow"), "x.arrow", "compressed stream", "feather")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_only_the_last_group_of_the_last_shard_is_kept(tmp_path, grid, suffix):
    writer = write_parquet if suffix == ".parquet" else write_arrow
    for i in range(3):
        writer(tmp_path / f"x-{i}{suffix}", grid[i * 100 : i * 100 + 100].astype(np.float32), rows=30)
    source = open_source(tmp_path)
    np.testing.assert_array_equal(whole(source, 45), grid)
    assert [len(shard._kept) for shard in source.shards] == [0, 0, 1]
    assert [shard._handle is None for shard in source.shards] == [True, True, False]
    assert len(source.shards[2]._kept[3]) <= 30


@pytest.mark.parametrize("name", FORMATS)
def test_there_may_be_more_shards_than_files_that_may_be_open(tmp_path, grid, name):
    resource = pytest.importorskip("resource")
    for i in range(60):
        _, options = write(tmp_path, name, grid[i * 5 : i * 5 + 5], FORMATS[name][2][0], f"x-{i}")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 30, limits[1]))
    try:
        source = open_source(f"{tmp_path}/x-*", **options)
        np.testing.assert_array_equal(whole(source, 7), grid)
        np.testing.assert_array_equal(source.take(np.arange(299, 0, -7)), grid[299:0:-7])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_shard_that_changes_under_a_source_is_refused(tmp_path, grid):
    for i in (1, 2):
        np.save(tmp_path / f"x-{i}.npy", grid)
    source = open_source(tmp_path)
    np.save(tmp_path / "x-2.npy", grid[:7])
    refused(refusal(ValueError, whole, source), "x-2.npy has shape (7, 5), but had (300, 5)", "do not change")


# --------------------------------------------------------------------------- ids


@pytest.mark.parametrize("kind", ["integers", "strings"])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_ids_come_from_a_column_over_shards(tmp_path, grid, suffix, kind):
    pytest.importorskip("pyarrow")
    ids = np.arange(300) * 7 if kind == "integers" else np.array([f"doc-{i}" for i in range(300)])
    writer = write_parquet if suffix == ".parquet" else write_arrow
    for a, b in ((0, 120), (120, 300)):
        writer(tmp_path / f"x-{a}{suffix}", grid[a:b].astype(np.float32), ids=ids[a:b].tolist())
    source = open_source(tmp_path, id_column="id")
    np.testing.assert_array_equal(source.ids(), ids)
    np.testing.assert_array_equal(whole(source, 70), grid)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).ids(), ids)
    for view in (Centred(source, np.zeros(5)), UnitNorm(source)):
        np.testing.assert_array_equal(view.ids(), ids)
    np.testing.assert_array_equal(Subset(source, np.array([3, 200])).ids(), ids[[3, 200]])
    assert open_source(tmp_path).ids() is None
    assert Subset(open_source(tmp_path), np.array([3])).ids() is None


def test_duplicate_ids_are_refused_with_the_first(tmp_path, grid):
    ids = [f"doc-{i}" for i in range(300)]
    write_parquet(tmp_path / "x-1.parquet", grid, ids=ids)
    ids[:5] = ["a", "b", "c", "b", "a"]
    write_parquet(tmp_path / "x-2.parquet", grid[:5], ids=ids[:5])
    message = refusal(ValueError, open_source, tmp_path, id_column="id")
    refused(message, "id 'b' stands in rows 301 and 303", "an id of its own")


def test_columns_that_hold_no_ids_are_refused(tmp_path, grid):
    path = tmp_path / "x.parquet"
    write_parquet(path, grid, ids=[None, *map(str, range(299))])
    refused(refusal(ValueError, open_source, path, id_column="id"), "row 0 of", "no id in column 'id'")
    refused(refusal(ValueError, open_source, path, id_column="name"), "no 'name' among its columns ('id', 'embedding')")
    refused(refusal(ValueError, open_source, path, id_column="embedding"), "ids are integers or strings")
    write_parquet(tmp_path / "a.parquet", grid, ids=list(map(str, range(300))))
    write_parquet(tmp_path / "b.parquet", grid)
    given = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    refused(refusal(ValueError, open_source, given, id_column="id"), "strings in", "integers in", "one kind")


# --------------------------------------------------------------------------- Hugging Face


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    found = pytest.importorskip("datasets")
    found.disable_progress_bars()
    return found


def embeddings(datasets, x, dtype="float32", length=-1):
    kind = datasets.Features({"key": datasets.Value("string"), "v": datasets.Sequence(datasets.Value(dtype), length)})
    rows = {"key": [f"k{i}" for i in range(len(x))], "v": x.astype(dtype).tolist()}
    return datasets.Dataset.from_dict(rows, features=kind)


@pytest.mark.parametrize("length", [-1, 5])
def test_a_dataset_gives_its_rows_and_ids(datasets, grid, length):
    data = embeddings(datasets, grid, length=length)
    source = as_source(data)
    assert (source.n, source.d, source.stored, source.fingerprint()) == (300, 5, "float32", None)
    np.testing.assert_array_equal(whole(source, 70), grid)
    np.testing.assert_array_equal(source.take(np.array([7, 3, 3])), grid[[7, 3, 3]])
    assert source.take(np.array([], np.int64)).shape == (0, 5)
    shuffled = open_source(data.shuffle(seed=0).select(range(50)), column="v", id_column="key")
    picks = np.array([int(key[1:]) for key in shuffled.ids()])
    np.testing.assert_array_equal(whole(shuffled, 20), grid[picks])


def test_a_saved_dataset_gives_its_rows_and_ids(datasets, tmp_path, grid):
    embeddings(datasets, grid, "float16", 5).save_to_disk(tmp_path / "saved", num_shards=12)
    source = open_source(tmp_path / "saved", id_column="key")
    assert (source.n, source.d, source.stored) == (300, 5, "float16")
    np.testing.assert_array_equal(whole(source, 70), grid)
    assert source.ids().tolist() == [f"k{i}" for i in range(300)]
    again = open_source(datasets.load_from_disk(str(tmp_path / "saved")))
    np.testing.assert_array_equal(whole(again, 70), grid)
    assert len(again.fingerprint()["files"]) == 12


def test_splits_and_other_objects_of_datasets_are_refused(datasets, tmp_path, grid):
    splits = datasets.DatasetDict({"train": embeddings(datasets, grid), "test": embeddings(datasets, grid)})
    splits.save_to_disk(tmp_path / "splits")
    refused(refusal(TypeError, as_source, splits), "DatasetDict", "'train', 'test'")
    refused(refusal(ValueError, as_source, tmp_path / "splits"), "test, train", "pass one")
    refused(refusal(TypeError, as_source, splits["train"].to_iterable_dataset()), "IterableDataset", "function")


# --------------------------------------------------------------------------- functions that give blocks


def cut(x, *cuts):
    return np.split(x, cuts)


@pytest.mark.parametrize("rows", [None, 1, 7, 100, 1000])
def test_a_function_gives_its_rows_as_often_as_needed(grid, rows):
    source = as_source(lambda: iter(cut(grid, 10, 10, 250)))
    assert (source.n, source.d, source.stored) == (300, 5, "int64")
    for _ in range(2):
        np.testing.assert_array_equal(whole(source, rows), grid)


def test_random_access_goes_by_one_pass(grid):
    passes = []

    def make():
        passes.append(1)
        return iter(cut(grid, 10, 250))

    source = as_source(make)
    passes.clear()
    np.testing.assert_array_equal(source.take(np.array([299, 5, 5, 260, 11])), grid[[299, 5, 5, 260, 11]])
    assert len(passes) == 1
    np.testing.assert_array_equal(whole(source, 7), grid)
    assert len(passes) == 2
    assert source.take(np.array([], np.int64)).shape == (0, 5)


def test_one_buffer_may_be_given_again_and_again(grid):
    def make():
        buffer = np.empty((100, 5), np.float32)
        for block in cut(grid, 100, 200):
            buffer[:] = block
            yield buffer

    np.testing.assert_array_equal(whole(as_source(make), 150), grid)
    np.testing.assert_array_equal(as_source(make).take(np.arange(0, 300, 3)), grid[::3])


def test_a_function_can_be_fitted(grid):
    km = KMeans(4, random_state=0).fit(open_source(lambda: cut(grid, 7, 200)))
    np.testing.assert_array_equal(km.labels_, KMeans(4, random_state=0).fit_predict(grid))


def test_what_can_be_read_only_once_is_refused(grid):
    once = iter(cut(grid, 100))
    refused(refusal(TypeError, as_source, (block for block in once)), "is a generator", "only once", "lambda:")
    refused(refusal(TypeError, as_source, lambda: once), "the same iterator", "make a new one")


@pytest.mark.parametrize("rows", [40, 3000])
@pytest.mark.parametrize("how", ["shuffled", "augmented", "one row"])
def test_a_function_that_gives_other_rows_in_another_pass_is_refused(rows, how):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 4), dtype="f")
    passes = 0

    def make():
        nonlocal passes
        passes += 1
        if passes <= 2:  # the first, and the one that tells whether the function makes a new iterator
            return cut(x, 7, 20)
        other = rng.permutation(x) if how == "shuffled" else x + rng.normal(0, 1e-3, x.shape).astype("f")
        return cut(np.concatenate([x[:-1], other[-1:]]) if how == "one row" else other, 7, 20)

    said = refusal(ValueError, KMeans(4, random_state=0).fit, make)
    refused(said, "other rows in this pass", "shuffles", "same order")


def test_a_function_may_cut_the_same_rows_in_another_way_every_time():
    x, rng = np.random.default_rng(0).standard_normal((3000, 4), dtype="f"), np.random.default_rng(1)
    km = KMeans(4, random_state=0).fit(lambda: cut(x, *np.sort(rng.choice(2999, 5, replace=False)) + 1))
    np.testing.assert_array_equal(km.labels_, KMeans(4, random_state=0).fit_predict(x))


BAD_BLOCKS = {
    "other dimension": (lambda x: [x, x[:, :3]], ["block 2 of X has 3 columns", "5 of float32"]),
    "other dtype": (lambda x: [x, x.astype(np.float16)], ["block 2 of X has 5 columns of float16", "of float32"]),
    "1-D": (lambda x: [x[0]], ["block 1 of X needs 2 dimensions"]),
    "nothing": (lambda x: [], ["no rows"]),
    "no rows": (lambda x: [x[:0]], ["no rows"]),
}


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_blocks_that_make_no_table_are_refused(grid, name):
    blocks, parts = BAD_BLOCKS[name]
    refused(refusal(ValueError, as_source, lambda: blocks(grid.astype(np.float32))), *parts)


def test_a_function_that_gives_fewer_rows_later_is_refused(grid):
    blocks = cut(grid, 100, 200)
    source = as_source(lambda: iter(blocks))
    blocks.pop()
    refused(refusal(ValueError, whole, source), "200 rows in this pass, but 300")
    np.testing.assert_array_equal(source.take(np.array([5])), grid[[5]])


# --------------------------------------------------------------------------- fingerprints


def test_a_fingerprint_tells_that_a_file_changed(tmp_path, grid):
    for i in (1, 2):
        np.save(tmp_path / f"x-{i}.npy", grid.astype(np.float16))
    before = open_source(tmp_path).fingerprint()
    assert json.loads(json.dumps(before)) == before
    assert (before["n"], before["d"], before["dtype"]) == (600, 5, "float16")
    stat = (tmp_path / "x-1.npy").stat()
    assert before["files"][str(tmp_path / "x-1.npy")] == {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    assert open_source(f"{tmp_path}/*.npy").fingerprint() == before
    os.utime(tmp_path / "x-2.npy", ns=(0, 5))
    assert open_source(tmp_path).fingerprint() != before


@pytest.mark.parametrize("name", FORMATS)
def test_every_file_has_a_fingerprint(tmp_path, grid, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, options = write(tmp_path, name, grid, FORMATS[name][2][0])
    known = open_source(path.name, **options).fingerprint()
    assert list(known["files"]) == [str(path)]
    assert known["files"][str(path)]["size"] > 100
    assert (known["n"], known["d"], known["dtype"]) == (300, 5, FORMATS[name][2][0])


def test_memory_has_no_fingerprint_and_views_pass_it_on(tmp_path, grid):
    assert as_source(grid).fingerprint() is None
    assert as_source(lambda: [grid]).fingerprint() is None
    assert Subset(as_source(grid), np.arange(3)).fingerprint() is None
    np.save(tmp_path / "x.npy", grid)
    base = as_source(tmp_path / "x.npy")
    assert UnitNorm(base).fingerprint() == base.fingerprint()
    some, others = (Subset(base, np.array(picks)).fingerprint() for picks in ([1, 2], [1, 3]))
    assert some["n"] == 2
    assert some != others


# --------------------------------------------------------------------------- opening files again


@pytest.mark.parametrize("name", FORMATS)
def test_files_are_opened_again_as_they_were(tmp_path, grid, name, monkeypatch):
    (tmp_path / "mit Leerzeichen, ü [1]").mkdir()
    paths = []
    for stem, part in (("x-10", grid[:7]), ("x-9", grid[7:])):
        path, options = write(tmp_path / "mit Leerzeichen, ü [1]", name, part, FORMATS[name][2][0], stem)
        paths.append(path)
    source = open_source(paths, **options)  # not in the order of their names
    known = json.loads(json.dumps(source.fingerprint()))
    assert known.get("options") == {key: str(v) if key == "dtype" else v for key, v in options.items()}
    monkeypatch.chdir("/")
    again = reopen(known)
    assert again.fingerprint() == known
    np.testing.assert_array_equal(whole(again), whole(source))


def test_a_file_of_sparse_rows_is_opened_again(tmp_path, grid):
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(grid.astype(np.float32)))
    source = as_source(tmp_path / "x.npz")
    known = source.fingerprint()
    again = reopen(known)
    assert again.sparse
    assert again.fingerprint() == known
    np.testing.assert_array_equal(again.matrix.toarray(), grid)
    assert as_source(source.matrix).fingerprint() is None
    os.utime(tmp_path / "x.npz", ns=(0, 5))
    refused(refusal(ValueError, reopen, known), "x.npz is not as it was before")


def test_ids_are_read_again(tmp_path, grid):
    for i in (1, 2):
        write_parquet(tmp_path / f"x-{i}.parquet", grid, ids=[f"{i} {row}" for row in range(300)])
    source = open_source(tmp_path, column="embedding", id_column="id")
    known = source.fingerprint()
    assert known["options"] == {"column": "embedding", "id_column": "id"}
    np.testing.assert_array_equal(reopen(known).ids(), source.ids())
    single = open_source(tmp_path / "x-1.parquet", id_column="id").fingerprint()
    assert reopen(single).ids()[7] == "1 7"


@pytest.fixture
def shards(tmp_path, grid):
    """Three shards, and what is known of them."""
    for i in (1, 2, 3):
        np.save(tmp_path / f"x {i}.npy", grid.astype(np.float16))
    return [tmp_path / f"x {i}.npy" for i in (1, 2, 3)], open_source(tmp_path).fingerprint()


def test_a_file_that_is_gone_is_named(shards):
    paths, known = shards
    paths[1].unlink()
    refused(refusal(FileNotFoundError, reopen, known), "no file", "x 2.npy any more", "put it back")


def test_a_file_that_grew_is_named_with_both_sizes(shards, grid):
    paths, known = shards
    before = paths[1].stat().st_size
    np.save(paths[1], np.concatenate([grid, grid]).astype(np.float16))
    size = f"(size {before} -> {paths[1].stat().st_size} bytes)"
    refused(refusal(ValueError, reopen, known), f"{paths[1]} is not as it was before", size)


def test_a_file_that_was_touched_is_named(shards):
    paths, known = shards
    os.utime(paths[2], ns=(0, 5))
    refused(refusal(ValueError, reopen, known), f"{paths[2]} is not as it was before (it was modified since)")


def test_a_file_of_another_dtype_in_as_many_bytes_is_refused(shards, grid):
    paths, known = shards
    for path in paths:
        was = path.stat()
        np.save(path, grid.astype(np.int16))
        assert path.stat().st_size == was.st_size
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    refused(refusal(ValueError, reopen, known), "dtype = 'int16'", "'float16' before")


def test_rows_that_lie_in_no_files_cannot_be_opened_again(grid, shards):
    _, known = shards
    refused(refusal(ValueError, reopen, as_source(grid).fingerprint()), "in memory", "pass them")
    refused(refusal(ValueError, reopen, open_source(lambda: [grid]).fingerprint()), "given by a function", "pass them")
    refused(refusal(ValueError, reopen, Subset(reopen(known), np.arange(3)).fingerprint()), "a selection", "pass them")


def test_a_dataset_in_memory_cannot_be_opened_again(datasets, grid, tmp_path):
    embeddings(datasets, grid).save_to_disk(tmp_path / "set")
    dataset = datasets.load_from_disk(tmp_path / "set")
    refused(refusal(ValueError, reopen, open_source(dataset, id_column="key").fingerprint()), "a Hugging Face dataset")
    files = open_source(tmp_path / "set")
    np.testing.assert_array_equal(whole(reopen(files.fingerprint())), whole(files))


def test_what_changed_between_two_fingerprints_is_named(shards):
    paths, known = shards
    check_unchanged(known, open_source(paths).fingerprint())
    check_unchanged(None, None)
    refused(refusal(ValueError, check_unchanged, known, None), "in files before and are in memory now")
    refused(refusal(ValueError, check_unchanged, None, known), "in memory before and are in files now")

    def changed(x):
        return refusal(ValueError, check_unchanged, known, open_source(x).fingerprint())

    refused(changed(paths[:2]), f"{paths[2]} is not among the files that were given")
    np.save(paths[0].with_name("y.npy"), np.load(paths[0]))
    refused(changed([*paths, paths[0].with_name("y.npy")]), "y.npy was not among the files before")
    refused(changed([paths[0], paths[2], paths[1]]), f"{paths[2]} comes where {paths[1]} came before")
    refused(changed([*paths, paths[2]]), "n = 1200, but had 900 before")
    options = {"options": {"column": "a"}}
    refused(refusal(ValueError, check_unchanged, known | options, known), "options = {}", "{'column': 'a'} before")


# --------------------------------------------------------------------------- reading ahead


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith(ahead.NAME)]


class Slow(Source):
    """Rows that are counted when they are read, and when their block is freed."""

    ahead, n, d, dtype = True, 100, 3, np.dtype(np.float32)

    def __init__(self, fail=None):
        self.fail, self.started, self.live, self.most, self.threads = fail, [], 0, 0, set()

    def native(self, rows):
        self.started.append(rows.start)
        self.threads.add(threading.current_thread().name)
        if rows.start == self.fail:
            raise OSError("the disk is gone")
        block = np.full((rows.stop - rows.start, 3), rows.start, np.float32).view(Counted)
        self.live += 1
        self.most = max(self.most, self.live)
        block.owner = self
        return block

    def convert(self, block):
        return block


class Counted(np.ndarray):
    owner = None

    def __del__(self):
        if self.owner is not None:
            self.owner.live -= 1


def test_blocks_are_read_one_ahead_by_a_thread():
    source = Slow()
    for start, _ in source.chunks(10):
        time.sleep(0.002)
        assert source.started[-1] <= start + 10
    assert source.started == list(range(0, 100, 10))
    assert all(name.startswith(ahead.NAME) for name in source.threads)
    assert source.most <= 3  # the third for the moment in which a consumer takes the next and drops the last
    assert not readers()


def test_the_next_block_is_read_while_one_is_worked_on():
    source = Slow()
    chunks = source.chunks(10)
    next(chunks)
    for _ in range(1000):
        if len(source.started) == 2:
            break
        time.sleep(0.001)
    time.sleep(0.01)
    assert source.started == [0, 10]
    assert source.live == 1  # the first was dropped by the consumer, and is not kept here
    chunks.close()


@pytest.mark.parametrize("how", ["breaks off", "raises", "closes", "forgets", "forgets a cycle"])
def test_no_thread_is_left_behind(how):
    source = Slow()
    if how == "breaks off":
        for _ in source.chunks(10):
            break
    elif how == "raises":
        with pytest.raises(ZeroDivisionError):
            sum(start // 0 for start, _ in source.chunks(10))
    else:
        chunks = source.chunks(10)
        next(chunks)
        assert readers()
        if how == "closes":
            chunks.close()
        elif how == "forgets a cycle":
            cycle = [chunks]
            cycle.append(cycle)
            del cycle
        del chunks
        gc.collect()
    assert not readers()


def test_an_error_in_the_thread_surfaces_with_its_traceback():
    source, seen = Slow(fail=30), []
    with pytest.raises(OSError, match="the disk is gone") as caught:
        seen.extend(start for start, _ in source.chunks(10))
    assert seen == [0, 10, 20]
    assert "in native" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert not readers()


def test_one_chunk_needs_no_thread():
    source = Slow()
    assert len(whole(source)) == 100
    assert not any(name.startswith(ahead.NAME) for name in source.threads)


def test_two_readers_of_one_source_do_not_disturb_each_other(tmp_path, grid):
    write_parquet(tmp_path / "x.parquet", grid, rows=10)
    for source in (open_source(tmp_path), as_source(lambda: cut(grid, 10, 200))):
        for (_, a), (_, b) in zip(source.chunks(20), source.chunks(20), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(source.take(np.array([299, 0])), grid[[299, 0]])
    assert not readers()


def test_a_large_mapped_file_is_read_in_chunks_and_gives_the_same(tmp_path, grid):
    x = grid.astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    small = as_source(tmp_path / "x.npy")
    large = as_source(tmp_path / "x.npy", limits=Limits(chunk_bytes=5 * 4 * 37, direct_bytes=1000))
    assert (small.direct, small.ahead, large.direct, large.ahead) == (True, False, False, True)
    assert isinstance(large, ArraySource)
    blocks = [block for _, block in large.chunks()]
    assert len(blocks) == 9
    np.testing.assert_array_equal(np.concatenate(blocks), x)
    expected = KMeans(4, random_state=0).fit_predict(x)
    np.testing.assert_array_equal(KMeans(4, random_state=0).fit_predict(large), expected)
    again = pickle.loads(pickle.dumps(large))
    assert (again.direct, again.limits) == (False, large.limits)


def test_the_thread_reads_float16_as_it_is(tmp_path, grid, monkeypatch):
    np.save(tmp_path / "x.npy", grid.astype(np.float16))
    source = as_source(tmp_path / "x.npy")
    block = source.native(slice(0, 10))
    assert block.dtype == np.float16
    np.testing.assert_array_equal(block, grid[:10].astype(np.float16))


@pytest.mark.parametrize("name", ["npy", "parquet", "fvecs"])
def test_reading_ahead_changes_nothing(tmp_path, grid, name):
    path, options = write(tmp_path, name, grid, FORMATS[name][2][0])
    source = open_source(path, **options)
    source.ahead = True
    threaded = [(start, block.copy()) for start, block in source.chunks(17)]
    source.ahead = False
    for (a, x), (b, y) in zip(threaded, source.chunks(17), strict=True):
        assert a == b
        np.testing.assert_array_equal(x, y)


def test_nothing_heavy_is_imported_before_it_is_needed():
    import subprocess

    code = (
        "import sys, fastann; fastann.open_source; import fastann.data.open as s; s.as_source([[1.0]]);"
        "print({'pyarrow', 'h5py', 'zarr', 'datasets'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
    assert "open_source" in fastann.__all__
    assert issubclass(FunctionSource, Source)


def test_a_list_of_texts_is_told_that_paths_are_meant():
    with pytest.raises(FileNotFoundError, match=r"no file 'a text': a list of strings is .* paths; .*TfidfVect"):
        KMeans(2).fit(["a text", "another text", "a third"])
