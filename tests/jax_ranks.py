"""What tests/test_jax_sharding.py runs: ``python -m tests.jax_ranks WORLD RANK PORT``; it prints what it found as JSON.

Four devices of the CPU: of one process, or of two that meet on the port. A digest is of the bytes of a whole array,
gathered where there are two; the calls are those of `fastinit.fill` that wrote something.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

DEVICES = 4
SHAPE = (64, 40)  # quarters of its columns begin within a block of the generator
SPECS: tuple[tuple[Any, ...], ...] = ((), ("a",), (None, "b"), ("a", "b"), (("a", "b"),), ("b", "a"))
DTYPES = ("float32", "bfloat16")
SEED, NAME = 5, "dense/kernel"


def digest(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def main(world: int, rank: int, port: str) -> None:
    """Make every array, sharded in every way, and print what came of it."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES // world}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import NamedSharding, PartitionSpec

    import fastinit as fi
    import fastinit.jax as fj
    from fastinit.jax import arrays

    if world > 1:
        jax.distributed.initialize(f"localhost:{port}", num_processes=world, process_id=rank)
    mesh = jax.make_mesh((2, 2), ("a", "b"))
    calls: list[tuple[list[int], list[int]]] = []

    def counted(out: Any, init: Any, *, global_offset: Sequence[int], **options: Any) -> Any:
        if out.size:
            calls.append((list(global_offset), list(out.shape)))
        return fi.fill(out, init, global_offset=global_offset, **options)

    def whole(array: Any) -> Any:
        gathered = multihost_utils.process_allgather(array, tiled=True) if world > 1 else array
        return np.asarray(gathered)

    setattr(arrays, "fill", counted)  # noqa: B010
    found: dict[str, Any] = {}
    for spec in SPECS:
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        wanted = {
            tuple(one.indices(size)[:2] for one, size in zip(index, SHAPE, strict=True))
            for index in sharding.addressable_devices_indices_map(SHAPE).values()
        }
        for dtype in DTYPES:
            calls.clear()
            made = fj.array(SHAPE, fj.he_normal(), seed=SEED, name=NAME, dtype=dtype, sharding=sharding)
            other = fj.array(SHAPE, fj.he_normal(), seed=SEED + rank + 1, name=NAME, dtype=dtype, sharding=sharding)
            asked = [tuple((at, at + size) for at, size in zip(*call, strict=True)) for call in calls]
            found[f"{spec} {dtype}"] = {
                "digest": digest(whole(made)),
                "other seeds": digest(whole(other)),
                "kept": made.sharding.is_equivalent_to(sharding, 2),
                "dtype": str(made.dtype),
                "asked": [list(map(list, bounds)) for bounds in asked[: len(asked) // 2]],
                "held": [list(map(list, bounds)) for bounds in wanted],
            }
    print(json.dumps(found))
    if world > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
