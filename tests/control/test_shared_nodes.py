"""Nodes at one shared store: they serve the same, whatever somebody does there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.task import Clock

from slardar.control.actions import Actions
from slardar.errors import ConfigError, ConflictError, NotFoundError
from slardar.model.change import Value
from slardar.model.snapshot import Snapshot
from slardar.stores.shared import SharedStore
from slardar.testing.trees import MemoryServer, MemoryTree
from tests.certificates import Authority
from tests.control.fakes import FakePlane, error_of, make_actions, result_of, upstream

A = "script.a.test"


class Node:
    """A slardar at the server."""

    def __init__(self, server: MemoryServer, clock: Clock) -> None:
        self.plane = FakePlane()
        store = SharedStore(MemoryTree(server), clock, "config/slardar/")
        self.actions: Actions = make_actions(store, self.plane)

    @property
    def served(self) -> Snapshot:
        return self.plane.snapshot

    @property
    def failed(self) -> dict[str, str]:
        return self.actions.failed


class Place:
    """A server, and two slardars at it."""

    def __init__(self, max_writes: int = 64) -> None:
        self.clock = Clock()
        self.server = MemoryServer(max_writes=max_writes)
        self.nodes = [Node(self.server, self.clock) for _ in range(2)]

    def settle(self) -> None:
        for _ in range(3):
            self.clock.advance(0)


def json_of(*ports: int, **keys: Any) -> str:
    return json.dumps({**upstream(*ports), **keys})


def test_tree_of_upyun_is_served() -> None:
    """And what is edited there, at once, on all nodes; hooks read what they read."""
    place = Place()
    server, (one, other) = place.server, place.nodes
    server.put("upstreams/www.a.test", json_of(1))
    server.put("lua/script.a.test", "first")
    server.put("lua/version", "5.0")
    server.put("myargs", '{"arg0": "x"}')
    for node in (one, other, Node(server, place.clock)):
        assert list(node.served.upstreams) == ["www.a.test"]
        (hook,) = node.served.hooks.values()
        assert hook.active is not None
        assert hook.active.code == "first"
        assert node.actions.hooks.commit_version("lua") == "5.0"
        assert dict(node.served.settings) == {"myargs": '{"arg0":"x"}'}
    # A version that is staged and activated here is readable there.
    posted = one.actions.hooks.stage("lua", A, b"second", "ops", activate=True)
    result_of(defer.ensureDeferred(posted))
    place.settle()
    assert server.entries["lua/script.a.test"].value == b"second"
    (hook,) = other.served.hooks.values()
    assert hook.active is not None
    assert hook.previous is not None
    assert (hook.active.code, hook.previous.code) == ("second", "first")
    assert one.served.fingerprint == other.served.fingerprint
    # What is edited by hand can be taken back.
    server.put("lua/script.a.test", "third")
    assert {node.served.hooks["lua", A].active.code for node in (one, other)} == {"third"}  # type: ignore[union-attr]
    result_of(defer.ensureDeferred(one.actions.history.roll_back(one.served.version - 1, "ops")))
    place.settle()
    assert one.served.fingerprint == other.served.fingerprint


def test_broken_key_is_named_with_its_place() -> None:
    """In the status of each node, until it is set right; all else goes on."""
    place = Place()
    server, (one, other) = place.server, place.nodes
    server.put("upstreams/www.a.test", json_of(1))
    server.put("upstreams/www.a.test", "{")
    server.put("upstreams/b", json_of(2))
    where = "upstreams.www.a.test"
    for node in (one, other):
        assert sorted(node.served.upstreams) == ["b", "www.a.test"]
        reason = node.actions.status()["failed"][where]
        assert reason.startswith(f"{where}: config/slardar/upstreams/www.a.test: expected JSON: ")
    result_of(one.actions.set_upstream("c", upstream(3), "ops"))
    place.settle()
    result_of(other.actions.set_upstream("www.a.test", upstream(4), "ops"))
    place.settle()
    assert (one.failed, other.failed) == ({}, {})
    assert one.served.fingerprint == other.served.fingerprint
    assert sorted(one.served.upstreams) == ["b", "c", "www.a.test"]


_edit = st.tuples(
    st.just("edit"),
    st.sampled_from(
        [
            "upstreams/a",
            "upstreams/b",
            "routes",
            "lua/script.a",
            "lua/modules.m",
            "arg",
            "services/s",
        ]
    ),
    st.sampled_from(
        [
            json_of(1),
            json_of(2, mode="hash"),
            '{"servers": 5}',
            "{",
            '[{"path": "/x", "upstream": "a"}]',
            "use modules.m",
            "wrong code",
            "it fails",
            '{"dns_service": "_s._tcp.test"}',
            None,
        ]
    ),
)
_call = st.tuples(
    st.just("call"),
    st.integers(0, 1),
    st.sampled_from(["a", "b", "s"]),
    st.sampled_from([1, 2, None]),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(_edit | _call, max_size=10), st.sampled_from([2, 64]))
def test_nodes_that_saw_all_serve_the_same(steps: list[Any], max_writes: int) -> None:
    """Broken keys included; where none is broken, a node that starts now does, too."""
    place = Place(max_writes)
    for kind, *rest in steps:
        if kind == "edit":
            key, value = rest
            if value is None:
                place.server.remove(key)
            else:
                place.server.put(key, value)
        else:
            number, name, port = rest
            actions = place.nodes[number].actions
            try:
                if port is None:
                    result_of(actions.remove_upstream(name, "x"))
                else:
                    result_of(actions.set_upstream(name, upstream(port), "x"))
            except (ConfigError, ConflictError, NotFoundError):
                pass
        place.settle()
        one, other = place.nodes
        assert one.served.fingerprint == other.served.fingerprint
        assert one.failed == other.failed
        assert one.actions.held == other.actions.held
        if not one.failed:
            assert Node(place.server, place.clock).served.fingerprint == one.served.fingerprint


def test_what_a_client_of_a_ca_keeps_is_shared() -> None:
    """Without a version, and so without a conflict for operators; the other node has it.  Who comes
    second with the same value is told so; a way back does not touch it."""
    place = Place()
    one, other = place.nodes
    result_of(one.actions.set_upstream("a", upstream(1), "ops"))
    place.settle()

    def order(number: int) -> Value:
        return Value("acme", "order", {"n": number})

    place.server.tells = False
    result_of(one.actions.keep_values(lambda held: [order(1)], "acme"))
    error_of(other.actions.keep_values(lambda held: [order(2)], "acme"), ConflictError)
    place.server.tells = True
    place.server.tell()
    place.settle()
    for node in (one, other):
        assert node.actions.held.acme == {"order": {"n": 1}}
        assert (node.actions.snapshot.version, node.served.version) == (1, 1)
    seen: list[Any] = []
    result_of(other.actions.keep_values(lambda held: seen.append(held.acme) or [order(2)], "acme"))
    assert seen == [{"order": {"n": 1}}]
    assert result_of(one.actions.keep_values(lambda held: [], "acme")) is None
    place.settle()
    result_of(one.actions.set_upstream("a", upstream(2), "ops"))
    place.settle()
    result_of(defer.ensureDeferred(other.actions.history.roll_back(1, "ops")))
    place.settle()
    for node in (one, other):
        assert node.actions.held.acme == {"order": {"n": 2}}
        assert node.served.upstreams["a"].servers[0].port == 1
    told = result_of(defer.ensureDeferred(one.actions.history.page(None, 100)))
    assert "acme" not in [change["kind"] for change in told]


def test_certificates_are_shared(tmp_path: Path) -> None:
    """One that is set on a node, or by somebody at the store; what cannot be used is told of, and
    what was served stays."""
    authority = Authority(tmp_path)

    def body(name: str) -> dict[str, str]:
        cert, key = authority.issue(name, (name,))
        return {"cert": cert.read_text(), "key": key.read_text()}

    place = Place()
    one, other = place.nodes
    first, second = body("a.test"), body("b.test")
    pair = one.actions.certificates.check("a.test", first)
    result_of(one.actions.certificates.set("a.test", pair, "ops"))
    place.settle()
    place.server.put("certificates/b.test", json.dumps(second))
    place.settle()
    for node in (one, other):
        found = node.served.certificates
        assert {name: one.cert for name, one in found.items()} == {
            "a.test": first["cert"],
            "b.test": second["cert"],
        }
    for text in (json.dumps({**second, "key": first["key"]}), '{"key": "PRIVATE'):
        place.server.put("certificates/b.test", text)
        place.settle()
        for node in (one, other):
            assert node.served.certificates["b.test"].cert == second["cert"]
            assert list(node.failed) == ["certificates.b.test"]
            assert "PRIVATE" not in repr(node.failed)
    place.server.remove("certificates/b.test")
    place.settle()
    for node in (one, other):
        assert list(node.served.certificates) == ["a.test"]
        assert node.failed == {}
    assert one.served.fingerprint == other.served.fingerprint
