"""Strided regions as loops: the axes of an array that a kernel has to walk along."""

from __future__ import annotations

import math
from typing import NamedTuple


class Axis(NamedTuple):
    """How many elements, how many bytes of memory apart, and how many elements of the tensor."""

    length: int
    stride: int
    step: int


def merged(
    shape: tuple[int, ...], strides: tuple[int, ...], whole: tuple[int, ...], offset: tuple[int, ...]
) -> tuple[int, list[Axis]]:
    """The index in the tensor of a region's first element, and its axes.

    Axes that continue each other in memory and in the tensor are one; those of one element are none.

    Examples
    --------
    >>> merged((2, 3, 4), (96, 16, 4), (2, 6, 4), (0, 1, 0))
    (4, [Axis(length=2, stride=96, step=24), Axis(length=12, stride=4, step=1)])
    """
    steps = [math.prod(whole[axis + 1 :]) for axis in range(len(whole))]
    first = sum(at * step for at, step in zip(offset, steps, strict=True))
    axes: list[Axis] = []
    for count, stride, step in zip(shape, strides, steps, strict=True):
        if count == 1:
            continue
        if axes and axes[-1].stride == count * stride and axes[-1].step == count * step:
            axes[-1] = Axis(axes[-1].length * count, stride, step)
        else:
            axes.append(Axis(count, stride, step))
    return first, axes
