"""The tests that were made of an array, and those that could not be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from fastinit.sampling.threads import run
from fastinit.verification.report import Result

T = TypeVar("T")


class Evidence:
    """Tests that were made, in their order, and those that could not be."""

    def __init__(self) -> None:
        self.made: list[Result] = []
        self.skipped: list[tuple[str, str]] = []

    def add(self, name: str, statistic: float, pvalue: float, detail: str = "") -> None:
        """Note a test that was made; a statistic of NaN comes from values that no distribution gives."""
        pvalue = min(1.0, float(pvalue)) if not math.isnan(pvalue) else 0.0
        self.made.append(Result(name, float(statistic), pvalue, True, detail))

    def skip(self, name: str, reason: str) -> None:
        """Note a test that cannot be made."""
        self.skipped.append((name, reason))

    def gather(self, tests: Sequence[Callable[[Evidence], T]], threads: int) -> list[T]:
        """Make tests on several threads; note them in their order, and return what they return."""
        notes = [Evidence() for _ in tests]
        found: list[T] = [None] * len(tests)  # type: ignore[list-item]

        def task(k: int) -> int:
            found[k] = tests[k](notes[k])
            return 1

        run(task, len(tests), threads)
        for one in notes:
            self.made += one.made
            self.skipped += one.skipped
        return found
