"""``fastinit verify``: the tensors of a file against their distributions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import click

from fastinit.cli.shared import progress_bar
from fastinit.core.arrays import Array
from fastinit.core.text import QUOTED, printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.parsing import parse
from fastinit.io.manifests import Tensor, read_manifest
from fastinit.io.records import compare_digests, read_digests
from fastinit.io.rules import find, read_recipe, recipe_names
from fastinit.io.shards import listed, open_checkpoint
from fastinit.verification.checkpoints import verify_tensors
from fastinit.verification.regions import Region


@click.command("verify")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--init", "text", help="Content of every tensor, such as he_normal or 'normal(std=0.02)'.")
@click.option("--recipe", help=f"Content of each tensor: a TOML file, or one of {', '.join(recipe_names())}.")
@click.option("--manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The model's tensors.")
@click.option("--tensor", "glob", default="*", help="Only the tensors whose names match this glob.")
@click.option("--alpha", type=float, default=1e-6, show_default=True, help="Family-wise error rate of all tests.")
@click.option(
    "--level", type=click.Choice(["fast", "full"]), default="full", show_default=True, help="How much is looked at."
)
@click.option(
    "--digest",
    "digests",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compare with the SHA-256 of every tensor that init --digest wrote; may be repeated.",
)
@click.option("--allow-skipped", is_flag=True, help="Pass though tensors were skipped, if one was verified.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@click.option(
    "--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the least likely tensor."
)
@click.option("--threads", type=click.IntRange(1), help="Threads; by default all CPUs that may be used.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def command(
    file: Path,
    text: str | None,
    recipe: str | None,
    manifest: Path | None,
    glob: str,
    alpha: float,
    level: str,
    digests: tuple[Path, ...],
    allow_skipped: bool,
    as_json: bool,
    picture: Path | None,
    threads: int | None,
    quiet: bool,
) -> None:
    """Test whether the tensors of FILE follow their distributions.

    FILE is a .npy, .npz or .safetensors file, a folder with model.safetensors or shards, or the shards' index.

    The exit code is 0 if all of them do, 1 if one does not or there is an error, and 3 if none is rejected but some, or
    all, were skipped: they have no rule in the recipe, no distribution of their elements, no elements, or another
    dtype.

    With --manifest alone, its own initializers are what is tested; with --recipe too, the recipe's rules go first.
    Regions, and a rule's zero_row, are tested apart from the rest of their tensor. Without a manifest, the names and
    shapes are the file's, and rules by a module's kind match nothing.

    With --digest, which goes alone, the tensors' bytes are compared.
    """
    if digests:
        if text is not None or recipe is not None or manifest is not None:
            raise ValueError("give --digest alone, without --init, --recipe or --manifest")
        _compare(digests, file, threads)
        return
    if (text is None) == (recipe is None and manifest is None):
        raise ValueError("give --init, or --recipe, --manifest or both")
    if picture is not None:
        from fastinit.verification.plots import plot
    arrays, skipped = open_checkpoint(file)
    names = [*arrays, *skipped]
    if text is None:
        assigned, unnamed = _assigned(file, arrays, skipped, recipe, manifest)
        skipped |= unnamed
    else:
        init = parse(text)
        assigned = {name: _Content(init, (), f"--init {text}") for name in arrays}
    assigned = {name: one for name, one in assigned.items() if fnmatchcase(name, glob)}
    skipped = {name: reason for name, reason in skipped.items() if fnmatchcase(name, glob)}
    if not assigned and not skipped:
        raise ValueError(f"{file} has no tensor that matches --tensor {quoted(glob)}, only {listed(names)}")
    with progress_bar(file, quiet) as report:
        found = verify_tensors(
            {name: (arrays[name], one.init) for name, one in assigned.items()},
            alpha=alpha,
            level=level,
            threads=threads,
            skipped=skipped,
            regions={name: one.regions for name, one in assigned.items()},
            against=_against([one.source for one in assigned.values()], glob),
            progress=report,
        )
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else str(found))
    if picture is not None:
        drawn = {name: report for name, report in found.reports.items() if report.summary is not None}
        if not drawn:
            raise ValueError("--plot needs a tensor of draws, and there are only constants")
        name = min(drawn, key=lambda name: min(result.pvalue for result in drawn[name].results))
        plot(drawn[name], picture, name=name, tensors=len(drawn))
        click.echo(printable(f"{picture}: {name[:QUOTED]}"), err=True)
    if found.rejected:
        raise SystemExit(1)
    if not (found.passed or (allow_skipped and found.reports)):
        raise SystemExit(3)


def _compare(digests: tuple[Path, ...], checkpoint: Path, threads: int | None) -> None:
    """Print whether a checkpoint's tensors have these digests; exit with 1 if one has not."""
    equal, *others = compare_digests(read_digests(digests), checkpoint, threads)
    for names, what in zip(others, ("different", "absent", "without a digest"), strict=True):
        if names:
            click.echo(f"{what}: {len(names)}: {listed(names)}")
    click.echo(printable(f"{checkpoint}: {len(equal)} tensors have their digests"))
    if any(others):
        raise SystemExit(1)


class _Content(NamedTuple):
    """What a tensor should hold, and who says so."""

    init: Initializer
    regions: tuple[Region, ...]
    source: str


def _against(sources: Iterable[str], glob: str) -> str:
    """Return what tensors were compared with, in words: all that said something of one of them."""
    what = " and ".join(dict.fromkeys(sources))
    return f"{what} in the tensors of --tensor {quoted(glob)}" if what and glob != "*" else what


def _assigned(
    file: Path, arrays: Mapping[str, Array], skipped: Mapping[str, str], recipe: str | None, manifest: Path | None
) -> tuple[dict[str, _Content], dict[str, str]]:
    """Return what each tensor should hold by the recipe and the manifest, and the reasons of those without that."""
    if manifest is None:
        tensors = [Tensor(name, array.shape, array.dtype.name, kind="") for name, array in arrays.items()]
    else:
        tensors = read_manifest(manifest)
        if rest := (arrays.keys() | skipped.keys()) - {tensor.name for tensor in tensors}:
            raise ValueError(f"{file} has tensors that {manifest} does not list: {listed(sorted(rest))}")
    rules = [] if recipe is None else read_recipe(recipe, tensors)
    assigned = {one.tensor.name: one for one in find(tensors, rules)[0]}
    contents: dict[str, _Content] = {}
    unnamed: dict[str, str] = {}
    for tensor in tensors:
        one = assigned.get(tensor.name)
        there = arrays[tensor.name].shape if tensor.name in arrays else "absent"
        if tensor.name in skipped or (there == "absent" and one is None and tensor.kind == "buffer"):
            continue  # `init` has not written this buffer
        if there != tensor.shape:
            raise ValueError(
                f"tensor {quoted(tensor.name)} of {manifest} has shape {tensor.shape}, that of {file} is {there}"
            )
        if one is None:
            unnamed[tensor.name] = "the manifest gives no init" if recipe is None else "no rule of the recipe names it"
        else:
            source = "the manifest's initializers" if one.rule is None else f"recipe {recipe}"
            contents[tensor.name] = _Content(one.init, one.regions, source)
    return contents, unnamed
