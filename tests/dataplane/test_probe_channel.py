"""The connections of heartbeats: what their protocols are told, and when it is looked at."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import formatEvent

from slardar.dataplane.probe_channel import PAUSE, ProbeChannel, ProbePoller
from slardar.dataplane.server_terms import ServerContexts, ServerTerms
from slardar.model.tls import ServerTls
from tests.certificates import Authority
from tests.dataplane.kit import PATIENCE, HandReactor, Recorder, logged, reset

pytestmark = pytest.mark.real


class Site:
    """A listening socket, and a poller that the test turns."""

    def __init__(self) -> None:
        self.reactor = HandReactor()
        self.poller = ProbePoller(self.reactor)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.fars: list[socket.socket] = []

    def connect(self, protocol: Recorder) -> tuple[ProbeChannel, socket.socket]:
        """A channel that is being connected, and the server's end of it."""
        host, port = self.listener.getsockname()
        channel: Any = self.poller.connect(socket.AF_INET, host, port, protocol)
        far, _ = self.listener.accept()
        far.settimeout(PATIENCE)
        self.fars.append(far)
        return channel, far

    def turn(self) -> None:
        """One turn of the reactor, which takes as long as a pause."""
        for reader in [reader for reader in self.reactor.readers if is_ready(reader)]:
            reader.doRead()
        self.reactor.advance(PAUSE)

    def turn_until(self, until: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < end, "it did not happen in time"
            self.turn()


def is_ready(reader: Any) -> bool:
    return bool(select.select([reader], [], [], 0)[0])


def read_all(sock: socket.socket) -> None:
    while sock.recv(1 << 20):
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    with found.listener:
        yield found
        found.poller.stop()
        for far in found.fars:
            far.close()
        assert found.reactor.readers == found.reactor.calls == []


class Asking(Recorder):
    """Sends ``question`` once it is connected."""

    def __init__(self, question: bytes) -> None:
        super().__init__()
        self.question = question

    def connected(self, channel: Any) -> None:
        super().connected(channel)
        channel.write(self.question)


def test_a_talk(site: Site) -> None:
    """Connected, asked, answered twice, and ended by the server."""
    asking = Asking(b"ping")
    channel, far = site.connect(asking)
    assert channel.connecting
    site.turn_until(lambda: asking.events)
    assert far.recv(100) == b"ping"
    far.sendall(b"pong")
    site.turn_until(lambda: asking.data == b"pong")
    channel.write(b"more")
    assert far.recv(100) == b"more"
    far.sendall(b"!")
    site.turn_until(lambda: asking.data == b"pong!")
    far.close()
    site.turn_until(lambda: channel.at_end)
    assert asking.events == ["connected", "ended"]
    channel.close()
    assert not channel.write(b"late")


@pytest.mark.parametrize("size", [3, 16384, 16385, 60000])
def test_an_answer_and_the_end_that_come_together(site: Site, size: int) -> None:
    """Both are told, however much it is, also where all of it is there before the first look."""
    recorder = Recorder()
    channel, far = site.connect(recorder)
    far.sendall(b"x" * size)
    far.close()
    site.turn_until(lambda: channel.at_end)
    assert recorder.data == b"x" * size
    assert recorder.events == ["connected", "ended"]


def test_a_question_that_the_kernel_does_not_take_at_once(site: Site) -> None:
    """The rest goes out when there is room; what is written meanwhile comes behind it."""
    question = bytes(range(256)) * 65536
    asking = Asking(question)
    channel, far = site.connect(asking)
    site.turn_until(lambda: asking.events)
    assert channel.unsent
    channel.write(b"end")
    far.setblocking(False)
    got = bytearray()

    def read() -> bool:
        try:
            got.extend(far.recv(1 << 20))
        except BlockingIOError:
            pass
        return len(got) >= len(question) + 3

    site.turn_until(read)
    assert got == question + b"end"


def test_a_close_with_something_unsent_is_a_reset(site: Site) -> None:
    """The server does not take a part for the whole."""
    asking = Asking(bytes(1 << 24))
    channel, far = site.connect(asking)
    site.turn_until(lambda: asking.events)
    channel.close()
    with pytest.raises(ConnectionResetError):
        read_all(far)


def test_a_server_that_refuses(site: Site) -> None:
    """The message is the system's."""
    host, port = site.listener.getsockname()
    site.listener.close()
    recorder = Recorder()
    channel = site.poller.connect(socket.AF_INET, host, port, recorder)
    site.turn_until(lambda: channel.closed)
    assert recorder.events == [("lost", "Connection refused")]


@pytest.mark.parametrize("question", [b"", b"ping"])
def test_a_server_that_resets(site: Site, question: bytes) -> None:
    """Before the channel was told that it is connected, and behind a question."""
    asking = Asking(question)
    channel, far = site.connect(asking)
    if question:
        site.turn_until(lambda: asking.events)
    reset(far)
    site.turn_until(lambda: channel.closed)
    assert asking.events[-1] == ("lost", "Connection reset by peer")


def test_answers_are_looked_at_together(site: Site) -> None:
    """After a look, the reactor is not told of answers; the next look finds all of them."""
    recorders = [Recorder() for _ in range(20)]
    pairs = [site.connect(recorder) for recorder in recorders]
    site.turn_until(lambda: all(one.events for one in recorders))
    site.turn_until(lambda: site.reactor.readers)
    (reader,) = site.reactor.readers
    pairs[0][1].sendall(b"a")
    assert select.select([reader], [], [], PATIENCE)[0]
    reader.doRead()
    assert recorders[0].data
    assert not site.reactor.readers
    for _, far in pairs[1:]:
        far.sendall(b"a")
    site.reactor.advance(PAUSE / 2)
    assert not any(one.data for one in recorders[1:])
    site.reactor.advance(PAUSE / 2)
    end = time.monotonic() + PATIENCE
    while not all(one.data for one in recorders):
        # A look that had no time for all goes on at once, and asks the reactor for nothing.
        assert not site.reactor.readers
        assert time.monotonic() < end
        site.reactor.advance(0)
    # Nothing comes any more, so the next thing is told at once.
    site.turn_until(lambda: site.reactor.readers)


class Failing(Recorder):
    """Has a bug."""

    def received(self, channel: Any, data: Any) -> None:
        raise ZeroDivisionError(data)


def test_a_bug_on_one_channel(site: Site) -> None:
    """It is logged, and the channel closes; others go on."""
    failing, recorder = Failing(), Recorder()
    channel, far = site.connect(failing)
    _, other = site.connect(recorder)
    with logged() as events:
        far.sendall(b"x")
        site.turn_until(lambda: channel.closed)
        other.sendall(b"x")
        site.turn_until(lambda: recorder.data)
    assert failing.events == ["connected", ("lost", "internal error")]
    assert [formatEvent(event) for event in events] == [f"error on {channel!r}"]


def test_stop_closes_what_is_left(site: Site) -> None:
    """A second stop does no harm, and neither does a connection afterwards."""
    for _ in range(2):
        recorder = Recorder()
        channel, far = site.connect(recorder)
        site.poller.stop()
        site.poller.stop()
        assert channel.closed
        assert site.reactor.readers == []
        assert far.recv(1) == b""
    site.connect(recorder)
    # The next look is planned, and a stop cancels it.
    site.reactor.readers[0].doRead()
    assert recorder.events
    assert site.reactor.calls


# TLS.


class Served:
    """A server with TLS, in a thread for each of its connections."""

    def __init__(self, site: Site, context: ssl.SSLContext) -> None:
        self.site, self.context = site, context

    def connect(self, protocol: Recorder, header: bytes = b"", **keys: Any) -> Any:
        """A channel to it."""
        host, port = self.site.listener.getsockname()
        terms = ServerTerms(ServerContexts(self.site.reactor), ServerTls(**keys), host, port)
        channel = self.site.poller.connect_sealed(
            terms, header, socket.AF_INET, host, port, protocol
        )
        far, _ = self.site.listener.accept()
        far.settimeout(PATIENCE)
        self.site.fars.append(far)
        threading.Thread(target=self._serve, args=(far, header), daemon=True).start()
        return channel

    def _serve(self, far: socket.socket, header: bytes) -> None:
        with contextlib.suppress(OSError):
            assert far.recv(len(header)) == header
            with self.context.wrap_socket(far, server_side=True) as sock:
                while data := sock.recv(1000):
                    sock.sendall(data.upper() * 5000)
                    sock.unwrap()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def served(site: Site, authority: Authority, **issued: Any) -> Served:
    """A server that is called a.example."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("a", ("a.example",), **issued))
    return Served(site, context)


def test_probe_asks_over_tls(site: Site, authority: Authority) -> None:
    """It is told that it is connected when the handshake is over, and sees none of TLS."""
    server = served(site, authority)
    protocol = Recorder()
    ca = authority.file.read_text()
    channel = server.connect(protocol, b"PROXY UNKNOWN\r\n", ca=ca, server_name="a.example")
    site.turn_until(lambda: protocol.events)
    assert protocol.events == ["connected"]
    channel.write(b"ping")
    site.turn_until(lambda: protocol.events[-1] == "ended")
    assert protocol.data == b"PING" * 5000
    channel.close()


@pytest.mark.parametrize(
    ("issued", "keys", "says"),
    [
        ({"ends": timedelta(minutes=-1)}, {}, "TLS: certificate has expired"),
        ({}, {"server_name": "b.example"}, "TLS: hostname mismatch, certificate is not valid"),
        ({}, {"server_name": "a..b"}, "TLS: "),
    ],
)
def test_probe_is_told_why_a_handshake_fails(
    site: Site, authority: Authority, issued: Any, keys: Any, says: str
) -> None:
    """As a server that cannot be connected to."""
    protocol = Recorder()
    words = {"ca": authority.file.read_text(), "server_name": "a.example", **keys}
    channel = served(site, authority, **issued).connect(protocol, **words)
    site.turn_until(lambda: channel.closed)
    ((event, message),) = protocol.events
    assert event == "lost"
    assert message.startswith(says)


@pytest.mark.parametrize(
    ("sends", "says"),
    [
        (b"-ERR unknown command\r\n", "TLS: it speaks no TLS"),
        (b"", "TLS: the server closed the connection within the handshake"),
    ],
)
def test_probe_meets_a_server_without_tls(site: Site, sends: bytes, says: str) -> None:
    """With the words that requests have for it."""
    protocol = Recorder()
    host, port = site.listener.getsockname()
    terms = ServerTerms(ServerContexts(site.reactor), ServerTls(verify=False), host, port)
    channel = site.poller.connect_sealed(terms, b"", socket.AF_INET, host, port, protocol)
    far, _ = site.listener.accept()
    far.sendall(sends)
    far.shutdown(socket.SHUT_WR)
    site.turn_until(lambda: channel.closed)
    assert protocol.events == [("lost", says)]
    far.close()
