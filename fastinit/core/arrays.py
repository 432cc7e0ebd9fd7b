"""Types of arrays for annotations, and arrays of other packages, recognized without importing these."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


def is_masked(array: Any) -> bool:
    """Test whether an array has a mask."""
    return isinstance(array, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def is_torch(array: Any) -> bool:
    """Test whether an array is a torch tensor, or of a subclass such as a parameter."""
    return isinstance(array, getattr(sys.modules.get("torch"), "Tensor", ()))
