"""Channels of clients that speak TLS: handshakes, bytes both ways, and every kind of end."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slardar.dataplane import poller as poller_module
from slardar.dataplane.channel import READ_SIZE, SMALL, Channel
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import Poller
from slardar.dataplane.sealed_channel import SHAKING, engine_of, reason_of
from slardar.dataplane.system import connected_socket
from slardar.dataplane.tls_channel import TlsChannel
from slardar.dataplane.tls_contexts import TlsContexts
from slardar.http1.tls import subject_of
from slardar.model.listener import HTTPS, ListenerSpec
from slardar.model.tls import ClientPolicy, Keyring, Pair, TicketKeys
from tests.certificates import Authority
from tests.dataplane.kit import Recorder, logged, pump, step
from tests.integration.hostile_tls import DATA, TLS13, Client

LISTENER = ListenerSpec("tls:1", "tls:1", HTTPS, tls=True)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """The pair of a.example."""
    cert, key = (path.read_text() for path in authority.issue("a", ("a.example",)))
    return Pair("a.pem", cert, key, ("a.example",), "ec", 0)


class Far:
    """The client at the other end of a channel."""

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        context: ssl.SSLContext,
        name: str | None,
        session: Any = None,
    ) -> None:
        self.poller, self.sock = poller, sock
        sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_hostname=name, session=session
        )
        self.data = bytearray()
        #: What came last, as it came.
        self.raw = b""
        #: What ended: ``said`` by TLS, ``closed`` without a word, or an error.
        self.end: Any = None

    def send_raw(self) -> None:
        """Send all that OpenSSL has to send."""
        data = memoryview(self.outgoing.read())
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                step(self.poller)

    def read_raw(self) -> None:
        """Give OpenSSL what came."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError as error:
            self.end = self.end or error
            return
        if data:
            self.raw = data
            self.incoming.write(data)
        elif self.end is None:
            self.end = "closed"

    def shake(self) -> Far:
        """Complete the handshake."""

        def done() -> bool:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send_raw()
                self.read_raw()
                return self.end is not None
            self.send_raw()
            return True

        pump(self.poller, done)
        return self

    def send(self, data: bytes) -> None:
        """Send bytes inside of TLS."""
        self.tls.write(data)
        self.send_raw()

    def say_end(self) -> None:
        """Say that no more will come."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.send_raw()

    def read(self) -> None:
        """Read what there is."""
        self.read_raw()
        try:
            while True:
                data = self.tls.read(1 << 20)
                if not data:
                    self.end = "said"
                    return
                self.data += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.end = "said"
        except ssl.SSLError as error:
            self.end = error

    def until(self, what: Callable[[], Any]) -> None:
        """Read until ``what()`` is true."""

        def looked() -> Any:
            self.read()
            return what()

        pump(self.poller, looked)


Connect = Callable[..., tuple[TlsChannel, Far, Any]]


@pytest.fixture
def secure(poller: Poller, pair: Pair, authority: Authority) -> Iterator[Connect]:
    """Makes a channel, its client and its protocol; the client has shaken hands unless
    ``shake`` is false."""
    fars = []

    def make(
        protocol: Any = None,
        shake: bool = True,
        name: str | None = "a.example",
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        policy: ClientPolicy | None = None,
        identity: tuple[Path, Path] | None = None,
        protocols: tuple[str, ...] = (),
        default: str = "",
        challenges: dict[str, Pair] | None = None,
        contexts: TlsContexts | None = None,
        client: ssl.SSLContext | None = None,
        session: Any = None,
    ) -> tuple[TlsChannel, Far, Any]:
        contexts = TlsContexts() if contexts is None else contexts
        contexts.take(Keyring((pair,), default, policies=(policy or ClientPolicy(),)))
        contexts.take_challenges(challenges or {})
        near, far = socket.socketpair()
        fars.append(far)
        near.setblocking(False)
        client = client or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = name is not None
        client.load_verify_locations(authority.file)
        client.minimum_version = client.maximum_version = version
        if identity:
            client.load_cert_chain(*identity)
        if protocols:
            client.set_alpn_protocols(list(protocols))
        protocol = protocol or Recorder()
        channel = TlsChannel(poller, connected_socket(near), protocol, contexts, LISTENER)
        made = Far(poller, far, client, name, session)
        if shake:
            made.shake()
            pump(poller, lambda: channel.tls is not None or channel.closed)
        return channel, made, protocol

    yield make
    for far in fars:
        far.close()


# Handshakes.


@pytest.mark.parametrize("version", VERSIONS)
def test_ticket_outlives_the_keys_of_its_time(
    secure: Connect, poller: Poller, version: ssl.TLSVersion
) -> None:
    """For as long as they are the former ones.  What is sealed meanwhile is sealed with the new
    ones, so a client that comes often keeps a session."""
    contexts, client = TlsContexts(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def connect(session: Any = None) -> tuple[bool | None, Any]:
        channel, far, _ = secure(contexts=contexts, client=client, version=version, session=session)
        channel.write(b"x")
        far.until(lambda: far.data)
        return far.tls.session_reused, far.tls.session

    contexts.take_tickets(TicketKeys(b"second", b"first"))
    session = connect()[1]
    for _ in range(2):
        assert connect(session)[0]
    contexts.take_tickets(TicketKeys(b"third", b"second"))
    for _ in range(2):
        reused, newer = connect(session)
        assert reused
    contexts.take_tickets(TicketKeys(b"fourth", b"third"))
    assert not connect(session)[0]
    # A client of TLS 1.2 keeps the ticket that it has.
    assert connect(newer)[0] is (version == ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_go_both_ways(secure: Connect, poller: Poller, version: ssl.TLSVersion) -> None:
    """The protocol sees none of TLS."""
    channel, far, protocol = secure(version=version, protocols=("h2", "http/1.1"))
    assert far.tls.selected_alpn_protocol() == "http/1.1"
    assert far.tls.version() == version.name.replace("_", ".")
    assert channel.tls is not None
    assert (channel.tls.version, channel.tls.name) == (far.tls.version(), "a.example")
    assert channel.tls.subject == b""
    far.send(b"hello")
    pump(poller, lambda: protocol.data == b"hello")
    channel.write(b"good ")
    channel.write_both(b"evening", b"!")
    far.until(lambda: far.data == b"good evening!")
    assert protocol.events == []


@pytest.mark.parametrize("version", VERSIONS)
def test_handshake_in_single_bytes(
    secure: Connect, poller: Poller, version: ssl.TLSVersion
) -> None:
    """With the first request right behind it."""
    _channel, far, protocol = secure(shake=False, version=version)

    def dribble() -> None:
        for byte in far.outgoing.read():
            far.sock.send(bytes((byte,)))
            step(poller)
            step(poller)

    def shaken() -> bool:
        try:
            far.tls.do_handshake()
        except ssl.SSLWantReadError:
            dribble()
            far.read_raw()
            return False
        return True

    pump(poller, shaken)
    far.tls.write(b"request")
    dribble()
    pump(poller, lambda: protocol.data == b"request")


def test_request_that_comes_with_the_end_of_the_handshake(secure: Connect, poller: Poller) -> None:
    """In one segment."""
    _, far, protocol = secure(shake=False)

    def shaken() -> bool:
        try:
            far.tls.do_handshake()
        except ssl.SSLWantReadError:
            far.send_raw()
            far.read_raw()
            return False
        return True

    pump(poller, shaken)
    far.send(b"request")
    pump(poller, lambda: protocol.data == b"request")


def alert_of(far: Far) -> str:
    """The alert that the client got."""
    errors: list[ssl.SSLError] = []

    def refused() -> bool:
        try:
            far.tls.do_handshake()
        except ssl.SSLWantReadError:
            far.send_raw()
            far.read_raw()
        except ssl.SSLError as error:
            errors.append(error)
        return bool(errors)

    pump(far.poller, refused)
    return errors[0].reason or ""


@pytest.mark.parametrize(
    ("words", "alert", "reason"),
    [
        ({"name": "b.example"}, 112, "no certificate is for 'b.example'"),
        ({"name": None}, 112, "it names no server"),
        ({"protocols": ("h2",)}, 120, "speaks no HTTP/1.1"),
        ({"protocols": ("acme-tls/1",)}, 120, "no CA is expected to ask for 'a.example'"),
    ],
)
def test_refused_handshake(secure: Connect, words: dict[str, Any], alert: int, reason: str) -> None:
    """The client learns why, and the log does."""
    with logged() as events:
        channel, far, protocol = secure(shake=False, **words)
        alert_of(far)
    assert far.raw == b"\x15\x03\x03\x00\x02\x02" + bytes((alert,))
    assert channel.closed
    assert protocol.was_lost
    assert any(reason in str(event.get("reason")) for event in events)


def test_client_without_a_name_gets_the_default(secure: Connect) -> None:
    """If there is one."""
    channel, _, _ = secure(name=None, default="a.example")
    assert channel.tls is not None


def test_client_whose_version_is_too_old(secure: Connect) -> None:
    """OpenSSL says so itself."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        channel, far, _protocol = secure(shake=False, version=ssl.TLSVersion.TLSv1_1)
        far.tls.context.set_ciphers("ALL:@SECLEVEL=0")
    assert "VERSION" in alert_of(far) or channel.closed


def test_garbage_is_closed(secure: Connect, poller: Poller) -> None:
    """With an alert, for what it is worth."""
    channel, far, protocol = secure(shake=False)
    far.sock.send(b"\x00\x01\x02")
    pump(poller, lambda: channel.closed)
    assert far.sock.recv(100) == b"\x15\x03\x03\x00\x02\x02\x0a"
    assert protocol.was_lost


def test_end_within_the_handshake(secure: Connect, poller: Poller) -> None:
    """It is told as every end is."""
    _channel, far, protocol = secure(shake=False)
    far.sock.send(b"\x16\x03")
    step(poller)
    far.sock.shutdown(socket.SHUT_WR)
    pump(poller, lambda: "ended" in protocol.events)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03", None])
def test_handshake_that_is_not_complete_in_time(
    secure: Connect, poller: Poller, sent: bytes | None
) -> None:
    """The log tells of it, unless the client has not begun."""
    channel, far, protocol = secure(shake=False)
    if sent is None:
        with pytest.raises(ssl.SSLWantReadError):
            far.tls.do_handshake()
        far.send_raw()
        pump(poller, lambda: channel._state == SHAKING and not channel.arriving)
    elif sent:
        far.sock.send(sent)
        step(poller)
    with logged() as events:
        channel.late()
    assert "late" in protocol.events
    told = [event.get("reason") for event in events]
    assert told == ([] if sent == b"" else ["it was not complete in time"])


# CAs that ask by TLS-ALPN-01.


@pytest.mark.parametrize("version", VERSIONS)
def test_ca_sees_its_certificate_and_nothing_else(
    secure: Connect, poller: Poller, authority: Authority, version: ssl.TLSVersion
) -> None:
    """The connection ends behind the handshake, no certificate is asked for, and the name may
    have no other one."""
    cert, key = (path.read_text() for path in authority.issue("c", ("c.example",)))
    challenges = {"c.example": Pair("acme", cert, key, ("c.example",), "ec", 0)}
    policy = ClientPolicy("require", authority.file.read_text())
    with logged() as events:
        channel, far, protocol = secure(
            name="c.example",
            version=version,
            protocols=("acme-tls/1",),
            policy=policy,
            challenges=challenges,
        )
        assert far.tls.selected_alpn_protocol() == "acme-tls/1"
        assert far.tls.getpeercert(True) == ssl.PEM_cert_to_DER_cert(cert)
        far.until(lambda: far.end is not None)
    assert far.end == "said"
    assert channel.closed
    assert channel.tls is None
    assert protocol.data == b""
    assert not any("handshake" in str(event.get("log_format")) for event in events)


@pytest.mark.parametrize("protocols", [("acme-tls/1", "http/1.1"), ("http/1.1",), ()])
def test_clients_never_see_the_certificate_for_a_ca(
    secure: Connect, authority: Authority, pair: Pair, protocols: tuple[str, ...]
) -> None:
    """Only a hello that offers nothing else is that of a CA (RFC 8737 3)."""
    cert, key = (path.read_text() for path in authority.issue("d", ("a.example",)))
    challenges = {"a.example": Pair("acme", cert, key, ("a.example",), "ec", 0)}
    _, far, _ = secure(protocols=protocols, challenges=challenges)
    assert far.tls.getpeercert(True) == ssl.PEM_cert_to_DER_cert(pair.cert)


# Certificates of clients.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("verify", "shows", "subject"),
    [
        ("none", True, b""),
        ("optional", False, b""),
        ("optional", True, b"CN=alice"),
        ("require", True, b"CN=alice"),
        ("require", False, None),
    ],
)
def test_client_certificate(
    secure: Connect,
    authority: Authority,
    poller: Poller,
    version: ssl.TLSVersion,
    verify: Any,
    shows: bool,
    subject: bytes | None,
) -> None:
    """A client that needs one and has none gets nowhere."""
    identity = authority.issue("alice", ("alice",)) if shows else None
    policy = ClientPolicy(verify, authority.file.read_text())
    if subject is None:
        # In TLS 1.3 the client is done before the server has seen that there is none.
        channel, far, protocol = secure(shake=False, version=version, policy=policy)
        far_error: list[Any] = []

        def refused() -> bool:
            try:
                far.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                far_error.append(error)
            far.send_raw()
            far.read_raw()
            return channel.closed

        pump(poller, refused)
        assert channel.tls is None
        assert protocol.was_lost
        return
    channel, _, _ = secure(version=version, policy=policy, identity=identity)
    assert channel.tls is not None
    assert channel.tls.subject == subject
    assert channel.tls.policy == policy


@pytest.mark.parametrize("version", VERSIONS)
def test_certificate_that_has_expired_since(
    secure: Connect,
    authority: Authority,
    poller: Poller,
    version: ssl.TLSVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session outlives it, but lets nobody in any more."""
    policy = ClientPolicy("require", authority.file.read_text())
    contexts, client = TlsContexts(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_cert_chain(*authority.issue("alice", ("alice",)))

    def connect(session: Any = None, shake: bool = True) -> tuple[TlsChannel, Far]:
        channel, far, _ = secure(
            contexts=contexts,
            client=client,
            version=version,
            policy=policy,
            session=session,
            shake=shake,
        )
        return channel, far

    channel, far = connect()
    channel.write(b"x")
    far.until(lambda: far.data)
    session = far.tls.session
    channel, far = connect(session)
    assert far.tls.session_reused
    assert channel.tls is not None
    assert channel.tls.subject == b"CN=alice"
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    channel, far = connect(session, False)
    with logged() as events:
        far.shake()
        pump(poller, lambda: channel.closed or channel.tls)
    assert channel.tls is None
    reason = "the client's certificate: certificate has expired"
    assert [event.get("reason") for event in events] == [reason]


def test_certificate_of_a_stranger(secure: Connect, tmp_path: Path, authority: Authority) -> None:
    """It is refused even where none is needed."""
    identity = Authority(tmp_path, "stranger").issue("mallory", ("mallory",))
    policy = ClientPolicy("optional", authority.file.read_text())
    channel, far, _protocol = secure(
        shake=False, policy=policy, identity=identity, version=VERSIONS[0]
    )
    assert alert_of(far) == "TLSV1_ALERT_UNKNOWN_CA"
    assert channel.tls is None
    assert channel.closed


def test_certificate_whose_names_are_no_text(
    secure: Connect, poller: Poller, authority: Authority
) -> None:
    """Its CA has signed it, but nobody could tell whose it is."""
    identity = authority.issue("odd", ("odd",), raw_names=b"\x30\x07\x82\x05a\xff\xfe.b")
    policy = ClientPolicy("optional", authority.file.read_text())
    channel, far, _ = secure(shake=False, policy=policy, identity=identity)
    with logged() as events:

        def refused() -> bool:
            try:
                far.tls.do_handshake()
            except (ssl.SSLError, OSError):
                pass
            far.send_raw()
            far.read_raw()
            return channel.closed

        pump(poller, refused)
    assert channel.tls is None
    assert [event.get("reason") for event in events] == ["the client's certificate cannot be read"]


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ((), b""),
        (((("commonName", "a"),),), b"CN=a"),
        (((("countryName", "DE"),), (("commonName", "a"),)), b"CN=a,C=DE"),
        (((("commonName", "a"), ("1.2.3", "b")),), b"CN=a+1.2.3=b"),
        (((("commonName", "a, b=\r\nX: y"),),), rb"CN=a\, b\=\0D\0AX: y"),
        (((("commonName", " \u00e9 "),),), rb"CN=\ \C3\A9\ "),
        (((("commonName", "#x"),),), rb"CN=\#x"),
    ],
)
def test_subject_as_a_header(subject: Any, text: bytes) -> None:
    """Nobody can forge a line, or another part of the subject."""
    assert subject_of({"subject": subject}) == text


# Bytes.


class Pouring(Recorder):
    """Writes while there is room, and counts."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.left = size
        self.most = 0

    def pour(self, channel: Any) -> None:
        """Write until the channel is congested."""
        while self.left and not channel.congested:
            piece = b"x" * min(self.left, 50_000)
            self.left -= len(piece)
            channel.write(piece)
            self.most = max(self.most, channel.held)

    def drained(self, channel: Any) -> None:
        self.pour(channel)


def test_slow_reader_makes_the_writer_wait(secure: Connect, poller: Poller) -> None:
    """What is kept for it is bounded, and all of it arrives."""
    protocol = Pouring(10_000_000)
    channel, far, _ = secure(protocol)
    protocol.pour(channel)
    assert channel.congested
    far.until(lambda: len(far.data) == 10_000_000)
    assert protocol.most < 200_000
    assert not channel.unsent


def test_pause_makes_the_client_wait(secure: Connect, poller: Poller) -> None:
    """No more than one read is told behind it."""
    channel, far, protocol = secure()
    channel.pause()
    size = 0
    try:
        while True:
            size += far.tls.write(b"y" * 10_000)
            far.sock.send(far.outgoing.read())
    except BlockingIOError:
        pass
    for _ in range(5):
        step(poller)
    assert protocol.data == b""
    channel.resume()
    pump(poller, lambda: len(protocol.data) > size - 40_000)


@pytest.mark.parametrize("mode", ["", "bulk", "eager"])
def test_large_bytes_arrive_whole(secure: Connect, poller: Poller, mode: str) -> None:
    """However the protocol wants to read."""
    channel, far, protocol = secure()
    if mode:
        setattr(channel, mode, True)
    data = bytes(range(256)) * 4000
    far.send(data)
    pump(poller, lambda: len(protocol.data) == len(data))
    assert protocol.data == data


def test_body_is_relayed_from_a_plain_channel(secure: Connect, poller: Poller) -> None:
    """Through TLS, and not past it."""
    channel, far, _ = secure()
    near, server = socket.socketpair()
    near.setblocking(False)

    class Told(Recorder):
        moved = 0

        def relayed(self, channel: Any, size: int) -> None:
            self.moved += size

    told = Told()
    origin = PlainChannel(poller, connected_socket(near), told)
    channel.write_soon(b"head ")
    assert origin.relay(channel, 300_000)
    server.setblocking(False)
    left = memoryview(b"z" * 300_000)

    def sent() -> bool:
        nonlocal left
        try:
            left = left[server.send(left) :]
        except BlockingIOError:
            pass
        far.read()
        return len(far.data) == 300_005

    pump(poller, sent)
    assert far.data == b"head " + b"z" * 300_000
    assert told.moved == 300_000
    origin.close()
    server.close()


# Ends.


@pytest.mark.parametrize("version", VERSIONS)
def test_client_that_ends_its_side_gets_its_reply(
    secure: Connect, poller: Poller, version: ssl.TLSVersion
) -> None:
    """What it sent before is told first."""
    channel, far, protocol = secure(version=version)
    far.tls.write(b"request")
    far.say_end()
    pump(poller, lambda: "ended" in protocol.events)
    assert protocol.data == b"request"
    channel.write(b"reply")
    channel.finish_writing()
    # OpenSSL reads nothing any more for who has said the end; the bytes are there all the same.
    far.until(lambda: far.data == b"reply" and far.end == "said")


def test_end_without_a_word(secure: Connect, poller: Poller) -> None:
    """The end of the connection is an end, too; replies still go out."""
    channel, far, protocol = secure()
    far.send(b"request")
    far.sock.shutdown(socket.SHUT_WR)
    pump(poller, lambda: "ended" in protocol.events)
    assert protocol.data == b"request"
    channel.write(b"reply")
    far.until(lambda: far.data == b"reply")


def test_our_end_is_said(secure: Connect, poller: Poller) -> None:
    """Behind the last byte, and the client may go on."""
    channel, far, protocol = secure()
    channel.write(b"x" * 500_000)
    channel.finish_writing()
    far.until(lambda: far.end == "said")
    assert len(far.data) == 500_000
    far.send(b"more")
    pump(poller, lambda: protocol.data == b"more")


def test_close_when_flushed_says_the_end(secure: Connect, poller: Poller) -> None:
    """So that the client knows that nothing is missing."""
    channel, far, _protocol = secure()
    channel.write_soon(b"reply")
    channel.close_when_flushed()
    far.until(lambda: far.end == "said")
    assert far.data == b"reply"


def test_close_in_the_middle_is_not_said(secure: Connect, poller: Poller) -> None:
    """A client must not take what it has for the whole."""
    channel, far, _protocol = secure()
    channel.write(b"x" * 1_000_000)
    channel.close()
    far.until(lambda: far.end is not None)
    assert far.end != "said"


@pytest.mark.parametrize("sizes", [(3, 5), (16384, 3), (3, 16384, 5), (16384, 16384, 16384)])
def test_records_that_come_with_a_part_of_another(
    secure: Connect, poller: Poller, sizes: tuple[int, ...]
) -> None:
    """What is complete is told at once and in order, whatever comes behind it."""
    _, far, protocol = secure()
    texts = [bytes((97 + at,)) * size for at, size in enumerate(sizes)]
    records = []
    for text in texts:
        far.tls.write(text)
        records.append(far.outgoing.read())
    *complete, last = records
    far.sock.send(b"".join(complete) + last[:-1])
    pump(poller, lambda: protocol.data == b"".join(texts[:-1]))
    far.sock.send(last[-1:])
    pump(poller, lambda: protocol.data == b"".join(texts))


def test_what_ssl_passes_its_calls_to(secure: Connect, poller: Poller) -> None:
    """Where it is not to be had, Python's own object does the same."""
    channel, far, protocol = secure()
    engine = engine_of(channel._ssl)
    assert engine is not channel._ssl, "this Python's ssl has it"
    assert engine_of(far) is far
    for one in (engine, channel._ssl):
        channel._engine = one
        far.send(b"x" * 20000)
        pump(poller, lambda: len(protocol.data) == 20000)
        assert channel.write(b"y" * 20000)
        far.until(lambda: len(far.data) == 20000)
        protocol.data, far.data = b"", bytearray()
        assert (one.version(), one.pending()) == ("TLSv1.3", 0)


def test_record_that_was_changed_on_its_way(secure: Connect, poller: Poller) -> None:
    """Nothing of it is told, and the connection ends with an alert."""
    channel, far, protocol = secure()
    far.tls.write(b"request")
    data = bytearray(far.outgoing.read())
    data[-1] ^= 1
    far.sock.send(data)
    pump(poller, lambda: channel.closed)
    assert protocol.data == b""
    (event,) = protocol.events
    assert event[0] == "lost"
    assert event[1].startswith("TLS: ")


@pytest.mark.parametrize(
    "record", [b"\x17\x03\x03\xff\xff", b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"]
)
def test_records_out_of_place(secure: Connect, poller: Poller, record: bytes) -> None:
    """Records that are too long, or in the clear."""
    channel, far, protocol = secure()
    far.sock.send(record)
    pump(poller, lambda: channel.closed)
    assert protocol.was_lost


def test_write_after_a_failure_sends_nothing_in_the_clear(secure: Connect, poller: Poller) -> None:
    """Nor while a handshake is under way."""
    channel, far, _protocol = secure(shake=False)
    assert channel.write(b"secret") is False
    channel.write_soon(b"secret")
    channel.write_both(b"secret", b"secret")
    step(poller)
    with pytest.raises(BlockingIOError):
        far.sock.recv(100)


@pytest.mark.parametrize(
    ("reason", "text"), [("BAD_RECORD_TYPE", "bad record type"), (None, "internal error")]
)
def test_reason_of_an_error_of_openssl(reason: str | None, text: str) -> None:
    """Also of one that has none, as after a record that is too short to be sealed."""
    error: Any = ssl.SSLError(1, "internal error")
    error.reason = reason
    assert reason_of(error) == text


# Floods.


class Odd:
    """A client that can send any record, at the other end of a channel."""

    def __init__(self, poller: Poller, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.poller, self.sock = poller, sock
        self.tls = Client(sock)
        self.tls.use(TLS13)
        for _ in self.tls.handshakeClientCert(
            serverName="a.example", settings=self.tls.settings, async_=True
        ):
            step(poller)

    def send(self, data: bytes) -> None:
        """Send all of it, or as much as is taken before the end."""
        left = memoryview(data)
        while left:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                step(self.poller)
            except OSError:
                return


@pytest.fixture
def odd(secure: Connect, poller: Poller) -> tuple[TlsChannel, Odd, Any]:
    """A channel, a client that has shaken hands and the channel's protocol."""
    channel, far, protocol = secure(shake=False)
    channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return channel, Odd(poller, far.sock), protocol


def test_flood_without_data(odd: Any, poller: Poller) -> None:
    """The client is told to go after little of it, and little of it is handled at once."""
    channel, client, protocol = odd
    client.send(client.tls.sealed(DATA, b"request"))
    pump(poller, lambda: protocol.data == b"request")
    client.send(client.tls.many_updates(800, 0))
    pump(poller, lambda: channel.closed)
    assert protocol.events == [("lost", "TLS: too much without data")]


def test_long_record_that_comes_slowly(odd: Any, poller: Poller) -> None:
    """It is no flood, however many pieces come before its data can be read."""
    channel, client, protocol = odd
    for size in (16384, 1, 16384):
        record = client.tls.sealed(DATA, b"x" * size)
        before = len(protocol.data)
        for at in range(0, len(record), 100):
            client.send(record[at : at + 100])
            step(poller)
        pump(poller, lambda end=before + size: len(protocol.data) == end)
    assert not channel.closed


def test_flood_of_questions_whose_answers_nobody_reads(odd: Any, poller: Poller) -> None:
    """Also where data come between them, what is kept for the client is bounded."""
    channel, client, _protocol = odd
    most = 0
    for _ in range(20):
        client.send(client.tls.many_updates(400, 1) + client.tls.sealed(DATA, b"x"))
        for _ in range(5):
            step(poller)
        most = max(most, channel.held)
        if channel.closed:
            break
    assert channel.closed
    assert most < 50_000


def test_many_small_records(odd: Any, poller: Poller) -> None:
    """A client that sends much in records of one byte is served, in small bites."""
    channel, client, protocol = odd
    flood = client.tls.sealed(DATA, *[b"x"] * 3000)
    channel._room = READ_SIZE
    client.send(flood)
    pump(poller, lambda: len(protocol.data) == 3000)
    assert channel._room == SMALL
    client.send(client.tls.sealed(DATA, *[b"y" * 16384] * 8))
    pump(poller, lambda: len(protocol.data) == 3000 + 8 * 16384)
    assert channel._room == SMALL


# Turns.


def test_flood_of_handshakes_leaves_time_for_others(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take no more than their share of a turn of the poller, and at least one goes on."""
    now = [1000.0]
    monkeypatch.setattr(poller_module.time, "monotonic", lambda: now[0])
    taken: list[int] = []

    def work(number: int) -> None:
        taken.append(number)
        now[0] += 0.0011

    pairs = [socket.socketpair() for _ in range(20)]
    for number, (near, _) in enumerate(pairs):
        poller.turns.append(_Turn(poller, near, partial(work, number)))
    poller.doRead()
    assert len(taken) == 3
    # The requests of a turn may have taken all of it.
    poller.turn = 1e-6
    poller.doRead()
    assert len(taken) == 4
    poller.turn = 0.01
    while poller.turns:
        poller.doRead()
    assert taken == list(range(20))
    for _, far in pairs:
        far.close()


class _Turn(Channel):
    """A channel with work that takes a while."""

    def __init__(self, poller: Poller, sock: socket.socket, work: Callable[[], None]) -> None:
        super().__init__(poller, sock, Recorder())
        self._work = work

    def take_turn(self) -> None:
        self._work()


def test_client_that_floods_its_handshake_waits(secure: Connect, poller: Poller) -> None:
    """What comes before its turn stays in the kernel."""
    channel, far, _ = secure(shake=False)
    far.sock.send(b"\x16\x03\x01\x02\x00")
    channel.readable()
    far.sock.send(b"\x01")
    channel.readable()
    assert list(poller.turns) == [channel]
    step(poller)
    assert not poller.turns
    # It may go on.
    pump(poller, lambda: poller.turns or channel._reader.raw[-1:] == b"\x01")
