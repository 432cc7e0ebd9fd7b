"""The backend of arrays in the CPU's memory: content is cut into tasks, which are handed to the threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from fastinit.core.arrays import is_masked, is_torch, torch_memory
from fastinit.core.checks import MOST_ELEMENTS
from fastinit.core.forks import LATE, load
from fastinit.distributions import Constant, Distribution
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix, Places
from fastinit.sampling.checks import check_room, distribution_of
from fastinit.sampling.plan import tiled
from fastinit.sampling.progress import Progress, run_reported
from fastinit.sampling.threads import run, thread_count

if TYPE_CHECKING:
    from fastinit.sampling.backend import Work
    from fastinit.sampling.lowering import Lowered

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]
Jobs = tuple[Callable[[int], int], int]  # a task by its number, and how many there are

TASK_BYTES = 8 << 20  # a thread's task: a few milliseconds, so that an interrupt is answered soon
LEAST_TASK_BYTES = 256 << 10  # below, a second thread costs more than it brings

_own = threading.local()


def opened(out: Any) -> tuple[Array, Array]:
    """Return the array itself, or the one that shares a torch tensor's memory."""
    if type(out) is np.ndarray or (isinstance(out, np.ndarray) and not is_masked(out)):
        return out, out
    if is_torch(out):
        memory = torch_memory("out", out)
        return memory, memory
    kinds = "a NumPy array without a mask" + ("" if is_masked(out) else " or a torch tensor")
    raise TypeError(f"out must be {kinds}, got {type(out).__name__}")


@lru_cache(maxsize=1024)
def planned(init: Initializer, dtype: np.dtype[Any], strides: Sizes, shape: Sizes, whole: Sizes, offset: Sizes) -> Work:
    """Plan the fill of an array of this layout, checked to be possible.

    It has all that a fill needs beside the memory's address, the key and the stream. Kept, since for a small array it
    is most of the work.
    """
    load(*LATE)
    from fastinit.sampling.lowering import lower, lower_constant

    content = distribution_of(init, dtype, strides, shape, whole)
    if isinstance(content, Constant):
        return Slices(lower_constant(content, dtype))
    if isinstance(content, Distribution):
        lowered = lower(content, dtype)
        return Tiles.of(lowered, shape, strides, whole, offset) if math.prod(shape) else Slices(lowered.low)
    if isinstance(content.elements, Constant):
        lower_constant(content.elements, dtype)
    else:
        lower(content.elements, dtype)
    return Pieces(f"{init} of shape {whole}", content, whole, offset)


class Slices(NamedTuple):
    """A constant, which needs no kernel: NumPy stores it, in slices along the longest axis."""

    value: Any  # scalar of the dtype

    def run(self, out: Array, key: int, stream: int, threads: int | None, progress: Progress) -> None:
        """Store it."""
        run_reported(*self._jobs(np.asarray(out)), out.nbytes, thread_count(threads), progress)

    def _jobs(self, out: Array) -> Jobs:
        if out.ndim == 0:
            out = out.reshape(1)
        axis = int(np.argmax(out.shape))
        lines = np.moveaxis(out, axis, 0)
        step = max(1, lines.shape[0] * TASK_BYTES // out.nbytes)

        def task(k: int) -> int:
            part = lines[k * step : (k + 1) * step]
            part[...] = self.value
            return part.nbytes

        return task, -(-lines.shape[0] // step)


class Tiles(NamedTuple):
    """A distribution's values in an array of some layout: the kernel that makes them, and its arguments."""

    kernel: Callable[..., int]
    numbers: int  # address of the bounds and the transform's parameters
    plan: int  # address
    total: int  # tiles
    memory: tuple[Array, ...]  # that the addresses are of

    @staticmethod
    def of(lowered: Lowered, shape: Sizes, strides: Sizes, whole: Sizes, offset: Sizes, attempt: int = 0) -> Tiles:
        """Lay an array out in tiles.

        The words of a later attempt begin, in blocks of four, where the counter's attempt does; 32-bit words alone.
        """
        from fastinit.kernels.entries import REGIONS, ROWS, RUNS, draw_span
        from fastinit.kernels.layout import RUN
        from fastinit.kernels.parameters import REDRAWN

        plan, inner, axes = tiled(shape, strides, lowered.size, whole, offset)
        listed, transform_class = plan.way != RUN, cast("Any", type(lowered.transform))
        draw = draw_span(transform_class, lowered.precision.name, lowered.encoding)
        plan = plan._replace(
            first=plan.first + attempt * 4 * MOST_ELEMENTS,
            inner=_address(inner),
            inner_axes=len(inner),
            axes=_address(axes),
            outer_axes=len(axes),
            rows_code=ROWS.address() if listed else 0,
            draw_code=draw.address(),
            width=lowered.precision.size,
            redraws=int(transform_class in REDRAWN or not _regular(lowered)),
        )
        kernel = (REGIONS if listed else RUNS).ready()
        numbers = np.array([lowered.low, lowered.high, *lowered.transform], lowered.precision.dtype)
        fields = np.array(plan, np.int64)
        return Tiles(kernel, _address(numbers), _address(fields), plan.tiles, (numbers, fields, inner, axes))

    def run(self, out: Array, key: int, stream: int, threads: int | None, progress: Progress) -> None:
        """Draw this very array; a small one should not pay for threads."""
        if out.nbytes <= LEAST_TASK_BYTES and not progress:
            kernel, numbers, plan, total, _ = self
            kernel(numbers, plan, _scratch(), _address(out), key, stream, 0, total)
            return
        threads = thread_count(threads)
        run_reported(*self.jobs(out, key, stream, threads), out.nbytes, threads, progress)

    def jobs(self, out: Array, key: int, stream: int, threads: int) -> Jobs:
        """Return tasks of `TASK_BYTES` at most, and so small that every thread gets some."""
        kernel, numbers, plan, total, _ = self
        size = out.nbytes
        most = TASK_BYTES if threads == 1 else max(LEAST_TASK_BYTES, min(TASK_BYTES, size // (4 * threads)))
        step = max(1, most * total // size)

        def task(k: int) -> int:
            first, last = k * step, min((k + 1) * step, total)
            kernel(numbers, plan, _scratch(), _address(out), key, stream, first, last)
            return size * last // total - size * first // total

        return task, -(-total // step)


def _regular(lowered: Lowered) -> bool:
    """Return whether values may be rounded straight from registers: not where the processor would make some zero.

    Its instruction for bfloat16 takes subnormals for zeros.
    """
    from fastinit.kernels.parameters import GRAINS
    from fastinit.kernels.processor import TARGET

    if lowered.encoding != "bfloat16" or not TARGET.bfloats:
        return True
    grain = GRAINS.get(type(lowered.transform))
    return grain is not None and all(number == 0 or abs(number) * grain >= 2.0**-126 for number in lowered.transform)


class Pieces(NamedTuple):
    """A matrix, made in pieces of its own choice."""

    title: str
    matrix: Matrix
    whole: Sizes
    offset: Sizes

    def run(self, out: Array, key: int, stream: int, threads: int | None, progress: Progress) -> None:
        """Make them, if there is memory for it."""
        threads = thread_count(threads)
        threads, inside = (1, threads) if self.matrix.one_by_one else (threads, 1)
        check_room(self.title, self.matrix.room(out, threads))
        source = _Source(self.whole, key, stream, inside)
        run_reported(*self._jobs(np.asarray(out), source, threads), out.nbytes, threads, progress)

    def _jobs(self, out: Array, source: _Source, threads: int) -> Jobs:
        matrix, offset = self.matrix, self.offset
        axis, step = matrix.cut(out, threads)

        def task(k: int) -> int:
            part = out[(slice(None),) * axis + (slice(k * step, (k + 1) * step),)]
            matrix.make(part, (*offset[:axis], offset[axis] + k * step, *offset[axis + 1 :]), source)
            return part.nbytes

        return task, -(-out.shape[axis] // step)


@dataclass(frozen=True)
class _Source:
    """The streams that a matrix draws from, `fastinit.initializers.matrices.Source`, and the threads to draw on."""

    shape: Sizes
    key: int
    stream: int
    threads: int

    def values(self, out: Array, distribution: Distribution, offset: Places) -> None:
        """Fill a region with its elements of a distribution."""
        from fastinit.sampling.lowering import lower

        self._draw(out, lower(distribution, out.dtype), offset, 0)

    def keys(self, out: Array, offset: Places) -> None:
        """Fill a region with its elements' words of attempt 1."""
        from fastinit.sampling.lowering import raw_words

        self._draw(out, raw_words(), offset, 1)

    def _draw(self, out: Array, lowered: Lowered, offset: Places, attempt: int) -> None:
        tiles = Tiles.of(lowered, out.shape, out.strides, self.shape, tuple(offset), attempt)
        run(*tiles.jobs(out, self.key, self.stream, self.threads), self.threads)


def _address(out: np.ndarray[Any, Any]) -> int:
    """Return the first element's address; cheaper than by ``out.ctypes``."""
    address: int = out.__array_interface__["data"][0]
    return address


def _scratch() -> int:
    """Return the address of the calling thread's scratch memory.

    It is kept: malloc would return it to the system, and fault it in again.
    """
    address: int | None = getattr(_own, "address", None)
    if address is None:
        from fastinit.kernels.layout import SCRATCH_BYTES

        _own.scratch = np.empty(SCRATCH_BYTES, np.uint8)
        address = _own.address = _address(_own.scratch)
    return address
