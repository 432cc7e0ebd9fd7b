"""What the memory itself allows: the same buffers filled by plain stores, by streaming stores and by libc's memset."""

# The kernels are compiled, and their types are those of their arguments.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from fastinit.kernels.intrinsics import copy, copy_line, fence
from fastinit.sampling.threads import run

PIECE = 8 << 20  # bytes of a thread's task, as in the fills


@njit(nogil=True, cache=True)
def _stream(to, source, size):
    for line in range(0, size, 64):
        copy_line(to + line, source)
    fence(0)


@njit(nogil=True, cache=True)
def _plain(to, source, size):
    for line in range(0, size, 64):
        copy(to + line, source, 64)


_libc = ctypes.CDLL(None)
_libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
_libc.memset.restype = ctypes.c_void_p
_lines = np.zeros(128, np.uint8)
_LINE = -(-_lines.ctypes.data // 64) * 64  # the address of 64 zeros

STORES: dict[str, Callable[[int, int], object]] = {  # zeros to an address, so many bytes
    "streaming stores": lambda address, size: _stream(address, _LINE, size),
    "plain stores": lambda address, size: _plain(address, _LINE, size),
    "memset": lambda address, size: _libc.memset(address, 0, size),
}


def store(kind: str, buffer: np.ndarray[Any, Any], threads: int) -> None:
    """Fill a buffer with zeros; its address and size are multiples of 64."""
    begin, end = buffer.ctypes.data, buffer.ctypes.data + buffer.nbytes

    def task(k: int) -> int:
        address = begin + k * PIECE
        size = min(PIECE, end - address)
        STORES[kind](address, size)
        return size

    run(task, -(-buffer.nbytes // PIECE), threads)
