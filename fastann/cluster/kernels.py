"""The compiled inner loops, and the only module that imports Numba.

Every public function here is a thin Python wrapper that assumes validated input: float32 C-ordered rows
and centroids, int32 ids. The kernels are compiled once and cached on disk; rows are always passed as
read-only arrays, so that a read-only memmap and an ordinary array share one compiled version.

Work inside a kernel is cut into pieces whose number and borders do not depend on the number of threads,
and no two pieces write to the same place: the same input gives the same bits on any number of threads,
up to the rounding of BLAS.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from threadpoolctl import ThreadpoolController

# Reassociation lets sums vectorise. "ninf" is left out because the kernels use huge sentinels, and NaN
# cannot reach a kernel compiled with "nnan": rows are surveyed first, by a kernel compiled without it.
_FAST = {"reassoc", "nsz", "contract", "arcp", "nnan"}
_HUGE = np.float32(3e38)
_ROWS = 512  # rows a task multiplies at once: with _COLUMNS, a 2 MiB tile of scores that stays in L2
_COLUMNS = 1024
_SHORTLIST = 16  # near-ties kept per row before they are settled
_SEGMENTS = 64  # pieces a reduction over rows is cut into, whatever the number of threads


@intrinsic
def _fmin(typingctx, a, b):
    """Minimum of two float32 that LLVM vectorises in a reduction (Numba's ``min`` is 15 times slower)."""

    def codegen(context, builder, signature, args):
        f32 = ir.FloatType()
        fn = builder.module.declare_intrinsic("llvm.minnum", [f32], ir.FunctionType(f32, [f32, f32]))
        return builder.call(fn, args, fastmath=("nnan", "nsz", "reassoc"))

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def prefetch(typingctx, a, offset):
    """Ask for the cache line of ``a.ravel()[offset]``."""

    def codegen(context, builder, signature, args):
        i8, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        fn = builder.module.declare_intrinsic(
            "llvm.prefetch", [i8], ir.FunctionType(ir.VoidType(), [i8, i32, i32, i32])
        )
        at = builder.gep(make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        builder.call(fn, [builder.bitcast(at, i8), i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(a, types.intp), codegen


@intrinsic
def lowest_bit(typingctx, x):
    """Index of the lowest set bit of a uint32 that is not zero."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint32(types.uint32), codegen


@intrinsic
def insert8(typingctx, scores, ids, offset, score, j):
    """Insert (score, j) in the ascending list of eight at `offset`; return the new eighth score.

    Without branches: new[i] = min(max(old[i - 1], score), old[i]).
    """

    def codegen(context, builder, signature, args):
        i32, f32 = ir.IntType(32), ir.FloatType()
        at = [
            builder.bitcast(
                builder.gep(make_array(signature.args[a])(context, builder, args[a]).data, [args[2]]),
                ir.PointerType(ir.VectorType(element, 8)),
            )
            for a, element in ((0, f32), (1, i32))
        ]

        def splat(value):
            one = builder.insert_element(ir.Constant(ir.VectorType(value.type, 8), ir.Undefined), value, i32(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(i32, 8), [0] * 8))

        old, old_ids = (builder.load(p, align=4) for p in at)
        shift = ir.Constant(ir.VectorType(i32, 8), [0, 0, 1, 2, 3, 4, 5, 6])
        up, up_ids = (builder.shuffle_vector(v, v, shift) for v in (old, old_ids))
        up = builder.insert_element(up, ir.Constant(f32, float("-inf")), i32(0))
        new, new_ids = splat(args[3]), splat(args[4])
        here = builder.fcmp_ordered(">", old, new)  # from the place of insertion on
        past = builder.fcmp_ordered(">", up, new)  # after it
        out = builder.select(past, up, builder.select(here, new, old))
        builder.store(out, at[0], align=4)
        builder.store(builder.select(past, up_ids, builder.select(here, new_ids, old_ids)), at[1], align=4)
        return builder.extract_element(out, i32(7))

    return types.float32(scores, ids, types.intp, types.float32, types.int32), codegen


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS single-threaded while a kernel calls it from every Numba thread at once."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def numba_threads(count: int) -> Iterator[None]:
    """Run kernels on at most `count` threads of the calling thread's pool."""
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(count, numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _readonly(a: np.ndarray) -> np.ndarray:
    view = a.view()
    view.flags.writeable = False
    return view


@njit(fastmath=_FAST, inline="always")
def _sqdist32(a, b):
    total = np.float32(0)
    for j in range(a.shape[0]):
        t = a[j] - b[j]
        total += t * t
    return total


@njit(fastmath=_FAST, inline="always")
def _sqdist64(a, b):
    total = np.float64(0)
    for j in range(a.shape[0]):
        t = np.float64(a[j]) - np.float64(b[j])
        total += t * t
    return total


# --------------------------------------------------------------------------- looking at rows


@njit(parallel=True, fastmath={"reassoc", "nsz", "contract"}, cache=True, nogil=True)
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
    """Squared L2 norm of each row (float64 [n]) and sum of the rows (float64 [d]); NaN passes through."""
    sqnorm = np.empty(len(x))
    sums = np.zeros((_SEGMENTS, x.shape[1]))
    _survey(_readonly(x), sqnorm, sums)
    return sqnorm, sums.sum(axis=0)


# --------------------------------------------------------------------------- exact search


@njit(fastmath=_FAST, inline="always")
def _settle(x, c, near, score, found, limit):
    """Place, and float64 distance, of the nearest listed centroid within the limit; ties go to the lowest."""
    least = np.inf
    place = -1
    for t in range(found):
        if score[t] <= limit:
            v = _sqdist64(x, c[near[t]])
            if place < 0 or v < least or (v == least and near[t] < near[place]):
                least = v
                place = t
    return place, least


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _nearest(x, c, csq, labels, sqdist, rows):
    n, d = x.shape
    k = c.shape[0]
    u = np.float32(2.0**-24)
    cmax = np.float32(0)
    for j in range(k):
        cmax = max(cmax, csq[j])
    blocks = (n + rows - 1) // rows
    for b in prange(blocks):
        start = b * rows
        count = min(rows, n - start)
        tile = np.empty(count * min(k, _COLUMNS), np.float32)
        xsq = np.empty(count, np.float32)
        slack = np.empty(count, np.float32)
        best = np.full(count, _HUGE)
        near = np.empty((count, _SHORTLIST), np.int32)
        score = np.empty((count, _SHORTLIST), np.float32)
        found = np.zeros(count, np.int32)
        for i in range(count):
            total = np.float32(0)
            for j in range(d):
                total += x[start + i, j] * x[start + i, j]
            xsq[i] = total
            # Twice the largest rounding error of one score |c|^2 - 2 x.c (Higham, Accuracy and
            # Stability of Numerical Algorithms, 3.1): two scores further apart are in true order.
            slack[i] = np.float32(4) * u * ((d + 2) * np.sqrt(total * cmax) + cmax)
        for k0 in range(0, k, _COLUMNS):
            width = min(_COLUMNS, k - k0)
            scores = tile[: count * width].reshape(count, width)
            np.dot(x[start : start + count], c[k0 : k0 + width].T, scores)
            for i in range(count):
                row = scores[i]
                low = _HUGE
                for j in range(width):
                    low = _fmin(low, csq[k0 + j] - np.float32(2) * row[j])
                if low > best[i] + slack[i]:
                    continue
                best[i] = _fmin(best[i], low)
                limit = best[i] + slack[i]
                for j0 in range(0, width, 64):
                    j1 = min(width, j0 + 64)
                    low = _HUGE
                    for j in range(j0, j1):
                        low = _fmin(low, csq[k0 + j] - np.float32(2) * row[j])
                    if low > limit:
                        continue
                    for j in range(j0, j1):
                        v = csq[k0 + j] - np.float32(2) * row[j]
                        if v > limit:
                            continue
                        if found[i] == _SHORTLIST:  # settle what is listed, keep the nearest
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
    rows = min(_ROWS, max(16, -(-n // (4 * numba.get_num_threads()))))
    with one_blas_thread():
        _nearest(_readonly(x), _readonly(c), _readonly(csq), labels, sqdist, rows)
    return labels, sqdist


@njit(fastmath=_FAST, inline="always")
def _insert(values, ids, value, j):
    """Insert (value, j) into the ascending list `values`, dropping its last entry."""
    t = values.shape[0] - 1
    while t > 0 and values[t - 1] > value:
        values[t] = values[t - 1]
        ids[t] = ids[t - 1]
        t -= 1
    values[t] = value
    ids[t] = j


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _nearest_m(x, c, csq, ids, sqdist, rows):
    n = x.shape[0]
    k = c.shape[0]
    m = ids.shape[1]
    blocks = (n + rows - 1) // rows
    for b in prange(blocks):
        start = b * rows
        count = min(rows, n - start)
        tile = np.empty(count * min(k, _COLUMNS), np.float32)
        best = np.full((count, m), _HUGE)
        for k0 in range(0, k, _COLUMNS):
            width = min(_COLUMNS, k - k0)
            scores = tile[: count * width].reshape(count, width)
            np.dot(x[start : start + count], c[k0 : k0 + width].T, scores)
            for i in range(count):
                row = scores[i]
                worst = best[i, m - 1]
                for j0 in range(0, width, 16):
                    j1 = min(width, j0 + 16)
                    low = _HUGE
                    for j in range(j0, j1):
                        low = _fmin(low, csq[k0 + j] - np.float32(2) * row[j])
                    if low >= worst:
                        continue
                    for j in range(j0, j1):
                        v = csq[k0 + j] - np.float32(2) * row[j]
                        if v < worst:
                            _insert(best[i], ids[start + i], v, np.int32(k0 + j))
                            worst = best[i, m - 1]


def nearest_m(x: np.ndarray, c: np.ndarray, csq: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The `m` nearest centroids of each row, nearest first: ids int32 [n, m], sqdist float32 [n, m]."""
    n = len(x)
    ids = np.full((n, m), -1, np.int32)
    sqdist = np.empty((n, m), np.float32)
    rows = min(_ROWS, max(16, -(-n // (4 * numba.get_num_threads()))))
    with one_blas_thread():
        _nearest_m(_readonly(x), _readonly(c), _readonly(csq), ids, sqdist, rows)
    return rescore(x, c, ids)


# --------------------------------------------------------------------------- distances of given pairs


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _rescore(x, c, ids, sqdist):
    n, m = ids.shape
    for i in prange(n):
        for t in range(m):
            j = ids[i, t]
            value = np.float32(np.inf) if j < 0 else _sqdist32(x[i], c[j])
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
    _rescore(_readonly(x), _readonly(c), ids, sqdist)
    return ids, sqdist


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _own_sqdist(x, c, labels, sqdist):
    for i in prange(x.shape[0]):
        sqdist[i] = _sqdist64(x[i], c[labels[i]])


def own_sqdist(x: np.ndarray, c: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared L2 distance of each row to the centroid `labels` (int32 [n]) names: float64 [n]."""
    sqdist = np.empty(len(x))
    _own_sqdist(_readonly(x), _readonly(c), _readonly(labels), sqdist)
    return sqdist


# --------------------------------------------------------------------------- sums per cluster


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
    order : int32 [n]
        Rows of cluster `j` are ``order[offsets[j]:offsets[j + 1]]``.
    """
    offsets = np.zeros(k + 1, np.int64)
    order = np.empty(len(labels), np.int32)
    _group(_readonly(labels), offsets, order)
    return offsets, order


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _add_rows(x, weights, sign, offsets, order, sums, mass, edge, edge_mass, edge_id):
    """Each piece owns a run of `order`; the clusters at its two ends, which it may share, go to `edge`."""
    d = x.shape[1]
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
                if weighted:
                    w = sign * weights[i]
                    w_total += w
                    for t in range(d):
                        total[t] += w * np.float64(x[i, t])
                else:
                    for t in range(d):
                        total[t] += sign * np.float64(x[i, t])
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
    x : float32 [n, d]
    weights : float64 [n] or None
    labels : int32 [n], or [r] with `rows`
    sums : float64 [k, d]
    counts : int64 [k], or float64 [k] when weighted
    rows : int32 [r], optional
        Add only these rows.
    """
    offsets, order = group(labels, len(sums))
    if rows is not None:
        order = rows[order]
    edge = np.zeros((_SEGMENTS, 2, x.shape[1]))
    edge_mass = np.zeros((_SEGMENTS, 2))
    edge_id = np.full((_SEGMENTS, 2), -1)
    w = np.empty(0) if weights is None else weights
    mass = np.empty(0) if weights is None else counts
    _add_rows(_readonly(x), _readonly(w), float(sign), offsets, order, sums, mass, edge, edge_mass, edge_id)
    for s, side in np.argwhere(edge_id >= 0):
        sums[edge_id[s, side]] += edge[s, side]
        if weights is not None:
            counts[edge_id[s, side]] += edge_mass[s, side]
    if weights is None:
        counts += sign * np.diff(offsets)


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _means(sums, counts, cosine, before, means, explained):
    k, d = sums.shape
    for j in prange(k):
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


def means(sums: np.ndarray, counts: np.ndarray, before: np.ndarray, *, cosine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each cluster, scaled to unit norm for cosine; clusters without rows keep their centroid.

    Parameters
    ----------
    sums : float64 [k, d]
    counts : float64 or int64 [k]
    before : float32 [k, d]

    Returns
    -------
    means : float32 [k, d]
    explained : float64 [k]
        ``|S|^2 / W`` of each cluster, or the length ``|S|`` of its sum for cosine: what its mean takes off the
        weighted sum of squared norms (half of it, for cosine).
    """
    out, explained = np.empty_like(before), np.empty(len(sums))
    _means(sums, counts.astype(np.float64), cosine, _readonly(before), out, explained)
    return out, explained


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _drift(a, b, out):
    for j in prange(a.shape[0]):
        out[j] = np.sqrt(_sqdist32(a[j], b[j]))


def drift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance between matching rows of two float32 arrays [k, d]: float32 [k]."""
    out = np.empty(len(a), np.float32)
    _drift(_readonly(a), _readonly(b), out)
    return out


@njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)
def _eight_in_cells(x, rows, c, csq, coarse, coarse_sq, first_column, columns, nprobe, within, ids, dist):
    n = rows.shape[0]
    d = x.shape[1]
    cells = coarse.shape[0]
    m = ids.shape[1]
    largest = 0
    for g in range(cells):
        largest = max(largest, first_column[g + 1] - first_column[g])
    whole = 2 * _ROWS
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
            best[i, :] = _HUGE if w >= _HUGE else w * w * np.float32(1.0001) - total + np.float32(1e-5) * total
            ids[start + i, :] = -1
        scores = np.dot(xb, coarse.T)
        probes = np.empty((count, nprobe), np.int32)
        nearest = np.empty(nprobe, np.float32)
        first = np.zeros(cells + 1, np.int64)
        for i in range(count):
            nearest[:] = _HUGE
            probes[i] = 0
            for g in range(cells):
                v = coarse_sq[g] - np.float32(2) * scores[i, g]
                if v < nearest[nprobe - 1]:
                    _insert(nearest, probes[i], v, np.int32(g))
            for p in range(nprobe):
                first[probes[i, p] + 1] += 1
        for g in range(cells):
            first[g + 1] += first[g]
        place = first[:-1].copy()
        members = np.empty(count * nprobe, np.int32)
        for i in range(count):
            for p in range(nprobe):
                g = probes[i, p]
                members[place[g]] = i
                place[g] += 1
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
                worst = best[i, m - 1]
                row = out[p]
                for j0 in range(0, size, 16):
                    j1 = min(size, j0 + 16)
                    low = _HUGE
                    for j in range(j0, j1):
                        low = _fmin(low, csq[base + j] - np.float32(2) * row[j])
                    if low >= worst:
                        continue
                    for j in range(j0, j1):
                        v = csq[base + j] - np.float32(2) * row[j]
                        if v < worst:
                            _insert(best[i], ids[start + i], v, columns[base + j])
                            worst = best[i, m - 1]
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
            _readonly(x), _readonly(rows), _readonly(c), _readonly(csq), _readonly(coarse), coarse_sq,
            first_column, columns, nprobe, _readonly(within), ids, dist,
        )  # fmt: skip
    return ids, dist
