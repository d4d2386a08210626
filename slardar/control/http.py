"""The HTTP control channel, on twisted.web's parser and connection.

A caller is admitted or refused by the head of a request, before a byte of the body is kept, and the
size of a body is limited while it arrives.  A call that has begun is finished even if its caller
goes away.  The limits on all callers together are in :mod:`slardar.control.room`.
"""

# twisted.web's classes have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from twisted.internet import defer
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.logger import Logger
from twisted.web import http
from zope.interface import implementer

from slardar.config import Control
from slardar.control.actions import Actions
from slardar.control.auth import Caller, Gate, RefusedError
from slardar.control.calls import (
    check_call,
    find_operations,
    read_arguments,
    read_parameters,
    split_path,
)
from slardar.control.conditions import Condition, etag
from slardar.control.dashboard import Dashboard
from slardar.control.event_stream import EventStream
from slardar.control.operation import ControlCall, carry_out
from slardar.control.pieces import in_pieces
from slardar.control.refusals import Refusals
from slardar.control.replies import JsonReply, error_reply, refuse, takes_gzip, to_json, zipped
from slardar.control.room import MAX_BODIES, MAX_STREAMS, Room, Standing
from slardar.errors import SlardarError
from slardar.events import EventsAsked
from slardar.http1.own_replies import phrase
from slardar.model.change import Author

__all__ = ["MAX_BODY", "ControlSite", "make_site"]

#: Bytes of a body, at most.  An upstream of 1,000 servers takes about 100 KiB.
MAX_BODY = 4 * 1024 * 1024
#: Bytes of a refused body that are read, so that the connection can be used further.
_SMALL = 65536
#: Seconds for the first head on a connection: the default of ``timeouts.client_header``.
_HEAD = 10
#: Seconds for each further head, with the time until it begins: the keepalive_timeout of the
#: nginx.conf that upyun/slardar ships.
_IDLE = 15
#: Seconds for the body of a request, and for a reply to be read: 60 as in nginx.  Unlike there, a
#: client gains no time by sending or reading a little.
_BODY = 60
#: Seconds for which a refused client may go on sending, and for which a client may read while its
#: connection is closed: nginx's lingering_timeout.
_LINGER = 5
#: Milliseconds within which what is sent on a stream of events must be acknowledged.
_ACKNOWLEDGED = 30_000

_log = Logger("slardar.control")


def make_site(actions: Actions, control: Control, reactor: Any = None) -> ControlSite:
    """The factory to listen with on ``control.http``; ``reactor`` gives the time."""
    return ControlSite(actions, control, reactor)


class ControlRequest(http.Request):
    """One request, from its head to the reply."""

    channel: ControlChannel
    _caller: Caller | None = None
    #: The refusal of the request, if it is refused: nothing of its body is kept then.
    _refusal: JsonReply | None = None
    #: Whether the refusal was sent before the body had come.
    _is_refused = False
    _is_gone = False
    _is_begun = False
    #: Whether it is for what everybody may read.
    _is_public = False
    _query = b""
    #: The events that this request is answered with, while they are sent.
    _stream: EventStream | None = None

    def __init__(self, channel: Any, queued: Any = False) -> None:
        super().__init__(channel, queued)
        # twisted.web forgets the channel when the connection is lost.
        self._guest: ControlChannel = channel
        self._body = bytearray()

    def gotLength(self, length: int | None) -> None:
        """The head is complete; ``length`` is 0 without a body, None for chunks."""
        # The body is kept in ``_body``. twisted.web would open a file here; it wants something that
        # it can close.
        self.content = BytesIO()
        site = self.channel.factory
        try:
            if self.channel.version == b"HTTP/1.1" and not self._header("Host"):
                # RFC 9112, section 3.2.
                raise RefusedError(400, "expected a Host header")
            if site.dashboard.has(self.channel.method, self.channel.uri):
                site.gate.check_browser(self._header, self._peer)
                if length != 0:
                    raise RefusedError(400, "expected no body")
                self._is_public = True
                return
            caller = site.gate.admit(self._header, self._peer)
            self._caller = caller
            self.channel.admitted(length != 0)
            if length is not None and length > MAX_BODY:
                raise _TOO_LARGE
            check_call(caller, self.channel.method.decode("latin-1"), self.channel.uri)
        except RefusedError as error:
            self._refusal = refuse(error)
            self._note(error.status, str(error), self.channel.method, self.channel.uri)
            if length != 0:
                self._refuse_now(goes_on=self._may_go_on(length))

    def _may_go_on(self, length: int | None) -> bool:
        """Whether the rest of a refused request is short and certain to come.  A client that waits
        for a 100 may never send it."""
        if self._caller is None or length is None or self._header("Expect"):
            return False
        return length <= _SMALL

    @property
    def _peer(self) -> str | None:
        """The caller's address; ``None`` over a unix socket."""
        return None if isinstance(self.host, UNIXAddress) else str(self.client.host)

    def _note(self, status: int, reason: str, method: bytes, uri: bytes) -> None:
        """Leave an audit line of a refusal.  The query is left out: it says nothing of who did
        what, and may be long."""
        self._guest.factory.refusals.note(
            status,
            reason,
            b"%s %s" % (method, uri.partition(b"?")[0]),
            "" if self._caller is None else self._caller.name,
            self._peer or "unix",
        )

    def _header(self, name: str) -> Sequence[str]:
        values = self.requestHeaders.getRawHeaders(name.encode(), [])
        return [value.decode("latin-1") for value in values]

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body."""
        if self._is_refused:
            return
        if len(self._body) + len(data) > MAX_BODY:
            self.refuse_body(refuse(_TOO_LARGE))
        else:
            self._body += data
            self.channel.room.hold_body(self.channel, len(data))

    def refuse_body(self, refusal: JsonReply) -> None:
        """Drop the part of the body that has come, and answer why."""
        self._refusal = refusal
        self._refuse_now()

    def _refuse_now(self, goes_on: bool = False) -> None:
        """Answer while the client is still sending.  What comes from now on is thrown away.

        Closing at once would reset the connection, and the client might never see the answer.  With
        ``goes_on`` the connection stays open for what follows the body.
        """
        assert self._refusal is not None
        self._is_refused = True
        self._let_go()
        # Else twisted.web would ask for the body after the refusal.
        self.requestHeaders.removeHeader(b"Expect")
        self.channel.refuse(self._refusal, goes_on)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete.  (twisted.web would read forms from the body.)"""
        if self._is_refused:
            # This closes the connection, too, unless it goes on.
            self.channel.requestDone(self)
            return
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self._query = path.partition(b"?")
        if self._refusal is not None:
            self._send(self._refusal)
            return
        self.channel.when_read(self._begin)

    def _begin(self) -> None:
        self._is_begun = True
        defer.ensureDeferred(self._answer()).addErrback(self._bug)

    def _let_go(self) -> None:
        """Nobody needs the body any more."""
        self._body = bytearray()
        self._guest.room.release_body(self._guest)

    async def _answer(self) -> None:
        reply: JsonReply | EventsAsked
        try:
            reply = await self._call()
        except SlardarError as error:
            reply = refuse(error)
            if self.method not in (b"GET", b"HEAD"):
                self._note(reply.status, str(error), self.method, self.path)
        except Exception:
            _log.failure(
                "a control call failed: {method} {path}", method=self.method, path=self.path
            )
            reply = error_reply(500, "internal error; the log says more")
        self._let_go()
        if isinstance(reply, EventsAsked):
            self._begin_stream(reply)
            return
        if "ETag" not in reply.headers and self.method not in (b"GET", b"HEAD"):
            # A call that has failed: it has changed nothing, or not everybody serves the change.
            version = self._guest.factory.actions.snapshot.version
            reply.headers = {**reply.headers, "ETag": etag(version)}
        self._send(reply)

    async def _call(self) -> JsonReply | EventsAsked:
        """Carry out the call."""
        if self._is_public:
            asked = self._header("Accept-Encoding"), self._header("If-None-Match")
            return self.channel.factory.dashboard.answer(self.path, *asked)
        assert self._caller is not None
        method = self.method.decode("latin-1")
        if method == "HEAD":
            method = "GET"
        parts = split_path(self.path)
        operations = find_operations(parts)
        operation = operations.get(method)
        if operation is None:
            allowed = [*operations, "HEAD"] if "GET" in operations else [*operations]
            headers = {"Allow": ", ".join(allowed)}
            return error_reply(405, f"expected {' or '.join(operations)} for this path", headers)
        parameters = read_parameters(self._query, operation)
        condition = None
        if method != "GET":
            condition = Condition(self._header("If-Match"), self._header("If-None-Match"), parts)
        body = bytes(self._body)
        self._body = bytearray()
        call = ControlCall(
            arguments=read_arguments(operation, parts),
            parameters=parameters,
            body=body,
            content_type="".join(self._header("Content-Type")[:1]),
            who=Author(self._caller.name, self._peer or "unix"),
            condition=condition,
            names=self._caller.names,
            is_admin=self._caller.is_admin,
            last_event="".join(self._header("Last-Event-ID")[:1]),
        )
        actions = self.channel.factory.actions
        result = await carry_out(operation, actions, call)
        if isinstance(result.value, EventsAsked):
            return result.value
        assert result.version is not None
        headers = {**result.headers, "ETag": etag(result.version)}
        if not result.media:
            return JsonReply(200, to_json(result.value), headers)
        headers |= {"Content-Type": result.media, "Vary": "Accept-Encoding"}
        body = result.value.encode()
        if takes_gzip(self._header("Accept-Encoding")):
            headers["Content-Encoding"] = "gzip"
            body = b"".join(await in_pieces(zipped(body), actions.history.turn))
        return JsonReply(200, body, headers)

    def _send(self, reply: JsonReply) -> None:
        if self._is_gone:
            return
        # twisted.web does not know the phrases of 429 and 431.
        self.setResponseCode(reply.status, phrase(reply.status).encode())
        for name, value in reply.all_headers():
            self.responseHeaders.setRawHeaders(name, [value])
        self.write(reply.body)  # twisted.web leaves it out for HEAD
        self.finish()

    def _begin_stream(self, asked: EventsAsked) -> None:
        """Answer with events, until one of both sides closes the connection."""
        if self._is_gone:
            return
        if not self.channel.room.has_streams_left:
            message = f"expected at most {MAX_STREAMS} streams of events at one time: ask again"
            self._send(error_reply(503, message, {"Retry-After": "5"}))
            return
        self.setResponseCode(200)
        for name, value in (
            (b"Server", b"slardar"),
            (b"Content-Type", b"text/event-stream"),
            (b"Cache-Control", b"no-store"),
            (b"X-Content-Type-Options", b"nosniff"),
            # For a proxy in between: do not wait for more.
            (b"X-Accel-Buffering", b"no"),
        ):
            self.responseHeaders.setRawHeaders(name, [value])
        if self.method == b"HEAD":
            self.finish()
            return
        channel = self.channel
        channel.begin_stream()
        self._stream = EventStream(channel.factory.reactor, asked, self.write, channel.give_way)
        self.registerProducer(self._stream, True)
        self._stream.start()

    def end_stream(self) -> None:
        """Send no more events, if this request is answered with events."""
        if self._stream is not None and not self._is_gone:
            self._stream.close()
            self.unregisterProducer()
            self.finish()

    def connectionLost(self, reason: Any) -> None:
        """The client is gone; the call goes on, if it was begun."""
        self._is_gone = True
        if self._stream is not None:
            self._stream.close()
        if not self._is_begun:
            # The request and the channel refer to each other, so the body would stay in memory
            # until the garbage collector runs, and no limit would count it.
            self._let_go()
        super().connectionLost(reason)

    def _bug(self, failure: Any) -> None:
        _log.failure("a control call could not be answered", failure=failure)
        if not self._is_gone:
            self.channel.loseConnection()


_TOO_LARGE = RefusedError(413, f"expected a body of at most {MAX_BODY} bytes")


@implementer(IHalfCloseableProtocol)
class ControlChannel(http.HTTPChannel):
    """One connection: twisted.web's, with other rules for timeouts and refusals."""

    requestFactory: Any = ControlRequest  # noqa: N815 Twisted's name
    factory: ControlSite
    transport: Any
    standing = Standing.STRANGER
    since = 0.0
    _is_known = False
    _is_half_closed = False
    _is_refused = False
    #: Whether the client has yet to read what was written; and the call that waits for that.
    _is_full = False
    _pending: Callable[[], None] | None = None

    @property
    def room(self) -> Room:
        """What all connections share."""
        return self.factory.room

    @property
    def version(self) -> bytes:
        """The version of HTTP of the request whose head is complete."""
        version: bytes = self._version
        return version

    @property
    def method(self) -> bytes:
        """The method of the request whose head is complete."""
        method: bytes = self._command
        return method

    @property
    def uri(self) -> bytes:
        """The path of that request, with its query."""
        uri: bytes = self._path
        return uri

    def connectionMade(self) -> None:
        """Count the connection."""
        super().connectionMade()
        self._stand(Standing.STRANGER)
        self.room.enter(self)

    def connectionLost(self, reason: Any = None) -> None:
        """Do not count the connection any more."""
        self.room.leave(self)
        super().connectionLost(reason)
        # This object holds the transport, which may hold a reply of some megabytes.  In a circle of
        # references it would stay until the garbage collector runs.
        self.requests = []
        self._pending = self._transferDecoder = None
        self._dataBuffer = []

    def readConnectionLost(self) -> None:
        """The client has closed its side.  The calls that it has made are answered."""
        self._is_half_closed = True
        if self.standing not in (Standing.BUSY, Standing.READING):
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing to do: this side never closes one half only."""

    def _stand(self, standing: Standing) -> None:
        self.standing = standing
        self.since = self.factory.reactor.seconds()

    def admitted(self, has_body: bool) -> None:
        """The caller has been admitted."""
        self._is_known = True
        if has_body:
            self._stand(Standing.SENDING)

    def when_read(self, begin: Callable[[], None]) -> None:
        """Begin a call once the client has read what was written so far.  Else a client could ask
        without end and never read."""
        if self._is_full:
            self._stand(Standing.READING)
            self._pending = begin
            self.setTimeout(_BODY)
        else:
            self._stand(Standing.BUSY)
            begin()

    def pauseProducing(self) -> None:
        """The client does not read as fast as it is written to."""
        self._is_full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """The client has read everything."""
        self._is_full = False
        self.room.reply_read(self)
        super().resumeProducing()
        pending, self._pending = self._pending, None
        if pending is not None:
            self.setTimeout(None)
            self.when_read(pending)
        elif self._is_half_closed:
            self.loseConnection()
        elif self.standing is Standing.READING:
            self._stand(Standing.IDLE)
            self.setTimeout(_IDLE)

    def requestDone(self, request: Any) -> None:
        """The reply is written, and sent as far as the client reads."""
        if self._is_full:
            self._stand(Standing.READING)
            self.room.hold_reply(self, request.sentLength)
        else:
            self._stand(Standing.IDLE if self._is_known else Standing.STRANGER)
        # twisted.web sets this timeout now.
        self._savedTimeOut = _BODY if self._is_full else _IDLE
        super().requestDone(request)
        if self._is_half_closed and not self.requests:
            self.loseConnection()

    def begin_stream(self) -> None:
        """Events are sent from now on."""
        self._stand(Standing.STREAMING)
        sock = _socket_of(self.transport)
        if sock is not None and sock.family != socket.AF_UNIX:
            # Bytes that nobody acknowledges end the connection; else that takes a quarter of an
            # hour after a client's machine is gone.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACKNOWLEDGED)

    def give_way(self) -> None:
        """Close at once: somebody else needs the place."""
        self.transport.abortConnection()

    def give_up_body(self) -> None:
        """Refuse the body that is being sent: all bodies together are too large."""
        headers = {"Retry-After": "1"}
        message = f"expected at most {MAX_BODIES} bytes of bodies at one time: ask again"
        self.requests[-1].refuse_body(error_reply(503, message, headers))

    def refuse(self, reply: JsonReply, goes_on: bool = False) -> None:
        """Answer out of turn, and wait a little for the end of the body, or for the client to go
        away."""
        headers = reply.all_headers()
        if not goes_on or not self.persistent:
            self._is_refused = True
            self.persistent = 0
            self._stand(Standing.STRANGER)
            headers.append((b"Connection", b"close"))
            self.setTimeout(_LINGER)
        reason = phrase(reply.status).encode()
        self.writeHeaders(b"HTTP/1.1", str(reply.status).encode(), reason, headers)
        self.write(reply.body)

    def resetTimeout(self) -> None:
        """Nothing: bytes alone give a client no more time, or one that sends a byte a minute would
        stay for ever.  A complete head does."""

    def allHeadersReceived(self) -> None:
        """A head is complete."""
        self.setTimeout(_BODY)
        super().allHeadersReceived()

    def timeoutConnection(self) -> None:
        """Time is up: close.  If the client still does not read, the next call cuts it off."""
        if self.transport.disconnecting:
            self.transport.abortConnection()
        else:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close once everything that was written has gone out."""
        if self._is_full and not self.transport.disconnecting:
            self._stand(Standing.READING)
            self.setTimeout(_BODY)
        else:
            self._stand(Standing.STRANGER)
            self.setTimeout(_LINGER)
        if not self.transport.disconnecting:
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
            self.refuse(error_reply(status, message))
        self.loseConnection()

    def finish(self) -> None:
        """Close now if the connection is idle, else after the reply under way."""
        self.persistent = 0
        if not self.requests:
            self.loseConnection()
        elif self.standing is Standing.STREAMING:
            self.requests[0].end_stream()


def _socket_of(transport: Any) -> socket.socket | None:
    """The socket under a connection, which may be wrapped in TLS."""
    while transport is not None:
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        if isinstance(handle, socket.socket):
            return handle
        transport = getattr(transport, "transport", None)
    return None


class ControlSite(http.HTTPFactory):
    """Makes the connections of the control channel.  It writes no access log."""

    protocol = ControlChannel  # type: ignore[assignment]
    noisy = False

    def __init__(self, actions: Actions, control: Control, reactor: Any = None) -> None:
        super().__init__(timeout=_HEAD, reactor=reactor)
        self.actions = actions
        self.gate = Gate(control.tokens, control.networks, self.reactor.seconds)
        self.dashboard = Dashboard(self.gate.has_tokens)
        self.refusals = Refusals(self.reactor.seconds)
        self.room = Room()

    def buildProtocol(self, addr: Any) -> Any:
        """A connection.  ``None``, which closes it, if there is no room and every other one is
        busy."""
        return super().buildProtocol(addr) if self.room.make_room() else None

    def startFactory(self) -> None:
        """Nothing to open.  (twisted.web would start the clock of its access log.)"""

    def stopFactory(self) -> None:
        """Nobody listens any more: close the idle connections."""
        for guest in self.room.guests:
            guest.finish()

    def log(self, request: Any) -> None:
        """Changes are logged where they are made; questions are not."""
