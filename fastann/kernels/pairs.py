"""Squared distances of given pairs of a row and a centroid, one by one or for lists of them.

Rows are a float32 array or a `CSR`, centroids are dense. Sparse rows need the squared norms of the centroids, see
`norms_for`; dense rows do not read them.
"""

from typing import Any

import numpy as np
from numba import njit, prange
from scipy import sparse

from fastann.kernels.norms import sqnorms
from fastann.kernels.rows import by_kind, readonly, sqdist, table
from fastann.kernels.simd import FAST


@njit(fastmath=FAST, inline="always")
def sqdist32(a, b):
    """Squared L2 distance of two float32 vectors, in float32."""
    total = np.float32(0)
    for j in range(a.shape[0]):
        t = a[j] - b[j]
        total += t * t
    return total


@njit(fastmath=FAST, inline="always")
def sqdist64(a, b):
    """Squared L2 distance of two float32 vectors, in float64."""
    total = np.float64(0)
    for j in range(a.shape[0]):
        t = np.float64(a[j]) - np.float64(b[j])
        total += t * t
    return total


@by_kind
class pair:
    """Squared L2 distance of row `i` to the dense centroid `j`, float32; `csq` is what `norms_for` returned."""

    def csr(rows, i, c, j, csq):
        return np.float32(sqdist(rows, i, c[j], csq[j]))

    def dense(rows, i, c, j, csq):
        return sqdist32(rows[i], c[j])


@by_kind
class pair64:
    """The same in float64."""

    def csr(rows, i, c, j, csq):
        return sqdist(rows, i, c[j], csq[j])

    def dense(rows, i, c, j, csq):
        return sqdist64(rows[i], c[j])


def norms_for(x: Any, c: np.ndarray) -> np.ndarray:
    """Squared norms of centroids, float64 [k], as `pair` needs them for the rows `x`; empty if these are dense."""
    return sqnorms(c) if sparse.issparse(x) else np.empty(0)


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _rescore(x, c, csq, ids, sqdist):
    n, m = ids.shape
    for i in prange(n):
        for t in range(m):
            j = ids[i, t]
            value = np.float32(np.inf) if j < 0 else pair(x, i, c, j, csq)
            s = t
            while s > 0 and (sqdist[i, s - 1] > value or (sqdist[i, s - 1] == value and ids[i, s - 1] > j >= 0)):
                sqdist[i, s] = sqdist[i, s - 1]
                ids[i, s] = ids[i, s - 1]
                s -= 1
            sqdist[i, s] = value
            ids[i, s] = j


def rescore(x: np.ndarray, c: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort each row's candidate centroids by float32 squared L2 distance; -1 goes last, at infinity.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    c : float32 [k, d]
    ids : int32 [n, m]
        Centroid ids or -1. Sorted in place.

    Returns
    -------
    ids : int32 [n, m]
    sqdist : float32 [n, m]
    """
    sqdist = np.empty(ids.shape, np.float32)
    _rescore(table(x), readonly(c), norms_for(x, c), ids, sqdist)
    return ids, sqdist


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _own_sqdist(x, c, csq, labels, sqdist):
    for i in prange(labels.shape[0]):
        sqdist[i] = pair64(x, i, c, labels[i], csq)


def own_sqdist(x: np.ndarray, c: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared L2 distance of each row to one centroid, float64 [n].

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    c : float32 [k, d]
    labels : int32 [n]
        The centroid of each row.
    """
    sqdist = np.empty(x.shape[0])
    _own_sqdist(table(x), readonly(c), norms_for(x, c), readonly(labels), sqdist)
    return sqdist


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _runner_up(x, c, csq, labels, ids, second, sqdist):
    for i in prange(labels.shape[0]):
        second[i], sqdist[i] = -1, np.inf
        for t in range(ids.shape[1]):
            j = ids[i, t]
            if j >= 0 and j != labels[i]:
                far = pair64(x, i, c, j, csq)
                if far < sqdist[i]:
                    second[i], sqdist[i] = j, far


def runner_up(x: np.ndarray, c: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest of some centroids that is not the row's own.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    c : float32 [k, d]
    labels : int32 [n]
        The row's own centroid.
    ids : int32 [n, m]
        The centroids to choose from; -1 for none.

    Returns
    -------
    second : int32 [n]
        -1 where `ids` names no other.
    sqdist : float64 [n]
        Squared L2 distance, infinite there.
    """
    second, sqdist = np.empty(len(labels), np.int32), np.empty(len(labels))
    _runner_up(table(x), readonly(c), norms_for(x, c), readonly(labels), readonly(ids), second, sqdist)
    return second, sqdist


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _drift(a, b, changed, out):
    for j in prange(a.shape[0]):
        out[j] = np.sqrt(sqdist32(a[j], b[j])) if changed[j] else np.float32(0)


def drift(a: np.ndarray, b: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """L2 distance (not squared) between matching rows of two float32 arrays [k, d]: float32 [k].

    It is 0 where not `changed` (bool [k]), without looking.
    """
    out = np.empty(len(a), np.float32)
    _drift(readonly(a), readonly(b), changed, out)
    return out
