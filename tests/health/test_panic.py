"""Panic: with too few servers in service, health is ignored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.errors import ConfigError
from slardar.health.panic import panic_note, panics
from slardar.model.parse import parse_upstream
from tests.health.kit import MODES, Served, request, server, servers

steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=100)


@pytest.mark.parametrize(
    ("available", "wanted", "share", "expected"),
    [
        (0, 4, 0.0, False),
        (0, 0, 1.0, False),
        (3, 10, 0.3, False),
        (2, 10, 0.3, True),
        (0, 10, 0.3, True),
        (9, 10, 1.0, True),
        (10, 10, 1.0, False),
    ],
)
def test_threshold(available: int, wanted: int, share: float, expected: bool) -> None:
    """Only a smaller share than the threshold is too few."""
    assert panics(available, wanted, share) is expected


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "0.3", None])
def test_wrong_value_is_refused(value: Any) -> None:
    """The message names the key."""
    with pytest.raises(ConfigError, match=r"up\.panic: expected a number from 0 to 1"):
        parse_upstream("up", {"servers": servers(1), "panic": value}, "up")


@pytest.mark.parametrize("mode", MODES)
def test_few_are_not_left_alone(mode: str) -> None:
    """While less than the share is in service, all get requests; and then only those in
    service again."""
    up = Served(servers=servers(4, max_fails=1, fail_timeout=10), panic=0.5, mode=mode)
    up.fail(1)
    up.fail(2)
    assert up.picked() == {3, 4}
    up.check(3, "err")
    assert up.picked() == {1, 2, 3, 4}
    up.check(3, "ok")
    assert up.picked() == {3, 4}
    up.check(3, "err")
    up.clock.advance(10)
    assert up.picked() == {1, 2, 4}


def test_who_is_drained_stays_out() -> None:
    """Neither the state nor the weight is a matter of health; both are left out of the
    count, too."""
    up = Served(
        servers=[
            *servers(2, max_fails=1),
            server(3, state="drain"),
            server(4, state="down"),
            server(5, weight=0),
            server(6),
        ],
        panic=0.5,
    )
    up.fail(1)
    assert up.picked() == {2, 6}
    up.selection.set_weight("127.0.0.1", 6, 0)
    assert up.picked() == {2}, "one of two is in service"
    up.selection.set_weight("127.0.0.1", 6, None)
    up.check(2, "err")
    assert up.picked() == {1, 2, 6}


def test_levels_keep_their_order() -> None:
    """A level without a server in service is passed over; the one that serves has all its
    servers; and where no server is in service, the first level has."""
    cluster = [{"servers": servers(3)}, {"servers": [server(11), server(12)]}]
    up = Served(cluster=cluster, panic=0.5)
    up.check(1, "err")
    up.check(2, "err")
    assert up.picked() == {3}
    up.check(11, "err")
    assert up.picked() == {1, 2, 3}
    up.check(3, "err")
    assert up.picked() == {11, 12}
    up.check(12, "err")
    assert up.picked() == {1, 2, 3}
    up.check(11, "ok")
    up.check(12, "ok")
    assert up.picked() == {11, 12}
    up.check(1, "ok")
    assert up.picked() == {1}


def test_unprotected_panics_too() -> None:
    """The last resort is another thing."""
    keys: dict[str, Any] = {"servers": servers(2, max_fails=1), "protected": False}
    up = Served(**keys)
    up.fail(1)
    up.fail(2)
    assert up.pick() is None
    up = Served(**keys, panic=0.1)
    up.fail(1)
    up.fail(2)
    assert up.picked() == {1, 2}


def test_further_attempts() -> None:
    """A request tries those that are out after those that it has tried."""
    up = Served(servers=servers(3), panic=1.0)
    for port in (1, 2, 3):
        up.check(port, "err")
    tried: list[Any] = []
    while (peer := up.selection.pick(request(), tried)) is not None:
        tried.append(peer)
    assert sorted(peer.port for peer in tried) == [1, 2, 3]


def test_it_is_shown() -> None:
    """A preview says so, and the note counts; neither does without a panic."""
    up = Served(servers=servers(4), panic=0.5)
    upstream = up.selection.upstream
    assert not up.selection.preview(request()).is_panic
    assert panic_note(upstream, lambda name, server: True) == ""
    for port in (1, 2, 3):
        up.check(port, "err")
    preview = up.selection.preview(request())
    assert preview.is_panic
    assert not any(up.reasons().values())
    assert panic_note(upstream, lambda name, server: server.port == 4) == (
        "1 of 4 servers are in service, a smaller share than 0.5: health is ignored"
    )
    never = parse_upstream("up", {"servers": servers(4)}, "up")
    assert panic_note(never, lambda name, server: False) == ""


@steady
@given(
    st.lists(st.sampled_from(["up", "up", "drain", "down", "none"]), min_size=1, max_size=8),
    st.floats(0, 1),
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["ok", "err"])), max_size=12),
    st.sampled_from(MODES),
)
def test_who_gets_requests(
    states: list[str], share: float, checks: list[tuple[int, str]], mode: str
) -> None:
    """A drained server never; those out of service only in a panic; and all are asked then."""
    up = Served(
        servers=[
            server(port, weight=0) if state == "none" else server(port, state=state)
            for port, state in enumerate(states, 1)
        ],
        panic=share,
        mode=mode,
        protected=False,
    )
    out = set()
    for port, status in checks:
        if port <= len(states):
            up.check(port, status)
            (out.add if status == "err" else out.discard)(port)
            up.pick()
    wanted = {port for port, state in enumerate(states, 1) if state == "up"}
    expected = wanted if len(wanted - out) < len(wanted) * share else wanted - out
    assert up.picked(300) == (expected or {None})
