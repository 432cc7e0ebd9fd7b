"""The time from the interpreter's start to what a user waits for: `python -m bench.startup`.

Every measurement is a fresh process, timed from outside, and the contenders take turns. Told are medians in seconds,
and the quartiles. ``--other FOLDER`` measures another checkout in the same turns; ``--cold`` includes what compiles.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FILL = "import fastinit as fi; fi.array({shape}, fi.{init}(), seed=0, name='w', dtype='{dtype}')"


class Contender(NamedTuple):
    """A source that a fresh Python runs, by a cache of kernels that is empty, filled by the first run, or none."""

    name: str
    source: str
    cold: bool = False


def contenders(cold: bool) -> list[Contender]:
    """Return all that can be measured here."""
    found = [Contender("nothing", "")]
    found += [
        Contender(f"import {name}", f"import {name}")
        for name in ("numpy", "numba", "torch", "llvmlite.binding", "fastinit")
        if importlib.util.find_spec(name.partition(".")[0])
    ]
    fills = [("normal", "float32"), ("uniform", "float32"), ("truncated_normal", "float32"), ("normal", "bfloat16")]
    for kind, empty in (("warm", False), ("ever", True)):
        if empty and not cold:
            break
        found += [
            Contender(f"first array {kind}, {init} {dtype}", FILL.format(shape=1000, init=init, dtype=dtype), empty)
            for init, dtype in fills
        ]
    if cold:
        found.append(Contender("warmup", "import fastinit; fastinit.warmup()", True))
    return found


def seconds(contender: Contender, checkout: Path, warm: Path) -> float:
    """Run a contender once."""
    with tempfile.TemporaryDirectory() as empty:
        folder = empty if contender.cold else str(warm)
        env = os.environ | {"PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": folder}
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", contender.source], env=env, check=True, cwd=empty, stderr=subprocess.DEVNULL
        )
        return time.perf_counter() - began


def measure(
    chosen: Sequence[Contender], checkouts: Sequence[Path], turns: int, most: float
) -> dict[tuple[str, Path], list[float]]:
    """Run all in turns; what has taken ``most`` seconds in all waits for the others to end."""
    taken: dict[tuple[str, Path], list[float]] = {(one.name, root): [] for one in chosen for root in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        for one in chosen:
            for root in checkouts if not one.cold else ():
                seconds(one, root, Path(folder))  # fills the cache of kernels, and the system's of files
        for turn in range(turns):
            for one in chosen:
                for root in checkouts if turn % 2 else checkouts[::-1]:
                    if sum(taken[one.name, root]) < most:
                        taken[one.name, root].append(seconds(one, root, Path(folder)))
    return taken


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--most", type=float, default=60.0, help="seconds for one contender")
    parser.add_argument("--cold", action="store_true", help="measure empty caches, too")
    parser.add_argument("--only", default="", help="measure those whose name contains this")
    parser.add_argument("--other", type=Path, help="another checkout")
    given = parser.parse_args()
    checkouts = [ROOT, *([given.other.resolve()] if given.other else [])]
    chosen = [one for one in contenders(given.cold) if given.only in one.name]
    for (name, root), times in measure(chosen, checkouts, given.turns, given.most).items():
        low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
        print(f"{name:40} {middle:6.3f} ({low:.3f}-{high:.3f})  n={len(times):2}  {root}", flush=True)


if __name__ == "__main__":
    main()
