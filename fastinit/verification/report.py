"""Reports of `fastinit.verify`: the verdict on one array, the tests that led to it, and the text and JSON of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from fastinit.core.arrays import Floats
from fastinit.distributions import Distribution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Result:
    """One test.

    Attributes
    ----------
    name, statistic
        Of the test.
    pvalue
        Probability of this statistic or a rarer one under the null distribution.
    passed
        Whether Holm's correction lets it stand.
    detail
        What was found, in words; printed if the test rejects.
    """

    name: str
    statistic: float
    pvalue: float
    passed: bool
    detail: str = ""


class Prints(NamedTuple):
    """Fingerprints, and where in the array each begins."""

    numbers: NDArray[np.uint64]
    places: NDArray[np.int64]


class Sample(NamedTuple):
    """What is kept of an array for comparisons with others: normal scores, and fingerprints."""

    head: NDArray[np.float32]  # of the first elements
    spread: NDArray[np.float32]  # of elements all over it
    across: Prints  # in C order
    down: Prints  # along some columns


@dataclass(frozen=True)
class Summary:
    """Counts of the pass over an array, for plots and for comparisons with other arrays."""

    edges: Floats  # between the bins, in the distribution's values; the first and last are infinite
    counts: NDArray[np.int64]
    cdf: Floats  # of the distribution, at the edges
    sf: Floats
    lags: Floats  # correlations, from lag 0 on; empty of few elements
    lag_error: float  # standard error of each
    rows: Floats  # correlation matrix of some rows; empty without a second axis
    blocks: Floats  # means and stds of blocks of rows and columns, of normal scores
    sample: Sample


@dataclass(frozen=True)
class Report:
    """Verdict on an array; ``str`` is a table.

    Attributes
    ----------
    passed
        Whether the array was looked at, and no test rejects it.
    results
        Each test's `Result`.
    skipped
        Tests that could not be made, with the reason: an array may be too small for them.
    alpha
        Family-wise error rate of all tests.
    size, shape, dtype
        Of the array.
    distribution
        The null distribution, before rounding to the dtype.
    summary
        Counts of the pass over the array; None for constants.
    """

    passed: bool
    results: tuple[Result, ...]
    skipped: tuple[tuple[str, str], ...]
    alpha: float
    size: int
    shape: tuple[int, ...]
    dtype: str
    distribution: Distribution
    summary: Summary | None = field(default=None, repr=False, compare=False)

    @property
    def rejected(self) -> bool:
        """Test whether a test rejects; of an array without elements neither this nor `passed` is true."""
        return not all(result.passed for result in self.results)

    def __str__(self) -> str:
        lines = [
            f"{verdict_of(self.passed, self.rejected)}: {self.size} elements of {self.dtype} as {self.distribution}",
            f"{len(self.results)} tests, family-wise alpha {self.alpha:g} (Holm)",
        ]
        if self.results:
            width = max(len(result.name) for result in self.results)
            lines.append(f"{'test':{width}}  {'statistic':>12}  {'p':>9}  verdict")
        for result in self.results:
            words = "passed" if result.passed else "REJECTED"
            text = f"{result.name:{width}}  {result.statistic:>12.6g}  {result.pvalue:>9.3g}  {words}"
            lines.append(text + (f"  {result.detail}" if result.detail and not result.passed else ""))
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped:
            reasons.setdefault(reason, []).append(name)
        lines += [f"skipped: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the report in the types of JSON."""
        return {
            "passed": self.passed,
            "alpha": self.alpha,
            "size": self.size,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "distribution": repr(self.distribution),
            "results": [asdict(result) for result in self.results],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
        }


def verdict_of(passed: bool, rejected: bool) -> str:
    """Return the verdict in words: nothing that was not looked at has passed."""
    return "passed" if passed else "REJECTED" if rejected else "NOT VERIFIED"


def holm(pvalues: Sequence[float], alpha: float) -> list[bool]:
    """Return whether each hypothesis stands, by Holm (1979): from the smallest p up, against alpha over those left.

    Examples
    --------
    >>> holm([0.5, 0.01, 0.03], 0.05)
    [True, False, True]
    """
    stand = [True] * len(pvalues)
    for done, k in enumerate(sorted(range(len(pvalues)), key=pvalues.__getitem__)):
        if pvalues[k] > alpha / (len(pvalues) - done):
            break
        stand[k] = False
    return stand
