"""Random changes, each version of which can be gone back to."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.internet.defer import ensureDeferred

from slardar.config import Settings, parse_settings
from slardar.control.actions import Actions
from slardar.errors import NotFoundError, SlardarError
from slardar.model.change import TO_FILE, StoredState
from slardar.model.hook import written
from slardar.stores.history import History
from slardar.stores.memory import MemoryStore
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.written import encode
from slardar.testing.stores import change_of, file_of, hook_of
from tests.control.fakes import FakePlane, result_of, upstream
from tests.properties.test_model import FIXED

NAMES = ("a", "b", "file", "other")
#: The settings of a process; an edit of the file gives it others.
FILES: list[Settings] = [
    parse_settings({"upstreams": file, "routes": routes, "default_upstream": "file"})
    for file, routes in (
        ({"file": upstream(1)}, []),
        ({"file": upstream(2), "other": upstream(3)}, [{"upstream": "a"}]),
        ({}, []),
    )
]

Step = Callable[[Actions], Any]


def random_step(dice: random.Random) -> Step:
    """A change; it may be one that is refused."""
    name, port = dice.choice(NAMES), dice.randint(1, 5)
    hook = f"script.{dice.choice(NAMES)}.example"
    steps: list[Step] = [
        lambda actions: actions.set_upstream(name, upstream(port, port + 1), "x"),
        lambda actions: actions.set_upstream(name, {"try": port}, "x"),
        lambda actions: actions.patch_server(name, f"127.0.0.1:{port}", {"weight": port}, "x"),
        lambda actions: actions.add_server(name, f"127.0.0.1:{port}", {}, "x"),
        lambda actions: actions.remove_server(name, f"127.0.0.1:{port}", "x"),
        lambda actions: actions.remove_upstream(name, "x"),
        lambda actions: actions.return_upstream(name, "x"),
        lambda actions: actions.set_routes([{"path": f"/{port}", "upstream": name}], "x"),
        lambda actions: actions.return_routes("x"),
        lambda actions: actions.hooks.stage("lua", hook, b"x = %d" % port, "x"),
        lambda actions: actions.hooks.activate("lua", hook, "x"),
        lambda actions: actions.hooks.remove("lua", hook, "x"),
    ]
    return dice.choice(steps)


def served(actions: Actions) -> Any:
    """All that is served, as values."""
    snapshot = actions.snapshot
    upstreams = {name: one.source for name, one in snapshot.upstreams.items()}
    return upstreams, snapshot.routes, snapshot.default_upstream, dict(snapshot.hooks)


def make(settings: Settings) -> Actions:
    actions = Actions(settings, MemoryStore(), FakePlane(), clock=lambda: 1.5)
    result_of(actions.start())
    return actions


def held(actions: Actions) -> Any:
    """What the store holds, without what differs in any case.  What was never set, and what was
    given back to the file, is the same."""
    state = actions.held
    upstreams = {name: one for name, one in state.upstreams.items() if one != TO_FILE}
    routes = state.routes if state.decides_routes else None
    return as_json(replace(state, version=0, revision=0, upstreams=upstreams, routes=routes))


def as_json(value: Any) -> Any:
    """A value with lists for tuples."""
    return json.loads(msgspec.json.encode(value))


def play(actions: Actions, step: Step) -> None:
    """Make a change, unless it is refused."""
    try:
        result_of(ensureDeferred(step(actions)))
    except SlardarError:
        pass


def test_every_version_of_a_thousand_can_be_gone_back_to() -> None:
    """Then the same is served, and stored, as after the first changes alone on a fresh slardar.
    Rollbacks are versions like others."""
    dice = random.Random(7)
    steps = [random_step(dice) for _ in range(1800)]
    actions, fresh = make(FILES[0]), make(FILES[0])
    wanted = {}
    actions.store.keep_history(2000)
    for step in steps:
        play(actions, step)
    for step in [None, *steps]:
        if step is not None:
            play(fresh, step)
        wanted[fresh.snapshot.version] = served(fresh), held(fresh)
    assert len(wanted) > 1000
    assert served(actions) == wanted[actions.snapshot.version][0]
    for version in (*dice.sample(sorted(wanted)[1:], 300), 1):
        result_of(ensureDeferred(actions.history.roll_back(version, "x")))
        assert (served(actions), held(actions)) == wanted[version], version
        wanted[actions.snapshot.version] = wanted[version]


def test_history_tells_what_was_served() -> None:
    """The whole configuration of every version, edits of the file included."""
    dice = random.Random(8)
    actions = make(FILES[0])
    actions.store.keep_history(2000)
    told = {}
    for _ in range(500):
        if dice.random() < 0.2:
            settings = dice.choice(FILES)
            play(actions, lambda actions, settings=settings: actions.take_settings(settings, "HUP"))
        else:
            play(actions, random_step(dice))
        told[actions.snapshot.version] = (
            actions.upstreams(),
            actions.routes(),
            actions.snapshot.default_upstream,
            as_json({hook.path: written(hook) for hook in actions.snapshot.hooks.values()}),
            actions.origins(),
        )
    assert len(told) > 200
    del told[0]  # nothing was on record yet
    for version, (upstreams, routes, default, hooks, origins) in told.items():
        then = result_of(ensureDeferred(actions.history.version(version)))
        assert then["upstreams"] == upstreams
        assert then["origins"]["upstreams"] == origins["upstreams"]
        assert (then["routes"], then["default_upstream"]) == (routes, default)
        assert as_json(then["hooks"]) == hooks


names = st.sampled_from(["a", "b"])
changes = st.one_of(
    st.builds(change_of, st.just("") | names, st.none() | st.just(TO_FILE) | st.integers(0, 3)),
    st.builds(hook_of, names, st.none() | st.integers(0, 3)),
    st.builds(file_of, st.sampled_from(["upstreams.a", "routes"]), st.none() | st.integers(0, 3)),
)
commits = st.lists(
    st.tuples(st.lists(changes, min_size=1, max_size=4), st.integers(1, 2), st.integers(1, 9)),
    max_size=12,
)


@FIXED
@given(commits)
def test_file_and_memory_have_the_same_history(commits: Any) -> None:
    """Whatever is committed, with gaps between versions and limits that change: the same changes
    are told, and every state that is known is that of a fresh replay."""
    memory = History()
    states = {0: StoredState()}
    kept: list[int] = []
    oldest = 0
    with TemporaryDirectory() as folder:
        file = SqliteFile(f"{folder}/slardar.db")
        state = file.open()
        version, revision = 0, state.revision
        for values, step, keep in commits:
            memory.keep = file.keep = keep
            version += step
            rows = [(one, encode(one)) for one in values]
            revision = file.commit(revision, rows, version)
            memory.add(version, rows)
            states[version] = states[max(states)].after(values, version, 0)
            kept.append(version)
            while len(kept) > keep:
                oldest = kept.pop(0)
        for before in (None, *range(version + 2)):
            for limit in (1, 5, 100):
                assert file.history(before, limit) == memory.page(before, limit)
        assert {one.version for one in memory.page(None, 1000)} == set(kept)
        for asked in range(version + 2):
            found = []
            for ask in (file.state_at, memory.state_at):
                try:
                    found.append(ask(asked))
                except NotFoundError as error:
                    found.append(str(error))
            assert found[0] == found[1]
            if oldest <= asked <= version:
                newest = max(one for one in states if one <= asked)
                assert found[0] == replace(states[newest], version=asked)
            else:
                assert isinstance(found[0], str)
        file.close()
        file = SqliteFile(f"{folder}/slardar.db")
        assert file.open() == replace(states[version], revision=revision)
        file.close()
