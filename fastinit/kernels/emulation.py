"""The operations of `intrinsics` on NumPy's numbers, exact and slow: the simulator of CUDA calls these.

A float is rounded once, an integer wraps in the width of the first argument; addresses are plain integers.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}
_SIGNED = {2: np.int16, 4: np.int32, 8: np.int64}
_REAL = {4: np.float32, 8: np.float64}


def _wrapped(value: int, like: Any) -> Any:
    """Return an integer cut to the width of ``like``, of its type."""
    word: Any = _UNSIGNED[like.itemsize]
    return word(value & ((1 << 8 * like.itemsize) - 1)).view(type(like))


def integer(combine: Callable[[int, int], int], *, unsigned: bool = False) -> Callable[[Any, Any], Any]:
    """Return an operation on two integers in the width of the first, which is unsigned if asked for."""

    def meaning(a: Any, b: Any) -> Any:
        return _wrapped(combine(int(a.view(_UNSIGNED[a.itemsize]) if unsigned else a), int(b)), a)

    return meaning


def trailing_zeros(x: Any) -> Any:
    """Return the place of the lowest bit that is set."""
    return type(x)((int(x) & -int(x)).bit_length() - 1)


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c with one rounding, by fractions.

    A float32 is rounded from a float64 that is odd wherever it is not exact: so the second rounding is the only one.
    """
    with np.errstate(all="ignore"):
        about = a * b + c
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)) if np.isfinite(a + b + c) else 0
        if exact == 0:  # then the two roundings were none, and the sign is right
            return about
        rounded = float(exact)
        if type(a) is np.float32 and Fraction(rounded) != exact and np.float64(rounded).view(np.int64) % 2 == 0:
            rounded = math.nextafter(rounded, math.inf if exact > Fraction(rounded) else -math.inf)
        return type(a)(rounded)


def horner(x: Any, coefficients: tuple[Any, ...]) -> Any:
    """Return the polynomial, one `fma` a term."""
    value = coefficients[-1]
    for term in coefficients[-2::-1]:
        value = fma(value, x, term)
    return value


def square_root(x: Any) -> Any:
    """Return the nearest float to the root: IEEE 754 asks for it, and every processor gives it."""
    return np.sqrt(x)


def select(condition: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the condition holds, else ``b``."""
    return a if condition else type(a)(b)


def signed(w: Any) -> Any:
    """Return the same bits as a signed integer."""
    return w.view(_SIGNED[w.itemsize])


def bits(x: Any) -> Any:
    """Return a float's bits."""
    return x.view(_SIGNED[x.itemsize])


def from_bits(i: Any) -> Any:
    """Return the float of these bits."""
    return i.view(_REAL[i.itemsize])


def real(i: Any) -> Any:
    """Return an integer as the float of its width."""
    return _REAL[i.itemsize](i)


def cut(width: int) -> Callable[[Any], Any]:
    """Return a function to the low bits of an integer."""

    def meaning(x: Any) -> Any:
        return _UNSIGNED[width // 8](int(x) & ((1 << width) - 1))

    return meaning


def high_product(a: Any, b: Any) -> Any:
    """Return the upper half of a 64-bit product of 32-bit words."""
    return type(a)((int(a) & 0xFFFFFFFF) * int(b) >> 32)


def low_product(a: Any, b: Any) -> Any:
    """Return a 64-bit product of 32-bit words, in the width of the first."""
    return _wrapped((int(a) & 0xFFFFFFFF) * int(b), a)


def long_word(low: Any, high: Any) -> Any:
    """Return two words as one, the low half first."""
    return np.uint64(int(low) | int(high) << 32)


def putter() -> Callable[..., None]:
    """Return a new function that stores numbers next to each other: each intrinsic needs its own."""

    def put(to: Any, *values: Any) -> None:
        stored = b"".join(value.tobytes() for value in values)
        ctypes.memmove(int(to), stored, len(stored))

    return put
