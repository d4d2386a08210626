"""The workers together, as one data plane: started, kept alive, told what to serve.

The director keeps every listening socket itself.  When a worker dies, its socket lives
on with the connections that wait in it, and passes to the replacement.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from msgspec import structs
from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from slardar.config import Settings
from slardar.dataplane.failurelog import HealthLog
from slardar.dataplane.inherited import adopt_sockets
from slardar.dataplane.sockets import Opened, open_sockets
from slardar.errors import NotReadyError, SlardarError
from slardar.health import shared
from slardar.hooks.checker import Item
from slardar.hooks.checking import Checker, NoCheckError
from slardar.hooks.report import HookTally
from slardar.interfaces import IPlane
from slardar.model.hook import Hook, HookKey
from slardar.model.live import ServerLive
from slardar.model.server import Server
from slardar.model.snapshot import Snapshot
from slardar.workers import messages
from slardar.workers.hook_watch import HookWatch
from slardar.workers.messages import (
    Done,
    FromWorker,
    Grown,
    HookFailed,
    HookHeavy,
    Report,
    ServerReport,
    Verdict,
)
from slardar.workers.process import ANSWER, SPARE, START, WorkerGone, WorkerProcess, spawn
from slardar.workers.slot import Slot
from slardar.workers.tally import Tally

__all__ = ["WorkerError", "Workers", "usable_cores"]

#: Seconds between two looks whether the workers answer.
_LOOK = 0.5
#: Seconds after which a look is late: the director was held up itself.
_LATE = 1.0
#: Deaths of a worker that never served, after which the start is given up.
_ATTEMPTS = 3
#: Seconds until the next spare worker is started: later than the worker that the one
#: before has become, and not at once where they cannot live.
_SPARE_DELAY = 3.0
#: Bytes that all workers may have together, beyond those of a worker without hooks, as
#: long as some have been replaced and finish what they have under way.
_ALL = 576 << 20
_USUAL = 64 << 20
#: Seconds that draining workers have beyond ``timeouts.drain`` to end by themselves.
_MARGIN = 1.0

_log = Logger("slardar.workers")


class WorkerError(SlardarError):
    """A worker could not do what it was told, or could not be started."""


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@implementer(IPlane)
class Workers:
    """Serves requests in ``count`` processes; used as a ``DataPlane`` is.

    ``start_process`` starts one worker (:func:`slardar.workers.process.spawn`).
    With ``spare`` one more is started than there are places: it has imported everything and
    waits.  Python needs half a second of a core for that, which on busy cores are two
    in which a worker that died is missing.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        count: int,
        start_process: Callable[..., WorkerProcess] = spawn,
        spare: bool = False,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._start_process = start_process
        self._snapshot = Snapshot.build(0, {}, (), None)
        #: The snapshot as it travels, while workers begin with it.
        self._encoded: tuple[Snapshot, bytes] | None = None
        self._slots = [Slot(number) for number in range(count)]
        self._wants_spare = spare
        self._spare: WorkerProcess | None = None
        self._spare_sockets: list[socket.socket] = []
        #: The call that starts one.
        self._spare_call: Any = None
        #: What was opened here, or handed over.
        self.opened: list[Opened] = []
        self._tally = Tally(time.time())
        self._hooks = HookWatch(reactor.seconds, self._suspend_hook)
        self._checker = Checker(reactor, settings.hooks)
        #: Workers that were replaced, and finish what they have under way.
        self._leaving: set[WorkerProcess] = set()
        #: The servers that workers have put out of service: until when (the reactor's
        #: seconds), and why.
        self._down: dict[tuple[str, str, int], tuple[float, str]] = {}
        self._health_log = HealthLog(reactor.seconds)
        self._running = self._stopping = False
        self._started: defer.Deferred[None] = defer.Deferred()
        self._gone: defer.Deferred[None] = defer.Deferred()
        #: The calls that end those that do not end by themselves.
        self._ends: list[Any] = []
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor
        self._last_look = 0.0

    # Life.

    def listen(self, endpoint: str, sockets: Sequence[socket.socket] = ()) -> defer.Deferred[str]:
        """Listen on a Twisted server endpoint string; answers where, for a person.

        ``sockets`` are those that another process has handed over for it, if any.  Fails
        as :meth:`slardar.dataplane.proxy.DataPlane.listen` does.  To be called
        before :meth:`start`.
        """
        return defer.maybeDeferred(self._listen, endpoint, sockets)

    def _listen(self, endpoint: str, sockets: Sequence[socket.socket]) -> str:
        count = len(self._slots)
        if sockets:
            opened: Opened = adopt_sockets(endpoint, sockets, count)
        else:
            opened = open_sockets(endpoint, count)
        self.opened.append(opened)
        number = len(opened.sockets)
        # Each socket has a worker, and each worker a socket; where there are more sockets
        # than workers, because there were more of these before, a worker has several.
        for turn in range(max(count, number)):
            slot = self._slots[turn % count]
            index = turn % number
            slot.sockets.append(opened.sockets[index])
            slot.shared.append(index + number < count)
        return opened.place

    def own(self) -> None:
        """Whoever handed sockets over uses them no more."""
        for opened in self.opened:
            try:
                opened.own()
            except OSError as error:
                _log.error("{place}: {error}", place=opened.place, error=error)
        data = messages.encode(messages.Listening())
        for process in self._processes():
            process.tell(data, None).addErrback(lambda _gone: None)

    def start(self) -> defer.Deferred[None]:
        """Start the workers; fires when all of them serve, and fails with WorkerError
        if one of them cannot be started."""
        self._running = True
        self._last_look = self._reactor.seconds()
        self._looks.start(_LOOK, now=False)
        for slot in self._slots:
            self._start_worker(slot)
        return self._started

    def stop(self, within: float | None = None, grace: float | None = None) -> defer.Deferred[None]:
        """Let the workers finish what is under way, at most for ``within`` seconds
        (``None``: ``timeouts.drain``), and end them.  Fires when all have gone.

        ``grace`` is that of :meth:`slardar.dataplane.proxy.DataPlane.stop`.
        """
        if not self._stopping:
            self._stopping = True
            self._drain(float(self._settings.timeouts.drain) if within is None else within, grace)
        return self._gone

    def hurry(self, within: float) -> None:
        """While it is stopping: take no more than ``within`` seconds from now."""
        data = messages.encode(messages.Drain(within))
        for process in [*self._processes(), *self._leaving]:
            self._end(process, data, within)

    def _end(self, process: WorkerProcess, data: bytes, within: float) -> None:
        """Tell a worker to end, and end it by force if it does not."""
        process.tell(data, None).addErrback(lambda _gone: None)
        self._ends.append(
            self._reactor.callLater(within + _MARGIN, process.kill, "it did not end in time")
        )

    def _drain(self, drain: float, grace: float | None) -> None:
        # The director's descriptors go first: each worker then closes the last one behind
        # the last client that it had for us.
        for opened in self.opened:
            opened.close()
        self._checker.stop()
        # The spare one has them too.
        self._wants_spare = False
        if self._spare_call is not None:
            self._spare_call.cancel()
        if self._spare is not None:
            self._spare.dismiss()
        data = messages.encode(messages.Drain(drain, grace))
        for leaving in self._leaving:
            self._end(leaving, data, drain)
        for slot in self._slots:
            if slot.pending is not None:
                slot.pending.cancel()
                slot.pending = None
            process = slot.process
            if process is None:
                continue
            if process.ready_at is None:
                process.kill("it is not needed any more")
            else:
                self._end(process, data, drain)
        self._look_whether_gone()

    def _look_whether_gone(self) -> None:
        if not self._stopping or self._leaving or self._gone.called:
            return
        if all(slot.process is None for slot in self._slots):
            if self._looks.running:
                self._looks.stop()
            self._running = False
            for call in self._ends:
                if call.active():
                    call.cancel()
            self._gone.callback(None)

    # Processes.

    def _start_worker(self, slot: Slot) -> None:
        slot.pending = None
        process, self._spare = self._spare, None
        if process is not None:
            process.take_place(slot.number)
            places = tuple(self._spare_sockets.index(sock) for sock in slot.sockets)
        else:
            try:
                process = self._start_process(
                    self._reactor, slot.number, slot.sockets, self._took, self._process_ended
                )
            except OSError as error:
                self._died(slot, None, f"could not be started: {error}")
                return
            places = tuple(range(len(slot.sockets)))
        slot.process = process
        process.budget = self._settings.hooks.budget
        process.sent = self._snapshot
        begun = process.load(self._begin_message(slot, places, process.inherited))
        begun.addCallbacks(self._begun, lambda _gone: None, (slot, process))
        begun.addErrback(_unexpected)

    def _plan_spare(self) -> None:
        if self._wants_spare and self._spare is None and self._spare_call is None:
            self._spare_call = self._reactor.callLater(_SPARE_DELAY, self._start_spare)

    def _start_spare(self) -> None:
        self._spare_call = None
        # Whose place it takes, nobody knows.
        self._spare_sockets = [sock for opened in self.opened for sock in opened.sockets]
        try:
            self._spare = self._start_process(
                self._reactor, SPARE, self._spare_sockets, self._took, self._process_ended
            )
        except OSError as error:
            _log.error("a spare worker could not be started: {error}", error=error)
            self._plan_spare()

    def _begin_message(self, slot: Slot, places: tuple[int, ...], inherited: int) -> bytes:
        if self._encoded is None or self._encoded[0] is not self._snapshot:
            data = messages.encode(messages.whole(self._snapshot))
            self._encoded = (self._snapshot, data)
        now = self._reactor.seconds()
        self._down = {key: value for key, value in self._down.items() if value[0] > now}
        return messages.encode(
            messages.Begin(
                number=slot.number,
                settings=messages.lean_settings(self._settings),
                snapshot=messages.raw(self._encoded[1]),
                sockets=tuple(slot.shared),
                places=places,
                inherited=inherited,
                health=tuple(
                    Verdict(*key, until - now, text) for key, (until, text) in self._down.items()
                ),
                suspended=self._hooks.suspended,
                reasons=self._hooks.reasons,
                refused=self._hooks.refused,
                count=len(self._slots),
            )
        )

    def _begun(self, answer: Done, slot: Slot, process: WorkerProcess) -> None:
        if answer.error:
            process.kill(f"it could not begin: {answer.error}")
            return
        process.ready_at = self._reactor.seconds()
        slot.has_served = True
        _log.info("{worker} (pid {pid}) serves", worker=slot.name, pid=process.pid)
        if all(slot.process is None or slot.process.ready_at is not None for slot in self._slots):
            self._encoded = None
            self._plan_spare()
        if all(slot.has_served for slot in self._slots) and not self._started.called:
            self._started.callback(None)

    def _process_ended(self, process: WorkerProcess, reason: str) -> None:
        if process is self._spare:
            self._spare = None
            if not self._stopping:
                _log.error("a spare worker (pid {pid}) {how}", pid=process.pid, how=reason)
                self._plan_spare()
            return
        slot = self._slots[process.number]
        if slot.process is not process:
            self._leaving.discard(process)
            self._look_whether_gone()
            return
        slot.process = None
        self._tally.worker_ended(slot.number)
        self._hooks.worker_ended(slot.number, process.last_mark, process.hung)
        if self._stopping:
            self._look_whether_gone()
            return
        self._died(slot, process.ready_at, f"(pid {process.pid}) {reason}")

    def _died(self, slot: Slot, ready_at: float | None, how: str) -> None:
        delay = slot.died(ready_at, self._reactor.seconds())
        _log.error("{worker} {how}", worker=slot.name, how=how)
        if not slot.has_served and slot.young_deaths >= _ATTEMPTS:
            if not self._started.called:
                self._started.errback(WorkerError(f"{slot.name} {how}, {_ATTEMPTS} times in a row"))
            if self._stopping:
                return
        slot.pending = self._reactor.callLater(delay, self._start_worker, slot)

    def _look(self) -> None:
        now = self._reactor.seconds()
        late = now - self._last_look > _LATE
        self._last_look = now
        for process in [*self._processes()]:
            process.check(late)
        if self._leaving:
            self._bound_leaving()

    def _bound_leaving(self) -> None:
        """End by force those that there is no room for, the largest first: an upload must
        not keep alive for long what cannot be had back."""

        def size(process: WorkerProcess) -> int:
            return max(0, process.memory() - _USUAL)

        sizes = {process: size(process) for process in self._leaving}
        total = sum(sizes.values()) + sum(map(size, self._processes()))
        for process in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= _ALL:
                break
            total -= sizes[process]
            process.kill("it was replaced, and all workers together have too much memory")

    def _replace(self, process: WorkerProcess) -> None:
        """Start another one in its place, and let it finish what it has under way."""
        slot = self._slots[process.number]
        _log.error(
            "{worker} (pid {pid}) has taken far more memory since its hooks were loaded: replaced",
            worker=slot.name,
            pid=process.pid,
        )
        self._tally.worker_ended(slot.number)
        self._hooks.worker_ended(slot.number, 0, False)
        self._leaving.add(process)
        slot.restarts += 1
        # If no other one can be started now, that is not the end of this one.
        slot.process = None
        self._start_worker(slot)
        drain = float(self._settings.timeouts.drain)
        self._end(process, messages.encode(messages.Drain(drain)), drain)

    def _processes(self) -> Iterator[WorkerProcess]:
        for slot in self._slots:
            if slot.process is not None:
                yield slot.process

    # IPlane.

    def apply(self, snapshot: Snapshot, changed: Collection[str]) -> defer.Deferred[Any]:
        """Serve ``snapshot`` from now on; see :class:`slardar.interfaces.IPlane`.

        Fires with ``{"workers": {"worker-0": version, ...}}`` of those that confirmed
        it.  One that dies meanwhile is not waited for: its replacement begins with the
        newest snapshot.  Fails with WorkerError if one could not serve it.
        """
        base, self._snapshot = self._snapshot, snapshot
        for name in changed:
            self._forget(name, base, snapshot)
        if snapshot.hooks is not base.hooks:
            self._hooks.set_hooks(snapshot.hooks)
        if not self._running:
            return defer.succeed({"workers": {}})
        return defer.ensureDeferred(self._apply(base, snapshot, changed))

    def take_settings(self, settings: Settings) -> defer.Deferred[None]:
        """Use other ``timeouts`` and ``limits``; see :class:`slardar.interfaces.IPlane`.

        A worker that cannot take them, or does not confirm them in time, is replaced by
        one that begins with them; it is not waited for.  Never fails.
        """
        # The rest of them stays as it is everywhere, in replacements too.
        self._settings = structs.replace(
            self._settings, timeouts=settings.timeouts, limits=settings.limits
        )
        return defer.ensureDeferred(self._take_settings())

    async def _take_settings(self) -> None:
        lean = messages.lean_settings(self._settings)
        data = messages.encode(messages.TakeSettings(lean))
        told = [
            (process, process.tell(data, START if process.ready_at is None else ANSWER))
            for process in self._processes()
        ]
        for process, confirmation in told:
            try:
                done = await confirmation
            except WorkerGone:
                continue
            if done.error:
                process.kill(f"it could not take the settings: {done.error}")

    async def _apply(
        self, base: Snapshot, snapshot: Snapshot, changed: Collection[str]
    ) -> dict[str, Any]:
        message = messages.delta(base, snapshot, changed)
        change = messages.encode(message)
        confirmations = []
        for process in self._processes():
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
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> defer.Deferred[tuple[str, ...]]:
        """Whether code is fit to be a hook; see :class:`slardar.interfaces.IPlane`.

        A process that serves nobody tries.
        """
        known = None if modules is None else dict(modules)
        return defer.ensureDeferred(self._check_hook(Item(language, name, code, known)))

    async def _check_hook(self, item: Item) -> tuple[str, ...]:
        try:
            return await self._checker.check_one(item)
        except NoCheckError as error:
            raise NotReadyError(str(error)) from None

    def check_stored(self, hooks: Mapping[HookKey, Hook]) -> defer.Deferred[None]:
        """Leave out those that no worker could load; see :class:`slardar.interfaces.IPlane`."""
        return defer.ensureDeferred(self._check_stored(hooks))

    async def _check_stored(self, hooks: Mapping[HookKey, Hook]) -> None:
        try:
            self._hooks.refuse(await self._checker.find_dangerous(hooks))
        except NoCheckError as error:
            _log.error("the hooks of the store are loaded unseen: {error}", error=error)

    def hook_tally(self) -> HookTally:
        """The counters of the hooks, as of the workers' last reports."""
        return self._hooks.tally

    def _suspend_hook(self, mark: int) -> None:
        reason = self._hooks.reasons.get(mark, "")
        data = messages.encode(messages.SuspendHook(mark, reason))
        for process in [*self._processes(), *self._leaving]:
            process.tell(data, None).addErrback(lambda _gone: None)

    def peers(self, upstream: str) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream, all workers taken together."""
        found = self._snapshot.upstreams.get(upstream)
        if found is None:
            return {}
        return {
            server.key: self._tally.server(upstream, server.host, server.port)
            for server in found.servers
        }

    def statistics(self) -> Mapping[str, Any]:
        """Counters of all workers and of each, as of their last reports; for status."""
        statistics: dict[str, Any] = dict(self._tally.totals())
        statistics["balancer_errors"] = {
            name: error.shown() for name, error in self._tally.balancer_errors().items()
        }
        statistics["version"] = self._snapshot.version
        statistics["config_timer"] = {slot.name: slot.state for slot in self._slots}
        statistics["workers"] = {
            slot.name: slot.about(self._tally.report(slot.number), self._reactor.seconds())
            for slot in self._slots
        }
        return statistics

    def _forget(self, name: str, old: Snapshot, new: Snapshot) -> None:
        before, after = old.upstreams.get(name), new.upstreams.get(name)
        gone = {(server.host, server.port) for server in before.servers} if before else set()
        if after is not None:
            gone -= {(server.host, server.port) for server in after.servers}
        self._tally.forget(name, gone)
        self._health_log.forget(name, gone)
        self._tally.upstream_changed(name, new.version, after is not None)
        for host, port in gone:
            self._down.pop((name, host, port), None)

    def known_health(self) -> Iterator[tuple[str, str, int, float, str]]:
        """As :meth:`slardar.dataplane.proxy.DataPlane.known_health`."""
        now = self._reactor.seconds()
        for key, (until, text) in self._down.items():
            if until > now:
                yield *key, until - now, text

    def set_health(
        self, upstream: str, host: str, port: int, down_for: float, message: str
    ) -> None:
        """As :meth:`slardar.dataplane.proxy.DataPlane.set_health`; to be called before
        :meth:`start`, for the workers begin with it."""
        health = Verdict(upstream, host, port, down_for, message)
        server = self._server(health)
        if server is not None and server.max_fails:
            until = self._reactor.seconds() + min(down_for, server.fail_timeout)
            self._down[upstream, host, port] = (until, message)
            self._health_log.know(upstream, host, port)

    # What workers say; whatever it is, it is about servers that there are.

    def _took(self, process: WorkerProcess, message: FromWorker) -> None:
        if isinstance(message, HookHeavy):
            # Of one that is leaving, too: it is everybody's hook.
            self._hooks.heavy(message.mark, message.reason)
            return
        if process in self._leaving:
            return
        if isinstance(message, Grown):
            if not self._stopping and self._slots[process.number].process is process:
                self._replace(process)
        elif isinstance(message, Report):
            self._tally.take(process.number, message, self._known(message.servers))
            upstreams = self._snapshot.upstreams
            errors = [error for error in message.balancers if error.upstream in upstreams]
            self._tally.take_balancers(process.number, message.version, errors)
            self._hooks.reported(process.number, (*message.hooks, *message.shadows))
        elif isinstance(message, HookFailed):
            self._hooks.failed(message.mark)
        else:
            self._health(process, message)

    def _known(self, servers: Collection[ServerReport]) -> Iterator[ServerReport]:
        """Those that there are; an upstream may have a thousand, all of them reported."""
        known: dict[str, set[tuple[str, int]]] = {}
        for about in servers:
            places = known.get(about.upstream)
            if places is None:
                found = self._snapshot.upstreams.get(about.upstream)
                places = (
                    {(server.host, server.port) for server in found.servers} if found else set()
                )
                known[about.upstream] = places
            if (about.host, about.port) in places:
                yield about

    def _server(self, health: Verdict) -> Server | None:
        upstream = self._snapshot.upstreams.get(health.upstream)
        found = None
        for server in upstream.servers if upstream is not None else ():
            if server.port == health.port and server.host == health.host:
                found = server if found is None else shared.stricter(found, server)
        return found

    def _health(self, process: WorkerProcess, health: Verdict) -> None:
        """What one worker has learnt of a server, the others need not lose requests for."""
        server = self._server(health)
        if server is None:
            return
        # Requests put no server out for longer.
        down_for = min(health.down_for, server.fail_timeout) if server.max_fails else 0.0
        key = (health.upstream, health.host, health.port)
        if down_for > 0:
            self._down[key] = (self._reactor.seconds() + down_for, health.message)
        else:
            self._down.pop(key, None)
        self._health_log.took(*key, down_for, health.message)
        data = messages.encode(Verdict(*key, down_for, health.message))
        for other in self._processes():
            if other is not process:
                other.tell(data, None).addErrback(lambda _gone: None)


def _unexpected(failure: Any) -> None:
    _log.failure("a worker's start", failure=failure)
