"""The HTTP control channel: twisted.web's parser and connection, and JSON answers.

Callers are judged by the head of a request, before a byte of its body is kept, and
a body is bounded while it arrives.  A call that was begun is finished even if its
caller goes away.
"""

# twisted.web's classes have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet import defer
from twisted.internet.address import UNIXAddress
from twisted.logger import Logger
from twisted.web import http

from slardar.config import Control
from slardar.control.actions import Actions, ApplyError, MovedError
from slardar.control.auth import Caller, Gate, RefusedError
from slardar.control.calls import (
    Answer,
    Call,
    find_handlers,
    known_parameters,
    read_parameters,
    split_path,
)
from slardar.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    SlardarError,
    StoreError,
)

__all__ = ["MAX_BODY", "MAX_CONNECTIONS", "ControlSite", "make_site"]

#: Bytes of a body.  An upstream of 1,000 servers takes about 100 KiB.
MAX_BODY = 4 * 1024 * 1024
#: Connections at one time; more are closed at once.
MAX_CONNECTIONS = 256
#: Seconds for the head of a request (so also an idle connection), and again for its
#: body; twisted.web's own value, but a client gains no time by sending little.
_TIMEOUT = 60
#: Seconds for which a client that was refused may go on sending, or one whose
#: connection is being closed has to read what it was sent; nginx's lingering_timeout.
_LINGER = 5

_STATUSES: Mapping[type[SlardarError], int] = {
    ConfigError: 400,
    NotFoundError: 404,
    ConflictError: 409,
    ApplyError: 500,
    NotReadyError: 503,
    StoreError: 503,
}

_log = Logger("slardar.control")


def make_site(actions: Actions, control: Control, reactor: Any = None) -> ControlSite:
    """The factory to listen with on ``control.http``; ``reactor`` gives the time."""
    return ControlSite(actions, Gate(control.tokens), reactor)


class Reply(Struct):
    """An answer, ready to be sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Its own headers after those of every reply."""
        common = {
            "Server": "slardar",
            "Date": http.datetimeToString().decode(),
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        headers = {**common, **self.headers}
        return [(name.encode(), value.encode()) for name, value in headers.items()]


def _json(value: Any) -> bytes:
    """JSON on one line, spaced for a person to read."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0) + b"\n"


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, _json({"status": status, "msg": message}), headers or {})


def _error_reply(error: SlardarError) -> Reply:
    """The reply for what a call raised."""
    if isinstance(error, RefusedError):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        return _error(error.status, str(error), headers)
    if isinstance(error, MovedError):
        return _error(503, str(error), {"Retry-After": "1"})
    for kind in type(error).__mro__:
        if kind in _STATUSES:
            return _error(_STATUSES[kind], str(error))
    return _error(500, str(error))


class ControlRequest(http.Request):
    """One request, from its head to the reply."""

    channel: ControlChannel
    _caller: Caller | None = None
    #: Why it is turned away, if it is: nothing of its body is kept then.
    _refusal: Reply | None = None
    #: Whether the refusal has been sent, before the body was there.
    _is_refused = False
    _is_gone = False
    _query = b""

    def gotLength(self, length: int | None) -> None:
        """The head is complete; ``length`` is 0 without a body, None for chunks."""
        # The body is kept in memory, being bounded; twisted.web would open a file, but
        # it also wants to close something.
        self.content = BytesIO()
        self._body = bytearray()
        try:
            self._caller = self.channel.factory.gate.admit(
                self._header, isinstance(self.host, UNIXAddress)
            )
            if length is not None and length > MAX_BODY:
                raise _TOO_LARGE
        except RefusedError as error:
            self._refusal = _error_reply(error)
            if length != 0:
                self._refuse_now()

    def _header(self, name: str) -> Sequence[str]:
        values = self.requestHeaders.getRawHeaders(name.encode(), [])
        return [value.decode("latin-1") for value in values]

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body."""
        if self._is_refused:
            return
        if len(self._body) + len(data) > MAX_BODY:
            self._refusal = _error_reply(_TOO_LARGE)
            self._body.clear()
            self._refuse_now()
        else:
            self._body += data

    def _refuse_now(self) -> None:
        """Answer while the client is still sending; what comes now is thrown away.

        To close at once would reset the connection, and the client might never see
        the answer.
        """
        assert self._refusal is not None
        self._is_refused = True
        # Or twisted.web would ask for the body after it was refused.
        self.requestHeaders.removeHeader(b"Expect")
        self.channel.refuse(self._refusal)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete.  (twisted.web would read forms from the body.)"""
        if self._is_refused:
            self.channel.loseConnection()
            return
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self._query = path.partition(b"?")
        if self._refusal is not None:
            self._send(self._refusal)
            return
        defer.ensureDeferred(self._answer()).addErrback(self._bug)

    async def _answer(self) -> None:
        try:
            reply = await self._call()
        except SlardarError as error:
            reply = _error_reply(error)
        except Exception:
            _log.failure(
                "a control call failed: {method} {path}", method=self.method, path=self.path
            )
            reply = _error(500, "internal error; the log says more")
        self._send(reply)

    async def _call(self) -> Reply:
        """Carry out the call."""
        assert self._caller is not None
        method = self.method.decode("latin-1")
        if method == "HEAD":
            method = "GET"
        if method != "GET" and not self._caller.is_admin:
            raise RefusedError(403, "expected a token with the role admin for this call")
        parts = split_path(self.path)
        handlers = find_handlers(parts)
        handler = handlers.get(method)
        if handler is None:
            allowed = [*handlers, "HEAD"] if "GET" in handlers else [*handlers]
            headers = {"Allow": ", ".join(allowed)}
            return _error(405, f"expected {' or '.join(handlers)} for this path", headers)
        parameters = read_parameters(self._query, known_parameters(method, handler))
        call = Call(
            parts=parts,
            body=bytes(self._body),
            content_type="".join(self._header("Content-Type")[:1]),
            wait=parameters.get("wait") != "0",
            receipt=parameters.get("receipt") == "1",
            who=self._caller.name,
            parameters=parameters,
        )
        answer = handler(self.channel.factory.actions, call)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Answer):
            return Reply(200, _json(answer.value), answer.headers)
        return Reply(200, _json(answer))

    def _send(self, reply: Reply) -> None:
        if self._is_gone:
            return
        self.setResponseCode(reply.status)
        for name, value in reply.all_headers():
            self.responseHeaders.setRawHeaders(name, [value])
        self.write(reply.body)  # twisted.web leaves it out for HEAD
        self.finish()

    def connectionLost(self, reason: Any) -> None:
        """The client is gone; the call goes on."""
        self._is_gone = True
        super().connectionLost(reason)

    def _bug(self, failure: Any) -> None:
        _log.failure("a control call could not be answered", failure=failure)
        if not self._is_gone:
            self.channel.loseConnection()


_TOO_LARGE = RefusedError(413, f"expected a body of at most {MAX_BODY} bytes")


class ControlChannel(http.HTTPChannel):
    """One connection: twisted.web's, with its own idea of time and of refusals."""

    requestFactory = ControlRequest  # noqa: N815 Twisted's name
    factory: ControlSite
    transport: Any
    _is_refused = False

    def connectionMade(self) -> None:
        """Count it."""
        super().connectionMade()
        self.factory.channels.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        """Count it no more."""
        self.factory.channels.discard(self)
        super().connectionLost(reason)

    def refuse(self, reply: Reply) -> None:
        """Answer out of turn, and wait a little for the client to go away."""
        self._is_refused = True
        self.persistent = 0
        headers = [*reply.all_headers(), (b"Connection", b"close")]
        reason = http.RESPONSES.get(reply.status, b"")
        self.writeHeaders(b"HTTP/1.1", str(reply.status).encode(), reason, headers)
        self.write(reply.body)
        self.setTimeout(_LINGER)

    def resetTimeout(self) -> None:
        """Bytes alone give no more time, or a client that sends one a minute would stay
        for ever; a complete head does."""

    def allHeadersReceived(self) -> None:
        """A head is complete."""
        self.setTimeout(self.timeOut)
        super().allHeadersReceived()

    def timeoutConnection(self) -> None:
        """Time is up: close, and then cut off whoever does not read what it was sent."""
        if self.transport.disconnecting:
            self.transport.abortConnection()
        else:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close, once what was written has gone out."""
        self.setTimeout(_LINGER)
        super().loseConnection()

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line of the head is too long (16 KiB)."""
        self._refuse_head(431, "expected a shorter request head")

    def _respondToBadRequestAndDisconnect(self) -> None:
        # twisted.web has no public place for this; it would send a bare 400.
        self._refuse_head(400, "expected a well-formed HTTP request")

    def _refuse_head(self, status: int, message: str) -> None:
        # What comes after a refusal is thrown away, so it may well be malformed.
        if not self._is_refused:
            self.refuse(_error(status, message))
        self.loseConnection()

    def finish(self) -> None:
        """Close now if it is idle, else after the reply under way."""
        self.persistent = 0
        if not self.requests:
            self.loseConnection()


class ControlSite(http.HTTPFactory):
    """Makes the connections of the control channel.  It writes no access log."""

    protocol = ControlChannel  # type: ignore[assignment]
    noisy = False

    def __init__(self, actions: Actions, gate: Gate, reactor: Any = None) -> None:
        super().__init__(timeout=_TIMEOUT, reactor=reactor)
        self.actions = actions
        self.gate = gate
        self.channels: set[ControlChannel] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """A connection, or None if there are too many: it is closed then."""
        if len(self.channels) >= MAX_CONNECTIONS:
            return None
        return super().buildProtocol(addr)

    def startFactory(self) -> None:
        """Nothing to open.  (twisted.web would start the clock of its access log.)"""

    def stopFactory(self) -> None:
        """Nobody listens any more: idle connections go."""
        for channel in list(self.channels):
            channel.finish()

    def log(self, request: Any) -> None:
        """Changes are logged where they are made; questions are not."""
