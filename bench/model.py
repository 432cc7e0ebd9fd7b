"""How fast a kernel can be: its loop's instructions over what a processor starts in a cycle: `python -m bench.model`.

The loop from the counter to stored elements is compiled for each processor, and the vector instructions of one turn are
counted. No processor takes fewer cycles for them than

    max(all / pipes, products / multipliers, shifts and shuffles / shifters)

Left out are latencies, loads, stores, moves and the memory, so that this is a limit and no forecast. The loop of a
truncated normal draws attempt 0; `REDRAWN` adds the redraws of the default bounds, but neither lists nor stores. The
pipes are those of the vendors' optimization guides, for registers of the width that the kernel uses; they are not
measured here. Beside the limit of the processor that is here stands what a fill takes: one thread, in place.
"""

# mypy: disable-error-code="no-untyped-call,untyped-decorator,operator"

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.instructions import ROOT, TRIPLE, machine_of, retargeted

TRANSFORMS = {"uniform": "uniform", "normal": "normal", "truncated normal": "truncated"}
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}  # bytes
REDRAWN = 0.0455  # of a normal beyond two sigma: each takes a block for itself, of which the first pair is computed
AVX2 = "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"
AVX512 = AVX2 + ",+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx512cd"


class Processor(NamedTuple):
    """What a processor starts in a cycle."""

    pipes: int  # vector arithmetic
    multipliers: int  # of those, products
    shifters: int  # of those, shifts and shuffles
    chosen: dict[str, str]  # what to compile for
    arm: str = ""  # LLVM's name of an ARM processor


PROCESSORS = {
    "here": Processor(4, 2, 2, {}),  # Zen 5: FP0 to FP3, of 512 bits
    "Ice Lake": Processor(2, 2, 1, {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": AVX512}),  # p0, p5
    "Zen 3": Processor(4, 2, 2, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2}),  # FP0 to FP3, of 256 bits
    "Neoverse V1": Processor(4, 2, 2, {}, "neoverse-v1"),
    "Neoverse N1": Processor(2, 1, 1, {}, "neoverse-n1"),
}
# by the beginning of an instruction's name, on x86 and Arm
PRODUCT = re.compile(r"vp?mul|vf?n?m(add|sub|ul)|vfn?m|vsqrt|vdiv|umull|umlal|f?mul|f?ml[as]|fn?m(add|sub)|fsqrt|fdiv")
SHIFT = re.compile(r"vps[lr]|vpshld|v?p?(perm|shuf|unpck|insert|extract|align|blendw|compress)|vperm|v(shuf|unpck)"
                   r"|[us]shl|[us]shr|shl|shrn|usra|s[lr]i|zip|uzp|trn|ext|u?xtn|vpack|vpmov")  # fmt: skip
MOVE = re.compile(r"v(mov|p?broadcast)|ld|st|mov|dup|ins|umov|vzero|prfm")


def loop_of(distribution: str, dtype: str, arm: str) -> Iterator[str]:
    """Yield the instructions of one turn of the loop, as this process compiles it."""
    import numpy as np
    from numba import types

    from fastinit.kernels import processor

    if arm:  # before the kernels are imported
        processor.TRIPLE = TRIPLE
        processor.TARGET = processor.target_of(processor.TRIPLE, ())
        processor.BLOCKS = processor.TARGET.blocks
    from fastinit.kernels import compiler, cpu
    from fastinit.kernels.intrinsics import load_fields
    from fastinit.kernels.transforms import TRANSFORMS as ROWS

    parameters, real = ROWS[TRANSFORMS[distribution]].parameters, "float64" if dtype == "float64" else "float32"
    load, made = load_fields(parameters, getattr(types, real)), cpu.REQUESTS.get(dtype, cpu.Request)

    def groups(numbers, memory, key, to, block, count):  # type: ignore[no-untyped-def]
        transform = load(numbers)
        request = made(transform[0], transform[0], key, key)
        scratch = cpu._scratch(request.low, memory)
        cpu._groups(transform, scratch, request, to, np.int64(0), block, count, 1, 0)
        return 0

    arguments = ("int64", "int64", "uint64", "int64", "int64", "int64")
    module = compiler._linked(groups, arguments, "int64", "groups")
    if arm:
        target = machine_of(arm)
        module = retargeted(str(module), target)
    else:
        target = processor.machine()
    compiler._optimize(module, target)
    text = target.emit_assembly(module)
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    places = {line[:-1]: at for at, line in enumerate(lines) if line.endswith(":")}
    jumps = [(at, re.search(r"\.?LBB\w+", line)) for at, line in enumerate(lines) if re.match(r"[jbct]", line)]
    loops = [(at - places[name[0]], at) for at, name in jumps if name and places.get(name[0], at) < at]
    length, end = max(loops)
    yield from (line for line in lines[end - length : end] if line and line[0] not in ".L")


def counts(distribution: str, dtype: str, arm: str) -> Counter[str]:
    """Count the vector instructions of one turn: all, products, and shifts and shuffles; and its bytes."""
    found: Counter[str] = Counter()
    for line in loop_of(distribution, dtype, arm):
        name = line.split()[0]
        vector = re.search(r"\b[vq]\d+\b", line) if arm else name.startswith("v")
        if vector and not MOVE.match(name):
            found.update({"all": 1, "product": bool(PRODUCT.match(name)), "shift": bool(SHIFT.match(name))})
    from fastinit.kernels.processor import BLOCKS  # of the target that has been set

    found["bytes"] = BLOCKS * (2 if dtype == "float64" else 4) * DTYPES[dtype]
    return found


def cycles(processor: Processor, found: Counter[str]) -> float:
    """Return the least that one turn can take."""
    kinds = ("all", processor.pipes), ("product", processor.multipliers), ("shift", processor.shifters)
    return max(found[kind] / pipes for kind, pipes in kinds)


def table(processor: Processor) -> dict[tuple[str, str], tuple[Counter[str], float]]:
    """Return the counts and the limit, in bytes a cycle, of each distribution and dtype."""
    environment = os.environ | processor.chosen
    command = [sys.executable, "-m", "bench.model", "--count", processor.arm]
    printed = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    rows = {}
    for line in printed.splitlines():
        distribution, dtype, *numbers = line.split(",")
        rows[distribution, dtype] = Counter(
            dict(zip(("bytes", "all", "product", "shift"), map(int, numbers), strict=True))
        )
    result = {}
    for (distribution, dtype), found in rows.items():
        least = cycles(processor, found)
        if distribution == "truncated normal":  # a block an element, and half of what follows the words
            per_block = 2 if dtype == "float64" else 4
            words = cycles(processor, rows["uniform", dtype])
            least += REDRAWN * per_block * (words + (least - words) / (per_block / 2))
        result[distribution, dtype] = found, found["bytes"] / least
    return result


def measured(distribution: str, dtype: str, turns: int) -> float:
    """Return the GB/s of a fill of 64 MiB, by one thread, in its own time: others disturb that less."""
    import numpy as np

    import fastinit as fi
    from fastinit.core.dtypes import dtype_of

    init: Any = {"uniform": fi.uniform, "normal": fi.normal, "truncated normal": fi.truncated_normal}[distribution]()
    out = np.zeros((64 << 20) // DTYPES[dtype], dtype_of(dtype))
    found = []
    for _ in range(turns + 1):
        begin = time.process_time()
        fi.fill(out, init, seed=0, name="w", threads=1)
        found.append(out.nbytes / 1e9 / (time.process_time() - begin))
    return statistics.median(found[1:])


def main() -> None:
    """Print the counts and the limits, and beside those of this processor what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ghz", type=float, default=4.0, help="the clock of this processor while it fills")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--count", metavar="ARM", help="print the counts of this process's own target alone")
    given = parser.parse_args()
    if given.count is not None:  # in a process of its own, since the kernels take their target when imported
        for distribution in TRANSFORMS:
            for dtype in DTYPES:
                found = counts(distribution, dtype, given.count)
                print(distribution, dtype, *(found[key] for key in ("bytes", "all", "product", "shift")), sep=",")
        return
    print("| processor | kernel | bytes | vector | products | shifts | bytes/cycle | GB/s | measured |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, processor in PROCESSORS.items():
        for (distribution, dtype), (found, limit) in table(processor).items():
            numbers = " | ".join(str(found[key]) for key in ("bytes", "all", "product", "shift"))
            here = ""
            if not processor.chosen and not processor.arm:
                speed = measured(distribution, dtype, given.turns)
                here = f"{limit * given.ghz:.1f} | {speed:.1f}, {speed / limit / given.ghz:.2f} of it"
            print(f"| {name} | {distribution}, {dtype} | {numbers} | {limit:.2f} | {here or ' | '} |", flush=True)


if __name__ == "__main__":
    main()
