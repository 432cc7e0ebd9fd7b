"""Text for people: that of others quoted in one short line, with nothing in it that a terminal would obey."""

from __future__ import annotations

import sys
from contextlib import suppress

QUOTED = 200  # characters of a quotation
_BITS = 3 * QUOTED  # of an integer that is quoted digit by digit: Python refuses to write very long ones


def printable(text: str) -> str:
    r"""Return the text with every character escaped that is not printed as itself: controls, newlines, overrides.

    Examples
    --------
    >>> printable("w\x1b[2J\n")
    'w\\x1b[2J\\n'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def quoted(value: object) -> str:
    """Return the value's repr, printable and cut after `QUOTED` characters.

    Examples
    --------
    >>> quoted("fan_in"), len(quoted("x" * 1000))
    ("'fan_in'", 203)
    """
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = repr(value[: QUOTED + 1] if isinstance(value, (str, bytes)) else value)
    except Exception:  # an object's own
        text = f"<{type(value).__name__}>"
    text = printable(text)
    return text if len(text) <= QUOTED else text[:QUOTED] + "..."


def size_text(size: float) -> str:
    """Return a number of bytes as text, to four digits.

    Examples
    --------
    >>> size_text(40), size_text(12_346), size_text(6_400_000), size_text(1.5e9)
    ('40 B', '12.35 kB', '6.4 MB', '1.5 GB')
    """
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= u), (1, "B"))
    return f"{size / unit:.4g} {name}" if size < 1e12 else f"{size / unit:.0f} {name}"


def say(line: str) -> None:
    """Write one line on stderr, where there is one that can be written to."""
    with suppress(AttributeError, OSError, ValueError):  # None, a pipe that nobody reads, a closed file
        sys.stderr.write(f"fastinit: {line}\n")
        sys.stderr.flush()
