"""What a worker has learnt of servers' health, gathered until the director is told."""

from __future__ import annotations

from slardar.health.verdicts import MAX_TEXT, Extra, Verdict
from slardar.model.live import Peer
from slardar.workers.messages import Verdicts

__all__ = ["LOOK", "HealthNews"]

#: Seconds between two looks whether health has changed.
LOOK = 0.1


class HealthNews:
    """Many changes of one server are one piece of news: the last one."""

    def __init__(self) -> None:
        #: Servers whose health has changed since the director was told, by upstream, host and
        #: port.
        self._changed: dict[tuple[str, str, int], Peer] = {}
        #: What the director is to know beside that, by its kind and its server.
        self._extras: dict[tuple[type, str, str, int], Extra] = {}

    def health_changed(self, upstream: str, peer: Peer) -> None:
        """Called on the request path: told with the next look, once however often."""
        self._changed[upstream, peer.host, peer.port] = peer

    def extra_changed(self, extra: Extra) -> None:
        """Called on the request path: told with the next look."""
        self._extras[type(extra), extra.upstream, extra.host, extra.port] = extra

    def taken(self, now: float) -> Verdicts | None:
        """All that is new, in one message; ``None`` if nothing is.  It is new only once.

        ``now`` is in monotonic seconds.
        """
        if not self._changed and not self._extras:
            return None
        changed, self._changed = self._changed, {}
        extras, self._extras = self._extras, {}
        verdicts = []
        for (upstream, host, port), peer in changed.items():
            down_for = min(max(0.0, peer.live.down_until - now), 1e9)
            text = peer.live.msg[:MAX_TEXT]
            verdicts.append(Verdict(upstream, host, port, down_for, text))
        return Verdicts(tuple(verdicts), extras=tuple(extras.values()))
