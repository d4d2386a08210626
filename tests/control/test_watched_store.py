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


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize(
    ("good", "wrong"),
    [
        (Value("upstream", "a", upstream(1)), {"servers": []}),
        (Value("service", "s", {"dns_service": "_s._tcp.test"}), {"dns_service": 5}),
        (Value("routes", "", [{"path": "/x", "upstream": "a"}]), {"no": "list"}),
        (Value("hook", f"python/{A}", written(hook("one"))), {"no": "hook"}),
        (Value("hook", f"python/{A}", written(hook("one"))), written(hook("it fails"))),
        (Value("setting", "arg", 1), "\x00" * 99_999),
    ],
    ids=["upstream", "service", "routes", "hook", "code", "setting"],
)
def test_of_a_part_with_a_mistake_the_last_good_value_stays(
    board: Board, good: Value, wrong: object, is_json: bool
) -> None:
    """Everything else is served.  The mistake is in the status, and once in the log; changes go on;
    a start leaves the part out, and whoever sets it right ends this."""
    node = Node(board)
    result_of(node.actions.set_upstream("a", upstream(1), "x"))
    board.write([good])
    board.tell()
    before = node.plane.snapshot

    def parts() -> list[object]:
        now = node.plane.snapshot
        routes, hooks = now.routes, now.hooks
        return [now.upstreams["a"], now.services, routes, hooks, now.settings]

    served = parts()
    assert before.services or before.routes or before.hooks or before.settings or good.name == "a"
    if is_json:
        board.write([Value(good.kind, good.name, wrong)])
    else:
        board.spoil(good)
    board.write([Value("upstream", "b", upstream(2))])
    with capturedLogs() as logged:
        board.tell()
        board.tell()
    assert [old is new for old, new in zip(served, parts(), strict=True)] == [True] * 5
    assert "b" in node.plane.snapshot.upstreams
    left_out, change = [formatEvent(event) for event in logged]
    assert left_out.startswith(f"stored and left out: {good.path}")
    assert change == f"version {node.version}: upstreams.b set by store: new, with 127.0.0.1:2"
    failed = node.actions.status()["failed"]
    assert list(failed) == [good.path]
    assert f"stored and left out: {failed[good.path]}" == left_out
    # Changes through the control channel go on.
    result_of(node.actions.set_upstream("c", upstream(3), "x"))
    result_of(node.actions.take_settings(parse_settings({"upstreams": {"f": upstream(9)}}), "HUP"))
    assert [old is new for old, new in zip(served, parts(), strict=True)] == [True] * 5
    assert list(node.actions.failed) == [good.path]
    # A start knows no good value.  The plane tells which code it cannot load.
    again = Node(board)
    loads = is_json and "fails" in str(wrong)
    assert again.actions.failed == ({} if loads else failed)
    assert {"b", "c"} <= set(again.plane.snapshot.upstreams)
    # Set right by whoever was wrong, to what is served.
    version = node.version
    board.write([good])
    board.tell()
    assert [old is new for old, new in zip(served, parts(), strict=True)] == [True] * 5
    assert (node.actions.failed, again.actions.failed) == ({}, {})
    assert node.version == version
    assert again.plane.snapshot.fingerprint == Node(board).plane.snapshot.fingerprint


def test_change_of_a_broken_part_repairs_it(board: Board) -> None:
    """Through any node's control channel; and a removal is one, too."""
    node = Node(board, upstreams={"f": upstream(9), "g": upstream(8)})
    for name in ("a", "f"):
        board.spoil(Value("upstream", name, None))
    board.write([Value("upstream", "b", {"servers": 5})])
    board.tell()
    # What was served stays, the file's as well.
    assert node.ports == {"f": [9], "g": [8]}
    assert sorted(node.actions.failed) == ["upstreams.a", "upstreams.b", "upstreams.f"]
    result_of(node.actions.set_upstream("a", upstream(1), "x"))
    result_of(node.actions.remove_upstream("b", "x"))
    assert node.ports == {"a": [1], "f": [9], "g": [8]}
    board.broken.clear()
    board.write([])
    board.tell()
    assert node.actions.failed == {}
    other = Node(board, upstreams={"f": upstream(9), "g": upstream(8)})
    assert other.ports == node.ports


def test_last_good_value_goes_with_the_part(board: Board) -> None:
    """Whoever removes a broken key removes what is served of it."""
    node = Node(board)
    board.write([Value("upstream", "a", upstream(1))])
    board.tell()
    board.spoil(Value("upstream", "a", None))
    board.tell()
    assert node.ports == {"a": [1]}
    board.broken.clear()
    board.write([])
    with capturedLogs() as logged:
        board.tell()
    assert (node.ports, node.actions.failed) == ({}, {})
    assert "upstreams.a removed by store" in formatEvent(logged[0])


def module(name: str, code: str) -> Value:
    found = Hook("python", name, active=Code.of(code, NOW))
    return Value("hook", f"python/{name}", written(found))


def script(name: str, code: str, *requires: str) -> Value:
    found = Hook("python", name, active=Code.of(code, NOW, requires))
    return Value("hook", f"python/{name}", written(found))


def test_hooks_that_do_not_load_together_stay_as_they_are(board: Board) -> None:
    """A module that others cannot be loaded with stays; a script that cannot be loaded with the new
    modules, too; others go on.  As soon as it can be loaded, it is."""
    node = Node(board)

    def codes() -> dict[str, str]:
        hooks = node.plane.snapshot.hooks.values()
        return {one.name: one.active.code for one in hooks if one.active is not None}

    m, n, a, b = "modules.m", "modules.n", "script.a", "script.b"
    board.write([module(m, "1"), script(a, f"use {m}", m)])
    board.tell()
    assert codes() == {m: "1", a: f"use {m}"}
    # The module breaks an unchanged script; another script is good.
    board.write([module(m, "fails"), script(b, "new")])
    board.tell()
    assert codes() == {m: "1", a: f"use {m}", b: "new"}
    assert list(node.actions.failed) == [f"hooks.python/{m}"]
    # A changed script is good with the module that stays.
    board.write([script(a, f"other use {m}", m)])
    board.tell()
    assert codes() == {m: "1", a: f"other use {m}", b: "new"}
    # A script that needs a module which is not there stays as it is, until there is one.
    board.write([script(b, f"use {n}", n)])
    board.tell()
    assert codes()[b] == "new"
    assert sorted(node.actions.failed) == [f"hooks.python/{m}", f"hooks.python/{b}"]
    board.write([module(n, "2")])
    board.tell()
    assert codes() == {m: "1", n: "2", a: f"other use {m}", b: f"use {n}"}
    assert list(node.actions.failed) == [f"hooks.python/{m}"]
    # A module that is used does not go.
    board.write([Value("hook", f"python/{n}", None)])
    board.tell()
    assert codes()[n] == "2"
    assert sorted(node.actions.failed) == [f"hooks.python/{m}", f"hooks.python/{n}"]
    board.write([module(m, "3"), script(b, "without")])
    board.tell()
    assert codes() == {m: "3", a: f"other use {m}", b: "without"}
    assert node.actions.failed == {}
    # What is missing may come through the control channel of this node.
    board.write([script(b, f"use {n}", n)])
    board.tell()
    assert list(node.actions.failed) == [f"hooks.python/{b}"]
    posted = node.actions.hooks.stage("python", n, b"4", "x", activate=True)
    result_of(defer.ensureDeferred(posted))
    assert codes() == {m: "3", n: "4", a: f"other use {m}", b: f"use {n}"}
    assert node.actions.failed == {}


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


def test_name_in_the_store_forges_no_line_of_the_log() -> None:
    """Whoever writes to the store chooses names, with any character."""
    board = Board()
    node = Node(board)
    with capturedLogs() as logged:
        board.write([Value("upstream", "a\n\x1b[31mversion 7", 5)])
        board.tell()
    (line,) = [formatEvent(event) for event in logged]
    assert line.startswith("stored and left out: upstreams.a ")
    assert line.isprintable()
    assert list(node.actions.status()["failed"]) == ["upstreams.a\n\x1b[31mversion 7"]


def test_log_is_not_filled_by_what_is_left_out() -> None:
    """It names the first parts, and says how many more there are; the status has them all."""
    board = Board()
    node = Node(board)
    with capturedLogs() as logged:
        board.write([Value("upstream", f"{number:02d}{'x' * 5000}", 5) for number in range(30)])
        board.tell()
    lines = [formatEvent(event) for event in logged]
    assert len(lines) == 21
    assert max(map(len, lines)) < 1100
    assert lines[-1] == "stored and left out: 10 more: see failed in /status"
    assert len(node.actions.status()["failed"]) == 30
