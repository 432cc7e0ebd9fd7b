"""Checkpoints of one file or of several: a folder, or the index of its shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

from fastinit.core.text import printable, quoted
from fastinit.io.files import parse_json, read_text
from fastinit.io.layout import INDEX
from fastinit.io.tensor_files import Opened, open_tensors

_BYTES = 1 << 26  # of an index


def listed(names: Iterable[str]) -> str:
    """Return some names, short enough for a line."""
    some = list(itertools.islice(names, 11))
    return ", ".join(map(quoted, some[:10])) + (", ..." if some[10:] else "") or "nothing"


def files_of(checkpoint: Path) -> list[Path]:
    """Return the files that a checkpoint consists of: see `open_checkpoint`.

    Raises
    ------
    OSError, ValueError
        If a file of it is missing, or the index is none.
    """
    return [path for path, _ in _files_and_names(checkpoint)]


def open_checkpoint(checkpoint: str | Path) -> Opened:
    """Return the tensors of a checkpoint, mapped into memory: see `open_tensors`.

    Parameters
    ----------
    checkpoint
        A file of tensors; an index of shards, which are beside it; or a folder with ``model.safetensors`` or an index.

    Raises
    ------
    OSError
        If a file of it is missing, or cannot be read.
    ValueError
        If a file is not of its format, a tensor is in two of them, or not in the one that the index says.
    """
    arrays, skipped = Opened({}, {})
    for path, names in _files_and_names(Path(checkpoint)):
        opened = open_tensors(path)
        here = [*opened.arrays, *opened.skipped]
        if twice := [name for name in here if name in arrays or name in skipped]:
            raise ValueError(f"{printable(str(path))} has tensors that another shard has, too: {listed(twice)}")
        if absent := sorted(names - set(here)):
            raise ValueError(f"{printable(str(path))} lacks tensors that the index says it has: {listed(absent)}")
        arrays |= opened.arrays
        skipped |= opened.skipped
    return Opened(arrays, skipped)


def _files_and_names(checkpoint: Path) -> list[tuple[Path, set[str]]]:
    """Return the files of a checkpoint, each with the tensors that an index says it has."""
    if checkpoint.is_dir():
        single = checkpoint / "model.safetensors"
        checkpoint = single if single.exists() else checkpoint / INDEX
    if checkpoint.suffix != ".json":
        return [(checkpoint, set())]
    found: dict[str, set[str]] = {}
    try:
        for tensor, name in parse_json(read_text(checkpoint, _BYTES))["weight_map"].items():
            found.setdefault(name, set()).add(tensor)
        if not found or any(Path(name).name != name for name in found):
            raise ValueError("it names no files beside it")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{printable(str(checkpoint))} is no index of shards: {quoted(str(error))}") from None
    if missing := sorted(name for name in found if not checkpoint.with_name(name).exists()):
        count = sum(len(found[name]) for name in missing)
        raise FileNotFoundError(
            f"{printable(str(checkpoint))} names files that are missing, tensors in them {count}: {listed(missing)}"
        )
    return [(checkpoint.with_name(name), found[name]) for name in sorted(found)]
