"""The deadline of a request: how long it may take over all its attempts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slardar.http1.record import DEADLINE
from slardar.testing.playbook import Playbook
from tests.http1.lines import CHUNKED_OK, CONTINUE, GET, OK, body_of, get, post, reply, statuses

NewPlay = Callable[..., Playbook]

HALF_HEAD = b"HTTP/1.1 200 OK\r\nX"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhi"


@pytest.fixture
def play(new_play: NewPlay) -> Playbook:
    """Two servers, and 2 seconds for a request."""
    made = new_play(2)
    made.selection.deadline = 2.0
    return made


@pytest.mark.parametrize("begun", [b"", HALF_HEAD, b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_no_reply_in_time_is_504(play: Playbook, begun: bytes) -> None:
    """The attempt is given up, and no other server is asked: nothing is left of the time."""
    play.client_sends(GET)
    play.origin_sends(begun)
    play.pass_time(1.75)
    assert not play.origin.closed
    play.pass_time(0.5)
    assert statuses(play.client_gets())[-1] == 504
    assert play.origin.closed
    assert len(play.origins) == 1
    (record,) = play.records
    assert "2 seconds" in record.error
    assert [note.failure for note in record.attempts] == [DEADLINE]
    # The connection of the client goes on.
    assert play.exchange(GET, OK) == OK


def test_all_attempts_share_the_time(play: Playbook) -> None:
    """The second server gets what the first one has left over."""
    play.selection.read_timeout = 1.5
    play.client_sends(GET)
    play.pass_time(1.75)
    assert len(play.origins) == 2
    play.pass_time(0.5)
    assert statuses(play.client_gets()) == [504]
    first, second = play.records[0].attempts
    assert (first.failure, second.failure) == ("timeout", DEADLINE)
    # The second server had only a quarter of the time: that is no failure of its.
    assert [server for server, _ in play.selection.failures] == ["10.0.0.1:80"]
    assert [failed for _, failed, _ in play.selection.outcomes] == [True, False]


def test_server_that_had_the_time_has_failed(play: Playbook) -> None:
    """Otherwise a server that never replies would stay in service."""
    play.client_sends(GET)
    play.pass_time(2.25)
    assert [server for server, _ in play.selection.failures] == ["10.0.0.1:80"]
    assert play.selection.outcomes == [("10.0.0.1:80", True, 0)]


def test_it_holds_while_connecting(play: Playbook) -> None:
    """A connection that is not made in time is given up, before the connect timeout."""
    play.accepting = False
    play.client_sends(GET)
    play.pass_time(2.25)
    assert statuses(play.client_gets()) == [504]
    assert play.origin.closed
    assert len(play.origins) == 1


def test_connect_timeout_that_comes_first_is_kept(play: Playbook) -> None:
    """Then the next server is tried."""
    play.selection.connect_timeout = 0.5
    play.accepting = False
    play.client_sends(GET)
    play.pass_time(0.75)
    assert len(play.origins) == 2


def test_no_attempt_begins_when_the_time_is_over(play: Playbook) -> None:
    """A server that fails at the very end is followed by no other one."""
    play.client_sends(GET)
    play.clock.advance(2.0)
    play.origin_breaks()
    assert statuses(play.client_gets()) == [502]
    assert len(play.origins) == 1


@pytest.mark.parametrize("data", [OK, CHUNKED_OK + b"2\r\nhi\r\n0\r\n\r\n", UNTIL_CLOSE])
def test_reply_that_has_begun_may_take_longer(play: Playbook, data: bytes) -> None:
    """Its head ends the deadline; ``read_timeout`` goes on."""
    play.client_sends(GET)
    play.pass_time(1.0)
    end = data.index(b"\r\n\r\n") + 4
    play.origin_sends(data[: end - 2])
    play.origin_sends(data[end - 2 : end])
    play.pass_time(50.0)
    assert statuses(play.client_gets()) == [200]
    assert not play.origin.closed
    play.origin_sends(data[end:])
    play.pass_time(50.0)
    if data == UNTIL_CLOSE:
        assert not play.origin.closed
        play.origin_ends()
    assert [record.error for record in play.records] == [""]


def test_read_timeout_of_a_reply_that_has_begun(play: Playbook) -> None:
    """The deadline does not lengthen it."""
    play.client_sends(GET)
    play.origin_sends(OK[:-1])
    play.pass_time(60.5)
    assert play.origin.closed
    assert "did not reply in time" in play.records[0].error


def test_client_may_take_its_time_over_the_body(play: Playbook) -> None:
    """The time begins with the last piece of the body; before, ``client_body`` holds."""
    data = post(b"0123456789")
    play.client_sends(data[:-2])
    play.pass_time(30.0)
    play.client_sends(data[-2:-1])
    play.pass_time(30.0)
    play.client_sends(data[-1:])
    assert body_of(play.origin_gets()) == b"0123456789"
    play.pass_time(1.75)
    assert play.client_gets() == b""
    play.pass_time(0.5)
    assert statuses(play.client_gets()) == [504]


def test_body_that_comes_while_connecting_puts_it_off(play: Playbook) -> None:
    """The connect timeout stays as it is."""
    play.accepting = False
    data = post(b"0123456789")
    play.client_sends(data[:-2])
    play.pass_time(1.5)
    play.client_sends(data[-2:])
    play.pass_time(1.0)
    assert not play.origin.closed
    play.pass_time(0.75)
    assert len(play.origins) == 2, "3 seconds to connect are over"
    play.pass_time(0.5)
    assert statuses(play.client_gets()) == [504]


def test_server_that_does_not_take_the_body(play: Playbook) -> None:
    """The client is held back then, so that the time passes."""
    play.accepting = False
    play.client_sends(post(bytes(200_000)))
    play.origin.stall()
    play.origin.connect()
    play.pass_time(2.5)
    assert statuses(play.client_gets()) == [504]
    assert play.origin.closed


def test_server_that_does_not_ask_for_the_body(play: Playbook) -> None:
    """A client that waits for 100 waits no longer than that."""
    play.client_sends(post(b"0123456789", "Expect: 100-continue")[:-10])
    play.pass_time(2.25)
    assert statuses(play.client_gets()) == [504]


def test_client_that_was_asked_for_the_body(play: Playbook) -> None:
    """From then on it is the client's turn."""
    data = post(b"0123456789", "Expect: 100-continue")
    play.client_sends(data[:-10])
    play.origin_sends(CONTINUE)
    play.pass_time(30.0)
    assert statuses(play.client_gets()) == [100]
    assert play.exchange(data[-10:], OK) == OK


def test_half_of_a_head_and_then_the_body(play: Playbook) -> None:
    """What the client sends puts the deadline off, and not ``read_timeout``."""
    play.selection.read_timeout = 3.0
    data = post(b"0123456789")
    play.client_sends(data[:-2])
    play.origin_sends(HALF_HEAD)
    play.pass_time(1.5)
    play.client_sends(data[-2:-1])
    play.pass_time(1.25)
    assert not play.origin.closed
    play.pass_time(0.5)
    assert statuses(play.client_gets()) == [504]
    assert play.records[0].attempts[0].failure == "timeout"


def test_next_request_has_the_whole_time(play: Playbook) -> None:
    """It is a request's, not a connection's."""
    play.client_sends(get("/1"))
    play.pass_time(1.5)
    play.origin_sends(reply(b"1"))
    play.client_sends(get("/2"))
    play.pass_time(1.5)
    play.origin_sends(reply(b"2"))
    assert statuses(play.client_gets()) == [200, 200]
