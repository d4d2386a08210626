"""What no hook may have is refused, also what a newer Python or RestrictedPython brings."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from RestrictedPython.transformer import RestrictingNodeTransformer

from slardar.hooks.python.policy import Policy

#: The constructs of Python 3.10 to 3.14 that no hook has, by their nodes.
REFUSED = (
    "AsyncFor", "AsyncFunctionDef", "AsyncWith", "Await", "ClassDef", "Expression",
    "FormattedValue", "FunctionType", "Interactive", "Interpolation", "MatMult", "MatchClass",
    "ParamSpec", "TemplateStr", "TryStar", "TypeAlias", "TypeIgnore", "TypeVar", "TypeVarTuple",
    "With", "Yield", "YieldFrom", "alias", "withitem",
)  # fmt: skip


def refusals(node: ast.AST) -> list[str]:
    policy = Policy(frozenset(), {})
    assert policy.visit(node) is None
    return [text for _, text in policy.problems]


@pytest.mark.parametrize("name", [name for name in REFUSED if hasattr(ast, name)])
def test_construct_is_refused(name: str) -> None:
    """Nobody looks at its parts, so here it has none."""
    kind = getattr(ast, name)
    assert len(refusals(kind.__new__(kind))) == 1


def test_construct_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, even if RestrictedPython has learnt to allow it."""

    class Novel(ast.expr):
        """A construct that a newer Python may bring."""

    def allow(policy: Any, node: Any) -> Any:
        return policy.node_contents_visit(node)

    monkeypatch.setattr(RestrictingNodeTransformer, "visit_Novel", allow, raising=False)
    assert refusals(Novel()) == ["Novel is not offered in hooks"]
