"""`array`: a jax.Array of which this process computes the shards that its devices hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.checks import check_shape
from fastinit.core.text import printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.jax.checks import check_dtype, check_init
from fastinit.sampling.filling import fill

_LINE = 64  # bytes; JAX on the CPU shares host memory that begins at a multiple of this, and copies all other


@dataclass(frozen=True)
class Drawing:
    """A tensor to be made: all that decides its values."""

    shape: tuple[int, ...]
    init: Initializer
    seed: int
    name: str | int
    dtype: np.dtype[Any]
    threads: int | None = None

    def check(self, sharding: Any = None) -> None:
        """Raise what `sharded` would, without memory for the tensor."""
        try:
            if sharding is not None:
                sharding.shard_shape(self.shape)
        except (IndexError, ValueError) as error:  # of more axes, or that does not divide one
            reason = printable(str(error).partition("\n")[0])
            raise ValueError(f"sharding must fit the shape {self.shape}, got {quoted(sharding)}: {reason}") from None
        part = (0, *self.shape[1:]) if self.shape else ()
        self.region(part, (0,) * len(self.shape))

    def region(self, sizes: Sequence[int], offset: Sequence[int]) -> Array:
        """Return a region in memory of its own, which JAX can share."""
        return fill(
            aligned(sizes, self.dtype),
            self.init,
            seed=self.seed,
            name=self.name,
            global_shape=self.shape,
            global_offset=offset,
            threads=self.threads,
        )

    def whole(self) -> Array:
        """Return all of it."""
        return self.region(self.shape, (0,) * len(self.shape))

    def sharded(self, sharding: Any) -> Any:
        """Return it as a jax.Array with this sharding, or uncommitted on JAX's default device without one."""
        if sharding is None:
            return jax.device_put(self.whole())
        return jax.make_array_from_callback(self.shape, sharding, Shards(self), dtype=self.dtype)


@dataclass(frozen=True)
class Shards:
    """Shards by their slices; one that several devices hold is computed once."""

    drawing: Drawing
    known: dict[tuple[tuple[int, int], ...], Array] = field(default_factory=dict)

    def __call__(self, index: Sequence[slice]) -> Array:
        """Return the shard with these slices of the global array."""
        bounds = tuple(one.indices(size)[:2] for one, size in zip(index, self.drawing.shape, strict=True))
        if bounds not in self.known:
            sizes, offset = [stop - start for start, stop in bounds], [start for start, _ in bounds]
            self.known[bounds] = self.drawing.region(sizes, offset)
        return self.known[bounds]


def aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return fresh memory that begins at a multiple of 64 bytes, as an array.

    Examples
    --------
    >>> aligned((3, 5), np.dtype("float16")).ctypes.data % 64
    0
    """
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    found: Array = memory[start : start + size].view(dtype).reshape(shape)
    return found


def placed(argument: str, sharding: Any) -> Any:
    """Return a sharding with devices, or None, or raise an error that names the argument.

    A PartitionSpec, and a sharding of an abstract mesh, is one of the mesh that ``jax.set_mesh`` has set.
    """
    spec = sharding
    if isinstance(sharding, jax.sharding.NamedSharding) and isinstance(sharding.mesh, jax.sharding.AbstractMesh):
        spec = sharding.spec
    if isinstance(spec, jax.sharding.PartitionSpec):
        mesh = jax.sharding.get_mesh()
        if mesh.empty:
            raise ValueError(f"{argument} must have devices where jax.set_mesh has set no mesh, got {quoted(sharding)}")
        return jax.sharding.NamedSharding(mesh, spec)
    if sharding is not None and not isinstance(sharding, jax.sharding.Sharding):
        raise TypeError(f"{argument} must be a jax.sharding.Sharding, such as a NamedSharding, got {quoted(sharding)}")
    return sharding


def array(
    shape: int | Sequence[int],
    init: Initializer,
    *,
    seed: int,
    name: str | int,
    dtype: Any = "float32",
    sharding: Any = None,
    threads: int | None = None,
) -> Any:
    """Make a jax.Array with the values of `fastinit.array`, however it is sharded.

    Each process computes the shards that its own devices hold, each once, without communication; no process and no
    device has the whole tensor. On the CPU the arrays share the memory that was filled; to an accelerator it is copied
    once.

    Parameters
    ----------
    shape
        Of the whole array.
    init
        Initializer with JAX's layout, such as ``fastinit.jax.he_normal()`` or ``fastinit.normal()``.
    seed, name
        As for `fastinit.fill`: the same on all processes.
    dtype
        ``"float16"``, ``"bfloat16"``, ``"float32"``, ``"float64"``, or NumPy's or JAX's dtype; for constants, integers
        and booleans too. 64 bits need ``jax_enable_x64``.
    sharding
        A jax.sharding.Sharding, or a PartitionSpec of the mesh that ``jax.set_mesh`` has set; by default, JAX's default
        device without commitment to it, as for ``jnp.zeros``.
    threads
        Number of threads, as for `fastinit.fill`.

    Returns
    -------
    jax.Array
        Of the shape, dtype and sharding.

    Raises
    ------
    TypeError
        If an argument is not of its kind.
    ValueError
        If a value is not allowed, the initializer reads weights in torch's layout because none was given, or JAX would
        narrow the dtype.

    Examples
    --------
    >>> import fastinit.jax
    >>> from jax.sharding import NamedSharding, PartitionSpec
    >>> by_rows = NamedSharding(jax.make_mesh((1,), ("x",)), PartitionSpec("x"))
    >>> w = array((4, 6), fastinit.jax.he_normal(), seed=0, name="w", dtype="bfloat16", sharding=by_rows)
    >>> w.shape, w.dtype, len(w.addressable_shards)
    ((4, 6), dtype(bfloat16), 1)
    """
    sizes = check_shape("shape", shape if isinstance(shape, Iterable) else (shape,))
    drawing = Drawing(sizes, check_init(init), seed, name, check_dtype(dtype), threads)
    place = placed("sharding", sharding)
    drawing.check(place)
    return drawing.sharded(place)
