"""When a hook is posted that uses what hooks do not have, it is refused if it is certain to
fail.  If not, whoever posts it gets a warning.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.hooks.engine import ScriptError
from slardar.hooks.lua.notices import FUNCTIONS, LIBRARIES
from slardar.hooks.lua.notices import notices as lua_notices
from slardar.hooks.notices import Checked, Notice, refusals, warnings_of
from slardar.hooks.python.notices import notices as python_notices
from slardar.hooks.script import HookFailure
from tests.hooks.lua.helpers import failure, make_engine, make_request, said
from tests.integration.programs import CHECKOUT


def told(found: list[Notice]) -> list[tuple[int, bool]]:
    """The lines of the notices, and whether each is certain."""
    return [(one.line, one.certain) for one in found]


LUA = [
    # Sure: nothing leads around it.
    ('ngx.location.capture("/a")', [(1, True)]),
    ('local r = ngx.location.capture("/a")\nngx.say(r.body)', [(1, True)]),
    ("local d = ngx.shared.cache", [(1, True)]),
    ('local d = ngx.shared["cache"]', [(1, True)]),
    ("ngx.sleep(0.1)", [(1, True)]),
    ("do\n  ngx.timer.at(0, f)\nend", [(2, True)]),
    ("local function f() return 1 end\nlocal s = ngx.socket.tcp()", [(2, True)]),
    ("if ngx.shared.a:get(1) then end", [(1, True)]),
    ("while ngx.shared.a do end", [(1, True)]),
    ("pcall(ngx.location.capture, '/a')", [(1, True)]),
    ("\n\n-- c\n--[[ x\n]] ngx.exec('/a')", [(5, True)]),
    ('ngx.re.match(ngx.var.uri, "(?=a)")', [(1, True)]),
    (r'local m = ngx.re.find(s, [[(a)\1]], "jo")', [(1, True)]),
    ('local match = ngx.re.match\nlocal a = match(ngx.var.uri, "a(?!b)")', [(2, True)]),
    ("local re = ngx.re\nre.gsub(x, '(?<=a)b', '')", [(2, True)]),
    ('ngx.re.match(f(a, "x", {1, 2}), "(?=a)")', [(1, True)]),
    ('ngx.re.match(s, "(")', [(1, True)]),
    # Reached only sometimes, or in doubt.
    ("if x then\n ngx.sleep(1)\nend", [(2, False)]),
    ("local function f()\n  return ngx.shared.a\nend", [(2, False)]),
    ("for i = 1, 2 do ngx.sleep(1) end", [(1, False)]),
    ("repeat ngx.sleep(1) until true", [(1, False)]),
    ("local x = a and ngx.shared.b", [(1, False)]),
    ("if a then return end\nngx.sleep(1)", [(2, False)]),
    ("if a then ngx.exit(403) end\nngx.sleep(1)", [(2, False)]),
    ("local function f() ngx.exit(1) end\nf()\nngx.sleep(1)", [(3, False)]),
    ("if a then x() elseif ngx.shared.b then y() end", [(1, False)]),
    ("local s = ngx.shared", [(1, False)]),
    ("if ngx.shared then end", [(1, False)]),
    ("local f = ngx.sleep", [(1, False)]),
    ('if a then ngx.re.match(s, "(?=a)") end', [(1, False)]),
    ('error("x")\nngx.sleep(1)', [(2, False)]),
    # No use of it.
    ("-- ngx.location.capture('/a')", []),
    ("--[==[ ngx.shared.a ]] ]==]", []),
    ("local t = \"ngx.location.capture('/a')\"", []),
    ("local t = [[ngx.shared.a]]", []),
    ("local t = 'it\\'s ngx.shared.a'", []),
    ("x.ngx.shared.a()", []),
    ("local x = mine.ngx", []),
    ("local ngx = { location = {} }\nngx.location.capture()", []),
    ("local function f(ngx) return ngx.shared.a end", []),
    ("for _, ngx in ipairs(t) do ngx.shared.a() end", []),
    ("local a, ngx = b, c\nngx.shared.a()", []),
    ("ngx.shared = { a = 1 }\nprint(ngx.shared.a)", []),
    ('ngx.re.match(s, "(?:a|b)+")', []),
    ("ngx.re.match(s, pattern)", []),
    ('ngx.re.match(s, "(?=" .. x)', []),
    ('ngx.re.match("(?=a)", "a")', []),
    ('ngx.re.match(s, "a", options)', []),
    ('string.match(s, "(?=a)")', []),
    ("local ngx = ngx\nngx.say(1)", []),
    ("ngx.req.set_header('a', 'b')", []),
]


@pytest.mark.parametrize(("code", "wanted"), LUA)
def test_lua(code: str, wanted: list[tuple[int, bool]]) -> None:
    """The line of the notice, and whether the script is certain to fail there."""
    assert told(lua_notices(code)) == wanted


@pytest.mark.parametrize("name", [*LIBRARIES, *FUNCTIONS])
def test_what_is_told_is_not_there(name: str) -> None:
    """Each use that is noticed fails when a script runs."""
    code = f"local x = ngx.{name}.x" if name in LIBRARIES else f"ngx.{name}(1)"
    assert told(lua_notices(code)) == [(1, True)]
    kind, message = failure(make_engine(), code)
    assert kind == "error"
    assert "not available" in message


PYTHON = [
    ("import re\nX = re.compile('(?=a)')", [(2, True)]),
    ("from re import compile as c\nX = c(r'(a)\\1')", [(2, True)]),
    ("import re as r\ndef on_request(q):\n    r.match('a(?!b)', q.path)", [(3, True)]),
    ("import re\ndef on_request(q):\n    if re.search(\n        '(?<=a)b', q.path):\n        pass",
     [(4, True)]),
    ("import time\ndef on_request(q):\n    time.sleep(1)", [(3, True)]),
    ("import re\ndef on_request(q):\n    if q.host == 'a':\n        re.match('(?=a)', 'x')",
     [(4, False)]),
    ("import re\ndef on_request(q):\n    if q.host:\n        return\n    re.match('(?=a)', 'x')",
     [(5, False)]),
    ("import re\ndef other():\n    re.match('(?=a)', 'x')\ndef on_request(q):\n    pass",
     [(3, False)]),
    ("import re\ndef on_request(q):\n    try:\n        re.match('(?=a)', '')\n    finally: x()",
     [(4, False)]),
    ("import re\nf = lambda x: re.match('(?=a)', x)", [(2, False)]),
    ("import re\nx = [re.match('(?=a)', y) for y in ()]", [(2, False)]),
    ("import re\nx = False and re.match('(?=a)', 'b')", [(2, False)]),
    ("import re\nx = re.compile('(?=a)') if 0 else 1", [(2, False)]),
    ("import re\nx = re.compile('(?:a|b)+')", []),
    ("import re\nx = re.match(p, '(?=a)')", []),
    ("x = '(?=a)'  # re.compile('(?=a)')", []),
    ("import re\ndef on_request(re):\n    re.match('(?=a)', 'x')", []),
    ("import urllib.parse\nx = urllib.parse.quote('a')", []),
    ("import json\nx = json.dumps(1)", []),
]  # fmt: skip


@pytest.mark.parametrize(("code", "wanted"), PYTHON)
def test_python(code: str, wanted: list[tuple[int, bool]]) -> None:
    """The line of the notice, and whether the hook is certain to fail there."""
    assert told(python_notices(code)) == wanted


def test_lines() -> None:
    """The lines are sorted, each is shown once, and their number is limited."""
    many = [Notice(line, "x" * 1000, line % 2 == 0) for line in range(100, 0, -1)] * 2
    lines = warnings_of(many)
    assert len(lines) == 21
    assert lines[0].startswith("line 1: xxx")
    assert max(map(len, lines)) <= 300
    assert lines[-1] == "and 30 more"
    assert refusals("script.a", many)[0].startswith("script.a: line 2: ")
    checked = Checked.of(["modules.a"], lines)
    assert (checked, checked.warnings) == (("modules.a",), lines)


WORDS = st.sampled_from(
    ["ngx", ".", "shared", "re", "match", "(", ")", "[", "]", '"(?=a)"', ",", "=", "local", "if",
     "then", "end", "function", "do", "while", "repeat", "until", "and", "return", "\n", "--[[",
     "]]", "x", "1", "...", "::", "ngx.re", "for", "in", "elseif", ";", "{", "}", "'", '"', "--"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=60))
def test_nothing_stumbles(words: list[str]) -> None:
    """No tokens raise an error, not even those that Lua does not have."""
    lua_notices(" ".join(words))


@pytest.mark.parametrize(
    "code",
    [
        "ngx.re.match(" * 18_000,
        'ngx.re.match(s, "(?=a)") ' * 10_000,
        "f(ngx, " * 30_000,
        "local re = ngx.re " * 14_000,
        "a=" * 120_000 + "ngx.re",
        "ngx.shared.a " * 20_000,
    ],
)
def test_large_code_takes_no_time(code: str) -> None:
    """256 KiB of code take some tenths of a second."""
    before = time.process_time()
    lua_notices(code[: 256 * 1024])
    assert time.process_time() - before < 4


# From a post to the log.


@pytest.mark.parametrize("path", sorted((CHECKOUT / "examples" / "hooks").glob("*.*")), ids=str)
def test_cookbook_is_left_alone(path: Path) -> None:
    """Scripts that work are not refused, and get no warnings."""
    find = {".lua": lua_notices, ".py": python_notices}.get(path.suffix)
    assert find is None or find(path.read_text("utf-8")) == []


def test_expression_that_cannot_be_used_is_logged_at_run_time() -> None:
    """It is logged once a minute, not for each request; the script gets nil and a message."""
    engine = make_engine()
    code = (
        'local bad = "(?" .. "=a)"\n'
        "local m, why = ngx.re.match(ngx.var.uri, bad)\n"
        "ngx.say(tostring(m), why ~= nil)"
    )
    for _ in range(5):
        assert said(engine, code) == "niltrue"
    lines = [line for level, line in engine.lines if level == "warn"]
    assert len(lines) == 1
    assert lines[0].startswith("script.x: regular expression: (?=...) needs backtracking")
    assert lines[0].endswith("nothing is matched by (?=a)")


def test_expressions_made_of_requests_do_not_fill_the_log() -> None:
    """The log gets at most twenty lines a minute, and no expression forges a line."""
    engine = make_engine()
    code = 'for i = 1, 50 do ngx.re.match("x", "(?=\\n" .. i .. ngx.now()) end'
    for _ in range(3):
        engine.load("script.x", code, {}).on_request(make_request())
    lines = [line for level, line in engine.lines if level == "warn"]
    assert len(lines) == 20
    assert not any("\n" in line for line in lines)


class Writer:
    """Writes scripts that may or may not reach what hooks do not have."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def value(self, depth: int) -> str:
        """An expression."""
        plain = ["ngx.shared.a", 'ngx.location.capture("/a")', "false", "true", "nil", "1"]
        kind = self.draw.randrange(10)
        if kind < 6 or not depth:
            return plain[kind % 6]
        one, other = self.value(depth - 1), self.value(depth - 1)
        return (
            f"({one} and {other})",
            f"{one} or {other}",
            f"(function() return {one} end)",
            f"{{{one}, a = {other}}}",
        )[kind - 6]

    def statement(self, depth: int) -> str:
        """A statement."""
        kind = self.draw.randrange(13 if depth else 7)
        plain = (
            "ngx.sleep(1)",
            "if not ngx.var.arg_x then return end",
            "if ngx.var.arg_x then ngx.exit(403) end",
            "-- ngx.shared.a",
            'local s = "ngx.shared.a"',
        )
        if kind < len(plain):
            return plain[kind]
        value = self.value(2)
        if kind < 7:
            return f"x = {value}"
        one, other = self.block(depth - 1), self.block(depth - 1)
        return (
            f"if {value} then\n{one}\nelseif {self.value(1)} then\n{other}\nend",
            f"local function f()\n{one}\nend",
            f"do\n{one}\nend",
            f"for i = 1, 0 do\n{one}\nend",
            f"while {value} do\n{one}\nbreak\nend",
            f"repeat\n{one}\nuntil {value}",
        )[kind - 7]

    def block(self, depth: int) -> str:
        """Some statements."""
        return "\n".join(self.statement(depth) for _ in range(self.draw.randint(1, 3)))


@pytest.mark.parametrize("part", range(4))
def test_what_is_sure_fails_and_what_fails_was_told(part: int) -> None:
    """No script is refused that works when it runs, and none fails without a notice."""
    engine = make_engine()
    sure = 0
    for seed in range(part * 500, part * 500 + 500):
        code = Writer(seed).block(3)
        try:
            engine.check("script.x", code)
        except ScriptError:
            continue
        found = lua_notices(code)
        script = engine.load("script.x", code, {})
        message = ""
        try:
            script.on_request(make_request())
        except HookFailure as error:
            message = error.message
        finally:
            script.close()
        if any(one.certain for one in found):
            sure += 1
            assert message, code
        if "not available" in message:
            assert found, code
    assert sure > 20
