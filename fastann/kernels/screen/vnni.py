"""Screening with int8 products (AVX-512 VNNI): four times the float32 rate (Intel since 2019, AMD since 2022).

Every row, and every centroid, has a scale of its own, its largest coordinate over 127; how far rounding moved it is
computed on the way, about 0.8% of its norm in embeddings. Sums are int32, so they are exact. The
instruction multiplies unsigned by signed bytes: rows are stored with 128 added, which an accumulator that starts
at -128 times the sum of the centroid takes back.

Rows are read where they lie, eight at a time, through pointers, so that the rows of a cell need no gathering:

    rows       [row][dims, rounded up to 4], uint8
    centroids  [strip of 32][its constants: start of the sums, -2 scale, |c'|^2][4 dims][32][4], int8
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic

from fastann.kernels.screen.certificate import BLOCK, UNIT, aligned, hand, permitted
from fastann.kernels.simd import FAST, HUGE, address, asm, prefetch

ROWS = 8  # rows per block: 8 x 32 sums are 16 registers
COLUMNS = 65_000  # most columns whose int32 sums cannot overflow
_CONSTANTS = 3 * BLOCK  # words of a strip before its centroids


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this process may run these kernels."""
    return permitted("vnni", "avx512f", "avx512bw", "avx512vnni")


def _row(r: int) -> str:
    """Sums of row `r` += its next 4 dims times those of 32 centroids."""
    return (
        f"vpbroadcastd (%r{8 + r},%rax), %zmm{18 + r}\n"
        f"vpdpbusd %zmm16, %zmm{18 + r}, %zmm{2 * r}\n"
        f"vpdpbusd %zmm17, %zmm{18 + r}, %zmm{2 * r + 1}\n"
    )


def _score(r: int) -> str:
    """Scores of row `r`, and which are below its limit."""
    left, right = 2 * r, 2 * r + 1
    return (
        f"vcvtdq2ps %zmm{left}, %zmm{left}\n vcvtdq2ps %zmm{right}, %zmm{right}\n"
        f"vmulps %zmm16, %zmm{left}, %zmm{left}\n vmulps %zmm17, %zmm{right}, %zmm{right}\n"
        f"vbroadcastss {64 + 4 * r}($0), %zmm20\n vbroadcastss {96 + 4 * r}($0), %zmm21\n"
        f"vfmadd213ps %zmm18, %zmm20, %zmm{left}\n vfmadd213ps %zmm19, %zmm20, %zmm{right}\n"
        f"vmovups %zmm{left}, {192 + 128 * r}($0)\n vmovups %zmm{right}, {256 + 128 * r}($0)\n"
        f"vcmpps $$1, %zmm21, %zmm{left}, %k1\n vcmpps $$1, %zmm21, %zmm{right}, %k2\n"
        f"kunpckwd %k1, %k2, %k1\n kmovd %k1, {128 + 4 * r}($0)\n"
    )


_BLOCK = (
    "".join(f"movq {8 * r}($0), %r{8 + r}\n" for r in range(ROWS))
    + "vmovups ($1), %zmm0\n vmovups 64($1), %zmm1\n"
    + "".join(f"vmovaps %zmm{i % 2}, %zmm{i}\n" for i in range(2, 2 * ROWS))
    + "leaq 384($1), %rcx\n xorl %eax, %eax\n"
    + "1:\n vmovups (%rcx), %zmm16\n vmovups 64(%rcx), %zmm17\n"
    + "".join(_row(r) for r in range(ROWS))
    + "addq $$128, %rcx\n addq $$4, %rax\n cmpq $2, %rax\n jb 1b\n"
    + "vmovups 128($1), %zmm16\n vmovups 192($1), %zmm17\n vmovups 256($1), %zmm18\n vmovups 320($1), %zmm19\n"
    + "".join(_score(r) for r in range(ROWS))
)
_CLOBBERS = (
    [f"r{r}" for r in range(8, 16)] + ["rax", "rcx", "k1", "k2", "memory", "cc"] + [f"xmm{i}" for i in range(26)]
)


@intrinsic
def _block(typingctx, work, cb, strip, row_bytes):
    """Score the eight rows described in `work` (see `_Work`) against the strip at cb[strip]."""

    def codegen(context, builder, sig, args):
        p = address(context, builder, sig.args[0], args[0], context.get_constant(types.intp, 0))
        q = address(context, builder, sig.args[1], args[1], args[2])
        asm(builder, _BLOCK, "r,r,r," + ",".join(f"~{{{name}}}" for name in _CLOBBERS), [p, q, args[3]])
        return context.get_dummy_value()

    return types.void(work, cb, types.intp, types.intp), codegen


@njit(cache=True)
def _work():
    """What `_block` reads and writes: addresses, scales and limits of eight rows; bits of the hits; scores."""
    raw = np.empty(1216 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    work = raw[start : start + 1216]
    return (
        work,
        work[:64].view(np.int64),
        work[64:96].view(np.float32),
        work[96:128].view(np.float32),
        work[128:160].view(np.uint32),
        work[192:].view(np.float32),
    )


# --------------------------------------------------------------------------- packing


@njit(inline="always", fastmath=FAST)
def _round(x, shift, shifted, out):
    """Round x - shift to steps of its own: out := the multiples, plus 128.

    Returns the step, the sum of the multiples, that of their squares, and at most how far the point moved.
    """
    d = x.shape[0]
    top = np.float32(0)
    for t in range(d):
        v = x[t] - shift[t]
        shifted[t] = v
        top = max(top, abs(v))
    step = top / np.float32(127)
    inverse = np.float32(127) / top if step > 0 else np.float32(0)
    total = np.int32(0)
    square = np.int32(0)
    off = np.float32(0)
    for t in range(d):
        u = np.int32(shifted[t] * inverse + np.float32(128.5))  # positive: to nearest
        out[t] = u
        q = u - np.int32(128)
        total += q
        square += q * q
        e = shifted[t] - step * np.float32(q)
        off += e * e
    # Beside the rounding to multiples, that of the subtraction and of these sums.
    moved = np.sqrt(off) * (1 + d * UNIT) + np.float32(4) * UNIT * step * np.sqrt(np.float32(square))
    return step, total, square, moved


@njit(cache=True, parallel=True, nogil=True)
def _pack(c, shift, columns, changed, cb, moved, norm):
    d = c.shape[1]
    groups = (d + 3) // 4
    length = _CONSTANTS + groups * BLOCK
    floats = cb.view(np.float32)
    for s in prange(columns.shape[0] // BLOCK):
        shifted = np.empty(d, np.float32)
        rounded = np.full(groups * 4, 128, np.uint8)
        words = rounded.view(np.uint32)
        for j in range(BLOCK):
            g = columns[s * BLOCK + j]
            o = s * length + j
            if g < 0:  # the rest of the strip is zeros
                floats[o + 2 * BLOCK] = HUGE
                moved[s * BLOCK + j] = norm[s * BLOCK + j] = 0
                continue
            if not changed[g]:
                continue
            step, total, square, off = _round(c[g], shift, shifted, rounded)
            cb[o] = -128 * total
            floats[o + BLOCK] = -2 * step
            floats[o + 2 * BLOCK] = step * step * np.float32(square)
            moved[s * BLOCK + j] = off
            norm[s * BLOCK + j] = step * np.sqrt(np.float32(square))
            o += _CONSTANTS
            for t in range(groups):
                cb[o + t * BLOCK] = words[t] ^ np.uint32(0x80808080)  # less 128


class Packed:
    """Centroids in strips, shifted and rounded to int8: attributes as of `amx.Packed`.

    `operands` holds the strips, as int32; `config` is None, as there are no tiles to configure.
    """

    def __init__(self, centroids: np.ndarray, columns: np.ndarray, shift: np.ndarray):
        groups = -(-centroids.shape[1] // 4)
        self.columns = columns
        self.shift = np.ascontiguousarray(shift, np.float32)
        self.operands = (aligned(len(columns) // BLOCK * (_CONSTANTS + groups * BLOCK), np.int32),)
        self.config = None
        self._moved, self._norm = np.empty(len(columns), np.float32), np.empty(len(columns), np.float32)
        self.update(centroids, np.ones(len(centroids), bool))

    def update(self, centroids: np.ndarray, changed: np.ndarray) -> None:
        """Pack again, in place, the centroids that `changed` (bool [k])."""
        _pack(centroids, self.shift, self.columns, changed, self.operands[0], self._moved, self._norm)
        self.moved = np.float32(self._moved.max() * 1.0001)
        self.largest = np.float32(self._norm.max() * 1.01)


@njit(cache=True, fastmath=FAST)
def pack_rows(x, rows, start, n, shift, xsq, error):
    """Pack rows x[rows[start:start + n]], or x[start:start + n] if `rows` is empty.

    Returns them and their scales. Writes the squared norms of the rounded rows into `xsq`, and at most how far rounding
    moved each into `error`.
    """
    d = x.shape[1]
    stride = (d + 3) // 4 * 4
    xb = np.empty(n * stride, np.uint8)
    scale = np.empty(n, np.float32)
    shifted = np.empty(d, np.float32)
    for i in range(n):
        r = rows[start + i] if rows.size else start + i
        ahead = start + min(i + 4, n - 1)
        ahead = np.int64(rows[ahead]) if rows.size else ahead
        for t in range(0, d, 16):
            prefetch(x, ahead * d + t)
        out = xb[i * stride : (i + 1) * stride]
        scale[i], _, square, error[i] = _round(x[r], shift, shifted, out)
        xsq[i] = scale[i] * scale[i] * np.float32(square)
        out[d:] = 128
    return xb, scale


# --------------------------------------------------------------------------- screening


@njit(cache=True)
def screen(packed, n, some, d, operands, config, first, last, limit, lists, nearest):
    """Screen packed rows, all `n` if `some` is None, against strips first..last-1.

    The arguments are those of `amx.screen`.
    """
    xb, scale = packed
    work, pointers, scales, limits, hits, scores = _work()
    groups = (d + 3) // 4
    words = _CONSTANTS + groups * BLOCK
    base = xb.ctypes.data
    total = n if some is None else some.shape[0]
    for strip in range(first, last):
        for b in range(0, total, ROWS):
            count = min(ROWS, total - b)
            for r in range(ROWS):
                p = b + min(r, count - 1)
                i = p if some is None else some[p]
                pointers[r] = base + i * groups * 4
                scales[r] = scale[i]
                limits[r] = limit[i]
            _block(work, operands[0], strip * words, groups * 4)
            for r in range(count):
                if hits[r]:
                    i = b + r if some is None else some[b + r]
                    hand(hits[r], scores, r * BLOCK, limit, i, strip * BLOCK, lists, nearest)


@njit(cache=True)
def dense(packed, n, d, operands, config, strips, out):
    """All scores of `n` packed rows: that of (row, column) is out[row * strips * 32 + column]."""
    xb, scale = packed
    work, pointers, scales, limits, _, scores = _work()
    groups = (d + 3) // 4
    words = _CONSTANTS + groups * BLOCK
    base = xb.ctypes.data
    limits[:] = -HUGE
    for strip in range(strips):
        for b in range(0, n, ROWS):
            count = min(ROWS, n - b)
            for r in range(ROWS):
                i = b + min(r, count - 1)
                pointers[r] = base + i * groups * 4
                scales[r] = scale[i]
            _block(work, operands[0], strip * words, groups * 4)
            for r in range(count):
                o = ((b + r) * strips + strip) * BLOCK
                out[o : o + BLOCK] = scores[r * BLOCK : (r + 1) * BLOCK]
