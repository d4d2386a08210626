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
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer, threads
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
from slardar.errors import ConfigError, SlardarError
from slardar.model.live import Live
from slardar.notify import Notifier
from slardar.options import Options
from slardar.plugins import balancer_factory, check_mode, open_store
from slardar.workers.parent import Workers, usable_cores

__all__ = ["Options", "SlardarService", "makeService"]

#: Settings that a process takes at its start only.
_AT_START = ("listen", "control", "workers", "store", "health", "hooks")
#: Settings of the data plane that it takes with HUP.
_WITH_HUP = ("timeouts", "limits")

_log = Logger("slardar.service")


def makeService(options: Options) -> SlardarService:
    """The service that twistd runs for these options; nothing is opened yet."""
    # twistd has chosen and installed the reactor by now, and has no way to pass it.
    from twisted.internet import reactor  # noqa: TID251

    return SlardarService(reactor, options.settings, options.read_again)


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

    ``read_again`` gives the settings anew when the process gets ``HUP``; it may block.
    """

    name = "slardar"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        read_again: Callable[[], Settings] | None = None,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._read_again = read_again
        self._reloading = defer.DeferredLock()
        self._plane = make_plane(reactor, settings)
        self._store = open_store(settings.store, reactor)
        self.actions = Actions(settings, self._store, self._plane, check_mode)
        self._control_port: Any = None
        self._places: list[str] = []
        self._bound = False
        # Inside another program the service manager's questions are not for us.
        asked = os.environ if read_again is not None else {}
        self._notifier = Notifier(reactor, self._describe, asked)
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
        self._notifier.starting()
        if self._read_again is not None:
            # Without handlers of ours these would end the process.
            signal.signal(signal.SIGHUP, self._hung_up)
            signal.signal(signal.SIGUSR2, self._asked_to_upgrade)
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
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Requests are served: tell whoever waits for it.  The one place for that."""
        if not self.ready.called:
            self._notifier.serving()
            self.ready.callback(None)

    def _describe(self) -> str:
        """What is served, for the line of ``systemctl status``."""
        snapshot = self.actions.snapshot
        return f"{len(snapshot.upstreams)} upstreams, version {snapshot.version}"

    def _hung_up(self, *_: Any) -> None:
        """HUP came; from within whatever the process was doing, so it is put off."""
        self._reactor.callFromThread(self.reload)

    def _asked_to_upgrade(self, *_: Any) -> None:
        self._reactor.callFromThread(
            _log.warn, "USR2: an upgrade in place is not available yet; stop and start instead"
        )

    def reload(self) -> defer.Deferred[None]:
        """Read the settings again: serve what they say of upstreams and routes, with the
        timeouts and limits that they have.

        What is wrong in them is logged and changes nothing.  Never fails.
        """
        return self._reloading.run(lambda: defer.ensureDeferred(self._reload()))

    async def _reload(self) -> None:
        if self._read_again is None or not self.ready.called or not self.running:
            return
        self._notifier.reloading()
        try:
            await self._take_settings(self._read_again)
        finally:
            self._notifier.serving()

    async def _take_settings(self, read_again: Callable[[], Settings]) -> None:
        try:
            settings = await threads.deferToThreadPool(
                self._reactor, self._reactor.getThreadPool(), read_again
            )
            receipt = await self.actions.take_settings(settings, "HUP")
        except ConfigError as error:
            for line in error.problems:
                _log.error("not read again: {line}", line=line)
            return
        except SlardarError as error:
            _log.error("not read again: {error}", error=error)
            return
        except Exception:
            _log.failure("the configuration was not read again")
            return
        before, self._settings = self._settings, settings

        def changed(keys: tuple[str, ...]) -> list[str]:
            return [key for key in keys if getattr(before, key) != getattr(settings, key)]

        taken, waiting = changed(_WITH_HUP), changed(_AT_START)
        if taken:
            await self._plane.take_settings(settings)
            _log.info("read again: {keys} hold from now on", keys=", ".join(taken))
        if waiting:
            _log.warn("{keys}: changed, but taken with USR2 or a start", keys=", ".join(waiting))
        if receipt is None:
            _log.info("read again: nothing of upstreams and routes has changed")
        else:
            _log.info("read again: version {version} is served", version=receipt.version)

    def _cannot_start(self, failure: Any) -> None:
        """The first failure ends it: one line for what is the world's or the user's
        fault, a traceback for what is ours."""
        if self.ready.called:
            return
        self._notifier.failed(str(failure.value))
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
        self._notifier.stopping()
        if self.ready.called:
            _log.info("stopping: requests under way are finished first")
        await self._plane.stop()
        if self._control_port is not None:
            await defer.maybeDeferred(self._control_port.stopListening)
        await self._store.close()
        self._notifier.close()


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
