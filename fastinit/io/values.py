"""The values of a file: tensors drawn into its blocks, one while others are hashed and written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.boxes import intersection
from fastinit.core.dtypes import dtype_of
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.io.blocks import Bytes, Observer
from fastinit.io.files import complete_blocks
from fastinit.io.layout import Content, File, Places, boxes, overlapping
from fastinit.io.manifests import Tensor
from fastinit.sampling.filling import fill

Report = Callable[[int, int], object]


class Values(NamedTuple):
    """What decides a file's values beside its layout, and how they are written."""

    seed: int
    threads: int | None = None
    sync: bool = True


def check(files: Sequence[File], values: Values) -> None:
    """Fill what has no elements, to refuse what cannot be filled; and one element, to compile what is needed."""
    for file in files:
        for content, _ in file.entries:
            tensor = content.tensor
            for init in (content.init, *(part.init for part in content.parts)):
                with _about(tensor, init):
                    few = 0 if math.prod(tensor.shape) == 0 or isinstance(init.resolve(tensor.shape), Matrix) else 1
                    for sizes in {0, few}:
                        some = np.empty([sizes] * len(tensor.shape), dtype_of(tensor.dtype))
                        fill(some, init, seed=values.seed, name=tensor.name, global_shape=tensor.shape)
            for part in content.parts:
                ends = [at + size for at, size in zip(part.offset, part.shape, strict=True)]
                if len(ends) != len(tensor.shape) or any(map(int.__gt__, ends, tensor.shape)):
                    raise ValueError(
                        f"tensor {quoted(tensor.name)} of shape {quoted(list(tensor.shape))}: a region must lie "
                        f"inside, got offset {quoted(list(part.offset))} and shape {quoted(list(part.shape))}"
                    )


def write(
    out: str | Path, file: File, values: Values, *, progress: Report | None = None, observe: Observer | None = None
) -> None:
    """Write a file of this layout, complete or not at all.

    Values are drawn into a block of memory while the blocks before are written and observed. A matrix is made as a
    whole, in memory of its own.
    """
    with complete_blocks(out, file.header, file.size, sync=values.sync, observe=observe) as parts:
        whole: Array | None = None  # the matrix that the blocks have come to
        for start, block in parts:
            for entry, low, high in overlapping(file.entries, start, start + len(block)):
                content, here = entry.content, block[low - start : high - start]
                if not _is_matrix(content):
                    _draw(content, low - entry.start, here, values)
                else:
                    if whole is None:
                        whole = np.empty(content.tensor.nbytes, np.uint8)
                        _draw(content, 0, whole, values)
                    here[:] = whole[low - entry.start : high - entry.start]
                    if high == entry.end:
                        whole = None
                if progress is not None:
                    progress(high, file.size)


def _is_matrix(content: Content) -> bool:
    """Test whether elements depend on each other."""
    inits = (content.init, *(part.init for part in content.parts))
    return any(isinstance(init.resolve(content.tensor.shape), Matrix) for init in inits)


def _draw(content: Content, begin: int, memory: Bytes, values: Values) -> None:
    """Fill memory with the bytes of a tensor from this one on: the whole's values, then those of its parts."""
    tensor = content.tensor
    elements = memory.view(dtype_of(tensor.dtype))
    first, at = begin // elements.itemsize, 0
    for offset, sizes in boxes(tensor.shape, first, first + len(elements)):
        count = math.prod(sizes)
        box = elements[at : at + count].reshape(sizes)
        at += count
        _fill_box(tensor, content.init, box, offset, values)
        for part in content.parts:
            if both := intersection(offset, sizes, part.offset, part.shape):
                start, extent = both
                inside = tuple(slice(s - o, s - o + n) for s, o, n in zip(start, offset, extent, strict=True))
                _fill_box(tensor, part.init, box[inside], start, values)


def _fill_box(tensor: Tensor, init: Initializer, box: Array, offset: Places, values: Values) -> None:
    """Fill a box of a tensor."""
    seed, threads = values.seed, values.threads
    with _about(tensor, init):
        fill(box, init, seed=seed, name=tensor.name, global_shape=tensor.shape, global_offset=offset, threads=threads)


@contextmanager
def _about(tensor: Tensor, init: Initializer) -> Iterator[None]:
    """Name the tensor in errors."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"tensor {quoted(tensor.name)} ({tensor.dtype}{quoted(list(tensor.shape))}), {init}: {error}"
        ) from None
