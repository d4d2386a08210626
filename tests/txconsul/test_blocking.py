"""The rules by which a blocking query is put again, with a Consul that the test plays."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from slardar.txconsul.blocking import MAX_LAG, Blocking, read_index


class Answer(NamedTuple):
    index: int
    lags: bool = False


class Board:
    """A query, how it is put, and what is handed over."""

    def __init__(self, may_be_stale: bool = False, pause: float = 0.0) -> None:
        self.clock = Clock()
        #: The index of each question, and whether any server may answer.
        self.asked: list[tuple[int, bool]] = []
        self.taken: list[tuple[int, bool]] = []
        self.errors: list[Exception] = []
        self.chance = 1.0
        self.fault: Exception | None = None
        self._answer: Deferred[Answer] = Deferred()
        self.blocking: Blocking[Any] = Blocking(
            self.clock,
            self._ask,
            may_be_stale=may_be_stale,
            pace=lambda now: pause,
            chance=lambda: self.chance,
        )
        self.blocking.start(self._take, self.errors.append)

    def _ask(self, index: int, is_stale: bool) -> Deferred[Answer]:
        self.asked.append((index, is_stale))
        self._answer = Deferred()
        return self._answer

    def _take(self, answer: Any, trusts: bool) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append((answer.index, trusts))

    def answers(self, *results: Answer | Exception) -> None:
        for result in results:
            if isinstance(result, Exception):
                self._answer.errback(result)
            else:
                self._answer.callback(result)


@pytest.mark.parametrize(
    ("indexes", "asks", "trusts"),
    [
        ((5, 5, 6), [0, 5, 5, 6], [False, True, True]),
        ((5, 3), [0, 5, 0], [False, False]),
        ((5, 3, 3, 3), [0, 5, 0, 3, 3], [False, False, False, True]),
        ((1, 1), [0, 1, 1], [False, True]),
    ],
)
def test_index_of_each_question(indexes: list[int], asks: list[int], trusts: list[bool]) -> None:
    """It is that of the answer before.  One that goes back begins anew, and nothing is the same."""
    board = Board()
    board.answers(*map(Answer, indexes))
    assert [index for index, _ in board.asked] == asks
    assert board.taken == list(zip(indexes, trusts, strict=True))


@pytest.mark.parametrize("odd", [Answer(4), Answer(9, lags=True)])
def test_server_that_is_behind_is_not_believed(odd: Answer) -> None:
    """The leader is, whatever it says; then any server may answer again."""
    board = Board(may_be_stale=True)
    board.answers(Answer(5), odd)
    assert board.asked == [(0, True), (5, True), (0, False)]
    board.answers(Answer(3))
    assert board.taken == [(5, False), (3, True)]
    assert board.asked[3:] == [(3, True)]


def test_older_than_what_is_known_from_elsewhere() -> None:
    """Only the leader may say so."""
    board = Board(may_be_stale=True)
    board.blocking.least = 9
    board.answers(Answer(8))
    assert board.taken == []
    board.answers(Answer(8))
    assert board.taken == [(8, False)]


def test_failures_are_tried_again_ever_more_rarely() -> None:
    """The delays double up to a limit and differ by up to a half; then nothing is trusted."""
    board = Board()
    board.answers(Answer(50))
    for count, delay in enumerate([0.25, 0.5, 1, 2, 4, 8, 10, 10], 1):
        board.chance = count % 2
        error = OSError(f"{count}")
        board.answers(error)
        assert board.errors[-1] is error
        asked = len(board.asked)
        delay *= 0.5 + 0.5 * board.chance
        board.clock.advance(delay * 0.99)
        assert len(board.asked) == asked
        board.clock.advance(delay * 0.02)
        assert board.asked[asked:] == [(0, False)]
    board.answers(Answer(60), Answer(60))
    assert board.taken[1:] == [(60, False), (60, True)]
    board.answers(OSError("again"))
    board.clock.advance(0.25)
    assert board.asked[-1] == (0, False)


def test_answer_that_cannot_be_taken_is_a_failure() -> None:
    """It is asked for again."""
    board = Board()
    board.fault = ValueError("nonsense")
    board.answers(Answer(5))
    assert board.errors == [board.fault]
    board.clock.advance(1)
    assert board.asked == [(0, False), (0, False)]


def test_pace_is_kept() -> None:
    """Each question waits as long as it says."""
    board = Board(pause=0.5)
    assert board.asked == []
    board.clock.advance(0.5)
    board.answers(Answer(5))
    board.clock.advance(0.4)
    assert len(board.asked) == 1
    board.clock.advance(0.1)
    assert len(board.asked) == 2


@pytest.mark.parametrize("when", ["asking", "pausing", "failing", "taking"])
def test_stop_ends_all(when: str) -> None:
    """No question, no timer and no word is left."""
    board = Board(pause=0.5)
    if when != "pausing":
        board.clock.advance(0.5)
    if when == "failing":
        board.answers(OSError("gone"))
    if when == "taking":
        board.blocking._take = lambda answer, trusts: board.blocking.stop()
        board.answers(Answer(3))
    asked, errors = len(board.asked), len(board.errors)
    board.blocking.stop()
    board.clock.advance(100)
    assert (len(board.asked), len(board.errors), board.taken) == (asked, errors, [])
    assert board.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, (7, False)),
        ({"X-Consul-Index": "0"}, (1, False)),
        ({"X-Consul-Index": "-4"}, (1, False)),
        ({"X-Consul-KnownLeader": "false"}, (7, True)),
        ({"X-Consul-LastContact": f"{MAX_LAG}"}, (7, False)),
        ({"X-Consul-LastContact": f"{MAX_LAG + 1}"}, (7, True)),
    ],
)
def test_headers(headers: dict[str, str], found: tuple[int, bool]) -> None:
    """An index is at least 1; a server may be behind that knows no leader, or has long not heard
    of it."""
    assert read_index({"X-Consul-Index": "7", **headers}) == found


@pytest.mark.parametrize("headers", [{}, {"X-Consul-Index": "x"}])
def test_headers_of_somebody_else(headers: dict[str, str]) -> None:
    """They are an error."""
    with pytest.raises((LookupError, ValueError), match=r"."):
        read_index(headers)
