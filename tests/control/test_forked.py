"""Work in forked processes: nothing is lost, in whatever way a process ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from slardar.control.forked import in_parts

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with three cores; other tests' threads have nothing to do with this."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(threading, "active_count", lambda: 1)


def run(work: Any, count: int = 100, least: int = 10) -> list[Any]:
    """What ``work`` makes of each of so many numbers."""

    def works(numbers: Sequence[int]) -> list[Any]:
        return [work(number) for number in numbers]

    return in_parts(
        range(count), works, msgspec.msgpack.encode, msgspec.msgpack.decode, least
    )  # fmt: skip


def test_each_core_does_a_part() -> None:
    """The answers come in order."""
    made = run(lambda number: (number, os.getpid()))
    assert [number for number, _ in made] == list(range(100))
    pids = list(dict.fromkeys(pid for _, pid in made))
    assert pids[0] == os.getpid()
    assert len(pids) == 3
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[1], 0)


@pytest.mark.real(False)
def test_few_things_are_done_here() -> None:
    """And all of them in a program with threads."""
    assert set(run(lambda _: os.getpid(), 19)) == {os.getpid()}
    assert run(lambda _: os.getpid(), 0) == []


@pytest.mark.real(False)
def test_program_with_threads_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread holds would stay held."""
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert set(run(lambda _: os.getpid())) == {os.getpid()}


@pytest.mark.parametrize(
    "end", [lambda: os._exit(3), lambda: os.kill(os.getpid(), 9), lambda: 1 / 0]
)
def test_part_of_a_process_that_fails_is_done_here(end: Any, capfd: Any) -> None:
    """An end of any kind."""
    here = os.getpid()

    def work(number: int) -> int:
        if os.getpid() != here and number == 50:
            end()
        return number

    assert run(work) == list(range(100))
    # A child that failed says nothing on the terminal.
    assert capfd.readouterr().err == ""


def test_error_of_the_work_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without processes."""
    fork, children = os.fork, []

    def noted() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted)
    with pytest.raises(ZeroDivisionError):
        run(lambda number: 1 // (99 - number))
    with pytest.raises(ZeroDivisionError):
        run(lambda number: 1 // number)
    assert len(children) == 4
    for pid in children:
        # None is left behind.
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
