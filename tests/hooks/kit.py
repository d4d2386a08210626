"""Helpers for the tests of hooks: an engine whose hooks a test writes in Python, and
requests and replies as the parser makes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from slardar.hooks.engine import Engine, Log, ScriptError
from slardar.hooks.objects import HookRequest, HookResponse
from slardar.hooks.script import HookFailure, Script
from slardar.hooks.settings import HookSettings, SettingEntry
from slardar.http1.reply import Reply, parse_reply
from slardar.http1.request import Request, parse_request
from slardar.model.hook import Code, Hook

__all__ = ["Action", "FakeEngine", "FakeScript", "code", "hook", "hooks", "reply_of", "request_of"]

#: What a hook does, given the request, and the reply or ``None``.
Action = Callable[[HookRequest, Any], object]


class FakeScript(Script):
    """A loaded hook.  The words of its code name its actions."""

    def __init__(self, engine: FakeEngine, name: str, code: str, modules: Mapping[str, str]):
        self.closed = 0
        words = code.split()
        super().__init__(
            not all(word.startswith("reply:") for word in words),
            any(word.startswith("reply:") for word in words),
            engine.used(name, code, modules),
        )
        self._engine = engine
        self.name = name
        self.code = code
        #: The code of these, as it was when this was loaded.
        self.modules = {module: modules[module] for module in self.requires}

    def on_request(self, request: HookRequest) -> None:
        self._run("", request, None)

    def on_response(self, request: HookRequest, response: HookResponse) -> None:
        self._run("reply:", request, response)

    def _run(self, prefix: str, request: HookRequest, response: HookResponse | None) -> None:
        assert not self.closed, f"{self.name} is called after it was closed"
        self._engine.calls.append((prefix + self.name, self.code))
        for word in self.code.split():
            action = self._engine.actions.get(word)
            if action is not None and word.startswith("reply:") == bool(prefix):
                action(request, response)

    def close(self) -> None:
        self.closed += 1


def settings_of(values: Mapping[str, Any]) -> HookSettings:
    """The settings with these values by name."""
    return HookSettings({name: json.dumps(value) for name, value in values.items()})


class FakeEngine(Engine):
    """An engine whose code is words.

    A word in ``actions`` does something, ``modules.x`` needs a module, ``wrong`` is refused, and
    ``unloadable`` cannot be loaded.  A word that begins with ``reply:`` is for replies.
    """

    language = "python"

    def __init__(
        self,
        budget: float = 0.05,
        settings: Mapping[str, SettingEntry] | None = None,
        log: Log = lambda level, text: None,
        actions: Mapping[str, Action] | None = None,
    ) -> None:
        super().__init__(budget, settings or {}, log)
        self.actions: dict[str, Action] = {
            "raise": raising(HookFailure("error", "line 1: it raises")),
            "reply:raise": raising(HookFailure("error", "line 2: it raises")),
            "bug": raising(RuntimeError("a mistake of the engine")),
            "reply:bug": raising(RuntimeError("a mistake of the engine")),
            **(actions or {}),
        }
        #: Every script that was loaded, and every call: name and code.
        self.loaded: list[FakeScript] = []
        self.calls: list[tuple[str, str]] = []

    def check(self, name: str, code: str) -> frozenset[str]:
        if "wrong" in code:
            raise ScriptError(f"{name}: line 1: expected better code")
        return frozenset(re.findall(r"\bmodules\.\w+", code))

    def load(self, name: str, code: str, modules: Mapping[str, str]) -> Script:
        script = FakeScript(self, name, code, modules)
        self.loaded.append(script)
        return script

    def used(self, name: str, code: str, modules: Mapping[str, str]) -> frozenset[str]:
        """The modules that the code needs, directly or through others."""
        if "unloadable" in code:
            raise ScriptError(f"{name}: line 1: it cannot be loaded")
        if "breaks-engine" in code:
            raise RuntimeError("a mistake of the engine")
        found: set[str] = set()
        for module in self.check(name, code):
            if module not in modules:
                raise ScriptError(f"{name}: module {module} is not active")
            found |= {module} | self.used(module, modules[module], modules)
        return frozenset(found)


def raising(error: Exception) -> Action:
    """An action that raises ``error``."""

    def action(request: HookRequest, response: HookResponse | None) -> None:
        raise error

    return action


#: Each posting has a time of its own, as with a clock that goes on.
_times = iter(range(1_700_000_000, 1_800_000_000))


def code(text: str) -> Code:
    """A version of a hook with this text, posted at a time of its own."""
    return Code.of(text, float(next(_times)), tuple(re.findall(r"\bmodules\.\w+", text)))


def hook(name: str, active: str | Code | None = None, **rest: Any) -> Hook:
    """A hook in Python, or in the language before a slash.  Texts become versions."""
    language, _, name = name.rpartition("/")
    for key in ("previous", "staged"):
        if isinstance(rest.get(key), str):
            rest[key] = code(rest[key])
    if isinstance(active, str):
        active = code(active)
    return Hook(language or "python", name, active, **rest)  # type: ignore[arg-type]


def hooks(*some: Hook) -> dict[tuple[str, str], Hook]:
    """Hooks in the form that a snapshot has them."""
    return {one.key: one for one in some}


def request_of(
    *headers: str, method: str = "GET", target: str = "/a?b=1", host: str = "www.a.test"
) -> Request:
    """A request as the parser makes it, from 192.0.2.7."""
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else []), *headers, "", ""]
    request = parse_request("\r\n".join(lines).encode("latin-1"))
    request.peer = request.address = b"192.0.2.7"
    return request


def reply_of(*headers: str, status: str = "200 OK", verb: bytes = b"GET") -> Reply:
    """A server's reply as the parser makes it."""
    return parse_reply("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode(), verb)
