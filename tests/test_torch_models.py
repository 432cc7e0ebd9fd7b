"""Published models, from the meta device by their own code: every value is `fastinit.fill`'s, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'fastinit-weights[torch]'")
import torch

import fastinit as fi
import fastinit.torch as ft
from tests.test_torch_modules import check, generator_left_alone, nan_in_fresh_memory, on_meta

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 101,
}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}


def transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs transformers")


def llama(**options: Any) -> Any:
    given = SMALL | ENDS | {"num_key_value_heads": 2} | options
    return transformers().LlamaForCausalLM(transformers().LlamaConfig(**given))


def gpt2() -> Any:
    config = transformers().GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=101, **ENDS)
    return transformers().GPT2LMHeadModel(config)


def bert() -> Any:
    return transformers().BertForMaskedLM(transformers().BertConfig(**SMALL))


def vit() -> Any:
    given = SMALL | {"image_size": 32, "patch_size": 8}
    return transformers().ViTForImageClassification(transformers().ViTConfig(**given))


def mixtral() -> Any:
    given = SMALL | ENDS | {"num_key_value_heads": 2, "num_local_experts": 4}
    return transformers().MixtralForCausalLM(transformers().MixtralConfig(**given))


def t5() -> Any:
    config = transformers().T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=101)
    return transformers().T5ForConditionalGeneration(config)


def whisper() -> Any:
    sizes = {f"{one}_{name}": size for one in ("encoder", "decoder") for name, size in
             (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))}  # fmt: skip
    given = sizes | ENDS | {"d_model": 32, "vocab_size": 101, "num_mel_bins": 8, "pad_token_id": 3}
    config = transformers().WhisperConfig(decoder_start_token_id=1, **given)
    return transformers().WhisperForConditionalGeneration(config)


def resnet() -> Any:
    config = transformers().ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    return transformers().ResNetForImageClassification(config)


def timm_vit() -> Any:
    timm = pytest.importorskip("timm", reason="needs timm and torchvision", exc_type=ImportError)
    return timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=10)


MODELS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {  # and what is computed by torch
    "llama": (lambda: llama(pad_token_id=3), ("inv_freq", "original_inv_freq")),
    "llama, tied": (lambda: llama(tie_word_embeddings=True), ("inv_freq", "original_inv_freq")),
    "gpt2": (gpt2, ()),
    "bert, tied": (bert, ("position_ids",)),
    "vit": (vit, ()),
    "mixtral": (mixtral, ("inv_freq", "original_inv_freq")),
    "t5": (t5, ()),
    "whisper": (whisper, ("weight",)),
    "resnet": (resnet, ()),
    "timm's vit": (timm_vit, ()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_models_from_meta(name: str, dtype: torch.dtype) -> None:
    make, computed = MODELS[name]
    model = on_meta(lambda: make().to(dtype))
    with generator_left_alone(), nan_in_fresh_memory():
        report = ft.initialize_(model, seed=5)
    check(model, report)
    assert tuple(one.rpartition(".")[2] for one in report.computed) == computed


def test_ties_and_padding_rows_are_those_of_eager_construction() -> None:
    """The decoder of BERT would write its embedding's padding row: eager models are tied only after that."""
    model, eager = on_meta(bert), bert()
    ft.initialize_(model, seed=5)
    for one in (model, eager):
        embedding = one.bert.embeddings.word_embeddings.weight
        assert one.cls.predictions.decoder.weight is embedding
        assert one.cls.predictions.decoder.bias is one.cls.predictions.bias
        assert not embedding[0].any()
        assert embedding[1:].all()


def test_eager_constructors_accelerated() -> None:
    """What no argument reaches: `LlamaForCausalLM(config)` itself."""
    found = []
    for threads in (1, 2):
        with ft.accelerated(9, threads=threads):
            found.append(llama(pad_token_id=3))
    for (name, a), (_, b) in zip(found[0].named_parameters(), found[1].named_parameters(), strict=True):
        assert torch.equal(a, b), name
    weight = found[0].model.layers[0].mlp.up_proj.weight
    assert fi.verify(weight, fi.normal(std=0.02)).passed
    assert not found[0].model.embed_tokens.weight[3].any()


@pytest.mark.parametrize("name", MODELS)
def test_a_recorded_model_is_the_initialized_one(name: str) -> None:
    """Without memory: names, shapes, ties and initializers are those that `initialize_` reports."""
    model = on_meta(MODELS[name][0])
    recorded = ft.record(model)
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    report = ft.initialize_(model, seed=5)
    for key, one in recorded.tensors.items():
        if one.init is not None and one.init.factory == "table":  # values that are copied
            assert report.tensors[key].computed == ("copy_",)
            values = fi.array(one.shape, one.init, seed=0, name=0, dtype=one.dtype)
            assert np.array_equal(values, model.get_buffer(key) if "buffer" in one.kind else model.get_parameter(key))
        else:
            assert one == report.tensors[key]
    assert not recorded.problems
    listed = recorded.manifest()
    stored = {key: tensor.data_ptr() for key, tensor in model.state_dict().items()}
    assert {key for one in listed for key in (one.name, *one.aliases)} == set(stored)
    assert len(listed) == len(set(stored.values()))
    assert all(one.init for one in listed)
