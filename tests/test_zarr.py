"""fastinit.zarr and `fastinit fill OUT.zarr`: the values of `fastinit.array`, read back by zarr; resumed by content."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastinit as fi
from fastinit.io import zarr_arrays
from tests.helpers import DTYPE_NAMES, MAIN, Done, assert_same, environment, hear

zarr = pytest.importorskip("zarr", "3", reason="needs zarr 3: pip install 'fastinit-weights[zarr]'")
fz = pytest.importorskip("fastinit.zarr", reason="needs zarr 3: pip install 'fastinit-weights[zarr]'")

SHAPE, INIT = (100, 70), fi.he_normal()
GRIDS: dict[str, dict[str, Any]] = {
    "zarr's": {},
    "chunks": {"chunks": (30, 40)},
    "shards": {"chunks": (10, 20), "shards": (40, 60)},
    "one": {"chunks": (200, 100)},
}


def expected(shape: tuple[int, ...] = SHAPE, init: fi.Initializer = INIT, dtype: str = "float32", seed: int = 0) -> Any:
    return fi.array(shape, init, seed=seed, name="w", dtype=dtype)


def read(path: Path) -> Any:
    """What zarr reads, by a fresh handle; with the dtype that the attribute names."""
    array = zarr.open_array(str(path), mode="r")
    found = np.asarray(array[...])
    return found.view(ml_dtypes.bfloat16) if array.attrs.get("bfloat16_as") else found


def filled(path: Path, **grid: Any) -> Any:
    array = fz.create(path, SHAPE, **grid)
    return fz.fill(array, INIT, seed=0, name="w")


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_chunk_is_the_slice(grid: str, dtype: str, tmp_path: Path) -> None:
    options = GRIDS[grid] | ({"bfloat16_as": "uint16"} if dtype == "bfloat16" else {})
    array = fz.create(tmp_path / "w.zarr", SHAPE, dtype=dtype, **options)
    assert fz.fill(tmp_path / "w.zarr", INIT, seed=0, name="w").metadata == array.metadata
    assert_same(read(tmp_path / "w.zarr"), expected(dtype=dtype))
    assert not np.array_equal(read(tmp_path / "w.zarr"), expected(dtype=dtype, seed=1))
    assert (array.metadata.zarr_format, array.shards) == (3, options.get("shards"))


@pytest.mark.parametrize("shape", [(), (0, 3), (5, 4, 3)], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_shapes_and_threads(shape: tuple[int, ...], threads: int, tmp_path: Path) -> None:
    fz.create(tmp_path / "w.zarr", shape)
    fz.fill(tmp_path / "w.zarr", fi.normal(), seed=0, name="w", threads=threads)
    assert_same(read(tmp_path / "w.zarr"), expected(shape, fi.normal()))


@pytest.mark.parametrize(
    "init", [fi.orthogonal(), fi.sparse(0.1), fi.eye(), fi.zeros(), fi.constant(-0.0), fi.ones()], ids=str
)
def test_matrices_and_constants(init: fi.Initializer, tmp_path: Path) -> None:
    """The sign of zero is kept, though zarr leaves out chunks of its fill value, 0.0."""
    array = fz.create(tmp_path / "w.zarr", SHAPE, chunks=(30, 40))
    array[:] = 5
    fz.fill(array, init, seed=0, name="w")
    assert_same(read(tmp_path / "w.zarr"), expected(init=init))


def test_arrays_of_others(tmp_path: Path) -> None:
    """In memory, of format 2 in Fortran's order and the other byte order, compressed: whatever zarr writes."""
    made = [
        zarr.create_array(zarr.storage.MemoryStore(), shape=SHAPE, chunks=(30, 40), dtype="float32"),
        zarr.create_array(str(tmp_path / "2.zarr"), shape=SHAPE, chunks=(9, 9), dtype=">f4", zarr_format=2, order="F"),
        zarr.create_group(str(tmp_path / "g.zarr")).create_array("inside", shape=SHAPE, dtype="float32"),
    ]
    for array in made:
        fz.fill(array, INIT, seed=0, name="w")
        fz.fill(array, INIT, seed=0, name="w", resume=True)
        assert np.array_equal(array[:], expected())
    integers = zarr.create_array(zarr.storage.MemoryStore(), shape=(7,), dtype="uint16")
    assert (fz.fill(integers, fi.ones(), seed=0, name="w")[:] == 1).all()


def chunk_files(path: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file() and "c" in one.parts
    }


def stamps(path: Path) -> dict[str, tuple[int, int]]:
    found = {str(one.relative_to(path)): one.stat() for one in path.rglob("*") if one.is_file()}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in found.items()}


def written_again(path: Path, **changed: Any) -> set[str]:
    """Resume; the names of the files that were written."""
    before = stamps(path)
    fz.fill(path, INIT, seed=0, name="w", resume=True, **changed)
    return {name for name, stamp in stamps(path).items() if before.get(name) != stamp}


DAMAGES: dict[str, Callable[[Path], object]] = {
    "absent": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-7]),
    "one bit": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
    "last bit": lambda file: file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1])),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("grid", ["chunks", "shards"])
def test_resume_writes_what_is_damaged_alone(grid: str, damage: str, tmp_path: Path) -> None:
    """By content: a file that exists, of the right length too, is not believed."""
    path = tmp_path / "w.zarr"
    filled(path, **GRIDS[grid])
    assert written_again(path) == set()
    whole = chunk_files(path)
    DAMAGES[damage](path / "c/1/0")
    assert chunk_files(path) != whole
    assert written_again(path) == {"c/1/0"}
    assert chunk_files(path) == whole
    DAMAGES[damage](path / "c/1/0")
    fz.fill(path, INIT, seed=0, name="w")
    assert chunk_files(path) == whole
    assert_same(read(path), expected())


def test_another_seed_is_written_again(tmp_path: Path) -> None:
    fz.fill(fz.create(tmp_path / "w.zarr", SHAPE, chunks=(30, 40)), INIT, seed=1, name="w")
    assert not np.array_equal(read(tmp_path / "w.zarr"), expected())
    assert len(written_again(tmp_path / "w.zarr")) == 8
    assert_same(read(tmp_path / "w.zarr"), expected())


def test_an_interrupted_fill_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops in the middle, and the rest alone is written after."""
    path, drawn = tmp_path / "w.zarr", []

    def interrupted(out: Any, init: Any, **arguments: Any) -> Any:
        if "global_offset" in arguments:
            drawn.append(arguments["global_offset"])
            if len(drawn) == 4:
                raise KeyboardInterrupt
        return fi.fill(out, init, **arguments)

    array = fz.create(path, SHAPE, chunks=(30, 40))
    with monkeypatch.context() as patch:
        patch.setattr(zarr_arrays, "fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fz.fill(array, INIT, seed=0, name="w", threads=1)
    assert len(chunk_files(path)) == 3
    kept = set(chunk_files(path))
    assert written_again(path, threads=1) == {f"c/{k}/{n}" for k in range(4) for n in range(2)} - kept
    assert_same(read(path), expected())


def test_progress_counts_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    array = fz.create(tmp_path / "w.zarr", SHAPE, chunks=(30, 40))
    fz.fill(array, INIT, seed=0, name="w", progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, array.nbytes)
    assert seen[-1] == (array.nbytes, array.nbytes)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"dtype": "bfloat16"}, ValueError, "bfloat16_as must be 'uint16' for bfloat16, .* zarr has no bfloat16"),
        ({"bfloat16_as": "uint16"}, ValueError, "bfloat16_as must be .* dtype is float32"),
        ({"bfloat16_as": "int16", "dtype": "bfloat16"}, ValueError, "bfloat16_as.*must be one of 'uint16'"),
        ({"chunks": (0, 3)}, ValueError, "chunks must be 2 sizes of 1 or more"),
        ({"chunks": (3,)}, ValueError, "chunks must be 2 sizes of 1 or more"),
        ({"chunks": "x"}, TypeError, "chunks must be a sequence of integers"),
        ({"shards": (4, 4)}, ValueError, "chunks must be given with shards"),
        ({"chunks": (3, 3), "shards": (6, 8)}, ValueError, "shards must be multiples of chunks"),
        ({"shape": (-1,)}, ValueError, "every size in shape"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused(
    arguments: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"shape": SHAPE} | arguments
    with pytest.raises(kind, match=message) as caught:
        fz.create(tmp_path / "w.zarr", given.pop("shape"), **given)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_filled_is_refused_before_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "w.zarr"
    array = fz.create(path, SHAPE, chunks=(30, 40))
    given: dict[str, Any] = {"init": INIT, "seed": 0, "name": "w"}
    for changed, kind, message in (
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"init": "he"}, TypeError, "init must be an initializer"),
        ({"init": fi.dirac()}, ValueError, "dirac"),
        ({"threads": 0}, ValueError, "threads"),
        ({"resume": 1}, TypeError, "resume must be True or False"),
        ({"progress": 1}, TypeError, "progress must be"),
    ):
        with pytest.raises(kind, match=message):
            fz.fill(array, **(given | changed))
    for wrong, other, text in (
        (np.empty(3), TypeError, "array_or_path must be a zarr.Array or the path of one, got ndarray"),
        (tmp_path / "none.zarr", ValueError, "array_or_path must be a zarr array"),
        (tmp_path, ValueError, "array_or_path must be a zarr array"),
        (zarr.open_array(str(path), mode="r"), ValueError, "array_or_path must be writable"),
        (zarr.create_array(zarr.storage.MemoryStore(), shape=(3,), dtype="uint16"), TypeError, "takes only zeros"),
    ):
        with pytest.raises(other, match=text) as caught:
            fz.fill(wrong, fi.normal(), seed=0, name="w")
        assert "\n" not in str(caught.value)
    assert chunk_files(path) == {}
    with pytest.raises(ValueError, match="must not exist yet"):
        fz.create(path, SHAPE)


FILL = ("fill", "--shape", "100x70", "--init", "he_normal", "--seed", "0", "--name", "w")


def test_the_command_makes_an_array(command: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "w.zarr"
    done = command(*FILL, path, "--chunks", "10x20", "--shards", "40x60")
    assert (done.code, done.errors) == (0, "")
    assert re.search(r"w.zarr: 1 tensor, 28 kB in ", done.out)
    assert_same(read(path), expected())
    assert (zarr.open_array(str(path)).chunks, zarr.open_array(str(path)).shards) == ((10, 20), (40, 60))
    (path / "c/1/1").unlink()
    done = command(*FILL, path, "--resume")
    assert done.code == 0
    assert re.search(r"w.zarr: 1 tensor, \S+ kB in .*; \S+ kB kept", done.out)
    assert_same(read(path), expected())
    done = command(*FILL, tmp_path / "b.zarr", "--dtype", "bfloat16", "--bfloat16-as", "uint16", "--no-sync")
    assert done.code == 0
    assert_same(read(tmp_path / "b.zarr"), expected(dtype="bfloat16"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "bfloat16"], "bfloat16_as must be 'uint16'"),
        (["--chunks", "3"], "chunks must be 2 sizes"),
        (["--chunks", "axb"], "--chunks must be sizes"),
        (["--shards", "50x70"], "chunks must be given with shards"),
    ],
)
def test_the_command_refuses(options: list[str], message: str, command: Callable[..., Done], tmp_path: Path) -> None:
    done = command(*FILL, tmp_path / "w.zarr", *options)
    assert (done.code, done.errors.count("\n")) == (1, 1)
    assert message in done.errors
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_what_is_there(command: Callable[..., Done], tmp_path: Path) -> None:
    path = tmp_path / "w.zarr"
    filled(path, chunks=(30, 40))
    before = chunk_files(path)
    for options, message in (
        ([], "must not exist yet"),
        (["--resume", "--chunks", "30x30"], "chunks must be that of the array"),
        (["--resume", "--dtype", "float16"], "dtype must be that of the array"),
    ):
        done = command(*FILL, path, *options)
        assert (done.code, done.errors.count("\n")) == (1, 1), done.errors
        assert message in done.errors
    for option in (["--chunks", "3x3"], ["--resume"]):
        done = command(*FILL, tmp_path / "w.npy", *option)
        assert (done.code, f"{option[0]} needs an OUT that ends in .zarr" in done.errors) == (1, True)
    assert chunk_files(path) == before
    shutil.rmtree(path)
    path.mkdir()
    assert command(*FILL, path, "--resume").code == 0  # an empty folder is none


def test_a_killed_command_is_resumed(command: Callable[..., Done], tmp_path: Path) -> None:
    """Killed where some chunks are there; equal to one that was not, chunk by chunk."""
    path, size = tmp_path / "w.zarr", "4000x4000"
    arguments = ["fill", "--shape", size, "--init", "normal", "--seed", "0", "--name", "w", "--chunks", "200x200"]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments, str(path), "--threads", "1"], env=environment(), preexec_fn=hear
    )
    while process.poll() is None and len(chunk_files_names(path)) < 20:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = len(chunk_files_names(path))
    assert command(*arguments, path, "--resume").code == 0
    assert_same(read(path), expected((4000, 4000), fi.normal()))
    assert 20 <= left <= 400


def chunk_files_names(path: Path) -> list[str]:
    """Names of finished chunks' files: those that zarr has not written completely are named .partial."""
    return [name for _, _, names in os.walk(path / "c") for name in names if name.isdigit()]


def test_dask_stores_to_zarr(tmp_path: Path) -> None:
    pytest.importorskip("dask.array", reason="needs dask")
    import fastinit.dask

    lazy = fastinit.dask.array(SHAPE, INIT, seed=0, name="w", chunks=(30, 40))
    lazy.to_zarr(str(tmp_path / "to.zarr"), compute=True)
    assert_same(read(tmp_path / "to.zarr"), expected())
    array = fz.create(tmp_path / "store.zarr", SHAPE, chunks=(30, 40))
    lazy.store(array, lock=False)
    assert written_again(tmp_path / "store.zarr") == set()
    half = fastinit.dask.array(SHAPE, INIT, seed=0, name="w", chunks=(30, 40), dtype="bfloat16")
    array = fz.create(tmp_path / "half.zarr", SHAPE, chunks=(30, 40), dtype="bfloat16", bfloat16_as="uint16")
    half.view(np.uint16).store(array, lock=False)
    assert_same(read(tmp_path / "half.zarr"), expected(dtype="bfloat16"))


def test_verify_reads_zarr_arrays(tmp_path: Path) -> None:
    array = filled(tmp_path / "w.zarr", **GRIDS["shards"])
    report = fi.verify(array, INIT)
    assert report.passed
    assert str(report) == str(fi.verify(expected(), INIT))
    assert fi.verify(array, fi.he_uniform()).rejected
    half = fz.create(tmp_path / "b.zarr", (200, 300), dtype="bfloat16", bfloat16_as="uint16")
    assert fi.verify(fz.fill(half, INIT, seed=0, name="w"), INIT).passed
