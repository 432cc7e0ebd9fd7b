"""``fastinit recipe``: what a recipe gives to the tensors of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fastinit.core.text import QUOTED, printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.matrices import Matrix
from fastinit.initializers.parsing import brief
from fastinit.io.manifests import Tensor, read_manifest
from fastinit.io.rules import Assignment, find, read_recipe, recipe_names, summary, without_init


@click.command("recipe")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--recipe", help=f"A TOML file, or one of {', '.join(recipe_names())}; else the manifest's own inits.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of lines.")
def command(manifest: Path, recipe: str | None, as_json: bool) -> None:
    """Explain what `init` would give to each tensor that MANIFEST lists, and by which rule; nothing is written.

    The exit code is 1 if a parameter has no initializer, or one that cannot fill it.
    """
    tensors = read_manifest(manifest)
    rules = [] if recipe is None else read_recipe(recipe, tensors)
    found, rest = find(tensors, rules)
    rows = [_row(one) for one in found]
    counts = [
        {"rule": rule.number, "line": rule.line, "globs": rule.globs, "optional": rule.optional, "tensors": count}
        for rule, count in summary(found, rules)
    ]
    missing = [tensor for tensor in rest if tensor.kind != "buffer"]
    skipped = [tensor for tensor in rest if tensor.kind == "buffer"]
    if as_json:
        content = {
            "tensors": rows,
            "rules": counts,
            "parameters without an initializer": [tensor.name for tensor in missing],
            "buffers that are not written": [tensor.name for tensor in skipped],
        }
        click.echo(json.dumps(content, indent=1))
    else:
        _print_lines(rows, counts, skipped)
    if missing:
        raise ValueError(without_init(missing))
    if wrong := [row for row in rows if "error" in row]:
        raise ValueError(f"tensor {quoted(wrong[0]['name'])}, {wrong[0]['init']}: {wrong[0]['error']}")


_HEADS = ("tensor", "shape", "dtype", "rule", "initializer", "distribution")


def _row(one: Assignment) -> dict[str, Any]:
    """Return what there is to say of a tensor, in the types of JSON."""
    tensor, init, regions, rule = one
    row: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}
    row |= {"rule": rule.number, "line": rule.line} if rule else {"rule": None, "line": None}
    row |= {"init": brief(init)}
    try:
        row["distribution"] = _distribution(init, tensor.shape)
    except (TypeError, ValueError) as error:
        row["error"] = str(error)
    if regions:
        row["regions"] = [{"offset": [*at], "shape": [*shape], "init": brief(part)} for at, shape, part in regions]
    return row


def _distribution(init: Initializer, shape: tuple[int, ...]) -> str:
    """Return the distribution of a tensor's elements as text."""
    found = init.resolve(shape)
    return f"a matrix, {type(found).__name__.lower()}" if isinstance(found, Matrix) else str(found)


def _print_lines(rows: Sequence[dict[str, Any]], counts: Sequence[dict[str, Any]], skipped: Sequence[Tensor]) -> None:
    """Print a line for each tensor, then rules that nothing follows, and buffers that are not written."""
    table = [
        (
            row["name"][:QUOTED],
            "x".join(map(str, row["shape"])),
            row["dtype"],
            _rule(row["rule"], row["line"]),
            row["init"],
            row.get("distribution", "impossible") + "".join(_region(part) for part in row.get("regions", [])),
        )
        for row in rows
    ]
    lines = [tuple(map(printable, line)) for line in [_HEADS, *table]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)).rstrip())
    for count in counts:
        if count["tensors"] == 0:
            optional = ", which is optional" if count["optional"] else ""
            click.echo(f"no tensor follows rule {_rule(count['rule'], count['line'])} ({count['globs']}){optional}")
    for tensor in skipped:
        click.echo(printable(f"not written: the buffer {tensor.name[:QUOTED]}"))


def _rule(number: int | None, line: int) -> str:
    """Return a rule's number and line."""
    if number is None:
        return "manifest"
    return f"{number} (line {line})" if line else str(number)


def _region(region: dict[str, Any]) -> str:
    """Return what one region of a tensor gets."""
    return f"; then {region['init']} in {region['shape']} at {region['offset']}"
