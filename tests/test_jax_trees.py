"""Trees of JAX's arrays, and initializers that take its keys, against `fastinit.array` by path or by the key's data."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from tests.helpers import assert_same

pytest.importorskip("jax", reason="needs jax: pip install 'fastinit-weights[jax]'", exc_type=ImportError)
import jax
import jax.numpy as jnp

import fastinit.jax as fj
from fastinit.jax import arrays, keyed

INIT = fj.he_normal()

# Trees

LEAF = jax.ShapeDtypeStruct((4, 6), jnp.float32)
VECTOR = jax.ShapeDtypeStruct((6,), jnp.bfloat16)


def names_of(tree: Any, **options: Any) -> dict[str, tuple[int, ...]]:
    """Return the names of a tree's leaves, told by their values, and their shapes."""
    made = jax.tree.leaves(fj.tree(tree, {"*": fi.normal()}, seed=7, **options))
    found = {}
    for leaf in made:
        (found_name,) = (
            name for name in CANDIDATES
            if (np.asarray(leaf) == fi.array(leaf.shape, fi.normal(), seed=7, name=name, dtype=leaf.dtype)).all()
        )  # fmt: skip
        found[found_name] = leaf.shape
    return found


CANDIDATES = ["a/b", "a/0/b", "a/1/b", "c", "", "model/a/b", "model/c", "a/b/value", "a/value", "a"]


def test_a_name_is_a_path_joined_by_slashes() -> None:
    assert names_of({"a": {"b": LEAF}, "c": VECTOR}) == {"a/b": (4, 6), "c": (6,)}
    assert names_of({"a": [{"b": LEAF}, {"b": VECTOR}]}) == {"a/0/b": (4, 6), "a/1/b": (6,)}
    assert names_of({"a": {"b": LEAF}, "c": VECTOR}, prefix="model/") == {"model/a/b": (4, 6), "model/c": (6,)}
    assert names_of({"a": {"value": LEAF}}) == {"a/value": (4, 6)}  # a key, and not the attribute of a box
    assert names_of(LEAF) == {"": (4, 6)}
    assert fj.tree({}, {}, seed=0) == {}


def test_the_first_rule_that_matches_decides() -> None:
    made = fj.tree(
        {"a": {"b": LEAF}, "c": LEAF}, {"a/*": fi.constant(3.0), "*": fi.ones()}, seed=0, shardings=None, threads=1
    )
    assert (made["a"]["b"] == 3).all()
    assert (made["c"] == 1).all()


TREE = {"dense": {"kernel": LEAF, "bias": VECTOR}, "head": {"kernel": LEAF}}
WRONG_TREES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unmatched": (
        {"rules": {"*/bias": fi.zeros()}},
        ValueError,
        "none matches 2 leaves: 'dense/kernel', 'head/kernel'",
    ),
    "one unmatched": ({"rules": {"dense/*": fi.zeros()}}, ValueError, "none matches a leaf: 'head/kernel'"),
    "unused": (
        {"rules": {"head/kernl": fi.zeros(), "*": fi.zeros()}},
        ValueError,
        "rules: did you mean 'head/kernel'. no leaf matches 'head/kernl'",
    ),
    "shadowed": (
        {"rules": {"*": fi.zeros(), "*/bias": fi.ones()}},
        ValueError,
        r"rules before it match all leaves of '\*/bias'",
    ),
    "torch's layout": (
        {"rules": {"*/kernel": fi.he_normal(), "*": fi.zeros()}},
        ValueError,
        r"rules, '\*/kernel': init reads a weight in torch's layout",
    ),
    "no initializer": ({"rules": {"*": 0}}, TypeError, r"rules, '\*': init must be an initializer"),
    "no mapping": ({"rules": [fi.zeros()]}, TypeError, "rules must be a mapping"),
    "no glob": ({"rules": {1: fi.zeros()}}, TypeError, "rules must have globs as keys, got 1"),
    "fans": ({"rules": {"*": INIT}}, ValueError, "leaf 'dense/bias': a fan needs a tensor of two axes or more"),
    "prefix": ({"prefix": 1}, TypeError, "prefix must be a string"),
    "seed": ({"seed": 1 << 64}, ValueError, "leaf 'dense/bias': seed must be in"),
    "no array": ({"abstract": {"a": 1.5}}, TypeError, "leaf 'a': it must have a shape and a dtype"),
    "a key": ({"abstract": {"a": jax.random.key(0)}}, TypeError, "leaf 'a': dtype must be a NumPy dtype"),
    "integers": (
        {"abstract": {"a": jax.ShapeDtypeStruct((2,), jnp.uint32)}, "rules": {"*": fi.normal()}},
        TypeError,
        "leaf 'a': out of uint32 takes only",
    ),
    "one name twice": (
        {"abstract": {"a/b": LEAF, "a": {"b": LEAF}}},
        ValueError,
        r"different names, but \['a'\]\['b'\] and \['a/b'\] are both 'a/b'",
    ),
    "shardings": ({"shardings": {"dense": None}}, ValueError, "shardings must have the structure of the tree"),
    "a sharding": ({"shardings": 1}, TypeError, "every leaf of shardings must be a jax.sharding.Sharding"),
}


@pytest.mark.parametrize("case", WRONG_TREES)
def test_what_a_tree_refuses_before_it_computes(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed, kind, message = WRONG_TREES[case]
    monkeypatch.setattr(arrays.Drawing, "sharded", lambda *_: pytest.fail("computed"))
    with pytest.raises(kind, match=message) as raised:
        fj.tree(**({"abstract": TREE, "rules": {"*": fi.zeros()}, "seed": 0} | changed))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_shardings_may_be_the_beginning_of_a_tree() -> None:
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    made = fj.tree(TREE, {"*": fi.zeros()}, seed=0, shardings={"dense": one, "head": None})
    assert [leaf.committed for leaf in jax.tree.leaves(made)] == [True, True, False]
    again = fj.tree(made, {"*": fi.ones()}, seed=0)  # of arrays, whose shardings are kept
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(again))


# Initializers with keys


def test_a_key_is_a_seed() -> None:
    init = fj.initializer(INIT)
    for seed in (0, 7, (1 << 32) - 1):
        wanted = fi.array((4, 6), INIT, seed=seed, name=keyed.NAME)
        assert_same(np.asarray(init(jax.random.key(seed), (4, 6))), wanted)
        assert_same(np.asarray(init(jax.random.PRNGKey(seed), (4, 6))), wanted)
    words = np.array([3, 5], np.uint32)
    wanted = fi.array((4, 6), INIT, seed=3 << 32 | 5, name=keyed.NAME)
    assert_same(np.asarray(init(jax.random.wrap_key_data(words), (4, 6))), wanted)
    assert_same(np.asarray(init(jnp.asarray(words), (4, 6))), wanted)


def test_different_keys_have_different_seeds() -> None:
    for impl, bits in (("threefry2x32", 2), ("rbg", 4), ("unsafe_rbg", 4)):
        keys = jax.random.split(jax.random.key(3, impl=impl), 100)
        assert jax.random.key_data(keys).shape == (100, bits)
        assert len({keyed.seed_of(np.asarray(jax.random.key_data(one))) for one in keys}) == 100
    words = [np.array(one, np.uint32) for one in ((1, 2, 3, 4), (1, 2, 4, 3), (2, 1, 3, 4), (1, 2, 3, 5))]
    assert len({keyed.seed_of(one) for one in words}) == 4


def test_names_and_seeds_that_are_given() -> None:
    key, shape = jax.random.key(7), (4, 6)
    named = fj.initializer(INIT, "w")
    assert_same(np.asarray(named(key, shape)), fi.array(shape, INIT, seed=7, name="w"))
    fixed = fj.initializer(INIT, "w", seed=11)
    for call in (fixed, jax.jit(fixed, static_argnums=1)):
        for one in (key, jax.random.key(8)):
            assert_same(np.asarray(call(one, shape)), fi.array(shape, INIT, seed=11, name="w"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_traced_keys_give_the_same_values(dtype: str) -> None:
    init, keys = fj.initializer(INIT), jax.random.split(jax.random.key(0), 3)

    def call(key: Any) -> Any:
        return init(key, (64, 48), getattr(jnp, dtype))

    plain = [np.asarray(call(key)) for key in keys]
    assert_same(np.asarray(jax.jit(call)(keys[1])), plain[1])
    assert_same(np.asarray(jax.jit(call)(jax.random.key_data(keys[1]))), plain[1])
    for mapped in (jax.vmap(call), jax.jit(jax.vmap(call))):
        assert_same(np.asarray(mapped(keys)), np.stack(plain))
    assert (plain[0] == plain[1]).mean() < 0.02  # bfloat16 has few values
    _, scanned = jax.lax.scan(lambda carry, key: (carry, call(key)), 0, keys)
    assert_same(np.asarray(scanned), np.stack(plain))


def test_shapes_are_evaluated_without_a_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        pytest.fail("computed")

    monkeypatch.setattr(arrays.Drawing, "whole", refused)
    init = fj.initializer(INIT)
    abstract = jax.eval_shape(lambda key: init(key, (1 << 20, 1 << 20)), jax.random.key(0))
    assert abstract.shape == (1 << 20, 1 << 20)
    with pytest.raises(ValueError, match="a fan needs"):  # checked where it is traced
        jax.eval_shape(lambda key: init(key, (3,)), jax.random.key(0))


def test_what_an_initializer_refuses() -> None:
    init = fj.initializer(INIT)
    with pytest.raises(ValueError, match="seed must come with a name"):
        fj.initializer(INIT, seed=0)
    with pytest.raises(ValueError, match="torch's layout"):
        fj.initializer(fi.he_normal())
    with pytest.raises(TypeError, match="name must be"):
        fj.initializer(INIT, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="key must be one key"):
        init(jax.random.split(jax.random.key(0)), (4, 6))
    with pytest.raises(ValueError, match="dtype float64 must be enabled"):
        init(jax.random.key(0), (4, 6), np.float64)
    with pytest.raises(TypeError, match="out_sharding must be"):
        init(jax.random.key(0), (4, 6), jnp.float32, "x")


def test_an_initializer_is_a_value() -> None:
    init = fj.initializer(INIT)
    assert init == fj.initializer(fj.he_normal())
    assert hash(init) == hash(fj.initializer(fj.he_normal()))
    assert init != fj.initializer(INIT, "w")
    assert pickle.loads(pickle.dumps(init)) == init
    assert list(inspect.signature(init).parameters) == ["key", "shape", "dtype", "out_sharding"]
    assert init(jax.random.key(0), (4, 6), None).dtype == jnp.float32
    with jax.enable_x64(True):
        assert init(jax.random.key(0), (4, 6), None).dtype == jnp.float64
