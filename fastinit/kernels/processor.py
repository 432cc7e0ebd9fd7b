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
TARGET = target_of(TRIPLE, FEATURES.split(","))
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
