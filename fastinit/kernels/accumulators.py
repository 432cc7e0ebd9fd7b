"""One pass over an array for `fastinit.verify`: counts, sums and fingerprints of a run of consecutive elements.

An element is seen as z, its distance from the distribution's mean in the distribution's standard deviations. Nothing
here decides a value of an array, so sums may be reordered and the last bits are free.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from fastinit.kernels.cache import keep

TILE = 2048  # elements that are worked on in the cache
NEAR = 64  # lags up to this one are seen within the run; as many elements after it are needed
WINDOW = 32  # elements that a fingerprint is made of
STEPS = 16.0  # of a fingerprint's digit, to one standard deviation
KEY = 4  # of them, those that decide whether it is kept: as bytes, one 32-bit word

_ODD = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: 2**64 over the golden ratio
_ODD_WORD = np.uint32(0x9E3779B1)
_FOLD = np.uint64(29)


class Grid(NamedTuple):
    """How values of 32 and 64 bits become z, and find their bin: ``(x - origin) * scale`` rounded down, held inside."""

    shift: float
    inverse: float
    origin: float
    scale: float
    bins: int
    most: float  # the largest finite value
    low: Any  # the bounds, in the dtype
    high: Any


class Found(NamedTuple):
    """The results of one run: arrays that the kernels add to."""

    bins: Any  # int64: how many elements are in each
    sums: Any  # z, z**2, z**3, z**4
    lagged: Any  # z z' at each of the near lags
    outside: Any  # how many finite values lie below and above the bounds
    bad: Any  # how many are NaN or infinite
    fingerprints: Any  # uint64
    places: Any  # where in the array each begins


_plain = njit(nogil=True)
_sum = njit(nogil=True, fastmath={"reassoc", "nsz", "contract"})  # lanes for partial sums


def _entry(function: Any) -> Any:
    """Compile an entry for Python, and keep it on disk together with all that it calls."""
    return keep(_plain(function), f"verification by {function.__name__}")


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
        words = q[shift : shift + KEY * some].view(np.uint32)
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


@_entry
def wide(part, count, grid, lags, base, limit, found):
    """Look at the first ``count`` elements of a run of float32 or float64; return the number of fingerprints kept."""
    z, q = np.empty(TILE + NEAR, np.float32), np.empty(TILE + NEAR, np.int8)
    places, keys, finite = np.empty(TILE, np.int32), np.empty(TILE // KEY, np.uint32), np.empty(TILE, part.dtype)
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
        _count(source, grid, places, found)
        _digits(z, q, room)
        kept = _summaries(z, q, keys, some, room, lags, base + start, limit, found, kept)
    return kept


@_entry
def narrow(part, count, values, lags, base, limit, found):
    """Look at 16-bit patterns as `wide` does at values: their z are looked up, and each pattern is a bin."""
    z, q, keys = np.empty(TILE + NEAR, np.float32), np.empty(TILE + NEAR, np.int8), np.empty(TILE // KEY, np.uint32)
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


@_entry
def wide_product(part, other, grid):
    """Return the sum of z z' over two runs of float32 or float64."""
    x, y, total = np.empty(TILE, np.float32), np.empty(TILE, np.float32), 0.0
    for start in range(0, other.size, TILE):
        some = min(TILE, other.size - start)
        _measure(part[start : start + some], grid, x)
        _measure(other[start : start + some], grid, y)
        total += _product(x, y, 0, some)
    return total


@_entry
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


@_entry
def products(lines, out):
    """Store the sums of products of every line with every other: BLAS would wait for threads of its own."""
    for i in range(lines.shape[0]):
        for j in range(i + 1):
            out[i, j] = out[j, i] = _dot(lines[i], lines[j])
