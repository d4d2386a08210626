"""A request of twisted.web's on its way through the data plane.

The second kind of downstream that an exchange may have; the first is
:class:`slardar.http1.client.ClientConnection`.  twisted.web has parsed the request
and writes the reply.  In between the rules are the same, because the request is
parsed again by slardar's own parser and answered by the same exchange.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from slardar.dataplane.router import Router
from slardar.dataplane.webheads import client_ends, peer_of, read_head, without_prefix, write_head
from slardar.http1.bodies import CONTINUE, SeenBody, WaitingBody
from slardar.http1.heads import CHUNKED, BadMessage
from slardar.http1.interfaces import (
    Bytes,
    ChannelBase,
    Downstream,
    ExchangeBase,
    HookedRequest,
    request_ended,
)
from slardar.http1.own_replies import NO_REPLY, error_reply
from slardar.http1.proxy_header import Ends
from slardar.http1.record import BY_HOOK, BY_SLARDAR, RequestRecord
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.http1.writer import interim_head

__all__ = ["WebRequest"]

#: Bytes of a body that twisted.web has read, sent at once, and how often before the
#: reactor gets its turn: a megabyte, which takes about a millisecond.
_PIECE = 65536
_PIECES_A_TURN = 16


@implementer(IPushProducer)
class WebRequest(Downstream):
    """One request of twisted.web's under way.

    ``plane`` is the data plane, ``web`` the ``twisted.web.server.Request``, and
    ``under_way`` where the requests under way are kept.  With ``streaming`` the body is
    still to come, and ``web`` is a
    :class:`slardar.web.StreamingRequest`.

    Ends once, by ``finish`` on the request, by the loss of the connection, or by
    :meth:`_break`.
    """

    def __init__(
        self, plane: Router, web: Any, under_way: set[WebRequest], streaming: bool
    ) -> None:
        super().__init__()
        self._plane = plane
        self._web = web
        self._all = under_way
        self._request: Request | None = None
        self._exchange: ExchangeBase | None = None
        self._streaming = streaming
        #: A body that twisted.web has read: its file, what is left, and why it waits.
        self._content: Any = None
        self._remaining = 0
        self._held = False
        self._pumping = False
        #: Bytes of a body that is coming; and what of it came in this turn of the reactor,
        #: for twisted.web tells each chunk alone, however small.
        self._received = 0
        #: Where such a body is gathered for hooks, before the request begins.
        self._waiting: WaitingBody | None = None
        self._upstream: str | None = None
        self._pieces: list[bytes] = []
        self._pieces_size = 0
        self._pieces_turn: Any = None
        self._keep_alive = True
        #: Whether the end of the reply is told by the connection's end alone.
        self._until_close = False
        self._producing = False
        #: Looks whether a client takes anything; runs the pump again.
        self._timer: Any = None
        self._turn: Any = None

    def begin(self, upstream: str | None, strip_prefix: bool) -> None:
        """Check the request and start its exchange; may reply before it returns."""
        plane, web = self._plane, self._web
        self._all.add(self)
        web.notifyFinish().addErrback(self._gone)
        # The plane's clock stands still between its own batches.
        plane.clock.now = time.monotonic()
        if plane.observer is not None:
            self.record = RequestRecord(peer_of(web), None, plane.clock.now)
        try:
            request = self._request = self._parsed(strip_prefix)
        except BadMessage as error:
            # What twisted.web made of it may not be what the client meant.
            self._keep_alive = False
            self.refuse(error.status, error.message)
            return
        if self.record is not None:
            self.record.begin(request.address, request, self.record.started, "")
            self.record.bytes_in += self._remaining
            if request.explain is not None:
                plane.ask_decision(self.record, request.explain)
        if web.clientproto == b"HTTP/1.1":
            # twisted.web finds "close" only where nothing else is named.
            self._keep_alive = request.keep_alive
        if plane.draining:
            self.refuse(503, "the server is about to stop")
            return
        self._upstream = upstream
        waiting = plane.wait_for_body(self, request) if request.length else None
        if waiting is None:
            self._start(request, None)
        elif not self._streaming:
            self._start_with_content(request)
        elif waiting.is_large:
            self._start(request, SeenBody(None))
        else:
            self._waiting = waiting
            if request.expects:
                request.expects = False
                web.channel.write(CONTINUE)

    def _start(self, request: Request, body: SeenBody | None, whole: bool = False) -> None:
        """Start the exchange; ``whole``: ``body`` is all of the request's."""
        if self._upstream is not None:
            exchange = self._plane.begin_on(self._upstream, self, request, body)
        elif body is not None:
            exchange = self._plane.begin_with(self, request, body)
        else:
            exchange = self._plane.begin(self, request)
        if exchange is None:
            return
        self._exchange = exchange
        if whole and body is not None and body.data is not None and not exchange.body_ended:
            exchange.give_body(body.data, [])
        if exchange.body_ended:
            # There is none, or it is here, or a hook has put another one in its place.
            self._content = None
        exchange.start()
        self._pump()

    def _start_with_content(self, request: Request) -> None:
        """Show hooks the body that twisted.web has read."""
        if self._remaining > self._plane.hook_body:
            self._start(request, SeenBody(None))
            return
        data = self._content.read(self._remaining)
        self._content = None
        request.length = len(data)
        self._start(request, SeenBody(data), whole=True)

    def _parsed(self, strip_prefix: bool) -> Request:
        """The request as slardar's parser sees it, with its body's length settled."""
        plane, web = self._plane, self._web
        request = read_head(web, plane.max_head, plane.max_headers, plane.max_url, plane.trusted)
        if strip_prefix and web.prepath and request.raw_uri[:1] == b"/":
            request.raw_uri = without_prefix(request.raw_uri, len(web.prepath))
        if self._streaming:
            declared = web.declared_length
            if request.length != (CHUNKED if declared is None else declared):
                raise BadMessage(400, "the length of the body is not clear")
        else:
            # twisted.web has asked for the body already, and has got it.
            request.expects = False
            self._take_content(request)
        if request.length > plane.max_body:
            raise BadMessage(413, "the body of the request is too large")
        return request

    def _take_content(self, request: Request) -> None:
        content = self._web.content
        content.seek(0, 2)
        size = content.tell()
        content.seek(0)
        if size > self._plane.max_body:
            raise BadMessage(413, "the body of the request is too large")
        if request.length != CHUNKED:
            # HTTP/2 need not declare it; with HTTP/1 they agree.
            request.length = size
        if request.length:
            self._content = content
            self._remaining = size

    # The request's body.

    def _pump(self) -> None:
        """Send what twisted.web has read, until the server takes no more for now."""
        if self._pumping or self._content is None or self._turn is not None:
            return
        self._pumping = True
        for _ in range(_PIECES_A_TURN):
            exchange = self._exchange
            if exchange is None or self._held:
                break
            if self._remaining:
                piece = self._content.read(_PIECE)
                self._remaining -= len(piece)
                exchange.body(piece)
            if not self._remaining:
                self._content = None
                exchange.body_end([])
                break
        else:
            self._turn = self._call_later(0, self._pump_again)
        self._pumping = False

    def _pump_again(self) -> None:
        self._turn = None
        self._pump()

    def body_arrived(self, data: bytes) -> None:
        """From a streaming request: more of the body."""
        self._received += len(data)
        if self.record is not None:
            self.record.bytes_in += len(data)
        if self._exchange is None and self._waiting is None:
            return
        if self._received > self._plane.max_body:
            self._stop_waiting()
            if self._exchange is not None:
                self._exchange.cancel()
            if self._web.startedWriting:
                self._break("the body of the request is too large")
            else:
                self.refuse(413, "the body of the request is too large")
            return
        waiting, request = self._waiting, self._request
        if waiting is not None and request is not None:
            waiting.add(data)
            if not waiting.is_large:
                return
            # Hooks do not get so much: the request begins with what has come.
            data = self._stop_waiting()
            self._start(request, SeenBody(None))
        self._pieces.append(data)
        self._pieces_size += len(data)
        if self._pieces_size >= _PIECE:
            self._send_pieces()
        elif self._pieces_turn is None:
            self._pieces_turn = self._call_later(0, self._send_pieces)

    def _send_pieces(self) -> None:
        if self._pieces_turn is not None:
            if self._pieces_turn.active():
                self._pieces_turn.cancel()
            self._pieces_turn = None
        pieces, self._pieces, self._pieces_size = self._pieces, [], 0
        if pieces and self._exchange is not None and not self._exchange.body_ended:
            self._exchange.body(b"".join(pieces))

    def body_complete(self) -> None:
        """From a streaming request: that was all of the body."""
        self._send_pieces()
        request = self._request
        if self._waiting is not None and request is not None:
            data = self._stop_waiting()
            request.length = len(data)
            self._plane.clock.now = time.monotonic()
            self._start(request, SeenBody(data), whole=True)
        elif self._exchange is not None and not self._exchange.body_ended:
            self._exchange.body_end([])

    def _stop_waiting(self) -> bytes:
        """What has come of a body that was gathered."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return b""
        data = waiting.take()
        waiting.end()
        return data

    def ends(self) -> Ends:
        """See the base."""
        return client_ends(self._web)

    def give_up_body(self) -> None:
        """There is no room any more: others wait, too, and this is the slowest."""
        self._waiting = None
        self.refuse(503, "the body of the request came too slowly")

    def pause_body(self) -> None:
        """From the exchange: the server takes no more for now."""
        if self._streaming:
            self._web.pause_body()
        else:
            self._held = True

    def resume_body(self) -> None:
        """From the exchange: the server takes more."""
        if self._streaming:
            self._web.resume_body()
        else:
            self._held = False
            self._pump()

    # The reply, from the exchange.

    def start_reply(self, reply: Reply, data: bytes, done: bool, start: int = 0) -> None:
        """Hand on the head and what there is of the body."""
        web, data = self._web, data[start:]
        if self.record is not None:
            self.record.status = reply.client_status()
            self.record.bytes_out += len(data)
        write_head(web, reply)
        headers = web.responseHeaders
        if self.record is not None and self.record.decision is not None:
            headers.setRawHeaders(b"X-Decision-Id", [self.record.decision.id.encode("ascii")])
        length = -1
        if web.method == b"HEAD" or reply.status == 304:
            length = reply.declared
        elif reply.status != 204:
            length = len(data) if done else reply.length
            self._until_close = length < 0 and web.clientproto == b"HTTP/1.0"
        if length >= 0:
            headers.setRawHeaders(b"Content-Length", [b"%d" % length])
        options = []
        if reply.status == 426 and reply.upgrade is not None and web.clientproto != b"HTTP/2":
            # RFC 9110 15.5.22, 7.8: it says to what, and that this is the connection's.
            headers.setRawHeaders(b"Upgrade", [reply.upgrade])
            options.append(b"Upgrade")
        if web.clientproto != b"HTTP/2" and (
            not self._keep_alive or (self._streaming and web.arriving)
        ):
            # Also where the body is not all here: nobody will want the rest.
            options.append(b"close")
            web.channel.persistent = False
        if options:
            headers.setRawHeaders(b"Connection", options)
        if done:
            web.write(bytes(data))
            self.end_reply([])
            return
        self._producing = True
        web.registerProducer(self, True)
        web.write(bytes(data))

    def reply_body(self, data: Bytes) -> None:
        """Hand on more of the body."""
        if self.record is not None:
            self.record.bytes_out += len(data)
        self._web.write(bytes(data))

    def end_reply(self, trailers: list[bytes]) -> None:
        """The body is complete; twisted.web has no place for trailers."""
        self._let_go()
        self._web.finish()

    def break_reply(self) -> None:
        """The body cannot be completed: end in a way that nobody takes for an end."""
        self._break("the reply could not be completed")

    def interim_reply(self, reply: Reply) -> None:
        """A 1xx reply: passed on, but not to a client that cannot know it."""
        if self._web.clientproto == b"HTTP/1.1":
            self._web.channel.write(interim_head(reply))
            if self._streaming and reply.status == 100:
                self._web.body_wanted()

    def switch(self, reply: Reply, origin: ChannelBase, data: bytes) -> None:
        """No protocol was offered, so a server that switches is in error."""
        exchange = self._exchange
        origin.close()
        if exchange is not None:
            exchange.tunnel_ended()
        self.refuse(502, "the server switched protocols without being asked")

    def refuse(self, status: int, message: str, hooked: HookedRequest | None = None) -> None:
        """No reply came from a server: make one."""
        exchange, self._exchange = self._exchange, None
        request = self._request
        if request is None:
            # It could not be read, so that nobody else has seen it.
            self._plane.refused(status)
            if self.record is not None:
                self.record.answered_by, self.record.error = BY_SLARDAR, message
            reply, body = error_reply(status, message, self._web.getHeader("accept"))
        else:
            reply, body = self._plane.own_reply(self, request, status, message, exchange, hooked)
        if reply.status == NO_REPLY:
            if self.record is not None:
                self.record.status = NO_REPLY
            self._let_go()
            self._abort()
        else:
            self.start_reply(reply, body, True)

    def answer(self, reply: Reply, body: bytes) -> None:
        """A hook has made the reply; with the status 444 there is none."""
        self._exchange = None
        if self.record is not None:
            self.record.answered_by = BY_HOOK
        if reply.status == NO_REPLY:
            if self.record is not None:
                self.record.status = NO_REPLY
            self._let_go()
            self._abort()
        else:
            self.start_reply(reply, body, True)

    # The client.

    def pauseProducing(self) -> None:
        """The client takes no more for now."""
        if self._exchange is not None:
            self._exchange.pause()
        self._watch_client()

    def resumeProducing(self) -> None:
        """The client takes more."""
        self._cancel_timer()
        if self._exchange is not None:
            self._exchange.resume()

    def stopProducing(self) -> None:
        """The client has left."""
        self._give_up("the client closed the connection")

    def _gone(self, failure: Any) -> None:
        self._give_up("the client closed the connection")

    def _give_up(self, reason: str) -> None:
        exchange = self._exchange
        self._let_go(reason)
        if exchange is not None:
            exchange.cancel()

    def cut(self) -> None:
        """The plane has stopped and will say no more of this request."""
        if self._exchange is not None:
            self._exchange.cancel()
        if self._web.startedWriting:
            self._break("the server is about to stop")
        else:
            self.refuse(503, "the server is about to stop")

    def _watch_client(self) -> None:
        """End a reply of which the client takes nothing for the plane's ``send_timeout``.

        twisted.web says that all is sent, and not that some of it is; but how much a
        transport holds can be seen to change.
        """
        seen = self._unsent()

        def look() -> None:
            self._timer = None
            if self._unsent() == seen:
                self._give_up("the client did not take the reply in time")
                self._abort()
            else:
                self._watch_client()

        self._cancel_timer()
        self._timer = self._call_later(self._plane.send_timeout, look)

    def _unsent(self) -> tuple[int, int]:
        transport = self._web.transport
        return len(getattr(transport, "dataBuffer", b"")), getattr(transport, "offset", 0)

    def _break(self, reason: str) -> None:
        channel = self._web.channel
        self._let_go(reason)
        if channel is None:
            return
        if self._until_close or self._web.clientproto == b"HTTP/2":
            self._abort()
        else:
            # What is missing of the chunks or of the length tells the client.
            channel.loseConnection()

    def _abort(self) -> None:
        """End the connection, or the stream of HTTP/2, with a reset."""
        channel = self._web.channel
        if channel is not None:
            getattr(channel, "abortConnection", self._web.transport.abortConnection)()

    def _let_go(self, error: str = "") -> None:
        """Nothing more will be said about this request; ``error`` is why it has broken."""
        self._exchange = None
        record, self.record = self.record, None
        if record is not None:
            record.error = record.error or error
            self._plane.clock.now = time.monotonic()
            request_ended(self._plane, record)
        self._content = None
        self._stop_waiting()
        self._send_pieces()
        self._all.discard(self)
        self._cancel_timer()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._producing:
            self._producing = False
            if self._web.channel is not None:
                self._web.unregisterProducer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call_later(self, seconds: float, function: Any) -> Any:
        return self._web.site.reactor.callLater(seconds, function)
