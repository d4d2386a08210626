"""The borders of HTTP's logic: what it calls, and what calls it.

The logic opens no socket.  It is given a *channel* (a connection) and is itself the
channel's *protocol* (told what happens on it).  It takes channels from *pools* and asks
a *selection* which server gets a request.  An *exchange* is one request and its reply;
a *downstream* is where the request came from.  The *plane* has the rest: the time, the
limits, and the way from a request to its exchange.

These are classes and no ``typing.Protocol``: where mypyc compiles the request path, a
call or an attribute costs a tenth through a class of what it costs by name.  Whoever
implements one derives from it, compiled or not.

(Longer than 500 lines: nothing here does anything, and each border is read as a whole.)
"""

from __future__ import annotations

from typing import Final, TypeAlias

from mypy_extensions import mypyc_attr

from slardar.http1.bodies import BodyOwner, BodyRoom, SeenBody, WaitingBody
from slardar.http1.own_replies import error_reply
from slardar.http1.proxy_header import Ends
from slardar.http1.record import BY_SLARDAR, RequestRecord
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.http1.tls import TlsFacts
from slardar.http1.tracing import Tracer
from slardar.http1.writer import RequestIds
from slardar.model.budget import RetryBudget
from slardar.model.listener import ListenerSpec
from slardar.model.live import Peer, UpstreamLive, Waiters
from slardar.model.networks import Networks

__all__ = [
    "NAMED",
    "REFUSED",
    "UNSAID",
    "Bytes",
    "ChannelBase",
    "ChannelProtocol",
    "Clock",
    "Connection",
    "Downstream",
    "ExchangeBase",
    "HookedRequest",
    "HooksBase",
    "Observer",
    "PlaneBase",
    "PoolBase",
    "QueueBase",
    "Reminder",
    "SelectionBase",
    "Step",
    "TunnelBase",
    "WaitingExchange",
    "request_ended",
]


#: What may be said of the TLS of a server's channel that is over (``ChannelBase.fault``).  The
#: handshake has failed, and the failure may be only that of the name, which the client has chosen.
NAMED: Final = 1
#: The server has refused the certificate that it was shown, or that there was none.  It may say
#: so after the request was sent, of which it has read nothing.
REFUSED: Final = 2
#: The server has ended the connection, and not TLS before: somebody between may have cut it.
UNSAID: Final = 3

#: What is sent and received.
Bytes: TypeAlias = bytes | bytearray | memoryview


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock:
    """Monotonic seconds, as of the batch of events under way."""

    __slots__ = ("looked", "now")

    def __init__(self, now: float) -> None:
        self.now: float = now
        #: When somebody looked last within the batch.
        self.looked: float = 0.0

    def late(self) -> float:
        """The time as of the last look: later than ``now`` in a batch that takes long."""
        return self.looked if self.looked > self.now else self.now


@mypyc_attr(allow_interpreted_subclasses=True)
class ChannelProtocol:
    """Is told what happens on a channel; nothing after the channel's ``close``."""

    __slots__ = ()

    def connected(self, channel: ChannelBase) -> None:
        """The new connection is there; only for a channel that had to be connected."""
        raise NotImplementedError

    def received(self, channel: ChannelBase, data: Bytes) -> None:
        """Bytes came: ``bytes``, or a ``memoryview`` that is valid during the call only."""
        raise NotImplementedError

    def ended(self, channel: ChannelBase) -> None:
        """The peer has closed its side."""
        raise NotImplementedError

    def lost(self, channel: ChannelBase, message: str) -> None:
        """The connection broke, or could not be made; ``message`` is for a person."""
        raise NotImplementedError

    def drained(self, channel: ChannelBase) -> None:
        """Everything was sent, or a congested channel has room for more."""
        raise NotImplementedError

    def late(self, channel: ChannelBase) -> None:
        """The channel's deadline has passed."""
        raise NotImplementedError

    def proxy_header(self, version: int) -> bytes:
        """The PROXY protocol header with which a server's new channel begins that is for this
        protocol, as the server is told of the client."""
        raise NotImplementedError

    def server_name(self) -> str:
        """The name that a server's certificate must have, unless the configuration says it: the
        Host of the request; empty without one."""
        raise NotImplementedError

    def relayed(self, channel: ChannelBase, size: int) -> None:
        """``size`` bytes were moved to another channel; see ``ChannelBase.relay``.

        One more than ``relay`` was asked for if more came: the one too many is lost.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ChannelBase:
    """A connection.  None of its methods blocks or calls the protocol."""

    __slots__ = (
        "arriving",
        "at_end",
        "bulk",
        "closed",
        "congested",
        "connecting",
        "deadline",
        "eager",
        "ends",
        "fault",
        "introduced",
        "mark",
        "name",
        "protocol",
        "queue",
        "send_timeout",
        "shaking",
        "tls",
    )

    def __init__(self, protocol: ChannelProtocol, connecting: bool) -> None:
        #: Is told what happens.  Whoever takes the channel over puts itself here.
        self.protocol: ChannelProtocol = protocol
        #: The connection is still being made.
        self.connecting: bool = connecting
        #: When the protocol is told that the channel is late: monotonic seconds, 0 for
        #: never.  See :meth:`wait`.
        self.deadline: float = 0.0
        #: Seconds for which the peer may take nothing of what waits to be sent; nginx's
        #: send_timeout.
        self.send_timeout: float = 60.0
        #: A read takes a head and a small body, and no more.  The rest of a large body can
        #: be relayed then.
        self.bulk: bool = False
        #: A read takes much, into a buffer that all channels share: ``received`` may get a
        #: memoryview.  Before ``bulk``.
        self.eager: bool = False
        #: So much waits to be sent that whoever writes should pause.
        self.congested: bool = False
        #: The peer has closed its side.
        self.at_end: bool = False
        self.closed: bool = False
        #: Something was read that the protocol has not been told of yet.
        self.arriving: bool = False
        #: The protocol may take long over what comes next, so it is told in a step with
        #: this key (see :meth:`put_off`).  Empty: it is told at once.
        self.queue: str = ""
        #: The number that its pool gave the address to which the channel leads.
        self.mark: int = 0
        #: What is known of the handshake of TLS; ``None`` in the clear, and before its end.
        self.tls: TlsFacts | None = None
        #: On a client's channel: its two ends as a PROXY protocol header has told them;
        #: ``None``: they are the socket's.
        self.ends: Ends | None = None
        #: On a server's channel: the PROXY protocol header that it begins with.  It tells a
        #: client, and so the channel is for requests of this client alone.
        self.introduced: bytes = b""
        #: On a server's channel with TLS: the name for which the server has shown its
        #: certificate, so that the channel is for requests with this name alone.
        self.name: str = ""
        #: The connection is there, and the handshake of TLS under way.
        self.shaking: bool = False
        #: :data:`NAMED`, :data:`REFUSED` or :data:`UNSAID`, once it is so; else 0.
        self.fault: int = 0

    def both_ends(self) -> Ends:
        """The two ends of a client's connection, whoever knows them."""
        return self.ends or Ends()

    def wait(self, seconds: float) -> None:
        """Let the deadline pass in ``seconds`` from now."""
        raise NotImplementedError

    @property
    def unsent(self) -> bool:
        """Whether bytes still wait to be sent."""
        raise NotImplementedError

    def write(self, data: Bytes) -> bool:
        """Send bytes, now as far as the kernel takes them; keeps no reference to them.

        False if the connection is broken (``lost`` follows) or closed: nothing of
        them went out.
        """
        raise NotImplementedError

    def write_soon(self, data: bytes) -> None:
        """Send a few bytes by the end of the batch of events under way, else at once.

        If that breaks the connection, only ``lost`` tells it.
        """
        raise NotImplementedError

    def write_both(self, head: bytes, data: Bytes) -> None:
        """Send a head and much body behind it, without copying them together if possible.

        If that breaks the connection, only ``lost`` tells it.
        """
        raise NotImplementedError

    def relay(self, to: ChannelBase, size: int) -> bool:
        """Send the next ``size`` bytes straight to another channel, as they come.

        ``relayed`` tells of them, and not ``received``.  False if this cannot be done:
        ``received`` tells of them then.
        """
        return False

    def put_off(self, step: Step, key: str = "") -> bool:
        """Take a step later in the batch under way; False if there is none.

        If the batch has no time for the step, it waits in a queue for its key.  The queues
        take turns.
        """
        return False

    def take_later(self, step: Step, key: str) -> None:
        """Take a step in a later batch, from the queue for its key."""
        raise NotImplementedError

    def read_on(self) -> bytes:
        """What came behind the bytes that the protocol is being told of, if the read got as
        many as it asked for; else nothing."""
        return b""

    def finish_writing(self) -> None:
        """Close our side once everything is sent; go on reading."""
        raise NotImplementedError

    def pause(self) -> None:
        """Read no more until :meth:`resume`; the peer is made to wait."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read again; without effect once the peer has closed its side."""
        raise NotImplementedError

    def is_quiet(self) -> bool:
        """Whether an idle connection is still open with nothing to read."""
        raise NotImplementedError

    def probe(self, idle: int) -> None:
        """After ``idle`` quiet seconds, find out whether the peer is still there.  If it is
        gone, ``lost`` tells it about half as many seconds later."""
        raise NotImplementedError

    def close_when_flushed(self) -> None:
        """Close once everything is sent, in a way that loses nothing of it.

        Look at ``closed`` afterwards: the channel may have closed at once.  If it has not,
        it closes later by itself, which ``lost`` tells.  Where the peer may still send,
        only our side ends behind the last byte, which ``drained`` tells.  The protocol then
        ignores what comes, bounds the time by ``deadline``, and calls this method once more
        when the peer has ended its side.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close now.  If something was not sent, a reset tells the peer so."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close with a reset, so that the peer cannot take this for an end."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Step:
    """Work on a request that a batch of events does in two parts, each of them for all
    requests: the code of one part is in the processor's caches then."""

    __slots__ = ()

    def look(self) -> None:
        """The first part."""
        raise NotImplementedError

    def go_on(self) -> None:
        """The second part."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Reminder:
    """Is called some time later; see :meth:`PlaneBase.remind`."""

    __slots__ = ()

    def due(self) -> None:
        """The time has come."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class PoolBase(ChannelProtocol):
    """The connections to one server."""

    __slots__ = ("pending", "shortage")

    def __init__(self) -> None:
        #: Its name is being looked up for the first time: it gets no request before.
        self.pending: bool = False
        #: Why this machine had nothing left to connect with, the last time; empty if it
        #: had.  That is not the server's failure.
        self.shortage: str = ""

    def acquire(self, protocol: ChannelProtocol, fresh: bool, check: bool) -> ChannelBase | None:
        """A channel for ``protocol``: an idle one, or a new one that is connecting.

        ``fresh`` asks for a new one; ``check`` looks whether an idle one is still
        open before it is given away.  ``None`` if not even a socket could be made.
        """
        raise NotImplementedError

    def release(self, channel: ChannelBase) -> None:
        """Take a channel back whose request and reply are complete."""
        raise NotImplementedError

    def other_address(self, tried: int, mark: int) -> bool:
        """Prefer other addresses of the server to the one with the number ``mark``, to which a
        channel could not connect; False once all were ``tried``."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class SelectionBase:
    """An upstream of one snapshot: picks servers and is told what became of each attempt.

    It alone counts a server's ``active`` and ``requests``: :meth:`pick` counts an attempt
    in, and :meth:`succeeded` or :meth:`finished` counts it out, once.
    """

    __slots__ = (
        "about",
        "adds_headers",
        "believes_hints",
        "budget",
        "connect_timeout",
        "deadline",
        "decides",
        "failed_statuses",
        "hedge_after",
        "name",
        "queue",
        "queue_size",
        "queue_timeout",
        "read_timeout",
        "retry_on",
        "send_timeout",
        "tries",
        "try_timeout",
    )

    def __init__(self, name: str) -> None:
        self.name: str = name
        #: Attempts for one request, and the seconds after which no further one starts
        #: (0: no limit).
        self.tries: int = 1
        self.try_timeout: float = 0.0
        #: Seconds for a request over all its attempts, until its reply begins (0: no limit).
        self.deadline: float = 0.0
        #: Seconds without a reply after which an idempotent request is sent to a second
        #: server too (0: never).
        self.hedge_after: float = 0.0
        #: Where requests wait while every server has as many as it may (``None``: they are
        #: refused), how many, and for how many seconds.
        self.queue: QueueBase | None = None
        self.queue_size: int = 0
        self.queue_timeout: float = 1.0
        #: What is known of the upstream; and the counts of its requests and retries, which
        #: each request looks at.
        self.about: UpstreamLive = UpstreamLive()
        self.budget: RetryBudget = self.about.budget
        #: Seconds.
        self.connect_timeout: float = 3.0
        self.send_timeout: float = 60.0
        self.read_timeout: float = 60.0
        #: Kinds of failure after which another attempt may be made (see ``retry``).
        self.retry_on: frozenset[str] = frozenset()
        #: Statuses of replies that count as failures.
        self.failed_statuses: frozenset[int] = frozenset()
        #: Each reply is to be given to :meth:`hinted`.
        self.believes_hints: bool = False
        #: What is decided for each request is kept.
        self.decides: bool = False
        #: Whether :meth:`add_headers` is to be called.
        self.adds_headers: bool = False

    def pick(self, request: Request, tried: list[Peer]) -> Peer | None:
        """The server for an attempt, which begins with this call; ``None`` if no server
        is left."""
        raise NotImplementedError

    def hinted(self, peer: Peer, reply: Reply) -> None:
        """Heed what ``peer`` says of itself in a reply, and take it out of the reply."""
        raise NotImplementedError

    def add_headers(self, peer: Peer, request: Request, reply: Reply) -> None:
        """Add the header lines that the balancer has for the reply of ``peer``."""
        raise NotImplementedError

    def failed(self, peer: Peer, message: str) -> None:
        """An attempt on ``peer`` failed; :meth:`finished` follows."""
        raise NotImplementedError

    def succeeded(self, peer: Peer, seconds: float, status: int) -> None:
        """The attempt is over: ``peer`` gave a reply that is no failure."""
        raise NotImplementedError

    def finished(self, peer: Peer, failed: bool, seconds: float, status: int) -> None:
        """The attempt is over, without a good reply."""
        raise NotImplementedError

    def affords_retry(self) -> bool:
        """Whether the retry budget has room for an attempt that a server may have begun
        elsewhere; ``budget.spend`` follows if the attempt begins."""
        raise NotImplementedError

    def refusal(self, request: Request, tried: bool) -> tuple[int, str]:
        """Status and reason where :meth:`pick` found nothing for ``request``."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class HookedRequest:
    """What hooks have made of a request; it is changed already."""

    __slots__ = ("answer", "body", "error", "hook", "new_body", "sees_reply", "upstream")

    def __init__(self) -> None:
        #: What the client gets instead of a server's reply, and its body.  One with the
        #: status 444 is not sent: the connection closes.
        self.answer: Reply | None = None
        self.body: bytes = b""
        #: Why the reply is an error of slardar's: a hook has failed.  Empty for a reply
        #: that a hook wanted.
        self.error: str = ""
        #: The hook that has answered, or has failed, last: ``lua/script.HOST``; empty for
        #: none.
        self.hook: str = ""
        #: The upstream that a hook has chosen.
        self.upstream: str | None = None
        #: The body that a hook has given the request; its length is the request's already.
        self.new_body: bytes | None = None
        #: Hooks want to see the reply.
        self.sees_reply: bool = False

    def reply(self, reply: Reply) -> tuple[Reply, bytes] | None:
        """Let hooks see and change a server's reply before its first byte goes out.

        Answers what the client gets instead, head and body, or ``None``.
        """
        raise NotImplementedError

    def own_reply(self, reply: Reply, reason: str) -> tuple[Reply, bytes] | None:
        """The same for a reply that slardar makes itself, and why."""
        return self.reply(reply)


@mypyc_attr(allow_interpreted_subclasses=True)
class HooksBase:
    """The hooks of a data plane."""

    def sees(self, request: Request) -> bool:
        """Whether there are any for its host: where there are none, it is faster if that
        is known."""
        return True

    def request(self, request: Request) -> HookedRequest | None:
        """Let hooks see and change a request; ``None`` if there is nothing else to know.

        Never raises: what becomes of the request when a hook fails is in the answer.
        """
        raise NotImplementedError

    def reads_body(self, request: Request) -> bool:
        """Whether one of those for its host may read the request's body, which must be
        there by then: :meth:`request_with` is to be called."""
        return False

    def request_with(
        self, request: Request, body: SeenBody | None, upstream: str | None
    ) -> HookedRequest | None:
        """Like :meth:`request`, with the body if that was waited for, and with the
        upstream that the request goes to unless a hook chooses another one."""
        return self.request(request)


@mypyc_attr(allow_interpreted_subclasses=True)
class ExchangeBase:
    """One request under way, as its downstream and the plane see it."""

    __slots__ = ("body_ended", "given", "hooked", "request", "selection")

    def __init__(self, request: Request, selection: SelectionBase) -> None:
        self.request: Request = request
        self.selection: SelectionBase = selection
        #: What hooks have made of the request; ``None`` unless they want to see the reply.
        self.hooked: HookedRequest | None = None
        #: Bytes of a client's body that is kept as a whole; for who accounts for memory.
        self.given: int = 0
        #: All of the request was handed over.
        self.body_ended: bool = request.length == 0

    @property
    def server(self) -> str:
        """The server of the last attempt, as ``host:port``; empty before the first one."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin the first attempt; may call ``refuse`` before it returns."""
        raise NotImplementedError

    def give_body(self, data: bytes, trailers: list[bytes]) -> None:
        """Hand over all of the request's body, before :meth:`start`.

        The length in the request's head is that of ``data``, or is
        :data:`slardar.http1.heads.CHUNKED`.  The body is kept for every attempt, whatever
        its size.
        """
        raise NotImplementedError

    def body(self, data: bytes) -> None:
        """Hand over some content of the request's body, in order; never empty."""
        raise NotImplementedError

    def body_end(self, trailers: list[bytes]) -> None:
        """The request's body is complete."""
        raise NotImplementedError

    def pause(self) -> None:
        """The client takes no more for now: read no more from the server."""
        raise NotImplementedError

    def resume(self) -> None:
        """The client takes more."""
        raise NotImplementedError

    def cancel(self) -> None:
        """The client has left: give the request up."""
        raise NotImplementedError

    def tunnel_ended(self) -> None:
        """The tunnel that this exchange became is closed."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class WaitingExchange(ExchangeBase):
    """An exchange that can wait until a server has room."""

    __slots__ = ()

    def begin_waiting(self, selection: SelectionBase) -> bool:
        """Begin on ``selection`` and leave the queue; False if it has no room."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class QueueBase(Waiters):
    """Where the requests of one upstream wait."""

    __slots__ = ()

    def enter(self, exchange: WaitingExchange, size: int) -> bool:
        """Wait behind all others; False if so many wait already."""
        raise NotImplementedError

    def leave(self, exchange: WaitingExchange) -> None:
        """Wait no more; without effect on one that does not."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Downstream(ChannelProtocol):
    """Where a request came from and its reply goes.

    One that has a channel is that channel's protocol.  (One class is both, because a
    compiled class has one base.)
    """

    __slots__ = ("listener_id", "record")

    def __init__(self, listener_id: str = "") -> None:
        #: The id of the listener that accepted the client; empty within ``slardar.web``.
        self.listener_id: str = listener_id
        #: What is known of the request under way; ``None`` where nobody observes.
        self.record: RequestRecord | None = None

    def start_reply(self, reply: Reply, data: bytes, done: bool, start: int = 0) -> None:
        """The final head and the first of the body, which is ``data`` from ``start`` on;
        ``done`` if that is all of it."""
        raise NotImplementedError

    def reply_body(self, data: Bytes) -> None:
        """More of the body; ``data`` is valid during the call only."""
        raise NotImplementedError

    def end_reply(self, trailers: list[bytes]) -> None:
        """The body is complete."""
        raise NotImplementedError

    def break_reply(self) -> None:
        """The body cannot be completed; the client must be able to tell."""
        raise NotImplementedError

    def sink(self) -> ChannelBase | None:
        """The channel that the body may go to as it is, if there is one."""
        return None

    def body_relayed(self, size: int) -> None:
        """So many bytes of the body went to the :meth:`sink`."""

    def interim_reply(self, reply: Reply) -> None:
        """A 1xx reply other than 101."""
        raise NotImplementedError

    def switch(self, reply: Reply, origin: ChannelBase, data: bytes) -> None:
        """101: from now on both channels are one tunnel; ``data`` came behind the head.

        Whoever takes the server's channel calls :meth:`ExchangeBase.tunnel_ended` once.
        """
        raise NotImplementedError

    def refuse(self, status: int, message: str, hooked: HookedRequest | None = None) -> None:
        """No reply came: tell the client so.

        ``hooked`` is what hooks have made of a request that has no exchange, if they want
        to see the reply.
        """
        raise NotImplementedError

    def answer(self, reply: Reply, body: bytes) -> None:
        """A hook has made the reply; the status 444 asks for none."""
        raise NotImplementedError

    def pause_body(self) -> None:
        """The server takes no more of the request's body for now."""
        raise NotImplementedError

    def resume_body(self) -> None:
        """The server takes more of the request's body."""
        raise NotImplementedError

    def waits_for(self, request: Request) -> bool:
        """Whether the exchange of this request is still wanted; asked where
        :meth:`PlaneBase.begin` has put the decision off."""
        raise NotImplementedError

    def ends(self) -> Ends:
        """The two ends of the client's connection."""
        return Ends()

    def begun(self, exchange: ExchangeBase) -> None:
        """The exchange whose making :meth:`PlaneBase.begin` has put off."""
        raise NotImplementedError

    def give_up_body(self) -> None:
        """There is no room for the body that was gathered for hooks; it has been dropped."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(Downstream):
    """What serves a connection that a listener has accepted, as the data plane sees it.

    It is the protocol of its channel, and calls ``closed`` of the plane when it has ended.
    """

    __slots__ = ("channel",)

    def __init__(self, listener_id: str) -> None:
        super().__init__(listener_id)
        self.channel: ChannelBase

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, so that a plane that drains may end it."""
        raise NotImplementedError

    @property
    def is_fresh(self) -> bool:
        """Whether it has served nothing yet: a plane that drains leaves it more time."""
        raise NotImplementedError

    @property
    def held(self) -> int:
        """Bytes that it keeps in memory, besides those in its channel."""
        raise NotImplementedError

    def attach(self, channel: ChannelBase) -> None:
        """Begin to serve ``channel``."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection now, whatever is under way.  To end one that is idle, ``ended`` is
        called."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class TunnelBase(ChannelProtocol):
    """Two channels joined, as the plane sees them."""

    __slots__ = ("record",)

    def __init__(self, record: RequestRecord | None = None) -> None:
        #: What is known of the request that became a tunnel; ``None`` where nobody observes.
        self.record: RequestRecord | None = record

    def close(self) -> None:
        """End both sides, each behind what is on its way to it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Observer:
    """Is told of every request once, when it has ended; see ``PlaneBase.observer``."""

    __slots__ = ()

    def tunnel_began(self, record: RequestRecord) -> None:
        """A request has become a tunnel, which has not ended.

        As with :meth:`request_ended`; the plane still writes to the record.
        """

    def request_ended(self, record: RequestRecord) -> None:
        """A request has ended, refused ones included.

        Called on the request path, so it must not block.  Other observers get the same
        record, so it must not be changed.  After the call it becomes the record of another
        request, unless an observer has set ``record.kept``.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class PlaneBase:
    """The data plane around clients and exchanges: the time, the limits, the way from a
    request to its exchange, and the end of a request."""

    def __init__(self, clock: Clock) -> None:
        self.clock: Clock = clock
        self.new_id: RequestIds = RequestIds()
        #: Makes the trace contexts of requests; ``None`` where nothing is traced.
        self.tracer: Tracer | None = None
        #: The networks whose word about the clients of requests is believed.  Another object
        #: when they change: connections look up their peer anew then.
        self.trusted: Networks = Networks()
        #: Requests without TLS for a host that has a certificate are sent to https.
        self.redirects: bool = False
        #: The line of Strict-Transport-Security for replies over TLS; empty for none.
        self.hsts: bytes = b""
        #: Servers get ``Forwarded`` (RFC 7239).
        self.sends_forwarded: bool = False
        #: Who is told of the end of every request.
        self.observer: Observer | None = None
        #: Records that were used before, for the next requests.
        self.spare_records: list[RequestRecord] = []
        #: No more requests than those under way are wanted from the clients there are.
        self.draining: bool = False
        #: What CAs that ask by HTTP-01 are answered, by the target of the request; ``None`` if
        #: none is expected.
        self.challenges: dict[bytes, bytes] | None = None
        #: Requests under way.  An exchange counts itself, in and out.
        self.exchanges: int = 0
        # The defaults of ``limits`` (bytes, but for the number of headers) ...
        self.max_head: int = 32768
        self.max_url: int = 8192
        self.max_headers: int = 100
        self.max_body: int = 1073741824
        self.max_reply_head: int = 65536
        self.max_linger: int = 1073741824
        self.retry_buffer: int = 65536
        #: Bytes of a body that hooks may see, and the room for all that wait.
        self.hook_body: int = 65536
        self.bodies: BodyRoom = BodyRoom()
        # ... and of ``timeouts``, in seconds.
        self.client_header_timeout: float = 10.0
        self.client_body_timeout: float = 60.0
        self.keepalive_timeout: float = 75.0
        self.send_timeout: float = 60.0
        self.linger_timeout: float = 5.0

    def begin(
        self, downstream: Downstream, request: Request, channel: ChannelBase | None = None
    ) -> ExchangeBase | None:
        """The exchange of ``request``, for the downstream to start.

        ``None`` if there is none: the request has been refused, or a hook has answered it.
        With the request's ``channel``, ``None`` may also mean that the decision comes later
        in the batch under way, or in a later turn: the plane asks ``downstream.waits_for``
        then, and hands the exchange to ``downstream.begun``.
        """
        raise NotImplementedError

    def wait_for_body(self, owner: BodyOwner, request: Request) -> WaitingBody | None:
        """What gathers a request's body, where hooks may read it; ``None``: begin at once."""
        return None

    def begin_with(
        self,
        downstream: Downstream,
        request: Request,
        body: SeenBody,
        channel: ChannelBase | None = None,
    ) -> ExchangeBase | None:
        """Like :meth:`begin`, for a request whose body was waited for."""
        return self.begin(downstream, request, channel)

    def refused(self, status: int) -> None:
        """A request was answered without a server."""
        raise NotImplementedError

    def is_misdirected(self, tls: TlsFacts, host: str, listener: ListenerSpec) -> bool:
        """Whether clients of ``listener`` must show another certificate for ``host`` than was
        asked of this one."""
        return False

    def has_certificate(self, host: str) -> bool:
        """Whether clients that ask for ``host`` get a certificate that is for it."""
        return False

    def is_for_tls(self, host: str) -> bool:
        """Whether requests for ``host`` belong on TLS: it has a certificate, or clients are asked
        for one."""
        return False

    def https_place(self, request: Request, came_to: int) -> bytes:
        """The URL by which a request without TLS is to be sent again with TLS, if its host
        belongs there.  ``came_to`` is the port to which it has come; 0 if another machine
        has passed it on, which has ports of its own."""
        raise NotImplementedError

    def turned_away(self, client: bytes, listener: ListenerSpec, reason: str) -> None:
        """A connection of ``listener`` is closed without a reply, before it became a client's.

        ``client`` is its peer's address.  ``reason`` is for a person; there are few of them,
        and they repeat nothing that came.
        """
        raise NotImplementedError

    def remind(self, reminder: Reminder, seconds: float) -> None:
        """Call it in so many seconds, to the millisecond or a few."""
        raise NotImplementedError

    def own_reply(
        self,
        downstream: Downstream,
        request: Request,
        status: int,
        reason: str,
        exchange: ExchangeBase | None,
        hooked: HookedRequest | None,
    ) -> tuple[Reply, bytes]:
        """Head and body of a reply that slardar makes itself, which counts as refused.

        ``exchange`` is the one that found no server's reply, if it came to that, and
        ``hooked`` what hooks have made of the request, where there is none.
        """
        self.refused(status)
        record = downstream.record
        if record is not None:
            record.answered_by, record.error = BY_SLARDAR, reason
        return error_reply(status, reason, request.get_header("accept"))

    def ask_decision(self, record: RequestRecord, token: bytes) -> None:
        """A request brings a token, so that what is decided for it is kept: set
        ``record.decision``, if the token is one that is known."""

    def note_decision(
        self, record: RequestRecord, request: Request, selection: SelectionBase
    ) -> None:
        """A request has reached an upstream; its first server is about to be picked.

        Called if ``selection.decides``, or if ``record.decision`` is set.
        """

    def keep_decision(self, record: RequestRecord) -> None:
        """A request with ``record.decision`` has ended."""

    def tunnel(self, tunnel: TunnelBase) -> None:
        """A connection became a tunnel."""
        raise NotImplementedError

    def tunnel_closed(self, tunnel: TunnelBase) -> None:
        """A tunnel is closed."""
        raise NotImplementedError

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        raise NotImplementedError


def request_ended(plane: PlaneBase, record: RequestRecord) -> None:
    """The one place where every observed request ends.

    No method, because planes are not compiled: a call of one takes longer than the rest.
    """
    record.ended = plane.clock.late()
    if record.decision is not None:
        plane.keep_decision(record)
    observer = plane.observer
    if observer is not None:
        observer.request_ended(record)
