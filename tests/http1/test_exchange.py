"""One request and its reply: bodies, framing, interim replies, pressure, time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slardar.http1.framing import chunk
from slardar.testing.channels import FIRST_SIZE
from slardar.testing.playbook import Playbook
from tests.http1.lines import (
    CHUNKED_OK,
    CONTINUE,
    GET,
    GET_10,
    GET_10_KEPT,
    OK,
    SWITCHING,
    body_of,
    get,
    post,
    post_chunked,
    reply,
    statuses,
)

NewPlay = Callable[..., Playbook]

HEAD = b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"


# The request's body.


def test_body_of_known_length_is_sent_as_it_comes(play: Playbook) -> None:
    """Each piece goes on at once, under the announced length."""
    data = post(b"0123456789")
    play.client_sends(data[:-6])
    got = play.origin_gets()
    assert b"\r\nContent-Length: 10\r\n" in got
    assert body_of(got) == b"0123"
    play.client_sends(data[-6:])
    assert play.origin_gets() == b"456789"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_chunked_body_is_chunked_anew(play: Playbook) -> None:
    """The content stays; extensions and forbidden trailers are gone."""
    play.client_sends(post_chunked() + b"3;x=y\r\nabc\r\n")
    got = play.origin_gets()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in got
    assert body_of(got) == b"3\r\nabc\r\n"
    play.client_sends_bytewise(b"2\r\nde\r\n0\r\nX-Sum: 5\r\nHost: evil\r\n\r\n")
    assert play.origin_gets() == b"1\r\nd\r\n1\r\ne\r\n0\r\nX-Sum: 5\r\n\r\n"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_request_behind_a_chunked_body(play: Playbook) -> None:
    """The bytes after the last chunk are the next request."""
    play.client_sends(post_chunked() + b"1\r\na\r\n0\r\n\r\n" + GET)
    assert body_of(play.origin_gets()) == b"1\r\na\r\n0\r\n\r\n"
    play.origin_sends(OK)
    assert play.origin_gets().startswith(b"GET / ")
    play.origin_sends(OK)
    assert play.client_gets() == OK * 2


def test_malformed_chunks_are_refused(play: Playbook) -> None:
    """400; the server's connection is closed with the body unfinished."""
    play.client_sends(post_chunked() + b"3\r\nabc\r\n")
    play.client_sends(b"zz\r\n")
    assert statuses(play.client_gets()) == [400]
    assert play.origin.closed


def test_chunked_body_past_the_limit(new_play: NewPlay) -> None:
    """413 as soon as the content is larger than ``limits.body``."""
    play = new_play(max_body=10)
    play.client_sends(post_chunked() + b"a\r\n0123456789\r\n")
    assert play.client_gets() == b""
    play.client_sends(b"1\r\nx\r\n")
    assert statuses(play.client_gets()) == [413]
    assert play.origin.closed


def test_body_waits_for_the_connection(play: Playbook) -> None:
    """Bytes that arrive before the connection is there are sent after the head."""
    play.accepting = False
    play.client_sends(post_chunked() + b"3\r\nabc\r\n")
    play.client_sends(b"2\r\nde\r\n0\r\n\r\n")
    assert play.origin_gets() == b""
    play.accepting = True
    play.settle()
    assert body_of(play.origin_gets()) == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    play.origin_sends(OK)


def test_client_waits_for_the_connection_too(new_play: NewPlay) -> None:
    """Without a connection, no more of a body is read than can be sent again."""
    play = new_play(retry_buffer=1000)
    play.accepting = False
    play.client_sends(post(b"x" * 200000))
    assert play.client.paused
    play.accepting = True
    play.settle()
    assert len(body_of(play.origin_gets())) == 200000
    play.origin_sends(OK)
    assert play.client_gets() == OK


# Expect: 100-continue.


def test_expectation_is_the_servers_to_answer(play: Playbook) -> None:
    """The Expect is passed on, the 100 comes back, then the body goes to the server."""
    data = post(b"body", "Expect: 100-continue")
    play.client_sends(data[:-4])
    assert b"\r\nExpect: 100-continue\r\n" in play.origin_gets()
    assert play.client_gets() == b""
    play.origin_sends(CONTINUE)
    assert play.client_gets() == CONTINUE
    play.client_sends(b"body")
    assert play.origin_gets() == b"body"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_final_status_instead_of_continue(play: Playbook) -> None:
    """The client gets it, and its connection ends, because its body may come or not."""
    play.client_sends(post(b"body", "Expect: 100-continue")[:-4])
    play.origin_sends(reply(b"no", status="401 Unauthorized"))
    got = play.client_gets()
    assert statuses(got) == [401]
    assert b"\r\nConnection: close\r\n" in got
    assert play.origin.closed
    play.client_sends(b"GET ")
    assert play.client_gets() == b""
    assert len(play.host.began) == 1


def expecting(method: str = "PUT") -> bytes:
    """The head of an upload that waits for a 100."""
    return post(b"", "Expect: 100-continue", method=method).replace(b": 0", b": 4", 1)


def test_silent_server_is_left_though_the_client_waits_for_its_word(new_play: NewPlay) -> None:
    """The server must answer from the head on: after ``read_timeout`` the next server is
    tried, whatever ``client_body`` is, since the client is not to blame."""
    play = new_play(3, client_body_timeout=5.0)
    play.selection.read_timeout = 20.0
    play.client_sends(expecting())
    play.pass_time(19)
    assert len(play.origins) == 1
    play.pass_time(2)
    assert play.origins[0].closed
    play.pass_time(19)
    assert len(play.origins) == 2
    play.pass_time(2)
    assert play.client_gets() == b""
    play.origin_sends(CONTINUE)
    assert play.client_gets() == CONTINUE
    play.client_sends(b"body")
    assert play.origin_gets().endswith(b"\r\n\r\nbody")
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert [key for key, _ in play.selection.failures] == ["10.0.0.1:80", "10.0.0.2:80"]


def test_silent_server_of_a_client_that_waits_is_the_last(new_play: NewPlay) -> None:
    """The client gets 504 right after ``read_timeout``; a POST is not sent twice."""
    play = new_play(2, client_body_timeout=5.0)
    play.selection.read_timeout = 20.0
    play.client_sends(expecting("POST"))
    play.pass_time(20.5)
    assert statuses(play.client_gets()) == [504]
    assert len(play.origins) == 1
    play.pass_time(6)
    assert play.client.closed


def test_hints_are_not_the_word_that_is_waited_for(play: Playbook) -> None:
    """Early hints only restart the server's ``read_timeout``."""
    play.client_sends(expecting())
    play.pass_time(50)
    play.origin_sends(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    play.pass_time(50)
    assert statuses(play.client_gets()) == [103]
    play.pass_time(11)
    assert statuses(play.client_gets()) == [504]


@pytest.mark.parametrize("asked", [True, False])
def test_client_that_was_asked_for_its_body_owes_it(new_play: NewPlay, asked: bool) -> None:
    """From the 100 on, or once it has begun by itself, the client's timeout runs and not the
    server's; this also holds for the next server, which need not ask again."""
    play = new_play(2)
    play.selection.read_timeout = 20.0
    play.client_sends(expecting())
    if asked:
        play.origin_sends(CONTINUE)
    else:
        play.client_sends(b"b")
    play.pass_time(50)
    play.origin_ends()
    play.pass_time(9)
    assert len(play.origins) == 2
    assert not play.origin.closed
    play.pass_time(2)
    assert statuses(play.client_gets()[len(CONTINUE) if asked else 0 :]) == [408]


@pytest.mark.parametrize("begun", [b"HTTP/1.1 2", OK[:-1], CONTINUE + b"H"])
def test_reply_that_stalls_before_the_body_is_complete(play: Playbook, begun: bytes) -> None:
    """A reply that has begun must go on within ``read_timeout``, however long the client takes
    for its body, and however much of it arrives."""
    play.client_sends(post_chunked())
    play.origin_sends(begun)
    for _ in range(24):
        play.pass_time(2.5)
        play.client_sends(b"1\r\nx\r\n")
    play.pass_time(0.5)
    assert play.origin.closed
    got = play.client_gets()
    if begun == OK[:-1]:
        assert statuses(got) == [200]
        assert got.endswith(b"\r\n\r\nh")
        assert play.client.finished
    else:
        assert statuses(got)[-1] == 504


def test_reply_that_goes_on_before_the_body_is_complete(play: Playbook) -> None:
    """Each piece of the reply restarts ``read_timeout``."""
    play.client_sends(post_chunked())
    for index in range(len(OK)):
        play.origin_sends(OK[index : index + 1])
        play.pass_time(50)
        play.client_sends(b"1\r\nx\r\n")
    assert play.client_gets().startswith(b"HTTP/1.1 200 OK\r\n")


def test_client_that_does_not_wait_for_continue(play: Playbook) -> None:
    """RFC 9110 10.1.1 allows this; the server's 100 still comes before its reply."""
    play.client_sends(post(b"body", "Expect: 100-continue"))
    assert body_of(play.origin_gets()) == b"body"
    play.origin_sends(CONTINUE + OK)
    assert play.client_gets() == CONTINUE + OK


def test_expectation_of_http_1_0_is_ignored(play: Playbook) -> None:
    """RFC 9110 10.1.1: such a client cannot understand a 100, so it gets none."""
    play.client_sends(
        b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"
    )
    assert b"Expect" not in play.origin_gets()
    play.origin_sends(CONTINUE + OK)
    assert statuses(play.client_gets()) == [200]


# Interim replies.


def test_early_hints_are_passed_on(play: Playbook) -> None:
    """A 103 comes before the reply, in pieces or not."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    play.client_sends(GET)
    for byte in hints:
        play.origin_sends(bytes([byte]))
    assert play.client_gets() == hints
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_endless_interim_replies_are_a_failure(play: Playbook) -> None:
    """Sixteen interim replies are the most."""
    assert statuses(play.exchange(GET, CONTINUE * 17)) == [100] * 16 + [502]
    assert play.origin.closed


def test_unasked_switch_is_a_failure(play: Playbook) -> None:
    """A server cannot make a tunnel of a request without Upgrade."""
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
    assert statuses(play.client_gets()) == [502]


# Replies.


def test_reply_to_head(play: Playbook) -> None:
    """Its length is a GET's length; no body follows, and none is waited for."""
    play.client_sends(HEAD)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert play.client_gets() == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert body_of(play.exchange(HEAD, CHUNKED_OK)) == b""
    assert len(play.origins) == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_reply_without_a_body(play: Playbook, status: str) -> None:
    """The connection is free at once, whatever length the head has."""
    play.client_sends(GET)
    play.origin_sends(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())
    assert play.client_gets() == f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode()
    play.client_sends(GET)
    play.origin_sends(f"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n".encode())
    assert body_of(play.client_gets()) == b""
    assert play.exchange(GET, OK) == OK
    assert len(play.origins) == 1


def test_reply_in_pieces(play: Playbook) -> None:
    """Head and body may be cut anywhere."""
    play.client_sends(GET)
    for byte in OK:
        play.origin_sends(bytes([byte]))
    assert play.client_gets() == OK


def test_large_reply_passes_whole(play: Playbook) -> None:
    """A reply that ends in the shared buffer passes whole, too."""
    body = bytes(range(256)) * 4096
    assert body_of(play.exchange(GET, reply(body))) == body
    assert play.origin in play.selection.peers[0].pool.idle


def test_chunked_reply_goes_on_as_it_comes(play: Playbook) -> None:
    """It is written in slardar's own chunks, with the trailers that may pass."""
    got = play.exchange(GET, CHUNKED_OK + b"3\r\nabc\r\n")
    assert b"\r\nTransfer-Encoding: chunked\r\n" in got
    assert body_of(got) == b"3\r\nabc\r\n"
    play.origin_sends(b"2\r\nde\r\n1\r\nf\r\n")
    assert play.client_gets() == b"3\r\ndef\r\n"
    play.origin_sends(b"0\r\nX-Sum: 6\r\nContent-Length: 9\r\n\r\n")
    assert play.client_gets() == b"0\r\nX-Sum: 6\r\n\r\n"
    assert play.connection.is_idle


def test_less_is_read_of_tiny_chunks(play: Playbook) -> None:
    """Turns are bounded by time, and bytes that were read are handled at once, so less is read
    of a body in tiny chunks, and as much as before when chunks are larger.  This holds for
    clients' bodies, too."""
    play.client_sends(GET)
    play.origin_sends(CHUNKED_OK + b"64\r\n" + b"x" * 100 + b"\r\n")
    assert play.origin.eager
    for data, is_eager in ((b"1\r\nx\r\n" * 50, False), (chunk([b"x" * 1000]), True)):
        play.origin_sends(data)
        assert play.origin.eager is is_eager
    play.origin_sends(b"0\r\n\r\n")
    play.client_gets()
    play.client_sends(post_chunked())
    assert not play.client.bulk
    for data, is_small in ((b"1\r\nx\r\n" * 50, True), (chunk([b"x" * 1000]), False)) * 2:
        play.client_sends(data)
        assert play.client.bulk is is_small
    play.client_sends(b"1\r\nx\r\n" * 50 + b"0\r\n\r\n")
    assert not play.client.bulk
    play.origin_gets()
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_whole_chunked_reply_gets_a_length(play: Playbook) -> None:
    """If the whole reply is there at once and has no trailers, one write is enough."""
    assert play.exchange(GET, CHUNKED_OK + b"2\r\nhi\r\n0\r\n\r\n") == OK
    play.client_sends(GET)
    play.origin_sends(CHUNKED_OK + b"2\r\nhi\r\n0\r\nX-Sum: 2\r\n\r\n")
    assert body_of(play.client_gets()) == b"2\r\nhi\r\n0\r\nX-Sum: 2\r\n\r\n"
    # Also if it is larger than a first read.
    play.client_sends(GET)
    play.origin_sends(CHUNKED_OK + b"4e20\r\n" + b"x" * 20000 + b"\r\n0\r\n\r\n")
    assert play.client_gets() == reply(b"x" * 20000)


def test_chunked_reply_to_http_1_0(new_play: NewPlay) -> None:
    """HTTP/1.0 has no chunks: the reply has a length if it is known, else it ends with the
    connection."""
    play = new_play()
    got = play.exchange(GET_10_KEPT, CHUNKED_OK + b"2\r\nhi\r\n0\r\n\r\n")
    assert b"\r\nContent-Length: 2\r\nConnection: keep-alive\r\n" in got
    got = play.exchange(GET_10_KEPT, CHUNKED_OK + b"2\r\nhi\r\n")
    assert b"\r\nConnection: close\r\n" in got
    assert b"chunked" not in got
    play.origin_sends(b"1\r\n!\r\n0\r\nX-Sum: 3\r\n\r\n")
    assert body_of(got) + play.client_gets() == b"hi!"
    assert play.client.closed


def test_reply_that_ends_with_the_connection(new_play: NewPlay) -> None:
    """It becomes chunks for 1.1; for 1.0 it ends with the connection."""
    play = new_play()
    play.client_sends(GET)
    play.origin_sends(UNTIL_CLOSE + b"abc")
    play.origin_sends(b"de")
    play.origin_ends()
    assert body_of(play.client_gets()) == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert play.connection.is_idle
    assert play.origin.closed
    play = new_play()
    play.client_sends(GET_10_KEPT)
    play.origin_sends(UNTIL_CLOSE + b"abc")
    play.origin_ends()
    assert play.client_gets().endswith(b"\r\nConnection: close\r\n\r\nabc")
    assert play.client.closed


def test_server_of_http_1_0(play: Playbook) -> None:
    """Its connection is used again only if its reply allows it."""
    assert play.exchange(GET, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi") == OK
    assert play.origin.closed
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi")
    assert play.client_gets() == OK
    assert not play.origin.closed


def test_server_that_closes_keeps_the_clients_connection(play: Playbook) -> None:
    """``Connection: close`` concerns one connection only."""
    assert play.exchange(GET, reply(b"hi", "Connection: close")) == OK
    assert play.origin.closed
    assert play.exchange(GET, OK) == OK
    assert len(play.origins) == 2


@pytest.mark.parametrize(
    "whole",
    [
        OK,
        CHUNKED_OK + b"2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        reply(b"x" * 300000),
        # The first read ends where it does.
        reply(b"x" * (FIRST_SIZE - len(reply(b"x" * 8000)) + 8000)),
    ],
)
def test_bytes_behind_a_reply_poison_the_connection(play: Playbook, whole: bytes) -> None:
    """A reply without a request goes to nobody, and the connection is closed."""
    play.client_sends(GET)
    play.origin_sends(whole + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    assert b"poison" not in play.client_gets()
    assert play.origin.closed
    assert play.exchange(GET, OK) == OK


def test_bytes_behind_chunks_that_came_later_poison_too(play: Playbook) -> None:
    """This also holds if the end of the reply arrives in its own read."""
    play.client_sends(GET)
    play.origin_sends(CHUNKED_OK + b"2\r\nhi\r\n")
    play.origin_sends(b"0\r\n\r\npoison")
    assert b"poison" not in play.client_gets()
    assert play.origin.closed


def test_bytes_on_an_idle_connection_poison_it(play: Playbook) -> None:
    """The connection leaves the pool before a request can get these bytes as its reply."""
    play.client_sends(GET)
    play.origin_sends(OK)
    play.origin_sends(OK)
    assert play.origin.closed
    assert play.client_gets() == OK


# Replies that cannot be completed.


@pytest.mark.parametrize(
    "part", [reply(b"hello")[:-1], CHUNKED_OK + b"5\r\nhe", CHUNKED_OK + b"1\r\na\r\n"]
)
@pytest.mark.parametrize("broken", [False, True])
def test_broken_reply_is_seen_to_be_broken(play: Playbook, part: bytes, broken: bool) -> None:
    """The missing bytes or the missing last chunk tell the client; no second reply follows."""
    play.client_sends(GET)
    play.origin_sends(part)
    if broken:
        play.origin_breaks()
    else:
        play.origin_ends()
    got = play.client_gets()
    assert statuses(got) == [200]
    assert not got.endswith(b"0\r\n\r\n")
    assert play.client.finished
    assert play.selection.outcomes == [("10.0.0.1:80", True, 0)]


def test_broken_reply_without_a_length_is_a_reset(play: Playbook) -> None:
    """The end of the connection would look like the end of the reply."""
    play.client_sends(GET_10)
    play.origin_sends(CHUNKED_OK + b"5\r\nhe")
    play.origin_breaks()
    assert play.client.aborted


def test_late_body_of_a_request_does_not_end_its_reply(play: Playbook) -> None:
    """If an HTTP/1.0 client's own slowness cuts its reply short, it sees a reset."""
    play.client_sends(b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
    play.origin_sends(UNTIL_CLOSE + b"abc")
    play.pass_time(61)
    assert play.client.aborted


def test_malformed_chunk_of_a_reply(play: Playbook) -> None:
    """The client gets 502 if no byte went out yet; else the reply is broken off."""
    assert statuses(play.exchange(GET, CHUNKED_OK + b"zz\r\n")) == [502]
    play.client_sends(GET)
    play.origin_sends(CHUNKED_OK + b"1\r\na\r\n")
    play.origin_sends(b"zz\r\n")
    got = play.client_gets()
    assert body_of(got) == b"1\r\na\r\n"
    assert play.client.finished


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
    ],
)
def test_reply_that_is_no_http(play: Playbook, data: bytes) -> None:
    """502, and the connection is closed."""
    assert statuses(play.exchange(GET, data)) == [502]
    assert play.origin.closed
    assert play.connection.is_idle


# A reply before the request is complete.


@pytest.mark.parametrize(
    ("rubbish", "wrong"),
    [
        (b"<html>", 1), (b"HTTP/2.0 200 OK\r\n", 6), (b"HTTP/1.1 200 OK\nX: y\n", 16),
        (b"HTTP/1.1 200 OK\r\nX: y\nZ", 22), (b"HTTP/1.1 200 OK\r\nX y", 19),
        (b"HTTP/1.1 2x0", 11), (b"\r\nHTTP/1.1 200 OK", 1), (b"HTTX", 4), (b"HTTP/1.1\r", 9),
        (CONTINUE + b"h", len(CONTINUE) + 1),
    ],
)  # fmt: skip
def test_reply_that_can_be_no_http_is_left_at_once(
    play: Playbook, rubbish: bytes, wrong: int
) -> None:
    """It is refused at its first wrong byte, with 502, as an error; slardar does not wait for
    more."""
    for index in range(wrong):
        assert play.selection.failures == []
        if not index:
            play.client_sends(GET)
        play.origin_sends(rubbish[index : index + 1])
    assert play.origin.closed
    assert statuses(play.client_gets())[-1] == 502
    assert len(play.selection.failures) == 1


def test_long_head_that_comes_bytewise_is_looked_at_once(play: Playbook) -> None:
    """Earlier bytes are neither copied nor checked again for each new byte: the check would
    refuse a byte that it gets twice."""
    play.client_sends(GET)
    head = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3000 + b"\r\nContent-Length: 0\r\n\r\n"
    attempt = play.connection._exchange._attempt
    assert attempt is not None
    play.origin_sends(head[:1])
    held = attempt._buffer
    for index in range(1, len(head)):
        assert attempt._buffer is held
        play.origin_sends(head[index : index + 1])
    assert play.client_gets() == head


def test_early_reply_ends_both_connections(play: Playbook) -> None:
    """The rest of the body is dropped, and never taken for a request."""
    got = play.exchange(post(b"x" * 100)[:-50], OK)
    assert statuses(got) == [200]
    assert b"\r\nConnection: close\r\n" in got
    assert play.origin.closed
    assert play.client.finished
    play.client_sends(b"x" * 50 + GET)
    assert len(play.host.began) == 1
    play.client_ends()
    assert play.client.closed


def test_early_reply_while_the_body_goes_on(play: Playbook) -> None:
    """Body and reply flow at the same time; the body's end is found, and bytes after it are
    not served."""
    play.client_sends(post(b"x" * 100)[:-50])
    play.origin_sends(CHUNKED_OK + b"1\r\na\r\n")
    play.origin_gets()
    play.client_sends(b"x" * 50 + GET)
    assert play.origin_gets() == b"x" * 50
    play.origin_sends(b"0\r\n\r\n")
    assert body_of(play.client_gets()) == b"1\r\na\r\n0\r\n\r\n"
    assert len(play.host.began) == 1
    assert play.client.finished


# Pressure.


def test_slow_client_slows_the_server(play: Playbook) -> None:
    """Above the high mark the server is not read, and its deadline does not run."""
    play.client.stall()
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000000)
    assert play.origin.paused
    assert play.origin.deadline == 0.0
    for _ in range(9):
        play.pass_time(50)
        play.client_drains(10000)
    assert not play.client.closed
    play.client_drains()
    assert not play.origin.paused
    assert len(body_of(play.client_gets())) == 1000000
    assert play.client.most_unsent <= 2 * 65536 + 100


def test_server_has_its_time_again_when_the_client_takes_more(play: Playbook) -> None:
    """``read_timeout`` counts from that moment."""
    play.client.stall()
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 80000)
    assert play.origin.paused
    play.pass_time(30)
    play.client_drains()
    play.pass_time(59)
    assert not play.origin.closed
    play.pass_time(2)
    assert play.origin.closed
    assert play.client.finished


def test_slow_server_slows_the_client(play: Playbook) -> None:
    """Above the high mark the client is not read, and its deadline does not run."""
    body = bytes(range(256)) * 1000
    play.client_sends(post(body)[:-250000])
    play.origin.stall()
    play.client_sends(body[-250000:])
    assert play.client.paused
    assert play.client.deadline == 0.0
    got = play.origin_gets()
    for _ in range(5):
        play.pass_time(50)
        play.origin_drains(10000)
    assert not play.origin.closed
    play.origin_drains()
    assert not play.client.paused
    assert body_of(got + play.origin_gets()) == body
    assert play.origin.most_unsent <= 2 * 65536
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_client_that_is_held_back_has_no_deadline_of_its_own(play: Playbook) -> None:
    """This also holds if it takes some of an early reply meanwhile."""
    play.client_sends(post(b"x" * 300000)[:-250000])
    play.origin.stall()
    play.client_sends(b"x" * 250000)
    play.client.stall()
    play.origin_sends(CHUNKED_OK + b"1\r\na\r\n")
    play.client_drains()
    assert play.client.paused
    for _ in range(4):
        play.pass_time(50)
        play.origin_drains(1000)
    assert not play.client.closed
    assert body_of(play.client_gets()) == b"1\r\na\r\n"


def test_server_that_takes_nothing_is_given_up(play: Playbook) -> None:
    """504 after ``send_timeout``; the bytes sent to it cannot be sent again."""
    play.client_sends(post(b"x" * 300000)[:-250000])
    play.origin.stall()
    play.client_sends(b"x" * 250000)
    play.pass_time(59)
    assert play.client_gets() == b""
    play.pass_time(2)
    assert statuses(play.client_gets()) == [504]
    assert play.selection.failures == [
        ("10.0.0.1:80", "the server did not take the request in time")
    ]


def test_send_timeout_holds_while_the_client_is_slow_too(play: Playbook) -> None:
    """A server that sends a reply but takes no request is given up, too."""
    play.client_sends(post(b"x" * 300000)[:-250000])
    play.origin.stall()
    play.client_sends(b"x" * 250000)
    play.client.stall()
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100000)
    assert play.client.congested
    play.pass_time(30)
    play.client.drain(1000)
    play.pass_time(31)
    assert play.origin.closed


def test_reply_flushed_during_the_next_connect_leaves_its_deadline(play: Playbook) -> None:
    """Sending the last bytes of one reply does not move the deadline of the next server."""
    play.client_sends(GET)
    play.client.stall()
    play.accepting = False
    play.origin_sends(reply(b"hi", "Connection: close"))
    play.client_sends(post(b"body")[:-1])
    assert play.origin.connecting
    play.client_drains()
    play.pass_time(3.5)
    assert statuses(play.client_gets()) == [200, 504]


# Time.


def test_server_that_does_not_accept(play: Playbook) -> None:
    """504 after ``timeout``, with nothing sent."""
    play.accepting = False
    play.client_sends(GET)
    play.pass_time(2.5)
    assert play.client_gets() == b""
    play.pass_time(1)
    assert statuses(play.client_gets()) == [504]
    assert play.origin.closed
    assert play.connection.is_idle


def test_server_that_does_not_reply(play: Playbook) -> None:
    """504 after ``read_timeout``, counted from the end of the request."""
    play.client_sends(post(b"body")[:-1])
    play.pass_time(50)
    play.client_sends(b"y")
    play.pass_time(59)
    assert play.client_gets() == b""
    play.pass_time(2)
    assert statuses(play.client_gets()) == [504]


def test_each_piece_of_a_reply_has_its_time(play: Playbook) -> None:
    """``read_timeout`` is the time between two reads; a longer pause within the reply breaks
    it off."""
    play.client_sends(GET)
    for byte in reply(b"hello")[:-1]:
        play.origin_sends(bytes([byte]))
        play.pass_time(20)
    play.pass_time(41)
    assert play.client.finished
    assert statuses(play.client_gets()) == [200]


def test_slow_upload_owes_no_reply(play: Playbook) -> None:
    """While the client's body arrives, the server may be silent for longer than
    ``read_timeout``."""
    play.client_sends(post(b"x" * 10)[:-10])
    for _ in range(10):
        play.pass_time(40)
        play.client_sends(b"x")
    assert not play.origin.closed
    play.origin_sends(OK)
    assert play.client_gets() == OK


# Texts and late calls.


def test_request_is_told_apart(play: Playbook) -> None:
    """The ``repr`` of an exchange and of its request can be read in a log."""
    play.client_sends(get("/x"))
    exchange = play.connection._exchange
    assert repr(exchange).startswith(
        "<Exchange <Request GET /x host=a.test> <Attempt on <Peer 10.0.0.1:80"
    )
    assert exchange.body_ended
    play.origin_sends(OK)
    assert play.selection.outcomes == [("10.0.0.1:80", False, 200)]


def test_no_server_at_all(play: Playbook) -> None:
    """The client gets 502, and the record has the upstream's reason."""
    play.selection.out.update(play.selection.peers)
    play.client_sends(GET)
    assert statuses(play.client_gets()) == [502]
    assert play.records[-1].error == "no servers available in upstream fake"
    assert play.host.exchanges == 0


def test_switch_to_what_was_asked_of_another_request(play: Playbook) -> None:
    """A complete 101 is refused if this request asked for no upgrade."""
    got = play.exchange(GET, SWITCHING)
    assert statuses(got) == [502]
    assert play.origin.closed


def test_small_body_on_its_way_is_no_lasting_pressure(play: Playbook) -> None:
    """When a slow server has taken the end of a request, its time to reply begins."""
    play.client_sends(post(b"body")[:-4])
    play.origin.stall()
    play.client_sends(b"body")
    assert play.origin.unsent
    play.pass_time(30)
    play.origin_drains()
    play.pass_time(59)
    assert not play.origin.closed
    play.pass_time(2)
    assert statuses(play.client_gets()) == [504]


def test_held_body_may_fill_a_new_connection(new_play: NewPlay) -> None:
    """A body that waited for the connection can be more than the connection takes: the client
    stays paused."""
    play = new_play(retry_buffer=1000)
    play.accepting = False
    play.client_sends(post(b"x" * 300000))
    play.origin.stall()
    play.accepting = True
    play.settle()
    assert play.origin.congested
    assert play.client.paused
    play.origin_drains()
    assert len(body_of(play.origin_gets())) == 300000
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_calls_that_come_too_late_are_harmless(play: Playbook) -> None:
    """A downstream may cancel, pause or resume an exchange that is over."""
    play.client_sends(GET)
    exchange, attempt = play.connection._exchange, play.origin.protocol
    play.origin_sends(OK)
    for one in (exchange, attempt):
        one.pause()
        one.resume()
    exchange.cancel()
    exchange.body(b"x")
    exchange.body_end([])
    exchange.tunnel_ended()
    attempt.write_body(b"x")
    attempt.body_complete()
    attempt.abandon()
    play.connection.reply_body(b"")
    assert play.client_gets() == OK
    assert play.origin_gets().endswith(b"\r\n\r\n")
    assert play.host.exchanges == 0
