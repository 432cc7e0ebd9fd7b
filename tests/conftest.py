"""Fixtures of several test files: what the processor has, and the command as it is installed, in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinit_command
from tests.helpers import Done

SECONDS = 60.0  # that a command may take in the tests


@pytest.fixture(scope="session")
def flags() -> set[str]:
    """What the processor has, in Linux's words; empty where nobody says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())


class Overdue(BaseException):
    """A command has taken too long; nothing in the package catches this."""


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The installed command in this process: `command(*arguments, folder=where)` is its exit code, output and errors.

    It is interrupted where it takes longer than `SECONDS`; handlers of signals are put back.
    """

    def overdue(number: int, frame: Any) -> None:
        raise Overdue

    def run(*arguments: object, folder: Path | None = None) -> Done:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        before = signal.signal(signal.SIGALRM, overdue)
        capfd.readouterr()
        code: Any = 0
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["fastinit", *map(str, arguments)])
            patch.setattr(sys, "unraisablehook", sys.unraisablehook)
            patch.chdir(os.curdir if folder is None else folder)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                fastinit_command.main()
            except SystemExit as end:
                code = end.code
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        return Done(code or 0, *capfd.readouterr())

    return run
