"""Compiled search of sparse rows among dense centroids: cost in the rows' stored values, not in columns."""

from typing import Any

import numpy as np
from numba import njit, prange

from fastann.kernels.lists import insert
from fastann.kernels.rows import readonly, table
from fastann.kernels.simd import FAST, HUGE, fmin

ROWS = 256  # rows of a task, which has a score of every centroid in memory


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _search(rows, by_column, csq, m, ids, dist):
    n, k = ids.shape[0], csq.shape[0]
    cmax = np.float64(0)
    for j in range(k):
        cmax = max(cmax, csq[j])
    for task in prange((n + ROWS - 1) // ROWS):
        score = np.empty(k, np.float32)
        best, near = np.empty(m), np.empty(m, np.int32)
        first, last = task * ROWS, min(n, (task + 1) * ROWS)
        for i in range(first, last):
            square = np.float64(0)
            for j in range(k):
                score[j] = csq[j]
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                v = rows.data[q]
                square += np.float64(v) * np.float64(v)
                centre = by_column[rows.indices[q]]
                for j in range(k):
                    score[j] -= 2 * v * centre[j]
            # Twice the largest rounding error of a score (Higham, Accuracy and Stability of Numerical Algorithms,
            # 3.1): scores further apart are in true order, the others are decided in float64.
            size = rows.indptr[i + 1] - rows.indptr[i]
            slack = np.float32(4 * 2.0**-24 * ((size + 2) * (2 * np.sqrt(square * cmax) + cmax)))
            best[:] = np.inf
            near[:] = -1
            low = np.float32(HUGE)
            for j in range(k):
                low = fmin(low, score[j])
            limit = low + slack if m == 1 else HUGE
            for j0 in range(0, k, 64):
                j1 = min(k, j0 + 64)
                low = np.float32(HUGE)
                for j in range(j0, j1):
                    low = fmin(low, score[j])
                if low > limit:
                    continue
                for j in range(j0, j1):
                    if score[j] <= limit:
                        total = csq[j]
                        for q in range(rows.indptr[i], rows.indptr[i + 1]):
                            c = np.float64(by_column[rows.indices[q], j])
                            u = np.float64(rows.data[q]) - c
                            total += u * u - c * c
                        if total < best[m - 1]:
                            insert(best, near, total, j)
                            if m > 1 and best[m - 1] < HUGE:
                                limit = np.float32(best[m - 1] - square) + slack
            for t in range(m):
                ids[i, t] = near[t]
                dist[i, t] = max(best[t], 0.0)


def search_sparse(x: Any, by_column: np.ndarray, csq: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The `m` nearest centroids of each row, nearest first, certified exact; equal distances in the order of ids.

    Scores come from float32 sums over the row's stored values, vectorised over centroids; those closer than the
    worst rounding error are decided by float64 distances.

    Parameters
    ----------
    x : float32 CSR matrix [n, d]
    by_column : float32 [d, k]
        The centroids, transposed.
    csq : float64 [k]
        Their squared L2 norms.
    m : int
        At most k.

    Returns
    -------
    ids : int32 [n, m]
    sqdist : float32 [n, m]
        Squared L2 distances.
    """
    ids, dist = np.empty((x.shape[0], m), np.int32), np.empty((x.shape[0], m), np.float32)
    _search(table(x), readonly(by_column), readonly(csq), m, ids, dist)
    return ids, dist
