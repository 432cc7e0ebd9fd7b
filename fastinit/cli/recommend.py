"""``fastinit recommend``: the initializer that keeps signals."""

from __future__ import annotations

import click

from fastinit.core.text import printable
from fastinit.initializers.parsing import brief
from fastinit.propagation.recommendation import recommend


@click.command("recommend")
@click.option("--activation", required=True)
@click.option("--a", default=0.01, show_default=True, help="The slope of leaky_relu.")
@click.option("--residual", is_flag=True, help="For layers whose input is added to their output.")
@click.option("--depth", type=click.IntRange(2), default=50, show_default=True)
@click.option("--width", type=click.IntRange(1), default=512, show_default=True)
def command(activation: str, a: float, residual: bool, depth: int, width: int) -> None:
    """Find the initializer that keeps activations and gradients of these layers, by theory alone."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = recommend(activation, a=a, residual=residual, depth=depth, width=width)
    table = Table(title=escape(printable(f"theory: {activation}, {depth} layers of {width}; factors of std a layer")))
    for column in ("init", "activations", "gradients"):
        table.add_column(column, overflow="fold")
    for rival in found.rivals:
        table.add_row(escape(brief(rival.init)), f"{rival.rate:.4f}x", f"{rival.gradient_rate:.4f}x")
    Console().print(table)
    cost = next(rival.cost for rival in found.rivals if rival.init == found.init)
    equal = [brief(rival.init) for rival in found.rivals if rival.cost == cost and rival.init != found.init]
    same = f" ({', '.join(equal)}: equal while widths are)" if equal else ""
    doubt = "" if found.holds else f"; but nothing holds over {depth} layers: normalize them, or make them residual"
    click.echo(f"use {brief(found.init)}{same}{doubt}")
