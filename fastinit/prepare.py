"""From a law to what a kernel is given: finished scalars in the precision of the computation, checked to be possible.

All arithmetic here is float64; the one rounding to the precision of the computation comes last.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastinit.environment import in_default
from fastinit.kernels.cpu import AS_IS, BFLOAT16, FLOAT16
from fastinit.kernels.draws import NarrowDraw, NormalDraw, TailDraw, TruncatedDraw, UniformDraw, WordsDraw
from fastinit.laws import Constant, Law, Normal, TruncatedNormal, Uniform, tail_rate

_ENCODINGS = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": AS_IS, "float64": AS_IS}


class Prepared(NamedTuple):
    """What the kernel needs of a law and a dtype."""

    draw: Any  # the law's parameters, as a class of `draws`
    low: Any  # the bounds in which 16-bit values are held
    high: Any
    encoding: int
    size: int  # bytes of an element


@lru_cache(maxsize=4096)
@in_default
def prepare(law: Law, dtype: np.dtype[Any]) -> Prepared:
    """The finished scalars of a law that is drawn, for one of the four floating dtypes.

    Raises
    ------
    ValueError
        If the law does not fit the dtype: a parameter overflows, or no value of the dtype lies within its bounds.
    """
    precision = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    _check_fits(law, dtype)
    real = precision.type
    _inside(law.support, precision)
    low, high = _inside(law.support, dtype)
    draw = _draw(law, precision)
    step = getattr(
        draw, "scale", getattr(draw, "step", 1.0)
    )  # between the values of a uniform, or of uniform proposals
    if 0 < step < (2.0**-1022 if precision == np.float64 else 2.0**-126):  # would be rounded, or be none
        raise ValueError(f"the interval [{law.support[0]}, {law.support[1]}] is too narrow for {precision.name}: {law}")
    return Prepared(type(draw)(*map(real, draw)), real(low), real(high), _ENCODINGS[dtype.name], dtype.itemsize)


def raw_words() -> Prepared:
    """What the kernel needs to store 32-bit words as they are."""
    nothing = np.float32(0)
    return Prepared(WordsDraw(nothing), nothing, nothing, AS_IS, 4)


def _draw(law: Law, precision: np.dtype[Any]) -> Any:
    """The parameters of the law's draws, as floats."""
    low, high = _inside(law.support, precision)
    steps = 2.0 ** -(53 if precision == np.float64 else 24)
    match law:
        case Uniform():
            scale = (law.high - law.low) * steps
            return UniformDraw(scale, law.low + scale / 2, low, high)
        case Normal():
            return NormalDraw(law.mean, law.std)
        case TruncatedNormal(proposal="normal"):
            return TruncatedDraw(law.parent_mean, law.parent_std, low, high)
        case TruncatedNormal():
            return _rare(law, low, high, steps)
    raise AssertionError(law)  # constants are not drawn


def _rare(law: TruncatedNormal, low: float, high: float, steps: float) -> NarrowDraw | TailDraw:
    """The parameters where normal proposals would be wasteful: t counts sigmas from the bound that is nearest."""
    a, b = law.bounds
    below = b <= 0
    near = max(a, -b, 0.0)
    slope = -law.parent_std if below else law.parent_std
    origin = (law.upper if below else law.lower) if near > 0 else law.parent_mean
    if law.proposal == "exponential":
        rate = tail_rate(near)
        return TailDraw(0.5 / rate, rate - near, b - a, slope, origin, low, high)
    step = (b - a) * steps
    return NarrowDraw(step, (0.0 if near > 0 else a) + step / 2, 2 * near, slope, origin, low, high)


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


def _check_fits(law: Law, dtype: np.dtype[Any]) -> None:
    """Refuse parameters and values that overflow."""
    import ml_dtypes

    most = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    numbers = {"mean": law.mean, "std": law.std, "lower bound": law.support[0], "upper bound": law.support[1]}
    if isinstance(law, TruncatedNormal):
        numbers |= {"mean": law.parent_mean, "std": law.parent_std}
    if isinstance(law, Normal):
        numbers["largest value"] = abs(law.mean) + law.std * (9.5 if dtype == np.float64 else 6.8)
    for name, number in numbers.items():
        if math.isfinite(number) and abs(number) > most:
            raise ValueError(f"the law's {name} is {number:.6g}, and {dtype.name} ends at {most:.6g}: {law}")


def constant_of(law: Constant, dtype: np.dtype[Any]) -> Any:
    """The constant as a scalar of a floating, integer or boolean dtype.

    Raises
    ------
    ValueError
        If an integer or boolean dtype does not have the value, or a floating one ends before it.
    """
    if dtype.kind in "iub":
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        number = int(law.value)
        if number != law.value or not least <= number <= most:
            raise ValueError(f"value must be one of {dtype.name}'s, got {law.value}")
        return np.asarray(number, dtype)[()]
    _check_fits(law, dtype)
    first = np.float64(law.value) if dtype == np.float64 else np.float32(float(law.value))
    return np.asarray(first).astype(dtype)[()]
