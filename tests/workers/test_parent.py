"""The workers together; the processes are pretended, time and messages are the test's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import structs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from slardar.config import Settings, Timeouts
from slardar.dataplane.balancer_errors import BalancerError
from slardar.interfaces import IPlane
from slardar.model.listener import spec_of
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.workers import messages
from slardar.workers.messages import (
    BalancerReport,
    Begin,
    Delta,
    Done,
    Drain,
    Report,
    ServerReport,
    Verdict,
    Whole,
    WorkerSocket,
)
from slardar.workers.parent import Workers
from slardar.workers.process import SPARE, WorkerGone
from slardar.workers.supervisor import WorkerError
from tests.dataplane.kit import logged
from tests.workers.kit import failure_of, result_of, snapshot, upstream

TCP = spec_of("tcp:0:interface=127.0.0.1")
FAILS = {"server": {"max_fails": 1, "fail_timeout": 10}}


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
        self.workers = Workers(self.clock, settings, count, self._start, spare)

    def _start(self, *arguments: Any) -> Any:
        process = FakeProcess(*arguments)
        if self.prepare is not None:
            self.prepare(process)
        self.processes.append(process)
        return process

    def start(self, first: Snapshot | None = None) -> FakeProcess:
        """Start them on a snapshot; answers the first process."""
        self.apply(first or snapshot(1, upstream("a", 1, 2, **FAILS)))
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


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """What was logged; deaths are."""
    with logged() as events:
        yield events


def test_workers_are_a_plane() -> None:
    """They are what the service and the control channel take for one."""
    verifyObject(IPlane, Team().workers)


def test_start_is_done_when_all_serve() -> None:
    """Not when the first one does."""
    team = Team(2, lambda process: setattr(process, "is_slow", True))
    assert team.apply(snapshot(4, upstream("a", 1)), "a") == {"workers": {}}
    started = team.workers.start()
    first, second = team.processes
    first.go_on()
    assert not started.called
    assert team.workers.statistics()["config_timer"] == {
        "worker-0": "alive",
        "worker-1": "starting",
    }
    second.go_on()
    assert result_of(started) is None
    (begin,) = first.told
    assert [one.name for one in messages.decode_whole(begin.snapshot).upstreams] == ["a"]
    assert (first.version, second.version) == (4, 4)


def test_start_fails_when_a_worker_cannot() -> None:
    """After some attempts, with how it ended."""
    team = Team(2)
    team.prepare = lambda process: setattr(process, "is_slow", process.number == 1)
    started = team.workers.start()
    for _ in range(3):
        assert not started.called
        team.clock.advance(1)
        team.processes[-1].die("ended with exit code 1")
    error = failure_of(started)
    assert isinstance(error, WorkerError)
    assert "worker-1 (pid 1001) ended with exit code 1, 3 times in a row" in str(error)


def test_process_that_cannot_be_made_is_tried_again() -> None:
    """The system may be short of something for a moment."""
    team = Team(1)
    team.start()
    failing = [True, True]

    def prepare(process: FakeProcess) -> None:
        if failing.pop():
            raise BlockingIOError("no more processes")

    failing.insert(0, False)
    team.prepare = prepare
    team.processes[0].die()
    team.clock.pump([0.05] * 20)
    assert [process.number for process in team.living] == [0]


@pytest.mark.real
def test_spare_worker_takes_the_place_of_one_that_died() -> None:
    """It was started when all served, and has all the sockets; it is told which are its
    own, and another one is started in its place."""
    team = Team(2, spare=True)
    unix = spec_of("unix:\0slardar-test-spare:lockfile=0")
    result_of(team.workers.listen(TCP))
    result_of(team.workers.listen(unix))
    team.start()
    assert len(team.processes) == 2
    team.clock.advance(4)
    spare = team.processes[2]
    assert (spare.number, spare.told, spare.inherited) == (SPARE, [], 3)
    assert spare not in team.living
    team.processes[1].die()
    team.clock.advance(0)
    assert team.living == [team.processes[0], spare]
    assert len(team.processes) == 3
    (begin,) = spare.told
    mine = [spare.sockets[one.place] for one in begin.sockets]
    assert mine == team.processes[1].sockets
    assert (begin.number, begin.inherited) == (1, 3)
    assert [(one.listener, one.shared) for one in begin.sockets] == [(TCP, False), (unix, True)]
    team.clock.advance(4)
    assert [process.number for process in team.processes] == [0, 1, 1, SPARE]
    # A change is for those that serve.
    team.apply(snapshot(2, upstream("a", 1)), "a")
    assert team.processes[3].told == []
    team.workers.stop()
    assert team.processes[3].kills == ["dismissed"]


def test_spare_worker_that_dies_is_replaced_after_a_while() -> None:
    """Nobody is missing meanwhile; a worker that dies then is started as ever."""
    team = Team(1, spare=True)
    team.start()
    team.clock.advance(4)
    team.processes[1].die()
    assert len(team.processes) == 2
    team.processes[0].die()
    team.clock.advance(0)
    assert [process.number for process in team.processes] == [0, SPARE, 0]
    team.clock.advance(4)
    assert [process.number for process in team.processes] == [0, SPARE, 0, SPARE]


def test_worker_that_refuses_to_begin_is_killed() -> None:
    """It would serve nothing."""
    team = Team(1, lambda process: process.answers.append(Done(0, "no")))
    team.workers.start()
    assert team.processes[0].kills == ["it could not begin: no"]


@pytest.mark.real
def test_sockets_are_spread_over_the_workers() -> None:
    """One of a TCP port each; the same one of a unix socket, which is said to be shared."""
    team = Team(2)
    unix = spec_of("unix:\0slardar-test-parent:lockfile=0")
    place = result_of(team.workers.listen(TCP))
    result_of(team.workers.listen(unix))
    team.start()
    one, other = team.processes
    assert len({*one.sockets, *other.sockets}) == 3
    assert one.sockets[0] is not other.sockets[0]
    assert one.sockets[1] is other.sockets[1]
    assert place == f"tcp 127.0.0.1:{one.sockets[0].getsockname()[1]}"
    assert one.told[0].sockets == (WorkerSocket(0, TCP, False), WorkerSocket(1, unix, True))
    one.die()
    team.clock.advance(0)
    assert team.processes[2].sockets == one.sockets
    team.workers.stop()
    assert [sock.fileno() for sock in one.sockets] == [-1, -1]


@pytest.mark.real
def test_one_worker_shares_nothing() -> None:
    """Also not a unix socket."""
    team = Team(1)
    unix = spec_of("unix:\0slardar-test-one:lockfile=0")
    result_of(team.workers.listen(unix))
    assert team.start().told[0].sockets == (WorkerSocket(0, unix, False),)
    team.workers.stop()


def test_change_is_confirmed_by_every_worker() -> None:
    """The answer comes after the last of them."""
    team = Team(2)
    team.start(first := snapshot(1, upstream("a", 1)))
    one, other = team.processes
    other.is_slow = True
    following = first.with_upstream(upstream("b", 2))
    answer = team.workers.apply(following, ["b"])
    assert not answer.called
    other.go_on()
    assert result_of(answer) == {"workers": {"worker-0": 2, "worker-1": 2}}
    (change,) = one.of(Delta)
    assert (change.base, change.version) == (1, 2)
    assert [found.name for found in change.upstreams] == ["b"]
    assert not one.of(Whole)


def test_changes_go_out_without_waiting_for_each_other() -> None:
    """A later one may be told before an earlier one is confirmed."""
    team = Team(1)
    process = team.start(first := snapshot(1))
    process.is_slow = True
    second = first.with_upstream(upstream("b", 2))
    third = second.with_upstream(upstream("c", 3))
    answers = [team.workers.apply(second, ["b"]), team.workers.apply(third, ["c"])]
    assert [(change.base, change.version) for change in process.of(Delta)] == [(1, 2), (2, 3)]
    process.go_on()
    assert [result_of(answer)["workers"]["worker-0"] for answer in answers] == [2, 3]


def test_worker_at_another_version_gets_the_whole() -> None:
    """And confirms that."""
    team = Team(2)
    team.start(first := snapshot(1, upstream("a", 1)))
    team.processes[0].version = 99
    following = first.with_upstream(upstream("b", 2))
    assert team.apply(following, "b") == {"workers": {"worker-0": 2, "worker-1": 2}}
    (whole,) = team.processes[0].of(Whole)
    assert {found.name for found in whole.upstreams} == {"a", "b"}
    assert team.apply(following.with_upstream(upstream("c", 3)), "c")["workers"] == {
        "worker-0": 3,
        "worker-1": 3,
    }
    assert len(team.processes[0].of(Whole)) == 1


def test_worker_that_refuses_a_change_fails_it() -> None:
    """It is named with its reason, and gets the whole with the next change."""
    team = Team(2)
    team.start(first := snapshot(1))
    team.processes[1].answers.append(Done(1, "ConfigError: no such balancer"))
    second = first.with_upstream(upstream("b", 2))
    error = failure_of(team.workers.apply(second, ["b"]))
    assert isinstance(error, WorkerError)
    assert str(error) == "worker-1: ConfigError: no such balancer"
    third = second.with_upstream(upstream("b", 3))
    assert team.apply(third, "b") == {"workers": {"worker-0": 3, "worker-1": 3}}
    assert (len(team.processes[0].of(Whole)), len(team.processes[1].of(Whole))) == (0, 1)


@pytest.mark.parametrize("answer", [Done(1), Done(1, stale=True)])
def test_worker_that_confirms_something_else_is_killed(answer: Done) -> None:
    """Its word would make a lie of the answer."""
    team = Team(1)
    process = team.start(first := snapshot(1))
    process.answers += [answer, answer]
    assert team.apply(first.with_upstream(upstream("b", 2)), "b") == {"workers": {}}
    assert len(process.kills) == 1


def test_worker_that_dies_meanwhile_is_not_waited_for() -> None:
    """Its replacement begins with what the change led to."""
    team = Team(2)
    team.start(first := snapshot(1))
    team.processes[0].is_slow = True
    answer = team.workers.apply(first.with_upstream(upstream("b", 2)), ["b"])
    team.processes[0].die()
    assert result_of(answer) == {"workers": {"worker-1": 2}}
    team.clock.advance(0)
    assert team.processes[2].version == 2


def test_worker_that_begins_is_told_of_changes() -> None:
    """A change that comes while it loads is confirmed by it, too."""
    team = Team(1)
    team.start(first := snapshot(1))
    team.prepare = lambda process: setattr(process, "is_slow", True)
    team.processes[0].die()
    team.clock.advance(0)
    replacement = team.processes[1]
    answer = team.workers.apply(first.with_upstream(upstream("b", 2)), ["b"])
    assert not answer.called
    replacement.go_on()
    assert result_of(answer) == {"workers": {"worker-0": 2}}


def test_dead_worker_is_replaced_at_once() -> None:
    """Under its number; status says so."""
    team = Team(2)
    team.start()
    team.clock.advance(60)
    team.processes[1].die()
    assert team.workers.statistics()["config_timer"]["worker-1"] == "ended"
    assert team.workers.statistics()["workers"]["worker-1"]["pid"] is None
    team.clock.advance(0)
    assert team.processes[2].number == 1
    shown = team.workers.statistics()
    assert shown["config_timer"] == {"worker-0": "alive", "worker-1": "alive"}
    assert shown["workers"]["worker-1"]["restarts"] == 1


def test_worker_that_dies_young_again_and_again_is_waited_for() -> None:
    """At once, then after a time that doubles up to five seconds; one that lived ends it."""
    team = Team(1)
    team.start()
    delays = []
    for _ in range(10):
        team.living[0].die()
        delays.append(team.workers._supervisor.slots[0].pending.getTime() - team.clock.seconds())
        team.clock.advance(delays[-1])
    assert delays == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5])
    team.clock.advance(20)
    team.living[0].die()
    assert team.workers._supervisor.slots[0].pending.getTime() == team.clock.seconds()


def test_death_of_a_process_that_was_replaced_is_nobodys() -> None:
    """It is told once."""
    team = Team(1)
    process = team.start()
    process.die()
    team.clock.advance(0)
    process.die()
    assert [one is team.processes[1] for one in team.living] == [True]
    assert len(team.processes) == 2


def test_workers_are_looked_after() -> None:
    """Twice a second; a look that comes late says so."""
    team = Team(1)
    process = team.start()
    team.clock.pump([0.5] * 4)
    team.clock.advance(30)
    assert process.checks[:4] == [False] * 4
    assert process.checks[4] is True
    team.clock.advance(0.5)
    assert process.checks[5] is False


def report(requests: int, *servers: ServerReport) -> Report:
    """A report of so many requests."""
    return Report(1, requests, requests, 0, 3, 1, 0, servers)


def about(name: str, port: int, requests: int) -> ServerReport:
    """A server of one upstream."""
    return ServerReport(name, "127.0.0.1", port, requests, 0, 0, "ok", 0, 1.0, "")


def test_status_is_of_all_workers() -> None:
    """Totals, and each worker's own."""
    team = Team(2)
    team.start()
    team.clock.advance(3)
    team.processes[0].say(report(10, about("a", 1, 10)))
    team.processes[1].say(report(5, about("a", 1, 4), about("a", 2, 1)))
    shown = team.workers.statistics()
    assert (shown["requests"], shown["connections"], shown["version"]) == (15, 6, 1)
    assert shown["workers"]["worker-1"] == {
        "pid": 1001,
        "version": 1,
        "connections": 3,
        "requests": 5,
        "age": 3.0,
        "restarts": 0,
    }
    peers = team.workers.peers("a")
    assert {key: live.requests for key, live in peers.items()} == {
        "127.0.0.1:1": 14,
        "127.0.0.1:2": 1,
    }
    assert team.workers.peers("gone") == {}


def test_servers_that_a_worker_invents_are_not_counted() -> None:
    """What it says takes no memory for servers that there are not."""
    team = Team(1)
    process = team.start()
    invented = [about(f"x{n}", 1, 1) for n in range(1000)] + [about("a", 3, 1)]
    process.say(report(1, *invented, about("a", 1, 7)))
    assert list(team.workers._tally._servers) == [("a", "127.0.0.1", 1)]


def test_server_that_was_removed_is_forgotten() -> None:
    """It begins anew if it is added again; its neighbour's counters stay."""
    team = Team(1)
    first = snapshot(1, upstream("a", 1, 2, **FAILS))
    process = team.start(first)
    process.say(report(1, about("a", 1, 7), about("a", 2, 8)))
    process.say(Verdict("a", "127.0.0.1", 2, 5, "refused"))
    second = first.with_upstream(upstream("a", 1, **FAILS))
    team.apply(second, "a")
    team.apply(second.with_upstream(upstream("a", 1, 2, **FAILS)), "a")
    peers = team.workers.peers("a")
    assert [peers[f"127.0.0.1:{port}"].requests for port in (1, 2)] == [7, 0]
    assert team.workers._down == {}


def test_health_reaches_the_other_workers() -> None:
    """Not the one that said it."""
    team = Team(3)
    team.start()
    one, *others = team.processes
    out = Verdict("a", "127.0.0.1", 1, 5.0, "refused")
    one.say(out)
    back = Verdict("a", "127.0.0.1", 1, 0.0, "")
    one.say(back)
    assert one.of(Verdict) == []
    assert [other.of(Verdict) for other in others] == [[out, back]] * 2


def test_health_is_logged_once() -> None:
    """Of all workers together, and again only when it has changed; not of a server that is
    gone or that was known to be out at the start."""
    team = Team(2)
    team.apply(snapshot(1, upstream("a", 1, 2, **FAILS)), "a")
    team.workers.set_health("a", "127.0.0.1", 2, 4.0, "refused")
    with logged() as events:
        result_of(team.workers.start())
        one, other = team.processes
        for _ in range(3):
            one.say(Verdict("a", "127.0.0.1", 1, 5.0, "Connection refused"))
            other.say(Verdict("a", "127.0.0.1", 1, 5.0, "timed out"))
            # It is tried in between.
            team.clock.advance(6)
        one.say(Verdict("a", "127.0.0.1", 2, 5.0, "Connection refused"))
        for process in team.processes:
            process.say(Verdict("a", "127.0.0.1", 1, 0.0, ""))
            process.say(Verdict("a", "127.0.0.1", 2, 0.0, ""))
        one.say(Verdict("a", "127.0.0.1", 1, 5.0, "Connection refused"))
        team.apply(snapshot(2, upstream("a", 2, **FAILS)), "a")
        team.apply(snapshot(3, upstream("a", 1, 2, **FAILS)), "a")
        one.say(Verdict("a", "127.0.0.1", 1, 0.0, ""))
    lines = [formatEvent(event) for event in events]
    assert [line for line in lines if line.startswith("upstream ")] == [
        "upstream a: server 127.0.0.1:1 is out of service: Connection refused",
        "upstream a: server 127.0.0.1:1 is back in service",
        "upstream a: server 127.0.0.1:2 is back in service",
        "upstream a: server 127.0.0.1:1 is out of service: Connection refused",
    ]


def test_replacement_knows_who_is_out_of_service() -> None:
    """For as long as that is so."""
    team = Team(1)
    process = team.start()
    process.say(Verdict("a", "127.0.0.1", 1, 5.0, "refused"))
    process.say(Verdict("a", "127.0.0.1", 2, 1.0, "refused"))
    team.clock.advance(2)
    process.die()
    team.clock.advance(0)
    assert team.processes[1].told[0].health == (Verdict("a", "127.0.0.1", 1, 3.0, "refused"),)


def test_worker_puts_no_server_out_for_longer_than_its_rules() -> None:
    """Nor one that the rules never put out, nor one that there is not."""
    team = Team(2)
    team.start(snapshot(1, upstream("a", 1, **FAILS), upstream("never", 2)))
    one, other = team.processes
    one.say(Verdict("a", "127.0.0.1", 1, 1e6, "x"))
    one.say(Verdict("never", "127.0.0.1", 2, 5.0, "x"))
    one.say(Verdict("a", "127.0.0.1", 77, 5.0, "x"))
    one.say(Verdict("nobody", "127.0.0.1", 1, 5.0, "x"))
    assert [health.down_for for health in other.of(Verdict)] == [10, 0]


def test_server_in_two_levels_is_out_by_the_stricter_one() -> None:
    """Whichever of them is the first."""
    mild = {"host": "127.0.0.1", "port": 1}
    strict = {**mild, "max_fails": 1, "fail_timeout": 30}
    for first, second in ((mild, strict), (strict, mild)):
        levels = {"cluster": [{"servers": [first]}, {"servers": [second]}]}
        team = Team(2)
        team.start(snapshot(1, parse_upstream("a", levels, "a")))
        one, other = team.processes
        one.say(Verdict("a", "127.0.0.1", 1, 20.0, "x"))
        assert [health.down_for for health in other.of(Verdict)] == [20]


def test_failing_balancers_are_shown_until_the_upstream_changes() -> None:
    """Of all workers together, and of no upstream that a worker invents."""
    team = Team(2)
    team.start()
    error = BalancerError("mine.Mine", "pick", "/mine.py", 7, "ValueError: x", 2, 1000.0)
    for process in team.processes:
        told = report(1)
        balancers = (BalancerReport("a", error), BalancerReport("nobody", error))
        process.say(structs.replace(told, version=1, balancers=balancers))
    shown = team.workers.statistics()["balancer_errors"]
    assert list(shown) == ["a"]
    assert (shown["a"]["count"], shown["a"]["line"], shown["a"]["class"]) == (4, 7, "mine.Mine")
    team.workers.apply(snapshot(2, upstream("a", 1)), ["a"])
    assert team.workers.statistics()["balancer_errors"] == {}


def test_stop_drains_and_waits() -> None:
    """Every worker is told for how long; it is over when all have gone."""
    team = Team(2)
    team.start()
    stopped = team.workers.stop()
    assert [process.of(Drain) for process in team.processes] == [[Drain(5)]] * 2
    team.processes[0].die("ended with exit code 0")
    assert not stopped.called
    team.processes[1].die("ended with exit code 0")
    assert result_of(stopped) is None
    assert [process.kills for process in team.processes] == [[], []]
    assert team.clock.getDelayedCalls() == []
    assert len(team.processes) == 2


def test_worker_that_does_not_end_is_killed() -> None:
    """A little after the time it had."""
    team = Team(1)
    process = team.start()
    stopped = team.workers.stop()
    team.clock.advance(5.9)
    assert process.kills == []
    team.clock.advance(0.2)
    assert process.kills == ["it did not end in time"]
    process.die()
    assert result_of(stopped) is None


def test_stop_does_not_wait_for_a_worker_that_begins() -> None:
    """Nor for one that is to be started later."""
    team = Team(2)
    team.start()
    team.prepare = lambda process: setattr(process, "is_slow", True)
    team.processes[0].die()
    team.clock.advance(0)
    team.processes[1].die()
    stopped = team.workers.stop()
    assert team.processes[2].kills == ["it is not needed any more"]
    team.processes[2].die()
    team.clock.advance(10)
    assert result_of(stopped) is None
    assert len(team.processes) == 3


def test_stop_before_start_is_done() -> None:
    """A start that failed stops what there is."""
    assert result_of(Team(2).workers.stop()) is None


def sockets_of(team: Team, number: int) -> list[tuple[int, bool]]:
    """The sockets of a slot by their number, and whether they are shared."""
    slot = team.workers._supervisor.slots[number]
    all_sockets = [sock for opened in team.workers.opened for sock in opened.sockets]
    return [(all_sockets.index(one.sock), one.shared) for one in slot.sockets]


@pytest.mark.real
@pytest.mark.parametrize(
    ("before", "after", "dealt"),
    [
        (2, 2, [[(0, False)], [(1, False)]]),
        (3, 1, [[(0, False), (1, False), (2, False)]]),
        (3, 2, [[(0, False), (2, False)], [(1, False)]]),
        (2, 3, [[(0, False)], [(1, False)], [(2, False)]]),
        (1, 2, [[(0, True)], [(0, True)]]),
    ],
)
def test_inherited_sockets_are_dealt(
    before: int, after: int, dealt: list[list[tuple[int, bool]]]
) -> None:
    """Each has a worker, and each worker has one; shared only where there is no other way."""
    old, new = Team(before), Team(after)
    result_of(old.workers.listen(TCP))
    (opened,) = old.workers.opened
    handed = [sock.dup() for sock in opened.sockets]
    result_of(new.workers.listen(TCP, handed))
    assert [sockets_of(new, number) for number in range(after)] == dealt
    for one in (*old.workers.opened, *new.workers.opened):
        one.close()


@pytest.mark.real
def test_few_inherited_sockets_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be added: by those only that have no other."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("slardar.dataplane.inherited.bound", refused)
    old, new = Team(2), Team(3)
    result_of(old.workers.listen(TCP))
    (opened,) = old.workers.opened
    handed = [sock.dup() for sock in opened.sockets]
    result_of(new.workers.listen(TCP, handed))
    dealt = [sockets_of(new, number) for number in range(3)]
    assert dealt == [[(0, True)], [(1, False)], [(0, True)]]
    for one in (*old.workers.opened, *new.workers.opened):
        one.close()


def test_workers_are_told_when_the_sockets_are_theirs() -> None:
    """All of them: which of them has one that was added is its own to know."""
    team = Team(2)
    team.start()
    team.workers.own()
    assert [process.of(messages.Listening) for process in team.processes] == [
        [messages.Listening()]
    ] * 2


def test_drain_can_be_shortened() -> None:
    """The workers are told again, and killed the earlier."""
    team = Team(1)
    process = team.start()
    stopped = team.workers.stop(30.0, 4.0)
    assert process.of(Drain) == [Drain(30.0, 4.0)]
    team.clock.advance(1.0)
    team.workers.hurry(2.0)
    assert process.of(Drain)[1:] == [Drain(2.0)]
    team.clock.advance(2.9)
    assert process.kills == []
    team.clock.advance(0.2)
    assert process.kills == ["it did not end in time"]
    process.die()
    assert result_of(stopped) is None
    assert team.clock.getDelayedCalls() == []


def test_health_is_known_before_the_start() -> None:
    """What was handed over reaches the workers with their beginning, cut to what their
    configuration allows; what is not known is left out."""
    team = Team(2)
    team.apply(snapshot(1, upstream("a", 1, 2, **FAILS)), "a")
    team.workers.set_health("a", "127.0.0.1", 1, 4.0, "refused")
    team.workers.set_health("a", "127.0.0.1", 2, 99.0, "refused")
    team.workers.set_health("a", "127.0.0.1", 3, 4.0, "refused")
    team.workers.set_health("b", "127.0.0.1", 1, 4.0, "refused")
    result_of(team.workers.start())
    (begin,) = team.processes[1].of(Begin)
    assert [(health.port, health.down_for) for health in begin.health] == [(1, 4.0), (2, 10.0)]
    team.clock.advance(5.0)
    assert list(team.workers.known_health()) == [("a", "127.0.0.1", 2, 5.0, "refused")]
