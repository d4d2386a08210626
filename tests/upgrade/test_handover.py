"""The steps of an upgrade between two ends of a link in memory; no process, no clock."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet import defer
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from slardar.dataplane.inherited import open_listener
from slardar.dataplane.sockets import Opened, open_sockets
from slardar.errors import ConfigError
from slardar.health.verdicts import Ejection, Heartbeat, Hint, Verdict
from slardar.model.change import StoredState
from slardar.model.listener import specs_of
from slardar.observers.counted import Counted
from slardar.upgrade import handover, messages
from slardar.upgrade.handover import Upgrades
from slardar.upgrade.predecessor import Predecessor, find_predecessor
from slardar.upgrade.program import Program
from slardar.upgrade.successor import VARIABLE, Successor, start_successor
from tests.dataplane.kit import logged
from tests.workers.kit import connect, deliver, result_of

pytestmark = pytest.mark.real

STATE = messages.State(
    StoredState(7, {"a": {"servers": []}, "b": None}, [], {"lua/script.a": {"canary": 10}}),
    (Verdict("a", "h", 1, 2.5, "refused"),),
    (Heartbeat("a", "h", 2, "err", 1000.0, "refused"),),
    (Ejection("a", "h", 3, 2.5, 1, "slow"), Hint("a", "h", 4, 0.5, True, 2.5)),
    kept=messages.KeptState("consul:http://a:8500/x", StoredState(3, {"b": None}), 1000.5),
)


class Host:
    """The service that is upgraded, as :class:`slardar.upgrade.handover.Host`."""

    def __init__(self, opened: list[tuple[str, Opened]]) -> None:
        self.did: list[Any] = []
        self._opened = opened
        #: :meth:`hand_over` waits for this, and raises its failure.
        self.slow: defer.Deferred[None] = defer.succeed(None)

    def handed(self) -> list[tuple[str, Opened]]:
        return self._opened

    async def hand_over(self) -> messages.State:
        self.did.append("hand over")
        await self.slow
        return STATE

    async def take_back(self) -> None:
        self.did.append("take back")

    def leave(self, taken: list[Opened]) -> None:
        self.did.append(("leave", [opened.endpoint for opened in taken]))

    def end(self, seconds: float) -> None:
        self.did.append(("end", seconds))

    def generations(self) -> list[dict[str, Any]]:
        return [{"pid": 5, "age": 1.5, "connections": 2}]

    def counted(self) -> Counted:
        return Counted(restarts=3)


class Two:
    """An old process and the new one that it starts."""

    def __init__(self, folder: Path, opened: list[tuple[str, Opened]]) -> None:
        self.clock = Clock()
        self.host = Host(opened)
        self.pid_file = folder / "x.pid"
        self.pid_file.write_text(str(os.getpid()))
        self.gave_up: list[str] = []
        self.signals: list[int] = []
        self.starts = 0
        self._open: list[Predecessor] = []
        options = {"pidfile": str(self.pid_file)}
        program = Program(("slardar",), str(folder))
        self.upgrades = Upgrades(self.clock, program, options, self.host, self._start)

    def _start(self, reactor: Any, program: Program, opened: Any, end: Any) -> Successor:
        self.starts += 1
        self.successor = Successor(reactor, end)
        self.successor.transport = self  # type: ignore[assignment]
        entries = tuple(
            messages.HandedSockets(
                purpose,
                one.endpoint,
                tuple(os.dup(sock.fileno()) for sock in one.sockets),
                "" if one.listener is None else one.listener.id,
            )
            for purpose, one in opened
        )
        self.predecessor = Predecessor(messages.Handed(os.getpid(), -1, -1, entries))
        self._open.append(self.predecessor)
        self.predecessor._gave_up = self.gave_up.append
        self.predecessor._reactor = reactor
        self.transports = connect(self.successor.link, self.predecessor._link)
        self.predecessor._tell(messages.Hello(77))
        return self.successor

    def signalProcess(self, number: int) -> None:
        self.signals.append(number)
        self.die(ProcessTerminated(signal=number))

    def close_rest(self) -> None:
        """Make every new process close the sockets that it has not taken."""
        while self._open:
            self._open.pop().close_rest()

    def deliver(self) -> None:
        deliver(*self.transports)

    def new(self, steps: Any) -> defer.Deferred[Any]:
        """Run steps of the new process as far as they come."""
        done = defer.ensureDeferred(steps)
        self.deliver()
        return done

    def die(self, reason: Exception) -> None:
        """End the new process."""
        self.transports[1].loseConnection()
        self.successor.processEnded(Failure(reason))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """The two processes, with sockets of two endpoints."""
    endpoint = "tcp:0:interface=127.0.0.1"
    opened = [
        ("listen", open_sockets(endpoint, 2)),
        ("listen", open_sockets("tcp:0:interface=127.0.0.2")),
        ("control", open_sockets(endpoint)),
    ]
    found = Two(tmp_path, opened)
    yield found
    found.clock.advance(1.0)
    found.upgrades.stop_reports()
    found.close_rest()
    for _, one in opened:
        one.close()
    assert found.clock.getDelayedCalls() == []


def lines(events: list[dict[str, Any]]) -> str:
    return "\n".join(event["log_format"].format(**event) for event in events)


def test_store_goes_over_and_the_old_one_leaves(two: Two) -> None:
    """In order: the new process asks for the store, gets it, and serves; then there is no way
    back."""
    two.upgrades.upgrade()
    assert not two.pid_file.exists()
    new = two.predecessor
    told: list[Counted] = []
    new.counted = told.append
    first = new.take("listen", "tcp:0:interface=127.0.0.1")
    control = new.take("control", "tcp:0:interface=127.0.0.1")
    assert (len(first), len(control)) == (2, 1)
    assert new.take("listen", "tcp:0:interface=127.0.0.1") == []
    two.close_rest()
    assert two.host.did == []
    assert result_of(two.new(new.give_store())) == STATE
    assert two.host.did == ["hand over"]
    serving = two.new(new.take_over())
    assert two.host.did[1:] == [("leave", ["tcp:0:interface=127.0.0.1"] * 2)]
    assert result_of(serving) is None
    assert two.upgrades.successor_pid == 77
    two.deliver()
    assert new.generations() == [{"pid": 5, "age": 1.5, "connections": 2}]
    assert told == [Counted(restarts=3)]
    new.end(3.0)
    two.deliver()
    assert two.host.did[-1] == ("end", 3.0)
    with logged() as events:
        two.upgrades.upgrade()
    assert "77 has taken over already" in lines(events)
    for sock in first + control:
        sock.close()
    two.transports[0].loseConnection()
    assert new.generations() == []
    assert result_of(new.gone) is None


def say_nothing(two: Two) -> str:
    two.clock.advance(handover.START)
    return "it has not come so far within 60 s"


def say_nothing_late(two: Two) -> str:
    two.new(two.predecessor.give_store())
    two.clock.advance(handover.SERVE)
    return "it has not come so far within 60 s"


def fail(two: Two) -> str:
    two.predecessor.failed("it cannot start: no luck")
    two.deliver()
    assert result_of(two.predecessor.told) is None
    return "it cannot start: no luck"


def die_by_signal(two: Two) -> str:
    two.die(ProcessTerminated(signal=9))
    return "it ended by signal 9"


def die_with_words(two: Two) -> str:
    two.successor.childDataReceived(2, b"Warning: old\nslardar: f.yaml: a: bad\nslardar: b\x1b\n")
    two.die(ProcessTerminated(exitCode=1))
    return "f.yaml: a: bad; b?"


def die_with_a_traceback(two: Two) -> str:
    two.successor.childDataReceived(2, b"Traceback ...\n  File ...\nImportError: no")
    two.successor.childDataReceived(2, b" such thing\n\n")
    two.die(ProcessTerminated(exitCode=1))
    return "ImportError: no such thing"


def close_the_link(two: Two) -> str:
    # With a daemon, the process that was started ended long ago.
    two.successor.processEnded(Failure(ProcessDone(0)))
    two.transports[1].loseConnection()
    return "it ended with exit code 0"


def talk_nonsense(two: Two) -> str:
    two.predecessor._link.send(b"{}").addErrback(lambda _: None)
    two.deliver()
    return "it sent what is no message"


@pytest.mark.parametrize(
    "spoil",
    [
        say_nothing,
        say_nothing_late,
        fail,
        die_by_signal,
        die_with_words,
        die_with_a_traceback,
        close_the_link,
        talk_nonsense,
    ],
)
def test_old_one_goes_on(two: Two, spoil: Callable[[Two], str]) -> None:
    """When the new process has ended, if need be by a kill, everything is as before: one line
    has the reason, and another upgrade may be tried."""
    with logged() as events:
        two.upgrades.upgrade()
        reason = spoil(two)
        two.deliver()
        if not two.successor.gone.called:
            assert two.host.did[-1:] != ["take back"]
            assert not two.pid_file.exists()
            assert len(two.gave_up) == 1
            two.clock.advance(5.0)
            assert two.signals == [9]
    text = lines(events)
    assert text.count("not upgraded") == 1
    assert f"not upgraded: {reason}" in text
    assert two.host.did[-1] == "take back"
    assert two.pid_file.read_text() == str(os.getpid())
    two.upgrades.upgrade()
    assert two.starts == 2
    two.die(ProcessTerminated(exitCode=1))


def test_one_that_fails_while_the_store_is_let_go(two: Two) -> None:
    """The store is taken back after it has been closed, not before."""
    two.host.slow = defer.Deferred()
    two.upgrades.upgrade()
    two.new(two.predecessor.give_store())
    two.die(ProcessTerminated(signal=9))
    assert two.host.did == ["hand over"]
    two.host.slow.callback(None)
    assert two.host.did == ["hand over", "take back"]
    assert two.pid_file.exists()


def test_second_signal_does_nothing(two: Two) -> None:
    """An upgrade is under way."""
    two.upgrades.upgrade()
    with logged() as events:
        two.upgrades.upgrade()
    assert "under way already" in lines(events)
    assert two.starts == 1
    two.die(ProcessTerminated(signal=9))


def test_new_one_that_serves_too_late_is_refused(two: Two) -> None:
    """It is told to end, because two processes must not serve."""
    two.upgrades.upgrade()
    two.new(two.predecessor.give_store())
    serving = defer.ensureDeferred(two.predecessor.take_over())
    two.clock.advance(handover.SERVE)
    two.deliver()
    assert len(two.gave_up) == 1
    assert not serving.called
    assert ("leave", []) not in two.host.did
    two.die(ProcessTerminated(signal=9))
    assert not serving.called
    assert two.host.did[-1] == "take back"


def test_cancelled_one_is_as_one_that_failed(two: Two) -> None:
    """The old process is told to stop meanwhile."""
    two.upgrades.upgrade()
    two.deliver()
    with logged() as events:
        done = defer.ensureDeferred(two.upgrades.cancel("the old process was told to stop"))
        two.deliver()
    assert "not upgraded: the old process was told to stop" in lines(events)
    assert "goes on" not in lines(events)
    assert two.gave_up == ["the old process was told to stop"]
    assert not done.called
    two.die(ProcessTerminated(exitCode=1))
    assert result_of(done) is None
    assert two.pid_file.exists()
    assert result_of(defer.ensureDeferred(two.upgrades.cancel("again"))) is None


@pytest.mark.parametrize("is_late", [False, True])
def test_new_one_goes_on_if_the_old_one_dies(two: Two, is_late: bool) -> None:
    """It goes on whether it has the store already or not, because somebody must serve."""
    two.upgrades.upgrade()
    new = two.predecessor
    if is_late:
        assert result_of(two.new(new.give_store())) == STATE
        step: Any = defer.ensureDeferred(new.take_over())
    else:
        step = defer.ensureDeferred(new.give_store())
    two.transports[1].written.clear()
    with logged() as events:
        two.transports[0].loseConnection()
    assert result_of(step) is None
    assert ("starting alone" in lines(events)) != is_late
    two.successor.processEnded(Failure(ProcessDone(0)))


def test_message_of_another_version_is_read(two: Two) -> None:
    """New keys in it are ignored, and missing keys get defaults."""
    data = b'{"type":"state","new":[1],"health":[]}'
    assert messages.decode_from_predecessor(data) == messages.State()


class StartingReactor:
    """Writes down how a process is started."""

    def __init__(self) -> None:
        self.handed: messages.Handed | None = None

    def spawnProcess(self, *_: Any, env: dict[str, str], **_more: Any) -> None:
        self.handed = messages.decode_handed(env[VARIABLE])

    def adoptStreamConnection(self, *_: Any) -> None:
        """The link is of no interest."""


def test_sockets_are_handed_over_with_their_listeners(tmp_path: Path) -> None:
    """So that two listeners with one endpoint do not change their places."""
    reactor = StartingReactor()
    listeners = specs_of(["tcp:0:interface=127.0.0.1"] * 2)
    opened = [("listen", open_listener(one, ())) for one in listeners]
    opened.append(("control", open_sockets("tcp:0:interface=127.0.0.1")))
    start_successor(reactor, Program(("x",), str(tmp_path)), opened, lambda _: None)
    assert reactor.handed is not None
    handed = [(one.purpose, one.listener) for one in reactor.handed.sockets]
    assert handed == [("listen", one.id) for one in listeners] + [("control", "")]
    for _, one in opened:
        one.close()


@pytest.mark.real(False)
def test_new_process_takes_the_sockets_of_each_listener() -> None:
    """Of any other one of the same endpoint where there is none of its own: a process of a
    version that knew no listeners names none."""
    pairs = [socket.socketpair() for _ in range(2)]
    entries = tuple(
        messages.HandedSockets("listen", "tcp:0", (one.detach(),), name)
        for (one, _), name in zip(pairs, ["tcp:0", "tcp:0#2"], strict=True)
    )
    new = Predecessor(messages.Handed(1, -1, -1, entries))
    (second,) = new.take("listen", "tcp:0", "tcp:0#2")
    (first,) = new.take("listen", "tcp:0", "tcp:0#3")
    assert new.take("listen", "tcp:0", "tcp:0") == []
    for sock, (_, far) in zip((first, second), pairs, strict=True):
        sock.send(b"x")
        far.setblocking(False)
        assert far.recv(1) == b"x"
        sock.close()
        far.close()
    old = b'{"purpose":"listen","endpoint":"tcp:0","descriptors":[5]}'
    assert msgspec.json.decode(old, type=messages.HandedSockets).listener == ""


@pytest.mark.real(False)
def test_variable_of_a_stranger_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is one line, and no process that is started later gets the variable."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_predecessor() is None
    closed = socket.socket()
    number = closed.fileno()
    closed.close()
    handed = messages.Handed(1, number, number, ())
    for text in ("3", "{}", messages.encode(handed).decode()):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(ConfigError, match="SLARDAR_UPGRADE: set by an upgrade only"):
            find_predecessor()
        assert VARIABLE not in os.environ
