"""Cosines between lines, all of them at once, and the chances of the farthest.

The scores of a line of n elements, as a vector, point into any direction equally. The cosine r of the angle of two
lines then is such that r sqrt((n - 1) / (1 - r**2)) has Student's distribution with n - 1 degrees of freedom.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastinit.sampling.threads import run
from fastinit.verification import pvalues

Matrix = NDArray[np.float32]
Lines = NDArray[np.int64]  # their numbers


def normalise(lines: Matrix) -> None:
    """Divide lines by their lengths, in place; those of length 0 stay as they are."""
    norms = np.sqrt(np.einsum("ij,ij->i", lines, lines))[:, None]
    np.divide(lines, norms, out=lines, where=norms > 0)


def largest_cosines(lines: Matrix, threads: int, matrix: Matrix | None = None) -> tuple[Matrix, Lines]:
    """Return, for each line, the largest cosine with one before it, and which one; fill the matrix of all cosines."""
    from fastinit.kernels.measures import COSINES, LINES

    most, at = np.zeros(len(lines), np.float32), np.zeros(len(lines), np.int64)
    out = np.empty((0, 0), np.float32) if matrix is None else matrix
    cosines = COSINES.ready()

    def task(k: int) -> int:
        cosines(lines, k * LINES, min((k + 1) * LINES, len(lines)), out, most, at)
        return LINES

    run(task, -(-len(lines) // LINES), threads)
    return most, at


def chance(r: float, elements: int, pairs: int) -> float:
    """Return the p-value of the farthest cosine of some pairs of lines."""
    freedom = elements - 1
    return 2 * pairs * pvalues.student(abs(r) * math.sqrt(freedom / max(1 - r * r, 1e-7)), freedom)
