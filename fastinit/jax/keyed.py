"""`initializer`: what flax and other libraries of JAX's call with a key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.checks import check_shape
from fastinit.core.keys import key_of, stream_of
from fastinit.initializers.base import Initializer
from fastinit.jax.arrays import Drawing, placed
from fastinit.jax.checks import check_dtype, check_init

NAME = "fastinit.jax.initializer"  # of every tensor whose key tells it from others


@dataclass(frozen=True)
class KeyedInitializer:
    """Initializer that JAX's libraries can call; made by `fastinit.jax.initializer`.

    Parameters
    ----------
    init
        Initializer with JAX's layout.
    name
        Of the stream, or None for that of all keys.
    seed
        In place of the key's, or None.
    """

    init: Initializer
    name: str | int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        check_init(self.init)
        if self.name is not None:
            stream_of(self.name)
        if self.seed is not None:
            key_of(self.seed)
            if self.name is None:
                raise ValueError(f"seed must come with a name, or all tensors would be the same, got seed={self.seed}")

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None) -> Any:
        """Make a jax.Array of the key's values.

        Parameters
        ----------
        key
            One key of ``jax.random.key`` or ``jax.random.PRNGKey``, or a tracer of one.
        shape, dtype
            Of the array. None is JAX's default float.
        out_sharding
            A sharding, or a PartitionSpec of the mesh that ``jax.set_mesh`` has set.
        """
        kind = check_dtype(jnp.result_type(float) if dtype is None else dtype)
        sizes = check_shape("shape", shape)
        if isinstance(key, jax.core.Tracer):
            return self._traced(key, sizes, kind, out_sharding)
        drawing, place = self._drawing(self._words(key), sizes, kind), placed("out_sharding", out_sharding)
        drawing.check(place)
        return drawing.sharded(place)

    def _words(self, key: Any) -> Any:
        """Return the key's data, or nothing where the key decides nothing."""
        if self.seed is not None:
            return np.zeros(0, np.uint32)
        words = jax.random.key_data(key)
        if words.ndim != 1:
            raise ValueError(f"key must be one key, got an array of them of shape {words.shape[:-1]}")
        return words

    def _drawing(self, words: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Drawing:
        """Return what is to be made for a key's data."""
        seed = seed_of(np.asarray(words)) if self.seed is None else self.seed
        return Drawing(shape, self.init, seed, NAME if self.name is None else self.name, dtype)

    def _traced(self, key: Any, shape: tuple[int, ...], dtype: np.dtype[Any], out_sharding: Any) -> Any:
        """Return what calls back for the values when the traced computation runs, and checks all else now."""
        self._drawing(np.zeros(2, np.uint32), shape, dtype).check()

        def values(words: Any) -> Array:
            return self._drawing(words, shape, dtype).whole()

        kind = jax.ShapeDtypeStruct(shape, dtype)
        made = jax.pure_callback(values, kind, self._words(key), vmap_method="sequential")
        return made if out_sharding is None else _constrained(made, out_sharding)


def seed_of(words: Array) -> int:
    """Return the seed for a key's data: two words as the high and the low half, more of them by their digest.

    So different threefry keys have different seeds, and ``jax.random.key(7)`` has 7. The digest is the first 8 bytes
    of BLAKE2b of the words, little-endian both.

    Examples
    --------
    >>> seed_of(jax.random.key_data(jax.random.key(7)))
    7
    """
    if words.shape == (2,):
        return int(words[0]) << 32 | int(words[1])
    digest = hashlib.blake2b(np.asarray(words).astype("<u4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _constrained(made: Any, out_sharding: Any) -> Any:
    """Return a traced array with a sharding: asked for where axes are explicit, else as a hint to the compiler."""
    named = isinstance(out_sharding, jax.sharding.NamedSharding)
    mesh = out_sharding.mesh if named else jax.sharding.get_abstract_mesh()
    explicit = jax.sharding.AxisType.Explicit in mesh.axis_types
    return (jax.sharding.reshard if explicit else jax.lax.with_sharding_constraint)(made, out_sharding)


def initializer(init: Initializer, name: str | int | None = None, *, seed: int | None = None) -> KeyedInitializer:
    """Return an initializer with JAX's signature, ``(key, shape, dtype, out_sharding)``: flax's ``kernel_init=``.

    The seed is the key's data: the two words of a threefry key are its high and its low half. Old and new keys with the
    same data give the same values, different keys different ones.

    Under `jax.jit` and other transformations the host computes the values, by `jax.pure_callback`. Then the whole
    tensor is made at once and goes to the first device. For a sharded model make the parameters by `tree` or `array`.

    Parameters
    ----------
    init
        Initializer with JAX's layout, such as ``fastinit.jax.he_normal()``.
    name
        Of the stream. By default, the same for all, since flax gives each parameter a key of its own.
    seed
        In place of the key's, with a name: the key decides nothing, and the values are those of
        ``fastinit.array(shape, init, seed=seed, name=name)``.

    Raises
    ------
    TypeError
        If an argument is not of its kind.
    ValueError
        If the initializer reads weights in torch's layout because none was given, or there is a seed without a name,
        which would give all tensors the same values.

    Examples
    --------
    >>> import fastinit.jax
    >>> kernel_init = initializer(fastinit.jax.he_normal())
    >>> kernel_init(jax.random.key(0), (4, 6)).shape
    (4, 6)
    >>> bool((kernel_init(jax.random.key(0), (4, 6)) == kernel_init(jax.random.key(1), (4, 6))).any())
    False
    """
    return KeyedInitializer(init, name, seed)
