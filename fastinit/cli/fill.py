"""``fastinit fill``: one tensor."""

from __future__ import annotations

import io
import time
from pathlib import Path

import click
import numpy as np

from fastinit.cli.shared import DTYPE, options, print_closing_line, progress_bar, sizes_of
from fastinit.core.dtypes import dtype_of
from fastinit.initializers.parsing import parse
from fastinit.io.checkpoint import Written, initialize
from fastinit.io.layout import Content, Entry, File
from fastinit.io.manifests import Tensor
from fastinit.io.rules import Rule
from fastinit.io.values import Values, check, write


@click.command("fill")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--shape", required=True, help="Such as 4096x4096; an empty text for a single number.")
@click.option("--init", "text", required=True, help="Such as he_normal or 'normal(std=0.02)'.")
@click.option("--name", required=True, help="The tensor's name, which selects its stream.")
@click.option("--dtype", type=DTYPE, default="float32", show_default=True)
@options
def command(
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
    tensor = Tensor(name, sizes_of("--shape", shape), dtype)
    initializer = parse(text)
    with progress_bar(out, quiet) as report:
        if out.suffix == ".safetensors":
            rules = [Rule(initializer)]
            written = initialize(
                [tensor], out, rules, seed=seed, note=f"seed {seed}", threads=threads, progress=report, sync=not no_sync
            )
        elif out.suffix == ".npy" and dtype != "bfloat16":
            file = File(out.name, _npy_header(tensor), (Entry(Content(tensor, initializer), 0),))
            values = Values(seed, threads, not no_sync)
            check([file], values)
            began = time.perf_counter()
            write(out, file, values, progress=report)
            written = Written(1, tensor.nbytes, time.perf_counter() - began)
        else:
            raise ValueError(f"OUT must end in .safetensors, or in .npy (which has no bfloat16), got {out} of {dtype}")
    print_closing_line(out, written)


def _npy_header(tensor: Tensor) -> bytes:
    """Return the head of NumPy's file format."""
    head = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype_of(tensor.dtype))
    np.lib.format.write_array_header_1_0(head, {"descr": descr, "fortran_order": False, "shape": tensor.shape})
    return head.getvalue()
