"""Equality that tells 0.0 from -0.0."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any


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
    """Return a key that is equal for equal values alone: a zero comes with its sign, which no comparison sees.

    Examples
    --------
    >>> exactly(0.0) == exactly(-0.0), exactly(0.0) == exactly(0), exactly(2.0) == exactly(2)
    (False, True, True)
    """
    return (0, math.copysign(1.0, value)) if isinstance(value, (int, float)) and value == 0 else value
