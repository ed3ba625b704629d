"""The compiled loops that all others use.

Every public function here is a thin Python wrapper that assumes validated input: float32 C-ordered rows
and centroids, int32 ids. The kernels are compiled once and cached on disk; rows are always passed as
read-only arrays, so that a read-only memmap and an ordinary array share one compiled version.

Work inside a kernel is cut into pieces whose number and borders do not depend on the number of threads,
and no two pieces write to the same place: the same input gives the same bits on any number of threads,
up to the rounding of BLAS.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array
from scipy import sparse
from threadpoolctl import ThreadpoolController

from fastann.data import source
from fastann.kernels.rows import FAST, add, readonly, sqdist, table

HUGE = np.float32(3e38)
_SEGMENTS = 64  # pieces a reduction over rows is cut into, whatever the number of threads


@intrinsic
def fmin(typingctx, a, b):
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
def limit_threads(count: int) -> Iterator[None]:
    """Run kernels on at most `count` threads of the calling thread's pool."""
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(count, numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def threads_for(x: Any, small: int) -> AbstractContextManager[None]:
    """One thread for rows of fewer values than `small`: waiting for others would take longer than the work itself."""
    return limit_threads(1) if (x.nnz if sparse.issparse(x) else x.size) < small else nullcontext()


@njit(fastmath=FAST, inline="always")
def sqdist32(a, b):
    """Squared L2 distance of two float32 vectors, in float32."""
    total = np.float32(0)
    for j in range(a.shape[0]):
        t = a[j] - b[j]
        total += t * t
    return total


@njit(fastmath=FAST, inline="always")
def sqdist64(a, b):
    """Squared L2 distance of two float32 vectors, in float64."""
    total = np.float64(0)
    for j in range(a.shape[0]):
        t = np.float64(a[j]) - np.float64(b[j])
        total += t * t
    return total


def pair(rows, i, c, j, csq):
    """Squared L2 distance, float32, of row `i` to the dense centroid `j`; `csq` holds their squared norms (float64).

    Dense rows do not read `csq`.
    """
    raise NotImplementedError("compiled code only")


@overload(pair, jit_options={"fastmath": FAST})
def _pair(rows, i, c, j, csq):
    if isinstance(rows, types.BaseTuple):
        return lambda rows, i, c, j, csq: np.float32(sqdist(rows, i, c[j], csq[j]))
    return lambda rows, i, c, j, csq: sqdist32(rows[i], c[j])


def pair64(rows, i, c, j, csq):
    """The same in float64."""
    raise NotImplementedError("compiled code only")


@overload(pair64, jit_options={"fastmath": FAST})
def _pair64(rows, i, c, j, csq):
    if isinstance(rows, types.BaseTuple):
        return lambda rows, i, c, j, csq: sqdist(rows, i, c[j], csq[j])
    return lambda rows, i, c, j, csq: sqdist64(rows[i], c[j])


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


def sqnorms(x: Any) -> np.ndarray:
    """Squared L2 norms of the rows of a dense or CSR matrix, float64 [n]."""
    return source.sqnorms(x) if sparse.issparse(x) else survey(x)[0]


def norms_for(x: Any, c: np.ndarray) -> np.ndarray:
    """Squared norms of centroids, float64 [k], as `pair` wants them for the rows `x`: none where these are dense."""
    return sqnorms(c) if sparse.issparse(x) else np.empty(0)


def survey(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared L2 norm of each row (float64 [n]) and sum of the rows (float64 [d]); NaN passes through."""
    sqnorm = np.empty(len(x))
    sums = np.zeros((min(_SEGMENTS, 1 + len(x) // 32), x.shape[1]))  # few rows are not worth many sums
    _survey(readonly(x), sqnorm, sums)
    return sqnorm, sums.sum(axis=0)


# --------------------------------------------------------------------------- lists of the nearest


@njit(fastmath=FAST, inline="always")
def insert(values, ids, value, j):
    """Insert (value, j) into the ascending list `values`, dropping its last entry."""
    t = values.shape[0] - 1
    while t > 0 and values[t - 1] > value:
        values[t] = values[t - 1]
        ids[t] = ids[t - 1]
        t -= 1
    values[t] = value
    ids[t] = j


@njit(cache=True)
def bucket(probes, cells):
    """Group the (row, cell) pairs of `probes` (int32 [n, p]) by cell.

    Returns ``first`` and ``members``: the rows that probe cell g are ``members[first[g]:first[g + 1]]``.
    """
    count, nprobe = probes.shape
    first = np.zeros(cells + 1, np.int64)
    for i in range(count):
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
    return first, members


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
    order : int32 [n], or int64 [n] from 2^31 rows on
        Rows of cluster `j` are ``order[offsets[j]:offsets[j + 1]]``.
    """
    offsets = np.zeros(k + 1, np.int64)
    order = np.empty(len(labels), np.int32 if len(labels) < 2**31 else np.int64)
    _group(readonly(labels), offsets, order)
    return offsets, order


@njit(cache=True, nogil=True)
def _tally(labels, values, weights, out):
    for i in range(labels.shape[0]):
        v = np.float64(values[i]) if values.shape[0] > 0 else 1.0
        out[labels[i]] += v * weights[i] if weights.shape[0] > 0 else v


def tally(
    labels: np.ndarray, k: int, values: np.ndarray | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """Sum of the values (float32 [n]; None: 1 each), times weights (float64 [n]), of each cluster: float64 [k].

    ``numpy.bincount`` copies labels and values to 64 bits.
    """
    out = np.zeros(k)
    values = np.empty(0, np.float32) if values is None else values
    weights = np.empty(0) if weights is None else weights
    _tally(readonly(labels), readonly(values), readonly(weights), out)
    return out


@njit(cache=True, nogil=True)
def _members_at(labels, place, left, out):
    for i in range(labels.shape[0]):
        g = place[labels[i]]
        if g >= 0:
            if left[g] == 0:
                out[g] = i
            left[g] -= 1


def members_at(labels: np.ndarray, clusters: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For some different clusters the member at a place (from 0) among their rows: int64 [len(clusters)]."""
    place = np.full(int(labels.max(initial=-1)) + 1, -1)
    place[clusters] = np.arange(len(clusters))
    out = np.empty(len(clusters), np.int64)
    _members_at(readonly(labels), place, np.array(at, np.int64), out)
    return out


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _add_rows(x, weights, sign, offsets, order, sums, mass, edge, edge_mass, edge_id):
    """Each piece owns a run of `order`; the clusters at its two ends, which it may share, go to `edge`."""
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
        The clusters whose sums are not those of `before`; all when not given.
    explained : float64 [k], optional
        What was returned for `before`; updated in place.

    Returns
    -------
    means : float32 [k, d]
    explained : float64 [k]
        ``|S|^2 / W`` of each cluster, or the length ``|S|`` of its sum for cosine: what its mean takes off the
        weighted sum of squared norms (half of it, for cosine).
    """
    out = np.empty_like(before)
    changed = np.ones(len(sums), bool) if changed is None else changed
    explained = np.empty(len(sums)) if explained is None else explained
    _means(sums, counts.astype(np.float64), cosine, changed, readonly(before), out, explained)
    return out, explained


@njit(parallel=True, fastmath=FAST, cache=True, nogil=True)
def _drift(a, b, changed, out):
    for j in prange(a.shape[0]):
        out[j] = np.sqrt(sqdist32(a[j], b[j])) if changed[j] else np.float32(0)


def drift(a: np.ndarray, b: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Distance between matching rows of two float32 arrays [k, d], 0 where not `changed` (bool [k]): float32 [k]."""
    out = np.empty(len(a), np.float32)
    _drift(readonly(a), readonly(b), changed, out)
    return out
