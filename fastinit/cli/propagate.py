"""``fastinit propagate``: signals through a stack of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastinit.cli.shared import sizes_of
from fastinit.core.text import printable
from fastinit.initializers.parsing import brief, parse
from fastinit.propagation.recommendation import recommend
from fastinit.propagation.simulation import SATURATED, Propagation, propagate


@click.command("propagate")
@click.option("--init", "texts", multiple=True, required=True, help="Such as he_normal; may be given several times.")
@click.option("--activation", default="relu", show_default=True)
@click.option("--a", default=0.01, show_default=True, help="The slope of leaky_relu.")
@click.option("--depth", type=click.IntRange(1), default=100, show_default=True)
@click.option("--width", default="512", show_default=True, help="One number, or depth + 1 of them, as 64x512x64.")
@click.option("--bias", help="An initializer of biases; none by default.")
@click.option("--residual", is_flag=True, help="Add each layer's input to its output.")
@click.option("--batch-norm", is_flag=True, help="Normalize over the samples, before the activation.")
@click.option("--layer-norm", is_flag=True, help="Normalize over the units, before the activation.")
@click.option("--kernel", type=click.IntRange(1), help="Of square convolutions; dense layers by default.")
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True, help="Samples.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the stds by layer.")
def command(
    texts: tuple[str, ...], width: str, bias: str | None, picture: Path | None, depth: int, residual: bool, **more: Any
) -> None:
    """Send signals through a stack of layers; print the activations and gradients of each."""
    if picture is not None:
        from fastinit.propagation.plots import plot_propagation
    sizes = sizes_of("--width", width)
    found = [
        propagate(
            parse(text),
            depth=depth,
            width=sizes[0] if len(sizes) == 1 else sizes,
            bias=None if bias is None else parse(bias),
            residual=residual,
            **more,
        )
        for text in texts
    ]
    for result in found:
        _print_layers(result)
    click.echo(f"flat: values with abs(f'(z)) < {SATURATED}; dead: units with f'(z) = 0 in all samples")
    normalized = more["batch_norm"] or more["layer_norm"]
    for result in found:
        recommended = ""
        if not result.holds and not normalized:
            best = recommend(
                more["activation"], a=more["a"], residual=residual, depth=depth, width=max(result.widths)
            ).init
            recommended = f"; use {brief(best)}" if best != result.init else "; widen or normalize the layers"
        click.echo(f"{brief(result.init)}: {result.verdict}{recommended}")
    if picture is not None:
        plot_propagation(found, picture)
        click.echo(printable(f"{picture}: the stds by layer"), err=True)


def _print_layers(result: Propagation) -> None:
    """Print a table of some of the layers; flat is the fraction saturated."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(printable(f"{brief(result.init)}, {result.activation}, {result.depth} layers")))
    for column in ("layer", "std", "theory", "mean", "gradient", "theory", "flat", "dead"):
        table.add_column(column, justify="right", no_wrap=True)
    shown = {1, 2, 5, 10, 20, 50, 100, result.depth, result.overflow_layer, result.vanish_layer}
    for layer in range(1, result.depth + 1):
        if layer in shown or layer % max(100, result.depth // 10) == 0:
            n = layer - 1
            stds = (result.activation_std, result.predicted_std, result.activation_mean)
            gradients = (result.gradient_std, result.predicted_gradient_std)
            numbers = [f"{values[n]:.3g}" for values in (*stds, *gradients)]
            shares = [f"{part[n]:.0%}" for part in (result.saturated, result.dead)]
            table.add_row(str(layer), *("–" if "nan" in text else text for text in (*numbers, *shares)))
    Console().print(table)
