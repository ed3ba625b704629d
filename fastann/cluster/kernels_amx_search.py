"""The searches of `kernels_search` by AMX tiles: exact nearest centroids, and lists of eight, flat or in cells."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fastann.cluster.kernels import HUGE, bucket, insert, lowest_bit, readonly, sqdist32, sqdist64
from fastann.cluster.kernels_amx import (
    BLOCK,
    ROUND,
    TASK,
    TILE_CONFIG,
    UNIT,
    Packed,
    available,
    below32,
    copy32,
    limit_of,
    pack_rows,
    pad_columns,
    scratch_f32,
    scratch_u16,
    screen,
    tile_begin,
    tile_end,
    tile_init,
    tile_step,
    tile_store,
)


@njit(cache=True)
def _slack(xsq, d, largest):
    """Bound on the rounding of two float32 scores of a row."""
    return np.float32(4) * UNIT * ((d + 4) * np.sqrt(xsq) * largest + largest * largest + xsq)


@njit(parallel=True, cache=True, nogil=True)
def _nearest(x, c, hint, shift, cb, cn, columns, moved, largest, config, labels, sqdist):
    n, d = x.shape
    steps = (d + 31) // 32
    every = np.empty(0, np.int32)
    for task in prange((n + TASK - 1) // TASK):
        start = task * TASK
        count = min(TASK, n - start)
        blocks = (count + BLOCK - 1) // BLOCK
        xb = scratch_u16(blocks * steps * 1024)
        buffer = scratch_f32(1024 * max(2, blocks))
        xsq = np.empty(blocks * BLOCK, np.float32)
        error = np.empty(count, np.float32)
        slack = np.empty(count, np.float32)
        limit = np.full(count, HUGE)
        label = np.full(count, -1, np.int32)
        least = np.full(count, np.inf)
        pack_rows(x, every, start, count, shift, xb, xsq)
        for i in range(count):
            error[i] = np.sqrt(xsq[i]) * ROUND + moved
            slack[i] = _slack(xsq[i], d, largest)
            if hint.size and hint[start + i] >= 0:
                label[i] = hint[start + i]
                least[i] = sqdist64(x[start + i], c[label[i]])
                limit[i] = limit_of(least[i] * (1 + 1e-6), xsq[i], error[i], slack[i])
        tile_begin(config)
        nearest = (columns, x, start, c, label, least, xsq, error, slack)
        screen(xb, count, cb, cn, steps, 0, cn.shape[0] // BLOCK, limit, buffer, None, nearest)
        tile_end()
        for i in range(count):
            labels[start + i] = label[i]
            sqdist[start + i] = least[i]


def nearest(
    x: np.ndarray, c: np.ndarray, packed: Packed, hint: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each row, certified exact.

    A centroid whose score rules it out, by the inequality above and the rounding of float32 sums, is never
    looked at; the others are compared by float64 distances, equal ones going to the lowest.

    Parameters
    ----------
    x : float32 [n, d]
    c : float32 [k, d]
    packed : Packed
        All of `c`.
    hint : int32 [n], optional
        A centroid believed near each row, or -1; fewer candidates are then looked at.

    Returns
    -------
    labels : int32 [n]
    sqdist : float32 [n]
    """
    labels, sqdist = np.empty(len(x), np.int32), np.empty(len(x), np.float32)
    hint = np.empty(0, np.int32) if hint is None else hint
    _nearest(
        readonly(x), readonly(c), readonly(hint), packed.shift, packed.cb, packed.cn, packed.columns,
        packed.moved, packed.largest, TILE_CONFIG, labels, sqdist,
    )  # fmt: skip
    return labels, sqdist


@njit(cache=True)
def _dense(xb, n, cb, cn, steps, out):
    """All scores of `n` packed rows, block by block: that of (strip, rows) begins at (strip * blocks + rows) * 1024."""
    blocks = (n + BLOCK - 1) // BLOCK
    for strip in range(cn.shape[0] // BLOCK):
        for b in range(blocks):
            tile_init(cn, strip * BLOCK)
            p = b * steps * 1024
            q = strip * steps * 512
            for _ in range(steps):
                tile_step(xb, p, cb, q)
                p += 1024
                q += 512
            tile_store(out, (strip * blocks + b) * 1024)


@njit(cache=True)
def _finish(x, r, c, columns, ids, scores, xsq, place, rough, out_ids, out_dist, at):
    """Write the listed columns of row `r` as centroids sorted by distance (not squared).

    The distances are float32, or those of the rounded points if `rough`, which spares reading the centroids.
    """
    for t in range(8):
        out_dist[at, t] = np.inf
        out_ids[at, t] = -1
    if rough:
        for t in range(8):
            if ids[place * 8 + t] >= 0:
                out_ids[at, t] = columns[ids[place * 8 + t]]
                out_dist[at, t] = np.sqrt(max(xsq[place] + scores[place * 8 + t], np.float32(0)))
        return
    for t in range(8):
        column = ids[place * 8 + t]
        if column < 0:
            break
        j = columns[column]
        v = np.sqrt(sqdist32(x[r], c[j]))
        s = t
        while s > 0 and (out_dist[at, s - 1] > v or (out_dist[at, s - 1] == v and out_ids[at, s - 1] > j)):
            out_dist[at, s] = out_dist[at, s - 1]
            out_ids[at, s] = out_ids[at, s - 1]
            s -= 1
        out_dist[at, s] = v
        out_ids[at, s] = j


@njit(parallel=True, cache=True, nogil=True)
def _eight(x, rows, c, within, rough, shift, cb, cn, columns, moved, largest, config, out_ids, out_dist):
    n = rows.shape[0]
    d = x.shape[1]
    steps = (d + 31) // 32
    for task in prange((n + TASK - 1) // TASK):
        start = task * TASK
        count = min(TASK, n - start)
        blocks = (count + BLOCK - 1) // BLOCK
        xb = scratch_u16(blocks * steps * 1024)
        buffer = scratch_f32(1024 * max(2, blocks))
        xsq = np.empty(blocks * BLOCK, np.float32)
        limit = np.empty(count, np.float32)
        scores = np.full(count * 8, HUGE)
        ids = np.full(count * 8, -1, np.int32)
        pack_rows(x, rows, start, count, shift, xb, xsq)
        for i in range(count):
            error = np.sqrt(xsq[i]) * ROUND + moved
            w = within[start + i]
            limit[i] = HUGE if w >= HUGE else limit_of(w * w, xsq[i], error, _slack(xsq[i], d, largest))
        tile_begin(config)
        screen(xb, count, cb, cn, steps, 0, cn.shape[0] // BLOCK, limit, buffer, (scores, ids), None)
        tile_end()
        for i in range(count):
            _finish(x, rows[start + i], c, columns, ids, scores, xsq, i, rough, out_ids, out_dist, start + i)


@njit(parallel=True, cache=True, nogil=True)
def _eight_in_cells(
    x, rows, c, within, rough, shift, coarse_cb, coarse_cn, cells, strips, nprobe,
    cb, cn, columns, moved, largest, config, out_ids, out_dist,
):  # fmt: skip
    n = rows.shape[0]
    d = x.shape[1]
    steps = (d + 31) // 32
    whole = 4 * TASK  # rows looked at together: enough for every cell to get a block or more of them
    for task in prange((n + whole - 1) // whole):
        start = task * whole
        count = min(whole, n - start)
        blocks = (count + BLOCK - 1) // BLOCK
        xb = scratch_u16(blocks * steps * 1024)
        xg = scratch_u16(blocks * steps * 1024)
        buffer = scratch_f32(1024 * max(2, blocks))
        dense = scratch_f32(coarse_cn.shape[0] * blocks * BLOCK)
        xsq = np.empty(blocks * BLOCK, np.float32)
        limit = np.empty(count, np.float32)
        scores = np.full(count * 8, HUGE)
        ids = np.full(count * 8, -1, np.int32)
        probes = np.empty((count, nprobe), np.int32)
        nearest = np.empty(nprobe, np.float32)
        pack_rows(x, rows, start, count, shift, xb, xsq)
        tile_begin(config)
        _dense(xb, count, coarse_cb, coarse_cn, steps, dense)
        for i in range(count):
            nearest[:] = HUGE
            t = HUGE
            for strip in range(coarse_cn.shape[0] // BLOCK):
                at = (strip * blocks + i // BLOCK) * 1024 + i % BLOCK * BLOCK
                hits = below32(dense, at, t)
                while hits:
                    j = lowest_bit(hits)
                    hits &= hits - np.uint32(1)
                    v = dense[at + j]
                    if v < t:
                        insert(nearest, probes[i], v, np.int32(strip * BLOCK + j))
                        t = nearest[nprobe - 1]
            error = np.sqrt(xsq[i]) * ROUND + moved
            w = within[start + i]
            limit[i] = HUGE if w >= HUGE else limit_of(w * w, xsq[i], error, _slack(xsq[i], d, largest))
        first, members = bucket(probes, cells)
        g_limit = np.empty(count, np.float32)
        g_scores = np.empty(count * 8, np.float32)
        g_ids = np.empty(count * 8, np.int32)
        for g in range(cells):
            q = first[g + 1] - first[g]
            if q == 0 or strips[g] == strips[g + 1]:
                continue
            for p in range(q):
                i = members[first[g] + p]
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
            screen(xg, q, cb, cn, steps, strips[g], strips[g + 1], g_limit, buffer, (g_scores, g_ids), None)
            for p in range(q):
                i = members[first[g] + p]
                limit[i] = g_limit[p]
                for t in range(8):
                    scores[i * 8 + t] = g_scores[p * 8 + t]
                    ids[i * 8 + t] = g_ids[p * 8 + t]
        tile_end()
        for i in range(count):
            _finish(x, rows[start + i], c, columns, ids, scores, xsq, i, rough, out_ids, out_dist, start + i)


def eight_nearest(
    x: np.ndarray,
    rows: np.ndarray,
    c: np.ndarray,
    packed: Packed,
    within: np.ndarray,
    cells: Cells | None,
    nprobe: int,
    rough: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """About the eight nearest centroids of some rows, nearest first.

    Parameters
    ----------
    x : float32 [n, d]
    rows : int32 [r]
        Which rows of `x`.
    c : float32 [k, d]
    packed : Packed
        All of `c`, cell by cell if there are cells.
    within : float32 [r]
        Distances beyond which no centroid is wanted; infinite for any.
    cells : Cells or None
        Only the `nprobe` cells nearest to a row are searched; None searches everything.
    rough : bool
        Whether the distances between rounded points will do, good to about 1%.

    Returns
    -------
    ids : int32 [r, 8]
        -1 where fewer were found.
    dist : float32 [r, 8]
        Distances (not squared), infinite where the id is -1.
    """
    ids, dist = np.empty((len(rows), 8), np.int32), np.empty((len(rows), 8), np.float32)
    common = (packed.cb, packed.cn, packed.columns, packed.moved, packed.largest, TILE_CONFIG, ids, dist)
    x, rows, c, within = readonly(x), readonly(rows), readonly(c), readonly(within)
    if cells is None:
        _eight(x, rows, c, within, rough, packed.shift, *common)
    else:
        coarse = cells.packed
        probes = min(nprobe, cells.count)
        _eight_in_cells(
            x, rows, c, within, rough, packed.shift, coarse.cb, coarse.cn, cells.count, cells.strips, probes, *common
        )
    return ids, dist


class Cells:
    """A partition of the centroids: packed cell centres, and the strips of each cell in the packed centroids.

    Attributes
    ----------
    columns : int32
        Centroid of each column, cell by cell, each cell padded with -1 to whole strips.
    """

    def __init__(self, centers: np.ndarray, members: list[np.ndarray], shift: np.ndarray):
        self.count = len(centers)
        columns = [pad_columns(part) for part in members]
        self.columns = np.concatenate(columns)
        self.strips = np.concatenate([[0], np.cumsum([len(part) // BLOCK for part in columns])])
        self.packed = Packed(centers, pad_columns(np.arange(self.count)), shift)


def suits(k: int, d: int, spread: float) -> bool:
    """Whether screening pays for `k` centroids of `d` columns, and bfloat16 arithmetic has room for them.

    `spread` is their root mean squared distance to their mean.
    """
    return k >= 64 and d >= 24 and 1e-12 < spread < 1e15 and available()
