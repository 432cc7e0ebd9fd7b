"""Manifests: the tensors of a model, as a JSON list."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastinit.core.checks import MOST_ELEMENTS, check_choice
from fastinit.core.dtypes import dtype_of
from fastinit.core.text import printable, quoted
from fastinit.io.files import parse_json, read_text
from fastinit.io.tensor_files import CODES, METADATA, product

_BYTES = 1 << 24  # of a manifest


@dataclass(frozen=True)
class Region:
    """Part of a tensor that its model initializes apart, such as an embedding's padding row."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    init: str  # text of an initializer


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model, as its manifest lists it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str = "parameter"
    module: str = ""
    init: str = ""  # text of the initializer that the model itself would use, where it is known
    regions: tuple[Region, ...] = ()  # written after the whole
    aliases: tuple[str, ...] = ()  # further names of the same tensor: it is tied

    @property
    def nbytes(self) -> int:
        """Return its size in the file."""
        return math.prod(self.shape) * dtype_of(self.dtype).itemsize

    def __post_init__(self) -> None:
        if product((size for size in self.shape if size), MOST_ELEMENTS + 1) is None:
            raise ValueError(f"shape must have 2**52 elements at most, got {quoted(list(self.shape))}")


def read_manifest(path: str | Path) -> list[Tensor]:
    """Return the tensors of a manifest: a JSON list of objects with name, shape, dtype, kind and module.

    ``kind`` is ``"parameter"`` (the default) or ``"buffer"``; ``module`` the kind of module that owns the tensor.

    Raises
    ------
    ValueError
        If the file is anything else; the message names the entry.
    """
    place = f"manifest {printable(str(path))}"
    try:
        entries = parse_json(read_text(path, _BYTES))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{place} must be a list of tensors, got {quoted(entries)}")
    tensors = [_tensor(f"{place}, entry {number}", entry) for number, entry in enumerate(entries)]
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise ValueError(f"{place} lists {quoted(tensor.name)} twice")
        seen.add(tensor.name)
    return tensors


def _tensor(place: str, entry: Any) -> Tensor:
    """Return one entry of a manifest, checked."""
    if not isinstance(entry, dict) or not {"name", "shape", "dtype"} <= entry.keys():
        raise ValueError(f"{place} must be an object with name, shape and dtype, got {quoted(entry)}")
    name, shape, dtype = entry["name"], entry["shape"], entry["dtype"]
    kind, module = entry.get("kind", "parameter"), entry.get("module", "")
    if not isinstance(name, str) or name in ("", METADATA):
        raise ValueError(f"{place}: name must be a tensor's name, got {quoted(name)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{place} ({quoted(name)}): shape must be a list of sizes, got {quoted(shape)}")
    check_choice(f"{place} ({quoted(name)}): dtype", dtype, CODES)
    if kind not in ("parameter", "buffer") or not isinstance(module, str):
        raise ValueError(f"{place} ({quoted(name)}): kind must be 'parameter' or 'buffer' and module a string")
    try:
        return Tensor(name, tuple(shape), dtype, kind, module)
    except ValueError as error:
        raise ValueError(f"{place} ({quoted(name)}): {error}") from None
