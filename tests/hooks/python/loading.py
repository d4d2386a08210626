"""Helpers for the tests of Python hooks: an engine, and calls of short hooks."""

from __future__ import annotations

from typing import Any

from slardar.hooks.objects import HookRequest, HookResponse
from slardar.hooks.python.engine import PythonEngine
from slardar.hooks.python.script import PythonScript
from tests.hooks.kit import settings_of

__all__ = ["SETTINGS", "Hooks", "request", "response"]

SETTINGS = {"myargs": {"arg0": "zero", "list": [1, {"deep": 2}]}, "number": 5, "on": True}


def request(
    method: str = "GET", target: str = "/a/b?x=1&y=2", client: str = "10.1.2.3"
) -> HookRequest:
    """A request as the data plane passes it to hooks."""
    return HookRequest(
        method.encode(),
        target.encode("latin-1"),
        b"\r\nAccept: */*\r\nCookie: a=1; b=2\r\nX-Two: 1\r\nX-Two: 2",
        {"host": b"www.example.com", "x-forwarded-for": b"10.1.2.3"},
        address=client.encode(),
    )


def response(status: int = 200) -> HookResponse:
    """A reply as the data plane passes it to hooks."""
    return HookResponse(status, b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/plain", {})


class Hooks:
    """An engine, the lines that its hooks have logged, and its scripts."""

    def __init__(self, budget: float = 0.05) -> None:
        self.lines: list[tuple[str, str]] = []
        self.settings = settings_of(SETTINGS)
        self.engine = PythonEngine(budget, self.settings, lambda *line: self.lines.append(line))
        self._scripts: list[PythonScript] = []

    def load(
        self, code: str, name: str = "script.x", modules: dict[str, str] | None = None
    ) -> PythonScript:
        """Load a script, which :meth:`close` closes."""
        self._scripts.append(self.engine.load(name, code, modules or {}))
        return self._scripts[-1]

    def result(self, body: str, **modules: str) -> Any:
        """What a hook leaves in ``context["out"]``; ``body`` has the hook's lines."""
        lines = "".join(f"    {line}\n" for line in body.split("\n"))
        names = {f"modules.{name}": code for name, code in modules.items()}
        script = self.load(f"def on_request(request):\n{lines}", modules=names)
        asked = request()
        script.on_request(asked)
        return asked.context.get("out")

    def value(self, expression: str) -> Any:
        """The value of an expression in a hook."""
        return self.result(f'request.context["out"] = {expression}')

    def close(self) -> None:
        """Close the scripts, so that the timer rests."""
        for script in self._scripts:
            script.close()
