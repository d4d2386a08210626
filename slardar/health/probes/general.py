"""``general``: the server takes a connection."""

from __future__ import annotations

from slardar.health.probes.base import OK, Check, Probe, Result

__all__ = ["General"]


class Connected(Check):
    """A heartbeat that is over when the connection is there."""

    __slots__ = ()

    def connected(self) -> Result:
        return OK

    def received(self, data: bytes) -> Result:
        return OK

    def ended(self) -> Result:
        return OK


class General(Probe):
    """Sends nothing and reads nothing."""

    types = ("general",)

    def begin(self) -> Check:
        return CONNECTED


#: One for all heartbeats: it keeps nothing.
CONNECTED = Connected()
