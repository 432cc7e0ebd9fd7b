"""How many inputs and outputs a weight connects, and how much a nonlinearity shrinks what passes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fastinit.core.keys import check_flag, check_integer, check_real, check_shape
from fastinit.core.text import quoted
from fastinit.initializers.quadrature import mean_square

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")


class Fans(NamedTuple):
    """The inputs of one output unit, and the outputs that one input unit reaches."""

    fan_in: float
    fan_out: float

    def reduce(self, mode: str) -> float:
        """One number of the two: ``fan_in``, ``fan_out``, their mean or their geometric mean.

        Examples
        --------
        >>> Fans(2.0, 8.0).reduce("fan_geo_avg")
        4.0
        """
        fan_in, fan_out = self
        return {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }[check_choice("mode", mode, MODES)]


def check_choice(argument: str, value: Any, allowed: Iterable[str]) -> str:
    """The value, if it is allowed; else an error that lists the choices and the nearest name."""
    choices = tuple(allowed)
    if value in choices:
        return str(value)
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {quoted(near[0])}?" if near else ""
    raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {quoted(value)}{hint}")


def check_layout(layout: str) -> str:
    """The layout, if it can describe a weight.

    Raises
    ------
    TypeError
        If it is not a string.
    ValueError
        If it lacks O, repeats a letter other than O, I and N, or has anything but capital letters and one ``...``.
    """
    if not isinstance(layout, str):
        raise TypeError(f"layout must be a string such as 'OI...', got {quoted(layout)}")
    letters = layout.replace("...", "", 1)
    others = [letter for letter in letters if letter not in "OIN"]
    fair = letters.isascii() and letters.isalpha() and letters.isupper() and len(set(others)) == len(others)
    if not fair or "O" not in letters:
        raise ValueError(
            "layout must hold O for the outputs' axes, I for the inputs', N for those of independent weights, other "
            f"letters, each once, for the receptive field and at most one '...', as 'OI...', '...IO', 'HWIO' or 'NOI'; "
            f"got {quoted(layout)}"
        )
    return layout


def axes_of(shape: Sequence[int], layout: str) -> str:
    """The layout's letter for every axis of a shape, a dot for those of ``...``.

    Raises
    ------
    TypeError, ValueError
        If the layout cannot describe a weight, or does not fit the shape.

    Examples
    --------
    >>> axes_of((64, 3, 7, 7), "OI...")
    'OI..'
    """
    letters = check_layout(layout)
    if "..." in letters:
        letters = letters.replace("...", "." * (len(shape) - len(letters) + 3))
    if len(letters) != len(shape):
        raise ValueError(f"layout {quoted(layout)} does not describe {len(shape)} axes, as in shape {tuple(shape)}")
    return letters


def fans(shape: Sequence[int], layout: str = "OI...", groups: int = 1, transposed: bool = False) -> Fans:
    """The fans of a weight: inputs of one output unit, and outputs of one input unit.

    With F the product of the receptive field, o that of the output axes and i that of the input axes (1 without any),
    fan_in = i F and fan_out = o F / groups. The axes of stacked weights count in neither.

    =============================  ====================  ==================  =======================================
    weight                         torch                 Keras and JAX       how to read it here (torch; Keras, JAX)
    =============================  ====================  ==================  =======================================
    dense                          (o, i)                (i, o)              the default; ``"...IO"``
    convolution, 1-3 axes          (o, i, ...)           (..., i, o)         the default; ``"...IO"``
    grouped convolution            (o, i / g, ...)       (..., i / g, o)     and ``groups=g``
    depthwise, m outputs each      (m c, 1, ...)         (..., 1, m c)       and ``groups=c``
    depthwise layer of Keras                             (..., c, m)         ``"...NO"``: c weights without an I axis
    transposed convolution         (i, o, ...)           (..., o, i)         ``transposed=True``; and ``"...IO"``
    transposed and grouped         (i, o / g, ...)       (..., o / g, i)     and ``transposed=True, groups=g``
    stacked weights (experts)      (n, o, i)             (n, i, o)           ``"NOI"``; ``"NIO"``
    attention: to heads h, size d                        (i, h, d)           ``"IOO"``
    attention: from the heads                            (h, d, o)           ``"IIO"``
    =============================  ====================  ==================  =======================================

    JAX's transposed convolution has (..., i, o) unless it is called with ``transpose_kernel=True``; without it, read
    its weight as a forward one.

    Where these differ from a framework's own fans:

    - grouped and depthwise fan_out: an input channel reaches the o / g outputs of its own group. torch's
      ``_calculate_fan_in_and_fan_out``, Keras and JAX know no groups and take all o: for a depthwise weight of 64
      channels and ``mode="fan_out"`` a std 8 times too small.
    - Keras's depthwise layer: Keras takes c for inputs and m for outputs, but an output sees a single channel: its std
      is sqrt(c) times too small.
    - transposed: torch and Keras read such a weight like a forward one, which swaps the fans.
    - stacked and attention weights: torch and Keras take them for convolutions, whose axes beside two are a receptive
      field, so that the fans belong to no output. JAX is right if it is told ``in_axis``, ``out_axis`` and
      ``batch_axis``, and Keras's EinsumDense tells its initializer the axes.

    Parameters
    ----------
    shape
        The weight's shape, two axes or more.
    layout
        A letter for every axis: O output channels, I input channels, N stacked independent weights (experts), any other
        letter or ``...`` the receptive field. ``"OI..."`` is torch's, ``"...IO"`` Keras's and JAX's. O, I and N may
        stand for several axes; without an I an output has one input channel.
    groups
        Groups of a grouped or depthwise convolution. The O axis counts all output channels and the I axis those of
        one group, as in torch and JAX; an output then sees one group's inputs, an input reaches one group's outputs.
    transposed
        The weight of a transposed convolution, laid out as in the forward one: O and I change their roles, so that
        torch's (in, out / groups, ...) and Keras's (..., out, in) are right with the default layouts.

    Raises
    ------
    TypeError, ValueError
        If the layout cannot describe a weight or does not fit the shape, or the groups do not divide the channels.

    Examples
    --------
    >>> fans((64, 3, 7, 7))
    Fans(fan_in=147.0, fan_out=3136.0)
    >>> fans((64, 1, 3, 3), groups=64)  # depthwise
    Fans(fan_in=9.0, fan_out=9.0)
    >>> fans((3, 3, 64, 2), "HWNO")  # Keras's depthwise layer
    Fans(fan_in=9.0, fan_out=18.0)
    >>> fans((8, 1024, 256), "NOI")  # eight experts
    Fans(fan_in=256.0, fan_out=1024.0)
    """
    check_layout(layout)
    shape, transposed = check_shape("shape", shape), check_flag("transposed", transposed)
    if len(shape) < 2:
        raise ValueError(f"a fan needs a tensor of two axes or more, got shape {tuple(shape)}")
    axes = axes_of(shape, layout)

    def product(role: str) -> int:
        return math.prod(size for axis, size in zip(axes, shape, strict=True) if axis == role)

    outputs, inputs = product("O"), product("I")  # all, and one group's
    field = math.prod(size for axis, size in zip(axes, shape, strict=True) if axis not in "OIN")
    groups = check_integer("groups", groups, 1)
    if outputs % groups:
        raise ValueError(f"groups must divide the {outputs} channels of shape {tuple(shape)}, got {groups}")
    fan_in, fan_out = float(inputs * field), float(outputs // groups * field)
    return Fans(fan_out, fan_in) if transposed else Fans(fan_in, fan_out)


# Names that frameworks give the same function
_SAME = {
    "swish": "silu",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "hardtanh": "hard_tanh",
    "logsigmoid": "log_sigmoid",
}
_GAINS = {
    # torch's table; literals as those below, since what is computed here would be rounded as the importing thread does
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 1.6666666666666667,
    "relu": 1.4142135623730951,
    "leaky_relu": 1.4142135623730951,  # with a slope of 0
    "selu": 0.75,
    # exact, by mpmath; literals, since they decide values, and a library's tanh differs between processors
    "celu": 1.2451983007007066,
    "elu": 1.2451983007007066,
    "gelu": 1.5335304411955352,
    "gelu_tanh": 1.533580521666147,
    "hard_sigmoid": 1.8978404247295589,
    "hard_swish": 1.7366572127665416,
    "hard_tanh": 1.3920361404483098,
    "log_sigmoid": 1.0418668355353017,
    "mish": 1.486847581273208,
    "quick_gelu": 1.5394587622988315,
    "relu6": 1.4142135650950737,
    "silu": 1.676532470331091,
    "softplus": 1.0418668355353017,
    "softsign": 2.3375333631085397,
    "squared_relu": 0.816496580927726,
    "tanhshrink": 2.3383675301021215,
}
_GAINS |= {alias: _GAINS[name] for alias, name in _SAME.items()}


def gain(nonlinearity: str | Callable[[float], Any], param: float | None = None) -> float:
    """The factor by which weights are scaled up to make good for a nonlinearity.

    For a function f, and for the names that are not in torch's table, it is exact: g = 1 / sqrt(E[f(z)**2]) with a
    standard normal z, so that E[(g f(z))**2] = 1. A weight of std g / sqrt(fan_in) then keeps the mean square of the
    activations from layer to layer (He et al. 2015, section 2.2, for any f).

    For the names of ``torch.nn.init.calculate_gain`` it is torch's value to the digit: linear, convolutions and sigmoid
    1; tanh 5/3; relu sqrt(2); leaky_relu sqrt(2 / (1 + a**2)); selu 3/4. Those of linear, relu and leaky_relu are exact
    as well. The others are conventions: tanh's 5/3 is not derived from a mean square; exact is 1.5925374197, and 5/3
    lets activations grow until saturation holds them. selu's 3/4 gives up some of the self-normalizing property, which
    needs exactly 1, for stability; sigmoid's 1 ignores that E[sigmoid(z)**2] is 0.293 (exact: 1.8462285453). To have
    the exact value give the function: ``gain(np.tanh)``.

    Parameters
    ----------
    nonlinearity
        A name: torch's table, or celu and elu (alpha 1), gelu, gelu_tanh (its approximation by tanh), hard_sigmoid and
        hard_swish (by relu6(x + 3) / 6), hard_tanh, log_sigmoid, mish, quick_gelu (x sigmoid(1.702 x)), relu6, silu or
        swish, softplus, softsign, squared_relu, tanhshrink. Or a function of one float, which is integrated to a
        relative 1e-8 or better: it must compute in float64, and may have kinks and jumps, but none closer together than
        some 1/100.
    param
        The slope of leaky_relu; nothing else takes one.

    Raises
    ------
    TypeError
        If the nonlinearity is neither a name nor a function, or the function returns no real number.
    ValueError
        For a name that is not in the table, a slope that is not finite, or a function that is not finite, that is 0
        almost everywhere, or whose mean square does not exist.

    Examples
    --------
    >>> round(gain("leaky_relu", 0.2), 6)
    1.38675
    >>> round(gain(lambda z: abs(z)), 9)
    1.0
    """
    slope = 0.01 if param is None else check_real("param, the slope of leaky_relu,", param)
    if callable(nonlinearity):
        square = mean_square(nonlinearity)
        if square < 2.0**-1022:
            raise ValueError(
                f"a function that vanishes has no gain: E[f(z)**2] = {square} for f = {quoted(nonlinearity)}"
            )
        return 1 / math.sqrt(square)
    if not isinstance(nonlinearity, str):
        raise TypeError(f"nonlinearity must be a name or a function, got {quoted(nonlinearity)}")
    value = _GAINS[check_choice("nonlinearity", nonlinearity, _GAINS)]
    if nonlinearity != "leaky_relu":
        return value
    return math.sqrt(2 / (1 + slope * slope))
