"""The stores of the CPU's kernels: from values in the cache to bytes in memory of any layout.

A tile of long rows is stored run by run. Of another one, the rows' elements lie in whole Philox blocks, one row after
the other, and `put_rows` brings them to their places.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from fastinit.kernels.intrinsics import copy, copy_line, copy_vector, move, transpose
from fastinit.kernels.simd import BLOCKS, TARGET

GROUP = 4 * BLOCKS  # elements of a group; of float64 half as many
LINE = TARGET.line  # bytes of a cache line
SPAN = 2048  # consecutive elements that a tile holds in the cache, a multiple of every group
TILE = 16 * SPAN  # elements of a tile whose rows are stored whole: the work that is done once a tile must not show
ROWS_TILE = 2 * SPAN  # of one that is made of rows; those that are packed fill half of it
ROOM = ROWS_TILE + GROUP + LINE  # of a tile at most: two spans, or the rows of one, and what overshoots
LISTED = 8  # blocks that are listed at once

# How a tile goes to memory: a run of one row; rows that follow each other in memory, packed; rows wherever they are;
# and columns that are far apart, along the rows, which are dense or not
RUN, PACKED, APART, COLUMNS, SCATTERED = range(5)
SIZES = (2, 4, 8)  # bytes of the elements that are stored one by one


class Plan(NamedTuple):
    """Where the elements go, and which they are: columns, consecutive elements of the tensor; rows; and outer axes.

    Strides are in bytes of memory, steps in elements of the tensor. The axes that the columns are made of (of `PACKED`
    and `APART`: the rows), and the outer axes, come beside it as arrays.
    """

    first: int  # index of the first element in the tensor, C order
    size: int  # bytes of an element
    way: int  # `RUN`, ...: how a tile is stored
    compact: int  # 1: the rows of a `PACKED` tile are whole blocks, so that its elements are next to each other
    columns: int
    tile_columns: int
    rows: int
    row_stride: int  # of `PACKED` and `APART`, whose rows may be of several axes: of the last one
    row_step: int
    tile_rows: int
    down: int  # tiles along the rows
    tiles: int
    streaming: int  # 1: bypass the caches


class Scratch(NamedTuple):
    """The arrays of one task, which every tile uses again.

    They are carved from one buffer and own nothing, and no pass slices them: an array that owns its memory costs two
    atomic reference counts wherever it is passed or sliced, half a microsecond a tile in all.
    """

    values: Any
    todo: Any  # places in a span that are out of bounds
    starts: Any  # where in ``values`` each row of the tile begins
    fresh: Any  # the next proposals for some of ``todo``
    elements: Any  # the indices in the tensor of some of ``todo``
    encoded: Any  # 16-bit elements
    lanes: Any  # 0, 1, 2, ...: what the lanes of a group of consecutive blocks add to its first one
    blocks: Any  # the blocks of the tile's rows
    firsts: Any  # the index in the tensor of each row's first element
    places: Any  # where in memory each column of the tile goes, relative to its row; or each row
    packed: Any  # bytes: the elements of a tile's rows, next to each other; or of some columns
    pending: Any  # to stream: destination, source, number of lines; and the place for the next span


pass_ = register_jitable(forceinline=True)  # one function after inlining: nothing is counted, checked or passed


@pass_
def drain(scratch, most):
    """Stream some of the pending lines.

    A burst of streaming stores fills the store buffer, and what follows waits for the memory; a few lines after every
    group leave while the next one is computed.
    """
    pending = scratch.pending
    to, source, lines = pending[0], pending[1], min(most, pending[2])
    for line in range(lines):
        copy_line(to + LINE * line, source + LINE * line)
    pending[0], pending[1], pending[2] = to + LINE * lines, source + LINE * lines, pending[2] - lines


@pass_
def put_run(scratch, to, source, size, streaming):
    """Store ``size`` consecutive bytes; of a run to be streamed the whole lines are left pending."""
    if streaming and size >= 1024:
        head = -to % LINE
        lines = (size - head) // LINE
        done = head + LINE * lines
        copy(to, source, head)
        copy(to + done, source + done, size - done)
        pending = scratch.pending
        drain(scratch, pending[2])
        pending[0], pending[1], pending[2] = to + head, source + head, lines
        pending[3] = SPAN - pending[3]
    else:
        copy(to, source, size)


@register_jitable
def list_rows(scratch, plan, inner, index, row, rows):
    """List the first element of each row of a tile, and where in memory it goes relative to the array.

    The rows are those from ``row`` on of all axes in ``inner``, (length, stride, step), in C order.
    """
    firsts, places = scratch.firsts, scratch.places
    done = 0
    while done < rows:
        last = inner.shape[0] - 1
        rest, at = (row + done) // inner[last, 0], (row + done) % inner[last, 0]
        some = min(rows - done, inner[last, 0] - at)
        first, place = index + at * plan.row_step, at * plan.row_stride
        for axis in range(last - 1, -1, -1):
            first += rest % inner[axis, 0] * inner[axis, 2]
            place += rest % inner[axis, 0] * inner[axis, 1]
            rest //= inner[axis, 0]
        for k in range(some):
            firsts[done + k] = first + k * plan.row_step
            places[done + k] = place + k * plan.row_stride
        done += some


@register_jitable
def list_columns(scratch, plan, inner, index, rows, column, columns):
    """List the first element of each row of a tile, and where in memory each column goes relative to its row.

    The columns are those from ``column`` on of all axes in ``inner``.
    """
    for row in range(rows):
        scratch.firsts[row] = index + row * plan.row_step
    for k in range(columns):
        rest, place = column + k, 0
        for axis in range(inner.shape[0] - 1, -1, -1):
            place += rest % inner[axis, 0] * inner[axis, 1]
            rest //= inner[axis, 0]
        scratch.places[k] = place


@register_jitable
def pack_rows(scratch, source, rows, size, unit):
    """Copy the rows of a tile, ``size`` bytes each, next to each other; the address of the first one."""
    drain(scratch, scratch.pending[2])  # they may lie there
    packed, starts = np.int64(scratch.packed.ctypes.data), scratch.starts
    for row in range(rows):
        to, begin = packed + row * size, source + starts[row] * unit
        for done in range(0, size, 64):  # what is copied too much, the next row replaces
            copy_vector(to + done, begin + done)
    return packed


@register_jitable
def put_row(to, source, size, unit):
    """Store the bytes of a row, in vectors that overlap: a call of memcpy takes as long as some ten rows of 64."""
    if size >= 64:
        for done in range(0, size - 64, 64):
            copy_vector(to + done, source + done)
        copy_vector(to + size - 64, source + size - 64)
    elif size >= 8:
        for done in range(0, size - 8, 8):
            move(to + done, source + done, np.uint64(0))
        move(to + size - 8, source + size - 8, np.uint64(0))
    else:
        for done in range(0, size, unit):
            put_one(to + done, source + done, unit)


@pass_
def put_one(to, source, size):
    """Store one element, of one of the sizes in `SIZES`."""
    if size == 2:
        move(to, source, np.uint16(0))
    elif size == 4:
        move(to, source, np.uint32(0))
    else:  # 8: a plan has one of `SIZES`
        move(to, source, np.uint64(0))


@register_jitable
def put_columns(scratch, to, source, rows, columns, plan):
    """Store a tile whose rows are dense, by vectors along the rows: four columns at a time are transposed in registers."""
    many, packed = 64 // plan.size, np.int64(scratch.packed.ctypes.data)
    starts = np.int64(scratch.starts.ctypes.data)
    for column in range(0, columns, 4):
        begin = source + column * plan.size
        for step in range(0, rows, many):
            row = min(step, rows - many)  # the last ones overlap
            if plan.size == 2:
                transpose(packed, begin, starts + 4 * row, np.uint16(0))
            elif plan.size == 4:
                transpose(packed, begin, starts + 4 * row, np.uint32(0))
            else:
                transpose(packed, begin, starts + 4 * row, np.uint64(0))
            for k in range(min(4, columns - column)):
                goal = to + scratch.places[column + k] + row * plan.size
                if plan.streaming and goal % LINE == 0:
                    copy_line(goal, packed + 64 * k)
                else:
                    copy_vector(goal, packed + 64 * k)


@register_jitable
def put_rows(scratch, to, source, rows, columns, plan):
    """Store the elements of a tile's rows, each to its place; ``source`` is the address of element 0."""
    if plan.way == APART:
        for row in range(rows):
            begin = source + scratch.starts[row] * plan.size
            put_row(to + scratch.places[row], begin, columns * plan.size, plan.size)
    elif plan.way == COLUMNS and rows >= 64 // plan.size:
        put_columns(scratch, to, source, rows, columns, plan)
    else:
        for column in range(columns):
            for row in range(rows):  # whose stride is the shorter one
                place = to + scratch.places[column] + row * plan.row_stride
                put_one(place, source + (scratch.starts[row] + column) * plan.size, plan.size)
