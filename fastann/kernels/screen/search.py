"""The searches of `exact` by screening: exact nearest centroids, and lists of eight, flat or in cells.

Compiled code tells VNNI from AMX by the type of `config`, which is None for VNNI: what the other would do is not
compiled. (A branch on None would not do: Numba leaves out what follows for None only, so AMX would compile both.)
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from fastann.kernels.exact import WIDE
from fastann.kernels.lists import bucket, insert
from fastann.kernels.pairs import sqdist32, sqdist64
from fastann.kernels.rows import readonly
from fastann.kernels.screen import amx as amx
from fastann.kernels.screen import vnni as vnni
from fastann.kernels.screen.certificate import BLOCK, TASK, UNIT, limit_of, pad_columns, scratch_f32
from fastann.kernels.simd import HUGE, below32, lowest_bit

Packed = amx.Packed | vnni.Packed


def pack_screen(centroids: np.ndarray, columns: np.ndarray, shift: np.ndarray) -> Packed:
    """Pack centroids for the best instructions this CPU has.

    Parameters
    ----------
    centroids : float32 [k, d]
    columns : int32 [strips * 32]
        The centroids in the order to pack them in, -1 for padding: see `pad_columns`.
    shift : float32 [d]
        Taken off rows and centroids before they are rounded: best their mean.
    """
    return (amx if amx.available() else vnni).Packed(centroids, columns, shift)


@njit(cache=True)
def _slack(xsq, d, largest):
    """Bound on the rounding of two float32 scores of a row."""
    return np.float32(4) * UNIT * ((d + 4) * np.sqrt(xsq) * largest + largest * largest + xsq)


def _pack_rows(x, rows, start, n, shift, config, xsq, error):
    raise TypeError("this can only be called from compiled code")


def _screen(packed, n, some, d, operands, config, first, last, limit, lists, nearest):
    raise TypeError("this can only be called from compiled code")


def _dense(packed, n, d, operands, config, strips, out):
    raise TypeError("this can only be called from compiled code")


def _kernels(config):
    return vnni if isinstance(config, types.NoneType) else amx


@overload(_pack_rows)
def _pack_rows_of(x, rows, start, n, shift, config, xsq, error):
    pack_rows = _kernels(config).pack_rows
    return lambda x, rows, start, n, shift, config, xsq, error: pack_rows(x, rows, start, n, shift, xsq, error)


@overload(_screen)
def _screen_of(packed, n, some, d, operands, config, first, last, limit, lists, nearest):
    screen = _kernels(config).screen
    return lambda packed, n, some, d, operands, config, first, last, limit, lists, nearest: screen(
        packed, n, some, d, operands, config, first, last, limit, lists, nearest
    )


@overload(_dense)
def _dense_of(packed, n, d, operands, config, strips, out):
    dense = _kernels(config).dense
    return lambda packed, n, d, operands, config, strips, out: dense(packed, n, d, operands, config, strips, out)


@njit(parallel=True, cache=True, nogil=True)
def _nearest(x, c, hint, shift, operands, config, columns, moved, largest, labels, sqdist):
    n, d = x.shape
    every = np.empty(0, np.int32)
    for task in prange((n + TASK - 1) // TASK):
        start = task * TASK
        count = min(TASK, n - start)
        xsq = np.empty(count, np.float32)
        error = np.empty(count, np.float32)
        slack = np.empty(count, np.float32)
        limit = np.full(count, HUGE)
        label = np.full(count, -1, np.int32)
        least = np.full(count, np.inf)
        packed = _pack_rows(x, every, start, count, shift, config, xsq, error)
        for i in range(count):
            error[i] += moved
            slack[i] = _slack(xsq[i], d, largest)
            if hint.size and hint[start + i] >= 0:
                label[i] = hint[start + i]
                least[i] = sqdist64(x[start + i], c[label[i]])
                limit[i] = limit_of(least[i] * (1 + 1e-6), xsq[i], error[i], slack[i])
        nearest = (columns, x, start, c, label, least, xsq, error, slack)
        _screen(packed, count, None, d, operands, config, 0, columns.shape[0] // BLOCK, limit, None, nearest)
        for i in range(count):
            labels[start + i] = label[i]
            sqdist[start + i] = least[i]


def nearest_screened(
    x: np.ndarray, c: np.ndarray, packed: Packed, hint: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each row, certified exact.

    A centroid whose score rules it out, by the inequality that `certificate` states and the rounding of float32 sums,
    is never looked at; the others are compared by float64 distances, equal ones going to the lowest.

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
        Squared L2 distances.
    """
    labels, sqdist = np.empty(len(x), np.int32), np.empty(len(x), np.float32)
    hint = np.empty(0, np.int32) if hint is None else hint
    _nearest(
        readonly(x), readonly(c), readonly(hint), packed.shift, packed.operands, packed.config, packed.columns,
        packed.moved, packed.largest, labels, sqdist,
    )  # fmt: skip
    return labels, sqdist


@njit(cache=True)
def _within(within, xsq, error, d, largest):
    """Score that no centroid within a distance of the row can exceed."""
    return HUGE if within >= HUGE else limit_of(within * within, xsq, error, _slack(xsq, d, largest))


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
def _eight(x, rows, c, within, rough, shift, operands, config, columns, moved, largest, out_ids, out_dist):
    n = rows.shape[0]
    d = x.shape[1]
    for task in prange((n + TASK - 1) // TASK):
        start = task * TASK
        count = min(TASK, n - start)
        xsq = np.empty(count, np.float32)
        error = np.empty(count, np.float32)
        limit = np.empty(count, np.float32)
        scores = np.full(count * 8, HUGE)
        ids = np.full(count * 8, -1, np.int32)
        packed = _pack_rows(x, rows, start, count, shift, config, xsq, error)
        for i in range(count):
            limit[i] = _within(within[start + i], xsq[i], error[i] + moved, d, largest)
        _screen(packed, count, None, d, operands, config, 0, columns.shape[0] // BLOCK, limit, (scores, ids), None)
        for i in range(count):
            _finish(x, rows[start + i], c, columns, ids, scores, xsq, i, rough, out_ids, out_dist, start + i)


@njit(parallel=True, cache=True, nogil=True)
def _eight_in_cells(
    x, rows, c, within, rough, shift, coarse, coarse_strips, strips, nprobe,
    operands, config, columns, moved, largest, out_ids, out_dist,
):  # fmt: skip
    n = rows.shape[0]
    d = x.shape[1]
    cells = strips.shape[0] - 1
    whole = 4 * TASK  # rows looked at together: enough for every cell to get a block or more of them
    for task in prange((n + whole - 1) // whole):
        start = task * whole
        count = min(whole, n - start)
        xsq = np.empty(count, np.float32)
        error = np.empty(count, np.float32)
        limit = np.empty(count, np.float32)
        scores = np.full(count * 8, HUGE)
        ids = np.full(count * 8, -1, np.int32)
        probes = np.empty((count, nprobe), np.int32)
        nearest = np.empty(nprobe, np.float32)
        dense = scratch_f32(count * coarse_strips * BLOCK)
        packed = _pack_rows(x, rows, start, count, shift, config, xsq, error)
        _dense(packed, count, d, coarse, config, coarse_strips, dense)
        for i in range(count):
            nearest[:] = HUGE
            t = HUGE
            for strip in range(coarse_strips):
                at = (i * coarse_strips + strip) * BLOCK
                hits = below32(dense, at, t)
                while hits:
                    j = lowest_bit(hits)
                    hits &= hits - np.uint32(1)
                    v = dense[at + j]
                    if v < t:
                        insert(nearest, probes[i], v, np.int32(strip * BLOCK + j))
                        t = nearest[nprobe - 1]
            limit[i] = _within(within[start + i], xsq[i], error[i] + moved, d, largest)
        first, members = bucket(probes, cells)
        for g in range(cells):
            some = members[first[g] : first[g + 1]]
            if some.size and strips[g] < strips[g + 1]:
                _screen(packed, count, some, d, operands, config, strips[g], strips[g + 1], limit, (scores, ids), None)
        for i in range(count):
            _finish(x, rows[start + i], c, columns, ids, scores, xsq, i, rough, out_ids, out_dist, start + i)


def eight_screened(
    x: np.ndarray,
    rows: np.ndarray,
    c: np.ndarray,
    packed: Packed,
    within: np.ndarray,
    cells: ScreenedCells | None,
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
    cells : ScreenedCells or None
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
    common = (packed.operands, packed.config, packed.columns, packed.moved, packed.largest, ids, dist)
    x, rows, c, within = readonly(x), readonly(rows), readonly(c), readonly(within)
    if cells is None:
        _eight(x, rows, c, within, rough, packed.shift, *common)
    else:
        coarse = cells.packed
        probes = min(nprobe, len(cells.strips) - 1)
        _eight_in_cells(
            x, rows, c, within, rough, packed.shift, coarse.operands, len(coarse.columns) // BLOCK, cells.strips,
            probes, *common,
        )  # fmt: skip
    return ids, dist


class ScreenedCells:
    """A partition of the centroids: packed cell centres, and the strips of each cell in the packed centroids.

    Attributes
    ----------
    columns : int32
        Centroid of each column, cell by cell, each cell padded with -1 to whole strips.
    strips : int64 [cells + 1]
        Where each cell begins.
    """

    def __init__(self, centers: np.ndarray, members: list[np.ndarray], shift: np.ndarray):
        columns = [pad_columns(part) for part in members]
        self.columns = np.concatenate(columns)
        self.strips = np.concatenate([[0], np.cumsum([len(part) // BLOCK for part in columns])])
        self.packed = pack_screen(centers, pad_columns(np.arange(len(centers))), shift)


def suits_screen(k: int, d: int, spread: float) -> bool:
    """Whether screening pays for `k` centroids of `d` columns, and the arithmetic has room for them.

    `spread` is their root mean squared distance to their mean.
    """
    fits = k >= 64 and 24 <= d <= WIDE and 1e-12 < spread < 1e15  # wider rows are mostly zeros
    return fits and (amx.available() or (d <= vnni.COLUMNS and vnni.available()))
