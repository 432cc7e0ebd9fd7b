"""The draws of the CPU: from words to values to bytes, in vector registers, one kernel for a distribution and dtype.

Some consecutive Philox blocks, a *group*, are made side by side: the same scalar functions that define a value, typed
for `Lanes`. A distribution without rejections goes from the counter to the stored line without touching memory in
between. One that redraws passes through a span in the cache: the values of attempt 0, the list of those that are out of
bounds, their next proposals, and then the stores.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import overload

from fastinit.kernels.intrinsics import (
    VALUES,
    and_,
    bfloat16_lanes,
    broadcast,
    float16_lanes,
    interleave,
    join,
    load_doubles,
    load_fields,
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
from fastinit.kernels.layout import LOT, ROOM
from fastinit.kernels.philox import HALF, LOW, philox_written_out
from fastinit.kernels.processor import BLOCKS, TARGET
from fastinit.kernels.stores import INLINE, carve, drain, pass_
from fastinit.kernels.transforms import ROWS, clamp

LAST_ATTEMPT = 4095
EVERY = np.uint64(2**BLOCKS - 1)  # lane, in a mask of them


class Bounds(NamedTuple):
    """The bounds in which 16-bit values are held."""

    low: Any
    high: Any


class Request(NamedTuple):
    """The bounds of elements, and the key and stream of their words: of elements that are values as they are."""

    low: Any  # a float of the computation's precision, as all bounds
    high: Any
    key: int
    stream: int


class Float16(Request):
    """The same of values rounded to float16."""


class BFloat16(Request):
    """The same of values rounded to bfloat16."""


REQUESTS: dict[str, Any] = {"as is": Request, "float16": Float16, "bfloat16": BFloat16}  # by the encoding's name


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
    return overload(stub, jit_options=INLINE)  # type: ignore[arg-type]


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
    return philox_written_out(words_of(blocks), words_of(c1), c2, c3, key & LOW, key >> HALF)


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


_halves = float16_lanes if TARGET.halves else pass_(lambda values: low_half(to_float16(values)))
_bfloats = pass_(lambda values: low_half(to_bfloat16(values)))
_ROUNDINGS: dict[Any, Any] = {Float16: _halves, BFloat16: _bfloats}  # of all values
# of those that go straight from registers to memory: the processor's own for bfloat16 makes subnormals zero, see
# `fastinit.sampling.cpu`; without it two neighbours are rounded in one word
_STRAIGHT: dict[Any, Any] = {Float16: _halves} | ({BFloat16: bfloat16_lanes} if TARGET.bfloats else {})


def _put(first, second, transform, request, to, rounded, streaming):
    """Store the values of pairs as elements, or as they are; return the number of bytes."""


@_by_transform(_put)
def _put_by_request(first, second, transform, request, to, rounded, streaming):
    size = first.count * first.bitwidth // 4
    rounding: Any = _STRAIGHT.get(request.instance_class)

    def wide(first, second, transform, request, to, rounded, streaming):
        _store(to, interleave(first, second), streaming)
        return size

    def in_lanes(first, second, transform, request, to, rounded, streaming):
        some = interleave(first, second)
        if not rounded:
            _store(to, some, streaming)
            return size
        _store(to, rounding(_clamped(transform, some, request.low, request.high)), streaming)
        return size // 2

    def in_words(first, second, transform, request, to, rounded, streaming):
        if not rounded:
            _store(to, interleave(first, second), streaming)
            return size
        first = _clamped(transform, first, request.low, request.high)
        second = _clamped(transform, second, request.low, request.high)
        _store(to, to_bfloat16(first) | shl(to_bfloat16(second), 16), streaming)
        return size // 2

    if request.instance_class is Request:
        return wide
    return in_lanes if rounding else in_words


def _groups(transform, scratch, request, to, lanes, block, groups, rounded, streaming):
    """Draw the blocks of some groups, attempt 0 where the transform has one, and store their elements from ``to`` on.

    The values are stored as they are unless they are to be ``rounded`` at once. ``lanes`` is the address of a list of
    blocks, or 0 where they follow each other from ``block`` on. No group passes a multiple of 2**32 blocks, so that the
    counter's second word is one number, that of ``block``.
    """


@_by_transform(_groups)
def _groups_by_transform(transform, scratch, request, to, lanes, block, groups, rounded, streaming):
    draw = ROWS[transform.instance_class].pair
    if draw is None:
        return lambda transform, scratch, request, to, lanes, block, groups, rounded, streaming: None

    def loop(transform, scratch, request, to, lanes, block, groups, rounded, streaming):
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
            to += _put(values, others, transform, request, to, rounded, streaming)

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
        a, b = load_words(words), load_words(words + 4 * LOT)
        proposals, accepted = propose(transform, a, b)
        if movemask(accepted) != EVERY:  # seldom
            a, b = load_words(words + 8 * LOT), load_words(words + 12 * LOT)
            others, good = propose(transform, a, b)
            proposals, accepted = select(accepted, proposals, others), accepted | good
        return proposals, movemask(accepted)

    def one_pair(transform, words):
        a = join(interleave(load_words(words), load_words(words + 4 * LOT)))
        b = join(interleave(load_words(words + 8 * LOT), load_words(words + 12 * LOT)))
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
            for begin in range(0, count, LOT):
                some = min(LOT, count - begin)
                for k in range(0, some, BLOCKS):
                    if lanes:
                        _number(scratch, lanes, begin + k, min(BLOCKS, some - k))
                        blocks = load_lanes(parts.elements)
                    else:
                        blocks = widen(load_places(parts.todo + 2 * (begin + k))) + np.uint64(base)
                    c = _words(blocks, (blocks >> HALF) | tries, request)
                    store(parts.words + 4 * k, low_word(c[0]))
                    store(parts.words + 4 * (k + LOT), low_word(c[1]))
                    store(parts.words + 4 * (k + 2 * LOT), low_word(c[2]))
                    store(parts.words + 4 * (k + 3 * LOT), low_word(c[3]))
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
def _encode_by_request(values, scratch, request, at, size):
    rounding: Any = _ROUNDINGS.get(request.instance_class)

    def wide(values, scratch, request, at, size):
        return np.int64(values.ctypes.data)

    def narrow(values, scratch, request, at, size):
        source, to = np.int64(values.ctypes.data), np.int64(scratch.encoded.ctypes.data)
        for place in range(at, at + size, VALUES):
            clamped = clamp(_load(request.low, source + 4 * place), request.low, request.high)
            store(to + 2 * place, rounding(clamped))
        return to

    return narrow if rounding else wide


def _scratch(one, memory):
    """Carve the arrays of one task, for values of the width of ``one``, from ``memory``."""


@_by_transform(_scratch)
def _scratch_by_width(one, memory):
    real = np.float32 if one.bitwidth == 32 else np.float64

    def carved(one, memory):
        parts = carve(memory)
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


def draw_span(transform_class: Any, precision: str, encoding: str) -> Callable[..., int]:
    """Return the kernel that draws by a transform's class, computes in a precision, and encodes."""
    real, request_class = getattr(types, precision), REQUESTS[encoding]
    load_bounds, load_transform = load_fields(Bounds, real), load_fields(transform_class, real)
    offset = len(Bounds._fields) * real.bitwidth // 8

    def kernel(numbers, memory, key, stream, to, lanes, block, groups, straight, streaming, at, size, base):
        """Draw the blocks of some groups: ``straight`` to their place in memory, else to the cache.

        There they are a span of ``size`` values, number ``at`` and on of those in ``memory``, the first one of which is
        element number ``base``; all are redrawn where they must be, and encoded. Return the address of number 0.
        ``numbers`` is the address of the fields of `Bounds` and of the transform. See `_groups` and `_settle`.
        """
        bounds, transform = load_bounds(numbers), load_transform(numbers + offset)
        request = request_class(bounds.low, bounds.high, key, stream)
        scratch = _scratch(request.low, memory)
        _groups(transform, scratch, request, to, lanes, block, groups, straight, streaming)
        if straight:
            return 0
        _settle(transform, scratch, request, at, size, lanes, base)
        return _encode(scratch.values, scratch, request, at, size)

    return kernel
