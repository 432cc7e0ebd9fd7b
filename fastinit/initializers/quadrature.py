"""Mean square of a function of a standard normal, by quadrature that finds kinks and jumps by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastinit.core.text import quoted
from fastinit.distributions.moments import exp

# Gauss-Kronrod of 15 and 7 points on [-1, 1], QUADPACK's dqk15: nodes from the outermost to the middle, both weights
_RULE = (
    (0.991455371120812639206854697526329, 0.022935322010529224963732008058970, 0.0),
    (0.949107912342758524526189684047851, 0.063092092629978553290700663189204, 0.129484966168869693270611432679082),
    (0.864864423359769072789712788640926, 0.104790010322250183839876322541518, 0.0),
    (0.741531185599394439863864773280788, 0.140653259715525918745189590510238, 0.279705391489276667901467771423780),
    (0.586087235467691130294144691693013, 0.169004726639267902826583426598550, 0.0),
    (0.405845151377397166906606412076961, 0.190350578064785409913256402421014, 0.381830050505118944950369775488975),
    (0.207784955007898467600689403773245, 0.204432940075298892414161999234649, 0.0),
    (0.0, 0.209482141084727828012999174891714, 0.417959183673469387755102040816327),
)
_ROOT_TWO_PI = 2.5066282746310002
_END = 38  # beyond it the density underflows
_PANELS = 4  # to a unit, before any is halved: a feature narrower than some 1/100 may fall between the points
_HALVINGS = 60  # of a panel: to the last bit of a place
_MOST = 5000  # panels
_EACH, _ALL = 1e-14, 1e-10  # errors allowed, relative to the whole: of a panel that is not halved, and of all together


def mean_square(f: Callable[[float], Any]) -> float:
    """Return E[f(z)**2] for a standard normal z, to 1e-10 relative, kinks and jumps included.

    Panels of a quarter are halved wherever Gauss-Kronrod's two rules disagree, so that a jump is closed in on from both
    sides. The points are finite and lie in (-38, 38), none on a multiple of 1/4.

    Parameters
    ----------
    f
        Called with floats, one at a time.

    Raises
    ------
    TypeError
        If f returns no real number.
    ValueError
        If f is not finite somewhere, or the integral does not converge.

    Examples
    --------
    >>> round(mean_square(lambda z: max(z, 0.0)), 12)
    0.5
    """
    width = 1 / _PANELS
    panels = [(k * width, (k + 1) * width, 0) for k in range(-_END * _PANELS, _END * _PANELS)]
    first = [_panel(f, low, high) for low, high, _ in panels]
    whole = math.fsum(value for value, _ in first)
    done: list[tuple[float, float]] = []
    open_panels = list(zip(panels, first, strict=True))
    made = len(open_panels)
    while open_panels:
        (low, high, depth), (value, error) = open_panels.pop()
        if error <= _EACH * whole or depth == _HALVINGS:
            done.append((value, error))
            continue
        made += 2
        if made > _MOST:
            raise ValueError(f"the mean of f(z)**2 does not converge for f = {_named(f)} near z = {low:.6g}")
        middle = (low + high) / 2
        open_panels.append(((low, middle, depth + 1), _panel(f, low, middle)))
        open_panels.append(((middle, high, depth + 1), _panel(f, middle, high)))
    total = math.fsum(value for value, _ in done)
    edges = first[0][0] + first[-1][0]  # of a mean that exists, nothing is left so far out
    if not math.fsum(error for _, error in done) <= _ALL * total or edges > _ALL * total:
        raise ValueError(f"the mean of f(z)**2 does not converge within {_END} sigma for f = {_named(f)}")
    return total


def _panel(f: Callable[[float], Any], low: float, high: float) -> tuple[float, float]:
    """Return the integral of f**2 and the density over a panel, and the difference of the two rules."""
    centre, half = (low + high) / 2, (high - low) / 2
    kronrod = gauss = 0.0
    for node, weight, coarse in _RULE:
        for z in {centre - node * half, centre + node * half}:
            value = _value(f, z)
            term = value * value * exp(-z * z / 2)
            kronrod += weight * term
            gauss += coarse * term
    scale = half / _ROOT_TWO_PI
    return kronrod * scale, abs(kronrod - gauss) * scale


def _value(f: Callable[[float], Any], z: float) -> float:
    """Return one value of f, checked."""
    import numpy as np

    with np.errstate(all="ignore"):
        result = f(z)
    try:
        value = float(result)
    except (TypeError, ValueError):
        raise TypeError(
            f"f must return a real number, got {quoted(result)} of f = {_named(f)} at z = {z:.6g}"
        ) from None
    if not math.isfinite(value * value):
        raise ValueError(f"f(z)**2 must be finite, got f(z) = {value} of f = {_named(f)} at z = {z:.6g}")
    return value


def _named(f: Callable[[float], Any]) -> str:
    """Return the name of a function for errors."""
    return str(getattr(f, "__name__", f))
