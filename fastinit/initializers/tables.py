"""Tensors of given values, such as a position's number or a state space's eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from fastinit.core.text import quoted
from fastinit.distributions import Constant, Distribution
from fastinit.initializers.base import Resolve, Shape, initializer
from fastinit.initializers.matrices import Matrix, Table

MOST_VALUES = 1 << 16


@initializer
def table(values: str) -> Resolve:
    """Give every element its own value.

    Parameters
    ----------
    values
        Finite numbers with spaces between them, one for each element in C order, at most 65,536. Integers are exact in
        tensors of integers; other tensors get float64 numbers, rounded as those of `constant`.

    Raises
    ------
    ValueError
        If the text has anything else, or another count of numbers than the tensor has elements.

    Examples
    --------
    >>> import fastinit
    >>> fastinit.array((2, 2), table("0 1 1 0.5"), seed=0, name="w").tolist()
    [[0.0, 1.0], [1.0, 0.5]]
    """
    numbers = _numbers(values)

    def resolve(shape: Shape) -> Distribution | Matrix:
        if len(numbers) != math.prod(shape):
            raise ValueError(f"table must have the {math.prod(shape)} values of shape {shape}, got {len(numbers)}")
        return Constant(numbers[0]) if len(set(map(repr, numbers))) == 1 else Table(tuple(shape), numbers)

    return resolve


def table_of(values: Sequence[int | float]) -> str:
    """Return numbers as the text that `table` takes.

    Examples
    --------
    >>> table_of([0, 0.1])
    '0 0.1'
    """
    return " ".join(map(repr, values))


@lru_cache(maxsize=64)
def _numbers(text: str) -> tuple[int | float, ...]:
    if not isinstance(text, str):
        raise TypeError(f"values must be a text of numbers, got {quoted(text)}")
    words = text.split(maxsplit=MOST_VALUES)
    if len(words) > MOST_VALUES:
        raise ValueError(f"values must be at most {MOST_VALUES} numbers, got more")
    found = []
    for word in words:
        try:
            number: int | float = int(word) if word.lstrip("-").isdecimal() and len(word) < 22 else float(word)
        except ValueError:
            raise ValueError(f"values must be numbers with spaces between them, got {quoted(word)}") from None
        if not math.isfinite(number):
            raise ValueError(f"values must be finite, got {quoted(word)}")
        found.append(number)
    return tuple(found)
