"""Ways to get fresh memory for a fill, in turns, beside a memset of the same pages: `python -m bench.fresh_pages`.

Each contender maps memory, writes it and gives it back, twice in a row; the second time counts, since a virtual machine
may have to get memory from its host the first time.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

import fastinit as fi
from bench.ceilings import store

POPULATE_WRITE, COLLAPSE = 23, 25  # madvise's advice, by Linux's numbers
HUGE = 2 << 20  # bytes of a huge page
AHEAD = 32 << 20  # bytes that a thread populates at once, ahead of the fill

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

Fill = Callable[["np.ndarray[tuple[int], np.dtype[np.float32]]", int], None]


def advise(address: int, size: int, advice: int) -> None:
    """Advise the system about memory; an OSError says what it cannot do."""
    if _libc.madvise(address, size, advice):
        raise OSError(ctypes.get_errno(), f"madvise {advice}")


@contextmanager
def mapping(size: int, huge: bool | None, flags: int = 0) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Map fresh memory, on a huge page's boundary."""
    memory = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
    whole = np.frombuffer(memory, np.uint8)
    lead = -whole.ctypes.data % HUGE
    if not flags and huge is not None:
        advise(whole.ctypes.data, size, mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    try:
        yield whole[lead : lead + size].view(np.float32)
    finally:
        del whole  # the mapping ends with the last array that borrows from it


def draw(out: np.ndarray[tuple[int], np.dtype[np.float32]], threads: int) -> None:
    """Fill with uniforms."""
    fi.fill(out, fi.uniform(), seed=0, name="w", threads=threads)


def zero(out: np.ndarray[tuple[int], np.dtype[np.float32]], threads: int) -> None:
    """Fill with zeros."""
    store("memset", out, threads)


def populated(fill: Fill) -> Fill:
    """Populate all pages by as many threads, then fill."""

    def both(out: np.ndarray[tuple[int], np.dtype[np.float32]], threads: int) -> None:
        step = -(-out.nbytes // threads // HUGE) * HUGE
        parts = [(out.ctypes.data + at, min(step, out.nbytes - at)) for at in range(0, out.nbytes, step)]
        helpers = [threading.Thread(target=advise, args=(*part, POPULATE_WRITE)) for part in parts]
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join()
        fill(out, threads)

    return both


def ahead(fill: Fill) -> Fill:
    """Populate pages by one thread, ahead of another one that fills."""

    def both(out: np.ndarray[tuple[int], np.dtype[np.float32]], threads: int) -> None:
        parts = [out[at : at + AHEAD // 4] for at in range(0, out.size, AHEAD // 4)]
        ready = [threading.Event() for _ in parts]

        def populate() -> None:
            for part, event in zip(parts, ready, strict=True):
                advise(part.ctypes.data, part.nbytes, POPULATE_WRITE)
                event.set()

        helper = threading.Thread(target=populate)
        helper.start()
        for part, event in zip(parts, ready, strict=True):
            event.wait()
            fill(part, 1)  # other values than the whole's, and as many
        helper.join()

    return both


def collapsed(fill: Fill) -> Fill:
    """Collapse to huge pages before the fill: the system takes all of them at once."""

    def both(out: np.ndarray[tuple[int], np.dtype[np.float32]], threads: int) -> None:
        out[:: mmap.PAGESIZE * 128 // 4] = 0  # it collapses what has a page
        advise(out.ctypes.data, out.nbytes, COLLAPSE)
        fill(out, threads)

    return both


def once(size: int, fill: Fill, threads: int, huge: bool | None = True, flags: int = 0) -> float:
    """Return the seconds of a mapping's life, but for its end."""
    begin = time.perf_counter()
    with mapping(size, huge, flags) as out:
        fill(out, threads)
        seconds = time.perf_counter() - begin
        del out
    return seconds


def contenders(size: int, threads: int) -> dict[str, Callable[[], float]]:
    """Return the ways, by name: each takes its turn and returns its seconds."""
    kept = np.zeros(size // 4, np.float32)

    def array() -> float:
        begin = time.perf_counter()
        out = fi.array(size // 4, fi.uniform(), seed=0, name="w", threads=threads)
        seconds = time.perf_counter() - begin
        del out
        return seconds

    def pool() -> float:
        begin = time.perf_counter()
        draw(kept, threads)
        return time.perf_counter() - begin

    return {
        "memset, 4 KiB pages": lambda: once(size, zero, threads, huge=False),
        "memset, huge pages": lambda: once(size, zero, threads),
        "fastinit.array": array,
        "fill, 4 KiB pages": lambda: once(size, draw, threads, huge=False),
        "fill, huge pages": lambda: once(size, draw, threads),
        "fill, MAP_POPULATE": lambda: once(size, draw, threads, flags=mmap.MAP_POPULATE),
        "fill, huge pages populated by all threads": lambda: once(size, populated(draw), threads),
        "fill, huge pages populated by a thread ahead": lambda: once(size, ahead(draw), threads),
        "fill, collapsed to huge pages": lambda: once(size, collapsed(draw), threads, huge=None),
        "fill, memory that was used before": pool,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    size = given.megabytes << 20
    ways = contenders(size, given.threads)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.turns):
        for name, way in list(ways.items()):
            try:
                way()
                seconds[name].append(way())
            except OSError as error:
                print(f"{name}: {error}")
                del ways[name]
    print(f"| {given.megabytes} MiB of float32, {given.threads} threads | GB/s | of the memset |\n| --- | --- | --- |")
    ceiling = seconds["memset, huge pages"]
    for name in ways:
        speeds = sorted(size / 1e9 / one for one in seconds[name])
        ratio = statistics.median(base / one for base, one in zip(ceiling, seconds[name], strict=True))
        print(f"| {name} | {statistics.median(speeds):.2f} ({speeds[0]:.2f}–{speeds[-1]:.2f}) | {ratio:.2f} |")


if __name__ == "__main__":
    main()
