"""Distributions of elements: frozen values that answer for themselves, without Numba.

The room imports `fastinit.core` alone. To add a distribution, write its class here, one file that answers what
`fastinit.distributions.base.Distribution` asks, and give it a row of `DISTRIBUTIONS`; its transform is a row of
`fastinit.kernels.transforms.TRANSFORMS`.
"""

from fastinit.distributions.base import Distribution
from fastinit.distributions.constant import Constant
from fastinit.distributions.normal import Normal
from fastinit.distributions.truncated_normal import TruncatedNormal
from fastinit.distributions.uniform import Uniform

__all__ = [
    "DISTRIBUTIONS",
    "Constant",
    "Distribution",
    "Normal",
    "TruncatedNormal",
    "Uniform",
]

# The registry, from which the tests take their list
DISTRIBUTIONS: tuple[type[Distribution], ...] = (Constant, Uniform, Normal, TruncatedNormal)
