"""A second attempt beside the first: when it begins, which one wins, what becomes of the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slardar.http1.record import HEDGED
from slardar.testing.playbook import Playbook
from tests.http1.lines import GET, OK, get, post, reply, statuses

NewPlay = Callable[..., Playbook]

FIRST, SECOND = b"first", b"second"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"


@pytest.fixture
def play(new_play: NewPlay) -> Playbook:
    """Three servers; after 50 ms without a reply a second one is asked."""
    made = new_play(3)
    made.selection.hedge_after = 0.05
    return made


def failures(play: Playbook) -> list[str]:
    """Of the last request's attempts."""
    return [note.failure for note in play.records[-1].attempts]


def test_second_server_is_asked_after_a_while(play: Playbook) -> None:
    """It gets the same request; the first reply wins, and the slower connection closes."""
    play.client_sends(GET)
    play.pass_time(0.04)
    assert len(play.origins) == 1
    play.pass_time(0.02)
    assert len(play.origins) == 2
    assert play.origin_gets(0) == play.origin_gets(1).replace(b"10.0.0.2", b"10.0.0.1")
    play.origin_sends(reply(SECOND), 1)
    assert play.client_gets().endswith(SECOND)
    assert play.origins[0].closed
    assert not play.origins[1].closed
    assert failures(play) == [HEDGED, ""]
    assert play.records[0].server == "10.0.0.2:80"
    assert sorted(play.selection.outcomes) == [
        ("10.0.0.1:80", False, 0),
        ("10.0.0.2:80", False, 200),
    ]
    assert play.selection.failures == []
    assert play.selection.about.counts() == {"retries": 1, "hedged": 1}


def test_first_server_may_win(play: Playbook) -> None:
    """Then the second one's connection closes, and the first one's is kept."""
    play.client_sends(GET)
    play.pass_time(0.06)
    play.origin_sends(reply(FIRST), 0)
    assert play.client_gets().endswith(FIRST)
    assert play.origins[1].closed
    assert failures(play) == ["", HEDGED]
    assert play.records[0].server == "10.0.0.1:80"
    # The next request gets the connection that was kept, and nobody's old reply.
    play.client_sends(get("/next"))
    assert b"/next" in play.origin_gets(0)
    play.origin_sends(OK, 0)
    assert play.client_gets() == OK


def test_reply_in_time_needs_no_second(play: Playbook) -> None:
    """Nor does one that has begun, however slow its body."""
    for data in (OK, OK[:-1]):
        play.client_sends(GET)
        play.origin_sends(data)
        play.pass_time(1)
        assert len(play.origins) == 1
    play.origin_sends(OK[-1:])


def test_half_of_a_head_is_a_reply(play: Playbook) -> None:
    """It comes sooner than another server's."""
    play.client_sends(GET)
    play.origin_sends(OK[:10])
    play.pass_time(1)
    assert len(play.origins) == 1
    play.origin_sends(OK[10:])
    assert play.client_gets() == OK


@pytest.mark.parametrize(
    "data",
    [
        post(b"x", method="PUT"),
        post(b"", method="POST"),
        GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ],
)
def test_what_is_not_hedged(play: Playbook, data: bytes) -> None:
    """A request with a body, one that must not be sent twice, and one for a tunnel."""
    play.client_sends(data)
    play.pass_time(1)
    assert len(play.origins) == 1
    play.origin_sends(OK)
    assert play.client_gets() == OK


@pytest.mark.parametrize("want", ["servers", "tries", "budget", "time"])
def test_when_no_second_is_asked(play: Playbook, want: str) -> None:
    """No other server, ``try: 1``, an empty budget, and no time left for an attempt."""
    if want == "servers":
        play.selection.out.update(play.selection.peers[1:])
    elif want == "tries":
        play.selection.tries = 1
    elif want == "budget":
        play.selection.share = play.selection.least = 0.0
    else:
        play.selection.try_timeout = 0.04
    play.client_sends(GET)
    play.pass_time(1)
    assert len(play.origins) == 1
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert play.records[0].budget_exhausted is (want == "budget")


@pytest.mark.parametrize("failing", [0, 1])
def test_one_fails_and_the_other_goes_on(play: Playbook, failing: int) -> None:
    """Only when both have failed a third server is asked, which has no second beside it."""
    play.client_sends(GET)
    play.pass_time(0.06)
    play.origin_breaks(failing)
    assert len(play.origins) == 2
    play.pass_time(1)
    assert play.client_gets() == b""
    play.origin_ends(1 - failing)
    assert len(play.origins) == 3
    play.pass_time(1)
    play.origin_sends(OK, 2)
    assert play.client_gets() == OK
    assert failures(play) == ["error", "error", ""]
    assert len(play.selection.failures) == 2


@pytest.mark.parametrize("failing", [0, 1])
def test_failing_status_waits_for_the_other(play: Playbook, failing: int) -> None:
    """It is dropped, as before a retry."""
    play.selection.failed_statuses = frozenset((503,))
    play.client_sends(GET)
    play.pass_time(0.06)
    play.origin_sends(reply(b"no", status="503 Service Unavailable"), failing)
    assert play.client_gets() == b""
    play.origin_sends(OK, 1 - failing)
    assert play.client_gets() == OK
    assert sorted(failures(play)) == ["", "status"]


def test_failing_status_of_both(play: Playbook) -> None:
    """The last one goes to the client if nobody else is left."""
    play.selection.failed_statuses = frozenset((503,))
    play.selection.tries = 2
    play.client_sends(GET)
    play.pass_time(0.06)
    for number in (0, 1):
        play.origin_sends(reply(b"no", status="503 Service Unavailable"), number)
    assert statuses(play.client_gets()) == [503]
    assert failures(play) == ["status", "status"]


def test_interim_replies_are_those_of_the_first(play: Playbook) -> None:
    """Those of the second are dropped while both run; the client gets one reply's alone."""
    play.client_sends(GET)
    play.origin_sends(HINTS)
    play.pass_time(0.06)
    play.origin_sends(HINTS, 1)
    assert statuses(play.client_gets()) == [103]
    play.origin_breaks(0)
    play.origin_sends(HINTS + OK, 1)
    assert statuses(play.client_gets()) == [103, 200]


def test_retry_that_has_begun_before_has_its_own_time(play: Playbook) -> None:
    """The time is counted from the start of the attempt under way."""
    play.client_sends(GET)
    play.pass_time(0.04)
    play.origin_breaks()
    play.pass_time(0.03)
    assert len(play.origins) == 2
    play.pass_time(0.03)
    assert len(play.origins) == 3
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert failures(play) == ["error", HEDGED, ""]


def test_it_helps_while_connecting(play: Playbook) -> None:
    """A connection that is not there yet is no reply either."""
    play.accepting = False
    play.client_sends(GET)
    play.pass_time(0.06)
    play.origins[1].connect()
    play.origin_sends(OK, 1)
    assert play.client_gets() == OK
    assert play.origins[0].closed
    assert play.selection.failures == []


def test_client_that_leaves_takes_both_with_it(play: Playbook) -> None:
    """Neither server has failed."""
    play.client_sends(GET)
    play.pass_time(0.06)
    play.client_leaves()
    assert all(origin.closed for origin in play.origins)
    assert play.selection.failures == []


def test_deadline_ends_both(play: Playbook) -> None:
    """Each is blamed if it had half of the time."""
    play.selection.deadline = 2.0
    play.client_sends(GET)
    play.pass_time(2.25)
    assert statuses(play.client_gets()) == [504]
    assert all(origin.closed for origin in play.origins)
    assert len(play.selection.failures) == 2
    assert failures(play) == ["deadline", "deadline"]


def test_both_are_late(play: Playbook) -> None:
    """The first one's read timeout does not end the second, whose own ends both."""
    play.selection.tries = 2
    play.selection.hedge_after = 30.0
    play.client_sends(GET)
    play.pass_time(61)
    assert play.origins[0].closed
    assert not play.origins[1].closed
    play.pass_time(30)
    assert statuses(play.client_gets()) == [504]


@pytest.mark.parametrize("short", ["", "no descriptor is left"])
def test_second_that_cannot_be_connected(play: Playbook, short: str) -> None:
    """The first goes on.  If this machine has nothing left, that is no server's failure."""
    pool = play.selection.peers[1].pool
    pool.exhausted, pool.shortage = True, short
    play.client_sends(GET)
    play.pass_time(1)
    assert len(play.origins) == 1
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert len(play.selection.failures) == (0 if short else 1)


def test_other_address_of_the_second(play: Playbook) -> None:
    """A name with two addresses is one server, in the second attempt too."""
    play.selection.peers[1].pool.addresses = 2
    play.client_sends(GET)
    play.accepting = False
    play.pass_time(0.06)
    play.origins[1].lose("Connection refused")
    assert len(play.origins) == 3
    play.accepting = True
    play.settle()
    play.origin_sends(OK, 2)
    assert play.client_gets() == OK
    assert failures(play) == [HEDGED, "connect", ""]


def test_idle_connection_of_the_second_is_stale(play: Playbook) -> None:
    """It is tried again on a new one while the first goes on."""
    play.selection.out.add(play.selection.peers[0])
    play.client_sends(GET)
    play.origin_sends(OK)
    play.selection.out.clear()
    play.client_gets()
    play.client_sends(GET)
    play.pass_time(0.06)
    play.origin_ends(0)
    assert len(play.origins) == 3
    play.origin_sends(OK, 2)
    assert play.client_gets() == OK
    assert failures(play) == [HEDGED, "stale", ""]


def test_many_requests_on_one_connection(play: Playbook) -> None:
    """Each has its own time, and no connection that was given up is used again."""
    for number in range(20):
        play.client_sends(get(f"/{number}"))
        play.pass_time(0.06)
        live = [origin for origin in play.origins if not origin.closed]
        running = [origin for origin in live if f"/{number} ".encode() in origin.take()]
        assert len(running) == 2
        winner = running[number % 2]
        winner.deliver(reply(b"%d" % number))
        play.settle()
        assert play.client_gets().endswith(b"\r\n%d" % number)
        play.pass_time(0.2)
