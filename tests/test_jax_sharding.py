"""The same bits from four devices, of one process or of two, as of `fastinit.array`, and no more than what they hold.

The oracles are `fastinit.array` in this process, and JAX's own map of the slices that a process's devices hold. Where
the processes have seeds of their own, the gathered array must be another one.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

import fastinit as fi
from tests.helpers import ROOT, environment, printed
from tests.jax_ranks import DTYPES, NAME, SEED, SHAPE, SPECS

pytest.importorskip("jax", reason="needs jax: pip install 'fastinit-weights[jax]'", exc_type=ImportError)

SECONDS = 300.0  # that all processes may take, where they compile kernels, too
INIT = fi.he_truncated_normal(layout="...IO")

Found = dict[str, Any]  # what one process prints: by sharding and dtype, see tests/jax_ranks.py


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port: int = one.getsockname()[1]
    return port


def ranks(world: int) -> list[Found]:
    """Return what each of the processes prints."""
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.jax_ranks", str(world), str(rank), port],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    found: list[Found] = []
    try:
        for process in processes:
            out, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors[-3000:]
            found.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return found


def digest(dtype: str, seed: int = SEED) -> str:
    return hashlib.sha256(fi.array(SHAPE, INIT, seed=seed, name=NAME, dtype=dtype).tobytes()).hexdigest()


def check_bits(every: Sequence[Found]) -> None:
    for found in every:
        assert len(found) == len(SPECS) * len(DTYPES)
        for case, one in found.items():
            dtype = case.split()[-1]
            assert one["digest"] == digest(dtype), case
            assert (one["kept"], one["dtype"]) == (True, dtype), case


def check_other_seeds(every: Sequence[Found]) -> None:
    """In one process the array of that seed; of two processes with a seed each, what is sharded is neither's."""
    for found in every:
        for case, one in found.items():
            assert one["other seeds"] != digest(case.split()[-1]), case
            if len(every) == 1:
                assert one["other seeds"] == digest(case.split()[-1], SEED + 1), case
    if len(every) == 2:
        case = f"{('a', 'b')} float32"
        assert {found[case]["other seeds"] for found in every}.isdisjoint(
            {digest("float32", SEED + 1), digest("float32", SEED + 2)}
        )


def check_shards(every: Sequence[Found]) -> None:
    """A process computes each of its shards once, and no other."""
    for found in every:
        for case, one in found.items():
            assert sorted(one["asked"]) == sorted(one["held"]), case
    whole = [[0, SHAPE[0]], [0, SHAPE[1]]]
    for found in every:
        assert found["() float32"]["asked"] == [whole]  # by four devices or two, and computed once
        assert len(found[f"{('a', 'b')} float32"]["asked"]) == 4 // len(every)


def check_halves(every: Sequence[Found]) -> None:
    """Processes share the work."""
    for spec in (("a",), ("a", "b"), (("a", "b"),)):
        parts = [found[f"{spec} float32"]["asked"] for found in every]
        sizes = [sum((b - a) * (d - c) for (a, b), (c, d) in part) for part in parts]
        assert sizes == [SHAPE[0] * SHAPE[1] // len(every)] * len(every)


@pytest.mark.parametrize("world", [1, 2])
def test_every_sharding_has_the_same_bits(world: int) -> None:
    every = ranks(world)
    for check in (check_bits, check_other_seeds, check_shards, check_halves):
        check(every)


MESHES = """
import os
os.environ |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import fastinit as fi, fastinit.jax as fj

keyed, key = fj.initializer(fj.he_normal()), jax.random.key(3)
plain = np.asarray(keyed(key, (8, 16)))
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        for place in (NamedSharding(mesh, P("x")), P("x")):
            wanted = NamedSharding(mesh, P("x"))
            for call in (lambda key: keyed(key, (8, 16), out_sharding=place),):
                for made in (call(key), jax.jit(call)(key)):
                    assert made.sharding.is_equivalent_to(wanted, 2), made.sharding
                    assert (np.asarray(made) == plain).all()
        layer = {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32), "bias": jax.ShapeDtypeStruct((16,), jnp.float32)}
        rules = {"*kernel": fj.he_normal(), "*bias": fi.normal()}
        for shardings in ({"kernel": P(None, "x"), "bias": P("x")}, NamedSharding(mesh, P())):
            made = fj.tree({"a": layer}, rules, seed=1, shardings={"a": shardings})["a"]
            for leaf in layer:
                spec = shardings[leaf] if isinstance(shardings, dict) else P()
                assert made[leaf].sharding.is_equivalent_to(NamedSharding(mesh, spec), made[leaf].ndim)
                init = rules["*" + leaf]
                assert (made[leaf] == fi.array(layer[leaf].shape, init, seed=1, name="a/" + leaf)).all()
        abstract = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=NamedSharding(mesh.abstract_mesh, P("x")))
        made = fj.tree({"kernel": abstract}, {"*": fj.he_normal()}, seed=0)["kernel"]
        assert made.sharding.is_equivalent_to(NamedSharding(mesh, P("x")), 2)
for given in (P("x"), NamedSharding(mesh.abstract_mesh, P("x"))):
    try:
        fj.array((8, 16), fj.he_normal(), seed=0, name="w", sharding=given)
    except ValueError as error:
        print(error)
for given in (P("x"), P(None, None, "x")):  # that does not divide, and of too many axes
    try:
        fj.tree({"a": jax.ShapeDtypeStruct((6, 16), jnp.float32)}, {"*": fi.zeros()}, seed=0,
                shardings=NamedSharding(mesh, given))
    except ValueError as error:
        print(error)
"""


def test_meshes_that_are_set() -> None:
    """Specs and shardings of an abstract mesh are of the mesh that is set, and an error without one.

    So are shardings that do not fit.
    """
    lines = printed(MESHES).splitlines()
    assert len(lines) == 4
    begins = ["sharding must have devices where jax.set_mesh has set no mesh, got "] * 2
    begins += ["leaf 'a': sharding must fit the shape (6, 16), got NamedSharding("] * 2
    assert all(line.startswith(begin) for line, begin in zip(lines, begins, strict=True))
