"""Hooks over the control channel: staged, activated, tried, rolled back, removed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from slardar.control.actions import Actions
from slardar.errors import ConfigError, ConflictError, NotFoundError, StoreError
from slardar.hooks.loaded import mark_of
from slardar.hooks.report import HookReport, ShadowReport
from slardar.model.change import StoredState
from slardar.model.hook import Code, Hook, written
from slardar.stores.memory import MemoryStore
from tests.control.fakes import (
    NOW,
    FakePlane,
    FakeStore,
    WebClient,
    error_of,
    make_actions,
    result_of,
    upstream,
)
from tests.dataplane.kit import logged

A = "script.a.test"
OK = b'"ok"\n'


def md5(code: str) -> str:
    """The version of this code."""
    return hashlib.md5(code.encode()).hexdigest()


class Control:
    """A running configuration and a client that changes it."""

    def __init__(self, stored: StoredState | None = None, **settings: Any) -> None:
        self.store = FakeStore(stored)
        self.plane = FakePlane()
        self.actions: Actions = make_actions(self.store, self.plane, **settings)
        self.hooks = self.actions.hooks
        self.client = WebClient(self.actions)

    def call(self, method: str, path: str, code: str | bytes | None = None) -> Any:
        """The answer to a call that must succeed."""
        body = code.encode() if isinstance(code, str) else code
        reply = self.client.call(method, path, body)
        assert reply.status == 200, reply.body
        return reply.json

    def refusal(self, method: str, path: str, code: str | bytes | None = None) -> tuple[int, str]:
        """Status and message of a call that is refused; the form is that of all errors."""
        body = code.encode() if isinstance(code, str) else code
        reply = self.client.call(method, path, body)
        assert set(reply.json) == {"status", "msg"}
        assert reply.json["status"] == reply.status
        assert "\n" not in reply.json["msg"]
        return reply.status, reply.json["msg"]

    def put(self, name: str, code: str, parameters: str = "", language: str = "python") -> None:
        """Post code and put it into service."""
        self.call("POST", f"/{language}/{name}", code)
        self.call("PUT", f"/{language}/{name}{parameters}")

    def hook(self, name: str = A, language: str = "python") -> Hook:
        """The hook that is served."""
        return self.plane.snapshot.hooks[language, name]

    def shown(self, name: str = A) -> Any:
        """The hook as it is shown."""
        return self.call("GET", f"/python/{name}")

    def active(self, name: str = A) -> str | None:
        """The code in service."""
        code = self.hook(name).active
        return None if code is None else code.code


@pytest.fixture
def control() -> Control:
    return Control()


# The usual way.


@pytest.mark.parametrize("language", ["lua", "python"])
def test_hook_is_staged_and_activated(control: Control, language: str) -> None:
    """Each call answers "ok", spelled as in upyun/slardar, and makes a version."""
    path = f"/{language}/{A}"
    reply = control.client.call("POST", path, b"code")
    assert (reply.status, reply.body) == (200, OK)
    staged = control.hook(language=language)
    assert (staged.active, staged.staged and staged.staged.code) == (None, "code")
    reply = control.client.call("PUT", path)
    assert (reply.status, reply.body) == (200, OK)
    active = control.hook(language=language)
    assert (active.active and active.active.code, active.staged) == ("code", None)
    reply = control.client.call("DELETE", path)
    assert (reply.status, reply.body) == (200, OK)
    assert control.plane.snapshot.hooks == {}
    assert [(change.kind, change.name) for change in control.store.changes] == [
        ("hook", f"{language}/{A}")
    ] * 3
    assert control.store.changes[-1].value is None
    assert control.store.changes[0].who == "http"
    assert control.plane.snapshot.version == 3


@pytest.mark.parametrize("canary", ["", "&canary=10"])
def test_posting_and_activating_is_one_change(control: Control, canary: str) -> None:
    """It is one version of the configuration; a refusal leaves no staged code."""
    assert control.call("POST", f"/python/{A}?activate=1{canary}", "one") == "ok"
    assert len(control.store.changes) == 1
    hook = control.hook()
    if canary:
        assert (hook.canary, hook.active, hook.staged and hook.staged.code) == (10, None, "one")
    else:
        assert (control.active(), hook.staged) == ("one", None)
    for code in ("wrong", "fails", "modules.none"):
        status, _ = control.refusal("POST", f"/python/{A}?activate=1{canary}", code)
        assert status == 400
    assert control.hook() == hook
    assert len(control.store.changes) == 1


@pytest.mark.parametrize("parameters", ["activate=1&shadow=1", "canary=10", "activate=2"])
def test_what_cannot_go_with_activating(control: Control, parameters: str) -> None:
    """No code is staged then."""
    status, message = control.refusal("POST", f"/python/{A}?{parameters}", "one")
    assert status == 400
    assert ": expected" in message
    assert control.store.changes == []


def test_list_is_the_originals(control: Control) -> None:
    """``GET /lua`` and ``GET /python`` have versions, and the hooks of the language by name."""
    empty = control.call("GET", "/lua")
    assert empty == {
        "global_version": 0,
        "commit_version": "0",
        "version": 0,
        "modules": [],
        "staged": [],
    }
    control.put("script.b.test", "bee")
    control.put(A, "ay")
    control.put("modules.x", "ex", language="lua")
    listed = control.call("GET", "/python")
    assert listed["version"] == listed["global_version"] == 6
    assert [one["name"] for one in listed["modules"]] == [A, "script.b.test"]
    assert listed["modules"][0] == control.shown()
    (module,) = control.call("GET", "/lua")["modules"]
    assert (module["name"], module["version"]) == ("modules.x", md5("ex"))


def test_hook_is_shown(control: Control) -> None:
    """Version and time as in upyun/slardar, state and counters, and slardar's other fields."""
    control.call("POST", f"/python/{A}", "one")
    shown = control.shown()
    assert (shown["name"], shown["version"], shown["state"]) == (A, md5("one"), "staged")
    assert len(shown["time"]) == len("2023-11-14 22:13:20")
    assert "calls" not in shown
    control.call("PUT", f"/python/{A}")
    control.call("POST", f"/python/{A}", "two")
    shown = control.shown()
    assert shown == {
        "name": A,
        "version": md5("one"),
        "time": shown["time"],
        "language": "python",
        "state": "active",
        "calls": 0,
        "errors": 0,
        "mean_us": 0.0,
        "p99_us": 0.0,
        "on_error": "reject",
        "staged": {"version": md5("two"), "time": shown["time"]},
    }
    control.call("PUT", f"/python/{A}")
    shown = control.shown()
    assert (shown["version"], shown["previous"]["version"]) == (md5("two"), md5("one"))
    assert "staged" not in shown


def test_state_and_counters_are_those_of_the_workers(control: Control) -> None:
    """They belong to the version in service; a canary has its own."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}", "two")
    control.call("PUT", f"/python/{A}?canary=10")
    hook = control.hook()
    assert hook.active is not None
    assert hook.staged is not None
    one, two = (mark_of(hook.path, code) for code in (hook.active, hook.staged))
    control.plane.tally.take(
        0,
        [
            HookReport(hook.path, one, "active", "", 90, 1, 90_000, ((40, 90),)),
            HookReport(hook.path, two, "failed", "line 1: no", 10, 10, 10_000, ((40, 10),)),
        ],
    )
    shown = control.shown()
    assert (shown["state"], shown["calls"], shown["errors"], shown["mean_us"]) == (
        "active",
        90,
        1,
        1.0,
    )
    assert "error" not in shown
    staged = shown["staged"]
    assert (staged["state"], staged["calls"], staged["error"]) == ("failed", 10, "line 1: no")
    assert staged["canary"] == 10


def test_code_of_each_version(control: Control) -> None:
    """Users can see which code runs."""
    control.put(A, "one")
    control.put(A, "two")
    control.call("POST", f"/python/{A}", "thrée")
    codes = control.call("GET", f"/python/{A}/code")
    assert {which: one["code"] for which, one in codes.items()} == {
        "active": "two",
        "staged": "thrée",
        "previous": "one",
    }
    assert codes["active"]["version"] == md5("two")


def test_status_shows_each_hook(control: Control) -> None:
    """Each has its version and state; without hooks there is no entry."""
    assert "hooks" not in control.call("GET", "/status")
    control.put(A, "one")
    before = control.call("GET", "/status")
    assert before["hooks"] == [
        {"language": "python", "name": A, "version": md5("one"), "state": "active"}
    ]
    control.put(A, "two")
    assert control.call("GET", "/status")["fingerprint"] != before["fingerprint"]


def test_receipt_and_no_wait(control: Control) -> None:
    """As with every change: the answer has the workers' confirmations, or does not wait for
    them."""
    path = f"/python/{A}"
    assert control.call("POST", f"{path}?receipt=1", "one") == {
        "status": 200,
        "version": 1,
        "workers": {"worker-0": 1},
    }
    control.plane.held = []
    assert control.call("PUT", f"{path}?wait=0") == "ok"
    assert len(control.plane.held) == 1
    control.client.request("POST", path, b"two")
    assert control.client.received() is None
    control.plane.held.pop()()
    reply = control.client.received()
    assert reply is not None
    assert reply.body == OK


# What is refused.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/python/script.no"), ("GET", "/python/script.no/code"),
        ("GET", "/python/script.no/shadow"), ("PUT", "/python/script.no"),
        ("PUT", "/python/script.no?rollback=1"), ("DELETE", "/python/script.no"),
        ("GET", f"/lua/{A}"), ("PUT", f"/python/{A}"), ("PUT", f"/python/{A}?canary=5"),
        ("PUT", f"/python/{A}?rollback=1"), ("GET", f"/python/{A}/shadow"),
        ("GET", "/perl/script.a"), ("GET", f"/python/{A}/else"), ("GET", "/python//"),
    ],
)  # fmt: skip
def test_what_there_is_not(control: Control, method: str, path: str) -> None:
    """The reply is 404, and nothing changes."""
    control.put(A, "one")
    status, message = control.refusal(method, path)
    assert status == 404
    assert message
    assert control.plane.snapshot.version == 2


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/python/script.a/b%20c", b"x", "no such path"),
        ("/python/x", b"x", "name: expected script.HOST, script.* or modules.X"),
        ("/python/script.a%0Ab", b"x", "name: expected script.HOST"),
        (f"/python/{A}", b"", "expected code, got nothing"),
        (f"/python/{A}", b" \n\t", "expected code, got nothing"),
        (f"/python/{A}", b"\xff", "expected UTF-8"),
        (f"/python/{A}", b"\xed\xa0\x80", "expected UTF-8"),
        (f"/python/{A}", b"x" * (256 * 1024 + 1), "expected at most 262144 characters"),
        (f"/python/{A}", b"wrong", f"{A}: line 1: expected better code"),
        (
            f"/python/{A}?on_error=stop",
            b"x",
            "on_error: expected one of continue, previous, reject",
        ),
        (f"/python/{A}?on_error=", b"x", "on_error: expected one of"),
        (f"/python/{A}?shadow=yes", b"x", "shadow: expected 0 or 1"),
        (f"/python/{A}?canary=5", b"x", "canary: expected activate=1 with it"),
        (f"/python/{A}?rollback=1", b"x", 'unknown parameter "rollback"'),
        (f"/python/{A}?shadow=1", b"fails", f"{A}: line 1: it fails"),
        ("/python/modules.x?shadow=1", b"x", "shadow: expected a script, modules.x is a module"),
    ],
)
def test_what_cannot_be_staged(control: Control, path: str, code: bytes, message: str) -> None:
    """One line has the reason; the staged code and the code in service stay."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}", "two")
    before = control.hook()
    status, said = control.refusal("POST", path, code)
    assert status == (404 if message == "no such path" else 400)
    assert message in said
    assert control.hook() is before
    assert control.store.state.version == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("canary=101", "canary: expected a number from 0 to 100"),
        ("canary=-1", "canary: expected a number"),
        ("canary=1.5", "canary: expected a number"),
        ("canary=%C2%B2", "canary: expected a number"),
        ("canary=", "canary: expected a number"),
        ("canary=0005", "canary: expected a number"),
        ("rollback=2", "rollback: expected 0 or 1"),
        ("rollback=1&canary=5", "rollback: expected no canary and no on_error with it"),
        ("rollback=1&on_error=reject", "rollback: expected no canary and no on_error"),
        ("on_error=stop", "on_error: expected one of"),
        ("shadow=1", 'unknown parameter "shadow"'),
        ("canarry=5", 'unknown parameter "canarry"'),
    ],
)
def test_what_cannot_be_activated(control: Control, parameters: str, message: str) -> None:
    """Nothing changes."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}", "two")
    status, said = control.refusal("PUT", f"/python/{A}?{parameters}")
    assert status == 400
    assert message in said
    assert (control.active(), control.store.state.version) == ("one", 3)


def test_code_that_cannot_be_loaded_is_not_activated(control: Control) -> None:
    """It can be staged, since staging only reads it; the code in service stays."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}", "it fails")
    assert control.refusal("PUT", f"/python/{A}") == (400, f"{A}: line 1: it fails")
    assert control.refusal("PUT", f"/python/{A}?canary=1")[0] == 400
    assert control.active() == "one"
    assert control.shown()["staged"]["version"] == md5("it fails")


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_other_methods(control: Control, method: str) -> None:
    """The reply is 405 with the allowed methods."""
    reply = control.client.call(method, "/python")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, PUT, HEAD")
    reply = control.client.call("PATCH", f"/python/{A}")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST, PUT, DELETE, HEAD")
    assert control.client.call("POST", f"/python/{A}/shadow").status == 405


def test_readers_change_nothing() -> None:
    """They may read everything, also the code."""
    control = Control()
    control.put(A, "one")
    tokens = [{"name": "look", "role": "read", "sha256": hashlib.sha256(b"t").hexdigest()}]
    reader = WebClient(control.actions, tokens=tokens)
    bearer = "Bearer t"
    assert reader.call("GET", f"/python/{A}/code", Authorization=bearer).status == 200
    for method in ("POST", "PUT", "DELETE"):
        assert reader.call(method, f"/python/{A}", b"x", Authorization=bearer).status == 403
    assert reader.call("GET", "/python").status == 401
    assert control.active() == "one"


# All at once.


def test_all_that_is_staged_is_activated(control: Control) -> None:
    """It is one version, modules before scripts, also with the slash at the end; of one
    language.  Canaries and shadows are staged hooks, too, and a rollback brings the former
    versions back."""
    control.put(A, "old")
    control.put("script.b.test", "old", language="lua")
    control.call("POST", f"/python/{A}?on_error=continue", "use modules.x")
    control.call("POST", "/python/modules.x", "use modules.y")
    control.call("POST", "/python/modules.y", "why")
    control.call("POST", "/python/script.b.test?shadow=1", "shadow")
    control.call("POST", "/python/script.c.test", "canary")
    control.call("PUT", "/python/script.c.test?canary=5")
    control.call("POST", "/lua/script.b.test", "new")
    version = control.plane.snapshot.version
    control.store.changes.clear()
    assert control.call("PUT", "/python/") == "ok"
    assert control.plane.snapshot.version == version + 1
    names = [change.name.partition("/")[2] for change in control.store.changes]
    assert names == ["modules.x", "modules.y", A, "script.b.test", "script.c.test"]
    for name in names:
        hook = control.hook(name)
        assert (hook.staged, hook.canary, hook.shadow) == (None, 0, False)
        assert control.call("GET", f"/python/{name}")["state"] == "active"
    assert control.active() == "use modules.x"
    assert control.hook().on_error == "continue"
    assert control.hook().previous == Code.of("old", NOW)
    assert control.hook("script.b.test", "lua").active == Code.of("old", NOW)
    assert all(modules == {"modules.x": "use modules.y", "modules.y": "why"}
               for name, modules in control.plane.checked[-5:])  # fmt: skip


@pytest.mark.parametrize(
    ("staged", "broken"),
    [
        ({A: "fails"}, [A]),
        ({"modules.x": "new fails"}, ["modules.x", "script.user"]),
        ({A: "fails", "script.b": "fails"}, [A, "script.b"]),
    ],
)
def test_one_that_cannot_be_loaded_holds_all(
    control: Control, staged: dict[str, str], broken: list[str]
) -> None:
    """Each failure is named; none of the good hooks is activated, and all stay staged."""
    control.put("modules.x", "ex")
    control.put("script.user", "use modules.x")
    for name, code in {"script.good": "good", "modules.good": "good", **staged}.items():
        control.call("POST", f"/python/{name}", code)
    before = control.plane.snapshot
    status, message = control.refusal("PUT", "/python")
    assert (status, message) == (400, "; ".join(f"{name}: line 1: it fails" for name in broken))
    assert control.plane.snapshot is before
    assert control.active("script.good") is None
    for name in staged:
        control.call("POST", f"/python/{name}", "better")
    assert control.call("PUT", "/python") == "ok"
    assert control.active("script.good") == "good"


def test_version_that_would_stand_in_is_tried(control: Control) -> None:
    """The version in service will run if the new one fails, so it is tried with the new
    modules."""
    control.put("modules.x", "ex")
    control.put(A, "use modules.x", "?on_error=previous")
    control.call("POST", f"/python/{A}", "alone")
    control.call("POST", "/python/modules.x", "new fails")
    status, message = control.refusal("PUT", "/python")
    assert status == 400
    assert message == f"modules.x: line 1: it fails; {A}: line 1: it fails"


def test_nothing_staged_is_no_change(control: Control) -> None:
    """The answer is upyun/slardar's."""
    control.put(A, "one")
    assert control.call("PUT", "/python") == "ok"
    assert control.call("PUT", "/lua?receipt=1") == {"status": 200, "version": 2, "workers": {}}
    assert control.plane.snapshot.version == 2


def test_store_that_fails_leaves_all_staged(control: Control) -> None:
    """None of them is activated."""
    control.call("POST", f"/python/{A}", "one")
    control.call("POST", "/python/modules.x", "ex")
    control.store.error = StoreError("full")
    assert control.refusal("PUT", "/python")[0] == 503
    assert control.active() is None
    assert control.hook().staged is not None


def test_list_tells_active_from_staged(control: Control) -> None:
    """``modules`` has the hooks in service, as in upyun/slardar.  Staged hooks have another
    key."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}?on_error=continue", "two")
    control.call("POST", "/python/modules.x", "ex")
    control.call("POST", "/python/script.c.test", "canary")
    control.call("PUT", "/python/script.c.test?canary=5")
    listed = control.call("GET", "/python/")
    assert [(one["name"], one["version"]) for one in listed["modules"]] == [(A, md5("one"))]
    staged = {one["name"]: one for one in listed["staged"]}
    assert {name: one["version"] for name, one in staged.items()} == {
        "modules.x": md5("ex"),
        A: md5("two"),
        "script.c.test": md5("canary"),
    }
    assert (staged[A]["active"], staged[A]["on_error"]) == (md5("one"), "continue")
    assert (staged["modules.x"]["active"], staged["modules.x"]["state"]) == (None, "staged")
    assert staged["script.c.test"]["canary"] == 5
    control.call("PUT", "/python")
    listed = control.call("GET", "/python")
    assert (len(listed["modules"]), listed["staged"]) == (3, [])


# What operators call it.


def test_commit_version_is_the_operators(control: Control) -> None:
    """Operators give each language a text; it is stored, and part of every list."""
    assert control.call("GET", "/lua/version") == {"commit_version": "0"}
    for method, text in [("POST", "release-7\n"), ("PUT", "é 8")]:
        assert control.call(method, "/lua/version", text) == "ok"
        assert control.call("GET", "/lua")["commit_version"] == text.strip()
        assert control.call("GET", "/lua/version") == {"commit_version": text.strip()}
    assert control.call("GET", "/python")["commit_version"] == "0"
    assert control.call("GET", "/lua")["modules"] == []
    assert [(one.kind, one.name, one.value) for one in control.store.changes] == [
        ("hook", "lua/version", "release-7"),
        ("hook", "lua/version", "é 8"),
    ]
    assert control.plane.snapshot.version == 2
    hooks = {"lua/version": "v9", "python/version": {"no": "text"}}
    again = Control(StoredState(version=3, hooks=hooks))
    assert again.call("GET", "/lua")["commit_version"] == "v9"
    assert again.call("GET", "/python")["commit_version"] == "0"
    assert "failed" not in again.call("GET", "/status")
    assert again.call("DELETE", "/lua/version") == "ok"
    assert again.call("GET", "/lua")["commit_version"] == "0"


@pytest.mark.parametrize("body", [b"", b" \n", b"a\nb", b"a\x00", b"\xff", b"x" * 129])
def test_wrong_commit_version(control: Control, body: bytes) -> None:
    """The message is one line for people."""
    status, message = control.refusal("PUT", "/lua/version", body)
    assert status == 400
    assert "expected" in message
    assert control.call("GET", "/lua")["commit_version"] == "0"


# Modules.


def test_modules_are_activated_first(control: Control) -> None:
    """A script is loaded with the modules in service, and refused without them."""
    control.call("POST", f"/python/{A}", "use modules.x")
    control.call("POST", "/python/modules.x", "ex")
    assert control.hook().staged is not None
    assert control.hook().staged.requires == ("modules.x",)  # type: ignore[union-attr]
    status, message = control.refusal("PUT", f"/python/{A}")
    assert (status, message) == (400, f"{A}: module modules.x is not active")
    control.call("PUT", "/python/modules.x")
    control.call("PUT", f"/python/{A}")
    assert control.active() == "use modules.x"
    assert control.plane.checked[-1] == (A, {"modules.x": "ex"})


def test_module_is_tried_with_all_that_use_it(control: Control) -> None:
    """Scripts that use it directly or through other modules, in service or as a canary, are
    tried; others are not."""
    control.put("modules.x", "ex")
    control.put("modules.y", "use modules.x")
    control.put(A, "use modules.y")
    control.put("script.b.test", "use modules.x")
    control.call("POST", "/python/script.b.test", "canary modules.x")
    control.call("PUT", "/python/script.b.test?canary=1")
    control.put("script.c.test", "alone")
    control.put("modules.x", "another", language="lua")
    control.put("script.*", "use modules.x", language="lua")
    control.call("POST", "/python/modules.x", "new")
    control.plane.checked.clear()
    control.call("PUT", "/python/modules.x")
    tried = [name for name, modules in control.plane.checked]
    assert sorted(tried) == ["modules.x", "modules.y", A, "script.b.test", "script.b.test"]
    assert all(modules["modules.x"] == "new" for _, modules in control.plane.checked if modules)


def test_module_that_breaks_a_script_is_not_activated(control: Control) -> None:
    """The message names the script, and the old module stays."""
    control.put("modules.x", "ex")
    control.put(A, "use modules.x")
    control.call("POST", "/python/modules.x", "new that fails")
    assert control.refusal("PUT", "/python/modules.x") == (400, "modules.x: line 1: it fails")
    control.call("POST", "/python/modules.x", "new")
    broken = control.plane.check_hook

    def check_hook(language: str, name: str, code: str, modules: Any, settings: Any) -> Any:
        if name == A and modules and modules["modules.x"] == "new":
            raise ConfigError(f"{A}: line 1: no such name")
        return broken(language, name, code, modules, settings)

    control.plane.check_hook = check_hook  # type: ignore[method-assign]
    assert control.refusal("PUT", "/python/modules.x") == (400, f"{A}: line 1: no such name")
    assert control.active("modules.x") == "ex"


def test_module_in_use_is_not_removed(control: Control) -> None:
    """The reply is 409 with the scripts that use it; a staged script does not count."""
    control.put("modules.x", "ex")
    control.put("modules.y", "use modules.x")
    control.put(A, "use modules.y")
    assert control.refusal("DELETE", "/python/modules.x") == (
        409, f"modules.x is used by modules.y, {A}",
    )  # fmt: skip
    control.call("DELETE", f"/python/{A}")
    control.call("DELETE", "/python/modules.y")
    control.call("POST", f"/python/{A}", "use modules.x")
    control.call("DELETE", "/python/modules.x")
    assert ("python", "modules.x") not in control.plane.snapshot.hooks


def test_module_of_a_version_that_would_stand_in_is_in_use(control: Control) -> None:
    """It is in use if a failure of the hook brings the version before."""
    control.put("modules.x", "ex")
    control.put(A, "use modules.x")
    control.put(A, "alone", "?on_error=previous")
    assert control.refusal("DELETE", "/python/modules.x")[0] == 409
    control.put(A, "alone again", "?on_error=reject")
    control.call("DELETE", "/python/modules.x")


def test_module_that_uses_itself_can_be_removed(control: Control) -> None:
    """No other hook uses it."""
    control.put("modules.x", "ex")
    control.put("modules.x", "use modules.x")
    control.call("DELETE", "/python/modules.x")


# Trying.


def test_canary(control: Control) -> None:
    """The version in service stays, the share may grow, and at 100 % the canary is in service."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}", "two")
    for share in (10, 50, 100):
        control.call("PUT", f"/python/{A}?canary={share}")
        assert (control.hook().canary, control.active()) == (share, "one")
        assert control.shown()["staged"]["canary"] == share
    control.call("PUT", f"/python/{A}")
    assert (control.hook().canary, control.active(), control.hook().staged) == (0, "two", None)


def test_canary_of_none_is_all(control: Control) -> None:
    """``canary=0`` means the same as no parameter."""
    control.put(A, "one", "?canary=0")
    assert control.active() == "one"


def test_module_is_no_canary(control: Control) -> None:
    """Some scripts would get it and others not."""
    control.call("POST", "/python/modules.x", "ex")
    status, message = control.refusal("PUT", "/python/modules.x?canary=5")
    assert (status, message) == (400, "canary: expected a script, modules.x is a module")


def test_posting_ends_a_canary(control: Control) -> None:
    """Nobody has tried the new code."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}", "two")
    control.call("PUT", f"/python/{A}?canary=10")
    control.call("POST", f"/python/{A}", "three")
    assert (control.hook().canary, control.active()) == (0, "one")


def test_shadow(control: Control) -> None:
    """It runs beside the version in service, until it is activated or new code is posted."""
    control.put(A, "one")
    control.call("POST", f"/python/{A}?shadow=1", "two")
    hook = control.hook()
    assert (hook.shadow, control.active()) == (True, "one")
    assert control.shown()["staged"]["shadow"] is True
    assert hook.staged is not None
    assert hook.active is not None
    staged, active = (mark_of(hook.path, code) for code in (hook.staged, hook.active))
    examples = ('{"request":"GET a/"}',)
    control.plane.tally.take(
        0,
        [
            ShadowReport(hook.path, staged, 7, 2, examples, 7, 1, 7000, ((40, 7),)),
            HookReport(hook.path, active, "active", "", 7, 0, 14000, ((44, 7),)),
        ],
    )
    report = control.call("GET", f"/python/{A}/shadow")
    assert report == {
        "name": A,
        "language": "python",
        "version": md5("two"),
        "active": md5("one"),
        "compared": 7,
        "differing": 2,
        "examples": [{"request": "GET a/"}],
        "errors": 1,
        "mean_us": 1.0,
        "p99_us": report["p99_us"],
        "active_mean_us": 2.0,
        "active_p99_us": report["active_p99_us"],
    }
    control.call("PUT", f"/python/{A}?canary=10")
    assert not control.hook().shadow
    control.call("POST", f"/python/{A}?shadow=1", "three")
    control.call("PUT", f"/python/{A}")
    assert (control.hook().shadow, control.active()) == (False, "three")
    assert control.refusal("GET", f"/python/{A}/shadow")[0] == 404


def test_shadow_before_anything_is_active(control: Control) -> None:
    """There is no version to compare with yet, and the report says so."""
    control.call("POST", f"/python/{A}?shadow=1", "one")
    report = control.call("GET", f"/python/{A}/shadow")
    assert (report["active"], report["compared"]) == (None, 0)


# Back.


def test_rollback(control: Control) -> None:
    """The version before comes back as a new posting; a second rollback brings the newer one
    back."""
    now = [NOW]
    control = Control()
    control.actions.clock = lambda: now[0]
    control.put(A, "one")
    now[0] += 10
    control.put(A, "two")
    first = control.hook().previous
    now[0] += 10
    control.call("PUT", f"/python/{A}?rollback=1")
    hook = control.hook()
    assert (control.active(), hook.previous and hook.previous.code) == ("one", "two")
    assert first is not None
    assert hook.active is not None
    assert hook.active.time == NOW + 20
    assert mark_of(hook.path, hook.active) != mark_of(hook.path, first)
    control.call("PUT", f"/python/{A}?rollback=1")
    assert control.active() == "two"


def test_rollback_of_a_canary(control: Control) -> None:
    """All requests get the version in service; the canary stays staged."""
    control.put(A, "one")
    control.put(A, "two")
    control.call("POST", f"/python/{A}", "three")
    control.call("PUT", f"/python/{A}?canary=10")
    control.call("PUT", f"/python/{A}?rollback=1")
    hook = control.hook()
    assert (hook.canary, control.active(), hook.staged and hook.staged.code) == (0, "two", "three")


def test_rollback_is_tried_first(control: Control) -> None:
    """The old version may need a module that was removed."""
    control.put("modules.x", "ex")
    control.put(A, "use modules.x")
    control.put(A, "alone")
    control.call("DELETE", "/python/modules.x")
    status, message = control.refusal("PUT", f"/python/{A}?rollback=1")
    assert (status, message) == (400, f"{A}: module modules.x is not active")
    assert control.active() == "alone"


def test_nothing_before(control: Control) -> None:
    """The first version has no version before it."""
    control.put(A, "one")
    assert control.refusal("PUT", f"/python/{A}?rollback=1") == (
        404, f"python hook {A} has no version before this one",
    )  # fmt: skip


# The effect of a failure.


def test_on_error_comes_with_the_version(control: Control) -> None:
    """Posting alone does not change it for the version in service."""
    control.put(A, "one")
    assert control.shown()["on_error"] == "reject"
    control.call("POST", f"/python/{A}?on_error=continue", "two")
    assert control.hook().on_error is None
    assert control.shown()["on_error"] == "reject"
    assert control.shown()["staged"]["on_error"] == "continue"
    control.call("PUT", f"/python/{A}?canary=10")
    assert control.hook().on_error is None
    control.call("PUT", f"/python/{A}")
    assert control.hook().on_error == "continue"
    assert control.shown()["on_error"] == "continue"
    control.put(A, "three")
    assert control.hook().on_error == "continue", "it is kept where nothing is said"


def test_on_error_of_the_activation_wins(control: Control) -> None:
    """It wins over the one of the posting."""
    control.call("POST", f"/python/{A}?on_error=continue", "one")
    control.call("PUT", f"/python/{A}?on_error=previous")
    assert control.hook().on_error == "previous"


def test_on_error_of_a_first_canary(control: Control) -> None:
    """No other version has one."""
    control.call("POST", f"/python/{A}", "one")
    control.call("PUT", f"/python/{A}?canary=10&on_error=continue")
    assert control.hook().on_error == "continue"


def test_on_error_goes_back_with_the_version(control: Control) -> None:
    """A guard that refused requests when it failed does so again."""
    control.put(A, "one", "?on_error=reject")
    control.put(A, "two", "?on_error=continue")
    control.call("PUT", f"/python/{A}?rollback=1")
    assert control.hook().on_error == "reject"
    control.call("PUT", f"/python/{A}?rollback=1")
    assert control.hook().on_error == "continue"
    other = Control(hooks={"on_error": "continue"})
    other.put(A, "one")
    other.put(A, "two", "?on_error=reject")
    other.call("PUT", f"/python/{A}?rollback=1")
    assert other.hook().on_error is None
    assert other.shown()["on_error"] == "continue"


# Failures on the way.


def test_store_that_takes_nothing(control: Control) -> None:
    """The reply is 503 or 409, and nothing is served that is not stored."""
    control.put(A, "one")
    for error, status in ((StoreError("the disk is full"), 503), (ConflictError("not yours"), 409)):
        control.store.error = error
        with logged():
            for method, path in (("POST", A), ("DELETE", A)):
                assert control.refusal(method, f"/python/{path}", "two") == (status, str(error))
        control.store.error = None
    assert (control.active(), control.hook().staged) == ("one", None)
    assert control.plane.snapshot.version == 2


def test_worker_that_does_not_take_it(control: Control) -> None:
    """The change is stored, and the error says so."""
    control.call("POST", f"/python/{A}", "one")
    control.plane.error = RuntimeError("broken pipe")
    with logged():
        status, message = control.refusal("PUT", f"/python/{A}")
        assert (status, "is stored as version 2, but" in message) == (500, True)
        error_of(_deferred(control.hooks.activate("python", A, "x")), NotFoundError)
    control.plane.error = None
    assert control.shown()["version"] == md5("one")


def _deferred(change: Any) -> Any:
    from twisted.internet.defer import ensureDeferred

    return ensureDeferred(change)


def test_changes_wait_for_each_other(control: Control) -> None:
    """The second is checked against the configuration that the first has made."""
    control.put(A, "one")
    control.store.held = []
    clients = [WebClient(control.actions) for _ in range(3)]
    clients[0].request("POST", f"/python/{A}", b"two")
    clients[1].request("PUT", f"/python/{A}")
    clients[2].request("PUT", f"/python/{A}")
    assert len(control.store.held) == 1
    while control.store.held:
        control.store.held.pop(0)()
    replies = [client.received() for client in clients]
    # Either of the two may find it staged.
    assert sorted(reply.status for reply in replies if reply) == [200, 200, 404]
    assert control.active() == "two"
    assert [change.kind for change in control.store.changes] == ["hook"] * 4


def test_check_that_takes_long_holds_nobody(control: Control) -> None:
    """Other changes go on meanwhile, also of hooks; the checked change follows, even if its
    caller has gone."""
    from twisted.internet.defer import Deferred

    waiting: Deferred[Any] = Deferred()
    checked = control.plane.check_hook
    control.plane.check_hook = lambda *_: waiting  # type: ignore[method-assign]
    control.client.request("POST", f"/python/{A}", b"one")
    assert control.client.received() is None
    control.plane.check_hook = checked  # type: ignore[method-assign]
    other = WebClient(control.actions)
    assert other.call("PUT", "/upstream/u", upstream(1)).status == 200
    assert other.call("POST", "/python/script.b.test", b"two").status == 200
    control.client.channel.connectionLost(None)
    waiting.callback(("modules.b", "modules.a"))
    staged = control.hook().staged
    assert staged is not None
    assert staged.requires == ("modules.b", "modules.a")
    assert "u" in control.plane.snapshot.upstreams
    assert [change.name for change in control.store.changes] == [
        "u", "python/script.b.test", f"python/{A}",
    ]  # fmt: skip


@pytest.mark.parametrize(("module", "status"), [("new", 200), ("newest", 400)])
def test_hook_is_checked_with_the_module_that_it_will_run_with(
    control: Control, module: str, status: int
) -> None:
    """This also holds if the module changed while the hook was checked with the former one."""
    from twisted.internet.defer import Deferred

    control.put("modules.x", "ex")
    control.call("POST", f"/python/{A}", "use modules.x")
    known = control.plane.check_hook
    waiting: Deferred[Any] = Deferred()
    seen: list[str] = []

    def check_hook(language: str, name: str, code: str, modules: Any, settings: Any) -> Any:
        if name == A:
            seen.append(modules["modules.x"])
            if len(seen) == 1:
                return waiting
            if modules["modules.x"] == "newest":
                raise ConfigError(f"{A}: line 1: not with this one")
        return known(language, name, code, modules, settings)

    control.plane.check_hook = check_hook  # type: ignore[method-assign]
    control.client.request("PUT", f"/python/{A}")
    other = WebClient(control.actions)
    other.call("POST", "/python/modules.x", module.encode())
    assert other.call("PUT", "/python/modules.x").status == 200
    waiting.callback(("modules.x",))
    reply = control.client.received()
    assert reply is not None
    assert (reply.status, seen) == (status, ["ex", module])
    assert control.active() == ("use modules.x" if status == 200 else None)


def test_upstreams_and_hooks_leave_each_other_alone(control: Control) -> None:
    """A change of one does not touch the other."""
    control.put(A, "one")
    hooks = control.plane.snapshot.hooks
    control.call("PUT", "/upstream/u", b'{"servers": [{"host": "127.0.0.1", "port": 1}]}')
    control.call("PUT", "/routes", b"[]")
    assert control.plane.snapshot.hooks is hooks
    control.put(A, "two")
    snapshot, changed = control.plane.applied[-1]
    assert list(snapshot.upstreams) == ["u"]
    assert changed == []


def test_settings_read_anew_leave_the_hooks(control: Control) -> None:
    """The workers have no hook to load again."""
    from slardar.config import parse_settings

    control.put(A, "one")
    hooks = control.plane.snapshot.hooks
    assert control.shown()["on_error"] == "reject"
    hooks_then = {"on_error": "continue"}
    settings = parse_settings({"upstreams": {"new": upstream(1)}, "hooks": hooks_then})
    result_of(control.actions.take_settings(settings, "SIGHUP"))
    assert "new" in control.plane.snapshot.upstreams
    assert control.plane.snapshot.hooks is hooks
    # They run with the settings of the start, and are shown so.
    assert control.shown()["on_error"] == "reject"


# The start.


def stored(**hooks: Any) -> StoredState:
    """A store's content: Python hooks by host."""
    return StoredState(
        5, {}, None, {f"python/script.{host}": value for host, value in hooks.items()}
    )


def test_stored_hooks_are_served() -> None:
    """They are served whether they can be loaded or not; the plane shows which cannot."""
    hook = Hook(
        "python", "script.a", Code.of("one", NOW), Code.of("old", NOW), None, 0, False, "continue"
    )
    control = Control(stored(a=written(hook)))
    assert control.plane.snapshot.hooks == {hook.key: hook}
    assert control.plane.checked == []
    assert control.shown("script.a")["previous"]["version"] == md5("old")


@pytest.mark.parametrize("value", [None, 5, "code", [], {}, {"language": "python"}])
def test_stored_hook_that_cannot_be_read(value: Any) -> None:
    """The start goes on: the hook is left out, shown as failed, and kept in the store until it
    is set anew or removed."""
    fine = Hook("python", "script.fine", Code.of("one", NOW))
    with logged() as events:
        control = Control(stored(a=value, fine=written(fine)))
    assert len(events) == 1
    assert list(control.plane.snapshot.hooks) == [fine.key]
    failed = control.call("GET", "/status")["failed"]
    assert list(failed) == ["hooks.python/script.a"]
    status, message = control.refusal("GET", "/python/script.a")
    assert status == 404
    assert message.startswith("python hook script.a is stored but cannot be read: ")
    assert control.refusal("PUT", "/python/script.a")[0] == 404
    assert control.store.changes == []
    control.call("DELETE", "/python/script.a")
    assert control.store.changes[-1].name == "python/script.a"
    assert control.store.changes[-1].value is None
    assert "failed" not in control.call("GET", "/status")
    assert control.refusal("DELETE", "/python/script.a")[0] == 404


def test_stored_hook_that_cannot_be_read_is_set_anew() -> None:
    """Posting it sets it anew."""
    with logged():
        control = Control(stored(a="junk"))
    control.put("script.a", "one")
    assert "failed" not in control.call("GET", "/status")
    assert control.active("script.a") == "one"


def test_hooks_are_carried_over_by_an_upgrade() -> None:
    """A store that forgets carries them over, too, with versions and canary, and without
    removed hooks."""
    store = MemoryStore()
    plane = FakePlane()
    one = make_actions(store, plane)
    client = WebClient(one)
    for method, path, body in (
        ("POST", f"/python/{A}", b"one"), ("PUT", f"/python/{A}", None),
        ("POST", f"/python/{A}", b"two"), ("PUT", f"/python/{A}?canary=10", None),
        ("POST", "/lua/script.b", b"gone"), ("DELETE", "/lua/script.b", None),
    ):  # fmt: skip
        assert client.call(method, path, body).status == 200
    state = result_of(one.hand_over())
    assert set(state.hooks) == {f"python/{A}"}
    heir = MemoryStore()
    heir.take_over(state)
    other = make_actions(heir, FakePlane())
    assert other.snapshot.hooks == one.snapshot.hooks
    assert other.status()["fingerprint"] == one.status()["fingerprint"]
    assert heir.state.hooks == state.hooks
    assert result_of(_deferred(other.hooks.activate("python", A, "x"))).version == 7


def test_actions_say_what_they_raise(control: Control) -> None:
    """Other control channels than HTTP need these errors."""
    for change, kind in (
        (control.hooks.activate("python", A, "x"), NotFoundError),
        (control.hooks.roll_back("python", A, "x"), NotFoundError),
        (control.hooks.remove("python", A, "x"), NotFoundError),
        (control.hooks.stage("python", "no", b"x", "x"), ConfigError),
        (control.hooks.stage("perl", A, b"x", "x"), ConfigError),
        (control.hooks.stage("python", A, b"x", "x", on_error="no"), ConfigError),
    ):
        error_of(_deferred(change), kind)


def test_warnings_are_told_everywhere(control: Control) -> None:
    """They are in a header of the answer, in the log, and wherever the version is shown."""
    text = "line 1: ngx.sleep is not available in hooks: é"
    with capturedLogs() as logged:
        reply = control.client.call("POST", f"/lua/{A}", b"warns")
    assert (reply.status, reply.body) == (200, OK)
    assert reply.headers["X-Slardar-Warning"] == text.replace("é", "\\xe9")
    assert f"lua/{A}: {text}" in [formatEvent(event) for event in logged]
    assert control.call("GET", f"/lua/{A}")["warnings"] == [text]
    assert control.call("GET", f"/lua/{A}")["staged"]["warnings"] == [text]
    control.call("PUT", f"/lua/{A}")
    assert control.call("GET", f"/lua/{A}")["warnings"] == [text]
    # The warnings belong to the version.
    reply = control.client.call("POST", f"/lua/{A}?activate=1", b"good")
    assert "X-Slardar-Warning" not in reply.headers
    shown = control.call("GET", f"/lua/{A}")
    assert "warnings" not in shown
    assert shown["previous"]["warnings"] == [text]
