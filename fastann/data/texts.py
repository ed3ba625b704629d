"""Texts of rows, one each: sequences of strings, columns of tables, lines of files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastann import checks
from fastann.data.formats.file import Options
from fastann.data.labels import delimiter_of
from fastann.data.paths import find

COLUMN = "text"  # the column of a table that is read when none is named and there are several


def read_texts(texts: Any, column: str | None = None) -> list[str]:
    """Read the texts of rows; a missing one is empty.

    Parameters
    ----------
    texts : sequence of str, Series, or path, pattern or folder
        Files are ``.parquet``, ``.csv``, ``.tsv``, ``.jsonl`` (an object a line) or ``.txt`` (a text a line). Of
        several, the texts come one after the other, part 2 before part 10.
    column : str or None
        Column of a table. None is its only one, or the one named "text".

    Raises
    ------
    ValueError, TypeError, FileNotFoundError, ImportError
        If they are no texts, or a file is missing, damaged, or of another kind.
    """
    if isinstance(texts, str | os.PathLike):
        return [text for path in find(texts, Options()) for text in _file(path, column)]
    if column is not None:
        raise ValueError(f"column={column!r} names a column of a file, but texts is no path; pass that column as texts")
    if not hasattr(texts, "__iter__") or not hasattr(texts, "__len__"):
        raise TypeError(f"texts must be a sequence of strings or a path, got {type(texts).__name__}; pass a list")
    return [_text(text, f"texts[{row}]") for row, text in enumerate(texts)]


def _text(value: Any, where: str) -> str:
    """A text; what is missing is empty."""
    if isinstance(value, str):
        return value
    if checks.missing(value):
        return ""
    raise TypeError(f"{where} is {value!r}, a {type(value).__name__}; pass a string for every row, None for no text")


def _file(path: Path, column: str | None) -> list[str]:
    read = FORMATS.get(path.suffix)
    if read is None:
        what = "a folder" if path.is_dir() else f"a {path.suffix or 'suffix-less'} file"
        raise ValueError(f"{path} is {what}; texts are read from {', '.join(FORMATS)}")
    checks.data_file(path)
    return read(path, column)


def _named(path: Path, names: Sequence[str], column: str | None) -> str:
    wanted = column if column is not None else names[0] if len(names) == 1 else COLUMN
    if wanted not in names:
        listed = ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise ValueError(f"{path} has no column {wanted!r}, it has {listed}; name the one of the texts (column)")
    return wanted


def _parquet(path: Path, column: str | None) -> list[str]:
    parquet = checks.library("pyarrow.parquet", path)
    with checks.readable(path, "Parquet"):
        opened = parquet.ParquetFile(path)
    with opened:
        wanted = _named(path, opened.schema_arrow.names, column)
        with checks.readable(path, "Parquet"):
            values = opened.read(columns=[wanted]).column(wanted).to_pylist()
    return [_text(value, f"row {row} of {path}") for row, value in enumerate(values)]


def _csv(path: Path, column: str | None) -> list[str]:
    with checks.readable(path, "CSV in UTF-8"), path.open(encoding="utf-8-sig", newline="") as file:
        head = [file.readline() for _ in range(20)]
        file.seek(0)
        reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else delimiter_of(head))
        names = [name.strip() for name in next(reader)]
        rows = [row for row in reader if row]
    place = names.index(_named(path, names, column))
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(f"row {number} of {path} has {len(row)} fields, not {len(names)}; quote those with commas")
    return [row[place] for row in rows]


def _jsonl(path: Path, column: str | None) -> list[str]:
    with checks.readable(path, "lines of JSON"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} of {path} is {str(row)[:40]}, no object; write one such as {{'text': ...}}")
    wanted = _named(path, list(dict.fromkeys(name for row in rows for name in row)), column)
    return [_text(row.get(wanted), f"row {number} of {path}") for number, row in enumerate(rows)]


def _lines(path: Path, column: str | None) -> list[str]:
    if column is not None:
        raise ValueError(f"column={column!r} was named, but {path} has no columns, only a text a line; leave it out")
    with checks.readable(path, "UTF-8"):
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")


FORMATS: dict[str, Callable[[Path, str | None], list[str]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".txt": _lines,
}
