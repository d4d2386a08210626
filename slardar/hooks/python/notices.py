"""Finds what a hook uses of Python that hooks do not have.

The syntax tree shows two such uses: patterns that RE2 does not accept, and names that a
module does not have in hooks.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable
from typing import Final

from slardar.hooks.notices import Notice
from slardar.hooks.python.modules import IMPORTABLE
from slardar.hooks.python.regex import MAX_PATTERN, Pattern, PatternError

__all__ = ["notices"]

_ENTRIES: Final = ("on_request", "on_response")
#: Functions of ``re`` whose first argument is a pattern.
_PATTERN_FUNCTIONS: Final = frozenset(
    ("compile", "findall", "finditer", "fullmatch", "match", "search", "split", "sub", "subn")
)
_ENDS: Final = (ast.Return, ast.Raise, ast.Break, ast.Continue)


def notices(code: str) -> list[Notice]:
    """The notices about a hook.  The code must have been compiled before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(code)
    walk = _Walk(tree)
    walk.block(tree.body, True)
    return walk.found


class _Walk:
    """Walks over a hook's tree; ``certain`` says whether a node runs whenever the hook does."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[Notice] = []
        #: Modules, and functions of ``re``, by the names that the hook gives them.
        self._modules: dict[str, str] = {}
        self._functions: dict[str, str] = {}
        bound: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    # "import urllib.parse" binds urllib.
                    if alias.asname or "." not in alias.name:
                        self._modules[alias.asname or alias.name] = alias.name
            elif isinstance(node, ast.ImportFrom) and node.module == "re":
                for alias in node.names:
                    self._functions[alias.asname or alias.name] = alias.name
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                bound.add(node.id)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
        # A name that may also mean something else gets no notices.
        for name in bound:
            self._modules.pop(name, None)
            self._functions.pop(name, None)

    def block(self, statements: Iterable[ast.stmt], certain: bool) -> None:
        """Look at statements in a row.  After one that may end the block, none is certain."""
        for statement in statements:
            self._visit(statement, certain, top=True)
            certain = certain and not _may_end(statement)

    def _visit(self, node: ast.AST, certain: bool, top: bool = False) -> None:
        if isinstance(node, ast.FunctionDef):
            self._all((*node.args.defaults, *node.decorator_list), certain)
            self._all([one for one in node.args.kw_defaults if one is not None], certain)
            self.block(node.body, certain and top and node.name in _ENTRIES)
        elif isinstance(node, ast.Lambda):
            self._all(node.args.defaults, certain)
            self._visit(node.body, False)
        elif isinstance(node, (ast.If, ast.While)):
            self._visit(node.test, certain)
            self.block(node.body, False)
            self.block(node.orelse, False)
        elif isinstance(node, ast.For):
            self._visit(node.iter, certain)
            self.block(node.body, False)
            self.block(node.orelse, False)
        elif isinstance(node, ast.Try):
            # The hook may catch what fails there.
            for block in (node.body, node.orelse, node.finalbody):
                self.block(block, False)
            for handler in node.handlers:
                self.block(handler.body, False)
        elif isinstance(node, ast.Match):
            self._visit(node.subject, certain)
            for case in node.cases:
                self.block(case.body, False)
        elif isinstance(node, ast.BoolOp):
            self._visit(node.values[0], certain)
            self._all(node.values[1:], False)
        elif isinstance(node, ast.IfExp):
            self._visit(node.test, certain)
            self._all((node.body, node.orelse), False)
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            self._visit(node.generators[0].iter, certain)
            for child in ast.iter_child_nodes(node):
                if child is not node.generators[0]:
                    self._visit(child, False)
            self._all(node.generators[0].ifs, False)
        else:
            if isinstance(node, ast.Call):
                self._call(node, certain)
            elif isinstance(node, ast.Attribute):
                self._attribute(node, certain)
            self._all(ast.iter_child_nodes(node), certain)

    def _all(self, nodes: Iterable[ast.AST], certain: bool) -> None:
        for node in nodes:
            self._visit(node, certain)

    def _attribute(self, node: ast.Attribute, certain: bool) -> None:
        module = self._modules.get(node.value.id) if isinstance(node.value, ast.Name) else None
        names = IMPORTABLE.get(module) if module is not None else None
        if names is not None and node.attr not in names:
            text = f"there is no {node.attr[:60]} in {module} for hooks"
            self.found.append(Notice(node.lineno, text, certain))

    def _call(self, node: ast.Call, certain: bool) -> None:
        function = node.func
        name = None
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if self._modules.get(function.value.id) == "re":
                name = function.attr
        elif isinstance(function, ast.Name):
            name = self._functions.get(function.id)
        if name not in _PATTERN_FUNCTIONS or not node.args:
            return
        pattern = node.args[0]
        if isinstance(pattern, ast.Constant) and isinstance(pattern.value, (str, bytes)):
            why = _why_unusable(pattern.value)
            if why is not None:
                text = f"this regular expression cannot be used in hooks: {why}"
                self.found.append(Notice(pattern.lineno, text, certain))


def _why_unusable(pattern: str | bytes) -> str | None:
    if len(pattern) > MAX_PATTERN:
        return f"expected a pattern of at most {MAX_PATTERN} characters"
    try:
        Pattern(pattern)
    except (PatternError, ValueError) as error:
        return " ".join(str(error).split()).removeprefix("expected a pattern of RE2's: ")
    return None


def _may_end(node: ast.AST) -> bool:
    """Whether a statement may end its function or its loop."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        return False
    if isinstance(node, _ENDS):
        return True
    return any(_may_end(child) for child in ast.iter_child_nodes(node))
