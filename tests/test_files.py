"""Output that is complete or absent, whatever happens; input that is a regular file of JSON."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastinit.io.checkpoint import initialize
from fastinit.io.files import complete_file, parse_json
from fastinit.io.manifests import read_manifest
from fastinit.io.rules import read_recipe
from tests.helpers import MAIN, Done, environment, hear

COMMAND = [sys.executable, "-c", MAIN]
FILL = ["fill", "--shape", "40x30", "--init", "normal", "--seed", "1", "--name", "w"]
TOKEN = "0123456789abcdef"


def write(path: Path | str, content: bytes = b"new", *, sync: bool = True) -> None:
    with complete_file(path, b"head", len(content), sync=sync) as data:
        data[:] = np.frombuffer(content, np.uint8)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def partials(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if name.endswith(".partial")}


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_is_complete_when_it_gets_its_name(tmp_path: Path, sync: bool) -> None:
    out = tmp_path / "x"
    out.write_bytes(b"old")
    with complete_file(out, b"head", 3, sync=sync) as data:
        data[:] = 7
        assert out.read_bytes() == b"old"
    assert out.read_bytes() == b"head\7\7\7"
    assert names(tmp_path) == ["x"]


def test_only_a_synchronized_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, its name, the folder: in this order, and without the first and the last where nobody wants them."""
    calls: list[str] = []

    def fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    def replace(*pair: str, rename: object = os.replace) -> None:
        calls.append("rename")
        rename(*pair)  # type: ignore[operator]

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path / "x")
    assert calls == ["file", "rename", "folder"]
    calls.clear()
    write(tmp_path / "x", sync=False)
    assert calls == ["rename"]


@pytest.mark.parametrize("kind", ["device", "fifo", "folder", "link to a device"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, kind: str, command: Callable[..., Done]) -> None:
    out = tmp_path / "x.npy"
    if kind == "device":
        try:
            os.mknod(out, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    elif kind == "fifo":
        os.mkfifo(out)
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to("/dev/null")
    before = os.lstat(out), os.stat(out)
    with pytest.raises(ValueError, match="must be a regular file, but is a"):
        write(out)
    after = os.lstat(out), os.stat(out)
    assert [(x.st_mode, x.st_ino, x.st_rdev) for x in before] == [(x.st_mode, x.st_ino, x.st_rdev) for x in after]
    assert names(tmp_path) == ["x.npy"]
    done = command(*FILL, out)
    assert done.code in (1, 2)
    assert "Traceback" not in done.errors
    assert os.lstat(out).st_mode == before[0].st_mode


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/real")
    (tmp_path / "dangling").symlink_to("there/made")
    write(tmp_path / "link")
    write(tmp_path / "dangling", b"other")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "there/real").read_bytes() == b"headnew"
    assert (tmp_path / "there/made").read_bytes() == b"headother"
    assert names(tmp_path / "there") == ["made", "real"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_replaced_file_keeps_its_mode_and_owner(tmp_path: Path, mode: int) -> None:
    out = tmp_path / "x"
    out.write_bytes(b"old")
    if os.geteuid() == 0:
        os.chown(out, 1234, 4321)
    out.chmod(mode)
    before = out.stat()
    with complete_file(out, b"head", 1) as data:
        partial = next(path for path in tmp_path.iterdir() if path != out)
        assert partial.stat().st_mode & ~mode & 0o777 == 0  # never open to more than the old one
        data[:] = 0
    after = out.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0])
def test_a_new_file_has_the_mode_that_open_gives(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "x")
        (tmp_path / "y").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


@pytest.mark.parametrize("length", [255, 251, 1])
def test_names_may_be_as_long_as_the_file_system_has_them(tmp_path: Path, length: int) -> None:
    for letter in ("x", "ü"):
        name = letter * (length // len(letter.encode()) or 1)
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"headnew"
    assert not partials(tmp_path)


def test_abandoned_partial_files_are_removed_and_no_others(tmp_path: Path) -> None:
    dead = f".x.{TOKEN}.partial"
    others = [
        f".y.{TOKEN}.partial",
        f".x.more.{TOKEN}.partial",
        ".x.notes.partial",
        f"x.{TOKEN}.partial",
        f".x.{TOKEN}.partial.kept",
    ]
    for name in [dead, *others]:
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "precious").write_bytes(b"precious")
    link, fifo, alive = (tmp_path / f".x.{digit * 16}.partial" for digit in "123")
    link.symlink_to("precious")
    os.mkfifo(fifo)
    alive.write_bytes(b"of another run")
    with open(alive, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(tmp_path / "x")
    assert names(tmp_path) == sorted([*others, "x", "precious", link.name, fifo.name, alive.name])
    assert (tmp_path / "precious").read_bytes() == b"precious"
    write(tmp_path / "x")
    assert not alive.exists()


def test_two_at_once_do_not_take_each_other_for_abandoned(tmp_path: Path) -> None:
    with complete_file(tmp_path / "x", b"head", 1) as first, complete_file(tmp_path / "x", b"head", 2) as second:
        assert len(names(tmp_path)) == 2
        first[:], second[:] = 1, 2
    assert (tmp_path / "x").read_bytes() == b"head\1"
    assert names(tmp_path) == ["x"]


def test_a_file_removed_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []

    def flock(descriptor: int, operation: int) -> None:
        if not removed:
            removed.extend(names(tmp_path))
            os.unlink(tmp_path / removed[0])

    monkeypatch.setattr(fcntl, "flock", flock)
    write(tmp_path / "x")
    assert len(removed) == 1
    assert (tmp_path / "x").read_bytes() == b"headnew"


@pytest.mark.parametrize("place", ["open", "posix_fallocate", "fsync", "replace"])
@pytest.mark.parametrize("old", [True, False])
def test_errors_name_the_file_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, old: bool
) -> None:
    out = tmp_path / "x"
    if old:
        out.write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", arguments[0])

    with monkeypatch.context() as patch:
        patch.setattr(os, place, full)
        with pytest.raises(OSError, match="No space left") as caught:
            write(out)
    assert str(out) in str(caught.value)
    assert "partial" not in str(caught.value)
    assert names(tmp_path) == (["x"] if old else [])
    assert not old or out.read_bytes() == b"old"


def test_an_interrupt_says_what_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "x"
    out.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt, match="x is unchanged"), complete_file(out, b"head", 1):
        raise KeyboardInterrupt
    assert out.read_bytes() == b"old"

    def replace(*pair: str, rename: object = os.replace) -> None:
        rename(*pair)  # type: ignore[operator]
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt) as caught:
        write(out)
    assert str(caught.value) == ""  # it is changed
    assert out.read_bytes() == b"headnew"
    assert names(tmp_path) == ["x"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit on the size of files fails where a full disk does."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    for name in ("x.npy", "x.safetensors"):
        options = ["--shape", "1000x1000", "--init", "zeros", "--seed", 0, "--name", "w"]
        done = subprocess.run(
            [*COMMAND, "fill", *map(str, options), str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
            preexec_fn=limited,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert f"cannot write {tmp_path / name}" in done.stderr
        assert names(tmp_path) == []


def test_sizes_that_no_file_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"less than 2\*\*63"), complete_file(tmp_path / "x", b"head", (1 << 63) - 1):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 1}', "'a' is there twice"),
        ('[{"b": {"a": 1, "\\u0061": 2}}]', "'a' is there twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[NaN]", "NaN"),
        ("[-Infinity]", "Infinity"),
        ("[", "Expecting"),
        ("1" * 5000, "digits"),
    ],
)
def test_json_is_strict(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_json_is_read() -> None:
    text = '{"a": [1, -2, 2.5, 1e3, "\\u00e4"], "b": {"a": null}, "c": [true, 18446744073709551616]}'
    assert parse_json(text) == json.loads(text)
    assert type(parse_json("-0")) is float


SHAPES = [(16000, 2000), (1000,), (12000, 4000)]  # 320 MB: a kill lands in the writing
KILLED = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["init", "fill"])
def test_killed_at_any_time_no_incomplete_file_has_the_name(tmp_path: Path, command: str) -> None:
    """The oracle: what is there is absent, the old file, or every byte of the new one; and the next run tidies up."""
    runs = int(os.environ.get("FASTINIT_KILLS", "8"))
    tensors = [{"name": f"w{n}", "shape": shape, "dtype": "float32"} for n, shape in enumerate(SHAPES)]
    manifest, recipe, folder = tmp_path / "m.json", tmp_path / "r.toml", tmp_path / "out"
    manifest.write_text(json.dumps(tensors))
    recipe.write_text("[[rule]]\nmatch = '*'\ninit = 'truncated_normal'\n")
    folder.mkdir()
    out = folder / ("m.safetensors" if command == "init" else "m.npy")
    if command == "init":
        arguments = ["init", manifest, out, "--recipe", recipe, "--seed", 7]
    else:
        arguments = ["fill", out, "--shape", "16000x5000", "--init", "truncated_normal", "--seed", 7, "--name", "w"]
    arguments += ["--quiet", "--threads", 1]
    whole = [*COMMAND, *map(str, arguments)]
    began = time.monotonic()
    done = subprocess.run(whole, capture_output=True, text=True, env=environment(), timeout=120)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    told = re.search(r" in (\d+\.\d+) s", done.stdout)
    assert told is not None
    writing = float(told[1])
    expected, old = out.read_bytes(), b"the old file"
    if command == "init":  # its oracle again, in this process
        initialize(
            read_manifest(manifest), tmp_path / "again", read_recipe(recipe, []), seed=7, note="recipe r.toml, seed 7"
        )
        assert (tmp_path / "again").read_bytes() == expected
    chance = random.Random(1)
    midway = 0
    for number in range(runs):
        before = [None, old, expected][number % 3]
        out.unlink(missing_ok=True)
        if before is not None:
            out.write_bytes(before)
        sent = KILLED[number % len(KILLED)]
        late = number // len(KILLED) % 2 == 1  # while the partial file is there; the others at any time
        left = partials(folder)  # of a run that was killed, if none has come so far since
        with subprocess.Popen(
            whole,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment(),
            preexec_fn=hear,
        ) as process:
            deadline = time.monotonic() + 60
            while late and process.poll() is None and time.monotonic() < deadline:
                if partials(folder) - left:
                    break
                time.sleep(0.001)
            time.sleep(chance.uniform(0, writing if late else seconds))
            midway += bool(partials(folder) - left)
            process.send_signal(sent)
            message = process.communicate(timeout=60)[1]
        content = out.read_bytes() if out.exists() else None
        assert content in (before, expected), f"run {number}, {sent.name}: an incomplete file"
        if sent is not signal.SIGKILL:
            assert not partials(folder) - left, f"run {number}, {sent.name}, {process.returncode}: {message}"
            if late:
                complete = process.returncode in (0, -sent) and content == expected  # -sent: when Python ends
                assert complete or process.returncode == 128 + sent, message
                assert "Traceback" not in message
        if "is unchanged" in message:
            assert content == before
    assert midway >= runs // 4
    assert subprocess.run(whole, capture_output=True, env=environment(), timeout=120).returncode == 0
    assert names(folder) == [out.name]
    assert out.read_bytes() == expected
