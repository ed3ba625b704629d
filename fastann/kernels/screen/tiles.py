"""The instructions that AMX screening uses, as inline assembly: 32 x 32 accumulators, rounding to bfloat16.

Each is a few lines of assembly, because that does not depend on the features Numba compiles for; where `available` is
False they must not be compiled. An AMX tile is 16 rows of 64 bytes. Four of the eight tiles are the accumulators, a
block of 32 x 32 float32: upper left, upper right, lower left, lower right.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastann.kernels.screen.certificate import aligned, permitted
from fastann.kernels.simd import address, asm

_I64 = ir.IntType(64)


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this process may run these kernels; asks Linux for the permission that tiles need."""
    if not permitted("amx", "amx-tile", "amx-bf16", "avx512bw", "avx512bf16"):
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


def _tile_config() -> np.ndarray:
    c = aligned(64, np.uint8)
    c[0] = 1  # palette
    c[16:32].view(np.uint16)[:] = 64  # bytes per row of each of the 8 tiles
    c[48:56] = 16  # rows of each
    return c


TILE_CONFIG = _tile_config()


def _instructions(text, changed, *constants):
    """Code of an intrinsic whose arguments are arrays, each with an offset (the last may lack it, for 0).

    Operands $0, $1, ... of `text` are their addresses, then the constants; `changed` names registers.
    """

    def codegen(context, builder, sig, args):
        arrays = zip(sig.args[::2], args[::2], [*args[1::2], _I64(0)], strict=False)
        operands = [address(context, builder, *array) for array in arrays]
        operands += [_I64(value) for value in constants]
        effects = ["memory", *changed.split()]
        asm(builder, text, ",".join(["r"] * len(operands) + [f"~{{{name}}}" for name in effects]), operands)
        return context.get_dummy_value()

    return codegen


@intrinsic
def tile_begin(typingctx, tile_config):
    """Load the tile configuration; once per task."""
    return types.void(tile_config), _instructions("ldtilecfg ($0)", "")


@intrinsic
def tile_end(typingctx):
    """Give the tiles back: otherwise every context switch saves 8 KiB."""
    return types.void(), _instructions("tilerelease", "")


@intrinsic
def tile_init(typingctx, cn, offset):
    """Accumulators := cn[offset:offset + 32] in each of 32 rows (loads with stride 0)."""
    upper = "tileloadd ($0,$1), %tmm0\n tileloadd 64($0,$1), %tmm1\n"
    lower = "tileloadd ($0,$1), %tmm2\n tileloadd 64($0,$1), %tmm3"
    return types.void(cn, types.intp), _instructions(upper + lower, "tmm0 tmm1 tmm2 tmm3", 0)


@intrinsic
def tile_load(typingctx, acc, offset):
    """Accumulators := acc[offset:offset + 1024], a 32 x 32 block."""
    upper = "tileloadd ($0,$1), %tmm0\n tileloadd 64($0,$1), %tmm1\n"
    lower = "tileloadd 2048($0,$1), %tmm2\n tileloadd 2112($0,$1), %tmm3"
    return types.void(acc, types.intp), _instructions(upper + lower, "tmm0 tmm1 tmm2 tmm3", 128)


@intrinsic
def tile_step(typingctx, xb, x_offset, cb, c_offset):
    """Accumulators += (32 rows at xb) . (32 centroids at cb) over 32 dims.

    The strip of centroids is reused by every block of rows and should stay in L1; the streaming load of the
    rows (tileloaddt1) keeps them from pushing it out.
    """
    text = (
        "tileloadd ($1,$2), %tmm6\n tileloaddt1 ($0,$2), %tmm4\n"
        "tdpbf16ps %tmm6, %tmm4, %tmm0\n"
        "tileloadd 1024($1,$2), %tmm7\n"
        "tdpbf16ps %tmm7, %tmm4, %tmm1\n"
        "tileloaddt1 1024($0,$2), %tmm5\n"
        "tdpbf16ps %tmm6, %tmm5, %tmm2\n"
        "tdpbf16ps %tmm7, %tmm5, %tmm3"
    )
    changed = "tmm0 tmm1 tmm2 tmm3 tmm4 tmm5 tmm6 tmm7"
    return types.void(xb, types.intp, cb, types.intp), _instructions(text, changed, 64)


@intrinsic
def tile_store(typingctx, out, offset):
    """out[offset:offset + 1024] := accumulators, a 32 x 32 block."""
    upper = "tilestored %tmm0, ($0,$1)\n tilestored %tmm1, 64($0,$1)\n"
    lower = "tilestored %tmm2, 2048($0,$1)\n tilestored %tmm3, 2112($0,$1)"
    return types.void(out, types.intp), _instructions(upper + lower, "", 128)


@intrinsic
def round32(typingctx, x, x_offset, shift, s_offset, xb, b_offset, square):
    """xb[32] := bfloat16(x[32] - shift[32]), to nearest even; square[16] += sums of their squares."""
    text = (
        "vmovups 64($0), %zmm0\n vsubps 64($1), %zmm0, %zmm0\n"
        "vmovups ($0), %zmm1\n vsubps ($1), %zmm1, %zmm1\n"
        "vcvtne2ps2bf16 %zmm1, %zmm0, %zmm0\n vmovups %zmm0, ($2)\n"
        "vmovups ($3), %zmm1\n vdpbf16ps %zmm0, %zmm0, %zmm1\n vmovups %zmm1, ($3)"
    )
    arguments = types.void(x, types.intp, shift, types.intp, xb, types.intp, square)
    return arguments, _instructions(text, "xmm0 xmm1")


@intrinsic
def copy32(typingctx, a, a_offset, b, b_offset):
    """b[b_offset:+32] := a[a_offset:+32], 32 bfloat16 (one cache line)."""
    text = "vmovups ($0), %zmm0\n vmovups %zmm0, ($1)"
    return types.void(a, types.intp, b, types.intp), _instructions(text, "xmm0")
