"""Progress: to a function of the caller's, or to a bar of the package rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastinit.core.text import printable
from fastinit.sampling.threads import run

Progress = bool | Callable[[int, int], object] | None


@contextmanager
def bar(title: str, *, on_stderr: bool = False) -> Iterator[Callable[[int, int], object]]:
    """Show a bar of bytes done and in all, their speed and the time that remains; yield the function to report to.

    On the error stream it disappears when it is done, and leaves the screen to the closing line.

    Raises
    ------
    ImportError
        Without rich.
    """
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ImportError:
        raise ImportError("progress=True shows a bar by the package rich: pip install fastinit-weights[cli]") from None
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=on_stderr), transient=on_stderr) as bars:
        task = bars.add_task(printable(title), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def reporter(progress: Progress, title: str = "filling") -> Iterator[Callable[[int, int], object]]:
    """Yield the function to report to; one that does nothing where no progress is wanted."""
    if progress is None or progress is False:
        yield lambda done, total: None
        return
    if callable(progress):
        yield progress
        return
    with bar(title) as report:
        yield report


def run_reported(task: Callable[[int], int], count: int, size: int, threads: int, progress: Progress) -> None:
    """Run tasks as `run` does, with the progress that the caller wants, of ``size`` in all."""
    if progress is None or progress is False:
        run(task, count, threads)
        return
    with reporter(progress) as report:
        report(0, size)
        run(task, count, threads, lambda done: report(done, size))
