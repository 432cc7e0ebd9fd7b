"""The script of the batteries: its streams beside the reference, outputs of real runs, and runs of a small program."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench import batteries
from bench.batteries import MANY, STREAMS
from tests import reference

DATA = Path(__file__).parent / "data"
ROOT = DATA.parent.parent
COUNT, START = 4 * MANY * 3, (77 << batteries.PART) + 8 * MANY
PASSES, FAILS, CRUSH = (
    (DATA / name).read_text() for name in ("practrand-passes.txt", "practrand-fails.txt", "testu01.txt")
)


def numbers(start: int, count: int) -> reference.Words:
    return np.arange(start, start + count, dtype=np.uint64)


def in_turn(words: Callable[[int, reference.Words], reference.Words]) -> list[int]:
    """A word of each of the streams, then the next of each."""
    each = numbers(START // MANY, COUNT // MANY)
    return [int(word) for row in zip(*(words(k, each).tolist() for k in range(MANY)), strict=True) for word in row]


def of_attempt(attempt: int, index: reference.Words) -> reference.Words:
    blocks = reference.block_words(index // np.uint64(4), attempt, 0, "w")
    return blocks[np.arange(len(index)), (index % np.uint64(4)).astype(np.int64)]


def expected(stream: str) -> list[int]:
    """The words of a stream, by the reference."""
    if stream == "names":
        return in_turn(lambda k, index: reference.words(index, 0, f"w/{k}"))
    if stream == "seeds":
        return in_turn(lambda k, index: reference.words(index, k, "w"))
    if stream == "attempts":
        return in_turn(of_attempt)
    if stream == "low":
        low = bytes(word % 256 for word in reference.words(numbers(4 * START, 4 * COUNT), 0, "w").tolist())
        return [int.from_bytes(low[k : k + 4], "little") for k in range(0, len(low), 4)]
    words: list[int] = reference.words(numbers(START, COUNT), 0, "w").tolist()
    if stream == "reversed":
        return [int(f"{word:032b}"[::-1], 2) for word in words]
    return [word | 1 << 8 for word in words] if stream == "stuck" else words


@pytest.mark.parametrize("stream", STREAMS)
def test_streams_are_the_references(stream: str) -> None:
    words = STREAMS[stream][1](COUNT, START)
    assert words.dtype == np.uint32
    assert words.tolist() == expected(stream)


def test_words_are_written_without_end_and_without_gaps() -> None:
    size = batteries.BLOCK + 5
    command = [sys.executable, "-m", "bench.batteries", "words", "names", "--start", str(1 << batteries.PART)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as source:
        assert source.stdout
        assert source.stderr
        written = np.frombuffer(source.stdout.read(4 * size), "<u4")
        source.stdout.close()  # as a battery does when it has enough
        assert "Error" not in source.stderr.read().decode()
    assert source.returncode == 0
    np.testing.assert_array_equal(written, STREAMS["names"][1](2 * batteries.BLOCK, 1 << batteries.PART)[:size])


def test_outputs_of_practrand_are_read() -> None:
    assert batteries.practrand(PASSES) == (30, 194, [])
    failed = batteries.practrand(FAILS)
    assert failed
    assert (failed.log2_bytes, failed.results, len(failed.anomalies)) == (28, 168, 41)
    assert failed.failed
    assert failed.anomalies[-13] == "BRank(12):128(4), p = 2.9e-8, suspicious"
    cut = PASSES.index("no anomalies in 194")  # as a run is that was stopped
    assert batteries.practrand(PASSES[:cut]) == (29, 180, [])
    assert batteries.practrand(PASSES[:100]) is None


def test_outputs_of_testu01_are_read() -> None:
    found = batteries.testu01(CRUSH)
    assert [name for name, _ in found] == [f"RandomWalk1 {letter}" for letter in "HMJRC"]
    assert found[0][1] == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match="must end with END"):
        batteries.testu01(CRUSH[:-2])


def program(folder: Path, text: str) -> Path:
    """A battery: it takes the first words, and says what it was asked for."""
    file = folder / "program"
    file.write_text(f"#!/bin/bash\nhead -c 4096 | cksum\n{text}\n")
    file.chmod(0o755)
    return file


def run(*arguments: str | Path) -> None:
    found = CliRunner().invoke(batteries.main, ["run", *map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == 0, found.output


def test_a_battery_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    results = tmp_path / "results"
    options: list[str | Path] = ["--results", results, "--program"]
    good = program(tmp_path, 'echo "$@"; echo "RESULT 5e-4 A B"; echo "RESULT 0.5 C"; echo END')
    run("SmallCrush", "one", "--first", "2", "--last", "3", *options, good)
    folder = results / "SmallCrush" / "one"
    assert sorted(file.name for file in folder.iterdir()) == ["002.txt", "003.txt"]
    texts = [(folder / name).read_text().split() for name in ("002.txt", "003.txt")]
    assert texts[0][:2] != texts[1][:2]  # words of their own
    assert texts[1][2:4] == ["SmallCrush", "3"]

    row, notes = batteries.cells("one", results)
    assert row == ["one tensor", "not run", "2 of 10 tests: 4 p-values, 2 suspect", "not run", "not run"]
    assert notes == [
        "one, SmallCrush: tests 1, 4-10 were not run",
        "one, SmallCrush: test 2, A B, p = 0.0005",
        "one, SmallCrush: test 3, A B, p = 0.0005",
    ]

    for broken in ("echo RESULT 0.5 C", "echo END; exit 1"):  # not whole, and failed
        with pytest.raises((ValueError, RuntimeError)):
            run("SmallCrush", "one", "--last", "3", *options, program(tmp_path, broken))
        assert not (folder / "001.txt").exists()
    run("SmallCrush", "one", "--last", "3", *options, program(tmp_path, 'echo "RESULT 0.5 C"; echo END'))
    assert "RESULT 0.5 C" in (folder / "001.txt").read_text()
    assert (folder / "002.txt").read_text().split() == texts[0]  # not run again


def test_practrand_is_run_until_it_reaches_its_length(tmp_path: Path) -> None:
    output = tmp_path / "PractRand" / "low.txt"
    passes = f'cat "{DATA}/practrand-passes.txt"'
    run("PractRand", "low", "--log2-bytes", "30", "--results", tmp_path, "--program", program(tmp_path, passes))
    assert output.read_text().endswith(PASSES)
    fails = program(tmp_path, f'cat "{DATA}/practrand-fails.txt"')
    run("PractRand", "low", "--log2-bytes", "30", "--results", tmp_path, "--program", fails)
    assert output.read_text().endswith(PASSES)
    run("PractRand", "low", "--log2-bytes", "31", "--results", tmp_path, "--program", fails)
    run("PractRand", "low", "--log2-bytes", "31", "--results", tmp_path, "--program", program(tmp_path, passes))
    assert output.read_text().endswith(FAILS)
    row, notes = batteries.cells("low", tmp_path)
    assert row[:3] == ["the low bytes", "2^28 bytes: 168 results, 41 anomalies, FAIL", "not run"]
    assert notes[0] == "low, PractRand: BCFN(2+0,13-2,T), p = 0, FAIL !!!!!!!!"
    assert len(notes) == batteries.MOST_NOTES


def test_the_table_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"a\n{batteries.BEGIN}\nold\n{batteries.END}\nb\n")
    done = CliRunner().invoke(
        batteries.main, ["table", "--results", str(tmp_path), "--page", str(page)], catch_exceptions=False
    )
    assert done.exit_code == 0
    lines = page.read_text().splitlines()
    assert lines[:2] + lines[-2:] == ["a", batteries.BEGIN, batteries.END, "b"]
    assert [re.split(r" *\| *", line)[1] for line in lines[4 : 4 + len(STREAMS)]] == [s for s, _ in STREAMS.values()]


def test_numbers_in_spans() -> None:
    assert batteries.spans([]) == ""
    assert batteries.spans([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
