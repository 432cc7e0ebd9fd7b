"""Every default configuration of transformers, from its name to a checkpoint: ``python -m bench.census FOLDER``.

For each type of models: is its manifest full, without a rule? If so, and if its file is small enough, is it written,
loaded by ``from_pretrained`` without a missing or unexpected key, and equal to `fastinit.fill` tensor by tensor? The
others' plans are laid out. One line a type goes to standard output, the counts come last. It takes most of an hour.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

import fastinit as fi
from fastinit.io.checkpoint import initialize, plan_shards, planned
from fastinit.io.manifests import Tensor, parsed
from fastinit.torch.architectures import of_transformers, recorded

SEED = 11


def filled(tensor: Tensor) -> Any:
    """Return a tensor by `fastinit.fill` alone."""
    whole = fi.array(tensor.shape, parsed(tensor.init), seed=SEED, name=tensor.name, dtype=tensor.dtype)
    for region in tensor.regions:
        inside: Any = tuple(slice(at, at + size) for at, size in zip(region.offset, region.shape, strict=True))
        part, init = whole[(..., *inside)], parsed(region.init)
        fi.fill(part, init, seed=SEED, name=tensor.name, global_shape=tensor.shape, global_offset=region.offset)
    return whole


def differences(tensors: list[Tensor], model: Any, folder: Path) -> list[str]:
    """Write a checkpoint, load it, and return what is not as it should be."""
    initialize(tensors, folder / "model.safetensors", [], seed=SEED, sync=False)
    model.config.save_pretrained(folder)
    loaded, info = type(model).from_pretrained(folder, output_loading_info=True, dtype="auto")
    found = [f"{kind}: {sorted(info[kind])[:3]}" for kind in ("missing_keys", "unexpected_keys") if info[kind]]
    state = loaded.state_dict()
    for tensor in tensors:
        for name in (tensor.name, *tensor.aliases):
            if name not in state:
                found.append(f"absent: {name}")
            elif not np.array_equal(state[name].double().numpy(), filled(tensor).astype(np.float64)):
                found.append(f"other values: {name}")
    return found


def look(kind: str, folder: Path, most: int) -> tuple[str, Any]:
    """Return what becomes of a type of models: a word for the count, and details."""
    try:
        build = of_transformers(kind)
        with torch.device("meta"):
            model = build()
    except Exception as error:
        return "not built by transformers", str(error).strip().splitlines()[:1]
    tensors = recorded(build).manifest()
    if without := [tensor.name for tensor in tensors if not tensor.init]:
        return "some tensors without an initializer", without[:5]
    if (size := sum(tensor.nbytes for tensor in tensors)) > most:
        plan = plan_shards(planned(tensors, []), folder / "plan")
        return "full manifest, planned", f"{size / 1e9:.1f} GB in {len(plan.files)} files"
    place = folder / kind
    place.mkdir(parents=True)
    try:
        wrong = differences(tensors, model, place)
    except Exception as error:
        wrong = [f"{type(error).__name__}: {str(error)[:200]}"]
    finally:
        shutil.rmtree(place)
    return (
        ("full manifest, loaded otherwise", wrong[:3]) if wrong else ("full manifest, loaded and equal", len(tensors))
    )


def main() -> None:
    """Go through all types."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=10**9, help="bytes of a file that is written")
    parser.add_argument("--only", nargs="*", help="types of models")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    began, counts = time.perf_counter(), Counter[str]()
    for kind in options.only or CONFIG_MAPPING_NAMES:
        word, details = look(kind, options.folder, options.most)
        counts[word] += 1
        print(json.dumps([kind, word, details]), flush=True)
    for word, count in counts.most_common():
        print(f"{count:4} {word}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
