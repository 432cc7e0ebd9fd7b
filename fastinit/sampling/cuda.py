"""The backend of arrays in a GPU's memory: their description, and the launch of the kernels."""

from __future__ import annotations

import importlib
import itertools
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit.core.arrays import is_torch
from fastinit.core.forks import FOR_FILLS, load
from fastinit.core.text import printable, quoted
from fastinit.distributions import Constant, Distribution
from fastinit.initializers.base import Initializer
from fastinit.sampling import cpu
from fastinit.sampling.checks import distribution_of
from fastinit.sampling.plan import Axis, merged
from fastinit.sampling.progress import Progress, reporter
from fastinit.sampling.threads import thread_count

if TYPE_CHECKING:
    from fastinit.sampling.backend import Work
    from fastinit.sampling.lowering import Lowered

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]

BLOCKS_PER_UNIT = 16  # of threads, for each multiprocessor: enough to even out, few enough to start at once
MOST_BLOCKS = 65535  # along the second and third axis of a grid
LEAST_BLOCKS = 128  # of a grid: numba-cuda warns of fewer, also where there is not more to do


def opened(out: Any) -> tuple[Array, Buffer]:
    """Return the description of an array on a GPU."""
    buffer = Buffer.of(out)
    return buffer.view, buffer


@lru_cache(maxsize=1024)
def planned(init: Initializer, dtype: np.dtype[Any], strides: Sizes, shape: Sizes, whole: Sizes, offset: Sizes) -> Work:
    """Plan the fill of an array of this layout, checked to be possible; kept, as on the CPU."""
    load(*FOR_FILLS)
    from fastinit.sampling.lowering import lower, lower_constant

    content = distribution_of(init, dtype, strides, shape, whole)
    if isinstance(content, Constant):
        return Launch.of_constant(lower_constant(content, dtype), shape, strides)
    if isinstance(content, Distribution):
        return Launch.of(lower(content, dtype), dtype.name, shape, strides, whole, offset)
    return Copied(cpu.planned(init, dtype, np.empty(shape, dtype).strides, shape, whole, offset))


class Launch(NamedTuple):
    """Content that a kernel makes: the kernel, and its arguments but the address, the key and the stream.

    A kernel runs over three axes, and is started once for each place along the others.
    """

    transform: Any
    bounds: tuple[Any, Any]
    dtype: str
    size: int  # of an element, in bytes
    first: int
    columns: Axis
    rows: Axis
    planes: Axis
    others: tuple[Axis, ...]

    @staticmethod
    def of(lowered: Lowered, dtype: str, shape: Sizes, strides: Sizes, whole: Sizes, offset: Sizes) -> Launch:
        """Plan a distribution's values."""
        first, axes = merged(shape, strides, whole, offset)
        columns, rows, planes, others = _loops(axes, lowered.size)
        bounds = lowered.low, lowered.high
        return Launch(lowered.transform, bounds, dtype, lowered.size, first, columns, rows, planes, tuple(others))

    @staticmethod
    def of_constant(value: Any, shape: Sizes, strides: Sizes) -> Launch:
        """Plan the copies of one value."""
        from fastinit.kernels.cuda import ConstantTransform, bits_name

        value = np.asarray(value)
        bits, none = bits_name(value.itemsize), np.float64(0) if value.itemsize == 8 else np.float32(0)
        columns, rows, planes, others = _loops(merged(shape, strides, shape, (0,) * len(shape))[1], value.itemsize)
        transform = ConstantTransform(value.view(bits)[()])
        return Launch(transform, (none, none), bits, value.itemsize, 0, columns, rows, planes, tuple(others))

    def run(self, out: Buffer, key: np.uint64, stream: np.uint64, threads: int | None, progress: Progress) -> None:
        """Start the kernel, and report it as done."""
        thread_count(threads)
        _check_device()
        if out.view.size:
            self._start(out, key, stream)
        if progress is not None and progress is not False:
            with reporter(progress) as report:
                report(out.view.nbytes, out.view.nbytes)

    def _start(self, out: Buffer, key: np.uint64, stream: np.uint64) -> None:
        """Start the kernel on the GPU and the queue of an array."""
        cuda = _numba_cuda()

        from fastinit.kernels.cuda import SIMULATED, kernel

        columns, rows, planes = self.columns, self.rows, self.planes
        numbers = [*map(np.int64, (columns.length, columns.stride, *rows, *planes))]
        address = out.view.__array_interface__["data"][0]
        with out.current():
            units = 1 if SIMULATED else cuda.get_current_device().MULTIPROCESSOR_COUNT
            grid, threads = _grid(columns, rows, planes, 2 if self.size == 8 else 4, units * BLOCKS_PER_UNIT)
            if not SIMULATED:
                grid = (max(grid[0], -(-LEAST_BLOCKS // (grid[1] * grid[2]))), *grid[1:])
            transform_class: Any = type(self.transform)
            run = kernel(transform_class, self.dtype)[grid, threads, out.queue_of_numba()]
            for places in itertools.product(*(range(axis.length) for axis in self.others)):
                to = address + sum(at * axis.stride for at, axis in zip(places, self.others, strict=True))
                index = self.first + sum(at * axis.step for at, axis in zip(places, self.others, strict=True))
                run(np.int64(to), self.transform, *self.bounds, key, stream, np.int64(index), *numbers)


class Copied(NamedTuple):
    """A matrix, made on the CPU."""

    work: Work

    def run(self, out: Buffer, key: np.uint64, stream: np.uint64, threads: int | None, progress: Progress) -> None:
        """Make it, and copy it."""
        host = np.empty(out.view.shape, out.view.dtype)
        self.work.run(host, key, stream, threads, progress)
        out.copy(host)


class _Interface:
    """An object that NumPy takes an array's description from."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.__array_interface__ = description


@dataclass(frozen=True)
class Buffer:
    """An array on a GPU, and the queue (CUDA's stream) on which its owner works."""

    view: Array  # of its shape, strides, dtype and address: its memory must never be touched
    queue: int | None
    device: int | None = None  # the GPU's number, where the owner says it; else the current one's

    @staticmethod
    def of(out: Any) -> Buffer:
        """Return the description of a CuPy, Numba or torch array.

        Raises
        ------
        TypeError
            If its own description is not that of an array without a mask.
        ValueError
            If its elements are not aligned.
        """
        queue, device = None, _ordinal(out)
        if is_torch(out):
            torch = sys.modules["torch"]
            out, queue = out.detach(), torch.cuda.current_stream(out.device).cuda_stream
        found: Any = getattr(out, "__cuda_array_interface__", None)
        found = found or getattr(out, "__array_interface__", None)  # of the simulator
        view = _view(found)
        address, size = found["data"][0], view.itemsize
        steps = [stride for stride, count in zip(view.strides, view.shape, strict=True) if count > 1]
        if view.size and any(number % size for number in (address, *steps)):
            raise ValueError(
                f"out on a GPU must have aligned elements of {size} bytes, got {address:#x}, {view.strides}"
            )
        return Buffer(view, found.get("stream") if queue is None else queue, device)

    def copy(self, host: Array) -> None:
        """Fill it from the CPU's memory."""
        if not self.view.size:
            return
        if not self.view.flags.c_contiguous:
            raise ValueError(f"out on a GPU must be C-contiguous for a matrix, got strides {self.view.strides}")
        _check_device()
        cuda = _numba_cuda()

        from fastinit.kernels.cuda import SIMULATED

        if SIMULATED:
            self.view[...] = host
            return
        address = self.view.__array_interface__["data"]
        description = {"shape": (host.nbytes,), "typestr": "|u1", "data": address, "version": 3}
        with self.current():
            target = cuda.from_cuda_array_interface(description, sync=False)
            target.copy_to_device(host.reshape(-1).view(np.uint8), stream=self.queue_of_numba())

    def current(self) -> Any:
        """Return a context in which the GPU that holds the array is the current one."""
        return nullcontext() if self.device is None else _numba_cuda().gpus[self.device]

    def queue_of_numba(self) -> Any:
        """Return the queue as Numba has it."""
        cuda = _numba_cuda()

        from fastinit.kernels.cuda import SIMULATED

        if self.queue in (None, 0) or SIMULATED:
            return 0
        named = {1: cuda.legacy_default_stream, 2: cuda.per_thread_default_stream}
        return named[self.queue]() if self.queue in named else cuda.external_stream(self.queue)


def _view(found: Any) -> Array:
    """Return an array of the shape, strides, dtype and address that an interface describes."""
    try:
        if found.get("mask") is not None:
            raise TypeError("it has a mask")
        description = {key: found.get(key) for key in ("shape", "strides", "data", "typestr")}
        if np.dtype(description["typestr"]).hasobject:
            raise TypeError("it holds objects")
        view = np.asarray(_Interface({**description, "version": 3}))
        address, _ = description["data"]
        if view.__array_interface__["data"][0] != address and view.size:
            raise TypeError("its data are nowhere")
    except Exception as error:  # whatever NumPy makes of it
        raise TypeError(f"out must be an array on a GPU, got {quoted(found)}: {printable(str(error))}") from None
    if description["typestr"] == "<V2":  # what torch, Numba and ml_dtypes call it
        import ml_dtypes

        view = view.view(ml_dtypes.bfloat16)
    return view


def _ordinal(out: Any) -> int | None:
    """Return the number of the GPU that an array is on, by torch, CuPy or Numba; None where nobody says."""
    memory = getattr(out, "gpu_data", None)
    for place in (getattr(out, "device", None), getattr(getattr(memory, "context", None), "device", None)):
        for name in ("index", "id"):
            number = getattr(place, name, None)
            if isinstance(number, int):
                return number
    return None


def on_device(out: Any) -> bool:
    """Return whether this is an array on a GPU, or one of its simulator's."""
    if isinstance(out, np.ndarray):
        return False
    if is_torch(out):
        return bool(out.is_cuda)
    return hasattr(out, "__cuda_array_interface__") or hasattr(out, "__cuda_ndarray__")


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return Numba's device array, not filled."""
    _check_device()
    cuda = _numba_cuda()

    return cuda.device_array(shape, dtype)


@cache
def _numba_cuda() -> Any:
    """Return Numba's module, which has no types."""
    return importlib.import_module("numba.cuda")


@cache  # once all is there
def _check_device() -> None:
    """Refuse to go on without numba-cuda or without a GPU."""
    from fastinit.kernels.cuda import INSTALL, check_installed

    check_installed()
    cuda = _numba_cuda()

    if not cuda.is_available():
        raise RuntimeError(f"no CUDA device, or no driver for one, was found; numba-cuda is installed by {INSTALL}")


def _loops(axes: list[Axis], size: int) -> tuple[Axis, Axis, Axis, list[Axis]]:
    """Columns, which follow each other in the tensor; rows, those nearest in memory; planes; and the axes left."""
    axes = list(axes)
    columns = axes.pop() if axes and axes[-1].step == 1 else Axis(1, size, 1)
    axes.sort(key=lambda axis: abs(axis.stride))
    rows = axes.pop(0) if axes else Axis(1, 0, 0)
    axes.sort(key=lambda axis: axis.length)
    planes = axes.pop() if axes else Axis(1, 0, 0)
    return columns, rows, planes, axes


def _grid(
    columns: Axis, rows: Axis, planes: Axis, per_block: int, most: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Blocks of threads, and threads of a block, along columns, rows and planes.

    Neighbouring threads store next to each other: along the columns, or along the rows where those are nearer.
    """
    from fastinit.kernels.cuda import THREADS

    across = (columns.length + 2 * per_block - 2) // per_block  # blocks of a row, wherever in one it begins
    rows_first = rows.length > 1 and 0 < abs(rows.stride) < abs(columns.stride)
    x = 1 if rows_first else min(THREADS, 1 << (across - 1).bit_length())
    y = min(THREADS // x, 1 << (rows.length - 1).bit_length())
    wide = min(-(-across // x), most)
    high = min(-(-rows.length // y), MOST_BLOCKS, max(1, most // wide))
    deep = min(planes.length, MOST_BLOCKS, max(1, most // (wide * high)))
    return (wide, high, deep), (x, y, 1)
