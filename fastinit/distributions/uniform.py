"""The uniform distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.core.checks import check_real
from fastinit.core.dtypes import Precision, inside
from fastinit.distributions.base import Distribution, Parameters
from fastinit.distributions.constant import Constant

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Uniform(Distribution):
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
        """Middle of the interval."""
        return self.low + (self.high - self.low) / 2

    @property
    def std(self) -> float:
        """(high - low) / sqrt(12)."""
        return (self.high - self.low) / math.sqrt(12)

    @property
    def support(self) -> tuple[float, float]:
        """Closed interval [low, high]."""
        return self.low, self.high

    @property
    def mirror(self) -> Uniform:
        """Uniform on [-high, -low]."""
        return Uniform(-self.high, -self.low)

    @property
    def standard_moments(self) -> Floats:
        """E z**k = 3**(k / 2) / (k + 1) for even k."""
        return np.array([0.0 if k % 2 else 3.0 ** (k / 2) / (k + 1) for k in range(13)])

    def cdf(self, x: ArrayLike) -> Floats:
        """Return P(X <= x)."""
        if self.low == self.high:
            return Constant(self.low).cdf(x)
        return np.asarray(np.clip((np.asarray(x, np.float64) - self.low) / (self.high - self.low), 0.0, 1.0))

    def lowered(self, precision: Precision) -> Parameters:
        """Return k scale + offset for the top bits k of a word, at the middles of 2**24 (float64: 2**53) cells."""
        low, high = inside(self.support, precision.dtype)
        scale = (self.high - self.low) * 2.0**-precision.uniform_bits
        values = {"scale": scale, "offset": self.low + scale / 2, "low": low, "high": high}
        return Parameters("uniform", values, step=scale)
