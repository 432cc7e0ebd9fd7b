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
from numba.core import config
from numba.core.caching import CompileResultCacheImpl

from fastinit.kernels import cache, cpu
from fastinit.kernels.cache import keep
from fastinit.kernels.transforms import NormalTransform
from tests.helpers import environment, printed, python

# One small kernel, in this process


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path / "fastinit"


def small(label: str = "sums", more: int = 2) -> Any:
    """A kernel as a new process has it, which adds some number."""
    return keep(njit(lambda x: x + more), label)


def looked_up(kernel: Any) -> tuple[int, int]:
    """How often the kernel was found on disk, and how often it was not."""
    return sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_kernel_is_found_again(folder: Path) -> None:
    first, second = small(), small()
    assert (first(1), looked_up(first)) == (3, (0, 1))
    assert (second(1), looked_up(second)) == (3, (1, 0))
    assert second(1.0) == 3.0
    assert looked_up(second) == (1, 1)
    assert len(list(folder.iterdir())) == 2  # a file for each version


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
    small("differences", -2)(1)
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
def test_a_broken_file_is_compiled_anew_and_replaced(way: str, folder: Path) -> None:
    small()(1)
    path = only_file(folder)
    BROKEN[way](path, path.read_bytes())
    again = small()
    assert (again(1), looked_up(again)) == (3, (0, 1))
    assert only_file(folder) == path  # and nothing half-written beside it
    last = small()
    assert (last(1), looked_up(last)) == (3, (0, 1) if way == "a directory" else (1, 0))


def test_what_was_kept_by_another_version_of_a_dependency_is_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any) -> Any:
        raise AttributeError("no such field any more")

    small()(1)
    monkeypatch.setattr(CompileResultCacheImpl, "rebuild", refused)
    assert small()(1) == 3


@pytest.mark.parametrize("which", ["kernels'", "chosen"])
def test_a_folder_that_is_a_file_is_done_without(which: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("mine")
    if which == "chosen":
        monkeypatch.setattr(config, "CACHE_DIR", str(folder))
    for _ in range(2):
        kernel = small()
        assert (kernel(1), looked_up(kernel)) == (3, (0, 1))
    assert folder.read_text() == "mine"


def test_a_full_disk_is_done_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert small()(1) == 3
    assert list(folder.iterdir()) == []


def test_without_a_choice_kernels_lie_beside_the_package_or_with_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, home = tmp_path / "package", tmp_path / "home"
    package.mkdir()
    (package / "compiled.py").write_text("")
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(cache, "__file__", str(package / "compiled.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    small()(1)
    beside = only_file(package / "__pycache__")
    beside.unlink()
    (package / "__pycache__").rmdir()
    (package / "__pycache__").write_text("no folder")
    small()(1)
    assert only_file(home / "fastinit").name == beside.name
    found = small()
    assert (found(1), looked_up(found)) == (3, (1, 0))


def test_a_program_without_its_sources_keeps_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "digest", lambda: "")
    assert small()(1) == 3
    assert not folder.exists()


def test_everything_that_decides_the_code_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = ["x86_64", "one", "+sse2"]

    class Context:
        def codegen(self) -> Any:
            return self

        def magic_tuple(self) -> tuple[str, ...]:
            return tuple(processor)

    def name(label: str = "sums", signature: Any = (1,)) -> tuple[str, bytes]:
        kept = cache._Kept(label, CompileResultCacheImpl, "cpu", Context())
        return kept._identity(signature)

    names = [name(), name("differences"), name(signature=(2,))]
    assert name() == names[0]
    processor[2] = "+avx2"
    names.append(name())
    monkeypatch.setattr(cache, "digest", lambda: "other sources")
    names.append(name())
    monkeypatch.setattr(cache, "_VERSIONS", ("other",))
    names.append(name())
    assert len({key for _, key in names}) == len({path for path, _ in names}) == len(names)


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


def lingering(label: str, seconds: float) -> Any:
    """A kernel that takes so long to compile."""
    kernel = small(label)
    compiler = kernel._compiler.compile

    def compile_slowly(*arguments: Any) -> Any:
        time.sleep(seconds)
        return compiler(*arguments)

    kernel._compiler.compile = compile_slowly
    return kernel


def test_a_long_compilation_is_announced_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "PATIENCE", 0.3)
    monkeypatch.setattr(cache, "_said", set())
    slow = lingering("slow sums", 0.5)
    assert slow(1) == 3
    assert slow(1.5) == 3.5
    assert capsys.readouterr().err == f"fastinit: compiling the kernel of slow sums; once, kept in '{folder}'\n"
    assert lingering("slow sums", 0.5)(1) == 3  # from disk
    assert capsys.readouterr().err == ""
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder")
    assert lingering("other sums", 0.5)(1) == 3
    assert "each time, for want of a folder: set NUMBA_CACHE_DIR\n" in capsys.readouterr().err


def test_nothing_is_said_of_what_is_quick_or_has_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "_said", set())
    monkeypatch.setattr(cache, "PATIENCE", 60.0)
    small()(1)
    monkeypatch.setattr(cache, "PATIENCE", 0.3)

    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    kernel = small("failing sums")
    kernel._compiler.compile = interrupted
    with pytest.raises(KeyboardInterrupt):
        kernel(1)
    time.sleep(0.6)
    assert capsys.readouterr().err == ""


def test_where_no_thread_can_be_started_kernels_are_compiled_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert small()(1) == 3


def test_a_kernel_that_another_one_calls_is_compiled_with_it(folder: Path) -> None:
    inner = small()
    assert njit(lambda x: inner(x))(1) == 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
def test_a_handler_may_need_a_kernel_while_another_is_compiled(folder: Path) -> None:
    """It runs in the thread that waits for the other one; Numba cannot be entered twice by one thread."""
    outer, inner, found = lingering("outer", 1.0), small("inner"), []
    compiling = outer._compiler.compile

    def watched(*arguments: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return compiling(*arguments)

    outer._compiler.compile = watched
    before = signal.signal(signal.SIGALRM, lambda *_: found.append((inner(1), outer(1))))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        assert outer(1) == 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert found == [(3, 3)]


def test_threads_that_come_at_once_share_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    begin = threading.Barrier(2)
    entry = cpu._kernel

    def together(transform_class: Any) -> Any:
        begin.wait()
        return entry(transform_class)

    monkeypatch.setattr(cpu, "_kernel", together)
    monkeypatch.setattr(cpu, "_kernels", {})
    cpu.fill_tiles.cache_clear()
    threads = [
        threading.Thread(target=lambda: made.append(cpu.fill_tiles(NormalTransform, np.float32))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] is made[1]


# Whole fills, in processes of their own


COMPILES = """
import fastinit as fi
from fastinit.kernels.cpu import fill_tiles
from fastinit.kernels.transforms import UniformTransform
fi.array(3, fi.uniform(), seed=0, name=0)
import numpy as np
stats = fill_tiles(UniformTransform, np.float32).stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


FIRST_VALUES = """
import sys
import numpy as np
import fastinit as fi
from fastinit.kernels.cpu import fill_tiles
from fastinit.kernels.transforms import NormalTransform, TruncatedTransform, UniformTransform
for init in sys.argv[1:] or ["uniform()", "normal()", "truncated_normal()"]:
    print(fi.array(1, fi.parse(init), seed=0, name=0)[0])
if not sys.argv[1:]:
    for transform in UniformTransform, NormalTransform, TruncatedTransform:
        stats = fill_tiles(transform, np.float32).stats
        print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
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
    assert together == ["0.39904645", "0.99113756", "0.99113756", *["1", "0"] * 3]  # each found, none compiled
    assert len(list(tmp_path.rglob("*.*"))) == 3


@pytest.mark.slow
def test_warmup_leaves_nothing_to_compile(tmp_path: Path) -> None:
    source = "import fastinit; print(fastinit.warmup())"
    count, again = (printed(source, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert count == again
    assert len(list(tmp_path.rglob("*.kernel"))) == int(count)


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
    found.append((child(), thread.is_alive()))
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
print(fi.array(1, fi.normal(), seed=0, name=0)[0], *found)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
@pytest.mark.parametrize("after", ["0.01", "0.05", "0.1", "0.3", "1", "1.5"])
def test_a_handler_fills_while_a_kernel_is_compiled(after: str, tmp_path: Path) -> None:
    done = python(HANDLES, after, timeout=120, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.out.split() == ["0.99113756", "0.39904645", "0.99113756"], done.errors[-3000:]


def test_without_a_compiler_one_sentence_says_so_and_nothing_is_written() -> None:
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
    assert printed(source, NUMBA_DISABLE_JIT="1").splitlines() == [message, message, "[0. 0. 0.]"]


@pytest.mark.slow
def test_a_fill_goes_on_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert printed(COMPILES, NUMBA_CACHE_DIR=str(tmp_path / "file")).split() == ["0", "1"]
    assert (tmp_path / "file").read_text() == "mine"
