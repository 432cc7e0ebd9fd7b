"""Parts of tensors: which rectangle of a tensor a view is, and values into it, on whatever ranks hold it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastinit.core.arrays import torch_memory
from fastinit.core.dtypes import DTYPES, dtype_of
from fastinit.initializers.base import Initializer
from fastinit.sampling.filling import fill
from fastinit.torch.sharding import LocalRegion, is_distributed, local_regions

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
        low = tuple(map(max, self.offset, other.offset))
        ends = [
            min(a + m, b + n) for a, m, b, n in zip(self.offset, self.shape, other.offset, other.shape, strict=True)
        ]
        if any(end <= at for at, end in zip(low, ends, strict=True)):
            return None
        return Box(low, tuple(end - at for at, end in zip(low, ends, strict=True)))


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
    if _footprint(view) == _footprint(base):  # all of it, as flattened or permuted as may be
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
    shape, local = tuple(tensor.shape), tensor.detach()
    regions = [LocalRegion(whole(tensor).slices, (0,) * tensor.dim(), shape)]
    if is_distributed(tensor):
        regions, local = local_regions(tensor), local.to_local()
    known: dict[str, Any] = {"seed": seed, "name": name, "global_shape": shape, "threads": threads}
    nothing = np.empty([0] * len(shape), dtype_of(tensor.dtype))  # checked on ranks that hold no element, too
    fill(nothing, init, **known)
    for place, offset, size in regions:
        part = Box(offset, size).meet(box)
        if part is not None:
            starts = [one.start + at - begin for one, at, begin in zip(place, part.offset, offset, strict=True)]
            index = Box(tuple(starts), part.shape).slices
            _fill(local[index], init, global_offset=part.offset, **known)
    if is_distributed(tensor):
        torch.autograd.graph.increment_version(local)  # the tensor's own counter is torch's to advance


def _fill(part: Tensor, init: Initializer, **known: Any) -> None:
    """Fill a plain tensor of any device; through the CPU's memory where fastinit does not know the device."""
    if part.device.type == "cuda":
        fill(part, init, **known)
        return
    host = part if part.device.type == "cpu" else torch.empty(part.shape, dtype=part.dtype)
    fill(torch_memory("tensor", host), init, **known)
    if host is not part:
        part.copy_(host)
