"""How workers are started, watched, replaced and ended; the processes are pretended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slardar.events import Worker
from slardar.model.listener import spec_of
from slardar.workers import messages
from slardar.workers.messages import Done, Drain, Grown, WorkerSocket
from slardar.workers.process import SPARE
from slardar.workers.supervisor import WorkerError
from tests.dataplane.kit import logged
from tests.workers.kit import failure_of, result_of, snapshot, upstream
from tests.workers.team import TCP, FakeProcess, Team


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """What was logged; deaths are."""
    with logged() as events:
        yield events


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


# Events.


def test_lives_of_workers_are_told() -> None:
    """That one serves, has ended by itself, cannot be made, or is replaced; not that it is told to
    end."""
    team = Team(1)
    team.start()
    team.processes[0].die("ended by signal 9")
    team.prepare = failing
    team.clock.advance(0)
    team.prepare = None
    team.clock.advance(10)
    team.processes[-1].say(Grown())
    team.clock.advance(0)
    assert team.events == [
        Worker("worker-0", "started", 1000),
        Worker("worker-0", "ended", 1000, "ended by signal 9"),
        Worker("worker-0", "ended", None, "could not be started: no more processes"),
        Worker("worker-0", "started", 1000),
        Worker("worker-0", "replaced", 1000, "its hooks have taken far more memory"),
        Worker("worker-0", "started", 1000),
    ]
    team.workers.stop()
    team.processes[-1].die()
    assert len(team.events) == 6


def failing(process: FakeProcess) -> None:
    raise BlockingIOError("no more processes")
