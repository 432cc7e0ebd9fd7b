"""Checkpoints: the initial weights of a whole model, in one safetensors file or in shards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from fastinit.core.checks import check_choice
from fastinit.core.dtypes import FLOATS
from fastinit.core.text import printable, quoted
from fastinit.io.files import check_regular, write_text
from fastinit.io.layout import (
    INDEX,
    SHARD_BYTES,
    WEIGHTS,
    Content,
    File,
    contents_of,
    index_of,
    one_file,
    shards,
    shared_out,
)
from fastinit.io.manifests import Tensor
from fastinit.io.records import Digests, finished, write_digests, write_record
from fastinit.io.rules import Rule
from fastinit.io.values import Report, Values, check, write


class Written(NamedTuple):
    """Counts of what was written, and the bytes of finished shards that were kept."""

    tensors: int
    bytes: int
    seconds: float
    kept: int = 0


def planned(
    tensors: Sequence[Tensor], rules: Sequence[Rule], *, dtype: str | None = None, only: Sequence[str] = ()
) -> list[Content]:
    """Return what each tensor that is to be written is filled with.

    Parameters
    ----------
    tensors, rules
        The model (`read_manifest`) and the initializers of its tensors (`read_recipe`).
    dtype
        Of every floating-point tensor, in place of the manifest's.
    only
        Globs: tensors none of whose names match one of them are left out.

    Raises
    ------
    ValueError
        If a parameter has no rule, or nothing is left to write.
    """
    if dtype is not None:
        tensors = [_cast(tensor, dtype) for tensor in tensors]
    contents = contents_of(tensors, rules)
    if only:
        contents = [one for one in contents if any(fnmatchcase(name, glob) for name in _names(one) for glob in only)]
        if not contents:
            raise ValueError(f"--only must match a tensor, got {', '.join(map(quoted, only))}, which match none")
    if not contents:
        raise ValueError("there is nothing to write: no tensor has a rule in the recipe")
    return contents


def _names(content: Content) -> tuple[str, ...]:
    return content.tensor.name, *content.tensor.aliases


def initialize(
    tensors: Sequence[Tensor],
    out: str | Path,
    rules: Sequence[Rule],
    *,
    seed: int,
    dtype: str | None = None,
    note: str = "",
    threads: int | None = None,
    progress: Report | None = None,
    sync: bool = True,
    only: Sequence[str] = (),
    digest: bool = False,
) -> Written:
    """Write a model's initial weights to a safetensors file, each tensor's stream its name.

    The values go to the file block by block, so that memory does not grow with the model. The file appears under its
    name when it is complete; whatever stops the work before leaves nothing behind.

    Parameters
    ----------
    tensors, rules, dtype, only
        See `planned`.
    out
        The file; one that is there already is replaced.
    seed, threads
        As for `fastinit.fill`.
    note
        Goes into the file's metadata.
    progress
        Called with (bytes done, bytes in all).
    sync
        Whether to wait for the disk: see `complete_blocks`.
    digest
        Whether to write the SHA-256 of every tensor to ``<out>.sha256.json``.

    Raises
    ------
    ValueError, TypeError
        If a tensor has no rule or its initializer cannot fill it, the message names the tensor; if ``out`` is there and
        no regular file; if there is nothing to write.
    OSError
        If the file cannot be written: the space for all of it is taken before the first value.
    """
    file = one_file(Path(out).name, planned(tensors, rules, dtype=dtype, only=only), note)
    values = Values(seed, threads, sync)
    check([file], values)
    began = time.perf_counter()
    digests = Digests(file.entries) if digest else None
    write(out, file, values, progress=progress, observe=digests)
    if digests is not None:
        write_digests(Path(f"{out}.sha256.json"), digests.texts(), sync=sync)
    return Written(len(file.entries), file.size, time.perf_counter() - began)


class Shards(NamedTuple):
    """Sharded checkpoint: all of its files, those that one of several processes writes, and the text of its index."""

    folder: Path
    files: list[File]
    mine: list[File]
    index_text: str | None
    rank: int
    ranks: int


def plan_shards(
    contents: Sequence[Content], folder: str | Path, *, most: int = SHARD_BYTES, rank: int = 0, ranks: int = 1
) -> Shards:
    """Lay a model out as Hugging Face's libraries do: shards and their index, or a single file.

    Parameters
    ----------
    contents
        See `planned`.
    folder
        Where the files belong.
    most
        Bytes of a shard; a larger tensor has a shard of its own.
    rank, ranks
        Which part of the shards to write: the parts of all ranks are the whole.

    Raises
    ------
    ValueError
        If there is no such rank; or if the folder holds weights of another layout, which would be loaded in the place
        of these, or with them.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"--rank must be at least 0 and less than --world-size, got {rank} of {ranks}")
    files = shards(contents, most)
    index, folder = index_of(files), Path(folder)
    _check_folder(folder, {file.name for file in files} | ({INDEX} if index else set()))
    return Shards(folder, files, shared_out(files, rank, ranks), index, rank, ranks)


def write_shards(
    plan: Shards, values: Values, *, resume: bool = False, digest: bool = False, progress: Report | None = None
) -> Written:
    """Write the shards of a plan, of its rank alone.

    Every shard appears under its name when it is complete, then its record in ``.fastinit``. The first rank writes the
    index, last of all; one that was there is removed before the first shard is written.

    Parameters
    ----------
    values
        Seed and threads.
    resume
        Whether shards are kept that are `finished`.
    digest
        Whether to write the SHA-256 of every tensor to ``model.sha256.json``, or to one such file for each rank.
    progress
        Called with (bytes done, bytes in all), of what is not kept.

    Raises
    ------
    ValueError, TypeError, OSError
        As `initialize`.
    """
    check(plan.files, values)  # of all ranks: none begins where another one would fail
    kept = {file.name: finished(plan.folder, file, values) for file in plan.mine} if resume else {}
    began = time.perf_counter()
    with _made(plan.folder):
        written, digests = _write_shards(plan, kept, values, progress)
        if plan.index_text is not None and plan.rank == 0:
            write_text(plan.folder / INDEX, plan.index_text, sync=values.sync)
        if digest:
            part = f".rank-{plan.rank}-of-{plan.ranks}" if plan.ranks > 1 else ""
            write_digests(plan.folder / f"model{part}.sha256.json", digests, sync=values.sync)
    tensors, size = sum(len(file.entries) for file in written), sum(file.size for file in written)
    return Written(tensors, size, time.perf_counter() - began, sum(file.size for file in plan.mine) - size)


def _write_shards(
    plan: Shards, kept: dict[str, dict[str, str] | None], values: Values, progress: Report | None
) -> tuple[list[File], dict[str, str]]:
    """Write the shards that are not kept; return them, and the digests of the tensors of all."""
    todo = [file for file in plan.mine if kept.get(file.name) is None]
    digests = {name: text for known in kept.values() if known for name, text in known.items()}
    if todo and plan.rank == 0:
        (plan.folder / INDEX).unlink(missing_ok=True)  # shards of two models must not look like one
    done, total = 0, sum(file.size for file in todo)
    for file in todo:

        def report(now: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done + now, total)

        found = Digests(file.entries)
        write(plan.folder / file.name, file, values, progress=report, observe=found)
        write_record(plan.folder, file, values, found.texts())
        digests |= found.texts()
        done += file.size
    return todo, digests


def _check_folder(folder: Path, names: set[str]) -> None:
    """Refuse a folder with files of another checkpoint that would be loaded in the place of, or with, these."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{printable(str(folder))} must be a folder, or not be there")
    found = os.listdir(folder) if folder.is_dir() else []
    if others := sorted(name for name in found if WEIGHTS.fullmatch(name) and name not in names):
        raise ValueError(
            f"{printable(str(folder))} must hold no weights of another layout, and has {others[0]}; remove it, or give "
            "another folder"
        )
    for name in names.intersection(found):
        check_regular(folder / name)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder; if an error leaves a new one empty, remove it."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def _cast(tensor: Tensor, dtype: str) -> Tensor:
    """Return the tensor in another floating-point dtype, if it has one."""
    check_choice("dtype", dtype, FLOATS)
    return replace(tensor, dtype=dtype) if tensor.dtype in FLOATS else tensor
