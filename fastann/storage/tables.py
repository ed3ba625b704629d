"""Tables as files, written a piece at a time: a row takes no more memory than its columns do already."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np

from fastann import checks
from fastann.storage.files import write_file

TEXT_ROWS = 2**14  # rows that are turned into text at once
GROUP_ROWS = 2**18  # rows of a row group of Parquet
_NEEDED = ("pyarrow", "pyarrow.parquet")


def write(path: str | os.PathLike[str], columns: dict[str, Any], format: str, rows: int | None = None) -> None:
    """Write columns of equal length beside their target, as "csv" or "parquet", then rename them over it.

    Parameters
    ----------
    path : path
    columns : dict of str to array, range or list
        At least one row. Floats keep the nine digits that tell float32 values apart.
    format : {"csv", "parquet"}
    rows : int, optional
        Rows of a piece: in Parquet a row group. By default `TEXT_ROWS` or `GROUP_ROWS`.

    Raises
    ------
    ImportError
        If Parquet is asked for and pyarrow is not installed.
    """
    check_format(path, format)
    writer, usual = FORMATS[format]
    write_file(path, lambda file: writer(file, columns, rows or usual))


def check_format(path: str | os.PathLike[str], format: str) -> None:
    """Check that there is what writes a format, before there is anything to write."""
    checks.choice(format, "format", FORMATS)
    if format == "parquet":
        for name in _NEEDED:
            checks.library(name, path)


def write_csv(file: BinaryIO, columns: dict[str, Any], rows: int = TEXT_ROWS) -> None:
    """Write columns as UTF-8 text, with a line of their names; the file stays open."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    for part in _parts(columns, rows):
        lines.writerows(zip(*(_words(column[part]) for column in columns.values()), strict=True))
    text.detach()


def _write_parquet(file: BinaryIO, columns: dict[str, Any], rows: int) -> None:
    arrow, parquet = map(import_module, _NEEDED)
    writer = None
    for part in _parts(columns, rows):
        table = arrow.table({name: np.asarray(column[part]) for name, column in columns.items()})
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


FORMATS: dict[str, tuple[Callable[[BinaryIO, dict[str, Any], int], None], int]] = {
    "csv": (write_csv, TEXT_ROWS),
    "parquet": (_write_parquet, GROUP_ROWS),
}


def _parts(columns: dict[str, Any], rows: int) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, len(next(iter(columns.values()))), rows)]


def _words(column: Any) -> Sequence[Any]:
    """What a column's values are in CSV."""
    if not isinstance(column, np.ndarray):
        return column
    if column.dtype.kind == "f":
        return [f"{value:.9g}" for value in column.tolist()]
    return (np.where(column, "true", "false") if column.dtype == bool else column).tolist()
