"""``.csv`` and ``.tsv``: a line for each row and a column for each dimension, read into memory."""

import csv
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import File, Options
from fastann.data.formats.lists import Columns
from fastann.data.formats.mapped import Mapping
from fastann.data.labels import delimiter_of, parse_labels
from fastann.data.source import ArraySource, Source

_BLOCK = 2**24  # bytes of text that are parsed at once


class Loaded(Mapping, ArraySource):
    """An array that was read from a file as a whole; what is given back is read again."""

    def __init__(self, array: np.ndarray, path: Path, options: Options, opener: Callable[..., Any]):
        File.__init__(self, path, options, opener)
        ArraySource.__init__(self, array, options.limits)
        self.ahead, self.buffered = False, array.nbytes


class Text(Loaded):
    """A table of text, which may have a column that names rows."""

    def __init__(self, array: np.ndarray, path: Path, options: Options, names: list[str]):
        super().__init__(array, path, options, text)
        self.columns = Columns(names, True, self.d, self.dtype)

    def read_ids(self) -> np.ndarray:
        """The column that names rows: integers, or strings where any of them is none (as "02108")."""
        head = Head(self.path)
        name = checks.column(self.options.id_column, head.names, self.path, "columns")
        pa, place = checks.library("pyarrow", self.path), head.names.index(name)
        column = head.read(self.path, [place], pa.string()).read_all().column(0)
        if column.null_count or "" in (values := column.to_pylist()):
            raise ValueError(f"a row of {self.path} has no id in column {name!r}; every row needs one")
        return parse_labels(values)


def text(path: Path, options: Options) -> Source:
    """``.csv``, ``.tsv``: all columns, or those that `column` names by a pattern; commas, semicolons or tabs.

    A first line without numbers has the names. A column without a name is the index that pandas writes, and no
    dimension. Numbers are float64.
    """
    checks.data_file(path)
    pa = checks.library("pyarrow", path)
    with checks.readable(path, "a table of text"):
        head = Head(path)
    if not any(head.numbers):
        raise ValueError(f"{path} has no numbers in its first two lines; a row for each line is needed, below names")
    places = head.dimensions(options, path)
    with path.open("rb") as file:
        lines = 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
    checks.fits(8 * lines * len(places), options.limits.memory, path)
    out, n = np.empty((lines, len(places))), 0
    with checks.readable(path, "a table of text"):
        for batch in head.read(path, places, pa.float64()):
            for j, column in enumerate(batch.columns):
                out[n : n + len(column), j] = column.to_numpy(zero_copy_only=False)
            n += len(batch)
    return Text(out[:n], path, options, [head.names[place] for place in places])


class Head:
    """What the first two lines tell of a table: what separates columns, their names, which of them are numbers."""

    def __init__(self, path: Path):
        with path.open(encoding="utf-8-sig", newline="") as file:
            first, second = file.readline(), file.readline()
        self.delimiter = delimiter_of([first, second])
        self.decimal = "," if self.delimiter != "," and "." not in second and "," in second else "."
        cells, values = ([cell.strip() for cell in self._cells(line)] for line in (first, second))
        counted = [cell for cell in cells if cell] == [str(i) for i in range(len(cells) - cells.count(""))]
        self.header = counted or any(cell and not self._is_number(cell) for cell in cells)
        self.names = cells if self.header else [f"column {i}" for i in range(len(cells))]
        values = values if self.header else cells
        self.numbers = [
            bool(name and values) and (not cell or self._is_number(cell))
            for name, cell in zip_longest(self.names, values[: len(cells)], fillvalue="")
        ]

    def dimensions(self, options: Options, path: Path) -> list[int]:
        """Places of the columns that are dimensions."""
        numbers = [name for name, number in zip(self.names, self.numbers, strict=True) if number]
        others = [name for name, number in zip(self.names, self.numbers, strict=True) if name and not number]
        chosen = checks.dimensions(numbers, others, options.column, options.id_column, path)
        return [self.names.index(name) for name in chosen]

    def read(self, path: Path, places: list[int], kind: Any) -> Any:
        """Read some columns, as numbers or strings: a stream of record batches."""
        table, names = checks.library("pyarrow.csv", path), [str(i) for i in range(len(self.names))]
        wanted = [names[place] for place in places]
        return table.open_csv(
            path,
            table.ReadOptions(block_size=_BLOCK, column_names=names, skip_rows=int(self.header)),
            table.ParseOptions(delimiter=self.delimiter),
            table.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, kind), decimal_point=self.decimal
            ),
        )

    def _cells(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter=self.delimiter), [])

    def _is_number(self, cell: str) -> bool:
        try:
            float(cell.replace(",", ".") if self.decimal == "," else cell)
        except ValueError:
            return False
        return True
