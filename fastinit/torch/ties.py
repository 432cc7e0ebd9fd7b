"""Tied parameters while a module initializes itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fastinit.torch.slots import Slots


class Ties:
    """Parameters that several modules share: the place that keeps them, and the others."""

    def __init__(self, module: nn.Module) -> None:
        places: dict[int, list[tuple[nn.Module, str, str]]] = {}
        for path, owner in module.named_modules():
            for key, parameter in owner._parameters.items():
                if parameter is not None:
                    places.setdefault(id(parameter), []).append((owner, key, f"{path}.{key}" if path else key))
        sources = set(getattr(module, "all_tied_weights_keys", {}).values())  # as transformers says it
        self._groups = [
            sorted(group, key=lambda place: place[2] not in sources) for group in places.values() if len(group) > 1
        ]
        self._others: dict[int, int] = {}  # stand-ins by their number: the parameter that they stand for

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Let all but one module of each group initialize a stand-in without memory, and tie them again at the end."""
        kept = []
        for (owner, key, _), *others in self._groups:
            parameter = owner._parameters[key]
            assert parameter is not None
            kept.append(parameter)
            for other, name, _ in others:
                stand_in = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
                other._parameters[name] = stand_in
                self._others[id(stand_in)] = id(parameter)
        try:
            yield
        finally:
            for parameter, group in zip(kept, self._groups, strict=True):
                for owner, key, _ in group:
                    owner._parameters[key] = parameter

    def merge(self, slots: Slots) -> None:
        """Give the names of stand-ins to the parameters that they stand for."""
        slot_of = {id(slot.tensor): slot for slot in slots.all}
        for other, parameter in self._others.items():
            slot_of[parameter].aliases += [slot_of[other].name, *slot_of[other].aliases]
        slots.all = [slot for slot in slots.all if id(slot.tensor) not in self._others]
