"""What is kept of compiled kernels on disk: found again, never believed when broken, and nobody waits for anybody."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from fastinit.core import forks
from fastinit.kernels import cache, compiler, processor
from fastinit.kernels.cache import Kernel
from fastinit.kernels.processor import load_object
from tests.helpers import ROOT, environment, printed, python

# One small kernel, in this process


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_ready", {})
    return tmp_path / "fastinit"


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of kernels that were not found on disk."""
    titles: list[str] = []
    compile_one = cache._compiled

    def counted(kernel: Kernel) -> Any:
        titles.append(kernel.label)
        return compile_one(kernel)

    monkeypatch.setattr(cache, "_compiled", counted)
    return titles


def adder(more: int) -> Any:
    """A function that is compiled."""
    return lambda x: x + more


def small(label: str = "sums", more: int = 2, argument: str = "int64") -> Kernel:
    """A kernel as a new process has it, which adds some number."""
    cache._ready.pop(label, None)
    return Kernel(label, (argument,), __name__, "adder", (more,), result=argument)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_kernel_is_found_again(folder: Path, compiled: list[str]) -> None:
    assert (small().ready()(1), compiled) == (3, ["sums"])
    assert (small().ready()(1), compiled) == (3, ["sums"])
    assert small(argument="float64").ready()(1.5) == 3.5
    assert compiled == ["sums", "sums"]
    assert len(list(folder.iterdir())) == 2  # a file for each version


def test_a_kernel_takes_numbers_and_arrays(folder: Path) -> None:
    kinds = ("uint64", "float32", "float64[:]", "uint16[:, :]")
    for _ in range(2):  # compiled, and from disk
        cache._ready.clear()
        kernel = Kernel("mixed", kinds, __name__, "mixed", result="float64").ready()
        x, y = np.array([0.5, 4.0]), np.arange(6, dtype=np.uint16).reshape(2, 3)
        assert kernel(2**64 - 1, 0.25, x, y) == 2.0**64 + 0.25 + 4.0 + 5 + 2 + 3
        assert x[0] == 3.0
    assert len(list(folder.iterdir())) == 1


def mixed(number, real, x, y):  # type: ignore[no-untyped-def]
    """What is compiled there."""
    x[0] = y.shape[1]
    return np.float64(number) + real + x[1] + np.float64(y[1, 2]) + y.shape[0] + y.shape[1]


@pytest.mark.parametrize("name", ["allocates", "raises"])
def test_a_kernel_that_needs_anything_from_outside_is_refused(name: str, folder: Path) -> None:
    """It would find nothing there, or end the process."""
    with pytest.raises(RuntimeError, match=f"fastinit_{name} may not need (NRT|llvm.trap)"):
        Kernel(name, ("int64",), __name__, name).ready()
    assert not list(folder.iterdir())


def allocates(count):  # type: ignore[no-untyped-def]
    """What would be compiled there."""
    return np.ones(count, np.int64).sum()


def raises(number):  # type: ignore[no-untyped-def]
    """What would be compiled there, too."""
    if number < 0:
        raise ValueError("negative")
    return number


def _flip(at: float) -> Callable[[Path, bytes], Any]:
    def flip(path: Path, content: bytes) -> None:
        k = int(at * (len(content) - 1))
        path.write_bytes(content[:k] + bytes([content[k] ^ 1]) + content[k + 1 :])

    return flip


def _a_directory(path: Path, content: bytes) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_bytes(content)


def _of_another(path: Path, content: bytes) -> None:
    """A whole file, but under the name of this one."""
    path.rename(path.with_name("mine"))
    small("differences", -2).ready()
    other = next(one for one in path.parent.iterdir() if one.name.startswith("differences"))
    other.rename(path)
    path.with_name("mine").unlink()


BROKEN: dict[str, Callable[[Path, bytes], Any]] = {
    "emptied": lambda path, content: path.write_bytes(b""),
    "cut in the checksum": lambda path, content: path.write_bytes(content[:10]),
    "cut after the checksum": lambda path, content: path.write_bytes(content[:32]),
    "cut to half": lambda path, content: path.write_bytes(content[: len(content) // 2]),
    "cut by a byte": lambda path, content: path.write_bytes(content[:-1]),
    "flipped at the beginning": _flip(0.0),
    "flipped in the middle": _flip(0.5),
    "flipped at the end": _flip(1.0),
    "garbage": lambda path, content: path.write_bytes(b"garbage" * 1000),
    "garbage appended": lambda path, content: path.write_bytes(content + b"garbage"),
    "a directory": _a_directory,
    "of another kernel": _of_another,
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_file_is_compiled_anew_and_replaced(way: str, folder: Path, compiled: list[str]) -> None:
    small().ready()
    path = only_file(folder)
    BROKEN[way](path, path.read_bytes())
    compiled.clear()
    assert (small().ready()(1), compiled) == (3, ["sums"])
    assert only_file(folder) == path  # and nothing half-written beside it
    assert small().ready()(1) == 3
    assert compiled == ["sums"] * (2 if way == "a directory" else 1)


def test_code_that_cannot_be_loaded_is_compiled_anew(
    folder: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = small()
    kernel.ready()
    other = compiler.object_code(adder(5), ("int64",), "int64", "another_name")
    cache.keep(*kernel.identity(), other)
    assert small().ready()(1) == 3
    assert compiled == ["sums"] * 2
    with pytest.raises(RuntimeError, match="does not define"):
        load_object(other, kernel.symbol)


@pytest.mark.parametrize("which", ["kernels'", "chosen"])
def test_a_folder_that_is_a_file_is_done_without(
    which: str, folder: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("mine")
    if which == "chosen":
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    for _ in range(2):
        compiled.clear()
        assert (small().ready()(1), compiled) == (3, ["sums"])
    assert folder.read_text() == "mine"


def test_a_full_disk_is_done_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert small().ready()(1) == 3
    assert list(folder.iterdir()) == []


def test_without_a_choice_kernels_lie_beside_the_package_or_with_the_user(
    tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package, home = tmp_path / "package", tmp_path / "home"
    package.mkdir()
    (package / "compiled.py").write_text("")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache, "_ready", {})
    monkeypatch.setattr(cache, "__file__", str(package / "compiled.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    small().ready()
    beside = only_file(package / "__pycache__")
    beside.unlink()
    (package / "__pycache__").rmdir()
    (package / "__pycache__").write_text("no folder")
    small().ready()
    assert only_file(home / "fastinit").name == beside.name
    compiled.clear()
    assert (small().ready()(1), compiled) == (3, [])


def test_a_program_without_its_sources_keeps_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "digest", lambda: "")
    assert small().ready()(1) == 3
    monkeypatch.undo()
    monkeypatch.setattr(cache, "versions", lambda: ())
    assert small().ready()(1) == 3
    assert not folder.exists()


def test_everything_that_decides_the_code_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [small().identity(), small("differences").identity(), small(argument="float64").identity()]
    names.append(small()._replace(result="float64").identity())
    assert small().identity() == names[0]
    for place, name, other in (
        (processor, "TRIPLE", "mips"),
        (processor, "NAME", "one"),
        (processor, "FEATURES", "+avx2"),
        (cache, "digest", lambda: "other sources"),
        (cache, "versions", lambda: ("other",)),
    ):
        monkeypatch.setattr(place, name, other)
        names.append(small().identity())
    assert len({key for _, key in names}) == len({path for path, _ in names}) == len(names)


def test_the_versions_are_those_of_what_would_be_imported(tmp_path: Path) -> None:
    """Another version of Numba is another file beside it; nothing of Numba's is imported to see that."""
    source = "import sys; from fastinit.kernels.cache import versions; print(versions(), 'numba' in sys.modules)"
    mine = printed(source)
    assert mine.endswith("False\n")
    (tmp_path / "numba").mkdir()
    for text in ("__version__ = '1'", "__version__ = '2'"):
        (tmp_path / "numba" / "__init__.py").write_text("")
        (tmp_path / "numba" / "_version.py").write_text(text)
        other = printed(source, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
        assert other != mine
        mine = other


def test_the_digest_sees_a_change_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "kernels"
    shutil.copytree(Path(cache.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(copy / "compiled.py"))
    before = cache.digest.__wrapped__()
    digests = {before}
    for path in sorted(copy.glob("*.py")):
        text = path.read_text()
        path.write_text(text + "\n")
        digests.add(cache.digest.__wrapped__())
        path.write_text(text)
    assert len(digests) == 1 + len(list(copy.glob("*.py")))
    assert cache.digest.__wrapped__() == before


# What is said, and what is waited for


def slow_adder(more: int, seconds: float) -> Any:
    """A function that takes so long to compile."""
    time.sleep(seconds)
    return lambda x: x + more


def lingering(label: str, seconds: float) -> Kernel:
    """A kernel that takes so long to compile."""
    return small(label)._replace(name="slow_adder", parameters=(2, seconds))


def test_a_long_compilation_is_announced_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "PATIENCE", 0.3)
    monkeypatch.setattr(cache, "_said", set())
    assert lingering("slow sums", 0.5).ready()(1) == 3
    assert lingering("slow sums", 0.5)._replace(arguments=("float64",), result="float64").ready()(1.5) == 3.5
    assert capsys.readouterr().err == f"fastinit: compiling the kernel of slow sums; once, kept in '{folder}'\n"
    assert lingering("slow sums", 0.5).ready()(1) == 3  # from disk
    assert capsys.readouterr().err == ""
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder")
    assert lingering("other sums", 0.5).ready()(1) == 3
    assert "each time, for want of a folder: set NUMBA_CACHE_DIR\n" in capsys.readouterr().err


def interrupted() -> Any:
    """What cannot be compiled."""
    raise KeyboardInterrupt


def test_nothing_is_said_of_what_is_quick_or_has_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "_said", set())
    monkeypatch.setattr(cache, "PATIENCE", 60.0)
    small().ready()
    monkeypatch.setattr(cache, "PATIENCE", 0.3)
    monkeypatch.setattr(Kernel, "source", lambda kernel: interrupted())
    with pytest.raises(KeyboardInterrupt):
        small("failing sums").ready()
    time.sleep(0.6)
    assert capsys.readouterr().err == ""


def test_where_no_thread_can_be_started_kernels_are_compiled_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert small().ready()(1) == 3


def test_compiling_leaves_numba_as_it_was(folder: Path) -> None:
    """Other functions of this process, compiled before and after it, are optimized and called as ever."""
    before = njit(lambda x: x * 2)
    assert before(2) == 4
    small().ready()
    assert before(2.5) == 5.0
    assert njit(lambda x: max(x, 3))(1) == 3
    assert type(before.targetctx.codegen()).__name__ == "JITCPUCodegen"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
def test_a_handler_may_need_a_kernel_while_another_is_compiled(
    folder: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in the thread that waits for the other one; Numba cannot be entered twice by one thread."""
    outer, inner, found, threads = lingering("outer", 1.0), small("inner"), [], []
    source = Kernel.source

    def watched(kernel: Kernel) -> Any:
        threads.append(threading.current_thread())
        return source(kernel)

    monkeypatch.setattr(Kernel, "source", watched)
    before = signal.signal(signal.SIGALRM, lambda *_: found.append((inner.ready()(1), outer.ready()(1))))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        assert outer.ready()(1) == 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert found == [(3, 3)]
    assert sorted(compiled) == ["inner", "outer"]
    assert threading.main_thread() not in threads


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
def test_a_handler_may_need_a_kernel_while_its_thread_compiles(folder: Path) -> None:
    """Where the thread holds a lock, nobody else is waited for."""
    for lock in forks._locks():
        with lock:
            assert small().ready()(1) == 3


def test_threads_that_come_at_once_share_a_kernel(folder: Path, compiled: list[str]) -> None:
    made: list[Any] = []
    kernel, begin = lingering("shared sums", 0.3), threading.Barrier(2)

    def come() -> None:
        begin.wait()
        made.append(kernel.ready())

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] is made[1]
    assert compiled == ["shared sums"]


# Whole fills, in processes of their own


FIRST_VALUES = """
import sys
import fastinit as fi
for init in sys.argv[1:] or ["uniform()", "normal()", "truncated_normal()"]:
    print(fi.array(1, fi.parse(init), seed=0, name=0)[0])
if not sys.argv[1:]:
    print("numba" in sys.modules)
"""


def test_processes_that_start_at_once_do_not_mix_their_kernels_and_the_next_compiles_nothing(tmp_path: Path) -> None:
    """Uniforms and truncated normals take arguments of the same types: only the transform tells their kernels apart."""
    command = [sys.executable, "-W", "error", "-c", FIRST_VALUES]
    inits = ["uniform()", "uniform()", "truncated_normal()", "normal()"]
    env = environment(NUMBA_CACHE_DIR=str(tmp_path))
    started = [subprocess.Popen([*command, init], env=env, stdout=subprocess.PIPE, text=True) for init in inits]
    alone = [process.communicate(timeout=600)[0] for process in started]
    assert alone == ["0.39904645\n", "0.39904645\n", "0.99113756\n", "0.99113756\n"]
    together = printed(FIRST_VALUES, NUMBA_CACHE_DIR=str(tmp_path)).split()
    assert together == ["0.39904645", "0.99113756", "0.99113756", "False"]  # each found, nothing to compile with
    assert len(list(tmp_path.rglob("*.*"))) == 4  # the draws, and what they have in common


WARMS = """
import sys
from fastinit.kernels import entries, workers
entries.all_of_fills = workers.all_of_fills = lambda few=entries.all_of_fills()[:4]: few
import fastinit
print(fastinit.warmup(), "numba" in sys.modules)
"""


@pytest.mark.slow
def test_warmup_leaves_nothing_to_compile(tmp_path: Path) -> None:
    source = "import sys, fastinit; print(fastinit.warmup(), 'numba' in sys.modules)"
    count, again = (printed(source, NUMBA_CACHE_DIR=str(tmp_path)).split()[0] for _ in range(2))
    assert count == again
    assert len(list(tmp_path.rglob("*.kernel"))) == int(count)


@pytest.mark.parametrize("way", ["processes", "one thread", "no interpreter", "processes that die"])
def test_warmup_compiles_in_processes_or_here(way: str, tmp_path: Path) -> None:
    """From a script without a guard, as users write them."""
    first = {
        "no interpreter": "import sys; sys.executable = ''",
        "processes that die": "from fastinit.kernels import workers; workers._WORK = 'no.such.module'",
    }.get(way, "")
    threads = "1" if way == "one thread" else "2"
    script = tmp_path / "script.py"
    script.write_text(f"{first}\n{WARMS}")
    source = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    cold = printed(source, NUMBA_CACHE_DIR=str(tmp_path), FASTINIT_NUM_THREADS=threads)
    assert cold.split() == ["4", str(way != "processes")]
    assert len(list(tmp_path.rglob("*.kernel"))) == 4
    assert printed(source, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["4", "False"]


FORKS = """
import os, threading, time
import fastinit as fi

def value():
    return fi.array(1, fi.normal(), seed=0, name=0)[0]

def child():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if str(value()) == "0.99113756" else 1)
    for _ in range(600):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.1)
    os.kill(pid, 9)
    return "hangs"

def others():
    value()
    fi.array(1, fi.uniform(), seed=0, name=0)

thread = threading.Thread(target=others)
thread.start()
found = []
for pause in (0.002, 0.1, 0.5, 1):
    time.sleep(pause)
    alive = thread.is_alive()  # when the process is forked; the child may compile for longer than the thread
    found.append((child(), alive))
thread.join()
print(*found)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_child_forked_while_a_thread_imports_and_compiles_fills(tmp_path: Path) -> None:
    """Numba's lock, LLVM's and those of imports belong to a thread that the child does not have."""
    done = python(FORKS, warnings="ignore", NUMBA_CACHE_DIR=str(tmp_path))  # Python warns of forks beside threads
    assert done.out.startswith("(0, True) ")
    assert done.out.count("(0, ") == 4


HANDLES = """
import signal, sys
import fastinit as fi
found = []

def handler(*_):
    found.extend(str(fi.array(1, init, seed=0, name=0)[0]) for init in (fi.uniform(), fi.normal()))

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
print(fi.array(1, fi.normal(), seed=0, name=0)[0])
signal.setitimer(signal.ITIMER_REAL, 0)
print(*found)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
@pytest.mark.parametrize("after", ["0.01", "0.05", "0.1", "0.3", "0.6", "0.9"])
def test_a_handler_fills_while_a_kernel_is_compiled(after: str, tmp_path: Path) -> None:
    """Compiling takes more than a second; where it does not, the last ones come too late, and show nothing."""
    done = python(HANDLES, after, timeout=120, NUMBA_CACHE_DIR=str(tmp_path))
    value, *found = done.out.split()
    assert value == "0.99113756", done.errors[-3000:]
    assert found == ["0.39904645", "0.99113756"] or (float(after) > 0.5 and not found), done.errors[-3000:]


def test_without_a_compiler_one_sentence_says_so_and_nothing_is_written(tmp_path: Path) -> None:
    source = """
import numpy as np, fastinit as fi
out = np.zeros(3, np.float32)
for call in (lambda: fi.fill(out, fi.normal(), seed=0, name=0), lambda: fi.verify(out, fi.normal())):
    try:
        call()
    except RuntimeError as error:
        print(error)
print(out)
"""
    message = "fastinit needs Numba's compiler: unset NUMBA_DISABLE_JIT"
    env = {"NUMBA_DISABLE_JIT": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert printed(source, **env).splitlines() == [message, message, "[0. 0. 0.]"]


@pytest.mark.slow
def test_a_fill_goes_on_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert printed(FIRST_VALUES, NUMBA_CACHE_DIR=str(tmp_path / "file")).split()[-1] == "True"
    assert (tmp_path / "file").read_text() == "mine"
