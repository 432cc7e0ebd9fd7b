"""Gains: the factors by which weights make good for a nonlinearity, from a table or by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastinit.core.checks import check_choice, check_real
from fastinit.core.text import quoted
from fastinit.initializers.quadrature import mean_square

# Further names of a function in other frameworks
SAME = {
    "swish": "silu",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "hardtanh": "hard_tanh",
    "logsigmoid": "log_sigmoid",
}
GAINS = {
    # torch's table; literals as those below: a computation here would round as the importing thread does
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
GAINS |= {alias: GAINS[name] for alias, name in SAME.items()}


def gain(nonlinearity: str | Callable[[float], Any], param: float | None = None) -> float:
    """Return the factor by which weights are scaled up to make good for a nonlinearity.

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
    value = GAINS[check_choice("nonlinearity", nonlinearity, GAINS)]
    if nonlinearity != "leaky_relu":
        return value
    return math.sqrt(2 / (1 + slope * slope))
