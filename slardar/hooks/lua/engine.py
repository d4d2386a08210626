"""The Lua engine: upyun/slardar's scripts, one runtime for all of a worker's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakSet

from slardar.hooks.engine import MAX_CODE, Engine, HookFailure, Log, Script, ScriptError
from slardar.hooks.headers import Headers
from slardar.hooks.lua.api import ADDED, Api, by_name
from slardar.hooks.lua.crossing import said
from slardar.hooks.lua.runtime import PENDING_BYTES, PENDING_LINES, ROOM, Runtime
from slardar.hooks.lua.source import find_modules, located
from slardar.hooks.objects import HookRequest, HookResponse

__all__ = ["LuaEngine", "LuaScript"]

#: Bytes that Lua may use in a worker.
MEMORY: Final = 64 << 20
#: A script that holds this much is told so when memory is short.
_MUCH: Final = 1 << 20

#: A script that may set headers of the reply.
_REPLIES: Final = re.compile(r"\bheader\b")


class LuaScript(Script):
    """One script with its modules.  It is run whole for each request."""

    def __init__(
        self,
        engine: LuaEngine,
        name: str,
        functions: tuple[Any, Any, Any],
        modules: Mapping[str, str],
        requires: frozenset[str],
        replies: bool,
        sets: bool,
    ) -> None:
        self.name = name
        self.on_replies = replies
        #: It may set headers of the request, which wait in Lua for the end of a call where
        #: there is room for them in any case.
        self._sets = sets
        self.requires = requires
        self._engine = engine
        self._run, self._prepare, self._forget = functions
        self._modules = modules
        self._names = set(requires)
        #: Bytes that were in use after its calls and not before, since memory was short.
        self.grown = 0
        #: Bytes that it held for good when memory was short; its next call fails.
        self.held = 0

    def on_request(self, request: HookRequest) -> None:
        """Run it for a request."""
        engine = self._engine
        if engine.last is not self:
            engine.count(self)
        api = engine.api
        api.begin(self.name, self._modules, request)
        method = request.method
        # Most calls need no argument, which would take a while to be passed.
        if self._sets and not request.headers.has_room(PENDING_LINES, PENDING_BYTES):
            answer = engine.runtime.run(self._run, method, True)
        elif method == "GET":
            answer = engine.runtime.run(self._run)
        else:
            answer = engine.runtime.run(self._run, method)
        if (answer is None or type(answer) is str) and not self.held:
            api.end(answer)
            return
        api.abandon()
        raise engine.failure(self, answer)

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        """Set the headers that it asked for while it saw the request."""
        added = request.context.get(ADDED)
        # The context is everybody's, so anything may be there.
        if not isinstance(added, Headers):
            return
        try:
            for name, values in by_name(added).items():
                response.headers.set(name, values)
        except ValueError as error:
            raise HookFailure("error", f"{self.name}: {said(error)}") from None

    def prepare(self, module: str) -> Any:
        """Run a module's code, if it has not been run yet; answers how it failed."""
        api = self._engine.api
        api.begin(self.name, self._modules, HookRequest("GET", "/", [], {}))
        try:
            return self._engine.runtime.call(self._prepare, module)
        finally:
            api.abandon()

    def forget(self) -> None:
        """Let go what its modules keep; they are run anew when they are required."""
        self._engine.runtime.call(self._forget)

    def close(self) -> None:
        """Let go everything."""
        self.forget()
        self._engine.scripts.discard(self)


class LuaEngine(Engine):
    """Runs scripts in Lua.

    ``memory`` is what Lua may use in this worker, in bytes (64 MiB by default, at least
    16 MiB), of which one call may take 8 MiB.
    """

    language = "lua"

    def __init__(
        self,
        budget: float,
        settings: Mapping[str, Any],
        log: Log,
        memory: int = MEMORY,
    ) -> None:
        super().__init__(budget, settings, log)
        self.memory = memory
        self.api = Api(settings, log)
        self.runtime = Runtime(self.api.functions(), budget, memory, self._make_room)
        self.scripts: WeakSet[LuaScript] = WeakSet()
        #: Who was called last, and the bytes in use before.
        self.last: LuaScript | None = None
        self._before = self.runtime.used

    def check(self, name: str, code: str) -> frozenset[str]:
        """See :meth:`Engine.check`."""
        if not isinstance(code, str) or len(code) > MAX_CODE:
            raise ScriptError(f"{name}: expected at most {MAX_CODE} characters of code")
        self._refuse_if_full(name)
        problem = self.runtime.check(name, self._text(name, code))
        if problem is not None:
            raise ScriptError(located(name, problem))
        return frozenset(find_modules(code))

    def load(self, name: str, code: str, modules: Mapping[str, str]) -> Script:
        """See :meth:`Engine.load`."""
        named = self.check(name, code)
        modules = dict(modules)
        is_module = name.startswith("modules.")
        if is_module:
            modules[name] = code
        for module, line in find_modules(code).items():
            if module not in modules and module not in _BUILTIN:
                raise ScriptError(f"{name}: line {line}: module {module} is not active")
        requires = self._closure(named, modules)
        texts = [code, *(modules[one] for one in requires)]
        sets = any("set_header" in text for text in texts)
        try:
            functions = self.runtime.load(name, "" if is_module else self._text(name, code), sets)
        except ValueError as error:
            raise ScriptError(located(name, str(error))) from None
        script = LuaScript(
            self,
            name,
            functions,
            modules,
            requires,
            any(map(_REPLIES.search, texts)),
            sets,
        )
        for module in (name,) if is_module else find_modules(code):
            failure = None if module in _BUILTIN else script.prepare(module)
            if failure is not None:
                script.close()
                raise ScriptError(self._described(script, failure))
        try:
            self._refuse_if_full(name)
        except ScriptError:
            script.close()
            raise
        self.scripts.add(script)
        return script

    def _refuse_if_full(self, name: str) -> None:
        """Nothing is loaded where the scripts in service would have to make room for it."""
        runtime = self.runtime
        if runtime.is_full:
            runtime.collect()
            if runtime.is_full:
                raise ScriptError(
                    f"{name}: the scripts in service use the {self.memory} bytes there are"
                )

    @staticmethod
    def _text(name: str, code: str) -> str:
        """Code as Lua gets it: a character for each byte of UTF-8."""
        try:
            return code.encode("utf-8").decode("latin-1")
        except UnicodeEncodeError:
            raise ScriptError(f"{name}: expected code in UTF-8") from None

    @staticmethod
    def _closure(named: frozenset[str], modules: Mapping[str, str]) -> frozenset[str]:
        """These modules and those that they name, as far as they are there."""
        found: set[str] = set()
        waiting = list(named)
        while waiting:
            one = waiting.pop()
            if one in modules and one not in found:
                found.add(one)
                waiting += find_modules(modules[one])
        return frozenset(found)

    # Failures.

    def failure(self, script: LuaScript, failure: Any) -> HookFailure:
        """What a call of a script came to."""
        if not isinstance(failure, tuple):
            held, script.held = script.held, 0
            return HookFailure(
                "memory",
                f"{script.name}: its modules held {held >> 20} MiB for good;"
                " they were let go and begin anew",
            )
        return HookFailure(failure[0], self._described(script, failure))

    def _described(self, script: LuaScript, failure: Any) -> str:
        kind, message = failure
        if kind == "budget":
            return f"{script.name}: took more than {self.budget * 1000:g} ms of CPU time"
        if kind == "memory":
            return f"{script.name}: a call may use at most {ROOM >> 20} MiB of memory"
        return located(script.name, message, script.requires)

    # Memory that is held for good.

    def count(self, script: LuaScript) -> None:
        """Another script is called: what is in use more was the last one's doing."""
        used = self.runtime.used
        if self.last is not None:
            self.last.grown += max(0, used - self._before)
        self.last, self._before = script, used

    def _make_room(self) -> None:
        """Find those that hold much, and let it go: they alone fail for it."""
        if self.last is not None:
            self.count(self.last)
        wanted = self.memory // 2
        used = self.runtime.used
        for script in sorted(self.scripts, key=lambda one: one.grown, reverse=True):
            if used <= wanted:
                break
            self.runtime.enter(script._forget)
            less = self.runtime.collect()
            if used - less > _MUCH:
                script.held = used - less
            used = less
        for script in self.scripts:
            script.grown = 0


#: Modules that are always there.
_BUILTIN: Final = frozenset(("modules.errno", "modules.utils"))
