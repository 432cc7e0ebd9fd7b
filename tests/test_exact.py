"""A value depends on what the contract names alone: not on what was filled before, nor on how the thread rounds."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.core import environment
from fastinit.core.environment import _exchange, _register, in_default, is_default
from fastinit.sampling.plan import overlaps
from tests.helpers import every_dtype, printed

# the same on both sides of an == of Python's, but not the same values
TWINS: list[tuple[fi.Initializer, fi.Initializer]] = [
    (fi.constant(0.0), fi.constant(-0.0)),
    (fi.zeros(), fi.constant(-0.0)),
    (fi.normal(0.0, 0.0), fi.normal(-0.0, 0.0)),
    (fi.uniform(0.0, 0.0), fi.uniform(-0.0, -0.0)),
    (fi.truncated_normal(0.0, 0.0), fi.truncated_normal(-0.0, 0.0)),
    (fi.eye(0.0), fi.eye(-0.0)),
    # distributions of different kinds whose finished scalars are the same four numbers
    (fi.uniform(0.0, 1.0), fi.truncated_normal(2.0**-24, 2.0**-25, 0.0, 1.0, bounds="absolute")),
]


@every_dtype
@pytest.mark.parametrize("twins", TWINS, ids=str)
def test_no_value_depends_on_what_was_filled_before(
    twins: tuple[fi.Initializer, fi.Initializer], dtype: np.dtype[Any]
) -> None:
    """Each alone in a fresh process, and both after each other in either order here."""

    def made(init: fi.Initializer, size: int) -> bytes:
        return fi.array((size, size), init, seed=0, name="w", dtype=dtype).tobytes()

    first, second = twins
    assert first != second
    assert len({first, second}) == 2
    pairs = [(made(first, 5), made(second, 5)), (made(second, 6), made(first, 6))[::-1]]
    for one, other in pairs:
        assert one != other
    assert made(first, 6)[: 5 * dtype.itemsize] != made(second, 6)[: 5 * dtype.itemsize]


@pytest.mark.parametrize("init", [one for twins in TWINS for one in twins], ids=repr)
def test_an_initializer_survives_being_written_down(init: fi.Initializer) -> None:
    for again in (pickle.loads(pickle.dumps(init)), copy.deepcopy(init), fi.parse(repr(init))):
        assert again == init
        assert hash(again) == hash(init)
        assert repr(again) == repr(init)


def test_equal_initializers_have_one_rule() -> None:
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(fi.normal(), resolve=fi.zeros().resolve)
    with pytest.raises(TypeError):
        fi.Initializer("normal", (), fi.zeros().resolve)  # type: ignore[call-arg]
    assert fi.Initializer("kaiming_normal", (("mode", "fan_out"),)) == fi.he_normal(mode="fan_out")
    with pytest.raises(ValueError, match="factory must be one of"):
        fi.Initializer("mine", ())
    assert fi.normal(std=2) == fi.normal(std=2.0)
    assert fi.he_normal(a=0) == fi.he_normal(a=0.0)
    assert fi.normal(std=1) == fi.normal() != fi.zeros()
    assert fi.Uniform(0.0, 1.0) != fi.Normal(0.0, 1.0)


LARGE = [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 2**31 - 1, 255, -1, 0, True]


@pytest.mark.parametrize("number", LARGE)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", "bool"])
def test_integers_stay_integers(dtype: str, number: int) -> None:
    limits = np.iinfo(dtype) if dtype != "bool" else None
    fits = int(number) in (0, 1) if limits is None else limits.min <= number <= limits.max
    if fits:
        found = fi.array(3, fi.constant(number), seed=0, name=0, dtype=dtype)
        assert found.tolist() == [number] * 3
        assert fi.verify(found, fi.constant(number)).passed
    else:
        with pytest.raises(ValueError, match="value must be one of"):
            fi.array(3, fi.constant(number), seed=0, name=0, dtype=dtype)


def test_numbers_that_are_not_the_integers_type() -> None:
    number: Any = np.uint64(2**64 - 1)
    assert fi.array(2, fi.constant(number), seed=0, name=0, dtype="uint64").tolist() == [2**64 - 1] * 2
    assert fi.array(2, fi.constant(3.0), seed=0, name=0, dtype="int8").tolist() == [3, 3]
    assert repr(fi.constant(2**53 + 1)) == "constant(value=9007199254740993)"
    assert fi.constant(2**53 + 1).distribution(()).mean == 2.0**53
    for fraction in (0.5, 1e300, -0.5):
        with pytest.raises(ValueError, match="value must be one of int64's"):
            fi.array(2, fi.constant(fraction), seed=0, name=0, dtype="int64")
    with pytest.raises(ValueError, match="finite"):
        fi.constant(10**400)


ENVIRONMENTS = {
    "down": 0x2000,
    "up": 0x4000,
    "toward zero": 0x6000,
    "flush": 0x8000,
    "zeros": 0x40,
    "-ffast-math": 0x8040,
}
HASHES = """
import hashlib, importlib.util, sys
spec = importlib.util.spec_from_file_location("environment", sys.argv[2])  # alone, before anything is computed
environment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(environment)
other, is_default = int(sys.argv[1]), environment.is_default
environment._exchange(environment._register()[1] | other)
import fastinit as fi
assert is_default() == (other == 0)
inits = [
    fi.constant(0.1), fi.constant(1e-40), fi.uniform(-0.3, 0.7), fi.uniform(-1e-30, 1e-30), fi.normal(0.1, 0.3),
    fi.normal(std=1e-5), fi.normal(std=1e-38), fi.truncated_normal(std=1e-3),
    fi.truncated_normal(0.1, 0.3, std_of="result"), fi.truncated_normal(lower=0.1, upper=0.3), fi.he_truncated_normal(),
    fi.truncated_normal(lower=3.1, upper=9.0), fi.xavier_uniform(gain=0.1), fi.eye(0.1), fi.sparse(0.3, std=0.3),
]
for init in inits:
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        out = fi.array((97, 1031), init, seed=1, name="w", dtype=dtype, threads=2)
        print(init, dtype, hashlib.sha256(out.tobytes()).hexdigest())
print(hashlib.sha256(fi.words(5000, seed=1, name="w").tobytes()).hexdigest())
assert is_default() == (other == 0)  # what the caller has set stays
"""


@functools.cache
def hashes(control: int) -> list[str]:
    return printed(HASHES, control, environment.__file__, warnings="default").splitlines()


@pytest.mark.skipif(_register()[1] != 0x1F80, reason="the other environments are written down for x86-64 alone")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_bit_depends_on_the_floating_point_environment(name: str) -> None:
    expected = hashes(0)
    assert len(expected) == 61
    assert hashes(ENVIRONMENTS[name]) == expected


@pytest.mark.skipif(_register()[1] != 0x1F80, reason="the other environments are written down for x86-64 alone")
@pytest.mark.parametrize("control", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_another_environment_is_seen_and_put_back(control: int) -> None:
    before = _exchange(_register()[1] | control)
    try:
        seen, inside, after = is_default(), in_default(is_default)(), is_default()
    finally:
        _exchange(before)
    assert (seen, inside, after) == (False, True, False)


HUGE = (1 << 20, 1 << 20)


@pytest.mark.parametrize(
    ("init", "whole"),
    [
        (fi.orthogonal(), HUGE),
        (fi.delta_orthogonal(), (*HUGE, 3)),
        (fi.sparse(0.5), (1 << 32, 1 << 20)),
        (fi.sparse(0.5, layout="IO"), (1 << 20, 1 << 32)),
    ],
    ids=str,
)
def test_a_matrix_that_needs_too_much_memory_leaves_the_buffer_as_it_was(
    init: fi.Initializer, whole: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux may promise memory that is not there, so the promise is bounded here as a machine's would be."""
    empty = np.empty

    def bounded(shape: Any, *more: Any, **options: Any) -> Any:
        if np.prod(shape, dtype=float) > 1 << 32:
            raise MemoryError("Unable to allocate")
        return empty(shape, *more, **options)

    out = np.full((2, 2, 3)[: len(whole)], 7, np.float32)
    monkeypatch.setattr(np, "empty", bounded)
    with pytest.raises(MemoryError, match=r"would need .* GB of memory at once"):
        fi.fill(out, init, seed=0, name="w", global_shape=whole)
    assert (out == 7).all()


@pytest.mark.parametrize("init", [fi.zeros(), fi.normal(), fi.eye(), fi.orthogonal()], ids=repr)
@pytest.mark.parametrize("hard", [False, True])
def test_masked_arrays_are_refused(init: fi.Initializer, hard: bool) -> None:
    out = np.ma.array(np.ones((2, 2), np.float32), mask=[[True, False], [False, False]], hard_mask=hard)
    with pytest.raises(TypeError, match=r"out must be a NumPy array without a mask, got MaskedArray"):
        fi.fill(out, init, seed=0, name="w")
    assert (out.data == 1).all()


class Stubborn(np.ndarray[Any, Any]):
    """An array that does not take what it is given."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store nothing."""


@pytest.mark.parametrize("init", [fi.zeros(), fi.normal(), fi.eye(), fi.orthogonal(), fi.sparse(0.5)], ids=repr)
def test_subclasses_are_filled_as_arrays(init: fi.Initializer) -> None:
    out = np.ones((4, 4), np.float32).view(Stubborn)
    assert fi.fill(out, init, seed=0, name="w") is out
    assert (np.asarray(out) == fi.array((4, 4), init, seed=0, name="w")).all()


def meet(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> bool:
    """Whether elements share bytes, by a list of all bytes."""
    starts = [
        sum(at * stride for at, stride in zip(place, strides, strict=True))
        for place in itertools.product(*map(range, shape))
    ]
    taken = [start + k for start in starts for k in range(size)]
    return len(set(taken)) < len(taken)


@settings(derandomize=True, deadline=None, max_examples=600)
@given(st.data())
def test_overlaps_are_found_and_nothing_else(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=axes, max_size=axes)))
    size = data.draw(st.sampled_from([1, 2, 4, 8]))
    strides = tuple(data.draw(st.lists(st.integers(-40, 40), min_size=axes, max_size=axes)))
    assert overlaps(shape, strides, size) == meet(shape, strides, size)


def test_an_array_whose_rows_interlock_is_filled() -> None:
    memory = np.zeros(12, np.float32)
    out = np.lib.stride_tricks.as_strided(memory, (3, 2), (8, 12))
    fi.fill(out, fi.normal(), seed=0, name="w")
    assert (out == fi.array((3, 2), fi.normal(), seed=0, name="w")).all()
    assert not overlaps((1 << 20, 1 << 20), (4, 4 << 20), 4)
    assert overlaps((1 << 20, 1 << 20), (4, 4), 4)
    assert overlaps((3, 0x7FFFFFFF), (0, 4), 4)
