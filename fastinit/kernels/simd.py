"""Vectors of numbers as a type of Numba's, which lets a scalar function be compiled for many elements at once.

LLVM's own vectorizer stops at 256 bits, keeps two passes where one would do, and makes at most two chains of rounds of
Philox run side by side; a type decides all that by itself. Python's operators work on `Lanes` as on numbers, and
`operation` makes intrinsics that take either.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Iterable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, infer, infer_global, make_intrinsic_template, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

BIT, BYTE, SHORT, INT, LONG = (ir.IntType(width) for width in (1, 8, 16, 32, 64))


class Target(NamedTuple):
    """The properties of a kind of processor that shape the kernels."""

    vector_bits: int  # of the widest registers
    blocks: int  # Philox blocks made side by side
    compresses: int  # lanes of 16 bits, of which one instruction moves the chosen ones together; 0 without it
    halves: bool  # one instruction rounds float32 to float16
    bfloats: bool  # and to bfloat16, of subnormals to zero
    lane_bits: int = 64  # of the lane that a word of Philox lives in
    line: int = 64  # bytes of a cache line


def target_of(triple: str, features: Container[str]) -> Target:
    """Return the target of a processor, by LLVM's names of its kind and of its features.

    Examples
    --------
    >>> target_of("x86_64-unknown-linux-gnu", {"+avx2", "+fma"})
    Target(vector_bits=256, blocks=8, compresses=0, halves=False, bfloats=False, lane_bits=64, line=64)
    """
    if triple.startswith(("aarch64", "arm64")):  # see docs/processors.md; SVE compresses, but LLVM does it wrong
        return Target(128, 8, 0, True, False, lane_bits=32)
    # Four registers of 64-bit lanes where those have 512 bits, else two: one chain of ten dependent rounds leaves the
    # multipliers idle; more chains than registers go through memory
    compresses = 32 if "+avx512vbmi2" in features else 16 if "+avx512f" in features else 0
    halves = "+f16c" in features
    bfloats = "+avx512bf16" in features
    if "+avx512dq" in features:
        return Target(512, 32, compresses, halves, bfloats)
    if "+fma" in features:
        return Target(512 if compresses else 256, 8, compresses, halves, bfloats)
    return Target(128, 4, compresses, halves, bfloats)


def _target() -> Target:
    """Return the target of the processor that Numba compiles for."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return target_of(triple, features.split(","))


TARGET = _target()
BLOCKS = TARGET.blocks


class Lanes(types.Type):
    """A vector of ``count`` numbers of one kind, the type of a register or of several."""

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count, self.bitwidth = element, count, getattr(element, "bitwidth", 1)
        super().__init__(f"Lanes({element}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    """LLVM's vector."""

    def __init__(self, manager: Any, kind: Lanes) -> None:
        vector = ir.VectorType(manager.lookup(kind.element).get_value_type(), kind.count)
        super().__init__(manager, kind, vector)  # type: ignore[no-untyped-call]


def element(kind: Any) -> Any:
    """Return the type of one number, in Numba's types and in LLVM's."""
    return kind.element if isinstance(kind, (Lanes, ir.VectorType)) else kind


def like(kind: Any, element: Any) -> Any:
    """Return the type with the lane count of ``kind`` and this element type."""
    if isinstance(kind, Lanes):
        return Lanes(element, kind.count)
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def indices(places: Iterable[int]) -> Any:
    """Return the lanes that a shuffle takes, as LLVM wants them."""
    chosen = list(places)
    return ir.Constant(ir.VectorType(INT, len(chosen)), chosen)


def fit(builder: Any, value: Any, kind: Any) -> Any:
    """Fit a value to an LLVM type: an integer cut or extended by zeros, one number broadcast to all lanes."""
    if value.type == kind:
        return value
    one = element(kind)
    if isinstance(one, ir.IntType) and not isinstance(value.type, ir.VectorType):
        value = builder.trunc(value, one) if value.type.width > one.width else builder.zext(value, one)
    if not isinstance(kind, ir.VectorType):
        return value
    nothing = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(nothing, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(single, nothing, indices([0] * kind.count))


def operation(
    emit: Callable[..., Any],
    result: Callable[[Any], Any] = lambda kind: kind,
    meaning: Callable[..., Any] | None = None,
) -> Any:
    """Return an intrinsic of the instructions that ``emit`` writes; its first argument's type gives the result's.

    With a ``meaning``, a function of NumPy's numbers, it is that function, and Python can call it too: the simulator of
    CUDA runs kernels as plain Python.
    """

    def typing(context: Any, *arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            value = emit(builder, *values)
            return context.get_dummy_value() if signature.return_type == types.void else value

        return result(arguments[0])(*arguments), codegen

    fixed: dict[int, Callable[..., Any]] = {  # an intrinsic may not take *arguments
        1: lambda context, x: typing(context, x),
        2: lambda context, x, y: typing(context, x, y),
        3: lambda context, x, y, z: typing(context, x, y, z),
        4: lambda context, w, x, y, z: typing(context, w, x, y, z),
        5: lambda context, v, w, x, y, z: typing(context, v, w, x, y, z),
    }
    typed = fixed[emit.__code__.co_argcount - 1]
    return intrinsic(typed) if meaning is None else named(meaning, typed)


def named(meaning: Callable[..., Any], typed: Callable[..., Any]) -> Any:
    """Return the function ``meaning``, for which compiled code takes the intrinsic ``typed``."""
    template = make_intrinsic_template(meaning, typed, meaning.__name__)  # type: ignore[no-untyped-call]
    infer(template)  # type: ignore[no-untyped-call]
    infer_global(meaning, types.Function(template))  # type: ignore[no-untyped-call]
    return meaning


# Python's operators on lanes, with lanes or with one number; right shifts are those of unsigned integers
_ARITHMETIC = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.and_: "and_",
    operator.or_: "or_",
    operator.xor: "xor",
    operator.rshift: "lshr",
}
_COMPARISONS = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.ne: "!="}


def _give_operator(function: Any) -> None:
    """Type and compile one of Python's operators for lanes."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, arguments: Any, keywords: Any) -> Any:
            lanes = [kind for kind in arguments if isinstance(kind, Lanes)]
            if not lanes or len(arguments) != 2:
                return None
            result = like(lanes[0], types.boolean) if function in _COMPARISONS else lanes[0]
            fitted = [kind if kind in lanes else lanes[0].element for kind in arguments]
            return signature(result, *fitted)  # type: ignore[no-untyped-call]

    infer_global(function)(Template)  # type: ignore[no-untyped-call]

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = next(value.type for value in values if isinstance(value.type, ir.VectorType))
        a, b = (fit(builder, value, kind) for value in values)
        floating = not isinstance(kind.element, ir.IntType)
        if function in _ARITHMETIC:
            return getattr(builder, ("f" if floating else "") + _ARITHMETIC[function])(a, b)
        compare = builder.fcmp_ordered if floating else builder.icmp_signed
        return compare(_COMPARISONS[function], a, b)

    for kinds in ((Lanes, Lanes), (Lanes, types.Any), (types.Any, Lanes)):
        lower_builtin(function, *kinds)(lower)  # type: ignore[no-untyped-call]


for _function in (*_ARITHMETIC, *_COMPARISONS):
    _give_operator(_function)
