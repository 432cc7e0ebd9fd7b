"""Dependence between lines: between any two rows or columns, among many at once, and what it does to the spectrum.

All is in the cosines of the angles between lines' scores, of which those of many pairs are uncorrelated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.sampling.threads import run
from fastinit.verification import pvalues
from fastinit.verification.cosines import Lines, Matrix, chance, largest_cosines, normalise
from fastinit.verification.evidence import Evidence
from fastinit.verification.geometry import Axis, axes_of
from fastinit.verification.lines import Sums, deviates
from fastinit.verification.null_distribution import Null, scores_of
from fastinit.verification.pieces import Pieces

RUN = 32  # elements that are taken side by side: two lines of the cache
MOST_LINES = 1 << 20  # of which equal ones are looked for: the first ones, so that memory is enough
SHORT = 16  # elements that show whether two lines are equal
MOST_AXES = 4  # whose lines are compared
LEAST = 64  # elements of a line
LEAST_LINES = 32  # for the tests of all of their cosines
LEAST_PAIRS = 1 << 10  # of elements, whose products have a sum that is normal enough
SQUARE = 1000  # rows and columns that are compared with their transpose; 1,024 would share the same places of a cache
MANY = 1 << 11  # lines that are all compared, along a few elements; in a larger array as many as half of its side has
FEW = 256  # of these elements, of one line
CHOSEN = 64  # pairs of them that are compared along others
MOST_BETWEEN = 1 << 12  # of these, about
PART = 1 << 16  # elements that a thread gathers at once; with fewer, two threads would wait for each other
STEPS = 64  # of Lanczos' method: twice as many change s by less than 1e-3
TRIED = 1 << 12  # distances of lines that are tried, for one that divides their number
PLOTTED = 128  # lines of the picture


class Effort(NamedTuple):
    """How much is looked at, for each axis."""

    copies: int  # elements of all lines together, in the search for equal ones
    lines: int  # between which all cosines are computed along many elements, and the spectrum
    elements: int  # of these lines together
    many: int  # lines, at most, between which cosines are computed along few elements


FAST, FULL = Effort(1 << 18, 128, 1 << 18, 0), Effort(1 << 20, 256, 1 << 22, 1 << 14)


def test_dependence(array: Pieces, null: Null, full: bool, threads: int, evidence: Evidence) -> Floats:
    """Make the tests of the lines of each axis; return the cosines between some lines of the first."""
    axes = [(k, axis) for k, axis in enumerate(axes_of(array.shape)) if axis.size > 1]
    if array.ndim < 2:
        evidence.skip("pairs of lines", "needs two axes")
        axes = []
    effort = FULL if full else FAST

    def of_axis(k: int, axis: Axis) -> Callable[[Evidence], Floats]:
        return lambda evidence: _test_axis(array, k, axis, null, effort, threads, evidence)

    chosen = [*axes[:1], *axes[-1:], *axes[1:-1]][: min(MOST_AXES, len(axes))]
    found = evidence.gather([of_axis(k, axis) for k, axis in chosen], threads)
    if array.ndim == 2:
        _test_diagonals(array, null, threads, evidence)
    return next((matrix for matrix in found if len(matrix)), np.zeros((0, 0)))


def _test_axis(
    array: Pieces, k: int, axis: Axis, null: Null, effort: Effort, threads: int, evidence: Evidence
) -> Floats:
    """Make the tests of the lines along one axis; return the cosines of some."""
    along = array.size // axis.size
    if along < LEAST or null.mass.max() > 0.25:
        evidence.skip(f"pairs of {axis.name}", f"needs {LEAST} elements of each, and values that differ")
        return np.zeros((0, 0))
    some = _spread(axis.size, effort.lines)
    elements = min(effort.elements, max(FAST.elements, array.size // 4))  # not much more than the pass takes
    places = _places(along, max(LEAST, elements // len(some)))
    long = _lines(array, k, some, places, null, threads)
    matrix = np.eye(len(long), dtype=np.float32)
    worst, beside = [_farthest(some, *largest_cosines(long, threads, matrix), len(places))], long
    if len(some) < axis.size:
        few = min(FEW, max(SHORT, effort.copies // axis.size))
        beside = _lines(array, k, np.arange(min(axis.size, MOST_LINES)), _places(along, few), null, threads)
        worst.append(_copies(beside))
        many = _evenly(axis.size, min(effort.many, max(MANY, math.isqrt(array.size) // 2)))
        if len(many) > len(some):
            lines = beside[many] if few == FEW else _lines(array, k, many, _places(along, FEW), null, threads)
            worst += _in_two_stages(array, k, many, lines, null, threads)
    pvalue, r, first, second = min(worst)
    what = "are equal up to sign and scale" if abs(r) > 1 - 1e-5 else f"have a correlation of {r:.3g}"
    detail = f"{axis.words(first, first)} and {second} {what}"
    evidence.add(f"pairs of {axis.name}", r, len(worst) * pvalue, detail)
    _test_neighbours(beside, axis, evidence)
    _test_distances(matrix, some, len(places), axis, evidence)
    _test_spectrum(matrix.astype(np.float64), long.shape[1], axis, evidence)
    shown = slice(None, None, -(-len(matrix) // PLOTTED))
    return np.asarray(matrix[shown, shown], np.float64)


def _places(along: int, elements: int, between: bool = False) -> Lines:
    """Return which elements of a line are looked at: all, or runs of them, or those that lie between such runs."""
    if elements >= along:
        return np.arange(0 if between else along)
    run = min(RUN, elements)
    starts = np.linspace(0, along - run, max(1, elements // run)).astype(np.int64)
    if between:
        room = min(int(np.diff(starts).min()) // run, MOST_BETWEEN // run // len(starts) + 1)
        starts = (starts[:-1, None] + run * np.arange(1, room)).ravel()
    return (starts[:, None] + np.arange(run)).ravel()


def _lines(array: Pieces, k: int, lines: Lines, places: Lines, null: Null, threads: int) -> Matrix:
    """Return the scores of lines along an axis at some of their elements, as vectors of length 1."""
    index = list(np.unravel_index(places, [size for axis, size in enumerate(array.shape) if axis != k]))
    index.insert(k, lines)
    shaped = [part[:, None] if (axis == k) == (k == 0) else part[None, :] for axis, part in enumerate(index)]
    scores = _gathered(array, shaped, k > 0, null, threads)
    normalise(scores)
    return scores


def _gathered(array: Pieces, index: list[Lines], turned: bool, null: Null, threads: int) -> Matrix:
    """Return the scores of the elements at some numbers along each axis, which NumPy combines; or their transpose."""
    tall, wide = np.broadcast_shapes(*(numbers.shape for numbers in index))
    out = np.empty((wide, tall) if turned else (tall, wide), np.float32)
    step = max(1, PART // wide)

    def task(k: int) -> int:
        some = slice(k * step, (k + 1) * step)
        scores = scores_of(array.take([numbers[some] if len(numbers) == tall else numbers for numbers in index]), null)
        (out.T if turned else out)[some] = scores
        return scores.size

    run(task, -(-tall // step), threads)
    return out


Pair = tuple[float, float, int, int]  # p-value, cosine, and the two lines


def _pair(r: float, first: int, second: int, elements: int, pairs: int) -> Pair:
    """Return the farthest of some pairs of lines with its p-value."""
    return chance(r, elements, pairs), min(max(r, -1.0), 1.0), min(first, second), max(first, second)


def _evenly(size: int, most: int) -> Lines:
    """Return up to so many numbers below a size, as far from each other as possible."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


def _spread(size: int, most: int) -> Lines:
    """Return all numbers below a size, or about so many: half of them next to each other, half evenly from both ends.

    So pairs at all small distances are among them, pairs of mirrored ones, and those of halves, thirds and quarters,
    if the size has a divisor near the step.
    """
    if size <= most:
        return np.arange(size)
    least = -(-4 * size // most)
    step = next((step for step in range(least, min(2 * least, least + TRIED)) if size % step == 0), least)
    beside = np.arange(most // 2) + (size - most // 2) // 2
    far = np.arange(0, size, step)
    return np.unique(np.concatenate([far, beside, size - 1 - far]))


def _farthest(numbers: Lines, most: Matrix, at: Lines, elements: int) -> Pair:
    """Return the pair of the largest cosine of all."""
    worst = int(abs(most).argmax())
    first, second = int(numbers[worst]), int(numbers[at[worst]])
    return _pair(float(most[worst]), first, second, elements, math.comb(len(numbers), 2))


def _in_two_stages(array: Pieces, k: int, numbers: Lines, lines: Matrix, null: Null, threads: int) -> list[Pair]:
    """Return the farthest pair of all along few elements, and that of the farthest ones along others.

    The others are independent of those that chose the pairs: so they need to stand out among the chosen ones alone.
    """
    most, at = largest_cosines(lines, threads)
    found = [_farthest(numbers, most, at, lines.shape[1])]
    places = _places(array.size // array.shape[k], FEW, between=True)
    if len(places) >= LEAST:
        chosen = np.argsort(-abs(most))[:CHOSEN]
        first, second = numbers[chosen], numbers[at[chosen]]
        both = _lines(array, k, np.concatenate([first, second]), places, null, threads)
        r = np.einsum("ij,ij->i", both[: len(first)], both[len(first) :])
        worst = int(abs(r).argmax())
        found.append(_pair(float(r[worst]), int(first[worst]), int(second[worst]), len(places), len(first)))
    return found


def _copies(lines: Matrix) -> Pair:
    """Return a pair of equal lines, up to sign and scale, if there is one: they are neighbours by any projection."""
    direction = np.random.default_rng(0).standard_normal(lines.shape[1], np.float32)
    order = np.argsort(abs(np.einsum("ij,j->i", lines, direction)))
    lines, found = lines[order], []
    for step in (1, 2, 3):
        if step < len(lines):
            r = np.einsum("ij,ij->i", lines[:-step], lines[step:])
            at = int(abs(r).argmax())
            first, second = int(order[at]), int(order[at + step])
            found.append(_pair(float(r[at]), first, second, lines.shape[1], math.comb(len(lines), 2)))
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


def _test_distances(cosines: Matrix, lines: Lines, elements: int, axis: Axis, evidence: Evidence) -> None:
    """Test the mean cosines of all pairs at each distance, and of all that mirror each other at each place.

    A cosine has the variance 1 / n, and lighter tails than a normal number. Those of the pairs at one distance are
    independent, since the pairs make no circle; so their sum's tails are lighter, too.
    """
    first, second = np.triu_indices(len(lines), 1)
    r, candidates = cosines[first, second], []
    for after, numbers in ((True, lines[second] - lines[first]), (False, lines[first] + lines[second])):
        groups, group = np.unique(numbers, return_inverse=True)
        count = np.bincount(group)
        mean = np.bincount(group, r) / count
        z = mean * np.sqrt(count * float(elements))
        at = int(abs(z).argmax())
        others = f"those {groups[at]} after them" if after else f"their mirror images about {groups[at] / 2:g}"
        detail = f"{axis.name} have a correlation of {mean[at]:.3g} with {others}"
        candidates.append((2 * len(groups) * pvalues.two_sided(float(z[at]), 0.0), float(z[at]), detail))
    pvalue, most, detail = min(candidates)
    evidence.add(f"distances of {axis.name}", most, pvalue, detail)


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


def _test_diagonals(array: Pieces, null: Null, threads: int, evidence: Evidence) -> None:
    """Test the mean and the std of both diagonals, and the correlation with the transpose of a square."""
    count = min(array.shape)
    along = np.arange(count)
    if array.shape[0] == array.shape[1] and count >= LEAST and null.mass.max() <= 0.25:
        some = _evenly(count, SQUARE)
        g = _gathered(array, [some[:, None], some[None, :]], False, null, threads)
        pairs = len(some) * (len(some) - 1) / 2
        total = float(np.einsum("ij,ji->", g, g) - (np.diagonal(g) ** 2).sum()) / 2
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
