"""Labelled rows as they come, from a pipe or from files: CSV, JSON lines, and arrays of NumPy one after the other."""

from __future__ import annotations

import csv
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, BinaryIO

import numpy as np

from fastann.data.labels import COLUMN, delimiter_of, parse_labels

KINDS = ("csv", "jsonl", "npy")
TEXT = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npy": "npy"}
LINES, ARRAYS = 2**12, 2  # that are read before they are needed
_NPY, _BOM = b"\x93", b"\xef\xbb\xbf"  # what arrays, and some texts, begin with


@dataclass(frozen=True)
class Labelled:
    """Rows and their labels.

    Attributes
    ----------
    x : ndarray [n, d]
    labels : ndarray [n]
    """

    x: np.ndarray
    labels: np.ndarray


@dataclass
class Reading:
    """How labelled rows are read.

    Attributes
    ----------
    kind : {"csv", "jsonl", "npy"} or None
        None goes by the suffix of a file, or by the first bytes.
    label : str or None
        Column or field of the labels; of arrays the number of their column, -1 being the last, or a field. None:
        "label", or the last column of an array.
    column : str or None
        What holds the rows: names or patterns of columns, or the field of a list. None: all that is not the label, or
        the only list.
    as_text : bool or None
        Whether labels that are written as text stay text; None lets the first batch say, by `parse_labels`.
    most : int
        Rows of a batch at most; an array is one batch.
    wait : float
        Seconds after which a batch is not waited for any longer.
    """

    kind: str | None = None
    label: str | None = None
    column: str | None = None
    as_text: bool | None = None
    most: int = 1000
    wait: float = 1.0
    columns: list[str] = field(default_factory=list, repr=False)  # of rows, as the first file has them

    def batches(self, file: BinaryIO, name: str) -> Iterator[Labelled | None]:
        """Read batches from an open file, whose `name` messages have; None whenever nothing came for `wait` seconds.

        Raises
        ------
        ValueError
            If a line, or an array, is not labelled rows; the message says which.
        """
        ahead = _Ahead(file)
        kind = self.kind or TEXT.get(name[name.rfind(".") :]) or _kind(ahead.start)
        if kind == "npy":
            yield from self._arrays(ahead, name)
        elif kind == "jsonl":
            yield from self._objects(ahead, name)
        else:
            yield from self._table(ahead, name)

    # ----------------------------------------------------------------- arrays

    def _arrays(self, ahead: _Ahead, name: str) -> Iterator[Labelled | None]:
        for number, array in enumerate(_some(ahead.items(_array, ARRAYS), 1, self.wait)):
            if array is None:
                yield None
                continue
            yield self._split(array[0][1], f"array {number + 1} of {name}")

    def _split(self, array: np.ndarray, what: str) -> Labelled:
        if array.dtype.names is not None:
            names, label = list(array.dtype.names), self.label or COLUMN
            if array.ndim != 1 or label not in names:
                raise ValueError(f"{what} has the fields {names} and no field {label!r}; name the one of the labels")
            rows = [array[n].reshape(len(array), -1) for n in self._wanted(names, label, what)]
            return Labelled(np.concatenate(rows, axis=1), array[label])
        if array.ndim != 2 or array.shape[1] < 2:
            raise ValueError(
                f"{what} has shape {array.shape}; 2 dimensions are needed, a column of labels beside those of the rows"
            )
        try:
            place = range(array.shape[1])[int(self.label or -1)]
        except (ValueError, IndexError):
            raise ValueError(
                f"the label column of {what} must be a number below {array.shape[1]}, or -1 for the last, got "
                f"{self.label!r}"
            ) from None
        labels = array[:, place]
        whole = labels.astype(np.int64) if labels.dtype.kind == "f" and (labels == np.floor(labels)).all() else labels
        return Labelled(np.delete(array, place, axis=1), whole)

    # ----------------------------------------------------------------- lines

    def _objects(self, ahead: _Ahead, name: str) -> Iterator[Labelled | None]:
        label = self.label or COLUMN
        for lines in _some(ahead.items(_line, LINES), self.most, self.wait):
            if lines is None:
                yield None
                continue
            rows, labels = [], []
            for number, line in lines:
                if not line.strip():
                    continue
                where = f"line {number} of {name}"
                found = _object(line, where)
                if label not in found or found[label] is None:
                    raise ValueError(f"{where} has no field {label!r}, it has {sorted(found)}; every row needs a label")
                labels.append(found[label])
                rows.append(self._row(found, label, where))
                if len(rows[-1]) != len(rows[0]):
                    raise ValueError(f"{where} has {len(rows[-1])} numbers, but the rows before it have {len(rows[0])}")
            if rows:
                yield Labelled(np.array(rows), self._kept(labels))

    def _row(self, found: dict[str, Any], label: str, where: str) -> list[float]:
        lists = [n for n, value in found.items() if isinstance(value, list) and n != label]
        if self.column in found and isinstance(found[self.column], list):
            values = found[self.column]
        elif self.column is None and len(lists) == 1:
            values = found[lists[0]]
        elif lists:
            raise ValueError(f"{where} has lists in {lists}; name the one that holds the row")
        else:
            if not self.columns:
                self.columns = self._wanted(list(found), label, where)
            missing = [n for n in self.columns if n not in found]
            if missing:
                raise ValueError(f"{where} lacks {missing[:10]}, which the lines before it have; write them as those")
            values = [found[n] for n in self.columns]
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{where} has {value!r} where a number is needed; name what holds the row")
        return values

    def _table(self, ahead: _Ahead, name: str) -> Iterator[Labelled | None]:
        label, found = self.label or COLUMN, ahead.items(_line, LINES)
        first: list[tuple[int, str]] | None = None
        for first in _some(found, 1, self.wait):
            if first is not None:
                break
            yield None
        if first is None:
            return
        mark = delimiter_of([first[0][1]])
        head = _fields(first[0], mark, name)
        places = self._places(head, label, name)
        for lines in _some(found, self.most, self.wait):
            if lines is None:
                yield None
                continue
            rows, labels = [], []
            for line in lines:
                if not line[1].strip():
                    continue
                fields, where = _fields(line, mark, name), f"line {line[0]} of {name}"
                if len(fields) != len(head) or not fields[head.index(label)]:
                    what = f"{len(fields)} fields, not {len(head)}" if len(fields) != len(head) else f"no {label!r}"
                    raise ValueError(f"{where} has {what}; every line is one labelled row")
                labels.append(fields[head.index(label)])
                rows.append([_number(fields[p], head[p], where) for p in places])
            if rows:
                yield Labelled(np.array(rows), self._kept(labels))

    def _places(self, head: list[str], label: str, name: str) -> list[int]:
        """Where the columns of rows stand in a table with these names, which are to be those of the table before it."""
        if head.count(label) != 1:
            raise ValueError(f"{name} has no one column {label!r}, it has {head}; name the one of the labels")
        wanted = self._wanted(head, label, name)
        if self.columns and wanted != self.columns:
            raise ValueError(
                f"{name} has the columns {wanted[:10]}, but {self.columns[:10]} came before; all need the same"
            )
        self.columns = wanted
        return [head.index(n) for n in wanted]

    def _wanted(self, names: list[str], label: str, where: str) -> list[str]:
        """Names of the columns of rows, in their order."""
        rest = [n for n in names if n != label]
        if self.column is not None:
            patterns = [p.strip() for p in self.column.split(",")]
            rest = [n for n in rest if any(n == p or fnmatchcase(n, p) for p in patterns)]
        if not rest:
            raise ValueError(f"{where} has no columns of numbers beside {label!r}; it has {names[:20]}")
        return rest

    def _kept(self, labels: list[Any]) -> np.ndarray:
        """Labels of a batch: of text as `parse_labels` gives them, the same kind in all batches."""
        if not all(isinstance(value, str) for value in labels):
            return np.array([str(v) for v in labels]) if self.as_text else np.array(labels)
        found = parse_labels(labels, as_text=bool(self.as_text))
        if self.as_text is None:
            self.as_text = found.dtype.kind == "U"
        return found


class _Ahead:
    """A file that a thread of its own reads, so that waiting for it can end.

    Attributes
    ----------
    start : bytes
        What it begins with, after blanks: one byte, which tells what it is. None are left where it is empty.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.start = file, file.read(1)
        while self.start and self.start.isspace():
            self.start = file.read(1)
        if self.start == _BOM[:1]:
            self.start += file.read(len(_BOM) - 1)
            self.start = self.start if self.start != _BOM else file.read(1)
        self.pushed = self.start

    def read(self, size: int = 0, /) -> bytes:
        """Read so many bytes, or fewer at the end."""
        taken, self.pushed = self.pushed[:size], self.pushed[size:]
        return taken + self.file.read(size - len(taken))

    def readline(self) -> bytes:
        """Read a line, with its end."""
        taken, self.pushed = self.pushed, b""
        return taken + self.file.readline()

    def items(self, one: Callable[[_Ahead], Any], ahead: int) -> queue.Queue[Any]:
        """What `one` reads again and again, with its number from 1 on; then None, or the error that ended it."""
        found: queue.Queue[Any] = queue.Queue(ahead)

        def run() -> None:
            try:
                number = 0
                while (item := one(self)) is not None:
                    number += 1
                    found.put((number, item))
                found.put(None)
            except Exception as error:  # for the thread that waits
                found.put(error)

        threading.Thread(target=run, daemon=True, name="fastann batches").start()
        return found


def _some(found: queue.Queue[Any], most: int, wait: float) -> Iterator[list[Any] | None]:
    """Items of a queue, some at a time: those that came within `wait` seconds of the first; None if none came."""
    items: list[Any] = []
    until = time.monotonic() + wait
    while True:
        try:
            item = found.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            yield items or None
            items, until = [], time.monotonic() + wait
            continue
        if item is None or isinstance(item, Exception):
            if items:
                yield items
            if item is not None:
                raise item
            return
        if not items:
            until = time.monotonic() + wait
        items.append(item)
        if len(items) >= most:
            yield items
            items, until = [], time.monotonic() + wait


def _kind(start: bytes) -> str:
    return "npy" if start == _NPY else "jsonl" if start == b"{" else "csv"


def _array(ahead: _Ahead) -> np.ndarray | None:
    first = ahead.read(1)
    if not first:
        return None
    ahead.pushed = first + ahead.pushed
    array: np.ndarray = np.lib.format.read_array(ahead, allow_pickle=False)
    return array


def _line(ahead: _Ahead) -> str | None:
    line = ahead.readline()
    return line.decode("utf-8") if line else None


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error}); write one object a line") from None
    if not isinstance(found, dict):
        raise ValueError(f"{where} is a {type(found).__name__}; write one object a line, with a field for the label")
    return found


def _fields(line: tuple[int, str], mark: str, name: str) -> list[str]:
    try:
        return [value.strip() for value in next(csv.reader([line[1].rstrip("\r\n")], delimiter=mark))]
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"line {line[0]} of {name} cannot be read as CSV ({error}); write it again") from None


def _number(text: str, column: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{where} has {text!r} in column {column!r}, where a number is needed; name the columns of the rows"
        ) from None
