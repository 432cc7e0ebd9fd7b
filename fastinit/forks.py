"""Forks: they wait for what another thread imports or compiles, which in the child nobody would ever finish.

Locks made anew in the child would not do: LLVM has locks of its own, and an import cannot be begun again.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from contextlib import suppress
from typing import Any

from fastinit.text import say

PATIENCE = 60.0  # seconds that a fork waits for a compilation, before it takes place all the same
_LATE = "fastinit.prepare", "fastinit.kernels.cpu", "fastinit.kernels.census", "ml_dtypes"  # not imported with fastinit


def _compiler() -> Any:
    """Numba's lock around all compilation; None where Numba is not imported."""
    return getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)


def _finish() -> None:
    """Before a fork: an import waits for the thread that is at it, and a lock for its owner."""
    if "fastinit.prepare" in sys.modules or "fastinit.kernels" in sys.modules:
        for name in _LATE:
            with suppress(Exception):  # to be seen by the thread that needs it
                importlib.import_module(name)
    if (compiler := _compiler()) and not compiler._lock.acquire(timeout=2):
        say("a fork waits for what Numba compiles in another thread")
        compiler._lock.acquire(timeout=PATIENCE)


def _go_on() -> None:
    """In the parent, and in the child."""
    if (compiler := _compiler()) and compiler.is_locked():
        compiler._lock.release()


def _forget() -> None:
    """In the child of a fork that waited in vain: whoever has the lock does not exist there."""
    if (compiler := _compiler()) and not compiler.is_locked():
        compiler._lock = threading.RLock()
    else:
        _go_on()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_finish, after_in_parent=_go_on, after_in_child=_forget)
