"""Arrays in pieces: what is left of a tensor without some of its rows, read without a copy of the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from fastinit.core.arrays import Array


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
            return np.asarray(self.views[0][tuple(index)])
        first = index[0]
        found = np.empty(np.broadcast_shapes(*(numbers.shape for numbers in index)), self.dtype)
        for view, start in zip(self.views, _starts([len(view) for view in self.views]), strict=True):
            mine = ((first >= start) & (first < start + len(view))).ravel()
            here = [numbers[mine] if len(numbers) == len(first) else numbers for numbers in index]
            found[mine] = view[(here[0] - start, *here[1:])]
        return found


def _starts(lengths: Sequence[int]) -> list[int]:
    """Return where each of these lengths begins."""
    return list(accumulate(lengths, initial=0))[:-1]
