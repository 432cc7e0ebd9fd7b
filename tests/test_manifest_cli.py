"""``fastinit manifest``: from a framework's description of a model to its checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'fastinit-weights[torch]'")
import torch
import torch.nn as nn

import fastinit.torch as ft
from fastinit.io.manifests import read_manifest
from fastinit.io.tensor_files import open_tensors
from tests.helpers import Done

Command = Callable[..., Done]

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


class Scaled(nn.Linear):
    """A module with a number that only its constructor knows, and a table that it computes."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("places", torch.empty(4))

    def reset_parameters(self) -> None:
        """Draw, and count."""
        super().reset_parameters()
        if hasattr(self, "places"):
            self.places.copy_(torch.arange(4.0) / 2)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "config.json"


def test_a_configuration_becomes_a_checkpoint_that_loads(config: Path, tmp_path: Path, command: Command) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    done = command("manifest", "m.json", "--transformers", config, folder=tmp_path)
    assert (done.code, done.out) == (0, "m.json: 20 tensors, 43.65 kB, initializers of the model's own code\n"), done
    (embedding,) = [one for one in read_manifest(tmp_path / "m.json") if one.regions]
    assert (embedding.aliases, embedding.init) == (("lm_head.weight",), "normal(std=0.02)")
    done = command("init", "m.json", f"{tmp_path}/", "--seed", 7, folder=tmp_path)
    assert done.code == 0, done
    loaded, info = transformers.LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(loaded.config).to(torch.bfloat16)
    ft.initialize_(model, seed=7)
    for (name, a), (_, b) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert not loaded.lm_head.weight[3].any()


def test_any_code_and_what_it_does_not_draw(tmp_path: Path, command: Command) -> None:
    where = ("--module", f"{__name__}:Scaled")
    done = command("manifest", "m.json", *where, folder=tmp_path)
    assert done.code == 1
    assert done.errors.startswith(
        "fastinit: 1 of 4 tensors are not drawn by the model's own code: scale (nothing wrote it); "
    )
    assert not (tmp_path / "m.json").exists()
    for missing, wanted in (("zeros", "zeros()"), ("ones", "ones()"), ("eager", "table(values='2.5')")):
        assert command("manifest", "m.json", *where, "--missing", missing, folder=tmp_path).code == 0
        found = {one.name: one.init for one in read_manifest(tmp_path / "m.json")}
        assert (found["scale"], found["places"]) == (wanted, "table(values='0.0 0.5 1.0 1.5')")
    assert command("init", "m.json", "m.safetensors", "--seed", 1, folder=tmp_path).code == 0
    arrays, _ = open_tensors(tmp_path / "m.safetensors")
    eager = Scaled()
    ft.initialize_(eager, seed=1, strict=False)
    for name, tensor in eager.state_dict().items():
        assert np.array_equal(arrays[name], tensor.numpy()), name


def test_a_recipe_may_say_what_code_does_not(tmp_path: Path, command: Command) -> None:
    (tmp_path / "r.toml").write_text('[[rule]]\nmatch = "scale"\ninit = "constant(4)"\n')
    where = ("--module", f"{__name__}:Scaled", "--recipe", "r.toml")
    assert command("manifest", "m.json", *where, folder=tmp_path).code == 0
    assert command("init", "m.json", "m.safetensors", "--recipe", "r.toml", "--seed", 1, folder=tmp_path).code == 0
    assert open_tensors(tmp_path / "m.safetensors")[0]["scale"] == 4
    done = command("init", "m.json", "m.safetensors", "--recipe", "r.toml", "--seed", 1, folder=tmp_path)
    first, second, closing = done.out.splitlines()
    assert first == "rule 1 (match = 'scale'): 1 tensor"
    assert second == "the manifest's own initializers: 3 tensors"
    assert closing.startswith("m.safetensors: 4 tensors")
    done = command("init", "m.json", "m.safetensors", "--seed", 1, folder=tmp_path)
    assert done.code == 1
    assert "'scale'" in done.errors


class Large(nn.Module):
    """More values that nothing draws than a manifest holds."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(300, 300))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of --transformers, --timm and --module"),
        (("--module", "a:b", "--timm", "c"), "give one of --transformers, --timm and --module"),
        (
            ("--module", "torch.nn:Linearr"),
            "--module must be importable as package.module:name, got 'torch.nn:Linearr'",
        ),
        (("--module", "no.such.package:f"), "--module must be importable as package.module:name"),
        (("--module", "math:pi"), "--module must name a function or a class, got 'math:pi'"),
        (("--module", f"{__name__}:Scaled", "--class", "X"), "--class goes with --transformers, got --class 'X'"),
        (("--module", f"{__name__}:Large", "--missing", "eager"), "--missing eager takes at most 65536 values"),
        (("--transformers", "lama"), "--transformers: did you mean 'llama'? It must be a config.json"),
        (("--transformers", "llama", "--class", "Llama"), "--class must be a class of transformers, such as"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path, command: Command) -> None:
    if "--transformers" in arguments:
        pytest.importorskip("transformers", reason="needs transformers")
    done = command("manifest", "m.json", *arguments, folder=tmp_path)
    assert done.code == 1
    assert done.errors.startswith(f"fastinit: {message}"), done.errors
    assert done.errors.count("\n") == 1
    assert not (tmp_path / "m.json").exists()


def test_without_torch_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Command) -> None:
    monkeypatch.setitem(sys.modules, "fastinit.torch", None)
    done = command("manifest", "m.json", "--module", "a:b", folder=tmp_path)
    assert done.code == 1
    assert done.errors.startswith("fastinit: fastinit manifest needs torch: pip install fastinit-weights[torch]")


def test_a_table_of_a_part_is_none_of_the_whole(tmp_path: Path) -> None:
    """As an initializer it would be asked for all of the tensor's values, and refuse."""

    class Half(nn.Embedding):
        def reset_parameters(self) -> None:
            super().reset_parameters()
            with torch.no_grad():
                self.weight[1:3].copy_(torch.arange(8.0).reshape(2, 4))

    with torch.device("meta"):
        module = Half(5, 4)
    report = ft.record(module)
    (found,) = report.manifest()
    assert (found.init, found.regions, report.computed) == ("", (), ("weight",))


def test_values_of_random_numbers_are_no_table() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dt, self.a = nn.Parameter(torch.empty(5)), nn.Parameter(torch.empty(5))

        def reset_parameters(self) -> None:
            with torch.no_grad():
                self.dt.copy_(torch.exp(torch.rand(5) * 3).clamp(min=1e-4))
                self.a.copy_(torch.log(torch.arange(1, 6)))

    with torch.device("meta"):
        module = Steps()
    found: dict[str, Any] = {one.name: one.init for one in ft.record(module).manifest()}
    assert found["dt"] == ""
    assert found["a"].startswith("table(values='0.0 0.693147")
