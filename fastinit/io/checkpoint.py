"""A whole model from its manifest: which initializer each tensor gets, and the file that it goes straight into."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinit.core.keys import STREAM_FORMAT
from fastinit.core.text import printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.parsing import parse
from fastinit.io.files import complete_file, parse_json, read_text
from fastinit.io.tensor_files import CODES, MAX_HEADER, METADATA, product
from fastinit.sampling.filling import FLOATS, dtype_of, fill

_ORDER = list(CODES)
_MANIFEST, _RECIPE, _LINE = 1 << 24, 1 << 17, 500  # bytes of a manifest and a recipe, characters of a recipe's line
_ELEMENTS = 1 << 52  # of a tensor


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model, as its manifest lists it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str = "parameter"
    module: str = ""

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * dtype_of(self.dtype).itemsize

    def __post_init__(self) -> None:
        if product((size for size in self.shape if size), _ELEMENTS + 1) is None:
            raise ValueError(f"shape must have 2**52 elements at most, got {quoted(list(self.shape))}")


@dataclass(frozen=True)
class Rule:
    """What the tensors get whose name and whose module's kind match these globs."""

    init: Initializer
    match: str = "*"
    module: str = "*"

    def matches(self, tensor: Tensor) -> bool:
        """Whether this rule is for the tensor."""
        return fnmatchcase(tensor.name, self.match) and fnmatchcase(tensor.module, self.module)


class Summary(NamedTuple):
    """What was written."""

    tensors: int
    bytes: int
    seconds: float


def read_manifest(path: str | Path) -> list[Tensor]:
    """The tensors of a manifest: a JSON list of objects with name, shape, dtype, kind and module.

    ``kind`` is ``"parameter"`` (the default) or ``"buffer"``; ``module`` the kind of module that owns the tensor.

    Raises
    ------
    ValueError
        If the file is not such a list; the message names the entry.
    """
    place = f"manifest {printable(str(path))}"
    try:
        entries = parse_json(read_text(path, _MANIFEST))
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
    """One entry of a manifest, checked."""
    if not isinstance(entry, dict) or not {"name", "shape", "dtype"} <= entry.keys():
        raise ValueError(f"{place} must be an object with name, shape and dtype, got {quoted(entry)}")
    name, shape, dtype = entry["name"], entry["shape"], entry["dtype"]
    kind, module = entry.get("kind", "parameter"), entry.get("module", "")
    if not isinstance(name, str) or name in ("", METADATA):
        raise ValueError(f"{place}: name must be a tensor's name, got {quoted(name)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{place} ({quoted(name)}): shape must be a list of sizes, got {quoted(shape)}")
    if not isinstance(dtype, str) or dtype not in CODES:
        raise ValueError(f"{place} ({quoted(name)}): dtype must be one of {', '.join(CODES)}, got {quoted(dtype)}")
    if kind not in ("parameter", "buffer") or not isinstance(module, str):
        raise ValueError(f"{place} ({quoted(name)}): kind must be 'parameter' or 'buffer' and module a string")
    try:
        return Tensor(name, tuple(shape), dtype, kind, module)
    except ValueError as error:
        raise ValueError(f"{place} ({quoted(name)}): {error}") from None


def recipe_names() -> list[str]:
    """The recipes inside the package.

    Examples
    --------
    >>> recipe_names()
    ['bert', 'gpt2', 'llama', 'resnet', 'vit']
    """
    files = resources.files("fastinit.io.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read_recipe(recipe: str | Path, tensors: Sequence[Tensor]) -> list[Rule]:
    """The rules of a recipe: a TOML file, or the name of one inside the package.

    An ordered list of ``[[rule]]`` tables, each with ``init``, the text of an initializer (see `fastinit.parse`), and
    ``match``, a glob on the tensor's name, or ``module``, one on its module's kind, or both. A table ``[count]`` names
    numbers that the texts may compute with: how many of the model's tensors match a glob.

    Raises
    ------
    ValueError
        If the recipe does not exist or has anything else in it.
    """
    place = f"recipe {printable(str(recipe))}"
    if str(recipe) in recipe_names():
        text = resources.files("fastinit.io.recipes").joinpath(f"{recipe}.toml").read_text(encoding="utf-8")
    elif Path(recipe).exists():
        try:
            text = read_text(recipe, _RECIPE)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    else:
        raise ValueError(f"recipe must be a TOML file or one of {', '.join(recipe_names())}, got {quoted(str(recipe))}")
    content = _toml(place, text)
    if content.keys() - {"rule", "count"} or not isinstance(content.get("rule"), list):
        raise ValueError(f"{place} must hold [[rule]] tables and may hold [count], got {quoted(list(content))}")
    counts = {
        name: sum(fnmatchcase(tensor.name, glob) for tensor in tensors)
        for name, glob in _strings(f"{place}, [count]", content.get("count", {})).items()
    }
    return [_rule(f"{place}, rule {n}", table, counts) for n, table in enumerate(content["rule"], 1)]


def _toml(place: str, text: str) -> dict[str, Any]:
    """The recipe's tables."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found, no-redef, unused-ignore]
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LINE:  # the parser takes the square of the dots in a key
            raise ValueError(f"{place}: line {number} must have {_LINE} characters at most, got {len(line)}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{place}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{place}: {printable(str(error))}") from None


def _strings(place: str, table: Any) -> dict[str, str]:
    """A table whose values are all text."""
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ValueError(f"{place} must be a table of texts, got {quoted(table)}")
    return table


def _rule(place: str, table: Any, counts: Mapping[str, int]) -> Rule:
    """One rule, its initializer parsed."""
    texts = _strings(place, table)
    if "init" not in texts or not texts.keys() & {"match", "module"} or texts.keys() - {"init", "match", "module"}:
        raise ValueError(f"{place} must have init, and match or module or both, got {quoted(list(texts))}")
    try:
        init = parse(texts["init"], counts)
    except (TypeError, ValueError) as error:
        known = "".join(f"; {name} = {count}" for name, count in counts.items())
        raise ValueError(f"{place}: {error}{known}") from None
    return Rule(init, texts.get("match", "*"), texts.get("module", "*"))


def rule_for(tensor: Tensor, rules: Sequence[Rule]) -> Rule | None:
    """The first rule that matches the tensor, if one does."""
    return next((rule for rule in rules if rule.matches(tensor)), None)


def assign(tensors: Sequence[Tensor], rules: Sequence[Rule]) -> list[tuple[Tensor, Initializer]]:
    """Each tensor with the initializer of the first rule that matches it; buffers that none matches are skipped.

    Raises
    ------
    ValueError
        If a parameter has no rule, or a rule's initializer cannot fill its tensor. Nothing has been written then.
    """
    pairs: list[tuple[Tensor, Initializer]] = []
    for tensor in tensors:
        rule = rule_for(tensor, rules)
        if rule is None:
            if tensor.kind == "buffer":
                continue
            raise ValueError(
                f"no rule of the recipe matches the parameter {quoted(tensor.name)} (module {quoted(tensor.module)}, "
                f"shape {quoted(list(tensor.shape))})"
            )
        pairs.append((tensor, rule.init))
    return pairs


def initialize(
    tensors: Sequence[Tensor],
    out: str | Path,
    rules: Sequence[Rule],
    *,
    seed: int,
    dtype: str | None = None,
    note: str = "",
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
    sync: bool = True,
) -> Summary:
    """Write a model's initial weights to a safetensors file, each tensor's stream its name.

    The values go straight into the mapped file, so that memory does not grow with the model. The file appears under its
    name when it is complete; whatever stops the work before leaves nothing behind.

    Parameters
    ----------
    tensors, rules
        The model (`read_manifest`) and what its tensors get (`read_recipe`).
    out
        The file; one that is there already is replaced.
    seed, threads
        As for `fastinit.fill`.
    dtype
        Of every floating-point tensor, in place of the manifest's.
    note
        Goes into the file's metadata.
    progress
        Called with (bytes done, bytes in all).
    sync
        Whether to wait for the disk: see `fastinit.files.complete_file`.

    Raises
    ------
    ValueError, TypeError
        If a tensor has no rule or its initializer cannot fill it, the message names the tensor; if ``out`` is there and
        no regular file; if there is nothing to write.
    OSError
        If the file cannot be written: the space for all of it is taken before the first value.
    """
    began = time.perf_counter()
    if dtype is not None:
        tensors = [_cast(tensor, dtype) for tensor in tensors]
    pairs = sorted(assign(tensors, rules), key=lambda pair: _ORDER.index(pair[0].dtype))
    if not pairs:
        raise ValueError("there is nothing to write: no tensor has a rule in the recipe")
    for tensor, init in pairs:
        with _about(tensor, init):  # a region without elements is checked like any other
            nothing = np.empty([0] * len(tensor.shape), dtype_of(tensor.dtype))
            fill(nothing, init, seed=seed, name=tensor.name, global_shape=tensor.shape, threads=threads)
    header, starts = _header([tensor for tensor, _ in pairs], note)
    total = sum(tensor.nbytes for tensor, _ in pairs)
    with complete_file(out, header, total, sync=sync) as data:
        for (tensor, init), start in zip(pairs, starts, strict=True):
            view = data[start : start + tensor.nbytes].view(dtype_of(tensor.dtype)).reshape(tensor.shape)

            def report(done: int, _: int, start: int = start) -> None:
                if progress is not None:
                    progress(start + done, total)

            with _about(tensor, init):
                fill(view, init, seed=seed, name=tensor.name, threads=threads, progress=report)
    return Summary(len(pairs), total, time.perf_counter() - began)


@contextmanager
def _about(tensor: Tensor, init: Initializer) -> Iterator[None]:
    """Name the tensor in what goes wrong with it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"tensor {quoted(tensor.name)} ({tensor.dtype}{quoted(list(tensor.shape))}), {init}: {error}"
        ) from None


def _cast(tensor: Tensor, dtype: str) -> Tensor:
    """The tensor in another floating-point dtype, if it has one."""
    if dtype not in FLOATS:
        raise ValueError(f"dtype must be one of {', '.join(FLOATS)}, got {quoted(dtype)}")
    return replace(tensor, dtype=dtype) if tensor.dtype in FLOATS else tensor


def _header(tensors: Sequence[Tensor], note: str) -> tuple[bytes, list[int]]:
    """The head of a safetensors file, and where behind it each tensor begins.

    https://huggingface.co/docs/safetensors: 8 bytes of length, little-endian, and JSON, here padded by spaces so that
    the data begin on a cache line; tensors follow without gaps.
    """
    metadata = {"format": "pt", "fastinit": f"stream format {STREAM_FORMAT}{', ' + note if note else ''}"}
    content: dict[str, Any] = {METADATA: metadata}
    starts, at = [], 0
    for tensor in tensors:
        if tensor.name in content:
            raise ValueError(f"the name {quoted(tensor.name)} is there twice, or not a tensor's")
        starts.append(at)
        offsets = [at, at + tensor.nbytes]
        content[tensor.name] = {"dtype": CODES[tensor.dtype], "shape": tensor.shape, "data_offsets": offsets}
        at += tensor.nbytes
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the header must have {MAX_HEADER} bytes at most, got {len(text)}: shorten the names")
    return len(text).to_bytes(8, "little") + text, starts
