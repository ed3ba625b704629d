"""Blocks that a function gives anew whenever it is called, as a `Source`."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import joined
from fastann.data.identity import checksum
from fastann.data.limits import DEFAULT, Limits
from fastann.data.source import Source

_ALL, _EVERY = 2**16, 8  # rows of which a checksum is made: so many, and one in eight of those that follow


def _checksum(block: np.ndarray, first: int, before: int) -> int:
    """Checksum of rows from number `first` on, whatever blocks they come in; `before` is that of the rows before."""
    head = max(0, min(len(block), _ALL - first))
    return checksum(block[head + -(first + head) % _EVERY :: _EVERY], checksum(block[:head], before))


class FunctionSource(Source):
    """Rows of blocks that a function gives, which can only be read from the first one on.

    When it is made, all blocks are read once, to count and check them. Reading goes on from the block that was read
    last, and begins anew only for rows before it: chunks one after the other, or sorted indices, read each block once.
    Every pass must give the rows of the first: a checksum runs along, and is compared wherever a block ends.
    """

    ahead = True

    def __init__(self, make: Callable[[], Iterable[Any]], limits: Limits = DEFAULT):
        self.make, self.limits = make, limits
        first, again = iter(make()), iter(make())
        if first is again:
            raise TypeError(
                "X is a function that gives the same iterator whenever it is called, which can be read only once; "
                "make a new one inside the function"
            )
        del again
        self.n = self.d = crc = 0
        self.ends: dict[int, int] = {}  # checksum of all rows before the ends of blocks
        for i, block in enumerate(first):
            array = self._checked(block, f"block {i + 1} of X")
            if len(array):
                self.d, self.dtype = array.shape[1], array.dtype
            crc = _checksum(array, self.n, crc)
            self.n += len(array)
            self.ends[self.n] = crc
        if not self.n:
            raise ValueError("the function gave no rows: 0 sample(s), while a minimum of 1 is required")
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._blocks: Iterator[Any] | None = None
        self._block, self._first, self._crc = np.empty((0, self.d), self.dtype), 0, 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def native(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop = int(rows.start), int(rows.stop)
        else:
            start, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        pieces: list[np.ndarray] = []
        with self._lock:
            if self._blocks is None or start < self._first:
                self._block, self._first, self._crc = self._block[:0], 0, 0
                self._blocks = iter(self.make())
            while start < stop:
                begin, end = self._first, self._first + len(self._block)
                if end > start:  # copies: a function may give one buffer again and again
                    if isinstance(rows, slice):
                        pieces.append(np.array(self._block[max(start - begin, 0) : stop - begin]))
                    else:
                        low, high = np.searchsorted(rows, (begin, end))
                        pieces.append(self._block[rows[low:high] - begin])
                if end >= stop:
                    break
                self._advance()
        return joined(pieces, self.d, self.dtype)

    def _advance(self) -> None:
        assert self._blocks is not None
        self._first += len(self._block)
        block = next(self._blocks, None)
        if block is None:
            self._blocks, rows = None, self._first
            raise ValueError(
                f"X gave {rows} rows in this pass, but {self.n} in the first; it must give the same rows every time"
            )
        array = self._checked(block, "a block of X")
        self._block = array if len(array) else self._block[:0]
        self._crc = _checksum(array, self._first, self._crc)
        if self.ends.get(end := self._first + len(array), self._crc) != self._crc:
            self._blocks = None
            raise ValueError(
                f"X gave other rows in this pass than in the first (seen at the end of row {end - 1}), so that labels "
                "would mean nothing; a loader that shuffles or augments must give the same rows in the same order "
                "every time: turn that off, fix its seed, or write the rows to a file once"
            )

    def _checked(self, block: Any, what: str) -> np.ndarray:
        array = checks.matrix(block, what, empty=True)
        if self.n and len(array):
            checks.same_block(array, self.d, self.dtype, what)
        return array
