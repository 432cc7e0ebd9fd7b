"""``fastinit manifest``: the tensors of a model that a framework describes, with the initializers of its own code."""

from __future__ import annotations

from pathlib import Path

import click

from fastinit.core.text import printable, quoted, size_text
from fastinit.io.manifests import write_manifest
from fastinit.io.rules import find, read_recipe, recipe_names

MISSING = ("zeros", "ones", "eager")


@click.command("manifest")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--transformers", "config", help="A config.json, its folder, or a type of models such as llama.")
@click.option("--class", "name", help="The class of transformers; by default the one that the configuration names.")
@click.option("--timm", help="A model of timm, such as vit_base_patch16_224.")
@click.option("--module", help="A function or class without arguments that makes a torch module: package.module:name.")
@click.option("--missing", type=click.Choice(MISSING), help="What tensors get that the model's code does not draw.")
@click.option("--recipe", help=f"Rules for such tensors: a TOML file, or one of {', '.join(recipe_names())}.")
def command(
    out: Path,
    config: str | None,
    name: str | None,
    timm: str | None,
    module: str | None,
    missing: str | None,
    recipe: str | None,
) -> None:
    """Write the manifest of a model to OUT, a JSON file for `fastinit init`.

    The model is built on torch's meta device, without memory, and its own initialization is recorded, not drawn. The
    command fails, and names the tensors, if some are not initialized by that: give --missing, or a --recipe that has
    rules for them, here and for `fastinit init`.
    """
    if [config, timm, module].count(None) != 2:
        raise ValueError("give one of --transformers, --timm and --module")
    if name is not None and config is None:
        raise ValueError(f"--class goes with --transformers, got --class {quoted(name)}")
    try:
        from fastinit.torch import architectures
    except ImportError as error:
        raise ImportError(f"fastinit manifest needs torch: pip install fastinit-weights[torch] ({error})") from None
    if config is not None:
        build = architectures.of_transformers(config, name)
    else:
        build = architectures.of_timm(timm) if timm is not None else architectures.of_callable(str(module))
    report = architectures.recorded(build)
    tensors = report.manifest()
    without = [tensor for tensor in tensors if not tensor.init]
    if recipe is not None:
        without = find(without, read_recipe(recipe, tensors))[1]
    if without and missing is None:
        reasons = {
            one.name: report.tensors[one.name].problem or f"by {', '.join(report.tensors[one.name].computed)}"
            for one in without
        }
        listed = ", ".join(f"{printable(key)} ({reason})" for key, reason in list(reasons.items())[:10])
        more = f" and {len(reasons) - 10} more" if len(reasons) > 10 else ""
        raise ValueError(
            f"{len(without)} of {len(tensors)} tensors are not drawn by the model's own code: {listed}{more}; give "
            f"--missing {', '.join(MISSING[:-1])} or {MISSING[-1]}, or a --recipe with rules for them"
        )
    if without:
        done = {tensor.name: tensor for tensor in architectures.completed(without, str(missing), build)}
        tensors = [done.get(tensor.name, tensor) for tensor in tensors]
    write_manifest(tensors, out)
    size = size_text(sum(tensor.nbytes for tensor in tensors))
    click.echo(printable(f"{out}: {len(tensors)} tensors, {size}, initializers of the model's own code"))
