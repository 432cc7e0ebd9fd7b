"""Check the float32 transformation for each of the 2**32 words that it can meet.

Run ``python -m bench.exhaustive``: some minutes on two cores. Each word is taken as a radius and as an angle, and what
the kernels make of it is compared with float64, whose own error is below 1e-8 of a float32's ulp.
"""

# The loop is compiled, and its types are those of its arguments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastinit.kernels.intrinsics import square_root
from fastinit.kernels.transforms import cosine_sine, minus_two_log
from fastinit.sampling.threads import thread_count

WORDS = 1 << 32
CHUNK = 1 << 24  # words of a task: under two seconds, so that the cores end together
TWO_PI = 2 * math.pi

# What a sweep looks for the largest of, and the bound that is promised: what the whole sweep found, rounded up. An ulp
# is the spacing of float32 at the exact value.
BOUNDS = {
    "radius error, ulp": 1.54,
    "cosine error, ulp": 2.68,
    "sine error, ulp": 2.68,
    "radius, absolute error": 3.96e-7,
    "cosine, absolute error": 1.11e-7,
    "sine, absolute error": 1.11e-7,
    "largest radius": 6.76371,
    "-(smallest radius)": -1.52587e-5,
}
NORMAL_ERROR = 1.39e-6  # the largest absolute error of a standard normal; see `normal_error`

Worst = NDArray[np.float64]  # a row for each of BOUNDS: the largest value, and the first word that has it


@njit
def _ulp(exact):
    """The spacing of float32 at a normal number: 2**-23 of the power of two below it."""
    return np.int64(np.float64(exact).view(np.int64) & (0x7FF << 52)).view(np.float64) * 2.0**-23


@njit(nogil=True)
def _sweep(first, count):
    worst = np.zeros((8, 2))
    worst[:, 0] = -np.inf
    for place in range(first, first + count):
        word = np.uint32(place)

        u = (place + 0.5) * 2.0**-32  # exact, as are u - 1 and the turns below
        exact = math.sqrt(-2 * (math.log(u) if u < 0.5 else math.log1p(u - 1)))
        radius = np.float64(square_root(minus_two_log(word)))
        radius_error = abs(radius - exact)

        quarters = (place + (1 << 29)) >> 30
        angle = ((place - (quarters << 30)) + 0.5) * 2.0**-32 * TWO_PI  # from the nearest quarter turn
        c, s = math.cos(angle), math.sin(angle)
        if quarters & 1:
            c, s = -s, c
        if quarters & 2:
            c, s = -c, -s
        pair = cosine_sine(word)
        cosine_error, sine_error = abs(np.float64(pair[0]) - c), abs(np.float64(pair[1]) - s)

        found = (
            radius_error / _ulp(exact),
            cosine_error / _ulp(c),
            sine_error / _ulp(s),
            radius_error,
            cosine_error,
            sine_error,
            radius,
            -radius,
        )
        for row in range(8):
            if not (found[row] <= worst[row, 0] or math.isnan(worst[row, 0])):  # the first NaN stays
                worst[row, 0], worst[row, 1] = found[row], place
    return worst


def sweep(first: int, count: int) -> Worst:
    """The worst of ``count`` words from ``first`` on, each as a radius and as an angle."""
    worst: Worst = _sweep(first, count)
    return worst


def merge(parts: Iterable[Worst]) -> Worst:
    """The worst of several sweeps."""
    stacked = np.stack(list(parts))
    return np.asarray(stacked[stacked[:, :, 0].argmax(axis=0), np.arange(len(BOUNDS))])


def normal_error(worst: Worst) -> float:
    """A bound of a standard normal's absolute error, from the errors of its two factors and its own rounding.

    R C - r c = (R - r) C + r (C - c) for the computed R, C and the exact r, c; |C| <= 1; and the product, below 8, is
    rounded to a multiple of 2**-21 at worst.
    """
    values = dict(zip(BOUNDS, worst[:, 0].tolist(), strict=True))
    factor = max(values["cosine, absolute error"], values["sine, absolute error"])
    return float(values["radius, absolute error"] + values["largest radius"] * factor + 2.0**-22)


def broken(worst: Worst) -> list[str]:
    """The bounds that a sweep found to be exceeded, as sentences; none if all hold."""
    rows = [(name, *row, BOUNDS[name]) for name, row in zip(BOUNDS, worst.tolist(), strict=True)]
    found = [f"{name} is {value:.6g} at {int(word):#010x}" for name, value, word, bound in rows if not value <= bound]
    if not normal_error(worst) <= NORMAL_ERROR:
        found.append(f"a normal's error may be {normal_error(worst):.3g}")
    return found


def everything() -> Worst:
    """Sweep all words on all cores."""
    with ThreadPoolExecutor(thread_count()) as pool:
        return merge(pool.map(lambda first: sweep(first, CHUNK), range(0, WORDS, CHUNK)))


def main() -> Any:
    """Sweep, and print the table."""
    begin = time.perf_counter()
    worst = everything()
    print(f"{'':24} {'found':>12} {'at word':>11} {'promised':>12}")
    for (name, bound), (value, word) in zip(BOUNDS.items(), worst.tolist(), strict=True):
        print(f"{name:24} {value:12.6g} {int(word):#11x} {bound:12.6g}")
    print(f"{'normal, absolute error':24} {normal_error(worst):12.6g} {'':11} {NORMAL_ERROR:12.6g}")
    print(f"{2 * WORDS} words in {time.perf_counter() - begin:.0f} s")
    return "; ".join(broken(worst)) or None


if __name__ == "__main__":
    sys.exit(main())
