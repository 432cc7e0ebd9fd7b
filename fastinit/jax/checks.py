"""Checks of what would go wrong silently: a weight that is read in torch's layout, a dtype that JAX would narrow."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import numpy as np

from fastinit.core.dtypes import dtype_of
from fastinit.core.text import quoted
from fastinit.initializers.base import FACTORIES, Initializer


def check_init(init: Any) -> Initializer:
    """Return the initializer if it does not read a weight in torch's layout only because no layout was given.

    Raises
    ------
    TypeError
        If it is no initializer of fastinit's.
    ValueError
        If its layout is the default, ``"OI..."``. A weight of JAX's whose outputs are first in fact is said by the
        letters of its axes, such as ``"OI"`` or ``"OIHW"``.

    Examples
    --------
    >>> import fastinit as fi
    >>> check_init(fi.he_normal(layout="...IO"))
    he_normal(layout='...IO')
    """
    if not isinstance(init, Initializer):
        raise TypeError(f"init must be an initializer, such as fastinit.jax.he_normal(), got {quoted(init)}")
    parameter = inspect.signature(FACTORIES[init.factory]).parameters.get("layout")
    if parameter is not None and "layout" not in dict(init.arguments):
        last = "'IO'" if parameter.default == "OI" else "'...IO', as those of fastinit.jax have"
        other = "" if parameter.default == "OI" else ", or for outputs first the letters of all axes, as 'OI' or 'OIHW'"
        raise ValueError(
            f"init reads a weight in torch's layout, {parameter.default!r}, and JAX's weights have their outputs last: "
            f"give it layout={last}{other}; got {quoted(init)}"
        )
    return init


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """Return NumPy's dtype if JAX stores it as it is.

    Raises
    ------
    TypeError
        If it names no dtype.
    ValueError
        If it has 64 bits and JAX does not, by ``jax_enable_x64``.

    Examples
    --------
    >>> check_dtype("bfloat16")
    dtype(bfloat16)
    """
    wanted = dtype_of(dtype)
    stored: np.dtype[Any] = np.dtype(jax.dtypes.canonicalize_dtype(wanted))
    if stored != wanted:
        raise ValueError(
            f"dtype {wanted.name} must be enabled by jax.config.update('jax_enable_x64', True), or be {stored.name}, "
            f"to which JAX would narrow it; got {quoted(dtype)}"
        )
    return wanted
