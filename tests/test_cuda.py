"""Kernels for a GPU, mostly without one: in the simulator, by their PTX, and by PTX interpreted."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from fastinit.core.dtypes import FLOATS, dtype_of
from fastinit.kernels import emulation, transforms
from fastinit.sampling.cuda import Buffer, _grid, _loops
from fastinit.sampling.lowering import lower
from fastinit.sampling.plan import merged
from tests.examples import EXAMPLES
from tests.helpers import cuda_is_available, printed
from tests.ptx import Kernel

INSTALLED = importlib.util.find_spec("numba_cuda") is not None
needs_extra = pytest.mark.skipif(not INSTALLED, reason="numba-cuda is not installed")

DRAWN = [kind for kind in EXAMPLES if kind != "constant"]
CAPABILITIES = [(7, 5), (8, 0), (9, 0), (10, 0)]


def bits(array: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


class _OnDevice:
    """Host memory that says it is a GPU's: what the simulator's kernels can write to."""

    def __init__(self, array: np.ndarray[Any, Any], changed: dict[str, Any]) -> None:
        face = array.__array_interface__
        self.__cuda_array_interface__ = {
            key: face[key] for key in ("shape", "strides", "data", "typestr", "version")
        } | changed


def on_device(array: np.ndarray[Any, Any], **changed: Any) -> Any:
    return _OnDevice(array, changed)


# In the simulator


def _whole(dtype: str, init: Any, count: int) -> bool:
    host = fi.array(count, init, seed=7, name="w", dtype=dtype)
    device: Any = fi.array(count, init, seed=7, name="w", dtype=dtype, device="cuda")
    return bits(device.copy_to_host()) == bits(host)


def _regions(dtype: str, init: Any) -> list[bool]:
    """Each a region whose memory is a part of a larger array, which keeps its other elements."""
    kind, same = dtype_of(dtype), []
    cases: list[tuple[Any, Any, Any, Any]] = [
        ((3, 5), (7, 11), (2, 3), lambda memory: memory[:3, 1:6]),  # rows begin anywhere in a block
        ((5, 3), (6, 3), (1, 0), lambda memory: memory[:3, :5].T),  # Fortran order
        ((2, 3, 2, 2), (3, 4, 5, 6), (1, 1, 2, 3), lambda memory: memory.reshape(2, 4, 4, 2)[:, :3, 3::-3]),
        ((4,), (1 << 45,), ((1 << 45) - 6,), lambda memory: memory[0, 1:5]),  # the counter's second word
        ((), (), (), lambda memory: memory[2, 3, ...]),
        ((0, 3), (2, 3), (0, 0), lambda memory: memory[:0, :3]),
    ]
    for shape, whole, offset, view in cases:
        here, there = (np.full((8, 8), 9, kind) for _ in range(2))
        place: dict[str, Any] = {"seed": 2**64 - 1, "name": 5, "global_shape": whole, "global_offset": offset}
        assert view(here).shape == shape
        fi.fill(view(here), init, **place)
        fi.fill(on_device(view(there)), init, **place)
        same.append(bits(here) == bits(there))
    return same


def simulate() -> None:
    """Everything that is compared in the simulator: run in a process of its own."""
    for dtype in FLOATS:
        for kind, init in EXAMPLES.items():
            same = [_whole(dtype, init, count) for count in (1, 4, 37)] + _regions(dtype, init)
            print(dtype, kind, *same)
    for dtype in ("int8", "uint16", "int32", "int64", "bool"):
        print(dtype, "ones", _whole(dtype, fi.ones(), 13))
    host = fi.array((6, 6), fi.orthogonal(), seed=0, name=0)
    print("float32 orthogonal", bits(host) == bits(fi.array((6, 6), fi.orthogonal(), seed=0, name=0, device="cuda")))


def test_the_simulator_gives_the_bits_of_the_cpu() -> None:
    lines = printed("from tests.test_cuda import simulate; simulate()", NUMBA_ENABLE_CUDASIM="1").splitlines()
    assert len(lines) == len(FLOATS) * len(EXAMPLES) + 6
    assert not [line for line in lines if "False" in line or "True" not in line]


# The plain meanings


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_a_plain_fma_rounds_once(real: Any) -> None:
    """Against the sum of parts that floats hold exactly, where a product that is rounded first, or twice, is wrong."""
    one, tiny = real(1), np.finfo(real).eps
    assert emulation.fma(one + tiny, one - tiny, -one) == -(tiny * tiny)
    assert (one + tiny) * (one - tiny) - one == 0  # what two roundings give
    # 1 + eps/2 + a little: a tie, were it rounded to a longer float first
    little = real(2.0**-60) if real is np.float32 else real(2.0**-120)
    assert emulation.fma(little, one, one + tiny) == one + tiny
    half = emulation.fma(tiny / 2, one, one)
    assert half == one
    above = emulation.fma(tiny / 2, one + tiny, one)
    assert above == one + tiny
    assert str(emulation.fma(real(-0.0), one, real(-0.0))) == "-0.0"


def test_plain_integers_wrap() -> None:
    assert emulation.integer(int.__add__)(np.int32(2**31 - 1), 1) == -(2**31)
    assert emulation.integer(int.__rshift__, unsigned=True)(np.int32(-1), 28) == 15
    assert emulation.integer(int.__rshift__)(np.int32(-16), 2) == -4


# PTX


@functools.cache
def ptx(kind: str, dtype: str, cc: tuple[int, int] = (9, 0)) -> str:
    from fastinit.kernels import cuda

    return cuda.ptx(kind, dtype, cc)


def written(kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many fmas a distribution's functions write for a block and one proposal: counted as Python runs them."""
    count = 0

    def counted(a: Any, b: Any, c: Any) -> Any:
        nonlocal count
        count += 1
        return fma(a, b, c)

    fma = emulation.fma
    monkeypatch.setattr(emulation, "fma", counted)
    monkeypatch.setattr(transforms, "fma", counted)
    distribution = lower(EXAMPLES[kind].distribution((64,)), dtype_of(dtype)).transform
    row = transforms.TRANSFORMS[kind]
    word, pairs = (np.uint64, 1) if dtype == "float64" else (np.uint32, 2)
    for function in (row.pair, row.propose):
        for _ in range(pairs if function else 0):
            assert function
            function(distribution, word(12345), word(67890))
    return count


@needs_extra
@pytest.mark.parametrize("cc", CAPABILITIES, ids=lambda cc: f"sm_{cc[0]}{cc[1]}")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", DRAWN)
def test_ptx_holds_what_the_source_says(
    kind: str, dtype: str, cc: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = ptx(kind, dtype, cc)
    operations = re.findall(r"^\s+(?:@!?%p\d+\s+)?([a-z]\w*(?:\.\w+)*)\s", text, re.MULTILINE)
    width = "f64" if dtype == "float64" else "f32"
    fused = [name for name in operations if name.startswith(("fma", "mad")) and name.split(".")[-1].startswith("f")]
    assert fused == [f"fma.rn.{width}"] * written(kind, dtype, monkeypatch)
    banned = "approx|ftz|full|sin|cos|ex2|lg2|rcp|rsqrt|tanh|div|local|call|atom"
    assert not [name for name in operations if re.search(rf"(^|\.)({banned})(\.|$)", name)]
    roots = [name for name in operations if name.startswith("sqrt")]
    assert set(roots) == ({f"sqrt.rn.{width}"} if kind in ("normal", "truncated") else set())
    assert ".local" not in text
    constants = r"-766435501|3528531795|-845247145|3449720151"
    multiplied = re.findall(rf"^\s+(mul\S*|mad\S*)\s.*(?:{constants});", text, re.MULTILINE)
    assert set(multiplied) <= {"mul.hi.u32", "mul.lo.s32", "mul.wide.u32"}
    assert not re.search("0x(d2511f53|cd9e8d57)|3528531795|3449720151", text)  # as 64-bit numbers
    row = transforms.TRANSFORMS[kind]
    blocks = (row.pair is not None) + (row.propose is not None)
    # two a round; the stream's product in the first round may be made once for both blocks
    assert 0 <= 20 * blocks - operations.count("mul.hi.u32") < blocks
    size = np.dtype(dtype_of(dtype)).itemsize
    if row.pair:  # what is made by attempts alone is stored one by one
        simd = 2 if size == 8 else 4
        assert re.search(rf"st\.global\.v{simd}\.\w{8 * size}\b", text)
    if ptxas := _ptxas():
        path = tmp_path / "kernel.ptx"
        path.write_text(text)
        command = [ptxas, "-v", f"-arch=sm_{cc[0]}{cc[1]}", str(path), "-o", str(tmp_path / "cubin")]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in report
        used = re.search(r"Used (\d+) registers", report)
        assert used
        assert int(used[1]) <= (80 if blocks == 2 else 64)


def _ptxas() -> str | None:
    """The wheel's ptxas, or the machine's."""
    nvidia = importlib.import_module("nvidia")
    found = [path for root in nvidia.__path__ for path in Path(root).glob("*/bin/ptxas")]
    return str(found[0]) if found else shutil.which("ptxas")


def interpreted(
    text: str, kind: str, dtype: str, host: np.ndarray[Any, Any], shape: Any, offset: Any, seed: int, name: int
) -> bytes:
    """The memory of an array like ``host`` after the kernel, of which ``host`` is a view at the same place."""
    base, size = 1 << 40, host.itemsize
    memory = bytearray(host.base.nbytes)  # type: ignore[union-attr]
    address = base + host.__array_interface__["data"][0] - host.base.__array_interface__["data"][0]  # type: ignore[union-attr]
    first, axes = merged(host.shape, host.strides, shape, offset)
    columns, rows, planes, others = _loops(axes, size)
    assert not others
    grid, block = _grid(columns, rows, planes, 2 if size == 8 else 4, 2)
    lowered = lower(EXAMPLES[kind].distribution(shape), host.dtype)
    arguments = [address, *lowered.transform, lowered.low, lowered.high, seed, name, first]
    Kernel(text).run([*arguments, columns.length, columns.stride, *rows, *planes], grid, block, base, memory)
    return bytes(memory)


PLACES: list[tuple[Any, Any, Any]] = [  # of memory of 8 by 8: a view, the tensor's shape, where in it
    (lambda memory: memory[:, :], (8, 8), (0, 0)),
    (lambda memory: memory[:3, 1:6], (7, 11), (2, 3)),
    (lambda memory: memory[:3, :5].T, (6, 3), (1, 0)),
    (lambda memory: memory[0, 1:8], (1 << 45,), ((1 << 45) - 7,)),
]


@needs_extra
@pytest.mark.parametrize("cc", [(9, 0), pytest.param((10, 0), marks=pytest.mark.slow)])  # by two compilers of NVIDIA's
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", DRAWN)
def test_interpreted_ptx_gives_the_bits_of_the_cpu(kind: str, dtype: str, cc: tuple[int, int]) -> None:
    text, seed, name = ptx(kind, dtype, cc), 2**64 - 3, 2**62 + 1
    for view, shape, offset in PLACES:
        host = np.zeros((8, 8), dtype_of(dtype))
        fi.fill(view(host), EXAMPLES[kind], seed=seed, name=name, global_shape=shape, global_offset=offset)
        part = view(np.zeros((8, 8), host.dtype))
        assert interpreted(text, kind, dtype, part, shape, offset, seed, name) == host.tobytes()


@needs_extra
def test_the_interpreter_sees_a_wrong_constant() -> None:
    text = ptx("uniform", "float32")
    part, whole = np.zeros((2, 8), np.float32)[:], (2, 8)
    right, wrong = (
        interpreted(version, "uniform", "float32", part, whole, (0, 0), 1, 2)
        for version in (text, text.replace("-1640531527", "-1640531526"))
    )
    assert right == fi.array(whole, EXAMPLES["uniform"], seed=1, name=2).tobytes()
    assert wrong != right


@needs_extra
def test_interpreted_ptx_of_a_constant() -> None:
    for dtype, pattern in [("float32", 0xBFC00000), ("int8", 0xFE), ("float64", 2**63 - 5), ("bfloat16", 0xBFC0)]:
        size = dtype_of(dtype).itemsize
        memory = bytearray(8 * size)
        arguments = [1024 + size, pattern, 0.0, 0.0, 0, 0, 0, 5, size, 1, 0, 0, 1, 0, 0]
        Kernel(ptx("constant", dtype)).run(arguments, (1, 1, 1), (2, 1, 1), 1024, memory)
        word = pattern.to_bytes(size, "little")
        assert memory == bytes(size) + 5 * word + bytes(2 * size)


@needs_extra
def test_ptx_refuses_what_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="transform must be one of constant, uniform"):
        ptx("cauchy", "float32")
    with pytest.raises(ValueError, match="dtype must be one of float16"):
        ptx("normal", "int32")


@needs_extra
def test_a_kernel_is_kept_on_disk_and_a_broken_file_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the CPU, by the same class. What asks the device, which is not there, is answered for it."""
    from numba import types
    from numba.core import config

    from fastinit.kernels import cuda as kernels

    dispatcher, codegen = (importlib.import_module(f"numba.cuda.{name}") for name in ("dispatcher", "codegen"))
    device = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    monkeypatch.setattr(codegen.devices, "get_context", lambda: SimpleNamespace(device=device))
    monkeypatch.setattr(codegen.runtime.runtime, "get_version", lambda: (12, 9))
    monkeypatch.setattr(dispatcher._Kernel, "bind", lambda kernel: kernel._codelibrary.get_cubin(cc=(9, 0)))

    def counts(kind: str, dtype: str) -> tuple[int, int]:
        """How often the kernel of a new process is found, and how often it is not."""
        distribution, real = kernels.KINDS[kind], types.float64 if dtype == "float64" else types.float32
        fields = types.NamedUniTuple(real, len(distribution._fields), distribution)  # type: ignore[no-untyped-call]
        kernel = kernels.kernel.__wrapped__(distribution, dtype)
        kernel.compile((types.int64, fields, real, real, types.uint64, types.uint64, *[types.int64] * 9))
        return sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())

    assert [counts(*which) for which in (("uniform", "float32"), ("uniform", "float16"))] == [(0, 1), (0, 1)]
    assert counts("uniform", "float32") == (1, 0)
    files = list((tmp_path / "fastinit").iterdir())
    assert len(files) == 2
    for path in files:
        path.write_bytes(path.read_bytes()[:-1])
    assert [counts("uniform", "float32") for _ in range(2)] == [(0, 1), (1, 0)]


# What is refused, and why


def test_without_a_gpu_the_error_says_what_to_install() -> None:
    if cuda_is_available():
        pytest.skip("there is a GPU")
    out, kind = np.zeros(3, np.float32), RuntimeError if INSTALLED else ImportError
    with pytest.raises(kind, match=r"pip install 'fastinit-weights\[cuda\]'"):
        fi.array(3, fi.normal(), seed=0, name=0, device="cuda")
    for init in (fi.normal(), fi.ones()):
        with pytest.raises(kind, match=r"pip install 'fastinit-weights\[cuda\]'"):
            fi.fill(on_device(out), init, seed=0, name=0)
    assert not out.any()


def test_a_device_is_cpu_or_cuda() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'tpu'"):
        fi.array(3, fi.normal(), seed=0, name=0, device="tpu")


def test_a_buffer_is_described_before_anything_is_written() -> None:
    out = np.zeros((4, 4), np.float32)
    address = out.__array_interface__["data"][0]
    with pytest.raises(ValueError, match="out must be writable"):
        fi.fill(on_device(out, data=(address, True)), fi.normal(), seed=0, name=0)
    with pytest.raises(ValueError, match="aligned elements of 4 bytes"):
        fi.fill(on_device(out, data=(address + 2, False)), fi.normal(), seed=0, name=0)
    with pytest.raises(TypeError, match="mask"):
        fi.fill(on_device(out, mask=out), fi.normal(), seed=0, name=0)
    with pytest.raises(ValueError, match="overlap"):
        fi.fill(on_device(out, strides=(4, 4)), fi.normal(), seed=0, name=0)
    with pytest.raises(TypeError, match="got dtype"):
        fi.fill(on_device(out, typestr="<c8"), fi.normal(), seed=0, name=0)
    with pytest.raises(TypeError, match="int32 takes only zeros"):
        fi.fill(on_device(out, typestr="<i4"), fi.normal(), seed=0, name=0)


def test_bfloat16_and_streams_are_read_from_the_interface() -> None:
    out = np.zeros((4, 4), np.uint16)
    buffer = Buffer.of(on_device(out, typestr="<V2", strides=(8, 2), stream=2))
    assert (buffer.view.dtype.name, buffer.view.shape, buffer.view.strides) == ("bfloat16", (4, 4), (8, 2))
    assert buffer.queue == 2
    assert Buffer.of(on_device(out)).queue is None
    nothing = Buffer.of(on_device(out[:0], data=(0, False)))
    assert nothing.view.shape == (0, 4)


ODD: dict[str, Any] = {
    "no dictionary": 7,
    "nothing": {},
    "no data": {"shape": (4,), "typestr": "<f4", "version": 3},
    "data of bytes": {"shape": (4,), "typestr": "<f4", "data": b"0123456789abcdef", "version": 3},
    "data of one": {"shape": (4,), "typestr": "<f4", "data": (64,), "version": 3},
    "a shape of floats": {"shape": (4.5,), "typestr": "<f4", "data": (64, False), "version": 3},
    "a negative shape": {"shape": (-4,), "typestr": "<f4", "data": (64, False), "version": 3},
    "a shape beyond all": {"shape": (1 << 62, 8), "typestr": "<f4", "data": (64, False), "version": 3},
    "strides of another number": {
        "shape": (4,),
        "strides": (4, 4),
        "typestr": "<f4",
        "data": (64, False),
        "version": 3,
    },
    "structure": {"shape": (4,), "typestr": "i4,,,", "data": (64, False), "version": 3},
    "objects": {"shape": (4,), "typestr": "|O8", "data": (64, False), "version": 3},
    "no type": {"shape": (4,), "typestr": None, "data": (64, False), "version": 3},
    "escapes": {"shape": (4,), "typestr": "\x1b[2J", "data": (64, False), "version": 3},
}


@pytest.mark.parametrize("described", ODD.values(), ids=ODD)
def test_an_odd_interface_is_refused_in_one_line(described: Any) -> None:
    odd: Any = type("Odd", (), {"__cuda_array_interface__": described})()
    with pytest.raises((TypeError, ValueError), match="out") as caught:
        fi.fill(odd, fi.normal(), seed=0, name=0)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("owner", ["torch", "CuPy", "Numba", "nobody"])
def test_kernels_are_launched_on_the_arrays_gpu(owner: str) -> None:
    out: Any = on_device(np.zeros(4, np.float32))
    place: Any = type("Place", (), {"index" if owner == "torch" else "id": 3})()
    if owner == "Numba":
        out.gpu_data = type("Memory", (), {"context": type("Context", (), {"device": place})})
    elif owner != "nobody":
        out.device = place
    assert Buffer.of(out).device == (None if owner == "nobody" else 3)
