"""`fastinit verify` of a checkpoint in several files, against its manifest's own initializers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import invoke as run

OWN: list[dict[str, Any]] = [
    {"name": "a", "shape": [100, 90], "dtype": "float32", "init": "normal(std=0.02)"},
    {"name": "b", "shape": [100, 90], "dtype": "float32", "init": "he_normal"},
    {"name": "c", "shape": [90], "dtype": "float32", "init": "ones"},
]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of three shards by a manifest's own initializers, which is beside it."""
    manifest, recipe, out = tmp_path / "m.json", tmp_path / "r.toml", tmp_path / "out"
    manifest.write_text(json.dumps(OWN))
    recipe.write_text("[[rule]]\nmatch = 'nothing'\ninit = 'zeros'\noptional = true\n")
    args = ["init", manifest, f"{out}/", "--recipe", recipe, "--seed", 0, "--quiet", "--max-shard-size", "36KB"]
    assert run(*args)[0] == 0
    assert len(list(out.glob("*.safetensors"))) == 3
    return out


def test_shards_are_one_checkpoint(shards: Path) -> None:
    manifest = shards.with_name("m.json")
    for place in (shards, shards / "model.safetensors.index.json"):
        code, text = run("verify", place, "--manifest", manifest)
        assert code == 0
        assert text.startswith("passed, matches the manifest's initializers: 3 verified, 0 skipped")
    for wrong, one in (("normal(std=0.021)", "a"), ("lecun_normal", "b"), ("zeros", "c")):
        entries = [entry | ({"init": wrong} if entry["name"] == one else {}) for entry in OWN]
        manifest.write_text(json.dumps(entries))
        code, text = run("verify", shards, "--manifest", manifest, "--json")
        found = json.loads(text)
        assert code == 1
        assert [name for name, tensor in found["tensors"].items() if not tensor["passed"]] == [one]
        assert found["against"] == "the manifest's initializers"
    recipe = shards.with_name("r.toml")
    recipe.write_text("[[rule]]\nmatch = 'c'\ninit = 'ones'\n")  # goes before the manifest's zeros
    code, text = run("verify", shards, "--manifest", manifest, "--recipe", recipe)
    assert text.startswith(f"passed, matches the manifest's initializers and recipe {recipe}: 3 verified")
    assert run("verify", shards, "--init", "ones")[1].startswith("REJECTED, compared with --init ones: 3 verified")


def test_shards_with_equal_streams_are_rejected(shards: Path, tmp_path: Path) -> None:
    """Tensors are compared across files."""
    first, second = (shards / f"model-0000{k}-of-00003.safetensors" for k in (1, 2))
    second.write_bytes(first.read_bytes().replace(b'"a"', b'"b"'))
    manifest = shards.with_name("m.json")
    manifest.write_text(
        json.dumps([entry | ({"init": OWN[0]["init"]} if k == 1 else {}) for k, entry in enumerate(OWN)])
    )
    code, text = run("verify", shards, "--manifest", manifest)
    assert code == 1
    assert "are made of the same stream" in text


def test_tensors_of_missing_files_are_errors(shards: Path) -> None:
    manifest, index = shards.with_name("m.json"), shards / "model.safetensors.index.json"
    first, second = (shards / f"model-0000{k}-of-00003.safetensors" for k in (1, 2))
    content = second.read_bytes()
    second.unlink()
    with pytest.raises(FileNotFoundError, match=r"names files that are missing, tensors in them 1: 'model-00002-of"):
        run("verify", shards, "--manifest", manifest)
    second.write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match=r"00002-of-00003.safetensors has tensors that another shard has, too: 'a'"):
        run("verify", shards, "--manifest", manifest)
    second.write_bytes(content.replace(b'"b"', b'"d"'))
    with pytest.raises(ValueError, match=r"00002-of-00003.safetensors lacks tensors that the index says it has: 'b'"):
        run("verify", shards, "--manifest", manifest)
    second.write_bytes(content)
    names = json.loads(index.read_text())
    del names["weight_map"]["b"]
    index.write_text(json.dumps(names))
    with pytest.raises(ValueError, match=r"tensor 'b' of .* that of .* is absent"):
        run("verify", shards, "--manifest", manifest)
