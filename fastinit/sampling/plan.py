"""Layout arithmetic alone: where a region lies in its tensor, whether an array overlaps itself, axes and tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastinit.kernels.stores import Plan

STREAMING_BYTES = 4 << 20  # a buffer from this size on does not stay in the cache: it is stored past it
SHORT = 512  # elements of a row below which groups are made of several rows


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
    inner: NDArray[np.int64]  # the axes that a tile's columns are made of, or its rows; see `Plan`
    axes: NDArray[np.int64]  # each outer axis


def tiled(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    size: int,
    whole: tuple[int, ...],
    offset: tuple[int, ...],
) -> Tiling:
    """Return the tiles that cover an array: which elements they are, and where they go from the array's address on.

    Axes that continue each other in memory and in the tensor are one. The columns are consecutive elements of the
    tensor, the last axis. Long ones that are next to each other in memory are tiles of their own; of short ones, a tile
    takes the rows of all other axes. Where the last axis is scattered in memory, the rows are the axis of the smallest
    stride, and the columns all axes behind it that continue each other in the tensor. So an array whose columns lie far
    apart (Fortran order, channels last, the transpose of another layout) is written by whole cache lines all the same.
    """
    from fastinit.kernels.stores import SIZES

    if size not in SIZES:
        raise AssertionError(f"no kernel stores elements of {size} bytes")
    first, axes = merged(shape, strides, whole, offset)
    last = axes.pop() if axes and axes[-1].step == 1 else Axis(1, size, 1)
    streaming = math.prod(shape) * size >= STREAMING_BYTES
    if last.stride != size:
        return _scattered(first, size, last, axes, streaming)
    axes.sort(key=lambda axis: -abs(axis.stride))
    if axes and last.length < SHORT:
        return _short(first, size, last, axes, streaming)
    return _long(first, size, last, axes, streaming)


def _tiling(plan: Plan, inner: list[Axis], axes: list[Axis]) -> Tiling:
    """Count the tiles."""
    across = -(-plan.columns // plan.tile_columns)
    plan = plan._replace(tiles=math.prod(axis.length for axis in axes) * plan.down * across)
    return Tiling(plan, np.array(inner, np.int64).reshape(-1, 3), np.array(axes, np.int64).reshape(-1, 3))


def _long(first: int, size: int, last: Axis, axes: list[Axis], streaming: bool) -> Tiling:
    """Return the tiles of long rows: each is of one row."""
    from fastinit.kernels.stores import RUN, TILE, Plan

    rows = axes.pop() if axes else Axis(1, 0, 0)
    columns = last.length
    streaming &= columns * size >= 1 << 12
    plan = Plan(first, size, RUN, 0, columns, min(columns, TILE), *rows, 1, rows.length, 0, int(streaming), 0)
    return _tiling(plan, [], axes)


def _blocks(first: int, size: int, columns: int, axes: list[Axis]) -> tuple[int, bool]:
    """Return how many Philox blocks a row of so many columns touches at most, and whether all rows are whole blocks."""
    per_block = 2 if size == 8 else 4
    head = first % per_block
    if any(axis.step % per_block for axis in axes):
        return (columns + 2 * per_block - 2) // per_block, False
    return -(-(head + columns) // per_block), head == 0 and columns % per_block == 0


def _short(first: int, size: int, last: Axis, axes: list[Axis], streaming: bool) -> Tiling:
    """Return the tiles of short rows: each is of many rows, of all axes."""
    from fastinit.kernels.stores import APART, GROUP, PACKED, ROWS_TILE, Plan

    columns, rows = last.length, math.prod(axis.length for axis in axes)
    many, whole_blocks = _blocks(first, size, columns, axes)
    strides = [axis.stride for axis in axes]
    dense = strides == [size * columns * math.prod(axis.length for axis in axes[k + 1 :]) for k in range(len(axes))]
    tile_rows = max(1, ROWS_TILE // 2 // (many * (2 if size == 8 else 4)))
    unit = GROUP // math.gcd(GROUP, columns)  # rows that are whole groups, and whole lines
    tile_rows -= tile_rows % unit if tile_rows > unit else 0
    tile_rows = min(tile_rows, rows)
    _, stride, step = axes[-1]
    way = PACKED if dense else APART
    plan = Plan(
        first,
        size,
        way,
        int(dense and whole_blocks),
        columns,
        columns,
        rows,
        stride,
        step,
        tile_rows,
        -(-rows // tile_rows),
        0,
        int(streaming),
        0,
    )
    return _tiling(plan, axes, [])


def _scattered(first: int, size: int, last: Axis, axes: list[Axis], streaming: bool) -> Tiling:
    """Return the tiles of columns that are not next to each other in memory."""
    from fastinit.kernels.stores import COLUMNS, ROWS_TILE, SCATTERED, TURNED, Plan

    inner, rows = [last], Axis(1, 0, 0)
    if axes:
        shortest = min(range(len(axes)), key=lambda k: abs(axes[k].stride))
        while len(axes) - 1 > shortest and axes[-1].step == math.prod(axis.length for axis in inner):
            inner.insert(0, axes.pop())
        rows = axes.pop(shortest)
    axes.sort(key=lambda axis: -abs(axis.stride))
    columns = math.prod(axis.length for axis in inner)

    per_block, many = 2 if size == 8 else 4, 64 // size  # many: rows of a vector
    dense = rows.stride == size and rows.length >= many
    turned = dense and size < 8 and rows.step % 4 == 0 and all(axis.step % 4 == 0 for axis in axes)
    most = ROWS_TILE // per_block  # blocks of a tile
    tile_rows = min(rows.length, 4 * many)
    tile_columns = (most // tile_rows - (first % 4 > 0 or not turned)) * per_block  # rows may begin within a block
    tile_columns = min(columns, tile_columns)
    tile_rows = min(rows.length, most // _blocks(first, size, tile_columns, [rows] if turned else [Axis(0, 0, 1)])[0])
    tile_rows -= tile_rows % many if tile_rows > many else 0
    skewed = dense and streaming and rows.length >= 4 * tile_rows
    plan = Plan(
        first,
        size,
        COLUMNS if dense else SCATTERED,
        TURNED if turned else 0,
        columns,
        tile_columns,
        *rows,
        tile_rows,
        -(-rows.length // tile_rows) + skewed,
        0,
        int(streaming and dense),
        0,
    )
    return _tiling(plan, inner, axes)
