"""Nobody waits for the check of a hook's code, whichever way the code comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from twisted.internet import defer

from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.errors import ConflictError
from slardar.model.change import StoredState, Value
from slardar.model.hook import Code, Hook, written
from tests.control.board import Board, BoardStore
from tests.control.fakes import NOW, PLUGINS, FakePlane, error_of, result_of, upstream

A = "script.a.test"
HOOK = Hook("python", A, Code.of("now", NOW), Code.of("before", NOW), Code.of("next", NOW))
NEW = Hook("python", "script.new.test", Code.of("new", NOW))


class SlowPlane(FakePlane):
    """Its answers about code wait until a test wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], None]] = []

    def answer(self) -> None:
        """Give the answers that wait."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer()

    def _late(self, answer: defer.Deferred[Any]) -> defer.Deferred[Any]:
        late: defer.Deferred[Any] = defer.Deferred()
        self.waiting.append(lambda: answer.chainDeferred(late))
        return late

    def check_hook(self, *question: Any) -> defer.Deferred[tuple[str, ...]]:
        return self._late(super().check_hook(*question))

    def check_stored(self, hooks: Mapping[Any, Any]) -> defer.Deferred[None]:
        return self._late(super().check_stored(hooks))


def told(actions: Actions) -> None:
    """Somebody else writes a hook to the store."""
    board = actions.store.board
    board.write([Value("hook", NEW.path, written(NEW))])
    board.tell()


def taken_back(actions: Actions) -> None:
    """The same while the store was let go for an upgrade that did not come about."""
    result_of(actions.hand_over())
    actions.store.board.write([Value("hook", NEW.path, written(NEW))])
    result_of(actions.take_back())


WAYS: dict[str, Callable[[Actions], Any]] = {
    "posted": lambda actions: actions.hooks.stage("python", A, b"code", "x"),
    "posted beside": lambda actions: actions.hooks.stage("python", A, b"c", "x", shadow=True),
    "posted into service": lambda actions: actions.hooks.stage(
        "python", A, b"code", "x", activate=True
    ),
    "activated": lambda actions: actions.hooks.activate("python", A, "x"),
    "activated for some": lambda actions: actions.hooks.activate("python", A, "x", canary=10),
    "all activated": lambda actions: actions.hooks.activate_all("python", "x"),
    "rolled back": lambda actions: actions.hooks.roll_back("python", A, "x"),
    "a whole state": lambda actions: actions.take_desired(
        StoredState(hooks={NEW.path: written(NEW)}), "x"
    ),
}


@pytest.fixture
def plane() -> SlowPlane:
    return SlowPlane()


@pytest.fixture
def actions(plane: SlowPlane) -> Actions:
    """With a hook of three versions."""
    board = Board()
    board.write([Value("hook", HOOK.path, written(HOOK))])
    actions = Actions(parse_settings({}), BoardStore(board), plane, PLUGINS, lambda: NOW)
    started = actions.start()
    assert not started.called
    plane.answer()
    result_of(started)
    return actions


@pytest.mark.parametrize("way", WAYS)
def test_changes_go_on_while_code_is_looked_at(
    actions: Actions, plane: SlowPlane, way: str
) -> None:
    """Before each answer another change is made, from its beginning to its end."""
    change = defer.ensureDeferred(WAYS[way](actions))
    rounds = 0
    while plane.waiting:
        rounds += 1
        assert rounds < 10, "it does not come to an end"
        assert not change.called
        before = actions.snapshot.version
        receipt = result_of(actions.set_upstream(f"u{rounds}", upstream(rounds), "other"))
        assert receipt.version == before + 1
        plane.answer()
    assert rounds
    assert result_of(change).version == rounds + 1


@pytest.mark.parametrize("way", [told, taken_back])
def test_nobody_waits_while_code_of_others_is_looked_at(
    actions: Actions, plane: SlowPlane, way: Callable[[Actions], None]
) -> None:
    """A change to what is served is answered at once, though with a refusal: the store is
    ahead of it."""
    way(actions)
    assert plane.waiting
    error_of(actions.set_upstream("u", upstream(1), "other"), ConflictError)
    assert NEW.key not in actions.snapshot.hooks
    plane.answer()
    assert actions.snapshot.hooks[NEW.key] == NEW
    assert result_of(actions.set_upstream("u", upstream(1), "other")).version == 2


def test_files_have_no_code_to_look_at(actions: Actions, plane: SlowPlane) -> None:
    """What is read again leaves the hooks as they are."""
    settings = parse_settings({"upstreams": {"file": upstream(1)}})
    assert result_of(actions.take_settings(settings, "HUP")).version == 1
    assert plane.waiting == []
