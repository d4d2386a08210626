"""The link: messages of any size, in order, each with its answer."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.protocols import amp

from slardar.workers.commands import PIECE, Last, Link, Piece
from tests.workers.kit import MemoryTransport, connect, deliver, failure_of, result_of


class Side:
    """A link that keeps messages and answers with their length."""

    def __init__(self, max_message: int | None = None) -> None:
        self.messages: list[bytes] = []
        self.losses = 0
        self.link = Link(self.received, self.lost, max_message)

    def received(self, message: bytes) -> Any:
        self.messages.append(message)
        return str(len(message)).encode()

    def lost(self) -> None:
        self.losses += 1


def pair(max_message: int | None = None) -> tuple[Side, Side, Any]:
    """Two sides, and a function that lets them exchange written bytes."""
    one, other = Side(), Side(max_message)
    ends = connect(one.link, other.link)
    return one, other, lambda: deliver(*ends)


@pytest.mark.parametrize(
    "size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 65_535, 65_536, 2 * PIECE, 1_000_003]
)
def test_message_of_any_size_comes_whole(size: int) -> None:
    """AMP's limit of 65,535 bytes is no limit for a message."""
    one, other, exchange = pair()
    message = bytes(n % 251 for n in range(size))
    answer = one.link.send(message)
    exchange()
    assert other.messages == [message]
    assert result_of(answer) == str(size).encode()


def test_amp_itself_takes_no_such_value() -> None:
    """This is why messages are sent in pieces."""
    one, _, _ = pair()
    with pytest.raises(amp.TooLong):
        one.link.callRemote(Last, data=b"x" * 65_536)


def test_messages_sent_at_once_do_not_mix() -> None:
    """This holds in both directions; each message gets its own answer."""
    one, other, exchange = pair()
    sizes = (200_000, 5, 130_000, 0)
    answers = [one.link.send(bytes([65 + n]) * size) for n, size in enumerate(sizes)]
    answers += [other.link.send(bytes([97 + n]) * size) for n, size in enumerate(sizes)]
    exchange()
    assert [len(message) for message in other.messages] == list(sizes)
    assert all(len(set(message)) <= 1 for message in other.messages + one.messages)
    assert [result_of(answer) for answer in answers] == [b"%d" % size for size in sizes] * 2


def test_answer_may_take_its_time() -> None:
    """A later message may be answered first."""
    waiting: Deferred[bytes] = Deferred()
    one = Side()
    other = Link(lambda message: waiting if message == b"slow" else b"now", lambda: None)
    ends = connect(one.link, other)
    slow, fast = one.link.send(b"slow"), one.link.send(b"fast")
    deliver(*ends)
    assert result_of(fast) == b"now"
    assert not slow.called
    waiting.callback(b"then")
    deliver(*ends)
    assert result_of(slow) == b"then"


def test_lost_link_fails_what_waits_and_what_comes() -> None:
    """No caller waits for ever, and the loss is reported once."""
    one, other, exchange = pair()
    answer = one.link.send(b"x")
    other.link.close()
    exchange()
    assert failure_of(answer)
    assert isinstance(failure_of(one.link.send(b"y" * 200_000)), ConnectionError)
    assert (one.losses, other.losses) == (1, 1)
    one.link.close()
    one.link.finish()
    assert one.losses == 1


def test_finish_sends_what_is_to_be_sent() -> None:
    """``close`` does not."""
    one, other, _ = pair()
    one.link.send(b"last words").addErrback(lambda _lost: None)
    one.link.finish()
    assert other.messages == [b"last words"]
    assert other.losses == 1


class Hostile:
    """A side that may write any bytes."""

    def __init__(self, max_message: int | None = None) -> None:
        self.victim = Side(max_message)
        self.transport = MemoryTransport()
        self.transport.link = self.victim.link
        self.victim.link.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.victim.link.dataReceived(data)


def box(**keys: bytes) -> bytes:
    """A box of AMP."""
    serialized: bytes = amp.AmpBox({key.encode(): value for key, value in keys.items()}).serialize()
    return serialized


def test_message_without_end_ends_the_link() -> None:
    """No more than the limit is kept, in whatever pieces it arrives."""
    hostile = Hostile(max_message=100_000)
    piece = box(_command=Piece.commandName, data=b"x" * 60_000)
    hostile.send(piece)
    assert hostile.victim.losses == 0
    hostile.send(piece)
    assert hostile.victim.losses == 1
    assert hostile.victim.messages == []


def test_box_without_end_ends_the_link() -> None:
    """Keys without end are not kept."""
    hostile = Hostile()
    for number in range(100_000):
        hostile.send(b"\x00\x05%05d\x00\x01x" % number)
        if hostile.victim.losses:
            break
    assert hostile.victim.losses == 1
    assert number < 50_000


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        b"\x00\x00",
        box(nothing=b"x"),
        box(_answer=b"1", data=b"nobody asked"),
        box(_error=b"7", _error_code=b"X", _error_description=b"nobody asked"),
    ],
)
def test_what_is_no_amp_ends_the_link(data: bytes) -> None:
    """No exception reaches the reactor."""
    hostile = Hostile()
    hostile.send(data)
    assert hostile.victim.losses == 1


@pytest.mark.parametrize("command", [b"StartTLS", b"Sum", b"", b"ProtocolSwitchCommand"])
def test_commands_of_others_are_not_followed(command: bytes) -> None:
    """AMP itself would answer StartTLS."""
    hostile = Hostile()
    hostile.send(box(_command=command, _ask=b"1"))
    assert hostile.victim.messages == []
    assert b"UNHANDLED" in b"".join(hostile.transport.written)
