"""Whatever the public functions are given: a result, or one line of what is wrong, in bounded time and memory."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import resource
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit.verification.checkpoints import verify_tensors

# MemoryError where a valid request is for more than there is; nothing else may reach a caller
REFUSALS = (TypeError, ValueError, OSError, MemoryError)
MOST_MEMORY = 200 << 20  # bytes that all examples of a test may add to the process's peak

# arbitrary things, and near misses
JUNK: list[Any] = [
    None, True, False, "", "x", "\x1b[2J\n", "nan", b"3", 1.5, -0.0, math.nan, math.inf, -math.inf, 1e308, 5e-324,
    1e-300, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 2**1023, 10**400, -(10**400), 1j, [], [1], [None], {3},
    {"a": 1}, (), object(), int, len, np.float32(0.5), np.float64("nan"), np.int64(3), np.uint64(2**64 - 1),
    np.bool_(True), np.array(2), np.array([1, 2]), np.array("x"), np.zeros(0), np.ma.array([1.0], mask=[True]),
    np.datetime64("2020-01-01"), [[[]]],
    "i4,,,", "1" * 5000, "(" * 5000, "he_normal()", "normal(std=" + "-" * 900 + "1)", range(3), itertools.repeat, b"",
]  # fmt: skip
SIZES = [0, 1, 2, 3, 7, 2**53, 2**62, 2**63 - 1, 2**63, 10**400]  # small, or more than any tensor may have
REALS = [0, 0.0, -0.0, 1, -1.0, 0.02, 2.5, 1e-300, 1e300, 1e-45, 3e38, -2.0, 4.0, 38.0, 5e-324, np.float32(0.1)]
LAYOUTS = ["OI...", "...IO", "NOI", "IOO", "HWIO", "OI", "O", "...", "oi", "O" * 70, "OI\n", "......"]
NAMES = ["relu", "leaky_relu", "swish", "tanh", "gelu", "Relu", "conv1d", ""]


def shapes() -> st.SearchStrategy[Any]:
    few = st.lists(st.sampled_from(SIZES), max_size=4)
    return st.one_of(
        few, few.map(tuple), few.map(np.array), st.sampled_from([(1,) * 70, 5]), st.builds(itertools.count)
    )


def inits() -> st.SearchStrategy[Any]:
    drawn = [fi.normal(), fi.uniform(-1, 1), fi.he_normal(), fi.truncated_normal(lower=3.0, upper=4.0)]
    whole = [
        fi.orthogonal(),
        fi.sparse(0.5),
        fi.eye(),
        fi.dirac(),
        fi.delta_orthogonal(),
        fi.sinusoidal(),
        fi.table("0 1"),
    ]
    return st.sampled_from([*drawn, *whole, fi.zeros(), fi.constant(2**53 + 1), fi.Normal(0, 1), fi.Constant(0)])


def buffers() -> st.SearchStrategy[Any]:
    dtypes = [
        np.float16,
        ml_dtypes.bfloat16,
        np.float32,
        np.float64,
        np.int8,
        bool,
        complex,
        "U3",
        object,
        ">f4",
        "i4,f4",
    ]

    def made(dtype: Any, shape: tuple[int, ...], view: int) -> Any:
        array = np.zeros(shape, dtype)
        if view == 1:
            array = array[..., ::-1] if array.ndim else array
        elif view == 2 and array.ndim:
            array = np.broadcast_to(array, (3, *array.shape))
        elif view == 3:
            array.flags.writeable = False
        return array

    shape = st.lists(st.integers(0, 6), max_size=4).map(tuple)
    return st.builds(made, st.sampled_from(dtypes), shape, st.integers(0, 4))


# what an argument of this name is usually given
USUAL: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["shape", "global_shape", "global_offset"], shapes()),
    **dict.fromkeys(["init", "init_or_distribution", "bias"], inits()),
    **dict.fromkeys(["out", "array"], buffers()),
    **dict.fromkeys(["seed", "groups", "depth", "width", "size"], st.sampled_from(SIZES)),
    **dict.fromkeys(["batch", "kernel", "start", "count"], st.sampled_from(SIZES)),
    **dict.fromkeys(["residual", "batch_norm", "layer_norm", "transposed"], st.booleans()),
    "name": st.one_of(st.text(max_size=8), st.sampled_from(SIZES)),
    "dtype": st.sampled_from(["float32", "bfloat16", "float16", "float64", "int8", "bool", "i4,,,", "U3", "O"]),
    "layout": st.sampled_from(LAYOUTS),
    "style": st.sampled_from(["vaswani", "marian", "whisper", "Whisper"]),
    "mode": st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg", "fan"]),
    "distribution": st.sampled_from(["uniform", "normal", "truncated_normal", ""]),
    **dict.fromkeys(["nonlinearity", "activation"], st.sampled_from([*NAMES, abs, lambda z: "x", lambda z: math.nan])),
    "bounds": st.sampled_from(["sigma", "absolute"]),
    "std_of": st.sampled_from(["parent", "result"]),
    "device": st.sampled_from(["cpu", "tpu"]),
    "threads": st.sampled_from([None, 1, 2, 3, 10**400]),
    "progress": st.sampled_from([None, False, lambda *_: None]),
    "text": st.one_of(st.text(max_size=60), st.sampled_from(["normal(std=1)", "he_normal", "eye(True)"])),
    "names": st.sampled_from([None, {"n": 3}]),
}  # fmt: skip
PUBLIC: dict[str, Callable[..., Any]] = {
    name: made
    for name in fi.__all__
    if callable(made := getattr(fi, name))
    and name not in ("warmup", "Propagation", "Recommendation", "Report", "Result")
}
PUBLIC |= {"verify_tensors": lambda tensors, **options: verify_tensors(tensors, **options)}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """A public function, and arguments of which most are of their kind."""
    name = draw(st.sampled_from(sorted(PUBLIC)))
    if name == "verify_tensors":
        pair = st.tuples(st.one_of(buffers(), st.sampled_from(JUNK)), st.one_of(inits(), st.sampled_from(JUNK)))
        return name, (draw(st.dictionaries(st.text(max_size=5), pair, max_size=3)),), {}
    arguments: dict[str, Any] = {}
    for one in inspect.signature(PUBLIC[name]).parameters.values():
        if one.default is not one.empty and draw(st.integers(0, 2)):
            continue
        odd = st.sampled_from(JUNK)
        usual = USUAL.get(one.name, st.sampled_from(REALS))
        arguments[one.name] = draw(odd if draw(st.integers(0, 7)) == 0 else usual)
    return name, (), arguments


def one_line(action: Callable[[], Any]) -> None:
    """Do it; what it raises must be one of `REFUSALS`, with a line of text."""
    try:
        action()
    except REFUSALS as error:
        text = str(error)
        assert text.isprintable(), ascii(text)
        assert 0 < len(text) < 1500, text


def attempt(call: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    name, positional, named = call
    with np.errstate(all="ignore"), contextlib.redirect_stdout(sys.stderr):
        made: Any = None

        def act() -> None:
            nonlocal made
            made = PUBLIC[name](*positional, **named)

        one_line(act)
        if isinstance(made, fi.Initializer):
            assert fi.parse(repr(made)) == made
            one_line(lambda: made.distribution((3, 4)))
            one_line(lambda: fi.array((3, 4), made, seed=0, name=0, dtype="float16"))


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def quietly(examples: int, **more: Any) -> Any:
    return settings(
        derandomize=True, max_examples=examples, suppress_health_check=list(HealthCheck), print_blob=False, **more
    )


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """What is loaded once is no call's memory."""
    fi.warmup()
    for dtype in ("float32", "float16"):
        fi.verify(fi.array((300, 300), fi.normal(), seed=0, name=0, dtype=dtype), fi.normal())
    fi.propagate(fi.orthogonal(), depth=2, width=8, kernel=3)
    fi.recommend("gelu")


def test_calls_of_all_public_functions() -> None:
    before = peak()
    quietly(300, deadline=None)(given(calls())(attempt))()
    assert peak() - before < MOST_MEMORY


@pytest.mark.slow
def test_twenty_thousand_calls() -> None:
    """Four minutes; none may take more than 2 s."""
    before = peak()
    quietly(20_000, deadline=timedelta(seconds=2))(given(calls())(attempt))()
    assert peak() - before < MOST_MEMORY


@pytest.mark.parametrize(
    "call",
    [
        lambda: fi.array((2**63,), fi.zeros(), seed=0, name=0),
        lambda: fi.array({3}, fi.zeros(), seed=0, name=0),  # type: ignore[arg-type]
        lambda: fi.array((3,), fi.zeros(), seed=0, name=0, dtype="i4,,,"),
        lambda: fi.fill(np.zeros(3), fi.zeros(), seed=0, name=0, global_shape=itertools.count()),  # type: ignore[arg-type]
        lambda: fi.fill(np.zeros(3), fi.zeros(), seed=0, name=0, progress="yes"),  # type: ignore[arg-type]
        lambda: fi.warmup("yes"),  # type: ignore[arg-type]
        lambda: fi.normal(depth=10**400),
        lambda: fi.normal(depth=2**62, mup=1e308),
        lambda: fi.fans((10**400, 3)),
        lambda: fi.fans((2**40, 2**40)),
        lambda: fi.fans((3, 3), transposed=math.nan),  # type: ignore[arg-type]
        lambda: fi.gain("relu", "nonsense"),  # type: ignore[arg-type]
        lambda: fi.truncated_normal(std_of="result", lower=-1e-300, upper=1e-300),
        lambda: fi.propagate(fi.normal(), depth=10**400, width=3),
        lambda: fi.propagate(fi.normal(), depth=3, width=2**63),
        lambda: fi.propagate(fi.normal(), depth=3, width=3, residual="x"),  # type: ignore[arg-type]
        lambda: fi.propagate(fi.normal(), depth=60_000, width=1 << 20),
        lambda: fi.recommend("relu", residual="x"),  # type: ignore[arg-type]
        lambda: fi.recommend("relu", depth=10**400),
        lambda: fi.parse("normal(std=" + "(" * 10_000 + ")"),
        lambda: fi.parse("-" * 100_000 + "1"),
    ],
)  # fmt: skip
def test_what_once_was_a_traceback_a_hang_or_taken(call: Callable[[], Any]) -> None:
    with pytest.raises(REFUSALS) as caught:
        call()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
