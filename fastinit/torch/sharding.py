"""Where a rank's part of a DTensor lies in the global tensor, found without communication.

A placement splits the indices of one tensor dimension, so each dimension is followed on its own: as runs, ranges of
consecutive global indices in the order in which the local tensor has them. What a rank holds is the product of its
dimensions' runs.

Torch applies the placements from the first mesh dimension to the last, with one exception. FSDP2 shards what tensor
parallelism has sharded before, by a later mesh dimension. It writes that down as ``_StridedShard``, whose factor is the
number of shards that there were. From first to last it is the same only if the sizes are even: of 7 rows on a mesh
(3, 2), FSDP2 leaves row 6 to the rank (2, 1), and by the letter it is of (2, 0). `full_tensor` reads such placements as
an order of the mesh dimensions, as FSDP2 means them, and so does this module. Factors that say no order are read by the
letter, by torch and here.

Nothing here loads torch before a DTensor is there, and `regions_of` needs no process group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, product
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple

from fastinit.core.text import quoted

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.placement_types import Placement

Runs = list[range]  # of one dimension, none of them empty


class LocalRegion(NamedTuple):
    """A rectangle of the global tensor that lies in one piece in a rank's local tensor.

    Attributes
    ----------
    local
        Where it is in the local tensor.
    global_offset
        Where it begins in the global tensor.
    shape
        Its sizes, in both.
    """

    local: tuple[slice, ...]
    global_offset: tuple[int, ...]
    shape: tuple[int, ...]


def local_regions(dtensor: DTensor) -> list[LocalRegion]:
    """Return the regions of the global tensor that this rank's local tensor consists of.

    They cover the local tensor exactly once. There are several where the placements interleave ranks, as those of FSDP2
    with tensor parallelism do, and none where the rank holds nothing or is outside of the mesh. No rank waits for
    another.

    Parameters
    ----------
    dtensor
        On any mesh, by `Shard` (uneven and empty shards, too), `Replicate` and torch's ``_StridedShard``.

    Raises
    ------
    TypeError
        If it is no DTensor.
    ValueError
        If a placement is `Partial`, since no rank holds values of a sum to come, or if the local tensor does not have
        the shape that the placements give it.
    """
    _check_dtensor(dtensor)
    mesh = dtensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return []
    _check_order(dtensor)
    shape, placements, mesh_shape = tuple(dtensor.shape), dtensor.placements, tuple(mesh.shape)
    as_order = getattr(getattr(dtensor, "_spec", None), "use_strided_shard_as_shard_order", None) is not False
    runs = _runs(shape, placements, mesh_shape, coordinate, as_order)
    expected, got = tuple(map(_total, runs)), tuple(_local(dtensor).shape)
    if got != expected:
        raise ValueError(
            f"dtensor must have a local tensor of shape {expected}, as {quoted(placements)} of {shape} at {coordinate} "
            f"of a mesh {mesh_shape}, got {got}"
        )
    return _regions(runs)


def regions_of(
    shape: Sequence[int],
    placements: Sequence[Placement],
    mesh_shape: Sequence[int],
    coordinate: Sequence[int],
    *,
    as_order: bool = True,
) -> list[LocalRegion]:
    """Return the regions that a rank holds, by arithmetic alone.

    Parameters
    ----------
    shape
        Of the global tensor.
    placements
        One for each dimension of the mesh.
    mesh_shape
        The sizes of the mesh.
    coordinate
        Where the rank is in the mesh.
    as_order
        Whether ``_StridedShard`` is read as an order of the mesh dimensions, where it says one.
    """
    return _regions(_runs(shape, placements, mesh_shape, coordinate, as_order))


def split(runs: Runs, factor: int, count: int, index: int) -> Runs:
    """Return what number ``index`` of ``count`` ranks gets of the runs: of each of ``factor`` chunks, its chunk.

    The factor is 1 for torch's `Shard`, and `_StridedShard` has its own.

    Examples
    --------
    >>> split([range(10)], 1, 4, 3)  # chunks of 3, 3, 3 and 1
    [range(9, 10)]
    >>> split([range(10)], 2, 2, 1)  # the second part of 0 to 4, and of 5 to 9
    [range(3, 5), range(8, 10)]
    """
    held = range(min(factor, _total(runs)))  # later chunks are empty
    return _joined(chain.from_iterable(_chunk(_chunk(runs, factor, k), count, index) for k in held))


def _chunk(runs: Runs, count: int, index: int) -> Runs:
    """Return one of the chunks of `torch.chunk`: all of the same size but the last ones, which may be empty."""
    size = -(-_total(runs) // count)
    return list(_cut(runs, index * size, index * size + size))


def _cut(runs: Runs, start: int, stop: int) -> Iterator[range]:
    """Yield what lies at the places [start, stop) of the runs, one after the other."""
    for run in runs:
        if stop <= 0:
            return
        if piece := run[max(start, 0) : stop]:
            yield piece
        start, stop = start - len(run), stop - len(run)


def _joined(runs: Iterable[range]) -> Runs:
    """Return the runs with neighbours made one."""
    found: Runs = []
    for run in runs:
        if found and found[-1].stop == run.start:
            run = range(found.pop().start, run.stop)
        found.append(run)
    return found


def _total(runs: Runs) -> int:
    return sum(map(len, runs))


class _Step(NamedTuple):
    """The split of a tensor dimension over a mesh dimension, and into how many chunks it is cut before."""

    dim: int
    mesh_dim: int
    factor: int


def _runs(
    shape: Sequence[int],
    placements: Sequence[Placement],
    mesh_shape: Sequence[int],
    coordinate: Sequence[int],
    as_order: bool,
) -> list[Runs]:
    """Return the runs of each dimension that a rank holds."""
    runs = [[range(size)] if size else [] for size in shape]
    steps = [_step(placement, at, len(runs)) for at, placement in enumerate(placements) if not placement.is_replicate()]
    for dim, at, factor in _ordered(steps, mesh_shape) if as_order else steps:
        runs[dim] = split(runs[dim], factor, mesh_shape[at], coordinate[at])
    return runs


def _step(placement: Placement, mesh_dim: int, axes: int) -> _Step:
    """Return the split that a placement says."""
    dim = getattr(placement, "dim", None)  # ``is_shard()`` of a _StridedShard is False in some releases, True in others
    if placement.is_partial() or dim is None:
        raise ValueError(f"dtensor must have placements Shard and Replicate only, got {quoted(placement)}")
    if not -axes <= dim < axes:
        raise ValueError(f"dtensor must be sharded by a dimension in [{-axes}, {axes}), got {quoted(placement)}")
    return _Step(dim % axes, mesh_dim, int(getattr(placement, "split_factor", 1)))


def _ordered(steps: list[_Step], mesh_shape: Sequence[int]) -> list[_Step]:
    """Return plain splits in the order that the factors say, or the steps as they are, if they say none.

    A factor is the number of shards that later mesh dimensions make before: it tells where among them, in their order,
    its step has its place.
    """
    orders: dict[int, list[_Step]] = {}
    for step in reversed(steps):
        order = orders.setdefault(step.dim, [])
        shards = list(accumulate((mesh_shape[later.mesh_dim] for later in order), mul, initial=1))
        if step.factor not in shards:
            return steps
        order.insert(shards.index(step.factor), step._replace(factor=1))
    return list(chain.from_iterable(orders.values()))


def _regions(runs: list[Runs]) -> list[LocalRegion]:
    """Return the product of the dimensions' runs."""
    found = []
    for sides in product(*map(_placed, runs)):
        offset, shape = tuple(run.start for _, run in sides), tuple(len(run) for _, run in sides)
        found.append(LocalRegion(tuple(where for where, _ in sides), offset, shape))
    return found


def _placed(runs: Runs) -> list[tuple[slice, range]]:
    """Return where in the local tensor each run is, and the run."""
    found, at = [], 0
    for run in runs:
        found.append((slice(at, at + len(run)), run))
        at += len(run)
    return found


def _check_dtensor(dtensor: Any) -> None:
    from torch.distributed.tensor import DTensor

    if not isinstance(dtensor, DTensor):
        raise TypeError(f"dtensor must be a torch DTensor, got an object of {type(dtensor).__name__}")


def _check_order(dtensor: DTensor) -> None:
    """Refuse an order of the mesh dimensions that the placements do not say: torch's private ``shard_order`` can."""
    order = getattr(getattr(dtensor, "_spec", None), "shard_order", None)
    if any(list(entry.mesh_dims) != sorted(entry.mesh_dims) for entry in order or ()):
        raise ValueError(f"dtensor must be sharded by the mesh dimensions in ascending order, got {quoted(order)}")


def _local(dtensor: DTensor) -> Tensor:
    """Return the local tensor itself, outside of autograd."""
    import torch

    with torch.no_grad():
        return dtensor.to_local().detach()


def is_distributed(tensor: object) -> bool:
    """Test whether a tensor is a DTensor, without importing what has the type."""
    return hasattr(tensor, "_local_tensor") and hasattr(tensor, "placements")
