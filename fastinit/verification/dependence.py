"""Dependence between lines: between any two rows or columns, among many at once, and what it does to the spectrum.

The scores of a line of n elements, as a vector, point into any direction equally. The cosine r of the angle of two
lines then is such that r sqrt((n - 1) / (1 - r**2)) has Student's distribution with n - 1 degrees of freedom, and the
cosines of many pairs are uncorrelated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.core.arrays import Floats
from fastinit.sampling.threads import run
from fastinit.verification import pvalues
from fastinit.verification.evidence import Evidence
from fastinit.verification.geometry import Axis, axes_of
from fastinit.verification.lines import Sums, deviates
from fastinit.verification.null_distribution import Null, scores_of
from fastinit.verification.pieces import Pieces

Matrix = NDArray[np.float32]

RUN = 16  # elements that are taken side by side: a line of the cache
MOST_AXES = 4  # whose lines are compared
LEAST = 64  # elements of a line
LEAST_LINES = 32  # for the tests of all of their cosines
LEAST_PAIRS = 1 << 10  # of elements, whose products have a sum that is normal enough
TASK = 256  # lines that a thread multiplies with all before them
SQUARE = 1024  # rows and columns that are compared with their transpose
STEPS = 64  # of Lanczos' method: twice as many change s by less than 1e-3
PLOTTED = 128  # lines of the picture


class Effort(NamedTuple):
    """How much is looked at, for each axis."""

    copies: int  # elements of all lines together, in the search for equal ones
    lines: int  # between which all cosines are computed along many elements, and the spectrum
    elements: int  # of these lines together
    many: int  # lines between which cosines are computed along few elements
    few: int  # of these elements, of one line


FAST, FULL = Effort(1 << 18, 128, 1 << 18, 0, 0), Effort(1 << 20, 256, 1 << 22, 2048, 512)


def test_dependence(array: Pieces, null: Null, full: bool, threads: int, evidence: Evidence) -> Floats:
    """Make the tests of the lines of each axis; return the cosines between some lines of the first."""
    plotted = np.zeros((0, 0))
    axes = [(k, axis) for k, axis in enumerate(axes_of(array.shape)) if axis.size > 1]
    if array.ndim < 2:
        evidence.skip("pairs of lines", "needs two axes")
        axes = []
    for k, axis in [*axes[:1], *axes[-1:], *axes[1:-1]][: min(MOST_AXES, len(axes))]:
        along = array.size // axis.size
        if along < LEAST or null.mass.max() > 0.25:
            evidence.skip(f"pairs of {axis.name}", f"needs {LEAST} elements of each, and values that differ")
            continue
        effort = FULL if full else FAST
        matrix = _test_axis(array, k, axis, along, null, effort, threads, evidence)
        plotted = matrix if k == 0 or not len(plotted) else plotted
    if array.ndim == 2:
        _test_diagonals(array, null, evidence)
    return plotted


def _test_axis(
    array: Pieces, k: int, axis: Axis, along: int, null: Null, effort: Effort, threads: int, evidence: Evidence
) -> Floats:
    """Make the tests of the lines along one axis; return the cosines of some."""
    every = np.arange(axis.size)
    some = _evenly(axis.size, effort.lines)
    long = _lines(array, k, some, min(along, max(LEAST, effort.elements // len(some))), null)
    matrix = np.eye(len(long), dtype=np.float32)
    worst, beside = [_farthest(long, some, threads, matrix)], long
    if len(some) < axis.size:
        beside = _lines(array, k, every, min(along, max(RUN, effort.copies // axis.size)), null)
        worst.append(_copies(beside))
        many = _evenly(axis.size, effort.many)
        if len(many) > len(some):
            few = min(along, effort.few, max(LEAST, array.size >> 13))  # so that small arrays take little time
            worst.append(_farthest(_lines(array, k, many, few, null), many, threads))
    pairs = axis.size * (axis.size - 1) // 2
    pvalue, r, first, second = min(worst)
    what = "are equal up to sign and scale" if abs(r) > 1 - 1e-5 else f"have a correlation of {r:.3g}"
    detail = f"{axis.words(first, first)} and {second} {what}"
    evidence.add(f"pairs of {axis.name}", r, pairs * len(worst) * pvalue, detail)
    _test_neighbours(beside, axis, evidence)
    _test_spectrum(matrix.astype(np.float64), long.shape[1], axis, evidence)
    return np.asarray(matrix[:PLOTTED, :PLOTTED], np.float64)


def _lines(array: Pieces, k: int, lines: NDArray[np.int64], elements: int, null: Null) -> Matrix:
    """Return the scores of lines along an axis at some of their elements, as vectors of length 1."""
    others = [size for axis, size in enumerate(array.shape) if axis != k]
    along = math.prod(others)
    if elements >= along:
        places = np.arange(along)
    else:
        runs = max(1, elements // RUN)
        places = (np.linspace(0, along - RUN, runs).astype(np.int64)[:, None] + np.arange(RUN)).ravel()
    index = list(np.unravel_index(places, others))
    index.insert(k, lines)
    index = [part[: len(part) // 4 * 4] if axis != k else part for axis, part in enumerate(index)]
    shaped = [part[:, None] if (axis == k) == (k == 0) else part[None, :] for axis, part in enumerate(index)]
    taken = array.take(shaped)
    scores = scores_of(np.ascontiguousarray(taken if k == 0 else taken.T), null)
    norms = np.sqrt(np.einsum("ij,ij->i", scores, scores, dtype=np.float32))[:, None]
    return np.asarray(np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0))


Pair = tuple[float, float, int, int]  # p-value, cosine, and the two lines


def _pair(r: float, first: int, second: int, elements: int) -> Pair:
    """Return a pair of lines with its p-value."""
    freedom = elements - 1
    t = abs(r) * math.sqrt(freedom / max(1 - r * r, 1e-7))
    return 2 * pvalues.student(t, freedom), min(max(r, -1.0), 1.0), min(first, second), max(first, second)


def _evenly(size: int, most: int) -> NDArray[np.int64]:
    """Return up to so many numbers below a size, as far from each other as possible."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


def _farthest(lines: Matrix, numbers: NDArray[np.int64], threads: int, matrix: Matrix | None = None) -> Pair:
    """Return the pair of the largest cosine of all; fill the matrix of all of them, if there is one."""
    from fastinit.kernels.measures import BLOCK, COSINES

    most, at = np.zeros(len(lines), np.float32), np.zeros(len(lines), np.int64)
    out = np.empty((0, 0), np.float32) if matrix is None else matrix

    cosines = COSINES.ready()

    def task(k: int) -> int:
        room = np.empty((lines.shape[1], BLOCK), np.float32)
        cosines(lines, k * TASK, min((k + 1) * TASK, len(lines)), out, most, at, room)
        return TASK

    run(task, -(-len(lines) // TASK), threads)
    worst = int(abs(most).argmax())
    return _pair(float(most[worst]), int(numbers[worst]), int(numbers[at[worst]]), lines.shape[1])


def _copies(lines: Matrix) -> Pair:
    """Return a pair of equal lines, up to sign and scale, if there is one: they are neighbours by any projection."""
    direction = np.random.default_rng(0).standard_normal(lines.shape[1], np.float32)
    order = np.argsort(abs(np.einsum("ij,j->i", lines, direction)))
    found = []
    for step in (1, 2, 3):
        first, second = order[:-step], order[step:]
        if len(first):
            r = np.einsum("ij,ij->i", lines[first], lines[second])
            at = int(abs(r).argmax())
            found.append(_pair(float(r[at]), int(first[at]), int(second[at]), lines.shape[1]))
    return min(found)


def _test_neighbours(lines: Matrix, axis: Axis, evidence: Evidence) -> None:
    """Test the mean of the cosines between each line and the next."""
    r = np.einsum("ij,ij->i", lines[1:], lines[:-1])
    if r.size * lines.shape[1] < LEAST_PAIRS:
        evidence.skip(f"neighbours of {axis.name}", f"needs {LEAST_PAIRS} pairs of elements")
        return
    z = float(r.sum()) * math.sqrt(lines.shape[1] / r.size)
    detail = f"{axis.name} have a correlation of {float(r.mean()):.3g} with the next ones"
    evidence.add(f"neighbours of {axis.name}", z, pvalues.two_sided(z, 0.0), detail)


def _test_spectrum(cosines: Floats, elements: int, axis: Axis, evidence: Evidence) -> None:
    """Test the sum of squared cosines, and the largest eigenvalue of their matrix.

    The squares have mean 1 / n and variance 2 (n - 1) / (n**2 (n + 2)), and any two are uncorrelated; those of three
    lines have a third cumulant of some 4 / n**4. Their sum is the second moment of the eigenvalues, whose law is that
    of Marchenko and Pastur (1967), with Tracy and Widom's (1996) at its upper edge, centred as Johnstone (2001) does.
    Lines of length 1 make the largest one vary less: its p-values are two to four times too large.
    """
    lines, n = len(cosines), elements
    if lines < LEAST_LINES:
        for test in ("dependence", "spectrum"):
            evidence.skip(f"{test} of {axis.name}", f"needs {LEAST_LINES} of them")
        return
    pairs = lines * (lines - 1) / 2
    total = ((cosines**2).sum() - (np.diagonal(cosines) ** 2).sum()) / 2
    variance = pairs * 2 * (n - 1) / (n * n * (n + 2))
    third = 8 * pairs / n**3 + 24 * math.comb(lines, 3) / n**4
    z = (float(total) - pairs / n) / math.sqrt(variance)
    sense = "more" if z > 0 else "less"
    detail = f"{axis.name} depend on each other {sense} than independent ones: {float(total) / (pairs / n):.4g} times"
    evidence.add(f"dependence of {axis.name}", z, pvalues.two_sided(z, third / variance**1.5), detail)
    most = _largest_eigenvalue(cosines)
    root = math.sqrt(n - 1) + math.sqrt(lines)
    s = (n * most - root**2) / (root * (1 / math.sqrt(n - 1) + 1 / math.sqrt(lines)) ** (1 / 3))
    edge = (1 + math.sqrt(lines / n)) ** 2
    detail = f"the largest eigenvalue of the correlations is {most:.4g}, the edge of its law {edge:.4g}"
    evidence.add(f"spectrum of {axis.name}", s, pvalues.tracy_widom(s), detail)


def _largest_eigenvalue(matrix: Floats) -> float:
    """Return the largest eigenvalue of a symmetric matrix, by Lanczos' method: LAPACK would wait for BLAS's threads."""
    steps = min(len(matrix), STEPS)
    basis, diagonal, beside = np.zeros((steps, len(matrix))), np.zeros(steps), np.zeros(steps)
    v = np.random.default_rng(0).standard_normal(len(matrix))
    for k in range(steps):
        basis[k] = v / math.sqrt(float((v * v).sum()))
        v = np.einsum("ij,j->i", matrix, basis[k])
        diagonal[k] = (v * basis[k]).sum()
        for _ in range(2):
            v -= np.einsum("ij,i->j", basis[: k + 1], np.einsum("ij,j->i", basis[: k + 1], v))
        beside[k] = math.sqrt(float((v * v).sum()))
        if beside[k] < 1e-9:
            steps = k + 1
            break
    squares = [0.0, *(beside[: steps - 1] ** 2).tolist()]
    low, high = 0.0, float((abs(diagonal) + beside).max() + beside.max())
    for _ in range(50):  # all pivots of T - x are negative where x is above the eigenvalues
        x, pivot = (low + high) / 2, -1.0
        for d, square in zip(diagonal[:steps].tolist(), squares, strict=True):
            pivot = d - x - square / pivot
            if pivot >= 0:
                break
        low, high = (x, high) if pivot >= 0 else (low, x)
    return high


def _test_diagonals(array: Pieces, null: Null, evidence: Evidence) -> None:
    """Test the mean and the std of both diagonals, and the correlation with the transpose of a square."""
    count = min(array.shape)
    along = np.arange(count)
    if array.shape[0] == array.shape[1] and count >= LEAST and null.mass.max() <= 0.25:
        some = _evenly(count, SQUARE)
        g = scores_of(array.take([some[:, None], some[None, :]]), null).astype(np.float64)
        pairs = len(some) * (len(some) - 1) / 2
        total = float((np.tril(g, -1) * g.T).sum())
        detail = f"the matrix and its transpose have a correlation of {total / pairs:.3g}"
        z = total / math.sqrt(pairs)
        evidence.add("symmetry", z, pvalues.two_sided(z, 0.0), detail)
    for name, columns in (("diagonal", along), ("antidiagonal", array.shape[1] - 1 - along)):
        g = scores_of(array.take([along, columns]), null).astype(np.float64)
        sums = Sums(np.array([g.sum()]), np.array([(g**2).sum()]), np.array([float(count)]))
        for kind in ("mean", "std"):
            found = deviates(sums, kind, null) if null.mass.max() <= 0.25 else None
            if found is None:
                evidence.skip(f"{kind} of the {name}", "needs more elements, and values that differ")
                continue
            z = float(found[0])
            amount = g.mean() if kind == "mean" else math.sqrt((g**2).mean())
            evidence.add(f"{kind} of the {name}", z, pvalues.two_sided(z, 0.0), f"{amount:.4g} std")
