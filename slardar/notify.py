"""Tells systemd the state of the service, with the messages of sd_notify(3).

A message is a datagram of ``KEY=VALUE`` lines to the socket that ``NOTIFY_SOCKET`` names.
slardar does not use the library for it (``sdnotify``), which has had no release since
2017, blocks while the socket is full, is silent when it fails, and has no watchdog.

One socket is opened at the start and kept: a process that is out of descriptors could not
open another one, and the watchdog would end the process for that.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["PRIVATE", "Notifier"]

#: Variables for this process alone: the processes that it starts must not speak for it.
PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")

#: Seconds after which the status line is compared with the last one sent.
_LOOK = 2.0
#: The shortest interval of a watchdog that is accepted, in seconds.
_SHORTEST = 0.01

_log = Logger("slardar.notify")


class Notifier:
    """Sends messages to the service manager; none if ``NOTIFY_SOCKET`` is not set.

    No method blocks or raises.  The first message that cannot be sent is logged; it is no
    error of the service.  A message about the state is sent again until it has gone out.

    ``describe`` returns the line that ``systemctl status`` shows while requests are served.
    """

    def __init__(
        self,
        reactor: Any,
        describe: Callable[[], str],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._reactor = reactor
        self._describe = describe
        self._environment = environment
        self._address = ""
        self._socket: socket.socket | None = None
        self._shown = ""
        self._unsent: str | None = None
        self._complained = False
        self._ending = False
        self._calls: list[LoopingCall] = []

    def starting(self) -> None:
        """The service starts: open the socket, before other parts use up the descriptors."""
        name = self._environment.get("NOTIFY_SOCKET", "")
        if not name or self._socket is not None:
            return
        if name[0] not in "/@":
            self._complain(f"NOTIFY_SOCKET: expected a path or @name, got {name!r}")
            return
        # An abstract name begins with a NUL; systemd writes @ for it.
        self._address = "\0" + name[1:] if name[0] == "@" else name
        try:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
        except OSError as error:
            self._complain(str(error))

    def serving(self) -> None:
        """Requests are served, for the first time or again after :meth:`reloading`."""
        if self._socket is None or self._ending:
            return
        self._shown = self._status()
        self._tell(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={self._shown}")
        if not self._calls:
            self._repeat(self._look, _LOOK)
            interval = watchdog_interval(self._environment)
            if interval is not None:
                self._repeat(self._alive, interval / 2)

    def reloading(self) -> None:
        """The configuration is read again; :meth:`serving` must follow."""
        if self._socket is None or self._ending:
            return
        self._shown = "reading the configuration again"
        # The time tells systemd that this answers its last HUP and not an earlier one.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS={self._shown}")

    def stopping(self) -> None:
        """No new requests are taken; requests under way are finished."""
        if self._socket is None or self._ending:
            return
        self._ending = True
        self._tell("STOPPING=1\nSTATUS=stopping: requests under way are finished")

    def failed(self, why: str) -> None:
        """The service cannot start; ``why`` is the reason."""
        if self._socket is not None and not self._ending:
            self._tell(f"STATUS=cannot start: {' '.join(why.split())}")

    def close(self) -> None:
        """The service has ended; may be called again."""
        self._ending = True
        for call in self._calls:
            if call.running:
                call.stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _repeat(self, action: Callable[[], None], seconds: float) -> None:
        call = LoopingCall(action)
        call.clock = self._reactor
        self._calls.append(call)
        call.start(seconds).addErrback(
            lambda failure: _log.failure("telling the service manager", failure=failure)
        )

    def _alive(self) -> None:
        """Tell the watchdog that the reactor runs, since it called this."""
        self._send("WATCHDOG=1")

    def _look(self) -> None:
        if self._unsent is not None:
            self._tell(self._unsent)
        if self._ending or self._unsent is not None:
            return
        if self._shown.startswith("serving"):
            status = self._status()
            if status != self._shown and self._send(f"STATUS={status}"):
                self._shown = status

    def _status(self) -> str:
        return "serving, " + " ".join(self._describe().split())

    def _tell(self, message: str) -> None:
        """Send a message that must arrive: it is kept until it or a newer one has gone out."""
        self._unsent = None if self._send(message) else message

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            self._complain(str(error))
            return False
        return True

    def _complain(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            _log.warn("cannot tell the service manager: {why}", why=why)


def watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Seconds within which systemd's watchdog expects a message of this process.

    ``None`` if there is no watchdog, or if it is for another process (``WATCHDOG_PID``).
    """
    try:
        seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6
        pid = int(environment.get("WATCHDOG_PID", "0"))
    except ValueError:
        return None
    if seconds < _SHORTEST or pid not in (0, os.getpid()):
        return None
    return seconds
