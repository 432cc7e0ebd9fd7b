"""Contexts in which torch's draws are fastinit's: a dispatch mode of torch, and who names the tensors.

Below autograd and above every kernel, a dispatch mode sees each operation once, by whatever route it was called:
``torch.nn.init``, methods of tensors, ``.data``, views. Checks of leaves and the counters of versions are torch's own,
since they come before. Modes are of one thread, and each call costs about 2 microseconds more.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastinit.core.environment import in_default
from fastinit.core.keys import key_of, stream_of
from fastinit.initializers.base import Initializer
from fastinit.torch import calls
from fastinit.torch.places import FLOATS, expect_fill, fill_box, whole


class Draws(TorchDispatchMode):
    """Hands draws to `write`, which says what becomes of the tensor; all other operations are torch's.

    Draws by a generator that the caller gives, and in dtypes that fastinit does not have, are left to torch.
    """

    def __init__(self, seed: int, threads: int | None = None) -> None:
        super().__init__()
        self.seed, self.threads = key_of(seed), threads
        self._busy = False

    def __enter__(self) -> Any:
        calls.enter(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            calls.leave()

    def claim(self, tensor: Tensor, init: Initializer, /) -> bool:
        """Write a tensor outside of an operation of torch; False if another context, or torch, is to do it."""
        self._busy = True  # operations are not seen meanwhile, as they are not within one
        try:
            done = self.write(tensor, init)
        finally:
            self._busy = False
        if done:
            torch.autograd.graph.increment_version(tensor)
        return done

    def write(self, tensor: Tensor, init: Initializer, /) -> bool:
        """Write a tensor's values; False if another context, or torch, is to do it."""
        raise NotImplementedError

    def fill_whole(self, tensor: Tensor, init: Initializer, name: str | int) -> None:
        """Fill a tensor as the stream of this name."""
        fill_box(tensor, whole(tensor), init, seed=self.seed, name=name, threads=self.threads)

    def seen(self, tensor: Tensor, init: Initializer, /) -> None:
        """Take note of what was written by fastinit itself."""

    def other(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operation that is no draw."""
        return function(*args, **kwargs)

    @in_default
    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Handle an operation of torch."""
        kwargs = kwargs or {}
        if self._busy:
            return function(*args, **kwargs)
        if kwargs.get("generator") is not None:
            return self.other(function, args, kwargs)
        if function in calls.DRAWS:
            tensor, *numbers = args
            if tensor.dtype in FLOATS and self.write(tensor, _initializer(function, tensor, numbers)):
                return tensor
        elif function in calls.FACTORIES:
            factory, describe = calls.FACTORIES[function]
            init, sizes = describe(*args)
            made = factory(*sizes, **{name: value for name, value in kwargs.items() if name != "generator"})
            if made.dtype in FLOATS and self.write(made, init):
                return made
        return self.other(function, args, kwargs)


def _initializer(function: Any, tensor: Tensor, numbers: list[Any]) -> Initializer:
    """Return what a draw asks for; if it cannot be, raise torch's own error where torch has one."""
    try:
        return calls.DRAWS[function](*numbers)
    except (TypeError, ValueError):
        function(torch.empty(0, dtype=tensor.dtype), *numbers)
        raise


class Numbered(Draws):
    """Names each draw by its number."""

    def __init__(self, seed: int, threads: int | None = None) -> None:
        super().__init__(seed, threads)
        self._numbers = itertools.count()

    def write(self, tensor: Tensor, init: Initializer, /) -> bool:
        """Write a tensor as the next stream."""
        self.fill_whole(tensor, init, next(self._numbers))
        return True

    def other(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an operation; memory that it makes is likely to be drawn into."""
        made = function(*args, **kwargs)
        if function is torch.ops.aten.empty.memory_format:
            expect_fill(made)
        return made


class Single(Draws):
    """Gives one name to what is drawn: to the one tensor of a call."""

    def __init__(self, seed: int, name: str | int, threads: int | None = None) -> None:
        super().__init__(seed, threads)
        self.name = name
        stream_of(name)  # refused before anything is written

    def write(self, tensor: Tensor, init: Initializer, /) -> bool:
        """Write a tensor, and tell the contexts around this one."""
        self.fill_whole(tensor, init, self.name)
        calls.tell(tensor, init)
        return True


class Filling(TorchDispatchMode):
    """Turns ``zero_`` into a fill, so that torch's own rules for operations in place are those of the fill."""

    def __init__(self, init: Initializer, seed: int, name: str | int, threads: int | None) -> None:
        super().__init__()
        self.init, self.seed, self.name, self.threads = init, seed, name, threads

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Handle an operation of torch."""
        if function is not torch.ops.aten.zero_.default:
            return function(*args, **(kwargs or {}))
        (tensor,) = args
        fill_box(tensor, whole(tensor), self.init, seed=self.seed, name=self.name, threads=self.threads)
        calls.tell(tensor, self.init)
        return tensor
