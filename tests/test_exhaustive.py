"""The float32 transformation of words: a sample here, and every word before a release."""

from __future__ import annotations

import numpy as np
import pytest

from bench import exhaustive

SPAN = 1 << 14  # consecutive words
SPREAD = 1 << 24  # from one span to the next: 256 spans, four million words
# Words around which something turns over: the ends, the middle, where u is a power of two or two thirds of one (the
# logarithm's exponent changes), and every eighth of a turn.
EDGES = sorted(
    {0, exhaustive.WORDS}
    | {round(exhaustive.WORDS * factor / 2**k) for k in range(1, 24) for factor in (1, 2 / 3, 4 / 3)}
    | {exhaustive.WORDS * k // 8 for k in range(8)}
)


def sample() -> exhaustive.Worst:
    spans = [(first, SPAN) for first in range(0, exhaustive.WORDS, SPREAD)]
    for edge in EDGES:
        first, last = max(0, edge - SPAN), min(exhaustive.WORDS, edge + SPAN)
        spans.append((first, last - first))
    return exhaustive.merge(exhaustive.sweep(*span) for span in spans)


def test_a_sample_of_all_words() -> None:
    worst = sample()
    assert exhaustive.broken(worst) == []
    # The sample comes near the worst of all words, so that a polynomial that is worse by a quarter would be noticed.
    bounds = np.array(list(exhaustive.BOUNDS.values()))
    assert (worst[:6, 0] > 0.8 * bounds[:6]).all()
    np.testing.assert_allclose(worst[6:, 0], bounds[6:], rtol=1e-5)
    assert worst[6:, 1].tolist() == [0, exhaustive.WORDS - 1]


def test_broken_bounds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    worst = exhaustive.sweep(0, 1000)
    worst[0, 0] = 2.4
    assert exhaustive.broken(worst) == ["radius error, ulp is 2.4 at " + f"{int(worst[0, 1]):#010x}"]
    worst[0, 0] = np.nan
    assert len(exhaustive.broken(worst)) == 1


@pytest.mark.slow
def test_all_words() -> None:
    assert exhaustive.broken(exhaustive.everything()) == []
