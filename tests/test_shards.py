"""Checkpoints in parts: layouts against other writers, ranks, resumption, digests, and the command's options."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastinit as fi
from bench import parts
from fastinit.io import blocks, records
from fastinit.io.checkpoint import initialize, plan_shards, planned, write_shards
from fastinit.io.files import complete_blocks
from fastinit.io.layout import Entry, Part, boxes, common, contents_of, overlapping, shard_bytes, shards, shared_out
from fastinit.io.manifests import Region, Tensor
from fastinit.io.rules import Rule
from fastinit.io.tensor_files import CODES, open_tensors
from fastinit.io.values import Values
from tests.helpers import MAIN, Done, assert_same, invoke, python

Command = Callable[..., Done]
FLOATING = ("float16", "bfloat16", "float32", "float64")
SMALL = [
    Tensor("embed.weight", (50, 64), "float32", module="Embedding"),
    Tensor("blocks.1.up.weight", (64, 96), "bfloat16", module="Linear"),
    Tensor("blocks.0.up.weight", (64, 96), "bfloat16", module="Linear"),
    Tensor("blocks.0.up.bias", (96,), "float64", module="Linear"),
    Tensor("größe.weight", (8, 7), "float32", module="Linear"),
    Tensor("blocks.0.steps", (), "int64", "buffer", "Norm"),
    Tensor("mask", (5,), "bool", module="Linear"),
    Tensor("head.weight", (64, 50), "float16", module="Linear"),
]
RULES = [
    Rule(fi.he_normal(), "*.weight", number=1),
    Rule(fi.zeros(), "*.bias", number=2),
    Rule(fi.constant(1), "mask", number=3),
    Rule(fi.constant(1), "*.steps", kind="buffer", number=4),
]
SEED = 7


def expected(tensor: Tensor, seed: int = SEED) -> Any:
    init: Any = next(rule.init for rule in RULES if rule.matches(tensor))
    return fi.array(tensor.shape, init, seed=seed, name=tensor.name, dtype=tensor.dtype)


def write(folder: Path, *, tensors: list[Tensor] = SMALL, most: int = 10_000, seed: int = SEED, **options: Any) -> Any:
    """Write shards; the first options are the plan's, the rest those of the writing."""
    plan = {name: options.pop(name) for name in ("rank", "ranks") if name in options}
    return write_shards(plan_shards(planned(tensors, RULES), folder, most=most, **plan), Values(seed), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("model*")}


# Layouts


def test_a_single_file_is_what_safetensors_writes(tmp_path: Path) -> None:
    """Their own writer is compiled from Rust: order, padding, escapes."""
    safetensors = pytest.importorskip("safetensors.numpy")
    odd = [Tensor('odd "name"\n\x01\x7f', (3,), "float32"), Tensor("empty", (0, 4), "float32"), *SMALL]
    every = [Tensor(f"of.{dtype}", (3, 5), dtype) for dtype in reversed(CODES) if dtype not in FLOATING]
    rules = [Rule(fi.constant(1), glob) for glob in ("of.*", "odd*", "empty")] + RULES
    write_shards(plan_shards(planned([*odd, *every], rules), tmp_path / "a"), Values(SEED))
    ours = open_tensors(tmp_path / "a/model.safetensors").arrays
    safetensors.save_file(
        {name: array.copy() for name, array in ours.items()}, tmp_path / "b", metadata={"format": "pt"}
    )
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b").read_bytes()
    assert contents(tmp_path / "a").keys() == {"model.safetensors"}
    for tensor in SMALL:
        assert_same(ours[tensor.name], expected(tensor))


@pytest.mark.parametrize("most", [1, 1000, 6400, 12_288, 12_800, 20_000, 10**6])
def test_shards_are_what_hugging_face_writes(tmp_path: Path, most: int) -> None:
    torch = pytest.importorskip("torch")
    hub = pytest.importorskip("huggingface_hub")
    safetensors = pytest.importorskip("safetensors.torch")
    write(tmp_path / "ours", most=most)

    def tensor_of(one: Tensor) -> Any:
        array = expected(one)
        if one.dtype == "bfloat16":
            return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(array)

    state = {one.name: tensor_of(one) for one in SMALL}
    split = hub.split_torch_state_dict_into_shards(
        state, filename_pattern="model{suffix}.safetensors", max_shard_size=most
    )
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name, keys in split.filename_to_tensors.items():
        safetensors.save_file({key: state[key] for key in keys}, theirs / name, metadata={"format": "pt"})
    if split.is_sharded:
        count = sum(math.prod(one.shape) for one in SMALL if one.kind == "parameter")
        index = {"metadata": {"total_parameters": count, **split.metadata}, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (theirs / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    assert contents(tmp_path / "ours") == contents(theirs)


def test_shards_are_what_a_model_saves(tmp_path: Path) -> None:
    """transformers' save_pretrained of a Llama with tied weights, loaded from what is written here."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=99,
        tie_word_embeddings=True,
        dtype=torch.float32,
    )
    model = transformers.LlamaForCausalLM(config)
    aliases = {"model.embed_tokens.weight": ("lm_head.weight",)}
    tensors = [
        Tensor(name, tuple(one.shape), "float32", module="Linear", aliases=aliases.get(name, ()))
        for name, one in model.named_parameters()
    ]
    rules = [Rule(fi.normal(std=0.02))]
    plan = plan_shards(planned(tensors, rules), tmp_path / "ours", most=60_000)
    write_shards(plan, Values(SEED))
    config.save_pretrained(tmp_path / "ours")
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "ours")
    for name, one in loaded.named_parameters():
        array = fi.array(tuple(one.shape), fi.normal(std=0.02), seed=SEED, name=name)
        assert_same(one.detach().numpy(), array)
    model.load_state_dict(loaded.state_dict())  # a model that was loaded itself is saved in another order
    model.save_pretrained(tmp_path / "theirs", max_shard_size=60_000)
    ours, theirs = contents(tmp_path / "ours"), contents(tmp_path / "theirs")
    names = {name for name in theirs if name.startswith("model")}
    assert len(names) > 3
    assert names == {name for name in ours if name.startswith("model")}
    for name in names:
        assert ours[name] == theirs[name], name


def test_a_tensor_larger_than_a_shard_has_one_of_its_own() -> None:
    """huggingface_hub's docstring: [6, 6, 2, 6, 2, 2] at 10 is [6], [6, 2], [6, 2, 2]; and 11 comes out of turn."""

    def groups(*sizes: int) -> list[list[int]]:
        tensors = [Tensor(f"w{n}", (size,), "int8") for n, size in enumerate(sizes)]
        files = shards(contents_of(tensors, [Rule(fi.zeros())]), 10)
        return [[entry.content.tensor.nbytes for entry in file.entries] for file in files]

    assert groups(6, 6, 2, 6, 2, 2) == [[6], [6, 2], [6, 2, 2]]
    assert groups(2, 11, 3) == [[11], [2, 3]]
    assert groups(10, 1) == [[10], [1]]


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    tensors = [Tensor("a.weight", (4, 4), "float32", aliases=("b.weight",)), Tensor("c.weight", (4, 4), "float32")]
    write(tmp_path, tensors=tensors, most=64)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == {"a.weight", "c.weight"}
    assert index["metadata"] == {"total_parameters": 32, "total_size": 128}


def test_a_name_that_two_shards_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there twice"):
        write(tmp_path, tensors=[SMALL[0], SMALL[1], SMALL[0]])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "5", "1KB", "0.5 mb", "3GB", "2TB"])
def test_sizes_are_read_as_hugging_face_reads_them(text: str) -> None:
    if not text or text.isdigit():
        assert text == "" or shard_bytes(text) == int(text)
        return
    hub = pytest.importorskip("huggingface_hub.serialization._base")
    assert shard_bytes(text) == hub.parse_size_to_int(text)


@pytest.mark.parametrize("text", ["", "0", "-1GB", "5GiB", "GB", "1e9", "nan", "5 5GB", "9" * 400])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--max-shard-size must be a size such as 5GB"):
        shard_bytes(text)


@given(st.lists(st.integers(1, 5), max_size=4), st.data())
def test_boxes_cover_a_span(shape: list[int], data: st.DataObject) -> None:
    size = math.prod(shape)
    begin = data.draw(st.integers(0, size))
    end = data.draw(st.integers(begin, size))
    whole = np.arange(size).reshape(shape)
    found = [
        whole[tuple(slice(o, o + n) for o, n in zip(*box, strict=True))].ravel()
        for box in boxes(tuple(shape), begin, end)
    ]
    assert np.concatenate([[], *found]).tolist() == list(range(begin, end))
    assert len(found) <= max(1, 2 * len(shape) - 1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 40), st.integers(0, 40))
def test_overlaps_are_found(sizes: list[int], begin: int, end: int) -> None:
    tensors = [Tensor(f"w{n}", (size,), "int8") for n, size in enumerate(sizes)]
    at = np.cumsum([0, *sizes]).tolist()
    entries = [Entry(one, start) for one, start in zip(contents_of(tensors, [Rule(fi.zeros())]), at, strict=False)]
    found = [(entry.start, low, high) for entry, low, high in overlapping(entries, begin, end)]
    spans = [(start, max(start, begin), min(start + size, end)) for start, size in zip(at, sizes, strict=False)]
    assert found == [span for span in spans if span[1] < span[2]]


def test_what_boxes_have_in_common() -> None:
    part = Part((2, 3), (2, 4), fi.zeros())
    assert common((0, 0), (3, 5), part) == ((2, 3), (1, 2))
    assert common((0, 0), (2, 9), part) is None
    assert common((), (), Part((), (), fi.zeros())) == ((), ())


# Writing in blocks


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


@pytest.mark.parametrize("dtype", FLOATING)
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


# Parts


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_the_parts_of_all_ranks_are_the_whole(tmp_path: Path, ranks: int) -> None:
    write(tmp_path / "whole")
    for rank in reversed(range(ranks)):
        before = contents(tmp_path / "parts").keys() if rank < ranks - 1 else set()
        write(tmp_path / "parts", rank=rank, ranks=ranks)
        new = contents(tmp_path / "parts").keys() - before
        assert ("model.safetensors.index.json" in new) == (rank == 0)
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_shards_are_shared_out_evenly_by_bytes() -> None:
    tensors = [Tensor(f"w{n}", (size,), "int8") for n, size in enumerate([9, 8, 2, 3, 7, 4, 9, 6])]
    files = shards(contents_of(tensors, [Rule(fi.zeros())]), 1)
    loads = [sum(file.size for file in shared_out(files, rank, 4)) for rank in range(4)]
    assert sum(loads) == 48
    assert max(loads) <= 13
    assert sorted(file.name for rank in range(4) for file in shared_out(files, rank, 4)) == [f.name for f in files]


def test_only_some_tensors_have_the_same_values(tmp_path: Path) -> None:
    initialize(SMALL, tmp_path / "x.safetensors", RULES, seed=SEED, only=["blocks.*.weight", "mask"])
    found = open_tensors(tmp_path / "x.safetensors").arrays
    assert found.keys() == {"blocks.0.up.weight", "blocks.1.up.weight", "mask"}
    for tensor in SMALL:
        if tensor.name in found:
            assert_same(found[tensor.name], expected(tensor))
    tied = [Tensor("a.weight", (4, 4), "float32", aliases=("head",))]
    assert [content.tensor.name for content in planned(tied, RULES, only=["head"])] == ["a.weight"]
    with pytest.raises(ValueError, match="--only must match a tensor, got 'absent', which match none"):
        planned(SMALL, RULES, only=["absent"])


# Resumption


def test_what_is_finished_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    before, whole = stamps(tmp_path), contents(tmp_path)
    written = write(tmp_path, resume=True)
    after = stamps(tmp_path)
    index = "model.safetensors.index.json"
    assert {**before, index: 0} == {**after, index: 0}
    assert (written.tensors, written.bytes) == (0, 0)
    assert written.kept == sum(tensor.nbytes for tensor in SMALL)
    assert contents(tmp_path) == whole
    write(tmp_path)  # the negative control: without --resume all is made again
    assert all(stamps(tmp_path)[name] != before[name] for name in before)


def flip(folder: Path, name: str, at: int) -> None:
    content = bytearray((folder / name).read_bytes())
    content[at] ^= 1
    (folder / name).write_bytes(content)


DAMAGES: dict[str, Callable[[Path, str], object]] = {
    "a bit of the data": lambda folder, name: flip(folder, name, -1),
    "a bit of the header": lambda folder, name: flip(folder, name, 40),
    "truncated": lambda folder, name: os.truncate(folder / name, (folder / name).stat().st_size - 1),
    "longer": lambda folder, name: os.truncate(folder / name, (folder / name).stat().st_size + 1),
    "absent": lambda folder, name: (folder / name).unlink(),
    "no record": lambda folder, name: (folder / records.RECORDS / f"{name}.json").unlink(),
    "an empty record": lambda folder, name: (folder / records.RECORDS / f"{name}.json").write_text(""),
    "a list as record": lambda folder, name: (folder / records.RECORDS / f"{name}.json").write_text("[]"),
    "a bit of the record": lambda folder, name: flip(folder / records.RECORDS, f"{name}.json", 30),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    whole = contents(tmp_path)
    name = sorted(whole)[1]
    DAMAGES[damage](tmp_path, name)
    before = stamps(tmp_path)
    write(tmp_path, resume=True)
    assert contents(tmp_path) == whole
    after = stamps(tmp_path)
    made = {one for one in after if after[one] != before.get(one) and one.endswith(".safetensors")}
    assert made == {name}


@pytest.mark.parametrize("change", ["seed", "initializer", "region"])
def test_another_plan_is_not_taken_for_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    write(tmp_path / "x")
    seed = SEED
    if change == "seed":
        seed += 1
    elif change == "initializer":
        monkeypatch.setattr(f"{__name__}.RULES", [Rule(fi.he_uniform(), "head.*"), *RULES])
    else:
        monkeypatch.setattr(f"{__name__}.RULES", [Rule(fi.he_normal(), "head.*", zero_row=0), *RULES])
    assert write(tmp_path / "x", seed=seed, resume=True).tensors > 0
    write(tmp_path / "y", seed=seed)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    """Before it is, there is no index, though an older checkpoint was there: nobody loads half of each."""
    write(tmp_path / "whole")
    write(tmp_path / "x", seed=SEED + 1)
    sizes = [file.size for file in plan_shards(planned(SMALL, RULES), tmp_path / "x", most=10_000).files]

    def stop(done: int, total: int) -> None:
        assert not (tmp_path / "x/model.safetensors.index.json").exists()
        if done > sum(sizes[:2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x", progress=stop)
    assert "model.safetensors.index.json" not in contents(tmp_path / "x")
    assert write(tmp_path / "x", resume=True).kept == sum(sizes[:2])
    assert contents(tmp_path / "x") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("other", "most"), [("model.safetensors", 10_000), ("model-00001-of-00002.safetensors", 1 << 30)]
)
def test_weights_of_another_layout_are_not_joined(tmp_path: Path, other: str, most: int) -> None:
    (tmp_path / other).write_bytes(b"precious")
    (tmp_path / "notes.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"must hold no weights of another layout, and has {other}"):
        write(tmp_path, most=most)
    assert contents(tmp_path) == {other: b"precious", "notes.safetensors": b"mine"}


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    for tensors, error in (([Tensor("x.weight", (3,), "float32")], ValueError), (SMALL, RuntimeError)):

        def stop(done: int, total: int) -> None:
            raise RuntimeError("stop")

        with pytest.raises(error):
            write(tmp_path / "made", tensors=tensors, progress=stop)
        assert os.listdir(tmp_path) == []


# Digests and the command


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    """The first arguments of an `init` in this folder."""
    entries = [{"name": t.name, "shape": t.shape, "dtype": t.dtype, "kind": t.kind, "module": t.module} for t in SMALL]
    (tmp_path / "m.json").write_text(json.dumps(entries))
    rules = [f"[[rule]]\nmatch = '{rule.match}'\ninit = '{rule.init!r}'\nkind = '{rule.kind}'\n" for rule in RULES]
    (tmp_path / "r.toml").write_text("".join(rules))
    return ["init", str(tmp_path / "m.json"), "--recipe", str(tmp_path / "r.toml"), "--seed", str(SEED)]


def sums() -> dict[str, str]:
    return {tensor.name: hashlib.sha256(expected(tensor).tobytes()).hexdigest() for tensor in SMALL}


def test_digests_are_those_of_the_bytes(tmp_path: Path, model: list[str]) -> None:
    out = tmp_path / "x.safetensors"
    assert invoke(*model, out, "--digest")[0] == 0
    assert json.loads((tmp_path / "x.safetensors.sha256.json").read_text()) == sums()
    folder = tmp_path / "folder"
    for resume in ([], ["--resume"]):
        assert invoke(*model, f"{folder}/", "--max-shard-size", "10KB", "--digest", *resume)[0] == 0
        assert json.loads((folder / "model.sha256.json").read_text()) == sums()
        (folder / "model.sha256.json").unlink()
    found = []
    for rank in range(3):
        options = ["--max-shard-size", "10KB", "--digest", "--rank", rank, "--world-size", 3]
        assert invoke(*model, f"{folder}/", *options)[0] == 0
        found.append(folder / f"model.rank-{rank}-of-3.sha256.json")
    assert {name: text for path in found for name, text in json.loads(path.read_text()).items()} == sums()
    options = [text for path in found for text in ("--digest", path)]
    assert invoke("verify", folder, *options) == (0, f"{folder}: {len(SMALL)} tensors have their digests\n")


def test_digests_are_verified(tmp_path: Path, model: list[str]) -> None:
    folder, digests = tmp_path / "folder", tmp_path / "folder/model.sha256.json"
    assert invoke(*model, f"{folder}/", "--max-shard-size", "10KB", "--digest")[0] == 0
    for checkpoint in (folder, folder / "model.safetensors.index.json"):
        assert invoke("verify", checkpoint, "--digest", digests)[0] == 0
    one = folder / "model-00001-of-00004.safetensors"
    code, text = invoke("verify", one, "--digest", digests)
    assert code == 1
    assert text.startswith(f"absent: {len(SMALL) - 1}: ")
    flip(folder, one.name, -1)
    code, text = invoke("verify", folder, "--digest", digests)
    assert code == 1
    assert text.startswith("different: 1: ")
    content = json.loads(digests.read_text())
    del content["mask"]
    digests.write_text(json.dumps(content))
    code, text = invoke("verify", folder, "--digest", digests)
    assert "without a digest: 1: 'mask'" in text
    for wrong in ("[]", '{"w": "0"}', "{", '{"w": 1}'):
        digests.write_text(wrong)
        with pytest.raises(ValueError, match="digests "):
            invoke("verify", folder, "--digest", digests)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    digests.write_text("{}")
    with pytest.raises(ValueError, match="is no index of shards"):
        invoke("verify", folder, "--digest", digests)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, model: list[str]) -> None:
    before = sorted(os.listdir(tmp_path))
    for out, file in ((tmp_path / "x.safetensors", "x.safetensors"), (f"{tmp_path}/new/", "model.safetensors")):
        code, text = invoke(*model, out, "--dry-run")
        assert code == 0
        lines = text.splitlines()
        assert len(lines) == len(SMALL) + 2
        row = next(re.split(" {2,}", line) for line in lines if line.startswith("embed.weight"))
        tail = ["1: match = '*.weight'", "he_normal()", "Normal(mean=0.0, std=0.1767766952966369)"]
        assert row == ["embed.weight", "50x64", "float32", "12800", file, *tail]
        assert lines[-1].startswith(f"{len(SMALL)} tensors, ")
        assert sorted(os.listdir(tmp_path)) == before
    (tmp_path / "r.toml").write_text("[[rule]]\nmatch = '*'\ninit = 'he_normal'\n")
    with pytest.raises(ValueError, match="a fan needs"):
        invoke(*model, tmp_path / "x.safetensors", "--dry-run")


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("x.safetensors", ["--max-shard-size", "5GB"], "--max-shard-size needs a folder as OUT"),
        ("x.safetensors", ["--resume"], "--resume needs a folder as OUT"),
        ("x.safetensors", ["--rank", "0", "--world-size", "2"], "--rank needs a folder as OUT"),
        ("x/", ["--rank", "0"], "--rank and --world-size need each other, got --rank 0, --world-size None"),
        (
            "x/",
            ["--rank", "2", "--world-size", "2"],
            "--rank must be at least 0 and less than --world-size, got 2 of 2",
        ),
        ("x/", ["--max-shard-size", "5GiB"], "--max-shard-size must be a size such as 5GB, 500MB or 4096, got '5GiB'"),
        ("x/", ["--only", "absent*"], "--only must match a tensor, got 'absent*'"),
        ("m.json/", [], "must be a folder, or not be there"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    tmp_path: Path, model: list[str], out: str, options: list[str], message: str, command: Command
) -> None:
    before = sorted(os.listdir(tmp_path))
    done = command(*model, out, *options, folder=tmp_path)
    assert done.code == 1, done
    assert done.errors.count("\n") == 1
    assert message in done.errors
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_that_is_there_needs_no_slash(tmp_path: Path, model: list[str]) -> None:
    (tmp_path / "out").mkdir()
    assert invoke(*model, tmp_path / "out")[0] == 0
    assert contents(tmp_path / "out").keys() == {"model.safetensors"}


def test_compiling_is_not_counted_as_writing(tmp_path: Path, model: list[str]) -> None:
    """In a process without compiled kernels, which takes seconds to make them."""
    done = python(MAIN, *model, tmp_path / "x.safetensors", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.code == 0, done.errors
    assert list((tmp_path / "cache").rglob("*.kernel"))
    found = re.search(r" in (\d+\.\d+) s,", done.out)
    assert found is not None
    assert float(found[1]) < 0.3


@pytest.mark.slow
def test_threads_ranks_and_kills_make_the_same_files(tmp_path: Path) -> None:
    options = ["--recipe", "gpt2", "--dtype", "bfloat16", "--max-shard-size", "60MB", "--seed", 0]
    found = parts.check(tmp_path, [parts.ROOT / "tests/manifests/gpt2.json", *options])
    assert len(found) == 5
