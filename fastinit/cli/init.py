"""``fastinit init``: a whole model."""

from __future__ import annotations

from pathlib import Path

import click

from fastinit.cli.shared import DTYPE, options, print_closing_line, progress_bar
from fastinit.io.checkpoint import initialize
from fastinit.io.manifests import read_manifest
from fastinit.io.rules import read_recipe, recipe_names


@click.command("init")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--recipe", required=True, help=f"A TOML file, or one of {', '.join(recipe_names())}.")
@click.option("--dtype", type=DTYPE, help="Dtype of all floating-point tensors; by default the manifest's.")
@options
def command(
    manifest: Path,
    out: Path,
    recipe: str,
    dtype: str | None,
    seed: int,
    threads: int | None,
    quiet: bool,
    no_sync: bool,
) -> None:
    """Write the initial weights of the model that MANIFEST lists to OUT, a safetensors file."""
    tensors = read_manifest(manifest)
    rules = read_recipe(recipe, tensors)
    note = f"recipe {Path(recipe).name}, seed {seed}"
    with progress_bar(out, quiet) as report:
        written = initialize(
            tensors, out, rules, seed=seed, dtype=dtype, note=note, threads=threads, progress=report, sync=not no_sync
        )
    print_closing_line(out, written)
