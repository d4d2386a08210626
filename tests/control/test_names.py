"""Tokens that are limited to names: teams share one slardar."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from slardar.control.actions import Actions
from slardar.control.names import Names
from slardar.control.operations import OPERATIONS, Operation
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream

TEAM = "*.team-a.example"


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("www.team-a.example", True),
        ("a.b.team-a.example", True),
        ("WWW.Team-A.example.", True),
        ("*.team-a.example", True),
        ("*.b.team-a.example", True),
        ("shop", True),
        ("team-a.example", False),
        ("xteam-a.example", False),
        ("www.team-a.example.evil", False),
        ("*.example", False),
        ("*", False),
        ("shops", False),
        ("", False),
    ],
)
def test_patterns(name: str, has: bool) -> None:
    """A wildcard stands for the names below it, as in the name of an upstream."""
    names = Names([TEAM, "shop"])
    assert (name in names) == has
    assert names.has_hook(f"script.{name}") == has
    assert not names.has_hook(f"modules.{name}")
    assert name in Names()
    assert Names().has_hook(f"modules.{name}")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def actions(store: FakeStore) -> Actions:
    names = ("www.team-a.example", "www.team-b.example")
    services = ("dns.team-a.example", "dns.team-b.example")
    return make_actions(
        store,
        FakePlane(),
        upstreams={name: upstream(8001) for name in names},
        services={name: {"dns_service": name} for name in services},
    )


def client(actions: Actions, *names: str) -> WebClient:
    """A caller whose token is limited to these names."""
    digest = hashlib.sha256(b"team").hexdigest()
    return WebClient(
        actions, tokens=[{"name": "team", "role": "admin", "sha256": digest, "names": [*names]}]
    )


def call(web: WebClient, method: str, path: str, body: Any = None) -> Any:
    return web.call(method, path, body, Authorization="Bearer team")


def path_of(operation: Operation, host: str) -> str:
    """The path of a call about ``host``."""
    name = f"script.{host}" if "LANGUAGE" in operation.path else host
    path = operation.path.replace("NAME", name).replace("LANGUAGE", "lua")
    return path.replace("SERVER", "127.0.0.1:8001").replace("VERSION", "1")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_knows_names(operation: Operation, actions: Actions) -> None:
    """An operation is about one name, or leaves out the others, or is refused.  What is refused
    changes nothing."""
    web = client(actions, TEAM)
    before = actions.snapshot.version
    for method in operation.methods:
        if "NAME" in operation.path:
            reply = call(web, method, path_of(operation, "www.team-b.example"), b"{}")
            assert reply.status == 403, (method, reply.body)
            assert "expected a token for the name" in reply.json["msg"]
            own = call(web, method, path_of(operation, "www.team-a.example"), b"{}")
            assert own.status != 403
        elif operation.is_filtered:
            reply = call(web, method, path_of(operation, ""))
            # A stream is no answer: see test_event_stream.
            # A request to explain, or a decision, is named in another way: see test_explain.
            statuses = {"explain": 400, "decision": 404}
            wanted = 503 if operation.is_stream else statuses.get(operation.name, 200)
            assert reply.status == wanted
            assert "team-b" not in reply.body.decode()
        else:
            reply = call(web, method, path_of(operation, ""), b"{}")
            assert (reply.status, "about all names" in reply.json["msg"]) == (403, True)
        assert actions.snapshot.version == before or "NAME" in operation.path


def test_own_names_are_shown(actions: Actions) -> None:
    """The status and the lists are as without a limit, but for the names of others."""
    web = client(actions, TEAM)
    both = ["dns.team-a.example", "www.team-a.example"]
    assert list(call(web, "GET", "/upstreams").json) == both
    assert list(call(web, "GET", "/services").json) == ["dns.team-a.example"]
    status = call(web, "GET", "/status").json
    whole = actions.status()
    assert status["cls:www.team-a.example"] == whole["cls:www.team-a.example"]
    assert "cls:www.team-b.example" in whole
    assert "cls:www.team-b.example" not in status
    assert list(status["services"]) == ["dns.team-a.example"]
    assert status["fingerprint"] == whole["fingerprint"]
    for key in ("failed", "ignored", "origins", "statistics", "workers"):
        assert key not in status


def test_hooks_of_others_are_not_listed(actions: Actions) -> None:
    for host in ("www.team-a.example", "www.team-b.example"):
        assert WebClient(actions).call("POST", f"/lua/script.{host}", b"return").status == 200
    found = call(client(actions, TEAM), "GET", "/lua").json
    assert [hook["name"] for hook in found["staged"]] == ["script.www.team-a.example"]


@pytest.mark.parametrize(
    "more",
    [
        {"mode": "tests.balancers.kit.Own"},
        {"typ": "tests.kit.Own"},
        {"mode": "sticky", "mode_opts": {"secret": "0123456789abcdef", "fallback": "a.b.C"}},
    ],
)
def test_classes_of_ones_own_are_for_all_names(
    actions: Actions, store: FakeStore, more: dict[str, Any]
) -> None:
    """A module that slardar imports can do anything, so it is nothing for one team."""
    web = client(actions, TEAM)
    reply = call(web, "PUT", "/upstream/www.team-a.example", {**upstream(1), **more})
    assert (reply.status, "classes of your own" in reply.json["msg"]) == (403, True)
    reply = call(web, "PUT", "/upstream/www.team-a.example?reload=1", upstream(1))
    assert reply.status == 403
    service = {"dns_service": "a.example", **more}
    reply = call(web, "PUT", "/service/dns.team-a.example", service)
    assert (reply.status, "classes of your own" in reply.json["msg"]) == (403, True)
    for path in ("/service/dns.team-a.example", "/upstream/www.team-a.example"):
        assert call(web, "PUT", path, []).status == 400
    assert store.changes == []
    assert call(web, "PUT", "/upstream/www.team-a.example", upstream(1)).status == 200
    assert store.changes[0].who == "team"
