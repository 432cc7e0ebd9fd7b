"""`tree`: all arrays of a parameter tree, each by the first rule that its path matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from fastinit.core.checks import check_shape, suggestion
from fastinit.core.text import printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.jax.arrays import Drawing, placed
from fastinit.jax.checks import check_dtype, check_init


def tree(
    abstract: Any,
    rules: Mapping[str, Initializer],
    *,
    seed: int,
    shardings: Any = None,
    prefix: str = "",
    threads: int | None = None,
) -> Any:
    """Make all arrays of a parameter tree; each has the values of its name.

    A leaf's name is ``prefix`` and its path, joined by slashes: keys of dicts, indices of lists, names of attributes.
    The last attribute ``value`` of a path, that of flax's boxes, is left out. So a linen module has
    ``params/Dense_0/kernel``, and an nnx module ``linear/kernel``, as a state, as a module and as a pure dict.

    Everything is checked before the first value is computed.

    Parameters
    ----------
    abstract
        A tree with leaves that have a shape and a dtype, as ``jax.eval_shape`` returns it.
    rules
        Initializers by globs on names, where ``*`` matches slashes too. The first that matches decides.
    seed
        In [0, 2**64), for all leaves.
    shardings
        A sharding or PartitionSpec for all leaves, as for `array`, or a tree of them that has the leaves' structure, or
        the beginning of it. By default, those of the leaves, if they have any.
    prefix
        Of all names.
    threads
        Number of threads, as for `fastinit.fill`.

    Returns
    -------
    tree
        Of the same structure, with a jax.Array, as `array` makes it, for each leaf.

    Raises
    ------
    TypeError
        If an argument, a leaf or a rule is not of its kind.
    ValueError
        If no rule matches a leaf (the error names all of them), a rule decides for none, two leaves have one name, or
        an initializer cannot be applied to its leaf.

    Examples
    --------
    >>> import fastinit as fi
    >>> import fastinit.jax
    >>> import jax.numpy as jnp
    >>> layer = {"kernel": jax.ShapeDtypeStruct((4, 6), jnp.bfloat16), "bias": jax.ShapeDtypeStruct((6,), jnp.bfloat16)}
    >>> made = tree({"dense": layer}, {"*/kernel": fastinit.jax.he_normal(), "*/bias": fi.zeros()}, seed=0)
    >>> kernel = fi.array((4, 6), fastinit.jax.he_normal(), seed=0, name="dense/kernel", dtype="bfloat16")
    >>> bool((made["dense"]["kernel"] == kernel).all())
    True
    """
    found, structure = jax.tree_util.tree_flatten_with_path(abstract)
    names, leaves = _names([path for path, _ in found], prefix), [leaf for _, leaf in found]
    inits = _matched(names, rules)
    places = _shardings(shardings, abstract, leaves)
    drawings = [
        _drawing(name, leaf, init, seed, threads, place)
        for name, leaf, init, place in zip(names, leaves, inits, places, strict=True)
    ]
    made = [drawing.sharded(place) for drawing, place in zip(drawings, places, strict=True)]
    return jax.tree_util.tree_unflatten(structure, made)


def _drawing(name: str, leaf: Any, init: Initializer, seed: int, threads: int | None, place: Any) -> Drawing:
    """Return what is to be made for a leaf, or raise an error that names it."""
    try:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise TypeError(f"it must have a shape and a dtype, as jax.ShapeDtypeStruct, got {quoted(leaf)}")
        drawing = Drawing(check_shape("shape", leaf.shape), init, seed, name, check_dtype(leaf.dtype), threads)
        drawing.check(place)
    except (TypeError, ValueError) as error:
        raise type(error)(f"leaf {quoted(name)}: {error}") from None
    return drawing


def _names(paths: Sequence[Any], prefix: str) -> list[str]:
    """Return the leaves' names, each once, or raise an error that says which two are one."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, got {quoted(prefix)}")
    names: dict[str, Any] = {}
    for path in paths:
        boxed = path and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value"
        name = prefix + jax.tree_util.keystr(path[:-1] if boxed else path, simple=True, separator="/")
        if name in names:
            one, other = (printable(jax.tree_util.keystr(of)) for of in (names[name], path))
            raise ValueError(f"leaves must have different names, but {one} and {other} are both {quoted(name)}")
        names[name] = path
    return list(names)


def _matched(names: Sequence[str], rules: Mapping[str, Initializer]) -> list[Initializer]:
    """Return each leaf's initializer, or raise an error: leaves without one, or rules without leaves."""
    if not isinstance(rules, Mapping):
        raise TypeError(f"rules must be a mapping of globs to initializers, got {quoted(rules)}")
    for glob, init in rules.items():
        if not isinstance(glob, str):
            raise TypeError(f"rules must have globs as keys, got {quoted(glob)}")
        try:
            check_init(init)
        except (TypeError, ValueError) as error:
            raise type(error)(f"rules, {quoted(glob)}: {error}") from None
    deciding = [next((glob for glob in rules if fnmatchcase(name, glob)), None) for name in names]
    for glob in rules:
        if glob not in deciding:
            shadowed = any(fnmatchcase(name, glob) for name in names)
            reason = "rules before it match all leaves of" if shadowed else "no leaf matches"
            raise ValueError(f"rules: {'' if shadowed else suggestion(glob, names)}{reason} {quoted(glob)}")
    if missing := [name for name, glob in zip(names, deciding, strict=True) if glob is None]:
        which = f"{len(missing)} leaves" if len(missing) > 1 else "a leaf"
        raise ValueError(f"rules must match every leaf, but none matches {which}: {', '.join(map(quoted, missing))}")
    return [rules[glob] for glob in deciding if glob is not None]


def _shardings(shardings: Any, abstract: Any, leaves: Sequence[Any]) -> list[Any]:
    """Return each leaf's sharding, or None where there is none."""
    if shardings is None:
        return [placed("the sharding of a leaf", getattr(leaf, "sharding", None)) for leaf in leaves]

    def is_none(one: Any) -> bool:
        return one is None

    try:
        each = jax.tree.leaves(jax.tree.broadcast(shardings, abstract, is_leaf=is_none), is_leaf=is_none)
    except ValueError as error:
        reason = printable(str(error).partition("\n")[0])
        raise ValueError(f"shardings must have the structure of the tree, or the beginning of it: {reason}") from None
    return [placed("every leaf of shardings", one) for one in each]
