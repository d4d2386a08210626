"""The steps of an upgrade, as the old process takes them, and the way back from each step.

Until the successor says that it serves, the old process can go on as before if anything
goes wrong.  From this message on there is no way back: the old process drains and ends.
"""

# Twisted's tasks have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from slardar.dataplane.sockets import Opened
from slardar.errors import SlardarError
from slardar.observers.counted import Counted
from slardar.upgrade import messages
from slardar.upgrade.pidfile import PidFile
from slardar.upgrade.program import Program
from slardar.upgrade.successor import Successor, start_successor

__all__ = ["Host", "Upgrades"]

#: Seconds from the start of the successor until it asks for the store.  Reading 10,000
#: upstreams takes some seconds on a busy machine.
START = 60.0
#: Seconds from then until all workers of the successor serve.
SERVE = 60.0
#: Seconds between two reports to the successor.
_REPORT = 1.0

_log = Logger("slardar.upgrade")


class Host(Protocol):
    """The service that is upgraded."""

    def handed(self) -> Sequence[tuple[str, Opened]]:
        """The sockets to hand over, each with its purpose."""

    async def hand_over(self) -> messages.State:
        """Let go of the store; changes of the configuration wait from now on."""

    async def take_back(self) -> None:
        """Go on as before :meth:`hand_over`; without effect if it was not called."""

    def leave(self, taken: Sequence[Opened]) -> None:
        """Drain and end, because the successor serves.  It uses the sockets ``taken``."""

    def end(self, seconds: float) -> None:
        """End within ``seconds``."""

    def generations(self) -> list[dict[str, Any]]:
        """This process and the processes before it, as status shows them."""

    def counted(self) -> Counted:
        """What was counted since the call before, or since :meth:`hand_over`."""


class Upgrades:
    """Upgrades ``host`` by starting ``program`` again.

    ``options`` are twistd's; ``start`` is :func:`slardar.upgrade.successor.start_successor`.
    """

    def __init__(
        self,
        reactor: Any,
        program: Program,
        options: Any,
        host: Host,
        start: Callable[..., Successor] = start_successor,
    ) -> None:
        self._reactor = reactor
        self._program = program
        self._host = host
        self._start = start
        self.pid_file = PidFile(options)
        #: The process that has taken over; ``None`` before.
        self.successor_pid: int | None = None
        self._successor: Successor | None = None
        self._under_way: defer.Deferred[None] | None = None
        #: This process ends, too, and does not go on.
        self._is_cancelled = False
        self._reports = LoopingCall(self.report)
        self._reports.clock = reactor

    def upgrade(self) -> None:
        """Start an upgrade, unless one is under way or done."""
        if self.successor_pid is not None:
            _log.warn("USR2: pid {pid} has taken over already", pid=self.successor_pid)
        elif self._under_way is not None:
            _log.warn("USR2: an upgrade is under way already")
        else:
            _log.info("USR2: upgrading")
            done = defer.ensureDeferred(self._upgrade())
            done.addErrback(lambda failure: _log.failure("an upgrade", failure=failure))
            if self._successor is not None:
                self._under_way = done

    async def cancel(self, reason: str) -> None:
        """Give up an upgrade that is under way; returns when all is as it was before."""
        if self._under_way is not None and self._successor is not None:
            self._is_cancelled = True
            self._successor.fail(reason)
            waiting: defer.Deferred[None] = defer.Deferred()
            self._under_way.addBoth(waiting.callback)
            await waiting

    async def _upgrade(self) -> None:
        handed = self._host.handed()
        try:
            self.pid_file.move_aside()
            successor = self._start(self._reactor, self._program, handed, self._host.end)
        except OSError as error:
            self._put_pid_file_back()
            _log.error("not upgraded: {error}; pid {pid} goes on", error=error, pid=os.getpid())
            return
        self._successor = successor
        try:
            await successor.wait(messages.WantsStore, START)
            state = await self._host.hand_over()
            successor.tell(state)
            serving = await successor.wait(messages.Serving, SERVE)
            taken = [handed[index][1] for index in serving.taken]
        except Exception as error:
            if not isinstance(error, SlardarError):
                _log.failure("an upgrade")
            await self._go_on(successor, error)
            return
        self.successor_pid = successor.pid
        _log.info("upgraded: pid {pid} serves; finishing what is under way", pid=successor.pid)
        self._host.leave(taken)
        self._reports.start(_REPORT)
        successor.gone.addCallback(lambda _: self.stop_reports())

    async def _go_on(self, successor: Successor, error: Exception) -> None:
        text = " ".join(str(error).split()) or repr(error)
        if self._is_cancelled:
            _log.error("not upgraded: {error}", error=text)
        else:
            _log.error("not upgraded: {error}; pid {pid} goes on", error=text, pid=os.getpid())
        await successor.give_up(text)
        # The successor has ended: it holds the store no more, and will not remove the pidfile.
        await self._host.take_back()
        self._put_pid_file_back()
        self._successor = self._under_way = None

    def _put_pid_file_back(self) -> None:
        try:
            self.pid_file.put_back()
        except OSError as error:
            _log.error("the pidfile cannot be put back: {error}", error=error)

    def report(self) -> defer.Deferred[Any]:
        """Tell the successor what there is to know; fires when it knows, or has ended."""
        assert self._successor is not None
        generations = tuple(
            messages.Generation(one["pid"], one["age"], one["connections"])
            for one in self._host.generations()
        )
        return self._successor.tell(messages.Generations(generations, self._host.counted()))

    def stop_reports(self) -> None:
        """Stop the reports to the successor: it has ended, or this process ends."""
        if self._reports.running:
            self._reports.stop()
