"""Compiled kernels: a file of object code for each, named for all that decides its code, believed if whole.

A kernel is a C function. Whoever finds its file loads it by LLVM alone; Numba is imported when something must be
compiled. Nobody waits for anybody: whoever writes a file writes what others would, and in one step. What cannot be read
is compiled anew, and what cannot be written is not kept.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinit.core import dtypes, forks
from fastinit.core.text import quoted, say
from fastinit.kernels import processor

PATIENCE = 2.0  # seconds that a compilation may take without a word
CHECKSUM_BYTES = 32
_said: set[str] = set()
_ready: dict[str, Any] = {}


class Kernel(NamedTuple):
    """A C function: its title, the types of its arguments, and the Python function that it is compiled from.

    ``Kernel(...).ready()`` is the function, to be called with numbers and arrays. It releases the interpreter's lock.
    """

    label: str  # no other kernel has the same
    arguments: tuple[str, ...]  # NumPy's names of numbers, such as "int64", which addresses are too; or "float32[:]",
    # "float32[:, :]": C-contiguous arrays, which come to the C function as an address and a shape
    module: str  # imported when there is something to compile
    name: str  # of the function there; or, with parameters, of one that returns it
    parameters: tuple[Any, ...] = ()
    result: str = "int64"

    def ready(self) -> Callable[..., Any]:
        """Return the compiled function: from disk if it is there, else compiled now, and put there."""
        function: Callable[..., Any] = _ready.get(self.label) or _apart(partial(_made_ready, self))
        return function

    def address(self) -> int:
        """Return the C function's address, for other kernels."""
        address: int = self.ready().address  # type: ignore[attr-defined]
        return address

    def source(self) -> Callable[..., Any]:
        """Return the Python function."""
        found: Callable[..., Any] = getattr(importlib.import_module(self.module), self.name)
        return found(*self.parameters) if self.parameters else found

    @property
    def symbol(self) -> str:
        """The C function's name."""
        return "fastinit_" + re.sub(r"\W+", "_", self.label)

    def identity(self) -> tuple[str, bytes]:
        """Return the file's name, and a digest of everything that decides the code."""
        return identity(self.label, (*self.arguments, self.result))


def _made_ready(kernel: Kernel) -> Callable[..., Any]:
    """Load or compile a kernel, unless another thread just did."""
    with forks.COMPILING:
        if kernel.label not in _ready:
            _ready[kernel.label] = _from_disk(kernel) or _compiled(kernel)
        function: Callable[..., Any] = _ready[kernel.label]
        return function


def _from_disk(kernel: Kernel) -> Any:
    """Load a kernel from disk; None where there is none that is whole."""
    for code in found(*kernel.identity()):
        with suppress(Exception):  # whatever is wrong with a file: it is not what we wrote
            return _callable(kernel, code)
    return None


def _compiled(kernel: Kernel) -> Any:
    """Compile a kernel, and put it on disk."""
    with announced(kernel.label), _uncollected():
        compiler = importlib.import_module("fastinit.kernels.compiler")
        code = compiler.object_code(kernel.source(), kernel.arguments, kernel.result, kernel.symbol)
    keep(*kernel.identity(), code)
    return _callable(kernel, code)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the garbage collector rest, and never look at what is there afterwards: a million objects of Numba's.

    They live as long as the process; to look at them takes a third of a second, when Python ends for the last time.
    """
    collects = gc.isenabled()
    gc.collect()  # what is garbage already would stay
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.freeze()
            gc.enable()


def _callable(kernel: Kernel, code: bytes) -> Any:
    """Return the function in a kernel's object code."""
    engine, address = processor.load_object(code, kernel.symbol)
    kinds: list[Any] = []
    for argument in kernel.arguments:
        _, axes = axes_of(argument)
        kinds.extend([ctypes.c_int64] * (1 + axes) if axes else [_C_TYPES[argument]])
    function: Any = ctypes.CFUNCTYPE(_C_TYPES[kernel.result], *kinds)(address)
    if len(kinds) > len(kernel.arguments):
        function = partial(_with_arrays, function)
    function.engine = engine  # which owns the code
    function.address = address
    return function


def _with_arrays(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that takes an address and a shape for each array."""
    flat: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):  # cheaper than by ``argument.ctypes``
            flat.extend((argument.__array_interface__["data"][0], *argument.shape))
        else:
            flat.append(argument)
    return function(*flat)


_C_TYPES: dict[str, Any] = {
    "int64": ctypes.c_int64,
    "uint64": ctypes.c_uint64,
    "uint32": ctypes.c_uint32,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}


def axes_of(argument: str) -> tuple[str, int]:
    """Return the element's type and the number of axes of an argument's type, 0 of a number.

    Examples
    --------
    >>> axes_of("float32[:, :]")
    ('float32', 2)
    """
    element, _, axes = argument.partition("[")
    return element, axes.count(":")


def _apart(work: Callable[[], Any]) -> Any:
    """Call in a thread of its own: a signal's handler that needs a kernel may interrupt the wait for another one.

    Numba cannot be entered a second time by a thread that is inside it.
    """
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=call, name="fastinit-compiler")
    if not forks.compiles():  # this thread does, and the other one would wait for it
        with suppress(RuntimeError):  # no thread can be started
            thread.start()
    while thread.is_alive():
        thread.join(1)  # for ever in a child that was forked meanwhile
    return future.result() if future.done() else work()


@cache
def digest() -> str:
    """Return a digest of all that the kernels are compiled from; empty where the sources are not there to be read."""
    total, paths = hashlib.sha256(), sorted(Path(__file__).parent.glob("*.py"))
    if not paths:
        return ""
    for path in (*paths, Path(dtypes.__file__)):
        total.update(path.read_bytes())
    return total.hexdigest()


@cache
def versions() -> tuple[str, ...]:
    """Return what tells the versions of the compiler apart, which is not imported for it; empty where nothing does."""
    found = [sys.version]
    for name in ("numba", "llvmlite"):
        spec = importlib.util.find_spec(name)
        path = Path(spec.origin if spec and spec.origin else "").with_name("_version.py")
        if not path.is_file():
            return ()
        found.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return tuple(found)


def identity(label: str, arguments: Any, *others: Any) -> tuple[str, bytes]:
    """Return the name of a kernel's file, and a digest of everything that decides its code."""
    target = processor.TRIPLE, processor.NAME, processor.FEATURES
    facts = repr((label, digest(), arguments, target, versions(), others))
    key = hashlib.sha256(facts.encode()).digest()
    return f"{re.sub(r'[^a-z0-9]+', '-', label.lower())}-{key.hex()[:32]}.kernel", key


def folders() -> list[Path]:
    """Return the folders of kernels, in order: the user's choice, or beside the package and the user's caches.

    Nowhere in a program that is packed without its sources: nothing would tell its versions apart.
    """
    if not digest() or not versions():
        return []
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(chosen, "fastinit")]
    return [Path(__file__).parent / "__pycache__", _of_user()]


def _of_user() -> Path:
    """Return the folder for this package among the user's caches."""
    home = Path.home()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local", "fastinit", "Cache")
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "fastinit"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache", "fastinit")


def _writable() -> Iterator[Path]:
    """Yield those of the folders that can be written to, made where they are missing."""
    for folder in folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                yield folder


def found(name: str, key: bytes) -> Iterator[bytes]:
    """Yield what was kept under a name and a key, where it is whole."""
    for folder in folders():
        content = b""
        with suppress(OSError):
            content = (folder / name).read_bytes()
        checksum, payload = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if checksum == hashlib.sha256(key + payload).digest():
            yield payload


def on_disk(kernel: Kernel) -> bool:
    """Return whether a kernel is on disk."""
    return any(True for _ in found(*kernel.identity()))


def writable() -> bool:
    """Return whether there is a folder to keep kernels in."""
    return next(_writable(), None) is not None


def keep(name: str, key: bytes, payload: bytes) -> None:
    """Keep it, unless there is something against it: no folder, no room there."""
    with suppress(Exception):
        _replace(next(_writable()) / name, hashlib.sha256(key + payload).digest() + payload)


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: readers see the old one or the new one, whole."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def announced(label: str) -> Iterator[None]:
    """Say which kernel is compiled if it takes long."""
    folder = next(_writable(), None)
    kept = f"once, kept in {quoted(str(folder))}" if folder else "each time, for want of a folder: set NUMBA_CACHE_DIR"

    def still() -> None:
        if label not in _said:
            _said.add(label)
            say(f"compiling the kernel of {label}; {kept}")

    notice = threading.Timer(PATIENCE, still)
    notice.daemon = True
    with suppress(RuntimeError):  # no thread can be started
        notice.start()
    try:
        yield
    finally:
        notice.cancel()
