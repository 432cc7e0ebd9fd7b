"""A module's parameters and buffers by name and by memory, and what was written into each."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakIdKeyDictionary

from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.torch.places import Box, box_of, whole
from fastinit.torch.report import Initialized
from fastinit.torch.sharding import is_distributed


@dataclass(eq=False)
class Slot:
    """A parameter or buffer, and what was written into it so far."""

    name: str
    tensor: Tensor
    kind: str  # "parameter", "buffer" or "non-persistent buffer"
    module: str  # kind of module that owns it
    aliases: list[str] = field(default_factory=list)  # further names, if it is tied
    drawn: list[tuple[Box, Initializer]] = field(default_factory=list)  # in order; a whole one replaces all before it
    computed: list[str] = field(default_factory=list)  # operations of torch that wrote other values
    foreign: list[str] = field(default_factory=list)  # draws that were torch's
    frozen: bool = False  # further writes are dropped

    def __post_init__(self) -> None:
        self.memory, self.version = storage_of(self.tensor), self.tensor._version
        distributed = is_distributed(self.tensor)
        self.geometry: Tensor = torch.empty(self.tensor.shape, device="meta") if distributed else self.tensor
        self._written: bool | Tensor = not self.tensor.numel()  # a mask while only parts are

    def cover(self, view: Tensor) -> None:
        """Take note of a write to a view."""
        if box_of(view, self.geometry) == whole(self.geometry):
            self._written = True
        elif self._written is not True:
            base = self.geometry
            if self._written is False:
                self._written = torch.empty_strided(base.shape, base.stride(), dtype=torch.bool).zero_()
            start = view.storage_offset() - base.storage_offset()
            self._written.as_strided(view.shape, view.stride(), start).fill_(True)

    @property
    def unwritten(self) -> bool:
        """Whether an element was written by nothing that was seen."""
        return not (self._written if isinstance(self._written, bool) else bool(self._written.all()))

    def note(self, view: Tensor, init: Initializer) -> None:
        """Take note of values that an initializer gave."""
        box = box_of(view, self.geometry)
        if box is None:
            self.computed.append(f"{init} in places that are no rectangle")
        elif box == whole(self.geometry):
            self.drawn, self.computed, self.foreign = [(box, init)], [], []
        else:
            self.drawn.append((box, init))
        self.cover(view)

    def note_torch(self, view: Tensor, operation: str, *, random: bool, replaces: bool) -> None:
        """Take note of what torch drew or computed; what replaces all values makes the notes before it void."""
        if replaces and box_of(view, self.geometry) == whole(self.geometry):
            self.drawn, self.computed = [], []  # what torch drew may be where these come from
        if replaces:
            self.cover(view)
        (self.foreign if random else self.computed).append(operation)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return int(self.tensor.numel() * self.tensor.element_size())

    def initialized(self, complete: bool) -> Initialized:
        """Return what was written; if it should be complete, that nothing was is a problem."""
        first = bool(self.drawn) and self.drawn[0][0] == whole(self.geometry)
        problem = f"torch drew it: {', '.join(self.foreign)}" if self.foreign else ""
        if complete and self.unwritten:
            part = "only a part was written" if self.drawn or self.computed else "nothing wrote it"
            unseen = self.tensor._version != self.version and not self.drawn
            problem = problem or ("written by nothing that torch shows" if unseen else part)
        return Initialized(
            self.name,
            tuple(self.aliases),
            tuple(self.tensor.shape),
            str(self.tensor.dtype).partition(".")[2],
            self.nbytes,
            self.kind,
            self.module,
            self.drawn[0][1] if first else None,
            tuple(self.drawn[first:]),
            tuple(self.computed),
            problem,
        )


class Spot(NamedTuple):
    """Where a tensor lies in a slot's, by the geometry of one and the other."""

    slot: Slot
    view: Tensor
    lost: bool = False  # whether torch would write to a copy of the slot's memory

    @property
    def box(self) -> Box | None:
        """The part of the slot's tensor; None if it is no rectangle."""
        return box_of(self.view, self.slot.geometry)

    @property
    def straight(self) -> bool:
        """Whether the axes are those of the slot's tensor."""
        base = self.slot.geometry
        return bool(self.view.shape == base.shape and self.view.stride() == base.stride())


class Slots:
    """All slots of a module, found by any tensor that shares their memory."""

    def __init__(self, module: torch.nn.Module, prefix: str) -> None:
        found: dict[int, Slot] = {}
        for path, owner in module.named_modules(remove_duplicate=False):
            for kind, own in (("parameter", owner._parameters), ("buffer", owner._buffers)):
                for key, tensor in own.items():
                    if tensor is None:
                        continue
                    name = prefix + (f"{path}.{key}" if path else key)
                    if torch.nn.parameter.is_lazy(tensor):
                        raise ValueError(f"module must have its shapes, but {quoted(name)} is lazy: run a batch first")
                    if id(tensor) in found:
                        found[id(tensor)].aliases.append(name)
                    else:
                        persistence = "non-persistent " * (key in owner._non_persistent_buffers_set)
                        found[id(tensor)] = Slot(name, tensor, persistence + kind, type(owner).__name__)
        self.all = list(found.values())
        self._own = {id(slot.tensor): slot for slot in self.all}
        self._of: dict[int, list[Slot]] = {}
        for slot in self.all:
            self._of.setdefault(slot.memory, []).append(slot)
        self._views: Any = WeakIdKeyDictionary()  # of distributed tensors: their spots
        self._copies: dict[int, tuple[StorageWeakRef, Slot]] = {}  # memory that has all of a slot's values

    def settle(self) -> None:
        """Take note of all tensors that were given other memory, by ``.data =``."""
        for slot in self.all:
            self._follow_memory(slot)

    def _follow_memory(self, slot: Slot) -> None:
        memory = storage_of(slot.tensor)
        if memory != slot.memory:
            slot.memory = memory
            self._of.setdefault(memory, []).append(slot)
            known = self._copies.get(memory)
            if known is None or known[0].expired() or known[1] is not slot:
                slot.note_torch(slot.geometry, "data", random=False, replaces=True)

    def forget(self, tensor: Tensor) -> None:
        """Take note of a write into a tensor that is no slot's: it is a copy no more."""
        self._copies.pop(storage_of(tensor), None)

    def freeze(self) -> None:
        """Drop further writes to what was written."""
        for slot in self.all:
            slot.frozen = slot.frozen or not slot.unwritten

    def find(self, tensor: Tensor) -> Spot | None:
        """Return where a tensor lies; None if it shares no slot's memory."""
        if tensor in self._views:
            spot: Spot = self._views[tensor]
            return spot
        if (slot := self._own.get(id(tensor))) is not None:
            self._follow_memory(slot)
            return Spot(slot, slot.geometry)
        memory = storage_of(tensor)
        for slot in self._of.get(memory, ()):
            if storage_of(slot.tensor) != memory:  # it was given other memory, and its own to another tensor
                continue
            if not is_distributed(slot.tensor):
                if _reaches(slot.tensor, tensor):
                    return Spot(slot, tensor)
            elif tensor.shape == (slot.tensor if is_distributed(tensor) else slot.tensor.to_local()).shape:
                return Spot(slot, slot.geometry)  # detached, or the local tensor as a whole
            else:
                raise RuntimeError(
                    f"a part of the distributed {quoted(slot.name)} cannot be initialized through its local tensor, of "
                    f"shape {tuple(tensor.shape)}: index the distributed one"
                )
        return None

    def follow(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Keep what was made of slots: copies of all their values, and views.

        Views of distributed tensors have to be kept, since torch may make them of other memory than their tensor's.
        """
        if function in _COPIES and (spot := self.find(args[0])) is not None:
            plain = not is_distributed(result) and spot.straight
            if plain and result.shape == args[0].shape and result.dtype == args[0].dtype:
                self._copies[storage_of(result)] = StorageWeakRef(result.untyped_storage()), spot.slot
            return
        if not (args and isinstance(args[0], Tensor) and is_distributed(args[0]) and _signature(function).is_view):
            return
        if (spot := self.find(args[0])) is not None:
            views = function(spot.view, *args[1:], **kwargs)
            for one, view in zip(_listed(result), _listed(views), strict=True):
                self._views[one] = Spot(spot.slot, view, storage_of(one) != storage_of(spot.slot.tensor))


_COPIES = (  # operations that may copy all values; transformers pads biases by nothing
    torch.ops.aten.clone.default,
    torch.ops.aten.constant_pad_nd.default,
    torch.ops.aten._to_copy.default,
)


class _Signature(NamedTuple):
    """What an operation's schema says of its arguments."""

    written: tuple[tuple[int, str], ...]  # places and names of those that it writes
    is_view: bool


@functools.cache
def _signature(function: Any) -> _Signature:
    written = [
        (place, one.name)
        for place, one in enumerate(function._schema.arguments)
        if one.alias_info is not None and one.alias_info.is_write
    ]
    shared = [one.alias_info for one in function._schema.returns if one.alias_info is not None]
    return _Signature(tuple(written), any(not one.is_write for one in shared))


def written_by(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that an operation writes."""
    found: list[Tensor] = []
    for place, name in _signature(function).written:
        value = args[place] if place < len(args) else kwargs.get(name)
        found += tensors_in(value)
    return found


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors among arguments or results, and in lists of theirs."""
    found: list[Tensor] = []
    for one in _listed(values):
        found += tensors_in(one) if isinstance(one, (list, tuple)) else [one] * isinstance(one, Tensor)
    return found


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _reaches(base: Tensor, view: Tensor) -> bool:
    """Test whether a tensor begins within another's memory."""
    length = 1 + sum((size - 1) * stride for size, stride in zip(base.shape, base.stride(), strict=True))
    return bool(0 <= view.storage_offset() - base.storage_offset() < length)


def storage_of(tensor: Tensor) -> int:
    """Return what identifies a tensor's memory while it lives, also on the meta device; 0 if it has none of its own."""
    if is_distributed(tensor):
        tensor = tensor._local_tensor
    return int(tensor.untyped_storage()._cdata) if tensor.layout == torch.strided else 0
