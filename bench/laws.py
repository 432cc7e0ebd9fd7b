"""The exact law of the values that can be drawn, from SciPy's distributions: for `bench.samples`.

A float stands for all real numbers that round to it, so probabilities are taken at the boundaries between floats. Where
words make less than a distribution has, that is counted: the 2**24 values of a float32 uniform, and the radii of a
float32 normal, of which 32 bits make the farthest ones.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from fastinit.core.dtypes import dtype_of
from fastinit.verification.null_distribution import patterns

Array = np.ndarray[Any, Any]

BINS = 1 << 16
LEAST_MASS = 2.0**-20  # of a bin of bfloat16, where bins are whole values
NEAR_BOUND = {2: (4, 5, 6, 7), 4: (10, 14, 18, 22), 8: (10, 14, 18, 22)}  # by bytes: a tail is within 2**-k of a bound
SIGMAS = (4.0, 4.5, 5.0, 5.5, 6.0, 6.5)


class Law(NamedTuple):
    """The probabilities of a distribution in a dtype. Edges and thresholds are numbers of the dtype."""

    edges: Array  # the first number of each bin; from -inf to inf
    mass: Array  # of each bin
    lows: Array  # thresholds: how many elements are below, how many above
    highs: Array
    tails: list[tuple[str, float]]  # below each of the first, above each of the second
    support: tuple[float, float]
    moments: Array  # E z**k, k = 0 ... 8, of z = (x - mean) / std
    mean: float
    std: float


def _next(numbers: Array, dtype: str, step: int) -> Array:
    """Return the next number of a dtype after each, or before it for a step of -1."""
    if dtype == "bfloat16":
        every = _finite(dtype)
        return np.asarray(every[np.searchsorted(every, numbers) + step])
    return np.asarray(np.nextafter(numbers.astype(dtype), step * np.inf, dtype=dtype), np.float64)


def _finite(dtype: str) -> Array:
    """Return the finite numbers of a 16-bit dtype, in their order."""
    every = patterns(dtype_of(dtype))
    return np.asarray(np.unique(every[np.isfinite(every)]))


def _boundary(numbers: Array, dtype: str) -> Array:
    """Return where rounding begins to make each number, and not the one before it."""
    before = _next(numbers, dtype, -1)
    return np.asarray(before + (numbers - before) / 2)


def _bins_of_atoms(atoms: Array, of_atoms: Array, least: float) -> Array:
    """Return the edges of bins of whole atoms, from below, each of a least probability."""
    edges, gathered = [-np.inf], 0.0
    for atom, probability in zip(atoms.tolist(), of_atoms.tolist(), strict=True):
        if gathered >= least:
            edges.append(atom)
            gathered = 0.0
        gathered += probability
    kept = edges if gathered >= least else edges[:-1]  # the rest joins the last one
    return np.array([*kept, np.inf])


def _beyond_radius(t: float) -> float:
    """Return P(X > t) of a normal made of two 32-bit words: over the radii, the part of the circle that is beyond."""
    words = np.arange(math.ceil(2.0**32 * math.exp(-t * t / 2)))
    radius = np.sqrt(-2 * np.log((words + 0.5) * 2.0**-32))
    return float(np.arccos(t / radius[radius > t]).sum() / math.pi * 2.0**-32)


def law_of(name: str, dtype: str, size: int) -> Law:
    """Return the law of a distribution for so many values."""
    single = dtype != "float64"
    reach = 2 + 2.0**-23 if single else 2.0  # up to here, a float32 normal rounds to 2, which is inside
    law = {"uniform": stats.uniform(), "normal": stats.norm(), "truncated_normal": stats.truncnorm(-reach, reach)}[name]
    farthest = math.sqrt(2 * math.log(2) * (33 if single else 65)) + 1e-6  # of a normal: its first word is 0
    support = {"uniform": (0.0, 1.0), "normal": (-farthest, farthest), "truncated_normal": (-2.0, 2.0)}[name]
    made = None
    if name == "uniform" and single:
        fractions = ((np.arange(1 << 24) + 0.5) * 2.0**-24).astype(np.float32)
        made = fractions.astype(dtype_of(dtype)).astype(np.float64)  # in their order

    def below(numbers: Array) -> tuple[Array, Array]:
        """Return P(X < number) and its complement."""
        if made is not None:
            less = np.searchsorted(made, numbers) / len(made)
            return less, 1 - less
        edges = _boundary(numbers, dtype)
        return law.cdf(edges), law.sf(edges)

    def masses(numbers: Array) -> Array:
        """Return the probability from each number to the next, of numbers from -inf to inf."""
        less, more = below(numbers[1:-1])
        less, more = np.concatenate([[0], less, [1]]), np.concatenate([[1], more, [0]])
        return np.asarray(np.where(less[:-1] < 0.5, np.diff(less), -np.diff(more)))

    if dtype == "bfloat16":
        atoms = _finite(dtype)
        atoms = atoms[(atoms >= support[0]) & (atoms <= support[1])]
        of_atoms = masses(np.concatenate([[-np.inf], atoms[1:], [np.inf]]))
        mean = float(of_atoms @ atoms)
        std = math.sqrt(of_atoms @ (atoms - mean) ** 2)
        moments = np.array([of_atoms @ ((atoms - mean) / std) ** k for k in range(9)])
        edges = _bins_of_atoms(atoms, of_atoms, max(LEAST_MASS, 16 / size))
    else:
        mean, std = float(law.mean()), float(law.std())
        moments = np.array([law.expect(lambda x, k=k: ((x - mean) / std) ** k) for k in range(9)])
        inner = law.ppf(np.arange(1, BINS) / BINS).astype(dtype).astype(np.float64)
        edges = np.concatenate([[-np.inf], inner, [np.inf]])

    near = 2.0 ** -np.array(NEAR_BOUND[dtype_of(dtype).itemsize])
    highs = np.array(SIGMAS) if name == "normal" else support[1] - near
    lows = -highs if name == "normal" else support[0] + near
    above = _next(highs, dtype, 1)
    if name == "normal" and single:
        probabilities = [_beyond_radius(t) for t in _boundary(above, dtype)] * 2
    else:
        probabilities = [*below(lows)[0], *below(above)[1]]
    titles = [f"below {x:.10g}" for x in lows] + [f"above {x:.10g}" for x in highs]
    tails = [(title, float(p)) for title, p in zip(titles, probabilities, strict=True)]
    return Law(edges, masses(edges), lows, highs, tails, support, moments, mean, std)
