"""A pass over rows that keep lists of candidate centroids, with bounds that spare most of the work.

Each row remembers eight candidates and two lower bounds: `second`, on its distance to every candidate but its
own centroid, and `beyond`, on its distance to every centroid that is no candidate (Drake and Hamerly,
"Accelerated k-means with adaptive distance bounds", 2012). Centroids that drift loosen them. While
they hold, the row is not even read. `second` is rigorous; `beyond` is loosened by a share of the drift among the
row's own candidates, so that it holds for nearly all rows, not for certain: the recall of the labels is measured.
"""

import numpy as np
from numba import njit, prange

from fastann.kernels.pairs import norms_for, pair
from fastann.kernels.rows import by_kind, readonly, table
from fastann.kernels.simd import FAST, prefetch

LISTED = 8  # candidates per row
LLOYD, SIZE_AWARE, SIZE_AWARE_COSINE = 0, 1, 2  # rules by which centroids are compared
SKIP, LOOKED, WANTING = 0, 1, 2  # what became of a row, see `look`
_PIECE = 1024  # rows per task


@by_kind
class fetch:
    """Ask for the cache lines of a dense row."""

    def csr(rows, i):
        pass

    def dense(rows, i):
        d = np.int64(rows.shape[1])
        for t in range(0, d, 16):
            prefetch(rows, i * d + t)


@njit(inline="always")
def _stay(rule, mass, w):
    """Factor on the squared distance to a row's own centroid: Hartigan's W / (W - w), or its cosine form.

    A row alone in its cluster stays.
    """
    if rule == LLOYD:
        return np.float32(1)
    if mass <= w:
        return np.float32(0)
    return np.float32(mass / (mass - w)) if rule == SIZE_AWARE else np.float32(1 + w / mass)


@njit(inline="always")
def _join(rule, mass, w):
    """Lower bound of the factor on the squared distance to another centroid: W / (W + w), or its cosine form."""
    if rule == LLOYD:
        return np.float32(1)
    if rule == SIZE_AWARE:
        return np.float32(mass / (mass + w))
    return np.float32(max(0.0, 1 - w / mass)) if mass > 0 else np.float32(0)


@njit(inline="always")
def cost(rule, sqdist, mass, w, own):
    """What a row of weight `w` costs in a cluster of `mass`: lower is better, comparable between clusters of one row.

    By Lloyd's rule, the squared distance d^2. Size-aware, what being in the cluster adds to the objective:

    - Euclidean (Hartigan, 1975): W d^2 / (W + w), or W d^2 / (W - w) for the row's own cluster, W being its weight.
    - Cosine: minus how much longer the row makes the cluster's sum, whose length without it, or with it if it is the
      row's own, is R: R - sqrt(R^2 + 2 R w s + w^2), or sqrt(R^2 - 2 R w s + w^2) - R for the own, s being the cosine.
    """
    if rule == LLOYD:
        return np.float64(sqdist)
    if rule == SIZE_AWARE:
        if own:
            return sqdist * (mass / (mass - w)) if mass > w else -1.0
        return sqdist * (mass / (mass + w))
    s = 1 - 0.5 * np.float64(sqdist)
    if own:
        if mass <= w:
            return -1e300
        step = w * (w - 2 * mass * s)
        return step / (np.sqrt(max(mass * mass + step, 0.0)) + mass)
    step = w * (w + 2 * mass * s)
    return -step / (np.sqrt(max(mass * mass + step, 0.0)) + mass)


@njit(inline="always")
def _around(ids, own, mass, drift):
    """Largest drift, and least mass, of a row's candidates other than its own centroid."""
    most = np.float32(0)
    least = np.inf
    for t in range(LISTED):
        j = ids[t]
        if j >= 0 and j != own:
            most = max(most, drift[j])
            least = min(least, mass[j])
    return most, least


@njit(fastmath=FAST, inline="always")
def _among(x, i, c, csq, ids, own, own_sq, rule, mass, w, dist):
    """Compare row `i` with all its candidates, exactly; `dist` is room for their squared distances.

    Returns the best centroid, its squared distance, that of the nearest other one, and that of the farthest.
    """
    far = own_sq
    for t in range(LISTED):
        j = ids[t]
        dist[t] = np.inf
        if j >= 0:
            dist[t] = own_sq if j == own else pair(x, i, c, j, csq)
            far = max(far, dist[t])
    best = own
    best_sq = own_sq
    least = cost(rule, own_sq, mass[own], w, True)
    for t in range(LISTED):
        j = ids[t]
        if j >= 0 and j != own:
            v = cost(rule, dist[t], mass[j], w, False)
            if v < least:
                least = v
                best = j
                best_sq = dist[t]
    runner = own_sq if best != own else np.float32(np.inf)
    for t in range(LISTED):
        if ids[t] >= 0 and ids[t] != best:
            runner = min(runner, dist[t])
    return best, best_sq, runner, far


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _look(x, order, c, csq, weights, rule, mass, drift, caution, labels, sqdist, ids, second, beyond, status):
    n = order.shape[0]
    weighted = weights.shape[0] > 0
    for piece in prange((n + _PIECE - 1) // _PIECE):
        dist = np.empty(LISTED, np.float32)
        some = np.empty(_PIECE, np.int64)  # places in `order` of the rows to look at
        count = 0
        for q in range(piece * _PIECE, min(n, (piece + 1) * _PIECE)):
            i = order[q]
            own = labels[i]
            w = weights[i] if weighted else 1.0
            upper = np.sqrt(sqdist[i]) + drift[own]
            most, least = _around(ids[i], own, mass, drift)
            second[i] -= most
            beyond[i] -= caution * most
            bound = max(np.float32(0), min(second[i], beyond[i]))
            if upper * upper * _stay(rule, mass[own], w) <= _join(rule, least, w) * bound * bound:
                sqdist[i] = upper * upper
                status[q] = SKIP
            else:
                some[count] = q
                count += 1
        for s in range(count):
            fetch(x, order[some[min(s + 2, count - 1)]])
            q = some[s]
            i = order[q]
            own = labels[i]
            w = weights[i] if weighted else 1.0
            _, least = _around(ids[i], own, mass, drift)
            join = _join(rule, least, w)
            bound = max(np.float32(0), min(second[i], beyond[i]))
            own_sq = pair(x, i, c, own, csq)  # often enough: the stored distance had only grown with every drift
            status[q] = LOOKED
            if own_sq * _stay(rule, mass[own], w) <= join * bound * bound:
                sqdist[i] = own_sq
                continue
            # The list keeps its order of the last search.
            best, best_sq, runner, far = _among(x, i, c, csq, ids[i], own, own_sq, rule, mass, w, dist)
            labels[i] = best
            sqdist[i] = best_sq
            second[i] = np.sqrt(runner)
            bound = max(np.float32(0), beyond[i])
            if best_sq * _stay(rule, mass[best], w) > join * bound * bound:
                status[q] = WANTING
                beyond[i] = np.sqrt(far) if far > 0 else np.float32(np.inf)


@njit(fastmath=FAST, inline="always")
def _gather(x, i, c, csq, own, former, found, found_dist, most, list_ids, list_dist):
    """List what a search found for row `i`, its own centroid and its former candidates: the nearest `most` of them.

    `found` is ascending by distance and ends with -1. Writes into `list_ids` and `list_dist` (distances, ascending);
    returns how many there are.
    """
    size = 0
    for t in range(LISTED):
        if found[t] >= 0:
            list_ids[size] = found[t]
            list_dist[size] = found_dist[t]
            size += 1
    for t in range(-1, LISTED):  # the row's own centroid, then its former candidates
        j = own if t < 0 else former[t]
        known = j < 0
        for s in range(size):
            known = known or list_ids[s] == j
        if known:
            continue
        v = np.sqrt(pair(x, i, c, j, csq))
        if size == most and v >= list_dist[size - 1]:
            continue
        s = min(size, most - 1)
        while s > 0 and list_dist[s - 1] > v:
            list_dist[s] = list_dist[s - 1]
            list_ids[s] = list_ids[s - 1]
            s -= 1
        list_dist[s] = v
        list_ids[s] = j
        size = min(size + 1, most)
    return size


@njit(fastmath=FAST, inline="always")
def _best(x, i, c, csq, own, list_ids, list_dist, size, rule, mass, w):
    """Best of a row's own centroid (-1: none) and the first `size` listed ones, and its distance."""
    best = -1
    best_dist = np.float32(0)
    least = np.inf
    if own >= 0:
        best = own
        own_sq = pair(x, i, c, own, csq)
        best_dist = np.sqrt(own_sq)
        least = cost(rule, own_sq, mass[own], w, True)
    for s in range(size):
        j = list_ids[s]
        if j != own:
            v = cost(rule, list_dist[s] * list_dist[s], mass[j], w, False)
            if v < least:
                least = v
                best = j
                best_dist = list_dist[s]
    return best, best_dist


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _merge(x, rows, c, csq, weights, rule, mass, most, found, found_dist, labels, sqdist, ids, second, beyond):
    weighted = weights.shape[0] > 0
    n = rows.shape[0]
    for piece in prange((n + _PIECE - 1) // _PIECE):
        list_ids = np.empty(LISTED + 1, np.int32)
        list_dist = np.empty(LISTED + 1, np.float32)
        for q in range(piece * _PIECE, min(n, (piece + 1) * _PIECE)):
            i = rows[q]
            own = labels[i]
            w = weights[i] if weighted else 1.0
            size = _gather(x, i, c, csq, own, ids[i], found[q], found_dist[q], most, list_ids, list_dist)
            best, best_dist = _best(x, i, c, csq, own, list_ids, list_dist, size, rule, mass, w)
            runner = np.float32(np.inf)
            for s in range(size):
                ids[i, s] = list_ids[s]
                if list_ids[s] != best:
                    runner = min(runner, list_dist[s])
            for s in range(size, LISTED):
                ids[i, s] = -1
            labels[i] = best
            sqdist[i] = best_dist * best_dist
            second[i] = runner
            beyond[i] = list_dist[size - 1] if size < c.shape[0] else np.float32(np.inf)


def look(x, order, c, weights, rule, mass, drift, caution, rows, candidates, status):
    """Decide for each row whether it can move at all, and compare those that can with their candidates.

    Parameters
    ----------
    x : float32 [n, d], or a float32 CSR matrix
    order : int32 [r]
        Which rows to visit; rows of one cluster together keep its candidates in cache.
    c : float32 [k, d]
    weights : float64 [n] or None
    rule : LLOYD, SIZE_AWARE or SIZE_AWARE_COSINE
        How centroids are compared, see `cost`.
    mass : float64 [k]
        Weight of each cluster, or length of its sum for cosine.
    drift : float32 [k]
        How far each centroid moved (distance, not squared) since the last visit.
    caution : float
        Centroids that are no candidates are taken to have moved at most this share of the largest drift among the
        row's candidates.
    rows : with labels int32 [n] and sqdist float32 [n]
        Updated in place. The squared distance of a row that was not looked at is an upper bound.
    candidates : with ids int32 [n, 8], second and beyond float32 [n]
        Updated in place; the bounds are distances, not squared.
    status : uint8 [r]
        Written to, in the order of `order`: SKIP (the bounds held), LOOKED, or WANTING (a centroid that is no
        candidate might be better).
    """
    w = np.empty(0) if weights is None else weights
    _look(
        table(x), readonly(order), readonly(c), norms_for(x, c), readonly(w), rule, mass, drift, np.float32(caution),
        rows.labels, rows.sqdist, candidates.ids, candidates.second, candidates.beyond, status,
    )  # fmt: skip


def merge(x, order, c, weights, rule, mass, most, found, found_dist, rows, candidates):
    """Merge what a search found into the candidates of some rows, and assign these rows.

    Parameters
    ----------
    order : int32 [r]
        Which rows were searched for.
    most : int
        Candidates kept per row, at most 8.
    found : int32 [r, 8]
        Centroids found, nearest first, then -1.
    found_dist : float32 [r, 8]
        Their distances, not squared.
    x, c, weights, rule, mass, rows, candidates
        As for `look`. A label of -1 is a row that has none yet.
    """
    w = np.empty(0) if weights is None else weights
    _merge(
        table(x), readonly(order), readonly(c), norms_for(x, c), readonly(w), rule, mass, most, found, found_dist,
        rows.labels, rows.sqdist, candidates.ids, candidates.second, candidates.beyond,
    )  # fmt: skip
