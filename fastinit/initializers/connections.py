"""Fans: the numbers of inputs and outputs that a weight connects, by the layout of its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastinit.core.checks import check_choice, check_flag, check_integer, check_shape
from fastinit.core.text import quoted

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")


class Fans(NamedTuple):
    """Fans of a weight.

    Attributes
    ----------
    fan_in
        Inputs of one output unit.
    fan_out
        Outputs that one input unit reaches.
    """

    fan_in: float
    fan_out: float

    def reduce(self, mode: str) -> float:
        """Return one number of the two: ``fan_in``, ``fan_out``, their mean or their geometric mean.

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


def check_layout(layout: str) -> str:
    """Return the layout if it can describe a weight.

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
    """Return the layout's letter for every axis of a shape, a dot for those of ``...``.

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
    """Return the fans of a weight: inputs of one output unit, and outputs of one input unit.

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
    - transposed: torch and Keras read its weight like a forward one, which swaps the fans.
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
