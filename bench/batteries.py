"""Outside batteries of tests on raw words: PractRand, and SmallCrush, Crush and BigCrush of TestU01.

``python -m bench.batteries words STREAM`` writes words to standard output without end. The streams are those of
`STREAMS`. ``run BATTERY STREAM ... --program PATH`` feeds them to a battery, and keeps its outputs under
bench/results/quality; what is there already is not run again, so that a run may be stopped at any time, and several may
share the tests. ``table`` says what was run: it writes a table between the two markers of docs/benchmarks.md.

PractRand reads a stream from its beginning. Of TestU01, each test is run by itself, and test k reads from word k 2**36
on: so no two tests of a battery see the same words, and any of them can be run again alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

import fastinit as fi
from bench.report import ROOT, put, table
from fastinit.cli.words import in_turn, write_all
from fastinit.core.keys import key_of, stream_of
from fastinit.sampling.cpu import Tiles
from fastinit.sampling.lowering import raw_words
from fastinit.sampling.threads import run as run_tasks

Words = np.ndarray[Any, np.dtype[np.uint32]]

BEGIN, END = "<!-- batteries table -->", "<!-- /batteries table -->"
RESULTS = ROOT / "bench/results/quality"
SEED, NAME = 0, "w"
MANY = 256  # streams that are interleaved
BLOCK = 1 << 21  # words that are made at once: of an interleaved stream 2**13, whose call costs 20 microseconds
PART = (
    36  # log2 of the words from the beginning of a test of TestU01 to the next one's; all of BigCrush's read some 2**38
)
TESTS = {"SmallCrush": 10, "Crush": 96, "BigCrush": 106}
MOST_NOTES = 3  # of a cell of the table
SUSPECT = 1e-3  # TestU01 lists p-values nearer to 0 or 1

# Sources: words from a number on
Source = Callable[[int, int], Words]


def one(count: int, start: int) -> Words:
    """Return the words of one tensor."""
    return fi.words(count, seed=SEED, name=NAME, start=start, threads=1)


def of_attempt(attempt: int, count: int, start: int) -> Words:
    """Return the words of another attempt, which `fastinit.words` does not."""
    out = np.empty(count, np.uint32)
    tiles = Tiles.of(raw_words(), out.shape, out.strides, (start + count,), (start,), attempt)
    run_tasks(*tiles.jobs(out, np.uint64(key_of(SEED)), np.uint64(stream_of(NAME)), 1), 1)
    return out


def interleaved(streams: list[Source]) -> Source:
    """Return a source of one word of each stream, then the next of each."""

    def words(count: int, start: int) -> Words:
        each, first = count // len(streams), start // len(streams)
        return np.asarray(in_turn([stream(each, first) for stream in streams]))

    return words


def names(k: int) -> Source:
    """Return the k-th tensor's words."""
    return lambda count, start: fi.words(count, seed=SEED, name=f"{NAME}/{k}", start=start, threads=1)


def seeds(k: int) -> Source:
    """Return the words of the k-th seed."""
    return lambda count, start: fi.words(count, seed=SEED + k, name=NAME, start=start, threads=1)


def attempts(k: int) -> Source:
    """Return the words of the k-th attempt."""
    return lambda count, start: of_attempt(k, count, start)


def low(count: int, start: int) -> Words:
    """Return the low bytes of four words as one."""
    return one(4 * count, 4 * start).astype(np.uint8).view("<u4")


def reversed_bits(count: int, start: int) -> Words:
    """Return words with their bits in reverse order."""
    words = one(count, start)
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F)):
        words = ((words >> np.uint32(shift)) & np.uint32(mask)) | ((words & np.uint32(mask)) << np.uint32(shift))
    return words.byteswap()


def stuck(count: int, start: int) -> Words:
    """Return words whose bit 8 is set: the negative control, which must fail."""
    return one(count, start) | np.uint32(1 << 8)


STREAMS: dict[str, tuple[str, Source]] = {
    "one": ("one tensor", one),
    "names": (f"{MANY} names, a word of each in turn", interleaved([names(k) for k in range(MANY)])),
    "seeds": (f"{MANY} seeds, a word of each in turn", interleaved([seeds(k) for k in range(MANY)])),
    "attempts": (f"{MANY} attempts, a word of each in turn", interleaved([attempts(k) for k in range(MANY)])),
    "low": ("the low bytes", low),
    "reversed": ("bits reversed", reversed_bits),
    "stuck": ("negative control: bit 8 set", stuck),
}


# What the batteries say


class PractRand(NamedTuple):
    """What an output of PractRand says of the longest length that it reached."""

    log2_bytes: float
    results: int
    anomalies: list[str]  # test, and how PractRand calls it

    @property
    def failed(self) -> bool:
        """Whether PractRand says so."""
        return any("FAIL" in anomaly for anomaly in self.anomalies)


def practrand(text: str) -> PractRand | None:
    """Read an output of PractRand; None if it has reached no length yet."""
    found = None
    parts = re.split(r"^length= .*\(2\^([0-9.]+) bytes\).*$", text, flags=re.MULTILINE)
    for exponent, part in zip(parts[1::2], parts[2::2], strict=True):
        if normal := re.search(r"(?:no anomalies in|\.\.\.and) (\d+) test result", part):  # the last line of a length
            lines = re.findall(r"^  (\S+) +R[=>] *\S+ +p *~?= *(\S+) +(\S.*?) *$", part, flags=re.MULTILINE)
            anomalies = [f"{test}, p = {p}, {said}" for test, p, said in lines]
            found = PractRand(float(exponent), int(normal[1]) + len(lines), anomalies)
    return found


def testu01(text: str) -> list[tuple[str, float]]:
    """Read an output of testu01_stdin: names and p-values.

    Raises
    ------
    ValueError
        If it is not whole.
    """
    if not text.endswith("\nEND\n"):
        raise ValueError(f"an output of testu01_stdin must end with END, got {text[-40:]!r}")
    return [(name, float(p)) for p, name in re.findall(r"^RESULT (\S+) (.*)$", text, flags=re.MULTILINE)]


# Runs


def feed(stream: str, start: int, command: list[str], output: Path) -> None:
    """Run a battery on a stream, its output into a file.

    Raises
    ------
    RuntimeError
        If one of the two programs fails.
    """
    words = [sys.executable, "-m", "bench.batteries", "words", stream, "--start", str(start)]
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as file, subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as source:
        assert source.stdout
        code = subprocess.call(command, stdin=source.stdout, stdout=file)
        source.stdout.close()
    if code or source.returncode:
        raise RuntimeError(f"{command} ended with {code}, and its words with {source.returncode}: see {output}")


def run_practrand(stream: str, program: Path, log2_bytes: int, results: Path) -> None:
    """Run PractRand unless it has reached this length, or failed; each length of an output stands for itself."""
    output = results / "PractRand" / f"{stream}.txt"
    before = practrand(output.read_text()) if output.exists() else None
    if before is None or not (before.failed or before.log2_bytes >= log2_bytes):
        command = [str(program), "stdin32", "-tlmax", str(log2_bytes), "-singlethreaded"]
        feed(stream, 0, command, output)


def run_testu01(battery: str, stream: str, program: Path, numbers: range, results: Path) -> None:
    """Run those tests that have no output yet; an output gets its name when it is whole."""
    for number in numbers:
        output = results / battery / stream / f"{number:03}.txt"
        if not output.exists():
            part = output.with_suffix(f".{os.getpid()}.part")
            feed(stream, number << PART, [str(program), battery, str(number)], part)
            testu01(part.read_text())
            part.rename(output)


# The table


def cells(stream: str, results: Path) -> tuple[list[str], list[str]]:
    """Return a row of the table, and sentences on what is no pass."""
    row, notes = [STREAMS[stream][0]], []
    output = results / "PractRand" / f"{stream}.txt"
    reached = practrand(output.read_text()) if output.exists() else None
    if reached:
        said = f"{len(reached.anomalies)} anomalies" + (", FAIL" if reached.failed else "")
        row.append(f"2^{reached.log2_bytes:g} bytes: {reached.results} results, {said}")
        notes += [f"{stream}, PractRand: {anomaly}" for anomaly in reached.anomalies[:MOST_NOTES]]
    else:
        row.append("not run")
    for battery, tests in TESTS.items():
        outputs = {int(file.stem): testu01(file.read_text()) for file in (results / battery / stream).glob("*.txt")}
        pvalues = [(k, name, p) for k in sorted(outputs) for name, p in outputs[k]]
        suspect = [found for found in pvalues if not SUSPECT <= found[2] <= 1 - SUSPECT]
        missing = [k for k in range(1, tests + 1) if k not in outputs]
        row.append(f"{len(outputs)} of {tests} tests: {len(pvalues)} p-values, {len(suspect)} suspect")
        if not outputs:
            row[-1] = "not run"
        elif missing:
            notes.append(f"{stream}, {battery}: tests {spans(missing)} were not run")
        notes += [f"{stream}, {battery}: test {k}, {name}, p = {p:.3g}" for k, name, p in suspect[:MOST_NOTES]]
    return row, notes


def spans(numbers: list[int]) -> str:
    """Return ascending numbers, runs of them as first-last.

    Examples
    --------
    >>> spans([1, 2, 3, 7])
    '1-3, 7'
    """
    firsts = [k for k in numbers if k - 1 not in numbers]
    lasts = [k for k in numbers if k + 1 not in numbers]
    return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in zip(firsts, lasts, strict=True))


def summary(results: Path) -> str:
    """Return the table, and a list of what is no pass."""
    rows, notes = zip(*(cells(stream, results) for stream in STREAMS), strict=True)
    listed = [f"- {note}" for some in notes for note in some]
    return "\n".join([table(["stream", "PractRand", *TESTS], list(rows)), "", *listed])


# The command


@click.group(help=__doc__)
def main() -> None:
    """Run batteries, or say what was run."""


@main.command()
@click.argument("stream", type=click.Choice(list(STREAMS)))
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="The first word.")
def words(stream: str, start: int) -> None:
    """Write the words of STREAM to standard output, little-endian and without end."""
    source = STREAMS[stream][1]
    with suppress(BrokenPipeError), ThreadPoolExecutor(1) as writer:
        written = writer.submit(write_all, np.empty(0, np.uint32))
        while True:
            block = source(BLOCK, start).astype("<u4", copy=False)
            written.result()
            written = writer.submit(write_all, block)  # while the next words are made
            start += BLOCK


@main.command()
@click.argument("battery", type=click.Choice(["PractRand", *TESTS]))
@click.argument("streams", metavar="STREAM...", nargs=-1, required=True, type=click.Choice(list(STREAMS)))
@click.option("--program", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              help="PractRand's RNG_test, or testu01_stdin: see bench/testu01_stdin.c.")  # fmt: skip
@click.option("--log2-bytes", type=click.IntRange(20, 50), default=34, show_default=True, help="PractRand's length.")
@click.option("--first", type=click.IntRange(1), default=1, show_default=True, help="The first test of TestU01.")
@click.option("--last", type=click.IntRange(1), help="The last one.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def run(
    battery: str, streams: list[str], program: Path, log2_bytes: int, first: int, last: int | None, results: Path
) -> None:
    """Run BATTERY on each STREAM, unless its output is there."""
    for stream in streams:
        if battery == "PractRand":
            run_practrand(stream, program.resolve(), log2_bytes, results)
        else:
            numbers = range(first, min(last or TESTS[battery], TESTS[battery]) + 1)
            run_testu01(battery, stream, program.resolve(), numbers, results)


@main.command("table")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--page", type=click.Path(path_type=Path), default=ROOT / "docs/benchmarks.md", show_default=True)
def write_table(results: Path, page: Path) -> None:
    """Write what was run into the page, between its two markers."""
    text = summary(results)
    put(page, BEGIN, END, text)
    print(text)


if __name__ == "__main__":
    main()
