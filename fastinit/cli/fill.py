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
from fastinit.io.zarr_arrays import write_zarr
from fastinit.io.zarr_plans import Plan


@click.command("fill")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--shape", required=True, help="Such as 4096x4096; an empty text for a single number.")
@click.option("--init", "text", required=True, help="Such as he_normal or 'normal(std=0.02)'.")
@click.option("--name", required=True, help="The tensor's name, which selects its stream.")
@click.option("--dtype", type=DTYPE, default="float32", show_default=True)
@click.option("--chunks", help="Sizes of a chunk, such as 1000x1000; by default zarr's choice. For .zarr.")
@click.option("--shards", help="Sizes of a shard, one file of several chunks. For .zarr.")
@click.option("--bfloat16-as", help="uint16: store bfloat16, which zarr lacks, as its bits. For .zarr.")
@click.option("--resume", is_flag=True, help="Keep the chunks that have their values. For .zarr.")
@options
def command(
    out: Path,
    shape: str,
    text: str,
    name: str,
    dtype: str,
    chunks: str | None,
    shards: str | None,
    bfloat16_as: str | None,
    resume: bool,
    seed: int,
    threads: int | None,
    quiet: bool,
    no_sync: bool,
) -> None:
    """Write one tensor to OUT, a .npy or .safetensors file, or a .zarr folder."""
    tensor = Tensor(name, sizes_of("--shape", shape), dtype)
    initializer = parse(text)
    given = {"--chunks": chunks, "--shards": shards, "--bfloat16-as": bfloat16_as, "--resume": resume or None}
    if out.suffix != ".zarr" and (option := next((key for key, value in given.items() if value is not None), None)):
        raise ValueError(f"{option} needs an OUT that ends in .zarr, got {out}")
    with progress_bar(out, quiet) as report:
        if out.suffix == ".zarr":
            inner, outer = _steps_of("--chunks", chunks), _steps_of("--shards", shards)
            plan = Plan.of(tensor.shape, dtype, inner, outer, bfloat16_as)
            written = write_zarr(
                out, plan, initializer, seed, name, resume=resume, threads=threads, progress=report, sync=not no_sync
            )
        elif out.suffix == ".safetensors":
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
            raise ValueError(
                f"OUT must end in .safetensors, in .zarr, or in .npy (which has no bfloat16), got {out} of {dtype}"
            )
    print_closing_line(out, written)


def _steps_of(option: str, text: str | None) -> tuple[int, ...] | None:
    """Return the sizes that an option gives, if it does."""
    return None if text is None else sizes_of(option, text)


def _npy_header(tensor: Tensor) -> bytes:
    """Return the head of NumPy's file format."""
    head = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype_of(tensor.dtype))
    np.lib.format.write_array_header_1_0(head, {"descr": descr, "fortran_order": False, "shape": tensor.shape})
    return head.getvalue()
