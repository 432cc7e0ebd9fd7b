"""JAX's names of the initializers that read a weight's layout, with JAX's layout and JAX's distributions.

One table: JAX's name, and the factory of fastinit's with the same distribution. JAX's normals by fans are truncated.
The others of ``jax.nn.initializers`` have no layout: take fastinit's, by docs/frameworks.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import fastinit as fi
from fastinit.initializers.base import Initializer

P = ParamSpec("P")
LAYOUT = "...IO"


def _of_jax(name: str, factory: Callable[P, Initializer], given: str = "") -> Callable[P, Initializer]:
    """Return the factory under JAX's name, whose layout is JAX's unless another one is given."""

    def made(*args: P.args, **kwargs: P.kwargs) -> Initializer:
        options: dict[str, Any] = {"layout": LAYOUT} | kwargs
        return factory(*args, **options)

    signature = inspect.signature(factory)
    parameters = [one.replace(default=LAYOUT) if one.name == "layout" else one for one in signature.parameters.values()]
    made.__name__ = made.__qualname__ = name
    made.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    made.__doc__ = (
        f"Return `fastinit.{factory.__name__}` with JAX's layout: the distribution of JAX's ``{name}``.\n\n"
        f"Parameters\n----------\n*args, **kwargs\n    As for `fastinit.{factory.__name__}`; ``layout`` is "
        f"``{LAYOUT!r}`` by default.\n\n"
        f"Examples\n--------\n>>> {name}({given})\n{factory.__name__}(layout={LAYOUT!r})\n"
    )
    return made


variance_scaling = _of_jax("variance_scaling", fi.variance_scaling, "1.0, 'fan_in', 'truncated_normal'")
glorot_uniform = _of_jax("glorot_uniform", fi.xavier_uniform)
glorot_normal = _of_jax("glorot_normal", fi.xavier_truncated_normal)
xavier_uniform = _of_jax("xavier_uniform", fi.xavier_uniform)
xavier_normal = _of_jax("xavier_normal", fi.xavier_truncated_normal)
lecun_uniform = _of_jax("lecun_uniform", fi.lecun_uniform)
lecun_normal = _of_jax("lecun_normal", fi.lecun_truncated_normal)
he_uniform = _of_jax("he_uniform", fi.he_uniform)
he_normal = _of_jax("he_normal", fi.he_truncated_normal)
kaiming_uniform = _of_jax("kaiming_uniform", fi.he_uniform)
kaiming_normal = _of_jax("kaiming_normal", fi.he_truncated_normal)
orthogonal = _of_jax("orthogonal", fi.orthogonal)
delta_orthogonal = _of_jax("delta_orthogonal", fi.delta_orthogonal)
