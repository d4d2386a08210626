"""The worker processes, kept alive: started, watched, replaced, ended.

The director keeps every listening socket itself.  When a worker dies, its socket lives
on with the connections that wait in it, and passes to the replacement.

What the workers serve, and what they report, is no business of the supervisor: it asks
its :class:`Distribution`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from slardar.config import Settings
from slardar.dataplane.sockets import Opened
from slardar.errors import SlardarError
from slardar.events import Publish, Worker, ignore
from slardar.model.listener import ListenerSpec
from slardar.workers import messages
from slardar.workers.messages import Done, FromWorker
from slardar.workers.process import SPARE, WorkerProcess
from slardar.workers.slot import Slot, SlotSocket

__all__ = ["Distribution", "Supervisor", "WorkerError"]

#: Seconds between two looks whether the workers answer.
_LOOK = 0.5
#: Seconds after which a look is late: the director was held up itself.
_LATE = 1.0
#: Deaths of a worker that never served, after which the start is given up.
_ATTEMPTS = 3
#: Seconds until the next spare worker is started.  The spare worker before has just
#: become a worker, and is to load its configuration undisturbed; and where processes
#: cannot live, one every few seconds is enough.
_SPARE_DELAY = 3.0
#: Bytes that all workers together may have beyond :data:`_USUAL` each, while replaced
#: workers finish what they have under way.
_ALL = 576 << 20
#: Bytes that a worker without hooks has.
_USUAL = 64 << 20
#: Seconds that draining workers have beyond ``timeouts.drain`` to end by themselves.
_MARGIN = 1.0

_log = Logger("slardar.workers")


class WorkerError(SlardarError):
    """A worker could not do what it was told, or could not be started."""


class Distribution(Protocol):
    """What the supervisor asks of the part that tells the workers what to serve."""

    settings: Settings

    def begin_message(self, process: WorkerProcess, slot: Slot, places: tuple[int, ...]) -> bytes:
        """The first message to ``process``, which takes the place ``slot``.  ``places``
        are the places of the slot's sockets among those that the process has."""

    def worker_said(self, process: WorkerProcess, message: FromWorker) -> None:
        """A worker sent a message by itself."""

    def worker_ended(self, number: int, last_mark: int, hung: bool) -> None:
        """Worker ``number`` has ended, or is replaced.  ``last_mark`` is the hook that it
        was running when it crashed or hung (0: none), ``hung`` whether it hung there."""

    def all_serve(self) -> None:
        """Every place has a worker that serves."""


class Supervisor:
    """Keeps a worker alive in each of ``count`` places.

    ``start_process`` starts one worker (:func:`slardar.workers.process.spawn`).
    With ``spare`` one more is started than there are places: it has imported everything and
    waits.  Python needs half a second of a core for the imports.  On busy cores these are
    two seconds, in which a worker that died would be missing.

    ``publish`` is told of workers that serve, end or are replaced.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        distribution: Distribution,
        start_process: Callable[..., WorkerProcess],
        spare: bool,
        publish: Publish = ignore,
    ) -> None:
        self._publish = publish
        self._reactor = reactor
        self._distribution = distribution
        self._start_process = start_process
        self.slots = [Slot(number) for number in range(count)]
        #: The listening sockets that were opened here, or handed over.
        self.opened: list[Opened] = []
        #: Workers that were replaced, and finish what they have under way.
        self.leaving: set[WorkerProcess] = set()
        #: Workers have been started, and not all of them have gone.
        self.is_running = False
        self.is_stopping = False
        self._wants_spare = spare
        self._spare: WorkerProcess | None = None
        self._spare_sockets: list[socket.socket] = []
        #: The call that starts the spare worker.
        self._spare_call: Any = None
        self._started: defer.Deferred[None] = defer.Deferred()
        self._gone: defer.Deferred[None] = defer.Deferred()
        #: The calls that kill workers which do not end by themselves.
        self._ends: list[Any] = []
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor
        self._last_look = 0.0

    # Sockets.

    def deal(self, opened: Opened, listener: ListenerSpec) -> None:
        """Deal the sockets of ``listener`` to the places.

        Each socket has a worker, and each worker a socket.  An upgrade may hand over more
        sockets than there are workers now: a worker has several of them then.
        """
        self.opened.append(opened)
        count, number = len(self.slots), len(opened.sockets)
        for turn in range(max(count, number)):
            slot = self.slots[turn % count]
            index = turn % number
            shared = index + number < count
            slot.sockets.append(SlotSocket(opened.sockets[index], listener, shared))

    # Life.

    def start(self) -> defer.Deferred[None]:
        """Start the workers; fires when all of them serve, and fails with WorkerError
        if one of them cannot be started."""
        self.is_running = True
        self._last_look = self._reactor.seconds()
        self._looks.start(_LOOK, now=False)
        for slot in self.slots:
            self._start_worker(slot)
        return self._started

    def stop(self, within: float, grace: float | None) -> defer.Deferred[None]:
        """Let the workers finish what is under way, at most for ``within`` seconds, and
        end them.  Fires when all have gone.

        ``grace`` is that of :meth:`slardar.dataplane.proxy.DataPlane.stop`.
        """
        if not self.is_stopping:
            self.is_stopping = True
            self._drain(within, grace)
        return self._gone

    def hurry(self, within: float) -> None:
        """While they are stopping: take no more than ``within`` seconds from now."""
        data = messages.encode(messages.Drain(within))
        for process in [*self.processes(), *self.leaving]:
            self._end(process, data, within)

    def _end(self, process: WorkerProcess, data: bytes, within: float) -> None:
        """Tell a worker to end, and end it by force if it does not."""
        process.tell(data, None).addErrback(lambda _gone: None)
        self._ends.append(
            self._reactor.callLater(within + _MARGIN, process.kill, "it did not end in time")
        )

    def _drain(self, drain: float, grace: float | None) -> None:
        # The director's descriptors go first: each worker then closes the last one behind
        # the last client that waits in the socket.
        for opened in self.opened:
            opened.close()
        # The spare worker has descriptors of these sockets, too.
        self._wants_spare = False
        if self._spare_call is not None:
            self._spare_call.cancel()
        if self._spare is not None:
            self._spare.dismiss()
        data = messages.encode(messages.Drain(drain, grace))
        for leaving in self.leaving:
            self._end(leaving, data, drain)
        for slot in self.slots:
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
        if not self.is_stopping or self.leaving or self._gone.called:
            return
        if all(slot.process is None for slot in self.slots):
            if self._looks.running:
                self._looks.stop()
            self.is_running = False
            for call in self._ends:
                if call.active():
                    call.cancel()
            self._gone.callback(None)

    # Processes.

    def processes(self) -> Iterator[WorkerProcess]:
        """The workers that have a place, those that still begin included."""
        for slot in self.slots:
            if slot.process is not None:
                yield slot.process

    def serving(self) -> Iterator[WorkerProcess]:
        """The workers that have a place and serve."""
        return (process for process in self.processes() if process.ready_at is not None)

    def tell_all(self, data: bytes, but: WorkerProcess | None = None) -> None:
        """Send a message to every worker that has a place, except ``but``.  Nobody waits
        for the answers."""
        for process in [*self.processes()]:
            if process is not but:
                process.tell(data, None).addErrback(lambda _gone: None)

    def tell_leaving(self, data: bytes) -> None:
        """Send a message to the workers that were replaced and have not ended yet."""
        for process in self.leaving:
            process.tell(data, None).addErrback(lambda _gone: None)

    def replace(self, process: WorkerProcess) -> None:
        """Start another worker in the place of one that has grown too large, and let that
        one finish what it has under way."""
        slot = self.slots[process.number]
        if self.is_stopping or slot.process is not process:
            return
        _log.error(
            "{worker} (pid {pid}) has taken far more memory since its hooks were loaded: replaced",
            worker=slot.name,
            pid=process.pid,
        )
        self._publish(
            Worker(slot.name, "replaced", process.pid, "its hooks have taken far more memory")
        )
        self._distribution.worker_ended(slot.number, 0, False)
        self.leaving.add(process)
        slot.restarts += 1
        # If no other worker can be started now, this one drains all the same.
        slot.process = None
        self._start_worker(slot)
        drain = float(self._distribution.settings.timeouts.drain)
        self._end(process, messages.encode(messages.Drain(drain)), drain)

    def _start_worker(self, slot: Slot) -> None:
        slot.pending = None
        process, self._spare = self._spare, None
        if process is not None:
            process.take_place(slot.number)
            places = tuple(self._spare_sockets.index(one.sock) for one in slot.sockets)
        else:
            try:
                process = self._spawn(slot.number, [one.sock for one in slot.sockets])
            except OSError as error:
                how = f"could not be started: {error}"
                self._publish(Worker(slot.name, "ended", None, how))
                self._died(slot, None, how)
                return
            places = tuple(range(len(slot.sockets)))
        slot.process = process
        process.budget = self._distribution.settings.hooks.budget
        begun = process.load(self._distribution.begin_message(process, slot, places))
        begun.addCallbacks(self._begun, lambda _gone: None, (slot, process))
        begun.addErrback(_unexpected)

    def _spawn(self, number: int, sockets: list[socket.socket]) -> WorkerProcess:
        return self._start_process(
            self._reactor, number, sockets, self._distribution.worker_said, self._process_ended
        )

    def _plan_spare(self) -> None:
        if self._wants_spare and self._spare is None and self._spare_call is None:
            self._spare_call = self._reactor.callLater(_SPARE_DELAY, self._start_spare)

    def _start_spare(self) -> None:
        self._spare_call = None
        # Nobody knows yet whose place it takes: it gets every socket.
        self._spare_sockets = [sock for opened in self.opened for sock in opened.sockets]
        try:
            self._spare = self._spawn(SPARE, self._spare_sockets)
        except OSError as error:
            _log.error("a spare worker could not be started: {error}", error=error)
            self._plan_spare()

    def _begun(self, answer: Done, slot: Slot, process: WorkerProcess) -> None:
        if answer.error:
            process.kill(f"it could not begin: {answer.error}")
            return
        process.ready_at = self._reactor.seconds()
        slot.has_served = True
        _log.info("{worker} (pid {pid}) serves", worker=slot.name, pid=process.pid)
        self._publish(Worker(slot.name, "started", process.pid))
        if all(slot.process is None or slot.process.ready_at is not None for slot in self.slots):
            self._distribution.all_serve()
            self._plan_spare()
        if all(slot.has_served for slot in self.slots) and not self._started.called:
            self._started.callback(None)

    def _process_ended(self, process: WorkerProcess, reason: str) -> None:
        if process is self._spare:
            self._spare = None
            if not self.is_stopping:
                _log.error("a spare worker (pid {pid}) {how}", pid=process.pid, how=reason)
                self._plan_spare()
            return
        slot = self.slots[process.number]
        if slot.process is not process:
            self.leaving.discard(process)
            self._look_whether_gone()
            return
        slot.process = None
        self._distribution.worker_ended(slot.number, process.last_mark, process.hung)
        if self.is_stopping:
            self._look_whether_gone()
            return
        self._publish(Worker(slot.name, "ended", process.pid, reason))
        self._died(slot, process.ready_at, f"(pid {process.pid}) {reason}")

    def _died(self, slot: Slot, ready_at: float | None, how: str) -> None:
        delay = slot.died(ready_at, self._reactor.seconds())
        _log.error("{worker} {how}", worker=slot.name, how=how)
        if not slot.has_served and slot.young_deaths >= _ATTEMPTS:
            if not self._started.called:
                self._started.errback(WorkerError(f"{slot.name} {how}, {_ATTEMPTS} times in a row"))
            if self.is_stopping:
                return
        slot.pending = self._reactor.callLater(delay, self._start_worker, slot)

    # Looks.

    def _look(self) -> None:
        now = self._reactor.seconds()
        late = now - self._last_look > _LATE
        self._last_look = now
        for process in [*self.processes()]:
            process.check(late)
        if self.leaving:
            self._bound_leaving()

    def _bound_leaving(self) -> None:
        """Kill replaced workers that there is no memory for, the largest first: a long
        upload must not keep memory that all the others need."""

        def size(process: WorkerProcess) -> int:
            return max(0, process.memory() - _USUAL)

        sizes = {process: size(process) for process in self.leaving}
        total = sum(sizes.values()) + sum(map(size, self.processes()))
        for process in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if total <= _ALL:
                break
            total -= sizes[process]
            process.kill("it was replaced, and all workers together have too much memory")


def _unexpected(failure: Any) -> None:
    _log.failure("a worker's start", failure=failure)
