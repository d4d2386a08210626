"""Odd arguments for every function of ngx, which must do the same with each as in nginx.

A call is an expression with ``V`` in it, which stands for each value in turn.  The calls of
one expression make one script, which says a line for each value.
"""

from __future__ import annotations

__all__ = ["CALLS", "DIFFERENT", "UNCOMPARED", "script", "values_of"]

#: By name, as Lua; ``None`` leaves the argument out.
VALUES: dict[str, str | None] = {
    "none": None,
    "nil": "nil",
    "empty": "''",
    "text": "'a b&c=d'",
    "digits": "'403'",
    "escapes": "'%41%zz%'",
    "controls": "'a\\r\\nb\\0c'",
    "high": "'\\xe4\\xbd\\xa0'",
    "long": "('x y'):rep(400)",
    "zero": "0",
    "one": "1",
    "minus": "-1",
    "half": "1.5",
    "2^53": "2^53",
    "1e100": "1e100",
    "-1e100": "-1e100",
    "nan": "0/0",
    "inf": "1/0",
    "-inf": "-1/0",
    "true": "true",
    "false": "false",
    "null": "ngx.null",
    "table": "{}",
    "list": "{'a', 'b'}",
    "mixed": "{'a', 5, true}",
    "nested": "{{}}",
    "fields": "{a = 'b c'}",
    "function": "function() end",
    "thread": "coroutine.create(function() end)",
}

#: Their texts have an address of the process in nginx, and none here.
ADDRESSES = frozenset(("table", "list", "mixed", "nested", "fields", "function", "thread"))

CALLS = (
    # Digests and encodings.
    "ngx.md5(V)", "ngx.md5_bin(V)", "ngx.sha1_bin(V)", "ngx.crc32_short(V)", "ngx.crc32_long(V)",
    "ngx.hmac_sha1(V, 'a')", "ngx.hmac_sha1('a', V)", "ngx.hmac_sha1(V)",
    "ngx.escape_uri(V)", "ngx.escape_uri('a b/c?d%', V)", "ngx.unescape_uri(V)",
    "ngx.encode_base64(V)", "ngx.encode_base64('a', V)", "ngx.decode_base64(V)",
    "ngx.quote_sql_str(V)",
    "ngx.encode_args(V)", "ngx.encode_args({a = V})", "ngx.encode_args({[V] = 'a'})",
    "ngx.encode_args({a = {V, 'x'}})", "ngx.encode_args({a = {x = V}})",
    "ngx.decode_args(V)", "ngx.decode_args('a=1&b=2&c', V)",
    # Times.
    "ngx.http_time(V)", "ngx.cookie_time(V)", "ngx.parse_http_time(V)",
    "type(ngx.time(V))", "type(ngx.now(V))", "type(ngx.today(V))", "type(ngx.localtime(V))",
    "type(ngx.utctime(V))", "ngx.update_time(V)", "ngx.get_phase(V)",
    # Regular expressions.
    "ngx.re.match(V, '(a)')", "ngx.re.match('a b', V)", "ngx.re.match('a b', 'a', V)",
    "ngx.re.match('a b', 'a', '', V)", "ngx.re.match('a b', '(a)', '', nil, V)",
    "ngx.re.match('a b a', 'a', '', {pos = V})",
    "ngx.re.find(V, '(a)')", "ngx.re.find('a b', V)", "ngx.re.find('a b', 'a', V)",
    "ngx.re.find('a b', 'a', '', V)", "ngx.re.find('a b', '(a)', '', nil, V)",
    "ngx.re.find('a b a', 'a', '', {pos = V})",
    "ngx.re.gmatch(V, '(a)')()", "ngx.re.gmatch('a b', V)()", "ngx.re.gmatch('a b', 'a', V)()",
    "ngx.re.sub(V, '(a)', 'x')", "ngx.re.sub('a b', V, 'x')", "ngx.re.sub('a b', 'a', V)",
    "ngx.re.sub('a b', 'a', 'x', V)", "ngx.re.sub('a b', 'a', function() return V end)",
    "ngx.re.gsub(V, '(a)', 'x')", "ngx.re.gsub('a b', V, 'x')", "ngx.re.gsub('a b', 'a', V)",
    "ngx.re.gsub('a b', 'a', 'x', V)", "ngx.re.gsub('a b', 'a', function() return V end)",
    # The request.
    "ngx.var[V]", "set_var(V)", "set_var_named(V)", "set_args(V)",
    "ngx.req.get_method(V)", "set_method(V)", "ngx.req.http_version(V)",
    "ngx.req.is_internal(V)", "type(ngx.req.start_time(V))", "ngx.req.raw_header(V)",
    "ngx.req.get_headers(V)['x-in']", "ngx.req.get_headers(nil, V)['X-In']",
    "ngx.req.get_headers()[V]", "set_header(V)", "set_header_named(V)", "clear_header(V)",
    "ngx.req.get_uri_args(V)", "ngx.req.get_uri_args(9, V)", "set_uri_args(V)", "set_uri(V)",
    # The reply, and the rest.
    "ngx.header[V]", "set_reply_header(V)", "set_reply_header_named(V)", "set_status(V)",
    "ngx.log(V)", "ngx.log(V, 'x')", "ngx.log(ngx.ERR, V)", "print(V)", "set_ctx(V)",
    "ngx.ctx[V]", "ngx[V]", "type(ngx.worker.id(V))",
)  # fmt: skip

#: What is not compared: nginx crashes, or reads memory that is not its own; an integer of C
#: is made of a number that is none; the text with an address is looked into.
UNCOMPARED: dict[str, frozenset[str]] = {
    "ngx.escape_uri('a b/c?d%', V)": frozenset(("nan",)),
    "ngx.re.find('a b', '(a)', '', nil, V)": frozenset(("nan",)),
    "ngx.log(V)": frozenset(("2^53", "1e100", "-1e100", "nan", "inf", "-inf")),
    "ngx.log(V, 'x')": frozenset(("2^53", "1e100", "-1e100", "nan", "inf", "-inf")),
    # A function that answers nothing at all.
    "ngx.re.sub('a b', 'a', V)": frozenset(("function",)),
    "ngx.re.gsub('a b', 'a', V)": frozenset(("function",)),
    **dict.fromkeys(
        (f"ngx.re.{name}" for name in ("match(V, '(a)')", "find(V, '(a)')", "gmatch(V, '(a)')()",
                                       "sub(V, '(a)', 'x')", "gsub(V, '(a)', 'x')")),
        ADDRESSES,
    ),
    **dict.fromkeys(
        (f"ngx.{name}(V)" for name in ("md5", "md5_bin", "sha1_bin", "crc32_short", "crc32_long",
                                       "encode_base64")),
        ADDRESSES,
    ),
}  # fmt: skip

#: Where we do otherwise on purpose, and what.
DIFFERENT: dict[str, dict[str, str]] = {
    # What is no query of a URL is escaped at once, and not sent as it is.
    "set_args(V)": {
        "text": '"a%20b&c=d"',
        "controls": '"a%0D%0Ab%00c"',
        "high": '"%E4%BD%A0"',
        "long": '"x%20yx%20yx%20yx%20y..."2000',
        "null": '"userdata:%20NULL"',
        **dict.fromkeys(("table", "list", "mixed", "nested", "fields"), '"table:%200x0"'),
        "function": '"function:%200x0"',
        "thread": '"thread:%200x0"',
    },
    "set_uri_args(V)": {"high": '"%E4%BD%A0"'},
    # A path begins with a slash; nginx asks the server for "GET a HTTP/1.1".
    "set_uri(V)": dict.fromkeys(
        ("text", "digits", "escapes", "high", "long", "zero", "one", "minus", "half", "2^53",
         "1e100", "-1e100", "nan", "inf", "-inf"),
        "raises",
    ),
    # A name of nothing, and one that is longer than any.
    "set_header_named(V)": {"empty": "raises", "long": "raises"},
    "set_reply_header_named(V)": {"long": "raises"},
    # What is no status of three digits.
    "set_status(V)": dict.fromkeys(
        ("one", "minus", "half", "2^53", "1e100", "-1e100", "nan", "inf", "-inf"), "raises"
    ),
}  # fmt: skip

_BEFORE = r"""
local function set_var(...) ngx.var.x_my = ... return ngx.var.x_my end
local function set_var_named(...) local n = ... ngx.var[n] = 'v' return ngx.var[n] end
local function set_args(...) ngx.var.args = ... return ngx.var.args end
local function set_method(...)
    ngx.req.set_method(...)
    local made = ngx.req.get_method()
    ngx.req.set_method(ngx.HTTP_GET)
    return made
end
local function set_header(...)
    ngx.req.set_header('X-A', ...)
    return ngx.req.get_headers()['x-a']
end
local function set_header_named(...)
    local n = ...
    ngx.req.set_header(n, 'v')
    return ngx.req.get_headers()[n]
end
local function clear_header(...) ngx.req.clear_header(...) return ngx.req.get_headers()['x-in'] end
local function set_uri_args(...) ngx.req.set_uri_args(...) return ngx.var.args end
local function set_uri(...) ngx.req.set_uri(...) return ngx.var.uri end
local function set_reply_header(...) ngx.header['X-A'] = ... return ngx.header['X-A'] end
local function set_reply_header_named(...)
    local n = ...
    ngx.header[n] = 'v'
    return ngx.header[n]
end
local function set_status(...) ngx.status = ... local s = ngx.status ngx.status = 200 return s end
local function set_ctx(...) ngx.ctx = ... local t = ngx.ctx ngx.ctx = {} return t end
local function escaped(c) return string.format('\\x%02x', c:byte()) end
local function shown(v, deep)
    local kind = type(v)
    if kind == 'string' then
        local cut = v:gsub('0x%x%x%x%x+', '0x0')
        cut = #cut > 300 and cut:sub(1, 20) .. '...' or cut
        return '"' .. cut:gsub('[^ -~]', escaped) .. '"' .. (#v > 300 and #v or '')
    elseif kind == 'table' and deep < 3 then
        local parts = {}
        for k, e in pairs(v) do parts[#parts + 1] = shown(k, 3) .. '=' .. shown(e, deep + 1) end
        table.sort(parts)
        return '{' .. table.concat(parts, ',') .. '}'
    elseif kind == 'number' or kind == 'boolean' or kind == 'nil' then
        return tostring(v)
    end
    return v == ngx.null and 'null' or kind
end
local function outcome(ok, ...)
    if not ok then return type((...)) == 'string' and 'raises' or 'raises no text' end
    local parts = {}
    for i = 1, select('#', ...) do parts[i] = shown((select(i, ...)), 0) end
    return table.concat(parts, ' ; ')
end
local out = {}
local function case(f) out[#out + 1] = outcome(pcall(f)) end
"""


def values_of(call: str) -> list[str]:
    """The values for which a call is made."""
    # Not every place of an expression can be left empty.
    return [name for name in VALUES if name != "none" or "(V" in call or ", V)" in call]


def script(call: str) -> str:
    """The script for a call.  It says a line for each value: its results, or that it raises."""
    lines = [_BEFORE]
    left_out = call.replace("V, ", "").replace(", V", "").replace("V", "")
    for name in values_of(call):
        value = VALUES[name]
        text = left_out if value is None else call.replace("V", value)
        skipped = name in UNCOMPARED.get(call, ())
        lines.append("out[#out + 1] = ''" if skipped else f"case(function() return {text} end)")
    lines.append("ngx.print(table.concat(out, '\\n'))")
    return "\n".join(lines)
