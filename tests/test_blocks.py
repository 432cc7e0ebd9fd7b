"""Files written in blocks: every byte, whatever the disk does; tensors and regions that blocks cut."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastinit as fi
from fastinit.io import blocks
from fastinit.io.checkpoint import initialize
from fastinit.io.files import complete_blocks
from fastinit.io.manifests import Region, Tensor
from fastinit.io.rules import Rule
from fastinit.io.tensor_files import open_tensors
from tests.checkpoints import RULES, SEED, SMALL
from tests.helpers import DTYPE_NAMES, assert_same


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page, written directly from the first byte on."""
    monkeypatch.setattr(blocks, "BLOCK", 4096)
    monkeypatch.setattr(blocks, "DIRECT", 0)


@pytest.mark.parametrize("direct", [0, 1 << 62])
@pytest.mark.parametrize("head", [0, 5, 4096, 9000])
@pytest.mark.parametrize("size", [0, 1, 4091, 4096, 30_001])
@pytest.mark.parametrize("sync", [True, False])
def test_blocks_are_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: int, head: int, size: int, sync: bool
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 4096)
    monkeypatch.setattr(blocks, "DIRECT", direct)
    monkeypatch.setattr(blocks, "UNWRITTEN", 10_000)
    header, data = np.random.default_rng(0).bytes(head), np.random.default_rng(1).bytes(size)
    seen: list[tuple[int, bytes]] = []
    with complete_blocks(
        tmp_path / "x", header, size, sync=sync, observe=lambda start, block: seen.append((start, bytes(block)))
    ) as found:
        for start, block in found:
            block[:] = np.frombuffer(data, np.uint8)[start : start + len(block)]
    assert (tmp_path / "x").read_bytes() == header + data
    assert b"".join(block for _, block in seen) == data
    assert [start for start, _ in seen] == np.cumsum([0, *(len(block) for _, block in seen)])[:-1].tolist()


def test_a_disk_without_direct_writes_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_blocks: None
) -> None:
    refused: list[int] = []

    def pwrite(descriptor: int, view: Any, at: int, write: Any = os.pwrite) -> int:
        if not refused:
            refused.append(at)
            raise OSError(22, "Invalid argument")
        return int(write(descriptor, view[: max(1, len(view) // 2)], at))  # and never all at once

    monkeypatch.setattr(os, "pwrite", pwrite)
    with complete_blocks(tmp_path / "x", b"head", 10_000) as found:
        for _, block in found:
            block[:] = 7
    assert (tmp_path / "x").read_bytes() == b"head" + b"\7" * 10_000
    assert refused


@pytest.mark.parametrize("place", ["pwrite", "ftruncate"])
def test_an_error_of_a_write_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_blocks: None, place: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, place, full)
        with pytest.raises(OSError, match=r"cannot write .*/x, .*No space left"):
            initialize(SMALL, tmp_path / "x", RULES, seed=0)
    assert os.listdir(tmp_path) == []


def test_every_block_must_be_taken(tmp_path: Path, tiny_blocks: None) -> None:
    with pytest.raises(RuntimeError, match="must be taken"), complete_blocks(tmp_path / "x", b"", 9000) as found:
        next(found)
    assert os.listdir(tmp_path) == []


def test_blocks_are_written_without_further_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_blocks: None
) -> None:
    def start(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    initialize(SMALL, tmp_path / "a", RULES, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", start)
        initialize(SMALL, tmp_path / "b", RULES, seed=0)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
def test_blocks_cut_tensors_anywhere(tmp_path: Path, tiny_blocks: None, dtype: str) -> None:
    """Elementwise values, and matrices, which are made as a whole."""
    inits = [fi.he_normal(), fi.truncated_normal(), fi.orthogonal(), fi.eye(), fi.sparse(0.5)]
    tensors = [Tensor(f"w{n}", (77, 33), dtype) for n in range(len(inits))]
    rules = [Rule(init, tensor.name) for init, tensor in zip(inits, tensors, strict=True)]
    initialize(tensors, tmp_path / "x.safetensors", rules, seed=SEED)
    found = open_tensors(tmp_path / "x.safetensors").arrays
    for init, tensor in zip(inits, tensors, strict=True):
        assert_same(found[tensor.name], fi.array((77, 33), init, seed=SEED, name=tensor.name, dtype=dtype))


@pytest.mark.parametrize("init", [fi.normal(), fi.orthogonal()])
def test_regions_are_written_over_the_whole(tmp_path: Path, tiny_blocks: None, init: Any) -> None:
    """A padding row, and a random region, whose values are those of the whole tensor's elements there."""
    regions = (Region((2, 0), (1, 700), "zeros"), Region((3, 100), (5, 300), "he_uniform"))
    tensor = Tensor("w", (9, 700), "float32", init=repr(init), regions=regions)
    initialize([tensor], tmp_path / "x.safetensors", [], seed=SEED)
    whole = fi.array((9, 700), init, seed=SEED, name="w")
    whole[2] = 0
    whole[3:8, 100:400] = fi.array((9, 700), fi.he_uniform(), seed=SEED, name="w")[3:8, 100:400]
    assert_same(open_tensors(tmp_path / "x.safetensors").arrays["w"], whole)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region((9, 0), (1, 7), "zeros"), "region must lie inside"),
        (Region((0,), (1,), "zeros"), "region must lie inside"),
        (Region((0, 0), (1, 7), "zeroes"), "did you mean"),
    ],
)
def test_regions_that_cannot_be_are_refused(tmp_path: Path, region: Region, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        initialize([Tensor("w", (9, 7), "float32", init="ones", regions=(region,))], tmp_path / "x", [], seed=0)
    assert os.listdir(tmp_path) == []
