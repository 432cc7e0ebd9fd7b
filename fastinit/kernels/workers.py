"""Processes that compile kernels side by side: Numba's compiler is one thread of Python.

Each is a plain Python of its own, told by numbers on its standard input which kernels to put on disk. So a script
needs no guard as multiprocessing's do. Whoever has none compiles in its own process.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from fastinit.kernels.cache import on_disk, writable
from fastinit.kernels.entries import all_of_fills

_WORK = "fastinit.kernels.workers"  # what each runs


@contextmanager
def workers(threads: int) -> Iterator[tuple[int, Callable[[int], None]]]:
    """Yield how many processes compile, 1 if none but this one, and a function that makes kernel number k ready.

    It may be called by as many threads at once.
    """
    kernels = all_of_fills()
    missing = sum(not on_disk(kernel) for kernel in kernels)
    count = max(1, min(threads, missing)) if writable() else 1
    idle: queue.SimpleQueue[subprocess.Popen[str] | None] = queue.SimpleQueue()
    with ExitStack() as all_of_them:
        for _ in range(count):
            idle.put(_started(all_of_them) if count > 1 else None)

        def make_ready(k: int) -> None:
            worker = idle.get()
            try:
                if worker and not on_disk(kernels[k]):
                    _ask(worker, k)
                kernels[k].ready()
            finally:
                idle.put(worker)

        yield count, make_ready


def _started(stack: ExitStack) -> subprocess.Popen[str] | None:
    """Start a process that imports what this one would; None where that cannot be."""
    changed = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-m", _WORK]
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    try:
        worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=none, text=True, env=os.environ | changed)
    except (OSError, ValueError):  # no interpreter, as in a program that is packed; no more processes
        return None
    stack.callback(_ended, worker)
    return worker


def _ended(worker: subprocess.Popen[str]) -> None:
    """End a process."""
    worker.kill()
    with suppress(OSError), worker:  # which closes the pipes, that may be broken, and waits
        pass


def _ask(worker: subprocess.Popen[str], k: int) -> None:
    """Let a process put a kernel on disk, and wait for it; in vain if it has ended."""
    with suppress(OSError, ValueError):
        print(k, file=worker.stdin, flush=True)
        worker.stdout.readline()  # type: ignore[union-attr] # there are pipes


def _work() -> None:
    """Make kernels ready, one for every number that comes."""
    kernels = all_of_fills()
    for line in sys.stdin:
        kernels[int(line)].ready()
        print(line, end="", flush=True)


if __name__ == "__main__":
    _work()
