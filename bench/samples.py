"""Large samples against the exact law of what can be drawn: ``python -m bench.samples run`` takes some minutes.

2**34 float32 values and 2**30 bfloat16 and float64 values of each distribution are drawn in slabs that stay in the
cache, counted in 65,536 bins of equal probability, and summed; `bench.laws` says what is expected. Every test has two
sides. ``table`` writes the p-values into docs/benchmarks.md.
"""

# The kernels are compiled, and their types are those of their arguments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numba import njit
from scipy import special

import fastinit as fi
from bench.batteries import RESULTS
from bench.laws import Array, Law, law_of
from bench.report import ROOT, put, table
from fastinit.core.dtypes import dtype_of

Draw = Callable[[Array, int], None]  # fills an array with the elements from a number on

BEGIN, END = "<!-- samples table -->", "<!-- /samples table -->"
INITS = {"uniform": fi.uniform(), "normal": fi.normal(), "truncated_normal": fi.truncated_normal()}
LOG2 = {"float32": 34, "bfloat16": 30, "float64": 30}  # of the number of values
SEED, THREADS = 0, 2  # each sample has a name of its own

CELLS = 1 << 19  # equal steps of the line, of which a table knows the first bin
LEVELS = 64  # of the joint counts of two elements
TILE, SLAB = 1 << 14, 1 << 18  # elements: of a pass in the cache, of a draw
LAGS = (1, 2, 3, 4, 5, 7, 8, 16, 64, 256, 1024, 4096)
PARTNERS = tuple(itertools.combinations(range(4), 2))  # of a Philox block; (0, 1) and (2, 3) share a transform


# Counts and sums


class Grid(NamedTuple):
    """What a kernel needs to know of a law."""

    edges: Any  # in the precision of the values
    start: float
    scale: float
    first: Any  # the first bin of each cell
    levels: Any  # of each bin
    lows: Any
    highs: Any
    mean: float
    inverse: float


class Sums(NamedTuple):
    """Counts and sums of a thread; z**2 - 1 is a square."""

    counts: Any  # of bins
    joint: Any  # of the levels of partners
    tails: Any
    extremes: Any  # the smallest, the largest
    powers: Any  # z ... z**4
    lags: Any  # products at each lag, and of the squares
    partners: Any  # as much for partners


def grid_of(law: Law, real: type) -> Grid:
    """Return a law's tables."""
    start, end = law.support
    scale = CELLS / (end - start)
    begins = start + (np.arange(CELLS) - 1e-6) / scale  # a little before, for the rounding of a place
    first = np.searchsorted(law.edges, begins, "right") - 1
    middle = np.cumsum(law.mass) - law.mass / 2
    levels = np.minimum(middle * LEVELS, LEVELS - 1).astype(np.uint8)
    return Grid(
        edges=law.edges.astype(real),
        start=start,
        scale=scale,
        first=first.astype(np.int32),
        levels=levels,
        lows=law.lows.astype(real),
        highs=law.highs.astype(real),
        mean=law.mean,
        inverse=1 / law.std,
    )


def no_sums(law: Law) -> Sums:
    """Return zeros."""
    return Sums(
        np.zeros(len(law.mass), np.int64),
        np.zeros((len(PARTNERS), LEVELS, LEVELS), np.int64),
        np.zeros(len(law.tails), np.int64),
        np.array([np.inf, -np.inf]),
        np.zeros(4),
        np.zeros((2, len(LAGS))),
        np.zeros((2, len(PARTNERS))),
    )


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})  # nothing here decides a value
def _product(x, y):
    total = np.float32(0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _powers(z, out):
    one = two = three = four = 0.0
    for j in range(z.size):
        v = np.float64(z[j])
        w = v * v
        one += v
        two += w
        three += w * v
        four += w * w
    out[0] += one
    out[1] += two
    out[2] += three
    out[3] += four


@njit(nogil=True, cache=True)
def _prepare(x, grid, cell, z, square):
    """Make what a tile is counted and summed by; without branches, so that the loop runs in vectors."""
    for j in range(x.size):
        v = np.float64(x[j])
        t = (v - grid.start) * grid.scale
        t = t if t > 0.0 else 0.0
        cell[j] = np.int32(t if t < CELLS - 1.0 else CELLS - 1.0)
        z[j] = np.float32((v - grid.mean) * grid.inverse)
        square[j] = z[j] * z[j] - np.float32(1)


@njit(nogil=True, cache=True)
def _count(x, grid, sums, cell, level):
    """Count the elements of a tile."""
    for j in range(x.size):
        v, k = x[j], np.int64(grid.first[cell[j]])
        k += v >= grid.edges[k + 1]  # a cell has one edge at most, as a rule: no branch, which would be guessed wrong
        while v >= grid.edges[k + 1]:
            k += 1
        sums.counts[k] += 1
        level[j] = grid.levels[k]
    low, high = grid.lows[0], grid.highs[0]
    for j in range(x.size):
        v = x[j]
        if v < low or v > high:
            for at in range(grid.lows.size):
                sums.tails[at] += v < grid.lows[at]
                sums.tails[grid.lows.size + at] += v > grid.highs[at]
            sums.extremes[0], sums.extremes[1] = min(sums.extremes[0], v), max(sums.extremes[1], v)


@njit(nogil=True, cache=True)
def look(x, grid, sums, lags, partners, planes):
    """Add the elements of a slab, whole tiles."""
    cell, level = np.empty(TILE, np.int32), np.empty(TILE, np.uint8)
    z, square = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for start in range(0, x.size, TILE):
        tile = x[start : start + TILE]
        _prepare(tile, grid, cell, z, square)
        _count(tile, grid, sums, cell, level)
        _powers(z, sums.powers)
        for at in range(lags.size):
            lag = lags[at]
            sums.lags[0, at] += _product(z[lag:], z[:-lag])
            sums.lags[1, at] += _product(square[lag:], square[:-lag])
        for at in range(len(partners)):
            a, b = partners[at]
            for j in range(0, TILE, 4):
                sums.joint[at, level[j + a], level[j + b]] += 1
        for j in range(TILE // 4):
            for k in range(4):
                planes[0, k, j] = z[4 * j + k]
                planes[1, k, j] = square[4 * j + k]
        for at in range(len(partners)):
            a, b = partners[at]
            sums.partners[0, at] += _product(planes[0, a], planes[0, b])
            sums.partners[1, at] += _product(planes[1, a], planes[1, b])


def measure(draw: Draw, law: Law, dtype: str, size: int, threads: int = THREADS) -> Sums:
    """Draw so many values, whole slabs, and count and sum them."""
    real = np.float64 if dtype == "float64" else np.float32
    grid = grid_of(law, real)

    def work(worker: int) -> Sums:
        sums, out, wide = no_sums(law), np.empty(SLAB, dtype_of(dtype)), np.empty(SLAB, real)
        planes = np.empty((2, 4, TILE // 4), np.float32)
        for start in range(worker * SLAB, size, threads * SLAB):
            draw(out, start)
            if dtype == "bfloat16":
                wide.view(np.uint32)[:] = out.view(np.uint16).astype(np.uint32) << np.uint32(16)
            look(wide if dtype == "bfloat16" else out, grid, sums, np.array(LAGS), PARTNERS, planes)
        return sums

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(work, range(threads)))
    total = [np.sum(kind, axis=0) for kind in zip(*parts, strict=True)]
    extremes = np.array([part.extremes for part in parts])
    return Sums(*total)._replace(extremes=np.array([extremes[:, 0].min(), extremes[:, 1].max()]))


# Tests


class Result(NamedTuple):
    """One test."""

    kind: str  # the column of the table
    name: str
    statistic: float
    expected: float
    pvalue: float  # on two sides


def _two_sided(less: float, more: float) -> float:
    """Return the p-value of two sides; that of NaN is 0."""
    pvalue = 2 * min(less, more)
    return 0.0 if math.isnan(pvalue) else min(1.0, float(pvalue))


def _chi_square(kind: str, name: str, counts: Array, mass: Array, size: int) -> Result:
    expected = mass * size
    statistic, freedom = float(((counts - expected) ** 2 / expected).sum()), counts.size - 1
    pvalue = _two_sided(special.chdtr(freedom, statistic), special.chdtrc(freedom, statistic))
    return Result(kind, name, statistic, freedom, pvalue)


def _z(kind: str, name: str, z: float) -> Result:
    return Result(kind, name, float(z), 0.0, _two_sided(special.ndtr(z), special.ndtr(-z)))


def judge(sums: Sums, law: Law, size: int) -> list[Result]:
    """Return what the sums say of the law."""
    found = [_chi_square("chi-square", f"{len(law.mass)} bins", sums.counts, law.mass, size)]
    for (name, probability), seen in zip(law.tails, sums.tails.tolist(), strict=True):
        expected = probability * size
        less, more = special.pdtr(seen, expected), special.pdtrc(seen - 1, expected) if seen else 1.0
        found.append(Result("tails", name, seen, expected, _two_sided(less, more)))
    m = law.moments
    for k in range(1, 5):
        z = (sums.powers[k - 1] / size - m[k]) / math.sqrt((m[2 * k] - m[k] ** 2) / size)
        found.append(_z("moments", f"z^{k}", z))
    for row, (what, scale) in enumerate((("values", 1.0), ("squares", m[4] - 1))):
        for lag, total in zip(LAGS, sums.lags[row], strict=True):
            pairs = size // TILE * (TILE - lag)
            found.append(_z("lags", f"{what} at lag {lag}", total / scale / math.sqrt(pairs)))
        for pair, total in zip(PARTNERS, sums.partners[row], strict=True):
            found.append(_z("partners", f"{what} of elements {pair} of a block", total / scale / math.sqrt(size / 4)))
    levels = np.bincount(grid_of(law, np.float64).levels, law.mass, LEVELS)
    for pair, counts in zip(PARTNERS, sums.joint, strict=True):
        mass = np.outer(levels, levels)
        found.append(_chi_square("joint chi-square", f"elements {pair} of a block", counts, mass, size // 4))
    low, high = law.support
    outside = not (low <= sums.extremes[0] and sums.extremes[1] <= high)
    found.append(Result("bounds", "smallest and largest", 0.0, 0.0, 0.0 if outside else 1.0))
    return found


KINDS = ("chi-square", "tails", "moments", "lags", "partners", "joint chi-square", "bounds")


def summary(results: Path) -> str:
    """Return the table of all that was kept, and the tails of the normals."""
    files = [results / f"{name}-{dtype}.json" for dtype in LOG2 for name in INITS]
    kept = [json.loads(file.read_text()) for file in files if file.exists()]
    rows = []
    for one in kept:
        row = [one["distribution"].replace("_", " "), one["dtype"], f"2^{one['log2']}"]
        for kind in KINDS:
            pvalues = [test["pvalue"] for test in one["tests"] if test["kind"] == kind]
            row.append(f"{min(pvalues):.2g}" + (f" of {len(pvalues)}" if len(pvalues) > 1 else ""))
        rows.append([*row, f"{one['cpu']:.0f}"])
    normals = [one for one in kept if one["distribution"] == "normal"]
    tails = [[test for test in one["tests"] if test["kind"] == "tails"] for one in normals]
    found = [
        [same[0]["name"], *(f"{test['statistic']:,.0f} / {test['expected']:,.2f}" for test in same)]
        for same in zip(*tails, strict=True)
    ]
    head = ["normal, found / expected", *(f"{one['dtype']}, 2^{one['log2']}" for one in normals)]
    return "\n".join([table(["distribution", "dtype", "values", *KINDS, "CPU s"], rows), "", table(head, found)])


# The command


def drawer(init: fi.Initializer, name: str, size: int) -> Draw:
    """Return what fills slabs with this package's values."""

    def draw(out: Array, start: int) -> None:
        fi.fill(out, init, seed=SEED, name=name, global_shape=(size,), global_offset=(start,), threads=1)

    return draw


@click.group(help=__doc__)
def main() -> None:
    """Draw, or say what was found."""


@main.command()
@click.option("--distribution", "names", type=click.Choice(list(INITS)), multiple=True, help="By default, all.")
@click.option("--dtype", "dtypes", type=click.Choice(list(LOG2)), multiple=True, help="By default, all.")
@click.option("--log2", type=click.IntRange(18, 40), help="The number of values; by default 34, or 30.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "samples", show_default=True)
def run(names: list[str], dtypes: list[str], log2: int | None, results: Path) -> None:
    """Draw samples, and keep what the tests say as JSON."""
    results.mkdir(parents=True, exist_ok=True)
    for dtype, name in itertools.product(dtypes or LOG2, names or INITS):
        power = log2 or LOG2[dtype]
        size, begin, cpu = 1 << power, time.perf_counter(), time.process_time()
        law = law_of(name, dtype, size)
        sums = measure(drawer(INITS[name], f"{name} {dtype}", size), law, dtype, size)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        found = judge(sums, law, size)
        worst = min(found, key=lambda test: test.pvalue)
        print(f"{name} {dtype} 2^{power}: {seconds:.0f} s, {cpu:.0f} s of CPU; of {len(found)}: {worst}", flush=True)
        kept = {"distribution": name, "dtype": dtype, "log2": power, "seed": SEED, "threads": THREADS}
        kept |= {"seconds": seconds, "cpu": cpu, "extremes": sums.extremes.tolist()}
        kept |= {"tests": [test._asdict() for test in found]}
        (results / f"{name}-{dtype}.json").write_text(json.dumps(kept, indent=1) + "\n")


@main.command("table")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "samples", show_default=True)
@click.option("--page", type=click.Path(path_type=Path), default=ROOT / "docs/benchmarks.md", show_default=True)
def write_table(results: Path, page: Path) -> None:
    """Write what was found into the page, between its two markers."""
    text = summary(results)
    print(text)
    put(page, BEGIN, END, text)


if __name__ == "__main__":
    main()
