"""One pass over an array for `fastinit.verify`: counts, sums and fingerprints of a run of consecutive elements.

An element is seen as z, its distance from the distribution's mean in the distribution's standard deviations. Nothing
here decides a value of an array, so sums may be reordered and the last bits are free.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import register_jitable

from fastinit.kernels.intrinsics import pointer, stack_array
from fastinit.kernels.measures import KEY, NEAR, STEPS, TILE, WINDOW, Found, Grid

_ODD = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: 2**64 over the golden ratio
_ODD_WORD = np.uint32(0x9E3779B1)
_FOLD = np.uint64(29)


_plain = register_jitable
_sum = register_jitable(fastmath={"reassoc", "nsz", "contract"})  # lanes for partial sums


@_sum
def _powers(z, count):
    """Return the sums of the first four powers."""
    one = two = three = four = 0.0
    for j in range(count):
        v = np.float64(z[j])
        w = v * v
        one += v
        two += w
        three += w * v
        four += w * w
    return one, two, three, four


@_sum
def _product(x, y, start, count):
    """Return the sum of x[j] y[start + j]."""
    total = np.float32(0)
    y = y[start:]
    for j in range(count):
        total += x[j] * y[j]
    return np.float64(total)


@_plain
def _digits(z, q, room):
    """Store the bytes of fingerprints: ``STEPS`` z, rounded down and clamped to a byte."""
    for j in range(room):
        t = z[j] * np.float32(STEPS)
        t = t if t > np.float32(-128) else np.float32(-128)
        t = t if t < np.float32(127) else np.float32(127)
        q[j] = np.int8(np.int32(t + np.float32(128)) - 128)


@_plain
def _fingerprints(q, keys, count, room, base, limit, found, kept):
    """Keep the fingerprints of the windows from each of ``count`` elements on, where their first bytes say so.

    The elements alone decide which are kept, so that a copy keeps those of its original, wherever it lies.
    """
    count = min(count, room - WINDOW + 1)
    for shift in range(KEY):
        some = (count - shift + KEY - 1) // KEY
        if some <= 0:
            break
        words = carray(pointer(np.int64(q.ctypes.data) + shift), some, np.uint32)
        for j in range(some):
            keys[j] = np.uint32(words[j] * _ODD_WORD)
        for start in range(0, some, 64):
            part, hits = keys[start : min(start + 64, some)], np.int64(0)
            for j in range(part.size):  # from 0 on, or Numba allows for a negative place, and LLVM makes no vectors
                hits += part[j] <= limit
            if hits == 0:
                continue
            for j in range(part.size):
                if part[j] <= limit and kept < found.fingerprints.size:
                    at = KEY * (start + j) + shift
                    value = np.uint64(0)
                    for k in range(WINDOW):
                        value = (value ^ np.uint64(np.uint8(q[at + k]))) * _ODD
                        value ^= value >> _FOLD
                    found.fingerprints[kept] = value
                    found.places[kept] = base + at
                    kept += 1
    return kept


@_plain
def _summaries(z, q, keys, count, room, lags, base, limit, found, kept):
    """Add up all that is the same for every dtype once a tile is made of z and digits; return the fingerprints kept."""
    one, two, three, four = _powers(z, count)
    found.sums[0] += one
    found.sums[1] += two
    found.sums[2] += three
    found.sums[3] += four
    for k in range(lags.size):
        found.lagged[k] += _product(z, z, lags[k], max(0, min(count, room - lags[k])))
    return _fingerprints(q, keys, count, room, base, limit, found, kept)


@_plain
def _measure(part, grid, z):
    """Standardise a run of values, those that are not finite to 0; return the number of those."""
    bad = np.int64(0)
    for j in range(part.size):
        x = np.float64(part[j])
        good = abs(x) <= grid.most
        x = x if good else grid.shift
        bad += np.int64(not good)
        z[j] = np.float32((x - grid.shift) * grid.inverse)
    return bad


@_plain
def place(x, grid):
    """Return the bin of a value; without branches, so that the loop over it runs in vectors."""
    t = (np.float64(x) - grid.origin) * grid.scale
    t = t if t > 0.0 else 0.0
    return np.int32(t if t < grid.bins - 1.0 else grid.bins - 1.0)


@_plain
def _count(part, grid, places, found):
    """Put finite values into bins."""
    for j in range(part.size):
        places[j] = place(part[j], grid)
    for j in range(part.size):
        found.bins[np.uint64(places[j])] += 1


@_plain
def _outside(part, low, high):
    """Return the numbers of values below and above the bounds."""
    below, above = np.int32(0), np.int32(0)
    for j in range(part.size):
        below += np.int32(part[j] < low)
        above += np.int32(part[j] > high)
    return below, above


_scores, _digit_bytes = stack_array(types.float32, TILE + NEAR), stack_array(types.int8, TILE + NEAR)
_keys, _places = stack_array(types.uint32, TILE // KEY), stack_array(types.int32, TILE)


def wide(precision: str) -> Any:
    """Return the kernel that looks at a run of float32 or float64."""
    finite_values = stack_array(getattr(types, precision), TILE)

    def kernel(
        part, count, shift, inverse, origin, scale, bins, most, low, high, lags, base, limit, counts, sums, lagged,
        outside, bad, fingerprints, places,
    ):  # fmt: skip
        """Look at the first ``count`` elements; return the number of fingerprints kept."""
        grid = Grid(shift, inverse, origin, scale, bins, most, low, high)
        found = Found(counts, sums, lagged, outside, bad, fingerprints, places)
        z, q, keys, bin_of, finite = _scores(), _digit_bytes(), _keys(), _places(), finite_values()
        kept = 0
        for start in range(0, count, TILE):
            some = min(TILE, count - start)
            room = min(some + NEAR, part.size - start)
            source = part[start : start + some]
            if _measure(part[start : start + room], grid, z):
                good = 0
                for j in range(some):
                    if abs(np.float64(source[j])) <= grid.most:
                        finite[good] = source[j]
                        good += 1
                found.bad[0] += some - good
                source = finite[:good]
            below, above = _outside(source, grid.low, grid.high)
            found.outside[0] += below
            found.outside[1] += above
            _count(source, grid, bin_of, found)
            _digits(z, q, room)
            kept = _summaries(z, q, keys, some, room, lags, base + start, limit, found, kept)
        return kept

    return kernel


def narrow(part, count, values, lags, base, limit, counts, sums, lagged, outside, bad, fingerprints, places):
    """Look at 16-bit patterns as `wide` does at values: their z are looked up, and each pattern is a bin."""
    found = Found(counts, sums, lagged, outside, bad, fingerprints, places)
    z, q, keys = _scores(), _digit_bytes(), _keys()
    kept = 0
    for start in range(0, count, TILE):
        some = min(TILE, count - start)
        room = min(some + NEAR, part.size - start)
        source = part[start : start + room]
        for j in range(room):
            z[j] = values[source[j]]
        for j in range(some):
            found.bins[np.uint64(source[j])] += 1
        _digits(z, q, room)
        kept = _summaries(z, q, keys, some, room, lags, base + start, limit, found, kept)
    return kept


def wide_product(part, other, shift, inverse, origin, scale, bins, most, low, high):
    """Return the sum of z z' over two runs of float32 or float64."""
    grid = Grid(shift, inverse, origin, scale, bins, most, low, high)
    x, y, total = _scores(), _scores(), 0.0
    for start in range(0, other.size, TILE):
        some = min(TILE, other.size - start)
        _measure(part[start : start + some], grid, x)
        _measure(other[start : start + some], grid, y)
        total += _product(x, y, 0, some)
    return total


def narrow_product(part, other, values):
    """Return the sum of z z' over two runs of 16-bit patterns."""
    total = 0.0
    for j in range(other.size):
        total += np.float64(values[part[j]]) * np.float64(values[other[j]])
    return total


@_sum
def _dot(x, y):
    """Return the sum of x[j] y[j] in float64."""
    total = 0.0
    for j in range(x.size):
        total += x[j] * y[j]
    return total


def products(lines, out):
    """Store the sums of products of every line with every other: BLAS would wait for threads of its own."""
    for i in range(lines.shape[0]):
        for j in range(i + 1):
            out[i, j] = out[j, i] = _dot(lines[i], lines[j])
    return 0
