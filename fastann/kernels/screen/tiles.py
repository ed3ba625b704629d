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
_ACCUMULATORS = ",~{tmm0},~{tmm1},~{tmm2},~{tmm3}"  # as what an instruction changes


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


def _four_tiles(text, clobbered, stride):
    """Code of an instruction that moves the accumulators from or to an address, its rows `stride` bytes apart."""

    def codegen(context, builder, sig, args):
        p = address(context, builder, sig.args[0], args[0], args[1])
        asm(builder, text, "r,r,~{memory}" + clobbered, [p, _I64(stride)])
        return context.get_dummy_value()

    return codegen


@intrinsic
def tile_begin(typingctx, tile_config):
    """Load the tile configuration; once per task."""

    def codegen(context, builder, sig, args):
        asm(builder, "ldtilecfg ($0)", "r,~{memory}", [address(context, builder, sig.args[0], args[0], _I64(0))])
        return context.get_dummy_value()

    return types.void(tile_config), codegen


@intrinsic
def tile_end(typingctx):
    """Give the tiles back: otherwise every context switch saves 8 KiB."""

    def codegen(context, builder, sig, args):
        asm(builder, "tilerelease", "~{memory}", [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def tile_init(typingctx, cn, offset):
    """Accumulators := cn[offset:offset + 32] in each of 32 rows (loads with stride 0)."""
    text = (
        "tileloadd ($0,$1), %tmm0\n tileloadd 64($0,$1), %tmm1\ntileloadd ($0,$1), %tmm2\n tileloadd 64($0,$1), %tmm3"
    )
    return types.void(cn, types.intp), _four_tiles(text, _ACCUMULATORS, 0)


@intrinsic
def tile_load(typingctx, acc, offset):
    """Accumulators := acc[offset:offset + 1024], a 32 x 32 block."""
    text = (
        "tileloadd ($0,$1), %tmm0\n tileloadd 64($0,$1), %tmm1\n"
        "tileloadd 2048($0,$1), %tmm2\n tileloadd 2112($0,$1), %tmm3"
    )
    return types.void(acc, types.intp), _four_tiles(text, _ACCUMULATORS, 128)


@intrinsic
def tile_step(typingctx, xb, x_offset, cb, c_offset):
    """Accumulators += (32 rows at xb) . (32 centroids at cb) over 32 dims.

    The strip of centroids is reused by every block of rows and should stay in L1; the streaming load of the
    rows (tileloaddt1) keeps them from pushing it out.
    """

    def codegen(context, builder, sig, args):
        p = address(context, builder, sig.args[0], args[0], args[1])
        q = address(context, builder, sig.args[2], args[2], args[3])
        asm(
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
    text = (
        "tilestored %tmm0, ($0,$1)\n tilestored %tmm1, 64($0,$1)\n"
        "tilestored %tmm2, 2048($0,$1)\n tilestored %tmm3, 2112($0,$1)"
    )
    return types.void(out, types.intp), _four_tiles(text, "", 128)


@intrinsic
def round32(typingctx, x, x_offset, shift, s_offset, xb, b_offset, square):
    """xb[32] := bfloat16(x[32] - shift[32]), to nearest even; square[16] += sums of their squares."""

    def codegen(context, builder, sig, args):
        t = sig.args
        asm(
            builder,
            "vmovups 64($0), %zmm0\n vsubps 64($1), %zmm0, %zmm0\n"
            "vmovups ($0), %zmm1\n vsubps ($1), %zmm1, %zmm1\n"
            "vcvtne2ps2bf16 %zmm1, %zmm0, %zmm0\n vmovups %zmm0, ($2)\n"
            "vmovups ($3), %zmm1\n vdpbf16ps %zmm0, %zmm0, %zmm1\n vmovups %zmm1, ($3)",
            "r,r,r,r,~{memory},~{xmm0},~{xmm1}",
            [
                address(context, builder, t[0], args[0], args[1]),
                address(context, builder, t[2], args[2], args[3]),
                address(context, builder, t[4], args[4], args[5]),
                address(context, builder, t[6], args[6], _I64(0)),
            ],
        )
        return context.get_dummy_value()

    return types.void(x, types.intp, shift, types.intp, xb, types.intp, square), codegen


@intrinsic
def copy32(typingctx, a, a_offset, b, b_offset):
    """b[b_offset:+32] := a[a_offset:+32], 32 bfloat16 (one cache line)."""

    def codegen(context, builder, sig, args):
        p = address(context, builder, sig.args[0], args[0], args[1])
        q = address(context, builder, sig.args[2], args[2], args[3])
        asm(builder, "vmovups ($0), %zmm0\n vmovups %zmm0, ($1)", "r,r,~{memory},~{xmm0}", [p, q])
        return context.get_dummy_value()

    return types.void(a, types.intp, b, types.intp), codegen
