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
    """q with -2 ln(1 + f) = -2 f + f**2 q(f) on [-1/3, 1/3], the error relative to the whole -2 ln u."""

    def target(f: mpf) -> mpf:
        return 1 - 2 * f / 3 if abs(f) < mpf(10) ** -25 else (2 * f - 2 * mp.log1p(f)) / f**2

    floor = mpf(10) ** -6  # the fit needs a weight everywhere, and f = 0 has none of its own

    def weight(f: mpf) -> mpf:  # f > 0 comes with an exponent of at most -1
        whole = mp.log1p(f) - (mp.log(2) if f > 0 else 0)
        return max(f**2 / (2 * abs(whole)), floor) if f != 0 else floor

    return [real(float(c)) for c in remez(target, weight, -mpf(1) / 3, mpf(1) / 3, count)]


def turn_unit(real: type[np.floating]) -> mpf:
    """A unit for the angle, in turns, in which sin's first coefficient happens to lie on the float grid."""
    candidates = np.linspace(1, 1.001, 20001).astype(real)
    return min(
        (mpf(float(k)) for k in candidates), key=lambda k: abs(mpf(float(real(float(2 * mp.pi * k)))) / k - 2 * mp.pi)
    )


def sine_cosine(
    sines: int, cosines: int, real: type[np.floating]
) -> tuple[np.floating, list[np.floating], list[np.floating]]:
    """The unit k, and s, c with sin(2 pi k x) = x s(x**2) and cos(2 pi k x) = 1 + x**2 c(x**2), |k x| <= 1/8."""
    unit = turn_unit(real)
    top = (1 / (8 * unit)) ** 2
    angle = 2 * mp.pi * unit
    first = mpf(float(real(float(angle))))

    def sine(z: mpf) -> mpf:
        x = mp.sqrt(z)
        return (mp.sin(angle * x) / x - first) / z

    def cosine(z: mpf) -> mpf:
        return (mp.cos(angle * mp.sqrt(z)) - 1) / z

    tiny = mpf(10) ** -30
    s = remez(sine, lambda z: z * mp.sqrt(z) / mp.sin(angle * mp.sqrt(z)), tiny, top, sines - 1)
    c = remez(cosine, lambda z: z / mp.cos(angle * mp.sqrt(z)), tiny, top, cosines - 1)
    return real(float(unit)), [real(float(v)) for v in [first, *s]], [real(float(v)) for v in [mpf(1), *c]]


if __name__ == "__main__":
    for real, logs, sines, cosines in ((np.float32, 8, 4, 4), (np.float64, 20, 8, 8)):
        unit, s, c = sine_cosine(sines, cosines, real)
        for title, values in (("unit", [unit]), ("log", minus_two_log(logs, real)), ("sin", s), ("cos", c)):
            print(real.__name__, title, *(str(v) for v in values), sep="\n    ")
