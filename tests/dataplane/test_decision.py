"""Where a request would go, and why: the same as where it goes, and nothing is changed."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.config import Settings
from slardar.dataplane.decision import Candidate, Preview
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.selection import Defaults, Selection
from slardar.health.checked import note_checked
from slardar.health.outliers import note_ejected
from slardar.http1.interfaces import WaitingExchange
from slardar.http1.reply import parse_reply
from slardar.http1.request import Request, parse_request
from slardar.model.live import Live, Peer
from slardar.model.parse import parse_upstream
from slardar.model.routes import Route
from slardar.model.snapshot import Choice, Snapshot
from slardar.plugins import balancer_factory
from slardar.testing.channels import FakeClock
from tests.dataplane.kit import HandReactor

#: The modes whose next choice can be told.
HASHES = ("hash", "url_hash", "ip_hash", "host_hash", "header_hash", "maglev")
FORESEEN = ("wrr", "least_conn", *HASHES)
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
    made = Selection(
        upstream, live or Live(), make, Defaults(1, 1, 1), clock, soon=lambda step: None
    )
    made.serve()
    return made


steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=150)


#: Whatever servers may be configured with; ``up`` more often than the rest.
servers_of_a_level: Any = st.lists(
    st.fixed_dictionaries(
        {
            "weight": st.integers(0, 5),
            "max_conns": st.integers(0, 2),
            "max_fails": st.integers(0, 2),
            "state": st.sampled_from(["up", "up", "up", "drain", "down"]),
        }
    ),
    min_size=1,
    max_size=6,
)
#: Whatever else decides which server gets a request.
rules_of_an_upstream: Any = st.fixed_dictionaries(
    {
        "protected": st.booleans(),
        "panic": st.sampled_from([0, 0, 0.5, 1]),
        "hints": st.booleans(),
        "slow_start": st.sampled_from([0, 0, 5]),
        "outlier": st.sampled_from([None, {"min_requests": 1, "max_share": 1, "window": 10}]),
        "queue": st.sampled_from([{"size": 0}, {"size": 1}, {"size": 3}]),
        "retry_on": st.just(["error"]),
        "mode_opts": st.sampled_from([{}, {"bound": 1.25}]),
    }
)


class Waiting(WaitingExchange):
    """A request in the queue."""

    def begin_waiting(self, selection: Any) -> bool:
        return False


def ask(chance: random.Random, clusters: list[str]) -> Request:
    """A request, perhaps with the keys that hooks choose."""
    asked = request(f"/{chance.randrange(50)}")
    if chance.random() < 0.3:
        asked.hash_key = str(chance.randrange(10))
    if chance.random() < 0.3:
        asked.cluster_key = chance.choice([*clusters, "unknown", clusters[::-1]])
    return asked


def meet(selection: Selection, chance: random.Random, clock: FakeClock) -> None:
    """Something changes what is known of a server."""
    peer = chance.choice(selection.peers)
    place = (peer.host, peer.port)
    what = chance.randrange(4)
    if what == 0:
        note_checked(peer.live, chance.choice(["ok", "err"]), 1.0, "heartbeats say so")
    elif what == 1 and selection.believes_hints:
        said = chance.choice([b"full", b"drain", b"weight=3", b"weight=0", b"up"])
        reply = parse_reply(b"HTTP/1.1 200 OK\r\nX-Slardar-Hint: %b\r\n\r\n" % said, b"GET")
        selection.hinted(peer, reply)
    elif what == 2:
        selection.set_weight(*place, chance.choice([None, 0, 0.5, 4]))
    elif selection.upstream.outlier is not None:
        note_ejected(peer.live, clock.now, chance.choice([0.0, 7.0]), 1, "it was slow")
    selection.look(*place)


def check_foresight(
    asked: Request, before: Preview, picked: Peer | None, selection: Selection
) -> None:
    """What was foreseen has happened, and who has a reason got nothing."""
    assert (picked and picked.key) == before.server
    assert (before.refusal is None) is (picked is not None)
    for level in before.levels:
        for one in level.candidates:
            assert level.serves or one.reason
    if picked is not None:
        (serving,) = [level for level in before.levels if level.serves]
        (candidate,) = [one for one in serving.candidates if one.server == picked.key]
        assert candidate.reason == ""
        return
    assert not any(level.serves for level in before.levels)
    assert before.refusal is not None
    status, reason = selection.refusal(asked, False)
    queue = selection.queue
    waits = status == 503 and queue is not None and queue.waiting < selection.queue_size
    assert before.refusal[0] == status
    assert before.refusal[1].startswith(reason)
    assert (", so the request waits" in before.refusal[1]) is waits


@steady
@given(
    st.sampled_from(FORESEEN),
    st.dictionaries(st.sampled_from(["a", "b"]), servers_of_a_level, min_size=1),
    rules_of_an_upstream,
    st.integers(0, 1 << 32),
    st.sampled_from([1, 1, 8]),
)
def test_what_is_foreseen_happens(
    mode: str, clusters: dict[str, list[dict[str, Any]]], rules: Any, seed: int, times: int
) -> None:
    """Whatever requests have met before, whatever heartbeats, hints and ejections say, and
    whatever a hook asks for: the server that is foreseen is picked, from the level that
    serves; and who has a reason is not.  A request that is tried again is no exception for
    the next one."""
    if mode not in HASHES:
        rules = {**rules, "mode_opts": {}}
    chance = random.Random(seed)
    clock = FakeClock()
    # So many that balancers keep the turn in another way; some are in both clusters.
    levels = {
        name: {
            "servers": [
                {"host": "127.0.0.1", "port": 1 + number, **servers[number % len(servers)]}
                for number in range(len(servers) * times)
            ]
        }
        for name, servers in clusters.items()
    }
    selection = selection_of({"mode": mode, "cluster": levels, **rules}, clock)
    under_way = []
    for _ in range(30):
        asked = ask(chance, list(clusters))
        before = selection.preview(asked)
        assert selection.preview(asked) == before, "asking changes the answer"
        picked = selection.pick(asked, [])
        check_foresight(asked, before, picked, selection)
        if picked is None:
            if selection.queue is not None and chance.random() < 0.5:
                selection.queue.enter(Waiting(asked, selection), selection.queue_size)
        else:
            under_way.append(picked)
            again = selection.pick(asked, [picked]) if chance.random() < 0.3 else None
            if again is not None:
                assert again.live is not picked.live
                under_way.append(again)
        while under_way and chance.random() < 0.5:
            peer = under_way.pop(chance.randrange(len(under_way)))
            if chance.random() < 0.4:
                selection.failed(peer, "broken")
                selection.finished(peer, True, 0.1, 0)
            else:
                selection.succeeded(peer, 0.1, 200)
        if chance.random() < 0.3:
            meet(selection, chance, clock)
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
