"""Puts the parts together and starts and stops them in the right order.

Only this module knows all parts.  twistd finds :class:`Options` and :func:`makeService`
here through ``twisted/plugins/slardar_plugin.py``.
"""

# Twisted's services and endpoints have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from msgspec import structs
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from slardar import __version__, plugins
from slardar.build import describe_build
from slardar.catalogues.base import Catalogue, LateCatalogue
from slardar.catalogues.dns import DnsCatalogue
from slardar.catalogues.kept import KeptListings
from slardar.catalogues.watch import ServiceWatch
from slardar.config import Control, Settings
from slardar.control.actions import Actions
from slardar.control.amp_channel import AmpSite
from slardar.control.expiry import ExpiryWatch
from slardar.control.http import make_site
from slardar.control.port import ControlPort
from slardar.control.tickets import TicketRotation
from slardar.daemon import call_in_daemon
from slardar.dataplane.descriptors import raise_descriptor_limit
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.sockets import Opened
from slardar.errors import ConfigError, PartlyReadError, SlardarError
from slardar.events import EventLog, Publish, ignore
from slardar.garbage import begin_serving
from slardar.interfaces import IForgetfulStore, IKeptStore, IPlane, IStore, IWatchedStore
from slardar.model.listener import ListenerSpec
from slardar.model.live import Live
from slardar.model.tls import Keyring
from slardar.named_files import NamedFiles, look_at_files
from slardar.notify import Notifier
from slardar.observers.counted import Counted
from slardar.observers.sinks import check_files
from slardar.options import Options
from slardar.plugins import balancer_factory, find_probe, open_store
from slardar.stop_signals import StopSignals
from slardar.stores.urls import hidden_url
from slardar.system_resolver import ReactorNames
from slardar.terminal import Terminal
from slardar.tls_files import all_again
from slardar.upgrade.handover import Upgrades
from slardar.upgrade.messages import KeptState, State
from slardar.upgrade.predecessor import Predecessor, find_predecessor
from slardar.upgrade.program import this_program
from slardar.upgrade.successor import UpgradeError

__all__ = ["Options", "SlardarService", "makeService"]

#: Settings that a process takes at its start only.
_AT_START = ("listen", "control", "workers", "store", "store_copy", "hooks", "metrics", "tracing")
#: Settings that a process also takes with HUP.
_WITH_HUP = (
    *("timeouts", "limits", "health", "history", "access_log"),
    *("trusted", "forwarded", "tls.redirect", "tls.hsts"),
)

#: Seconds that idle connections stay open in a process that was upgraded.  Most clients
#: send a request in that time, and the reply closes the connection.  A client whose
#: connection closes while its request is on the way may take that for a failure.
_IDLE = 5.0
#: Seconds for the requests under way in a process that never served, or that has two
#: younger generations.
_AT_ONCE = 1.0
#: Seconds after their drain in which older generations must have ended.
_MARGIN = 2.0
#: The file in twistd's folder with what catalogues listed last.
_LISTINGS = "slardar-services.json"

_log = Logger("slardar.service")


def makeService(options: Options) -> SlardarService:
    """The service that twistd runs for these options; nothing is opened yet."""
    # twistd has installed the reactor by now, and cannot pass it as an argument.
    from twisted.internet import reactor  # noqa: TID251

    try:
        predecessor = find_predecessor()
    except ConfigError as error:
        raise SystemExit(f"slardar: {error}") from None
    service = SlardarService(
        reactor,
        options.settings,
        options.read_again,
        predecessor,
        options.take_certificates(),
    )
    if options.parent is not None:
        # Until startService sets a handler, the signal would end the process.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        service.upgrades = Upgrades(reactor, this_program(), options.parent, service)
        service.terminal = Terminal(options.parent)
    return service


def make_plane(reactor: Any, settings: Settings, publish: Publish = ignore) -> IPlane:
    """The plane for these settings: workers, or a data plane here for ``workers`` 0."""
    count = settings.workers
    if count == "auto":
        count = len(os.sched_getaffinity(0))
    if count:
        # Imported here: a process that serves by itself needs none of it.
        from slardar.workers.parent import Workers

        return Workers(reactor, settings, count, spare=True, find_probe=find_probe, publish=publish)
    return DataPlane(
        reactor, settings, Live(), balancer_factory, find_probe=find_probe, publish=publish
    )


class SlardarService(Service):
    """slardar as one service: the data plane, the store and the control channel.

    A program that embeds it may wait for ``ready``, which fires when requests are served,
    and fails if the service cannot start.  Under twistd a failure ends the process with one
    line of the log and exit code 1.

    ``read_again`` reads the settings again when the process gets ``HUP``; it may block.
    ``predecessor`` is the process to take over from, if there is one.  ``certificates`` is what
    :meth:`slardar.options.Options.take_certificates` has; without it files of ``tls`` are read.
    """

    name = "slardar"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        read_again: Callable[[], Settings] | None = None,
        predecessor: Predecessor | None = None,
        certificates: Any = None,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._read_again = read_again
        self._reloading = defer.DeferredLock()
        #: What has happened; every part publishes to it.
        self.events = EventLog(reactor)
        self._plane = make_plane(reactor, settings, self.events.publish)
        self._store: Any = make_store(reactor, settings)
        self._services = ServiceWatch(
            reactor,
            {
                "dns_service": DnsCatalogue(reactor),
                "consul_service": LateCatalogue(partial(_consul, reactor, settings.store)),
                "docker_service": LateCatalogue(partial(_docker, reactor)),
                "kubernetes_service": LateCatalogue(partial(_kubernetes, reactor)),
            },
        )
        self._listings = KeptListings(self._services, _LISTINGS, reactor)
        self.actions = Actions(
            settings, self._store, self._plane, plugins, service_watch=self._services
        )
        self.actions.events, self.actions.publish = self.events, self.events.publish
        self.actions.history.turn = lambda: deferLater(reactor, 0)
        #: The certificate of the control channels.
        self._tls = _control_tls(settings.control)
        self._controls = _control_ports(reactor, settings.control, self.actions, self._tls)
        #: The certificates for clients, of files.
        self._keyring = self.actions.certificates.keyring = _first_keyring(settings, certificates)
        self._expiry = ExpiryWatch(
            reactor, self.actions.certificates.expiring, self.actions.clock, self.events.publish
        )
        #: The keys of session tickets; ``None`` if they are not shared.
        self._tickets: TicketRotation | None = None
        #: Gets certificates by ACME; ``None`` until some are wanted.
        self._orders: Any = None
        self.actions.acme = lambda: {} if self._orders is None else self._orders.states()
        self._places: list[str] = []
        self._bound = False
        self._predecessor = predecessor
        #: Upgrades this process; ``None`` if twistd did not start it.
        self.upgrades: Upgrades | None = None
        #: The terminal from which twistd was started; ``None`` without twistd.
        self.terminal: Terminal | None = None
        #: The names of stores and catalogues.
        self._names = ReactorNames(reactor)
        #: What the signal USR1 did before: twistd moves its own log file.
        self._rotate: Callable[..., Any] | None = None
        #: ``_has_left``: a successor serves, and this process ends.
        self._serves = self._has_left = False
        self._holds_store = True
        self._stop_signals = StopSignals(reactor, self._hurry)
        #: ``_hurried``: whoever stops this process does not want to wait for requests.
        self._drains = self._hurried = False
        #: What was counted before a successor asked for it.
        self._handed_counts: Counted | None = None
        if predecessor is not None:
            self.actions.older_generations = predecessor.generations
        # Inside another program, systemd's variables are for that program.
        asked = os.environ if read_again is not None else {}
        self._notifier = Notifier(reactor, self._describe, asked)
        #: Fires with ``None`` when requests are served.
        self.ready: defer.Deferred[None] = defer.Deferred()

    def privilegedStartService(self) -> None:
        """Bind the listening sockets, while twistd may still be root, for ports below 1024.

        No connection is accepted before the state is loaded.
        """
        super().privilegedStartService()
        self._run(self._bind())

    def startService(self) -> None:
        """Load the state, then serve."""
        super().startService()
        self._notifier.starting()
        if self._read_again is not None:
            # Without handlers these signals would end the process.
            signal.signal(signal.SIGHUP, self._hung_up)
            signal.signal(signal.SIGUSR2, self._asked_to_upgrade)
            before = signal.getsignal(signal.SIGUSR1)
            self._rotate = before if callable(before) else None
            signal.signal(signal.SIGUSR1, self._asked_to_reopen)
            self._stop_signals.install()
            # Inside another program, the reactor is that program's.
            self._names.install()
        if self.terminal is not None:
            self.terminal.hold()
        self._run(self._start())

    def _run(self, steps: Any) -> None:
        defer.ensureDeferred(steps).addErrback(self._cannot_start)

    async def _bind(self) -> None:
        if self._bound:
            return
        self._bound = True
        raise_descriptor_limit()
        before = self._predecessor
        if before is not None:
            before.connect(self._reactor, self._given_up)
        for listener in self._settings.listeners:
            sockets: Sequence[socket.socket] = ()
            if before is not None:
                sockets = before.take("listen", listener.endpoint, listener.id)
            place = await self._plane.listen(listener, sockets)
            self._places.append(f"{place} (PROXY protocol)" if listener.proxy_protocol else place)
        if before is not None:
            for port in self._controls:
                port.take(before.take(port.purpose, port.endpoint))
            before.close_rest()

    async def _start(self) -> None:
        await self._bind()
        if self.ready.called:
            return  # binding has failed
        check_files(self._settings.access_log)
        await self._plane.take_keyring(self._keyring)
        self._make_tickets()
        before = self._predecessor
        if before is None:
            await self.actions.start()
            await self._share_sessions()
            await self._plane.start()
            self._open_controls()
        else:
            await self._take_over(before)
        self._serves = True
        self._expiry.start()
        self._order_certificates(self._settings)
        _log.info(
            "slardar {version} is running ({build})", version=__version__, build=describe_build()
        )
        for place in self._places:
            _log.info("requests on {place}", place=place)
        for port in self._controls:
            _log.info("{name} on {place}", name=port.purpose, place=port.place)
        begin_serving()
        self._tell_ready()

    def _order_certificates(self, settings: Settings) -> None:
        """Get the certificates that these settings want by ACME."""
        if self._orders is not None:
            self._orders.take_settings(settings)
        elif settings.tls.acme is not None:
            # Imported here: few processes have it.
            from slardar.acme.orders import Orders

            is_shared = IWatchedStore.providedBy(self._store)
            self._orders = Orders(
                self._reactor, self.actions, lambda: self._keyring, self.events.publish, is_shared
            )
            self._orders.start(settings)

    def _tell_ready(self) -> None:
        """Requests are served: tell systemd, the terminal and ``ready``.  The one place."""
        if not self.ready.called:
            self._notifier.serving()
            if self.terminal is not None:
                self.terminal.serving()
            self.ready.callback(None)

    def _make_tickets(self) -> None:
        """Make keys for session tickets, if this OpenSSL takes keys."""
        if not any(one.tls for one in self._settings.listeners):
            return
        # Imported here: a process without TLS does not pay for OpenSSL.
        from slardar.dataplane.openssl_trial import trouble

        reason = trouble()
        if reason:
            self.actions.tls = {"sessions": "not shared", "staples": "not sent", "reason": reason}
            _log.warn(
                "sessions of TLS resume on the worker that has made them only, and staples are "
                "not sent: {reason}",
                reason=reason,
            )
        else:
            self.actions.tls = {"sessions": "shared", "staples": "sent"}
            self._tickets = TicketRotation(self._reactor, self._plane.take_tickets)

    async def _share_sessions(self) -> None:
        if self._tickets is not None:
            await self._tickets.start()

    async def _take_over(self, before: Predecessor) -> None:
        """Start with the predecessor's sockets and state, until it begins to drain."""
        # The last step that can fail and does not need the store.
        self._open_controls()
        for port in self._controls:
            port.pause()
        state = await before.give_store()
        stored = None if state is None else state.stored
        if stored is not None:
            if IForgetfulStore.providedBy(self._store):
                self._store.take_over(stored)
            else:
                _log.warn("what the store before held is not in this one, which is another")
        kept = None if state is None else state.kept
        if kept is not None and IKeptStore.providedBy(self._store) and kept.url == self._store.url:
            self._store.take_over(kept.state, kept.known_until)
        if state is not None:
            self._services.learn(state.services)
            self.actions.least_version = state.version
        await self.actions.start()
        if state is not None:
            self._plane.set_health(state.health)
            self._plane.set_checked(state.checked)
            self._plane.set_extras(state.extras)
            if state.counted is not None:
                self._plane.take_counted(state.counted)
            before.counted = self._plane.take_counted
            if self._tickets is not None and state.tickets is not None:
                self._tickets.learn(state.tickets, state.tickets_age)
        await self._share_sessions()
        await self._plane.start()
        await before.take_over()
        # There is no way back from here, so errors are only logged.
        owns: list[Callable[[], None]] = [self._plane.own, *(port.own for port in self._controls)]
        for own in owns:
            try:
                own()
            except OSError as error:
                _log.error("a socket is not all ours: {error}", error=error)
        for port in self._controls:
            port.resume()

    def _open_controls(self) -> None:
        """Open the control channels.  If one of them cannot be opened, none takes calls."""
        for port in self._controls:
            port.open()
        for port in self._controls:
            port.start()

    def _given_up(self, reason: str) -> None:
        self._cannot_start(Failure(UpgradeError(f"the old process goes on: {reason}")))

    def _describe(self) -> str:
        """Number of upstreams and version, for the line of ``systemctl status``."""
        snapshot = self.actions.snapshot
        return f"{len(snapshot.upstreams)} upstreams, version {snapshot.version}"

    def _hung_up(self, *_: Any) -> None:
        """HUP came.  The handler interrupts any code, so the reactor reloads later."""
        self._reactor.callFromThread(self.reload)

    def _asked_to_upgrade(self, *_: Any) -> None:
        self._reactor.callFromThread(self._upgrade)

    def _asked_to_reopen(self, *arguments: Any) -> None:
        """USR1 came, from logrotate for example."""
        if self._rotate is not None:
            self._rotate(*arguments)
        self._reactor.callFromThread(self._plane.reopen_logs)

    def _upgrade(self) -> None:
        if self.upgrades is None:
            _log.warn("USR2: only a process that twistd has started can be upgraded")
        elif os.getpid() == 1:
            _log.error("USR2: not upgraded, for the end of process 1 would end its container")
        elif not self._serves or not (self.running or self._has_left):
            _log.warn("USR2: not upgraded, for this process is starting or stopping")
        else:
            self.upgrades.upgrade()

    # Called by slardar.upgrade, for the successor of this process.

    def handed(self) -> list[tuple[str, Opened]]:
        """The listening sockets, each with the key that names it in the settings."""
        handed = [("listen", opened) for opened in self._plane.opened]
        controls = ((port.purpose, port.opened) for port in self._controls)
        return [*handed, *((purpose, opened) for purpose, opened in controls if opened is not None)]

    async def hand_over(self) -> State:
        """Close the store and return the state.

        Calls of the control channel wait from now on, until this process or its successor
        serves them.
        """
        for port in self._controls:
            port.pause()
        if self._orders is not None:
            await self._orders.stop()
        stored = await self.actions.hand_over()
        self._holds_store = False
        await self._listings.pause()
        plane = self._plane
        counted = self._handed_counts = self.counted()
        tickets = self._tickets
        return State(
            stored,
            tuple(plane.known_health()),
            tuple(plane.known_checked()),
            tuple(plane.known_extras()),
            tuple(self._services.known()),
            self.actions.snapshot.version,
            counted,
            _kept(self._store),
            None if tickets is None else tickets.keys,
            0.0 if tickets is None else tickets.age,
        )

    async def take_back(self) -> None:
        """The upgrade has failed: go on."""
        if self._handed_counts is not None:
            self._plane.take_counted(self._handed_counts)
            self._handed_counts = None
        if not self._holds_store:
            self._holds_store = True
            self._listings.resume()
            try:
                await self.actions.take_back()
            except SlardarError as error:
                _log.critical("no change can be made any more: {error}", error=error)
        if self._orders is not None:
            self._orders.start(self._settings)
        for port in self._controls:
            port.resume()

    def counted(self) -> Counted:
        """What was counted since the last call."""
        for _ in self._plane.collect():
            pass
        facts = self._plane.facts()
        return self._plane.totals.hand_over(facts.restarts, facts.dropped)  # type: ignore[no-any-return]

    def leave(self, taken: Sequence[Opened]) -> None:
        """The successor serves: finish the requests under way, and end."""
        self._has_left = True
        for opened in taken:
            opened.leave()
        self.actions.moved()
        # The successor is the service now, and has told the service manager.
        self._notifier.close()
        if self._predecessor is not None:
            # At most two generations serve clients.
            self._predecessor.end(_AT_ONCE)
        self._stop_signals.ignore()
        self._stop_signals.stop()

    def end(self, seconds: float) -> None:
        """Finish within so many seconds."""
        if self._has_left:
            self._plane.hurry(seconds)
        if self._predecessor is not None:
            self._predecessor.end(seconds)

    def generations(self) -> list[dict[str, Any]]:
        """This process and the generations before it, newest first."""
        return [self.actions.generation(), *self.actions.older_generations()]

    # HUP.

    def reload(self) -> defer.Deferred[None]:
        """Read the settings again, and use their upstreams, routes, timeouts, limits and
        access logs.  Files of access logs are opened anew.

        Mistakes in the settings are logged, and change nothing.  Never fails.
        """
        return self._reloading.run(lambda: defer.ensureDeferred(self._reload()))

    async def _reload(self) -> None:
        if self._read_again is None or not self.running:
            return
        # Workers serve a little earlier.  What was read for the start may be older than the signal.
        if not await self._is_ready() or self._has_left or not self.running:
            return
        self._notifier.reloading()
        self._plane.reopen_logs()
        try:
            await self._take_settings(self._read_again)
        finally:
            self._notifier.serving()

    async def _is_ready(self) -> bool:
        """Wait for the end of the start; whether it has succeeded."""
        if self.ready.called:
            return True
        waiting: defer.Deferred[bool] = defer.Deferred()

        def ended(result: Any) -> Any:
            waiting.callback(not isinstance(result, Failure))
            return result

        self.ready.addBoth(ended)
        return await waiting

    async def _take_settings(self, read_again: Callable[[], Settings]) -> None:
        listeners = [one.listener for one in self._plane.opened if one.listener is not None]
        try:
            settings, files = await call_in_daemon(
                self._reactor, _read_all, read_again, self._settings, self._keyring, listeners
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
            return [key for key in keys if attrgetter(key)(before) != attrgetter(key)(settings)]

        taken, waiting = changed(_WITH_HUP), changed(_AT_START)
        if taken:
            await self._plane.take_settings(settings)
            _log.info("read again: {keys} hold from now on", keys=", ".join(taken))
        if waiting:
            _log.warn("{keys}: changed, but taken with USR2 or a start", keys=", ".join(waiting))
        await self._reload_tls()
        await self._take_certificates(settings, files)
        receipt = await self._reload_server_files() or receipt
        if receipt is None:
            _log.info("read again: nothing of upstreams and routes has changed")
        else:
            _log.info("read again: version {version} is served", version=receipt.version)

    async def _reload_tls(self) -> None:
        """Read the certificate of the control channels again; what cannot be read changes
        nothing."""
        if self._tls is None:
            return
        try:
            await call_in_daemon(self._reactor, self._tls.reload)
        except ConfigError as error:
            _log.error("not read again: {error}", error=error)

    async def _reload_server_files(self) -> Any:
        """Read the files of TLS to servers again that upstreams of the store name; those of the
        file have been read.  What cannot be read changes nothing."""
        upstreams = self.actions.snapshot.upstreams
        try:
            found, problems = await call_in_daemon(self._reactor, all_again, upstreams)
            for line in problems:
                _log.error("not read again: {line}", line=line)
            return await self.actions.take_files(found, "HUP") if found else None
        except SlardarError as error:
            _log.error("not read again: {error}", error=error)
        except Exception:
            _log.failure("the files of tls of upstreams were not read again")
        return None

    async def _take_certificates(self, settings: Settings, files: NamedFiles) -> None:
        """Take the certificates for clients that were read.  A pair that cannot be used changes
        nothing: the one in service stays."""
        found = files.certificates
        self.actions.certificates.refused = () if found is None else tuple(found.problems)
        if found is None:
            keyring = Keyring()
        else:
            for line in found.problems:
                _log.error("not read again: {line}", line=line)
            for line in found.warnings:
                _log.warn("{line}", line=line)
            keyring = self._keyring if found.keyring is None else found.keyring
        for line in files.acme:
            _log.error("not read again: {line}", line=line)
        if not files.acme:
            self._order_certificates(settings)
        if keyring != self._keyring:
            self._keyring = self.actions.certificates.keyring = keyring
            await self._plane.take_keyring(keyring)
            count = len(keyring.pairs)
            _log.info("read again: certificates for clients, {count} pairs", count=count)

    def _cannot_start(self, failure: Any) -> None:
        """The first failure ends the process.

        It is logged in one line if the user or the system caused it, with a traceback if it
        is a bug.
        """
        if self.ready.called:
            return
        if self._predecessor is None:
            # With a predecessor, the service goes on there.
            self._notifier.failed(str(failure.value))
        error = _one_line(failure.value)
        if failure.check(SlardarError, CannotListenError, OSError):
            _log.critical("cannot start: {error}", error=error)
        else:
            _log.failure("cannot start", failure=failure)
            error = f"a bug, of which the log says more: {failure.type.__name__}: {error}"
        if self.terminal is not None:
            self.terminal.say(f"cannot start: {error}")
        if self._predecessor is not None:
            self._predecessor.failed(f"it cannot start: {_one_line(failure.value)}")
        self.ready.addErrback(lambda _failure: None)
        self.ready.errback(failure)
        if self.parent is not None:
            atexit.register(_end_with, 1, self.terminal)
            self._reactor.callLater(0, self._stop_signals.stop)

    def _hurry(self) -> None:
        """A second signal to stop came: break off the requests that are still under way."""
        if self._hurried or self._has_left:
            return
        self._hurried = True
        _log.info("stopping at once: told to stop again, so requests under way are broken off")
        if self._predecessor is not None:
            self._predecessor.end(0)
        if self._drains:
            self._plane.hurry(0)

    def stopService(self) -> defer.Deferred[None]:
        """Finish the requests under way, at most for ``timeouts.drain`` seconds."""
        return defer.ensureDeferred(self._stop())

    async def _stop(self) -> None:
        served = self._serves
        listings = defer.ensureDeferred(self._listings.close())
        self._services.stop()
        self._expiry.stop()
        if self._tickets is not None:
            self._tickets.stop()
        await defer.maybeDeferred(super().stopService)
        if self._orders is not None:
            await self._orders.stop()
        await listings
        if self.upgrades is not None:
            await self.upgrades.cancel("the old process was told to stop")
        before = self._predecessor
        if self._has_left:
            await self._stop_controls()
            await self._plane.stop(None, _IDLE)
            if self.upgrades is not None:
                told = self.upgrades.report()
                await told.addTimeout(_AT_ONCE, self._reactor, lambda *_: None)
        elif served:
            self._notifier.stopping()
            _log.info("stopping: requests under way are finished first")
            drain = self._settings.timeouts.drain
            if before is not None:
                before.end(0 if self._hurried else drain)
            self._drains = True
            await self._plane.stop(0 if self._hurried else None)
            await self._stop_controls()
            await self._store.close()
            if before is not None:
                late = self._reactor.callLater(_MARGIN, before.stop_waiting)
                await before.gone
                if late.active():
                    late.cancel()
        else:
            # The store first: the predecessor may wait for it.
            await self._store.close()
            await self._stop_controls()
            await self._plane.stop(_AT_ONCE)
            if before is not None and self.ready.called:
                await before.told
        if self.upgrades is not None:
            self.upgrades.stop_reports()
            self.upgrades.pid_file.release()
        self._names.remove()
        self._notifier.close()

    async def _stop_controls(self) -> None:
        for port in self._controls:
            await port.stop()


def _docker(reactor: Any) -> Catalogue:
    from slardar.catalogues.docker import DockerCatalogue

    return DockerCatalogue(reactor)


def _kubernetes(reactor: Any) -> Catalogue:
    from slardar.catalogues.kubernetes import KubernetesCatalogue

    return KubernetesCatalogue(reactor)


def _consul(reactor: Any, store: str) -> Catalogue:
    from slardar.catalogues.consul import ConsulCatalogue, connector

    return ConsulCatalogue(reactor, connector(reactor, partial(_consul_agents, store)))


def _consul_agents(store: str) -> Any:
    """The agents that are asked for services: those of the store if it is in Consul, else those of
    the environment.  Raises ValueError."""
    # Imported here: few processes ask Consul.
    from slardar.catalogues.consul import Agents, agents_of_environment

    kind, _, place = store.partition(":")
    if kind != "consul":
        return agents_of_environment(os.environ)
    from slardar.stores.consul import read_place

    found = read_place(place, os.environ.get("CONSUL_HTTP_TOKEN", ""))
    cert = (found.cert, found.key or found.cert) if found.cert else None
    return Agents(found.scheme, found.agents, found.token, found.token_file, found.ca or True, cert)


def make_store(reactor: Any, settings: Settings) -> IStore:
    """The store of these settings.  One that others write to lives elsewhere, so this machine keeps
    a copy of what is served."""
    store = open_store(settings.store, reactor)
    if not IWatchedStore.providedBy(store):
        return store
    # Imported here: a process without such a store does not pay for SQLite.
    from slardar.stores.copy import StateCopy
    from slardar.stores.kept import KeptStore

    copy = StateCopy(settings.store_copy, hidden_url(settings.store), reactor)
    return KeptStore(store, settings.store, copy, reactor)


def _kept(store: Any) -> KeptState | None:
    """What a successor is told of a store that lives elsewhere."""
    if not IKeptStore.providedBy(store) or store.kept is None:
        return None
    return KeptState(store.url, store.kept, store.known_until)


def _control_tls(control: Control) -> Any:
    """What gives the control channels TLS; ``None`` without ``control.tls``."""
    if control.tls is None:
        return None
    # Imported here: a process without TLS does not pay for OpenSSL.
    from slardar.control.tls import ServerTls

    return ServerTls(control.tls)


def _first_keyring(settings: Settings, found: Any) -> Keyring:
    """The certificates to begin with, of what was found already or is read now.  Raises ConfigError
    with every mistake."""
    if found is None:
        files = look_at_files(settings, folder=None)
        if files.problems:
            raise ConfigError(files.problems)
        found = files.certificates
    if found is None:
        return Keyring()
    for line in found.warnings:
        _log.warn("{line}", line=line)
    keyring: Keyring = found.keyring
    return keyring


def _control_ports(
    reactor: Any, control: Control, actions: Actions, tls: Any
) -> tuple[ControlPort, ...]:
    """The control channels: HTTP and AMP."""
    wrap = None if tls is None else lambda site: tls.wrap(site, reactor)
    http = make_site(actions, control, reactor)
    amp = AmpSite(actions, control, reactor)
    return (
        ControlPort(reactor, "control", "control.http", control.http, http, wrap),
        ControlPort(reactor, "amp", "control.amp", control.amp, amp, wrap),
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _read_all(
    read_again: Callable[[], Settings],
    before: Settings,
    keyring: Keyring,
    listeners: Sequence[ListenerSpec],
) -> tuple[Settings, NamedFiles]:
    """The settings, and what is in the files that they name.

    ``before`` and ``keyring`` are in service, and ``listeners`` are open.  Raises ConfigError with
    every mistake.  Only where nothing but the content of certificates is wrong, and the settings
    are ``before``, it does not: whoever renews certificates has not changed the configuration.
    """
    problems: list[str] = []
    try:
        settings = read_again()
    except PartlyReadError as error:
        settings, problems = error.value, list(error.problems)
    files = look_at_files(settings, problems, keyring, listeners)
    if problems or files.logs or (files.problems and _as_written(settings) != _as_written(before)):
        raise ConfigError(problems + files.problems)
    check_files(settings.access_log)
    return settings, files


def _as_written(settings: Settings) -> Settings:
    """The settings without what is in the files that they name."""
    return structs.replace(
        settings,
        upstreams={name: one.source for name, one in settings.first_upstreams.items()},
        services={name: one.source for name, one in settings.first_services.items()},
    )


def _end_with(code: int, terminal: Terminal | None) -> None:
    """End the process with ``code``, as its last act: twistd has no exit code for this."""
    sys.stdout.flush()
    sys.stderr.flush()
    if terminal is not None:
        terminal.failed()
    os._exit(code)
