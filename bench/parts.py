"""One checkpoint in four ways, equal byte for byte: `python -m bench.parts FOLDER`.

Its shards are written with one thread and with several; by eight ranks; and by a run that is killed three times and
resumed. The SHA-256 of every file is compared, and the peak of private memory is told. Only one copy of the checkpoint
is on the disk at a time, and none at the end. By default the model is GPT-2; the large one is
``--manifest tests/manifests/llama-3.1-8b.json --recipe llama --dtype bfloat16 --max-shard-size 5GB``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RANKS = 8
KILLS = 3
MOST_MEMORY = 400e6  # bytes that a run may hold of its own, for a model of any size


class Run:
    """A run of the command, and the peak of its private memory."""

    def __init__(self, arguments: Sequence[object], **changed: str) -> None:
        command = [sys.executable, "-m", "fastinit", "init", *map(str, arguments), "--quiet"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | changed, stdout=subprocess.PIPE, text=True
        )
        self.peak = 0

    def alive(self) -> bool:
        """Look at the memory, a moment later; False when the run has ended."""
        time.sleep(0.02)
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            status = ""
        if found := re.search(r"RssAnon:\s+(\d+) kB", status):
            self.peak = max(self.peak, int(found[1]) * 1024)
        return self.process.poll() is None

    def end(self) -> str:
        """Wait for the end, which must be a success; what was printed."""
        while self.alive():
            pass
        printed = self.process.communicate()[0].strip()
        if self.process.returncode:
            raise RuntimeError(f"exit code {self.process.returncode}: {printed}")
        return printed


def files_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a checkpoint, and remove it."""
    found = {}
    for path in sorted(folder.glob("model*")):
        total = hashlib.sha256()
        with open(path, "rb") as file:
            while piece := file.read(1 << 24):
                total.update(piece)
        found[path.name] = total.hexdigest()
    shutil.rmtree(folder)
    return found


def killed(arguments: Sequence[object], folder: Path) -> str:
    """Run it until it is complete, killed so many times before: at once after a shard is finished, or while it is made.

    Only a run that keeps what is finished ends: each is killed after one more shard.
    """
    for number in range(1, KILLS + 1):
        run = Run([*arguments, "--resume"])
        while run.alive():
            if len(list(folder.glob("model-*.safetensors"))) >= number and list(folder.glob(".model-*.partial")):
                break
        run.process.send_signal(signal.SIGKILL)
        run.process.communicate()
        if run.process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"run {number} ended before it was killed, with {run.process.returncode}")
    return Run([*arguments, "--resume"]).end()


def check(folder: Path, model: Sequence[object], *, threads: int = 2) -> dict[str, str]:
    """Write the checkpoint in all ways; return the SHA-256 of its files, which must be equal."""
    out = folder / "parts"
    results = {}
    whole = [model[0], f"{out}/", *model[1:]]
    for count in (1, threads):
        run = Run([*whole, "--threads", count])
        print(f"{count} threads: {run.end()}; peak of private memory {run.peak / 1e6:.0f} MB", flush=True)
        if not 0 < run.peak < MOST_MEMORY:
            raise AssertionError(f"a run held {run.peak} bytes of its own, at most {MOST_MEMORY:.0f} are allowed")
        results[f"{count} threads"] = files_of(out)
    for rank in range(RANKS):
        print(f"rank {rank}: {Run([*whole, '--rank', rank, '--world-size', RANKS]).end()}", flush=True)
    results[f"{RANKS} ranks"] = files_of(out)
    print(f"killed {KILLS} times: {killed(whole, out)}", flush=True)
    results["killed"] = files_of(out)
    first = next(iter(results.values()))
    for name, found in results.items():
        if found != first or len(first) < KILLS + 2:
            raise AssertionError(f"{name}: the files differ: {found} and {first}")
    return first


def main() -> None:
    """Check, and print the digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--manifest", type=Path, default=ROOT / "tests/manifests/gpt2.json")
    parser.add_argument("--recipe", default="gpt2")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--max-shard-size", default="60MB")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    options = ["--recipe", given.recipe, "--dtype", given.dtype, "--max-shard-size", given.max_shard_size, "--seed", 0]
    model = [given.manifest.resolve(), *options]
    for name, text in check(given.folder.resolve(), model, threads=given.threads).items():
        print(f"{text}  {name}")


if __name__ == "__main__":
    main()
