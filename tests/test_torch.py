"""fastinit.torch: tensors of every kind, draws of modules' own code, and what torch itself promises of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from tests.helpers import printed

torch = pytest.importorskip("torch", reason="needs torch: pip install 'fastinit-weights[torch]'")

SHAPE = (6, 5, 4, 3)
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "strided": lambda x: torch.empty(12, 5, 4, 6, dtype=x.dtype)[::2, :, :, ::2],
    "parameter": torch.nn.Parameter,
}
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


def numbers(tensor: Any) -> Any:
    """Return the elements as float64, which holds every dtype's."""
    return tensor.detach().double().numpy()


def expected(init: fi.Initializer, shape: tuple[int, ...], name: str, dtype: str = "float32", seed: int = 0) -> Any:
    return fi.array(shape, init, seed=seed, name=name, dtype=dtype).astype(np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fill_takes_tensors_and_parameters(layout: str, dtype: str) -> None:
    tensor = LAYOUTS[layout](torch.empty(SHAPE, dtype=DTYPES[dtype]))
    version, address = tensor._version, tensor.data_ptr()
    assert fi.fill(tensor, fi.he_normal(), seed=0, name="w") is tensor
    assert np.array_equal(numbers(tensor), expected(fi.he_normal(), SHAPE, "w", dtype))
    assert (tensor._version, tensor.data_ptr()) == (version + 1, address)


def test_array_takes_torchs_dtypes_and_sizes() -> None:
    made = fi.array(torch.Size(SHAPE), fi.normal(), seed=0, name="w", dtype=torch.bfloat16)
    assert made.dtype.name == "bfloat16"
    assert np.array_equal(made, fi.array(SHAPE, fi.normal(), seed=0, name="w", dtype="bfloat16"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.empty(3, device="meta"), "out must be in the memory of the CPU, got a tensor on meta"),
        (lambda: torch.zeros(3).to_sparse(), "out must be a dense tensor"),
        (lambda: torch.empty(3, dtype=torch.float8_e4m3fn), "out must be a dense tensor of a dtype that NumPy has too"),
        (lambda: torch.empty(3, dtype=torch.complex64), "out must be an array of float16"),
        (lambda: torch.empty(3).expand(2, 3), "out must not overlap itself"),
        (lambda: torch.empty(3, dtype=torch.int32), "out of int32 takes only zeros"),
    ],
)
def test_fill_refuses_other_tensors_in_one_line(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        fi.fill(make(), fi.normal(), seed=0, name="w")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_fill_in_place_has_the_values_of_fill(layout: str, dtype: str) -> None:
    import fastinit.torch as ft

    tensor = LAYOUTS[layout](torch.empty(SHAPE, dtype=DTYPES[dtype]))
    version, address = tensor._version, tensor.data_ptr()
    with torch.no_grad():
        assert ft.fill_(tensor, fi.he_normal(), seed=0, name="w") is tensor
    assert np.array_equal(numbers(tensor), expected(fi.he_normal(), SHAPE, "w", dtype))
    assert (tensor._version, tensor.data_ptr()) == (version + 1, address)


def test_fill_in_place_follows_torchs_rules() -> None:
    import fastinit.torch as ft

    known: dict[str, Any] = {"seed": 0, "name": "w"}
    leaf = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place"):
        ft.fill_(leaf, fi.normal(), **known)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        ft.fill_(leaf[:2], fi.normal(), **known)
    assert not leaf.any()
    saved = leaf * 2
    product = (saved * saved).sum()
    ft.fill_(saved.detach(), fi.normal(), **known)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    with torch.inference_mode():
        tensor = torch.zeros(3)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        ft.fill_(tensor, fi.normal(), **known)
    with pytest.raises(TypeError, match="tensor must be a torch tensor, got ndarray"):
        ft.fill_(np.zeros(3), fi.normal(), **known)
    with pytest.raises(TypeError, match="init must be an initializer"):
        ft.fill_(torch.zeros(3), torch.nn.init.normal_, **known)
    with pytest.raises(TypeError, match="out of int32 takes only zeros"):
        ft.fill_(torch.zeros(3, dtype=torch.int32), fi.normal(), **known)
    assert ft.fill_(torch.empty(3, dtype=torch.int32), fi.constant(7), **known).tolist() == [7, 7, 7]
    assert ft.fill_(torch.empty(3, device="meta"), fi.normal(), **known).is_meta


def test_other_devices_get_the_values_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that fastinit does not know: the values are made here, and copied."""
    from fastinit.torch import places

    copied = []
    real = torch.Tensor.copy_

    class Elsewhere:
        def __init__(self, tensor: Any) -> None:
            self.tensor, self.device, self.shape, self.dtype = tensor, torch.device("xpu"), tensor.shape, tensor.dtype

        def copy_(self, host: Any) -> None:
            copied.append(real(self.tensor, host))

    tensor = torch.empty(2, 3)
    places._fill(Elsewhere(tensor), fi.normal(), (4, 3), (2, 0), {"seed": 0, "name": "w"})
    assert len(copied) == 1
    assert np.array_equal(tensor.numpy(), fi.array((4, 3), fi.normal(), seed=0, name="w")[2:])


# In a process of its own: other libraries may tell malloc to keep freed blocks of any size. It keeps none of 64 MiB.
FAULTS = """
import resource, torch, fastinit as fi, fastinit.torch as ft

ELEMENTS = 1 << 24

def faults(how):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    if how == "accelerated":
        with ft.accelerated(0):
            torch.empty(ELEMENTS).normal_()
    elif how == "initialize_":
        with torch.device("meta"):
            module = torch.nn.Embedding(ELEMENTS >> 10, 1 << 10)
        ft.initialize_(module, seed=0)
    else:
        fi.fill(torch.empty(ELEMENTS), fi.normal(), seed=0, name=0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults("accelerated")  # compiles
print(faults("accelerated"), faults("fill"), faults("initialize_"))
"""
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not HUGE.exists() or "[never]" in HUGE.read_text(), reason="the system gives no huge pages")
def test_fresh_memory_is_of_huge_pages() -> None:
    accelerated, fill, initialized = map(int, printed(FAULTS).split())
    assert accelerated < 2000 < 15000 < fill
    assert initialized < 2000
