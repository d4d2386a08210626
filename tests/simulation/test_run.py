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
from slardar.simulation.load import Arrival, made_by_lot
from slardar.simulation.run import _request, simulate
from slardar.simulation.scenario import Load, Scenario, read_scenario


def scenario(
    tmp_path: Path, count: int = 4, weights: tuple[int, ...] = (), **rest: Any
) -> Scenario:
    """A scenario of ``count`` servers, 10.0.0.1:80 and so on, that serve at once unless the
    rest says something else."""
    keys = rest.pop("upstream", {})
    each = rest.pop("each", {})
    servers = [
        {"host": f"10.0.0.{n}", "port": 80, "weight": weights[n - 1] if weights else 1, **each}
        for n in range(1, count + 1)
    ]
    body = {"servers": {"*": {"time": 0.001, "spread": "constant"}}, "load": {"rate": 100}} | rest
    body["upstream"] = {"servers": servers, **keys}
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
        expected[balancer.pick(peers, _request(arrival)).key] += 1
    assert counts(report) == list(expected.values())


def test_p2c_prefers_the_idle(tmp_path: Path) -> None:
    """Equal servers get equal shares; one that is ten times slower gets less than the others."""
    servers: dict[str, Any] = {"*": {"time": 0.05}}
    load = list(made_by_lot(Load(rate=400, seconds=20), random.Random(1)))
    even = simulate(scenario(tmp_path, upstream={"mode": "p2c"}, servers=servers), load)
    assert even["max_over_mean"] < 1.05
    servers["10.0.0.1:80"] = {"time": 0.5}
    uneven = simulate(scenario(tmp_path, upstream={"mode": "p2c"}, servers=servers), load)
    assert counts(uneven)[0] < min(counts(uneven)[1:]) / 2
    assert uneven["seconds"]["mean"] > even["seconds"]["mean"]


def test_queue_of_the_textbook(tmp_path: Path) -> None:
    """M/M/1 at half its capacity: a request waits as long as it is served, on average."""
    servers = {"*": {"time": 0.01, "capacity": 1}}
    load = made_by_lot(Load(rate=50, seconds=600), random.Random(2))
    report = simulate(scenario(tmp_path, 1, servers=servers), load)
    (server,) = report["servers"].values()
    assert server["waited"] == pytest.approx(0.01, rel=0.1)
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
        ({"load": {"rate": 0}}, "load.rate"),
        ({"upstream": {"mode": "none"}}, "upstream.mode"),
        ({"odd": 1}, "odd"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    """Each with its place."""
    with pytest.raises(ConfigError) as caught:
        scenario(tmp_path, **change)
    assert place in str(caught.value)
