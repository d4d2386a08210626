"""What a process tells of its hooks, and what several together come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from slardar.hooks.loaded import Loaded, ScriptVersions
from slardar.hooks.shadow import EXAMPLES, Comparison
from slardar.hooks.stats import CallStats

__all__ = ["HookReport", "HookTally", "HookTotals", "ShadowReport", "reports_of"]

#: What a double holds exactly; no counter comes near it.
Counter = Annotated[int, Meta(ge=0, le=2**53)]
Path = Annotated[str, Meta(max_length=300)]
Mark = Annotated[int, Meta(ge=0, le=2**32)]
Text = Annotated[str, Meta(max_length=1000)]
#: Pairs of a bucket's number and its count; 63 bits of nanoseconds have 252 buckets.
Buckets = Annotated[
    tuple[tuple[Annotated[int, Meta(ge=0, le=260)], Counter], ...], Meta(max_length=260)
]
Example = Annotated[str, Meta(max_length=20000)]
State = Literal["active", "failed", "suspended"]


class HookReport(Struct, array_like=True, frozen=True):
    """One version of a hook in a process, with its counters since that began."""

    path: Path
    mark: Mark
    state: State
    #: Why it could not be loaded, or is suspended.
    error: Text
    calls: Counter
    errors: Counter
    nanoseconds: Counter
    buckets: Buckets


class ShadowReport(Struct, array_like=True, frozen=True):
    """What a staged version that runs in the shadow has come to."""

    path: Path
    mark: Mark
    compared: Counter
    differing: Counter
    #: Each the JSON of an example.
    examples: Annotated[tuple[Example, ...], Meta(max_length=EXAMPLES)]
    calls: Counter
    errors: Counter
    nanoseconds: Counter
    buckets: Buckets


def reports_of(scripts: Iterable[ScriptVersions]) -> Iterator[HookReport | ShadowReport]:
    """Everything there is to tell of these scripts."""
    for versions in scripts:
        for loaded in versions.all():
            yield _report(loaded)
        if versions.shadow is not None:
            yield _shadow(versions.shadow, versions.comparison)


def _report(loaded: Loaded) -> HookReport:
    stats = loaded.stats
    return HookReport(
        loaded.path,
        loaded.mark,
        loaded.state,  # type: ignore[arg-type]
        loaded.error[:1000],
        stats.calls,
        stats.errors,
        stats.nanoseconds,
        tuple(stats.buckets.items()),
    )


def _shadow(loaded: Loaded, comparison: Comparison) -> ShadowReport:
    stats = comparison.stats
    return ShadowReport(
        loaded.path,
        loaded.mark,
        comparison.compared,
        comparison.differing,
        tuple(filter(None, map(_example, comparison.examples))),
        stats.calls,
        stats.errors,
        stats.nanoseconds,
        tuple(stats.buckets.items()),
    )


def _example(example: dict[str, Any]) -> str:
    text = json.dumps(example)
    return text if len(text) <= 20000 else ""


class HookTotals:
    """One version of a hook in all processes together."""

    def __init__(self) -> None:
        self.stats = CallStats()
        self.state: str = "active"
        self.error = ""


class ShadowTotals:
    """A shadow in all processes together."""

    def __init__(self) -> None:
        self.stats = CallStats()
        self.compared = 0
        self.differing = 0
        self.examples: list[Any] = []


_Key = tuple[str, int]

#: Of several processes' states the worst is shown.
_WORST = ("active", "failed", "suspended")


class HookTally:
    """What processes have reported, each by its number."""

    def __init__(self) -> None:
        self._reports: dict[_Key, dict[int, HookReport]] = {}
        self._shadows: dict[_Key, dict[int, ShadowReport]] = {}
        #: Versions that are suspended everywhere, whatever a process may still say.
        self.suspended: set[int] = set()
        self.reasons: dict[int, str] = {}
        #: The counters of processes that have ended.
        self._ended: dict[_Key, CallStats] = {}

    def take(self, worker: int, reports: Iterable[HookReport | ShadowReport]) -> None:
        """A process has reported."""
        for report in reports:
            key = (report.path, report.mark)
            if isinstance(report, HookReport):
                self._reports.setdefault(key, {})[worker] = report
            else:
                self._shadows.setdefault(key, {})[worker] = report

    def worker_ended(self, worker: int) -> None:
        """What it counted stays counted."""
        for key, reports in self._reports.items():
            report = reports.pop(worker, None)
            if report is not None:
                _add(self._ended.setdefault(key, CallStats()), report)
        for shadows in self._shadows.values():
            shadows.pop(worker, None)

    def keep(self, keys: set[_Key]) -> None:
        """Forget every version but these."""
        for table in (self._reports, self._shadows, self._ended):
            for key in [key for key in table if key not in keys]:
                del table[key]

    def totals(self, path: str, mark: int) -> HookTotals:
        """One version in all processes."""
        totals = HookTotals()
        ended = self._ended.get((path, mark))
        if ended is not None:
            totals.stats.add(ended.calls, ended.errors, ended.nanoseconds, ended.buckets)
        for report in self._reports.get((path, mark), {}).values():
            _add(totals.stats, report)
            if _WORST.index(report.state) > _WORST.index(totals.state):
                totals.state = report.state
            totals.error = totals.error or report.error
        if mark in self.suspended:
            totals.state = "suspended"
            totals.error = totals.error or self.reasons.get(mark, "")
        return totals

    def shadow(self, path: str, mark: int) -> ShadowTotals:
        """A shadow in all processes."""
        totals = ShadowTotals()
        for report in self._shadows.get((path, mark), {}).values():
            _add(totals.stats, report)
            totals.compared += report.compared
            totals.differing += report.differing
            totals.examples += [_read(text) for text in report.examples]
        return totals


def _add(stats: CallStats, report: HookReport | ShadowReport) -> None:
    stats.add(report.calls, report.errors, report.nanoseconds, report.buckets)


def _read(text: str) -> Any:
    """An example; whoever sent it may have sent anything."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
