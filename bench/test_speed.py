"""The measurements, as pytest-benchmark takes them; `python -m bench.report` runs them and renders the result."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.conftest import HUGE, SIZES, TINY, wrong
from bench.contenders import ALL, CONTENDERS, UNIFORM, Array, Case, check, pages

CHECKED = 16 << 20  # bytes of the largest array that is checked
ROUND = 0.01  # seconds that a round of a small case should take at least
ENOUGH = 4.0  # seconds after which a case takes no more turns

iterations: dict[Case, int] = {}
spent: dict[Case, float] = {}


@pytest.fixture(scope="module")
def memory(request: pytest.FixtureRequest) -> Array:
    """The warm buffer of all cases, on a page's boundary."""
    size = (TINY if request.config.getoption("tiny") else SIZES)[-1]
    memory = pages(size)
    memory[...] = 1
    return memory


def checked(case: Case, memory: Array) -> float:
    """Fill over NaNs and check, on a size that does not take long; the seconds of a second fill."""
    small = replace(case, nbytes=min(case.nbytes, CHECKED, memory.nbytes))
    fill, out = CONTENDERS[case.contender].make(small), small.of(memory)
    out[...] = np.nan
    result = fill(out)
    check(small, out if CONTENDERS[case.contender].in_place else result)
    begin = time.perf_counter()
    fill(out)
    return time.perf_counter() - begin


def test_fill(benchmark: Any, pytestconfig: pytest.Config, turn: int, case: Case, memory: Array) -> None:
    """One fill, or as many as a round takes; in the first turn, its values are checked before."""
    row = CONTENDERS[case.contender]
    name = f"{case.contender}, {case.distribution}, {case.dtype}"
    if spent.get(case, 0) >= ENOUGH:
        pytest.skip("slow: it had its turns")
    if name in wrong:
        pytest.skip("wrong")
    if turn == 0:
        try:
            seconds = checked(case, memory)
        except ValueError as error:
            wrong[name] = str(error)
            pytest.xfail(str(error))
        once = case.nbytes > CHECKED or pytestconfig.getoption("tiny")
        iterations[case] = 1 if once else max(1, min(1000, int(ROUND / seconds)))
    benchmark.extra_info.update(asdict(case), library=row.library, in_place=row.in_place, turn=turn)
    if not row.in_place:  # a hypervisor takes back what lies free for seconds: its return is nobody's work
        pages(case.nbytes).fill(1)
    begin = time.perf_counter()
    benchmark.pedantic(row.make(case), (case.of(memory),), iterations=iterations[case])
    spent[case] = spent.get(case, 0) + time.perf_counter() - begin


def status(field: str) -> int:
    """A figure of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def test_peak_memory(benchmark: Any, request: pytest.FixtureRequest) -> None:
    """What a large fill needs besides its buffer."""
    case = Case("fastinit.fill", UNIFORM, "float32", TINY[-1] if request.config.getoption("tiny") else HUGE, ALL)
    out = case.empty()
    out.view(np.uint8).reshape(-1)[::4096] = 0  # all of its pages are there
    fill = CONTENDERS[case.contender].make(case)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    benchmark.pedantic(fill, (out,))
    extra = max(0, status("VmHWM") - before)
    benchmark.extra_info.update(contender="peak memory", nbytes=case.nbytes, extra_bytes=extra, turn=0)


FIRST = "import fastinit as fi, os; fi.array(1024, fi.normal(), seed=0, name='w'); os._exit(0)"


def test_first_call(benchmark: Any, turn: int) -> None:
    """From the start of an interpreter to its first filled array, the kernels' cache being warm."""

    def start() -> None:
        subprocess.run([sys.executable, "-c", FIRST], check=True, env=dict(os.environ))

    if turn == 0:
        start()
    benchmark.pedantic(start)
    benchmark.extra_info.update(contender="first call", turn=turn)
