"""What the screening kernels share: a cheap product of rounded operands rules centroids out, and never decides.

A *screen* finds, for every row x, the centroids c whose score ``|c|^2 - 2 x.c`` is smallest, computed from rounded
operands. Its few survivors are compared in float32 or float64. What makes it trustworthy is that ``|c|^2`` is the
norm of the *rounded* centroid, so the score is the squared distance between slightly moved points, and by the triangle
inequality

    | |x' - c'| - |x - c| |  <=  |x' - x| + |c' - c|        (' = rounded).

Both are shifted to the mean of the centroids first. How rows and centroids are rounded, and multiplied, depends on
the CPU: `amx` has bfloat16 tiles, `vnni` int8 products. Each offers `available`, `Packed` centroids,
`pack_rows` and `screen`. Centroids come in strips of 32.
"""

from __future__ import annotations

import os
import sys

import llvmlite.binding as llvm
import numpy as np
from numba import njit
from numba.core import config

from fastann.kernels.pairs import sqdist32, sqdist64
from fastann.kernels.simd import insert8, lowest_bit

BLOCK = 32  # centroids per strip
TASK = 256  # rows per task: packed, they stay in L2
UNIT = np.float32(2.0**-24)  # largest relative rounding error of float32

_KINDS = ("amx", "vnni", "blas")  # best first


def permitted(kind: str, *features: str) -> bool:
    """Whether this CPU has some features, and FASTANN_KERNELS in the environment does not ask for less."""
    wanted = os.environ.get("FASTANN_KERNELS", _KINDS[0])
    if wanted not in _KINDS:
        raise ValueError(f"FASTANN_KERNELS is {wanted!r} in the environment; it may be {', '.join(_KINDS)}")
    if config.DISABLE_JIT or _KINDS.index(kind) < _KINDS.index(wanted):
        return False
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return False
    try:
        host = llvm.get_host_cpu_features()
    except RuntimeError:
        return False
    return all(host.get(name, False) for name in features)


def aligned(n: int, dtype: type) -> np.ndarray:
    """`n` zeros, 64-byte aligned."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(n * size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n * size].view(dtype)


@njit(cache=True)
def scratch_f32(n):
    """`n` float32, 64-byte aligned, inside compiled code."""
    raw = np.empty(n + 16, np.float32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + n]


def pad_columns(columns: np.ndarray) -> np.ndarray:
    """Pad a list of centroids with -1 to whole strips of 32: int32."""
    return np.concatenate([columns, np.full(-len(columns) % BLOCK, -1)]).astype(np.int32)


# --------------------------------------------------------------------------- choosing among scores


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
def hand(hits, a, at, limit, row, column, lists, nearest):
    """Hand the scores a[at + j] of a row whose bit j is set to `lists` or `nearest`: see `amx.screen`."""
    if lists is not None:
        _list(hits, a, at, limit, lists[0], lists[1], row, column)
    if nearest is not None:
        columns, x, start, c, label, least, xsq, error, slack = nearest
        _compare(hits, a, at, limit, row, column, columns, x, start + row, c, label, least, xsq, error, slack)
