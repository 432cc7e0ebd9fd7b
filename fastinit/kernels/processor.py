"""The processor that kernels are compiled for, and the loading of its code, by LLVM alone: nothing of Numba's."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Container
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm


class Target(NamedTuple):
    """The properties of a kind of processor that shape the kernels."""

    vector_bits: int  # of the widest registers
    blocks: int  # Philox blocks made side by side
    compresses: bool  # one instruction stores the chosen lanes of a vector
    line: int = 64  # bytes of a cache line


def target_of(features: Container[str]) -> Target:
    """Return the target of a processor with these features, by LLVM's names; no two architectures share one.

    Examples
    --------
    >>> target_of({"+neon"})
    Target(vector_bits=128, blocks=4, compresses=False, line=64)
    """
    # Four registers of 64-bit lanes where those have 512 bits, else two: one chain of ten dependent rounds leaves the
    # multipliers idle; more chains than registers go through memory
    compresses = "+avx512f" in features
    if "+avx512dq" in features:
        return Target(512, 32, compresses)
    if "+fma" in features:
        return Target(512 if compresses else 256, 8, compresses)
    return Target(128, 4, compresses)


def _processor() -> tuple[str, str]:
    """Return LLVM's names of the processor and its features: of this one, unless Numba's settings name another."""
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES", "" if name == "generic" else None)
    if features is None:
        try:
            features = llvm.get_host_cpu_features().flatten()
        except RuntimeError:  # unknown to LLVM
            features = ""
    return name, features


NAME, FEATURES = _processor()
TRIPLE: str = llvm.get_process_triple()
TARGET = target_of(FEATURES.split(","))
BLOCKS = TARGET.blocks


def machine() -> Any:
    """Return LLVM's description of the processor, for code that runs in this process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    relocation = "static" if TRIPLE.startswith(("x86", "i386", "i686")) else "default"
    return llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=NAME, features=FEATURES, opt=3, reloc=relocation, codemodel="jitdefault", jit=True
    )


def load_object(code: bytes, name: str) -> Any:
    """Return an execution engine with an object file's code, and the address of one of its functions.

    Nothing in it may be undefined but what LLVM itself calls.

    Raises
    ------
    RuntimeError
        If it is no object file of this processor's.
    """
    for symbol in _CALLED_BY_LLVM:
        _provide(symbol)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(name)
    if not address:
        raise RuntimeError(f"the object file does not define {name}")
    return engine, address


# Functions of C that LLVM calls where the processor has no such instruction: fma is one on all but the oldest
_CALLED_BY_LLVM = "memcpy", "memset", "memmove", "fma", "fmaf"


@cache
def _provide(symbol: str) -> None:
    """Let LLVM find a function of the C library, where it is not in sight of the process."""
    if not llvm.address_of_symbol(symbol):
        library = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
        llvm.add_symbol(symbol, ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value)
