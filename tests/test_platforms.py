"""What other systems lack, hidden one by one: the package is imported, fills, writes, verifies and compiles without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fastinit as fi
from tests.helpers import python

ABSENT = """
def absent(function):
    def called(path, *arguments, **options):
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", path)
        return function(path, *arguments, **options)
    return called
for module, name in ((io, "open"), (builtins, "open"), (os, "open"), (os, "stat"), (os, "listdir"), (os, "scandir")):
    setattr(module, name, absent(getattr(module, name)))
"""
HELD = """
real = os.readlink, os.listdir
def unless_open(function):
    def called(path, *arguments, **options):
        for descriptor in real[1]("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the listing's own
                if real[0](f"/proc/self/fd/{descriptor}") == os.path.realpath(path):
                    raise PermissionError(13, "it is used by a process", path)
        return function(path, *arguments, **options)
    return called
os.replace, os.unlink = unless_open(os.replace), unless_open(os.unlink)
"""
# What hides each thing that macOS or Windows lacks, or has otherwise, before anything is imported
HIDDEN = {
    "O_DIRECT": "del os.O_DIRECT",
    "affinity": "del os.sched_getaffinity, os.sched_setaffinity",
    "posix_fallocate": "del os.posix_fallocate, os.posix_fadvise",
    "madvise": "for name in [name for name in dir(mmap) if name.startswith('MADV_')]: delattr(mmap, name)",
    "fdatasync": "del os.O_DIRECT, os.fdatasync",
    "pages of 4 KiB": "mmap.PAGESIZE = mmap.ALLOCATIONGRANULARITY = 16384",
    "/proc and /sys": ABSENT,
    "fcntl": "sys.modules['fcntl'] = None",
    "forks": "del os.fork, os.forkpty, os.register_at_fork",
    "SIGHUP": "del signal.SIGHUP",
    "pwrite": "del os.pwrite, os.pread, os.pwritev, os.preadv",
    "owners": "del os.fchown, os.fchmod, os.chown, os.getuid, os.geteuid",
    "flags of mmap": "for name in ('MAP_PRIVATE', 'MAP_SHARED', 'MAP_ANONYMOUS', 'MAP_ANON'): delattr(mmap, name)",
    "flags of open": "sys.modules['fcntl'] = None; del os.O_CLOEXEC, os.O_NOFOLLOW, os.O_NONBLOCK",
    "names of open files": f"sys.modules['fcntl'] = None\n{HELD}",
}
PARTS = list(HIDDEN)
HIDDEN["macOS"] = "\n".join(HIDDEN[part] for part in PARTS[1:7])
HIDDEN["Windows"] = "\n".join([HELD, *(HIDDEN[part] for part in PARTS[1:] if part != "names of open files")])

SOURCE = """
import builtins, contextlib, io, json, mmap, os, pathlib, random, signal, sys, threading
{hidden}
import numpy as np
import fastinit as fi
from fastinit.io import blocks
from fastinit_command import main
blocks.DIRECT = blocks.UNWRITTEN = 1 << 20  # so that small files take the way of large ones

def command(*arguments):
    sys.argv = ["fastinit", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0

large = fi.array((1 << 20, 2), fi.truncated_normal(), seed=0, name="w", threads=2)  # huge pages, streamed, two threads
small = fi.fill(np.empty((3, 5), np.float16, "F"), fi.he_normal(), seed=0, name="v")
assert fi.verify(large, fi.truncated_normal()).passed
manifest = [{{"name": "w", "shape": [1 << 20, 2], "dtype": "float32", "init": "truncated_normal()"}}]
np.savez("w.npz", w=large)
pathlib.Path("manifest.json").write_text(json.dumps(manifest))
codes = [
    command("init", "manifest.json", "w.safetensors", "--seed", "0", "--quiet"),
    command("init", "manifest.json", "w.safetensors", "--seed", "0", "--quiet"),  # in place of the old one
    command("init", "manifest.json", "shards/", "--max-shard-size", "5MB", "--seed", "0", "--quiet"),
    command("verify", "w.safetensors", "--manifest", "manifest.json"),
    command("verify", "w.npz", "--init", "truncated_normal"),
    command("fill", "v.npy", "--shape", "3x5", "--init", "he_normal()", "--seed", "0", "--name", "v"),
    command("words", "--seed", "0", "--name", "w", "--count", "0"),
    command("warmup"),
]
same = large.tobytes() == bytes(np.memmap("w.safetensors", mode="r")[-large.nbytes:])
print(json.dumps([codes, same, small.tolist()]))
"""


slow = pytest.mark.slow


@pytest.mark.parametrize("what", [*(pytest.param(part, marks=slow) for part in PARTS), "macOS", "Windows"])
def test_nothing_depends_on_what_other_systems_lack(what: str, tmp_path: Path) -> None:
    done = python(SOURCE.format(hidden=HIDDEN[what]), folder=tmp_path)
    assert done.code == 0, done.errors
    codes, same, small = json.loads(done.out.splitlines()[-1])
    assert (codes, same) == ([0] * 8, True), done.errors
    assert small == fi.array((3, 5), fi.he_normal(), seed=0, name="v", dtype="float16").tolist()
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".partial"]
