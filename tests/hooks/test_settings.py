"""Settings in hooks of both languages: what they read, and what a change of one does."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import slardar.hooks.lua
from slardar.config import Hooks
from slardar.hooks.call_note import CallNote
from slardar.hooks.engine import ScriptError
from slardar.hooks.objects import HookRequest
from slardar.hooks.runner import Runner
from slardar.hooks.script import HookFailure
from slardar.hooks.settings import HookSettings
from slardar.model.hook import Hook
from slardar.model.setting import _OF_LUA, MAX_SETTING, parse_setting
from tests.hooks.kit import hook, hooks, request_of, settings_of
from tests.hooks.lua.helpers import make_engine, said
from tests.hooks.python.loading import Hooks as PythonHooks

PYTHON = """
count = [0]

def on_request(request):
    count[0] += 1
    request.headers["X-Python"] = f"{settings.myargs.arg0} {settings.get('n')} {count[0]}"
"""
LUA = """
local kept = require("modules.kept")
ngx.req.set_header("X-Lua", slardar.myargs.arg0 .. " " .. tostring(slardar.n) .. " " .. kept.next())
"""
KEPT = """
local count = 0
return { next = function() count = count + 1 return count end }
"""


class Site:
    """A runner with hooks of both languages."""

    def __init__(self, *some: Hook, **values: Any) -> None:
        self.note = CallNote([0])
        self.runner = Runner(Hooks(), lambda: 0.0, None, self.note)
        self.take(**values)
        self.runner.load(hooks(*some))

    def take(self, **values: Any) -> bool:
        """These are the settings from now on."""
        texts = {name: parse_setting(name, value, "") for name, value in values.items()}
        return self.runner.take_settings(texts)

    def headers(self) -> dict[str, str]:
        """What the hooks make of a request."""
        request = request_of()
        hooked = self.runner.request(request)
        assert hooked is None or hooked.answer is None, hooked.error
        return {
            name: value
            for name in ("x-python", "x-lua")
            if (value := request.get_header(name)) is not None
        }


def both() -> tuple[Hook, ...]:
    return (
        hook("script.www.a.test", PYTHON),
        hook("lua/script.www.a.test", LUA),
        hook("lua/modules.kept", KEPT),
    )


def test_change_is_seen_by_the_next_request() -> None:
    """In both languages.  No hook is loaded again: what it keeps and counts stays."""
    site = Site(*both(), myargs={"arg0": 1})
    assert site.headers() == {"x-python": "1 None 1", "x-lua": "1 nil 1"}
    loads = site.note.calls
    assert not site.take(myargs={"arg0": "two"}, n=5)
    assert site.headers() == {"x-python": "two 5 2", "x-lua": "two 5 2"}
    assert site.note.calls - loads == 2  # each call is counted, and no load
    assert [report.calls for report in site.runner.reports()] == [2, 2]  # type: ignore[union-attr]


def test_change_costs_what_has_changed() -> None:
    """A value that stays is not made ready again."""
    settings = settings_of({"same": [1], "other": 1})
    same, other = settings["same"], settings["other"]
    settings.take({"same": "[1]", "other": "2", "new": "3"})
    assert settings["same"] is same
    assert settings["other"] is not other
    assert list(settings) == ["same", "other", "new"]


def test_python_makes_a_value_once() -> None:
    """However many calls read it."""
    hooks = PythonHooks()
    script = hooks.load("def on_request(request):\n    request.context['out'] = settings.myargs\n")
    seen = []
    for _ in range(2):
        request = HookRequest(b"GET", b"/", b"")
        script.on_request(request)
        seen.append(request.context["out"])
    assert seen[0] is seen[1]


def test_name_may_lead_into_a_setting() -> None:
    """The deeper one wins, and what the value has besides stays."""
    settings = HookSettings(
        {
            "limits": '{"burst":1,"rate":{"a":1}}',
            "limits/burst": '{"x":2}',
            "limits/rate/b": "3",
            "limits/burst/y": "4",
            "limits/rate/a/deep": "5",
            "only/deep": "true",
        }
    )
    wanted = {"burst": {"x": 2, "y": 4}, "rate": {"a": {"deep": 5}, "b": 3}}
    assert json.loads(settings["limits"].text) == wanted
    assert json.loads(settings["only"].text) == {"deep": True}
    engine = make_engine(settings=settings)
    assert said(engine, "ngx.say(slardar.limits.burst.y, slardar.only.deep)") == "4true"
    hooks = PythonHooks()
    hooks.settings.take({"a/b": "1", "a": '{"c":2}'})
    assert hooks.value("[settings.a.b, settings.a.c, settings['a']['b']]") == [1, 2, 1]


def test_module_reads_them_too() -> None:
    """In both languages, when it is called and when it is loaded."""
    code = "local at_load = slardar.n return function() return at_load, slardar.n end"
    engine = make_engine(settings=settings_of({"n": 1}))
    assert said(engine, "ngx.say(require('modules.m')())", m=code) == "11"
    hooks = PythonHooks()
    module = "AT_LOAD = settings.number\ndef now():\n    return settings.number\n"
    text = "m = require('modules.m')\nrequest.context['out'] = [m.AT_LOAD, m.now()]"
    assert hooks.result(text, m=module) == [5, 5]


def test_hook_that_needs_a_setting_to_be_loaded_waits_for_it() -> None:
    """A change of settings tells whether a hook could not be loaded, so that it is tried again."""
    code = "X = settings.x\ndef on_request(request):\n    request.headers['X-Python'] = X\n"
    script = hook("script.www.a.test", code)
    site = Site(script)
    assert site.runner.request(request_of()).error  # type: ignore[union-attr]
    assert site.take(x="1")
    site.runner.load(hooks(script))
    assert site.headers() == {"x-python": "1"}
    assert not site.take(x="2")


def test_understudy_reads_them() -> None:
    """An explanation runs copies of the hooks, with the present settings."""
    some = both()
    site = Site(*some, myargs={"arg0": 1})
    request = request_of()
    site.runner.understudy(some, lambda level, text: None).request(request)
    assert request.get_header("x-python") == "1 None 1"


def test_names_that_lua_has_are_those_that_are_refused() -> None:
    """A setting with such a name could never be read."""
    text = Path(slardar.hooks.lua.__path__[0], "slardar.lua").read_text("ascii")
    there = re.findall(r"^function slardar\.(\w+)", text, re.M)
    there += [f"set_{name}" for name in re.findall(r'^chooses\("(\w+)"\)', text, re.M)]
    assert set(there) == _OF_LUA
    engine = make_engine()
    for name in there:
        assert said(engine, f"ngx.say(type(slardar.{name}))") == "function"


#: Values that both languages tell apart: an empty object is an empty list in Lua.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, min_size=1, max_size=4)
    ),
    max_leaves=20,
)
ENGINE = make_engine(1.0, HookSettings())
LUA_EQUAL = """
local function same(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then return a == b end
    for k, v in pairs(a) do if not same(v, b[k]) then return false end end
    for k in pairs(b) do if a[k] == nil then return false end end
    return true
end
ngx.say(same(slardar.x, cjson.decode(ngx.var.arg_x and ngx.unescape_uri(ngx.var.arg_x))))
"""


@given(VALUES.filter(lambda value: value is not None))
def test_lua_reads_any_value(value: Any) -> None:
    """As its JSON library would read it."""
    text = parse_setting("x", value, "")
    ENGINE.settings.take({"x": text})
    ENGINE.settings_changed()
    target = "/?x=" + "".join(f"%{byte:02x}" for byte in text.encode())
    request = HookRequest(b"GET", target.encode(), b"")
    assert said(ENGINE, LUA_EQUAL, request) == "true"


def thawed(value: Any) -> Any:
    """A value of a Python hook as JSON has it."""
    if isinstance(value, tuple):
        return [thawed(one) for one in value]
    return {key: thawed(one) for key, one in value.items()} if hasattr(value, "items") else value


@given(VALUES.filter(lambda value: value is not None))
def test_python_reads_any_value(value: Any) -> None:
    hooks = PythonHooks()
    hooks.settings.take({"x": parse_setting("x", value, "")})
    assert thawed(hooks.value("settings['x']")) == value


LARGEST = [
    "x" * (MAX_SETTING - 2),
    "\x01" * (MAX_SETTING // 6 - 2),
    [[] for _ in range((MAX_SETTING - 2) // 3)],
    [0] * ((MAX_SETTING - 2) // 2),
    {f"{n}": n for n in range(4000)},
    [{"a": n} for n in range(5000)],
    [n / 7 for n in range(3000)],
]


@pytest.mark.alone
@pytest.mark.real
@pytest.mark.parametrize("value", LARGEST, ids=count())
def test_largest_values_can_be_read(value: Any) -> None:
    """Within the CPU time and the memory of one call, the first one included."""
    text = parse_setting("x", value, "")
    engine = make_engine(settings=HookSettings({"x": text}))
    hooks = PythonHooks()
    hooks.settings.take({"x": text})
    for _ in range(3):
        assert said(engine, "ngx.say(type(slardar.x))") in ("table", "string")
        assert hooks.value("len(settings['x'])") == len(value)


@pytest.mark.parametrize(
    "line",
    ["settings.myargs = 1", "settings.myargs.arg0 = 1", "settings['myargs']['x'] = 1",
     "settings.myargs.list.append(1)", "del settings['myargs']", "settings.__class__",
     "settings.data", "settings.whole"],
)  # fmt: skip
def test_no_python_hook_can_change_or_leave_them(line: str) -> None:
    hooks = PythonHooks()
    with pytest.raises((HookFailure, ScriptError), match=r"script\.x: line 2"):
        hooks.result(line)
    assert hooks.value("settings.myargs.arg0") == "zero"


def test_names_of_python_are_only_names() -> None:
    """They lead to nothing but the setting."""
    hooks = PythonHooks()
    hooks.settings.take({"__class__": '{"__mro__":1}', "items": "7", "a": '{"get":1}'})
    assert hooks.value("settings['__class__']['__mro__']") == 1
    assert hooks.value("settings['items']") == 7
    assert hooks.value("settings.a['get']") == 1
    assert hooks.value("[key for key, value in settings.items()]") == ["__class__", "items", "a"]
    with pytest.raises(HookFailure, match="there is no settings"):
        hooks.result("settings['no']")


def test_lua_scripts_change_only_copies() -> None:
    """What one call writes is gone with it, deep inside, too; slardar itself cannot be written."""
    engine = make_engine(settings=settings_of({"a": {"list": [1, {"x": 1}]}}))
    code = """
        slardar.a.list[2].x = slardar.a.list[2].x + 1
        slardar.a.list[3] = true
        ngx.say(slardar.a.list[2].x, #slardar.a.list, pcall(function() slardar.a = 1 end))
    """
    script = engine.load("script.x", code, {})
    for _ in range(2):
        request = HookRequest(b"GET", b"/", b"")
        script.on_request(request)
        assert request.answer is not None
        assert request.answer.body.startswith(b"23false")


def test_lua_scripts_may_ask_for_any_name() -> None:
    """A name that is not there is nil, however many are asked for, and nothing is kept of them."""
    engine = make_engine(settings=settings_of({"a": 1}))
    code = (
        'for n = 1, 2000 do assert(slardar["x" .. n] == nil) end ngx.say(slardar["\\255"] == nil)'
    )
    assert said(engine, code) == "true"
    before = engine.runtime.collect()
    for _ in range(10):
        assert said(engine, code) == "true"
    assert engine.runtime.collect() < before + 50_000


def test_settings_take_no_memory_from_lua_scripts() -> None:
    """When it is short they are let go first: no module loses what it keeps, and no call fails."""
    value = json.dumps([{"a": 0}] * 8000, separators=(",", ":"))
    settings = HookSettings({f"s{n}": value for n in range(16)})
    engine = make_engine(1.0, settings, memory=16 << 20)
    code = """
        local kept = require("modules.kept")
        for n = 0, 15 do
            if ngx.var.arg_n == tostring(n) then assert(#slardar["s" .. n] == 8000) end
        end
        ngx.say(kept.next())
    """
    script = engine.load("script.x", code, {"modules.kept": KEPT})
    for number in range(1, 21):
        request = HookRequest(b"GET", f"/?n={number % 16}".encode(), b"")
        script.on_request(request)
        assert request.answer is not None
        assert request.answer.body == f"{number}\n".encode()
