"""The results of one watch of etcd, as they come: a line of JSON each."""

# Twisted's failures have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from slardar.errors import StoreError
from slardar.stores.etcd_exchange import Connection, reason_of
from slardar.stores.etcd_messages import (
    AwayError,
    ErrorAnswer,
    RefusedError,
    WatchLine,
    WatchResult,
    printable,
)

__all__ = ["Stream"]

#: Bytes of a line, and of the lines that belong together.  etcd splits what a watch has to tell at
#: 2 MiB (``fragment``), of which JSON makes 10 MiB at most.
MAX_LINE: Final = 32 << 20
MAX_GATHERED: Final = 256 << 20


class Stream(Protocol):
    """The results of one watch, as they come.  ``took`` is called with each; it may raise
    StoreError.  ``paused`` is called after those that have come together.

    ``ended`` fires when the other side has ended the stream, and fails with what was wrong.
    """

    def __init__(
        self, name: str, took: Callable[[WatchResult], None], paused: Callable[[], None]
    ) -> None:
        #: What messages call the member.
        self.name = name
        self._took = took
        self._paused = paused
        self._buffer = bytearray()
        #: Up to where the buffer has no end of a line.
        self._searched = 0
        self._gathered: WatchResult | None = None
        self._size = 0
        self._decoder = msgspec.json.Decoder(WatchLine, strict=False)
        self._connection: Connection | None = None
        #: Fires when the watch is created.
        self.created: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def began(self, connection: Connection) -> None:
        """The stream comes over this connection."""
        self._connection = connection

    def dataReceived(self, data: bytes) -> None:
        if self.ended.called:
            return
        self._buffer += data
        try:
            while not self.ended.called:
                end = self._buffer.find(b"\n", self._searched)
                if end < 0:
                    self._searched = len(self._buffer)
                    break
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                self._line(line)
            if len(self._buffer) > MAX_LINE:
                raise StoreError(f"{self.name}: a line of a watch is longer than {MAX_LINE} bytes")
        except StoreError as error:
            self._paused()
            self.end(error)
        else:
            self._paused()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        is_whole = reason.check(ResponseDone, PotentialDataLoss)
        why = "it ended the watch" if is_whole else reason_of(reason)
        self.end(None if self.created.called else AwayError(f"{self.name}: {why}", lost=True))

    def end(self, error: StoreError | None = None) -> None:
        """End the stream, with what was wrong if anything was."""
        if self.ended.called:
            return
        self._buffer.clear()
        self._gathered = None
        if not self.created.called:
            self.created.errback(error or AwayError(f"{self.name}: the watch was ended"))
        if error is None:
            self.ended.callback(None)
        else:
            self.ended.errback(error)
        self.cut()

    def cut(self) -> None:
        """Let go of the connection at once."""
        if self._connection is not None:
            self._connection.cut()

    def _line(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            told = self._decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.name}: no watch result: {printable(str(error))}") from None
        result = told.result
        if told.error is not None:
            # The member stops, say, or has lost its leader.
            away = AwayError(f"{self.name}: {printable(ErrorAnswer(told.error).text)}")
            self.end(None if self.created.called else away)
            return
        if result is None:
            raise StoreError(f"{self.name}: no watch result: it is empty")
        # A watch that is refused is created and cancelled at once.
        if not self.created.called:
            if result.canceled and not result.compact_revision:
                raise self._refused(result)
            if result.created:
                self.created.callback(None)
        result = self._whole(result, len(line))
        if result is None:
            return
        if result.canceled and not result.compact_revision:
            raise self._refused(result)
        self._took(result)

    def _refused(self, result: WatchResult) -> RefusedError:
        text = printable(result.cancel_reason) or "it cancelled the watch"
        return RefusedError(f"{self.name}: {text}", text)

    def _whole(self, result: WatchResult, size: int) -> WatchResult | None:
        """The result with the fragments before it; ``None`` while there is more to come."""
        if self._gathered is not None:
            result.events = self._gathered.events + result.events
            self._gathered = None
            self._size += size
        else:
            self._size = size
        if self._size > MAX_GATHERED:
            raise StoreError(f"{self.name}: it tells of more than {MAX_GATHERED} bytes at a time")
        if result.fragment:
            self._gathered = result
            return None
        return result
