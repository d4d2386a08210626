"""Calls that may hang, in threads that nobody waits for.

A reactor that ends waits for everything that was handed to its own threads.  A call that
hangs there, in a resolver or on a disk that is away, would keep the process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.python.failure import Failure

__all__ = ["call_in_daemon"]

T = TypeVar("T")


def call_in_daemon(reactor: Any, call: Callable[..., T], *arguments: Any) -> defer.Deferred[T]:
    """Call it in a thread of its own, which ends with the process at the latest.

    Fires with the result or the failure.  If it is cancelled, the call goes on, and nobody
    gets its result.  Raises RuntimeError if the machine has no thread left.
    """
    done: defer.Deferred[T] = defer.Deferred()

    def end(result: Any) -> None:
        if not done.called:
            done.callback(result)

    def run() -> None:
        try:
            result: Any = call(*arguments)
        except BaseException:
            result = Failure()  # type: ignore[no-untyped-call]
        try:
            reactor.callFromThread(end, result)
        except OSError:
            # The reactor has ended meanwhile: nobody wants to know.
            pass

    threading.Thread(target=run, daemon=True).start()
    return done
