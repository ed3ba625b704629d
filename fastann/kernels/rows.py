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
    """Compressed sparse rows: row i holds ``data[q]`` in column ``indices[q]``, q from indptr[i] to indptr[i + 1].

    Attributes
    ----------
    data : float32
    indices : int32
    indptr : int64 [n + 1]
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


def table(x: Any, *, write: bool = False) -> Any:
    """Rows as compiled loops take them, without a copy of the values.

    Parameters
    ----------
    x : float32 [n, d], C-ordered, or a float32 CSR matrix
    write : bool
        Whether the values may be written to; otherwise the result is read-only.

    Returns
    -------
    float32 [n, d], or CSR
    """
    if not sparse.issparse(x):
        return x if write else readonly(x)
    indices, indptr = x.indices.astype(np.int32, copy=False), x.indptr.astype(np.int64, copy=False)
    return CSR(x.data if write else readonly(x.data), readonly(indices), readonly(indptr))


def by_kind(operation: type) -> Any:
    """Make a function for compiled code of a class that holds one for sparse rows, `csr`, and one for `dense` ones.

    The first argument is the table of rows, whose type decides when a loop is compiled.
    """

    def stub(*args):
        raise NotImplementedError("compiled code only")

    stub.__name__, stub.__doc__ = operation.__name__, operation.__doc__
    csr, dense = vars(operation)["csr"], vars(operation)["dense"]
    choose = overload(stub, strict=False, jit_options={"fastmath": FAST})
    choose(lambda rows, *args: csr if isinstance(rows, types.BaseTuple) else dense)
    return stub


@by_kind
class dot32:
    """Product of row `i` with a dense vector, in float32."""

    def csr(rows, i, v):
        total = np.float32(0)
        for q in range(rows.indptr[i], rows.indptr[i + 1]):
            total += rows.data[q] * v[rows.indices[q]]
        return total

    def dense(rows, i, v):
        total = np.float32(0)
        for t in range(rows.shape[1]):
            total += rows[i, t] * v[t]
        return total


@by_kind
class sqnorm:
    """Squared L2 norm of row `i`, in float64."""

    def csr(rows, i):
        total = np.float64(0)
        for q in range(rows.indptr[i], rows.indptr[i + 1]):
            total += np.float64(rows.data[q]) * np.float64(rows.data[q])
        return total

    def dense(rows, i):
        total = np.float64(0)
        for t in range(rows.shape[1]):
            total += np.float64(rows[i, t]) * np.float64(rows[i, t])
        return total


@by_kind
class sqdist:
    """Squared L2 distance of row `i` to a dense vector whose squared norm is `square`, in float64."""

    def csr(rows, i, v, square):  # `square` holds the columns the row lacks
        total = square
        for q in range(rows.indptr[i], rows.indptr[i + 1]):
            t = np.float64(v[rows.indices[q]])
            u = np.float64(rows.data[q]) - t
            total += u * u - t * t
        return max(total, np.float64(0))

    def dense(rows, i, v, square):
        total = np.float64(0)
        for t in range(rows.shape[1]):
            u = np.float64(rows[i, t]) - np.float64(v[t])
            total += u * u
        return total


@by_kind
class add:
    """Add `weight` times row `i` to a dense vector."""

    def csr(rows, i, weight, v):
        for q in range(rows.indptr[i], rows.indptr[i + 1]):
            v[rows.indices[q]] += weight * rows.data[q]  # in the precision of `weight`

    def dense(rows, i, weight, v):
        for t in range(rows.shape[1]):
            v[t] += weight * rows[i, t]


@by_kind
class clear:
    """Zero a dense vector where row `i` has entries."""

    def csr(rows, i, v):
        for q in range(rows.indptr[i], rows.indptr[i + 1]):
            v[rows.indices[q]] = 0

    def dense(rows, i, v):
        for t in range(rows.shape[1]):
            v[t] = 0


@by_kind
class load:
    """Row `i` as a dense vector: itself, or spread into `work`, which must be zero; `unload` zeroes it again."""

    def csr(rows, i, work):
        for q in range(rows.indptr[i], rows.indptr[i + 1]):
            work[rows.indices[q]] = rows.data[q]
        return work

    def dense(rows, i, work):
        return rows[i]


@by_kind
class unload:
    """Zero `work` again after `load`."""

    def csr(rows, i, work):
        for q in range(rows.indptr[i], rows.indptr[i + 1]):
            work[rows.indices[q]] = 0

    def dense(rows, i, work):
        pass


@by_kind
class entries:
    """Stored values of row `i`, as a vector that may be written to."""

    def csr(rows, i):
        return rows.data[rows.indptr[i] : rows.indptr[i + 1]]

    def dense(rows, i):
        return rows[i]


@by_kind
class gather:
    """Values of a dense vector where row `i` has entries: the vector itself, or its values gathered in `work`."""

    def csr(rows, i, v, work):
        first = rows.indptr[i]
        for q in range(first, rows.indptr[i + 1]):
            work[q - first] = v[rows.indices[q]]
        return work

    def dense(rows, i, v, work):
        return v
