"""The rotation of keys for tickets, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from slardar.config import parse_settings
from slardar.control.tickets import PERIOD, TicketRotation
from slardar.dataplane import openssl_trial
from slardar.model.tls import TicketKeys
from slardar.service import SlardarService
from tests.certificates import Authority


def rotation(clock: Clock) -> tuple[TicketRotation, list[TicketKeys]]:
    """One, and the keys that it has given."""
    given: list[TicketKeys] = []

    def take(keys: TicketKeys) -> Deferred[None]:
        given.append(keys)
        return succeed(None)

    return TicketRotation(clock, take), given


def test_new_keys_come_every_twelve_hours() -> None:
    """The ones before open tickets for as long again, which is longer than a ticket lives."""
    clock = Clock()
    made, given = rotation(clock)
    made.start()
    for _ in range(3):
        clock.advance(PERIOD - 1)
        clock.advance(1)
    assert len(given) == 4
    for before, after in pairwise(given):
        assert after.former == before.current
    every = {key for keys in given for key in (keys.current, keys.former)}
    assert len(every) == 5
    assert {len(key) for key in every} == {32}
    made.stop()
    assert not clock.getDelayedCalls()


def test_successor_goes_on_with_the_keys() -> None:
    """And changes them when they are old enough, no matter in which process they became old."""
    clock = Clock()
    old, _ = rotation(clock)
    old.start()
    clock.advance(PERIOD - 100)
    new, given = rotation(clock)
    new.learn(old.keys, old.age)
    new.start()
    assert given == [old.keys]
    clock.advance(99)
    assert len(given) == 1
    clock.advance(1)
    assert given[1].former == given[0].current
    late, given = rotation(clock)
    late.learn(new.keys, 2 * PERIOD)
    late.start()
    clock.advance(0)
    assert len(given) == 2


def test_keys_are_not_shown() -> None:
    """In no log."""
    made, _ = rotation(Clock())
    assert repr(made.keys) == "<TicketKeys>"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("listen", "trouble", "shown", "lines"),
    [
        ("tls:1", "", {"sessions": "shared", "staples": "sent"}, []),
        (
            "tls:1",
            "this Python is not CPython",
            {
                "sessions": "not shared",
                "staples": "not sent",
                "reason": "this Python is not CPython",
            },
            [
                "sessions of TLS resume on the worker that has made them only, and staples are not "
                "sent: this Python is not CPython"
            ],
        ),
        # Nobody asks, so nobody tries.
        ("tcp:1", "unused", None, []),
    ],
)
async def test_what_openssl_does_not_do_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listen: str,
    trouble: str,
    shown: Any,
    lines: list[str],
) -> None:
    """In one line of the log, and in the status."""
    from twisted.internet import reactor  # noqa: TID251

    monkeypatch.setattr(openssl_trial, "trouble", lambda: trouble)
    Authority(tmp_path).issue("a", ("a.example",))
    pair = {"cert": f"{tmp_path}/a.pem", "key": f"{tmp_path}/a.key"}
    settings = parse_settings(
        {
            "listen": [listen],
            "store": "memory:",
            "workers": 0,
            "tls": {"certificates": [pair]},
        }
    )
    service = SlardarService(reactor, settings)
    try:
        with capturedLogs() as logged:
            service._make_tickets()
        assert [formatEvent(event) for event in logged] == lines
        assert service.actions.status().get("tls") == shown
        assert (service._tickets is not None) == (
            shown == {"sessions": "shared", "staples": "sent"}
        )
    finally:
        await defer.maybeDeferred(service.stopService)
