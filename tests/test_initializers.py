"""Initializers: every layout by hand, the std of a truncated result, and text that is read but never run."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

import fastinit as fi
from fastinit.initializers.base import FACTORIES
from fastinit.initializers.connections import MODES
from fastinit.initializers.gains import GAINS as KNOWN
from fastinit.initializers.tables import table_of

INF = math.inf

# (shape, how it is read, fan_in, fan_out): inputs of one output unit, outputs that one input reaches; all by hand
LAYOUTS: dict[str, tuple[tuple[int, ...], dict[str, Any], int, int]] = {
    "dense": ((48, 20), {}, 20, 48),
    "dense, Keras": ((20, 48), {"layout": "...IO"}, 20, 48),
    "convolution": ((64, 3, 7, 5), {}, 3 * 35, 64 * 35),
    "convolution, Keras": ((7, 5, 3, 64), {"layout": "...IO"}, 3 * 35, 64 * 35),
    "convolution, explicit": ((7, 5, 3, 64), {"layout": "HWIO"}, 3 * 35, 64 * 35),
    "convolution, channels last": ((64, 7, 5, 3), {"layout": "O...I"}, 3 * 35, 64 * 35),
    "grouped": ((64, 8, 3, 3), {"groups": 4}, 8 * 9, 16 * 9),
    "depthwise": ((64, 1, 3, 3), {"groups": 64}, 9, 9),
    "depthwise, two outputs each": ((128, 1, 3, 3), {"groups": 64}, 9, 18),
    "grouped, JAX": ((3, 3, 8, 64), {"layout": "...IO", "groups": 4}, 8 * 9, 16 * 9),
    "transposed": ((32, 16, 4, 4), {"transposed": True}, 32 * 16, 16 * 16),
    "transposed, grouped": ((32, 16, 4, 4), {"transposed": True, "groups": 2}, 16 * 16, 16 * 16),
    "transposed, Keras": ((4, 4, 16, 32), {"transposed": True, "layout": "...IO"}, 32 * 16, 16 * 16),
    "stacked": ((8, 1024, 256), {"layout": "NOI"}, 256, 1024),
    "stacked, in before out": ((8, 256, 1024), {"layout": "NIO"}, 256, 1024),
    "stacked convolutions": ((8, 64, 3, 7, 5), {"layout": "NOI..."}, 3 * 35, 64 * 35),
    "convolution of one axis": ((64, 3, 5), {}, 3 * 5, 64 * 5),
    "convolution of three axes": ((64, 3, 2, 4, 5), {}, 3 * 40, 64 * 40),
    "convolution of three axes, Keras": ((2, 4, 5, 3, 64), {"layout": "...IO"}, 3 * 40, 64 * 40),
    "depthwise, JAX": ((3, 3, 1, 128), {"layout": "...IO", "groups": 64}, 9, 18),
    "depthwise, Keras": ((3, 3, 64, 2), {"layout": "HWNO"}, 9, 18),
    "depthwise, Keras, any field": ((5, 64, 2), {"layout": "...NO"}, 5, 10),
    "to the heads of an attention": ((48, 6, 8), {"layout": "IOO"}, 48, 48),
    "from the heads of an attention": ((6, 8, 40), {"layout": "IIO"}, 48, 40),
}
every_layout = pytest.mark.parametrize(("shape", "read", "fan_in", "fan_out"), LAYOUTS.values(), ids=LAYOUTS)
KINDS = ("uniform", "normal", "truncated_normal")


def check(distribution: fi.Distribution, kind: str, std: float) -> None:
    """The distribution is of this kind, has mean 0 and this std, and the bounds that belong to it."""
    assert distribution.mean == pytest.approx(0, abs=1e-15 * std)
    assert distribution.std == pytest.approx(std, rel=1e-14)
    if kind == "uniform":
        assert isinstance(distribution, fi.Uniform)
        assert distribution.support == pytest.approx((-math.sqrt(3) * std, math.sqrt(3) * std), rel=1e-14)
    elif kind == "normal":
        assert isinstance(distribution, fi.Normal)
    else:
        assert isinstance(distribution, fi.TruncatedNormal)
        parent = std / 0.87962566103423978
        assert distribution.parent_std == pytest.approx(parent, rel=1e-14)
        assert distribution.support == pytest.approx((-2 * parent, 2 * parent), rel=1e-14)


@every_layout
@pytest.mark.parametrize("kind", KINDS)
def test_the_formulas(kind: str, shape: tuple[int, ...], read: dict[str, Any], fan_in: int, fan_out: int) -> None:
    assert fi.fans(shape, **read) == (fan_in, fan_out)

    def distribution(family: str, **arguments: Any) -> fi.Distribution:
        return getattr(fi, f"{family}_{kind}")(**arguments, **read).distribution(shape)  # type: ignore[no-any-return]

    check(distribution("xavier", gain=5 / 3), kind, 5 / 3 * math.sqrt(2 / (fan_in + fan_out)))
    check(distribution("he"), kind, math.sqrt(2 / fan_in))
    check(distribution("he", mode="fan_out", nonlinearity="tanh"), kind, 5 / 3 / math.sqrt(fan_out))
    check(distribution("he", nonlinearity="leaky_relu", a=0.5), kind, math.sqrt(2 / 1.25 / fan_in))
    check(distribution("lecun"), kind, 1 / math.sqrt(fan_in))
    for mode, fan in zip(MODES, (fan_in, fan_out, (fan_in + fan_out) / 2, math.sqrt(fan_in * fan_out)), strict=True):
        check(fi.variance_scaling(1.7, mode, kind, **read).distribution(shape), kind, math.sqrt(1.7 / fan))  # type: ignore[arg-type]


def test_the_formulas_are_sharp() -> None:
    with pytest.raises(AssertionError):
        check(fi.he_normal().distribution((48, 20)), "normal", math.sqrt(2 / 48))
    with pytest.raises(AssertionError):
        check(fi.truncated_normal(std=0.1).distribution((48, 20)), "truncated_normal", 0.1)


@pytest.mark.parametrize("init", [fi.xavier_uniform(0), fi.xavier_normal(0), fi.xavier_truncated_normal(0),
                                  fi.variance_scaling(0), fi.normal(std=0), fi.truncated_normal(std=0),
                                  fi.truncated_normal(0, 0, 0, 1, bounds="absolute"), fi.uniform(0, 0)])  # fmt: skip
def test_nothing_to_spread(init: fi.Initializer) -> None:
    assert init.distribution((4, 6)).std == 0
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        assert (fi.array((4, 6), init, seed=0, name=0, dtype=dtype) == 0).all()
    shifted = fi.array(5, fi.truncated_normal(2.5, 0.0), seed=0, name=0)
    assert (shifted == 2.5).all()


BOUNDS = [(-2.0, 2.0), (-3.0, 3.0), (-0.5, 2.5), (0.5, INF), (-INF, -1.0), (-INF, 0.25), (3.0, 5.0),
          (-0.001, 0.002), (8.0, INF)]  # fmt: skip


@pytest.mark.parametrize("mean", [0.0, -1.3])
@pytest.mark.parametrize("std", [1.0, 0.02, 300.0])
@pytest.mark.parametrize(("lower", "upper"), BOUNDS)
def test_std_of_the_result_by_sigma(lower: float, upper: float, std: float, mean: float) -> None:
    distribution = fi.truncated_normal(mean, std, lower, upper, std_of="result").distribution((3,))
    assert isinstance(distribution, fi.TruncatedNormal)
    assert distribution.std == pytest.approx(std, rel=1e-12)
    assert distribution.parent_mean == mean
    assert distribution.bounds == pytest.approx((lower, upper), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("share", [1e-3, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("mean", "lower", "upper"),
    [(0.0, -2.0, 2.0), (0.0, -1.0, 3.0), (0.02, -0.04, 0.04), (5.0, 4.0, 4.5), (-1.0, 0.0, 0.3), (0.0, -INF, 1.0),
     (1.0, 2.0, INF)],
)  # fmt: skip
def test_std_of_the_result_by_absolute_bounds(mean: float, lower: float, upper: float, share: float) -> None:
    """A share of the most that is possible, a uniform's std; a half line has no most."""
    most = (upper - lower) / math.sqrt(12) if math.isfinite(upper - lower) else 2.0
    inside = lower <= mean <= upper
    std = share * most if inside or share > 0.1 else 0.2 * most  # an interval without the mean, so far off, underflows
    distribution = fi.truncated_normal(mean, std, lower, upper, bounds="absolute", std_of="result").distribution((3,))
    assert isinstance(distribution, fi.TruncatedNormal)
    assert distribution.std == pytest.approx(std, rel=1e-12)
    assert (distribution.parent_mean, distribution.support) == (mean, (lower, upper))


def test_the_elements_have_the_std_that_was_asked_for() -> None:
    drawn = fi.array(1_000_000, fi.truncated_normal(std=0.02, lower=-1, upper=1, std_of="result"), seed=0, name=0)
    assert drawn.std(dtype=np.float64) == pytest.approx(0.02, rel=0.004)  # 5 standard errors
    parent = fi.array(1_000_000, fi.truncated_normal(std=0.02, lower=-1, upper=1), seed=0, name=0)
    assert parent.std(dtype=np.float64) < 0.011


ERRORS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "result: a uniform's std": (
        lambda: fi.truncated_normal(0, 2 / math.sqrt(3), -2, 2, bounds="absolute", std_of="result"),
        ValueError,
        "std",
    ),
    "result: more": (lambda: fi.truncated_normal(0, 5, -2, 2, bounds="absolute", std_of="result"), ValueError, "std"),
    "result: almost": (
        lambda: fi.truncated_normal(0, 2 / math.sqrt(3) * (1 - 1e-15), -2, 2, bounds="absolute", std_of="result"),
        ValueError,
        "std",
    ),
    "std": (lambda: fi.normal(std=-1), ValueError, "std.*-1"),
    "std: NaN": (lambda: fi.truncated_normal(std=math.nan), ValueError, "std.*nan"),
    "mean": (lambda: fi.normal(INF), ValueError, "mean.*inf"),
    "mean: text": (lambda: fi.normal("0"), TypeError, "mean"),  # type: ignore[arg-type]
    "value: large": (lambda: fi.constant(10**400), ValueError, "value"),
    "value: array": (lambda: fi.constant(np.ones(2)), TypeError, "value"),  # type: ignore[arg-type]
    "bounds order": (lambda: fi.truncated_normal(lower=1, upper=1), ValueError, "lower"),
    "bounds NaN": (lambda: fi.truncated_normal(lower=math.nan), ValueError, "lower"),
    "bounds word": (lambda: fi.truncated_normal(bounds="absolut"), ValueError, "bounds.*'absolute'"),  # type: ignore[arg-type]
    "std_of": (lambda: fi.truncated_normal(std_of="child"), ValueError, "std_of.*'parent'"),  # type: ignore[arg-type]
    "underflow": (lambda: fi.truncated_normal(lower=39, upper=40), ValueError, "underflows"),
    "mean of no spread": (lambda: fi.truncated_normal(3, 0, -1, 1, bounds="absolute"), ValueError, "mean.*3"),
    "low": (lambda: fi.uniform(1, 0), ValueError, "low"),
    "gain": (lambda: fi.xavier_normal(-1), ValueError, "gain.*-1"),
    "scale": (lambda: fi.variance_scaling(-1), ValueError, "scale.*-1"),
    "mode": (lambda: fi.he_normal(mode="fan_inn"), ValueError, "mode.*did you mean 'fan_in'"),  # type: ignore[arg-type]
    "distribution": (lambda: fi.variance_scaling(1, "fan_in", "cauchy"), ValueError, "distribution"),  # type: ignore[arg-type]
    "nonlinearity": (lambda: fi.he_normal(nonlinearity="rellu"), ValueError, "nonlinearity.*'relu'"),
    "a": (lambda: fi.he_normal(a=math.nan), ValueError, "a must"),
    "layout": (lambda: fi.he_normal(layout="OHH"), ValueError, "layout.*'OHH'"),
    "layout: kind": (lambda: fi.he_normal(layout=None), TypeError, "layout"),  # type: ignore[arg-type]
    "groups": (lambda: fi.he_normal(groups=0), ValueError, "groups.*0"),
    "groups: kind": (lambda: fi.he_normal(groups=1.0), TypeError, "groups.*1.0"),  # type: ignore[arg-type]
    "transposed": (lambda: fi.he_normal(transposed=1), TypeError, "transposed.*1"),  # type: ignore[arg-type]
    "one axis": (lambda: fi.he_normal().distribution((5,)), ValueError, "two axes"),
    "layout of other axes": (lambda: fi.he_normal(layout="HWIO").distribution((5, 5)), ValueError, "layout.*HWIO"),
    "too few axes": (lambda: fi.he_normal(layout="NOI...").distribution((5, 5)), ValueError, "layout.*NOI"),
    "depth": (lambda: fi.normal(depth=0), ValueError, "depth.*0"),
    "depth: kind": (lambda: fi.he_normal(depth=2.0), TypeError, "depth.*2.0"),  # type: ignore[arg-type]
    "mup": (lambda: fi.truncated_normal(mup=0), ValueError, "mup.*0"),
    "mup: NaN": (lambda: fi.lecun_normal(mup=math.nan), ValueError, "mup.*nan"),
    "nonlinearity: a function": (lambda: fi.he_normal(nonlinearity=np.tanh), TypeError, "name.*variance_scaling"),  # type: ignore[arg-type]
    "a layout without outputs": (lambda: fi.he_normal(layout="IN"), ValueError, "layout.*'IN'"),
    "groups of channels": (lambda: fi.he_normal(groups=3).distribution((64, 1, 3, 3)), ValueError, "groups.*64"),
}


@pytest.mark.parametrize(("make", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_bad_arguments(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_aliases_are_the_same_objects(kind: str) -> None:
    for alias, name in (("glorot", "xavier"), ("kaiming", "he")):
        assert getattr(fi, f"{alias}_{kind}") is getattr(fi, f"{name}_{kind}")
        assert fi.parse(f"{alias}_{kind}") == fi.parse(f"{name}_{kind}()")


GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 1.6666666666666667, "relu": 1.4142135623730951,
    "leaky_relu": 1.4141428569978354, "selu": 0.75,
}  # fmt: skip


def test_gains() -> None:
    for name, value in GAINS.items():
        assert fi.gain(name) == value
    assert fi.gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04), rel=1e-15)
    assert fi.gain("leaky_relu", 0) == fi.gain("relu")
    for name, param, message in (("relux", None, "'relu'"), ("leaky_relu", math.nan, "slope")):
        with pytest.raises(ValueError, match=message):
            fi.gain(name, param)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def elu(x: Any) -> Any:
    return x if x > 0 else mp.expm1(x)


def relu6(x: Any) -> Any:
    return min(max(x, mp.mpf(0)), mp.mpf(6))


# name: the function in mpmath's arithmetic, and its kinks
NAMED: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "celu": (elu, [0]),
    "elu": (elu, [0]),
    "gelu": (lambda x: x * mp.ncdf(x), []),
    "gelu_tanh": (lambda x: x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))), []),
    "hard_sigmoid": (lambda x: relu6(x + 3) / 6, [-3, 3]),
    "hardsigmoid": (lambda x: relu6(x + 3) / 6, [-3, 3]),
    "hard_swish": (lambda x: x * relu6(x + 3) / 6, [-3, 3]),
    "hardswish": (lambda x: x * relu6(x + 3) / 6, [-3, 3]),
    "hard_tanh": (lambda x: min(max(x, mp.mpf(-1)), mp.mpf(1)), [-1, 1]),
    "hardtanh": (lambda x: min(max(x, mp.mpf(-1)), mp.mpf(1)), [-1, 1]),
    "log_sigmoid": (lambda x: -softplus(-x), []),
    "logsigmoid": (lambda x: -softplus(-x), []),
    "mish": (lambda x: x * mp.tanh(softplus(x)), []),
    "quick_gelu": (lambda x: x * sigmoid(mp.mpf("1.702") * x), []),
    "relu6": (relu6, [0, 6]),
    "silu": (lambda x: x * sigmoid(x), []),
    "swish": (lambda x: x * sigmoid(x), []),
    "softplus": (softplus, []),
    "softsign": (lambda x: x / (1 + abs(x)), [0]),
    "squared_relu": (lambda x: max(x, mp.mpf(0)) ** 2, [0]),
    "tanhshrink": (lambda x: x - mp.tanh(x), []),
    "relu": (lambda x: max(x, mp.mpf(0)), [0]),
    "linear": (lambda x: x, []),
}
OTHERS: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "a step": (lambda x: mp.mpf(x > 0.3), [0.3]),
    "abs": (abs, [0]),
    "sign": (mp.sign, [0]),
    "exp": (mp.exp, []),
    "tanh": (mp.tanh, []),
    "a late kink": (lambda x: max(x - mp.mpf(4.123), mp.mpf(0)), [4.123]),
    "a narrow step": (lambda x: mp.mpf(0.05 < x < 0.1), [0.05, 0.1]),
    "steps": (mp.floor, list(range(-12, 13))),
    "a root": (lambda x: mp.sqrt(abs(x - mp.mpf(0.7))), [0.7]),
    "fast": (lambda x: mp.sin(40 * x), []),
}


def exact_gain(f: Callable[[Any], Any], kinks: list[float]) -> float:
    """By mpmath, which is told where the kinks are."""
    with mp.workdps(30):
        pieces = sorted({-30.0, 30.0, *(k / 2 for k in range(-24, 25)), *kinks})
        return float(1 / mp.sqrt(mp.quad(lambda x: f(x) ** 2 * mp.npdf(x), pieces)))


@pytest.mark.parametrize("name", NAMED)
def test_named_gains_are_exact(name: str) -> None:
    f, kinks = NAMED[name]
    assert fi.gain(name) == pytest.approx(exact_gain(f, kinks), rel=2e-16)


def test_every_name_has_a_definition() -> None:
    assert set(KNOWN) == set(GAINS) | set(NAMED)


@pytest.mark.parametrize(("f", "kinks"), [*NAMED.values(), *OTHERS.values()], ids=[*NAMED, *OTHERS])
def test_the_gain_of_a_function(f: Callable[[Any], Any], kinks: list[float]) -> None:
    assert fi.gain(lambda z: f(mp.mpf(z))) == pytest.approx(exact_gain(f, kinks), rel=1e-9)


def test_gains_of_numpy_and_what_torch_rounds() -> None:
    assert fi.gain(np.tanh) == pytest.approx(1.5925374197228312, rel=1e-12)
    assert fi.gain(math.tanh) == pytest.approx(1.5925374197228312, rel=1e-12)
    assert abs(fi.gain("tanh") / fi.gain(np.tanh) - 1) > 0.04
    scale, alpha = 1.0507009873554805, 1.6732632423543772

    def selu(z: float) -> float:
        return scale * (z if z > 0 else alpha * math.expm1(z))

    assert fi.gain(selu) == pytest.approx(1, rel=1e-9)
    z = np.random.default_rng(0).standard_normal(1_000_000)  # the mean of tanh**2 within 5 standard errors, 0.0015
    assert (fi.gain(np.tanh) ** 2 * np.tanh(z) ** 2).mean() == pytest.approx(1, abs=0.004)


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda z: 0.0, ValueError, "vanishes"),
        (lambda z: 1 / (z - 0.1), ValueError, "converge"),
        (lambda z: math.exp(z * z / 4), ValueError, "finite"),
        (lambda z: math.exp(min(z * z / 4, 354.0)), ValueError, "converge"),
        (lambda z: math.sin(1e7 * z), ValueError, "converge"),
        (np.log, ValueError, "finite.*nan.*log"),
        (lambda z: None, TypeError, "real number.*None"),
        (lambda z: "x", TypeError, "real number.*'x'"),
        (3.0, TypeError, r"name or a function.*3\.0"),
        (None, TypeError, "name or a function.*None"),
    ],
)
def test_functions_without_a_gain(f: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fi.gain(f)


def test_depth_and_width_are_factors_of_the_std() -> None:
    """GPT-2's 1 / sqrt(2 L) and muP's 1 / sqrt(m), to the bit where only one of them divides."""
    for kind in KINDS:
        for family in ("xavier", "he", "lecun"):
            make = getattr(fi, f"{family}_{kind}")
            plain = make().distribution((48, 20)).std
            assert make(depth=8).distribution((48, 20)).std == pytest.approx(plain / 4, rel=1e-15)
            assert make(mup=4).distribution((48, 20)).std == pytest.approx(plain / 2, rel=1e-15)
            assert make(depth=2, mup=4.0).distribution((48, 20)).std == pytest.approx(plain / 4, rel=1e-15)
        scaled = fi.variance_scaling(2.0, "fan_out", kind, depth=8, mup=0.25).distribution((48, 20))  # type: ignore[arg-type]
        check(scaled, kind, math.sqrt(2 / 48) / 2)
    for layers in range(1, 200):
        assert fi.normal(std=0.02, depth=layers).distribution((3,)).std == 0.02 / math.sqrt(2 * layers)
        assert fi.normal(std=0.02, mup=layers).distribution((3,)).std == 0.02 / math.sqrt(layers)
    assert fi.truncated_normal(std=0.02, depth=8).distribution((3,)) == fi.truncated_normal(std=0.005).distribution(
        (3,)
    )
    absolute = fi.truncated_normal(0, 0.02, -0.04, 0.04, bounds="absolute", std_of="result", mup=4).distribution((3,))
    assert absolute.std == pytest.approx(0.01, rel=1e-12)
    assert absolute.support == (-0.04, 0.04)
    # muP, table 3: with a base std of 1 / sqrt(64) at width 64, a hidden weight has variance 1 / fan_in at any width
    assert (
        fi.normal(std=1 / 8, mup=1024 / 64).distribution((1024, 1024)).std
        == fi.lecun_normal().distribution((1024, 1024)).std
    )
    assert repr(fi.normal(depth=None, mup=1)) == "normal()"
    assert repr(fi.normal(depth=12)) == "normal(depth=12)"


reals = st.floats(-1e6, 1e6)
spreads = st.floats(0, 1e6)
reading = {
    "layout": st.sampled_from(["OI...", "...IO", "IO", "OI"]),
    "groups": st.integers(1, 4),
    "transposed": st.booleans(),
}
factors = {"depth": st.none() | st.integers(1, 200), "mup": st.floats(0.25, 1e4)}
scaled = reading | factors
he = {"mode": st.sampled_from(MODES), "nonlinearity": st.sampled_from(sorted(KNOWN)), "a": reals, **scaled}
ARGUMENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "zeros": {},
    "ones": {},
    "constant": {"value": reals | st.integers(-9, 9)},
    "uniform": {"low": st.floats(-1e6, 0), "high": st.floats(1, 1e6)},
    "normal": {"mean": reals, "std": spreads | spreads.map(np.float64), **factors},
    "truncated_normal": {
        "mean": reals,
        "std": st.just(0.0) | st.floats(1e-3, 1e6),
        "lower": st.floats(-30, 0) | st.just(-INF),
        "upper": st.floats(0.5, 30) | st.just(INF),
        "std_of": st.sampled_from(["parent", "result"]),
        **factors,
    },
    "variance_scaling": {"scale": spreads, "mode": st.sampled_from(MODES), "distribution": st.sampled_from(KINDS)}
    | scaled,
    **{f"xavier_{kind}": {"gain": spreads, **scaled} for kind in KINDS},
    **{f"he_{kind}": he for kind in KINDS},
    **{f"lecun_{kind}": scaled for kind in KINDS},
    "orthogonal": {"gain": spreads, "layout": st.sampled_from(["OI...", "...IO", "OI", "IO"])},
    "delta_orthogonal": {"gain": spreads, "layout": st.sampled_from(["OI...", "OIH"])},
    "eye": {"gain": reals},
    "dirac": {"groups": st.sampled_from([1, 2, 3]), "layout": st.sampled_from(["OI...", "...IO"])},
    "sinusoidal": {
        "style": st.sampled_from(["vaswani", "marian", "whisper"]),
        "base": st.floats(1, 1e300) | st.integers(1, 10**6),
    },
    "sparse": {"sparsity": st.floats(0, 1), "std": spreads, "layout": st.sampled_from(["OI", "IO"])},
    "table": {"values": st.lists(reals, max_size=9).map(table_of)},
}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A factory's name and some of its arguments."""
    name = draw(st.sampled_from(sorted(ARGUMENTS)))
    chosen = {
        key: draw(value)
        for key, value in ARGUMENTS[name].items()
        if key in ("value", "values", "sparsity") or draw(st.booleans())
    }
    return name, chosen


def test_every_factory_is_tested_and_exported() -> None:
    factories = {name for name in FACTORIES if not name.startswith(("glorot", "kaiming"))}
    assert factories == set(ARGUMENTS)
    assert set(FACTORIES) <= set(fi.__all__)
    for name, strategies in ARGUMENTS.items():
        extra = {"bounds"} if name == "truncated_normal" else set()
        assert set(inspect.signature(getattr(fi, name)).parameters) == set(strategies) | extra


@settings(derandomize=True, deadline=None, max_examples=400)
@given(calls())
def test_repr_parse_equality_hash_and_pickle(call: tuple[str, dict[str, Any]]) -> None:
    name, arguments = call
    init = getattr(fi, name)(**arguments)
    for other in (fi.parse(repr(init)), pickle.loads(pickle.dumps(init)), getattr(fi, name)(**arguments)):
        assert other == init
        assert hash(other) == hash(init)
        assert repr(other) == repr(init)
        shape: tuple[int, ...] = (24, 12, 6) if name in ("delta_orthogonal", "dirac") else (12, 24)
        if name == "table":
            shape = (len(arguments["values"].split()),)
        assert other.resolve(shape) == init.resolve(shape)


def test_what_is_equal_and_what_is_not() -> None:
    assert fi.normal(0.0, 1.0) == fi.normal() == fi.normal(std=1)
    half: Any = np.float32(0.5)
    assert repr(fi.normal(std=half)) == "normal(std=0.5)"
    different = [fi.normal(), fi.normal(1.0), fi.normal(std=2.0), fi.uniform(), fi.xavier_normal(), fi.he_normal(),
                 fi.he_normal(mode="fan_out"), fi.he_uniform(), fi.zeros(), fi.ones(), fi.constant(0),
                 fi.normal(depth=1), fi.normal(mup=2), fi.orthogonal(), fi.delta_orthogonal(), fi.eye(), fi.dirac(),
                 fi.sparse(0.1), fi.sparse(0.2), fi.sinusoidal(), fi.sinusoidal("marian")]  # fmt: skip
    assert len(set(different)) == len(different)
    with pytest.raises(AttributeError):
        fi.normal().factory = "uniform"  # type: ignore[misc]


def test_parse_reads_literals() -> None:
    assert fi.parse(" he_normal ") == fi.parse("he_normal()") == fi.he_normal()
    assert fi.parse("uniform(-1, high=2e-1)") == fi.uniform(-1, 0.2)
    assert fi.parse("truncated_normal(lower=-inf)") == fi.truncated_normal(lower=-INF)
    computed = fi.parse("normal(std=0.02 / sqrt(2 * layers) - 0 + 0)", {"layers": 8})
    assert computed == fi.normal(std=0.005)


ATTACKS = [
    "", " ", "()", "1", "'he_normal'", "he_normal; 1", "he_normal\nhe_normal", "he_normal()()", "he_normal().d",
    "fastinit.he_normal()", "__import__('os').system('true')", "__import__", "eval('1')", "parse('he_normal')",
    "_FACTORIES", "lambda: 1", "[he_normal]", "he_normal if 1 else 2", "(x := he_normal)", "f'{1}'", "he_normal(*[1])",
    "normal(**{'std': 1})", "normal(std=().__class__)", "normal(std=__import__('os').getpid())", "normal(std=1 + 1)",
    "normal(std=2 ** 9999999)", "normal(std=sqrt(2))", "normal(std=[1])", "normal(std=None)", "normal(std=1j)",
    "normal(std=b'1')", "normal(std=-'1')", "normal(std=not 1)", "normal(std=1 if 1 else 2)", "normal(std=(1).real)",
    "normal(std=f'{1}')", "normal(std={})", "normal(std=lambda: 1)", "normal(std=x)", "normal(std=...)",
    "he_normal(mode='fan_in'.upper())", "he_normal(mode=['fan_in'])", "normal(std=1, std=2)", "he_normal\0",
    "(" * 5000 + ")" * 5000, "normal(std=" + "-" * 20000 + "1)", "normal(std=1" + "0" * 400 + ")",
    "normal(std=1" + "0" * 9000 + ")", "constant(1e999)", "normal(std=nan)", "normal(std=-1)", "normal(mean=-True)",
]  # fmt: skip


@pytest.mark.parametrize("names", [None, {"layers": 2}], ids=["literals", "names"])
@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: text[:40])
def test_parse_refuses_everything_else(text: str, names: dict[str, float] | None) -> None:
    if names and text in ("normal(std=1 + 1)", "normal(std=sqrt(2))"):
        assert fi.parse(text, names).distribution((3,)).std in (2.0, math.sqrt(2))
        return
    with pytest.raises(ValueError, match=r"."):
        fi.parse(text, names)


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda: fi.normal(stddev=1), "did you mean 'std'"),  # type: ignore[call-arg]
        (lambda: fi.truncated_normal(sigma=1), "did you mean 'std'"),  # type: ignore[call-arg]
        (lambda: fi.normal(loc=1), "did you mean 'mean'"),  # type: ignore[call-arg]
        (lambda: fi.uniform(minval=1), "did you mean 'low'"),  # type: ignore[call-arg]
        (lambda: fi.xavier_normal(scale=1), "did you mean 'gain'"),  # type: ignore[call-arg]
        (lambda: fi.he_normal(negative_slope=1), "did you mean 'a'"),  # type: ignore[call-arg]
        (lambda: fi.eye(rows=3), "it takes gain;"),  # type: ignore[call-arg]
        (lambda: fi.zeros(value=0), "it takes no arguments"),  # type: ignore[call-arg]
    ],
)
def test_unknown_keywords_name_what_is_near(make: Callable[[], object], near: str) -> None:
    with pytest.raises(TypeError, match=near):
        make()


def test_lists_in_errors_are_not_empty() -> None:
    with pytest.raises(ValueError, match="there is none to choose from, got 'LL'"):
        fi.parse("normal(std=LL)", {})


@pytest.mark.parametrize("text", ["normal(stdd=1)", "normal(1, 2, 3)", "constant()", "constant", "normal(std='1')"])
def test_parse_refuses_what_the_factory_does_not_take(text: str) -> None:
    with pytest.raises(TypeError, match=r"^in .*: "):
        fi.parse(text)
    with pytest.raises(TypeError, match="must be a string"):
        fi.parse(b"normal")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("he_norml", "he_normal"),
        ("xavier_unifrom(gain=2)", "xavier_uniform"),
        ("zeroes", "zeros"),
        ("ortogonal", "orthogonal"),
        ("sparce(0.1)", "sparse"),
    ],
)
def test_parse_names_what_is_near(text: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        fi.parse(text)
    with pytest.raises(ValueError, match="did you mean 'layers'"):
        fi.parse("normal(std=layer)", {"layers": 2})
