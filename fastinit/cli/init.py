"""``fastinit init``: a whole model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from fastinit.cli.shared import DTYPE, options, print_closing_line, progress_bar
from fastinit.core.text import printable, quoted, size_text
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.io.checkpoint import initialize, plan_shards, planned, write_shards
from fastinit.io.layout import SHARD_BYTES, File, one_file, shard_bytes
from fastinit.io.manifests import Tensor, read_manifest
from fastinit.io.rules import Rule, find, read_recipe, recipe_names, summary
from fastinit.io.values import Values, check


@click.command("init")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path())
@click.option("--recipe", help=f"A TOML file, or one of {', '.join(recipe_names())}; else the manifest's own inits.")
@click.option("--dtype", type=DTYPE, help="Dtype of all floating-point tensors; by default the manifest's.")
@click.option("--max-shard-size", "most", help="Bytes of a shard, such as 500MB; by default 5GB. For a folder.")
@click.option("--only", multiple=True, help="Only the tensors whose names match this glob; may be repeated.")
@click.option("--rank", type=click.IntRange(0), help="Write the shards of this process, of --world-size ones.")
@click.option("--world-size", type=click.IntRange(1), help="How many processes share the shards of a folder out.")
@click.option("--resume", is_flag=True, help="Keep the shards of a folder that are finished, by their digests.")
@click.option("--digest", is_flag=True, help="Write the SHA-256 of every tensor, as JSON beside the weights.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, tensor by tensor, and write nothing.")
@options
def command(
    manifest: Path,
    out: str,
    recipe: str | None,
    dtype: str | None,
    most: str | None,
    only: tuple[str, ...],
    rank: int | None,
    world_size: int | None,
    resume: bool,
    digest: bool,
    dry_run: bool,
    seed: int,
    threads: int | None,
    quiet: bool,
    no_sync: bool,
) -> None:
    """Write the initial weights of the model that MANIFEST lists to OUT, a safetensors file.

    If OUT is a folder, or ends with a slash, Hugging Face's files are written into it: model.safetensors, or shards and
    their index.
    """
    path = Path(out)
    folder = out.endswith(os.sep) or path.is_dir()
    given = {"--max-shard-size": most, "--rank": rank, "--world-size": world_size, "--resume": resume or None}
    if not folder and (option := next((name for name, value in given.items() if value is not None), None)):
        raise ValueError(f"{option} needs a folder as OUT, which ends with a slash or is there, got {quoted(out)}")
    if (rank is None) != (world_size is None):
        raise ValueError(f"--rank and --world-size need each other, got --rank {rank}, --world-size {world_size}")
    tensors = read_manifest(manifest)
    rules = [] if recipe is None else read_recipe(recipe, tensors)
    note = f"{'' if recipe is None else f'recipe {Path(recipe).name}, '}seed {seed}"
    values = Values(seed, threads, not no_sync)
    if folder:
        contents = planned(tensors, rules, dtype=dtype, only=only)
        size = SHARD_BYTES if most is None else shard_bytes(most)
        plan = plan_shards(contents, path, most=size, rank=rank or 0, ranks=world_size or 1)
        if dry_run:
            check(plan.files, values)
            _print_plan(plan.mine)
            return
        with progress_bar(path, quiet) as report:
            written = write_shards(plan, values, resume=resume, digest=digest, progress=report)
    elif dry_run:
        file = one_file(path.name, planned(tensors, rules, dtype=dtype, only=only), note)
        check([file], values)
        _print_plan([file])
        return
    else:
        with progress_bar(path, quiet) as report:
            written = initialize(
                tensors,
                path,
                rules,
                seed=seed,
                dtype=dtype,
                note=note,
                threads=threads,
                progress=report,
                sync=not no_sync,
                only=only,
                digest=digest,
            )
    if not quiet:
        _print_counts(tensors, rules)
    print_closing_line(path, written)


def _print_counts(tensors: Sequence[Tensor], rules: Sequence[Rule]) -> None:
    """Print how many tensors of the model each rule gave its initializer."""
    found, _ = find(tensors, rules)
    counts = [(f"rule {rule.number} ({rule.globs})", count) for rule, count in summary(found, rules)]
    if own := sum(one.rule is None for one in found):
        counts.append(("the manifest's own initializers", own))
    for title, count in counts:
        click.echo(printable(f"{title}: {count} tensor{'' if count == 1 else 's'}"))


_COLUMNS = ("tensor", "shape", "dtype", "bytes", "file", "rule", "init", "distribution")


def _print_plan(files: Sequence[File]) -> None:
    """Print each tensor's row, and the sums."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for file in files:
        for content, _ in file.entries:
            tensor = content.tensor
            facts = (_sizes(tensor.shape), tensor.dtype, str(tensor.nbytes), file.name)
            rows.append((tensor.name, *facts, _said_by(content.rule), *_filled(content.init, tensor.shape)))
            rows += [
                (
                    f"{tensor.name}[{_sizes(part.offset)}]",
                    _sizes(part.shape),
                    *[""] * 4,
                    *_filled(part.init, tensor.shape),
                )
                for part in content.parts
            ]
    widths = [max(map(len, map(printable, column))) for column in zip(*rows, strict=True)]
    for row in rows:
        texts = [printable(text).ljust(width) for text, width in zip(row, widths, strict=True)]
        click.echo("  ".join(texts).rstrip())
    count, size = sum(len(file.entries) for file in files), sum(file.size for file in files)
    click.echo(f"{count} tensors, {size_text(size)}, files: {len(files)}; nothing was written")


def _sizes(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "scalar"


def _said_by(rule: Rule | None) -> str:
    return "manifest" if rule is None else f"{rule.number}: {rule.globs}"


def _filled(init: Initializer, shape: Sequence[int]) -> tuple[str, str]:
    """Return the texts of an initializer, and of the distribution that it gives a tensor of this shape."""
    found = init.resolve(shape)
    return repr(init), "of a matrix" if isinstance(found, Matrix) else repr(found)
