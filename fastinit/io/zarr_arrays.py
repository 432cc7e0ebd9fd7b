"""Zarr arrays: filled chunk by chunk in parallel, and resumed.

A chunk is finished if what zarr reads of it are its values, bit for bit. They are drawn again to be compared: that is
faster than a digest of them, and needs no record, so nothing is believed because a file exists, and any store will do.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.checks import check_flag
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.io.checkpoint import Written
from fastinit.io.zarr_plans import Plan, Sizes, dtype_in, opened
from fastinit.sampling.checks import check_progress
from fastinit.sampling.filling import array as whole_array
from fastinit.sampling.filling import fill
from fastinit.sampling.progress import Progress, run_reported
from fastinit.sampling.threads import thread_count


def fill_zarr(
    array_or_path: Any,
    init: Initializer,
    *,
    seed: int,
    name: str | int,
    threads: int | None = None,
    progress: Progress = None,
    resume: bool = False,
) -> Any:
    """Fill a zarr array with the values of `fastinit.array`, its chunks in parallel.

    Each thread draws one chunk, or one whole shard of a sharded array, and writes it. Memory is that of one of them for
    each thread; a matrix initializer (orthogonal, sparse, ...) makes the whole in memory.

    Parameters
    ----------
    array_or_path
        A writable ``zarr.Array``, or the path or URL of one. An array of uint16 with the attribute ``bfloat16_as`` is
        one of bfloat16: see `create`.
    init, seed, name, threads
        As for `fastinit.fill`.
    progress
        True for a bar, or a function that is called with (bytes done, bytes in all).
    resume
        Whether finished chunks are left as they are. A chunk is finished if what is read of it are its values, bit for
        bit: one that is absent, incomplete, damaged, or of another seed is written again.

    Returns
    -------
    zarr.Array
        The array.

    Raises
    ------
    TypeError
        If an argument is not of its kind, before anything is written.
    ValueError
        If a value is not allowed, before anything is written.

    Examples
    --------
    >>> import tempfile, fastinit as fi, fastinit.zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = fastinit.zarr.create(f"{folder}/w.zarr", (6, 4), chunks=(4, 4))
    ...     stored = fastinit.zarr.fill(stored, fi.he_normal(), seed=0, name="w")
    ...     bool((stored[:] == fi.array((6, 4), fi.he_normal(), seed=0, name="w")).all())
    True
    """
    array = opened(array_or_path)
    fill_opened(array, init, seed=seed, name=name, threads=threads, progress=progress, resume=resume)
    return array


def fill_opened(
    array: Any,
    init: Initializer,
    *,
    seed: int,
    name: str | int,
    threads: int | None = None,
    progress: Progress = None,
    resume: bool = False,
) -> int:
    """Fill an array; return the bytes of the chunks that were kept. See `fill_zarr`."""
    check_progress(progress)
    check_flag("resume", resume)
    many, shape, dtype = thread_count(threads), array.shape, dtype_in(array)
    check_values(init, shape, dtype, seed, name)
    boxes, kept, lock = _Boxes(shape, array.shards or array.chunks), [0], threading.Lock()
    inside = max(1, many // max(1, boxes.count))
    whole = None
    if isinstance(init.resolve(shape), Matrix):
        whole = whole_array(shape, init, seed=seed, name=name, dtype=dtype, threads=many)

    def values(offset: Sizes, sizes: Sizes, region: tuple[slice, ...]) -> Array:
        if whole is not None:
            return whole[region]
        part = np.empty(sizes, dtype)
        place = {"global_shape": shape, "global_offset": offset}
        return fill(part, init, seed=seed, name=name, threads=inside, **place)

    def task(k: int) -> int:
        offset, sizes = boxes[k]
        region = tuple(slice(at, at + size) for at, size in zip(offset, sizes, strict=True))
        part = values(offset, sizes, region)
        stored = part.view(np.uint16) if dtype.name == "bfloat16" else part
        if resume and _is_there(array, region, stored):
            with lock:
                kept[0] += part.nbytes
        else:
            _write(array, region, stored, boxes.numbers(k))
        return part.nbytes

    run_reported(task, boxes.count, math.prod(shape) * dtype.itemsize, many, progress)
    return kept[0]


def _is_there(array: Any, region: tuple[slice, ...], expected: Array) -> bool:
    """Test whether a region can be read, and has these bits."""
    try:
        found = np.ascontiguousarray(np.asarray(array[region], expected.dtype))
    except Exception:  # of any codec, checksum or store; the write that follows tells what is wrong with the latter
        return False
    wanted = np.ascontiguousarray(expected)
    return found.shape == wanted.shape and bool((found.view(np.uint8) == wanted.view(np.uint8)).all())


def _write(array: Any, region: tuple[slice, ...], stored: Array, numbers: Sizes) -> None:
    """Write a whole chunk or shard, whatever is there: zarr reads a shard that it writes to, which may be damaged."""
    try:
        array[region] = stored
    except Exception:  # of any codec or checksum
        from zarr.core.sync import sync

        sync(array.store.delete((array.store_path / array.metadata.encode_chunk_key(numbers)).path))
        array[region] = stored


@dataclass(frozen=True)
class _Boxes:
    """The boxes of a regular grid in C order: offset and sizes by number."""

    shape: Sizes
    step: Sizes

    @property
    def grid(self) -> Sizes:
        """Return how many there are along every axis."""
        return tuple(-(-size // step) for size, step in zip(self.shape, self.step, strict=True))

    @property
    def count(self) -> int:
        """Return how many there are."""
        return math.prod(self.grid)

    def numbers(self, k: int) -> Sizes:
        """Return the place in the grid of the box of this number."""
        return tuple(int(number) for number in np.unravel_index(k, self.grid)) if self.grid else ()

    def __getitem__(self, k: int) -> tuple[Sizes, Sizes]:
        """Return offset and sizes of the box of this number."""
        offset = tuple(number * step for number, step in zip(self.numbers(k), self.step, strict=True))
        ends = zip(offset, self.step, self.shape, strict=True)
        return offset, tuple(min(step, size - at) for at, step, size in ends)


def write_zarr(
    path: Path,
    plan: Plan,
    init: Initializer,
    seed: int,
    name: str | int,
    *,
    resume: bool = False,
    threads: int | None = None,
    progress: Progress = None,
    sync: bool = True,
) -> Written:
    """Make an array, or go on with one, and fill it.

    Raises
    ------
    TypeError, ValueError
        If something is not allowed, before anything is made.
    KeyboardInterrupt
        If it is interrupted; the message says that the finished chunks may be kept.
    """
    check_values(init, plan.shape, plan.dtype, seed, name)
    began = time.perf_counter()
    try:
        array = plan.made_or_found(path, resume)
        kept = fill_opened(array, init, seed=seed, name=name, threads=threads, progress=progress, resume=resume)
        if sync:
            _synchronize(path)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{path} is incomplete, and --resume keeps its chunks") from None
    size = math.prod(plan.shape) * plan.dtype.itemsize
    return Written(1, size - kept, time.perf_counter() - began, kept)


def check_values(init: Initializer, shape: Sizes, dtype: np.dtype[Any], seed: int, name: str | int) -> None:
    """Refuse what cannot be filled, by filling no element of it; of a single number, that one."""
    fill(np.empty((0,) * len(shape), dtype), init, seed=seed, name=name, global_shape=shape)


def _synchronize(path: Path) -> None:
    """Wait until the disk has every file and folder of an array."""
    for folder, _, files in os.walk(path, topdown=False):
        for place in (*(os.path.join(folder, name) for name in files), folder):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
