"""Layouts of checkpoints, byte for byte against those of other writers, and the arithmetic of places."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastinit as fi
from fastinit.core.boxes import intersection
from fastinit.io.checkpoint import plan_shards, planned, write_shards
from fastinit.io.layout import Entry, boxes, contents_of, overlapping, shard_bytes, shards
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule
from fastinit.io.tensor_files import CODES, open_tensors
from fastinit.io.values import Values
from tests.checkpoints import RULES, SEED, SMALL, contents, expected, write
from tests.helpers import DTYPE_NAMES, assert_same


def test_a_single_file_is_what_safetensors_writes(tmp_path: Path) -> None:
    """Their own writer is compiled from Rust: order, padding, escapes."""
    safetensors = pytest.importorskip("safetensors.numpy")
    odd = [Tensor('odd "name"\n\x01\x7f', (3,), "float32"), Tensor("empty", (0, 4), "float32"), *SMALL]
    every = [Tensor(f"of.{dtype}", (3, 5), dtype) for dtype in reversed(CODES) if dtype not in DTYPE_NAMES]
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
    assert intersection((0, 0), (3, 5), (2, 3), (2, 4)) == ((2, 3), (1, 2))
    assert intersection((0, 0), (2, 9), (2, 3), (2, 4)) is None
    assert intersection((), (), (), ()) == ((), ())
