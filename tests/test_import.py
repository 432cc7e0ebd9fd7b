"""What an import loads, which way imports point, and the same bits on every processor."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pytest

from tests.helpers import ROOT, printed

OPTIONAL = {"rich", "click", "torch", "safetensors", "tomli", "dask", "zarr", "matplotlib", "jax", "cupy"}


def test_an_import_is_light() -> None:
    source = "import sys, fastinit; fastinit.parse('he_normal'); print(*sys.modules)"
    loaded = set(printed(source).split())
    assert "numpy" in loaded
    late = {"fastinit.verification.verifier", "fastinit.propagation.simulation", "fastinit.kernels.processor"}
    assert not loaded & ({"numba", "llvmlite", "scipy", "ml_dtypes"} | late | OPTIONAL)


def test_every_public_name_is_there() -> None:
    """Some are imported when they are asked for; what is not there is said to be missing."""
    source = """
import fastinit as fi
assert set(fi.__all__) <= set(dir(fi))
print(*(type(getattr(fi, name)).__name__ for name in fi.__all__), hasattr(fi, "nothing"))
"""
    kinds = printed(source).split()
    assert kinds.pop() == "False"
    assert set(kinds) <= {"function", "type", "ABCMeta", "int", "str"}


def test_a_fill_by_kernels_on_disk_loads_no_compiler_no_scipy_and_no_optional_dependency() -> None:
    """Of regions too, and a matrix; the first process compiles what is not there yet."""
    source = """
import sys, fastinit as fi
import numpy as np
for dtype in "float32", "bfloat16":
    fi.array((64, 64), fi.normal(), seed=0, name=0, dtype=dtype)
assert "llvmlite" in sys.modules
fi.fill(np.empty((9, 9), np.float32)[::2, ::2], fi.truncated_normal(), seed=0, name=0)
fi.words(3, seed=0, name=0)
print(*sys.modules)
"""
    printed(source)
    loaded = set(printed(source).split())
    assert not loaded & ({"numba", "scipy"} | OPTIONAL)


def test_a_verification_by_kernels_on_disk_loads_no_compiler() -> None:
    source = """
import sys, fastinit as fi
for dtype in "float32", "float16":
    assert fi.verify(fi.array((80, 60), fi.normal(), seed=0, name=0, dtype=dtype), fi.normal()).passed
print(*sys.modules)
"""
    printed(source)
    assert "numba" not in printed(source).split()


def test_imports_keep_to_their_rooms() -> None:
    """The contracts are in pyproject.toml; one that is broken on purpose shows that they are read."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    kept = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert kept.returncode == 0, kept.stdout
    assert "0 broken" in kept.stdout


LEVELS = {  # the flags of /proc/cpuinfo that tell that a processor has the level
    "x86-64-v2": {"sse4_2", "ssse3", "popcnt", "cx16"},
    "x86-64-v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
DIGESTS = """
import hashlib, json, math
import numpy as np, fastinit as fi
from fastinit.core.dtypes import dtype_of
inits = {
    "uniform": fi.uniform(-1.0, 3.0),
    "normal": fi.normal(0.5, 2.0),
    "truncated": fi.truncated_normal(),
    "narrow": fi.truncated_normal(lower=0.1, upper=0.3),
    "tail": fi.truncated_normal(lower=3.0, upper=math.inf),
}
def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()
found = {}
for wanted in %r:
    if wanted == "words":
        found[wanted] = digest(fi.words(100_003, seed=5, name="w", start=1))
        continue
    distribution, name = wanted.split()
    out = np.empty((2, 50_003), dtype_of(name))
    found[wanted] = digest(fi.fill(out, inits[distribution], seed=5, name="w"))
    found[wanted + " strided"] = digest(fi.fill(np.empty((999, 26), out.dtype)[::-3, 5:], inits[distribution], seed=5,
    name="w"))
print(json.dumps(found))
"""
FEW = ("uniform float32", "normal float32", "normal float16", "truncated float32", "truncated bfloat16", "tail float32",
       "normal float64")  # fmt: skip
ALL = (*(f"{distribution} {dtype}" for distribution in ("uniform", "normal", "truncated", "narrow", "tail")
         for dtype in ("float16", "bfloat16", "float32", "float64")), "words")  # fmt: skip


@cache
def digests(wanted: tuple[str, ...], level: str = "") -> dict[str, str]:
    """Those of a processor of this level, or of the one that is here."""
    chosen = {"NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": ""} if level else {}
    found: dict[str, str] = json.loads(printed(DIGESTS % (wanted,), **chosen))
    return found


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("level", "wanted"),
    [
        pytest.param("x86-64-v2", FEW, id="x86-64-v2 few"),
        pytest.param("x86-64-v3", FEW, id="x86-64-v3 few"),
        *(pytest.param(level, ALL, id=f"{level} all", marks=slow) for level in LEVELS),
    ],
)
def test_every_processor_makes_the_same_bits(level: str, wanted: tuple[str, ...], flags: set[str]) -> None:
    """Of the last level are the processors that have it, but for what they prefer.

    The cache on disk keeps the processors apart, so that only the first run of these tests compiles.
    """
    names = list(LEVELS)
    needed = set[str]().union(*(LEVELS[name] for name in names[: names.index(level) + 1]))
    if needed - flags:
        pytest.skip(f"this processor lacks {needed - flags or level}")
    here = digests(wanted)
    assert digests(wanted, level) == here
    assert len(set(here.values())) == len(here)


def test_the_processor_can_be_chosen(flags: set[str]) -> None:
    """Otherwise the test above compares one processor with itself."""
    if "sse4_2" not in flags:
        pytest.skip("not an x86-64-v2 processor")
    source = "from fastinit.kernels.processor import FEATURES, NAME, TRIPLE; print(TRIPLE, NAME, FEATURES)"
    numba = "from numba.core.registry import cpu_target; print(*cpu_target.target_context.codegen().magic_tuple())"
    chosen = printed(source, NUMBA_CPU_NAME="x86-64-v2", NUMBA_CPU_FEATURES="")
    for settings in ({}, {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_CPU_NAME": "generic"}):
        assert printed(source, **settings) == printed(numba, **settings)
    assert "x86-64-v2" in chosen
    assert "fma" not in chosen
    assert "fma" in printed(source) or "fma" not in flags
