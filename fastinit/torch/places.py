"""Parts of tensors: which rectangle of a tensor a view is, and values into it, on whatever ranks hold it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastinit.core.arrays import torch_memory
from fastinit.core.boxes import intersection
from fastinit.core.dtypes import DTYPES
from fastinit.core.pages import ask_for_huge_pages
from fastinit.initializers.base import Initializer
from fastinit.sampling.filling import fill
from fastinit.torch.sharding import is_distributed, local_regions

Sizes = tuple[int, ...]

FLOATS = {getattr(torch, name): name for name in DTYPES}  # torch's dtypes that take drawn values


class Box(NamedTuple):
    """A rectangle of a tensor."""

    offset: Sizes
    shape: Sizes

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index."""
        return tuple(slice(at, at + size) for at, size in zip(self.offset, self.shape, strict=True))

    def meet(self, other: Box) -> Box | None:
        """Return the part that two boxes have in common; None if there is none."""
        common = intersection(*self, *other)
        return None if common is None else Box(*common)


def whole(tensor: Tensor) -> Box:
    """Return all of a tensor."""
    return Box((0,) * tensor.dim(), tuple(tensor.shape))


def box_of(view: Tensor, base: Tensor) -> Box | None:
    """Return the part of a tensor that a view of its memory is; None if that is not a rectangle.

    The strides say it: each axis of the view is one of the tensor's, and its start is the index of an element.

    Examples
    --------
    >>> base = torch.empty(4, 6, 5)
    >>> box_of(base.permute(2, 0, 1)[1:3, 2], base)
    Box(offset=(2, 0, 1), shape=(1, 6, 2))
    >>> box_of(base[::2], base) is None
    True
    """
    if view is base or _footprint(view) == _footprint(base):  # all of it, as flattened or permuted as may be
        return whole(base)
    left = view.storage_offset() - base.storage_offset()
    axes = {stride: size for size, stride in zip(view.shape, view.stride(), strict=True) if size != 1}
    if left < 0 or len(axes) < sum(size != 1 for size in view.shape):
        return None
    offset, shape = [0] * base.dim(), [1] * base.dim()
    for k in sorted(range(base.dim()), key=lambda k: (-base.stride(k), base.shape[k])):
        if base.shape[k] > 1:
            offset[k], left = divmod(left, base.stride(k))
            shape[k] = axes.pop(base.stride(k), 1)
            if offset[k] + shape[k] > base.shape[k]:
                return None
    return None if left or axes else Box(tuple(offset), tuple(shape))


def _footprint(tensor: Tensor) -> tuple[int, list[tuple[int, int]]]:
    """Return a tensor's memory: where it begins, and (stride, size) of axes, shortest first, merged if adjacent."""
    merged: list[tuple[int, int]] = []
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if merged and stride == merged[-1][0] * merged[-1][1]:
            merged[-1] = (merged[-1][0], merged[-1][1] * size)
        elif size != 1:
            merged.append((stride, size))
    return tensor.storage_offset(), merged


def expect_fill(tensor: Tensor) -> None:
    """Ask for huge pages for a plain CPU tensor whose memory nobody has written yet."""
    if tensor.device.type == "cpu" and tensor.layout == torch.strided and not is_distributed(tensor):
        memory = tensor.untyped_storage()
        ask_for_huge_pages(memory.data_ptr(), memory.nbytes())


def fill_box(
    tensor: Tensor, box: Box, init: Initializer, *, seed: int, name: str | int, threads: int | None = None
) -> None:
    """Fill the part of a tensor that this process holds of a box, with the values that the whole tensor has there.

    Parameters
    ----------
    tensor
        Of any device, distributed or not. On the meta device nothing happens.
    box
        The part to fill.
    init, seed, name, threads
        As for `fastinit.fill`; the fans come from the whole tensor's shape.
    """
    if tensor.is_meta:
        return
    local, known = tensor.detach(), {"seed": seed, "name": name, "threads": threads}
    if not is_distributed(tensor):
        part = local if box.shape == tensor.shape else local[box.slices]
        _fill(part, init, tensor.shape, box.offset, known)
        return
    parts = local_regions(tensor)
    local = local.to_local()
    origin = (0,) * tensor.dim()
    _fill(
        local.new_empty(origin, device="cpu"), init, tensor.shape, origin, known
    )  # refused on ranks with nothing, too
    for place, offset, size in parts:
        common = Box(offset, size).meet(box)
        if common is not None:
            starts = [one.start + at - begin for one, at, begin in zip(place, common.offset, offset, strict=True)]
            _fill(local[Box(tuple(starts), common.shape).slices], init, tensor.shape, common.offset, known)
    torch.autograd.graph.increment_version(local)  # the tensor's own counter is torch's to advance


def _fill(part: Tensor, init: Initializer, shape: Sizes, offset: Sizes, known: dict[str, Any]) -> None:
    """Fill a plain tensor of any device; through the CPU's memory where fastinit does not know the device."""
    where: dict[str, Any] = {} if part.shape == shape else {"global_shape": shape, "global_offset": offset}
    if part.device.type == "cuda":
        fill(part, init, **where, **known)
        return
    host = part if part.device.type == "cpu" else torch.empty(part.shape, dtype=part.dtype)
    fill(torch_memory("tensor", host), init, **where, **known)
    if host is not part:
        part.copy_(host)
