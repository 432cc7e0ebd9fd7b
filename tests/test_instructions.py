"""Which instructions are asked for on which processor."""

from __future__ import annotations

import re

import numpy as np
import pytest
from llvmlite import binding, ir
from numba import njit

from fastinit.kernels import intrinsics, simd


@pytest.mark.parametrize("native", [True, False], ids=["compressed", "one by one"])
def test_places_are_listed_in_order(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if native and not simd.TARGET.compresses:
        pytest.skip("this processor has no such instruction")
    monkeypatch.setattr(intrinsics, "TARGET", simd.TARGET._replace(compresses=native))
    load, listed, count = intrinsics.load_singles, intrinsics.store_compressed, intrinsics.popcount

    @njit
    def outside(values, to, first):  # type: ignore[no-untyped-def]
        some = load(np.int64(values.ctypes.data))
        condition = (some < np.float32(-1)) | (some > np.float32(1))
        listed(np.int64(to.ctypes.data), first, condition)
        return count(condition)

    rng, many = np.random.default_rng(0), intrinsics.VALUES
    for spread in (0.1, 1.0, 10.0):
        for first in (0, 48, 2**16 - many):
            values = rng.normal(0, spread, many).astype(np.float32)
            to = np.full(many + 4, 7, np.uint16)
            wanted = first + np.flatnonzero(abs(values) > 1)
            assert outside(values, to, first) == wanted.size
            assert to[: wanted.size].tolist() == wanted.tolist()
            assert (to[many:] == 7).all()  # as much may be overwritten as there are conditions


def assembly(cpu: str, triple: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """What LLVM makes of the listing for a processor that is not here."""
    monkeypatch.setattr(intrinsics, "TARGET", simd.TARGET._replace(compresses=native))
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
    ("cpu", "triple", "asked"),
    [
        ("skylake-avx512", "x86_64-unknown-linux-gnu", r"vpcompressd"),
        ("icelake-server", "x86_64-unknown-linux-gnu", r"vpcompressw"),
        ("neoverse-v1", "aarch64-unknown-linux-gnu", None),
    ],
)
def test_no_vector_is_compressed_where_llvm_does_it_wrong(
    cpu: str, triple: str, asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stores for SVE pass each other; the instruction is there to be found where it is asked for."""
    assert asked is None or re.search(asked, assembly(cpu, triple, True, monkeypatch))
    text = assembly(cpu, triple, False, monkeypatch)
    assert not re.search(r"compress|\bcompact\b", text)
    assert len(re.findall(r"^\s+(?:mov[dlw]?|v?pextrw|strh?|st1|sturh?)\b.*", text, re.MULTILINE)) >= 16
