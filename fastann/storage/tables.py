"""Tables as files, written a piece at a time: a row takes no more memory than its columns do already."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

from fastann import checks, storage

_ROWS = 2**14  # turned into text at once
_GROUP = 2**18  # rows of a row group of Parquet
_NEEDED = ("pyarrow", "pyarrow.parquet")


def write(path: str | os.PathLike, columns: dict[str, Any], format: str) -> None:
    """Write columns of equal length beside their target, as "csv" or "parquet", then rename them over it.

    Parameters
    ----------
    path : path
    columns : dict of str to array, range or list
        At least one row. Floats keep the nine digits that tell float32 values apart.
    format : {"csv", "parquet"}

    Raises
    ------
    ImportError
        If Parquet is asked for and pyarrow is not installed.
    """
    check_format(path, format)
    storage.write_file(path, lambda file: FORMATS[format](file, columns))


def check_format(path: str | os.PathLike, format: str) -> None:
    """Check that there is what writes a format, before there is anything to write."""
    checks.choice(format, "format", FORMATS)
    if format == "parquet":
        for name in _NEEDED:
            checks.library(name, path)


def write_csv(file: BinaryIO, columns: dict[str, Any]) -> None:
    """Write columns as UTF-8 text, with a line of their names; the file stays open."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    for part in _parts(columns, _ROWS):
        lines.writerows(zip(*(_words(column[part]) for column in columns.values()), strict=True))
    text.detach()


def _write_parquet(file: BinaryIO, columns: dict[str, Any]) -> None:
    arrow, parquet = map(import_module, _NEEDED)
    writer = None
    for part in _parts(columns, _GROUP):
        table = arrow.table({name: np.asarray(column[part]) for name, column in columns.items()})
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


FORMATS: dict[str, Callable[[BinaryIO, dict[str, Any]], None]] = {"csv": write_csv, "parquet": _write_parquet}


def _parts(columns: dict[str, Any], rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, len(next(iter(columns.values()))), rows)]


def _words(column: Any) -> Sequence[Any]:
    """What a column's values are in CSV."""
    if not isinstance(column, np.ndarray):
        return column
    if column.dtype.kind == "f":
        return [f"{value:.9g}" for value in column.tolist()]
    return (np.where(column, "true", "false") if column.dtype == bool else column).tolist()
