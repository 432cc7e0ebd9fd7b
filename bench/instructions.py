"""Count the instructions of the innermost loops on processors that are not here: ``python -m bench.instructions``.

LLVM compiles for any processor. This compiles the loop from the counter to the stored line for aarch64, with Philox's
words in lanes of 32 and of 64 bits and for groups of some sizes, and reads the assembly. Figures are for 64 bytes
stored. With ``--mca llvm-mca``, LLVM's model of the processor tells how many cycles they take.
"""

# The loop is compiled, and its types are those of its arguments.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TRIPLE = "aarch64-unknown-linux-gnu"
CPUS = "cortex-a72", "neoverse-n1", "neoverse-v1", "neoverse-v2", "apple-m1"
KINDS = "uniform float32", "normal float32", "uniform float64", "normal float64"
WIDTHS = {"w": 4, "s": 4, "x": 8, "d": 8, "q": 16, "v": 16, "z": 16}  # bytes of a register
ITERATIONS = 50


class Row(NamedTuple):
    """A loop, and its figures for 64 bytes stored."""

    kind: str
    cpu: str
    lane_bits: int
    blocks: int
    instructions: float
    spills: float  # of 16 bytes
    loads: float  # of 16 bytes: spilled registers, constants, and what the lanes of a group add to its first block
    cycles: float | None


def innermost(assembly: str) -> list[str]:
    """Return the instructions of the shortest loop that multiplies vectors."""
    lines = [line.split("//")[0].strip() for line in assembly.splitlines()]
    places, body = {}, list[str]()
    for line in lines:
        if line.endswith(":"):
            places[line[:-1]] = len(body)
        elif line and not line.startswith("."):
            body.append(line)
    loops = [
        body[places[label] : end + 1]
        for end, line in enumerate(body)
        if re.match(r"(b|b\.\w+|cbn?z|tbn?z)\s", line) and places.get(label := line.split()[-1].lstrip("#"), end) < end
    ]
    return min((loop for loop in loops if any(re.match(r"umull2?\s+v", line) for line in loop)), key=len)


def moved(loop: Sequence[str], mnemonic: str) -> int:
    """Return the bytes of the registers that instructions load or store."""
    operands = [line.split("[")[0].split(None, 1)[1] for line in loop if re.match(mnemonic, line)]
    return sum(WIDTHS[kind] for text in operands for kind in re.findall(r"\b([wsxdqvz])\d+", text))


def cycles(loop: Sequence[str], cpu: str, command: str) -> float:
    """Return the cycles of an iteration, by llvm-mca."""
    text = "\n".join(line for line in loop if not re.match(r"(b|b\.\w+|cbn?z|tbn?z)\s", line))
    options = ["-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}", "-noalias"]
    done = subprocess.run([command, *options], input=text, capture_output=True, text=True, check=True)
    (total,) = re.findall(r"Total Cycles:\s+(\d+)", done.stdout)
    return int(total) / ITERATIONS


def machine_of(cpu: str) -> Any:
    """Return LLVM's description of an ARM processor."""
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, opt=3)


def retargeted(text: str, machine: Any) -> Any:
    """Return the module of LLVM's text that was written for the processor that is here, for an ARM one."""
    from llvmlite import binding

    text = re.sub('target triple = ".*"', f'target triple = "{TRIPLE}"', text)
    return binding.parse_assembly(
        re.sub('target datalayout = ".*"', f'target datalayout = "{machine.target_data}"', text)
    )


def unoptimized(kind: str) -> str:
    """Return what Numba gives LLVM to optimize, for the target that has been set."""
    import inspect

    import numpy as np
    from numba import njit, typeof, types

    from fastinit.kernels import cpu, processor
    from fastinit.kernels.intrinsics import broadcast, interleave, load_lanes, store_nontemporal, words_of
    from fastinit.kernels.philox import HALF, LOW, philox
    from fastinit.kernels.transforms import TRANSFORMS

    name, dtype = kind.split()
    real = getattr(np, dtype)
    row = TRANSFORMS[name]
    transform_class, draw, blocks = row.parameters, row.pair, processor.BLOCKS
    assert draw is not None

    @njit
    def loop(parameters, low, lanes, to, first, groups, key, stream):
        transform, c1 = transform_class(*parameters), words_of(broadcast(first >> HALF))
        c2, c3 = words_of(broadcast(stream & LOW)), words_of(broadcast(stream >> HALF))
        for group in range(groups):
            some = load_lanes(lanes) + (first + np.uint64(blocks) * np.uint64(group))
            a, b = cpu._pairs(low, philox(words_of(some), c1, c2, c3, key & LOW, key >> HALF))
            one, other = draw(transform, a, b)
            store_nontemporal(to + 16 * blocks * group, interleave(one, other))

    number, whole, long = typeof(real(0)), types.int64, types.uint64
    parameters = types.UniTuple(number, len(inspect.signature(transform_class).parameters))
    signature = (parameters, number, whole, whole, long, whole, long, long)
    loop.compile(signature)
    text: str = loop.inspect_llvm(signature)
    return text


def rows(kinds: Sequence[str], cpus: Sequence[str], mca: str | None) -> Iterator[Row]:
    """Yield the figures of the target that has been set."""
    from llvmlite import binding

    from fastinit.kernels.processor import TARGET

    for kind in kinds:
        raw = unoptimized(kind)
        for cpu in cpus:
            machine = machine_of(cpu)
            module = retargeted(raw, machine)
            tuning = binding.create_pipeline_tuning_options(speed_level=3)
            tuning.loop_vectorization = tuning.slp_vectorization = True
            passes = binding.create_pass_builder(machine, tuning)
            passes.getModulePassManager().run(module, passes)
            loop = innermost(machine.emit_assembly(module))
            own = 16 * TARGET.blocks
            share = 64 / own
            yield Row(
                kind,
                cpu,
                TARGET.lane_bits,
                TARGET.blocks,
                len(loop) * share,
                (moved(loop, r"st") - own) / 16 * share,
                moved(loop, r"ld") / 16 * share,
                cycles(loop, cpu, mca) * share if mca else None,
            )


def measured(
    lane_bits: int, blocks: int, kinds: Sequence[str] = KINDS, cpus: Sequence[str] = CPUS, mca: str | None = None
) -> list[Row]:
    """Return the figures of a target, from a process of its own: the kernels take theirs when they are imported."""
    source = (
        "import json, sys; from fastinit.kernels import processor; given = json.loads(sys.argv[1]);"
        "processor.TARGET = processor.TARGET._replace(vector_bits=128, compresses=0, **given[0]);"
        "processor.BLOCKS = processor.TARGET.blocks; from bench import instructions;"
        "print(json.dumps(list(instructions.rows(*given[1:]))))"
    )
    given = json.dumps([{"lane_bits": lane_bits, "blocks": blocks}, list(kinds), list(cpus), mca])
    environment = {**os.environ, "NUMBA_OPT": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", source, given], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return [Row(*row) for row in json.loads(done.stdout)]


def main() -> None:
    """Print a table: a row for each loop and processor, a column for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--cpus", nargs="+", default=CPUS)
    parser.add_argument("--mca", help="the command llvm-mca, of LLVM's tools")
    options = parser.parse_args()
    targets = [(bits, blocks) for bits in (64, 32) for blocks in options.blocks]
    found = [row for target in targets for row in measured(*target, cpus=options.cpus, mca=options.mca)]
    print("| loop | processor |", " | ".join(f"{bits} bits, {blocks}" for bits, blocks in targets), "|")
    print("| --- | --- |", " | ".join("---" for _ in targets), "|")
    for kind in KINDS:
        for cpu in options.cpus:
            some = [row for row in found if (row.kind, row.cpu) == (kind, cpu)]
            cells = [f"{row.instructions:.0f}, {row.spills:.1f}, {row.loads:.1f}" for row in some]
            if options.mca:
                cells = [f"{cell}, {row.cycles:.0f}" for cell, row in zip(cells, some, strict=True)]
            print(f"| {kind} | {cpu} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
