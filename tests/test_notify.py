"""The messages to the service manager, on a real datagram socket."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from slardar.notify import Notifier, watchdog_interval
from tests.dataplane.kit import logged

pytestmark = pytest.mark.real


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """The messages since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager at ``tmp_path/notify``."""
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        yield manager


class Told:
    """A notifier and its clock; ``text`` is the text that ``describe`` returns."""

    def __init__(self, **environment: str) -> None:
        self.clock = Clock()
        self.text = "1 upstreams"
        self.notifier = Notifier(self.clock, lambda: self.text, environment)
        self.notifier.starting()

    def advance(self, seconds: float) -> None:
        """Let time pass, a tenth of a second at a time."""
        self.clock.pump([0.1] * round(seconds * 10))


def test_life_of_a_service(manager: Manager, tmp_path: Path) -> None:
    """Ready with the process id, reloading with the time, ready again, stopping."""
    told = Told(NOTIFY_SOCKET=str(tmp_path / "notify"))
    assert manager.heard() == []
    told.notifier.serving()
    ready = f"READY=1\nMAINPID={os.getpid()}\nSTATUS=serving, 1 upstreams"
    assert manager.heard() == [ready]
    before = time.monotonic_ns() // 1000
    told.notifier.reloading()
    (message,) = manager.heard()
    first, second, third = message.split("\n")
    assert (first, third) == ("RELOADING=1", "STATUS=reading the configuration again")
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    told.advance(5)
    assert manager.heard() == []
    told.notifier.serving()
    assert manager.heard() == [ready]
    told.notifier.stopping()
    assert manager.heard() == ["STOPPING=1\nSTATUS=stopping: requests under way are finished"]
    told.notifier.serving()
    told.notifier.reloading()
    told.notifier.close()
    told.notifier.close()
    told.advance(10)
    assert manager.heard() == []
    assert told.clock.getDelayedCalls() == []


def test_status_follows_what_is_served(manager: Manager, tmp_path: Path) -> None:
    """It follows within seconds, in one line for any text, and only when the text has changed."""
    told = Told(NOTIFY_SOCKET=str(tmp_path / "notify"))
    told.notifier.serving()
    manager.heard()
    told.text = "2 upstreams\nREADY=1"
    told.advance(3)
    assert manager.heard() == ["STATUS=serving, 2 upstreams READY=1"]
    told.advance(30)
    assert manager.heard() == []
    told.notifier.close()


def test_watchdog_is_fed_at_half_its_interval(manager: Manager, tmp_path: Path) -> None:
    """It is fed from readiness on, also while the service drains, until the service has ended."""
    told = Told(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="3000000")
    told.advance(5)
    assert manager.heard() == []
    told.notifier.serving()
    assert manager.heard()[1:] == ["WATCHDOG=1"]
    told.advance(15.05)
    assert manager.heard() == ["WATCHDOG=1"] * 10
    told.notifier.stopping()
    told.advance(3)
    assert manager.heard().count("WATCHDOG=1") == 2
    told.notifier.close()
    told.advance(10)
    assert manager.heard() == []


@pytest.mark.real(False)
@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "1"}, None),
    ],
)
def test_interval_of_the_watchdog(environment: dict[str, str], interval: float | None) -> None:
    """It is in seconds; none if nobody asked, or if another process was asked."""
    assert watchdog_interval(environment) == interval


def test_abstract_name() -> None:
    """A name that begins with @ has no file."""
    name = f"slardar-{secrets.token_hex(8)}"
    manager = Manager(f"\0{name}")
    with manager.socket:
        told = Told(NOTIFY_SOCKET=f"@{name}")
        told.notifier.serving()
        told.notifier.close()
        assert manager.heard()[0].startswith("READY=1\n")


@pytest.mark.real(False)
def test_nothing_where_nobody_asked() -> None:
    """There is no socket, no timer and no complaint."""
    with logged() as events:
        told = Told(WATCHDOG_USEC="1000000")
        told.notifier.serving()
        told.notifier.reloading()
        told.notifier.failed("x")
        told.notifier.stopping()
    assert told.clock.getDelayedCalls() == []
    assert events == []


def test_manager_that_is_gone(tmp_path: Path) -> None:
    """This is logged once; when the manager is back it gets the state, which it must not miss."""
    path = str(tmp_path / "notify")
    with logged() as events:
        told = Told(NOTIFY_SOCKET=path, WATCHDOG_USEC="1000000")
        told.notifier.serving()
        told.advance(5)
    assert [event["log_format"] for event in events] == ["cannot tell the service manager: {why}"]
    manager = Manager(path)
    with manager.socket:
        told.advance(2)
        assert sum(message.startswith("READY=1\n") for message in manager.heard()) == 1
        told.notifier.close()


def test_manager_that_does_not_read(manager: Manager, tmp_path: Path) -> None:
    """Nothing waits for it: the socket is full, and messages about the state are sent when
    there is room."""
    told = Told(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="100000")
    told.notifier.serving()
    told.advance(100)
    told.notifier.stopping()
    assert manager.heard()[-1] == "WATCHDOG=1"
    told.advance(2)
    assert sum(message.startswith("STOPPING=1\n") for message in manager.heard()) == 1
    told.notifier.close()


@pytest.mark.real(False)
def test_name_that_is_none() -> None:
    """The log has one line about it, and no more."""
    with logged() as events:
        told = Told(NOTIFY_SOCKET="vsock:2:1234")
        told.notifier.serving()
    (event,) = events
    assert "expected a path or @name, got 'vsock:2:1234'" in event["why"]


def test_start_that_fails(manager: Manager, tmp_path: Path) -> None:
    """The status has the reason in one line."""
    told = Told(NOTIFY_SOCKET=str(tmp_path / "notify"))
    told.notifier.failed("port\ntaken")
    assert manager.heard() == ["STATUS=cannot start: port taken"]
    told.notifier.close()
