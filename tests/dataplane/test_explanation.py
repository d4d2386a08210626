"""Explanations: who is told to get a request gets it, and telling changes nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.config import Hooks, Settings
from slardar.dataplane.explanation import Explanation
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.selection import Selection
from slardar.hooks.rehearsal import plain
from slardar.hooks.runner import Runner
from slardar.hooks.script import HookFailure
from slardar.http1.request import parse_request
from slardar.model.live import Live
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.plugins import balancer_factory
from tests.control.fakes import result_of
from tests.dataplane.kit import HandReactor
from tests.dataplane.test_decision import (
    DRAWN,
    FORESEEN,
    HASHES,
    meet,
    rules_of_an_upstream,
    servers_of_a_level,
)
from tests.dataplane.test_hooks import Answered, chooses
from tests.dataplane.test_proxy import HandResolver
from tests.hooks.kit import FakeEngine, hook, hooks, raising

steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=80)

CLIENT = "10.1.2.3"
UPSTREAMS = ("app", "other", "*.wild")
HOSTS = ("app", "app", "other", "x.wild", "none")


def rejects(request: Any, _: Any) -> None:
    request.reject(403, "not you")


def keeps_count(request: Any, _: Any) -> None:
    request.headers["X-Seen"] = "1"


#: What hooks do, by the words of their code.
ACTIONS: dict[str, Any] = {
    "other": chooses(upstream="other"),
    "nowhere": chooses(upstream="nowhere"),
    "key": chooses(hash_key="7"),
    "cluster": chooses(cluster_key="b"),
    "clusters": chooses(cluster_key=["b", "a"]),
    "moves": chooses(uri="/in/7"),
    "rejects": rejects,
    "header": keeps_count,
    "fails": raising(HookFailure("error", "line 1: it fails")),
    "breaks": raising(HookFailure("budget", "it does not end")),
}

upstreams_of_a_plane: Any = st.dictionaries(
    st.sampled_from(UPSTREAMS),
    st.tuples(
        st.sampled_from((*FORESEEN, *DRAWN)),
        st.dictionaries(st.sampled_from(["a", "b"]), servers_of_a_level, min_size=1),
        rules_of_an_upstream,
    ),
    min_size=2,
)
routes_of_a_plane: Any = st.lists(
    st.fixed_dictionaries(
        {"upstream": st.sampled_from([*UPSTREAMS, *UPSTREAMS, "gone"])},
        optional={
            "host": st.sampled_from([*HOSTS, "*.wild"]),
            "path": st.sampled_from(["/in/", "/1"]),
        },
    ),
    max_size=2,
)
hooks_of_a_plane: Any = st.dictionaries(
    st.sampled_from(["script.app", "script.*", "script.x.wild", "lua/script.app"]),
    st.fixed_dictionaries(
        {"active": st.lists(st.sampled_from(sorted(ACTIONS)), min_size=1, max_size=2)},
        optional={
            "staged": st.lists(st.sampled_from(sorted(ACTIONS)), min_size=1, max_size=2),
            "canary": st.just(50),
            "on_error": st.sampled_from(["continue", "reject"]),
        },
    ),
    max_size=2,
)


def plane_of(
    made: dict[str, Any], routes: Any, scripts: dict[str, Any], default: Any, resolver: Any = None
) -> DataPlane:
    """A plane with these upstreams, routes and hooks, on an engine of the test."""
    plane = DataPlane(HandReactor(), Settings(), Live(), balancer_factory, resolver)
    engine = FakeEngine(actions=ACTIONS)

    def make_runner(of: Hooks) -> Runner:
        return Runner(of, lambda: 0.0, engines=lambda *_: engine)

    plane._plane_hooks.make_runner = make_runner
    some = []
    for name, keys in scripts.items():
        keys = {key: " ".join(one) if isinstance(one, list) else one for key, one in keys.items()}
        if "staged" not in keys:
            keys.pop("canary", None)
        some.append(hook(name, keys.pop("active"), **keys))
    snapshot = Snapshot.build(3, made, parse_routes(routes, "routes"), default, hooks(*some))
    result_of(plane.apply(snapshot, list(made)))
    return plane


def parsed_upstream(name: str, mode: str, clusters: Any, rules: Any) -> Any:
    if mode not in HASHES:
        rules = {**rules, "mode_opts": {}}
    levels = {
        key: {"servers": [{"host": "127.0.0.1", "port": n, **one} for n, one in enumerate(some, 1)]}
        for key, some in clusters.items()
    }
    return parse_upstream(name, {"mode": mode, "cluster": levels, **rules}, name)


def told(plane: DataPlane, host: str, path: str = "/", *lines: str) -> Explanation:
    head = "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode()
    found: Explanation = result_of(plane.explain(head, CLIENT))
    return found


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)])
def test_client_of_a_trusted_proxy(trusted: tuple[str, ...]) -> None:
    """Hooks and balancers are shown the believed client; what is not believed is no change that
    a hook has made."""
    made = {"app": parsed_upstream("app", "ip_hash", {"a": [{}] * 50}, {})}
    plane = plane_of(made, (), {"script.*": {"active": ["header"]}}, None)
    result_of(plane.take_settings(Settings(trusted=trusted)))
    lines = ("X-Forwarded-Proto: https", "X-Real-IP: 1.1.1.1", "Forwarded: for=6.6.6.6")
    explained = told(plane, "app", "/", "X-Forwarded-For: 6.6.6.6, 1.1.1.1", *lines)
    assert explained.changes == ("+ X-Seen: 1",)
    head = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    servers = [result_of(plane.explain(head, client)).server for client in (CLIENT, "1.1.1.1")]
    assert servers[0] != servers[1]
    assert explained.server == servers[bool(trusted)]


def counted(plane: DataPlane) -> tuple[Any, ...]:
    """All that is counted, and kept of servers."""
    servers = [
        (key, live.active, live.requests, live.failures, live.status, live.down_until)
        for key, live in plane._live.servers.items()
    ]
    return (plane.requests, plane.exchanges, list(plane.hook_reports()), servers)


def check(explained: Explanation, plane: DataPlane, host: str, path: str) -> Any:
    """Begin the request: it goes where it was said to go.  Returns selection and server."""
    request = parse_request(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    request.address = CLIENT.encode()
    downstream = Answered()
    exchange = plane.begin(downstream, request)
    if exchange is None:
        assert explained.server is None
        assert explained.refusal is not None
        if downstream.answers:
            assert explained.refusal.status == downstream.answers[0][0]
            assert explained.hooks[-1].outcome in ("answered", "failed")
        else:
            assert (explained.refusal.status, explained.refusal.reason) == downstream.refusals[0]
        return None
    plane.exchanges -= 1
    selection: Any = exchange.selection
    assert explained.upstream == selection.name
    assert explained.hash_key == request.hash_key
    assert explained.cluster_key == plain(request.cluster_key)
    picked = selection.pick(request, [])
    if picked is None:
        assert explained.server is None
        assert explained.refusal is not None
        return None
    assert explained.refusal is None
    if explained.server is None:
        assert explained.balancer in DRAWN
        assert explained.note
    else:
        assert explained.server == picked.key
    may_get = {(one.level, one.server) for one in explained.candidates if not one.reason}
    assert (explained.level, picked.key) in may_get
    return selection, picked


@steady
@given(
    upstreams_of_a_plane,
    routes_of_a_plane,
    hooks_of_a_plane,
    st.sampled_from([None, "other"]),
    st.integers(0, 1 << 32),
)
def test_explained_server_gets_the_request(
    upstreams: Any, routes: Any, scripts: Any, default: Any, seed: int
) -> None:
    """Whatever upstreams, routes and hooks there are, canaries and suspended ones included, and
    whatever requests and heartbeats have shown of servers; and asking changes nothing."""
    made = {name: parsed_upstream(name, *about) for name, about in upstreams.items()}
    plane = plane_of(made, routes, scripts, default)
    chance = random.Random(seed)
    for _ in range(12):
        host, path = chance.choice(HOSTS), chance.choice(["/", "/in/1", f"/{chance.randrange(20)}"])
        before = counted(plane)
        explained = told(plane, host, path)
        assert told(plane, host, path) == explained, "asking changes the answer"
        assert counted(plane) == before
        found = check(explained, plane, host, path)
        if found is None:
            continue
        selection, picked = found
        assert isinstance(selection, Selection)
        if chance.random() < 0.4:
            selection.failed(picked, "broken")
            selection.finished(picked, True, 0.1, 0)
        elif chance.random() < 0.7:
            selection.succeeded(picked, 0.1, 200)
        if chance.random() < 0.3:
            meet(selection, chance, plane.clock)  # type: ignore[arg-type]


# Single answers.


def simple(scripts: Any = None, routes: Any = (), resolver: Any = None, **keys: Any) -> DataPlane:
    servers = [{"host": "127.0.0.1", "port": port} for port in (1, 2)]
    names = ("app", "other")
    made = {name: parse_upstream(name, {"servers": servers, **keys}, name) for name in names}
    return plane_of(made, list(routes), scripts or {}, None, resolver)


def test_effects_of_hooks() -> None:
    """Each hook has what it has done itself; all of it together is there, too."""
    plane = simple({"script.*": {"active": ["header"]}, "script.app": {"active": ["key", "other"]}})
    found = told(plane, "app")
    first, second = found.hooks
    assert (first.hook, first.outcome, first.changes) == (
        "python/script.*",
        "continues",
        ("+ X-Seen: 1",),
    )
    assert (first.upstream, first.hash_key) == (None, None)
    assert (second.hook, second.upstream, second.hash_key) == ("python/script.app", "other", "7")
    assert second.changes == ()
    assert second.version == plane._snapshot.hooks["python", "script.app"].active.version  # type: ignore[union-attr]
    assert (found.by, found.upstream, found.changes) == ("hook", "other", ("+ X-Seen: 1",))


@pytest.mark.parametrize(
    ("on_error", "outcome", "status"), [("reject", "failed", 500), ("continue", "failed", 0)]
)
def test_hook_that_fails(on_error: str, outcome: str, status: int) -> None:
    """Its failure is in the answer, and nowhere else: it is not suspended by being explained."""
    plane = simple({"script.app": {"active": ["fails"], "on_error": on_error}})
    for _ in range(10):
        found = told(plane, "app")
    (effect,) = found.hooks
    assert (effect.outcome, effect.status) == (outcome, status)
    assert effect.error == "python/script.app: line 1: it fails"
    assert (found.server is None) is (status == 500)
    (report,) = plane.hook_reports()
    assert (report.calls, report.errors) == (0, 0)
    assert getattr(report, "state", "") == "active"


def test_answer_of_a_hook() -> None:
    found = told(simple({"script.app": {"active": ["rejects"]}}), "app")
    assert (found.upstream, found.server, found.candidates) == (None, None, ())
    assert found.refusal is not None
    assert (found.refusal.status, found.hooks[0].outcome) == (403, "answered")


def test_route_that_fits() -> None:
    plane = simple(routes=[{"path": "/in/", "upstream": "other"}])
    found = told(plane, "app", "/in/x?y=1")
    assert (found.by, found.upstream) == ("route", "other")
    assert found.route is not None
    assert (found.route["path"], found.route["upstream"]) == ("/in/", "other")
    assert told(plane, "app", "/").route is None


def test_headers_and_address_count() -> None:
    """They are those of a request that came over a listener."""
    plane = simple(mode="header_hash", mode_opts={"header": "X-Tenant"})
    seen = {told(plane, "app", "/", f"X-Tenant: {number}").server for number in range(20)}
    assert seen == {"127.0.0.1:1", "127.0.0.1:2"}
    plane = simple(mode="ip_hash")
    head = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    seen = {result_of(plane.explain(head, f"10.0.{n}.1")).server for n in range(20)}
    assert seen == {"127.0.0.1:1", "127.0.0.1:2"}


def test_upstream_that_waits_for_names() -> None:
    """The request is held; the predecessor that serves meanwhile is the one that is explained."""
    plane = simple(resolver=HandResolver())
    named = parse_upstream("new", {"servers": [{"host": "a.example", "port": 1}]}, "new")
    later = parse_upstream("app", {"servers": [{"host": "a.example", "port": 1}]}, "app")
    plane.first_use("app")
    snapshot = plane._snapshot.with_upstream(named).with_upstream(later)
    plane.apply(snapshot, ["new", "app"])
    assert told(plane, "app").server in ("127.0.0.1:1", "127.0.0.1:2")
    found = told(plane, "new")
    assert (found.server, found.refusal) == (None, None)
    assert found.note == "the request waits until a name of the upstream's servers is looked up"
    assert found.candidates[0].reason == "its name is being looked up"
