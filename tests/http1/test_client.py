"""A client's connection: the requests in its bytes, and the order of their replies."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import pytest

from slardar.http1.client import ClientConnection
from slardar.http1.interfaces import HooksBase
from slardar.http1.request import Request
from slardar.model.listener import ListenerSpec
from slardar.testing.playbook import Playbook
from tests.http1.lines import (
    CONTINUE,
    GET,
    GET_10,
    GET_10_KEPT,
    OK,
    SWITCHING,
    UPGRADE,
    body_of,
    get,
    paths,
    post,
    reply,
    statuses,
)

NewPlay = Callable[..., Playbook]


# Keep-alive and pipelining.


def test_connection_is_kept_for_the_next_request(play: Playbook) -> None:
    """A second request uses the client's and the server's connection again."""
    for _ in range(3):
        play.client_sends(GET)
        assert play.origin_gets().startswith(b"GET / HTTP/1.1\r\nHost: a.test\r\n")
        play.origin_sends(OK)
        assert play.client_gets() == OK
        play.check()
    assert len(play.origins) == 1
    assert not play.client.closed


def test_request_has_the_scheme_of_its_listener(play: Playbook) -> None:
    """Every request of a connection; servers are told."""
    secure = ListenerSpec("tls:443", "tcp:443", tls=True)
    connection = play.connection = ClientConnection(play.host, b"192.0.2.7", secure)
    play.client.protocol = connection
    connection.attach(play.client)
    assert connection.listener is secure
    for _ in range(2):
        play.client_sends(GET)
        assert b"\r\nX-Forwarded-Proto: https\r\n" in play.origin_gets()
        play.origin_sends(OK)


def test_request_arriving_bytewise(play: Playbook) -> None:
    """A head may arrive byte by byte, also after another one."""
    for _ in range(2):
        play.client_sends_bytewise(GET)
        assert paths(play.origin_gets()) == [b"/"]
        play.origin_sends(OK)
        assert play.client_gets() == OK


@pytest.mark.alone
def test_head_in_small_pieces_costs_by_its_bytes(new_play: NewPlay) -> None:
    """A head that is eight times as long takes about eight times the time, not sixty-four."""
    times = []
    for lines in (64, 512):
        head = get("/", *(f"X-{n}: " + "x" * 1000 for n in range(lines)))
        play = new_play(max_head=1 << 20, max_headers=1000)
        began = process_time()
        for at in range(0, len(head), 16):
            play.client_sends(head[at : at + 16])
        times.append(process_time() - began)
        assert len(play.host.began) == 1
    assert times[1] < 24 * times[0]


def test_body_arriving_bytewise_is_followed_by_a_request(play: Playbook) -> None:
    """The end of a body is found wherever the bytes are cut."""
    play.client_sends_bytewise(post(b"body") + GET)
    assert play.origin_gets().endswith(b"\r\n\r\nbody")
    play.origin_sends(OK)
    assert paths(play.origin_gets()) == [b"/"]
    play.origin_sends(OK)
    assert play.client_gets() == OK + OK


def test_pipelined_requests_are_answered_in_order(play: Playbook) -> None:
    """Many requests in one segment reach the server one after the other."""
    play.client_sends(b"".join(get(f"/{n}") for n in range(50)))
    for n in range(50):
        assert paths(play.origin_gets()) == [b"/%d" % n]
        play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % n)
        assert body_of(play.client_gets()) == b"%02d" % n


def test_request_behind_an_unanswered_one_waits(play: Playbook) -> None:
    """No byte of the second request goes out before the first reply is complete."""
    play.client_sends(get("/1"))
    play.client_sends(get("/2"))
    assert paths(play.origin_gets()) == [b"/1"]
    play.origin_sends(OK[:-1])
    assert play.origin_gets() == b""
    play.origin_sends(OK[-1:])
    assert paths(play.origin_gets()) == [b"/2"]


def test_request_pipelined_behind_a_body(play: Playbook) -> None:
    """The bytes after a body are the next request, never a part of the body."""
    play.client_sends(post(b"x" * 10) + get("/next"))
    assert body_of(play.origin_gets()) == b"x" * 10
    play.origin_sends(OK)
    assert paths(play.origin_gets()) == [b"/next"]


def test_thousands_of_pipelined_refusals(new_play: NewPlay) -> None:
    """Requests that are all refused at once are answered one by one, without recursion."""
    play = new_play(servers=0)
    play.client_sends(GET * 5000)
    replies = b""
    while got := play.client_gets():
        replies += got
        play.settle()
    assert statuses(replies) == [502] * 5000
    assert not play.client.paused


def test_client_that_reads_ahead_too_far_has_to_wait(play: Playbook) -> None:
    """Past 16 KiB of pipelined requests the client is paused, and later read again."""
    play.client_sends(GET)
    for _ in range(40):
        play.client_sends(GET * 20)
    assert play.client.paused
    for _ in range(801):
        play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200] * 801
    assert not play.client.paused
    assert play.connection.is_idle


def test_paused_client_is_read_again_though_nothing_is_left_of_it(play: Playbook) -> None:
    """A single large head that was read ahead does not leave its client paused for ever."""
    play.client_sends(GET)
    play.client_sends(get("/large", "X-Large: " + "x" * 20000))
    assert play.client.paused
    play.origin_sends(OK)
    assert not play.client.paused
    play.origin_sends(OK)
    assert statuses(play.exchange(GET, OK)) == [200, 200, 200]


def test_paused_client_is_read_again_behind_refusals(play: Playbook) -> None:
    """The client is also read again if the requests that were read ahead are refused at once."""
    play.client_sends(GET)
    play.client_sends(GET * 600)
    assert play.client.paused
    play.host.selection = None
    play.origin_sends(OK)
    assert not play.client.paused
    assert play.connection.is_idle


@pytest.mark.parametrize("servers", [0, 1])
def test_client_that_takes_no_replies_gets_no_further_ones(new_play: NewPlay, servers: int) -> None:
    """The bytes that wait for one client stay bounded, however many requests it pipelines."""
    play = new_play(servers)
    play.client.stall()
    for _ in range(50):
        play.client_sends(GET * 100)
        while servers and paths(play.origin_gets()):
            play.origin_sends(reply(b"x" * 1000))
    assert play.client.paused
    assert 65536 < play.client.most_unsent < 70000
    begun = len(play.host.began)
    assert begun < 500
    play.client_drains()
    assert len(play.host.began) == (begun + 1 if servers else 5000)


def test_large_reply_to_a_client_that_pipelines_and_does_not_read(play: Playbook) -> None:
    """The next request begins when the client has taken the reply before it."""
    play.client.stall()
    play.client_sends(get("/1") + get("/2"))
    assert paths(play.origin_gets()) == [b"/1"]
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000)
    assert play.client.unsent
    while play.origin.paused:
        play.client_drains(30000)
    assert play.origin_gets() == b""
    assert not play.connection.is_idle
    play.client_drains()
    assert paths(play.origin_gets()) == [b"/2"]
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200, 200]


def test_blank_lines_before_a_request_are_skipped(play: Playbook) -> None:
    """RFC 9112 2.2, also between requests and in pieces."""
    play.client_sends(b"\r\n\r\n" + GET)
    play.origin_sends(OK)
    play.client_sends(b"\r\n")
    assert play.connection.is_idle
    assert play.exchange(b"\r\n" + GET, OK) == OK + OK


# How connections end.


def test_close_is_answered_and_the_connection_closed(play: Playbook) -> None:
    """``Connection: close`` ends the connection after the reply."""
    assert b"\r\nConnection: close\r\n" in play.exchange(get("/", "Connection: close"), OK)
    assert play.client.closed


def test_bytes_behind_a_last_request_are_dropped(play: Playbook) -> None:
    """They are read, so that no reset destroys the reply, and never served."""
    play.client_sends(get("/", "Connection: close") + get("/never"))
    play.origin_gets()
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]
    assert play.client.finished
    assert not play.client.closed
    play.client_sends(get("/never"))
    assert play.origin_gets() == b""
    assert len(play.host.began) == 1
    play.client_ends()
    assert play.client.closed


def test_http_1_0_closes_unless_asked(play: Playbook) -> None:
    """Silence means close in 1.0; a kept connection is confirmed."""
    assert b"\r\nConnection: keep-alive\r\n" in play.exchange(GET_10_KEPT, OK)
    assert b"\r\nConnection: close\r\n" in play.exchange(GET_10, OK)
    assert play.client.closed


def test_idle_connection_is_closed_without_a_word(play: Playbook) -> None:
    """It is closed after ``timeouts.keepalive``, and not before."""
    play.exchange(GET, OK)
    play.pass_time(74)
    assert not play.client.closed
    play.pass_time(2)
    assert play.client.closed
    assert play.client_gets() == b""


def test_silent_newcomer_is_closed(play: Playbook) -> None:
    """A first head must arrive within ``timeouts.client_header``; blank lines do not count."""
    play.pass_time(9)
    play.client_sends(b"\r\n")
    assert not play.client.closed
    play.pass_time(2)
    assert play.client.closed


def test_slow_head_is_refused(play: Playbook) -> None:
    """408 comes ``timeouts.client_header`` after the first byte, however slowly bytes arrive."""
    for byte in GET[:11]:
        play.client_sends(bytes([byte]))
        play.pass_time(1)
    assert statuses(play.client_gets()) == [408]
    play.pass_time(6)
    assert play.client.closed


def test_slow_body_is_refused(play: Playbook) -> None:
    """408 comes if no byte of the body has arrived for ``timeouts.client_body``."""
    play.client_sends(post(b"body")[:-2])
    play.pass_time(59)
    play.client_sends(b"d")
    play.pass_time(59)
    assert play.client_gets() == b""
    play.pass_time(2)
    assert statuses(play.client_gets()) == [408]
    assert play.origin.closed


def test_client_that_takes_nothing_is_given_up(play: Playbook) -> None:
    """``timeouts.send`` after the last byte that it took, the client's and the server's
    channels are closed."""
    play.client.stall()
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 200000)
    assert play.origin.paused
    play.pass_time(50)
    play.client_drains(20000)
    play.pass_time(50)
    assert not play.client.closed
    play.pass_time(11)
    assert play.client.closed
    assert play.origin.closed


def test_client_that_takes_nothing_of_a_complete_reply_is_given_up(play: Playbook) -> None:
    """``timeouts.send`` also holds when the server has sent everything."""
    play.client.stall()
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000)
    play.client_sends(get("/2"))
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30000)
    assert play.client.congested
    play.pass_time(61)
    assert play.client.closed


def test_client_that_leaves_takes_its_request_along(play: Playbook) -> None:
    """The server's channel is closed at once, not kept."""
    play.client_sends(GET)
    assert play.host.exchanges == 1
    play.client_leaves()
    assert play.host.exchanges == 0
    assert play.origin.closed
    assert play.selection.outcomes == [("10.0.0.1:80", False, 0)]
    assert play.selection.failures == []


def test_client_that_leaves_while_the_server_is_being_connected(play: Playbook) -> None:
    """The attempt to connect is given up."""
    play.accepting = False
    play.client_sends(GET)
    play.client_leaves()
    assert play.origin.closed


def test_half_closed_client_gets_its_reply(play: Playbook) -> None:
    """Its connection is probed meanwhile, because the client may be gone."""
    play.client_sends(GET)
    play.client_ends()
    assert play.client.probed == 1
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert play.client.closed


@pytest.mark.parametrize("upgrade", [False, True])
def test_half_closed_client_that_waits_long_gets_its_reply_whole(
    play: Playbook, upgrade: bool
) -> None:
    """It gets the first bytes of any reply one by one, to see whether it is there; the reply
    of any kind goes on after these bytes."""
    play.client.deliver(UPGRADE if upgrade else GET)
    play.client_ends()
    play.pass_time(20)
    early = play.client_gets()
    assert early == b"HTTP"
    if upgrade:
        play.origin_sends(SWITCHING)
        assert early + play.client_gets() == SWITCHING
        return
    play.origin_sends(CONTINUE)
    assert early + play.client_gets() == CONTINUE
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_half_closed_client_is_looked_after_at_each_request(play: Playbook) -> None:
    """The first bytes are also sent for pipelined requests, and never more bytes than all
    replies have in common."""
    play.client.deliver(GET * 2)
    play.client_ends()
    play.origin_sends(OK)
    assert play.client_gets() == OK
    play.selection.read_timeout = 5000.0
    play.origin_sends(CONTINUE)
    assert play.client_gets() == CONTINUE
    play.pass_time(2000)
    early = play.client_gets()
    assert early == b"HTTP/1.1 "
    play.origin_sends(OK)
    assert early + play.client_gets() == OK
    assert play.client.closed


def test_half_closed_client_of_a_silent_server(play: Playbook) -> None:
    """The error reply is whole, too."""
    play.client_sends(GET)
    play.client_ends()
    play.pass_time(61)
    got = play.client_gets()
    assert got.startswith(b"HTTP/1.1 504 ")
    assert statuses(got) == [504]


def test_half_closed_client_that_waits_at_the_end(play: Playbook) -> None:
    """A plane that stops before the reply does not let its first bytes pass for a reply."""
    play.client_sends(GET)
    play.client_ends()
    play.pass_time(4)
    assert play.client_gets() == b"HT"
    play.connection.close()
    assert play.client.aborted


def test_idle_client_that_has_not_taken_its_reply_gets_all_of_it(new_play: NewPlay) -> None:
    """The end of ``timeouts.keepalive`` does not cut off bytes that are still on their way."""
    play = new_play(keepalive_timeout=2.0)
    play.client_sends(GET)
    play.client.stall()
    play.origin_sends(reply(b"x" * 10_000))
    play.pass_time(30)
    assert not play.client.closed
    play.client_drains()
    assert body_of(play.client_gets()) == b"x" * 10_000
    assert play.client.closed
    assert not play.client.aborted


def test_client_that_half_closes_within_its_reply_gets_the_rest(play: Playbook) -> None:
    """It gets the rest however long that takes: a reply that has begun needs no probing bytes."""
    play.client_sends(GET)
    play.origin_sends(OK[:-1])
    play.client_ends()
    play.pass_time(30)
    play.origin_sends(OK[-1:])
    assert play.client_gets() == OK
    assert play.client.closed


def test_half_closed_client_gets_all_its_pipelined_replies(play: Playbook) -> None:
    """Requests that were sent before the end are served."""
    play.client.deliver(GET * 3 + post(b"body"))
    play.client_ends()
    for _ in range(4):
        play.origin_sends(OK)
    assert play.client_gets() == OK * 4
    assert play.client.closed


@pytest.mark.parametrize("rest", [GET[:20], post(b"body")[:-1]])
def test_what_a_half_closed_client_left_unfinished_is_refused(play: Playbook, rest: bytes) -> None:
    """An incomplete request is refused at once, since its rest cannot arrive."""
    play.client.deliver(GET + rest)
    play.client_ends()
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200, 400]
    assert play.client.closed


@pytest.mark.parametrize("rest", [GET[:20], post(b"body")[:-1]])
def test_end_within_a_request_is_refused(play: Playbook, rest: bytes) -> None:
    """The client gets 400, and the server gets no more of the request."""
    play.client_sends(rest)
    play.client_ends()
    assert statuses(play.client_gets()) == [400]
    assert play.client.closed
    assert all(origin.closed for origin in play.origins)


def test_end_without_a_request_closes(play: Playbook) -> None:
    """Without a request there is no reply."""
    play.client_ends()
    assert play.client.closed
    assert play.client_gets() == b""


# Limits.


def test_too_long_target(new_play: NewPlay) -> None:
    """414, even before the line has ended."""
    for data in (get("/" + "x" * 9000), b"GET /" + b"x" * 40000):
        play = new_play()
        play.client_sends(data)
        assert statuses(play.client_gets()) == [414]
        assert play.client.finished


def test_too_large_head(new_play: NewPlay) -> None:
    """431, at the latest when ``limits.head`` bytes have arrived without an end."""
    whole = get("/", *(f"X-{n}: " + "x" * 1000 for n in range(40)))
    for data in (whole, whole[:-2]):
        play = new_play()
        play.client_sends(data)
        assert statuses(play.client_gets()) == [431]


def test_too_many_headers(play: Playbook) -> None:
    """431 past ``limits.headers``."""
    play.client_sends(get("/", *(f"X-{n}: x" for n in range(101))))
    assert statuses(play.client_gets()) == [431]


def test_too_large_body_is_refused_before_it_is_sent(new_play: NewPlay) -> None:
    """413 by the length alone; no byte goes to a server, and the rest is dropped."""
    play = new_play(max_body=10)
    play.client_sends(post(b"x" * 11) + GET)
    assert statuses(play.client_gets()) == [413]
    assert play.host.began == []
    assert play.client.finished
    play.client_sends(GET)
    assert play.host.began == []


def test_too_large_pipelined_body(new_play: NewPlay) -> None:
    """A request before it gets its reply, then comes the 413 and the end."""
    play = new_play(max_body=10)
    assert statuses(play.exchange(GET + post(b"x" * 11) + GET, OK)) == [200, 413]
    assert len(play.host.began) == 1


def test_body_of_the_largest_size_passes(new_play: NewPlay) -> None:
    """The limit itself is allowed."""
    play = new_play(max_body=10)
    assert statuses(play.exchange(post(b"x" * 10), OK)) == [200]


def test_lingering_ends(new_play: NewPlay) -> None:
    """A refused body is read over until nothing has come for ``timeouts.linger``, or more
    than ``limits.linger`` has."""
    play = new_play(max_body=10)
    play.client_sends(post(b"x" * 11))
    for _ in range(5):
        play.client_sends(b"x" * 1000)
        play.pass_time(4)
        assert not play.client.closed
    play.pass_time(2)
    assert play.client.closed
    play = new_play(max_body=10, max_linger=1_100_000)
    play.client_sends(post(b"x" * 11))
    play.client_sends(b"x" * 1_000_000)
    assert not play.client.closed
    play.client_sends(b"x" * 100_001)
    assert play.client.closed


@pytest.mark.parametrize(("rate", "ends"), [(1, True), (6000, True), (10000, False)])
def test_client_that_sends_slowly_behind_its_reply(
    new_play: NewPlay, rate: int, ends: bool
) -> None:
    """After six times ``timeouts.linger`` in all, only 8 KiB/s or more keep it connected."""
    play = new_play(max_body=10)
    play.client_sends(post(b"x" * 11))
    play.pass_time(1)
    for _ in range(25):
        play.client_sends(b"x" * rate)
        play.pass_time(1)
        assert not play.client.closed
    for _ in range(200):
        if not play.client.closed:
            play.client_sends(b"x" * rate)
            play.pass_time(1)
    assert play.client.closed is ends


def test_lingering_leaves_a_slow_reader_its_time(new_play: NewPlay) -> None:
    """What comes while the reply is still being sent neither cuts it short nor keeps it
    waiting: the client has ``timeouts.send`` to take some of it."""
    play = new_play(max_body=10, max_linger=1000)
    play.client.stall()
    play.client_sends(post(b"x" * 11))
    for _ in range(20):
        play.client_sends(b"x" * 1000)
        play.pass_time(2)
    assert not play.client.closed
    play.client_drains()
    assert statuses(play.client_gets()) == [413]
    assert play.client.finished
    play.pass_time(6)
    assert play.client.closed
    play = new_play(max_body=10)
    play.client.stall()
    play.client_sends(post(b"x" * 11))
    for _ in range(20):
        play.client_sends(b"x")
        play.pass_time(3.1)
    assert play.client.closed


def test_no_lingering(new_play: NewPlay) -> None:
    """With ``timeouts.linger: 0`` the connection closes at once."""
    play = new_play(max_body=10, linger_timeout=0.0)
    play.client_sends(post(b"x" * 11))
    assert statuses(play.client_gets()) == [413]
    play.pass_time(0.5)
    assert play.client.closed


def test_last_reply_to_a_slow_client_is_not_cut_short(play: Playbook) -> None:
    """Lingering begins only when every byte is sent, however slowly the client takes them."""
    play.client_sends(GET)
    play.host.draining = True
    play.client.stall()
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000)
    play.pass_time(30)
    assert not play.client.closed
    play.client_drains()
    assert len(body_of(play.client_gets())) == 50000
    play.pass_time(3)
    assert play.client.closed


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"GET / HTTP/7.0\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nBad Header: x\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nExpect: magic\r\n\r\n", 417),
    ],
)
def test_what_is_no_request_is_refused_at_once(play: Playbook, data: bytes, status: int) -> None:
    """Bytes that cannot be a request are refused even if their head never ends."""
    play.client_sends(data)
    assert statuses(play.client_gets()) == [status]
    assert play.client.finished
    assert play.origins == []


# Slardar's own replies.


def test_error_is_json_or_html(new_play: NewPlay) -> None:
    """``Accept`` decides; the connection is kept, because the client made no mistake."""
    play = new_play(servers=0)
    play.client_sends(GET)
    got = play.client_gets()
    assert b"\r\nContent-Type: application/json\r\n" in got
    assert body_of(got) == b'{"status": 502, "msg": "the request could not be passed on"}\n'
    play.client_sends(get("/", "Accept: text/html,*/*"))
    got = play.client_gets()
    assert b"\r\nContent-Type: text/html" in got
    assert b"<h1>502 Bad Gateway</h1>" in got
    assert not play.client.closed
    assert play.host.refused_with == [502, 502]


def test_error_to_head_has_no_body(new_play: NewPlay) -> None:
    """The head has the length all the same, and the next request is understood."""
    play = new_play(servers=0)
    play.client_sends(b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n" + GET)
    head, _, rest = play.client_gets().partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert rest.startswith(b"HTTP/1.1 502 ")


def test_refused_request_with_a_body_ends_the_connection(new_play: NewPlay) -> None:
    """The rest of its body is never taken for a request."""
    play = new_play(servers=0)
    play.client_sends(post(b"x" * 100)[:-50])
    got = play.client_gets()
    assert statuses(got) == [502]
    assert b"\r\nConnection: close\r\n" in got
    play.client_sends(GET)
    assert play.client_gets() == b""
    assert len(play.host.began) == 1


def test_draining_says_close(play: Playbook) -> None:
    """A reply under way is completed with ``Connection: close``."""
    play.client_sends(GET)
    play.host.draining = True
    play.origin_sends(OK)
    got = play.client_gets()
    assert b"\r\nConnection: close\r\n" in got
    assert got.endswith(b"hi")
    assert play.client.finished


def test_idle_means_that_nothing_is_left_to_do(play: Playbook) -> None:
    """A connection with an unfinished head or an unsent reply is not idle."""
    assert play.connection.is_idle
    play.client_sends(GET[:5])
    assert not play.connection.is_idle
    play.client_sends(GET[5:])
    assert not play.connection.is_idle
    play.client.stall()
    play.origin_sends(OK)
    assert not play.connection.is_idle
    play.client_drains()
    assert play.connection.is_idle
    assert "state=0" in repr(play.connection)


def test_closing_a_conversation_cancels_its_request(play: Playbook) -> None:
    """The data plane closes connections when its drain time is over; a second call does
    nothing."""
    play.client_sends(GET)
    play.connection.close()
    play.connection.close()
    assert play.client.closed
    assert play.origin.closed
    assert play.host.exchanges == 0


def test_client_that_takes_almost_everything_is_given_up_too(play: Playbook) -> None:
    """``timeouts.send`` also runs below the mark from which the server is slowed."""
    play.client.stall()
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 30000)
    play.client_drains(10)
    play.pass_time(59)
    assert not play.client.closed
    play.pass_time(2)
    assert play.client.closed
    assert play.origin.closed


def test_reply_flushed_within_a_head_leaves_that_its_time(play: Playbook) -> None:
    """A head that has begun keeps its deadline, whatever happens to the reply before it."""
    play.client_sends(GET)
    play.client.stall()
    play.origin_sends(OK)
    play.client_sends(GET[:10])
    play.client_drains(5)
    play.client_drains()
    play.pass_time(11)
    assert statuses(play.client_gets()) == [200, 408]


def test_method_arriving_bytewise(play: Playbook) -> None:
    """slardar waits for a method that may still become a known one."""
    play.client_sends_bytewise(b"PROPFIND / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    play.origin_sends(OK)
    play.client_sends_bytewise(b"PROPER / HTTP/1.1\r\n")
    assert statuses(play.client_gets()) == [200, 501]


# CAs that ask by HTTP-01.

CHALLENGE = "/.well-known/acme-challenge/token"


@pytest.mark.parametrize("draining", [False, True])
def test_challenge_is_answered_before_hooks_and_routes(play: Playbook, draining: bool) -> None:
    """Whatever the Host, also without an upstream for it, and while the plane drains."""
    play.host.challenges = {CHALLENGE.encode(): b"token.thumb"}
    play.host.hooks = NoHooks()
    play.host.draining = draining
    for method, body in (("GET", b"token.thumb"), ("HEAD", b"")):
        play.client_sends(f"{method} {CHALLENGE} HTTP/1.1\r\nHost: no.test\r\n\r\n".encode())
        got = play.client_gets()
        assert statuses(got) == [200]
        assert got.endswith(b"\r\n\r\n" + body)
        assert b"\r\nContent-Length: 11\r\n" in got
        if draining:
            break
    assert play.origins == []
    play.host.draining = False
    play.check()


@pytest.mark.parametrize("path", [f"{CHALLENGE}2", f"{CHALLENGE}/", f"{CHALLENGE}?", "/token"])
def test_unknown_challenge_goes_its_usual_way(play: Playbook, path: str) -> None:
    """It may be one of a server's own client of ACME."""
    play.host.challenges = {CHALLENGE.encode(): b"token.thumb"}
    play.client_sends(get(path))
    assert paths(play.origin_gets()) == [path.encode()]


def test_challenge_is_only_read(play: Playbook) -> None:
    """Other methods reach no server either."""
    play.host.challenges = {CHALLENGE.encode(): b"token.thumb"}
    play.client_sends(f"DELETE {CHALLENGE} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
    assert statuses(play.client_gets()) == [405]
    assert play.origins == []


class NoHooks(HooksBase):
    """Hooks that must not be asked."""

    def sees(self, request: Request) -> bool:
        raise AssertionError(request.host)
