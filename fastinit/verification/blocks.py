"""Arrays that are computed or read in blocks, dask's and zarr's: as memory, of which little is held at once.

`verify` reads an array in several orders: a run of elements with the row behind it, single rows and columns. A lazy
array would be computed again for each. So every block is computed once, into a temporary file that is mapped.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.text import size_text

GROUP_BYTES = 256 << 20  # of the blocks that are computed at once; a block may be larger

Sizes = tuple[int, ...]
Region = tuple[slice, ...]


def in_blocks(array: Any) -> bool:
    """Test whether an array is dask's or zarr's, or xarray's with one of dask's."""
    return _is(array, "dask.array", "Array") or _is(array, "zarr", "Array") or _is_lazy_xarray(array)


def outline(array: Any) -> Array:
    """Return an array of a lazy array's shape and dtype, without its elements and without memory of their size.

    Raises
    ------
    ValueError
        If dask does not know the shape.
    """
    if any(math.isnan(size) for size in array.shape):
        raise ValueError("array must have a known shape, got one of dask's without: call its compute_chunk_sizes()")
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    return np.broadcast_to(_patterns_of_bfloat16(array, np.zeros((), dtype)), shape)


def mapped(array: Any) -> Array:
    """Return a lazy array's elements in memory: of a small one in memory, else in a temporary file, which has no name.

    Raises
    ------
    OSError
        If the temporary folder, which ``TMPDIR`` chooses, has no room for it.
    """
    array = array.data if _is_lazy_xarray(array) else array
    shape, dtype, steps = tuple(array.shape), np.dtype(array.dtype), _steps(array)
    out = _memory(shape, dtype)
    for region in groups(steps, dtype.itemsize, GROUP_BYTES):
        piece = array[region]
        out[region] = piece if isinstance(piece, np.ndarray | np.generic) else piece.compute()
    return _patterns_of_bfloat16(array, out)


def _memory(shape: Sizes, dtype: np.dtype[Any]) -> Array:
    """Return an array that nobody has written to yet."""
    size = math.prod(shape) * dtype.itemsize
    if size <= GROUP_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="fastinit-") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                os.ftruncate(file.fileno(), size)
        except OSError as error:
            where = f"a temporary file of {size_text(size)} in {tempfile.gettempdir()}, the folder that TMPDIR chooses"
            raise OSError(error.errno, f"verify needs {where}: {error.strerror}") from None
        return np.asarray(np.memmap(file, np.uint8, "r+", shape=size).view(dtype).reshape(shape))


def groups(steps: Sequence[Sizes], itemsize: int, most: int) -> Iterator[Region]:
    """Yield regions that hold whole blocks, as many as fit in ``most`` bytes, and cover the array once in C order.

    Parameters
    ----------
    steps
        The sizes of the blocks along every axis.
    itemsize
        The bytes of an element.

    Examples
    --------
    >>> [region[0] for region in groups([(4, 4, 2), (3,)], itemsize=1, most=24)]
    [slice(0, 8, None), slice(8, 10, None)]
    """
    rooms = _rooms(steps, itemsize, most)
    return itertools.product(*(list(_gathered(axis, room)) for axis, room in zip(steps, rooms, strict=True)))


def _rooms(steps: Sequence[Sizes], itemsize: int, most: int) -> list[int]:
    """Return how many elements a group may have along each axis: the last axes are whole where there is room for it."""
    rooms, left = [0] * len(steps), most // itemsize
    blocks = [max(axis, default=0) for axis in steps]  # the largest along every axis
    for k in reversed(range(len(steps))):
        rooms[k] = left // max(1, math.prod(blocks[:k]))
        left //= max(1, min(max(rooms[k], blocks[k]), sum(steps[k])))
    return rooms


def _gathered(axis: Sizes, room: int) -> Iterator[slice]:
    """Yield the slices of one block or more along an axis."""
    begin = end = 0
    for size in axis:
        if end > begin and end + size - begin > room:
            yield slice(begin, end)
            begin = end
        end += size
    yield slice(begin, end)


def _steps(array: Any) -> list[Sizes]:
    """Return the sizes of the blocks along every axis: dask's chunks, or zarr's shards or chunks."""
    if _is(array, "dask.array", "Array"):
        return list(array.chunks)
    steps = array.shards or array.chunks
    return [
        tuple(min(step, size - at) for at in range(0, size, step))
        for step, size in zip(steps, array.shape, strict=True)
    ]


def _patterns_of_bfloat16(array: Any, out: Array) -> Array:
    """Return the values of bfloat16 that `fastinit.zarr` has stored as uint16, else the array itself."""
    if out.dtype == np.uint16 and getattr(array, "attrs", {}).get("bfloat16_as") == "uint16":
        import ml_dtypes

        return out.view(ml_dtypes.bfloat16)
    return out


def _is_lazy_xarray(array: Any) -> bool:
    """Test whether an array is xarray's, with one of dask's inside."""
    return _is(array, "xarray", "DataArray") and array.chunks is not None


def _is(array: Any, module: str, name: str) -> bool:
    """Test for a type of a package that is imported only if there is such an array."""
    return isinstance(array, getattr(sys.modules.get(module), name, ()))
