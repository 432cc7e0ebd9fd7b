"""fastinit for JAX: sharded arrays, whole parameter trees, and initializers for flax.

A room that only the command line may import, and the only one that imports jax. `arrays` makes one array of the shards
that a process holds, `trees` all arrays of a tree by rules, `keyed` what JAX's libraries call with a key. `factories`
has JAX's own names with JAX's layout, and `checks` what would go wrong silently: another layout, or a dtype that JAX
would narrow.
Inside of this package, ``import jax`` is still JAX: all imports are absolute.
"""

from fastinit.jax.arrays import array
from fastinit.jax.factories import (
    delta_orthogonal,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    orthogonal,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)
from fastinit.jax.keyed import KeyedInitializer, initializer
from fastinit.jax.trees import tree

__all__ = [
    "KeyedInitializer",
    "array",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "initializer",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "tree",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
]
