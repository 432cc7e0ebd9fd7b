"""The table of floating dtypes: everything that the other rooms need to know of one is a field of its row.

A new dtype is a row here. Where its values are rounded in a way that no kernel has yet, its encoding is also one in
`fastinit.kernels.cpu.ENCODINGS` and `fastinit.kernels.cuda.ROUNDINGS`: those look up and refuse, none has a default.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from fastinit.core.forks import load
from fastinit.core.text import quoted


@dataclass(frozen=True)
class Precision:
    """One of the two floating types that values are computed in."""

    name: str
    size: int  # bytes
    uniform_bits: int  # of a word that become a uniform
    largest_normal: float  # bound of a standard normal's magnitude, from the bits of its radius
    smallest: float  # normal number

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype."""
        return np.dtype(self.name)


SINGLE = Precision("float32", 4, 24, 6.8, 2.0**-126)
DOUBLE = Precision("float64", 8, 53, 9.5, 2.0**-1022)


@dataclass(frozen=True)
class Dtype:
    """A row of the table."""

    name: str
    size: int  # bytes
    precision: Precision  # in which values are computed
    encoding: str  # how a computed value becomes an element: "as is", or the rounding's name
    code: str  # in safetensors
    library: str = "numpy"  # that has its dtype

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype, of which the library is imported only here."""
        return _dtype(self.library, self.name)

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return _largest(self.library, self.name)


@cache  # a cached property of Python 3.11 holds a lock, which a fork would take along
def _dtype(library: str, name: str) -> np.dtype[Any]:
    load(library)
    found: np.dtype[Any] = np.dtype(getattr(importlib.import_module(library), name))
    return found


@cache
def _largest(library: str, name: str) -> float:
    if library == "numpy":
        return float(np.finfo(name).max)
    dtype = _dtype(library, name)  # which imports ml_dtypes
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


DTYPES = {
    row.name: row
    for row in (
        Dtype("float16", 2, SINGLE, "float16", "F16"),
        Dtype("bfloat16", 2, SINGLE, "bfloat16", "BF16", "ml_dtypes"),
        Dtype("float32", 4, SINGLE, "as is", "F32"),
        Dtype("float64", 8, DOUBLE, "as is", "F64"),
    )
}
FLOATS = tuple(DTYPES)  # the dtypes that take drawn values


def dtype_of(dtype: Any) -> np.dtype[Any]:
    """Return NumPy's dtype for a name, ``"bfloat16"`` among them.

    Raises
    ------
    TypeError
        If it names no dtype.

    Examples
    --------
    >>> dtype_of("bfloat16").itemsize
    2
    """
    if type(dtype).__module__ == "torch":  # torch.bfloat16 and others, of which the last word is the name here
        dtype = str(dtype).rpartition(".")[2]
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype].dtype
    if dtype is None:
        raise TypeError("dtype must be named, got None")
    try:
        result: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # the last of a text that looks like a structure
        raise TypeError(f"dtype must be a NumPy dtype or the name of one, got {quoted(dtype)}") from None
    return result


def inside(support: tuple[float, float], dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and the largest value of a dtype in a closed interval.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> inside((0.1, 0.3), np.dtype("float16"))
    (0.10003662109375, 0.2998046875)
    """
    low, high = (_toward(bound, other, dtype) for bound, other in zip(support, support[::-1], strict=True))
    if low > high:
        raise ValueError(f"no {dtype.name} value lies in [{support[0]}, {support[1]}]")
    return low, high


def _toward(bound: float, other: float, dtype: np.dtype[Any]) -> float:
    """Return the value of the dtype nearest to a bound, on the side of the other bound."""
    if math.isinf(bound):
        return bound
    with np.errstate(over="ignore"):
        nearest = np.asarray(bound, np.float64).astype(dtype)
    value = float(nearest)
    if (bound <= other and value < bound) or (bound >= other and value > bound):
        value = float(np.nextafter(nearest, np.asarray(math.copysign(math.inf, other - bound), dtype)))
    return value
