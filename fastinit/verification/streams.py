"""Tensors that have random numbers in common: copies, whole or in part, and correlated ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.verification.cosines import chance, largest_cosines, normalise
from fastinit.verification.null_distribution import Null, scores_of
from fastinit.verification.pieces import Pieces
from fastinit.verification.report import Prints, Report, Sample
from fastinit.verification.scan import bins_of, kernel_of

Scores = NDArray[np.float32]

HEAD = 1 << 12  # elements of a tensor that are compared one by one: the first, and as many all over it
LEAST = 64
COLUMNS, PART = 16, 128  # whose fingerprints are kept, or this part of all: those of the largest sums, in any order
MOST = 1 << 22  # elements of theirs
RATE = 1e-12  # of all comparisons of a checkpoint element by element


class Shared(NamedTuple):
    """Two tensors with elements in common, up to a scale: their first in each, and the fingerprints that agree."""

    first: str
    second: str
    first_place: int
    second_place: int
    fingerprints: int
    relation: str = "made of the same stream"

    def words(self, first: str, second: str) -> str:
        """Return what the tensors, which have these names, have in common."""
        if not self.fingerprints:
            return f"{first} and {second} are {self.relation}"
        places = f"{first} from element {self.first_place} on and {second} from element {self.second_place} on"
        return f"{places} are {self.relation} ({self.fingerprints} fingerprints agree)"


def sample_of(array: Pieces, null: Null, across: Prints, sums: NDArray[np.float64], least: float) -> Sample:
    """Return what is kept of an array for comparisons with others.

    ``across`` are its fingerprints in C order; ``sums`` those of its columns, and ``least`` the magnitude that has a
    fingerprint.
    """
    spread = np.linspace(0, array.size - 1, min(array.size, HEAD)).astype(np.int64)
    places = list(np.unravel_index(spread, array.shape)) if array.ndim else []
    scores = scores_of(array.take(places) if places else array.flat(0, 1), null)
    down = Prints(np.empty(0, np.uint64), np.empty(0, np.int64))
    if array.ndim == 2 and array.shape[1] == len(sums) and array.shape[0] > 1:
        count = max(1, min(max(COLUMNS, len(sums) // PART), MOST // array.shape[0]))
        down = _down(array, null, np.sort(np.argsort(-abs(sums), kind="stable")[:count]), least)
    return Sample(scores_of(array.flat(0, min(array.size, HEAD)), null), scores, across, down)


def _down(array: Pieces, null: Null, columns: NDArray[np.int64], least: float) -> Prints:
    """Return the fingerprints of some columns, from their upper to their lower end."""
    (rows, width), look = array.shape, kernel_of(null, array.dtype)
    numbers, places = [], []
    sums, sides, scores = np.zeros((1, 1, 2)), np.zeros((1, 2, rows), np.float32), np.empty(rows, np.float32)
    extremes = np.array([np.inf, -np.inf], np.float64 if null.grid is None else array.dtype)
    counted = np.zeros(bins_of(null), np.int32), np.zeros(2, np.int64), np.zeros(2), extremes
    for column in columns.tolist():
        line = array.take([np.arange(rows)[:, None], np.array([[column]])]).ravel()
        found, at = np.empty(rows, np.uint64), np.empty(rows, np.int64)
        kept = look(line, 0, rows, *counted, scores, 0, rows, rows, sums, sides, 0, np.zeros(5), least, found, at)
        numbers.append(found[:kept])
        places.append(at[:kept] * width + column)
    return Prints(np.concatenate(numbers), np.concatenate(places))


def shared_streams(reports: Mapping[str, Report]) -> list[Shared]:
    """Return the pairs of tensors that were made from equal or overlapping streams, or are correlated.

    Fingerprints are made of the magnitudes of 31 normal scores in units of 1 / 16 std, rounded down, and are the same
    from either end: copies agree that have another mean, std, precision or signs, or are reversed, as long as no
    element of a window sits at an edge. Some 65,000 of them are kept of a tensor, so that an overlap of less than 1e-3
    of one may be missed. Those of some columns of a matrix are compared too: with rows, of a transposed copy, and with
    columns, of one whose columns are in another order.

    Besides, 4096 elements at the beginning and as many all over the tensor are compared one by one, if the tensors are
    equally large: a correlation of some 0.15 is seen. At the beginning they are also compared as those of one seed and
    name in two precisions, of which float64 has the angles, or the upper bits, of other elements of float32.

    Examples
    --------
    >>> import fastinit as fi
    >>> a = fi.array(5000, fi.normal(), seed=0, name="w")
    >>> b = fi.array(9000, fi.normal(std=0.02), seed=0, name="w")
    >>> reports = {"a": fi.verify(a, fi.normal()), "b": fi.verify(b, fi.normal(std=0.02))}
    >>> [(found.first, found.second) for found in shared_streams(reports)]
    [('a', 'b')]
    """
    samples = {name: one.summary.sample for name, one in reports.items() if one.summary}
    if len(samples) < 2:
        return []
    found: dict[tuple[str, str], Shared] = {}
    for one in _correlated(samples, reports):
        found.setdefault((one.first, one.second), one)
    found.update({(one.first, one.second): one for one in _copied(samples)})
    order = {name: k for k, name in enumerate(samples)}
    return [found[pair] for pair in sorted(found, key=lambda pair: (order[pair[0]], order[pair[1]]))]


def _copied(samples: Mapping[str, Sample]) -> list[Shared]:
    """Return the pairs with equal fingerprints."""
    names = list(samples)
    kept = [(k, one) for k, sample in enumerate(samples.values()) for one in (sample.across, sample.down)]
    every = np.sort(np.concatenate([one.numbers for _, one in kept]))
    twice = np.unique(every[1:][every[1:] == every[:-1]])
    if not twice.size:
        return []
    found = [_first_of(one, twice) for _, one in kept]
    owner = np.repeat([k for k, _ in kept], [len(one.numbers) for one in found])
    values, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((owner, values))
    equal = np.flatnonzero((values[order][1:] == values[order][:-1]) & (owner[order][1:] != owner[order][:-1]))
    pairs: dict[tuple[int, int], list[int]] = {}
    for at in equal.tolist():
        pairs.setdefault((int(owner[order[at]]), int(owner[order[at + 1]])), []).append(at)
    shared = []
    for (a, b), same in pairs.items():
        first, second = min((int(places[order[at]]), int(places[order[at + 1]])) for at in same)
        shared.append(Shared(names[a], names[b], first, second, len(same)))
    return shared


def _first_of(prints: Prints, wanted: NDArray[np.uint64]) -> Prints:
    """Return those of a tensor's fingerprints that are wanted, sorted, each once and with its first place."""
    mine = np.isin(prints.numbers, wanted)
    values, first = np.unique(prints.numbers[mine], return_index=True)
    return Prints(values, prints.places[mine][first])


_Part = Callable[[Sample], Scores]


def _correlated(samples: Mapping[str, Sample], reports: Mapping[str, Report]) -> list[Shared]:
    """Return the pairs whose elements are correlated, one by one."""
    double = {name for name in samples if reports[name].dtype == "float64"}
    single = samples.keys() - double
    same: list[tuple[_Part, _Part]] = [(part, part) for part in (lambda one: one.head, lambda one: one.spread)]
    # a block of four words: (radius, angle) twice in single precision, each half of one number in double precision
    across: list[tuple[_Part, _Part]] = [
        (lambda one: one.head[2::4], lambda one: one.head[: len(one.head) // 2 : 2]),
        (lambda one: one.head[1::2], lambda one: one.head[: len(one.head) // 2]),
    ]
    found = []
    for parts, relation in ((same, "correlated"), (across, "made of the same stream in two precisions")):
        for mine, others in parts:
            groups: dict[tuple[int, ...], list[tuple[str, Scores]]] = {}
            for name, sample in samples.items():
                part = (others if name in double else mine)(sample)
                shape = reports[name].shape if part is sample.spread else ()
                groups.setdefault((len(part), *shape), []).append((name, part))
            for group in groups.values():
                for first, second, r in _pairs(group):
                    if relation == "correlated" or (first in single) != (second in single):
                        found.append(Shared(first, second, 0, 0, 0, f"{relation}: r = {r:.3g}, element by element"))
    return found


def _pairs(group: list[tuple[str, Scores]]) -> list[tuple[str, str, float]]:
    """Return the pairs of vectors that are farther from a right angle than random ones."""
    length = len(group[0][1])
    if len(group) < 2 or length < LEAST:
        return []
    lines = np.stack([part for _, part in group])
    normalise(lines)
    matrix = np.zeros((len(group), len(group)), np.float32)
    largest_cosines(lines, 1, matrix)
    pairs, found = len(group) * (len(group) - 1) // 2, []
    for i, j in np.argwhere(np.triu(abs(matrix), 1) > 4 / np.sqrt(length)).tolist():
        r = float(matrix[i, j])
        if chance(r, length, pairs) < RATE:
            found.append((group[i][0], group[j][0], r))
    return found
