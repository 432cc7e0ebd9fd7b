"""Who follows the distribution: `fastinit.verify` over the initializers of NumPy, torch, JAX and Keras, and ours.

``python -m bench.quality`` makes 2**26 elements of each distribution in each dtype, each library with the seed 0, and
writes a table between the two markers of docs/benchmarks.md; a library that is not installed is skipped. A cell says
``passes``, or which tests failed. ``--size N`` takes N x N elements in place of 8192 x 8192.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastinit as fi
from bench.report import ROOT, put, table
from fastinit.core.dtypes import dtype_of

BEGIN, END = "<!-- quality table -->", "<!-- /quality table -->"
DTYPES = ("float32", "bfloat16", "float16")

Make = Callable[[tuple[int, int], str], Any]
UNIFORM, NORMAL, TRUNCATED = fi.uniform(), fi.normal(), fi.truncated_normal()
XAVIER, HE = fi.xavier_uniform(), fi.he_normal()


def _fastinit() -> dict[str, tuple[fi.Initializer, Make]]:
    def make(init: fi.Initializer) -> Make:
        return lambda shape, dtype: fi.array(shape, init, seed=0, name="quality", dtype=dtype)

    inits = (UNIFORM, NORMAL, TRUNCATED, XAVIER, HE)
    return {init.factory: (init, make(init)) for init in inits}


def _numpy() -> dict[str, tuple[fi.Initializer, Make]]:
    """In 16 bits, which NumPy does not draw, its float32 cast."""

    def make(method: str) -> Make:
        def draw(shape: tuple[int, int], dtype: str) -> Any:
            drawn = getattr(np.random.default_rng(0), method)(shape, np.float32)
            return drawn if dtype == "float32" else drawn.astype(dtype_of(dtype))

        return draw

    return {"random": (UNIFORM, make("random")), "standard_normal": (NORMAL, make("standard_normal"))}


def _torch() -> dict[str, tuple[fi.Initializer, Make]]:
    torch = importlib.import_module("torch")

    def make(name: str, **options: Any) -> Make:
        def draw(shape: tuple[int, int], dtype: str) -> Any:
            torch.manual_seed(0)
            return getattr(torch.nn.init, name)(torch.empty(shape, dtype=getattr(torch, dtype)), **options)

        return draw

    return {
        "uniform_": (UNIFORM, make("uniform_")),
        "normal_": (NORMAL, make("normal_")),
        "trunc_normal_": (TRUNCATED, make("trunc_normal_")),
        "xavier_uniform_": (XAVIER, make("xavier_uniform_")),
        "kaiming_normal_": (HE, make("kaiming_normal_")),
    }


def _jax() -> dict[str, tuple[fi.Initializer, Make]]:
    jax = importlib.import_module("jax")
    made = jax.nn.initializers

    def make(init: Any) -> Make:
        return lambda shape, dtype: np.asarray(init(jax.random.key(0), shape, getattr(jax.numpy, dtype)))

    return {
        "uniform": (UNIFORM, make(made.uniform(1.0))),
        "normal": (NORMAL, make(made.normal(1.0))),
        "truncated_normal": (TRUNCATED, make(made.truncated_normal(1.0))),
        "glorot_uniform": (XAVIER, make(made.glorot_uniform())),
        "he_normal": (fi.he_truncated_normal(layout="...IO"), make(made.he_normal())),
    }


def _keras() -> dict[str, tuple[fi.Initializer, Make]]:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    made = importlib.import_module("keras").initializers

    def make(name: str, **options: Any) -> Make:
        return lambda shape, dtype: np.asarray(getattr(made, name)(seed=0, **options)(shape, dtype))

    return {
        "RandomUniform": (UNIFORM, make("RandomUniform", minval=0.0, maxval=1.0)),
        "RandomNormal": (NORMAL, make("RandomNormal", stddev=1.0)),
        "TruncatedNormal": (TRUNCATED, make("TruncatedNormal", stddev=1.0)),
        "GlorotUniform": (XAVIER, make("GlorotUniform")),
        "HeNormal": (fi.he_truncated_normal(layout="...IO"), make("HeNormal")),
    }


LIBRARIES = {"fastinit": _fastinit, "numpy": _numpy, "torch": _torch, "jax": _jax, "keras": _keras}


def cell(report: fi.Report) -> str:
    """The verdict in some words."""
    failed = [result for result in report.results if not result.passed]
    if not failed:
        return "passes"
    first = failed[:2]
    rest = f" and {len(failed) - len(first)} more" if len(failed) > len(first) else ""
    return ", ".join(result.name for result in first) + rest


def rows(size: int) -> Iterator[list[str]]:
    """A row an initializer; what each library is asked for is said in our words."""
    for library, found in LIBRARIES.items():
        if importlib.util.find_spec(library) is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, (init, make) in found().items():
                line = [library, f"`{name}`"]
                for dtype in DTYPES:
                    report = fi.verify(make((size, size), dtype), init)
                    if not report.passed:
                        print(f"\n{library} {name} {dtype}\n{report}", file=sys.stderr, flush=True)
                    line.append(cell(report))
                yield line


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of every array")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/benchmarks.md", help="the file with the two markers")
    options = parser.parse_args()
    text = table(["library", "initializer", *DTYPES], list(rows(options.size)))
    print(f"{options.size} x {options.size} elements, 2^{math.log2(options.size**2):g}")
    print(text)
    put(options.page, BEGIN, END, text)


if __name__ == "__main__":
    main()
