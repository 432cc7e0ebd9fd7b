"""From a Python function of plain numbers to object code of a C function: Numba in front, LLVM behind, once.

Numba by itself optimizes and links every function that another one calls, wraps each for Python and for C, and keeps
them all. Here all of them are linked first, and what is left after inlining is optimized once.
"""

# mypy: disable-error-code="no-untyped-call,misc,assignment,attr-defined"

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, codegen, compiler, config, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from fastinit.kernels.cache import axes_of
from fastinit.kernels.processor import TARGET, machine

if vars(config)["DISABLE_JIT"]:
    raise RuntimeError("fastinit needs Numba's compiler: unset NUMBA_DISABLE_JIT")

_LONG = ir.IntType(64)


class _Library(codegen.CPUCodeLibrary):
    """The code of one function, as it is, and of those that it calls."""

    def enable_object_caching(self) -> None:
        """Do nothing: only the whole has object code."""

    def add_ir_module(self, ir_module: Any) -> None:
        """Add the code of a function."""
        module = llvm.parse_assembly(cgutils.normalize_ir_text(str(ir_module)))
        module.name = ir_module.name
        self._final_module.link_in(module)

    def add_linking_library(self, library: Any) -> None:
        """Add the code of what the function calls, but for counts of references: nothing here owns memory."""
        if library is not rtsys.library:
            super().add_linking_library(library)

    def finalize(self) -> None:
        """Link; nothing is optimized yet."""
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return that there is no such function: nobody calls parts of a kernel from outside."""
        return 0


class _Codegen(codegen.JITCPUCodegen):
    """Numba's generator of such libraries."""

    _library_class = _Library

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing: kernels raise no exceptions."""


@contextmanager
def _bare() -> Iterator[Any]:
    """Let Numba compile to `_Library`, without wrappers, while its lock is held."""
    with global_compiler_lock:
        context = cpu_target.target_context
        context.refresh()
        cpu_target.typing_context.refresh()
        before = context._internal_codegen
        context._internal_codegen = _Codegen("fastinit")
        context.create_cfunc_wrapper = lambda *_, **__: None
        try:
            yield context
        finally:
            del context.create_cfunc_wrapper
            context._internal_codegen = before


def object_code(function: Callable[..., Any], arguments: Sequence[str], result: str, name: str) -> bytes:
    """Compile a function to an object file with one C function, ``name``.

    Parameters
    ----------
    function
        To be compiled by Numba. It allocates nothing and raises nothing.
    arguments, result
        Types, see `fastinit.kernels.cache.Kernel`.

    Raises
    ------
    RuntimeError
        If the code needs anything from outside.
    """
    module = _linked(function, arguments, result, name)
    described = machine()
    _optimize(module, described)
    needed = [value.name for value in module.functions if value.is_declaration and _is_outside(value.name)]
    if needed:
        raise RuntimeError(f"the kernel {name} may not need {', '.join(needed)}")
    code: bytes = described.emit_object(module)
    return code


def _linked(function: Callable[..., Any], arguments: Sequence[str], result: str, name: str) -> Any:
    """Return the module of a function and all that it calls, as Numba writes it, of which only ``name`` is visible."""
    flags = compiler.Flags()
    flags.nrt = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"  # a division does not ask for zero
    kinds, returned = tuple(map(_kind, arguments)), getattr(types, result)
    with _bare() as context:
        made = compiler.compile_extra(cpu_target.typing_context, context, function, kinds, returned, flags, {})
        made.library.finalize()
        module = made.library._final_module
        module.link_in(llvm.parse_assembly(str(_entry(context, made.fndesc.llvm_func_name, returned, kinds, name))))
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != name:
            value.linkage = "internal"
    return module


def _optimize(module: Any, described: Any) -> None:
    """Optimize a module."""
    passes = llvm.create_pass_builder(described, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)


def _is_outside(name: str) -> bool:
    """Return whether a function that is declared is none of LLVM's own; a trap means that something may be raised."""
    return not name.startswith("llvm.") or name == "llvm.trap"


def _kind(argument: str) -> Any:
    """Return Numba's type of an argument."""
    element, axes = axes_of(argument)
    return types.Array(getattr(types, element), axes, "C") if axes else getattr(types, element)


def _entry(context: Any, called: str, returned: Any, kinds: Sequence[Any], name: str) -> ir.Module:
    """Return the module of a C function that calls one of Numba's, whose convention has a place for exceptions.

    It may use the widest vectors there are. LLVM stops at 256 bits where it fears for the clock; with 512 the rounds of
    Philox ran 1.7 times as fast.
    """
    module = context.codegen()._create_empty_module(name)
    convention = context.call_conv.get_function_type(returned, kinds)
    inner, value = ir.Function(module, convention, called), convention.args[0].pointee
    flat: list[Any] = []
    for kind in kinds:
        flat.extend([_LONG] * (1 + kind.ndim) if isinstance(kind, types.Array) else [context.get_argument_type(kind)])
    outer = ir.Function(module, ir.FunctionType(value, flat), name)
    set.add(outer.attributes, f'"prefer-vector-width"="{TARGET.vector_bits}"')  # llvmlite's add does not know the name
    builder = ir.IRBuilder(outer.append_basic_block())
    result, error = builder.alloca(value), builder.alloca(convention.args[1].pointee)
    given, arguments = iter(outer.args), []
    for kind in kinds:
        arguments.extend(_array(builder, kind, given) if isinstance(kind, types.Array) else [next(given)])
    fitted = [
        builder.inttoptr(one, wanted) if isinstance(wanted, ir.PointerType) else one
        for one, wanted in zip(arguments, convention.args[2:], strict=True)
    ]
    status = builder.call(inner, [result, error, *fitted])
    with builder.if_then(builder.icmp_unsigned("!=", status, status.type(0))):
        builder.call(module.declare_intrinsic("llvm.trap", (), ir.FunctionType(ir.VoidType(), [])), [])
    builder.ret(builder.load(result))
    for count in ("NRT_incref", "NRT_decref"):
        nothing = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()]), count)
        nothing.attributes.add("alwaysinline")
        ir.IRBuilder(nothing.append_basic_block()).ret_void()
    return module


def _array(builder: Any, kind: Any, given: Iterator[Any]) -> list[Any]:
    """Return the fields of Numba's array: no owner, no parent, its size, its element's, address, shape and strides."""
    address, shape = next(given), [next(given) for _ in range(kind.ndim)]
    strides = [_LONG(kind.dtype.bitwidth // 8)]
    for length in reversed(shape):
        strides.insert(0, builder.mul(strides[0], length))
    size = builder.sdiv(strides[0], strides[-1])
    return [_LONG(0), _LONG(0), size, strides[-1], address, *shape, *strides[1:]]
