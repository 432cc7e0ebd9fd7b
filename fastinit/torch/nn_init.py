"""torch.nn.init's functions, drawn by fastinit: the same names, arguments, defaults and errors, with seed and name.

Each calls torch's own function, so that its checks, its formulas and its numbers are torch's, in a context that draws.
Those that are random take two more arguments, by name: ``seed`` in [0, 2**64), and ``name``, a string or an integer in
[0, 2**63), which have no defaults. Their ``generator`` must be None. The interval of ``trunc_normal_`` is in values,
not in sigma; Xavier's and Kaiming's bounds are computed as torch does, which differs in the last bit from
`fastinit.xavier_uniform` for some fans.

>>> import fastinit as fi, torch
>>> from fastinit.torch import nn_init
>>> w = nn_init.kaiming_normal_(torch.empty(3, 8), nonlinearity="relu", seed=0, name="w")
>>> bool((w.numpy() == fi.array((3, 8), fi.normal(std=0.5), seed=0, name="w")).all())
True
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor  # noqa: TC002 - doctests and readers find it
from torch.nn import init
from torch.nn.init import calculate_gain

from fastinit.core.text import quoted
from fastinit.torch.contexts import Single

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _drawn(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function of torch's that draws by seed and name."""

    @functools.wraps(function)
    def draw(*args: Any, seed: int, name: str | int, **kwargs: Any) -> Tensor:
        generator = inspect.signature(function).bind(*args, **kwargs).arguments.get("generator")
        if generator is not None:
            raise ValueError(f"generator must be None, since seed and name decide, got {quoted(generator)}")
        with Single(seed, name):
            return function(*args, **kwargs)

    draw.__doc__ = f"Call ``torch.nn.init.{function.__name__}``, to draw the values of (seed, name)."
    return draw


# these draw nothing
constant_, dirac_, eye_, ones_, zeros_ = init.constant_, init.dirac_, init.eye_, init.ones_, init.zeros_

kaiming_normal_ = _drawn(init.kaiming_normal_)
kaiming_uniform_ = _drawn(init.kaiming_uniform_)
normal_ = _drawn(init.normal_)
orthogonal_ = _drawn(init.orthogonal_)
sparse_ = _drawn(init.sparse_)
trunc_normal_ = _drawn(init.trunc_normal_)
uniform_ = _drawn(init.uniform_)
xavier_normal_ = _drawn(init.xavier_normal_)
xavier_uniform_ = _drawn(init.xavier_uniform_)
