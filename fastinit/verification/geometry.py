"""How an array is seen as a matrix: rows and columns for the sums of a pass, and what they are along its axes."""

from __future__ import annotations

import math
from typing import NamedTuple

LEAST, MOST = 64, 1 << 18  # elements of a row
MOST_ROWS = 1 << 21  # whose sums take memory; of more rows several make one
CHUNKS = 16  # of a row


class Axis(NamedTuple):
    """A factor of the number of rows, or of columns."""

    label: str  # of its numbers, which go into the braces; empty for one that is not tested
    size: int
    step: int = 1  # lines of the array to one of these

    def words(self, first: int, last: int) -> str:
        """Return the numbers from the first to the last in words."""
        first, last = first * self.step, (last + 1) * self.step - 1
        return self.label.format(first if first == last else f"{first}-{last}")

    @property
    def name(self) -> str:
        """Return the name of the lines."""
        return self.label.replace(" {}", "")


class Geometry(NamedTuple):
    """An array in C order as rows of equal width; the last one may be shorter."""

    size: int
    width: int
    lead: tuple[Axis, ...]  # the number of rows is the product of their sizes, and the width that of the others
    trail: tuple[Axis, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return -(-self.size // self.width)

    @property
    def chunk(self) -> int:
        """Return the elements of a part of a row that has sums of its own."""
        return max(LEAST, -(-self.width // CHUNKS))

    @property
    def chunks(self) -> int:
        """Return the number of parts of a row."""
        return -(-self.width // self.chunk)


def geometry(shape: tuple[int, ...]) -> Geometry:
    """Return the matrix that an array is seen as: a split of its axes, if there is one into rows of a good width.

    Examples
    --------
    >>> [(one.rows, one.width) for one in map(geometry, [(300, 200), (512, 256, 3, 3), (1 << 20, 8), (10**6,)])]
    [(300, 200), (512, 2304), (2048, 4096), (977, 1024)]
    >>> geometry((1 << 28, 64)).rows
    1048576
    """
    size = math.prod(shape)
    axes = axes_of(shape)
    widths = {split: math.prod(shape[split:]) for split in range(1, len(shape))}
    good = [
        split
        for split, width in widths.items()
        if LEAST <= width <= MOST and size > width and size // width <= MOST_ROWS
    ]
    if good:
        split = min(good, key=lambda split: max(widths[split], size // widths[split]))
        return Geometry(size, widths[split], _kept(axes[:split]), _kept(axes[split:]))
    wanted = 1 << min(max(round(math.log2(max(size, 1)) / 2), 6), 14)
    narrow = [width for width in widths.values() if width < LEAST or (width <= MOST and size // width > MOST_ROWS)]
    inner = max(narrow, default=1)
    if inner > 1:  # several short rows make one
        split, count = next(split for split, width in widths.items() if width == inner), max(wanted // inner, 1)
        width = inner * count
        lead = axes[0]._replace(step=count) if split == 1 else Axis(f"elements {{}} x {width}", 0)
        return Geometry(size, width, (lead._replace(size=-(-size // width)),), (Axis("", count), *_kept(axes[split:])))
    modulo = Axis(f"places {{}} modulo {wanted}", wanted)
    if len(shape) > 1 and shape[-1] > 1 and shape[-1] % wanted == 0:  # long rows are cut
        return Geometry(size, wanted, (*_kept(axes[:-1]), Axis(_label(-1, 0), shape[-1] // wanted, wanted)), (modulo,))
    return Geometry(size, wanted, (Axis("elements {}", -(-size // wanted), wanted),), (modulo,))


def axes_of(shape: tuple[int, ...]) -> list[Axis]:
    """Return an array's axes."""
    return [Axis(_label(k, len(shape)), count) for k, count in enumerate(shape)]


def _kept(axes: list[Axis]) -> tuple[Axis, ...]:
    """Return the axes that have more than one number, or one of them."""
    return tuple(axis for axis in axes if axis.size > 1) or (Axis("", 1),)


def _label(axis: int, axes: int) -> str:
    """Return what the numbers along an axis are called."""
    return ("rows {}", "columns {}")[axis] if axes == 2 else f"indices {{}} of axis {axis}"
