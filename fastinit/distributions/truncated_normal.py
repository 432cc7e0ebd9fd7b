"""The truncated normal distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.core.checks import check_real, check_std
from fastinit.core.dtypes import Precision, inside
from fastinit.core.environment import in_default
from fastinit.core.text import quoted
from fastinit.distributions.base import Distribution, Parameters
from fastinit.distributions.moments import Moments, exp, moments_of_density, standard_moments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Proposal = Literal["normal", "uniform", "exponential"]

WORTHWHILE = 0.25  # probability of the interval from which on normal proposals are used: then retries are cheap


@dataclass(frozen=True, eq=False, init=False, repr=False)
class TruncatedNormal(Distribution):
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
        """Interval in units of the parent's standard deviation, from its mean."""
        return (self.lower - self.parent_mean) / self.parent_std, (self.upper - self.parent_mean) / self.parent_std

    @property
    def mean(self) -> float:
        """Mean of the truncated distribution."""
        return self.parent_mean + self.parent_std * self._moments.mean

    @property
    def std(self) -> float:
        """Standard deviation of the truncated distribution."""
        return self.parent_std * self._moments.std

    @property
    def support(self) -> tuple[float, float]:
        """Closed interval [lower, upper]."""
        return self.lower, self.upper

    @property
    def nearest(self) -> float:
        """Distance from the parent's mean to the interval, in its standard deviations."""
        a, b = self.bounds
        return max(a, -b, 0.0)

    @property
    def span(self) -> tuple[float, float]:
        """Support up to where the density has fallen by exp(-32) from its largest value."""
        return self._within(64)

    def _within(self, drop: float) -> tuple[float, float]:
        """Return the support up to where the density has fallen by exp(-drop / 2) from its largest value."""
        a, b = self.bounds
        reach = math.sqrt(self.nearest * self.nearest + drop)
        return self.parent_mean + self.parent_std * max(a, -reach), self.parent_mean + self.parent_std * min(b, reach)

    @property
    def mirror(self) -> TruncatedNormal:
        """Truncated normal of the opposite mean and bounds."""
        return TruncatedNormal(-self.parent_mean, self.parent_std, -self.upper, -self.lower)

    @property
    def standard_moments(self) -> Floats:
        """E z**k for k in 0 ... 12, by quadrature: the closed forms cancel."""

        def density(x: Floats) -> Floats:
            t = (x - self.parent_mean) / self.parent_std
            return np.asarray(np.exp((self.nearest * self.nearest - t * t) / 2))

        return moments_of_density(density, *self._within(196))

    @property
    @in_default
    def proposal(self) -> Proposal:
        """Proposal of the rejection sampling; part of the value contract, since it decides which words an element sees.

        ``normal`` where at least a quarter of the parent lies inside; else ``uniform`` or, for an interval without the
        mean, ``exponential`` (Robert 1995), whichever is accepted more often. With I the integral of the
        density over the interval, relative to its largest value there: a uniform is accepted with probability
        I / (upper - lower), an exponential of rate r = (alpha + sqrt(alpha**2 + 4)) / 2 from the bound alpha with
        probability r exp(-(r - alpha)**2 / 2) I, in units of sigma. No interval is left with less than a half.
        """
        a, b = self.bounds
        if self._moments.probability >= WORTHWHILE:
            return "normal"
        near = self.nearest
        if near == 0:
            return "uniform"
        rate = tail_rate(near)
        exponential = rate * exp(-(rate - near) * (rate - near) / 2)
        return "uniform" if 1 / (b - a) >= exponential else "exponential"

    def cdf(self, x: ArrayLike) -> Floats:
        """Return P(X <= x)."""
        from scipy.special import erf, log_ndtr

        a, b = self.bounds
        z = np.clip((np.asarray(x, np.float64) - self.parent_mean) / self.parent_std, a, b)
        if a < 0 < b:
            low, here, high = (erf(x / math.sqrt(2)) for x in (a, z, b))  # precise near 0, however narrow the interval
            return np.asarray((here - low) / (high - low))
        sign, edge, far = (1, a, b) if a >= 0 else (-1, -b, -a)
        beyond = np.expm1(log_ndtr(-sign * z) - log_ndtr(-edge)) / np.expm1(log_ndtr(-far) - log_ndtr(-edge))
        return np.asarray(beyond if sign == 1 else 1 - beyond)

    def lowered(self, precision: Precision) -> Parameters:
        """Return the parameters of its proposal; of the rare ones, t counts sigmas from the bound that is nearest."""
        low, high = inside(self.support, precision.dtype)
        bounds = {"lower": low, "upper": high}
        if self.proposal == "normal":
            return Parameters("truncated", {"mean": self.parent_mean, "std": self.parent_std, **bounds})
        a, b = self.bounds
        below, near = b < 0, self.nearest
        origin = (self.upper if below else self.lower) if near > 0 else self.parent_mean
        line = {"slope": -self.parent_std if below else self.parent_std, "origin": origin, **bounds}
        if self.proposal == "exponential":
            rate = tail_rate(near)
            return Parameters("tail", {"half_mean": 0.5 / rate, "gap": rate - near, "width": b - a, **line})
        step = (b - a) * 2.0**-precision.uniform_bits
        start = (0.0 if near > 0 else a) + step / 2
        return Parameters("narrow", {"step": step, "start": start, "bend": 2 * near, **line}, step=step)

    def extremes(self, precision: Precision) -> dict[str, float]:
        """Return the parent's mean and standard deviation, which are computed with, in place of its own."""
        return {**super().extremes(precision), "mean": self.parent_mean, "std": self.parent_std}


def tail_rate(edge: float) -> float:
    """Return the best rate of an exponential proposal beyond ``edge`` > 0 sigma (Robert 1995, equation 2.3)."""
    return (edge + math.sqrt(edge * edge + 4)) / 2
