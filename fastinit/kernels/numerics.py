"""The machine's operations that Numba's own arithmetic cannot spell: each once.

Numba widens every integer result to 64 bits, and it knows neither a fused multiply-add nor a streaming store. The
operations here keep the width of their first argument, so that the scalar functions of `draws` become full vectors, and
each says which rounding happens. Addresses are plain 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

_SIGNED = {32: types.int32, 64: types.int64}
_REAL = {32: types.float32, 64: types.float64}
_IR_REAL = {32: ir.FloatType(), 64: ir.DoubleType()}
_BYTE, _INT = ir.IntType(8), ir.IntType(32)
_LINE = ir.VectorType(ir.IntType(64), 8)


def _same(kind: Any) -> Any:
    return kind


def _operation(emit: Callable[..., Any], result: Callable[[Any], Any] = _same) -> Any:
    """An intrinsic of what ``emit`` writes; its result's type follows from its first argument's."""

    def typing(context: Any, *arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            value = emit(builder, *values)
            return context.get_dummy_value() if signature.return_type == types.void else value

        return result(arguments[0])(*arguments), codegen

    fixed: dict[int, Callable[..., Any]] = {  # an intrinsic may not take *arguments
        1: lambda context, x: typing(context, x),
        2: lambda context, x, y: typing(context, x, y),
        3: lambda context, x, y, z: typing(context, x, y, z),
    }
    return intrinsic(fixed[emit.__code__.co_argcount - 1])


def _integer(name: str) -> Any:
    """An integer operation in the width of its first operand; it wraps."""

    def emit(builder: Any, a: Any, b: Any) -> Any:
        same = builder.trunc(b, a.type) if b.type.width > a.type.width else builder.zext(b, a.type)
        return getattr(builder, name)(a, same)

    return _operation(emit)


add, sub, both, flip = _integer("add"), _integer("sub"), _integer("and_"), _integer("xor")
left, right, right_signed = _integer("shl"), _integer("lshr"), _integer("ashr")

# a * b + c with one rounding: the only way in which this package multiplies and adds
fma = _operation(lambda builder, a, b, c: builder.fma(a, b, c))

# the same bits as a signed integer; a float's bits as a signed integer of its width; and the float of such bits
signed = _operation(lambda builder, w: w, lambda kind: _SIGNED[kind.bitwidth])
bits = _operation(
    lambda builder, x: builder.bitcast(x, ir.IntType(32 if x.type == _IR_REAL[32] else 64)),
    lambda kind: _SIGNED[kind.bitwidth],
)
from_bits = _operation(lambda builder, i: builder.bitcast(i, _IR_REAL[i.type.width]), lambda kind: _REAL[kind.bitwidth])

# a signed integer as the float of its width, rounded to nearest even
real = _operation(lambda builder, i: builder.sitofp(i, _IR_REAL[i.type.width]), lambda kind: _REAL[kind.bitwidth])


def _square_root(builder: Any, x: Any) -> Any:
    return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [x.type]), [x])


def _horner(builder: Any, x: Any, coefficients: Any) -> Any:
    terms = [builder.extract_value(coefficients, k) for k in range(len(coefficients.type.elements))]
    value = terms.pop()
    while terms:
        value = builder.fma(value, x, terms.pop())
    return value


square_root = _operation(_square_root)  # correctly rounded
horner = _operation(_horner)  # sum coefficients[k] * x**k, one fma a term, unrolled


def _load(builder: Any, address: Any, kind: Any) -> Any:
    instruction = builder.load(builder.inttoptr(address, kind.as_pointer()))
    instruction.align = 1
    return instruction


def _store(builder: Any, address: Any, value: Any) -> Any:
    instruction = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    instruction.align = 1
    return instruction


def _stream_line(builder: Any, to: Any, source: Any) -> None:
    instruction = _store(builder, to, _load(builder, source, _LINE))
    instruction.align = 64
    instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_INT, 1)]))


def _copy(builder: Any, to: Any, source: Any, size: Any) -> None:
    pointers = [builder.inttoptr(address, _BYTE.as_pointer()) for address in (to, source)]
    kinds = [pointers[0].type, pointers[1].type, size.type]
    memcpy = builder.module.declare_intrinsic("llvm.memcpy", kinds)
    builder.call(memcpy, [*pointers, size, ir.Constant(ir.IntType(1), 0)])


def _move(builder: Any, to: Any, source: Any, unit: Any) -> None:
    _store(builder, to, _load(builder, source, unit.type))


pointer = _operation(lambda builder, address: builder.inttoptr(address, _BYTE.as_pointer()), lambda _: types.voidptr)


def _nothing(kind: Any) -> Any:
    return types.void


stream_line = _operation(_stream_line, _nothing)  # (to, source): 64 bytes past the caches; ``to`` is a multiple of 64
copy = _operation(_copy, _nothing)  # (to, source, bytes): memcpy
move = _operation(_move, _nothing)  # (to, source, unit): one element as wide as ``unit``, at any alignment
fence = _operation(lambda builder, _: builder.fence("seq_cst"), _nothing)  # (0): streamed lines are visible after it


def _full_vectors(context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own add knows no such name
        return context.get_dummy_value()

    return types.void(), codegen


# (): let the loops of the calling function use the widest vectors there are. LLVM stops at 256 bits where it fears for
# the clock; with 512 the Philox pass ran 1.7 times as fast
full_vectors: Any = intrinsic(_full_vectors)


def _outside(builder: Any, source: Any, low: Any, high: Any) -> Any:
    lanes = ir.VectorType(low.type, 64)
    values = _load(builder, source, lanes)

    def spread(value: Any) -> Any:
        single = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(_INT, 0))
        return builder.shuffle_vector(
            single, ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(_INT, 64), None)
        )

    below = builder.fcmp_unordered("<", values, spread(low))
    above = builder.fcmp_unordered(">", values, spread(high))
    return builder.bitcast(builder.or_(below, above), ir.IntType(64))


outside = _operation(_outside, lambda _: types.uint64)  # (source, low, high): which of 64 floats are not in [low, high]
lowest_bit = _operation(lambda builder, mask: builder.cttz(mask, ir.Constant(ir.IntType(1), 0)))  # the place of it


@register_jitable(forceinline=True)
def to_bfloat16(x):  # type: ignore[no-untyped-def]
    """The bits of a finite float32 rounded to bfloat16, to nearest even."""
    pattern = bits(x)
    last = both(right(pattern, 16), 1)
    return np.uint16(right(add(add(pattern, 0x7FFF), last), 16))


@register_jitable(forceinline=True)
def to_float16(x):  # type: ignore[no-untyped-def]
    """The bits of a float32 rounded to float16, to nearest even; subnormals and infinity too.

    In integers, since not every processor converts, and those that do need not be asked. A subnormal's last bit weighs
    2**-24: the sum with 1/2 rounds there.
    """
    pattern = bits(x)
    size = both(pattern, 0x7FFFFFFF)
    tiny = sub(bits(from_bits(size) + np.float32(0.5)), 0x3F000000)
    last = both(right(size, 13), 1)
    normal = right(add(add(size, 0xFFF - 0x38000000), last), 13)
    normal = normal if normal < 0x7C00 else right(np.int32(0x7C00), 0)
    code = tiny if size < 0x38800000 else normal
    return np.uint16(both(right(pattern, 16), 0x8000)) | np.uint16(code)
