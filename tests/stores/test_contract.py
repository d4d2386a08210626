"""The contract of stores finds the mistakes that a store can make."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from twisted.internet import defer
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.exceptions import MultipleInvalid

from slardar.errors import ConflictError, StoreError
from slardar.interfaces import IStore
from slardar.model.change import Change, Recorded, Revision, StoredState
from slardar.stores.history import History
from slardar.stores.written import conflict, encode, stored_state
from slardar.testing.stores import StoreContract

CHECKOUT = Path(__file__).resolve().parent.parent.parent

Texts = dict[tuple[str, str], str | None]
Disk = dict[str, Any]


@implementer(IStore)
class Faultless:
    """A store on a "disk" that is a dictionary; each other class adds one mistake.

    Its revisions are words that cannot be guessed from each other.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.opened = False
        disk.setdefault("texts", {})
        disk.setdefault("version", 0)
        disk.setdefault("commits", 0)
        disk.setdefault("history", History())

    @property
    def revision(self) -> Revision:
        return hashlib.sha256(b"%d" % self.disk["commits"]).hexdigest()

    def open(self) -> defer.Deferred[Any]:
        if self.opened:
            return defer.fail(StoreError("open already"))
        self.opened = True
        return defer.succeed(self.found())

    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        if not self.opened:
            return defer.fail(StoreError("not open"))
        try:
            self.write(expected, changes, version)
        except Exception:
            return defer.fail()
        return defer.succeed(self.revision)

    def keep_history(self, versions: int) -> None:
        self.disk["history"].keep = versions

    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        if not self.opened:
            return defer.fail(StoreError("not open"))
        return defer.succeed(self.disk["history"].page(before, limit))

    def state_at(self, version: int) -> defer.Deferred[StoredState]:
        if not self.opened:
            return defer.fail(StoreError("not open"))
        return defer.execute(self.disk["history"].state_at, version)

    def close(self) -> defer.Deferred[None]:
        self.opened = False
        return defer.succeed(None)

    def found(self) -> StoredState:
        texts: Texts = self.disk["texts"]
        rows = ((kind, name, text) for (kind, name), text in texts.items())
        return stored_state(self.disk["version"], self.revision, rows)

    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        rows = [(one, encode(one)) for one in changes]
        if self.revision != expected:
            raise conflict(self.revision, expected)
        self.disk["texts"].update(((one.kind, one.name), text) for one, text in rows)
        self.disk["history"].add(version, rows)
        self.disk["version"] = version
        self.disk["commits"] += 1


class LastWriterWins(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        super().write(self.revision, changes, version)


class CountsBeforeItChecks(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        before = self.revision
        self.disk["commits"] += 1
        super().write(self.revision if expected == before else "", changes, version)


class KeepsItsRevision(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        before = self.found().upstreams
        super().write(expected, changes, version)
        if self.found().upstreams == before:
            self.disk["commits"] -= 1


class CountsByItself(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        super().write(expected, changes, self.disk["version"] + 1)


class ForgetsRemoved(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        super().write(expected, changes, version)
        for change in changes:
            if change.value is None:
                del self.disk["texts"][change.kind, change.name]


class MixesKinds(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        return replace(state, routes=state.routes or None)


class CutsLongValues(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        cut = {k: v[:65535] if isinstance(v, str) else v for k, v in state.upstreams.items()}
        return replace(state, upstreams=cut)


class LosesHooks(Faultless):
    def found(self) -> StoredState:
        return replace(super().found(), hooks={})


class TakesHooksForUpstreams(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        mixed = [replace(one, kind="upstream") if one.kind == "hook" else one for one in changes]
        super().write(expected, mixed, version)


class KeepsRemovedHooks(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        gone = {name: None for kind, name in self.disk["texts"] if kind == "hook"}
        return replace(state, hooks={**gone, **state.hooks})


class TakesNumbersForTruth(Faultless):
    def found(self) -> StoredState:
        state = super().found()
        same = {k: 0 if v is False else v for k, v in state.upstreams.items()}
        return replace(state, upstreams=same)


class KeepsTheFirst(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        super().write(expected, changes[:1], version)


class CommitsEach(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        for change in changes:
            super().write(expected, [change], version)
            expected = self.revision


class EncodesLate(Faultless):
    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        from twisted.internet import reactor  # noqa: TID251

        answer: defer.Deferred[Revision] = defer.Deferred()
        reactor.callLater(0, answer.callback, None)
        late = super().commit
        return answer.addCallback(lambda _: late(expected, changes, version))


class WritesAfterClose(Faultless):
    def close(self) -> defer.Deferred[None]:
        return defer.succeed(None)


class OpensTwice(Faultless):
    def open(self) -> defer.Deferred[Any]:
        self.opened = True
        return defer.succeed(self.found())


class LosesTheFile(Faultless):
    def found(self) -> StoredState:
        return replace(super().found(), file={})


class TellsOldestFirst(Faultless):
    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        return super().history(before, limit).addCallback(lambda found: found[::-1])


class TellsAll(Faultless):
    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        return super().history(None, limit)


class TellsTooMuch(Faultless):
    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        every: list[Recorded] = []
        while found := self.disk["history"].page(before, limit):
            every += found
            before = found[-1].version
        return defer.succeed(every) if self.opened else defer.fail(StoreError("not open"))


class ForgetsThePlace(Faultless):
    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        return super().commit(expected, [replace(one, place="") for one in changes], version)


class GuessesStates(Faultless):
    def state_at(self, version: int) -> defer.Deferred[StoredState]:
        return defer.succeed(self.found()) if self.opened else defer.fail(StoreError("not open"))


class NeverForgets(Faultless):
    def keep_history(self, versions: int) -> None: ...


class ForgetsTooMuch(Faultless):
    def write(self, expected: Revision, changes: Sequence[Change], version: int) -> None:
        super().write(expected, changes, version)
        if version == 100:
            history = self.disk["history"]
            history._first.pop(("upstream", "old"))


class TellsAfterClose(Faultless):
    def close(self) -> defer.Deferred[None]:
        return defer.succeed(None)


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
        (LastWriterWins, "test_commit_to_another_revision_changes_nothing"),
        (LastWriterWins, "test_one_of_two_rivals_wins"),
        (CountsBeforeItChecks, "test_commit_to_another_revision_changes_nothing"),
        (CountsBeforeItChecks, "test_value_that_is_no_json_is_refused"),
        (KeepsItsRevision, "test_each_commit_is_another_revision"),
        (CountsByItself, "test_version_is_the_callers"),
        (ForgetsRemoved, "test_removed_upstream_stays_known"),
        (MixesKinds, "test_routes_are_apart_from_upstreams"),
        (CutsLongValues, "test_values_come_back_as_they_were"),
        (LosesHooks, "test_hooks_are_apart_from_upstreams"),
        (TakesHooksForUpstreams, "test_hooks_are_apart_from_upstreams"),
        (KeepsRemovedHooks, "test_hooks_are_apart_from_upstreams"),
        (TakesNumbersForTruth, "test_values_come_back_as_they_were"),
        (KeepsTheFirst, "test_several_changes_are_one_commit"),
        (CommitsEach, "test_several_changes_are_one_commit"),
        (EncodesLate, "test_value_is_taken_at_the_call"),
        (EncodesLate, "test_close_finishes_what_is_under_way"),
        (LosesTheFile, "test_file_is_apart_from_what_was_set"),
        (TellsOldestFirst, "test_history_tells_what_was_changed"),
        (TellsAll, "test_history_tells_what_was_changed"),
        (TellsTooMuch, "test_history_is_told_in_pages"),
        (ForgetsThePlace, "test_history_tells_what_was_changed"),
        (GuessesStates, "test_state_of_every_version_is_known"),
        (NeverForgets, "test_history_is_limited"),
        (ForgetsTooMuch, "test_history_is_limited"),
        (TellsAfterClose, "test_closed_store_tells_nothing"),
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


@pytest.mark.real
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
