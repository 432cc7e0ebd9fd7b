"""Keys and streams of values: seed to key, name to stream. Part of the value contract."""

from __future__ import annotations

import hashlib

from fastinit.core.checks import check_integer
from fastinit.core.text import quoted

STREAM_FORMAT = 1
"""Version of the value contract: values change only together with this number."""


def key_of(seed: int) -> int:
    """Return the 64-bit Philox key of a seed: the seed itself, its low half the first key word.

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
    """Return the 64-bit stream of a tensor's name, the upper half of the Philox counter.

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
