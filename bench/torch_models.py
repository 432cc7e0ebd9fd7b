"""A model's initialization by torch and by `fastinit.torch`, and the fresh memory: ``python -m bench.torch_models``.

Llama-3.2-1B's configuration of transformers, in float32 and bfloat16. Contenders take turns in one process; figures are
medians. Each turn runs a contender twice and counts the second time, since a virtual machine may have to get memory
from its host first, which takes longer than anything here. Fresh memory is what limits a constructor, so the time to
write zeros into fresh pages is measured beside it, and the initialization of a model whose pages are there already.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers

import fastinit as fi
import fastinit.torch as ft

LLAMA = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
}


def built(**options: Any) -> Any:
    """Return the model, built where torch builds."""
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA | options))


def eager(options: dict[str, Any]) -> Any:
    """As everybody does."""
    return built(**options)


def accelerated(options: dict[str, Any]) -> Any:
    """The same constructor, its draws by fastinit."""
    with ft.accelerated(0):
        return built(**options)


def from_meta(options: dict[str, Any]) -> Any:
    """Built without memory, then initialized by its own code."""
    with torch.device("meta"):
        model = built(**options)
    ft.initialize_(model, seed=0)
    return model


def fresh(options: dict[str, Any]) -> Any:
    """Zeros in as much fresh memory, of pages as torch gets them, without a model."""
    with torch.device("meta"):
        tensors = [(parameter.numel(), parameter.dtype) for parameter in built(**options).parameters()]
    return [fi.fill(torch.empty(count, dtype=dtype), fi.zeros(), seed=0, name=0) for count, dtype in tensors]


def fresh_huge(options: dict[str, Any]) -> Any:
    """The same with huge pages, as fastinit asks for them."""
    with ft.accelerated(0):
        return fresh(options)


CONTENDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "eager constructor": eager,
    "accelerated()": accelerated,
    "initialize_ from meta": from_meta,
    "zeros in fresh memory": fresh,
    "zeros in fresh huge pages": fresh_huge,
}
AGAIN = "initialize_ in place"


def size_of(made: Any) -> int:
    """Return the bytes of a model or a list of tensors."""
    tensors = made if isinstance(made, list) else made.parameters()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def timed(run: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[dict[str, float], Any]:
    """Return how long a call took, its faults and its time in the kernel; and what it returned."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    made = run(*arguments, **options)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "system": after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
    }, made


def measured(dtype: torch.dtype, options: dict[str, Any], turns: int) -> dict[str, list[dict[str, float]]]:
    """Return each contender's figures in each turn."""
    found: dict[str, list[dict[str, float]]] = {}
    torch.set_default_dtype(dtype)
    for _ in range(turns):
        for name, contender in CONTENDERS.items():
            timed(contender, options)
            figures, made = timed(contender, options)
            figures["bytes"] = size_of(made)
            found.setdefault(name, []).append(figures)
            if contender is from_meta:
                again, _ = timed(ft.initialize_, made, seed=1)
                found.setdefault(AGAIN, []).append(again | {"bytes": figures["bytes"]})
            del made
    return found


def per_call(calls: int = 2000) -> dict[str, float]:
    """Return the microseconds of an in-place draw of four elements, by torch and in contexts."""
    module = torch.nn.Linear(2, 2, bias=False)
    found = {}
    contexts = {"torch": torch.no_grad(), "accelerated()": ft.accelerated(0), "drawing()": ft.drawing(module, seed=0)}
    for name, context in contexts.items():
        with context, torch.no_grad():
            spans = []
            for _ in range(7):
                began = time.perf_counter()
                for _ in range(calls):
                    module.weight.normal_()
                spans.append((time.perf_counter() - began) / calls * 1e6)
            found[name] = median(spans)
    return found


def main() -> None:
    """Measure, print the table, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a small model, to see that this runs")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    sizes = {"num_hidden_layers": 1, "vocab_size": 1000} if options.tiny else {}
    kept: dict[str, Any] = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }
    for dtype in (torch.float32, torch.bfloat16):
        found = kept[str(dtype).partition(".")[2]] = measured(dtype, sizes, options.turns)
        slow = median(one["seconds"] for one in found["eager constructor"])
        size = found["eager constructor"][0]["bytes"] / 1e9
        print(f"| {dtype}, {size:.2f} GB | s | GB/s | eager / this | page faults | s in the kernel |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, runs in found.items():
            seconds, system = (median(one[key] for one in runs) for key in ("seconds", "system"))
            speed, faults = runs[0]["bytes"] / seconds / 1e9, median(one["faults"] for one in runs)
            print(f"| {name} | {seconds:.2f} | {speed:.2f} | {slow / seconds:.1f} | {faults:,.0f} | {system:.2f} |")
        print()
    torch.set_default_dtype(torch.float32)
    calls = kept["microseconds per call"] = per_call()
    print("microseconds per call:", ", ".join(f"{name} {value:.1f}" for name, value in calls.items()))
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
