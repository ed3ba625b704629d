"""float16 to float32 by the instruction that CPUs have for it (F16C, NEON), on all threads.

NumPy converts one value at a time, more slowly than a disk reads them.
"""

import platform

import numpy as np
from llvmlite import binding, ir
from numba import njit, prange, types
from numba.extending import intrinsic

_PIECE = 2**15  # values per task
_FEW = 2**16  # NumPy converts fewer values than this before a pool of threads would have woken up


@intrinsic
def _half(typingctx, bits):
    """The float32 that the bits of a float16 mean; vectorises."""

    def codegen(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


@njit(parallel=True, cache=True, nogil=True)
def _widen(bits, out):
    n = bits.shape[0]
    for piece in prange((n + _PIECE - 1) // _PIECE):
        for i in range(piece * _PIECE, min(n, (piece + 1) * _PIECE)):
            out[i] = _half(bits[i])


def _can() -> bool:
    """Whether the CPU has the instruction: without it, the compiled code would call a function that is not there."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return True
    return bool(binding.get_host_cpu_features().get("f16c"))


CAN = _can()


def widened(block: np.ndarray) -> np.ndarray:
    """Convert a float16 array [n, d], of any byte order and layout, to a new C-ordered float32 array."""
    if not CAN or block.size < _FEW or not block.flags.c_contiguous or not block.dtype.isnative:
        return np.ascontiguousarray(block, dtype=np.float32)
    out = np.empty(block.shape, np.float32)
    bits = block.view(np.uint16).reshape(-1)
    bits.flags.writeable = False  # one compiled version for all
    _widen(bits, out.reshape(-1))
    return out
