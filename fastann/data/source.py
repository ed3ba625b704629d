"""Rows as the engine sees them: chunks of float32, whatever they are stored as.

A `Source` reads its own storage in blocks of the stored dtype and turns each block into float32 when it
is asked for, so half, double and integer data is never cast whole, and float32 C-ordered data is handed
out as views, without any copy. `Centred` and `UnitNorm` are sources over another source.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastann import checks

CHUNK_BYTES = 32 * 2**20  # float32 bytes of a converted chunk: big enough for BLAS, small beside the data


class Source(ABC):
    """A table of `n` rows and `d` columns, read in chunks.

    Attributes
    ----------
    n, d : int
    dtype : numpy.dtype
        As stored.
    direct : bool
        Whether chunks are views of memory, so that a chunk of any size costs nothing.
    sparse : bool
        Whether blocks are CSR matrices: everything said here of float32 arrays then holds of float32 CSR matrices.
    """

    n: int
    d: int
    dtype: np.dtype
    direct: bool = False
    sparse: bool = False

    @abstractmethod
    def native(self, rows: Any) -> np.ndarray:
        """Rows in the stored dtype: a slice, or sorted int indices."""

    def convert(self, block: np.ndarray) -> np.ndarray:
        """Turn a block of the stored dtype into float32, C-ordered."""
        with np.errstate(over="ignore", invalid="ignore"):  # overflow is found, and named, by `survey`
            return np.ascontiguousarray(block, dtype=np.float32)

    def chunks(self, rows: int | None = None, part: slice | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, float32 C-ordered block), in row order.

        Parameters
        ----------
        rows : int or None
            Rows per chunk. None takes everything at once where that copies nothing, else about
            `CHUNK_BYTES`.
        part : slice or None
            Only these rows (first and last, no step).
        """
        first, last = (0, self.n) if part is None else (part.start, part.stop)
        if rows is None:
            rows = self.n if self.direct else self.rows_per_chunk()
        for start in range(first, last, rows):
            yield start, self.convert(self.native(slice(start, min(start + rows, last))))

    def rows_per_chunk(self) -> int:
        """Rows of a chunk of about `CHUNK_BYTES`."""
        return max(1, CHUNK_BYTES // (4 * self.d))

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

    def __init__(self, array: np.ndarray):
        self.array = array
        self.n, self.d = array.shape
        self.dtype = array.dtype
        self.direct = array.dtype == np.float32 and bool(array.flags.c_contiguous) and bool(array.dtype.isnative)

    def native(self, rows: Any) -> np.ndarray:
        return np.asarray(self.array[rows])


class View(Source):
    """A source that changes rows of another one on the way out."""

    def __init__(self, base: Source):
        self.base = base
        self.n, self.d, self.dtype, self.sparse = base.n, base.d, base.dtype, base.sparse

    def native(self, rows: Any) -> np.ndarray:
        return self.base.native(rows)

    def rows_per_chunk(self) -> int:
        return self.base.rows_per_chunk()


class UnitNorm(View):
    """Rows scaled to unit L2 norm, for the cosine metric; zero rows, which have no direction, stay zero."""

    def convert(self, block: np.ndarray) -> np.ndarray:
        x = self.base.convert(block)
        if self.sparse:
            return unit_rows(x)
        norm = np.sqrt(np.einsum("ij,ij->i", x, x))
        return x / np.where(norm > 0, norm, np.float32(1))[:, None]


class Subset(View):
    """Some rows of a source, by ascending index; they are gathered chunk by chunk."""

    def __init__(self, base: Source, picks: np.ndarray):
        super().__init__(base)
        self.picks, self.n = picks, len(picks)

    def native(self, rows: Any) -> np.ndarray:
        return self.base.native(self.picks[rows])

    def convert(self, block: np.ndarray) -> np.ndarray:
        return self.base.convert(block)


class Centred(View):
    """Rows minus a mean, subtracted before float64 and integers lose digits to float32.

    ``|x|^2 - 2 x.c + |c|^2`` cancels when rows are far from the origin compared with their spread; the
    distances themselves do not change under translation.
    """

    def __init__(self, base: Source, mean: np.ndarray):
        super().__init__(base)
        self.mean = mean

    def convert(self, block: np.ndarray) -> np.ndarray:
        wide = np.float32 if block.dtype in (np.float16, np.float32) else np.float64
        return np.ascontiguousarray(block - self.mean.astype(wide), dtype=np.float32)


def unit_rows(x: Any) -> Any:
    """Rows of a CSR matrix scaled to unit L2 norm; empty ones stay empty."""
    norm = np.sqrt(sqnorms(x))
    scale = np.repeat(1 / np.where(norm > 0, norm, 1), np.diff(x.indptr))
    return type(x)(((x.data * scale).astype(np.float32), x.indices, x.indptr), x.shape)


def sqnorms(x: Any) -> np.ndarray:
    """Squared L2 norms of the rows of a CSR matrix, float64 [n]."""
    squares = np.square(x.data, dtype=np.float64)
    rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    return np.bincount(rows, weights=squares, minlength=x.shape[0])


def as_source(x: Any, name: str = "X") -> Source:
    """Turn a user's data into a `Source`.

    Parameters
    ----------
    x : array-like, memmap, torch tensor, path of a .npy file, or Source

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, PermissionError
        If it is not a readable table of real numbers with at least one row and column.
    """
    if isinstance(x, Source):
        return x
    if isinstance(x, (str, os.PathLike)):
        path = Path(x)
        return ArraySource(checks.matrix(checks.npy_file(path), str(path)))
    return ArraySource(checks.matrix(x, name))


def has_distinct_rows(source: Source, k: int) -> bool:
    """Whether at least `k` rows differ from each other; reads no further than it takes to know."""
    seen: set[bytes] = set()
    for _, block in source.chunks(2**14):
        whole = np.dtype((np.void, block.dtype.itemsize * source.d))
        seen.update(row.tobytes() for row in np.unique((block + 0.0).view(whole)))  # -0.0 + 0.0 is 0.0
        if len(seen) >= k:
            return True
    return False
