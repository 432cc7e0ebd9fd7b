"""`Named`, the context in which a module's own code draws each parameter by its name."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fastinit.core.keys import stream_of
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.torch import calls
from fastinit.torch.contexts import Draws
from fastinit.torch.places import fill_box
from fastinit.torch.report import InitializationReport
from fastinit.torch.sharding import is_distributed
from fastinit.torch.slots import Slot, Slots, Spot, storage_of, written_by
from fastinit.torch.tables import Tables

Report = Callable[[int, int], object]  # called with the bytes written, and those of all tensors


class Named(Draws):
    """Draws each parameter and buffer of a module by its name, and keeps what was written into which.

    Tensors that are none of them are named by the number of the draw. One that is then copied into a parameter, as
    torch's convolutions do, counts as a draw of the parameter.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        seed: int,
        prefix: str,
        threads: int | None,
        report: Report | None = None,
        *,
        keep_tables: bool = False,
    ) -> None:
        super().__init__(seed, threads)
        self._tables = Tables() if keep_tables else None
        self.slots, self.prefix, self._progress = Slots(module, prefix), prefix, report
        self._done = self._total = 0  # bytes; those of all tensors are known once ties are
        self._temporaries: dict[int, tuple[weakref.ref[Tensor], Initializer]] = {}
        self._numbers = itertools.count()

    def write(self, tensor: Tensor, init: Initializer, /) -> bool:
        """Write a parameter, a buffer, a part of one, or a temporary."""
        spot = self.slots.find(tensor)
        if spot is not None:
            self._write(spot, tensor, init)
            return True
        if not calls.outermost(self):
            return False
        self.fill_whole(tensor, init, f"{self.prefix}temporary {next(self._numbers)}")
        if self._tables is not None:
            self._tables.add_random(tensor)
        self._temporaries[storage_of(tensor)] = weakref.ref(tensor), init
        self.slots.forget(tensor)
        return True

    def seen(self, tensor: Tensor, init: Initializer, /) -> None:
        """Take note of what fastinit itself has written into a parameter."""
        if (spot := self.slots.find(tensor)) is not None:
            spot.slot.note(spot.view, init)

    def _write(self, spot: Spot, tensor: Tensor, init: Initializer) -> None:
        """Write a part of a slot by the slot's name."""
        slot, box = spot.slot, spot.box
        if slot.frozen:
            return
        if box is not None and (spot.straight or not _is_matrix(init, tensor)):
            fill_box(slot.tensor, box, init, seed=self.seed, name=slot.name, threads=self.threads)
        elif is_distributed(slot.tensor):
            raise RuntimeError(f"{init} cannot initialize a part of the distributed {quoted(slot.name)}")
        elif not tensor.is_meta:
            made = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)  # its own matrix, or odd places
            self.fill_whole(made, init, f"{slot.name}[{spot.view.storage_offset()}, {tuple(spot.view.stride())}]")
            tensor.detach().copy_(made)
        slot.note(spot.view, init)
        self._tell(tensor)

    def write_whole(self, slot: Slot, init: Initializer) -> None:
        """Write a slot's tensor from outside of its module's code."""
        self.fill_whole(slot.tensor, init, slot.name)
        torch.autograd.graph.increment_version(slot.tensor)
        slot.note(slot.geometry, init)
        self._tell(slot.tensor)

    def _tell(self, tensor: Tensor) -> None:
        """Report the bytes of what was written."""
        if self._progress is not None:
            self._total = self._total or sum(slot.nbytes for slot in self.slots.all)
            self._done = min(self._done + tensor.numel() * tensor.element_size(), self._total)
            self._progress(self._done, self._total)

    def report(self, *, complete: bool = False, buffers: bool = False) -> InitializationReport:
        """Return what each parameter and buffer got so far.

        Parameters
        ----------
        complete
            Whether parameters that nothing wrote are a problem.
        buffers
            Whether buffers are, too.
        """
        self.slots.settle()
        return InitializationReport(
            self.seed,
            {
                slot.name: slot.initialized(complete and (buffers or slot.kind == "parameter"))
                for slot in self.slots.all
            },
        )

    def other(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operation that fastinit does not draw, and keep what it writes."""
        written = written_by(function, args, kwargs)
        spots = [spot for one in written if (spot := self.slots.find(one)) is not None]
        if any(spot.slot.frozen for spot in spots):
            return written[0]
        copied, constant = self._copied(function, args), calls.constant_of(function, args)
        init = copied or constant
        if init is None and spots and spots[0].straight and self._tables is not None:  # a table is of a whole tensor
            init = copied = self._tables.copied(function, args)
        if spots and init is not None and (copied is not None or spots[0].lost):
            self._write(spots[0], written[0], init)
            return written[0]
        if any(spot.lost for spot in spots):
            raise RuntimeError(
                f"{_name(function)} of a part of the distributed {quoted(spots[0].slot.name)} would be lost, as torch "
                "gives it a copy: initialize the whole"
            )
        for one in written:
            self._temporaries.pop(storage_of(one), None)
            self.slots.forget(one)
        random = torch.Tag.nondeterministic_seeded in function.tags
        with self._generator() if random and kwargs.get("generator") is None else nullcontext():
            result = function(*args, **kwargs)
        if self._tables is not None:
            self._tables.follow(args, kwargs, (*written, result), random=random)
        for spot in spots:
            if constant is not None:
                spot.slot.note(spot.view, constant)
            else:
                replaces = random or function is torch.ops.aten.copy_.default or "out" in kwargs
                spot.slot.note_torch(spot.view, _name(function), random=random, replaces=replaces)
        self.slots.follow(function, args, kwargs, result)
        return result

    def _copied(self, function: Any, args: tuple[Any, ...]) -> Initializer | None:
        """Return the initializer of a temporary that is copied as it was drawn, into a tensor of its shape."""
        if function is not torch.ops.aten.copy_.default:
            return None
        target, source = args[:2]
        drawn, init = self._temporaries.get(storage_of(source), (lambda: None, None))
        return init if id(drawn()) == id(source) and target.shape == source.shape else None

    @contextmanager
    def _generator(self) -> Iterator[None]:
        """Let torch draw by a seed of its own for this draw, and put its generator back."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_of(f"{self.seed} {next(self._numbers)}"))
            yield


def _name(function: Any) -> str:
    """Return an operation's name, as methods of tensors have it."""
    return str(function._schema.name).partition("::")[2]


def _is_matrix(init: Initializer, tensor: Tensor) -> bool:
    """Test whether an initializer makes a tensor as a whole."""
    return isinstance(init.resolve(tuple(tensor.shape)), Matrix)
