"""From a distribution to what a kernel is given: finished scalars in the precision of the computation, checked to be
possible.

All arithmetic here is float64; the one rounding to the precision of the computation comes last.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastinit.core.environment import in_default
from fastinit.distributions.laws import Constant, Distribution, Normal, TruncatedNormal, Uniform, tail_rate
from fastinit.kernels.cpu import AS_IS, BFLOAT16, FLOAT16
from fastinit.kernels.transforms import (
    NarrowTransform,
    NormalTransform,
    TailTransform,
    TruncatedTransform,
    UniformTransform,
    WordsTransform,
)

_ENCODINGS = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": AS_IS, "float64": AS_IS}


class Lowered(NamedTuple):
    """What the kernel needs of a distribution and a dtype."""

    draw: Any  # the distribution's parameters, as a class of `draws`
    low: Any  # the bounds in which 16-bit values are held
    high: Any
    encoding: int
    size: int  # bytes of an element


@lru_cache(maxsize=4096)
@in_default
def lower(distribution: Distribution, dtype: np.dtype[Any]) -> Lowered:
    """The finished scalars of a distribution that is drawn, for one of the four floating dtypes.

    Raises
    ------
    ValueError
        If the distribution does not fit the dtype: a parameter overflows, or no value of the dtype lies within its
        bounds.
    """
    precision = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    _check_fits(distribution, dtype)
    real = precision.type
    _inside(distribution.support, precision)
    low, high = _inside(distribution.support, dtype)
    draw = _draw(distribution, precision)
    step = getattr(
        draw, "scale", getattr(draw, "step", 1.0)
    )  # between the values of a uniform, or of uniform proposals
    if 0 < step < (2.0**-1022 if precision == np.float64 else 2.0**-126):  # would be rounded, or be none
        raise ValueError(
            f"the interval {list(distribution.support)} is too narrow for {precision.name}: {distribution}"
        )
    return Lowered(type(draw)(*map(real, draw)), real(low), real(high), _ENCODINGS[dtype.name], dtype.itemsize)


def raw_words() -> Lowered:
    """What the kernel needs to store 32-bit words as they are."""
    nothing = np.float32(0)
    return Lowered(WordsTransform(nothing), nothing, nothing, AS_IS, 4)


def _draw(distribution: Distribution, precision: np.dtype[Any]) -> Any:
    """The parameters of the distribution's draws, as floats."""
    low, high = _inside(distribution.support, precision)
    steps = 2.0 ** -(53 if precision == np.float64 else 24)
    match distribution:
        case Uniform():
            scale = (distribution.high - distribution.low) * steps
            return UniformTransform(scale, distribution.low + scale / 2, low, high)
        case Normal():
            return NormalTransform(distribution.mean, distribution.std)
        case TruncatedNormal(proposal="normal"):
            return TruncatedTransform(distribution.parent_mean, distribution.parent_std, low, high)
        case TruncatedNormal():
            return _rare(distribution, low, high, steps)
    raise AssertionError(distribution)  # constants are not drawn


def _rare(distribution: TruncatedNormal, low: float, high: float, steps: float) -> NarrowTransform | TailTransform:
    """The parameters where normal proposals would be wasteful: t counts sigmas from the bound that is nearest."""
    a, b = distribution.bounds
    below = b <= 0
    near = max(a, -b, 0.0)
    slope = -distribution.parent_std if below else distribution.parent_std
    origin = (distribution.upper if below else distribution.lower) if near > 0 else distribution.parent_mean
    if distribution.proposal == "exponential":
        rate = tail_rate(near)
        return TailTransform(0.5 / rate, rate - near, b - a, slope, origin, low, high)
    step = (b - a) * steps
    return NarrowTransform(step, (0.0 if near > 0 else a) + step / 2, 2 * near, slope, origin, low, high)


def _inside(support: tuple[float, float], dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest and largest values of the dtype in a closed interval."""
    low, high = (_toward(bound, other, dtype) for bound, other in zip(support, support[::-1], strict=True))
    if low > high:
        raise ValueError(f"no {dtype.name} value lies in [{support[0]}, {support[1]}]")
    return low, high


def _toward(bound: float, other: float, dtype: np.dtype[Any]) -> float:
    """The value of the dtype nearest to a bound, on the side of the other one."""
    if math.isinf(bound):
        return bound
    with np.errstate(over="ignore"):
        nearest = np.asarray(bound, np.float64).astype(dtype)
    value = float(nearest)
    if (bound <= other and value < bound) or (bound >= other and value > bound):
        value = float(np.nextafter(nearest, np.asarray(math.copysign(math.inf, other - bound), dtype)))
    return value


def _check_fits(distribution: Distribution, dtype: np.dtype[Any]) -> None:
    """Refuse parameters and values that overflow."""
    import ml_dtypes

    most = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    numbers = {
        "mean": distribution.mean,
        "std": distribution.std,
        "lower bound": distribution.support[0],
        "upper bound": distribution.support[1],
    }
    if isinstance(distribution, TruncatedNormal):
        numbers |= {"mean": distribution.parent_mean, "std": distribution.parent_std}
    if isinstance(distribution, Normal):
        numbers["largest value"] = abs(distribution.mean) + distribution.std * (9.5 if dtype == np.float64 else 6.8)
    for name, number in numbers.items():
        if math.isfinite(number) and abs(number) > most:
            raise ValueError(
                f"the distribution's {name} is {number:.6g}, and {dtype.name} ends at {most:.6g}: {distribution}"
            )


def lower_constant(distribution: Constant, dtype: np.dtype[Any]) -> Any:
    """The constant as a scalar of a floating, integer or boolean dtype.

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
    first = np.float64(distribution.value) if dtype == np.float64 else np.float32(float(distribution.value))
    return np.asarray(first).astype(dtype)[()]
