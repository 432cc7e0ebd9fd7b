"""`fastinit.dask` measured: equality in odd chunkings, graphs, speed, overhead: ``python -m bench.dask_arrays``.

- 4 GiB in seven chunkings on a cluster of two processes: the SHA-256 of every slab is compared with that of the slab
  filled by `fastinit.fill`, so that no process holds the array.
- A million chunks: the seconds to build the array, and the pickled bytes of its graph, beside ``dask.array.zeros``.
- The seconds to draw 4 GiB of float32 normals on dask's threads, beside dask's own random numbers; medians of turns.
- The microseconds that a chunk of 1 kB takes beside ``dask.array.zeros``, with one thread: drawn, graph and scheduler.
- The seconds of `fastinit.verify` for the lazy array.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cloudpickle
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import fastinit as fi
import fastinit.dask

INIT = fi.he_normal()
SLAB_BYTES = 128 << 20
NAMES = ("fastinit.dask", "dask.array.zeros", "dask.array.random")
Slab = tuple[int, int, int]  # axis, begin, end


def chunkings(side: int) -> list[tuple[int, int]]:
    """Return seven odd ways to cut a square: tiles, strips of either axis, primes, and pieces of no round size."""
    return [
        (side // 8, side // 8),
        (side // 32 - 1, side // 8 + 1),
        (min(side, 997), min(side, 1009)),
        (side, side // 100 + 1),
        (side // 100 + 1, side),
        (side // 3 + 1, side // 7),
        (side // 2 + 1, 131),
    ]


def slabs(side: int, axis: int, most: int) -> Iterator[Slab]:
    """Yield the slabs of a square across an axis."""
    step = max(1, most // (4 * side))
    for begin in range(0, side, step):
        yield axis, begin, min(side, begin + step)


def expected(side: int, slab: Slab) -> str:
    """Return the digest of a slab by `fastinit.fill`."""
    axis, begin, end = slab
    sizes, offset = [side, side], [0, 0]
    sizes[axis], offset[axis] = end - begin, begin
    out = np.empty(sizes, np.float32)
    return digest(fi.fill(out, INIT, seed=0, name="w", global_shape=(side, side), global_offset=offset))


def digest(array: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def equality(side: int, most: int = SLAB_BYTES) -> dict[str, float]:
    """Return the seconds of each chunking, whose slabs must be equal; those of another seed must not be."""
    found, known = {}, {}
    for axis in (0, 1):
        known.update({slab: expected(side, slab) for slab in slabs(side, axis, most)})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        for chunks in chunkings(side):
            lazy = fastinit.dask.array((side, side), INIT, seed=0, name="w", chunks=chunks)
            axis = 0 if chunks[0] <= chunks[1] else 1
            began = time.perf_counter()
            for slab in slabs(side, axis, most):
                here = lazy[slab[1] : slab[2]] if axis == 0 else lazy[:, slab[1] : slab[2]]
                if digest(here.compute()) != known[slab]:
                    raise AssertionError(f"chunks {chunks}: slab {slab} differs")
            found[f"{chunks[0]}x{chunks[1]}"] = time.perf_counter() - began
        first = next(slabs(side, 0, most))
        other = fastinit.dask.array((side, side), INIT, seed=1, name="w", chunks=chunkings(side)[0])
        if digest(other[: first[2]].compute()) == known[first]:
            raise AssertionError("another seed gives the same slab")
    return found


def graphs(chunks: int) -> dict[str, float]:
    """Return seconds to build an array of so many chunks, and the bytes of its pickled graph."""
    side = math.isqrt(chunks)
    found = {}
    for name in NAMES[:2]:  # dask's random numbers would list a generator for every chunk
        began = time.perf_counter()
        lazy = _arrays((1000 * side, 1000 * side), (1000, 1000))[name]()
        found[f"{name}: seconds"] = time.perf_counter() - began
        found[f"{name}: bytes"] = len(cloudpickle.dumps(lazy.dask))
    return found


def _arrays(shape: tuple[int, int], chunks: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    return {
        "fastinit.dask": lambda: fastinit.dask.array(shape, INIT, seed=0, name="w", chunks=chunks),
        "dask.array.zeros": lambda: da.zeros(shape, chunks=chunks, dtype=np.float32),
        "dask.array.random": lambda: da.random.default_rng(0).standard_normal(shape, chunks=chunks, dtype=np.float32),
    }


class Nowhere:
    """A target of dask's `store` that keeps nothing."""

    def __setitem__(self, region: object, values: object) -> None:
        """Forget the values."""


def turns(side: int, chunk: int, count: int, names: Sequence[str], **scheduler: Any) -> dict[str, float]:
    """Return the median seconds of each kind of array, computed in turns."""
    seconds: dict[str, list[float]] = {}
    for _ in range(count):
        for name in names:
            lazy = _arrays((side, side), (chunk, chunk))[name]()
            began = time.perf_counter()
            da.store(lazy, Nowhere(), lock=False, **scheduler)
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    return {name: median(all_of_it) for name, all_of_it in seconds.items()}


def verified(side: int) -> float:
    """Return the seconds of `verify` for a lazy array, which must pass."""
    lazy = fastinit.dask.array((side, side), INIT, seed=0, name="w", chunks=(max(1, side // 8), max(1, side // 8)))
    began = time.perf_counter()
    if not fi.verify(lazy, INIT).passed:
        raise AssertionError("verify rejects the array")
    return time.perf_counter() - began


def measure(
    side: int, count: int, many: int, few: int, slab: int = SLAB_BYTES
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield all figures with their titles."""
    fi.array(9, fi.normal(), seed=0, name="w")  # compiles the kernel
    yield f"graphs of {many} chunks", graphs(many)
    small = turns(16 * few, 16, count, NAMES[:2], scheduler="sync")
    yield "microseconds for a chunk of 1 kB", {name: 1e6 * one / few**2 for name, one in small.items()}
    yield f"seconds for {4 * side * side / 2**30:.3g} GiB", turns(side, max(1, side // 16), count, NAMES)
    yield "seconds of verify", {"fastinit.dask": verified(side)}
    yield "seconds of equal slabs on 2 processes, by chunks", equality(side, slab)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="A megabyte, to see that it runs.")
    parser.add_argument("--json", type=Path, help="Keep the figures there.")
    given = parser.parse_args()
    found = {}
    for title, rows in measure(512, 1, 100, 4, 1 << 18) if given.tiny else measure(32768, 3, 10**6, 50):
        found[title] = rows
        print("\n  ".join([f"{title}:", *(f"{name}: {figure:.4g}" for name, figure in rows.items())]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
