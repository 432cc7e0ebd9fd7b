"""What `fastinit.verify` sees: planted defects, each at falling sizes, and the smallest that is rejected.

``python -m bench.power`` plants every defect into right normal arrays of 2048 x 2048 and 8192 x 8192 elements, halves
its size until `verify` passes it at the default alpha, and writes a table between the two markers of
the file that ``--page`` names, docs/guides/verification.md. A defect without a size is found or not. ``--side N`` takes
other arrays, ``--defect TEXT`` the defects of a name.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import fastinit as fi
from bench.defects import DEFECTS, Defect
from bench.report import ROOT, put, table

BEGIN, END = "<!-- power table -->", "<!-- /power table -->"


def smallest(side: int, defect: Defect, level: str, start: float) -> tuple[float | None, str]:
    """The smallest size that is rejected, from a large one on, None where none is, and by what."""
    x = fi.array((side, side), fi.normal(), seed=0, name="power")
    size, found, by = start, None, ""
    while True:
        report = fi.verify(defect.plant(x, size), fi.normal(), level=level)
        if report.passed:
            return found, by
        first = min(report.results, key=lambda result: result.pvalue)
        found, by = size, first.name + (f" ({first.detail})" if first.detail else "")
        size = size * 4 if defect.unit == "rank" else size / 2
        if not defect.unit or size > side / 2 or size < 1e-8 or (defect.unit in ("rows", "side") and size < 1):
            return found, by


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.power", description=__doc__)
    parser.add_argument("--side", type=int, nargs="+", default=[2048, 8192], help="rows and columns of the arrays")
    parser.add_argument("--defect", default="", help="only the defects whose names have this text")
    parser.add_argument("--level", default="full", choices=["fast", "full"])
    parser.add_argument("--page", type=Path, help="the file with the two markers; by default nothing is written")
    options = parser.parse_args()
    lines = []
    for name, defect in DEFECTS.items():
        if options.defect not in name:
            continue
        began, cells, by, start = time.perf_counter(), [], "", defect.largest
        for side in options.side:
            if side > defect.most_side:
                cells.append("")
                continue
            size, by = smallest(side, defect, options.level, start)
            if size is not None and defect.unit != "rank":  # more elements show smaller ones
                start = min(2 * size, defect.largest)
            cells.append("**missed**" if size is None else f"{size:.2g}" if defect.unit else "found")
        lines.append([name, defect.unit, *cells, by.partition(" (")[0]])
        print(f"{name}: {', '.join(cells)} {defect.unit}: {by} [{time.perf_counter() - began:.1f} s]", flush=True)
    text = table(["defect", "size is", *(f"2^{2 * math.log2(side):g}" for side in options.side), "seen by"], lines)
    print(text)
    if options.page:
        put(ROOT / options.page, BEGIN, END, text)


if __name__ == "__main__":
    main()
