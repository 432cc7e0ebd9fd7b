"""Regions and layouts beside the whole tensor of as many bytes: `python -m bench.regions`.

Each row of the table is one layout, filled in warm memory in turns with the others. Its cells have GB/s, and the ratio
to the C-contiguous whole tensor of the same turn, medians of all turns. The first elements of every layout are compared
with the tensor's, by fills of single elements, before anything is measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import fastinit as fi
from bench.contenders import pages
from fastinit.core.dtypes import dtype_of

Array = np.ndarray[Any, Any]

INITS = {"uniform": fi.uniform(-1.0, 1.0), "normal": fi.normal(), "truncated": fi.truncated_normal()}
DTYPES = ("float32", "bfloat16")
WHOLE = "whole"
CHECKED = 64  # elements of each layout


@dataclass(frozen=True)
class Layout:
    """A region of a tensor, and the order of its axes in memory, the longest stride first."""

    shape: tuple[int, ...]
    whole: tuple[int, ...] = ()
    offset: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    padding: int = 0  # elements after each run of the last axis in memory

    def of(self, memory: Array, dtype: np.dtype[Any]) -> Array:
        """Return the array at the beginning of a memory that is large enough."""
        order = self.order or tuple(range(len(self.shape)))
        sizes = [self.shape[axis] for axis in order]
        room = np.ndarray((*sizes[:-1], sizes[-1] + self.padding), dtype, memory)
        return room[..., : sizes[-1]].transpose(np.argsort(order))

    def fill(self, out: Array, init: fi.Initializer, threads: int) -> None:
        """Fill it."""
        fi.fill(
            out,
            init,
            seed=0,
            name="w",
            global_shape=self.whole or None,
            global_offset=self.offset or None,
            threads=threads,
        )

    def check(self, out: Array, init: fi.Initializer) -> None:
        """Compare elements from all over the array with each alone."""
        rng = np.random.default_rng(0)
        one = np.empty((1,) * out.ndim, out.dtype)
        for flat in rng.integers(0, out.size, CHECKED):
            place = tuple(int(at) for at in np.unravel_index(flat, out.shape))
            offset = tuple(at + start for at, start in zip(place, self.offset or (0,) * out.ndim, strict=True))
            fi.fill(one, init, seed=0, name="w", global_shape=self.whole or self.shape, global_offset=offset)
            if one.tobytes() != out[place].tobytes():
                raise AssertionError(f"{self}: element {place} is {out[place]}, not {one}")


def layouts(elements: int) -> dict[str, Layout]:
    """Return the layouts of some power of two of elements, at least 2**16."""
    k = elements.bit_length() - 1
    rows = 1 << (k - k // 2)
    found = {
        WHOLE: Layout((elements,)),
        "row shard": Layout((rows // 8, 8 * (elements // rows)), (rows, 8 * (elements // rows)), (rows // 8, 0)),
    }
    columns = max(16, 1 << (k - 14))
    tall = elements // columns
    found |= {
        f"column shard of {columns}": Layout((tall, columns), (tall, 8 * columns), (0, 3 * columns)),
        f"column shard of {columns - 3}, odd": Layout((tall, columns - 3), (tall, 8 * columns - 1), (0, columns + 1)),
    }
    for length in (64, 32, 16, 8, 4, 2, 1):
        count = elements // length
        found[f"rows of {length}"] = Layout((count, length), (count, 4 * length), (0, length))
    found |= {
        "rows of 13, odd": Layout((elements // 16, 13), (elements // 16, 27), (0, 5)),
        "rows of 16, padded": Layout((elements // 32, 16), (elements // 32, 64), (0, 16), padding=16),
        "block of 3 axes": Layout((16, elements >> 10, 64), (32, elements >> 9, 128), (16, 7, 64)),
        "block of 4 axes": Layout((4, elements >> 10, 8, 32), (8, elements >> 9, 16, 64), (4, 7, 8, 32)),
        "block of 5 axes": Layout((4, elements >> 11, 4, 8, 16), (8, elements >> 10, 8, 16, 32), (4, 7, 4, 8, 16)),
        "Fortran": Layout((rows, elements // rows), order=(1, 0)),
        "Fortran, odd": Layout((rows - 3, elements // rows - 3), order=(1, 0)),
        "Fortran column shard": Layout((tall, columns), (tall, 8 * columns), (0, 3 * columns), order=(1, 0)),
        "channels last, 3 x 3": Layout((elements >> 11, 128, 3, 3), order=(0, 2, 3, 1)),
        "channels last, 16 x 16": Layout((elements >> 15, 128, 16, 16), order=(0, 2, 3, 1)),
    }
    return found


def run(elements: int, turns: int, threads: int, only: Sequence[str] = ()) -> dict[tuple[str, str, str], list[float]]:
    """Return the GB/s of every layout, distribution and dtype, turn by turn."""
    chosen = {name: layout for name, layout in layouts(elements).items() if not only or name in (WHOLE, *only)}
    memory = pages(4 * elements * 5 // 4)
    memory[...] = 1
    found: dict[tuple[str, str, str], list[float]] = {}
    for dtype in DTYPES:
        for kind, init in INITS.items():
            fills = {}
            for name, layout in chosen.items():
                out = layout.of(memory, dtype_of(dtype))
                fill = partial(layout.fill, out, init, threads)
                fill()
                layout.check(out, init)
                fills[name] = (fill, out.nbytes)
            for _ in range(turns):
                for name, (fill, size) in fills.items():
                    began = time.perf_counter()
                    fill()
                    speed = size / 1e9 / (time.perf_counter() - began)
                    found.setdefault((name, kind, dtype), []).append(speed)
    return found


def table(found: dict[tuple[str, str, str], list[float]]) -> str:
    """Return the table, in Markdown."""
    names = list(dict.fromkeys(name for name, _, _ in found))
    cells = [(kind, dtype) for kind in INITS for dtype in DTYPES]
    lines = [
        "| layout | " + " | ".join(f"{kind} {dtype}" for kind, dtype in cells) + " |",
        "| --- |" + " --- |" * len(cells),
    ]
    for name in names:
        row = []
        for cell in cells:
            speeds, whole = found[(name, *cell)], found[(WHOLE, *cell)]
            ratio = statistics.median(one / all_ for one, all_ in zip(speeds, whole, strict=True))
            row.append(f"{statistics.median(speeds):.2f}" + (f" ({ratio:.2f})" if name != WHOLE else ""))
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1 << 25, help="of each layout, a power of two")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="names of layouts to measure")
    parser.add_argument("--tiny", action="store_true", help="run everything once, for no figures")
    given = parser.parse_args()
    elements, turns = (1 << 16, 1) if given.tiny else (given.elements, given.turns)
    print(table(run(elements, turns, given.threads, given.only)))


if __name__ == "__main__":
    main()
