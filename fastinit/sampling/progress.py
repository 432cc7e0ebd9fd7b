"""The progress bar, of the package rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastinit.core.text import printable


@contextmanager
def bar(title: str, *, on_stderr: bool = False) -> Iterator[Callable[[int, int], object]]:
    """A bar of bytes done and in all, their speed and the time that remains; yields the function to report to.

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
