"""How many inputs and outputs a weight connects, and how much a nonlinearity shrinks what passes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastinit.keys import check_integer, check_sizes

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
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {value!r}{hint}")


def check_layout(layout: str) -> str:
    """The layout, if it can describe a weight.

    Raises
    ------
    TypeError
        If it is not a string.
    ValueError
        If it lacks O or I, repeats a letter, or has anything but capital letters and one ``...``.
    """
    if not isinstance(layout, str):
        raise TypeError(f"layout must be a string such as 'OI...', got {layout!r}")
    letters = layout.replace("...", "", 1)
    fair = letters.isascii() and letters.isalpha() and letters.isupper() and len(set(letters)) == len(letters)
    if not fair or "O" not in letters or "I" not in letters:
        raise ValueError(
            "layout must hold O and I, each once, letters for other axes (N: independent matrices) and at most one "
            f"'...', as 'OI...', '...IO', 'HWIO' or 'NOI'; got {layout!r}"
        )
    return layout


def fans(shape: Sequence[int], layout: str = "OI...", groups: int = 1, transposed: bool = False) -> Fans:
    """The fans of a weight: inputs of one output unit, and outputs of one input unit.

    Parameters
    ----------
    shape
        The weight's shape, two axes or more.
    layout
        A letter for every axis: O output channels, I input channels, N stacked independent weights (experts), any other
        letter or ``...`` the receptive field. ``"OI..."`` is torch's, ``"...IO"`` Keras's and JAX's.
    groups
        Groups of a grouped or depthwise convolution. The O axis counts all output channels and the I axis those of
        one group, as in torch and JAX; an output then sees one group's inputs, an input reaches one group's outputs:
        fan_out is divided by ``groups`` (torch's ``_calculate_fan_in_and_fan_out`` does not do this).
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
    >>> fans((8, 1024, 256), "NOI")  # eight experts
    Fans(fan_in=256.0, fan_out=1024.0)
    """
    letters, shape = check_layout(layout), check_sizes("shape", shape)
    if len(shape) < 2:
        raise ValueError(f"a fan needs a tensor of two axes or more, got shape {tuple(shape)}")
    named = len(letters.replace("...", ""))
    if "..." in letters:
        before, after = letters.split("...")
        axes = before + "." * (len(shape) - named) + after
    else:
        axes = letters
    if len(axes) != len(shape):
        raise ValueError(f"layout {layout!r} does not describe {len(shape)} axes, as in shape {tuple(shape)}")
    field = math.prod(size for axis, size in zip(axes, shape, strict=True) if axis not in "OIN")
    outputs, inputs = shape[axes.index("O")], shape[axes.index("I")]  # all, and one group's
    groups = check_integer("groups", groups, 1)
    if outputs % groups:
        raise ValueError(f"groups must divide the {outputs} channels of shape {tuple(shape)}, got {groups}")
    one_group = outputs // groups
    fan_in, fan_out = float(inputs * field), float(one_group * field)
    return Fans(fan_out, fan_in) if transposed else Fans(fan_in, fan_out)


_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2),  # with a slope of 0
    "selu": 3 / 4,
}


def gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights are scaled up to make good for a nonlinearity: the table of ``torch.nn.init``.

    Linear, convolutions and sigmoid 1; tanh 5/3; relu sqrt(2); leaky_relu sqrt(2 / (1 + a**2)) with the negative slope
    a, 0.01 unless given (He et al. 2015, section 2.2); selu 3/4.

    Parameters
    ----------
    nonlinearity
        A name of the table.
    param
        The slope of leaky_relu; no other name takes one.

    Raises
    ------
    ValueError
        For a name that is not in the table, or a slope that is not finite.

    Examples
    --------
    >>> round(gain("leaky_relu", 0.2), 6)
    1.38675
    """
    value = _GAINS[check_choice("nonlinearity", nonlinearity, _GAINS)]
    if nonlinearity != "leaky_relu":
        return value
    slope = 0.01 if param is None else float(param)
    if not math.isfinite(slope):
        raise ValueError(f"a, the slope of leaky_relu, must be finite, got {param!r}")
    return math.sqrt(2 / (1 + slope * slope))
