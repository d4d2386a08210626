"""The workers together, as one data plane: what they are told to serve, what they report.

The processes themselves are :mod:`slardar.workers.supervisor`'s.

(Longer than 500 lines: most of it is the face that ``IPlane`` demands, a few lines each.)
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import structs
from twisted.internet import defer
from twisted.logger import Logger
from zope.interface import implementer

from slardar.config import Settings
from slardar.dataplane.decisions import worker_of
from slardar.dataplane.explanation import DecisionTold, Explanation
from slardar.dataplane.failurelog import HealthLog
from slardar.dataplane.heartbeats import Heartbeats, ProbeFinder
from slardar.dataplane.inherited import open_listener
from slardar.dataplane.sockets import Opened
from slardar.errors import NotReadyError
from slardar.events import Publish, ignore
from slardar.health.checked import take_verdict
from slardar.health.flaps import longest_hold
from slardar.health.panic import panic_note
from slardar.health.shared import ServerIndex, strictest
from slardar.health.verdicts import Ejection, Extra, Heartbeat, Verdict, by_upstream
from slardar.hooks.checker import Item
from slardar.hooks.checking import Checker, NoCheckError
from slardar.hooks.report import HookTally
from slardar.interfaces import IPlane
from slardar.model.hook import Hook, HookKey
from slardar.model.listener import ListenerSpec
from slardar.model.live import ServerLive
from slardar.model.server import Server, Upstream, server_key, servers_gone
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Keyring, TicketKeys
from slardar.observers.counted import Counted, Present
from slardar.observers.export import exporter_for
from slardar.observers.exposition import Facts
from slardar.observers.spans import Spans
from slardar.observers.totals import Totals
from slardar.resolve import Resolver
from slardar.workers import messages
from slardar.workers.extras import Extras
from slardar.workers.hook_watch import HookWatch
from slardar.workers.messages import (
    Done,
    FromWorker,
    Grown,
    HookFailed,
    HookHeavy,
    Report,
    ServerReport,
    Told,
)
from slardar.workers.names import NameWatch
from slardar.workers.process import ANSWER, START, WorkerGone, WorkerProcess, spawn
from slardar.workers.questions import Questions
from slardar.workers.slot import Slot
from slardar.workers.supervisor import Supervisor, WorkerError
from slardar.workers.tally import Tally

__all__ = ["Workers"]

_log = Logger("slardar.workers")


@implementer(IPlane)
class Workers:
    """Serves requests in ``count`` processes; used as a ``DataPlane`` is.

    ``start_process`` and ``spare`` are the supervisor's
    (:class:`slardar.workers.supervisor.Supervisor`).  ``resolver`` looks up the servers'
    names, which no worker does.  With ``find_probe`` (``slardar.plugins.find_probe``)
    heartbeats are sent, as ``settings.health`` says; workers send none.  ``publish`` is told
    what becomes of workers, and what changes in the health of servers and hooks.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        count: int,
        start_process: Callable[..., WorkerProcess] = spawn,
        spare: bool = False,
        resolver: Resolver | None = None,
        find_probe: ProbeFinder | None = None,
        publish: Publish = ignore,
    ) -> None:
        self._reactor = reactor
        #: The settings that workers begin with.
        self.settings = settings
        self._supervisor = Supervisor(reactor, count, self, start_process, spare, publish)
        self._snapshot = Snapshot.build(0, {}, (), None)
        #: The certificates that workers use.
        self._keyring = Keyring()
        #: What they seal session tickets with.
        self._tickets: TicketKeys | None = None
        #: A snapshot and its encoded form, and that of the certificates, kept while workers begin.
        self._encoded: tuple[Snapshot, bytes] | None = None
        self._encoded_keyring = b""
        self._tally = Tally(time.time())
        metrics = settings.metrics
        #: What was counted, also in processes before this one.
        self.totals = Totals(metrics.buckets, metrics.added_buckets)
        #: Until when the workers time each server's replies.
        self._timed_until = 0.0
        #: What there is in each worker, by its number.
        self._present: dict[int, Present] = {}
        self._hooks = HookWatch(reactor.seconds, self._suspend_hook, publish)
        self._checker = Checker(reactor, settings.hooks)
        #: The servers that workers have put out of service and not brought back: until when (the
        #: reactor's seconds), and why.
        self._down: dict[tuple[str, str, int], tuple[float, Verdict]] = {}
        #: What heartbeats have said of servers.
        self._checked: dict[tuple[str, str, int], Heartbeat] = {}
        self._extras = Extras()
        #: Posts the spans that workers send.
        self._exporter = exporter_for(reactor, settings.tracing)
        self._index = ServerIndex()
        self._questions = Questions(reactor)
        self._health_log = HealthLog(reactor.seconds, publish)
        self._names = NameWatch(reactor, self._tell_addresses, resolver)
        self._heartbeats: Heartbeats | None = None
        if find_probe is not None:
            self._heartbeats = Heartbeats(
                reactor,
                settings.health,
                find_probe,
                lambda name: self._names.found.get(name),
                self.set_checked,
                hint=self.hint,
            )

    # Life.

    def listen(
        self, listener: ListenerSpec, sockets: Sequence[socket.socket] = ()
    ) -> defer.Deferred[str]:
        """Accept clients as ``listener`` says; answers where, for a person.

        ``sockets`` are those that another process has handed over for it, if any.  Fails
        as :meth:`slardar.dataplane.proxy.DataPlane.listen` does.  To be called
        before :meth:`start`.
        """
        return defer.maybeDeferred(self._listen, listener, sockets)

    def _listen(self, listener: ListenerSpec, sockets: Sequence[socket.socket]) -> str:
        opened = open_listener(listener, sockets, len(self._supervisor.slots))
        self._supervisor.deal(opened, listener)
        return opened.place

    @property
    def opened(self) -> list[Opened]:
        """The listening sockets that were opened here, or handed over."""
        return self._supervisor.opened

    def own(self) -> None:
        """The process that handed sockets over uses them no more."""
        for opened in self.opened:
            try:
                opened.own()
            except OSError as error:
                _log.error("{place}: {error}", place=opened.place, error=error)
        self._supervisor.tell_all(messages.encode(messages.Listening()))

    def start(self) -> defer.Deferred[None]:
        """Start the workers; fires when all of them serve, and fails with WorkerError
        if one of them cannot be started."""
        if self._heartbeats is not None:
            self._heartbeats.start(tuple(self._checked.values()))
        return self._supervisor.start()

    def stop(self, within: float | None = None, grace: float | None = None) -> defer.Deferred[None]:
        """Let the workers finish what is under way, at most for ``within`` seconds
        (``None``: ``timeouts.drain``), and end them.  Fires when all have gone.

        ``grace`` is that of :meth:`slardar.dataplane.proxy.DataPlane.stop`.
        """
        if not self._supervisor.is_stopping:
            self._checker.stop()
            if self._heartbeats is not None:
                self._heartbeats.stop()
        drain = float(self.settings.timeouts.drain) if within is None else within
        return self._supervisor.stop(drain, grace).addCallback(self._stopped)

    def _stopped(self, _: None) -> defer.Deferred[None] | None:
        self._names.stop()
        # No worker sends spans any more.
        return None if self._exporter is None else self._exporter.stop()

    def hurry(self, within: float) -> None:
        """While it is stopping: take no more than ``within`` seconds from now."""
        self._supervisor.hurry(within)

    # Distribution, for the supervisor.

    def begin_message(self, process: WorkerProcess, slot: Slot, places: tuple[int, ...]) -> bytes:
        """The first message to a worker; see :class:`slardar.workers.supervisor.Distribution`."""
        process.sent = self._snapshot
        if self._encoded is None or self._encoded[0] is not self._snapshot:
            data = messages.encode(messages.whole(self._snapshot))
            self._encoded = (self._snapshot, data)
        if not self._encoded_keyring:
            self._encoded_keyring = messages.encode(self._keyring)
        return messages.encode(
            messages.Begin(
                number=slot.number,
                settings=messages.lean_settings(self.settings),
                snapshot=messages.raw(self._encoded[1]),
                sockets=tuple(
                    messages.WorkerSocket(place, one.listener, one.shared)
                    for place, one in zip(places, slot.sockets, strict=True)
                ),
                inherited=process.inherited,
                health=messages.Verdicts(
                    tuple(self.known_health()),
                    tuple(self._checked.values()),
                    tuple(self.known_extras()),
                ),
                addresses=self._names.found,
                suspended=self._hooks.suspended,
                reasons=self._hooks.reasons,
                refused=self._hooks.refused,
                count=len(self._supervisor.slots),
                keyring=messages.raw(self._encoded_keyring),
                tickets=self._tickets,
            )
        )

    def all_serve(self) -> None:
        """Every place has a worker that serves, so the encoded snapshot is not needed."""
        self._encoded, self._encoded_keyring = None, b""

    def worker_ended(self, number: int, last_mark: int, hung: bool) -> None:
        """A worker has ended, or is replaced."""
        self._tally.worker_ended(number)
        self._present.pop(number, None)
        self._hooks.worker_ended(number, last_mark, hung)

    # IPlane.

    def apply(self, snapshot: Snapshot, changed: Collection[str]) -> defer.Deferred[Any]:
        """Serve ``snapshot`` from now on; see :class:`slardar.interfaces.IPlane`.

        Fires with ``{"workers": {"worker-0": version, ...}}``: the workers that have
        confirmed it.  A worker that dies meanwhile is not waited for, because its
        replacement begins with the newest snapshot.  Fails with WorkerError if a worker
        could not serve the snapshot.
        """
        base, self._snapshot = self._snapshot, snapshot
        for name in changed:
            self._forget(name, base, snapshot)
        self.totals.changed(changed, snapshot)
        # Before the change, so that workers know the addresses that are known already.
        self._names.follow(base, snapshot, changed)
        if snapshot.hooks is not base.hooks:
            self._hooks.set_hooks(snapshot.hooks)
        if self._heartbeats is not None and not self._supervisor.is_stopping:
            self._heartbeats.apply(snapshot.upstreams, changed)
        if not self._supervisor.is_running:
            return defer.succeed({"workers": {}})
        return defer.ensureDeferred(self._apply(base, snapshot, changed))

    def take_settings(self, settings: Settings) -> defer.Deferred[None]:
        """Use other settings of these, as :class:`slardar.interfaces.IPlane` describes it.

        A worker that cannot take them, or does not confirm them in time, is replaced by a
        worker that begins with them; nobody waits for the replacement.  Never fails.
        """
        # All other settings stay as they are in every worker, replacements included.
        self.settings = structs.replace(
            self.settings,
            timeouts=settings.timeouts,
            limits=settings.limits,
            health=settings.health,
            access_log=settings.access_log,
            trusted=settings.trusted,
            forwarded=settings.forwarded,
            tls=settings.tls,
        )
        if self._heartbeats is not None:
            self._heartbeats.take_settings(settings.health)
        lean = messages.lean_settings(self.settings)
        return defer.ensureDeferred(self._tell(messages.TakeSettings(lean), "the settings"))

    def take_keyring(self, keyring: Keyring) -> defer.Deferred[None]:
        """Use these certificates; see :class:`slardar.interfaces.IPlane`.

        A worker that cannot take them is replaced, as with :meth:`take_settings`.
        """
        change = messages.keyring_change(self._keyring, keyring)
        # In the order in which workers have the pairs.
        self._keyring = messages.changed_keyring(self._keyring, change)
        self._encoded_keyring = b""
        return defer.ensureDeferred(self._tell(change, "the certificates"))

    def take_tickets(self, keys: TicketKeys | None) -> defer.Deferred[None]:
        """Share sessions with these keys; see :class:`slardar.interfaces.IPlane`.

        A worker that cannot take them is replaced, as with :meth:`take_settings`.
        """
        self._tickets = keys
        return defer.ensureDeferred(self._tell(messages.TakeTickets(keys), "keys of tickets"))

    def reopen_logs(self) -> None:
        """Open the files of access logs anew; see :class:`slardar.interfaces.IPlane`."""
        data = messages.encode(messages.Reopen())
        self._supervisor.tell_all(data)
        self._supervisor.tell_leaving(data)

    async def _tell(
        self,
        message: messages.TakeSettings | messages.TakeKeyring | messages.TakeTickets,
        what: str,
    ) -> None:
        """Tell every worker; one that does not follow is replaced."""
        data = messages.encode(message)
        told = [
            (process, process.tell(data, START if process.ready_at is None else ANSWER))
            for process in self._supervisor.processes()
        ]
        for process, confirmation in told:
            try:
                done = await confirmation
            except WorkerGone:
                continue
            if done.error:
                process.kill(f"it could not take {what}: {done.error}")

    async def _apply(
        self, base: Snapshot, snapshot: Snapshot, changed: Collection[str]
    ) -> dict[str, Any]:
        message = messages.delta(base, snapshot, changed)
        change = messages.encode(message)
        confirmations = []
        for process in self._supervisor.processes():
            if process.sent is base:
                process.sent = snapshot
                answer = process.tell(change, START if process.ready_at is None else ANSWER)
                answer.addCallback(self._take_answer, process, snapshot)
            else:
                answer = self._send_whole(process)
            confirmations.append((process, answer))
        versions = {}
        refusals = []
        for process, confirmation in confirmations:
            try:
                done = await confirmation
            except WorkerGone:
                continue
            if done.error:
                refusals.append(f"{process.name}: {done.error}")
            else:
                versions[process.name] = done.version
        if refusals:
            raise WorkerError("; ".join(refusals))
        return {"workers": versions}

    def _take_answer(self, done: Done, process: WorkerProcess, snapshot: Snapshot) -> Any:
        if done.stale:
            return self._send_whole(process)
        if done.error:
            process.sent = None
        elif done.version < snapshot.version:
            process.kill(f"it confirmed version {done.version} for {snapshot.version}")
            raise WorkerGone
        return done

    def _send_whole(self, process: WorkerProcess) -> defer.Deferred[Done]:
        snapshot = process.sent = self._snapshot
        answer = process.load(messages.encode(messages.whole(snapshot)))
        return answer.addCallback(self._take_whole_answer, process, snapshot)

    def _take_whole_answer(self, done: Done, process: WorkerProcess, snapshot: Snapshot) -> Done:
        if done.stale:
            process.kill("it refused a whole configuration")
            raise WorkerGone
        done_: Done = self._take_answer(done, process, snapshot)
        return done_

    # Hooks.

    def check_hook(
        self,
        language: str,
        name: str,
        code: str,
        modules: Mapping[str, str] | None,
        settings: Mapping[str, str] | None = None,
    ) -> defer.Deferred[tuple[str, ...]]:
        """Whether code is fit to be a hook; see :class:`slardar.interfaces.IPlane`.

        A process that serves nobody loads the code.
        """
        known = None if modules is None else dict(modules)
        item = Item(language, name, code, known, dict(settings or {}))
        return defer.ensureDeferred(self._check_hook(item))

    async def _check_hook(self, item: Item) -> tuple[str, ...]:
        try:
            return await self._checker.check_one(item)
        except NoCheckError as error:
            raise NotReadyError(str(error)) from None

    def check_stored(self, hooks: Mapping[HookKey, Hook]) -> defer.Deferred[None]:
        """Let no worker load hooks that break a limit; see
        :class:`slardar.interfaces.IPlane`."""
        return defer.ensureDeferred(self._check_stored(hooks))

    async def _check_stored(self, hooks: Mapping[HookKey, Hook]) -> None:
        try:
            self._hooks.refuse(await self._checker.find_dangerous(hooks))
        except NoCheckError as error:
            _log.error("the hooks of the store are loaded unseen: {error}", error=error)

    def hook_tally(self) -> HookTally:
        """The counters of the hooks, from the workers' last reports."""
        return self._hooks.tally

    def _suspend_hook(self, mark: int) -> None:
        reason = self._hooks.reasons.get(mark, "")
        self._spread(messages.SuspendHook(mark, reason))

    def _tell_addresses(self, addresses: messages.Addresses) -> None:
        self._spread(addresses)

    def _spread(
        self,
        message: messages.Addresses | messages.SuspendHook | messages.Verdicts,
        but: WorkerProcess | None = None,
    ) -> None:
        """Tell every worker except ``but``, those that finish their last requests included."""
        data = messages.encode(message)
        self._supervisor.tell_all(data, but)
        self._supervisor.tell_leaving(data)

    # Decisions.

    def explain(self, head: bytes, client: str) -> defer.Deferred[Explanation]:
        """Where a request would go now, and why; see :class:`slardar.interfaces.IPlane`.

        One of the workers tells it; another one if that does not answer in time.
        """
        return defer.ensureDeferred(self._explain(head, client))

    async def _explain(self, head: bytes, client: str) -> Explanation:
        told = await self._questions.ask(
            self._supervisor.serving(), lambda number: messages.Explain(number, head, client)
        )
        if told.explanation is None:
            raise NotReadyError("the worker gave no explanation")
        return told.explanation

    def decision(self, decision_id: str) -> defer.Deferred[DecisionTold | None]:
        """What was decided for a request; see :class:`slardar.interfaces.IPlane`.

        The worker that has made the decision tells it.
        """
        return defer.ensureDeferred(self._decision(decision_id))

    async def _decision(self, decision_id: str) -> DecisionTold | None:
        number = worker_of(decision_id)
        workers = [one for one in self._supervisor.serving() if one.number == number]
        if not workers:
            # Its records have gone with it.
            return None
        told = await self._questions.ask(
            workers, lambda number: messages.FindDecision(number, decision_id)
        )
        return told.decision

    # Metrics.

    def collect(self) -> Iterator[None]:
        """Nothing to do: workers tell what they count."""
        return iter(())

    def take_counted(self, counted: Counted) -> None:
        """Add what was counted; see :class:`slardar.interfaces.IPlane`."""
        self.totals.take(counted, self._snapshot)

    def facts(self) -> Facts:
        """What the metrics show of the present; see :class:`slardar.interfaces.IPlane`."""
        connections: Counter[str] = Counter()
        tunnels: Counter[str] = Counter()
        for present in self._present.values():
            connections.update(present.connections)
            tunnels.update(present.tunnels)
        slots, out, active = self._supervisor.slots, self._out(), self._tally.active

        def server(upstream: str, host: str, port: int) -> tuple[bool, int]:
            return (upstream, host, port) not in out, active(upstream, host, port)

        restarts = sum(slot.restarts for slot in slots)
        states = Counter(slot.state for slot in slots)
        dropped = self._tally.totals()["access_log_dropped"]
        return Facts(connections, tunnels, states, restarts, dropped, server)

    def time_servers(self, seconds: float) -> None:
        """Time each server's replies; see :class:`slardar.interfaces.IPlane`.  Workers are told
        only when the half of the time has passed for which they were told last."""
        now = self._reactor.seconds()
        if now + seconds / 2 > self._timed_until:
            self._timed_until = now + seconds
            self._supervisor.tell_all(messages.encode(messages.TimeServers(seconds)))

    def _out(self) -> set[tuple[str, str, int]]:
        """The servers whose health lets them have no requests."""
        now = self._reactor.seconds()
        out = {key for key, (until, _) in self._down.items() if until > now}
        out.update(key for key, about in self._checked.items() if about.status == "err")
        out.update(
            (one.upstream, one.host, one.port)
            for one in self.known_extras()
            if isinstance(one, Ejection) and one.seconds > 0
        )
        return out

    def peers(self, upstream: str) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream, for all workers together."""
        found = self._snapshot.upstreams.get(upstream)
        if found is None:
            return {}
        peers = {}
        now = self._reactor.seconds()
        for server in found.servers:
            key = (upstream, server.host, server.port)
            live = peers[server.key] = self._tally.server(*key)
            checked = self._checked.get(key)
            if checked is not None:
                take_verdict(live, checked)
            self._extras.show(upstream, (server.host, server.port), live, now)
        return peers

    def counts(self, upstream: str) -> Mapping[str, int]:
        """The counters of one upstream in all workers together."""
        return self._tally.upstream(upstream)

    def statistics(self) -> Mapping[str, Any]:
        """The counters of all workers together and of each, from their last reports."""
        statistics: dict[str, Any] = dict(self._tally.totals())
        if self._exporter is None:
            del statistics["spans_dropped"]
        else:
            statistics["spans_exported"] = self._exporter.exported
            statistics["spans_dropped"] += self._exporter.dropped
        statistics["balancer_errors"] = {
            name: error.shown() for name, error in self._tally.balancer_errors().items()
        }
        statistics["names"] = self._names.shown()
        statistics["panic"] = self._panics()
        heartbeats = self._heartbeats
        statistics["checkup_timer_alive"] = heartbeats is not None and heartbeats.is_alive
        statistics["last_check"] = None if heartbeats is None else heartbeats.last_check
        statistics["version"] = self._snapshot.version
        statistics["config_timer"] = {slot.name: slot.state for slot in self._supervisor.slots}
        statistics["workers"] = {
            slot.name: slot.about(self._tally.report(slot.number), self._reactor.seconds())
            for slot in self._supervisor.slots
        }
        return statistics

    def _panics(self) -> dict[str, str]:
        """The upstreams that ignore health now, each with the reason."""
        out = self._out()

        def is_in_service(name: str, server: Server) -> bool:
            return (name, server.host, server.port) not in out

        upstreams = self._snapshot.upstreams.values()
        notes = {up.name: panic_note(up, is_in_service) for up in upstreams if up.panic}
        return {name: note for name, note in notes.items() if note}

    def _forget(self, name: str, old: Snapshot, new: Snapshot) -> None:
        before, after = old.upstreams.get(name), new.upstreams.get(name)
        gone = servers_gone(before, after)
        self._tally.forget(name, gone)
        self._health_log.forget(name, gone)
        self._tally.upstream_changed(name, new.version, after is not None)
        self._index.forget([name])
        for host, port in gone:
            self._down.pop((name, host, port), None)
            self._checked.pop((name, host, port), None)
        self._extras.forget(name, gone, after)

    def set_health(self, verdicts: Iterable[Verdict]) -> None:
        """What requests of another process have shown of servers; see
        :class:`slardar.interfaces.IPlane`."""
        for verdict in self._bounded(verdicts):
            if verdict.down_for > 0 or verdict.on_probation:
                until = self._reactor.seconds() + verdict.down_for
                key = (verdict.upstream, verdict.host, verdict.port)
                self._down[key] = (until, verdict)
                self._health_log.know(*key)

    def known_health(self) -> Iterator[Verdict]:
        """The servers out of service; see :class:`slardar.interfaces.IPlane`."""
        now = self._reactor.seconds()
        for until, verdict in self._down.values():
            down_for = max(0.0, until - now)
            yield structs.replace(verdict, down_for=down_for, on_probation=down_for <= 0)

    def set_checked(self, verdicts: Iterable[Heartbeat]) -> None:
        """Take what heartbeats say, and tell the workers; see
        :class:`slardar.interfaces.IPlane`."""
        told = []
        for verdict in verdicts:
            if not self._servers(verdict):
                continue
            key = (verdict.upstream, verdict.host, verdict.port)
            before = self._checked.get(key)
            if verdict.status == "unchecked":
                self._checked.pop(key, None)
            else:
                self._checked[key] = verdict
            # Workers need no counts: the status is shown here.
            if before is None or (before.status, before.message) != (
                verdict.status,
                verdict.message,
            ):
                told.append(verdict)
            if self._supervisor.is_running:
                self._health_log.checked(verdict)
            else:
                self._health_log.know_checked(verdict)
        if told:
            self._spread(messages.Verdicts(heartbeats=tuple(told)))

    def known_checked(self) -> Iterator[Heartbeat]:
        """What heartbeats have said; see :class:`slardar.interfaces.IPlane`."""
        return iter(self._checked.values())

    def set_extras(self, extras: Iterable[Extra]) -> None:
        """Take what keeps servers from requests beside their health; see
        :class:`slardar.interfaces.IPlane`."""
        now = self._reactor.seconds()
        for upstream, some in self._existing(extras):
            self._extras.know(upstream, some, now)

    def hint(self, upstream: str, host: str, port: int, value: str) -> None:
        """A heartbeat brought a hint: tell the workers; see
        :class:`slardar.interfaces.IPlane`."""
        found = self._snapshot.upstreams.get(upstream)
        if found is None or (host, port) not in self._index.of(found):
            return
        hint = self._extras.hint(found, (host, port), value, self._reactor.seconds())
        if hint is not None:
            self._spread(messages.Verdicts(extras=(hint,)))

    def known_extras(self) -> Iterator[Extra]:
        """What keeps servers from requests beside their health; see
        :class:`slardar.interfaces.IPlane`."""
        return self._extras.known(self._reactor.seconds())

    def _existing(self, extras: Iterable[Extra]) -> Iterator[tuple[Upstream, list[Extra]]]:
        """What is said of servers that there are, by upstream."""
        for name, some in by_upstream(extras).items():
            upstream = self._snapshot.upstreams.get(name)
            if upstream is not None:
                yield upstream, [extra for extra in some if self._servers(extra)]

    # What workers report.  Reports on servers that do not exist are ignored.

    def worker_said(self, process: WorkerProcess, message: FromWorker) -> None:
        """A worker sent a message by itself."""
        if isinstance(message, HookHeavy):
            # Also from a worker that is leaving: other workers run the same hook.
            self._hooks.heavy(message.mark, message.reason)
            return
        if isinstance(message, Counted):
            # Also what a worker has counted that is leaving.
            self.take_counted(message)
            return
        if isinstance(message, Spans):
            if self._exporter is not None:
                for span in message.requests:
                    self._exporter.put(span)
            return
        if isinstance(message, Told):
            self._questions.told(process, message)
            return
        if process in self._supervisor.leaving:
            return
        if isinstance(message, Grown):
            self._supervisor.replace(process)
        elif isinstance(message, Report):
            self._tally.take(process.number, message, self._known(message.servers))
            upstreams = self._snapshot.upstreams
            errors = [error for error in message.balancers if error.upstream in upstreams]
            self._tally.take_balancers(process.number, message.version, errors)
            self._tally.take_upstreams(
                process.number, [one for one in message.upstreams if one.upstream in upstreams]
            )
            self._hooks.reported(process.number, (*message.hooks, *message.shadows))
        elif isinstance(message, HookFailed):
            self._hooks.failed(message.mark)
        elif isinstance(message, Present):
            self._present[process.number] = message
        else:
            self._take_health(process, message.requests)
            self._take_extras(process, message.extras)

    def _known(self, servers: Iterable[ServerReport]) -> Iterator[ServerReport]:
        """The reports on servers that exist."""
        return (about for about in servers if self._servers(about))

    def _servers(self, about: ServerReport | Verdict | Heartbeat | Extra) -> tuple[Server, ...]:
        """The server that something is about, once for each level that has it."""
        upstream = self._snapshot.upstreams.get(about.upstream)
        if upstream is None:
            return ()
        return self._index.of(upstream).get((about.host, about.port), ())

    def _bounded(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """The verdicts on servers that there are: requests put a server out of service for
        no longer than its rules say, and not at all if they never do."""
        for verdict in verdicts:
            servers = self._servers(verdict)
            if servers:
                server = strictest(servers)
                most = longest_hold(server.fail_timeout) if server.max_fails else 0.0
                yield structs.replace(
                    verdict,
                    down_for=min(verdict.down_for, most),
                    on_probation=verdict.on_probation and server.max_fails > 0,
                )

    def _take_health(self, process: WorkerProcess, verdicts: Iterable[Verdict]) -> None:
        """What one worker has learnt of servers, the others need not lose requests for."""
        # Whether a server is on probation follows from what all workers say.
        told = tuple(
            structs.replace(verdict, on_probation=False) for verdict in self._bounded(verdicts)
        )
        now = self._reactor.seconds()
        for verdict in told:
            key = (verdict.upstream, verdict.host, verdict.port)
            if verdict.down_for > 0:
                if key not in self._down:
                    self._extras.flapped(*key, now)
                self._down[key] = (now + verdict.down_for, verdict)
            else:
                self._down.pop(key, None)
            self._health_log.took(*key, verdict.down_for, verdict.message)
        if told:
            self._spread(messages.Verdicts(told), but=process)

    def _take_extras(self, process: WorkerProcess, extras: Iterable[Extra]) -> None:
        """Tell the other workers which servers one of them has ejected, or that worker that
        it must not: several workers at once could eject too many."""
        taken: list[Extra] = []
        refused: list[Extra] = []
        for upstream, some in self._existing(extras):
            found = self._extras.take(upstream, some, self._reactor.seconds())
            taken += found[0]
            refused += found[1]
        for extra in taken:
            if isinstance(extra, Ejection):
                self._health_log.ejected(extra)
                self.totals.ejected(extra.upstream, server_key(extra.host, extra.port))
        if taken:
            self._spread(messages.Verdicts(extras=tuple(taken)), but=process)
        if refused:
            message = messages.encode(messages.Verdicts(extras=tuple(refused)))
            process.tell(message, None).addErrback(lambda _gone: None)
