"""Large samples against their exact law: the law and the kernels beside others, right values, and wrong ones."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

import fastinit as fi
from bench import laws, samples
from bench.laws import Array
from fastinit.core.dtypes import dtype_of

SIZE = 1 << 20
ALPHA = 1e-6  # below it, a p-value says that values are wrong; a right sample of 60 tests falls below once in 16,000
KINDS = list(itertools.product(samples.INITS, samples.LOG2))


@pytest.mark.parametrize(("name", "dtype"), KINDS)
def test_right_values_pass(name: str, dtype: str) -> None:
    law = laws.law_of(name, dtype, SIZE)
    sums = samples.measure(samples.drawer(samples.INITS[name], "w", SIZE), law, dtype, SIZE)
    assert sums.counts.sum() == SIZE
    assert sums.joint.sum() == 6 * SIZE / 4
    found = samples.judge(sums, law, SIZE)
    assert min(result.pvalue for result in found) > ALPHA
    assert {result.kind for result in found} == set(samples.KINDS)


@pytest.mark.parametrize(("name", "dtype"), KINDS)
def test_counts_and_sums_are_numpys(name: str, dtype: str) -> None:
    size = samples.SLAB
    law = laws.law_of(name, dtype, size)
    sums = samples.measure(samples.drawer(samples.INITS[name], "w", size), law, dtype, size)
    values = fi.array((size,), samples.INITS[name], seed=0, name="w", dtype=dtype).astype(np.float64)
    at = np.searchsorted(law.edges, values, "right") - 1
    np.testing.assert_array_equal(sums.counts, np.bincount(at, minlength=len(law.mass)))
    np.testing.assert_array_equal(sums.tails[: len(law.lows)], [(values < low).sum() for low in law.lows])
    np.testing.assert_array_equal(sums.tails[len(law.lows) :], [(values > high).sum() for high in law.highs])
    z = (values - law.mean) / law.std
    np.testing.assert_allclose(sums.powers, [(z**k).sum() for k in range(1, 5)], rtol=1e-5, atol=1e-2)
    blocks, tiles = z.reshape(-1, 4), z.reshape(-1, samples.TILE)
    level = samples.grid_of(law, np.float64).levels[at].reshape(-1, 4)
    for k, (a, b) in enumerate(samples.PARTNERS):
        np.testing.assert_allclose(sums.partners[0, k], blocks[:, a] @ blocks[:, b], rtol=1e-4, atol=0.1)
        np.testing.assert_allclose(
            sums.partners[1, k], (blocks[:, a] ** 2 - 1) @ (blocks[:, b] ** 2 - 1), rtol=1e-4, atol=0.1
        )
        joint = np.zeros((samples.LEVELS, samples.LEVELS), np.int64)
        np.add.at(joint, (level[:, a], level[:, b]), 1)
        np.testing.assert_array_equal(sums.joint[k], joint)
    for k, lag in enumerate(samples.LAGS):
        np.testing.assert_allclose(sums.lags[0, k], (tiles[:, lag:] * tiles[:, :-lag]).sum(), rtol=1e-4, atol=0.1)


def test_the_law_of_uniforms_is_that_of_their_numbers() -> None:
    """256 of the 2**24 numbers in each bin, but for those that round over an edge: one of each bin above a half."""
    mass = laws.law_of("uniform", "float32", SIZE).mass * 2**24
    assert mass.sum() == 2**24
    assert set(mass[: 1 << 15].tolist()) <= {255, 256, 257}
    assert set(mass.tolist()) <= {255, 256, 257}


@pytest.mark.parametrize("dtype", samples.LOG2)
def test_the_law_of_normals_is_scipys(dtype: str) -> None:
    law = laws.law_of("normal", dtype, 1 << 30)
    assert law.mass.sum() == pytest.approx(1, abs=1e-12)
    assert law.moments[:5] == pytest.approx([1, 0, 1, 0, 3], abs=1e-4)
    if dtype == "bfloat16":
        assert law.mass.min() >= laws.LEAST_MASS
    else:
        np.testing.assert_allclose(law.mass * laws.BINS, 1, rtol=1e-2)  # edges are numbers of the dtype
    tails = dict(law.tails)
    spacing = 2.0**-5 if dtype == "bfloat16" else 0  # from 4 on
    for t in laws.SIGMAS[:3]:  # radii of 32 bits differ from all radii from 6 sigma on
        assert tails[f"above {t:g}"] == pytest.approx(stats.norm.sf(t + spacing / 2), rel=1e-3)
        assert tails[f"below {-t:g}"] == pytest.approx(tails[f"above {t:g}"], rel=1e-12)


def test_tails_of_normals_are_those_of_their_words() -> None:
    """All angles of the three largest radii, in steps, and no fourth radius."""
    radius = np.sqrt(-2 * np.log((np.arange(4) + 0.5) / 2**32))
    angle = np.cos((np.arange(1 << 16) + 0.5) / (1 << 16) * 2 * np.pi)
    count = (np.outer(radius, angle) > 6.5).sum(axis=1) / (1 << 16)
    assert (count > 0).tolist() == [True, True, True, False]
    assert dict(laws.law_of("normal", "float32", SIZE).tails)["above 6.5"] == pytest.approx(
        count.sum() / 2**32, rel=1e-2
    )
    assert laws.law_of("normal", "float32", SIZE).support[1] > radius[0]


def normals(start: int, count: int, name: str = "w") -> Array:
    """Right values, in float32."""
    out = np.empty(count, np.float32)
    return fi.fill(out, fi.normal(), seed=0, name=name, global_shape=(4 * SIZE,), global_offset=(start,))


def wider(values: Array, start: int) -> Array:
    return values * np.float32(1.05)


def clipped(values: Array, start: int) -> Array:
    return np.clip(values, -4, 4)


def coarse(values: Array, start: int) -> Array:
    return values.astype(dtype_of("bfloat16")).astype(np.float32)


def copied(values: Array, start: int) -> Array:
    """In one block of 64, the last element is the first one."""
    values[3::256] = values[::256]
    return values


def same_radius(values: Array, start: int) -> Array:
    """In one block of 16, the second element is the first one or minus that: values are not correlated, squares are."""
    sign = np.sign(normals(start, values.size, "signs"))
    values[1::64] = values[::64] * sign[::64]
    return values


def repeated(values: Array, start: int) -> Array:
    """A period of 64 elements now and then."""
    rows = values.reshape(-1, 64)
    rows[1::32] = rows[::32]
    return values


def too_even(values: Array, start: int) -> Array:
    """Each 2**-20 of the probability once, in the order of an odd multiplier."""
    places = np.arange(start, start + values.size) * 0x9E3779B1 % SIZE
    return np.asarray(stats.norm.ppf((places + 0.5) / SIZE))


def lost(values: Array, start: int) -> Array:
    values[5] = np.nan
    return values


def too_far(values: Array, start: int) -> Array:
    values[5] = 6.8
    return values


@pytest.mark.parametrize(
    ("wrong", "kinds"),
    [
        (wider, {"chi-square", "moments"}),
        (clipped, {"tails"}),
        (coarse, {"chi-square"}),
        (copied, {"partners", "joint chi-square"}),
        (same_radius, {"partners", "joint chi-square"}),
        (repeated, {"lags"}),
        (too_even, {"chi-square"}),
        (lost, {"moments", "lags"}),
        (too_far, {"bounds"}),
    ],
)
def test_wrong_values_are_found(wrong: Callable[[Array, int], Array], kinds: set[str]) -> None:
    law = laws.law_of("normal", "float32", SIZE)

    def draw(out: Array, start: int) -> None:
        out[:] = wrong(normals(start, out.size), start)

    found = samples.judge(samples.measure(draw, law, "float32", SIZE), law, SIZE)
    assert kinds <= {result.kind for result in found if result.pvalue < ALPHA}


def test_a_run_is_kept_and_its_table_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"a\n{samples.BEGIN}\nold\n{samples.END}\nb\n")
    results = ["--results", str(tmp_path / "kept")]
    for command in (
        ["run", "--log2", "18", "--distribution", "normal", "--dtype", "float32", "--dtype", "bfloat16", *results],
        ["table", "--page", str(page), *results],
    ):
        done = CliRunner().invoke(samples.main, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "kept" / "normal-float32.json").read_text())
    assert len(kept["tests"]) == 60
    lines = page.read_text().splitlines()
    assert lines[:2] + lines[-2:] == ["a", samples.BEGIN, samples.END, "b"]
    assert lines[4].startswith("| normal | float32 | 2^18 | 0.")
    assert lines[7] == "| normal, found / expected | float32, 2^18 | bfloat16, 2^18 |"
    assert len(lines) == 23
