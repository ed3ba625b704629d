"""The rows of each cluster: grouped, counted, picked out by their place."""

import numpy as np
from numba import njit

from fastann.kernels.rows import readonly


@njit(cache=True, nogil=True)
def sort_by_label(labels, offsets, order):
    """Fill `offsets` (zeros, one more than labels) and `order` as `group` returns them: a counting sort."""
    for i in range(labels.shape[0]):
        if labels[i] >= 0:
            offsets[labels[i] + 1] += 1
    for j in range(offsets.shape[0] - 1):
        offsets[j + 1] += offsets[j]
    place = offsets[:-1].copy()
    for i in range(labels.shape[0]):
        j = labels[i]
        if j >= 0:
            order[place[j]] = i
            place[j] += 1


def group(labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Members of each cluster, in row order.

    Parameters
    ----------
    labels : int32 [n]
        Below k; rows whose label is negative are left out.
    k : int

    Returns
    -------
    offsets : int64 [k + 1]
    order : int32 [rows of all clusters], or int64 from 2^31 rows on
        Rows of cluster `j` are ``order[offsets[j]:offsets[j + 1]]``.
    """
    offsets = np.zeros(k + 1, np.int64)
    order = np.empty(len(labels), np.int32 if len(labels) < 2**31 else np.int64)
    sort_by_label(readonly(labels), offsets, order)
    return offsets, order[: offsets[-1]]


@njit(cache=True, nogil=True)
def _tally(labels, values, weights, out):
    for i in range(labels.shape[0]):
        v = np.float64(values[i]) if values.shape[0] > 0 else 1.0
        out[labels[i]] += v * weights[i] if weights.shape[0] > 0 else v


def tally(
    labels: np.ndarray, k: int, values: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """Sum of the values of each cluster's rows, times their weights: float64 [k].

    Unlike ``numpy.bincount``, it copies neither labels nor values to 64 bits.

    Parameters
    ----------
    labels : int32 [n]
    k : int
    values : float32 [n], optional
        1 each when not given.
    weights : float64 [n], optional
        1 each when not given.
    """
    out = np.zeros(k)
    values = np.empty(0, np.float32) if values is None else values
    weights = np.empty(0) if weights is None else weights
    _tally(readonly(labels), readonly(values), readonly(weights), out)
    return out


@njit(cache=True, nogil=True)
def _members_at(labels, place, left, out):
    for i in range(labels.shape[0]):
        g = place[labels[i]]
        if g >= 0:
            if left[g] == 0:
                out[g] = i
            left[g] -= 1


def members_at(labels: np.ndarray, clusters: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Pick one row of each of some clusters, by its place among the cluster's rows: int64 [c].

    Parameters
    ----------
    labels : int32 [n]
    clusters : int [c]
        No cluster twice.
    at : int [c]
        Places, from 0 and below the cluster's size.
    """
    place = np.full(int(labels.max(initial=-1)) + 1, -1)
    place[clusters] = np.arange(len(clusters))
    out = np.empty(len(clusters), np.int64)
    _members_at(readonly(labels), place, np.array(at, np.int64), out)
    return out
