"""Screening of rows against centroids with AMX tiles: bfloat16 products at several times the float32 rate.

A *screen* finds, for every row x, the centroids c whose score ``|c|^2 - 2 x.c`` is smallest, computed from
bfloat16 operands with float32 sums. It never decides: its few survivors are compared in float32 or float64.
What makes it trustworthy is that ``|c|^2`` is the norm of the *rounded* centroid, so the score is the exact
squared distance between slightly moved points, and by the triangle inequality

    | |x' - c'| - |x - c| |  <=  |x' - x| + |c' - c|        (' = rounded),

where bfloat16 moves a point by at most 2^-9 of its norm. Both are shifted to the mean of the centroids first.

The instructions are inline assembly, a few lines each, because that does not depend on the features Numba
compiles for. They exist on x86-64 Linux with AMX (Intel Xeon since 2023); everywhere else `available` is False
and this module must not be compiled. An AMX tile is 16 rows of 64 bytes; operands are stored tile by tile, in
the order in which the kernel walks them, 64-byte aligned (unaligned operands cost a factor of three):

    rows       [block of 32 rows      ][step of 32 dims][upper, lower 16 rows][16 rows][32 dims]
    centroids  [strip of 32 centroids ][step of 32 dims][left, right 16      ][16 pairs of dims][16][2]
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import config
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from fastann.cluster.kernels import HUGE, insert8, lowest_bit, prefetch, sqdist32, sqdist64

llvm.initialize_native_asmparser()  # without it LLVM aborts the process on inline assembly

BLOCK = 32  # rows per block, and centroids per strip
TASK = 256  # rows per task: packed, they stay in L2
_STEPS = 16  # steps of 32 dims per visit: 16 x 2 KiB of a strip stay in L1
ROUND = np.float32(2.0**-9 * 1.01)  # bfloat16 moves a point by at most this share of its rounded norm
UNIT = np.float32(2.0**-24)

_VOID, _I32, _I64, _F32 = ir.VoidType(), ir.IntType(32), ir.IntType(64), ir.FloatType()


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this process may run these kernels; asks Linux for the permission that tiles need."""
    if os.environ.get("FASTANN_AMX", "1") == "0" or config.DISABLE_JIT:
        return False
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return False
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:
        return False
    if not all(features.get(name, False) for name in ("amx-tile", "amx-bf16", "avx512bw", "avx512bf16")):
        return False
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        mask = ctypes.c_uint64(0)
        # arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), then ARCH_GET_XCOMP_PERM to see that it was given;
        # it fails on old kernels, in sandboxes, and where a thread has a signal stack too small for the tiles.
        asked = libc.syscall(ctypes.c_long(158), ctypes.c_long(0x1023), ctypes.c_long(18))
        read = libc.syscall(ctypes.c_long(158), ctypes.c_long(0x1022), ctypes.byref(mask))
    except (OSError, AttributeError):
        return False
    return asked == 0 and read == 0 and bool(mask.value >> 18 & 1)


# --------------------------------------------------------------------------- instructions


def _at(context, builder, array_type, array, offset):
    """Address of ``array.ravel()[offset]``."""
    return builder.gep(make_array(array_type)(context, builder, array).data, [offset])


def _asm(builder, text, constraints, args):
    builder.asm(ir.FunctionType(_VOID, [a.type for a in args]), text, constraints, args, True)


@intrinsic
def tile_begin(typingctx, tile_config):
    """Load the tile configuration; once per task."""

    def codegen(context, builder, sig, args):
        _asm(builder, "ldtilecfg ($0)", "r,~{memory}", [_at(context, builder, sig.args[0], args[0], _I64(0))])
        return context.get_dummy_value()

    return types.void(tile_config), codegen


@intrinsic
def tile_end(typingctx):
    """Give the tiles back: otherwise every context switch saves 8 KiB."""

    def codegen(context, builder, sig, args):
        _asm(builder, "tilerelease", "~{memory}", [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def tile_init(typingctx, cn, offset):
    """Accumulators := cn[offset:offset + 32] in each of 32 rows (loads with stride 0)."""

    def codegen(context, builder, sig, args):
        p = _at(context, builder, sig.args[0], args[0], args[1])
        _asm(
            builder,
            "tileloadd ($0,$1), %tmm0\n tileloadd 64($0,$1), %tmm1\n"
            "tileloadd ($0,$1), %tmm2\n tileloadd 64($0,$1), %tmm3",
            "r,r,~{memory},~{tmm0},~{tmm1},~{tmm2},~{tmm3}",
            [p, _I64(0)],
        )
        return context.get_dummy_value()

    return types.void(cn, types.intp), codegen


@intrinsic
def tile_load(typingctx, acc, offset):
    """Accumulators := acc[offset:offset + 1024], a 32 x 32 block."""

    def codegen(context, builder, sig, args):
        p = _at(context, builder, sig.args[0], args[0], args[1])
        _asm(
            builder,
            "tileloadd ($0,$1), %tmm0\n tileloadd 64($0,$1), %tmm1\n"
            "tileloadd 2048($0,$1), %tmm2\n tileloadd 2112($0,$1), %tmm3",
            "r,r,~{memory},~{tmm0},~{tmm1},~{tmm2},~{tmm3}",
            [p, _I64(128)],
        )
        return context.get_dummy_value()

    return types.void(acc, types.intp), codegen


@intrinsic
def tile_step(typingctx, xb, x_offset, cb, c_offset):
    """Accumulators += (32 rows at xb) . (32 centroids at cb) over 32 dims.

    The strip of centroids is reused by every block of rows and should stay in L1; the streaming load of the
    rows (tileloaddt1) keeps them from pushing it out.
    """

    def codegen(context, builder, sig, args):
        p = _at(context, builder, sig.args[0], args[0], args[1])
        q = _at(context, builder, sig.args[2], args[2], args[3])
        _asm(
            builder,
            "tileloadd ($1,$2), %tmm6\n tileloaddt1 ($0,$2), %tmm4\n"
            "tdpbf16ps %tmm6, %tmm4, %tmm0\n"
            "tileloadd 1024($1,$2), %tmm7\n"
            "tdpbf16ps %tmm7, %tmm4, %tmm1\n"
            "tileloaddt1 1024($0,$2), %tmm5\n"
            "tdpbf16ps %tmm6, %tmm5, %tmm2\n"
            "tdpbf16ps %tmm7, %tmm5, %tmm3",
            "r,r,r,~{memory}," + ",".join(f"~{{tmm{i}}}" for i in range(8)),
            [p, q, _I64(64)],
        )
        return context.get_dummy_value()

    return types.void(xb, types.intp, cb, types.intp), codegen


@intrinsic
def tile_store(typingctx, out, offset):
    """out[offset:offset + 1024] := accumulators, a 32 x 32 block."""

    def codegen(context, builder, sig, args):
        p = _at(context, builder, sig.args[0], args[0], args[1])
        _asm(
            builder,
            "tilestored %tmm0, ($0,$1)\n tilestored %tmm1, 64($0,$1)\n"
            "tilestored %tmm2, 2048($0,$1)\n tilestored %tmm3, 2112($0,$1)",
            "r,r,~{memory}",
            [p, _I64(128)],
        )
        return context.get_dummy_value()

    return types.void(out, types.intp), codegen


@intrinsic
def _round32(typingctx, x, x_offset, shift, s_offset, xb, b_offset, square):
    """xb[32] := bfloat16(x[32] - shift[32]), to nearest even; square[16] += sums of their squares."""

    def codegen(context, builder, sig, args):
        t = sig.args
        _asm(
            builder,
            "vmovups 64($0), %zmm0\n vsubps 64($1), %zmm0, %zmm0\n"
            "vmovups ($0), %zmm1\n vsubps ($1), %zmm1, %zmm1\n"
            "vcvtne2ps2bf16 %zmm1, %zmm0, %zmm0\n vmovups %zmm0, ($2)\n"
            "vmovups ($3), %zmm1\n vdpbf16ps %zmm0, %zmm0, %zmm1\n vmovups %zmm1, ($3)",
            "r,r,r,r,~{memory},~{xmm0},~{xmm1}",
            [
                _at(context, builder, t[0], args[0], args[1]),
                _at(context, builder, t[2], args[2], args[3]),
                _at(context, builder, t[4], args[4], args[5]),
                _at(context, builder, t[6], args[6], _I64(0)),
            ],
        )
        return context.get_dummy_value()

    return types.void(x, types.intp, shift, types.intp, xb, types.intp, square), codegen


@intrinsic
def copy32(typingctx, a, a_offset, b, b_offset):
    """b[b_offset:+32] := a[a_offset:+32], 32 bfloat16 (one cache line)."""

    def codegen(context, builder, sig, args):
        p = _at(context, builder, sig.args[0], args[0], args[1])
        q = _at(context, builder, sig.args[2], args[2], args[3])
        _asm(builder, "vmovups ($0), %zmm0\n vmovups %zmm0, ($1)", "r,r,~{memory},~{xmm0}", [p, q])
        return context.get_dummy_value()

    return types.void(a, types.intp, b, types.intp), codegen


@intrinsic
def below32(typingctx, a, offset, limit):
    """Bit j of the result: ``a[offset + j] < limit``, j < 32."""

    def codegen(context, builder, sig, args):
        p = _at(context, builder, sig.args[0], args[0], args[1])
        v = builder.load(builder.bitcast(p, ir.PointerType(ir.VectorType(_F32, 32))))
        v.align = 4
        vt = ir.VectorType(_F32, 32)
        one = builder.insert_element(ir.Constant(vt, ir.Undefined), args[2], _I32(0))
        limit = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, 32), [0] * 32))
        return builder.bitcast(builder.fcmp_ordered("<", v, limit), _I32)

    return types.uint32(a, types.intp, types.float32), codegen


# --------------------------------------------------------------------------- packing


def aligned(n: int, dtype: type) -> np.ndarray:
    """`n` zeros, 64-byte aligned."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(n * size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n * size].view(dtype)


def _tile_config() -> np.ndarray:
    c = aligned(64, np.uint8)
    c[0] = 1  # palette
    c[16:32].view(np.uint16)[:] = 64  # bytes per row of each of the 8 tiles
    c[48:56] = 16  # rows of each
    return c


TILE_CONFIG = _tile_config()


@njit(cache=True)
def scratch_u16(n):
    """`n` uint16, 64-byte aligned, inside compiled code."""
    raw = np.empty(n + 32, np.uint16)
    start = (-raw.ctypes.data % 64) // 2
    return raw[start : start + n]


@njit(cache=True)
def scratch_f32(n):
    """`n` float32, 64-byte aligned, inside compiled code."""
    raw = np.empty(n + 16, np.float32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + n]


@njit(cache=True, parallel=True, nogil=True)
def _pack(c, shift, columns, cb, cn, moved):
    d = c.shape[1]
    steps = (d + 31) // 32
    for s in prange(columns.shape[0] // BLOCK):
        row = np.zeros(steps * 32, np.float32)
        bits = row.view(np.uint32)
        back = np.zeros(1, np.uint32)  # a rounded value's bits, and the float they are
        value = back.view(np.float32)
        for j in range(BLOCK):
            g = columns[s * BLOCK + j]
            norm = 0.0
            error = 0.0
            for p in range(d):
                row[p] = c[g, p] - shift[p] if g >= 0 else np.float32(0)
                b = bits[p]
                back[0] = ((b + np.uint32(0x7FFF) + ((b >> 16) & np.uint32(1))) >> 16) << 16
                norm += np.float64(value[0]) ** 2
                error += (np.float64(value[0]) - np.float64(row[p])) ** 2
                row[p] = np.float32(-2) * value[0]
            cn[s * BLOCK + j] = norm if g >= 0 else HUGE
            moved[s * BLOCK + j] = np.sqrt(error)
            o = s * steps * 512 + (j // 16) * 256 + j % 16
            for k in range(steps):
                for p in range(16):
                    b = 32 * k + 2 * p
                    cb[o + p * 16] = (bits[b] >> 16) | bits[b + 1]
                o += 512


class Packed:
    """Centroids in tiles, shifted and rounded to bfloat16.

    Attributes
    ----------
    columns : int32 [strips * 32]
        Centroid of each column, -1 where it is padding.
    cb, cn : the tiles (holding -2 c), and the squared norms of the rounded centroids
    shift : float32 [d rounded up to 32]
    moved : float32
        How far rounding moved a centroid, at most.
    largest : float32
        Largest norm of a shifted centroid.
    """

    def __init__(self, centroids: np.ndarray, columns: np.ndarray, shift: np.ndarray):
        d = centroids.shape[1]
        steps = -(-d // 32)
        self.columns = columns
        self.shift = np.zeros(steps * 32, np.float32)
        self.shift[:d] = shift
        self.cb = aligned(len(columns) // BLOCK * steps * 512, np.uint32)
        self.cn = aligned(len(columns), np.float32)
        moved = np.empty(len(columns), np.float32)
        _pack(centroids, self.shift, columns, self.cb, self.cn, moved)
        real = columns >= 0
        self.moved = np.float32(moved[real].max() * 1.0001)
        self.largest = np.float32(np.sqrt(self.cn[real].max()) * 1.01)


def pad_columns(columns: np.ndarray) -> np.ndarray:
    """Pad a list of centroids with -1 to whole strips."""
    return np.concatenate([columns, np.full(-len(columns) % BLOCK, -1)]).astype(np.int32)


@njit(cache=True)
def pack_rows(x, rows, start, n, shift, xb, xsq):
    """Pack rows x[rows[start:start + n]] (all rows from `start` if `rows` is empty); xsq := rounded norms squared."""
    d = x.shape[1]
    steps = (d + 31) // 32
    full = d // 32
    tail = np.zeros(32, np.float32)
    square = np.empty(16, np.float32)
    for i in range((n + BLOCK - 1) // BLOCK * BLOCK):
        o = (i // BLOCK) * steps * 1024 + (i % BLOCK) * 32
        if i >= n:
            for _ in range(steps):
                for t in range(32):
                    xb[o + t] = 0
                o += 1024
            continue
        r = rows[start + i] if rows.size else start + i
        ahead = start + min(i + 4, n - 1)  # asking four rows ahead makes gathers 20-35% faster
        ahead = rows[ahead] if rows.size else ahead
        square[:] = 0
        for k in range(full):
            prefetch(x, ahead * d + 32 * k)
            prefetch(x, ahead * d + 32 * k + 16)
            _round32(x, r * d + 32 * k, shift, 32 * k, xb, o, square)
            o += 1024
        if full < steps:
            for t in range(d - 32 * full):
                tail[t] = x[r, 32 * full + t]
            _round32(tail, 0, shift, 32 * full, xb, o, square)
        total = np.float32(0)
        for t in range(16):
            total += square[t]
        xsq[i] = total


# --------------------------------------------------------------------------- screening


@njit(inline="always")
def limit_of(sqdist, xsq, error, slack):
    """Score below which a centroid may lie within `sqdist` of the row."""
    reach = np.sqrt(sqdist) + error
    return np.float32(reach * reach - xsq + slack)


@njit(inline="always")
def _list(hits, a, at, limit, scores, ids, row, column):
    """Insert the scores a[at + j] whose bit j is set in the row's list of eight, if still below its limit."""
    t = limit[row]
    while hits:
        j = lowest_bit(hits)
        hits &= hits - np.uint32(1)
        v = a[at + j]
        if v < t:
            t = min(t, insert8(scores, ids, row * 8, v, np.int32(column + j)))
    limit[row] = t


@njit(inline="always")
def _compare(hits, a, at, limit, row, column, columns, x, r, c, label, least, xsq, error, slack):
    """Compare row `r` of `x` with the centroids whose bit is set, best score first; ties go to the lowest."""
    first = lowest_bit(hits)
    rest = hits & (hits - np.uint32(1))
    while rest:
        bit = lowest_bit(rest)
        rest &= rest - np.uint32(1)
        if a[at + bit] < a[at + first]:
            first = bit
    bit = first
    hits &= ~(np.uint32(1) << bit)
    while True:
        if a[at + bit] < limit[row]:
            j = columns[column + bit]
            if j != label[row] and sqdist32(x[r], c[j]) <= least[row] * (1 + 1e-4):
                v = sqdist64(x[r], c[j])
                if v < least[row] or (v == least[row] and j < label[row]):
                    least[row] = v
                    label[row] = j
                    limit[row] = min(limit[row], limit_of(v * (1 + 1e-6), xsq[row], error[row], slack[row]))
        if hits == 0:
            break
        bit = lowest_bit(hits)
        hits &= hits - np.uint32(1)


@njit(inline="always")
def _hand(hits, a, at, limit, row, column, lists, nearest):
    if lists is not None:
        _list(hits, a, at, limit, lists[0], lists[1], row, column)
    if nearest is not None:
        columns, x, start, c, label, least, xsq, error, slack = nearest
        _compare(hits, a, at, limit, row, column, columns, x, start + row, c, label, least, xsq, error, slack)


@njit(cache=True)
def screen(xb, n, cb, cn, steps, first, last, limit, buffer, lists, nearest):
    """Screen `n` packed rows against strips first..last-1: hand every score below limit[i] to what wants it.

    That is either `lists` = (scores, columns), sorted lists of eight per row, limit[i] becoming the eighth best;
    or `nearest` = (columns, x, start, c, label, least, xsq, error, slack), which compares at once and lowers
    limit[i] to what may still be nearest. The other one is None, and its code is not compiled.

    Long rows are taken _STEPS steps at a time so that the strip stays in L1, partial sums waiting in `buffer`
    (1024 * max(2, blocks) floats, aligned). The scores of one block are selected from while the tiles work on
    the next, a few rows per step, so that vector work and branch misses hide behind the tile unit.
    """
    blocks = (n + BLOCK - 1) // BLOCK
    visits = (steps + _STEPS - 1) // _STEPS
    length = (steps + visits - 1) // visits
    current = 0
    row = end = column = at = 0  # what is left to select of the block before
    for strip in range(first, last):
        for visit in range(visits):
            k0 = visit * length
            k1 = min(steps, k0 + length)
            per = (BLOCK + k1 - k0 - 1) // (k1 - k0)
            for b in range(blocks):
                if visits > 1:
                    current = b * 1024
                if visit == 0:
                    tile_init(cn, strip * BLOCK)
                else:
                    tile_load(buffer, current)
                p = (b * steps + k0) * 1024
                q = (strip * steps + k0) * 512
                for _ in range(k0, k1):
                    tile_step(xb, p, cb, q)
                    p += 1024
                    q += 512
                    for i in range(row, min(row + per, end)):
                        hits = below32(buffer, at, limit[i])
                        if hits:
                            _hand(hits, buffer, at, limit, i, column, lists, nearest)
                        at += BLOCK
                    row += per
                tile_store(buffer, current)
                if visit == visits - 1:
                    row = b * BLOCK
                    end = min(row + BLOCK, n)
                    column = strip * BLOCK
                    at = current
                    current = 1024 - current
                else:
                    end = 0
    for i in range(row, end):
        hits = below32(buffer, at, limit[i])
        if hits:
            _hand(hits, buffer, at, limit, i, column, lists, nearest)
        at += BLOCK
