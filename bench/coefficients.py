"""Derive the polynomials of `fastinit/kernels/draws.py`: minimax fits by Remez's exchange, in 60 digits.

Run ``python -m bench.coefficients`` (needs mpmath) to print the tables; the tests check the largest errors of what the
kernels compute, so this file is the coefficients' origin, not their guard.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mpmath import mp, mpf

mp.dps = 60
Function = Callable[[mpf], mpf]


def remez(target: Function, weight: Function, low: mpf, high: mpf, count: int) -> list[mpf]:
    """Coefficients c of sum c[k] x**k, k < count, that minimize max |weight (sum - target)| on [low, high]."""
    centre, half = (low + high) / 2, (high - low) / 2
    nodes = [centre - half * mp.cos(mp.pi * k / count) for k in range(count + 1)]
    grid = [centre - half * mp.cos(mp.pi * k / 2000) for k in range(2001)]
    for _ in range(20):
        rows = [[x**k for k in range(count)] + [(-1) ** j / weight(x)] for j, x in enumerate(nodes)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([target(x) for x in nodes]))
        coefficients = [solution[k] for k in range(count)]
        errors = [weight(x) * (mp.polyval(coefficients[::-1], x) - target(x)) for x in grid]
        nodes, previous = extremes(grid, errors, count + 1), nodes
        if nodes == previous:
            break
    return coefficients


def extremes(grid: list[mpf], errors: list[mpf], count: int) -> list[mpf]:
    """The grid points of the largest error in each run of one sign: the next nodes of the exchange."""
    runs: list[int] = []
    for k, error in enumerate(errors):
        if not runs or (error > 0) != (errors[runs[-1]] > 0):
            runs.append(k)
        elif abs(error) > abs(errors[runs[-1]]):
            runs[-1] = k
    while len(runs) > count:  # an extra alternation at an end: the smaller of the two goes
        runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
    return [grid[k] for k in runs]


def minus_two_log(count: int, real: type[np.floating]) -> list[np.floating]:
    """The polynomial q with -2 ln(1 + f) = -2 f + f**2 q(f) on [-1/2, 0], its error relative to the logarithm."""

    def target(f: mpf) -> mpf:
        return 1 - 2 * f / 3 if abs(f) < mpf(10) ** -25 else (2 * f - 2 * mp.log1p(f)) / f**2

    def weight(f: mpf) -> mpf:
        return f**2 / (-2 * mp.log1p(f)) if f < -floor else floor

    floor = mpf(10) ** -6  # the fit needs a weight everywhere, and f = 0 has none of its own
    return [real(float(c)) for c in remez(target, weight, -mpf(1) / 2, mpf(0), count)]


def turn_scale(real: type[np.floating]) -> mpf:
    """A float k near 1 for which 2 pi / k lies on the grid of floats too, nearly.

    The polynomials take k turns: so neither the argument nor sin's first coefficient carries a rounded constant.
    """
    candidates = (mpf(float(k)) for k in np.linspace(1, 1.001, 20001).astype(real))
    return min(candidates, key=lambda k: abs(mpf(float(real(float(2 * mp.pi / k)))) * k - 2 * mp.pi))


def sine_cosine(
    sines: int, cosines: int, real: type[np.floating]
) -> tuple[np.floating, list[np.floating], list[np.floating]]:
    """The scale k, and s, c: for t turns and x = k t, sin = x s(x**2) and cos = c(x**2), |t| <= 1/8."""
    scale = turn_scale(real)
    top = (scale / 8) ** 2
    angle = 2 * mp.pi / scale
    first = mpf(float(real(float(angle))))

    def sine(z: mpf) -> mpf:
        x = mp.sqrt(z)
        return (mp.sin(angle * x) / x - first) / z

    def cosine(z: mpf) -> mpf:
        return (mp.cos(angle * mp.sqrt(z)) - 1) / z

    tiny = mpf(10) ** -30
    s = remez(sine, lambda z: z * mp.sqrt(z) / mp.sin(angle * mp.sqrt(z)), tiny, top, sines - 1)
    c = remez(cosine, lambda z: z / mp.cos(angle * mp.sqrt(z)), tiny, top, cosines - 1)
    return real(float(scale)), [real(float(v)) for v in [first, *s]], [real(float(v)) for v in [mpf(1), *c]]


if __name__ == "__main__":
    for real, logs, sines, cosines in ((np.float32, 8, 4, 5), (np.float64, 20, 8, 9)):
        scale, s, c = sine_cosine(sines, cosines, real)
        for title, values in (("scale", [scale]), ("log", minus_two_log(logs, real)), ("sin", s), ("cos", c)):
            print(real.__name__, title, *(str(v) for v in values), sep="\n    ")
