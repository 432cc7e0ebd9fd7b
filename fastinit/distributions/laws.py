"""Distributions of elements: values with moments and a distribution function, without Numba."""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.core.environment import in_default
from fastinit.core.keys import Exact, check_real
from fastinit.core.text import quoted
from fastinit.distributions.moments import Moments, exp, standard_moments

Floats = NDArray[np.float64]
Array = NDArray[Any]
Proposal = Literal["normal", "uniform", "exponential"]

WORTHWHILE = 0.25  # a normal proposal is used where so many fall in the interval: then its retries are cheap


def check_std(value: Any, argument: str = "std") -> float:
    """A standard deviation: finite, zero or more."""
    number = check_real(argument, value)
    if number < 0:
        raise ValueError(f"{argument} must be 0 or more, got {quoted(value)}")
    return number


@dataclass(frozen=True, eq=False)
class Constant(Exact):
    """Every element is ``value``: a float, or an integer, which stays one.

    Examples
    --------
    >>> Constant(2.0).std
    0.0
    >>> Constant(2**53 + 1)  # no float
    Constant(value=9007199254740993)
    """

    value: float

    def __post_init__(self) -> None:
        value: Any = self.value
        number = check_real("value", value)
        with suppress(TypeError):
            number = operator.index(value)
        object.__setattr__(self, "value", number)

    @property
    def mean(self) -> float:
        """The value."""
        return float(self.value)

    @property
    def std(self) -> float:
        """Zero."""
        return 0.0

    @property
    def support(self) -> tuple[float, float]:
        """The closed interval that holds the value."""
        return float(self.value), float(self.value)

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x), a step."""
        return np.asarray(np.asarray(x, np.float64) >= self.value, np.float64)


@dataclass(frozen=True, eq=False)
class Uniform(Exact):
    """Uniform on [low, high].

    Examples
    --------
    >>> Uniform(-1.0, 1.0).std
    0.5773502691896258
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        low, high = check_real("low", self.low), check_real("high", self.high)
        if low > high:
            raise ValueError(f"low must not be above high, got low={low}, high={high}")
        check_real("high - low", high - low)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def mean(self) -> float:
        """The middle of the interval."""
        return self.low + (self.high - self.low) / 2

    @property
    def std(self) -> float:
        """(high - low) / sqrt(12)."""
        return (self.high - self.low) / math.sqrt(12)

    @property
    def support(self) -> tuple[float, float]:
        """The closed interval [low, high]."""
        return self.low, self.high

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x)."""
        if self.low == self.high:
            return Constant(self.low).cdf(x)
        return np.asarray(np.clip((np.asarray(x, np.float64) - self.low) / (self.high - self.low), 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Normal(Exact):
    """Normal with this mean and standard deviation.

    Examples
    --------
    >>> float(Normal(0.0, 2.0).cdf(0.0))
    0.5
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", check_real("mean", self.mean))
        object.__setattr__(self, "std", check_std(self.std))

    @property
    def support(self) -> tuple[float, float]:
        """The whole line."""
        return -math.inf, math.inf

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x)."""
        from scipy.special import ndtr

        if self.std == 0:
            return Constant(self.mean).cdf(x)
        return np.asarray(ndtr((np.asarray(x, np.float64) - self.mean) / self.std))


@dataclass(frozen=True, eq=False, init=False, repr=False)
class TruncatedNormal(Exact):
    """A normal of this mean and std, conditioned on [lower, upper].

    ``mean`` and ``std`` of the constructor are the parent's, kept as ``parent_mean`` and ``parent_std``; the properties
    `mean` and `std` are those of the truncated distribution itself. A bound may be infinite.

    Raises
    ------
    ValueError
        If the parent's std is not above zero, lower is not below upper, or the interval's probability underflows.

    Examples
    --------
    >>> TruncatedNormal(0.0, 1.0, -2.0, 2.0).std
    0.8796256610342398
    >>> round(TruncatedNormal(0.0, 1.0, 5.0, float("inf")).mean, 10)
    5.1865039671
    """

    parent_mean: float
    parent_std: float
    lower: float
    upper: float
    _moments: Moments = field(compare=False)

    def __init__(self, mean: float, std: float, lower: float, upper: float) -> None:
        values = {
            "parent_mean": check_real("mean", mean),
            "parent_std": check_std(std),
            "lower": check_real("lower", lower, infinite=True),
            "upper": check_real("upper", upper, infinite=True),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.parent_std == 0:
            raise ValueError(f"std must be above 0 for a truncated normal, got {quoted(std)}")
        if not self.lower < self.upper:
            raise ValueError(f"lower must be below upper, got lower={self.lower}, upper={self.upper}")
        object.__setattr__(self, "_moments", standard_moments(*self.bounds))

    def __repr__(self) -> str:
        return (
            f"TruncatedNormal(mean={self.parent_mean}, std={self.parent_std}, lower={self.lower}, upper={self.upper})"
        )

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval in units of the parent's standard deviation, from its mean."""
        return (self.lower - self.parent_mean) / self.parent_std, (self.upper - self.parent_mean) / self.parent_std

    @property
    def mean(self) -> float:
        """The truncated distribution's mean."""
        return self.parent_mean + self.parent_std * self._moments.mean

    @property
    def std(self) -> float:
        """The truncated distribution's standard deviation."""
        return self.parent_std * self._moments.std

    @property
    def support(self) -> tuple[float, float]:
        """The closed interval [lower, upper]."""
        return self.lower, self.upper

    @cached_property
    @in_default
    def proposal(self) -> Proposal:
        """What rejection draws from; part of the value contract, since it decides which words an element sees.

        ``normal`` where at least a quarter of the parent lies inside; else ``uniform`` or, for an interval without the
        mean, ``exponential`` (Robert 1995), whichever is accepted more often. With I the integral of the
        density over the interval, relative to its largest value there: a uniform is accepted with probability
        I / (upper - lower), an exponential of rate r = (alpha + sqrt(alpha**2 + 4)) / 2 from the bound alpha with
        probability r exp(-(r - alpha)**2 / 2) I, in units of sigma. No interval is left with less than a half.
        """
        a, b = self.bounds
        if self._moments.probability >= WORTHWHILE:
            return "normal"
        near = max(a, -b)
        if near <= 0:
            return "uniform"
        rate = tail_rate(near)
        exponential = rate * exp(-(rate - near) * (rate - near) / 2)
        return "uniform" if 1 / (b - a) >= exponential else "exponential"

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x)."""
        from scipy.special import erf, log_ndtr

        a, b = self.bounds
        z = np.clip((np.asarray(x, np.float64) - self.parent_mean) / self.parent_std, a, b)
        if a < 0 < b:
            low, here, high = (erf(x / math.sqrt(2)) for x in (a, z, b))  # precise near 0, however narrow the interval
            return np.asarray((here - low) / (high - low))
        sign, edge, far = (1, a, b) if a >= 0 else (-1, -b, -a)
        beyond = np.expm1(log_ndtr(-sign * z) - log_ndtr(-edge)) / np.expm1(log_ndtr(-far) - log_ndtr(-edge))
        return np.asarray(beyond if sign == 1 else 1 - beyond)


Distribution = Constant | Uniform | Normal | TruncatedNormal


def tail_rate(edge: float) -> float:
    """The best rate of an exponential proposal beyond ``edge`` > 0 sigma (Robert 1995, equation 2.3)."""
    return (edge + math.sqrt(edge * edge + 4)) / 2
