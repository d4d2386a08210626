"""Whether and where a request is sent again, and when it must not be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slardar.http1.retry import CONNECT, ERROR, STATUS, TIMEOUT, may_retry
from slardar.testing.playbook import Playbook
from tests.http1.lines import (
    CHUNKED_OK,
    CONTINUE,
    GET,
    OK,
    body_of,
    post,
    post_chunked,
    reply,
    statuses,
)

NewPlay = Callable[..., Playbook]

ALL = frozenset((CONNECT, ERROR, TIMEOUT, STATUS))


# The rule.


@pytest.mark.parametrize("kind", [CONNECT, ERROR, TIMEOUT, STATUS])
def test_rule_of_kinds(kind: str) -> None:
    """A kind is retried if ``retry_on`` names it."""
    for retry_on in (frozenset((kind,)), frozenset()):
        allowed = may_retry(b"GET", kind, retry_on, sent=True, replayable=True, replied=False)
        assert allowed is bool(retry_on)


@pytest.mark.parametrize("verb", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
def test_rule_of_idempotent_methods(verb: bytes) -> None:
    """RFC 9110 9.2.2: these may be sent again."""
    assert may_retry(verb, ERROR, ALL, sent=True, replayable=True, replied=False)


@pytest.mark.parametrize("verb", [b"POST", b"PATCH", b"LOCK"])
def test_rule_of_other_methods(verb: bytes) -> None:
    """Other methods only if no byte was sent, or if the operator insists."""
    assert not may_retry(verb, ERROR, ALL, sent=True, replayable=True, replied=False)
    assert may_retry(verb, CONNECT, ALL, sent=False, replayable=True, replied=False)
    insisting = ALL | {"non_idempotent"}
    assert may_retry(verb, ERROR, insisting, sent=True, replayable=True, replied=False)


def test_rule_of_what_went_out() -> None:
    """Never after a byte of a reply, and never without the whole body."""
    assert not may_retry(b"GET", ERROR, ALL, sent=False, replayable=True, replied=True)
    assert not may_retry(b"PUT", ERROR, ALL, sent=False, replayable=False, replied=False)


def test_rule_of_statuses() -> None:
    """``http_503`` names one status; ``status`` names all that count as failures."""
    for status, allowed in ((503, True), (502, False)):
        assert (
            may_retry(
                b"GET",
                STATUS,
                {"http_503"},
                sent=True,
                replayable=True,
                replied=False,
                status=status,
            )
            is allowed
        )


# Attempts.


def test_refused_connection_moves_on(new_play: NewPlay) -> None:
    """The next server gets the request; the client notices nothing."""
    play = new_play(3)
    play.accepting = False
    play.client_sends(GET)
    play.origin_breaks()
    play.origin_breaks()
    play.accepting = True
    play.settle()
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert play.selection.outcomes == [
        ("10.0.0.1:80", True, 0),
        ("10.0.0.2:80", True, 0),
        ("10.0.0.3:80", False, 200),
    ]


def test_no_connection_can_be_opened_anywhere(new_play: NewPlay) -> None:
    """502 at once, however many servers there are (a loop, no recursion)."""
    play = new_play(3000)
    for peer in play.selection.peers:
        peer.pool.exhausted = True
    play.client_sends(GET)
    assert statuses(play.client_gets()) == [502]
    assert len(play.selection.failures) == 3000


def test_some_server_can_be_connected(new_play: NewPlay) -> None:
    """Servers to which no connection can be opened are passed over."""
    play = new_play(3)
    for peer in play.selection.peers[:2]:
        peer.pool.exhausted = True
    assert play.exchange(post(b"body"), OK) == OK


def test_tries_bound_the_attempts(new_play: NewPlay) -> None:
    """``try: 2`` means two servers; the client gets the second failure."""
    play = new_play(3)
    play.selection.tries = 2
    play.client_sends(GET)
    play.origin_ends()
    play.origin_ends()
    assert statuses(play.client_gets()) == [502]
    assert len(play.origins) == 2


def test_try_timeout_bounds_the_attempts(new_play: NewPlay) -> None:
    """No attempt starts after it; the one under way may go on."""
    play = new_play(3)
    play.selection.try_timeout = 5.0
    play.client_sends(GET)
    play.pass_time(4)
    play.origin_ends()
    assert len(play.origins) == 2
    play.pass_time(2)
    play.origin_ends()
    assert statuses(play.client_gets()) == [502]
    assert len(play.origins) == 2


def test_timeout_moves_on(new_play: NewPlay) -> None:
    """After a silent server the next one is tried."""
    play = new_play(2)
    play.client_sends(GET)
    play.pass_time(61)
    assert play.origins[0].closed
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_last_failure_is_what_the_client_hears(new_play: NewPlay) -> None:
    """A timeout is a 504 even if another attempt was allowed and no server was left."""
    play = new_play(2)
    play.selection.out.add(play.selection.peers[1])
    play.client_sends(GET)
    play.pass_time(61)
    assert statuses(play.client_gets()) == [504]
    assert "the server did not reply in time" in play.records[-1].error


def test_connect_timeout_moves_on_with_any_method(new_play: NewPlay) -> None:
    """No byte of the POST was sent, so it may be sent to another server."""
    play = new_play(2)
    play.accepting = False
    play.client_sends(post(b"body"))
    play.pass_time(3.5)
    assert len(play.origins) == 2
    play.accepting = True
    play.settle()
    assert body_of(play.origin_gets()) == b"body"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_post_is_sent_elsewhere_if_it_could_not_connect(new_play: NewPlay) -> None:
    """The part of the body that arrived meanwhile is sent in one piece."""
    play = new_play(2)
    play.accepting = False
    play.client_sends(post_chunked() + b"3\r\nabc\r\n")
    play.origin_breaks()
    play.client_sends(b"2\r\nde\r\n")
    play.accepting = True
    play.settle()
    assert body_of(play.origin_gets()) == b"3\r\nabc\r\n2\r\nde\r\n"
    play.client_sends(b"0\r\n\r\n")
    assert play.origin_gets() == b"0\r\n\r\n"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_post_that_was_sent_is_never_sent_again(new_play: NewPlay) -> None:
    """This holds for every failure afterwards."""
    for wrong in ("ends", "breaks", "late", "malformed", "status"):
        play = new_play(2)
        play.selection.failed_statuses = frozenset((503,))
        play.client_sends(post(b"body"))
        if wrong == "ends":
            play.origin_ends()
        elif wrong == "breaks":
            play.origin_breaks()
        elif wrong == "late":
            play.pass_time(61)
        elif wrong == "malformed":
            play.origin_sends(b"x\r\n\r\n")
        else:
            play.origin_sends(reply(b"", status="503 Service Unavailable"))
        assert len(play.origins) == 1, wrong
        assert statuses(play.client_gets())[0] in (502, 503, 504)
        assert len(play.selection.failures) == 1


def test_post_is_sent_again_if_the_operator_insists(new_play: NewPlay) -> None:
    """``retry_on: [..., non_idempotent]``."""
    play = new_play(2)
    play.selection.retry_on |= {"non_idempotent"}
    play.client_sends(post(b"body"))
    play.origin_ends()
    assert body_of(play.origin_gets()) == b"body"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_nothing_is_tried_again_behind_a_byte_of_the_reply(new_play: NewPlay) -> None:
    """The client has this byte, so no second reply may follow."""
    for part in (reply(b"hello")[:-2], CHUNKED_OK, b"HTTP/1.1 200 OK\r\n\r\n"):
        play = new_play(2)
        play.client_sends(GET)
        play.origin_sends(part)
        play.origin_breaks()
        assert len(play.origins) == 1
        assert statuses(play.client_gets()) == [200]
        assert play.client.finished


def test_malformed_first_chunk_may_be_tried_again(new_play: NewPlay) -> None:
    """No byte of this reply has gone out."""
    play = new_play(2)
    play.client_sends(GET)
    play.origin_sends(CHUNKED_OK + b"zz\r\n")
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_interim_reply_does_not_forbid_another_attempt(new_play: NewPlay) -> None:
    """A 100 is not the reply; the next server may send its own."""
    play = new_play(2)
    play.client_sends(post(b"body", "Expect: 100-continue", method="PUT"))
    play.origin_sends(CONTINUE)
    play.origin_ends()
    assert body_of(play.origin_gets()) == b"body"
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [100, 200]


# Bodies that were partly sent.


def test_half_sent_body_goes_to_the_next_server_whole(new_play: NewPlay) -> None:
    """The part that the first server got is sent again, and the rest follows."""
    play = new_play(2)
    play.client_sends(post(b"0123456789", method="PUT")[:-5])
    play.origin_ends()
    got = play.origin_gets()
    assert b"\r\nContent-Length: 10\r\n" in got
    assert body_of(got) == b"01234"
    play.client_sends(b"56789")
    assert play.origin_gets() == b"56789"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_half_sent_chunks_go_to_the_next_server_whole(new_play: NewPlay) -> None:
    """Each chunk is sent exactly once, in order, with one end."""
    play = new_play(2)
    play.client_sends(post_chunked(method="PUT") + b"3\r\nabc\r\n")
    play.client_sends(b"2\r\nde\r\n")
    play.origin_breaks()
    assert body_of(play.origin_gets()) == b"3\r\nabc\r\n2\r\nde\r\n"
    play.client_sends(b"1\r\nf\r\n0\r\nX-Sum: 6\r\n\r\n")
    assert play.origin_gets() == b"1\r\nf\r\n0\r\nX-Sum: 6\r\n\r\n"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_body_larger_than_the_buffer_is_not_sent_again(new_play: NewPlay) -> None:
    """At most ``limits.retry_buffer`` is kept of a body; one byte more is too much."""
    for size, attempts in ((1000, 2), (1001, 1)):
        play = new_play(2, retry_buffer=1000)
        play.client_sends(post(b"", method="PUT").replace(b"h: 0", b"h: %d" % size))
        play.client_sends(b"x" * size)
        play.origin_ends()
        assert len(play.origins) == attempts
        if attempts == 2:
            assert body_of(play.origin_gets()) == b"x" * size
            play.origin_sends(OK)
        assert statuses(play.client_gets()) == [200 if attempts == 2 else 502]


def test_lost_body_is_not_forgotten_where_writing_fails(new_play: NewPlay) -> None:
    """A connection that broke before it took a byte does not make a request without its body."""
    play = new_play(2, retry_buffer=1000)
    play.exchange(GET, OK)
    play.origins[0].broken = True
    play.origins[0].pump = lambda: False  # type: ignore[method-assign]
    play.client_sends(post(b"x" * 3000, method="PUT")[:-1500])
    play.client_sends(b"x" * 1500)
    play.origins[0].lose()
    play.settle()
    assert len(play.origins) == 1
    assert statuses(play.client_gets()) == [502]


# Statuses that count as failures.


def test_failed_status_moves_on(new_play: NewPlay) -> None:
    """With ``http_opts.statuses: {"503": false}`` the reply is dropped and another server
    tried."""
    play = new_play(2)
    play.selection.failed_statuses = frozenset((503,))
    assert play.exchange(GET, reply(b"sorry", status="503 Service Unavailable")) == b""
    assert play.origins[0].closed
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert play.selection.failures == [("10.0.0.1:80", "the server replied 503")]


def test_failed_status_of_the_last_server_is_passed_on(new_play: NewPlay) -> None:
    """A reply is better than none, even if another server is out of service."""
    for out in (False, True):
        play = new_play(2)
        play.selection.failed_statuses = frozenset((503,))
        if out:
            play.selection.out.add(play.selection.peers[1])
        play.client_sends(GET)
        for _ in range(1 if out else 2):
            play.origin_sends(reply(b"sorry", status="503 Service Unavailable"))
        got = play.client_gets()
        assert statuses(got) == [503]
        assert body_of(got) == b"sorry"
        assert len(play.selection.failures) == (1 if out else 2)
        assert play.selection.outcomes[-1][1:] == (True, 503)


def test_other_statuses_are_no_failures(play: Playbook) -> None:
    """A 500 that is not named passes, and counts as a reply."""
    play.selection.failed_statuses = frozenset((503,))
    assert statuses(play.exchange(GET, reply(b"", status="500 Internal Server Error"))) == [500]
    assert play.selection.failures == []


# Idle connections that were closed a moment ago.


def use_once(play: Playbook) -> None:
    """Make one request, which leaves an idle connection."""
    assert play.exchange(GET, OK) == OK


@pytest.mark.parametrize("way", ["ends", "breaks", "broken"])
def test_stale_connection_is_nobodys_failure(play: Playbook, way: str) -> None:
    """The same server gets the request over a new connection, and no failure is counted."""
    use_once(play)
    if way == "broken":
        play.origin.broken = True
    play.client_sends(GET)
    if way == "ends":
        play.origin_ends()
    else:
        play.origin_breaks()
    assert len(play.origins) == 2
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert play.selection.failures == []
    assert play.selection.peers[0].live.requests == 2
    assert play.selection.outcomes == [("10.0.0.1:80", False, 200)] * 2


def test_stale_connection_is_replaced_once(play: Playbook) -> None:
    """A server that also closes the new connection has failed."""
    use_once(play)
    play.client_sends(GET)
    play.origin_ends()
    play.origin_ends()
    assert statuses(play.client_gets()) == [502]
    assert len(play.origins) == 2
    assert len(play.selection.failures) == 1


def test_fresh_connection_that_ends_is_a_failure(play: Playbook) -> None:
    """A new connection is never stale."""
    play.client_sends(GET)
    play.origin_ends()
    assert len(play.origins) == 1
    assert statuses(play.client_gets()) == [502]


def test_stale_connection_gets_the_body_again(play: Playbook) -> None:
    """The new connection gets the part that was sent, and the rest."""
    use_once(play)
    play.client_sends(post(b"0123456789", method="PUT")[:-5])
    play.origin_ends()
    assert body_of(play.origin_gets()) == b"01234"
    play.client_sends(b"56789")
    assert play.origin_gets() == b"56789"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_post_looks_before_it_uses_an_idle_connection(play: Playbook) -> None:
    """An idle connection that has ended is not used, so no byte needs to be sent again."""
    use_once(play)
    play.origin.end()
    play.client_sends(post(b"body"))
    assert len(play.origins) == 2
    assert body_of(play.origin_gets()) == b"body"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_post_is_not_sent_again_over_a_fresh_connection(play: Playbook) -> None:
    """The server may have read it before it closed the connection."""
    use_once(play)
    play.client_sends(post(b"body"))
    play.origin_ends()
    assert len(play.origins) == 1
    assert statuses(play.client_gets()) == [502]


def test_post_of_which_nothing_went_out_is_sent_again(play: Playbook) -> None:
    """The kernel refused the first byte, so no server has seen it."""
    use_once(play)
    play.origin.broken = True
    play.origin.is_quiet = lambda: True  # type: ignore[method-assign]
    play.client_sends(post(b"body"))
    play.origin_breaks()
    assert len(play.origins) == 2
    assert body_of(play.origin_gets()) == b"body"
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_part_of_a_head_is_not_stale(play: Playbook) -> None:
    """The server was there, since it began to reply."""
    use_once(play)
    play.client_sends(GET)
    play.origin_sends(b"HTTP/1.1 ")
    play.origin_ends()
    assert len(play.origins) == 1
    assert statuses(play.client_gets()) == [502]


def test_connection_that_brought_a_100_is_not_stale(play: Playbook) -> None:
    """The server was there, and has seen the request."""
    use_once(play)
    play.client_sends(post(b"body", "Expect: 100-continue", method="PUT"))
    play.origin_sends(CONTINUE)
    play.origin_ends()
    assert len(play.origins) == 1
    assert statuses(play.client_gets()) == [100, 502]
    assert len(play.selection.failures) == 1


def test_stale_where_no_connection_can_be_opened(play: Playbook) -> None:
    """This is a failure, counted once."""
    use_once(play)
    play.selection.peers[0].pool.exhausted = True
    play.client_sends(GET)
    play.origin_ends()
    assert statuses(play.client_gets()) == [502]
    assert len(play.selection.failures) == 1


# Names with several addresses.


@pytest.mark.parametrize("way", ["refused", "silent"])
def test_other_addresses_of_a_name_are_tried_first(new_play: NewPlay, way: str) -> None:
    """They are one server: a dead address is no failure of the server."""
    play = new_play(2)
    play.selection.peers[0].pool.addresses = 2
    play.accepting = False
    play.client_sends(post(b"body"))
    if way == "refused":
        play.origin_breaks()
    else:
        play.pass_time(3.5)
    assert [origin.name for origin in play.origins] == ["10.0.0.1:80 #1", "10.0.0.1:80 #2"]
    play.accepting = True
    play.settle()
    assert body_of(play.origin_gets()) == b"body"
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert play.selection.failures == []


def test_all_addresses_of_a_name_are_dead(new_play: NewPlay) -> None:
    """This is one failure, and the next server is tried."""
    play = new_play(2)
    play.selection.peers[0].pool.addresses = 3
    play.accepting = False
    play.client_sends(GET)
    for _ in range(3):
        play.origin_breaks()
    assert play.origin.name == "10.0.0.2:80 #1"
    assert len(play.selection.failures) == 1
    play.accepting = True
    play.settle()
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_try_timeout_bounds_the_addresses_too(play: Playbook) -> None:
    """A name with many dead addresses does not hold a client for ever."""
    play.selection.peers[0].pool.addresses = 20
    play.selection.try_timeout = 5.0
    play.accepting = False
    play.client_sends(GET)
    play.pass_time(10)
    assert statuses(play.client_gets()) == [504]
    assert len(play.origins) == 2


def test_client_that_leaves_between_two_attempts(new_play: NewPlay) -> None:
    """Every counter goes back, whichever attempt it was."""
    play = new_play(3)
    play.client_sends(GET)
    play.origin_ends()
    play.client_leaves()
    assert [peer.live.active for peer in play.selection.peers] == [0, 0, 0]
    assert [peer.live.requests for peer in play.selection.peers] == [1, 1, 0]
    assert all(origin.closed for origin in play.origins)


def test_machine_without_descriptors_blames_no_server(play: Playbook) -> None:
    """If there is no descriptor to connect with, the client gets 503 at once, and no server's
    failure is counted."""
    pool = play.selection.peers[0].pool
    pool.exhausted, pool.shortage = True, "Too many open files"
    play.client_sends(GET)
    assert statuses(play.client_gets()) == [503]
    assert "Too many open files" in play.records[-1].error
    assert play.selection.peers[0].live.failures == 0


# The retry budget.


def test_retry_that_the_budget_does_not_allow(new_play: NewPlay) -> None:
    """The client gets the failure, as without retries; the record and the counter say so."""
    play = new_play(2)
    play.selection.share, play.selection.least = 0.0, 1.0
    for status in (200, 502):
        play.client_sends(GET)
        play.origin_ends()
        if status == 200:
            play.origin_sends(OK)
            play.selection.peers[1].pool.idle.clear()
            play.origins[-1].close()
        assert statuses(play.client_gets()) == [status]
    assert [record.budget_exhausted for record in play.records] == [False, True]
    assert (play.selection.budget.retries, play.selection.budget.exhausted) == (1, 1)
    play.pass_time(1.25)
    play.client_sends(GET)
    play.origin_ends()
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]


@pytest.mark.parametrize("fails", ["refused", "not begun", "not accepted", "stale"])
def test_what_no_server_has_begun_needs_no_budget(new_play: NewPlay, fails: str) -> None:
    """Connections that are not made, and idle ones that turn out to be closed."""
    play = new_play(2)
    play.selection.share = play.selection.least = 0.0
    if fails == "stale":
        play.exchange(GET, OK)
    play.accepting = fails == "stale"
    play.selection.peers[0].pool.exhausted = fails == "not begun"
    play.client_sends(GET)
    if fails == "refused":
        play.origin.lose("Connection refused")
    elif fails == "not accepted":
        play.pass_time(3.5)
    elif fails == "stale":
        play.origin_ends(0)
    play.accepting = True
    play.settle()
    play.origin_sends(OK)
    assert play.client_gets() == OK
    assert play.selection.budget.retries == play.selection.budget.exhausted == 0


def test_reply_that_is_kept_for_want_of_budget(new_play: NewPlay) -> None:
    """A failing status goes to the client if it may not be tried elsewhere."""
    play = new_play(2)
    play.selection.failed_statuses = frozenset((503,))
    play.selection.share = play.selection.least = 0.0
    assert statuses(play.exchange(GET, reply(b"no", status="503 Service Unavailable"))) == [503]
    assert len(play.origins) == 1
    assert play.selection.budget.exhausted == 1


def test_no_server_that_is_left_costs_no_budget(new_play: NewPlay) -> None:
    """Only a retry that begins counts."""
    play = new_play(2)
    play.selection.out.add(play.selection.peers[1])
    play.client_sends(GET)
    play.origin_ends()
    assert statuses(play.client_gets()) == [502]
    assert play.selection.budget.retries == 0


def test_each_request_counts_once(new_play: NewPlay) -> None:
    """A share of all requests may be retried; retries are no requests."""
    play = new_play(2)
    play.selection.share, play.selection.least = 1.0, 0.0
    for _ in range(5):
        play.client_sends(GET)
        play.origin_sends(reply(b"", status="200 OK"))
    assert play.selection.budget.recent(play.clock.now) == 5
