"""The subset of Python for hooks, and the guards that are written into their code.

RestrictedPython walks over the syntax tree of the code.  :class:`Policy` refuses every construct
that is not in its list, and writes guards around the others: ``a.b`` becomes
``_getattr_(a, "b")``.  A name that begins with an underscore is refused wherever a name may
stand, so no hook can name a guard.  Some rules are narrower than those of RestrictedPython
(no classes, no generators, no ``with``), others are wider (``match``, annotations,
``d[k] += 1``).

This file is long because all rules are methods of one class, one for each construct.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, Final

from RestrictedPython.transformer import (
    INSPECT_ATTRIBUTES,
    RestrictingNodeTransformer,
    copy_locations,
)

__all__ = ["Policy"]

_BINARY: Final[dict[type[ast.operator], str]] = {
    ast.Add: "_add_",
    ast.Sub: "_sub_",
    ast.Mult: "_mult_",
    ast.Div: "_div_",
    ast.FloorDiv: "_floordiv_",
    ast.Mod: "_mod_",
    ast.Pow: "_pow_",
    ast.LShift: "_lshift_",
    ast.RShift: "_rshift_",
    ast.BitAnd: "_and_",
    ast.BitOr: "_or_",
    ast.BitXor: "_xor_",
}
#: Operators with ``=``, which change their left side in place if it can be changed.
_IN_PLACE: Final[dict[type[ast.operator], str]] = {
    **_BINARY,
    ast.Add: "_iadd_",
    ast.Sub: "_isub_",
    ast.BitAnd: "_iand_",
    ast.BitOr: "_ior_",
    ast.BitXor: "_ixor_",
}
#: The constructs that hooks may have, by the names of their nodes.  All others are refused:
#: a newer Python brings new ones, and a newer RestrictedPython may allow them.
_OFFERED: Final = frozenset((
    "Add", "And", "AnnAssign", "Assert", "Assign", "Attribute", "AugAssign", "BinOp", "BitAnd",
    "BitOr", "BitXor", "BoolOp", "Break", "Call", "Compare", "Constant", "Continue", "Del",
    "Delete", "Dict", "DictComp", "Div", "Eq", "ExceptHandler", "Expr", "FloorDiv", "For",
    "FunctionDef", "GeneratorExp", "Global", "Gt", "GtE", "If", "IfExp", "Import", "ImportFrom",
    "In", "Invert", "Is", "IsNot", "JoinedStr", "LShift", "Lambda", "List", "ListComp", "Load",
    "Lt", "LtE", "Match", "MatchAs", "MatchMapping", "MatchOr", "MatchSequence",
    "MatchSingleton", "MatchStar", "MatchValue", "Mod", "Module", "Mult", "Name", "NamedExpr",
    "Nonlocal", "Not", "NotEq", "NotIn", "Or", "Pass", "Pow", "RShift", "Raise", "Return", "Set",
    "SetComp", "Slice", "Starred", "Store", "Sub", "Subscript", "Try", "Tuple", "UAdd", "USub",
    "UnaryOp", "While", "arg", "arguments", "comprehension", "keyword", "match_case",
))  # fmt: skip
_MAX_CONSTANT_BITS: Final = 4096
_SHORT: Final = 256
_DEEP: Final = 1 << 60
#: The messages for constructs that are not offered, most of which say what to do instead.
#: There are no classes, because guards look at the exact types of values; no ``with``, because
#: hooks have no context managers; and no generators, because generators within generators crash
#: the interpreter.
_INSTEAD: Final[dict[str, str]] = {
    "ClassDef": "expected functions and dicts: classes are not offered",
    "With": "expected try and finally: with is not offered",
    "AsyncFunctionDef": "expected an ordinary function: hooks do not wait",
    "AsyncFor": "expected an ordinary loop: hooks do not wait",
    "AsyncWith": "expected ordinary code: hooks do not wait",
    "Await": "expected ordinary code: hooks do not wait",
    "Yield": "expected a list: generators are not offered",
    "YieldFrom": "expected a list: generators are not offered",
    "TryStar": "expected except: except* is not offered",
    "MatMult": "expected another operator: @ is not offered",
    "MatchClass": "expected isinstance: class patterns are not offered",
    "TypeAlias": "expected no type aliases",
}


class Policy(RestrictingNodeTransformer):
    """Checks and changes the tree of one hook.

    ``scope`` has the names that the hook may use without binding them, ``importable`` the
    names of each module that it may import.  Afterwards ``problems`` has lines with what is
    wrong there, and ``requires`` the modules that the hook names, with lines.  ``reads_body``
    says whether the hook may read the body of a request: an attribute can only be read by its
    name, written out in the code.
    """

    def __init__(self, scope: frozenset[str], importable: dict[str, frozenset[str]]) -> None:
        super().__init__()
        self.problems: list[tuple[int, str]] = []
        self.requires: dict[str, int] = {}
        self.reads_body = False
        self._scope = scope
        self._importable = importable
        #: The names that the code reads, with the first line of each, and the names that it
        #: binds.
        self._read: dict[str, int] = {}
        self._bound: set[str] = set()

    def finish(self) -> None:
        """Check after the walk that each name that the code reads is bound somewhere."""
        for name, line in self._read.items():
            if name not in self._bound and name not in self._scope:
                text = f"{name} is not available in hooks"
                if name == "print":
                    text = "expected log.info(...): print is not offered"
                self.problems.append((line, text))

    # Helpers.

    def visit(self, node: ast.AST) -> Any:
        """Refuse a construct that is not in the list."""
        name = type(node).__name__
        if name not in _OFFERED:
            return self.not_allowed(node)
        # As in the base, whose method would be one more frame for each level.
        return getattr(self, f"visit_{name}")(node)

    def error(self, node: ast.AST, info: str) -> None:
        """Note a problem.  RestrictedPython calls this, too, with sentences of its own."""
        self.problems.append((getattr(node, "lineno", 0) or 0, info))

    def not_allowed(self, node: ast.AST) -> None:
        """Refuse a construct."""
        kind = type(node).__name__
        self.error(node, _INSTEAD.get(kind, f"{kind} is not offered in hooks"))

    def check_name(self, node: Any, name: str | None, allow_magic_methods: bool = False) -> None:
        """Refuse a name that could be the name of a guard, or a special name of Python."""
        if name is not None and name.startswith("_") and name != "_":
            self.error(node, f"expected a name that does not begin with _, got {name[:60]}")

    def _bind(self, node: ast.AST, name: str | None) -> None:
        self.check_name(node, name)
        if name is not None:
            self._bound.add(name)

    def _call(self, guard: str, arguments: Iterable[ast.expr], node: Any) -> ast.Call:
        given = list(arguments)
        for one in given:
            if isinstance(one, ast.Starred):
                # Python refuses it in these places, but in a call it would be other arguments.
                self.error(node, "expected * only in a call, a list, a tuple or a set")
        made = ast.Call(func=ast.Name(guard, ast.Load()), args=given, keywords=[])
        copy_locations(made, node)
        return made

    def _visited(self, node: Any) -> Any:
        return self.node_contents_visit(node)

    # Values.

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Allow texts, bytes, numbers, and None."""
        value = node.value
        if type(value) not in (str, bytes, int, float, bool, type(None)):
            self.error(node, f"{type(value).__name__} values are not offered in hooks")
        elif type(value) is int and value.bit_length() > _MAX_CONSTANT_BITS:
            self.error(node, f"expected an integer of at most {_MAX_CONSTANT_BITS} bits")
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Allow every name but those of guards."""
        self.check_name(node, node.id)
        if isinstance(node.ctx, ast.Load):
            self._read.setdefault(node.id, node.lineno)
            if node.id == "require":
                self.error(node, 'expected require("modules.NAME"), and no other use of it')
        else:
            self._bound.add(node.id)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        """Guard ``*x`` in a call or a display."""
        node = self._visited(node)
        if isinstance(node.ctx, ast.Load):
            node.value = self._call("_star_", [node.value], node)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        """Guard the keys in a display of a dict, since they are hashed."""
        node = self._visited(node)
        for index, key in enumerate(node.keys):
            if key is None:
                value = node.values[index]
                node.values[index] = self._call("_stardict_", [value], value)
            else:
                node.keys[index] = self._key(key)
        return node

    def visit_Set(self, node: ast.Set) -> ast.AST:
        """Guard the items in a display of a set, since they are hashed."""
        node = self._visited(node)
        for index, item in enumerate(node.elts):
            if isinstance(item, ast.Starred):
                assert isinstance(item.value, ast.Call)
                assert isinstance(item.value.func, ast.Name)
                item.value.func.id = "_starkeys_"
            else:
                node.elts[index] = self._key(item)
        return node

    def _key(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Constant):
            if type(node.value) is int and not -_DEEP < node.value < _DEEP:
                self.error(node, "expected a key of at most 60 bits")
            return node
        return node if isinstance(node, ast.JoinedStr) else self._call("_key_", [node], node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Let a guard make each field of an f-string, and another one check the whole text."""
        fields = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        for part in fields:
            value = self.visit(part.value)
            conversion = chr(part.conversion) if part.conversion in (97, 114, 115) else ""
            spec: ast.expr = ast.Constant("")
            if part.format_spec is not None:
                spec = self.visit(part.format_spec)
            part.value = self._call("_format_", [value, ast.Constant(conversion), spec], part)
            part.conversion = -1
            part.format_spec = None
        return self._call("_text_", [node], node) if fields else node

    # Operators.

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Guard every operator but ``@``, which is refused."""
        guard = _BINARY.get(type(node.op))
        if guard is None:
            self.error(node, _INSTEAD["MatMult"])
            return node
        return self._call(guard, [self.visit(node.left), self.visit(node.right)], node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Guard the signs ``-``, ``+`` and ``~``; ``not`` needs no guard."""
        node = self._visited(node)
        if not isinstance(node.op, ast.Not) and not isinstance(node.operand, ast.Constant):
            node.operand = self._call("_unary_", [node.operand], node.operand)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Weigh one of two sides of a comparison, and neither if one is a short constant."""
        node = self._visited(node)
        sides = [node.left, *node.comparators]
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            if _is_short(node.left, (str, bytes)):
                return node
            found: ast.expr = self._call("_in_", sides, node)
            if isinstance(node.ops[0], ast.NotIn):
                found = ast.UnaryOp(ast.Not(), found)
                copy_locations(found, node)
            return found
        for index, op in enumerate(node.ops):
            if isinstance(op, ast.In | ast.NotIn):
                self.error(node, "expected in on its own, not in a chain of comparisons")
            elif not isinstance(op, ast.Is | ast.IsNot) and not (
                _is_short(sides[index]) or _is_short(sides[index + 1])
            ):
                sides[index] = self._call("_compared_", [sides[index]], sides[index])
                if index == len(node.ops) - 1:
                    sides[-1] = self._call("_comparedwith_", [sides[-1]], sides[-1])
        node.left, *node.comparators = sides
        return node

    # Attributes and items.

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Let guards read and set attributes, by a table of names."""
        self._check_attribute(node)
        value = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            return self._call("_getattr_", [value, ast.Constant(node.attr)], node)
        if isinstance(node.ctx, ast.Del):
            self.error(node, "attributes cannot be deleted")
        node.value = self._call("_write_", [value, ast.Constant(node.attr)], node)
        return node

    def _check_attribute(self, node: ast.Attribute) -> None:
        name = node.attr
        if name in ("body", "body_too_large"):
            self.reads_body = True
        if name.startswith("_"):
            self.error(node, f"expected an attribute that does not begin with _, got {name[:60]}")
        elif name in INSPECT_ATTRIBUTES:
            self.error(node, f"the attribute {name} is not offered in hooks")
        elif name in ("format", "format_map"):
            self.error(node, f"expected an f-string instead of .{name}")

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Let guards read and set items.  A slice may be read or deleted."""
        value = self.visit(node.value)
        is_slice = isinstance(node.slice, ast.Slice)
        if isinstance(node.slice, ast.Tuple) and any(
            isinstance(part, ast.Slice) for part in node.slice.elts
        ):
            self.error(node, "expected one slice, not several")
            return node
        key = self.visit(node.slice)
        if isinstance(node.ctx, ast.Load):
            return self._call("_getitem_", [value, key], node)
        if is_slice and isinstance(node.ctx, ast.Store):
            self.error(node, "expected a new list: slices cannot be set")
        node.value = self._call("_writeitem_", [value], node)
        node.slice = key if is_slice else self._key(key)
        return node

    # Calls.

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Allow calls: every function that a hook can reach is safe with any arguments."""
        if isinstance(node.func, ast.Name) and node.func.id == "require":
            return self._required(node)
        return self._visited(node)  # type: ignore[no-any-return]

    def _required(self, node: ast.Call) -> ast.AST:
        one = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if not isinstance(one, ast.Constant) or type(one.value) is not str:
            self.error(node, 'expected require("modules.NAME") with the name as a text')
            return node
        self.requires.setdefault(one.value, node.lineno)
        return self._call("_require_", [one], node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        """Allow ``name=value`` and guard ``**value`` in a call."""
        self.check_name(node, node.arg)
        node = self._visited(node)
        if node.arg is None:
            node.value = self._call("_stardict_", [node.value], node.value)
        return node

    # Comprehensions.

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        """Compute a generator expression at once, as a list."""
        made = ast.ListComp(self.visit(node.elt), [self.visit(one) for one in node.generators])
        copy_locations(made, node)
        return self._call("_iter_", [made], node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        """Guard the items of a set comprehension, since they are hashed."""
        node = self._visited(node)
        node.elt = self._key(node.elt)
        return node

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        """Guard the keys of a dict comprehension, since they are hashed."""
        node = self._visited(node)
        node.key = self._key(node.key)
        return node

    def guard_iter(self, node: Any) -> Any:
        """Guard what ``for`` iterates over, in a loop or a comprehension."""
        self._check_target(node.target)
        node = self._visited(node)
        if getattr(node, "is_async", 0):
            self.error(node.iter, _INSTEAD["AsyncFor"])
        node.iter = self._call("_getiter_", [node.iter], node.iter)
        return node

    def _check_target(self, target: ast.AST, top: bool = False) -> None:
        """Refuse a star in a target, since it copies without a limit.

        At the top of an assignment a guard limits the copy.
        """
        if isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                if isinstance(part, ast.Starred) and not top:
                    self.error(part, "expected * only at the top of an assignment")
                self._check_target(part)

    # Statements.

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Guard assignments to several names at once."""
        starred = False
        several = False
        for target in node.targets:
            self._check_target(target, top=True)
            if isinstance(target, ast.Tuple | ast.List):
                several = True
                starred |= any(isinstance(part, ast.Starred) for part in target.elts)
        if starred and len(node.targets) > 1:
            self.error(node, "expected * in an assignment of its own")
        node = self._visited(node)
        if several and len(node.targets) == 1:
            guard = "_star_" if starred else "_getiter_"
            if starred or not isinstance(node.value, ast.Tuple | ast.List):
                node.value = self._call(guard, [node.value], node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """Guard ``x += 1``, ``x.y += 1`` and ``x[y] += 1``."""
        guard = _IN_PLACE.get(type(node.op))
        if guard is None:
            self.error(node, _INSTEAD["MatMult"])
            return node
        target = node.target
        value = self.visit(node.value)
        apply = ast.Name(guard, ast.Load())
        made: ast.stmt
        if isinstance(target, ast.Name):
            self._bind(target, target.id)
            old = ast.Name(target.id, ast.Load())
            made = ast.Assign([target], self._call(guard, [old, value], node))
        elif isinstance(target, ast.Attribute):
            self._check_attribute(target)
            owner = self.visit(target.value)
            name = ast.Constant(target.attr)
            made = ast.Expr(self._call("_change_", [owner, name, apply, value], node))
        else:
            if isinstance(target.slice, ast.Slice | ast.Tuple):
                self.error(node, "expected one item, not several")
            owner, key = self.visit(target.value), self.visit(target.slice)
            made = ast.Expr(self._call("_changeitem_", [owner, key, apply, value], node))
        copy_locations(made, node)
        return made

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        """Remove annotations, which are for editors only."""
        if node.value is None:
            made: ast.stmt = ast.Pass()
            copy_locations(made, node)
            if isinstance(node.target, ast.Name):
                self._bind(node.target, node.target.id)
            else:
                self.error(node, "expected a value")
            return made
        made = ast.Assign([node.target], node.value)
        copy_locations(made, node)
        return self.visit(made)

    def visit_If(self, node: ast.If) -> Any:
        """Remove ``if TYPE_CHECKING:``, which is for type checkers only."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse:
            made = ast.Pass()
            copy_locations(made, node)
            return made
        return self._visited(node)

    def visit_Try(self, node: ast.Try) -> ast.AST:
        """Make sure that no ``try`` can stop an error that ends the call."""
        for handler in node.handlers:
            if handler.type is None:
                self.error(handler, "expected except Exception: a bare except is not offered")
            elif not _is_plain(handler.type):
                # Python evaluates the expression even for an error that ends the call.
                self.error(handler, "expected the names of errors behind except")
        for statement in node.finalbody:
            self._check_finally(statement)
        node = self._visited(node)
        if node.finalbody:
            check = ast.Expr(self._call("_check_", [], node.finalbody[0]))
            copy_locations(check, node.finalbody[0])
            node.finalbody.insert(0, check)
        return node

    def _check_finally(self, node: ast.AST) -> None:
        if isinstance(node, ast.Return | ast.Break | ast.Continue):
            name = type(node).__name__.lower()
            self.error(node, f"{name} in finally is not offered: it would hide an error")
        elif not isinstance(node, ast.FunctionDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                self._check_finally(child)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """Let ``except`` raise again an error that ends the call."""
        self._bind(node, node.name)
        node = self._visited(node)
        check = ast.Expr(self._call("_check_", [], node.body[0]))
        copy_locations(check, node.body[0])
        node.body.insert(0, check)
        return node

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> ast.AST:
        """Allow ``global``: a hook may set names of its module."""
        for name in node.names:
            self._bind(node, name)
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        """Allow ``nonlocal``: a hook may set names of the function around."""
        return self.visit_Global(node)

    # Functions.

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Allow functions, but no decorators."""
        self._bind(node, node.name)
        if node.decorator_list:
            self.error(node.decorator_list[0], "expected a call: decorators are not offered")
        if getattr(node, "type_params", None):
            self.error(node, "expected no type parameters")
        node.returns = None
        return self._visited(node)  # type: ignore[no-any-return]

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Allow lambdas."""
        return self._visited(node)  # type: ignore[no-any-return]

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Allow a parameter, and remove its annotation."""
        self._bind(node, node.arg)
        node.annotation = None
        return node

    # Imports.

    def visit_Import(self, node: ast.Import) -> Any:
        """Replace ``import re`` by a guard, for the modules that hooks have."""
        made = [self._import(node, alias.name, None, alias.asname) for alias in node.names]
        return [one for one in made if one is not None] or _pass_at(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """Replace ``from hashlib import sha256`` by a guard."""
        module = node.module or ""
        if module == "__future__" and not node.level:
            return _pass_at(node)
        if node.level:
            self.error(node, "expected import of a module by its whole name")
            return node
        made = [self._import(node, module, alias.name, alias.asname) for alias in node.names]
        return [one for one in made if one is not None] or _pass_at(node)

    def _import(
        self, node: ast.stmt, module: str, name: str | None, alias: str | None
    ) -> ast.stmt | None:
        known = self._importable.get(module)
        if known is None:
            choice = ", ".join(sorted(self._importable))
            self.error(node, f"expected one of the modules {choice}, got {module[:60]}")
            return None
        if name is not None and name not in known:
            self.error(node, f"there is no {name[:60]} in {module} for hooks")
            return None
        target = alias or name or module.partition(".")[0]
        self._bind(node, target)
        # "import urllib.parse" binds urllib; "import urllib.parse as p" binds urllib.parse.
        wanted = module if name is not None or alias is not None else target
        arguments = [ast.Constant(wanted), ast.Constant(name)]
        made = ast.Assign([ast.Name(target, ast.Store())], self._call("_import_", arguments, node))
        copy_locations(made, node)
        return made

    # Match.

    def visit_Match(self, node: ast.Match) -> ast.AST:
        """Allow ``match``, with patterns of values, sequences and mappings."""
        return self._visited(node)  # type: ignore[no-any-return]

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """Allow a ``case``."""
        return self._visited(node)  # type: ignore[no-any-return]

    def visit_MatchSingleton(self, node: ast.MatchSingleton) -> ast.AST:
        """Allow the patterns True, False and None."""
        return node

    def visit_MatchSequence(self, node: ast.MatchSequence) -> ast.AST:
        """Allow a pattern with a pattern for each item."""
        return self._visited(node)  # type: ignore[no-any-return]

    def visit_MatchOr(self, node: ast.MatchOr) -> ast.AST:
        """Allow several patterns with ``|``."""
        return self._visited(node)  # type: ignore[no-any-return]

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        """Allow a short constant as a pattern."""
        value = node.value
        if isinstance(value, ast.UnaryOp):
            value = value.operand
        if not isinstance(value, ast.Constant) or not _is_short(value):
            self.error(node, "expected a short constant in case; use if for anything else")
        return node

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.AST:
        """Allow a name as a pattern, and a pattern with a name."""
        self._bind(node, node.name)
        return self._visited(node)  # type: ignore[no-any-return]

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.AST:
        """Allow ``*_``, which drops the rest; a name would copy it."""
        if node.name is not None:
            self.error(node, "expected *_ in a pattern: a name would be a copy")
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        """Allow a pattern of a mapping, with short constants as keys."""
        if node.rest is not None:
            self.error(node, "expected no ** in a pattern: it would be a copy")
        for key in node.keys:
            if not isinstance(key, ast.Constant) or not _is_short(key):
                self.error(node, "expected short constants as keys in a pattern")
        node.patterns = [self.visit(one) for one in node.patterns]
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """Walk over the whole code."""
        return self._visited(node)  # type: ignore[no-any-return]


def _is_plain(node: ast.expr) -> bool:
    """Whether an expression is a name, ``module.name``, or a tuple of these."""
    if isinstance(node, ast.Tuple):
        return all(map(_is_plain, node.elts))
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _pass_at(node: ast.stmt) -> ast.stmt:
    made = ast.Pass()
    copy_locations(made, node)
    return made


def _is_short(node: ast.expr, kinds: tuple[type, ...] = (object,)) -> bool:
    """Whether a node is a constant of these types that is quick to compare with."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, kinds):
        return False
    value = node.value
    if isinstance(value, str | bytes):
        return len(value) <= _SHORT
    return not isinstance(value, int) or value.bit_length() <= 64
