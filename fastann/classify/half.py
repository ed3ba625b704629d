"""Prototypes in two bytes a value: float16, or bfloat16, the upper halves of float32. They are searched as they are.

NumPy has no bfloat16, and SciPy no sparse float16, so values are kept as bits. A search widens some prototypes at a
time to float32, which is exact, and compares as others are compared: only what is stored is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fastann import kernels
from fastann.index.base import Index
from fastann.index.own import CellsIndex, FlatIndex

AT_ONCE = 2**20  # values of dense prototypes that are float32 at a time
NARROW = 2**16  # columns, and prototypes, up to which their numbers take two bytes


def half_bits(values: np.ndarray, dtype: str) -> np.ndarray:
    """Finite float32 values as the bits of float16 or bfloat16, rounded to nearest, ties to even: uint16."""
    if dtype == "float16":
        largest = float(np.abs(values).max(initial=0))
        if largest > float(np.finfo(np.float16).max):
            raise ValueError(
                f"prototypes have values up to {largest:.3g}, and dtype='float16' ends at 65504; pass "
                "dtype='bfloat16', or scale X"
            )
        return values.astype(np.float16).view(np.uint16)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def widened(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Values of half precision, given by their bits, as float32."""
    if dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass(frozen=True, eq=False)
class Half:
    """Rows of half precision, dense or CSR.

    Attributes
    ----------
    bits : uint16 [K, d], or [stored values] of CSR rows
    dtype : {"float16", "bfloat16"}
    shape : (int, int)
    indices : uint16 or int32 [stored values], or None
        Columns of CSR rows; uint16 where there are few.
    indptr : int64 [K + 1] or None
    """

    bits: np.ndarray
    dtype: str
    shape: tuple[int, int]
    indices: np.ndarray | None = None
    indptr: np.ndarray | None = None

    @classmethod
    def of(cls, vectors: Any, dtype: str) -> Half:
        """Round float32 rows, an array or a CSR matrix; or rows of another half precision."""
        vectors = wide(vectors)
        shape = int(vectors.shape[0]), int(vectors.shape[1])
        if not sparse.issparse(vectors):
            return cls(half_bits(vectors, dtype), dtype, shape)
        narrow = np.uint16 if shape[1] <= NARROW else np.int32
        return cls(
            half_bits(vectors.data, dtype),
            dtype,
            shape,
            vectors.indices.astype(narrow),
            vectors.indptr.astype(np.int64),
        )

    @property
    def sparse(self) -> bool:
        """Whether these are CSR rows."""
        return self.indices is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the values and, of CSR rows, of what says where they stand."""
        return sum(a.nbytes for a in (self.bits, self.indices, self.indptr) if a is not None)

    def __getitem__(self, some: Any) -> Any:
        """Some rows, by a slice or their numbers: float32 [n, d], or a float32 CSR matrix."""
        if self.indices is None or self.indptr is None:
            return widened(self.bits[some], self.dtype)
        if isinstance(some, slice):
            begin, end, step = some.indices(self.shape[0])
            if step == 1 and begin <= end:
                part = slice(self.indptr[begin], self.indptr[end])
                indptr = self.indptr[begin : end + 1] - self.indptr[begin]
                return self._csr(self.bits[part], self.indices[part], indptr)
            some = np.arange(begin, end, step)
        sizes = np.diff(self.indptr)[some]
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        at = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][some] - indptr[:-1], sizes)
        return self._csr(self.bits[at], self.indices[at], indptr)

    def _csr(self, bits: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> Any:
        parts = widened(bits, self.dtype), indices.astype(np.int32), indptr.astype(np.int32)
        return sparse.csr_matrix(parts, (len(indptr) - 1, self.shape[1]))

    def parts(self) -> Iterator[slice]:
        """Slices of rows that are widened at a time."""
        step = max(1, AT_ONCE // self.shape[1])
        return (slice(start, min(start + step, self.shape[0])) for start in range(0, self.shape[0], step))


def wide(vectors: Any) -> Any:
    """Rows as float32, an array or a CSR matrix; those that are so already as they are."""
    return vectors[:] if isinstance(vectors, Half) else vectors


def is_sparse(vectors: Any) -> bool:
    """Whether rows, of whatever precision, are CSR."""
    return vectors.sparse if isinstance(vectors, Half) else sparse.issparse(vectors)


class HalfFlat(Index):
    """Exact search among dense prototypes of half precision, some of them at a time."""

    exact = True

    def __init__(self, vectors: Half):
        self.centroids = vectors

    def search(self, x: Any, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        ids, sqdist = np.full((len(x), m), -1, np.int32), np.full((len(x), m), np.inf, np.float32)
        for part in self.centroids.parts():
            few = self.centroids[part]
            near, far = FlatIndex(few).search(x, min(m, len(few)))
            ids, sqdist = _nearer(ids, sqdist, near + np.int32(part.start), far)
        return ids, sqdist


class HalfCells(Index):
    """Search among dense prototypes of half precision, cell by cell: of the cells nearest to a row.

    Parameters
    ----------
    vectors : Half
    cells : CellsIndex
        Of the same prototypes in float32, of which only the cells are kept.
    """

    def __init__(self, vectors: Half, cells: CellsIndex):
        self.centroids, self.nprobe = vectors, cells.nprobe
        self.centers, self.columns, self.offsets = cells.centers, cells.columns, cells.offsets

    def search(self, x: Any, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        ids, sqdist = np.full((len(x), m), -1, np.int32), np.full((len(x), m), np.inf, np.float32)
        probed = FlatIndex(self.centers).search(x, self.nprobe)[0].ravel()
        order = np.argsort(probed, kind="stable")
        ends = np.searchsorted(probed[order], np.arange(len(self.centers) + 1))
        for cell in np.flatnonzero(np.diff(ends)):
            members = self.columns[self.offsets[cell] : self.offsets[cell + 1]]
            if not len(members):
                continue
            rows = order[ends[cell] : ends[cell + 1]] // self.nprobe
            few = self.centroids[members]
            near, far = FlatIndex(few, screened=False).search(x[rows], min(m, len(few)))
            ids[rows], sqdist[rows] = _nearer(ids[rows], sqdist[rows], members[near].astype(np.int32), far)
        short = np.flatnonzero((ids < 0).any(axis=1))  # their cells have fewer prototypes than were asked for
        if len(short):
            ids[short], sqdist[short] = HalfFlat(self.centroids).search(x[short], m)
        return ids, sqdist


class HalfInverted(Index):
    """Exact search among CSR prototypes of half precision, through the prototypes that have each column.

    Only lists of columns that the rows have are widened.
    """

    exact = True

    def __init__(self, vectors: Half):
        self.centroids = vectors
        by_column = vectors[:].T.tocsr()
        self.sqnorm = kernels.sqnorms(vectors[:])
        self.lists = Half.of(by_column, vectors.dtype)

    def search(self, x: Any, m: int, hint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        columns, place = np.unique(x.indices, return_inverse=True)
        rows = sparse.csr_matrix((x.data, place.astype(np.int32), x.indptr), (x.shape[0], max(1, len(columns))))
        lists = self.lists[columns if len(columns) else slice(0, 1)]
        return kernels.search_inverted(rows, lists, self.sqnorm, m, None)


def _nearer(ids: np.ndarray, sqdist: np.ndarray, more: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of two lists for each row, nearest first, equal ones in the order of their ids."""
    m = ids.shape[1]
    ids, sqdist = np.concatenate([ids, more], axis=1), np.concatenate([sqdist, far], axis=1)
    order = np.lexsort((ids, sqdist), axis=1)[:, :m]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(sqdist, order, axis=1)
