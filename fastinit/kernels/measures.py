"""The kernels of `fastinit.verify` by name, and what those who call them know of them: nothing here is compiled."""

from __future__ import annotations

from functools import cache

from fastinit.kernels.cache import Kernel

TILE = 2048  # elements that are worked on in the cache
NEAR = 4  # lags from 1 to this one are seen in every run
LINES = 256  # at most, whose products with all before them one call forms
GROUP = 256  # elements that are searched at once for the middles of fingerprints
HALF = 15  # elements of a fingerprint on either side of the one in the middle
WINDOW = 2 * HALF + 1
MARGIN = 16  # elements beside a run that fingerprints need; a line of the cache, which no vector should cross
STEPS = 16.0  # of a fingerprint's digit, to one standard deviation
FARTHEST = 64.0  # scores are held inside: what lies beyond is seen by the tests of the extremes

_MODULE = "fastinit.kernels.accumulators"
_RUN = ("int64", "int64")  # first and last
_STRUCTURE = (
    *["int64"] * 3, "float64[:, :, :]", "float32[:, :, :]", "int64", "float64[:]", "float32", "uint64[:]", "int64[:]"
)  # fmt: skip


@cache
def wide(precision: str) -> Kernel:
    """Return the kernel that looks at a run of float32 or float64."""
    values = f"{precision}[:]"
    found = ("int32[:]", "int64[:]", "float64[:]", values, "float32[:]")
    arguments = (values, *_RUN, values, "float32", "float32", "float32[:]", *found, *_STRUCTURE)
    return Kernel(f"verification of {precision}", arguments, _MODULE, "wide", (precision,))


NARROW = Kernel(
    "verification of 16 bits",
    ("uint16[:]", *_RUN, "float32[:]", "int32[:]", "float32[:]", *_STRUCTURE),
    _MODULE,
    "narrow",
)
COSINES = Kernel(
    "products of lines",
    ("float32[:, :]", *_RUN, "float32[:, :]", "float32[:]", "int64[:]"),
    "fastinit.kernels.cosines",
    "cosines",
)
