"""One client's connection: requests in, replies out, in order.

A connection is the protocol of a client's channel.  It finds the requests in
the bytes, hands each to an exchange, and writes the exchange's reply.  Pipelined
requests wait in the buffer until the one before them is answered.

States::

    IDLE -> HEAD -> (BODY ->) WAIT -> IDLE ...      TUNNEL (another protocol)
      any of them -> LINGER -> closed

A client that does not take its replies gets no further ones: while the channel is
congested a finished request stays in WAIT, so that what waits to be sent is bounded
by one reply's end, however many requests were pipelined.

(Longer than a file should be: these states are one machine, and each is touched by
every kind of event.)
"""

from __future__ import annotations

from typing import Final

import httptools

from slardar.http1.bodies import CONTINUE, SeenBody, WaitingBody
from slardar.http1.forwarded import settle
from slardar.http1.framing import ChunkedDecoder, are_tiny, last_chunk
from slardar.http1.heads import CHUNKED, UNTIL_CLOSE, BadMessage
from slardar.http1.https import asked_host, needs_hsts
from slardar.http1.interfaces import (
    Bytes,
    ChannelBase,
    Connection,
    ExchangeBase,
    HookedRequest,
    PlaneBase,
    Step,
    request_ended,
)
from slardar.http1.own_replies import NO_REPLY, challenge_reply, error_reply
from slardar.http1.proxy_header import Ends
from slardar.http1.record import BY_HOOK, BY_SLARDAR, RequestRecord
from slardar.http1.reply import Reply
from slardar.http1.request import Request, parse_request, read_request
from slardar.http1.scan import write_reply
from slardar.http1.tls import TlsFacts
from slardar.http1.tunnel import Tunnel
from slardar.http1.writer import decision_lines, interim_head
from slardar.model.listener import UNNAMED, ListenerSpec
from slardar.model.networks import Networks, read_address

__all__ = ["ClientConnection"]

#: Looked up once: mypyc looks up names of modules that it does not compile at each use.
_write_reply: Final = write_reply

_IDLE: Final = 0
_HEAD: Final = 1
_BODY: Final = 2
_WAIT: Final = 3
_LINGER: Final = 4
_CLOSED: Final = 5

#: Up to so many bytes of a body are copied behind the head, and may wait for the end of a
#: batch; more are sent as they are.
_SMALL: Final = 8192
#: Bytes of pipelined requests read ahead before the client has to wait.
_READ_AHEAD: Final = 16384
#: Pipelined requests answered one after the other before others get their turn: a read
#: may hold a thousand of them.
_AT_ONCE: Final = 16
#: How many times ``timeouts.linger`` may pass in all while the rest of a request is read
#: over, and how many bytes of it buy a second more: whoever sends at a modem's speed is
#: no attack.  (nginx: lingering_timeout 5 s, lingering_time 30 s.)
_LINGER_TIMES: Final = 6.0
_LINGER_RATE: Final = 8192.0
#: The same for a plane that is about to stop: seconds between two pieces.
_LINGER_DRAINING: Final = 2.0
#: A client that has closed its side and is gone for good is noticed after about
#: this many seconds, doubled with each look.
_PROBE_SECONDS: Final = 1
#: The methods with which a challenge is read.
_READING: Final = (b"GET", b"HEAD")
#: RFC 9110 15.5.20.
_MISDIRECTED: Final = "the connection was not made for this host: certificates of clients differ"
_USE_HTTPS: Final = "this host is served over https"
#: How every reply begins, whatever it will be: what such a client may be sent early.
_BEGINNING: Final = b"HTTP/1.1 "


class ClientConnection(Connection):
    """The protocol of one client's channel.

    ``peer`` is the address of whoever is connected; it is set before the first request.
    """

    __slots__ = (
        "_ahead",
        "_asked",
        "_awaited",
        "_begun",
        "_believed",
        "_body",
        "_body_size",
        "_buffer",
        "_busy",
        "_checker",
        "_chunking",
        "_early",
        "_eof",
        "_exchange",
        "_head_only",
        "_held",
        "_host",
        "_keep_alive",
        "_kept",
        "_linger_ends",
        "_lingered",
        "_part",
        "_replied",
        "_request",
        "_secure",
        "_seen",
        "_silent",
        "_state",
        "_trusted",
        "_waiting",
        "listener",
        "peer",
    )

    def __init__(self, host: PlaneBase, peer: bytes, listener: ListenerSpec = UNNAMED) -> None:
        super().__init__(listener.id)
        self._host = host
        self.peer: bytes = peer
        #: The networks that were trusted when the peer was looked up, and what came of that:
        #: they, or ``None`` if the peer is in none of them.
        self._trusted: Networks | None = None
        self._believed: Networks | None = None
        #: What has accepted it.
        self.listener: ListenerSpec = listener
        #: Its requests are those of https.
        self._secure: bool = listener.tls
        self._state = _IDLE
        #: A request has come and is over.
        self._asked = False
        self._buffer = b""
        #: The head that is arriving, while its end has not come.
        self._part: bytearray | None = None
        #: The client was paused because it sent too far ahead of its replies.
        self._ahead = False
        self._exchange: ExchangeBase | None = None
        self._request: Request | None = None
        #: Bytes of body still to come, or the decoder of a chunked one.
        self._body: int | ChunkedDecoder = 0
        self._body_size = 0
        #: Where the body is gathered for hooks, before the request begins.
        self._waiting: WaitingBody | None = None
        #: What was gathered, until the exchange is there; and the trailers behind it, if
        #: that is all of the body.
        self._early: tuple[bytes, list[bytes] | None] | None = None
        #: The room that it takes as long, and what hooks are to see.
        self._kept: WaitingBody | None = None
        self._seen: SeenBody | None = None
        #: The client is paused because the origin takes no more of the body.
        self._held = False
        #: The client waits until a server asks it for the body.
        self._awaited = False
        #: Set while _heads runs, so that a reply made at once does not re-enter it.
        self._busy = False
        #: llhttp's view of a head that arrives in pieces, to refuse it early.
        self._checker: httptools.HttpRequestParser | None = None
        self._eof = False
        self._keep_alive = True
        #: The client has asked for a head only, whatever a hook may ask the server for.
        self._head_only = False
        #: How the reply under way is written: begun, in chunks, without a body.
        self._replied = False
        #: Bytes of the reply's status line that went out to see whether the client is there.
        self._begun = 0
        self._chunking = False
        self._silent = False
        #: Bytes that were read over, and until when that may go on.
        self._lingered = 0
        self._linger_ends = 0.0

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer!r} state={self._state}>"

    def attach(self, channel: ChannelBase) -> None:
        """Begin on ``channel``: the first head must come within its time."""
        self.channel = channel
        channel.send_timeout = self._host.send_timeout
        channel.wait(self._host.client_header_timeout)

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, no byte of one has come, and no reply waits
        to be sent."""
        return self._state == _IDLE and not self.channel.unsent

    @property
    def is_fresh(self) -> bool:
        """Whether no request has been over yet."""
        return not self._asked

    def close(self, reason: str = "slardar closed the connection") -> None:
        """End the connection now; a request under way is given up, for this reason."""
        if self._state != _CLOSED:
            self._state = _CLOSED
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.cancel()
            self._let_body_go()
            self._request_over(reason)
            if self._begun:
                # The beginning of a reply must not be taken for one.
                self.channel.abort()
            else:
                self.channel.close()
            self._host.closed(self)

    # From the channel.

    def received(self, channel: ChannelBase, data: Bytes) -> None:
        """Bytes from the client."""
        state = self._state
        if state in (_LINGER, _CLOSED):
            self._read_over(len(data))
            return
        # A channel that is not eager reads bytes.
        assert isinstance(data, bytes)
        if state == _IDLE:
            self._heads(data)
        elif state == _HEAD:
            self._head_goes_on(data)
        elif state == _BODY and (self._exchange is not None or self._waiting is not None):
            self._body_arrived(data)
        else:
            self._buffer += data
            if len(self._buffer) >= _READ_AHEAD:
                self._ahead = True
                channel.pause()

    def ended(self, channel: ChannelBase) -> None:
        """The client will send no more; it may still read (RFC 9112 9.6)."""
        self._eof = True
        state = self._state
        if state == _HEAD:
            self._refuse(400, "the connection ended within the head of a request")
        elif state == _BODY:
            # Where neither is there yet, the whole body may be in the buffer.
            if self._exchange is not None or self._waiting is not None:
                self._give_up(400, "the connection ended within the body of the request")
        elif state == _WAIT:
            # Half-closed, or gone?  Both look the same until something is written: the
            # kernel of a client that has left answers keep-alive probes for a minute,
            # but bytes with a reset.
            channel.probe(idle=_PROBE_SECONDS)
            if not self._replied:
                channel.wait(_PROBE_SECONDS)
        else:
            self._leave()

    def lost(self, channel: ChannelBase, message: str) -> None:
        """The connection broke: the client is gone, and so is what it asked for."""
        self.close("the client closed the connection")

    def drained(self, channel: ChannelBase) -> None:
        """The client takes more of the reply."""
        self._set_deadline()
        if self._exchange is not None:
            self._exchange.resume()
        elif self._state == _WAIT:
            self._reply_finished()

    def late(self, channel: ChannelBase) -> None:
        """The deadline of the state we are in has passed."""
        if self._state == _IDLE:
            self._leave()
        elif channel.congested or self._state == _LINGER:
            self.close("the client did not take the reply in time")
        elif self._state == _HEAD:
            self._refuse(408, "the request did not arrive in time")
        elif self._state == _BODY:
            if self._exchange is None and self._waiting is None:
                # It waits for hooks or for names, and may be paused: begun() goes on.
                return
            self._give_up(408, "the body of the request did not arrive in time")
        elif self._eof and not self._replied:
            self._look_whether_gone()
        else:
            # WAIT: what is left of a reply was not taken in time.
            self.close("the client did not take the reply in time")

    def _look_whether_gone(self) -> None:
        """Send the next byte that every reply begins with to a client that has ended its
        side: if it is gone the connection is lost by that, and else nothing is.

        Not where a hook may still decide that there is no reply at all.
        """
        begun, exchange = self._begun, self._exchange
        if exchange is None or exchange.hooked is not None:
            return
        if begun < len(_BEGINNING):
            self.channel.write(_BEGINNING[begun : begun + 1])
            self._begun = begun + 1
            if self.record is not None:
                self.record.bytes_out += 1
            self.channel.wait(_PROBE_SECONDS << begun + 1)

    def _set_deadline(self) -> None:
        host, channel, state = self._host, self.channel, self._state
        if channel.congested:
            channel.wait(host.send_timeout)
        elif state == _WAIT:
            channel.deadline = 0.0
        elif state == _IDLE:
            channel.wait(host.keepalive_timeout)
        elif state == _HEAD:
            channel.wait(host.client_header_timeout)
        elif state == _BODY:
            channel.deadline = (
                0.0 if self._held or self._awaited else host.clock.now + host.client_body_timeout
            )
        elif state == _LINGER:
            # Its time begins when our side has ended; until then it is a slow reader.
            if channel.unsent:
                channel.wait(host.send_timeout)
            else:
                self._set_linger_deadline(host.clock.now)

    def _set_linger_deadline(self, now: float) -> None:
        seconds = self._host.linger_timeout
        if not self._linger_ends:
            self._linger_ends = now + _LINGER_TIMES * seconds
        if self._host.draining:
            seconds = min(seconds, _LINGER_DRAINING)
        self.channel.deadline = min(
            now + seconds, self._linger_ends + self._lingered / _LINGER_RATE
        )

    # Heads.

    def _heads(self, data: bytes) -> None:
        """Begin the requests in ``data`` until one has to be waited for."""
        self._busy = True
        host = self._host
        answered = 0
        while True:
            request = read_request(data, host.max_head, host.max_headers, host.max_url)
            if request is not None:
                end = len(request.head)
            else:
                end = data.find(b"\r\n\r\n")
                if end < 4 or data[0] <= 13:
                    # No end yet, or blank lines before the request line, which a server
                    # skips (RFC 9112 2.2).
                    data = data.lstrip(b"\r\n")
                    end = data.find(b"\r\n\r\n")
                    if end < 0:
                        self._incomplete(data)
                        break
                end += 4
                if end > host.max_head:
                    self._too_large(data)
                    break
                try:
                    request = parse_request(data[:end], host.max_headers, host.max_url)
                except BadMessage as error:
                    self._refuse(error.status, error.message)
                    break
            if self._checker is not None:
                self._checker = None
            self._buffer = b"" if end == len(data) else data[end:]
            self._begin(request)
            if self._state != _IDLE or not self._buffer:
                break
            answered += 1
            if answered >= _AT_ONCE and self.channel.put_off(_GoOn(self), request.host):
                # As if the last one were not answered yet.
                self._state = _WAIT
                break
            data, self._buffer = self._buffer, b""
        self._busy = False
        if (
            self._ahead
            and len(self._buffer) < _READ_AHEAD
            and (self._state in (_IDLE, _WAIT) or self._waiting is not None)
        ):
            self._ahead = False
            self.channel.resume()

    def _incomplete(self, data: bytes) -> None:
        """The head has not ended: hold what has come of it, unless it cannot become one."""
        self.channel.resume()
        if not data:
            self._state = _IDLE
            return
        self._state = _HEAD
        self.channel.wait(self._host.client_header_timeout)
        self._part = bytearray(data)
        self._check_part(data)

    def _head_goes_on(self, data: bytes) -> None:
        """More of a head has come.  Each byte is looked at once, however small the pieces."""
        part = self._part
        assert part is not None
        searched = max(0, len(part) - 3)
        part += data
        if part.find(b"\r\n\r\n", searched) < 0:
            self._check_part(data)
        else:
            self._part = None
            self._heads(bytes(part))

    def _check_part(self, data: bytes) -> None:
        """Refuse what is no HTTP as soon as that can be seen, as ``data`` has come: what never
        ends would else wait for the timeout."""
        part = self._part
        assert part is not None
        if len(part) > self._host.max_head:
            self._too_large(bytes(part))
            return
        if self._checker is None:
            self._checker = httptools.HttpRequestParser(_NOTHING)
        try:
            self._checker.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            if len(part) > 64 or b"\r\n" in part or not part.split(b" ")[0].isalpha():
                self._refuse_head(bytes(part))
        except httptools.HttpParserError:
            self._refuse_head(bytes(part))

    def _refuse_head(self, data: bytes) -> None:
        """Refuse a head that has not ended, with the status it would get at its end."""
        try:
            parse_request(data.split(b"\r\n", 1)[0] + b"\r\nHost: x\r\n\r\n")
        except BadMessage as error:
            self._refuse(error.status, error.message)
        else:
            self._refuse(400, "the request is malformed")

    def _too_large(self, data: bytes) -> None:
        line_end = data.find(b"\r\n")
        if line_end < 0 or line_end > self._host.max_url + 64:
            self._refuse(414, "the request target is too long")
        else:
            self._refuse(431, "the head of the request is too large")

    def _begin(self, request: Request) -> None:
        host = self._host
        request.peer = request.address = self.peer
        if self._secure:
            request.scheme = b"https"
        if request.told is not None:
            self._settle(request)
        self._request = request
        if host.observer is not None:
            spares = host.spare_records
            if spares:
                record = self.record = spares.pop()
                record.begin(request.address, request, host.clock.now, self.listener_id)
            else:
                self.record = RequestRecord(
                    request.address, request, host.clock.now, self.listener_id
                )
            if request.explain is not None and self.record is not None:
                host.ask_decision(self.record, request.explain)
        self._keep_alive = request.keep_alive
        self._head_only = request.raw_method == b"HEAD"
        self._replied = self._chunking = self._silent = False
        channel = self.channel
        misdirected = channel.tls is not None and self._take_tls(request, channel.tls)
        length = request.length
        if not length:
            self._state = _WAIT
            channel.deadline = 0.0
            if host.challenges is not None and request.raw_uri in host.challenges:
                self._answer_challenge(request, host.challenges[request.raw_uri])
                return
            if host.redirects and self._redirect(request):
                return
            if misdirected:
                self.refuse(421, _MISDIRECTED)
                return
            exchange = self._exchange = host.begin(self, request, channel)
            if exchange is not None:
                exchange.start()
            return
        self._state = _BODY
        self._body = ChunkedDecoder(400) if length == CHUNKED else length
        self._body_size = 0
        self._held = self._awaited = False
        if host.redirects and self._redirect(request):
            return
        if misdirected:
            self.refuse(421, _MISDIRECTED)
            return
        if length > host.max_body:
            self.refuse(413, "the body of the request is too large")
            return
        self.channel.wait(host.client_body_timeout)
        waiting = host.wait_for_body(self, request)
        if waiting is None:
            # Where hooks see the request later, what comes of the body waits in the buffer.
            exchange = host.begin(self, request, self.channel)
            if exchange is not None:
                self._start(exchange)
        elif waiting.is_large:
            self._begin_with(request, SeenBody(None))
        else:
            self._waiting = waiting
            if request.expects and not self._buffer:
                # The client waits too, and no server is chosen that could tell it to go on.
                request.expects = False
                self.channel.write(CONTINUE)
                if self.record is not None:
                    self.record.bytes_out += len(CONTINUE)
        if self._state == _BODY and (self._exchange is not None or self._waiting is not None):
            data, self._buffer = self._buffer, b""
            if data:
                self._body_arrived(data)

    def _answer_challenge(self, request: Request, text: bytes) -> None:
        """Answer a CA that asks by HTTP-01 whose the name is (RFC 8555 8.3).

        Neither routes nor hooks have a say: else a name could not get its certificate.
        """
        if self.record is not None:
            self.record.answered_by = BY_SLARDAR
        if request.raw_method in _READING:
            self.start_reply(challenge_reply(text), text, True)
        else:
            self.refuse(405, "a challenge is only read")

    def _redirect(self, request: Request) -> bool:
        """Send a request that has come without TLS to https, if its host is served there.

        A trusted proxy may have spoken TLS with the client.
        """
        host = self._host
        if (
            self.channel.tls is not None
            or request.forwarded_proto == b"https"
            or not host.is_for_tls(request.host)
        ):
            return False
        came_to = 0 if self.listener.proxy_protocol else self.ends().local_port
        place = host.https_place(request, came_to)
        reply, body = host.own_reply(self, request, 308, _USE_HTTPS, None, None)
        reply.add_header_lines([b"Location: " + place])
        if self._state == _BODY:
            self._skip_body()
        self.start_reply(reply, body, True)
        return True

    def _take_tls(self, request: Request, tls: TlsFacts) -> bool:
        """Tell the request of its connection's TLS; True if it is not for this connection."""
        request.take_tls(tls)
        host = request.host
        return tls.name != host and self._host.is_misdirected(tls, host, self.listener)

    def _settle(self, request: Request) -> None:
        """Settle what is believed of what the request tells of its client."""
        trusted = self._host.trusted
        if trusted is not self._trusted:
            self._trusted = trusted
            self._believed = trusted if trusted.have(read_address(self.peer)) else None
        settle(request, self._believed)

    def ends(self) -> Ends:
        """See the base."""
        return self.channel.both_ends()

    def waits_for(self, request: Request) -> bool:
        """From the host: whether this request's exchange is still wanted."""
        return self._request is request and self._exchange is None and self._state in (_WAIT, _BODY)

    def begun(self, exchange: ExchangeBase) -> None:
        """From the host: the exchange that it made later."""
        self._start(exchange)
        if self._state == _BODY:
            self._set_deadline()
            data, self._buffer = self._buffer, b""
            if self._ahead:
                self._ahead = False
                if not self._held:
                    self.channel.resume()
            if data:
                self._body_arrived(data)
            if self._eof:
                self._ended_before()

    def _start(self, exchange: ExchangeBase) -> None:
        """Start the exchange, with what has come of the body while hooks waited for it."""
        self._exchange = exchange
        if self._state == _BODY and exchange.request.expects:
            # It is the server's turn to say something, whose time the exchange keeps.
            self._awaited = True
            self.channel.deadline = 0.0
        early = self._early
        if early is None:
            exchange.start()
            return
        self._let_body_go()
        content, trailers = early
        if trailers is None:
            exchange.start()
            if self._exchange is exchange and not exchange.body_ended:
                exchange.body(content)
        else:
            if not exchange.body_ended:
                exchange.give_body(content, trailers)
                exchange.given = len(content)
            exchange.start()

    def go_on(self) -> None:
        """Begin the requests that have come, as many were answered at once."""
        if self._state == _WAIT and self._request is None:
            self._reply_finished()

    # The request's body.

    def _body_arrived(self, data: bytes) -> None:
        request, body = self._request, self._body
        self._awaited = False
        self.channel.wait(self._host.client_body_timeout)
        if isinstance(body, int):
            if len(data) > body:
                data, self._buffer = data[:body], data[body:]
            self._body = body = body - len(data)
            if self.record is not None:
                self.record.bytes_in += len(data)
            self._content(data)
            if not body and self._state == _BODY:
                self._body_done([])
            return
        try:
            pieces = body.feed(data)
        except BadMessage as error:
            self._give_up(error.status, error.message)
            return
        self.channel.bulk = are_tiny(pieces, len(data))
        content = b"".join(pieces)
        self._body_size += len(content)
        if self.record is not None:
            self.record.bytes_in += len(content)
        if self._body_size > self._host.max_body:
            self._give_up(413, "the body of the request is too large")
            return
        if content:
            self._content(content)
        # A hook may have answered, and a next request have begun.
        if body.done and self._state == _BODY and self._request is request:
            self._buffer = body.rest
            self._body_done(body.trailers)

    def _content(self, data: bytes) -> None:
        """Hand on some of the body; not where a hook has put another one in its place."""
        waiting, request = self._waiting, self._request
        if waiting is not None and request is not None:
            waiting.add(data)
            if not waiting.is_large:
                return
            # Hooks do not get so much: the request begins with what has come.
            request.expects = False
            self._early = (self._take_body(), None)
            self._begin_with(request, SeenBody(None))
            return
        exchange = self._exchange
        if exchange is not None and not exchange.body_ended:
            exchange.body(data)

    def _body_done(self, trailers: list[bytes]) -> None:
        self._state = _WAIT
        self._body = 0
        self.channel.bulk = False
        self.channel.resume()
        self._set_deadline()
        exchange, request = self._exchange, self._request
        if self._waiting is not None and request is not None:
            self._begin_whole(request, self._take_body(), trailers)
        elif self._early is not None:
            # Hooks have not seen the request yet.
            self._early = (self._early[0], trailers)
        elif exchange is not None and not exchange.body_ended:
            exchange.body_end(trailers)

    # A body that hooks may read.

    def _begin_with(self, request: Request, body: SeenBody) -> None:
        """Begin a request whose body hooks may read, as far as it is in ``body``."""
        self._seen = body
        exchange = self._host.begin_with(self, request, body, self.channel)
        if exchange is not None:
            self._start(exchange)

    def _begin_whole(self, request: Request, data: bytes, trailers: list[bytes]) -> None:
        """Begin a request whose body is here."""
        request.expects = False
        if not trailers:
            # A length is more than chunks: some servers know only the one.
            request.length = len(data)
        self._early = (data, trailers)
        self._begin_with(request, SeenBody(data))

    def _take_body(self) -> bytes:
        """What has come of a body that was gathered; it takes its room until hooks have
        seen the request."""
        waiting = self._kept = self._waiting
        self._waiting = None
        return b"" if waiting is None else waiting.take()

    def _let_body_go(self) -> None:
        """What was gathered of a body is somebody else's by now, or nobody's."""
        if self._waiting is not None:
            self._waiting.end()
        if self._kept is not None:
            self._kept.end()
        self._waiting = self._kept = self._early = self._seen = None

    def give_up_body(self) -> None:
        """There is no room any more: others wait, too, and this has waited longest."""
        if self._seen is not None:
            # Its turn with the hooks may be long in coming.
            self._seen.data = None
        self._give_up(503, "the request waited too long: other bodies need the room")

    @property
    def held(self) -> int:
        """Bytes that are kept for this client, besides those that take room as waiting
        bodies: what it has sent too early, and a body that goes to a server as a whole."""
        exchange, part = self._exchange, self._part
        return (
            len(self._buffer)
            + (0 if part is None else len(part))
            + (0 if exchange is None else exchange.given)
        )

    def pause_body(self) -> None:
        """From the exchange: the origin takes no more for now."""
        if self._state == _BODY:
            self._held = True
            self.channel.pause()
            self._set_deadline()

    def resume_body(self) -> None:
        """From the exchange: the origin takes more."""
        if self._state == _BODY:
            # Also one that was paused because it had sent too far ahead.
            self.channel.resume()
            if self._held:
                self._held = False
                self._set_deadline()

    # The reply, from the exchange.

    def start_reply(self, reply: Reply, data: bytes, done: bool, start: int = 0) -> None:
        """Write the final head and what there is of the body."""
        request, channel, status = self._request, self.channel, reply.status
        assert request is not None
        length, size = reply.length, len(data) - start
        if self._state != _WAIT or self._host.draining:
            # The body of the request is not all here: nobody will want the rest.
            self._keep_alive = False
        if self._head_only or status == 304:
            self._silent = True
            length = reply.declared if reply.declared >= 0 else UNTIL_CLOSE
        elif status == 204:
            self._silent = True
            length = UNTIL_CLOSE
        elif length < 0:
            if done:
                length = size
            elif request.minor:
                self._chunking = True
                length = CHUNKED
            else:
                # HTTP/1.0 knows no chunks: the end of the connection is the end.
                self._keep_alive = False
                length = UNTIL_CLOSE
        # Each of these lines stands before those that are found above it.
        more = b""
        # RFC 9112 9.3: silence means the opposite in 1.0 and 1.1.
        if not self._keep_alive:
            more = b"\r\nConnection: close"
        elif not request.minor:
            more = b"\r\nConnection: keep-alive"
        if status == 426 and reply.upgrade is not None:
            # RFC 9110 15.5.22, 7.8: it says to what, and that this is the connection's.
            more = b"\r\nConnection: Upgrade\r\nUpgrade: " + reply.upgrade + more
        if (
            channel.tls is not None
            and self._host.hsts
            and needs_hsts(reply.block(), self._host, asked_host(request))
        ):
            more = b"\r\n" + self._host.hsts + more
        self._replied = True
        record = self.record
        if record is not None:
            record.status = reply.client_status()
            if record.decision is not None:
                kept = decision_lines(reply.lines, record.decision)
                more += b"\r\n" + kept.pop()
                reply.lines[1:] = kept
        if self._silent:
            size = 0
        elif self._chunking and size:
            data = b"%x\r\n%b\r\n" % (size, data[start:])
            start, size = 0, len(data)
        is_small = size <= _SMALL
        head = _write_reply(reply.block(), length, more, data, size if is_small else 0)
        if self._begun:
            head = head[self._begun :]
            self._begun = 0
        if is_small:
            channel.write_soon(head)
        else:
            channel.write_both(head, data[start:])
        if record is not None:
            record.bytes_out += len(head) + (0 if is_small else size)
        if done:
            self._reply_finished()
        elif channel.congested and self._exchange is not None:
            channel.wait(self._host.send_timeout)
            self._exchange.pause()

    def reply_body(self, data: Bytes) -> None:
        """Write more of the body."""
        if self._silent or not data:
            return
        channel = self.channel
        if self._chunking:
            data = b"%x\r\n%b\r\n" % (len(data), data)  # type: ignore[str-format]
        if self.record is not None:
            self.record.bytes_out += len(data)
        if len(data) > _SMALL or not isinstance(data, bytes):
            channel.write(data)
        else:
            channel.write_soon(data)
        if channel.congested and self._exchange is not None:
            channel.wait(self._host.send_timeout)
            self._exchange.pause()

    def sink(self) -> ChannelBase | None:
        """Where the body may go as it is: not into chunks, and not where none is wanted."""
        return None if self._chunking or self._silent else self.channel

    def body_relayed(self, size: int) -> None:
        """So many bytes of the body went straight to the client."""
        channel = self.channel
        if self.record is not None:
            self.record.bytes_out += size
        if channel.congested and self._exchange is not None:
            channel.wait(self._host.send_timeout)
            self._exchange.pause()

    def end_reply(self, trailers: list[bytes]) -> None:
        """The body is complete."""
        if self._chunking:
            data = last_chunk(trailers)
            if self.record is not None:
                self.record.bytes_out += len(data)
            self.channel.write_soon(data)
        self._reply_finished()

    def break_reply(self) -> None:
        """The body cannot be completed: end in a way that nobody takes for an end."""
        self._exchange = None
        self._request_over("the reply could not be completed")
        if self._chunking or (self._request is not None and self._request.minor):
            # What is missing of the chunks or of the length tells the client.
            self._end_connection()
        else:
            self.channel.abort()
            self.close()

    def interim_reply(self, reply: Reply) -> None:
        """A 1xx reply: passed on, but not to a client that cannot know it."""
        if self._request is not None and self._request.minor:
            data = interim_head(reply)[self._begun :]
            self.channel.write(data)
            self._begun = 0
            if self.record is not None:
                self.record.bytes_out += len(data)
            if self._awaited and reply.status == 100:
                self._awaited = False
                self._set_deadline()

    def switch(self, reply: Reply, origin: ChannelBase, data: bytes) -> None:
        """Become a tunnel."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        channel, rest, host = self.channel, self._buffer, self._host
        self._state = _CLOSED
        if self.record is not None and self.record.decision is not None:
            reply.lines[1:] = decision_lines(reply.lines, self.record.decision)
        sent = (interim_head(reply) + data)[self._begun :]
        channel.write(sent)
        if rest:
            origin.write(rest)
        record, self.record = self.record, None
        if record is not None:
            record.status = reply.status
            record.bytes_out += len(sent)
            record.bytes_in += len(rest)
        tunnel = Tunnel(channel, origin, host, exchange, record)
        host.tunnel(tunnel)
        host.closed(self)
        if self._eof:
            tunnel.ended(channel)

    def refuse(self, status: int, message: str, hooked: HookedRequest | None = None) -> None:
        """No reply came from a server: make one."""
        exchange, self._exchange = self._exchange, None
        self._let_body_go()
        request = self._request
        assert request is not None
        reply, body = self._host.own_reply(self, request, status, message, exchange, hooked)
        if reply.status == NO_REPLY:
            # A hook has seen it, and wants none.
            self._reply_nothing()
        else:
            self.start_reply(reply, body, True)

    def answer(self, reply: Reply, body: bytes) -> None:
        """A hook has made the reply; with the status 444 there is none."""
        self._exchange = None
        self._let_body_go()
        if self.record is not None:
            self.record.answered_by = BY_HOOK
        if reply.status == NO_REPLY:
            self._reply_nothing()
            return
        if self._state == _BODY:
            self._skip_body()
        self.start_reply(reply, body, True)

    def _reply_nothing(self) -> None:
        """A hook wants no reply: the connection closes."""
        if self.record is not None:
            self.record.status = NO_REPLY
        self._request_over()
        if self._begun or (self._state == _BODY and not self.channel.unsent):
            # Nothing is on its way that reading over the body would save.
            self.close()
        else:
            self._leave()

    def _skip_body(self) -> None:
        """Read over a body that nobody wants, if it is all here: the connection goes on."""
        body, data = self._body, self._buffer
        if isinstance(body, int):
            if len(data) < body:
                return
            rest = data[body:]
        else:
            try:
                body.feed(data)
            except BadMessage:
                return
            if not body.done:
                return
            rest = body.rest
        self._buffer = rest
        self._body = 0
        self._state = _WAIT

    def refuse_plain(self) -> None:
        """From a channel for TLS: the client has begun a request without TLS."""
        self._refuse(400, "this port expects TLS: use https://")

    def _refuse(self, status: int, message: str) -> None:
        """Refuse bytes that are no request, and end the connection."""
        host = self._host
        host.refused(status)
        reply, body = error_reply(status, message)
        tls = self.channel.tls
        # The name of the handshake is all that is known of the host.
        if tls is not None and host.hsts and needs_hsts(reply.block(), host, tls.name):
            reply.add_header_lines([host.hsts])
        data = _write_reply(reply.block(), len(body), b"\r\nConnection: close", body, len(body))
        self.channel.write(data)
        if host.observer is not None:
            record = self.record = RequestRecord(self.peer, None, host.clock.now, self.listener_id)
            record.status, record.answered_by, record.error = status, BY_SLARDAR, message
            record.bytes_out = len(data)
            self._request_over()
        self._end_connection()

    def _give_up(self, status: int, message: str) -> None:
        """The rest of the body will not come: end the request, and the connection."""
        if self._exchange is not None:
            self._exchange.cancel()
        self._let_body_go()
        if self._replied:
            self.break_reply()
        else:
            self.refuse(status, message)

    # After the reply.

    def _request_over(self, error: str = "") -> None:
        """The request has ended; once more does no harm.  ``error`` says why it has broken,
        unless that is known better."""
        record, self.record = self.record, None
        if record is not None:
            record.error = record.error or error
            request_ended(self._host, record)

    def _reply_finished(self) -> None:
        self._exchange = None
        record = self.record
        if record is not None:
            self._request_over()
            record.spare(self._host.spare_records)
        if not self._keep_alive:
            if self._state == _WAIT and len(self._buffer) == 0 and not self._host.draining:
                # The client asked for the end, so it has nothing more to say, usually.
                self._leave()
            else:
                self._end_connection()
            return
        channel = self.channel
        if channel.congested:
            # Its next request is begun when it has taken this reply (see drained).
            channel.wait(self._host.send_timeout)
            return
        self._state = _IDLE
        self._asked = True
        self._request = None
        channel.wait(self._host.keepalive_timeout)
        if self._busy:
            return
        data = self._buffer
        if len(data) > 0:
            self._buffer = b""
            self._heads(data)
        if self._eof:
            self._ended_before()

    def _ended_before(self) -> None:
        """The client's end came while it waited: what is not whole now never will be."""
        if self._state == _IDLE:
            self._leave()
        elif self._state in (_HEAD, _BODY, _WAIT):
            self.ended(self.channel)

    def _leave(self) -> None:
        """Close as soon as everything is written and nothing is lost by it."""
        channel = self.channel
        self._state = _LINGER
        channel.close_when_flushed()
        if channel.closed:
            self._state = _CLOSED
            self._host.closed(self)
        else:
            channel.resume()
            self._set_deadline()

    def _end_connection(self) -> None:
        """Say goodbye in order: our side ends, theirs is read over for a while."""
        channel = self.channel
        self._buffer = b""
        self._part = None
        self._exchange = None
        if self._eof:
            self._leave()
            return
        self._state = _LINGER
        channel.finish_writing()
        # What comes is not kept, so it needs no buffer of its own.
        channel.eager = True
        channel.resume()
        self._set_deadline()

    def _read_over(self, size: int) -> None:
        """More came that nobody wants; the reply is lost if it is not read."""
        channel = self.channel
        self._lingered += size
        if self._lingered > self._host.max_linger:
            if channel.unsent:
                channel.pause()
            else:
                self.close()
        elif not channel.unsent:
            self._set_linger_deadline(self._host.clock.now)


class _GoOn(Step):
    """A client that has sent many requests at once gets its next turn."""

    __slots__ = ("_conversation",)

    def __init__(self, connection: ClientConnection) -> None:
        self._conversation = connection

    def look(self) -> None:
        """Nothing is to be seen before."""

    def go_on(self) -> None:
        self._conversation.go_on()


class _Nothing:
    """A parser's listener that wants to hear nothing."""


_NOTHING: Final = _Nothing()
