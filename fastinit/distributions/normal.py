"""The normal distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.core.checks import check_real, check_std
from fastinit.core.dtypes import Precision
from fastinit.distributions.base import Distribution, Parameters
from fastinit.distributions.constant import Constant

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Normal(Distribution):
    """Normal with this mean and standard deviation.

    Examples
    --------
    >>> float(Normal(0.0, 2.0).cdf(0.0))
    0.5
    """

    mean: float
    std: float

    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", check_real("mean", self.mean))
        object.__setattr__(self, "std", check_std(self.std))

    @property
    def support(self) -> tuple[float, float]:
        """The whole line."""
        return -math.inf, math.inf

    @property
    def span(self) -> tuple[float, float]:
        """Eight standard deviations to either side."""
        return self.mean - 8 * self.std, self.mean + 8 * self.std

    @property
    def mirror(self) -> Normal:
        """Normal of the opposite mean."""
        return Normal(-self.mean, self.std)

    @property
    def standard_moments(self) -> Floats:
        """E z**k = (k - 1)!! for even k."""
        return np.array([1, 0, 1, 0, 3, 0, 15, 0, 105, 0, 945, 0, 10395], np.float64)

    def cdf(self, x: ArrayLike) -> Floats:
        """Return P(X <= x)."""
        from scipy.special import ndtr

        if self.std == 0:
            return Constant(self.mean).cdf(x)
        return np.asarray(ndtr((np.asarray(x, np.float64) - self.mean) / self.std))

    def lowered(self, precision: Precision) -> Parameters:
        """Return mean and standard deviation."""
        return Parameters("normal", {"mean": self.mean, "std": self.std})

    def extremes(self, precision: Precision) -> dict[str, float]:
        """Return the largest magnitude that the generator can make, too."""
        largest = abs(self.mean) + self.std * precision.largest_normal
        return {**super().extremes(precision), "largest value": largest}
