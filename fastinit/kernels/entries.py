"""The CPU's kernels by name, as those who call them know them; `Kernel` says how they come to be."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastinit.core.dtypes import DTYPES
from fastinit.kernels.cache import Kernel
from fastinit.kernels.parameters import PARAMETERS


def describe(transform_class: Any, dtype: str) -> str:
    """Return a title for the kernel of a transform, a class of `kernels.parameters`: "normal draws in float32"."""
    return f"{transform_class.__name__.removesuffix('Transform').lower()} draws in {dtype}"


@cache
def draw_span(transform_class: Any, precision: str, encoding: str) -> Kernel:
    """Return the kernel that draws by a transform, computes in a precision and encodes."""
    arguments = ("int64", "int64", "uint64", "uint64", *["int64"] * 9)
    label = describe(transform_class, precision if encoding == "as is" else encoding)
    return Kernel(label, arguments, "fastinit.kernels.cpu", "draw_span", (transform_class, precision, encoding))


_TASK = (*["int64"] * 4, "uint64", "uint64", "int64", "int64")
RUNS = Kernel("fills", _TASK, "fastinit.kernels.tiles", "fill_tiles", (False,))
REGIONS = Kernel("fills of regions", _TASK, "fastinit.kernels.tiles", "fill_tiles", (True,))
ROWS = Kernel("the rows of regions", ("int64",) * 10, "fastinit.kernels.stores", "tile_rows")


def all_of_fills() -> list[Kernel]:
    """Return all kernels that a fill may need."""
    draws = [
        draw_span(transform_class, row.precision.name, row.encoding)
        for name, transform_class in PARAMETERS.items()
        for row in DTYPES.values()
        if name != "words" or row.name == "float32"
    ]
    return [ROWS, RUNS, REGIONS, *draws]
