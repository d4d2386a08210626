"""Simulations: the balance that arithmetic says, and failures that cost what the rules say."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from slardar.balancers.base import Balancer
from slardar.errors import ConfigError
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server
from slardar.plugins import balancer_factory
from slardar.simulation.clients import request_of
from slardar.simulation.load import Arrival, made_by_lot
from slardar.simulation.run import simulate
from slardar.simulation.scenario import Load, Scenario, read_scenario


def scenario(
    tmp_path: Path, count: int = 4, weights: tuple[int, ...] = (), **rest: Any
) -> Scenario:
    """A scenario of ``count`` servers, 10.0.0.1:80 and so on, that serve at once unless the
    rest says something else, and that get no heartbeats."""
    keys = rest.pop("upstream", {})
    each = rest.pop("each", {})
    servers = [
        {"host": f"10.0.0.{n}", "port": 80, "weight": weights[n - 1] if weights else 1, **each}
        for n in range(1, count + 1)
    ]
    body = {"servers": {"*": {"time": 0.001, "spread": "constant"}}, "load": {"rate": 100}} | rest
    body["upstream"] = {"servers": servers, "enable": False, **keys}
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(body))
    return read_scenario(str(path))


def evenly(count: int, rate: float = 100.0, method: str = "GET") -> list[Arrival]:
    """Requests at equal distances, each for another path."""
    return [Arrival(n / rate, method, f"/{n}", "10.9.0.1") for n in range(count)]


def counts(report: dict[str, Any]) -> list[int]:
    return [server["requests"] for server in report["servers"].values()]


def test_wrr_shares_by_weight(tmp_path: Path) -> None:
    """Each turn of as many requests as the weights have together is shared exactly."""
    report = simulate(scenario(tmp_path, 3, (5, 2, 1)), evenly(800))
    assert counts(report) == [500, 200, 100]
    assert report["max_over_mean"] == 1.0
    assert (report["requests"], report["attempts"], report["retries"]) == (800, 800, 0)
    assert report["statuses"] == {"200": 800}


def test_hash_sends_each_path_where_the_balancer_says(tmp_path: Path) -> None:
    """The same balancer, asked beside it, gives the same counts."""
    arrivals = evenly(2000)
    report = simulate(scenario(tmp_path, 5, upstream={"mode": "url_hash"}), arrivals)
    peers = [Peer(Server(host=f"10.0.0.{n}", port=80), ServerLive()) for n in range(1, 6)]
    balancer: Any = balancer_factory("url_hash")(peers, {})
    expected = dict.fromkeys((peer.key for peer in peers), 0)
    for arrival in arrivals:
        expected[balancer.pick(peers, request_of(arrival)).key] += 1
    assert counts(report) == list(expected.values())


def test_p2c_prefers_the_idle(tmp_path: Path) -> None:
    """Equal servers get equal shares; one that is ten times slower gets less than the others."""
    servers: dict[str, Any] = {"*": {"time": 0.05}}
    load = list(made_by_lot(Load(rate=400, seconds=8), random.Random(1)))
    even = simulate(scenario(tmp_path, upstream={"mode": "p2c"}, servers=servers), load)
    assert even["max_over_mean"] < 1.05
    servers["10.0.0.1:80"] = {"time": 0.5}
    uneven = simulate(scenario(tmp_path, upstream={"mode": "p2c"}, servers=servers), load)
    assert counts(uneven)[0] < min(counts(uneven)[1:]) / 2
    assert uneven["seconds"]["mean"] > even["seconds"]["mean"]


def test_queue_of_the_textbook(tmp_path: Path) -> None:
    """M/M/1 at half its capacity: a request waits as long as it is served, on average."""
    servers = {"*": {"time": 0.01, "capacity": 1}}
    load = made_by_lot(Load(rate=50, seconds=200), random.Random(2))
    report = simulate(scenario(tmp_path, 1, servers=servers), load)
    (server,) = report["servers"].values()
    assert server["waited"] == pytest.approx(0.01, rel=0.15)
    assert report["seconds"]["mean"] == pytest.approx(0.02, rel=0.1)
    assert server["most_at_a_time"] == 1


def test_dead_server_is_put_out_after_max_fails(tmp_path: Path) -> None:
    """Three failures, and one more each time that it is tried again; none reaches a client."""
    key = "10.0.0.2:80"
    report = simulate(
        scenario(
            tmp_path,
            each={"max_fails": 3, "fail_timeout": 10},
            failures=[
                {"at": 5, "server": key, "state": "dead"},
                {"at": 27, "server": key, "state": "up"},
            ],
        ),
        evenly(6000),
    )
    assert report["servers"][key]["failures"] == 5
    assert (report["failed"], report["retries"]) == (0, 5)
    assert [(change["server"], change["status"]) for change in report["health"]] == [
        (key, "out"), (key, "out"), (key, "out"), (key, "in"),
    ]  # fmt: skip
    out, again, third, back = [change["at"] for change in report["health"]]
    assert out == pytest.approx(5.1, abs=0.1)
    assert again - out == third - again == pytest.approx(10, abs=0.1)
    assert back - third == pytest.approx(10, abs=0.1)


def test_silent_server_costs_its_timeout(tmp_path: Path) -> None:
    """A GET waits for the timeout and is sent again; a POST that was sent is not."""
    silent = [{"at": 1, "server": "10.0.0.1:80", "state": "silent"}]
    keys = {"read_timeout": 2, "timeout": 1}
    each = {"max_fails": 1, "fail_timeout": 60}
    made = scenario(tmp_path, upstream=keys, each=each, failures=silent)
    report = simulate(made, evenly(400))
    assert report["failed"] == 0
    assert report["retries"] == report["servers"]["10.0.0.1:80"]["failures"] > 0
    assert report["seconds"]["max"] == pytest.approx(2, abs=0.1)
    report = simulate(made, evenly(400, method="POST"))
    assert report["statuses"]["504"] == report["failed"] > 0
    assert report["reasons"] == {"the server did not reply in time": report["failed"]}


def test_errors_and_slowness_come_and_go(tmp_path: Path) -> None:
    """They hold from a change to the next one."""
    key = "10.0.0.1:80"
    failures = [
        {"at": 1, "server": key, "errors": 1.0, "slow": 50},
        {"at": 2.03, "server": key, "errors": 0, "slow": 1},
    ]
    report = simulate(scenario(tmp_path, failures=failures), evenly(400))
    assert report["statuses"] == {"200": 375, "500": 25}
    assert report["seconds"]["p90"] < 0.01
    assert report["seconds"]["max"] == pytest.approx(0.051, abs=0.002)


def test_no_server_is_left(tmp_path: Path) -> None:
    """The clients get the replies that slardar gives."""
    failures = [{"at": 0, "server": f"10.0.0.{n}:80", "state": "dead"} for n in (1, 2)]
    report = simulate(scenario(tmp_path, 2, failures=failures), evenly(10))
    assert report["statuses"] == {"502": 10}
    assert report["attempts"] == 20


def test_hedging_bounds_the_wait(tmp_path: Path) -> None:
    """A slow server costs no more than the time until the second one is asked; this is no
    retry."""
    servers = {"*": {"time": 0.01, "spread": "constant"}, "10.0.0.1:80": {"time": 1}}
    plain = simulate(scenario(tmp_path, servers=servers), evenly(400))
    assert (plain["seconds"]["max"] > 0.9, plain["hedged"]) == (True, 0)
    keys = {"hedge": {"after": 0.05}, "retry_budget": {"share": 1.0, "min": 1000}}
    hedged = simulate(scenario(tmp_path, servers=servers, upstream=keys), evenly(400))
    assert hedged["seconds"]["max"] < 0.1
    assert hedged["hedged"] == hedged["attempts"] - 400 > 50
    assert hedged["retries"] == 0


def test_requests_wait_where_there_is_a_queue(tmp_path: Path) -> None:
    """Without one they are refused while the server is full; with one the textbook's M/M/1
    holds for the time in slardar, too."""
    servers = {"*": {"time": 0.01}}
    load = list(made_by_lot(Load(rate=50, seconds=100), random.Random(2)))
    each = {"max_conns": 1}
    full = simulate(scenario(tmp_path, 1, servers=servers, each=each), load)
    assert full["statuses"]["503"] == pytest.approx(len(load) / 3, rel=0.1)
    keys = {"queue": {"size": 1000, "timeout": 100}}
    made = scenario(tmp_path, 1, servers=servers, each=each, upstream=keys)
    waiting = simulate(made, load)
    assert waiting["failed"] == 0
    assert waiting["queued"] == pytest.approx(len(load) / 2, rel=0.1)
    assert waiting["seconds"]["mean"] == pytest.approx(0.02, rel=0.2)


def test_outlier_is_ejected(tmp_path: Path) -> None:
    """The server that errs gets no more requests."""
    servers = {"*": {"time": 0.001}, "10.0.0.1:80": {"time": 0.001, "errors": 1.0}}
    keys = {"outlier": {"errors": 0.5, "eject": 300}}
    report = simulate(scenario(tmp_path, servers=servers, upstream=keys), evenly(2000))
    assert ("10.0.0.1:80", "ejected") in [
        (one["server"], one["status"]) for one in report["health"]
    ]
    assert report["failed"] < 100


class Broken(Balancer):
    """A balancer of somebody's own that does not work."""

    def pick(self, servers: Any, request: Any) -> Any:
        raise RuntimeError("no")


def test_balancer_that_fails(tmp_path: Path) -> None:
    """The report says so; requests go on, as they do where it serves."""
    mode = f"{Broken.__module__}.Broken"
    report = simulate(scenario(tmp_path, upstream={"mode": mode}), evenly(10))
    assert report["statuses"] == {"200": 10}
    assert report["balancer_errors"] == {"pick: RuntimeError: no": 10}


def test_seed_decides(tmp_path: Path) -> None:
    """The same one gives the same report, another one another."""
    keys = {"mode": "random"}
    servers = {"*": {"time": 0.01, "errors": 0.1}}

    def report(seed: int) -> dict[str, Any]:
        load = made_by_lot(Load(rate=50, seconds=10), random.Random(seed))
        return simulate(scenario(tmp_path, upstream=keys, servers=servers), load, seed)

    assert report(1) == report(1)
    assert report(1) != report(2)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"failures": [{"at": 1, "server": "10.0.0.9:80", "state": "dead"}]}, "failures"),
        ({"failures": [{"at": 1, "server": "*", "state": "dead"}]}, "failures"),
        ({"servers": {"10.0.0.9:80": {}}}, "servers"),
        ({"servers": {"*": {"speed": 1}}}, "speed"),
        ({"servers": {"*": {"hint": "full\n"}}}, "hint"),
        ({"load": {"rate": 0}}, "load.rate"),
        ({"workers": 0}, "workers"),
        ({"health": {"interval": 0}}, "health.interval"),
        ({"upstream": {"mode": "none"}}, "upstream.mode"),
        ({"odd": 1}, "odd"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    """Each with its place."""
    with pytest.raises(ConfigError) as caught:
        scenario(tmp_path, **change)
    assert place in str(caught.value)


STICKY = {"mode": "sticky", "mode_opts": {"secret": "0123456789abcdef", "max_age": 60}}


def visits(rate: float, seconds: float) -> list[Arrival]:
    """Forty-one clients, one after the other, again and again."""
    count = int(rate * seconds)
    return [Arrival(n / rate, "GET", "/", f"10.9.0.{n % 41}") for n in range(count)]


def test_sticky_clients_keep_their_cookies(tmp_path: Path) -> None:
    """They stay where they were while the server is in service, and go to another one for
    good if it is not."""
    made = scenario(tmp_path, upstream=STICKY)
    report = simulate(made, visits(81, 50))
    assert report["clients_moved"] == 0
    # So they would not with the balancer alone.
    assert simulate(scenario(tmp_path, upstream={"mode": "wrr"}), visits(81, 50))["clients_moved"]
    failures = [
        {"at": 10, "server": "10.0.0.2:80", "state": "dead"},
        {"at": 20, "server": "10.0.0.2:80", "state": "up"},
    ]
    each = {"max_fails": 1, "fail_timeout": 5}
    made = scenario(tmp_path, upstream=STICKY, each=each, failures=failures)
    report = simulate(made, visits(81, 50))
    assert report["clients_moved"] == 10
    # When the cookie is over, every client is a new one: the turn goes to other servers.
    assert simulate(scenario(tmp_path, 3, upstream=STICKY), visits(1, 200))["clients_moved"]


@pytest.mark.parametrize(
    ("method", "body", "retried"),
    [("PUT", 1000, True), ("PUT", 200_000, False), ("GET", 200_000, True), ("POST", 1000, False)],
)
def test_body_decides_about_retries(tmp_path: Path, method: str, body: int, retried: bool) -> None:
    """A request is sent again if it may be, and if its body is still there."""
    failures = [{"at": 0.5, "server": "10.0.0.1:80", "state": "silent"}]
    load = {"rate": 100, "body": body}
    keys = {"read_timeout": 0.5, "timeout": 0.5, "keepalive": 100}
    made = scenario(tmp_path, 2, upstream=keys, load=load, failures=failures)
    # One after the other, so that there is one connection to each server before it falls
    # silent: a request that is not on its way yet may always go elsewhere.
    load_of = [Arrival(at, method, "/", "a") for at in (0.1, 0.2, 1.0, 1.1)]
    report = simulate(made, load_of)
    assert report["servers"]["10.0.0.1:80"]["failures"] == 1
    assert (report["retries"], report["failed"]) == ((1, 0) if retried else (0, 1))


def test_request_with_a_body_is_not_hedged(tmp_path: Path) -> None:
    """The same requests without one are."""
    servers = {"*": {"time": 1.0, "spread": "constant"}}
    keys = {"hedge": {"after": 0.05}}
    hedged = []
    for body in (0, 100):
        made = scenario(tmp_path, servers=servers, upstream=keys, load={"rate": 1, "body": body})
        hedged.append(simulate(made, evenly(10, 1, "PUT"))["hedged"])
    assert hedged == [10, 0]
