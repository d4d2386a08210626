"""The page about troubleshooting has an entry for every reply that slardar itself makes.

Statuses and texts are read from the code: from the calls that refuse a request, and from the pairs
of a status and a text that are handed on to such calls.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.programs import CHECKOUT

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text("utf-8")
CODE = CHECKOUT / "slardar"
#: Where requests are answered.
FILES = [
    path
    for folder in ("http1", "dataplane", "hooks")
    for path in sorted((CODE / folder).rglob("*.py"))
]
#: Calls that refuse a request, or make the error for it, with the places of status and text.
REFUSING = {
    **dict.fromkeys(("refuse", "_refuse", "_give_up", "_fail"), (0, 1)),
    **dict.fromkeys(("BadMessage", "HookAnswer", "error_reply"), (0, 1)),
    "own_reply": (2, 3),
}
#: The statuses of attempts that fail in these ways, and of chunks, a client's or a server's.
NAMED = {"CONNECT": {502}, "ERROR": {502}, "TIMEOUT": {504}, "self._status": {400, 502}}
#: Functions that hand on what they were given.  Whatever that is, it is found where it comes from;
#: or it is a hook's own, the kernel's, or OpenSSL's.
HANDS_ON = {
    "dataplane/router.py": {"own_reply", "_refuse"},
    # These are alerts of TLS, and no statuses.
    "dataplane/tls_channel.py": {"_look"},
    "dataplane/web_request.py": {"begin", "refuse"},
    "hooks/effects.py": {"make_reply"},
    "hooks/lua/api.py": {"redirect"},
    "hooks/lua/outcome.py": {"_made"},
    "hooks/objects.py": {"exit", "redirect", "reject", "respond"},
    "http1/attempt.py": {"lost", "received"},
    "http1/client.py": {"_body_arrived", "_give_up", "_heads", "_refuse", "_refuse_head", "refuse"},
    "http1/exchange.py": {"_try_next", "attempt_failed", "begin_waiting", "look_at_wait"},
    "http1/interfaces.py": {"own_reply"},
}


class Refusal(NamedTuple):
    """A status, and the pattern of its texts."""

    status: int
    text: str
    where: str


class Reader(ast.NodeVisitor):
    """Finds the refusals in a file."""

    def __init__(self, path: Path, returned: dict[str, set[str]]) -> None:
        self.file = path.relative_to(CODE).as_posix()
        self.found: set[Refusal] = set()
        #: The functions with a call whose status or text is not known.
        self.unknown: set[str] = set()
        self._returned = returned
        self._function = ""
        tree = ast.parse(path.read_text("utf-8"))
        self._constants = assigned(tree.body)
        self._locals: dict[str, list[ast.expr]] = {}
        self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = self._function, self._locals
        self._function = node.name
        self._locals = assigned(list(ast.walk(node)))
        self.generic_visit(node)
        self._function, self._locals = before

    def visit_Call(self, node: ast.Call) -> None:
        status, text = REFUSING.get(ast.unparse(node.func).rpartition(".")[2], (0, len(node.args)))
        if len(node.args) > text:
            self._add(node.args[status], node.args[text], True)
        self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        if len(node.elts) == 2 and isinstance(node.ctx, ast.Load):
            self._add(*node.elts, False)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Not a pair that is only noted: ``note.failure, note.error = ...``."""
        noted = isinstance(node.targets[0], ast.Tuple) and any(
            isinstance(one, ast.Attribute) for one in node.targets[0].elts
        )
        if not noted:
            self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        if self.file == "dataplane/router.py":
            for key, value in zip(node.keys, node.values, strict=True):
                assert key is not None
                self._add(key, value, True)

    def visit_If(self, node: ast.If) -> None:
        """``status = 503`` and ``message = ...`` in the same branch."""
        for branch in (node.body, node.orelse):
            values = assigned(branch)
            for status in values.get("status", ()):
                for text in values.get("message", ()):
                    self._add(status, text, False)
        self.generic_visit(node)

    def _add(self, status: ast.expr, text: ast.expr, is_refusal: bool) -> None:
        if self.file == "dataplane/router.py" and self._function != "_refuse":
            # _refuse() there sends 502, whatever the text.
            statuses = {502} if ast.unparse(status) == "downstream" else self._statuses(status)
        else:
            statuses = self._statuses(status)
        texts = self._texts(text)
        if statuses and texts:
            where = f"{self.file}: {self._function}"
            self.found |= {Refusal(one, pattern, where) for one in statuses for pattern in texts}
        elif is_refusal:
            self.unknown.add(self._function)

    def _statuses(self, node: ast.expr) -> set[int]:
        if isinstance(node, ast.Constant):
            return {node.value} if node.value in range(300, 600) else set()
        return NAMED.get(ast.unparse(node), set())

    def _texts(self, node: ast.expr) -> set[str]:
        """Patterns of what an expression can be; none if that is not known."""
        if isinstance(node, ast.Name):
            nodes = self._constants.get(node.id) or self._locals.get(node.id, [])
            texts = [self._texts(one) for one in nodes if not isinstance(one, ast.Name)]
            return set().union(*texts)
        if isinstance(node, ast.Call):
            return self._returned.get(ast.unparse(node.func).rpartition(".")[2], set())
        pattern = pattern_of(node)
        return {pattern} if pattern else set()


def assigned(nodes: list[ast.stmt] | list[ast.AST]) -> dict[str, list[ast.expr]]:
    """What names are set to in statements, pairs included."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        for name, value in pairs:
            if isinstance(name, ast.Name):
                found.setdefault(name.id, []).append(value)
    return found


def pattern_of(node: ast.expr | None) -> str:
    """The pattern of a text; empty if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(pattern_of(one) or ".+" for one in node.values)
    return ""


def returned_texts() -> dict[str, set[str]]:
    """The texts that functions return, by their names."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Return) and pattern_of(node.value):
                        found.setdefault(function.name, set()).add(pattern_of(node.value))
    return found


@pytest.fixture(scope="module")
def readers() -> list[Reader]:
    """What was found in each file."""
    returned = returned_texts()
    return [Reader(path, returned) for path in FILES]


def sections(page: str) -> Iterator[tuple[str, str]]:
    """The title and the text of each section."""
    parts = re.split(r"^##+ (.+)$", page, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def entries() -> dict[int, list[str]]:
    """By the status in a title: the texts in the first columns of the tables below it."""
    found = {}
    for title, text in sections(PAGE):
        match = re.fullmatch(r"([345]\d\d) (.+)", title)
        if match is not None:
            rows = re.findall(r"^\| (`.+?) \| ", text, re.MULTILINE)
            found[int(match[1])] = [one for row in rows for one in re.findall(r"`(.+?)`", row)]
    return found


def test_every_refusal_has_its_entry(readers: list[Reader]) -> None:
    """A client that gets a text finds it under its status."""
    shown = entries()
    found = [refusal for reader in readers for refusal in reader.found]
    assert len({(one.status, one.text) for one in found}) > 70
    assert [
        one
        for one in found
        if not any(re.fullmatch(one.text, text) for text in shown.get(one.status, ()))
    ] == []


def test_no_refusal_is_overlooked(readers: list[Reader]) -> None:
    """A call with a status or a text that is not known is in a function that hands it on."""
    unknown = {reader.file: reader.unknown for reader in readers if reader.unknown}
    assert unknown == HANDS_ON


def test_every_entry_is_of_the_code(readers: list[Reader]) -> None:
    """A text that nothing sends any more has no entry; the kernel's words and OpenSSL's have."""
    patterns = {(one.status, one.text) for reader in readers for one in reader.found}
    others = {
        "Connection refused",
        "No route to host",
        "Connection reset by peer",
        "TLS: …",
        "internal error",
    }
    assert [
        (status, text)
        for status, texts in entries().items()
        for text in texts
        if text not in others
        and not any(status == one and re.fullmatch(pattern, text) for one, pattern in patterns)
    ] == []


def test_every_status_of_the_control_channel_has_its_row() -> None:
    """The table has the statuses that calls can get, and no other."""
    (table,) = [
        text for title, text in sections(PAGE) if title == "Statuses of the control channel"
    ]
    shown = [int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    sent = set()
    for path in (CODE / "control").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and type(node.value) is int:
                sent.add(node.value)
    assert shown == sorted(shown)
    statuses = {status.value for status in HTTPStatus if status >= 400}
    assert set(shown) == sent & statuses
