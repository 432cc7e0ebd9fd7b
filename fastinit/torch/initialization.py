"""`initialize_`: a module's own initialization, drawn by fastinit, each parameter by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import nn

from fastinit.core.checks import suggestion
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.sampling.checks import check_progress
from fastinit.sampling.progress import Progress, reporter
from fastinit.torch.contexts import Numbered
from fastinit.torch.modules import Named
from fastinit.torch.places import expect_fill
from fastinit.torch.report import InitializationReport
from fastinit.torch.slots import Slot
from fastinit.torch.ties import Ties

Reset = Callable[[nn.Module], object]

_WHOLE = ("init_weights", "init_states")  # methods that initialize a whole model: transformers and timm, torchtitan
_OWN = ("reset_parameters", "_reset_parameters")  # and those of one module


def drawing(module: nn.Module, *, seed: int, prefix: str = "", threads: int | None = None) -> Named:
    """Open a context in which a module's own code draws with fastinit.

    Within it, on this thread, the functions of ``torch.nn.init`` under every style of import, ``Tensor.uniform_`` and
    ``Tensor.normal_`` write the values of (seed, name), where the name is the parameter's or buffer's qualified one:
    those of `fastinit.fill` with the same arguments. A part of a parameter gets the part's values of the whole; a
    matrix (``orthogonal_``, ``sparse_``) in a part gets a stream of that part. Contexts may be nested. Draws that are
    given a generator are torch's. ``torch.get_rng_state()`` is unchanged afterwards.

    Parameters
    ----------
    module
        Its parameters and buffers, on any device or distributed, are known by their names and by their memory.
    seed
        In [0, 2**64).
    prefix
        Goes before every name.
    threads
        As for `fastinit.fill`.

    Returns
    -------
    context manager
        Its ``report()`` says what each parameter got so far.

    Raises
    ------
    ValueError
        If a parameter is lazy: it has no shape yet.

    Examples
    --------
    >>> import fastinit as fi, fastinit.torch, torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> with fastinit.torch.drawing(layer, seed=0, prefix="head.") as drawn:
    ...     _ = torch.nn.init.normal_(layer.weight, std=0.02)
    >>> bool((layer.weight.detach().numpy() == fi.array((2, 3), fi.normal(std=0.02), seed=0, name="head.weight")).all())
    True
    >>> print(drawn.report().tensors["head.weight"])
    head.weight  float32[2, 3]  normal(std=0.02)
    """
    return Named(module, seed, prefix, threads)


def accelerated(seed: int | None = None, *, threads: int | None = None) -> Numbered:
    """Open a context in which all of torch's draws on this thread are fastinit's, for code that cannot change.

    While a module is constructed its parameters have no names yet, so streams are numbered in the order of the draws:
    equal calls in an equal order give equal values, with any number of threads. This is as reproducible as torch's own
    generator. Where values are to depend on names alone, use `initialize_`.

    Parameters
    ----------
    seed
        In [0, 2**64); None to draw it from torch's generator, so that ``torch.manual_seed`` decides.
    threads
        As for `fastinit.fill`.

    Examples
    --------
    >>> import fastinit.torch, torch
    >>> weights = []
    >>> for _ in range(2):
    ...     _ = torch.manual_seed(0)
    ...     with fastinit.torch.accelerated():
    ...         weights.append(torch.nn.Linear(3, 2).weight)
    >>> bool((weights[0] == weights[1]).all())
    True
    """
    return Numbered(int(torch.empty((), dtype=torch.int64).random_().item()) if seed is None else seed, threads)


def initialize_(
    module: nn.Module,
    *,
    seed: int,
    prefix: str = "",
    reset: str | Reset | None = None,
    rules: Mapping[str, Initializer] | None = None,
    strict: bool = True,
    device: str | torch.device | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> InitializationReport:
    """Initialize a module by its own code, with the values of (seed, name), on any number of ranks.

    The module's initialization runs under `drawing`: its ``init_weights`` or ``init_states`` if it has one, and
    ``reset_parameters`` or ``_reset_parameters`` of each module, children first, for what these leave. A module on the
    meta device is materialized first, so that nothing is initialized twice. Tied parameters get what the module of
    their first name gives them, as in a model that is built eagerly and tied afterwards.

    Parameters
    ----------
    module
        Materialized, or wholly on the meta device; its parameters may be DTensors (FSDP2, tensor parallel).
    seed, prefix, threads
        As for `drawing`.
    reset
        A method's name, or a function of the module, that initializes it in place of what is found.
    rules
        Initializers by globs on full names: the first that matches a parameter or buffer gives it its values, and the
        module's own code does not.
    strict
        Whether to raise an error, with the names, if nothing wrote a parameter or if a generator of torch's did. Values
        that are computed and copied are kept, and listed in the report.
    device
        Where a module on the meta device goes; torch's default device if None.
    progress
        True for a bar, or a function that is called with (bytes done, bytes in all).

    Returns
    -------
    InitializationReport
        What each parameter and buffer got.

    Raises
    ------
    RuntimeError
        If strict and something was not initialized.
    ValueError
        If ``reset`` names no method, a rule matches nothing, or only a part of a module's own tensors is on the meta
        device.

    Examples
    --------
    >>> import fastinit as fi, fastinit.torch, torch
    >>> with torch.device("meta"):
    ...     model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    >>> print(fastinit.torch.initialize_(model, seed=0, rules={"0.bias": fi.zeros()}))
    4 tensors, 48 B, seed 0; 0 problems
    0.weight  float32[2, 3]  uniform(low=-0.5773502691896257, high=0.5773502691896257)
    0.bias  float32[2]  zeros()
    1.weight  float32[2]  ones()
    1.bias  float32[2]  zeros()
    """
    check_progress(progress)
    found, ties = _reset_of(module, reset), Ties(module)
    fresh = _materialize(module, torch.get_default_device() if device is None else torch.device(device))
    with ties.apart(), _reporting(progress) as report:
        context = Named(module, seed, prefix, threads, report)
        ties.merge(context.slots)
        _apply(rules or {}, context)
        _run(module, context, found, each=reset is None)
    made = context.report(complete=True, buffers=fresh)
    if strict:
        made.check()
    return made


def record(module: nn.Module, *, prefix: str = "", reset: str | Reset | None = None) -> InitializationReport:
    """Return what a module's own code would initialize, without memory or draws.

    Values that it computes of nothing random and copies, up to 65,536 of a tensor, are recorded as a `fastinit.table`.

    Parameters
    ----------
    module
        On the meta device, where it stays.
    prefix, reset
        As for `initialize_`.

    Returns
    -------
    InitializationReport
        What `initialize_` would return if it were not strict; ``manifest()`` lists it for ``fastinit init``.

    Raises
    ------
    ValueError
        If the module is not on the meta device: its values would be lost.

    Examples
    --------
    >>> import fastinit.torch, torch
    >>> with torch.device("meta"):
    ...     table = torch.nn.Embedding(50_000, 4096, padding_idx=0)
    >>> print(fastinit.torch.record(table).tensors["weight"])
    weight  float32[50000, 4096]  normal(), zeros() in (1, 4096) at (0, 0)
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_meta:
            raise ValueError(f"module must be on the meta device, but {quoted(name)} is on {tensor.device}")
    found, ties = _reset_of(module, reset), Ties(module)
    with ties.apart():
        context = Named(module, 0, prefix, None, keep_tables=True)
        ties.merge(context.slots)
        _run(module, context, found, each=reset is None)
    return context.report(complete=True, buffers=True)


def _run(module: nn.Module, context: Named, found: Reset | None, *, each: bool) -> None:
    """Run a module's own initialization in a context: as a whole, and of each module what that leaves."""
    with context:
        if found is not None:
            _forget_flags(module)
            found(module)
            context.slots.freeze()
        if each:
            _reset_each(module, {id(slot.tensor) for slot in context.slots.all if slot.unwritten})


def _reset_of(module: nn.Module, reset: str | Reset | None) -> Reset | None:
    """Return the function that initializes a module as a whole; None if it has none."""
    if callable(reset):
        return reset
    if reset is not None and not callable(getattr(module, str(reset), None)):
        raise ValueError(f"reset must be a function or the name of a method of the module, got {quoted(reset)}")
    names = _WHOLE if reset is None else (str(reset),)
    name = next((one for one in names if callable(getattr(module, one, None))), None)
    if name is None:
        return None
    try:
        inspect.signature(getattr(module, name)).bind()
    except TypeError as error:
        raise ValueError(
            f"reset must call {name} with its arguments, which is {error}: give reset=lambda module: module.{name}(...)"
        ) from None
    return lambda module: getattr(module, name)()


def _materialize(module: nn.Module, device: torch.device) -> bool:
    """Give a module on the meta device memory; return whether it was there."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    meta = [name for name, tensor in tensors if tensor.is_meta]
    if meta and len(meta) < len(tensors):
        present = next(name for name, tensor in tensors if not tensor.is_meta)
        raise ValueError(
            f"module must be on the meta device wholly or not at all: {quoted(meta[0])} is, {quoted(present)} is not"
        )
    if meta:
        module.to_empty(device=device)
        for tensor in (*module.parameters(), *module.buffers()):
            expect_fill(getattr(tensor, "_local_tensor", tensor))
    return bool(meta)


@contextmanager
def _reporting(progress: Progress) -> Iterator[Callable[[int, int], object] | None]:
    """Yield the function to report to, if the caller wants one."""
    if progress is None or progress is False:
        yield None
        return
    with reporter(progress) as report:
        yield report


def _apply(rules: Mapping[str, Initializer], context: Named) -> None:
    """Fill what rules match, and keep it from the module's own code; all rules are checked before the first value."""
    chosen: list[tuple[Slot, Initializer]] = []
    names = [name for slot in context.slots.all for name in (slot.name, *slot.aliases)]
    for glob in rules:
        if not any(fnmatchcase(name, glob) for name in names):
            raise ValueError(f"rules: {suggestion(glob, names)}no parameter or buffer matches {quoted(glob)}")
    for slot in context.slots.all:
        own = (slot.name, *slot.aliases)
        init = next((init for glob, init in rules.items() if any(fnmatchcase(name, glob) for name in own)), None)
        if init is not None:
            init.resolve(tuple(slot.tensor.shape))
            chosen.append((slot, init))
    for slot, init in chosen:
        context.write_whole(slot, init)
        slot.frozen = True


def _forget_flags(module: nn.Module) -> None:
    """Remove the marks by which transformers skips what was initialized before."""
    for one in (*module.modules(), *module.parameters(), *module.buffers()):
        one.__dict__.pop("_is_hf_initialized", None)


def _reset_each(module: nn.Module, wanted: set[int]) -> None:
    """Call the own initialization of modules that hold wanted tensors, children first, as constructors do."""
    seen: set[nn.Module] = set()

    def reset(one: nn.Module) -> None:
        if one in seen:
            return
        seen.add(one)
        for child in one.children():
            reset(child)
        method = next((getattr(one, name) for name in _OWN if callable(getattr(one, name, None))), None)
        if method is not None and any(id(tensor) in wanted for tensor in (*one.parameters(), *one.buffers())):
            method()

    reset(module)
