"""Initializers: small frozen values that say which law a tensor of a given shape gets.

A factory checks its arguments and returns a *rule*, a function from the global shape to the law; the decorator wraps it
up with the factory's name and arguments, which make equality, hashing, pickling, the repr and `parse` one mechanism.
All that scale with a tensor's fans are one call of `_scaling`, which is `variance_scaling`.
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

from fastinit.fans import MODES, check_choice, check_layout, fans, gain
from fastinit.keys import check_integer, check_sizes
from fastinit.laws import (
    Constant,
    Law,
    Normal,
    TruncatedNormal,
    Uniform,
    check_real,
    check_std,
)
from fastinit.moments import standard_moments

P = ParamSpec("P")
Shape = Sequence[int]
Rule = Callable[[Shape], Law]
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["uniform", "normal", "truncated_normal"]

_FACTORIES: dict[str, Callable[..., Initializer]] = {}


@dataclass(frozen=True, repr=False)
class Initializer:
    """A rule that gives each tensor its law; made by the factories of this module.

    Two initializers are equal when they are the same factory with the same arguments. The repr is the text that
    `parse` reads back.

    Examples
    --------
    >>> he_normal(mode="fan_out")
    he_normal(mode='fan_out')
    >>> he_normal(mode="fan_in") == he_normal()
    True
    """

    factory: str
    arguments: tuple[tuple[str, Any], ...]  # those that differ from the defaults
    rule: Rule = field(compare=False)

    def law(self, global_shape: Shape) -> Law:
        """The law of the elements of a tensor of this shape.

        Parameters
        ----------
        global_shape
            The shape of the whole tensor, also where only a shard of it is filled: the fans come from it.

        Raises
        ------
        ValueError
            If the initializer needs fans that the shape does not have.

        Examples
        --------
        >>> he_normal().law((256, 128)).std
        0.125
        """
        return self.rule(check_sizes("global_shape", global_shape))

    def __repr__(self) -> str:
        return f"{self.factory}({', '.join(f'{name}={value!r}' for name, value in self.arguments)})"

    def __reduce__(self) -> tuple[Callable[..., Initializer], tuple[str, tuple[tuple[str, Any], ...]]]:
        return _remake, (self.factory, self.arguments)


def _remake(factory: str, arguments: tuple[tuple[str, Any], ...]) -> Initializer:
    return _FACTORIES[factory](**dict(arguments))


def _initializer(build: Callable[P, Rule]) -> Callable[P, Initializer]:
    """The factory of initializers whose rule ``build`` makes."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def factory(*args: P.args, **kwargs: P.kwargs) -> Initializer:
        rule = build(*args, **kwargs)
        bound = signature.bind(*args, **kwargs).arguments
        changed = {name: value for name, value in bound.items() if signature.parameters[name].default != value}
        ordered = tuple((name, _plain(changed[name])) for name in signature.parameters if name in changed)
        return Initializer(build.__name__, ordered, rule)

    factory.__signature__ = signature.replace(return_annotation=Initializer)  # type: ignore[attr-defined]
    _FACTORIES[build.__name__] = factory
    return factory


def _plain(value: Any) -> Any:
    """An argument as its repr should show it: numbers of other kinds as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    return value if isinstance(value, (bool, int, float, str)) else float(value)


def _everywhere(law: Law) -> Rule:
    """The rule that gives every shape this law."""
    return lambda shape: law


@_initializer
def constant(value: float) -> Rule:
    """Every element is ``value``.

    Parameters
    ----------
    value
        A finite number; for an integer or boolean tensor it must be one of its values.

    Examples
    --------
    >>> constant(0.5).law((3,))
    Constant(value=0.5)
    """
    return _everywhere(Constant(value))


@_initializer
def zeros() -> Rule:
    """Every element is 0.

    Examples
    --------
    >>> zeros().law((3,))
    Constant(value=0.0)
    """
    return _everywhere(Constant(0.0))


@_initializer
def ones() -> Rule:
    """Every element is 1.

    Examples
    --------
    >>> ones().law((3,))
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
    >>> uniform(-0.1, 0.1).law((3,))
    Uniform(low=-0.1, high=0.1)
    """
    return _everywhere(Uniform(low, high))


@_initializer
def normal(mean: float = 0.0, std: float = 1.0) -> Rule:
    """Normal with this mean and standard deviation.

    Parameters
    ----------
    mean, std
        Finite, std >= 0. The tails of a float32 reach 6.7 std, those of a float64 9.4.

    Examples
    --------
    >>> normal(std=0.02).law((3,))
    Normal(mean=0.0, std=0.02)
    """
    return _everywhere(Normal(mean, std))


@_initializer
def truncated_normal(
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    bounds: Literal["sigma", "absolute"] = "sigma",
    std_of: Literal["parent", "result"] = "parent",
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

    Raises
    ------
    ValueError
        If lower >= upper, the interval's probability underflows (some 37 sigma out), or ``std_of="result"`` asks for
        more than the interval allows: a uniform's (upper - lower) / sqrt(12).

    Examples
    --------
    >>> truncated_normal(std=0.02).law((3,))
    TruncatedNormal(mean=0.0, std=0.02, lower=-0.04, upper=0.04)
    >>> truncated_normal(std=0.02, std_of="result").law((3,)).std
    0.02
    """
    mean, std = check_real("mean", mean), check_std(std)
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
        parent = std / standard_moments(lower, upper).std if std_of == "result" else std
        return _everywhere(TruncatedNormal(mean, parent, mean + lower * parent, mean + upper * parent))
    parent = _parent_std(mean, std, lower, upper) if std_of == "result" else std
    return _everywhere(TruncatedNormal(mean, parent, lower, upper))


def _parent_std(mean: float, std: float, lower: float, upper: float) -> float:
    """The parent's std for which the law truncated to [lower, upper] has this std, by bisection on its logarithm.

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


def _scaling(scale: float, mode: str, distribution: str, layout: str, groups: int, transposed: bool) -> Rule:
    """The rule of variance scale / fan: the only place where fans become a spread."""
    factor = math.sqrt(check_std(scale, "scale"))
    check_choice("mode", mode, MODES)
    check_choice("distribution", distribution, ("uniform", "normal", "truncated_normal"))
    check_layout(layout)
    check_integer("groups", groups, 1)
    if not isinstance(transposed, bool):
        raise TypeError(f"transposed must be True or False, got {transposed!r}")

    def rule(shape: Shape) -> Law:
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
    distribution: Distribution = "truncated_normal",
    *,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
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
        How the shape is read: see `fastinit.fans.fans`. ``"OI..."`` is torch's layout, ``"...IO"`` Keras's and JAX's.

    Examples
    --------
    >>> variance_scaling(2.0, "fan_in", "normal").law((256, 128)).std
    0.125
    """
    return _scaling(scale, mode, distribution, layout, groups, transposed)


def _xavier(distribution: str, gain: float, layout: str, groups: int, transposed: bool) -> Rule:
    """The Xavier family: variance gain**2 / fan_avg."""
    factor = check_std(gain, "gain")
    return _scaling(factor * factor, "fan_avg", distribution, layout, groups, transposed)


@_initializer
def xavier_uniform(gain: float = 1.0, *, layout: str = "OI...", groups: int = 1, transposed: bool = False) -> Rule:
    """Uniform on [-b, b], b = gain sqrt(6 / (fan_in + fan_out)): Glorot and Bengio (2010), equation 16.

    The compromise between the variance of activations and that of gradients; std gain sqrt(2 / (fan_in + fan_out)).

    Parameters
    ----------
    gain
        A factor, >= 0, for the nonlinearity: see `gain`.
    layout, groups, transposed
        How the shape is read: see `fastinit.fans.fans`.

    Examples
    --------
    >>> xavier_uniform().law((256, 128))
    Uniform(low=-0.125, high=0.125)
    """
    return _xavier("uniform", gain, layout, groups, transposed)


@_initializer
def xavier_normal(gain: float = 1.0, *, layout: str = "OI...", groups: int = 1, transposed: bool = False) -> Rule:
    """Normal of std gain sqrt(2 / (fan_in + fan_out)): Glorot and Bengio (2010), equation 12.

    torch's ``xavier_normal_``; JAX's and Keras's ``glorot_normal`` is `xavier_truncated_normal`.

    Parameters
    ----------
    gain, layout, groups, transposed
        As in `xavier_uniform`.

    Examples
    --------
    >>> xavier_normal().law((256, 256)).std
    0.0625
    """
    return _xavier("normal", gain, layout, groups, transposed)


@_initializer
def xavier_truncated_normal(
    gain: float = 1.0, *, layout: str = "OI...", groups: int = 1, transposed: bool = False
) -> Rule:
    """`xavier_normal`'s std, as the result of a normal truncated at two of its own sigma: JAX's ``glorot_normal``.

    Parameters
    ----------
    gain, layout, groups, transposed
        As in `xavier_uniform`.

    Examples
    --------
    >>> round(xavier_truncated_normal().law((256, 256)).std, 12)
    0.0625
    """
    return _xavier("truncated_normal", gain, layout, groups, transposed)


def _he(distribution: str, mode: str, nonlinearity: str, a: float, layout: str, groups: int, transposed: bool) -> Rule:
    """The He family: variance gain**2 / fan."""
    factor = gain(nonlinearity, check_real("a", a))
    return _scaling(factor * factor, mode, distribution, layout, groups, transposed)


@_initializer
def he_uniform(
    *,
    mode: Mode = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.01,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
) -> Rule:
    """Uniform on [-b, b], b = gain sqrt(3 / fan): He et al. (2015), equation 10 (fan_in) or 14 (fan_out).

    Parameters
    ----------
    mode
        ``"fan_in"`` keeps the variance of activations, ``"fan_out"`` that of gradients.
    nonlinearity, a
        The gain's: see `gain`; ``a`` is the slope of leaky_relu and serves no other.
    layout, groups, transposed
        How the shape is read: see `fastinit.fans.fans`.

    Examples
    --------
    >>> he_uniform().law((256, 96))
    Uniform(low=-0.25, high=0.25)
    """
    return _he("uniform", mode, nonlinearity, a, layout, groups, transposed)


@_initializer
def he_normal(
    *,
    mode: Mode = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.01,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
) -> Rule:
    """Normal of std gain / sqrt(fan): He et al. (2015), equation 10 (fan_in) or 14 (fan_out).

    torch's ``kaiming_normal_``; JAX's and Keras's ``he_normal`` is `he_truncated_normal`.

    Parameters
    ----------
    mode, nonlinearity, a, layout, groups, transposed
        As in `he_uniform`.

    Examples
    --------
    >>> he_normal().law((256, 128)).std
    0.125
    """
    return _he("normal", mode, nonlinearity, a, layout, groups, transposed)


@_initializer
def he_truncated_normal(
    *,
    mode: Mode = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.01,
    layout: str = "OI...",
    groups: int = 1,
    transposed: bool = False,
) -> Rule:
    """`he_normal`'s std, as the result of a normal truncated at two of its own sigma: JAX's ``he_normal``.

    Parameters
    ----------
    mode, nonlinearity, a, layout, groups, transposed
        As in `he_uniform`.

    Examples
    --------
    >>> round(he_truncated_normal().law((256, 128)).std, 12)
    0.125
    """
    return _he("truncated_normal", mode, nonlinearity, a, layout, groups, transposed)


@_initializer
def lecun_uniform(*, layout: str = "OI...", groups: int = 1, transposed: bool = False) -> Rule:
    """Uniform on [-b, b], b = sqrt(3 / fan_in): LeCun et al. (1998), Efficient backprop, equation 16.

    Parameters
    ----------
    layout, groups, transposed
        How the shape is read: see `fastinit.fans.fans`.

    Examples
    --------
    >>> lecun_uniform().law((256, 48))
    Uniform(low=-0.25, high=0.25)
    """
    return _scaling(1.0, "fan_in", "uniform", layout, groups, transposed)


@_initializer
def lecun_normal(*, layout: str = "OI...", groups: int = 1, transposed: bool = False) -> Rule:
    """Normal of std 1 / sqrt(fan_in): LeCun et al. (1998); with selu, Klambauer et al. (2017).

    Parameters
    ----------
    layout, groups, transposed
        How the shape is read: see `fastinit.fans.fans`.

    Examples
    --------
    >>> lecun_normal().law((256, 64)).std
    0.125
    """
    return _scaling(1.0, "fan_in", "normal", layout, groups, transposed)


@_initializer
def lecun_truncated_normal(*, layout: str = "OI...", groups: int = 1, transposed: bool = False) -> Rule:
    """`lecun_normal`'s std, as the result of a normal truncated at two of its own sigma: JAX's ``lecun_normal``.

    Parameters
    ----------
    layout, groups, transposed
        How the shape is read: see `fastinit.fans.fans`.

    Examples
    --------
    >>> round(lecun_truncated_normal().law((256, 64)).std, 12)
    0.125
    """
    return _scaling(1.0, "fan_in", "truncated_normal", layout, groups, transposed)


glorot_uniform, glorot_normal, glorot_truncated_normal = xavier_uniform, xavier_normal, xavier_truncated_normal
kaiming_uniform, kaiming_normal, kaiming_truncated_normal = he_uniform, he_normal, he_truncated_normal
_FACTORIES.update(
    {
        alias + _name.removeprefix(family): _factory
        for family, alias in (("xavier", "glorot"), ("he_", "kaiming_"))
        for _name, _factory in list(_FACTORIES.items())
        if _name.startswith(family)
    }
)

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


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
    >>> parse("normal(std=0.02 / sqrt(2 * layers))", {"layers": 2}).law((3,)).std
    0.01
    """
    if not isinstance(text, str):
        raise TypeError(f"an initializer's text must be a string, got {text!r}")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"not the text of an initializer: {text!r}") from None
    call = ast.Call(node, [], []) if isinstance(node, ast.Name) else node
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        raise ValueError(f"an initializer is written as name(argument=value, ...), got {text!r}")
    factory = _FACTORIES[check_choice("the initializer", call.func.id, _FACTORIES)]
    try:
        arguments = [_value(item, names) for item in call.args]
        keywords = {str(item.arg): _value(item.value, names) for item in call.keywords}
        if len(keywords) < len(call.keywords) or any(item.arg is None for item in call.keywords):
            raise ValueError("each argument must be given once, by its name")
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"in {text!r}: {error}") from None
    try:
        return factory(*arguments, **keywords)
    except TypeError as error:
        raise TypeError(f"in {text!r}: {error}") from None


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
    raise ValueError(f"{ast.unparse(node)!r} is not a literal value")


def _number(node: ast.expr, names: Mapping[str, float] | None) -> float:
    """A value that can be computed with."""
    value = _value(node, names)
    if isinstance(value, (bool, str)):
        raise ValueError(f"{value!r} is not a number")
    return float(value) if isinstance(value, float) or abs(value) > 1 << 53 else value
