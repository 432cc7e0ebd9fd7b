"""The group of commands, and the end of the process: its signals, errors and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

try:
    import click
    import rich  # noqa: F401 - which shows progress and tables
except ImportError as error:
    raise SystemExit(f"the command line needs {error.name}: pip install fastinit-weights[cli]") from None

from fastinit import __version__
from fastinit.cli import fill, init, manifest, propagate, recipe, recommend, verify, warmup, words
from fastinit.core.text import printable


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastinit")
def cli() -> None:
    """Initialize neural-network weights at the speed of the memory, with the same values everywhere."""


for _one in (init, manifest, recipe, fill, warmup, propagate, recommend, verify, words):
    cli.add_command(_one.command)


def _terminated(number: int, frame: object) -> NoReturn:
    """End the process by an exception, so that no partial file is left."""
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
    """Run the command line; an error is one line on standard error and exit code 1, an interrupt 130."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # Windows has no terminal that hangs up
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _terminated)
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
    """Print the error in one line, and exit."""
    text = printable(str(error) or type(error).__name__)
    click.echo(f"fastinit: {text if len(text) <= _MESSAGE else text[:_MESSAGE] + '...'}", err=True)
    sys.exit(code)
