"""``fastinit words``: raw words of a stream."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import click
import numpy as np

from fastinit.sampling.filling import words

_WORDS = 1 << 18  # made at once: they stay in the cache on their way to the pipe
_LEAST_WORDS = 1 << 13  # of one stream: a call costs some 20 microseconds


@click.command("words")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), required=True, help="The seed of all words.")
@click.option("--name", required=True, help="The tensor's name, which selects its stream.")
@click.option("--names", type=click.IntRange(1), help="One word in turn of N streams: NAME/0, NAME/1, ...")
@click.option("--seeds", type=click.IntRange(1), help="One word in turn of N seeds: SEED, SEED + 1, ...")
@click.option("--count", type=click.IntRange(0), help="Words to write; by default without end.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def command(seed: int, name: str, names: int | None, seeds: int | None, count: int | None, threads: int) -> None:
    """Write the raw 32-bit words of a stream to standard output, little-endian, for a battery of tests to read."""
    if names and seeds:
        raise ValueError("give --names or --seeds, not both")
    if seeds and seed + seeds > 1 << 64:
        raise ValueError(f"--seeds must stay below 2**64, got {seeds} from {seed} on")
    streams: list[tuple[int, str]] = (
        [(seed, f"{name}/{k}") for k in range(names)] if names else [(seed + k, name) for k in range(seeds or 1)]
    )
    each = max(_LEAST_WORDS, _WORDS // len(streams))
    left = count
    with suppress(ImportError, AttributeError, OSError):  # a larger pipe, on Linux, where standard output is one
        import fcntl

        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
    with suppress(BrokenPipeError), ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for start in itertools.count(0, each):
            rows = [words(each, seed=seed, name=name, start=start, threads=threads) for seed, name in streams]
            block = rows[0] if len(rows) == 1 else in_turn(rows)
            block = block[: len(block) if left is None else left]
            if written is not None:
                written.result()
            written = writer.submit(write_all, block.astype("<u4", copy=False))  # while the next words are made
            if left is not None:
                left -= len(block)
                if left <= 0:
                    written.result()
                    break


def in_turn(rows: list[Any]) -> Any:
    """Return one word of each row, then the next of each; whole cache lines at a time."""
    turns = np.empty((len(rows[0]), len(rows)), np.uint32)
    for k in range(0, len(rows), 16):
        turns[:, k : k + 16] = np.stack(rows[k : k + 16], axis=1)
    return turns.ravel()


def write_all(block: Any) -> None:
    """Write an array to standard output, past its buffer."""
    view = memoryview(block).cast("B")
    while len(view):
        view = view[os.write(1, view) :]
