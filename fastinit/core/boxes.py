"""Boxes: rectangles of a tensor, by their offset and shape."""

from __future__ import annotations

from collections.abc import Sequence

Places = tuple[int, ...]


def intersection(
    offset: Sequence[int], shape: Sequence[int], other_offset: Sequence[int], other_shape: Sequence[int]
) -> tuple[Places, Places] | None:
    """Return the offset and shape of what two boxes have in common; None if that has no element.

    Examples
    --------
    >>> intersection((0, 2), (4, 4), (3, 0), (9, 5))
    ((3, 2), (1, 3))
    """
    starts = tuple(map(max, offset, other_offset))
    ends = [min(a + m, b + n) for a, m, b, n in zip(offset, shape, other_offset, other_shape, strict=True)]
    sizes = tuple(end - start for start, end in zip(starts, ends, strict=True))
    return (starts, sizes) if all(size > 0 for size in sizes) else None
