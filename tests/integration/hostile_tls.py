"""Hostile and odd clients of TLS: what each does, and what becomes of it.

A client that is ``served`` gets a reply to a request on its connection in the end.  One that
is ``refused`` gets one of some alerts, or ``CLOSED``, the end of its connection without one.
The numbers of alerts are those of RFC 8446 6.

tlslite-ng is the client.  It is written in Python, so that every message and record can be
changed on its way.  The file is long because it is one table, with a function for each line.
"""

# ruff: noqa: E501 - a table is easier to read with one case a line

from __future__ import annotations

import os
import socket
import struct
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports what Python 3.12 has no longer
    from tlslite.api import HandshakeSettings, TLSConnection
    from tlslite.errors import TLSAbruptCloseError, TLSRemoteAlert
    from tlslite.extensions import KeyShareEntry, TLSExtension
    from tlslite.messages import ClientHello, Finished, Message

__all__ = ["CASES", "CLOSED", "NAME", "Case", "Client"]

NAME = "a.example"
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
TLS12, TLS13 = (3, 3), (3, 4)
#: The connection ends without an alert.
CLOSED = -1

CLOSE_NOTIFY = 0
UNEXPECTED_MESSAGE = 10
BAD_RECORD_MAC = 20
RECORD_OVERFLOW = 22
HANDSHAKE_FAILURE = 40
ILLEGAL_PARAMETER = 47
DECODE_ERROR = 50
DECRYPT_ERROR = 51
PROTOCOL_VERSION = 70
INTERNAL_ERROR = 80
INAPPROPRIATE_FALLBACK = 86
UNRECOGNIZED_NAME = 112
NO_APPLICATION_PROTOCOL = 120

ALERT, HANDSHAKE, DATA = 21, 22, 23

Change = Callable[[Any], None]


class Client(TLSConnection):
    """A connection before its handshake."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__(raw)
        self.raw = raw
        self.settings = HandshakeSettings()
        self.settings.keyShares = ["x25519"]
        self.settings.minVersion = TLS12
        self.settings.eccCurves = ["x25519", "secp256r1", "secp384r1"]
        #: Changes the first message of one kind.
        self.changes: dict[type, Change] = {}
        #: Bytes that go out behind the hello.
        self.behind = b""

    def use(self, version: tuple[int, int]) -> None:
        """Speak no other version."""
        self.settings.minVersion = self.settings.maxVersion = version
        self.settings.versions = [version]

    def _sendMsg(self, msg: Any, *args: Any, **words: Any) -> Iterator[Any]:
        change = self.changes.pop(type(msg), None)
        if change is not None:
            change(msg)
        yield from super()._sendMsg(msg, *args, **words)
        if isinstance(msg, ClientHello) and self.behind:
            behind, self.behind = self.behind, b""
            self.sock.flush()
            self.send_raw(behind)

    def shake(self, change: Change | None = None, name: str | None = NAME) -> Client:
        """Shake hands, with a hello that ``change`` has changed."""
        if change is not None:
            self.changes[ClientHello] = change
        self.handshakeClientCert(serverName=name, settings=self.settings)
        self.recordSize = 16384
        return self

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.raw.sendall(data)

    def send_record(self, kind: int, data: bytes) -> None:
        """Send a record, sealed if the connection is by now."""
        for _ in self._recordLayer.sendRecord(Message(kind, bytearray(data))):
            pass

    def sealed(self, kind: int, *contents: bytes) -> bytes:
        """Records that are not sent."""
        wire, kept = self._recordLayer._recordSocket, bytearray()
        before = wire.sock
        wire.sock = _Kept(kept)
        try:
            for content in contents:
                self.send_record(kind, content)
        finally:
            wire.sock = before
        return bytes(kept)

    def update_keys(self, asked: int = 0) -> None:
        """Change our keys, and perhaps ask for other ones of the server."""
        for _ in self.send_keyupdate_request(asked):
            pass

    def many_updates(self, count: int, asked: int) -> bytes:
        """Records that change our keys many times."""
        wire, kept = self._recordLayer._recordSocket, bytearray()
        before = wire.sock
        wire.sock = _Kept(kept)
        try:
            for _ in range(count):
                self.update_keys(asked)
        finally:
            wire.sock = before
        return bytes(kept)

    def ask(self) -> bytes:
        """Get a reply to a request."""
        self.write(REQUEST)
        return self.reply()

    def reply(self) -> bytes:
        """The head of a reply."""
        data = bytearray()
        while b"\r\n\r\n" not in data:
            more = self.read(min=1)
            assert more, bytes(data)
            data += more
        return bytes(data)

    def end(self) -> int:
        """How the connection ends: an alert, or ``CLOSED``."""
        try:
            while self.read(min=1):
                pass
            return CLOSE_NOTIFY
        except TLSRemoteAlert as alert:
            return int(alert.description)
        except (TLSAbruptCloseError, ConnectionError):
            return CLOSED

    def raw_end(self) -> int:
        """The same, where the client has sent bytes of its own: what comes is no concern of
        tlslite's."""
        data = b""
        try:
            while more := self.raw.recv(65536):
                data += more
        except ConnectionError:
            pass
        return data[6] if data[:1] == b"\x15" and data[5:6] == b"\x02" else CLOSED


class _Kept:
    """A socket that keeps what is sent."""

    def __init__(self, kept: bytearray) -> None:
        self._kept = kept

    def send(self, data: bytes) -> int:
        self._kept += data
        return len(data)


class Case(NamedTuple):
    """What a client does, and the ends that it may come to; none if it is served."""

    name: str
    run: Callable[[Client], None]
    ends: tuple[int, ...] = ()
    #: The client speaks no TLS of its own after this.
    raw: bool = False


CASES: list[Case] = []


def served(name: str) -> Callable[[Any], Any]:
    """The client is served after the function."""

    def keep(run: Any) -> Any:
        CASES.append(Case(name, run))
        return run

    return keep


def refused(name: str, *ends: int, raw: bool = False) -> Callable[[Any], Any]:
    """The client comes to one of these ends, by the function or after it."""

    def keep(run: Any) -> Any:
        CASES.append(Case(name, run, ends, raw))
        return run

    return keep


def _record(kind: int, data: bytes, size: int | None = None) -> bytes:
    return struct.pack("!BHH", kind, 0x0303, len(data) if size is None else size) + data


def _vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _extension(hello: Any, kind: int) -> Any:
    return next(one for one in hello.extensions if one.extType == kind)


def _add(kind: int, data: bytes) -> Change:
    """Adds an extension in front of the others."""

    def change(hello: Any) -> None:
        hello.extensions.insert(0, TLSExtension(extType=kind).create(bytearray(data)))

    return change


def _replace(kind: int, data: bytes) -> Change:
    """Writes an extension anew."""

    def change(hello: Any) -> None:
        hello.extensions = [one for one in hello.extensions if one.extType != kind]
        _add(kind, data)(hello)

    return change


def _padded(size: int) -> Change:
    """Fills the hello up to a number of bytes, its head of four bytes left out."""

    def change(hello: Any) -> None:
        hello.extensions = [one for one in hello.extensions if one.extType != 21]
        missing = size + 4 - len(hello.write()) - 4
        hello.extensions.append(TLSExtension(extType=21).create(bytearray(missing)))

    return change


# Hellos that are odd, and right.


for _size in (1, 2, 5, 100):

    def _split(client: Client, size: int = _size) -> None:
        client.recordSize = size
        client.shake()

    served(f"hello in records of {_size}")(_split)


for _size, _hello in ((16384, 16384), (1024, 16384), (64, 16384), (5, 8000)):

    def _long(client: Client, size: int = _size, hello: int = _hello) -> None:
        client.recordSize = size
        client.shake(_padded(hello))

    served(f"hello of {_hello} bytes in records of {_size}")(_long)


@served("TLS 1.2")
def _(client: Client) -> None:
    client.use(TLS12)
    client.shake()
    assert client.version == TLS12


@served("keys of quantum-safe groups that nobody knows, in front")
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        share = KeyShareEntry().create(0x6399, bytearray(os.urandom(1216)))
        _extension(hello, 51).client_shares.insert(0, share)
        _extension(hello, 10).groups.insert(0, 0x6399)

    client.shake(change)
    assert client.version == TLS13


@served("keys of quantum-safe groups that nobody knows, alone")
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        share = KeyShareEntry().create(0x6399, bytearray(os.urandom(1216)))
        _extension(hello, 51).client_shares = [share]
        _extension(hello, 10).groups.insert(0, 0x6399)

    client.shake(change)
    assert client.version == TLS13


@served("no key that the server knows: HelloRetryRequest")
def _(client: Client) -> None:
    client.settings.keyShares = []
    client.shake()
    assert client.version == TLS13


@served("HelloRetryRequest, with hellos in small records")
def _(client: Client) -> None:
    client.settings.keyShares = []
    client.recordSize = 16
    client.shake()


@served("GREASE everywhere (RFC 8701)")
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        hello.cipher_suites.insert(0, 0x0A0A)
        _extension(hello, 10).groups.insert(0, 0x1A1A)
        _extension(hello, 43).versions.insert(0, (0x2A, 0x2A))
        _add(0x3A3A, b"")(hello)
        hello.extensions.append(TLSExtension(extType=0x4A4A).create(bytearray(1)))

    client.shake(change)


@served("a thousand protocols, http/1.1 the last")
def _(client: Client) -> None:
    names = b"".join(_vector(1, b"x%d" % number) for number in range(1000))
    client.shake(_replace(16, _vector(2, names + _vector(1, b"http/1.1"))))


@served("a name in capitals")
def _(client: Client) -> None:
    client.shake(name="A.EXAMPLE")


@served("authentication after the handshake offered")
def _(client: Client) -> None:
    client.shake(_add(49, b""))


@served("early data, which nobody reads")
def _(client: Client) -> None:
    client.behind = _record(DATA, os.urandom(300)) * 5
    client.shake(_add(42, b""))


@served("early data, and HelloRetryRequest")
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        _add(42, b"")(hello)
        client.changes[ClientHello] = again

    def again(hello: Any) -> None:
        hello.extensions = [one for one in hello.extensions if one.extType != 42]

    client.settings.keyShares = []
    client.behind = _record(DATA, os.urandom(300)) * 5
    client.shake(change)


@served("ChangeCipherSpec for middleboxes")
def _(client: Client) -> None:
    client.behind = b"\x14\x03\x03\x00\x01\x01"
    client.shake()


# Hellos that are refused.


@refused("hello of 16385 bytes", DECODE_ERROR)
def _(client: Client) -> None:
    client.shake(_padded(16385))


@refused("hello in far too many records", DECODE_ERROR)
def _(client: Client) -> None:
    client.recordSize = 2
    client.shake(_padded(16384))


@refused("no name", UNRECOGNIZED_NAME)
def _(client: Client) -> None:
    client.shake(name=None)


@refused("an address as name", UNRECOGNIZED_NAME)
def _(client: Client) -> None:
    client.shake(_replace(0, _vector(2, b"\0" + _vector(2, b"127.0.0.1"))))


for _name, _content, _end in (
    ("with a zero", _vector(2, b"\0" + _vector(2, b"a.example\0.b")), ILLEGAL_PARAMETER),
    ("with a blank", _vector(2, b"\0" + _vector(2, b"a.example b")), ILLEGAL_PARAMETER),
    ("with an end of line", _vector(2, b"\0" + _vector(2, b"a\r\nb")), ILLEGAL_PARAMETER),
    ("beyond ASCII", _vector(2, b"\0" + _vector(2, b"\xc3\xa4.example")), ILLEGAL_PARAMETER),
    ("of 256 bytes", _vector(2, b"\0" + _vector(2, b"a" * 256)), ILLEGAL_PARAMETER),
    ("of 10 KB", _vector(2, b"\0" + _vector(2, b"a" * 10_000)), ILLEGAL_PARAMETER),
    ("that is empty", _vector(2, b"\0" + _vector(2, b"")), DECODE_ERROR),
    ("of another kind", _vector(2, b"\1" + _vector(2, b"a.example")), DECODE_ERROR),
    ("and another", _vector(2, 2 * (b"\0" + _vector(2, b"a.example"))), DECODE_ERROR),
    ("beyond its end", _vector(2, b"\0" + (b"\xff\xff" + b"a.example")), DECODE_ERROR),
    ("in a list without any", _vector(2, b""), DECODE_ERROR),
    ("nowhere", b"", DECODE_ERROR),
):

    def _named(client: Client, content: bytes = _content) -> None:
        client.shake(_replace(0, content))

    refused(f"a name {_name}", _end)(_named)


for _name, _content, _end in (
    ("that HTTP/1.1 is not of", _vector(2, _vector(1, b"h2")), NO_APPLICATION_PROTOCOL),
    ("that are none", _vector(2, b""), DECODE_ERROR),
    ("with an empty one", _vector(2, _vector(1, b"")), DECODE_ERROR),
    ("beyond their end", _vector(2, b"\xffhttp/1.1"), DECODE_ERROR),
):

    def _protocols(client: Client, content: bytes = _content) -> None:
        client.shake(_replace(16, content))

    refused(f"protocols {_name}", _end)(_protocols)


for _kind in (0, 10, 16, 43, 51, 0x3A3A):

    def _twice(client: Client, kind: int = _kind) -> None:
        def change(hello: Any) -> None:
            if kind in (16, 0x3A3A):
                _add(kind, _vector(2, _vector(1, b"http/1.1")))(hello)
            hello.extensions.append(_extension(hello, kind))

        client.shake(change)

    refused(f"extension {_kind} twice", ILLEGAL_PARAMETER)(_twice)


for _version in ((3, 0), (3, 1), (3, 2)):

    def _old(client: Client, version: tuple[int, int] = _version) -> None:
        client.use(TLS12)

        def change(hello: Any) -> None:
            hello.client_version = version

        client.shake(change)

    refused(f"version {_version}", PROTOCOL_VERSION, HANDSHAKE_FAILURE)(_old)


@refused("a fallback to TLS 1.2 (RFC 7507)", INAPPROPRIATE_FALLBACK)
def _(client: Client) -> None:
    client.use(TLS12)
    client.settings.sendFallbackSCSV = True
    client.shake()


@refused("no suite that is known", HANDSHAKE_FAILURE)
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        hello.cipher_suites = [0x0005, 0x002F, 0x0A0A]

    client.shake(change)


@refused("no suites", DECODE_ERROR)
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        hello.cipher_suites = []

    client.shake(change)


@refused("compression in TLS 1.3", ILLEGAL_PARAMETER)
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        hello.compression_methods = [1, 0]

    client.shake(change)


@served("compression offered in TLS 1.2, and not used")
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        hello.compression_methods = [1, 0]

    client.use(TLS12)
    client.shake(change)


@refused("a session with a name of 33 bytes", DECODE_ERROR)
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        hello.session_id = bytearray(33)

    client.shake(change)


@refused("a key that is zero", ILLEGAL_PARAMETER)
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        _extension(hello, 51).client_shares[0].key_exchange = bytearray(32)

    client.shake(change)


@refused("a key that is on no curve", ILLEGAL_PARAMETER)
def _(client: Client) -> None:
    def change(hello: Any) -> None:
        _extension(hello, 51).client_shares[0].key_exchange = bytearray(b"\4" + b"\1" * 64)

    client.settings.keyShares = ["secp256r1"]
    client.shake(change)


@refused("early data without end", UNEXPECTED_MESSAGE, BAD_RECORD_MAC, CLOSED)
def _(client: Client) -> None:
    client.behind = _record(DATA, os.urandom(16000)) * 3
    client.shake(_add(42, b""))


@refused("early data that was not offered", BAD_RECORD_MAC)
def _(client: Client) -> None:
    client.behind = _record(DATA, os.urandom(300))
    client.shake()


_HELLO = (
    b"\x01\x00\x00\x2d\x03\x03"
    + bytes(32)
    + b"\x00\x00\x02\x13\x01\x01\x00"
    + _vector(2, b"\0\x2a\0\0")
)

for _name, _sent, _ends in (
    ("a hello of SSLv2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37), (10,)),
    ("SSH", b"SSH-2.0-OpenSSH_9.2p1\r\n", (UNEXPECTED_MESSAGE,)),
    ("zeros", bytes(1000), (UNEXPECTED_MESSAGE,)),
    ("noise", b"\xf3\x17" * 500, (UNEXPECTED_MESSAGE,)),
    ("an alert first", _record(ALERT, b"\1\x5a"), (UNEXPECTED_MESSAGE,)),
    ("data first", _record(DATA, bytes(100)), (UNEXPECTED_MESSAGE,)),
    ("ChangeCipherSpec first", _record(20, b"\1"), (UNEXPECTED_MESSAGE,)),
    ("an empty record first", _record(HANDSHAKE, b""), (UNEXPECTED_MESSAGE,)),
    ("a record that is too long", _record(HANDSHAKE, b"", 16385), (RECORD_OVERFLOW,)),
    ("another message first", _record(HANDSHAKE, b"\x14\0\0\x0c" + bytes(12)), (UNEXPECTED_MESSAGE,)),
    ("a hello in halves with an alert between", _record(HANDSHAKE, _HELLO[:20]) + _record(ALERT, b"\1\x5a"), (UNEXPECTED_MESSAGE,)),
    ("a hello in halves with data between", _record(HANDSHAKE, _HELLO[:20]) + _record(DATA, b"x"), (UNEXPECTED_MESSAGE,)),
    ("a hello in halves with an empty record between", _record(HANDSHAKE, _HELLO[:20]) + _record(HANDSHAKE, b""), (UNEXPECTED_MESSAGE,)),
    ("a hello of 16 MB", _record(HANDSHAKE, b"\1\xff\xff\xff" + bytes(5000)), (DECODE_ERROR,)),
    ("a hello that is empty", _record(HANDSHAKE, b"\1\0\0\0"), (DECODE_ERROR,)),
    ("a hello with bytes behind it", _record(HANDSHAKE, _HELLO[:-1] + b"\1" + b"x" * 50), (DECODE_ERROR,)),
):  # fmt: skip

    def _sends(client: Client, sent: bytes = _sent) -> None:
        client.send_raw(sent)

    refused(f"in the clear: {_name}", *_ends, raw=True)(_sends)


@refused("an end within the hello", CLOSED, raw=True)
def _(client: Client) -> None:
    client.send_raw(_record(HANDSHAKE, _HELLO)[:30])
    client.raw.shutdown(socket.SHUT_WR)


# What comes within the handshake.


@refused("a Finished that is wrong", DECRYPT_ERROR)
def _(client: Client) -> None:
    def change(finished: Any) -> None:
        finished.verify_data[0] ^= 1

    client.changes[Finished] = change
    client.shake()


@refused("a Finished of TLS 1.2 that is wrong", DECRYPT_ERROR)
def _(client: Client) -> None:
    def change(finished: Any) -> None:
        finished.verify_data[0] ^= 1

    client.use(TLS12)
    client.changes[Finished] = change
    client.shake()


@refused("data within the handshake of TLS 1.2", UNEXPECTED_MESSAGE)
def _(client: Client) -> None:
    client.use(TLS12)
    client.behind = _record(DATA, b"GET / HTTP/1.1\r\n\r\n")
    client.shake()


@refused("a hello in the middle of a handshake", UNEXPECTED_MESSAGE, CLOSED)
def _(client: Client) -> None:
    client.behind = _record(HANDSHAKE, _HELLO)
    client.shake()


@refused("an alert within the handshake", CLOSED, raw=True)
def _(client: Client) -> None:
    client.behind = _record(ALERT, b"\2\x28")
    client.shake()


@refused("a thousand of ChangeCipherSpec", UNEXPECTED_MESSAGE, CLOSED)
def _(client: Client) -> None:
    client.behind = _record(20, b"\1") * 1000
    client.shake()


# After the handshake, in both versions.

for _version in (TLS12, TLS13):
    _label = "1.2" if _version == TLS12 else "1.3"

    def _after(
        name: str, *ends: int, version: tuple[int, int] = _version, label: str = _label
    ) -> Callable[[Any], Any]:
        def keep(act: Callable[[Client], None]) -> Any:
            def run(client: Client) -> None:
                client.use(version)
                client.shake()
                act(client)

            CASES.append(Case(f"{label}: {name}", run, ends))
            return run

        return keep

    @_after("a record that was changed", BAD_RECORD_MAC)
    def _(client: Client) -> None:
        sealed = bytearray(client.sealed(DATA, REQUEST))
        sealed[-1] ^= 1
        client.send_raw(sealed)

    @_after("a record twice", BAD_RECORD_MAC)
    def _(client: Client) -> None:
        client.send_raw(client.sealed(DATA, b"GET ") * 2)

    @_after("a record that is cut off", CLOSED, CLOSE_NOTIFY)
    def _(client: Client) -> None:
        client.send_raw(client.sealed(DATA, REQUEST)[:-5])
        client.raw.shutdown(socket.SHUT_WR)

    @_after("a record that is too long", RECORD_OVERFLOW)
    def _(client: Client) -> None:
        client.send_raw(_record(DATA, b"", 16384 + 2049))

    @_after("a record with too much in it", RECORD_OVERFLOW)
    def _(client: Client) -> None:
        client.send_record(DATA, REQUEST + b"x" * 16384)

    @_after("a record too short to be sealed", BAD_RECORD_MAC, INTERNAL_ERROR)
    def _(client: Client) -> None:
        client.send_raw(_record(DATA, b"xx"))

    @_after("some empty records")
    def _(client: Client) -> None:
        for _ in range(5):
            client.send_record(DATA, b"")

    @_after("a flood of empty records", UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_raw(client.sealed(DATA, *[b""] * 100))

    @_after("a record of a kind that is none", UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_record(99, b"x")

    @_after("a heartbeat", UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_record(24, b"\1\xff\xffx")

    @_after("a record in the clear", BAD_RECORD_MAC, UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_raw(_record(DATA, REQUEST))

    @_after(
        "plain HTTP", PROTOCOL_VERSION, UNEXPECTED_MESSAGE, DECODE_ERROR, RECORD_OVERFLOW, CLOSED
    )
    def _(client: Client) -> None:
        client.send_raw(REQUEST)

    @_after("a flood of warnings", UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_raw(client.sealed(ALERT, *[b"\1\x5a"] * 100))

    @_after("a fatal alert", CLOSED)
    def _(client: Client) -> None:
        client.send_record(ALERT, b"\2\x28")

    @_after("an alert of one byte", UNEXPECTED_MESSAGE, DECODE_ERROR)
    def _(client: Client) -> None:
        client.send_record(ALERT, b"\1")

    @_after("an end in the middle of a request", CLOSE_NOTIFY)
    def _(client: Client) -> None:
        client.send_record(DATA, REQUEST[:20])
        client.send_record(ALERT, b"\1\0")

    @_after("an end behind a request, which is answered", CLOSE_NOTIFY)
    def _(client: Client) -> None:
        client.send_raw(client.sealed(DATA, REQUEST) + client.sealed(ALERT, b"\1\0"))
        assert client.reply().startswith(b"HTTP/1.1 200 ")

    @_after("an end without a word behind a request, which is answered", CLOSE_NOTIFY)
    def _(client: Client) -> None:
        client.write(REQUEST)
        client.raw.shutdown(socket.SHUT_WR)
        assert client.reply().startswith(b"HTTP/1.1 200 ")

    @_after("a request in records of one byte")
    def _(client: Client) -> None:
        client.send_raw(client.sealed(DATA, *[bytes((byte,)) for byte in REQUEST]))
        assert client.reply().startswith(b"HTTP/1.1 200 ")

    @_after("a Finished once more", UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_record(HANDSHAKE, b"\x14\0\0\x0c" + bytes(12))

    @_after("ChangeCipherSpec once more", UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_record(20, b"\1")

    @_after("a message of a kind that is none", UNEXPECTED_MESSAGE)
    def _(client: Client) -> None:
        client.send_record(HANDSHAKE, b"\x63\0\0\1x")

    @_after("a message of 16 MB", UNEXPECTED_MESSAGE, ILLEGAL_PARAMETER, DECODE_ERROR)
    def _(client: Client) -> None:
        client.send_record(HANDSHAKE, b"\x18\xff\xff\xff" + bytes(8000))


# Renegotiation, which is TLS 1.2 alone.


def _shaken(client: Client, version: tuple[int, int]) -> Client:
    client.use(version)
    return client.shake()


@refused("a hello after the handshake of TLS 1.3", UNEXPECTED_MESSAGE)
def _(client: Client) -> None:
    _shaken(client, TLS13).send_record(HANDSHAKE, _HELLO)


@refused("renegotiation, which is declined, without end", UNEXPECTED_MESSAGE, CLOSED, 100)
def _(client: Client) -> None:
    _shaken(client, TLS12)
    client.send_raw(client.sealed(HANDSHAKE, *[_HELLO] * 500))


# KeyUpdate, which is TLS 1.3 alone.


@served("keys that change, in both directions")
def _(client: Client) -> None:
    _shaken(client, TLS13)
    for asked in (0, 1, 0, 1):
        client.update_keys(asked)
        assert client.ask().startswith(b"HTTP/1.1 200 ")


@refused("a KeyUpdate that is neither", ILLEGAL_PARAMETER)
def _(client: Client) -> None:
    _shaken(client, TLS13).send_record(HANDSHAKE, b"\x18\0\0\1\2")


@refused("a KeyUpdate with more behind it in its record", UNEXPECTED_MESSAGE)
def _(client: Client) -> None:
    _shaken(client, TLS13).send_record(HANDSHAKE, b"\x18\0\0\1\0\x18\0\0\1\0")


@refused("half a KeyUpdate, and data", UNEXPECTED_MESSAGE)
def _(client: Client) -> None:
    _shaken(client, TLS13).send_record(HANDSHAKE, b"\x18\0\0")
    client.send_record(DATA, REQUEST)


@refused("a ticket for the server", UNEXPECTED_MESSAGE)
def _(client: Client) -> None:
    _shaken(client, TLS13).send_record(HANDSHAKE, b"\x04\0\0\x0d" + bytes(13))


for _asked in (0, 1):

    def _floods(client: Client, asked: int = _asked) -> None:
        _shaken(client, TLS13)
        client.send_raw(client.many_updates(800, asked))

    refused(f"a flood of KeyUpdates that ask for {_asked}", CLOSED, raw=True)(_floods)
