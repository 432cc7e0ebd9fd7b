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
    and_,
    broadcast,
    even,
    interleave,
    join,
    load_doubles,
    load_fields,
    load_lanes,
    load_places,
    load_singles,
    low_half,
    lshr,
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
from fastinit.kernels.layout import ROOM
from fastinit.kernels.philox import HALF, LOW, philox
from fastinit.kernels.processor import BLOCKS
from fastinit.kernels.stores import INLINE, carve, drain, pass_
from fastinit.kernels.transforms import ROWS, clamp

LAST_ATTEMPT = 4095


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


class Float16(NamedTuple):
    """A `Request` of values rounded to float16."""

    low: Any
    high: Any
    key: int
    stream: int


class BFloat16(NamedTuple):
    """A `Request` of values rounded to bfloat16."""

    low: Any
    high: Any
    key: int
    stream: int


REQUESTS: dict[str, Any] = {"as is": Request, "float16": Float16, "bfloat16": BFloat16}  # by the encoding's name
_ROUNDINGS: dict[Any, Any] = {Float16: to_float16, BFloat16: to_bfloat16}


class Scratch(NamedTuple):
    """The arrays of one task, `Parts` by their types.

    They own nothing, and no pass slices them: an array that owns its memory costs two atomic reference counts wherever
    it is passed or sliced, half a microsecond a tile in all.
    """

    values: Any
    todo: Any
    fresh: Any
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
    """Return the pairs of words of these blocks: the first words of all, and the second ones."""
    name, key = request.stream, request.key
    words = philox(blocks, c1, broadcast(name & LOW), broadcast(name >> HALF), key & LOW, key >> HALF)
    return _pairs(request.low, words)


@pass_
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


def _put(first, second, transform, request, to, rounded, streaming):
    """Store the values of pairs as elements, or as they are; return the number of bytes."""


@_by_transform(_put)
def _put_by_request(first, second, transform, request, to, rounded, streaming):
    size = first.count * first.bitwidth // 4
    rounding: Any = _ROUNDINGS.get(request.instance_class)

    def wide(first, second, transform, request, to, rounded, streaming):
        _store(to, interleave(first, second), streaming)
        return size

    def narrow(first, second, transform, request, to, rounded, streaming):
        if not rounded:
            _store(to, interleave(first, second), streaming)
            return size
        first = _clamped(transform, first, request.low, request.high)
        second = _clamped(transform, second, request.low, request.high)
        _store(to, rounding(first) | shl(rounding(second), 16), streaming)
        return size // 2

    return narrow if rounding else wide


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
            a, b = _words(blocks, c1, request)
            values, others = draw(transform, a, b)
            drain(scratch.pending, BLOCKS // 4)
            to += _put(values, others, transform, request, to, rounded, streaming)

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
    until all are inside.
    """


@_by_transform(_settle)
def _settle_by_transform(transform, scratch, request, at, size, lanes, base):
    first_attempt = ROWS[transform.instance_class].first_attempt
    if ROWS[transform.instance_class].propose is None:
        return lambda transform, scratch, request, at, size, lanes, base: None

    def loop(transform, scratch, request, at, size, lanes, base):
        values, todo, fresh = scratch.values, scratch.todo, scratch.fresh
        count = _rejected(transform, scratch, at, size)
        attempt = first_attempt
        while count > 0 and attempt <= LAST_ATTEMPT:
            left_over = np.int64(0)
            tries = broadcast(np.uint64(attempt) << np.uint64(20))
            for start in range(0, count, BLOCKS):  # what follows the last place is made, but not used
                if lanes:
                    _number(scratch, lanes, start, min(BLOCKS, count - start))
                    blocks = load_lanes(scratch.parts.elements)
                else:
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
def _encode_by_request(values, scratch, request, at, size):
    rounding: Any = _ROUNDINGS.get(request.instance_class)

    def wide(values, scratch, request, at, size):
        return np.int64(values.ctypes.data)

    def narrow(values, scratch, request, at, size):
        source, to = np.int64(values.ctypes.data), np.int64(scratch.encoded.ctypes.data)
        for place in range(at, at + size, 16):
            clamped = clamp(_load(request.low, source + 4 * place), request.low, request.high)
            store(to + 2 * place, low_half(rounding(clamped)))
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
            carray(pointer(parts.todo), ROOM, np.int32),
            carray(pointer(parts.fresh), BLOCKS, real),
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
