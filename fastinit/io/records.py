"""SHA-256 of tensors: while they are written, of files that are there, and in the records of finished shards.

A record says by which plan a shard was made, and the digests of its tensors. A shard is finished if its record is of
the same plan, its header is the plan's, and the bytes of its tensors have the record's digests: every byte is compared,
and nothing is believed because a file exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinit.core.arrays import Array
from fastinit.core.keys import STREAM_FORMAT
from fastinit.core.text import printable, quoted
from fastinit.io.blocks import Bytes
from fastinit.io.files import open_regular, parse_json, read_text, write_text
from fastinit.io.layout import Entry, File, overlapping
from fastinit.io.shards import files_of
from fastinit.io.tensor_files import open_tensors
from fastinit.io.values import Values
from fastinit.sampling.threads import thread_count

RECORDS = ".fastinit"  # the folder of records, inside of a checkpoint's
_BYTES = 1 << 26  # of a file of digests
_PIECE = 32 << 20  # bytes hashed at once


class Digests:
    """Digests of a file's tensors, from its blocks as they are written: an observer of `blocks`."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries
        self._hashes = {entry.content.tensor.name: hashlib.sha256() for entry in entries}

    def __call__(self, start: int, block: Bytes) -> None:
        """Take the next block, whose first byte has this place behind the header."""
        for entry, low, high in overlapping(self._entries, start, start + len(block)):
            self._hashes[entry.content.tensor.name].update(block[low - start : high - start].data)

    def texts(self) -> dict[str, str]:
        """Return the digests by the tensors' names."""
        return {name: found.hexdigest() for name, found in self._hashes.items()}


def fingerprint(file: File, seed: int) -> str:
    """Return a digest of all that decides a file's bytes: header, stream format, seed and initializers."""
    contents = [
        [content.tensor.name, repr(content.init), [[*part[:2], repr(part.init)] for part in content.parts]]
        for content, _ in file.entries
    ]
    facts = [STREAM_FORMAT, seed, hashlib.sha256(file.header).hexdigest(), contents]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def record_path(folder: Path, file: File) -> Path:
    """Return the place of a shard's record."""
    return folder / RECORDS / f"{file.name}.json"


def write_record(folder: Path, file: File, values: Values, digests: Mapping[str, str]) -> None:
    """Record that a shard is complete; the folder of records is made where it is missing."""
    path = record_path(folder, file)
    path.parent.mkdir(exist_ok=True)
    write_digests(path, {"plan": fingerprint(file, values.seed), "tensors": dict(digests)}, sync=values.sync)


def finished(folder: Path, file: File, values: Values) -> dict[str, str] | None:
    """Return the digests of a shard's tensors if the shard is finished, and None if it must be made."""
    with suppress(OSError, ValueError, TypeError, LookupError):  # whatever is wrong with either file
        record = parse_json(read_text(record_path(folder, file), _BYTES))
        if record["plan"] != fingerprint(file, values.seed):
            return None
        path = folder / file.name
        with open_regular(path) as content:
            if content.read(len(file.header)) != file.header:
                return None
        found = digests_of(open_tensors(path).arrays, values.threads)
        return found if found == record["tensors"] else None
    return None


def write_digests(path: Path, content: Mapping[str, Any], *, sync: bool) -> None:
    """Write JSON, sorted, complete or not at all."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n", sync=sync)


def read_digests(paths: Iterable[Path]) -> dict[str, str]:
    """Return the digests of files that `write_digests` has written, by the tensors' names.

    Raises
    ------
    ValueError
        If one is no table of SHA-256 digests, or two of them differ about a tensor.
    """
    found: dict[str, str] = {}
    for path in paths:
        place = f"digests {printable(str(path))}"
        try:
            content = parse_json(read_text(path, _BYTES))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if not isinstance(content, dict) or not all(_is_digest(text) for text in content.values()):
            raise ValueError(f"{place} must be a table of SHA-256 digests by the tensors' names, got {quoted(content)}")
        if differ := next((name for name in content if found.get(name, content[name]) != content[name]), None):
            raise ValueError(f"{place}: another of these files has another digest of {quoted(differ)}")
        found |= content
    return found


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and not set(text) - set("0123456789abcdef")


def digests_of(arrays: Mapping[str, Array], threads: int | None = None) -> dict[str, str]:
    """Return the SHA-256 of each array's bytes, in the order in which they lie in memory."""
    with ThreadPoolExecutor(thread_count(threads)) as pool:
        return dict(zip(arrays, pool.map(_digest, arrays.values()), strict=True))


def _digest(array: Array) -> str:
    found = hashlib.sha256()
    content = array.ravel(order="K").view(np.uint8)
    for begin in range(0, len(content), _PIECE):
        found.update(content[begin : begin + _PIECE].data)
    return found.hexdigest()


class Comparison(NamedTuple):
    """What became of a comparison: names of tensors."""

    equal: list[str]
    different: list[str]
    absent: list[str]  # of the checkpoint
    unknown: list[str]  # to the digests


def compare_digests(digests: Mapping[str, str], checkpoint: Path, threads: int | None = None) -> Comparison:
    """Compare a checkpoint's tensors with their digests.

    Parameters
    ----------
    digests
        By the tensors' names: see `read_digests`.
    checkpoint
        A file of tensors; an index of shards, which are beside it; or a folder with ``model.safetensors`` or an index.

    Raises
    ------
    OSError, ValueError
        If a file of it is missing, or cannot be read.
    """
    equal: list[str] = []
    different: list[str] = []
    unknown: list[str] = []
    for path in files_of(checkpoint):
        arrays, skipped = open_tensors(path)
        unknown += [name for name in (*arrays, *skipped) if name not in digests]
        found = digests_of({name: array for name, array in arrays.items() if name in digests}, threads)
        for name, text in found.items():
            (equal if text == digests[name] else different).append(name)
        different += [name for name in skipped if name in digests]
    absent = [name for name in digests if name not in {*equal, *different}]
    return Comparison(*map(sorted, (equal, different, absent, unknown)))
