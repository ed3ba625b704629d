"""What every compiled loop builds on: how freely floats may be reordered, and instructions Numba has no name for.

The intrinsics emit LLVM instructions, or a few lines of assembly where LLVM offers none.
"""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

llvm.initialize_native_asmparser()  # without it LLVM aborts the process on inline assembly

# Reassociation lets sums vectorise. "ninf" is left out because the kernels use huge sentinels, and NaN
# cannot reach a kernel compiled with "nnan": rows are surveyed first, by a kernel compiled without it.
FAST = {"reassoc", "nsz", "contract", "arcp", "nnan"}
HUGE = np.float32(3e38)  # larger than any score or distance of real rows

_I32, _F32 = ir.IntType(32), ir.FloatType()


def address(context, builder, array_type, array, offset):
    """Address of ``array.ravel()[offset]``, for intrinsics."""
    return builder.gep(make_array(array_type)(context, builder, array).data, [offset])


def asm(builder, text, constraints, args):
    """Emit a few instructions of assembly, with operands in AT&T's order."""
    builder.asm(ir.FunctionType(ir.VoidType(), [a.type for a in args]), text, constraints, args, True)


def _splat(builder, value, lanes):
    """Vector of `lanes` copies of a value."""
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


@intrinsic
def fmin(typingctx, a, b):
    """Minimum of two float32 that LLVM vectorises in a reduction (Numba's ``min`` is 15 times slower)."""

    def codegen(context, builder, signature, args):
        fn = builder.module.declare_intrinsic("llvm.minnum", [_F32], ir.FunctionType(_F32, [_F32, _F32]))
        return builder.call(fn, args, fastmath=("nnan", "nsz", "reassoc"))

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def prefetch(typingctx, a, offset):
    """Ask the CPU to bring the cache line of ``a.ravel()[offset]`` in."""

    def codegen(context, builder, signature, args):
        i8 = ir.IntType(8).as_pointer()
        fn = builder.module.declare_intrinsic(
            "llvm.prefetch", [i8], ir.FunctionType(ir.VoidType(), [i8, _I32, _I32, _I32])
        )
        at = address(context, builder, signature.args[0], args[0], args[1])
        builder.call(fn, [builder.bitcast(at, i8), _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(a, types.intp), codegen


@intrinsic
def lowest_bit(typingctx, x):
    """Index of the lowest set bit of a uint32 that is not zero."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint32(types.uint32), codegen


@intrinsic
def below32(typingctx, a, offset, limit):
    """Which of 32 float32 are below a limit: bit j of the uint32 says whether ``a.ravel()[offset + j] < limit``."""

    def codegen(context, builder, signature, args):
        p = address(context, builder, signature.args[0], args[0], args[1])
        v = builder.load(builder.bitcast(p, ir.PointerType(ir.VectorType(_F32, 32))))
        v.align = 4
        return builder.bitcast(builder.fcmp_ordered("<", v, _splat(builder, args[2], 32)), _I32)

    return types.uint32(a, types.intp, types.float32), codegen


@intrinsic
def insert8(typingctx, scores, ids, offset, score, j):
    """Insert (score, j) into the ascending list of eight at `offset`; return the new eighth score.

    Without branches: new[i] = min(max(old[i - 1], score), old[i]).
    """

    def codegen(context, builder, signature, args):
        at = [
            builder.bitcast(
                address(context, builder, signature.args[a], args[a], args[2]),
                ir.PointerType(ir.VectorType(element, 8)),
            )
            for a, element in ((0, _F32), (1, _I32))
        ]
        old, old_ids = (builder.load(p, align=4) for p in at)
        shift = ir.Constant(ir.VectorType(_I32, 8), [0, 0, 1, 2, 3, 4, 5, 6])
        up, up_ids = (builder.shuffle_vector(v, v, shift) for v in (old, old_ids))
        up = builder.insert_element(up, ir.Constant(_F32, float("-inf")), _I32(0))
        new, new_ids = _splat(builder, args[3], 8), _splat(builder, args[4], 8)
        here = builder.fcmp_ordered(">", old, new)  # from the place of insertion on
        past = builder.fcmp_ordered(">", up, new)  # after it
        out = builder.select(past, up, builder.select(here, new, old))
        builder.store(out, at[0], align=4)
        builder.store(builder.select(past, up_ids, builder.select(here, new_ids, old_ids)), at[1], align=4)
        return builder.extract_element(out, _I32(7))

    return types.float32(scores, ids, types.intp, types.float32, types.int32), codegen
