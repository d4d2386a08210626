"""One request and its one reply, over as many attempts as it needs.

An exchange stands between two sides.  Downstream hands it the request's body
(:meth:`Exchange.body`, :meth:`Exchange.body_end`) and takes the reply.  Its attempts
(:mod:`slardar.http1.attempt`) speak to the servers.  The exchange decides which server
is next, keeps the body while it may be sent again, and decides whether a failure is the
end::

    pick a server -> attempt -> success -> the reply has gone downstream
         ^              |
         +--- retry? <--+--- failure -> no: downstream gets a refusal

Where the upstream hedges, a second attempt may begin while the first has no reply; see
:meth:`Exchange.hedge`.  A request for which no server has room may wait before its first
attempt (:mod:`slardar.dataplane.request_queue`).

(Longer than 500 lines: retries, hedges, the deadline and the queue decide on one state, and
each of them may be overtaken by any other.)
"""

from __future__ import annotations

from typing import Final

from slardar.http1.attempt import Attempt, AttemptOwner
from slardar.http1.forwarded import extend_forwarded
from slardar.http1.framing import chunk, last_chunk
from slardar.http1.heads import CHUNKED
from slardar.http1.interfaces import (
    Downstream,
    HookedRequest,
    PlaneBase,
    QueueBase,
    Reminder,
    SelectionBase,
)
from slardar.http1.record import BY_SERVER, DEADLINE, HEDGED, STALE, TLS
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.http1.retry import CONNECT, STATUS, TIMEOUT, may_retry
from slardar.http1.writer import request_head
from slardar.model.live import Peer

__all__ = ["Exchange"]

#: Seconds between two looks of a request that waits for room.
_WAIT_LOOK: Final = 0.25
#: Seconds that a reminder may come too early.
_MOMENT: Final = 0.0005
#: No servers; nobody changes this list.
_NOBODY: Final[list[Peer]] = []


class Exchange(AttemptOwner):
    """One request under way.  Made, then :meth:`start`-ed, once.

    It counts itself in ``plane.exchanges`` from its making to its end.
    """

    __slots__ = (
        "_attempt",
        "_before",
        "_done",
        "_hedge",
        "_next",
        "_rival",
        "_server",
        "_started",
        "_waits",
    )

    def __init__(
        self,
        plane: PlaneBase,
        downstream: Downstream,
        request: Request,
        selection: SelectionBase,
    ) -> None:
        AttemptOwner.__init__(self, plane, downstream, request, selection)
        #: The attempt under way, or the one that became a tunnel.
        self._attempt: Attempt | None = None
        #: A second one beside it, of which nothing goes downstream before it has won.
        self._rival: Attempt | None = None
        self._hedge: _Hedge | None = None
        #: It waits until a server has room.
        self._waits: _Wait | None = None
        #: The server that was tried last, and those before it: mostly one is enough.
        self._server: Peer | None = None
        self._before: list[Peer] = _NOBODY
        #: The server of the next attempt, where it had to be known beforehand.
        self._next: Peer | None = None
        #: No reply is to be expected any more: it was given, or there is none.
        self._done = False
        self._started = plane.clock.now
        if selection.deadline:
            self.ends = self._started + selection.deadline
        plane.exchanges += 1
        record = downstream.record
        if record is not None:
            record.upstream = selection.name
            if selection.decides or record.decision is not None:
                plane.note_decision(record, request, selection)

    def __repr__(self) -> str:
        return f"<Exchange {self.request!r} {self._attempt!r}>"

    # From downstream.

    def start(self) -> None:
        """Begin the first attempt; may call ``refuse`` before it returns."""
        if not self.body_ended:
            self.replay = []
        budget = self.selection.budget
        if self._started >= budget.turns:
            budget.turn(self._started)
        budget.requests += 1
        queue = self.selection.queue
        if queue is not None and queue.waiting:
            # Those who came before begin before.
            self._wait_or_refuse(queue)
            queue.room()
            return
        self._try_next(0, "")
        if self.selection.hedge_after:
            self._plan_hedge()

    def give_body(self, data: bytes, trailers: list[bytes]) -> None:
        """See :class:`slardar.http1.interfaces.ExchangeBase`."""
        self.body_ended = True
        if self.request.length == CHUNKED:
            framed = last_chunk(trailers)
            self.replay = [chunk([data]), framed] if data else [framed]
        elif data:
            self.replay = [data]

    def body(self, data: bytes) -> None:
        """Content of the request's body, in order; never empty."""
        if self.request.length == CHUNKED:
            data = chunk([data])
        self._body_bytes(data)

    def body_end(self, trailers: list[bytes]) -> None:
        """The request's body is complete."""
        self.body_ended = True
        if self.request.length == CHUNKED:
            self._body_bytes(last_chunk(trailers))
            return
        if self.ends:
            self.ends = self.plane.clock.now + self.selection.deadline
        if self._attempt is not None:
            self._attempt.body_complete()

    def _body_bytes(self, data: bytes) -> None:
        if self.ends:
            # What the client takes its time for is not the servers' to make up for.
            self.ends = self.plane.clock.now + self.selection.deadline
        replay = self.replay
        if replay is not None:
            replay.append(data)
            self.replay_size += len(data)
        full = self.replay_size > self.plane.retry_buffer
        attempt = self._attempt
        if attempt is None or attempt.channel is None:
            if full and self._waits is not None:
                self.downstream.pause_body()
            return
        if attempt.connecting:
            # Held until the connection is there; past the limit the client waits.
            if full:
                self.downstream.pause_body()
            return
        if full:
            self.replay = None
        attempt.write_body(data)

    def cancel(self) -> None:
        """The client has left: so does the request."""
        if not self._done:
            while (attempt := self._attempt) is not None:
                attempt.abandon()
                self._attempt_over(attempt, False, 0)
            self._finish()

    def pause(self) -> None:
        """The client takes no more for now: read no more from the server."""
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """The client takes more."""
        if self._attempt is not None:
            self._attempt.resume()

    @property
    def server(self) -> str:
        """The server of the last attempt, as ``host:port``; empty before the first one."""
        return "" if self._server is None else str(self._server.key)

    def tunnel_ended(self) -> None:
        """The tunnel that this exchange became is closed."""
        attempt = self._attempt
        if attempt is not None:
            self._attempt_over(attempt, False, 101)
            self._finish()

    # Attempts.

    def _tried(self) -> list[Peer]:
        """The servers that were tried, in order; the caller must not change the list."""
        return self._before if self._server is None else [*self._before, self._server]

    def _try_next(self, status: int, message: str, costs: bool = False) -> None:
        """Pick servers until one takes a connection, or none is left.

        ``status`` and ``message`` are what the attempt before met, if there was one: what
        the client is told if no other server is left.  ``costs``: the next attempt is one
        of those that the retry budget limits.
        """
        selection = self.selection
        while True:
            tried = self._tried()
            peer = self._next or selection.pick(self.request, tried)
            self._next = None
            if peer is None:
                if not status:
                    status, message = selection.refusal(self.request, bool(tried))
                    queue = selection.queue
                    if queue is not None and status == 503 and not tried:
                        self._wait_or_refuse(queue)
                        return
                break
            if costs:
                costs = False
                selection.budget.spend()
            self._before, self._server = tried, peer
            attempt = self._attempt = Attempt(self, peer)
            if self._start(attempt):
                return
            if peer.pool.shortage:
                status, message = self._out_of_resources(attempt)
                break
            # A loop and no recursion: there may be a thousand servers to refuse.
            status, message = 502, "no connection could be opened"
            self._count_failure(attempt, CONNECT, message)
            self._attempt_over(attempt, True, 0)
            if not self._may_try_again(attempt, CONNECT):
                break
        self._finish()
        self.downstream.refuse(status, message)

    def _start(self, attempt: Attempt) -> bool:
        """Send the request; False if no connection could be opened at all."""
        peer = attempt.peer
        record = self.downstream.record
        if len(self.head) == 0:
            if self.plane.sends_forwarded:
                extend_forwarded(self.request)
            tracer = self.plane.tracer
            if tracer is not None:
                # After every hook: a server gets one traceparent, whatever hooks do.
                trace = tracer.follow(self.request.lines)
                if record is not None:
                    record.trace = trace
            self.head = request_head(self.request, self.plane.new_id, peer.key)
        if record is not None:
            attempt.note = record.attempt(peer.key, self.plane.clock.late())
        return attempt.start()

    def _out_of_resources(self, attempt: Attempt) -> tuple[int, str]:
        """This machine has nothing left to connect with: no fault of the server's, and
        no other server would be reached either."""
        message = f"no connection can be opened: {attempt.peer.pool.shortage}"
        if attempt.note is not None:
            attempt.note.failure, attempt.note.error = CONNECT, message
        self._attempt_over(attempt, False, 0)
        return 503, message

    def _attempt_over(self, attempt: Attempt, failed: bool, status: int) -> None:
        """The attempt has ended without a good reply; a second one takes its place."""
        if attempt is not self._rival:
            self._attempt = self._rival
        self._rival = None
        now = self.plane.clock.now
        self.selection.finished(attempt.peer, failed, now - attempt.started, status)
        if attempt.note is not None:
            attempt.note.ended, attempt.note.status = self.plane.clock.late(), status

    def _finish(self) -> None:
        """The request is over, for this exchange."""
        self._done = True
        self._forget_hedge()
        self._wait_no_more()
        self.plane.exchanges -= 1

    # Waiting until a server has room.

    def _wait_or_refuse(self, queue: QueueBase) -> None:
        selection = self.selection
        if not queue.enter(self, selection.queue_size):
            selection.about.queue_refused += 1
            message = f"as many requests wait for upstream {selection.name} as may wait"
            self._finish()
            self.downstream.refuse(503, message)
            return
        selection.about.queued += 1
        self._waits = _Wait(self, queue, self.plane.clock.now)
        self._remind_of_wait(self._waits)

    def _remind_of_wait(self, waits: _Wait) -> None:
        now = self.plane.clock.now
        until = min(waits.since + self.selection.queue_timeout, now + _WAIT_LOOK)
        if self.ends:
            until = min(until, self.ends)
        self.plane.remind(waits, until - now)

    def _wait_no_more(self) -> None:
        waits = self._waits
        if waits is not None:
            self._waits = waits.exchange = None
            waits.queue.leave(self)
            if self.downstream.record is not None:
                self.downstream.record.queued = self.plane.clock.now - waits.since

    def begin_waiting(self, selection: SelectionBase) -> bool:
        """See :class:`slardar.http1.interfaces.WaitingExchange`."""
        self.selection = selection
        peer = selection.pick(self.request, _NOBODY)
        if peer is None:
            status, message = selection.refusal(self.request, False)
            if status == 503:
                return False
            # There is no server any more whose room could be waited for.
            self._finish()
            self.downstream.refuse(status, message)
            return True
        self._wait_no_more()
        if not selection.deadline:
            # An edit has taken it away meanwhile.
            self.ends = 0.0
        # Of the time for attempts nothing has been used yet.
        self._started = self.plane.clock.now
        self._next = peer
        self._try_next(0, "")
        if selection.hedge_after:
            self._plan_hedge()
        return True

    def look_at_wait(self) -> None:
        """It may have waited as long as it may."""
        waits, now = self._waits, self.plane.clock.now + _MOMENT
        assert waits is not None
        selection = self.selection
        if self.ends and now >= self.ends:
            status, message = 504, self._past_deadline()
        elif now >= waits.since + selection.queue_timeout:
            status = 503
            message = (
                f"no server of upstream {selection.name} had room for the request within "
                f"{selection.queue_timeout:g} seconds"
            )
        else:
            # Time alone makes room, too: a server comes back that was out for a while.
            waits.queue.room()
            self._remind_of_wait(waits)
            return
        selection.about.queue_refused += 1
        self._finish()
        self.downstream.refuse(status, message)

    def _past_deadline(self) -> str:
        return f"no reply within the {self.selection.deadline:g} seconds that the request has"

    # A second attempt beside the first.

    def _plan_hedge(self) -> None:
        request, selection = self.request, self.selection
        if (
            not self._done
            and self._waits is None
            and request.length == 0
            and request.upgrade is None
            and self.repeatable
            and selection.tries > 1
        ):
            self._hedge = _Hedge(self)
            self.plane.remind(self._hedge, selection.hedge_after)

    def _forget_hedge(self) -> None:
        if self._hedge is not None:
            # It may be kept for a while yet, and is not to keep the request.
            self._hedge.exchange = None
            self._hedge = None

    def hedge(self) -> None:
        """Send the request to a second server too, if the first has had its time and no reply
        has begun.

        The first reply wins.  If one attempt fails, the other one goes on.  If both have
        failed, it is decided as always whether there is a next one; it has no second one
        beside it.
        """
        first, selection, now = self._attempt, self.selection, self.plane.clock.now
        assert self._hedge is not None
        if first is None:
            return
        left = first.started + selection.hedge_after - now
        if left > _MOMENT:
            # The first server has failed, and another one has had less time.
            self.plane.remind(self._hedge, left)
            return
        self._forget_hedge()
        tried = self._tried()
        if first.has_begun() or len(tried) >= selection.tries or self._is_out_of_time():
            return
        if not self._affords_another():
            return
        peer = selection.pick(self.request, tried)
        if peer is None:
            return
        selection.budget.spend()
        selection.about.hedged += 1
        self._before, self._server = tried, peer
        rival = self._rival = Attempt(self, peer)
        if self._start(rival):
            return
        if peer.pool.shortage:
            self._out_of_resources(rival)
            return
        self._count_failure(rival, CONNECT, "no connection could be opened")
        self._attempt_over(rival, True, 0)

    def _cancel_other(self, winner: Attempt) -> None:
        """Close the connection of the attempt that was slower."""
        loser = self._attempt if winner is self._rival else self._rival
        assert loser is not None
        loser.abandon()
        if loser.note is not None:
            loser.note.failure, loser.note.error = HEDGED, "another server replied first"
        self._attempt_over(loser, False, 0)

    # From the attempt.

    def reply_arrived(self, attempt: Attempt, reply: Reply) -> bool:
        """See :class:`slardar.http1.attempt.AttemptOwner`."""
        selection = self.selection
        if selection.believes_hints:
            selection.hinted(attempt.peer, reply)
        if reply.status in selection.failed_statuses:
            attempt.failed = True
            if self._give_up_reply(attempt, reply.status):
                return False
        if self._rival is not None:
            self._cancel_other(attempt)
        if selection.adds_headers:
            selection.add_headers(attempt.peer, self.request, reply)
        hooked = self.hooked
        if hooked is not None and self._replaced_by_hook(attempt, hooked, reply):
            return False
        record = self.downstream.record
        if record is not None:
            record.answered_by = BY_SERVER
        return True

    def _replaced_by_hook(self, attempt: Attempt, hooked: HookedRequest, reply: Reply) -> bool:
        """Show the reply to the hooks; True if the client gets another one instead."""
        channel = attempt.channel
        assert channel is not None
        channel.queue = ""
        instead = hooked.reply(reply)
        record = self.downstream.record
        if record is not None:
            record.error, record.hook = hooked.error, hooked.hook
        if instead is None:
            return False
        attempt.replace_reply(reply)
        self.downstream.answer(*instead)
        return True

    def attempt_succeeded(self, attempt: Attempt, status: int) -> None:
        """See :class:`slardar.http1.attempt.AttemptOwner`."""
        self._attempt = None
        self._done = True
        if self._hedge is not None:
            self._forget_hedge()
        plane, selection = self.plane, self.selection
        plane.exchanges -= 1
        now = plane.clock.now
        if attempt.failed:
            selection.finished(attempt.peer, True, now - attempt.started, status)
        else:
            selection.succeeded(attempt.peer, now - attempt.started, status)
        if attempt.note is not None:
            attempt.note.ended, attempt.note.status = now, status

    def interim_arrived(self, attempt: Attempt, reply: Reply) -> None:
        """See :class:`slardar.http1.attempt.AttemptOwner`."""
        if attempt is not self._rival:
            self.downstream.interim_reply(reply)

    def switched(self, attempt: Attempt) -> None:
        """See :class:`slardar.http1.attempt.AttemptOwner`."""
        self._done = True
        record = self.downstream.record
        if record is not None:
            record.answered_by = BY_SERVER

    # Failures.

    def _give_up_reply(self, attempt: Attempt, status: int) -> bool:
        """Count a reply whose status is a failure; drop it if another server may do."""
        message = f"the server replied {status}"
        if self._rival is not None:
            # The other attempt may still get a better one.
            self._count_failure(attempt, STATUS, message)
            attempt.abandon()
            self._attempt_over(attempt, True, status)
            return True
        if self._may_try_again(attempt, STATUS, status):
            # A reply is only worth dropping while there is a server to ask instead.
            self._next = self.selection.pick(self.request, self._tried())
        self._count_failure(attempt, STATUS, message)
        if self._next is None:
            return False
        attempt.abandon()
        self._attempt_over(attempt, True, status)
        self._try_next(502, message, True)
        return True

    def attempt_failed(self, attempt: Attempt, kind: str, message: str, is_stale: bool) -> None:
        """See :class:`slardar.http1.attempt.AttemptOwner`: try again, or tell downstream."""
        peer = attempt.peer
        addresses = attempt.addresses
        again = is_stale
        if kind == CONNECT or (kind == TIMEOUT and attempt.connecting):
            # A name with several addresses is one server: all of them are its.
            addresses += 1
            again = peer.pool.other_address(addresses, attempt.mark) and not self._is_out_of_time()
        if again:
            # The server is still being tried.  (A stale connection is nobody's failure, and
            # the most common reason for a stray 502.)
            if attempt.note is not None:
                attempt.note.failure = STALE if is_stale else kind
                attempt.note.error = message
                attempt.note.ended = self.plane.clock.late()
            again_on = Attempt(self, peer, True, addresses)
            if attempt is self._rival:
                self._rival = again_on
            else:
                self._attempt = again_on
            attempt = again_on
            if self._start(attempt):
                return
            if peer.pool.shortage:
                refusal = self._out_of_resources(attempt)
                if self._attempt is not None:
                    return
                self._finish()
                self.downstream.refuse(*refusal)
                return
            kind, message = CONNECT, "no connection could be opened"
        self._count_failure(attempt, kind, message)
        if self._rival is not None:
            # The other attempt goes on.
            self._attempt_over(attempt, not attempt.blameless, 0)
            return
        may_try_again = self._may_try_again(attempt, kind)
        self._attempt_over(attempt, not attempt.blameless, 0)
        status = 504 if kind == TIMEOUT else 502
        if may_try_again:
            self._try_next(status, message, attempt.sent)
            return
        self._finish()
        if attempt.reply is None:
            self.downstream.refuse(status, message)
            return
        record = self.downstream.record
        if record is not None:
            record.error = message
        self.downstream.break_reply()

    def deadline_passed(self, attempt: Attempt) -> None:
        """See :class:`slardar.http1.attempt.AttemptOwner`: the client gets 504."""
        seconds, message = self.selection.deadline, self._past_deadline()
        last: Attempt | None = attempt
        while last is not None:
            last.abandon()
            if last.note is not None:
                last.note.failure, last.note.error = DEADLINE, message
            # A server that had less of the time than others is not to blame for its end.
            is_to_blame = self.plane.clock.now - last.started >= seconds / 2
            if is_to_blame:
                self.selection.failed(last.peer, message)
            self._attempt_over(last, is_to_blame, 0)
            last = self._attempt
        self._finish()
        self.downstream.refuse(504, message)

    def _count_failure(self, attempt: Attempt, kind: str, message: str) -> None:
        if attempt.note is not None:
            attempt.note.failure = TLS if attempt.unsealed else kind
            attempt.note.error = message
        if not attempt.blameless:
            self.selection.failed(attempt.peer, message)

    def _may_try_again(self, attempt: Attempt, kind: str, status: int = 0) -> bool:
        selection = self.selection
        if len(self._tried()) >= selection.tries or self._is_out_of_time():
            return False
        if not may_retry(
            self.request.raw_method,
            kind,
            selection.retry_on,
            sent=attempt.sent,
            replayable=self.request.length == 0 or self.replay is not None,
            replied=attempt.reply is not None,
            status=status,
        ):
            return False
        # A connection that was not made has cost no server anything.
        return not attempt.sent or self._affords_another()

    def _affords_another(self) -> bool:
        if self.selection.affords_retry():
            return True
        if self.downstream.record is not None:
            self.downstream.record.budget_exhausted = True
        return False

    def _is_out_of_time(self) -> bool:
        now = self.plane.clock.now
        if self.ends and now >= self.ends:
            return True
        limit = self.selection.try_timeout
        return limit > 0 and now - self._started >= limit


class _Hedge(Reminder):
    """Reminds an exchange that its first attempt has no reply yet."""

    __slots__ = ("exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self.exchange: Exchange | None = exchange

    def due(self) -> None:
        if self.exchange is not None:
            self.exchange.hedge()


class _Wait(Reminder):
    """Reminds an exchange that it waits for room."""

    __slots__ = ("exchange", "queue", "since")

    def __init__(self, exchange: Exchange, queue: QueueBase, since: float) -> None:
        self.exchange: Exchange | None = exchange
        self.queue = queue
        #: When it began to wait, in monotonic seconds.
        self.since = since

    def due(self) -> None:
        if self.exchange is not None:
            self.exchange.look_at_wait()
