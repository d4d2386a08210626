"""The contract of stores finds the mistakes that a store can make."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.exceptions import MultipleInvalid

from slardar.errors import ConflictError, StoreError
from slardar.interfaces import IStore
from slardar.model.change import Change, StoredState
from slardar.stores.written import conflict, encode, stored_state
from slardar.testing.stores import StoreContract

CHECKOUT = Path(__file__).resolve().parent.parent.parent

Texts = dict[tuple[str, str], str | None]
Disk = dict[str, Any]


@implementer(IStore)
class Faultless:
    """A store on a "disk" that is a dictionary; each other class adds one mistake."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.opened = False

    def open(self) -> defer.Deferred[Any]:
        if self.opened:
            return defer.fail(StoreError("open already"))
        self.opened = True
        return defer.succeed(self.found())

    def commit(self, expected_version: int, change: Change, *more: Change) -> defer.Deferred[int]:
        if not self.opened:
            return defer.fail(StoreError("not open"))
        try:
            for one in more:
                encode(one)
            self.write(expected_version, change)
            self.write_more(more)
        except Exception:
            return defer.fail()
        return defer.succeed(self.disk["version"])

    def write_more(self, more: tuple[Change, ...]) -> None:
        for change in more:
            self.disk["version"] -= 1
            self.write(self.disk["version"], change)

    def close(self) -> defer.Deferred[None]:
        self.opened = False
        return defer.succeed(None)

    def found(self) -> StoredState:
        texts: Texts = self.disk.setdefault("texts", {})
        rows = ((kind, name, text) for (kind, name), text in texts.items())
        return stored_state(self.disk.setdefault("version", 0), rows)

    def write(self, expected_version: int, change: Change) -> None:
        text = encode(change)
        if self.disk["version"] != expected_version:
            raise conflict(self.disk["version"], expected_version)
        self.disk["version"] += 1
        self.disk["texts"][change.kind, change.name] = text


class LastWriterWins(Faultless):
    def write(self, expected_version: int, change: Change) -> None:
        super().write(self.disk["version"], change)


class CountsBeforeItChecks(Faultless):
    def write(self, expected_version: int, change: Change) -> None:
        self.disk["version"] += 1
        super().write(expected_version + 1, change)


class ForgetsRemoved(Faultless):
    def write(self, expected_version: int, change: Change) -> None:
        super().write(expected_version, change)
        if change.value is None:
            del self.disk["texts"][change.kind, change.name]


class MixesKinds(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        return StoredState(state.version, state.upstreams, state.routes or None)


class CutsLongValues(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        cut = {k: v[:65535] if isinstance(v, str) else v for k, v in state.upstreams.items()}
        return StoredState(state.version, cut, state.routes, state.hooks)


class LosesHooks(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        return StoredState(state.version, state.upstreams, state.routes)


class TakesHooksForUpstreams(Faultless):
    def write(self, expected_version: int, change: Change) -> None:
        if change.kind == "hook":
            change = Change("upstream", change.name, change.value, change.who, change.time)
        super().write(expected_version, change)


class KeepsRemovedHooks(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        gone = {name: None for kind, name in self.disk["texts"] if kind == "hook"}
        return StoredState(state.version, state.upstreams, state.routes, {**gone, **state.hooks})


class TakesNumbersForTruth(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        same = {k: 0 if v is False else v for k, v in state.upstreams.items()}
        return StoredState(state.version, same, state.routes)


class KeepsTheFirst(Faultless):
    def write_more(self, more: tuple[Change, ...]) -> None:
        pass


class CountsEach(Faultless):
    def write_more(self, more: tuple[Change, ...]) -> None:
        for change in more:
            self.write(self.disk["version"], change)


class KeepsAPart(Faultless):
    def commit(self, expected_version: int, change: Change, *more: Change) -> defer.Deferred[int]:
        answer = super().commit(expected_version, change)

        def write(version: int) -> int:
            self.write_more(more)
            return version

        return answer.addCallback(write)


class EncodesLate(Faultless):
    def commit(self, expected_version: int, change: Change, *more: Change) -> defer.Deferred[int]:
        from twisted.internet import reactor  # noqa: TID251

        answer: defer.Deferred[int] = defer.Deferred()
        reactor.callLater(0, answer.callback, None)
        late = super().commit
        return answer.addCallback(lambda _: late(expected_version, change, *more))


class WritesAfterClose(Faultless):
    def close(self) -> defer.Deferred[None]:
        return defer.succeed(None)


class OpensTwice(Faultless):
    def open(self) -> defer.Deferred[Any]:
        self.opened = True
        return defer.succeed(self.found())


class NoStore:
    """Has none of the methods."""

    def __init__(self, disk: Disk) -> None: ...

    def close(self) -> defer.Deferred[None]:
        return defer.succeed(None)


def run(make: Callable[[Disk], Any], name: str) -> defer.Deferred[None]:
    """One test of the contract, with stores that share a disk."""
    disk: Disk = {}

    class Contract(StoreContract):
        def make_store(self) -> Any:
            return make(disk)

    test: Callable[[], defer.Deferred[None]] = getattr(Contract(), name)
    return test()


NAMES = sorted(name for name in dir(StoreContract) if name.startswith("test_"))


@pytest.mark.parametrize("name", NAMES)
def test_store_without_mistake_passes(name: str) -> defer.Deferred[None]:
    """A store of a few lines fulfils the contract."""
    return run(Faultless, name)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (NoStore, "test_store_provides_the_interface"),
        (LastWriterWins, "test_commit_to_another_version_changes_nothing"),
        (LastWriterWins, "test_one_of_two_rivals_wins"),
        (CountsBeforeItChecks, "test_commit_to_another_version_changes_nothing"),
        (CountsBeforeItChecks, "test_value_that_is_no_json_is_refused"),
        (ForgetsRemoved, "test_removed_upstream_stays_known"),
        (MixesKinds, "test_routes_are_apart_from_upstreams"),
        (CutsLongValues, "test_values_come_back_as_they_were"),
        (LosesHooks, "test_hooks_are_apart_from_upstreams"),
        (TakesHooksForUpstreams, "test_hooks_are_apart_from_upstreams"),
        (KeepsRemovedHooks, "test_hooks_are_apart_from_upstreams"),
        (TakesNumbersForTruth, "test_values_come_back_as_they_were"),
        (KeepsTheFirst, "test_several_changes_are_one_version"),
        (CountsEach, "test_several_changes_are_one_version"),
        (KeepsAPart, "test_several_changes_are_one_version"),
        (EncodesLate, "test_value_is_taken_at_the_call"),
        (EncodesLate, "test_close_finishes_what_is_queued"),
        (WritesAfterClose, "test_closed_store_takes_no_commits"),
        (OpensTwice, "test_store_is_opened_once"),
    ],
)
def test_mistake_is_found(make: Callable[[Disk], Any], name: str) -> defer.Deferred[None]:
    """A store with one mistake fails the test for this mistake."""

    def check(result: object) -> None:
        assert isinstance(result, Failure), f"{name} found nothing"
        # The last two come from a step that the test needed to go on.
        assert result.check(AssertionError, ConflictError, MultipleInvalid), result

    return run(make, name).addBoth(check)


TRIAL = """
from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from slardar.stores.sqlite import SqliteStore
from slardar.testing.stores import StoreContract

class SqliteTests(StoreContract, TestCase):
    def setUp(self):
        self.path = self.mktemp()

    def make_store(self):
        return SqliteStore(self.path, reactor)
"""


def test_contract_runs_under_trial(tmp_path: Path) -> None:
    """With trial's TestCase as a second base class, trial runs and waits for each test."""
    (tmp_path / "test_under_trial.py").write_text(TRIAL)
    command = [sys.executable, "-W", "error", "-m", "twisted.trial", "test_under_trial"]
    path = os.pathsep.join([str(CHECKOUT), str(tmp_path)])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"PASSED (successes={len(NAMES)})" in done.stdout, done.stdout + done.stderr
