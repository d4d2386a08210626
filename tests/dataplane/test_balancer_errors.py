"""Errors of balancers: one line a minute, and the entry in the status."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import formatEvent

from slardar.balancers.base import Balancer
from slardar.dataplane.balancer_errors import BalancerErrors
from slardar.dataplane.selection import Defaults, Selection
from slardar.http1.request import parse_request
from slardar.model.live import Live, Peer
from slardar.model.parse import parse_upstream
from slardar.testing.channels import FakeClock
from slardar.workers.messages import BalancerReport, Report, decode_from_worker, encode
from slardar.workers.tally import Tally
from tests.dataplane.kit import logged

SERVERS = {"servers": [{"host": "127.0.0.1", "port": 1}, {"host": "127.0.0.1", "port": 2}]}


class Broken(Balancer):
    """Fails in every method."""

    error: BaseException = KeyError("no\nsuch key")

    def pick(self, servers: Sequence[Peer], request: Any) -> Peer:
        if self.error.args[:1] == ("none of them",):
            return "a text"  # type: ignore[return-value]
        raise self.error

    def started(self, server: Peer) -> None:
        raise ValueError("started")


class Unspeakable(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def selection(errors: BalancerErrors, **body: Any) -> Selection:
    upstream = parse_upstream("up", {**SERVERS, **body}, "up")
    return Selection(upstream, Live(), Broken, Defaults(1, 1, 1), FakeClock(), None, errors.note)


def asked(made: Selection) -> int | None:
    peer = made.pick(parse_request(b"GET / HTTP/1.1\r\nHost: up\r\n\r\n"), [])
    return None if peer is None else peer.port


def test_one_line_a_minute_with_class_file_and_line() -> None:
    """This holds for any number of requests; the next line says how many errors had no line."""
    clock = Clock()
    errors = BalancerErrors(clock)
    made = selection(errors)
    with logged() as lines:
        for _ in range(5):
            assert asked(made) == 1
        clock.now += 61
        assert asked(made) == 1
    texts = [formatEvent(event) for event in lines if "upstream" in event]
    assert len(texts) == 2
    place = f"{__file__}:"
    assert f"test_balancer_errors.Broken.pick failed at {place}" in texts[0]
    assert "KeyError" in texts[0]
    assert "(9 more since the last time)" in texts[1]
    about = errors.last["up"]
    assert (about.method, about.count) == ("started", 12)
    assert Path(about.file).name == "test_balancer_errors.py"
    assert Path(__file__).read_text().splitlines()[about.line - 1].strip().startswith("raise")
    assert about.shown()["class"].endswith("test_balancer_errors.Broken")
    errors.forget(["up", "other"])
    assert errors.last == {}


@pytest.mark.parametrize(
    "error",
    [ValueError("none of them"), Unspeakable(), ValueError("x" * 9999), ValueError("\udcff\0")],
)
def test_whatever_it_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is served, and the entry can be sent to the director."""
    monkeypatch.setattr(Broken, "error", error if error.args else ValueError("quiet"))
    errors = BalancerErrors(Clock())
    with logged():
        assert asked(selection(errors)) == 1
        errors.note("up", Broken([], {}), "pick", error)
    about = errors.last["up"]
    # The file of the class, even if the error was raised elsewhere.
    assert about.file == __file__
    report = report_of(1, up=about)
    assert decode_from_worker(encode(report)) == report


def report_of(version: int, **errors: Any) -> Report:
    balancers = tuple(BalancerReport(name, about) for name, about in errors.items())
    return Report(version, 0, 0, 0, 0, 0, 0, balancers=balancers)


def test_workers_are_taken_together() -> None:
    """Counts add up, also of workers that ended; the last error is shown, except a worker's
    error of a balancer that was replaced meanwhile."""
    errors = BalancerErrors(Clock())
    balancer = Broken([], {})
    with logged():
        errors.note("up", balancer, "pick", ValueError("first"))
        first = errors.last["up"]
        errors.note("up", balancer, "failed", ValueError("second"))
    second = errors.last["up"]
    tally = Tally(0.0)

    def take(worker: int, version: int, **about: Any) -> None:
        tally.take_balancers(worker, version, report_of(version, **about).balancers)

    take(0, 5, up=first)
    take(1, 5, up=second)
    shown = tally.balancer_errors()["up"]
    assert (shown.count, shown.method) == (3, "failed")
    tally.worker_ended(0)
    tally.worker_ended(1)
    take(0, 5, up=first)
    assert tally.balancer_errors()["up"].count == 4
    tally.upstream_changed("up", 6, True)
    take(0, 5, up=first)
    assert tally.balancer_errors() == {}
    take(0, 6, up=first)
    assert tally.balancer_errors()["up"].count == 1
    tally.upstream_changed("up", 7, False)
    assert tally.balancer_errors() == {}


@pytest.mark.parametrize("error", [SystemExit(3), CancelledError(), GeneratorExit()])
def test_balancer_that_wants_to_end_the_process(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error counts as any other error."""
    errors = BalancerErrors(Clock())
    monkeypatch.setattr(Broken, "error", error)
    monkeypatch.setattr(Broken, "started", lambda self, server: (_ for _ in ()).throw(error))
    with logged():
        made = selection(errors)
        assert made.pick(parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), []) is not None
    assert type(error).__name__ in errors.last["up"].error
