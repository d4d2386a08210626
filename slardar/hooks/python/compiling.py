"""Compiles the text of a hook to code that can run, or says in one line why not."""

from __future__ import annotations

import ast
import re
import warnings
from types import CodeType
from typing import Final

from slardar.hooks.engine import MAX_CODE, ScriptError
from slardar.hooks.python.builtins import BUILTINS
from slardar.hooks.python.modules import IMPORTABLE
from slardar.hooks.python.policy import Policy

__all__ = ["MAX_DEPTH", "MAX_NODES", "Compiled", "compiled"]

#: The most levels of the syntax tree, and the most nodes.  For each level, Python's compiler
#: takes space on the C stack, and the policy takes four frames.
MAX_DEPTH: Final = 120
MAX_NODES: Final = 50_000
#: The most fields of one f-string.  Python before 3.12 compiles 20,000 fields in 1 s, and
#: 40,000 in 4 s.
MAX_FIELDS: Final = 1000

#: An f-string, or a text that looks like one; exact enough to count its fields.
_F_STRING: Final = re.compile(
    r"""\b(?:f|fr|rf)('''|\"\"\"|'|")(.*?)(?<!\\)\1""", re.DOTALL | re.IGNORECASE
)

#: The names that hooks may use without binding them.
_SCOPE: Final = frozenset(
    (*(name for name in BUILTINS if name[0] != "_"), "errno", "log", "require", "settings")
)


class Compiled:
    """The compiled code of a hook.

    ``requires`` has the modules that the hook names, each with the line.  ``reads_body`` says
    whether the hook may read the body of a request.
    """

    __slots__ = ("code", "reads_body", "requires")

    def __init__(self, code: CodeType, requires: dict[str, int], reads_body: bool = False) -> None:
        self.code = code
        self.requires = requires
        self.reads_body = reads_body


def compiled(name: str, code: str) -> Compiled:
    """Compile a hook, without running any of it.  Raises ScriptError."""
    if not isinstance(code, str):
        raise ScriptError(f"{name}: line 1: expected text, got {type(code).__name__}")
    if len(code) > MAX_CODE:
        raise ScriptError(
            f"{name}: line 1: expected at most {MAX_CODE} characters of code, got {len(code)}"
        )
    _check_characters(name, code)
    for found in _F_STRING.finditer(code):
        fields = found[2].count("{") - 2 * found[2].count("{{")
        if fields > MAX_FIELDS:
            line = code.count("\n", 0, found.start()) + 1
            raise ScriptError(
                f"{name}: line {line}: expected at most {MAX_FIELDS} fields in one f-string"
            )
    try:
        with warnings.catch_warnings():
            # Python warns of "is" with a constant and of an unknown escape.  Neither is a
            # reason to refuse the code.
            warnings.simplefilter("ignore")
            tree = ast.parse(code, f"<{name}>")
            _check_size(name, tree)
            policy = Policy(_SCOPE, IMPORTABLE)
            policy.visit(tree)
            policy.finish()
            if policy.problems:
                lines = sorted(set(policy.problems), key=lambda problem: problem[0])
                raise ScriptError([f"{name}: line {line}: {text}" for line, text in lines])
            made = compile(tree, f"<{name}>", "exec", dont_inherit=True)
    except SyntaxError as error:
        text = (error.msg or "invalid syntax").replace("\n", " ")[:200]
        raise ScriptError(f"{name}: line {error.lineno or 1}: expected Python: {text}") from None
    except RecursionError:
        raise ScriptError(f"{name}: line 1: expected code that is less deeply nested") from None
    except MemoryError:
        # Python's parser raises MemoryError also if the nesting is too deep for it.
        raise ScriptError(
            f"{name}: line 1: expected code that is less deeply nested, or needs less memory"
        ) from None
    except (ValueError, OverflowError) as error:
        text = str(error).replace("\n", " ")[:200]
        raise ScriptError(f"{name}: line 1: expected Python: {text}") from None
    return Compiled(made, policy.requires, policy.reads_body)


def _check_characters(name: str, code: str) -> None:
    for line, text in enumerate(code.split("\n"), 1):
        for character in text:
            if character == "\0" or "\ud800" <= character <= "\udfff":
                raise ScriptError(
                    f"{name}: line {line}: expected text, got the character U+{ord(character):04X}"
                )


def _check_size(name: str, tree: ast.AST) -> None:
    level: list[ast.AST] = [tree]
    nodes = line = 0
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise ScriptError(f"{name}: line 1: expected less code: it has too many parts")
        line = max((getattr(node, "lineno", 0) for node in level), default=line) or line
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise ScriptError(f"{name}: line {line}: expected code of at most {MAX_DEPTH} nested parts")
