"""Heartbeats, hints and several workers in virtual time, by the classes that serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slardar.simulation.load import Arrival
from slardar.simulation.run import simulate
from tests.simulation.test_run import counts, evenly, scenario

BAD = "10.0.0.1:80"
HTTP = {
    "enable": True,
    "typ": "http",
    "http_opts": {"query": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "statuses": {"500": False}},
}


def changes(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What has changed for servers, in its order."""
    return [(change["server"], change["status"]) for change in report["health"]]


def spread_over_clients(count: int, rate: float, clients: int = 64) -> list[Arrival]:
    """Requests at equal distances, of one client after the other."""
    return [Arrival(n / rate, "GET", f"/{n}", f"10.9.0.{n % clients}") for n in range(count)]


@pytest.mark.parametrize(("state", "late"), [("dead", 0.0), ("silent", 0.5)])
def test_heartbeats_keep_requests_from_a_server(tmp_path: Path, state: str, late: float) -> None:
    """A server without ``max_fails`` fails requests until the next heartbeat, or until that
    has had its time; it is back after ``rise`` good ones."""
    made = scenario(
        tmp_path,
        upstream={"enable": True, "rise": 2, "timeout": 0.1, "read_timeout": 0.1},
        health={"interval": 2, "timeout": 0.5},
        failures=[
            {"at": 10, "server": BAD, "state": state},
            {"at": 20, "server": BAD, "state": "up"},
        ],
    )
    report = simulate(made, evenly(4000))
    assert changes(report) == [(BAD, "err"), (BAD, "ok")]
    out, back = (change["at"] for change in report["health"])
    assert 10 + late < out < 12.01 + late
    assert 22 < back < 24.01
    assert (report["failed"], report["retries"]) == (0, report["servers"][BAD]["failures"])
    # One request in four goes to it, but for those under way.
    assert report["retries"] == pytest.approx((out - 10) * 25, abs=4)
    beats = [server["heartbeats"] for server in report["servers"].values()]
    assert beats == pytest.approx([20] * 4, abs=1)


def test_heartbeats_ask_as_the_upstream_says(tmp_path: Path) -> None:
    """With ``typ: http`` a server that replies 500 fails; with ``general`` it does not."""
    servers = {"*": {"time": 0.001, "spread": "constant"}, BAD: {"time": 0.001, "errors": 1.0}}
    asked = simulate(scenario(tmp_path, servers=servers, upstream=HTTP), evenly(400))
    # The first request comes before the first heartbeat has its reply.
    assert (counts(asked)[0], changes(asked)) == (1, [(BAD, "err")])
    assert asked["health"][0]["msg"] == "HTTP status 500"
    connected = simulate(
        scenario(tmp_path, servers=servers, upstream=HTTP | {"typ": "general"}), evenly(400)
    )
    assert (counts(connected)[0], changes(connected)) == (100, [])


def test_heartbeats_that_are_switched_off(tmp_path: Path) -> None:
    """By the upstream, or by the settings."""
    failures = [{"at": 0, "server": BAD, "state": "dead"}]
    for keys, health in (({"enable": False}, {}), ({"enable": True}, {"enabled": False})):
        made = scenario(tmp_path, upstream=keys, health=health, failures=failures)
        report = simulate(made, evenly(400))
        assert [server["heartbeats"] for server in report["servers"].values()] == [0] * 4
        assert report["retries"] == 100


def test_last_server_is_protected(tmp_path: Path) -> None:
    """The one that failed last stays in service, unless the upstream says otherwise."""
    failures = [{"at": n, "server": f"10.0.0.{n}:80", "state": "dead"} for n in (1, 2)]
    keys: dict[str, Any] = {"enable": True, "interval": 1}
    report = simulate(scenario(tmp_path, 2, upstream=keys, failures=failures), evenly(600))
    assert changes(report) == [("10.0.0.1:80", "err"), ("10.0.0.2:80", "unstable")]
    keys["protected"] = False
    report = simulate(scenario(tmp_path, 2, upstream=keys, failures=failures), evenly(600))
    assert changes(report)[-1] == ("10.0.0.2:80", "err")
    assert "no servers available in upstream simulated" in report["reasons"]


def test_server_drains_until_a_heartbeat_says_up(tmp_path: Path) -> None:
    """The hint comes in a reply; once there are none, heartbeats bring the next one.  Without
    ``hints`` it means nothing."""
    said = [{"at": 1, "server": BAD, "hint": "drain"}, {"at": 10, "server": BAD, "hint": "up"}]
    keys = HTTP | {"hints": True, "interval": 1}
    report = simulate(scenario(tmp_path, upstream=keys, failures=said), evenly(2000))
    assert changes(report) == [(BAD, "hint"), (BAD, "hint")]
    drained, up = report["health"]
    assert (drained["msg"], up["msg"]) == ("drain", "up")
    assert (1 <= drained["at"] < 1.05, 10 <= up["at"] < 11.05) == (True, True)
    assert counts(report)[0] == pytest.approx((drained["at"] + 20 - up["at"]) * 25, abs=3)
    keys["hints"] = False
    report = simulate(scenario(tmp_path, upstream=keys, failures=said), evenly(2000))
    assert counts(report) == [500] * 4


def test_server_says_its_weight(tmp_path: Path) -> None:
    """It gets requests by this weight from the first reply on."""
    servers = {"*": {"time": 0.001}, BAD: {"time": 0.001, "hint": "weight=3"}}
    report = simulate(scenario(tmp_path, servers=servers, upstream={"hints": True}), evenly(600))
    assert counts(report)[0] == pytest.approx(300, abs=3)


def test_full_server_gets_fewer_requests(tmp_path: Path) -> None:
    """It says so where it has as many requests as it wants."""
    servers = {"*": {"time": 0.01}, BAD: {"time": 0.2, "spread": "constant", "full_at": 3}}
    most = []
    for hints in (False, True):
        made = scenario(tmp_path, servers=servers, upstream={"hints": hints})
        report = simulate(made, evenly(800))
        most.append(report["servers"][BAD]["requests"])
    assert most[0] == 200
    assert most[1] < 100


def test_workers_tell_each_other_of_a_dead_server(tmp_path: Path) -> None:
    """One of them needs ``max_fails`` failures, and the others hear of it at
    once."""
    made: dict[str, Any] = {
        "upstream": {"mode": "random"},
        "each": {"max_fails": 4, "fail_timeout": 60},
        "failures": [{"at": 5, "server": BAD, "state": "dead"}],
    }
    load = spread_over_clients(1000, 50)
    alone = simulate(scenario(tmp_path, **made), load)
    assert alone["servers"][BAD]["failures"] == 4
    four = simulate(scenario(tmp_path, workers=4, **made), load)
    # Without a word, each of them would have lost four.
    assert 4 <= four["servers"][BAD]["failures"] < 16
    assert changes(four) == [(BAD, "out")]
    assert sum(counts(four)) == 1000 + four["retries"]


def test_workers_share_a_retry_budget(tmp_path: Path) -> None:
    """Together they make about as many retries as one worker."""
    servers = {"*": {"time": 0.001, "errors": 1.0}}
    keys = {"http_opts": {"statuses": {"500": False}}, "retry_on": ["status"], "try": 2}
    keys["retry_budget"] = {"share": 0, "min": 8}
    load = spread_over_clients(2000, 100)
    retries = [
        simulate(scenario(tmp_path, servers=servers, upstream=keys, workers=n), load)["retries"]
        for n in (1, 4)
    ]
    assert retries == pytest.approx([160, 160], rel=0.1)


def test_workers_eject_no_more_than_all_together_may(tmp_path: Path) -> None:
    """Each of them alone sees two outliers, of which one may be ejected."""
    servers = {"*": {"time": 0.001}, **{f"10.0.0.{n}:80": {"errors": 1.0} for n in (1, 2)}}
    keys = {"outlier": {"max_share": 0.3, "min_requests": 5, "eject": 300}}
    made = scenario(tmp_path, servers=servers, upstream=keys, workers=4)
    report = simulate(made, spread_over_clients(4000, 100))
    bad = counts(report)[:2]
    assert min(bad) < 200
    assert max(bad) > 1000


def test_restarted_server_is_slow_at_first(tmp_path: Path) -> None:
    """It takes ``cold`` times as long, and falls to its time within ``warm_up`` seconds."""
    servers = {"*": {"time": 0.01, "spread": "constant", "cold": 11, "warm_up": 10}}
    failures = [
        {"at": 1, "server": BAD, "state": "dead"},
        {"at": 2, "server": BAD, "state": "up"},
    ]
    made = scenario(tmp_path, 1, servers=servers, failures=failures)
    report = simulate(made, [Arrival(at, "GET", "/", "a") for at in (0.5, 2, 7, 12, 20)])
    seconds = report["seconds"]
    assert seconds["max"] == pytest.approx(0.11, abs=0.002)
    assert seconds["p50"] == pytest.approx(0.01, abs=0.002)
    assert seconds["mean"] == pytest.approx((0.01 + 0.11 + 0.06 + 0.01 + 0.01) / 5, abs=0.002)
