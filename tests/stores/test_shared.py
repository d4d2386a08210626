"""The store that many slardars share: races, large commits, what others write, limits."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from slardar.errors import ConflictError, StoreError
from slardar.model.change import Change, StoredState, Value
from slardar.stores.layout import HISTORY, LARGE, MAX_VERSION, META, OWN, unpack
from slardar.stores.record import HISTORY_BYTES, record_key
from slardar.stores.shared import SharedStore
from slardar.stores.tree import NotWrittenError, Write
from slardar.testing.trees import MemoryServer, MemoryTree
from tests.control.fakes import error_of, result_of


class Node:
    """A slardar at the server: what it holds follows the rules of ``Configuration``."""

    def __init__(self, server: MemoryServer) -> None:
        self.clock = Clock()
        self.tree = MemoryTree(server)
        self.store = SharedStore(self.tree, self.clock, "config/slardar/")
        self.told: list[StoredState] = []
        self.reasons: list[str] = []
        self.held: StoredState = result_of(self.store.open())
        self.store.watch(self._changed, self.reasons.append)

    def _changed(self, state: StoredState) -> None:
        self.told.append(state)

    def ask(self, *values: Value) -> Deferred[Any]:
        """Change the values in what it holds."""
        changes = [Change(one.kind, one.name, one.value, "x", 1.0) for one in values]
        answer = self.store.commit(self.held.revision, changes, self.held.version + 1)

        def made(revision: Any) -> Any:
            self.held = self.held.after(changes, self.held.version + 1, revision)
            return revision

        return answer.addCallback(made)

    def commit(self, *values: Value) -> None:
        result_of(self.ask(*values))

    def take(self) -> StoredState:
        """Take over what is told."""
        self.clock.advance(0)
        if self.told:
            self.held = self.told[-1]
            self.told.clear()
        return self.held


def up(name: str, value: object = 1) -> Value:
    return Value("upstream", name, value)


def many(number: int, value: object = 1) -> list[Value]:
    return [up(f"u{one}", value) for one in range(number)]


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


# Races.


def test_edit_of_another_key_harms_no_commit(server: MemoryServer) -> None:
    """Whether it was told of and not taken yet, or comes with the commit.  The answer's state does
    not have it, so it is told after the answer."""
    node = Node(server)
    node.commit(up("a"))
    node.take()
    server.put("upstreams/told", "1")
    assert len(node.told) == 1
    server.tells = False
    server.put("upstreams/untold", "1")
    node.commit(up("b"))
    revision = node.held.revision
    assert (len(node.told), node.held.upstreams) == (1, {"a": 1, "b": 1})
    node.clock.advance(0)
    assert [list(one.upstreams) for one in node.told[1:]] == [["a", "told", "b"]]
    assert node.told[1].revision != revision
    server.tell()
    assert node.take() == result_of(SharedStore(MemoryTree(server), Clock(), "x").open())
    assert set(node.held.upstreams) == {"a", "b", "told", "untold"}


@pytest.mark.parametrize("tells", [True, False])
def test_edit_of_the_key_itself_is_a_conflict(server: MemoryServer, tells: bool) -> None:
    """Made, changed or removed; nothing is written then, and what is there is told at once."""
    node = Node(server)
    node.commit(up("a"), up("b"))
    writes = [
        (up("a", 2), lambda: server.put("upstreams/a", "3")),
        (up("b", None), lambda: server.remove("upstreams/b")),
        (up("new"), lambda: server.put("upstreams/new", "3")),
    ]
    for value, edit in writes:
        server.tells = tells
        edit()
        before = server.content
        error_of(node.ask(up("c"), value), ConflictError)
        assert server.content == before
        server.tells = True
        node.take()
    assert node.held.upstreams == {"a": 3, "new": 3}
    node.commit(up("a", 2))


def test_two_nodes_take_turns(server: MemoryServer) -> None:
    """A commit to a state that another has changed is a conflict, though the keys differ."""
    one, other = Node(server), Node(server)
    one.commit(up("a"))
    error_of(other.ask(up("b")), ConflictError)
    other.take()
    other.commit(up("b"))
    assert one.take().upstreams == other.take().upstreams == {"a": 1, "b": 1}
    assert one.held == other.held


def test_states_heard_during_a_commit_are_told_after_its_answer(server: MemoryServer) -> None:
    """In their order, and no echo of the commit is told."""
    node = Node(server)
    node.tree.held = []
    answer = node.ask(up("a"))
    server.put("x", "1")
    node.tree.held.pop(0)()
    assert node.told == []
    revision = result_of(answer)
    node.clock.advance(0)
    (told,) = node.told
    assert (told.settings, told.upstreams) == ({"x": 1}, {"a": 1})
    assert told.revision != revision
    # Without others' edits nothing is told.
    node.take()
    node.told.clear()
    answer = node.ask(up("b"))
    node.tree.held.pop(0)()
    result_of(answer)
    node.clock.advance(5)
    assert node.told == []


# Answers that get lost.


@pytest.mark.parametrize("number", [1, 100])
def test_commit_whose_answer_is_lost_is_looked_up(server: MemoryServer, number: int) -> None:
    """It was made, also if others have committed since, or it was not."""
    node = Node(server)

    def lose(writes: Sequence[Write]) -> None:
        if writes[0].key == META:
            node.tree.before_write = lambda writes: None
            node.tree.lost_answers = 1

    for name in "ab":
        node.tree.before_write = lose
        node.commit(up(name), *many(number))
        assert node.held.upstreams == node.take().upstreams
    assert json.loads(server.entries[META].value).get("pending") is None

    def refuse(writes: Sequence[Write]) -> None:
        raise StoreError("memory: not written")

    node.tree.before_write = refuse
    assert error_of(node.ask(up("c")), StoreError) == "memory: not written"
    node.tree.before_write = lambda writes: None
    node.commit(up("c"))
    assert node.take() == result_of(SharedStore(MemoryTree(server), Clock()).open())


def test_answer_is_lost_and_another_commits_meanwhile(server: MemoryServer) -> None:
    """The commit was made, and the other's state is told after it."""
    node, other = Node(server), Node(server)
    node.tree.lost_answers = 1
    server.tells = False
    node.tree.held = []
    answer = node.ask(up("a"))
    node.tree.held.pop(0)()
    server.tell()
    other.take()
    other.commit(up("b"))
    node.tree.held.pop(0)()
    result_of(answer)
    assert node.held.upstreams == {"a": 1}
    assert node.take().upstreams == {"a": 1, "b": 1}
    node.tree.held = None
    node.commit(up("c"))


@pytest.mark.parametrize("looks", [False, True])
def test_commit_that_its_caller_has_given_up_is_told(server: MemoryServer, looks: bool) -> None:
    """If it is made all the same, it is news; and the caller can go on from there."""
    node = Node(server)
    node.tree.held = held = []
    node.tree.lost_answers = int(looks)
    answer = node.ask(up("a"))
    waits = node.ask(up("never"))
    for one in (answer, waits):
        one.cancel()
        error_of(one, CancelledError)
    node.tree.held = None
    for call in held:
        call()
    assert node.take().upstreams == {"a": 1}
    node.commit(up("b"))
    assert Node(server).held.upstreams == {"a": 1, "b": 1}


def test_nobody_knows_whether_it_was_made(server: MemoryServer) -> None:
    """The answer is an error, and the next state tells."""
    node = Node(server)
    node.tree.lost_answers = 1
    node.tree.held = []
    answer = node.ask(up("a"))
    node.tree.held.pop(0)()
    server.fail("memory: away")
    node.tree.held.pop(0)()
    message = error_of(answer, StoreError)
    assert message == "memory: no answer; it is not known whether the change is made"
    node.tree.held = None
    assert node.reasons == ["memory: away"]
    server.fail("")
    assert node.take().upstreams == {"a": 1}


def test_it_is_known_that_it_was_not_made(server: MemoryServer) -> None:
    """The error is the tree's, and nobody is asked."""
    node = Node(server)

    def refuse(_writes: object) -> None:
        raise NotWrittenError("memory: no")

    node.tree.before_write = refuse
    node.tree.held = []
    answer = node.ask(up("a"))
    node.tree.held.pop(0)()
    assert (error_of(answer, StoreError), node.tree.held) == ("memory: no", [])


# Large commits.


def test_large_commit_is_seen_as_one(server: MemoryServer) -> None:
    """By those who look between any two of its writes, though it takes many."""
    node = Node(server)
    node.commit(*many(300, "old"))
    server.writes.clear()
    seen: list[set[Any]] = []

    def look(writes: Sequence[Write]) -> None:
        state = result_of(SharedStore(MemoryTree(server), Clock()).open())
        seen.append(set(state.upstreams.values()))

    node.tree.before_write = look
    node.commit(*many(300, "new"))
    assert len(server.writes) > 5
    assert seen == sorted(seen, key=lambda values: values == {"new"})
    assert all(values in ({"old"}, {"new"}) for values in seen)
    assert node.told == []
    node.clock.advance(0)
    assert node.told == []
    assert set(node.store._look().state.upstreams.values()) == {"new"}


def test_next_slardar_finishes_what_another_has_begun(server: MemoryServer) -> None:
    """And then makes its own commit; what somebody has edited meanwhile stays."""
    node, other = Node(server), Node(server)
    node.commit(*many(200, "old"))
    node.tree.life = 4
    with capturedLogs() as logged:
        node.commit(up("first"), *many(200, "new"), up("u7", None))
    assert "are not all written yet" in str(logged[0]["log_format"])
    assert json.loads(server.entries[META].value)["pending"]
    left = [key for key, one in server.entries.items() if one.value == b'"old"']
    assert "upstreams/u199" in left
    server.put("upstreams/u199", '"edited"')
    server.remove("upstreams/u198")
    # This one was written already, and nothing was there before.
    server.remove("upstreams/first")
    held = other.take()
    other.commit(up("mine"))
    assert "pending" not in json.loads(server.entries[META].value)
    assert not [key for key, one in server.entries.items() if one.value == b'"old"']
    assert other.take().upstreams == {**held.upstreams, "mine": 1}
    assert (held.upstreams["u0"], held.upstreams["u7"]) == ("new", None)
    assert held.upstreams["u199"] == "edited"
    assert not {"u198", "first"} & set(held.upstreams)
    assert other.held == result_of(SharedStore(MemoryTree(server), Clock()).open())


def test_large_commit_leaves_no_private_key_in_its_record() -> None:
    """They stand in the keys of their certificates alone, once all is written; also where another
    slardar writes the rest, whatever the rest is."""
    pairs = {f"c{number}": {"cert": "", "key": f"PRIVATE{number}"} for number in range(150)}
    acme = Value("acme", "account", {"key": "PRIVATE"})
    unfinished = []
    for life in range(4, 20):
        server = MemoryServer()
        node, other = Node(server), Node(server)
        node.tree.life = life
        with capturedLogs():
            node.commit(acme, *(Value("certificate", *one) for one in pairs.items()))
        unfinished.append("pending" in json.loads(server.entries[META].value))
        held = other.take()
        assert (held.certificates, held.acme) == (pairs, {"account": {"key": "PRIVATE"}})
        other.commit(up("a"))
        for key, entry in server.entries.items():
            is_place = key.startswith(("certificates/", f"{OWN}acme/"))
            assert (b"PRIVATE" in unpack(entry.value)) == is_place, key
        assert not [key for key in server.entries if "/secret/" in key]
        assert other.take().certificates == pairs
        (first, *_) = result_of(other.store.history(2, 1))
        assert (first.change.kind, first.change.value) == ("certificate", {})
        if not unfinished[-1]:
            break
    assert unfinished[:2] == [True, True]
    assert not unfinished[-1]


def test_large_commit_that_is_not_made_leaves_nothing(server: MemoryServer) -> None:
    """Whether it loses a race or is killed: what it has written already is seen by nobody, and goes
    with the next commit."""
    node, other = Node(server), Node(server)

    def race(writes: Sequence[Write]) -> None:
        if writes[0].key == META:
            node.tree.before_write = lambda writes: None
            other.commit(up("other"))

    node.tree.before_write = race
    error_of(node.ask(*many(100)), ConflictError)
    assert node.take().upstreams == {"other": 1}
    assert not [key for key in server.entries if key.startswith(LARGE)]
    node.tree.life = 1
    error_of(node.ask(*many(100)), StoreError)
    assert [key for key in server.entries if key.startswith(LARGE)]
    assert other.take().upstreams == {"other": 1}
    other.commit(up("a"))
    assert not [key for key in server.entries if key.startswith(LARGE)]


def test_record_of_a_large_commit_that_is_damaged_is_told_of(server: MemoryServer) -> None:
    """What is written already is served, and commits go on."""
    node = Node(server)
    node.tree.life = 4
    node.commit(*many(200))
    (key,) = [key for key in server.entries if key.startswith(LARGE)]
    server.put(key, "nothing")
    other = Node(server)
    assert next(iter(other.held.broken)).startswith(HISTORY)
    assert 0 < len(other.held.upstreams) < 200
    other.commit(up("a"))
    assert other.take().broken == {}
    error_of(other.store.history(None, 10), StoreError)


def test_others_write_again_and_again_what_a_large_change_writes(server: MemoryServer) -> None:
    """Their edits stay, and the rest is written."""
    node = Node(server)
    count = 0

    def edit(writes: Sequence[Write]) -> None:
        nonlocal count
        if writes[0].key == META and len(writes) > 10 and count < 5:
            count += 1
            server.put(writes[-1].key, '"edited"')

    node.tree.before_write = edit
    node.commit(*many(200))
    node.tree.before_write = lambda writes: None
    values = list(node.take().upstreams.values())
    assert (values.count("edited"), values.count(1)) == (count, 200 - count)
    assert count == 5
    assert "pending" not in json.loads(server.entries[META].value)


# Limits.


def test_value_that_is_too_large_is_refused(server: MemoryServer) -> None:
    """With the key, its size and the limit; nothing of the commit is written."""
    node = Node(server)
    value = "x" * server.max_value
    message = error_of(node.ask(up("good"), up("www.example.com", value)), StoreError)
    assert message == (
        "upstreams.www.example.com: config/slardar/upstreams/www.example.com would have"
        f" {server.max_value + 2} bytes, and the store takes {server.max_value}"
    )
    assert server.entries == {}
    node.commit(up("a", value[2:]))
    assert node.held.upstreams == {"a": value[2:]}


def test_history_is_bounded_by_its_size(server: MemoryServer) -> None:
    """By what its keys take, however few versions there are."""
    node = Node(server)
    generator = random.Random(1)
    for number in range(30):
        node.commit(up("a", generator.randbytes(60_000).hex()), up("b", number))
        node.take()
    entries = server.entries.items()
    size = sum(len(one.value) for key, one in entries if key.startswith((HISTORY, LARGE)))
    assert HISTORY_BYTES / 3 < size < HISTORY_BYTES
    found = result_of(node.store.history(None, 1000))
    assert [one.change.value for one in found if one.change.name == "b"][:3] == [29, 28, 27]
    oldest = found[-1].version
    assert 3 < oldest < 28
    assert result_of(node.store.state_at(oldest - 1)).upstreams["b"] == oldest - 2


def test_edits_by_hand_are_not_in_the_history(server: MemoryServer) -> None:
    """But what was before a change is, whoever wrote it; a state of the past has them if no slardar
    has changed the key since."""
    node = Node(server)
    node.commit(up("a", 1), up("b", 1))
    server.put("upstreams/a", "2")
    server.put("upstreams/c", "2")
    node.take()
    node.commit(up("a", 3))
    found = result_of(node.store.history(None, 10))
    assert [(one.change.name, one.change.value, one.old) for one in found] == [
        ("a", 3, 2),
        ("a", 1, "file"),
        ("b", 1, "file"),
    ]
    assert result_of(node.store.state_at(1)).upstreams == {"a": 2, "b": 1, "c": 2}


# What the server does.


def test_server_that_is_away_and_back(server: MemoryServer) -> None:
    """It is told of, and a state when it is back, even if it is the same."""
    node = Node(server)
    node.commit(up("a"))
    server.fail("memory: away")
    error_of(node.ask(up("b")), StoreError)
    assert (node.reasons, node.told) == (["memory: away"], [])
    server.fail("")
    node.clock.advance(0)
    assert [one.revision for one in node.told] == [node.held.revision]
    node.commit(up("b"))


def test_state_that_was_on_its_way_is_not_told(server: MemoryServer) -> None:
    """It is older than a commit.  If the server is really older, it is told."""
    node = Node(server)
    old = server.content
    server.tells = False
    server.put("upstreams/x", "1")
    late = server.content
    node.commit(up("a"))
    node.tree.tell(late)
    assert node.take().upstreams == {"a": 1}
    server.tells = True
    server.tell()
    assert node.take().upstreams == {"a": 1, "x": 1}
    node.tree.tell(old)
    node.clock.advance(0.5)
    node.tree.tell(server.content)
    node.clock.advance(60)
    assert node.told == []
    snapshot = server.content
    node.commit(up("b"))
    revision = node.held.revision
    node.clock.advance(0)
    server.restore(snapshot)
    assert node.told == []
    node.clock.advance(1)
    assert node.take().upstreams == {"a": 1, "x": 1}
    assert node.held.revision != revision
    node.commit(up("c"))
    # Numbers come again; states differ.
    assert node.held.revision != revision


def test_restored_server_that_is_away_again_is_asked_later(server: MemoryServer) -> None:
    """Until it answers."""
    node = Node(server)
    snapshot = server.content
    node.commit(up("a"))
    server.restore(snapshot)
    server.fail("memory: away")
    node.clock.advance(1)
    server.away = ""
    node.clock.advance(1)
    assert node.take().upstreams == {}
    result_of(node.store.close())
    assert node.clock.getDelayedCalls() == []


def test_what_has_not_changed_is_not_read_again(server: MemoryServer) -> None:
    """The values are the same objects, so that nobody parses them again."""
    node = Node(server)
    for number in range(50):
        server.put(f"upstreams/u{number}", '{"servers": []}')
    before = node.take()
    server.put("upstreams/u7", '{"servers": [1]}')
    after = node.take()
    same = [name for name, value in after.upstreams.items() if value is before.upstreams[name]]
    assert sorted({*after.upstreams} - {*same}) == ["u7"]
    assert after.hooks is before.hooks
    node.commit(up("a"))
    assert node.store._look().state.upstreams["u8"] is before.upstreams["u8"]


def test_keys_of_a_newer_slardar_are_left_alone(server: MemoryServer) -> None:
    """Nobody reads them, and they stay."""
    server.put(f"{OWN}later/x", "1")
    server.put(META, '{"version": 7, "later": 1}')
    node = Node(server)
    assert (node.held.version, node.held.settings, node.held.broken) == (7, {}, {})
    node.commit(up("a"))
    assert server.entries[f"{OWN}later/x"].value == b"1"
    assert node.held.version == 8


def test_damaged_meta_keeps_nobody_from_committing(server: MemoryServer) -> None:
    """It is told of, and the next commit writes it anew."""
    node = Node(server)
    node.commit(up("a"))
    server.put("x", "1")
    assert node.take().version == 1
    server.put(META, "{")
    assert list(node.take().broken) == [META]
    assert node.held == Node(server).held
    assert (node.held.upstreams, node.held.version) == ({"a": 1}, 0)
    node.commit(up("b"))
    assert node.take().broken == {}
    # What versions meant before is lost, and those that come again are no conflict.
    assert [one.change.name for one in result_of(node.store.history(None, 10))] == ["b"]
    assert result_of(node.store.state_at(0)).upstreams == {"a": 1}
    for name in "cd":
        node.commit(up(name))
    server.remove(META)
    node.take()
    node.commit(up("e"))
    assert [key for key in server.entries if key.startswith(HISTORY)] == [f"{HISTORY}{1:020d}"]
    assert [one.change.name for one in result_of(node.store.history(None, 10))] == ["e"]


def test_last_version_is_the_last(server: MemoryServer) -> None:
    """A change beyond it, which nobody could read, is refused."""
    server.put(META, f'{{"version": {MAX_VERSION - 1}}}')
    node = Node(server)
    node.commit(up("a"))
    message = error_of(node.ask(up("b")), StoreError)
    assert "expected a version up to" in message
    assert Node(server).held.upstreams == {"a": 1}


@pytest.mark.parametrize(
    "key",
    [
        HISTORY + "1" * 5000,
        f"{HISTORY}1",
        f"{HISTORY}{'٣' * 20}",
        f"{HISTORY}-1",
        f"{LARGE}x",
    ],
)
def test_odd_keys_in_the_history_are_removed(server: MemoryServer, key: str) -> None:
    """They are no records, and harm no commit."""
    node = Node(server)
    node.commit(up("a"))
    server.put(key, "{}")
    node.take()
    assert [one.version for one in result_of(node.store.history(None, 10))] == [1]
    node.commit(up("b"))
    assert key not in server.entries
    server.put(f"{LARGE}y", "")
    node.take()
    node.commit(up("c"))
    assert f"{LARGE}y" not in server.entries


def test_odd_key_that_is_too_long_keeps_no_other() -> None:
    """It does not fit into the write of a commit, and stays."""
    server = MemoryServer(max_bytes=9000)
    node = Node(server)
    node.commit(up("a"))
    long, short = HISTORY + "1" * 5000, f"{LARGE}y"
    server.put(long, "{}")
    server.put(short, "")
    node.take()
    node.commit(up("b"))
    assert long in server.entries
    assert short not in server.entries


def test_record_with_an_absurd_time_is_told_of(server: MemoryServer) -> None:
    """No time of it could be shown."""
    node = Node(server)
    node.commit(up("a"))
    (key,) = [key for key in server.entries if key.startswith(HISTORY)]
    server.put(key, '{"version": 1, "commit": "x", "lines": [["upstream", "a", "", 1e300, "", 1]]}')
    node.take()
    assert "expected a record of changes" in error_of(node.store.history(None, 10), StoreError)


def test_foreign_record_writes_no_other_keys(server: MemoryServer) -> None:
    """A record that somebody has made up changes what its changes set, and nothing else."""
    server.put("text", "7")
    server.put(
        f"{HISTORY}{1:020d}",
        json.dumps(
            {
                "version": 1,
                "commit": "x",
                "lines": [["upstream", "a", "", 1.0, "", 5]],
                "keys": [["upstreams/a", 0], ["text", 1], [META, 3], ["../x", 0]],
            }
        ),
    )
    server.put(META, json.dumps({"version": 1, "pending": f"{1:020d}"}))
    node = Node(server)
    node.commit(up("b"))
    assert node.take().upstreams == {"a": 5, "b": 1}
    assert node.held.settings == {"text": 7}
    assert "../x" not in server.entries


def commits_before(number: int, node: Node, other: Node, *values: Value) -> None:
    """Let another node commit once, just before a node's write of this number from now on."""

    def meet(writes: Sequence[Write]) -> None:
        nonlocal number
        number -= 1
        if not number:
            node.tree.before_write = lambda writes: None
            other.take()
            other.commit(*values)

    node.tree.before_write = meet


def test_commit_of_another_that_comes_while_a_large_one_is_written(server: MemoryServer) -> None:
    """It finishes the large one, and is not taken back by whoever began that."""
    node, other = Node(server), Node(server)
    commits_before(4, node, other, up("other"))
    node.commit(*many(200))
    assert node.take().upstreams == other.take().upstreams
    assert len(node.held.upstreams) == 201
    assert (node.held.version, node.held) == (2, other.held)
    assert [one.version for one in result_of(node.store.history(None, 1))] == [2]


def ends_after(version: int, node: Node) -> None:
    """Let a node end once it has begun a large commit of this version."""

    def look(writes: Sequence[Write]) -> None:
        meta = node.tree.server.entries.get(META)
        if meta is not None and json.loads(meta.value)["version"] == version:
            raise StoreError("memory: killed")

    node.tree.before_write = look


def test_commit_of_another_that_comes_while_somebody_helps(server: MemoryServer) -> None:
    """Who helps to write a large commit, and finds the next one there, does not know the next one:
    nothing is committed on top of it, and no version is given twice."""
    first, helper, third = Node(server), Node(server), Node(server)
    ends_after(1, first)
    ends_after(2, third)
    with capturedLogs():
        first.commit(*many(200))
    helper.take()
    # The helper's write comes too late: the third node writes all that is left, and begins a
    # commit of its own.
    commits_before(1, helper, third, *many(200, 2), up("third"))
    with capturedLogs():
        error_of(helper.ask(up("helper")), ConflictError)
    assert json.loads(server.entries[META].value)["pending"]
    assert helper.take().version == 2
    helper.commit(up("helper"))
    assert helper.held.version == 3
    assert {"helper", "third"} < set(helper.held.upstreams)
    found = result_of(SharedStore(MemoryTree(server), Clock()).open())
    assert found.upstreams == helper.held.upstreams


def test_commit_of_another_that_comes_while_ones_own_is_written(server: MemoryServer) -> None:
    """What the caller has not been told of it cannot commit to."""
    node, other = Node(server), Node(server)
    ends_after(2, other)
    commits_before(4, node, other, *many(200, 2), up("other"))
    with capturedLogs():
        node.commit(*many(200))
    assert json.loads(server.entries[META].value)["pending"]
    assert node.held.version == 1
    error_of(node.ask(up("node")), ConflictError)
    assert node.take().version == 2
    node.commit(up("node"))
    assert node.held.version == 3
    assert {"node", "other"} < set(node.held.upstreams)


def test_commit_of_another_that_has_overwritten_one_whose_answer_is_lost(
    server: MemoryServer,
) -> None:
    """The same holds if nothing of the own commit is left to tell when it was made."""
    node, other = Node(server), Node(server)
    node.tree.lost_answers = 1
    node.tree.held = []
    server.tells = False
    answer = node.ask(up("a"))
    node.tree.held.pop(0)()
    server.tell()
    other.take()
    other.commit(up("a", 2))
    server.remove(record_key(1))
    node.tree.held.pop(0)()
    result_of(answer)
    node.tree.held = None
    error_of(node.ask(up("b")), ConflictError)
    assert node.take().upstreams == {"a": 2}


class Writer:
    """A node that commits again and again, one of many whose calls of the server come in any
    order."""

    def __init__(self, server: MemoryServer, number: int, chance: random.Random) -> None:
        self.node = Node(server)
        self.node.tree.held = []
        self.number = number
        self.chance = chance
        self.made: dict[int, set[str]] = {}
        self.turn = 0
        self.answer: Deferred[Any] | None = None

    def step(self) -> None:
        """Do one of the things that could happen now."""
        node = self.node
        if self.chance.random() < 0.02:
            # Somebody who is no slardar edits a key.
            node.tree.server.put(f"upstreams/{self.chance.choice('abcdef')}0", '"edited"')
        elif node.tree.held and self.chance.random() < 0.9:
            node.tree.lost_answers = int(self.chance.random() < 0.05)
            node.tree.held.pop(0)()
        elif self.answer is None:
            # What is told may come late, too.
            if self.chance.random() < 0.7:
                node.take()
            self.turn += 1
            count = self.chance.choice((1, 1, 3, 20))
            names = {f"{self.chance.choice('abcdef')}{one}" for one in range(count)}
            self.answer = node.ask(*(up(name, [self.number, self.turn]) for name in names))
            self.answer.addCallbacks(self._made, self._failed, (names,))

    def _made(self, revision: Any, names: set[str]) -> None:
        self.answer = None
        version = self.node.held.version
        assert version not in self.made
        self.made[version] = names

    def _failed(self, failure: Any) -> None:
        failure.trap(ConflictError, StoreError)
        self.answer = None


@pytest.mark.parametrize("seed", range(30))
def test_each_version_is_one_commit(seed: int) -> None:
    """However the calls of several nodes meet, and with answers that get lost: each version is made
    by one node, in turn, and the history tells what it has changed."""
    chance = random.Random(seed)
    server = MemoryServer(max_writes=chance.choice((4, 8, 64)))
    writers = [Writer(server, number, chance) for number in range(3)]
    with capturedLogs():
        for _ in range(600):
            chance.choice(writers).step()
        for writer in writers:
            while writer.answer is not None:
                writer.node.tree.lost_answers = 0
                writer.node.tree.held.pop(0)()
    made = {version: names for one in writers for version, names in one.made.items()}
    assert sum(len(one.made) for one in writers) == len(made) > 5
    assert sorted(made) == list(range(1, len(made) + 1))
    last = Node(server)
    assert last.held.version == len(made)
    told: dict[int, set[str]] = {}
    for one in result_of(last.store.history(None, 100_000)):
        told.setdefault(one.version, set()).add(one.change.name)
    assert told == made


# The end.


class Stuck(MemoryTree):
    """A tree whose connections do not end."""

    def close(self) -> Deferred[Any]:
        return Deferred()


def test_store_whose_server_does_not_let_go_can_be_opened_again(server: MemoryServer) -> None:
    """Whoever closes it does not wait for ever."""
    store = SharedStore(Stuck(server), Clock())
    result_of(store.open())
    closed = store.close()
    assert not closed.called
    closed.cancel()
    error_of(closed, CancelledError)
    result_of(store.open())
