"""Tests of `verify`: each a statistic of the counts, and its p-value under the null distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit.core.arrays import Array
from fastinit.distributions import Constant, Distribution
from fastinit.verification import pvalues
from fastinit.verification.dependence import test_dependence
from fastinit.verification.evidence import Evidence
from fastinit.verification.lags import test_lags
from fastinit.verification.lines import test_lines
from fastinit.verification.null_distribution import BINS, Null
from fastinit.verification.pieces import Pieces
from fastinit.verification.repeats import test_repeats
from fastinit.verification.report import Sample, Summary
from fastinit.verification.scan import SLAB, Accumulated, scan
from fastinit.verification.serial import test_triples
from fastinit.verification.streams import sample_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUPS = 1024  # of the chi-square test
SAMPLE = 1 << 16  # elements that are looked at one by one
LEAST_NORMAL = 1 << 12  # elements for tests that count on a sum being normal

# A normal distribution stands in for that of a sum where the sum's own skewness or excess is below these: on the side
# of the tail that a p-value of 1e-8 looks at it is then right within a factor of two
MOST_SKEWNESS, MOST_EXCESS = 0.05, 0.01
LEAST_EXPECTED = 16.0  # elements of a group of the chi-square test
ZEROS = 2.0**-22  # exact ones that a good generator may make, of few random bits


def all_equal(array: Pieces, distribution: Distribution, evidence: Evidence) -> None:
    """Test whether every element is the constant."""
    from fastinit.sampling.lowering import lower_constant

    assert isinstance(distribution, Constant)
    value, wrong = lower_constant(distribution, array.dtype), 0
    for begin in range(0, array.size, SLAB):
        wrong += int(np.count_nonzero(~(array.flat(begin, min(begin + SLAB, array.size)) == value)))
    evidence.add("equal", wrong, 0.0 if wrong else 1.0, f"{wrong} elements differ from {value}" if wrong else "")


def look(
    array: Pieces, null: Null, distribution: Distribution, threads: int, full: bool, evidence: Evidence
) -> Summary:
    """Make all tests of an array of draws."""
    accumulated = scan(array, null, threads, full)
    evidence.add("finite", accumulated.bad, 0.0 if accumulated.bad else 1.0)
    if not (math.isinf(null.low) and math.isinf(null.high)):
        evidence.add("bounds", accumulated.outside, 0.0 if accumulated.outside else 1.0)
    size = array.size - accumulated.bad
    if size:
        _kolmogorov(array, null, distribution, accumulated, evidence)
        _chi_square(null, accumulated.counts, size, evidence)
        _bins(null, accumulated.counts, size, evidence)
        _tails(null, accumulated.counts, size, evidence)
        _moments(null, accumulated, size, evidence)
        _beyond(null, accumulated.counts, size, evidence)
        _extremes(null, distribution, accumulated, size, evidence)
        _zeros(null, accumulated.zeros, size, evidence)
        _near_lags(null, accumulated, evidence)

    def repeats(evidence: Evidence) -> Sample:
        sample = sample_of(array, null, accumulated.prints, accumulated.columns[:, 0].sum(axis=0), accumulated.least)
        test_repeats(array, null, sample.across, sample.down, evidence)
        return sample

    structure: list[Callable[[Evidence], Any]] = [
        lambda evidence: test_lines(accumulated.geometry, accumulated.rows, accumulated.columns, null, evidence),
        lambda evidence: test_lags(accumulated.spectra, evidence),
        lambda evidence: test_triples(array, null, full, evidence),
        lambda evidence: test_dependence(array, null, full, threads, evidence),
        lambda evidence: _grain(array, null, evidence),
        repeats,
    ]
    blocks, _, _, cosines, _, sample = evidence.gather(structure, threads)
    return Summary(
        null.edges,
        accumulated.counts,
        null.cdf,
        null.sf,
        accumulated.spectra.correlations(0),
        accumulated.spectra.error,
        cosines,
        blocks,
        sample,
    )


def _standard_error(evidence: Evidence, name: str, total: float, size: int, moments: Sequence[float]) -> None:
    """Make the z test of a sum of independent numbers of these first four moments about zero.

    Its distribution is taken for that of Pearson's type III, which has its skewness, and must nearly have its excess.
    """
    mean, second, third, fourth = moments
    variance = second - mean * mean
    skewness = (third - 3 * mean * second + 2 * mean**3) / variance**1.5
    excess = (fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4) / variance**2 - 3
    needed = max((skewness / MOST_SKEWNESS) ** 2, abs(excess - 1.5 * skewness**2) / MOST_EXCESS)
    if size < needed:
        evidence.skip(name, f"needs {math.ceil(needed)} elements")
        return
    z = (total / size - mean) / math.sqrt(variance / size)
    evidence.add(name, z, pvalues.two_sided(z, skewness / math.sqrt(size)))


def _kolmogorov(
    array: Pieces, null: Null, distribution: Distribution, accumulated: Accumulated, evidence: Evidence
) -> None:
    """Make the test of Kolmogorov and Smirnov: the largest distance between the distribution functions."""
    size = int(accumulated.counts.sum())
    if null.grid is not None and array.size <= SAMPLE:
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
        name = "exact" if null.grid is None else f"at {BINS - 1} edges"
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
    statistic, pvalue = pvalues.pearson(seen, expected)
    close = ", closer to the distribution than draws are" if statistic < len(starts) - 1 else ""
    evidence.add("chi-square", statistic, pvalue, f"{len(starts)} groups{close}")


def _bins(null: Null, counts: NDArray[np.int64], size: int, evidence: Evidence) -> None:
    """Test the bin farthest from what is expected of it: values that occur too often, or never."""
    from scipy.special import bdtr, bdtrc

    chances = null.mass
    if null.bin_of is not None:  # zeros have a bin of their own
        chances = chances + ZEROS * (np.arange(chances.size) == null.bin_of[0])
    expected = chances * size
    some = np.argsort(-((counts - expected) ** 2) / (expected + 1))[:64]  # the exact tails take their time
    seen, mass = counts[some].astype(np.float64), chances[some]
    with np.errstate(invalid="ignore"):
        above = np.where(seen > 0, bdtrc(np.maximum(seen - 1, 0), size, mass), 1)
        below = np.where(seen < size, bdtr(seen, size, mass), 1)
    least = np.minimum(above, below)
    at, pvalue = int(some[least.argmin()]), float(least.min())
    low, high = null.edges[at], null.edges[at + 1]
    detail = f"{counts[at]} from {low:.6g} to {high:.6g}, expected {expected[at]:.4g}"
    evidence.add("bins", int(counts[at]), 2 * np.count_nonzero(chances) * pvalue, detail)


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
        moments = [float((null.mass * weight**k).sum()) for k in (1, 2, 3, 4)]
        _standard_error(evidence, name, float((counts * weight).sum()), size, moments)


def _moments(null: Null, accumulated: Accumulated, size: int, evidence: Evidence) -> None:
    """Make the tests of the moments: the means of the powers of z; and that of mean and variance together."""
    higher = [float((accumulated.counts * null.z**k).sum()) for k in (3, 4)]
    found = []
    for k, total in enumerate([*accumulated.sums.tolist(), *higher], 1):
        name = ("mean", "variance", "skewness", "kurtosis")[k - 1]
        moments = (null.moments if k < 3 else null.binned).tolist()
        variance = moments[2 * k] - moments[k] ** 2
        if null.spacing > 2**-8:
            evidence.skip(name, "the distribution is hardly wider than the spacing of the dtype's values")
        elif variance < 1e-9:
            evidence.skip(name, "the distribution has two values alone")
        else:
            _standard_error(evidence, name, total, size, [moments[k * j] for j in (1, 2, 3, 4)])
            found.append(float((total / size - moments[k]) / math.sqrt(variance / size)))
    if len(found) < 4 or null.grid is None or size < LEAST_NORMAL:
        evidence.skip("mean and variance", f"needs {LEAST_NORMAL} elements of 32 or 64 bits")
        return
    r = float(null.moments[3] / math.sqrt(null.moments[4] - 1))  # of a mean and a variance
    square = (found[0] ** 2 - 2 * r * found[0] * found[1] + found[1] ** 2) / (1 - r * r)
    pvalue = -math.expm1(-square / 2) if math.isfinite(square) else 1.0
    detail = "closer to the distribution's than those of draws are" if square < 1 else ""
    evidence.add("mean and variance", square, pvalue, detail)


def _beyond(null: Null, counts: NDArray[np.int64], size: int, evidence: Evidence) -> None:
    """Make the tests of the numbers of elements far out."""
    for sigmas, bins in null.beyond.items():
        name = f"beyond {sigmas:g} sigma"
        seen, expected = int(counts[bins].sum()), float(null.mass[bins].sum()) * size
        pvalue = 2 * min(pvalues.at_most(seen, expected), pvalues.at_least(seen, expected))
        evidence.add(name, seen, pvalue, f"expected {expected:.4g}")


def _extremes(null: Null, distribution: Distribution, accumulated: Accumulated, size: int, evidence: Evidence) -> None:
    """Test the smallest and the largest element: whether they are nearer, or farther out, than those of draws."""
    for name, x, law, chances in (
        ("smallest", accumulated.extremes[0], distribution, null.cdf),
        ("largest", -accumulated.extremes[1], distribution.mirror, null.sf[::-1]),
    ):
        if null.grid is None:
            at = int(np.searchsorted(null.edges, accumulated.extremes[0] if name == "smallest" else -x)) - 1
            at = at if name == "smallest" else len(null.mass) - 1 - at
            less, most = float(chances[at]), float(chances[at + 1])
        else:
            less = most = float(law.cdf(x))
        inside = math.exp(size * math.log1p(-less)) if less < 1 else 0.0  # no element is smaller
        outside = -math.expm1(size * math.log1p(-most)) if most < 1 else 1.0  # one is as small
        away = abs(float(x if name == "smallest" else -x) - distribution.mean) / distribution.std
        if distribution.bounded:  # that none is outside is a test by itself
            outside, pvalue = 1.0, inside
        else:
            pvalue = 2 * min(inside, outside)
        sense = "farther out" if outside < inside else "nearer"
        evidence.add(name, away, pvalue, f"std from the mean, {sense} than that of most draws" if pvalue < 1e-3 else "")


def _zeros(null: Null, zeros: int, size: int, evidence: Evidence) -> None:
    """Test whether there are too many exact zeros."""
    if null.grid is None or null.spacing > 2**-20:
        return
    expected = size * ZEROS
    evidence.add("zeros", zeros, pvalues.at_least(zeros, expected), f"at most {expected:.3g} expected")


def _near_lags(null: Null, accumulated: Accumulated, evidence: Evidence) -> None:
    """Make the tests of some lags: sums of products of scores."""
    excess = null.fourth**2
    for lag, (pairs, total) in accumulated.lags.items():
        if not pairs:
            continue
        name = f"lag {lag}"
        if null.mass.max() > 0.25:
            evidence.skip(name, "the distribution has too few values")
        elif excess / pairs > MOST_EXCESS:
            evidence.skip(name, f"needs {math.ceil(excess / MOST_EXCESS)} pairs")
        else:
            z = total / math.sqrt(pairs)
            evidence.add(name, z, pvalues.two_sided(z, 0.0))


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
    if null.grid is None:
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
    _low_bits(x, null, evidence)


def _low_bits(x: Array, null: Null, evidence: Evidence) -> None:
    """Test whether some of the last bits are the same in all values, which lie much closer than the law changes.

    More cannot be said of them: draws that are scaled by 0.02, nearly a ratio of small numbers, lie on a lattice. A
    uniform's may have fewer bits, and bounds that leave zeros behind.
    """
    bits = min(8, int(math.log2(2.0**-12 / null.spacing))) if null.spacing else 0
    density = null.mass[1:-1] / np.diff(null.edges[1:-1])
    if bits < 1 or density.max() < 4 * density.min():
        evidence.skip("last bits", "needs many values that lie close to each other, and no grid as a uniform's")
        return
    word = f"u{x.dtype.itemsize}"
    both, either = (int(function.reduce(x.view(word))) for function in (np.bitwise_and, np.bitwise_or))
    constant = [bit for bit in range(bits) if (both >> bit & 1) == (either >> bit & 1)]
    pvalue = bits * 2.0 ** -min(x.size - 1, 1000) if constant else 1.0
    detail = f"the same in all values: {', '.join(map(str, constant))}, counted from the last" if constant else ""
    evidence.add("last bits", len(constant), pvalue, detail)
