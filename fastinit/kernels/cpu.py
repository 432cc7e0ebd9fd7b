"""The loops that run on the CPU: from words to values to bytes, in vector registers.

Some consecutive Philox blocks, a *group*, are made side by side: the same scalar functions that define a value, typed
for `Lanes`. A distribution without rejections goes from the counter to the stored line without touching memory in
between. One that redraws passes through a span in the cache: the values of attempt 0, the list of those that are out of
bounds, their next proposals, and then the stores.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, typeof, types  # type: ignore[attr-defined]
from numba.extending import overload, register_jitable

from fastinit.kernels.cache import describe, keep
from fastinit.kernels.intrinsics import (
    and_,
    broadcast,
    copy,
    copy_line,
    even,
    fence,
    full_vectors,
    interleave,
    iota,
    join,
    load_doubles,
    load_places,
    load_singles,
    low_half,
    lshr,
    move,
    movemask,
    odd,
    pointer,
    popcount,
    select,
    shl,
    store,
    store_compressed,
    store_nontemporal,
    to_bfloat16,
    to_float16,
    weave,
    widen,
)
from fastinit.kernels.philox import HALF, LOW, philox
from fastinit.kernels.simd import BLOCKS, TARGET
from fastinit.kernels.transforms import ROWS, clamp

GROUP = 4 * BLOCKS  # elements of a group; of float64 half as many
LINE = TARGET.line  # bytes of a cache line
SPAN = 2048  # consecutive elements that a tile holds in the cache, a multiple of every group
TILE = 16 * SPAN  # elements of a tile whose rows are stored whole: the work that is done once a tile must not show
SCATTER_TILE = 4096  # of one whose elements lie apart in memory: enough of them to write whole cache lines
SCATTER_COLUMNS = 256 - 4  # of it, so that its rows end in whole groups wherever in a block they begin
ROOM = SCATTER_TILE + GROUP + LINE  # of a tile at most: two spans, or the rows of a scattered one, and what overshoots
SCRATCH_BYTES = ROOM * (8 + 4 + 4 + 2) + BLOCKS * 8 + SCATTER_TILE * 8 + 4 * 8 + LINE
LAST_ATTEMPT = 4095

AS_IS, FLOAT16, BFLOAT16 = 0, 1, 2
SIZES = (2, 4, 8)  # bytes of the elements that are stored one by one
ENCODINGS = {"as is": AS_IS, "float16": FLOAT16, "bfloat16": BFLOAT16}  # how values become elements, as kernels take it


class Plan(NamedTuple):
    """Where the elements go, and which they are: columns, consecutive elements of the tensor; rows; and outer axes.

    Strides are in bytes of memory, steps in elements of the tensor. The columns' own places in memory, and the outer
    axes, come beside it as arrays.
    """

    first: int  # index of the first element in the tensor, C order
    size: int  # bytes of an element
    contiguous: int  # 1: the columns lie next to each other in memory
    columns: int
    tile_columns: int
    rows: int
    row_stride: int
    row_step: int
    tile_rows: int
    tiles: int
    streaming: int  # 1: bypass the caches


class Request(NamedTuple):
    """The bounds and the encoding of elements, and the key and stream of their words."""

    low: Any  # the bounds in which 16-bit values are held, and a float of the computation's precision
    high: Any
    encoding: int
    key: int
    stream: int


class Scratch(NamedTuple):
    """The arrays of one task, which every tile uses again.

    They are carved from one buffer and own nothing, and no pass slices them: an array that owns its memory costs two
    atomic reference counts wherever it is passed or sliced, half a microsecond a tile in all.
    """

    values: Any
    todo: Any  # places in a span that are out of bounds
    starts: Any  # where in ``values`` each row of the tile begins
    fresh: Any  # the next proposals for some of ``todo``
    encoded: Any  # 16-bit elements
    places: Any  # where in memory each column of the tile goes, relative to its row
    pending: Any  # to stream: destination, source, number of lines; and the place for the next span


_pass = register_jitable(forceinline=True)  # one function after inlining: nothing is counted, checked or passed


def _by_transform(stub: Callable[..., Any]) -> Any:
    """Decorate as `overload` does, for a function that is selected by the type of its first argument."""
    return overload(stub, jit_options={"forceinline": True})


def _pairs(real, c):
    """Return the words of each block of lanes that begin pairs, and their partners, in the float's width."""


@_by_transform(_pairs)
def _pairs_by_width(real, c):
    if real.bitwidth == 32:
        return lambda real, c: (weave(c[0], c[2]), weave(c[1], c[3]))
    return lambda real, c: (join(weave(c[0], c[1])), join(weave(c[2], c[3])))


@_pass
def _words(blocks, c1, request):
    """Return the pairs of words of these blocks: the first words of all, and the second ones."""
    name, key = request.stream, request.key
    words = philox(blocks, c1, broadcast(name & LOW), broadcast(name >> HALF), key & LOW, key >> HALF)
    return _pairs(request.low, words)


@_pass
def _drain(scratch, most):
    """Stream some of the pending lines.

    A burst of streaming stores fills the store buffer, and what follows waits for the memory; a few lines after every
    group leave while the next one is computed.
    """
    pending = scratch.pending
    to, source, lines = pending[0], pending[1], min(most, pending[2])
    for line in range(lines):
        copy_line(to + LINE * line, source + LINE * line)
    pending[0], pending[1], pending[2] = to + LINE * lines, source + LINE * lines, pending[2] - lines


@_pass
def _store(to, elements, streaming):
    """Store past the caches or through them."""
    if streaming:
        store_nontemporal(to, elements)
    else:
        store(to, elements)


def _clamped(transform, value, low, high):
    """Return the value, clamped to the bounds of its distribution where it has any."""


@_by_transform(_clamped)
def _clamped_by_transform(transform, value, low, high):
    if ROWS[transform.instance_class].bounded:
        return lambda transform, value, low, high: clamp(value, low, high)
    return lambda transform, value, low, high: value


def _put(first, second, transform, low, high, to, encoding, streaming):
    """Store the values of pairs as elements; return the number of bytes."""


@_by_transform(_put)
def _put_by_width(first, second, transform, low, high, to, encoding, streaming):
    size = first.count * first.bitwidth // 4

    def wide(first, second, transform, low, high, to, encoding, streaming):
        _store(to, interleave(first, second), streaming)
        return size

    def narrow(first, second, transform, low, high, to, encoding, streaming):
        if encoding == AS_IS:
            _store(to, interleave(first, second), streaming)
            return size
        first, second = _clamped(transform, first, low, high), _clamped(transform, second, low, high)
        if encoding == BFLOAT16:
            _store(to, to_bfloat16(first) | shl(to_bfloat16(second), 16), streaming)
        else:
            _store(to, to_float16(first) | shl(to_float16(second), 16), streaming)
        return size // 2

    return narrow if first.bitwidth == 32 else wide


def _groups(transform, scratch, request, to, block, groups, encoding, streaming):
    """Draw the blocks of some groups, attempt 0 where the transform has one, and store their elements from ``to`` on.

    No group passes a multiple of 2**32 blocks, so that the counter's second word is one number.
    """


@_by_transform(_groups)
def _groups_by_transform(transform, scratch, request, to, block, groups, encoding, streaming):
    draw = ROWS[transform.instance_class].pair
    if draw is None:
        return lambda transform, scratch, request, to, block, groups, encoding, streaming: None

    def loop(transform, scratch, request, to, block, groups, encoding, streaming):
        first = np.uint64(block)
        c1 = broadcast(first >> HALF)
        for group in range(groups):
            a, b = _words(iota(first + np.uint64(group * BLOCKS)), c1, request)
            values, others = draw(transform, a, b)
            _drain(scratch, BLOCKS // 4)
            to += _put(values, others, transform, request.low, request.high, to, encoding, streaming)

    return loop


def _load(low, address):
    """Load 16 values."""


@_by_transform(_load)
def _load_by_width(low, address):
    return (
        (lambda low, address: load_singles(address))
        if low.bitwidth == 32
        else (lambda low, address: load_doubles(address))
    )


def _rejected(transform, scratch, at, size):
    """List the places of the values that must be redrawn; return their number."""


@_by_transform(_rejected)
def _rejected_by_transform(transform, scratch, at, size):
    def everything(transform, scratch, at, size):
        for j in range(size):
            scratch.todo[j] = j
        return size

    def outsiders(transform, scratch, at, size):
        todo, values, count = scratch.todo, scratch.values, 0
        source, to = np.int64(values.ctypes.data) + at * values.itemsize, np.int64(todo.ctypes.data)
        for first in range(0, size, 16):
            some = _load(transform.lower, source + first * values.itemsize)
            outside = (some < transform.lower) | (some > transform.upper)
            store_compressed(to + 4 * count, first, outside)
            count += popcount(outside)
        while count > 0 and todo[count - 1] >= size:
            count -= 1
        return count

    return everything if ROWS[transform.instance_class].pair is None else outsiders


def _propose(transform, a, b):
    """Return one proposal for each block: fresh values, and whether they are accepted."""


@_by_transform(_propose)
def _propose_by_transform(transform, a, b):
    propose: Any = ROWS[transform.instance_class].propose

    def two_pairs(transform, a, b):
        first, taken = propose(transform, even(a), even(b))
        second, spare = propose(transform, odd(a), odd(b))
        return select(taken, first, second), taken | spare

    return two_pairs if transform.types[0].bitwidth == 32 else (lambda transform, a, b: propose(transform, a, b))


def _settle(transform, scratch, request, at, size, base):
    """Redraw the values out of bounds in the span ``values[at:]``, whose first element is number ``base``.

    Every element is redrawn by its own attempts, until all are inside.
    """


@_by_transform(_settle)
def _settle_by_transform(transform, scratch, request, at, size, base):
    first_attempt = ROWS[transform.instance_class].first_attempt
    if ROWS[transform.instance_class].propose is None:
        return lambda transform, scratch, request, at, size, base: None

    def loop(transform, scratch, request, at, size, base):
        values, todo, fresh = scratch.values, scratch.todo, scratch.fresh
        count = _rejected(transform, scratch, at, size)
        attempt = first_attempt
        while count > 0 and attempt <= LAST_ATTEMPT:
            left_over = np.int64(0)
            tries = broadcast(np.uint64(attempt) << np.uint64(20))
            for start in range(0, count, BLOCKS):  # what follows the last place is made, but not used
                blocks = widen(load_places(np.int64(todo.ctypes.data) + 4 * start)) + np.uint64(base)
                a, b = _words(blocks, (blocks >> HALF) | tries, request)
                proposals, accepted = _propose(transform, a, b)
                store(np.int64(fresh.ctypes.data), proposals)
                good = movemask(accepted)
                for j in range(min(BLOCKS, count - start)):
                    place = todo[np.uint64(start + j)]
                    values[np.uint64(at + place)] = fresh[np.uint64(j)]
                    todo[np.uint64(left_over)] = place
                    left_over += 1 - np.int64(and_(lshr(good, j), np.uint64(1)))
            count = left_over
            attempt += 1
        for j in range(count):  # never reached by a distribution that has room for its values among the floats
            place = np.uint64(at + todo[j])
            values[place] = clamp(values[place], transform.lower, transform.upper)

    return loop


def _encode(values, scratch, request, at, size):
    """Round ``values[at:]`` to 16 bits if they are to be; the address of element 0 of either kind."""


@_by_transform(_encode)
def _encode_by_width(values, scratch, request, at, size):
    def wide(values, scratch, request, at, size):
        return np.int64(values.ctypes.data)

    def narrow(values, scratch, request, at, size):
        source, to = np.int64(values.ctypes.data), np.int64(scratch.encoded.ctypes.data)
        if request.encoding == AS_IS:
            return source
        for place in range(at, at + size, 16):
            clamped = clamp(_load(request.low, source + 4 * place), request.low, request.high)
            if request.encoding == BFLOAT16:
                store(to + 2 * place, low_half(to_bfloat16(clamped)))
            else:
                store(to + 2 * place, low_half(to_float16(clamped)))
        return to

    return narrow if values.dtype.bitwidth == 32 else wide


@_pass
def _store_run(scratch, to, source, size, streaming):
    """Store ``size`` consecutive bytes; of a run to be streamed the whole lines are left pending."""
    if streaming and size >= 1024:
        head = -to % LINE
        lines = (size - head) // LINE
        done = head + LINE * lines
        copy(to, source, head)
        copy(to + done, source + done, size - done)
        pending = scratch.pending
        _drain(scratch, pending[2])
        pending[0], pending[1], pending[2] = to + head, source + head, lines
        pending[3] = SPAN - pending[3]
    else:
        copy(to, source, size)


@_pass
def _move(to, source, size):
    """Store one element, of one of the sizes in `SIZES`."""
    if size == 2:
        move(to, source, np.uint16(0))
    elif size == 4:
        move(to, source, np.uint32(0))
    else:  # 8: a plan has one of `SIZES`
        move(to, source, np.uint64(0))


@_pass
def _locate(places, inner, column, columns):
    """List the places of the columns from ``column`` on, relative to their row; ``inner`` as for `fill_tiles`."""
    for k in range(columns):
        rest, place = column + k, 0
        for axis in range(inner.shape[0] - 1, -1, -1):
            place += rest % inner[axis, 0] * inner[axis, 1]
            rest //= inner[axis, 0]
        places[k] = place


@register_jitable
def _scatter(to, source, scratch, rows, columns, plan):
    """Store a tile whose columns do not lie next to each other: along the rows, whose stride is the shorter one."""
    for column in range(columns):
        for row in range(rows):
            place = to + scratch.places[column] + row * plan.row_stride
            _move(place, source + (scratch.starts[row] + column) * plan.size, plan.size)


def _redraws(transform):
    """Return whether values of this transform are looked at again once they are made."""


@_by_transform(_redraws)
def _redraws_by_transform(transform):
    again = ROWS[transform.instance_class].propose is not None
    return lambda transform: again


@_pass
def _straight(transform, plan, group, to, head, remaining, room):
    """Return the number of groups that can go straight to memory from ``to`` on, element ``head`` of its block."""
    if _redraws(transform) or head != 0 or (plan.streaming and to % LINE != 0):
        return 0
    return min(remaining // group, room // BLOCKS)


@_pass
def _tile(transform, scratch, plan, request, inner, to, index, column, rows, columns):
    """Make and store one tile; ``to`` and ``index`` are those of its first row's column 0.

    Rows that follow each other in the tensor are one span. A span whose elements lie next to each other is stored piece
    by piece, others when the whole tile is made.
    """
    width, pending = scratch.values.itemsize, scratch.pending  # of a value before it is rounded
    group, per_block = 16 * BLOCKS // width, 16 // width
    together = rows if plan.row_step == columns else 1
    at_once = plan.contiguous and together == 1
    at = 0
    for row in range(0, rows, together):
        first, count = index + column + row * plan.row_step, together * columns
        place = to + row * plan.row_stride + column * plan.size
        done = 0
        while done < count:
            goal, head = place + done * plan.size, (first + done) % per_block
            block = (first + done) // per_block
            room = np.int64(LOW) + 1 - (block & np.int64(LOW))  # blocks before the counter's second word changes
            some, encoding, streaming = min(count - done, room * per_block - head, SPAN - head), AS_IS, 0
            groups = _straight(transform, plan, group, goal, head, count - done, room) if at_once else 0
            straight = groups > 0
            if straight:
                some, encoding, streaming = groups * group, request.encoding, plan.streaming
            else:
                if at_once:
                    at = pending[3]
                    lead = -goal % LINE // plan.size  # elements before the next whole line
                    if plan.streaming and not _redraws(transform) and lead > 0 and (head + lead) % per_block == 0:
                        some = min(some, lead)
                groups = (head + some + group - 1) // group
                goal = np.int64(scratch.values.ctypes.data) + at * width
            _groups(transform, scratch, request, goal, block, groups, encoding, streaming)
            if not straight:
                _settle(transform, scratch, request, at, head + some, first + done - head)
                if at_once:
                    source = _encode(scratch.values, scratch, request, at, head + some) + (at + head) * plan.size
                    _store_run(scratch, place + done * plan.size, source, some * plan.size, plan.streaming)
                elif done == 0:
                    for k in range(together):
                        scratch.starts[row + k] = at + head + k * columns
                at += head + some
            done += some
    if at_once:
        return
    source = _encode(scratch.values, scratch, request, 0, at)
    if plan.contiguous:
        for row in range(rows):
            start = source + scratch.starts[row] * plan.size
            copy(to + row * plan.row_stride + column * plan.size, start, columns * plan.size)
    else:
        _locate(scratch.places, inner, column, columns)
        _scatter(to, source, scratch, rows, columns, plan)


def _scratch(one, memory):
    """Carve the arrays of one task, for values of the width of ``one``, from ``memory``."""


@_by_transform(_scratch)
def _scratch_by_width(one, memory):
    real, width = (np.float32, 4) if one.bitwidth == 32 else (np.float64, 8)

    def carve(one, memory):
        # whole lines, since a vector that spans two costs two accesses
        values = -(-np.int64(memory.ctypes.data) // LINE) * LINE
        fresh = values + ROOM * width
        places = fresh + BLOCKS * width
        todo = places + SCATTER_TILE * 8
        starts = todo + ROOM * 4
        encoded = starts + ROOM * 4
        pending = encoded + ROOM * 2
        return Scratch(
            carray(pointer(values), ROOM, real),
            carray(pointer(todo), ROOM, np.int32),
            carray(pointer(starts), ROOM, np.int32),
            carray(pointer(fresh), BLOCKS, real),
            carray(pointer(encoded), ROOM, np.uint16),
            carray(pointer(places), SCATTER_TILE, np.int64),
            carray(pointer(pending), 4, np.int64),
        )

    return carve


def _kernel(transform_class: Any) -> Any:
    """Return the entry for a transform, held in its closure: as an argument it would cost 3 microseconds a call."""

    @njit(nogil=True)
    def fill_tiles(draw, bounds, plan, inner, axes, memory, address, key, stream, begin, end):
        """Make the tiles [begin, end) of a plan, for the array at an address.

        ``draw`` has the transform's parameters, ``bounds`` the first fields of `Request`, ``plan`` those of `Plan`.
        ``inner`` has a row (count, stride) for each axis that the columns are made of, ``axes`` one (count, stride,
        step) for each outer axis.
        """
        full_vectors()
        transform, plan = transform_class(*draw), Plan(*plan)
        request = Request(bounds[0], bounds[1], bounds[2], key, stream)
        scratch = _scratch(request.low, memory)
        scratch.pending[2], scratch.pending[3] = 0, 0
        across, down = -(-plan.columns // plan.tile_columns), -(-plan.rows // plan.tile_rows)
        tile = begin
        while tile < end:  # a row of tiles after the other: only its first one is looked up
            first = tile % across
            last = min(across, first + end - tile)
            rest, row = tile // across // down, tile // across % down * plan.tile_rows
            to, index = address + row * plan.row_stride, plan.first + row * plan.row_step
            for axis in range(axes.shape[0] - 1, -1, -1):
                rest, place = rest // axes[axis, 0], rest % axes[axis, 0]
                to += place * axes[axis, 1]
                index += place * axes[axis, 2]
            rows = min(plan.tile_rows, plan.rows - row)
            for column in range(first * plan.tile_columns, last * plan.tile_columns, plan.tile_columns):
                columns = min(plan.tile_columns, plan.columns - column)
                _tile(transform, scratch, plan, request, inner, to, index, column, rows, columns)
            tile += last - first
        if plan.streaming:
            _drain(scratch, scratch.pending[2])
            fence(0)

    return fill_tiles


_kernels: dict[Any, Any] = {}


@cache
def fill_tiles(transform_class: Any, real: Any) -> Any:
    """Return the compiled kernel of a transform's class that computes in float32 or float64."""
    fresh = keep(_kernel(transform_class), describe(transform_class, real.__name__))
    kernel = _kernels.setdefault((transform_class, real), fresh)  # threads that come at once compile it once
    bound = typeof(real(0))
    numbers, integers, table = types.UniTuple, types.int64, types.Array(types.int64, 2, "C")
    kernel.compile(
        (
            numbers(bound, len(inspect.signature(transform_class).parameters)),
            types.Tuple((bound, bound, integers)),
            numbers(integers, len(Plan._fields)),
            table,
            table,
            types.Array(types.uint8, 1, "C"),
            integers,
            types.uint64,
            types.uint64,
            integers,
            integers,
        )
    )
    return kernel
