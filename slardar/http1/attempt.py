"""One try on one server: a connection, the request on it, and the framing of the reply.

An attempt is the protocol of its server's channel.  It knows nothing of other attempts:
its exchange picks the server, makes the attempt, and is told once how it ended.

The life of an attempt::

    connection from the pool -> head and body out -> reply's head in -> reply's body
             |                       |                     |                |
             +-----------------------+----- failure <------+                v
                                              |                  connection to the pool
                                              v                             |
                                       attempt_failed                attempt_succeeded

(Longer than 500 lines: these states are one machine, and every event of the channel may
meet each of them.)
"""

from __future__ import annotations

from typing import Final

from slardar.http1.framing import ChunkedDecoder, are_tiny
from slardar.http1.heads import CHUNKED, BadMessage
from slardar.http1.interfaces import (
    NAMED,
    REFUSED,
    UNSAID,
    Bytes,
    ChannelBase,
    ChannelProtocol,
    Downstream,
    PlaneBase,
    PoolBase,
    SelectionBase,
    WaitingExchange,
)
from slardar.http1.proxy_header import header_of
from slardar.http1.record import AttemptRecord
from slardar.http1.reply import Reply, ReplyCheck, parse_reply, read_reply
from slardar.http1.request import Request
from slardar.http1.retry import CONNECT, ERROR, TIMEOUT, is_idempotent
from slardar.model.live import Peer

__all__ = ["Attempt", "AttemptOwner"]

#: 1xx replies relayed from one server.  Two are usual (100, 103); a server that
#: sends them without end would otherwise hold a request for ever.
_MAX_INTERIM: Final = 16

# How far the reply is.
_HEAD: Final = 0
_LENGTH: Final = 1
_CHUNKED: Final = 2
_CLOSE: Final = 3
_DONE: Final = 4


class AttemptOwner(WaitingExchange):
    """An exchange, as its attempts see it."""

    __slots__ = (
        "continued",
        "downstream",
        "ends",
        "head",
        "plane",
        "repeatable",
        "replay",
        "replay_size",
    )

    def __init__(
        self,
        plane: PlaneBase,
        downstream: Downstream,
        request: Request,
        selection: SelectionBase,
    ) -> None:
        WaitingExchange.__init__(self, request, selection)
        self.plane: PlaneBase = plane
        self.downstream: Downstream = downstream
        #: To do it twice is as good as to do it once.
        self.repeatable: bool = is_idempotent(request.raw_method)
        #: The head that goes to every server.
        self.head: bytes = b""
        #: The body so far, framed, while it is small enough to be sent again; and the bytes
        #: of it that were ever handed over.
        self.replay: list[bytes] | None = None
        self.replay_size: int = 0
        #: Some server has told the client to send the body.
        self.continued: bool = False
        #: When the request's deadline passes, unless a reply has begun by then: monotonic
        #: seconds, 0 for never.
        self.ends: float = 0.0

    def reply_arrived(self, attempt: Attempt, reply: Reply) -> bool:
        """The head of the final reply is here; False if the client does not get it, and
        the attempt is over."""
        raise NotImplementedError

    def attempt_succeeded(self, attempt: Attempt, status: int) -> None:
        """The reply is complete, and the connection is back in its pool or closed."""
        raise NotImplementedError

    def attempt_failed(self, attempt: Attempt, kind: str, message: str, is_stale: bool) -> None:
        """The connection is closed before the reply was complete.

        ``is_stale``: the server had closed an idle connection while the request was on its
        way, which is nobody's failure.
        """
        raise NotImplementedError

    def interim_arrived(self, attempt: Attempt, reply: Reply) -> None:
        """A 1xx reply other than 101 is here."""
        raise NotImplementedError

    def deadline_passed(self, attempt: Attempt) -> None:
        """The deadline of the request has passed before its reply began."""
        raise NotImplementedError

    def switched(self, attempt: Attempt) -> None:
        """The server has answered 101: its channel becomes part of a tunnel."""
        raise NotImplementedError


class Attempt(ChannelProtocol):
    """One try on ``peer``.  Made, then :meth:`start`-ed, once.

    ``fresh`` asks for a new connection.  ``addresses`` is how many of the server's addresses
    have failed for this request.
    """

    __slots__ = (
        "_buffer",
        "_check",
        "_decoder",
        "_interims",
        "_owner",
        "_paused",
        "_remaining",
        "_reused",
        "_state",
        "_until",
        "addresses",
        "blameless",
        "channel",
        "connecting",
        "failed",
        "mark",
        "note",
        "peer",
        "reply",
        "sent",
        "started",
        "unsealed",
    )

    def __init__(
        self, owner: AttemptOwner, peer: Peer, fresh: bool = False, addresses: int = 0
    ) -> None:
        self._owner = owner
        self.peer = peer
        self.addresses = addresses
        self.channel: ChannelBase | None = None
        #: The connection is being made.
        self.connecting = False
        #: The ``mark`` of the channel, if it had to connect first.
        self.mark = 0
        #: The connection carried another request before; never with ``fresh``.
        self._reused = not fresh
        #: The handshake of TLS has failed; and it has for the name alone that the client chose,
        #: which says nothing of the server.
        self.unsealed = False
        self.blameless = False
        #: The status of the reply counts as a failure.
        self.failed = False
        #: A byte of the request was handed to the kernel.
        self.sent = False
        #: The client takes no more, so the server is not read from.
        self._paused = False
        self._state = _HEAD
        #: The head of the reply, while its end has not come.
        self._buffer: bytearray | None = None
        self._check: ReplyCheck | None = None
        #: The reply, once some of it has gone downstream.
        self.reply: Reply | None = None
        self._remaining = 0
        self._decoder: ChunkedDecoder | None = None
        self._interims = 0
        #: Where the request has a deadline: when the server must have moved by without it.
        self._until = 0.0
        self.started = owner.plane.clock.now
        #: What is told of this attempt; ``None`` where nobody observes.
        self.note: AttemptRecord | None = None

    def __repr__(self) -> str:
        return f"<Attempt on {self.peer!r} state={self._state}>"

    # From the exchange.

    def start(self) -> bool:
        """Send the request, or connect first; False if no connection could be opened at
        all, and nothing has happened."""
        owner = self._owner
        # A request that must not be sent twice looks before it uses an idle
        # connection: the server may have closed it a moment ago.
        pool: PoolBase = self.peer.pool
        channel = pool.acquire(self, not self._reused, not owner.repeatable)
        if channel is None:
            return False
        self.channel = channel
        if owner.hooked is not None:
            # Hooks see the reply, which may take long.
            channel.queue = owner.request.host
        channel.send_timeout = owner.selection.send_timeout
        if channel.connecting:
            self.connecting = True
            self.mark = channel.mark
            self._reused = False
            channel.wait(owner.selection.connect_timeout)
            if owner.ends:
                self._until = channel.deadline
                channel.deadline = min(self._until, owner.ends)
        else:
            self._send_request(channel)
        return True

    def write_body(self, data: bytes) -> None:
        """Send some of the request's body, framed; to be called once connected."""
        channel, owner = self.channel, self._owner
        if channel is None:
            return
        self.sent = channel.write(data) or self.sent
        if channel.congested or not self.has_begun():
            # A reply that has begun is not given more time by what the client sends.
            channel.deadline = self._deadline(channel)
        if channel.congested and not owner.body_ended:
            owner.downstream.pause_body()

    def body_complete(self) -> None:
        """All of the request was handed over: it is the server's turn."""
        channel = self.channel
        if channel is not None and not self.connecting:
            channel.deadline = self._deadline(channel)

    def pause(self) -> None:
        """The client takes no more for now: read no more from the server."""
        channel = self.channel
        if channel is not None:
            self._paused = True
            channel.pause()
            channel.deadline = self._deadline(channel)

    def resume(self) -> None:
        """The client takes more."""
        channel = self.channel
        if self._paused and channel is not None:
            self._paused = False
            channel.resume()
            channel.deadline = self._deadline(channel)

    def abandon(self) -> None:
        """Close the connection: nobody wants the reply any more."""
        self._state = _DONE
        channel = self.channel
        if channel is not None:
            self.channel = None
            channel.close()

    def replace_reply(self, reply: Reply) -> None:
        """A hook gives the client another reply instead of this one.

        What is left of this one belongs to nobody, so its connection goes.  The attempt is a
        success all the same.
        """
        channel = self.channel
        assert channel is not None
        reply.keep_alive = False
        self._end(channel, reply)

    # The request.

    def proxy_header(self, version: int) -> bytes:
        """See the base: it tells the client of this request, and the ends of its connection."""
        owner = self._owner
        return header_of(version, owner.downstream.ends(), owner.request.address)

    def server_name(self) -> str:
        """See the base."""
        return self._owner.request.host

    def connected(self, channel: ChannelBase) -> None:
        """The new connection is there."""
        if self.note is not None:
            self.note.connected = self._owner.plane.clock.late()
        self._send_request(channel)

    def _send_request(self, channel: ChannelBase) -> None:
        self.connecting = False
        owner = self._owner
        head = owner.head
        if owner.replay:
            head += b"".join(owner.replay)
        if owner.repeatable:
            self.sent = True
            channel.write_soon(head)
        else:
            # Whether the kernel took it decides whether it may be sent again.
            self.sent = channel.write(head)
        channel.deadline = self._deadline(channel)
        if not owner.body_ended:
            if channel.congested:
                owner.downstream.pause_body()
            else:
                owner.downstream.resume_body()

    def _deadline(self, channel: ChannelBase) -> float:
        """When the server must have moved by.

        While it takes what we write, that is ``send_timeout``; while it owes us
        something, ``read_timeout``.  It owes nothing (0) while the client's body is still
        coming or the client takes no more: the client has a deadline of its own.

        The request's deadline may come first, until the reply begins.
        """
        owner = self._owner
        if channel.congested:
            seconds = owner.selection.send_timeout
        elif not self._paused and (owner.body_ended or self._is_owed()):
            seconds = owner.selection.read_timeout
        else:
            return 0.0
        until = owner.plane.clock.now + seconds
        if owner.ends and self.reply is None:
            self._until = until
            return min(until, owner.ends)
        return until

    def _is_owed(self) -> bool:
        """Whether the server owes something before the request is complete: the rest of a
        reply that has begun, or a word to a client that waits for it to send the body."""
        if self.has_begun():
            return True
        owner = self._owner
        return owner.request.expects and not owner.continued and not owner.replay_size

    def has_begun(self) -> bool:
        """Whether some of the final reply has come."""
        return self.reply is not None or self._buffer is not None

    # From the server's channel.

    def drained(self, channel: ChannelBase) -> None:
        """What was written to the server is on its way; it takes more."""
        if self.connecting:
            return
        channel.deadline = self._deadline(channel)
        if not self._owner.body_ended:
            self._owner.downstream.resume_body()

    def received(self, channel: ChannelBase, data: Bytes) -> None:
        """Bytes of the reply; a ``memoryview``, for many, is valid during the call only."""
        owner = self._owner
        if owner.body_ended or not channel.congested:
            channel.wait(owner.selection.read_timeout)
        state = self._state
        try:
            if state == _HEAD:
                # A channel that is not eager reads bytes.
                assert isinstance(data, bytes)
                self._head_arrived(channel, data)
                if owner.ends and self._state != _DONE:
                    channel.deadline = self._deadline(channel)
            elif state == _LENGTH:
                self._length_arrived(channel, data)
            elif state == _CHUNKED:
                self._chunked_arrived(channel, bytes(data))
            elif state == _CLOSE:
                owner.downstream.reply_body(data)
        except BadMessage as error:
            self._fail(ERROR, error.message, heard=True)

    def ended(self, channel: ChannelBase) -> None:
        """The server has closed its side."""
        if self._state == _CLOSE:
            if channel.fault == UNSAID:
                self._fail(ERROR, "TLS: the server closed the connection without saying so")
                return
            self._reply_complete(channel, [])
        elif self._state == _HEAD and self._buffer is None:
            self._fail(ERROR, "the server closed the connection without a reply")
        else:
            self._fail(ERROR, "the server closed the connection within its reply")

    def lost(self, channel: ChannelBase, message: str) -> None:
        """The connection broke, or could not be made."""
        if channel.shaking:
            owner = self._owner
            self.unsealed = True
            # A name that is not that of the upstream may be any text of a stranger.
            self.blameless = channel.fault == NAMED and owner.request.host != owner.selection.name
        elif channel.fault == REFUSED:
            self.unsealed = self.connecting = True
            self.sent = False
        self._fail(CONNECT if self.connecting else ERROR, message)

    def late(self, channel: ChannelBase) -> None:
        """The channel's deadline has passed."""
        owner = self._owner
        if owner.ends and self.reply is None:
            now = owner.plane.clock.now
            if now >= owner.ends:
                self.abandon()
                owner.deadline_passed(self)
                return
            if now < self._until:
                # The client has sent more of the body, and so has put the deadline off.
                channel.deadline = min(self._until, owner.ends)
                return
        if channel.shaking:
            self.unsealed = True
            self._fail(TIMEOUT, "TLS: handshake timed out")
        elif self.connecting:
            self._fail(TIMEOUT, "the server did not accept the connection in time")
        elif channel.congested:
            self._fail(TIMEOUT, "the server did not take the request in time")
        else:
            self._fail(TIMEOUT, "the server did not reply in time")

    # The reply.

    def _head_arrived(self, channel: ChannelBase, data: bytes) -> None:
        owner = self._owner
        if self.note is not None and not self.note.first_byte:
            self.note.first_byte = owner.plane.clock.now
        held = self._buffer
        if held is not None:
            searched = max(0, len(held) - 3)
            held += data
            if held.find(b"\r\n\r\n", searched) < 0:
                self._head_goes_on(data)
                return
            data = bytes(held)
        raw_method, max_head = owner.request.raw_method, owner.plane.max_reply_head
        reply = read_reply(data, raw_method, max_head)
        if reply is None:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._head_goes_on(data)
                return
            if end > max_head:
                raise BadMessage(502, "the head of the server's reply is too large")
            reply = parse_reply(data[:end], raw_method)
        end = reply.size
        if owner.hooked is not None:
            reply.head = data[:end]
        if reply.status < 200:
            self._interim_arrived(channel, reply, data[end:])
            return
        if not owner.reply_arrived(self, reply):
            return
        self._buffer = self._check = None
        downstream = owner.downstream
        size = len(data) - end
        length = reply.length
        if length >= 0:
            if size >= length:
                # All of it is here: the common case of a small reply, one write.
                if size > length:
                    reply.keep_alive = False
                    data = data[: end + length]
                elif len(channel.read_on()) > 0:
                    reply.keep_alive = False
                self._end(channel, reply)
                downstream.start_reply(reply, data, True, end)
                return
            self.reply = reply
            self._state = _LENGTH
            self._remaining = length - size
            downstream.start_reply(reply, data, False, end)
            if self._state == _LENGTH:
                sink = downstream.sink()
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
                if decoder.rest:
                    reply.keep_alive = False
                body = b"".join(pieces)
                self._end(channel, reply)
                downstream.start_reply(reply, body, True)
                return
            self.reply = reply
            self._state = _CHUNKED
            channel.eager = True
            downstream.start_reply(reply, b"".join(pieces), False)
            if decoder.done and self._state == _CHUNKED:
                self._chunked_complete(channel)
        else:
            self.reply = reply
            self._state = _CLOSE
            channel.eager = True
            downstream.start_reply(reply, data, False, end)

    def _head_goes_on(self, data: bytes) -> None:
        """The head has not ended with ``data``: hold it, unless it cannot become one."""
        check = self._check
        if check is None:
            check = self._check = ReplyCheck()
        check.feed(data)
        held = self._buffer
        if held is None:
            held = self._buffer = bytearray(data)
        if len(held) > self._owner.plane.max_reply_head:
            raise BadMessage(502, "the head of the server's reply is too large")

    def _interim_arrived(self, channel: ChannelBase, reply: Reply, rest: bytes) -> None:
        owner = self._owner
        if owner.selection.believes_hints:
            owner.selection.hinted(self.peer, reply)
        if reply.status == 101:
            if owner.request.upgrade is None:
                raise BadMessage(502, "the server switched protocols without being asked")
            self._state = _DONE
            self.channel = None
            channel.queue = ""
            owner.switched(self)
            owner.downstream.switch(reply, channel, rest)
            return
        self._interims += 1
        if self._interims > _MAX_INTERIM:
            raise BadMessage(502, "the server sent too many interim replies")
        self._buffer = self._check = None
        if reply.status == 100:
            owner.continued = True
        owner.interim_arrived(self, reply)
        if self._state != _HEAD:
            return
        if rest:
            self._head_arrived(channel, rest)
        elif not owner.body_ended:
            # It may owe nothing more for now.
            channel.deadline = self._deadline(channel)

    def _length_arrived(self, channel: ChannelBase, data: Bytes) -> None:
        size = len(data)
        remaining = self._remaining
        downstream = self._owner.downstream
        if size < remaining:
            self._remaining = remaining - size
            downstream.reply_body(data)
            return
        reply = self.reply
        assert reply is not None
        if size > remaining:
            reply.keep_alive = False
            data = data[:remaining]
        self._remaining = 0
        downstream.reply_body(data)
        if self._state == _LENGTH:
            self._reply_complete(channel, [])

    def relayed(self, channel: ChannelBase, size: int) -> None:
        """So much of the reply went straight to the client."""
        owner = self._owner
        if owner.body_ended or not channel.congested:
            channel.wait(owner.selection.read_timeout)
        remaining = self._remaining - size
        self._remaining = remaining
        owner.downstream.body_relayed(size if remaining >= 0 else size + remaining)
        reply = self.reply
        if remaining <= 0 and self._state == _LENGTH and reply is not None:
            if remaining < 0:
                reply.keep_alive = False
            self._reply_complete(channel, [])

    def _chunked_arrived(self, channel: ChannelBase, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        pieces = decoder.feed(data)
        channel.eager = not are_tiny(pieces, len(data))
        if pieces:
            body = b"".join(pieces) if len(pieces) > 1 else pieces[0]
            self._owner.downstream.reply_body(body)
        if decoder.done and self._state == _CHUNKED:
            self._chunked_complete(channel)

    def _chunked_complete(self, channel: ChannelBase) -> None:
        decoder, reply = self._decoder, self.reply
        assert decoder is not None
        assert reply is not None
        if decoder.rest:
            reply.keep_alive = False
        self._reply_complete(channel, decoder.trailers)

    def _reply_complete(self, channel: ChannelBase, trailers: list[bytes]) -> None:
        reply = self.reply
        assert reply is not None
        self._end(channel, reply)
        self._owner.downstream.end_reply(trailers)

    def _end(self, channel: ChannelBase, reply: Reply) -> None:
        """The server's part is over: its channel goes back to the pool, or away."""
        self._state = _DONE
        self.channel = None
        owner = self._owner
        if reply.keep_alive and owner.body_ended and not channel.congested:
            pool: PoolBase = self.peer.pool
            pool.release(channel)
        else:
            # Bytes behind the reply, a body not sent in full, or the server's wish:
            # whatever this connection brings next belongs to no request of ours.
            channel.close()
        owner.attempt_succeeded(self, reply.status)

    # Failures.

    def _fail(self, kind: str, message: str, heard: bool = False) -> None:
        """The attempt is lost; ``heard``: by something that the server said."""
        if self._state == _DONE:
            return
        owner = self._owner
        is_stale = (
            self._reused
            and kind == ERROR
            and not heard
            and self._state == _HEAD
            and self._buffer is None
            and not self._interims
            and (owner.repeatable or not self.sent)
            and (owner.request.length == 0 or owner.replay is not None)
        )
        self.abandon()
        owner.attempt_failed(self, kind, message, is_stale)
