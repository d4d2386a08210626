"""The record of a request that has ended, which observers get.

A request that nobody observes has no record, which costs nothing.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from slardar.http1.request import Request
from slardar.http1.scan import find_value
from slardar.http1.tracing import TraceContext

__all__ = [
    "BY_HOOK",
    "BY_SERVER",
    "BY_SLARDAR",
    "DEADLINE",
    "HEDGED",
    "MAX_SPARES",
    "STALE",
    "TLS",
    "AttemptRecord",
    "DecisionNote",
    "RequestRecord",
]

#: Who has answered a request.
BY_SERVER: Final = "server"
BY_HOOK: Final = "hook"
BY_SLARDAR: Final = "slardar"

#: The ``failure`` of an attempt on an idle connection that the server had closed before the
#: request came.  It counts as no failure, and another attempt on the same server follows.
STALE: Final = "stale"
#: The ``failure`` of an attempt that was given up because the request's deadline had passed.
DEADLINE: Final = "deadline"
#: The ``failure`` of an attempt whose handshake of TLS has failed or taken too long: no connection
#: could be made, as with ``connect`` and ``timeout``.
TLS: Final = "tls"
#: The ``failure`` of an attempt that was given up because another server had replied first.
HEDGED: Final = "hedged"

#: Records that a plane holds for the next requests, at most: some more than the requests of
#: one batch.
MAX_SPARES: Final = 512


class AttemptRecord:
    """One attempt on one server.  Times are monotonic seconds; 0 if it never happened."""

    __slots__ = (
        "connected",
        "ended",
        "error",
        "failure",
        "first_byte",
        "server",
        "started",
        "status",
    )

    def __init__(self, server: str, started: float) -> None:
        self.begin(server, started)

    def begin(self, server: str, started: float) -> None:
        """The attempt begins; whatever was known of a former one is forgotten."""
        #: ``host:port``, as the configuration names the server.
        self.server: str = server
        #: When the server was chosen.  Until then, and from ``ended`` on, the time is
        #: slardar's own.
        self.started: float = started
        #: When a new connection was made; 0 on a connection that was used before.
        self.connected: float = 0.0
        #: When the first byte of the reply arrived, and when the last one did.
        self.first_byte: float = 0.0
        self.ended: float = 0.0
        #: The status of the server's reply; 0 if none came.
        self.status: i64 = 0
        #: The kind of failure (see :mod:`slardar.http1.retry`), :data:`STALE`,
        #: :data:`DEADLINE`, :data:`HEDGED` or :data:`TLS`; empty if the attempt did not fail.
        self.failure: str = ""
        #: The failure as a text for people.
        self.error: str = ""

    def __repr__(self) -> str:
        return f"<AttemptRecord {self.server} {self.failure or self.status}>"


class DecisionNote:
    """Where a request has gone, and why: noted when that was decided."""

    __slots__ = ("id", "told")

    def __init__(self, decision_id: str) -> None:
        #: What leads to it; letters, digits and ``-`` only.
        self.id: str = decision_id
        #: The explanation; ``None`` if the request has reached no upstream.
        self.told: object = None


class RequestRecord:
    """One request from its head to its end.  Times are monotonic seconds.

    To make an object for each request would cost more than to fill it in, so a record is
    used again: see :meth:`spare`.
    """

    __slots__ = (
        "_first",
        "_lines",
        "_more",
        "answered_by",
        "budget_exhausted",
        "bytes_in",
        "bytes_out",
        "client",
        "counted_in",
        "counted_out",
        "decision",
        "ended",
        "error",
        "hook",
        "host",
        "kept",
        "listener",
        "method",
        "queued",
        "request",
        "started",
        "status",
        "trace",
        "tries",
        "upstream",
        "uri",
    )

    def __init__(
        self, client: bytes, request: Request | None, started: float, listener: str = ""
    ) -> None:
        self._first: AttemptRecord = AttemptRecord("", 0.0)
        self.begin(client, request, started, listener)

    def begin(self, client: bytes, request: Request | None, started: float, listener: str) -> None:
        """The request begins; whatever was known of a former one is forgotten."""
        #: The client's address (see ``Request.address``); the peer's for bytes that are no request.
        self.client: bytes = client
        #: The request, as hooks have left it; ``None`` for bytes that are no request.
        self.request: Request | None = request
        #: Of the request as the client sent it: method, target, and the name in its Host.
        self.method: bytes = b"" if request is None else request.raw_method
        self.uri: bytes = b"" if request is None else request.raw_uri
        self.host: str = "" if request is None else request.host
        # No hook has seen it yet: hooks give the request other lines.
        self._lines: list[bytes] | bytes = b"" if request is None else request.given_lines()
        #: The id of the listener that accepted the client; empty within ``slardar.web``.
        self.listener: str = listener
        #: When the head was complete; ``ended``: when the whole reply was handed to the
        #: channel, or the client was gone.
        self.started: float = started
        self.ended: float = 0.0
        #: Bytes of the request's head and of its body's content that have arrived.
        self.bytes_in: i64 = 0 if request is None else len(request.head)
        #: Bytes of the replies, interim ones included, that were handed to the channel;
        #: within ``slardar.web``, where twisted.web writes the heads, of the body alone.
        self.bytes_out: i64 = 0
        #: What of them was counted before the end.
        self.counted_in: i64 = 0
        self.counted_out: i64 = 0
        #: The upstream of the request; empty if it reached none.
        self.upstream: str = ""
        #: How many attempts there were, and those after the first.
        self.tries: i64 = 0
        self._more: list[AttemptRecord] | None = None
        #: Seconds for which it waited until a server had room.
        self.queued: float = 0.0
        #: Another attempt was allowed but for the upstream's retry budget.
        self.budget_exhausted: bool = False
        #: The status that the client got; 0 if it got none, 444 if a hook wanted none.
        self.status: i64 = 0
        #: :data:`BY_SERVER`, :data:`BY_HOOK`, :data:`BY_SLARDAR`, or empty for nobody.
        self.answered_by: str = ""
        #: The reason of slardar's own answer, or of a broken reply; empty without a failure.
        self.error: str = ""
        #: The hook that answered, or that failed: ``lua/script.HOST``; empty for none.
        self.hook: str = ""
        #: The decision that is kept of the request; ``None`` where nobody asks.
        self.decision: DecisionNote | None = None
        #: Its place in its trace; ``None`` where nothing is traced.
        self.trace: TraceContext | None = None
        #: An observer keeps the record: it is not used for another request.
        self.kept: bool = False

    @property
    def lines(self) -> list[bytes]:
        """The header lines of the request as the client sent it (see ``Request.lines``)."""
        lines = self._lines
        if isinstance(lines, bytes):
            lines = self._lines = lines.split(b"\r\n")
        return lines

    def block(self) -> bytes:
        """:attr:`lines` as a block (see :mod:`slardar.http1.scan`)."""
        lines = self._lines
        return lines if isinstance(lines, bytes) else b"\r\n".join(lines)

    def get_header(self, name: bytes) -> bytes | None:
        """The first value of a header in :attr:`lines`, or ``None``; ``name`` is in lower case."""
        return find_value(self.block(), name)

    def attempt(self, server: str, started: float) -> AttemptRecord:
        """The record of one more attempt."""
        self.tries += 1
        if self.tries == 1:
            first = self._first
            first.begin(server, started)
            return first
        more = self._more
        if more is None:
            more = self._more = []
        made = AttemptRecord(server, started)
        more.append(made)
        return made

    @property
    def first(self) -> AttemptRecord:
        """The first attempt, if there was one: :attr:`attempts` without the list."""
        return self._first

    @property
    def attempts(self) -> list[AttemptRecord]:
        """The attempts, in order."""
        if not self.tries:
            return []
        return [self._first] if self._more is None else [self._first, *self._more]

    @property
    def server(self) -> str:
        """The server that was tried last, and that no other one has forestalled; empty for
        none."""
        for attempt in reversed(self.attempts):
            if attempt.failure != HEDGED:
                return attempt.server
        return ""

    def spare(self, spares: list[RequestRecord]) -> None:
        """The reply is complete and was told: let another request use this record.

        Not if there were several attempts, for some part of a hedged one may still end.
        """
        if not self.kept and self.tries <= 1 and len(spares) < MAX_SPARES:
            self.request = None
            self._lines = b""
            spares.append(self)

    def __repr__(self) -> str:
        return f"<RequestRecord {self.request!r} {self.status} {self.error}>"
