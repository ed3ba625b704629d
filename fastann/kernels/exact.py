"""The exact search of dense rows in float32, by BLAS products: any CPU's, and the reference for faster ones."""

import numba
import numpy as np
from numba import njit, prange

from fastann.kernels.lists import scan
from fastann.kernels.pairs import rescore, sqdist64
from fastann.kernels.rows import readonly
from fastann.kernels.simd import FAST, HUGE, fmin
from fastann.kernels.threads import one_blas_thread

ROWS = 512  # rows a task multiplies at once: with COLUMNS, a 2 MiB tile of scores that stays in L2
COLUMNS = 1024  # centroids multiplied at once
WIDE, PART = 4096, 1024  # rows of more than WIDE columns are multiplied PART columns at a time
SHORTLIST = 16  # near-ties kept per row before they are settled


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


# The next two take whole arrays and a place in them: with few clusters, slices for each row made a pass 7% slower.


@njit(fastmath=FAST, inline="always")
def _shortlist(i, products, x, start, c, csq, base, best, slack, near, score, found):
    """Add to the shortlist of row i those of one tile's centroids whose score |c|^2 - 2 x.c may be its least.

    `products` are those of the row with the centroids from place `base` on; ``best[i]`` is its least score so far, and
    its shortlist the first ``found[i]`` of ``near[i]`` (centroids) and ``score[i]``. All three are updated.
    """
    width = products.shape[0]
    low = HUGE
    for j in range(width):
        low = fmin(low, csq[base + j] - np.float32(2) * products[j])
    if low <= best[i] + slack[i]:
        best[i] = fmin(best[i], low)
        limit = best[i] + slack[i]
        for j0 in range(0, width, 64):
            j1 = min(width, j0 + 64)
            low = HUGE
            for j in range(j0, j1):
                low = fmin(low, csq[base + j] - np.float32(2) * products[j])
            if low > limit:
                continue
            for j in range(j0, j1):
                v = csq[base + j] - np.float32(2) * products[j]
                if v > limit:
                    continue
                if found[i] == SHORTLIST:  # settle what is listed, keep the nearest
                    t, _ = _settle(x[start + i], c, near[i], score[i], found[i], limit)
                    near[i, 0] = near[i, t]
                    score[i, 0] = score[i, t]
                    found[i] = 1
                near[i, found[i]] = base + j
                score[i, found[i]] = v
                found[i] += 1


@njit(fastmath=FAST, inline="always")
def _decide(i, xsq, x, start, c, best, slack, near, score, found):
    """Nearest centroid of row i's shortlist, and its squared distance: by float64 if several may be the nearest."""
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
    return label, least


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
                _shortlist(i, scores[i], x, start, c, csq, k0, best, slack, near, score, found)
        for i in range(count):
            labels[start + i], sqdist[start + i] = _decide(i, xsq, x, start, c, best, slack, near, score, found)


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
                scan(scores[i], csq, k0, every, best[i], ids[start + i])


def nearest_m(x: np.ndarray, c: np.ndarray, csq: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The `m` nearest centroids of each row, nearest first, by float32 products; their distances are exact to float32.

    Parameters
    ----------
    x : float32 [n, d]
    c : float32 [k, d]
    csq : float32 [k]
        Squared L2 norms of the centroids.
    m : int

    Returns
    -------
    ids : int32 [n, m]
        -1 where m > k.
    sqdist : float32 [n, m]
        Squared L2 distances, infinite there.
    """
    n = len(x)
    ids = np.full((n, m), -1, np.int32)
    sqdist = np.empty((n, m), np.float32)
    rows = min(ROWS, max(16, -(-n // (4 * numba.get_num_threads()))))
    with one_blas_thread():
        _nearest_m(readonly(x), readonly(c), readonly(csq), ids, sqdist, rows)
    return rescore(x, c, ids)
