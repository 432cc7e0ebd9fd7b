"""`fill`, `array` and `words`: the same values in any memory, any piece and any number of threads; and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.core.checks import MOST_ELEMENTS
from fastinit.kernels.layout import GROUP, SPAN, TILE
from fastinit.sampling.cpu import LEAST_TASK_BYTES, TASK_BYTES
from fastinit.sampling.plan import STREAMING_BYTES
from tests.helpers import DTYPES, assert_same, every_dtype

Array = np.ndarray[Any, Any]

WIDTHS = DTYPES[2:]  # what the kernels are compiled for
INITS = {  # one for each kind of draw
    "uniform": fi.uniform(-1.0, 3.0),
    "normal": fi.normal(0.5, 2.0),
    "truncated": fi.truncated_normal(),
    "narrow": fi.truncated_normal(lower=0.1, upper=0.3),
    "tail": fi.truncated_normal(lower=-math.inf, upper=-3.0),
}
GUARD = 0xA5

every_width = pytest.mark.parametrize("dtype", WIDTHS, ids=lambda dtype: dtype.name)
every_init = pytest.mark.parametrize("init", INITS.values(), ids=INITS)
proven = settings(derandomize=True, deadline=None, max_examples=150)


def values(
    shape: int | Sequence[int], init: fi.Initializer, dtype: np.dtype[Any] = WIDTHS[0], threads: int = 1
) -> Array:
    return fi.array(shape, init, seed=7, name="w", dtype=dtype, threads=threads)


def filled(out: Array, init: fi.Initializer, **options: Any) -> Array:
    assert fi.fill(out, init, seed=7, name="w", **options) is out
    return out


def placed(
    shape: Sequence[int], dtype: np.dtype[Any], order: Sequence[int], steps: Sequence[int], padding: int, odd: int
) -> tuple[Array, Array]:
    """Bytes that all are GUARD, and an array of this shape in them.

    ``order`` lists the axes from the largest stride to the smallest, ``steps`` what each of them advances by (negative:
    it runs backwards), ``padding`` is left after each run of the last, and the first byte is at an ``odd`` place.
    """
    sizes = [shape[axis] * abs(steps[axis]) for axis in order]
    if sizes:
        sizes[-1] += padding
    memory = np.full(odd + math.prod(sizes) * dtype.itemsize + 64, GUARD, np.uint8)
    room: Array = np.ndarray(sizes, dtype, memory, odd)
    cut = tuple(slice(None, shape[axis] * abs(steps[axis]), abs(steps[axis])) for axis in order)
    inner = room[cut].transpose(np.argsort(order).astype(int)) if sizes else room
    view = inner[tuple(slice(None, None, int(math.copysign(1, step))) for step in steps)] if sizes else room
    assert view.shape == tuple(shape)
    return memory, view


def assert_only_written(memory: Array, view: Array) -> None:
    """Every byte outside of the view is still GUARD."""
    view.view(f"u{view.itemsize}")[...] = int.from_bytes(bytes([GUARD]) * view.itemsize, "little")
    assert (memory == GUARD).all()


LAYOUTS: dict[str, Callable[[int], tuple[Sequence[int], Sequence[int], int, int]]] = {
    "C": lambda n: (range(n), [1] * n, 0, 0),
    "Fortran": lambda n: (range(n)[::-1], [1] * n, 0, 0),
    "strided": lambda n: (range(n), [2] * (n - 1) + [3], 0, 0),
    "reversed": lambda n: (range(n), [-1] * n, 0, 0),
    "reversed Fortran": lambda n: (range(n)[::-1], [-2] * n, 1, 0),
    "misaligned": lambda n: (range(n), [1] * n, 0, 1),
    "misaligned Fortran": lambda n: (range(n)[::-1], [1] * n, 0, 3),
    "padded rows": lambda n: (range(n), [1] * n, 5, 0),
    "transposed": lambda n: ([*range(n - 2), n - 1, n - 2], [1] * n, 0, 0),
    "channels last": lambda n: ([0, *range(2, n), 1], [1] * n, 0, 0),
}


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 2 * SPAN + 5), (70, 33, 41), (2, 65, 14, 9)], ids=str)
def test_same_values_in_any_memory(shape: tuple[int, ...], layout: Callable[[int], Any], dtype: np.dtype[Any]) -> None:
    memory, view = placed(shape, dtype, *layout(len(shape)))
    filled(view, INITS["truncated"])
    assert_same(view, values(shape, INITS["truncated"], dtype))
    assert_only_written(memory, view)


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """A tensor's shape, and the offset and shape of a region of it."""
    axes = draw(st.integers(1, 4))
    whole = [draw(st.integers(1, 9)) for _ in range(axes)]
    whole[draw(st.integers(0, axes - 1))] = draw(st.sampled_from([3, 70, SPAN // 4, SPAN + 9, TILE + 5]))
    offset = [draw(st.integers(0, size - 1)) for size in whole]
    return (
        tuple(whole),
        tuple(offset),
        tuple(draw(st.integers(0, size - at)) for size, at in zip(whole, offset, strict=True)),
    )


@proven
@given(st.data(), regions(), st.sampled_from(DTYPES), st.sampled_from(["normal", "truncated"]))
def test_a_region_is_a_slice_of_the_whole_in_any_memory(
    data: st.DataObject,
    region: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    dtype: np.dtype[Any],
    distribution: str,
) -> None:
    whole, offset, shape = region
    order = data.draw(st.permutations(range(len(shape))))
    steps = data.draw(st.lists(st.sampled_from([1, -1, 2, -3]), min_size=len(shape), max_size=len(shape)))
    memory, view = placed(shape, dtype, order, steps, data.draw(st.integers(0, 2)), data.draw(st.integers(0, 7)))
    filled(view, INITS[distribution], global_shape=whole, global_offset=offset)
    here = tuple(slice(at, at + size) for at, size in zip(offset, shape, strict=True))
    assert_same(view, values(whole, INITS[distribution], dtype)[here])
    assert_only_written(memory, view)


def test_the_checks_of_this_file_can_fail() -> None:
    memory, view = placed((3, 4), WIDTHS[0], (1, 0), (-2, 1), 1, 1)
    memory[0] = 0
    with pytest.raises(AssertionError):
        assert_only_written(memory, view)
    with pytest.raises(AssertionError):
        assert_same(np.zeros(2, np.float32), -np.zeros(2, np.float32))
    with pytest.raises(AssertionError):
        assert_same(values(8, INITS["normal"])[1:], values(7, INITS["normal"]))


@every_dtype
def test_memory_mapped(dtype: np.dtype[Any], tmp_path: Path) -> None:
    mapped: Array = np.memmap(tmp_path / "w", dtype, "w+", offset=2, shape=(130, 70))
    filled(mapped, INITS["truncated"]).flush()  # type: ignore[attr-defined]
    stored = np.frombuffer((tmp_path / "w").read_bytes(), dtype, offset=2).reshape(130, 70)
    assert_same(stored, values((130, 70), INITS["truncated"], dtype))


@every_dtype
def test_no_axes_and_no_elements(dtype: np.dtype[Any]) -> None:
    assert_same(filled(np.empty((), dtype), INITS["truncated"]), values(1, INITS["truncated"], dtype)[0:1].reshape(()))
    for shape in [(0,), (3, 0), (0, 4, 2)]:
        assert filled(np.empty(shape, dtype), fi.normal()).shape == shape
        assert filled(np.empty(shape, dtype), fi.zeros()).shape == shape
    assert values((0, 4), fi.he_normal(), dtype).shape == (0, 4)


LENGTHS = [
    *range(1, GROUP + 7),
    *range(SPAN - 5, SPAN + 6),
    *range(SPAN + GROUP - 1, SPAN + GROUP + 2),
    *range(2 * SPAN - 1, 2 * SPAN + 2),
    5 * SPAN + 3,
    *range(TILE - 2, TILE + 3),
]


@every_dtype
@every_init
def test_a_longer_tensor_begins_like_a_shorter_one(init: fi.Initializer, dtype: np.dtype[Any]) -> None:
    longest = values(TILE + SPAN, init, dtype)
    for length in LENGTHS:
        assert_same(values(length, init, dtype), longest[:length])


@every_width
@every_init
def test_pieces_make_the_whole(init: fi.Initializer, dtype: np.dtype[Any]) -> None:
    """Every element alone, retries and all: nothing depends on a neighbour."""
    whole = values(3 * GROUP, init, dtype)
    alone = [filled(np.empty(1, dtype), init, global_shape=whole.shape, global_offset=(k,)) for k in range(whole.size)]
    assert_same(np.concatenate(alone), whole)


@every_width
@pytest.mark.parametrize("distribution", ["normal", "truncated", "tail"])
@pytest.mark.parametrize("middle", [1 << 33, 1 << 34, 1 << 35, MOST_ELEMENTS - SPAN], ids=math.log2)
def test_far_into_a_huge_tensor(middle: int, distribution: str, dtype: np.dtype[Any]) -> None:
    """Where the block's number passes 32 bits, and up to the last element."""
    start, size = middle - SPAN, 2 * SPAN
    whole = filled(np.empty(size, dtype), INITS[distribution], global_shape=[MOST_ELEMENTS], global_offset=[start])
    for at in (0, 1, SPAN - 3, SPAN - 2, SPAN - 1, SPAN, SPAN + 1, SPAN + 2, size - 3):
        piece = np.empty(3, dtype)
        filled(piece, INITS[distribution], global_shape=[MOST_ELEMENTS], global_offset=[start + at])
        assert_same(piece, whole[at : at + 3])


@every_dtype
@pytest.mark.parametrize("distribution", ["normal", "truncated"])
@pytest.mark.parametrize("odd", [0, 3])
def test_storing_past_the_cache_changes_nothing(odd: int, distribution: str, dtype: np.dtype[Any]) -> None:
    edge = STREAMING_BYTES // dtype.itemsize
    plain = [
        filled(np.empty(some, dtype), INITS[distribution], global_shape=[edge + 3], global_offset=[at])
        for at, some in ((0, edge // 2), (edge // 2, edge - edge // 2 + 3))
    ]
    expected = np.concatenate(plain)
    for length in (edge - 3, edge - 1, edge, edge + 1, edge + 3):
        memory, view = placed((length,), dtype, (0,), (1,), 0, odd)
        assert_same(filled(view, INITS[distribution]), expected[:length])
        assert_only_written(memory, view)


def test_padded_rows_past_the_cache() -> None:
    memory, view = placed((1100, 1031), WIDTHS[0], (0, 1), (1, 1), 7, 4)
    assert view.nbytes > STREAMING_BYTES
    filled(view, INITS["normal"])
    parts = [filled(np.empty((100, 1031), np.float32), INITS["normal"], global_shape=view.shape, global_offset=(k, 0))
             for k in range(0, 1100, 100)]  # fmt: skip
    assert_same(view, np.concatenate(parts))
    assert_only_written(memory, view)


@every_dtype
@every_init
def test_threads_change_nothing(init: fi.Initializer, dtype: np.dtype[Any]) -> None:
    alone = values((417, 1031), init, dtype)
    for threads in (2, 3, 8):
        assert_same(values((417, 1031), init, dtype, threads), alone)
        assert_same(filled(np.empty(alone.shape, dtype, order="F"), init, threads=threads), alone)


def test_seed_name_and_law_matter() -> None:
    drawn = [
        fi.array(64, init, seed=seed, name=name).tobytes()
        for init in (INITS["uniform"], INITS["normal"])
        for seed in (0, 1, 1 << 32, (1 << 64) - 1)
        for name in (0, 1, (1 << 63) - 1, "", "w", "ω")
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_shard_gets_the_law_of_the_whole_tensor() -> None:
    whole = values((96, 160), fi.he_normal())
    shard = filled(np.empty((48, 40), np.float32), fi.he_normal(), global_shape=(96, 160), global_offset=(48, 80))
    assert_same(shard, whole[48:, 80:120])
    corner = filled(np.empty((48, 40), np.float32), fi.he_normal(), global_shape=(96, 160))
    assert_same(corner, whole[:48, :40])
    assert corner[0, 0] != filled(np.empty((48, 40), np.float32), fi.he_normal())[0, 0]  # other fans, another std


def test_numpy_integers_are_integers() -> None:
    shape: Any = (np.int64(4), np.int64(4))
    options: dict[str, Any] = {"seed": np.uint64(7), "name": np.int64(3)}
    options |= {"global_shape": np.array(shape), "global_offset": np.array([2, 2])}
    shard = fi.fill(np.empty((2, 2), np.float32), fi.normal(), **options)
    assert_same(shard, fi.array(shape, fi.normal(), seed=7, name=3)[2:, 2:])


@proven
@given(st.integers(0, (1 << 54) - 5000), st.integers(0, 4999), st.data())
def test_words_in_pieces(start: int, count: int, data: st.DataObject) -> None:
    whole = fi.words(count, seed=3, name="w", start=start)
    assert whole.dtype == np.uint32
    cut = data.draw(st.integers(0, count))
    pieces = fi.words(cut, seed=3, name="w", start=start), fi.words(count - cut, seed=3, name="w", start=start + cut)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_words_by_threads_and_what_a_uniform_makes_of_them() -> None:
    words = fi.words(3_000_001, seed=7, name="w", threads=1)
    np.testing.assert_array_equal(fi.words(3_000_001, seed=7, name="w", threads=3), words)
    expected = ((words >> 8) + 0.5) * 2.0**-24
    np.testing.assert_array_equal(values(words.size, fi.uniform()), expected.astype(np.float32))


INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)] + [np.dtype(bool)]


@pytest.mark.parametrize("dtype", [*DTYPES, *INTEGERS], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_constants_of_any_dtype(layout: Callable[[int], Any], dtype: np.dtype[Any]) -> None:
    memory, view = placed((5, 6, 7), dtype, *layout(3))
    assert (filled(view, fi.ones()) == 1).all()
    assert (filled(view, fi.zeros()) == 0).all()
    assert_only_written(memory, view)


@pytest.mark.parametrize("dtype", [*DTYPES, np.dtype(np.int8)], ids=lambda dtype: dtype.name)
def test_constants_are_rounded_once_and_in_every_task(dtype: np.dtype[Any]) -> None:
    value = -3.0 if dtype.kind == "i" else 0.1
    size = 2 * TASK_BYTES // dtype.itemsize + 5
    constant = fi.array(size, fi.constant(value), seed=0, name=0, dtype=dtype, threads=2)
    first = np.float64(value) if dtype == np.float64 else np.float32(value)
    assert (constant == np.asarray(first).astype(dtype)).all()


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(0.5, np.int32), (128, np.int8), (-1, np.uint8), (2, np.bool_), (2.0**31, np.int32), (2.0**63, np.int64),
     (2.0**64, np.uint64), (65536.0, np.float16), (3.5e38, np.float32), (3.4e38, ml_dtypes.bfloat16)],
)  # fmt: skip
def test_a_constant_that_the_dtype_does_not_have(value: float, dtype: Any) -> None:
    out = np.ones(3, dtype)
    with pytest.raises(ValueError, match=r"value|mean"):
        fi.fill(out, fi.constant(value), seed=0, name=0)
    assert (out == 1).all()


def frozen(out: Array) -> Array:
    out.flags.writeable = False
    return out


ROOM = np.ones((4, 6), np.float32)
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "out: list": ({"out": [0.0, 1.0]}, TypeError, "out"),
    "out: scalar": ({"out": np.float32(1)}, TypeError, "out"),
    "out: object": ({"out": np.ones((4, 6), object)}, TypeError, "out.*object"),
    "out: complex": ({"out": np.ones((4, 6), np.complex64)}, TypeError, "out.*complex64"),
    "out: text": ({"out": np.full((4, 6), "a")}, TypeError, "out"),
    "out: times": ({"out": np.ones((4, 6), "m8[s]")}, TypeError, "out"),
    "out: records": ({"out": np.ones((4, 6), "f4,f4")}, TypeError, "out"),
    "out: long double": ({"out": np.ones((4, 6), np.longdouble)}, TypeError, "out.*longdouble|out.*float128"),
    "out: swapped bytes": ({"out": np.ones((4, 6), ">f4")}, TypeError, "out.*native byte order"),
    "out: eight bits": ({"out": np.ones((4, 6), ml_dtypes.float8_e5m2)}, TypeError, "out.*float8"),
    "out: integers": ({"out": np.ones((4, 6), np.int32)}, TypeError, "out.*int32"),
    "out: booleans": ({"out": np.ones((4, 6), bool)}, TypeError, "out.*bool"),
    "out: read-only": ({"out": frozen(np.ones((4, 6), np.float32))}, ValueError, "out.*read-only"),
    "out: broadcast": (
        {"out": np.lib.stride_tricks.as_strided(np.ones(6, np.float32), (4, 6), (0, 4))},
        ValueError,
        "out.*overlap",
    ),
    "init: none": ({"init": None}, TypeError, "init"),
    "init: factory": ({"init": fi.he_normal}, TypeError, "init"),
    "init: distribution": ({"init": fi.Normal(0.0, 1.0)}, TypeError, "init"),
    "init: fans of one axis": ({"out": np.ones(24, np.float32), "init": fi.he_normal()}, ValueError, "fan.*two axes"),
    "init: layout": ({"init": fi.he_normal(layout="NOI")}, ValueError, "layout"),
    "init: groups": ({"init": fi.he_normal(groups=3)}, ValueError, "groups"),
    "seed: negative": ({"seed": -1}, ValueError, "seed.*-1"),
    "seed: large": ({"seed": 1 << 64}, ValueError, "seed.*18446744073709551616"),
    "seed: real": ({"seed": 1.5}, TypeError, "seed.*1.5"),
    "seed: boolean": ({"seed": True}, TypeError, "seed.*True"),
    "seed: none": ({"seed": None}, TypeError, "seed.*None"),
    "seed: text": ({"seed": "1"}, TypeError, "seed.*'1'"),
    "name: negative": ({"name": -1}, ValueError, "name.*-1"),
    "name: large": ({"name": 1 << 63}, ValueError, "name.*9223372036854775808"),
    "name: half a surrogate": ({"name": "\ud800"}, ValueError, "name"),
    "name: none": ({"name": None}, TypeError, "name.*None"),
    "name: real": ({"name": 1.0}, TypeError, "name.*1.0"),
    "name: boolean": ({"name": False}, TypeError, "name.*False"),
    "name: bytes": ({"name": b"w"}, TypeError, "name.*b'w'"),
    "shard: offset alone": ({"global_offset": (0, 0)}, ValueError, "global_offset needs a global_shape"),
    "shard: axes": ({"global_shape": (24,)}, ValueError, "global_shape.*2 axes"),
    "shard: offset's axes": ({"global_shape": (8, 8), "global_offset": (0,)}, ValueError, "global_offset.*2 axes"),
    "shard: too large": ({"global_shape": (4, 5)}, ValueError, "global_shape"),
    "shard: past the end": ({"global_shape": (4, 7), "global_offset": (0, 2)}, ValueError, "global_offset"),
    "shard: before": ({"global_shape": (8, 8), "global_offset": (0, -1)}, ValueError, "global_offset"),
    "shard: one number": ({"global_shape": 24}, TypeError, "global_shape"),
    "shard: real": ({"global_shape": (4.0, 6.0)}, TypeError, "global_shape"),
    "shard: real offset": ({"global_shape": (4, 6), "global_offset": (0.0, 0.0)}, TypeError, "global_offset"),
    "shard: huge": ({"global_shape": (1 << 26, (1 << 26) + 1)}, ValueError, r"2\*\*52"),
    "threads: zero": ({"threads": 0}, ValueError, "threads.*0"),
    "threads: negative": ({"threads": -1}, ValueError, "threads.*-1"),
    "threads: real": ({"threads": 1.5}, TypeError, "threads.*1.5"),
    "threads: boolean": ({"threads": True}, TypeError, "threads.*True"),
    "progress: number": ({"progress": 1}, TypeError, "progress.*1"),
    "dtype: no value in the interval": (
        {"out": np.ones(8, ml_dtypes.bfloat16), "init": fi.uniform(1.001, 1.002)},
        ValueError,
        "no bfloat16 value",
    ),
    "dtype: bound": ({"out": np.ones(8, np.float16), "init": fi.uniform(0.0, 1e5)}, ValueError, "100000.*float16"),
    "dtype: mean": ({"out": np.ones(8, np.float16), "init": fi.normal(7e4)}, ValueError, "mean.*float16"),
    "dtype: std": ({"init": fi.normal(std=1e39)}, ValueError, "std.*float32"),
    "dtype: tails": ({"out": np.ones(8, np.float16), "init": fi.normal(std=1e4)}, ValueError, "largest.*float16"),
    "dtype: steps": ({"init": fi.uniform(0.0, 1e-35)}, ValueError, "too narrow for float32"),
}


@pytest.mark.parametrize(("changes", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_a_byte_is_written(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {"out": ROOM, "init": fi.normal(), "seed": 0, "name": "w"} | changes
    before = np.array(arguments["out"])
    with pytest.raises(error, match=message):
        fi.fill(**arguments)
    assert (np.array(arguments["out"]) == before).all()


BAD_CALLS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "array: negative size": (lambda: fi.array((2, -1), fi.normal(), seed=0, name=0), ValueError, "shape.*-1"),
    "array: real size": (lambda: fi.array((2, 1.5), fi.normal(), seed=0, name=0), TypeError, "shape"),  # type: ignore[arg-type]
    "array: integers": (lambda: fi.array(2, fi.normal(), seed=0, name=0, dtype=int), TypeError, "int64"),
    "array: unknown dtype": (
        lambda: fi.array(2, fi.normal(), seed=0, name=0, dtype="float7"),
        TypeError,
        "dtype.*float7",
    ),
    "array: complex": (lambda: fi.array(2, fi.zeros(), seed=0, name=0, dtype="complex64"), TypeError, "complex64"),
    "array: no seed": (lambda: fi.array(2, fi.normal(), name=0), TypeError, "seed"),  # type: ignore[call-arg]
    "array: no name": (lambda: fi.array(2, fi.normal(), seed=0), TypeError, "name"),  # type: ignore[call-arg]
    "array: seed": (lambda: fi.array(2, fi.normal(), seed=-1, name=0), ValueError, "seed"),
    "array: threads": (lambda: fi.array(2, fi.normal(), seed=0, name=0, threads=0), ValueError, "threads"),
    "words: negative": (lambda: fi.words(-1, seed=0, name=0), ValueError, "count must be"),
    "words: start": (lambda: fi.words(1, seed=0, name=0, start=-1), ValueError, "start must be"),
    "words: end": (lambda: fi.words(1, seed=0, name=0, start=1 << 54), ValueError, "start=18014398509481984"),
    "words: real": (lambda: fi.words(1.5, seed=0, name=0), TypeError, "count"),  # type: ignore[arg-type]
    "words: seed": (lambda: fi.words(1, seed=1 << 64, name=0), ValueError, "seed"),
    "words: name": (lambda: fi.words(1, seed=0, name=-1), ValueError, "name"),
    "words: threads": (lambda: fi.words(1, seed=0, name=0, threads=0), ValueError, "threads"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "²"])
def test_a_bad_number_of_threads_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINIT_NUM_THREADS", text)
    out = np.ones(LEAST_TASK_BYTES, np.float32)  # so large that threads share it: a smaller one does not ask
    with pytest.raises(ValueError, match=f"FASTINIT_NUM_THREADS.*{text}"):
        fi.fill(out, fi.normal(), seed=0, name=0)
    assert (out == 1).all()
