"""A store in which others write as well: what they change is served, under the rules of all
changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

import slardar.stores
from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.errors import ConflictError
from slardar.interfaces import IWatchedStore
from slardar.model.change import TO_FILE, StoredState, Value
from slardar.model.hook import Code, Hook, written
from slardar.service import SlardarService
from slardar.testing.stores import StoreContract
from tests.control import board as board_file
from tests.control.board import Board, BoardStore
from tests.control.fakes import NOW, FakePlane, error_of, make_actions, result_of, upstream

A = "script.a.test"


class TestBoardStore(StoreContract):
    """The fake is a store as any other."""

    @pytest.fixture(autouse=True)
    def board(self) -> None:
        self.board = Board()

    def make_store(self) -> BoardStore:
        return BoardStore(self.board)


def test_fake_provides_the_interface() -> None:
    """Every method is there, with the arguments that callers give."""
    verifyObject(IWatchedStore, BoardStore(Board()))


class Node:
    """One slardar among those that share a board."""

    def __init__(self, board: Board, **settings: Any) -> None:
        self.store = BoardStore(board)
        self.plane = FakePlane()
        self.actions: Actions = make_actions(self.store, self.plane, **settings)

    @property
    def ports(self) -> dict[str, list[int]]:
        """The ports of every upstream that is served."""
        found = self.plane.snapshot.upstreams
        return {name: [server.port for server in one.servers] for name, one in found.items()}

    @property
    def version(self) -> int:
        return self.plane.snapshot.version


@pytest.fixture
def board() -> Board:
    return Board()


def hook(code: str) -> Hook:
    return Hook("python", A, active=Code.of(code, NOW))


@pytest_twisted.ensureDeferred
async def test_adding_such_a_store_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its URL in the settings is all: what others write there is served by the real service,
    with nothing of slardar touched."""
    from twisted.internet import reactor  # noqa: TID251

    (tmp_path / "board.py").write_text(Path(board_file.__file__).read_text())
    monkeypatch.setattr(slardar.stores, "__path__", [*slardar.stores.__path__, str(tmp_path)])
    copy = str(tmp_path / "copy.db")
    settings = parse_settings({"store": "board:shared", "store_copy": copy, "workers": 0})
    service = SlardarService(reactor, settings)
    module = sys.modules.pop("slardar.stores.board")
    shared = module.Board.by_name["shared"]
    try:
        await service.actions.start()
        shared.write([Value("upstream", "a", upstream(1))])
        shared.tell()
        assert list(service.actions.snapshot.upstreams) == ["a"]
        assert service.actions.status()["shd_config_version"] == 1
        status = service.actions.status()
        assert status["statistics"]["version"] == 1
        assert status["store"] == {"url": "board:shared", "status": "ok", "copy": {"file": copy}}
    finally:
        await defer.maybeDeferred(service.stopService)


def test_change_of_another_is_served(board: Board) -> None:
    """As one version, with a delta of what differs, and a line of the log."""
    one, other = Node(board, upstreams={"file": upstream(9)}), Node(board)
    before = other.plane.snapshot.hooks
    result_of(one.actions.set_upstream("a", upstream(1), "ops"))
    assert other.ports == {}
    with capturedLogs() as logged:
        board.tell()
    assert (one.version, other.version) == (1, 1)
    assert other.ports == {"a": [1]}
    assert other.plane.applied[-1] == (other.actions.snapshot, ["a"])
    assert other.plane.snapshot.hooks is before
    assert [formatEvent(event) for event in logged] == [
        "version 1: upstreams.a set by store: new, with 127.0.0.1:1"
    ]
    # It is the file's no more, as after a restart.
    assert other.actions.origin("a") == "control"
    result_of(other.actions.patch_server("a", "127.0.0.1:1", {"weight": 5}, "ops"))
    board.tell()
    assert one.actions.snapshot.upstreams["a"].servers[0].weight == 5
    assert one.ports == {"a": [1], "file": [9]}


def test_all_that_differs_is_one_version(board: Board) -> None:
    """Upstreams, routes, hooks, what went and what the file has again."""
    node = Node(board, upstreams={"file": upstream(9), "own": upstream(8)}, default_upstream="own")
    for name in ("file", "gone", "same"):
        result_of(node.actions.set_upstream(name, upstream(1), "ops"))
    same = node.actions.snapshot.upstreams["same"]
    board.write(
        [
            Value("upstream", "file", TO_FILE),
            Value("upstream", "gone", None),
            Value("upstream", "new", upstream(2)),
            Value("routes", "", [{"path": "/x", "upstream": "new"}]),
            Value("hook", f"python/{A}", written(hook("one"))),
            Value("hook", "python/version", "release 7"),
        ]
    )
    board.tell()
    snapshot, changed = node.plane.applied[-1]
    assert (snapshot.version, sorted(changed)) == (4, ["file", "gone", "new"])
    assert node.ports == {"file": [9], "new": [2], "own": [8], "same": [1]}
    assert snapshot.upstreams["same"] is same
    assert snapshot.route("any", "/x") == "new"
    assert snapshot.route("any", "/") == "own"
    assert list(snapshot.hooks) == [("python", A)]
    assert node.plane.checked == [(A, {})]
    assert node.actions.hooks.commit_version("python") == "release 7"
    assert node.actions.origin("file") == "file"
    # What is served is what a start would serve.
    again = Node(board, upstreams={"file": upstream(9), "own": upstream(8)}, default_upstream="own")
    assert again.actions.snapshot.fingerprint == snapshot.fingerprint


def test_echo_of_a_change_of_ours_changes_nothing(board: Board) -> None:
    """Told before the answer, after it, or while the next change is under way."""
    node = Node(board)
    node.store.held = []
    first = node.actions.set_upstream("a", upstream(1), "x")
    board.tell()  # before the answer
    node.store.held.pop()()
    assert result_of(first).version == 1
    board.tell()  # after it
    echo = board.state
    second = node.actions.set_upstream("a", upstream(2), "x")
    assert node.store.changed is not None
    node.store.changed(echo)  # late: the store is ahead already
    node.store.held.pop()()
    assert result_of(second).version == 2
    board.tell()
    assert node.ports == {"a": [2]}
    assert [snapshot.version for snapshot, _ in node.plane.applied] == [0, 1, 2]


def test_change_that_meets_another_is_refused_and_the_other_is_served(board: Board) -> None:
    """Nobody overwrites what they have not seen; asked again, it is made."""
    one, other = Node(board), Node(board)
    result_of(one.actions.set_upstream("a", upstream(1), "x"))
    error_of(other.actions.set_upstream("b", upstream(2), "x"), ConflictError)
    board.tell()
    assert other.ports == {"a": [1]}
    assert result_of(other.actions.set_upstream("b", upstream(2), "x")).version == 2
    board.tell()
    assert one.ports == other.ports == {"a": [1], "b": [2]}
    assert one.actions.snapshot.fingerprint == other.actions.snapshot.fingerprint


def test_several_that_come_together_are_one_change(board: Board) -> None:
    """Only the newest counts, and a change of the file waits its turn."""
    node = Node(board)
    node.store.held = []
    first = node.actions.set_upstream("a", upstream(1), "x")
    settings = parse_settings({"upstreams": {"file": upstream(9)}})
    hup = node.actions.take_settings(settings, "HUP")
    node.store.held.pop(0)()
    assert result_of(first).version == 1
    # HUP's commit is under way; others write after it.
    node.store.held.pop(0)()
    assert result_of(hup).version == 2
    check = node.plane.check_hook
    waiting: defer.Deferred[Any] = defer.Deferred()
    node.plane.check_hook = lambda *_: waiting  # type: ignore[method-assign]
    board.write([Value("hook", f"python/{A}", written(hook("one")))])
    board.tell()
    node.plane.check_hook = check  # type: ignore[method-assign]
    for port in (3, 4, 5):
        board.write([Value("upstream", "b", upstream(port))])
        board.tell()
    assert node.version == 2
    waiting.callback(())
    assert node.ports == {"a": [1], "b": [5], "file": [9]}
    assert node.version == 3
    assert list(node.plane.snapshot.hooks) == [("python", A)]


@pytest.mark.parametrize(
    "wrong",
    [
        Value("upstream", "a", {"servers": []}),
        Value("routes", "", {"no": "list"}),
        Value("hook", f"python/{A}", {"no": "hook"}),
        Value("hook", f"python/{A}", written(hook("it fails"))),
    ],
    ids=["upstream", "routes", "hook", "code"],
)
def test_state_with_a_mistake_is_refused_whole(board: Board, wrong: Value) -> None:
    """What is served stays, changes are refused with the reason, and the status shows it,
    until the store has been set right."""
    node = Node(board)
    result_of(node.actions.set_upstream("a", upstream(1), "x"))
    before = board.texts.get((wrong.kind, wrong.name))
    board.write([Value("upstream", "b", upstream(2)), wrong])
    with capturedLogs() as logged:
        board.tell()
        board.tell()
    assert node.ports == {"a": [1]}
    assert (node.version, len(node.plane.applied)) == (1, 2)
    assert {formatEvent(event).partition(":")[0] for event in logged} == {
        "the store's new state is not served"
    }
    reason = node.actions.status()["failed"]["store"]
    assert wrong.name.partition("/")[2] in reason
    message = error_of(node.actions.set_upstream("c", upstream(3), "x"), ConflictError)
    assert message.endswith(reason)
    # Set right by whoever was wrong.
    if before is None:
        board.texts.pop((wrong.kind, wrong.name))
        board.write([])
    else:
        board.write([Value("upstream", "a", upstream(1))])
    board.tell()
    assert node.ports == {"a": [1], "b": [2]}
    assert "failed" not in node.actions.status()
    assert result_of(node.actions.set_upstream("c", upstream(3), "x")).version == 3


def test_part_that_was_left_out_at_the_start_is_in_nobodys_way(board: Board) -> None:
    """It stays left out while the rest goes on, until somebody sets it right."""
    board.write([Value("upstream", "a", {"servers": []}), Value("hook", f"python/{A}", 5)])
    node = Node(board)
    assert sorted(node.actions.failed) == [f"hooks.python/{A}", "upstreams.a"]
    board.write([Value("upstream", "b", upstream(2))])
    board.tell()
    assert node.ports == {"b": [2]}
    assert sorted(node.actions.failed) == [f"hooks.python/{A}", "upstreams.a"]
    board.write([Value("upstream", "a", upstream(1)), Value("hook", f"python/{A}", None)])
    board.tell()
    assert node.ports == {"a": [1], "b": [2]}
    assert node.actions.failed == {}


def test_difference_that_is_not_served_is_no_version(board: Board) -> None:
    """The store has a word now on what the file said as well."""
    node = Node(board, upstreams={"file": upstream(9)})
    written_as_is = node.actions.snapshot.upstreams["file"].source
    board.write([Value("upstream", "file", written_as_is), Value("upstream", "none", None)])
    board.tell()
    assert (node.version, len(node.plane.applied)) == (0, 1)
    assert node.actions.origin("file") == "control"
    assert result_of(node.actions.set_upstream("a", upstream(1), "x")).version == 1


def test_counter_is_ahead_of_all_who_count(board: Board) -> None:
    """Two that saw different things meet at the greater number, also after writes of somebody
    who counts nothing; a restart goes on from the last commit."""
    one, other = Node(board), Node(board)
    for number in (1, 2):
        board.write([Value("upstream", "a", upstream(number))])
        one.store.changed and one.store.changed(board.state)
    assert (one.version, other.version) == (2, 0)
    board.tell()
    assert (one.version, other.version) == (2, 1)
    assert result_of(one.actions.set_upstream("b", upstream(1), "x")).version == 3
    board.tell()
    assert (one.version, other.version) == (3, 3)
    # A reading of a file that others have nothing of is a commit all the same.
    settings = parse_settings({"upstreams": {"file": upstream(9)}})
    assert result_of(one.actions.take_settings(settings, "HUP")).version == 4
    board.tell()
    assert other.version == 3
    assert result_of(other.actions.set_upstream("b", upstream(2), "x")).version == 5
    assert Node(board).version == 5


def test_store_that_was_let_go_is_looked_at_again(board: Board) -> None:
    """Others may have written between; and nothing is heard before."""
    one, other = Node(board), Node(board)
    assert result_of(one.actions.hand_over()) is None
    waiting = one.actions.set_upstream("b", upstream(2), "x")
    result_of(other.actions.set_upstream("a", upstream(1), "x"))
    board.tell()
    assert one.ports == {}
    result_of(one.actions.take_back())
    error_of(waiting, ConflictError)
    assert one.ports == {"a": [1]}
    result_of(other.actions.set_upstream("c", upstream(3), "x"))
    board.tell()
    assert one.ports == {"a": [1], "c": [3]}


def test_another_process_has_the_store_for_good(board: Board) -> None:
    """What is told then is nobody's business here."""
    node = Node(board)
    changed = node.store.changed
    assert changed is not None
    result_of(node.actions.hand_over())
    changed(StoredState(9, {"a": upstream(1)}, revision="late"))
    with capturedLogs() as logged:
        node.actions.moved()
    assert node.ports == {}
    assert logged == []
