"""Tensor parallelism without communication: every rank fills its shard, and all of them are the whole tensor."""

import numpy as np

import fastinit as fi

SHAPE, NAME, INIT = (1024, 512), "layers.0.mlp.up", fi.he_normal()


def shard_of(rank: int, ranks: int, axis: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return what one of several ranks holds of the tensor, cut along an axis."""
    sizes, offset = list(SHAPE), [0, 0]
    sizes[axis] //= ranks
    offset[axis] = rank * sizes[axis]
    out = np.empty((sizes[0], sizes[1]), np.float32)
    return fi.fill(out, INIT, seed=0, name=NAME, global_shape=SHAPE, global_offset=offset)


whole = fi.array(SHAPE, INIT, seed=0, name=NAME)
for ranks in (1, 2, 8):
    for axis in (0, 1):
        shards = [shard_of(rank, ranks, axis) for rank in range(ranks)]
        assert np.array_equal(np.concatenate(shards, axis=axis), whole)
        print(f"{ranks} ranks along axis {axis}: the values of the whole tensor")
