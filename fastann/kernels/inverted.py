"""Compiled search of sparse rows among sparse centroids, through the lists of centroids that have each column."""

import numpy as np
from numba import njit, prange
from scipy import sparse

from fastann.kernels.lists import insert
from fastann.kernels.rows import CSR, readonly, table
from fastann.kernels.simd import FAST

ROWS = 64  # rows of a task, which has a product with every centroid in memory


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _search(rows, lists, csq, m, budget, ids, sqdist):
    n, k = ids.shape[0], csq.shape[0]
    for piece in prange((n + ROWS - 1) // ROWS):
        product = np.zeros(k)
        best, near = np.empty(m), np.empty(m, np.int32)
        for i in range(piece * ROWS, min(n, (piece + 1) * ROWS)):
            square, visits, longest = np.float64(0), 0, 0
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                t = rows.indices[q]
                square += np.float64(rows.data[q]) ** 2
                visits += lists.indptr[t + 1] - lists.indptr[t]
                longest = max(longest, lists.indptr[t + 1] - lists.indptr[t])
            while visits > budget and longest > 1:  # leave out the commonest columns: they discriminate least
                longest //= 2
                visits = 0
                for q in range(rows.indptr[i], rows.indptr[i + 1]):
                    size = lists.indptr[rows.indices[q] + 1] - lists.indptr[rows.indices[q]]
                    visits += size if size <= longest else 0
            for q in range(rows.indptr[i], rows.indptr[i + 1]):
                t = rows.indices[q]
                if lists.indptr[t + 1] - lists.indptr[t] > longest:
                    continue
                v = np.float64(rows.data[q])
                for p in range(lists.indptr[t], lists.indptr[t + 1]):
                    product[lists.indices[p]] += v * np.float64(lists.data[p])
            best[:] = np.inf
            near[:] = -1
            for j in range(k):
                s = csq[j] - 2 * product[j]
                product[j] = 0
                if s < best[m - 1]:
                    insert(best, near, s, j)
            for t in range(m):
                ids[i, t] = near[t]
                sqdist[i, t] = max(best[t] + square, 0)


def search_inverted(
    x: sparse.csr_matrix, lists: CSR, csq: np.ndarray, m: int, budget: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `m` nearest centroids of each row, nearest first, exactly; equal distances in the order of their ids.

    A row costs as much as centroids have stored values in the row's columns, plus one comparison per centroid.

    Parameters
    ----------
    x : float32 CSR matrix [n, d]
    lists : CSR
        The centroids by column: the transpose of their matrix.
    csq : float64 [k]
        Squared L2 norms of the centroids.
    m : int
        At most k.
    budget : int, optional
        Most stored values of centroids to multiply per row. The columns that most centroids have are left out until
        that suffices, which makes the search approximate. None: no limit.

    Returns
    -------
    ids : int32 [n, m]
    sqdist : float32 [n, m]
        Squared L2 distances.
    """
    ids, sqdist = np.empty((x.shape[0], m), np.int32), np.empty((x.shape[0], m), np.float32)
    _search(table(x), lists, readonly(csq), m, 2**62 if budget is None else budget, ids, sqdist)
    return ids, sqdist
