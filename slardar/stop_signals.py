"""``TERM`` and ``INT``: the first one stops the process, a second one ends the wait for requests.

Twisted's own handlers would stop the reactor a second time, which is an error with a traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning

__all__ = ["StopSignals"]


class StopSignals:
    """What the signals do.  ``hurry`` is called in the reactor for each signal after the first.

    Also every other end of the process goes through :meth:`stop`, so that a signal during it
    stops nothing twice.
    """

    def __init__(self, reactor: Any, hurry: Callable[[], None]) -> None:
        self._reactor = reactor
        self._hurry = hurry
        self._stops = False
        #: The reactor's handlers: they keep the signal, which becomes the exit code.
        self._handlers: dict[int, Callable[..., Any]] = {}

    def install(self) -> None:
        """Handle the signals as soon as the reactor does.  An ignored one stays ignored: a shell
        has its reasons for processes in the background."""
        self._reactor.callWhenRunning(self._install)

    def _install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._came)

    def _came(self, number: int, frame: Any) -> None:
        # It interrupts any code, so all else is left to the reactor.
        if self._stops or not self._reactor.running:
            self._reactor.callFromThread(self._hurry)
        else:
            self._stops = True
            self._handlers[number](number, frame)

    def stop(self) -> None:
        """Stop the reactor, unless it stops already."""
        if not self._stops:
            self._stops = True
            if self._reactor.running:
                try:
                    self._reactor.stop()
                except ReactorNotRunning:
                    pass  # by somebody else, in this turn

    def ignore(self) -> None:
        """Ignore further signals: the process ends already, in the time it was given."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
