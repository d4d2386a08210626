"""Finds what a script's text uses of ngx_lua that hooks do not have.

The search walks over the tokens, and knows no more of Lua's grammar than blocks.  A word in
a comment or a text does not count.  A script that gives ``ngx`` another meaning gets no
notices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from slardar.hooks.lua.regex import why_unusable
from slardar.hooks.notices import Notice

__all__ = ["notices"]

#: The tables of ngx that hooks do not have, and why.
LIBRARIES: Final[dict[str, str]] = {
    "balancer": "slardar balances; see slardar.set_upstream",
    "location": "hooks do not wait, and there are no other locations",
    "process": "hooks reach no process",
    "semaphore": "hooks do not wait",
    "shared": "hooks share nothing that they can write",
    "socket": "hooks reach no network",
    "ssl": "hooks reach no connection",
    "tcp": "hooks reach no network",
    "thread": "hooks do not wait",
    "timer": "hooks run for a request only",
    "udp": "hooks reach no network",
}
#: The functions of ngx that hooks do not have, and why.
FUNCTIONS: Final[dict[str, str]] = {
    "exec": "there are no other locations",
    "get_raw_phases": "hooks run in one phase",
    "on_abort": "hooks do not wait",
    "run_worker_thread": "hooks do not wait",
    "sleep": "hooks do not wait",
}
_PATTERN_FUNCTIONS: Final = frozenset(("find", "gmatch", "gsub", "match", "sub"))
#: The most tokens of a call's arguments that are looked at.
_MAX_ARGUMENTS: Final = 2000
#: The names at the beginning of a call that may end a script before its last line.
_ENDS: Final = frozenset(
    (("ngx", "exit"), ("ngx", "redirect"), ("ngx", "exec"), ("slardar", "exit"), ("error",))
)

_TOKEN: Final = re.compile(
    r"""--\[(?P<c>=*)\[.*?\](?P=c)\]
      |--[^\n]*
      |\[(?P<l>=*)\[(?P<long>.*?)\](?P=l)\]
      |(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      |(?P<word>[A-Za-z_]\w*)
      |\.?\d[\w.]*
      |(?P<sign>\.\.\.?|[=~<>]=|::|[^\s])
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(z\s*|x[0-9A-Fa-f]{2}|\d{1,3}|.)", re.DOTALL)
_LETTERS: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class _Token(NamedTuple):
    kind: str  # "word", "text" or "sign"
    value: str
    line: int


class _Block:
    """A block, which ``end`` or ``until`` closes.

    A use in the block is certain only if the block is a plain ``do``, or if the use is in the
    condition of the block.
    """

    __slots__ = ("begun", "is_partial", "kind")

    def __init__(self, kind: str, begun: bool, is_partial: bool = False) -> None:
        self.kind = kind
        self.begun = begun
        #: For a function: ``_Walk._is_partial`` of the expression that the function is in.
        self.is_partial = is_partial


def notices(code: str) -> list[Notice]:
    """The notices about a script.  The code must be valid Lua."""
    return _Walk(list(_tokens(code))).run()


def _tokens(code: str) -> Iterator[_Token]:
    line, at = 1, 0
    for found in _TOKEN.finditer(code):
        line += code.count("\n", at, found.start())
        at = found.start()
        if found["word"] is not None:
            yield _Token("word", found["word"], line)
        elif found["text"] is not None:
            yield _Token("text", _unescaped(found["text"][1:-1]), line)
        elif found["long"] is not None:
            text = found["long"]
            yield _Token("text", text[1:] if text[:1] == "\n" else text, line)
        elif found["sign"] is not None:
            yield _Token("sign", found["sign"], line)
        elif not found[0].startswith("--"):
            yield _Token("number", found[0], line)


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        escape = found[1]
        if escape[0] == "z":
            return ""
        if escape[0] == "x" and len(escape) == 3:
            return chr(int(escape[1:], 16))
        if escape.isdigit():
            return chr(int(escape) & 0xFF)
        return _LETTERS.get(escape, escape)

    return _ESCAPE.sub(one, text) if "\\" in text else text


class _Walk:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._found: list[Notice] = []
        self._blocks: list[_Block] = []
        #: An earlier statement may have ended the script.
        self._may_have_ended = False
        #: The expression that is being read has an "and" or "or", so a part of it may be skipped.
        self._is_partial = False
        #: The number of arguments' tokens that may still be looked at; a call within a call is
        #: read twice.
        self._left = 500_000
        #: The number of open brackets.
        self._depth = 0
        #: The script's own names for functions of ngx.re, and for ngx.re itself.
        self._aliases: dict[str, str] = {}
        self._tables: set[str] = set()
        #: The names that the script has set in ngx.
        self._own: set[str] = set()

    def run(self) -> list[Notice]:
        """All notices; none if the script gives ``ngx`` another meaning."""
        at = 0
        while at < len(self._tokens):
            token = self._tokens[at]
            if token.kind == "word":
                if token.value == "ngx" and self._binds(at):
                    return []
                at = self._word(at)
            else:
                if token.value in "([{":
                    self._depth += 1
                elif token.value in ")]}":
                    self._depth -= 1
                elif token.value in (";", "=") and self._depth <= 0:
                    # A sign within brackets belongs to a table, which is part of an expression.
                    self._is_partial = False
                at += 1
        return self._found

    def _value(self, at: int) -> str:
        """The sign or word at this index; empty if there is none."""
        if 0 <= at < len(self._tokens) and self._tokens[at].kind in ("sign", "word"):
            return self._tokens[at].value
        return ""

    def _binds(self, at: int) -> bool:
        """Whether the ``ngx`` at this index gets another meaning."""
        before, after = self._value(at - 1), self._value(at + 1)
        if before == "for" or (before not in (".", ":") and after == "="):
            # "local ngx = ngx" keeps the meaning.
            return not (before == "local" and self._value(at + 2) == "ngx")
        if before == "local":
            return True
        if before in ("(", ","):
            return self._is_parameter(at)
        return False

    def _is_parameter(self, at: int) -> bool:
        """Whether the name at this index is in the parameters of a ``function``."""
        while at >= 0 and (self._tokens[at].kind == "word" or self._value(at) in (",", "...")):
            if self._value(at) in ("for", "local"):
                return True
            at -= 1
        if self._value(at) != "(":
            return False
        at -= 1
        while self._value(at) not in ("", "function") and (
            self._tokens[at].kind == "word" or self._value(at) in (".", ":")
        ):
            at -= 1
        return self._value(at) == "function"

    @property
    def _is_certain(self) -> bool:
        if self._may_have_ended or self._is_partial:
            return False
        return all(block.kind == "do" or not block.begun for block in self._blocks)

    def _word(self, at: int) -> int:
        """Look at a word.  Returns the index to go on at."""
        word = self._tokens[at].value
        if self._value(at - 1) in (".", ":"):
            return at + 1  # a field of something else
        if word in ("function", "if", "while", "for", "repeat", "do", "then", "end", "until"):
            self._block(word)
        elif word in ("and", "or"):
            self._is_partial = True
        elif word in ("local", "elseif", "else"):
            self._is_partial = False
        elif word in ("return", "break", "goto"):
            # Within a function, the word ends that function and not the script.
            self._is_partial = False
            if not any(block.kind == "function" for block in self._blocks):
                self._may_have_ended = True
        elif word in self._aliases or word in self._tables:
            return self._alias(at)
        else:
            return self._chain(at)
        return at + 1

    def _block(self, word: str) -> None:
        blocks = self._blocks
        was_partial, self._is_partial = self._is_partial, False
        if word in ("function", "repeat"):
            blocks.append(_Block(word, True, was_partial))
        elif word in ("if", "while", "for"):
            blocks.append(_Block(word, False))
        elif word == "then" and blocks:
            blocks[-1].begun = True
        elif word == "do":
            if blocks and blocks[-1].kind in ("while", "for") and not blocks[-1].begun:
                blocks[-1].begun = True
            else:
                blocks.append(_Block("do", True))
        elif word in ("end", "until") and blocks:
            block = blocks.pop()
            self._is_partial = block.kind == "function" and block.is_partial

    def _names(self, at: int) -> tuple[tuple[str, ...], int]:
        """Read ``a.b["c"]`` from a word on.  Returns its names, and the index behind it."""
        names = [self._tokens[at].value]
        at += 1
        while len(names) < 10:
            if self._value(at) == "." and at + 1 < len(self._tokens):
                names.append(self._tokens[at + 1].value)
                at += 2
            elif (
                self._value(at) == "["
                and at + 2 < len(self._tokens)
                and self._tokens[at + 1].kind == "text"
                and self._value(at + 2) == "]"
            ):
                names.append(self._tokens[at + 1].value)
                at += 3
            else:
                break
        return tuple(names), at

    def _chain(self, at: int) -> int:
        names, behind = self._names(at)
        line = self._tokens[at].line
        if names[0] == "ngx" and len(names) > 1 and names[1] not in self._own:
            if self._value(behind) == "=":
                if len(names) == 2:
                    self._own.add(names[1])
                return behind
            self._use(names, behind, line)
        if names[:2] in _ENDS or names[:1] in _ENDS:
            self._may_have_ended = True
        return behind

    def _use(self, names: tuple[str, ...], behind: int, line: int) -> None:
        name = names[1]
        if name in LIBRARIES:
            shown = ".".join(names[:3])
            text = f"{shown} is not available in hooks: {LIBRARIES[name]}"
            # Reading the table itself does not fail yet.
            is_failure = len(names) > 2 or self._value(behind) in ("[", ":")
            self._note(line, text, is_failure)
        elif name in FUNCTIONS:
            text = f"ngx.{name} is not available in hooks: {FUNCTIONS[name]}"
            self._note(line, text, self._is_call(behind))
        elif name == "re":
            self._re(names[2:], behind, line)

    def _re(self, names: tuple[str, ...], behind: int, line: int) -> None:
        """Look at ``ngx.re``: a call of its functions, or a local name for it."""
        if names and names[0] in _PATTERN_FUNCTIONS and self._is_call(behind):
            self._pattern(behind, line)
            return
        alias = self._given_name(behind - 1)
        if alias and not names:
            self._tables.add(alias)
        elif alias and names[0] in _PATTERN_FUNCTIONS:
            self._aliases[alias] = names[0]

    def _given_name(self, last: int) -> str:
        """The name in ``local NAME = a.b.c``; ``last`` is the index of the last token."""
        at = last
        while at > 0 and self._value(at) != "=":
            at -= 1
            if last - at > 20:
                return ""
        if self._value(at - 2) == "local" and at >= 2 and self._tokens[at - 1].kind == "word":
            return self._tokens[at - 1].value
        return ""

    def _alias(self, at: int) -> int:
        names, behind = self._names(at)
        line = self._tokens[at].line
        if names[0] in self._tables:
            if len(names) > 1 and names[1] in _PATTERN_FUNCTIONS and self._is_call(behind):
                self._pattern(behind, line)
        elif len(names) == 1 and self._value(behind) == "(":
            self._pattern(behind, line)
        return behind

    def _is_call(self, at: int) -> bool:
        return self._value(at) in ("(", "{") or (
            at < len(self._tokens) and self._tokens[at].kind == "text"
        )

    def _pattern(self, at: int, line: int) -> None:
        """Check the second argument, if it is a text, of a call whose parenthesis is at ``at``."""
        arguments = self._arguments(at)
        if len(arguments) < 2 or len(arguments[1]) != 1 or arguments[1][0].kind != "text":
            return
        options = ""
        if len(arguments) > 2:
            if len(arguments[2]) != 1 or arguments[2][0].kind != "text":
                return
            options = arguments[2][0].value
        pattern = arguments[1][0].value.encode("utf-8", "replace").decode("latin-1")
        why = why_unusable(pattern, options)
        if why is not None:
            self._note(line, f"this regular expression cannot be used in hooks: {why}", True)

    def _arguments(self, at: int) -> list[list[_Token]]:
        """The tokens of each of the first arguments of the call at this index."""
        found: list[list[_Token]] = [[]]
        depth = 0
        tokens = self._tokens[at : at + min(_MAX_ARGUMENTS, self._left)]
        self._left -= len(tokens)
        for token in tokens:
            if token.kind == "sign" and token.value in "([{":
                depth += 1
                if depth == 1:
                    continue
            elif token.kind == "sign" and token.value in ")]}":
                depth -= 1
                if depth == 0:
                    return found
            elif token.kind == "sign" and token.value == "," and depth == 1:
                if len(found) > 3:
                    return found
                found.append([])
                continue
            found[-1].append(token)
        return []

    def _note(self, line: int, text: str, is_failure: bool) -> None:
        self._found.append(Notice(line, text, is_failure and self._is_certain))
