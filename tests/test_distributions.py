"""The distributions against scipy and mpmath, the choice of proposals, and the draws against their distributions.

Every statistical test has a fixed seed, `DRAWS` values and the false alarm rate `ALPHA`. A Kolmogorov-Smirnov test of
so many sees a distance of sqrt(ln(2 / ALPHA) / (2 DRAWS)) = 0.0022 (Massey 1951): a std that is wrong by 1 % (0.0024
for a normal), a mean by 0.6 % of a std, 0.22 % of the values clipped. The chi-square tests, which 16-bit values need
since they have ties, have at most 500 bins and see a noncentrality of about sqrt(2 * 500) * 7.5 = 240: for a normal
DRAWS * 2 * 0.011**2, a std 1.1 % off, or DRAWS * 0.016**2, a mean 1.6 % of a std off. The controls below are 2 % off,
or clipped at the 99th percentile (16 bits: the 90th).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import fastinit as fi
from fastinit.core.dtypes import DOUBLE, DTYPES, SINGLE, Precision
from fastinit.distributions import DISTRIBUTIONS
from fastinit.distributions.moments import Moments, standard_moments
from fastinit.distributions.truncated_normal import WORTHWHILE, tail_rate
from fastinit.kernels.parameters import REDRAWN
from fastinit.kernels.transforms import TRANSFORMS
from tests.examples import EXAMPLES
from tests.helpers import printed

Floats = NDArray[np.float64]

DRAWS = 1_000_000
ALPHA = 1e-4
BINS = 500
INF = math.inf

INITS = {
    "uniform": fi.uniform(-1.0, 3.0),
    "normal": fi.normal(0.5, 2.0),
    "two sigma": fi.truncated_normal(0.5, 2.0),
    "one side": fi.truncated_normal(1.0, 0.1, 0.5, INF),
    "about the mean": fi.truncated_normal(0.0, 2.0, -0.2, 0.1),
    "narrow": fi.truncated_normal(0.0, 1.0, 0.1, 0.3),
    "narrow and far": fi.truncated_normal(0.0, 1.0, 9.0, 9.1),
    "upper tail": fi.truncated_normal(0.0, 0.02, 3.0, INF),
    "lower tail": fi.truncated_normal(1.0, 2.0, -INF, -4.0),
    "piece of a tail": fi.truncated_normal(0.0, 1.0, 3.0, 3.4),
}
every_init = pytest.mark.parametrize("init", INITS.values(), ids=INITS)


def test_moments_and_cdf_of_scipy() -> None:
    x = np.linspace(-7, 9, 321)
    pairs: list[tuple[fi.Distribution, Any]] = [
        (fi.Uniform(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
        (fi.Normal(0.5, 2.0), stats.norm(0.5, 2.0)),
        (fi.TruncatedNormal(0.5, 2.0, -3.5, 4.5), stats.truncnorm(-2.0, 2.0, 0.5, 2.0)),
        (fi.TruncatedNormal(0.0, 1.0, 1.5, INF), stats.truncnorm(1.5, INF)),
        (fi.TruncatedNormal(-1.0, 3.0, -INF, 1.0), stats.truncnorm(-INF, 2 / 3, -1.0, 3.0)),
    ]
    for distribution, other in pairs:
        assert distribution.mean == pytest.approx(other.mean(), rel=1e-9)
        assert distribution.std == pytest.approx(other.std(), rel=1e-9)
        np.testing.assert_allclose(distribution.cdf(x), other.cdf(x), rtol=1e-9, atol=1e-15)


def test_distributions_of_one_value() -> None:
    for distribution in (fi.Constant(2.0), fi.Uniform(2.0, 2.0), fi.Normal(2.0, 0.0)):
        assert (distribution.mean, distribution.std) == (2.0, 0.0)
        assert distribution.cdf([1.9, 2.0, 2.1]).tolist() == [0.0, 1.0, 1.0]


def test_every_row_of_the_registries_has_an_example() -> None:
    assert set(EXAMPLES) - {"constant"} == set(TRANSFORMS) - {"words"}
    assert {type(init.distribution((1,))) for init in EXAMPLES.values()} == set(DISTRIBUTIONS)


@pytest.mark.parametrize("init", EXAMPLES.values(), ids=EXAMPLES)
def test_a_distribution_answers_for_itself(init: fi.Initializer) -> None:
    distribution = init.distribution((1,))
    low, high = distribution.span
    assert distribution.support[0] <= low <= distribution.mean <= high <= distribution.support[1]
    assert 1 - float(distribution.cdf(high)) <= 1e-14
    assert float(distribution.mirror.cdf(-low)) >= 1 - 1e-14
    assert type(distribution.mirror) is type(distribution)
    assert distribution.mirror.mirror == distribution
    if distribution.std:
        x = np.linspace(low, high, 1001)[1:-1]
        np.testing.assert_allclose(distribution.mirror.cdf(-x), 1 - distribution.cdf(x), rtol=0, atol=1e-12)
        edges = np.linspace(low, high, 100_001)
        mass, z = np.diff(distribution.cdf(edges)), (edges[1:] + edges[:-1]) / 2 - distribution.mean
        z /= distribution.std
        moments = [float((mass * z**k).sum()) for k in range(7)]
        np.testing.assert_allclose(distribution.standard_moments[:7], moments, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", [SINGLE, DOUBLE], ids=lambda one: one.name)
@pytest.mark.parametrize("init", [EXAMPLES[name] for name in EXAMPLES if name != "constant"], ids=repr)
def test_a_distribution_and_its_transform_agree(init: fi.Initializer, precision: Precision) -> None:
    distribution = init.distribution((1,))
    lowered = distribution.lowered(precision)
    row = TRANSFORMS[lowered.transform]
    assert set(lowered.values) == set(row.parameters._fields)
    assert (row.parameters in REDRAWN) == (row.propose is not None)
    assert row.bounded == distribution.bounded == any(map(math.isfinite, distribution.support))
    assert distribution.extremes(precision).keys() >= {"mean", "std", "lower bound", "upper bound"}


def test_the_table_of_dtypes() -> None:
    from fastinit.kernels.cpu import REQUESTS
    from fastinit.kernels.cuda import ROUNDINGS
    from fastinit.kernels.layout import SIZES

    for row in DTYPES.values():
        info: Any = ml_dtypes.finfo(row.dtype)  # type: ignore[no-untyped-call]
        assert (row.dtype.name, row.dtype.itemsize, row.largest) == (row.name, row.size, float(info.max))
        assert row.encoding in REQUESTS
        assert (row.encoding == "as is") == (row.precision.name == row.name) == (row.encoding not in ROUNDINGS)
        assert row.size in SIZES
    for precision in (SINGLE, DOUBLE):
        assert np.finfo(precision.dtype).smallest_normal == precision.smallest
        assert np.finfo(precision.dtype).nmant + 1 == precision.uniform_bits
        assert precision.dtype.itemsize == precision.size


def exact(a: float, b: float) -> Moments:
    """The moments by their closed forms, in so many digits that nothing cancels."""
    if b <= 0:
        mirror = exact(-b, -a)
        return Moments(mirror.probability, -mirror.mean, mirror.std)
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(120):
        low, high = mp.mpf(a), mp.mpf(b)
        probability = (mp.erfc(low / mp.sqrt(2)) - mp.erfc(high / mp.sqrt(2))) / 2
        at_low, at_high = mp.npdf(low), mp.npdf(high)
        mean = (at_low - at_high) / probability
        weighted = (low * at_low if math.isfinite(a) else 0) - (high * at_high if math.isfinite(b) else 0)
        return Moments(float(probability), float(mean), float(mp.sqrt(1 + weighted / probability - mean**2)))


def test_the_closed_forms_by_quadrature() -> None:
    mp = pytest.importorskip("mpmath").mp
    for a, b in ((-2.0, 2.0), (0.1, 0.3), (5.0, 5.5), (-9.0, -8.0)):
        with mp.workdps(40):
            raw = [mp.quad(lambda x, k=k: x**k * mp.npdf(x), [a, b]) for k in range(3)]
            mean = raw[1] / raw[0]
            found = float(raw[0]), float(mean), float(mp.sqrt(raw[2] / raw[0] - mean**2))
        assert found == pytest.approx((exact(a, b).probability, exact(a, b).mean, exact(a, b).std), rel=1e-14)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.floats(-36, 36), st.floats(-12, 1.7), st.sampled_from(["two", "lower", "upper"]))
def test_standard_moments(a: float, magnitude: float, sides: str) -> None:
    b = a + 10.0**magnitude
    assume(a < b)
    low, high = (a if sides != "upper" else -INF), (b if sides != "lower" else INF)
    assume(min(-low, high) > -37)
    got, expected = standard_moments(low, high), exact(low, high)
    assert got.probability == pytest.approx(expected.probability, rel=1e-12)
    assert got.mean == pytest.approx(expected.mean, rel=1e-13, abs=1e-13 * expected.std)
    assert got.std == pytest.approx(expected.std, rel=1e-13)


def test_the_moment_that_the_field_knows() -> None:
    assert standard_moments(-2.0, 2.0).std == pytest.approx(0.87962566103423978, rel=1e-15)


MOMENTS = """
from fastinit.distributions.moments import standard_moments
for a in range(-32, 120):
    for width in (1e-6, 0.1, 1.0, 4.0, float("inf")):
        moments = standard_moments(a / 4, a / 4 + width)
        print(moments.probability.hex(), moments.mean.hex(), moments.std.hex())
"""


def test_moments_do_not_depend_on_the_processor() -> None:
    """They become a parent's std, and so the bits of float64 values; the libraries below NumPy choose by processor."""
    found = [
        printed(MOMENTS, warnings="ignore", **choice).splitlines()
        for choice in (
            {},
            {"OPENBLAS_CORETYPE": "Nehalem"},
            {"OPENBLAS_CORETYPE": "Haswell"},
            {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX X86_V4"},
        )
    ]
    differing = [sum(one != other for one, other in zip(found[0], others, strict=True)) for others in found[1:]]
    assert differing == [0, 0, 0]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(-30, 30), st.floats(-9, 1.5), st.floats(0.01, 0.99))
def test_cdf_of_any_interval(a: float, magnitude: float, place: float) -> None:
    """To an absolute 1e-6, which the narrowest intervals need: there a float64 resolves no more of x itself."""
    b = a + 10.0**magnitude
    x = a + place * (b - a)
    assume(a < x < b)
    below, whole = exact(a, x).probability, exact(a, b).probability
    assert float(fi.TruncatedNormal(0.0, 1.0, a, b).cdf(x)) == pytest.approx(below / whole, abs=1e-6)


@pytest.mark.parametrize("edge", [3.0, 10.0, 37.0])
def test_cdf_has_relative_precision_where_it_begins(edge: float) -> None:
    distribution = fi.TruncatedNormal(0.0, 1.0, edge, INF)
    x = edge + 1e-3 / edge
    begun = exact(edge, x).probability / exact(edge, INF).probability
    assert float(distribution.cdf(x)) == pytest.approx(begun, rel=1e-9)
    y = -edge - 20 / edge
    rare = exact(-INF, y).probability / exact(-INF, -edge).probability
    assert float(fi.TruncatedNormal(0.0, 1.0, -INF, -edge).cdf(y)) == pytest.approx(rare, rel=1e-9)


def test_cdf_outside_of_the_support() -> None:
    for distribution in (
        fi.Uniform(1.0, 2.0),
        fi.TruncatedNormal(0.0, 1.0, 1.0, 2.0),
        fi.TruncatedNormal(2.0, 1.0, 1.0, 2.0),
    ):
        assert distribution.support == (1.0, 2.0)
        assert distribution.cdf([-INF, 0.9, 1.0, 2.0, 3.0, INF]).tolist() == [0, 0, 0, 1, 1, 1]


def acceptance(distribution: fi.TruncatedNormal) -> dict[str, float]:
    """The probability that each of the three proposals is accepted, from its definition."""
    a, b = distribution.bounds
    probability, near = standard_moments(a, b).probability, max(a, -b, 0.0)
    integral = math.exp(math.log(probability) + near * near / 2) * math.sqrt(
        2 * math.pi
    )  # relative to the largest value
    rate = tail_rate(near)
    return {
        "normal": probability,
        "uniform": integral / (b - a),
        "exponential": rate * math.exp(-((rate - near) ** 2) / 2) * integral if near > 0 else 0.0,
    }


def test_no_proposal_is_wasteful() -> None:
    """A quarter of the normals are accepted, or half of whatever stands in for them."""
    seen = set()
    for a in (*np.linspace(-8, 36.5, 179).tolist(), 1e-9, -1e-9):
        for width in (*np.logspace(-9, 1.6, 60).tolist(), INF):
            distribution = fi.TruncatedNormal(0.0, 1.0, a, a + width)
            accepted = acceptance(distribution)
            seen.add(distribution.proposal)
            assert distribution.proposal == fi.TruncatedNormal(0.0, 1.0, -(a + width), -a).proposal
            if distribution.proposal == "normal":
                assert accepted["normal"] >= WORTHWHILE == 0.25
            else:
                assert accepted["normal"] < WORTHWHILE
                assert accepted[distribution.proposal] >= 0.5
                assert accepted[distribution.proposal] == pytest.approx(
                    max(accepted["uniform"], accepted["exponential"])
                )
    assert seen == {"normal", "uniform", "exponential"}


def test_the_draws_of_this_file_use_every_proposal() -> None:
    distributions = [init.distribution((1,)) for init in INITS.values()]
    used = [distribution.proposal for distribution in distributions if isinstance(distribution, fi.TruncatedNormal)]
    assert {kind: used.count(kind) for kind in used} == {"normal": 2, "uniform": 3, "exponential": 3}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fi.TruncatedNormal(0.0, 1.0, 38.0, INF), ValueError, "underflows"),
        (lambda: fi.TruncatedNormal(0.0, 1.0, -INF, -38.0), ValueError, "underflows"),
        (lambda: fi.TruncatedNormal(0.0, 1.0, 37.0, 37.0 + 1e-13), ValueError, "underflows"),
        (lambda: fi.TruncatedNormal(1e5, 1e-3, 0.0, 1.0), ValueError, "underflows"),
        (lambda: fi.TruncatedNormal(0.0, 1.0, 1.0, 1.0), ValueError, "lower.*upper"),
        (lambda: fi.TruncatedNormal(0.0, 1.0, 2.0, 1.0), ValueError, "lower.*upper"),
        (lambda: fi.TruncatedNormal(0.0, 0.0, -1.0, 1.0), ValueError, "std"),
        (lambda: fi.TruncatedNormal(0.0, -1.0, -1.0, 1.0), ValueError, "std"),
        (lambda: fi.TruncatedNormal(0.0, 1.0, math.nan, 1.0), ValueError, "lower"),
        (lambda: fi.TruncatedNormal(INF, 1.0, 0.0, 1.0), ValueError, "mean"),
        (lambda: fi.Normal(math.nan, 1.0), ValueError, "mean"),
        (lambda: fi.Normal(0.0, INF), ValueError, "std"),
        (lambda: fi.Normal(0.0, -1e-300), ValueError, "std"),
        (lambda: fi.Uniform(1.0, 0.0), ValueError, "low"),
        (lambda: fi.Uniform(-INF, 0.0), ValueError, "low"),
        (lambda: fi.Uniform(-1.7e308, 1.7e308), ValueError, "high - low"),
        (lambda: fi.Constant(INF), ValueError, "value"),
        (lambda: fi.Constant(10**400), ValueError, "value"),
        (lambda: fi.Constant("1"), TypeError, "value"),  # type: ignore[arg-type]
        (lambda: fi.Constant(1j), TypeError, "value"),  # type: ignore[arg-type]
        (lambda: fi.Normal([0.0], 1.0), TypeError, "mean"),  # type: ignore[arg-type]
        (lambda: fi.Normal(0.0, None), TypeError, "std"),  # type: ignore[arg-type]
    ],
)
def test_impossible_laws(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# The draws


def drawn(init: fi.Initializer, dtype: Any, count: int = DRAWS) -> Floats:
    return fi.array(count, init, seed=2024, name="draws", dtype=dtype).astype(np.float64)


def wrong(values: Floats, distribution: fi.Distribution, clipped: float) -> dict[str, Floats]:
    """What each test must reject."""
    low, high = np.quantile(values, [clipped, 1 - clipped])
    return {
        "std": distribution.mean + 1.02 * (values - distribution.mean),
        "mean": values + 0.02 * distribution.std,
        "upper tail": np.minimum(values, high),
        "lower tail": np.maximum(values, low),
    }


def ks(values: Floats, distribution: fi.Distribution) -> float:
    """The p-value of the largest distance between the empirical distribution function and the distribution's."""
    below = distribution.cdf(np.sort(values))
    steps = np.arange(len(values) + 1) / len(values)
    distance = max(float((below - steps[:-1]).max()), float((steps[1:] - below).max()))
    return float(stats.kstwobign.sf(distance * math.sqrt(len(values))))


def test_the_distance_of_scipy() -> None:
    values = drawn(fi.normal(), "float64", 3000)
    assert ks(values, fi.Normal(0.0, 1.0)) == pytest.approx(stats.kstest(values, "norm", method="asymp").pvalue)


@every_init
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_follow_the_law(init: fi.Initializer, dtype: str) -> None:
    distribution, values = init.distribution((1,)), drawn(init, dtype)
    assert distribution.support[0] <= values.min()
    assert values.max() <= distribution.support[1]
    assert ks(values, distribution) > ALPHA
    for name, others in wrong(values, distribution, clipped=0.01).items():
        assert ks(others, distribution) < ALPHA, name


class Bins:
    """The exact probabilities of bins of 16-bit values: of what lies between the points where rounding changes."""

    def __init__(self, distribution: fi.Distribution, dtype: Any) -> None:
        codes = np.arange(1 << 16, dtype=np.uint16).view(dtype)
        with np.errstate(invalid="ignore"):
            every = np.unique(codes.astype(np.float64))  # NaN is in no interval
        low, high = (np.clip(bound, -1e4, 1e4) for bound in distribution.support)
        inside = every[(every >= low) & (every <= high)]  # what would be rounded beyond is held at the last of these
        middles = (inside[1:] + inside[:-1]) / 2
        level, first = np.unique(np.floor(distribution.cdf(middles) * BINS), return_index=True)
        self.edges = middles[first[(level > 0) & (level < BINS)]]
        self.expected = np.diff(distribution.cdf(self.edges), prepend=0.0, append=1.0) * DRAWS
        assert self.expected.min() > 5  # or the statistic is no chi-square

    def test(self, values: Floats) -> float:
        """The p-value of Pearson's statistic."""
        counts = np.bincount(np.searchsorted(self.edges, values), minlength=self.expected.size)
        statistic = float(((counts - self.expected) ** 2 / self.expected).sum())
        return float(stats.chi2.sf(statistic, self.expected.size - 1))


@every_init
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_sixteen_bit_draws_follow_the_law(init: fi.Initializer, dtype: Any) -> None:
    distribution, values = init.distribution((1,)), drawn(init, dtype)
    bins = Bins(distribution, dtype)
    assert distribution.support[0] <= values.min()
    assert values.max() <= distribution.support[1]
    assert bins.test(values) > ALPHA
    if bins.expected.size < 20:  # so few values lie in the interval that they show little but their number
        assert (distribution.support[1] - distribution.support[0]) / distribution.support[1] < 0.02
        return
    for name, others in wrong(
        drawn(init, np.float32), distribution, clipped=0.1
    ).items():  # finer clips are within one value
        assert bins.test(others.astype(dtype).astype(np.float64)) < ALPHA, name


TAIL_DRAWS = 1 << 24  # 1063 of them are expected beyond 4 sigma, 16 beyond 4.9


def tail_p_value(values: Floats, sigmas: float) -> float:
    beyond = int(np.count_nonzero(np.abs(values) > sigmas))
    return float(stats.binomtest(beyond, TAIL_DRAWS, 2 * float(stats.norm.sf(sigmas))).pvalue)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tails_of_a_normal(dtype: str) -> None:
    """Which a Kolmogorov-Smirnov test does not see; a normal cut at 4.9 sigma fails with 0 where 16 are due."""
    values = drawn(fi.normal(), dtype, TAIL_DRAWS)
    for sigmas in (3.0, 4.0, 4.5, 4.9):
        assert tail_p_value(values, sigmas) > ALPHA
        assert tail_p_value(np.clip(values, -sigmas, sigmas), sigmas) < ALPHA
        if sigmas < 4.9:
            assert tail_p_value(values * 1.04, sigmas) < ALPHA


LARGEST = float(stats.norm.isf(ALPHA / 2))  # of a correlation times sqrt(DRAWS), which is normal


def correlations(values: Floats) -> Floats:
    """Of neighbours at small distances, their values and their squares: z-scores."""
    standard = (values - values.mean()) / values.std()
    squares = (standard**2 - 1) / np.sqrt((standard**4).mean() - 1)
    pairs = [(one[:-lag], one[lag:]) for one in (standard, squares) for lag in (1, 2, 3, 4, 1024)]
    return np.array([(first * second).sum() / math.sqrt(len(first)) for first, second in pairs])


@every_init
def test_neighbours_are_independent(init: fi.Initializer) -> None:
    """Lag 1 holds Box and Muller's two halves, whose squares share a radius."""
    values = drawn(init, np.float32)
    assert (np.abs(correlations(values)) < LARGEST).all()
    assert np.abs(correlations(values + 0.01 * np.roll(values, 3))).max() > LARGEST
