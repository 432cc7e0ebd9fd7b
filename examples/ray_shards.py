"""Shards filled by Ray's remote tasks: each gets a place, and makes the values that the whole tensor has there."""

import numpy as np
import ray

import fastinit as fi

SHAPE, NAME, INIT = (1000, 512), "layers.0.mlp.up", fi.he_normal()
ROWS = 300


def shard_from(row: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return the rows from this one on."""
    out = np.empty((min(ROWS, SHAPE[0] - row), SHAPE[1]), np.float32)
    return fi.fill(out, INIT, seed=0, name=NAME, global_shape=SHAPE, global_offset=(row, 0), threads=1)


ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
task = ray.remote(shard_from)
shards = ray.get([task.remote(row) for row in range(0, SHAPE[0], ROWS)])
ray.shutdown()
assert np.array_equal(np.concatenate(shards), fi.array(SHAPE, INIT, seed=0, name=NAME))
print(f"{len(shards)} shards of Ray's tasks: the values of the whole tensor")
