"""Values that a module computes and copies into its tensors: kept, if nothing random is in them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from fastinit.initializers.base import Initializer
from fastinit.initializers.tables import MOST_VALUES, table, table_of
from fastinit.torch.slots import storage_of, tensors_in


class Tables:
    """Follows which tensors have random values, or values that come from some."""

    def __init__(self) -> None:
        self._random: dict[int, StorageWeakRef] = {}

    def add_random(self, tensor: Tensor) -> None:
        """Take note of a tensor with random values."""
        self._random[storage_of(tensor)] = StorageWeakRef(tensor.untyped_storage())

    def follow(self, args: Any, kwargs: dict[str, Any], results: Any, *, random: bool) -> None:
        """Take note of an operation: what it makes of random values is random."""
        if random or any(map(self._is_random, (*tensors_in(args), *tensors_in(list(kwargs.values()))))):
            for one in tensors_in(results):
                self.add_random(one)

    def _is_random(self, tensor: Tensor) -> bool:
        known = self._random.get(storage_of(tensor))
        return known is not None and not known.expired()

    def copied(self, function: Any, args: tuple[Any, ...]) -> Initializer | None:
        """Return the initializer of values that are copied and known: a `table`, if there are few enough."""
        if function is not torch.ops.aten.copy_.default:
            return None
        target, source = args[:2]
        if source.is_meta or target.numel() > MOST_VALUES or self._is_random(source):
            return None
        return table_of_tensor(source.to(target.dtype).expand(target.shape))


def table_of_tensor(tensor: Tensor) -> Initializer | None:
    """Return the initializer that gives a tensor its values; None if they are too many, or not all finite numbers."""
    if tensor.numel() > MOST_VALUES or tensor.is_complex() or not torch.isfinite(tensor).all():
        return None
    values = tensor.detach().flatten()
    return table(table_of((values.double() if tensor.is_floating_point() else values.long()).tolist()))
