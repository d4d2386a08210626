"""Which key holds what."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from slardar.model.change import StoredState, Value
from slardar.model.hook import Code, Hook, parse_hook
from slardar.stores.layout import (
    MAX_UNPACKED,
    MAX_VERSION,
    META,
    TooLarge,
    pack,
    place_of,
    targets,
    unpack,
)
from slardar.stores.shared import SharedStore
from slardar.testing.trees import MemoryServer, MemoryTree
from tests.control.fakes import result_of

A = "lua/script.a"


def state_of(values: dict[str, bytes | str], prefix: str = "") -> StoredState:
    """What a store finds in a tree with these keys."""
    server = MemoryServer()
    for key, value in values.items():
        server.put(key, value)
    found: StoredState = result_of(SharedStore(MemoryTree(server), Clock(), prefix).open())
    return found


def test_tree_of_upyun_is_read_as_it_is() -> None:
    """Upstreams and settings are JSON, code is code; a folder's key is nothing."""
    state = state_of(
        {
            "upstreams/": "",
            "upstreams/www.example.com": '{"servers": [{"host": "127.0.0.1", "port": 80}]}',
            "upstreams/*.example.com": "{}",
            "lua/": "",
            "lua/version": "2.7\n",
            "lua/script.*": "ngx.exit(403)\n",
            "lua/modules.x.y": "return {}",
            "myargs": '{"arg0": "a"}',
            "text": "no JSON at all",
            "a/b": "5",
        }
    )
    assert state.upstreams == {
        "www.example.com": {"servers": [{"host": "127.0.0.1", "port": 80}]},
        "*.example.com": {},
    }
    assert (state.version, state.services, state.routes, state.broken) == (0, {}, None, {})
    assert state.settings == {"myargs": {"arg0": "a"}, "text": "no JSON at all", "a/b": 5}
    assert state.hooks.pop("lua/version") == "2.7"  # type: ignore[attr-defined]
    hooks = {path: parse_hook(path, value) for path, value in state.hooks.items()}
    assert hooks == {
        "lua/script.*": Hook("lua", "script.*", active=Code.of("ngx.exit(403)\n", 0.0)),
        "lua/modules.x.y": Hook("lua", "modules.x.y", active=Code.of("return {}", 0.0)),
    }


@pytest.mark.parametrize(
    ("key", "value", "path", "why"),
    [
        ("upstreams/a.b", "{", "upstreams.a.b", "expected JSON: "),
        ("upstreams/a.b", "", "upstreams.a.b", "expected JSON: got nothing"),
        ("services/a", b"\xff", "services.a", "expected JSON: "),
        ("routes", "[" * 100_000, "routes", "expected JSON: "),
        ("lua/script.a", b"\xff", "hooks.lua/script.a", "expected UTF-8: "),
        ("arg", b"\xff", "settings.arg", "expected UTF-8: "),
        ("upstreams/a/b", "{}", "upstreams/a/b", "expected a name here"),
        ("50%", "1", "50%", "expected a name here"),
        (".slardar/meta", "[", ".slardar/meta", ""),
        (".slardar/file/a", "[", "file.a", "expected JSON: "),
    ],
)
def test_value_that_cannot_be_read_is_told_of(
    key: str, value: bytes | str, path: str, why: str
) -> None:
    """With the place in the store, in one line.  Everything else is read."""
    state = state_of({key: value, "upstreams/good": "{}"}, "config/slardar/")
    assert state.upstreams == {"good": {}}
    assert list(state.broken) == [path]
    assert state.broken[path].startswith(f"{path}: config/slardar/{key}: {why}")
    assert "\n" not in state.broken[path]


class Edited:
    """A hook that slardar has written, of which somebody edits keys."""

    def __init__(self, hook: Hook) -> None:
        self.server = MemoryServer()
        self.store = SharedStore(MemoryTree(self.server), Clock())
        state = result_of(self.store.open())
        value = json.loads(json.dumps(_plain(hook)))
        change = _change("hook", hook.path, value)
        result_of(self.store.commit(state.revision, [change], 1))
        result_of(self.store.close())

    @property
    def hook(self) -> Hook | None:
        """The hook as a store finds it."""
        state = result_of(self.store.open())
        result_of(self.store.close())
        return parse_hook(A, state.hooks[A]) if A in state.hooks else None


def _plain(hook: Hook) -> Any:
    from slardar.model.hook import written

    return written(hook)


def _change(kind: Any, name: str, value: object) -> Any:
    from slardar.model.change import Change

    return Change(kind, name, value, "x", 1.0)


ONE, TWO, NEXT = (
    Code.of(
        code,
        7.0,
        (),
    )
    for code in ("one", "two", "next")
)


def test_code_stands_where_everybody_edits_it() -> None:
    """As it is; all else that slardar knows is beside it."""
    hook = Hook("lua", "script.a", active=TWO, previous=ONE, staged=NEXT, canary=5)
    edited = Edited(hook)
    assert edited.server.entries[A].value == b"two"
    assert edited.hook == hook
    # Staged code alone is in nobody's way.
    edited = Edited(Hook("lua", "script.a", staged=NEXT))
    assert A not in edited.server.entries
    assert edited.hook == Hook("lua", "script.a", staged=NEXT)


def test_edited_code_is_in_service() -> None:
    """With the settings of the hook; the code before can be gone back to."""
    hook = Hook("lua", "script.a", active=TWO, previous=ONE, staged=NEXT, on_error="continue")
    edited = Edited(hook)
    edited.server.put(A, 'require("modules.x.y")\nrequire "modules.z"')
    found = edited.hook
    assert found is not None
    assert found.active is not None
    assert (found.active.time, found.active.requires) == (0.0, ("modules.x.y", "modules.z"))
    assert (found.previous, found.staged, found.on_error) == (TWO, NEXT, "continue")
    # Back to what it was.
    edited.server.put(A, "two")
    assert edited.hook == hook
    # Code beside which nothing can be read stands alone.
    edited.server.put(".slardar/hooks/lua/script.a", '["odd"]')
    assert edited.hook == Hook("lua", "script.a", active=Code.of("two", 0.0))


def test_removed_code_is_a_removed_hook() -> None:
    """Whoever removes the key removes the hook."""
    edited = Edited(Hook("lua", "script.a", active=TWO, previous=ONE, staged=NEXT))
    edited.server.remove(A)
    assert edited.hook is None
    edited.server.put(A, "two")
    assert edited.hook is not None
    assert edited.hook.staged == NEXT


def test_values_of_upstreams_win_over_marks() -> None:
    """What somebody writes where a slardar has removed something counts."""
    server = MemoryServer()
    store = SharedStore(MemoryTree(server), Clock())
    state = result_of(store.open())
    changes = [
        _change(kind, name, value)
        for kind, name, value in (
            ("upstream", "gone", None),
            ("upstream", "file", "file"),
            ("service", "gone", None),
            ("routes", "", "file"),
        )
    ]
    result_of(store.commit(state.revision, changes, 1))
    result_of(store.close())
    state = result_of(store.open())
    result_of(store.close())
    assert (state.upstreams, state.services) == ({"gone": None, "file": "file"}, {"gone": None})
    assert state.routes == "file"
    for key in ("upstreams/gone", "upstreams/file", "services/gone", "routes"):
        server.put(key, "{}")
    state = result_of(store.open())
    assert (state.upstreams, state.services) == ({"gone": {}, "file": {}}, {"gone": {}})
    assert state.routes == {}


names = (
    st.text(max_size=8)
    | st.text("./%a\x00 \ufffd", max_size=6)
    | st.sampled_from(
        [
            "upstreams",
            "upstreams/a",
            "lua",
            "lua/x",
            ".slardar/meta",
            "routes",
            "routes/a",
            ".",
            "..",
        ]
    )
)


@given(st.sampled_from(["upstream", "service", "file", "hook", "setting"]), names)
def test_every_name_has_a_key_of_its_own(kind: Any, name: str) -> None:
    """From which the name can be told, and which any server takes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # no store takes such a name
    for value in ({"active": {"code": "x"}}, "file"):
        for key, _ in targets(Value(kind, name, value), json.dumps(value)):
            place = place_of(key)
            assert place is not None
            assert tuple(place) == (kind, name, "")
            assert key.isprintable()
            parts = key.split("/")
            assert "" not in parts
            assert "." not in parts
            assert ".." not in parts


def test_ordinary_names_are_keys_as_they_are() -> None:
    """So that an operator finds them."""
    for name in ("www.example.com", "*.example.com", "a_b-c", "127.0.0.1:80", "größe", "a b"):
        for kind, prefix in (("upstream", "upstreams/"), ("service", "services/"), ("setting", "")):
            keys = [key for key, _ in targets(Value(kind, name, 1), "1")]  # type: ignore[arg-type]
            assert keys[0] == prefix + name
    assert [key for key, _ in targets(Value("setting", "a/b.c", 1), "1")] == ["a/b.c"]


def test_whatever_is_packed_can_be_unpacked() -> None:
    """What is too long to be unpacked is never compressed."""
    for size in (0, 4096, 4097, MAX_UNPACKED, MAX_UNPACKED + 1):
        value = bytes(size)
        packed = pack(value)
        assert unpack(packed) == value
        assert (len(packed) < size) == (4096 < size <= MAX_UNPACKED)


def bomb(value: bytes) -> bytes:
    return b"z64:" + b64encode(zlib.compress(value, 9))


def test_small_value_does_not_unpack_to_a_large_one() -> None:
    """Nobody makes the bytes beyond the limit."""
    value = bomb(bytes(128 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            unpack(value)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_UNPACKED
        with pytest.raises(TooLarge):
            unpack(value, 0)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [b"z64:", b"z64:AAAA", b"z64:A", bomb(b"1")[:-4]])
def test_packed_value_that_is_damaged_stays_as_it_is(value: bytes) -> None:
    """So it is told of as a value that is no JSON."""
    assert unpack(value) == value
    (reason,) = state_of({".slardar/hooks/lua/script.a": value}).broken.values()
    assert reason.startswith("hooks.lua/script.a: .slardar/hooks/lua/script.a: expected JSON")


def test_values_have_bounds_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond them is told of; it is read as soon as there is room."""
    monkeypatch.setattr("slardar.stores.view.MAX_WEIGHT", 25_000)
    server = MemoryServer()
    store = SharedStore(MemoryTree(server), Clock())
    told: list[StoredState] = []
    result_of(store.open())
    store.watch(told.append, lambda reason: None)
    for name in "abc":
        server.put(f".slardar/file/upstreams.{name}", pack(json.dumps(name * 10_000).encode()))
    assert sorted(told[-1].file) == ["upstreams.a", "upstreams.b"]
    (reason,) = told[-1].broken.values()
    assert reason.endswith("upstreams.c: expected at most 4996 bytes, unpacked")
    server.put("upstreams/x", "{}")
    assert list(told[-1].broken) == ["file.upstreams.c"]
    server.put(".slardar/file/upstreams.a", '"small"')
    assert sorted(told[-1].file) == ["upstreams.a", "upstreams.b", "upstreams.c"]
    assert told[-1].broken == {}


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("upstreams/{}", "[{}]"),
        ("services/{}", "[{}]"),
        ("{}", "[{}]"),
        ("python/{}", "{}"),
        (".slardar/hooks/lua/{}", "[{}]"),
        (".slardar/marks/upstreams/{}", "[{}]"),
        (".slardar/file/{}", "[{}]"),
    ],
)
def test_many_parts_of_json_weigh_more_than_their_text(
    monkeypatch: pytest.MonkeyPatch, key: str, pattern: str
) -> None:
    """A list takes more memory than its two characters do.  Code is kept as the text that it is."""
    monkeypatch.setattr("slardar.stores.view.MAX_WEIGHT", 100_000)
    is_code = key.startswith("python/")
    value = pattern.format("[],[],") * 100 if is_code else pattern.format("[]," * 1000 + "0")
    state = state_of({key.format(number): pack(value.encode()) for number in range(5)})
    reasons = state.broken.values()
    assert len(reasons) == (0 if is_code else 4)
    assert all("no room for it: all keys together" in one for one in reasons)


@pytest.mark.parametrize(
    "text",
    [
        '{"version": -1}',
        f'{{"version": {MAX_VERSION + 1}}}',
        '{"version": 9223372036854775808}',
        '{"version": 1e400}',
        '{"version": "7"}',
        '{"version": 1, "oldest": -1}',
        '{"version": 1, "done": -1}',
        '{"version": 1, "time": 1e300}',
        '{"version": 1, "time": -1}',
        "[" * 10_000,
        "7",
        "",
    ],
)
def test_absurd_meta_is_told_of(text: str) -> None:
    """It counts for nothing."""
    state = state_of({META: text, "upstreams/a": "{}"})
    assert (state.version, state.upstreams, list(state.broken)) == (0, {"a": {}}, [META])


def test_certificates_are_keys_of_everybody() -> None:
    """Whatever their names are, and what the client of a CA keeps is slardar's own.  A reason does
    not quote what is there."""
    state = state_of(
        {
            "certificates/www.example.com": '{"cert": "a", "key": "b"}',
            "certificates/*.b%2Fc": "{}",
            "certificates/": "",
            "certificates/broken": '{"key": "PRIVATE',
            ".slardar/acme/account": pack(b'{"key": "%s"}' % (b"x" * 5000)),
            ".slardar/acme/order%2Fa": "{}",
            "%63ertificates/x": "1",
        }
    )
    assert state.certificates == {"www.example.com": {"cert": "a", "key": "b"}, "*.b/c": {}}
    assert state.acme == {"account": {"key": "x" * 5000}, "order/a": {}}
    assert state.settings == {"certificates/x": 1}
    assert list(state.broken) == ["certificates.broken"]
    assert "PRIVATE" not in repr(state)
