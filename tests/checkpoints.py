"""A small model of many dtypes, and its checkpoint in shards, for several test files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastinit as fi
from fastinit.io.checkpoint import plan_shards, planned, write_shards
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule
from fastinit.io.values import Values

SMALL = [
    Tensor("embed.weight", (50, 64), "float32", module="Embedding"),
    Tensor("blocks.1.up.weight", (64, 96), "bfloat16", module="Linear"),
    Tensor("blocks.0.up.weight", (64, 96), "bfloat16", module="Linear"),
    Tensor("blocks.0.up.bias", (96,), "float64", module="Linear"),
    Tensor("größe.weight", (8, 7), "float32", module="Linear"),
    Tensor("blocks.0.steps", (), "int64", "buffer", "Norm"),
    Tensor("mask", (5,), "bool", module="Linear"),
    Tensor("head.weight", (64, 50), "float16", module="Linear"),
]
RULES = [
    Rule(fi.he_normal(), "*.weight", number=1),
    Rule(fi.zeros(), "*.bias", number=2),
    Rule(fi.constant(1), "mask", number=3),
    Rule(fi.constant(1), "*.steps", kind="buffer", number=4),
]
SEED = 7


def expected(tensor: Tensor) -> Any:
    """Return a tensor's values."""
    init: Any = next(rule.init for rule in RULES if rule.matches(tensor))
    return fi.array(tensor.shape, init, seed=SEED, name=tensor.name, dtype=tensor.dtype)


def write(
    folder: Path,
    *,
    tensors: list[Tensor] = SMALL,
    rules: list[Rule] = RULES,
    most: int = 10_000,
    seed: int = SEED,
    **options: Any,
) -> Any:
    """Write shards; the first options are the plan's, the rest those of the writing."""
    plan = {name: options.pop(name) for name in ("rank", "ranks") if name in options}
    return write_shards(plan_shards(planned(tensors, rules), folder, most=most, **plan), Values(seed), **options)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what tells that a file was replaced."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("model*")}
