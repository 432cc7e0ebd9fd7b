"""Imports and compilations that are under way when a signal's handler fills, or when the process forks.

A handler would find halves of modules that the thread under it is importing: so imports take place in a thread of
their own. A fork waits for them, since in the child nobody would ever finish them. Locks made anew there would not do:
LLVM has locks of its own, and an import cannot be begun again.
"""

from __future__ import annotations

import importlib
import logging  # noqa: F401 - Numba imports it: which must not be while a fork waits, for it unlocks after forks
import os
import sys
import threading
from contextlib import suppress
from typing import Any

from fastinit.core.text import say

PATIENCE = 60.0  # seconds that a fork waits for a compilation, before it takes place all the same
LATE = "fastinit.sampling.lowering", "fastinit.kernels.entries", "fastinit.kernels.layout"  # imported by the first fill
_ALSO_LATE = "fastinit.kernels.measures", "fastinit.kernels.workers"
COMPILING = threading.RLock()  # held by the thread that makes a kernel ready
_loaded: set[str] = set()
_loading: set[threading.Thread] = set()


def load(*names: str) -> None:
    """Import modules, in another thread: a handler that interrupts the wait, and needs them too, waits for them.

    What goes wrong is left to the statement that imports them after this.
    """
    if _loaded.issuperset(names):
        return

    def work() -> None:
        for name in names:
            with suppress(Exception):
                importlib.import_module(name)

    thread = threading.Thread(target=work, name="fastinit-import", daemon=True)
    _loading.add(thread)
    try:
        with suppress(RuntimeError):  # no thread can be started
            thread.start()
            thread.join()
        _loaded.update(names)
    finally:
        _loading.discard(thread)


def _numba() -> Any:
    """Return what holds Numba's lock around all compilation; None where Numba is not imported."""
    return getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)


def _locks() -> list[Any]:
    """Return the locks of those who compile, in the order in which they are taken."""
    numba = _numba()
    return [COMPILING] if numba is None else [COMPILING, numba._lock]


def compiles() -> bool:
    """Return whether this thread compiles something: then it was interrupted there."""
    return any(lock._is_owned() for lock in _locks())


def _finish() -> None:
    """Wait, before a fork, for imports that threads are at, and for the owners of the locks."""
    for thread in list(_loading):
        with suppress(RuntimeError):  # not started yet, or this one
            thread.join()
    if "fastinit.kernels" in sys.modules:
        for name in (*LATE, *_ALSO_LATE):
            with suppress(Exception):  # to be seen by the thread that needs it
                importlib.import_module(name)
    for lock in _locks():
        if not lock.acquire(timeout=2):
            say("a fork waits for what is compiled in another thread")
            lock.acquire(timeout=PATIENCE)


def _go_on() -> None:
    """Release the locks, in the parent and in the child."""
    for lock in _locks():
        if lock._is_owned():
            lock.release()


def _forget() -> None:
    """Replace locks in the child of a fork that waited in vain: their owners do not exist there."""
    global COMPILING
    owned = [lock._is_owned() for lock in _locks()]
    _go_on()
    if not owned[0]:
        COMPILING = threading.RLock()
    if not owned[-1] and (numba := _numba()):
        numba._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_finish, after_in_parent=_go_on, after_in_child=_forget)
