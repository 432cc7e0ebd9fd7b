"""What Numba keeps of compiled kernels on disk: when it is still right, and that processes do not mix it up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any


@cache
def digest() -> str:
    """A digest of everything that the kernels are compiled from."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


@contextmanager
def one_process(kernel: Any) -> Iterator[None]:
    """Let one process at a time look into the folder of a compiled kernel, compile what is not there, and add it.

    Numba numbers the files of a function's versions by those that it found: two processes that compile at once may give
    one number to two kernels, and a law would be drawn by the code of another.
    """
    with ExitStack() as stack:
        folder = kernel._cache.cache_path
        if folder is not None:
            with suppress(ImportError, OSError):  # not on Unix; nothing can be written there; no locks there
                from fcntl import LOCK_EX, flock

                Path(folder).mkdir(parents=True, exist_ok=True)
                flock(stack.enter_context(Path(folder, "fastinit.lock").open("a")), LOCK_EX)
        yield
