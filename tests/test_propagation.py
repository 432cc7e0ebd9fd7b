"""Signal propagation: the scenarios, gradients against differences, theory against oracles, and wrong initializers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fastinit as fi
from bench.scenarios import SCENARIOS, main
from fastinit.activations import _TABLE, moments, named
from fastinit.cli import cli
from fastinit.fans import _GAINS, _SAME
from fastinit.propagation import _measure, _Stack, recommend
from fastinit.quadrature import mean_square

NAMES = [*_TABLE, "leaky_relu"]
SLOW = {"deep_training", "shallow_training"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in SCENARIOS])
def test_a_scenario_ends_as_theory_says(name: str) -> None:
    """Margins: four standard deviations of what the width lets a std wander, sqrt(c L / (4 n)) after L layers."""
    pytest.importorskip("sklearn")
    wrong = [row for row in SCENARIOS[name]().rows if not row.holds]
    assert not wrong


def test_a_wrong_initializer_is_flagged() -> None:
    """30 relu layers of 512: 4 sigma are a factor of 2.9, and Xavier falls by 2**15; 1.5x a std grows by 2e5."""
    he = fi.propagate(fi.he_normal(), depth=30, width=512)
    factor = he.tolerance()[-1]
    assert factor < 4
    for wrong in (fi.xavier_normal(), fi.lecun_normal(), fi.variance_scaling(4.5, "fan_in", "normal")):
        p = fi.propagate(wrong, depth=30, width=512)
        ratio = p.activation_std[-1] / he.predicted_std[-1]
        assert not 1 / factor < ratio < factor
        assert not p.verdict.startswith("holds")
        back = p.gradient_std[0] / he.predicted_gradient_std[0]
        assert not 1 / he.tolerance(gradient=True)[0] < back < he.tolerance(gradient=True)[0]
    assert he.verdict.startswith("holds")


def test_names_are_those_of_gain() -> None:
    known = {name for name in _GAINS if not name.startswith("conv")}
    assert {*NAMES, *_SAME} == known
    with pytest.raises(ValueError, match="did you mean 'gelu'"):
        named("gellu")
    with pytest.raises(TypeError, match="pair of functions"):
        named(np.tanh)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_derivatives(name: str) -> None:
    f = named(name, 0.2)
    z = np.linspace(-7, 7, 4001) + 1.23e-3  # no kink within a step
    step = 1e-6
    assert abs((f.f(z + step) - f.f(z - step)) / (2 * step) - f.slope(z)).max() < 1e-8
    single = np.float32([-2, 0.5, 30, -1e20, 1e20])
    with np.errstate(all="ignore"):
        assert f.f(single).dtype == f.slope(single).dtype == np.float32


@pytest.mark.parametrize("std", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("name", NAMES)
def test_moments_are_those_of_the_adaptive_quadrature(name: str, std: float) -> None:
    f = named(name, 0.2)
    found = moments(f, 0.3, std)

    def scalar(function: Any) -> Any:
        return lambda u: float(function(np.array([0.3 + std * u]))[0])

    assert found.square == pytest.approx(mean_square(scalar(f.f)), rel=1e-9)
    assert found.slope_square == pytest.approx(mean_square(scalar(f.slope)), rel=1e-8)


STACKS = {
    "dense": _Stack(named("tanh"), "", False, 1),
    "residual": _Stack(named("gelu"), "", True, 1),
    "batch norm": _Stack(named("tanh"), "batch", False, 1),
    "layer norm": _Stack(named("silu"), "layer", True, 1),
    "convolution": _Stack(named("softplus"), "", False, 3, (4, 4)),
    "convolution, batch norm": _Stack(named("tanh"), "batch", True, 2, (4, 4)),
}


@pytest.mark.parametrize("kind", STACKS)
def test_gradients_are_those_of_differences(kind: str) -> None:
    """In float64: sum(gradient * x_L), moved in random directions of W_1; the std of its gradient is the norm's."""
    stack = STACKS[kind]
    random = np.random.default_rng(1)
    field = (stack.kernel,) * 2 if stack.side else ()
    weights = [random.normal(size=(5, 5, *field)) / 2 for _ in range(3)]
    start, last = (random.normal(size=(6, *stack.side, 5)) for _ in range(2))

    def output(first: Any) -> float:
        """An independent forward pass: loops over places."""
        x = start
        for weight in (first, *weights[1:]):
            if stack.side:
                z = np.zeros_like(x)
                around = range(-(stack.kernel // 2), stack.kernel - stack.kernel // 2)
                for i in range(4):
                    for j in range(4):
                        for a, di in enumerate(around):
                            for b, dj in enumerate(around):
                                z[:, i, j] += x[:, (i + di) % 4, (j + dj) % 4] @ weight[:, :, a, b].T
            else:
                z = np.einsum("bi,oi->bo", x, weight)
            if stack.norm:
                axes = tuple(range(z.ndim - 1)) if stack.norm == "batch" else (-1,)
                z = (z - z.mean(axes, keepdims=True)) / np.sqrt(z.var(axes, keepdims=True) + 1e-5)
            x = stack.f.f(z) + (x if stack.residual else 0)
        return float((last * x).sum())

    numeric = np.empty_like(weights[0])
    for place in np.ndindex(*numeric.shape):
        moved = [weights[0].copy(), weights[0].copy()]
        moved[0][place] += 1e-5
        moved[1][place] -= 1e-5
        numeric[place] = (output(moved[0]) - output(moved[1])) / 2e-5
    found = _measure(stack, weights, [None] * 3, start, last)
    assert found["weight_gradient_std"][0] == pytest.approx(numeric.std(), rel=1e-6)
    assert found["weight_gradient_mean"][0] == pytest.approx(numeric.mean(), rel=1e-5, abs=1e-8)


def test_the_forward_pass_is_that_of_float64() -> None:
    p = fi.propagate(fi.he_normal(), depth=6, width=[30, 40, 20, 50, 60, 10, 7], bias=fi.normal(std=0.3), batch=32)
    x = fi.array((32, 30), fi.normal(), seed=0, name="input").astype(np.float64)
    for n, (into, out) in enumerate(zip(p.widths, p.widths[1:], strict=False), 1):
        weight = fi.array((out, into), fi.he_normal(), seed=0, name=f"layers.{n}.weight")
        z = x @ weight.T.astype(np.float64) + fi.array(out, fi.normal(std=0.3), seed=0, name=f"layers.{n}.bias")
        x = np.maximum(z, 0)
        assert p.preactivation_std[n - 1] == pytest.approx(z.std(), rel=1e-5)
        assert p.activation_std[n - 1] == pytest.approx(x.std(), rel=1e-5)
        assert p.activation_mean[n - 1] == pytest.approx(x.mean(), rel=1e-5)
        assert p.dead[n - 1] == (z <= 0).all(axis=0).mean()
        assert p.saturated[n - 1] == (z <= 0).mean()


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sigmoid", "softplus"])
@pytest.mark.parametrize("more", [{}, {"bias": fi.uniform(0.0, 1.0)}, {"layer_norm": True}, {"batch_norm": True}])
def test_all_predictions_hold_in_a_short_wide_stack(name: str, more: dict[str, Any]) -> None:
    """3 layers of 1024, all five predictions; 4 deviations."""
    p = fi.propagate(fi.he_normal(), activation=name, depth=3, width=1024, **more)
    limit, back = np.log(p.tolerance()), np.log(p.tolerance(gradient=True))
    assert limit.max() < 0.5
    assert (abs(np.log(p.activation_std / p.predicted_std)) < limit).all()
    assert (abs(np.log(p.preactivation_std / p.predicted_preactivation_std)) < limit + 4 * math.sqrt(2 / 1024)).all()
    assert (abs(np.log(p.gradient_std / p.predicted_gradient_std)) < back).all()
    both = limit + back + 4 * math.sqrt(2 / 1024)
    assert (abs(np.log(p.weight_gradient_std / p.predicted_weight_gradient_std)) < both).all()
    rms = np.hypot(p.predicted_mean, p.predicted_std)
    assert (abs(p.activation_mean - p.predicted_mean) < (limit + 4 / 32) * rms).all()


def test_weights_that_theory_leaves_out_have_no_prediction() -> None:
    for init in (fi.uniform(), fi.eye()):
        p = fi.propagate(init, depth=2, width=8)
        assert np.isnan(p.predicted_std).all()
        assert np.isfinite(p.activation_std).all()


def test_zeros() -> None:
    p = fi.propagate(fi.zeros(), depth=3, width=8)
    assert p.vanish_layer == 1
    assert p.overflow_layer is None
    assert not p.activation_std.any()
    assert not p.predicted_std.any()
    assert not p.weight_gradient_std.any()
    assert p.dead.all()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"init": "he_normal"}, TypeError),
        ({"bias": 0}, TypeError),
        ({"depth": 0}, ValueError),
        ({"depth": 2.0}, TypeError),
        ({"width": [4, 4]}, ValueError),
        ({"width": 0}, ValueError),
        ({"residual": True, "width": [4, 4, 5]}, ValueError),
        ({"batch_norm": True, "layer_norm": True}, ValueError),
        ({"activation": "nothing"}, ValueError),
        ({"activation": "leaky_relu", "a": math.inf}, ValueError),
        ({"batch": 1}, ValueError),
        ({"seed": -1}, ValueError),
        ({"kernel": 0}, ValueError),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        fi.propagate(**{"init": fi.he_normal(), "depth": 2, "width": 4, **wrong})


@pytest.mark.parametrize(
    ("activation", "residual", "wanted"),
    [
        ("linear", False, fi.lecun_normal()),
        ("relu", False, fi.he_normal()),
        ("tanh", False, fi.lecun_normal()),
        ("relu", True, fi.he_normal(depth=100)),
        ("linear", True, fi.lecun_normal(depth=100)),
    ],
)
def test_recommendations(activation: str, residual: bool, wanted: fi.Initializer) -> None:
    found = recommend(activation, residual=residual)
    assert found.init == wanted
    assert found.holds


def test_what_nothing_holds_for_is_said() -> None:
    assert not recommend("sigmoid").holds


def test_the_command_line(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    options = ["--depth", "60", "--width", "64", "--plot", str(picture)]
    result = CliRunner().invoke(cli, ["propagate", "--init", "xavier_normal", "--init", "he_normal", *options])
    assert result.exit_code == 0, result.output
    assert "xavier_normal: vanishes: std falls 0.7" in result.output
    assert "; use he_normal\n" in result.output
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    result = CliRunner().invoke(cli, ["recommend", "--activation", "relu", "--residual"])
    assert result.output.endswith("use he_normal(depth=100)\n")


def test_the_page_of_scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scenarios", "glorot", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    text = (tmp_path / "README.md").read_text()
    assert text.count("holds |") == 4
    assert (tmp_path / "glorot.png").exists()


def test_an_import_loads_neither_scipy_special_nor_matplotlib() -> None:
    source = "import sys, json, fastinit; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", source], capture_output=True, check=True).stdout)
    assert "fastinit.propagation" in loaded
    assert not {"scipy.special", "matplotlib", "sklearn", "numba"} & set(loaded)
