"""The command ``fastinit``: the package's command line, interruptible while it is still being loaded."""

import signal


def main() -> None:
    """Load the command line, and run it.

    Loading takes some tenths of a second: an interrupt then ends the process in the system's way, without a traceback.
    """
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fastinit.cli.main import main as run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
