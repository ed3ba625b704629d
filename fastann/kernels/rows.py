"""Rows for compiled loops that take dense and sparse data alike: what a loop does with one row.

A table of rows is a float32 array [n, d] or a `CSR`; one generic loop serves both, as Numba picks the right
operations by type. A row of a `CSR` is compared with a dense vector: `load` spreads a sparse row into one.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload
from scipy import sparse

from fastann.kernels.simd import FAST


def readonly(a: np.ndarray) -> np.ndarray:
    """View that may not be written to: kernels are compiled for these alone."""
    view = a.view()
    view.flags.writeable = False
    return view


class CSR(NamedTuple):
    """Compressed sparse rows: row i holds ``data[q]`` in column ``indices[q]``, q from indptr[i] to indptr[i + 1]."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


def table(x: Any, *, write: bool = False) -> Any:
    """Rows as compiled loops take them: float32 C-ordered, or a float32 CSR matrix; read-only unless to `write`."""
    if not sparse.issparse(x):
        return x if write else readonly(x)
    indices, indptr = x.indices.astype(np.int32, copy=False), x.indptr.astype(np.int64, copy=False)
    return CSR(x.data if write else readonly(x.data), readonly(indices), readonly(indptr))


def _stub(*args):
    raise NotImplementedError("compiled code only")


def _sparse(rows):
    return isinstance(rows, types.BaseTuple)


def dot32(rows, i, v):
    """Product of row `i` with a dense vector, in float32."""
    return _stub(rows, i, v)


@overload(dot32, jit_options={"fastmath": FAST})
def _dot32(rows, i, v):
    if _sparse(rows):

        def product(rows, i, v):
            total = np.float32(0)
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                total += rows.data[q] * v[rows.indices[q]]
            return total

        return product

    def product(rows, i, v):
        total = np.float32(0)
        for t in range(rows.shape[1]):
            total += rows[i, t] * v[t]
        return total

    return product


def sqnorm(rows, i):
    """Squared L2 norm of row `i`, in float64."""
    return _stub(rows, i)


@overload(sqnorm, jit_options={"fastmath": FAST})
def _sqnorm(rows, i):
    if _sparse(rows):

        def norm(rows, i):
            total = np.float64(0)
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                total += np.float64(rows.data[q]) * np.float64(rows.data[q])
            return total

        return norm

    def norm(rows, i):
        total = np.float64(0)
        for t in range(rows.shape[1]):
            total += np.float64(rows[i, t]) * np.float64(rows[i, t])
        return total

    return norm


def sqdist(rows, i, v, square):
    """Squared L2 distance of row `i` to a dense vector whose squared norm is `square`, in float64."""
    return _stub(rows, i, v, square)


@overload(sqdist, jit_options={"fastmath": FAST})
def _sqdist(rows, i, v, square):
    if _sparse(rows):

        def distance(rows, i, v, square):  # columns the row lacks are in `square`
            total = square
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                t = np.float64(v[rows.indices[q]])
                u = np.float64(rows.data[q]) - t
                total += u * u - t * t
            return max(total, np.float64(0))

        return distance

    def distance(rows, i, v, square):
        total = np.float64(0)
        for t in range(rows.shape[1]):
            u = np.float64(rows[i, t]) - np.float64(v[t])
            total += u * u
        return total

    return distance


def add(rows, i, weight, v):
    """Add `weight` times row `i` to a dense vector."""
    return _stub(rows, i, weight, v)


@overload(add, jit_options={"fastmath": FAST})
def _add(rows, i, weight, v):
    if _sparse(rows):

        def plus(rows, i, weight, v):
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                v[rows.indices[q]] += weight * rows.data[q]  # in the precision of `weight`

        return plus

    def plus(rows, i, weight, v):
        for t in range(rows.shape[1]):
            v[t] += weight * rows[i, t]

    return plus


def clear(rows, i, v):
    """Zero a dense vector where row `i` has entries."""
    return _stub(rows, i, v)


@overload(clear)
def _clear(rows, i, v):
    if _sparse(rows):

        def zero(rows, i, v):
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                v[rows.indices[q]] = 0

        return zero

    def zero(rows, i, v):
        for t in range(rows.shape[1]):
            v[t] = 0

    return zero


def load(rows, i, work):
    """Row `i` as a dense vector: itself, or spread into `work`, which is zero; `unload` makes it so again."""
    return _stub(rows, i, work)


@overload(load)
def _load(rows, i, work):
    if _sparse(rows):

        def spread(rows, i, work):
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                work[rows.indices[q]] = rows.data[q]
            return work

        return spread
    return lambda rows, i, work: rows[i]


def unload(rows, i, work):
    """Make `work` zero again after `load`."""
    return _stub(rows, i, work)


@overload(unload)
def _unload(rows, i, work):
    if _sparse(rows):

        def zero(rows, i, work):
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                work[rows.indices[q]] = 0

        return zero
    return lambda rows, i, work: None


def entries(rows, i):
    """Stored values of row `i`, as a vector that may be written to."""
    return _stub(rows, i)


@overload(entries)
def _entries(rows, i):
    if _sparse(rows):
        return lambda rows, i: rows.data[rows.indptr[i] : rows.indptr[i + 1]]
    return lambda rows, i: rows[i]


def gather(rows, i, v, work):
    """Values of a dense vector where row `i` has entries: the vector itself, or its values gathered in `work`."""
    return _stub(rows, i, v, work)


@overload(gather)
def _gather(rows, i, v, work):
    if _sparse(rows):

        def values(rows, i, v, work):
            first = rows.indptr[i]
            for q in range(first, rows.indptr[i + 1]):
                work[q - first] = v[rows.indices[q]]
            return work

        return values
    return lambda rows, i, v, work: v
