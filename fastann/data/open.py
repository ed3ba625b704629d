"""People cluster files, not arrays: paths, globs, folders and lists of shards as one `Source`."""

import json
import os
import re
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastann import checks
from fastann.data.blocks import Passes
from fastann.data.csr import as_table
from fastann.data.formats import file as formats
from fastann.data.formats.file import File, Options, gather, is_zarr, joined
from fastann.data.formats.lists import Arrow, HuggingFace, Parquet
from fastann.data.source import Source


class Format(NamedTuple):
    """What opens files of a suffix, and the options that it takes."""

    open: Any
    takes: tuple[str, ...] = ()


FORMATS = {
    ".npy": Format(formats.npy),
    ".parquet": Format(Parquet, ("column", "id_column")),
    ".arrow": Format(Arrow, ("column", "id_column")),
    ".feather": Format(Arrow, ("column", "id_column")),
    ".h5": Format(formats.HDF5, ("column",)),
    ".hdf5": Format(formats.HDF5, ("column",)),
    ".zarr": Format(formats.Zarr, ("column",)),
    ".safetensors": Format(formats.safetensors, ("column",)),
    **dict.fromkeys(formats.VECS, Format(formats.vecs)),
    **dict.fromkeys(formats.BINS, Format(formats.big_ann)),
    **dict.fromkeys((".bin", ".raw"), Format(formats.raw, ("dtype", "d"))),
}
SPARSE = ".npz"


class Shards(Source):
    """The rows of several sources, one after the other; of any size, also without rows.

    Only the shard that was read last keeps its file open.
    """

    ahead = True

    def __init__(self, shards: list[Source], names: list[str], ids: np.ndarray | None = None):
        sizes = [shard.n for shard in shards]
        checks.same_shape(names, [shard.d for shard in shards], [shard.stored for shard in shards], sizes)
        self.shards, self.ends = shards, np.cumsum(sizes)
        self.n = int(self.ends[-1])
        self._like = next((shard for shard in shards if shard.n), shards[0])
        self.d, self.dtype = self._like.d, self._like.dtype
        self._ids, self._last = ids, 0

    @property
    def stored(self) -> str:
        return self._like.stored

    def ids(self) -> np.ndarray | None:
        return self._ids

    def fingerprint(self) -> dict[str, Any] | None:
        known = [shard.fingerprint() for shard in self.shards]
        files = {name: stat for one in known if one for name, stat in one["files"].items()}
        extra = {key: value for one in known if one for key, value in one.items()}  # what only one kind has
        return None if None in known else extra | formats.about(self, files)

    def native(self, rows: Any) -> np.ndarray:
        return joined(list(gather(rows, self.ends, self._part)), self.d, self.dtype)

    def _part(self, i: int, rows: Any) -> np.ndarray:
        last, self._last = self.shards[self._last], i
        if last is not self.shards[i] and isinstance(last, File):
            last.release()
        block = self.shards[i].native(rows)
        return np.array(block) if self.shards[i].direct else block  # reads a mapped file here, in this thread


def open_source(
    x: Any, *, column: str | None = None, id_column: str | None = None, dtype: Any = None, d: int | None = None
) -> Source:
    """Open rows that lie in files, to be read in chunks; estimators take what it returns.

    Without options an estimator takes the same paths itself: ``KMeans(100).fit("vectors/*.parquet")``.

    Parameters
    ----------
    x : path, glob, folder, list of these, Hugging Face dataset, or function
        Files are ``.npy``, ``.parquet``, ``.arrow``, ``.feather``, ``.h5``, ``.hdf5``, ``.zarr``, ``.safetensors``,
        ``.fvecs``, ``.ivecs``, ``.bvecs``, ``.fbin``, ``.u8bin``, ``.i8bin`` or raw numbers. Of several, the rows come
        one after the other, shard 2 before shard 10. A folder is all files in it of one kind, or what
        ``Dataset.save_to_disk`` wrote. A function takes nothing and returns an iterable of 2-D arrays, anew every time.
    column : str, optional
        What holds the rows where a file holds several things: a column of lists, an array, a tensor.
    id_column : str, optional
        Column of integers or strings that names rows (Parquet, Arrow, Hugging Face); see `Source.ids`.
    dtype, d : dtype or "bfloat16", and int; optional
        For files of raw numbers, of any suffix that no format has.

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
                shards[-1].release()
    elif callable(x):
        checks.only_options("a function", options.given(), (), "it")
        return Passes(x)
    elif hasattr(x, "__next__"):
        raise TypeError(
            f"X is a {type(x).__name__}, which can be read only once, but rows are needed as often as a fit goes over "
            "them; pass a function that makes it: lambda: make_blocks()"
        )
    else:
        raise TypeError(f"open_source takes paths, a dataset or a function, got {type(x).__name__}; pass arrays as X")
    ids = None if id_column is None else checks.row_ids([shard.read_ids() for shard in shards], names)
    source = shards[0] if len(shards) == 1 and ids is None else Shards(shards, names, ids)
    checks.table((source.n, source.d), source.dtype, names[0] if len(names) == 1 else f"{names[0]} and the rest")
    return source


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
    if known is None or "dataset" in known or "picks" in known:
        what = "in memory or given by a function" if known is None else "a selection of those in files"
        what = "a Hugging Face dataset" if known and "dataset" in known else what
        raise ValueError(f"the rows were {what}, so they cannot be opened again from files; pass them (X, or DATA)")
    now = {}
    for path in known["files"]:
        if not Path(path).exists():
            raise FileNotFoundError(f"no file {path} any more; put it back, or pass the rows (X, or DATA)")
        now[path] = formats.written(Path(path))
    check_unchanged(known, known | {"files": now})
    paths = list(known["files"])
    source = as_table(paths[0]) if Path(paths[0]).suffix == SPARSE else open_source(paths, **known.get("options", {}))
    check_unchanged(known, source.fingerprint())
    return source


def check_unchanged(before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
    """Refuse data whose fingerprint is not what it was before.

    Raises
    ------
    ValueError
        The message names the first file that changed, and how; or what else differs.
    """
    if before is None or now is None:
        if before is not now:
            then, here = ("in memory" if of is None else "in files" for of in (before, now))
            raise ValueError(f"the rows were {then} before and are {here} now; pass them as before")
        return
    for path, was in before["files"].items():
        here = now["files"].get(path)
        if here is None:
            raise ValueError(f"{path} is not among the files that were given, but was before; pass the same files")
        if here != was:
            sizes = f"size {was['size']} -> {here['size']} bytes"
            how = sizes if here["size"] != was["size"] else "it was modified since"
            raise ValueError(f"{path} is not as it was before ({how}); put the former file back, or fit again")
    for path in now["files"]:
        if path not in before["files"]:
            raise ValueError(f"{path} was not among the files before; pass the same files")
    for path, other in zip(before["files"], now["files"], strict=True):
        if path != other:
            raise ValueError(f"{other} comes where {path} came before; pass the files in the same order")
    for name in {**before, **now}:
        if name != "files" and before.get(name) != now.get(name):
            raise ValueError(
                f"the data has {name} = {now.get(name)!r}, but had {before.get(name)!r} before; pass the same rows, "
                "opened in the same way"
            )


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


# --------------------------------------------------------------------------- finding files


def find(x: Any, options: Options) -> list[Path]:
    """Files that paths, globs, folders or a list of these mean, in order."""
    paths = [file for one in (x if isinstance(x, list | tuple) else [x]) for file in _find(os.fspath(one), options)]
    if len(paths) > 1 and any(path.suffix == SPARSE for path in paths):
        raise ValueError(
            f"{paths[0]} and {len(paths) - 1} more: sparse rows (.npz) are read from one file, not from shards; put "
            "them together with scipy.sparse.vstack and save_npz"
        )
    return paths


def _find(text: Any, options: Options) -> list[Path]:
    text = os.fsdecode(text)
    path = Path(text)
    if not text:
        raise FileNotFoundError("no file '': the path is empty; check the path")
    if path.is_dir():
        return _folder(path, options)
    if path.exists() or not re.search(r"[*?[]", text):
        return [path]
    found = [Path(match) for match in glob(text, recursive=True)]
    if not found:
        raise FileNotFoundError(f"no file matches {text}; check the path")
    return sorted(found, key=natural)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Key that sorts shard-2 before shard-10."""
    pieces = re.split("([0-9]+)", str(path))
    return [(1, int(piece), piece) if piece[:1].isdecimal() else (0, 0, piece) for piece in pieces if piece]


def _folder(folder: Path, options: Options) -> list[Path]:
    if is_zarr(folder):
        return [folder]
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.name for path in folder.iterdir() if (path / "state.json").is_file())
        raise ValueError(f"{folder} holds a dataset of splits ({', '.join(splits)}); pass one: {folder / splits[0]}")
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _saved_dataset(folder)
    known = {".bin", ".raw"} if options.dtype is not None else {*FORMATS, SPARSE}
    files = [path for path in folder.iterdir() if path.suffix in known and not path.name.startswith(".")]
    kinds = sorted({path.suffix for path in files})
    if len(kinds) > 1:
        counts = ", ".join(f"{sum(path.suffix == kind for path in files)} {kind}" for kind in kinds)
        raise ValueError(
            f"{folder} is a folder with files of several kinds ({counts}); choose by a glob: {folder / '*'}{kinds[0]}"
        )
    if not files:
        raise ValueError(
            f"{folder} is a folder without files of rows; .npy files (numpy.save) are needed in it, or others of one "
            f"kind: {', '.join(list(FORMATS)[1:])}"
        )
    return sorted(files, key=natural)


def _saved_dataset(folder: Path) -> list[Path]:
    with checks.readable(folder, "a saved dataset"):
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [str(file["filename"]) for file in state["_data_files"]]
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise ValueError(f"{folder} is a dataset with a selection of rows; save it again with flatten_indices()")
    return [folder / name for name in names]
