"""One rank of `tests/test_torch_sharding.py`: it shards models, fills them, and prints digests of what it gathers.

``python -m tests.torch_ranks WORLD RANK FILE`` is started once for each rank; the ranks meet by the file. It prints one
line of JSON: by layout and dtype, the SHA-256 of every parameter's `full_tensor()`; the same with another seed on every
rank, as the negative control; and what else the tests ask for.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

import fastinit as fi
from fastinit.torch import fill_, initialize_, local_regions

SEED = 20
DTYPES = ("float32", "bfloat16")
INITS = {
    "up.weight": fi.he_normal(),
    "up.bias": fi.uniform(-1.0, 1.0),
    "down.weight": fi.sparse(0.4, std=0.5),  # of the whole matrix
    "down.bias": fi.truncated_normal(),
}

# The meshes of two dimensions, by the number of ranks
PLANES: dict[int, tuple[tuple[int, ...], ...]] = {1: (), 2: ((1, 2), (2, 1)), 4: ((2, 2),), 6: ((3, 2),)}

Layout = Callable[[Any], Any]  # shards a model in place


def made() -> Any:
    """Return two layers of sizes that no mesh divides: on 4 ranks 13 rows are 4, 4, 4 and 1; 5 are 2, 2, 1 and none."""
    return nn.Sequential(OrderedDict(up=nn.Linear(6, 13), relu=nn.ReLU(), down=nn.Linear(13, 5)))


def fsdp(mesh: Any, model: Any) -> None:
    fully_shard(model, mesh=mesh)


def tensor_parallel(mesh: Any, model: Any) -> None:
    """Shard the first layer by its outputs, the second by its inputs."""
    parallelize_module(model, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})


def both(mesh: Any, model: Any) -> None:
    tensor_parallel(mesh["tp"], model)
    fsdp(mesh["dp"], model)


def layouts(world: int) -> dict[str, Layout]:
    """Return the ways to shard a model over the ranks."""
    line = init_device_mesh("cpu", (world,))
    found: dict[str, Layout] = {"FSDP": partial(fsdp, line), "TP": partial(tensor_parallel, line)}
    for sizes in PLANES[world]:
        plane = init_device_mesh("cpu", sizes, mesh_dim_names=("dp", "tp"))
        found[f"FSDP + TP {sizes}"] = partial(both, plane)
        found[f"HSDP {sizes}"] = partial(fsdp, plane)
    return found


def filled(shard: Layout, dtype: str, seed: int) -> Any:
    """Return a model that is made without memory, then sharded, then filled."""
    with torch.device("meta"):
        model = made().to(getattr(torch, dtype))
    shard(model)
    model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor)
        with torch.no_grad():
            fill_(parameter, INITS[name], seed=seed, name=name)
    return model


class Padded(nn.Embedding):
    """Rows that an init of its own sets apart by indices, as models do: torch drops such writes to sharded ones."""

    def reset_parameters(self) -> None:
        """Write all, then rows, then a part of one."""
        nn.init.trunc_normal_(self.weight, std=0.02)
        with torch.no_grad():
            nn.init.zeros_(self.weight[3])
            self.weight[5:7].normal_(std=2.0)
            self.weight[9, 2:4].fill_(0.5)


def initialized(shard: Layout) -> Any:
    """Return a model, sharded where it has no memory, that its own code has initialized."""
    with torch.device("meta"):
        model = made()
        model.add_module("table", Padded(13, 6))
    shard(model)
    report = initialize_(model, seed=SEED)
    assert [len(one.regions) for one in report.tensors.values()] == [0, 0, 0, 0, 3]
    return model


def digest(tensor: Any) -> str:
    return hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def gathered(model: Any) -> dict[str, str]:
    whole = {name: getattr(one, "full_tensor", lambda one=one: one)() for name, one in model.named_parameters()}
    return {name: digest(tensor) for name, tensor in whole.items()}


def outputs(model: Any) -> list[float]:
    """Return what the model makes of one input: to gather the weights, FSDP has memory of its own."""
    with torch.no_grad():
        out: list[float] = model(torch.linspace(-1, 1, 6).reshape(1, 6)).flatten().tolist()
    return out


def placed(world: int) -> dict[str, tuple[int, bool, bool]]:
    """Return by placements, given by hand, what this rank has of a tensor, beside torch's own split of the same values.

    That is the number of regions, if the local tensors are the same, and if the gathered ones are. (What torch gathers
    from two strided shardings of one dimension is not what it has split, so it is no oracle for the whole.)
    """
    strided = partial(_StridedShard, split_factor=3)
    meshes: dict[tuple[int, ...], list[Any]] = {(world,): [(Replicate(),), (Shard(1),), (strided(0),), (strided(1),)]}
    by_two = [(Shard(0), Shard(0)), (Shard(1), Shard(0)), (strided(0), strided(0)), (strided(0), strided(1))]
    meshes |= dict.fromkeys(PLANES[world], by_two)
    values = torch.from_numpy(fi.array((13, 6), INITS["up.weight"], seed=SEED, name="up.weight"))
    found = {}
    for sizes, ways in meshes.items():
        mesh = init_device_mesh("cpu", sizes)
        for way in ways:
            ours, theirs = (distribute_tensor(of, mesh, way, src_data_rank=None) for of in (0 * values, values))
            fill_(ours, INITS["up.weight"], seed=SEED, name="up.weight")
            same = torch.equal(ours.to_local(), theirs.to_local())
            gathered_same = digest(ours.full_tensor()) == digest(theirs.full_tensor())
            found[f"{way} on {sizes}"] = len(local_regions(ours)), same, gathered_same
    return found


def outside() -> list[Any]:
    """Return of a DTensor on rank 0 alone the number of regions, if a fill returns it, and the sum of what it wrote."""
    dtensor = distribute_tensor(torch.zeros(4, 3), DeviceMesh("cpu", [0]), [Shard(0)])
    done = fill_(dtensor, fi.ones(), seed=0, name="w") is dtensor
    return [len(local_regions(dtensor)), done, dtensor.to_local().sum().item()]


def part_is_lost(world: int) -> bool:
    """Test whether a fill of a row is refused; torch makes it a copy where there are several ranks."""
    dtensor = distribute_tensor(torch.zeros(13, 6), init_device_mesh("cpu", (world,)), [Shard(0)])
    try:
        fill_(dtensor[3], fi.ones(), seed=0, name="w")
    except RuntimeError:
        return True
    return bool(dtensor.full_tensor().sum().item() != 6)


def main(world: int, rank: int, file: str) -> None:
    """Meet the other ranks, and print what this one finds."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    digests, own_seeds, computed, modules = {}, {}, {}, {}
    for layout, shard in layouts(world).items():
        for dtype in DTYPES:
            digests[f"{layout}, {dtype}"] = gathered(filled(shard, dtype, SEED))
        modules[layout] = gathered(initialized(shard))
        own_seeds[layout] = gathered(filled(shard, "float32", SEED + rank))
        if "TP" not in layout:  # whose layers leave their outputs to the next ones
            computed[layout] = outputs(filled(shard, "float32", SEED))
    found = {
        "digests": digests,
        "own seeds": own_seeds,
        "modules": modules,
        "unsharded": gathered(initialized(lambda model: None)),
        "outputs": computed,
        "placed": placed(world),
        "outside": outside(),
        "part is lost": part_is_lost(world),
    }
    dist.destroy_process_group()
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
