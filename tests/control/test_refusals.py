"""The audit lines of refused calls."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from slardar.control.actions import Actions
from slardar.control.refusals import Refusals
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions, upstream


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The log lines about refused calls."""
    found: list[str] = []

    def observe(event: Any) -> None:
        text = formatEvent(event)
        if text.startswith("refused with"):
            found.append(text)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def actions() -> Actions:
    return make_actions(FakeStore(), FakePlane(), upstreams={"a": upstream(8001)})


def test_every_refusal_has_a_line(actions: Actions, lines: list[str]) -> None:
    """It says who wanted what from where, and why it was refused."""
    digest = hashlib.sha256(b"guest").hexdigest()
    web = WebClient(actions, tokens=[{"name": "guest", "sha256": digest}])
    web.call("GET", "/status?x=1", Authorization="Bearer wrong")
    web.call("PUT", "/upstream/a", b"{}", Authorization="Bearer guest")
    web.call("GET", "/upstream/b", Authorization="Bearer guest")
    assert len(lines) == 2, "a question without an answer is no refusal"
    assert lines[0].startswith("refused with 401: GET /status by nobody from 127.0.0.1: expected")
    assert lines[1].startswith("refused with 403: PUT /upstream/a by guest from 127.0.0.1: ")
    web = WebClient(actions, UNIXAddress("slardar.sock"))
    web.call("PUT", "/upstream/a", {"servers": 5})
    assert lines[2].startswith("refused with 400: PUT /upstream/a by http from unix: ")
    assert "upstreams.a.servers" in lines[2]


def test_no_line_can_be_forged(lines: list[str]) -> None:
    Refusals(Clock().seconds).note(401, "why\nnot", b"GET /\r\n\x1b[2J\xff" * 100, "", "10.0.0.1")
    assert lines[0].isprintable()
    assert len(lines[0]) < 300


def test_number_of_lines_is_bounded(lines: list[str]) -> None:
    """A flood has one line a second, which says how many it stands for."""
    clock = Clock()
    refusals = Refusals(clock.seconds)
    for _ in range(1000):
        refusals.note(401, "why", b"GET /", "", "10.0.0.1")
    assert len(lines) == 20
    clock.advance(1)
    for _ in range(10):
        refusals.note(401, "why", b"GET /", "", "10.0.0.1")
    assert len(lines) == 21
    assert lines[-1].endswith("(and 980 refused calls before it)")
