"""Labels of rows in files, one per row: arrays, lines of text, and columns of tables."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks

SUFFIXES = (".npy", ".txt", ".csv", ".tsv", ".parquet")
TABLES = (".csv", ".tsv", ".parquet")
COLUMN = "label"  # the column of a table that is read when none is named and there are several


def read_labels(path: Any, column: str | None = None, *, as_text: bool = False) -> np.ndarray:
    """Read the labels of rows from a file.

    Parameters
    ----------
    path : path
        ``.npy`` of any dtype but objects, ``.txt`` with one label a line, ``.csv`` or ``.tsv`` with a header line
        (commas, semicolons or tabs), or ``.parquet``.
    column : str, optional
        Column of a table. Without it, it is the only one, or the one named "label".
    as_text : bool, default=False
        Leave labels that were read as text strings, also where every one is an integer (see `parse_labels`). Arrays
        and Parquet say themselves what they hold.

    Returns
    -------
    ndarray
        As stored; text as `parse_labels` gives it.

    Raises
    ------
    ValueError, FileNotFoundError, PermissionError, ImportError
        If the file is missing, of another kind, damaged, or lacks the label of a row.
    """
    file = Path(path).expanduser()
    if column is not None and file.suffix not in TABLES:
        raise ValueError(
            f"a label column ({column!r}) was named, but {file} has no columns; only .csv, .tsv and .parquet files "
            "have them"
        )
    if file.suffix not in SUFFIXES or file.is_dir():
        what = "a folder" if file.is_dir() else f"a {file.suffix or 'suffix-less'} file"
        raise ValueError(
            f"{file} is {what}; labels are read from .npy, .txt (one a line), .csv or .tsv (with a header line) or "
            ".parquet"
        )
    if file.suffix == ".npy":
        labels = checks.npy_file(file, "integers, or strings as y.astype(str) gives them")
        return _decoded(file, labels) if labels.dtype.kind == "S" else labels
    if file.suffix == ".parquet":
        return _parquet(file, column)
    text = _text(file)
    values = _lines(file, text) if file.suffix == ".txt" else _column(file, text, column)
    return parse_labels(values, as_text=as_text)


def _decoded(file: Path, labels: np.ndarray) -> np.ndarray:
    try:
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file} holds bytes that are not UTF-8; save strings, as y.astype(str) gives them") from None


def _text(file: Path) -> str:
    if not file.exists():
        raise FileNotFoundError(f"no file {file}; check the path")
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file} is not UTF-8 (byte {data[error.start]:#04x} in line {line}); save it as UTF-8"
        ) from None
    if not text.strip():
        raise ValueError(f"{file} is empty ({len(data)} bytes); one label per row of the data is needed")
    return text


def _named(file: Path, names: list[str], column: str | None) -> str:
    """Which column holds the labels: the one that is named, else the only one, else "label"."""
    wanted = column if column is not None else names[0] if len(names) == 1 else COLUMN
    if names.count(wanted) == 1:
        return wanted
    listed = ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    if wanted in names:
        raise ValueError(f"{file} has {names.count(wanted)} columns {wanted!r} ({listed}); rename all but one")
    raise ValueError(
        f"{file} has no column {wanted!r}, it has {listed}; name the one of the labels: label_column={names[0]!r}"
    )


def _parquet(file: Path, column: str | None) -> np.ndarray:
    checks.data_file(file)
    types = checks.library("pyarrow", file).types
    parquet = checks.library("pyarrow.parquet", file)
    with checks.readable(file, "Parquet"):
        opened = parquet.ParquetFile(file)
    with opened:
        wanted = _named(file, list(opened.schema_arrow.names), column)
        with checks.readable(file, "Parquet"):
            values = opened.read(columns=[wanted]).column(wanted)
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    text = types.is_string(kind) or types.is_large_string(kind)
    if not (text or types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind)):
        raise ValueError(f"column {wanted!r} of {file} is {kind}; labels are integers or strings: name another column")
    if values.null_count:
        row = int(np.argmin(values.is_valid().to_numpy()))
        raise ValueError(f"row {row} of {file} has no {wanted!r} (null); every row needs a label")
    if not len(values):
        raise ValueError(f"{file} has no rows; one label per row of the data is needed")
    return np.array(values.to_pylist(), dtype=str) if text else values.to_numpy()


def _lines(file: Path, text: str) -> list[str]:
    lines = [line.strip() for line in io.StringIO(text, newline=None).read().removesuffix("\n").split("\n")]
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} of {file} is blank; every line is one row's label")
    counts = {mark: {line.count(mark) for line in lines} for mark in DELIMITERS}
    for mark, found in counts.items():
        # Tabs part columns. Commas and semicolons may stand in names, but then names come more than once.
        if len(found) == 1 and 0 not in found and (mark == "\t" or (len(lines) > 2 and len(set(lines)) == len(lines))):
            raise ValueError(
                f"every line of {file} has {min(found) + 1} fields parted by {DELIMITERS[mark]}, where one label a "
                "line is needed; give the file a header line, name it .csv, and name the column of the labels: "
                "label_column='label'"
            )
    return lines


DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def delimiter_of(lines: list[str]) -> str:
    """What parts the columns of a table of text: what parts its first lines into as many fields, most of them."""
    best, most = ",", 1
    for mark in DELIMITERS:
        try:
            counts = {len(next(csv.reader([line], delimiter=mark), [])) for line in lines if line.strip()}
        except csv.Error:  # reading all of it says where
            return ","
        if len(counts) == 1 and min(counts) > most:
            best, most = mark, min(counts)
    return best


def _column(file: Path, text: str, column: str | None) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text.split("\n", 20)[:20]))
    try:
        head = [name.strip() for name in next(reader)]
        wanted = _named(file, head, column)
        place, values = head.index(wanted), []
        for row in reader:
            value = row[place].strip() if len(row) == len(head) else ""
            if not value:
                what = f"no {wanted!r}" if len(row) == len(head) else f"{len(row)} fields, not {len(head)}"
                what = f"has {what}" if row else "is blank"
                raise ValueError(f"line {reader.line_num} of {file} {what}; every line is one row of the data")
            values.append(value)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {file} cannot be read as CSV ({error}); write it again") from None
    if not values:
        raise ValueError(f"{file} has a header line but no labels; one per row of the data is needed")
    return values


def parse_labels(values: list[str], *, as_text: bool = False) -> np.ndarray:
    """Labels that were read as text: int64 if every one is an integer that fits, unless `as_text`; else strings.

    Integers are written as they would be printed: "02108" is a postal code, and no number.
    """
    if not as_text and all(re.fullmatch("0|-?[1-9][0-9]{0,18}", value) for value in values):
        try:
            return np.array([int(value) for value in values], np.int64)
        except OverflowError:
            pass
    return np.array(values)


def check_like(labels: np.ndarray, classes: np.ndarray, name: Any) -> None:
    """Check that labels can be compared with the classes of a model: both numbers, or both strings."""
    kinds = ["strings" if a.dtype.kind in "US" else "numbers" for a in (labels, classes)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the labels in {name} are {kinds[0]} ({labels[0]!s}), but the classes of the model are {kinds[1]} "
            f"({classes[0]!s}); give labels of the kind that it was fitted with"
        )


def check_lines(labels: list[str], path: Any) -> None:
    """Check that a text file can hold labels: none is blank, padded with blanks, or longer than a line."""
    for label in labels:
        if not label or label != label.strip() or "\n" in label or "\r" in label:
            raise ValueError(f"{path} cannot hold the label {label!r} as a line of text; give a name that ends in .npy")
