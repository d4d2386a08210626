"""Python hooks: code is checked, loaded with modules of its own, and called in a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from sys import exc_info
from types import FunctionType
from typing import Any, Final

from slardar.hooks.budget import HOOK_NAME, Budget, OutOfBudget, check
from slardar.hooks.engine import Engine, Log, ScriptError
from slardar.hooks.errno import ERRNOS, UNKNOWN, Errno, errno_of, make_errno
from slardar.hooks.notices import Notice
from slardar.hooks.python.attributes import Namespace, Settings
from slardar.hooks.python.builtins import BUILTINS
from slardar.hooks.python.compiling import Compiled, compiled
from slardar.hooks.python.failures import failed, one_line
from slardar.hooks.python.limits import name_of, text_of
from slardar.hooks.python.modules import find
from slardar.hooks.python.notices import notices
from slardar.hooks.python.script import PythonScript
from slardar.hooks.script import HookFailure

__all__ = ["PythonEngine"]

#: Characters of one line that a hook logs.
_MAX_LINE: Final = 1000
#: Compiled modules and scripts that are kept for those that use them next.
_KEPT: Final = 256
#: The entry points, with their parameters.
_ENTRIES: Final = {"on_request": ("request",), "on_response": ("request", "response")}


class PythonEngine(Engine):
    """Python, of which :mod:`slardar.hooks.python.policy` has the subset.

    Raises ConfigError outside of the main thread.
    """

    language = "python"

    def __init__(self, budget: float, settings: Mapping[str, Any], log: Log) -> None:
        super().__init__(budget, settings, log)
        self._budget = Budget(budget)
        self._compiled: OrderedDict[tuple[str, bytes], Compiled] = OrderedDict()
        #: What all hooks of this engine find; it is nobody's to change.
        self._builtins: dict[str, Any] = {
            **BUILTINS,
            "_check_": _check_error,
            "_import_": find,
            "errno": Namespace(
                "errno",
                {**ERRNOS, "make": make_errno, "from_code": self._errno_of},
                self._unknown_errno,
            ),
            "log": Namespace("log", {level: self._logger(level) for level in _LEVELS}),
            "settings": Settings(settings),
        }

    def check(self, name: str, code: str) -> frozenset[str]:
        """See :class:`slardar.hooks.engine.Engine`."""
        return frozenset(self._code(name, code).requires)

    def notices(self, code: str) -> list[Notice]:
        """See :meth:`slardar.hooks.engine.Engine.notices`."""
        return notices(code)

    def load(self, name: str, code: str, modules: Mapping[str, str]) -> PythonScript:
        """See :class:`slardar.hooks.engine.Engine`."""
        loaded: dict[str, Namespace] = {}
        everything: list[dict[str, Any]] = []
        found = self._run(name, self._code(name, code), modules, loaded, (name,), everything)
        entries: dict[str, Callable[..., Any]] = {}
        for entry, parameters in _ENTRIES.items():
            function = found.get(entry)
            if function is None:
                continue
            if type(function) is not FunctionType or not _takes(function, len(parameters)):
                raise ScriptError(
                    f"{name}: line {_line_of(function)}: expected {entry} to be a function of"
                    f" {' and '.join(parameters)}"
                )
            entries[entry] = function
        if not entries and not name.startswith("modules."):
            raise ScriptError(
                f"{name}: line 1: expected a function on_request(request),"
                " or on_response(request, response)"
            )
        return PythonScript(
            name,
            self._budget,
            entries.get("on_request"),
            entries.get("on_response"),
            frozenset(loaded),
            self._code(name, code).reads_body
            or any(self._code(module, modules[module]).reads_body for module in loaded),
            everything,
        )

    def _code(self, name: str, code: str) -> Compiled:
        """Compiled once for all that use it: nothing of a hook can change it."""
        key = (name, sha256(code.encode("utf-8", "surrogatepass")).digest())
        made = self._compiled.get(key)
        if made is None:
            made = self._compiled[key] = compiled(name, code)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(key)
        return made

    def _run(
        self,
        name: str,
        made: Compiled,
        modules: Mapping[str, str],
        loaded: dict[str, Namespace],
        path: tuple[str, ...],
        everything: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """Run the body of a script or a module; answers the names that it has bound.

        ``everything`` gets what holds its values, and those of its modules.
        """
        own: dict[str, Namespace] = {}
        for module, line in made.requires.items():
            if module not in loaded:
                code = modules.get(module) if module.startswith("modules.") else None
                if code is None:
                    raise ScriptError(f"{name}: line {line}: module {module} is not active")
                if module in path:
                    circle = " -> ".join((*path[path.index(module) :], module))
                    raise ScriptError(
                        f"{name}: line {line}: expected modules that do not require each"
                        f" other in a circle: {circle}"
                    )
                if len(path) > 50:
                    raise ScriptError(f"{name}: line {line}: expected fewer levels of modules")
                names = self._run(
                    module, self._code(module, code), modules, loaded, (*path, module), everything
                )
                loaded[module] = Namespace(module, names)
            own[module] = loaded[module]
        names = {"__builtins__": self._builtins, "__name__": HOOK_NAME}
        if own:
            names["_require_"] = own.__getitem__
        failure: HookFailure
        self._budget.start()
        try:
            self._budget.run(FunctionType(made.code, names))
            bound = _Names(names)
            everything += (names, bound)
            return bound
        except (Exception, OutOfBudget) as error:
            failure = failed(name, error, self.budget)
        finally:
            self._budget.stop()
        raise ScriptError(failure.message)

    def _errno_of(self, code: Any) -> Errno:
        """``errno.from_code``: the error with that code, or ``UNKNOWN_ERR``."""
        found = errno_of(code)
        if found is not None:
            return found
        is_small = type(code) is int and code.bit_length() < 64
        return self._unknown_errno(
            str(code) if is_small else code[:60] if type(code) is str else name_of(code)
        )

    def _unknown_errno(self, name: str) -> Errno:
        """``errno.NAME`` for a name that is none, as upyun/slardar has it."""
        self.log("error", one_line(f"unknown error: {name}", _MAX_LINE))
        check()
        return UNKNOWN

    def _logger(self, level: str) -> Callable[..., None]:
        def write(*values: Any) -> None:
            # No more of each than the line may have, and whether there is more.
            texts = [text_of(one)[: _MAX_LINE + 1] for one in values[:100]]
            self.log(level, one_line(" ".join(texts), _MAX_LINE))
            # A tick that came while the log was written was not for the log.
            check()

        return write


def _check_error() -> None:
    """At the beginning of ``except`` and ``finally``: some errors are not a hook's.

    At the limit of recursion the handler of the budget's tick cannot even be called, and
    what comes out of it is a RecursionError.  So that one ends a call as surely as
    OutOfBudget does, and so does what Python raises when there is no memory.
    """
    check()
    error = exc_info()[1]
    if isinstance(error, RecursionError | MemoryError):
        raise error


_LEVELS: Final = ("debug", "info", "warn", "error")


class _Names(dict[str, Any]):
    """The names that a module has bound; what the guards live on is not among them."""

    __slots__ = ()


def _takes(function: FunctionType, count: int) -> bool:
    """Whether it is a hook's own, and can be called with so many arguments."""
    code = function.__code__
    if function.__globals__.get("__name__") != HOOK_NAME:
        return False
    if code.co_kwonlyargcount > len(function.__kwdefaults__ or ()):
        return False
    least = code.co_argcount - len(function.__defaults__ or ())
    most = 100 if code.co_flags & 0x04 else code.co_argcount
    return least <= count <= most


def _line_of(value: Any) -> int:
    return value.__code__.co_firstlineno if type(value) is FunctionType else 1
