"""Initializers: small frozen values that say which distribution a tensor of a given shape gets.

A factory checks its arguments and returns a *rule*, a function from the global shape to the distribution of the
elements, or to a matrix that is made as a whole; the decorator wraps it up with the factory's name and arguments, which
make equality, hashing, pickling, the repr and `parse` one mechanism. All that scale with a tensor's fans are one call
of `_scaling`, which is `variance_scaling`.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec

from fastinit.core.environment import in_default
from fastinit.core.keys import check_flag, check_integer, check_real, check_shape, exactly
from fastinit.core.text import quoted
from fastinit.distributions import (
    Constant,
    Distribution,
    Normal,
    TruncatedNormal,
    Uniform,
    check_std,
)
from fastinit.distributions.moments import standard_moments
from fastinit.initializers.connections import MODES, axes_of, check_choice, check_layout, fans, gain
from fastinit.initializers.matrices import Identity, Matrix, Orthogonal, Sparse

MOST_TEXT = 1000  # characters that `parse` reads

P = ParamSpec("P")
Shape = Sequence[int]
Rule = Callable[[Shape], Distribution | Matrix]
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Shaped = Literal["uniform", "normal", "truncated_normal"]

_FACTORIES: dict[str, Callable[..., Initializer]] = {}
_BUILDS: dict[str, tuple[Callable[..., Rule], Mapping[str, inspect.Parameter]]] = {}  # what makes the rules of each


@dataclass(frozen=True, eq=False, repr=False)
class Initializer:
    """A rule that gives each tensor its distribution, or makes it as a whole; made by the factories of this module.

    Two initializers are equal when they are the same factory with the same arguments, of which 0.0 and -0.0 are two.
    The repr is the text that `parse` reads back.

    Parameters
    ----------
    factory
        A factory's name.
    arguments
        Its arguments, as pairs of a name and a value; those that are the defaults are skipped.

    Examples
    --------
    >>> he_normal(mode="fan_out")
    he_normal(mode='fan_out')
    >>> he_normal(mode="fan_in") == he_normal()
    True
    """

    factory: str
    arguments: tuple[tuple[str, Any], ...]
    rule: Rule = field(init=False, compare=False)  # made of the others, so that equal ones cannot have different rules
    _key: tuple[Any, ...] = field(init=False, compare=False)

    @in_default
    def __post_init__(self) -> None:
        build, parameters = _BUILDS[check_choice("factory", self.factory, _BUILDS)]
        given = dict(self.arguments)
        rule = build(**given)
        plain = {name: _plain(given[name]) for name in parameters if name in given}
        changed = tuple(one for one in plain.items() if exactly(one[1]) != exactly(parameters[one[0]].default))
        key = (build.__name__, tuple((name, exactly(value)) for name, value in changed))
        for name, value in zip(("factory", "arguments", "rule", "_key"), (key[0], changed, rule, key), strict=True):
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Initializer) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @in_default
    def distribution(self, global_shape: Shape) -> Distribution:
        """The distribution of the elements of a tensor of this shape.

        Parameters
        ----------
        global_shape
            The shape of the whole tensor, also where only a shard of it is filled: the fans come from it.

        Raises
        ------
        TypeError
            If the elements have no distribution of their own: those of `orthogonal`, `delta_orthogonal`, `eye`, `dirac`
            and `sparse` depend on each other.
        ValueError
            If the initializer needs fans that the shape does not have.

        Examples
        --------
        >>> he_normal().distribution((256, 128)).std
        0.125
        """
        found = self.rule(check_shape("global_shape", global_shape))
        if isinstance(found, Matrix):
            raise TypeError(
                f"{self} has no distribution: the elements of its tensors depend on each other; make the tensor, with "
                "fastinit.array, and look at that"
            )
        return found

    def __repr__(self) -> str:
        return f"{self.factory}({', '.join(f'{name}={value!r}' for name, value in self.arguments)})"

    def __reduce__(self) -> tuple[type[Initializer], tuple[str, tuple[tuple[str, Any], ...]]]:
        return Initializer, (self.factory, self.arguments)


def _initializer(build: Callable[P, Rule]) -> Callable[P, Initializer]:
    """The factory of initializers whose rule ``build`` makes."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def factory(*args: P.args, **kwargs: P.kwargs) -> Initializer:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{build.__name__}: {error}") from None
        return Initializer(build.__name__, tuple(given.items()))

    factory.__signature__ = signature.replace(return_annotation=Initializer)  # type: ignore[attr-defined]
    _FACTORIES[build.__name__] = factory
    _BUILDS[build.__name__] = build, signature.parameters
    return factory


def _plain(value: Any) -> Any:
    """An argument as its repr should show it: numbers of other kinds as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else float(value)


def _everywhere(distribution: Distribution) -> Rule:
    """The rule that gives every shape this distribution."""
    return lambda shape: distribution


@_initializer
def constant(value: float) -> Rule:
    """Every element is ``value``.

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
    return _everywhere(Constant(value))


@_initializer
def zeros() -> Rule:
    """Every element is 0.

    Examples
    --------
    >>> zeros().distribution((3,))
    Constant(value=0.0)
    """
    return _everywhere(Constant(0.0))


@_initializer
def ones() -> Rule:
    """Every element is 1.

    Examples
    --------
    >>> ones().distribution((3,))
    Constant(value=1.0)
    """
    return _everywhere(Constant(1.0))


@_initializer
def uniform(low: float = 0.0, high: float = 1.0) -> Rule:
    """Uniform on [low, high].

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
    return _everywhere(Uniform(low, high))


def _scaled(std: float, depth: int | None, mup: float) -> float:
    """The std divided by sqrt(2 depth mup): the only place where depth and width multipliers become a factor."""
    multiplier = check_real("mup", mup)
    if multiplier <= 0:
        raise ValueError(f"mup, the width relative to the base model's, must be above 0, got {quoted(mup)}")
    if depth is not None:
        multiplier = check_real("2 * depth * mup", multiplier * 2 * check_integer("depth", depth, 1))
    return std / math.sqrt(multiplier)  # by 1, and so exactly, where neither is given


@_initializer
def normal(mean: float = 0.0, std: float = 1.0, *, depth: int | None = None, mup: float = 1.0) -> Rule:
    """Normal with this mean and standard deviation.

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
    return _everywhere(Normal(mean, _scaled(check_std(std), depth, mup)))


@_initializer
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
) -> Rule:
    """A normal conditioned on an interval: drawn again until it falls inside, never clamped.

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
    mean, std = check_real("mean", mean), _scaled(check_std(std), depth, mup)
    lower, upper = check_real("lower", lower, infinite=True), check_real("upper", upper, infinite=True)
    check_choice("bounds", bounds, ("sigma", "absolute"))
    check_choice("std_of", std_of, ("parent", "result"))
    if not lower < upper:
        raise ValueError(f"lower must be below upper, got lower={lower}, upper={upper}")
    if std == 0:
        if bounds == "absolute" and not lower <= mean <= upper:
            raise ValueError(f"with std=0 the mean must be in [lower, upper] = [{lower}, {upper}], got {mean}")
        return _everywhere(Constant(mean))
    if bounds == "sigma":
        parent = std
        if std_of == "result":
            result = standard_moments(lower, upper).std
            if result == 0:
                raise ValueError(f"[lower, upper] = [{lower}, {upper}] is too narrow for any std of the result")
            parent = std / result
        return _everywhere(TruncatedNormal(mean, parent, mean + lower * parent, mean + upper * parent))
    parent = _parent_std(mean, std, lower, upper) if std_of == "result" else std
    return _everywhere(TruncatedNormal(mean, parent, lower, upper))


def _parent_std(mean: float, std: float, lower: float, upper: float) -> float:
    """The parent's std for which the distribution truncated to [lower, upper] has this std, by bisection on its
    logarithm.

    The result's std grows with the parent's, from 0 to that of a uniform on the interval (infinity for a half line).
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


def _scaling(
    scale: float,
    mode: str,
    distribution: str,
    layout: str,
    groups: int,
    transposed: bool,
    depth: int | None,
    mup: float,
) -> Rule:
    """The rule of variance scale / fan: the only place where fans become a spread."""
    factor = _scaled(math.sqrt(check_std(scale, "scale")), depth, mup)
    check_choice("mode", mode, MODES)
    check_choice("distribution", distribution, ("uniform", "normal", "truncated_normal"))
    check_layout(layout)
    check_integer("groups", groups, 1)
    check_flag("transposed", transposed)

    def rule(shape: Shape) -> Distribution:
        fan = max(fans(shape, layout, groups, transposed).reduce(mode), 1.0)  # an empty tensor may have a fan of 0
        std = factor / math.sqrt(fan)
        if distribution == "uniform":
            return Uniform(-math.sqrt(3) * std, math.sqrt(3) * std)
        if distribution == "normal" or std == 0:
            return Normal(0.0, std)
        parent = std / standard_moments(-2.0, 2.0).std
        return TruncatedNormal(0.0, parent, -2 * parent, 2 * parent)

    return rule


@_initializer
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
) -> Rule:
    """Zero mean and variance scale / fan; every scaled initializer is one call of this.

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
    distribution: str, gain: float, layout: str, groups: int, transposed: bool, depth: int | None, mup: float
) -> Rule:
    """The Xavier family: variance gain**2 / fan_avg."""
    factor = check_std(gain, "gain")
    return _scaling(factor * factor, "fan_avg", distribution, layout, groups, transposed, depth, mup)


@_initializer
def xavier_uniform(
    gain: float = 1.0,
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """Uniform on [-b, b], b = gain sqrt(6 / (fan_in + fan_out)): Glorot and Bengio (2010), equation 16.

    The compromise between the variance of activations and that of gradients; std gain sqrt(2 / (fan_in + fan_out)).

    Parameters
    ----------
    gain
        A factor, >= 0, for the nonlinearity: see `gain`.
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`.
    depth, mup
        Divide the std: see `variance_scaling`.

    Examples
    --------
    >>> xavier_uniform().distribution((256, 128))
    Uniform(low=-0.125, high=0.125)
    """
    return _xavier("uniform", gain, layout, groups, transposed, depth, mup)


@_initializer
def xavier_normal(
    gain: float = 1.0,
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """Normal of std gain sqrt(2 / (fan_in + fan_out)): Glorot and Bengio (2010), equation 12.

    torch's ``xavier_normal_``; JAX's and Keras's ``glorot_normal`` is `xavier_truncated_normal`.

    Parameters
    ----------
    gain, layout, groups, transposed, depth, mup
        As in `xavier_uniform`.

    Examples
    --------
    >>> xavier_normal().distribution((256, 256)).std
    0.0625
    """
    return _xavier("normal", gain, layout, groups, transposed, depth, mup)


@_initializer
def xavier_truncated_normal(
    gain: float = 1.0,
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """`xavier_normal`'s std, as the result of a normal truncated at two of its own sigma: JAX's ``glorot_normal``.

    Parameters
    ----------
    gain, layout, groups, transposed, depth, mup
        As in `xavier_uniform`.

    Examples
    --------
    >>> round(xavier_truncated_normal().distribution((256, 256)).std, 12)
    0.0625
    """
    return _xavier("truncated_normal", gain, layout, groups, transposed, depth, mup)


def _he(
    distribution: str,
    mode: str,
    nonlinearity: str,
    a: float,
    layout: str,
    groups: int,
    transposed: bool,
    depth: int | None,
    mup: float,
) -> Rule:
    """The He family: variance gain**2 / fan."""
    if not isinstance(nonlinearity, str):  # a function could not be written down, nor parsed
        raise TypeError(
            f"nonlinearity must be a name, got {quoted(nonlinearity)}; for a function f use "
            "variance_scaling(fastinit.gain(f) ** 2)"
        )
    factor = gain(nonlinearity, check_real("a", a))
    return _scaling(factor * factor, mode, distribution, layout, groups, transposed, depth, mup)


@_initializer
def he_uniform(
    *,
    mode: Mode = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.01,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """Uniform on [-b, b], b = gain sqrt(3 / fan): He et al. (2015), equation 10 (fan_in) or 14 (fan_out).

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

    Examples
    --------
    >>> he_uniform().distribution((256, 96))
    Uniform(low=-0.25, high=0.25)
    """
    return _he("uniform", mode, nonlinearity, a, layout, groups, transposed, depth, mup)


@_initializer
def he_normal(
    *,
    mode: Mode = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.01,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """Normal of std gain / sqrt(fan): He et al. (2015), equation 10 (fan_in) or 14 (fan_out).

    torch's ``kaiming_normal_``; JAX's and Keras's ``he_normal`` is `he_truncated_normal`.

    Parameters
    ----------
    mode, nonlinearity, a, layout, groups, transposed, depth, mup
        As in `he_uniform`.

    Examples
    --------
    >>> he_normal().distribution((256, 128)).std
    0.125
    """
    return _he("normal", mode, nonlinearity, a, layout, groups, transposed, depth, mup)


@_initializer
def he_truncated_normal(
    *,
    mode: Mode = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.01,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """`he_normal`'s std, as the result of a normal truncated at two of its own sigma: JAX's ``he_normal``.

    Parameters
    ----------
    mode, nonlinearity, a, layout, groups, transposed, depth, mup
        As in `he_uniform`.

    Examples
    --------
    >>> round(he_truncated_normal().distribution((256, 128)).std, 12)
    0.125
    """
    return _he("truncated_normal", mode, nonlinearity, a, layout, groups, transposed, depth, mup)


@_initializer
def lecun_uniform(
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """Uniform on [-b, b], b = sqrt(3 / fan_in): LeCun et al. (1998), Efficient backprop, equation 16.

    Parameters
    ----------
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`.
    depth, mup
        Divide the std: see `variance_scaling`.

    Examples
    --------
    >>> lecun_uniform().distribution((256, 48))
    Uniform(low=-0.25, high=0.25)
    """
    return _scaling(1.0, "fan_in", "uniform", layout, groups, transposed, depth, mup)


@_initializer
def lecun_normal(
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """Normal of std 1 / sqrt(fan_in): LeCun et al. (1998); with selu, Klambauer et al. (2017).

    Parameters
    ----------
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`.
    depth, mup
        Divide the std: see `variance_scaling`.

    Examples
    --------
    >>> lecun_normal().distribution((256, 64)).std
    0.125
    """
    return _scaling(1.0, "fan_in", "normal", layout, groups, transposed, depth, mup)


@_initializer
def lecun_truncated_normal(
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
    depth: int | None = None,
    mup: float = 1.0,
) -> Rule:
    """`lecun_normal`'s std, as the result of a normal truncated at two of its own sigma: JAX's ``lecun_normal``.

    Parameters
    ----------
    layout, groups, transposed
        How the shape is read: see `fastinit.fans`.
    depth, mup
        Divide the std: see `variance_scaling`.

    Examples
    --------
    >>> round(lecun_truncated_normal().distribution((256, 64)).std, 12)
    0.125
    """
    return _scaling(1.0, "fan_in", "truncated_normal", layout, groups, transposed, depth, mup)


@_initializer
def orthogonal(gain: float = 1.0, *, layout: str = "OI...") -> Rule:
    """Orthogonal, from the Haar measure: Saxe et al. (2014); Mezzadri (2007), section 4, for the measure.

    As a matrix of the outputs by all else, the weight W has orthonormal rows, W W^T = gain**2 I, if it has no more rows
    than columns, and else orthonormal columns, W^T W = gain**2 I: to 1e-6 in float32. It is Q of the QR decomposition
    of the tensor's contract normals (of the transpose where that is taller), each column times the sign of its element
    on R's diagonal.

    Parameters
    ----------
    gain
        A factor, >= 0: see `gain`.
    layout
        O the axes of the outputs, N those of stacked weights, each orthogonal by itself, all other letters flattened
        in C order: see `fastinit.fans`. torch's ``orthogonal_`` is ``"OI..."``, Keras's and JAX's ``"...IO"``.

    Notes
    -----
    The decomposition is LAPACK's, in float64, then rounded to float32, and for 16 bits from there. Its last bits are
    LAPACK's and not part of the value contract. Any region is the slice of the whole, for which the whole is made: 8
    bytes for each element of one weight, and 4 for the normals while they are converted. LAPACK has threads of its own,
    and cannot be interrupted within a weight.

    Raises
    ------
    ValueError
        If gain < 0, or the shape has no axis beside the outputs'.

    Examples
    --------
    >>> import fastinit
    >>> w = fastinit.array((3, 2), orthogonal(2.0), seed=0, name="w")
    >>> abs(w.T @ w).round(5).tolist()
    [[4.0, 0.0], [0.0, 4.0]]
    """
    factor = check_std(gain, "gain")
    check_layout(layout)

    def rule(shape: Shape) -> Matrix:
        axes = axes_of(shape, layout)
        if not set(axes) - {"O", "N"}:
            raise ValueError(f"orthogonal needs an axis beside the outputs', got shape {shape} as {quoted(layout)}")
        return Orthogonal(tuple(shape), factor, axes, delta=False)

    return rule


@_initializer
def delta_orthogonal(gain: float = 1.0, *, layout: str = "OI...") -> Rule:
    """Convolution that is zero but for its middle tap, which is `orthogonal`: Xiao et al. (2018), algorithm 1.

    With the matrix H of the middle tap, H^T H = gain**2 I: a convolution with it keeps norms. Like JAX's, the middle of
    an even size k is (k - 1) // 2.

    Parameters
    ----------
    gain
        A factor, >= 0: see `gain`.
    layout
        How the shape is read: see `fastinit.fans`. JAX's is ``"...IO"``.

    Raises
    ------
    ValueError
        If gain < 0, or the shape has no receptive field or more inputs than outputs.

    Examples
    --------
    >>> import fastinit
    >>> w = fastinit.array((3, 2, 3), delta_orthogonal(), seed=0, name="w")
    >>> abs(w[:, :, 1].T @ w[:, :, 1]).round(5).tolist(), int(abs(w[:, :, [0, 2]]).max())
    ([[1.0, 0.0], [0.0, 1.0]], 0)
    """
    factor = check_std(gain, "gain")
    check_layout(layout)

    def rule(shape: Shape) -> Matrix:
        axes = _convolution("delta_orthogonal", shape, layout)
        if shape[axes.index("O")] < shape[axes.index("I")]:
            raise ValueError(
                f"delta_orthogonal needs as many outputs as inputs or more, got {shape} as {quoted(layout)}"
            )
        return Orthogonal(tuple(shape), factor, axes, delta=True)

    return rule


def _convolution(name: str, shape: Shape, layout: str) -> str:
    """The axes of a convolution's weight: one for outputs, one for inputs, and a receptive field."""
    axes = axes_of(shape, layout)
    if axes.count("O") != 1 or axes.count("I") != 1 or not set(axes) - set("OIN"):
        raise ValueError(
            f"{name} needs one axis of outputs, one of inputs and a field, got {shape} as {quoted(layout)}"
        )
    return axes


@_initializer
def eye(gain: float = 1.0) -> Rule:
    """The identity times ``gain``, rectangular or square: ``torch.nn.init.eye_``, Keras's ``Identity``.

    Parameters
    ----------
    gain
        What the diagonal holds, finite.

    Raises
    ------
    ValueError
        If the shape does not have two axes.

    Examples
    --------
    >>> import fastinit
    >>> fastinit.array((2, 3), eye(), seed=0, name=0).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    factor = check_real("gain", gain)

    def rule(shape: Shape) -> Matrix:
        if len(shape) != 2:
            raise ValueError(f"eye needs a tensor of two axes, got shape {shape}")
        return Identity(tuple(shape), factor, "OI", 1)

    return rule


@_initializer
def dirac(groups: int = 1, *, layout: str = "OI...") -> Rule:
    """Convolution that passes its inputs on: ``torch.nn.init.dirac_``.

    Output k of a group is the group's input k, through a 1 at the middle of the field, k // 2 of a size k, as far as
    there are inputs; all else is 0.

    Parameters
    ----------
    groups
        Groups of a grouped convolution, of whose channels the I axis counts one group's.
    layout
        How the shape is read: see `fastinit.fans`.

    Raises
    ------
    ValueError
        If the shape has no receptive field, or the groups do not divide the outputs.

    Examples
    --------
    >>> import fastinit
    >>> fastinit.array((2, 2, 3), dirac(), seed=0, name=0).tolist()
    [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    groups = check_integer("groups", groups, 1)
    check_layout(layout)

    def rule(shape: Shape) -> Matrix:
        axes = _convolution("dirac", shape, layout)
        if shape[axes.index("O")] % groups:
            raise ValueError(f"groups must divide the {shape[axes.index('O')]} outputs of shape {shape}, got {groups}")
        return Identity(tuple(shape), 1.0, axes, groups)

    return rule


@_initializer
def sparse(sparsity: float, std: float = 0.01, *, layout: str = "OI") -> Rule:
    """Normal with exactly ceil(sparsity * rows) zeros in each column: Martens (2010), ``torch.nn.init.sparse_``.

    A row is an output, a column an input. Element i of the tensor has as its key the word i mod 4 of the block i div 4
    at attempt 1, of any precision; the elements of the smallest keys of a column are zero, of equal keys the upper one
    first. All others are those of ``normal(0, std)``.

    Parameters
    ----------
    sparsity
        In [0, 1]. The product with the rows is that of the decimal number as it is written: 0.07 of 100 rows are 7;
        torch computes 7.000000000000001 and takes 8.
    std
        Of the normal, >= 0.
    layout
        ``"OI"``, or ``"IO"`` for Keras and JAX.

    Notes
    -----
    A region needs the keys of all its columns, 16 bytes each. Columns are made together up to 32 MiB of them.

    Raises
    ------
    ValueError
        If the sparsity is not in [0, 1], std < 0, or the shape does not have two axes.

    Examples
    --------
    >>> import fastinit
    >>> w = fastinit.array((100, 4), sparse(0.07), seed=0, name="w")
    >>> (w == 0).sum(axis=0).tolist()
    [7, 7, 7, 7]
    """
    share, spread = check_real("sparsity", sparsity), check_std(std)
    if not 0 <= share <= 1:
        raise ValueError(f"sparsity must be in [0, 1], got {quoted(sparsity)}")
    check_choice("layout", layout, ("OI", "IO"))

    def rule(shape: Shape) -> Matrix:
        if len(shape) != 2:
            raise ValueError(f"sparse needs a tensor of two axes, got shape {shape}")
        return Sparse(tuple(shape), spread, share, layout)

    return rule


glorot_uniform, glorot_normal, glorot_truncated_normal = xavier_uniform, xavier_normal, xavier_truncated_normal
kaiming_uniform, kaiming_normal, kaiming_truncated_normal = he_uniform, he_normal, he_truncated_normal
for _family, _alias in (("xavier_", "glorot_"), ("he_", "kaiming_")):
    for _name in [name for name in _FACTORIES if name.startswith(_family)]:
        _other = _alias + _name.removeprefix(_family)
        _FACTORIES[_other], _BUILDS[_other] = _FACTORIES[_name], _BUILDS[_name]

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def brief(init: Initializer) -> str:
    """An initializer as one types it, without empty parentheses; `parse` reads it back."""
    return str(init).removesuffix("()")


def parse(text: str, names: Mapping[str, float] | None = None) -> Initializer:
    """The initializer that a text names: a factory, with literal arguments in brackets if it takes any.

    Nothing is evaluated: the text is taken apart by Python's grammar, and everything but a call of a factory with
    numbers, strings, True and False is refused. ``inf`` is a number. `repr` is the inverse.

    Parameters
    ----------
    text
        Such as ``"he_normal"`` or ``"truncated_normal(std=0.02, lower=-3.0, upper=3.0)"``.
    names
        Numbers that the text may use by name. Only with them it may compute, by + - * / and sqrt: a recipe says
        ``"normal(std=0.02 / sqrt(2 * layers))"``.

    Raises
    ------
    TypeError
        If the text is not a string, or the factory does not take such arguments.
    ValueError
        If it is not such a text, or the factory refuses a value.

    Examples
    --------
    >>> parse("he_normal(mode='fan_out')")
    he_normal(mode='fan_out')
    >>> parse("normal(std=0.02 / sqrt(2 * layers))", {"layers": 2}).distribution((3,)).std
    0.01
    """
    if not isinstance(text, str):
        raise TypeError(f"an initializer's text must be a string, got {quoted(text)}")
    if len(text) > MOST_TEXT:
        raise ValueError(f"an initializer's text must have at most {MOST_TEXT} characters, got {quoted(text)}")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"not the text of an initializer: {quoted(text)}") from None
    call = ast.Call(node, [], []) if isinstance(node, ast.Name) else node
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise ValueError(f"an initializer is written as name(argument=value, ...), got {quoted(text)}")
    factory = _FACTORIES[check_choice("the initializer", call.func.id, _FACTORIES)]
    try:
        arguments = [_value(item, names) for item in call.args]
        keywords = {str(item.arg): _value(item.value, names) for item in call.keywords}
        if len(keywords) < len(call.keywords) or any(item.arg is None for item in call.keywords):
            raise ValueError("each argument must be given once, by its name")
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"in {quoted(text)}: {error}") from None
    try:
        return factory(*arguments, **keywords)
    except TypeError as error:
        raise TypeError(f"in {quoted(text)}: {error}") from None


def _value(node: ast.expr, names: Mapping[str, float] | None) -> Any:
    """The value of one argument of `parse`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        return node.value
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand, names)
    if names is not None:
        if isinstance(node, ast.Name):
            return names[check_choice("a name", node.id, names)]
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](_number(node.left, names), _number(node.right, names))
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "sqrt"
            and len(node.args) == 1
            and not node.keywords
        ):
            return math.sqrt(_number(node.args[0], names))
    raise ValueError(f"{quoted(ast.unparse(node))} is not a literal value")


def _number(node: ast.expr, names: Mapping[str, float] | None) -> float:
    """A value that can be computed with."""
    value = _value(node, names)
    if isinstance(value, (bool, str)):
        raise ValueError(f"{quoted(value)} is not a number")
    return float(value) if isinstance(value, float) or abs(value) > 1 << 53 else value
