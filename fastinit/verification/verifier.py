"""`verify`: does an array follow its distribution? One parallel pass over it, then tests on what that counted."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastinit.core.keys import check_real, check_shape, is_masked
from fastinit.core.text import QUOTED, printable, quoted
from fastinit.distributions.laws import Array, Constant, Distribution
from fastinit.initializers.factories import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.sampling.filling import FLOATS
from fastinit.sampling.threads import thread_count
from fastinit.verification.null_distribution import null_of
from fastinit.verification.tests import Evidence, Result, Summary, all_equal, look


@dataclass(frozen=True)
class Report:
    """The verdict on an array; its text is a table.

    ``left_out`` names the tests that could not be made, with the reason: an array may be too small for them.
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
        """Whether a test rejects; of an array without elements neither this nor `passed` is true."""
        return not all(result.passed for result in self.results)

    def __str__(self) -> str:
        lines = [
            f"{_verdict(self)}: {self.size} elements of {self.dtype} as {self.distribution}",
            f"{len(self.results)} tests, family-wise alpha {self.alpha:g} (Holm)",
        ]
        if self.results:
            width = max(len(result.name) for result in self.results)
            lines.append(f"{'test':{width}}  {'statistic':>12}  {'p':>9}  verdict")
        for result in self.results:
            words = "passed" if result.passed else "REJECTED"
            text = f"{result.name:{width}}  {result.statistic:>12.6g}  {result.pvalue:>9.3g}  {words}"
            lines.append(text + (f"  {result.detail}" if result.detail else ""))
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped:
            reasons.setdefault(reason, []).append(name)
        lines += [f"skipped: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return {
            "passed": self.passed,
            "alpha": self.alpha,
            "size": self.size,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "distribution": repr(self.distribution),
            "results": [asdict(result) for result in self.results],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.skipped],
        }


def _verdict(judged: Report | Checkpoint) -> str:
    """What to call it: nothing that was not looked at has passed."""
    return "passed" if judged.passed else "REJECTED" if judged.rejected else "NOT VERIFIED"


def verify(
    array: Any,
    init_or_distribution: Initializer | Distribution,
    *,
    alpha: float = 1e-6,
    global_shape: Sequence[int] | None = None,
    threads: int | None = None,
) -> Report:
    """Test whether an array's elements are independent draws of a distribution, rounded to the array's dtype.

    Every test's null hypothesis has the rounding in it: the probability of a bin is that of the real numbers that round
    into it, to nearest and then inside the distribution's bounds. For 16-bit types each value is a bin. The tests:

    - *finite*, *bounds*: no NaN or infinity, nothing outside; neither has an error rate.
    - *Kolmogorov-Smirnov*: up to 2**16 elements, and always for 16 bits, the exact distance; else the largest one at
      the edges of 4096 bins, which is never more than the distance itself, so that p is never too small.
    - *chi-square*: up to 1024 groups of about equal probability, the outermost halved again and again, of 16 expected
      elements or more.
    - *lower tail*, *upper tail*: the means of -log F(x) and -log(1 - F(x)), which weigh the tails like the statistic of
      Anderson and Darling (1954), averaged over each bin.
    - *mean*, *variance*, *skewness*, *kurtosis*: the means of z, z**2, z**3, z**4, for z = (x - mean) / std of the
      distribution, in their own standard errors, from the distribution's moments. Their p-values, and those of the
      tails and of the lags, are those of a Pearson type III distribution of the same skewness.
    - *beyond 4*, 5, 5.5, 6, 6.5 *sigma*: how many elements of a normal, as a Poisson number.
    - *lag n*: the mean of z[i] z[i + n] in C order, for 1, 2, 3, 4, 8, ..., 64 and one step along each axis.
    - *rows*, *columns*: the largest correlation between any two of up to 128 rows, 1024 elements of each, in normal
      scores; the first axis by all others, and all others by the last.
    - *grain*: equal pairs among up to 2**16 elements (float32), which rejects values made from fewer than 23 random
      bits; or zeros at the end of the mantissa (float64), which rejects those made from 32 bits, or from float32.
    - *repeats*: equal fingerprints of 32 consecutive elements, each rounded down to 1/16 std. Those kept, about 2**17
      of the whole array, are chosen by their first elements alone, so that a copy is found at any distance.

    Parameters
    ----------
    array
        A NumPy array of float16, bfloat16 (ml_dtypes), float32 or float64, of any strides and size, memory-mapped ones
        too; a torch tensor on the CPU, or anything else that NumPy makes such an array from without a copy. It is
        read in pieces. A `Constant` may also be checked in integers and booleans.
    init_or_law
        What the array is said to hold: an initializer, or the distribution of its elements.
    alpha
        The family-wise error rate in (0, 1): the probability that a right array fails any test is at most this (Holm
        1979).
    global_shape
        The shape of the whole tensor, where ``array`` is a shard of it: the initializer's fans come from it.
    threads
        As for `fill`.

    Returns
    -------
    Report
        ``.passed``, the verdict, which an array without elements never gets; ``.rejected``; ``.results``, each with
        ``.name .statistic .pvalue .passed``; ``str`` is a table.

    Raises
    ------
    TypeError
        If the array is none, or has no dtype of the four; if the initializer's elements have no distribution of their
        own.
    ValueError
        If alpha is not in (0, 1), or the distribution does not fit the dtype.

    Examples
    --------
    >>> import fastinit as fi
    >>> w = fi.array((512, 256), fi.he_normal(), seed=0, name="w", dtype="bfloat16")
    >>> fi.verify(w, fi.he_normal()).passed
    True
    >>> [result.name for result in fi.verify(1.03 * w, fi.he_normal()).results if not result.passed][:2]
    ['Kolmogorov-Smirnov', 'chi-square']
    """
    rate = check_real("alpha", alpha)
    if not 0 < rate < 1:
        raise ValueError(f"alpha must be in (0, 1), got {quoted(alpha)}")
    threads = thread_count(threads)
    values = as_array(array)
    distribution = distribution_of(init_or_distribution, _whole(values.shape, global_shape))
    if not (values.dtype.name in FLOATS or (values.dtype.kind in "iub" and isinstance(distribution, Constant))):
        raise TypeError(
            f"array must be of {', '.join(FLOATS)}, or for a constant also of integers or booleans, got dtype "
            f"{printable(str(values.dtype))}"
        )
    if not values.dtype.isnative:
        raise TypeError(f"array must be in native byte order, got dtype {printable(str(values.dtype))}")
    evidence = Evidence()
    summary = None
    null = None if isinstance(distribution, Constant) else null_of(distribution, values.dtype)
    if values.size == 0:
        evidence.skip("all", "there are no elements")
    elif null is None or isinstance(null, Constant):
        all_equal(values, distribution if null is None else null, evidence)
    else:
        summary = look(values, null, distribution, threads, evidence)
    return _judged(evidence, rate, values, distribution, summary)


def distribution_of(init_or_distribution: Initializer | Distribution, shape: Sequence[int]) -> Distribution:
    """The distribution that is meant: an initializer's for this shape, or the distribution itself."""
    if isinstance(init_or_distribution, Initializer):
        return init_or_distribution.distribution(shape)
    if isinstance(init_or_distribution, Distribution):
        return init_or_distribution
    raise TypeError(f"init_or_distribution must be one, such as fastinit.normal(), got {quoted(init_or_distribution)}")


def as_array(array: Any) -> Array:
    """The NumPy array that shares memory with whatever array this is.

    Raises
    ------
    TypeError
        If it is no array, or one of another device.
    """
    if is_masked(array):
        raise TypeError("array must have no mask, got MaskedArray")
    if isinstance(array, np.ndarray):
        return np.asarray(array)  # of a memory-mapped one a plain view
    if type(array).__module__.split(".")[0] == "torch":
        tensor = array.detach()
        if tensor.device.type != "cpu":
            raise TypeError(f"array must be in the memory of the CPU, got a tensor on {tensor.device}")
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has no such type of its own
            import ml_dtypes

            patterns: Array = tensor.view(sys.modules["torch"].int16).numpy()
            return patterns.view(ml_dtypes.bfloat16)
        return np.asarray(tensor.numpy())
    if not (hasattr(array, "__array__") or hasattr(array, "__array_interface__")):
        raise TypeError(f"array must be an array, got {type(array).__name__}")
    return np.asarray(array)


def _whole(shape: tuple[int, ...], global_shape: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of the tensor that an array of this shape is a part of."""
    if global_shape is None:
        return shape
    whole = check_shape("global_shape", global_shape)
    if len(whole) != len(shape) or any(part > size for part, size in zip(shape, whole, strict=True)):
        raise ValueError(f"global_shape must have the {len(shape)} axes of array and hold {shape}, got {whole}")
    return whole


def holm(pvalues: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses stand: Holm (1979), step down from the smallest p, against alpha over how many are left.

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


def _judged(
    evidence: Evidence, alpha: float, array: Array, distribution: Distribution, summary: Summary | None
) -> Report:
    """The report, with Holm's verdicts."""
    stand = holm([result.pvalue for result in evidence.made], alpha)
    results = tuple(
        Result(r.name, r.statistic, r.pvalue, passed, r.detail) for r, passed in zip(evidence.made, stand, strict=True)
    )
    skipped = tuple(evidence.skipped)
    return Report(
        bool(stand) and all(stand),
        results,
        skipped,
        alpha,
        array.size,
        array.shape,
        array.dtype.name,
        distribution,
        summary,
    )


class Shared(NamedTuple):
    """Two tensors that have elements in common, up to a scale: where they begin in each, and how many prints agree."""

    first: str
    second: str
    first_place: int
    second_place: int
    prints: int


def shared_streams(reports: Mapping[str, Report]) -> list[Shared]:
    """Tensors that were made from equal or overlapping streams.

    Fingerprints are made of distances from the mean in units of the distribution's std, rounded down: the same stream
    under another mean, std or precision still agrees where no element of a window sits at an edge; under another kind
    of distribution it does not. Some 1e5 fingerprints are kept of a tensor, so that an overlap of less than 1e-4 of one
    may be missed.

    Examples
    --------
    >>> import fastinit as fi
    >>> a = fi.array(5000, fi.normal(), seed=0, name="w")
    >>> b = fi.array(9000, fi.normal(std=0.02), seed=0, name="w")
    >>> reports = {"a": fi.verify(a, fi.normal()), "b": fi.verify(b, fi.normal(std=0.02))}
    >>> [(found.first, found.second) for found in shared_streams(reports)]
    [('a', 'b')]
    """
    names = [name for name, report in reports.items() if report.summary is not None and len(report.summary.prints)]
    kept = [reports[name].summary for name in names]
    prints = [np.unique(one.prints, return_index=True) for one in kept if one is not None]
    if len(names) < 2:
        return []
    owner = np.repeat(np.arange(len(names)), [len(values) for values, _ in prints])
    values = np.concatenate([values for values, _ in prints])
    places = np.concatenate(
        [one.places[first] for one, (_, first) in zip(kept, prints, strict=True) if one is not None]
    )
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(values[order][1:] == values[order][:-1])
    pairs: dict[tuple[int, int], list[int]] = {}
    for at in same.tolist():
        pairs.setdefault((int(owner[order[at]]), int(owner[order[at + 1]])), []).append(at)
    return [
        Shared(names[a], names[b], int(places[order[found[0]]]), int(places[order[found[0] + 1]]), len(found))
        for (a, b), found in sorted(pairs.items())
    ]


@dataclass(frozen=True)
class Checkpoint:
    """The verdict on several tensors: each one's report, and which of them have elements in common."""

    reports: dict[str, Report]
    shared: list[Shared]
    skipped: dict[str, str]  # tensors that were not looked at, and why
    alpha: float

    @property
    def passed(self) -> bool:
        """Whether every tensor was looked at and none was rejected."""
        return bool(self.reports) and not self.rejected and not self.skipped

    @property
    def rejected(self) -> bool:
        """Whether a tensor was rejected, or two of them are made of the same stream."""
        return bool(self.shared) or any(report.rejected for report in self.reports.values())

    def __str__(self) -> str:
        if len(self.reports) == 1 and not self.skipped:
            return str(next(iter(self.reports.values())))
        names = {name: printable(name)[:QUOTED] for name in (*self.reports, *self.skipped)}
        width = max(map(len, names.values()), default=0)
        counts = f"{len(self.reports)} verified, {len(self.skipped)} skipped"
        lines = [f"{_verdict(self)}: {counts}, family-wise alpha {self.alpha:g}"]
        for name, report in self.reports.items():
            worst = min(report.results, key=lambda result: result.pvalue, default=None)
            least = f"least p {worst.pvalue:.3g} ({worst.name})" if worst else "no tests"
            lines.append(f"{names[name]:{width}}  {_verdict(report)}  {least}  {report.distribution}")
        lines += [f"{names[name]:{width}}  skipped: {printable(reason)}" for name, reason in self.skipped.items()]
        for one in self.shared:
            lines.append(
                f"REJECTED: {names[one.first]} from element {one.first_place} on and {names[one.second]} from element "
                f"{one.second_place} on are made of the same stream ({one.prints} fingerprints agree)"
            )
        lines += [f"\n{names[name]}\n{report}" for name, report in self.reports.items() if report.rejected]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON can hold it."""
        return {
            "passed": self.passed,
            "rejected": self.rejected,
            "alpha": self.alpha,
            "tensors": {name: report.as_dict() for name, report in self.reports.items()},
            "shared": [one._asdict() for one in self.shared],
            "skipped": self.skipped,
        }


def verify_tensors(
    tensors: Mapping[str, tuple[Any, Initializer | Distribution]],
    *,
    alpha: float = 1e-6,
    threads: int | None = None,
    skipped: Mapping[str, str] | None = None,
) -> Checkpoint:
    """`verify` several tensors, and compare them with each other: `shared_streams`.

    Parameters
    ----------
    tensors
        Each with its initializer or distribution. Those without elements, or without a distribution of their elements,
        such as `orthogonal`'s, are skipped.
    alpha
        The family-wise error rate of all tests of all tensors; each tensor gets an equal share of it.
    threads
        As for `fill`.
    skipped
        Names of tensors that belong to the whole but cannot be looked at, each with the reason.

    Returns
    -------
    Checkpoint
        ``.passed`` if every tensor was looked at and none was ``.rejected``; ``.reports`` by name, ``.skipped`` with
        reasons.

    Raises
    ------
    TypeError, ValueError
        As `verify`; the message names the tensor.

    Examples
    --------
    >>> import fastinit as fi
    >>> from fastinit.verification.verifier import verify_tensors
    >>> init = fi.he_normal()
    >>> tensors = {name: (fi.array((64, 64), init, seed=0, name="same"), init) for name in "ab"}
    >>> found = verify_tensors(tensors)
    >>> found.passed, [report.passed for report in found.reports.values()]
    (False, [True, True])
    """
    reports: dict[str, Report] = {}
    left = dict(skipped or {})
    for name, (array, init) in tensors.items():
        try:
            values = as_array(array)
            if isinstance(init, Initializer) and isinstance(init.rule(values.shape), Matrix):
                left[name] = f"{init} has no distribution of its elements"
            elif not values.size:
                left[name] = "it has no elements"
            else:
                reports[name] = verify(values, init, alpha=alpha / len(tensors), threads=threads)
        except (TypeError, ValueError) as error:
            raise type(error)(f"tensor {quoted(name)}: {error}") from None
    return Checkpoint(reports, shared_streams(reports), left, alpha)
