"""The first message of a TLS client, as far as it decides what serves the connection.

OpenSSL has a callback for that, but a context that is changed in the callback keeps some of
its settings: clients without a certificate were accepted where one was required.  So the name
is read here, and only then the connection gets its context.

:class:`HelloReader` is given bytes as they come, in any pieces.  It reads the records and the
message in them (RFC 8446 4.1.2 and 5.1, RFC 5077 3.2, RFC 6066 3, RFC 7301 3.1), and opens no
socket.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "DECODE_ERROR",
    "INTERNAL_ERROR",
    "NO_APPLICATION_PROTOCOL",
    "UNRECOGNIZED_NAME",
    "BadHello",
    "ClientHello",
    "HelloReader",
    "alert",
    "is_plain_http",
]

#: Descriptions of alerts (RFC 8446 6).
UNEXPECTED_MESSAGE: Final = 10
RECORD_OVERFLOW: Final = 22
ILLEGAL_PARAMETER: Final = 47
DECODE_ERROR: Final = 50
PROTOCOL_VERSION: Final = 70
INTERNAL_ERROR: Final = 80
UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120

#: Bytes of a record (RFC 8446 5.1).
MAX_RECORD: Final = 16384
#: Bytes of the message, at most: as much as one record holds.  Browsers with keys that
#: quantum computers do not break send 2 KiB.
MAX_HELLO: Final = 16384
#: Records that the message may be spread over: enough for all hellos that there are, also in
#: records of one byte each, and few enough to be read in some milliseconds.
MAX_RECORDS: Final = 4096

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_TICKET: Final = 35
_PRE_SHARED_KEY: Final = 41
#: Bytes at the beginning of a ticket that name its key (RFC 5077 4).
_KEY_NAME: Final = 16
_NAME: Final = re.compile(rb"(?=.{1,255}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_METHOD: Final = re.compile(rb"[A-Z]{1,20}(?: |\Z)")


class BadHello(Exception):
    """The bytes are no hello.  ``description`` is that of the alert that the client gets."""

    def __init__(self, description: int, message: str) -> None:
        super().__init__(message)
        self.description = description
        self.message = message


class ClientHello:
    """What a client asks for."""

    __slots__ = ("name", "protocols", "ticket")

    def __init__(self, name: str, protocols: tuple[bytes, ...], ticket: bytes = b"") -> None:
        #: The name of the server in lower case; empty if the client names none.
        self.name = name
        #: The protocols for inside the connection (ALPN); none if the client names none.
        self.protocols = protocols
        #: What its ticket begins with, which names the ticket's key; empty without a ticket.
        #: Of several tickets, the first one counts.
        self.ticket = ticket

    def __repr__(self) -> str:
        return f"<ClientHello {self.name!r} {self.protocols!r}>"


class HelloReader:
    """Reads one hello."""

    __slots__ = ("_at", "_message", "_records", "raw")

    def __init__(self) -> None:
        #: Everything that came.
        self.raw = bytearray()
        #: Where in it the next record begins, and what the records before it held.
        self._at = 0
        self._message = bytearray()
        self._records = 0

    def feed(self, data: bytes) -> ClientHello | None:
        """The hello, once it is complete; bytes behind it are no concern of this class.

        Raises BadHello as soon as what came cannot become a hello.
        """
        raw, message = self.raw, self._message
        raw += data
        while True:
            at = self._at
            head = raw[at : at + 5]
            if head and head[0] != _HANDSHAKE:
                raise BadHello(UNEXPECTED_MESSAGE, "it does not begin with a TLS handshake")
            if len(head) > 1 and head[1] != 3:
                raise BadHello(PROTOCOL_VERSION, "its version is not one of TLS")
            if len(head) < 5:
                return None
            size = head[3] << 8 | head[4]
            if not size:
                raise BadHello(UNEXPECTED_MESSAGE, "a record of its hello is empty")
            if size > MAX_RECORD:
                raise BadHello(RECORD_OVERFLOW, "a record of its hello is too long")
            if len(raw) < at + 5 + size:
                self._check(raw[at + 5 :])
                return None
            message += raw[at + 5 : at + 5 + size]
            self._at = at + 5 + size
            self._records += 1
            if self._records > MAX_RECORDS:
                raise BadHello(DECODE_ERROR, "its hello is spread over too many records")
            self._check(b"")
            if len(message) >= 4:
                end = 4 + int.from_bytes(message[1:4], "big")
                if len(message) >= end:
                    return _parsed(bytes(message[4:end]))

    def _check(self, begun: bytes | bytearray) -> None:
        """Refuse a message of another kind, or one that is too long, by its first bytes."""
        start = (self._message[:4] + begun[:4])[:4]
        if start and start[0] != _CLIENT_HELLO:
            raise BadHello(UNEXPECTED_MESSAGE, "its first message is not a hello")
        if len(start) == 4 and int.from_bytes(start[1:], "big") > MAX_HELLO:
            raise BadHello(DECODE_ERROR, f"its hello is longer than {MAX_HELLO} bytes")


def is_plain_http(data: bytes | bytearray) -> bool:
    """Whether the first bytes of a connection are those of a request without TLS."""
    return _METHOD.match(data) is not None


def alert(description: int) -> bytes:
    """A fatal alert, in the clear."""
    return b"\x15\x03\x03\x00\x02\x02" + bytes((description,))


class _Fields:
    """Takes fields from the beginning of some bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise BadHello(DECODE_ERROR, "its hello is malformed")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        """A number of ``size`` bytes."""
        data, at = self._data, self._at
        end = at + size
        if end > len(data):
            raise BadHello(DECODE_ERROR, "its hello is malformed")
        self._at = end
        number = 0
        while at < end:
            number = number << 8 | data[at]
            at += 1
        return number

    def vector(self, size: int, least: int = 0) -> bytes:
        """A field behind its length, which has ``size`` bytes; it has ``least`` bytes or
        more."""
        taken = self.take(self.number(size))
        if len(taken) < least:
            raise BadHello(DECODE_ERROR, "its hello is malformed")
        return taken


def _parsed(body: bytes) -> ClientHello:
    fields = _Fields(body)
    fields.take(2 + 32)  # the version of former days, and random bytes
    session = fields.vector(1)
    suites = fields.vector(2, 2)
    fields.vector(1, 1)  # methods of compression
    if len(session) > 32 or len(suites) % 2:
        raise BadHello(DECODE_ERROR, "its hello is malformed")
    name = ""
    protocols: tuple[bytes, ...] = ()
    ticket = b""
    if not fields.is_empty:
        extensions = _Fields(fields.vector(2))
        seen = set()
        while not extensions.is_empty:
            kind, content = extensions.number(2), extensions.vector(2)
            if kind in seen:
                raise BadHello(ILLEGAL_PARAMETER, "its hello has an extension twice")
            seen.add(kind)
            if kind == _SERVER_NAME:
                name = _server_name(content)
            elif kind == _ALPN:
                protocols = _protocols(content)
            elif kind == _TICKET and not ticket:
                ticket = content[:_KEY_NAME]
            elif kind == _PRE_SHARED_KEY:
                # Behind the lengths of all identities and of the first one (RFC 8446 4.2.11).
                # OpenSSL refuses what is malformed.
                ticket = content[4 : 4 + _KEY_NAME]
    if not fields.is_empty:
        raise BadHello(DECODE_ERROR, "its hello is malformed")
    return ClientHello(name, protocols, ticket)


def _server_name(content: bytes) -> str:
    outer = _Fields(content)
    names = _Fields(outer.vector(2, 1))
    kind, name = names.number(1), names.vector(2, 1)
    # RFC 6066 3: there is one kind of name, and one name of a kind.
    if not (outer.is_empty and names.is_empty) or kind:
        raise BadHello(DECODE_ERROR, "its hello has a malformed server name")
    if _NAME.fullmatch(name) is None or b".." in name:
        raise BadHello(ILLEGAL_PARAMETER, "its hello names what is no name of a server")
    return name.decode("ascii").lower()


def _protocols(content: bytes) -> tuple[bytes, ...]:
    outer = _Fields(content)
    names = _Fields(outer.vector(2, 2))
    found = []
    while not names.is_empty:
        found.append(names.vector(1, 1))
    if not outer.is_empty:
        raise BadHello(DECODE_ERROR, "its hello has a malformed list of protocols")
    return tuple(found)
