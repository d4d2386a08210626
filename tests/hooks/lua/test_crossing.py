"""No exception of Python reaches LuaJIT, whatever Lua passes."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.engine import ScriptError
from slardar.hooks.lua.api import Api
from slardar.hooks.lua.script import Call
from tests.hooks.lua.helpers import failure, make_engine, make_request, run, said

#: What Lua may pass to any of the functions, checked or not.
ODD: tuple[Any, ...] = (
    None, "", "x", "\xff\0\r\n", "9" * 5000, 0, -1, 1.5, 2**53, 1e300, -1e300, float("nan"),
    float("inf"), float("-inf"), True, False, object(),
)  # fmt: skip

FUNCTIONS = Api(Call(), {"deep": [[[{}]]], "odd": {1, 2}}, lambda level, text: None).functions()


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_nothing_raises(name: str) -> None:
    """Not even with values, and numbers of values, that the Lua files never pass."""
    function = FUNCTIONS[name]
    if name in ("clock", "seed", "set_header", "variable"):
        # These are always called with what they take.
        calls: list[tuple[Any, ...]] = (
            [()] if name in ("clock", "seed") else [(one,) for one in ODD]
        )
    else:
        calls = [(), *((one,) for one in ODD), *((a, b) for a in ODD for b in ODD)]
        calls += [(one,) * 3 for one in ODD] + [(one,) * 9 for one in ODD]
        calls += [("a", "a", one) for one in ODD] + [("a", "a", "", one) for one in ODD]
    for arguments in calls:
        answer = function(*arguments)
        # What comes back must be something that Lua can have: a byte is a character.
        for one in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(one, str):
                one.encode("latin-1")
            else:
                assert one is None or isinstance(one, int | float)


def test_mistake_of_ours_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a function fails the call.

    No pcall hides it, other scripts go on, and the stack of Lua is intact: a hundred exceptions
    crashed the process when they reached Lua.
    """

    def broken(api: Any) -> str:
        raise KeyError("inside")

    monkeypatch.setattr("slardar.hooks.lua.api.Api.args", broken)
    engine = make_engine()
    code = "for i = 1, 5 do pcall(function() ngx.req.get_uri_args() end) end ngx.say('on')"
    for _ in range(100):
        assert failure(engine, code) == ("error", "script.x: KeyError: 'inside'")
        assert said(engine, "local t = {} for i = 1, 100 do t[i] = {} end ngx.say(#t)") == "100"
    assert run(engine, "ngx.req.set_header('X-A', 'b')").headers["x-a"] == "b"


def test_mistake_of_ours_while_a_module_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug while a module is loaded keeps the script from being loaded."""

    def broken(api: Any) -> str:
        raise KeyError("inside")

    monkeypatch.setattr("slardar.hooks.lua.api.Api.header_lines", broken)
    engine = make_engine()
    module = {"modules.m": "pcall(ngx.req.get_headers) return {}"}
    with pytest.raises(ScriptError, match="KeyError: 'inside'"):
        engine.load("script.x", "require('modules.m')", module).on_request(make_request())
