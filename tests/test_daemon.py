"""Calls that may hang, in threads that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from slardar.daemon import call_in_daemon

PATIENCE = 20.0


class Calls:
    """A reactor whose calls the test makes."""

    def __init__(self) -> None:
        self._calls: Queue[tuple[Callable[..., None], tuple[Any, ...]]] = Queue()
        self.has_ended = threading.Event()

    def callFromThread(self, call: Callable[..., None], *arguments: Any) -> None:
        self._calls.put((call, arguments))

    def make_one(self) -> None:
        call, arguments = self._calls.get(timeout=PATIENCE)
        call(*arguments)


class Ended(Calls):
    """A reactor that has ended."""

    def callFromThread(self, call: Callable[..., None], *arguments: Any) -> None:
        self.has_ended.set()
        raise OSError("no reactor")


def test_result_and_failure() -> None:
    """The call runs in a thread that does not keep the process from ending; whatever it
    raises is told."""

    def call(number: int) -> float:
        assert threading.current_thread().daemon
        return 1 / number

    calls = Calls()
    good = call_in_daemon(calls, call, 2)
    assert not good.called
    calls.make_one()
    assert good.result == 0.5
    bad = call_in_daemon(calls, call, 0)
    calls.make_one()
    bad.addErrback(lambda failure: failure.trap(ZeroDivisionError))
    assert bad.result is ZeroDivisionError


def test_nobody_waits() -> None:
    """A call that was cancelled goes on, and what it finds is dropped; so it is where the
    reactor has ended."""
    gate, calls = threading.Event(), Calls()
    done = call_in_daemon(calls, gate.wait, PATIENCE)
    done.cancel()
    done.addErrback(lambda failure: failure.trap(CancelledError))
    gate.set()
    calls.make_one()
    assert done.result is CancelledError
    ended = Ended()
    late = call_in_daemon(ended, int)
    assert ended.has_ended.wait(PATIENCE)
    assert not late.called


def test_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told at once."""

    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="thread"):
        call_in_daemon(Calls(), int)
