"""Reads haproxy.cfg into statements: the sections, with their lines as blocks."""

from __future__ import annotations

from slardar.errors import ConfigError
from slardar.migration.statement import Statement

__all__ = ["SECTIONS", "read_haproxy"]

#: The words that begin a section.
SECTIONS = frozenset(
    {
        *("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist"),
        *("mailers", "cache", "program", "http-errors", "ring", "log-forward", "fcgi-app"),
        *("crt-store", "traces", "acme"),
    }
)
#: Words that say only together with the next one what a line is.
_FIRST = frozenset(
    {
        *("option", "timeout", "http-request", "http-response", "http-after-response", "stats"),
        *("tcp-request", "tcp-response", "http-check", "tcp-check", "compression", "stick"),
    }
)
#: Words without which a line means nothing: the least number that follows, of those that are read.
_LEAST = {
    "server": 2,
    **dict.fromkeys(("acl", "bind", "use_backend", "default_backend", "maxconn", "balance"), 1),
    **dict.fromkeys(("retries", "retry-on", "crt-base", "ca-base", "mode"), 1),
    **dict.fromkeys(
        (
            f"timeout {name}"
            for name in (
                *("check", "client", "connect", "http-keep-alive", "http-request", "queue"),
                "server",
            )
        ),
        1,
    ),
}
_ESCAPES = {"r": "\r", "n": "\n", "t": "\t"}


def read_haproxy(path: str) -> list[Statement]:
    """The sections of a file.  Blocks.  Raises ConfigError."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    sections: list[Statement] = []
    for number, line in enumerate(lines, 1):
        try:
            words = _words(line)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from None
        if not words:
            continue
        if words[0] in SECTIONS:
            sections.append(Statement(words[0], words[1:], path, number, []))
            continue
        if not sections:
            # A directive of nginx ends with ; or begins a block.
            other = "; for nginx use --from nginx" if words[-1][-1:] in (";", "{", "}") else ""
            raise ConfigError(
                f"{path}:{number}: expected a section of HAProxy's, such as frontend{other}"
            )
        count = 2 if words[0] in _FIRST else 3 if words[:2] == ["no", "option"] else 1
        name, args = " ".join(words[:count]), words[count:]
        if len(args) < _LEAST.get(name, 0):
            raise ConfigError(f"{path}:{number}: {name}: something is missing behind it")
        block = sections[-1].block
        assert block is not None
        block.append(Statement(name, args, path, number))
    return sections


def _words(line: str) -> list[str]:
    """The words of a line.  Raises ValueError for quotes that do not end."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    place = 0
    while place < len(line):
        one = line[place]
        place += 1
        if one == "\\" and quote != "'":
            following = line[place : place + 1]
            place += 1
            word = (word or "") + _ESCAPES.get(following, following)
        elif quote:
            if one == quote:
                quote = ""
            else:
                word = (word or "") + one
        elif one in "\"'":
            quote, word = one, word or ""
        elif one == "#":
            break
        elif one in " \t\r":
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + one
    if quote:
        raise ValueError("a quote does not end")
    return words if word is None else [*words, word]
