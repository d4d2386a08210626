"""Requests that wait until a server has room."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from slardar.http1.client import ClientConnection
from slardar.testing.channels import RecordingChannel
from slardar.testing.playbook import Playbook
from tests.http1.lines import CHUNKED_OK, CONTINUE, GET, OK, body_of, get, post, reply, statuses

NewPlay = Callable[..., Playbook]


class Crowd:
    """A playbook whose one server takes one request, and more clients of its plane."""

    def __init__(self, play: Playbook) -> None:
        self.play = play
        play.selection.max_conns = 1
        play.selection.use_queue(3)
        self.channels: dict[str, RecordingChannel] = {}

    def sends(self, name: str, data: bytes) -> None:
        """A client, a new one at first, sends bytes."""
        channel = self.channels.get(name)
        if channel is None:
            connection = ClientConnection(self.play.host, name.encode())
            channel = RecordingChannel(self.play.clock, connection, name=name)
            self.channels[name] = channel
            connection.attach(channel)
        channel.deliver(data)
        self.settle()

    def settle(self) -> None:
        for channel in self.channels.values():
            while channel.pump():
                pass
        self.play.settle()

    def ask(self, *names: str) -> None:
        """Each of these clients sends a request for its name."""
        for name in names:
            self.sends(name, get(f"/{name}"))

    def gets(self, name: str) -> list[int]:
        return statuses(self.channels[name].take())

    def serves(self) -> bytes:
        """The path that the server is asked for; it replies."""
        path = self.play.origin_gets().split(b" ")[1][1:]
        self.play.origin_sends(reply(path))
        return path

    def leave(self) -> None:
        for channel in self.channels.values():
            channel.lose()
        self.play.settle()
        self.play.host.ends -= len(self.channels)


@pytest.fixture
def crowd(new_play: NewPlay) -> Iterator[Crowd]:
    """Three may wait for a second; nothing of them remains after the test."""
    made = Crowd(new_play())
    yield made
    made.leave()


def test_oldest_begins_first(crowd: Crowd) -> None:
    """Each as soon as the one before it has its reply, whatever it got."""
    crowd.ask("a", "b", "c", "d")
    assert crowd.play.selection.queue.waiting == 3
    assert [crowd.serves() for _ in range(4)] == [b"a", b"b", b"c", b"d"]
    assert [crowd.gets(name) for name in "abcd"] == [[200]] * 4
    assert len(crowd.play.origins) == 1
    assert crowd.play.selection.about.counts() == {"queued": 3}


def test_more_than_may_wait(crowd: Crowd) -> None:
    """They get 503 at once."""
    crowd.ask("a", "b", "c", "d", "e")
    assert crowd.gets("e") == [503]
    assert crowd.play.selection.about.counts() == {"waiting": 3, "queued": 3, "queue_refused": 1}
    assert [crowd.serves() for _ in range(4)] == [b"a", b"b", b"c", b"d"]
    assert "may wait" in crowd.play.records[0].error


def test_waiting_too_long(crowd: Crowd) -> None:
    """They get 503, and the others go on."""
    crowd.ask("a", "b")
    crowd.play.pass_time(0.5)
    crowd.ask("c")
    crowd.play.pass_time(0.55)
    assert crowd.gets("b") == [503]
    record = crowd.play.records[0]
    assert "within 1 seconds" in record.error
    assert record.queued == pytest.approx(1)
    assert record.attempts == []
    assert [crowd.serves(), crowd.serves()] == [b"a", b"c"]
    assert crowd.gets("c") == [200]
    assert [round(record.queued, 2) for record in crowd.play.records] == [1, 0, 0.55]
    # Nobody waits: the next request begins at once.
    crowd.ask("b")
    assert crowd.serves() == b"b"


def test_client_that_leaves(crowd: Crowd) -> None:
    """It leaves the queue, too, from the middle and from its head."""
    crowd.ask("a", "b", "c", "d")
    for name in "cb":
        crowd.channels[name].lose()
        crowd.settle()
    crowd.ask("e")
    assert [crowd.serves() for _ in range(3)] == [b"a", b"d", b"e"]


def test_nobody_overtakes(crowd: Crowd) -> None:
    """A request that comes while others wait waits behind them, also if a server has room."""
    crowd.ask("a", "b")
    selection = crowd.play.selection
    selection.max_conns = 2
    crowd.ask("c")
    crowd.play.settle()
    paths = [origin.take().split(b" ")[1] for origin in crowd.play.origins]
    assert paths == [b"/a", b"/b"]
    crowd.play.origin_sends(OK, 0)
    assert b"/c" in crowd.play.origin_gets(0)


def test_room_that_nobody_told_of(crowd: Crowd) -> None:
    """The next request that comes makes the queue look."""
    crowd.play.selection.use_queue(1)
    crowd.ask("a", "b")
    crowd.play.selection.max_conns = 3
    crowd.ask("c")
    assert crowd.gets("c") == [503]
    assert b"/b" in crowd.play.origin_gets(1)


def test_server_that_fails_makes_room(crowd: Crowd) -> None:
    """The failure is the first request's alone."""
    crowd.ask("a", "b")
    crowd.play.origin_breaks()
    assert crowd.gets("a") == [502]
    assert crowd.serves() == b"b"


def test_many_that_fail_at_once(crowd: Crowd) -> None:
    """They do not call each other: a thousand would be too deep."""
    crowd.play.selection.use_queue(3000)
    crowd.ask("a")
    names = [f"n{number}" for number in range(2000)]
    crowd.ask(*names)
    crowd.play.selection.peers[0].pool.exhausted = True
    crowd.play.origin_breaks()
    assert {tuple(crowd.gets(name)) for name in names} == {(502,)}
    crowd.play.selection.peers[0].pool.exhausted = False


def test_no_server_is_left(crowd: Crowd) -> None:
    """Nothing is waited for then."""
    crowd.ask("a", "b")
    crowd.play.selection.out.add(crowd.play.selection.peers[0])
    crowd.play.origin_sends(OK)
    assert crowd.gets("b") == [502]


def test_retry_does_not_wait(new_play: NewPlay) -> None:
    """The client of a failed attempt gets the failure if every other server is full."""
    play = new_play(2)
    crowd = Crowd(play)
    crowd.ask("a", "b", "c")
    play.origin_breaks(0)
    assert crowd.gets("a") == [502]
    assert b"/c" in play.origins[2].take()
    crowd.leave()


def test_body_of_a_request_that_waits(crowd: Crowd) -> None:
    """It is kept up to the retry buffer; past that the client is not read from."""
    crowd.ask("a")
    data = post(bytes(200_000))
    crowd.sends("b", data)
    assert crowd.channels["b"].paused
    crowd.play.origin_gets()
    crowd.play.origin_sends(OK, 0)
    crowd.settle()
    assert len(body_of(crowd.play.origins[0].take())) == 200_000
    crowd.play.origin_sends(OK, 0)
    assert crowd.gets("b") == [200]


def test_body_that_comes_meanwhile(crowd: Crowd) -> None:
    """It goes out behind the head."""
    crowd.ask("a")
    data = post(b"0123456789")
    for start, end in ((0, -9), (-9, -4), (-4, len(data))):
        crowd.sends("b", data[start:end])
    crowd.play.origin_gets()
    crowd.play.origin_sends(OK)
    assert body_of(crowd.play.origin_gets()) == b"0123456789"
    crowd.play.origin_sends(OK)
    assert crowd.gets("b") == [200]


def test_body_that_is_asked_for_later(crowd: Crowd) -> None:
    """The client that waits for 100 gets it from the server."""
    crowd.ask("a")
    data = post(b"0123456789", "Expect: 100-continue")
    crowd.sends("b", data[:-10])
    crowd.play.origin_sends(OK)
    assert crowd.gets("b") == []
    crowd.play.origin_sends(CONTINUE)
    assert crowd.gets("b") == [100]
    crowd.sends("b", data[-10:])
    crowd.play.origin_sends(OK)
    assert crowd.gets("b") == [200]


def test_deadline_counts(crowd: Crowd) -> None:
    """It may pass in the queue, and what is left of it is the attempt's."""
    crowd.play.selection.deadline = 2.0
    crowd.play.selection.queue_timeout = 5.0
    crowd.ask("a")
    crowd.play.pass_time(1.5)
    crowd.ask("b")
    crowd.play.pass_time(1.0)
    assert crowd.gets("a") == [504]
    assert b"/b" in crowd.play.origin_gets(1)
    crowd.ask("c")
    crowd.play.pass_time(1.5)
    assert crowd.gets("b") == [504]
    crowd.ask("d")
    crowd.play.pass_time(0.75)
    assert crowd.gets("c") == [504]
    crowd.play.pass_time(3)
    assert crowd.gets("d") == [504]
    assert crowd.play.selection.about.counts()["queued"] == 3


def test_deadline_passes_while_waiting(crowd: Crowd) -> None:
    """The client gets 504, and no server is blamed; its body puts that off."""
    crowd.ask("a")
    crowd.play.selection.deadline = 0.5
    crowd.play.selection.queue_timeout = 0.75
    data = post(b"0123456789")
    crowd.sends("b", data[:-5])
    crowd.ask("c")
    crowd.play.pass_time(0.4)
    crowd.sends("b", data[-5:])
    crowd.play.pass_time(0.11)
    assert crowd.gets("c") == [504]
    assert crowd.gets("b") == []
    crowd.play.pass_time(0.25)
    assert crowd.gets("b") == [503]
    assert crowd.play.selection.failures == []


def test_time_for_attempts_begins_with_the_first(new_play: NewPlay) -> None:
    """``try_timeout`` does not count what was waited."""
    play = new_play(2)
    crowd = Crowd(play)
    play.selection.try_timeout = 0.5
    crowd.ask("a", "b", "c")
    play.pass_time(0.75)
    play.origin_sends(OK, 0)
    play.origin_sends(OK, 1)
    play.pass_time(0.25)
    assert b"/c" in play.origin_gets(0)
    # The idle connection is stale, and then the server fails.
    play.origin_breaks(0)
    play.origin_breaks(2)
    assert b"/c" in play.origin_gets(1)
    crowd.leave()


def test_request_that_has_waited_is_hedged(new_play: NewPlay) -> None:
    """Its time is counted from its first attempt."""
    play = new_play(2)
    crowd = Crowd(play)
    play.selection.hedge_after = 0.05
    crowd.ask("a", "b", "c")
    play.pass_time(0.5)
    assert len(play.origins) == 2
    play.origin_sends(OK, 0)
    play.origin_sends(OK, 1)
    for origin in play.origins:
        origin.take()
    play.pass_time(0.04)
    assert not play.origin_gets(1)
    play.pass_time(0.02)
    assert b"/c" in play.origin_gets(1)
    crowd.leave()


def test_reply_that_goes_on_holds_its_place(crowd: Crowd) -> None:
    """Room is there when the reply is complete, not when it begins."""
    crowd.ask("a", "b")
    crowd.play.origin_sends(CHUNKED_OK)
    assert crowd.play.selection.queue.waiting == 1
    crowd.play.origin_gets()
    crowd.play.origin_sends(b"0\r\n\r\n")
    assert b"/b" in crowd.play.origin_gets()


def test_requests_on_one_connection(new_play: NewPlay) -> None:
    """The next request of a client comes to the end of the queue."""
    play = new_play()
    crowd = Crowd(play)
    play.client_sends(GET + get("/2"))
    crowd.ask("x")
    play.origin_gets()
    play.origin_sends(OK)
    assert b"/x" in play.origin_gets()
    play.origin_sends(OK)
    assert b"/2" in play.origin_gets()
    play.origin_sends(OK)
    assert play.client_gets() == OK + OK
    crowd.leave()
