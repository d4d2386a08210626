"""The edges of HTTP's logic: what it calls, and what calls it.

The logic opens no socket.  It is given a *channel* (a connection), is itself the
channel's *protocol* (told what happens on it), takes channels from *pools*, asks a
*selection* which server gets a request, and a *plane* for the rest: the time, the
limits, the exchange of a request.

These are classes and no ``typing.Protocol``: where mypyc compiles the request path, a
call or an attribute costs a tenth through a class of what it costs by name.  Whoever
implements one derives from it, compiled or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mypy_extensions import mypyc_attr

from slardar.http1.bodies import BodyOwner, BodyRoom, SeenBody, WaitingBody
from slardar.http1.own_replies import error_reply
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.http1.writer import RequestIds
from slardar.model.live import Peer

if TYPE_CHECKING:
    from slardar.http1.exchange import Exchange
    from slardar.http1.tunnel import Tunnel

__all__ = [
    "ChannelBase",
    "ChannelProtocol",
    "Clock",
    "HookedRequest",
    "HooksBase",
    "PlaneBase",
    "PoolBase",
    "SelectionBase",
]


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock:
    """Monotonic seconds, as of the batch of events under way."""

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now: float = now


@mypyc_attr(allow_interpreted_subclasses=True)
class ChannelProtocol:
    """Is told what happens on a channel; nothing after the channel's ``close``."""

    __slots__ = ()

    def connected(self, channel: ChannelBase) -> None:
        """The new connection is there; only for a channel that had to be connected."""
        raise NotImplementedError

    def received(self, channel: ChannelBase, data: Any) -> None:
        """Bytes came: ``bytes``, or a ``memoryview`` that is valid during the call only."""
        raise NotImplementedError

    def ended(self, channel: ChannelBase) -> None:
        """The peer has closed its side."""
        raise NotImplementedError

    def lost(self, channel: ChannelBase, message: str) -> None:
        """The connection broke, or could not be made; ``message`` is for a person."""
        raise NotImplementedError

    def drained(self, channel: ChannelBase) -> None:
        """Nothing waits to be sent any more, or so little that more is welcome."""
        raise NotImplementedError

    def late(self, channel: ChannelBase) -> None:
        """The channel's deadline has passed."""
        raise NotImplementedError

    def relayed(self, channel: ChannelBase, size: int) -> None:
        """So many bytes went straight to another channel; see ``ChannelBase.relay``.

        More than were left if something came behind them, which is lost then.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ChannelBase:
    """A connection.  None of its methods blocks or calls the protocol back."""

    __slots__ = (
        "arriving",
        "at_end",
        "bulk",
        "closed",
        "congested",
        "connecting",
        "deadline",
        "eager",
        "generation",
        "protocol",
        "queue",
        "send_timeout",
    )

    def __init__(self, protocol: ChannelProtocol, connecting: bool) -> None:
        #: Who is told; whoever takes a channel over puts itself here.
        self.protocol: ChannelProtocol = protocol
        #: Not connected yet.
        self.connecting: bool = connecting
        #: When the channel must have moved by, in monotonic seconds; 0 for never.
        self.deadline: float = 0.0
        #: Seconds that the peer may take nothing of what waits to be sent; nginx's
        #: send_timeout.
        self.send_timeout: float = 60.0
        #: Reads as much as holds a head and a small body, and more only if told so.
        self.bulk: bool = False
        #: Reads much at once, into a buffer that all share: ``received`` may get a
        #: memoryview then, valid during the call only.
        self.eager: bool = False
        #: So much waits to be sent that whoever writes should pause.
        self.congested: bool = False
        #: The peer has closed its side.
        self.at_end: bool = False
        self.closed: bool = False
        #: Something was read that the protocol has not been told of yet.
        self.arriving: bool = False
        #: To handle what comes next may take long: it is a step with this key then (see
        #: ``put_off``).  Empty where it does not.
        self.queue: str = ""
        #: The pool's mark of the addresses it was made with.
        self.generation: int = 0

    @property
    def unsent(self) -> bool:
        """Whether bytes still wait to be taken."""
        raise NotImplementedError

    def write(self, data: Any) -> bool:
        """Send bytes, now as far as they are taken; keeps no reference to them.

        False if the connection is broken (``lost`` follows) or closed: nothing of
        them went out.
        """
        raise NotImplementedError

    def write_soon(self, data: bytes) -> None:
        """Send a few bytes by the end of the batch of events under way, else at once.

        What breaks the connection is told by ``lost`` alone.
        """
        raise NotImplementedError

    def write_both(self, head: bytes, data: Any) -> None:
        """Send a head and much body behind it, without copying them together."""
        raise NotImplementedError

    def relay(self, to: ChannelBase, size: int) -> bool:
        """Send the next ``size`` bytes that come straight to another channel.

        The protocol is told of them by ``relayed``.  False if this cannot be done.
        """
        return False

    def put_off(self, step: Step, key: str = "") -> bool:
        """Take a step later in the batch under way; False if there is none.

        If there is no time for it in the batch it is taken in a later one.  Those of one
        key wait for each other then, and each key gets its turn.
        """
        return False

    def read_on(self) -> bytes:
        """What came behind the bytes that the protocol is being told of, if that is known
        to be more."""
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
        """Find out, after ``idle`` quiet seconds, whether the peer is still there; one
        that is gone becomes ``lost``."""
        raise NotImplementedError

    def close_when_flushed(self) -> None:
        """Close once everything is sent, in a way that loses nothing of it.

        Look at ``closed`` afterwards: it may have been possible at once.  If not, the
        protocol stays and is told by ``lost`` when the channel has closed itself.  Where
        the peer may still send, only our side ends behind the last byte (``drained``
        tells it).  The protocol reads over what comes then, bounds the time by
        ``deadline``, and calls this once more when the peer has ended its side.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close now.  What was not sent is lost, and the peer is told so by a reset."""
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

    def other_address(self, tried: int) -> bool:
        """Move on to the server's next address; False once all were tried."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class SelectionBase:
    """An upstream of one snapshot: picks servers and is told what became of it."""

    __slots__ = (
        "connect_timeout",
        "failed_statuses",
        "name",
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
        #: Seconds.
        self.connect_timeout: float = 3.0
        self.send_timeout: float = 60.0
        self.read_timeout: float = 60.0
        #: Kinds of failure after which another attempt may be made (see ``retry``).
        self.retry_on: frozenset[str] = frozenset()
        #: Statuses of replies that count as failures.
        self.failed_statuses: frozenset[int] = frozenset()

    def pick(self, request: Request, tried: list[Peer]) -> Peer | None:
        """The server for ``request``, or ``None`` if none is left."""
        raise NotImplementedError

    def failed(self, peer: Peer, message: str) -> None:
        """An attempt on ``peer`` failed."""
        raise NotImplementedError

    def succeeded(self, peer: Peer, seconds: float, status: int) -> None:
        """``peer`` gave a reply that is no failure; the attempt is over."""
        raise NotImplementedError

    def finished(self, peer: Peer, failed: bool, seconds: float, status: int) -> None:
        """The attempt is over, without a good reply."""
        raise NotImplementedError

    def refusal(self, tried: bool) -> tuple[int, str]:
        """Status and reason where :meth:`pick` found nothing."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class HookedRequest:
    """What hooks have made of a request; it is changed already."""

    __slots__ = ("answer", "body", "new_body", "sees_reply", "upstream")

    def __init__(self) -> None:
        #: What the client gets instead of a server's reply, and its body.  One with the
        #: status 444 is not sent: the connection closes.
        self.answer: Reply | None = None
        self.body: bytes = b""
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
class PlaneBase:
    """The data plane around clients and exchanges: time, limits, and who is who."""

    def __init__(self, clock: Clock) -> None:
        self.clock: Clock = clock
        self.new_id: RequestIds = RequestIds()
        #: No more requests than those under way are wanted from the clients there are.
        self.draining: bool = False
        #: Requests under way; exchanges count themselves out.
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
        self, downstream: Any, request: Request, channel: ChannelBase | None = None
    ) -> Exchange | None:
        """The exchange for ``request``, to be started; or ``None``: it was refused.

        Or that is decided later in the batch under way, if the request's ``channel`` is
        given, which that needs: ``begun`` of ``downstream`` gets the exchange then, if its
        ``waits_for`` says that it still wants it.
        """
        raise NotImplementedError

    def wait_for_body(self, owner: BodyOwner, request: Request) -> WaitingBody | None:
        """What gathers a request's body, where hooks may read it; ``None``: begin at once."""
        return None

    def begin_with(
        self,
        downstream: Any,
        request: Request,
        body: SeenBody,
        channel: ChannelBase | None = None,
    ) -> Exchange | None:
        """Like :meth:`begin`, for a request whose body was waited for."""
        return self.begin(downstream, request, channel)

    def refused(self, status: int) -> None:
        """A request was answered without a server."""
        raise NotImplementedError

    def own_reply(
        self,
        request: Request,
        status: int,
        reason: str,
        exchange: Exchange | None,
        hooked: HookedRequest | None,
    ) -> tuple[Reply, bytes]:
        """Head and body of a reply that slardar makes itself, which counts as refused.

        ``exchange`` is the one that found no server's reply, if it came to that, and
        ``hooked`` what hooks have made of the request, where there is none.
        """
        self.refused(status)
        return error_reply(status, reason, request.get_header("accept"))

    def tunnel(self, tunnel: Tunnel) -> None:
        """A connection became a tunnel."""
        raise NotImplementedError

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """A tunnel is closed."""
        raise NotImplementedError

    def closed(self, connection: ChannelProtocol) -> None:
        """A connection has ended."""
        raise NotImplementedError
