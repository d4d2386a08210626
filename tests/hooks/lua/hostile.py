"""Hooks that nobody should write, and what must become of each.

``outcome`` is what must happen.  ``error: ``, ``budget`` or ``memory`` is the kind of the
failure, the first with a part of its message.  ``says: `` precedes the exact answer.  ``on``
means that the request goes on unchanged.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HOSTILE", "Hostile"]


class Hostile(NamedTuple):
    """One hostile hook."""

    name: str
    code: str
    outcome: str


def _absent(name: str, code: str, what: str) -> Hostile:
    return Hostile(name, code, f"error: {what} is not available in slardar's hooks")


def _nothing(name: str, code: str, what: str) -> Hostile:
    return Hostile(name, code, f"error: attempt to index global '{what}' (a nil value)")


#: Ways out of the sandbox.
ESCAPES = (
    Hostile("python", "python.eval('1')", "error: attempt to index global 'python' (a nil value)"),
    Hostile("python_in_g", "ngx.say(tostring(rawget(_G, 'python')))", "says: nil"),
    _nothing("io_open", "io.open('/etc/passwd')", "io"),
    _nothing("io_popen", "io.popen('id')", "io"),
    _absent("os_execute", "os.execute('id')", "os.execute"),
    _absent("os_getenv", "os.getenv('HOME')", "os.getenv"),
    _absent("os_exit", "os.exit(1)", "os.exit"),
    _absent("os_remove", "os.remove('/tmp/x')", "os.remove"),
    _absent("os_tmpname", "os.tmpname()", "os.tmpname"),
    _absent("debug_registry", "debug.getregistry()", "debug.getregistry"),
    _absent("debug_sethook", "debug.sethook()", "debug.sethook"),
    _absent("debug_upvalue", "debug.getupvalue(pcall, 1)", "debug.getupvalue"),
    _absent("debug_metatable", "debug.setmetatable('', {})", "debug.setmetatable"),
    _nothing("ffi_global", "ffi.cdef('int system(const char*);')", "ffi"),
    Hostile("ffi_required", "require('ffi')", "error: module ffi is not active"),
    Hostile("jit_util", "require('jit.util')", "error: module jit.util is not active"),
    Hostile("require_io", "require('io')", "error: module io is not active"),
    Hostile("require_path", "require('../../etc/passwd')", "error: is not active"),
    _nothing("jit_on", "jit.on()", "jit"),
    _nothing("package_loaded", "ngx.say(package.loaded.os)", "package"),
    _nothing("package_loadlib", "package.loadlib('libc.so.6', 'system')", "package"),
    _absent("dofile", "dofile('/etc/passwd')", "dofile"),
    _absent("loadfile", "loadfile('/etc/passwd')", "loadfile"),
    _absent("load_reader", "load(function() return nil end)", "load"),
    _absent("newproxy", "newproxy(true)", "newproxy"),
    _absent("collectgarbage", "collectgarbage('stop')", "collectgarbage"),
    _absent("module", "module('x')", "module"),
    _absent("setfenv_shared", "setfenv(string.upper, {})", "setfenv"),
    _absent("setfenv_levels", "setfenv(0, {})", "setfenv"),
    Hostile("getfenv_levels", "for i = 0, 9 do if getfenv(i) ~= _G then ngx.say(i) end end", "on"),
    Hostile(
        "getfenv_ours", "ngx.say(getfenv(ngx.exit) == _G, getfenv(pcall) == _G)", "says: truetrue"
    ),
    Hostile("string_dump", "string.dump(function() end)", "error: attempt to call field 'dump'"),
    Hostile(
        "bytecode",
        "ngx.say((select(2, loadstring('\\27LJ\\2\\2'))))",
        "says: script.x:1: expected Lua source, not bytecode",
    ),
    Hostile("loadstring_env", "local f = loadstring('return _G') ngx.say(f() == _G)", "says: true"),
    _nothing("loadstring_io", "loadstring('io.open(\"x\")')()", "io"),
    Hostile("string_metatable", "ngx.say(tostring(getmetatable('')))", "says: nil"),
    Hostile("string_methods", "local s = 'x' s.upper = 1", "error: attempt to index local 's'"),
    Hostile("string_meta_set", "setmetatable('', {})", "error: table expected"),
    Hostile("meta_of_string", "getmetatable('').__index = {}", "error: attempt to index"),
    Hostile("meta_of_env", "ngx.say(tostring(getmetatable(_G)))", "says: false"),
    Hostile(
        "meta_of_env_set", "setmetatable(_G, {})", "error: cannot change a protected metatable"
    ),
    Hostile("meta_of_ngx", "setmetatable(ngx, {})", "error: cannot change a protected metatable"),
    Hostile(
        "meta_of_libs",
        "for _, t in ipairs{string, table, math, os, ngx, ngx.req, ngx.re, ngx.var, ngx.header,"
        " utils, errno, errno.OK, cjson, slardar, coroutine, bit, debug, ngx.shared,"
        " ngx.req.get_headers()} do ngx.print(tostring(getmetatable(t))) end",
        "says: " + "false" * 19,
    ),
    Hostile(
        "pairs_of_libs",
        "for _, t in ipairs{string, table, math, os, utils, cjson, ngx.req} do"
        " for k in pairs(t) do ngx.say(k) end end",
        "on",
    ),
    Hostile(
        "functions_are_functions",
        "for k, v in pairs{a = ngx.exit, b = ngx.md5, c = ngx.req.get_method, d = ngx.now,"
        " e = ngx.re.match, f = ngx.log, g = require, h = pcall} do"
        " if type(v) ~= 'function' then ngx.say(k) end end",
        "on",
    ),
    Hostile("index_function", "local x = ngx.md5.__class__", "error: attempt to index"),
    Hostile("call_with_table", "ngx.hmac_sha1({a = 1}, 'a')", "error: string expected, got table"),
    Hostile(
        "call_with_function",
        "ngx.req.set_header('X', print) ngx.say(ngx.var.http_x)",
        "says: function: 0x0",
    ),
    Hostile(
        "call_with_self",
        "ngx.req:set_header('X', 'a') ngx.say(ngx.req.get_headers(0, true)['table%3A%200x0'])",
        "says: X",
    ),
    Hostile(
        "python_errors",
        "local ok, e = pcall(ngx.req.set_uri, 'x') ngx.say(type(e))",
        "says: string",
    ),
    Hostile(
        "addresses",
        "ngx.say(tostring({}), tostring(print), tostring(ngx.exit),"
        " tostring(coroutine.create(print)))",
        "says: table: 0x0function: 0x0function: 0x0thread: 0x0",
    ),
    Hostile(
        "address_by_format", "ngx.say(string.format('%p', print))", "error: invalid option '%p'"
    ),
    Hostile("address_by_concat", "ngx.say(print .. '')", "error: attempt to concatenate"),
    Hostile("address_by_s", "ngx.say(string.format('%s', print))", "says: function: 0x0"),
    Hostile(
        "address_of_null",
        "ngx.say(tostring(ngx.null), string.format('%s', cjson.null))",
        "says: userdata: NULLuserdata: NULL",
    ),
    Hostile("address_in_error", "error(print)", "error: (error object is a function value)"),
    Hostile("meta_of_null", "ngx.say(tostring(getmetatable(ngx.null)))", "says: nil"),
    Hostile("index_null", "local x = ngx.null.x", "error: attempt to index"),
    Hostile(
        "int64",
        "local x = 1LL ngx.say(type(x), tostring(getmetatable(x)), tostring(x + 1))",
        "says: cdatanil2LL",
    ),
    Hostile("int64_to_python", "ngx.req.set_header('X', 1LL) ngx.say(ngx.var.http_x)", "says: 1LL"),
    Hostile("int64_index", "local x = (1LL).x", "error: "),
    Hostile(
        "error_object",
        "local ok, e = pcall(error, setmetatable({}, {__tostring = function()"
        " return 'x' end})) ngx.say(type(e))",
        "says: table",
    ),
    Hostile("exit_object", "local ok, e = pcall(ngx.exit, 0) ngx.say(tostring(e))", "on"),
    Hostile(
        "exit_object_x",
        "xpcall(function() ngx.exit(ngx.OK) end, function(e) ngx.say(e) end) ngx.say('x')",
        "on",
    ),
    Hostile(
        "exit_object_co",
        "local co = coroutine.create(function() ngx.exit(0) end) ngx.say(coroutine.resume(co))",
        "on",
    ),
    Hostile(
        "tostring_result",
        "tostring(setmetatable({}, {__tostring = function() return {} end}))",
        "error: 'tostring' must return a string",
    ),
    Hostile(
        "metatable_field",
        "local t = setmetatable({}, {__metatable = false}) setmetatable(t, {})",
        "error: cannot change a protected metatable",
    ),
    Hostile("gc_metamethod", "setmetatable({}, {__gc = function() while true do end end})", "on"),
    Hostile("slardar_readonly", "slardar.exit = nil", "error: slardar.exit is read-only"),
    Hostile("settings_readonly", "slardar.myargs.arg0 = 7 ngx.say(slardar.name)", "says: \xc3\xa9"),
    Hostile("table_new_shared", "require('table.new').x = 1", "error: attempt to index"),
    Hostile(
        "subrequest", "ngx.location.capture('/x')", "error: ngx.location.capture is not available"
    ),
    _absent("socket", "ngx.socket.tcp()", "ngx.socket.tcp"),
    _absent("timer", "ngx.timer.at(0, print)", "ngx.timer.at"),
    _absent("shared", "local x = ngx.shared.dict", "ngx.shared.dict"),
    _absent("thread", "ngx.thread.spawn(print)", "ngx.thread.spawn"),
    _absent("sleep", "ngx.sleep(1)", "ngx.sleep"),
    _absent("append_body", "ngx.req.append_body('x')", "ngx.req.append_body"),
    _absent("exec", "ngx.exec('/x')", "ngx.exec"),
    _absent("pid", "ngx.worker.pid()", "ngx.worker.pid"),
)

#: Lines of their own on the wire, and values that mislead.
INJECTIONS = (
    # As in nginx: what may not be on a line is there as %XX.
    Hostile(
        "header_crlf",
        "ngx.req.set_header('X-A', 'a\\r\\nX-B: c') ngx.say(ngx.req.get_headers()['x-a'])",
        "says: a%0D%0AX-B: c",
    ),
    Hostile(
        "header_lf",
        "ngx.req.set_header('X-A', 'a\\nb') ngx.say(ngx.req.get_headers()['x-a'])",
        "says: a%0Ab",
    ),
    Hostile(
        "header_nul",
        "ngx.req.set_header('X-A', 'a\\0b') ngx.say(ngx.req.get_headers()['x-a'])",
        "says: a%00b",
    ),
    Hostile(
        "header_name",
        "ngx.req.set_header('X-A: b\\r\\nX', 'a')"
        " ngx.say(ngx.req.get_headers(0, true)['X-A%3A%20b%0D%0AX'])",
        "says: a",
    ),
    Hostile("header_name_empty", "ngx.req.set_header('', 'a')", "error: the name of a header"),
    Hostile(
        "header_list",
        "ngx.req.set_header('X-A', {'a', 'b\\r\\nc'}) ngx.say(ngx.req.get_headers()['x-a'])",
        "says: ab%0D%0Ac",
    ),
    Hostile(
        "header_length", "ngx.req.set_header('Content-Length', '5')", "error: the proxy's to write"
    ),
    Hostile(
        "header_te",
        "ngx.req.set_header('Transfer-Encoding', 'chunked')",
        "error: the proxy's to write",
    ),
    Hostile("clear_length", "ngx.req.clear_header('Content-Length')", "on"),
    Hostile("host_crlf", "ngx.req.set_header('Host', 'a\\r\\nb')", "error: host"),
    Hostile("host_slash", "ngx.req.set_header('Host', 'a/b')", "error: host"),
    Hostile("host_two", "ngx.req.set_header('Host', {'a', 'b'})", "error: expected one value"),
    Hostile("uri_crlf", "ngx.req.set_uri('/a HTTP/1.1\\r\\nX: y')", "error: control characters"),
    Hostile("uri_nul", "ngx.req.set_uri('/a\\0b')", "error: control characters"),
    Hostile("uri_absolute", "ngx.req.set_uri('http://evil/')", "error: begins with /"),
    Hostile("uri_empty", "ngx.req.set_uri('')", "error: zero-length uri"),
    Hostile("uri_long", "ngx.req.set_uri('/' .. ('a'):rep(33000))", "error: uri: expected a path"),
    Hostile(
        "args_crlf",
        "ngx.req.set_uri_args('a=b\\r\\nc') ngx.say(ngx.var.args)",
        "says: a=b%0D%0Ac",
    ),
    Hostile("args_var_lf", "ngx.var.args = 'a\\nb' ngx.say(ngx.var.args)", "says: a%0Ab"),
    Hostile(
        "args_many",
        "local t = {} for i = 1, 4500 do t['k' .. i] = i end ngx.req.set_uri_args(t)",
        "error: set_uri_args: expected a query",
    ),
    Hostile("method_number", "ngx.req.set_method(3)", "error: unsupported HTTP method"),
    Hostile("method_text", "ngx.req.set_method('GET / HTTP/1.1\\r\\n')", "error: number expected"),
    Hostile("redirect_crlf", "ngx.redirect('/a\\r\\nSet-Cookie: b')", "error: control characters"),
    Hostile("redirect_status", "ngx.redirect('/a', 200)", "error: expected 301, 302"),
    Hostile(
        "reply_crlf",
        "ngx.header['X-A'] = 'a\\r\\nb' ngx.say(ngx.header['X-A'])",
        "says: a%0D%0Ab",
    ),
    Hostile("reply_name", "ngx.header['X A'] = 'a' ngx.say(ngx.header['X%20A'])", "says: a"),
    Hostile(
        "reply_name_crlf",
        "ngx.header['X-A\\r\\nB'] = 'a' ngx.say(ngx.header['X-A%0D%0AB'])",
        "says: a",
    ),
    Hostile(
        "reply_table", "ngx.header['X-A'] = {{}} ngx.say(ngx.header['X-A'])", "says: table: 0x0"
    ),
    Hostile("status_low", "ngx.status = 99", "error: expected one from 100 to 999"),
    Hostile("status_nan", "ngx.status = 0/0", "error: expected one from 100 to 999"),
    Hostile("exit_odd", "ngx.exit(200.5)", "error: a status from 200 to 999"),
    Hostile("exit_nan", "ngx.exit(0/0)", "error: "),
    Hostile("exit_huge", "ngx.exit(1e308 * 10)", "error: "),
    Hostile("exit_negative", "ngx.exit(-7)", "error: a status from 200 to 999"),
    Hostile(
        "errno_forged", "slardar.exit({code = '403\\r\\nX: y', msg = 'x'})", "error: with a code"
    ),
    Hostile(
        "errno_message", "slardar.exit({code = 40301001, msg = 'a\\r\\nb'})", "error: one line"
    ),
    Hostile(
        "errno_status",
        "slardar.exit({code = 99901001, msg = 'a'})",
        "error: whose first three digits",
    ),
    Hostile("upstream_empty", "slardar.set_upstream('')", "error: upstream: expected a name"),
    Hostile(
        "cluster_many",
        "local t = {} for i = 1, 100 do t[i] = 'a' end slardar.set_cluster_key(t)",
        "error: at most 64 names",
    ),
    Hostile("variable_unknown", "ngx.var.proxy_pass = 'x'", "error: not found for writing"),
    Hostile("variable_fixed", "ngx.var.host = 'x'", "error: not changeable"),
    Hostile("variable_name", "local x = ngx.var[{}]", "error: bad variable name"),
    Hostile("variable_odd", "ngx.say(tostring(ngx.var['http_a b\\r\\n']))", "says: nil"),
    # What Python cannot take is never given to it: an exception of its own may not be carried
    # through LuaJIT, where it would crash the process sooner or later.
    Hostile(
        "log_nan",
        "for i = 1, 50 do pcall(ngx.log, 0/0, 'x') pcall(ngx.log, 1/0, 'x') end"
        " local t = {} for i = 1, 1000 do t[i] = {} end",
        "on",
    ),
    Hostile(
        "re_place_nan",
        "for _, n in ipairs{0/0, 1/0, -1/0, 1e300} do for i = 1, 20 do"
        " pcall(ngx.re.match, 'a', 'a', '', {pos = n}) pcall(ngx.re.find, 'a', 'a', '', nil, n)"
        " pcall(ngx.http_time, n) pcall(ngx.cookie_time, n) pcall(ngx.escape_uri, 'a', n)"
        " pcall(slardar.exit, {code = n}) pcall(ngx.redirect, '/', n)"
        " pcall(string.find, ('a'):rep(2000), ('b'):rep(1000), n, true) end end"
        " local t = {} for i = 1, 1000 do t[i] = {} end",
        "on",
    ),
    Hostile("log_lines", "ngx.log(ngx.ERR, 'a\\r\\nb\\27[31m')", "on"),
)

#: What takes the CPU.
BURNS = (
    Hostile("loop", "while true do end", "budget"),
    Hostile(
        "pcall_left",
        "for i = 1, 500 do coroutine.wrap(function() pcall(coroutine.yield) end)() end"
        " ngx.say(pcall(tostring, 1))",
        "says: true1",
    ),
    Hostile("repeat", "repeat until false", "budget"),
    Hostile("goto", "::a:: goto a", "budget"),
    Hostile("pcall_loop", "while true do pcall(function() while true do end end) end", "budget"),
    Hostile(
        "pcall_deep",
        "local function f() pcall(f) return error('a') end f()",
        "error: a",
    ),
    Hostile(
        "pcall_too_deep",
        "local function f() local ok, e = pcall(f) if not ok then error(e, 0) end end f()",
        "error: too many protected calls inside each other",
    ),
    Hostile(
        "pcall_in_pcall", "local function f() pcall(f) pcall(f) end while true do f() end", "budget"
    ),
    Hostile(
        "xpcall_handler",
        "xpcall(function() while true do end end, function() while true do end end)",
        "budget",
    ),
    Hostile("xpcall_error", "xpcall(error, function() while true do end end)", "budget"),
    Hostile(
        "recursion", "local function f() f() return 1 end while true do pcall(f) end", "budget"
    ),
    Hostile("tail_calls", "local function f() return f() end f()", "budget"),
    Hostile("coroutine", "coroutine.wrap(function() while true do end end)()", "budget"),
    Hostile(
        "coroutines",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "budget",
    ),
    Hostile(
        "coroutine_yield",
        "local co = coroutine.wrap(function() while true do"
        " coroutine.yield() end end) while true do co() end",
        "budget",
    ),
    Hostile(
        "coroutine_nest",
        "local function f() coroutine.wrap(f)() end while true do pcall(f) end",
        "budget",
    ),
    Hostile(
        "coroutine_deep",
        "local function f() coroutine.wrap(f)() end f()",
        "error: too many coroutines inside each other",
    ),
    Hostile(
        "index",
        "local t t = setmetatable({}, {__index = function(_, k) return t[k] end})"
        " while true do pcall(function() return t.x end) end",
        "budget",
    ),
    Hostile(
        "index_loop",
        "local t = setmetatable({}, {__index = function() while true do end end}) local x = t.a",
        "budget",
    ),
    Hostile(
        "compare",
        "local m = {__lt = function() while true do end end}"
        " local x = setmetatable({}, m) < setmetatable({}, m)",
        "budget",
    ),
    Hostile(
        "concat_meta",
        "local t = setmetatable({}, {__concat = function() while true do end end})"
        " local x = t .. t",
        "budget",
    ),
    Hostile(
        "tostring_meta",
        "tostring(setmetatable({}, {__tostring = function() while true do end end}))",
        "budget",
    ),
    Hostile(
        "call_meta", "setmetatable({}, {__call = function() while true do end end})()", "budget"
    ),
    Hostile(
        "say_meta", "ngx.say(setmetatable({}, {__index = function() return 'x' end}))", "says: "
    ),
    Hostile("gsub_callback", "('a'):gsub('a', function() while true do end end)", "budget"),
    Hostile(
        "gsub_nest",
        "local function f() ('a'):gsub('a', f) end while true do pcall(f) end",
        "budget",
    ),
    Hostile(
        "gsub_index",
        "local t t = setmetatable({}, {__index = function(_, k)"
        " return (k:gsub('.', t)) end}) while true do pcall(string.gsub, 'a', 'a', t) end",
        "budget",
    ),
    Hostile("gmatch", "while true do for _ in ('aaaa'):gmatch('a') do end end", "budget"),
    Hostile("re_callback", "ngx.re.gsub('a', 'a', function() while true do end end)", "budget"),
    Hostile("re_loop", "while true do ngx.re.match(('a'):rep(5000), '(a+)+b') end", "budget"),
    Hostile(
        "re_compile",
        "local i = 0 while true do i = i + 1 ngx.re.match('a', '(a{1,200}){1,4}' .. i) end",
        "budget",
    ),
    Hostile("sort_comparator", "table.sort({3, 1, 2}, function() while true do end end)", "budget"),
    Hostile(
        "sort_random",
        "local t = {} for i = 1, 1e5 do t[i] = i % 977 end while true do"
        " table.sort(t, function() return math.random() < 0.5 end) end",
        "budget",
    ),
    Hostile(
        "sort_large",
        "local t = {} for i = 1, 4e5 do t[i] = -i end while true do table.sort(t) end",
        "budget",
    ),
    Hostile(
        "sort_nest",
        "local function f() table.sort({2, 1}, f) return false end while true do pcall(f) end",
        "budget",
    ),
    Hostile(
        "pattern",
        "local s = ('a'):rep(300) while true do s:find(('a*'):rep(20) .. 'b') end",
        "budget",
    ),
    Hostile("pattern_once", "('a'):rep(1000):find('a-a-a-a-a-a-a-a-a-b')", "budget"),
    Hostile("pattern_balance", "('('):rep(500000):find('%b()')", "budget"),
    Hostile("pattern_set", "('a'):rep(500000):gsub('[^b]-b', '')", "budget"),
    Hostile(
        "plain_find",
        "local s = ('a'):rep(1e6) while true do s:find(('a'):rep(5e5) .. 'b', 1, true) end",
        "budget",
    ),
    Hostile(
        "compare_texts",
        "local s = ('a'):rep(1e6) local a, b = s .. 'a', s .. 'b'"
        " while true do local x = a < b end",
        "budget",
    ),
    Hostile(
        "number_of_text",
        "local s = ('1'):rep(1e6) local t = s .. s .. s while true do local x = t + 1 end",
        "budget",
    ),
    Hostile(
        "unpack",
        "local t = {} for i = 1, 5000 do t[i] = i end while true do select('#', unpack(t)) end",
        "budget",
    ),
    Hostile(
        "insert",
        "local t = {} while true do table.insert(t, 1, 1) if #t > 1e5 then t = {} end end",
        "budget",
    ),
    Hostile(
        "remove",
        "local t = {} for i = 1, 2e5 do t[i] = i end while true do"
        " table.insert(t, 1, table.remove(t, 1)) end",
        "budget",
    ),
    Hostile(
        "maxn",
        "local t = {} for i = 1, 2e5 do t[i] = i end while true do table.maxn(t) end",
        "budget",
    ),
    Hostile(
        "next",
        "local t = {} for i = 1, 2e5 do t[i] = i end for i = 1, 2e5 - 1 do t[i] = nil end"
        " while true do next(t) end",
        "budget",
    ),
    Hostile("md5", "local s = ('a'):rep(1e6) while true do ngx.md5(s) end", "budget"),
    Hostile("escape", "local s = (' '):rep(65000) while true do ngx.escape_uri(s) end", "budget"),
    Hostile(
        "unescape", "local s = ('%20'):rep(20000) while true do ngx.unescape_uri(s) end", "budget"
    ),
    Hostile("escape_large", "ngx.escape_uri((' '):rep(1e5))", "error: at most 65536 bytes"),
    Hostile(
        "json",
        "local t = {} for i = 1, 1000 do t[i] = {a = i} end while true do"
        " cjson.decode(cjson.encode(t)) end",
        "budget",
    ),
    Hostile("loadstring", "while true do loadstring(('x = 1 '):rep(2000)) end", "budget"),
    Hostile("headers", "while true do ngx.req.get_headers() end", "budget"),
    Hostile("log", "while true do ngx.log(ngx.ERR, 'x') end", "budget"),
    Hostile(
        "set_header",
        "local i = 0 while true do i = i + 1 pcall(ngx.req.set_header, 'X-' .. i, 'a') end",
        "budget",
    ),
    Hostile("format", "while true do string.format('%99.99f', 1e308) end", "budget"),
    Hostile("stack", "local function f() return f() + 1 end f()", "error: stack overflow"),
)

#: What takes memory; these have time to.
EATERS = (
    Hostile("doubling", "local s = 'x' while true do s = s .. s end", "memory"),
    Hostile(
        "many_operands",
        "local s = ('x'):rep(1e6) local t = s .. s .. s .. s .. s .. s .. s .. s .. s .. s",
        "memory",
    ),
    Hostile(
        "table", "local t = {} while true do t[#t + 1] = {1, 2, 3, 4, 5, 6, 7, 8} end", "memory"
    ),
    Hostile(
        "sparse", "local t = {} local i = 1 while true do i = i * 1.001 + 1 t[i] = {} end", "memory"
    ),
    Hostile(
        "closures", "local t = {} while true do t[#t + 1] = function() return t end end", "memory"
    ),
    Hostile("nested", "local t = {} while true do t = {t, {}, {}, {}} end", "memory"),
    Hostile(
        "coroutines_kept",
        "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
        "memory",
    ),
    Hostile("texts", "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", "memory"),
    Hostile(
        "py_results",
        "local t = {} while true do t[#t + 1] = ngx.encode_base64((' '):rep(3e5) .. #t) end",
        "memory",
    ),
    Hostile(
        "pcall_memory",
        "local t = {} while true do pcall(function() while true do"
        " t[#t + 1] = ('x'):rep(1000) .. #t end end) end",
        "memory",
    ),
    Hostile("rep", "('x'):rep(1e9)", "error: at most 1048576 bytes"),
    Hostile("rep_inf", "('x'):rep(1/0)", "error: at most 1048576 bytes"),
    Hostile("rep_separator", "(''):rep(1e9, 'x')", "error: at most 1048576 bytes"),
    Hostile("rep_empty", "ngx.say(#(''):rep(1e9))", "says: 0"),
    Hostile("format_width", "string.format('%999999d', 1)", "error: invalid"),
    Hostile(
        "concat",
        "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1e6) end table.concat(t)",
        "memory",
    ),
    Hostile(
        "gsub_grow", "('x'):rep(1e5):gsub('x', ('y'):rep(1000))", "error: at most 1048576 bytes"
    ),
    Hostile(
        "gsub_zero",
        "('x'):rep(5000):gsub('', '%0' .. ('y'):rep(1000))",
        "error: at most 1048576 bytes",
    ),
    Hostile(
        "re_gsub_grow",
        "ngx.re.gsub(('x'):rep(2000), 'x', ('y'):rep(1000))",
        "error: at most 1048576 bytes",
    ),
    Hostile(
        "re_large",
        "local m, e = ngx.re.match('a', '((a{1,100}){1,100}){1,100}') ngx.say(type(e))",
        "says: string",
    ),
    Hostile(
        "re_subject",
        "local m, e = ngx.re.match(('a'):rep(1e6), '(a|b|c|d|e)*f') ngx.say(e)",
        "says: regular expression: too large for a subject of this size",
    ),
    Hostile(
        "say_much", "while true do ngx.say(('x'):rep(1e5)) end", "error: at most 1048576 bytes"
    ),
    Hostile("say_nested", "local t = {} t[1] = t ngx.say(t)", "error: at most 100 levels"),
    Hostile("json_deep", "local t = {} t[1] = t cjson.encode(t)", "error: excessive depth"),
    Hostile("json_deep_text", "cjson.decode(('['):rep(5000))", "error: too many nested"),
    Hostile(
        "json_wide",
        "local t = {} for i = 1, 50 do t[i] = ('x'):rep(5e4) end cjson.encode(t)",
        "error: more than 1048576 bytes",
    ),
    Hostile("json_sparse", "cjson.encode({[1] = 1, [1e9] = 1})", "error: excessively sparse array"),
    Hostile("unpack_huge", "unpack({}, 1, 1e8)", "error: too many results to unpack"),
    Hostile("char_many", "string.char(unpack({}, 1, 5000))", "error: number expected"),
    Hostile("long_names", "ngx.var[('x'):rep(2e6)] = 1", "error: "),
    Hostile(
        "variables", "for i = 1, 100 do ngx.var['x_' .. i] = 'a' end", "error: fewer or shorter"
    ),
    Hostile(
        "headers_many",
        "for i = 1, 1000 do ngx.req.set_header('X-' .. i, 'a') end",
        "error: expected at most 256 headers",
    ),
    Hostile(
        "reply_many",
        "for i = 1, 1000 do ngx.header['X-' .. i] = 'a' end",
        "error: expected at most 256 headers",
    ),
    Hostile("header_large", "ngx.req.set_header('X-A', ('a'):rep(1e5))", "error: X-A: expected"),
    Hostile("hash_key_large", "slardar.set_hash_key(('a'):rep(33000))", "error: hash_key"),
)

HOSTILE = (*ESCAPES, *INJECTIONS, *BURNS, *EATERS)
