"""From a distribution to a kernel's arguments: finished scalars in the computation's precision, that fit the dtype.

A distribution lowers itself to float64; the one rounding to the precision comes last, here.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastinit.core.dtypes import DTYPES, SINGLE, Precision, inside
from fastinit.core.environment import in_default
from fastinit.distributions import Constant, Distribution
from fastinit.kernels.transforms import TRANSFORMS


class Lowered(NamedTuple):
    """A distribution in a dtype, as the kernels of every device take it."""

    transform: Any  # parameters: an instance of a class in `kernels.transforms`
    low: Any  # bounds to which rounded values are clamped, in the precision
    high: Any
    encoding: str
    precision: Precision
    size: int  # bytes of an element


@lru_cache(maxsize=4096)
@in_default
def lower(distribution: Distribution, dtype: np.dtype[Any]) -> Lowered:
    """Lower a distribution that is drawn, for a floating dtype.

    Raises
    ------
    ValueError
        If the distribution does not fit the dtype: a parameter overflows, or no value of the dtype lies within its
        bounds.
    """
    row = DTYPES[dtype.name]
    precision, real = row.precision, row.precision.dtype.type
    _check_fits(distribution, dtype)
    name, values, step = distribution.lowered(precision)
    low, high = inside(distribution.support, dtype)
    if 0 < step < precision.smallest:  # would be rounded, or be none
        raise ValueError(
            f"the interval {list(distribution.support)} is too narrow for {precision.name}: {distribution}"
        )
    if "low" in values:  # a uniform's, beyond which no value is rounded if the dtype has them
        values |= {"low": low, "high": high}
    transform = TRANSFORMS[name].parameters(**{field: real(value) for field, value in values.items()})
    return Lowered(transform, real(low), real(high), row.encoding, precision, row.size)


def raw_words() -> Lowered:
    """Return the transform that stores 32-bit words as they are."""
    nothing = np.float32(0)
    return Lowered(TRANSFORMS["words"].parameters(nothing), nothing, nothing, "as is", SINGLE, SINGLE.size)


def _check_fits(distribution: Distribution, dtype: np.dtype[Any]) -> None:
    """Refuse parameters and values that overflow."""
    row = DTYPES[dtype.name]
    for name, number in distribution.extremes(row.precision).items():
        if math.isfinite(number) and abs(number) > row.largest:
            raise ValueError(
                f"the distribution's {name} is {number:.6g}, and {dtype.name} ends at {row.largest:.6g}: {distribution}"
            )


def lower_constant(distribution: Constant, dtype: np.dtype[Any]) -> Any:
    """Lower a constant to a scalar of a floating, integer or boolean dtype.

    Raises
    ------
    ValueError
        If an integer or boolean dtype does not have the value, or a floating one ends before it.
    """
    if dtype.kind in "iub":
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        number = int(distribution.value)
        if number != distribution.value or not least <= number <= most:
            raise ValueError(f"value must be one of {dtype.name}'s, got {distribution.value}")
        return np.asarray(number, dtype)[()]
    _check_fits(distribution, dtype)
    first = DTYPES[dtype.name].precision.dtype.type(float(distribution.value))
    return np.asarray(first).astype(dtype)[()]
