"""Initializers whose variance is a scale over a tensor's fan: all are calls of `variance_scaling`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Concatenate, Literal, ParamSpec

from fastinit.core.checks import check_choice, check_flag, check_integer, check_real, check_std
from fastinit.core.text import quoted
from fastinit.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastinit.distributions.moments import standard_moments
from fastinit.initializers.base import Initializer, Resolve, Shape, alias, initializer
from fastinit.initializers.connections import MODES, check_layout, fans
from fastinit.initializers.elementwise import divided_std
from fastinit.initializers.gains import gain as gain_of

P = ParamSpec("P")
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Shaped = Literal["uniform", "normal", "truncated_normal"]


def _scaling(
    scale: float,
    mode: str,
    distribution: str,
    layout: str,
    groups: int,
    transposed: bool,
    depth: int | None,
    mup: float,
) -> Resolve:
    """Return the resolution into variance scale / fan: the only place where fans become a std."""
    factor = divided_std(math.sqrt(check_std(scale, "scale")), depth, mup)
    check_choice("mode", mode, MODES)
    check_choice("distribution", distribution, ("uniform", "normal", "truncated_normal"))
    check_layout(layout)
    check_integer("groups", groups, 1)
    check_flag("transposed", transposed)

    def resolve(shape: Shape) -> Distribution:
        fan = max(fans(shape, layout, groups, transposed).reduce(mode), 1.0)  # an empty tensor may have a fan of 0
        std = factor / math.sqrt(fan)
        if distribution == "uniform":
            return Uniform(-math.sqrt(3) * std, math.sqrt(3) * std)
        if distribution == "normal" or std == 0:
            return Normal(0.0, std)
        parent = std / standard_moments(-2.0, 2.0).std
        return TruncatedNormal(0.0, parent, -2 * parent, 2 * parent)

    return resolve


@initializer
def variance_scaling(
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Shaped = "truncated_normal",
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Resolve:
    """Draw with zero mean and variance scale / fan; every scaled initializer is one case of this.

    Parameters
    ----------
    scale
        The variance of an element times the fan, >= 0.
    mode
        The fan: ``"fan_in"``, ``"fan_out"``, their mean ``"fan_avg"`` or geometric mean ``"fan_geo_avg"``.
    distribution
        ``"uniform"`` on [-b, b] with b = sqrt(3) std, ``"normal"``, or ``"truncated_normal"`` at two standard
        deviations of its parent. The std is the result's in all three.
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`. ``"OI..."`` is torch's layout, ``"...IO"`` Keras's and JAX's.
    depth, mup
        Divide the std by sqrt(2 depth) and sqrt(mup): see `normal`. With ``"fan_in"`` the variance falls with the width
        by itself, and only an output weight needs the width multiplier, ``mup=m``.

    Examples
    --------
    >>> variance_scaling(2.0, "fan_in", "normal").distribution((256, 128)).std
    0.125
    """
    return _scaling(scale, mode, distribution, layout, groups, transposed, depth, mup)


def _xavier(
    distribution: Shaped,
    gain: float = 1.0,
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Resolve:
    """Return the resolution into variance gain**2 / fan_avg.

    Parameters
    ----------
    gain
        A factor, >= 0, for the nonlinearity: see `gain`.
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`.
    depth, mup
        Divide the std: see `variance_scaling`.
    """
    factor = check_std(gain, "gain")
    return _scaling(factor * factor, "fan_avg", distribution, layout, groups, transposed, depth, mup)


def _he(
    distribution: Shaped,
    *,
    mode: Mode = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.01,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Resolve:
    """Return the resolution into variance gain**2 / fan.

    Parameters
    ----------
    mode
        ``"fan_in"`` keeps the variance of activations, ``"fan_out"`` that of gradients.
    nonlinearity, a
        The gain's: see `gain`; ``a`` is the slope of leaky_relu and serves no other.
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`.
    depth, mup
        Divide the std: see `variance_scaling`.
    """
    if not isinstance(nonlinearity, str):  # a function could not be written down, nor parsed
        raise TypeError(
            f"nonlinearity must be a name, got {quoted(nonlinearity)}; for a function f use "
            "variance_scaling(fastinit.gain(f) ** 2)"
        )
    factor = gain_of(nonlinearity, check_real("a", a))
    return _scaling(factor * factor, mode, distribution, layout, groups, transposed, depth, mup)


def _lecun(
    distribution: Shaped,
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Resolve:
    """Return the resolution into variance 1 / fan_in.

    Parameters
    ----------
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`.
    depth, mup
        Divide the std: see `variance_scaling`.
    """
    return _scaling(1.0, "fan_in", distribution, layout, groups, transposed, depth, mup)


def _family(
    scheme: Callable[Concatenate[Shaped, P], Resolve], distribution: Shaped, shape: Shape, std: float, *text: str
) -> Callable[P, Initializer]:
    """Register the factory of a row: the scheme's signature and parameters, an example, and a docstring's text."""

    def build(*args: P.args, **kwargs: P.kwargs) -> Resolve:
        return scheme(distribution, *args, **kwargs)

    name = f"{scheme.__name__.removeprefix('_')}_{distribution}"
    signature = inspect.signature(scheme)
    parameters = str(inspect.getdoc(scheme)).partition("\n\n")[2]
    example = f"Examples\n--------\n>>> round({name}().distribution({shape}).std, 12)\n{std}\n"
    build.__name__ = build.__qualname__ = name
    build.__doc__ = "\n\n".join([*text, parameters, example])
    build.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])  # type: ignore[attr-defined]
    return initializer(build)


# fmt: off
xavier_uniform = _family(_xavier, "uniform", (256, 256), 0.0625,
    "Draw uniformly on [-b, b], b = gain sqrt(6 / (fan_in + fan_out)): Glorot and Bengio (2010), equation 16.",
    "The compromise between the variance of activations and that of gradients; std gain sqrt(2 / (fan_in + fan_out)).")
xavier_normal = _family(_xavier, "normal", (256, 256), 0.0625,
    "Draw normals of std gain sqrt(2 / (fan_in + fan_out)): Glorot and Bengio (2010), equation 12.",
    "torch's ``xavier_normal_``; JAX's and Keras's ``glorot_normal`` is `xavier_truncated_normal`.")
xavier_truncated_normal = _family(_xavier, "truncated_normal", (256, 256), 0.0625,
    "Draw with `xavier_normal`'s std, the result's of a normal truncated at two of its sigma: JAX's ``glorot_normal``.")
he_uniform = _family(_he, "uniform", (256, 128), 0.125,
    "Draw uniformly on [-b, b], b = gain sqrt(3 / fan): He et al. (2015), equation 10 (fan_in) or 14 (fan_out).")
he_normal = _family(_he, "normal", (256, 128), 0.125,
    "Draw normals of std gain / sqrt(fan): He et al. (2015), equation 10 (fan_in) or 14 (fan_out).",
    "torch's ``kaiming_normal_``; JAX's and Keras's ``he_normal`` is `he_truncated_normal`.")
he_truncated_normal = _family(_he, "truncated_normal", (256, 128), 0.125,
    "Draw with `he_normal`'s std, the result's of a normal truncated at two of its sigma: JAX's ``he_normal``.")
lecun_uniform = _family(_lecun, "uniform", (256, 64), 0.125,
    "Draw uniformly on [-b, b], b = sqrt(3 / fan_in): LeCun et al. (1998), Efficient backprop, equation 16.")
lecun_normal = _family(_lecun, "normal", (256, 64), 0.125,
    "Draw normals of std 1 / sqrt(fan_in): LeCun et al. (1998); with selu, Klambauer et al. (2017).")
lecun_truncated_normal = _family(_lecun, "truncated_normal", (256, 64), 0.125,
    "Draw with `lecun_normal`'s std, the result's of a normal truncated at two of its sigma: JAX's ``lecun_normal``.")
# fmt: on

glorot_uniform = alias("glorot_uniform", xavier_uniform)
glorot_normal = alias("glorot_normal", xavier_normal)
glorot_truncated_normal = alias("glorot_truncated_normal", xavier_truncated_normal)
kaiming_uniform = alias("kaiming_uniform", he_uniform)
kaiming_normal = alias("kaiming_normal", he_normal)
kaiming_truncated_normal = alias("kaiming_truncated_normal", he_truncated_normal)
