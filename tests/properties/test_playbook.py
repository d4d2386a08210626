"""Whole conversations in random pieces: messages arrive complete and in order."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.testing.channels import RecordingChannel
from slardar.testing.playbook import Playbook

SIZES = st.sampled_from((0, 1, 2, 3, 10, 500, 8192, 8193, 16384, 70000, 150000))


class Turn(NamedTuple):
    """One request and its reply: how each is framed, and the size of each body."""

    request: str
    request_size: int
    reply: str
    reply_size: int

    @property
    def verb(self) -> bytes:
        return {"none": b"GET", "length": b"POST", "chunks": b"PUT"}[self.request]

    def request_bytes(self, number: int) -> bytes:
        body = content(self.request_size, number)
        line = b"%b /%d HTTP/1.1\r\nHost: a.test\r\n" % (self.verb, number)
        if self.request == "none":
            return line + b"\r\n"
        if self.request == "length":
            return line + b"Content-Length: %d\r\n\r\n" % len(body) + body
        return line + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(body)

    def reply_bytes(self, number: int) -> bytes:
        body = content(self.reply_size, number)
        line = b"HTTP/1.1 200 OK\r\nX-Number: %d\r\n" % number
        if self.reply == "close":
            return line + b"\r\n" + body
        if self.reply == "chunks":
            return line + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(body)
        return line + b"Content-Length: %d\r\n\r\n" % len(body) + body


turns = st.builds(
    Turn,
    st.sampled_from(("none", "length", "chunks")),
    SIZES,
    st.sampled_from(("length", "chunks", "close")),
    SIZES,
)


def content(size: int, number: int) -> bytes:
    """A body that looks like a request, in case a parser takes it for one."""
    return (b"GET /%d HTTP/1.1\r\nHost: evil\r\n\r\n" % number * (size // 30 + 1))[:size]


def chunks(body: bytes) -> bytes:
    """``body`` in a few chunks of different sizes."""
    data, step = b"", max(1, len(body) // 3)
    for start in range(0, len(body), step):
        piece = body[start : start + step]
        data += b"%X\r\n%b\r\n" % (len(piece), piece)
    return data + b"0\r\n\r\n"


def read_message(data: bytes) -> tuple[bytes, bytes, int] | None:
    """The first line, the body and the size of the first whole message in ``data``."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    start = len(head) + 4
    if b"\r\nTransfer-Encoding: chunked" in head:
        body, place = b"", 0
        while True:
            end = rest.find(b"\r\n", place)
            if end < 0:
                return None
            size = int(rest[place:end], 16)
            place = end + 2 + size + 2
            if len(rest) < place:
                return None
            body += rest[end + 2 : end + 2 + size]
            if not size:
                return head.split(b"\r\n")[0], body, start + place
    lines = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    size = int(lines[0][16:]) if lines else 0
    if len(rest) < size:
        return None
    return head.split(b"\r\n")[0], rest[:size], start + size


class Theatre:
    """Plays ``plan`` with a client and servers that act in a random order."""

    def __init__(self, plan: list[Turn], seed: int, servers: int) -> None:
        self.plan = plan
        self.random = random.Random(seed)
        self.play = Playbook(servers)
        self.unsaid = b"".join(turn.request_bytes(n) for n, turn in enumerate(plan))
        self.heard = b""
        self.requests: list[tuple[bytes, bytes]] = []
        #: For each connection to a server: the bytes that it got, and those it has yet to send.
        self.got: dict[RecordingChannel, bytes] = {}
        self.replies: dict[RecordingChannel, bytes] = {}
        self.closing: set[RecordingChannel] = set()

    def cut(self, data: bytes) -> tuple[bytes, bytes]:
        size = self.random.choice((1, 2, 7, 100, 5000, 20000, len(data)))
        return data[:size], data[size:]

    def client_speaks(self) -> None:
        piece, self.unsaid = self.cut(self.unsaid)
        if piece:
            self.play.client_sends(piece)

    def origin_listens(self) -> None:
        for origin in self.play.origins:
            data = self.got.get(origin, b"") + origin.take()
            if (message := read_message(data)) is not None:
                line, body, size = message
                number = int(line.split()[1][1:])
                turn = self.plan[number]
                self.replies[origin] = turn.reply_bytes(number)
                if turn.reply == "close":
                    self.closing.add(origin)
                self.requests.append((line, body))
                data = data[size:]
            self.got[origin] = data

    def origin_speaks(self) -> None:
        for origin in self.play.origins:
            if data := self.replies.get(origin, b""):
                piece, self.replies[origin] = self.cut(data)
                origin.deliver(piece)
            elif origin in self.closing and not origin.closed:
                origin.end()
        self.play.settle()

    def somebody_stalls(self) -> None:
        self.random.choice([self.play.client, *self.play.origins]).stall()

    def somebody_takes(self) -> None:
        channel = self.random.choice([self.play.client, *self.play.origins])
        channel.drain(self.random.choice((1, 1000, 40000, None)))
        self.play.settle()

    def server_breaks(self) -> None:
        if self.play.origins:
            self.random.choice(self.play.origins[-3:]).lose()
            self.play.settle()

    def run(self, steps: int, breaking: bool = False) -> None:
        acts = [
            self.client_speaks,
            self.client_speaks,
            self.origin_listens,
            self.origin_speaks,
            self.origin_speaks,
            self.somebody_stalls,
            self.somebody_takes,
            self.somebody_takes,
        ]
        if breaking:
            acts.append(self.server_breaks)
        for _ in range(steps):
            self.random.choice(acts)()
            self.heard += self.play.client_gets()
            self.play.check()

    def run_to_the_end(self) -> None:
        """Nobody waits any more: everything must come to its end."""
        for _ in range(20000):
            for channel in (self.play.client, *self.play.origins):
                channel.drain()
            self.play.settle()
            self.client_speaks()
            self.origin_listens()
            self.origin_speaks()
            self.heard += self.play.client_gets()
            if self.play.client.closed or self.play.client.finished:
                return
            if not self.unsaid and self.play.connection.is_idle:
                return
        raise AssertionError("the play does not end")

    def close(self) -> None:
        self.play.finish()


steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=120)


@steady
@given(st.lists(turns, min_size=1, max_size=5), st.integers(0, 1 << 32))
def test_requests_and_replies_keep_their_order_and_content(plan: list[Turn], seed: int) -> None:
    """In whatever pieces bytes arrive, and whoever is slow, each message arrives once, whole,
    in order."""
    theatre = Theatre(plan, seed, servers=1)
    theatre.run(60)
    theatre.run_to_the_end()
    expected = []
    for number, turn in enumerate(plan):
        size = 0 if turn.request == "none" else turn.request_size
        expected.append((b"%b /%d HTTP/1.1" % (turn.verb, number), content(size, number)))
    assert theatre.requests == expected
    for number, turn in enumerate(plan):
        message = read_message(theatre.heard)
        assert message is not None
        line, body, size = message
        assert line == b"HTTP/1.1 200 OK"
        assert b"\r\nX-Number: %d\r\n" % number in theatre.heard[:size]
        assert body == content(turn.reply_size, number)
        theatre.heard = theatre.heard[size:]
    assert theatre.heard == b""
    assert theatre.play.selection.failures == []
    theatre.close()


@steady
@given(st.lists(turns, min_size=1, max_size=5), st.integers(0, 1 << 32))
def test_servers_that_break_harm_their_own_request_only(plan: list[Turn], seed: int) -> None:
    """Each reply is the right one, or slardar's own, or visibly cut off at the end of its
    connection; each request reaches a server whole, and a POST only once."""
    theatre = Theatre(plan, seed, servers=2)
    theatre.run(80, breaking=True)
    theatre.run_to_the_end()
    for line, body in theatre.requests:
        number = int(line.split()[1][1:])
        size = 0 if plan[number].request == "none" else plan[number].request_size
        assert body == content(size, number)
    posts = [line for line, _ in theatre.requests if line.startswith(b"POST ")]
    assert len(posts) == len(set(posts))
    heard, answered = theatre.heard, 0
    while (message := read_message(heard)) is not None:
        line, body, size = message
        if line == b"HTTP/1.1 200 OK":
            assert b"\r\nX-Number: %d\r\n" % answered in heard[:size]
            assert body == content(plan[answered].reply_size, answered)
        else:
            assert line == b"HTTP/1.1 502 Bad Gateway"
        heard = heard[size:]
        answered += 1
    assert answered == len(plan) or theatre.play.client.finished or theatre.play.client.closed
    if heard:
        assert theatre.play.client.finished or theatre.play.client.closed
        assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    theatre.close()


@steady
@given(st.lists(turns, min_size=1, max_size=4), st.integers(0, 1 << 32), st.integers(0, 80))
def test_nothing_is_left_of_a_client_that_leaves(plan: list[Turn], seed: int, steps: int) -> None:
    """At any moment, every counter and every channel is given back, and the waiting bytes were
    always bounded."""
    theatre = Theatre(plan, seed, servers=2)
    theatre.run(steps)
    for channel in (theatre.play.client, *theatre.play.origins):
        assert channel.most_unsent < 4 * 65536
    theatre.close()
