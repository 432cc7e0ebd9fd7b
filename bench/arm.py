"""Check that aarch64 makes the bits of x86-64, by emulation: ``python -m bench.arm FOLDER``, on Debian for x86-64.

An aarch64 Python, with the versions of NumPy, SciPy, Numba and ml_dtypes that are installed here, and QEMU are put into
FOLDER the first time: 1 GB, without root. Then that Python fills every kind of array, compiled for NEON alone,
for SVE and for SVE2, and the digests are compared with those of this processor and with docs/vectors.json. The kernels
are compiled under emulation, each time anew: some minutes of one core for each run.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import platform
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "ml_dtypes")
SEED = 5
SHAPE = (37, 131)
LARGE = (3, 1 << 21)  # elements: streamed past the caches, and tasks for two threads, for every dtype
CONTROL = "control: another seed on this processor"  # differs where all is well
PR_SVE_GET_VL = 51
# of one kind of tensor alone
UNDEFINED = {("eye", "convolution"), ("sparse", "convolution"), ("sinusoidal", "convolution"), ("dirac", "matrix")}
EMULATOR = Path("qemu/usr/bin/qemu-aarch64-static")


class Run(NamedTuple):
    """A processor: the one that is emulated, by QEMU's name, and the one that kernels are compiled for, by LLVM's."""

    emulated: str
    compiled: str


RUNS = {
    "NEON": Run("cortex-a72", "cortex-a72"),
    "SVE": Run("max,sve256=on", "neoverse-v1"),
    "SVE2": Run("max,sve128=on", "neoverse-v2"),
}


def buffers(dtype: Any) -> dict[str, Any]:
    """Return an array of each layout in memory."""
    import numpy as np

    rows, columns = SHAPE
    size = rows * columns
    return {
        "contiguous": np.empty(SHAPE, dtype),
        "Fortran": np.empty(SHAPE, dtype, "F"),
        "strided": np.empty((3 * rows, 2 * columns), dtype)[::-3, ::2],
        "short rows": np.empty((301, 40), dtype)[:, :5],
        "channels last": np.empty((3, 7, 9, 24), dtype).transpose(0, 3, 1, 2),
        "from an element on": np.empty(size + 5, dtype)[5:].reshape(SHAPE),
        "from a byte on": np.empty(size * dtype.itemsize + 1, np.uint8)[1:].view(dtype).reshape(SHAPE),
    }


def cases() -> Iterator[tuple[str, bytes]]:
    """Yield everything that is compared: what it is, and its bytes."""
    import ml_dtypes
    import numpy as np

    import fastinit as fi

    vectors = runpy.run_path(str(ROOT / "docs" / "make_vectors.py"))
    yield from pinned(vectors["vectors"]()).items()
    for start in (1, 2**34 - 1003):
        yield f"words from {start} on", fi.words(50_003, seed=SEED, name="w", start=start).tobytes()
    # every proposal of the truncated normal, and parameters that are computed
    kernels = (fi.uniform(-0.3, 0.7), fi.normal(-3.0, 0.5), *vectors["INITIALIZERS"][6:])
    families = [
        factory(**options)
        for family in ("he", "xavier", "lecun")
        for kind in ("uniform", "normal", "truncated_normal")
        for factory in [getattr(fi, f"{family}_{kind}")]
        for options in [{"gain": fi.gain("gelu")} if family == "xavier" else {}]
    ]
    constants = fi.zeros(), fi.ones(), fi.constant(-0.1), fi.eye(0.3), fi.dirac(), fi.sparse(0.3), fi.sinusoidal()
    for kind in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        dtype = np.dtype(kind)
        for init in (*kernels, *families, *constants):
            for layout, out in buffers(dtype).items():
                matrix = "matrix" if out.ndim == 2 else "convolution"
                if (repr(init).split("(")[0], matrix) in UNDEFINED:
                    continue
                for threads in (1, 2):
                    out[...] = 7
                    fi.fill(out, init, seed=SEED, name="w", threads=threads)
                    yield f"{init!r} {dtype} {layout}, {threads} threads", out.tobytes()
        for init in (*kernels, *families):
            out, row = np.empty(SHAPE, dtype), 2**13 if dtype == np.float64 else 2**14  # where block 2**32 begins
            first = (row - 2, 2**20 - SHAPE[1])
            fi.fill(out, init, seed=SEED, name="w", global_shape=(2**17, 2**20), global_offset=first)
            yield f"{init!r} {dtype} region", out.tobytes()
        for init in kernels[:3]:
            for layout, out in (("large", np.empty(LARGE, dtype)), ("large, Fortran", np.empty(LARGE[::-1], dtype).T)):
                for threads in (1, 2):
                    out[...] = 7
                    fi.fill(out, init, seed=SEED, name="w", threads=threads)
                    yield f"{init!r} {dtype} {layout}, {threads} threads", out.tobytes()
    yield CONTROL, fi.array(SHAPE, fi.uniform(), seed=int(platform.machine() == "aarch64"), name="w").tobytes()


def pinned(vectors: dict[str, Any]) -> dict[str, bytes]:
    """Return each of the test vectors, by its place in docs/vectors.json."""
    return {
        f"vectors.json, {kind} {number}": json.dumps(one).encode()
        for kind in ("words", "values", "sparse")
        for number, one in enumerate(vectors[kind])
    }


def digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def write_digests() -> None:
    """Print what this processor is, and a line for each case: a process that crashes has said how far it came."""
    import llvmlite.binding as llvm
    from numba.core.registry import cpu_target

    lanes = ctypes.CDLL(None).prctl(PR_SVE_GET_VL) if platform.machine() == "aarch64" else -1
    facts = {
        "machine": platform.machine(),
        "target": cpu_target.target_context.codegen().magic_tuple(),
        "LLVM": ".".join(map(str, llvm.llvm_version_info)),
        "SVE bits": (lanes & 0xFFFF) * 8 if lanes > 0 else 0,
    }
    print(json.dumps(facts), flush=True)
    for name, content in cases():
        print(json.dumps([name, digest(content)]), flush=True)


def digests(command: list[str], environment: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a Python that writes digests; return what its processor is, and the digests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHON", "FASTINIT_"))}
    done = subprocess.run(
        [*command, "-m", "bench.arm", "--digests"],
        env=kept | environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    facts, *lines = map(json.loads, done.stdout.splitlines() or ["{}"])
    if done.returncode:
        print(f"exit code {done.returncode} after {lines[-1][0] if lines else 'nothing'}", file=sys.stderr)
    return facts, dict(lines)


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return the names of the cases that differ or are missing."""
    return [name for name in expected | found if expected.get(name) != found.get(name)]


def prepare(folder: Path) -> Path:
    """Put QEMU, an aarch64 Python and its packages into a folder, unless they are there; return its Python."""
    found = list(folder.glob("root/usr/bin/python3.*[0-9]"))
    if not found:
        state = folder / "apt"
        for part in ("lists/partial", "archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()  # nothing is installed
        settings = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "",
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::Cache": state,
        }
        apt = ["apt-get", "-q", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
        subprocess.run([*apt, "update"], check=True)
        wanted = ["python3", "libstdc++6", "libgomp1"]
        subprocess.run([*apt, "install", "-y", "--download-only", "--no-install-recommends", *wanted], check=True)
        subprocess.run(["apt-get", "-q", "download", "qemu-user-static"], check=True, cwd=folder)
        for package in (state / "archives").glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
        for package in folder.glob("qemu-*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder / "qemu"], check=True)
        found = list(folder.glob("root/usr/bin/python3.*[0-9]"))
    python = found[0]
    if not (folder / "site").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:", f"--target={folder / 'site'}"]
        platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)]
        packages = [f"{name}=={version(name)}" for name in PACKAGES]
        subprocess.run([*pip, *platforms, f"--python-version={python.name[6:]}", *packages], check=True)
    return python


def emulated(folder: Path, python: Path, run: Run) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the emulated processor is, and its digests."""
    environment = {
        "NUMBA_CPU_NAME": run.compiled,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONHOME": str(folder / "root/usr"),
        "PYTHONPATH": f"{ROOT}:{folder / 'site'}",
    }
    return digests([str(folder / EMULATOR), "-cpu", run.emulated, "-L", str(folder / "root"), str(python)], environment)


def main() -> None:
    """Compare, print a table of the runs, and exit with 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--run", choices=RUNS, action="append", help="only this one")
    parser.add_argument("--digests", action="store_true", help="print this processor's, and compare nothing")
    options = parser.parse_args()
    if options.digests:
        write_digests()
        return
    if options.folder is None:
        parser.error("give a folder")
    folder = options.folder.resolve()
    python = prepare(folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    here, expected = digests([sys.executable], {"NUMBA_CACHE_DIR": str(folder / "cache")})
    contract = {name: digest(one) for name, one in pinned(json.loads((ROOT / "docs/vectors.json").read_text())).items()}
    wrong = differences(contract, {name: one for name, one in expected.items() if name in contract})
    emulator = subprocess.run([folder / EMULATOR, "--version"], capture_output=True, text=True, check=True).stdout
    print(f"{time.strftime('%Y-%m-%d')}, {emulator.splitlines()[0]}, LLVM {here['LLVM']}, {here['target'][1]} here")
    print("| | compiled for | SVE bits | cases | equal | minutes |\n| --- | --- | --- | --- | --- | --- |")
    for name in options.run or RUNS:
        began = os.times()
        facts, found = emulated(folder, python, RUNS[name])
        ended = os.times()
        minutes = sum(ended[2:4]) / 60 - sum(began[2:4]) / 60  # of processors, whatever else they do
        differ = differences(expected, found)
        equal = len(expected) - len(differ)
        cells = name, RUNS[name].compiled, facts.get("SVE bits"), len(expected) - 1, equal, f"{minutes:.1f}"
        print("|", " | ".join(map(str, cells)), "|", flush=True)
        wrong += [f"{name}: {case}" for case in differ if case != CONTROL]
        if CONTROL not in differ:
            wrong.append(f"{name}: the control, which should differ")
    for name in wrong:
        print(name)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
