"""Blocks that a function gives anew whenever it is called, as a `Source`."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastann import checks
from fastann.data.formats.file import joined
from fastann.data.limits import DEFAULT, Limits
from fastann.data.source import Source


class FunctionSource(Source):
    """Rows of blocks that a function gives, which can only be read from the first one on.

    When it is made, all blocks are read once, to count and check them. Reading goes on from the block that was read
    last, and begins anew only for rows before it: chunks one after the other, or sorted indices, read each block once.
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
        self.n = self.d = 0
        for i, block in enumerate(first):
            array = self._checked(block, f"block {i + 1} of X")
            if len(array):
                self.d, self.dtype = array.shape[1], array.dtype
            self.n += len(array)
        if not self.n:
            raise ValueError("the function gave no rows: 0 sample(s), while a minimum of 1 is required")
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._blocks: Iterator[Any] | None = None
        self._block, self._first = np.empty((0, self.d), self.dtype), 0

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
                self._block, self._first = self._block[:0], 0
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

    def _checked(self, block: Any, what: str) -> np.ndarray:
        array = checks.matrix(block, what, empty=True)
        if self.n and len(array):
            checks.same_block(array, self.d, self.dtype, what)
        return array
