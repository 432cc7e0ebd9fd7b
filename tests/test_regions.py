"""Tiles of several rows: every way in which they are listed and stored, at sizes around its thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinit.kernels.layout import APART, COLUMNS, GROUP, PACKED, RUN, SCATTERED, SPAN, TURNED, WHOLE
from fastinit.sampling.plan import SHORT, STREAMING_BYTES, tiled
from tests.helpers import DTYPES, assert_same, every_dtype
from tests.test_fill import INITS, WIDTHS, assert_only_written, filled, placed, proven, values

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]

LENGTHS = [1, 2, 3, 4, 5, 7, 8, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, GROUP, SHORT - 1, SHORT]


@st.composite
def rows(draw: st.DrawFn) -> tuple[Sizes, Sizes, Sizes]:
    """A tensor's shape, and the offset and shape of a region of short rows, of some axes."""
    axes = draw(st.integers(1, 3))
    shape = [*draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes)), draw(st.sampled_from(LENGTHS))]
    shape[draw(st.integers(0, axes - 1))] = draw(st.sampled_from([1, 7, 8, 15, 16, 31, 32, 33, 64, 65, 129]))
    before = draw(st.lists(st.sampled_from([0, 1, 3, 4, 8]), min_size=axes + 1, max_size=axes + 1))
    after = draw(st.lists(st.sampled_from([0, 1, 3, 4, 8]), min_size=axes + 1, max_size=axes + 1))
    whole = tuple(sum(sizes) for sizes in zip(before, shape, after, strict=True))
    return whole, tuple(before), tuple(shape)


@proven
@given(st.data(), rows(), st.sampled_from(DTYPES), st.sampled_from(["uniform", "truncated"]))
def test_rows_are_slices_of_the_whole(
    data: st.DataObject, region: tuple[Sizes, Sizes, Sizes], dtype: np.dtype[Any], distribution: str
) -> None:
    whole, offset, shape = region
    order = data.draw(st.one_of(st.just(tuple(range(len(shape)))), st.permutations(range(len(shape)))))
    padding, odd = data.draw(st.sampled_from([0, 0, 3, 16])), data.draw(st.sampled_from([0, 0, 3]))
    memory, view = placed(shape, dtype, order, [1] * len(shape), padding, odd)
    filled(view, INITS[distribution], global_shape=whole, global_offset=offset)
    here = tuple(slice(at, at + size) for at, size in zip(offset, shape, strict=True))
    assert_same(view, values(whole, INITS[distribution], dtype)[here])
    assert_only_written(memory, view)


WAYS: dict[str, tuple[Sizes, Sizes, Sizes, Sizes, int, tuple[int, int]]] = {
    # shape, whole, offset, order in memory, padding; and the way
    "long rows": ((600, SPAN), (600, 2 * SPAN), (0, 8), (0, 1), 0, (RUN, 0)),
    "whole blocks": ((9000, 4, 40), (9000, 8, 80), (0, 2, 40), (0, 1, 2), 0, (PACKED, WHOLE)),
    "parts of blocks": ((9000, 4, 41), (9000, 8, 83), (0, 2, 41), (0, 1, 2), 0, (PACKED, 0)),
    "padded": ((9000, 4, 40), (9000, 8, 80), (0, 2, 40), (0, 1, 2), 24, (APART, 0)),
    "padded rows of the whole": ((9000, 4, 40), (9000, 8, 40), (0, 2, 0), (0, 1, 2), 8, (APART, 0)),
    "Fortran": ((1300, 1104), (1300, 2208), (0, 1), (1, 0), 0, (COLUMNS, TURNED)),
    "Fortran, odd": ((1303, 1101), (1303, 1105), (0, 1), (1, 0), 0, (COLUMNS, 0)),
    "channels last": ((200, 130, 7, 9), (200, 130, 7, 9), (0, 0, 0, 0), (0, 2, 3, 1), 0, (COLUMNS, 0)),
    "few channels": ((9000, 3, 7, 9), (9000, 3, 7, 9), (0, 0, 0, 0), (0, 2, 3, 1), 0, (SCATTERED, 0)),
}


@pytest.mark.parametrize("odd", [0, 16])
@pytest.mark.parametrize("name", WAYS)
def test_rows_past_the_cache(name: str, odd: int) -> None:
    """Of arrays that are large enough for streaming stores, by rows of small ones that are not."""
    shape, whole, offset, order, padding, way = WAYS[name]
    memory, view = placed(shape, WIDTHS[0], order, [1] * len(shape), padding, odd)
    assert view.nbytes > STREAMING_BYTES
    plan = tiled(shape, view.strides, view.itemsize, whole, offset).plan
    assert (plan.way, plan.compact) == way
    filled(view, INITS["normal"], global_shape=whole, global_offset=offset)
    step = shape[0] // 8 + 1
    for row in range(0, shape[0], step):
        part = np.empty((min(step, shape[0] - row), *shape[1:]), np.float32)
        filled(part, INITS["normal"], global_shape=whole, global_offset=(row, *offset[1:]))
        assert_same(view[row : row + step], part)
    assert_only_written(memory, view)


@every_dtype
@pytest.mark.parametrize("columns", [3, 4, 16])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("distribution", ["normal", "truncated"])
def test_rows_far_into_a_huge_tensor(columns: int, order: Any, distribution: str, dtype: np.dtype[Any]) -> None:
    """Where the block's number passes 32 bits, in the midst of a tile."""
    width, height = 32, 100
    middle = (1 << (33 if dtype.itemsize == 8 else 34)) // width
    options: dict[str, Any] = {"global_shape": (2 * middle, width)}
    out = np.empty((height, columns), dtype, order=order)
    filled(out, INITS[distribution], global_offset=(middle - height // 2, 5), **options)
    for row in range(height):
        alone = np.empty((1, columns), dtype)
        filled(alone, INITS[distribution], global_offset=(middle - height // 2 + row, 5), **options)
        assert_same(out[row : row + 1], alone)
    flat = np.empty(3 * width, dtype)
    filled(flat, INITS[distribution], global_shape=(2 * middle * width,), global_offset=(middle * width - width,))
    assert_same(out[height // 2 - 1 : height // 2 + 2], flat.reshape(3, width)[:, 5 : 5 + columns])


def test_the_checks_of_this_file_can_fail() -> None:
    """A region that lies a column further is another one."""
    whole = values((64, 64), INITS["normal"])
    out = filled(np.empty((64, 16), np.float32), INITS["normal"], global_shape=(64, 64), global_offset=(0, 9))
    assert_same(out, whole[:, 9:25])
    with pytest.raises(AssertionError):
        assert_same(out, whole[:, 8:24])
