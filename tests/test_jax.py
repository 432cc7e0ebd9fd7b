"""JAX's arrays on one device, and its names of initializers, against `fastinit.array` and JAX's own initializers.

That memory is shared is told by pointers and by the peak of the resident memory, each beside an array that JAX copies.
The distributions of JAX's names are compared with what JAX hands to its own samplers (see tests/test_peers.py).
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from tests.helpers import assert_same, printed
from tests.test_peers import DRAWS, TURNED, check_draws, check_same, of_jax

pytest.importorskip("jax", reason="needs jax: pip install 'fastinit-weights[jax]'", exc_type=ImportError)
import jax
import jax.numpy as jnp

import fastinit.jax as fj
from fastinit.jax import arrays

INIT = fj.he_normal()
MATRICES = {"orthogonal", "delta_orthogonal"}
FAMILIES = [name for name in fj.__all__ if hasattr(jax.nn.initializers, name) and name not in MATRICES]
OF_ANY_SHAPE = {"constant", "zeros", "ones", "uniform", "normal", "truncated_normal", "Initializer"}  # without layout


# Factories


def test_every_name_of_jax_with_a_layout_is_here() -> None:
    theirs = {name for name in dir(jax.nn.initializers) if not name.startswith("_")}
    assert theirs - OF_ANY_SHAPE == set(FAMILIES) | MATRICES
    assert len(FAMILIES) == 11


@pytest.mark.parametrize("name", FAMILIES)
def test_distributions_are_those_of_jax(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (1.7, "fan_out", "uniform") if name == "variance_scaling" else ()
    ours, theirs = getattr(fj, name)(*arguments), getattr(jax.nn.initializers, name)(*arguments)
    for shape in TURNED:
        check_same(ours.distribution(shape), of_jax(monkeypatch, shape, theirs))


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_follow_the_distribution_of_jax(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (1.7, "fan_out", "uniform") if name == "variance_scaling" else ()
    shape, theirs = DRAWS, getattr(jax.nn.initializers, name)(*arguments)
    distribution = of_jax(monkeypatch, shape, theirs)
    values = np.asarray(fj.array(shape, getattr(fj, name)(*arguments), seed=0, name=name))
    check_draws(values, distribution)
    assert np.std(values, dtype=np.float64) == pytest.approx(distribution.std, rel=0.005)  # 5 sigma of a std's error


def test_the_names_and_layouts_of_torch_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not truncated, or with fans of the other axes, the distribution is another one."""
    theirs = of_jax(monkeypatch, (300, 100), jax.nn.initializers.he_normal())
    check_same(fj.he_normal().distribution((300, 100)), theirs)
    for wrong in (fi.he_normal(layout="...IO"), fi.he_truncated_normal()):
        with pytest.raises(AssertionError):
            check_same(wrong.distribution((300, 100)), theirs)


def test_matrices_are_orthogonal_as_those_of_jax() -> None:
    for name, shape in (("orthogonal", (3, 4, 20)), ("orthogonal", (20, 6)), ("delta_orthogonal", (3, 4, 6))):
        ours = np.asarray(fj.array(shape, getattr(fj, name)(), seed=0, name="w"))
        theirs = np.asarray(getattr(jax.nn.initializers, name)()(jax.random.key(0), shape))
        wide = [(w.reshape(-1, shape[-1]) if name == "orthogonal" else w[1]) for w in (ours, theirs)]
        rows = wide[0].shape[0] < wide[0].shape[1]
        products = [w @ w.T if rows else w.T @ w for w in wide]
        np.testing.assert_allclose(products[0], products[1], rtol=0, atol=1e-5)


def test_another_layout_can_be_given() -> None:
    assert fj.he_normal(layout="HWOI") == fi.he_truncated_normal(layout="HWOI")
    assert fj.variance_scaling(2.0, "fan_in", "normal") == fi.variance_scaling(2.0, "fan_in", "normal", layout="...IO")
    assert inspect.signature(fj.he_normal).parameters["layout"].default == "...IO"
    with pytest.raises(TypeError, match="he_truncated_normal: did you mean 'mode'"):
        fj.he_normal(mod="fan_out")  # type: ignore[call-arg]


# Arrays


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_arrays_have_the_values_of_fill(dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        for shape in ((300, 100), (3, 3, 5, 7), (0, 4)):
            made = fj.array(shape, INIT, seed=3, name="w", dtype=dtype)
            assert_same(np.asarray(made), fi.array(shape, INIT, seed=3, name="w", dtype=dtype))
        assert made.dtype == getattr(jnp, dtype)
        assert fj.array(5, fi.normal(), seed=0, name="w", dtype=getattr(jnp, dtype)).dtype == dtype
        assert fj.array((), fi.ones(), seed=0, name="w", dtype=dtype).item() == 1
    assert fj.array(3, fi.ones(), seed=0, name="w", dtype="int32").tolist() == [1, 1, 1]


def test_an_array_without_a_sharding_is_where_jax_puts_it() -> None:
    made = fj.array((4, 6), INIT, seed=0, name="w")
    assert not made.committed
    assert made.sharding == jnp.zeros((4, 6)).sharding
    there = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    assert fj.array((4, 6), INIT, seed=0, name="w", sharding=there).committed


def pointers(monkeypatch: pytest.MonkeyPatch, sharding: Any, shift: int) -> tuple[int, int]:
    """Return where a fill wrote, so many bytes off an aligned place, and where JAX has the values."""
    places: list[int] = []

    def shifted(shape: Any, dtype: Any) -> Any:
        size = int(np.prod(shape)) * dtype.itemsize
        memory = aligned((size + shift,), np.dtype(np.uint8))[shift:].view(dtype).reshape(shape)
        places.append(memory.ctypes.data)
        return memory

    aligned = arrays.aligned
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "aligned", shifted)
        made = fj.array((1000, 100), INIT, seed=0, name="w", sharding=sharding)
    return places[-1], made.unsafe_buffer_pointer()


def test_jax_shares_the_memory_that_was_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("JAX's default device has memory of its own")
    for sharding in (None, jax.sharding.SingleDeviceSharding(jax.devices()[0])):
        filled, held = pointers(monkeypatch, sharding, 0)
        assert filled == held
        filled, held = pointers(monkeypatch, sharding, 4)  # which JAX copies
        assert filled != held


PEAK = """
import os, sys
from pathlib import Path
os.environ["JAX_PLATFORMS"] = "cpu"
import jax, numpy as np, fastinit as fi, fastinit.jax as fj
from fastinit.jax import arrays

aligned, shift = arrays.aligned, int(sys.argv[1])

def shifted(shape, dtype):
    return aligned((int(np.prod(shape)) * 4 + shift,), np.dtype(np.uint8))[shift:].view(dtype).reshape(shape)

def peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])

arrays.aligned = shifted
one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
fj.array((8, 8), fi.normal(), seed=0, name=0, sharding=one)
before = peak()
made = fj.array((64, 1024, 1024), fi.normal(), seed=0, name=0, sharding=one)
made.block_until_ready()
print((peak() - before) / (256 << 10))
"""


def test_an_array_takes_its_memory_once() -> None:
    """256 MiB; with memory that is not aligned JAX takes as much again."""
    assert float(printed(PEAK, 0)) < 1.25
    assert float(printed(PEAK, 4)) > 1.75


def test_a_donated_array_leaves_the_shared_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    region = arrays.Drawing.region

    def noted(self: Any, *arguments: Any) -> Any:
        kept.append(region(self, *arguments))
        return kept[-1]

    monkeypatch.setattr(arrays.Drawing, "region", noted)
    made = fj.array((64, 64), fi.ones(), seed=0, name="w")
    grown = jax.jit(lambda x: x + 1, donate_argnums=0)(made)
    assert (np.asarray(grown) == 2).all()
    assert (kept[-1] == 1).all()


TORCHS = "init reads a weight in torch's layout, 'OI"
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no initializer": ({"init": jax.nn.initializers.he_normal()}, TypeError, "init must be an initializer"),
    "torch's layout": ({"init": fi.he_normal()}, ValueError, TORCHS),
    "torch's layout, spelled": ({"init": fi.he_normal(layout="OI...")}, ValueError, TORCHS),
    "orthogonal": ({"init": fi.orthogonal()}, ValueError, TORCHS),
    "dirac": ({"init": fi.dirac()}, ValueError, TORCHS),
    "sparse": ({"init": fi.sparse(0.5)}, ValueError, "give it layout='IO'; got"),
    "float64": ({"dtype": "float64"}, ValueError, "dtype float64 must be enabled by jax.config.update"),
    "int64": ({"init": fi.ones(), "dtype": np.int64}, ValueError, "or be int32, to which JAX would narrow it"),
    "integers": ({"dtype": "int32"}, TypeError, "out of int32 takes only zeros, ones, constant and table"),
    "no dtype": ({"dtype": None}, TypeError, "dtype must be named"),
    "seed": ({"seed": -1}, ValueError, "seed must be in"),
    "name": ({"name": 1.5}, TypeError, "name must be a string or an integer"),
    "shape": ({"shape": (3,)}, ValueError, "a fan needs a tensor of two axes"),
    "sharding": ({"sharding": "x"}, TypeError, "sharding must be a jax.sharding.Sharding"),
    "threads": ({"threads": 0}, ValueError, "threads must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_an_array_refuses(case: str) -> None:
    changed, kind, message = WRONG[case]
    with pytest.raises(kind, match=message) as raised:
        fj.array(**({"shape": (4, 6), "init": INIT, "seed": 0, "name": "w"} | changed))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_outputs_may_be_first_where_the_layout_says_so_in_letters() -> None:
    for init in (fi.he_normal(layout="OI"), fi.orthogonal(layout="OI"), fi.sparse(0.5, layout="IO"), fi.normal()):
        made = fj.array((6, 4), init, seed=0, name="w")
        assert_same(np.asarray(made), fi.array((6, 4), init, seed=0, name="w"))
