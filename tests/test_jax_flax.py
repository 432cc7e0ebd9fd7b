"""flax's modules: parameters by path from their shapes alone, and by keys where the modules call for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastinit as fi
from tests.helpers import assert_same

pytest.importorskip("jax", reason="needs jax: pip install 'fastinit-weights[jax]'", exc_type=ImportError)
pytest.importorskip("flax", reason="needs flax: pip install flax", exc_type=ImportError)
import jax
import jax.numpy as jnp
from flax import linen, nnx

import fastinit.jax as fj

INIT = fj.he_normal()


def test_linen_modules() -> None:
    """By path from shapes alone, and by keys inside of init, as it is and under jit."""

    class Model(linen.Module):
        @linen.compact  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            init = fj.initializer(INIT)
            x = linen.Dense(5, kernel_init=init)(x)
            return linen.Dense(3, kernel_init=linen.with_partitioning(init, (None, "x")))(x)

    arguments = jax.random.key(1), jnp.ones((1, 4))
    abstract = jax.eval_shape(Model().init, *arguments)
    made = linen.unbox(fj.tree(abstract, {"*/kernel": INIT, "*/bias": fi.normal()}, seed=2))["params"]
    for layer, shape in (("Dense_0", (4, 5)), ("Dense_1", (5, 3))):
        for leaf, init, sizes in (("kernel", INIT, shape), ("bias", fi.normal(), shape[1:])):
            wanted = fi.fill(np.empty(sizes, np.float32), init, seed=2, name=f"params/{layer}/{leaf}")
            assert_same(np.asarray(made[layer][leaf]), wanted)
    plain, traced = Model().init(*arguments), jax.jit(Model().init)(*arguments)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(traced), strict=True):
        assert_same(np.asarray(one), np.asarray(other))
    kernels = [np.asarray(one) for one in jax.tree.leaves(plain) if one.ndim == 2]
    assert kernels[0].ravel()[0] != kernels[1].ravel()[0]
    assert Model().apply({"params": made}, arguments[1]).shape == (1, 3)


def test_nnx_modules() -> None:
    """The same names of a state, a module and a pure dict."""

    class Model(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.inner = nnx.List([nnx.Linear(4, 5, kernel_init=fj.initializer(INIT), rngs=rngs)])
            self.head = nnx.Linear(5, 3, kernel_init=fj.initializer(INIT), rngs=rngs)

    abstract = nnx.eval_shape(lambda: Model(nnx.Rngs(0)))
    rules = {"*/kernel": INIT, "*/bias": fi.normal()}
    graph, state = nnx.split(abstract)
    merged = nnx.merge(graph, fj.tree(state, rules, seed=2))
    whole = fj.tree(abstract, rules, seed=2)
    pure = fj.tree(nnx.to_pure_dict(state), rules, seed=2)
    for model in (merged, whole):
        for name, layer, shape in (("inner/0", model.inner[0], (4, 5)), ("head", model.head, (5, 3))):
            kernel = fi.fill(np.empty(shape, np.float32), INIT, seed=2, name=f"{name}/kernel")
            bias = fi.fill(np.empty(shape[1:], np.float32), fi.normal(), seed=2, name=f"{name}/bias")
            assert_same(np.asarray(layer.kernel[...]), kernel)
            assert_same(np.asarray(layer.bias[...]), bias)
            assert not (kernel == fi.fill(np.empty(shape, np.float32), INIT, seed=2, name=f"{name}/kernel/value")).any()
    assert_same(np.asarray(pure["inner"][0]["kernel"]), np.asarray(whole.inner[0].kernel[...]))
    plain, traced = Model(nnx.Rngs(0)), nnx.jit(lambda: Model(nnx.Rngs(0)))()
    assert_same(np.asarray(plain.head.kernel[...]), np.asarray(traced.head.kernel[...]))
