"""What elements are distributed as: values with moments and a distribution function."""

from fastinit.distributions.laws import Constant, Distribution, Normal, TruncatedNormal, Uniform

__all__ = ["Constant", "Distribution", "Normal", "TruncatedNormal", "Uniform"]
