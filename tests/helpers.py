"""What several test files need: a fresh Python, the command in this process, dtypes, and bits of arrays."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

from fastinit.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
MAIN = "from fastinit_command import main; main()"  # what the installed command runs

DTYPES = [np.dtype(kind) for kind in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
DTYPE_NAMES = tuple(dtype.name for dtype in DTYPES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)


class Done(NamedTuple):
    """What a process, or a command, has come to."""

    code: int
    out: str
    errors: str


def environment(**changed: str) -> dict[str, str]:
    """Return the environment of a fresh Python that imports this checkout, with these changes.

    Of Numba's settings only the folder of compiled kernels, which are shared, and what finds a GPU are kept.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "FASTINIT_NUM_THREADS"
        and (not name.startswith("NUMBA_") or name.startswith(("NUMBA_CACHE_DIR", "NUMBA_CUDA_")))
    }
    return kept | {"PYTHONPATH": str(ROOT)} | changed


def python(
    source: str, *arguments: object, folder: Path = ROOT, warnings: str = "error", timeout: float = 600, **changed: str
) -> Done:
    """Run a source in a fresh Python, whose environment has these changes."""
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", source, *map(str, arguments)],
        env=environment(**changed),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def printed(source: str, *arguments: object, **changed: Any) -> str:
    """Return what a source prints in a fresh Python, which must end without an error."""
    done = python(source, *arguments, **changed)
    assert done.code == 0, done.errors[-3000:]
    return done.out


def hear() -> None:
    """Before a process begins: let it have the signals that a job in the background, or under nohup, ignores."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def invoke(*arguments: object) -> tuple[int, str]:
    """Run a command in this process, by click: its exit code and output; an error is raised as it is."""
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def bits(array: Any) -> Any:
    """Return the bits of an array's elements as unsigned integers: -0 is not 0, and memory layout is no matter."""
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def assert_same(got: Any, expected: Any) -> None:
    """The same dtype, shape and bits."""
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(bits(got), bits(expected))


def cuda_is_available() -> bool:
    """Return whether kernels can run on a GPU here."""
    if importlib.util.find_spec("numba_cuda") is None:
        return False
    cuda: Any = importlib.import_module("numba.cuda")
    return bool(cuda.is_available())
