"""Which instructions are asked for on which processor."""

from __future__ import annotations

import re

import numpy as np
import pytest
from llvmlite import binding, ir
from numba import njit

from fastinit.kernels import intrinsics, processor


@pytest.mark.parametrize("native", [True, False], ids=["compressed", "one by one"])
def test_places_are_listed_in_order(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if native and not processor.TARGET.compresses:
        pytest.skip("this processor has no such instruction")
    monkeypatch.setattr(intrinsics, "TARGET", processor.TARGET._replace(compresses=native))
    load, listed, many = intrinsics.load_singles, intrinsics.store_compressed, intrinsics.popcount

    @njit
    def outside(values, to, first):  # type: ignore[no-untyped-def]
        some = load(np.int64(values.ctypes.data))
        condition = (some < np.float32(-1)) | (some > np.float32(1))
        listed(np.int64(to.ctypes.data), first, condition)
        return many(condition)

    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 10.0):
        for first in (0, 48, 2**31 - 16):
            values = rng.normal(0, spread, 16).astype(np.float32)
            to = np.full(20, -1, np.int32)
            wanted = first + np.flatnonzero(abs(values) > 1)
            assert outside(values, to, first) == wanted.size
            assert to[: wanted.size].tolist() == wanted.tolist()
            assert (to[16:] == -1).all()  # as much may be overwritten as there are conditions


def assembly(cpu: str, triple: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """What LLVM makes of the listing for a processor that is not here."""
    monkeypatch.setattr(intrinsics, "TARGET", processor.TARGET._replace(compresses=native))
    module = ir.Module()
    condition, long = ir.VectorType(ir.IntType(1), 16), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [long, long, condition]), "listed")
    builder = ir.IRBuilder(function.append_basic_block())
    intrinsics._store_compressed(builder, *function.args)
    builder.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple(triple)
    except RuntimeError as error:
        pytest.skip(str(error))
    text: str = target.create_target_machine(cpu=cpu, opt=3).emit_assembly(binding.parse_assembly(str(module)))
    return text


@pytest.mark.parametrize(
    ("cpu", "triple", "instruction"),
    [
        ("skylake-avx512", "x86_64-unknown-linux-gnu", r"vpcompressd"),
        ("neoverse-v1", "aarch64-unknown-linux-gnu", r"\bcompact\b"),
    ],
)
def test_no_vector_is_compressed_where_llvm_does_it_wrong(
    cpu: str, triple: str, instruction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stores for SVE pass each other; the instruction is there to be found where it is asked for."""
    assert re.search(instruction, assembly(cpu, triple, True, monkeypatch))
    text = assembly(cpu, triple, False, monkeypatch)
    assert not re.search(instruction, text)
    assert len(re.findall(r"^\s+(?:mov[dl]?|str|st1|stur)\b.*", text, re.MULTILINE)) >= 16
