"""The one door: whatever a user passes as rows becomes a `Source` here, whether it lies in memory or in files."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fastann import checks
from fastann.data import tensors
from fastann.data.blocks import FunctionSource
from fastann.data.csr import CSRSource
from fastann.data.formats import FORMATS
from fastann.data.formats.arrays import is_zarr
from fastann.data.formats.file import Options
from fastann.data.formats.lists import HuggingFace
from fastann.data.identity import check_unchanged, written
from fastann.data.limits import DEFAULT, Limits
from fastann.data.paths import find
from fastann.data.shards import Shards
from fastann.data.source import ArraySource, BFloat16Source, Source


def as_source(x: Any, name: str = "X", *, sparse: bool = True, limits: Limits = DEFAULT) -> Source:
    """Turn a user's data into a `Source`: a sparse one for a SciPy sparse matrix, or the path of one (.npz).

    Parameters
    ----------
    x : array-like, memmap, frame, torch tensor, SciPy sparse matrix, Source, or what `open_source` takes
        Tensors may be sparse: CSR, CSC or COO. `open_source` takes a path, a glob, a folder, a list of these, a Hugging
        Face dataset, or a function that gives blocks. A column of vectors (of pandas, polars, Arrow or a dataset) is
        the table of these.
    name : str
        Of the data, for messages.
    sparse : bool
        Whether sparse rows are fine; else they are refused.
    limits : Limits
        How much is read at once. A `Source` keeps its own.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, PermissionError, ImportError
        If it is not a readable table of real numbers with at least one row and column, or sparse where dense rows are
        needed.
    """
    if isinstance(x, Source):
        source = x
    elif is_elsewhere(x):
        source = _open(x, Options(limits=limits))
    elif issparse(x) and sparse:
        source = CSRSource(checks.csr(x, name), limits=limits)
    elif tensors.is_tensor(x) and tensors.is_sparse(x):
        return as_source(tensors.csr_of(x, name), name, sparse=sparse, limits=limits)
    elif (kind := str(getattr(x, "dtype", None))) in (
        "bfloat16",
        tensors.BFLOAT16,
    ):  # of ml_dtypes, as JAX has, or torch
        codes = np.asarray(x).view(np.uint16) if kind == "bfloat16" else tensors.bits_of(x)
        checks.table(codes.shape, codes.dtype, name)
        source = BFloat16Source(codes, limits)
    else:
        source = ArraySource(checks.matrix(x, name), limits)
    if source.sparse and not sparse:
        checks.dense(str(x) if _is_paths(x) else None, name)
    return source


def open_source(
    x: Any, *, column: str | None = None, id_column: str | None = None, dtype: Any = None, d: int | None = None
) -> Source:
    """Open rows that lie in files, to be read in chunks; estimators take what it returns.

    Without options an estimator takes the same paths itself: ``KMeans(100).fit("vectors/*.parquet")``.

    Parameters
    ----------
    x : path, glob, folder, list of these, Hugging Face dataset, or function
        Files are ``.npy``, ``.npz`` (sparse or not), ``.parquet``, ``.arrow``, ``.feather``, ``.csv``, ``.tsv``,
        ``.h5``, ``.hdf5``, ``.zarr``, ``.safetensors``, ``.fvecs``, ``.ivecs``, ``.bvecs``, ``.fbin``, ``.f16bin``,
        ``.u8bin``, ``.i8bin`` or raw numbers. Of several, the rows come one after the other, shard 2 before shard 10.
        A folder is all files in it of one kind, or, where there are none, in the folders below it; or what
        ``Dataset.save_to_disk`` wrote. A function takes nothing and returns an iterable of 2-D arrays, anew every
        time.
    column : str, optional
        What holds the rows where a file holds several things: a column of lists, an array, a tensor. Of a table with
        a column for each dimension, their names or patterns of these, such as "x*" or "a,b,c".
    id_column : str, optional
        Column of integers or strings that names rows (Parquet, Arrow, CSV, Hugging Face); see `Source.ids`.
    dtype, d : dtype or "bfloat16", and int; optional
        For files of raw numbers, which are ``.bin``, ``.raw``, ``.npy``, or of any suffix that no format has; those
        with the header that DiskANN writes say d themselves. "bfloat16" also for ``.npy``, ``.npz``, HDF5 and zarr,
        which cannot say it.

    Returns
    -------
    Source

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, PermissionError, ImportError
        If that is not a readable table of real numbers, or a library is missing that reads it.
    """
    options = Options(
        _text(column, "column"),
        _text(id_column, "id_column"),
        None if dtype is None else checks.storage_dtype(dtype),
        None if d is None else checks.integer(d, "d", 1),
    )
    return _open(x, options)


def _open(x: Any, options: Options) -> Source:
    if _is_dataset(x):
        checks.only_options("a Hugging Face dataset", options.given(), ("column", "id_column"), "it")
        shards: list[Any] = [_dataset(x, options)]
        names = ["the dataset"]
    elif _is_paths(x):
        paths = find(x, options)
        shards, names = [], [str(path) for path in paths]
        for path in paths:
            shards.append(open_file(path, options))
            if len(paths) > 1:  # there may be more shards than files that a process may keep open
                checks.no_shard(shards[-1].sparse, path, len(paths))
                shards[-1].release()
        checks.same_columns(names, [getattr(shard, "columns", None) for shard in shards])
    elif callable(x):
        checks.only_options("a function", options.given(), (), "it")
        return FunctionSource(x, options.limits)
    elif hasattr(x, "__next__"):
        raise TypeError(
            f"X is a {type(x).__name__}, which can be read only once, but rows are needed as often as a fit goes over "
            "them; pass a function that makes it: lambda: make_blocks()"
        )
    else:
        raise TypeError(f"open_source takes paths, a dataset or a function, got {type(x).__name__}; pass arrays as X")
    ids = None if options.id_column is None else checks.row_ids([shard.read_ids() for shard in shards], names)
    source = shards[0] if len(shards) == 1 and ids is None else Shards(shards, names, ids)
    checks.table((source.n, source.d), source.dtype, names[0] if len(names) == 1 else f"{names[0]} and the rest")
    return source


def in_files(source: Source, write: Callable[[Source], Path]) -> dict[str, Any]:
    """Where another process finds the rows of a source: what `reopen` takes there, as JSON holds it.

    That is the fingerprint of their files. Of rows that lie in none, or are only some of those of files, `write` is
    called with the source; it returns the path of a file of these rows.
    """
    known = source.fingerprint()
    if not can_reopen(known):
        known = open_source(write(source)).fingerprint()
    assert known is not None
    return known


def can_reopen(known: dict[str, Any] | None) -> bool:
    """Whether `reopen` takes a fingerprint: whether all rows, in their order, are those of files."""
    return known is not None and "dataset" not in known and "picks" not in known


def reopen(known: dict[str, Any] | None) -> Source:
    """Open the files of a fingerprint again (see `Source.fingerprint`), in the same order and with the same options.

    Raises
    ------
    FileNotFoundError
        If one of them is gone; the first is named.
    ValueError
        If one changed since, or the rows cannot be opened from files alone: they were in memory, came from a
        function or a dataset in memory, or are a selection.
    """
    if not can_reopen(known):
        what = "in memory or given by a function" if known is None else "a selection of those in files"
        what = "a Hugging Face dataset" if known and "dataset" in known else what
        raise ValueError(f"the rows were {what}, so they cannot be opened again from files; pass them as X")
    assert known is not None
    now = {}
    for path in known["files"]:
        if not Path(path).exists():
            raise FileNotFoundError(f"no file {path} any more; put it back, or pass the rows, where they lie now, as X")
        now[path] = written(Path(path))
    check_unchanged(known, known | {"files": now})
    source = open_source(list(known["files"]), **known.get("options", {}))
    check_unchanged(known, source.fingerprint())
    return source


def is_elsewhere(x: Any) -> bool:
    """Whether `x` only says where rows are: it has no shape, and no names of columns, of its own."""
    return _is_paths(x) or _is_dataset(x) or hasattr(x, "__next__") or (callable(x) and not hasattr(x, "__array__"))


def _is_paths(x: Any) -> bool:
    if isinstance(x, list | tuple):
        return len(x) > 0 and all(isinstance(path, str | os.PathLike) for path in x)
    return isinstance(x, str | os.PathLike)


def _is_dataset(x: Any) -> bool:
    return type(x).__module__ in ("datasets.arrow_dataset", "datasets.dataset_dict", "datasets.iterable_dataset")


def _dataset(x: Any, options: Options) -> Any:
    kind = type(x).__name__
    if kind.endswith("DatasetDict"):
        raise TypeError(
            f"X is a {kind}; pass one of its splits ({', '.join(map(repr, x))}), for example X[{next(iter(x))!r}]"
        )
    if kind == "Column" and type(x.source).__name__ == "Dataset":  # one column of a dataset, as X["emb"] gives it
        checks.only_options("a column of a dataset", options.given(), (), "it")
        x, kind, options = x.source, "Dataset", replace(options, column=x.column_name)
    if kind != "Dataset":
        raise TypeError(f"X is a {kind}; pass a datasets.Dataset, or a function that gives blocks of its rows")
    return HuggingFace(x, options)


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")
    return value


def open_file(path: Path, options: Options) -> Any:
    """Open one file, by its suffix."""
    suffix = ".zarr" if is_zarr(path) else path.suffix
    kind = FORMATS.get(suffix)
    if kind is None and (options.dtype is not None or options.d is not None):
        kind = FORMATS[".raw"]
    if kind is None:
        checks.data_file(path)
        what = f"a {path.suffix} file" if path.suffix else "a suffix-less file"
        raise ValueError(
            f"{path} is {what}; a .npy file (numpy.save) is needed, or one of {', '.join(list(FORMATS)[1:])}; for raw "
            f"numbers use {checks.OPEN}(path, dtype=..., d=...)"
        )
    checks.only_options(path, options.given(), kind.takes, f"a {suffix} file")
    return kind.open(path, options)
