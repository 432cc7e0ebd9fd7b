"""The base class of distributions: each answers for itself, so that no other room asks which one it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from fastinit.core.arrays import Floats
from fastinit.core.dtypes import Precision
from fastinit.core.exact import Exact

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Parameters(NamedTuple):
    """A lowered distribution: the name of a transform in `fastinit.kernels.transforms`, and its finished parameters."""

    transform: str
    values: dict[str, float]  # float64, by the names of the transform's fields
    step: float = 0.0  # between neighbouring uniform values, which must not underflow; 0 where there are none


class Distribution(Exact, ABC):
    """A distribution of elements: a frozen dataclass, declared with ``eq=False``, since 0.0 is not -0.0 here."""

    bounded: ClassVar[bool] = True  # values are clamped to the support once they are rounded

    if TYPE_CHECKING:  # no descriptors: a dataclass may have fields of these names

        @property
        def mean(self) -> float:
            """Mean."""

        @property
        def std(self) -> float:
            """Standard deviation."""

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Closed interval outside which there is no value."""

    @property
    def span(self) -> tuple[float, float]:
        """Finite interval that holds all but some 1e-15 of the probability; verification divides it into bins."""
        return self.support

    @property
    @abstractmethod
    def mirror(self) -> Distribution:
        """Distribution of -X."""

    @property
    @abstractmethod
    def standard_moments(self) -> Floats:
        """E z**k for k in 0 ... 12, z = (X - mean) / std."""

    @abstractmethod
    def cdf(self, x: ArrayLike) -> Floats:
        """Return P(X <= x), precise in relative terms where it is small."""

    @abstractmethod
    def lowered(self, precision: Precision) -> Parameters:
        """Return the transform that draws it, with parameters in float64: part of the value contract."""

    def extremes(self, precision: Precision) -> dict[str, float]:
        """Return the numbers that a dtype must be able to hold, by the name that an error gives them."""
        low, high = self.support
        return {"mean": self.mean, "std": self.std, "lower bound": low, "upper bound": high}
