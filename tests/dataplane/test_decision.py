"""Where a request would go, and why: the same as where it goes, and nothing is changed."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.config import Settings
from slardar.dataplane.decision import Candidate
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.selection import Defaults, Selection
from slardar.health.checked import note_checked
from slardar.http1.request import Request, parse_request
from slardar.model.live import Live
from slardar.model.parse import parse_upstream
from slardar.model.routes import Route
from slardar.model.snapshot import Choice, Snapshot
from slardar.plugins import balancer_factory
from slardar.testing.channels import FakeClock
from tests.dataplane.kit import HandReactor

#: The modes whose next choice can be told.
FORESEEN = ("wrr", "least_conn", "hash", "url_hash", "ip_hash", "host_hash", "header_hash")
#: Those that draw lots.
DRAWN = ("p2c", "ewma", "random")


def request(path: str = "/", host: str = "up") -> Request:
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    found = parse_request(head)
    found.address = b"10.1.2.3"
    return found


def selection_of(body: dict[str, Any], clock: FakeClock, live: Live | None = None) -> Selection:
    upstream = parse_upstream("up", body, "up")
    make: Any = balancer_factory(upstream.mode)
    return Selection(upstream, live or Live(), make, Defaults(1, 1, 1), clock)


steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=150)


@steady
@given(
    st.sampled_from(FORESEEN),
    st.lists(
        st.fixed_dictionaries(
            {
                "weight": st.integers(0, 5),
                "max_conns": st.integers(0, 2),
                "max_fails": st.integers(0, 2),
                "state": st.sampled_from(["up", "up", "up", "drain", "down"]),
                "backup": st.booleans(),
            }
        ),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
    st.integers(0, 1 << 32),
    st.sampled_from([1, 1, 8]),
)
def test_what_is_foreseen_happens(
    mode: str, servers: list[dict[str, Any]], protected: bool, seed: int, times: int
) -> None:
    """Whatever requests have met before: the server that is foreseen is picked, from the
    level that serves; and who has a reason is not."""
    chance = random.Random(seed)
    clock = FakeClock()
    # So many that balancers keep the turn in another way.
    body = {
        "mode": mode,
        "protected": protected,
        "servers": [
            {"host": "127.0.0.1", "port": 1 + number, **servers[number % len(servers)]}
            for number in range(len(servers) * times)
        ],
    }
    selection = selection_of(body, clock)
    under_way = []
    for number in range(30):
        asked = request(f"/{chance.randrange(50)}")
        before = selection.preview(asked)
        assert selection.preview(asked) == before, "asking changes the answer"
        picked = selection.pick(asked, [])
        assert (picked and picked.key) == before.server, number
        assert (before.refusal is None) is (picked is not None)
        if picked is None:
            assert before.refusal == selection.refusal(False)
            assert not any(level.serves for level in before.levels)
        else:
            (serving,) = [level for level in before.levels if level.serves]
            (candidate,) = [one for one in serving.candidates if one.server == picked.key]
            assert candidate.reason == ""
            under_way.append(picked)
        for level in before.levels:
            for one in level.candidates:
                assert level.serves or one.reason
        while under_way and chance.random() < 0.5:
            peer = under_way.pop(chance.randrange(len(under_way)))
            if chance.random() < 0.4:
                selection.failed(peer, "broken")
                selection.finished(peer, True, 0.1, 0)
            else:
                selection.succeeded(peer, 0.1, 200)
        clock.now += chance.choice((0.0, 0.1, 6.0))


@pytest.mark.parametrize("mode", DRAWN)
def test_lots_are_not_foreseen(mode: str) -> None:
    """Where the balancer draws lots nobody can tell, unless there is one server only."""
    clock = FakeClock()
    one: dict[str, Any] = {"host": "127.0.0.1", "port": 1}
    several = selection_of({"mode": mode, "servers": [one, {**one, "port": 2}]}, clock)
    assert several.preview(request()).server is None
    assert several.preview(request()).refusal is None
    assert selection_of({"mode": mode, "servers": [one]}, clock).preview(request()).server == (
        "127.0.0.1:1"
    )


REASONS: list[tuple[dict[str, Any], str]] = [
    ({"state": "drain"}, "its state is drain"),
    ({"state": "down"}, "its state is down"),
    ({"weight": 0}, "its weight is 0"),
    ({"backup": True}, "another level serves"),
]


@pytest.mark.parametrize(("keys", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_reasons_of_the_configuration(keys: dict[str, Any], reason: str) -> None:
    one: dict[str, Any] = {"host": "127.0.0.1", "port": 1}
    selection = selection_of({"servers": [one, {**one, "port": 2, **keys}]}, FakeClock())
    seen = {c.server: c for level in selection.preview(request()).levels for c in level.candidates}
    assert seen["127.0.0.1:1"].reason == ""
    assert seen["127.0.0.1:2"].reason == reason


def test_reasons_of_what_is_known() -> None:
    """Failures of requests, heartbeats, the limit of requests, the weight of the moment."""
    clock = FakeClock()
    servers = [
        {"host": "127.0.0.1", "port": port, "max_fails": 1, "max_conns": 1} for port in range(1, 6)
    ]
    selection = selection_of({"servers": servers}, clock)
    first, second, third, fourth, _ = selection.peers
    first.live.active += 1
    selection.failed(first, "no reply")
    selection.finished(first, True, 1.0, 0)
    second.live.active = 1
    note_checked(third.live, "err", 1.0, "no answer")
    selection.set_weight("127.0.0.1", 4, 0)
    selection.refresh()
    (level,) = selection.preview(request()).levels
    assert [candidate.reason for candidate in level.candidates] == [
        "requests failed: no reply",
        "it has its limit of 1 requests",
        "its heartbeats fail: no answer",
        "it has no part in the turn at the moment",
        "",
    ]
    assert level.candidates[1] == Candidate(
        "127.0.0.1:2", "unchecked", 1, 1, "it has its limit of 1 requests"
    )
    assert level.candidates[2].status == "err"
    assert fourth.config.weight == level.candidates[3].weight == 1


class Foreseeing:
    """A user's balancer that says what it will pick, and is wrong or broken."""

    def __init__(self, servers: Any, options: Any) -> None:
        self.answer: Any = None

    def pick(self, servers: Any, request: Any) -> Any:
        return servers[0]

    def preview(self, servers: Any, request: Any) -> Any:
        if self.answer is None:
            raise SystemExit("broken")
        return self.answer


@pytest.mark.parametrize("answer", [None, "nonsense", 7])
def test_broken_preview_is_no_answer(answer: Any) -> None:
    """What a user's balancer raises or invents there costs the preview and nothing else."""
    servers = [{"host": "127.0.0.1", "port": port} for port in (1, 2)]
    upstream = parse_upstream("up", {"servers": servers}, "up")
    made: list[Foreseeing] = []

    def make(servers: Any, options: Any) -> Any:
        made.append(Foreseeing(servers, options))
        made[-1].answer = answer
        return made[-1]

    broken: list[str] = []
    selection = Selection(
        upstream,
        Live(),
        make,
        Defaults(1, 1, 1),
        FakeClock(),
        on_error=lambda name, balancer, method, error: broken.append(method),
    )
    assert selection.preview(request()).server is None
    assert broken == (["preview"] if answer is None else [])


# The whole way.


@pytest.fixture
def plane() -> DataPlane:
    made = DataPlane(HandReactor(), Settings(), Live(), balancer_factory)
    upstreams = {
        name: parse_upstream(name, {"servers": [{"host": "127.0.0.1", "port": port}]}, name)
        for port, name in enumerate(("app", "*.test", "rest", "routed"), 1)
    }
    routes = (Route(upstream="routed", host="app", path="/in/"), Route(upstream="gone", path="/no"))
    made.apply(Snapshot.build(3, upstreams, routes, "rest"), upstreams)
    return made


@pytest.mark.parametrize(
    ("asked", "upstream", "by", "server"),
    [
        (("/", "app"), "app", "host", "127.0.0.1:1"),
        (("/in/x", "app"), "routed", "route", "127.0.0.1:4"),
        (("/in/x", "a.test"), "*.test", "wildcard", "127.0.0.1:2"),
        (("/", "other"), "rest", "default", "127.0.0.1:3"),
    ],
)
def test_way_to_the_upstream(
    plane: DataPlane, asked: tuple[str, str], upstream: str, by: str, server: str
) -> None:
    """The upstream, what leads there, and its server; the upstream is not put to use."""
    decision = plane.decide(request(*asked))
    assert (decision.choice.upstream, decision.choice.by) == (upstream, by)
    assert (decision.choice.route is not None) is (by == "route")
    assert decision.preview is not None
    assert (decision.balancer, decision.preview.server) == ("wrr", server)
    assert plane.selections == {}
    assert plane.requests == plane.exchanges == 0


def test_ways_to_nowhere(plane: DataPlane) -> None:
    """The reason is the one that a client is told."""
    decision = plane.decide(request("/no", "app"))
    assert decision.choice.upstream == "gone"
    assert decision.preview is None
    assert decision.reason == "no upstream 'gone', to which a route or default_upstream leads"
    assert plane.decide(request(), "app").choice == Choice("app", "resource")
    assert plane.decide(request(), "none").reason == "no upstream 'none'"
    empty = DataPlane(HandReactor(), Settings(), Live(), balancer_factory)
    assert empty.decide(request(host="x")).reason == "no upstream for host 'x'"
    assert empty.decide(request(host="x")).choice == Choice(None)


def test_asking_leaves_no_trace(plane: DataPlane) -> None:
    """Nothing that is live is another than before."""
    plane.apply(plane._snapshot, ["app"])
    selection = plane.first_use("app")
    assert selection is not None
    selection.pick(request(), [])
    peer = selection.peers[0]
    names = [name for name in dir(peer.live) if name[0] != "_"]
    before = {name: copy.copy(getattr(peer.live, name)) for name in names}
    for _ in range(5):
        plane.decide(request("/", "app"))
    assert {name: getattr(peer.live, name) for name in names} == before
