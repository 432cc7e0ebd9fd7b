"""The kernels of `fastinit.verify` by name, and what those who call them know of them: nothing here is compiled."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from fastinit.kernels.cache import Kernel

TILE = 2048  # elements that are worked on in the cache
NEAR = 64  # lags up to this one are seen within the run; as many elements after it are needed
WINDOW = 32  # elements that a fingerprint is made of
STEPS = 16.0  # of a fingerprint's digit, to one standard deviation
KEY = 4  # of them, those that decide whether it is kept: as bytes, one 32-bit word


class Grid(NamedTuple):
    """How values of 32 and 64 bits become z, and find their bin: ``(x - origin) * scale`` rounded down, held inside."""

    shift: float
    inverse: float
    origin: float
    scale: float
    bins: int
    most: float  # the largest finite value
    low: Any  # the bounds, in the dtype
    high: Any


class Found(NamedTuple):
    """The results of one run: arrays that the kernels add to."""

    bins: Any  # int64: how many elements are in each
    sums: Any  # z, z**2, z**3, z**4
    lagged: Any  # z z' at each of the near lags
    outside: Any  # how many finite values lie below and above the bounds
    bad: Any  # how many are NaN or infinite
    fingerprints: Any  # uint64
    places: Any  # where in the array each begins


_MODULE = "fastinit.kernels.accumulators"
_FOUND = ("int64[:]", "float64[:]", "float64[:]", "int64[:]", "int64[:]", "uint64[:]", "int64[:]")  # `Found`
_PLACE = ("int64[:]", "int64", "uint32")  # lags, the first element's number, the limit of fingerprints


def _grid(precision: str) -> tuple[str, ...]:
    """Return the types of `Grid`."""
    return (*["float64"] * 4, "int64", "float64", precision, precision)


@cache
def wide(precision: str) -> Kernel:
    """Return the kernel that looks at a run of float32 or float64."""
    arguments = (f"{precision}[:]", "int64", *_grid(precision), *_PLACE, *_FOUND)
    return Kernel(f"verification of {precision}", arguments, _MODULE, "wide", (precision,))


@cache
def wide_product(precision: str) -> Kernel:
    """Return the kernel of a product of two such runs."""
    arguments = (f"{precision}[:]", f"{precision}[:]", *_grid(precision))
    return Kernel(f"lags of {precision}", arguments, _MODULE, "wide_product", result="float64")


NARROW = Kernel(
    "verification of 16 bits",
    ("uint16[:]", "int64", "float32[:]", *_PLACE, *_FOUND),
    _MODULE,
    "narrow",
)
NARROW_PRODUCT = Kernel(
    "lags of 16 bits", ("uint16[:]", "uint16[:]", "float32[:]"), _MODULE, "narrow_product", result="float64"
)
PRODUCTS = Kernel("correlations of lines", ("float64[:, :]", "float64[:, :]"), _MODULE, "products")
