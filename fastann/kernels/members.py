"""The rows of each cluster: grouped, counted, picked out by their place."""

import numpy as np
from numba import njit

from fastann.kernels.rows import readonly


@njit(cache=True, nogil=True)
def _group(labels, offsets, order):
    for i in range(labels.shape[0]):
        offsets[labels[i] + 1] += 1
    for j in range(offsets.shape[0] - 1):
        offsets[j + 1] += offsets[j]
    place = offsets[:-1].copy()
    for i in range(labels.shape[0]):
        j = labels[i]
        order[place[j]] = i
        place[j] += 1


def group(labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Members of each cluster, in row order.

    Returns
    -------
    offsets : int64 [k + 1]
    order : int32 [n], or int64 [n] from 2^31 rows on
        Rows of cluster `j` are ``order[offsets[j]:offsets[j + 1]]``.
    """
    offsets = np.zeros(k + 1, np.int64)
    order = np.empty(len(labels), np.int32 if len(labels) < 2**31 else np.int64)
    _group(readonly(labels), offsets, order)
    return offsets, order


@njit(cache=True, nogil=True)
def _tally(labels, values, weights, out):
    for i in range(labels.shape[0]):
        v = np.float64(values[i]) if values.shape[0] > 0 else 1.0
        out[labels[i]] += v * weights[i] if weights.shape[0] > 0 else v


def tally(
    labels: np.ndarray, k: int, values: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """Sum of the values (float32 [n]; None: 1 each), times weights (float64 [n]), of each cluster: float64 [k].

    ``numpy.bincount`` copies labels and values to 64 bits.
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
    """For some different clusters the member at a place (from 0) among their rows: int64 [len(clusters)]."""
    place = np.full(int(labels.max(initial=-1)) + 1, -1)
    place[clusters] = np.arange(len(clusters))
    out = np.empty(len(clusters), np.int64)
    _members_at(readonly(labels), place, np.array(at, np.int64), out)
    return out
