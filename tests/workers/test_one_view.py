"""What one process knows of servers' health, others that begin later know as well.

Each row of the table brings one piece of health about in a worker.  A worker that replaces it, a
new process with workers and a new process without know the same; an edit of another server
changes nothing; and when the server is removed, nothing is left of it anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pytest

from slardar.health.flaps import penalty_at
from slardar.health.outliers import ejection_length
from slardar.health.verdicts import Heartbeat, History
from slardar.http1.reply import parse_reply
from slardar.model.live import Peer, ServerLive
from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.upgrade.messages import State, decode_from_predecessor
from slardar.upgrade.messages import encode as encode_state
from slardar.workers import messages
from slardar.workers.messages import Begin, Verdicts
from tests.workers.kit import deliver, result_of, snapshot
from tests.workers.team import Team
from tests.workers.test_worker import Director

#: The server that the rows are about: a port that is no other number here.
PORT = 54321
KEYS: dict[str, Any] = {
    "enable": True,
    "hints": True,
    "slow_start": 30,
    "retry_budget": None,
    "outlier": {"min_requests": 2, "max_share": 0.5, "eject": 30, "latency": 0},
}


def upstream_of(*ports: int, weight: int = 10) -> Upstream:
    """Two levels, the second of which has the server as well; ``weight`` is that of the others."""

    def server(port: int) -> dict[str, Any]:
        share = 10 if port == PORT else weight
        return {
            "host": "127.0.0.1",
            "port": port,
            "weight": share,
            "max_fails": 1,
            "fail_timeout": 10,
        }

    levels = {
        "one": {"servers": [server(port) for port in ports]},
        "two": {"servers": [server(port) for port in (*ports[1:], 4)]},
    }
    return parse_upstream("a", {"cluster": levels, **KEYS}, "a")


def first() -> Snapshot:
    """The configuration at the beginning."""
    return snapshot(1, upstream_of(1, 2, PORT))


class World:
    """A director with one worker; they talk, and their clocks go alike."""

    def __init__(self) -> None:
        self.team = Team(1)
        self.team.start(first())
        self.worker = Director()
        self.worker.begin(first())
        self.clock = self.worker.plane._poller.clock
        self.clock.now = 1000.0
        self.later: list[Director] = []

    @property
    def peer(self) -> Peer:
        """The server in its first level."""
        return next(peer for peer in self.worker.peers("a") if peer.port == PORT)

    def talk(self) -> None:
        """The director hears what the worker has to say."""
        now = self.clock.now
        self.worker.said.clear()
        self.worker.reactor.advance(0.02)
        deliver(*self.worker.transports)
        # The poller reads the machine's clock now and then.
        self.clock.now = now
        for message in self.worker.said:
            self.team.living[0].say(message)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now += seconds
        self.team.clock.advance(seconds)
        # Servers are looked at when requests come.
        look_at(self.worker)
        self.talk()

    def fail(self) -> None:
        """A request to the server gets no reply."""
        selection = self.worker.selection("a")
        self.peer.live.active += 1
        selection.failed(self.peer, "refused")
        selection.finished(self.peer, True, 0.1, 0)
        self.talk()

    def succeed(self, status: int = 200) -> None:
        """A request to the server gets a reply."""
        self.peer.live.active += 1
        self.worker.selection("a").succeeded(self.peer, 0.1, status)
        self.talk()

    def eject(self) -> None:
        """The server is an outlier."""
        for _ in range(2):
            self.succeed(500)

    def hint(self, value: str) -> None:
        """A reply of the server has this hint."""
        head = f"HTTP/1.1 200 OK\r\nX-Slardar-Hint: {value}\r\nContent-Length: 0\r\n\r\n"
        self.worker.selection("a").hinted(self.peer, parse_reply(head.encode(), b"GET"))

    def check(self, verdict: Heartbeat) -> None:
        """Heartbeats say something of the server."""
        self.team.workers.set_checked([verdict])
        self.worker.tell(self.team.living[0].of(Verdicts)[-1])

    def apply(self, following: Snapshot) -> None:
        """The configuration is changed."""
        base = self.worker.worker._snapshot
        self.worker.tell(messages.delta(base, following, ["a"]))
        self.team.apply(following, "a")


@pytest.fixture
def world(_hidden_heap: None) -> Iterator[World]:
    """A director and a worker, and those that begin later; nothing of them remains."""
    made = World()
    yield made
    for director in (made.worker, *made.later):
        director.plane.stop(0)
        for _ in range(50):
            director.reactor.advance(0.05)


def down(world: World) -> None:
    world.fail()


def on_probation(world: World) -> None:
    world.fail()
    world.wait(11)


def back(world: World) -> None:
    world.fail()
    world.wait(11)
    world.succeed()
    world.wait(60)


def flapping(world: World) -> None:
    for seconds in (11, 11, 21):
        world.fail()
        world.wait(seconds)
        world.succeed()
    world.fail()
    world.wait(3)


def climbing(world: World) -> None:
    world.fail()
    world.wait(11)
    world.succeed()
    world.wait(6)


def ejected(world: World) -> None:
    world.eject()
    world.wait(5)


def ejected_again(world: World) -> None:
    world.eject()
    world.wait(31)
    world.eject()
    world.wait(5)


def was_ejected_twice(world: World) -> None:
    ejected_again(world)
    world.wait(60)


def full(world: World) -> None:
    world.hint("full")


def drains(world: World) -> None:
    world.hint("drain")


def weighs(world: World) -> None:
    world.hint("weight=2.5")


def checked(world: World) -> None:
    history = History(True, 1, 2.5, 1000.0, 1020.0)
    about: dict[str, str | int] = {"role": "master"}
    world.check(Heartbeat("a", "127.0.0.1", PORT, "err", 990.0, "no answer", 7, about, history))


ROWS: list[Callable[[World], None]] = [
    down,
    on_probation,
    back,
    flapping,
    climbing,
    ejected,
    ejected_again,
    was_ejected_twice,
    full,
    drains,
    weighs,
    checked,
]
row = pytest.mark.parametrize("bring_about", ROWS, ids=[one.__name__ for one in ROWS])


def known(director: Director) -> dict[str, Any]:
    """Everything that a worker knows of the server's health, times as seconds from now."""
    look_at(director)
    levels = director.selection("a")._levels
    plane = director.plane
    now = plane._poller.clock.now
    live: ServerLive = plane._live.server("a", "127.0.0.1", PORT)
    turn: ServerLive = plane._live.turn("a", "127.0.0.1", PORT, "two")
    seconds, times = ejection_length(live, 30, now)
    return {
        "in service": [PORT in {peer.port for peer in level.available} for level in levels],
        "out for": round(max(0.0, live.down_until - now), 1),
        "on probation": live.down_until > 0,
        "failures in a row": live.fail_num,
        # That a server works each worker finds out for itself.
        "status": ("", "") if live.status in ("unchecked", "ok") else (live.status, live.msg),
        "penalty": round(penalty_at(live.penalty, live.flapped_at, now), 2),
        "checked": (live.checked, live.checked_msg, live.checked_fails),
        "checked at": live.checked_at if live.checked != "unchecked" else 0,
        "about": dict(live.about),
        "history": live.history,
        "ejected for": round(max(0.0, live.ejected_until - now), 1),
        "next ejection": (seconds, times),
        "full for": round(max(0.0, live.full_until - now), 1),
        "hints": (live.drains, live.weight),
        "cold": (live.is_cold, turn.is_cold),
        # A cold server begins with the smallest share when it is back.
        "shares": [0 if one.is_cold else round(one.share, 2) for one in (live, turn)],
        "climbs for": [round(now - one.climbs_from, 1) for one in (live, turn) if one.climbs_from],
        "weights": [
            round(peer.weight / level.unit, 1)
            for level in levels
            for peer in level.peers
            if peer.port == PORT and not peer.turn.is_cold
        ],
    }


def look_at(director: Director) -> None:
    """Look at all servers, as requests do."""
    for level in director.selection("a")._levels:
        level.refresh(director.plane._poller.clock.now)


def worker_with(world: World, health: Verdicts) -> Director:
    """A worker that begins with this."""
    director = Director()
    world.later.append(director)
    director.begin(first(), health=health)
    look_at(director)
    return director


def handed_over(plane: Any) -> State:
    """What a process tells its successor, as it arrives there."""
    told = (plane.known_health(), plane.known_checked(), plane.known_extras())
    state = decode_from_predecessor(encode_state(State(None, *map(tuple, told))))
    assert isinstance(state, State)
    return state


def take_over(plane: Any, state: State) -> None:
    """What a successor does with it."""
    plane.set_health(state.health)
    plane.set_checked(state.checked)
    plane.set_extras(state.extras)


@row
def test_whoever_begins_later_knows_it(world: World, bring_about: Callable[[World], None]) -> None:
    """A replaced worker; and an upgraded process, with workers and without."""
    untouched = known(world.worker)
    bring_about(world)
    world.talk()
    expected = known(world.worker)
    assert expected != untouched, "the row brings something about"

    world.team.living[0].die()
    world.team.clock.advance(0)
    health = world.team.processes[-1].of(Begin)[0].health
    assert known(worker_with(world, health)) == expected

    upgraded = Team(1)
    upgraded.apply(first(), "a")
    take_over(upgraded.workers, handed_over(world.team.workers))
    result_of(upgraded.workers.start())
    assert known(worker_with(world, upgraded.processes[0].of(Begin)[0].health)) == expected

    alone = worker_with(world, Verdicts())
    take_over(alone.plane, handed_over(world.worker.plane))
    assert known(alone) == expected


@row
def test_an_edit_of_another_server_leaves_it(
    world: World, bring_about: Callable[[World], None]
) -> None:
    """In the worker, and in what the director would tell the next one."""
    bring_about(world)
    world.talk()
    expected = known(world.worker)
    told = handed_over(world.team.workers)
    world.apply(snapshot(2, upstream_of(1, 2, PORT, weight=20)))
    assert known(world.worker) == expected
    assert handed_over(world.team.workers) == told


@row
def test_a_removed_server_leaves_nothing(
    world: World, bring_about: Callable[[World], None]
) -> None:
    """No object of the director or of the worker has its port any more, and added again it is
    new."""
    bring_about(world)
    world.talk()
    assert found(world.team.workers, PORT)
    assert found(world.worker.worker, PORT)
    world.apply(snapshot(2, upstream_of(1, 2)))
    world.talk()
    world.worker.selection("a")
    assert found(world.team.workers, PORT) == []
    assert found(world.worker.worker, PORT) == []
    world.apply(snapshot(3, upstream_of(1, 2, PORT)))
    assert (handed_over(world.team.workers).health, handed_over(world.team.workers).extras) == (
        (),
        (),
    )


def found(root: Any, wanted: object) -> list[str]:
    """The ways from an object to all places in which a value is, without fakes of tests."""
    ways: list[str] = []
    seen: dict[int, Any] = {}
    left: list[tuple[str, Any]] = [("", root)]
    while left:
        way, one = left.pop()
        if type(one) is int and one == wanted:
            ways.append(way)
        if id(one) in seen or isinstance(
            one, (int, float, str, bytes, type, ModuleType, FunctionType)
        ):
            continue
        seen[id(one)] = one
        if type(one).__module__.startswith(("tests.", "twisted.logger")):
            continue
        if isinstance(one, Mapping):
            left += [(f"{way}[{key!r}]", value) for key, value in list(one.items())]
            left += [(f"{way} key", key) for key in list(one)]
        elif isinstance(one, (list, tuple, set, frozenset)):
            left += [(f"{way}[]", value) for value in one]
        elif isinstance(one, MethodType):
            left.append((way, one.__self__))
        left += [(f"{way}.{name}", value) for name, value in _attributes(one)]
    return ways


def _attributes(one: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(one, "__dict__", {}).items()
    for cls in type(one).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(one, name):
                yield name, getattr(one, name)
    for name in getattr(type(one), "__struct_fields__", ()):
        yield name, getattr(one, name)
