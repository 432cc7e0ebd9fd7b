"""What is printed of others' text, and the name under which the package is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastinit.core.text import QUOTED, printable, quoted

ROOT = Path(__file__).parent.parent
HOSTILE = ["\x1b]0;title\x07", "\x1b[2J", "a\npassed: 2 tensors", "\u202egnp", "\r", "\x9b31m", "\ud800", "\x00"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_printed_is_obeyed_by_a_terminal(text: str) -> None:
    for shown in (printable(text), quoted(text), quoted({text: [text]})):
        assert shown.isprintable()
        shown.encode()


def test_what_is_printed_as_itself_stays() -> None:
    assert printable("größe, 重み 0.5") == "größe, 重み 0.5"


class Silent:
    """An object whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", ["x" * 10**6, [1] * 1000, 10**10_000, b"\0" * 999, Silent()], ids=lambda v: type(v))
def test_quotations_are_short(value: object) -> None:
    assert len(quoted(value)) <= QUOTED + 3
    assert quoted(value).isprintable()


def test_nothing_tells_a_user_to_install_another_project() -> None:
    """On the package index ``fastinit`` is somebody else's; this distribution is fastinit-weights."""
    files = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "pyproject.toml"]
    files += [path for folder in ("fastinit", "bench", "tests") for path in (ROOT / folder).rglob("*.py")]
    other = re.compile(r"install (-\S+ )*['\"]?fastinit(?!-weights)\b|\bfastinit\[")
    for path in files:
        assert path == Path(__file__) or not other.search(path.read_text(encoding="utf-8")), path
    assert other.search("pip install 'fastinit[cuda]'")
    assert other.search("pip install -U fastinit")
    assert not other.search("pip install 'fastinit-weights[cli]'")
