"""The thread pool: tasks that release the GIL, shared out as threads become free, interruptible at any time."""

from __future__ import annotations

import _thread
import math
import os
import queue
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fastinit.core.checks import check_integer
from fastinit.core.environment import is_default, make_default
from fastinit.core.text import quoted


class _Helpers:
    """Threads that wait for a `run` to help with: as many as any run had use for so far.

    A signal handler may fill while the thread that it interrupts stands anywhere in here. So nothing waits for a lock:
    a queue's ``put`` may be entered again, and a dictionary gives each place to one caller.
    """

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[_Run] = queue.SimpleQueue()
        self.places: dict[int, object] = {}  # one for every thread

    def call(self, job: _Run, count: int) -> None:
        """Ask ``count`` threads to help; fewer come where the system refuses to start them."""
        if len(self.places) < count:
            me = object()
            for place in range(count):
                if self.places.setdefault(place, me) is me and not self._start(place):
                    break
        for _ in range(min(count, len(self.places))):
            self.calls.put(job)

    def _start(self, place: int) -> bool:
        """Start a thread, if the system allows."""
        try:
            # not threading.Thread, whose start waits for ever for a thread that has no memory to begin with
            _thread.start_new_thread(self._serve, (place,))
        except (RuntimeError, MemoryError):  # a limit on processes or memory; or the interpreter's exit
            self.places.pop(place, None)
            return False
        return True

    def _serve(self, place: int) -> None:
        """Help with one run after the other."""
        try:
            while True:
                self.calls.get().help()
        finally:
            self.places.pop(place, None)


_helpers = _Helpers()


def _forget() -> None:
    """Begin anew in a forked child: the parent's threads do not exist there, and may hold locks."""
    global _helpers
    _helpers = _Helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cache  # a small fill should not read files
def _quota() -> float:
    """Return the CPUs that the control group of this process may use on average; infinity where nothing limits them."""
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
    """Return the CPUs that this process may use: its affinity, and the quota of its control group rounded up.

    Examples
    --------
    >>> available_cpus() >= 1
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, math.ceil(min(_quota(), allowed))))


def thread_count(threads: int | None = None) -> int:
    """Return the number of threads: the argument, else ``FASTINIT_NUM_THREADS``, else `available_cpus`.

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
    """Call ``task(k)`` for every k in [0, count), on up to ``threads`` threads at once, the calling one among them.

    Every thread takes the next k as it becomes free. The first exception stops the rest, an interrupt of the calling
    thread included, and is raised when no task runs any more. Threads that cannot be started are done without.

    Parameters
    ----------
    task
        Returns how much it did. It should release the GIL, and be short, so that an interrupt is answered soon.
    report
        Called on the calling thread with the sum done so far, after each of its own tasks and at the end.
    """
    job, helpers = _Run(task, count), min(threads, count) - 1
    while True:
        try:
            if helpers > 0:
                wanted, helpers = helpers, 0
                _helpers.call(job, wanted)
            while job.step():
                if report is not None:
                    report(job.done)
            job.wait()
            break
        except BaseException as error:  # an interrupt of the wait, too: it stops the others, and they are waited for
            job.error = job.error or error
    job.task = _nothing  # a helper that comes too late must not keep the memory
    if job.error is not None:
        raise job.error
    if report is not None:
        report(job.done)


def _nothing(_: int) -> int:
    """Do no task."""
    return 0


class _Run:
    """The state that the threads of one `run` share."""

    def __init__(self, task: Callable[[int], int], count: int) -> None:
        self.task, self.count = task, count
        self.next = self.done = self.helping = 0
        self.error: BaseException | None = None  # set without the lock: once it is, nobody begins another task
        self.lock = threading.Lock()
        self.alone = threading.Event()

    def step(self) -> bool:
        """Do the next task; False when there is none left."""
        with self.lock:
            k = self.next
            if k >= self.count or self.error is not None:
                return False
            self.next += 1
        amount = self.task(k)
        with self.lock:
            self.done += amount
        return True

    def help(self) -> None:
        """Take part, on a thread of `_Helpers`, unless there is nothing left to do."""
        with self.lock:
            if self.next >= self.count or self.error is not None:
                return
            self.helping += 1
        try:
            if not is_default():  # as the thread that started this one was
                make_default()
            while self.step():
                pass
        except BaseException as error:
            self.error = self.error or error
        finally:
            with self.lock:
                self.helping -= 1
                if not self.helping:
                    self.alone.set()

    def wait(self) -> None:
        """Wait until nobody helps; once there is no task left, nobody begins to."""
        while True:
            with self.lock:
                if not self.helping:
                    return
                self.alone.clear()
            self.alone.wait()
