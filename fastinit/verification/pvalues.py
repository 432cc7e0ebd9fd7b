"""P-values of the statistics of `verify`, by scipy.special: scipy.stats takes half a second to import."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastinit.core.arrays import Floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANY = 100_000  # elements from which on the distance of Kolmogorov and Smirnov has its asymptotic distribution
_FAR = 2.2  # n distance**2 from which on its two sides exclude each other


def chi_square(statistic: float, freedom: int) -> float:
    """Return P beyond a statistic of Pearson's test.

    Examples
    --------
    >>> round(chi_square(2.0, 2), 12) == round(math.exp(-1), 12)
    True
    """
    from scipy.special import chdtrc

    return float(chdtrc(freedom, statistic))


def chi_square_below(statistic: float, freedom: int) -> float:
    """Return P of a statistic of Pearson's test, or a smaller one."""
    from scipy.special import chdtr

    return float(chdtr(freedom, statistic))


def pearson(seen: NDArray[np.int64], expected: Floats) -> tuple[float, float]:
    """Return Pearson's statistic of counts, and P of one that is as far out, too large or too small.

    Examples
    --------
    >>> statistic, pvalue = pearson(np.array([12, 8]), np.array([10.0, 10.0]))
    >>> statistic, round(pvalue / (2 * chi_square(0.8, 1)), 12)
    (0.8, 1.0)
    """
    statistic, freedom = float(((seen - expected) ** 2 / expected).sum()), len(seen) - 1
    return statistic, 2 * min(chi_square(statistic, freedom), chi_square_below(statistic, freedom))


def at_least(seen: int, expected: float) -> float:
    """Return P(X >= seen) of a Poisson number."""
    from scipy.special import pdtrc

    return float(pdtrc(seen - 1, expected)) if seen > 0 else 1.0


def at_most(seen: int, expected: float) -> float:
    """Return P(X <= seen) of a Poisson number."""
    from scipy.special import pdtr

    return float(pdtr(seen, expected))


def student(t: float, freedom: int) -> float:
    """Return P(T > t) of Student's distribution."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -t))


def two_sided(z: float, skewness: float) -> float:
    """Return P beyond z on either side, of a Pearson type III distribution: mean 0, variance 1 and this skewness."""
    from scipy.special import gammainc, gammaincc, ndtr

    if not math.isfinite(z):
        return 0.0
    if abs(skewness) < 1e-4:
        return float(2 * ndtr(-abs(z)))
    beta = 2 / skewness
    shape = beta * beta
    x = max(beta * (z + beta), 0.0)  # of the gamma distribution that it is, shifted and scaled
    return float(2 * min(gammainc(shape, x), gammaincc(shape, x)))


def tracy_widom(s: float) -> float:
    """Return P beyond s of Tracy and Widom's distribution for real matrices (beta = 1), to some 10 %, or too much.

    In the middle it is nearly a gamma distribution (Chiani 2014); above 2 its tail's first term is used.
    """
    from scipy.special import gammaincc

    if s > 2:
        return float(math.exp(-2 / 3 * s**1.5) / (4 * math.sqrt(math.pi) * s**0.75))
    return float(gammaincc(46.446, max(s + 9.84801, 0.0) / 0.186054))


def kolmogorov(distance: float, size: int) -> float:
    """Return P beyond a two-sided distance of Kolmogorov and Smirnov: what ``scipy.stats.kstwo.sf`` does.

    Simard and L'Ecuyer (2011) choose the formula; those for few elements are left to SciPy.
    """
    square = size * distance * distance
    if size > MANY and 0.01 < square < _FAR:
        return min(max(1 - _pelz_good(math.sqrt(square), size), 0.0), 1.0)
    if size > MANY and _FAR <= square < 370:
        return min(2 * _smirnov(distance, size), 1.0)
    from scipy.stats import kstwo

    return float(kstwo.sf(distance, size))


def _smirnov(distance: float, size: int) -> float:
    """Return P beyond a one-sided distance; SciPy's own has no more than 2**31 - 1 elements, and else NaN."""
    from scipy.special import smirnov

    if size < 1 << 31:
        return float(smirnov(size, distance))
    return math.exp(-((6 * size * distance + 1) ** 2) / (18 * size))  # Maag and Dicaire (1971), to some 1 / size


def _pelz_good(z: float, size: int) -> float:
    """Return P of a distance of at most z / sqrt(size), by the expansion of Pelz and Good (1976) in 1 / sqrt(size)."""
    k = np.arange(1, 10)
    whole, half = (math.pi * k) ** 2, (math.pi * (k - 0.5)) ** 2
    of_whole, of_half = (math.sqrt(2 * math.pi) * np.exp(-squares / (2 * z * z)) for squares in (whole, half))
    z2, z4, z6 = z**2, z**4, z**6
    second = 6 * z6 + 2 * z4 + (2 * z4 - 5 * z2) * half + (1 - 2 * z2) * half**2
    third = -30 * z6 - 90 * z**8 + (135 * z4 - 96 * z6) * half
    third = third + (212 * z4 - 60 * z2) * half**2 + (5 - 30 * z2) * half**3
    terms = (
        of_half.sum() / z,
        (of_half * (half - z2)).sum() / (6 * z4),
        (of_half * second).sum() / (72 * z**7) - (of_whole * whole).sum() / (36 * z**3),
        (of_half * third).sum() / (6480 * z**10) + (of_whole * whole * (3 * z2 - whole)).sum() / (216 * z6),
    )
    return float(sum(term / size ** (order / 2) for order, term in enumerate(terms)))
