"""The AMP link between director and worker: messages of any size, and their answers.

AMP limits a value to 65,535 bytes, so a message goes in pieces.  Every piece but the last
is sent as a :class:`Piece`, which has no answer.  The last piece is sent as :class:`Last`,
and its answer is the answer to the message.  The pieces of a message are sent back to
back, so the pieces of two messages never mix.

A link keeps at most ``max_message`` bytes of what the other side sends.  If the other side
sends a longer message, or bytes that are not AMP, the link is closed.
"""

# Twisted's AMP has no types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import defer
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from slardar.amp.protocol import QuietAmp

__all__ = ["FIRST_SOCKET", "LINK", "MARK", "OUTPUT", "PIECE", "Last", "Link", "OneLink", "Piece"]

#: The descriptors of a worker: of the link, of the memory where it notes which hook runs
#: (:mod:`slardar.workers.marks`), of the director's standard output, and of the first
#: listening socket.
LINK = 3
MARK = 4
OUTPUT = 5
FIRST_SOCKET = 6

#: Bytes of a message in one piece.
PIECE = 60_000

_log = Logger("slardar.workers")


class Piece(amp.Command):
    """A part of a message that is not the last."""

    arguments: ClassVar = [(b"data", amp.String())]
    requiresAnswer = False  # noqa: N815 Twisted's name


class Last(amp.Command):
    """The last part of a message; its answer is the answer to the whole message."""

    arguments: ClassVar = [(b"data", amp.String())]
    response: ClassVar = [(b"data", amp.String())]


class Link(QuietAmp):
    """One end of the link.

    ``received(message)`` is called with each message, and returns the answer, at most
    65,535 bytes, or a Deferred of it.  ``lost()`` is called once, when the link has ended.
    ``max_message`` is in bytes; ``None`` is no limit.
    """

    def __init__(
        self,
        received: Callable[[bytes], Any],
        lost: Callable[[], None],
        max_message: int | None = None,
    ) -> None:
        super().__init__()
        self._received = received
        self._lost = lost
        self._max_message = max_message
        self._pieces: list[bytes] = []
        self._size = 0

    def send(self, message: bytes) -> defer.Deferred[bytes]:
        """Send a message; fires with its answer, and fails if the link is lost."""
        if self.is_lost:
            return defer.fail(Failure(ConnectionError("the link is lost")))
        end = max(0, len(message) - 1) // PIECE * PIECE
        for start in range(0, end, PIECE):
            self.callRemote(Piece, data=message[start : start + PIECE])
        answer: defer.Deferred[bytes] = defer.Deferred()
        # A Deferred of its own: AMP takes an error in a callback of its Deferred for a
        # failure of the link.
        self.callRemote(Last, data=message[end:]).addCallbacks(
            lambda box: answer.callback(box["data"]), answer.errback
        )
        return answer

    @Piece.responder
    def piece_came(self, data: bytes) -> dict[str, Any]:
        self._take(data)
        return {}

    @Last.responder
    def last_came(self, data: bytes) -> Any:
        self._take(data)
        message = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        answer = defer.maybeDeferred(self._received, message)
        return answer.addCallback(lambda data: {"data": data})

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._max_message is not None and self._size > self._max_message:
            self._pieces, self._size = [], 0
            self.close()
            raise ValueError(f"a message of more than {self._max_message} bytes")
        self._pieces.append(data)

    # Twisted's.

    def locateResponder(self, name: bytes) -> Any:
        # AMP itself would answer to StartTLS.
        if name not in (Piece.commandName, Last.commandName):
            return None
        return super().locateResponder(name)

    def broken(self, error: BaseException) -> None:
        if not self.is_lost:
            _log.error("a link between two processes broke: {error!r}", error=error)
        super().broken(error)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        super().connectionLost(reason)
        self._lost()


class OneLink(Factory):
    """A factory for the one connection of a link."""

    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, address: Any) -> Any:
        return self._link
