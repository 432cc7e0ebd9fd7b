"""The pass over an array for `fastinit.verify`: counts, sums and fingerprints of a run of consecutive elements.

An element is seen as its normal score, the quantile of a standard normal at the element's probability: so every
distribution has the tests of a normal. Of a normal the score is z, its distance from the mean in standard deviations;
of others it is looked up in a table, by bin. Nothing here decides a value of an array, so sums may be reordered and the
last bits are free. Entries take arrays and numbers alone.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastinit.kernels.intrinsics import stack_array
from fastinit.kernels.measures import FARTHEST, GROUP, HALF, MARGIN, NEAR, STEPS, TILE

_ODD = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: 2**64 over the golden ratio
_FOLD = np.uint64(29)
STRIDE = 1 << 14  # elements whose scores and structure are looked at in turn

_plain = register_jitable
_sum = register_jitable(fastmath={"reassoc", "nsz", "contract"})  # lanes for partial sums


@_plain
def _news(values, low, high):
    """Return the number of values that are not in an interval, such as NaN, and that of zeros."""
    inside = zeros = np.int32(0)
    for j in range(values.size):
        v = values[j]
        inside += np.int32(v >= low) & np.int32(v <= high)
        zeros += np.int32(v == 0)
    return values.size - inside, zeros


@_plain
def _clean(values, most, mean, clean):
    """Copy values, the mean in place of those that are not finite; return the number of those."""
    bad = np.int32(0)
    for j in range(values.size):
        good = abs(values[j]) <= most
        clean[j] = values[j] if good else mean
        bad += np.int32(not good)
    return bad


@_plain
def _one_place(z, scale, offset, bins):
    """Return the bin; without branches, so that a loop over it runs in vectors."""
    t, last = z * scale + offset, np.float32(bins - 1)
    t = t if t > np.float32(0) else np.float32(0)
    return np.int32(t if t < last else last)


@_plain
def _standardise(values, shift, rest, inverse, scale, offset, bins, z, places):
    """Store the distances from the mean in standard deviations, held inside, and the bins."""
    most = np.float32(FARTHEST)
    for j in range(values.size):
        v = np.float32(((values[j] - shift) - rest) * inverse)
        places[j] = _one_place(v, scale, offset, bins)
        v = v if v < most else most
        z[j] = v if v > -most else -most


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
def _count(places, counts):
    """Count the bins."""
    for j in range(places.size):
        counts[np.uint64(places[j])] += 1


@_plain
def _look_up(places, table, scores):
    """Store the scores of bins."""
    for j in range(places.size):
        scores[j] = table[places[j]]


_bins = stack_array(types.int32, TILE)


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


@_sum
def _four_lags(x, y, total):
    """Add the sums of products of x with y from its first, second, third and fourth element on."""
    a = b = c = d = np.float32(0)
    two, three, four = y[1:], y[2:], y[3:]
    for j in range(x.size):
        v = x[j]
        a += v * y[j]
        b += v * two[j]
        c += v * three[j]
        d += v * four[j]
    total[0] += a
    total[1] += b
    total[2] += c
    total[3] += d


@_plain
def _near_products(scores, first, last, products):
    """Add the products of scores at the lags from 1 to NEAR, of those pairs that are there for all of them."""
    for start in range(first, last, TILE):
        stop = min(start + TILE, last)
        _four_lags(scores[start:stop], scores[start + 1 : stop + NEAR], products)


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


@_plain
def _any(scores, least):
    """Test whether there is a score of this magnitude."""
    hits = np.int32(0)
    for j in range(scores.size):
        hits += np.int32(abs(scores[j]) >= least)
    return hits > 0


@_plain
def _structure(
    scores, first, last, place, kept, begun, width, chunk, rows, columns, far, products, least, prints, places
):  # fmt: skip
    """Add up how scores from ``first`` to ``last`` lie in rows of ``width``; return the number of fingerprints kept.

    ``place`` is the first one's, in the whole; ``kept`` fingerprints are there already. ``rows`` has the sums of scores
    and of squares by row, from the one that is ``begun`` on, and chunk; ``columns`` by the row's number modulo its
    length, and column. ``products`` has those of scores at the lags from 1 to ``NEAR``, and at the one that is ``far``,
    unless it is 0. Fingerprints are kept around scores of a magnitude of ``least`` or more: the elements alone decide
    it, so that a copy keeps those of its original, wherever it lies.
    """
    at, there = first, place
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
    _near_products(scores, first, min(last, scores.size - NEAR), products)
    if far:
        for start in range(max(first, far), last, TILE):
            stop = min(start + TILE, last)
            products[NEAR] += _product(scores[start:stop], scores[start - far : stop - far])
    end = min(last, scores.size - HALF)
    for start in range(max(first, HALF), end, GROUP):
        group = scores[start : min(start + GROUP, end)]
        if _any(group, least):
            for j in range(group.size):
                if abs(group[j]) >= least and kept < prints.size:
                    prints[kept] = _fingerprint(scores, start + j)
                    places[kept] = place + start + j - first - HALF
                    kept += 1
    return kept


@_plain
def _look(
    part, first, last, counted, numbers, scale, offset, table, counts, whole, sums, extremes, scores, clean, bins
):  # fmt: skip
    """Do what the kernel of `wide` says of the elements from ``first`` to ``last``, which may be not counted."""
    mean, rest, inverse, most = numbers[0], numbers[1], numbers[2], numbers[3]
    for start in range(first, last, TILE):
        some = min(TILE, last - start)
        source, z, at = part[start : start + some], scores[start : start + some], bins[:some]
        news, zeros = _news(source, extremes[0], extremes[1])
        bad = 0
        if news:  # rarely: a run of values inside of the extremes is finite
            here = clean[:some]
            bad = _clean(source, most, mean, here)
            _standardise(here, mean, rest, inverse, scale, offset, counts.size, z, at)
            if counted:
                for j in range(some):
                    v = source[j]
                    if abs(v) <= most:
                        extremes[0], extremes[1] = min(extremes[0], v), max(extremes[1], v)
        else:
            _standardise(source, mean, rest, inverse, scale, offset, counts.size, z, at)
        if counted:
            _count(at, counts)
            whole[0] += bad
            whole[1] += zeros
            if bad:
                counts[_one_place(np.float32(-rest * inverse), scale, offset, counts.size)] -= bad  # the mean's
        if table.size:
            if counted:
                one, two = _powers(z)
                sums[0] += one
                sums[1] += two
            _look_up(at, table, z)


@_plain
def _parts(begin, first, last, size, done):
    """Return the end of a part of a run, and up to where its structure is looked at while the scores are in the cache.

    Parts begin where the run or what lies beside it does. Of all but the last one, some scores are still to come that
    fingerprints need.
    """
    if begin < first:
        return first, done
    end = min(begin + STRIDE, last) if begin < last else size
    if end == size:
        return end, last
    return end, end - MARGIN if end < last else done


def wide(precision: str) -> Any:
    """Return the kernel that looks at a run of float32 or float64, and at its structure."""
    clean_values = stack_array(getattr(types, precision), TILE)

    def kernel(
        part, first, last, numbers, scale, offset, table, counts, whole, sums, extremes,
        scores, place, width, chunk, rows, columns, far, products, least, prints, places,
    ):  # fmt: skip
        """Store the scores of a run of float32 or float64, and count its elements from ``first`` to ``last``.

        ``numbers``, in the dtype, are the mean, what is left of it, 1 / std, and the largest finite number. ``counts``
        has the bins, ``whole`` the elements that are not finite and those that are zero, ``extremes`` the smallest and
        largest finite value. ``sums`` has z and its square if there is a table; else they are the scores. What follows
        is as for `_structure`, whose result is returned; ``place`` is that of the first element.
        """
        looked = numbers, scale, offset, table, counts, whole, sums, extremes, scores, clean_values(), _bins()
        form = place // width, width, chunk, rows, columns, far, products, least, prints, places
        kept, begin, done = 0, 0, first
        while begin < part.size:
            end, until = _parts(begin, first, last, part.size, done)
            _look(part, begin, end, first <= begin < last, *looked)
            if until > done:
                kept = _structure(scores, done, until, place + done - first, kept, *form)
            begin, done = end, until
        return kept

    return kernel


def narrow(
    part, first, last, table, counts, scores, place, width, chunk, rows, columns, far, products, least, prints, places
):  # fmt: skip
    """Store the scores of a run of 16-bit patterns, and count the patterns from ``first`` to ``last``.

    What follows is as for `_structure`, whose result is returned; ``place`` is that of the first element.
    """
    form = place // width, width, chunk, rows, columns, far, products, least, prints, places
    kept, begin, done = 0, 0, first
    while begin < part.size:
        end, until = _parts(begin, first, last, part.size, done)
        for j in range(begin, end):
            scores[j] = table[part[j]]
        if first <= begin < last:
            for j in range(begin, end):
                counts[np.uint64(part[j])] += 1
        if until > done:
            kept = _structure(scores, done, until, place + done - first, kept, *form)
        begin, done = end, until
    return kept
