"""The one table of operations: what is made from it, and what is written about it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from slardar.control.auth import Caller, RefusedError
from slardar.control.calls import check_call, find_operations, read_arguments, read_parameters
from slardar.control.operations import OPERATIONS, Operation
from slardar.errors import ConfigError, NotFoundError
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
NAMES = ("control.md", "hooks.md", "history.md", "events.md")
PAGES = [(DOCS / name).read_text("utf-8") for name in NAMES]
METHODS = "GET|POST|PUT|PATCH|DELETE"
#: What the pages write in the place of an argument.
WRITTEN = {"SERVER": "HOST:PORT", "LANGUAGE": "python"}

by_name = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def written(path: str) -> str:
    """A path as the pages write it."""
    return re.sub("[A-Z]+", lambda word: WRITTEN.get(word[0], word[0]), path)


def parts_of(operation: Operation) -> list[str]:
    """The parts of a call's path, with an example for each argument."""
    return written(operation.path).replace("HOST:PORT", "a:1").split("/")[1:]


def test_every_operation_has_a_name_and_a_call_of_its_own() -> None:
    """Whoever makes commands of the names, or calls of the paths, gets each once."""
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    calls = [(method, one.path) for one in OPERATIONS for method in one.methods]
    assert len(set(calls)) == len(calls)


@by_name
def test_call_leads_to_its_operation(operation: Operation) -> None:
    """Its path with every method, and no row before it takes the call away; the arguments and
    the parameters have the names that the table gives."""
    parts = parts_of(operation)
    found = find_operations(parts)
    for method in operation.methods:
        assert found[method] is operation
        uri = f"/{'/'.join(parts)}?x=1".encode()
        check_call(Caller("ops", True), method, uri)
        if operation.role == "admin":
            with pytest.raises(RefusedError, match="role admin"):
                check_call(Caller("guest", False), method, uri)
        else:
            check_call(Caller("guest", False), method, uri)
    words = re.findall("[A-Z]+", operation.path)
    assert sorted(read_arguments(operation, parts)) == sorted(word.lower() for word in words)
    parameters = read_parameters(b"", operation)
    assert list(parameters) == [parameter.name for parameter in operation.parameters]
    with pytest.raises(ConfigError, match="unknown parameter"):
        read_parameters(b"misspelt=1", operation)


def test_pages_list_the_table() -> None:
    """The calls in the first column of the tables of both pages are those that there are."""
    listed: set[tuple[str, str]] = set()
    for page in PAGES:
        for cell in re.findall(r"^\| ([^|]*`[^|]*) \|", page, re.M):
            words = " ".join(re.findall("`([^`]+)`", cell))
            for path in set(re.findall(rf"(?:{METHODS}) (/\S*)", words)):
                methods = re.findall(rf"\b({METHODS})\b", words)
                listed.update((method, path.partition("?")[0]) for method in methods)
    assert listed == {(method, written(one.path)) for one in OPERATIONS for method in one.methods}


@by_name
def test_pages_name_every_parameter(operation: Operation) -> None:
    """Somewhere, with its sign of equality."""
    for parameter in operation.parameters:
        assert any(re.search(rf"[`?&]{parameter.name}=", page) for page in PAGES), parameter.name


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/none", 404),
        ("DELETE", "/status", 403),
        ("PUT", "/none", 403),
        ("PUT", "/%ff", 403),
        ("PUT", "/routes", 403),
        ("BREW", "/routes", 403),
        ("GET", "/upstream/a/b:1", 405),
    ],
)
def test_who_may_ask_only_is_told_so_before_all_else(method: str, path: str, status: int) -> None:
    """A change is refused, whether there is one or not; a question is answered as to anybody."""
    token = {"name": "x", "role": "read", "sha256": hashlib.sha256(b"t").hexdigest()}
    client = WebClient(make_actions(FakeStore(), FakePlane()), tokens=[token])
    assert client.call(method, path, Authorization="Bearer t").status == status


def test_names_that_look_like_calls() -> None:
    """A hook may not be called what the table gives a place of its own."""
    assert find_operations(["lua", "version"])["GET"].name == "code-version"
    assert find_operations(["upstream", "version"])["GET"].name == "upstream"
    assert find_operations(["lua", ""]) is find_operations(["lua"])
    for parts in (["perl"], ["lua", "", "code"], ["upstream", ""], ["status", ""], [""], ["NAME"]):
        with pytest.raises(NotFoundError):
            find_operations(parts)
