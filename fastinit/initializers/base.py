"""Initializer: a small frozen value that gives a tensor of a given shape its distribution.

A factory's function checks its arguments and returns how a shape is *resolved*: into the distribution of the elements,
or a matrix that is made as a whole. The decorator `initializer` registers it under its name, and makes values of name
and arguments, so that equality, hashing, pickling, the repr and `fastinit.parse` are one mechanism.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from fastinit.core.checks import check_choice, check_shape, suggestion
from fastinit.core.environment import in_default
from fastinit.core.exact import exactly
from fastinit.distributions import Distribution
from fastinit.initializers.matrices import Matrix

P = ParamSpec("P")
Shape = Sequence[int]
Resolve = Callable[[Shape], Distribution | Matrix]

FACTORIES: dict[str, Callable[..., Initializer]] = {}  # by every name that `fastinit.parse` reads
_BUILDS: dict[str, tuple[Callable[..., Resolve], Mapping[str, inspect.Parameter]]] = {}  # which check the arguments


@dataclass(frozen=True, eq=False, repr=False)
class Initializer:
    """Distribution of a tensor by its shape, or the way to make it as a whole; made by a factory such as `he_normal`.

    Initializers of one factory are equal if their arguments are, where 0.0 and -0.0 differ.
    The repr is the text that `parse` reads back.

    Parameters
    ----------
    factory
        A factory's name.
    arguments
        Its arguments, as pairs of a name and a value; those that are the defaults are skipped.

    Examples
    --------
    >>> from fastinit import he_normal
    >>> he_normal(mode="fan_out")
    he_normal(mode='fan_out')
    >>> he_normal(mode="fan_in") == he_normal()
    True
    """

    factory: str
    arguments: tuple[tuple[str, Any], ...]
    resolve: Resolve = field(init=False, compare=False)  # made of the others: equal initializers cannot differ in it
    _key: tuple[Any, ...] = field(init=False, compare=False)

    @in_default
    def __post_init__(self) -> None:
        build, parameters = _BUILDS[check_choice("factory", self.factory, _BUILDS)]
        given = dict(self.arguments)
        resolve = build(**given)
        plain = {name: _plain(given[name]) for name in parameters if name in given}
        changed = tuple(one for one in plain.items() if exactly(one[1]) != exactly(parameters[one[0]].default))
        key = (build.__name__, tuple((name, exactly(value)) for name, value in changed))
        for name, value in zip(
            ("factory", "arguments", "resolve", "_key"), (key[0], changed, resolve, key), strict=True
        ):
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Initializer) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    @in_default
    def distribution(self, global_shape: Shape) -> Distribution:
        """Return the distribution of the elements of a tensor of this shape.

        Parameters
        ----------
        global_shape
            The shape of the whole tensor, also where only a shard of it is filled: the fans come from it.

        Raises
        ------
        TypeError
            If the elements have no distribution of their own: those of `orthogonal`, `delta_orthogonal`, `eye`,
            `dirac`, `sparse`, `sinusoidal` and `table` depend on each other or are given.
        ValueError
            If the initializer needs fans that the shape does not have.

        Examples
        --------
        >>> from fastinit import he_normal
        >>> he_normal().distribution((256, 128)).std
        0.125
        """
        found = self.resolve(check_shape("global_shape", global_shape))
        if isinstance(found, Matrix):
            raise TypeError(
                f"{self} has no distribution: the elements of its tensors depend on each other; make the tensor, with "
                "fastinit.array, and look at that"
            )
        return found

    def __repr__(self) -> str:
        return f"{self.factory}({', '.join(f'{name}={value!r}' for name, value in self.arguments)})"

    def __reduce__(self) -> tuple[type[Initializer], tuple[str, tuple[tuple[str, Any], ...]]]:
        return Initializer, (self.factory, self.arguments)


def initializer(build: Callable[P, Resolve]) -> Callable[P, Initializer]:
    """Register ``build`` by its name, and return the factory of the initializers that it resolves."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def factory(*args: P.args, **kwargs: P.kwargs) -> Initializer:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            unknown = next((name for name in kwargs if name not in signature.parameters), None)
            near = "" if unknown is None else suggestion(unknown, signature.parameters)
            if unknown is not None and not near:
                near = f"it takes {', '.join(signature.parameters) or 'no arguments'}; "
            raise TypeError(f"{build.__name__}: {near}{error}") from None
        return Initializer(build.__name__, tuple(given.items()))

    factory.__signature__ = signature.replace(return_annotation=Initializer)  # type: ignore[attr-defined]
    FACTORIES[build.__name__] = factory
    _BUILDS[build.__name__] = build, signature.parameters
    return factory


def alias(name: str, factory: Callable[P, Initializer]) -> Callable[P, Initializer]:
    """Register a factory under a second name, and return it."""
    FACTORIES[name], _BUILDS[name] = factory, _BUILDS[factory.__name__]
    return factory


def everywhere(distribution: Distribution) -> Resolve:
    """Return the resolution of every shape into this distribution."""
    return lambda shape: distribution


def _plain(value: Any) -> Any:
    """Return an argument as its repr should show it: numbers of other kinds as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else float(value)
