"""AMP between programs that do not trust each other: quiet, and bounded in memory."""

# Twisted's AMP has no types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.protocols import amp

__all__ = ["QuietAmp"]


class QuietAmp(amp.AMP):
    """Twisted's AMP, but for three things.

    It logs no connections.  A box may take ``max_box`` bytes; without a limit, a box could have any
    number of keys.  And an error ends the connection in one place, :meth:`broken`.
    """

    #: Bytes that may come without completing a box.
    max_box = 3 * 65_536
    #: The connection has ended: nothing can be sent.
    is_lost = False
    _since_box = 0

    def close(self) -> None:
        """End the connection at once; bytes that wait to be sent are dropped."""
        if not self.is_lost and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def finish(self) -> None:
        """End the connection when everything has been sent."""
        if not self.is_lost and self.transport is not None:
            self.transport.loseConnection()

    def broken(self, error: BaseException) -> None:
        """The other side has sent what is not AMP, or an answer to a question that nobody asked."""
        self.close()

    # Twisted's.

    def makeConnection(self, transport: Any) -> None:
        # AMP's own would log each connection, as would its connectionLost.
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def dataReceived(self, data: bytes) -> None:
        self._since_box += len(data)
        if self._since_box > self.max_box:
            self.close()
            return
        try:
            super().dataReceived(data)
        except Exception as error:
            self.broken(error)

    def ampBoxReceived(self, box: Any) -> None:
        self._since_box = 0
        super().ampBoxReceived(box)

    def unhandledError(self, failure: Any) -> None:
        self.broken(failure.value)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.is_lost = True
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
