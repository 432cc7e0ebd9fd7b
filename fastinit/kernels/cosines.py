"""Products of many lines with all others, a block of sums at a time: kept in registers, as in a product of matrices."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import register_jitable

from fastinit.kernels.intrinsics import stack_array
from fastinit.kernels.measures import LINES
from fastinit.kernels.processor import TARGET

PANEL = 2 * TARGET.vector_bits // 32  # lines whose products with others are formed side by side
DEPTH = 256  # elements of theirs that stay in the cache meanwhile

_panel, _four = stack_array(types.float32, DEPTH * PANEL), stack_array(types.float32, 4 * PANEL)
_found = stack_array(types.float32, (LINES + 3) * PANEL)


@register_jitable(fastmath={"reassoc", "nsz", "contract"})
def _add_products(total, one, two, three, four, panel):
    """Add the products of four runs with those of a panel, which has the elements of its lines side by side.

    ``total`` has a row for each of the four. Its sums stay in registers: two vectors a row are enough to hide the time
    that a multiply-add takes, and fit into the registers of any processor.
    """
    a, b, c, d = total[:PANEL], total[PANEL : 2 * PANEL], total[2 * PANEL : 3 * PANEL], total[3 * PANEL : 4 * PANEL]
    for k in range(one.size):
        p, q, r, s = one[k], two[k], three[k], four[k]
        for j in range(PANEL):
            v = panel[k * PANEL + j]
            a[j] += p * v
            b[j] += q * v
            c[j] += r * v
            d[j] += s * v


def cosines(lines, first, last, matrix, most, at):
    """Multiply up to ``LINES`` lines, from ``first`` to ``last``, with all before them.

    BLAS would wait for threads of its own. ``most`` and ``at`` have, for each line, the product of the largest
    magnitude and with which one it is; ``matrix`` has all products, unless it is empty.
    """
    panel, total, found = _panel(), _four(), _found()
    end = last - 1
    for begin in range(0, end, PANEL):
        low = max(first, begin + 1)
        for j in range(found.size):
            found[j] = 0
        for start in range(0, lines.shape[1], DEPTH):
            stop = min(start + DEPTH, lines.shape[1])
            for j in range(PANEL):
                line = lines[min(begin + j, end), start:stop]
                for k in range(line.size):
                    panel[k * PANEL + j] = line[k]
            for i in range(low, last, 4):
                place = (i - first) * PANEL
                for j in range(4 * PANEL):
                    total[j] = found[place + j]
                _add_products(
                    total,
                    lines[i, start:stop],
                    lines[min(i + 1, end), start:stop],
                    lines[min(i + 2, end), start:stop],
                    lines[min(i + 3, end), start:stop],
                    panel,
                )
                for j in range(4 * PANEL):
                    found[place + j] = total[j]
        for i in range(low, last):
            place = (i - first) * PANEL
            here = found[place : place + min(PANEL, i - begin)]
            hits, least = np.int32(0), abs(most[i])
            for j in range(here.size):
                hits += np.int32(abs(here[j]) > least)
            if matrix.size:
                for j in range(here.size):
                    matrix[i, begin + j] = matrix[begin + j, i] = here[j]
            if hits:
                for j in range(here.size):
                    if abs(here[j]) > abs(most[i]):
                        most[i], at[i] = here[j], begin + j
    return 0
