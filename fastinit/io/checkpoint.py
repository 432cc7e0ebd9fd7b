"""Checkpoints: the initial weights of a whole model, written straight into a safetensors file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinit.core.checks import check_choice
from fastinit.core.dtypes import FLOATS, dtype_of
from fastinit.core.keys import STREAM_FORMAT
from fastinit.core.text import quoted
from fastinit.initializers.base import Initializer
from fastinit.io.files import complete_file
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule, assign
from fastinit.io.tensor_files import CODES, MAX_HEADER, METADATA
from fastinit.sampling.filling import fill

_ORDER = list(CODES)


class Written(NamedTuple):
    """Counts of a file that was written."""

    tensors: int
    bytes: int
    seconds: float


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
) -> Written:
    """Write a model's initial weights to a safetensors file, each tensor's stream its name.

    The values go straight into the mapped file, so that memory does not grow with the model. The file appears under its
    name when it is complete; whatever stops the work before leaves nothing behind.

    Parameters
    ----------
    tensors, rules
        The model (`read_manifest`) and the initializers of its tensors (`read_recipe`).
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
        Whether to wait for the disk: see `complete_file`.

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
    pairs = sorted(assign(tensors, rules), key=lambda pair: _ORDER.index(pair.tensor.dtype))
    if not pairs:
        raise ValueError("there is nothing to write: no tensor has a rule in the recipe")
    for tensor, init, regions, _ in pairs:
        for content in (init, *(region[2] for region in regions)):
            with _about(tensor, content):  # a region without elements is checked like any other
                nothing = np.empty([0] * len(tensor.shape), dtype_of(tensor.dtype))
                fill(nothing, content, seed=seed, name=tensor.name, global_shape=tensor.shape, threads=threads)
    header, starts = _header([pair.tensor for pair in pairs], note)
    total = sum(pair.tensor.nbytes for pair in pairs)
    with complete_file(out, header, total, sync=sync) as data:
        for (tensor, init, regions, _), start in zip(pairs, starts, strict=True):
            view = data[start : start + tensor.nbytes].view(dtype_of(tensor.dtype)).reshape(tensor.shape)

            def report(done: int, _: int, start: int = start) -> None:
                if progress is not None:
                    progress(start + done, total)

            with _about(tensor, init):
                fill(view, init, seed=seed, name=tensor.name, threads=threads, progress=report)
                for offset, shape, content in regions:
                    here: Any = (..., *(slice(at, at + size) for at, size in zip(offset, shape, strict=True)))
                    fill(
                        view[here],
                        content,
                        seed=seed,
                        name=tensor.name,
                        global_shape=tensor.shape,
                        global_offset=offset,
                        threads=threads,
                    )
    return Written(len(pairs), total, time.perf_counter() - began)


@contextmanager
def _about(tensor: Tensor, init: Initializer) -> Iterator[None]:
    """Name the tensor in errors."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"tensor {quoted(tensor.name)} ({tensor.dtype}{quoted(list(tensor.shape))}), {init}: {error}"
        ) from None


def _cast(tensor: Tensor, dtype: str) -> Tensor:
    """Return the tensor in another floating-point dtype, if it has one."""
    check_choice("dtype", dtype, FLOATS)
    return replace(tensor, dtype=dtype) if tensor.dtype in FLOATS else tensor


def _header(tensors: Sequence[Tensor], note: str) -> tuple[bytes, list[int]]:
    """Return the head of a safetensors file, and the place behind it where each tensor begins.

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
