"""What is told of hooks that fail: each version once, until it is loaded anew."""

from __future__ import annotations

from typing import Any

from slardar.events import Event, HookState
from slardar.hooks.report import HookReport, ShadowReport
from slardar.hooks.states import HookStates

PATH = "lua/script.a"


def report(mark: int, state: Any, error: str = "") -> HookReport:
    return HookReport(PATH, mark, state, error, 1, 0, 1, ())


def test_each_version_is_told_once() -> None:
    """A worse state is told, too; an active version, and a shadow, are no news."""
    events: list[Event] = []
    states = HookStates(events.append)
    states.reported([report(1, "active"), ShadowReport(PATH, 2, 0, 0, (), 0, 0, 0, ())])
    assert events == []
    for _ in range(2):
        states.reported([report(1, "failed", "line 1: no"), report(2, "suspended")])
        states.suspended(1, PATH, "it holds too much")
        states.reported([report(1, "failed", "line 1: no"), report(1, "suspended")])
    assert events == [
        HookState(PATH, "failed", "line 1: no"),
        HookState(PATH, "suspended", "it failed too often"),
        HookState(PATH, "suspended", "it holds too much"),
    ]
    events.clear()
    states.keep({2})
    states.reported([report(1, "failed"), report(2, "suspended")])
    states.call_failed(PATH)
    assert events == [
        HookState(PATH, "failed", ""),
        HookState(PATH, "failed", "a call has failed: the log says more"),
    ]
