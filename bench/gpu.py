"""The same fills on a GPU, against cuRAND (by CuPy), torch and JAX: ``python -m bench.gpu``.

Contenders take turns, some calls each; a rate is the median of the turns, in GB/s of the array, beside that of a memset
of it. The values of fastinit are compared with the CPU's before they are timed. Contenders that are not there are
skipped.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

import numpy as np

import fastinit as fi
from fastinit.core.dtypes import FLOATS, dtype_of

BYTES, TURNS, CALLS = 1 << 30, 15, 5
DISTRIBUTIONS = {"uniform": fi.uniform(), "normal": fi.normal(), "truncated": fi.truncated_normal()}
Fill = Callable[[], object]  # starts it, and does not wait


def fastinit_fills(size: int) -> dict[str, Fill]:
    """Fills of one array that is there already, of each dtype."""
    cuda: Any = importlib.import_module("numba.cuda")
    memory = cuda.device_array(size, np.uint8)

    def fill(out: Any, init: Any) -> Fill:
        return lambda: fi.fill(out, init, seed=0, name=0)

    fills = {}
    for dtype in FLOATS:
        count = size // dtype_of(dtype).itemsize
        out = memory.view(dtype_of(dtype))
        for name, init in DISTRIBUTIONS.items():
            fills[name if dtype == "float32" else f"{name} {dtype}"] = fill(out, init)
            fill(out, init)()
            place: dict[str, Any] = {"global_shape": (count,), "global_offset": (count - 5,)}
            here = fi.fill(np.empty(5, dtype_of(dtype)), init, seed=0, name=0, **place)
            if out[-5:].copy_to_host().tobytes() != here.tobytes():
                raise SystemExit(f"{name} in {dtype}: the values are not the CPU's")
    return fills


def cupy_fills(size: int) -> dict[str, Fill]:
    """cuRAND's default generator and its Philox, which allocate their result."""
    cupy: Any = importlib.import_module("cupy")

    def fill(generator: Any, distribution: str) -> Fill:
        make = generator.random_sample if distribution == "uniform" else generator.standard_normal
        return lambda: make(size // 4, dtype=cupy.float32)

    kinds = {
        "": cupy.cuda.curand.CURAND_RNG_PSEUDO_DEFAULT,
        " philox": cupy.cuda.curand.CURAND_RNG_PSEUDO_PHILOX4_32_10,
    }
    generators = {name: cupy.random.RandomState(0, method=method) for name, method in kinds.items()}
    return {
        distribution + name: fill(state, distribution)
        for name, state in generators.items()
        for distribution in ("uniform", "normal")
    }


def torch_fills(size: int) -> dict[str, Fill]:
    """torch.nn.init's functions, in place."""
    torch: Any = importlib.import_module("torch")
    functions = {"uniform": "uniform_", "normal": "normal_", "truncated": "trunc_normal_"}
    memory = torch.empty(size, dtype=torch.uint8, device="cuda")

    def fill(name: str, out: Any) -> Fill:
        return lambda: getattr(torch.nn.init, name)(out)

    return {
        name + suffix: fill(function, memory.view(dtype))
        for suffix, dtype in (("", torch.float32), (" bfloat16", torch.bfloat16))
        for name, function in functions.items()
    }


def jax_fills(size: int) -> dict[str, Fill]:
    """jax.random, compiled."""
    jax: Any = importlib.import_module("jax")
    key = jax.random.key(0)

    def fill(function: Any) -> Fill:
        compiled = jax.jit(function)
        return lambda: compiled(key)

    return {
        "uniform": fill(lambda key: jax.random.uniform(key, (size // 4,))),
        "normal": fill(lambda key: jax.random.normal(key, (size // 4,))),
        "truncated": fill(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (size // 4,))),
    }


def memset(size: int) -> dict[str, Fill]:
    """The driver's own fill: what the memory takes."""
    cuda, driver = (importlib.import_module(f"numba.cuda{name}") for name in ("", ".cudadrv.driver"))
    out = cuda.device_array(size, np.uint8)
    return {"zeros": lambda: driver.device_memset(out, 0, size)}


CONTENDERS = {"memset": memset, "fastinit": fastinit_fills, "cupy": cupy_fills, "torch": torch_fills, "jax": jax_fills}


def seconds(fill: Fill, calls: int) -> float:
    """The time of a call, of some that follow each other."""
    wait = importlib.import_module("numba.cuda").synchronize  # for the queues of all libraries
    kept = [fill()]  # so that no call frees memory
    wait()
    start = time.perf_counter()
    kept += [fill() for _ in range(calls)]
    wait()
    return (time.perf_counter() - start) / calls


def measure(size: int = BYTES, turns: int = TURNS, calls: int = CALLS) -> dict[str, dict[str, float]]:
    """GB/s by contender and fill."""
    times: dict[tuple[str, str], list[float]] = {}
    fills: dict[tuple[str, str], Fill] = {}
    for contender, make in CONTENDERS.items():
        with suppress(ImportError):
            fills |= {(contender, name): fill for name, fill in make(size).items()}
    for _ in range(turns):
        for key, fill in fills.items():
            times.setdefault(key, []).append(seconds(fill, calls))
    found: dict[str, dict[str, float]] = {}
    for (contender, name), some in times.items():
        found.setdefault(contender, {})[name] = size / median(some) / 1e9
    return found


def main() -> None:
    """Print a table, and the figures as JSON."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would take most of the memory
    try:
        from fastinit.sampling.cuda import _check_device

        _check_device()
    except (ImportError, RuntimeError) as error:
        raise SystemExit(str(error)) from None
    found = measure()
    ceiling = found["memset"]["zeros"]
    for name, distributions in found.items():
        for distribution, rate in distributions.items():
            print(f"{name:10} {distribution:20} {rate:8.1f} GB/s {rate / ceiling:6.1%} of a memset")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
