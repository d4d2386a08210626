"""Services in Consul's catalogue: what is asked and when, with a clock and answers of the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from consul.base import Response  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from slardar.catalogues.base import Failed, Listing, Report
from slardar.catalogues.consul import (
    WAIT,
    Agents,
    ConsulCatalogue,
    agents_of_environment,
    connector,
)
from slardar.model.consul_query import ConsulQuery
from slardar.model.service import Listed
from slardar.service import _consul_agents
from slardar.txconsul.blocking import LONGEST_DELAY
from tests.catalogues.test_consul_listing import entry

WEB = ConsulQuery("web")


class FakeHttp:
    """Holds questions until the test answers them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[tuple[str, Any]], Any, Deferred[Any]]] = []

    def get(
        self, callback: Any, path: str, params: Any = (), headers: Any = None, raw: bool = False
    ) -> Deferred[Any]:
        asked: Deferred[Any] = Deferred()
        self.asked.append((path, list(params), headers, asked))
        return asked.addCallback(callback)


class FakeAgent:
    def __init__(self, http: FakeHttp) -> None:
        self.http = http

    def self(self) -> Deferred[Any]:
        return self.http.get(lambda answer: answer, "/v1/agent/self")


class FakeClient:
    """Has py-consul's shape."""

    def __init__(self) -> None:
        self.http = FakeHttp()
        self.agent = FakeAgent(self.http)
        self.is_closed = False

    def prepare_headers(self, token: str | None = None) -> dict[str, str]:
        return {"X-Consul-Token": "secret"}

    def close(self) -> Deferred[Any]:
        self.is_closed = True
        closed: Deferred[Any] = Deferred()
        closed.errback(OSError("nobody cares"))
        return closed


class Followed:
    """One service that is followed, and what was told of it."""

    def __init__(self, query: ConsulQuery = WEB) -> None:
        self.clock = Clock()
        self.client = FakeClient()
        self.catalogue = ConsulCatalogue(self.clock, lambda _agents: self.client, lambda: 1.0)
        self.origin = query.origin
        self.told: list[Report] = []
        self.catalogue.follow(self.origin, self.told.append)

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The parameters of each question so far."""
        return [dict(params) for _, params, _, _ in self.client.http.asked]

    def answers(self, index: int, *entries: Any) -> Report:
        """Answer the question that waits; returns what is told then."""
        *_, asked = self.client.http.asked[-1]
        asked.callback(Response(200, {"X-Consul-Index": str(index)}, json.dumps(entries).encode()))
        return self.told[-1]

    def fails(self, reason: str = "refused") -> Report:
        *_, asked = self.client.http.asked[-1]
        asked.errback(OSError(reason))
        return self.told[-1]


def ports(report: Report) -> list[int]:
    assert isinstance(report, Listing)
    return [server.port for level in report.levels for server in level]


def test_each_answer_asks_for_the_next_one() -> None:
    """The first query waits for nothing, each one after it for something newer."""
    site = Followed()
    path, params, headers, _ = site.client.http.asked[0]
    assert (path, params) == ("/v1/health/service/web", [("stale", "1")])
    assert headers == {"X-Consul-Token": "secret"}
    assert site.answers(7, entry(port=1)) == Listing(((Listed("10.0.0.1", 1),),))
    assert site.asked[1:] == [{"stale": "1", "index": 7, "wait": f"{WAIT}s"}]
    assert ports(site.answers(9, entry(port=1), entry("b", port=2))) == [1, 2]
    assert site.asked[2]["index"] == 9


def test_question_says_what_the_service_says() -> None:
    """All tags are asked for; health is looked at here, for what is in maintenance is listed."""
    site = Followed(ConsulQuery("a b", ("v1", "v2"), False, "east", "n7"))
    ((path, params, _, _),) = site.client.http.asked
    assert path == "/v1/health/service/a b"
    assert params == [("stale", "1"), ("tag", "v1"), ("tag", "v2"), ("dc", "east")]
    far, near = entry("a", 1, "n1", checks={"c": "warning"}), entry("b", 2, "n7")
    assert site.answers(1, far, near) == Listing(
        ((Listed("10.0.0.1", 2),), (Listed("10.0.0.1", 1),))
    )


@pytest.mark.parametrize(
    ("code", "body", "headers", "reason"),
    [
        (500, "No cluster leader", {}, "500 No cluster leader"),
        (403, "ACL not found\n", {}, "403 ACL not found"),
        (404, "no such page", {}, "404 no such page"),
        (200, "[]", {"X-Consul-Index": ""}, "the answer is no list of instances"),
        (200, "[]", {"X-Consul-Index": "x"}, "the answer is no list of instances"),
        (200, "[]", {"X-Consul-Results-Filtered-By-ACLs": "true"}, "the token may not read"),
    ],
)
def test_answer_that_says_nothing(
    code: int, body: str, headers: dict[str, str], reason: str
) -> None:
    """It is a failure, not an empty service."""
    site = Followed()
    *_, asked = site.client.http.asked[-1]
    asked.callback(Response(code, {"X-Consul-Index": "5", **headers}, body.encode()))
    (report,) = site.told
    assert isinstance(report, Failed)
    assert reason in report.reason


@pytest.mark.parametrize("body", ["<html>", "{}", "null", '[{"Node": 5}]', "[[]]", "\x00"])
def test_garbage(body: str) -> None:
    """It is a failure, whatever it is."""
    site = Followed()
    *_, asked = site.client.http.asked[-1]
    asked.callback(Response(200, {"X-Consul-Index": "5"}, body.encode()))
    (report,) = site.told
    assert isinstance(report, Failed)


def test_failure_is_told_and_asked_again() -> None:
    """Without an index, for an agent that is back may have lost its state."""
    site = Followed()
    site.answers(50, entry())
    assert site.fails() == Failed("refused")
    site.clock.advance(LONGEST_DELAY)
    assert "index" not in site.asked[-1]
    assert ports(site.answers(3, entry(port=2))) == [2]
    assert site.asked[-1]["index"] == 3


def test_server_that_knows_no_leader_is_not_believed() -> None:
    """The leader is asked."""
    site = Followed()
    *_, asked = site.client.http.asked[-1]
    asked.callback(Response(200, {"X-Consul-Index": "5", "X-Consul-KnownLeader": "false"}, b"[]"))
    site.client.http.asked[-1][3].callback(Response(404, {}, ""))
    assert site.told == []
    assert site.asked[-1] == {}
    assert ports(site.answers(5, entry())) == [80]


def test_empty_answer_may_be_a_refusal() -> None:
    """Consul leaves out what the token may not read, so it is asked about the service alone; once,
    as long as the service stays empty."""
    site = Followed()
    site.answers(5, entry())
    for code in (403, 404):
        site.client.http.asked[-1][3].callback(Response(200, {"X-Consul-Index": "6"}, b"[]"))
        path, _, headers, asked = site.client.http.asked[-1]
        assert path == "/v1/config/service-defaults/web"
        assert headers == {"X-Consul-Token": "secret"}
        asked.callback(Response(code, {}, ""))
        site.clock.advance(LONGEST_DELAY)
    assert site.told[1:] == [Failed("the token may not read the service"), Listing(())]
    site.answers(7)
    assert site.told[3:] == [Listing(())]
    assert site.asked[-1]["index"] == 7


def test_service_that_changes_all_the_time() -> None:
    """It is not asked for all the time."""
    site = Followed()
    for index in range(1, 2001):
        if not site.client.http.asked[-1][3].called:
            site.answers(index, entry(port=index))
        site.clock.advance(0.005)
    assert 10 < len(site.asked) < 120


def test_own_node_of_the_agent() -> None:
    """Its name is asked for first, and again after a failure: another agent may answer."""
    site = Followed(ConsulQuery("web", near="_agent"))
    assert [asked[0] for asked in site.client.http.asked] == ["/v1/agent/self"]
    site.client.http.asked[0][3].callback({"Config": {"NodeName": "n7"}})
    near, far = entry("a", 1, "n7"), entry("b", 2, "n1")
    levels = ((Listed("10.0.0.1", 1),), (Listed("10.0.0.1", 2),))
    assert site.answers(4, near, far) == Listing(levels)
    site.fails()
    site.clock.advance(LONGEST_DELAY)
    assert site.client.http.asked[-1][0] == "/v1/agent/self"
    site.client.http.asked[-1][3].errback(OSError("403 denied"))
    report = site.answers(4, near, far)
    assert isinstance(report, Listing)
    assert report.note == "near: the agent does not tell its node: 403 denied"
    assert report.levels == levels


def test_end_cancels_the_question() -> None:
    """Nothing is told any more, no timer stays, and a client that nobody needs is closed."""
    site = Followed()
    other: list[Report] = []
    second = ConsulQuery("other")
    site.catalogue.follow(second.origin, other.append)
    site.client.http.asked[1][3].callback(Response(200, {"X-Consul-Index": "1"}, b"[]"))
    site.catalogue.unfollow(site.origin)
    first, _, third = site.client.http.asked
    assert (first[3].called, third[3].called) == (True, False)
    assert not site.client.is_closed
    site.catalogue.stop()
    assert third[3].called
    assert site.client.is_closed
    assert (site.told, other) == ([], [])
    assert site.clock.getDelayedCalls() == []


def test_end_while_it_waits_to_ask_again() -> None:
    """The timer ends, too."""
    site = Followed()
    site.fails()
    site.catalogue.unfollow(site.origin)
    assert site.clock.getDelayedCalls() == []


def test_whoever_is_told_may_end_it() -> None:
    """No further question is put."""
    site = Followed()
    site.catalogue._watches[site.origin]._told = lambda report: site.catalogue.stop()
    *_, asked = site.client.http.asked[-1]
    asked.callback(Response(200, {"X-Consul-Index": "5"}, json.dumps([entry()]).encode()))
    assert len(site.asked) == 1
    assert site.clock.getDelayedCalls() == []


def test_idle_service_is_asked_for_once_a_minute() -> None:
    """Consul holds a query for its wait and up to a sixteenth more."""
    site = Followed()
    site.answers(5, entry())
    begun = len(site.asked)
    while site.clock.seconds() < 3600:
        site.clock.advance(WAIT)
        site.answers(5, entry())
    assert len(site.asked) - begun <= 2 * 60


def test_agents_that_cannot_be_asked_at_all() -> None:
    """The status says so; the service may go all the same."""

    def connect(agents: str) -> FakeClient:
        raise ValueError("no such file")

    clock = Clock()
    catalogue = ConsulCatalogue(clock, connect)
    told: list[Report] = []
    catalogue.follow(WEB.origin, told.append)
    assert told == [Failed("no such file")]
    catalogue.unfollow(WEB.origin)
    catalogue.stop()
    assert clock.getDelayedCalls() == []


def test_certificate_that_comes_later() -> None:
    """The service is followed as soon as a client can be made."""
    client = FakeClient()
    problems = ["no such file"]

    def connect(agents: str) -> FakeClient:
        for problem in problems:
            raise ValueError(problem)
        return client

    clock = Clock()
    catalogue = ConsulCatalogue(clock, connect, lambda: 0.0)
    told: list[Report] = []
    catalogue.follow(WEB.origin, told.append)
    problems.clear()
    clock.advance(LONGEST_DELAY)
    assert [asked[0] for asked in client.http.asked] == ["/v1/health/service/web"]
    catalogue.stop()
    assert told == [Failed("no such file")]
    assert client.is_closed


@pytest.mark.parametrize(
    ("environ", "agents"),
    [
        ({}, Agents("http", (("127.0.0.1", 8500),))),
        ({"CONSUL_HTTP_ADDR": "10.0.0.1:80"}, Agents("http", (("10.0.0.1", 80),))),
        (
            {"CONSUL_HTTP_ADDR": "https://a:1,[::1]:2/", "CONSUL_HTTP_TOKEN": "secret"},
            Agents("https", (("a", 1), ("::1", 2)), "secret"),
        ),
        (
            {"CONSUL_HTTP_ADDR": "a:1", "CONSUL_HTTP_SSL": "true"},
            Agents("https", (("a", 1),)),
        ),
    ],
)
def test_agents_of_the_environment(environ: dict[str, str], agents: Agents) -> None:
    """The variables are those of Consul's own command."""
    assert agents_of_environment(environ) == agents


@pytest.mark.parametrize(
    "address", ["unix:///run/consul.sock", "http://a", "http://a:1/b", "http://u:word@a:1"]
)
def test_agents_of_an_odd_environment(address: str) -> None:
    """The message does not repeat the address, which may hold a password."""
    with pytest.raises(ValueError, match="expected agents such as http://HOST:PORT") as caught:
        agents_of_environment({"CONSUL_HTTP_ADDR": address})
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("", "secret"),
        ("http://b:2", "secret"),
        ("http://b:2,a:1/", "secret"),
        ("http://a:1,c:3", ""),
        ("https://a:1", ""),
        ("http://a:2", ""),
    ],
)
def test_token_is_for_the_usual_agents(
    url: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may make a service could have it sent to a machine of their own."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "of the environment")
    usual = Agents("http", (("a", 1), ("b", 2)), "secret")
    client: Any = connector(Clock(), lambda: usual)(url)
    assert client.prepare_headers().get("X-Consul-Token", "") == token
    assert (client.token, client.http.token) == (token, token)


def test_token_in_a_file(tmp_path: Path) -> None:
    """It is read for each question, and a file that is gone fails the question."""
    path = tmp_path / "token"
    usual = Agents("http", (("a", 1),), "other", str(path))
    client = connector(Clock(), lambda: usual)("")
    for token in ("one", "two"):
        path.write_text(f"{token}\n")
        assert client.prepare_headers() == {"X-Consul-Token": token}
        assert client.http.token == token
    path.unlink()
    with pytest.raises(ValueError, match="token: No such file"):
        client.prepare_headers()


def test_agents_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in Consul says which agents are asked, and how; another one says nothing."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "c:3")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "secret")
    places = (("a", 8500), ("b", 2))
    store = "consul:http://a,b:2/config/slardar/"
    assert _consul_agents(store) == Agents("http", places, "secret", verify=True)
    files = "?ca=ca.pem&cert=c.pem&token_file=t"
    assert _consul_agents(f"consul:https://a/x/{files}") == Agents(
        "https", (("a", 8501),), "secret", "t", "ca.pem", ("c.pem", "c.pem")
    )
    assert _consul_agents("sqlite:x.db") == Agents("http", (("c", 3),), "secret")
