"""Tensors without a distribution of their elements, such as those of orthogonal, sparse and table.

Each is a small value that can make any region of its tensor, from the counter streams of the distributions' draws.
Draws come from a `Source`, which `fastinit.fill` provides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.boxes import intersection
from fastinit.distributions import Constant, Distribution, Normal
from fastinit.initializers.sinusoids import Columns

Places = Sequence[int]

PIECE_BYTES = 8 << 20  # of a tensor that needs no memory but itself
KEY_BYTES = 32 << 20  # of the keys of all threads together
BLOCK = 1 << 14  # sines made at once: their steps stay in the cache
BYTES_PER_KEY = 16  # the key, its rank with the row, and masks


class Source(Protocol):
    """The streams of one tensor, for the regions that a matrix needs."""

    def values(self, out: Array, distribution: Distribution, offset: Places) -> None:
        """Fill a region with the elements that a tensor of this distribution would have there."""

    def keys(self, out: Array, offset: Places) -> None:
        """Fill a region of uint32 with the elements' words of attempt 1, which no normal ever looks at."""


@dataclass(frozen=True)
class Orthogonal:
    """A weight that is orthogonal as a matrix (outputs, all else), or at the centre of its field."""

    shape: tuple[int, ...]
    gain: float
    axes: str  # a letter for every axis
    delta: bool

    one_by_one = True  # LAPACK has threads of its own

    @property
    def elements(self) -> Distribution:
        """Return the distribution that must fit the dtype: no element is larger."""
        return Constant(self.gain)

    def cut(self, out: Array, threads: int) -> tuple[int, int]:
        """Return an axis, and the length along it of one piece of work: one weight of a stack."""
        return (self.axes.index("N"), 1) if "N" in self.axes else (0, out.shape[0])

    def room(self, out: Array, threads: int) -> int:
        """Return the bytes needed beside the array: normals, and in float64 the matrix that is made of them."""
        sizes = self._box([0] * out.ndim, [0] * out.ndim)[1]
        return math.prod(sizes) * (8 if out.dtype == np.float64 else 4 + 8)

    def make(self, out: Array, offset: Places, source: Source) -> None:
        """Fill the region of the tensor that begins at ``offset``."""
        stacked = tuple(size if axis == "N" else 1 for axis, size in zip(self.axes, out.shape, strict=True))
        for place in np.ndindex(stacked):
            here, values = self._one(out, offset, place, source)
            if self.delta:
                out[
                    tuple(
                        slice(k, k + 1) if axis == "N" else slice(None)
                        for axis, k in zip(self.axes, place, strict=True)
                    )
                ] = 0
            if here is not None:
                out[here] = values

    def _box(self, offset: Places, place: Places) -> tuple[list[int], list[int]]:
        """Return the origin and the sizes of the values of the weight that ``place`` in the region belongs to."""
        origin, sizes = [0] * len(self.shape), list(self.shape)
        for k, axis in enumerate(self.axes):
            if axis == "N":
                origin[k], sizes[k] = offset[k] + place[k], 1
            elif self.delta and axis not in "OI":
                origin[k], sizes[k] = (self.shape[k] - 1) // 2, 1
        return origin, sizes

    def _one(
        self, out: Array, offset: Places, place: Places, source: Source
    ) -> tuple[tuple[slice, ...], Array] | tuple[None, None]:
        """Return one weight of the stack: its part of the region and the values there, None if it has none there."""
        origin, sizes = self._box(offset, place)
        here, there = _overlap(origin, sizes, offset, out.shape)
        if here is None:
            return None, None
        real = np.float64 if out.dtype == np.float64 else np.float32
        outputs = [k for k, axis in enumerate(self.axes) if axis == "O"]
        others = [k for k, axis in enumerate(self.axes) if axis != "O"]
        rows, columns = (math.prod(sizes[k] for k in group) for group in (outputs, others))
        order = others + outputs if rows >= columns else outputs + others  # so that columns of the taller lie in a row
        normals = np.empty([sizes[k] for k in order], real)
        source.values(normals.transpose(np.argsort(order)), Normal(0.0, 1.0), origin)
        made = _orthonormal(normals.reshape(min(rows, columns), -1), self.gain)
        del normals
        whole = made.reshape([sizes[k] for k in order]).transpose(np.argsort(order))
        return here, rounded(whole[there], out.dtype)


def _overlap(
    origin: Places, sizes: Places, offset: Places, shape: Places
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | tuple[None, None]:
    """Return the part of a box that lies in a region, as slices of region and box; None if there is none."""
    common = intersection(origin, sizes, offset, shape)
    if common is None:
        return None, None

    def relative(start: Places) -> tuple[slice, ...]:
        return tuple(slice(at - c, at - c + size) for at, size, c in zip(*common, start, strict=True))

    return relative(offset), relative(origin)


def _orthonormal(normals: Array, gain: float) -> Array:
    """Return rows that are orthonormal times ``gain``, in float64, from normals with no fewer columns than rows.

    Householder's QR of the transpose. LAPACK's R has a diagonal of either sign, by a rule that depends on the data, and
    Q alone is not Haar-distributed: with R's signs moved into Q it is (Mezzadri 2007, section 4).
    """
    from scipy.linalg import lapack

    tall = np.asarray(normals, np.float64).T
    columns = tall.shape[1]
    room = max(1, 64 * columns)
    packed, tau, _, failed = lapack.dgeqrf(tall, lwork=room, overwrite_a=1)
    signs = np.where(np.diagonal(packed) < 0, -gain, gain)
    q, _, failed_too = lapack.dorgqr(packed, tau, lwork=room, overwrite_a=1)
    if failed or failed_too:
        raise RuntimeError(f"LAPACK failed: geqrf {failed}, orgqr {failed_too}")
    q *= signs
    rows: Array = q.T
    return rows


@dataclass(frozen=True)
class Identity:
    """``gain`` where an output meets the input of its number in the group, at the field's middle; zero elsewhere."""

    shape: tuple[int, ...]
    gain: float
    axes: str
    groups: int

    one_by_one = False

    @property
    def elements(self) -> Distribution:
        """Return the distribution that must fit the dtype."""
        return Constant(self.gain)

    def room(self, out: Array, threads: int) -> int:
        """Return the bytes needed beside the array: none to speak of."""
        return 0

    def cut(self, out: Array, threads: int) -> tuple[int, int]:
        """Return an axis, and the length along it of one piece of work."""
        return _along_the_longest(out)

    def make(self, out: Array, offset: Places, source: Source) -> None:
        """Fill the region of the tensor that begins at ``offset``."""
        out[...] = 0
        o, i = self.axes.index("O"), self.axes.index("I")
        field = [k for k, axis in enumerate(self.axes) if axis not in "OIN"]
        middle = [self.shape[k] // 2 - offset[k] for k in field]
        if any(not 0 <= at < out.shape[k] for at, k in zip(middle, field, strict=True)):
            return
        outputs = np.arange(offset[o], offset[o] + out.shape[o])
        inputs = outputs % (self.shape[o] // self.groups) - offset[i]
        (inside,) = np.nonzero((inputs >= 0) & (inputs < out.shape[i]))
        taps = np.moveaxis(out, [*field, o, i], range(-len(field) - 2, 0))
        places: tuple[Any, ...] = (..., *middle, inside, inputs[inside])
        taps[places] = rounded(np.asarray(self.gain), out.dtype)


@dataclass(frozen=True)
class Sparse:
    """A normal matrix whose columns are zero where the keys are smallest, each in `zeros` places."""

    shape: tuple[int, ...]
    std: float
    sparsity: float
    axes: str

    one_by_one = False

    def __post_init__(self) -> None:
        if self.shape[self.axes.index("O")] > 1 << 32:
            raise ValueError(f"sparse takes at most 2**32 rows, got shape {self.shape}")

    @property
    def elements(self) -> Distribution:
        """Return the distribution that must fit the dtype."""
        return Normal(0.0, self.std)

    @property
    def zeros(self) -> int:
        """Return the zeros of a column: ceil(sparsity * rows) of the decimal number that sparsity is written as."""
        return math.ceil(Fraction(repr(self.sparsity)) * self.shape[self.axes.index("O")])

    def room(self, out: Array, threads: int) -> int:
        """Return the bytes needed beside the array: the keys of the columns that all threads make at once."""
        axis, columns = self.cut(out, threads)
        return threads * min(columns, int(out.shape[axis])) * self.shape[self.axes.index("O")] * BYTES_PER_KEY

    def cut(self, out: Array, threads: int) -> tuple[int, int]:
        """Return an axis, and the length along it of one piece of work: some columns."""
        rows = self.shape[self.axes.index("O")]
        return self.axes.index("I"), max(1, KEY_BYTES // threads // (BYTES_PER_KEY * rows))

    def make(self, out: Array, offset: Places, source: Source) -> None:
        """Fill the region of the tensor that begins at ``offset``."""
        source.values(out, self.elements, offset)
        if self.zeros == 0:
            return
        o, i = self.axes.index("O"), self.axes.index("I")
        keys = np.empty((out.shape[i], self.shape[o]), np.uint32)  # a column of the tensor in every row
        start = [0, 0]
        start[i] = offset[i]
        source.keys(keys if i == 0 else keys.T, start)
        ranks = _ranks(keys, 0)
        ranks.partition(self.zeros - 1, axis=1)
        last = ranks[:, self.zeros - 1].copy()
        del ranks
        chosen = _ranks(keys[:, offset[o] : offset[o] + out.shape[o]], offset[o]) <= last[:, None]
        np.copyto(out if i == 0 else out.T, out.dtype.type(0), where=chosen)


def _ranks(keys: Array, first: int) -> Array:
    """Return keys with their rows behind them, so that no two are equal."""
    ranks = keys.astype(np.uint64)
    ranks <<= np.uint64(32)
    ranks |= np.arange(first, first + keys.shape[1], dtype=np.uint64)
    return ranks


@dataclass(frozen=True)
class Sinusoidal:
    """Sines and cosines of the positions, the last axis but one; any axes before repeat them."""

    shape: tuple[int, ...]
    style: str
    base: float

    one_by_one = False

    @property
    def elements(self) -> Distribution:
        """Return the distribution that must fit the dtype: no element is larger."""
        return Constant(1.0)

    def room(self, out: Array, threads: int) -> int:
        """Return the bytes needed beside the array: none to speak of."""
        return 0

    def cut(self, out: Array, threads: int) -> tuple[int, int]:
        """Return an axis, and the length along it of one piece of work."""
        return _along_the_longest(out)

    def make(self, out: Array, offset: Places, source: Source) -> None:
        """Fill the region of the tensor that begins at ``offset``."""
        rows, columns = out.shape[-2:]
        step = max(1, BLOCK // columns)
        waves = Columns.of(offset[-1], columns, self.shape[-1], self.style, self.base)
        for k in range(0, rows, step):
            positions = np.arange(offset[-2] + k, offset[-2] + min(k + step, rows))
            out[..., k : k + step, :] = rounded(waves.at(positions), out.dtype)


def _along_the_longest(out: Array) -> tuple[int, int]:
    """Return the longest axis, and the length along it of a piece of `PIECE_BYTES`."""
    axis = int(np.argmax(out.shape))
    return axis, max(1, out.shape[axis] * PIECE_BYTES // out.nbytes)


def rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round float64 values to a dtype, of 16 bits by way of float32, as every value of theirs is."""
    return values.astype(dtype if dtype == np.float64 else np.float32, copy=False).astype(dtype, copy=False)


@dataclass(frozen=True)
class Table:
    """Given values, in C order."""

    shape: tuple[int, ...]
    values: tuple[int | float, ...]

    one_by_one = False

    @property
    def elements(self) -> Distribution:
        """Return the distribution that must fit the dtype: the value of the largest magnitude."""
        return Constant(max(self.values, key=abs, default=0))

    def room(self, out: Array, threads: int) -> int:
        """Return the bytes needed beside the array: none to speak of."""
        return 0

    def cut(self, out: Array, threads: int) -> tuple[int, int]:
        """Return an axis, and the length along it of one piece of work: all of it."""
        return 0, out.shape[0]

    def make(self, out: Array, offset: Places, source: Source) -> None:
        """Fill the region of the tensor that begins at ``offset``."""
        here = tuple(slice(at, at + size) for at, size in zip(offset, out.shape, strict=True))
        if out.dtype.kind not in "iub":
            out[...] = rounded(np.array(self.values, np.float64).reshape(self.shape)[here], out.dtype)
            return
        numbers = np.array(self.values, object).reshape(self.shape)[here]
        least, most = (0, 1) if out.dtype.kind == "b" else (np.iinfo(out.dtype).min, np.iinfo(out.dtype).max)
        for number in numbers.flat:
            if number != int(number) or not least <= number <= most:
                raise ValueError(f"values must be {out.dtype.name}'s, got {number}")
        out[...] = numbers.astype(out.dtype)


Matrix = Orthogonal | Identity | Sparse | Sinusoidal | Table
