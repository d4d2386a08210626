"""Reports of processes on their hooks, and their sums."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from slardar.hooks.loaded import Loaded, ScriptVersions, mark_of, module_versions, used_modules
from slardar.hooks.report import HookReport, HookTally, ShadowReport, reports_of
from slardar.hooks.shadow import Comparison
from tests.hooks.kit import FakeEngine, code, hook

PATH = "python/script.a"


def script_with(**states: str) -> tuple[ScriptVersions, dict[str, Loaded]]:
    """A script with versions in these states, and the versions by name."""
    versions: dict[str, Loaded] = {}
    found = ScriptVersions(hook("script.a", "active"), "reject")
    for name, state in states.items():
        version = code(name)
        script = None if state == "failed" else FakeEngine().load("script.a", name, {})
        loaded = Loaded(PATH, version, script, "it broke" if script is None else "", {})
        loaded.suspended = state == "suspended"
        loaded.stats.took(1000)
        setattr(found, name, loaded)
        versions[name] = loaded
    return found, versions


def test_every_version_is_reported() -> None:
    """Each version is reported once, with its state and the reason."""
    found, versions = script_with(active="active", previous="suspended", canary="failed")
    found.shadow = versions["canary"]
    reports = list(reports_of([found]))
    hooks = {one.mark: one for one in reports if isinstance(one, HookReport)}
    assert {name: hooks[loaded.mark].state for name, loaded in versions.items()} == {
        "active": "active",
        "previous": "suspended",
        "canary": "failed",
    }
    assert hooks[versions["canary"].mark].error == "it broke"
    (shadow,) = [one for one in reports if isinstance(one, ShadowReport)]
    assert (shadow.mark, shadow.compared) == (versions["canary"].mark, 0)
    assert len(reports) == 4


def test_reports_travel() -> None:
    """Reports are JSON within the limits that the reader checks, and long texts are cut."""
    found, versions = script_with(active="failed", shadow="active")
    versions["active"].error = "x" * 5000
    found.comparison.note("GET /" + "y" * 500, {"body": "z" * 500}, {"body": "other"})
    for _ in range(20):
        found.comparison.note("GET /", {"headers": {"x": ["1"]}}, {"failed": True})
    for report in reports_of([found]):
        data = msgspec.json.encode(report)
        assert msgspec.json.decode(data, type=type(report)) == report
        if isinstance(report, ShadowReport):
            assert (report.compared, report.differing, len(report.examples)) == (21, 21, 5)


def test_example_that_is_too_long_is_left_out() -> None:
    """A report without the example is still a report."""
    found, _ = script_with(active="active", shadow="active")
    headers = {f"x{n}" * 100: ["y" * 500] * 30 for n in range(30)}
    found.comparison.note("GET /", {"headers": headers}, {})
    (shadow,) = [one for one in reports_of([found]) if isinstance(one, ShadowReport)]
    assert (shadow.differing, shadow.examples) == (1, ())


def test_examples_are_short() -> None:
    """Texts, lists and tables in an example are cut, whatever is in them."""
    comparison = Comparison()
    deep: Any = {"a": ["x" * 1000] * 100, **{str(n): n for n in range(100)}}
    comparison.note("x" * 1000, {"same": 1, "headers": deep}, {"same": 1, "headers": None})
    (example,) = comparison.examples
    assert len(example["request"]) == 200
    assert "same" not in example["active"]
    assert len(example["active"]["headers"]) == 20
    assert example["active"]["headers"]["a"] == ["x" * 200] * 20


def report(state: Any = "active", mark: int = 1, calls: int = 1, error: str = "") -> HookReport:
    """A worker's report on one version."""
    return HookReport(PATH, mark, state, error, calls, 1, 1000 * calls, ((40, calls),))


def shadow(examples: tuple[str, ...] = (), mark: int = 1) -> ShadowReport:
    """A worker's report on one shadow."""
    return ShadowReport(PATH, mark, 4, 2, examples, 3, 1, 3000, ((40, 3),))


def test_tally_adds_processes_up() -> None:
    """The last report of each process counts, with the worst state and the first reason."""
    tally = HookTally()
    tally.take(0, [report(calls=5), report(calls=7)])
    tally.take(1, [report("suspended", calls=3)])
    tally.take(2, [report("failed", calls=0, error="no")])
    totals = tally.totals(PATH, 1)
    assert (totals.stats.calls, totals.stats.errors, totals.state) == (10, 3, "suspended")
    assert totals.error == "no"
    tally.suspended.add(3)
    assert tally.totals(PATH, 3).error == "it failed too often: the log says more"
    nobody = tally.totals(PATH, 2)
    assert (nobody.stats.calls, nobody.state, nobody.error) == (0, "active", "")


def test_what_a_worker_counted_stays_counted() -> None:
    """It stays when the worker has ended, and another has its number."""
    tally = HookTally()
    tally.take(0, [report("suspended", calls=5), shadow()])
    tally.worker_ended(0)
    totals = tally.totals(PATH, 1)
    assert (totals.stats.calls, totals.stats.errors, totals.state) == (5, 1, "active")
    tally.take(0, [report(calls=2)])
    tally.worker_ended(0)
    tally.worker_ended(1)
    assert tally.totals(PATH, 1).stats.calls == 7
    assert tally.shadow(PATH, 1).compared == 0


def test_shadows_add_up() -> None:
    """The totals have the examples of all processes."""
    tally = HookTally()
    tally.take(0, [shadow(('{"a":1}',))])
    tally.take(1, [shadow(('{"b":2}',)), report()])
    totals = tally.shadow(PATH, 1)
    assert (totals.compared, totals.differing, totals.stats.calls) == (8, 4, 6)
    assert totals.examples == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 20000, "1" * 10000, '"\\ud800"'])
def test_example_that_is_no_json_is_nothing(text: str) -> None:
    """A worker that was taken over may have sent it; the totals can still be shown as JSON."""
    tally = HookTally()
    tally.take(0, [shadow((text,))])
    (found,) = tally.shadow(PATH, 1).examples
    json.dumps(found)
    msgspec.json.encode(found)


def test_versions_that_are_gone_are_forgotten() -> None:
    """They take no memory."""
    tally = HookTally()
    tally.take(0, [report(), report(mark=2), shadow()])
    tally.worker_ended(0)
    tally.take(0, [report(), report(mark=2), shadow(mark=2)])
    tally.keep({(PATH, 2)})
    assert tally.totals(PATH, 1).stats.calls == 0
    assert tally.totals(PATH, 2).stats.calls == 2
    assert tally.shadow(PATH, 2).compared == 4


# Versions.


def test_marks_differ() -> None:
    """The path, the code and the posting each change a mark; no version has the mark 0."""
    one, again = code("x"), code("x")
    marks = {mark_of("python/script.a", one), mark_of("lua/script.a", one),
             mark_of("python/script.a", again), mark_of("python/script.a", code("y"))}  # fmt: skip
    assert len(marks) == 4
    assert 0 not in marks
    assert mark_of(PATH, one) == mark_of(PATH, msgspec.convert(msgspec.to_builtins(one), type(one)))


def test_modules_that_code_uses() -> None:
    """Modules count if the code uses them through others, even in a circle, and if they are in
    service."""
    modules = {
        "modules.a": code("modules.b"),
        "modules.b": code("modules.c modules.a"),
        "modules.c": code("x"),
        "modules.d": code("x"),
    }
    used = used_modules(code("modules.a modules.z"), modules)
    assert set(used) == {"modules.a", "modules.b", "modules.c"}
    assert used["modules.c"] == modules["modules.c"].version
    assert used_modules(code("x"), modules) == {}
    assert module_versions(["modules.d", "modules.z"], modules) == {
        "modules.d": modules["modules.d"].version
    }


def test_versions_of_a_script_show_themselves() -> None:
    """The repr names the path."""
    assert (
        repr(ScriptVersions(hook("script.a", "x"), "reject")) == "<ScriptVersions python/script.a>"
    )
