"""Which servers requests have put out of service: learnt from other processes, and told to them.

The rules for the outcome of a request are in :mod:`slardar.health.rules`.  Here is what a
data plane does about servers by name: it takes the verdicts of other processes, gives
its own ones to a successor, and logs them where nobody else does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping

from slardar.dataplane.failurelog import HealthLog
from slardar.health import shared
from slardar.health.rules import is_available
from slardar.http1.interfaces import Clock
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.server import Upstream

__all__ = ["ServerHealth"]


class ServerHealth:
    """The health of the servers that one data plane serves.

    ``clock`` is the poller's, in monotonic seconds.  ``on_health(upstream, peer)`` is
    called when requests have put a server out of service or brought it back; without it
    the log says so, for which ``seconds()`` gives the time.
    """

    def __init__(
        self,
        live: Live,
        clock: Clock,
        seconds: Callable[[], float],
        on_health: Callable[[str, Peer], None] | None = None,
    ) -> None:
        self._live = live
        self._clock = clock
        self._log = HealthLog(seconds) if on_health is None else None
        #: Called with an upstream's name and a peer when requests have changed its health.
        self.changed = self._log_change if on_health is None else on_health

    def _log_change(self, upstream: str, peer: Peer) -> None:
        if self._log is not None:
            down_for = max(0.0, peer.live.down_until - self._clock.now)
            self._log.took(upstream, peer.host, peer.port, down_for, peer.live.msg)

    def learn(
        self, upstream: Upstream, host: str, port: int, down_for: float, message: str
    ) -> bool:
        """Take another process's verdict on a server, as ``IPlane.set_health`` describes it.

        True if the verdict changes which servers of the upstream are in service.
        """
        live, now = self._live, self._clock.now
        others, known = False, None
        for server in upstream.servers:
            if (server.host, server.port) == (host, port):
                known = server if known is None else shared.stricter(known, server)
            elif not others:
                about = live.server(upstream.name, server.host, server.port)
                others = is_available(about, server, now)
        if known is None:
            return False
        about = live.server(upstream.name, host, port)
        if down_for <= 0:
            return shared.note_back(about)
        changed = shared.note_out(about, known, now, down_for, others, message)
        if self._log is not None:
            self._log.know(upstream.name, host, port)
        return changed

    def known(self) -> Iterator[tuple[str, str, int, float, str]]:
        """The servers that requests have put out of service, as ``IPlane.known_health``
        gives them."""
        now = self._clock.now
        for (upstream, host, port), live in self._live.servers.items():
            if now < live.down_until < math.inf:
                yield upstream, host, port, live.down_until - now, live.msg

    def peers(self, upstream: Upstream) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream."""
        live, name = self._live, upstream.name
        return {
            server.key: live.server(name, server.host, server.port) for server in upstream.servers
        }

    def forget(self, upstream: str, gone: Collection[tuple[str, int]]) -> None:
        """Drop what is known of servers, by host and port, that an upstream no longer has."""
        self._live.forget(upstream, gone)
        if self._log is not None:
            self._log.forget(upstream, gone)
