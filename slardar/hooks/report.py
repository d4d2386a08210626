"""Reports of one process on its hooks, and the sums over all processes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from slardar.hooks.loaded import Loaded, ScriptVersions
from slardar.hooks.shadow import EXAMPLES, Comparison
from slardar.hooks.stats import CallStats

__all__ = ["TOO_OFTEN", "HookReport", "HookTally", "HookTotals", "ShadowReport", "reports_of"]

#: A double holds numbers up to this limit exactly; no counter comes near it.
Counter = Annotated[int, Meta(ge=0, le=2**53)]
Path = Annotated[str, Meta(max_length=300)]
Mark = Annotated[int, Meta(ge=0, le=2**32)]
Text = Annotated[str, Meta(max_length=1000)]
#: Pairs of a bucket's number and its count.  63 bits of nanoseconds have 252 buckets.
Buckets = Annotated[
    tuple[tuple[Annotated[int, Meta(ge=0, le=260)], Counter], ...], Meta(max_length=260)
]
Example = Annotated[str, Meta(max_length=20000)]
State = Literal["active", "failed", "suspended"]


class HookReport(Struct, array_like=True, frozen=True):
    """One version of a hook in one process, with its counters since the process began."""

    path: Path
    mark: Mark
    state: State
    #: Why the version could not be loaded, or is suspended; empty if neither is known.
    error: Text
    calls: Counter
    errors: Counter
    nanoseconds: Counter
    buckets: Buckets


class ShadowReport(Struct, array_like=True, frozen=True):
    """A staged version that runs as a shadow in one process, and how it compared."""

    path: Path
    mark: Mark
    compared: Counter
    differing: Counter
    #: Examples of requests that differed, each as JSON.
    examples: Annotated[tuple[Example, ...], Meta(max_length=EXAMPLES)]
    calls: Counter
    errors: Counter
    nanoseconds: Counter
    buckets: Buckets


def reports_of(scripts: Iterable[ScriptVersions]) -> Iterator[HookReport | ShadowReport]:
    """The reports on every version and every shadow of ``scripts``."""
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

#: Why a version is suspended, if there is no other reason.
TOO_OFTEN = "it failed too often"

#: The states of a version, the worst last; the worst of all processes is shown.
_WORST = ("active", "failed", "suspended")


class HookTally:
    """Keeps what the processes have reported, each by the number of its worker."""

    def __init__(self) -> None:
        self._reports: dict[_Key, dict[int, HookReport]] = {}
        self._shadows: dict[_Key, dict[int, ShadowReport]] = {}
        #: The marks of the versions that are suspended in every process, even if a process
        #: still reports another state.
        self.suspended: set[int] = set()
        #: Why a version is suspended, by mark.
        self.reasons: dict[int, str] = {}
        #: The counters of the processes that have ended.
        self._ended: dict[_Key, CallStats] = {}

    def take(self, worker: int, reports: Iterable[HookReport | ShadowReport]) -> None:
        """Take the reports of a process."""
        for report in reports:
            key = (report.path, report.mark)
            if isinstance(report, HookReport):
                self._reports.setdefault(key, {})[worker] = report
            else:
                self._shadows.setdefault(key, {})[worker] = report

    def worker_ended(self, worker: int) -> None:
        """A process has ended; what it counted stays counted."""
        for key, reports in self._reports.items():
            report = reports.pop(worker, None)
            if report is not None:
                _add(self._ended.setdefault(key, CallStats()), report)
        for shadows in self._shadows.values():
            shadows.pop(worker, None)

    def keep(self, keys: set[_Key]) -> None:
        """Forget every version but those with these paths and marks."""
        for table in (self._reports, self._shadows, self._ended):
            for key in [key for key in table if key not in keys]:
                del table[key]

    def calls(self) -> Iterator[tuple[str, int, CallStats]]:
        """The path and the mark of every version, with its counters in all processes."""
        for path, mark in {**self._ended, **self._reports}:
            yield path, mark, self.totals(path, mark).stats

    def totals(self, path: str, mark: int) -> HookTotals:
        """The totals of one version in all processes."""
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
        if totals.state == "suspended":
            totals.error = totals.error or f"{TOO_OFTEN}: the log says more"
        return totals

    def shadow(self, path: str, mark: int) -> ShadowTotals:
        """The totals of one shadow in all processes."""
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
    """Decode an example; ``None`` if a process sent something else."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
