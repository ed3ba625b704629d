"""Sums over rows: their norms and total, the sums and means of clusters.

A reduction over rows is cut into a number of pieces that does not depend on the threads, and no two pieces write to
the same place, so that the same input gives the same bits on any number of threads.
"""

import numpy as np
from numba import njit, prange

from fastann.kernels.members import group
from fastann.kernels.rows import add, readonly, table
from fastann.kernels.simd import FAST

_PIECES = 64  # a reduction over rows is cut into so many, whatever the number of threads


@njit(parallel=True, fastmath=FAST - {"arcp", "nnan"}, cache=True, nogil=True)
def _survey(x, sqnorm, sums):
    n, d = x.shape
    pieces = sums.shape[0]
    for s in prange(pieces):
        total = sums[s]
        for i in range(s * n // pieces, (s + 1) * n // pieces):
            row = np.float64(0)
            for j in range(d):
                v = np.float64(x[i, j])
                row += v * v
                total[j] += v
            sqnorm[i] = row


def survey(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared L2 norm of each row of a float32 array [n, d], and the sum of the rows.

    NaN and infinity show in the norms, which is how they are found.

    Returns
    -------
    sqnorms : float64 [n]
    sum : float64 [d]
    """
    sqnorm = np.empty(len(x))
    sums = np.zeros((min(_PIECES, 1 + len(x) // 32), x.shape[1]))  # few rows are not worth many sums
    _survey(readonly(x), sqnorm, sums)
    return sqnorm, sums.sum(axis=0)


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _add_rows(x, weights, sign, offsets, order, sums, mass, edge, edge_mass, edge_id):
    """Each piece takes a run of `order`. Clusters that it may share with its neighbours are summed in `edge`."""
    n = order.shape[0]
    weighted = weights.shape[0] > 0
    pieces = edge.shape[0]
    for s in prange(pieces):
        p = s * n // pieces
        end = (s + 1) * n // pieces
        j = np.searchsorted(offsets, p, side="right") - 1
        while p < end:
            while offsets[j + 1] <= p:
                j += 1
            stop = min(end, offsets[j + 1])
            whole = p == offsets[j] and stop == offsets[j + 1]
            side = 0 if p == s * n // pieces else 1
            if not whole:
                edge_id[s, side] = j
            total = sums[j] if whole else edge[s, side]
            w_total = np.float64(0)
            for q in range(p, stop):
                i = order[q]
                w = sign * weights[i] if weighted else sign
                w_total += w
                add(x, i, w, total)
            if weighted:
                if whole:
                    mass[j] += w_total
                else:
                    edge_mass[s, side] = w_total
            p = stop


def add_rows(
    x: np.ndarray,
    weights: np.ndarray | None,
    labels: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    rows: np.ndarray | None = None,
    *,
    sign: int = 1,
) -> None:
    """Add each row, times its weight, to the sum of its cluster, in place; or take it away, with sign -1.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    weights : float64 [n] or None
    labels : int32 [n], or [r] with `rows`
    sums : float64 [k, d]
        Written to.
    counts : int64 [k], or float64 [k] when weighted
        Rows of each cluster, or their weight; written to.
    rows : int32 [r], optional
        Add only these rows.
    """
    offsets, order = group(labels, len(sums))
    if rows is not None:
        order = rows[order]
    edge = np.zeros((_PIECES, 2, x.shape[1]))
    edge_mass = np.zeros((_PIECES, 2))
    edge_id = np.full((_PIECES, 2), -1)
    w = np.empty(0) if weights is None else weights
    mass = np.empty(0) if weights is None else counts
    _add_rows(table(x), readonly(w), float(sign), offsets, order, sums, mass, edge, edge_mass, edge_id)
    for s, side in np.argwhere(edge_id >= 0):
        sums[edge_id[s, side]] += edge[s, side]
        if weights is not None:
            counts[edge_id[s, side]] += edge_mass[s, side]
    if weights is None:
        counts += sign * np.diff(offsets)


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _means(sums, counts, cosine, changed, before, means, explained):
    k, d = sums.shape
    for j in prange(k):
        if not changed[j]:
            means[j] = before[j]
            continue
        square = np.float64(0)
        for t in range(d):
            square += sums[j, t] * sums[j, t]
        length = np.sqrt(square)
        scale = length if cosine else counts[j]
        if counts[j] > 0 and scale > 0:
            explained[j] = length if cosine else square / counts[j]
            for t in range(d):
                means[j, t] = np.float32(sums[j, t] / scale)
        else:
            explained[j] = 0
            means[j] = before[j]


def means(
    sums: np.ndarray,
    counts: np.ndarray,
    before: np.ndarray,
    *,
    cosine: bool,
    changed: np.ndarray | None = None,
    explained: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each cluster, scaled to unit norm for cosine; clusters without rows keep their centroid.

    Parameters
    ----------
    sums : float64 [k, d]
    counts : float64 or int64 [k]
    before : float32 [k, d]
    changed : bool [k], optional
        Clusters whose sums changed since `before` was made of them; all when not given.
    explained : float64 [k], optional
        What was returned with `before`; updated in place, and returned.

    Returns
    -------
    means : float32 [k, d]
    explained : float64 [k]
        By how much representing a cluster's rows by their mean lowers the weighted sum of squared norms:
        ``|S|^2 / W`` of its sum S and weight W; for cosine half of that, which is ``|S|``.
    """
    out = np.empty_like(before)
    changed = np.ones(len(sums), bool) if changed is None else changed
    explained = np.empty(len(sums)) if explained is None else explained
    _means(sums, counts.astype(np.float64), cosine, changed, readonly(before), out, explained)
    return out, explained
