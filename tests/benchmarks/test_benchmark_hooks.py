"""What hooks cost: turns compare the right loads, and the report shows the result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import turns
from benchmarks.hooks import turns as module
from benchmarks.hooks.contenders import LUA, NGINX, NGINX_LUA, PLAIN, PYTHON
from benchmarks.hooks.report import markdown, rows
from benchmarks.hooks.turns import added, measure_turns
from benchmarks.load import SERIES
from benchmarks.processes import Cores
from benchmarks.procfs import Cpu, Times
from benchmarks.rounds import Plan
from tests.benchmarks.benchmark_samples import sample

#: CPU microseconds that a made-up slardar takes for a request, by load.
COSTS = {"no-hook": 30.0, "python": 33.0, "lua": 36.0}
INSIDE = {
    ("other", PYTHON): 0.05,
    **{
        (what, language): value
        for language in (PYTHON, LUA)
        for what, value in (("call", 2.0), ("loop", 60.0), ("memory", 12.0))
    },
}


class Load:
    """wrk for one host; requests are served while somebody waits for it."""

    def __init__(self, machine: Machine, state: str) -> None:
        self.machine = machine
        self.state = state
        self.frozen = False
        self.stopped = False

    def pause(self, seconds: float) -> None:
        """Serve for a while."""
        running = [load.state for load in self.machine.loads if not load.frozen]
        assert running == [self.state], "one load runs at a time"
        requests = int(seconds * 20_000)
        self.machine.requests += requests
        self.machine.cpu += requests * COSTS[self.state] / 1e6
        if seconds == 0.2:
            self.machine.order.append(self.state)

    def freeze(self) -> None:
        """Send no requests."""
        self.frozen = True

    def thaw(self) -> None:
        """Send requests again."""
        self.frozen = False

    def stop(self) -> None:
        """End; a frozen wrk would not end."""
        assert not self.frozen
        self.stopped = True


class Machine:
    """A slardar whose clock and counters go on when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hooks: list[tuple[str, str]] = []
        self.upstreams: dict[str, list[int]] = {}
        self.cpu = 0.0
        self.requests = 0
        self.order: list[str] = []
        self.loads: list[Load] = []
        self.running: Any = SimpleNamespace(
            control=1, program=SimpleNamespace(pids=list), proxy=SimpleNamespace(title="it")
        )
        monkeypatch.setattr(turns, "_wrk", self.load)
        monkeypatch.setattr(module, "activate", self.activate)
        monkeypatch.setattr(module, "set_upstream", self.set_upstream)
        monkeypatch.setattr(turns, "requests_of", lambda port: self.requests)
        monkeypatch.setattr(turns, "cpu_of", lambda pids: Cpu({1: Times(self.cpu, 0.0, 0.0)}))

    def load(self, running: Any, series: Any, state: str, *_: Any) -> Load:
        """Begin a load."""
        self.loads.append(Load(self, state))
        return self.loads[-1]

    def set_upstream(self, port: int, name: str, servers: list[int]) -> None:
        """Take an upstream."""
        self.upstreams[name] = servers

    def activate(self, port: int, language: str, name: str, code: str) -> None:
        """Put a hook into service."""
        if not code:
            raise OSError("no code")
        self.hooks.append((language, name))


def test_each_turn_has_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn begins with another load, one load runs at a time, and all end."""
    machine = Machine(monkeypatch)
    taken = measure_turns(machine.running, [7, 8], SERIES["small"], Cores([0, 1]), 12, 0.2)
    assert len(taken) == 12
    assert machine.order[:6] == ["no-hook", "python", "lua", "python", "lua", "no-hook"]
    assert machine.hooks == [
        ("python", "script.python.example.com"),
        ("lua", "script.lua.example.com"),
    ]
    assert machine.upstreams == {"python.example.com": [7, 8], "lua.example.com": [7, 8]}
    assert [load.stopped for load in machine.loads] == [True] * 3
    for state, more in ((PYTHON, 3.0), (LUA, 6.0)):
        found = added(taken, state)
        assert found is not None
        assert found.median == pytest.approx(more)
        assert found.low == pytest.approx(found.high)


def test_hook_that_is_refused_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line."""
    machine = Machine(monkeypatch)
    monkeypatch.setattr(module, "SCRIPTS", {PYTHON: "", LUA: ""})
    with pytest.raises(RuntimeError, match="it: no code"):
        measure_turns(machine.running, [7, 8], SERIES["small"], Cores([0, 1]), 1, 0.2)
    assert machine.loads == []


def test_median_and_middle_half() -> None:
    """Single turns do not count."""
    taken = [{PLAIN: 30.0, PYTHON: 30.0 + more} for more in (1.0, 2.0, 3.0, 4.0, 100.0)]
    found = added(taken, PYTHON)
    assert found is not None
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert added(taken[:1], PYTHON) is None


def test_report() -> None:
    """It has every figure, met or missed, and the table of the rounds."""
    taken = [{PLAIN: 30.0, PYTHON: 34.0, LUA: 35.5}] * 4
    costs = {PLAIN: 30.0, PYTHON: 34.0, LUA: 36.0, NGINX: 28.0, NGINX_LUA: 40.0}
    samples = [sample(name, turn, cost) for turn in range(3) for name, cost in costs.items()]
    found = rows(taken, samples, INSIDE)
    assert [(row.measured.split(" ")[0], row.met) for row in found] == [
        *(("4.0", True), ("5.5", False), ("0.05", None), ("0.90", True)),
        *(("60", True), ("60", True), ("12.0", True), ("12.0", True)),
    ]
    text = markdown(found, taken, samples, {"CPU": "a test"}, Plan(3, 1), ["x is left out"])
    assert "6 of 7 figures are met." in text
    assert "between 5.5 and 5.5 µs in half of the turns" in text
    assert "the aim is ≤ 0.85: missed" in text
    assert "| slardar, Lua hook | 36.0 | 36.0 | 36.0 |" in text
    assert "- x is left out" in text


def test_report_of_what_was_not_measured() -> None:
    """A figure that was not measured does not count as met."""
    found = rows([], [], INSIDE)
    assert [row.met for row in found] == [False, False, None, False] + [True] * 4
    assert "0 turns" in markdown(found, [], [], {}, Plan(1, 1), [])
