"""Tests of `verify`: each a statistic of the counts, and its p-value under the null distribution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit.core.arrays import Array, Floats
from fastinit.distributions import Constant, Distribution
from fastinit.verification import pvalues
from fastinit.verification.null_distribution import BINS, Null
from fastinit.verification.pieces import Pieces
from fastinit.verification.report import Result, Summary
from fastinit.verification.scan import TASK, Accumulated, scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUPS = 1024  # of the chi-square test
SAMPLE = 1 << 16  # elements that are looked at one by one
LINES, ALONG = 128, 1024  # of the correlation matrices: rows, and elements of each

# A normal distribution stands in for that of a sum where the sum's own skewness or excess is below these: on the side
# of the tail that a p-value of 1e-8 looks at it is then right within a factor of two
MOST_SKEWNESS, MOST_EXCESS = 0.05, 0.01
LEAST_EXPECTED = 16.0  # elements of a group of the chi-square test


class Evidence:
    """Tests that were made, in their order, and those that could not be."""

    def __init__(self) -> None:
        self.made: list[Result] = []
        self.skipped: list[tuple[str, str]] = []

    def add(self, name: str, statistic: float, pvalue: float, detail: str = "") -> None:
        """Note a test that was made; a statistic of NaN comes from values that no distribution gives."""
        pvalue = min(1.0, float(pvalue)) if not math.isnan(pvalue) else 0.0
        self.made.append(Result(name, float(statistic), pvalue, True, detail))

    def skip(self, name: str, reason: str) -> None:
        """Note a test that cannot be made."""
        self.skipped.append((name, reason))


def all_equal(array: Pieces, distribution: Distribution, evidence: Evidence) -> None:
    """Test whether every element is the constant."""
    from fastinit.sampling.lowering import lower_constant

    assert isinstance(distribution, Constant)
    value, wrong = lower_constant(distribution, array.dtype), 0
    for begin in range(0, array.size, TASK):
        wrong += int(np.count_nonzero(~(array.flat(begin, min(begin + TASK, array.size)) == value)))
    evidence.add("equal", wrong, 0.0 if wrong else 1.0, f"{wrong} elements differ from {value}" if wrong else "")


def look(array: Pieces, null: Null, distribution: Distribution, threads: int, evidence: Evidence) -> Summary:
    """Make all tests of an array of draws."""
    accumulated = scan(array, null, threads)
    evidence.add("finite", accumulated.bad, 0.0 if accumulated.bad else 1.0)
    if not (math.isinf(null.low) and math.isinf(null.high)):
        evidence.add("bounds", accumulated.outside, 0.0 if accumulated.outside else 1.0)
    size = array.size - accumulated.bad
    if size:
        _kolmogorov(array, null, distribution, accumulated, evidence)
        _chi_square(null, accumulated.counts, size, evidence)
        _tails(null, accumulated.counts, size, evidence)
        _moments(null, accumulated.sums, size, evidence)
        _beyond(null, accumulated.counts, size, evidence)
        _correlations(null, accumulated, evidence)
    rows = _lines(array, distribution, null, evidence)
    _grain(array, null, evidence)
    _repeats(array.size, null, accumulated, evidence)
    lags = {name: total / pairs for name, (pairs, total) in accumulated.lags.items()}
    return Summary(
        null.edges, accumulated.counts, null.cdf, null.sf, lags, rows, accumulated.fingerprints, accumulated.places
    )


def _standard_error(
    evidence: Evidence, name: str, total: float, size: int, mean: float, second: float, third: float
) -> None:
    """Make the z test of a sum of independent numbers of these moments about zero."""
    variance = second - mean * mean
    skewness = (third - 3 * mean * second + 2 * mean**3) / variance**1.5 / math.sqrt(size)
    if abs(skewness) > MOST_SKEWNESS:
        needed = size * (skewness / MOST_SKEWNESS) ** 2
        evidence.skip(name, f"needs {math.ceil(needed)} elements")
        return
    z = (total / size - mean) / math.sqrt(variance / size)
    evidence.add(name, z, pvalues.two_sided(z, skewness))


def _kolmogorov(
    array: Pieces, null: Null, distribution: Distribution, accumulated: Accumulated, evidence: Evidence
) -> None:
    """Make the test of Kolmogorov and Smirnov: the largest distance between the distribution functions."""
    size = int(accumulated.counts.sum())
    if null.values is None and array.size <= SAMPLE:
        x = np.sort(array.flat(0, array.size))
        x = x[np.isfinite(x)]
        exact = x.astype(np.float64)
        with np.errstate(over="ignore"):
            below, above = (np.nextafter(x, x.dtype.type(to)).astype(np.float64) for to in (-np.inf, np.inf))
        at_most, less = distribution.cdf(exact + (above - exact) / 2), distribution.cdf(exact + (below - exact) / 2)
        rank = np.arange(size + 1) / size
        distance = max((rank[1:] - at_most).max(), (less - rank[:-1]).max(), 0.0)
        name = "exact"
    else:
        here = np.cumsum(accumulated.counts) / size
        distance = float(abs(here - null.cdf[1:]).max())
        name = "exact" if null.values is not None else f"at {BINS - 1} edges"
    evidence.add("Kolmogorov-Smirnov", distance, pvalues.kolmogorov(distance, size), name)


def _groups(null: Null, size: int) -> NDArray[np.intp]:
    """Return the first bins of groups of about equal probability and enough expected elements."""
    wanted = min(GROUPS, int(size / (4 * LEAST_EXPECTED)))
    if wanted < 2:
        return np.zeros(1, np.intp)
    number = np.minimum((null.cdf[1:] + null.cdf[:-1]) / 2 * wanted, wanted - 1e-9)
    rest = (null.sf[1:] + null.sf[:-1]) / 2 * wanted
    least = 2.0**-60
    inner = np.floor(number)
    inner = np.where(number < 1, np.floor(np.log2(np.maximum(number, least))), inner)  # halves of halves in the tails,
    inner = np.where(rest < 1, wanted - np.floor(np.log2(np.maximum(rest, least))), inner)  # where values are clamped
    starts = np.flatnonzero(np.diff(inner, prepend=-np.inf))
    masses = np.add.reduceat(null.mass, starts)
    to_come = np.cumsum(masses[::-1])[::-1]
    kept, gathered = [0], 0.0
    for k in range(len(starts)):
        if min(gathered, to_come[k]) * size >= LEAST_EXPECTED:
            kept.append(int(starts[k]))
            gathered = 0.0
        gathered += masses[k]
    return np.array(kept)


def _chi_square(null: Null, counts: NDArray[np.int64], size: int, evidence: Evidence) -> None:
    """Make Pearson's test."""
    starts = _groups(null, size)
    if len(starts) < 8:
        evidence.skip("chi-square", f"needs {round(8 * 4 * LEAST_EXPECTED)} elements, and values that differ")
        return
    expected, seen = np.add.reduceat(null.mass, starts) * size, np.add.reduceat(counts, starts)
    statistic = float(((seen - expected) ** 2 / expected).sum())
    evidence.add("chi-square", statistic, pvalues.chi_square(statistic, len(starts) - 1), f"{len(starts)} groups")


def _tails(null: Null, counts: NDArray[np.int64], size: int, evidence: Evidence) -> None:
    """Make the tests of the tails: the means of -log F and -log(1 - F)."""
    for name, near, far in (
        ("lower tail", null.cdf[:-1], null.cdf[1:]),
        ("upper tail", null.sf[1:], null.sf[:-1]),
    ):
        width = far - near
        safe = np.where(far > 0, far, 1)
        inner = np.where(near > 0, near, 1)
        slow = width < 1e-6 * safe  # the difference would lose its digits: the logarithm hardly changes
        whole = (far - far * np.log(safe)) - (near - near * np.log(inner))
        weight = np.where(slow, -np.log(safe), whole / np.where(width > 0, width, 1))
        mean, second, third = ((null.mass * weight**k).sum() for k in (1, 2, 3))
        _standard_error(evidence, name, float((counts * weight).sum()), size, mean, second, third)


def _moments(null: Null, sums: Floats, size: int, evidence: Evidence) -> None:
    """Make the tests of the moments: the means of the powers of z."""
    for k, name in enumerate(("mean", "variance", "skewness", "kurtosis"), 1):
        if null.spacing > 2**-8:
            evidence.skip(name, "the distribution is hardly wider than the spacing of the dtype's values")
        elif null.moments[2 * k] - null.moments[k] ** 2 < 1e-9:
            evidence.skip(name, "the distribution has two values alone")
        else:
            _standard_error(evidence, name, sums[k - 1], size, *(null.moments[k * j] for j in (1, 2, 3)))


def _beyond(null: Null, counts: NDArray[np.int64], size: int, evidence: Evidence) -> None:
    """Make the tests of the numbers of elements far out."""
    for sigmas, bins in null.beyond.items():
        name = f"beyond {sigmas:g} sigma"
        seen, expected = int(counts[bins].sum()), float(null.mass[bins].sum()) * size
        pvalue = 2 * min(pvalues.at_most(seen, expected), pvalues.at_least(seen, expected))
        evidence.add(name, seen, pvalue, f"expected {expected:.4g}")


def _correlations(null: Null, accumulated: Accumulated, evidence: Evidence) -> None:
    """Make the tests of the lags: sums of products of z with a later one."""
    excess, skewness = float(null.moments[4] ** 2), float(null.moments[3] ** 2)
    for name, (pairs, total) in accumulated.lags.items():
        if null.spacing > 2**-8:
            evidence.skip(name, "the distribution is hardly wider than the spacing of the dtype's values")
        elif excess / pairs > MOST_EXCESS:
            evidence.skip(name, f"needs {math.ceil(excess / MOST_EXCESS)} pairs")
        else:
            z = total / math.sqrt(pairs)
            evidence.add(name, z, pvalues.two_sided(z, skewness / math.sqrt(pairs)))


def _lines(array: Pieces, distribution: Distribution, null: Null, evidence: Evidence) -> Floats:
    """Test the largest correlation between rows, and between columns; return the matrix of some rows."""
    matrix = np.zeros((0, 0))
    for name in ("columns", "rows"):
        if array.ndim < 2:
            evidence.skip(name, "needs two axes")
            continue
        lines = array.shape[-1 if name == "columns" else 0]
        along = array.size // lines
        if lines < 2 or along < 64:
            evidence.skip(name, "needs 2 of 64 elements")
            continue
        if null.mass.max() > 0.25:
            evidence.skip(name, "the distribution has too few values")
            continue
        x = _some_lines(array, name == "columns", lines, along)
        matrix = _matrix(x, distribution, null)
        pairs = len(matrix) * (len(matrix) - 1) // 2
        r = min(1.0, float(abs(np.tril(matrix, -1)).max()))
        freedom = x.shape[1] - 2
        t = r * math.sqrt(freedom / max(1 - r * r, 1e-300))
        detail = f"{len(matrix)} {name}, {freedom + 2} elements each"
        evidence.add(name, r, pairs * 2 * pvalues.student(t, freedom), detail)
    return matrix


def _some_lines(array: Pieces, columns: bool, lines: int, along: int) -> Array:
    """Return some of the rows or columns, and of each the same elements, in the order that the memory prefers."""
    some = np.linspace(0, lines - 1, min(lines, LINES)).astype(np.int64)
    other = np.linspace(0, along - 1, min(along, ALONG)).astype(np.int64)
    if columns:
        places = np.unravel_index(other, array.shape[:-1])
        return array.take([*(place[:, None] for place in places), some[None, :]]).T
    places = np.unravel_index(other, array.shape[1:])
    return array.take([some[:, None], *(place[None, :] for place in places)])


def _matrix(x: Array, distribution: Distribution, null: Null) -> Floats:
    """Return the correlations of lines, in normal scores."""
    from scipy.special import ndtri

    from fastinit.kernels.measures import PRODUCTS

    real = np.ascontiguousarray(x, np.float64)
    chances = np.clip(_middle(real, x.dtype, distribution, null), 1e-300, 1)
    scores = np.clip(np.where(np.isfinite(real), ndtri(chances), 0), -9, 9)
    scores -= scores.mean(axis=1, keepdims=True)
    norms = np.sqrt((scores**2).sum(axis=1, keepdims=True))
    unit = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
    matrix = np.empty((len(unit), len(unit)))
    PRODUCTS.ready()(unit, matrix)
    return matrix


def _middle(x: Floats, dtype: np.dtype[Any], distribution: Distribution, null: Null) -> Floats:
    """Return the middle of the probabilities that were rounded to each value."""
    if null.values is not None:
        middle = np.full(1 << 16, 0.5)
        known = null.bin_of >= 0
        middle[known] = ((null.cdf[1:] + null.cdf[:-1]) / 2)[null.bin_of[known]]
        return np.asarray(middle[x.astype(dtype).view(np.uint16)])
    return distribution.cdf(x)


def _sample(array: Pieces) -> Array:
    """Return some runs of elements, or all of a small array."""
    if array.size <= SAMPLE:
        return array.flat(0, array.size)
    runs = 16
    length = SAMPLE // runs
    starts = np.linspace(0, array.size - length, runs).astype(np.int64).tolist()
    return np.concatenate([array.flat(start, start + length) for start in starts])


def _grain(array: Pieces, null: Null, evidence: Evidence) -> None:
    """Test whether values were made from too few random bits."""
    if null.values is not None:
        return  # every value has its bin in the other tests
    if array.size < 1 << 12:
        evidence.skip("grain", f"needs {1 << 12} elements")
        return
    x = _sample(array)
    if x.dtype == np.float64:
        patterns = x.view(np.uint64)
        seen, expected = int(np.count_nonzero(patterns & np.uint64(0xFFFF) == 0)), x.size * 2.0**-11
        detail = "values whose last 16 bits are zero"
        if null.spacing > 2.0**-24:
            evidence.skip("grain", "the distribution is hardly wider than the spacing of the dtype's values")
            return
    else:
        counts = np.unique(x, return_counts=True)[1]
        seen = int((counts * (counts - 1) // 2).sum())
        expected = x.size * (x.size - 1) / 2 * (2.0**-23 + null.twins)
        detail = f"equal pairs, of 23 bits {expected:.4g}"
    evidence.add("grain", seen, pvalues.at_least(seen, expected), detail)


def _repeats(size: int, null: Null, accumulated: Accumulated, evidence: Evidence) -> None:
    """Test whether fingerprints occur twice."""
    from fastinit.kernels.measures import WINDOW

    if size <= WINDOW:
        evidence.skip("repeats", f"needs {WINDOW + 1} elements")
        return
    chance = size * size / 2 * null.twin_digits**WINDOW
    if chance > 1e-15:
        evidence.skip("repeats", "the distribution has too few values")
        return
    fingerprints = np.sort(accumulated.fingerprints)
    same = np.flatnonzero(fingerprints[1:] == fingerprints[:-1])
    detail = ""
    if same.size:
        places = accumulated.places[np.argsort(accumulated.fingerprints, kind="stable")]  # slow, and rarely needed
        first, second = np.sort([places[same], places[same + 1]], axis=0)
        at = second.argmin()
        detail = f"elements from {second[at]} on repeat those from {first[at]} on"
    evidence.add("repeats", same.size, chance if same.size else 1.0, detail)
