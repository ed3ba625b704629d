"""Screening with AMX tiles: bfloat16 products at several times the float32 rate (Intel Xeon since 2023).

bfloat16 moves a point by at most 2^-9 of its norm. `tiles` has the instructions; here, operands are packed for them
and scores are selected from. Operands are stored tile by tile, in the order in which the kernel walks them, 64-byte
aligned (unaligned operands cost a factor of three). A step is 32 dims, the length of a tile's row:

    rows       [block of 32 rows      ][step of 32 dims][upper, lower 16 rows][16 rows][32 dims]
    centroids  [strip of 32 centroids ][step of 32 dims][left, right 16      ][16 pairs of dims][16][2]
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fastann.kernels.screen.certificate import BLOCK, aligned, hand, scratch_f32
from fastann.kernels.screen.tiles import (
    TILE_CONFIG,
    copy32,
    round32,
    tile_begin,
    tile_end,
    tile_init,
    tile_load,
    tile_step,
    tile_store,
)
from fastann.kernels.screen.tiles import available as available
from fastann.kernels.simd import HUGE, below32, prefetch

STEPS = 16  # steps at a time: 16 x 2 KiB of a strip stay in L1
ROUND = np.float32(2.0**-9 * 1.01)  # bfloat16 moves a point by at most this share of its rounded norm


# --------------------------------------------------------------------------- packing


@njit(cache=True)
def scratch_u16(n):
    """`n` uint16, 64-byte aligned, inside compiled code."""
    raw = np.empty(n + 32, np.uint16)
    start = (-raw.ctypes.data % 64) // 2
    return raw[start : start + n]


@njit(cache=True, parallel=True, nogil=True)
def _pack(c, shift, columns, changed, cb, cn, moved):
    d = c.shape[1]
    steps = (d + 31) // 32
    for s in prange(columns.shape[0] // BLOCK):
        row = np.zeros(steps * 32, np.float32)
        bits = row.view(np.uint32)
        back = np.zeros(1, np.uint32)  # a rounded value's bits, and the float they are
        value = back.view(np.float32)
        for j in range(BLOCK):
            g = columns[s * BLOCK + j]
            if g >= 0 and not changed[g]:
                continue
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
    operands : tuple
        The tiles (holding -2 c), and the squared norms of the rounded centroids.
    config : uint8 [64]
        The tile configuration.
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
        cb = aligned(len(columns) // BLOCK * steps * 512, np.uint32)
        cn = aligned(len(columns), np.float32)
        self.operands, self.config = (cb, cn), TILE_CONFIG
        self._moved = np.empty(len(columns), np.float32)
        self.update(centroids, np.ones(len(centroids), bool))

    def update(self, centroids: np.ndarray, changed: np.ndarray) -> None:
        """Pack again, in place, the centroids that `changed` (bool [k])."""
        cb, cn = self.operands
        _pack(centroids, self.shift, self.columns, changed, cb, cn, self._moved)
        real = self.columns >= 0
        self.moved = np.float32(self._moved[real].max() * 1.0001)
        self.largest = np.float32(np.sqrt(cn[real].max()) * 1.01)


@njit(cache=True)
def pack_rows(x, rows, start, n, shift, xsq, error):
    """Pack rows x[rows[start:start + n]], or x[start:start + n] if `rows` is empty.

    Returns them, room to gather some of them, and room for scores. Writes the squared norms of the rounded rows into
    `xsq`, and how far rounding may have moved each into `error`.
    """
    d = x.shape[1]
    steps = (d + 31) // 32
    full = d // 32
    blocks = (n + BLOCK - 1) // BLOCK
    xb = scratch_u16(blocks * steps * 1024)
    tail = np.zeros(32, np.float32)
    square = np.empty(16, np.float32)
    for i in range(blocks * BLOCK):
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
            round32(x, r * d + 32 * k, shift, 32 * k, xb, o, square)
            o += 1024
        if full < steps:
            for t in range(d - 32 * full):
                tail[t] = x[r, 32 * full + t]
            round32(tail, 0, shift, 32 * full, xb, o, square)
        total = np.float32(0)
        for t in range(16):
            total += square[t]
        xsq[i] = total
        error[i] = np.sqrt(total) * ROUND
    return xb, scratch_u16(blocks * steps * 1024), scratch_f32(1024 * max(2, blocks))


# --------------------------------------------------------------------------- screening


@njit(cache=True)
def _screen(xb, n, cb, cn, steps, first, last, limit, buffer, lists, nearest):
    """Screen the first `n` packed rows against strips first..last-1: hand on every score below the row's limit[i].

    Scores go to `lists` or to `nearest`; the other one is None, and its code is not compiled.

    - `lists` = (scores, columns) are ascending lists of eight per row; limit[i] becomes the eighth score.
    - `nearest` = (columns, x, start, c, label, least, xsq, error, slack) has the row compared with the centroid on the
      spot, in float64; limit[i] becomes the score below which a centroid may still be nearer.

    Rows of more than `STEPS` steps are multiplied at most `STEPS` steps at a time, for all rows before the next steps,
    so that this part of the strip stays in L1; the partial sums wait in `buffer` (1024 * max(2, blocks) floats,
    aligned). The scores of one block are looked at while the tiles multiply the next, a few rows per step, so that
    vector work and mispredicted branches hide behind the tile unit.
    """
    blocks = (n + BLOCK - 1) // BLOCK
    visits = (steps + STEPS - 1) // STEPS
    length = (steps + visits - 1) // visits
    current = 0
    row = end = column = place = 0  # rows of the block before that are still to be looked at; where their scores are
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
                        hits = below32(buffer, place, limit[i])
                        if hits:
                            hand(hits, buffer, place, limit, i, column, lists, nearest)
                        place += BLOCK
                    row += per
                tile_store(buffer, current)
                if visit == visits - 1:
                    row = b * BLOCK
                    end = min(row + BLOCK, n)
                    column = strip * BLOCK
                    place = current
                    current = 1024 - current
                else:
                    end = 0
    for i in range(row, end):
        hits = below32(buffer, place, limit[i])
        if hits:
            hand(hits, buffer, place, limit, i, column, lists, nearest)
        place += BLOCK


@njit(cache=True)
def screen(packed, n, some, d, operands, config, first, last, limit, lists, nearest):
    """Screen packed rows against strips first..last-1: see `_screen`.

    `packed` is what `pack_rows` returned for `n` rows; `operands` and `config` are those of a `Packed`. If `some`
    (int32) is not None, only the rows it names are screened: they are gathered, with their lists, and `nearest` must
    be None.
    """
    xb, xg, buffer = packed
    cb, cn = operands
    steps = (d + 31) // 32
    tile_begin(config)
    if some is None:
        _screen(xb, n, cb, cn, steps, first, last, limit, buffer, lists, nearest)
    else:
        count = some.shape[0]
        scores, ids = lists
        g_limit = np.empty(count, np.float32)
        g_scores = np.empty(count * 8, np.float32)
        g_ids = np.empty(count * 8, np.int32)
        for p in range(count):
            i = some[p]
            a = (i // BLOCK) * steps * 1024 + (i % BLOCK) * 32
            b = (p // BLOCK) * steps * 1024 + (p % BLOCK) * 32
            for _ in range(steps):
                copy32(xb, a, xg, b)
                a += 1024
                b += 1024
            g_limit[p] = limit[i]
            for t in range(8):
                g_scores[p * 8 + t] = scores[i * 8 + t]
                g_ids[p * 8 + t] = ids[i * 8 + t]
        _screen(xg, count, cb, cn, steps, first, last, g_limit, buffer, (g_scores, g_ids), None)
        for p in range(count):
            i = some[p]
            limit[i] = g_limit[p]
            for t in range(8):
                scores[i * 8 + t] = g_scores[p * 8 + t]
                ids[i * 8 + t] = g_ids[p * 8 + t]
    tile_end()


@njit(cache=True)
def dense(packed, n, d, operands, config, strips, out):
    """All scores of `n` packed rows: that of (row, column) is out[row * strips * 32 + column]."""
    xb, _, buffer = packed
    cb, cn = operands
    steps = (d + 31) // 32
    blocks = (n + BLOCK - 1) // BLOCK
    tile_begin(config)
    for strip in range(strips):
        for b in range(blocks):
            tile_init(cn, strip * BLOCK)
            p = b * steps * 1024
            q = strip * steps * 512
            for _ in range(steps):
                tile_step(xb, p, cb, q)
                p += 1024
                q += 512
            tile_store(buffer, 0)
            for i in range(b * BLOCK, min(n, (b + 1) * BLOCK)):
                o = (i * strips + strip) * BLOCK
                out[o : o + BLOCK] = buffer[(i % BLOCK) * BLOCK : (i % BLOCK + 1) * BLOCK]
    tile_end()
