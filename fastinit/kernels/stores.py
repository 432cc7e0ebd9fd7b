"""The stores of the CPU's kernels: from values in the cache to bytes in memory of any layout.

A tile of long rows is stored run by run, by the kernel that makes it. Everything else about rows, which blocks they
take and where their elements go, is the same for all distributions: it is a kernel of its own, which the others call by
its address. So it is compiled once, and only for those who have such arrays.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import register_jitable

from fastinit.kernels.cache import keep
from fastinit.kernels.intrinsics import (
    copy,
    copy_line,
    copy_vector,
    count_up,
    full_vectors,
    move,
    pointer,
    split,
    transpose,
)
from fastinit.kernels.simd import BLOCKS, TARGET

GROUP = 4 * BLOCKS  # elements of a group; of float64 half as many
LINE = TARGET.line  # bytes of a cache line
SPAN = 4096  # consecutive elements that a tile holds in the cache, a multiple of every group
TILE = 8 * SPAN  # elements of a tile whose rows are stored whole: the work that is done once a tile must not show
ROWS_TILE = 4096  # of one that is made of rows; those that are packed fill half of it
ROOM = max(2 * SPAN, ROWS_TILE) + GROUP + LINE  # of a tile at most: two spans, or rows, and what overshoots
REDRAWN = 256  # elements that are redrawn at once
SCRATCH_BYTES = ROOM * (8 + 8 + 4 + 4 + 4 + 2) + ROWS_TILE * 16 + BLOCKS * 24 + REDRAWN * 16 + 4 * 8 + LINE
LISTED = 8  # blocks that are listed at once

# How a tile goes to memory: a run of one row; rows that follow each other in memory, packed; rows wherever they are;
# and columns that are far apart, along the rows, which are dense or not
RUN, PACKED, APART, COLUMNS, SCATTERED = range(5)
WHOLE, TURNED = 1, 2  # what is the same for all rows
SIZES = (2, 4, 8)  # bytes of the elements that are stored one by one


class Plan(NamedTuple):
    """Where the elements go, and which they are: columns, consecutive elements of the tensor; rows; and outer axes.

    Strides are in bytes of memory, steps in elements of the tensor. The axes that the columns are made of (of `PACKED`
    and `APART`: the rows), and the outer axes, come beside it as arrays.
    """

    first: int  # index of the first element in the tensor, C order
    size: int  # bytes of an element
    way: int  # `RUN`, ...: how a tile is stored
    compact: int  # `WHOLE`: rows of `PACKED` are whole blocks, so that the tile's elements are next to each other.
    # `TURNED`: all rows of `COLUMNS` begin at one place in a block, so that blocks are listed below each other
    columns: int
    tile_columns: int
    rows: int
    row_stride: int  # of `PACKED` and `APART`, whose rows may be of several axes: of the last one
    row_step: int
    tile_rows: int
    down: int  # tiles along the rows
    tiles: int
    streaming: int  # 1: bypass the caches
    rows_code: int  # `rows_address`, where a tile is not a run


LIST, PUT = 0, 1  # what the kernel of rows does


class Parts(NamedTuple):
    """The addresses of what one task's memory is carved into."""

    values: Any
    packed: Any  # the elements of a tile's rows, next to each other; or of some columns
    lanes: Any  # uint64, 0, 1, 2, ...: what the lanes of a group of consecutive blocks add to its first one
    elements: Any  # uint64: the indices in the tensor of some of ``todo``
    blocks: Any  # int64: the blocks of the tile's rows
    firsts: Any  # int64: the index in the tensor of each row's first element
    places: Any  # int64: where in memory each column of the tile goes, relative to its row; or each row
    words: Any  # uint32: the words of `REDRAWN` blocks, the first ones of all, the second ones, ...
    fresh: Any  # the next proposals for some of ``todo``
    todo: Any  # uint16: places in a span that are out of bounds
    starts: Any  # int32: where in ``values`` each row of the tile begins
    encoded: Any  # 16-bit elements
    pending: Any  # int64, to stream: destination, source, number of lines; and the place for the next span


pass_ = register_jitable(forceinline=True)  # one function after inlining: nothing is counted, checked or passed


@pass_
def carve(memory):
    """Carve a task's memory, which every tile uses again, the same for values of any width."""
    values = -(-memory // LINE) * LINE  # whole lines, since a vector that spans two costs two accesses
    packed = values + ROOM * 8
    lanes = packed + ROOM * 8
    elements = lanes + BLOCKS * 8
    blocks = elements + BLOCKS * 8
    firsts = blocks + ROOM * 4
    places = firsts + ROWS_TILE * 8
    words = places + ROWS_TILE * 8
    fresh = words + REDRAWN * 16
    todo = fresh + BLOCKS * 8
    starts = todo + ROOM * 4
    encoded = starts + ROOM * 4
    pending = encoded + ROOM * 2
    return Parts(values, packed, lanes, elements, blocks, firsts, places, words, fresh, todo, starts, encoded, pending)


@pass_
def drain(pending, most):
    """Stream some of the pending lines.

    A burst of streaming stores fills the store buffer, and what follows waits for the memory; a few lines after every
    group leave while the next one is computed.
    """
    to, source, lines = pending[0], pending[1], min(most, pending[2])
    for line in range(lines):
        copy_line(to + LINE * line, source + LINE * line)
    pending[0], pending[1], pending[2] = to + LINE * lines, source + LINE * lines, pending[2] - lines


@pass_
def put_run(pending, to, source, size, streaming):
    """Store ``size`` consecutive bytes; of a run to be streamed the whole lines are left pending."""
    if streaming and size >= 1024:
        head = -to % LINE
        lines = (size - head) // LINE
        done = head + LINE * lines
        copy(to, source, head)
        copy(to + done, source + done, size - done)
        drain(pending, pending[2])
        pending[0], pending[1], pending[2] = to + head, source + head, lines
        pending[3] = SPAN - pending[3]
    else:
        copy(to, source, size)


@pass_
def _integers(address, count):
    """Return an array of int64 at an address."""
    return carray(pointer(address), count, np.int64)


@pass_
def _list_rows(firsts, places, plan, inner, axes, index, row, rows):
    """List the first element of each row of a tile, and where in memory it goes relative to the array.

    The rows are those from ``row`` on of all the axes in ``inner``, in C order.
    """
    done = 0
    while done < rows:
        rest, at = (row + done) // inner[3 * axes - 3], (row + done) % inner[3 * axes - 3]
        some = min(rows - done, inner[3 * axes - 3] - at)
        first, place = index + at * plan.row_step, at * plan.row_stride
        for axis in range(3 * axes - 6, -1, -3):
            first += rest % inner[axis] * inner[axis + 2]
            place += rest % inner[axis] * inner[axis + 1]
            rest //= inner[axis]
        for k in range(some):
            firsts[done + k] = first + k * plan.row_step
            places[done + k] = place + k * plan.row_stride
        done += some


@pass_
def _list_columns(firsts, places, plan, inner, axes, index, rows, column, columns):
    """List the first element of each row of a tile, and where in memory each column goes relative to its row.

    The columns are those from ``column`` on of all the axes in ``inner``.
    """
    for row in range(rows):
        firsts[row] = index + row * plan.row_step
    for k in range(columns):
        rest, place = column + k, 0
        if axes == 1:  # divisions would show
            places[k] = rest * inner[1]
            continue
        for axis in range(3 * axes - 3, -1, -3):
            place += rest % inner[axis] * inner[axis + 1]
            rest //= inner[axis]
        places[k] = place


@pass_
def _list_blocks(firsts, starts, blocks, rows, columns, per_block):
    """List the blocks of a tile's rows, and where in the tile's values each row begins.

    The lanes of a group come from several rows, so that short ones waste none. A block that two rows share is listed
    once. Return how many blocks there are, negative if their counters differ in the second word.
    """
    count, last, mixed = np.int64(0), np.int64(-1), np.int64(0)
    shift = 2 if per_block == 4 else 1  # a division would take as long as all the rest
    for row in range(rows):
        first = firsts[np.uint64(row)]
        block, head = first >> shift, first & (per_block - 1)
        count -= np.int64(block == last)
        starts[np.uint64(row)] = (count << shift) + head
        some = (head + columns + per_block - 1) >> shift
        for k in range(0, some, LISTED):  # what is listed too much, the next row replaces
            count_up(blocks + 8 * (count + k), np.uint64(block + k))
        count += some
        last = block + some - 1
        mixed |= (block ^ (firsts[0] >> shift)) | (last ^ block)
    return -count if mixed >> 32 else count


@pass_
def _list_turned(starts, blocks, plan, index, rows, columns):
    """List the blocks of a tile's rows, the first ones of all rows before the second ones; return their number."""
    step, first, head = plan.row_step >> 2, index >> 2, index & 3
    many = (head + columns + 3) >> 2
    starts[0] = head
    for k in range(many):
        for row in range(rows):
            blocks[np.uint64(k * rows + row)] = first + k + row * step
    return -many * rows if (first ^ (first + many - 1 + (rows - 1) * step)) >> 32 else many * rows


@pass_
def _pack_rows(starts, packed, source, rows, columns, unit):
    """Copy the rows of a tile next to each other."""
    size = columns * unit
    for row in range(rows):
        to, begin = packed + row * size, source + starts[row] * unit
        for done in range(0, size, 64):  # what is copied too much, the next row replaces
            copy_vector(to + done, begin + done)


@register_jitable
def _put_bytes(to, source, size, unit):
    """Store some elements, in vectors that overlap: a call of memcpy takes as long as several rows of 64 bytes."""
    if size >= 64:
        for done in range(0, size, 64):
            step = min(done, size - 64)
            copy_vector(to + step, source + step)
    elif size >= 8:
        for done in range(0, size, 8):
            step = min(done, size - 8)
            move(to + step, source + step, np.uint64(0))
    else:
        for done in range(0, size, unit):
            _put_one(to + done, source + done, unit)


@register_jitable
def _put_row(to, source, size, unit, streaming):
    """Store a row or a column; past the caches those lines that are whole, and only once."""
    head = -to % LINE
    if streaming and size >= head + LINE:
        _put_bytes(to, source, head, unit)
        lines = (size - head) // LINE
        for done in range(head, head + lines * LINE, LINE):
            copy_line(to + done, source + done)
        head += lines * LINE
        _put_bytes(to + head, source + head, size - head, unit)
    else:
        _put_bytes(to, source, size, unit)


@pass_
def _put_one(to, source, size):
    """Store one element, of one of the sizes in `SIZES`."""
    if size == 2:
        move(to, source, np.uint16(0))
    elif size == 4:
        move(to, source, np.uint32(0))
    else:  # 8: a plan has one of `SIZES`
        move(to, source, np.uint64(0))


@pass_
def _turn(parts, plan, to, apart, source, row, rows, column, unit):
    """Put a vector of each of four columns to the cache, from ``row`` on; `TURNED`, columns count from a block on."""
    if plan.compact == TURNED:
        split(to, apart, source + (column * rows + 4 * row) * plan.size, unit)
    else:
        transpose(to, apart, source + column * plan.size, parts.starts + 4 * row, unit)


@pass_
def _put_columns(parts, starts, places, plan, to, source, rows, columns):
    """Store a tile whose rows are dense, column by column: four of them are turned in registers."""
    many, packed, apart = 64 // plan.size, parts.packed, rows * plan.size
    head = np.int64(starts[0]) if plan.compact == TURNED else 0
    for column in range(-head, columns, 4):
        for step in range(0, rows, many):
            row = min(step, rows - many)  # the last ones overlap
            goal = packed + row * plan.size
            if plan.size == 2:
                _turn(parts, plan, goal, apart, source, row, rows, head + column, np.uint16(0))
            elif plan.size == 4:
                _turn(parts, plan, goal, apart, source, row, rows, head + column, np.uint32(0))
            else:
                transpose(goal, apart, source + column * plan.size, parts.starts + 4 * row, np.uint64(0))
        for k in range(max(0, -column), min(4, columns - column)):
            _put_row(to + places[column + k], packed + k * apart, apart, plan.size, plan.streaming)


def _kernel() -> Any:
    @njit(nogil=True)
    def tile_rows(action, plan, memory, inner, axes, per_block, to, index, row, column, rows, columns):
        """List a tile's blocks and return their number, or `PUT` its elements, which begin at ``index``, to memory.

        ``inner`` is the address of ``axes`` axes, see `Plan`. What is listed for a tile stays in ``memory``.
        """
        full_vectors()
        plan, parts = Plan(*plan), carve(memory)
        places, starts = _integers(parts.places, ROWS_TILE), carray(pointer(parts.starts), ROOM, np.int32)
        if action == LIST:
            firsts = _integers(parts.firsts, ROWS_TILE)
            if plan.way <= APART:
                _list_rows(firsts, places, plan, _integers(inner, 3 * axes), axes, index, row, rows)
            else:
                _list_columns(firsts, places, plan, _integers(inner, 3 * axes), axes, index, rows, column, columns)
            if plan.compact == TURNED and rows >= 64 // plan.size:
                return _list_turned(starts, _integers(parts.blocks, ROOM // 2), plan, index, rows, columns)
            if plan.way <= APART or plan.row_step != columns:
                return _list_blocks(firsts, starts, parts.blocks, rows, columns, per_block)
            count = _list_blocks(firsts, starts, parts.blocks, 1, rows * columns, per_block)  # they follow each other
            for k in range(rows):
                starts[k] = starts[0] + k * columns
            return count
        size = plan.size
        if plan.way == PACKED:
            pending = _integers(parts.pending, 4)
            drain(pending, pending[2])  # what lies where the rows are packed
            _pack_rows(starts, parts.packed, index, rows, columns, size)
            put_run(pending, to, parts.packed, rows * columns * size, plan.streaming)
        elif plan.way == APART:
            for k in range(rows):
                _put_row(to + places[k], index + starts[k] * size, columns * size, size, plan.streaming)
        elif plan.way == COLUMNS and rows >= 64 // size:
            _put_columns(parts, starts, places, plan, to, index, rows, columns)
        else:
            for c in range(columns):
                for k in range(rows):  # whose stride is the shorter one
                    _put_one(to + places[c] + k * plan.row_stride, index + (starts[k] + c) * size, size)
        return 0

    return keep(tile_rows, "the rows of regions")


_kept: dict[str, Any] = {}  # an address is good while its kernel lives


@cache
def rows_address() -> int:
    """Return the address of the compiled kernel of rows."""
    integers = types.int64
    kernel = _kept.setdefault("rows", _kernel())  # threads that come at once compile it once
    signature = (integers, types.UniTuple(integers, len(Plan._fields)), *[integers] * 10)
    kernel.compile(signature)
    version = kernel.overloads[signature]
    address: int = version.library.get_pointer_to_function(version.fndesc.llvm_func_name)
    return address
