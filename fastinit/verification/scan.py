"""Pass of `verify` over an array, or its pieces: tasks for threads, and the sum of their counts."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit.core.arrays import Array, Floats
from fastinit.sampling.threads import run
from fastinit.verification.null_distribution import BINS, Null, patterns
from fastinit.verification.pieces import Pieces, flat

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAR_LAGS = (1, 2, 3, 4, 8, 16, 32, 64)
FAR_LAGS = 4  # the most lags of the outer axes: each reads the array once more
TASK = 1 << 19  # elements of a thread's task
FINGERPRINTS = 1 << 17  # fingerprints that are kept of an array, about


class Accumulated(NamedTuple):
    """Counts and sums of the whole array."""

    counts: NDArray[np.int64]  # in the null hypothesis's bins
    sums: Floats
    lags: dict[str, tuple[int, float]]  # the pairs, and the sum over them
    outside: int
    bad: int
    fingerprints: NDArray[np.uint64]
    places: NDArray[np.int64]


def _lags(shape: tuple[int, ...]) -> dict[str, int]:
    """Return the lags by name: the near ones, and a step along each axis but the last."""
    size = math.prod(shape)
    found = {f"lag {lag}": lag for lag in NEAR_LAGS if lag < size}
    for axis in range(len(shape) - 2, -1, -1):
        lag = math.prod(shape[axis + 1 :])
        if shape[axis] > 1 and lag not in found.values() and len(found) < len(NEAR_LAGS) + FAR_LAGS:
            found[f"lag {lag}"] = lag
    return found


def scan(pieces: Pieces, null: Null, threads: int) -> Accumulated:
    """Count and sum an array in one parallel pass, against the bins of the null hypothesis.

    Each piece has pairs of its own: none has one element in another piece.
    """
    rarity = max(0, math.ceil(math.log2(pieces.size / FINGERPRINTS)))
    found, start = [], 0
    for view in pieces.views:
        if view.size:
            found.append(_scan(view, null, threads, rarity, start))
        start += view.size
    return found[0] if len(found) == 1 else _sum(found)


def _sum(parts: Sequence[Accumulated]) -> Accumulated:
    """Return the counts of several pieces, as those of one array."""
    lags: dict[str, tuple[int, float]] = {}
    for part in parts:
        for name, (pairs, total) in part.lags.items():
            before = lags.get(name, (0, 0.0))
            lags[name] = before[0] + pairs, before[1] + total
    return Accumulated(
        np.sum([part.counts for part in parts], axis=0),
        np.sum([part.sums for part in parts], axis=0),
        lags,
        sum(part.outside for part in parts),
        sum(part.bad for part in parts),
        np.concatenate([part.fingerprints for part in parts]),
        np.concatenate([part.places for part in parts]),
    )


def _scan(array: Array, null: Null, threads: int, rarity: int, first: int) -> Accumulated:
    """Count and sum one piece, whose elements are numbered from ``first`` on."""
    from fastinit.kernels.measures import NARROW, NARROW_PRODUCT, NEAR, Found, wide, wide_product

    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    array = array.transpose(order)  # which axis comes first is nothing to the tests, but much to the memory
    size, half = array.size, array.dtype.itemsize == 2
    lags = _lags(array.shape)
    near = {name: lag for name, lag in lags.items() if lag <= NEAR}
    far = {name: lag for name, lag in lags.items() if lag > NEAR}
    steps = np.array(list(near.values()), np.int64)
    tasks = -(-size // TASK)
    limit = np.uint32((1 << 32 >> rarity) - 1)
    room = min(TASK, (4 * TASK >> rarity) + 4096)
    bins, outside, bad = np.zeros(1 << 16 if half else BINS, np.int64), np.zeros(2, np.int64), np.zeros(1, np.int64)
    sums, products = np.zeros((tasks, 4)), np.zeros((tasks, len(near) + len(far)))
    kept_of: list[Any] = [None] * tasks
    lock = threading.Lock()
    precision = array.dtype.name
    look = (NARROW if half else wide(precision)).ready()
    product: Any = (NARROW_PRODUCT if half else wide_product(precision)).ready() if far else None
    values: tuple[Any, ...] = (null.values,) if half else null.grid

    def part(begin: int, end: int) -> Array:
        piece = flat(array, begin, min(end, size))
        piece = piece if piece.flags.aligned else piece.copy()
        return piece.view(np.uint16) if half else piece

    def count(begin: int, end: int, sums: Floats, products: Floats) -> tuple[Found, int]:
        """Return the counts of a run, and the number of fingerprints kept of it."""
        here, many = part(begin, end + NEAR), min(room, end - begin)
        found = Found(
            np.zeros_like(bins), sums, products, np.zeros_like(outside), np.zeros_like(bad),
            np.empty(many, np.uint64), np.empty(many, np.int64),
        )  # fmt: skip
        kept = look(here, end - begin, *values, steps, first + begin, limit, *found)
        for at, lag in enumerate(far.values(), len(near)):
            there = part(begin + lag, end + lag) if begin + lag < size else here[:0]
            products[at] = product(here, there, *values)
        return found, kept

    def task(k: int) -> int:
        begin, end = k * TASK, min((k + 1) * TASK, size)
        found, kept = count(begin, end, sums[k], products[k])
        kept_of[k] = found.fingerprints[:kept].copy(), found.places[:kept].copy()
        with lock:  # whole numbers, whose sum has no order
            for total, one in ((bins, found.bins), (outside, found.outside), (bad, found.bad)):
                total += one
        return end - begin

    run(task, tasks, threads)
    if half:
        known = null.bin_of >= 0
        counts = np.zeros(null.mass.size, np.int64)
        np.add.at(counts, null.bin_of[known], bins[known])
        bad[0] = bins[~known].sum()
        atoms = patterns(array.dtype)
        outside[0] = bins[known & ((atoms < null.low) | (atoms > null.high))].sum()
    else:
        counts = bins
    totals = products.sum(axis=0)
    pairs = {name: (size - lag, float(totals[at])) for at, (name, lag) in enumerate({**near, **far}.items())}
    hashes, places = (np.concatenate(kind) for kind in zip(*kept_of, strict=True))
    return Accumulated(counts, sums.sum(axis=0), pairs, int(outside.sum()), int(bad[0]), hashes, places)
