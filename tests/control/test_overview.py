"""The counters for a live view: of everything, of every upstream, and of some servers."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.control.actions import Actions
from slardar.control.overview import COLUMNS
from slardar.model.live import ServerLive
from slardar.observers.counted import Counted, ServerCounted, UpstreamCounted
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream
from tests.control.test_names import TEAM, call, client

ZEROS = (0,) * 13


@pytest.fixture
def plane() -> FakePlane:
    """A plane that has counted some requests of ``a``, and none of ``b``."""
    return FakePlane()


@pytest.fixture
def actions(plane: FakePlane) -> Actions:
    """Two upstreams, one of them with a server that is drained."""
    second = upstream(3)
    second["servers"][0]["state"] = "drain"
    actions = make_actions(FakeStore(), plane, upstreams={"a": upstream(1, 2), "b": second})
    servers = (
        ServerCounted("127.0.0.1:1", {200: 5, 503: 2, 0: 1}, {"connect": 3}, 4, (5, *ZEROS)),
        ServerCounted("127.0.0.1:2", {200: 1}),
    )
    codes = {200: 6, 404: 1, 502: 2, 0: 1}
    about = UpstreamCounted("a", codes, (10, *ZEROS), 0.5, 100, 2000, 3, 1, servers)
    plane.take_counted(Counted((about,), {"no_upstream": 7}))
    return actions


def overview(actions: Actions, query: str = "") -> Any:
    """The answer to a caller without limits."""
    reply = WebClient(actions).call("GET", f"/overview{query}")
    assert reply.status == 200, reply.body
    return reply.json


def test_totals(actions: Actions) -> None:
    """Errors are answers of 500 and more, and requests without an answer."""
    found = overview(actions)
    assert found["totals"] == {
        "requests": 10,
        "errors": 3,
        "retries": 3,
        "bytes_in": 100,
        "bytes_out": 2000,
        "buckets": [10, *ZEROS],
        "connections": {"tcp:8080": 1},
        "tunnels": 0,
        "refused": {"no_upstream": 7},
    }
    assert len(found["bounds"]) + 1 == len(found["totals"]["buckets"])
    assert found["caller"] == {"who": "http", "role": "admin"}
    assert found["workers"] == {"worker-0": {"pid": 5}}
    assert found["store"]["status"] == "ok"
    assert len(found["generations"]) == 1
    # Of servers and of single upstreams it tells nothing unless asked.
    assert "index" not in found
    assert found["upstreams"] == {}


def test_index(actions: Actions, plane: FakePlane) -> None:
    """A row for each upstream, also for one without requests; a drained server is not up."""
    index = overview(actions, "?index=1")["index"]
    assert index["columns"] == list(COLUMNS)
    assert index["rows"] == [["a", 2, 2, 10, 3, 3, 2000], ["b", 1, 0, 0, 0, 0, 0]]
    before = plane.facts()
    plane.facts = lambda: before._replace(server=lambda *key: (key[2] != 1, 0))  # type: ignore[method-assign]
    assert overview(actions, "?index=1")["index"]["rows"][0][:3] == ["a", 2, 1]


def test_servers(actions: Actions, plane: FakePlane) -> None:
    """Those of the upstreams that are named, with their health and what was counted."""
    live = ServerLive()
    live.status, live.msg, live.active = "err", "refused", 3
    plane.live = {"a": {"127.0.0.1:1": live}}
    plane.upstream_counts = {"a": {"waiting": 2}}
    found = overview(actions, "?upstream=a&upstream=none&upstream=a")["upstreams"]
    assert list(found) == ["a"]
    about = found["a"]
    assert (about["requests"], about["errors"], about["retries"]) == (10, 3, 3)
    assert (about["mode"], about["origin"], about["counts"]) == ("wrr", "file", {"waiting": 2})
    ((first, second),) = about["levels"]
    assert (first["address"], first["status"], first["msg"]) == ("127.0.0.1:1", "err", "refused")
    assert (first["active"], first["errors"], first["ejections"]) == (3, 3, 4)
    assert first["codes"] == {"200": 5, "503": 2, "0": 1}
    assert first["kinds"] == {"connect": 3}
    assert first["buckets"] == [5, *ZEROS]
    assert (second["codes"], second["errors"]) == ({"200": 1}, 0)
    assert "buckets" not in second


def test_servers_are_timed_for_those_who_look(actions: Actions, plane: FakePlane) -> None:
    """Nobody pays for it while no upstream is named."""
    overview(actions, "?index=1")
    assert plane.timed == 0
    overview(actions, "?upstream=a")
    assert plane.timed == 15


def test_too_many_names(actions: Actions) -> None:
    """One answer has a bounded size."""
    query = "&".join(f"upstream=u{number}" for number in range(101))
    reply = WebClient(actions).call("GET", f"/overview?{query}")
    assert reply.status == 400
    assert "at most 100 names" in reply.json["msg"]


def test_token_with_names_sees_its_own() -> None:
    """Nor do the totals tell of others, nor is anything said of the process."""
    plane = FakePlane()
    names = {"www.team-a.example": upstream(1), "www.team-b.example": upstream(2)}
    actions = make_actions(FakeStore(), plane, upstreams=names)
    for name, count in (("www.team-a.example", 2), ("www.team-b.example", 40)):
        plane.take_counted(Counted((UpstreamCounted(name, {200: count}),), {"no_upstream": 1}))
    query = "?index=1&upstream=www.team-a.example&upstream=www.team-b.example"
    found = call(client(actions, TEAM), "GET", f"/overview{query}").json
    assert [row[0] for row in found["index"]["rows"]] == ["www.team-a.example"]
    assert list(found["upstreams"]) == ["www.team-a.example"]
    assert found["totals"]["requests"] == 2
    assert not {"connections", "tunnels", "refused"} & found["totals"].keys()
    assert not {"workers", "store", "services", "failed", "generations"} & found.keys()
    assert found["caller"] == {"who": "team", "role": "admin"}
