"""Decisions that are kept: of which requests, what is told of them, and for how long."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_twisted

from slardar.config import Control, Limits, Settings, Timeouts, Token
from slardar.dataplane import decisions
from slardar.dataplane.decisions import Decisions, worker_of
from slardar.dataplane.explanation import DecisionTold
from slardar.dataplane.proxy import DataPlane
from slardar.http1.record import RequestRecord
from slardar.http1.request import parse_request
from slardar.model.live import Live
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.plugins import balancer_factory
from slardar.testing.channels import FakeClock
from tests.control.fakes import result_of
from tests.dataplane.kit import HandReactor, logged
from tests.dataplane.test_hooks import Answered, run_hooks
from tests.hooks.kit import hook
from tests.integration.sockets import Connection, Origin, Served, in_thread, reply, wait_for

ID = re.compile(r"0-[0-9a-f]{32}")
TOKENS = tuple(
    Token(name, hashlib.sha256(name.encode()).hexdigest(), role)  # type: ignore[arg-type]
    for name, role in (("boss", "admin"), ("guest", "read"), ("team", "admin"))
)
#: An admin's token that is for some names only.
LIMITED = Token("limited", hashlib.sha256(b"limited").hexdigest(), "admin", ("up",))


@pytest_twisted.async_yield_fixture
async def served() -> AsyncIterator[Served]:
    """A data plane that serves, with tokens."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    served = Served(reactor, Limits(), Timeouts(), Control(tokens=TOKENS))
    await served.begin("tcp:0:interface=127.0.0.1")
    yield served
    await served.end()


@pytest.fixture
def origins() -> Iterator[list[Origin]]:
    """Servers that end with the test."""
    made: list[Origin] = []
    yield made
    for one in made:
        one.stop()


def found(served: Served, decision_id: str) -> DecisionTold:
    told: DecisionTold = served.run(served.plane.decision, decision_id)
    return told


@pytest.mark.real
@in_thread
@pytest.mark.parametrize(("trusted", "client"), [((), "127.0.0.1"), (("127.0.0.1",), "1.1.1.1")])
def test_client_of_a_trusted_proxy(
    served: Served, origins: list[Origin], trusted: tuple[str, ...], client: str
) -> None:
    """The believed client is told, and what is not believed is nobody's change."""
    origins.append(Origin())
    served.put("up", *origins, decisions=True)
    served.run(served.plane.take_settings, Settings(trusted=trusted))
    lines = ("X-Forwarded-For: 6.6.6.6, 1.1.1.1", "X-Forwarded-Proto: https", "X-Real-IP: 1.1.1.1")
    with served.client() as connection:
        answer = connection.get("/", "up", *lines)
    told = found(served, answer.headers["x-decision-id"])
    assert (told.client, told.decision.changes) == (client, ())


@pytest.mark.real
@in_thread
def test_attempts_are_told(served: Served, origins: list[Origin]) -> None:
    """What was known before the first pick, and each attempt with its times and its failure."""

    def closes(connection: Connection) -> None:
        connection.request()

    origins += [Origin(closes), Origin()]
    served.put("up", *origins, decisions=True, retry_on=["error"])
    with served.client() as client:
        answer = client.get("/x?y=1")
    told = found(served, answer.headers["x-decision-id"])
    keys = [f"127.0.0.1:{one.port}" for one in origins]
    assert [(one.server, one.status, one.failure) for one in told.attempts] == [
        (keys[0], 0, "error"),
        (keys[1], 200, ""),
    ]
    first, second = told.attempts
    assert first.connected is not None
    assert second.first_byte is not None
    assert first.ended is not None
    assert 0 <= first.started <= first.connected <= first.ended <= second.started
    assert second.started <= second.first_byte <= told.seconds
    assert (told.retries, told.server, told.answered_by) == (1, keys[1], "server")
    assert (told.uri, told.status, told.is_over) == ("/x?y=1", 200, True)
    assert (told.decision.server, told.decision.by) == (keys[0], "host")
    # As it was then: the first server had not failed yet.
    assert [(one.server, one.status, one.reason) for one in told.decision.candidates] == [
        (key, "unchecked", "") for key in keys
    ]


@pytest.mark.real
@in_thread
def test_token_asks_for_a_decision(served: Served, origins: list[Origin]) -> None:
    """An admin's, and no other; no server and no hook sees it, however it is spelled."""
    heads: list[dict[str, str]] = []
    seen: list[Any] = []

    def notes(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            heads.append(request[1])
            connection.send(reply())

    origins.append(Origin(notes))
    served.put("up", *origins)
    run_hooks(served, hook("script.up", "look"), look=lambda request, _: seen.append(request))
    asked = [
        ("X-Slardar-Explain: boss", True),
        ("x-slardar-explain:team", True),
        ("X-Slardar-Explain: guest", False),
        ("X-Slardar-Explain: nobody", False),
        ("X-Slardar-Explain: boss\r\nX-Slardar-Explain: boss", False),
        ("X_Slardar_Explain: boss", True),
        ("X-Slardar_Explain: boss", True),
        ("X-Slardar-Explain:", False),
        ("X-Other: boss", False),
    ]
    with served.client() as client:
        for line, is_kept in asked:
            answer = client.get("/", "up", line)
            assert ("x-decision-id" in answer.headers) is is_kept, line
            assert answer.status == 200
            assert ("boss" in seen[-1].sent_head) is (line == "X-Other: boss")
    assert len(heads) == len(asked)
    for head in heads:
        assert not any("explain" in name for name in head), head
    told = found(served, client_id(served))
    assert [one.hook for one in told.decision.hooks] == ["python/script.up"]


def client_id(served: Served) -> str:
    """The id of one more decision."""
    with served.client() as client:
        return client.get("/", "up", "X-Slardar-Explain: boss").headers["x-decision-id"]


@pytest.mark.real
@in_thread
def test_requests_without_a_server(served: Served, origins: list[Origin]) -> None:
    """One that a hook answers, one that leads nowhere, and one whose servers are all out."""
    served.put("up", servers=[{"host": "127.0.0.1", "port": 1, "state": "down"}])
    run_hooks(
        served,
        hook("script.hooked", "no"),
        no=lambda request, _: request.reject(403, "not you"),
    )
    told = {}
    with served.client() as client:
        for host in ("hooked", "none", "up"):
            answer = client.get("/", host, "X-Slardar-Explain: boss")
            told[host] = found(served, answer.headers["x-decision-id"])
    assert (told["hooked"].status, told["hooked"].answered_by) == (403, "hook")
    (effect,) = told["hooked"].decision.hooks
    assert (effect.hook, effect.outcome, effect.status) == ("python/script.hooked", "answered", 403)
    assert (told["none"].status, told["none"].error) == (502, "no upstream for host 'none'")
    assert told["up"].decision.candidates[0].reason == "its state is down"
    assert told["up"].decision.refusal is not None
    assert told["up"].attempts == told["none"].attempts == ()


@pytest.mark.real
@in_thread
def test_only_own_ids_are_told(served: Served, origins: list[Origin]) -> None:
    """A server's header passes where nothing is kept, and gives way where something is."""

    def forges(connection: Connection) -> None:
        while connection.request() is not None:
            connection.send(reply(b"ok", 200, "X-Decision-Id: forged"))

    origins.append(Origin(forges))
    served.put("up", *origins)
    with served.client() as client:
        assert client.get().headers["x-decision-id"] == "forged"
        served.put("up", *origins, decisions=True)
        client.ask()
        head = client.line_block()
        assert head is not None
        ids = re.findall(rb"(?i)x-decision-id: (\S+)", head)
        client.exactly(2)
    (one,) = ids
    assert ID.fullmatch(one.decode())
    assert found(served, one.decode()).id == one.decode()


@pytest.mark.real
@in_thread
def test_tunnel_is_told_while_it_lasts(served: Served, origins: list[Origin]) -> None:
    """Its decision is there from the 101 on."""

    def switches(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 101 X\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        connection.rest()

    origins.append(Origin(switches))
    served.put("up", *origins, decisions=True)
    with served.client() as client:
        client.ask("/", "up", "GET", "Upgrade: echo", "Connection: Upgrade")
        status, headers = client.head()
        assert status == 101
        told = found(served, headers["x-decision-id"])
        assert (told.is_over, told.status) == (False, 101)
    wait_for(lambda: found(served, headers["x-decision-id"]).is_over)


# How long, and how many.


def plane_of(**upstream: Any) -> DataPlane:
    """A plane that is not served."""
    body = {"servers": [{"host": "127.0.0.1", "port": port} for port in range(1, 4)], **upstream}
    made = {"app": parse_upstream("app", {"decisions": True, **body}, "app")}
    plane = DataPlane(HandReactor(), Settings(), Live(), balancer_factory)
    result_of(plane.apply(Snapshot.build(3, made, (), None), made))
    return plane


def kept(clock: FakeClock, count: int, tokens: Any = ()) -> Decisions:
    """So many decisions of requests that led nowhere."""
    plane = plane_of()
    made = Decisions(
        clock, tokens, "worker-7", plane._plane_hooks, plane.choose, lambda: 3, lambda: iter(())
    )
    for _ in range(count):
        keep(made, clock)
    return made


def keep(made: Decisions, clock: FakeClock, uri: bytes = b"/") -> str:
    record = RequestRecord(
        b"10.0.0.1", parse_request(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % uri), clock.now
    )
    note = record.decision = made._begin()
    record.ended = clock.now
    made.keep(record)
    return note.id


def test_ids_name_their_worker_and_nothing_else() -> None:
    clock = FakeClock()
    made = kept(clock, 0)
    ids = {keep(made, clock) for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("7-[0-9a-f]{32}", one) and worker_of(one) == 7 for one in ids)
    for wrong in (
        "",
        "7",
        "7-",
        "07-" + "0" * 32,
        "7-" + "0" * 33,
        "7-" + "G" * 32,
        "-1-" + "0" * 32,
    ):
        assert worker_of(wrong) is None


def test_old_ones_are_forgotten() -> None:
    """After ten minutes, also if nobody asks or adds another one."""
    clock = FakeClock()
    made = kept(clock, 0)
    first = keep(made, clock)
    clock.now += 599
    assert made.find(first) is not None
    second = keep(made, clock)
    clock.now += 2
    assert made.find(first) is None
    assert made.find(second) is not None
    keep(made, clock)
    assert len(made) == 2


def test_number_and_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    clock = FakeClock()
    monkeypatch.setattr(decisions, "MAX_RECORDS", 50)
    made = kept(clock, 60)
    assert len(made) == 50
    monkeypatch.setattr(decisions, "MAX_BYTES", 20_000)
    last = keep(made, clock)
    assert 0 < len(made) < 50
    assert made._size == sum(len(one.data) for one in made._kept.values()) <= 20_000
    assert made.find(last) is not None


def test_guesses_are_bounded() -> None:
    """A worker looks at so many wrong tokens a second; the right ones of others count again in
    the next second."""
    clock = FakeClock()
    made = kept(clock, 0, (*TOKENS, LIMITED))

    def asks(token: bytes) -> bool:
        record = RequestRecord(b"", None, clock.now)
        made.ask(record, token)
        return record.decision is not None

    assert asks(b"boss")
    assert not asks(b"limited")
    for number in range(decisions.MAX_GUESSES - 1):
        assert not asks(b"%d" % number)
    assert not asks(b"boss")
    clock.now += 1
    assert asks(b"boss")
    assert not asks(b"boss" * 1000)
    assert asks(b"boss")
    nobody = RequestRecord(b"", None, clock.now)
    kept(clock, 0).ask(nobody, b"")
    assert nobody.decision is None


def begun(plane: DataPlane) -> RequestRecord:
    """A request that has reached its upstream, and its record."""
    downstream = Answered()
    request = parse_request(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
    record = downstream.record = RequestRecord(b"", request, plane.clock.now)
    assert plane.begin(downstream, request) is not None
    return record


def test_lot_that_was_drawn_is_told() -> None:
    """Nobody could tell it before."""
    plane = plane_of(mode="random")
    record = begun(plane)
    record.attempt("127.0.0.1:2", plane.clock.now)
    record.ended = plane.clock.now
    plane.keep_decision(record)
    assert record.decision is not None
    told = result_of(plane.decision(record.decision.id))
    assert (told.decision.server, told.decision.note) == ("127.0.0.1:2", "")


def test_large_upstream_is_cut() -> None:
    """Of very many candidates those stay that could be picked."""
    servers = [{"host": "127.0.0.1", "port": 1 + n, "weight": int(n >= 350)} for n in range(400)]
    plane = plane_of(servers=servers)
    record = begun(plane)
    plane.keep_decision(record)
    assert record.decision is not None
    told = result_of(plane.decision(record.decision.id)).decision
    assert (len(told.candidates), told.more) == (200, 200)
    assert told.candidates[0].server == told.server
    assert sum(not one.reason for one in told.candidates) == 50


def test_nothing_is_kept_unasked() -> None:
    plane = plane_of(decisions=False)
    assert begun(plane).decision is None
    assert len(plane._decisions) == 0


def test_mistake_costs_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says so, once a minute."""
    plane = plane_of()
    monkeypatch.setattr(decisions, "explanation_of", None)
    with logged() as lines:
        for _ in range(3):
            record = begun(plane)
            plane.keep_decision(record)
    assert len([one for one in lines if "log_failure" in one]) == 1
    assert len(plane._decisions) == 0
