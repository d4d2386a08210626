"""Puts the parts together and starts and stops them in the right order.

This is the only module that knows them all.  twistd finds :class:`Options` and
:func:`makeService` here through ``twisted/plugins/slardar_plugin.py``.
"""

# Twisted's services and endpoints have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from slardar import __version__
from slardar.config import Settings
from slardar.control.actions import Actions
from slardar.control.http import make_site
from slardar.dataplane.descriptors import raise_descriptor_limit
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.sockets import listening_place
from slardar.errors import SlardarError
from slardar.model.live import Live
from slardar.options import Options
from slardar.plugins import balancer_factory, check_mode, open_store
from slardar.workers.parent import Workers, usable_cores

__all__ = ["Options", "SlardarService", "makeService"]

_log = Logger("slardar.service")


def makeService(options: Options) -> SlardarService:
    """The service that twistd runs for these options; nothing is opened yet."""
    # twistd has chosen and installed the reactor by now, and has no way to pass it.
    from twisted.internet import reactor  # noqa: TID251

    return SlardarService(reactor, options.settings)


def make_plane(reactor: Any, settings: Settings) -> DataPlane | Workers:
    """What serves these settings: workers, or this process alone for ``workers`` 0."""
    count = usable_cores() if settings.workers == "auto" else settings.workers
    if count:
        return Workers(reactor, settings, count)
    return DataPlane(reactor, settings, Live(), balancer_factory)


class SlardarService(Service):
    """slardar as one service: the data plane, the store and the control channel.

    Whoever embeds it may wait for ``ready``, which fires when requests are served
    and fails if that cannot be.  Under twistd a failure ends the process with one
    line of the log and exit code 1.
    """

    name = "slardar"

    def __init__(self, reactor: Any, settings: Settings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._plane = make_plane(reactor, settings)
        self._store = open_store(settings.store, reactor)
        self.actions = Actions(settings, self._store, self._plane, check_mode)
        self._control_port: Any = None
        self._places: list[str] = []
        self._bound = False
        #: Fires with ``None`` when requests are served.
        self.ready: defer.Deferred[None] = defer.Deferred()

    def privilegedStartService(self) -> None:
        """Bind the listening sockets, while twistd may still be root for ports below
        1024.  Nobody is accepted before the state is loaded."""
        super().privilegedStartService()
        self._run(self._bind())

    def startService(self) -> None:
        """Load the state, then serve."""
        super().startService()
        self._run(self._start())

    def _run(self, steps: Any) -> None:
        defer.ensureDeferred(steps).addErrback(self._cannot_start)

    async def _bind(self) -> None:
        if not self._bound:
            self._bound = True
            raise_descriptor_limit()
            for endpoint in self._settings.listen:
                self._places.append(await self._plane.listen(endpoint))

    async def _start(self) -> None:
        await self._bind()
        await self.actions.start()
        await defer.maybeDeferred(self._plane.start)
        control = serverFromString(self._reactor, self._settings.control.http)
        self._control_port = await control.listen(
            make_site(self.actions, self._settings.control, self._reactor)
        )
        _log.info("slardar {version} is running", version=__version__)
        for place in self._places:
            _log.info("requests on {place}", place=place)
        _log.info("control on {place}", place=listening_place(self._control_port.socket))
        # What was loaded stays: looking through it again and again would be for nothing.
        gc.collect()
        gc.freeze()
        if not self.ready.called:
            self.ready.callback(None)

    def _cannot_start(self, failure: Any) -> None:
        """The first failure ends it: one line for what is the world's or the user's
        fault, a traceback for what is ours."""
        if self.ready.called:
            return
        if failure.check(SlardarError, CannotListenError, OSError):
            _log.critical("cannot start: {error}", error=_one_line(failure.value))
        else:
            _log.failure("cannot start", failure=failure)
        self.ready.addErrback(lambda _failure: None)
        self.ready.errback(failure)
        if self.parent is not None:
            atexit.register(_end_with, 1)
            self._reactor.callLater(0, _stop_reactor, self._reactor)

    def stopService(self) -> defer.Deferred[None]:
        """Finish the requests under way, at most for ``timeouts.drain`` seconds."""
        return defer.ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await defer.maybeDeferred(super().stopService)
        if self.ready.called:
            _log.info("stopping: requests under way are finished first")
        await self._plane.stop()
        if self._control_port is not None:
            await defer.maybeDeferred(self._control_port.stopListening)
        await self._store.close()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _stop_reactor(reactor: Any) -> None:
    if reactor.running:
        reactor.stop()


def _end_with(code: int) -> None:
    """twistd knows no exit code but that of a signal; this comes after all of it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
