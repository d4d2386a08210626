"""What a worker has learnt of servers' health, gathered and told to the director."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slardar.health.verdicts import MAX_TEXT, Climb, Extra, Verdict
from slardar.http1.interfaces import Clock
from slardar.model.live import Peer
from slardar.workers.messages import Verdicts

__all__ = ["HealthNews"]

#: Seconds after a message until the next one: what many requests find out in this time comes
#: together.
_GATHER = 0.02


class HealthNews:
    """Tells the first news at once, and then all that is new every 20 ms.

    Many changes of one server are one piece of news: the last one.  ``reactor`` has
    ``callLater``; ``tell(message)`` sends a message.
    """

    def __init__(self, reactor: Any, tell: Callable[[Verdicts], None]) -> None:
        self._reactor = reactor
        self._tell = tell
        self._clock: Clock | None = None
        #: Servers whose health has changed since the director was told, by upstream, host and
        #: port.
        self._changed: dict[tuple[str, str, int], Peer] = {}
        #: What the director is to know beside that, by its kind, its server and its level, if it
        #: is about one.
        self._extras: dict[tuple[type, str, str, int, str], Extra] = {}
        #: The call that tells what is new; ``None`` if nothing was new lately.
        self._telling: Any = None

    def start(self, clock: Clock) -> None:
        """Tell news from now on, those that have been gathered included."""
        self._clock = clock
        if self._changed or self._extras:
            self._tell_soon()

    def stop(self) -> None:
        """Tell no more."""
        self._clock = None
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def health_changed(self, upstream: str, peer: Peer) -> None:
        """Requests have shown that a server's health has changed.  Called on the request path."""
        self._changed[upstream, peer.host, peer.port] = peer
        self._tell_soon()

    def extra_changed(self, extra: Extra) -> None:
        """A server was ejected, has hinted, or begins to climb.  Called on the request path."""
        level = extra.level if isinstance(extra, Climb) else ""
        self._extras[type(extra), extra.upstream, extra.host, extra.port, level] = extra
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None and self._clock is not None:
            # Not at once: requests of this turn do not wait for the message.
            self._telling = self._reactor.callLater(0, self._tell_all)

    def _tell_all(self) -> None:
        """Tell all that is new in one message, and look again a little later."""
        self._telling = None
        if self._clock is None or not (self._changed or self._extras):
            return
        self._telling = self._reactor.callLater(_GATHER, self._tell_all)
        changed, self._changed = self._changed, {}
        extras, self._extras = self._extras, {}
        verdicts = []
        for (upstream, host, port), peer in changed.items():
            down_for = min(max(0.0, peer.live.down_until - self._clock.now), 1e9)
            text = peer.live.msg[:MAX_TEXT]
            verdicts.append(Verdict(upstream, host, port, down_for, text, peer.live.fail_num))
        self._tell(Verdicts(tuple(verdicts), extras=tuple(extras.values())))
