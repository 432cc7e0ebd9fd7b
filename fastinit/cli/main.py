"""The command line: ``init`` a whole model, ``fill`` one tensor, ``verify`` a file, write ``words``, ``warmup``,
and what initializers do to signals: ``propagate``, ``recommend``.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

try:
    import click
    import rich  # noqa: F401 - the bars'
except ImportError as error:
    raise SystemExit(f"the command line needs {error.name}: pip install fastinit-weights[cli]") from None

import numpy as np

from fastinit import __version__
from fastinit.core.text import QUOTED, printable, quoted
from fastinit.initializers.base import Initializer
from fastinit.initializers.parsing import brief, parse
from fastinit.io.checkpoint import Written, initialize
from fastinit.io.files import complete_file
from fastinit.io.manifests import Tensor, read_manifest
from fastinit.io.rules import Rule, read_recipe, recipe_names, rule_for
from fastinit.io.tensor_files import open_tensors
from fastinit.propagation.recommendation import recommend
from fastinit.propagation.simulation import Propagation, propagate
from fastinit.sampling.filling import FLOATS, dtype_of, fill, words
from fastinit.sampling.filling import warmup as compile_all
from fastinit.sampling.progress import bar
from fastinit.verification.checkpoints import verify_tensors

_FLOATS = click.Choice(FLOATS)
_common = [
    click.option("--seed", type=click.IntRange(0, 2**64 - 1), required=True, help="The seed of all values."),
    click.option("--threads", type=click.IntRange(1), help="Threads; by default all CPUs that may be used."),
    click.option("--quiet", is_flag=True, help="Show no progress bar."),
    click.option("--no-sync", is_flag=True, help="Do not wait for the disk; a crash soon after may damage OUT."),
]


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command has that writes values."""
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
    with _bar(out, quiet) as report:
        summary = initialize(
            tensors, out, rules, seed=seed, dtype=dtype, note=note, threads=threads, progress=report, sync=not no_sync
        )
    _closing_line(out, summary)


@cli.command("fill")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--shape", required=True, help="Such as 4096x4096; an empty text for a single number.")
@click.option("--init", "text", required=True, help="Such as he_normal or 'normal(std=0.02)'.")
@click.option("--name", required=True, help="The tensor's name, which selects its stream.")
@click.option("--dtype", type=_FLOATS, default="float32", show_default=True)
@_options
def fill_command(
    out: Path,
    shape: str,
    text: str,
    name: str,
    dtype: str,
    seed: int,
    threads: int | None,
    quiet: bool,
    no_sync: bool,
) -> None:
    """Write one tensor to OUT, a .npy or .safetensors file."""
    tensor = Tensor(name, _sizes("--shape", shape), dtype)
    initializer = parse(text)
    with _bar(out, quiet) as report:
        if out.suffix == ".safetensors":
            rules = [Rule(initializer)]
            summary = initialize(
                [tensor], out, rules, seed=seed, note=f"seed {seed}", threads=threads, progress=report, sync=not no_sync
            )
        elif out.suffix == ".npy" and dtype != "bfloat16":
            began = time.perf_counter()
            with complete_file(out, _npy_header(tensor), tensor.nbytes, sync=not no_sync) as data:
                view = data.view(dtype_of(dtype)).reshape(tensor.shape)
                fill(view, initializer, seed=seed, name=name, threads=threads, progress=report)
            summary = Written(1, tensor.nbytes, time.perf_counter() - began)
        else:
            raise ValueError(f"OUT must end in .safetensors, or in .npy (which has no bfloat16), got {out} of {dtype}")
    _closing_line(out, summary)


@cli.command()
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def warmup(quiet: bool) -> None:
    """Compile all kernels now, so that no later process has to.

    They are kept in NUMBA_CACHE_DIR, else beside the package or in the user's cache folder.
    """
    began = time.perf_counter()
    with _bar(Path("kernels"), quiet) as report:
        count = compile_all(report)
    click.echo(f"{count} kernels are ready, after {time.perf_counter() - began:.1f} s")


@cli.command("propagate")
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
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the stds by layer.")
def propagate_command(
    texts: tuple[str, ...], width: str, bias: str | None, picture: Path | None, depth: int, residual: bool, **more: Any
) -> None:
    """Send signals through a stack of layers: what initializers do to activations and gradients."""
    if picture is not None:
        from fastinit.propagation.plots import plot_propagation
    sizes = _sizes("--width", width)
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
    normalized = more["batch_norm"] or more["layer_norm"]
    for result in found:
        advice = ""
        if not result.holds and not normalized:
            best = recommend(
                more["activation"], a=more["a"], residual=residual, depth=depth, width=max(result.widths)
            ).init
            advice = f"; use {brief(best)}" if best != result.init else "; widen or normalize the layers"
        click.echo(f"{brief(result.init)}: {result.verdict}{advice}")
    if picture is not None:
        plot_propagation(found, picture)
        click.echo(printable(f"{picture}: the stds by layer"), err=True)


@cli.command("recommend")
@click.option("--activation", required=True)
@click.option("--a", default=0.01, show_default=True, help="The slope of leaky_relu.")
@click.option("--residual", is_flag=True, help="For layers whose input is added to their output.")
@click.option("--depth", type=click.IntRange(2), default=50, show_default=True)
@click.option("--width", type=click.IntRange(1), default=512, show_default=True)
def recommend_command(activation: str, a: float, residual: bool, depth: int, width: int) -> None:
    """Which initializer keeps activations and gradients of such layers, by theory alone."""
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
    same = f" ({', '.join(equal)}: the same while widths are equal)" if equal else ""
    doubt = "" if found.holds else f"; but nothing holds over {depth} layers: normalize them, or make them residual"
    click.echo(f"use {brief(found.init)}{same}{doubt}")


def _print_layers(result: Propagation) -> None:
    """A table of some of the layers; flat is the fraction saturated."""
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


@cli.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--init", "text", help="What every tensor is said to hold, such as he_normal or 'normal(std=0.02)'.")
@click.option("--recipe", help=f"What each tensor holds: a TOML file, or one of {', '.join(recipe_names())}.")
@click.option("--manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The model's tensors.")
@click.option("--tensor", "glob", default="*", help="Only the tensors whose names match this glob.")
@click.option("--alpha", type=float, default=1e-6, show_default=True, help="Family-wise error rate of all tests.")
@click.option("--allow-skipped", is_flag=True, help="Pass though tensors were skipped, if one was verified.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@click.option(
    "--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the least likely tensor."
)
@click.option("--threads", type=click.IntRange(1), help="Threads; by default all CPUs that may be used.")
def verify_command(
    file: Path,
    text: str | None,
    recipe: str | None,
    manifest: Path | None,
    glob: str,
    alpha: float,
    allow_skipped: bool,
    as_json: bool,
    picture: Path | None,
    threads: int | None,
) -> None:
    """Test whether the tensors of FILE (.npy, .npz, .safetensors) follow their distributions.

    The exit code is 0 if all of them do, 1 if one does not or there is an error, and 3 if none is rejected but some, or
    all, were skipped: they have no rule in the recipe, no distribution of their elements, no elements, or another
    dtype.

    Without a manifest, the names and shapes are the file's, and rules by a module's kind match nothing.
    """
    if (text is None) == (recipe is None) or (manifest is not None and recipe is None):
        raise ValueError("give --init, or --recipe, which alone takes a --manifest")
    if picture is not None:
        from fastinit.verification.plots import plot
    arrays, skipped = open_tensors(file)
    names = [*arrays, *skipped]
    if recipe is not None:
        pairs, unnamed = _assigned(file, arrays, skipped, recipe, manifest)
        skipped |= unnamed
    else:
        init = parse(str(text))
        pairs = {name: (array, init) for name, array in arrays.items()}
    pairs = {name: pair for name, pair in pairs.items() if fnmatchcase(name, glob)}
    skipped = {name: reason for name, reason in skipped.items() if fnmatchcase(name, glob)}
    if not pairs and not skipped:
        raise ValueError(f"{file} has no tensor that matches --tensor {quoted(glob)}, only {_listed(names)}")
    found = verify_tensors(pairs, alpha=alpha, threads=threads, skipped=skipped)
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else str(found))
    if picture is not None:
        drawn = {name: report for name, report in found.reports.items() if report.summary is not None}
        if not drawn:
            raise ValueError("--plot needs a tensor of draws, and there are only constants")
        name = min(drawn, key=lambda name: min(result.pvalue for result in drawn[name].results))
        plot(drawn[name], picture)
        click.echo(printable(f"{picture}: {name[:QUOTED]}"), err=True)
    if found.rejected:
        raise SystemExit(1)
    if not (found.passed or (allow_skipped and found.reports)):
        raise SystemExit(3)


def _listed(names: Iterable[str]) -> str:
    """Some names, short enough for a line."""
    some = list(itertools.islice(names, 11))
    return ", ".join(map(quoted, some[:10])) + (", ..." if some[10:] else "") or "nothing"


def _assigned(
    file: Path, arrays: dict[str, Any], skipped: dict[str, str], recipe: str, manifest: Path | None
) -> tuple[dict[str, tuple[Any, Initializer]], dict[str, str]]:
    """Each tensor with what the recipe gives it, and why others get nothing."""
    if manifest is None:
        tensors = [Tensor(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    else:
        tensors = read_manifest(manifest)
        if rest := (arrays.keys() | skipped.keys()) - {tensor.name for tensor in tensors}:
            raise ValueError(f"{file} has tensors that {manifest} does not list: {_listed(sorted(rest))}")
    rules = read_recipe(recipe, tensors)
    pairs: dict[str, tuple[Any, Initializer]] = {}
    unnamed: dict[str, str] = {}
    for tensor in tensors:
        rule = rule_for(tensor, rules)
        there = arrays[tensor.name].shape if tensor.name in arrays else "absent"
        if tensor.name in skipped or (there == "absent" and rule is None and tensor.kind == "buffer"):
            continue  # `init` has not written such a buffer
        if there != tensor.shape:
            raise ValueError(
                f"tensor {quoted(tensor.name)} of {manifest} has shape {tensor.shape}, that of {file} is {there}"
            )
        if rule is None:
            unnamed[tensor.name] = "no rule of the recipe names it"
        else:
            pairs[tensor.name] = arrays[tensor.name], rule.init
    return pairs, unnamed


_WORDS = 1 << 18  # that are made at once: they stay in the cache on their way to the pipe
_LEAST_WORDS = 1 << 13  # of one stream: a call costs some 20 microseconds


@cli.command("words")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), required=True, help="The seed of all words.")
@click.option("--name", required=True, help="The tensor's name, which selects its stream.")
@click.option("--names", type=click.IntRange(1), help="One word in turn of so many streams: NAME/0, NAME/1, ...")
@click.option("--seeds", type=click.IntRange(1), help="One word in turn of so many seeds: SEED, SEED + 1, ...")
@click.option("--count", type=click.IntRange(0), help="How many words; by default without end.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def words_command(seed: int, name: str, names: int | None, seeds: int | None, count: int | None, threads: int) -> None:
    """Write the raw 32-bit words of a stream to standard output, little-endian, for a battery of tests to read."""
    if names and seeds:
        raise ValueError("give --names or --seeds, not both")
    if seeds and seed + seeds > 1 << 64:
        raise ValueError(f"--seeds must stay below 2**64, got {seeds} from {seed} on")
    streams: list[tuple[int, str]] = (
        [(seed, f"{name}/{k}") for k in range(names)] if names else [(seed + k, name) for k in range(seeds or 1)]
    )
    each = max(_LEAST_WORDS, _WORDS // len(streams))
    left = count
    with suppress(ImportError, AttributeError, OSError):  # a larger pipe, on Linux, where standard output is one
        import fcntl

        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
    with suppress(BrokenPipeError), ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for start in itertools.count(0, each):
            rows = [words(each, seed=seed, name=name, start=start, threads=threads) for seed, name in streams]
            block = rows[0] if len(rows) == 1 else _in_turn(rows)
            block = block[: len(block) if left is None else left]
            if written is not None:
                written.result()
            written = writer.submit(_write_all, block.astype("<u4", copy=False))  # while the next words are made
            if left is not None:
                left -= len(block)
                if left <= 0:
                    written.result()
                    break


def _in_turn(rows: list[Any]) -> Any:
    """One word of each row, then the next of each; whole cache lines at a time."""
    turns = np.empty((len(rows[0]), len(rows)), np.uint32)
    for k in range(0, len(rows), 16):
        turns[:, k : k + 16] = np.stack(rows[k : k + 16], axis=1)
    return turns.ravel()


def _write_all(block: Any) -> None:
    """Write an array to standard output, past its buffer."""
    view = memoryview(block).cast("B")
    while len(view):
        view = view[os.write(1, view) :]


def _sizes(option: str, text: str) -> tuple[int, ...]:
    """The sizes that a text such as 64x3x7x7 names."""
    parts = text.split("x") if text else []
    if not all(part.isascii() and part.isdigit() and len(part) < 20 and int(part) < 1 << 63 for part in parts):
        wanted = "sizes below 2**63 with x between them, such as 4096x4096"
        raise ValueError(f"{option} must be {wanted}, got {quoted(text)}")
    return tuple(map(int, parts))


def _npy_header(tensor: Tensor) -> bytes:
    """The head of NumPy's file format."""
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype_of(tensor.dtype))
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": tensor.shape})
    return stream.getvalue()


@contextmanager
def _bar(out: Path, quiet: bool) -> Iterator[Callable[[int, int], object] | None]:
    """A progress bar on the terminal's error stream, if it is one."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with bar(out.name, on_stderr=True) as report:
        yield report


def _closing_line(out: Path, summary: Written) -> None:
    """What was done, in one line."""
    tensors, size, seconds = summary
    plural = "" if tensors == 1 else "s"
    speed = size / 1e9 / seconds
    line = f"{out}: {tensors} tensor{plural}, {size / 1e9:.3f} GB in {seconds:.2f} s, {speed:.2f} GB/s"
    click.echo(printable(line))


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _again(lost: Any) -> None:
    """Send a signal again whose exception was raised where it goes no further, as in a callback of LLVM."""
    if isinstance(lost.exc_value, (KeyboardInterrupt, SystemExit)):
        code = getattr(lost.exc_value, "code", 128 + signal.SIGINT)
        timer = threading.Timer(0.01, os.kill, (os.getpid(), code - 128))  # when the callback is over
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(lost)


_MESSAGE = 1000  # characters of an error


def main() -> None:
    """Run the command line; an error is one line on the error stream and exit code 1, an interrupt 130."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _terminated)  # unwinds, so that no partial file is left
    sys.unraisablehook = _again
    try:
        cli(standalone_mode=False)
    except click.UsageError as error:
        if not isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # which shows the help
            error = click.UsageError(printable(error.format_message())[:_MESSAGE], error.ctx)
        error.show()
        sys.exit(error.exit_code)
    except click.Abort as error:  # click's word for an interrupt, and for the end of input
        if not isinstance(error.__cause__, KeyboardInterrupt):
            _fail(error.__cause__ or error)
        _fail(f"interrupted; {error.__cause__}" if str(error.__cause__) else "interrupted", 130)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except (
        click.ClickException,
        ArithmeticError,
        ImportError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        _fail(error)


def _fail(error: object, code: int = 1) -> NoReturn:
    """Say in one line what went wrong, and exit."""
    text = printable(str(error) or type(error).__name__)
    click.echo(f"fastinit: {text if len(text) <= _MESSAGE else text[:_MESSAGE] + '...'}", err=True)
    sys.exit(code)
