"""The distribution of one value."""

from __future__ import annotations

import operator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.core.checks import check_real
from fastinit.core.dtypes import Precision
from fastinit.distributions.base import Distribution, Parameters

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Constant(Distribution):
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
        """Closed interval of the value alone."""
        return float(self.value), float(self.value)

    @property
    def mirror(self) -> Constant:
        """Constant of the opposite sign."""
        return Constant(-self.value)

    @property
    def standard_moments(self) -> Floats:
        """Zeros after the first: z is 0."""
        return np.array([1.0] + 12 * [0.0])

    def cdf(self, x: ArrayLike) -> Floats:
        """Return P(X <= x), a step."""
        return np.asarray(np.asarray(x, np.float64) >= self.value, np.float64)

    def lowered(self, precision: Precision) -> Parameters:
        """Return the value: it is stored, not drawn."""
        return Parameters("constant", {"value": float(self.value)})
