"""`table`: given values, in any dtype and region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.initializers.tables import MOST_VALUES, table_of
from fastinit.io.checkpoint import initialize
from fastinit.io.manifests import Tensor, read_manifest, write_manifest

NUMBERS = np.random.default_rng(0).standard_normal((5, 7))


def made(values: Any, shape: tuple[int, ...], dtype: Any, **where: Any) -> Any:
    return fi.fill(np.empty(shape, dtype), fi.table(table_of(values)), seed=0, name="w", **where)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_values_are_rounded_as_numpy_rounds_them(dtype: Any) -> None:
    expected = NUMBERS.astype(np.float32).astype(dtype) if dtype != np.float64 else NUMBERS
    assert np.array_equal(made(NUMBERS.ravel().tolist(), NUMBERS.shape, dtype), expected)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8", "bool"])
def test_integers_are_exact(dtype: str) -> None:
    limits = (False, True) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = [int(limits[0]), int(limits[1]), 1]
    assert made(values, (3,), dtype).tolist() == values
    for beyond in (int(limits[0]) - 1, int(limits[1]) + 1):
        out = np.zeros(2, dtype)
        with pytest.raises(ValueError, match=r"values? must be"):
            fi.fill(out, fi.table(table_of([1, beyond])), seed=0, name="w")
        assert not out.any()
    with pytest.raises(ValueError, match=r"got 0\.5"):
        made([1, 0.5], (2,), dtype)


@settings(derandomize=True, deadline=None)
@given(st.data())
def test_a_region_is_a_slice_of_the_whole(data: st.DataObject) -> None:
    offset = [data.draw(st.integers(0, size - 1)) for size in NUMBERS.shape]
    shape = tuple(data.draw(st.integers(0, size - at)) for size, at in zip(NUMBERS.shape, offset, strict=True))
    got = made(NUMBERS.ravel().tolist(), shape, np.float64, global_shape=NUMBERS.shape, global_offset=offset)
    assert np.array_equal(got, NUMBERS[tuple(slice(at, at + size) for at, size in zip(offset, shape, strict=True))])


@settings(derandomize=True)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1), max_size=30))
def test_texts_keep_every_bit(values: list[Any]) -> None:
    init = fi.table(table_of(values))
    assert fi.parse(repr(init)) == init
    assert table_of(values).split() == list(map(repr, values))
    if len(values) > 1 and all(abs(value) < 2**53 for value in values):
        assert made(values, (len(values),), np.float64).tolist() == values


def test_one_value_everywhere_is_a_constant() -> None:
    assert fi.table("2 2 2").distribution((3,)) == fi.Constant(2)
    assert fi.array((), fi.table("2.5"), seed=0, name=0).item() == 2.5
    assert np.signbit(made([0.0, -0.0], (2,), np.float32)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 two", "numbers with spaces between them, got 'two'"),
        ("1 inf", "must be finite, got 'inf'"),
        ("1 nan", "must be finite, got 'nan'"),
        ("1 2 3", r"must have the 2 values of shape \(2,\), got 3"),
        ("1 " * (MOST_VALUES + 1), f"at most {MOST_VALUES} numbers"),
        (7, "values must be a text of numbers"),
    ],
)
def test_bad_values_are_refused_in_one_line(text: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        fi.array(2, fi.table(text), seed=0, name="w")
    assert len(str(caught.value)) < 300


def test_a_manifest_may_have_a_long_table(tmp_path: Path) -> None:
    values = list(range(5000))
    tensor = Tensor("positions", (5000,), "int64", init=repr(fi.table(table_of(values))))
    write_manifest([tensor], tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json") == [tensor]
    initialize([tensor], tmp_path / "m.safetensors", [], seed=0)
    content = (tmp_path / "m.safetensors").read_bytes()
    assert np.frombuffer(content[-40_000:], np.int64).tolist() == values
