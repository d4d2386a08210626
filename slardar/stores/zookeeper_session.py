"""A connection to ZooKeeper, as the reactor sees it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from slardar.backoff import backoff
from slardar.errors import StoreError, one_line
from slardar.stores.zookeeper_thread import FIRST, LONGEST, Batch, KazooThread, Request

__all__ = ["Owner", "Session"]

_log = Logger()

#: Lines of kazoo in slardar's log, at most, in a minute.
_LINES_A_MINUTE = 10
#: Seconds that ZooKeeper has to end the session when it is closed.
_GRACE = 1.0
#: Seconds more for the lookup of a name that is under way then.
_LOOKUP = 2.0
#: Seconds after which an end of kazoo's thread is forgotten.
_FORGIVEN = 60.0
#: Things out of kazoo's thread that the reactor takes in one turn.
_TURN = 500


class Owner(Protocol):
    """Who hears of the connection, in the reactor's thread."""

    def connected(self) -> None:
        """There is a connection, with a session of its own.  Watches must be set again."""

    def lost(self, reason: str) -> None:
        """There is no connection, or again none could be made."""

    def happened(self, path: str) -> None:
        """The watch tells that a node was made, changed or removed."""


class Session:
    """A connection to one of ``hosts`` (``HOST:PORT,HOST:PORT``), made again when it is lost.

    ``timeout`` is in seconds: a server that does not answer for so long is left.  ``auth`` is
    ``USER:PASSWORD`` or ``None``.
    """

    #: Numbers of connections; those of other sessions are others.
    numbers = count(1)

    def __init__(
        self, hosts: str, timeout: float, auth: str | None, reactor: Any, owner: Owner | None
    ) -> None:
        self._name = f"ZooKeeper at {hosts}"
        self._reactor = reactor
        #: ``None``: nobody is told any more.
        self.owner = owner
        self._timeout = timeout
        #: The number of the connection there is, larger than all before it; 0: there is none.
        self.connection = 0
        #: The highest number of a change that ZooKeeper has named on this connection.
        self.zxid = 0
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._scheduled = False
        self._waiting: list[Deferred[None]] = []
        #: Why there is no connection, once all servers have been tried.
        self._away = ""
        #: Batches under way, when the last answer came, and who looks whether one does.
        self._open: set[Batch] = set()
        self._progress = 0.0
        self._watchdog: Any = None
        self._slow = ""
        #: When kazoo's thread gave up the last time, and how often in a row.
        self._gave_up = 0.0
        self._restarts = 0
        self._restart: Any = None
        #: The log's lines since when.
        self._minute = 0.0
        self._lines = 0
        self._ending = False
        self._ended = False
        self._closing: list[Deferred[None]] = []
        self._make = partial(KazooThread, self, hosts, timeout, auth)
        self.live = self._make()
        self.live.client.start_async()

    def error(self, reason: str) -> StoreError:
        """An error for people."""
        return StoreError(f"{self._name}: {reason}")

    def ready(self) -> Deferred[None]:
        """Fires when there is a connection.

        Fails with StoreError if all servers have been tried without one, or have not been within
        the timeout.
        """
        if self.connection:
            return succeed(None)
        if self._away or self._ended:
            return fail(self.error(self._away or "closed"))
        waits: Deferred[None] = Deferred()
        self._waiting.append(waits)
        timer = self._reactor.callLater(self._timeout, self._waited, waits)

        def cancel(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            return result

        return waits.addBoth(cancel)

    def _waited(self, waits: Deferred[None]) -> None:
        self._waiting.remove(waits)
        waits.errback(self.error(f"no connection within {self._timeout:g} s"))

    def ask(self, requests: Sequence[Any]) -> Deferred[list[Any]]:
        """Send the requests together.  Fires with the answers, in order; an error that ZooKeeper
        answered is one of them.

        Fails with StoreError if there is no connection, or it is lost before all are answered.  It
        is not known then which of them were done.
        """
        if not self.connection:
            return fail(self.error(self._away or "closed"))
        batch = Batch(len(requests))
        if not self._open:
            self._progress = self._reactor.seconds()
            self._watchdog = self._reactor.callLater(self._timeout, self._look)
        self._open.add(batch)
        for place, request in enumerate(requests):
            sent = Request(request, self.live, self.connection, batch, place)
            # It never blocks: it wakes kazoo's thread through a pair of sockets.
            self.live.client._call(sent, sent)
        return batch.done

    def _look(self) -> None:
        """Leave a server that is silent."""
        left = self._progress + self._timeout - self._reactor.seconds()
        if left > 0:
            self._watchdog = self._reactor.callLater(left, self._look)
            return
        self._watchdog = None
        self._slow = f"no answer within {self._timeout:g} s"
        self.live.handler.drop()

    def _over(self, batch: Batch) -> None:
        self._open.discard(batch)
        if not self._open and self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def close(self) -> Deferred[None]:
        """End the session, and with it the thread.

        Requests under way are answered, if ZooKeeper does it within a second.
        """
        if self._ended:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        if self._ending:
            return closed
        self._ending = True
        self.owner = None
        if self._restart is not None:
            self._restart.cancel()
        live = self.live
        if not self.connection:
            live.handler.abort()
        timers = (
            self._reactor.callLater(_GRACE, live.handler.abort),
            # A lookup of a name cannot be cut short.
            self._reactor.callLater(_GRACE + _LOOKUP, self.has_ended, ()),
        )

        def end() -> None:
            try:
                live.end()
            except Exception as error:
                self.post(self._log_line, one_line(error))
            self.post(thread.join)
            self.post(self.has_ended, timers)

        thread = threading.Thread(target=end, name="slardar-zookeeper-end", daemon=True)
        thread.start()
        return closed

    def has_ended(self, timers: Sequence[Any]) -> None:
        """Nobody needs to wait for the end any more."""
        for timer in timers:
            if timer.active():
                timer.cancel()
        self._fail("closed")
        self._ended = True
        waiting, self._closing = self._closing, []
        for one in waiting:
            one.callback(None)

    # What kazoo's thread tells.

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the reactor's thread, after all that were posted before.  For any
        thread."""
        self._posted.append((function, arguments))
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callFromThread(self._take)

    def _take(self) -> None:
        # First, for what is posted meanwhile.
        self._scheduled = False
        for _ in range(_TURN):
            if not self._posted:
                return
            function, arguments = self._posted.popleft()
            function(*arguments)
        self._scheduled = True
        self._reactor.callFromThread(self._take)

    def answered(self, batch: Batch, place: int, value: Any, zxid: int) -> None:
        """A request has its answer, or an error."""
        if batch not in self._open:
            return
        self._progress = self._reactor.seconds()
        self.zxid = max(self.zxid, zxid)
        batch.answers[place] = value
        batch.left -= 1
        if not batch.left:
            self._over(batch)
            batch.done.callback(batch.answers)

    def lost(self, batch: Batch, reason: str) -> None:
        """The connection ended before a request had its answer."""
        if batch in self._open:
            self._over(batch)
            batch.done.errback(self.error(self._slow or reason))

    def is_connected(self, number: int) -> None:
        """There is another connection."""
        self.connection = number
        self.zxid = 0
        self._away = self._slow = ""
        if self.owner is not None:
            self.owner.connected()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def is_lost(self, reason: str) -> None:
        """There is no connection, or all servers were tried again without one."""
        self.connection = 0
        self._away = self._slow or reason
        self._slow = ""
        self._fail(self._away)
        if self.owner is not None:
            self.owner.lost(f"{self.error(self._away)}")

    def happened(self, path: str) -> None:
        """The watch tells of a node."""
        if self.owner is not None:
            self.owner.happened(path)

    def _fail(self, reason: str) -> None:
        """Nobody is to wait any more."""
        waiting: list[Deferred[Any]] = [batch.done for batch in self._open]
        waiting += self._waiting
        for batch in list(self._open):
            self._over(batch)
        self._waiting = []
        for one in waiting:
            one.errback(self.error(reason))

    def said(self, text: str) -> None:
        """kazoo has something for the log."""
        if not self._ending:  # What it says of an end that is wanted misleads.
            self._log_line(text)

    def _log_line(self, text: str) -> None:
        now = self._reactor.seconds()
        if now > self._minute + 60:
            self._minute, self._lines = now, 0
        self._lines += 1
        if self._lines <= _LINES_A_MINUTE:
            _log.info("{name}: {text}", name=self._name, text=text)

    def is_ended(self, reason: str) -> None:
        """kazoo's thread has ended, though nobody told it to: begin anew after a while."""
        if self._ending:
            return
        self.is_lost(reason)
        now = self._reactor.seconds()
        self._restarts = self._restarts + 1 if now < self._gave_up + _FORGIVEN else 0
        self._gave_up = now
        self.live.end()
        delay = backoff(FIRST, LONGEST, self._restarts)
        self._restart = self._reactor.callLater(delay, self._begin_anew)

    def _begin_anew(self) -> None:
        self._restart = None
        self.live = self._make()
        self.live.client.start_async()
