"""Arrays in pieces: what is left of a tensor without some of its rows, read without a copy of the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from fastinit.core.arrays import Array

LEAST_SLICE = 128  # elements of a slice, on average, for which slices are faster than numbers


def flat(array: Array, begin: int, end: int) -> Array:
    """Return the elements [begin, end) in C order: a view where they lie next to each other, else a copy."""
    if array.flags.c_contiguous:
        return array.reshape(-1)[begin:end]
    inner = math.prod(array.shape[1:])
    first, last = begin // inner, (end - 1) // inner
    if array.ndim == 1 or begin >= end:
        return np.ascontiguousarray(array[begin:end] if array.ndim == 1 else array[:0]).reshape(-1)
    if first == last:
        return flat(array[first], begin - first * inner, end - first * inner)
    head, tail = -(-begin // inner), end // inner
    parts = [np.ascontiguousarray(array[head:tail]).reshape(-1)]
    if begin < head * inner:
        parts.insert(0, flat(array[first], begin - first * inner, inner))
    if end > tail * inner:
        parts.append(flat(array[last], 0, end - tail * inner))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Pieces:
    """One array, or several that follow each other along the first axis and agree in all others."""

    views: tuple[Array, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of all."""
        return self.views[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the whole."""
        if len(self.views) == 1:
            return self.views[0].shape
        return (sum(map(len, self.views)), *self.views[0].shape[1:])

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return self.views[0].ndim

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def starts(self) -> list[int]:
        """Return the number of the first element of each, in C order."""
        return _starts([view.size for view in self.views])

    def flat(self, begin: int, end: int) -> Array:
        """Return the elements [begin, end) in C order: a view if they lie next to each other in one piece."""
        if len(self.views) == 1:
            return flat(self.views[0], begin, end)
        parts = [
            flat(view, max(begin - start, 0), min(end - start, view.size))
            for view, start in zip(self.views, self.starts, strict=True)
            if begin < start + view.size and start < end
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, self.dtype), *parts])

    def take(self, index: Sequence[Array]) -> Array:
        """Return the elements at these numbers along each axis, of which the first are a column: as NumPy indexes."""
        if len(self.views) == 1:
            return _taken(self.views[0], index)
        first = index[0]
        found = np.empty(np.broadcast_shapes(*(numbers.shape for numbers in index)), self.dtype)
        for view, start in zip(self.views, _starts([len(view) for view in self.views]), strict=True):
            mine = ((first >= start) & (first < start + len(view))).ravel()
            here = [numbers[mine] if len(numbers) == len(first) else numbers for numbers in index]
            found[mine] = _taken(view, [here[0] - start, *here[1:]])
        return found


def _starts(lengths: Sequence[int]) -> list[int]:
    """Return where each of these lengths begins."""
    return list(accumulate(lengths, initial=0))[:-1]


def _taken(view: Array, index: Sequence[Array]) -> Array:
    """Return ``view[tuple(index)]``; of a column and a row of numbers that are in runs, much faster, by slices."""
    if view.ndim == 2 and index[0].shape[1:] == (1,):
        rows, columns = (numbers.ravel() for numbers in index)
        if some := _runs(columns, rows.size):
            every = _runs(rows, columns.size)
            here = view[every[0]] if len(every) == 1 else view
            lines = slice(None) if len(every) == 1 else rows
            return np.concatenate([here[lines, run] for run in some], axis=1)
        if (some := _runs(rows, columns.size)) and view.flags.c_contiguous:
            return np.concatenate([view[run].take(columns, axis=1) for run in some])
    return np.asarray(view[tuple(index)])


def _runs(numbers: Array, others: int) -> list[slice]:
    """Return the slices that numbers are; an empty list if those, by the others along the other axis, are small.

    Examples
    --------
    >>> _runs(np.arange(20, 60), 100)
    [slice(20, 60, None)]
    >>> _runs(np.arange(20, 60, 2), 100)
    []
    """
    ends = np.append(np.flatnonzero(np.diff(numbers) != 1), numbers.size - 1)
    if ends.size * LEAST_SLICE > numbers.size * others:
        return []
    return [slice(int(numbers[a]), int(numbers[b]) + 1) for a, b in zip([0, *ends[:-1] + 1], ends, strict=True)]
