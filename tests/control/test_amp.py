"""The AMP control channel: each command does what the call of HTTP does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from twisted.internet import defer
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.python.failure import Failure

import slardar.amp
from slardar.amp import commands
from slardar.amp.protocol import QuietAmp
from slardar.config import parse_settings
from slardar.control import amp_channel
from slardar.control.actions import Actions
from slardar.control.amp_channel import AmpSite
from slardar.control.operations import OPERATIONS
from slardar.control.room import MAX_CONNECTIONS, Standing
from slardar.events import Changed, EventLog, Health
from tests.certificates import Authority
from tests.control.fakes import (
    FakePlane,
    FakeStore,
    Transport,
    WebClient,
    make_actions,
    result_of,
    upstream,
)

BY_OPERATION = {command.operation: command for command in commands.COMMANDS.values()}
CODE = b"def on_request(request):\n    pass\n"
#: The HTTP status of each error.
STATUSES = {
    commands.Invalid: 400,
    commands.InvalidUpstream: 400,
    commands.NotFound: 404,
    commands.Conflict: 409,
    commands.Unauthorized: 403,
    commands.StoreUnavailable: 503,
}


class UnixTransport(Transport):
    """A unix socket, with a process of the user ``uid`` on the other side."""

    uid = os.geteuid()

    def getHandle(self) -> Any:
        return self

    def getsockopt(self, *_: Any) -> bytes:
        return b"".join(number.to_bytes(4, "little") for number in (7, self.uid, 8))


class AmpClient:
    """One connection to the AMP control channel, in memory."""

    def __init__(
        self, actions: Actions, uid: int | None = None, site: Any = None, **control: Any
    ) -> None:
        self.clock = site.reactor if site else Clock()
        settings = parse_settings({"control": control})
        self.site = site or AmpSite(actions, settings.control, self.clock)
        if uid is None:
            self.transport = Transport(IPv4Address("TCP", "127.0.0.1", 1996))
        else:
            self.transport = UnixTransport(UNIXAddress("slardar.sock"))
            self.transport.uid = uid
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        self.client = QuietAmp()
        self.client.max_box = 2**30
        self.outgoing = Transport(UNIXAddress(""))
        self.client.makeConnection(self.outgoing)

    def pump(self) -> None:
        """Move what was sent, both ways, until nothing more is."""
        for _ in range(1000):
            sent, received = self.outgoing.value(), self.transport.value()
            self.outgoing.clear()
            self.transport.clear()
            if sent:
                self.channel.dataReceived(sent)
            if received:
                self.client.dataReceived(received)
            self.clock.advance(0)
            if not (sent or received or self.outgoing.value() or self.transport.value()):
                return

    def ask(self, command: Any, **arguments: Any) -> defer.Deferred[Any]:
        """Send a command.  AMP takes an error in its own Deferred for a failure of the link."""
        answer: defer.Deferred[Any] = defer.Deferred()
        asked = self.client.callRemote(command, **arguments)
        asked.addCallbacks(answer.callback, answer.errback)
        return answer

    def call(self, command: Any, **arguments: Any) -> Any:
        """One whole call."""
        asked = self.ask(command, **arguments)
        self.pump()
        return result_of(asked)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def new_actions(store: FakeStore | None = None) -> Actions:
    return make_actions(store or FakeStore(), FakePlane(), upstreams={"a": upstream(8001, 8002)})


@pytest.fixture
def actions(store: FakeStore) -> Actions:
    return new_actions(store)


@pytest.fixture
def client(actions: Actions) -> AmpClient:
    return AmpClient(actions, os.geteuid())


class Case(NamedTuple):
    """One call.  ``arguments`` are what it names."""

    operation: str
    arguments: Mapping[str, str] = {}
    body: bytes | None = None
    parameters: Mapping[str, Any] = {}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


A = {"name": "a"}
SERVER = {"name": "a", "server": "127.0.0.1:8001"}
PYTHON = {"language": "python"}
HOOK = {"language": "python", "name": "script.a"}
ROUTES = [{"host": "b", "upstream": "a"}]
#: Calls in the order in which they are made, good ones and bad ones.


def pair() -> bytes:
    """A certificate and its key, as a call sends them."""
    with TemporaryDirectory() as folder:
        cert, key = Authority(Path(folder)).issue("c", ("c.example",))
        return body({"cert": cert.read_text(), "key": key.read_text()})


PAIR = pair()
CASES = [
    Case("status"),
    Case("metrics"),
    Case("overview", {}, None, {"index": True, "upstream": ["a", "none"]}),
    Case("overview", {}, None, {"upstream": ["a"] * 101}),
    Case("upstreams"),
    Case("openapi"),
    Case("upstream", A),
    Case("upstream", {"name": "none"}),
    Case("set-upstream", {"name": "b"}, body(upstream(1, 2))),
    Case("set-upstream", {"name": "b"}, body({"servers": 5})),
    Case("set-upstream", {"name": "b"}, b"{"),
    Case("set-upstream", {"name": "b"}, body(upstream(3)), {"wait": False, "receipt": True}),
    Case("set-upstream", {"name": "b"}, body(upstream(3)), {"nonsense": 1}),
    Case("set-upstream", {"name": "b"}, body(upstream(3)), {"wait": "x"}),
    Case("set-upstream", {"name": "a b"}, body(upstream(3))),
    Case("change-server", SERVER, body({"weight": 5})),
    Case("change-server", SERVER, body({"weight": "x"})),
    Case("add-server", {"name": "a", "server": "127.0.0.1:8003"}, body({"weight": 2})),
    Case("add-server", SERVER, body({})),
    Case("remove-server", SERVER),
    Case("remove-server", {"name": "a", "server": "127.0.0.1:9"}),
    Case("remove-upstream", {"name": "b"}),
    Case("remove-upstream", {"name": "b"}, None, {"to": "nowhere"}),
    Case("set-service", {"name": "s"}, body({"dns_service": "_http._tcp.s.example"})),
    Case("set-service", {"name": "s"}, body({"dns_service": 5})),
    Case("services"),
    Case("service", {"name": "s"}),
    Case("remove-service", {"name": "s"}),
    Case("set-certificate", {"name": "c"}, PAIR),
    Case("set-certificate", {"name": "c"}, body({"cert": "x", "key": "y"})),
    Case("set-certificate", {"name": "c"}, b"{"),
    Case("certificates"),
    Case("certificate", {"name": "c"}),
    Case("remove-certificate", {"name": "c"}),
    Case("remove-certificate", {"name": "c"}),
    Case("set-setting", {"key": "myargs"}, body({"arg0": 0})),
    Case("set-setting", {"key": "exit"}, body(1)),
    Case("set-setting", {"key": "none"}, body(None)),
    Case("settings"),
    Case("setting", {"key": "myargs"}),
    Case("setting", {"key": "none"}),
    Case("remove-setting", {"key": "myargs"}),
    Case("remove-setting", {"key": "myargs"}),
    Case("routes"),
    Case("set-routes", {}, body(ROUTES)),
    Case("set-routes", {}, body([{"upstream": 1}])),
    Case("return-routes", {}, None, {"to": "file"}),
    Case("compare", {}, body({"upstreams": {"c": upstream(4)}}), {"prune": True}),
    Case("compare", {}, body({"upstreams": 5})),
    Case("apply", {}, body({"upstreams": {"c": upstream(4)}, "routes": ROUTES})),
    Case("apply", {}, body({"upstreams": {"c": upstream(4)}})),
    Case("apply", {}, body({"upstream": {}})),
    Case("stage-hook", HOOK, CODE),
    Case("stage-hook", {"language": "python", "name": "nonsense"}, CODE),
    Case("hooks", PYTHON),
    Case("hook", HOOK),
    Case("hook", {"language": "python", "name": "script.none"}),
    Case("hook-code", HOOK),
    Case("activate-hook", HOOK, None, {"canary": 10}),
    Case("activate-hook", {"language": "python", "name": "script.none"}),
    Case("activate-hook", HOOK, None, {"canary": 1000}),
    Case("stage-hook", HOOK, CODE + b"# 2\n", {"shadow": True}),
    Case("hook-shadow", HOOK),
    Case("activate-hooks", PYTHON),
    Case("set-code-version", PYTHON, b"v2"),
    Case("code-version", PYTHON),
    Case("remove-code-version", PYTHON),
    Case("remove-hook", HOOK),
    Case("accept-store"),
    Case("history"),
    Case("history", {}, None, {"limit": 2}),
    Case("history", {}, None, {"limit": "many"}),
    Case("version", {"version": "1"}),
    Case("version", {"version": "x"}),
    Case("rollback", {"version": "1"}),
    Case("rollback", {"version": "1000"}),
    Case("explain", {}, None, {"host": "a", "path": "/x", "header": "X-A:b"}),
    Case("explain", {}, None, {"host": "none"}),
    Case("explain"),
    Case("explain", {}, None, {"host": "a", "client": "nobody"}),
    Case("decision", {"id": "0-" + "0" * 32}),
]


def over_http(web: WebClient, case: Case) -> tuple[int, Any]:
    """Status and value of a call of HTTP."""
    operation = next(one for one in OPERATIONS if one.name == case.operation)
    path = operation.path
    for word, value in case.arguments.items():
        path = path.replace(word.upper(), value.replace(" ", "%20"))
    texts = {
        name: int(value) if isinstance(value, bool) else value
        for name, value in case.parameters.items()
    }
    query = urlencode(texts, doseq=True)
    reply = web.call(operation.methods[0], f"{path}?{query}" if query else path, case.body)
    # What is no JSON is a text, which a command's answer has as a string.
    is_json = reply.headers["Content-Type"] == "application/json"
    return reply.status, reply.json if is_json else reply.body.decode()


def over_amp(client: AmpClient, case: Case) -> tuple[int, Any]:
    """The same of a command."""
    arguments: dict[str, Any] = dict(case.arguments)
    if case.body is not None:
        arguments["body"] = case.body
    try:
        answer = client.call(
            BY_OPERATION[case.operation], parameters=dict(case.parameters), **arguments
        )
    except commands.SlardarAmpError as error:
        return STATUSES[type(error)], str(error)
    return 200, answer["value"]


def comparable(value: Any) -> Any:
    """A value without what differs between two channels: who asked, and from where."""
    if isinstance(value, dict):
        return {
            key: comparable(one)
            for key, one in value.items()
            if key not in ("who", "from", "age", "pid")
        }
    return [comparable(one) for one in value] if isinstance(value, list) else value


def test_every_operation_is_a_command() -> None:
    """Every row of the table has its command, and its case in the comparison."""
    names = {operation.name for operation in OPERATIONS}
    assert set(BY_OPERATION) == names
    assert {case.operation for case in CASES} == names - {"events"}
    for operation in OPERATIONS:
        command = BY_OPERATION[operation.name]
        words = {name.decode() for name, _ in command.arguments}
        assert ("if_version" in words) == operation.is_change, operation.name
        assert getattr(slardar.amp, command.__name__) is command


def test_both_channels_do_the_same() -> None:
    """Two slardars get the same calls, one over HTTP and one over AMP.  Their answers, their
    errors and what they serve are the same."""
    web = WebClient(new_actions())
    amp_client = AmpClient(new_actions(), os.geteuid())
    for case in CASES:
        status, expected = over_http(web, case)
        found_status, found = over_amp(amp_client, case)
        assert found_status == status, (case, expected, found)
        if status != 200:
            assert found == expected["msg"], case
        else:
            assert comparable(found) == comparable(expected), case
        ours, theirs = amp_client.site.actions.snapshot, web.site.actions.snapshot
        assert (ours.version, ours.fingerprint) == (theirs.version, theirs.fingerprint), case


def test_change_answers_its_version(client: AmpClient, actions: Actions, store: FakeStore) -> None:
    """The next question sees it already; who asked and from where is on record."""
    answer = client.call(commands.UpdateUpstream, name="b", body=body(upstream(1)))
    assert answer["version"] == actions.snapshot.version == 1
    assert client.call(commands.GetUpstreams)["version"] == 1
    assert (store.changes[0].who, store.changes[0].place) == ("amp", "unix")


def test_change_on_a_condition(client: AmpClient) -> None:
    """It is made only to the version that its author has read."""
    client.call(commands.UpdateUpstream, name="b", body=body(upstream(1)), if_version=0)
    with pytest.raises(commands.Conflict, match="version 1"):
        client.call(commands.DeleteUpstream, name="b", if_version=0)
    assert client.call(commands.DeleteUpstream, name="b", if_version=1)["version"] == 2


def test_values_of_any_size(client: AmpClient) -> None:
    """AMP limits a value to 65,535 bytes; a large upstream takes several."""
    large = upstream(*range(1, 4000))
    assert len(body(large)) > 2 * 65_535
    client.call(commands.UpdateUpstream, name="b", body=body(large))
    found = client.call(commands.GetUpstream, name="b")["value"]
    assert len(found["servers"]) == 3999


def test_error_of_any_size_is_cut(client: AmpClient) -> None:
    """An error has no room for more than 65,535 bytes."""
    wrong = {"servers": [{"host": "\u20ac" * 50, "port": 0} for _ in range(2000)]}
    with pytest.raises(commands.InvalidUpstream) as caught:
        client.call(commands.UpdateUpstream, name="b", body=body(wrong))
    assert len(str(caught.value).encode()) < 65_535


# Who may call.


def tokens(**more: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest(), **more}
        for name, role in (("boss", "admin"), ("guest", "read"))
    ]


def refusal(client: AmpClient, command: Any, **arguments: Any) -> str:
    with pytest.raises(commands.Unauthorized) as caught:
        client.call(command, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_own_user_and_root_need_no_token(actions: Actions, uid: int) -> None:
    """The kernel says who is on the other side of a unix socket."""
    client = AmpClient(actions, uid, tokens=tokens())
    assert client.call(commands.UpdateUpstream, name="b", body=body(upstream(1)))["version"] == 1


@pytest.mark.parametrize("uid", [None, 12345])
def test_others_log_in(actions: Actions, uid: int | None) -> None:
    """Over TCP, and another user over a unix socket: nothing is answered before."""
    client = AmpClient(actions, uid, tokens=tokens())
    assert "Login" in refusal(client, commands.Status)
    assert "known" in refusal(client, commands.Login, token="wrong")
    assert "Login" in refusal(client, commands.GetUpstreams)
    assert client.call(commands.Login, token="guest") == {"name": "guest"}
    assert client.call(commands.GetUpstreams)["value"]
    assert "role admin" in refusal(client, commands.DeleteUpstream, name="a")
    assert client.call(commands.Login, token="boss") == {"name": "boss"}
    assert client.call(commands.DeleteUpstream, name="a")["version"] == 1


def test_names_of_a_token_hold_here_too(actions: Actions) -> None:
    client = AmpClient(actions, tokens=tokens(names=["b"]))
    client.call(commands.Login, token="boss")
    assert client.call(commands.GetUpstreams)["value"] == {}
    assert "name" in refusal(client, commands.DeleteUpstream, name="a")
    assert "names" in refusal(client, commands.SetRoutes, body=b"[]")


def test_guessers_wait(actions: Actions) -> None:
    client = AmpClient(actions, tokens=tokens())
    for _ in range(10):
        assert "known" in refusal(client, commands.Login, token="wrong")
    assert "wait" in refusal(client, commands.Login, token="boss")


def test_networks_that_may_not_call_are_cut_off(actions: Actions) -> None:
    client = AmpClient(actions, tokens=tokens(), allow=["10.0.0.0/8"])
    assert client.transport.aborted
    assert not client.site.room.guests or not client.channel.is_lost


# Rubbish, floods and those who do not read.


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100,
        b"\xff" * 100,
        b"\x00\x01a\x00\x01b\x00\x00",
        b"\x00\x07_answer\x00\x011\x00\x00",
        b"\x00\x08_command\x00\x06Status\x00\x04_ask\x00\x011\x00\x01x\x00\x01y\x00\x00" * 2,
    ],
)
def test_rubbish_ends_only_its_connection(client: AmpClient, actions: Actions, data: bytes) -> None:
    """Bytes that are not AMP close the connection; others go on."""
    other = AmpClient(actions, os.geteuid(), site=client.site)
    for piece in (data[:1], data[1:]):
        if not client.transport.disconnecting:
            client.channel.dataReceived(piece)
    client.clock.advance(0)
    assert other.call(commands.Status)["value"]["slardar_version"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {b"name": b"\xff"},
        {b"name": b"a", b"body": b"{}", b"parameters": b"[1]"},
        {b"name": b"a", b"body": b"{}", b"parameters": b"{"},
        {b"name": b"a", b"body": b"{}", b"parameters": b'{"wait": {}}'},
        {b"name": b"a", b"body": b"{}", b"if_version": b"x"},
        {b"name": b"a", b"body": b"\xff"},
        {b"name": b"a", b"body": b"[" * 60000},
    ],
)
def test_wrong_arguments_are_refused(client: AmpClient, arguments: dict[bytes, bytes]) -> None:
    """With an error of their own; the connection stays."""
    box = amp.AmpBox({b"_command": b"UpdateUpstream", b"_ask": b"77", **arguments})
    client.channel.dataReceived(box.serialize())
    client.clock.advance(0)
    sent = client.transport.value()
    assert b"_error" in sent
    assert b"INVALID" in sent
    client.transport.clear()
    assert client.call(commands.Status)["value"]


def test_unknown_command_is_told(client: AmpClient) -> None:
    """StartTLS, which AMP itself would answer, is one of those."""

    class Nonsense(amp.Command):
        pass

    for command, arguments in ((Nonsense, {}), (amp.StartTLS, {})):
        box = amp.AmpBox({b"_command": command.commandName, b"_ask": b"7", **arguments})
        client.channel.dataReceived(box.serialize())
        assert b"UNHANDLED" in client.transport.value()
        client.transport.clear()
    assert client.call(commands.Status)["value"]


def test_stranger_may_send_little_and_not_for_long(actions: Actions) -> None:
    """Nobody who has not logged in takes memory or a place."""
    client = AmpClient(actions, tokens=tokens())
    client.channel.dataReceived(b"\x00\x01a\x20\x00" + b"x" * 5000)
    assert client.transport.aborted
    client = AmpClient(actions, tokens=tokens())
    client.clock.advance(11)
    assert client.transport.aborted


def test_command_must_come_within_a_minute(client: AmpClient) -> None:
    """An idle connection stays; half a command does not."""
    client.clock.advance(100_000)
    assert client.call(commands.Status)["value"]
    client.channel.dataReceived(b"\x00\x08_comm")
    client.clock.advance(61)
    assert client.transport.aborted


def test_place_of_a_stranger_is_taken_first(actions: Actions) -> None:
    first = AmpClient(actions, tokens=tokens())
    first.clock.advance(1)
    known = AmpClient(actions, site=first.site)
    known.call(commands.Login, token="boss")
    for _ in range(MAX_CONNECTIONS - 1):
        AmpClient(actions, site=first.site)
    assert first.transport.aborted
    assert not known.transport.aborted


def test_flood_of_commands_is_taken_in_turns(client: AmpClient) -> None:
    """A thousand commands at once: no more is read than a few wait, and all are answered."""
    asked = [client.ask(commands.Status) for _ in range(1000)]
    sent = client.outgoing.value()
    client.outgoing.clear()
    client.channel.dataReceived(sent)
    assert client.transport.producerState == "paused"
    assert client.transport.value() == b"", "no call begins in the turn that reads"
    client.clock.advance(0)
    assert client.transport.producerState == "producing"
    client.pump()
    assert all(result_of(one)["value"] for one in asked)


def test_who_does_not_read_is_not_answered_further(client: AmpClient) -> None:
    """While answers wait to be read, no call begins; after a minute the connection ends."""
    client.transport.stalls = True
    asked = [client.ask(commands.Status) for _ in range(5)]
    sent = client.outgoing.value()
    client.channel.dataReceived(sent)
    for _ in range(10):
        client.clock.advance(0)
    assert client.transport.value().count(b"_answer") == 1
    client.clock.advance(61)
    assert client.transport.aborted
    assert asked


@pytest.mark.parametrize("who", ["slardar ends", "the caller closes its side"])
def test_end_waits_for_calls_that_have_come(client: AmpClient, who: str) -> None:
    """They are answered, those that wait for others included."""
    asked = [
        client.ask(commands.UpdateUpstream, name=f"b{number}", body=body(upstream(1)))
        for number in range(20)
    ]
    client.channel.dataReceived(client.outgoing.value())
    client.outgoing.clear()
    if who == "slardar ends":
        client.site.stopFactory()
    else:
        assert IHalfCloseableProtocol.providedBy(client.channel)
        client.channel.readConnectionLost()
    assert not client.transport.disconnecting
    client.pump()
    assert [result_of(one)["version"] for one in asked] == list(range(1, 21))
    assert client.transport.disconnecting


def test_change_during_an_upgrade_is_to_be_asked_again(client: AmpClient, actions: Actions) -> None:
    """The successor makes the changes; nothing is lost, and nothing is half made."""
    result_of(actions.hand_over())
    asked = client.ask(commands.DeleteUpstream, name="a")
    client.pump()
    actions.moved()
    client.pump()
    with pytest.raises(commands.StoreUnavailable, match="ask again"):
        result_of(asked)


def test_bytes_of_what_is_no_call_are_let_go(client: AmpClient) -> None:
    """Else they would count as a body that has not come whole."""
    box = amp.AmpBox({b"_command": b"Nonsense", b"_ask": b"7", b"x": b"y" * 60000})
    for _ in range(10):
        client.channel.dataReceived(box.serialize())
    assert client.site.room._body_bytes == 0
    assert client.channel.standing is Standing.IDLE


def test_bug_is_one_error(client: AmpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says more, and the connection goes on."""
    monkeypatch.setattr(client.site.actions, "routes", lambda: 1 / 0)
    with pytest.raises(commands.Failed, match="internal error"):
        client.call(commands.GetRoutes)
    assert client.call(commands.Status)["value"]


def test_limits_fit_together() -> None:
    """The largest body of HTTP fits into a command."""
    assert amp_channel._LARGE > amp_channel.MAX_BODY


# Events.


class Subscriber(AmpClient):
    """A caller that keeps the events that it gets."""

    def __init__(self, actions: Actions, uid: int | None = None, **more: Any) -> None:
        super().__init__(actions, os.geteuid() if uid is None else uid, **more)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.client.locateResponder = lambda name: self._happened

    def _happened(self, box: Any) -> Any:
        event = commands.Event.parseArguments(box, self.client)
        self.events.append((event["id"], json.loads(event["event"])))
        return amp.AmpBox()

    def kinds(self) -> list[str]:
        self.pump()
        return [event["kind"] for _, event in self.events]


@pytest.fixture
def told(actions: Actions) -> EventLog:
    """Events of these actions; what is published comes with the next pump."""
    clock = Clock()
    log = EventLog(clock, clock.seconds, size=8)
    actions.events, actions.publish = log, log.publish
    return log


def test_subscriber_is_told_what_happens(actions: Actions, told: EventLog) -> None:
    """In order, with ids by which it can go on; only what happens after it has subscribed."""
    told.publish(Changed("upstream", "before", 0, "x"))
    client = Subscriber(actions)
    first = client.call(commands.Subscribe)["value"]["id"]
    assert client.kinds() == []
    told.publish(Changed("upstream", "a", 1, "x"))
    told.publish(Health("a", "h:1", "err", "refused"))
    told._reactor.advance(1)
    assert client.kinds() == ["upstream", "health"]
    assert client.events[1][1]["reason"] == "refused"
    again = Subscriber(actions)
    assert again.call(commands.Subscribe, parameters={"after": first, "kind": "health"})
    assert [event["kind"] for _, event in again.events] == ["health"]
    assert [id for id, _ in again.events] == [client.events[1][0]]
    with pytest.raises(commands.Invalid, match="kind"):
        client.call(commands.Subscribe, parameters={"kind": "nonsense"})


def test_second_subscription_takes_the_place_of_the_first(actions: Actions, told: EventLog) -> None:
    client = Subscriber(actions)
    client.call(commands.Subscribe)
    client.call(commands.Subscribe, parameters={"kind": "health"})
    assert told.readers == 1
    told.publish(Changed("upstream", "a", 1, "x"))
    told.publish(Health("a", "h:1", "ok"))
    told._reactor.advance(1)
    assert client.kinds() == ["health"]
    client.channel.connectionLost(Failure(ConnectionDone()))
    assert told.readers == 0


def test_slow_subscriber_is_dropped(actions: Actions, told: EventLog) -> None:
    """The ring overtakes a subscriber that does not read; nobody waits for it."""
    slow, quick = Subscriber(actions), Subscriber(actions)
    for one in (slow, quick):
        one.call(commands.Subscribe)
    slow.channel.pauseProducing()
    for number in range(20):
        told.publish(Changed("upstream", "a", number, "x"))
        told._reactor.advance(1)
        quick.pump()
    assert len(quick.events) == 20
    slow.channel.resumeProducing()
    assert slow.transport.aborted
    assert slow.events == []


def test_subscriber_sees_its_names_only(actions: Actions, told: EventLog) -> None:
    client = Subscriber(actions, 12345, tokens=tokens(names=["b"]))
    client.call(commands.Login, token="guest")
    client.call(commands.Subscribe)
    for name in ("a", "b"):
        told.publish(Changed("upstream", name, 1, "x"))
    told._reactor.advance(1)
    client.pump()
    assert [event["name"] for _, event in client.events] == ["b"]
