"""The loops that run on the CPU: tiles that stay in the cache, from words to values to bytes.

A tile is made in passes over small arrays, and each pass is a plain loop that LLVM turns into full vectors: the Philox
words, the values, the redrawing of what a truncated normal rejected, the rounding to 16 bits, the stores. Two passes
over an array in the first-level cache beat one fused loop, whose integer and float halves differ in width.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit  # type: ignore[attr-defined]
from numba.extending import overload, register_jitable

from fastinit.kernels.draws import DRAW, PROPOSE, hold
from fastinit.kernels.numerics import (
    both,
    copy,
    fence,
    full_vectors,
    lowest_bit,
    move,
    outside,
    pointer,
    stream_line,
    to_bfloat16,
    to_float16,
)
from fastinit.kernels.philox import HALF, LOW, philox, philox_two

TILE = 2048  # elements of a tile whose rows are stored whole
SCATTER_TILE = 4096  # of one whose elements lie apart in memory: enough of them to write whole cache lines
LANES = 64  # every span is made in whole groups of so many elements, so that no loop ends in a scalar remainder
ROOM = SCATTER_TILE + 4 * LANES  # what a tile may need: its rows end in whole groups
BATCH = TILE // 4  # rejected elements that are redrawn together
STRIP = 64  # blocks between which some lines of the tile before are streamed
SCRATCH_BYTES = ROOM * (8 + 8 + 4 + 4 + 2) + BATCH * (8 + 1) + SCATTER_TILE * 8 + 3 * 8 + 64
LAST_ATTEMPT = 4095

AS_IS, FLOAT16, BFLOAT16 = 0, 1, 2  # how values become elements


class Plan(NamedTuple):
    """Where the elements go, and which they are: columns, consecutive elements of the tensor; rows; and outer axes.

    Strides are in bytes of memory, steps in elements of the tensor. The columns' own places in memory, and the outer
    axes, come beside it as arrays.
    """

    address: int
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


class Scratch(NamedTuple):
    """The arrays of one task, which every tile uses again.

    They are carved from one buffer and own nothing, and no pass slices them: an array that owns its memory costs two
    atomic reference counts wherever it is passed or sliced, half a microsecond a tile in all.
    """

    a: Any  # first words of the pairs
    b: Any  # second words
    a_blocks: Any  # the same memory, 64 bits for each block
    b_blocks: Any
    values: Any
    todo: Any  # places in ``values`` that are out of bounds
    starts: Any  # where in ``values`` each row of the tile begins
    fresh: Any  # the next proposals for ``todo``
    encoded: Any  # 16-bit elements
    good: Any  # which of ``fresh`` are accepted
    places: Any  # where in memory each column of the tile goes, relative to its row
    pending: Any  # of what is to be streamed: where to, where from, how many lines


_pass = register_jitable(forceinline=True)  # one function after inlining: nothing is counted, checked or passed


def _by_law(stub: Callable[..., Any]) -> Any:
    """`overload`, for a function that is chosen by the law that is its first argument."""
    return overload(stub, jit_options={"forceinline": True})


def _pack(word, c0, c1, c2, c3):
    """A block as 64 bits of first and 64 bits of second words."""


@_by_law(_pack)
def _pack_by_width(word, c0, c1, c2, c3):
    def narrow(word, c0, c1, c2, c3):
        return (c0 & LOW) | (c2 << HALF), (c1 & LOW) | (c3 << HALF)

    def wide(word, c0, c1, c2, c3):
        return (c0 & LOW) | (c1 << HALF), (c2 & LOW) | (c3 << HALF)

    return narrow if word.bitwidth == 32 else wide


@_pass
def _drain(scratch, most):
    """Stream some lines of what is pending.

    A burst of streaming stores fills the store buffer, and what follows waits for the memory; a few lines after every
    strip of the next tile's words leave while those are computed.
    """
    pending = scratch.pending
    to, source, lines = pending[0], pending[1], min(most, pending[2])
    for line in range(lines):
        stream_line(to + 64 * line, source + 64 * line)
    pending[0], pending[1], pending[2] = to + 64 * lines, source + 64 * lines, pending[2] - lines


@_pass
def _consecutive(scratch, block, blocks, key, stream):
    """The words of consecutive blocks, attempt 0."""
    full_vectors()
    a, b, one_word = scratch.a_blocks, scratch.b_blocks, scratch.a[0]
    k0, k1, c2, c3 = key & LOW, key >> HALF, stream & LOW, stream >> HALF
    done = 0
    while done < blocks:
        first = np.uint64(block + done)
        low, c1 = first & LOW, first >> HALF  # c1 is the same up to the next multiple of 2**32
        some = min(blocks - done, STRIP, np.int64(LOW - low) + 1)
        half = (some + 1) // 2  # of an odd number, the one in the middle is made twice
        other = some - half
        for j in range(half):
            c = philox_two(low + np.uint64(j), low + np.uint64(other + j), c1, c2, c3, k0, k1)
            place = np.uint64(done + j)
            a[place], b[place] = _pack(one_word, c[0], c[1], c[2], c[3])
            place = np.uint64(done + other + j)
            a[place], b[place] = _pack(one_word, c[4], c[5], c[6], c[7])
        done += some
        _drain(scratch, STRIP // 4)
    _drain(scratch, scratch.pending[2])


@_pass
def _listed(scratch, start, count, base, attempt, key, stream):
    """The words of the blocks that belong to single elements, at some attempt: block = index."""
    full_vectors()
    a, b, todo, one_word = scratch.a_blocks, scratch.b_blocks, scratch.todo, scratch.a[0]
    k0, k1, c2, c3 = key & LOW, key >> HALF, stream & LOW, stream >> HALF
    tries = np.uint64(attempt) << np.uint64(20)
    for j in range(count):
        index = np.uint64(base + todo[np.uint64(start) + np.uint64(j)])
        c = philox(index, tries | (index >> HALF), c2, c3, k0, k1)
        a[j], b[j] = _pack(one_word, c[0], c[1], c[2], c[3])


def _draw(law, scratch, at, size):
    """Attempt 0 of every value, where the law has one."""


@_by_law(_draw)
def _draw_by_law(law, scratch, at, size):
    draw = DRAW.get(law.instance_class)
    if draw is None:
        return lambda law, scratch, at, size: None

    def loop(law, scratch, at, size):
        full_vectors()
        a, b, values = scratch.a, scratch.b, scratch.values
        for p in range(size // 2):
            place = np.uint64(at) + np.uint64(2 * p)
            values[place], values[place + np.uint64(1)] = draw(law, a[p], b[p])

    return loop


def _rejected(law, scratch, at, size):
    """List the places of the values that must be redrawn; how many."""


@_by_law(_rejected)
def _rejected_by_law(law, scratch, at, size):
    def everything(law, scratch, at, size):
        for j in range(size):
            scratch.todo[j] = j
        return size

    def outsiders(law, scratch, at, size):
        todo, values, count = scratch.todo, scratch.values, 0
        address = np.int64(values.ctypes.data) + at * values.itemsize
        for group in range(0, size, LANES):
            mask = outside(address + group * values.itemsize, law.lower, law.upper)
            while mask != 0:
                todo[np.uint64(count)] = group + np.int64(lowest_bit(mask))
                count += 1
                mask = both(mask, mask - np.uint64(1))
        return count

    return outsiders if law.instance_class in DRAW else everything


def _propose(law, scratch, count):
    """One proposal for each of ``count`` listed elements: fresh values, and whether they are good."""


@_by_law(_propose)
def _propose_by_law(law, scratch, count):
    propose = PROPOSE[law.instance_class][1]

    def two_pairs(law, scratch, count):
        full_vectors()
        a, b, fresh, good = scratch.a, scratch.b, scratch.fresh, scratch.good
        for j in range(count):
            first, taken = propose(law, a[2 * j], b[2 * j])
            second, spare = propose(law, a[2 * j + 1], b[2 * j + 1])
            fresh[j] = first if taken else second
            good[j] = np.uint8(taken | spare)

    def one_pair(law, scratch, count):
        full_vectors()
        a, b, fresh, good = scratch.a, scratch.b, scratch.fresh, scratch.good
        for j in range(count):
            fresh[j], taken = propose(law, a[j], b[j])
            good[j] = np.uint8(taken)

    return two_pairs if law.types[0].bitwidth == 32 else one_pair


def _settle(law, scratch, at, size, base, key, stream):
    """Redraw what is out of bounds, every element by its own attempts, until all are inside."""


@_by_law(_settle)
def _settle_by_law(law, scratch, at, size, base, key, stream):
    if law.instance_class not in PROPOSE:
        return lambda law, scratch, at, size, base, key, stream: None
    first_attempt = PROPOSE[law.instance_class][0]

    def loop(law, scratch, at, size, base, key, stream):
        values, todo, fresh, good = scratch.values, scratch.todo, scratch.fresh, scratch.good
        count = _rejected(law, scratch, at, size)
        attempt = first_attempt
        while count > 0 and attempt <= LAST_ATTEMPT:
            left_over = 0
            for start in range(0, count, BATCH):
                some = min(BATCH, count - start)
                padded = (some + LANES - 1) // LANES * LANES
                for j in range(count, start + padded):
                    todo[j] = 0  # made, but not used
                _listed(scratch, start, padded, base, attempt, key, stream)
                _propose(law, scratch, padded)
                for j in range(some):
                    place = todo[np.uint64(start + j)]
                    values[np.uint64(at + place)] = fresh[j]
                    todo[np.uint64(left_over)] = place
                    left_over += 1 - good[j]
            count = left_over
            attempt += 1
        for j in range(count):  # never reached by a law that has room for its values among the floats
            place = np.uint64(at + todo[j])
            values[place] = hold(values[place], law.lower, law.upper)

    return loop


@_pass
def _span(law, scratch, at, index, count, key, stream):
    """Make ``count`` consecutive elements from ``index`` on in ``values[at:]``; where the first one is, and the end."""
    per_block = 16 // scratch.values.itemsize
    head = index % per_block
    size = (head + count + LANES - 1) // LANES * LANES
    _consecutive(scratch, (index - head) // per_block, size // per_block, key, stream)
    _draw(law, scratch, at, size)
    _settle(law, scratch, at, size, index - head, key, stream)
    return at + head, at + size


def _encode(values, scratch, size, low, high, encoding):
    """Round the first ``size`` values to 16 bits if they are to be; the address of the elements."""


@_by_law(_encode)
def _encode_by_width(values, scratch, size, low, high, encoding):
    def wide(values, scratch, size, low, high, encoding):
        return np.int64(values.ctypes.data)

    def narrow(values, scratch, size, low, high, encoding):
        full_vectors()
        encoded = scratch.encoded
        if encoding == FLOAT16:
            for j in range(size):
                encoded[j] = to_float16(hold(values[j], low, high))
        elif encoding == BFLOAT16:
            for j in range(size):
                encoded[j] = to_bfloat16(hold(values[j], low, high))
        else:
            return np.int64(values.ctypes.data)
        return np.int64(encoded.ctypes.data)

    return narrow if values.dtype.bitwidth == 32 else wide


@_pass
def _store_run(scratch, to, source, size, streaming):
    """Store ``size`` consecutive bytes; of a run to be streamed the whole lines are left pending."""
    if streaming and size >= 1024:
        head = -to % 64
        lines = (size - head) // 64
        done = head + 64 * lines
        copy(to, source, head)
        copy(to + done, source + done, size - done)
        pending = scratch.pending
        _drain(scratch, pending[2])
        pending[0], pending[1], pending[2] = to + head, source + head, lines
    else:
        copy(to, source, size)


@_pass
def _move(to, source, size):
    """Store one element."""
    if size == 2:
        move(to, source, np.uint16(0))
    elif size == 4:
        move(to, source, np.uint32(0))
    else:
        move(to, source, np.uint64(0))


@_pass
def _locate(places, inner, column, columns):
    """Where the columns from ``column`` on lie, relative to their row; ``inner`` has (count, stride) for each axis."""
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


@_pass
def _tile(law, scratch, plan, inner, to, index, column, rows, columns, low, high, encoding, key, stream):
    """Make and store one tile; ``to`` and ``index`` are those of its first row's column 0."""
    starts, end = scratch.starts, 0
    together = rows if plan.row_step == columns else 1  # rows that follow each other in the tensor are one span
    for row in range(0, rows, together):
        first = index + column + row * plan.row_step
        begin, end = _span(law, scratch, end, first, together * columns, key, stream)
        for k in range(together):
            starts[row + k] = begin + k * columns
    source, size = _encode(scratch.values, scratch, end, low, high, encoding), plan.size
    if plan.contiguous:
        for row in range(rows):
            place = to + row * plan.row_stride + column * size
            _store_run(scratch, place, source + starts[row] * size, columns * size, plan.streaming)
    else:
        _locate(scratch.places, inner, column, columns)
        _scatter(to, source, scratch, rows, columns, plan)


def _scratch(one, memory):
    """The arrays of one task, for values of the width of ``one``, carved from ``memory``."""


@_by_law(_scratch)
def _scratch_by_width(one, memory):
    word, real, width = (np.uint32, np.float32, 4) if one.bitwidth == 32 else (np.uint64, np.float64, 8)
    half, blocks = ROOM // 2, ROOM * width // 16

    def carve(one, memory):
        a = -(-np.int64(memory.ctypes.data) // 64) * 64  # a vector that spans two cache lines costs two accesses
        b = a + half * width
        places = b + half * width
        values = places + SCATTER_TILE * 8
        todo = values + ROOM * width
        starts = todo + ROOM * 4
        fresh = starts + ROOM * 4
        encoded = fresh + BATCH * width
        good = encoded + ROOM * 2
        pending = good + BATCH
        return Scratch(
            carray(pointer(a), half, word),
            carray(pointer(b), half, word),
            carray(pointer(a), blocks, np.uint64),
            carray(pointer(b), blocks, np.uint64),
            carray(pointer(values), ROOM, real),
            carray(pointer(todo), ROOM, np.int32),
            carray(pointer(starts), ROOM, np.int32),
            carray(pointer(fresh), BATCH, real),
            carray(pointer(encoded), ROOM, np.uint16),
            carray(pointer(good), BATCH, np.uint8),
            carray(pointer(places), SCATTER_TILE, np.int64),
            carray(pointer(pending), 3, np.int64),
        )

    return carve


def _sources() -> str:
    """A digest of everything that the kernels are compiled from."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kernel(sources: str) -> Any:
    """The compiled entry. Its cache on disk answers to ``sources``, a digest of all that it is compiled from.

    Numba's key for a cached function holds the bytecode of that function alone, and its closure: without the digest
    there, a formula changed in another file would go on running from the cache.
    """

    @njit(nogil=True, cache=True)
    def fill_tiles(law, low, high, encoding, key, stream, plan, inner, axes, memory, begin, end):
        """Make the tiles [begin, end) of the plan.

        ``inner`` has a row (count, stride) for each axis that the columns are made of, ``axes`` one (count, stride,
        step) for each outer axis.
        """
        full_vectors()
        sources  # noqa: B018 - held in the closure on purpose
        scratch = _scratch(low, memory)
        scratch.pending[2] = 0
        across, down = -(-plan.columns // plan.tile_columns), -(-plan.rows // plan.tile_rows)
        tile = begin
        while tile < end:  # a row of tiles after the other: only its first one is looked up
            first = tile % across
            last = min(across, first + end - tile)
            rest, row = tile // across // down, tile // across % down * plan.tile_rows
            to, index = plan.address + row * plan.row_stride, plan.first + row * plan.row_step
            for axis in range(axes.shape[0] - 1, -1, -1):
                rest, place = rest // axes[axis, 0], rest % axes[axis, 0]
                to += place * axes[axis, 1]
                index += place * axes[axis, 2]
            rows = min(plan.tile_rows, plan.rows - row)
            for column in range(first * plan.tile_columns, last * plan.tile_columns, plan.tile_columns):
                columns = min(plan.tile_columns, plan.columns - column)
                _tile(law, scratch, plan, inner, to, index, column, rows, columns, low, high, encoding, key, stream)
            tile += last - first
        if plan.streaming:
            _drain(scratch, scratch.pending[2])
            fence(0)

    return fill_tiles


fill_tiles = _kernel(_sources())
