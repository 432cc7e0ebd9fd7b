"""Dependence of any kind between three elements that follow each other: the lattices of poor generators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastinit.core.arrays import Floats
from fastinit.verification import pvalues
from fastinit.verification.evidence import Evidence
from fastinit.verification.null_distribution import Null, scores_of
from fastinit.verification.pieces import Pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = 1 << 18, 1 << 20  # elements that are looked at, about, on the levels "fast" and "full"
RUN = 3 << 12  # of these that follow each other
DIGITS = 8, 4  # that scores are rounded to, as many as leave enough elements in a cell
LEAST_EXPECTED = 16.0  # elements of a cell


def digits_of(scores: NDArray[np.float32], digits: int) -> NDArray[np.int32]:
    """Return scores as one of so many digits: cells of equal width between -2 and 2, and what lies beyond.

    Examples
    --------
    >>> digits_of(np.array([-9, -0.1, 0, 1.9], np.float32), 4).tolist()
    [0, 1, 2, 3]
    """
    scaled = scores * np.float32(digits / 4) + np.float32(digits / 2)
    return np.asarray(np.clip(scaled, 0, digits - 1).astype(np.int32))


def chances_of(null: Null, digits: int) -> Floats:
    """Return the probabilities of digits."""
    if not null.table.size:  # a normal, whose scores are no numbers of bins
        from scipy.special import ndtr

        inner = ndtr(np.arange(1, digits) * 4 / digits - 2)
        return np.asarray(np.diff(inner, prepend=0.0, append=1.0))
    return np.asarray(np.bincount(digits_of(null.scores.astype(np.float32), digits), null.mass, digits), np.float64)


def test_triples(array: Pieces, null: Null, full: bool, evidence: Evidence) -> None:
    """Make Pearson's test of the cells that three digits fall into, of triples that have no element in common."""
    runs = max(1, min(array.size, SAMPLES[full]) // RUN)
    length = min(RUN, array.size // 3 * 3)
    count = runs * (length // 3)
    for digits in DIGITS:
        chances = chances_of(null, digits)
        if float(chances.min()) ** 3 * count >= LEAST_EXPECTED:
            break
    else:
        evidence.skip("triples", "needs more elements, and values that differ")
        return
    counts = np.zeros(digits**3, np.int64)
    for start in np.linspace(0, array.size - length, runs).astype(np.int64).tolist():
        found = digits_of(scores_of(array.flat(start, start + length), null), digits)
        counts += np.bincount((found[::3] * digits + found[1::3]) * digits + found[2::3], minlength=digits**3)
    expected = np.einsum("i,j,k->ijk", chances, chances, chances).ravel() * count
    evidence.add("triples", *pvalues.pearson(counts, expected), f"{count} triples of neighbours, {digits}^3 cells")
