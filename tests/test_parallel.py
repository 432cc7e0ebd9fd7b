"""The threads: concurrent and forked callers, interrupts, progress, how many there are, what they leave behind."""

from __future__ import annotations

import _thread
import inspect
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from fastinit.sampling import threads as parallel
from tests.helpers import environment, printed

MIB = 1 << 20
COUNT = 6 * MIB + 11  # float32 elements: several tasks, none of them whole


def drawn(threads: int = 2, **options: Any) -> bytes:
    return fi.array(COUNT, fi.truncated_normal(), seed=1, name="w", threads=threads, **options).tobytes()


@pytest.fixture(scope="module")
def expected() -> bytes:
    return drawn(threads=1)


def test_several_python_threads_at_once(expected: bytes) -> None:
    start = threading.Barrier(4)

    def caller(_: int) -> bool:
        start.wait()
        return all(drawn(threads=3) == expected for _ in range(3))

    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(caller, range(4))) == [True] * 4


@contextmanager
def forking() -> Iterator[None]:
    """Python 3.12 and later warn of a fork in a process with threads, which is what these tests are about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        yield


def test_a_forked_child(expected: bytes) -> None:
    assert drawn() == expected  # the parent's pool has threads; the child has none of them
    with forking():
        child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for a thread of its parent must not wait for ever
        os._exit(0 if drawn() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_that_is_forked_during_a_fill(expected: bytes) -> None:
    """Another thread may hold any lock of the library at that moment."""
    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            drawn()

    filler = threading.Thread(target=busy)
    filler.start()
    try:
        for _ in range(3):
            test_a_forked_child(expected)
    finally:
        done.set()
        filler.join()


def test_multiprocessing_by_fork(expected: bytes) -> None:
    assert drawn() == expected
    with forking(), multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(drawn, [1, 2, 3]).get(timeout=60) == [expected] * 3


class Recorder:
    """A progress function that remembers, and may fail."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls: list[tuple[int, int]] = []
        self.threads: set[int] = set()
        self.fail_at = fail_at

    def __call__(self, done: int, total: int) -> None:
        """Remember the call, and fail where asked to."""
        self.calls.append((done, total))
        self.threads.add(threading.get_ident())
        if len(self.calls) == self.fail_at:
            raise LookupError("enough")


@pytest.mark.parametrize("init", [fi.normal(), fi.ones()], ids=repr)
@pytest.mark.parametrize("threads", [1, 3])
def test_progress(threads: int, init: fi.Initializer) -> None:
    record = Recorder()
    out = np.empty((3 * MIB, 7), np.float32)
    fi.fill(out, init, seed=0, name="w", threads=threads, progress=record)
    done = [so_far for so_far, _ in record.calls]
    assert {total for _, total in record.calls} == {out.nbytes}
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == out.nbytes
    assert threads > 1 or len(set(done)) > 5
    assert record.threads == {threading.get_ident()}


@pytest.mark.parametrize("fail_at", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_exception_of_the_progress_function_stops_the_work(threads: int, fail_at: int, expected: bytes) -> None:
    out = np.zeros(256 * MIB, np.uint8).view(np.float32)  # so many tasks that nobody ends them while we sleep
    record = Recorder(fail_at)
    with pytest.raises(LookupError, match="enough"):
        fi.fill(out, fi.normal(), seed=0, name="w", threads=threads, progress=record)
    assert len(record.calls) == fail_at
    before = np.count_nonzero(out)
    assert before < out.size
    time.sleep(0.05)
    assert np.count_nonzero(out) == before  # nobody goes on after the exception was raised
    assert drawn() == expected


def test_an_exception_in_a_helping_thread_is_raised() -> None:
    caller = threading.get_ident()

    def task(k: int) -> int:
        if threading.get_ident() != caller:
            raise LookupError("of a helper")
        time.sleep(0.01)
        return 1

    with pytest.raises(LookupError, match="of a helper"):
        parallel.run(task, 1000, 2)


@pytest.mark.parametrize("threads", [1, 2, 5, 40])
def test_every_task_is_done_once(threads: int) -> None:
    seen: list[int] = []
    reports: list[int] = []
    parallel.run(lambda k: seen.append(k) or 3, 100, threads, reports.append)  # type: ignore[func-returns-value]
    assert sorted(seen) == list(range(100))
    assert reports[-1] == 300
    parallel.run(lambda k: 1 // 0, 0, threads)  # nothing to do


def test_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    out = fi.array(3 * MIB, fi.normal(), seed=0, name="w", progress=True)
    shown = capsys.readouterr().out
    assert "filling" in shown
    assert "12.6" in shown  # MB
    np.testing.assert_array_equal(out, fi.array(3 * MIB, fi.normal(), seed=0, name="w", progress=False))
    assert capsys.readouterr().out == ""


def test_a_bar_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    out = np.ones(3, np.float32)
    with pytest.raises(ImportError, match=r"rich.*pip install fastinit-weights\[cli\]"):
        fi.fill(out, fi.normal(), seed=0, name="w", progress=True)
    assert (out == 1).all()


ENDLESS = """
import signal
import numpy as np, fastinit as fi
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
out = np.empty(1 << 29, np.float32)
{init}
fi.fill(out[:1 << 20], init, seed=0, name="w")  # compiled, and the pool has started
print("begin", flush=True)
try:
    while True:
        fi.fill(out, init, seed=0, name="w", threads={threads})
except KeyboardInterrupt:
    print("interrupted", flush=True)
    again = fi.array(1 << 20, init, seed=0, name="w")
    print("usable" if (again == fi.fill(out[:1 << 20], init, seed=0, name="w")).all() else "broken", flush=True)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("init", ["truncated_normal()", "zeros()"])
def test_ctrl_c(init: str, threads: int) -> None:
    """A fill of 2 GiB takes a second or more; the interrupt is answered after a task, not after a fill."""
    source = ENDLESS.format(init=f"init = fi.{init}", threads=threads)
    child = subprocess.Popen([sys.executable, "-c", source], env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "begin\n"
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert child.stdout.readline() == "interrupted\n"
        waited = time.monotonic() - sent
        assert child.stdout.readline() == "usable\n"
    finally:
        child.kill()
        child.communicate()
    assert waited < 2.0  # a second is the promise; the rest is for a busy machine


def test_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_quota", lambda: math.inf)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.delenv("FASTINIT_NUM_THREADS", raising=False)
    assert parallel.thread_count() == 6
    monkeypatch.setenv("FASTINIT_NUM_THREADS", " ")
    assert parallel.thread_count() == 6
    monkeypatch.setenv("FASTINIT_NUM_THREADS", "11")
    assert parallel.thread_count() == 11
    assert parallel.thread_count(5) == 5
    monkeypatch.delenv("FASTINIT_NUM_THREADS")
    for quota, threads in ((2.0, 2), (1.5, 2), (0.1, 1), (64.0, 6)):
        monkeypatch.setattr(parallel, "_quota", lambda quota=quota: quota)
        assert parallel.thread_count() == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_of_a_real_process() -> None:
    source = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    source += "from fastinit.sampling.threads import thread_count; print(thread_count(), thread_count(4))"
    assert printed(source).split() == ["1", "4"]
    assert printed(source, FASTINIT_NUM_THREADS="3").split() == ["3", "4"]


TREES: dict[str, tuple[dict[str, str], float]] = {
    "no groups": ({}, math.inf),
    "version 2": (
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"},
        1.5,
    ),
    "version 2, of a parent": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
        },
        3.0,
    ),
    "version 2, of the root of a container": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
        0.5,
    ),
    "version 2, the least of all": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
        },
        2.0,
    ),
    "version 2, no limit": (
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"},
        math.inf,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/a\n0::/\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "100000\n",  # of another controller's group
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "version 1, no limit": (
        {
            "proc/self/cgroup": "4:cpu:/a\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
        },
        math.inf,
    ),
    "nonsense": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "\n"}, math.inf),
}


@pytest.mark.parametrize(("files", "quota"), TREES.values(), ids=TREES)
def test_quota(files: dict[str, str], quota: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    elsewhere: Callable[[str], Path] = lambda path: tmp_path / path.lstrip("/")  # noqa: E731
    monkeypatch.setattr(parallel, "Path", elsewhere)
    assert inspect.unwrap(parallel._quota)() == quota  # whatever caches it


SEVERAL_SIZES = """
import os, time
import numpy as np, fastinit as fi
out = np.empty(1 << 21, np.float32)
fi.fill(out, fi.normal(), seed=0, name="w", threads=1)
time.sleep(0.2)  # the thread that imported is joined, but may still be in the system's list
before = len(os.listdir("/proc/self/task"))
for threads in [*range(1, 12), *range(12, 1, -2), 12] * 5:
    fi.fill(out, fi.normal(), seed=0, name="w", threads=threads)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's list of threads")
def test_there_are_no_more_threads_than_one_fill_had_use_for() -> None:
    assert printed(SEVERAL_SIZES).split() == ["11"]


@pytest.mark.parametrize("started", [0, 1, 3])
def test_threads_that_cannot_be_started_are_done_without(
    started: int, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on processes is met half-way; those that did start are late."""
    start, left = _thread.start_new_thread, [started]

    def limited(*arguments: Any) -> Any:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        return start(*arguments)

    monkeypatch.setattr(parallel, "_helpers", parallel._Helpers())
    monkeypatch.setattr(_thread, "start_new_thread", limited)
    seen: list[int] = []

    def late(k: int) -> int:
        time.sleep(0.002)
        seen.append(k)
        return 1

    parallel.run(late, 50, 9)
    assert sorted(seen) == list(range(50))  # when it returns, everything is done
    assert len(parallel._helpers.places) == started
    assert drawn(threads=9) == expected


LIMITED = """
import resource
import numpy as np, fastinit as fi
from pathlib import Path
expected = fi.array({count}, fi.truncated_normal(), seed=1, name="w", threads=1)
out = np.zeros({count}, np.float32)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), -1))  # the stacks of some threads
for _ in range(20):
    out[:] = 0
    fi.fill(out, fi.truncated_normal(), seed=1, name="w", threads=60)
    assert (out == expected).all()
print("done")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's limit on addresses")
def test_a_limit_on_memory_leaves_no_thread_behind() -> None:
    assert printed(LIMITED.format(count=COUNT)).split() == ["done"]


IN_A_HANDLER = """
import itertools, signal
import numpy as np, fastinit as fi
expected = fi.array({count}, fi.normal(), seed=1, name="w", threads=1)
inside = [0]
def handler(number, frame):
    if inside[0] < 2:  # handlers interrupt each other as well
        inside[0] += 1
        assert (fi.array({count}, fi.normal(), seed=1, name="w", threads=3) == expected).all()
        inside[0] -= 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
for _ in range(2000):
    out = fi.array({count}, fi.normal(), seed=1, name="w", threads=3)
signal.setitimer(signal.ITIMER_REAL, 0)
assert (out == expected).all()
print("done")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_a_signal_handler_may_fill_while_the_thread_that_it_interrupts_fills() -> None:
    assert printed(IN_A_HANDLER.format(count=1 << 17)).split() == ["done"]


def test_a_second_interrupt_waits_for_the_others_too() -> None:
    running = [0]

    class Interrupting(threading.Event):
        """A wait that is interrupted again and again."""

        times = 3

        def wait(self, timeout: float | None = None) -> bool:
            if self.times:
                self.times -= 1
                raise KeyboardInterrupt
            return super().wait(timeout)

    caller, begun = threading.get_ident(), threading.Event()

    def task(k: int) -> int:
        if threading.get_ident() == caller:
            begun.wait()
            raise KeyboardInterrupt
        running[0] += 1
        begun.set()
        time.sleep(0.2)
        running[0] -= 1
        return 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Event", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            parallel.run(task, 8, 3)
    assert running == [0]


PEAK = """
import gc
from pathlib import Path
import numpy as np, fastinit as fi
def size(line):
    return int(Path("/proc/self/status").read_text().split(line + ":")[1].split()[0]) << 10
out = np.empty({shape}, np.float32, order={order!r})
out.fill(1)  # the buffer's own pages are there
fi.fill(np.empty(1 << 20, np.float32), fi.truncated_normal(), seed=0, name="w", threads=4)  # and the kernel
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = size("VmRSS")
for name in range({times}):
    fi.fill(out, fi.truncated_normal(), seed=0, name=name, threads=4)
print(size("VmHWM") - before, size("VmRSS") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's peak of the memory")
@pytest.mark.parametrize(
    ("shape", "order", "times"), [((1 << 28,), "C", 1), ((1 << 11, 1 << 15), "F", 1), ((100, 1000), "C", 2000)], ids=str
)
def test_no_memory_but_the_buffer(shape: tuple[int, ...], order: str, times: int) -> None:
    peak, left = map(int, printed(PEAK.format(shape=shape, order=order, times=times)).split())
    assert peak < 64 * MIB
    assert left < 16 * MIB


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's peak of the memory")
def test_the_measure_of_memory_sees_a_copy() -> None:
    source = PEAK.format(shape=1 << 25, order="C", times=1).replace("fi.fill(out,", "fi.fill(out.copy(),")
    assert int(printed(source).split()[0]) > 120 * MIB
