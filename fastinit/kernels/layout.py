"""The tiles in which the CPU's kernels work, as those who plan fills know them: nothing here is compiled."""

from __future__ import annotations

from typing import NamedTuple

from fastinit.kernels.processor import BLOCKS, TARGET

GROUP = 4 * BLOCKS  # elements of a group; of float64 half as many
LINE = TARGET.line  # bytes of a cache line
SPAN = 4096  # consecutive elements that a tile holds in the cache, a multiple of every group
TILE = 8 * SPAN  # elements of a tile whose rows are stored whole: the work that is done once a tile must not show
ROWS_TILE = 4096  # of one that is made of rows; those that are packed fill half of it
ROOM = max(2 * SPAN, ROWS_TILE) + GROUP + LINE  # of a tile at most: two spans, or rows, and what overshoots
LOT = 256  # elements that are redrawn at once
SCRATCH_BYTES = ROOM * (8 + 8 + 4 + 4 + 4 + 2) + ROWS_TILE * 16 + BLOCKS * 24 + LOT * 16 + 4 * 8 + LINE
LISTED = 8  # blocks that are listed at once

# How a tile goes to memory: a run of one row; rows that follow each other in memory, packed; rows wherever they are;
# and columns that are far apart, along the rows, which are dense or not
RUN, PACKED, APART, COLUMNS, SCATTERED = range(5)
WHOLE, TURNED = 1, 2  # what is the same for all rows
SIZES = (2, 4, 8)  # bytes of the elements that are stored one by one


class Plan(NamedTuple):
    """Where the elements go, and which they are: columns, consecutive elements of the tensor; rows; and outer axes.

    Strides are in bytes of memory, steps in elements of the tensor. The inner axes are those that the columns are made
    of; of `PACKED` and `APART` the rows.
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
    inner: int = 0  # address of the axes that a tile's columns, or rows, are made of: (length, stride, step) of each
    inner_axes: int = 0  # how many
    axes: int = 0  # address of the outer axes
    outer_axes: int = 0
    rows_code: int = 0  # address of the kernel of rows, where a tile is not a run
    draw_code: int = 0  # of the kernel that draws
    width: int = 0  # bytes of a value, before it is rounded
    redraws: int = 0  # 1: values are looked at again once they are made
