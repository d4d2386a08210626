"""kazoo's thread: the one thread that kazoo is left with, and what it tells the reactor.

kazoo reads and writes the socket in one thread, and is made here to have no other.  All that
happens there (answers, events of the watch, the connection come and gone) is put into one queue,
so the reactor hears of everything in the order in which ZooKeeper said it.

kazoo would go on with its session after a break.  Here each connection begins with a new session:
a session means nothing to a client without ephemeral nodes, and with an old one ZooKeeper would
not take a client that has seen more than a server that was restored from a snapshot.

kazoo 2.11 has no watches that stay, and its calls make a lock for each request.  So requests are
given to ``KazooClient._call`` here, and the tables of its watches are replaced.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import (  # type: ignore[import-untyped]
    AuthFailedError,
    ConnectionDropped,
    ConnectionLoss,
    SessionExpiredError,
)
from kazoo.handlers.threading import (  # type: ignore[import-untyped]
    SequentialThreadingHandler,
)
from kazoo.protocol.states import KazooState  # type: ignore[import-untyped]
from kazoo.retry import KazooRetry  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred

from slardar.backoff import backoff
from slardar.errors import one_line

if TYPE_CHECKING:
    from slardar.stores.zookeeper_session import Session

__all__ = ["FIRST", "LONGEST", "Batch", "KazooThread", "Request"]

#: Seconds that a connection must last so that the next is made without a delay.
_LASTING = 10.0
#: The first and the longest delay between two attempts to connect, in seconds.
FIRST = 0.1
LONGEST = 5.0
#: What kazoo says, in plain words.
_WORDS = {
    "outstanding heartbeat ping not received": "no answer to a ping",
    "socket connection broken": "the server has closed the connection",
    "socket time-out during read": "no answer",
}


class Batch:
    """Requests that are under way together."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.answers: list[Any] = [None] * size
        self.done: Deferred[list[Any]] = Deferred()


class Request:
    """One request of a batch, for one connection: it is never sent on a later one."""

    def __init__(
        self, request: Any, live: KazooThread, number: int, batch: Batch, place: int
    ) -> None:
        self._request = request
        self._live = live
        self._number = number
        self._batch = batch
        self._place = place
        self.type = request.type

    # kazoo calls all these in its thread; and ``set_exception`` also in the reactor's, where the
    # connection is over.

    def serialize(self) -> Any:
        """What is sent now."""
        if self._number != self._live.number:
            raise ConnectionDropped("a request was late")
        return self._request.serialize()

    def deserialize(self, data: bytes, offset: int) -> Any:
        """The answer that was read."""
        return self._request.deserialize(data, offset)

    def set(self, value: Any = None) -> None:
        """The answer."""
        self._live.answer(self._batch, self._place, value)

    def set_exception(self, error: Exception) -> None:
        """ZooKeeper's error, or that the connection is lost."""
        if isinstance(error, ConnectionLoss | SessionExpiredError | AuthFailedError):
            self._live.lose(self._batch)
        else:
            self._live.answer(self._batch, self._place, error)


class _EveryPath(dict[str, Any]):
    """What kazoo takes for its watches: one for all paths, which stays."""

    def __init__(self, watcher: Callable[[Any], None]) -> None:
        super().__init__()
        self._watcher = watcher

    def pop(self, path: str, default: Any = ()) -> Any:
        """Who is to be told of the path."""
        return (self._watcher,)


class _Client(KazooClient):  # type: ignore[misc]
    """kazoo's client with a watch that stays."""

    def __init__(self, watcher: Callable[[Any], None], **options: Any) -> None:
        self._watcher = watcher
        super().__init__(**options)

    def _reset_watchers(self) -> None:
        self._child_watchers: dict[str, Any] = {}
        self._data_watchers = _EveryPath(self._watcher)

    def forget_session(self) -> None:
        """Begin a new session with the next connection."""
        self._reset_session()
        self.last_zxid = 0


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads and sockets: one thread, whose waits can be cut short."""

    def __init__(self, live: KazooThread) -> None:
        super().__init__()
        self._live = live
        self._ending = threading.Event()
        self._socket: socket.socket | None = None

    # kazoo's threads for callbacks are not needed.

    def start(self) -> None:
        """Called by kazoo."""

    def stop(self) -> None:
        """Called by kazoo."""

    def dispatch_callback(self, callback: Any) -> None:
        """Called by kazoo with an event of the watch."""
        callback.func(*callback.args)

    def spawn(self, func: Any, *args: Any, **kwargs: Any) -> threading.Thread:
        """Called by kazoo for its thread."""

        def run() -> None:
            try:
                func(*args, **kwargs)
            except Exception as error:  # kazoo has a bug, or was told nonsense
                self._live.say(one_line(error))
            self._live.ended()

        # A daemon, so that it does not keep the process alive if the reactor never runs.
        thread = threading.Thread(target=run, name="slardar-zookeeper", daemon=True)
        thread.start()
        return thread

    def sleep_func(self, seconds: float) -> None:
        """Called by kazoo, in its thread, between two rounds through all servers."""
        self._live.failed()
        self._ending.wait(seconds)

    def create_connection(self, address: Any, timeout: Any = None, **_others: Any) -> Any:
        """Called by kazoo, in its thread."""
        self._ending.wait(self._live.delay())
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        self._socket = made
        try:
            if self._ending.is_set():
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(timeout)
            made.connect(address[:2])
        except TimeoutError as error:  # it has no text of its own
            made.close()
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
        except OSError:
            made.close()
            raise
        return made

    def drop(self) -> None:
        """End the connection that there is or that is being made, from another thread."""
        made = self._socket
        if made is not None:
            try:
                made.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was closed, or is not open yet

    def abort(self) -> None:
        """Make no connections any more."""
        self._ending.set()
        self.drop()


class _Lines(logging.Handler):
    """Where kazoo's log goes."""

    def __init__(self, live: KazooThread) -> None:
        super().__init__()
        self._live = live

    def emit(self, record: logging.LogRecord) -> None:
        """Called by :mod:`logging`, in kazoo's thread."""
        if record.msg == "Transition to CONNECTING":
            return  # It says nothing.
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {one_line(record.exc_info[1])}"
        self._live.say(" ".join(text.split()))


class KazooThread:
    """One client of kazoo, and what its thread knows."""

    def __init__(self, session: Session, hosts: str, timeout: float, auth: str | None) -> None:
        self._session = session
        #: The number of the connection.
        self.number = 0
        #: Why there is no connection.
        self._reason = "not connected yet"
        #: Whether it was not told yet.
        self._is_new = False
        #: When the last connection was made, and how many in a row did not last.
        self._since = -_LASTING
        self._short = 0
        self.handler = _Handler(self)
        log = logging.Logger("kazoo", logging.WARNING)
        log.addHandler(_Lines(self))
        self.client = _Client(
            self._event,
            hosts=hosts,
            timeout=timeout,
            handler=self.handler,
            auth_data=None if auth is None else [("digest", auth)],
            connection_retry=KazooRetry(
                max_tries=-1, max_delay=LONGEST, sleep_func=self.handler.sleep_func
            ),
            logger=log,
        )
        self.client.add_listener(self._state)

    # In kazoo's thread.

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        self._session.post(self._told, function, *arguments)

    def _state(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            now = time.monotonic()
            self._short = self._short + 1 if now < self._since + _LASTING else 0
            self._since = now
            self._reason = "the connection is lost"
            self.number = next(self._session.numbers)
            self._post(self._session.is_connected, self.number)
        else:
            self.client.forget_session()
            self._post(self._session.is_lost, self._reason)

    def _event(self, event: Any) -> None:
        self._post(self._session.happened, event.path)

    def answer(self, batch: Batch, place: int, value: Any) -> None:
        """A request has its answer, or an error."""
        self._post(self._session.answered, batch, place, value, self.client.last_zxid)

    def lose(self, batch: Batch) -> None:
        """The connection ended before a request had its answer."""
        self._post(self._session.lost, batch, self._reason)

    def delay(self) -> float:
        """Seconds to wait before the next attempt, besides those that kazoo waits: where
        connections are made but do not last."""
        if self._short < 2:
            return 0.0
        return backoff(FIRST, LONGEST, self._short)

    def failed(self) -> None:
        """No server could be reached; called again and again until the next round."""
        if self._is_new:
            self._is_new = False
            self._post(self._session.is_lost, self._reason)

    def say(self, text: str) -> None:
        """A line for the log, and the reason of what is told next."""
        for words in ("Connection dropped: ", "Connection time-out: ", "socket connection error: "):
            text = text.removeprefix(words)
        text = _WORDS.get(text, text)
        self._reason = text
        self._is_new = True
        self._post(self._session.said, text)

    def ended(self) -> None:
        """The thread ends, because it was told to, or because kazoo gives up."""
        self._post(self._session.is_ended, self._reason)

    # In other threads.

    def _told(self, function: Callable[..., None], *arguments: Any) -> None:
        """In the reactor's: a client that was given up has nothing to say."""
        if self._session.live is self:
            function(*arguments)

    def end(self) -> None:
        """Wait for kazoo's thread, and let go of all that it has.  Blocks."""
        self.client.stop()
        self.client.close()
