"""The bytes of a file in blocks: one is computed while those before it are looked at and written."""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Observer = Callable[[int, Bytes], object]

BLOCK = 8 << 20  # bytes made at once: tasks for all threads, and still in a cache when they are hashed and written
BUFFERS = 4  # one is computed, one is written, two wait for either
DIRECT = 64 << 20  # a file from this size on goes past the page cache, which a smaller one may stay in
UNWRITTEN = 256 << 20  # bytes given to the page cache before the disk is waited for
_SECTOR = 4096  # what direct writes are multiples of, in memory and in the file


def blocks(
    descriptor: int, header: bytes, size: int, *, sync: bool, observe: Observer | None = None
) -> Generator[tuple[int, Bytes], None, None]:
    """Yield the memory for the ``size`` bytes behind a header, block by block, each with the place of its first byte.

    A block belongs to the caller until the next is asked for; then it is written, and ``observe`` sees it: each on a
    thread of its own, in order, while the caller computes the next. When the last has been yielded, and the iterator
    is asked again, all is written. At most `BUFFERS` blocks are held in memory.

    Large files that shall be on the disk anyway are written directly to it (O_DIRECT), where the file system can:
    measured by ``bench/disk.py``, the page cache costs a copy and its dirty pages come to the disk late. Else the disk
    is waited for after every `UNWRITTEN` bytes.

    Raises
    ------
    OSError
        If a block cannot be written.
    """
    whole = len(header) + size
    sink = _Sink(descriptor, whole, sync)
    pending: deque[tuple[Bytes, list[Future[None]]]] = deque()
    with ThreadPoolExecutor(1, "fastinit-write") as writer, ThreadPoolExecutor(1, "fastinit-observe") as observer:
        for begin in range(0, whole, BLOCK):
            buffer = _settled(*pending.popleft()) if len(pending) == BUFFERS else _memory(min(BLOCK, whole))
            length = min(BLOCK, whole - begin)
            skip = min(max(0, len(header) - begin), length)
            buffer[:skip] = np.frombuffer(header, np.uint8, skip, begin if skip else 0)
            futures = []
            if skip < length:
                start, block = begin + skip - len(header), buffer[skip:length]
                yield start, block
                if observe is not None:
                    futures.append(_submitted(observer, observe, start, block))
            futures.append(_submitted(writer, sink.write, buffer, begin, length))
            pending.append((buffer, futures))
        while pending:
            _settled(*pending.popleft())
        sink.end()


def _memory(size: int) -> Bytes:
    """Return fresh memory, on a page's boundary and of whole pages, as direct writes need it."""
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # not on Windows
    return np.frombuffer(mmap.mmap(-1, -(-size // _SECTOR) * _SECTOR, **private), np.uint8)


def _settled(buffer: Bytes, futures: list[Future[None]]) -> Bytes:
    """Return the buffer when nobody reads it any more; an error of those who did is raised."""
    for future in futures:
        future.result()
    return buffer


def _submitted(pool: ThreadPoolExecutor, function: Callable[..., object], *arguments: Any) -> Future[Any]:
    """Call a function on a pool's thread, or here where none can be started."""
    try:
        return pool.submit(function, *arguments)
    except RuntimeError:
        done: Future[Any] = Future()
        done.set_result(function(*arguments))
        return done


class _Sink:
    """A file that blocks are written to."""

    def __init__(self, descriptor: int, whole: int, sync: bool) -> None:
        self.descriptor, self.whole, self.sync = descriptor, whole, sync
        self.direct = sync and whole >= DIRECT and _set_direct(descriptor, True)
        self.unwritten = 0

    def write(self, buffer: Bytes, at: int, length: int) -> None:
        """Write a block at its place; the last one of a direct file with its page filled up, which `end` cuts off."""
        if self.direct:
            try:
                _write_all(self.descriptor, buffer[: -(-length // _SECTOR) * _SECTOR], at)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            self.direct = not _set_direct(self.descriptor, False)  # the file system has larger sectors, or none
        _write_all(self.descriptor, buffer[:length], at)
        self.unwritten += length
        if self.sync and self.unwritten >= UNWRITTEN:
            getattr(os, "fdatasync", os.fsync)(self.descriptor)
            self.unwritten = 0

    def end(self) -> None:
        """Give the file its size."""
        os.ftruncate(self.descriptor, self.whole)


def _set_direct(descriptor: int, direct: bool) -> bool:
    """Write past the page cache from now on, or no longer; return whether that could be done."""
    flag = getattr(os, "O_DIRECT", 0)
    if fcntl is None or not flag:
        return False
    with suppress(OSError):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | flag if direct else flags & ~flag)
        return True
    return False


def _write_all(descriptor: int, block: Bytes, at: int) -> None:
    """Write all bytes of a block, in as many calls as the system wants."""
    view = block.data
    while len(view):
        if hasattr(os, "pwrite"):
            written = os.pwrite(descriptor, view, at)
        else:  # Windows; the writer's thread is the only one that moves
            os.lseek(descriptor, at, os.SEEK_SET)
            written = os.write(descriptor, view)
        view, at = view[written:], at + written
