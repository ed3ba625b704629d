"""About the eight nearest centroids of rows, searched cell by cell with float32 products."""

import numpy as np
from numba import njit, prange

from fastann.kernels.lists import bucket, insert, scan
from fastann.kernels.rows import readonly
from fastann.kernels.simd import FAST, HUGE
from fastann.kernels.threads import one_blas_thread

TASK = 1024  # rows looked at together, so that many of them meet in each cell


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _eight_in_cells(x, rows, c, csq, coarse, coarse_sq, first_column, columns, nprobe, within, ids, dist):
    n = rows.shape[0]
    d = x.shape[1]
    cells = coarse.shape[0]
    m = ids.shape[1]
    largest = 0
    for g in range(cells):
        largest = max(largest, first_column[g + 1] - first_column[g])
    for task in prange((n + TASK - 1) // TASK):
        start = task * TASK
        count = min(TASK, n - start)
        xb = np.empty((count, d), np.float32)
        xsq = np.empty(count, np.float32)
        best = np.empty((count, m), np.float32)
        for i in range(count):
            total = np.float32(0)
            for t in range(d):
                v = x[rows[start + i], t]
                xb[i, t] = v
                total += v * v
            xsq[i] = total
            w = within[start + i]
            # The list starts full of rows no farther than wanted, so that the rest is never inserted.
            best[i, :] = HUGE if w >= HUGE else w * w * np.float32(1.0001) - total + np.float32(1e-5) * total
            ids[start + i, :] = -1
        scores = np.dot(xb, coarse.T)
        probes = np.empty((count, nprobe), np.int32)
        nearest = np.empty(nprobe, np.float32)
        for i in range(count):
            nearest[:] = HUGE
            probes[i] = 0
            for g in range(cells):
                v = coarse_sq[g] - np.float32(2) * scores[i, g]
                if v < nearest[nprobe - 1]:
                    insert(nearest, probes[i], v, np.int32(g))
        first, members = bucket(probes, cells)
        gathered = np.empty((count, d), np.float32)
        product = np.empty(count * largest, np.float32)
        for g in range(cells):
            q = first[g + 1] - first[g]
            base = first_column[g]
            size = first_column[g + 1] - base
            if q == 0 or size == 0:
                continue
            for p in range(q):
                gathered[p] = xb[members[first[g] + p]]
            out = product[: q * size].reshape(q, size)
            np.dot(gathered[:q], c[base : base + size].T, out)
            for p in range(q):
                i = members[first[g] + p]
                scan(out[p], csq, base, columns, best[i], ids[start + i])
        for i in range(count):
            for t in range(m):
                dist[start + i, t] = (
                    np.sqrt(max(best[i, t] + xsq[i], np.float32(0))) if ids[start + i, t] >= 0 else np.inf
                )


def eight_in_cells(
    x: np.ndarray,
    rows: np.ndarray,
    c: np.ndarray,
    csq: np.ndarray,
    coarse: np.ndarray,
    first_column: np.ndarray,
    columns: np.ndarray,
    nprobe: int,
    within: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """About the eight nearest centroids of some rows, searched cell by cell with float32 products.

    All queries being known, the (row, cell) pairs of a block of rows are grouped by cell, and each cell is one
    matrix product: several times faster than scanning query by query.

    Parameters
    ----------
    x : float32 [n, d]
    rows : int32 [r]
        Which rows of `x`.
    c, csq : float32 [k, d] and [k]
        Centroids, cell by cell, and their squared norms.
    coarse : float32 [cells, d]
        Centres of the cells.
    first_column : int64 [cells + 1]
        Where each cell begins in `c`.
    columns : int32 [k]
        Ids of the centroids, in the order of `c`.
    nprobe : int
        Cells searched per row.
    within : float32 [r]
        Distances beyond which no centroid is wanted; infinite for any.

    Returns
    -------
    ids : int32 [r, 8]
        -1 where fewer were found.
    dist : float32 [r, 8]
        Distances (not squared), infinite where the id is -1.
    """
    ids, dist = np.empty((len(rows), 8), np.int32), np.empty((len(rows), 8), np.float32)
    coarse_sq = np.einsum("ij,ij->i", coarse, coarse)
    with one_blas_thread():
        _eight_in_cells(
            readonly(x), readonly(rows), readonly(c), readonly(csq), readonly(coarse), coarse_sq,
            first_column, columns, nprobe, readonly(within), ids, dist,
        )  # fmt: skip
    return ids, dist
