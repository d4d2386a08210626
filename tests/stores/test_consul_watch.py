"""The rules by which Consul's keys are followed, with a Consul that the test plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from slardar.errors import StoreError
from slardar.stores.consul_watch import Page, Watch, contents
from slardar.stores.tree import Content, Entry

EMPTY = Content(0, {})


def page(index: int, rows: Mapping[str, tuple[bytes, int]] | None = None, **headers: str) -> Page:
    """An answer of Consul's: value and index by key."""
    body = msgspec.json.encode(
        [
            {"Key": f"p/{key}", "Value": value or None, "ModifyIndex": modified, "Flags": 0}
            for key, (value, modified) in (rows or {}).items()
        ]
    )
    return Page.read(body, {"X-Consul-Index": str(index), **headers}, 2, "A:1")


class Board:
    """A watch, the questions that it asks, and what it tells."""

    def __init__(self, seen: Content = EMPTY, is_stale: bool = False) -> None:
        self.clock = Clock()
        #: The index and the mode of each question.
        self.asked: list[tuple[int, str]] = []
        self.told: list[Content] = []
        self.reasons: list[str] = []
        self.chance = 1.0
        self._answer: Deferred[Page] | None = None
        self.watch = Watch(self._ask, self.clock, is_stale, lambda: self.chance)
        self.watch.start(seen, self.told.append, self.reasons.append)

    def _ask(self, index: int, mode: str) -> Deferred[Page]:
        self.asked.append((index, mode))
        self._answer = Deferred()
        return self._answer

    @property
    def is_asking(self) -> bool:
        """Whether a question waits for its answer."""
        return self._answer is not None and not self._answer.called

    def answer(self, result: Page | Exception) -> None:
        """Answer the question that was asked."""
        assert self.is_asking
        assert self._answer is not None
        if isinstance(result, Exception):
            self._answer.errback(result)
        else:
            self._answer.callback(result)

    @property
    def values(self) -> list[dict[str, bytes]]:
        """The values that were told."""
        return [{key: one.value for key, one in told.entries.items()} for told in self.told]


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def test_first_question_is_answered_at_once_and_the_next_waits() -> None:
    """What is new since the last one is told, and only that."""
    board = Board()
    board.answer(page(7, {"a": (b"1", 7)}))
    assert board.asked == [(0, ""), (7, "")]
    board.answer(page(9, {"a": (b"1", 7), "b": (b"", 9)}))
    assert board.asked[-1] == (9, "")
    assert board.values == [{"a": b"1"}, {"a": b"1", "b": b""}]
    assert board.told[1].entries["a"] is board.told[0].entries["a"]
    board.answer(page(11, {"b": (b"", 9)}))
    assert board.values[-1] == {"b": b""}


def test_answer_with_nothing_new_tells_nothing() -> None:
    """The wait may be over, or something else may have changed."""
    seen = Content(7, {"a": Entry(b"1", 7)})
    board = Board(seen)
    for index in (7, 7, 8, 12):
        board.answer(page(index, {"a": (b"1", 7)}))
    assert board.told == []
    assert board.asked == [(0, ""), (7, ""), (7, ""), (8, ""), (12, "")]


def test_index_of_nothing_is_one() -> None:
    """With 0, every question would be answered at once."""
    board = Board()
    board.answer(page(0))
    assert board.asked == [(0, ""), (1, "")]


def test_index_that_goes_back_starts_anew() -> None:
    """The answer counts, no entry is taken for the one before, and the next question waits for
    nothing."""
    board = Board()
    board.answer(page(50, {"a": (b"new", 30), "b": (b"2", 40)}))
    board.answer(page(35, {"a": (b"old", 30), "b": (b"2", 40)}))
    assert board.values[-1] == {"a": b"old", "b": b"2"}
    assert board.told[-1].entries["b"] is board.told[0].entries["b"]
    assert board.asked[-1] == (0, "")
    board.answer(page(35, {"a": (b"old", 30), "b": (b"2", 40)}))
    assert board.asked[-1] == (35, "")
    assert len(board.told) == 2


def test_values_are_compared_after_a_failure() -> None:
    """Another state may have come meanwhile, in which an index is that of another value."""
    board = Board()
    board.answer(page(50, {"a": (b"1", 30)}))
    board.answer(StoreError("A:1: gone"))
    board.clock.advance(10)
    assert board.asked[-1] == (0, "")
    board.answer(page(60, {"a": (b"2", 30)}))
    assert board.values[-1] == {"a": b"2"}


def test_failures_are_told_with_growing_delays() -> None:
    """The delays double up to a limit, and differ by up to a half from slardar to slardar; what
    comes after is told even if nothing is new."""
    board = Board(Content(7, {"a": Entry(b"1", 7)}))
    for count, delay in enumerate([0.25, 0.5, 1, 2, 4, 8, 10, 10, 10], 1):
        board.chance = count % 2
        board.answer(StoreError(f"A:1: gone {count}"))
        assert board.reasons[-1] == f"A:1: gone {count}"
        delay *= 0.5 + 0.5 * board.chance
        board.clock.advance(delay * 0.99)
        assert not board.is_asking
        board.clock.advance(delay * 0.02)
        assert board.is_asking
    board.answer(page(7, {"a": (b"1", 7)}))
    assert board.values == [{"a": b"1"}]
    board.answer(StoreError("A:1: gone again"))
    board.clock.advance(0.25)
    assert board.is_asking


def test_error_of_another_kind_is_a_failure_too(logged: list[Any]) -> None:
    """Nothing ends the watch; the log says what is wrong."""
    board = Board()
    board.answer(ZeroDivisionError("no"))
    assert board.reasons == ["ZeroDivisionError: no"]
    assert [event["log_failure"].type for event in logged] == [ZeroDivisionError]
    board.clock.advance(1)
    board.answer(page(2, {"a": (b"1", 2)}))
    assert board.values == [{"a": b"1"}]


@pytest.mark.parametrize(
    "answer",
    [
        page(8, {"a": (b"old", 3)}),
        page(12, {"a": (b"1", 7)}, **{"X-Consul-KnownLeader": "false"}),
        page(12, {"a": (b"1", 7)}, **{"X-Consul-LastContact": "5001"}),
    ],
    ids=["index goes back", "no leader", "long without the leader"],
)
def test_server_that_is_behind_is_not_believed(answer: Page) -> None:
    """The leader is asked at once; then any server may answer again."""
    board = Board(Content(9, {"a": Entry(b"1", 7)}), is_stale=True)
    board.answer(page(9, {"a": (b"1", 7)}))
    assert board.asked == [(0, "stale"), (9, "stale")]
    board.answer(answer)
    assert board.asked[2:] == [(0, "")]
    board.answer(page(14, {"a": (b"2", 14)}))
    assert board.values == [{"a": b"2"}]
    assert board.asked[3:] == [(14, "stale")]


def test_what_was_written_here_is_not_taken_back() -> None:
    """A server that does not know of it yet is behind."""
    board = Board(is_stale=True)
    board.watch.wrote(9)
    board.answer(page(8))
    assert (board.told, board.asked[1:]) == ([], [(0, "")])
    board.answer(page(9, {"a": (b"1", 9)}))
    assert board.values == [{"a": b"1"}]


def test_state_that_was_restored_is_believed_of_the_leader() -> None:
    """Its index is lower than what was written here."""
    board = Board(is_stale=True)
    board.watch.wrote(9)
    board.answer(page(5, {"a": (b"1", 5)}))
    board.answer(page(5, {"a": (b"1", 5)}))
    assert board.values == [{"a": b"1"}]


def test_storm_of_changes_is_asked_for_at_a_pace() -> None:
    """Some at once, then from 20 a second to 5."""
    board = Board()
    index = 1
    while board.is_asking:
        index += 1
        board.answer(page(index, {"a": (b"1", index)}))
    assert len(board.asked) in {19, 20}
    for _ in range(100):
        board.clock.advance(0.01)
        if board.is_asking:
            index += 1
            board.answer(page(index, {"a": (b"1", index)}))
    assert 23 <= len(board.asked) <= 27


def test_idle_consul_is_asked_once_in_its_wait() -> None:
    """Two questions in ten minutes."""
    board = Board()
    board.answer(page(3))
    for _ in range(600):
        board.clock.advance(1)
        if board.clock.seconds() % 300 == 0:
            board.answer(page(3))
    assert len(board.asked) == 4


@pytest.mark.parametrize("when", ["asking", "sleeping", "telling", "failing"])
def test_stopped_watch_is_silent(when: str, logged: list[Any]) -> None:
    """At any moment, also while it tells something; the log, too."""
    board = Board()
    if when == "telling":
        board.watch._changed = lambda content: board.watch.stop()
        board.answer(page(2, {"a": (b"1", 2)}))
    elif when == "failing":
        board.watch._failed = lambda reason: board.watch.stop()
        board.answer(StoreError("no"))
    elif when == "sleeping":
        board.answer(StoreError("no"))
        board.watch.stop()
    else:
        board.watch.stop()
    board.clock.advance(100)
    assert not board.is_asking
    assert len(board.asked) == 1
    assert (board.told, logged) == ([], [])
    assert not board.clock.getDelayedCalls()


GOOD = {"X-Consul-Index": "3"}
#: Bodies and headers that Consul does not send.
NO_ANSWERS: list[tuple[bytes, dict[str, str]]] = [
    (b"[]", {}),
    (b"[]", {"X-Consul-Index": "many"}),
    (b"[]", {**GOOD, "X-Consul-LastContact": "never"}),
    (b"{}", GOOD),
    (b"[", GOOD),
    (b'[{"Key": "p/a"}]', GOOD),
    (b'[{"Key": 1, "ModifyIndex": 1, "Value": "MQ=="}]', GOOD),
    (b"\xff\xfe", GOOD),
]


@pytest.mark.parametrize(("body", "headers"), NO_ANSWERS)
def test_answer_that_cannot_be_read(body: bytes, headers: dict[str, str]) -> None:
    """It is an error that names Consul."""
    with pytest.raises(StoreError, match="Consul at A:1: the answer cannot be read"):
        Page.read(body, headers, 2, "A:1")


@pytest.mark.parametrize("value", ['"?"', "1", '"MQ"'])
def test_value_that_cannot_be_read(value: str) -> None:
    """It is an error, not a wrong value."""
    body = b'[{"Key": "p/a", "ModifyIndex": 1, "Value": %s}]' % value.encode()
    found = Page.read(body, {"X-Consul-Index": "3"}, 2, "A:1")
    with pytest.raises(StoreError, match="cannot be read"):
        contents(found, EMPTY, True)


def test_key_of_the_place_itself_is_left_out() -> None:
    """Browsers make it, as a folder."""
    assert contents(page(3, {"": (b"", 2)}), EMPTY, True) is EMPTY
