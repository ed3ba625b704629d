"""Rows as the engine sees them: chunks of float32, whatever they are stored as.

A `Source` reads its own storage in blocks of the stored dtype and turns each block into float32 when it
is asked for, so half, double and integer data is never cast whole, and float32 C-ordered data is handed
out as views, without any copy. `Centred` and `UnitNorm` are sources over another source.
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np

from fastann import kernels
from fastann.data.ahead import read_ahead
from fastann.data.limits import DEFAULT, Limits
from fastann.data.mapping import mapped


class Source(ABC):
    """A table of `n` rows and `d` columns, read in chunks.

    Attributes
    ----------
    n, d : int
    dtype : numpy.dtype
        As stored.
    direct : bool
        Whether chunks are views of memory, so that a chunk of any size costs nothing.
    ahead : bool
        Whether rows are read from a disk or the like, so that `chunks` reads one chunk ahead in a thread.
    sparse : bool
        Whether blocks are CSR matrices: everything said here of float32 arrays then holds of float32 CSR matrices.
    limits : Limits
        How much is read at once.
    buffered : int
        Bytes that reading takes beside the blocks that are handed out: what a format can only decode as a whole.
    """

    n: int
    d: int
    dtype: np.dtype
    direct: bool = False
    ahead: bool = False
    sparse: bool = False
    limits: Limits = DEFAULT
    buffered: int = 0

    @abstractmethod
    def native(self, rows: Any) -> np.ndarray:
        """Rows in the stored dtype: a slice, or sorted int indices."""

    @property
    def stored(self) -> str:
        """Name of the dtype in storage, also where NumPy has none (bfloat16 comes as float32)."""
        return str(self.dtype)

    def ids(self) -> np.ndarray | None:
        """Names of rows: integers or strings, each once. None: their numbers."""
        return None

    def fingerprint(self) -> dict[str, Any] | None:
        """What tells that files changed since: their paths, sizes and times, and the whole's n, d, dtype.

        Also the options that they were opened with, as JSON holds them. None for memory.
        """
        return None

    def hold(self, limit: float) -> int:
        """May keep decoded rows between reads that take up to `limit` bytes; says how many bytes these will take."""
        return 0

    def release(self) -> None:
        """Give back handles of files, and what is kept of them in memory; the next read opens them again."""
        return None

    def convert(self, block: np.ndarray) -> np.ndarray:
        """Turn a block of the stored dtype into float32, C-ordered."""
        if block.dtype == np.float16:
            return kernels.widened(block)
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is found, and named, by `survey`
            return np.ascontiguousarray(block, dtype=np.float32)

    def exact(self, block: np.ndarray) -> np.ndarray:
        """What `convert` makes of a dense block, in float64."""
        return block.astype(np.float64)

    def chunks(self, rows: int | None = None, part: slice | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, float32 C-ordered block), in row order.

        Parameters
        ----------
        rows : int or None
            Rows per chunk. None takes `rows_at_once`.
        part : slice or None
            Only these rows (first and last, no step).
        """
        first, last = (0, self.n) if part is None else (part.start, part.stop)
        if rows is None:
            rows = self.rows_at_once()
        starts = range(first, last, rows)
        parts = (slice(start, min(start + rows, last)) for start in starts)
        if not self.ahead or len(starts) < 2:
            for part in parts:
                yield part.start, self.convert(self.native(part))
            return
        with closing(read_ahead(self.native, parts)) as blocks:
            for start in starts:  # no name for the block: it would live as long as the next one
                yield start, self.convert(next(blocks))

    def rows_per_chunk(self) -> int:
        """Rows of a chunk of about ``limits.chunk_bytes``."""
        return max(1, self.limits.chunk_bytes // (4 * self.d))

    def rows_at_once(self) -> int:
        """Rows of a chunk where nothing else is asked for: many where that copies nothing."""
        return min(self.n, self.limits.at_once) if self.direct else self.rows_per_chunk()

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Rows at `indices` (any order, repeats allowed), float32 [len(indices), d]."""
        indices = np.asarray(indices)
        if (np.diff(indices) >= 0).all():
            return self.convert(self.native(indices))
        order = np.argsort(indices, kind="stable")  # ascending reads are kind to files
        if self.sparse:
            return self.convert(self.native(indices[order]))[np.argsort(order)]
        out = np.empty((len(indices), self.d), np.float32)
        out[order] = self.convert(self.native(indices[order]))
        return out


class ArraySource(Source):
    """An array or memmap of any float or integer dtype and order."""

    def __init__(self, array: np.ndarray, limits: Limits = DEFAULT):
        self.array, self.limits = array, limits
        self.n, self.d = array.shape
        self.dtype = array.dtype
        self.direct = array.dtype == np.float32 and bool(array.flags.c_contiguous) and bool(array.dtype.isnative)

    def native(self, rows: Any) -> np.ndarray:
        return np.asarray(self.array[rows])


class BFloat16Source(Source):
    """An array of bfloat16, which NumPy does not have, given as uint16: the upper halves of float32 numbers."""

    dtype = np.dtype(np.float32)
    array: Any

    def __init__(self, array: np.ndarray, limits: Limits = DEFAULT):
        self.array, self.limits = array, limits
        self.n, self.d = array.shape

    @property
    def stored(self) -> str:
        return "bfloat16"

    def native(self, rows: Any) -> np.ndarray:
        wide = mapped(self.array, rows, self.limits.memory).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)


class View(Source):
    """A source that changes rows of another one on the way out."""

    def __init__(self, base: Source):
        self.base, self.limits = base, base.limits
        self.n, self.d, self.dtype, self.sparse, self.ahead = base.n, base.d, base.dtype, base.sparse, base.ahead
        self.buffered = base.buffered

    @property
    def stored(self) -> str:
        return self.base.stored

    def ids(self) -> np.ndarray | None:
        return self.base.ids()

    def fingerprint(self) -> dict[str, Any] | None:
        return self.base.fingerprint()

    def native(self, rows: Any) -> np.ndarray:
        return self.base.native(rows)

    def exact(self, block: np.ndarray) -> np.ndarray:
        return self.base.exact(block)

    def rows_per_chunk(self) -> int:
        return self.base.rows_per_chunk()


class UnitNorm(View):
    """Rows scaled to unit L2 norm, for the cosine metric; zero rows, which have no direction, stay zero.

    Attributes
    ----------
    zeros : int64 array
        Which rows these are.
    """

    def __init__(self, base: Source, zeros: np.ndarray | None = None):
        super().__init__(base)
        self.zeros = np.empty(0, np.int64) if zeros is None else zeros

    def convert(self, block: np.ndarray) -> np.ndarray:
        x = self.base.convert(block)
        if hasattr(x, "indptr"):
            return unit_rows(x)
        norm = np.sqrt(np.einsum("ij,ij->i", x, x))
        return x / np.where(norm > 0, norm, np.float32(1))[:, None]

    def exact(self, block: np.ndarray) -> np.ndarray:
        x = self.base.exact(block)
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(norm > 0, norm, 1)


class Subset(View):
    """Some rows of a source, by ascending index; they are gathered chunk by chunk."""

    def __init__(self, base: Source, picks: np.ndarray):
        super().__init__(base)
        self.picks, self.n = picks, len(picks)

    def ids(self) -> np.ndarray | None:
        ids = self.base.ids()
        return None if ids is None else ids[self.picks]

    def fingerprint(self) -> dict[str, Any] | None:
        known = self.base.fingerprint()
        picks = zlib.crc32(np.ascontiguousarray(self.picks, np.int64).data)
        return None if known is None else known | {"n": self.n, "picks": picks}

    def native(self, rows: Any) -> np.ndarray:
        return self.base.native(self.picks[rows])

    def convert(self, block: np.ndarray) -> np.ndarray:
        return self.base.convert(block)


class Without(View):
    """A source without some of its rows, which are few: most blocks pass as they are.

    Parameters
    ----------
    base : Source
    gone : int64 array
        Numbers of the rows that are left out, ascending.
    """

    def __init__(self, base: Source, gone: np.ndarray):
        super().__init__(base)
        self.gone, self.n = gone, base.n - len(gone)

    def at(self, rows: Any) -> np.ndarray:
        """Numbers in the base of rows of this source."""
        rows = np.asarray(rows)
        return rows + np.searchsorted(self.gone - np.arange(len(self.gone)), rows, side="right")

    def ids(self) -> np.ndarray | None:
        ids = self.base.ids()
        return None if ids is None else np.delete(ids, self.gone)

    def fingerprint(self) -> None:
        return None

    def native(self, rows: Any) -> np.ndarray:
        return self.base.native(self.at(np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows))

    def convert(self, block: np.ndarray) -> np.ndarray:
        return self.base.convert(block)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return self.base.take(self.at(indices))

    def chunks(self, rows: int | None = None, part: slice | None = None) -> Iterator[tuple[int, np.ndarray]]:
        first, last = (0, self.n) if part is None else (part.start, part.stop)
        if first >= last:
            return
        begin, end = self.at([first, last - 1])
        for start, block in self.base.chunks(rows, slice(int(begin), int(end) + 1)):
            low, high = np.searchsorted(self.gone, (start, start + block.shape[0]))
            if low < high:
                stays = np.ones(block.shape[0], bool)
                stays[self.gone[low:high] - start] = False
                block = block[stays]
            if block.shape[0]:
                yield start - int(low), block


class Gathered(View):
    """Some rows of a source, lying side by side in an array of the stored dtype that may be mapped from a file."""

    def __init__(self, base: Source, rows: np.ndarray):
        super().__init__(base)
        self.rows, self.n = rows, len(rows)

    def ids(self) -> None:
        return None

    def fingerprint(self) -> None:
        return None

    def native(self, rows: Any) -> np.ndarray:
        return mapped(self.rows, rows, self.limits.memory)

    def convert(self, block: np.ndarray) -> np.ndarray:
        return self.base.convert(block)


class Centred(View):
    """Rows minus a mean, subtracted before float64 and integers lose digits to float32.

    ``|x|^2 - 2 x.c + |c|^2`` cancels when rows are far from the origin compared with their spread; the
    distances themselves do not change under translation.
    """

    def __init__(self, base: Source, mean: np.ndarray):
        super().__init__(base)
        self.mean, self.short = mean, mean.astype(np.float32)
        self.fits = bool((self.short == mean).all())  # else float32 rows would be moved by what it is rounded by

    def convert(self, block: np.ndarray) -> np.ndarray:
        if block.dtype == np.float16:
            block = self.base.convert(block)
        if block.dtype != np.float32 or not self.fits:
            with np.errstate(over="ignore", invalid="ignore"):  # as in `Source.convert`
                return np.ascontiguousarray(self.exact(block), dtype=np.float32)
        return np.ascontiguousarray(block - self.short)

    def exact(self, block: np.ndarray) -> np.ndarray:
        less = block - self.mean
        if block.dtype.kind not in "iu" or block.dtype.itemsize < 8 or not (np.abs(self.mean) > 2.0**52).any():
            return less
        # Integers above 2^53, as nanoseconds are, have more digits than float64: whole numbers are subtracted as such.
        most = np.iinfo(block.dtype)
        whole = np.clip(np.floor(self.mean), float(most.min), np.nextafter(float(most.max), 0))
        exact = (block - whole.astype(block.dtype)).view(np.int64) - (self.mean - whole)
        return np.where(np.abs(less) < 2.0**62, exact, less)  # beyond, integers of 64 bits wrap around


def unit_rows(x: Any) -> Any:
    """Rows of a CSR matrix scaled to unit L2 norm; empty ones stay empty."""
    norm = np.sqrt(kernels.sqnorms(x))
    scale = np.repeat(1 / np.where(norm > 0, norm, 1), np.diff(x.indptr))
    return type(x)(((x.data * scale).astype(np.float32), x.indices, x.indptr), x.shape)


def dense(x: Any) -> np.ndarray:
    """A block as a dense array: itself, unless it is a CSR matrix."""
    return x.toarray() if hasattr(x, "toarray") else x


def has_distinct_rows(source: Source, k: int) -> bool:
    """Whether at least `k` rows differ from each other; reads no further than it takes to know."""
    seen: set[bytes] = set()
    for _, part in source.chunks(2**14):
        block: Any = part
        if source.sparse:
            block = block.copy()
            block.eliminate_zeros()
            cuts = pairwise(block.indptr.tolist())
            seen.update(block.indices[a:b].tobytes() + b"|" + block.data[a:b].tobytes() for a, b in cuts)
            if len(seen) >= k:
                return True
            continue
        whole = np.dtype((np.void, block.dtype.itemsize * source.d))
        seen.update(row.tobytes() for row in np.unique((block + 0.0).view(whole)))  # -0.0 + 0.0 is 0.0
        if len(seen) >= k:
            return True
    return False
