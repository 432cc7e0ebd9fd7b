"""P-values of `verify` against scipy.stats, and its correlations of lines against NumPy's, to 1e-12."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

import fastinit as fi
from fastinit.verification import pvalues
from fastinit.verification.verifier import verify
from tests.helpers import DTYPE_NAMES, python

CLOSE = 1e-12
DISTRIBUTIONS = [
    fi.normal(0.5, 0.02),
    fi.uniform(-0.1, 0.1),
    fi.truncated_normal(lower=0.1, upper=0.3),
    fi.truncated_normal(lower=3.0, upper=math.inf),
]


def scipy_two_sided(z: float, skewness: float) -> float:
    if not math.isfinite(z):
        return 0.0
    if abs(skewness) < 1e-4:
        return float(2 * stats.norm.sf(abs(z)))
    return float(2 * min(stats.pearson3.sf(z, skewness), stats.pearson3.cdf(z, skewness)))


SCIPY: dict[str, Any] = {
    "kolmogorov": lambda distance, size: float(stats.kstwo.sf(distance, size)),
    "chi_square_below": lambda statistic, freedom: float(stats.chi2.cdf(statistic, freedom)),
    "chi_square": lambda statistic, freedom: float(stats.chi2.sf(statistic, freedom)),
    "at_least": lambda seen, expected: float(stats.poisson.sf(seen - 1, expected)),
    "at_most": lambda seen, expected: float(stats.poisson.cdf(seen, expected)),
    "student": lambda t, freedom: float(stats.t.sf(t, freedom)),
    "two_sided": scipy_two_sided,
}


def agree(name: str, *arguments: float) -> bool:
    return bool(abs(getattr(pvalues, name)(*arguments) - SCIPY[name](*arguments)) <= CLOSE)


@pytest.mark.parametrize("size", [1, 2, 50, 1000, 100_000, 100_001, 10**7, 2**31 - 1])
def test_kolmogorov(size: int) -> None:
    for z in (0.0, 1e-3, 0.05, 0.1, 0.11, *np.linspace(0.2, 3.0, 29), 1.4832, 5.0, 19.0, 20.0, 40.0):
        assert agree("kolmogorov", min(z / math.sqrt(size), 1.0), size), z


def test_kolmogorov_of_more_elements_than_scipy_knows() -> None:
    """A NaN would be a rejection. The neighbours are as good as equal: one element more changes P by 1e-9 of it."""
    for z in (1.4, 1.5, 3.0, 6.0):
        ours, theirs = pvalues.kolmogorov(z / 2**15.5, 2**31), stats.kstwo.sf(z / math.sqrt(2**31 - 1), 2**31 - 1)
        assert ours == pytest.approx(theirs, rel=1e-7, abs=0)
        assert ours != pytest.approx(
            special.kolmogorov(z), rel=1e-7, abs=0
        )  # the limit, without a term in 1 / sqrt(size)


def test_the_other_pvalues() -> None:
    for skewness in (-0.3, -0.05, -1e-3, -1e-5, 0.0, 1e-5, 1e-4, 0.01, 0.05, 0.3):
        for z in (-math.inf, -30.0, -8.0, -0.1, 0.0, 0.1, 3.0, 9.0, 30.0, math.nan):
            assert agree("two_sided", z, skewness), (z, skewness)
    for seen in (0, 1, 5, 100, 10_000):
        for expected in (0.0, 1e-9, 0.3, 5.0, 99.0, 1e4):
            assert agree("at_least", seen, expected), (seen, expected)
            assert agree("at_most", seen, expected), (seen, expected)
    for freedom in (1, 7, 62, 1023):
        for statistic in (0.0, 0.5, 3.0, 60.0, 1100.0, 1e6):
            assert agree("chi_square", statistic, freedom), (statistic, freedom)
            assert agree("chi_square_below", statistic, freedom), (statistic, freedom)
            assert agree("student", statistic, freedom), (statistic, freedom)


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("init", DISTRIBUTIONS, ids=str)
def test_reports_are_those_of_scipy_stats(init: fi.Initializer, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of right and of spoilt arrays, with scipy.stats in place of this package's p-values."""
    arrays = []
    for shape in ((300, 400), (90, 70), (31,)):
        x = fi.array(shape, init, seed=1, name="x", dtype=dtype)
        spoilt = x.copy()
        spoilt.reshape(-1)[1::2] *= x.dtype.type(1.01)
        arrays += [x, spoilt]
    ours = [verify(array, init) for array in arrays]
    for name, function in SCIPY.items():
        monkeypatch.setattr(pvalues, name, function)
    for array, mine in zip(arrays, ours, strict=True):
        theirs = verify(array, init)
        assert [one.name for one in mine.results] == [one.name for one in theirs.results]
        assert [one.statistic for one in mine.results] == [one.statistic for one in theirs.results]
        for one, other in zip(mine.results, theirs.results, strict=True):
            assert abs(one.pvalue - other.pvalue) <= CLOSE, (one, other)
    for name in ("chi_square", "chi_square_below"):  # these are the ones that are used
        monkeypatch.setattr(pvalues, name, lambda statistic, freedom: 0.123)
    assert 0.246 in [one.pvalue for one in verify(arrays[0], init).results]


@pytest.mark.parametrize("shape", [(300, 2000), (20, 30, 40), (128, 64)])
def test_pairs_are_those_of_numpy(shape: tuple[int, ...]) -> None:
    x = fi.array(shape, fi.normal(), seed=2, name="x", dtype="float64")
    found = {one.name: one.statistic for one in verify(x, fi.normal()).results}
    first, last = ("rows", "columns") if len(shape) == 2 else ("indices of axis 0", "indices of axis 2")
    for name, lines in ((first, x.reshape(shape[0], -1)), (last, x.reshape(-1, shape[-1]).T)):
        lines = lines / np.sqrt((lines**2).sum(axis=1, keepdims=True))
        cosines = lines @ lines.T
        if len(lines) <= 256:  # no line is left out
            off = cosines - np.eye(len(lines))
            assert abs(found[f"pairs of {name}"]) == pytest.approx(abs(off).max(), abs=1e-6)
            n, pairs = lines.shape[1], len(lines) * (len(lines) - 1) / 2
            if len(lines) < 32:
                continue
            z = ((off**2).sum() / 2 - pairs / n) / math.sqrt(pairs * 2 * (n - 1) / (n * n * (n + 2)))
            assert found[f"dependence of {name}"] == pytest.approx(z, abs=1e-3)


def test_tracy_and_widom() -> None:
    """Quantiles of Tracy and Widom's distribution (beta = 1), of Bejan (2005): too large a P is allowed for."""
    for chance, s in ((0.9, -2.7824), (0.5, -1.2687), (0.1, 0.4501), (0.05, 0.9793), (0.01, 2.0234), (0.001, 3.2724)):
        assert pvalues.tracy_widom(s) == pytest.approx(chance, rel=0.25)
        assert pvalues.tracy_widom(s) > 0.98 * chance


def test_scipy_stats_is_not_imported_for_large_arrays() -> None:
    """It takes half a second; small arrays need it, which shows that the test can fail."""
    source = """
import sys, fastinit as fi
for size in (200_000, 1000):
    fi.verify(fi.array((size // 100, 100), fi.normal(), seed=0, name="x"), fi.normal())
    print("scipy.stats" in sys.modules)
"""
    assert python(source).out == "False\nTrue\n"
