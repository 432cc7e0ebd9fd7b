"""Pass of `verify` over an array, or its pieces, in C order: tasks for threads, and the sum of their counts."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit.core.arrays import Array, Floats
from fastinit.sampling.threads import run
from fastinit.verification.geometry import Geometry, geometry
from fastinit.verification.lags import TOGETHER, UNIT, Spectra
from fastinit.verification.null_distribution import Null, patterns
from fastinit.verification.pieces import Pieces, flat
from fastinit.verification.report import Prints

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLAB = 1 << 18  # elements whose scores are there at once
MOST_SLABS = 64  # of a thread's task
FINGERPRINTS = 1 << 16  # fingerprints that are kept of an array, about
MODULO = 2  # the sums of columns are apart for the rows of each number modulo this


class Accumulated(NamedTuple):
    """Counts and sums of the whole array."""

    counts: NDArray[np.int64]  # in the null hypothesis's bins
    sums: Floats  # of z and its square
    extremes: Floats
    lags: dict[int, tuple[int, float]]  # the pairs, and the sum of products of scores
    outside: int
    bad: int
    zeros: int
    geometry: Geometry
    rows: Floats  # sums of scores and of squares by row and chunk
    columns: Floats  # by row modulo, and column
    spectra: Spectra
    prints: Prints
    least: float  # the magnitude of a score that is the middle of a fingerprint


class _Memory(NamedTuple):
    """What a task writes to: fresh memory for each slab would take as long as the slab."""

    scores: NDArray[np.float32]
    counts: NDArray[np.int32]
    first: int  # of the rows
    rows: Floats
    columns: NDArray[np.float32]
    fingerprints: NDArray[np.uint64]
    places: NDArray[np.int64]


def _aligned(size: int) -> NDArray[np.float32]:
    """Return zeros that begin where a line of the cache does."""
    from fastinit.kernels.measures import MARGIN

    memory = np.zeros(size + MARGIN, np.float32)
    first = -memory.ctypes.data // memory.itemsize % MARGIN
    return memory[first : first + size]


class _Total:
    """Sums of whole numbers, which have no order: so that the verdict does not depend on threads."""

    def __init__(self, shape: tuple[int, ...], unit: float = 1.0) -> None:
        self.sum, self.unit = np.zeros(shape, np.int64), unit
        self.lock = threading.Lock()

    def add(self, numbers: Array, first: int = 0) -> None:
        """Add numbers, rounded to the unit, to those from ``first`` on."""
        whole = numbers if numbers.dtype.kind == "i" else np.rint(numbers * (1 / self.unit)).astype(np.int64)
        with self.lock:
            self.sum[first : first + len(whole)] += whole

    @property
    def value(self) -> Floats:
        """Return the sums."""
        return np.asarray(self.sum * self.unit, np.float64)


def bins_of(null: Null) -> int:
    """Return the number of bins that a kernel counts: of 16 bits each pattern is one."""
    return 1 << 16 if null.grid is None else null.mass.size


def kernel_of(null: Null, dtype: np.dtype[Any]) -> Callable[..., int]:
    """Return a function that looks at a run, of the arguments of the kernels of both kinds of dtypes.

    These are those of `fastinit.kernels.accumulators.wide`, but for what the null hypothesis says.
    """
    from fastinit.kernels.measures import NARROW, wide

    look = (NARROW if null.grid is None else wide(dtype.name)).ready()
    if null.grid is None:
        return lambda part, first, last, counts, whole, sums, extremes, *structure: look(
            part.view(np.uint16), first, last, null.table, counts, *structure
        )
    numbers, scale, offset, _ = null.grid
    return lambda part, first, last, *found: look(part, first, last, numbers, scale, offset, null.table, *found)


def scan(pieces: Pieces, null: Null, threads: int, full: bool) -> Accumulated:
    """Count and sum an array in one parallel pass, against the bins of the null hypothesis.

    Each piece has pairs of its own: none has one element in another piece.
    """
    from fastinit.kernels.measures import MARGIN, NEAR

    half, form = null.grid is None, geometry(pieces.shape)
    rarity = FINGERPRINTS / pieces.size
    least = null.least_of(rarity)
    look = kernel_of(null, pieces.dtype)
    far = form.width if form.width < SLAB else 0
    lags = np.array([*range(1, NEAR + 1), far])
    slabs = max(1, min(MOST_SLABS, pieces.size // (32 * SLAB)))
    jobs = [
        (view, start, begin)
        for view, start in zip(pieces.views, pieces.starts, strict=True)
        for begin in range(0, view.size, slabs * SLAB)
    ]
    spectra = Spectra(max(view.size for view in pieces.views), null, full)
    bins = _Total((bins_of(null),))
    rows = _Total((form.rows, form.chunks, 2), 2.0**-20)
    columns = _Total((min(MODULO, form.rows), 2, form.width), 2.0**-20)
    power = _Total(spectra.shape, UNIT)
    kept: list[Any] = [None] * len(jobs)
    sums, whole = np.zeros((len(jobs), 2)), np.zeros((len(jobs), 2), np.int64)
    pairs, products = np.zeros((len(jobs), len(lags)), np.int64), np.zeros((len(jobs), len(lags)))
    extremes = np.empty((len(jobs), 2), pieces.dtype if not half else np.float64)
    extremes[:] = math.inf, -math.inf

    def slab(view: Array, start: int, begin: int, job: int, memory: _Memory) -> Any:
        """Look at up to a slab; return what was kept."""
        end = min(begin + SLAB, view.size)
        from_, to = max(begin - MARGIN, 0), min(end + MARGIN, view.size)
        part = flat(view, from_, to)
        part = part if part.flags.aligned else part.copy()
        first, last, scores = begin - from_, end - from_, memory.scores[: to - from_]
        place = start + begin
        found = look(
            part, first, last, memory.counts, whole[job], sums[job], extremes[job], scores, place, form.width,
            form.chunk, memory.rows[place // form.width - memory.first :], memory.columns, far, products[job], least,
            memory.fingerprints, memory.places,
        )  # fmt: skip
        pairs[job, :NEAR] += max(min(last, to - from_ - NEAR) - first, 0)
        pairs[job, NEAR] += max(last - max(first, far), 0)
        for at in range(first, last, TOGETHER):
            if spectra.wanted(place + at - first):
                power.add(spectra.of(scores[at : min(at + TOGETHER, last)], place + at - first))
        return memory.fingerprints[:found].copy(), memory.places[:found].copy()

    def task(k: int) -> int:
        view, start, begin = jobs[k]
        end = min(begin + slabs * SLAB, view.size)
        first, last = (start + begin) // form.width, -(-(start + end) // form.width)
        room = min(SLAB, int(4 * rarity * SLAB) + 4096)
        memory = _Memory(
            _aligned(min(end - begin, SLAB) + 2 * MARGIN), np.zeros(len(bins.sum), np.int32), first,
            np.zeros((last - first, form.chunks, 2)), _aligned(columns.sum.size).reshape(columns.sum.shape),
            np.empty(room, np.uint64), np.empty(room, np.int64),
        )  # fmt: skip
        kept[k] = [slab(view, start, at, k, memory) for at in range(begin, end, SLAB)]
        bins.add(memory.counts)
        rows.add(memory.rows, first)
        columns.add(memory.columns)
        return end - begin

    run(task, len(jobs), threads)
    counts, tally, seen = bins.sum, whole.sum(axis=0), [extremes[:, 0].min(), extremes[:, 1].max()]
    if half:
        atoms, known = patterns(pieces.dtype), null.bin_of >= 0
        counts = np.zeros(null.mass.size, np.int64)
        np.add.at(counts, null.bin_of[known], bins.sum[known])
        tally = np.array([bins.sum[~known].sum(), bins.sum[known & (atoms == 0)].sum()])
        there = atoms[known & (bins.sum > 0)]
        seen = [there.min(initial=math.inf), there.max(initial=-math.inf)]
        sums = np.array([[(counts * null.z).sum(), (counts * null.z**2).sum()]])
    hashes, places = (np.concatenate(kind) for kind in zip(*(one for some in kept for one in some), strict=True))
    return Accumulated(
        counts,
        sums.sum(axis=0) if half or null.table.size else rows.value.sum(axis=(0, 1)),
        np.array(seen, np.float64),
        {lag: (int(pairs[:, k].sum()), float(products[:, k].sum())) for k, lag in enumerate(lags.tolist()) if lag},
        _outside(pieces, null) if seen[0] < null.low or seen[1] > null.high else 0,
        int(tally[0]),
        int(tally[1]),
        form,
        rows.value,
        columns.value,
        spectra.with_power(power.value),
        Prints(hashes, places),
        float(least),
    )


def _outside(pieces: Pieces, null: Null) -> int:
    """Return the number of finite elements outside the bounds: rarely called, since the extremes are known."""
    total = 0
    for begin in range(0, pieces.size, SLAB):
        x = pieces.flat(begin, min(begin + SLAB, pieces.size)).astype(np.float64)
        total += int(np.count_nonzero(np.isfinite(x) & ((x < null.low) | (x > null.high))))
    return total
