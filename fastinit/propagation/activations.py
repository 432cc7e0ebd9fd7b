"""Activations with their derivatives, by the names of `fastinit.gain`, and their moments under a normal."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.checks import check_choice, check_real
from fastinit.core.text import quoted
from fastinit.initializers.gains import SAME

Function = Callable[[Array], Array]

_SELU, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. (2017), equation 14
_GELU_TANH, _GELU_CUBE = math.sqrt(2 / math.pi), 0.044715  # Hendrycks and Gimpel (2016), section 2
_NODES = 20  # of Gauss and Legendre in a panel
_END = 12.0  # standard deviations; beyond are 4e-33 of a normal


@dataclass(frozen=True, eq=False)
class Activation:
    """A function and its derivative, both of arrays, and where they have kinks."""

    name: str
    f: Function
    slope: Function
    kinks: tuple[float, ...] = (0.0,)


class ActivationMoments(NamedTuple):
    """Moments of f(z) and f'(z) for z, a normal of some mean and standard deviation."""

    mean: float  # of f(z)
    square: float  # the mean of f(z)**2
    cube: float  # that of f(z)**3
    slope_square: float  # that of f'(z)**2
    flatness: float  # the mean of f(z)**4 over that of f(z)**2, squared
    central_flatness: float  # that of f(z) - mean
    slope_flatness: float  # that of f'(z)
    pull: float  # with d = z - its mean: the means of d f'(z),
    pull_f: float  # of d f'(z) f(z),
    pull_square: float  # and of (d f'(z))**2
    steep: float  # the means of f'(z)**2 f(z)
    steep_square: float  # and f'(z)**2 f(z)**2

    @property
    def variance(self) -> float:
        """Return the variance of f(z), which rounding may not make negative."""
        return max(self.square - self.mean * self.mean, 0.0)


def moments(activation: Activation, mean: float, std: float) -> ActivationMoments:
    """Return the exact moments, by Gauss and Legendre's rule on panels that end at the kinks.

    Panels are half a standard deviation wide, and shrink towards z = 0 as far as a tenth of a unit of z, where
    saturating functions bend: so they resolve a bend far narrower than z is wide. Polynomials aside, the relative error
    is below 1e-10.

    Examples
    --------
    >>> round(moments(named("relu"), 0.0, 2.0).square, 12)
    2.0
    """
    u, weights = _grid(mean, std, activation.kinks)
    with np.errstate(all="ignore"):
        z = mean + std * u
        f, slope = activation.f(z), activation.slope(z)
        average, pull = float(weights @ f), std * u * slope
        square, flatness = _squares(f, weights)
        slope_square, slope_flatness = _squares(slope, weights)
        return ActivationMoments(
            mean=average,
            square=square,
            cube=float(weights @ f**3),
            slope_square=slope_square,
            flatness=flatness,
            central_flatness=_squares(f - average, weights)[1],
            slope_flatness=slope_flatness,
            pull=float(weights @ pull),
            pull_f=float(weights @ (pull * f)),
            pull_square=float(weights @ (pull * pull)),
            steep=float(weights @ (slope * slope * f)),
            steep_square=float(weights @ (slope * f) ** 2),
        )


def _squares(values: Array, weights: Array) -> tuple[float, float]:
    """Return the mean square, and the mean fourth power over its square: 1 where all vanish."""
    square = float(weights @ (values * values))
    if not square:
        return 0.0, 1.0
    return square, float(weights @ (values / math.sqrt(square)) ** 4)


def _grid(mean: float, std: float, kinks: tuple[float, ...]) -> tuple[Array, Array]:
    """Return points of a standard normal u, and their probabilities."""
    bends = [sign * 2.0**k for k in range(-3, 7) for sign in (-1, 1)]
    places = [(z - mean) / std for z in (*kinks, *bends)] if std > 0 else []
    ends = np.unique([*np.linspace(-_END, _END, 49), *(u for u in places if abs(u) < _END)])
    nodes, weights = _rule()
    half = np.diff(ends)[:, None] / 2
    u = ((ends[1:] + ends[:-1])[:, None] / 2 + half * nodes).ravel()
    return u, (half * weights).ravel() * np.exp(-u * u / 2) / math.sqrt(2 * math.pi)


@functools.cache
def _rule() -> tuple[Array, Array]:
    """Return Gauss and Legendre's nodes and weights."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _sigmoid(z: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(z))


def _phi(z: Array) -> Array:
    """Return the normal distribution function."""
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


def _above(z: Array) -> Array:
    """Return 1 where z > 0, else 0, in the dtype of z."""
    return (z > 0).astype(z.dtype)


def _between(z: Array, low: float, high: float) -> Array:
    return ((z > low) & (z < high)).astype(z.dtype)


def _elu(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _elu_slope(z: Array, alpha: float = 1.0) -> Array:
    return np.where(z > 0, z.dtype.type(1), alpha * np.exp(np.minimum(z, 0)))


def _softplus(z: Array) -> Array:
    return np.asarray(np.logaddexp(z, z.dtype.type(0)))


def _gelu_tanh_slope(z: Array) -> Array:
    z = np.clip(z, -30, 30)  # a cube overflows where the slope has long been 0 or 1
    t = np.tanh(_GELU_TANH * (z + _GELU_CUBE * z**3))
    return np.asarray((1 + t + z * (1 - t * t) * _GELU_TANH * (1 + 3 * _GELU_CUBE * z * z)) / 2)


def _hard_swish_slope(z: Array) -> Array:
    return np.asarray(np.select([z <= -3, z >= 3], [z.dtype.type(0), z.dtype.type(1)], (2 * z + 3) / 6))


def _silu_slope(z: Array, beta: float = 1.0) -> Array:
    s = _sigmoid(beta * z)
    return np.asarray(s + beta * z * s * (1 - s))


def _mish_slope(z: Array) -> Array:
    t = np.tanh(_softplus(z))
    return np.asarray(t + z * (1 - t * t) * _sigmoid(z))


def _tanh_slope(z: Array) -> Array:
    return np.asarray(1 - np.tanh(z) ** 2)


_TABLE: dict[str, tuple[Function, Function, tuple[float, ...]]] = {
    "linear": (lambda z: z, np.ones_like, (0.0,)),
    "relu": (lambda z: np.maximum(z, 0), _above, (0.0,)),
    "relu6": (lambda z: np.clip(z, 0, 6), lambda z: _between(z, 0, 6), (0.0, 6.0)),
    "squared_relu": (lambda z: np.maximum(z, 0) ** 2, lambda z: 2 * np.maximum(z, 0), (0.0,)),
    "tanh": (np.tanh, _tanh_slope, (0.0,)),
    "tanhshrink": (lambda z: z - np.tanh(z), lambda z: np.tanh(z) ** 2, (0.0,)),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), lambda z: _between(z, -1, 1), (-1.0, 1.0)),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2, (0.0,)),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z), (0.0,)),
    "hard_sigmoid": (lambda z: np.clip(z / 6 + 0.5, 0, 1), lambda z: _between(z, -3, 3) / 6, (-3.0, 3.0)),
    "log_sigmoid": (lambda z: -_softplus(-z), lambda z: _sigmoid(-z), (0.0,)),
    "softplus": (_softplus, _sigmoid, (0.0,)),
    "elu": (_elu, _elu_slope, (0.0,)),
    "celu": (_elu, _elu_slope, (0.0,)),
    "selu": (lambda z: _SELU * _elu(z, _SELU_ALPHA), lambda z: _SELU * _elu_slope(z, _SELU_ALPHA), (0.0,)),
    "gelu": (lambda z: z * _phi(z), lambda z: _phi(z) + z * _density(z), (0.0,)),
    "gelu_tanh": (lambda z: z / 2 * (1 + np.tanh(_GELU_TANH * (z + _GELU_CUBE * z**3))), _gelu_tanh_slope, (0.0,)),
    "quick_gelu": (lambda z: z * _sigmoid(1.702 * z), lambda z: _silu_slope(z, 1.702), (0.0,)),
    "silu": (lambda z: z * _sigmoid(z), _silu_slope, (0.0,)),
    "mish": (lambda z: z * np.tanh(_softplus(z)), _mish_slope, (0.0,)),
    "hard_swish": (lambda z: z * np.clip(z + 3, 0, 6) / 6, _hard_swish_slope, (-3.0, 3.0)),
}


def named(activation: str | tuple[Function, Function], a: float = 0.01) -> Activation:
    """Return the activation of this name, or of a function and its derivative.

    Raises
    ------
    TypeError
        If it is neither a name nor a pair of functions.
    ValueError
        For a name that is not in the table, or a slope that is not finite.

    Examples
    --------
    >>> named("swish").name
    'silu'
    >>> named("leaky_relu", 0.5).f(np.array([-1.0, 1.0])).tolist()
    [-0.5, 1.0]
    """
    a = check_real("a, the slope of leaky_relu,", a)
    if isinstance(activation, str):
        names = (*_TABLE, "leaky_relu", *SAME)
        name = check_choice("activation", activation, names)
        name = SAME.get(name, name)
        if name != "leaky_relu":
            return Activation(name, *_TABLE[name])
        return Activation(name, lambda z: np.maximum(z, 0) + a * np.minimum(z, 0), lambda z: _above(z) + a * _above(-z))
    if isinstance(activation, tuple) and len(activation) == 2 and all(map(callable, activation)):
        return Activation(getattr(activation[0], "__name__", "f"), *activation)
    raise TypeError(f"activation must be a name or a pair of functions, f and its derivative, got {quoted(activation)}")
