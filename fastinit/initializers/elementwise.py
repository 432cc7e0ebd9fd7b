"""Initializers with one distribution for all shapes."""

from __future__ import annotations

import math
from typing import Literal

from fastinit.core.checks import check_choice, check_integer, check_real, check_std
from fastinit.core.text import quoted
from fastinit.distributions import Constant, Normal, TruncatedNormal, Uniform
from fastinit.distributions.moments import standard_moments
from fastinit.initializers.base import Resolve, everywhere, initializer


def divided_std(std: float, depth: int | None, mup: float) -> float:
    """Divide the std by sqrt(2 depth mup): the only place where depth and width multipliers become a factor."""
    multiplier = check_real("mup", mup)
    if multiplier <= 0:
        raise ValueError(f"mup, the width relative to the base model's, must be above 0, got {quoted(mup)}")
    if depth is not None:
        multiplier = check_real("2 * depth * mup", multiplier * 2 * check_integer("depth", depth, 1))
    return std / math.sqrt(multiplier)  # by 1, and so exactly, where neither is given


@initializer
def constant(value: float) -> Resolve:
    """Set every element to ``value``.

    Parameters
    ----------
    value
        A finite number, which an integer tensor gets to the last digit; it must be one of an integer or boolean
        tensor's values.

    Examples
    --------
    >>> constant(0.5).distribution((3,))
    Constant(value=0.5)
    """
    return everywhere(Constant(value))


@initializer
def zeros() -> Resolve:
    """Set every element to 0.

    Examples
    --------
    >>> zeros().distribution((3,))
    Constant(value=0.0)
    """
    return everywhere(Constant(0.0))


@initializer
def ones() -> Resolve:
    """Set every element to 1.

    Examples
    --------
    >>> ones().distribution((3,))
    Constant(value=1.0)
    """
    return everywhere(Constant(1.0))


@initializer
def uniform(low: float = 0.0, high: float = 1.0) -> Resolve:
    """Draw uniformly on [low, high].

    Parameters
    ----------
    low, high
        The ends, finite, low <= high. An element is low + (k + 1/2) (high - low) 2**-24 for an integer k in [0, 2**24)
        (float64: 53 for 24), rounded once; so an end itself occurs only where rounding reaches it, and is never passed.

    Examples
    --------
    >>> uniform(-0.1, 0.1).distribution((3,))
    Uniform(low=-0.1, high=0.1)
    """
    return everywhere(Uniform(low, high))


@initializer
def normal(mean: float = 0.0, std: float = 1.0, *, depth: int | None = None, mup: float = 1.0) -> Resolve:
    """Draw normals of this mean and standard deviation.

    Parameters
    ----------
    mean, std
        Finite, std >= 0. The tails of a float32 reach 6.7 std, those of a float64 9.4.
    depth
        The number L of residual blocks, for the projections that end their branches: std is divided by sqrt(2 L), so
        that the sum of the 2 L branches does not grow (Radford et al. 2019, section 2.3).
    mup
        The width multiplier m of the maximal update parametrization: the width over that of the base model whose std
        this is; std is divided by sqrt(m). Yang et al. (2022), Tensor Programs V, table 3: the variance of a hidden
        weight falls as 1 / fan_in, which a std of one base width does not do by itself. Input weights and biases keep
        their std; an output weight without a multiplier of its own in the forward pass needs a variance of
        1 / fan_in**2, ``mup=m * m``.

    Examples
    --------
    >>> normal(std=0.02).distribution((3,))
    Normal(mean=0.0, std=0.02)
    >>> normal(std=0.02, depth=2).distribution((3,))
    Normal(mean=0.0, std=0.01)
    """
    return everywhere(Normal(mean, divided_std(check_std(std), depth, mup)))


@initializer
def truncated_normal(
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    bounds: Literal["sigma", "absolute"] = "sigma",
    std_of: Literal["parent", "result"] = "parent",
    depth: int | None = None,
    mup: float = 1.0,
) -> Resolve:
    """Draw normals conditioned on an interval: drawn again until they fall inside, never clamped.

    Parameters
    ----------
    mean
        The parent's mean.
    std
        The standard deviation of the parent, or of the truncated result: see ``std_of``. Zero makes a constant.
    lower, upper
        The closed interval [lower, upper]; either may be infinite.
    bounds
        ``"sigma"``: lower and upper count the parent's standard deviations from its mean, as in JAX and Keras.
        ``"absolute"``: they are values, as in ``torch.nn.init.trunc_normal_``.
    std_of
        ``"parent"``: std is that of the normal before truncation (torch, Keras, JAX's ``truncated_normal``).
        ``"result"``: std is that of the elements; the parent's is derived, exactly, for any bounds.
    depth, mup
        Divide std, as in `normal`; bounds in sigma follow it, absolute ones stay.

    Raises
    ------
    ValueError
        If lower >= upper, the interval's probability underflows (some 37 sigma out), or ``std_of="result"`` asks for
        more than the interval allows: a uniform's (upper - lower) / sqrt(12).

    Examples
    --------
    >>> truncated_normal(std=0.02).distribution((3,))
    TruncatedNormal(mean=0.0, std=0.02, lower=-0.04, upper=0.04)
    >>> truncated_normal(std=0.02, std_of="result").distribution((3,)).std
    0.02
    """
    mean, std = check_real("mean", mean), divided_std(check_std(std), depth, mup)
    lower, upper = check_real("lower", lower, infinite=True), check_real("upper", upper, infinite=True)
    check_choice("bounds", bounds, ("sigma", "absolute"))
    check_choice("std_of", std_of, ("parent", "result"))
    if not lower < upper:
        raise ValueError(f"lower must be below upper, got lower={lower}, upper={upper}")
    if std == 0:
        if bounds == "absolute" and not lower <= mean <= upper:
            raise ValueError(f"with std=0 the mean must be in [lower, upper] = [{lower}, {upper}], got {mean}")
        return everywhere(Constant(mean))
    if bounds == "sigma":
        parent = std
        if std_of == "result":
            result = standard_moments(lower, upper).std
            if result == 0:
                raise ValueError(f"[lower, upper] = [{lower}, {upper}] is too narrow for any std of the result")
            parent = std / result
        return everywhere(TruncatedNormal(mean, parent, mean + lower * parent, mean + upper * parent))
    parent = _parent_std(mean, std, lower, upper) if std_of == "result" else std
    return everywhere(TruncatedNormal(mean, parent, lower, upper))


def _parent_std(mean: float, std: float, lower: float, upper: float) -> float:
    """Return the parent's std for which the distribution truncated to [lower, upper] has this std.

    Found by bisection on its logarithm: the result's std grows with the parent's, from 0 to that of a uniform on the
    interval (infinity for a half line).
    """
    limit = (upper - lower) / math.sqrt(12)
    if std >= limit:
        raise ValueError(
            f"std must be below (upper - lower) / sqrt(12) = {limit:.6g}, the most that [{lower}, {upper}] allows, "
            f"got {std}"
        )

    def result(parent: float) -> float:
        try:
            return parent * standard_moments((lower - mean) / parent, (upper - mean) / parent).std
        except ValueError:  # the interval is too many parents away: far too small a parent
            return 0.0

    low = high = std
    while result(high) < std:
        high *= 2
        if high > 1e6 * max(limit if math.isfinite(limit) else 0.0, abs(mean), std):
            raise ValueError(f"std={std} is too close to its limit, {limit:.6g}, for any parent to be found")
    while result(low) > std:
        low /= 2
    for _ in range(100):
        middle = math.sqrt(low * high)
        if not low < middle < high:
            break
        low, high = (middle, high) if result(middle) < std else (low, middle)
    return high
