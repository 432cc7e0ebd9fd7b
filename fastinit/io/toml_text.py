"""The text of a recipe: TOML, bounded, with the lines of its tables and keys for errors."""

from __future__ import annotations

import re
from typing import Any

from fastinit.core.text import printable

_LINE = 500  # characters
_HEADER = re.compile(r"\s*\[\[\s*rule\s*\]\]\s*(#.*)?")


def toml_of(place: str, text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises
    ------
    ValueError
        If it is none, a line is too long, or it is nested too deeply.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found, no-redef, unused-ignore]
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LINE:  # the parser takes the square of the dots in a key
            raise ValueError(f"{place}: line {number} must have {_LINE} characters at most, got {len(line)}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{place}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{place}: {printable(str(error))}") from None


class Lines:
    """Line numbers of the ``[[rule]]`` tables of a TOML text, which its parser does not give.

    Parameters
    ----------
    text
        A text that is TOML.
    rules
        How many rules it has. Where another number of lines looks like a header (one in a string of several lines, or
        an array that is written otherwise), no line is known, and all are 0.
    """

    def __init__(self, text: str, rules: int) -> None:
        self._lines = text.split("\n")
        headers = [number for number, line in enumerate(self._lines, 1) if _HEADER.fullmatch(line)]
        self._headers = headers if len(headers) == rules else [0] * rules

    def of_rule(self, number: int) -> int:
        """Return the line of a rule's header; rules are counted from 1."""
        return self._headers[number - 1]

    def of_key(self, number: int, key: str) -> int:
        """Return the line of a rule's key, 0 where none looks like it."""
        start = self.of_rule(number)
        if start == 0:
            return 0
        for at, line in enumerate(self._lines[start:], start + 1):
            if line.lstrip().startswith("["):
                break
            if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return at
        return 0
