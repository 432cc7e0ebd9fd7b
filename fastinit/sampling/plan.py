"""Layout arithmetic alone: where a region lies in its tensor, whether an array overlaps itself, axes and tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastinit.kernels.cpu import Plan

STREAMING_BYTES = 4 << 20  # a buffer from this size on does not stay in the cache: it is stored past it


class Axis(NamedTuple):
    """A loop: its length, its stride in bytes of memory, its step in elements of the tensor."""

    length: int
    stride: int
    step: int


def merged(
    shape: tuple[int, ...], strides: tuple[int, ...], whole: tuple[int, ...], offset: tuple[int, ...]
) -> tuple[int, list[Axis]]:
    """Return the index in the tensor of a region's first element, and the axes of its loops.

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


def overlaps(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> bool:
    """Return whether two elements share memory."""
    axes = sorted((abs(stride), count - 1) for stride, count in zip(strides, shape, strict=True) if count > 1)
    reach = [size - 1]  # how far apart the first bytes of elements are at most that differ in shorter strides, and more
    for stride, most in axes:
        reach.append(reach[-1] + stride * most)
    if all(stride > shorter for (stride, _), shorter in zip(axes, reach, strict=False)):
        return False
    return not axes[0][0] or _meet(axes, reach)


def _meet(axes: list[tuple[int, int]], reach: list[int]) -> bool:
    """Return whether steps along axes, (stride, most steps), lead to less than an element's size from where they began.

    Steps along the longest strides are tried first, as far as the others can make up for them. In general this is a
    knapsack problem: after some 1e5 trials the answer is yes.
    """
    todo, trials = [(len(axes), 0, False)], 0
    while todo:
        axis, away, moved = todo.pop()
        if axis == 0:
            if moved:
                return True
            continue
        stride, most = axes[axis - 1]
        first = max(-most if moved else 0, -((reach[axis - 1] + away) // stride))  # the first move may be a forward one
        last = min(most, (reach[axis - 1] - away) // stride)
        trials += max(0, last - first + 1)
        if trials > 100_000:
            return True
        todo += [(axis - 1, away + steps * stride, moved or steps != 0) for steps in range(first, last + 1)]
    return False


class Tiling(NamedTuple):
    """The tiles of a layout, as the kernels of the CPU take them."""

    plan: Plan
    inner: NDArray[np.int64]  # (length, stride) of each axis that the columns are made of
    axes: NDArray[np.int64]  # (length, stride, step) of each outer axis


def tiled(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    size: int,
    whole: tuple[int, ...],
    offset: tuple[int, ...],
) -> Tiling:
    """Return the tiles that cover an array: which elements they are, and where they go from the array's address on.

    Axes that continue each other in memory and in the tensor are one. The rows are the axis of the smallest stride in
    memory, the columns consecutive elements of the tensor: the last axis, and where that is scattered in memory all the
    axes before it up to the rows. So an array whose columns lie far apart (Fortran order, channels last, the transpose
    of another layout) is written by whole cache lines all the same. The rest are outer axes.
    """
    from fastinit.kernels.cpu import SCATTER_COLUMNS, SCATTER_TILE, SIZES, SPAN, TILE, Plan

    if size not in SIZES:
        raise AssertionError(f"no kernel stores elements of {size} bytes")
    first, axes = merged(shape, strides, whole, offset)
    last = axes.pop() if axes and axes[-1].step == 1 else Axis(1, size, 1)
    contiguous = last[1] == size
    inner, rows = [last], (1, 0, 0)
    if axes:
        shortest = min(range(len(axes)), key=lambda k: abs(axes[k][1]))
        while not contiguous and len(axes) - 1 > shortest and axes[-1][2] == math.prod(axis[0] for axis in inner):
            inner.insert(0, axes.pop())
        rows = axes.pop(shortest)
    columns = math.prod(axis[0] for axis in inner)
    axes.sort(key=lambda axis: -abs(axis[1]))

    if rows[2] == columns < SPAN // 4:  # short rows that follow each other in the tensor are made together
        tile_columns, tile_rows = columns, (SPAN if contiguous else SCATTER_TILE) // columns
    elif contiguous or rows[0] == 1:
        tile_columns, tile_rows = min(columns, TILE if contiguous else SPAN), 1
    else:
        tile_columns = min(columns, SCATTER_COLUMNS)
        tile_rows = SCATTER_TILE // (tile_columns + 4)
    tile_rows = max(1, min(tile_rows, rows[0]))
    tiles = math.prod(axis[0] for axis in axes) * -(-rows[0] // tile_rows) * -(-columns // tile_columns)
    streaming = contiguous and columns * size >= 1 << 12 and math.prod(shape) * size >= STREAMING_BYTES
    plan = Plan(first, size, int(contiguous), columns, tile_columns, *rows, tile_rows, tiles, int(streaming))
    return Tiling(plan, np.array([axis[:2] for axis in inner], np.int64), np.array(axes, np.int64).reshape(-1, 3))
