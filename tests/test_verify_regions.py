"""`verify` of tensors with regions: every part against its own initializer, and what is left without them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastinit as fi
from fastinit.verification.checkpoints import Checkpoint, verify_tensors
from fastinit.verification.pieces import Pieces
from fastinit.verification.regions import parts_of
from tests.helpers import DTYPE_NAMES
from tests.helpers import invoke as run

Array = np.ndarray[Any, Any]
NORMAL = fi.normal(std=0.02)
SHAPE = (600, 90)
PADDING = [((3, 0), (1, 90), fi.zeros())]


def embedding(dtype: str = "float32") -> Array:
    x = fi.array(SHAPE, NORMAL, seed=0, name="x", dtype=dtype)
    x[3] = 0
    return x


def found(x: Array, regions: Any = PADDING, init: fi.Initializer = NORMAL) -> Checkpoint:
    return verify_tensors({"x": (x, init)}, regions={"x": regions})


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
def test_a_padding_row_is_no_defect(dtype: str) -> None:
    x = embedding(dtype)
    checkpoint = found(x)
    assert checkpoint.passed
    assert {name: report.shape for name, report in checkpoint.reports.items()} == {"x": (599, 90), "x[3:4]": (1, 90)}
    assert found(x, []).rejected  # the row is one when nothing says that it is there


def rejected(checkpoint: Checkpoint) -> list[str]:
    assert checkpoint.rejected
    return [name for name, report in checkpoint.reports.items() if report.rejected]


def test_wrong_padding_is_rejected() -> None:
    one, noise, beside, near = (embedding() for _ in range(4))
    one[3, 89] = 1e-30
    assert rejected(found(one)) == ["x[3:4]"]
    noise[3] = noise[100]
    assert rejected(found(noise)) == ["x[3:4]"]
    beside[4] = 0  # a further row
    assert rejected(found(beside)) == ["x"]
    near[2], near[3] = 0, near[300]  # the row before
    assert rejected(found(near)) == ["x", "x[3:4]"]
    assert rejected(found(embedding(), init=fi.normal(std=0.021))) == ["x"]


def test_copies_are_found_across_the_region() -> None:
    x = embedding()
    x[5] = x[1]
    (report,) = [report for name, report in found(x).reports.items() if name == "x"]
    (repeats,) = [result for result in report.results if result.name == "repeats"]
    assert not repeats.passed
    assert repeats.detail == "rows 4 repeat rows 1"  # of those that are left


def test_regions_of_draws_are_tested() -> None:
    regions = [((0, 0), (200, 90), fi.uniform()), ((100, 0), (50, 90), fi.ones()), ((590, 0), (10, 90), fi.zeros())]
    x = embedding()
    x[:200] = fi.array((200, 90), fi.uniform(), seed=0, name="y")
    x[100:150], x[590:], x[3] = 1, 0, x[50]
    checkpoint = found(x, regions)
    assert {name: report.size // 90 for name, report in checkpoint.reports.items()} == {
        "x": 390,
        "x[0:200]": 150,
        "x[100:150]": 50,
        "x[590:600]": 10,
    }
    x[:200] += np.float32(0.01)
    x[100:150] = 1
    assert rejected(found(x, regions)) == ["x[0:200]"]


def test_pieces_are_tested_like_a_copy_of_them() -> None:
    """All tests but those of lags and periods, against those of the rows without a region."""
    apart = ("lag", "lags", "periods")
    for dtype in DTYPE_NAMES:
        for x in (embedding(dtype), np.asfortranarray(embedding(dtype))):
            ours, theirs = found(x).reports["x"], fi.verify(np.delete(x, 3, axis=0), NORMAL)
            mine, others = (
                {one.name: one.statistic for one in report.results if one.name.split()[0] not in apart}
                for report in (ours, theirs)
            )
            assert mine == pytest.approx(others, rel=1e-5, abs=1e-5)
            assert ours.summary is not None
            assert theirs.summary is not None
            assert (ours.summary.counts == theirs.summary.counts).all()


@pytest.mark.parametrize("lag", [1, 4, 90])
def test_pairs_lie_in_one_piece(lag: int) -> None:
    z = embedding("float64") / 0.02

    def statistic(products: Array) -> float:
        return float(products.sum() / math.sqrt(products.size))

    def products(part: Array) -> Array:  # the near lags are seen of the same elements
        last = part.size - max(lag, 4)
        return part[:last] * part[lag : lag + last]

    results = {one.name: one.statistic for one in found(embedding("float64")).reports["x"].results}
    assert results[f"lag {lag}"] == pytest.approx(
        statistic(np.concatenate([products(z[:3].ravel()), products(z[4:].ravel())])), abs=1e-3
    )
    across = z[[*range(3), *range(4, 600)]].ravel()
    assert results[f"lag {lag}"] != pytest.approx(statistic(products(across)), abs=1e-3)


def test_what_is_no_rows_is_skipped() -> None:
    checkpoint = found(embedding(), [((3, 0), (1, 45), fi.zeros())])
    assert checkpoint.skipped == {"x": "a region of it is not made of whole rows"}
    assert not checkpoint.passed
    checkpoint = found(embedding(), [((0, 0), (90, 90), fi.orthogonal())])
    assert checkpoint.skipped == {"x": "orthogonal() has no distribution of its elements"}
    with pytest.raises(ValueError, match=r"tensor 'x': regions must lie inside the shape \[600, 90\], got offset"):
        found(embedding(), [((600, 0), (1, 90), fi.zeros())])


def test_a_region_over_everything() -> None:
    for x in (np.zeros((4, 3)), np.zeros(()), np.zeros(5)):
        checkpoint = verify_tensors({"x": (x, fi.ones())}, regions={"x": [((0,) * x.ndim, x.shape, fi.zeros())]})
        assert checkpoint.passed
        assert len(checkpoint.reports) == 1
        assert verify_tensors({"x": (x, fi.ones())}).rejected


def test_a_name_like_a_region_s_hides_nothing() -> None:
    wrong = np.ones((1, 90), np.float32)
    for order in ((0, 1), (1, 0)):
        pairs = [("x", (embedding(), NORMAL)), ("x[3:4]", (wrong, fi.zeros()))]
        checkpoint = verify_tensors(dict(pairs[k] for k in order), regions={"x": PADDING})
        assert rejected(checkpoint) == ["x[3:4]"]
        assert checkpoint.reports.keys() == {"x", "x[3:4]", "x[3:4]'"}


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=5))
def test_parts_are_what_painting_gives(count: int, ends: list[tuple[int, int]]) -> None:
    rows = [(min(a, b, count), min(max(a, b), count)) for a, b in ends]
    inits = [fi.constant(float(k)) for k in range(len(rows) + 1)]
    regions = [((a, 0), (b - a, 2), inits[k]) for k, (a, b) in enumerate(rows, 1)]
    painted = np.zeros((count, 2))
    for k, (a, b) in enumerate(rows, 1):
        painted[a:b] = k
    parts = parts_of((count, 2), inits[0], regions)
    assert parts is not None
    ours = np.full((count, 2), np.nan)
    for part in parts:
        for view in part.of(ours).views:
            assert np.isnan(view).all()
            view[...] = inits.index(part.init)  # type: ignore[arg-type]
    assert (ours == painted).all()


@pytest.mark.parametrize("shape", [(20,), (20, 6), (20, 3, 4)])
def test_pieces_read_as_one_array(shape: tuple[int, ...]) -> None:
    whole = np.arange(np.prod(shape)).reshape(shape)
    for array in (whole, np.asfortranarray(whole), np.repeat(whole, 2, axis=0)[::2]):
        pieces = Pieces((array[:4], array[5:5], array[7:8], array[9:]))
        expected = np.concatenate(pieces.views)
        assert (pieces.shape, pieces.size, pieces.ndim) == (expected.shape, expected.size, expected.ndim)
        for begin in range(expected.size):
            for end in range(begin, expected.size + 1, 3):
                assert (pieces.flat(begin, end) == expected.ravel()[begin:end]).all()
        index = [np.array([[0], [3], [4], [5], [len(expected) - 1]]), *(np.array([[0, 2, 1]]) for _ in shape[1:])]
        assert (pieces.take(index) == expected[tuple(index)]).all()


def test_the_command_verifies_regions(tmp_path: Path) -> None:
    """A manifest's region and a recipe's zero_row, of what `init` writes; and what is spoilt is rejected."""
    manifest, recipe, file = tmp_path / "m.json", tmp_path / "r.toml", tmp_path / "x.safetensors"
    region = {"offset": [3, 0], "shape": [1, 90], "init": "zeros"}
    entries = [
        {"name": "a", "shape": [600, 90], "dtype": "float32", "init": "normal(std=0.02)", "regions": [region]},
        {"name": "b", "shape": [500, 90], "dtype": "bfloat16"},
    ]
    manifest.write_text(json.dumps(entries))
    recipe.write_text("[[rule]]\nmatch = 'b'\ninit = 'normal(std=0.5)'\nzero_row = 499\n")
    assert run("init", manifest, file, "--recipe", recipe, "--seed", 0, "--quiet")[0] == 0
    options = ["verify", file, "--recipe", recipe, "--manifest", manifest]
    code, text = run(*options)
    assert code == 0
    head = f"passed, matches the manifest's initializers and recipe {recipe}: 4 verified, 0 skipped"
    assert text.startswith(head)
    assert run(*options, "--tensor", "a")[1].startswith(
        "passed, matches the manifest's initializers in the tensors of --tensor 'a': 2 verified"
    )
    content = bytearray(file.read_bytes())
    at = len(content) - 2  # the last element of b, in its row of zeros
    content[at : at + 2] = b"\x80\x3f"
    file.write_bytes(content)
    code, text = run(*options, "--json")
    assert code == 1
    assert {name: one["passed"] for name, one in json.loads(text)["tensors"].items()} == {
        "a": True,
        "a[3:4]": True,
        "b": True,
        "b[499:500]": False,
    }
    recipe.write_text(recipe.read_text().replace("zero_row = 499", "zero_row = 498"))
    assert run(*options)[0] == 1
