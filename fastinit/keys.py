"""Where values come from: seed to key, name to stream. Part of the value contract (`STREAM_FORMAT`)."""

from __future__ import annotations

import hashlib
import operator
from typing import Any

STREAM_FORMAT = 1
"""Version of the value contract: values change only together with this number."""


def _integer(argument: str, value: Any, bits: int) -> int:
    """A non-negative integer below 2**bits, or an error that names the argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{argument} must be an integer, got {value!r}") from None
    if isinstance(value, bool):
        raise TypeError(f"{argument} must be an integer, got {value!r}")
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{argument} must be in [0, 2**{bits}), got {value!r}")
    return number


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
    return _integer("seed", seed, 64)


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
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    try:
        return _integer("name", name, 63)
    except TypeError:
        raise TypeError(f"name must be a string or an integer, got {name!r}") from None
