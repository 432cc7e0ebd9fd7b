"""`fill`, `array` and `words`: check, lay the buffer out as tiles, hand the tiles to the threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fastinit.core.environment import in_default
from fastinit.core.forks import FOR_FILLS, load
from fastinit.core.keys import MOST_ELEMENTS, check_integer, check_shape, check_sizes, is_masked, key_of, stream_of
from fastinit.core.text import quoted
from fastinit.distributions.laws import Constant, Distribution
from fastinit.initializers.base import Initializer, Shape
from fastinit.initializers.matrices import Matrix, Places
from fastinit.sampling.cuda import Buffer, empty, on_device
from fastinit.sampling.plan import Axis, merged
from fastinit.sampling.progress import bar
from fastinit.sampling.threads import run, thread_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastinit.sampling.lowering import Lowered

Progress = bool | Callable[[int, int], object] | None
Array = TypeVar("Array", bound="np.ndarray[Any, Any]")

FLOATS = ("float16", "bfloat16", "float32", "float64")  # the dtypes that take drawn values

_own = threading.local()

STREAMING_BYTES = 4 << 20  # a buffer from this size on does not stay in the cache: it is stored past it
TASK_BYTES = 8 << 20  # a thread's task: a few milliseconds, so that an interrupt is answered soon
LEAST_TASK_BYTES = 256 << 10  # below, a second thread costs more than it brings


@in_default
def fill(
    out: Array,
    init: Initializer,
    *,
    seed: int,
    name: str | int,
    global_shape: Sequence[int] | None = None,
    global_offset: Sequence[int] | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> Array:
    """Fill an array, or one shard of a larger tensor, in place.

    An element's value is a function of (seed, name, index in the global tensor, distribution, precision) alone: not of
    threads, memory layout, sharding or processor.

    Parameters
    ----------
    out
        A writable NumPy array of float16, bfloat16 (ml_dtypes), float32 or float64, of any strides, alignment and
        number of axes, empty and memory-mapped ones too. `zeros`, `ones` and `constant` fill integers and booleans too.
        Or an array of these dtypes on the current GPU, by its ``__cuda_array_interface__`` (CuPy, Numba, torch): the
        same bits, on the caller's stream, asynchronously. Its elements must be aligned. Matrix initializers
        (orthogonal, sparse, ...) are made on the CPU and copied, into a C-contiguous array.
    init
        What to fill it with: a factory's result, such as ``he_normal()``.
    seed
        In [0, 2**64).
    name
        The tensor's name, which selects its stream: a string, or an integer in [0, 2**63). Tensors that share seed and
        name get the same values; give every tensor its own.
    global_shape
        The shape of the whole tensor, where ``out`` is a region of it; the fans come from it.
    global_offset
        Where in the tensor the region begins; zeros by default.
    threads
        How many; by default ``FASTINIT_NUM_THREADS``, else the CPUs that this process may use.
    progress
        True for a bar, or a function that is called with (bytes done, bytes in all).

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    TypeError
        If an argument is not of its kind, before anything is written.
    ValueError
        If a value is not allowed, before anything is written.

    Examples
    --------
    >>> import numpy as np
    >>> from fastinit import fill, normal
    >>> whole = fill(np.empty((4, 6), np.float32), normal(), seed=0, name="w")
    >>> shard = np.empty((2, 3), np.float32)
    >>> shard = fill(shard, normal(), seed=0, name="w", global_shape=(4, 6), global_offset=(2, 3))
    >>> bool((shard == whole[2:, 3:]).all())
    True
    """
    if not isinstance(init, Initializer):
        raise TypeError(f"init must be an initializer, such as fastinit.he_normal(), got {quoted(init)}")
    _check_progress(progress)
    if on_device(out):
        return _filled(out, init, seed, name, global_shape, global_offset, threads, progress)
    if threads is not None:
        threads = thread_count(threads)
    key, stream = np.uint64(key_of(seed)), np.uint64(stream_of(name))
    if not isinstance(out, np.ndarray) or is_masked(out):
        raise TypeError(f"out must be a NumPy array without a mask, got {type(out).__name__}")
    shape, offset = _region(out.shape, global_shape, global_offset)
    content = _content(init, out.dtype, out.strides, out.shape, shape, offset)
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    if not out.size:
        return out
    if isinstance(content, Tiles) and out.nbytes <= LEAST_TASK_BYTES and not progress:
        kernel, draw, target, plan, inner, axes, total = content  # a small array should not pay for threads
        kernel(draw, target, plan, inner, axes, _scratch(), _address(out), key, stream, 0, total)
        return out
    threads = thread_count(threads)
    if isinstance(content, Tiles):
        jobs = _draw(content, out, key, stream, threads)
    elif isinstance(content, Matrix):
        threads, inside = (1, threads) if content.one_by_one else (threads, 1)
        check_room(f"{init} of shape {shape}", content.room(out, threads))
        jobs = _pieces(np.asarray(out), content, offset, _Source(shape, key, stream, inside), threads)
    else:
        jobs = _slices(np.asarray(out), content)
    _work(*jobs, out.nbytes, threads, progress)
    return out


def _filled(
    out: Array,
    init: Initializer,
    seed: int,
    name: str | int,
    global_shape: Sequence[int] | None,
    global_offset: Sequence[int] | None,
    threads: int | None,
    progress: Progress,
) -> Array:
    """`fill` for an array on a GPU: the same checks, of an array that stands for it, and a kernel in place of tasks."""
    key, stream = key_of(seed), stream_of(name)
    buffer = Buffer.of(out)
    view = buffer.view
    shape, offset = _region(view.shape, global_shape, global_offset)
    distribution, dtype = _law(init, view.dtype, view.strides, view.shape, shape), view.dtype
    if not view.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    from fastinit.sampling.lowering import lower, lower_constant

    if isinstance(distribution, Matrix):
        host = np.empty(buffer.view.shape, dtype)
        region = {"global_shape": shape, "global_offset": offset}
        fill(host, init, seed=seed, name=name, threads=threads, progress=progress, **region)
        buffer.copy(host)
        return out
    thread_count(threads)
    if isinstance(distribution, Constant):
        buffer.constant(lower_constant(distribution, dtype))
    else:
        buffer.draw(lower(distribution, dtype), shape, offset, key, stream)
    if progress is not None and progress is not False:
        with _reporter(progress) as report:
            report(buffer.view.nbytes, buffer.view.nbytes)
    return out


def array(
    shape: int | Sequence[int],
    init: Initializer,
    *,
    seed: int,
    name: str | int,
    dtype: Any = "float32",
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress = None,
) -> np.ndarray[Any, Any]:
    """Allocate a C-contiguous array and `fill` it.

    Parameters
    ----------
    shape
        Of the array.
    dtype
        ``"float16"``, ``"bfloat16"``, ``"float32"``, ``"float64"`` or what NumPy takes for one; for constants, integers
        and booleans too.
    device
        ``"cpu"``, or ``"cuda"`` for Numba's device array on the current GPU, which other libraries take by its
        ``__cuda_array_interface__``. It needs numba-cuda: ``pip install 'fastinit-weights[cuda]'``.
    init, seed, name, threads, progress
        As for `fill`.

    Examples
    --------
    >>> from fastinit import array, he_normal
    >>> array((2, 3), he_normal(), seed=0, name="w", dtype="bfloat16").dtype
    dtype(bfloat16)
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {quoted(device)}")
    sizes = check_shape("shape", shape if isinstance(shape, Iterable) else (shape,))
    out = (np.empty if device == "cpu" else empty)(sizes, dtype_of(dtype))
    return fill(out, init, seed=seed, name=name, threads=threads, progress=progress)


@in_default
def words(
    count: int, *, seed: int, name: str | int, start: int = 0, threads: int | None = None
) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The raw stream of a tensor: ``count`` 32-bit Philox words from number ``start`` on.

    Word n is word n % 4 of the block n // 4: what the element n of a float32 tensor is made from.

    Examples
    --------
    >>> from fastinit import words
    >>> [hex(word) for word in words(4, seed=0, name=0).tolist()]  # the known answer of Philox4x32-10
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    key, stream, threads = np.uint64(key_of(seed)), np.uint64(stream_of(name)), thread_count(threads)
    count, start = check_integer("count", count, 0), check_integer("start", start, 0)
    if start + count > 4 * MOST_ELEMENTS:
        raise ValueError(f"start and count must name words in [0, 2**54), got start={start}, count={count}")
    out = np.empty(count, np.uint32)
    if count:
        load(*FOR_FILLS)
        from fastinit.sampling.lowering import raw_words

        tiles = _tiles(raw_words(), out.shape, out.strides, (start + count,), (start,), 0)
        run(*_draw(tiles, out, key, stream, threads), threads)
    return out


@in_default
def warmup(progress: Progress = None) -> int:
    """Compile every kernel that there is, or load it where that was done before; how many there are.

    A kernel takes some seconds once and is kept on disk: in ``NUMBA_CACHE_DIR``, else beside the package or in the
    user's cache folder. Without this, the first fill of a distribution in a precision compiles it. Processes may call
    this, or fill, at the same time.

    Parameters
    ----------
    progress
        True for a bar, or a function that is called with (kernels ready, kernels in all).

    Examples
    --------
    >>> from fastinit import warmup
    >>> kernels = warmup()
    """
    _check_progress(progress)
    load(*FOR_FILLS)
    from fastinit.kernels.cpu import fill_tiles
    from fastinit.kernels.transforms import PROPOSALS, TRANSFORMS, WordsTransform

    transforms = {**TRANSFORMS, **PROPOSALS}
    kernels = [
        (transform, real)
        for transform in transforms
        for real in (np.float32, np.float64)
        if (transform, real) != (WordsTransform, np.float64)
    ]

    def task(k: int) -> int:
        fill_tiles(*kernels[k])  # type: ignore[arg-type]
        return 1

    _work(task, len(kernels), len(kernels), 1, progress)
    return len(kernels)


def dtype_of(dtype: Any) -> np.dtype[Any]:
    """NumPy's dtype of a name, ``"bfloat16"`` among them.

    Examples
    --------
    >>> dtype_of("bfloat16").itemsize
    2
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        load("ml_dtypes")
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    if dtype is None:
        raise TypeError("dtype must be named, got None")
    try:
        result: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # the last of a text that looks like a structure
        raise TypeError(f"dtype must be a NumPy dtype or the name of one, got {quoted(dtype)}") from None
    return result


@lru_cache(maxsize=1024)
def _content(
    init: Initializer,
    dtype: np.dtype[Any],
    strides: tuple[int, ...],
    shape: tuple[int, ...],
    whole: tuple[int, ...],
    offset: tuple[int, ...],
) -> Any:
    """What fills such an array: `Tiles` to draw, a `Matrix`, or the scalar of a constant; checked to be possible.

    All that a fill needs to know beside the memory's address, the key and the stream. Kept, since for a small array it
    is most of the work.
    """
    load(*FOR_FILLS)
    from fastinit.sampling.lowering import lower, lower_constant

    distribution = _law(init, dtype, strides, shape, whole)
    if isinstance(distribution, Constant):
        return lower_constant(distribution, dtype)
    if not isinstance(distribution, Matrix):
        lowered = lower(distribution, dtype)
        return _tiles(lowered, shape, strides, whole, offset, 0) if math.prod(shape) else None
    if isinstance(distribution.elements, Constant):
        lower_constant(distribution.elements, dtype)
    else:
        lower(distribution.elements, dtype)
    return distribution


def _law(
    init: Initializer, dtype: np.dtype[Any], strides: tuple[int, ...], shape: tuple[int, ...], whole: tuple[int, ...]
) -> Distribution | Matrix:
    """What such an array is to be filled with, if it can be filled."""
    if not (dtype.name in FLOATS or dtype.kind in "iub") or not dtype.isnative:
        raise TypeError(
            "out must be an array of float16, bfloat16, float32 or float64 (for zeros, ones and constant also of "
            f"integers or booleans) in native byte order, got dtype {dtype}"
        )
    if math.prod(shape) and _overlaps(shape, strides, dtype.itemsize):
        raise ValueError(f"out must not overlap itself, got strides {strides} for shape {shape}")
    distribution = init.resolve(whole)
    if dtype.kind in "iub" and not isinstance(distribution, Constant):
        raise TypeError(f"out of {dtype.name} takes only zeros, ones and constant, got {quoted(init)}")
    return distribution


def _overlaps(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> bool:
    """Whether two elements share memory."""
    axes = sorted((abs(stride), count - 1) for stride, count in zip(strides, shape, strict=True) if count > 1)
    reach = [size - 1]  # how far apart the first bytes of elements are at most that differ in shorter strides, and more
    for stride, most in axes:
        reach.append(reach[-1] + stride * most)
    if all(stride > shorter for (stride, _), shorter in zip(axes, reach, strict=False)):
        return False
    return not axes[0][0] or _meet(axes, reach)


def _meet(axes: list[tuple[int, int]], reach: list[int]) -> bool:
    """Whether steps along some axes, (stride, most steps), lead to less than an element's size from where they began.

    Steps along the longest strides are tried first, as far as the others can make up for them. In general this is a
    knapsack problem: after some 1e5 trials the answer is yes.
    """
    todo, trials = [(len(axes), 0, False)], 0
    while todo:
        axis, away, moved = todo.pop()
        if axis == 0:
            if moved:
                return True
            continue
        stride, most = axes[axis - 1]
        first = max(-most if moved else 0, -((reach[axis - 1] + away) // stride))  # the first move may be a forward one
        last = min(most, (reach[axis - 1] - away) // stride)
        trials += max(0, last - first + 1)
        if trials > 100_000:
            return True
        todo += [(axis - 1, away + steps * stride, moved or steps != 0) for steps in range(first, last + 1)]
    return False


def _region(
    shape: Shape, global_shape: Sequence[int] | None, global_offset: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The global shape, and where in it an array of this shape lies."""
    if global_shape is None:
        if global_offset is not None:
            raise ValueError(
                f"global_offset needs a global_shape, got global_offset={quoted(global_offset)} without one"
            )
        return tuple(shape), (0,) * len(shape)
    whole = check_shape("global_shape", global_shape)
    offset = (0,) * len(whole) if global_offset is None else check_sizes("global_offset", global_offset)
    if not len(whole) == len(offset) == len(shape):
        raise ValueError(
            f"global_shape and global_offset must have the {len(shape)} axes of out, got {whole} and {offset}"
        )
    if any(at + size > limit for at, size, limit in zip(offset, shape, whole, strict=True)):
        raise ValueError(
            f"out of shape {tuple(shape)} at global_offset {offset} does not lie within global_shape {whole}"
        )
    return whole, offset


def _check_progress(progress: Any) -> None:
    """Refuse what nothing can be reported to."""
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress must be True, False, None or a function, got {quoted(progress)}")


def check_room(what: str, size: int) -> None:
    """Refuse what needs more memory at once than there is, before any of it is made.

    Raises
    ------
    MemoryError
        If so many bytes cannot be allocated.
    """
    try:
        np.empty(size, np.uint8)
    except (MemoryError, OverflowError, ValueError):
        raise MemoryError(f"{what} would need {size / 1e9:.3g} GB of memory at once") from None


Jobs = tuple[Callable[[int], int], int]  # a task by its number, and how many there are


def _slices(out: np.ndarray[Any, Any], value: Any) -> Jobs:
    """A constant needs no kernel: NumPy stores it, in slices along the longest axis."""
    if out.ndim == 0:
        out = out.reshape(1)
    axis = int(np.argmax(out.shape))
    lines = np.moveaxis(out, axis, 0)
    step = max(1, lines.shape[0] * TASK_BYTES // out.nbytes)

    def task(k: int) -> int:
        part = lines[k * step : (k + 1) * step]
        part[...] = value
        return part.nbytes

    return task, -(-lines.shape[0] // step)


@dataclass(frozen=True)
class _Source:
    """What a matrix draws from: `fastinit.matrices.Source`, on so many threads."""

    shape: tuple[int, ...]
    key: np.uint64
    stream: np.uint64
    threads: int

    def values(self, out: np.ndarray[Any, Any], distribution: Distribution, offset: Places) -> None:
        """The elements of a region."""
        from fastinit.sampling.lowering import lower

        self._draw(out, lower(distribution, out.dtype), offset, 0)

    def keys(self, out: np.ndarray[Any, Any], offset: Places) -> None:
        """The words of a region's elements, attempt 1."""
        from fastinit.sampling.lowering import raw_words

        self._draw(out, raw_words(), offset, 1)

    def _draw(self, out: np.ndarray[Any, Any], lowered: Lowered, offset: Places, attempt: int) -> None:
        tiles = _tiles(lowered, out.shape, out.strides, self.shape, tuple(offset), attempt)
        run(*_draw(tiles, out, self.key, self.stream, self.threads), self.threads)


def _pieces(out: np.ndarray[Any, Any], matrix: Matrix, offset: tuple[int, ...], source: _Source, threads: int) -> Jobs:
    """Tasks of so much of a matrix as it likes to make at once."""
    axis, step = matrix.cut(out, threads)

    def task(k: int) -> int:
        part = out[(slice(None),) * axis + (slice(k * step, (k + 1) * step),)]
        matrix.make(part, (*offset[:axis], offset[axis] + k * step, *offset[axis + 1 :]), source)
        return part.nbytes

    return task, -(-out.shape[axis] // step)


class Tiles(NamedTuple):
    """An array of some layout as tiles, and the kernel that makes them."""

    kernel: Callable[..., None]
    draw: tuple[Any, ...]
    target: tuple[Any, ...]
    plan: tuple[int, ...]
    inner: np.ndarray[Any, Any]
    axes: np.ndarray[Any, Any]
    total: int  # tiles


def _tiles(
    lowered: Lowered,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    whole: tuple[int, ...],
    offset: tuple[int, ...],
    attempt: int,
) -> Tiles:
    """The tiles of an array of so many bytes an element.

    The words of a later attempt begin, in blocks of four, where the counter's attempt does; 32-bit words alone.
    """
    from fastinit.kernels.cpu import fill_tiles

    plan, inner, axes = _plan(shape, strides, lowered.size, whole, offset)
    plan = plan._replace(first=plan.first + attempt * 4 * MOST_ELEMENTS)
    draw, target = lowered.draw, (lowered.low, lowered.high, lowered.encoding)
    kernel = fill_tiles(type(draw), type(lowered.low))  # type: ignore[arg-type]
    return Tiles(kernel, tuple(draw), target, tuple(plan), inner, axes, plan.tiles)


def _draw(tiles: Tiles, out: np.ndarray[Any, Any], key: np.uint64, stream: np.uint64, threads: int) -> Jobs:
    """The tasks that draw this very array: of `TASK_BYTES` at most, and so small that every thread gets some."""
    kernel, draw, target, plan, inner, axes, total = tiles
    size = out.nbytes
    most = TASK_BYTES if threads == 1 else max(LEAST_TASK_BYTES, min(TASK_BYTES, size // (4 * threads)))
    step = max(1, most * total // size)

    def task(k: int) -> int:
        first, last = k * step, min((k + 1) * step, total)
        kernel(draw, target, plan, inner, axes, _scratch(), _address(out), key, stream, first, last)
        return size * last // total - size * first // total

    return task, -(-total // step)


def _address(out: np.ndarray[Any, Any]) -> int:
    """Where the first element is; cheaper than by ``out.ctypes``."""
    address: int = out.__array_interface__["data"][0]
    return address


def _scratch() -> np.ndarray[Any, Any]:
    """The calling thread's scratch memory, kept: malloc would return so much to the system, and fault it in again."""
    memory: np.ndarray[Any, Any] | None = getattr(_own, "scratch", None)
    if memory is None:
        from fastinit.kernels.cpu import SCRATCH_BYTES

        memory = _own.scratch = np.empty(SCRATCH_BYTES, np.uint8)
    return memory


def _plan(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    size: int,
    whole: tuple[int, ...],
    offset: tuple[int, ...],
) -> tuple[Any, Any, Any]:
    """Tiles that cover an array: which elements they are, and where they go, relative to the array's address.

    Axes that continue each other in memory and in the tensor are one. The rows are the axis of the smallest stride in
    memory, the columns consecutive elements of the tensor: the last axis, and where that is scattered in memory all the
    axes before it up to the rows. So an array whose columns lie far apart (Fortran order, channels last, the transpose
    of another layout) is written by whole cache lines all the same. The rest are outer axes.
    """
    from fastinit.kernels.cpu import SCATTER_COLUMNS, SCATTER_TILE, SPAN, TILE, Plan

    first, axes = merged(shape, strides, whole, offset)
    last = axes.pop() if axes and axes[-1].step == 1 else Axis(1, size, 1)
    contiguous = last[1] == size
    inner, rows = [last], (1, 0, 0)
    if axes:
        shortest = min(range(len(axes)), key=lambda k: abs(axes[k][1]))
        while not contiguous and len(axes) - 1 > shortest and axes[-1][2] == math.prod(axis[0] for axis in inner):
            inner.insert(0, axes.pop())
        rows = axes.pop(shortest)
    columns = math.prod(axis[0] for axis in inner)
    axes.sort(key=lambda axis: -abs(axis[1]))

    if rows[2] == columns < SPAN // 4:  # short rows that follow each other in the tensor are made together
        tile_columns, tile_rows = columns, (SPAN if contiguous else SCATTER_TILE) // columns
    elif contiguous or rows[0] == 1:
        tile_columns, tile_rows = min(columns, TILE if contiguous else SPAN), 1
    else:
        tile_columns = min(columns, SCATTER_COLUMNS)
        tile_rows = SCATTER_TILE // (tile_columns + 4)
    tile_rows = max(1, min(tile_rows, rows[0]))
    tiles = math.prod(axis[0] for axis in axes) * -(-rows[0] // tile_rows) * -(-columns // tile_columns)
    streaming = contiguous and columns * size >= 1 << 12 and math.prod(shape) * size >= STREAMING_BYTES
    plan = Plan(first, size, int(contiguous), columns, tile_columns, *rows, tile_rows, tiles, int(streaming))
    return plan, np.array([axis[:2] for axis in inner], np.int64), np.array(axes, np.int64).reshape(-1, 3)


def _work(task: Callable[[int], int], count: int, size: int, threads: int, progress: Progress) -> None:
    """Run the tasks, with whatever progress the caller wants."""
    if progress is None or progress is False:
        run(task, count, threads)
        return
    with _reporter(progress) as report:
        report(0, size)
        run(task, count, threads, lambda done: report(done, size))


@contextmanager
def _reporter(progress: bool | Callable[[int, int], object]) -> Iterator[Callable[[int, int], object]]:
    """The function to report to."""
    if callable(progress):
        yield progress
        return
    with bar("filling") as report:
        yield report
