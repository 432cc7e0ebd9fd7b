"""fastinit for dask: arrays that are drawn where their chunks are needed.

Only the command line may import this room, and it alone imports dask. A chunk's values depend on its place in the
whole array alone, so that the graph holds one function, and the chunks' places follow from their sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.array import Array
from dask.array.core import normalize_chunks
from dask.base import tokenize
from dask.blockwise import blockwise
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArrayBlockwiseDep
from dask.tokenize import normalize_token

from fastinit.core.checks import check_flag, check_shape
from fastinit.core.dtypes import dtype_of
from fastinit.core.keys import STREAM_FORMAT
from fastinit.core.text import printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.sampling.filling import fill
from fastinit.sampling.threads import thread_count

__all__ = ["array"]

Sizes = tuple[int, ...]
Runs = tuple[tuple[int, int], ...]  # of an axis's chunks: a size, and how often it comes one after the other


def array(
    shape: int | Sequence[int],
    init: Initializer,
    *,
    seed: int,
    name: str | int,
    dtype: Any = "float32",
    chunks: Any = "auto",
    threads: int | None = 1,
    allow_whole: bool = False,
) -> Array:
    """Return a lazy dask array with the values of `fastinit.array`, whatever its chunks.

    Nothing is drawn until it is computed, and then each chunk on its own, by the threaded, the process or the
    distributed scheduler. The graph is one layer, whose size and pickled bytes do not grow with the number of chunks.
    The array's name in the graph is "fastinit-" and a digest of stream format, initializer, seed, name, shape, dtype
    and chunks: two equal calls are one array to dask.

    Parameters
    ----------
    shape, init, seed, name
        As for `fastinit.array`.
    dtype
        As for `fastinit.array`, ``"bfloat16"`` too.
    chunks
        As dask takes them: ``"auto"``, a size, a size or sizes for each axis, -1 for one chunk.
    threads
        The threads of one task: 1, since dask runs tasks side by side; None for all CPUs.
    allow_whole
        Whether a matrix initializer (orthogonal, sparse, ...) may have several chunks, though the elements of its
        matrix depend on each other, and each task may make all of the matrix for its part.

    Returns
    -------
    dask.array.Array
        Of this shape, dtype and these chunks.

    Raises
    ------
    TypeError
        If an argument is not of its kind.
    ValueError
        If a value is not allowed; if a matrix initializer has several chunks. All errors come from this call, none
        from a task.

    Examples
    --------
    >>> import fastinit as fi, fastinit.dask
    >>> lazy = fastinit.dask.array((6, 4), fi.he_normal(), seed=0, name="w", chunks=(4, 3))
    >>> lazy.chunks
    ((4, 2), (3, 1))
    >>> bool((lazy.compute() == fi.array((6, 4), fi.he_normal(), seed=0, name="w")).all())
    True
    """
    sizes = check_shape("shape", shape if isinstance(shape, Iterable) else (shape,))
    kind = dtype_of(dtype)
    threads = None if threads is None else thread_count(threads)
    _check_values(sizes, init, seed, name, kind)
    blocks = _checked_chunks(chunks, sizes, kind)
    places = _Places(blocks)
    if not check_flag("allow_whole", allow_whole) and isinstance(init.resolve(sizes), Matrix):
        _check_one_chunk(init, sizes, places)
    draw = _Draw(init, int(seed), name if isinstance(name, str) else int(name), sizes, kind.name, threads)
    token = tokenize(STREAM_FORMAT, repr(init), draw.seed, draw.name, sizes, kind.name, places.runs)
    key, axes = f"fastinit-{token}", tuple(range(len(sizes)))
    layer = blockwise(draw, key, axes, places, axes, numblocks={})
    graph = HighLevelGraph.from_collections(key, layer, dependencies=[])
    return Array(graph, key, blocks, meta=np.empty((0,) * len(sizes), kind))


def _check_values(sizes: Sizes, init: Initializer, seed: int, name: str | int, dtype: np.dtype[Any]) -> None:
    """Refuse what cannot be filled, by filling no element of it; a number alone is one element."""
    few = np.empty((0,) * len(sizes), dtype)
    fill(few, init, seed=seed, name=name, global_shape=sizes)


def _checked_chunks(chunks: Any, sizes: Sizes, dtype: np.dtype[Any]) -> tuple[Sizes, ...]:
    """Return the sizes of the chunks along every axis."""
    try:
        found = normalize_chunks(chunks, sizes, dtype=dtype)
        return tuple(tuple(int(size) for size in axis) for axis in found)
    except (TypeError, ValueError, NotImplementedError, AttributeError, ZeroDivisionError) as error:
        reason = printable(str(error).partition("\n")[0])
        raise ValueError(
            f"chunks must be 'auto', -1, a size or sizes for each axis of shape {sizes}, got {quoted(chunks)}: {reason}"
        ) from None


def _check_one_chunk(init: Initializer, sizes: Sizes, places: _Places) -> None:
    """Refuse a matrix in several chunks."""
    count = int(np.prod(places.numblocks, dtype=object))
    if count > 1:
        raise ValueError(
            f"chunks must be -1, one chunk, for {init} of shape {sizes}, got {count} chunks: its elements depend on "
            "each other, and each task may make the whole matrix; allow_whole=True lets it"
        )


@dataclass(frozen=True)
class _Draw:
    """The function of every task: a chunk's values from its place."""

    init: Initializer
    seed: int
    name: str | int
    shape: Sizes
    dtype: str
    threads: int | None

    def __call__(self, place: tuple[Sizes, Sizes]) -> np.ndarray[Any, Any]:
        """Allocate a chunk and fill it."""
        offset, sizes = place
        return fill(
            np.empty(sizes, dtype_of(self.dtype)),
            self.init,
            seed=self.seed,
            name=self.name,
            global_shape=self.shape,
            global_offset=offset,
            threads=self.threads,
        )


class _Places(ArrayBlockwiseDep):
    """Offset and sizes of each chunk, made when dask asks; pickled by runs of equal sizes."""

    def __init__(self, chunks: tuple[Sizes, ...]) -> None:
        super().__init__(chunks)
        self._starts = tuple((0, *itertools.accumulate(axis)) for axis in chunks)

    def __getitem__(self, idx: Sizes) -> tuple[Sizes, Sizes]:
        """Return the offset and the sizes of the chunk with these numbers."""
        offset = tuple(starts[k] for k, starts in zip(idx, self._starts, strict=True))
        return offset, tuple(axis[k] for k, axis in zip(idx, self.chunks, strict=True))

    @property
    def runs(self) -> tuple[Runs, ...]:
        """Return the runs of every axis."""
        return tuple(tuple(_runs(axis)) for axis in self.chunks)

    def __reduce__(self) -> tuple[Any, tuple[tuple[Runs, ...]]]:
        return _unpickled, (self.runs,)


def _runs(axis: Sizes) -> Iterator[tuple[int, int]]:
    for size, group in itertools.groupby(axis):
        yield size, sum(1 for _ in group)


def _unpickled(runs: tuple[Runs, ...]) -> _Places:
    """Return what was pickled."""
    return _Places(tuple(tuple(itertools.chain(*((size,) * count for size, count in axis))) for axis in runs))


@normalize_token.register(_Places)  # type: ignore[untyped-decorator, unused-ignore]
def _token(places: _Places) -> tuple[str, tuple[Runs, ...]]:
    """Return what dask tells two of them apart by."""
    return "fastinit", places.runs
