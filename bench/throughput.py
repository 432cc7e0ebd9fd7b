"""How near the fills come to the memory: GB/s and the fraction of the streaming-store ceiling, in one run.

``python -m bench.throughput [GiB]``: the contenders take turns on one warm float32 buffer, on all threads; medians of
nine rounds with their spread. The ceilings are stores of one constant line, past the caches and through them, from
kernels like fastinit's own, so that nothing but the arithmetic is between them and the fills.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

import fastinit as fi
from fastinit.kernels.numerics import copy, fence, stream_line
from fastinit.parallel import run, thread_count

ROUNDS = 9
PIECE = 8 << 20


@njit(nogil=True, cache=True)
def _stream(to: int, source: int, size: int) -> None:
    for line in range(0, size, 64):
        stream_line(to + line, source)
    fence(0)


@njit(nogil=True, cache=True)
def _plain(to: int, source: int, size: int) -> None:
    for line in range(0, size, 64):
        copy(to + line, source, 64)


def _store(kernel: Callable[[int, int, int], None], buffer: np.ndarray[Any, Any], threads: int) -> None:
    """Store the same 64 bytes all over the buffer."""
    line = np.zeros(128, np.uint8)
    source = -(-line.ctypes.data // 64) * 64
    address = buffer.ctypes.data

    def task(k: int) -> int:
        kernel(address + k * PIECE, source, PIECE)
        return PIECE

    run(task, buffer.nbytes // PIECE, threads)


def main(gibibytes: float) -> None:
    """Measure and print."""
    threads = thread_count()
    buffer = np.zeros(int(gibibytes * 2**30) // PIECE * PIECE // 4, np.float32)
    buffer = buffer[(-buffer.ctypes.data % 64) // 4 :][: buffer.size - PIECE // 4]

    def filler(init: fi.Initializer) -> Callable[[], object]:
        return lambda: fi.fill(buffer, init, seed=0, name="bench", threads=threads)

    contenders: dict[str, Callable[[], object]] = {
        "streaming stores": lambda: _store(_stream, buffer, threads),
        "plain stores": lambda: _store(_plain, buffer, threads),
        "uniform": filler(fi.uniform()),
        "normal": filler(fi.normal()),
        "truncated normal, +-2 sigma": filler(fi.truncated_normal()),
        "truncated normal, (5, inf)": filler(fi.truncated_normal(lower=5.0, upper=float("inf"))),
    }
    for contend in contenders.values():
        contend()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contend in contenders.items():
            began = time.perf_counter()
            contend()
            seconds[name].append(time.perf_counter() - began)
    print(f"{buffer.nbytes / 2**30:.2f} GiB float32, warm, {threads} threads; median of {ROUNDS} rounds (best, worst)")
    for name, times in seconds.items():
        median = statistics.median(times)
        median_speed, fast, slow = (buffer.nbytes / 1e9 / value for value in (median, min(times), max(times)))
        fraction = statistics.median(one / other for one, other in zip(seconds["streaming stores"], times, strict=True))
        print(f"{name:30} {median_speed:6.2f} GB/s ({fast:.2f}, {slow:.2f})  {fraction:5.2f} of streaming stores")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
