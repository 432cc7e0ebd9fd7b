"""Where values come from: seed to key, name to stream; and the checks of integers. Part of the value contract."""

from __future__ import annotations

import hashlib
import math
import operator
import sys
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields
from itertools import islice
from typing import Any

import numpy as np

from fastinit.core.text import quoted

STREAM_FORMAT = 1
"""Version of the value contract: values change only together with this number."""

MOST_AXES = 64  # NumPy's limit
MOST_ELEMENTS = 1 << 52  # of a tensor: an element's retries have a block of their own


class Exact:
    """Equality and hash of a frozen dataclass by its compared fields, where 0.0 is not -0.0.

    To be declared with ``eq=False``: with the equality of a dataclass, a cache that has met one zero would give its
    results for the other.
    """

    def _exact(self) -> tuple[Any, ...]:
        return tuple(exactly(getattr(self, one.name)) for one in fields(self) if one.compare)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._exact() == other._exact()

    def __hash__(self) -> int:
        return hash((type(self), self._exact()))


def exactly(value: Any) -> Any:
    """Return what tells a value from every other one: a zero with its sign, which no comparison sees.

    Examples
    --------
    >>> exactly(0.0) == exactly(-0.0), exactly(0.0) == exactly(0), exactly(2.0) == exactly(2)
    (False, True, True)
    """
    return (0, math.copysign(1.0, value)) if isinstance(value, (int, float)) and value == 0 else value


def is_masked(array: Any) -> bool:
    """Return whether an array has a mask, without importing ``numpy.ma`` for the question."""
    return isinstance(array, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def check_flag(argument: str, value: Any) -> bool:
    """The value as True or False, or an error that names the argument."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument} must be True or False, got {quoted(value)}")
    return bool(value)


def check_integer(argument: str, value: Any, least: int, limit: int = 1 << 63) -> int:
    """The value as an integer in [least, limit), a power of 2, or an error that names the argument."""
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
    """The value as a float, or an error that names the argument.

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
    """A shape or an offset as a tuple of integers in [0, 2**63), or an error that names the argument."""
    if isinstance(sizes, (str, bytes, Set, Mapping)) or not isinstance(sizes, Iterable):
        raise TypeError(f"{argument} must be a sequence of integers, got {quoted(sizes)}")
    found = tuple(check_integer(f"every size in {argument}", size, 0, 1 << 63) for size in islice(sizes, MOST_AXES + 1))
    if len(found) > MOST_AXES:
        raise ValueError(f"{argument} must have at most {MOST_AXES} axes, got more")
    return found


def check_shape(argument: str, sizes: Iterable[Any]) -> tuple[int, ...]:
    """A tensor's shape, of at most 2**52 elements, or an error that names the argument."""
    shape = check_sizes(argument, sizes)
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"a tensor must have at most 2**52 elements, got {argument} {shape}")
    return shape


def key_of(seed: int) -> int:
    """The 64-bit Philox key of a seed: the seed itself, its low half the first key word.

    Parameters
    ----------
    seed
        Integer in [0, 2**64).

    Examples
    --------
    >>> key_of(7)
    7
    """
    return check_integer("seed", seed, 0, 1 << 64)


def stream_of(name: str | int) -> int:
    """The 64-bit stream of a tensor's name, the upper half of the Philox counter.

    An integer in [0, 2**63) is itself; a string is its UTF-8's 8-byte BLAKE2b digest, little-endian.

    Raises
    ------
    TypeError
        If the name is neither a string nor an integer.
    ValueError
        If an integer is out of range.

    Examples
    --------
    >>> stream_of(3)
    3
    >>> hex(stream_of("layers.0.mlp.up"))
    '0xc774b924b68c7364'
    """
    if isinstance(name, str):
        try:
            text = name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"name must be text that UTF-8 can encode, got {quoted(name)}") from None
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    try:
        return check_integer("name", name, 0, 1 << 63)
    except TypeError:
        raise TypeError(f"name must be a string or an integer, got {quoted(name)}") from None
