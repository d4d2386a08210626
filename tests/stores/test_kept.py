"""A store that lives elsewhere: what is served while it is away, and when it has lost its state."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from slardar.errors import ConflictError, StoreError
from slardar.interfaces import IKeptStore
from slardar.model.change import Change, StoredState, Value
from slardar.stores.copy import Copied
from slardar.stores.kept import KeptStore
from slardar.stores.urls import hidden_url
from slardar.testing.stores import StoreContract, change_of
from tests.control.board import Board
from tests.control.fakes import error_of, result_of, upstream
from tests.stores.far import FakeCopy, FarStore

URL = "board:shared"


class Kept:
    """A kept store, its parts, and what it has told."""

    def __init__(self, board: Board | None = None, copied: Copied | None = None) -> None:
        self.board = board or Board()
        self.far = FarStore(self.board)
        self.copy: Any = FakeCopy(copied)
        self.clock = Clock()
        self.clock.advance(1000)
        self.store = KeptStore(
            self.far, URL, self.copy, self.clock, self.clock.seconds, lambda: 1.0
        )
        self.told: list[StoredState] = []
        self.reasons: list[str] = []

    def start(self) -> StoredState:
        state = self.open()
        self.store.keep(state)
        self.watch()
        return state

    def open(self) -> StoredState:
        opened = self.store.open()
        if not opened.called:
            self.clock.advance(5)
        state: StoredState = result_of(opened)
        return state

    def watch(self) -> None:
        self.store.watch(self._changed, self.reasons.append)

    def _changed(self, state: StoredState) -> None:
        self.told.append(state)
        self.store.keep(state)

    def commit(self, *changes: Change, version: int = 1) -> defer.Deferred[Any]:
        expected = (self.store.kept or StoredState()).revision
        return self.store.commit(expected, changes or (change_of("x", upstream(9)),), version)

    @property
    def status(self) -> str:
        return "ok" if self.store.trouble is None else self.store.trouble.status


def filled(count: int = 1) -> Board:
    board = Board()
    board.write([Value("upstream", f"u{number}", upstream(1)) for number in range(count)])
    return board


class TestKeptStore(StoreContract):
    """While the store is there, nothing differs from the store itself."""

    @pytest.fixture(autouse=True)
    def board(self) -> None:
        self.board = Board()

    def make_store(self) -> KeptStore:
        return Kept(self.board).store


def test_it_provides_the_interface() -> None:
    verifyObject(IKeptStore, Kept().store)


def test_store_that_is_there_passes_everything_on() -> None:
    """What it holds, and what others write."""
    kept = Kept(filled())
    assert kept.start().upstreams == {"u0": upstream(1)}
    kept.board.write([Value("upstream", "b", upstream(2))])
    kept.board.tell()
    assert kept.told[-1].upstreams == {"u0": upstream(1), "b": upstream(2)}
    assert kept.status == "ok"
    assert kept.copy.copied.state.upstreams == kept.told[-1].upstreams
    assert kept.reasons == []


# The store is away.


def test_away_at_the_start_means_the_copy() -> None:
    """Its age is told, and the store is tried until it is there; its state is a change then."""
    known = StoredState(7, {"a": upstream(1)})
    kept = Kept(copied=Copied(known, 400.0))
    kept.far.reason = "refused"
    state = kept.start()
    assert (state.version, state.upstreams) == (7, {"a": upstream(1)})
    trouble = kept.store.trouble
    assert trouble is not None
    assert (trouble.status, trouble.since, trouble.reason) == ("stale", 400.0, "refused")
    assert kept.reasons == ["refused"]
    assert kept.told == []
    kept.clock.advance(0.5)
    assert kept.far.opened == 2
    kept.board.write([Value("upstream", "a", upstream(2))])
    kept.far.reason = ""
    kept.clock.advance(1)
    assert [one.upstreams for one in kept.told] == [{"a": upstream(2)}]
    assert kept.status == "ok"
    # It is watched from then on.
    kept.board.write([Value("upstream", "a", upstream(3))])
    kept.board.tell()
    assert kept.told[-1].upstreams == {"a": upstream(3)}


def test_away_at_the_first_start_means_the_file() -> None:
    """Nothing is known, so nothing is kept: the next start has no empty copy in its place."""
    kept = Kept(filled())
    kept.far.reason = "refused"
    state = kept.start()
    assert state.upstreams == {}
    assert kept.status == "stale"
    assert kept.copy.copied is None
    assert kept.store.kept is None
    kept.far.reason = ""
    kept.clock.advance(1)
    assert kept.told[-1].upstreams == {"u0": upstream(1)}


def test_silent_store_delays_the_start_by_five_seconds() -> None:
    """The attempt goes on, and another is made after 30 s."""
    kept = Kept(filled(), Copied(StoredState(1, {"a": upstream(1)}), 900.0))
    kept.far.is_silent = True
    opened = kept.store.open()
    kept.clock.advance(4.9)
    assert not opened.called
    kept.clock.advance(0.1)
    assert result_of(opened).upstreams == {"a": upstream(1)}
    kept.watch()
    assert kept.reasons == ["board:shared: no answer within 5 s"]
    kept.clock.advance(24.9)
    assert kept.far.opened == 1
    kept.far.is_silent = False
    kept.clock.pump([0.1, 0.5])
    assert kept.far.opened == 2
    assert kept.status == "ok"
    assert kept.told[-1].upstreams == {"u0": upstream(1)}


def test_slow_store_is_taken_when_it_answers() -> None:
    """After the start has gone on without it, and before anybody watches."""
    kept = Kept(filled(), Copied(StoredState(1, {"u0": upstream(5)}), 900.0))
    answer: defer.Deferred[Any] = defer.Deferred()
    kept.far.open = lambda: answer  # type: ignore[method-assign]
    opened = kept.store.open()
    kept.clock.advance(5)
    assert result_of(opened).upstreams == {"u0": upstream(5)}
    answer.callback(kept.board.state)
    kept.watch()
    assert [one.upstreams for one in kept.told] == [{"u0": upstream(1)}]
    assert kept.status == "ok"


def test_attempts_become_rarer_and_never_stop() -> None:
    """Up to one in ten seconds."""
    kept = Kept()
    kept.far.reason = "refused"
    kept.start()
    kept.clock.pump([0.25] * 4 * 120)
    assert 12 < kept.far.opened < 20
    before = kept.far.opened
    kept.clock.pump([0.5] * 200)
    assert 8 <= kept.far.opened - before <= 11


def test_away_later_is_told_with_the_reason() -> None:
    """Changes and questions fail at once, and nobody asks the store."""
    kept = Kept(filled())
    kept.start()
    kept.clock.advance(10)
    kept.far.cut("no route to it")
    assert kept.status == "stale"
    assert kept.reasons == ["no route to it"]
    wanted = "the store is away, so nothing can be changed: no route to it"
    assert error_of(kept.commit(), StoreError) == wanted
    # Who only reads is not told of changes.
    reason = error_of(kept.store.history(None, 1), StoreError)
    assert reason == "the store is away: no route to it"
    assert error_of(kept.store.state_at(0), StoreError).endswith("no route to it")
    assert kept.far.asked == 0
    kept.clock.advance(25)
    trouble = kept.store.trouble
    assert trouble is not None
    assert trouble.since == 1010
    kept.far.heal()
    assert kept.status == "ok"
    result_of(kept.commit())
    assert result_of(kept.store.history(None, 1))


def test_what_the_file_says_may_change_meanwhile() -> None:
    """It is for the record only, so a file can be read again while the store is away."""
    kept = Kept(filled())
    kept.start()
    kept.far.cut()
    assert kept.store.kept is not None
    before = kept.store.kept.revision
    changes = [Change("file", "upstreams.a", upstream(1), "file", 0.0)]
    assert result_of(kept.commit(*changes)) == before
    error_of(kept.commit(*changes, change_of("a", None)), StoreError)


def test_call_that_is_not_answered_fails() -> None:
    """After 15 s, so that other changes get their turn."""
    kept = Kept(filled())
    kept.start()
    kept.far.is_silent = True
    answer = kept.commit()
    kept.clock.advance(14)
    assert not answer.called
    kept.clock.advance(1)
    assert error_of(answer, StoreError) == (
        "board:shared: no answer within 15 s; it is not known whether the change is made"
    )


def test_reason_moves_no_cursor() -> None:
    """It may quote what somebody else's server has said."""
    kept = Kept(filled())
    kept.start()
    with capturedLogs() as logged:
        kept.far.cut("500 \x1b[31m\nversion 7")
    assert kept.store.trouble is not None
    assert kept.store.trouble.reason == "500 \\x1b[31m\\nversion 7"
    (line,) = [formatEvent(event) for event in logged]
    assert line.isprintable()


def test_bug_of_a_third_partys_store_is_a_store_that_is_away() -> None:
    """Nothing that it raises ends the process."""
    kept = Kept()

    def broken() -> Any:
        raise RuntimeError("a bug")

    kept.far.open = broken  # type: ignore[method-assign]
    kept.far.close = broken  # type: ignore[method-assign]
    kept.start()
    assert kept.reasons == ["RuntimeError: a bug"]
    result_of(kept.store.close())


def test_store_that_cannot_be_watched_is_tried_again() -> None:
    """It is closed, and opened once more."""
    kept = Kept(filled())
    watch = kept.far.watch
    kept.far.watch = lambda *_: 1 / 0  # type: ignore[assignment,return-value,method-assign]
    assert kept.start().upstreams == {"u0": upstream(1)}
    assert kept.reasons == ["ZeroDivisionError: division by zero"]
    assert kept.status == "stale"
    kept.far.watch = watch  # type: ignore[method-assign]
    kept.clock.advance(1)
    assert kept.status == "ok"
    kept.board.write([Value("upstream", "b", upstream(2))])
    kept.board.tell()
    assert kept.told[-1].upstreams.keys() == {"u0", "b"}


def test_log_says_each_fact_once() -> None:
    """A store that comes and goes leaves a line a minute, and no outage goes unsaid."""
    kept = Kept(filled())
    kept.start()
    with capturedLogs() as logged:
        for _ in range(20):
            kept.far.cut()
            kept.far.cut()
            kept.clock.advance(0.5)
            kept.far.heal()
        kept.far.cut()
        kept.clock.advance(60)
        kept.far.heal()
    lines = [formatEvent(event) for event in logged]
    assert lines == [
        "the store is away, and what was known of it last is served: refused",
        "the store is there again, after 0 s",
        "the store is away, and what was known of it last is served: refused",
        "the store is there again, after 60 s",
    ]


def test_copy_says_until_when_it_was_right() -> None:
    """A minute late at most, and exactly after a stop."""
    kept = Kept(filled())
    kept.start()
    assert kept.copy.copied.time == 1000
    kept.clock.pump([30] * 5)
    assert kept.copy.copied.time == 1120
    kept.clock.advance(5)
    kept.far.cut()
    kept.clock.pump([60] * 5)
    assert kept.copy.copied.time == 1155
    kept.far.heal()
    kept.clock.advance(7)
    result_of(kept.store.close())
    assert kept.copy.copied.time == kept.clock.seconds()


def test_closed_store_is_quiet() -> None:
    """Nothing is tried, told or written after a close, and it can be opened again."""
    kept = Kept(filled())
    kept.start()
    changed, failed = kept.far.changed, kept.far.failed
    assert changed is not None
    result_of(kept.store.close())
    assert kept.clock.getDelayedCalls() == []
    changed(StoredState(5))
    failed("late")
    assert (kept.told, kept.reasons) == ([], [])
    assert kept.start().upstreams == {"u0": upstream(1)}


def test_close_while_the_store_is_tried() -> None:
    """The start that waits fails, and no attempt follows."""
    kept = Kept(filled())
    kept.far.is_silent = True
    opened = kept.store.open()
    result_of(kept.store.close())
    assert kept.clock.getDelayedCalls() == []
    assert error_of(opened, StoreError).endswith("this store was closed while it was opened")


def test_reopened_while_away_has_what_was_served() -> None:
    """An upgrade that fails gives the store back, even if it is away and the copy is lost."""
    kept = Kept(filled())
    kept.start()
    kept.far.cut()
    result_of(kept.store.close())
    kept.copy.copied = None
    assert kept.start().upstreams == {"u0": upstream(1)}
    assert kept.store.trouble is not None
    assert kept.store.trouble.since == 1000


def test_successor_knows_what_its_predecessor_has_served() -> None:
    """And since when it may be wrong, whatever the copy says."""
    kept = Kept(copied=Copied(StoredState(3, {"old": upstream(1)}), 1.0))
    kept.store.take_over(StoredState(4, {"a": upstream(1)}), 700.0)
    kept.far.reason = "refused"
    assert kept.start().upstreams == {"a": upstream(1)}
    assert kept.store.trouble is not None
    assert kept.store.trouble.since == 700.0


# The store has lost its state.


def test_emptied_store_is_held() -> None:
    """What is served stays; changes are refused with the way out; the log shouts once."""
    kept = Kept(filled(3))
    kept.start()
    kept.board.texts.clear()
    kept.board.write([])
    with capturedLogs() as logged:
        kept.board.tell()
        kept.board.tell()
    assert len(logged) == 1
    assert kept.told == []
    assert kept.status == "held"
    (reason,) = kept.reasons
    assert "lost 3 of the 3 things that are served (upstreams.u0, upstreams.u1" in reason
    assert "POST /store/accept" in reason
    assert error_of(kept.commit(), ConflictError) == reason
    assert kept.far.asked == 0
    assert kept.copy.copied.state.upstreams.keys() == {"u0", "u1", "u2"}
    # Questions are answered: the store is there.
    assert result_of(kept.store.history(None, 1)) == []


def test_emptied_store_is_held_after_a_restart() -> None:
    """The copy knows what there was."""
    kept = Kept(Board(), Copied(StoredState(7, {"a": upstream(1)}), 900.0))
    assert kept.start().upstreams == {"a": upstream(1)}
    assert kept.status == "held"
    assert len(kept.reasons) == 1
    assert kept.told == []


def test_content_that_comes_back_is_taken() -> None:
    """When it is whole, although it comes key by key."""
    kept = Kept(filled(3))
    kept.start()
    before = dict(kept.board.texts)
    kept.board.texts.clear()
    kept.board.tell()
    for number, (key, text) in enumerate(before.items()):
        kept.clock.advance(5)
        kept.board.texts[key] = text
        kept.board.writes += 1
        kept.board.tell()
        assert kept.told == [], number
        assert kept.status == "held"
    kept.clock.advance(1)
    assert kept.status == "ok"
    assert [one.upstreams.keys() for one in kept.told] == [{"u0", "u1", "u2"}]


def test_content_that_goes_again_stays_held() -> None:
    """Within the second in which it could have been taken."""
    kept = Kept(filled())
    kept.start()
    before = dict(kept.board.texts)
    for texts in ({}, before, {}):
        kept.board.texts = dict(texts)
        kept.board.writes += 1
        kept.board.tell()
    kept.clock.advance(1)
    assert (kept.told, kept.status) == ([], "held")


def test_content_that_came_back_before_the_store_went_away() -> None:
    """It is taken when the store is there again, and as it is then."""
    kept = Kept(filled())
    kept.start()
    before = dict(kept.board.texts)
    for texts in ({}, before):
        kept.board.texts = dict(texts)
        kept.board.writes += 1
        kept.board.tell()
    kept.far.cut()
    kept.clock.advance(5)
    assert (kept.told, kept.status) == ([], "stale")
    kept.board.write([Value("upstream", "b", upstream(2))])
    kept.far.heal()
    assert kept.status == "held"
    kept.clock.advance(1)
    assert [one.upstreams.keys() for one in kept.told] == [{"u0", "b"}]


def test_loss_is_taken_by_a_commit_to_it() -> None:
    """Whoever names the state that is held back has seen it."""
    kept = Kept(filled(3))
    kept.start()
    kept.board.texts.clear()
    kept.board.write([])
    kept.board.tell()
    waiting = kept.store.waiting
    assert waiting is not None
    change = Change("file", "", {"upstreams": []}, "ops", 0.0)
    kept.far.is_silent = True
    failed = kept.store.commit(waiting.revision, [change], 9)
    kept.clock.advance(30)
    error_of(failed, StoreError)
    assert kept.status == "held"


def test_loss_that_another_node_has_taken_is_taken() -> None:
    """Its version is ahead."""
    kept = Kept(filled(3))
    kept.start()
    kept.board.texts.clear()
    kept.board.tell()
    assert kept.status == "held"
    kept.board.version = 5
    kept.board.tell()
    assert kept.status == "ok"
    assert [one.upstreams for one in kept.told] == [{}]


def test_loss_while_the_store_is_away_is_held_when_it_is_back() -> None:
    """A Consul that was started anew without its data."""
    kept = Kept(filled(3))
    kept.start()
    kept.far.cut()
    kept.board.texts.clear()
    kept.board.writes = 1000
    kept.far.heal()
    assert kept.status == "held"
    kept.far.cut()
    assert kept.status == "stale"
    error_of(kept.commit(), StoreError)
    kept.far.heal()
    assert kept.status == "held"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:/var/lib/a@b.db", "sqlite:/var/lib/a@b.db"),
        ("memory:", "memory:"),
        ("consul:http://127.0.0.1:8500/config/slardar/", None),
        ("consul:http://u:p@a:8500,u:p@b:8500/x", "consul:http://a:8500,b:8500/x"),
        ("consul:http://u:p@ss@a:8500/x", "consul:http://a:8500/x"),
        ("etcd:https://root:p,q@a:2379/x?Token=y&dc=z", "etcd:https://a:2379/x?Token=...&dc=z"),
        ("zookeeper:user:pass@a:2181/x", "zookeeper:a:2181/x"),
    ],
)
def test_url_is_shown_without_a_password(url: str, shown: str | None) -> None:
    assert hidden_url(url) == (shown or url)
