"""Compiled loops of k-means within groups: rows meet only the centroids of their own group."""

import numpy as np
from numba import njit, prange
from scipy import sparse

from fastann.kernels.members import group
from fastann.kernels.rows import load, sqdist, sqnorm, table, unload
from fastann.kernels.simd import FAST
from fastann.kernels.threads import pieces


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _nearest(rows, pieces, d, offsets, order, centroids, first, ids, least):
    n = order.shape[0]
    for piece in prange(pieces):
        start, end = piece * n // pieces, (piece + 1) * n // pieces
        work = np.zeros(d, np.float32)
        p = start
        g = np.searchsorted(offsets, p, side="right") - 1
        while p < end:
            while offsets[g + 1] <= p:
                g += 1
            stop = min(end, offsets[g + 1])
            for j in range(first[g], first[g + 1]):
                v = load(centroids, j, work)
                square = sqnorm(centroids, j)
                for q in range(p, stop):
                    i = order[q]
                    s = sqdist(rows, i, v, square)
                    if j == first[g] or s < least[i]:
                        least[i] = s
                        ids[i] = j
                unload(centroids, j, work)
            p = stop


def nearest_in_group(x: np.ndarray, labels: np.ndarray, centroids: np.ndarray, first: np.ndarray) -> tuple:
    """Nearest centroid among those of each row's group, by float64 distances; ties go to the lowest.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    labels : int32 [n]
        Group of each row.
    centroids : float32 [k, d], or a float32 CSR matrix where `x` is one
    first : int64 [groups + 1]
        Centroids of group g are first[g] to first[g + 1].

    Returns
    -------
    ids : int32 [n]
        -1 for rows of a group without centroids.
    sqdist : float32 [n]
    """
    n, d = x.shape
    ids, least = np.full(n, -1, np.int32), np.full(n, np.inf)
    offsets, order = group(labels, len(first) - 1)
    _nearest(table(x), pieces(x), d if sparse.issparse(x) else 0, offsets, order, table(centroids), first, ids, least)
    return ids, least.astype(np.float32)


@njit
def _draw(mass, start, end, u):
    """Row of [start, end) drawn with probability proportional to `mass`, by a uniform number; -1 if all is zero."""
    total = np.float64(0)
    for q in range(start, end):
        total += mass[q]
    if total <= 0:
        return -1
    at, seen, last = u * total, np.float64(0), -1
    for q in range(start, end):
        if mass[q] > 0:
            seen += mass[q]
            last = q
            if at < seen:
                return q
    return last


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _plus_plus(rows, pieces, d, weights, offsets, sizes, first, uniform, picks, closest, mass):
    groups, trials = sizes.shape[0], uniform.shape[1]
    for piece in prange(pieces):
        work = np.zeros(d, np.float32)
        for g in range(piece * groups // pieces, (piece + 1) * groups // pieces):
            start, end = offsets[g], offsets[g + 1]
            for q in range(start, end):
                closest[q] = np.inf
                mass[q] = weights[q]
            for c in range(sizes[g]):
                best, least = -1, np.inf
                for t in range(trials if c > 0 else 1):
                    pick = _draw(mass, start, end, uniform[first[g] + c, t])
                    if pick < 0:
                        break
                    v = load(rows, pick, work)
                    square = sqnorm(rows, pick)
                    left = np.float64(0)
                    for q in range(start, end):
                        left += weights[q] * min(closest[q], sqdist(rows, q, v, square))
                    if left < least:
                        best, least = pick, left
                    unload(rows, pick, work)
                if best < 0:  # every row is a centroid already
                    break
                picks[first[g] + c] = best
                v = load(rows, best, work)
                square = sqnorm(rows, best)
                for q in range(start, end):
                    closest[q] = min(closest[q], sqdist(rows, q, v, square))
                    if q == best:
                        closest[q] = 0
                    mass[q] = weights[q] * closest[q]
                unload(rows, best, work)


def plus_plus(
    x: np.ndarray, weights: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, uniform: np.ndarray
) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007) within each group of rows, all groups at once.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
        Rows sorted by group.
    weights : float64 [n]
    offsets : int64 [groups + 1]
        Rows of group g are offsets[g] to offsets[g + 1].
    sizes : int64 [groups]
        Centres wanted of each.
    uniform : float64 [sum(sizes), trials]
        Random numbers in [0, 1): the draws of each centre, of which the best is kept.

    Returns
    -------
    int64 [sum(sizes)]
        Rows chosen, group after group; -1 where a group has fewer distinct rows than that.
    """
    n, d = x.shape
    first = np.concatenate([[0], np.cumsum(sizes)])
    picks = np.full(first[-1], -1, np.int64)
    closest, mass = np.empty(n), np.empty(n)
    width = d if sparse.issparse(x) else 0
    _plus_plus(table(x), pieces(x), width, weights, offsets, sizes, first, uniform, picks, closest, mass)
    return picks
