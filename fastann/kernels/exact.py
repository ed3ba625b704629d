"""The compiled searches in float32, by BLAS products: any CPU's, and the reference for faster ones."""

import numba
import numpy as np
from numba import njit, prange

from fastann.kernels.base import (
    FAST,
    HUGE,
    bucket,
    fmin,
    insert,
    norms_for,
    one_blas_thread,
    pair,
    pair64,
    readonly,
    sqdist64,
)
from fastann.kernels.rows import table

ROWS = 512  # rows a task multiplies at once: with COLUMNS, a 2 MiB tile of scores that stays in L2
COLUMNS = 1024
WIDE, PART = 4096, 1024  # rows of more than WIDE columns are multiplied PART columns at a time
SHORTLIST = 16  # near-ties kept per row before they are settled


# --------------------------------------------------------------------------- exact search


@njit(fastmath=FAST, inline="always")
def _settle(x, c, near, score, found, limit):
    """Place, and float64 distance, of the nearest listed centroid within the limit; ties go to the lowest."""
    least = np.inf
    place = -1
    for t in range(found):
        if score[t] <= limit:
            v = sqdist64(x, c[near[t]])
            if place < 0 or v < least or (v == least and near[t] < near[place]):
                least = v
                place = t
    return place, least


@njit(fastmath=FAST)
def _products(x, c, out):
    """Products of rows and centroids; those of very many columns are summed from parts, to bound their rounding."""
    d = x.shape[1]
    if d <= WIDE:
        np.dot(x, c.T, out)
        return
    out[:] = 0
    for t in range(0, d, PART):
        out += np.dot(np.ascontiguousarray(x[:, t : t + PART]), np.ascontiguousarray(c[:, t : t + PART]).T)


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _nearest(x, c, csq, labels, sqdist, rows):
    n, d = x.shape
    terms = d if d <= WIDE else PART + d // PART  # that are added one after the other
    k = c.shape[0]
    u = np.float32(2.0**-24)
    cmax = np.float32(0)
    for j in range(k):
        cmax = max(cmax, csq[j])
    blocks = (n + rows - 1) // rows
    for b in prange(blocks):
        start = b * rows
        count = min(rows, n - start)
        tile = np.empty(count * min(k, COLUMNS), np.float32)
        xsq = np.empty(count, np.float32)
        slack = np.empty(count, np.float32)
        best = np.full(count, HUGE)
        near = np.empty((count, SHORTLIST), np.int32)
        score = np.empty((count, SHORTLIST), np.float32)
        found = np.zeros(count, np.int32)
        for i in range(count):
            total = np.float32(0)
            for j in range(d):
                total += x[start + i, j] * x[start + i, j]
            xsq[i] = total
            # Twice the largest rounding error of one score |c|^2 - 2 x.c (Higham, Accuracy and
            # Stability of Numerical Algorithms, 3.1): two scores further apart are in true order.
            slack[i] = np.float32(4) * u * ((terms + 2) * np.sqrt(total * cmax) + cmax)
        for k0 in range(0, k, COLUMNS):
            width = min(COLUMNS, k - k0)
            scores = tile[: count * width].reshape(count, width)
            _products(x[start : start + count], c[k0 : k0 + width], scores)
            for i in range(count):
                row = scores[i]
                low = HUGE
                for j in range(width):
                    low = fmin(low, csq[k0 + j] - np.float32(2) * row[j])
                if low > best[i] + slack[i]:
                    continue
                best[i] = fmin(best[i], low)
                limit = best[i] + slack[i]
                for j0 in range(0, width, 64):
                    j1 = min(width, j0 + 64)
                    low = HUGE
                    for j in range(j0, j1):
                        low = fmin(low, csq[k0 + j] - np.float32(2) * row[j])
                    if low > limit:
                        continue
                    for j in range(j0, j1):
                        v = csq[k0 + j] - np.float32(2) * row[j]
                        if v > limit:
                            continue
                        if found[i] == SHORTLIST:  # settle what is listed, keep the nearest
                            t, _ = _settle(x[start + i], c, near[i], score[i], found[i], limit)
                            near[i, 0] = near[i, t]
                            score[i, 0] = score[i, t]
                            found[i] = 1
                        near[i, found[i]] = k0 + j
                        score[i, found[i]] = v
                        found[i] += 1
        for i in range(count):
            limit = best[i] + slack[i]
            close = 0
            label = np.int32(0)
            for t in range(found[i]):
                if score[i, t] <= limit:
                    close += 1
                    label = near[i, t]
            least = np.float64(max(best[i] + xsq[i], np.float32(0)))
            if close > 1:
                t, least = _settle(x[start + i], c, near[i], score[i], found[i], limit)
                label = near[i, t]
            labels[start + i] = label
            sqdist[start + i] = least


def nearest(x: np.ndarray, c: np.ndarray, csq: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each row, certified exact.

    Scores come from one matrix product per tile in float32. Rows whose best two scores are closer than
    the product's worst rounding error are decided by float64 distances; equal distances go to the lowest
    id. So labels do not depend on the BLAS, the chunking or the number of threads.

    Parameters
    ----------
    x : float32 [n, d]
    c : float32 [k, d]
    csq : float32 [k]
        Squared L2 norms of the centroids.

    Returns
    -------
    labels : int32 [n]
    sqdist : float32 [n]
        Squared L2 distances, to float32 rounding of ``|x|^2 + |c|^2``.
    """
    n = len(x)
    labels = np.empty(n, np.int32)
    sqdist = np.empty(n, np.float32)
    rows = min(ROWS, max(16, -(-n // (4 * numba.get_num_threads()))))
    with one_blas_thread():
        _nearest(readonly(x), readonly(c), readonly(csq), labels, sqdist, rows)
    return labels, sqdist


@njit(fastmath=FAST, inline="always")
def _scan(row, csq, base, columns, best, ids):
    """Insert into a sorted list the products `row` of one row with the centroids from `base` on."""
    worst = best[best.shape[0] - 1]
    for j0 in range(0, row.shape[0], 16):
        j1 = min(row.shape[0], j0 + 16)
        low = HUGE
        for j in range(j0, j1):
            low = fmin(low, csq[base + j] - np.float32(2) * row[j])
        if low >= worst:
            continue
        for j in range(j0, j1):
            v = csq[base + j] - np.float32(2) * row[j]
            if v < worst:
                insert(best, ids, v, columns[base + j] if columns.shape[0] else np.int32(base + j))
                worst = best[best.shape[0] - 1]


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _nearest_m(x, c, csq, ids, sqdist, rows):
    n = x.shape[0]
    k = c.shape[0]
    m = ids.shape[1]
    every = np.empty(0, np.int32)
    blocks = (n + rows - 1) // rows
    for b in prange(blocks):
        start = b * rows
        count = min(rows, n - start)
        tile = np.empty(count * min(k, COLUMNS), np.float32)
        best = np.full((count, m), HUGE)
        for k0 in range(0, k, COLUMNS):
            width = min(COLUMNS, k - k0)
            scores = tile[: count * width].reshape(count, width)
            np.dot(x[start : start + count], c[k0 : k0 + width].T, scores)
            for i in range(count):
                _scan(scores[i], csq, k0, every, best[i], ids[start + i])


def nearest_m(x: np.ndarray, c: np.ndarray, csq: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The `m` nearest centroids of each row, nearest first: ids int32 [n, m], sqdist float32 [n, m]."""
    n = len(x)
    ids = np.full((n, m), -1, np.int32)
    sqdist = np.empty((n, m), np.float32)
    rows = min(ROWS, max(16, -(-n // (4 * numba.get_num_threads()))))
    with one_blas_thread():
        _nearest_m(readonly(x), readonly(c), readonly(csq), ids, sqdist, rows)
    return rescore(x, c, ids)


# --------------------------------------------------------------------------- distances of given pairs


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
    """Sort each row's candidate centroids by true squared L2 distance; -1 goes last, at infinity.

    Parameters
    ----------
    x : float32 [n, d]
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
    """Squared L2 distance of each row to the centroid `labels` (int32 [n]) names: float64 [n]."""
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
    """Nearest of the centroids `ids` (int32 [n, m]; -1: none) that is not the row's own, and its squared distance.

    Returns
    -------
    second : int32 [n]
        -1 where `ids` names no other.
    sqdist : float64 [n]
        Infinite there.
    """
    second, sqdist = np.empty(len(labels), np.int32), np.empty(len(labels))
    _runner_up(table(x), readonly(c), norms_for(x, c), readonly(labels), readonly(ids), second, sqdist)
    return second, sqdist


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _eight_in_cells(x, rows, c, csq, coarse, coarse_sq, first_column, columns, nprobe, within, ids, dist):
    n = rows.shape[0]
    d = x.shape[1]
    cells = coarse.shape[0]
    m = ids.shape[1]
    largest = 0
    for g in range(cells):
        largest = max(largest, first_column[g + 1] - first_column[g])
    whole = 2 * ROWS
    for task in prange((n + whole - 1) // whole):
        start = task * whole
        count = min(whole, n - start)
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
                _scan(out[p], csq, base, columns, best[i], ids[start + i])
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
