"""What the simulator shows of each balancer: many servers, one that is slow, one that errs, and
all that come back from a restart."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

from benchmarks.balancing.modes import Mode
from slardar.http1.reply import Reply
from slardar.simulation.clients import Visit
from slardar.simulation.load import made_by_lot
from slardar.simulation.run import Simulation, simulate
from slardar.simulation.scenario import Scenario, read_scenario

__all__ = [
    "ERRING",
    "GUARDS",
    "HERD",
    "Herd",
    "Load",
    "Scene",
    "crowd",
    "herd",
    "one_errs",
    "one_slow",
]

#: Each server serves so many requests at one time, in so many seconds each on average.
_CAPACITY = 4
_TIME = 0.02
#: The part of what all can serve that comes.
_BUSY = 0.6
#: Servers of the scenes with a bad one, which is the first of them.
_FEW = 10
_BAD = "10.0.0.0:80"
#: Tenfold, and always.
_SLOW = 10


def _scenario(mode: Mode, count: int, keys: Mapping[str, Any], **file: Any) -> Scenario:
    """Equal servers, and what else the file says."""
    each = file.pop("each", {})
    upstream = {
        "mode": mode.mode,
        "mode_opts": dict(mode.options),
        "servers": [
            {"host": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "port": 80, **each}
            for n in range(count)
        ],
        **keys,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.yaml"
        path.write_text(yaml.safe_dump({"upstream": upstream, **file}))
        return read_scenario(str(path))


class Scene(NamedTuple):
    """One balancer in one scene."""

    #: The requests of the busiest server over the mean, and of the bad server over the mean.
    most: float
    bad: float
    #: The most requests that one server worked on at a time.
    crowded: int
    #: Milliseconds from a request to its reply.
    p50: float
    p99: float
    #: The share of the requests that failed.
    failed: float


class Load(NamedTuple):
    """How many requests come: so many seconds of a load that keeps the servers busy."""

    seconds: float
    busy: float = _BUSY

    def of(self, count: int, capacity: int = _CAPACITY, time: float = _TIME) -> dict[str, Any]:
        """The load of so many servers, as a scenario has it."""
        rate = count * capacity / time * self.busy
        return {"rate": rate, "seconds": self.seconds, "paths": 1_000_000, "clients": 20_000}


def _run(scenario: Scenario) -> Scene:
    report = simulate(scenario, made_by_lot(scenario.load, Random(3)))
    servers = report["servers"]
    seconds = report["seconds"]
    return Scene(
        report["max_over_mean"],
        servers[_BAD]["share"] * len(servers),
        max(server["most_at_a_time"] for server in servers.values()),
        seconds["p50"] * 1000,
        seconds["p99"] * 1000,
        report["failed"] / report["requests"],
    )


def _behaviour(**keys: Any) -> dict[str, Any]:
    return {"time": _TIME, "capacity": _CAPACITY, **keys}


def crowd(mode: Mode, count: int, load: Load) -> Scene:
    """Many equal servers, each busy with a part of what it can serve."""
    servers = {"*": {"time": _TIME}}
    return _run(_scenario(mode, count, {}, servers=servers, load=load.of(count)))


def one_slow(mode: Mode, load: Load, keys: Mapping[str, Any]) -> Scene:
    """One of ten servers takes ten times as long."""
    servers = {"*": _behaviour(), _BAD: _behaviour(time=_TIME * _SLOW)}
    return _run(_scenario(mode, _FEW, keys, servers=servers, load=load.of(_FEW)))


#: What keeps requests from a server that errs: nothing, passive health, or ejection.
GUARDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "max_fails": {
        "http_opts": {"statuses": {"500": False}},
        "retry_on": ["connect", "error", "timeout", "status"],
    },
    "outlier": {"outlier": {}},
}
#: Seconds that an error takes: a server that cannot do its work is often quick to say so.
ERRING = 0.002


def one_errs(mode: Mode, load: Load, guard: str) -> Scene:
    """One of ten servers replies 500 to everything, quickly."""
    servers = {"*": _behaviour(), _BAD: _behaviour(time=ERRING, errors=1.0)}
    each = {"max_fails": 3, "fail_timeout": 10} if guard == "max_fails" else {}
    made = _scenario(mode, _FEW, GUARDS[guard], servers=servers, load=load.of(_FEW), each=each)
    return _run(made)


class Herd(NamedTuple):
    """All servers restart, and nobody has waited for them."""

    #: For each second of the run: requests that got a good reply, and attempts, each as a
    #: share of the requests that came.
    good: list[float]
    attempts: list[float]
    #: The share of all requests that failed, and the seconds after which at least 99 of a
    #: hundred got a good reply in every second (``None``: it did not come to that).
    failed: float
    recovered: int | None


#: The keys of each run.
HERD: dict[str, dict[str, Any]] = {
    "neither": {"retry_budget": None},
    "slow_start": {"retry_budget": None, "slow_start": 10},
    "retry_budget": {},
    "both": {"slow_start": 10},
}
#: When all die, when the first is back, and the seconds from one to the next.
DIE, BACK, APART = 10, 12, 0.2
_HERD_BUSY = 0.7
_RECOVERED = 0.99


class _Recorder(Simulation):
    """Writes down what happens in each second."""

    def __init__(self, scenario: Scenario, seconds: int) -> None:
        super().__init__(scenario)
        self.good = [0] * seconds
        self.attempts_by_then: list[int] = []
        for second in range(1, seconds + 1):
            self.engine.at(second, self._look)

    def _look(self) -> None:
        self.attempts_by_then.append(self.attempts)

    def replied(self, visit: Visit, reply: Reply) -> None:
        """Count a reply in the second in which its request came."""
        if reply.status < 500:
            second = int(self.engine.elapsed - (self.engine.clock.now - visit.began))
            self.good[min(second, len(self.good) - 1)] += 1
        super().replied(visit, reply)


def herd(keys: Mapping[str, Any], seconds: int) -> Herd:
    """Ten servers die together and are back one after the other.  They take twice as long at
    first; a try has a second, and there are three."""
    failures = []
    for n in range(_FEW):
        key = f"10.0.0.{n}:80"
        failures.append({"at": DIE, "server": key, "state": "dead"})
        failures.append({"at": BACK + n * APART, "server": key, "state": "up"})
    load = Load(seconds, _HERD_BUSY).of(_FEW)
    made = _scenario(
        Mode("wrr", "wrr"),
        _FEW,
        {"read_timeout": 1, "timeout": 1, "try": 3, "interval": 1, **keys},
        servers={"*": _behaviour(cold=2, warm_up=10)},
        load=load,
        failures=failures,
    )
    recorder = _Recorder(made, seconds)
    arrivals = list(made_by_lot(made.load, Random(3)))
    report = recorder.run(arrivals)
    came = [0] * seconds
    for arrival in arrivals:
        came[min(int(arrival.at), seconds - 1)] += 1
    good = [count / max(1, all_) for count, all_ in zip(recorder.good, came, strict=True)]
    sent = [after - before for before, after in pairwise([0, *recorder.attempts_by_then])]
    bad = [second for second in range(DIE, seconds) if good[second] < _RECOVERED]
    recovered = bad[-1] + 1 - DIE if bad and bad[-1] + 1 < seconds else None
    rate = load["rate"]
    attempts = [count / rate for count in sent]
    return Herd(good, attempts, report["failed"] / report["requests"], recovered)
