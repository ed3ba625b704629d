"""What every format has: options, a `Source` over one file, and rows that lie in several parts.

A format is a function or class that takes a path and `Options` and gives a `Source` that can be pickled: a copy opens
the file anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastann.data.identity import about, written
from fastann.data.limits import DEFAULT, Limits
from fastann.data.source import Source


@dataclass(frozen=True)
class Options:
    """What `fastann.open_source` was told of files, and the limits that they are read within."""

    column: str | None = None
    id_column: str | None = None
    dtype: np.dtype | str | None = None
    d: int | None = None
    limits: Limits = DEFAULT

    def given(self) -> list[str]:
        """Names of the options that were given."""
        return list(self.plain())

    def plain(self) -> dict[str, Any]:
        """The options that were given, as JSON holds them."""
        given = {name: value for name, value in vars(self).items() if name != "limits" and value is not None}
        return given | ({"dtype": str(self.dtype)} if self.dtype is not None else {})


class Format(NamedTuple):
    """What opens files of a suffix, and the options that it takes."""

    open: Callable[[Path, Options], Source]
    takes: tuple[str, ...] = ()


class File(Source):
    """Rows in one file (or a folder that is one, as zarr's are)."""

    ahead = True

    def __init__(self, path: Path, options: Options, opener: Callable[..., Any] | None = None):
        self.path, self.options, self.limits = path, options, options.limits
        self.opener: Callable[..., Any] = opener or type(self)
        self.written = written(path)  # as it is now: a change while rows are read is one that a later run sees

    def __reduce__(self) -> Any:
        return self.opener, (self.path, self.options)

    def fingerprint(self) -> dict[str, Any] | None:
        return about(self, {str(self.path.absolute()): self.written}) | {"options": self.options.plain()}


def gather(rows: Any, ends: np.ndarray, read: Callable[[int, Any], np.ndarray]) -> Iterator[np.ndarray]:
    """Yield ``read(i, rows of part i)`` for the parts that `rows` lie in; part i ends before row ``ends[i]``."""
    if isinstance(rows, slice):
        start, stop, _ = rows.indices(int(ends[-1]))
        for i in range(int(np.searchsorted(ends, start, "right")), len(ends)):
            begin = int(ends[i - 1]) if i else 0
            if begin >= stop:
                return
            if ends[i] > begin:
                yield read(i, slice(max(start - begin, 0), min(stop, int(ends[i])) - begin))
        return
    rows = np.asarray(rows)
    owner = np.searchsorted(ends, rows, "right")
    for some in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(owner)) + 1):
        if len(some):
            i = int(owner[some[0]])
            yield read(i, rows[some] - (int(ends[i - 1]) if i else 0))


def joined(pieces: list[np.ndarray], d: int, dtype: np.dtype) -> np.ndarray:
    """Pieces one below the other; a single one as it is."""
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty((0, d), dtype)


class Forward:
    """Rows of blocks that come one after the other: read from the block of the last read on, anew for rows before it.

    `make` gives the blocks from the first one on.
    """

    def __init__(self, make: Callable[[], Iterator[np.ndarray]]):
        self.make = make
        self._blocks: Iterator[np.ndarray] | None = None
        self._block, self._first = np.empty((0, 0)), 0

    def read(self, rows: Any) -> list[np.ndarray]:
        """Rows of a slice, or of ascending indices: pieces of them, one for each block."""
        if isinstance(rows, slice):
            start, stop = int(rows.start), int(rows.stop)
        else:
            start, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        pieces: list[np.ndarray] = []
        if self._blocks is None or start < self._first:
            self._blocks, self._block, self._first = self.make(), self._block[:0], 0
        blocks, self._blocks = self._blocks, None  # if reading fails, the next read begins anew
        while start < stop:
            begin, end = self._first, self._first + len(self._block)
            if end > start:
                if isinstance(rows, slice):
                    pieces.append(self._block[max(start - begin, 0) : stop - begin])
                else:
                    low, high = np.searchsorted(rows, (begin, end))
                    pieces.append(self._block[rows[low:high] - begin])
            if end >= stop:
                break
            self._block, self._first = next(blocks), end
        self._blocks = blocks
        return pieces
