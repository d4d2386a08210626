"""The calls about decisions: what they read, whom they answer."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from msgspec import structs

from slardar.control.actions import Actions
from slardar.dataplane.decision import Decision
from slardar.dataplane.explanation import DecisionTold, explanation_of
from slardar.http1.request import parse_request
from slardar.model.snapshot import Choice
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream

ID = f"0-{'a' * 32}"


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane()


@pytest.fixture
def actions(plane: FakePlane) -> Actions:
    names = ("www.team-a.example", "www.team-b.example")
    routes = [{"host": "www.team-a.example", "path": "/b/", "upstream": "www.team-b.example"}]
    upstreams = {name: upstream(8001) for name in names}
    return make_actions(FakeStore(), plane, upstreams=upstreams, routes=routes)


def test_parameters_become_a_head(actions: Actions, plane: FakePlane) -> None:
    """In the order in which they are given; without them there are defaults."""
    web = WebClient(actions)
    reply = web.call(
        "GET",
        "/explain?host=www.team-a.example&path=/x%3Fy=1&method=PURGE&client=2001:DB8::1"
        "&header=X-A:1&header=X-B:%202",
    )
    assert reply.status == 200
    assert web.call("GET", "/explain?host=x").status == 200
    assert web.call("GET", "/explain?host=x&client=::FFFF:a00:4").status == 200
    assert plane.questions == [
        (
            b"PURGE /x?y=1 HTTP/1.1\r\nHost: www.team-a.example\r\nX-A:1\r\nX-B: 2\r\n\r\n",
            "2001:db8::1",
        ),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "127.0.0.1"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "::ffff:10.0.0.4"),
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "host: is missing"),
        ("host=", "the Host is not a valid host name"),
        ("host=a%0d%0aX:%201", "host: expected printable ASCII characters"),
        ("host=a&path=/%0d%0a", "path: expected printable ASCII characters"),
        ("host=a&path=x", "expected the head of a request"),
        ("host=a&method=GET%20/", "expected the head of a request"),
        ("host=a&method=nonsense", "the method is not known"),
        ("host=a&client=somebody", "client: expected an IP address"),
        ("host=a&header=X", "header: expected NAME: VALUE"),
        ("host=a&header=Host:b", "header: expected no Host"),
        ("host=a&header=content-LENGTH:5", "header: expected no content-LENGTH"),
        ("host=a&header=X:%C3%A4", "header: expected printable ASCII characters"),
        ("host=a&hots=b", "unknown parameter"),
        ("host=a&path=/" + "a" * 9000, "the request target is too long"),
        ("host=a" + "&header=X:1" * 101, "too many headers"),
    ],
)
def test_wrong_parameters(actions: Actions, plane: FakePlane, query: str, message: str) -> None:
    """They are refused before anybody is asked."""
    reply = WebClient(actions).call("GET", f"/explain?{query}")
    assert (reply.status, message in reply.json["msg"]) == (400, True), reply.json
    assert plane.questions == []


def team(actions: Actions, **more: Any) -> Any:
    """Calls with a token that is limited to one team."""
    token = {"name": "team", "sha256": hashlib.sha256(b"team").hexdigest(), **more}
    web = WebClient(actions, tokens=[{"names": ["*.team-a.example"], **token}])
    return lambda path: web.call("GET", path, Authorization="Bearer team")


def test_own_names_only(actions: Actions) -> None:
    """The host is one of them, and so is the upstream to which a route leads."""
    call = team(actions)
    assert call("/explain?host=www.team-a.example").status == 200
    other = call("/explain?host=www.team-b.example")
    assert (other.status, "for the host" in other.json["msg"]) == (403, True)
    routed = call("/explain?host=www.team-a.example&path=/b/")
    assert (routed.status, "team-b" in routed.body.decode()) == (403, False)


def told(host: str, name: str | None) -> DecisionTold:
    head = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    decision = explanation_of(
        Decision(Choice(None), "", None, ""), head, (), None, 1, "worker-0", None
    )
    decision = structs.replace(decision, upstream=name)
    return DecisionTold(ID, 1.0, "", "GET", host, "/", decision, (), 0, 0, 0, 200, "", "", "", True)


@pytest.mark.parametrize(
    ("host", "name", "status"),
    [
        ("www.team-a.example", "www.team-a.example", 200),
        ("www.team-a.example", None, 200),
        ("www.team-a.example", "www.team-b.example", 404),
        ("www.team-b.example", "www.team-a.example", 404),
        ("", None, 404),
    ],
)
def test_own_decisions_only(
    actions: Actions, plane: FakePlane, host: str, name: str | None, status: int
) -> None:
    """Others' are not there for a token that is limited to names."""
    plane.decisions[ID] = told(host, name)
    reply = team(actions)(f"/decision/{ID}")
    assert reply.status == status
    unknown = team(actions)(f"/decision/0-{'b' * 32}")
    assert unknown.status == 404
    if status == 404:
        assert reply.body == unknown.body
    assert WebClient(actions).call("GET", f"/decision/{ID}").json["host"] == host
