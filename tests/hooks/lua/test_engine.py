"""The Lua engine: checking and loading scripts, their failures, and that others go on."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest

from slardar.hooks.engine import MAX_CODE, ScriptError
from slardar.hooks.lua.runtime import ROOM
from slardar.hooks.objects import HookResponse
from slardar.hooks.script import HookFailure
from tests.hooks.lua.helpers import failure, make_engine, make_request, run, said


def refused(engine: Any, code: str, name: str = "script.x", **modules: str) -> str:
    """The one line with which code is refused when it is loaded."""
    with pytest.raises(ScriptError) as caught:
        engine.load(name, code, {f"modules.{key}": text for key, text in modules.items()})
    text = str(caught.value)
    assert "\n" not in text
    return text


class TestCheck:
    def test_names_of_modules(self, engine: Any) -> None:
        """The modules that require names are found, even among comments and texts that mislead."""
        code = """
            -- require("modules.no1")
            --[[ require "modules.no2" ]] local a = require("modules.a")
            local s, t = 'require "modules.no3"', [==[ require "modules.no4" ]==]
            local b = require 'modules.b'; my.require("modules.no5"); local c = require"cjson"
            local function f() return require ( "modules.c" ) end
        """
        assert engine.check("script.x", code) == {"modules.a", "modules.b", "modules.c"}

    def test_nothing_runs(self, engine: Any) -> None:
        """Code that would fail when it runs passes the check."""
        assert engine.check("script.x", "error('boom') while true do end") == frozenset()

    def test_syntax_error(self, engine: Any) -> None:
        """A syntax error names the script, the line and what is wrong."""
        with pytest.raises(ScriptError, match=r"^script\.x: line 2: 'then' expected near 'y'$"):
            engine.check("script.x", "\nif x y then end")

    @pytest.mark.parametrize("code", ["\x1bLJ\x02", "\x1bLua"])
    def test_bytecode(self, engine: Any, code: str) -> None:
        """Bytecode is refused, with the reason."""
        with pytest.raises(ScriptError, match="expected Lua source, not bytecode"):
            engine.check("script.x", code)

    def test_size(self, engine: Any) -> None:
        """Code beyond the limit is refused."""
        with pytest.raises(ScriptError, match="at most"):
            engine.check("script.x", " " * (MAX_CODE + 1))
        engine.check("script.x", " " * MAX_CODE)

    def test_long_names(self, engine: Any) -> None:
        """A name that is longer than LuaJIT shows is whole in messages."""
        name = "script." + "a" * 200 + ".example.com"
        with pytest.raises(ScriptError) as caught:
            engine.check(name, "\n\nx x")
        assert str(caught.value).startswith(f"{name}: line 3: ")

    def test_surrogates(self, engine: Any) -> None:
        """A text that is no valid Unicode is refused."""
        with pytest.raises(ScriptError, match="UTF-8"):
            engine.check("script.x", "x = '\udc80'")


class TestLoad:
    def test_a_script_does_not_run(self, engine: Any) -> None:
        """A script does not run when it is loaded, but for requests only."""
        script = engine.load("script.x", "error('boom')", {})
        with pytest.raises(HookFailure, match="boom"):
            script.on_request(make_request())

    def test_a_module_runs_once(self, engine: Any) -> None:
        """A module's code runs when the script is loaded, and its values last."""
        script = engine.load(
            "script.x",
            "local m = require 'modules.m' m.n = m.n + 1 ngx.say(m.n)",
            {"modules.m": "return {n = 0}"},
        )
        for wanted in (b"1\n", b"2\n"):
            request = make_request()
            script.on_request(request)
            assert request.answer is not None
            assert request.answer.body == wanted

    def test_each_script_has_its_own_modules(self, engine: Any) -> None:
        """A script does not see what another script writes into a module."""
        modules = {"modules.m": "return {n = 0}"}
        code = "local m = require 'modules.m' m.n = m.n + 1 ngx.say(m.n)"
        for name in ("script.a", "script.b"):
            request = make_request()
            engine.load(name, code, modules).on_request(request)
            assert request.answer is not None
            assert request.answer.body == b"1\n"

    def test_not_active(self, engine: Any) -> None:
        """A script that needs a module that is not active is refused, with the line."""
        text = refused(engine, "\nlocal m = require('modules.gone')")
        assert text == "script.x: line 2: module modules.gone is not active"

    def test_not_active_when_it_runs(self, engine: Any) -> None:
        """A name that a script computes is looked up when it is required."""
        code = "local name = 'modules.' .. 'gone' require(name)"
        assert failure(engine, code) == (
            "error",
            "script.x: line 1: module modules.gone is not active",
        )

    def test_no_module(self, engine: Any) -> None:
        """A module that returns nothing is refused."""
        text = refused(engine, "require 'modules.m'", m="local x = 1")
        assert text == "script.x: modules.m does not return the module"

    def test_broken_module(self, engine: Any) -> None:
        """An error in a module names the module and its line."""
        text = refused(engine, "require 'modules.m'", m="\nerror('boom')")
        assert text == "modules.m: line 2: boom"
        assert refused(engine, "require 'modules.m'", m="x x").startswith("modules.m: line 1: ")

    def test_cycle(self, engine: Any) -> None:
        """Modules that require each other are refused."""
        text = refused(
            engine,
            "require 'modules.a'",
            a="require 'modules.b'",
            b="local a = require 'modules.a' return a",
        )
        assert text == "modules.b: line 1: modules.a requires itself"

    def test_endless_module(self, engine: Any) -> None:
        """A module that does not end is refused after the budget."""
        text = refused(engine, "require 'modules.m'", m="while true do end")
        assert text == "script.x: took more than 50 ms of CPU time"

    def test_a_module_that_answers(self, engine: Any) -> None:
        """A module that answers while it is loaded affects no request."""
        request = run(
            engine, "require 'modules.m'", m="ngx.req.set_header('X-A', 'b') ngx.say('x') return {}"
        )
        assert request.answer is None
        assert request.headers.get("x-a") is None

    def test_a_module_alone(self, engine: Any) -> None:
        """A module can be loaded alone, which shows whether it works."""
        engine.load("modules.m", "return {}", {})
        assert refused(engine, "local x", "modules.m").endswith("does not return the module")
        assert refused(engine, "return require 'modules.m'", "modules.m").endswith(
            "modules.m requires itself"
        )

    def test_requires(self, engine: Any) -> None:
        """A script knows the modules that it uses, directly or through others."""
        script = engine.load(
            "script.x",
            "require 'modules.a'",
            {"modules.a": "return require 'modules.b'", "modules.b": "return {}", "modules.c": ""},
        )
        assert script.requires == {"modules.a", "modules.b"}

    def test_replies(self, engine: Any) -> None:
        """Only a script that may set headers of replies is called for them."""
        assert not engine.load("script.x", "ngx.req.set_header('A', 'b')", {}).on_replies
        assert engine.load("script.x", "ngx.header.A = 'b'", {}).on_replies


class TestFailures:
    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("\nerror('boom')", "script.x: line 2: boom"),
            ("error('boom', 0)", "script.x: boom"),
            ("error('a\\nb\\0c')", "script.x: line 1: a b c"),
            ("error()", "script.x: (error object is a nil value)"),
            ("error({})", "script.x: (error object is a table value)"),
            ("error(42)", "script.x: line 1: 42"),
            ("local x = y.z", "script.x: line 1: attempt to index global 'y' (a nil value)"),
        ],
    )
    def test_error(self, engine: Any, code: str, message: str) -> None:
        """A failure is one line that says where and what."""
        assert failure(engine, code) == ("error", message)

    def test_stack(self, engine: Any) -> None:
        """An endless recursion runs out of stack, and other scripts go on."""
        kind, message = failure(engine, "local function f() return 1 + f() end f()")
        assert kind == "error"
        assert message.endswith("stack overflow")
        assert said(engine, "ngx.say(1)") == "1"

    def test_long_message(self, engine: Any) -> None:
        """A long message is cut."""
        kind, message = failure(engine, "error(('x'):rep(100000))")
        assert kind == "error"
        assert len(message) < 1100

    def test_budget(self, engine: Any) -> None:
        """An endless loop ends after the budget, and what the script said does not count."""
        request = make_request()
        script = engine.load("script.x", "ngx.say('x') while true do end", {})
        began = time.thread_time()
        with pytest.raises(HookFailure) as caught:
            script.on_request(request)
        assert 0.05 <= time.thread_time() - began < 0.1
        assert caught.value.kind == "budget"
        assert caught.value.message == "script.x: took more than 50 ms of CPU time"
        assert request.answer is None

    def test_memory(self, engine: Any) -> None:
        """A call that takes too much memory ends, and other scripts go on."""
        assert failure(engine, "local s = 'x' while true do s = s .. s end") == (
            "memory",
            f"script.x: a call may use at most {ROOM >> 20} MiB of memory",
        )
        assert said(engine, "ngx.say(('x'):rep(100000):len())") == "100000"

    def test_garbage_is_no_loss(self, engine: Any) -> None:
        """Scripts that make much garbage can run for ever."""
        script = engine.load("script.x", "local t = {} for i = 1, 2000 do t[i] = {i} end", {})
        for _ in range(500):
            script.on_request(make_request())
        assert engine.runtime.used < engine.memory

    def test_held_for_good(self) -> None:
        """A script whose module keeps more and more fails with a message, and no other script
        does."""
        engine = make_engine(memory=24 << 20)
        keeper = engine.load(
            "script.keeper",
            "local m = require 'modules.m' m[#m + 1] = ('x'):rep(1000000) .. #m",
            {"modules.m": "return {}"},
        )
        other = engine.load("script.other", "ngx.say(#('x'):rep(1000000))", {})
        failures = []
        for _ in range(100):
            request = make_request()
            other.on_request(request)
            assert request.answer is not None
            assert request.answer.body == b"1000000\n"
            try:
                keeper.on_request(make_request())
            except HookFailure as error:
                failures.append(error)
            assert engine.runtime.used <= engine.memory
        assert 3 <= len(failures) <= 20
        assert {error.kind for error in failures} == {"memory"}
        assert "script.keeper: its modules held" in failures[0].message

    @pytest.mark.parametrize(
        "code",
        [
            "x = ('x'):rep(1000000) .. ngx.var.uri",
            "ngx.ctx.x = ('x'):rep(1000000) .. ngx.var.uri",
            "x = coroutine.wrap(function() local y = ('x'):rep(1000000) .. 'y'"
            " coroutine.yield() return y end) x()",
            "x = ('x'):rep(1000000) .. ngx.var.uri error('boom')",
        ],
    )
    def test_what_is_the_requests_own_is_not_held(self, code: str) -> None:
        """Large globals of many scripts are garbage once their requests have ended."""
        engine = make_engine(memory=16 << 20)
        scripts = [engine.load("script.x", code, {}) for _ in range(30)]
        before = engine.runtime.collect()
        for script in scripts:
            with suppress(HookFailure):
                script.on_request(make_request())
        assert engine.runtime.collect() - before < 1 << 20

    def test_too_many_scripts(self) -> None:
        """A script for which there is no memory is refused, and the loaded ones go on."""
        engine = make_engine(memory=16 << 20)
        first = engine.load("script.first", "ngx.say('x')", {})
        kept: list[Any] = []

        def fill() -> None:
            for number in range(100):
                modules = {"modules.m": f"return ('x'):rep(1000000) .. {number}"}
                kept.append(engine.load("script.x", "return require 'modules.m'", modules))

        with pytest.raises(ScriptError, match="use the 16777216 bytes there are"):
            fill()
        assert len(kept) >= 5
        for script in (first, *kept):
            script.on_request(make_request())

    def test_too_little_memory(self) -> None:
        """An engine refuses an amount of memory with which nothing works."""
        with pytest.raises(ValueError, match="at least 16777216 bytes"):
            make_engine(memory=1 << 20)

    def test_a_bug_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An exception in a function of Python fails the call, and no script gets hold of it."""

        def broken(api: Any) -> str:
            raise KeyError("inside")

        monkeypatch.setattr("slardar.hooks.lua.api.Api.args", broken)
        engine = make_engine()
        code = "local ok, e = pcall(ngx.req.get_uri_args) ngx.say(tostring(ok), type(e))"
        kind, message = failure(engine, code)
        assert kind == "error"
        assert message.startswith("script.x: ")
        assert said(engine, "ngx.say(1)") == "1"

    def test_what_others_left_in_the_context(self, engine: Any) -> None:
        """Nothing that a hook in Python puts into the context breaks a Lua script."""
        request = make_request()
        request.context["lua.reply_headers"] = request.context["lua.request_id"] = ["x"]
        request.hash_key = "\u4f60"
        code = "ngx.header.A = ngx.var.hash_key ngx.req.set_header('X', #ngx.var.request_id)"
        script = engine.load("script.x", code, {})
        script.on_request(request)
        assert request.headers.get("x") == "32"
        response = HookResponse(200, b"HTTP/1.1 200 OK", None)
        script.on_response(request, response)
        assert response.headers.get("a") == "\u4f60".encode().decode("latin-1")
        request.context["lua.reply_headers"] = "x"
        script.on_response(request, response)


class TestIsolation:
    def test_globals_last_as_long_as_the_request(self, engine: Any) -> None:
        """A global that a script sets is gone when it runs again."""
        script = engine.load("script.x", "n = (n or 0) + 1 ngx.say(n)", {})
        for _ in range(2):
            request = make_request()
            script.on_request(request)
            assert request.answer is not None
            assert request.answer.body == b"1\n"

    @pytest.mark.parametrize(
        "place",
        ["string", "table", "math", "os", "ngx", "ngx.req", "ngx.re", "utils", "errno", "cjson",
         "coroutine", "bit", "ngx.var", "ngx.header", "slardar", "ngx.shared", "debug"],
    )  # fmt: skip
    def test_libraries(self, engine: Any, place: str) -> None:
        """A script does not see what another script writes into a library."""
        run(engine, f"rawset({place}, 'poison', 'x')")
        assert said(engine, f"ngx.say(tostring(rawget({place}, 'poison')))") == "nil"

    def test_functions_replaced(self, engine: Any) -> None:
        """If a script replaces a function, other scripts still have the old one."""
        run(engine, "string.upper = function() return 'bad' end")
        assert said(engine, "ngx.say(string.upper('a'), ('a'):upper())") == "AA"

    def test_memory_of_many(self) -> None:
        """A thousand scripts take a few kilobytes each."""
        engine = make_engine()
        before = engine.runtime.collect()
        code = "if ngx.req.get_method() == 'DELETE' then return ngx.exit(403) end"
        scripts = [engine.load(f"script.h{n}.example.com", code, {}) for n in range(1000)]
        for script in scripts:
            script.on_request(make_request())
        assert engine.runtime.collect() - before < 8 << 20
        for script in scripts:
            script.close()
        scripts.clear()
        assert engine.runtime.collect() - before < 1 << 20


def test_small_script_is_not_taken_for_one_that_makes_large_values() -> None:
    """Whichever instruction of its first call the first look at the memory comes after.  Calls of
    such scripts are looked at more often, and each makes an environment of its own."""
    for instructions in range(0, 48, 3):
        engine = make_engine()
        burn = engine.runtime._lua.eval("function(n) for i = 1, n do end end")
        script = engine.load("script.x", "local x = 1", {})
        burn(instructions)
        request = make_request()
        for _ in range(3):
            script.on_request(request)
        before = engine.runtime.used
        for _ in range(10):
            script.on_request(request)
        assert engine.runtime.used - before < 300, instructions
