"""The parameters of transforms, small named tuples: a distribution's class here chooses the functions that draw it.

Nothing here is compiled, so that whoever has compiled kernels on disk needs no compiler.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class UniformTransform(NamedTuple):
    """k scale + offset for the top bits k of a word, held in [low, high]."""

    scale: Any
    offset: Any
    low: Any
    high: Any


class NormalTransform(NamedTuple):
    """A normal by mean and standard deviation."""

    mean: Any
    std: Any


class TruncatedTransform(NamedTuple):
    """A normal that is drawn again until it falls in [lower, upper]."""

    mean: Any
    std: Any
    lower: Any
    upper: Any


class NarrowTransform(NamedTuple):
    """A truncated normal by uniform proposals t = k step + start, worth origin + t slope.

    t is in units of sigma, from the mean where the interval holds it (bend = 0), else from the bound that is nearest to
    it, at distance bend / 2 from the mean. A proposal survives with probability exp(-t (t + bend) / 2).
    """

    step: Any
    start: Any
    bend: Any
    slope: Any
    origin: Any
    lower: Any
    upper: Any


class TailTransform(NamedTuple):
    """A truncated normal by exponential proposals t of mean 2 half_mean beyond the bound ``origin``.

    Robert (1995), Simulation of truncated normal variables: at a bound of alpha sigma the best rate is
    r = (alpha + sqrt(alpha**2 + 4)) / 2, and a proposal survives with probability exp(-(t - gap)**2 / 2), gap = r -
    alpha, if it falls within the interval's ``width``. ``slope`` is sigma, negative below the mean.
    """

    half_mean: Any
    gap: Any
    width: Any
    slope: Any
    origin: Any
    lower: Any
    upper: Any


class WordsTransform(NamedTuple):
    """The words themselves, as the bits of floats: for `fastinit.words`."""

    width: Any  # of no use but its type


# By name; the functions that compute with them are rows of `fastinit.kernels.transforms`
PARAMETERS: dict[str, Any] = {
    "words": WordsTransform,
    "uniform": UniformTransform,
    "normal": NormalTransform,
    "truncated": TruncatedTransform,
    "narrow": NarrowTransform,
    "tail": TailTransform,
}
REDRAWN = TruncatedTransform, NarrowTransform, TailTransform  # whose values are looked at again once they are made
# Values that are not redrawn are multiples of this times the smallest of their parameters but zeros, as float32
GRAINS = {UniformTransform: 2.0**-24, NormalTransform: 2.0**-98}
