"""The machine's operations that Numba's own arithmetic cannot spell: each once, for one number or for `Lanes` of them.

Numba widens every integer result to 64 bits, and it knows neither a fused multiply-add nor a streaming store. The
operations here keep the width of their first argument and say which rounding happens. Addresses are plain 64-bit
integers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable

from fastinit.kernels import emulation
from fastinit.kernels.simd import (
    BIT,
    BLOCKS,
    BYTE,
    INT,
    LONG,
    SHORT,
    TARGET,
    Lanes,
    element,
    fit,
    indices,
    like,
    named,
    operation,
)

_REAL = {32: types.float32, 64: types.float64}
_SIGNED = {32: types.int32, 64: types.int64}
_IR_REAL = {32: ir.FloatType(), 64: ir.DoubleType()}


def _integer(name: str, combine: Callable[[int, int], int]) -> Any:
    """Return an integer operation in the width of its first operand; it wraps."""
    meaning = emulation.integer(combine, unsigned=name == "lshr")
    return operation(lambda builder, a, b: getattr(builder, name)(a, fit(builder, b, a.type)), meaning=meaning)


add, sub = _integer("add", operator.add), _integer("sub", operator.sub)
and_, xor = _integer("and_", operator.and_), _integer("xor", operator.xor)
shl = _integer("shl", operator.lshift)
lshr, ashr = _integer("lshr", operator.rshift), _integer("ashr", operator.rshift)
trailing_zeros = operation(  # the place of the lowest bit that is set, of an integer with one
    lambda builder, x: builder.cttz(x, BIT(1)), meaning=emulation.trailing_zeros
)


def _product(builder: Any, a: Any, b: Any) -> Any:
    """Return the 64-bit product of the low 32 bits of each."""
    long = like(a.type, LONG)
    a = builder.zext(a, long) if element(a.type) == INT else builder.and_(a, fit(builder, LONG(0xFFFFFFFF), long))
    return builder.mul(a, fit(builder, b, long))


def _high_product(builder: Any, a: Any, b: Any) -> Any:
    if "nvptx" in builder.module.triple:
        kind = ir.FunctionType(INT, [INT, INT])
        mulhi = builder.module.globals.get("llvm.nvvm.mulhi.ui") or ir.Function(
            builder.module, kind, "llvm.nvvm.mulhi.ui"
        )
        return builder.call(mulhi, [a, fit(builder, b, INT)])
    product = _product(builder, a, b)
    if isinstance(a.type, ir.VectorType) and a.type.element == INT:  # no shift: LLVM would keep what follows in 64 bits
        halves = builder.bitcast(product, ir.VectorType(INT, 2 * a.type.count))
        return builder.shuffle_vector(halves, halves, indices(range(1, 2 * a.type.count, 2)))
    high = builder.lshr(product, fit(builder, LONG(32), product.type))
    return builder.trunc(high, a.type) if element(a.type) == INT else high


def _low_product(builder: Any, a: Any, b: Any) -> Any:
    if a.type == INT:
        return builder.mul(a, fit(builder, b, INT))
    product = _product(builder, a, b)  # once for both halves
    return builder.trunc(product, a.type) if element(a.type) == INT else product


# the halves of a 64-bit product of 32-bit words, b below 2**32. In 64-bit lanes only the low halves of a and of a low
# product count, so that both halves are one vector instruction; in 32-bit words they are two of a GPU's. ARM
# multiplies either half of a register of 32-bit lanes, and one shuffle takes a half of all products
high_product = operation(_high_product, meaning=emulation.high_product)
low_product = operation(_low_product, meaning=emulation.low_product)


def _call(builder: Any, name: str, *values: Any) -> Any:
    """Call an LLVM function of numbers of one kind."""
    kind = values[0].type
    count = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    name = f"{name}.{count}{'f32' if element(kind) == _IR_REAL[32] else 'f64'}"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(kind, [kind] * len(values)), name)
    return builder.call(function, [fit(builder, value, kind) for value in values])


# a * b + c with one rounding: the only way in which this package multiplies and adds
fma = operation(lambda builder, a, b, c: _call(builder, "llvm.fma", a, b, c), meaning=emulation.fma)
square_root = operation(  # correctly rounded
    lambda builder, x: _call(builder, "llvm.sqrt", x), meaning=emulation.square_root
)


def _horner(builder: Any, x: Any, coefficients: Any) -> Any:
    terms = [builder.extract_value(coefficients, k) for k in range(len(coefficients.type.elements))]
    value = fit(builder, terms.pop(), x.type)
    while terms:
        value = _call(builder, "llvm.fma", value, x, terms.pop())
    return value


horner = operation(_horner, meaning=emulation.horner)  # sum coefficients[k] * x**k, one fma a term, unrolled


def _select(builder: Any, condition: Any, a: Any, b: Any) -> Any:
    shaped = [value.type for value in (a, b) if isinstance(value.type, ir.VectorType)]
    kind = shaped[0] if shaped else like(condition.type, a.type)
    return builder.select(condition, fit(builder, a, kind), fit(builder, b, kind))


def _select_typed(context: Any, condition: Any, a: Any, b: Any) -> Any:
    result = a if isinstance(a, Lanes) else b if isinstance(b, Lanes) else like(condition, a)
    return result(condition, a, b), lambda context, builder, signature, values: _select(builder, *values)


select: Any = named(emulation.select, _select_typed)  # (condition, a, b): a where it holds, else b; no branch

# the same bits as a signed integer; a float's bits as a signed integer of its width; and the float of these bits
signed = operation(lambda builder, w: w, lambda kind: like(kind, _SIGNED[kind.bitwidth]), emulation.signed)
bits = operation(
    lambda builder, x: builder.bitcast(x, like(x.type, INT if element(x.type) == _IR_REAL[32] else LONG)),
    lambda kind: like(kind, _SIGNED[kind.bitwidth]),
    emulation.bits,
)
from_bits = operation(
    lambda builder, i: builder.bitcast(i, like(i.type, _IR_REAL[element(i.type).width])),
    lambda kind: like(kind, _REAL[kind.bitwidth]),
    emulation.from_bits,
)

# a signed integer as the float of its width, rounded to nearest even; the low 16 or 32 bits of one; one of two words
real = operation(
    lambda builder, i: builder.sitofp(i, like(i.type, _IR_REAL[element(i.type).width])),
    lambda kind: like(kind, _REAL[kind.bitwidth]),
    emulation.real,
)
low_half = operation(
    lambda builder, i: builder.trunc(i, like(i.type, SHORT)),
    lambda kind: like(kind, types.uint16),
    emulation.cut(16),
)
low_word = operation(
    lambda builder, i: builder.trunc(i, like(i.type, INT)), lambda kind: like(kind, types.uint32), emulation.cut(32)
)
long_word = operation(  # (low, high)
    lambda builder, low, high: builder.or_(builder.zext(low, LONG), builder.shl(builder.zext(high, LONG), LONG(32))),
    lambda _: types.uint64,
    emulation.long_word,
)


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def _bfloat16_lanes(builder: Any, x: Any) -> Any:
    some, pieces = ir.VectorType(_IR_REAL[32], 16), []
    kind, name = ir.VectorType(_BFloat(), 32), "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    convert = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(kind, [some, some]), name)
    for start in range(0, x.type.count, 32):
        low, high = (builder.shuffle_vector(x, x, indices(range(k, k + 16))) for k in (start, start + 16))
        pieces.append(builder.bitcast(builder.call(convert, [high, low]), ir.VectorType(SHORT, 32)))
    while len(pieces) > 1:
        lanes = indices(range(2 * pieces[0].type.count))
        pieces = [builder.shuffle_vector(*pieces[k : k + 2], lanes) for k in range(0, len(pieces), 2)]
    return pieces[0]


def _float16_lanes(builder: Any, x: Any) -> Any:
    rounded = builder.fptrunc(x, ir.VectorType(ir.HalfType(), x.type.count))
    return builder.bitcast(rounded, ir.VectorType(SHORT, x.type.count))


def _shorts(kind: Any) -> Any:
    return like(kind, types.uint16)


# finite float32 lanes rounded to nearest even by one instruction, as the bits of bfloat16, if `TARGET.bfloats`: there
# subnormals become zero; and of float16, if `TARGET.halves`
bfloat16_lanes, float16_lanes = operation(_bfloat16_lanes, _shorts), operation(_float16_lanes, _shorts)

_LANES = ir.VectorType(LONG, BLOCKS)


def _uint64_lanes(_: Any) -> Any:
    return Lanes(types.uint64, BLOCKS)


def _iota(context: Any) -> Any:
    lanes = Lanes(types.uint64, BLOCKS)
    return lanes(), lambda context, builder, signature, values: ir.Constant(_LANES, list(range(BLOCKS)))


iota: Any = intrinsic(_iota)  # (): 0, 1, 2, ... in `BLOCKS` lanes


def _weave(builder: Any, x: Any, y: Any) -> Any:
    if element(x.type) == INT:
        return _interleave(builder, x, y)
    kind = ir.VectorType(INT, 2 * x.type.count)
    places = (at for k in range(0, kind.count, 2) for at in (k, kind.count + k))
    return builder.shuffle_vector(builder.bitcast(x, kind), builder.bitcast(y, kind), indices(places))


def _interleave(builder: Any, x: Any, y: Any) -> Any:
    count = x.type.count
    return builder.shuffle_vector(x, y, indices(at for k in range(count) for at in (k, count + k)))


broadcast = operation(lambda builder, x: fit(builder, x, _LANES), _uint64_lanes)  # one uint64 in `BLOCKS` lanes
words_of = operation(  # the low halves of uint64 lanes, in the lanes that the words of Philox live in
    lambda builder, x: builder.trunc(x, like(x.type, INT)) if TARGET.lane_bits == 32 else x,
    lambda kind: like(kind, types.uint32) if TARGET.lane_bits == 32 else kind,
)
widen = operation(lambda builder, x: builder.zext(x, like(x.type, LONG)), _uint64_lanes)  # uint16 lanes as uint64
# the low halves of uint64 lanes, x0 y0 x1 y1 ..., as uint32; and two neighbours of those as a uint64, low half first
weave = operation(_weave, lambda kind: Lanes(types.uint32, 2 * kind.count))
join = operation(
    lambda builder, x: builder.bitcast(x, ir.VectorType(LONG, x.type.count // 2)),
    lambda kind: Lanes(types.uint64, kind.count // 2),
)
interleave = operation(_interleave, lambda kind: Lanes(kind.element, 2 * kind.count))  # x0 y0 x1 y1 ...
movemask = operation(  # up to 64 conditions as the bits of a uint64, the first one the lowest
    lambda builder, x: builder.zext(builder.bitcast(x, ir.IntType(x.type.count)), LONG), lambda _: types.uint64
)


def _load(builder: Any, address: Any, kind: Any) -> Any:
    instruction = builder.load(builder.inttoptr(address, kind.as_pointer()))
    instruction.align = 1
    return instruction


def _store(builder: Any, address: Any, value: Any) -> Any:
    instruction = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    instruction.align = 1
    return instruction


def _store_nontemporal(builder: Any, to: Any, value: Any) -> None:
    instruction = _store(builder, to, value)
    width = {_IR_REAL[32]: 32, _IR_REAL[64]: 64}.get(value.type.element) or value.type.element.width
    instruction.align = min(TARGET.line, value.type.count * width // 8)
    instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(INT, 1)]))


def _copy(builder: Any, to: Any, source: Any, size: Any) -> None:
    pointers = [builder.inttoptr(address, BYTE.as_pointer()) for address in (to, source)]
    kinds = [pointers[0].type, pointers[1].type, size.type]
    memcpy = builder.module.declare_intrinsic("llvm.memcpy", kinds)
    builder.call(memcpy, [*pointers, size, ir.Constant(BIT, 0)])


def _count_up(builder: Any, to: Any, first: Any) -> None:
    eight = ir.VectorType(LONG, 8)
    _store(builder, to, builder.add(fit(builder, first, eight), ir.Constant(eight, list(range(8)))))


def _transpose(builder: Any, to: Any, apart: Any, source: Any, starts: Any, unit: Any) -> None:
    size = unit.type.width // 8
    rows = []
    for row in range(64 // size):
        start = _load(builder, builder.add(starts, LONG(4 * row)), INT)
        place = builder.add(source, builder.mul(builder.sext(start, LONG), LONG(size)))
        rows.append(_load(builder, place, ir.VectorType(unit.type, 4)))
    while len(rows) > 1:  # the bit of a row's number that is woven in last is the lowest of its place
        half = len(rows) // 2
        rows = [_interleave(builder, rows[k], rows[k + half]) for k in range(half)]
    _store_quarters(builder, to, apart, rows[0])


def _split(builder: Any, to: Any, apart: Any, source: Any, unit: Any) -> None:
    count = 4 * 64 * 8 // unit.type.width
    value = _load(builder, source, ir.VectorType(unit.type, count))
    for _ in range(2):
        value = builder.shuffle_vector(value, value, indices([*range(0, count, 2), *range(1, count, 2)]))
    _store_quarters(builder, to, apart, value)


def _store_quarters(builder: Any, to: Any, apart: Any, value: Any) -> None:
    count = value.type.count // 4
    for quarter in range(4):
        part = builder.shuffle_vector(value, value, indices(range(quarter * count, (quarter + 1) * count)))
        _store(builder, builder.add(to, builder.mul(apart, LONG(quarter))), part)


def _put(builder: Any, to: Any, *values: Any) -> None:
    kind, count = values[0].type, len(values)
    width = {_IR_REAL[32]: 32, _IR_REAL[64]: 64}.get(kind) or kind.width
    value = values[0]
    if count > 1:
        value = ir.Constant(ir.VectorType(kind, count), ir.Undefined)
        for k, one in enumerate(values):
            value = builder.insert_element(value, one, ir.Constant(INT, k))
    builder.store(value, builder.inttoptr(to, value.type.as_pointer(1)), align=count * width // 8)


def _nothing(kind: Any) -> Any:
    return types.void


VALUES = max(16, TARGET.compresses)  # that are looked at together


def _load_many(element: Any, kind: Any, count: int) -> Any:
    """Load ``count`` numbers from any address."""
    return operation(
        lambda builder, address: _load(builder, address, ir.VectorType(kind, count)), lambda _: Lanes(element, count)
    )


load_places, load_lanes = _load_many(types.uint16, SHORT, BLOCKS), _load_many(types.uint64, LONG, BLOCKS)
load_words = _load_many(types.uint32, INT, BLOCKS)
load_singles, load_doubles = (
    _load_many(types.float32, _IR_REAL[32], VALUES),
    _load_many(types.float64, _IR_REAL[64], VALUES),
)
store = operation(lambda builder, to, value: _store(builder, to, value) and None, _nothing)  # (to, value), any address
store_nontemporal = operation(_store_nontemporal, _nothing)  # (to, lanes): past the caches, to a whole line
copy_line = operation(  # (to, source): one cache line past the caches, to its own address
    lambda builder, to, source: _store_nontemporal(
        builder, to, _load(builder, source, ir.VectorType(LONG, TARGET.line // 8))
    ),
    _nothing,
)
copy_vector = operation(  # (to, source): 64 bytes, at any address
    lambda builder, to, source: _store(builder, to, _load(builder, source, ir.VectorType(LONG, 8))) and None, _nothing
)
count_up = operation(_count_up, _nothing)  # (to, first): eight uint64, first, first + 1, ...
# (to, apart, source, starts, unit): 64 bytes of each of four columns, ``apart`` bytes from one to the next, of elements
# as wide as ``unit``. Row k's first one is number starts[k], an int32, from the address ``source`` on
transpose = operation(_transpose, _nothing)
split = operation(_split, _nothing)  # (to, apart, source, unit): the same, of rows of four that follow each other
# (to, values): to a GPU's memory, at a multiple of all their bytes
put_one = operation(lambda builder, to, a: _put(builder, to, a), _nothing, emulation.putter())
put_two = operation(lambda builder, to, a, b: _put(builder, to, a, b), _nothing, emulation.putter())
put_four = operation(lambda builder, to, a, b, c, d: _put(builder, to, a, b, c, d), _nothing, emulation.putter())
copy = operation(_copy, _nothing)  # (to, source, bytes): memcpy
move = operation(  # (to, source, unit): one element as wide as ``unit``, at any alignment
    lambda builder, to, source, unit: _store(builder, to, _load(builder, source, unit.type)) and None, _nothing
)
fence = operation(lambda builder, _: builder.fence("seq_cst"), _nothing)  # (0): streamed lines are visible after it
pointer = operation(lambda builder, address: builder.inttoptr(address, BYTE.as_pointer()), lambda _: types.voidptr)


popcount = operation(  # of the conditions hold
    lambda builder, x: builder.zext(builder.ctpop(builder.bitcast(x, ir.IntType(x.type.count))), LONG),
    lambda _: types.int64,
)


def _store_compressed(builder: Any, to: Any, first: Any, condition: Any) -> None:
    count = condition.type.count
    if TARGET.compresses:
        places = ir.VectorType(SHORT, count)
        numbers = builder.add(fit(builder, first, places), ir.Constant(places, list(range(count))))
        kind = ir.FunctionType(places, [places, condition.type, places])
        name = f"llvm.experimental.vector.compress.v{count}i16"
        compress = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        _store(builder, to, builder.call(compress, [numbers, condition, ir.Constant(places, ir.Undefined)]))
        return
    first = fit(builder, first, SHORT)
    for k in range(count):
        _store(builder, to, builder.add(first, SHORT(k)))
        holds = builder.extract_element(condition, INT(k))
        to = builder.add(to, builder.shl(builder.zext(holds, LONG), LONG(1)))


# (to, first, conditions): first + k for every k that holds, those first, as uint16, and up to as many more as there are
# conditions. One instruction where the processor has it. LLVM has a way for every other, but its code for SVE lets
# a store pass another one to the same place
store_compressed = operation(_store_compressed, _nothing)


def _scatter(builder: Any, to: Any, places: Any, source: Any, lanes: Any) -> None:
    _store(builder, source, lanes)
    size = 4 if lanes.type.element == _IR_REAL[32] else 8
    unit = ir.IntType(8 * size)
    for k in range(lanes.type.count):
        place = builder.zext(_load(builder, builder.add(places, LONG(2 * k)), SHORT), LONG)
        value = _load(builder, builder.add(source, LONG(size * k)), unit)
        _store(builder, builder.add(to, builder.mul(place, LONG(size))), value)


# (to, places, source, lanes): lane k to number places[k], a uint16, from the address ``to`` on. Through memory at
# ``source``, since a processor reads a lane from there sooner than from a register
scatter = operation(_scatter, _nothing)


def _full_vectors(context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wanted = f'"prefer-vector-width"="{TARGET.vector_bits}"'
        set.add(builder.function.attributes, wanted)  # llvmlite's own add does not know the name
        return context.get_dummy_value()

    return types.void(), codegen


# (): let the calling function use the widest vectors there are. LLVM stops at 256 bits where it fears for the clock;
# with 512 the rounds of Philox ran 1.7 times as fast
full_vectors: Any = intrinsic(_full_vectors)


def _call_rows(context: Any, code: Any, action: Any, plan: Any, *numbers: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        # Numba's own convention: addresses for the result and an exception come first, a tuple comes field by field
        code, action, plan, *rest = values
        fields = [builder.extract_value(plan, k) for k in range(len(plan.type.elements))]
        result, error = (cgutils.alloca_once(builder, kind) for kind in (LONG, BYTE.as_pointer()))  # type: ignore[no-untyped-call]
        given = [result, error, action, *fields, *rest]
        kind = ir.FunctionType(INT, [value.type for value in given])
        builder.call(builder.inttoptr(code, kind.as_pointer()), given)
        return builder.load(result)

    whole = types.int64
    return whole(whole, whole, plan, *[whole] * len(numbers)), codegen


def _typed_call(context, code, action, plan, memory, inner, axes, per_block, to, index, row, column, rows, columns):  # type: ignore[no-untyped-def]
    numbers = memory, inner, axes, per_block, to, index, row, column, rows, columns
    return _call_rows(context, code, action, plan, *numbers)


# (code, action, plan, ...): call the kernel of rows at the address ``code``, see `fastinit.kernels.stores.rows_address`
call_rows: Any = intrinsic(_typed_call)


@register_jitable(forceinline=True)
def to_bfloat16(x):  # type: ignore[no-untyped-def]
    """Return the bits of a finite float32 rounded to bfloat16, to nearest even, at the low end of an int32."""
    pattern = bits(x)
    last = and_(lshr(pattern, 16), 1)
    return lshr(add(add(pattern, 0x7FFF), last), 16)


@register_jitable(forceinline=True)
def to_float16(x):  # type: ignore[no-untyped-def]
    """Return the bits of a float32 rounded to float16, to nearest even, at the low end of an int32.

    Subnormals and infinity too. In integers, since not every processor converts, and those that do need not be asked. A
    subnormal's last bit weighs 2**-24: the sum with 1/2 rounds there.
    """
    pattern = bits(x)
    size = and_(pattern, 0x7FFFFFFF)
    tiny = sub(bits(from_bits(size) + np.float32(0.5)), 0x3F000000)
    last = and_(lshr(size, 13), 1)
    normal = lshr(add(add(size, 0xFFF - 0x38000000), last), 13)
    code = select(size < 0x38800000, tiny, select(normal < 0x7C00, normal, 0x7C00))
    return add(and_(lshr(pattern, 16), 0x8000), code)
