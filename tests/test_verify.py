"""`verify`: right arrays pass as often as it says, and each kind of wrong one is rejected by the test meant for it.

Right arrays come from fastinit, and from NumPy where the distribution is easily had there; wrong ones are right ones
spoilt.
Size: of N right arrays at the family-wise rate ALPHA, more than the 1 - 1e-6 quantile of a binomial (N, ALPHA) rejected
is a failure. Power: each spoiling is so large that the test named beside it rejects with a probability above 0.999.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from scipy import stats

import fastinit as fi
from fastinit.core.dtypes import dtype_of
from fastinit.kernels import cache as kernels
from fastinit.verification.checkpoints import verify_tensors
from fastinit.verification.evidence import Evidence
from fastinit.verification.null_distribution import SIGMAS, null_of
from fastinit.verification.pieces import flat
from fastinit.verification.report import holm
from fastinit.verification.streams import shared_streams
from fastinit.verification.tests import _tails
from fastinit.verification.verifier import verify
from tests.helpers import DTYPE_NAMES

Array = np.ndarray[Any, Any]

DISTRIBUTIONS = {
    "normal": fi.normal(),
    "shifted normal": fi.normal(0.5, 0.02),
    "uniform": fi.uniform(),
    "centred uniform": fi.uniform(-0.1, 0.1),
    "truncated": fi.truncated_normal(std=0.02),
    "narrow": fi.truncated_normal(lower=0.1, upper=0.3),
    "tail": fi.truncated_normal(lower=3.0, upper=math.inf),
    "far tail": fi.truncated_normal(lower=-math.inf, upper=-6.0),
}
ALPHA = 0.01  # of the size tests
N = 1 << 16


def failed(report: fi.Report) -> list[str]:
    return [result.name for result in report.results if not result.passed]


def right(init: fi.Initializer, shape: Any, dtype: str = "float32", seed: int = 0) -> Array:
    return fi.array(shape, init, seed=seed, name="verify", dtype=dtype)


# Size


def rejected(first: int, last: int) -> list[str]:
    """Of right arrays of these numbers, all distributions and dtypes in turn."""
    cases = [(distribution, dtype) for distribution in DISTRIBUTIONS.values() for dtype in DTYPE_NAMES]
    found = []
    for k in range(first, last):
        init, dtype = cases[k % len(cases)]
        shape = (256, 256) if k // len(cases) % 2 else (N,)
        report = verify(right(init, shape, dtype, seed=k), init, alpha=ALPHA)
        if not report.passed:
            found.append(f"{k} {init} {dtype}: {', '.join(failed(report))}")
    return found


def check_size(arrays: int) -> None:
    found = rejected(0, arrays)
    assert len(found) <= stats.binom.isf(1e-6, arrays, ALPHA), found


def test_right_arrays_pass() -> None:
    check_size(128)


@pytest.mark.slow
def test_ten_thousand_right_arrays_pass() -> None:
    check_size(10_000)


@pytest.mark.parametrize("size", [1, 2, 7, 33, 100, 1000, 5000, 20_000])
def test_small_right_arrays_pass(size: int) -> None:
    """Of 8 distributions and 4 dtypes by 10 seeds at most 13 are rejected with a probability of 1 - 1e-5."""
    rejected = 0
    for seed in range(10):
        for init in DISTRIBUTIONS.values():
            for dtype in DTYPE_NAMES:
                rejected += not verify(right(init, size, dtype, seed), init, alpha=ALPHA).passed
    assert rejected <= stats.binom.isf(1e-6, 320, ALPHA)


def test_right_arrays_of_others_pass() -> None:
    generator = np.random.default_rng(5)
    for dtype in (np.float32, np.float64):
        assert verify(generator.standard_normal(1 << 20, dtype), fi.normal()).passed
        assert verify(generator.random(1 << 20, dtype), fi.uniform()).passed
    normal = generator.standard_normal(1 << 20)
    for name in ("float16", "bfloat16"):
        assert verify(normal.astype(dtype_of(name)), fi.normal()).passed


@pytest.mark.parametrize("bits", [23, 24])
def test_as_many_bits_as_are_usual_pass(bits: int) -> None:
    k = np.random.default_rng(1).integers(0, 1 << bits, 1 << 22)
    assert verify((k * 2.0**-bits).astype(np.float32), fi.uniform()).passed


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("distribution", ["normal", "centred uniform", "truncated"])
def test_the_rounded_law_is_exact(name: str, distribution: str) -> None:
    """The probabilities of all values, against a count of float32 draws rounded by ml_dtypes: chi-square over them.

    Fixed seed; a right table fails with probability 1e-6. The controls are other roundings.
    """
    init, dtype = DISTRIBUTIONS[distribution], dtype_of(name)
    drawn = right(init, 1 << 22).astype(np.float64)
    null = null_of(init.distribution((1,)), dtype)
    assert not isinstance(null, fi.Constant)
    assert null.mass.sum() == pytest.approx(1, abs=1e-12)

    def pvalue(rounded: Array) -> float:
        held = np.clip(rounded.astype(np.float64), null.low, null.high)
        counts = np.histogram(held, null.edges)[0]
        expected = null.mass * drawn.size
        enough = expected > 20
        other = counts[~enough].sum(), expected[~enough].sum()
        statistic = ((counts - expected)[enough] ** 2 / expected[enough]).sum() + (other[0] - other[1]) ** 2 / other[1]
        return float(stats.chi2.sf(statistic, enough.sum()))

    assert pvalue(drawn.astype(dtype)) > 1e-6
    cut = (drawn.astype(dtype).view(np.uint16) & np.uint16(0xFFFE)).view(dtype)  # one bit less, not rounded
    assert pvalue(cut) < 1e-9


# Power


def truncated_bits(x: Array) -> Array:
    """The upper half of a float32 as a bfloat16."""
    return (x.view(np.uint32) >> 16).astype(np.uint16).view(ml_dtypes.bfloat16)


def copied(x: Array) -> Array:
    """One part in a hundred, an odd distance away."""
    y = x.copy()
    part = x.size // 100
    y[x.size // 2 + 1 : x.size // 2 + 1 + part] = x[x.size // 7 : x.size // 7 + part]
    return y


def correlated(x: Array) -> Array:
    y = x.copy()
    y[1:] = math.sqrt(1 - 0.002**2) * x[1:] + np.float32(0.002) * x[:-1]
    return y


def inclusive(x: Array) -> Array:
    """The steps of a bfloat16 uniform with both ends among them, each as likely."""
    return (np.floor(x.astype(np.float64) * 257) / 256).astype(ml_dtypes.bfloat16)


def beyond_the_end(x: Array) -> Array:
    """Rounded to bfloat16 past 0.1, which lies between two of its values."""
    return x.astype(ml_dtypes.bfloat16)


def sixteen_bits(x: Array) -> Array:
    cut: Array = (np.floor(x * 65536) / 65536).astype(np.float32)
    return cut


NORMAL, UNIFORM, TRUNCATED = fi.normal(), fi.uniform(), fi.truncated_normal()
CUT = fi.truncated_normal(lower=-5.0, upper=5.0)
Spoil = Callable[[Array], Array]
WRONG: dict[str, tuple[fi.Initializer, fi.Initializer, Spoil, str]] = {
    "std 0.2 % off": (NORMAL, NORMAL, lambda x: np.float32(1.002) * x, "variance"),
    "std 0.2 % less": (NORMAL, NORMAL, lambda x: np.float32(0.998) * x, "variance"),
    "mean 0.002 off": (NORMAL, NORMAL, lambda x: x + np.float32(0.002), "mean"),
    "a copied part": (NORMAL, NORMAL, copied, "repeats"),
    "correlated": (NORMAL, NORMAL, correlated, "lag 1"),
    "cut off in place of rounded": (NORMAL, NORMAL, truncated_bits, "chi-square"),
    "16 bits": (UNIFORM, UNIFORM, sixteen_bits, "grain"),
    "upper end included": (UNIFORM, UNIFORM, inclusive, "chi-square"),
    "upper end passed": (fi.uniform(-0.1, 0.1), fi.uniform(-0.1, 0.1), beyond_the_end, "bounds"),
    "clamped": (NORMAL, TRUNCATED, lambda x: np.clip(x, -2, 2), "chi-square"),
}


@cache
def whole(claimed: fi.Initializer) -> fi.Report:
    """The same of a right array, once for each initializer."""
    return verify(right(claimed, 1 << 24), claimed)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays_are_rejected(name: str) -> None:
    """At 2**24 elements and the alpha of 1e-6."""
    drawn, claimed, spoil, by = WRONG[name]
    x = right(drawn, 1 << 24)
    report = verify(spoil(x), claimed)
    assert not report.passed
    assert by in failed(report)
    assert whole(claimed).passed, str(whole(claimed))


def test_clamped_at_the_tails_is_rejected() -> None:
    """The atoms at the bounds hold 6e-5 of the elements."""
    distribution = fi.TruncatedNormal(0.0, 1.0, -4.0, 4.0)
    x = np.clip(right(NORMAL, 1 << 24), -4, 4)
    assert "chi-square" in failed(verify(x, distribution))


@pytest.mark.slow
def test_cut_tails_are_rejected() -> None:
    """Beyond 5 sigma lie 154 of 2**28 elements."""
    x = right(CUT, 1 << 28)
    assert "beyond 5 sigma" in failed(verify(x, NORMAL))
    assert verify(x, CUT).passed


def test_cut_tails_of_fewer_elements_are_rejected() -> None:
    """Beyond 4 sigma lie 266 of 2**22."""
    x = right(fi.truncated_normal(lower=-4.0, upper=4.0), 1 << 22)
    assert "beyond 4 sigma" in failed(verify(x, NORMAL))


def test_each_axis_is_looked_along() -> None:
    x = right(NORMAL, (64, 32, 48, 20))
    lags = {3: "lag 1", 2: "lags", 1: "lag 960", 0: "neighbours of indices of axis 0"}
    for axis, name in lags.items():
        y = x.copy()
        moved, from_ = np.moveaxis(y, axis, 0), np.moveaxis(x, axis, 0)
        moved[1:] = (from_[1:] + np.float32(0.01) * from_[:-1]) / np.float32(math.sqrt(1.0001))
        assert name in failed(verify(y, NORMAL))
    assert verify(x, NORMAL).passed


def test_equal_lines_are_seen() -> None:
    x = right(NORMAL, (100, 120))
    for axis, name in ((0, "pairs of rows"), (1, "pairs of columns")):
        y = x.copy()
        lines = np.moveaxis(y, axis, 0)
        lines[77] = np.float32(math.sqrt(0.19)) * lines[77] + np.float32(0.9) * lines[5]
        assert failed(verify(y, NORMAL)) == [name]
    assert verify(x, NORMAL).passed


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("shift", [64, 101, 4097, 30_001])
def test_repeats_are_found_at_any_distance(dtype: str, shift: int) -> None:
    x = right(NORMAL, 100_000, dtype)
    y = x.copy()
    y[50_000 + shift : 50_100 + shift] = x[50_000:50_100]
    report = verify(y, NORMAL)
    assert "repeats" in failed(report)
    found = next(result for result in report.results if result.name == "repeats")
    count = min(shift, 100)
    assert found.detail == f"elements from {50_000 + shift} on repeat those from 50000 on, {count} of them"
    assert "repeats" not in failed(verify(x, NORMAL))


def test_numbers_that_are_none_are_counted() -> None:
    for dtype in DTYPE_NAMES:
        x = right(NORMAL, 100_000, dtype)
        x[5], x[77_777], x[77_778] = math.nan, math.inf, -math.inf
        report = verify(x, NORMAL)
        assert failed(report) == ["finite"]
        assert report.results[0].statistic == 3
        assert report.summary is not None
        assert report.summary.counts.sum() == 99_997


def test_nothing_but_wrong_values_is_rejected() -> None:
    for value in (math.nan, math.inf, 0.0, 1e300, -1.0):
        assert not verify(np.full(100_000, value), NORMAL).passed
        with np.errstate(over="ignore"):
            assert not verify(np.full(100_000, value, np.float16), UNIFORM).passed


def test_float64_from_fewer_bits_is_seen() -> None:
    generator = np.random.default_rng(3)
    for wrong in (
        generator.random(100_000, np.float32).astype(np.float64),
        generator.integers(0, 1 << 32, 100_000) * 2.0**-32,
    ):
        assert failed(verify(wrong, UNIFORM)) == ["grain"]


# What is counted


def test_the_counts_are_those_of_numpy() -> None:
    """Histogram, correlations and powers, with float64 sums in NumPy."""
    for dtype in DTYPE_NAMES:
        x = right(NORMAL, (700, 1000), dtype)
        report = verify(x, NORMAL)
        z = x.astype(np.float64).ravel()
        summary = report.summary
        assert summary is not None
        assert (summary.counts == np.histogram(z, summary.edges)[0]).all()
        found = {result.name: result.statistic for result in report.results}
        for lag in (1, 2, 3, 4):
            expected = (z[:-lag] * z[lag:]).mean() * math.sqrt(z.size)
            assert found[f"lag {lag}"] == pytest.approx(expected, abs=1e-2)
        for k, (name, mean, variance) in enumerate(
            [("mean", 0, 1), ("variance", 1, 2), ("skewness", 0, 15), ("kurtosis", 3, 96)], 1
        ):
            expected = ((z**k).mean() - mean) / math.sqrt(variance / z.size)
            assert found[name] == pytest.approx(
                expected, abs=1e-2
            )  # the 16-bit distributions' own moments differ a little
        for sigmas in SIGMAS:
            assert found[f"beyond {sigmas:g} sigma"] == np.count_nonzero(abs(z) > sigmas)


def test_the_small_kolmogorov_test_is_scipy_s() -> None:
    x = right(NORMAL, 5000, "float64")
    found = next(result for result in verify(x, NORMAL).results if result.name == "Kolmogorov-Smirnov")
    expected = stats.kstest(x, "norm")
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
    assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-6)


def test_the_tail_weights_are_those_of_exponentials() -> None:
    """-log F has the moments 1, 2, 6, less what the bins average out."""
    null = null_of(fi.Normal(0.0, 1.0), np.dtype(np.float32))
    assert not isinstance(null, fi.Constant)
    evidence = Evidence()
    counts = np.rint(null.mass * 1e12).astype(np.int64)
    _tails(null, counts, int(counts.sum()), evidence)
    assert [result.name for result in evidence.made] == ["lower tail", "upper tail"]
    assert all(abs(result.statistic) < 0.1 for result in evidence.made)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (fi.Normal(3.0, 2.0), [1, 0, 1, 0, 3, 0, 15, 0, 105, 0, 945, 0, 10395]),
        (fi.Uniform(-1.0, 4.0), [3 ** (k / 2) / (k + 1) if k % 2 == 0 else 0 for k in range(13)]),
    ],
)
def test_moments(distribution: fi.Distribution, expected: list[float]) -> None:
    assert distribution.standard_moments == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_moments_of_truncated_laws() -> None:
    distribution = fi.TruncatedNormal(1.0, 2.0, 1.5, 7.0)
    ours = distribution.standard_moments
    theirs = stats.truncnorm(0.25, 3.0, loc=1.0, scale=2.0)
    assert ours[3] == pytest.approx(float(theirs.stats("s")), rel=1e-6)
    assert ours[4] == pytest.approx(float(theirs.stats("k")) + 3, rel=1e-6)


def test_holm() -> None:
    assert holm([], 0.05) == []
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [False, True, True, False]
    assert holm([0.0, 1.0], 1e-9) == [False, True]


def test_the_verdict_does_not_depend_on_threads() -> None:
    x = right(NORMAL, (2000, 1000))
    one, three = (verify(x, NORMAL, threads=threads) for threads in (1, 3))
    assert one == three


# Arrays of every kind


def layouts(x: Array, tmp_path: Path) -> dict[str, Array]:
    mapped = np.memmap(tmp_path / "x", x.dtype, "w+", shape=x.shape)
    mapped[...] = x
    mapped.flush()
    apart = np.zeros((x.shape[0] * 2, x.shape[1], x.shape[2] * 3), x.dtype)[1::2, :, ::3]
    apart[...] = x
    backwards = x[:, ::-1].copy()[:, ::-1]
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    odd = raw.view(x.dtype).reshape(x.shape)
    odd[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    return {
        "mapped": np.memmap(tmp_path / "x", x.dtype, "r", shape=x.shape),
        "apart": apart,
        "fortran": np.asfortranarray(x),
        "backwards": backwards,
        "odd": odd,
        "frozen": frozen,
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_every_layout_is_read(dtype: str, tmp_path: Path) -> None:
    x = right(NORMAL, (70, 110, 90), dtype)
    expected = verify(x, NORMAL).summary
    assert expected is not None
    for name, y in layouts(x, tmp_path).items():
        report = verify(y, NORMAL)
        assert report.passed, name
        assert report.summary is not None
        assert (report.summary.counts == expected.counts).all(), name


def test_flat_runs() -> None:
    x = np.arange(7 * 5 * 6).reshape(7, 5, 6)
    for view in (x, x.transpose(2, 0, 1), x[::2, ::-1, 1::2], x[:, :1], x[3, 2, ::-1]):
        whole = view.ravel()
        for begin in range(0, view.size, 3):
            for end in range(begin, view.size + 1, 4):
                assert (flat(view, begin, end) == whole[begin:end]).all()


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.randn(300, 200, dtype=dtype).requires_grad_()
        report = verify(x.T, NORMAL)
        assert report.passed, str(report)
        assert (report.dtype, report.shape) == (str(dtype).removeprefix("torch."), (200, 300))
    assert not verify(torch.randn(300, 200).bfloat16() * 1.1, NORMAL).passed


def test_the_law_may_be_given() -> None:
    shard = right(fi.he_normal(), (512, 256))[:100]
    assert verify(shard, fi.he_normal().distribution((512, 256))).passed
    assert verify(shard, fi.he_normal(), global_shape=(512, 256)).passed
    assert verify(shard, fi.he_normal()).passed  # fan_in is the other axis
    assert not verify(shard.T, fi.he_normal()).passed


def test_constants() -> None:
    assert verify(np.zeros((3, 4)), fi.zeros()).passed
    assert verify(np.full((3, 4), 0.3, np.float16), fi.constant(0.3)).passed
    assert verify(np.ones(5, np.int8), fi.ones()).passed
    assert verify(np.full(5, 2.0), fi.normal(2.0, 0.0)).passed
    assert verify(np.full(5, 2.0), fi.uniform(2.0, 2.0)).passed
    wrong = np.zeros((1000, 1000), np.float32)
    wrong[3, 3] = 1e-30
    report = verify(wrong, fi.zeros())
    assert failed(report) == ["equal"]
    assert report.results[0].detail == "1 elements differ from 0.0"


def test_no_elements_and_one() -> None:
    report = verify(np.empty((0, 3), np.float32), NORMAL)
    assert not report.passed  # nothing was looked at
    assert not report.rejected
    assert str(report).startswith("NOT VERIFIED: 0 elements")
    assert report.results == ()
    assert "there are no elements" in str(report)
    for dtype in DTYPE_NAMES:
        report = verify(np.array(0.5, dtype_of(dtype)), NORMAL)
        assert report.passed
        assert "skipped" in str(report)
        assert not verify(np.array(30.0, dtype_of(dtype)), NORMAL).passed


def test_the_table() -> None:
    report = verify(np.float32(1.1) * right(NORMAL, (300, 200)), NORMAL)
    text = str(report)
    assert text.startswith("REJECTED: 60000 elements of float32 as Normal(mean=0.0, std=1.0)\n")
    assert "family-wise alpha 1e-06 (Holm)" in text
    for result in report.results:
        (line,) = [line for line in text.splitlines() if line.startswith(result.name + "  ")]
        assert ("REJECTED" in line) is not result.passed
    assert report.as_dict()["results"][0] == {
        "name": "finite",
        "statistic": 0.0,
        "pvalue": 1.0,
        "passed": True,
        "detail": "",
    }


@pytest.mark.parametrize(
    ("array", "init", "options", "error", "message"),
    [
        ([1.0], NORMAL, {}, TypeError, "array must be an array, got list"),
        (np.zeros(3, np.int32), NORMAL, {}, TypeError, "array must be of float16, .* got dtype int32"),
        (np.zeros(3, ">f4"), NORMAL, {}, TypeError, "native byte order"),
        (
            np.zeros(3),
            "normal",
            {},
            TypeError,
            "must be an initializer or a distribution, .* got 'normal'",
        ),
        (np.zeros((3, 3)), fi.orthogonal(), {}, TypeError, "has no distribution"),
        (np.zeros(3), NORMAL, {"alpha": 0}, ValueError, r"alpha must be in \(0, 1\), got 0"),
        (np.zeros(3), NORMAL, {"alpha": 1.0}, ValueError, "alpha must be in"),
        (np.zeros(3), NORMAL, {"level": "slow"}, ValueError, "level must be fast or full, got 'slow'"),
        (np.zeros(3), NORMAL, {"threads": 0}, ValueError, "threads"),
        (np.zeros(3), fi.he_normal(), {}, ValueError, "shape"),
        (np.zeros(3, np.float16), fi.normal(std=1e6), {}, ValueError, "float16 ends at"),
    ],
)
def test_what_is_refused(array: Any, init: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        verify(array, init, **options)


# Several tensors


def test_shared_streams() -> None:
    """Equal, overlapping, scaled and rounded streams are found; others are not."""

    def array(size: int, std: float, name: str, dtype: str = "float32") -> tuple[Array, fi.Initializer]:
        init = fi.normal(std=std)
        return fi.array(size, init, seed=0, name=name, dtype=dtype), init

    long = array(1_000_000, 1.0, "one")
    tensors = {
        "one": long,
        "part": (long[0][123_457:140_000].copy(), long[1]),
        "scaled": array(200_000, 0.013, "one"),
        "rounded": array(50_000, 0.02, "one", "bfloat16"),
        "other": array(200_000, 1.0, "other"),
        "zeros": (np.zeros(100_000), fi.zeros()),
        "more zeros": (np.zeros(100_000), fi.zeros()),
    }
    found = verify_tensors(tensors)
    pairs = {frozenset((one.first, one.second)) for one in found.shared}
    assert {frozenset(("one", name)) for name in ("part", "scaled", "rounded")} <= pairs | {
        frozenset(("one", "rounded")) if frozenset(("scaled", "rounded")) in pairs else frozenset()
    }
    assert not any("other" in pair or "zeros" in pair for pair in pairs)
    assert all(report.passed for report in found.reports.values())
    assert not found.passed
    part = next(one for one in found.shared if {one.first, one.second} == {"one", "part"})
    assert abs(part.first_place - part.second_place) == 123_457
    clean = verify_tensors({name: tensors[name] for name in ("one", "other", "zeros")})
    assert clean.passed
    assert shared_streams(clean.reports) == []


def test_tensors_without_a_law_are_skipped() -> None:
    q = fi.array((8, 8), fi.orthogonal(), seed=0, name="q")
    found = verify_tensors({"q": (q, fi.orthogonal())})
    assert not found.passed
    assert not found.rejected
    assert str(found).startswith("NOT VERIFIED: 0 verified, 1 skipped")
    assert found.reports == {}
    assert "skipped" in str(found)
    mixed = verify_tensors({"q": (q, fi.orthogonal()), "z": (np.zeros(3), fi.zeros()), "e": (np.zeros(0), NORMAL)})
    assert (list(mixed.reports), list(mixed.skipped), mixed.passed, mixed.rejected) == (["z"], ["q", "e"], False, False)
    assert "\nq  skipped: orthogonal() has no distribution of its elements\ne  skipped: it has no elements" in str(
        mixed
    )
    further = verify_tensors({"z": (np.zeros(3), fi.zeros())}, skipped={"f8": "of dtype F8_E4M3"})
    assert (further.passed, further.skipped) == (False, {"f8": "of dtype F8_E4M3"})
    assert verify_tensors({"z": (np.zeros(3), fi.zeros())}).passed
    assert not verify_tensors({}).passed


@pytest.mark.parametrize("array", [[1.0, 2.0], None, "text", {"a": 1}, np.ma.array([1.0], mask=[True])], ids=type)
def test_what_is_no_array_is_no_tensor_without_a_law(array: Any) -> None:
    with pytest.raises(TypeError, match=r"tensor 'a': array must"):
        verify_tensors({"a": (array, NORMAL)})
    with pytest.raises(TypeError, match=r"tensor 'a': array must"):
        verify_tensors({"a": (array, fi.orthogonal())})


def test_a_global_shape_that_cannot_hold_the_array_is_refused() -> None:
    for whole in [(8,), (8, 8, 8), (4, 8)]:
        with pytest.raises(ValueError, match="global_shape must have the 2 axes of array and hold"):
            verify(np.zeros((8, 4)), fi.he_normal(), global_shape=whole)


@pytest.mark.parametrize("name", ["\x1b]0;pwned\x07", "\x1b[2Jw", "w\nz  passed  least p 1 (equal)"], ids=ascii)
def test_names_cannot_forge_a_report(name: str) -> None:
    found = verify_tensors(
        {name: (np.zeros(3), fi.zeros()), "z": (np.ones(3), fi.zeros()), "s\n": (np.ones(0), NORMAL)}
    )
    assert all(line.isprintable() for line in str(found).split("\n"))
    same = fi.array(5000, NORMAL, seed=0, name="w")
    shared = verify_tensors({name: (same, NORMAL), "other": (same, NORMAL)})
    assert all(line.isprintable() for line in str(shared).split("\n"))


def test_the_pass_compiles_no_more_than_one_kernel_for_a_dtype() -> None:
    for dtype in DTYPE_NAMES:
        verify(right(fi.normal(), 4096, dtype), fi.normal())
    titles = {label.removeprefix("verification of ") for label in kernels._ready if label.startswith("verification")}
    assert titles == {"16 bits", "float32", "float64"}
