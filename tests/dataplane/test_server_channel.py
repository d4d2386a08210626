"""Channels to servers over TLS: handshakes that succeed and fail, sessions, bytes, and ends."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slardar.dataplane import server_terms
from slardar.dataplane.poller import Poller
from slardar.dataplane.pool import Pool
from slardar.dataplane.server_channel import ServerChannel
from slardar.dataplane.server_terms import ServerContexts, ServerTerms
from slardar.dataplane.system import connected_socket
from slardar.http1.interfaces import NAMED, REFUSED, UNSAID
from slardar.model.tls import ServerTls
from tests.certificates import Authority
from tests.dataplane.kit import HandReactor, Recorder, logged, pump, step, tcp_pair

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("ca"))


class Far:
    """The server at the other end of a channel."""

    def __init__(self, poller: Poller, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.poller, self.sock = poller, sock
        sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.data = bytearray()
        #: What ended: ``said`` by TLS, ``closed`` without a word, or an error.
        self.end: Any = None
        self.shaken = False
        #: How many bytes it sends at once, at most.
        self.piece = 1 << 20

    def send_raw(self) -> None:
        """Send what OpenSSL has to send."""
        data = memoryview(self.outgoing.read())
        while data:
            try:
                data = data[self.sock.send(data[: self.piece]) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # the channel has left
            step(self.poller)

    def go(self) -> None:
        """Go on with whatever there is."""
        try:
            came = self.sock.recv(1 << 20)
            if came:
                self.incoming.write(came)
            elif self.end is None:
                self.end = "closed"
        except BlockingIOError:
            pass
        except OSError as error:
            self.end = self.end or error
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            while True:
                data = self.tls.read(1 << 20)
                if not data:
                    self.end = "said"
                    break
                self.data += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.end = "said"
        except ssl.SSLError as error:
            self.end = self.end if self.end is not None else error
        self.send_raw()

    def send(self, data: bytes) -> None:
        """Send bytes inside of TLS."""
        self.tls.write(data)
        self.send_raw()

    def until(self, what: Callable[[], Any]) -> None:
        """Go on until ``what()`` is true."""

        def looked() -> Any:
            self.go()
            return what()

        pump(self.poller, looked)


class Kit:
    """Makes channels and their servers."""

    def __init__(self, poller: Poller, authority: Authority) -> None:
        self.poller, self.authority = poller, authority
        self.fars: list[socket.socket] = []
        #: What each of its channels told.
        self.told: dict[ServerChannel, Recorder] = {}
        self.contexts = ServerContexts(HandReactor())

    def terms(self, **keys: Any) -> ServerTerms:
        """For a server that is called a.example."""
        keys.setdefault("ca", self.authority.file.read_text())
        keys.setdefault("server_name", "a.example")
        return ServerTerms(self.contexts, ServerTls(**keys), "10.0.0.1", 443)

    def channel(self, terms: ServerTerms | None = None, **keys: Any) -> Any:
        """A channel that is being connected, its protocol, and the raw end of its server."""
        near, far = tcp_pair()
        # What follows tickets must not wait for them.
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fars.append(far)
        near.setblocking(False)
        protocol = Recorder()
        channel = ServerChannel(
            self.poller, connected_socket(near), protocol, terms or self.terms(**keys)
        )
        self.told[channel] = protocol
        return channel, far

    def server(self, names: tuple[str, ...] = ("a.example",), **issued: Any) -> ssl.SSLContext:
        """A server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.issue("server", names, **issued))
        return context

    def shaken(
        self, context: ssl.SSLContext | None = None, terms: ServerTerms | None = None
    ) -> tuple[ServerChannel, Far, Any]:
        """A channel whose handshake has succeeded."""
        channel, far = self.channel(terms)
        server = Far(self.poller, far, context or self.server())
        server.until(lambda: server.shaken and "connected" in self.told[channel].events)
        return channel, server, self.told[channel]

    def fails(self, context: ssl.SSLContext, **keys: Any) -> tuple[str, ServerChannel]:
        """What is told of a handshake that fails."""
        channel, far = self.channel(**keys)
        server = Far(self.poller, far, context)
        server.until(lambda: channel.closed)
        (event,) = self.told[channel].events
        assert event[0] == "lost"
        return event[1], channel


@pytest.fixture
def kit(poller: Poller, authority: Authority) -> Iterator[Kit]:
    """Makes channels, whose servers end with the test."""
    kit = Kit(poller, authority)
    yield kit
    for far in kit.fars:
        far.close()


# Handshakes.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("piece", [1 << 20, 1])
def test_bytes_go_both_ways(kit: Kit, version: ssl.TLSVersion, piece: int) -> None:
    """The protocol sees none of TLS, even if it comes in single bytes."""
    context = kit.server()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    channel, far = kit.channel()
    server = Far(kit.poller, far, context)
    server.piece = piece
    protocol = kit.told[channel]
    assert channel.connecting
    server.until(lambda: protocol.events)
    assert protocol.events == ["connected"]
    assert not channel.connecting
    assert not channel.shaking
    assert server.tls.selected_alpn_protocol() == "http/1.1"
    channel.write(b"good ")
    channel.write_both(b"evening", b"!")
    server.until(lambda: server.data == b"good evening!")
    server.send(b"hello")
    pump(kit.poller, lambda: protocol.data == b"hello")
    assert protocol.events == ["connected"]


def test_nothing_is_sent_before_the_handshake_is_over(kit: Kit, poller: Poller) -> None:
    """Neither in the clear nor otherwise."""
    channel, far = kit.channel()
    far.setblocking(False)
    step(poller)
    pump(poller, lambda: channel.shaking)
    assert channel.write(b"secret") is False
    channel.write_both(b"secret", b"secret")
    pump(poller, lambda: channel._ssl is not None)
    hello = far.recv(100_000)
    assert hello[:2] == b"\x16\x03"
    assert b"secret" not in hello
    # The name is what the server is asked for.
    assert b"a.example" in hello


@pytest.mark.parametrize(
    ("issued", "says"),
    [
        ({"ends": timedelta(minutes=-1)}, "TLS: certificate has expired"),
        ({"begins": timedelta(hours=1)}, "TLS: certificate is not yet valid"),
        (
            {"names": ("b.example",)},
            "TLS: hostname mismatch, certificate is not valid for 'a.example'",
        ),
    ],
)
def test_certificate_that_is_refused(kit: Kit, issued: dict[str, Any], says: str) -> None:
    """With OpenSSL's reason; the server gets an alert."""
    assert kit.fails(kit.server(**issued))[0] == says


@pytest.mark.parametrize("keys", [{}, {"ca": ""}])
def test_certificate_of_a_stranger(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]
) -> None:
    """Of another CA than ours, and of one that the system does not know."""
    # The system's CAs are those of the test: all of them take a tenth of a second to load.
    monkeypatch.setenv("SSL_CERT_FILE", str(kit.authority.file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "other").issue("a", ("a.example",)))
    assert kit.fails(context, **keys)[0] == "TLS: unable to get local issuer certificate"


def test_certificate_that_has_signed_itself(kit: Kit, tmp_path: Path) -> None:
    """It is refused unless it is the one that is believed."""
    other = Authority(tmp_path, "self")
    # The CA's own certificate, used as that of a server.
    key = tmp_path / "self.key"
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key.write_bytes(other._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.file, key)
    assert kit.fails(context)[0] == "TLS: self-signed certificate"


def test_server_that_is_not_verified(kit: Kit, tmp_path: Path) -> None:
    """Nothing in its certificate matters."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expired = Authority(tmp_path, "other").issue("b", ("b.example",), ends=timedelta(minutes=-1))
    context.load_cert_chain(*expired)
    kit.shaken(context, kit.terms(verify=False, ca=""))


def test_system_believes_it(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a CA, those of the system count."""
    monkeypatch.setenv("SSL_CERT_FILE", str(kit.authority.file))
    kit.shaken(terms=kit.terms(ca=""))


def test_server_with_an_old_protocol(kit: Kit) -> None:
    """Older than TLS 1.2."""
    context = kit.server()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    assert "protocol" in kit.fails(context)[0]


def test_server_that_chooses_http_2(kit: Kit) -> None:
    """Even where it was offered: slardar does not speak it to servers."""
    context = kit.server()
    context.set_alpn_protocols(["h2"])
    message, _ = kit.fails(context, alpn=("h2", "http/1.1"))
    assert message == "TLS: the server chose h2, which slardar does not speak to servers"


@pytest.mark.parametrize(
    ("sends", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS: it speaks no TLS"),
        (b"\x00\x01\x02\x03\x04\x05", "TLS: it speaks no TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "TLS: sslv3 alert handshake failure"),
        (b"\x15\x03\x03\x00\x02\x02\x70", "TLS: tlsv1 unrecognized name"),
        (b"", "TLS: the server closed the connection within the handshake"),
        (b"\x16\x03\x03\x00\x10", "TLS: the server closed the connection within the handshake"),
    ],
)
def test_server_that_speaks_something_else(
    kit: Kit, poller: Poller, sends: bytes, says: str
) -> None:
    """And then ends the connection, within a record or before it."""
    channel, far = kit.channel()
    far.sendall(sends)
    far.shutdown(socket.SHUT_WR)
    pump(poller, lambda: channel.closed)
    assert kit.told[channel].events == [("lost", says)]


def test_server_that_resets_the_connection(kit: Kit, poller: Poller) -> None:
    """Within the handshake."""
    channel, far = kit.channel()
    pump(poller, lambda: channel._ssl is not None)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    far.close()
    pump(poller, lambda: channel.closed)
    assert kit.told[channel].events == [
        ("lost", "TLS: Connection reset by peer within the handshake")
    ]


def test_server_that_says_nothing(kit: Kit, poller: Poller) -> None:
    """The protocol's deadline ends it, and ``shaking`` says what was late."""
    with logged() as events:
        channel, _ = kit.channel()
        pump(poller, lambda: channel._ssl is not None)
        channel.deadline = 0.5
        poller._find_late()
    assert kit.told[channel].events == ["late"]
    assert channel.shaking
    assert [event["reason"] for event in events] == ["TLS: handshake timed out"]


def test_server_that_floods_before_the_handshake_waits(kit: Kit, poller: Poller) -> None:
    """What comes before the channel's turn stays in the kernel."""
    channel, far = kit.channel()
    far.sendall(b"\x16\x03\x03")
    channel.event(4)
    channel.readable()
    channel.readable()
    assert list(poller.turns) == [channel]
    step(poller)
    pump(poller, lambda: channel._heard)


# Certificates that are shown to servers.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shown", ["ours", "none", "other"])
def test_server_that_wants_a_certificate(
    kit: Kit, tmp_path: Path, version: ssl.TLSVersion, shown: str
) -> None:
    """One that gets none, or another one, says so; with TLS 1.3 after the request was sent."""
    context = kit.server()
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(kit.authority.file)
    keys = {}
    if shown != "none":
        signer = kit.authority if shown == "ours" else Authority(tmp_path, "other")
        cert, key = (path.read_text() for path in signer.issue("alice", ("alice",)))
        keys = {"cert": cert, "key": key, "cert_file": "c"}
    if shown == "ours":
        _, server, _ = kit.shaken(context, kit.terms(**keys))
        assert server.tls.getpeercert()["subject"] == ((("commonName", "alice"),),)  # type: ignore[index]
        return
    channel, far = kit.channel(**keys)
    server = Far(kit.poller, far, context)
    server.until(lambda: channel.closed)
    message = kit.told[channel].events[-1][1]
    assert "certificate" in message or "unknown ca" in message or "handshake failure" in message
    if version == VERSIONS[1]:
        assert kit.told[channel].events[0] == "connected"
        assert channel.fault == REFUSED
    else:
        assert channel.shaking


# Whose fault a failure is.


@pytest.mark.parametrize(
    ("issued", "fixed", "fault"),
    [
        ({"names": ("b.example",)}, False, NAMED),
        ({"names": ("b.example",)}, True, 0),
        ({"ends": timedelta(minutes=-1)}, False, 0),
    ],
)
def test_failure_that_may_be_that_of_the_name(
    kit: Kit, issued: dict[str, Any], fixed: bool, fault: int
) -> None:
    """Only where the client has chosen the name, and nothing else is wrong."""
    channel, far = kit.channel(server_name="a.example" if fixed else "")
    channel.name = "a.example"
    Far(kit.poller, far, kit.server(**issued)).until(lambda: channel.closed)
    assert channel.fault == fault


@pytest.mark.parametrize("name", [".a", "x" * 64 + ".example", "a..b"])
def test_name_that_can_be_none(kit: Kit, poller: Poller, name: str) -> None:
    """The client alone has chosen it."""
    channel, _ = kit.channel(server_name="")
    channel.name = name
    pump(poller, lambda: channel.closed)
    assert kit.told[channel].was_lost
    assert channel.fault == NAMED


def test_log_says_once_why_handshakes_fail(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again after one that has succeeded, or when the reason is another one; not often."""
    now = [100.0]
    terms = ServerTerms(kit.contexts, kit.terms().tls, "10.0.0.1", 443, seconds=lambda: now[0])
    with logged() as events:
        for reason in ("a", "a", "b"):
            terms.failed(reason)
            now[0] += 1
        now[0] += 10
        for reason in ("a", "b\nc"):
            terms.failed(reason)
            now[0] += 11
        terms.failed("b\nc")
        terms.worked()
        terms.failed("b\nc")
    assert [event["reason"] for event in events] == ["a", r"b\nc", r"b\nc"]
    assert {event["server"] for event in events} == {"10.0.0.1:443"}


# Sessions.


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_resume(kit: Kit, version: ssl.TLSVersion) -> None:
    """For the same name at the same server."""
    context = kit.server(names=("a.example", "b.example"))
    context.minimum_version = context.maximum_version = version
    terms = kit.terms(server_name="")
    for name, resumed in (("a.example", 0), ("b.example", 0), ("a.example", 1), ("b.example", 2)):
        channel, far = kit.channel(terms)
        channel.name = name
        server = Far(kit.poller, far, context)
        server.until(lambda server=server: server.shaken)
        server.send(b"x")
        pump(kit.poller, lambda channel=channel: kit.told[channel].data == b"x")
        assert context.session_stats()["hits"] == resumed
        assert channel._ssl.session_reused is (resumed > 0)
    assert len(terms._sessions) == 2
    # Other settings, or another server, begin with none.
    assert not kit.terms()._sessions


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("verify", [True, False])
def test_session_ends_with_the_certificate(
    kit: Kit, version: ssl.TLSVersion, verify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a server whose tickets are renewed would be believed for ever."""
    context = kit.server()
    context.minimum_version = context.maximum_version = version
    terms = kit.terms(verify=verify)

    def connect() -> bool:
        channel, server, protocol = kit.shaken(context, terms)
        server.send(b"x")
        pump(kit.poller, lambda: protocol.data == b"x")
        return channel._ssl.session_reused

    assert [connect(), connect()] == [False, True]
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    # OpenSSL's own time is another, so a full handshake succeeds here.
    assert connect() is not verify


def test_certificate_without_a_readable_end_makes_no_session(kit: Kit) -> None:
    """Each handshake looks at it."""

    class Ticket:
        has_ticket = True

    class Opened:
        session = Ticket

        @staticmethod
        def getpeercert() -> Any:
            raise ValueError

    terms = kit.terms()
    assert terms.keep_session("a", Opened)
    assert terms._sessions["a"][1] < time.time()


def test_sessions_that_are_kept_are_few(kit: Kit) -> None:
    """However many names strangers ask for."""

    class Ticket:
        has_ticket = True

    class Opened:
        session = Ticket

    terms = kit.terms(server_name="", verify=False)
    for number in range(server_terms._SESSIONS + 10):
        assert terms.keep_session(f"{number}", Opened)
    assert len(terms._sessions) == server_terms._SESSIONS


def test_idle_channel_with_tickets_is_quiet(kit: Kit, poller: Poller) -> None:
    """They come after the handshake, and are no reply that nobody has asked for."""
    context = kit.server()
    channel, server, protocol = kit.shaken(context)
    channel.pause()
    server.send_raw()
    assert channel.is_quiet()
    assert channel.is_quiet()
    server.tls.write(b"unasked")
    server.sock.send(server.outgoing.read())
    assert not channel.is_quiet()
    assert protocol.data == b""


def test_idle_channel_that_was_ended_is_not_quiet(kit: Kit) -> None:
    """In order or not."""
    for is_said in (True, False):
        channel, server, _ = kit.shaken()
        channel.pause()
        if is_said:
            with pytest.raises(ssl.SSLWantReadError):
                server.tls.unwrap()
            server.sock.send(server.outgoing.read())
        else:
            server.sock.shutdown(socket.SHUT_WR)
        assert not channel.is_quiet()


# Bytes.


def test_large_bytes_both_ways(kit: Kit, poller: Poller) -> None:
    """What waits for a slow server is bounded."""
    channel, server, protocol = kit.shaken()
    data = bytes(range(256)) * 4000
    left = memoryview(data)

    def sent() -> bool:
        nonlocal left
        while left and not channel.congested:
            channel.write(left[:50_000])
            left = left[50_000:]
            assert channel.held < 200_000
        server.go()
        return len(server.data) == len(data)

    pump(poller, sent)
    assert server.data == data
    channel.eager = True
    server.send(data)
    pump(poller, lambda: len(protocol.data) == len(data))
    assert protocol.data == data


def test_one_call_of_the_kernel_for_a_message(
    kit: Kit, poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request goes out with one send, and its reply comes in with one read."""
    channel, server, protocol = kit.shaken()
    server.go()
    step(poller)
    calls = []

    class Counted:
        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(self._sock, name)

    real, channel.sock = channel.sock, Counted(channel.sock)  # type: ignore[assignment]
    channel.write(b"GET / HTTP/1.1\r\n\r\n")
    server.until(lambda: server.data)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    pump(poller, lambda: protocol.data)
    assert calls == ["send", "recv"]
    channel.sock = real


def test_new_keys_without_end(kit: Kit, poller: Poller) -> None:
    """A few are no harm, and a flood of them ends the connection."""
    channel, server, protocol = kit.shaken()
    new_keys(server, 20)
    server.send(b"reply")
    pump(poller, lambda: protocol.data == b"reply")
    channel.write(b"request")
    server.until(lambda: server.data == b"request")
    new_keys(server, 3000)
    pump(poller, lambda: channel.closed)
    assert protocol.events[-1] == ("lost", "TLS: too much without data")


def new_keys(server: Far, count: int) -> None:
    """Let the server use new keys so often, and ask for ours.  Python has no call for it."""
    lib = ctypes.CDLL("libssl.so.3")
    lib.SSL_key_update.argtypes = (ctypes.c_void_p, ctypes.c_int)
    lib.SSL_do_handshake.argtypes = (ctypes.c_void_p,)
    # Behind the head of the object, and a reference to its socket.
    place = id(server.tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    pointer = ctypes.c_void_p.from_address(place).value
    for _ in range(count):
        assert lib.SSL_key_update(pointer, 1) == 1
        lib.SSL_do_handshake(pointer)
    server.send_raw()


# Ends.


def test_half_close(kit: Kit, poller: Poller) -> None:
    """Each side says its own end, and goes on reading."""
    channel, server, protocol = kit.shaken()
    channel.write(b"x" * 300_000)
    channel.finish_writing()
    server.until(lambda: server.end == "said")
    assert len(server.data) == 300_000
    server.send(b"more")
    pump(poller, lambda: protocol.data == b"more")
    # OpenSSL may read what has come meanwhile.
    with contextlib.suppress(ssl.SSLError):
        server.tls.unwrap()
    server.sock.send(server.outgoing.read())
    pump(poller, lambda: "ended" in protocol.events)
    assert channel.fault == 0


def test_end_without_a_word(kit: Kit, poller: Poller) -> None:
    """It is an end, and said to be one that somebody else may have caused."""
    channel, server, protocol = kit.shaken()
    server.send(b"reply")
    server.sock.shutdown(socket.SHUT_WR)
    pump(poller, lambda: "ended" in protocol.events)
    assert protocol.data == b"reply"
    assert channel.fault == UNSAID


def test_server_is_told_that_we_leave(kit: Kit) -> None:
    """So that its log has no broken connection."""
    channel, server, _ = kit.shaken()
    channel.close()
    server.until(lambda: server.end == "said")


def test_record_that_was_changed_on_its_way(kit: Kit, poller: Poller) -> None:
    """Nothing of it is told."""
    channel, server, protocol = kit.shaken()
    server.go()
    step(poller)
    server.tls.write(b"reply")
    data = bytearray(server.outgoing.read())
    data[-1] ^= 1
    server.sock.send(data)
    pump(poller, lambda: channel.closed)
    assert protocol.data == b""
    assert protocol.events[-1][1].startswith("TLS: ")
    assert channel.fault == 0


# Contexts.


def test_context_is_shared(kit: Kit) -> None:
    """By all upstreams that differ in the server's name alone."""
    one, two = kit.terms(server_name="a").tls, kit.terms(server_name="b").tls
    assert kit.contexts.find(one) is kit.contexts.find(two)
    assert kit.contexts.find(one, False) is not kit.contexts.find(one)
    other = kit.terms(alpn=()).tls
    assert kit.contexts.find(other) is not kit.contexts.find(one)


def test_system_is_asked_in_a_thread(monkeypatch: pytest.MonkeyPatch, kit: Kit) -> None:
    """Who comes too early waits; who has CAs of his own does not."""
    monkeypatch.setenv("SSL_CERT_FILE", str(kit.authority.file))
    tls = ServerTls()
    assert not kit.contexts.is_ready(tls)
    kit.contexts.prepare([tls, kit.terms().tls])
    assert kit.contexts.find(tls).cert_store_stats()["x509_ca"] == 1
    assert kit.contexts.is_ready(tls)
    assert kit.contexts.is_ready(kit.terms().tls)


def test_files_that_were_not_read_make_no_context(kit: Kit, poller: Poller) -> None:
    """A server would be believed that must not be."""
    channel, _ = kit.channel(ca="", ca_file="/ca.pem")
    pump(poller, lambda: channel.closed)
    assert "were not read" in kit.told[channel].events[0][1]


# Pools.


class Asking(Recorder):
    """A request for a Host."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def server_name(self) -> str:
        return self.name


@pytest.fixture
def pool(poller: Poller) -> Iterator[Pool]:
    """A pool for a port on which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Pool(poller, "127.0.0.1", listener.getsockname()[1], 2)


def test_channel_is_used_again_for_its_name_alone(pool: Pool, kit: Kit) -> None:
    """The server has shown a certificate for it, and for no other."""
    pool.set_tls(kit.terms(server_name="").tls, kit.contexts)
    a, b = Asking("a.example"), Asking("b.example")
    one = pool.acquire(a, False, False)
    assert isinstance(one, ServerChannel)
    one.connecting = False
    pool.release(one)
    two = pool.acquire(b, False, False)
    assert two is not one
    assert pool.acquire(a, False, False) is one
    # Without a Host, it is the server's own.
    third = pool.acquire(Asking(""), False, False)
    assert third is not None
    assert third.name == "127.0.0.1"


def test_name_of_the_configuration_is_for_all_requests(pool: Pool, kit: Kit) -> None:
    """So any idle channel will do."""
    pool.set_tls(kit.terms().tls, kit.contexts)
    one = pool.acquire(Asking("x"), False, False)
    assert one is not None
    assert one.name == "a.example"
    one.connecting = False  # type: ignore[unreachable]
    pool.release(one)
    assert pool.acquire(Asking("y"), False, False) is one


def test_oldest_channel_makes_room_for_another_name(pool: Pool, kit: Kit) -> None:
    """Else names that nobody asks for any more would keep all others out."""
    pool.set_tls(kit.terms(server_name="").tls, kit.contexts)
    made: list[Any] = [pool.acquire(Asking(name), False, False) for name in "abc"]
    for channel in made:
        channel.connecting = False
        pool.release(channel)
    assert [channel.closed for channel in made] == [True, False, False]


@pytest.mark.parametrize("after", [None, {"ca": "other"}, {"server_name": "b"}])
def test_other_settings_end_what_there_is(pool: Pool, kit: Kit, after: Any) -> None:
    """Idle channels now, and busy ones once they are released; the same settings end nothing."""
    first = kit.terms().tls
    pool.set_tls(first, kit.contexts)
    idle: Any = pool.acquire(Asking("x"), True, False)
    busy: Any = pool.acquire(Asking("x"), True, False)
    idle.connecting = busy.connecting = False
    pool.release(idle)
    pool.set_tls(kit.terms().tls, kit.contexts)
    assert not idle.closed
    pool.set_tls(None if after is None else kit.terms(**after).tls, kit.contexts)
    assert idle.closed
    assert not busy.closed
    pool.release(busy)
    assert busy.closed


def test_proxy_header_comes_before_the_handshake(kit: Kit, poller: Poller) -> None:
    """In the clear, as the server expects it."""
    channel, far = kit.channel()
    channel.introduced = b"PROXY UNKNOWN\r\n"
    pump(poller, lambda: channel._ssl is not None)
    step(poller)
    far.settimeout(5)
    data = far.recv(100_000)
    assert data.startswith(b"PROXY UNKNOWN\r\n\x16\x03")
