"""One thread for what blocks, so that it is done in order and never in the reactor."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

__all__ = ["StoreThread"]

T = TypeVar("T")


class _Daemon(Thread):
    """A thread that does not keep a process alive whose reactor never ran.

    What a store does is all or nothing, so that it may be cut off there.
    """

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words, daemon=True)


class _Pool(ThreadPool):
    threadFactory = _Daemon  # noqa: N815 - Twisted's name


class StoreThread:
    """Does what it is given, one thing after the other, until it is ended.

    It also ends when the reactor has stopped, after what it was given until then and
    a call of ``at_exit``, which may block and must bear to be called in any state.
    All methods are for the reactor's thread.
    """

    def __init__(self, reactor: Any, name: str, at_exit: Callable[[], object]) -> None:
        self._reactor = reactor
        self._at_exit = at_exit
        self.ended = False
        self._pool = _Pool(1, 1, name)
        self._pool.start()
        # "after": a service that closes its store has had its turn by then.
        self._trigger = reactor.addSystemEventTrigger("after", "shutdown", self._exit)

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Fires with what ``function`` returns, or fails with what it raises.

        It runs after all that was given before.  Not to be called after :meth:`end`.
        """
        assert not self.ended
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)

    def end(self) -> None:
        """Wait for what is under way and end the thread; a second call does nothing.

        Blocks for as long as that takes: call it when nothing is.
        """
        if self.ended:
            return
        self.ended = True
        self._reactor.removeSystemEventTrigger(self._trigger)
        self._pool.stop()

    def _exit(self) -> None:
        """The reactor has stopped: nobody can wait any more, so blocking is right."""
        self.ended = True
        self._pool.callInThread(self._at_exit)
        self._pool.stop()
