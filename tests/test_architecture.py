"""The map for those who change slardar: it names every file, and no file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "slardar"
#: What is not Python is the package's, too.
SUFFIXES = (".py", ".pyi", ".lua", ".sql")


def listed() -> list[str]:
    """The files of the page's tables, one in each row."""
    (part,) = re.findall(r"^## Every file$(.*?)^## ", PAGE.read_text("utf-8"), re.M | re.S)
    return re.findall(r"^\| `([^`]+)` \| \S.*\|$", part, re.M)


def test_every_file_is_named_once() -> None:
    """Whoever adds a file says in one line what it is for."""
    there = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts
    }
    named = listed()
    assert sorted(named) == sorted(there)


def test_every_other_path_is_there() -> None:
    """In the pictures and the table of where a new part goes."""
    text = re.sub(r"^## Every file$.*?^## ", "## ", PAGE.read_text("utf-8"), flags=re.M | re.S)
    paths = set(re.findall(r"(?<![/\w])(?:[a-z0-9_]+/)+(?:[a-z0-9_]+\.[a-z]+)?", text))
    paths |= set(re.findall(r"`([a-z_]+\.(?:py|md|pyi))`", text))
    assert len(paths) > 30
    for path in sorted(paths):
        places = (ROOT / path, PACKAGE / path, PAGE.parent / path)
        found = any(place.exists() for place in places) or any(PACKAGE.rglob(path))
        assert found, path
