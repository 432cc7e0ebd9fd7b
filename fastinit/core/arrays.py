"""Types of arrays for annotations, and arrays of other packages, recognized without importing these."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.core.text import printable

Array = NDArray[Any]
Floats = NDArray[np.float64]


def is_masked(array: Any) -> bool:
    """Test whether an array has a mask."""
    return isinstance(array, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def torch_memory(argument: str, tensor: Any) -> Array:
    """Return the NumPy array that shares a torch tensor's memory, whether the tensor requires gradients or not.

    Raises
    ------
    TypeError
        If the tensor is not a dense one in the CPU's memory, with a dtype that NumPy or ml_dtypes have; the message
        names the argument.
    """
    torch, plain = sys.modules["torch"], tensor.detach()
    if hasattr(plain, "placements"):
        raise TypeError(f"{argument} must be one process's tensor, got a DTensor: fastinit.torch.fill_ takes those")
    if plain.device.type != "cpu":
        raise TypeError(f"{argument} must be in the memory of the CPU, got a tensor on {plain.device}")
    try:
        if plain.dtype == torch.bfloat16:  # which NumPy lacks
            import ml_dtypes

            patterns: Array = plain.view(torch.int16).numpy()
            return patterns.view(ml_dtypes.bfloat16)
        return np.asarray(plain.numpy())
    except (RuntimeError, TypeError) as error:  # sparse, distributed, quantized, of a dtype that NumPy lacks
        reason = printable(str(error).partition("\n")[0])
        raise TypeError(f"{argument} must be a dense tensor of a dtype that NumPy has too: {reason}") from None


def is_torch(array: Any) -> bool:
    """Test whether an array is a torch tensor, or of a subclass such as a parameter."""
    return isinstance(array, getattr(sys.modules.get("torch"), "Tensor", ()))
