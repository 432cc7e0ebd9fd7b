"""What only a GPU can show: its bits, its memory, its queues, and the arrays of torch, CuPy, Numba and JAX on it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from fastinit.core.dtypes import FLOATS, dtype_of
from tests.examples import EXAMPLES
from tests.helpers import cuda_is_available
from tests.vectors import VECTORS, case_id, filled, hexadecimal

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cuda_is_available(), reason="no GPU, or no numba-cuda")]

SEEDED: dict[str, Any] = {"seed": 3, "name": "w"}


@pytest.fixture(scope="module")
def torch() -> Any:
    found: Any = pytest.importorskip("torch")
    if not found.cuda.is_available():
        pytest.skip("torch has no CUDA")
    return found


def bits(array: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def on_host(tensor: Any) -> np.ndarray[Any, Any]:
    """Return the bytes of a torch tensor, which NumPy has no dtype for, in the order of its elements."""
    torch: Any = importlib.import_module("torch")
    found: np.ndarray[Any, Any] = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
    return found


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_gpu_gives_the_bits_of_the_cpu(kind: str, dtype: str) -> None:
    """Sizes of one block, of many, and of odd ends; Fortran order and an offset too."""
    shapes: list[Any] = [(5,), (1 << 20) + 3, (513, 1027)]
    for shape in shapes:
        device: Any = fi.array(shape, EXAMPLES[kind], dtype=dtype, device="cuda", **SEEDED)
        assert bits(device.copy_to_host()) == bits(fi.array(shape, EXAMPLES[kind], dtype=dtype, **SEEDED))
    cuda: Any = importlib.import_module("numba.cuda")

    part = cuda.device_array((300, 200), dtype_of(dtype), order="F")
    place: dict[str, Any] = {"global_shape": (1000, 333), "global_offset": (7, 5)}
    fi.fill(part, EXAMPLES[kind], **place, **SEEDED)
    host = fi.fill(np.empty((300, 200), dtype_of(dtype)), EXAMPLES[kind], **place, **SEEDED)
    assert bits(part.copy_to_host()) == bits(host)


@pytest.mark.parametrize("case", VECTORS["values"], ids=case_id)
def test_the_test_vectors_of_the_value_contract(case: dict[str, Any]) -> None:
    cuda: Any = importlib.import_module("numba.cuda")
    out = cuda.device_array(len(case["bits"]), dtype_of(case["dtype"]))
    assert hexadecimal(filled(case, out).copy_to_host()) == case["bits"]


LAYOUTS = {
    "contiguous": lambda memory: memory[:77, :90].contiguous(),
    "inside": lambda memory: memory[3:80, 5:95],
    "transposed": lambda memory: memory[3:80, 5:95].T,
    "every third column": lambda memory: memory[:, 1::3],
    "every other row": lambda memory: memory[1::2],
    "one column": lambda memory: memory[:, 7:8],
    "four axes permuted": lambda memory: memory[:96, :96].view(8, 12, 8, 12).permute(2, 1, 3, 0),
    "from one element on": lambda memory: memory.reshape(-1)[1:-1],
    "nothing": lambda memory: memory[:0],
    "one": lambda memory: memory[5, 6],
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_torch_tensor_of_any_strides_is_filled_and_nothing_else(torch: Any, layout: str, dtype: str) -> None:
    memory = torch.full((96, 100), -7.0, dtype=getattr(torch, dtype), device="cuda")
    if layout == "four axes permuted":
        memory = memory[:, :96].contiguous()
    for init in EXAMPLES.values():
        there = memory.clone()
        part = LAYOUTS[layout](there)
        fi.fill(part, init, **SEEDED)
        expected = torch.empty(part.shape, dtype=part.dtype)
        fi.fill(expected, init, **SEEDED)
        assert bits(on_host(part)) == bits(on_host(expected))
        part.fill_(-7.0)
        assert bool((there == memory).all())  # the elements around it


def test_a_fill_waits_for_its_own_queue_and_for_no_other(torch: Any) -> None:
    """What a queue holds before a fill is done before it, and what comes after sees its values."""
    side, slow = torch.cuda.Stream(), torch.randn(4096, 4096, device="cuda")
    expected = fi.array((1 << 22,), fi.normal(), **SEEDED)
    out = torch.empty(1 << 22, device="cuda")
    fi.fill(out, fi.normal(), **SEEDED)  # compiled
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        for _ in range(20):
            slow = slow @ slow.softmax(0)
        out.fill_(9.0)
        fi.fill(out, fi.normal(), **SEEDED)
        waiting = not side.query()  # the call has returned before its kernel has run
        copy = out * 2
    side.synchronize()
    assert waiting
    assert bits(copy.cpu().numpy()) == bits(expected * 2)


def test_a_fill_is_recorded_in_a_graph_and_replayed(torch: Any) -> None:
    out = torch.zeros(1000, device="cuda")
    fi.fill(out, fi.normal(), **SEEDED)
    expected = out.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        fi.fill(out, fi.normal(), **SEEDED)
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert bool((out == expected).all())


def test_tensors_of_more_than_four_billion_elements(torch: Any) -> None:
    """Places whose number in the tensor, and whose byte in memory, need more than 32 bits."""
    count = (1 << 32) + 1003
    if torch.cuda.mem_get_info()[0] < 2.5 * count:
        pytest.skip("not enough of the GPU's memory")
    out = torch.empty(count, dtype=torch.bfloat16, device="cuda")
    fi.fill(out, fi.normal(), **SEEDED)
    for start in (0, (1 << 31) - 500, (1 << 32) - 500, count - 1000):
        part = np.empty(1000, dtype_of("bfloat16"))
        fi.fill(part, fi.normal(), global_shape=(count,), global_offset=(start,), **SEEDED)
        assert bits(on_host(out[start : start + 1000])) == bits(part)


def test_constants_of_all_dtypes(torch: Any) -> None:
    for dtype in (torch.bool, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float64):
        out = torch.zeros((3, 7), dtype=dtype, device="cuda")
        fi.fill(out[:, 1:], fi.ones(), **SEEDED)
        assert out.cpu().sum().item() == 18
        assert not out[:, 0].any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_matrix_is_made_on_the_cpu_and_copied(torch: Any, dtype: str) -> None:
    out = torch.empty((64, 48), dtype=getattr(torch, dtype), device="cuda")
    fi.fill(out, fi.orthogonal(), **SEEDED)
    expected = torch.empty((64, 48), dtype=out.dtype)
    fi.fill(expected, fi.orthogonal(), **SEEDED)
    assert bits(on_host(out)) == bits(on_host(expected))


def test_cupy_arrays_on_a_queue_of_their_own() -> None:
    cupy: Any = pytest.importorskip("cupy")
    expected = fi.array((513, 77), fi.truncated_normal(), **SEEDED)
    with cupy.cuda.Stream(non_blocking=True):
        out = cupy.zeros((513, 80), np.float32)
        fi.fill(out[:, 3:], fi.truncated_normal(), **SEEDED)
        assert bits(cupy.asnumpy(out[:, 3:])) == bits(expected)
        assert not bool(out[:, :3].any())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_torch_model_on_a_gpu_has_the_weights_of_the_cpu(torch: Any, dtype: str) -> None:
    """From the meta device, in place, and by `accelerated`."""
    ft: Any = importlib.import_module("fastinit.torch")

    def built(device: str) -> Any:
        with torch.device(device):
            layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dtype=getattr(torch, dtype))
            return torch.nn.Sequential(torch.nn.Embedding(50, 64, padding_idx=0), layer, torch.nn.LSTM(64, 32))

    def same(one: Any, other: Any) -> None:
        pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
        for (name, there), (_, here) in pairs:
            assert there.is_cuda, name
            assert bits(on_host(there)) == bits(on_host(here)), name

    here = built("cpu")
    ft.initialize_(here, seed=5)
    there = built("meta")
    ft.initialize_(there, seed=5, device="cuda")
    same(there, here)
    there = built("cuda")
    ft.initialize_(there, seed=5)
    same(there, here)
    with ft.accelerated(5):
        there = built("cuda")
    with ft.accelerated(5):
        here = built("cpu")
    same(there, here)


def test_a_dtensor_on_a_gpu(torch: Any, tmp_path: Path) -> None:
    """One rank, by NCCL: the local tensor is the whole one."""
    ft: Any = importlib.import_module("fastinit.torch")
    distributed: Any = importlib.import_module("torch.distributed")
    fsdp: Any = importlib.import_module("torch.distributed.fsdp")
    if not distributed.is_nccl_available():
        pytest.skip("torch has no NCCL")
    distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/ranks", world_size=1, rank=0)
    try:
        with torch.device("meta"):
            model = torch.nn.Linear(33, 13)
        fsdp.fully_shard(model, mesh=torch.distributed.device_mesh.init_device_mesh("cuda", (1,)))
        ft.initialize_(model, seed=5, device="cuda")
        plain = torch.nn.Linear(33, 13)
        ft.initialize_(plain, seed=5)
        assert bits(on_host(model.weight.full_tensor())) == bits(on_host(plain.weight))
    finally:
        distributed.destroy_process_group()


def test_jax_arrays_on_a_gpu() -> None:
    jax: Any = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX has no GPU")
    fj: Any = importlib.import_module("fastinit.jax")
    made = fj.array((100, 30), fi.normal(), dtype="bfloat16", **SEEDED)
    assert {device.platform for device in made.devices()} == {"gpu"}
    assert bits(np.asarray(made)) == bits(fi.array((100, 30), fi.normal(), dtype="bfloat16", **SEEDED))
