"""Layout of checkpoints: which tensor lies in which file, at which place. Pure: nothing is read or written here."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fastinit.core.keys import STREAM_FORMAT
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule, assign
from fastinit.io.tensor_files import CODES, MAX_HEADER, METADATA

SHARD_BYTES = 5 * 10**9  # of a shard, unless it is said: huggingface_hub's default
INDEX = "model.safetensors.index.json"
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|" + re.escape(INDEX))
_UNITS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}
_WIDEST_FIRST = list(CODES)
# the order of dtypes in the files of safetensors' own writer, from the first on
_THEIRS = ["uint64", "int64", "float64", "float32", "uint32", "int32", "bfloat16", "float16", "uint16", "int16"]
_THEIRS += ["int8", "uint8", "bool"]

Places = tuple[int, ...]


class Part(NamedTuple):
    """Region of a tensor that has an initializer of its own."""

    offset: Places
    shape: Places
    init: Initializer


class Content(NamedTuple):
    """Tensor and what it is filled with: the whole, then its parts over it."""

    tensor: Tensor
    init: Initializer
    parts: tuple[Part, ...] = ()
    rule: Rule | None = None


class Entry(NamedTuple):
    """Content, and where it begins behind a file's header."""

    content: Content
    start: int

    @property
    def end(self) -> int:
        """Return the place behind its last byte."""
        return self.start + self.content.tensor.nbytes


class File(NamedTuple):
    """File of tensors without gaps between them."""

    name: str
    header: bytes
    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Return the bytes behind the header."""
        return self.entries[-1].end if self.entries else 0


def contents_of(tensors: Sequence[Tensor], rules: Sequence[Rule]) -> list[Content]:
    """Return what each tensor is filled with; see `assign`."""
    return [
        Content(one.tensor, one.init, tuple(Part(*r) for r in one.regions), one.rule) for one in assign(tensors, rules)
    ]


def one_file(name: str, contents: Sequence[Content], note: str) -> File:
    """Return the layout of a single file: the widest dtypes first, else in the manifest's order.

    Its header says the stream format and the note, and is padded so that the data begin on a cache line.
    """
    ordered = sorted(contents, key=lambda content: _WIDEST_FIRST.index(content.tensor.dtype))
    metadata = {"format": "pt", "fastinit": f"stream format {STREAM_FORMAT}{', ' + note if note else ''}"}
    return _laid_out(name, ordered, metadata, align=64, ascii_only=True)


def shards(contents: Sequence[Content], most: int) -> list[File]:
    """Return the files of a sharded checkpoint, byte for byte as Hugging Face's libraries lay them out.

    Tensors go into a shard, in their order, until one would take it over ``most`` bytes; a tensor that is larger than
    that has a shard of its own, which comes before the one that is being filled (huggingface_hub,
    ``split_state_dict_into_shards_factory``). Within a file, safetensors sorts by dtype, then by name.
    """
    groups: list[list[Content]] = []
    current: list[Content] = []
    size = 0
    for content in contents:
        if content.tensor.nbytes > most:
            groups.append([content])
            continue
        if size + content.tensor.nbytes > most:
            groups.append(current)
            current, size = [], 0
        current.append(content)
        size += content.tensor.nbytes
    if current:
        groups.append(current)
    if len(groups) > 99_999:
        raise ValueError(f"--max-shard-size must give 99999 files at most, got {most} bytes, which gives {len(groups)}")
    counts = [f"-{number:05d}-of-{len(groups):05d}" for number in range(1, len(groups) + 1)]
    suffixes = counts if len(groups) > 1 else [""]
    return [_theirs(f"model{suffix}.safetensors", group) for suffix, group in zip(suffixes, groups, strict=True)]


def _theirs(name: str, contents: Sequence[Content]) -> File:
    """Return the layout that safetensors' own writer gives these tensors."""
    ordered = sorted(contents, key=lambda one: (_THEIRS.index(one.tensor.dtype), one.tensor.name))
    return _laid_out(name, ordered, {"format": "pt"}, align=8, ascii_only=False)


def _laid_out(
    name: str, contents: Sequence[Content], metadata: dict[str, str], *, align: int, ascii_only: bool
) -> File:
    """Return a safetensors file of these tensors, in this order.

    https://huggingface.co/docs/safetensors: 8 bytes of length, little-endian, and JSON, padded by spaces; the tensors
    follow without gaps.
    """
    content: dict[str, Any] = {METADATA: metadata}
    entries = []
    at = 0
    for one in contents:
        tensor = one.tensor
        if tensor.name in content:
            raise ValueError(f"the name {quoted(tensor.name)} is there twice, or not a tensor's")
        entries.append(Entry(one, at))
        offsets = [at, at + tensor.nbytes]
        content[tensor.name] = {"dtype": CODES[tensor.dtype], "shape": tensor.shape, "data_offsets": offsets}
        at += tensor.nbytes
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=ascii_only).encode()
    text += b" " * (-(len(text) + 8) % align)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the header must have {MAX_HEADER} bytes at most, got {len(text)}: shorten the names")
    return File(name, len(text).to_bytes(8, "little") + text, tuple(entries))


def index_of(files: Sequence[File]) -> str | None:
    """Return the text of the shards' index; None for a single file, which needs none.

    ``total_parameters`` counts the elements of parameters, ``total_size`` the bytes of all tensors.
    """
    if len(files) < 2:
        return None
    tensors = [(entry.content.tensor, file.name) for file in files for entry in file.entries]
    if len({tensor.name for tensor, _ in tensors}) < len(tensors):
        raise ValueError("the names of the tensors must differ, and one of them is there twice")
    metadata = {
        "total_parameters": sum(math.prod(tensor.shape) for tensor, _ in tensors if tensor.kind == "parameter"),
        "total_size": sum(file.size for file in files),
    }
    index = {"metadata": metadata, "weight_map": {tensor.name: name for tensor, name in tensors}}
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def shared_out(files: Sequence[File], rank: int, ranks: int) -> list[File]:
    """Return the files of one of so many ranks: the largest file first, each to the rank that has the fewest bytes.

    Every file is some rank's, and no two have the same one.
    """
    loads = [0] * ranks
    mine = []
    for number in sorted(range(len(files)), key=lambda number: -files[number].size):
        least = loads.index(min(loads))
        loads[least] += max(1, files[number].size)
        if least == rank:
            mine.append(number)
    return [files[number] for number in sorted(mine)]


def shard_bytes(text: str) -> int:
    """Return the bytes that a text like 5GB or 500MB says, in powers of ten as for Hugging Face.

    Examples
    --------
    >>> shard_bytes("5GB"), shard_bytes("1.5mb"), shard_bytes("4096")
    (5000000000, 1500000, 4096)
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([KMGT]B)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(float(found[1]) * _UNITS.get((found[2] or "").upper(), 1)) if found else 0
    if size < 1:
        raise ValueError(f"--max-shard-size must be a size such as 5GB, 500MB or 4096, got {quoted(text)}")
    return size


def overlapping(entries: Sequence[Entry], begin: int, end: int) -> Iterator[tuple[Entry, int, int]]:
    """Yield the entries that have bytes in [begin, end), each with the part that lies there, behind the header."""
    first = max(0, bisect_right(entries, begin, key=lambda entry: entry.start) - 1)
    for number in range(first, len(entries)):
        entry = entries[number]
        if entry.start >= end:
            return
        low, high = max(begin, entry.start), min(end, entry.end)
        if low < high:
            yield entry, low, high


def boxes(shape: Places, begin: int, end: int) -> Iterator[tuple[Places, Places]]:
    """Yield the offsets and shapes of boxes that cover the elements [begin, end) of a C-order tensor, in order.

    Examples
    --------
    >>> list(boxes((4, 10), 7, 35))
    [((0, 7), (1, 3)), ((1, 0), (2, 10)), ((3, 0), (1, 5))]
    """
    if begin >= end:
        return
    if not shape:
        yield (), ()
        return
    step = math.prod(shape[1:])
    row, at = divmod(begin, step)
    if at:
        stop = min(end - row * step, step)
        for offset, sizes in boxes(shape[1:], at, stop):
            yield (row, *offset), (1, *sizes)
        row += 1
    rows = end // step - row
    if rows > 0:
        yield (row, *[0] * (len(shape) - 1)), (rows, *shape[1:])
        row += rows
    if row * step < end:
        for offset, sizes in boxes(shape[1:], 0, end - row * step):
            yield (row, *offset), (1, *sizes)
