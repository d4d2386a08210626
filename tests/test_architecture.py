"""The page on the architecture names every file, and no file that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "slardar"
#: The kinds of files of the package.
SUFFIXES = (".py", ".pyi", ".pxd", ".pyx", ".lua", ".sql", ".css", ".html", ".js", ".svg")


def listed() -> list[str]:
    """The files of the page's tables, one in each row."""
    (part,) = re.findall(r"^## Every file$(.*?)^## ", PAGE.read_text("utf-8"), re.M | re.S)
    return re.findall(r"^\| `([^`]+)` \| \S.*\|$", part, re.M)


def test_every_file_is_named_once() -> None:
    """A new file needs a line that says what it is for."""
    there = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts
    }
    named = listed()
    assert sorted(named) == sorted(there)


def test_every_other_path_is_there() -> None:
    """This holds for the pictures and the table of new parts."""
    text = re.sub(r"^## Every file$.*?^## ", "## ", PAGE.read_text("utf-8"), flags=re.M | re.S)
    paths = set(re.findall(r"(?<![/\w])(?:[a-z0-9_]+/)+(?:[a-z0-9_]+\.[a-z]+)?", text))
    paths |= set(re.findall(r"`([a-z_]+\.(?:py|md|pyi))`", text))
    assert len(paths) > 30
    for path in sorted(paths):
        places = (ROOT / path, PACKAGE / path, PAGE.parent / path)
        found = any(place.exists() for place in places) or any(PACKAGE.rglob(path))
        assert found, path
