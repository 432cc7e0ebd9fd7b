"""Manifests: what is read, what is refused, and that what is written is read back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit.io import manifests
from fastinit.io.manifests import Region, Tensor, read_manifest, write_manifest
from fastinit.io.tensor_files import CODES

WHOLE: dict[str, Any] = {
    "name": "embed.weight",
    "shape": [10, 4],
    "dtype": "float32",
    "kind": "parameter",
    "module": "Embedding",
    "init": "normal(std=0.02)",
    "regions": [{"offset": [3, 0], "shape": [1, 4], "init": "zeros"}],
    "aliases": ["lm_head.weight"],
}


def read(folder: Path, *entries: Any) -> list[Tensor]:
    path = folder / "m.json"
    path.write_text(json.dumps(entries))
    return read_manifest(path)


def test_every_key_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == [
        Tensor(
            "embed.weight",
            (10, 4),
            "float32",
            "parameter",
            "Embedding",
            "normal(std=0.02)",
            (Region((3, 0), (1, 4), "zeros"),),
            ("lm_head.weight",),
        )
    ]


def test_a_region_may_be_the_whole_or_nothing(tmp_path: Path) -> None:
    regions = [{"offset": at, "shape": size, "init": "ones"} for at, size in (([0, 0], [10, 4]), ([10, 4], [0, 0]))]
    assert len(read(tmp_path, WHOLE | {"regions": regions})[0].regions) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": "he_norml"}, r"entry 0 \('embed.weight'\): init: .*did you mean 'he_normal'"),
        ({"init": "normal(std=-1)"}, "init: std must be 0 or more"),
        ({"init": "normal(stdd=1)"}, "did you mean 'std'"),
        ({"init": "normal(std=1 / 3)"}, "not a literal value"),  # numbers belong to recipes
        ({"init": "__import__('os').system('true')"}, "init: "),
        ({"init": "(" * 900}, "not the text of an initializer"),
        ({"init": "x" * 10**6}, "at most 1000 characters"),
        ({"init": 3}, "must be a string, got 3"),
        ({"init": None}, "must be a string, got None"),
        ({"init": ["zeros"]}, "must be a string"),
        ({"regions": {}}, r"regions must be a list, got \{\}"),
        ({"regions": None}, "regions must be a list, got None"),
        ({"regions": [3]}, "region 0 must be an object with offset, shape and init, got 3"),
        ({"regions": [{"offset": [0, 0], "shape": [1, 4]}]}, "region 0 must be an object"),
        ({"regions": [{"offset": [0, 0], "shape": [1, 4], "init": "zeros", "x": 1}]}, "region 0 must be an object"),
        ({"regions": [{"offset": [0, 0], "shape": [1, 4], "init": "zeroes"}]}, "did you mean 'zeros'"),
        ({"regions": [{"offset": [0, 0], "shape": [1, 4], "init": ["zeros"]}]}, "region 0: init: .* a string"),
        ({"regions": [{"offset": [0], "shape": [1, 4], "init": "zeros"}]}, "inside of the tensor's shape"),
        ({"regions": [{"offset": [0, 0], "shape": [1], "init": "zeros"}]}, "inside of the tensor's shape"),
        ({"regions": [{"offset": [10, 0], "shape": [1, 4], "init": "zeros"}]}, r"got offset \[10, 0\]"),
        ({"regions": [{"offset": [2**70, 0], "shape": [1, 4], "init": "zeros"}]}, "inside of the tensor's shape"),
        ({"regions": [{"offset": [-1, 0], "shape": [1, 4], "init": "zeros"}]}, "offset must be a list of sizes"),
        ({"regions": [{"offset": [0, 0], "shape": [True, 4], "init": "zeros"}]}, "shape must be a list of sizes"),
        ({"regions": [{"offset": [0, 0], "shape": [1.0, 4], "init": "zeros"}]}, "shape must be a list of sizes"),
        ({"regions": [{"offset": [0] * 10**5, "shape": [1, 4], "init": "zeros"}]}, "inside of the tensor's shape"),
        ({"aliases": "lm_head.weight"}, "aliases must be a list"),
        ({"aliases": [3]}, "aliases must be names of the tensor, got 3"),
        ({"aliases": [""]}, "aliases must be names of the tensor, got ''"),
        ({"aliases": ["__metadata__"]}, "aliases must be names"),
        ({"aliases": ["embed.weight"]}, "lists 'embed.weight' twice"),
        ({"aliases": ["a", "a"]}, "lists 'a' twice"),
        ({"aliases": ["other"]}, "lists 'other' twice"),
    ],
)
def test_what_is_refused_is_told_in_a_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    other = {"name": "other", "shape": [2], "dtype": "float32"}
    assert len(read(tmp_path, WHOLE, other)) == 2  # but for the change it is a manifest
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, WHOLE | change, other)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


texts = st.text(max_size=8).filter(lambda text: text not in ("", "__metadata__"))
inits = st.sampled_from(["zeros", "normal(std=0.02)", "he_normal(mode='fan_out')"])


@st.composite
def tensors(draw: st.DrawFn) -> list[Tensor]:
    names = draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    found = []
    while names:
        own = names[: draw(st.integers(1, 3))]
        names = names[len(own) :]
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
        regions = []
        for _ in range(draw(st.integers(0, 2))):
            offset = tuple(draw(st.integers(0, size)) for size in shape)
            sizes = tuple(draw(st.integers(0, size - at)) for size, at in zip(shape, offset, strict=True))
            regions.append(Region(offset, sizes, draw(inits)))
        found.append(
            Tensor(
                own[0],
                shape,
                draw(st.sampled_from(list(CODES))),
                draw(st.sampled_from(["parameter", "buffer"])),
                draw(st.text(max_size=5)),
                draw(st.just("") | inits),
                tuple(regions),
                tuple(own[1:]),
            )
        )
    return found


@settings(derandomize=True, deadline=None, max_examples=60)
@given(model=tensors())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, model: list[Tensor]) -> None:
    path = tmp_path_factory.mktemp("manifest") / "m.json"
    write_manifest(model, path)
    assert read_manifest(path) == model
    lines = path.read_text().splitlines()
    assert len(lines) == len(model)


def test_a_line_a_tensor_without_what_is_default(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write_manifest([Tensor("a", (2, 3), "float32"), Tensor("ü", (), "int64", "buffer", "Norm", aliases=("b",))], path)
    assert path.read_text() == (
        '[{"name": "a", "shape": [2, 3], "dtype": "float32"},\n'
        ' {"name": "\\u00fc", "shape": [], "dtype": "int64", "kind": "buffer", "module": "Norm", "aliases": ["b"]}]\n'
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ([], "must be a list of tensors, got none"),
        ([Tensor("a", (2,), "float32")] * 2, "lists 'a' twice"),
        ([Tensor("a", (2,), "float32", aliases=("a",))], "lists 'a' twice"),
        ([Tensor("", (2,), "float32")], "name must be a tensor's name"),
        ([Tensor("a", (2,), "complex64")], "dtype"),
        ([Tensor("a", (2,), "float32", "weight")], "kind must be"),
        ([Tensor("a", (2,), "float32", init="zeroes")], "did you mean 'zeros'"),
        ([Tensor("a", (2,), "float32", regions=(Region((1,), (2,), "zeros"),))], "inside of the tensor's shape"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(tmp_path: Path, model: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_manifest(model, tmp_path / "m.json")
    assert os.listdir(tmp_path) == []


def test_a_text_that_is_too_long_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_BYTES", 40)
    with pytest.raises(ValueError, match="at most, got 53"):
        write_manifest([Tensor("a", (2, 3), "float32")], tmp_path / "m.json")
    assert os.listdir(tmp_path) == []


def test_what_was_there_stays_where_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="dtype"):
        write_manifest([Tensor("a", (2,), "half")], path)
    assert path.read_text() == "old"
    write_manifest([Tensor("a", (2,), "float16")], path)
    assert read_manifest(path) == [Tensor("a", (2,), "float16")]
