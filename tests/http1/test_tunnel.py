"""Tunnels: another protocol behind a 101, both ways, with pressure and ends."""

from __future__ import annotations

import pytest

from slardar.testing.playbook import Playbook
from tests.http1.lines import GET, OK, SWITCHING, UPGRADE, body_of, get, reply, statuses


def opened(play: Playbook) -> Playbook:
    """Open a tunnel, and check the bytes that opened it."""
    assert statuses(play.exchange(UPGRADE, SWITCHING)) == [101]
    play.origin_gets()
    return play


def test_upgrade_becomes_a_tunnel(play: Playbook) -> None:
    """The server gets the Upgrade, the client gets the 101, then bytes pass unread."""
    play.client_sends(UPGRADE)
    asked = play.origin_gets()
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in asked
    play.origin_sends(SWITCHING)
    assert play.client_gets() == SWITCHING
    play.client_sends(b"\x00GET / HTTP/1.1\r\n\r\n")
    assert play.origin_gets() == b"\x00GET / HTTP/1.1\r\n\r\n"
    play.origin_sends(b"\xff" * 100)
    assert play.client_gets() == b"\xff" * 100
    assert play.host.ends == 1
    assert len(play.host.tunnels) == 1
    assert repr(next(iter(play.host.tunnels))).startswith("<Tunnel ")


def test_bytes_behind_the_request_and_behind_the_101(play: Playbook) -> None:
    """Both belong to the tunnel, and arrive in order."""
    play.client_sends(UPGRADE + b"early")
    play.client_sends(b" bird")
    assert body_of(play.origin_gets()) == b""
    play.origin_sends(SWITCHING + b"worm")
    assert body_of(play.client_gets()) == b"worm"
    assert play.origin_gets() == b"early bird"


def test_server_that_does_not_switch(play: Playbook) -> None:
    """Its reply is a normal reply, and the client's next bytes are a request."""
    assert play.exchange(UPGRADE + GET, OK) == OK
    assert play.origin_gets().endswith(b"\r\n\r\n")
    play.origin_sends(OK)
    assert play.client_gets() == OK


def test_counters_hold_while_a_tunnel_is_open(play: Playbook) -> None:
    """A tunnel is a request under way, until both its sides have ended."""
    opened(play)
    live = play.selection.peers[0].live
    assert (play.host.exchanges, live.active) == (1, 1)
    play.client_ends()
    assert (play.host.exchanges, live.active) == (1, 1)
    play.origin_ends()
    assert (play.host.exchanges, live.active) == (0, 0)
    assert not play.host.tunnels
    assert play.selection.outcomes == [("10.0.0.1:80", False, 101)]


def test_half_close_by_the_client(play: Playbook) -> None:
    """The server gets the end, and may still send."""
    opened(play)
    play.client_sends(b"last words")
    play.client_ends()
    assert play.origin_gets() == b"last words"
    assert play.origin.finished
    assert not play.client.finished
    play.origin_sends(b"answer")
    assert play.client_gets() == b"answer"
    play.origin_ends()
    assert play.client.closed
    assert play.origin.closed


def test_half_close_by_the_server(play: Playbook) -> None:
    """The client gets the end, and may still send."""
    opened(play)
    play.origin_ends()
    assert play.client.finished
    play.client_sends(b"answer")
    assert play.origin_gets() == b"answer"
    play.client_ends()
    assert play.client.closed
    assert play.origin.closed


def test_client_that_ended_before_the_101(play: Playbook) -> None:
    """The end is passed on after the bytes before it."""
    play.client.deliver(UPGRADE + b"early")
    play.client_ends()
    play.origin_sends(SWITCHING)
    assert play.origin_gets().endswith(b"early")
    assert play.origin.finished
    play.origin_sends(b"answer")
    assert body_of(play.client_gets()) == b"answer"
    play.origin_ends()
    assert play.client.closed


@pytest.mark.parametrize("slow", ["client", "origin"])
def test_pressure(play: Playbook, slow: str) -> None:
    """A side that reads slowly slows the other, and no byte is lost or kept for long."""
    opened(play)
    taker = play.client if slow == "client" else play.origin
    giver = play.origin if slow == "client" else play.client
    data = bytes(range(256)) * 4000
    taker.stall()
    giver.deliver(data)
    play.settle()
    assert giver.paused
    assert taker.most_unsent <= 2 * 65536
    got = b""
    while giver.paused:
        taker.drain(30000)
        play.settle()
        got += taker.take()
    taker.drain()
    play.settle()
    assert got + taker.take() == data
    assert taker.deadline == 0.0


@pytest.mark.parametrize("slow", ["client", "origin"])
def test_side_that_takes_nothing_ends_the_tunnel(play: Playbook, slow: str) -> None:
    """The tunnel ends its send timeout after the last byte that it took."""
    opened(play)
    taker = play.client if slow == "client" else play.origin
    giver = play.origin if slow == "client" else play.client
    taker.stall()
    giver.deliver(b"x" * 200000)
    play.settle()
    assert giver.paused
    play.pass_time(50)
    taker.drain(1000)
    play.pass_time(50)
    assert not taker.closed
    play.pass_time(11)
    assert taker.closed
    # Its last bytes are read and dropped for a moment.
    play.pass_time(6)
    assert giver.closed
    assert play.host.exchanges == 0


def test_much_behind_the_101_counts_from_the_start(play: Playbook) -> None:
    """The client must take in time the bytes that came with the 101."""
    play.client.stall()
    play.client_sends(UPGRADE)
    play.origin.deliver(SWITCHING + b"x" * 65000)
    play.origin.deliver(b"x" * 65536)
    play.settle()
    assert play.client.congested
    assert play.origin.paused
    play.pass_time(61)
    assert play.client.closed


def test_silence_is_no_failure(play: Playbook) -> None:
    """A WebSocket may be silent for hours; both sides are probed instead."""
    opened(play)
    assert play.client.probed == play.origin.probed == 60
    play.pass_time(4000)
    play.client_sends(b"still here")
    assert play.origin_gets() == b"still here"


@pytest.mark.parametrize("who", ["client", "origin"])
def test_broken_side_ends_the_other_behind_its_bytes(play: Playbook, who: str) -> None:
    """Bytes on their way to the other side still arrive."""
    opened(play)
    other = play.origin if who == "client" else play.client
    broken = play.client if who == "client" else play.origin
    other.stall()
    broken.deliver(b"last words")
    play.settle()
    broken.lose()
    assert broken.closed
    assert not other.closed
    assert play.host.exchanges == 1
    other.drain()
    assert other.take() == b"last words"
    assert other.closed
    assert play.host.exchanges == 0


@pytest.mark.parametrize("who", ["client", "origin"])
@pytest.mark.parametrize("end", ["in order", "too late"])
def test_side_that_goes_on_speaking_gets_all_first(play: Playbook, who: str, end: str) -> None:
    """No reset destroys bytes on their way to it: its own bytes are read and dropped until it
    ends, for a few seconds."""
    opened(play)
    other = play.origin if who == "client" else play.client
    broken = play.client if who == "client" else play.origin
    other.acknowledged = False
    broken.deliver(b"last words")
    play.settle()
    broken.lose()
    assert other.take() == b"last words"
    assert other.finished
    assert not other.closed
    other.deliver(b"are you there?")
    play.pass_time(4)
    assert not other.closed
    assert play.host.exchanges == 1
    if end == "in order":
        other.end()
        play.settle()
    else:
        play.pass_time(2)
    assert other.closed
    assert play.host.exchanges == 0


def test_tunnel_behind_a_pipelined_reply(play: Playbook) -> None:
    """An upgrade may be the second request of a connection."""
    play.client_sends(get("/1") + UPGRADE + b"early")
    play.origin_sends(reply(b"one"))
    play.origin_gets()
    play.origin_sends(SWITCHING)
    assert statuses(play.client_gets()) == [200, 101]
    assert play.origin_gets() == b"early"


def test_closing_a_tunnel_twice(play: Playbook) -> None:
    """The data plane closes tunnels when its drain time is over; a second call does nothing."""
    opened(play)
    tunnel = next(iter(play.host.tunnels))
    tunnel.close()
    tunnel.close()
    assert play.client.closed
    assert play.origin.closed
    assert play.host.exchanges == 0
