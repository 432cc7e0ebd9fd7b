"""The package's recipes against the frameworks' own code: what transformers asks torch for, tensor by tensor."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastinit as fi
from fastinit.io.manifests import Tensor, read_manifest
from fastinit.io.rules import Assignment, Rule, assign, find, read_recipe, recipe_names

MANIFESTS = Path(__file__).parent / "manifests"
COMMON: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100
}  # fmt: skip
GROUPED = COMMON | {"num_key_value_heads": 2}
T5: dict[str, Any] = {"d_model": 64, "d_kv": 8, "d_ff": 96, "num_layers": 2, "num_heads": 4, "vocab_size": 100}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 5}
EXPERTS = {"num_experts": 4, "moe_intermediate_size": 32}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4, "first_k_dense_replace": 1, "n_routed_experts": 4, "moe_intermediate_size": 32,
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "initializer_range": 0.006,  # as published
}  # fmt: skip
WHISPER: dict[str, Any] = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "vocab_size": 100,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "pad_token_id": 7, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 3, "max_source_positions": 30, "max_target_positions": 20,
}  # fmt: skip


class Model(NamedTuple):
    """A small model: its recipe, its class in transformers, the arguments of its config."""

    recipe: str
    name: str
    options: dict[str, Any]


MODELS = {
    "bert": Model("bert", "BertForMaskedLM", COMMON),
    "convnext": Model("convnext", "ConvNextForImageClassification", STAGES),
    "convnext v2": Model("convnext", "ConvNextV2ForImageClassification", STAGES),
    "deepseek v2": Model("deepseek", "DeepseekV2ForCausalLM", COMMON | LATENT),
    "deepseek v3": Model("deepseek", "DeepseekV3ForCausalLM", COMMON | LATENT),
    "gpt2": Model("gpt2", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 100}),
    "llama": Model("llama", "LlamaForCausalLM", GROUPED),
    "mixtral": Model("mixtral", "MixtralForCausalLM", GROUPED | {"num_local_experts": 4}),
    "qwen2": Model("qwen", "Qwen2ForCausalLM", GROUPED),
    "qwen2, experts": Model("qwen", "Qwen2MoeForCausalLM", GROUPED | EXPERTS),
    "qwen3": Model("qwen", "Qwen3ForCausalLM", GROUPED),
    "qwen3, experts": Model("qwen", "Qwen3MoeForCausalLM", GROUPED | EXPERTS),
    "resnet": Model("resnet", "ResNetForImageClassification", STAGES | {"embedding_size": 8}),
    "t5": Model("t5", "T5ForConditionalGeneration", T5),
    "t5 v1.1": Model(
        "t5", "T5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    ),
    "vit": Model("vit", "ViTForImageClassification", COMMON | {"image_size": 32, "patch_size": 16, "num_labels": 5}),
    "whisper": Model("whisper", "WhisperForConditionalGeneration", WHISPER),
}
# Where a recipe is not transformers' own, as its comments say
OTHERWISE: dict[str, tuple[str, ...]] = {
    "bert": ("*.word_embeddings.weight",),  # the row of the padding token
    "whisper": ("*.embed_tokens.weight",),
    "vit": ("vit.embeddings.*_token", "*.position_embeddings", "*.projection.weight", "*_proj.weight", "*.fc?.weight",
            "classifier.weight"),  # truncated at two sigma, as in the paper
    "resnet": ("classifier.1.bias",),
}  # fmt: skip


class Draw(NamedTuple):
    """What one call of an initializer asks for: its distribution, or the values that are copied."""

    shape: tuple[int, ...]
    content: fi.Distribution | np.ndarray[Any, Any]


class Built(NamedTuple):
    """A model as transformers initializes it."""

    tensors: list[Tensor]
    draws: dict[str, list[Draw]]  # by tensor, in order
    values: dict[str, np.ndarray[Any, Any]]


def content_of(torch: Any, name: str, tensor: Any, arguments: dict[str, Any]) -> Any:
    """What a function of torch.nn.init makes of a tensor, by torch's own arithmetic."""
    if name.startswith("kaiming_"):
        a, mode, nonlinearity = (arguments[key] for key in ("a", "mode", "nonlinearity"))
        fan = torch.nn.init._calculate_correct_fan(tensor, mode)
        std = torch.nn.init.calculate_gain(nonlinearity, a) / math.sqrt(fan)
        return fi.Normal(0.0, std) if name == "kaiming_normal_" else fi.Uniform(-math.sqrt(3) * std, math.sqrt(3) * std)
    made: dict[str, Any] = {
        "zeros_": lambda: fi.Constant(0),
        "ones_": lambda: fi.Constant(1),
        "constant_": lambda val: fi.Constant(val),
        "normal_": lambda mean, std: fi.Normal(mean, std),
        "uniform_": lambda a, b: fi.Uniform(a, b),
        "trunc_normal_": lambda mean, std, a, b: fi.TruncatedNormal(mean, std, a, b),
        "copy_": lambda other: other.detach().numpy().copy(),
    }
    return made[name](**arguments)


@contextmanager
def recorded(torch: Any, initialization: Any) -> Iterator[dict[int, list[Draw]]]:
    """Record the calls of transformers' initializers, by the identity of the whole tensor."""
    found: dict[int, list[Draw]] = {}
    kept: list[Any] = []
    functions, copy = dict(initialization.TORCH_INIT_FUNCTIONS), initialization.copy_

    def wrapped(name: str, function: Any) -> Any:
        signature = inspect.signature(function)

        def call(*args: Any, **options: Any) -> Any:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            bound.arguments.pop("generator", None)
            tensor = bound.arguments.pop("tensor")
            draw = Draw(tuple(tensor.shape), content_of(torch, name, tensor, bound.arguments))
            whole = tensor if tensor._base is None else tensor._base
            kept.append(whole)  # so that no other object gets its identity
            found.setdefault(id(whole), []).append(draw)
            return function(*args, **options)

        return call

    for name, function in functions.items():
        initialization.TORCH_INIT_FUNCTIONS[name] = wrapped(name, function)
    initialization.copy_ = wrapped("copy_", copy)
    try:
        yield found
    finally:
        initialization.TORCH_INIT_FUNCTIONS.update(functions)
        initialization.copy_ = copy


@lru_cache
def built(name: str) -> Built:
    """Build a model on the CPU, and list what a checkpoint of it holds."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    transformers = pytest.importorskip("transformers", "5", exc_type=ImportError)
    kind = getattr(transformers, MODELS[name].name)
    torch.manual_seed(0)
    with recorded(torch, pytest.importorskip("transformers.initialization")) as calls:
        model = kind(kind.config_class(**MODELS[name].options))
    stored = model.state_dict()
    tensors: list[Tensor] = []
    draws: dict[str, list[Draw]] = {}
    values: dict[str, np.ndarray[Any, Any]] = {}
    seen: set[int] = set()
    for owner, module in model.named_modules():
        for kind_of, items in (("parameter", module.named_parameters), ("buffer", module.named_buffers)):
            for last, tensor in items(recurse=False):
                full = f"{owner}.{last}" if owner else last
                if full not in stored or id(tensor) in seen:
                    continue  # a buffer that is computed, or a tied name
                dtype = str(tensor.dtype).removeprefix("torch.")
                tensors.append(Tensor(full, tuple(tensor.shape), dtype, kind_of, type(module).__name__))
                draws[full] = calls.get(id(tensor), [])
                values[full] = tensor.detach().numpy().copy()
                seen.add(id(tensor))
    return Built(tensors, draws, values)


def wanted(draws: list[Draw], shape: tuple[int, ...]) -> tuple[Any, list[Draw]]:
    """The last content of the whole tensor, and of its parts thereafter."""
    whole = max(k for k, draw in enumerate(draws) if draw.shape == shape)
    return draws[whole].content, draws[whole + 1 :]


def same(ours: Any, theirs: Any) -> bool:
    """Distributions of one kind whose parameters agree."""
    return type(ours) is type(theirs) and all(
        math.isclose(value, getattr(theirs, name), rel_tol=1e-14) for name, value in vars(ours).items()
    )


def agrees(one: Assignment, draws: list[Draw]) -> bool:
    """Whether a tensor is what transformers makes of it."""
    content, parts = wanted(draws, one.tensor.shape)
    if parts or one.regions:
        return False
    if isinstance(content, np.ndarray):
        made = fi.array(one.tensor.shape, one.init, seed=0, name=0)
        return bool(np.allclose(made, content, rtol=0, atol=1e-4))
    ours = one.init.resolve(one.tensor.shape)
    return same(ours, content)


def differences(name: str, rules: list[Rule] | None = None) -> set[str]:
    """The tensors of a model that its recipe makes otherwise than transformers."""
    model = built(name)
    found, rest = find(model.tensors, rules or read_recipe(MODELS[name].recipe, model.tensors))
    assert [tensor.name for tensor in rest if tensor.kind == "parameter"] == []
    return {one.tensor.name for one in found if not agrees(one, model.draws[one.tensor.name])}


every_model = pytest.mark.parametrize("name", MODELS)


@every_model
def test_a_recipe_is_what_transformers_does(name: str) -> None:
    tensors = [tensor.name for tensor in built(name).tensors]
    globs = OTHERWISE.get(name, ())
    assert all(any(fnmatchcase(tensor, glob) for tensor in tensors) for glob in globs)
    assert differences(name) == {tensor for tensor in tensors if any(fnmatchcase(tensor, glob) for glob in globs)}


@every_model
def test_a_recipe_writes_every_tensor_of_a_checkpoint(name: str) -> None:
    tensors = built(name).tensors
    warnings: list[str] = []
    found = assign(tensors, read_recipe(MODELS[name].recipe, tensors), warnings.append)
    assert [one.tensor for one in found] == tensors
    assert not warnings


@every_model
def test_what_was_recorded_is_in_the_tensors(name: str) -> None:
    """The recorder's own control: constants exactly, standard deviations within six of their standard errors."""
    model = built(name)
    for tensor in model.tensors:
        content, parts = wanted(model.draws[tensor.name], tensor.shape)
        values = model.values[tensor.name]
        if isinstance(content, fi.Constant):
            assert (values == np.asarray(content.value, values.dtype)).all()
        elif not parts and not isinstance(content, np.ndarray) and values.size > 1000:
            assert abs(values.std() / content.std - 1) < 6 / math.sqrt(2 * values.size), tensor.name


@pytest.mark.parametrize("name", ["llama", "t5", "deepseek v3"])
def test_a_wrong_recipe_is_noticed(name: str) -> None:
    """Two percent of one std, or norms that are zero."""
    rules = read_recipe(MODELS[name].recipe, built(name).tensors)
    assert differences(name, rules) == set()
    last = rules[-1]
    changed = fi.normal(std=0.0204) if name != "t5" else fi.variance_scaling(1.02, distribution="normal")
    assert len(differences(name, [*rules[:-1], Rule(changed, last.match)])) > 5
    assert all("norm" in one for one in differences(name, [Rule(fi.zeros(), "*norm.weight"), *rules]))
    assert differences(name, [Rule(fi.zeros(), "*norm.weight"), *rules])


@pytest.mark.parametrize(
    ("recipe", "manifest", "apart"),
    [
        ("mixtral", "mixtral-8x7b", "block_sparse_moe.experts.{}.w{}.weight"),
        ("deepseek", "deepseek-v2-lite", "mlp.experts.{}.{}_proj.weight"),
    ],
)
def test_experts_apart_are_as_stacked_ones(recipe: str, manifest: str, apart: str) -> None:
    """As checkpoints name them: a tensor for each expert."""
    tensors = read_manifest(MANIFESTS / f"{manifest}.json")
    stacked = [tensor for tensor in tensors if ".experts." in tensor.name]
    assert len(stacked) > 10
    pieces = [
        Tensor(
            tensor.name.split("mlp.experts")[0] + apart.format(k, n), tensor.shape[1:], tensor.dtype, module="Linear"
        )
        for tensor in stacked
        for k, n in ((0, 1), (7, 2))
    ]
    pieces = list({piece.name: piece for piece in pieces}.values())
    rest = [tensor for tensor in tensors if ".experts." not in tensor.name]
    found = assign(rest + pieces, read_recipe(recipe, rest + pieces), lambda line: pytest.fail(str(line)))
    whole = assign(tensors, read_recipe(recipe, tensors))
    expected = {one.init for one in whole if ".experts." in one.tensor.name}
    assert {one.init for one in found if ".experts." in one.tensor.name} == expected
    assert len(expected) == 1


def test_every_recipe_is_compared() -> None:
    assert {model.recipe for model in MODELS.values()} == set(recipe_names())


def test_a_deviation_is_told_in_its_recipe() -> None:
    from importlib import resources

    words = {"bert": "padding", "whisper": "padding", "vit": "trunc_normal_", "resnet": "bias is zero"}
    for name in OTHERWISE:
        text = resources.files("fastinit.io.recipes").joinpath(f"{MODELS[name].recipe}.toml").read_text()
        comments = " ".join(re.findall(r"^# (.*)$", text, re.MULTILINE))
        assert words[name] in comments
