"""The checks of a fill's arguments, all before a byte is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastinit.core.checks import check_shape, check_sizes
from fastinit.core.dtypes import FLOATS
from fastinit.core.text import quoted
from fastinit.distributions import Constant, Distribution
from fastinit.initializers.base import Initializer, Shape
from fastinit.initializers.matrices import Matrix, Table
from fastinit.sampling.plan import overlaps


def distribution_of(
    init: Initializer, dtype: np.dtype[Any], strides: tuple[int, ...], shape: tuple[int, ...], whole: tuple[int, ...]
) -> Distribution | Matrix:
    """Return the distribution or matrix for an array of this layout, or refuse it."""
    if not (dtype.name in FLOATS or dtype.kind in "iub") or not dtype.isnative:
        raise TypeError(
            "out must be an array of float16, bfloat16, float32 or float64 (for zeros, ones, constant and table also "
            f"of integers or booleans) in native byte order, got dtype {dtype}"
        )
    if math.prod(shape) and overlaps(shape, strides, dtype.itemsize):
        raise ValueError(f"out must not overlap itself, got strides {strides} for shape {shape}")
    distribution = init.resolve(whole)
    if dtype.kind in "iub" and not isinstance(distribution, (Constant, Table)):
        raise TypeError(f"out of {dtype.name} takes only zeros, ones, constant and table, got {quoted(init)}")
    return distribution


def region(
    shape: Shape, global_shape: Sequence[int] | None, global_offset: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the global shape, and the offset in it of an array of this shape."""
    if global_shape is None:
        if global_offset is not None:
            raise ValueError(
                f"global_offset needs a global_shape, got global_offset={quoted(global_offset)} without one"
            )
        return tuple(shape), (0,) * len(shape)
    whole = check_shape("global_shape", global_shape)
    offset = (0,) * len(whole) if global_offset is None else check_sizes("global_offset", global_offset)
    if not len(whole) == len(offset) == len(shape):
        raise ValueError(
            f"global_shape and global_offset must have the {len(shape)} axes of out, got {whole} and {offset}"
        )
    if any(at + size > limit for at, size, limit in zip(offset, shape, whole, strict=True)):
        raise ValueError(
            f"out of shape {tuple(shape)} at global_offset {offset} does not lie within global_shape {whole}"
        )
    return whole, offset


def check_progress(progress: Any) -> None:
    """Refuse a progress that is neither a flag nor a function."""
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress must be True, False, None or a function, got {quoted(progress)}")


def check_room(what: str, size: int) -> None:
    """Refuse a size in bytes that cannot be allocated at once, before anything is made.

    Raises
    ------
    MemoryError
        If there is not as much memory.
    """
    try:
        np.empty(size, np.uint8)
    except (MemoryError, OverflowError, ValueError):
        raise MemoryError(f"{what} would need {size / 1e9:.3g} GB of memory at once") from None
