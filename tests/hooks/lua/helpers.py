"""Helpers for the tests of the Lua engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slardar.hooks.lua.engine import LuaEngine
from slardar.hooks.objects import HookRequest
from slardar.hooks.script import HookFailure
from slardar.hooks.settings import SettingEntry
from tests.hooks.kit import settings_of

SETTINGS: dict[str, Any] = {
    "myargs": {"arg0": 0, "arg1": [1, "two", None]},
    "name": "é",
    "on": True,
}


def make_engine(
    budget: float = 0.05, settings: Mapping[str, SettingEntry] | None = None, **more: Any
) -> Any:
    """An engine.  Its ``lines`` are the lines that hooks logged."""
    lines: list[tuple[str, str]] = []
    chosen = settings_of(SETTINGS) if settings is None else settings
    engine: Any = LuaEngine(budget, chosen, lambda level, text: lines.append((level, text)), **more)
    engine.lines = lines
    return engine


def make_request(
    target: str = "/a/b?x=1&y=2",
    method: str = "GET",
    headers: tuple[str, ...] = ("User-Agent: curl/8", "Cookie: sid=abc; theme=dark"),
    host: str = "www.example.com",
) -> HookRequest:
    """A request from 192.0.2.7."""
    block = "".join("\r\n" + line for line in headers).encode("latin-1")
    return HookRequest(
        method.encode(),
        target.encode("latin-1"),
        block,
        host=host.encode("latin-1"),
        address=b"192.0.2.7",
    )


def run(engine: Any, code: str, request: HookRequest | None = None, **modules: str) -> HookRequest:
    """Run a script, and return its request; ``m="..."`` is the module modules.m."""
    if request is None:
        request = make_request()
    named = {f"modules.{name}": text for name, text in modules.items()}
    engine.load("script.x", code, named).on_request(request)
    return request


def said(engine: Any, code: str, request: HookRequest | None = None, **modules: str) -> str:
    """The text with which a script answers, without the end of the last line."""
    answer = run(engine, code, request, **modules).answer
    assert answer is not None
    return answer.body.decode("latin-1").removesuffix("\n")


def failure(engine: Any, code: str, request: HookRequest | None = None, **modules: str) -> Any:
    """The kind and the message of the failure with which a script ends."""
    try:
        run(engine, code, request, **modules)
    except HookFailure as error:
        return error.kind, error.message
    raise AssertionError("the script did not fail")
