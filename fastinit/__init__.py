"""Neural-network weight initialization at the speed of the memory."""

import importlib
from typing import TYPE_CHECKING, Any

from fastinit.core.forks import load
from fastinit.core.keys import STREAM_FORMAT
from fastinit.distributions import Constant, Distribution, Normal, TruncatedNormal, Uniform
from fastinit.initializers.base import Initializer
from fastinit.initializers.connections import Fans, fans
from fastinit.initializers.elementwise import constant, normal, ones, truncated_normal, uniform, zeros
from fastinit.initializers.gains import gain
from fastinit.initializers.parsing import parse
from fastinit.initializers.scaling import (
    glorot_normal,
    glorot_truncated_normal,
    glorot_uniform,
    he_normal,
    he_truncated_normal,
    he_uniform,
    kaiming_normal,
    kaiming_truncated_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_truncated_normal,
    lecun_uniform,
    variance_scaling,
    xavier_normal,
    xavier_truncated_normal,
    xavier_uniform,
)
from fastinit.initializers.structured import delta_orthogonal, dirac, eye, orthogonal, sinusoidal, sparse
from fastinit.initializers.tables import table
from fastinit.sampling.filling import array, fill, warmup, words

if TYPE_CHECKING:
    from fastinit.propagation.recommendation import Recommendation, recommend
    from fastinit.propagation.simulation import Propagation, propagate
    from fastinit.verification.report import Report, Result
    from fastinit.verification.verifier import verify

__version__ = "0.1.0"

_LATER = {  # where names are that a process which only fills does not need
    "Propagation": "propagation.simulation",
    "Recommendation": "propagation.recommendation",
    "Report": "verification.report",
    "Result": "verification.report",
    "propagate": "propagation.simulation",
    "recommend": "propagation.recommendation",
    "verify": "verification.verifier",
}


def __getattr__(name: str) -> Any:
    """Import what is in `_LATER`, when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"fastinit.{_LATER[name]}"
    load(module)
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__() -> list[str]:
    """List all public names."""
    return sorted({*globals(), *__all__})


__all__ = [
    "STREAM_FORMAT",
    "Constant",
    "Distribution",
    "Fans",
    "Initializer",
    "Normal",
    "Propagation",
    "Recommendation",
    "Report",
    "Result",
    "TruncatedNormal",
    "Uniform",
    "array",
    "constant",
    "delta_orthogonal",
    "dirac",
    "eye",
    "fans",
    "fill",
    "gain",
    "glorot_normal",
    "glorot_truncated_normal",
    "glorot_uniform",
    "he_normal",
    "he_truncated_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_truncated_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_truncated_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "parse",
    "propagate",
    "recommend",
    "sinusoidal",
    "sparse",
    "table",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "verify",
    "warmup",
    "words",
    "xavier_normal",
    "xavier_truncated_normal",
    "xavier_uniform",
    "zeros",
]
