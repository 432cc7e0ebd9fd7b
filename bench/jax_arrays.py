"""An array of normals by JAX under jit and by `fastinit.jax`: ``python -m bench.jax_arrays``.

64 MiB and 1 GiB of float32 and bfloat16 on JAX's default device. Contenders take turns in one process; figures are
medians. Each turn runs a contender twice and counts the second time, as a virtual machine may have to get memory from
its host first. JAX's program is compiled before; a turn is from the call until the array is ready, in fresh memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fastinit as fi
import fastinit.jax as fj

MIB = 1 << 20
DTYPES = ("float32", "bfloat16")


def contenders(count: int, dtype: str) -> dict[str, Callable[[], Any]]:
    """Return by name what makes an array of so many standard normals."""
    key, kind = jax.random.key(0), getattr(jnp, dtype)
    drawn = jax.jit(lambda key: jax.random.normal(key, (count,), kind))
    called = jax.jit(lambda key: fj.initializer(fi.normal())(key, (count,), kind))
    return {
        "jax.random.normal under jit": lambda: drawn(key),
        "fastinit.jax.array": lambda: fj.array(count, fi.normal(), seed=0, name="w", dtype=dtype),
        "fastinit.jax.initializer under jit": lambda: called(key),
    }


def check(name: str, made: Any) -> None:
    """Raise an error unless the values are standard normals to 2 %: the mean of JAX's bfloat16 ones is -0.012."""
    values = np.asarray(made[:MIB]).astype(np.float64)
    if abs(values.mean()) > 0.02 or abs(values.std() - 1) > 0.02:
        raise ValueError(f"{name} must make standard normals, got mean {values.mean()} and std {values.std()}")


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds until an array is ready, which is then dropped."""
    gc.collect()
    began = time.perf_counter()
    run().block_until_ready()
    return time.perf_counter() - began


def measured(nbytes: int, dtype: str, turns: int) -> dict[str, list[float]]:
    """Return each contender's seconds in each turn."""
    runs = contenders(nbytes // jnp.dtype(dtype).itemsize, dtype)
    for name, run in runs.items():
        check(name, run())
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            timed(run)
            found[name].append(timed(run))
    return found


def main() -> None:
    """Measure, print the tables, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small arrays, to see that this runs")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    sizes = [MIB, 4 * MIB] if options.tiny else [64 * MIB, 1024 * MIB]
    kept: dict[str, Any] = {"jax": jax.__version__, "numpy": np.__version__, "device": str(jax.devices()[0])}
    for nbytes in sizes:
        for dtype in DTYPES:
            found = kept[f"{dtype} {nbytes}"] = measured(nbytes, dtype, options.turns)
            slow = median(found["jax.random.normal under jit"])
            print(f"| {nbytes // MIB} MiB of {dtype} | ms | GB/s | JAX's time / this |")
            print("| --- | --- | --- | --- |")
            for name, runs in found.items():
                seconds = median(runs)
                print(f"| {name} | {seconds * 1e3:.1f} | {nbytes / seconds / 1e9:.2f} | {slow / seconds:.1f} |")
            print()
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
