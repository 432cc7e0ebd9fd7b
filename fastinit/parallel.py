"""The thread pool: tasks that release the GIL, shared out as threads become free, interruptible at any time."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import fastinit.forks  # noqa: F401 - for its own sake
from fastinit.keys import check_integer
from fastinit.text import quoted

_pools: dict[int, ThreadPoolExecutor] = {}  # by their size: one of no limit makes a thread whenever none is idle yet
_guard = threading.Lock()


def _forget() -> None:
    """In a forked child: the parent's threads do not exist there, and its lock may be held by one of them."""
    global _pools, _guard
    _pools, _guard = {}, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cache  # a small fill should not read files
def _quota() -> float:
    """The CPUs that the control group of this process may use on average; infinity where nothing limits them."""
    found = math.inf
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") / ("cpu" if controllers else "")
        folder = root / path.lstrip("/")
        for place in (folder, *folder.parents):
            if root not in (place, *place.parents):
                break
            try:
                if controllers:  # version 1
                    quota = (place / "cpu.cfs_quota_us").read_text()
                    period = (place / "cpu.cfs_period_us").read_text()
                else:
                    quota, period = (place / "cpu.max").read_text().split()
                if float(quota) > 0:
                    found = min(found, float(quota) / float(period))
            except (OSError, ValueError):  # absent, or "max"
                continue
    return found


def available_cpus() -> int:
    """The CPUs that this process may use: its affinity, and the quota of its control group rounded up.

    Examples
    --------
    >>> available_cpus() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, math.ceil(min(_quota(), allowed))))


def thread_count(threads: int | None = None) -> int:
    """The number of threads: the argument, else ``FASTINIT_NUM_THREADS``, else `available_cpus`.

    Raises
    ------
    TypeError, ValueError
        If either is not a positive integer.

    Examples
    --------
    >>> thread_count(3)
    3
    """
    if threads is None:
        text = os.environ.get("FASTINIT_NUM_THREADS", "").strip()
        if not text:
            return available_cpus()
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ValueError(f"FASTINIT_NUM_THREADS must be a positive integer, got {quoted(text)}")
        return int(text)
    return check_integer("threads", threads, 1)


def run(task: Callable[[int], int], count: int, threads: int, report: Callable[[int], object] | None = None) -> None:
    """Call ``task(k)`` for every k in [0, count), on so many threads at once, the calling one among them.

    Every thread takes the next k as it becomes free. The first exception stops the rest, an interrupt of the calling
    thread included, and is raised when no task runs any more.

    Parameters
    ----------
    task
        Returns how much it did. It should release the GIL, and be short, so that an interrupt is answered soon.
    report
        Called on the calling thread with the sum of what was done so far, after each of its own tasks and at the end.
    """
    state = _State(task, count)
    helpers = _submit(state, min(threads, count) - 1, threads - 1)
    try:
        while state.step():
            if report is not None:
                report(state.done)
    except BaseException as error:
        state.stop(error)
    state.wait(helpers)
    if state.error is not None:
        raise state.error
    if report is not None:
        report(state.done)


class _State:
    """What the threads of one `run` share."""

    def __init__(self, task: Callable[[int], int], count: int) -> None:
        self.task, self.count = task, count
        self.next = self.done = 0
        self.error: BaseException | None = None
        self.lock = threading.Lock()

    def step(self) -> bool:
        """Do the next task; False when there is none left."""
        with self.lock:
            k = self.next
            if k >= self.count:
                return False
            self.next += 1
        amount = self.task(k)
        with self.lock:
            self.done += amount
        return True

    def stop(self, error: BaseException) -> None:
        """Let nobody begin another task."""
        with self.lock:
            self.next = self.count
            self.error = self.error or error

    def help(self) -> None:
        """The loop of a helping thread."""
        try:
            while self.step():
                pass
        except BaseException as error:
            self.stop(error)

    def wait(self, helpers: list[Future[None]]) -> None:
        """Until no helper runs any more; an interrupt meanwhile stops them first, and is kept."""
        while helpers:
            try:
                if not helpers[-1].cancel():  # one that the pool has not started yet has nothing to do
                    helpers[-1].result()
                helpers.pop()
            except BaseException as error:
                self.stop(error)


def _submit(state: _State, helpers: int, most: int) -> list[Future[None]]:
    """Ask the pool for helpers; none where it is shut down, at the interpreter's exit."""
    if helpers < 1:
        return []
    with _guard:
        pool = _pools.get(most)
        if pool is None:
            pool = _pools[most] = ThreadPoolExecutor(most, "fastinit")
    try:
        return [pool.submit(state.help) for _ in range(helpers)]
    except RuntimeError:
        return []
