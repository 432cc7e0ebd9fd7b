"""The progress bar, of the package rich."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def columns() -> tuple[ProgressColumn, ...]:
    """What a bar shows: what is being filled, bytes done and in all, bytes per second, the time that remains."""
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
