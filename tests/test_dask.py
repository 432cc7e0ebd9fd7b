"""fastinit.dask: the values of `fastinit.array` for all chunks and schedulers, small graphs, and errors at the call."""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.verification import blocks
from tests import reference
from tests.helpers import DTYPE_NAMES, assert_same, printed

dask = pytest.importorskip("dask", reason="needs dask: pip install 'fastinit-weights[dask]'")
da = pytest.importorskip("dask.array", reason="needs dask: pip install 'fastinit-weights[dask]'")
fd = pytest.importorskip("fastinit.dask", reason="needs dask: pip install 'fastinit-weights[dask]'")

SHAPE = (37, 53)
CHUNKS = [(5, 7), (37, 1), ((1, 30, 6), (53,)), -1, "auto", (1, -1), 11]
LOCAL = {"scheduler": "sync"}  # the quickest for what is small


def pair(shape: tuple[int, ...] = SHAPE, chunks: Any = (5, 7), dtype: str = "float32", **changed: Any) -> Any:
    """Return a lazy array, and the oracle."""
    given: dict[str, Any] = {"init": fi.he_normal(), "seed": 3, "name": "w", "dtype": dtype} | changed
    return fd.array(shape, chunks=chunks, **given), fi.array(shape, **given)


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_the_values_do_not_depend_on_the_chunks(chunks: Any, dtype: str) -> None:
    lazy, expected = pair(chunks=chunks, dtype=dtype)
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    assert_same(lazy.compute(**LOCAL), expected)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_shape_in_any_chunks(data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), max_size=4))
    shape = tuple(map(sum, axes))
    lazy, expected = pair(shape, tuple(map(tuple, axes)), init=fi.truncated_normal())
    assert_same(lazy.compute(**LOCAL), expected)


def test_the_values_are_those_of_the_reference() -> None:
    """An implementation in NumPy, which shares no code with the kernels."""
    lazy = fd.array(SHAPE, fi.uniform(-1, 1), seed=3, name="w", chunks=(8, 9))
    index = np.arange(math.prod(SHAPE), dtype=np.uint64)
    exact = reference.draw(fi.Uniform(-1, 1), index, reference.SINGLE, 3, "w").values.reshape(SHAPE)
    assert np.array_equal(lazy.compute(**LOCAL), exact.astype(np.float32))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_local_schedulers(scheduler: str, dtype: str) -> None:
    lazy, expected = pair(dtype=dtype)
    assert_same(lazy.compute(scheduler=scheduler), expected)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="needs distributed: pip install distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as found:
        yield found


SLICES = (np.s_[::-2], np.s_[3], np.s_[1:, 40:2:-3], np.s_[..., None, 5], np.s_[[1, 30, 2]], np.s_[5:5])


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
def test_the_distributed_scheduler_and_slices(client: Any, dtype: str) -> None:
    lazy, expected = pair(dtype=dtype)
    assert_same(lazy.compute(), expected)
    kept = lazy.persist()
    assert_same(kept.compute(), expected)
    for chosen in SLICES:
        assert_same(np.ascontiguousarray(lazy[chosen].compute()), np.ascontiguousarray(expected[chosen]))
        assert_same(np.ascontiguousarray(kept[chosen].compute()), np.ascontiguousarray(expected[chosen]))
    assert_same(lazy.rechunk((10, 53)).T.compute(), np.ascontiguousarray(expected.T))


def test_arithmetic_is_fused_with_the_draws() -> None:
    lazy, expected = pair()
    assert_same(((lazy + 1) * 2).compute(**LOCAL), (expected + 1) * 2)
    (layer,) = dask.optimize(lazy + 1)[0].dask.layers.values()
    assert len(layer) == lazy.npartitions


def test_the_name_tells_what_decides_the_values() -> None:
    """The same call is the same array to dask; what changes a value or a chunk changes the name."""
    name = pair()[0].name
    assert name.startswith("fastinit-")
    assert fd.array(SHAPE, fi.he_normal(), seed=np.int64(3), name="w", chunks=(5, 7), threads=2).name == name
    assert fd.array(SHAPE, fi.kaiming_normal(), seed=3, name="w", chunks=((5,) * 7 + (2,), 7)).name == name
    others = [
        pair(seed=4), pair(name="v"), pair(name=5), pair(name="5"), pair(dtype="float16"), pair(chunks=(5, 8)),
        pair(init=fi.he_uniform()), pair(init=fi.constant(0.0)), pair(init=fi.constant(-0.0)), pair((37, 54)),
    ]  # fmt: skip
    names = [name, *(lazy.name for lazy, _ in others)]
    assert len(set(names)) == len(names)
    source = f"import fastinit as fi, fastinit.dask as fd; print(fd.array({SHAPE}, fi.he_normal(), seed=3, name='w', "
    source += "chunks=(5, 7)).name)"
    assert printed(source, warnings="default").strip() == name  # in another process, too


def test_the_graph_does_not_grow_with_the_chunks() -> None:
    """A million chunks in the bytes of a few; a graph of dask's that lists its blocks is the negative control."""
    few, many = (fd.array((10**6, size), fi.normal(), seed=0, name="w", chunks=(1000, 1000)) for size in (10**4, 10**6))
    assert many.npartitions == 10**6
    assert not any(layer.is_materialized() for layer in many.dask.layers.values())
    assert len(pickle.dumps(many)) < 10_000
    assert len(pickle.dumps(few.dask)) < len(pickle.dumps(many.dask)) < 10_000
    listed = few.blocks[:5].map_blocks(lambda x: x, dtype=few.dtype)
    assert len(dask.base.collections_to_expr([listed]).__dask_graph__()) >= 50
    back = pickle.loads(pickle.dumps(many))
    expected = np.empty((3, 4), np.float32)
    fi.fill(expected, fi.normal(), seed=0, name="w", global_shape=many.shape, global_offset=(999_998 - 1, 500_000))
    assert_same(back[-3:, 500_000:500_004].compute(**LOCAL), expected)


def test_another_seed_or_a_wrong_place_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = pair()[1]
    assert not np.array_equal(pair(seed=4)[0].compute(**LOCAL), expected)
    monkeypatch.setattr(fd._Places, "__getitem__", lambda self, idx: ((0, 0), (5, 7)))
    assert not np.array_equal(pair(chunks=(5, 7))[0].compute(**LOCAL)[:35, 7:49], expected[:35, 7:49])


MATRICES = [fi.orthogonal(), fi.sparse(0.1), fi.eye()]


@pytest.mark.parametrize("init", MATRICES, ids=str)
def test_a_matrix_is_one_chunk_unless_allowed(init: fi.Initializer) -> None:
    with pytest.raises(ValueError, match=r"chunks must be -1, one chunk, for .* got 64 chunks: .* allow_whole=True"):
        fd.array(SHAPE, init, seed=0, name="w", chunks=(5, 7))
    expected = fi.array(SHAPE, init, seed=0, name="w")
    assert_same(fd.array(SHAPE, init, seed=0, name="w", chunks=-1).compute(**LOCAL), expected)
    assert_same(fd.array(SHAPE, init, seed=0, name="w", chunks=(30, 30), allow_whole=True).compute(**LOCAL), expected)


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"shape": (5,)}, ValueError, "fan"),
        ({"shape": (-1, 2)}, ValueError, "every size in shape"),
        ({"init": "he_normal"}, TypeError, "init must be an initializer"),
        ({"dtype": "int32"}, TypeError, "takes only zeros, ones, constant and table"),
        ({"dtype": "complex64"}, TypeError, "float16"),
        ({"dtype": None}, TypeError, "dtype must be named"),
        ({"init": fi.constant(1e30), "dtype": "float16"}, ValueError, "float16"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"name": None}, TypeError, "name must be"),
        ({"threads": 0}, ValueError, "threads"),
        ({"allow_whole": 1}, TypeError, "allow_whole must be True or False"),
        ({"chunks": (3, 3, 3)}, ValueError, "chunks must be .* for each axis of shape"),
        ({"chunks": ((3, 3), 3)}, ValueError, "chunks must be"),
        ({"chunks": "some"}, ValueError, "chunks must be"),
        ({"chunks": (math.nan, 3)}, ValueError, "chunks must be"),
        ({"chunks": ((math.nan,), 3)}, ValueError, "chunks must be"),
        ({"chunks": 0}, ValueError, "chunks must be"),
        ({"chunks": None}, ValueError, "chunks must be"),
    ],
    ids=str,
)
def test_errors_come_at_the_call_in_one_line(changed: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments = {"shape": SHAPE, "init": fi.he_normal(), "seed": 0, "name": "w", "chunks": (5, 7)} | changed
    with pytest.raises(kind, match=message) as caught:
        fd.array(arguments.pop("shape"), arguments.pop("init"), **arguments)
    assert "\n" not in str(caught.value)


def test_integers_and_numbers_alone() -> None:
    lazy = fd.array((), fi.normal(), seed=0, name="w")
    assert_same(np.asarray(lazy.compute(**LOCAL)), fi.array((), fi.normal(), seed=0, name="w"))
    assert_same(fd.array(7, fi.ones(), seed=0, name="w", dtype="int8", chunks=2).compute(**LOCAL), np.ones(7, np.int8))


def test_a_task_draws_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def noted(out: Any, init: Any, **arguments: Any) -> Any:
        seen.append(arguments.get("threads"))
        return fi.fill(out, init, **arguments)

    lazy = pair()[0]
    monkeypatch.setattr(fd, "fill", noted)
    lazy.compute(**LOCAL)
    assert set(seen) == {1}


def test_xarray_takes_it() -> None:
    xarray = pytest.importorskip("xarray", reason="needs xarray: pip install xarray")
    lazy, expected = pair()
    labelled = xarray.DataArray(lazy, dims=("out", "in"))
    assert_same(labelled.isel(out=slice(3, 9)).compute(**LOCAL).to_numpy(), expected[3:9])
    assert fi.verify(labelled, fi.he_normal()).passed


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), max_size=4), st.integers(1, 200))
def test_groups_of_blocks_cover_an_array_once(steps: list[list[int]], most: int) -> None:
    """Each holds whole blocks, no more than asked for unless it is one block."""
    seen = np.zeros(tuple(map(sum, steps)), np.int64)
    largest = math.prod(max(axis) for axis in steps)
    for region in blocks.groups([tuple(axis) for axis in steps], 1, most=most):
        seen[region] += 1
        assert seen[region].size <= max(most, largest)
        for piece, axis in zip(region, steps, strict=True):
            assert {piece.start, piece.stop} <= {0, *np.cumsum(axis).tolist()}
    assert (seen == 1).all()


@pytest.mark.parametrize("chunks", [(100, 1000), (1000, 30), (333, 333)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_verify_looks_at_a_lazy_array_in_blocks(chunks: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is that of the array in memory, and every chunk is computed once."""
    monkeypatch.setattr(blocks, "GROUP_BYTES", 200_000)
    lazy, expected = pair((1000, 1000), chunks, dtype)
    calls: list[int] = []

    def counted(block: Any) -> Any:
        calls.append(block.nbytes)
        return block

    watched = lazy.map_blocks(counted, dtype=lazy.dtype, meta=lazy._meta)
    with dask.config.set(scheduler="sync"):
        report = fi.verify(watched, fi.he_normal())
    assert report.passed
    assert str(report) == str(fi.verify(expected, fi.he_normal()))
    assert (len(calls), sum(calls)) == (lazy.npartitions, lazy.nbytes)
    assert fi.verify(lazy * 1.05, fi.he_normal()).rejected  # the negative control


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda x: x.astype("int32"), TypeError, "got dtype int32"),
        (lambda x: x[x > 0], ValueError, "array must have a known shape"),
        (lambda x: x[0], ValueError, "fan"),
    ],
)
def test_verify_refuses_before_it_computes(make: Any, kind: type[Exception], message: str) -> None:
    def never(block: Any) -> Any:
        raise AssertionError("computed")

    lazy = pair()[0].map_blocks(never, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    with pytest.raises(kind, match=message):
        fi.verify(make(lazy), fi.he_normal())


def test_verify_says_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blocks, "GROUP_BYTES", 1000)
    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=r"verify needs a temporary file of 7.844 kB in .* TMPDIR chooses: No space"):
        fi.verify(pair()[0], fi.he_normal())
    assert list(tmp_path.iterdir()) == []
