"""The Python engine: checks hooks, loads each with its own modules, and calls it in a budget."""

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
from slardar.hooks.settings import SettingEntry

__all__ = ["PythonEngine"]

#: The most characters of one line that a hook logs.
_MAX_LINE: Final = 1000
#: The number of compiled modules and scripts that are kept for later use.
_KEPT: Final = 256
#: The entry points of a script, with their parameters.
_ENTRIES: Final = {"on_request": ("request",), "on_response": ("request", "response")}


class PythonEngine(Engine):
    """Runs hooks in the subset of Python that :mod:`slardar.hooks.python.policy` allows.

    Raises ConfigError outside the main thread.
    """

    language = "python"

    def __init__(self, budget: float, settings: Mapping[str, SettingEntry], log: Log) -> None:
        super().__init__(budget, settings, log)
        self._budget = Budget(budget)
        self._compiled: OrderedDict[tuple[str, bytes], Compiled] = OrderedDict()
        #: The builtins of all hooks of this engine, which no hook can change.
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
            "settings": Settings.whole(settings),
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
        """The compiled code, which all hooks with the same text share, since none can change
        it."""
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
        """Run the body of a script or a module, and return the names that it has bound.

        ``loaded`` gets the modules that it uses.  ``path`` has the names of the script and the
        modules that are being run.  ``everything`` gets each dict that holds values of the
        script or of a module.
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
        """``errno.from_code``: the error with this code, or ``UNKNOWN_ERR``."""
        found = errno_of(code)
        if found is not None:
            return found
        is_small = type(code) is int and code.bit_length() < 64
        return self._unknown_errno(
            str(code) if is_small else code[:60] if type(code) is str else name_of(code)
        )

    def _unknown_errno(self, name: str) -> Errno:
        """``errno.NAME`` for an unknown name.  As in upyun/slardar, it is ``UNKNOWN_ERR``."""
        self.log("error", one_line(f"unknown error: {name}", _MAX_LINE))
        check()
        return UNKNOWN

    def _logger(self, level: str) -> Callable[..., None]:
        def write(*values: Any) -> None:
            # One character more than the line may have shows that the text was cut.
            texts = [text_of(one)[: _MAX_LINE + 1] for one in values[:100]]
            self.log(level, one_line(" ".join(texts), _MAX_LINE))
            # A tick that came while the log was written could not raise there.
            check()

        return write


def _check_error() -> None:
    """Called first in each ``except`` and ``finally``: raises errors that no hook may handle.

    At the limit of recursion, the handler of a tick cannot be called, and a RecursionError
    comes out instead of OutOfBudget.  So a RecursionError ends a call, too, and so does a
    MemoryError.
    """
    check()
    error = exc_info()[1]
    if isinstance(error, RecursionError | MemoryError):
        raise error


_LEVELS: Final = ("debug", "info", "warn", "error")


class _Names(dict[str, Any]):
    """The names that a module has bound, without those that the guards need."""

    __slots__ = ()


def _takes(function: FunctionType, count: int) -> bool:
    """Whether a function is a hook's own, and can be called with ``count`` arguments."""
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
