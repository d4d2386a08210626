"""The matcher of patterns in Lua does what LuaJIT's does, and neither takes long."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lupa.luajit21 import LuaRuntime

import slardar.hooks.lua
from slardar.hooks.script import HookFailure
from tests.hooks.lua.helpers import make_engine, make_request, said

#: What patterns are made of; the odd ones are those that implementations get wrong.
PIECES = (
    "a", "b", ".", "%a", "%d", "%s", "%w", "%A", "%%", "%.", "[ab]", "[^a]", "[a-c]", "[%d_]",
    "[]]", "[^]]", "[a-]", "[-a]", "[%]]", "[a-%d]", "()", "(a)", "(.)", "(a*)", "(", ")", "%1",
    "%2", "%b()", "%bab", "%f[%w]", "%f[^%w]", "%f[%z]", "^", "$", "x-y", "[", "%", "%f", "%b",
    "\0", "%z", "\xe9", "[%a-z]", "[^%s]", "%0", "-", "*", "+", "?",
)  # fmt: skip
SUFFIXES = ("", "", "", "*", "+", "-", "?")
SUBJECTS = (
    "", "a", "ab", "aab", "abab", "hello world", "(a(b)c)", "a1 b2", "%d", "aaa", "a\0b", "]a-",
    "key = value", "baab x-y", "\xe9t\xe9", "  a  ", "foo.bar.baz", "a_1_b", "xxyxxy", "((()",
)  # fmt: skip

#: For each pattern and subject a line of what each function answers, by two libraries.
COMPARE = """
local slow = ...
local function shown(ok, ...)
    local out = {}
    for i = 1, select("#", ...) do
        local value = (select(i, ...))
        out[i] = type(value) .. ":" .. tostring(value)
    end
    -- Where an error was raised is not its message.
    if not ok then
        return "error:" .. tostring((...)):gsub("^.-:%d+: ", ""):gsub(" to '.-'", "")
    end
    return table.concat(out, "|")
end
local function collect(gmatch, s, p)
    local out, n = {}, 0
    for a, b, c in gmatch(s, p) do
        n = n + 1
        out[n] = tostring(a) .. "," .. tostring(b) .. "," .. tostring(c)
        if n > 50 then break end
    end
    return table.concat(out, ";")
end
return function(s, p)
    for _, init in ipairs { 1, 2, -1 } do
        local at = init < 0 and math.max(#s + init + 1, 1) or init
        if at <= #s + 1 then
            local a = shown(pcall(string.find, s, p, init))
            local b = shown(pcall(slow.slow_find, s, p, at))
            -- A pattern without specials is not looked at as one.
            if a ~= b and p:find("[%^%$%*%+%?%.%(%[%%%-]") then
                return "find " .. init .. " " .. a .. " <> " .. b
            end
            a = shown(pcall(string.match, s, p, init))
            b = shown(pcall(slow.slow_match, s, p, at))
            if a ~= b then return "match " .. init .. " " .. a .. " <> " .. b end
        end
    end
    local a = shown(pcall(collect, string.gmatch, s, p))
    local b = shown(pcall(collect, slow.slow_gmatch, s, p))
    if a ~= b then return "gmatch " .. a .. " <> " .. b end
    local function replace(x) return x == "a" and "A" or nil end
    for _, r in ipairs { "<%0>", "%1", "-", "%2%%", replace, { a = "z", ab = false } } do
        for _, n in ipairs { 1, 1000 } do
            a = shown(pcall(string.gsub, s, p, r, n))
            b = shown(pcall(slow.slow_gsub, s, p, r, n))
            if a ~= b then return "gsub " .. tostring(r) .. " " .. a .. " <> " .. b end
        end
    end
    return nil
end
"""


@pytest.fixture(scope="module")
def compare() -> Any:
    """How the matcher differs from LuaJIT's for a subject and a pattern."""
    lua: Any = LuaRuntime(encoding="latin-1", source_encoding="latin-1")
    core = lua.execute(
        "local nothing = function() end return {costly = nothing, ready = nothing,"
        " to_string = tostring, libs = {}, py = {find = nothing}}"
    )
    folder = Path(slardar.hooks.lua.__file__).parent
    for name in ("patterns", "text"):
        text = (folder / f"{name}.lua").read_text(encoding="ascii")
        # The string metatable stays: it is the other side of the comparison.
        text = text.partition("-- Methods of strings")[0]
        lua.eval("function(code, core) assert(loadstring(code))(core) end")(text, core)
    return lua.eval("function(code, core) return loadstring(code)(core) end")(COMPARE, core)


def patterns(seed: int, count: int) -> list[str]:
    """Random patterns."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        size = chance.choice((1, 1, 2, 2, 3, 4, 5))
        made.append("".join(chance.choice(PIECES) + chance.choice(SUFFIXES) for _ in range(size)))
    return made


@pytest.mark.parametrize("seed", range(4))
def test_same_as_luajit(seed: int, compare: Any) -> None:
    """Thousands of patterns give the same matches, captures and errors on all subjects."""
    chance = random.Random(seed)
    different = []
    for pattern in patterns(seed, 1500):
        for subject in chance.sample(SUBJECTS, 3):
            problem = compare(subject, pattern)
            if problem is not None:
                different.append((pattern, subject, problem))
    assert different == []


@pytest.mark.parametrize(
    "pattern",
    [
        "a*b",
        "(.-)=(.-);",
        "^(%d+)%.(%d+)%.(%d+)%.(%d+)$",
        "sid=([^;]+)",
        "%f[%w]%w+",
        "%b()",
        "(a)%1",
    ],
)
def test_large_subjects(pattern: str, compare: Any) -> None:
    """The matchers agree for large subjects, too, where the one in Lua is used."""
    chance = random.Random(pattern)
    for _ in range(20):
        subject = "".join(chance.choice("ab=;()0.1 sid") for _ in range(400))
        assert compare(subject, pattern) is None


#: The worst for a backtracking matcher: they find every place to stop at, in vain.
WORST = [
    *(("a", "a*" * ways + "b") for ways in (1, 2, 3, 4, 6, 10)),
    ("a", "^" + "a-" * 5 + "b"),
    ("a", "(.-)" * 4 + "b"),
    ("(", "%b()"),
    ("a", "[%a%d%s%w%p]*" * 2 + "[xyz]"),
    ("a", "(a*)%1b"),
    ("a", "(a*)(a*)%1%2b"),
    ("a", "a?" * 10 + "a" * 10),
]


@pytest.fixture(scope="module")
def hasty() -> Any:
    """An engine with a short budget, which most of these patterns use up."""
    return make_engine(0.01)


@pytest.mark.parametrize("function", ["find(s, p)", "gsub(s, p, '')", "gmatch(s, p)()"])
@pytest.mark.parametrize(("letter", "pattern"), WORST)
def test_the_worst_patterns(letter: str, pattern: str, function: str, hasty: Any) -> None:
    """A script with such a pattern ends in time, however large the subject is."""
    code = (
        f"local p, s = '{pattern}', ('{letter}'):rep(SIZE) for _ = 1, 20 do string.{function} end"
    )
    for size in (17, 60, 400, 30000):
        script = hasty.load("script.x", code.replace("SIZE", str(size)), {})
        began = time.thread_time()
        with suppress(HookFailure):
            script.on_request(make_request())
        assert time.thread_time() - began < 0.06, size


def test_plain_texts(engine: Any) -> None:
    """A search for a text without special characters is linear, wherever it begins."""
    code = """
        local s = ("a"):rep(200000)
        local p = ("a"):rep(100000) .. "b"
        local dot = ("a.b"):find(".", 1, true)
        ngx.say(tostring(s:find(p, 1, true)), " ", (s .. "b"):find(p), " ", dot)
    """
    assert said(engine, code) == "nil 100001 2"
