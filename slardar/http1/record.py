"""The record of a request that has ended, which observers get.

A request that nobody observes has no record, which costs nothing.
"""

from __future__ import annotations

from typing import Final

from slardar.http1.request import Request

__all__ = [
    "BY_HOOK",
    "BY_SERVER",
    "BY_SLARDAR",
    "DEADLINE",
    "HEDGED",
    "STALE",
    "AttemptRecord",
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
#: The ``failure`` of an attempt that was given up because another server had replied first.
HEDGED: Final = "hedged"


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
        #: ``host:port``, as the configuration names the server.
        self.server: str = server
        self.started: float = started
        #: When a new connection was made; 0 on a connection that was used before.
        self.connected: float = 0.0
        #: When the first byte of the reply arrived.
        self.first_byte: float = 0.0
        self.ended: float = 0.0
        #: The status of the server's reply; 0 if none came.
        self.status: int = 0
        #: The kind of failure (see :mod:`slardar.http1.retry`), :data:`STALE`,
        #: :data:`DEADLINE` or :data:`HEDGED`; empty if the attempt did not fail.
        self.failure: str = ""
        #: The failure as a text for people.
        self.error: str = ""

    def __repr__(self) -> str:
        return f"<AttemptRecord {self.server} {self.failure or self.status}>"


class RequestRecord:
    """One request from its head to its end.  Times are monotonic seconds."""

    __slots__ = (
        "answered_by",
        "attempts",
        "budget_exhausted",
        "bytes_in",
        "bytes_out",
        "client",
        "ended",
        "error",
        "hook",
        "host",
        "lines",
        "listener",
        "method",
        "queued",
        "request",
        "started",
        "status",
        "upstream",
        "uri",
    )

    def __init__(
        self, client: bytes, request: Request | None, started: float, listener: str = ""
    ) -> None:
        #: The client's address, from the listener.
        self.client: bytes = client
        #: The request, as hooks have left it; ``None`` for bytes that are no request.
        self.request: Request | None = None
        #: Of the request as the client sent it: method, target, the name in its Host, and
        #: its header lines (see ``Request.lines``).
        self.method: bytes = b""
        self.uri: bytes = b""
        self.host: str = ""
        self.lines: list[bytes] = []
        #: The id of the listener that accepted the client; empty within ``slardar.web``.
        self.listener: str = listener
        #: When the head was complete; ``ended``: when the whole reply was handed to the
        #: channel, or the client was gone.
        self.started: float = started
        self.ended: float = 0.0
        #: Bytes of the request's head and of its body's content that have arrived.
        self.bytes_in: int = 0
        #: Bytes of the replies, interim ones included, that were handed to the channel;
        #: within ``slardar.web``, where twisted.web writes the heads, of the body alone.
        self.bytes_out: int = 0
        #: The upstream of the request; empty if it reached none.
        self.upstream: str = ""
        #: The attempts, in order.
        self.attempts: list[AttemptRecord] = []
        #: Seconds for which it waited until a server had room.
        self.queued: float = 0.0
        #: Another attempt was allowed but for the upstream's retry budget.
        self.budget_exhausted: bool = False
        #: The status that the client got; 0 if it got none, 444 if a hook wanted none.
        self.status: int = 0
        #: :data:`BY_SERVER`, :data:`BY_HOOK`, :data:`BY_SLARDAR`, or empty for nobody.
        self.answered_by: str = ""
        #: The reason of slardar's own answer, or of a broken reply; empty without a failure.
        self.error: str = ""
        #: The hook that answered, or that failed: ``lua/script.HOST``; empty for none.
        self.hook: str = ""
        if request is not None:
            self.take(request)

    def take(self, request: Request) -> None:
        """The head of the request is known.  No hook has seen it yet."""
        self.request = request
        self.method = request.raw_method
        self.uri = request.raw_uri
        self.host = request.host
        self.lines = request.lines
        self.bytes_in = len(request.head)

    @property
    def server(self) -> str:
        """The server that was tried last, and that no other one has forestalled; empty for
        none."""
        for attempt in reversed(self.attempts):
            if attempt.failure != HEDGED:
                return attempt.server
        return ""

    def __repr__(self) -> str:
        return f"<RequestRecord {self.request!r} {self.status} {self.error}>"
