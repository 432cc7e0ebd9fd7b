"""`verify` of a tensor's structure: defects of rows, columns, lags and spectra, that leave the elements' distribution.

Size: of N right arrays at the family-wise rate ALPHA, more than the 1 - 1e-6 quantile of a binomial (N, ALPHA) rejected
is a failure, and of each test's p-values below ALPHA, too. Power: each defect is so large that the test named beside it
rejects with a probability above 0.999; a right array of the same shape passes.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import fastinit as fi
from bench.defects import DEFECTS
from fastinit.kernels.measures import MARGIN, NEAR
from fastinit.verification.checkpoints import verify_tensors
from fastinit.verification.cosines import largest_cosines, normalise
from fastinit.verification.dependence import (
    FEW,
    _in_two_stages,
    _largest_eigenvalue,
    _lines,
    _places,
    _spread,
    _test_spectrum,
)
from fastinit.verification.evidence import Evidence
from fastinit.verification.geometry import Axis, geometry
from fastinit.verification.lines import Sums, _sharpened, deviates
from fastinit.verification.null_distribution import Null, null_of, scores_of
from fastinit.verification.pieces import Pieces
from fastinit.verification.scan import SLAB, scan
from fastinit.verification.verifier import verify
from tests.helpers import DTYPE_NAMES
from tests.test_verify import DISTRIBUTIONS, failed, right

Array = np.ndarray[Any, Any]
NORMAL = fi.normal()
ALPHA = 0.01
SIDE = 512
SHAPES = [
    (256, 256), (65_536,), (257, 255), (64, 40, 3, 3), (7, 11, 13, 5), (17,), (1000, 3), (3, 1000), (33, 129), (5, 7),
    (2, 40_000), (40_000, 2), (12_345,), (1, 5000), (300, 1, 20), (101, 64),
]  # fmt: skip


# Size


def check_size(shapes: list[tuple[int, ...]], arrays: int, first: int = 0, level: str = "full") -> None:
    cases = [(init, dtype) for init in DISTRIBUTIONS.values() for dtype in DTYPE_NAMES]
    rejected, low, made = [], Counter[str](), Counter[str]()
    for k in range(arrays):
        (init, dtype), shape = cases[k % len(cases)], shapes[(k // len(cases) + k) % len(shapes)]
        report = verify(right(init, shape, dtype, seed=first + k), init, alpha=ALPHA, level=level)
        if report.rejected:
            rejected.append(f"{k} {init} {dtype} {shape}: {', '.join(failed(report))}")
        made.update(result.name for result in report.results)
        low.update(result.name for result in report.results if result.pvalue < ALPHA)
    assert len(rejected) <= stats.binom.isf(1e-6, arrays, ALPHA), rejected
    wrong = {
        name: (low[name], count) for name, count in made.items() if low[name] > stats.binom.isf(1e-6, count, ALPHA)
    }
    assert not wrong


def test_right_arrays_of_odd_shapes_pass() -> None:
    check_size(SHAPES, 192)
    check_size(SHAPES, 64, first=1 << 20, level="fast")


@pytest.mark.slow
def test_ten_thousand_right_arrays_of_odd_shapes_pass() -> None:
    check_size(SHAPES, 10_000, first=1 << 21)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(512, 512), (2048, 128), (100, 3000), (64, 64, 64), (70, 1100)])
def test_two_hundred_right_arrays_of_a_shape_pass(shape: tuple[int, ...]) -> None:
    check_size([shape], 200, first=1 << 22)


# Power

BY = {
    "mean falls along the rows": "means of rows",
    "mean differs by column": "means of columns",
    "std falls along the rows": "stds of rows",
    "std differs by row": "stds of rows",
    "std differs by head of 64 rows": "stds of rows",
    "one third of the rows scaled": "stds of rows",
    "one row scaled": "stds of rows",
    "rows centred": "means of rows",
    "rows of unit norm": "stds of rows",
    "whole array standardised": "mean and variance",
    "stratified draws": "chi-square",
    "orthogonal matrix": "dependence of rows",
    "low rank": "spectrum of rows",
    "lag 5": "lags",
    "lag 100": "lags",
    "lag 12345": "lags",
    "neighbours on the diagonal": "lags",
    "mean follows the magnitude before": "lags of elements and magnitudes",
    "RANDU": "triples",
    "second half is minus the first": "repeats",
    "two rows": "pairs of rows",
    "two rows, negated and scaled": "pairs of rows",
    "two columns": "pairs of columns",
    "each row and the one half the array on": "distances of rows",
    "each row and its mirror image": "distances of rows",
    "rows copied": "repeats",
    "rows copied, reversed and negated": "repeats",
    "a square block copied": "repeats",
    "a square block copied, transposed": "repeats",
    "half of it, signs flipped at random": "repeats",
    "half of it, last 8 bits XORed": "repeats",
    "repeated every 100 elements": "repeats",
    "every 7th element scaled": "periods of magnitudes",
    "checkerboard of stds": "periods of stds",
    "squares of 128, stds": "stds of blocks",
    "interpolated neighbours": "lag 1",
    "exact zeros": "zeros",
    "exact ones": "bins",
    "one element of 8 std": "largest",
    "last bit zero": "last bits",
    "added to the diagonal": "mean of the diagonal",
    "blended with its transpose": "symmetry",
}


@pytest.mark.parametrize("name", BY)
def test_planted_defects_are_seen(name: str) -> None:
    x = right(NORMAL, (SIDE, SIDE))
    report = verify(DEFECTS[name].plant(x, min(DEFECTS[name].largest, SIDE / 4)), NORMAL)
    assert BY[name] in failed(report), str(report)


def test_the_array_without_a_defect_passes() -> None:
    for level in ("fast", "full"):
        report = verify(right(NORMAL, (SIDE, SIDE)), NORMAL, level=level)
        assert report.passed, str(report)
        assert {*BY.values()} <= {one.name for one in report.results}


def test_one_element_far_out_in_a_small_array() -> None:
    x = right(NORMAL, (20, 30))
    assert verify(x, NORMAL).passed
    x[3, 4] = 7
    assert "largest" in failed(verify(x, NORMAL))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_as_few_zeros_as_good_generators_make_are_let_pass(dtype: str) -> None:
    """Half a zero is expected of 2**21 elements: three may be there, twenty may not."""
    x = right(NORMAL, (2048, 1024), dtype)
    x[0, :3] = 0
    assert verify(x, NORMAL, level="fast").passed
    x[0, :20] = 0
    assert "bins" in failed(verify(x, NORMAL, level="fast"))


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("init", [fi.uniform(-0.1, 0.1), fi.truncated_normal(std=0.02)], ids=str)
def test_structure_of_other_distributions(init: fi.Initializer, dtype: str) -> None:
    x = right(init, (SIDE, SIDE), dtype)
    assert verify(x, init).passed
    ranked = x.copy()
    ranked[: SIDE // 4] = np.sort(x[: SIDE // 4], axis=0)  # the columns of this part rise
    assert "means of rows" in failed(verify(ranked, init))
    copied = x.copy()
    copied[400] = -x[20]
    assert "pairs of rows" in failed(verify(copied, init))


@pytest.mark.parametrize("axis", range(4))
def test_every_axis_has_its_lines(axis: int) -> None:
    x = right(NORMAL, (16, 24, 12, 20))
    lines = np.moveaxis(x, axis, 0)
    lines[5:7] *= np.float32(1.1)
    report = verify(x, NORMAL)
    found = next(one for one in report.results if one.name == f"stds of indices of axis {axis}")
    assert not found.passed
    assert found.detail.startswith(f"indices 5-6 of axis {axis}: std 1.")


# Layout


def views(x: Array) -> dict[str, Array]:
    """The same values in other orders of memory."""
    every = np.zeros((2 * len(x), *x.shape[1:]), x.dtype)[::2]
    every[...] = x
    back = tuple(slice(None, None, -1) for _ in x.shape)
    return {
        "C": x.copy(),
        "Fortran": np.asfortranarray(x),
        "every second": every,
        "backwards": x[back].copy()[back],
        "transposed": np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    }


@settings(max_examples=12, deadline=None)
@given(
    shape=st.sampled_from([(300, 500), (70, 110, 30), (1200, 5), (9000,)]),
    dtype=st.sampled_from(DTYPE_NAMES),
    seed=st.integers(0, 1000),
    equal=st.booleans(),
)
def test_the_verdict_is_that_of_the_values(shape: tuple[int, ...], dtype: str, seed: int, equal: bool) -> None:
    x = right(NORMAL, shape, dtype, seed)
    if equal:
        part = shape[0] // 4
        x[1 : 1 + part] = x[-part:]
    expected, *others = (verify(view, NORMAL) for view in views(x).values())
    assert expected.rejected is equal
    assert all(report == expected for report in others)


def test_a_transposed_array_is_another() -> None:
    """Equal rows are seen in both orders of memory, and so are equal columns."""
    x = right(NORMAL, (300, 400))
    x[200] = x[7]
    for y, name in ((x, "rows"), (np.asfortranarray(x), "rows"), (x.T, "columns"), (x.T.copy(), "columns")):
        assert f"pairs of {name}" in failed(verify(y, NORMAL))


def test_elements_taken_by_slices_are_those_taken_by_numbers() -> None:
    """Of one array in any order of memory, and of one in three pieces."""
    x = np.arange(300 * 400.0).reshape(300, 400)
    runs = (np.arange(0, 300, 100)[:, None] + np.arange(50)).ravel()
    some = [
        np.arange(300),
        np.arange(7, 90),
        runs,
        np.arange(0, 300, 7),
        np.array([211]),
        runs[::-1],
        np.array([5, 5, 6]),
    ]
    for pieces in (*((view,) for view in views(x).values()), (x[:60], x[60:61], x[61:])):
        for rows, columns in itertools.product(some, some):
            found = Pieces(pieces).take([rows[:, None], columns[None, :]])
            np.testing.assert_array_equal(found, x[rows[:, None], columns[None, :]])


# Words


def test_what_is_wrong_is_said() -> None:
    x = right(NORMAL, (1024, 512))
    copied, scaled, falling = x.copy(), x.copy(), x * np.linspace(1.05, 0.95, 1024, dtype=np.float32)[:, None]
    copied[512:] = x[:512]
    scaled[256:512] *= np.float32(0.7)
    for y, words in (
        (copied, "rows 512-1023 repeat rows 0-511"),
        (scaled, "rows 256-511: std 0.69"),
        (falling, "the std falls along the rows: first third std 1.03"),
        (DEFECTS["mean follows the magnitude before"].plant(x, 0.1), "with the magnitudes 1 before them"),
        (DEFECTS["mean follows the magnitude before"].plant(x[::-1, ::-1], 0.1)[::-1, ::-1], "1 after them"),
        (DEFECTS["each row and its mirror image"].plant(x, 0.2), "with their mirror images about 511.5"),
        (DEFECTS["a square block copied, transposed"].plant(x, 256), "are among those of row"),
    ):
        assert words in str(verify(y, NORMAL))
    assert "repeat" not in str(verify(x, NORMAL)).replace("repeats", "")


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
def test_the_pass_sums_what_numpy_does(dtype: str) -> None:
    """Of rows, columns and pairs at lags, by float64 sums; the array is no multiple of any part that is looked at."""
    x = right(NORMAL, (1801, 300), dtype)
    null = null_of(NORMAL.distribution(x.shape), x.dtype)
    assert isinstance(null, Null)
    found, g = scan(Pieces((x,)), null, 2, True), scores_of(x.ravel(), null).astype(np.float64)
    place = np.arange(300, x.size)
    there = place - 300 >= place // SLAB * SLAB - MARGIN  # no pair reaches far into the slab before
    far = (g[:-300] * g[300:])[there]
    expected = {k: (x.size - NEAR, (g[:-NEAR] * g[k:][: x.size - NEAR]).sum()) for k in range(1, NEAR + 1)}
    expected[300] = (len(far), far.sum())
    assert found.lags.keys() == expected.keys()
    for lag, (pairs, total) in expected.items():
        assert found.lags[lag][0] == pairs
        assert found.lags[lag][1] == pytest.approx(total, abs=0.1)
    g = g.reshape(x.shape)
    for k, power in enumerate((g, g * g)):
        np.testing.assert_allclose(found.rows[..., k].sum(axis=1), power.sum(axis=1), rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.columns[:, k].sum(axis=0), power.sum(axis=0), rtol=0, atol=1e-2)


def test_the_ends_of_a_run_of_lines_are_found() -> None:
    """A run without noise, whose ends are no ends of cells."""
    lines = np.zeros(4096)
    lines[1003:1506] = 3.0
    assert _sharpened(lines, 992, 1520, 16) == (1003, 1506)
    assert _sharpened(lines, 1008, 1504, 16) == (1003, 1506)


@pytest.mark.parametrize("size", [257, 1000, 2048, 4096, 50257, 1 << 20])
@pytest.mark.parametrize("most", [128, 256])
def test_the_lines_that_are_compared_lie_at_all_distances(size: int, most: int) -> None:
    lines = set(_spread(size, most).tolist())
    assert {0, size - 1} < lines
    assert all(size - 1 - line in lines for line in lines if line < size // 4)  # their mirror images
    assert len(lines) <= most + 3
    assert all(any(line + distance in lines for line in lines) for distance in range(1, most // 2))
    if size % 512 == 0:
        assert sum(line + size // 2 in lines for line in lines) >= most // 8


# Null distributions


@pytest.mark.parametrize(
    "shape", [(2, 3), (64,), (300, 200), (512, 256, 3, 3), (1 << 20, 8), (3, 1 << 20), (2, 3, 1 << 19)]
)
def test_the_matrix_has_every_element(shape: tuple[int, ...]) -> None:
    form = geometry(shape)
    assert form.rows * form.width >= form.size == math.prod(shape)
    assert math.prod(axis.size for axis in form.lead) == form.rows
    assert math.prod(axis.size for axis in form.trail) == form.width
    assert form.width <= 1 << 18


@pytest.mark.parametrize("count", [64, 1000])
@pytest.mark.parametrize("init", DISTRIBUTIONS.values(), ids=str)
def test_deviates_are_standard_normal(init: fi.Initializer, count: int) -> None:
    """The tails beyond 2, 3 and 4 of means and stds of lines, of all distributions: within 1e-6 binomial bounds.

    Wilson and Hilferty's approximation has room of a quarter beyond 4.
    """
    null = null_of(init.distribution((1,)), np.dtype(np.float32))
    assert isinstance(null, Null)
    lines = (1 << 24) // count
    g = np.random.default_rng(3).standard_normal((lines, count), np.float32)
    scores = g if not null.table.size else null.table[np.searchsorted(null.cdf[1:-1], stats.norm.cdf(g), "right")]
    sums = Sums(scores.sum(1, dtype=float), (scores**2).sum(1, dtype=float), np.full(lines, float(count)))
    for kind in ("mean", "std"):
        z = deviates(sums, kind, null)
        assert z is not None
        for limit in (2, 3, 4):
            chance = stats.norm.sf(limit)
            for tail in (np.count_nonzero(z > limit), np.count_nonzero(z < -limit)):
                room = 1.25 if limit == 4 else 1.05
                assert (
                    stats.binom.isf(1 - 1e-6, lines, chance / room)
                    <= tail
                    <= stats.binom.isf(1e-6, lines, chance * room)
                )


def test_the_largest_eigenvalue_is_lapack_s() -> None:
    x = np.random.default_rng(1).standard_normal((200, 300))
    for matrix in (x @ x.T, np.eye(100), np.ones((70, 70))):
        assert _largest_eigenvalue(matrix) == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-9)


@pytest.mark.parametrize(("lines", "elements", "matrices"), [(32, 500, 3000), (64, 64, 1000)])
def test_cosines_have_their_distributions(lines: int, elements: int, matrices: int) -> None:
    """Small p-values of many matrices of normals, by the sum of squares and the largest eigenvalue.

    Bounds of 1e-6. There may be a fifth more of the sum's, and fewer of the eigenvalue's, whose law is that of lines
    that do not all have the length 1.
    """
    generator, evidence = np.random.default_rng(8), Evidence()
    for _ in range(matrices):
        x = generator.standard_normal((lines, elements))
        x /= np.sqrt((x * x).sum(axis=1, keepdims=True))
        _test_spectrum(np.einsum("ik,jk->ij", x, x), elements, Axis("rows {}", lines), evidence)
    for name in ("dependence of rows", "spectrum of rows"):
        chances = np.array([one.pvalue for one in evidence.made if one.name == name])
        assert len(chances) == matrices
        for limit in (0.2, 0.05, 0.01):
            low = int((chances < limit).sum())
            least = limit / (2 if name.startswith("dependence") else 8)
            assert stats.binom.isf(1 - 1e-6, matrices, least) <= low <= stats.binom.isf(1e-6, matrices, 1.2 * limit), (
                name
            )


@pytest.mark.parametrize(("lines", "elements"), [(2, 64), (5, 300), (256, 1), (257, 513), (800, 77)])
@pytest.mark.parametrize("threads", [1, 3])
def test_all_cosines_are_numpy_s(lines: int, elements: int, threads: int) -> None:
    """Of all pairs; of lines that fill no vector, no run and no task."""
    x = np.random.default_rng(5).standard_normal((lines, elements), np.float32)
    normalise(x)
    matrix = np.zeros((lines, lines), np.float32)
    most, at = largest_cosines(x, threads, matrix)
    expected = np.tril(x.astype(np.float64) @ x.T.astype(np.float64), -1)
    np.testing.assert_allclose(matrix, expected + expected.T, rtol=0, atol=1e-6)
    assert most.tobytes() == largest_cosines(x, threads)[0].tobytes()
    assert most[0] == 0
    np.testing.assert_allclose(abs(most), abs(expected).max(axis=1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(expected[np.arange(1, lines), at[1:]], most[1:], rtol=0, atol=1e-6)


def test_no_element_is_looked_at_in_both_stages() -> None:
    for along, elements in ((300, 256), (2048, 256), (10_000, 64), (1 << 20, 256), (100, 100)):
        first, second = _places(along, elements), _places(along, elements, between=True)
        both = np.concatenate([first, second])
        assert len(np.unique(both)) == len(both) <= along
        assert both.min() >= 0
        assert both.max() < along


def test_pairs_that_few_elements_choose_have_their_distribution() -> None:
    """The least of 64 p-values, times 64, is below 0.1 with a probability of 1 - exp(-0.1). Bounds of 1e-6."""
    shape, arrays, found = (300, 900), 300, []
    distribution = NORMAL.distribution(shape)
    for seed in range(arrays):
        x = Pieces((right(NORMAL, shape, seed=seed),))
        null, every = null_of(distribution, x.dtype), np.arange(shape[0])
        assert isinstance(null, Null)
        lines = _lines(x, 0, every, _places(shape[1], FEW), null, 1)
        found.append(_in_two_stages(x, 0, every, lines, null, 1)[1][0])
    low = sum(pvalue < 0.1 for pvalue in found)
    chance = -math.expm1(-0.1)
    assert stats.binom.ppf(1e-6, arrays, chance) <= low <= stats.binom.isf(1e-6, arrays, chance)


@pytest.mark.parametrize("axis", [0, 1])
def test_two_correlated_lines_of_a_thousand_are_seen(axis: int) -> None:
    x = right(NORMAL, (1024, 1024))
    lines = np.moveaxis(x, axis, 0)
    assert verify(x, NORMAL).passed
    lines[700] = np.float32(0.4) * lines[20] + np.float32(0.84**0.5) * lines[700]
    found = next(one for one in verify(x, NORMAL).results if one.name == f"pairs of {('rows', 'columns')[axis]}")
    assert not found.passed
    assert found.detail.startswith(f"{('rows', 'columns')[axis]} 20 and 700 have a correlation of 0.4")


# Several tensors

Change = Callable[[Array], Array]
W = (300, 400)
CHANGES: dict[str, tuple[Change, str]] = {
    "negated": (lambda x: -x, "same stream ("),
    "transposed": (lambda x: x.T.copy(), "same stream ("),
    "reversed": (lambda x: x[::-1, ::-1].copy(), "same stream ("),
    "columns permuted": (lambda x: x[:, np.random.default_rng(0).permutation(W[1])], "same stream ("),
    "rows permuted": (lambda x: x[np.random.default_rng(0).permutation(W[0])], "same stream ("),
    "signs at random": (lambda x: np.where(right(NORMAL, W, seed=9) < 0, -x, x), "same stream ("),
    "correlated": (lambda x: (x + right(NORMAL, W, seed=9) * np.float32(3**0.5)) / 2, "correlated: r = 0.5"),
    "in double precision": (lambda _: right(NORMAL, W, "float64"), "in two precisions: r = 0.7"),
    "in 16 bits": (lambda _: right(NORMAL, W, "bfloat16"), "same stream ("),
}


@pytest.mark.parametrize("name", CHANGES)
def test_tensors_of_one_stream_are_seen(name: str) -> None:
    x, (change, words) = right(NORMAL, W), CHANGES[name]
    found = verify_tensors({"x": (x, NORMAL), "y": (change(x), NORMAL), "z": (right(NORMAL, W, seed=4), NORMAL)})
    assert [(one.first, one.second) for one in found.shared] == [("x", "y")]
    assert words in str(found)
    assert not any(report.rejected for report in found.reports.values())


def test_uniforms_of_one_stream_in_two_precisions_are_seen() -> None:
    init = fi.uniform()
    tensors = {dtype: (right(init, 20_000, dtype), init) for dtype in ("float32", "float64")}
    assert "in two precisions: r = 1, " in str(verify_tensors(tensors))


def test_many_right_tensors_share_nothing() -> None:
    tensors = {
        f"{k} {dtype}": (fi.array((40, 100), NORMAL, seed=k, name=dtype, dtype=dtype), NORMAL)
        for k in range(40)
        for dtype in DTYPE_NAMES
    }
    assert verify_tensors(tensors).shared == []
