"""Whole models: manifests, recipes, and files that are complete or absent."""

from __future__ import annotations

import json
import os
import re
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
from safetensors import safe_open

import fastinit as fi
from fastinit.io import files, layout
from fastinit.io.checkpoint import initialize
from fastinit.io.files import complete_file
from fastinit.io.manifests import Tensor, read_manifest
from fastinit.io.rules import Rule, assign, read_recipe, recipe_names
from tests.helpers import MAIN, Done, environment, hear, invoke

MANIFESTS = Path(__file__).parent / "manifests"
MODELS = {
    "gpt2": "gpt2",
    "bert": "bert-base",
    "llama": "llama-3.1-8b",
    "vit": "vit-base",
    "resnet": "resnet-50",
    "t5": "t5-small",
    "whisper": "whisper-tiny",
    "mixtral": "mixtral-8x7b",
    "convnext": "convnext-tiny",
    "qwen": "qwen2.5-0.5b",
    "deepseek": "deepseek-v2-lite",
}
PARAMETERS = {  # in millions, as published
    "t5": 60.5,
    "whisper": 37.8,
    "mixtral": 46_703,
    "convnext": 28.6,
    "qwen": 494,
    "deepseek": 15_706,
}
SMALL = [
    Tensor("block.weight", (96, 64), "float32", module="Linear"),
    Tensor("block.bias", (96,), "float32", module="Linear"),
    Tensor("norm.weight", (64,), "float16", module="LayerNorm"),
    Tensor("norm.steps", (), "int64", "buffer", "LayerNorm"),
    Tensor("rotary.freq", (8,), "float32", "buffer", "Rotary"),
    Tensor("empty.weight", (0, 64), "float64", module="Linear"),
    Tensor("mask", (5,), "bool", module="Linear"),
]
RULES = [
    Rule(fi.he_normal(), "*.weight", "Linear"),
    Rule(fi.ones(), "*.weight"),
    Rule(fi.zeros(), "*.bias"),
    Rule(fi.constant(3), "*.steps", kind="buffer"),
    Rule(fi.ones(), "mask"),
]


def manifest(folder: Path, tensors: list[Tensor]) -> str:
    path = folder / "manifest.json"
    path.write_text(json.dumps([{**vars(tensor), "shape": list(tensor.shape)} for tensor in tensors]))
    return str(path)


def test_file_holds_what_array_gives(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    summary = initialize(SMALL, out, RULES, seed=7, note="a test")
    with safe_open(out, "np") as file:
        assert set(file.keys()) == {tensor.name for tensor in SMALL} - {"rotary.freq"}  # a buffer without a rule
        assert file.metadata() == {"format": "pt", "fastinit": "stream format 1, a test"}
        weight = fi.array((96, 64), fi.he_normal(), seed=7, name="block.weight")
        assert np.array_equal(file.get_tensor("block.weight"), weight)
        assert file.get_tensor("norm.steps") == 3
        assert file.get_tensor("norm.weight").dtype == np.float16
        assert file.get_tensor("empty.weight").shape == (0, 64)
        assert file.get_tensor("mask").all()
        size = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 - not a mapping
    assert (summary.tensors, summary.bytes) == (6, size)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_dtype_is_for_floating_tensors(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    initialize(SMALL, out, RULES, seed=7, dtype="bfloat16")
    with safe_open(out, "np") as file:
        weight = file.get_tensor("block.weight")
        assert weight.dtype == ml_dtypes.bfloat16
        assert np.array_equal(weight, fi.array((96, 64), fi.he_normal(), seed=7, name="block.weight", dtype="bfloat16"))
        assert file.get_tensor("norm.steps").dtype == np.int64


def test_values_do_not_depend_on_the_rest_of_the_model(tmp_path: Path) -> None:
    initialize(SMALL, tmp_path / "a.safetensors", RULES, seed=7)
    initialize(SMALL[:1], tmp_path / "b.safetensors", RULES, seed=7)
    with safe_open(tmp_path / "a.safetensors", "np") as a, safe_open(tmp_path / "b.safetensors", "np") as b:
        assert np.array_equal(a.get_tensor("block.weight"), b.get_tensor("block.weight"))


@pytest.mark.parametrize("recipe", MODELS)
def test_recipe_has_a_rule_for_every_parameter(recipe: str) -> None:
    tensors = read_manifest(MANIFESTS / f"{MODELS[recipe]}.json")
    pairs = assign(tensors, read_recipe(recipe, tensors))
    assert {tensor.name for tensor in tensors if tensor.kind == "parameter"} <= {pair.tensor.name for pair in pairs}
    for pair in pairs:
        pair.init.resolve(pair.tensor.shape)


@pytest.mark.parametrize("recipe", PARAMETERS)
def test_manifests_are_of_the_published_size(recipe: str) -> None:
    tensors = read_manifest(MANIFESTS / f"{MODELS[recipe]}.json")
    count = sum(tensor.nbytes // 4 for tensor in tensors if tensor.kind == "parameter")
    assert count / 1e6 == pytest.approx(PARAMETERS[recipe], rel=2e-3)


def test_recipes_are_all_tested() -> None:
    assert recipe_names() == sorted(MODELS)


@pytest.mark.parametrize(
    ("recipe", "name", "std"),
    [
        ("gpt2", "transformer.wte.weight", 0.02),
        ("gpt2", "transformer.h.3.mlp.c_proj.weight", 0.02 / 24**0.5),
        ("gpt2", "transformer.h.3.attn.c_attn.weight", 0.02),
        ("bert", "bert.encoder.layer.0.output.dense.weight", 0.02),
        ("llama", "lm_head.weight", 0.02),
        ("vit", "vit.embeddings.cls_token", 0.02 * 0.8796256610342398),
        ("vit", "vit.layers.0.attention.q_proj.weight", 0.02 * 0.8796256610342398),
        ("resnet", "resnet.embedder.embedder.convolution.weight", (2 / (64 * 49)) ** 0.5),
        ("resnet", "classifier.1.weight", (1 / 3 / 2048) ** 0.5),
        ("t5", "encoder.block.0.layer.0.SelfAttention.q.weight", (512 * 64) ** -0.5),
        ("t5", "decoder.block.5.layer.2.DenseReluDense.wo.weight", 2048**-0.5),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 512**-0.5),
        ("t5", "shared.weight", 1.0),
        ("whisper", "model.encoder.conv1.weight", 0.02),
        ("mixtral", "model.layers.0.mlp.experts.gate_up_proj", 0.02),
        ("convnext", "convnext.encoder.stages.0.layers.0.dwconv.weight", 0.02),
        ("qwen", "model.embed_tokens.weight", 0.02),
        ("deepseek", "model.layers.1.mlp.experts.down_proj", 0.006),
    ],
)
def test_recipe_gives_the_published_std(recipe: str, name: str, std: float) -> None:
    tensors = read_manifest(MANIFESTS / f"{MODELS[recipe]}.json")
    for tensor, init, *_ in assign(tensors, read_recipe(recipe, tensors)):
        if tensor.name == name:
            assert init.distribution(tensor.shape).std == pytest.approx(std, rel=1e-12)
            return
    raise AssertionError(f"{name} is not in the model")


@pytest.mark.parametrize(
    ("recipe", "pattern", "value"),
    [
        ("gpt2", r"ln_.*weight", 1),
        ("gpt2", r".*bias", 0),
        ("llama", r".*norm\.weight", 1),
        ("resnet", r".*running_var", 1),
        ("resnet", r".*(running_mean|num_batches_tracked)", 0),
        ("vit", r".*layernorm.*weight", 1),
        ("bert", r".*LayerNorm.weight", 1),
        ("t5", r".*layer_norm\.weight", 1),
        ("convnext", r".*layer_scale_parameter", 1e-6),
        ("convnext", r".*downsampling_layer\.0\.weight", 1),
        ("qwen", r".*_proj\.bias", 0),
        ("deepseek", r".*norm\.weight", 1),
    ],
)
def test_recipe_gives_constants(recipe: str, pattern: str, value: float) -> None:
    tensors = read_manifest(MANIFESTS / f"{MODELS[recipe]}.json")
    pairs = assign(tensors, read_recipe(recipe, tensors))
    distributions = [init.distribution(tensor.shape) for tensor, init, *_ in pairs if re.search(pattern, tensor.name)]
    assert distributions
    assert set(distributions) == {fi.Constant(value)}


def test_first_matching_rule_wins() -> None:
    rules = [Rule(fi.ones(), "a*"), Rule(fi.zeros(), "*", "Linear"), Rule(fi.normal())]
    tensors = [
        Tensor(name, (2,), "float32", module=module) for name, module in (("ab", "Linear"), ("b", "Linear"), ("c", ""))
    ]
    assert [pair.init for pair in assign(tensors, rules)] == [fi.ones(), fi.zeros(), fi.normal()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold"),
        ("rule = 3", "must hold"),
        ("[[rule]]\nmatch = '*'", "must have init"),
        ("[[rule]]\ninit = 'zeros'", "must have init, and match or module"),
        ("[[rule]]\nmatch = '*'\ninit = 'zeros'\nmach = 'x'", "rule 1 (line 1), line 4: did you mean 'match'"),
        ("[[rule]]\nmatch = 1\ninit = 'zeros'", "match must be a text, got 1"),
        ("[[rule]]\nmatch = '*'\ninit = 'zeroes'", "did you mean 'zeros'"),
        ("[[rule]]\nmatch = '*'\ninit = 'normal(std=1 / layers)'", "layers"),
        ("[count]\nlayers = 'absent'\n[[rule]]\nmatch = '*'\ninit = 'normal(std=1 / layers)'", "layers = 0"),
        ("[[rule]]\nmatch = '*'\ninit = 'normal(std=open(0))'", "not a literal"),
        ("[[rule", "recipe"),
    ],
)
def test_bad_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_recipe(path, SMALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "list"),
        ("[", "manifest"),
        ("[1]", "entry 0"),
        ('[{"name": "a", "shape": [2], "dtype": "complex64"}]', "dtype"),
        ('[{"name": "a", "shape": [2], "dtype": "half"}]', "did you mean 'float16'"),
        ('[{"name": "a", "shape": [-2], "dtype": "float32"}]', "shape"),
        ('[{"name": "a", "shape": [true], "dtype": "float32"}]', "shape"),
        ('[{"name": "__metadata__", "shape": [2], "dtype": "float32"}]', "name"),
        ('[{"name": "a", "shape": [2], "dtype": "float32", "kind": "weight"}]', "kind"),
        ('[{"name": "a", "shape": [], "dtype": "bool"}, {"name": "a", "shape": [], "dtype": "bool"}]', "twice"),
    ],
)
def test_bad_manifest(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_manifest(path)


def no_rule(folder: Path) -> list[Tensor]:
    return [*SMALL, Tensor("lonely", (3,), "float32")]


def integer_normal(folder: Path) -> list[Tensor]:
    return [*SMALL, Tensor("ids.weight", (3, 3), "int32", module="Linear")]


def no_fan(folder: Path) -> list[Tensor]:
    return [*SMALL, Tensor("thin.weight", (3,), "float32", module="Linear")]


def too_large(folder: Path) -> list[Tensor]:
    return [*SMALL, Tensor("huge.weight", (1 << 22, 1 << 24), "float32", module="Linear")]


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        (no_rule, ValueError, "lonely"),
        (integer_normal, TypeError, "ids.weight"),
        (no_fan, ValueError, "thin.weight"),
        (too_large, OSError, "cannot write"),
    ],
)
def test_failure_leaves_nothing(
    tmp_path: Path, tensors: Callable[[Path], list[Tensor]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        initialize(tensors(tmp_path), tmp_path / "model.safetensors", RULES, seed=0)
    assert os.listdir(tmp_path) == []


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    out.write_text("old")

    def fail(done: int, total: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        initialize(SMALL, out, RULES, seed=0, progress=fail)
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == [out.name]


def test_disk_full_is_an_error_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "reserve", full)
    with pytest.raises(OSError, match="No space left"), complete_file(tmp_path / "x", b"", 10):
        pass
    assert os.listdir(tmp_path) == []


def test_names_are_there_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'block\.weight' is there twice"):
        initialize([SMALL[0], SMALL[0]], tmp_path / "x", RULES, seed=0)
    assert os.listdir(tmp_path) == []


def test_a_header_that_the_package_refuses_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_HEADER", 1000)
    with pytest.raises(ValueError, match="header must have 1000 bytes at most"):
        initialize([Tensor("w" * 1000, (3, 3), "float32")], tmp_path / "x", [Rule(fi.zeros())], seed=0)
    assert os.listdir(tmp_path) == []


def test_progress_counts_the_bytes_of_the_model(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    summary = initialize(SMALL, tmp_path / "m.safetensors", RULES, seed=0, progress=lambda *pair: seen.append(pair))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (summary.bytes, summary.bytes)


def test_command_init(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    rule = "[[rule]]\nmatch = '*'\ninit = 'constant(0)'\n"
    recipe.write_text(f"{rule}{rule}kind = 'buffer'\n")
    out = tmp_path / "out.safetensors"
    arguments = ["init", manifest(tmp_path, SMALL), str(out), "--recipe", str(recipe), "--seed", "0"]
    code, text = invoke(*arguments)
    assert code == 0
    assert re.search(r"out.safetensors: 7 tensors, [\d.]+ k?B in \d+\.\d\d s, [\d.]+ [kMG]?B/s", text)
    with safe_open(out, "np") as file:
        assert len(list(file.keys())) == 7


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_command_fill_npy(tmp_path: Path, dtype: str) -> None:
    out = tmp_path / "out.npy"
    arguments = ["fill", "--shape", "40x30", "--init", "he_normal", "--seed", "1", "--name", "w", "--dtype", dtype]
    assert invoke(*arguments, out)[0] == 0
    loaded = np.load(out)
    assert loaded.dtype == dtype
    assert np.array_equal(loaded, fi.array((40, 30), fi.he_normal(), seed=1, name="w", dtype=dtype))


def test_command_fill_safetensors(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    arguments = ["fill", "--shape", "40x30", "--init", "normal(std=0.02)", "--seed", "1", "--name", "w"]
    assert invoke(*arguments, "--dtype", "bfloat16", out)[0] == 0
    with safe_open(out, "np") as file:
        expected = fi.array((40, 30), fi.normal(std=0.02), seed=1, name="w", dtype="bfloat16")
        assert np.array_equal(file.get_tensor("w"), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--shape": "4x-1"}, "--shape"),
        ({"--init": "he_norml"}, "did you mean 'he_normal'"),
        ({"--init": "he_normal", "--shape": "5"}, "two axes"),
        ({"--seed": "-1"}, "--seed"),
        ({"--dtype": "bfloat16"}, "no bfloat16"),
        ({"--dtype": "int8"}, "--dtype"),
        ({"--dtype": "bf16"}, "did you mean 'bfloat16'"),
        ({"out": "out.txt"}, "must end in"),
        ({"out": "absent/out.npy"}, "absent"),
    ],
)
def test_command_fill_errors(
    tmp_path: Path, change: dict[str, str], message: str, command: Callable[..., Done]
) -> None:
    options = {"--shape": "4x4", "--init": "normal", "--seed": "0", "--name": "w", "out": "out.npy", **change}
    out = options.pop("out")
    arguments = [text for pair in options.items() for text in pair]
    done = command("fill", *arguments, out, folder=tmp_path)
    assert done.code != 0
    assert message in done.errors
    assert "Traceback" not in done.errors
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_command_leaves_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    path = manifest(tmp_path, [Tensor("w", (1 << 14, 1 << 14), "float64"), *SMALL[:1]])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[[rule]]\nmatch = '*'\ninit = 'truncated_normal'\n")
    out = tmp_path / "out"
    out.mkdir()
    arguments = ["init", path, str(out / "m.safetensors"), "--recipe", str(recipe), "--seed", "0", "--threads", "1"]
    whole = [sys.executable, "-c", MAIN, *arguments]
    with subprocess.Popen(whole, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=hear) as process:
        while not os.listdir(out):  # until the partial file is there
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(number)
        message: Any = process.communicate(timeout=60)[1]
    assert process.returncode == code, message
    assert "Traceback" not in message
    assert os.listdir(out) == []
