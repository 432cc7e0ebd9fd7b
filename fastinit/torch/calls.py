"""torch's calls that draw: which initializer each of them asks for, with torch's own numbers.

Most end as two operations on a tensor, ``uniform_`` and ``normal_``, whose arguments are finished numbers. Functions
that draw in several steps (``trunc_normal_``, ``orthogonal_``, ``sparse_``) would be seen in pieces; so would ``eye_``
and ``dirac_``, which draw nothing. While a context of `fastinit.torch` is open in any thread, the code of these
functions is a dispatch, which reaches them by whatever name they were imported; it asks the calling thread's contexts,
and without one calls the original.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastinit.initializers.base import Initializer
from fastinit.initializers.elementwise import constant, normal, ones, truncated_normal, uniform, zeros
from fastinit.initializers.structured import dirac, eye, orthogonal, sparse

aten = torch.ops.aten
Make = Callable[..., Initializer]

DRAWS: dict[Any, Make] = {
    aten.uniform_.default: lambda low=0.0, high=1.0: uniform(low, high),
    aten.normal_.default: lambda mean=0.0, std=1.0: normal(mean, std),
}

FACTORIES: dict[Any, tuple[Any, Callable[..., tuple[Initializer, tuple[Any, ...]]]]] = {
    # the factory of a tensor without values; and, by the arguments, the initializer and what the factory takes
    aten.rand.default: (aten.empty.memory_format, lambda size: (uniform(), (size,))),
    aten.randn.default: (aten.empty.memory_format, lambda size: (normal(), (size,))),
    aten.rand_like.default: (aten.empty_like.default, lambda like: (uniform(), (like,))),
    aten.randn_like.default: (aten.empty_like.default, lambda like: (normal(), (like,))),
    aten.normal.float_float: (
        aten.empty.memory_format,
        lambda mean, std, size: (normal(mean, std), (size,)),
    ),
}


def constant_of(function: Any, arguments: tuple[Any, ...]) -> Initializer | None:
    """Return the initializer of a call that writes one finite number everywhere; None of any other call."""
    if function is aten.zero_.default:
        return zeros()
    if function not in (aten.fill_.Scalar, aten.fill_.Tensor):
        return None
    value = arguments[1].item() if isinstance(arguments[1], Tensor) else arguments[1]
    try:
        return zeros() if value == 0 else ones() if value == 1 else constant(value)
    except (TypeError, ValueError):  # complex, infinite, not a number
        return None


class _Steps(NamedTuple):
    """A function that writes a tensor in several steps, and the initializer that it comes to."""

    module: str
    name: str
    make: Make  # of its arguments but the tensor and the generator

    @property
    def function(self) -> Any:
        """The function, where its module is imported and has it."""
        return getattr(sys.modules.get(self.module), self.name, None)


def _truncated(mean: float, std: float, a: float, b: float) -> Initializer:
    return truncated_normal(mean, std, a, b, bounds="absolute")


_STEPS = {
    f"{one.module}.{one.name}": one
    for one in (
        _Steps("torch.nn.init", "trunc_normal_", _truncated),
        _Steps("torch.nn.init", "orthogonal_", orthogonal),
        _Steps("torch.nn.init", "sparse_", sparse),
        _Steps("torch.nn.init", "eye_", eye),
        _Steps("torch.nn.init", "dirac_", dirac),
        _Steps("timm.layers.weight_init", "trunc_normal_", _truncated),
        _Steps("timm.layers.weight_init", "trunc_normal_tf_", truncated_normal),
    )
}


class Context(Protocol):
    """What answers calls: see `fastinit.torch.contexts`."""

    def claim(self, tensor: Tensor, init: Initializer, /) -> bool:
        """Write a tensor; False if another context, or torch, is to do it."""

    def seen(self, tensor: Tensor, init: Initializer, /) -> None:
        """Take note of what was written by fastinit itself."""


class _Open(threading.local):
    """The contexts that a thread has opened, the innermost last."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []


_open = _Open()
_lock = threading.Lock()
_originals: dict[str, Any] = {}  # functions of the code that is exchanged
_contexts = 0


def enter(context: Context) -> None:
    """Let a context of this thread answer calls of functions that draw in several steps."""
    global _contexts
    with _lock:
        _contexts += 1
        for key, steps in _STEPS.items():
            if key not in _originals and (function := steps.function) is not None:
                _originals[key] = types.FunctionType(
                    function.__code__, function.__globals__, function.__name__, function.__defaults__
                )
                function.__code__ = _dispatching(key)
    _open.contexts.append(context)


def leave() -> None:
    """Take the innermost context of this thread away, and with the last one of all the dispatch."""
    global _contexts
    _open.contexts.pop()
    with _lock:
        _contexts -= 1
        if not _contexts:
            for key, original in _originals.items():
                _STEPS[key].function.__code__ = original.__code__
            _originals.clear()


def tell(tensor: Tensor, init: Initializer) -> None:
    """Tell this thread's contexts what fastinit itself has written."""
    for context in _open.contexts:
        context.seen(tensor, init)


def outermost(context: Context) -> bool:
    """Test whether no context of this thread is around this one."""
    return _open.contexts[0] is context


def _template(*args: Any, **kwargs: Any) -> Any:
    from fastinit.torch.calls import answer

    return answer("key", args, kwargs)


def _dispatching(key: str) -> types.CodeType:
    """Return the code of a function that knows which one it stands for; code that is exchanged has no closure."""
    code = _template.__code__
    return code.replace(co_consts=tuple(key if one == "key" else one for one in code.co_consts))


def answer(key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function that draws in several steps, or let this thread's contexts write what it comes to."""
    original = _originals.get(key)
    if original is None:  # the last context was left while another thread stood here
        return _STEPS[key].function(*args, **kwargs)
    if not _open.contexts:
        return original(*args, **kwargs)
    given = _signature(original).bind(*args, **kwargs)
    given.apply_defaults()
    generator = given.arguments.pop("generator", None)
    tensor, *numbers = given.arguments.values()
    if generator is None and isinstance(tensor, Tensor):
        original(torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"), *numbers)  # raises torch's own errors
        try:
            init = _STEPS[key].make(*numbers)
        except (TypeError, ValueError):  # what torch allows: a gain below zero
            return original(*args, **kwargs)
        if any(context.claim(tensor, init) for context in reversed(_open.contexts)):
            return tensor
    return original(*args, **kwargs)


@functools.cache
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)
