"""Compiled kernels on disk: a file for each, named for all that decides its code, believed if whole.

Numba's own cache numbers the files of a function in an index. Processes that compile at once may give one number to
two kernels, and a distribution would be drawn by the code of another; a file that is cut short is an error until
somebody deletes it. Here nobody waits for anybody: whoever writes a file writes what others would, and in one step.
What cannot be read is compiled anew, and what cannot be written is not kept.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps
from numba.core.target_extension import target_override
from numba.misc.appdirs import AppDirs

from fastinit.core import dtypes
from fastinit.core.text import quoted, say

if vars(config)["DISABLE_JIT"]:
    raise RuntimeError("fastinit needs Numba's compiler: unset NUMBA_DISABLE_JIT")

PATIENCE = 2.0  # seconds that a compilation may take without a word
CHECKSUM_BYTES = 32
_VERSIONS = numba.__version__, llvmlite.__version__, sys.version
_said: set[str] = set()


@cache
def digest() -> str:
    """Return a digest of all that the kernels are compiled from; empty where the sources are not there to be read."""
    total, paths = hashlib.sha256(), sorted(Path(__file__).parent.glob("*.py"))
    if not paths:
        return ""
    for path in (*paths, Path(dtypes.__file__)):
        total.update(path.read_bytes())
    return total.hexdigest()


def describe(transform_class: Any, dtype: str) -> str:
    """Return a title for the kernel of a transform, a class of `kernels.transforms`: "normal draws in float32"."""
    return f"{transform_class.__name__.removesuffix('Transform').lower()} draws in {dtype}"


def keep(kernel: Any, label: str, form: Any = CompileResultCacheImpl, target: str = "cpu") -> Any:
    """Let a kernel of Numba's be looked for on disk before it is compiled, and be put there afterwards; the kernel.

    ``label`` describes it, and no other kernel has the same. ``form`` is Numba's class that makes a version of it
    something to be pickled, and back.
    """
    kernel._cache = _Kept(label, form, target, kernel.targetctx)
    if target == "cpu":  # a GPU's context belongs to a thread
        kernel.compile = partial(_apart, kernel.compile)
    return kernel


def _apart(compile_version: Callable[[Any], Any], signature: Any) -> Any:
    """Compile in a thread of its own: a signal's handler that needs a kernel may interrupt the wait for another one.

    Numba cannot be entered a second time by a thread that is inside it.
    """
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(compile_version(signature))
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=work, name="fastinit-compiler")
    if not global_compiler_lock.is_locked():  # type: ignore[no-untyped-call] # by this thread, which compiles something that calls the kernel
        with suppress(RuntimeError):  # no thread can be started
            thread.start()
    while thread.is_alive():
        thread.join(1)  # for ever in a child that was forked meanwhile
    return future.result() if future.done() else compile_version(signature)


def folders() -> list[Path]:
    """Return the folders of kernels, in order: the user's choice, or beside the package and the user's caches.

    Nowhere in a program that is packed without its sources: nothing would tell its versions apart.
    """
    if not digest():
        return []
    if chosen := vars(config)["CACHE_DIR"]:
        return [Path(chosen, "fastinit")]
    mine = AppDirs(appname="fastinit", appauthor=False).user_cache_dir  # type: ignore[no-untyped-call]
    return [Path(__file__).parent / "__pycache__", Path(mine)]


def _writable() -> Iterator[Path]:
    """Yield those of the folders that can be written to, made where they are missing."""
    for folder in folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                yield folder


class _Kept(NullCache):
    """The versions of one kernel on disk, in the place of Numba's own cache."""

    def __init__(self, label: str, form: Any, target: str, context: Any) -> None:
        self._label, self._target, self._context = label, target, context
        self._form = form.__new__(form)  # whose constructor would look for a folder of Numba's
        self._notice: threading.Timer | None = None

    @property
    def cache_path(self) -> str | None:
        """The first folder that is looked into."""
        return next(map(str, folders()), None)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the compiled version from disk; None where there is none that is whole."""
        with target_override(self._target):  # type: ignore[no-untyped-call]
            context.refresh()
            name, key = self._identity(signature)
            for folder in folders():
                with suppress(Exception):  # whatever is wrong with a file: it is not what we wrote
                    content = memoryview((folder / name).read_bytes())
                    checksum, payload = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
                    if checksum == hashlib.sha256(key + payload).digest():
                        return self._form.rebuild(context, pickle.loads(payload))
        self._notice = _compiling(self._label)
        return None

    def save_overload(self, signature: Any, version: Any) -> None:
        """Put a compiled version on disk, unless there is something against it: then it is compiled again next time."""
        if self._notice:
            self._notice.cancel()
        name, key = self._identity(signature)
        with suppress(Exception):  # Numba refuses to pickle, no folder, no room there
            if self._form.check_cachable(version):
                payload = dumps(self._form.reduce(version))  # type: ignore[no-untyped-call]
                _replace(next(_writable()) / name, hashlib.sha256(key + payload).digest() + payload)

    def _identity(self, signature: Any) -> tuple[str, bytes]:
        """Return the file's name, and a digest of everything that decides the compiled code."""
        processor = self._context.codegen().magic_tuple()
        facts = repr((self._label, digest(), signature, processor, _VERSIONS))
        key = hashlib.sha256(facts.encode()).digest()
        return f"{re.sub(r'[^a-z0-9]+', '-', self._label.lower())}-{key.hex()[:32]}.kernel", key


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: readers see the old one or the new one, whole."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _compiling(label: str) -> threading.Timer:
    """Say which kernel is compiled if it takes long; to be cancelled."""
    folder = next(_writable(), None)
    kept = f"once, kept in {quoted(str(folder))}" if folder else "each time, for want of a folder: set NUMBA_CACHE_DIR"

    def still() -> None:
        lock = global_compiler_lock._lock
        if lock.acquire(blocking=False):  # an interrupt, say, has ended it
            lock.release()
        elif label not in _said:
            _said.add(label)
            say(f"compiling the kernel of {label}; {kept}")

    notice = threading.Timer(PATIENCE, still)
    notice.daemon = True
    with suppress(RuntimeError):  # no thread can be started
        notice.start()
    return notice
