"""What an import loads, which way imports point, and the same bits on every processor."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastinit

PACKAGE = Path(fastinit.__file__).parent
OPTIONAL = {"rich", "click", "torch", "safetensors", "tomli", "dask", "matplotlib", "jax", "cupy"}

# A module imports from those before it in this list alone. "" is the package itself.
LAYERS = [
    "text",
    "environment",
    "forks",
    "keys",
    "axes",
    "moments",
    "quadrature",
    "fans",
    "laws",
    "activations",
    "theory",
    "matrices",
    "initializers",
    "advice",
    "kernels",
    "kernels.compiled",
    "kernels.plain",
    "kernels.lanes",
    "kernels.numerics",
    "kernels.philox",
    "kernels.draws",
    "kernels.cpu",
    "kernels.cuda",
    "kernels.census",
    "prepare",
    "parallel",
    "bars",
    "files",
    "device",
    "fill",
    "null",
    "scan",
    "significance",
    "verify",
    "propagation",
    "",
    "plots",
    "recipes",
    "tensorfiles",
    "checkpoint",
    "cli",
    "__main__",
]
COMPILED = [name for name in LAYERS if name.startswith("kernels")]
# never import numba, not even when called; `environment` llvmlite, where a thread rounds in its own way
LIGHT = [*(set(LAYERS[: LAYERS.index("kernels")]) - {"environment"}), "parallel", "bars"]
# may load an optional dependency with themselves
ON_TOP = ["plots", "bars", "recipes", "checkpoint", "cli", "__main__"]


def run(source: str, **environment: str) -> str:
    """What a fresh Python prints, on this processor unless told otherwise."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CPU_")}
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_an_import_is_light() -> None:
    source = "import sys, fastinit; fastinit.parse('he_normal'); print(*sys.modules)"
    loaded = set(run(source).split())
    assert "numpy" in loaded
    assert not loaded & ({"numba", "llvmlite", "scipy.stats", "ml_dtypes"} | OPTIONAL)


def test_a_fill_loads_no_optional_dependency_and_no_scipy_stats() -> None:
    source = (
        "import sys, fastinit as fi; fi.array(3, fi.normal(), seed=0, name=0, dtype='bfloat16'); print(*sys.modules)"
    )
    loaded = set(run(source).split())
    assert "numba" in loaded
    assert not loaded & ({"scipy.stats", "scipy.special"} | OPTIONAL)


def module_of(path: Path) -> str:
    """The name of a file's module within the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, *, when_loaded: bool) -> Iterator[str]:
    """The absolute names that a module imports, all of them or those that are loaded together with it."""

    def nodes(parent: ast.AST) -> Iterator[ast.AST]:
        for node in ast.iter_child_nodes(parent):
            inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if not (when_loaded and (inside or checking)):
                yield node
                yield from nodes(node)

    for node in nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written absolutely"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_arrows(module: str, source: str) -> list[str]:
    """The modules of this package that a module imports and may not."""
    names = imports(source, when_loaded=False)
    ours = {name.removeprefix("fastinit").lstrip(".") for name in names if name.split(".")[0] == "fastinit"}
    return sorted(ours.intersection(LAYERS[LAYERS.index(module) :]))


def heavy(module: str, source: str) -> set[str]:
    """The packages that a module imports and may not."""
    first = {name.split(".")[0] for name in imports(source, when_loaded=True)}
    ever = {name.split(".")[0] for name in imports(source, when_loaded=False)}
    found = set() if module in ON_TOP else first & OPTIONAL
    if module not in [*COMPILED, "prepare"]:
        found |= (ever if module in LIGHT else first) & {"numba", "llvmlite"}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) or "fastinit")
def test_imports_point_downwards(path: Path) -> None:
    module, source = module_of(path), path.read_text()
    assert module in LAYERS, "a new module needs a place in LAYERS"
    assert not wrong_arrows(module, source)
    assert not heavy(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("keys", "from fastinit.fans import gain"),
        ("keys", "from fastinit import fans"),
        ("laws", "def f():\n    from fastinit.initializers import normal"),
        ("kernels.cpu", "from fastinit.prepare import prepare"),
        ("prepare", "import fastinit.fill"),
        ("fill", "from fastinit import checkpoint"),
        ("parallel", "if TYPE_CHECKING:\n    from fastinit.fill import fill"),
    ],
)
def test_an_arrow_upwards_is_found(module: str, source: str) -> None:
    assert wrong_arrows(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fans", "import numba"),
        ("laws", "def f():\n    from numba import njit"),
        ("fill", "from numba import njit"),
        ("fill", "import rich.progress"),
        ("kernels.cpu", "import torch"),
    ],
)
def test_a_heavy_import_is_found(module: str, source: str) -> None:
    assert heavy(module, source)


LEVELS = {  # the flags of /proc/cpuinfo that tell that a processor has the level
    "x86-64-v2": {"sse4_2", "ssse3", "popcnt", "cx16"},
    "x86-64-v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"},
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
DIGESTS = """
import hashlib, json, math
import numpy as np, fastinit as fi
from fastinit.fill import dtype_of
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
    law, name = wanted.split()
    out = np.empty((2, 50_003), dtype_of(name))
    found[wanted] = digest(fi.fill(out, inits[law], seed=5, name="w"))
    found[wanted + " strided"] = digest(fi.fill(np.empty((999, 26), out.dtype)[::-3, 5:], inits[law], seed=5, name="w"))
print(json.dumps(found))
"""
FEW = ["uniform float32", "normal float32", "normal float16", "truncated float32", "truncated bfloat16", "tail float32",
       "normal float64"]  # fmt: skip
ALL = [f"{law} {dtype}" for law in ("uniform", "normal", "truncated", "narrow", "tail")
       for dtype in ("float16", "bfloat16", "float32", "float64")] + ["words"]  # fmt: skip


@pytest.fixture(scope="module")
def flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())


@pytest.mark.parametrize("wanted", [FEW, pytest.param(ALL, marks=pytest.mark.slow)], ids=["few", "all"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_processor_makes_the_same_bits(level: str, wanted: list[str], flags: set[str]) -> None:
    """The cache on disk keeps the processors apart, so that only the first run of these tests compiles."""
    names = list(LEVELS)
    needed = set[str]().union(*(LEVELS[name] for name in names[: names.index(level) + 1]))
    if needed - flags:
        pytest.skip(f"this processor lacks {needed - flags or level}")
    source = DIGESTS % wanted
    here = json.loads(run(source))
    there = json.loads(run(source, NUMBA_CPU_NAME=level, NUMBA_CPU_FEATURES=""))
    assert there == here
    assert len(set(here.values())) == len(here)


def test_the_processor_can_be_chosen(flags: set[str]) -> None:
    """Otherwise the test above compares one processor with itself."""
    if "sse4_2" not in flags:
        pytest.skip("not an x86-64-v2 processor")
    source = "from numba.core.registry import cpu_target; print(*cpu_target.target_context.codegen().magic_tuple())"
    chosen = run(source, NUMBA_CPU_NAME="x86-64-v2", NUMBA_CPU_FEATURES="")
    assert "x86-64-v2" in chosen
    assert "fma" not in chosen
    assert "fma" in run(source) or "fma" not in flags
