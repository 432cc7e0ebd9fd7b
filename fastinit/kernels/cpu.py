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
from numba.extending import overload

from fastinit.kernels.cache import describe, keep
from fastinit.kernels.intrinsics import (
    VALUES,
    and_,
    bfloat16_lanes,
    broadcast,
    call_rows,
    fence,
    float16_lanes,
    full_vectors,
    interleave,
    iota,
    join,
    load_doubles,
    load_lanes,
    load_places,
    load_singles,
    load_words,
    low_half,
    low_word,
    lshr,
    movemask,
    pointer,
    popcount,
    scatter,
    select,
    shl,
    store,
    store_compressed,
    store_nontemporal,
    to_bfloat16,
    to_float16,
    weave,
    widen,
    words_of,
)
from fastinit.kernels.philox import HALF, LOW, philox
from fastinit.kernels.simd import BLOCKS, TARGET
from fastinit.kernels.stores import (
    APART,
    LINE,
    LIST,
    PACKED,
    PUT,
    REDRAWN,
    ROOM,
    RUN,
    WHOLE,
    Plan,
    carve,
    drain,
    pass_,
    put_run,
)
from fastinit.kernels.stores import GROUP as GROUP
from fastinit.kernels.stores import SCRATCH_BYTES as SCRATCH_BYTES
from fastinit.kernels.stores import SIZES as SIZES
from fastinit.kernels.stores import SPAN as SPAN
from fastinit.kernels.stores import TILE as TILE
from fastinit.kernels.transforms import ROWS, clamp

LAST_ATTEMPT = 4095
EVERY = np.uint64(2**BLOCKS - 1)  # lane, in a mask of them

AS_IS, FLOAT16, BFLOAT16 = 0, 1, 2
ENCODINGS = {"as is": AS_IS, "float16": FLOAT16, "bfloat16": BFLOAT16}  # how values become elements, as kernels take it


class Request(NamedTuple):
    """The bounds and the encoding of elements, and the key and stream of their words."""

    low: Any  # the bounds in which 16-bit values are held, and a float of the computation's precision
    high: Any
    encoding: int
    key: int
    stream: int


class Scratch(NamedTuple):
    """The arrays of one task, `Parts` by their types.

    They own nothing, and no pass slices them: an array that owns its memory costs two atomic reference counts wherever
    it is passed or sliced, half a microsecond a tile in all.
    """

    values: Any
    todo: Any
    elements: Any
    encoded: Any
    blocks: Any
    pending: Any
    parts: Any


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


@pass_
def _words(blocks, c1, request):
    """Return the four words of each of these blocks."""
    name, key = request.stream, request.key
    c2, c3 = words_of(broadcast(name & LOW)), words_of(broadcast(name >> HALF))
    return philox(words_of(blocks), words_of(c1), c2, c3, key & LOW, key >> HALF)


@pass_
def _store(to, elements, streaming):
    """Store past the caches or through them."""
    if streaming:
        store_nontemporal(to, elements)
    else:
        store(to, elements)


def _clamped(transform, value, low, high):
    """Return the value, clamped to the bounds of its distribution where it has any and is not yet."""


@_by_transform(_clamped)
def _clamped_by_transform(transform, value, low, high):
    row = ROWS[transform.instance_class]
    if row.bounded and not row.clamps:
        return lambda transform, value, low, high: clamp(value, low, high)
    return lambda transform, value, low, high: value


def _regular(transform):
    """Return whether no value is subnormal: then the processor may round to bfloat16, if it can."""


@_by_transform(_regular)
def _regular_by_transform(transform):
    row = ROWS[transform.instance_class]
    if row.propose is not None or not TARGET.bfloats:
        return lambda transform: True
    least = 2.0**-126 / row.grain

    def compared(transform):
        regular = True
        for number in transform:
            regular &= number == 0 or abs(number) >= least
        return regular

    return compared


to_halves = float16_lanes if TARGET.halves else pass_(lambda values: low_half(to_float16(values)))


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
            _store(to, to_halves(interleave(first, second)), streaming)
        return size // 2

    def native(first, second, transform, low, high, to, encoding, streaming):
        some = interleave(first, second)
        if encoding == AS_IS:
            _store(to, some, streaming)
            return size
        some = _clamped(transform, some, low, high)
        if encoding == BFLOAT16:
            _store(to, bfloat16_lanes(some), streaming)
        else:
            _store(to, to_halves(some), streaming)
        return size // 2

    if first.bitwidth == 64:
        return wide
    return native if TARGET.bfloats else narrow


def _groups(transform, scratch, request, to, lanes, block, groups, encoding, streaming):
    """Draw the blocks of some groups, attempt 0 where the transform has one, and store their elements from ``to`` on.

    ``lanes`` is the address of a list of blocks, or 0 where they follow each other from ``block`` on. No group passes a
    multiple of 2**32 blocks, so that the counter's second word is one number, that of ``block``.
    """


@_by_transform(_groups)
def _groups_by_transform(transform, scratch, request, to, lanes, block, groups, encoding, streaming):
    draw = ROWS[transform.instance_class].pair
    if draw is None:
        return lambda transform, scratch, request, to, lanes, block, groups, encoding, streaming: None

    def loop(transform, scratch, request, to, lanes, block, groups, encoding, streaming):
        first, step, stride = np.uint64(block), np.uint64(BLOCKS), 0
        c1 = broadcast(first >> HALF)
        if lanes:
            first, step, stride = np.uint64(0), np.uint64(0), 8 * BLOCKS
        else:
            lanes = scratch.parts.lanes
        for group in range(groups):
            blocks = load_lanes(lanes + stride * group) + (first + step * np.uint64(group))
            a, b = _pairs(request.low, _words(blocks, c1, request))
            values, others = draw(transform, a, b)
            drain(scratch.pending, BLOCKS // 4)
            to += _put(values, others, transform, request.low, request.high, to, encoding, streaming)

    return loop


def _load(low, address):
    """Load `VALUES` values."""


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
        for first in range(0, size, VALUES):
            some = _load(transform.lower, source + first * values.itemsize)
            outside = some != clamp(some, transform.lower, transform.upper)  # fewer masks than two comparisons
            store_compressed(to + 2 * count, first, outside)
            count += popcount(outside)
        while count > 0 and todo[count - 1] >= size:
            count -= 1
        return count

    return everything if ROWS[transform.instance_class].pair is None else outsiders


def _propose(transform, words):
    """Return one proposal for each of some blocks, whose words are at an address, and a mask of those accepted."""


@_by_transform(_propose)
def _propose_by_transform(transform, words):
    propose: Any = ROWS[transform.instance_class].propose

    def two_pairs(transform, words):
        a, b = load_words(words), load_words(words + 4 * REDRAWN)
        proposals, accepted = propose(transform, a, b)
        if movemask(accepted) != EVERY:  # seldom
            a, b = load_words(words + 8 * REDRAWN), load_words(words + 12 * REDRAWN)
            others, good = propose(transform, a, b)
            proposals, accepted = select(accepted, proposals, others), accepted | good
        return proposals, movemask(accepted)

    def one_pair(transform, words):
        a = join(interleave(load_words(words), load_words(words + 4 * REDRAWN)))
        b = join(interleave(load_words(words + 8 * REDRAWN), load_words(words + 12 * REDRAWN)))
        proposals, accepted = propose(transform, a, b)
        return proposals, movemask(accepted)

    return two_pairs if transform.types[0].bitwidth == 32 else one_pair


@pass_
def _number(scratch, lanes, start, some):
    """Look up the indices in the tensor of some elements of ``todo``, those of the blocks at the address ``lanes``."""
    per_block = 16 // scratch.values.itemsize
    skipped = (lanes - scratch.parts.blocks) // 8
    for j in range(some):
        place = np.int64(scratch.todo[start + j])
        scratch.elements[j] = scratch.blocks[skipped + place // per_block] * per_block + place % per_block


def _settle(transform, scratch, request, at, size, lanes, base):
    """Redraw the values out of bounds in the span ``values[at:]``, whose first element is number ``base``.

    Unless it is 0, ``lanes`` is the address of a list of its blocks. Every element is redrawn by its own attempts,
    until all are inside. The words come before the values: in one loop each would wait for the other's chain.
    """


@_by_transform(_settle)
def _settle_by_transform(transform, scratch, request, at, size, lanes, base):
    first_attempt = ROWS[transform.instance_class].first_attempt
    if ROWS[transform.instance_class].propose is None:
        return lambda transform, scratch, request, at, size, lanes, base: None

    def loop(transform, scratch, request, at, size, lanes, base):
        values, todo, parts = scratch.values, scratch.todo, scratch.parts
        span = parts.values + at * values.itemsize
        count = _rejected(transform, scratch, at, size)
        attempt = first_attempt
        while count > 0 and attempt <= LAST_ATTEMPT:
            for k in range(BLOCKS):  # what follows the last place is made, too, for a place that nobody reads
                todo[np.uint64(count + k)] = ROOM - 1 - at
            left_over = np.int64(0)
            tries = broadcast(np.uint64(attempt) << np.uint64(20))
            for begin in range(0, count, REDRAWN):
                some = min(REDRAWN, count - begin)
                for k in range(0, some, BLOCKS):
                    if lanes:
                        _number(scratch, lanes, begin + k, min(BLOCKS, some - k))
                        blocks = load_lanes(parts.elements)
                    else:
                        blocks = widen(load_places(parts.todo + 2 * (begin + k))) + np.uint64(base)
                    c = _words(blocks, (blocks >> HALF) | tries, request)
                    store(parts.words + 4 * k, low_word(c[0]))
                    store(parts.words + 4 * (k + REDRAWN), low_word(c[1]))
                    store(parts.words + 4 * (k + 2 * REDRAWN), low_word(c[2]))
                    store(parts.words + 4 * (k + 3 * REDRAWN), low_word(c[3]))
                for k in range(0, some, BLOCKS):
                    proposals, accepted = _propose(transform, parts.words + 4 * k)
                    scatter(span, parts.todo + 2 * (begin + k), parts.fresh, proposals)
                    for j in range(min(BLOCKS, some - k) if accepted != EVERY else 0):  # seldom
                        todo[np.uint64(left_over)] = todo[np.uint64(begin + k + j)]
                        left_over += 1 - np.int64(and_(lshr(accepted, j), np.uint64(1)))
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
        for place in range(at, at + size, VALUES):
            clamped = clamp(_load(request.low, source + 4 * place), request.low, request.high)
            if request.encoding == BFLOAT16:
                store(to + 2 * place, low_half(to_bfloat16(clamped)))
            else:
                store(to + 2 * place, to_halves(clamped))
        return to

    return narrow if values.dtype.bitwidth == 32 else wide


def _redraws(transform):
    """Return whether values of this transform are looked at again once they are made."""


@_by_transform(_redraws)
def _redraws_by_transform(transform):
    again = ROWS[transform.instance_class].propose is not None
    return lambda transform: again


@pass_
def _straight(transform, plan, encoding, group, to, head, some):
    """Return the number of groups that can go straight to memory from ``to`` on, element ``head`` of its block."""
    if encoding == BFLOAT16 and not _regular(transform):
        return 0
    if _redraws(transform) or head != 0 or (plan.streaming and to % LINE != 0):
        return 0
    return some // group


@pass_
def _alike(blocks, begin, end):
    """Return how many of the listed blocks [begin, end), from the first on, have its counter's second word."""
    some = 1
    while begin + some < end and blocks[begin + some] >> 32 == blocks[begin] >> 32:
        some += 1
    return some


@pass_
def _tile(transform, scratch, plan, request, inner, to, index, row, column, rows, columns):
    """Make and store one tile; ``to`` and ``index`` are those of row 0, column 0 of its outer axes.

    It is made in pieces: of one row, or of the list of all rows' blocks. Elements next to each other go to memory piece
    by piece, straight from the registers where they can; others when the whole tile is made.
    """
    width, pending, size = scratch.values.itemsize, scratch.pending, plan.size  # width: before a value is rounded
    per_block = 16 // width
    group = BLOCKS * per_block
    listed, spread = plan.way != RUN, plan.way != RUN and plan.compact != WHOLE
    count, mixed, lanes, source = columns, False, np.int64(0), np.int64(0)
    memory, inside, axes = scratch.parts.values, np.int64(inner.ctypes.data), inner.shape[0]
    if plan.way == PACKED or plan.way == APART:
        to += row * columns * size if plan.way == PACKED else 0
    else:
        to, index = to + row * plan.row_stride, index + row * plan.row_step + column
        to += column * size if plan.way == RUN else 0
    if listed:
        count = call_rows(
            plan.rows_code, LIST, plan, memory, inside, axes, per_block, to, index, row, column, rows, columns
        )
        mixed, count, index = count < 0, abs(count) * per_block, 0
    done = 0
    while done < count:
        goal, head, block = to + done * size, (index + done) % per_block, (index + done) // per_block
        if listed:
            place = done // per_block
            lanes, block = scratch.parts.blocks + 8 * place, scratch.blocks[place]
            room = _alike(scratch.blocks, place, count // per_block) if mixed else count
        else:
            room = np.int64(LOW) + 1 - (block & np.int64(LOW))  # blocks before the counter's second word changes
        some, encoding, streaming = min(count - done, room * per_block - head), AS_IS, 0
        groups = 0 if spread else _straight(transform, plan, request.encoding, group, goal, head, some)
        straight, at, made = groups > 0, done, goal
        if straight:
            some, encoding, streaming = groups * group, request.encoding, plan.streaming
        else:
            if not spread:
                at, some = pending[3], min(some, SPAN - head)
                lead = -goal % LINE // size  # elements before the next whole line
                if plan.streaming and not _redraws(transform) and lead > 0 and (head + lead) % per_block == 0:
                    some = min(some, lead)
            groups = (head + some + group - 1) // group
            made = scratch.parts.values + at * width
        _groups(transform, scratch, request, made, lanes, block, groups, encoding, streaming)
        if not straight:
            _settle(transform, scratch, request, at, head + some, lanes, index + done - head)
            source = _encode(scratch.values, scratch, request, at, head + some)
            if not spread:
                put_run(scratch.pending, goal, source + (at + head) * size, some * size, plan.streaming)
        done += some
    if spread:
        call_rows(plan.rows_code, PUT, plan, memory, inside, axes, per_block, to, source, row, column, rows, columns)


def _scratch(one, memory):
    """Carve the arrays of one task, for values of the width of ``one``, from ``memory``."""


@_by_transform(_scratch)
def _scratch_by_width(one, memory):
    real = np.float32 if one.bitwidth == 32 else np.float64

    def carved(one, memory):
        parts = carve(np.int64(memory.ctypes.data))
        return Scratch(
            carray(pointer(parts.values), ROOM, real),
            carray(pointer(parts.todo), ROOM, np.uint16),
            carray(pointer(parts.elements), BLOCKS, np.int64),
            carray(pointer(parts.encoded), ROOM, np.uint16),
            carray(pointer(parts.blocks), ROOM // 2, np.int64),
            carray(pointer(parts.pending), 4, np.int64),
            parts,
        )

    return carved


def _kernel(transform_class: Any) -> Any:
    """Return the entry for a transform, held in its closure: as an argument it would cost 3 microseconds a call."""

    @njit(nogil=True)
    def fill_tiles(draw, bounds, plan, inner, axes, memory, address, key, stream, begin, end):
        """Make the tiles [begin, end) of a plan, for the array at an address.

        ``draw`` has the transform's parameters, ``bounds`` the first fields of `Request`, ``plan`` those of `Plan`.
        ``inner`` has a row (length, stride, step) for each axis that a tile's columns are made of, or its rows (see
        `Plan`), ``axes`` one for each outer axis.
        """
        full_vectors()
        transform, plan = transform_class(*draw), Plan(*plan)
        request = Request(bounds[0], bounds[1], bounds[2], key, stream)
        scratch = _scratch(request.low, memory)
        scratch.pending[2], scratch.pending[3] = 0, 0
        store(scratch.parts.lanes, iota())
        across = -(-plan.columns // plan.tile_columns)
        # where there is a tile more than the rows need, the first one ends where a line of the memory does
        lead = -address % LINE // plan.size if plan.down * plan.tile_rows >= plan.rows + plan.tile_rows else 0
        skew = plan.tile_rows - lead if lead else 0
        tile = begin
        while tile < end:  # a row of tiles after the other: only its first one is looked up
            if plan.way == RUN:
                first, down, rest = tile % across, tile // across % plan.down, tile // across // plan.down
                last = min(across, first + end - tile)
            else:  # a column of tiles after the other, whose pages and lines are the same
                down, first, rest = tile % plan.down, tile // plan.down % across, tile // plan.down // across
                last = first + 1
            row = down * plan.tile_rows - skew
            rows = min(plan.tile_rows, plan.tile_rows + row, plan.rows - row)
            row, to, index = max(0, row), address, plan.first
            for axis in range(axes.shape[0] - 1, -1, -1):
                rest, place = rest // axes[axis, 0], rest % axes[axis, 0]
                to += place * axes[axis, 1]
                index += place * axes[axis, 2]
            if rows > 0:
                for column in range(first * plan.tile_columns, last * plan.tile_columns, plan.tile_columns):
                    columns = min(plan.tile_columns, plan.columns - column)
                    _tile(transform, scratch, plan, request, inner, to, index, row, column, rows, columns)
            tile += last - first
        if plan.streaming:
            drain(scratch.pending, scratch.pending[2])
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
