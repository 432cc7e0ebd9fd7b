"""The null hypothesis of verification: a distribution rounded to a dtype, in bins."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit.core.arrays import Array, Floats
from fastinit.distributions import Constant, Distribution

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGMAS = (4.0, 4.25, 4.5, 4.75, 5.0, 5.5, 6.0, 6.5)
BINS = 4096  # of 32 and 64-bit values; every pattern of a 16-bit type has its own


class Grid(NamedTuple):
    """How values of 32 and 64 bits become z, and find their bin: ``z * scale + offset`` rounded down, held inside."""

    numbers: Array  # in the dtype: the mean, what its rounding has left, 1 / std, and the largest finite number
    scale: Any  # float32, and so is z
    offset: Any
    bins: int


class Null(NamedTuple):
    """A distribution rounded to a dtype."""

    edges: Floats  # of the bins in real numbers, where rounding changes over: the first and last are infinite
    cdf: Floats  # at the edges, and the rest of the probability; each precise where it is small
    sf: Floats
    mass: Floats
    z: Floats  # in the middle of each bin
    moments: Floats  # E z**k for k in 0 ... 12
    binned: Floats  # the same of z in the middle of the bins, for k in 0 ... 16
    grid: Grid | None  # 32 and 64 bits
    table: NDArray[np.float32]  # the normal score of each bin, or of each 16-bit pattern; empty where it is z itself
    scores: Floats  # of each bin
    fourth: float  # E g**4 of the scores, which have mean 0 and variance 1
    magnitude: Floats  # mean, std, skewness and kurtosis of |g|
    bin_of: Any  # 16 bits: the bin of each pattern, -1 for those that are not finite
    beyond: dict[float, Any]  # bins beyond this number of sigma
    spacing: float  # of neighbouring floats, in units of std
    twins: float  # the probability that two elements are equal, and that their digits are
    twin_digits: float
    low: float
    high: float

    def least_of(self, share: float) -> float:
        """Return the magnitude that about this share of the scores has, or passes."""
        order = np.argsort(-abs(self.scores), kind="stable")
        at = int(np.searchsorted(np.cumsum(self.mass[order]), share))
        return float(abs(self.scores[order[min(at, order.size - 1)]])) if share < 1 else 0.0


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
        z = standardised(_ordered(middle).view(dtype), grid)
        with np.errstate(over="ignore"):
            there = np.clip(z * grid.scale + grid.offset, 0, grid.bins - 1).astype(np.int64) >= wanted
        high, low = np.where(there, middle, high), np.where(there, low, middle + 1)
    found: Array = _ordered(high).view(dtype)
    return found


def standardised(x: Array, grid: Grid) -> NDArray[np.float32]:
    """Return z of values of 32 and 64 bits, to the last bit as the pass over an array computes it."""
    shift, rest, inverse, _ = grid.numbers
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(((x - shift) - rest) * inverse, np.float32)


def scores_of(x: Array, null: Null) -> NDArray[np.float32]:
    """Return the normal scores of values; 0 of those that are not finite."""
    from fastinit.kernels.measures import FARTHEST

    if null.grid is None:
        return np.asarray(null.table[x.view(np.uint16)])
    z = np.where(np.isfinite(x), standardised(x, null.grid), np.float32(0))
    if not null.table.size:
        return np.clip(z, -FARTHEST, FARTHEST)
    with np.errstate(over="ignore"):
        places = np.clip(z * null.grid.scale + null.grid.offset, 0, null.grid.bins - 1)
    return np.asarray(null.table[places.astype(np.int64)])


def _normal_scores(cdf: Floats, sf: Floats, mass: Floats) -> Floats:
    """Return the scores of bins: normal quantiles of the middles of their probabilities, with mean 0, variance 1."""
    from scipy.special import ndtri

    chances, rest = ((side[:-1] + side[1:]) / 2 for side in (cdf, sf))
    g = np.clip(np.where(chances < 0.5, ndtri(chances), -ndtri(rest)), -9, 9)
    g -= (mass * g).sum()
    return np.asarray(g / math.sqrt((mass * g * g).sum()))


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
    from fastinit.kernels.measures import STEPS
    from fastinit.sampling.lowering import lower

    if distribution.support[0] == distribution.support[1] or distribution.std == 0:
        return Constant(float(np.asarray(distribution.mean).astype(dtype)))
    lowered = lower(distribution, dtype)
    low, high = float(lowered.low), float(lowered.high)
    grid: Grid | None = None
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
        std, bins_of_std = distribution.std, BINS * distribution.std / (end - start)
        shift = dtype.type(distribution.mean)
        numbers = np.array([shift, distribution.mean - float(shift), 1 / std, mine.max], dtype)
        offset = (distribution.mean - start) / std * bins_of_std
        grid = Grid(numbers, np.float32(bins_of_std), np.float32(offset), BINS)
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
        beyond = {t: abs(atoms - distribution.mean) > t * distribution.std for t in SIGMAS}
        twins, spacing = float((mass**2).sum()), 0.0
    else:
        moments = distribution.standard_moments
        number, per_sigma = np.arange(BINS), BINS * distribution.std / (end - start)
        centre = (distribution.mean - start) / (end - start) * BINS
        below, above = ({t: round(centre + sign * t * per_sigma) for t in SIGMAS} for sign in (-1, 1))
        beyond = {t: (number < below[t]) | (number >= above[t]) for t in SIGMAS}
        wide, ulp = np.diff(edges[1:-1]), np.spacing(np.maximum(abs(first[:-1]), abs(first[1:]))).astype(np.float64)
        twins = float((mass[1:-1] ** 2 * np.minimum(1, ulp / wide)).sum())
        spacing = float(np.spacing(dtype.type(max(abs(start), abs(end))))) / distribution.std
        inner = np.concatenate([edges[1:2], edges[1:-2] + wide / 2, edges[-2:-1]])
        z = (inner - distribution.mean) / distribution.std
    if distribution.bounded:
        beyond = {}
    scores = _normal_scores(cdf, sf, mass)
    table, fourth = scores.astype(np.float32), float((mass * scores**4).sum())
    if dtype.itemsize == 2:
        table = np.where(finite, table[bin_of], np.float32(0))
    elif abs(scores - z)[mass > 1e-9].max() < 1e-2:  # a normal, whose scores are z
        table, fourth = np.empty(0, np.float32), 3.0
    magnitude = abs(scores)
    centred = magnitude - (mass * magnitude).sum()
    width = math.sqrt((mass * centred**2).sum())
    shape = [(mass * centred**k).sum() / width**k if width else 0.0 for k in (3, 4)]
    digits = np.bincount(np.minimum(magnitude * STEPS, 255).astype(np.int64), mass)
    binned = np.array([(mass * z**k).sum() for k in range(17)])
    return Null(
        edges, cdf, sf, mass, z, moments, binned, grid, table, scores, fourth,
        np.array([(mass * magnitude).sum(), width, *shape]), bin_of, beyond, spacing, twins, float((digits**2).sum()),
        low, high,
    )  # fmt: skip
