"""Options, progress and closing lines that commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fastinit.core.checks import suggestion
from fastinit.core.dtypes import FLOATS
from fastinit.core.text import printable, quoted, size_text
from fastinit.io.checkpoint import Written
from fastinit.sampling.progress import bar


class _Dtype(click.Choice):  # type: ignore[type-arg, unused-ignore] # generic from click 8.2 on
    """A choice of dtypes whose error begins with the one that was probably meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the dtype's name, or fail."""
        if value not in FLOATS and (near := suggestion(value, FLOATS)):
            self.fail(f"{near}It must be one of {', '.join(FLOATS)}, got {quoted(value)}", param, ctx)
        return super().convert(value, param, ctx)


DTYPE = _Dtype(FLOATS)
_common = [
    click.option("--seed", type=click.IntRange(0, 2**64 - 1), required=True, help="The seed of all values."),
    click.option("--threads", type=click.IntRange(1), help="Threads; by default all CPUs that may be used."),
    click.option("--quiet", is_flag=True, help="Show no progress bar."),
    click.option("--no-sync", is_flag=True, help="Do not wait for the disk; a crash soon after may damage OUT."),
]


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that writes values."""
    for option in reversed(_common):
        command = option(command)
    return command


def sizes_of(option: str, text: str) -> tuple[int, ...]:
    """Return the sizes of a text like 64x3x7x7."""
    parts = text.split("x") if text else []
    if not all(part.isascii() and part.isdigit() and len(part) < 20 and int(part) < 1 << 63 for part in parts):
        wanted = "sizes below 2**63 with x between them, such as 4096x4096"
        raise ValueError(f"{option} must be {wanted}, got {quoted(text)}")
    return tuple(map(int, parts))


@contextmanager
def progress_bar(out: Path, quiet: bool) -> Iterator[Callable[[int, int], object] | None]:
    """Show a progress bar on standard error, if it is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with bar(out.name, on_stderr=True) as report:
        yield report


def print_closing_line(out: Path, written: Written) -> None:
    """Print the size, time and speed of the written file, in one line."""
    tensors, size, seconds, kept = written
    plural = "" if tensors == 1 else "s"
    line = f"{out}: {tensors} tensor{plural}, {size_text(size)} in {seconds:.2f} s, {size_text(size / seconds)}/s"
    click.echo(printable(f"{line}; {size_text(kept)} kept" if kept else line))
