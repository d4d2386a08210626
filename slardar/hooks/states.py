"""Tells in events what goes wrong with hooks: that one failed, or does not run any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from slardar.events import HookState, Publish
from slardar.hooks.report import TOO_OFTEN, HookReport, ShadowReport

__all__ = ["HookStates"]


class HookStates:
    """The states that were told, of each version of a hook by its mark."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._told: dict[int, str] = {}

    def keep(self, marks: Collection[int]) -> None:
        """Forget all other versions: if they fail again, that is told again."""
        self._told = {mark: state for mark, state in self._told.items() if mark in marks}

    def call_failed(self, path: str) -> None:
        """A call of a hook has failed.  It is suspended when that comes too often, so that there
        are no more than some events a minute."""
        self._publish(HookState(path, "failed", "a call has failed: the log says more"))

    def suspended(self, mark: int, path: str, reason: str = "") -> None:
        """A version does not run any more."""
        if self._told.get(mark) != "suspended":
            self._told[mark] = "suspended"
            self._publish(HookState(path, "suspended", reason or TOO_OFTEN))

    def reported(self, reports: Iterable[HookReport | ShadowReport]) -> None:
        """Processes report these states."""
        for report in reports:
            if not isinstance(report, HookReport) or report.state == "active":
                continue
            if report.state == "suspended":
                self.suspended(report.mark, report.path, report.error)
            elif report.mark not in self._told:
                self._told[report.mark] = "failed"
                self._publish(HookState(report.path, "failed", report.error))
