"""Checks of arguments: each returns the value in its plain form, or raises an error that names the argument."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Mapping, Set
from itertools import islice
from typing import Any

import numpy as np

from fastinit.core.text import quoted

MOST_AXES = 64  # NumPy's limit
MOST_ELEMENTS = 1 << 52  # of a tensor: an element's retries have a block of their own

_ELSEWHERE = {  # words of other libraries, and ours for them, the likelier first
    **dict.fromkeys(("bf16", "torch.bfloat16"), ("bfloat16",)),
    **dict.fromkeys(("fp16", "f16", "half", "torch.float16"), ("float16",)),
    **dict.fromkeys(("fp32", "f32", "float", "single", "torch.float32"), ("float32",)),
    **dict.fromkeys(("fp64", "f64", "double", "torch.float64"), ("float64",)),
    **dict.fromkeys(("stddev", "sigma", "sd"), ("std",)),
    "scale": ("std", "gain"),
    **dict.fromkeys(("loc", "mu"), ("mean",)),
    **dict.fromkeys(("a", "min", "minval"), ("low", "lower")),
    **dict.fromkeys(("b", "max", "maxval"), ("high", "upper")),
    **dict.fromkeys(("negative_slope", "alpha", "slope"), ("a",)),
    **dict.fromkeys(("val", "fill_value"), ("value",)),
}


def suggestion(value: Any, choices: Iterable[str]) -> str:
    """Return the question whether one of the choices was meant, with a space behind it; empty if none is near.

    Examples
    --------
    >>> suggestion("fan_inn", ("fan_in", "fan_out")), suggestion("bf16", ("bfloat16", "float16"))
    ("did you mean 'fan_in'? ", "did you mean 'bfloat16'? ")
    """
    allowed, word = tuple(choices), str(value)
    known = [name for name in _ELSEWHERE.get(word.lower(), ()) if name in allowed]
    near = known or difflib.get_close_matches(word, allowed, n=1)
    return f"did you mean {quoted(near[0])}? " if near else ""


def check_choice(argument: str, value: Any, allowed: Iterable[str]) -> str:
    """Return the value if it is allowed, or raise an error that suggests the nearest choice and lists all.

    Examples
    --------
    >>> check_choice("bounds", "sigm", ("sigma", "absolute"))
    Traceback (most recent call last):
    ValueError: bounds: did you mean 'sigma'? It must be one of 'sigma', 'absolute', got 'sigm'
    """
    choices = tuple(allowed)
    if value in choices:
        return str(value)
    if not choices:
        raise ValueError(f"{argument} cannot be given here: there is none to choose from, got {quoted(value)}")
    near = suggestion(value, choices)
    listed = f"must be one of {', '.join(map(repr, choices))}, got {quoted(value)}"
    raise ValueError(f"{argument}: {near}It {listed}" if near else f"{argument} {listed}")


def check_std(value: Any, argument: str = "std") -> float:
    """Return a standard deviation, finite and 0 or more, or raise an error that names the argument."""
    number = check_real(argument, value)
    if number < 0:
        raise ValueError(f"{argument} must be 0 or more, got {quoted(value)}")
    return number


def check_flag(argument: str, value: Any) -> bool:
    """Return the value as True or False, or raise an error that names the argument."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument} must be True or False, got {quoted(value)}")
    return bool(value)


def check_integer(argument: str, value: Any, least: int, limit: int = 1 << 63) -> int:
    """Return the value as an integer in [least, limit), a power of 2, or raise an error that names the argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{argument} must be an integer, got {quoted(value)}") from None
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument} must be an integer, got {quoted(value)}")
    if not least <= number < limit:
        raise ValueError(f"{argument} must be in [{least}, 2**{limit.bit_length() - 1}), got {quoted(value)}")
    return number


def check_real(argument: str, value: Any, *, infinite: bool = False) -> float:
    """Return the value as a float, or raise an error that names the argument.

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If it is NaN, or infinite where that has no meaning.
    """
    if isinstance(value, (str, bytes)) or np.iscomplexobj(value) or np.ndim(value) != 0:
        raise TypeError(f"{argument} must be a real number, got {quoted(value)}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be a real number, got {quoted(value)}") from None
    except OverflowError:
        raise ValueError(f"{argument} must be finite, got an integer beyond any float") from None
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise ValueError(f"{argument} must be {'a number' if infinite else 'finite'}, got {quoted(value)}")
    return number


def check_sizes(argument: str, sizes: Iterable[Any]) -> tuple[int, ...]:
    """Return a shape or an offset as a tuple of integers in [0, 2**63), or raise an error that names the argument."""
    if isinstance(sizes, (str, bytes, Set, Mapping)) or not isinstance(sizes, Iterable):
        raise TypeError(f"{argument} must be a sequence of integers, got {quoted(sizes)}")
    found = tuple(check_integer(f"every size in {argument}", size, 0, 1 << 63) for size in islice(sizes, MOST_AXES + 1))
    if len(found) > MOST_AXES:
        raise ValueError(f"{argument} must have at most {MOST_AXES} axes, got more")
    return found


def check_shape(argument: str, sizes: Iterable[Any]) -> tuple[int, ...]:
    """Return a tensor's shape, of at most 2**52 elements, or raise an error that names the argument."""
    shape = check_sizes(argument, sizes)
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"a tensor must have at most 2**52 elements, got {argument} {shape}")
    return shape
