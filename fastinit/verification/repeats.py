"""Elements that occur twice, at any distance: equal fingerprints, and how far the copy reaches."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastinit.verification.evidence import Evidence
from fastinit.verification.null_distribution import Null, scores_of
from fastinit.verification.pieces import Pieces
from fastinit.verification.report import Prints

STEP = 1 << 12  # elements that are compared at first
CLOSE = 1e-2  # scores that differ by less are called equal: a copy may have been rounded


def test_repeats(array: Pieces, null: Null, across: Prints, down: Prints, evidence: Evidence) -> None:
    """Test whether fingerprints occur twice: in C order, or in it and along a column."""
    from fastinit.kernels.measures import HALF, WINDOW

    if array.size <= WINDOW:
        evidence.skip("repeats", f"needs {WINDOW + 1} elements")
        return
    chance = (
        array.size**2 / 2 * (2 * null.twin_digits**2) ** HALF
    )  # of pairs in any order; the middle one is a large one
    if chance > 1e-15:
        evidence.skip("repeats", "the distribution has too few values")
        return
    ordered = np.sort(across.numbers)
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    turned = (
        np.flatnonzero(ordered[np.searchsorted(ordered[:-1], down.numbers)] == down.numbers) if ordered.size else same
    )
    detail = ""
    if same.size:
        order = np.argsort(across.numbers, kind="stable")  # slow, and rarely needed
        first, second = np.sort([across.places[order[same]], across.places[order[same + 1]]], axis=0)
        at = second.argmin()
        detail = _words(array, null, int(first[at]), int(second[at]), WINDOW)
    elif turned.size:
        row, column = divmod(int(down.places[turned[0]]), array.shape[1])
        place = int(across.places[across.numbers == down.numbers[turned[0]]][0])
        detail = f"elements of column {column} around row {row + HALF} are among those of row {place // array.shape[1]}"
    count = same.size + turned.size
    evidence.add("repeats", count, chance if count else 1.0, detail)


def _words(array: Pieces, null: Null, first: int, second: int, window: int) -> str:
    """Return which elements repeat which, in rows where they are some."""
    distance = second - first
    ends = first + window
    first -= _reach(array, null, first, distance, -1)
    ends += _reach(array, null, ends, distance, 1)
    count = max(ends - first, 1)
    if array.ndim > 1:
        width = array.size // array.shape[0]
        begin, end = -(-first // width), ends // width
        if end > begin and distance % width == 0:
            return f"rows {_span(begin + distance // width, end + distance // width)} repeat rows {_span(begin, end)}"
    return f"elements from {first + distance} on repeat those from {first} on, {count} of them"


def _span(begin: int, end: int) -> str:
    """Return a range in words."""
    return f"{begin}-{end - 1}" if end - begin > 1 else f"{begin}"


def _reach(array: Pieces, null: Null, at: int, distance: int, sense: int) -> int:
    """Return how many elements from a place on, in one of both senses, equal those at a distance, up to their signs."""
    reach, step = 0, STEP
    while True:
        begin, end = (at + reach, at + reach + step) if sense > 0 else (at - reach - step, at - reach)
        begin, end = max(begin, 0), min(end, array.size - distance)
        if end <= begin:
            return reach
        first, second = (_magnitudes(array, null, begin + away, end + away) for away in (0, distance))
        wrong = np.flatnonzero(abs(first - second) > CLOSE)
        if wrong.size:
            return reach + int(wrong[0] if sense > 0 else end - begin - 1 - wrong[-1])
        reach, step = reach + end - begin, min(2 * step, 1 << 20)


def _magnitudes(array: Pieces, null: Null, begin: int, end: int) -> Any:
    """Return the magnitudes of scores."""
    return abs(scores_of(array.flat(begin, end), null))
