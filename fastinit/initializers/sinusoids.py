"""Sines of positions, by arithmetic that every processor does alike: the bits are the same everywhere.

NumPy's own sine and exponential differ in the last bit from one instruction set to the next. Here an angle is a
fraction of a turn in fixed point, so that it is reduced without an error, and a polynomial takes its sine by float64
products and sums, which IEEE 754 rounds in one way alone. docs/value-contract.md specifies the operations.
"""

from __future__ import annotations

from decimal import Context, Decimal
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fastinit.core.arrays import Array, Floats

STYLES = ("vaswani", "marian", "whisper")
MOST_POSITIONS = 1 << 32
MOST_COLUMNS = 1 << 16  # each frequency is computed to 50 digits, in some 30 microseconds

_TURN = Decimal("6.28318530717958647692528676655900576839433879875021164194988918")
_DIGITS = Context(prec=50)
_QUARTER, _EIGHTH = np.uint64(1 << 62), np.uint64(1 << 61)  # of a turn, in units of 2**-64 turns
_LIMB, _QUARTERS = np.uint64(32), np.uint64(62)  # bits below them
_ONE, _TWO = np.uint64(1), np.uint64(2)
# Taylor's: the first term left out is below 1e-16 on an eighth of a turn
_SIN = (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800, -1 / 1307674368000)
_COS = (-1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600, -1 / 87178291200, 1 / 20922789888000)


def waves(columns: int, style: str) -> tuple[Array, Array]:
    """Return for each column the number of its frequency, and whether it is a cosine.

    Examples
    --------
    >>> [values.astype(int).tolist() for values in waves(5, "vaswani")]
    [[0, 0, 1, 1, 2], [0, 1, 0, 1, 0]]
    >>> [values.astype(int).tolist() for values in waves(5, "marian")]
    [[0, 1, 2, 0, 1], [0, 0, 0, 1, 1]]
    """
    at = np.arange(columns)
    if style == "vaswani":
        return at // 2, at % 2 == 1
    sines = (columns + 1) // 2
    return at % sines, at >= sines


@lru_cache(maxsize=16)
def frequencies(columns: int, style: str, base: float) -> Array:
    """Return each frequency in turns a position, as a row of 32-bit numbers in units of 2**-32, 2**-64 and 2**-96.

    Frequency i is base**(-2 i / columns) / (2 pi), in the style of whisper base**(-i / (columns / 2 - 1)) / (2 pi).
    """
    count = (columns + 1) // 2
    found = np.empty((count, 3), np.uint64)
    for i in range(count):
        exponent = (Decimal(-i), Decimal(count - 1)) if style == "whisper" else (Decimal(-2 * i), Decimal(columns))
        power = _DIGITS.power(Decimal(base), _DIGITS.divide(*exponent))
        fixed = int(_DIGITS.multiply(_DIGITS.divide(power, _TURN), Decimal(1 << 96)).to_integral_value())
        found[i] = fixed >> 64, fixed >> 32 & 0xFFFFFFFF, fixed & 0xFFFFFFFF
    found.flags.writeable = False
    return found


class Columns(NamedTuple):
    """Columns of a matrix: their frequencies in units of 2**-32, 2**-64 and 2**-96 turns, and where they begin."""

    high: Array
    middle: Array
    low: Array
    ahead: Array

    @staticmethod
    def of(first: int, columns: int, whole: int, style: str, base: float) -> Columns:
        """Return some columns of a matrix with ``whole`` of them; a cosine is a quarter turn ahead of the sine."""
        number, cosine = (values[first : first + columns] for values in waves(whole, style))
        ahead = np.where(cosine, _QUARTER, np.uint64(0))
        high, middle, low = np.ascontiguousarray(frequencies(whole, style, base)[number].T)
        return Columns(high, middle, low, ahead)

    def at(self, positions: Array) -> Floats:
        """Return the sines or cosines of positions, in float64, within 2e-16 of the exact ones."""
        at = positions.astype(np.uint64)[:, None]
        turns = at * self.high
        turns <<= _LIMB
        turns += at * self.middle
        turns += (at * self.low) >> _LIMB  # whole turns are lost, as they should
        turns += self.ahead
        return _sines(turns)


def _sines(turns: Array) -> Floats:
    """Return the sines of angles in units of 2**-64 turns."""
    quarter = (turns + _EIGHTH) >> _QUARTERS  # the nearest one; the last eighth of a turn is at the next turn's 0
    rest = (turns - (quarter << _QUARTERS)).view(np.int64)  # from it, within an eighth
    x = rest * (float(_TURN) * 2.0**-64)
    square = x * x
    sine = x + x * square * _polynomial(square, _SIN)
    cosine = 1.0 + square * _polynomial(square, _COS)
    found: Floats = np.where(quarter & _ONE, cosine, sine)
    np.negative(found, out=found, where=quarter >= _TWO)
    return found


def _polynomial(square: Floats, terms: tuple[float, ...]) -> Floats:
    """Return the polynomial of these coefficients by Horner's rule."""
    found = square * terms[-1]
    for term in terms[-2:0:-1]:
        found += term
        found *= square
    found += terms[0]
    return found
