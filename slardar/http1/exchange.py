"""One request and its one reply, over as many attempts as it needs.

An exchange stands between two sides.  Downstream hands it the request's body
(:meth:`Exchange.body`, :meth:`Exchange.body_end`) and takes the reply through the
methods of :class:`Downstream`.  The origin's channel calls it as its protocol
(``connected``, ``received``, ``ended``, ``lost``, ``drained``, ``late``).  It
never touches a socket: both sides are objects it calls.

The life of an attempt::

    pick a server -> channel from its pool -> head and body out -> reply head in
         ^                |                        |                    |
         +---- retry? <---+------ failure <--------+------ failure <----+
                                                                        v
                              channel back to the pool <- reply body -> downstream

(Longer than a file should be: an attempt's every step may fail, and what may follow
a failure depends on all the steps before it.)
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from slardar.http1.framing import ChunkedDecoder, are_tiny, chunk, last_chunk
from slardar.http1.heads import CHUNKED, BadMessage
from slardar.http1.interfaces import (
    ChannelBase,
    ChannelProtocol,
    HookedRequest,
    PlaneBase,
    PoolBase,
    SelectionBase,
)
from slardar.http1.reply import Reply, ReplyCheck, parse_reply
from slardar.http1.request import Request
from slardar.http1.retry import CONNECT, ERROR, IDEMPOTENT, STATUS, TIMEOUT, may_retry
from slardar.http1.writer import request_head
from slardar.model.live import Peer

__all__ = ["Downstream", "Exchange"]

#: 1xx replies relayed from one server.  Two are usual (100, 103); a server that
#: sends them without end would otherwise hold a request for ever.
_MAX_INTERIM: Final = 16

# What the reply is at.
_HEAD: Final = 0
_LENGTH: Final = 1
_CHUNKED: Final = 2
_CLOSE: Final = 3
_DONE: Final = 4


class Downstream(Protocol):
    """Where the request came from and the reply goes."""

    def start_reply(self, reply: Reply, data: bytes | memoryview, done: bool) -> None:
        """The final head and the first of the body; ``done`` if that is all of it."""

    def reply_body(self, data: bytes | memoryview) -> None:
        """More of the body; ``data`` is only valid during the call."""

    def end_reply(self, trailers: list[bytes]) -> None:
        """The body is complete."""

    def break_reply(self) -> None:
        """The body cannot be completed; the client must be able to tell."""

    def sink(self) -> ChannelBase | None:
        """The channel that the body may go to as it is, if there is one."""

    def body_relayed(self) -> None:
        """Some of the body went there."""

    def interim_reply(self, reply: Reply) -> None:
        """A 1xx reply other than 101."""

    def switch(self, reply: Reply, origin: Any, data: bytes) -> None:
        """101: from now on both channels are one tunnel; ``data`` came behind the head.

        Whoever takes the origin's channel calls :meth:`Exchange.tunnel_ended` once.
        """

    def refuse(self, status: int, message: str, hooked: HookedRequest | None = None) -> None:
        """No reply came; tell the client so.  ``hooked``: what hooks have made of a request
        that has no exchange, if they want to see the reply."""

    def answer(self, reply: Reply, body: bytes) -> None:
        """A hook has made the reply; the status 444 asks for none."""

    def pause_body(self) -> None:
        """The origin takes no more for now."""

    def resume_body(self) -> None:
        """The origin takes more."""


class Exchange(ChannelProtocol):
    """One request under way.  Made, then :meth:`start`-ed, once."""

    __slots__ = (
        "_addresses",
        "_attempt_started",
        "_body_ended",
        "_buffer",
        "_channel",
        "_check",
        "_connecting",
        "_continued",
        "_decoder",
        "_downstream",
        "_fresh",
        "_head",
        "_interims",
        "_next",
        "_paused",
        "_peer",
        "_remaining",
        "_replay",
        "_replay_size",
        "_reply",
        "_reused",
        "_sent",
        "_service",
        "_started",
        "_state",
        "_tried",
        "given",
        "hooked",
        "request",
        "selection",
    )

    def __init__(
        self,
        service: PlaneBase,
        downstream: Downstream,
        request: Request,
        selection: SelectionBase,
    ) -> None:
        self.request = request
        self.selection = selection
        #: Set where hooks want to see the reply.
        self.hooked: HookedRequest | None = None
        #: Bytes of a client's body that is kept as a whole; for who accounts for memory.
        self.given = 0
        self._service = service
        self._downstream = downstream
        self._head = b""
        self._channel: ChannelBase | None = None
        self._peer: Peer | None = None
        self._tried: list[Peer] = []
        self._addresses = 0
        self._fresh = False
        self._reused = False
        self._connecting = False
        #: The client takes no more, so the origin is not read from.
        self._paused = False
        #: The server of the next attempt, where it had to be known beforehand.
        self._next: Peer | None = None
        #: Whether a byte of the request was handed over in this attempt.
        self._sent = False
        #: The body so far, framed, while it is small enough to be sent again.
        self._replay: list[bytes] | None = None
        self._replay_size = 0
        self._body_ended = request.length == 0
        #: The client was told to send the body, by whichever server.
        self._continued = False
        self._state = _HEAD
        #: The head of the reply, while its end has not come.
        self._buffer: bytearray | None = None
        self._check: ReplyCheck | None = None
        self._reply: Reply | None = None
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._interims = 0
        self._started = self._attempt_started = service.clock.now

    def __repr__(self) -> str:
        return f"<Exchange {self.request!r} -> {self._peer!r} state={self._state}>"

    # From downstream.

    def start(self) -> None:
        """Begin the first attempt; may call ``refuse`` before it returns."""
        if not self._body_ended:
            self._replay = []
        self._attempt()

    def give_body(self, data: bytes, trailers: list[bytes]) -> None:
        """All of the request's body, before :meth:`start`: the head's length is its, or
        is :data:`CHUNKED`.  It is kept for every attempt, whatever its size."""
        self._body_ended = True
        if self.request.length == CHUNKED:
            framed = last_chunk(trailers)
            self._replay = [chunk([data]), framed] if data else [framed]
        elif data:
            self._replay = [data]

    def body(self, data: bytes) -> None:
        """Content of the request's body, in order; never empty."""
        if self.request.length == CHUNKED:
            data = chunk([data])
        self._body_bytes(data)

    def body_end(self, trailers: list[bytes]) -> None:
        """The request's body is complete."""
        self._body_ended = True
        if self.request.length == CHUNKED:
            self._body_bytes(last_chunk(trailers))
        elif self._channel is not None and not self._connecting:
            self._channel.deadline = self._deadline(self._channel)

    def cancel(self) -> None:
        """The client has left: so does the request."""
        if self._state != _DONE:
            self._abandon_channel()
            self._finish(failed=False)

    def pause(self) -> None:
        """The client takes no more for now: read no more from the origin."""
        channel = self._channel
        if channel is not None:
            self._paused = True
            channel.pause()
            channel.deadline = self._deadline(channel)

    def resume(self) -> None:
        """The client takes more."""
        channel = self._channel
        if self._paused and channel is not None:
            self._paused = False
            channel.resume()
            channel.deadline = self._deadline(channel)

    @property
    def body_ended(self) -> bool:
        """Whether all of the request was handed over."""
        return self._body_ended

    @property
    def server(self) -> str:
        """The server of the last attempt, as ``host:port``; empty before the first one."""
        return str(self._tried[-1].key) if self._tried else ""

    def tunnel_ended(self) -> None:
        """The tunnel that this exchange became is closed."""
        if self._peer is not None:
            self._finish_attempt(False, 101)
            self._service.exchanges -= 1

    # Attempts.

    def _attempt(self, failure: tuple[int, str] | None = None) -> None:
        """Pick servers until one takes a connection, or none is left.

        ``failure`` is what the attempt before met: what the client is told if no
        other server is left.
        """
        selection = self.selection
        while True:
            peer = self._next or selection.pick(self.request, self._tried)
            self._next = None
            if peer is None:
                status, message = failure or selection.refusal(bool(self._tried))
                break
            self._tried.append(peer)
            self._addresses = 0
            if self._attempt_on(peer, fresh=False):
                return
            if peer.pool.shortage:
                status, message = self._exhausted(peer)
                break
            # A loop and no recursion: there may be a thousand servers to refuse.
            message = "no connection could be opened"
            selection.failed(peer, message)
            self._finish_attempt(True, 0)
            failure = (502, message)
            if not self._may_try_again(CONNECT):
                status = 502
                break
        self._finish(failed=True)
        self._downstream.refuse(status, message)

    def _attempt_on(self, peer: Peer, fresh: bool) -> bool:
        """Send the request to ``peer``; False if no connection could be opened at all."""
        service = self._service
        self._peer = peer
        self._attempt_started = service.clock.now
        live = peer.live
        live.active += 1
        live.requests += 1
        self._sent = False
        self._fresh = fresh
        self._state = _HEAD
        if not self._head:
            self._head = request_head(self.request, service.new_id, peer.key)
        # A request that must not be sent twice looks before it uses an idle
        # connection: the server may have closed it a moment ago.
        pool: PoolBase = peer.pool
        channel = pool.acquire(self, fresh, self.request.raw_method not in IDEMPOTENT)
        if channel is None:
            return False
        self._channel = channel
        if self.hooked is not None:
            # Hooks see the reply, which may take long.
            channel.queue = self.request.host
        channel.send_timeout = self.selection.send_timeout
        if channel.connecting:
            self._connecting = True
            self._reused = False
            channel.deadline = service.clock.now + self.selection.connect_timeout
        else:
            self._reused = True
            self._send_request(channel)
        return True

    def _exhausted(self, peer: Peer) -> tuple[int, str]:
        """This machine has nothing left to connect with: no fault of the server's, and
        no other server would be reached either."""
        self._finish_attempt(False, 0)
        return 503, f"no connection can be opened: {peer.pool.shortage}"

    def connected(self, channel: ChannelBase) -> None:
        """The new connection is there."""
        self._send_request(channel)

    def _send_request(self, channel: ChannelBase) -> None:
        self._connecting = False
        head = self._head
        if self._replay:
            head += b"".join(self._replay)
        if self.request.raw_method in IDEMPOTENT:
            self._sent = True
            channel.write_soon(head)
        else:
            # Whether the kernel took it decides whether it may be sent again.
            self._sent = channel.write(head)
        channel.deadline = self._deadline(channel)
        if not self._body_ended:
            if channel.congested:
                self._downstream.pause_body()
            else:
                self._downstream.resume_body()

    def _body_bytes(self, data: bytes) -> None:
        replay = self._replay
        if replay is not None:
            replay.append(data)
            self._replay_size += len(data)
        full = self._replay_size > self._service.retry_buffer
        channel = self._channel
        if channel is None:
            return
        if self._connecting:
            # Held until the connection is there; past the limit the client waits.
            if full:
                self._downstream.pause_body()
            return
        if full:
            self._replay = None
        self._sent = channel.write(data) or self._sent
        if channel.congested or not self._has_begun():
            # A reply that has begun is not given more time by what the client sends.
            channel.deadline = self._deadline(channel)
        if channel.congested and not self._body_ended:
            self._downstream.pause_body()

    def _deadline(self, channel: ChannelBase) -> float:
        """When the origin must have moved by.

        While it takes what we write, that is ``send_timeout``; while it owes us
        something, ``read_timeout``.  It owes nothing (0) while the client's body is still
        coming or the client takes no more: the client has a deadline of its own.
        """
        if channel.congested:
            return self._service.clock.now + self.selection.send_timeout
        if not self._paused and (self._body_ended or self._is_owed()):
            return self._service.clock.now + self.selection.read_timeout
        return 0.0

    def _is_owed(self) -> bool:
        """Whether the server owes something before the request is complete: the rest of a
        reply that has begun, or a word to a client that waits for it to send the body."""
        if self._has_begun():
            return True
        return self.request.expects and not self._continued and not self._replay_size

    def _has_begun(self) -> bool:
        """Whether some of the final reply has come."""
        return self._reply is not None or self._buffer is not None

    # From the origin's channel.

    def drained(self, channel: ChannelBase) -> None:
        """What was written to the origin is on its way; it takes more."""
        channel.deadline = self._deadline(channel)
        if not self._body_ended:
            self._downstream.resume_body()

    def received(self, channel: ChannelBase, data: Any) -> None:
        """Bytes of the reply; a ``memoryview``, for many, is valid during the call only."""
        if self._body_ended or not channel.congested:
            channel.deadline = self._service.clock.now + self.selection.read_timeout
        state = self._state
        try:
            if state == _HEAD:
                self._head_arrived(channel, data)
            elif state == _LENGTH:
                self._length_arrived(channel, data)
            elif state == _CHUNKED:
                self._chunked_arrived(channel, bytes(data))
            elif state == _CLOSE:
                self._downstream.reply_body(data)
        except BadMessage as error:
            self._failed(ERROR, error.message, heard=True)

    def ended(self, channel: ChannelBase) -> None:
        """The origin has closed its side."""
        if self._state == _CLOSE:
            self._reply_done(channel, [])
        elif self._state == _HEAD and self._buffer is None:
            self._failed(ERROR, "the server closed the connection without a reply")
        else:
            self._failed(ERROR, "the server closed the connection within its reply")

    def lost(self, channel: ChannelBase, message: str) -> None:
        """The connection broke, or could not be made."""
        self._failed(CONNECT if self._connecting else ERROR, message)

    def late(self, channel: ChannelBase) -> None:
        """The channel's deadline has passed."""
        if self._connecting:
            self._failed(TIMEOUT, "the server did not accept the connection in time")
        elif channel.congested:
            self._failed(TIMEOUT, "the server did not take the request in time")
        else:
            self._failed(TIMEOUT, "the server did not reply in time")

    # The reply.

    def _head_arrived(self, channel: ChannelBase, data: bytes) -> None:
        service = self._service
        held = self._buffer
        if held is None:
            end = data.find(b"\r\n\r\n")
        else:
            searched = max(0, len(held) - 3)
            held += data
            end = held.find(b"\r\n\r\n", searched)
            if end >= 0:
                data = bytes(held)
        if end < 0:
            self._head_goes_on(data)
            return
        end += 4
        if end > service.max_reply_head:
            raise BadMessage(502, "the head of the server's reply is too large")
        request = self.request
        reply = parse_reply(data[:end], request.raw_method)
        status = reply.status
        if status < 200:
            self._interim_arrived(channel, reply, data[end:])
            return
        selection = self.selection
        if (
            selection.failed_statuses
            and status in selection.failed_statuses
            and self._give_up_reply(status)
        ):
            return
        if self.hooked is not None:
            channel.queue = ""
            if self._answered_by_hook(self.hooked, reply):
                return
        self._buffer = self._check = None
        size = len(data) - end
        length = reply.length
        if length >= 0:
            if size >= length:
                # All of it is here: the common case of a small reply, one write.
                self._state = _DONE
                if size > length or channel.read_on():
                    reply.keep_alive = False
                self._give_back(channel, reply)
                self._downstream.start_reply(reply, data[end : end + length], True)
                return
            self._reply = reply
            self._state = _LENGTH
            self._remaining = length - size
            self._downstream.start_reply(reply, data[end:], False)
            if self._state == _LENGTH:
                sink = self._downstream.sink()
                channel.eager = sink is None or not channel.relay(sink, self._remaining)
        elif length == CHUNKED:
            decoder = self._decoder = ChunkedDecoder(502)
            # Before anything of the reply counts as sent: if its first bytes are
            # malformed, the client still gets another server's, or a 502.
            pieces = decoder.feed(data[end:])
            if not decoder.done:
                # A reply that is here as a whole needs no chunks, see below.
                pieces += decoder.feed(channel.read_on())
            if decoder.done and not decoder.trailers:
                # The whole body is here, so its length is known.
                self._state = _DONE
                if decoder.rest:
                    reply.keep_alive = False
                body = b"".join(pieces)
                self._give_back(channel, reply)
                self._downstream.start_reply(reply, body, True)
                return
            self._reply = reply
            self._state = _CHUNKED
            channel.eager = True
            self._downstream.start_reply(reply, b"".join(pieces), False)
            if decoder.done and self._state == _CHUNKED:
                self._chunked_done(channel)
        else:
            self._reply = reply
            self._state = _CLOSE
            channel.eager = True
            self._downstream.start_reply(reply, data[end:], False)

    def _head_goes_on(self, data: bytes) -> None:
        """The head has not ended with ``data``: hold it, unless it cannot become one."""
        check = self._check
        if check is None:
            check = self._check = ReplyCheck()
        check.feed(data)
        held = self._buffer
        if held is None:
            held = self._buffer = bytearray(data)
        if len(held) > self._service.max_reply_head:
            raise BadMessage(502, "the head of the server's reply is too large")

    def _answered_by_hook(self, hooked: HookedRequest, reply: Reply) -> bool:
        """Show the reply to the hooks; True if the client gets another one instead."""
        instead = hooked.reply(reply)
        if instead is None:
            return False
        # What is left of the reply belongs to nobody, so its connection goes.  That it
        # came is the server's success all the same.
        self._state = _DONE
        reply.keep_alive = False
        channel = self._channel
        assert channel is not None
        self._give_back(channel, reply)
        self._downstream.answer(*instead)
        return True

    def _interim_arrived(self, channel: ChannelBase, reply: Reply, rest: bytes) -> None:
        if reply.status == 101:
            if self.request.upgrade is None:
                raise BadMessage(502, "the server switched protocols without being asked")
            self._state = _DONE
            self._channel = None
            channel.queue = ""
            self._downstream.switch(reply, channel, rest)
            return
        self._interims += 1
        if self._interims > _MAX_INTERIM:
            raise BadMessage(502, "the server sent too many interim replies")
        self._buffer = self._check = None
        if reply.status == 100:
            self._continued = True
        self._downstream.interim_reply(reply)
        if self._state != _HEAD:
            return
        if rest:
            self._head_arrived(channel, rest)
        elif not self._body_ended:
            # It may owe nothing more for now.
            channel.deadline = self._deadline(channel)

    def _length_arrived(self, channel: ChannelBase, data: bytes | memoryview) -> None:
        size = len(data)
        remaining = self._remaining
        if size < remaining:
            self._remaining = remaining - size
            self._downstream.reply_body(data)
            return
        reply = self._reply
        assert reply is not None
        if size > remaining:
            reply.keep_alive = False
            data = data[:remaining]
        self._remaining = 0
        self._downstream.reply_body(data)
        if self._state == _LENGTH:
            self._reply_done(channel, [])

    def relayed(self, channel: ChannelBase, size: int) -> None:
        """So much of the reply went straight to the client."""
        if self._body_ended or not channel.congested:
            channel.deadline = self._service.clock.now + self.selection.read_timeout
        remaining = self._remaining = self._remaining - size
        self._downstream.body_relayed()
        reply = self._reply
        if remaining <= 0 and self._state == _LENGTH and reply is not None:
            if remaining < 0:
                reply.keep_alive = False
            self._reply_done(channel, [])

    def _chunked_arrived(self, channel: ChannelBase, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        pieces = decoder.feed(data)
        channel.eager = not are_tiny(pieces, len(data))
        if pieces:
            self._downstream.reply_body(b"".join(pieces) if len(pieces) > 1 else pieces[0])
        if decoder.done and self._state == _CHUNKED:
            self._chunked_done(channel)

    def _chunked_done(self, channel: ChannelBase) -> None:
        decoder, reply = self._decoder, self._reply
        assert decoder is not None
        assert reply is not None
        if decoder.rest:
            reply.keep_alive = False
        self._reply_done(channel, decoder.trailers)

    def _reply_done(self, channel: ChannelBase, trailers: list[bytes]) -> None:
        reply = self._reply
        assert reply is not None
        self._state = _DONE
        self._give_back(channel, reply)
        self._downstream.end_reply(trailers)

    def _give_back(self, channel: ChannelBase, reply: Reply) -> None:
        """The origin's part is over: its channel goes back to the pool, or away."""
        self._channel = None
        peer = self._peer
        assert peer is not None
        self._peer = None
        if reply.keep_alive and self._body_ended and not channel.congested:
            pool: PoolBase = peer.pool
            pool.release(channel)
        else:
            # Bytes behind the reply, a body not sent in full, or the server's wish:
            # whatever such a connection brings next belongs to no request of ours.
            channel.close()
        service = self._service
        service.exchanges -= 1
        seconds = service.clock.now - self._attempt_started
        status = reply.status
        if status in self.selection.failed_statuses:
            self.selection.finished(peer, True, seconds, status)
        else:
            self.selection.succeeded(peer, seconds, status)

    # Failures.

    def _give_up_reply(self, status: int) -> bool:
        """Count a reply whose status is a failure; drop it if another server may do."""
        message = f"the server replied {status}"
        peer = self._peer
        assert peer is not None
        if self._may_try_again(STATUS, status):
            # A reply is only worth dropping while there is a server to ask instead.
            self._next = self.selection.pick(self.request, self._tried)
        if self._next is None:
            self.selection.failed(peer, message)
            return False
        self._failed(STATUS, message, status)
        return True

    def _may_try_again(self, kind: str, status: int = 0) -> bool:
        selection = self.selection
        if len(self._tried) >= selection.tries:
            return False
        if self._is_out_of_time():
            return False
        return may_retry(
            self.request.raw_method,
            kind,
            selection.retry_on,
            sent=self._sent,
            replayable=self.request.length == 0 or self._replay is not None,
            replied=self._reply is not None,
            status=status,
        )

    def _is_out_of_time(self) -> bool:
        limit = self.selection.try_timeout
        return limit > 0 and self._service.clock.now - self._started >= limit

    def _failed(self, kind: str, message: str, status: int = 0, heard: bool = False) -> None:
        """This attempt is lost: try another, or tell downstream.

        ``heard``: by something that the server said.
        """
        if self._state == _DONE:
            return
        self._abandon_channel()
        peer = self._peer
        assert peer is not None
        stale = (
            self._reused
            and kind == ERROR
            and not heard
            and self._state == _HEAD
            and self._buffer is None
            and not self._interims
            and not self._fresh
            and (self.request.raw_method in IDEMPOTENT or not self._sent)
            and (self.request.length == 0 or self._replay is not None)
        )
        # What is known of this server's reply must not be taken for the next one's.
        # (A reply of which something has gone to the client is the last one.)
        self._buffer = self._check = self._decoder = None
        self._interims = 0
        self._paused = False
        again = stale
        if kind == CONNECT or (kind == TIMEOUT and self._connecting):
            # A name with several addresses is one server: all of them are its.
            self._addresses += 1
            again = peer.pool.other_address(self._addresses) and not self._is_out_of_time()
        if again:
            # Stale: the server closed an idle connection while the request was on its way:
            # nobody's failure, and the most common reason for a stray 502.
            peer.live.active -= 1
            peer.live.requests -= 1
            if self._attempt_on(peer, fresh=True):
                return
            if peer.pool.shortage:
                refusal = self._exhausted(peer)
                self._finish(failed=False)
                self._downstream.refuse(*refusal)
                return
            kind, message = CONNECT, "no connection could be opened"
        self.selection.failed(peer, message)
        failure = (504 if kind == TIMEOUT else 502, message)
        if self._next is not None or self._may_try_again(kind, status):
            self._finish_attempt(True, status)
            self._attempt(failure)
            return
        replied = self._reply is not None
        self._finish(failed=True)
        if replied:
            self._downstream.break_reply()
        else:
            self._downstream.refuse(*failure)

    def _abandon_channel(self) -> None:
        channel = self._channel
        if channel is not None:
            self._channel = None
            channel.close()

    def _finish_attempt(self, failed: bool, status: int) -> None:
        peer = self._peer
        assert peer is not None
        self._peer = None
        self.selection.finished(
            peer, failed, self._service.clock.now - self._attempt_started, status
        )

    def _finish(self, failed: bool) -> None:
        self._state = _DONE
        if self._peer is not None:
            self._finish_attempt(failed, 0)
        self._service.exchanges -= 1
