"""``fastinit warmup``: all kernels compiled."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastinit.cli.shared import progress_bar
from fastinit.sampling.filling import warmup


@click.command("warmup")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def command(quiet: bool) -> None:
    """Compile all kernels now, in several processes, so that no later process has to.

    They are kept in NUMBA_CACHE_DIR, else beside the package or in the user's cache folder.
    """
    began = time.perf_counter()
    with progress_bar(Path("kernels"), quiet) as report:
        count = warmup(report)
    click.echo(f"{count} kernels are ready, after {time.perf_counter() - began:.1f} s")
