"""Tensors of which some rows have an initializer of their own, such as an embedding's padding row."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.text import quoted
from fastinit.distributions import Distribution
from fastinit.initializers.base import Initializer
from fastinit.verification.pieces import Pieces

Places = tuple[int, ...]
Rows = tuple[int, int]  # the first, and the one behind the last
Region = tuple[Places, Places, Initializer]  # offset, shape and content, written after the whole


class Part(NamedTuple):
    """Rows of a tensor that have one initializer."""

    label: str  # "" for what no region covers, else the region's rows
    rows: tuple[Rows, ...]
    init: Initializer | Distribution

    def of(self, array: Array) -> Pieces:
        """Return these rows of the tensor, as views."""
        if not array.ndim:
            return Pieces((array,))
        return Pieces(tuple(array[start:stop] for start, stop in self.rows))


def parts_of(shape: Places, init: Initializer | Distribution, regions: Sequence[Region]) -> list[Part] | None:
    """Return the parts of a tensor by what they were written with last; None where a region is no rows.

    Raises
    ------
    ValueError
        If a region does not lie inside the tensor.

    Examples
    --------
    >>> from fastinit import normal, ones, zeros
    >>> for part in parts_of((9, 4), normal(), [((0, 0), (3, 4), ones()), ((2, 0), (1, 4), zeros())]):
    ...     print(part)
    Part(label='', rows=((3, 9),), init=normal())
    Part(label='[0:3]', rows=((0, 2),), init=ones())
    Part(label='[2:3]', rows=((2, 3),), init=zeros())
    """
    contents: list[tuple[str, Initializer | Distribution]] = [("", init)]
    covered: list[Rows] = []
    for offset, sizes, content in regions:
        if (
            len(offset) != len(shape)
            or len(sizes) != len(shape)
            or any(
                at < 0 or size < 0 or at + size > limit for at, size, limit in zip(offset, sizes, shape, strict=True)
            )
        ):
            raise ValueError(
                f"regions must lie inside the shape {quoted(list(shape))}, got offset {quoted(list(offset))} and shape "
                f"{quoted(list(sizes))}"
            )
        if 0 in sizes:
            continue
        if sizes[1:] != shape[1:]:
            return None
        start, stop = (offset[0], offset[0] + sizes[0]) if shape else (0, 1)
        covered.append((start, stop))
        contents.append((f"[{start}:{stop}]", content))
    count = shape[0] if shape else 1
    cuts = sorted({0, count, *(row for rows in covered for row in rows)})
    owners = np.zeros(len(cuts) - 1, np.int64)
    for number, (start, stop) in enumerate(covered, 1):
        owners[bisect_left(cuts, start) : bisect_left(cuts, stop)] = number
    rows: dict[int, list[Rows]] = {}
    for owner, start, stop in zip(owners.tolist(), cuts[:-1], cuts[1:], strict=True):
        mine = rows.setdefault(owner, [])
        if mine and mine[-1][1] == start:
            start = mine.pop()[0]
        mine.append((start, stop))
    return [Part(contents[owner][0], tuple(rows[owner]), contents[owner][1]) for owner in sorted(rows)]
