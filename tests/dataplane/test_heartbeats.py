"""When heartbeats are sent, and what is told of their results.  No socket, no time."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet import task
from twisted.logger import formatEvent

from slardar.config import Health
from slardar.dataplane.heartbeats import Heartbeats
from slardar.dataplane.server_terms import ServerContexts
from slardar.health.probes.base import OK, Check, Probe, Result, failed
from slardar.health.verdicts import Heartbeat
from slardar.http1.interfaces import ChannelBase
from slardar.http1.proxy_header import LOCAL
from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream
from tests.dataplane.kit import logged


class FakeChannel(ChannelBase):
    """A connection to a server that does what the test says."""

    def __init__(self, address: str, port: int, protocol: Any, since: float) -> None:
        super().__init__(protocol, True)
        self.address = address
        self.port = port
        self.since = since
        self.written: list[bytes] = []

    def write(self, data: Any) -> bool:
        self.written.append(bytes(data))
        return True

    def close(self) -> None:
        self.closed = True

    def connect(self) -> None:
        """The server takes the connection."""
        self.connecting = False
        self.protocol.connected(self)

    def refuse(self, message: str = "Connection refused") -> None:
        self.protocol.lost(self, message)
        self.close()

    def reply(self, data: bytes) -> None:
        self.protocol.received(self, data)

    def end(self) -> None:
        self.protocol.ended(self)


class Talk(Check):
    """Says ``ping``, and has a result for what comes."""

    def connected(self) -> bytes:
        return b"ping"

    def received(self, data: bytes) -> Any:
        if data == b"raise":
            raise ValueError(data)
        if data == b"more":
            return b"ping again"
        if data == b"weak":
            return Result("unstable", "weak", {"role": "slave"})
        if data == b"full":
            return Result("ok", hint="full")
        return OK if data == b"pong" else None

    def ended(self) -> Result:
        return failed("it hung up")


class Takes(Check):
    """The connection is enough."""

    def connected(self) -> Result:
        return OK


class FakeProbe(Probe):
    """Made for the ``typ`` of its upstream."""

    def __init__(self, options: Any) -> None:
        self.typ = options.typ

    def begin(self) -> Check:
        return Takes() if self.typ == "general" else Talk()


class Site:
    """The heartbeats of one process, with its upstreams."""

    def __init__(self, **settings: Any) -> None:
        self.clock = task.Clock()
        self.clock.advance(1000.0)
        self.channels: list[FakeChannel] = []
        self.told: list[Heartbeat] = []
        #: What servers have said of themselves.
        self.hints: list[Any] = []
        self.names: dict[str, list[tuple[int, str]]] = {}
        self.upstreams: dict[str, Upstream] = {}
        #: How connections over TLS have begun.
        self.sealed: list[tuple[Any, bytes]] = []
        #: What the next connection fails with at once.
        self.error = 0
        self.heartbeats = self._made(Health(**settings))

    def _made(self, settings: Health) -> Heartbeats:
        return Heartbeats(
            self.clock,
            settings,
            lambda typ: FakeProbe,
            lambda name: self.names.get(name),
            self.told.extend,
            self._connect,
            self.clock.seconds,
            self._hinted,
            connect_sealed=self._sealed,
        )

    def _sealed(self, terms: Any, header: bytes, *where: Any) -> FakeChannel:
        """A connection over TLS, which a real one makes with these words."""
        channel = self._connect(*where)
        self.sealed.append((terms, header))
        return channel

    def _hinted(self, *hint: Any) -> None:
        self.hints.append(hint)

    def _connect(self, family: int, address: str, port: int, protocol: Any) -> FakeChannel:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        channel = FakeChannel(address, port, protocol, self.clock.seconds())
        self.channels.append(channel)
        return channel

    def put(self, name: str, *servers: Any, **keys: Any) -> None:
        """Configure an upstream: servers by their ports, or with their keys."""
        written = [
            {"host": "10.0.0.1", **(one if isinstance(one, dict) else {"port": one})}
            for one in servers
        ]
        self.upstreams[name] = parse_upstream(name, {"servers": written, **keys}, name)
        self.heartbeats.apply(self.upstreams, [name])

    def remove(self, name: str) -> None:
        del self.upstreams[name]
        self.heartbeats.apply(self.upstreams, [name])

    def pass_time(self, seconds: float, each: Callable[[FakeChannel], None] | None = None) -> None:
        """Let time pass, in steps of a hundredth of a second; ``each`` is called with every
        new connection."""
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)
            if each is not None:
                for channel in self.open:
                    each(channel)
                self.clock.advance(0)

    @property
    def open(self) -> list[FakeChannel]:
        return [channel for channel in self.channels if not channel.closed]

    def take(self) -> list[tuple[int, str, str]]:
        """What has been told since the last call: port, status and message."""
        told, self.told[:] = list(self.told), []
        return [(one.port, one.status, one.message) for one in told]


@pytest.fixture
def site() -> Site:
    found = Site()
    found.heartbeats.start()
    return found


def test_a_new_server_is_checked_at_once(site: Site) -> None:
    """Then once in each interval, always at the same place in it."""
    site.put("a", 1)
    site.pass_time(0.02, FakeChannel.connect)
    assert site.take() == [(1, "ok", "")]
    site.pass_time(60, FakeChannel.connect)
    times = [channel.since for channel in site.channels]
    assert len(times) in (13, 14)
    steps = [round(later - one, 2) for one, later in pairwise(times[1:])]
    assert steps == pytest.approx([5.0] * len(steps), abs=0.02)
    # Nothing new, nothing told.
    assert site.take() == []
    assert site.heartbeats.last_check == pytest.approx(times[-1], abs=0.02)


def test_heartbeats_are_spread_over_the_interval() -> None:
    """At the start, too, if there are many; and in the same way in each process."""
    sites = [Site(), Site()]
    for found in sites:
        found.put("a", *range(1, 1001))
        found.heartbeats.start()
        found.pass_time(10, FakeChannel.connect)
    ports = [[(one.port, one.since) for one in found.channels] for found in sites]
    assert ports[0] == ports[1]
    assert len(ports[0]) == 2000
    for tenth in range(20):
        begin = 1000.0 + tenth / 2
        count = sum(begin <= since < begin + 0.5 for _, since in ports[0])
        assert 60 < count < 140


def test_a_slow_server_delays_no_other(site: Site) -> None:
    """It has ``health.timeout`` seconds from the beginning to the answer."""
    site.put("a", 1, 2, 3, typ="http")
    site.pass_time(0.02)
    slow, talks, quick = site.channels
    assert [channel.port for channel in site.channels] == [1, 2, 3]
    talks.connect()
    assert talks.written == [b"ping"]
    quick.connect()
    quick.reply(b"more")
    quick.reply(b"pong")
    assert quick.written == [b"ping", b"ping again"]
    site.clock.advance(0)
    assert site.take() == [(3, "ok", "")]
    site.pass_time(0.95)
    assert site.take() == []
    site.pass_time(0.1)
    assert site.take() == [
        (1, "err", "no connection within 1 s"),
        (2, "err", "no answer within 1 s"),
    ]
    assert site.open == []
    assert (slow.closed, talks.closed) == (True, True)


def test_results_of_a_probe_and_of_the_connection(site: Site) -> None:
    """Each with its reason."""
    site.put("a", 1, 2, 3, 4, 5, typ="redis")
    site.pass_time(0.02)
    one, two, three, four, five = site.channels
    one.refuse()
    two.connect()
    two.end()
    three.connect()
    three.reply(b"we")
    three.reply(b"weak")
    four.connect()
    four.refuse("Connection reset by peer")
    five.connect()
    with logged() as events:
        five.reply(b"raise")
    assert [formatEvent(event) for event in events] == ["the probe of upstream a failed"]
    site.clock.advance(0)
    told = {verdict.port: verdict for verdict in site.told}
    assert site.take() == [
        (1, "err", "Connection refused"),
        (2, "err", "it hung up"),
        (3, "unstable", "weak"),
        (4, "err", "it hung up"),
        (5, "err", "the probe failed: ValueError: b'raise'"),
    ]
    assert told[3].about == {"role": "slave"}
    assert all(channel.closed for channel in site.channels)


class Faulty(Probe):
    """A user's probe with a fault: ``begins`` and ``answers`` are what its methods do."""

    def __init__(self, begins: Any, answers: Any) -> None:
        self.begins = begins
        self.answers = answers

    def begin(self) -> Any:
        if self.begins is not None:
            return self.begins()
        check = Takes()
        check.connected = self.answers  # type: ignore[method-assign]
        return check


def leaves(*_: Any) -> Any:
    raise SystemExit("no\nlicence")


@pytest.mark.parametrize(
    ("begins", "answers", "message"),
    [
        (leaves, None, "SystemExit: no licence"),
        (lambda: 1 / 0, None, "ZeroDivisionError: division by zero"),
        (object, None, "AttributeError: 'object' object has no attribute 'connected'"),
        (None, leaves, "SystemExit: no licence"),
        (None, lambda: "ping", "TypeError: expected a Result, bytes or None, got str"),
        (
            None,
            lambda: Result("good"),  # type: ignore[arg-type]
            "TypeError: expected the status ok, unstable or err, got 'good'",
        ),
        (
            None,
            lambda: Result([], "x"),  # type: ignore[arg-type]
            "TypeError: expected the status ok, unstable or err, got '[]'",
        ),
        (None, lambda: Result("err", 7), "TypeError: expected strings as message and hint"),  # type: ignore[arg-type]
        (
            None,
            lambda: Result("ok", hint=b"full"),  # type: ignore[arg-type]
            "TypeError: expected strings as message and hint",
        ),
        (
            None,
            lambda: Result("ok", about={"load": 1.5}),  # type: ignore[dict-item]
            "TypeError: expected strings and integers in about",
        ),
        (None, lambda: Result("ok", about=5), "TypeError: 'int' object is not iterable"),  # type: ignore[arg-type]
    ],
)
def test_probe_that_is_broken(site: Site, begins: Any, answers: Any, message: str) -> None:
    """Whatever a user's probe raises or returns is a failure of its servers, logged once; the
    heartbeats of others go on."""
    site.heartbeats._find_probe = lambda typ: (
        FakeProbe if typ == "general" else lambda _: Faulty(begins, answers)
    )
    with logged() as events:
        site.put("a", 1, typ="redis", protected=False)
        site.put("b", 2)
        site.pass_time(11, lambda channel: channel.connect())
    assert [formatEvent(event) for event in events] == ["the probe of upstream a failed"]
    failures = [one for one in site.told if one.port == 1]
    assert {(one.status, one.message) for one in failures} == {
        ("err", f"the probe failed: {message}")
    }
    assert failures[-1].fail_num >= 2
    assert site.heartbeats.connections == 0
    assert sum(channel.port == 2 for channel in site.channels) >= 2


def test_hints_are_handed_on(site: Site) -> None:
    """Of the servers that have any, with each heartbeat."""

    def answer(channel: FakeChannel) -> None:
        channel.connect()
        channel.reply(b"full" if channel.port == 1 else b"pong")

    site.put("a", 1, 2, typ="http")
    site.pass_time(0.02, answer)
    assert site.hints == [("a", "10.0.0.1", 1, "full")]
    site.pass_time(9.9, answer)
    assert site.hints in ([("a", "10.0.0.1", 1, "full")] * 2, [("a", "10.0.0.1", 1, "full")] * 3)


def test_an_error_at_once_is_a_result(site: Site) -> None:
    """Such as an address without a route."""
    site.error = errno.ENETUNREACH
    site.put("a", 1)
    site.pass_time(0.05)
    assert site.take() == [(1, "unstable", "Network is unreachable")]
    assert site.heartbeats.connections == 0


def test_a_shortage_here_says_nothing_of_servers(site: Site) -> None:
    """It is tried again soon."""
    site.error = errno.EMFILE
    site.put("a", 1)
    site.pass_time(1)
    assert (site.take(), site.heartbeats.connections) == ([], 0)
    site.error = 0
    site.pass_time(0.3, FakeChannel.connect)
    assert site.take() == [(1, "ok", "")]


def test_failing_and_coming_back_within_the_bounds(site: Site) -> None:
    """Out within an interval and the timeout; back after ``rise`` good heartbeats."""
    site.put("a", 1, 2, interval=2, rise=2)
    site.pass_time(3, FakeChannel.connect)
    site.take()

    def silent(channel: FakeChannel) -> None:
        if channel.port == 2:
            channel.connect()

    site.pass_time(3.05, silent)
    assert (1, "err", "no connection within 1 s") in site.take()
    for channel in site.open:
        channel.refuse()
    good = len(site.channels)
    while (1, "ok", "") not in site.take():
        site.pass_time(0.01, FakeChannel.connect)
    assert [channel.port for channel in site.channels[good:]].count(1) == 2


def test_an_edit_resets_nobody(site: Site) -> None:
    """Neither statuses nor heartbeats under way; the new server is checked at once."""
    site.put("a", 1, 2, typ="http")
    site.pass_time(0.02)
    one, two = site.channels
    one.refuse()
    two.connect()
    site.put("a", {"port": 1, "weight": 5}, 2, 3, typ="http", sensibility=1)
    two.reply(b"pong")
    site.clock.advance(0)
    assert site.take() == [(1, "err", "Connection refused"), (2, "ok", "")]
    site.pass_time(0.02)
    assert [channel.port for channel in site.channels] == [1, 2, 3]


def test_another_probe_begins_at_once(site: Site) -> None:
    """What the former one would have found out counts no more."""
    site.put("a", 1)
    site.pass_time(0.02)
    (before,) = site.channels
    site.put("a", 1, typ="http")
    assert before.closed
    site.pass_time(0.02)
    after = site.open[0]
    after.connect()
    after.reply(b"pong")
    site.clock.advance(0)
    assert site.take() == [(1, "ok", "")]


def test_heartbeat_says_that_it_is_no_client(site: Site) -> None:
    """Where the servers expect a PROXY protocol header: before what the probe says, if it says
    anything.  Another version begins at once, as another probe does."""
    site.put("a", 1, typ="http", proxy_protocol=1)
    site.put("b", 2, proxy_protocol=2)
    site.pass_time(0.02, lambda channel: channel.connect() if channel.connecting else None)
    talks, takes = site.channels
    assert talks.written == [LOCAL[1], b"ping"]
    assert takes.written == [LOCAL[2]]
    assert site.take() == [(2, "ok", "")]
    site.put("a", 1, typ="http", proxy_protocol=2)
    assert talks.closed
    site.pass_time(0.02)
    (again,) = site.open
    again.connect()
    assert again.written == [LOCAL[2], b"ping"]
    site.put("a", 1, typ="http")
    site.pass_time(0.02)
    (plain,) = site.open
    plain.connect()
    assert plain.written == [b"ping"]


def test_another_interval_holds_at_once(site: Site) -> None:
    """Also that of the settings; nothing is checked before its time for it."""
    site.put("a", 1, interval=1000)
    site.pass_time(0.02, FakeChannel.connect)
    site.put("a", 1, interval=0.5)
    site.pass_time(5, FakeChannel.connect)
    assert 10 <= len(site.channels) - 1 <= 11
    site.put("a", 1)
    site.heartbeats.take_settings(Health(interval=1))
    site.channels.clear()
    site.pass_time(10, FakeChannel.connect)
    assert 9 <= len(site.channels) <= 11


def test_a_removed_server_leaves_nothing_behind(site: Site) -> None:
    """No connection, no verdict, no plan."""
    site.put("a", 1, 2)
    site.put("b", 1)
    site.pass_time(0.02)
    first, second, other = site.channels
    second.refuse()
    site.put("a", 1)
    site.clock.advance(0)
    assert site.take() == []
    site.remove("a")
    assert first.closed
    other.connect()
    site.clock.advance(0)
    assert site.take() == [(1, "ok", "")]
    site.remove("b")
    site.channels.clear()
    site.pass_time(20)
    assert (site.channels, site.take(), site.heartbeats.connections) == ([], [], 0)


@pytest.mark.parametrize("keys", [{"enable": False}, {"servers": {"state": "down"}}])
def test_what_is_switched_off_is_unchecked(site: Site, keys: dict[str, Any]) -> None:
    """It gets no heartbeat; switched on again, it begins as unchecked."""
    site.put("a", 1)
    site.pass_time(0.02, FakeChannel.refuse)
    assert site.take()[0][1] == "unstable"
    server = {"port": 1, **keys.pop("servers", {})}
    site.put("a", server, **keys)
    site.channels.clear()
    site.pass_time(20)
    assert site.take() == [(1, "unchecked", "")]
    assert site.channels == []
    site.put("a", 1)
    site.pass_time(0.02, FakeChannel.connect)
    assert site.take() == [(1, "ok", "")]


def test_settings_switch_all_off(site: Site) -> None:
    """And on again, without a restart."""
    site.put("a", 1)
    site.pass_time(0.02, FakeChannel.connect)
    assert site.heartbeats.is_alive
    site.heartbeats.take_settings(Health(enabled=False))
    assert not site.heartbeats.is_alive
    site.pass_time(20)
    assert site.take() == [(1, "ok", ""), (1, "unchecked", "")]
    site.heartbeats.take_settings(Health())
    site.pass_time(0.02, FakeChannel.connect)
    assert site.take() == [(1, "ok", "")]


def test_a_name_is_what_its_addresses_are(site: Site) -> None:
    """All are asked at the same time; any that works is enough."""
    site.put("a", {"host": "web.example", "port": 1}, typ="http")
    site.pass_time(1)
    assert (site.channels, site.take()) == ([], [])  # it is being looked up
    site.names["web.example"] = [(socket.AF_INET, "10.0.0.8"), (socket.AF_INET, "10.0.0.9")]
    site.pass_time(0.3)
    one, other = site.channels
    assert (one.address, other.address) == ("10.0.0.8", "10.0.0.9")
    assert site.heartbeats.connections == 2
    one.refuse()
    site.clock.advance(0)
    assert site.take() == []
    other.connect()
    other.reply(b"weak")
    site.clock.advance(0)
    assert site.take() == [(1, "unstable", "weak")]
    assert site.heartbeats.connections == 0
    site.pass_time(5)
    one, other = site.open
    one.connect()
    one.reply(b"pong")
    assert other.closed
    site.clock.advance(0)
    assert site.take() == [(1, "ok", "")]
    site.names["web.example"] = []
    site.pass_time(5.05)
    assert site.take() == [(1, "unstable", "its name has no address")]


def test_connections_are_bounded(site: Site) -> None:
    """The others wait for their turn, and a server that is removed waits no longer."""
    site.heartbeats._most = 3
    site.put("a", *range(1, 9))
    site.pass_time(0.05)
    assert [channel.port for channel in site.open] == [1, 2, 3]
    site.open[0].connect()
    site.pass_time(0.05)
    assert [channel.port for channel in site.open] == [2, 3, 4]
    site.put("a", 2, 3, 4, 6, 7, 8)
    site.open[0].refuse()
    site.pass_time(0.05)
    assert [channel.port for channel in site.open] == [3, 4, 6]
    site.pass_time(1.1)
    assert [channel.port for channel in site.open] == [7, 8]
    site.pass_time(20)
    assert 0 < len(site.open) == site.heartbeats.connections <= 3


def test_a_successor_goes_on_where_its_predecessor_was() -> None:
    """What is known stays and is checked at its place in the interval; what gets no
    heartbeats any more is told to be unchecked."""
    site = Site()
    site.put("a", 1, 2, 3)
    site.put("b", 1, enable=False)
    site.heartbeats.start(
        [
            Heartbeat("a", "10.0.0.1", 1, "err", 50.0, "refused", 4),
            Heartbeat("a", "10.0.0.1", 2, "ok", 60.0, ""),
            Heartbeat("b", "10.0.0.1", 1, "err", 50.0, "refused", 4),
        ]
    )
    assert [(one.upstream, one.status) for one in site.told] == [("b", "unchecked")]
    site.take()
    site.pass_time(0.02)
    assert [channel.port for channel in site.channels] == [3]
    site.pass_time(5.02, FakeChannel.refuse)
    told = {verdict.port: verdict for verdict in site.told}
    assert (told[1].status, told[1].fail_num, told[1].since) == ("err", 5, 50.0)


def test_nothing_is_sent_after_the_stop(site: Site) -> None:
    """Nor told; connections are closed."""
    site.put("a", 1, 2)
    site.pass_time(0.02)
    site.channels[0].refuse()
    site.heartbeats.stop()
    assert site.open == []
    assert not site.heartbeats.is_alive
    assert site.clock.getDelayedCalls() == []
    site.put("a", 1, 2, 3)
    site.pass_time(10)
    assert len(site.channels) == 2
    assert site.take() == []


def test_a_probe_that_cannot_be_made_costs_its_upstream_only(site: Site) -> None:
    """A user's class may change after the configuration was checked."""

    def find(typ: str) -> Any:
        if typ == "redis":
            raise ValueError(typ)
        return FakeProbe

    site.heartbeats._find_probe = find
    with logged() as events:
        site.put("a", 1, typ="redis")
    assert [formatEvent(event) for event in events] == ["upstream a gets no heartbeats"]
    site.put("b", 2)
    site.pass_time(0.02, FakeChannel.connect)
    assert site.take() == [(2, "ok", "")]


# TLS.

#: A certificate that nobody looks at here.
CA = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("name", "keys", "asked"),
    [
        ("a.example", {}, "a.example"),
        ("A.Example", {}, "a.example"),
        ("a.example", {"tls": {"ca": CA, "server_name": "b"}}, "b"),
        (
            "a",
            {"http_opts": {"query": "GET / HTTP/1.1\r\nHost: C.example:80\r\n\r\n"}},
            "c.example",
        ),
        ("a", {"http_opts": {"query": "GET / HTTP/1.0\r\n\r\n"}}, "a"),
        ("*.example", {}, ""),
        ("a.example", {"public": False}, ""),
    ],
)
def test_name_for_which_a_heartbeat_asks(site: Site, name: str, keys: Any, asked: str) -> None:
    """That of most requests; where nobody can know it, none is verified."""
    site.put(name, 1, **{"tls": {"ca": CA}, **keys})
    site.pass_time(0.02)
    ((terms, header),) = site.sealed
    assert (terms.name, header) == (asked, b"")
    assert terms._checks_name is (asked != "")


def test_heartbeats_follow_a_change_of_tls(site: Site) -> None:
    """At once, and as often as before if nothing has changed; a header comes before TLS."""
    site.put("a", 1)
    site.pass_time(0.02, FakeChannel.connect)
    for tls, sealed in (({"ca": CA}, 1), ({"ca": CA}, 1), (True, 2), (False, 2)):
        made = len(site.channels)
        before = len(site.sealed)
        if tls is True:
            # Those of the system may still be on their way from the disk.
            site.put("a", 1, tls={"verify": False}, proxy_protocol=2)
        else:
            site.put("a", 1, tls=tls)
        site.pass_time(0.02, FakeChannel.connect)
        assert len(site.sealed) == sealed
        is_other = sealed > before or tls is False
        assert len(site.channels) - made == int(is_other)
    assert site.sealed[1][1] == LOCAL[2]
    assert site.channels[1].written == []


def test_server_of_its_own_way(site: Site) -> None:
    """Some over TLS, some in the clear."""
    site.put("a", 1, {"port": 2, "tls": False}, tls={"ca": CA})
    site.pass_time(0.02, FakeChannel.connect)
    assert len(site.sealed) == 1
    assert len(site.channels) == 2


def test_heartbeat_waits_for_the_cas_of_the_system(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are loaded in a thread."""
    ready = [False]
    monkeypatch.setattr(ServerContexts, "is_ready", lambda *_: ready[0])
    monkeypatch.setattr(ServerContexts, "prepare", lambda *_: None)
    site.put("a", 1, tls=True)
    site.pass_time(1)
    assert site.channels == []
    ready[0] = True
    site.pass_time(0.5, FakeChannel.connect)
    assert len(site.sealed) == 1


def test_time_is_over_within_the_handshake(site: Site) -> None:
    """The result says so."""
    site.put("a", 1, tls={"ca": CA})
    site.pass_time(0.02)
    (channel,) = site.channels
    channel.connecting, channel.shaking = False, True
    site.pass_time(1.1)
    assert site.take() == [(1, "unstable", "TLS: handshake timed out after 1 s")]
