"""The compiled loops that find near-duplicate rows: near borders of clusters, the first near row, which rows stay.

A row is compared within its own cluster, and within those whose border it is near to; each of these is a membership.
"""

import numpy as np
from numba import njit, prange

from fastann.kernels.lists import insert
from fastann.kernels.rows import readonly
from fastann.kernels.simd import FAST, HUGE, fmin
from fastann.kernels.blas import one_blas_thread

UNDECIDED, KEPT, DROPPED = 0, 1, 2  # status of a row
UNSEEN, CLEAR = -1, -2  # membership: not compared yet; compared, and no near row comes before
_ROWS = 64  # rows a task multiplies at once: few enough that a block of one cluster feeds every thread
_COLUMNS = 1024
_RUN = 64  # products of which only the best is looked at first: most runs are skipped whole


def slack(d: int) -> float:
    """Bound on the error of a float32 product of two rows of `d` columns scaled to unit norm.

    Higham, Accuracy and Stability of Numerical Algorithms, 3.1, with the rounding of the rows themselves.
    """
    return (d + 8) * 2.0**-24


# --------------------------------------------------------------------------- rows


@njit(parallel=True, fastmath=FAST - {"arcp", "nnan"}, cache=True, nogil=True)
def _unit(x, unit, norm):
    n, d = x.shape
    for i in prange(n):
        total = np.float64(0)
        for t in range(d):
            total += np.float64(x[i, t]) * np.float64(x[i, t])
        norm[i] = np.sqrt(total)
        scale = 1 / norm[i] if total > 0 else 0.0
        for t in range(d):
            unit[i, t] = np.float64(x[i, t]) * scale


def unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows scaled to unit norm in float64 (float32 [n, d]; zero rows stay zero), and their norms (float64 [n])."""
    out, norm = np.empty(x.shape, np.float32), np.empty(len(x))
    _unit(readonly(x), out, norm)
    return out, norm


@njit(parallel=True, cache=True, nogil=True)
def _fingerprints(bits, out):
    n, d = bits.shape
    for i in prange(n):
        h = np.uint64(0x9E3779B97F4A7C15)
        for t in range(d):
            b = bits[i, t]
            if b == np.uint32(0x80000000):  # -0.0 equals 0.0
                b = np.uint32(0)
            h = (h ^ np.uint64(b)) * np.uint64(0xBF58476D1CE4E5B9)
            h ^= h >> np.uint64(29)
        out[i] = h


def fingerprints(x: np.ndarray) -> np.ndarray:
    """Hash of each row of a float32 array [n, d]: uint64 [n], the same for equal rows, 0.0 and -0.0 being equal."""
    out = np.empty(len(x), np.uint64)
    _fingerprints(readonly(x.view(np.uint32)), out)
    return out


# --------------------------------------------------------------------------- borders


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _borders(x, group, own, c, first, gap, skip, ids, ratio, count):
    n = x.shape[0]
    k = c.shape[0]
    m = ids.shape[1]
    for task in prange((n + _ROWS - 1) // _ROWS):
        start = task * _ROWS
        rows = min(_ROWS, n - start)
        scores = np.empty((rows, k), np.float32)
        np.dot(x[start : start + rows], c.T, scores)
        for r in range(rows):
            i = start + r
            g = gap[group[i]]
            row = scores[r]
            a = own[i]
            for j0 in range(0, k, _RUN):
                j1 = min(k, j0 + _RUN)
                low = HUGE
                for j in range(j0, j1):
                    low = fmin(low, a - row[j] - g[j])
                if low > 0:
                    continue
                for j in range(j0, j1):
                    if a - row[j] <= g[j] and first + j != skip[i]:
                        count[i] += 1
                        v = (a - row[j]) / g[j]
                        if m > 0 and v < ratio[i, m - 1]:
                            insert(ratio[i], ids[i], v, np.int32(first + j))


def borders(
    x: np.ndarray, labels: np.ndarray, own: np.ndarray, c: np.ndarray, half: float, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the clusters whose border with the row's own cluster is near: at most `m`, and how many there are.

    The border of two clusters is the plane of points that are as far from one centre as from the other.

    Parameters
    ----------
    x : float32 [n, d]
        Unit rows, those of one cluster together.
    labels : int32 [n]
        Their nearest centres.
    own : float32 [n]
        Their products with these.
    c : float32 [k, d]
        Unit centres.
    half : float
        A border at up to this distance is near.
    m : int

    Returns
    -------
    ids : int32 [n, m]
        Nearest border first; -1 where there are fewer.
    count : int32 [n]
    """
    present, group = np.unique(labels, return_inverse=True)
    ids, ratio = np.full((len(x), m), -1, np.int32), np.full((len(x), m), HUGE, np.float32)
    count, off = np.zeros(len(x), np.int32), slack(x.shape[1])
    with one_blas_thread():
        for first in range(0, len(c), _COLUMNS):
            part = c[first : first + _COLUMNS]
            # Upper bounds on the distance between centres, and on the difference of products of a row that is near.
            apart = np.sqrt(np.maximum(0, 2 - 2 * (c[present] @ part.T)) + np.float32(4 * off))
            gap = np.float32(half) * apart + np.float32(4 * off)
            _borders(
                readonly(x), readonly(group), readonly(own), readonly(part), first, gap, readonly(labels),
                ids, ratio, count,
            )  # fmt: skip
    return ids, count


# --------------------------------------------------------------------------- the first near row


@njit(fastmath=FAST, inline="always")
def _dot64(a, b):
    total = np.float64(0)
    for t in range(a.shape[0]):
        total += np.float64(a[t]) * np.float64(b[t])
    return total


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _first_near(x, xu, xnorm, low, high, y, yu, ynorm, place, least, screen, found, cosine):
    n = x.shape[0]
    q = y.shape[0]
    for task in prange((n + _ROWS - 1) // _ROWS):
        start = task * _ROWS
        rows = min(_ROWS, n - start)
        begin = np.zeros(rows, np.int64)
        end = np.zeros(rows, np.int64)
        scores = np.empty((rows, min(q, _COLUMNS)), np.float32).ravel()
        for r in range(rows):
            begin[r] = np.searchsorted(place, low[start + r])
            end[r] = np.searchsorted(place, high[start + r])
        for k0 in range(0, q, _COLUMNS):
            k1 = min(q, k0 + _COLUMNS)
            wanted = False
            for r in range(rows):
                wanted |= begin[r] < k1 and end[r] > max(k0, begin[r])
            if not wanted:
                continue
            tile = scores[: rows * (k1 - k0)].reshape(rows, k1 - k0)
            np.dot(xu[start : start + rows], yu[k0:k1].T, tile)
            for r in range(rows):
                i = start + r
                row = tile[r]
                j0 = max(begin[r], k0)
                stop = min(end[r], k1)
                while j0 < stop:
                    j1 = min(stop, j0 + _RUN)
                    best = HUGE
                    for j in range(j0, j1):
                        best = fmin(best, -row[j - k0])
                    if -best >= screen:
                        for j in range(j0, j1):
                            if row[j - k0] >= screen:
                                value = _dot64(x[i], y[j]) / (xnorm[i] * ynorm[j])
                                if value >= least:
                                    found[i] = place[j]
                                    cosine[i] = min(value, 1.0)
                                    end[r] = 0
                                    stop = 0
                                    break
                    j0 = j1


def first_near(
    rows: tuple, low: np.ndarray, high: np.ndarray, columns: tuple, place: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each row the first of some columns whose cosine with it reaches `least`.

    Products of unit rows in float32 say which pairs may reach it; these are decided in float64, so the answer depends
    neither on the BLAS nor on threads.

    Parameters
    ----------
    rows, columns : tuple of (float32 [n, d], the same of unit norm, float64 norms [n])
    low, high : int32 [n]
        Columns from place `low` on, before place `high`, are wanted.
    place : int32 [columns]
        Ascending.
    least : float

    Returns
    -------
    found : int32 [n]
        Place of that column, or `CLEAR`.
    cosine : float32 [n]
    """
    (x, xu, xnorm), (y, yu, ynorm) = rows, columns
    found, cosine = np.full(len(x), CLEAR, np.int32), np.zeros(len(x), np.float32)
    screen = np.float32(least - 2 * slack(x.shape[1]))
    with one_blas_thread():
        _first_near(
            readonly(x), readonly(xu), readonly(xnorm), readonly(low), readonly(high),
            readonly(y), readonly(yu), readonly(ynorm), readonly(place), least, screen, found, cosine,
        )  # fmt: skip
    return found, cosine


# --------------------------------------------------------------------------- decisions


@njit(cache=True, nogil=True)
def ready(rows, columns, found, cosine, status, duplicate_of, similarity):
    """Drop rows whose near row is kept; return which memberships are to be compared now, or compared again.

    A row waits while the near row it found is undecided; once that one is dropped, it is to look on behind it.

    Parameters
    ----------
    rows : int32 [r]
        Row of each membership of a task.
    columns : int32
        Rows they are compared with.
    found : int32 [r]
        Place in `columns` of the near row found, or `UNSEEN`, or `CLEAR`.
    cosine : float32 [r]
        Cosine with it.
    status : int8 [n]
        `UNDECIDED`, `KEPT` or `DROPPED`; written to.
    duplicate_of, similarity : int32 and float32 [n]
        Of each dropped row the kept one, and their cosine; written to.

    Returns
    -------
    int32
        Places in `rows`.
    """
    out = np.empty(rows.shape[0], np.int32)
    count = 0
    for p in range(rows.shape[0]):
        row = rows[p]
        if status[row] != UNDECIDED or found[p] == CLEAR:
            continue
        if found[p] >= 0:
            other = columns[found[p]]
            if status[other] == UNDECIDED:
                continue
            if status[other] == KEPT:
                status[row] = DROPPED
                duplicate_of[row] = other
                similarity[row] = cosine[p]
                continue
        out[count] = p
        count += 1
    return out[:count].copy()


@njit(cache=True, nogil=True)
def decide(rows, columns, places, near, value, found, cosine, waits, status, duplicate_of, similarity):
    """Note what a comparison found for the memberships at `places`; decide the rows for which that is enough.

    A row is dropped if its near row is kept, and kept once all its memberships are `CLEAR`. Memberships are taken in
    order, so that a row kept here drops later ones.

    Parameters
    ----------
    places : int32 [p]
        From `ready`.
    near, value : int32 and float32 [p]
        From `first_near`: place in `columns` or `CLEAR`, and cosine.
    waits : int32 [n]
        Memberships of each row that are not `CLEAR` yet; written to.
    rows, columns, found, cosine, status, duplicate_of, similarity : as for `ready`
        All but the first two are written to.
    """
    for t in range(places.shape[0]):
        p = places[t]
        row = rows[p]
        found[p] = near[t]
        cosine[p] = value[t]
        if near[t] == CLEAR:
            waits[row] -= 1
            if waits[row] == 0:
                status[row] = KEPT
        elif status[columns[near[t]]] == KEPT:
            status[row] = DROPPED
            duplicate_of[row] = columns[near[t]]
            similarity[row] = value[t]
