"""The clients of a simulation: what they send, and the cookies that they keep."""

from __future__ import annotations

from slardar.http1.exchange import Exchange
from slardar.http1.forwarded import came_from
from slardar.http1.heads import BadMessage
from slardar.http1.interfaces import Downstream, HookedRequest, PlaneBase, SelectionBase
from slardar.http1.reply import Reply
from slardar.http1.request import Request, parse_request
from slardar.model.networks import Networks
from slardar.simulation.load import Arrival

__all__ = ["Cookies", "Sender", "Visit", "request_of"]

#: The bytes of a body that come together, as from a socket.
_PIECE = bytes(16384)
_WITH_BODY = ("POST", "PUT", "PATCH")


def request_of(arrival: Arrival, body: int = 0, cookies: str = "") -> Request:
    """The request, as a client sends it; ``body`` is the length that its body has, if its
    method is one that has a body.

    Raises BadMessage.
    """
    head = f"{arrival.method} {arrival.uri} HTTP/1.1\r\nHost: simulated\r\n"
    if arrival.method in _WITH_BODY:
        head += f"Content-Length: {body}\r\n"
    if cookies:
        head += f"Cookie: {cookies}\r\n"
    request = parse_request(f"{head}\r\n".encode("utf-8", "replace"))
    came_from(request, arrival.client.encode("ascii", "replace"), Networks())
    return request


class Cookies:
    """What each client keeps of the cookies that it was given, for as long as ``Max-Age`` says."""

    def __init__(self) -> None:
        #: By client and name: the value, and when it is over (monotonic seconds; 0: never).
        self._kept: dict[str, dict[str, tuple[str, float]]] = {}

    def header(self, client: str, now: float) -> str:
        """The value of the header ``Cookie``; empty if the client has none."""
        kept = self._kept.get(client)
        if not kept:
            return ""
        return "; ".join(
            f"{name}={value}" for name, (value, ends) in kept.items() if not ends or now < ends
        )

    def take(self, client: str, reply: Reply, now: float) -> None:
        """Keep the cookies of a reply."""
        for line in reply.head_lines()[1:]:
            header, _, value = line.decode("latin-1").partition(":")
            if header.lower() != "set-cookie":
                continue
            pair, *attributes = value.split(";")
            name, _, given = pair.strip().partition("=")
            ends = 0.0
            for attribute in attributes:
                key, _, seconds = attribute.strip().partition("=")
                if key.lower() == "max-age" and seconds.isdecimal():
                    ends = now + float(seconds)
            self._kept.setdefault(client, {})[name] = (given, ends)


class Sender:
    """Is told what becomes of requests."""

    def replied(self, visit: Visit, reply: Reply) -> None:
        """A server has replied."""
        raise NotImplementedError

    def refused(self, visit: Visit, status: int, message: str) -> None:
        """slardar has replied, because no server did."""
        raise NotImplementedError


class Visit(Downstream):
    """One request of a client, which waits for its reply."""

    def __init__(self, sender: Sender, arrival: Arrival, body: int, began: float) -> None:
        super().__init__()
        self._sender = sender
        self.arrival = arrival
        #: When the request came, in monotonic seconds.
        self.began = began
        #: The bytes of its body, and those that are still to be sent.
        self._body = self._left = body if arrival.method in _WITH_BODY else 0
        self._exchange: Exchange | None = None
        self._paused = False
        self._is_over = False

    @property
    def server(self) -> str:
        """The server that was asked last; empty if none was."""
        return "" if self._exchange is None else self._exchange.server

    def begin(self, plane: PlaneBase, selection: SelectionBase, cookies: str) -> None:
        """Send the request."""
        try:
            request = request_of(self.arrival, self._body, cookies)
        except BadMessage as error:
            self.refuse(error.status, error.message)
            return
        self._exchange = Exchange(plane, self, request, selection)
        self._exchange.start()
        if self._left:
            self._send_body()

    def _send_body(self) -> None:
        exchange = self._exchange
        assert exchange is not None
        while self._left and not self._paused and not self._is_over:
            piece = _PIECE[: self._left]
            self._left -= len(piece)
            exchange.body(piece)
            if not self._left and not self._is_over:
                exchange.body_end([])

    # From the exchange.

    def start_reply(self, reply: Reply, data: bytes, done: bool, start: int = 0) -> None:
        """See the base; a simulated reply is complete at once."""
        self._is_over = True
        self._sender.replied(self, reply)

    def refuse(self, status: int, message: str, hooked: HookedRequest | None = None) -> None:
        """See the base."""
        self._is_over = True
        self._sender.refused(self, status, message)

    def pause_body(self) -> None:
        """See the base."""
        self._paused = True

    def resume_body(self) -> None:
        """See the base."""
        if self._paused:
            self._paused = False
            self._send_body()
