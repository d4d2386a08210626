"""A hook as the configuration holds it: reading, writing and its digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from slardar.errors import ConfigError
from slardar.model.hook import Code, Hook, check_hook_name, parse_hook, written

CODE = Code.of("def on_request(request): pass", 1700000000.5, ("modules.a",))
FULL = Hook("python", "script.a.test", CODE, Code.of("old", 1.0), Code.of("new", 2.0), 10, True)


@pytest.mark.parametrize(
    "name",
    ["script.*", "script.a", "script.WWW.a-b.test", "script.::1", "script.a_b", "modules.a",
     "modules.A_1.b-c", "modules._x", "script." + "a" * 255, "modules." + "a" * 128],
)  # fmt: skip
@pytest.mark.parametrize("language", ["lua", "python"])
def test_names_of_hooks(language: str, name: str) -> None:
    """A hook is for a host or every host, or it is a module."""
    check_hook_name(language, name)


@pytest.mark.parametrize(
    "name",
    ["", "script", "script.", "a", "modules.", "modules.1", "modules.*", "script.*.a", "script.a/b",
     "script.a b", "script.a\n", "scripts.a", "script.é", "../script.a", "script.a?b", "modules.a$",
     "script." + "a" * 256, "modules." + "a" * 130, "MODULES.a"],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    """The refusal is one line that says what was expected."""
    with pytest.raises(ConfigError, match=r"name: expected script\.HOST, script\.\* or") as error:
        check_hook_name("python", name)
    assert "\n" not in str(error.value)


def test_other_languages_are_refused() -> None:
    """Only Lua and Python are languages of hooks."""
    with pytest.raises(ConfigError, match="language: expected lua or python"):
        check_hook_name("perl", "script.a")


def test_version_is_the_md5() -> None:
    """As in upyun/slardar, of the code's UTF-8."""
    assert Code.of("é", 1.0).version == hashlib.md5("é".encode()).hexdigest()
    assert Code.of("é", 1.0).requires == ()


def test_what_a_hook_is() -> None:
    """Its key, its path, and the host for which it runs."""
    assert (FULL.key, FULL.path) == (("python", "script.a.test"), "python/script.a.test")
    assert (FULL.is_script, FULL.host) == (True, "a.test")
    assert Hook("lua", "script.*").host == "*"
    assert Hook("lua", "script.WWW.A.test").host == "www.a.test"
    assert not Hook("lua", "modules.script.a").is_script


@pytest.mark.parametrize("hook", [FULL, Hook("lua", "modules.x", staged=CODE, on_error="previous")])
def test_hook_is_read_as_it_was_written(hook: Hook) -> None:
    """It is equal after the way through a store's JSON."""
    stored = json.loads(json.dumps(written(hook)))
    assert parse_hook(hook.path, stored) == hook


def changed(**values: Any) -> dict[str, Any]:
    """A stored hook with one thing wrong."""
    return {**written(FULL), **values}


def code(**values: Any) -> dict[str, Any]:
    """A version of its code with one thing wrong."""
    return {**msgspec.to_builtins(CODE), **values}


@pytest.mark.parametrize(
    "value",
    [
        None, [], "code", 5, {},
        changed(name="script.b.test"), changed(language="lua"), changed(language="perl"),
        changed(canary=101), changed(canary=-1), changed(canary="10"), changed(shadow=1),
        changed(on_error="stop"), changed(unknown=1), changed(active="code"),
        changed(active=code(version="x")), changed(active=code(version="A" * 32)),
        changed(active=code(time=-1)), changed(active=code(time=1e300)),
        changed(active=code(time="now")), changed(active=code(code=5)),
        changed(active=code(requires="modules.a")), changed(active=code(extra=1)),
        changed(active=code(on_error="stop")),
        changed(active=None, staged=None, previous=None),
    ],
)  # fmt: skip
def test_stored_hook_that_is_none_is_refused(value: Any) -> None:
    """The refusal is one line with its path; anybody may have written to a store."""
    with pytest.raises(ConfigError, match=r"^hooks\.python/script\.a\.test: ") as error:
        parse_hook("python/script.a.test", value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["", "python", "perl/script.a", "python/x", "python/script.a/b"])
def test_stored_path_that_is_none_is_refused(path: str) -> None:
    """The path is checked before the value."""
    with pytest.raises(ConfigError, match="expected"):
        parse_hook(path, written(FULL))


def test_digest_is_of_what_decides_over_requests() -> None:
    """It does not depend on the time of a post, nor on a version that is only staged or in the
    shadow."""
    for same in (
        replace(FULL, active=Code.of(CODE.code, 5.0)),
        replace(FULL, shadow=False),
        replace(FULL, previous=None),
    ):
        assert same.digest == FULL.digest
    waiting = replace(FULL, canary=0)
    assert replace(waiting, staged=None).digest == waiting.digest
    standing_in = replace(FULL, on_error="previous")
    others = [
        replace(FULL, active=Code.of("other", 1.0)),
        replace(FULL, active=None),
        replace(FULL, canary=20),
        replace(FULL, staged=Code.of("other", 1.0)),
        replace(FULL, on_error="continue"),
        replace(FULL, name="script.b.test"),
        replace(FULL, language="lua"),
        waiting,
        standing_in,
        replace(standing_in, previous=Code.of("older", 1.0)),
        replace(standing_in, previous=None),
    ]
    assert len({hook.digest for hook in [*others, FULL]}) == len(others) + 1
