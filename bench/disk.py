"""GB/s of a checkpoint on its way to a disk, beside dd of as many bytes: `python -m bench.disk FOLDER`.

All contenders write the same number of bytes to files in FOLDER, in turns, and wait for the disk; a figure is the
median of the turns. The model is normal draws in bfloat16. *mapping*, *page cache* and *direct* are three ways to write
the same file; `fastinit.io.blocks` takes the last, where the file system can. Every file is checked against the first.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import fastinit as fi
from fastinit.core.dtypes import dtype_of
from fastinit.io import blocks
from fastinit.io.checkpoint import initialize, plan_shards, planned, write_shards
from fastinit.io.files import reserve
from fastinit.io.layout import File, one_file
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule
from fastinit.io.values import Values

COLUMNS = 4096
RULES = [Rule(fi.normal(std=0.02))]
SEED = 0


def model(size: int, tensors: int = 8) -> list[Tensor]:
    """Return a model of so many bytes."""
    rows = size // tensors // COLUMNS // 2
    return [Tensor(f"layers.{n}.weight", (rows, COLUMNS), "bfloat16") for n in range(tensors)]


def dd(source: str, *options: str) -> Callable[[Path, list[Tensor]], None]:
    """Return the writer that copies a file of at least as many bytes by dd."""

    def write(out: Path, tensors: list[Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in tensors)
        command = ["dd", f"if={source}", f"of={out}", "bs=64M", f"count={size}", "iflag=count_bytes", "conv=fsync"]
        subprocess.run([*command, *options], check=True, capture_output=True)

    return write


def mapping(out: Path, tensors: list[Tensor]) -> None:
    """Draw into a mapped file, and wait for the disk at the end."""
    file: File = one_file(out.name, planned(tensors, RULES), "")
    whole = len(file.header) + file.size
    with open(out, "w+b") as target:
        reserve(target.fileno(), whole)
        os.pwrite(target.fileno(), file.header, 0)
        mapped = mmap.mmap(target.fileno(), whole)
        data = np.frombuffer(mapped, np.uint8, file.size, len(file.header))
        for (tensor, init, *_), start in file.entries:
            view = data[start : start + tensor.nbytes].view(dtype_of(tensor.dtype)).reshape(tensor.shape)
            fi.fill(view, init, seed=SEED, name=tensor.name)
        mapped.flush()
        os.fsync(target.fileno())


@contextmanager
def direct_from(size: int) -> Iterator[None]:
    """Write files directly from this size on, in place of the package's own."""
    before, blocks.DIRECT = blocks.DIRECT, size
    try:
        yield
    finally:
        blocks.DIRECT = before


def page_cache(out: Path, tensors: list[Tensor]) -> None:
    """Draw into blocks, and write them through the page cache."""
    with direct_from(sys.maxsize):
        initialize(tensors, out, RULES, seed=SEED)


def direct(out: Path, tensors: list[Tensor]) -> None:
    """Draw into blocks, and write them past the page cache."""
    with direct_from(0):
        initialize(tensors, out, RULES, seed=SEED)


def shards(out: Path, tensors: list[Tensor]) -> None:
    """Write what the command writes into a folder: with the digests of its record."""
    write_shards(plan_shards(planned(tensors, RULES), out, most=sys.maxsize), Values(SEED))


def run(folder: Path, size: int, turns: int) -> dict[str, list[float]]:
    """Return the GB/s of every contender, turn by turn."""
    tensors = model(size)
    size = sum(tensor.nbytes for tensor in tensors)
    random, digests = Path("/dev/shm/fastinit-disk-random"), set()
    contenders: dict[str, Callable[[Path, list[Tensor]], None]] = {"dd from /dev/zero": dd("/dev/zero")}
    if os.access(random.parent, os.W_OK):
        random.write_bytes(b"".join(os.urandom(1 << 20) for _ in range(size >> 20)) + b"0" * (size % (1 << 20)))
        contenders["dd of random bytes in RAM"] = dd(str(random))
    contenders |= {
        "dd from /dev/zero, oflag=direct": dd("/dev/zero", "oflag=direct"),
        "mapping": mapping,
        "page cache": page_cache,
        "direct": direct,
        "direct, with digests, in a folder": shards,
    }
    found: dict[str, list[float]] = {name: [] for name in contenders}
    direct(folder / "warmup", model(1 << 20))
    try:
        for _ in range(turns):
            for name, write in contenders.items():
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    os.sync()
                    began = time.perf_counter()
                    write(Path(place, "out"), tensors)
                    found[name].append(size / 1e9 / (time.perf_counter() - began))
                    if not name.startswith("dd"):
                        written = next(path for path in Path(place).rglob("*") if path.stat().st_size >= size)
                        digests.add(_digest(written, size))
    finally:
        random.unlink(missing_ok=True)
        (folder / "warmup").unlink(missing_ok=True)
    if len(digests) != 1:
        raise AssertionError("the contenders wrote different values")
    return found


def _digest(path: Path, size: int) -> str:
    """Return the digest of a file's last bytes, which no header is among."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(-size, os.SEEK_END)
        while piece := file.read(1 << 24):
            found.update(piece)
    return found.hexdigest()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of a file")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    found = run(arguments.folder, int(arguments.gigabytes * 1e9), arguments.turns)
    base = max(
        statistics.median(turns) for name, turns in found.items() if name.startswith("dd") and "direct" not in name
    )
    for name, turns in found.items():
        median = statistics.median(turns)
        print(f"{name:36} {median:6.2f} GB/s ({min(turns):.2f}-{max(turns):.2f})  {median / base:5.2f} of dd")


if __name__ == "__main__":
    main()
