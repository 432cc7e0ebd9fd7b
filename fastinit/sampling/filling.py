"""`fill`, `array`, `words` and `warmup`: check, plan by the backend of the memory, run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from fastinit.core.arrays import is_torch
from fastinit.core.checks import MOST_ELEMENTS, check_integer, check_shape
from fastinit.core.dtypes import dtype_of
from fastinit.core.environment import in_default
from fastinit.core.forks import LATE, load
from fastinit.core.keys import key_of, stream_of
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.sampling import cpu, cuda
from fastinit.sampling.backend import Backend
from fastinit.sampling.checks import check_progress, region
from fastinit.sampling.progress import Progress, run_reported
from fastinit.sampling.threads import run, thread_count

Array = TypeVar("Array")  # NumPy's, torch's, CuPy's or Numba's


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
        Or a torch tensor in the CPU's memory, a parameter too: it is filled as torch.nn.init's functions do, outside of
        the graph of gradients. `fastinit.torch` has more for torch: distributed tensors, whole modules.
        Or an array of these dtypes on the current GPU, by its ``__cuda_array_interface__`` (CuPy, Numba, torch): the
        same bits, on the caller's stream, asynchronously. Its elements must be aligned. Matrix initializers
        (orthogonal, sparse, ...) are made on the CPU and copied, into a C-contiguous array.
    init
        Initializer, a factory's result such as ``he_normal()``.
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
        Number of threads; by default ``FASTINIT_NUM_THREADS``, else the CPUs that this process may use.
    progress
        True for a bar, or a function that is called with (bytes done, bytes in all).

    Returns
    -------
    array
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
    check_progress(progress)
    if threads is not None:
        threads = thread_count(threads)
    key, stream = key_of(seed), stream_of(name)
    backend: Backend = cuda if cuda.on_device(out) else cpu
    view, memory = backend.opened(out)
    shape = view.shape
    whole, offset = region(shape, global_shape, global_offset)
    work = backend.planned(init, view.dtype, view.strides, shape, whole, offset)
    if not view.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    if view.size:
        work.run(memory, key, stream, threads, progress)
        if memory is not out and is_torch(out):
            sys.modules["torch"].autograd.graph.increment_version(out)
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
        ``"float16"``, ``"bfloat16"``, ``"float32"``, ``"float64"`` or any dtype of NumPy's; for constants, integers
        and booleans too. torch's dtypes name NumPy's.
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
    out = (np.empty if device == "cpu" else cuda.empty)(sizes, dtype_of(dtype))
    return fill(out, init, seed=seed, name=name, threads=threads, progress=progress)


@in_default
def words(
    count: int, *, seed: int, name: str | int, start: int = 0, threads: int | None = None
) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return the raw stream of a tensor: ``count`` 32-bit Philox words from number ``start`` on.

    Word n is word n % 4 of the block n // 4, from which element n of a float32 tensor is made.

    Examples
    --------
    >>> from fastinit import words
    >>> [hex(word) for word in words(4, seed=0, name=0).tolist()]  # the known answer of Philox4x32-10
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    key, stream, threads = key_of(seed), stream_of(name), thread_count(threads)
    count, start = check_integer("count", count, 0), check_integer("start", start, 0)
    if start + count > 4 * MOST_ELEMENTS:
        raise ValueError(f"start and count must name words in [0, 2**54), got start={start}, count={count}")
    out = np.empty(count, np.uint32)
    if count:
        load(*LATE)
        from fastinit.sampling.lowering import raw_words

        tiles = cpu.Tiles.of(raw_words(), out.shape, out.strides, (start + count,), (start,))
        run(*tiles.jobs(out, key, stream, threads), threads)
    return out


@in_default
def warmup(progress: Progress = None) -> int:
    """Compile every kernel, or load it where that was done before; return their number.

    A kernel takes a second or so once and is kept on disk: in ``NUMBA_CACHE_DIR``, else beside the package or in the
    user's cache folder. Without this, the first fill of a distribution in a dtype compiles it. As many processes as a
    fill has threads compile, where they can be started; a script needs no guard for them. Processes may call this, or
    fill, at the same time.

    Parameters
    ----------
    progress
        True for a bar, or a function that is called with (kernels ready, kernels in all).

    Examples
    --------
    >>> from fastinit import warmup
    >>> kernels = warmup()
    """
    check_progress(progress)
    load(*LATE)
    from fastinit.kernels.entries import all_of_fills
    from fastinit.kernels.workers import workers

    count = len(all_of_fills())
    with workers(thread_count()) as (threads, make_ready):

        def task(k: int) -> int:
            make_ready(k)
            return 1

        run_reported(task, count, count, threads, progress)
    return count
