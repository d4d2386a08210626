"""The pages for users: their fenced blocks, and the commands in them as a shell reads them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.integration.programs import CHECKOUT

__all__ = [
    "DOCS",
    "EVERY_PAGE",
    "PAGES",
    "Block",
    "Command",
    "Written",
    "blocks",
    "code_spans",
    "commands",
    "fences",
    "simple_commands",
    "written",
]

DOCS = CHECKOUT / "docs"
#: The book, and its first page.
PAGES = [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md"))]
#: All pages that show commands.
EVERY_PAGE = [*PAGES, CHECKOUT / "CONTRIBUTING.md", *sorted(CHECKOUT.glob("examples/**/README.md"))]

_FENCE = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2$", re.DOTALL | re.MULTILINE)
#: What ends a simple command.
_ENDS = frozenset(("|", "||", "&", "&&", ";", "(", ")"))
_REDIRECTIONS = frozenset((">", ">>", "<", ">|", "&>"))
#: Words in front of a command.
_KEYWORDS = frozenset(("!", "do", "else", "if", "then", "until", "while"))


class Block(NamedTuple):
    """A fenced block; ``line`` is the number of its first line."""

    kind: str
    text: str
    line: int


class Command(NamedTuple):
    """A command as it is printed: its words, the text under it, and its own text."""

    words: list[str]
    answer: str
    text: str = ""


class Written(NamedTuple):
    """A simple command on a page.  ``line`` is the number of the line on which it begins, or on
    which its block begins."""

    page: Path
    line: int
    words: list[str]

    @property
    def place(self) -> str:
        """Where it is, and what it says."""
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}: {shlex.join(self.words)}"


def fences(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in _FENCE.finditer(text):
        yield Block(found[3].strip(), found[4], text.count("\n", 0, found.start()) + 2)


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced blocks of one kind, in order."""
    return [block.text for block in fences(page.read_text("utf-8")) if block.kind == kind]


def code_spans(text: str) -> Iterator[tuple[int, str]]:
    """The code within lines of a page: the number of the line, and the code on one line."""
    rest = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", rest):
        yield rest.count("\n", 0, found.start()) + 1, " ".join(found[1].split())


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block; a command goes on until its quotes are closed.

    They stand behind ``$``, or behind ``#`` in a block that begins with it.
    """
    prompt = r"^[#] " if text.startswith("# ") else r"^\$ "
    for part in re.split(prompt, text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        for count in range(1, len(lines) + 1):
            command = "".join(lines[:count])
            try:
                words = shlex.split(command.replace("\\\n", " "), comments=True)
            except ValueError:
                continue
            if not command.endswith(("\\\n", "|\n")):
                yield Command(words, "".join(lines[count:]).strip(), command)
                break
        else:
            raise AssertionError(f"no end of quotes in {part!r}")


def simple_commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a line for a shell: parts of pipes, those within ``$()``, too."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();|&<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    found: list[str] = []
    skips = False
    for token in [*lexer, ";"]:
        if skips or token in _REDIRECTIONS:
            skips = token in _REDIRECTIONS
        elif set(token) <= _ENDS or token in _ENDS:
            while found and (found[0] in _KEYWORDS or re.match(r"\w+=", found[0])):
                del found[0]
            # What is left of $(...): its variable, or the rest of the command around it.
            if found and found != ["$"] and found != ["done"]:
                yield found
            found = []
        elif token != "\n":
            found.append(token)


def _script(text: str) -> Iterator[str]:
    """The commands of a script, each with all of its lines."""
    command = ""
    for line in text.splitlines(keepends=True):
        command += line
        try:
            shlex.split(command, comments=True)
        except ValueError:
            continue
        if not command.rstrip().endswith(("\\", "|")):
            yield command
            command = ""
    assert not command, command


def written(page: Path) -> Iterator[Written]:
    """The simple commands in the blocks of a page."""
    for block in fences(page.read_text("utf-8")):
        if block.kind == "console":
            texts = [command.text for command in commands(block.text)]
        elif block.kind == "sh":
            texts = list(_script(block.text))
        else:
            continue
        for text in texts:
            for words in simple_commands(text.replace("\\\n", " ")):
                yield Written(page, block.line, words)
