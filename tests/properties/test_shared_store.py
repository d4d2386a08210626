"""Whatever slardars and others write to one place: all who look at it see the same, and nobody sees
a part of a commit, even if the slardar that makes it is killed between any two writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from slardar.errors import ConflictError, StoreError
from slardar.model.change import TO_FILE, Change, StoredState, Value
from slardar.model.hook import Code, Hook
from slardar.stores.layout import place_of
from slardar.stores.shared import SharedStore
from slardar.testing.trees import MemoryServer, MemoryTree
from tests.control.fakes import result_of

_UPSTREAM = {"servers": [{"host": "127.0.0.1", "port": 1}]}
_HOOK, _STAGED = (
    msgspec.json.decode(msgspec.json.encode(hook))
    for hook in (
        Hook("lua", "script.a", active=Code.of("return", 5.0), canary=3),
        Hook("lua", "script.a", staged=Code.of("x()", 6.0)),
    )
)

_decided = st.sampled_from([_UPSTREAM, {"mode": "rr"}, None, TO_FILE, 5])
_change = st.one_of(
    st.tuples(st.just("upstream"), st.sampled_from("ab/%"), _decided),
    st.tuples(st.just("service"), st.sampled_from("as"), _decided),
    st.tuples(st.just("routes"), st.just(""), st.sampled_from([[], [1], None, TO_FILE])),
    st.tuples(
        st.just("hook"),
        st.sampled_from(["lua/script.a", "lua/version", "python/modules.m", "odd"]),
        st.sampled_from([_HOOK, _STAGED, None, "text", {"active": {"code": "return"}}, [1]]),
    ),
    st.tuples(
        st.just("setting"),
        st.sampled_from(["arg", "x/y", "50%", "lua/script.a", "routes", "a//b", ""]),
        st.sampled_from([{"a": 1}, "text", "5", 5, None, ""]),
    ),
    st.tuples(st.just("file"), st.sampled_from(["upstreams.a", ""]), st.sampled_from([1, None])),
)
_changes = st.lists(_change, min_size=1, max_size=8)
_key = st.sampled_from(
    [
        *("upstreams/a", "upstreams/b", "upstreams/", "upstreams", "services/s", "routes"),
        *("lua/script.a", "lua/version", "python/modules.m", "lua", "arg", "x/y", "50%"),
        *(".slardar/marks/upstreams/a", ".slardar/hooks/lua/script.a", ".slardar/meta"),
    ]
)
_value = st.sampled_from(
    [b'{"servers": []}', b"broken", b"\xff", b"", b'"file"', b"null", b"5", b"return", None]
)
_node = st.integers(0, 1)
_step = st.one_of(
    st.tuples(st.just("commit"), _node, _changes),
    st.tuples(st.just("foreign"), _key, _value),
    st.tuples(st.just("killed"), _node, _changes, st.integers(0, 7)),
    st.tuples(st.just("unanswered"), _node, _changes),
    st.tuples(st.just("met"), _node, _changes, _key, _value, st.integers(0, 4)),
)


class Node:
    """One slardar: what it holds follows the rules of ``Configuration``."""

    def __init__(self, server: MemoryServer, clock: Clock) -> None:
        self.clock = clock
        self.tree = MemoryTree(server)
        self.store = SharedStore(self.tree, clock)
        self.told: list[StoredState] = []
        self.held: StoredState = result_of(self.store.open())
        self.store.watch(self._changed, lambda reason: None)

    def _changed(self, state: StoredState) -> None:
        self.told.append(state)
        self.held = state

    def commit(self, changes: Sequence[Change]) -> bool:
        """Whether it was made, as far as the node knows."""
        version = self.held.version + 1
        answer = self.store.commit(self.held.revision, changes, version)
        try:
            revision = result_of(answer)
        except (StoreError, ConflictError):
            return False
        self.held = self.held.after(changes, version, revision)
        return True


def _parts(state: StoredState) -> list[Any]:
    """What is compared, for a change sets no revision and mends what is broken."""
    return [
        state.upstreams,
        state.services,
        state.routes,
        state.hooks,
        state.settings,
        state.file,
    ]


def _fresh(server: MemoryServer) -> StoredState:
    store = SharedStore(MemoryTree(server), Clock())
    state: StoredState = result_of(store.open())
    result_of(store.close())
    return state


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(_step, max_size=12), st.sampled_from([2, 4, 64]))
def test_all_see_the_same_and_no_part_of_a_commit(steps: list[Any], max_writes: int) -> None:
    """For commits of one write and of several, edits by hand, kills, lost answers, and edits that
    meet a commit."""
    clock = Clock()
    server = MemoryServer(max_writes=max_writes)
    nodes = [Node(server, clock), Node(server, clock)]
    for kind, *rest in steps:
        before = _fresh(server)
        if kind == "foreign":
            _write(server, *rest)
        else:
            number, things, *more = rest
            node = nodes[number]
            other = nodes[1 - number]
            other.told.clear()
            changes = [Change(*one, who="x", time=1.0) for one in things]
            after = _parts(before.after(changes, 0, 0))
            if kind == "killed":
                node.tree.life = more[0]
            elif kind == "unanswered":
                node.tree.lost_answers = 1
            elif kind == "met":
                _meet(node.tree, server, *more)
            made = node.commit(changes)
            node.tree.before_write = lambda writes: None
            node.tree.lost_answers = 0
            if kind == "killed":
                result_of(node.store.close())
                nodes[number] = Node(server, clock)
            if kind == "met":
                # All but what the other one has edited.
                edited = place_of(more[0])
                values = [Value(edited.kind, edited.name, None)] if edited else []  # type: ignore[arg-type]
                old, new, now = (
                    _parts(state.after(values, 0, 0))
                    for state in (before, before.after(changes, 0, 0), _fresh(server))
                )
                assert now == (new if made else old)
            else:
                seen = [_parts(one) for one in [*other.told, _fresh(server)]]
                assert all(one in (_parts(before), after) for one in seen), (
                    kind,
                    rest,
                    seen,
                    after,
                )
                assert not made or seen[-1] == after
        clock.advance(0)
        wanted = _fresh(server)
        for node in nodes:
            assert node.held == wanted, (kind, rest)


def _write(server: MemoryServer, key: str, value: bytes | None) -> None:
    if value is None:
        server.remove(key)
    else:
        server.put(key, value)


def _meet(tree: MemoryTree, server: MemoryServer, key: str, value: bytes | None, at: int) -> None:
    """Have somebody write before a write of the tree."""
    left = at

    def before(writes: object) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            _write(server, key, value)

    tree.before_write = before
