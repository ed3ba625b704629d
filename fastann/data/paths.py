"""Which files are meant: by a path, a pattern, a folder, or a list of these."""

import json
import os
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from fastann import checks
from fastann.data.formats import FORMATS, RAW, TEXT
from fastann.data.formats.arrays import is_zarr
from fastann.data.formats.file import Options

_GLOB = re.compile(r"[*?[]")


def find(x: Any, options: Options) -> list[Path]:
    """Files that paths, globs, folders or a list of these mean, in order."""
    several = isinstance(x, list | tuple)
    if several and len(x) and not any(os.path.lexists(os.path.expanduser(one)) or _GLOB.search(str(one)) for one in x):
        raise FileNotFoundError(
            f"no file {os.fspath(x[0])!r}: a list of strings is a list of paths; check these, or turn texts into "
            "numbers first, with sklearn's TfidfVectorizer or a model that embeds them"
        )
    return [file for one in (x if several else [x]) for file in _find(os.fspath(one), options)]


def _find(text: Any, options: Options) -> list[Path]:
    text = os.fsdecode(text)
    if not os.path.lexists(text):
        text = os.path.expanduser(text)
    path = Path(text)
    if not text:
        raise FileNotFoundError("no file '': the path is empty; check the path")
    if path.is_dir():
        return _folder(path, options)
    if path.exists() or not _GLOB.search(text):
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
    files = [path for path in folder.iterdir() if path.suffix in FORMATS and not path.name.startswith(".")]
    files = _of_a_kind(files or list(_below(folder)), options)
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


def _of_a_kind(files: list[Path], options: Options) -> list[Path]:
    """Those that hold the rows: raw numbers where a dtype is given; a CSV beside other files is about their rows."""
    for kinds in ((RAW if options.dtype is not None else ()), [kind for kind in FORMATS if kind not in TEXT]):
        some = [path for path in files if path.suffix in kinds]
        if some:
            return some
    return files


def _below(folder: Path) -> Iterator[Path]:
    """Yield files of rows in the folders below, in order; not those that Spark and others hide by their names."""
    for path in sorted(folder.iterdir(), key=natural):
        if path.name.startswith((".", "_")):
            continue
        if path.is_dir() and not is_zarr(path):
            saved = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
            yield from _saved_dataset(path) if saved else _below(path)
        elif path.suffix in FORMATS or is_zarr(path):
            yield path


def _saved_dataset(folder: Path) -> list[Path]:
    with checks.readable(folder, "a saved dataset"):
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [str(file["filename"]) for file in state["_data_files"]]
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise ValueError(f"{folder} is a dataset with a selection of rows; save it again with flatten_indices()")
    return [folder / name for name in names]
