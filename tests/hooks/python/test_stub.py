"""The stub for editors has exactly the names that hooks have."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import slardar.hooks.python
from slardar.hooks.errno import ERRNOS
from slardar.hooks.objects import READABLE, WRITABLE
from slardar.hooks.python.compiling import _SCOPE
from tests.hooks.python.loading import Hooks, request

STUB = Path(slardar.hooks.python.__path__[0]) / "hook.pyi"
TREE = ast.parse(STUB.read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}


def functions(name: str) -> list[ast.FunctionDef]:
    return [node for node in CLASSES[name].body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("kind", list(READABLE), ids=lambda kind: kind.__name__)
def test_attributes_agree(kind: type) -> None:
    """The stub has the attributes that can be read, and those that can be set."""
    found = functions(kind.__name__)
    names = {node.name for node in found if not node.name.startswith("__")}
    assert names == READABLE[kind]
    setters = {
        node.name
        for node in found
        for mark in node.decorator_list
        if isinstance(mark, ast.Attribute) and mark.attr == "setter"
    }
    assert setters == WRITABLE[kind]
    assert WRITABLE[kind] <= READABLE[kind]
    # What the class does not have, a stub must not promise.
    for node in found:
        assert hasattr(kind, node.name), node.name


def test_parameters_agree() -> None:
    """A method takes by name the parameters that the stub names."""
    for kind in READABLE:
        for node in functions(kind.__name__):
            method = getattr(kind, node.name)
            if not hasattr(method, "__code__") or node.decorator_list or "__" in node.name:
                continue
            code = method.__code__
            assert [one.arg for one in node.args.args] == list(
                code.co_varnames[: code.co_argcount]
            ), node.name


def test_errors_levels_and_names_agree(hooks: Hooks) -> None:
    """The stub has the errors, the levels of the log, and the names in scope."""
    errors = {
        node.target.id
        for node in CLASSES["_Errnos"].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert errors == set(ERRNOS)
    for name in [node.name for node in functions("_Log")]:
        hooks.result(f"log.{name}('x')")
    assert sorted(level for level, _ in hooks.lines) == ["debug", "error", "info", "warn"]
    values = {
        node.target.id
        for node in TREE.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert values | {"require"} <= _SCOPE


def test_its_example_is_a_hook(hooks: Hooks) -> None:
    """The example in the stub can be loaded, and does what it says."""
    text = ast.get_docstring(TREE)
    assert text is not None
    lines = text.partition("::\n")[2].split("\n")
    script = hooks.load("\n".join(line[4:] for line in lines))
    asked = request()
    script.on_request(asked)
    assert asked.headers["X-Tenant"] == "www"
