"""What servers say of themselves in ``X-Slardar-Hint``."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.health.hints import FULL, note_hint, set_hints
from slardar.http1.reply import Reply, parse_reply
from slardar.model.live import ServerLive
from tests.health.kit import MODES, Served, request, server, servers

steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=200)


def hint(up: Served, port: int, *values: str) -> Reply:
    """The server gives a reply with these values of the header."""
    lines = "".join(f"X-Slardar-Hint: {value}\r\n" for value in values)
    head = f"HTTP/1.1 200 OK\r\nX-A: 1\r\n{lines}Content-Length: 0\r\n\r\n"
    reply = parse_reply(head.encode(), b"GET")
    up.selection.hinted(up.peer(port), reply)
    return reply


@pytest.mark.parametrize(
    ("value", "full", "drains", "weight"),
    [
        ("full", True, False, None),
        ("drain", False, True, None),
        (" DRAIN ", False, True, None),
        ("weight=5", False, False, 5.0),
        ("weight=0.5,full", True, False, 0.5),
        ("drain, up, weight=0", False, False, 0.0),
        ("drain, full, weight=3, up", False, False, None),
        ("weight=-1", False, False, None),
        ("weight=1e9", False, False, None),
        ("weight=99999999999", False, False, None),
        ("weight=٣", False, False, None),
        ("weight=nan, shutdown", False, False, None),
        ("", False, False, None),
    ],
)
def test_words(value: str, full: bool, drains: bool, weight: float | None) -> None:
    """Words that are none mean nothing."""
    live = ServerLive()
    changed = note_hint(live, value, 1000.0)
    assert (live.full_until == 1000.0 + FULL, live.drains, live.weight) == (full, drains, weight)
    assert changed is (full or drains or weight is not None)


def test_weight_of_somebody_else_stays() -> None:
    """``up`` takes back what the server has said, and nothing else."""
    live = ServerLive()
    live.weight = 4.0
    note_hint(live, "drain, up", 1000.0)
    assert live.weight == 4.0
    note_hint(live, "weight=2, up", 1000.0)
    assert live.weight is None


@steady
@given(st.lists(st.sampled_from(["full", "drain", "up", "weight=3", "weight=0", "?"]), max_size=9))
def test_another_process_knows_the_whole(words: list[str]) -> None:
    """What is told replaces whatever it knew."""
    one, other = ServerLive(), ServerLive()
    note_hint(other, "drain, full, weight=7", 990.0)
    for word in words:
        note_hint(one, word, 1000.0)
    weight = one.weight if one.has_hinted_weight else None
    set_hints(other, one.full_until - 1000.0, one.drains, weight, 1000.0)
    known = [(live.full_until, live.drains, live.weight) for live in (one, other)]
    assert known[0] == known[1]


@pytest.mark.parametrize("mode", MODES)
def test_server_that_drains(mode: str) -> None:
    """It gets no request until it says ``up``."""
    up = Served(servers=servers(3), hints=True, mode=mode)
    assert up.picked() == {1, 2, 3}
    hint(up, 2, "drain")
    assert up.picked() == {1, 3}
    up.clock.advance(1e6)
    assert up.picked() == {1, 3}
    hint(up, 2, "up")
    assert up.picked() == {1, 2, 3}


def test_server_that_is_full() -> None:
    """It gets no request for a second, and comes back with its whole weight."""
    up = Served(servers=servers(2), hints=True, slow_start=10)
    up.pick()
    hint(up, 2, "full")
    assert up.picked() == {1}
    up.clock.advance(0.5)
    hint(up, 2, "full")
    up.clock.advance(0.9)
    assert up.picked() == {1}
    up.clock.advance(0.1)
    assert up.shares(100) == {1: 50, 2: 50}


def test_weight() -> None:
    """It holds in the balancer, also through an edit, until the next one or ``up``."""
    up = Served(servers=servers(2), hints=True)
    hint(up, 2, "weight=3")
    assert up.shares(100) == {1: 25, 2: 75}
    up.edit(servers=servers(2), hints=True, keepalive=5)
    assert up.shares(100) == {1: 25, 2: 75}
    hint(up, 2, "weight=0.5")
    assert up.shares(90) == {1: 60, 2: 30}
    hint(up, 2, "weight=0")
    assert up.picked() == {1}
    hint(up, 2, "up")
    assert up.shares(100) == {1: 50, 2: 50}


def test_everybody_is_full() -> None:
    """The client gets a 503 and no failure of a server; a drain of all is a 502."""
    up = Served(servers=servers(2), hints=True)
    hint(up, 1, "full")
    hint(up, 2, "full")
    assert up.pick() is None
    assert up.selection.refusal(request(), False) == (
        503,
        "the servers of upstream up say that they are full",
    )
    assert up.selection.preview(request()).refusal == up.selection.refusal(request(), False)
    up.clock.advance(1)
    hint(up, 1, "drain")
    hint(up, 2, "drain")
    assert up.pick() is None
    assert up.selection.refusal(request(), False)[0] == 502


def test_panic_asks_nobody_who_drains() -> None:
    """It is no matter of health."""
    up = Served(servers=servers(3), hints=True, panic=1)
    up.check(1, "err")
    assert up.picked() == {1, 2, 3}
    hint(up, 2, "drain")
    assert up.picked() == {1, 3}


def test_header_is_taken_out() -> None:
    """Every line of it, and no other."""
    up = Served(servers=servers(2), hints=True)
    assert hint(up, 2, "drain", "full").lines == [b"HTTP/1.1 200 OK", b"X-A: 1"]
    assert up.peer(2).live.drains
    assert hint(up, 2).lines == [b"HTTP/1.1 200 OK", b"X-A: 1"]


def test_without_the_key_nobody_is_believed() -> None:
    """Replies are not even looked at; and what was believed ends with the key."""
    up = Served(servers=servers(2), hints=True)
    assert up.selection.believes_hints
    hint(up, 1, "weight=5")
    hint(up, 2, "drain")
    up.edit(servers=servers(2))
    assert not up.selection.believes_hints
    assert up.shares(100) == {1: 50, 2: 50}
    up.edit(servers=servers(2), hints=True)
    assert up.shares(100) == {1: 50, 2: 50}


def test_only_news_is_told() -> None:
    """A server that says the same in each reply is told of once."""
    up = Served(servers=servers(2), hints=True)
    for _ in range(5):
        hint(up, 1, "weight=5")
        hint(up, 2, "full")
    assert up.hinted == [1, 2]
    up.clock.advance(1)
    hint(up, 2, "full")
    assert up.hinted == [1, 2, 2]


def test_it_is_shown() -> None:
    """In the preview, with what the server has said."""
    up = Served(servers=[*servers(2), server(3)], hints=True)
    hint(up, 1, "drain, weight=5")
    hint(up, 2, "full")
    assert up.reasons() == {
        "127.0.0.1:1": "it has said that it wants no requests",
        "127.0.0.1:2": "it has said that it is full",
        "127.0.0.1:3": "",
    }
    assert up.note(1) == "hints: the server has said: drain, weight=5"
    assert up.note(2) == "hints: the server has said: full"
    assert up.note(3) == ""
