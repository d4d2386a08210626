# ruff: noqa: E501 - a table
"""No function that scripts have takes long in one call, whatever it is given."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest

from slardar.hooks.script import HookFailure
from tests.hooks.lua.helpers import make_engine, make_request

#: Other tests on the same cores stretch the CPU time that these measure.
pytestmark = pytest.mark.real

#: So short that what can be stopped is stopped, and what is left cannot be; and long enough
#: for the texts to be made.
BUDGET: Final = 0.02
#: Seconds of CPU time that what cannot be stopped may take, with the above: twice what the
#: dearest takes, since a busy machine makes the same work take twice the CPU time.
LONGEST: Final = 0.1

#: Texts as large as there are, by the names that the calls know them by.
TEXTS: Final = {
    "long": "('a'):rep(1048576)",
    "half": "('a'):rep(524288)",
    "some": "('a'):rep(65536)",
    "few": "('a'):rep(1000)",
    "upper": "('A'):rep(1048576)",
    "percents": "('%'):rep(1048576)",
    "escapes": "('%41'):rep(21845)",
    "many": "('%41'):rep(349525)",
    "high": "('\\255'):rep(1048576)",
    "zeros": "('\\0'):rep(1048576)",
    "digits": "('1'):rep(1048576)",
    "fields": "('a=b&'):rep(262144)",
    "odd": "('=&'):rep(32768)",
    "base64": "('QUJD'):rep(262144)",
    "pads": "('='):rep(1048576)",
    "lines": "('\\n'):rep(1048576)",
    "groups": "('()'):rep(2000)",
    "opens": "('['):rep(4085)",
    "letters": "('\\\\pL'):rep(1300)",
    "repeats": "('.{0,1000}'):rep(450)",
    "options": "('(a?)'):rep(300)",
    "stars": "('('):rep(800) .. 'a' .. (')*'):rep(800)",
    "json": "'[' .. ('1,'):rep(500000) .. '1]'",
    "jsons": "('['):rep(500000)",
    "jsontexts": "'[\"' .. ('\\\\u1234'):rep(150000) .. '\"]'",
    "sparse": "'[' .. ('[],'):rep(200000) .. '1]'",
    "numbers": "('1e308,'):rep(100000)",
    "dates": "('%c'):rep(128)",
}

CALLS: Final = [
    *(f"string.{name}({text})" for name in ("lower", "upper", "reverse", "len", "byte")
        for text in ("long", "upper", "high")),
    "long:byte(1, -1)", "long:byte(1, 7000)", "long:rep(2)", "('a'):rep(1e9)", "(''):rep(1e15)",
    "('a'):rep(1e6, 'b')", "long:sub(2)", "local x = long .. long", "local x = half .. half", "local x = #long",
    *(f"local x = {text} + 0" for text in ("digits", "long", "high", "some")),
    *(f"tonumber({text}, {base})" for text in ("digits", "long") for base in ("10", "16", "2", "nil")),
    "tostring(digits)", "local x = digits < long", "local x = long == half .. half",
    "local x = long < half .. half",
    *(f"string.format({arguments})" for arguments in (
        "'%s', long", "'%q', zeros", "'%q', half", "('%s'):rep(200), unpack({}, 1, 200)", "percents",
        "('%d'):rep(5000), 1", "('%99.99f'):rep(200), unpack({}, 1, 200)", "'%s%s', half, half",
        "('%99.99f'):rep(3), 1e308, 1e308, 1e308", "long", "'%d', digits", "'%s', {}", "lines")),
    *(f"string.{name}({text}, {pattern})" for name in ("find", "match", "gmatch", "gsub")
        for text in ("long", "high", "some", "few", "zeros")
        for pattern in ("'a'", "'b'", "''", "'.-b'", "'a*b'", "'(a*)(a*)(a*)b'", "'a-a-a-b'",
            "'^a*$'", "'%f[b]'", "'[%w_]*b'", "'(.)(.)(.)%1%2b'", "'%bab'", "half", "long",
            "('a?'):rep(50) .. 'b'", "('('):rep(40)", "('a*'):rep(100)", "('[a-z]'):rep(60)",
            "('.'):rep(200) .. 'b'", "percents", "('.-'):rep(12)")),
    *(f"string.gsub({text}, {pattern}, {put})" for text in ("long", "some", "few")
        for pattern in ("'a'", "''", "'.'", "'(a)(a)'", "'a*'") for put in ("''", "'bb'", "long", "'%0%0'",
            "('%0'):rep(1000)", "{}", "function() return 'b' end", "percents")),
    *(f"string.find({text}, {what}, {at}, true)" for text in ("long", "high", "fields")
        for what in ("half", "'b'", "half .. 'b'", "few .. 'b'", "''", "'b' .. few") for at in ("1", "-1", "2^60", "0/0")),
    # Tables.
    *(f"local t = {{}} for i = 1, {n} do t[i] = {value} end {call}" for n, value in (("20000", "i"),
        ("20000", "-i"), ("20000", "long"), ("3000", "tostring(i)"), ("1000", "i * 7919 % 1000"))
        for call in ("table.concat(t)", "table.concat(t, long)", "table.sort(t)", "table.insert(t, 1, 1)",
            "table.remove(t, 1)", "table.maxn(t)", "unpack(t)", "table.sort(t, function() return true end)",
            "table.foreach(t, type)", "table.foreachi(t, type)", "local x = #t", "next(t)",
            "cjson.encode(t)", "ngx.say(t)", "ngx.say(unpack(t, 1, 200))", "ngx.log(ngx.ERR, unpack(t, 1, 200))",
            "ngx.encode_args(t)", "ngx.encode_args({a = t})", "ngx.req.set_uri_args({a = t})",
            "ngx.req.set_header('a', t)", "ngx.header.a = t", "slardar.set_cluster_key(t)",
            "require('table.clear')(t)", "setmetatable(t, t)", "string.format('%s', t)")),
    "unpack({}, 1, 7900)", "unpack({}, 1, 1e8)", "table.concat({}, '', 1, 1e8)", "select('#', unpack({}, 1, 7000))",
    "table.insert({}, 1e9, 1)", "table.concat({'a'}, 'a', 1, 1)", "table.sort({3, 1, 2}, math.random)",
    "local t = {} t[2^30] = 1 return #t", "local t = setmetatable({}, {__index = function(t, k) return k end}) return t.x",
    "loadstring(long)", "loadstring(('('):rep(16000))", "loadstring(('local a '):rep(2000))",
    "loadstring('return ' .. ('{'):rep(190) .. ('}'):rep(190))", "loadstring(('a=1 '):rep(4000))",
    "loadstring('return ' .. ('1+'):rep(8000) .. '1')", "loadstring(('x'):rep(16000))",
    "loadstring('return ' .. ('\"a\"..'):rep(200) .. '1')", "loadstring(('goto a '):rep(2300))",
    # ngx, digests and encodings.
    *(f"ngx.{name}({text})" for name in ("md5", "md5_bin", "sha1_bin", "crc32_short", "crc32_long",
        "escape_uri", "unescape_uri", "encode_base64", "decode_base64", "quote_sql_str", "decode_args",
        "parse_http_time", "http_time", "cookie_time", "redirect", "say", "print", "exec",
        "req.set_uri", "req.set_uri_args", "req.clear_header", "req.set_method", "log", "exit")
        for text in ("long", "high", "escapes", "many", "some", "fields", "odd", "base64", "pads", "lines",
            "percents", "digits", "'/' .. half", "'/' .. some", "'/' .. ('\\200'):rep(1000000)")),
    "ngx.hmac_sha1(long, long)", "ngx.escape_uri(high, 0)", "ngx.escape_uri(some .. '\\200')",
    "ngx.decode_args(fields, 0)", "ngx.decode_args(fields, 1e9)", "ngx.decode_args(odd, -1)",
    "ngx.encode_args({[long] = long})", "ngx.encode_args({a = half, b = half})", "ngx.encode_args({a = high})",
    *(f"local x = ngx.var[{text}]" for text in ("long", "'arg_' .. long", "'http_' .. long", "'cookie_' .. long",
        "'sent_http_' .. long", "'arg_a'", "'uri'", "'request_uri'", "'args'", "digits")),
    *(f"ngx.var.{name} = {text}" for name in ("args", "upstream", "hash_key", "x_a", "uri") for text in ("long", "high", "some")),
    "ngx.var[long] = 'a'", "ngx.header[long] = 'a'", "ngx.header.a = long", "ngx.header.a = high",
    "local x = ngx.header[long]", "ngx.req.set_header(long, 'a')", "ngx.req.set_header('a', long)",
    "ngx.req.set_header('a', high)", "ngx.req.set_header('host', long)", "ngx.req.get_headers(1e9)",
    "local x = ngx.req.get_headers()[long]", "ngx.req.raw_header()", "ngx.req.get_uri_args(1e9)",
    "ngx.log(ngx.ERR, long, long)", "ngx.log(ngx.ERR, high)", "print(long)", "ngx.say(long)", "ngx.say(high, high)",
    "ngx.exit(long)", "ngx.status = long", "ngx.redirect('/' .. half, 302)", "ngx.ctx[long] = long",
    "slardar.exit(long)", "slardar.exit({code = 400, msg = long})", "slardar.set_upstream(long)", "local x = slardar[long]",
    "local x = slardar.myargs", "utils.str_split(long, 'a')", "utils.str_split(fields, '&')", "utils.str_split(long, '')",
    "require(long)", "require('modules.' .. long)", "error(long)", "error({})", "assert(false, long)", "error(high, 2)",
    "os.date(dates)", "os.date('*t', 1e18)", "os.date(long)", "os.time({year = 1e18, month = 1, day = 1})",
    "os.date('%c', digits)", "os.time({year = 2020, month = 1e9, day = 1e9})",
    "math.random(1e300)", "math.fmod(1e308, 5e-324)", "math.pow(1e308, 1e308)", "bit.tohex(1, 1e9)", "bit.bor(unpack({}, 1, 7000))",
    "math.max(unpack({}, 1, 7000))", "coroutine.wrap(function() return long end)()", "pcall(error, long)",
    *(f"cjson.decode({text})" for text in ("json", "jsons", "jsontexts", "sparse", "long", "high", "digits",
        "'[' .. numbers .. '1]'", "'\"' .. half .. '\"'", "lines", "('{\"a\":'):rep(1000)", "'\"' .. ('\\\\'):rep(500000)")),
    *(f"cjson.encode({value})" for value in ("long", "high", "zeros", "{long, long}", "{[long] = 1}", "half", "lines")),
    # Regular expressions.
    *(f"ngx.re.{name}({text}, {pattern}, {options})" for name in ("match", "find", "gmatch")
        for text, pattern in (("long", "'b'"), ("few", "groups"), ("''", "groups"), ("few", "opens"),
            ("few", "letters"), ("few", "repeats"), ("few", "options"), ("few", "options .. 'b'"), ("few", "stars"),
            ("some", "'(a|b|ab)*c'"), ("few", "'(?:.{0,500})b'"), ("few", "('(\"[\")'):rep(585)"),
            ("few", "('(\"[\")'):rep(817)"), ("some", "'(a*)(a*)(a*)(a*)b'"), ("half", "'((((a))))*'"), ("few", "long"),
            ("some", "'(?:' .. ('()'):rep(60) .. 'a|b)*'"), ("few", "('(?#'):rep(1000)"), ("few", "('\\\\pL'):rep(40)"),
            ("few", "('[[:alpha:]]'):rep(370)"), ("few", "('(?<a'):rep(800)"), ("high", "'\\200+'"), ("few", "('\\\\w{1,9}'):rep(450)"),
            ("long", "'(.)(.)(.)'"), ("few", "('[^\\\\pL]'):rep(20)"), ("few", "'\\\\pL{1000}'"))
        for options in ("''", "'i'", "'u'", "'iu'", "'x'", "long")),
    *(f"ngx.re.{name}({text}, {pattern}, {put}, 'jo')" for name in ("sub", "gsub")
        for text in ("long", "some", "few") for pattern in ("'a'", "''", "'(a)(a)'", "'.*'", "groups")
        for put in ("'b'", "'$1$1'", "long", "('$0'):rep(1000)", "function() return long end", "('$'):rep(1000000)")),
]  # fmt: skip


def names(call: str) -> list[str]:
    """The names of the texts that a call uses."""
    return [name for name in TEXTS if name in call]


@pytest.fixture(scope="module")
def engine() -> Any:
    """One engine for all calls."""
    return make_engine(BUDGET)


def seconds(engine: Any, call: str) -> float:
    """The CPU time of a call.  The values that it works on belong to a module, made before."""
    module = "return {" + ", ".join(f"{name} = {TEXTS[name]}" for name in names(call)) + "}"
    locals_ = " ".join(f"local {name} = made.{name}" for name in names(call))
    code = f"local made = require('modules.made') {locals_} {call}"
    engine.runtime.collect()
    script = engine.load("script.x", code, {"modules.made": module})
    began = time.thread_time()
    try:
        script.on_request(make_request())
    except HookFailure:
        pass
    finally:
        taken = time.thread_time() - began
        script.close()
    return taken


@pytest.mark.parametrize("first", range(0, len(CALLS), 100))
def test_nothing_takes_long(engine: Any, first: int) -> None:
    """Neither a call that works nor a call that is refused takes long."""
    slow = {}
    for call in CALLS[first : first + 100]:
        # A busy machine may take long for the first, and for no more than that.
        if seconds(engine, call) >= LONGEST:
            again = min(seconds(engine, call) for _ in range(2))
            if again >= LONGEST:
                slow[call] = again
    assert not slow
