"""The command line: ``fastinit init`` for a whole model, ``fill`` for one tensor, ``warmup`` for the kernels.

``fastinit propagate`` and ``recommend`` tell which initializer a network needs.
"""

from __future__ import annotations

import io
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

try:
    import click
    import rich  # noqa: F401 - the bars'
except ImportError as error:
    raise SystemExit(f"the command line needs {error.name}: pip install fastinit[cli]") from None

import numpy as np

from fastinit import __version__
from fastinit.bars import bar
from fastinit.checkpoint import (
    Rule,
    Summary,
    Tensor,
    complete_file,
    initialize,
    read_manifest,
    read_recipe,
    recipe_names,
)
from fastinit.fill import FLOATS, dtype_of, fill
from fastinit.fill import warmup as compile_all
from fastinit.initializers import Initializer, parse
from fastinit.propagation import Propagation, recommend
from fastinit.propagation import propagate as send

_FLOATS = click.Choice(FLOATS)
_common = [
    click.option("--seed", type=click.IntRange(0, 2**64 - 1), required=True, help="The seed of all values."),
    click.option("--threads", type=click.IntRange(1), help="Threads; by default all CPUs that may be used."),
    click.option("--quiet", is_flag=True, help="Show no progress bar."),
]


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command has."""
    for option in reversed(_common):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastinit")
def cli() -> None:
    """Initialize neural-network weights at the speed of the memory, with the same values everywhere."""


@cli.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--recipe", required=True, help=f"A TOML file, or one of {', '.join(recipe_names())}.")
@click.option("--dtype", type=_FLOATS, help="Of all floating-point tensors; by default the manifest's.")
@_options
def init(
    manifest: Path, out: Path, recipe: str, dtype: str | None, seed: int, threads: int | None, quiet: bool
) -> None:
    """Write the initial weights of the model that MANIFEST lists to OUT, a safetensors file."""
    tensors = read_manifest(manifest)
    rules = read_recipe(recipe, tensors)
    note = f"recipe {Path(recipe).name}, seed {seed}"
    with _bar(out, quiet) as report:
        summary = initialize(tensors, out, rules, seed=seed, dtype=dtype, note=note, threads=threads, progress=report)
    _closing_line(out, summary)


@cli.command("fill")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--shape", required=True, help="Such as 4096x4096; an empty text for a single number.")
@click.option("--init", "text", required=True, help="Such as he_normal or 'normal(std=0.02)'.")
@click.option("--name", required=True, help="The tensor's name, which selects its stream.")
@click.option("--dtype", type=_FLOATS, default="float32", show_default=True)
@_options
def fill_command(
    out: Path, shape: str, text: str, name: str, dtype: str, seed: int, threads: int | None, quiet: bool
) -> None:
    """Write one tensor to OUT, a .npy or .safetensors file."""
    tensor = Tensor(name, _sizes(shape), dtype)
    initializer = parse(text)
    with _bar(out, quiet) as report:
        if out.suffix == ".safetensors":
            rules = [Rule(initializer)]
            summary = initialize([tensor], out, rules, seed=seed, note=f"seed {seed}", threads=threads, progress=report)
        elif out.suffix == ".npy" and dtype != "bfloat16":
            began = time.perf_counter()
            with complete_file(out, _npy_header(tensor), tensor.nbytes) as data:
                view = data.view(dtype_of(dtype)).reshape(tensor.shape)
                fill(view, initializer, seed=seed, name=name, threads=threads, progress=report)
            summary = Summary(1, tensor.nbytes, time.perf_counter() - began)
        else:
            raise ValueError(f"OUT must end in .safetensors, or in .npy (which has no bfloat16), got {out} of {dtype}")
    _closing_line(out, summary)


@cli.command()
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def warmup(quiet: bool) -> None:
    """Compile all kernels now, so that no later process has to.

    They are kept in NUMBA_CACHE_DIR, or beside the package.
    """
    began = time.perf_counter()
    with _bar(Path("kernels"), quiet) as report:
        count = compile_all(report)
    click.echo(f"{count} kernels are ready, after {time.perf_counter() - began:.1f} s")


@cli.command()
@click.option("--init", "texts", multiple=True, required=True, help="Such as he_normal; may be given several times.")
@click.option("--activation", default="relu", show_default=True)
@click.option("--a", default=0.01, show_default=True, help="The slope of leaky_relu.")
@click.option("--depth", type=click.IntRange(1), default=100, show_default=True)
@click.option("--width", default="512", show_default=True, help="One number, or depth + 1 of them such as 64x512x64.")
@click.option("--bias", help="An initializer of biases; none by default.")
@click.option("--residual", is_flag=True, help="Add each layer's input to its output.")
@click.option("--batch-norm", is_flag=True, help="Normalize over the samples, before the activation.")
@click.option("--layer-norm", is_flag=True, help="Normalize over the units, before the activation.")
@click.option("--kernel", type=click.IntRange(1), help="Of square convolutions; dense layers by default.")
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True, help="Samples.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="A picture, such as p.png.")
def propagate(
    texts: tuple[str, ...], width: str, bias: str | None, plot: Path | None, depth: int, residual: bool, **options: Any
) -> None:
    """Send signals through a stack of layers: what initializers do to activations and gradients."""
    sizes = _sizes(width)
    found = [
        send(
            parse(text),
            depth=depth,
            width=sizes[0] if len(sizes) == 1 else sizes,
            bias=None if bias is None else parse(bias),
            residual=residual,
            **options,
        )
        for text in texts
    ]
    advice = None
    for result in found:
        _layers(result)
    for result in found:
        line = f"{_text(result.init)}: {result.verdict}"
        if not result.verdict.startswith("holds") and not (options["batch_norm"] or options["layer_norm"]):
            advice = advice or recommend(
                options["activation"], a=options["a"], residual=residual, depth=depth, width=max(result.widths)
            )
            line += f"; use {_text(advice.init)}" if advice.init != result.init else "; widen or normalize the layers"
        click.echo(line)
    if plot:
        from fastinit.propagation_plot import draw

        draw(found, plot)
        click.echo(f"{plot}: the stds by layer")


@cli.command("recommend")
@click.option("--activation", required=True)
@click.option("--a", default=0.01, show_default=True, help="The slope of leaky_relu.")
@click.option("--residual", is_flag=True, help="For layers whose input is added to their output.")
@click.option("--depth", type=click.IntRange(1), default=100, show_default=True)
@click.option("--width", type=click.IntRange(1), default=512, show_default=True)
def recommend_command(activation: str, a: float, residual: bool, depth: int, width: int) -> None:
    """Which initializer keeps activations and gradients of such layers, by theory alone."""
    from rich.console import Console
    from rich.table import Table

    found = recommend(activation, a=a, residual=residual, depth=depth, width=width)
    table = Table("init", "activations, a layer", "gradients, a layer", title=f"theory: {activation}, {depth} layers")
    for init, forward, back in found.rivals:
        table.add_row(_text(init), f"{forward:.4f}x", f"{back:.4f}x")
    Console().print(table)
    doubt = "" if found.holds else f"; but nothing holds over {depth} layers: normalize them, or make them residual"
    click.echo(f"use {_text(found.init)}{doubt}")


def _text(init: Initializer) -> str:
    """An initializer as one writes it on the command line."""
    return str(init).removesuffix("()")


def _layers(result: Propagation) -> None:
    """A table of some of the layers; flat is the fraction saturated."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{_text(result.init)}, {result.activation}, {result.depth} layers")
    for column in ("layer", "std", "theory", "mean", "gradient", "theory", "flat", "dead"):
        table.add_column(column, justify="right", no_wrap=True)
    shown = {1, 2, 5, 10, 20, 50, 100, result.depth, result.overflow_layer, result.vanish_layer}
    for layer in range(1, result.depth + 1):
        if layer in shown or layer % max(100, result.depth // 10) == 0:
            n = layer - 1
            stds = (result.activation_std, result.predicted_std, result.activation_mean)
            gradients = (result.gradient_std, result.predicted_gradient_std)
            numbers = [f"{values[n]:.3g}" for values in (*stds, *gradients)]
            table.add_row(str(layer), *numbers, *(f"{part[n]:.0%}" for part in (result.saturated, result.dead)))
    Console().print(table)


def _sizes(text: str) -> tuple[int, ...]:
    """The shape that a text such as 64x3x7x7 names."""
    parts = text.split("x") if text else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"--shape must be sizes with x between them, such as 4096x4096, got {text!r}")
    return tuple(map(int, parts))


def _npy_header(tensor: Tensor) -> bytes:
    """The head of NumPy's file format."""
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype_of(tensor.dtype))
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": tensor.shape})
    return stream.getvalue()


@contextmanager
def _bar(out: Path, quiet: bool) -> Iterator[Callable[[int, int], object] | None]:
    """A progress bar on the terminal's error stream."""
    if quiet:
        yield None
        return
    with bar(out.name, on_stderr=True) as report:
        yield report


def _closing_line(out: Path, summary: Summary) -> None:
    """What was done, in one line."""
    tensors, size, seconds = summary
    plural = "" if tensors == 1 else "s"
    speed = size / 1e9 / seconds
    click.echo(f"{out}: {tensors} tensor{plural}, {size / 1e9:.3f} GB in {seconds:.2f} s, {speed:.2f} GB/s")


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line; an error is one line on the error stream and exit code 1, an interrupt 130."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)  # unwinds, so that no partial file is left
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("fastinit: interrupted, nothing was written", err=True)
        sys.exit(130)
    except (OSError, TypeError, ValueError) as error:
        click.echo(f"fastinit: {error}", err=True)
        sys.exit(1)
