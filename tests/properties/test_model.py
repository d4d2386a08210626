"""The model under values that Hypothesis makes."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slardar.config import Settings, read_settings
from slardar.errors import ConfigError, NotFoundError
from slardar.model.parse import (
    merge_upstream,
    parse_dyups,
    parse_routes,
    parse_upstream,
    patch_server,
    split_host_port,
)
from slardar.model.routes import Route
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot

#: The same cases each time, and no deadline on a busy machine.
FIXED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)

NAMES = ["a.org", "A.org", "b.org", "*.org", "*.Org", "*.a.org", "*.x.a.org", "c"]
HOSTS = ["a.org", "b.org", "c", "x.org", "x.a.org", "y.x.a.org", "org", ".org", "d"]

ports = st.integers(1, 5)
servers = st.lists(
    st.fixed_dictionaries(
        {"host": st.sampled_from(["10.0.0.1", "h", "::1"]), "port": ports},
        optional={
            "weight": st.integers(0, 9),
            "backup": st.booleans(),
            "state": st.sampled_from(["up", "drain", "down"]),
        },
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda server: (server["host"], server["port"]),
)
bodies = st.fixed_dictionaries(
    {"servers": servers},
    optional={
        "try": st.integers(1, 3),
        "keepalive": st.integers(0, 3),
        "public": st.booleans(),
        "x_note": st.text(max_size=2),
    },
)
routes = st.lists(
    st.builds(
        Route,
        st.sampled_from(NAMES[2:]),
        st.none() | st.sampled_from(["a.org", "*.org"]),
        st.none() | st.sampled_from(["/", "/x"]),
    ),
    max_size=2,
).map(tuple)
#: Values of JSON, and other values that YAML makes.
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.dates()
    | st.binary(max_size=2)
)
KEYS = ["servers", "cluster", "host", "port", "weight", "try", "mode_opts", "http_opts", "tls"]
KEYS += ["statuses", "upstreams", "routes", "listen", "control", "tokens", "timeouts", "path_regex"]
keys = st.sampled_from(KEYS) | st.text(max_size=3) | st.integers() | st.none()
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


class Changes(RuleBasedStateMachine):
    """Any changes, one after the other, lead to the snapshot that is built from nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = Snapshot.build(0, {}, (), "c")
        self.written: dict[str, Upstream] = {}
        self.routes: tuple[Route, ...] = ()
        self.changes = 0
        self.before: list[tuple[Snapshot, str]] = []

    def _take(self, snapshot: Snapshot) -> None:
        self.before.append((self.snapshot, self.snapshot.fingerprint))
        self.snapshot = snapshot
        self.changes += 1

    @rule(name=st.sampled_from(NAMES), body=bodies)
    def set(self, name: str, body: Any) -> None:
        """A POST, which keeps the keys that it leaves out."""
        self.written[name] = merge_upstream(self.written.get(name), name, body, name)
        self._take(self.snapshot.with_upstream(self.written[name]))

    @precondition(lambda self: self.written)
    @rule(data=st.data(), weight=st.integers(0, 9))
    def patch(self, data: Any, weight: int) -> None:
        """A PATCH of one server."""
        name = data.draw(st.sampled_from(sorted(self.written)))
        server = data.draw(st.sampled_from(self.written[name].servers))
        body = {"weight": weight}
        self.written[name] = patch_server(self.written[name], server.host, server.port, body, "x")
        self._take(self.snapshot.with_upstream(self.written[name]))

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        """A DELETE."""
        name = data.draw(st.sampled_from(sorted(self.written)))
        del self.written[name]
        self._take(self.snapshot.without_upstream(name))

    @rule(routes=routes)
    def route(self, routes: tuple[Route, ...]) -> None:
        """A PUT of the routes."""
        self.routes = routes
        self._take(self.snapshot.with_routes(routes))

    @invariant()
    def equals_what_is_built_from_nothing(self) -> None:
        """The order does not matter, and answers of GET can be used."""
        again = {
            name: parse_upstream(name, json.loads(json.dumps(upstream.source)), "x")
            for name, upstream in reversed(self.written.items())
        }
        rebuilt = Snapshot.build(0, again, self.routes, "c")
        assert self.snapshot.upstreams == rebuilt.upstreams
        assert self.snapshot.fingerprint == rebuilt.fingerprint
        for host in HOSTS:
            assert self.snapshot.route(host, "/x") == rebuilt.route(host, "/x")
        assert self.snapshot.version == self.changes

    @invariant()
    def what_was_before_has_not_changed(self) -> None:
        """A snapshot always answers as before."""
        for snapshot, fingerprint in self.before[-3:]:
            assert snapshot.fingerprint == fingerprint
            again = Snapshot.build(
                0, snapshot.upstreams, snapshot.routes, snapshot.default_upstream
            )
            assert again.fingerprint == fingerprint


TestChanges = Changes.TestCase
TestChanges.settings = settings(FIXED, max_examples=20, stateful_step_count=15)


def expected_route(names: set[str], host: str) -> str | None:
    """The documented rule, in its simplest form."""
    if host in names:
        return host
    suffixes = [
        name for name in names if name[0] == "*" and host.endswith(name[1:]) and host != name[1:]
    ]
    return max(suffixes, key=len, default=None)


labels = st.lists(st.sampled_from(["a", "b", "ab", "a-b"]), min_size=1, max_size=4).map(".".join)


@FIXED
@given(
    st.sets(labels | labels.map("*.".__add__), max_size=8),
    labels,
    st.sets(labels | labels.map("*.".__add__), max_size=3),
)
def test_routing_is_the_contracts(names: set[str], host: str, hidden: set[str]) -> None:
    """The exact name wins, else the longest wildcard; upstreams that are not public do not
    count."""
    one = parse_upstream("u", {"servers": [{"host": "h", "port": 1}]}, "u")
    two = parse_upstream("u", {"servers": [{"host": "h", "port": 1}], "public": False}, "u")
    upstreams = {**dict.fromkeys(names, one), **dict.fromkeys(hidden, two)}
    snapshot = Snapshot.build(0, upstreams, (), None)
    assert snapshot.route(host, "/") == expected_route(names - hidden, host)


def assert_told(error: ConfigError) -> None:
    """Assert that every line is one line, and none comes twice."""
    assert error.problems
    assert all(line and "\n" not in line and "\r" not in line for line in error.problems)
    assert len(set(error.problems)) == len(error.problems)


@FIXED
@given(anything)
def test_any_body_is_read_or_refused(body: Any) -> None:
    """Only ConfigError is raised; the body does not change, and the result is plain JSON."""
    before = copy.deepcopy(body)
    good = parse_upstream("a", {"servers": [{"host": "h", "port": 1}]}, "x")
    source = json.dumps(good.source)
    for call in (
        lambda: parse_upstream("a", body, "x"),
        lambda: merge_upstream(good, "a", body, "x"),
        lambda: patch_server(good, "h", 1, body, "x"),
        lambda: parse_routes(body, "x"),
        lambda: parse_upstream("a", {"servers": [{"host": "h", "port": 1}], "tls": body}, "x"),
    ):
        try:
            found = call()
        except ConfigError as error:
            assert_told(error)
        else:
            if isinstance(found, Upstream):
                json.dumps(found.source, allow_nan=False).encode()
                assert parse_upstream("a", found.source, "x") == found
    assert repr(body) == repr(before)
    assert json.dumps(good.source) == source


@FIXED
@given(anything)
def test_any_options_of_a_balancer_are_kept_or_refused(options: Any) -> None:
    """Options that are kept are equal after the way through a store."""
    body = {"servers": [{"host": "h", "port": 1}], "mode_opts": options}
    try:
        found = parse_upstream("a", body, "x")
    except ConfigError as error:
        assert_told(error)
    else:
        assert isinstance(options, Mapping)
        assert found.mode_opts == json.loads(json.dumps(options, allow_nan=False))


@FIXED
@given(anything)
def test_any_settings_are_read_or_refused(raw: Any) -> None:
    """Settings are returned in any case."""
    found, lines = read_settings(raw)
    assert isinstance(found, Settings)
    assert all("\n" not in line for line in lines)
    if not lines:
        assert raw is None or isinstance(raw, Mapping)


@FIXED
@given(st.text(max_size=30) | st.text("serv 0123456789.:[];=abckupwithdown\n", max_size=60))
def test_any_text_is_dyups_or_refused(text: str) -> None:
    """A text that is understood makes an upstream, or is refused as an upstream."""
    try:
        parse_upstream("a", parse_dyups(text, "body"), "x")
    except ConfigError as error:
        assert_told(error)


@FIXED
@given(bodies, st.text(max_size=12))
def test_server_is_found_by_its_key(body: Any, text: str) -> None:
    """Each server's key leads to this server only; other text leads to none."""
    upstream = parse_upstream("a", body, "x")
    for server in upstream.servers:
        found = split_host_port(server.key)
        assert found == (server.host, server.port)
        changed = patch_server(upstream, *found, {"max_conns": 77}, "x")
        assert [s.key for s in changed.servers if s.max_conns == 77] == [server.key]
    place = split_host_port(text)
    if place is not None and place not in {(s.host, s.port) for s in upstream.servers}:
        try:
            patch_server(upstream, *place, {"weight": 1}, "x")
        except NotFoundError:
            return
        raise AssertionError("a server that is not there was changed")
