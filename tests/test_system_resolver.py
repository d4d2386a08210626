"""The system's resolver: a few names at a time, and nobody waits for a call that hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
)
from zope.interface import implementer
from zope.interface.verify import verifyObject

from slardar import system_resolver
from slardar.system_resolver import ReactorNames, SystemResolver

PATIENCE = 20.0


class System:
    """getaddrinfo of the test, and a reactor whose calls the test makes."""

    def __init__(self) -> None:
        self.resolver = SystemResolver(self)
        #: The names that are being asked for, each with what lets it have its answer.
        self.gates: dict[str, threading.Event] = {}
        self._changed = threading.Condition()
        self._calls: list[Callable[[], None]] = []

    def getaddrinfo(self, name: str, *_: Any) -> list[Any]:
        assert threading.current_thread().daemon
        gate = threading.Event()
        with self._changed:
            self.gates[name] = gate
            self._changed.notify_all()
        assert gate.wait(PATIENCE)
        if name == "none":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        if name == "long":
            raise UnicodeError(name)
        return [
            (socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("10.0.0.1", 0)),
            (socket.AF_UNIX, 1, 6, "", "odd"),
        ]

    def callFromThread(self, call: Callable[..., None], *arguments: Any) -> None:
        with self._changed:
            self._calls.append(partial(call, *arguments))
            self._changed.notify_all()

    def begun(self, *names: str) -> None:
        """Wait until these names, and no others, have been asked for."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.gates) >= len(names), PATIENCE)
            assert set(self.gates) == set(names)

    def answer(self, name: str) -> None:
        """Let a name have its answer, and take it."""
        self.gates[name].set()
        with self._changed:
            assert self._changed.wait_for(lambda: self._calls, PATIENCE)
            (call,) = self._calls
            self._calls.clear()
        call()


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """Two names are asked for at a time."""
    monkeypatch.setattr(system_resolver, "MOST", 2)
    made = System()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    for gate in made.gates.values():
        gate.set()


def result(asked: Deferred[Any]) -> Any:
    assert asked.called
    return asked.result


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("web", [(socket.AF_INET6, "::1"), (socket.AF_INET, "10.0.0.1")]),
        ("none", []),
        ("long", []),
    ],
)
def test_answer(system: System, name: str, addresses: list[Any]) -> None:
    """Addresses of IP alone; none for what is no name."""
    asked = system.resolver.ask(name)
    system.begun(name)
    assert not asked.called
    system.answer(name)
    assert result(asked) == addresses


def test_few_at_a_time(system: System) -> None:
    """The others wait for their turn; one that was cancelled is not asked for."""
    one, two, three, four = (system.resolver.ask(name) for name in ("a", "b", "c", "d"))
    system.begun("a", "b")
    three.cancel()
    three.addErrback(lambda failure: failure.trap(CancelledError))
    system.answer("b")
    system.begun("a", "b", "d")
    assert result(two)
    # One that nobody waits for any more keeps its thread until it ends.
    one.cancel()
    one.addErrback(lambda failure: failure.trap(CancelledError))
    five = system.resolver.ask("e")
    system.begun("a", "b", "d")
    system.answer("a")
    system.begun("a", "b", "d", "e")
    for name in "de":
        system.answer(name)
    assert result(four) == result(five) != []


def test_no_thread_left(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no answer; the next one is asked for."""

    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert result(system.resolver.ask("a")) == []
    asked = system.resolver.ask("b")
    system.begun("b")
    system.answer("b")
    assert result(asked)


@implementer(IReactorPluggableNameResolver)
class PluggableSystem(System):
    """A reactor that asks whom it is told to ask."""

    installed: Any = "the reactor's own"

    def installNameResolver(self, resolver: Any) -> Any:
        before, self.installed = self.installed, resolver
        return before


class Receiver:
    """What a reactor is told of one name."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def resolutionBegan(self, resolution: Any) -> None:
        self.told.append(resolution.name)

    def addressResolved(self, address: Any) -> None:
        self.told.append(address)

    def resolutionComplete(self) -> None:
        self.told.append("end")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[PluggableSystem]:
    made = PluggableSystem()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    for gate in made.gates.values():
        gate.set()


@pytest.mark.parametrize(
    ("name", "kinds", "addresses"),
    [
        ("web", None, [IPv6Address("TCP", "::1", 80), IPv4Address("TCP", "10.0.0.1", 80)]),
        ("web", [IPv4Address], [IPv4Address("TCP", "10.0.0.1", 80)]),
        ("none", None, []),
    ],
)
def test_names_of_a_reactor(
    names: PluggableSystem, name: str, kinds: Any, addresses: list[Any]
) -> None:
    """They are looked up here until that is taken back; it may be asked for again and again."""
    used = ReactorNames(names)
    used.install()
    used.install()
    verifyObject(IHostnameResolver, names.installed)
    receiver = Receiver()
    resolution = names.installed.resolveHostName(receiver, name, 80, kinds)
    verifyObject(IHostResolution, resolution)
    names.begun(name)
    names.answer(name)
    assert receiver.told == [name, *addresses, "end"]
    used.remove()
    used.remove()
    assert names.installed == "the reactor's own"


def test_name_that_nobody_wants_any_more(names: PluggableSystem) -> None:
    """Nothing is told of it."""
    ReactorNames(names).install()
    receiver = Receiver()
    names.installed.resolveHostName(receiver, "web").cancel()
    names.begun("web")
    names.answer("web")
    assert receiver.told == ["web"]


def test_reactor_that_asks_nobody(system: System) -> None:
    """It is left alone."""
    used = ReactorNames(system)
    used.install()
    used.remove()
