"""Run the AMX searches with their tile instructions replaced by plain loops: a script, for tests/test_kernels.py."""

import os
import tempfile

os.environ["NUMBA_NUM_THREADS"] = "1"  # one set of tiles
os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()  # what is compiled here must not be found elsewhere

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from fastann import kernels
from fastann.index import own as native
from fastann.kernels.screen import amx, certificate

SUMS = np.zeros(1024, np.float32)
ADDRESS = SUMS.ctypes.data


@intrinsic
def pointer(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), codegen


@njit
def sums():
    return carray(pointer(ADDRESS), (1024,), np.float32)


@njit
def wide(bits):
    word = np.empty(1, np.uint32)
    word[0] = np.uint32(bits) << np.uint32(16)
    return word.view(np.float32)[0]


@njit
def tile_begin(config):
    sums()[:] = 0


@njit
def tile_end():
    pass


@njit
def tile_init(cn, offset):
    s = sums()
    for i in range(32):
        s[i * 32 : i * 32 + 32] = cn[offset : offset + 32]


@njit
def tile_load(acc, offset):
    sums()[:] = acc[offset : offset + 1024]


@njit
def tile_store(out, offset):
    out[offset : offset + 1024] = sums()


@njit
def tile_step(xb, p, cb, q):
    s = sums()
    for i in range(32):
        for j in range(32):
            for t in range(16):
                pair = cb[q + j // 16 * 256 + t * 16 + j % 16]
                s[i * 32 + j] += wide(xb[p + i * 32 + 2 * t]) * wide(pair & np.uint32(0xFFFF))
                s[i * 32 + j] += wide(xb[p + i * 32 + 2 * t + 1]) * wide(pair >> np.uint32(16))


for name in ("tile_begin", "tile_end", "tile_init", "tile_load", "tile_store", "tile_step"):
    setattr(amx, name, globals()[name])
amx.available = lambda: True

rng = np.random.default_rng(0)
for n, d, k in [(1, 24, 64), (300, 33, 65), (200, 700, 130)]:
    x, c = rng.standard_normal((n, d), dtype="f"), rng.standard_normal((k, d), dtype="f")
    truth = ((x[:, None].astype(float) - c) ** 2).sum(-1)
    packed = kernels.pack_screen(c, certificate.pad_columns(np.arange(k)), c.mean(0))
    assert packed.config is not None
    c[3] += 1
    packed.update(c, np.arange(k) == 3)
    truth[:, 3] = ((x.astype(float) - c[3]) ** 2).sum(-1)
    for hint in (None, rng.integers(-1, k, n).astype(np.int32)):
        labels, _ = kernels.nearest_screened(x, c, packed, hint)
        np.testing.assert_array_equal(labels, truth.argmin(1))
    rows = rng.permutation(n).astype(np.int32)[: max(1, n // 2)]
    eight = np.sort(np.argsort(truth[rows], 1)[:, :8], 1)
    for index in (native.FlatIndex(c), native.CellsIndex(c, 8, 8, 3, 0)):
        ids, _ = index.listed(x, rows, 8, np.full(len(rows), np.inf, "f"))
        assert (ids[:, 0] == truth[rows].argmin(1)).all()
        assert (np.sort(ids, 1) == eight).mean() > 0.97
