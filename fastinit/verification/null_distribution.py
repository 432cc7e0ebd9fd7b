"""The null hypothesis of verification: a distribution rounded to a dtype, in bins."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit.core.arrays import Array, Floats
from fastinit.distributions import Constant, Distribution

if TYPE_CHECKING:
    from fastinit.kernels.measures import Grid

SIGMAS = (4.0, 5.0, 5.5, 6.0, 6.5)
BINS = 4096  # of 32 and 64-bit values; every pattern of a 16-bit type has its own


class Null(NamedTuple):
    """A distribution rounded to a dtype."""

    edges: Floats  # of the bins in real numbers, where rounding changes over: the first and last are infinite
    cdf: Floats  # at the edges, and the rest of the probability; each precise where it is small
    sf: Floats
    mass: Floats
    moments: Floats  # E z**k for k in 0 ... 12
    grid: Grid  # 32 and 64 bits
    values: Any  # 16 bits: z of each pattern
    bin_of: Any  # 16 bits: the bin of each pattern, -1 for those that are not finite
    beyond: dict[float, Any]  # bins beyond this number of sigma
    spacing: float  # of neighbouring floats, in units of std
    twins: float  # the probability that two elements are equal, and that their digits are
    twin_digits: float
    low: float
    high: float


def _ordered(patterns: Any) -> Any:
    """Return integers that are ordered like the floats of these patterns, and back."""
    return patterns ^ ((patterns >> (8 * patterns.itemsize - 1)) & np.iinfo(patterns.dtype).max)


def _first_of_bins(grid: Grid, dtype: np.dtype[Any]) -> Array:
    """Return the smallest value of every bin but the first: halving the ordered floats, as a value's bin only grows."""
    word = np.dtype(f"i{dtype.itemsize}")
    most = np.array(np.finfo(dtype).max, dtype).view(word)
    wanted = np.arange(1, grid.bins)
    low = np.full(wanted.size, _ordered((-np.array(np.finfo(dtype).max, dtype)).view(word)), word)
    high = np.full(wanted.size, most, word)
    while (low < high).any():
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        x = _ordered(middle).view(dtype).astype(np.float64)
        there = np.clip((x - grid.origin) * grid.scale, 0, grid.bins - 1).astype(np.int64) >= wanted
        high, low = np.where(there, middle, high), np.where(there, low, middle + 1)
    found: Array = _ordered(high).view(dtype)
    return found


def patterns(dtype: np.dtype[Any]) -> Floats:
    """Return the values of all patterns of a 16-bit type."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        return np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float64)


@lru_cache(maxsize=256)
def null_of(distribution: Distribution, dtype: np.dtype[Any]) -> Null | Constant:
    """Return the null hypothesis of a distribution in a dtype; a constant where only one value is possible.

    Raises
    ------
    ValueError
        If the distribution does not fit the dtype.
    """
    from fastinit.kernels.measures import STEPS, Grid
    from fastinit.sampling.lowering import lower

    if distribution.support[0] == distribution.support[1] or distribution.std == 0:
        return Constant(float(np.asarray(distribution.mean).astype(dtype)))
    lowered = lower(distribution, dtype)
    low, high = float(lowered.low), float(lowered.high)
    if dtype.itemsize == 2:
        every = patterns(dtype)
        finite = np.isfinite(every)
        atoms, back = np.unique(every[finite], return_inverse=True)  # -0 and 0 are one
        middles = atoms[:-1] + np.diff(atoms) / 2
        middles = np.where(atoms[1:] <= low, -np.inf, np.where(atoms[:-1] >= high, np.inf, middles))  # held inside
        edges = np.concatenate([[-np.inf], middles, [np.inf]])
        bin_of = np.full(1 << 16, -1)
        bin_of[finite] = back
    else:
        start, end = distribution.span
        mine = np.finfo(dtype)
        if dtype == np.float32:  # a bound that is no float is known by its nearest one
            low, high = (
                min(low, float(np.float32(distribution.support[0]))),
                max(high, float(np.float32(distribution.support[1]))),
            )
        bounds = dtype.type(low), dtype.type(high)
        grid = Grid(
            distribution.mean, 1 / distribution.std, start, BINS / (end - start), BINS, float(mine.max), *bounds
        )
        first = _first_of_bins(grid, dtype)
        before = np.nextafter(first, dtype.type(-np.inf)).astype(np.float64)
        edges = np.concatenate([[-np.inf], before + (first.astype(np.float64) - before) / 2, [np.inf]])
        bin_of = None
    cdf, sf = distribution.cdf(edges), distribution.mirror.cdf(-edges)
    cdf[0], sf[-1], cdf[-1], sf[0] = 0, 0, 1, 1
    mass = np.maximum(np.where(cdf[:-1] < 0.5, np.diff(cdf), -np.diff(sf)), 0)
    if dtype.itemsize == 2:
        mean = (mass * atoms).sum()
        away = atoms - mean
        inside = mass > 0
        std = math.sqrt((mass[inside] * away[inside] ** 2).sum())
        if std == 0:
            return Constant(float(atoms[mass.argmax()]))
        z = np.where(inside, away / std, 0)
        moments = np.array([(mass * z**k).sum() for k in range(13)])
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.where(finite, (every - mean) / std, 0).astype(np.float32)
        grid = Grid(mean, 1 / std, 0.0, 0.0, 0, 0.0, 0.0, 0.0)
        beyond = {t: abs(atoms - distribution.mean) > t * distribution.std for t in SIGMAS}
        digits = np.floor(np.clip(z * STEPS, -128, 127)).astype(np.int64) + 128
        twin_digits = float((np.bincount(digits, mass) ** 2).sum())
        twins, spacing = float((mass**2).sum()), 0.0
    else:
        moments = distribution.standard_moments
        values = None
        number, per_sigma = np.arange(BINS), BINS * distribution.std / (end - start)
        centre = (distribution.mean - start) / (end - start) * BINS
        below, above = ({t: round(centre + sign * t * per_sigma) for t in SIGMAS} for sign in (-1, 1))
        beyond = {t: (number < below[t]) | (number >= above[t]) for t in SIGMAS}
        wide, ulp = np.diff(edges[1:-1]), np.spacing(np.maximum(abs(first[:-1]), abs(first[1:]))).astype(np.float64)
        twins = float((mass[1:-1] ** 2 * np.minimum(1, ulp / wide)).sum())
        spacing = float(np.spacing(dtype.type(max(abs(start), abs(end))))) / distribution.std
        steps = distribution.mean + np.arange(-127, 128) / STEPS * distribution.std
        twin_digits = float((np.diff(distribution.cdf(steps), prepend=0, append=1) ** 2).sum())
    if distribution.bounded:
        beyond = {}
    return Null(edges, cdf, sf, mass, moments, grid, values, bin_of, beyond, spacing, twins, twin_digits, low, high)
