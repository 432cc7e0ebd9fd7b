"""Means and stds of lines: of rows, columns, and whatever else the numbers along an axis count.

The sum of the scores of a line, over the root of their number, is a standard normal number; the sum of their squares is
a chi-square number, and by Wilson and Hilferty (1931) its cube root is nearly normal. Both are made deviates: n numbers
that are independent and standard normal under the null hypothesis. What is tested of them is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.core.arrays import Floats
from fastinit.verification import pvalues
from fastinit.verification.evidence import Evidence
from fastinit.verification.geometry import Axis, Geometry
from fastinit.verification.null_distribution import Null

LEAST = 16  # elements of a line, whose sum is then normal enough
LEAST_SHAPE = 16.0  # of the gamma distribution of a line's squares, for Wilson and Hilferty's approximation
CELLS = 256  # of an axis, between which changes are looked for
GRID = 32  # rows of blocks of the picture
KINDS = ("mean", "std")


Places = NDArray[np.intp]


class Sums(NamedTuple):
    """Sums of scores and of their squares, and how many they are."""

    one: Floats
    two: Floats
    number: Floats  # of elements

    def grouped(self, starts: Places) -> Sums:
        """Return the sums of groups that begin at these numbers."""
        return Sums(*(np.add.reduceat(part, starts) for part in self))


def deviates(sums: Sums, kind: str, null: Null) -> Floats | None:
    """Return normal deviates of means or of stds; None where lines are too short for them."""
    least = float(sums.number.min())
    if kind == "mean":
        return sums.one / np.sqrt(sums.number) if least >= LEAST else None
    shape = sums.number / (null.fourth - 1) if null.fourth > 1 + 1e-6 else sums.number * 0
    if float(shape.min()) < LEAST_SHAPE:
        return None
    part = 1 / (9 * shape)
    return np.asarray((np.cbrt(sums.two / sums.number) - (1 - part)) / np.sqrt(part))


def test_lines(form: Geometry, rows: Floats, columns: Floats, null: Null, evidence: Evidence) -> Floats:
    """Make the tests of all axes, of the blocks of rows and columns, and of periods; return the blocks' means and stds.

    Parameters
    ----------
    rows
        Sums of scores and of their squares by row and chunk.
    columns
        By row modulo a small number, and column.
    """
    chunks, remainders = _of_chunks(form, rows), _of_remainders(form, columns)
    for axis, sums in _axes(form, chunks, remainders):
        for kind in KINDS:
            _test_axis(axis, sums, kind, null, evidence)
    starts = np.unique(np.linspace(0, form.rows, min(form.rows, GRID) + 1)[:-1].astype(np.intp))
    blocks = chunks.grouped(starts)
    for kind in KINDS:
        _test_blocks(form, starts, blocks, kind, null, evidence)
        _test_plane(remainders, kind, null, evidence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([blocks.one / blocks.number, np.sqrt(blocks.two / blocks.number)])


def _of_chunks(form: Geometry, rows: Floats) -> Sums:
    """Return the sums by row and chunk, with their numbers of elements."""
    count = np.full(rows.shape[:2], float(form.chunk))
    count[:, -1] = form.width - form.chunk * (form.chunks - 1)
    left = form.size - (form.rows - 1) * form.width
    count[-1] = np.clip(left - form.chunk * np.arange(form.chunks), 0, count[-1])
    return Sums(rows[..., 0], rows[..., 1], count)


def _of_remainders(form: Geometry, columns: Floats) -> Sums:
    """Return the sums by row's number modulo and column, with their numbers of elements."""
    modulo = len(columns)
    whole, last = form.size // form.width, form.size % form.width
    count = np.repeat((whole - np.arange(modulo) + modulo - 1) // modulo, form.width).reshape(modulo, -1).astype(float)
    count[whole % modulo, :last] += 1
    return Sums(columns[:, 0], columns[:, 1], count)


def _axes(form: Geometry, chunks: Sums, remainders: Sums) -> Iterator[tuple[Axis, Sums]]:
    """Yield the lines along each axis."""
    for sums, axes, joint in (
        (Sums(*(part.sum(axis=1) for part in chunks)), form.lead, f"rows {{}} x {form.width}"),
        (Sums(*(part.sum(axis=0) for part in remainders)), form.trail, f"places {{}} modulo {form.width}"),
    ):
        sizes = [axis.size for axis in axes]
        for k, axis in enumerate(axes):
            if axis.label and axis.size > 1:
                others = tuple(other for other in range(len(axes)) if other != k)
                yield axis, Sums(*(part.reshape(sizes).sum(axis=others) for part in sums))
        if sum(size > 1 for size in sizes) > 1:
            yield Axis(joint, math.prod(sizes)), sums


def _test_axis(axis: Axis, sums: Sums, kind: str, null: Null, evidence: Evidence) -> None:
    """Test whether lines differ from each other more, or less, than independent draws do, and where.

    Five statistics of the deviates: the largest, the sum of their squares (both ways), a trend, the largest sum of
    neighbours, the largest power of a period. The least p-value counts, five times.
    """
    name = f"{kind}s of {axis.name}"
    if sums.number[-1] < LEAST and len(sums.number) > 2:  # what is left of a row
        sums = Sums(*(part[:-1] for part in sums))
    found = deviates(sums, kind, null)
    if found is None or len(found) < 2 or null.mass.max() > 0.25:
        evidence.skip(name, f"needs two, {LEAST} elements of each, and values that differ")
        return
    cells = np.unique(np.linspace(0, len(found), min(len(found), CELLS) + 1)[:-1].astype(np.intp))
    grouped = sums.grouped(cells)
    of_cells = deviates(grouped, kind, null)
    assert of_cells is not None
    candidates = [
        _largest(axis, found, sums, kind),
        _dispersion(axis, found, kind),
        _trend(axis, found, grouped, kind),
        _interval(axis, found, of_cells, cells, sums, kind),
        _period(axis, found, kind),
    ]
    pvalue, _, statistic, detail = min(candidates)
    evidence.add(name, statistic, len(candidates) * pvalue, detail)


Found = tuple[float, float, float, str]  # p-value, its place among equal ones, statistic, what is wrong in words


def _amount(sums: Sums, some: slice, kind: str) -> str:
    """Return the mean or the std of some lines in words."""
    one, two, count = (float(part[some].sum()) for part in sums)
    if kind == "mean":
        return f"mean {one / count:+.3g} std"
    return f"std {math.sqrt(max(two / count, 0)):.4g} of the distribution's"


def _largest(axis: Axis, found: Floats, sums: Sums, kind: str) -> Found:
    """Return the line farthest out."""
    at = int(abs(found).argmax())
    what = _amount(sums, slice(at, at + 1), kind)
    z = float(found[at])
    return pvalues.two_sided(z, 0.0) * len(found), -abs(z), z, f"{axis.words(at, at)}: {what}"


def _dispersion(axis: Axis, found: Floats, kind: str) -> Found:
    """Return the sum of squares."""
    total = float((found**2).sum())
    more = total > len(found)
    pvalue = 2 * (pvalues.chi_square if more else pvalues.chi_square_below)(total, len(found))
    ratio = math.sqrt(total / len(found))
    return (
        pvalue,
        0.0,
        total / len(found),
        f"the {kind}s of {axis.name} vary {ratio:.3g} times as much as those of draws",
    )


def _trend(axis: Axis, found: Floats, grouped: Sums, kind: str) -> Found:
    """Return the linear trend."""
    weights = np.arange(len(found)) - (len(found) - 1) / 2
    z = float((weights * found).sum() / math.sqrt((weights**2).sum()))
    third = max(len(grouped.number) // 3, 1)
    first, last = (_amount(grouped, some, kind) for some in (slice(0, third), slice(-third, None)))
    sense = "rises" if z > 0 else "falls"
    detail = f"the {kind} {sense} along the {axis.name}: first third {first}, last third {last}"
    return pvalues.two_sided(z, 0.0), -abs(z), z, detail


def _interval(axis: Axis, lines: Floats, found: Floats, cells: Places, sums: Sums, kind: str) -> Found:
    """Return the neighbours whose sum is farthest out, of all runs of cells but the whole."""
    count = len(found)
    ends = np.concatenate([[0.0], np.cumsum(found)])
    first, last = np.triu_indices(count + 1, 1)
    inner = last - first < count
    first, last = first[inner], last[inner]
    if not len(first):
        return 1.0, 0.0, 0.0, ""
    z = (ends[last] - ends[first]) / np.sqrt(last - first)
    at = int(abs(z).argmax())
    bounds = [*cells.tolist(), len(sums.number)]
    begin, end = _sharpened(lines, bounds[first[at]], bounds[last[at]], -(-len(lines) // count))
    what = _amount(sums, slice(begin, end), kind)
    most = float(z[at])
    return pvalues.two_sided(most, 0.0) * len(z), -abs(most), most, f"{axis.words(begin, end - 1)}: {what}"


def _sharpened(lines: Floats, begin: int, end: int, reach: int) -> tuple[int, int]:
    """Return the ends of a run, to the line, where those of cells are known: each in turn, while the other stays."""
    total = np.concatenate([[0.0], np.cumsum(lines)])

    def best(at: int, other: int) -> int:
        places = np.arange(max(at - reach, 0), min(at + reach, len(lines)) + 1)
        places = places[(places < other) == (at < other)]
        places = places[places != other]
        return int(places[(abs(total[places] - total[other]) / np.sqrt(abs(places - other))).argmax()])

    for _ in range(2):
        begin = best(begin, end)
        end = best(end, begin)
    return begin, end


def _period(axis: Axis, found: Floats, kind: str) -> Found:
    """Return the largest power of a period; that of two lines is a normal number's."""
    count = len(found)
    power = abs(np.fft.rfft(found)[1:]) ** 2 / count
    if count % 2 == 0:
        power[-1] /= 2  # a chi-square number of one degree: its chances are less than those of an exponential one
    if not len(power):
        return 1.0, 0.0, 0.0, ""
    at = int(power.argmax())
    detail = f"the {kind} of {axis.name} has a period of {count / (at + 1):.4g}"
    return len(power) * math.exp(-min(float(power[at]), 700.0)), 0.0, float(power[at]), detail


def _test_blocks(form: Geometry, starts: Places, blocks: Sums, kind: str, null: Null, evidence: Evidence) -> None:
    """Test the blocks of rows and columns: the one farthest out, and how much they differ."""
    name = f"{kind}s of blocks"
    some = blocks.number.ravel() >= max(LEAST, LEAST_SHAPE * (null.fourth - 1))
    flat = Sums(*(part.ravel()[some] for part in blocks))
    found = deviates(flat, kind, null) if some.sum() > 1 and min(blocks.number.shape) > 1 else None
    if found is None or null.mass.max() > 0.25:
        evidence.skip(name, "needs rows and columns, and values that differ")
        return
    place, chunk = divmod(int(np.flatnonzero(some)[abs(found).argmax()]), form.chunks)
    rows = f"{starts[place]}-{[*starts[1:], form.rows][place] - 1}"
    columns = f"{chunk * form.chunk}-{min((chunk + 1) * form.chunk, form.width) - 1}"
    words = Axis(f"rows {rows}, columns {columns} of {form.rows} x {form.width}{{}}", 1).label.format("")
    axis = Axis("blocks {}", len(found))
    pvalue, _, statistic, detail = min(_largest(axis, found, flat, kind), _dispersion(axis, found, kind))
    if detail.startswith("blocks "):
        detail = f"{words}: {detail.partition(': ')[2]}"
    evidence.add(name, statistic, 2 * pvalue, detail)


def _test_plane(remainders: Sums, kind: str, null: Null, evidence: Evidence) -> None:
    """Test the periods along both axes at once, such as those of a checkerboard."""
    name = f"periods of {kind}s"
    found = deviates(remainders, kind, null)
    if found is None or len(found) < 2 or null.mass.max() > 0.25:
        evidence.skip(name, f"needs {LEAST} elements of each column, and values that differ")
        return
    modulo, width = found.shape
    power = abs(np.fft.rfft2(found)) ** 2 / found.size
    power[[0, *([modulo // 2] if modulo % 2 == 0 else [])], 0] /= 2  # real: chi-square numbers of one degree
    if width % 2 == 0:
        power[[0, *([modulo // 2] if modulo % 2 == 0 else [])], -1] /= 2
    power[0, 0] = 0
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    most = float(power[row, column])
    along = f"{width / column:.4g} columns" if column else ""
    across = f"{modulo / min(row, modulo - row):.4g} rows" if row else ""
    detail = f"the {kind} has a period of {' and '.join(filter(None, (across, along)))}"
    evidence.add(name, most, power.size * math.exp(-min(most, 700.0)), detail)
