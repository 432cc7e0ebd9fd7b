"""The pass over an array for `fastinit.verify`: counts, sums and fingerprints of a run of consecutive elements.

An element is seen as its normal score, the quantile of a standard normal at the element's probability: so every
distribution has the tests of a normal. Of a normal the score is z, its distance from the mean in standard deviations;
of others it is looked up in a table, by bin. Nothing here decides a value of an array, so sums may be reordered and the
last bits are free. Entries take arrays and numbers alone.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from fastinit.kernels.cache import keep

TILE = 2048  # elements that are worked on in the cache
AHEAD = 64  # elements behind a run that its lags may need
BLOCK = 256  # lines whose products with another are formed at once
HALF = 15  # elements of a fingerprint on either side of the one in the middle
WINDOW = 2 * HALF + 1
STEPS = 16.0  # of a fingerprint's digit, to one standard deviation
FARTHEST = 64.0  # scores are held inside: what lies beyond is seen by the tests of the extremes

_ODD = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: 2**64 over the golden ratio
_FOLD = np.uint64(29)


_plain = njit(nogil=True)
_sum = njit(nogil=True, fastmath={"reassoc", "nsz", "contract"})  # lanes for partial sums


def _entry(function: Any) -> Any:
    """Compile an entry for Python, and keep it on disk together with all that it calls."""
    return keep(_plain(function), f"verification by {function.__name__}")


@_plain
def _clean(source, most, mean, values):
    """Copy values, the mean in place of those that are not finite; return the number of those."""
    bad = np.int32(0)
    for j in range(source.size):
        good = abs(source[j]) <= most
        values[j] = source[j] if good else mean
        bad += np.int32(not good)
    return bad


@_plain
def _outside(values, low, high):
    """Return the number of values outside an interval, and that of zeros."""
    outside = zeros = np.int32(0)
    for j in range(values.size):
        v = values[j]
        outside += np.int32(v < low) + np.int32(v > high)
        zeros += np.int32(v == 0)
    return outside, zeros


@_sum
def _powers(z):
    """Return the sums of z and of its square."""
    one = two = 0.0
    for j in range(z.size):
        v = np.float64(z[j])
        one += v
        two += v * v
    return one, two


@_plain
def _one_place(z, scale, offset, bins):
    """Return the bin; without branches, so that a loop over it runs in vectors."""
    t, last = z * scale + offset, np.float32(bins - 1)
    t = t if t > np.float32(0) else np.float32(0)
    return np.int32(t if t < last else last)


@_plain
def _standardise(values, shift, inverse, scale, offset, bins, z, places):
    """Store the distances from the mean in standard deviations, held inside, and the bins."""
    most = np.float32(FARTHEST)
    for j in range(values.size):
        v = np.float32((np.float64(values[j]) - shift) * inverse)
        places[j] = _one_place(v, scale, offset, bins)
        v = v if v < most else most
        z[j] = v if v > -most else -most


@_plain
def _count(places, counts):
    """Count the bins."""
    for j in range(places.size):
        counts[np.uint64(places[j])] += 1


@_plain
def _look_up(places, table, scores):
    """Store the scores of bins."""
    for j in range(places.size):
        scores[j] = table[places[j]]


@_entry
def wide(part, first, last, shift, inverse, scale, offset, most, table, counts, whole, sums, extremes, scores):
    """Store the scores of a run of float32 or float64, and count its elements from ``first`` to ``last``.

    ``counts`` has the bins, ``whole`` the elements that are not finite and those that are zero, ``sums`` z and its
    square, ``extremes`` the smallest and largest finite value.
    """
    values, places = np.empty(TILE, part.dtype), np.empty(TILE, np.int32)
    stand, middle, spot = np.empty(1, part.dtype), np.empty(1, np.float32), np.empty(1, np.int32)
    stand[0] = shift  # for what is not finite
    for k in range(3):  # what lies before, the run itself, and what lies behind
        begin, end = (0, first, last)[k], (first, last, part.size)[k]
        for start in range(begin, end, TILE):
            some = min(TILE, end - start)
            z, here, at = scores[start : start + some], values[:some], places[:some]
            bad = _clean(part[start : start + some], most, stand[0], here)
            _standardise(here, shift, inverse, scale, offset, counts.size, z, at)
            if k == 1:
                outside, zeros = _outside(here, extremes[0], extremes[1])
                if outside:  # rare: to look for the extremes themselves would not run in vectors
                    extremes[0], extremes[1] = min(extremes[0], here.min()), max(extremes[1], here.max())
                one, two = _powers(z)
                sums[0] += one
                sums[1] += two
                _count(at, counts)
                if bad:
                    whole[0] += bad
                    _standardise(stand, shift, inverse, scale, offset, counts.size, middle, spot)
                    counts[spot[0]] -= bad
                    zeros -= bad if stand[0] == 0 else 0
                whole[1] += zeros
            if table.size:
                _look_up(at, table, z)
    return 0


@_entry
def narrow(part, first, last, table, counts, scores):
    """Store the scores of a run of 16-bit patterns, and count the patterns from ``first`` to ``last``."""
    for j in range(part.size):
        scores[j] = table[part[j]]
    for j in range(first, last):
        counts[np.uint64(part[j])] += 1
    return 0


@_sum
def _line(g, sums, squares):
    """Add scores and their squares to those of the columns; return their sums."""
    one = two = np.float32(0)
    for j in range(g.size):
        v = g[j]
        w = v * v
        one += v
        two += w
        sums[j] += v
        squares[j] += w
    return one, two


@_sum
def _product(x, y):
    """Return the sum of x[j] y[j]."""
    total = np.float32(0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@_plain
def _digit(score):
    """Return a score's magnitude in steps."""
    return np.uint64(min(abs(score) * np.float32(STEPS), np.float32(255)))


@_plain
def _fingerprint(scores, at):
    """Return the same for the scores around a place in either direction, and whatever their signs."""
    value = _digit(scores[at])
    for k in range(1, HALF + 1):
        left, right = _digit(scores[at - k]), _digit(scores[at + k])
        value = (value ^ (min(left, right) << np.uint64(8)) ^ max(left, right)) * _ODD
        value ^= value >> _FOLD
    return value


@_entry
def structure(scores, first, last, place, width, chunk, rows, columns, lags, products, least, fingerprints, places):
    """Add up how scores from ``first`` to ``last`` lie in rows of ``width``; return the number of fingerprints kept.

    ``place`` is the first one's, in the whole. ``rows`` has the sums of scores and of squares by row, from that of the
    first one on, and chunk; ``columns`` by the row's number modulo its length, and column. ``products`` has those of
    scores at each lag. Fingerprints are kept around scores of a magnitude of ``least`` or more: the elements alone
    decide it, so that a copy keeps those of its original, wherever it lies.
    """
    at, there, begun = first, place, place // width
    while at < last:
        row, column = there // width, there % width
        part = column // chunk
        some = min(last - at, width - column, (part + 1) * chunk - column)
        modulo = row % columns.shape[0]
        one, two = _line(
            scores[at : at + some],
            columns[modulo, 0, column : column + some],
            columns[modulo, 1, column : column + some],
        )
        rows[row - begun, part, 0] += one
        rows[row - begun, part, 1] += two
        at += some
        there += some
    for k in range(lags.size):
        end = min(last, scores.size - lags[k])
        for start in range(first, end, TILE):
            stop = min(start + TILE, end)
            products[k] += _product(scores[start:stop], scores[start + lags[k] : stop + lags[k]])
    kept = 0
    end = min(last, scores.size - HALF)
    for start in range(max(first, HALF), end, 64):
        group, hits = scores[start : min(start + 64, end)], np.int32(0)
        for j in range(group.size):
            hits += np.int32(abs(group[j]) >= least)
        if hits:
            for j in range(group.size):
                if abs(group[j]) >= least and kept < fingerprints.size:
                    fingerprints[kept] = _fingerprint(scores, start + j)
                    places[kept] = place + start + j - first - HALF
                    kept += 1
    return kept


@_sum
def _add_four(total, lines, k, a, b, c, d):
    """Add four numbers' products with the lines from k on."""
    one, two, three, four = lines[k], lines[k + 1], lines[k + 2], lines[k + 3]
    for j in range(total.size):
        total[j] += a * one[j] + b * two[j] + c * three[j] + d * four[j]


@_entry
def cosines(lines, first, last, matrix, most, at):
    """Multiply the lines from ``first`` to ``last`` with all before them: BLAS would wait for threads of its own.

    The lines' length is a multiple of four. ``most`` and ``at`` have, for each line, the product of the largest
    magnitude and with which one it is; ``matrix`` has all products, unless it is empty.
    """
    across, found = np.zeros((lines.shape[1], BLOCK), np.float32), np.empty(BLOCK, np.float32)
    for begin in range(0, last - 1, BLOCK):  # lines that stay in the cache, on their sides
        end = min(begin + BLOCK, last)
        for j in range(begin, end):
            for k in range(lines.shape[1]):
                across[k, j - begin] = lines[j, k]
        for i in range(max(first, begin + 1), last):
            line, here = lines[i], found[: min(end, i) - begin]
            here[:] = 0
            for k in range(0, line.size, 4):
                _add_four(here, across, k, line[k], line[k + 1], line[k + 2], line[k + 3])
            hits, least = np.int32(0), abs(most[i])
            for j in range(here.size):
                hits += np.int32(abs(here[j]) > least)
            if matrix.size:
                matrix[i, begin : begin + here.size] = here
                matrix[begin : begin + here.size, i] = here
            if hits:
                for j in range(here.size):
                    if abs(here[j]) > abs(most[i]):
                        most[i], at[i] = here[j], begin + j
    return 0
