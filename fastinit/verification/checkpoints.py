"""`verify` for several tensors, with the search for tensors made of one random stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastinit.core.arrays import Array
from fastinit.core.text import QUOTED, printable, quoted
from fastinit.distributions import Distribution
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.sampling.progress import Progress, reporter
from fastinit.sampling.threads import thread_count
from fastinit.verification.pieces import Pieces
from fastinit.verification.regions import Region, parts_of
from fastinit.verification.report import Report, verdict_of
from fastinit.verification.streams import Shared, shared_streams
from fastinit.verification.verifier import as_array, check_level, check_rate, distribution_of, verify_pieces


@dataclass(frozen=True)
class Checkpoint:
    """The verdict on several tensors: each one's report, and which of them have elements in common."""

    reports: dict[str, Report]
    shared: list[Shared]
    skipped: dict[str, str]  # reasons of the tensors that were not looked at
    alpha: float
    against: str = ""  # what the tensors were compared with, in words

    @property
    def passed(self) -> bool:
        """Test whether every tensor was looked at and none was rejected."""
        return bool(self.reports) and not self.rejected and not self.skipped

    @property
    def rejected(self) -> bool:
        """Test whether a tensor was rejected, or two of them are made of one stream."""
        return bool(self.shared) or any(report.rejected for report in self.reports.values())

    def __str__(self) -> str:
        if len(self.reports) == 1 and not self.skipped:
            return str(next(iter(self.reports.values())))
        names = {name: printable(name)[:QUOTED] for name in (*self.reports, *self.skipped)}
        width = max(map(len, names.values()), default=0)
        counts = f"{len(self.reports)} verified, {len(self.skipped)} skipped"
        what = f", {'matches' if self.passed else 'compared with'} {printable(self.against)}" if self.against else ""
        lines = [f"{verdict_of(self.passed, self.rejected)}{what}: {counts}, family-wise alpha {self.alpha:g}"]
        for name, report in self.reports.items():
            worst = min(report.results, key=lambda result: result.pvalue, default=None)
            least = f"least p {worst.pvalue:.3g} ({worst.name})" if worst else "no tests"
            lines.append(
                f"{names[name]:{width}}  {verdict_of(report.passed, report.rejected)}  {least}  {report.distribution}"
            )
        lines += [f"{names[name]:{width}}  skipped: {printable(reason)}" for name, reason in self.skipped.items()]
        for one in self.shared:
            lines.append(f"REJECTED: {one.words(names[one.first], names[one.second])}")
        lines += [f"\n{names[name]}\n{report}" for name, report in self.reports.items() if report.rejected]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict in the types of JSON."""
        return {
            "passed": self.passed,
            "rejected": self.rejected,
            "alpha": self.alpha,
            "against": self.against,
            "tensors": {name: report.as_dict() for name, report in self.reports.items()},
            "shared": [one._asdict() for one in self.shared],
            "skipped": self.skipped,
        }


def verify_tensors(
    tensors: Mapping[str, tuple[Any, Initializer | Distribution]],
    *,
    alpha: float = 1e-6,
    level: str = "full",
    threads: int | None = None,
    skipped: Mapping[str, str] | None = None,
    regions: Mapping[str, Sequence[Region]] | None = None,
    against: str = "",
    progress: Progress = None,
) -> Checkpoint:
    """`verify` several tensors, and compare them with each other: `shared_streams`.

    Parameters
    ----------
    tensors
        Each with its initializer or distribution. Those without elements, or without a distribution of their elements,
        as `orthogonal`'s, are skipped.
    alpha
        The family-wise error rate of all tests of all tensors; each tensor, and each region, gets an equal share of it.
    level
        As for `verify`.
    threads
        As for `fill`.
    skipped
        Names of tensors that belong to the whole but cannot be looked at, each with the reason.
    regions
        Of some tensors, those that were written after the whole: offset, shape and initializer, the last one on top.
        Each is verified by itself, as ``name[3:4]`` if it is row 3, and what is left as ``name``. They must be whole
        rows, of the first axis, or the tensor is skipped.
    against
        What gave the initializers, such as a recipe: the report's first line says it.
    progress
        As for `fill`: it is told the bytes that were looked at, and those of all tensors.

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
    >>> from fastinit.verification.checkpoints import verify_tensors
    >>> init = fi.he_normal()
    >>> tensors = {name: (fi.array((64, 64), init, seed=0, name="same"), init) for name in "ab"}
    >>> found = verify_tensors(tensors)
    >>> found.passed, [report.passed for report in found.reports.values()]
    (False, [True, True])
    """
    rate, full, threads = check_rate(alpha), check_level(level), thread_count(threads)
    left = dict(skipped or {})
    parts: dict[str, _Job] = {}
    for name, (array, init) in tensors.items():
        with _about(name):
            jobs, reason = _jobs(as_array(array), init, (regions or {}).get(name, ()))
        if reason:
            left[name] = reason
        for label, job in jobs.items():
            parts[_unused(name + label, [tensors, parts, left]) if label else name] = job._replace(tensor=name)
    share = rate / max(len(parts), 1)
    total, done = sum(job.pieces.size * job.pieces.dtype.itemsize for job in parts.values()), 0
    reports: dict[str, Report] = {}
    with reporter(progress, "verifying") as report:
        for name, (tensor, pieces, distribution) in parts.items():
            with _about(tensor):
                reports[name] = verify_pieces(pieces, distribution, share, threads, full)
            done += pieces.size * pieces.dtype.itemsize
            report(done, total)
    return Checkpoint(reports, shared_streams(reports), left, alpha, against)


class _Job(NamedTuple):
    """What is verified by itself: a tensor, or some of its rows."""

    tensor: str
    pieces: Pieces
    distribution: Distribution


def _jobs(array: Array, init: Initializer | Distribution, regions: Sequence[Region]) -> tuple[dict[str, _Job], str]:
    """Return what is to be verified of a tensor, by what follows its name; or nothing, and the reason."""
    parts = parts_of(array.shape, init, regions)
    if parts is None:
        return {}, "a region of it is not made of whole rows"
    for part in parts:
        if isinstance(part.init, Initializer) and isinstance(part.init.resolve(array.shape), Matrix):
            return {}, f"{part.init} has no distribution of its elements"
    if not array.size:
        return {}, "it has no elements"
    return {part.label: _Job("", part.of(array), distribution_of(part.init, array.shape)) for part in parts}, ""


def _unused(name: str, taken: Sequence[Mapping[str, Any]]) -> str:
    """Return the name, made longer until it is nobody else's: a report must not replace another."""
    while any(name in names for names in taken):
        name += "'"
    return name


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Name the tensor in errors."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"tensor {quoted(name)}: {error}") from None
