"""The command: one line and an exit code for whatever it is given, and for signals; nothing that a terminal obeys."""

from __future__ import annotations

import json
import os
import re
import signal
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import fastinit as fi
from fastinit.cli import main as command_line
from fastinit.io import rules
from tests.helpers import MAIN, ROOT, Done, python

Command = Callable[..., Done]
savez: Any = np.savez  # its stubs know no names of arrays
RULE = "[[rule]]\nmatch = '*'\ninit = 'zeros'\n"
EVIL = "\x1b]0;title\x07\x1b[2J\nw: passed\r\u202e[bold]"


def model(folder: Path, *, manifest: str | None = None, recipe: str = RULE) -> list[str]:
    """The arguments of an `init` in a folder of its own."""
    tensors = [{"name": "w", "shape": [3], "dtype": "float32"}]
    (folder / "m.json").write_text(json.dumps(tensors) if manifest is None else manifest)
    (folder / "r.toml").write_text(recipe)
    return ["init", "m.json", "out.safetensors", "--recipe", "r.toml", "--seed", "0"]


def fill(shape: str, out: str = "out.npy", name: str = "w") -> Callable[[Path], list[str]]:
    return lambda _: ["fill", out, "--shape", shape, "--init", "zeros", "--seed", "0", "--name", name]


def manifest(text: str) -> Callable[[Path], list[str]]:
    return lambda folder: model(folder, manifest=text)


def recipe(text: str) -> Callable[[Path], list[str]]:
    return lambda folder: model(folder, recipe=text)


def entry(name: str = "w", shape: object = (3,), dtype: str = "float32") -> str:
    return json.dumps([{"name": name, "shape": shape, "dtype": dtype}])


def fifo(name: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        arguments = model(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        return arguments

    return make


def sparse(name: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        arguments = model(folder)
        os.truncate(folder / name, 1 << 40)
        return arguments

    return make


def verify(name: str, content: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return ["verify", name, "--init", "zeros"]

    return make


DOTS = ".".join("a" * 240)
ERRORS: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "a size of 2**63": (fill(str(1 << 63)), "--shape"),
    "a size of 5000 digits": (fill("9" * 5000), "--shape"),
    "2**52 + 1 elements": (fill(str((1 << 52) + 1)), "shape"),
    "2**65 elements": (fill(f"{1 << 62}x8", "out.safetensors"), "shape"),
    "2**65 elements, but for a 0": (fill(f"0x{1 << 62}x8"), "shape"),
    "32 PB": (fill(str(1 << 52)), "cannot write out.npy"),
    "65 axes": (fill("x".join("1" * 65)), "65"),
    "manifest: a size of 2**63": (manifest(entry(shape=[1 << 63])), "entry 0"),
    "manifest: a size of 2**64": (manifest(entry(shape=[1 << 64])), "entry 0"),
    "manifest: 2**65 elements": (manifest(entry(shape=[1 << 62, 8])), "entry 0"),
    "manifest: a million sizes": (manifest(entry(shape=[(1 << 61) - 1] * 500_000)), "entry 0"),
    "manifest: 2**63 bytes": (
        manifest(json.dumps([{"name": str(n), "shape": [1 << 52], "dtype": "float64"} for n in range(256)])),
        "out.safetensors",
    ),
    "manifest: a list as dtype": (manifest('[{"name": "w", "shape": [3], "dtype": ["float32"]}]'), "dtype"),
    "manifest: a key twice": (manifest('[{"name": "w", "shape": [3], "shape": [4], "dtype": "float32"}]'), "twice"),
    "manifest: nested": (manifest("[" * 10_000), "nested"),
    "manifest: nested objects": (manifest('{"a":' * 10_000), "nested"),
    "manifest: empty": (manifest("[]"), "must be a list of tensors"),
    "manifest: half a pair": (manifest('[{"name": "\\ud800", "shape": [3], "dtype": "float32"}]'), "UTF-8"),
    "manifest: a FIFO": (fifo("m.json"), "regular file, but is a FIFO"),
    "manifest: 1 TiB": (sparse("m.json"), "at most"),
    "recipe: a FIFO": (fifo("r.toml"), "regular file, but is a FIFO"),
    "recipe: 1 TiB": (sparse("r.toml"), "at most"),
    "recipe: nested": (recipe("a = " + "[" * 450 + "\n" + ("[" * 450 + "\n") * 100), "nested"),
    "recipe: 50,000 dots": (recipe(".".join("a" * 50_000) + " = 1\n" + RULE), "line 1"),
    "recipe: 50,000 dots behind odd line ends": (recipe(("'\u2028'." + DOTS + ".") * 100 + "a = 1\n" + RULE), "line 1"),
    "recipe: 100 kB of dots": (
        recipe("".join(f"[{DOTS}.k{n}]\n{DOTS} = 1\n" for n in range(rules._BYTES // 1000)) + RULE),
        "must hold",
    ),
    "recipe: no rule for any": (recipe("rule = []"), "no rule"),
    "file: an empty .npy": (verify("x.npy", b""), "x.npy is no .npy file"),
    "file: nothing in .npz": (verify("x.npz", b""), "x.npz is no .npz file"),
    "file: nested header": (
        verify("x.safetensors", (10_000).to_bytes(8, "little") + b"[" * 10_000),
        "x.safetensors is no .safetensors file",
    ),
    "a name that UTF-8 has not": (fill("3", name="\udcff"), "UTF-8"),
    "a folder that is absent": (fill("3", "absent/out.npy"), "absent/out.npy"),
    "--width": (lambda _: ["propagate", "--init", "zeros", "--width", "3,4"], "--width"),
    "an ending with escapes": (fill("3", f"out.{EVIL}"), "must end in"),
}


def check_error(folder: Path, name: str, run: Command) -> None:
    make, message = ERRORS[name]
    arguments = make(folder)
    before = sorted(os.listdir(folder))
    code, _, errors = run(*arguments, folder=folder)
    assert code == 1, errors
    assert re.fullmatch(r"fastinit: [^\n]+\n", errors), errors
    assert errors[:-1].isprintable()
    assert len(errors) < 1500
    assert message in errors
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_in_bounded_time(tmp_path: Path, name: str, command: Command) -> None:
    check_error(tmp_path, name, command)


@pytest.mark.parametrize("name", ["manifest: nested", "recipe: a FIFO", "a name that UTF-8 has not"])
def test_an_error_is_one_line_in_a_process_of_its_own(tmp_path: Path, name: str) -> None:
    """With the stack, the signals and the arguments that a process begins with."""
    check_error(tmp_path, name, partial(python, MAIN, timeout=60))


@pytest.mark.parametrize("arguments", [["init", EVIL], [EVIL], ["fill", f"--{EVIL}"], ["words", "--seed", EVIL]])
def test_wrong_usage_is_told_without_escapes(arguments: list[str], command: Command) -> None:
    code, _, errors = command(*arguments)
    assert code == 2
    assert "Traceback" not in errors
    assert errors.replace("\n", "").isprintable()
    assert not any(line.startswith("w: passed") for line in errors.splitlines())


def test_names_are_printed_without_what_a_terminal_obeys(tmp_path: Path, command: Command) -> None:
    """Of tensors, files, and the things that an archive has in it."""
    x = fi.array(3000, fi.normal(), seed=0, name="x")
    names = [EVIL, "w\n\x1b[1Apassed: all", "[red]x[/red]", "x" * 10_000]
    savez(tmp_path / "x.npz", **dict.fromkeys(names, x))  # equal streams: they are rejected by name
    savez(tmp_path / "y.npz", **{name: x.astype(complex) for name in names})  # skipped by name
    for file, expected in (("x.npz", 1), ("y.npz", 3)):
        code, out, errors = command("verify", tmp_path / file, "--init", "normal")
        assert code == expected
        assert out.replace("\n", "").isprintable()
        assert not errors
        assert not any(line.startswith(("w: passed", "passed")) for line in out.splitlines())
        assert "[red]x[/red]" in out
        code, out, errors = command("verify", tmp_path / file, "--init", "normal", "--json")
        assert code == expected
        assert out.replace("\n", "").isprintable()
        found = json.loads(out)
        assert found["tensors"].keys() | found["skipped"].keys() == set(names)
    code, out, errors = command("verify", tmp_path / "x.npz", "--init", "normal", "--tensor", EVIL * 100)
    assert code == 1
    assert errors[:-1].isprintable()
    assert len(errors) < 1500
    out_file = tmp_path / f"[red]{EVIL}.npy"
    code, out, errors = command(*fill("3", str(out_file))(tmp_path))
    assert code == 0, errors
    assert out[:-1].isprintable()
    assert "[red]" in out
    assert not errors
    assert np.load(out_file).size == 3


def test_a_bar_has_the_title_as_it_is() -> None:
    """In a terminal, which rich is told that it has."""
    source = f"""
from fastinit.sampling.progress import bar
with bar({"[red]" + EVIL!r}, on_stderr=True) as report:
    report(1, 2)
"""
    code, _, errors = python(source, FORCE_COLOR="1", COLUMNS="200", TERM="xterm")
    assert code == 0, errors
    assert r"[red]\x1b]0;title\x07\x1b[2J\nw: passed\r\u202e[bold]" in errors
    assert "\x1b]0;" not in errors
    assert "\x1b[2J" not in errors


INTERRUPTED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(10)\n"


@pytest.mark.parametrize("module", ["numpy", "click", "rich", "fastinit"])
def test_an_interrupt_while_modules_load_is_no_traceback(tmp_path: Path, module: str) -> None:
    """A module of that name interrupts the process that loads it."""
    (tmp_path / f"{module}.py").write_text(INTERRUPTED)
    code, out, errors = python(
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN}",
        "--version",
        folder=tmp_path,
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
    )
    assert (code, out, errors) == (-signal.SIGINT, "", "")


def test_the_command_is_the_module_that_loads_the_rest() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'fastinit = "fastinit_command:main"' in text
    assert 'py-modules = ["fastinit_command"]' in text
    assert python(MAIN, "--version").out.strip() == f"fastinit, version {fi.__version__}"
    assert python("import runpy; runpy.run_module('fastinit', run_name='__main__')", "--version").code == 0


def test_a_signal_that_was_ignored_stays_so() -> None:
    source = f"""
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.argv = ["fastinit", "--version"]
{MAIN}
print([signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)])
"""
    code, out, _ = python(source)
    assert code == 0
    assert out.splitlines()[-1] == "[True, True, False]"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_in_a_callback_is_not_lost(number: signal.Signals, code: int) -> None:
    """What is raised in a callback of C is printed and forgotten: LLVM has some."""
    source = f"""
import ctypes, os, signal, sys, time
from fastinit.cli import main as cli
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), {int(number)})
    time.sleep(0.1)
def command(**options):
    callback()
    time.sleep(20)
cli.cli = command
cli.main()
"""
    found, _, errors = python(source)
    assert found == code
    assert errors == ("fastinit: interrupted\n" if number == signal.SIGINT else "")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("x"),
        OSError(5, "x"),
        TypeError("x"),
        ValueError("x"),
        RuntimeError("x"),
        NotImplementedError("x"),
        RecursionError("x"),
        MemoryError(),
        OverflowError("x"),
        ZeroDivisionError("x"),
        EOFError(),
        ValueError("x\ny\x07"),
        ValueError("x" * 10**6),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_told_in_a_line(error: Exception, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setitem(command_line.cli.commands, "fail", fail)
    code, _, errors = command("fail")
    assert code == 1
    lines = [line for line in errors.splitlines() if line]  # click ends a line at the end of input
    assert len(lines) == 1
    assert re.match(r"fastinit: .+", lines[0])
    assert lines[0].isprintable()
    assert len(lines[0]) < 1500
    assert "interrupted" not in lines[0]


def test_a_bug_still_has_its_traceback() -> None:
    source = "from fastinit.cli import main as cli\n@cli.cli.command('fail')\ndef fail():\n    assert False\ncli.main()"
    assert "AssertionError" in python(source, "fail").errors


@pytest.mark.parametrize("options", [[], ["--no-sync"]])
def test_files_are_the_same_with_and_without_waiting_for_the_disk(
    tmp_path: Path, options: list[str], command: Command
) -> None:
    for arguments, out in ((model(tmp_path), "out.safetensors"), (fill("300x200")(tmp_path), "out.npy")):
        code, _, errors = command(*arguments, *options, folder=tmp_path)
        assert code == 0, errors
        found = (tmp_path / out).read_bytes()
        if out == "out.npy":
            assert (np.load(tmp_path / out) == np.zeros((300, 200))).all()
        else:
            assert found.endswith(bytes(12))


def test_an_archive_with_a_huge_directory_takes_bounded_time(tmp_path: Path, command: Command) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for n in range(20_000):
            archive.writestr(f"{n}.txt", b"")
    code, _, errors = command("verify", tmp_path / "x.npz", "--init", "zeros")
    assert code == 1
    assert "there is no array in it" in errors
