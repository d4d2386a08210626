"""Workers whose processes are pretended; time and messages are the test's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from slardar.config import Settings, Timeouts
from slardar.events import Event
from slardar.lookup import Found
from slardar.model.listener import spec_of
from slardar.model.snapshot import Snapshot
from slardar.resolve import Resolver
from slardar.workers import messages
from slardar.workers.messages import Begin, Delta, Done, Whole
from slardar.workers.parent import Workers
from slardar.workers.process import WorkerGone
from tests.workers.kit import result_of, snapshot, upstream

__all__ = ["FAILS", "TCP", "FakeProcess", "Team"]

TCP = spec_of("tcp:0:interface=127.0.0.1")
FAILS = {"server": {"max_fails": 1, "fail_timeout": 10}}


class HandResolver(Resolver):
    """Looks names up when the test says so."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.asked: list[str] = []

    def _ask(self, name: str, known: Any) -> None:
        self.asked.append(name)

    def answer(self, name: str, *addresses: str) -> None:
        """A lookup has found these addresses."""
        found = Found([(socket.AF_INET, address) for address in addresses])
        self._found(name, found)


class FakeProcess:
    """A worker that does what it is told at once, unless the test wants otherwise."""

    def __init__(
        self, reactor: Any, number: int, sockets: list[socket.socket], took: Any, ended: Any
    ) -> None:
        self.number = number
        self.name = f"worker-{number}"
        self.pid = 1000 + number
        self.born = reactor.seconds()
        self.ready_at: float | None = None
        self.sent: Any = None
        self.sockets = list(sockets)
        self.inherited = len(self.sockets)
        self.last_mark = 0
        self.hung = False
        self.size = 0
        self.told: list[Any] = []
        self.waiting: list[Deferred[Done]] = []
        self.kills: list[str] = []
        self.checks: list[bool] = []
        self.version = 0
        #: What it answers to the next messages instead of doing them.
        self.answers: list[Done] = []
        #: Answers nothing until :meth:`go_on`.
        self.is_slow = False
        self._took, self._ended = took, ended

    def tell(self, data: bytes, within: float | None = 0.0) -> Deferred[Done]:
        message = messages.decode_to_worker(data)
        self.told.append(message)
        if self.is_slow:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(self._do(message))

    load = tell

    def memory(self) -> int:
        return self.size

    def _do(self, message: Any) -> Done:
        if self.answers:
            return self.answers.pop(0)
        if isinstance(message, Begin):
            self.version = messages.decode_whole(message.snapshot).version
        if isinstance(message, Delta):
            if message.base != self.version:
                return Done(self.version, stale=True)
            self.version = message.version
        if isinstance(message, Whole):
            self.version = message.version
        return Done(self.version)

    def go_on(self) -> None:
        """Do what was left, in order."""
        self.is_slow = False
        first = len(self.told) - len(self.waiting)
        waiting, self.waiting = self.waiting, []
        for message, deferred in zip(self.told[first:], waiting, strict=True):
            deferred.callback(self._do(message))

    def check(self, late: bool) -> None:
        self.checks.append(late)

    def take_place(self, number: int) -> None:
        self.number = number
        self.name = f"worker-{number}"

    def dismiss(self) -> None:
        self.kills.append("dismissed")

    def kill(self, reason: str) -> None:
        self.kills.append(reason)

    def die(self, reason: str = "ended by signal 9") -> None:
        """The process is gone; whoever waits for it is told."""
        waiting, self.waiting = self.waiting, []
        for deferred in waiting:
            deferred.errback(Failure(WorkerGone()))
        self._ended(self, reason)

    def say(self, message: Any) -> None:
        """What a worker says by itself."""
        self._took(self, message)

    def of(self, kind: type) -> list[Any]:
        """What it was told of one kind."""
        return [message for message in self.told if isinstance(message, kind)]


class Team:
    """Workers, and the processes they have started so far."""

    def __init__(
        self,
        count: int = 2,
        prepare: Callable[[FakeProcess], Any] | None = None,
        spare: bool = False,
    ) -> None:
        self.clock = Clock()
        self.processes: list[FakeProcess] = []
        self.prepare = prepare
        settings = Settings(timeouts=Timeouts(drain=5))
        self.resolver = HandResolver(self.clock)
        #: What was published.
        self.events: list[Event] = []
        self.workers = Workers(
            self.clock,
            settings,
            count,
            self._start,
            spare,
            self.resolver,
            publish=self.events.append,
        )

    def _start(self, *arguments: Any) -> Any:
        process = FakeProcess(*arguments)
        if self.prepare is not None:
            self.prepare(process)
        self.processes.append(process)
        return process

    def start(self, first: Snapshot | None = None) -> FakeProcess:
        """Start them on a snapshot; answers the first process."""
        first = first or snapshot(1, upstream("a", 1, 2, **FAILS))
        self.apply(first, *first.upstreams)
        result_of(self.workers.start())
        return self.processes[0]

    def apply(self, following: Snapshot, *changed: str) -> Any:
        """Give them a snapshot, and what comes of it."""
        return result_of(self.workers.apply(following, list(changed)))

    @property
    def living(self) -> list[FakeProcess]:
        """The processes that are in their places."""
        found: Any = list(self.workers._supervisor.processes())
        return found
