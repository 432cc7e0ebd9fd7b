"""Files that are safe to read, and files that are complete or absent."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from fastinit.core.text import printable, quoted, size_text
from fastinit.io.blocks import Bytes, Observer, blocks

try:
    import fcntl
except ImportError:  # Windows: without these locks nothing is known to be abandoned, and nothing is removed
    fcntl = None  # type: ignore[assignment]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)
_NAME = 200  # bytes of a file's name that its partial files repeat: file systems end names at 255
_OPEN = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_ENDING = r"\.[0-9a-f]{16}\.partial"


def check_regular(path: str | Path) -> os.stat_result:
    """Return the file system's record of a file, if it is a regular one.

    Raises
    ------
    OSError
        If the file does not exist.
    ValueError
        If it is a folder, a device, a FIFO or a socket: opening one may block, or do something.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "none")
        raise ValueError(f"{printable(str(path))} must be a regular file, but is {kind}")
    return found


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading; see `check_regular`."""
    check_regular(path)
    return open(path, "rb")


def read_text(path: str | Path, limit: int) -> str:
    """Return the UTF-8 text of a regular file of up to ``limit`` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it must be of {limit} bytes at most, and is larger")
    return content.decode("utf-8")


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, strictly: without NaN, and no key twice in an object.

    Raises
    ------
    ValueError
        If it is anything else, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {quoted(twice)} is there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _integer(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)  # no size may have a sign


@contextmanager
def complete_file(path: str | Path, header: bytes, size: int, *, sync: bool = True) -> Iterator[Bytes]:
    """Make a new file of ``header`` and ``size`` bytes, the latter in memory to be written: see `complete_blocks`."""
    with complete_blocks(path, header, size, sync=sync) as parts:
        data = np.zeros(size, np.uint8)
        yield data
        for start, block in parts:
            block[:] = data[start : start + len(block)]


def write_text(path: str | Path, text: str, *, sync: bool = True) -> None:
    """Write a file of UTF-8 text, complete or not at all: see `complete_blocks`."""
    with complete_blocks(path, text.encode(), 0, sync=sync):
        pass


@contextmanager
def complete_blocks(
    path: str | Path, header: bytes, size: int, *, sync: bool = True, observe: Observer | None = None
) -> Iterator[Iterator[tuple[int, Bytes]]]:
    """Make a new file of ``header`` and ``size`` bytes, the latter in blocks to be written: see `blocks`.

    It is made beside ``path`` as ``.NAME.<16 hexadecimal digits>.partial`` and gets its own name only when the block
    ends without an exception; else nothing is left. What was there under its name keeps its mode, and its owner where
    that is allowed; a symbolic link is followed. Partial files of runs that were killed are removed: those that no
    process holds locked. The space is reserved first, so that a full disk is known before the first value.

    Parameters
    ----------
    path, header, size
        The file, its first bytes, and the count of the bytes that follow.
    sync
        Whether to wait until the disk has the file before it gets its name, and the name thereafter: without, a crash
        of the machine shortly after may leave an incomplete file.
    observe
        Called with the place of each block behind the header, and the block, on another thread.

    Raises
    ------
    ValueError
        If there is something else than a regular file under that name.
    OSError
        If the file cannot be written; the message names ``path``.
    KeyboardInterrupt
        If the block is interrupted; the message says that ``path`` is unchanged, if it is.
    """
    whole = len(header) + size
    if whole >= 1 << 63:
        raise ValueError(f"{printable(str(path))} would have {whole} bytes, a file has less than 2**63")
    old = None
    with suppress(FileNotFoundError):  # also of a link whose target is to be made
        old = check_regular(path)
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    while len(os.fsencode(name)) > _NAME:
        name = name[:-1]
    partial = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.partial")
    descriptor = -1
    try:
        with _naming(path, whole):
            _remove_abandoned(folder, name)
            descriptor = _create(partial, old)
            if whole:
                reserve(descriptor, whole)
        with closing(_named(path, whole, blocks(descriptor, header, size, sync=sync, observe=observe))) as parts:
            yield parts
            if next(parts, None) is not None:
                raise RuntimeError("every block of the file must be taken, and some were not")
        with _naming(path, whole):
            if sync:
                os.fsync(descriptor)
            descriptor = _unlocked(descriptor)
            os.replace(partial, target)
            if sync:
                _sync_folder(folder)
    except BaseException as error:
        descriptor = _unlocked(descriptor)
        try:
            os.unlink(partial)
        except OSError:  # not made yet, or complete and renamed
            raise error from None
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"{path} is unchanged") from None
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _named(
    path: str | Path, size: int, parts: Generator[tuple[int, Bytes], None, None]
) -> Generator[tuple[int, Bytes], None, None]:
    """Yield the parts of a file; an error of writing them names it."""
    with closing(parts), _naming(path, size):
        yield from parts


@contextmanager
def _naming(path: str | Path, size: int) -> Iterator[None]:
    """Name the file that was asked for in errors, not the partial one."""
    try:
        yield
    except OSError as error:
        wanted = f"{printable(str(path))}, {size_text(size)}"
        raise OSError(error.errno, f"cannot write {wanted}: {error.strerror}") from None


def _create(partial: str, old: os.stat_result | None) -> int:
    """Create a file, locked so that it is not taken for an abandoned one, with the mode and owner of the old one."""
    while True:
        mode = 0o666 if old is None else 0o600  # the first less the umask, as everywhere
        descriptor = os.open(partial, _OPEN | os.O_CREAT | os.O_EXCL, mode)
        with suppress(OSError):  # a file system may have no locks
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # another run has removed it before it was locked
    if old is not None:
        with suppress(OSError):
            if hasattr(os, "fchown"):
                os.fchown(descriptor, old.st_uid, old.st_gid)
        os.chmod(partial, old.st_mode & 0o777)  # the right to run as another user is not for new content
    return descriptor


def _unlocked(descriptor: int) -> int:
    """Close a file that is renamed or removed next, if there are no locks to be held until then: -1.

    Windows does neither to a file that is open.
    """
    if fcntl is not None or descriptor < 0:
        return descriptor
    os.close(descriptor)
    return -1


def _remove_abandoned(folder: str, name: str) -> None:
    """Remove the partial files of this name whose lock no process holds."""
    if fcntl is None:
        return
    ours = re.compile(re.escape(f".{name}") + _ENDING)
    with suppress(OSError):  # a folder may be written though it cannot be read
        for path in [entry.path for entry in os.scandir(folder) if ours.fullmatch(entry.name)]:
            with suppress(OSError):  # of another user, or gone, or locked
                descriptor = os.open(path, _OPEN | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found = os.fstat(descriptor)
                    if stat.S_ISREG(found.st_mode) and found.st_nlink:  # else another run was faster
                        os.unlink(path)
                finally:
                    os.close(descriptor)


def _sync_folder(folder: str) -> None:
    """Wait until the disk has the folder's names, where folders can be synchronized."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reserve(descriptor: int, size: int) -> None:
    """Take the space that the file needs."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
