"""Manifests: the tensors of a model, as a JSON list."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fastinit.core.checks import MOST_ELEMENTS, check_choice
from fastinit.core.dtypes import dtype_of
from fastinit.core.text import printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.parsing import parse
from fastinit.io.files import complete_file, parse_json, read_text
from fastinit.io.tensor_files import CODES, METADATA, product

_BYTES = 1 << 24  # of a manifest
_NEEDED = ("name", "shape", "dtype")
_MORE = {"kind": "parameter", "module": "", "init": ""}  # further texts, and what they are where they are not given


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


parsed = lru_cache(maxsize=4096)(parse)  # a manifest repeats few texts many times


def read_manifest(path: str | Path) -> list[Tensor]:
    """Return the tensors of a manifest: a JSON list of objects with name, shape and dtype.

    Further keys are ``kind``, ``"parameter"`` (the default) or ``"buffer"``; ``module``, the kind of module that owns
    the tensor; ``init``, the text of the initializer that the model itself would use; ``regions``, parts of the tensor
    that are initialized apart, each with ``offset``, ``shape`` and ``init``; ``aliases``, further names of the tensor.

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
    _check_unique(place, tensors)
    return tensors


def write_manifest(tensors: Sequence[Tensor], path: str | Path) -> None:
    """Write a manifest that `read_manifest` reads back: one tensor a line, without what has its default.

    The file is complete or absent: see `complete_file`.

    Raises
    ------
    ValueError
        If there is no tensor, a name is there twice, a tensor is not one that a manifest may hold, or the text is too
        long for one.
    OSError
        If the file cannot be written.
    """
    place = f"manifest {printable(str(path))}"
    entries = [_entry(tensor) for tensor in tensors]
    if not entries:
        raise ValueError(f"{place} must be a list of tensors, got none")
    for number, entry in enumerate(entries):
        _tensor(f"{place}, entry {number}", entry)
    _check_unique(place, tensors)
    text = ("[" + ",\n ".join(map(json.dumps, entries)) + "]\n").encode()  # escaped: every name is ASCII there
    if len(text) > _BYTES:
        raise ValueError(f"{place} must be of {_BYTES} bytes at most, got {len(text)}")
    with complete_file(path, b"", len(text)) as data:
        data[:] = np.frombuffer(text, np.uint8)


def _entry(tensor: Tensor) -> dict[str, Any]:
    """Return a tensor's entry, in the types of JSON."""
    content: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}
    content |= {key: getattr(tensor, key) for key in _MORE}
    content["regions"] = [
        {"offset": list(region.offset), "shape": list(region.shape), "init": region.init} for region in tensor.regions
    ]
    content["aliases"] = list(tensor.aliases)
    return {key: value for key, value in content.items() if key in _NEEDED or value not in ("", [], _MORE.get(key))}


def _check_unique(place: str, tensors: Iterable[Tensor]) -> None:
    """Refuse a name that two tensors have, or one tensor twice."""
    seen: set[str] = set()
    for tensor in tensors:
        for name in (tensor.name, *tensor.aliases):
            if name in seen:
                raise ValueError(f"{place} lists {quoted(name)} twice")
            seen.add(name)


def _tensor(place: str, entry: Any) -> Tensor:
    """Return one entry of a manifest, checked."""
    if not isinstance(entry, dict) or not entry.keys() >= set(_NEEDED):
        raise ValueError(f"{place} must be an object with name, shape and dtype, got {quoted(entry)}")
    name, dtype = entry["name"], entry["dtype"]
    kind, module, init = (entry.get(key, default) for key, default in _MORE.items())
    if not _is_name(name):
        raise ValueError(f"{place}: name must be a tensor's name, got {quoted(name)}")
    place += f" ({quoted(name)})"
    shape = _sizes(f"{place}: shape", entry["shape"])
    check_choice(f"{place}: dtype", dtype, CODES)
    if kind not in ("parameter", "buffer") or not isinstance(module, str):
        raise ValueError(f"{place}: kind must be 'parameter' or 'buffer' and module a string")
    if init != "":
        _check_init(place, init)
    regions = tuple(
        _region(f"{place}, region {number}", region, shape)
        for number, region in enumerate(_listed(f"{place}: regions", entry.get("regions", [])))
    )
    aliases = _listed(f"{place}: aliases", entry.get("aliases", []))
    for alias in aliases:
        if not _is_name(alias):
            raise ValueError(f"{place}: aliases must be names of the tensor, got {quoted(alias)}")
    try:
        return Tensor(name, shape, dtype, kind, module, init, regions, tuple(aliases))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _region(place: str, region: Any, whole: tuple[int, ...]) -> Region:
    """Return one region of a tensor of this shape, checked."""
    if not isinstance(region, dict) or region.keys() != {"offset", "shape", "init"}:
        raise ValueError(f"{place} must be an object with offset, shape and init, got {quoted(region)}")
    offset, shape = (_sizes(f"{place}: {key}", region[key]) for key in ("offset", "shape"))
    _check_init(place, region["init"])
    if not len(offset) == len(shape) == len(whole) or any(
        at + size > limit for at, size, limit in zip(offset, shape, whole, strict=True)
    ):
        raise ValueError(
            f"{place} must lie inside of the tensor's shape {quoted(list(whole))}, got offset {quoted(list(offset))} "
            f"and shape {quoted(list(shape))}"
        )
    return Region(offset, shape, region["init"])


def _check_init(place: str, text: Any) -> Initializer:
    """Return the initializer of a text; an error names the place."""
    try:
        return parsed(text) if isinstance(text, str) else parse(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: init: {error}") from None


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", METADATA)


def _listed(place: str, values: Any) -> list[Any]:
    """Return the list that a value is."""
    if not isinstance(values, list):
        raise ValueError(f"{place} must be a list, got {quoted(values)}")
    return values


def _sizes(place: str, sizes: Any) -> tuple[int, ...]:
    """Return sizes or an offset that a value lists."""
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(f"{place} must be a list of sizes, got {quoted(sizes)}")
    return tuple(sizes)
