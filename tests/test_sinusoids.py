"""Sinusoidal positions: the published formulas to the last digits, and bits that are pinned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import fastinit as fi
from fastinit.initializers import sinusoids
from tests.helpers import bits

POSITIONS = (0, 1, 2, 3, 17, 1500, 10**6, (1 << 32) - 2)


def vaswani(p: int, column: int, d: int, base: float) -> Any:
    """Section 3.5 of the paper."""
    angle = p / mpmath.mpf(base) ** (mpmath.mpf(2 * (column // 2)) / d)
    return mpmath.cos(angle) if column % 2 else mpmath.sin(angle)


def marian(p: int, column: int, d: int, base: float) -> Any:
    """Columns 0, 2, 4, ... of the paper's, then 1, 3, ..., as transformers' MarianSinusoidalPositionalEmbedding."""
    return vaswani(p, [*range(0, d, 2), *range(1, d, 2)][column], d, base)


def whisper(p: int, column: int, d: int, base: float) -> Any:
    """The function `sinusoids` of Whisper's model.py."""
    increment = mpmath.log(base) / (d // 2 - 1)
    angle = p * mpmath.exp(-increment * (column % (d // 2)))
    return mpmath.cos(angle) if column >= d // 2 else mpmath.sin(angle)


FORMULAS: dict[str, Callable[..., Any]] = {"vaswani": vaswani, "marian": marian, "whisper": whisper}


def row(p: int, d: int, init: fi.Initializer, dtype: str) -> Any:
    """One row, far into a tensor."""
    out = fi.array((1, d), fi.zeros(), seed=0, name=0, dtype=dtype)
    return fi.fill(out, init, seed=0, name=0, global_shape=((1 << 32) - 1, d), global_offset=(p, 0))[0]


@pytest.mark.parametrize(
    ("style", "d", "base"),
    [
        ("vaswani", 1, 1e4),
        ("vaswani", 8, 1e4),
        ("vaswani", 7, 1e4),
        ("vaswani", 6, 1.0),
        ("vaswani", 6, 1e300),
        ("marian", 8, 1e4),
        ("marian", 7, 1e4),
        ("whisper", 8, 1e4),
        ("whisper", 4, 77.5),
    ],
)
def test_the_published_formulas(style: str, d: int, base: float) -> None:
    init = fi.sinusoidal(style, base=base)  # type: ignore[arg-type]
    with mpmath.workdps(60):
        for p in POSITIONS:
            exact = [FORMULAS[style](p, column, d, base) for column in range(d)]
            found = row(p, d, init, "float64")
            assert max(abs(mpmath.mpf(one) - other) for one, other in zip(found.tolist(), exact, strict=True)) < 2e-16
            single = row(p, d, init, "float32")
            assert (abs(single - np.array([float(value) for value in exact])) <= 2.0**-25 + 1e-16).all()


def test_formulas_differ() -> None:
    """The negative control: no style passes for another."""
    made = [fi.array((9, 8), fi.sinusoidal(style), seed=0, name=0) for style in ("vaswani", "marian", "whisper")]
    assert all(not np.allclose(made[a], made[b], atol=1e-2) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert np.array_equal(made[0][:, [0, 2, 4, 6, 1, 3, 5, 7]], made[1])


PINNED = [
    "bfdc6e1ca7f740b1",
    "3fe50d1fcd5f60eb",
    "3fc31d8c774c5fe0",
    "bfecab5af26b153c",
    "bfe819c811fe3c08",
    "3fefa422929d7b9d",
]


def test_bits_are_pinned() -> None:
    found = row(1499, 6, fi.sinusoidal("whisper"), "float64")
    assert [f"{value:016x}" for value in bits(found).tolist()] == PINNED


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_are_rounded_float32(dtype: str) -> None:
    single = fi.array((50, 8), fi.sinusoidal(), seed=0, name=0)
    half = fi.array((50, 8), fi.sinusoidal(), seed=0, name=0, dtype=dtype)
    assert np.array_equal(half, single.astype(half.dtype))


def test_neither_seed_nor_name_matter() -> None:
    a, b = (fi.array((5, 4), fi.sinusoidal(), seed=k, name=k) for k in range(2))
    assert np.array_equal(a, b)


def test_leading_axes_repeat_it() -> None:
    found = fi.array((2, 3, 5, 4), fi.sinusoidal(), seed=0, name=0)
    assert (found == fi.array((5, 4), fi.sinusoidal(), seed=0, name=0)).all()


@pytest.mark.parametrize(
    ("style", "base", "shape", "message"),
    [
        ("Vaswani", 1e4, (3, 4), "style: did you mean 'vaswani'"),
        ("vaswani", 0.5, (3, 4), r"base must be 1 or more, got 0\.5"),
        ("vaswani", math.nan, (3, 4), "base"),
        ("vaswani", math.inf, (3, 4), "base must be finite"),
        ("vaswani", 1e4, (4,), "axes of positions and of columns"),
        ("vaswani", 1e4, (1 << 32, 4), r"2\*\*32 positions"),
        ("vaswani", 1e4, (4, (1 << 16) + 1), "65536 columns"),
        ("whisper", 1e4, (4, 7), "even number of columns"),
        ("whisper", 1e4, (4, 2), "4 or more"),
    ],
)
def test_what_cannot_be(style: Any, base: float, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fi.fill(
            fi.array([0] * len(shape), fi.zeros(), seed=0, name=0),
            fi.sinusoidal(style, base=base),
            seed=0,
            name=0,
            global_shape=shape,
        )


def test_whisper_s_own() -> None:
    transformers = pytest.importorskip("transformers.models.whisper.modeling_whisper", exc_type=ImportError)
    expected = transformers.sinusoids(1500, 64).numpy()
    found = fi.array((1500, 64), fi.sinusoidal("whisper"), seed=0, name=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-4)  # its angles are float32's


def test_marian_s_own() -> None:
    transformers = pytest.importorskip("transformers.models.marian.modeling_marian", exc_type=ImportError)
    expected = transformers.MarianSinusoidalPositionalEmbedding(200, 63).create_weight().numpy()
    found = fi.array((200, 63), fi.sinusoidal("marian"), seed=0, name=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def test_the_error_anywhere_on_the_circle() -> None:
    """Uniform angles, and those beside each eighth of a turn."""
    rng = np.random.default_rng(0)
    edges = [eighth * (1 << 61) + away for eighth in range(8) for away in (0, 1, (1 << 61) - 1)]
    turns = np.concatenate([rng.integers(0, 1 << 64, 5000, np.uint64), np.array(edges, np.uint64)])
    with mpmath.workdps(40):
        exact = [mpmath.sin(2 * mpmath.pi * k / mpmath.mpf(2) ** 64) for k in turns.tolist()]
        found = sinusoids._sines(turns).tolist()
        assert max(abs(mpmath.mpf(one) - other) for one, other in zip(found, exact, strict=True)) < 2e-16
