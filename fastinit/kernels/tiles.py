"""The walk of the CPU's kernels over an array: from a plan to spans that are drawn, and where they go.

It is the same for all distributions and dtypes. So it is a kernel of its own, which calls those that draw by their
addresses; and another one for arrays of any layout, which need more code than plain ones do.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastinit.kernels.intrinsics import call_kernel, fence, iota, store
from fastinit.kernels.layout import APART, LINE, PACKED, ROOM, SPAN, WHOLE
from fastinit.kernels.philox import LOW
from fastinit.kernels.processor import BLOCKS
from fastinit.kernels.stores import LIST, PUT, carve, drain, integers, load_plan, pass_, put_run


class Task(NamedTuple):
    """The addresses that all tiles of a task share, and the key and the stream of their words."""

    numbers: Any
    plan: Any
    memory: Any
    parts: Any
    key: Any
    stream: Any


@pass_
def _straight(plan, group, to, head, some):
    """Return the number of groups that can go straight to memory from ``to`` on, element ``head`` of its block."""
    if plan.redraws or head != 0 or (plan.streaming and to % LINE != 0):
        return 0
    return some // group


@pass_
def _alike(blocks, begin, end):
    """Return how many of the listed blocks [begin, end), from the first on, have its counter's second word."""
    some = 1
    while begin + some < end and blocks[begin + some] >> 32 == blocks[begin] >> 32:
        some += 1
    return some


def _tiling(listed: bool) -> Any:
    """Return the function that makes a tile: with ``listed`` of any region, else of runs, which need much less code."""

    @pass_
    def _tile(plan, task, to, index, row, column, rows, columns):
        """Make and store one tile; ``to`` and ``index`` are those of row 0, column 0 of its outer axes.

        It is made in pieces: of one row, or of the list of all rows' blocks. Elements next to each other go to memory
        piece by piece, straight from the registers where they can; others when the whole tile is made.
        """
        parts, size, per_block = task.parts, plan.size, 16 // plan.width
        pending, listed_blocks = integers(parts.pending, 4), integers(parts.blocks, ROOM // 2)
        group = BLOCKS * per_block
        spread = listed and plan.compact != WHOLE
        count, mixed, lanes, source = columns, False, np.int64(0), np.int64(0)
        if listed and (plan.way == PACKED or plan.way == APART):
            to += row * columns * size if plan.way == PACKED else 0
        else:
            to, index = to + row * plan.row_stride, index + row * plan.row_step + column
            to += 0 if listed else column * size
        if listed:
            count = call_kernel(
                plan.rows_code, (LIST, task.plan, task.memory, per_block, to, index, row, column, rows, columns)
            )
            mixed, count, index = count < 0, abs(count) * per_block, 0
        done = 0
        while done < count:
            goal, head, block = to + done * size, (index + done) % per_block, (index + done) // per_block
            if listed:
                place = done // per_block
                lanes, block = parts.blocks + 8 * place, listed_blocks[place]
                room = _alike(listed_blocks, place, count // per_block) if mixed else count
            else:
                room = np.int64(LOW) + 1 - (block & np.int64(LOW))  # blocks before the counter's second word changes
            some, streaming = min(count - done, room * per_block - head), 0
            groups = 0 if spread else _straight(plan, group, goal, head, some)
            straight, at, made = groups > 0, done, goal
            if straight:
                some, streaming = groups * group, plan.streaming
            else:
                if not spread:
                    at, some = pending[3], min(some, SPAN - head)
                    lead = -goal % LINE // size  # elements before the next whole line
                    if plan.streaming and not plan.redraws and lead > 0 and (head + lead) % per_block == 0:
                        some = min(some, lead)
                groups = (head + some + group - 1) // group
                made = parts.values + at * plan.width
            source = call_kernel(
                plan.draw_code,
                (task.numbers, task.memory, task.key, task.stream, made, lanes, block, groups, np.int64(straight),
                 streaming, at, head + some, index + done - head),
            )  # fmt: skip
            if not straight and not spread:
                put_run(pending, goal, source + (at + head) * size, some * size, plan.streaming)
            done += some
        if listed and spread:
            call_kernel(
                plan.rows_code, (PUT, task.plan, task.memory, per_block, to, source, row, column, rows, columns)
            )

    return _tile


def fill_tiles(listed: bool) -> Callable[..., int]:
    """Return the kernel that makes tiles, see `_tiling`."""
    tile_ = _tiling(listed)

    def kernel(numbers, plan_address, memory, address, key, stream, begin, end):
        """Make the tiles [begin, end) of a plan, for the array at an address.

        ``numbers`` is the address of what the draws take, see `fastinit.kernels.cpu.draw_span`.
        """
        plan, parts = load_plan(plan_address), carve(memory)
        task = Task(numbers, plan_address, parts.values, parts, key, stream)
        axes, pending = integers(plan.axes, 3 * plan.outer_axes), integers(parts.pending, 4)
        pending[2], pending[3] = 0, 0
        store(parts.lanes, iota())
        across = -(-plan.columns // plan.tile_columns)
        # where there is a tile more than the rows need, the first one ends where a line of the memory does
        lead = -address % LINE // plan.size if plan.down * plan.tile_rows >= plan.rows + plan.tile_rows else 0
        skew = plan.tile_rows - lead if lead else 0
        tile = begin
        while tile < end:  # a row of tiles after the other: only its first one is looked up
            if not listed:
                first, down, rest = tile % across, tile // across % plan.down, tile // across // plan.down
                last = min(across, first + end - tile)
            else:  # a column of tiles after the other, whose pages and lines are the same
                down, first, rest = tile % plan.down, tile // plan.down % across, tile // plan.down // across
                last = first + 1
            row = down * plan.tile_rows - skew
            rows = min(plan.tile_rows, plan.tile_rows + row, plan.rows - row)
            row, to, index = max(0, row), address, plan.first
            for axis in range(3 * plan.outer_axes - 3, -1, -3):
                rest, place = rest // axes[axis], rest % axes[axis]
                to += place * axes[axis + 1]
                index += place * axes[axis + 2]
            if rows > 0:
                for place in range(first, last):
                    column = place * plan.tile_columns
                    columns = min(plan.tile_columns, plan.columns - column)
                    tile_(plan, task, to, index, row, column, rows, columns)
            tile += last - first
        if plan.streaming:
            drain(pending, pending[2])
            fence(0)
        return 0

    return kernel
