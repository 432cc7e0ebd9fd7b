"""Moments by quadrature; those of the standard normal on an interval with the same bits on every processor.

A truncated distribution's parameters come from here and decide its values. NumPy's exp, its dot products and the C
library's exp choose their code by the processor and differ in the last bit, which a float64 draw shows; the arithmetic
below is plain IEEE operations in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.core.environment import in_default

# Gauss-Legendre of ten points on [-1, 1]: nodes above zero, and weights (Abramowitz and Stegun, table 25.4)
_RULE = (
    (0.14887433898163122, 0.29552422471475287),
    (0.4333953941292472, 0.26926671930999635),
    (0.6794095682990244, 0.21908636251598204),
    (0.8650633666889845, 0.1494513491505806),
    (0.9739065285171717, 0.06667134430868814),
)
_PANELS = 32
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # the first with room for an exact product
_TINY = 2.0**-1022
_ROOT_TWO_PI = 2.5066282746310002


@dataclass(frozen=True)
class Moments:
    """Probability of an interval under the standard normal, and its mean and standard deviation there."""

    probability: float
    mean: float
    std: float


def exp(x: float) -> float:
    """Return exp(x) for x <= 0, to 2e-16 relative: Taylor's series within half a factor of two.

    Examples
    --------
    >>> exp(-1.0)
    0.36787944117144233
    """
    if x < -745.2:
        return 0.0
    twos = round(x * 1.4426950408889634)
    rest = (x - twos * _LN2_HIGH) - twos * _LN2_LOW
    value = 1.0
    for k in range(14, 0, -1):
        value = 1.0 + rest * value / k
    return math.ldexp(value, twos)


@lru_cache(maxsize=1024)
@in_default
def standard_moments(a: float, b: float) -> Moments:
    """Return probability, mean and standard deviation of a standard normal on [a, b], to some 1e-15.

    By quadrature of the density relative to its largest value on the interval: the closed forms cancel where the
    interval is narrow or far out.

    Raises
    ------
    ValueError
        If the probability is below the smallest normal float64, 2.2e-308: beyond some 37 sigma.

    Examples
    --------
    >>> standard_moments(-2.0, 2.0).std
    0.8796256610342398
    """
    if b <= 0:
        mirror = standard_moments(-b, -a)
        return Moments(mirror.probability, -mirror.mean, mirror.std)
    edge = max(a, 0.0)
    # beyond this distance from the edge the density has fallen below exp(-46) = 1e-20 of its largest value
    reach = 92 / (edge + math.sqrt(edge * edge + 92))
    low, high = max(a - edge, -reach), min(b - edge, reach)
    centre, half = (low + high) / 2, (high - low) / (2 * _PANELS)
    points: list[tuple[float, float]] = []  # (distance from the edge, weighted density)
    for panel in range(_PANELS):
        middle = centre + (2 * panel + 1 - _PANELS) * half
        for node, weight in _RULE:
            for t in (middle - node * half, middle + node * half):
                points.append((t, weight * exp(-t * (t + 2 * edge) / 2)))  # noqa: PERF401 - three loops, one list
    total = math.fsum(density for _, density in points)
    mean = math.fsum(density * t for t, density in points) / total
    variance = math.fsum(density * (t - mean) * (t - mean) for t, density in points) / total
    probability = total * half / _ROOT_TWO_PI * exp(-edge * edge / 2)
    if probability < _TINY:
        raise ValueError(
            f"the interval [lower, upper] is [{a:.6g}, {b:.6g}] sigma from the mean, and its probability underflows: "
            "it must be at least 2.2e-308"
        )
    return Moments(probability, edge + mean, math.sqrt(variance))


def moments_of_density(density: Callable[[Floats], Floats], low: float, high: float) -> Floats:
    """Return E z**k for k in 0 ... 12, standardised, by Gauss-Legendre on 64 panels; for verification alone.

    ``density`` may lack a constant factor.

    Examples
    --------
    >>> moments_of_density(np.ones_like, -1.0, 1.0)[:5].round(12).tolist()
    [1.0, 0.0, 1.0, 0.0, 1.8]
    """
    nodes, weights = np.polynomial.legendre.leggauss(24)
    panels = np.linspace(low, high, 65)
    half = (panels[1] - panels[0]) / 2
    x = ((panels[:-1] + half)[:, None] + half * nodes).ravel()
    mass = np.tile(weights, 64) * density(x)
    mass /= mass.sum()
    x = x - (mass * x).sum()
    x /= math.sqrt((mass * x * x).sum())
    return np.array([(mass * x**k).sum() for k in range(13)])
