"""The Lua engine: runs the scripts of upyun/slardar, with one runtime for all of a worker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from slardar.hooks.engine import MAX_CODE, Engine, Log, ScriptError
from slardar.hooks.lua.api import Api
from slardar.hooks.lua.notices import notices
from slardar.hooks.lua.runtime import ROOM, RunResult, Runtime
from slardar.hooks.lua.script import NOBODY, Account, Call, LuaScript
from slardar.hooks.lua.source import find_modules, located
from slardar.hooks.notices import Notice
from slardar.hooks.script import HookFailure, Script
from slardar.hooks.settings import SettingEntry

__all__ = ["LuaEngine"]

#: Bytes that Lua may use in a worker, by default.
MEMORY: Final = 64 << 20
#: When memory is short, the next call of a script that held this many bytes fails.
_MUCH: Final = 1 << 20

#: Found in the text of every script that sets headers of the reply.
_REPLIES: Final = re.compile(r"\bheader\b")


class LuaEngine(Engine):
    """Runs scripts in Lua.

    ``memory`` is the bytes that Lua may use in this worker (64 MiB by default, at least
    16 MiB).  One call may take 8 MiB.
    """

    language = "lua"

    def __init__(
        self,
        budget: float,
        settings: Mapping[str, SettingEntry],
        log: Log,
        memory: int = MEMORY,
    ) -> None:
        super().__init__(budget, settings, log)
        self.memory = memory
        self._call = Call()
        functions = Api(self._call, settings, log).functions()
        self.runtime = Runtime(functions, budget, memory, self._make_room)
        #: The accounts of the scripts that are not closed.
        self._accounts: set[Account] = set()
        #: The bytes in use when the script that was called last took over from another one.
        self._before = self.runtime.used

    @property
    def held(self) -> int:
        """See :meth:`Engine.held`."""
        return self.runtime.used

    def settings_changed(self) -> None:
        """See :meth:`Engine.settings_changed`."""
        self.runtime.forget_settings()

    def check(self, name: str, code: str) -> frozenset[str]:
        """See :meth:`Engine.check`."""
        if not isinstance(code, str) or len(code) > MAX_CODE:
            raise ScriptError(f"{name}: expected at most {MAX_CODE} characters of code")
        self._refuse_if_full(name)
        problem = self.runtime.check(name, self._text(name, code))
        if problem is not None:
            raise ScriptError(located(name, problem))
        return frozenset(find_modules(code))

    def notices(self, code: str) -> list[Notice]:
        """See :meth:`Engine.notices`."""
        return notices(code)

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
        account = Account(name, modules, requires)
        replies = any(map(_REPLIES.search, texts))
        # A script can see no body before it calls read_body, whatever else it uses.
        reads_body = any("read_body" in text for text in texts)
        script = LuaScript(
            self, account, self._call, self.runtime, functions, replies, sets, reads_body
        )
        self._accounts.add(account)
        for module in (name,) if is_module else find_modules(code):
            failure = None if module in _BUILTIN else script.prepare(module)
            if failure is not None:
                script.close()
                raise ScriptError(self._described(account, failure))
        try:
            self._refuse_if_full(name)
        except ScriptError:
            script.close()
            raise
        return script

    def closed(self, account: Account) -> None:
        """Let go what the modules of a script keep, which is not called any more."""
        if self._call.owner is account:
            self.count(NOBODY)
        self._accounts.discard(account)
        self.runtime.call(account.forget)

    def _refuse_if_full(self, name: str) -> None:
        """Refuse to load a script for which the scripts in service would have to make room."""
        runtime = self.runtime
        if runtime.is_full:
            runtime.forget_settings()
            runtime.collect()
            if runtime.is_full:
                raise ScriptError(
                    f"{name}: the scripts in service use the {self.memory} bytes there are"
                )

    @staticmethod
    def _text(name: str, code: str) -> str:
        """The code as Lua gets it: a character for each byte of UTF-8."""
        try:
            return code.encode("utf-8").decode("latin-1")
        except UnicodeEncodeError:
            raise ScriptError(f"{name}: expected code in UTF-8") from None

    @staticmethod
    def _closure(named: frozenset[str], modules: Mapping[str, str]) -> frozenset[str]:
        """The modules ``named`` and those that they name, as far as ``modules`` has them."""
        found: set[str] = set()
        waiting = list(named)
        while waiting:
            one = waiting.pop()
            if one in modules and one not in found:
                found.add(one)
                waiting += find_modules(modules[one])
        return frozenset(found)

    # Failures.

    def failure(self, account: Account, answer: RunResult) -> HookFailure:
        """The failure of a call of a script, which ``answer`` tells, or the account's memory."""
        if not isinstance(answer, tuple) or answer[0] is not False:
            held, account.held = account.held, 0
            return HookFailure(
                "memory",
                f"{account.name}: its modules held {held >> 20} MiB for good;"
                " they were let go and begin anew",
            )
        return HookFailure(answer[1], self._described(account, answer[1:]))

    def _described(self, account: Account, failure: Any) -> str:
        kind, message = failure
        if kind == "budget":
            return f"{account.name}: took more than {self.budget * 1000:g} ms of CPU time"
        if kind == "memory":
            return f"{account.name}: a call may use at most {ROOM >> 20} MiB of memory"
        return located(account.name, message, account.requires)

    # Memory that is held for good.

    def count(self, account: Account) -> None:
        """Charge what is in use more than before to the script called last.  ``account`` is
        called next."""
        used = self.runtime.used
        self._call.owner.grown += max(0, used - self._before)
        self._call.owner, self._before = account, used

    def _make_room(self) -> None:
        """Let go what is ready of settings, and then what modules of scripts keep, until half the
        memory is free.

        The scripts that grew most come first.  Only those that held much fail once for it.
        """
        self.count(self._call.owner)
        wanted = self.memory // 2
        self.runtime.forget_settings()
        used = self.runtime.collect()
        for account in sorted(self._accounts, key=lambda one: one.grown, reverse=True):
            if used <= wanted:
                break
            self.runtime.enter(account.forget)
            less = self.runtime.collect()
            if used - less > _MUCH:
                account.held = used - less
            used = less
        for account in self._accounts:
            account.grown = 0


#: The modules that scripts always have.
_BUILTIN: Final = frozenset(("modules.errno", "modules.utils"))
