"""Models by their architecture alone, as `record` takes them: on the meta device, of transformers, timm or any code."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastinit.core.checks import suggestion
from fastinit.core.text import quoted, size_text
from fastinit.initializers.base import Initializer
from fastinit.initializers.elementwise import ones, zeros
from fastinit.initializers.tables import MOST_VALUES
from fastinit.io.manifests import Tensor
from fastinit.torch.initialization import accelerated, record
from fastinit.torch.report import InitializationReport
from fastinit.torch.tables import table_of_tensor

Build = Callable[[], nn.Module]

_EAGER = 8 << 30  # bytes of a model that is built for its values


def of_transformers(config: str, name: str | None = None) -> Build:
    """Return what builds a model of transformers.

    Parameters
    ----------
    config
        A ``config.json`` or the folder that has one, or a type of models such as ``"llama"``, for its default.
    name
        The model's class; by default the one that the configuration names, or else the type's for pretraining, for
        causal language models, or without a head. Nothing is downloaded.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    known = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES
    if Path(config).exists():
        found = transformers.AutoConfig.from_pretrained(config)
    elif config in known:
        found = transformers.AutoConfig.for_model(config)
    else:
        near = suggestion(config, known)
        raise ValueError(f"--transformers: {near}It must be a config.json, its folder or a type, got {quoted(config)}")
    choices = [*(getattr(found, "architectures", None) or [])]
    for kind in ("PRETRAINING", "CAUSAL_LM", ""):
        mapping = getattr(auto, f"MODEL{'_FOR_' * bool(kind)}{kind}_MAPPING_NAMES")
        choices += _listed(mapping.get(found.model_type))
    wanted = name or next(iter(choices), None)
    if wanted is None or not hasattr(transformers, wanted):
        raise ValueError(f"--class must be a class of transformers, such as {choices[:3]}, got {quoted(wanted)}")
    dtype = getattr(found, "dtype", None)
    return lambda: _cast(getattr(transformers, wanted)(found), dtype)


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _cast(model: nn.Module, dtype: Any) -> nn.Module:
    return model if dtype is None else model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)


def of_timm(name: str) -> Build:
    """Return what builds a model of timm, without its pretrained weights."""
    import timm

    if name not in timm.list_models():
        near = suggestion(name, timm.list_models())
        raise ValueError(f"--timm: {near}It must be a model's name, got {quoted(name)}")
    return lambda: timm.create_model(name)


def of_callable(text: str) -> Build:
    """Return what builds a model by any code: a function or class without arguments, as ``package.module:name``."""
    path, _, name = text.partition(":")
    try:
        found: Any = importlib.import_module(path)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--module must be importable as package.module:name, got {quoted(text)}: {error}") from None
    if not callable(found):
        raise ValueError(f"--module must name a function or a class, got {quoted(text)}")
    return lambda: found()


def recorded(build: Build) -> InitializationReport:
    """Return what a model's own code initializes, without memory."""
    with torch.device("meta"):
        model = build()
    return record(model.to("meta"))  # what its constructor made elsewhere, too


def completed(tensors: Sequence[Tensor], missing: str, build: Build) -> list[Tensor]:
    """Return a manifest with an initializer for each tensor.

    Parameters
    ----------
    tensors
        Of which some have none.
    missing
        What those get: ``"zeros"``, ``"ones"``, or ``"eager"``, their values in a model that is built for once.
    build
        Builds it.

    Raises
    ------
    ValueError
        If values of the eager model are too many, or not all finite; if it is too large to build.
    """
    constants = {"zeros": zeros(), "ones": ones()}
    eager: dict[str, torch.Tensor] = {}
    if missing == "eager":
        for tensor in tensors:
            if math.prod(tensor.shape) > MOST_VALUES:
                raise ValueError(
                    f"--missing eager takes at most {MOST_VALUES} values of a tensor, got {quoted(tensor.name)} of "
                    f"shape {quoted(list(tensor.shape))}: give it a recipe's rule"
                )
        with torch.device("meta"):
            size = sum(one.numel() * one.element_size() for one in build().parameters())
        if size > _EAGER:
            raise ValueError(
                f"--missing eager builds the model, of at most {size_text(_EAGER)}, got {size_text(size)}: give a "
                "smaller configuration, or a recipe's rules"
            )
        with accelerated(0):
            eager = build().state_dict()

    def init_of(tensor: Tensor) -> Initializer:
        found = constants.get(missing) or table_of_tensor(eager[tensor.name])
        if found is None:
            raise ValueError(f"tensor {quoted(tensor.name)} must have finite real values, and has not: give it a rule")
        return found

    return [one if one.init else replace(one, init=str(init_of(one)), regions=()) for one in tensors]
