"""One thread for calls that block: they are made in order, and never in the reactor."""

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
    """A thread that does not keep the process alive if the reactor never runs.

    A store does all of a change or nothing, so the thread may be cut off.
    """

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words, daemon=True)


class _Pool(ThreadPool):
    threadFactory = _Daemon  # noqa: N815 - Twisted's name


class StoreThread:
    """Makes the calls that it is given, one after the other, until it is ended.

    It also ends when the reactor has stopped: after the calls that it was given until then, and a
    call of ``at_exit``, which may block and must work in any state.  All methods are for the
    reactor's thread.
    """

    def __init__(self, reactor: Any, name: str, at_exit: Callable[[], object]) -> None:
        self._reactor = reactor
        self._at_exit = at_exit
        self.ended = False
        self._pool = _Pool(1, 1, name)
        self._pool.start()
        # "after": services have closed their stores by then.
        self._trigger = reactor.addSystemEventTrigger("after", "shutdown", self._exit)

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Call ``function`` in the thread.  Fires with what it returns, or fails with what it
        raises.

        The call is made after all that were given before.  Not to be used after :meth:`end`.
        """
        assert not self.ended
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)

    def end(self) -> None:
        """Wait for the call under way and end the thread.  A second call does nothing.

        Blocks while a call is under way: use it when none is.
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
