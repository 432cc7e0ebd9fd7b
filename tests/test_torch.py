"""fastinit.torch: tensors of every kind, draws of modules' own code, and what torch itself promises of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastinit as fi

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
