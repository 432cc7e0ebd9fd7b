"""Floating-point environment: values are computed under IEEE 754's default, whatever the calling thread is set to.

A library that was linked with -ffast-math lets the thread that loads it flush subnormal numbers to zero, and fesetround
changes every rounding: the environment is put right before anything is computed that decides a value, and put back.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# not literals in an expression, which Python would compute once, when it compiles
_ONE, _LITTLE, _SMALLEST_NORMAL, _HALF = 1.0, 2.0**-55, 2.0**-1022, 0.5


def is_default() -> bool:
    """Test whether this thread rounds to nearest and keeps subnormal numbers.

    Examples
    --------
    >>> is_default()
    True
    """
    return _ONE + _LITTLE == _ONE and _ONE - _LITTLE == _ONE and _SMALLEST_NORMAL * _HALF != 0.0


def in_default(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to run under the default environment, and to leave the caller's as it was.

    Raises
    ------
    RuntimeError
        If the environment is another one, on a processor for which this package cannot change it.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if is_default():
            return function(*args, **kwargs)
        before = make_default()
        try:
            return function(*args, **kwargs)
        finally:
            _exchange(before)

    return guarded


def make_default() -> int:
    """Give this thread the default environment; return the one that it had, in the processor's terms."""
    before = _exchange(_register()[1])
    if not is_default():
        raise RuntimeError("the floating-point environment must round to nearest and keep subnormal numbers")
    return before


def _exchange(control: int) -> int:
    """Set the processor's control register; return its previous value."""
    return _register()[0](control)


@functools.cache
def _register() -> tuple[Callable[[int], int], int]:
    """Compile the function that sets the register with the rounding mode, for the few threads that need it.

    The register is MXCSR or FPCR, and its default comes with it. On a processor of another kind nothing happens.
    """
    import llvmlite.binding as llvm
    from llvmlite import ir

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    module, word, long = ir.Module(), ir.IntType(32), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(long, [long]), "exchange")
    builder = ir.IRBuilder(function.append_basic_block())
    (control,) = function.args

    def call(name: str, result: Any, *values: Any) -> Any:
        kind = ir.FunctionType(result, [value.type for value in values])
        return builder.call(ir.Function(module, kind, name), values)

    default, before = 0, control
    if target.triple.startswith("x86_64"):
        default = 0x1F80  # all exceptions masked
        place = builder.alloca(word)
        address = builder.bitcast(place, ir.IntType(8).as_pointer())
        call("llvm.x86.sse.stmxcsr", ir.VoidType(), address)
        before = builder.zext(builder.load(place), long)
        builder.store(builder.trunc(control, word), place)
        call("llvm.x86.sse.ldmxcsr", ir.VoidType(), address)
    elif target.triple.startswith(("aarch64", "arm64")):
        before = call("llvm.aarch64.get.fpcr", long)
        call("llvm.aarch64.set.fpcr", ir.VoidType(), control)
    builder.ret(before)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), target.create_target_machine())
    compiled = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(engine.get_function_address("exchange"))
    compiled.engine = engine  # type: ignore[attr-defined] # which owns the code
    return compiled, default
