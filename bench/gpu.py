"""The same fills on a GPU, against cuRAND (by CuPy), torch and JAX: ``python -m bench.gpu``.

Every rate is in GB/s of the array, the best of some repeats, and as a fraction of a memset of it on the same device.
The values of fastinit are compared with the CPU's before they are timed. Contenders that are not there are skipped.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastinit as fi

BYTES, REPEATS = 1 << 30, 20
DISTRIBUTIONS = {"uniform": fi.uniform(), "normal": fi.normal(), "truncated": fi.truncated_normal()}
Fill = Callable[[], object]


def fastinit_fills(count: int) -> dict[str, Fill]:
    """Fills of one array that is there already."""
    cuda = importlib.import_module("numba.cuda")

    def fill(init: Any) -> Fill:
        return lambda: (fi.fill(out, init, seed=0, name=0), cuda.synchronize())

    out = cuda.device_array(count, np.float32)
    for init in DISTRIBUTIONS.values():
        fill(init)()
        end = np.asarray(out[-5:].copy_to_host())
        here = fi.fill(np.empty(5, np.float32), init, seed=0, name=0, global_shape=(count,), global_offset=(count - 5,))
        np.testing.assert_array_equal(end, here)
    return {distribution: fill(init) for distribution, init in DISTRIBUTIONS.items()}


def cupy_fills(count: int) -> dict[str, Fill]:
    """CURAND's Philox and its default generator, which allocate their result."""
    cupy = importlib.import_module("cupy")

    def fill(generator: Any, distribution: str) -> Fill:
        make = generator.random_sample if distribution == "uniform" else generator.standard_normal
        return lambda: (make(count, dtype=cupy.float32), cupy.cuda.Device().synchronize())

    kinds = {
        "": cupy.cuda.curand.CURAND_RNG_PSEUDO_DEFAULT,
        "_philox": cupy.cuda.curand.CURAND_RNG_PSEUDO_PHILOX4_32_10,
    }
    generators = {name: cupy.random.RandomState(0, method=method) for name, method in kinds.items()}
    return {
        distribution + name: fill(state, distribution)
        for name, state in generators.items()
        for distribution in ("uniform", "normal")
    }


def torch_fills(count: int) -> dict[str, Fill]:
    """torch.nn.init's functions, in place."""
    torch = importlib.import_module("torch")
    out = torch.empty(count, device="cuda")
    functions = {"uniform": "uniform_", "normal": "normal_", "truncated": "trunc_normal_"}

    def fill(function: Any) -> Fill:
        return lambda: (function(out), torch.cuda.synchronize())

    return {distribution: fill(getattr(torch.nn.init, name)) for distribution, name in functions.items()}


def jax_fills(count: int) -> dict[str, Fill]:
    """jax.random, compiled."""
    jax = importlib.import_module("jax")
    key = jax.random.key(0)

    def fill(function: Any) -> Fill:
        compiled = jax.jit(function)
        return lambda: compiled(key).block_until_ready()

    return {
        "uniform": fill(lambda key: jax.random.uniform(key, (count,))),
        "normal": fill(lambda key: jax.random.normal(key, (count,))),
        "truncated": fill(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (count,))),
    }


def memset(count: int) -> Fill:
    """The driver's own fill: what the memory takes."""
    cuda, driver = (importlib.import_module(f"numba.cuda{name}") for name in ("", ".cudadrv.driver"))

    out = cuda.device_array(count, np.float32)
    return lambda: (driver.device_memset(out, 0, 4 * count), cuda.synchronize())


def seconds(fill: Fill, repeats: int) -> float:
    """The shortest of some runs, after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        fill()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def measure(size: int = BYTES, repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """GB/s by contender and distribution, and the memset's."""
    count = size // 4
    found = {"memset": {"zeros": size / seconds(memset(count), repeats) / 1e9}}
    for name, make in {
        "fastinit": fastinit_fills,
        "cupy": cupy_fills,
        "torch": torch_fills,
        "jax": jax_fills,
    }.items():
        try:
            fills = make(count)
        except ImportError:
            continue
        found[name] = {distribution: size / seconds(fill, repeats) / 1e9 for distribution, fill in fills.items()}
    return found


def main() -> None:
    """Print a table, and the figures as JSON."""
    try:
        from fastinit.sampling.cuda import _check_device

        _check_device()
    except (ImportError, RuntimeError) as error:
        raise SystemExit(str(error)) from None
    found = measure()
    ceiling = found["memset"]["zeros"]
    for name, distributions in found.items():
        for distribution, rate in distributions.items():
            print(f"{name:10} {distribution:16} {rate:8.1f} GB/s {rate / ceiling:6.1%} of a memset")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
