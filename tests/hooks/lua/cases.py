"""Scripts for a rewrite phase, as people write them for ngx_lua, to be run by nginx and slardar.

Each case is a name, the code and, where it matters, the head of the request.  The result, an
answer or what the server gets, must be the same in nginx and in slardar.
"""

from __future__ import annotations

#: Name, code, request line and headers.
Case = tuple[str, str, tuple[str, ...]]

GET = ("GET /a/b?x=1&y=2 HTTP/1.1", "Host: www.example.com", "User-Agent: curl/8", "X-In: one")


def _get(target: str, *headers: str) -> tuple[str, ...]:
    return (f"GET {target} HTTP/1.1", *GET[1:], *headers)


def _say(expression: str) -> str:
    return f"ngx.say({expression})"


#: What is said of each expression, one after the other.
EXPRESSIONS = (
    "ngx.escape_uri('a b/c?d=e&f+g~h-i_j.k%l\\xe9')",
    "ngx.escape_uri('')",
    "ngx.escape_uri('a b/c?d', 0)",
    "ngx.unescape_uri('a%20b+c%2fd%zz%4')",
    "ngx.unescape_uri('%E4%BD%A0')",
    "ngx.encode_args({a = 'b c'})",
    "ngx.encode_args({a = {'1', 2}})",
    "ngx.encode_args({a = true})",
    "ngx.encode_args({a = false})",
    "ngx.encode_args({['a&b'] = 'c=d'})",
    "ngx.decode_args('a=1&b=2').b",
    "type(ngx.decode_args('a&b=').a)",
    "ngx.decode_args('a&b=').b == ''",
    "table.concat(ngx.decode_args('a=1&a=2&a=3').a, ',')",
    "ngx.decode_args('a%20b=c+d')['a b']",
    "next(ngx.decode_args('=1&=2')) == nil",
    "ngx.decode_args('a=b=c').a",
    "ngx.encode_base64('hello')",
    "ngx.encode_base64('hello', true)",
    "ngx.encode_base64('\\0\\255')",
    "ngx.decode_base64('aGVsbG8=')",
    "ngx.decode_base64('aGVsbG8')",
    "tostring(ngx.decode_base64('a'))",
    "tostring(ngx.decode_base64('****'))",
    "ngx.md5('')",
    "ngx.md5('hello')",
    "ngx.encode_base64(ngx.md5_bin('hello'))",
    "ngx.encode_base64(ngx.sha1_bin('hello'))",
    "ngx.encode_base64(ngx.hmac_sha1('key', 'text'))",
    "ngx.crc32_short('hello')",
    "ngx.crc32_long('hello')",
    "ngx.quote_sql_str([[a'b\"c\\d]])",
    "ngx.quote_sql_str('a\\nb\\rc\\0d\\26e')",
    "ngx.http_time(1547178736)",
    "ngx.cookie_time(1547178736)",
    "ngx.cookie_time(2547178736)",
    "ngx.parse_http_time('Fri, 11 Jan 2019 03:52:16 GMT')",
    "tostring(ngx.parse_http_time('yesterday'))",
    "tostring(ngx.parse_http_time('Fri, 31 Feb 2019 03:52:16 GMT'))",
    "#ngx.localtime(), #ngx.utctime(), #ngx.today()",
    "type(ngx.now()), type(ngx.time())",
    "ngx.get_phase(), ngx.config.subsystem",
    "type(ngx.null), tostring(ngx.null), ngx.null == nil",
    "ngx.OK, ngx.ERROR, ngx.AGAIN, ngx.DONE, ngx.DECLINED",
    "ngx.STDERR, ngx.EMERG, ngx.ERR, ngx.WARN, ngx.NOTICE, ngx.INFO, ngx.DEBUG",
    "ngx.HTTP_GET, ngx.HTTP_HEAD, ngx.HTTP_POST, ngx.HTTP_PUT, ngx.HTTP_DELETE, ngx.HTTP_PATCH",
    "ngx.HTTP_OK, ngx.HTTP_NOT_FOUND, ngx.HTTP_SPECIAL_RESPONSE, ngx.HTTP_GONE",
    "ngx.HTTP_TRACE, ngx.HTTP_OPTIONS, ngx.HTTP_MKCOL, ngx.HTTP_UNLOCK",
    "ngx.var.uri, ' ', ngx.var.request_uri, ' ', ngx.var.args, ' ', ngx.var.is_args",
    "ngx.var.host, ' ', ngx.var.http_host, ' ', ngx.var.request_method, ' ', ngx.var.scheme",
    "ngx.var.arg_x, ' ', ngx.var.arg_X, ' ', ngx.var.arg_none",
    "ngx.var.http_user_agent, ngx.var.http_x_in, tostring(ngx.var.http_none)",
    "tostring(ngx.var.nothing), ngx.var.server_protocol, ngx.var.query_string",
    "ngx.var.request",
    "ngx.req.get_method(), ngx.req.http_version(), ngx.req.is_internal()",
    "ngx.req.get_uri_args().x, ngx.req.get_uri_args().y",
    "ngx.req.get_headers()['user-agent'], ngx.req.get_headers().user_agent",
    "ngx.req.get_headers()['User-Agent'], tostring(ngx.req.get_headers().none)",
    "ngx.status, ngx.headers_sent, ngx.is_subrequest",
    "1, true, nil, 'a', {'b', {1, 'c'}}, 1.5, 1e15, 2^53",
    "0.1, -0, 1/3, 100000000000000, 1e100",
    "ngx.re.match('hello, 1234', '([0-9])([0-9]+)')[0]",
    "ngx.re.match('hello, 1234', '([0-9])([0-9]+)')[2]",
    "tostring(ngx.re.match('hello', '[0-9]'))",
    "ngx.re.match('hello, 1234', '(?<first>[0-9])(?<rest>[0-9]+)').rest",
    "tostring(ngx.re.match('ab', '(a)|(c)')[2])",
    "ngx.re.match('HELLO', 'hello', 'ijo')[0]",
    "ngx.re.match('a\\nb', '^b$', 'm')[0]",
    "ngx.re.match('a\\nb', 'a.b', 's')[0] == 'a\\nb'",
    "ngx.re.match('a b', 'a \\\\s b # comment', 'x')[0]",
    "ngx.re.find('hello 123', '[0-9]+')",
    "ngx.re.find('hello 123', '([a-z]+) ([0-9]+)', 'jo', nil, 2)",
    "tostring(ngx.re.find('hello', '[0-9]'))",
    "ngx.re.sub('hello 1 2', '[0-9]', 'n')",
    "ngx.re.gsub('hello 1 2', '([0-9])', '[$1]')",
    "ngx.re.gsub('abc', '', '-')",
    "ngx.re.gsub('hello', 'l', '${0}$$')",
    "ngx.re.gsub('hello', '(l)', function(m) return m[1]:upper() end)",
    "ngx.re.sub('abc', 'x', 'y')",
    "ngx.re.gsub('aaa', 'a*?', '-')",
    "ngx.re.gsub('a1b2', '(?<l>[a-z])(?<d>[0-9])', '$2$1')",
    "('a,b,c'):find(','), ('%d'):format(3), ('x'):rep(3), ('abc'):sub(-2)",
    "string.format('%5.2f|%-5s|%05d|%x|%q|%s|%%', 3.14159, 'ab', 42, 255, 'a\"b', true)",
    "string.format('%s %s', nil, 1.5), tostring(nil), tostring(12345678901234)",
    "('hello world'):gsub('o', '0'), ('hello'):gsub('', '-'), ('abc'):gsub('%w', '%0%0')",
    "('key = value'):match('^(%w+)%s*=%s*(%w+)$')",
    "select('#', 1, nil, 3), select(2, 'a', 'b', 'c')",
    "math.floor(3.7), math.max(1, 5, 3), math.huge, -math.huge, math.pi, 7 % 3, -7 % 3",
    "tonumber('0x10'), tonumber('10', 2), tostring(tonumber('z')), tonumber(' 12 ')",
    "table.concat({1, 2, 3}, '-'), unpack({1, 2, 3}), #'abc'",
    "os.time{year = 2020, month = 1, day = 1, hour = 12} > 0, os.date('!%Y-%m-%d', 0)",
    "pcall(error, 'x'), pcall(error, {1}), type(pcall)",
    "require('bit').band(255, 15), require('bit').tohex(255), require('bit').lshift(1, 4)",
    "type(coroutine.wrap(function() coroutine.yield(1) end)())",
    "xpcall(function() error('a', 0) end, function(e) return e .. 'b' end)",
    "next({}) == nil, rawequal('a', 'a'), rawget({5}, 1), type(_G), _VERSION",
    "type(ffi)",
    "select('#', ngx.re.find('hello', 'x')), select('#', ngx.re.match('hello', 'x'))",
    "select('#', ngx.re.find('a', '(')), select('#', ngx.re.match('a', '('))",
    "tostring(ngx.var[1]), tostring(ngx.var[0])",
    'ngx.encode_args({a = "!\'()*-._~+ "}), ngx.escape_uri("!\'()*-._~+ ")',
    "ngx.say(), ngx.print(), tostring(ngx.flush()), tostring(ngx.flush(true))",
    "ngx.status, (ngx.say('a')), ngx.status",
    "ngx.worker.count and 'x', tostring(ngx.req.get_headers().none)",
)

#: Replacements, good ones and bad ones, for an expression that matches and one that does not.
_TEMPLATES = (
    "$", "$$", "$1", "$2", "$9", "$10", "${1}", "${1", "${x}", "$x", "$&", "a$", "$-", "${}",
    "$01", "$123456789", "${1}x", "$$1", "$0", "${0}", "${ 1}", "$ 1", "a$$$1", "${10}", "$1a",
    "$1$", "", "$_", "${1}${", "\\1",
)  # fmt: skip

_SHOW = (
    "local function show(...) for i = 1, select('#', ...) do"
    " ngx.print(tostring((select(i, ...))), '|') end ngx.print('\\n') end "
)

#: What is read of any request, one after the other.
_READ = "".join(
    f"show(ngx.var.{name}) "
    for name in (
        "args",
        "arg_x",
        "arg_X",
        "arg_none",
        "content_length",
        "content_type",
        "cookie_a",
        "document_uri",
        "host",
        "http_accept",
        "http_connection",
        "http_content_length",
        "http_cookie",
        "http_expect",
        "http_host",
        "http_keep_alive",
        "http_none",
        "http_te",
        "http_upgrade",
        "http_x_in",
        "https",
        "is_args",
        "query_string",
        "request",
        "request_method",
        "request_uri",
        "scheme",
        "sent_http_x",
        "server_protocol",
        "status",
        "uri",
    )
)
_HEADERS = (
    "local names = {} for k, v in pairs(ngx.req.get_headers()) do names[#names + 1] = k .. '='"
    " .. (type(v) == 'table' and table.concat(v, '+') or v) end table.sort(names)"
    " show(unpack(names)) "
)
_RAW = "show(ngx.req.raw_header()) show(ngx.req.raw_header(true)) show(ngx.req.raw_header('x')) "
_REWRITE = (
    "ngx.req.set_uri('/new') ngx.req.set_uri_args('z=1') ngx.req.set_method(ngx.HTTP_PUT)"
    " ngx.req.set_header('X-In', 'two') ngx.req.set_header('Host', 'b.example')"
    " ngx.req.clear_header('User-Agent') "
)

#: Whole scripts.
SCRIPTS: tuple[Case, ...] = (
    ("nothing", "", GET),
    (
        "method",
        "if ngx.req.get_method() == 'DELETE' then return ngx.exit(403) end",
        ("DELETE / HTTP/1.1", *GET[1:]),
    ),
    ("method_ok", "if ngx.req.get_method() == 'DELETE' then return ngx.exit(403) end", GET),
    ("exit_ok", "ngx.req.set_header('X-A', 'b') ngx.exit(ngx.OK) ngx.exit(403)", GET),
    ("exit_declined", "ngx.exit(ngx.DECLINED) ngx.exit(403)", GET),
    ("exit_404", "ngx.exit(ngx.HTTP_NOT_FOUND)", GET),
    ("exit_200", "ngx.exit(200)", GET),
    ("exit_204", "ngx.exit(204)", GET),
    ("exit_in_pcall", "pcall(function() ngx.exit(403) end) ngx.exit(404)", GET),
    ("exit_in_coroutine", "coroutine.wrap(function() ngx.exit(403) end)() ngx.exit(404)", GET),
    ("say", "ngx.say('a', 1) ngx.print('b') ngx.exit(ngx.HTTP_OK)", GET),
    ("say_and_end", "ngx.say('hello')", GET),
    ("status_and_say", "ngx.status = 410 ngx.say('gone') ngx.exit(ngx.HTTP_OK)", GET),
    ("status_of_exit", "ngx.status = 403 ngx.say('no') return ngx.exit(403)", GET),
    ("say_then_exit", "ngx.say('a') ngx.exit(403)", GET),
    (
        "header_and_say",
        "ngx.header['X-Out'] = 'a' ngx.header.content_type = 'text/x' ngx.say('b')",
        GET,
    ),
    ("header_many", "ngx.header['X-Out'] = {'a', 'b'} ngx.say(ngx.header['X-Out'][2] or 'n')", GET),
    ("header_read", "ngx.header['X-Out'] = 'a' ngx.say(ngx.header.x_out, ngx.header.none)", GET),
    ("header_cleared", "ngx.header['X-Out'] = 'a' ngx.header['X-Out'] = nil ngx.say('b')", GET),
    ("header_on_error", "ngx.header['X-Out'] = 'a' ngx.exit(403)", GET),
    ("header_on_reply", "ngx.header['X-Out'] = 'a'", GET),
    ("redirect", "return ngx.redirect('/elsewhere?a=b')", GET),
    ("redirect_301", "return ngx.redirect('http://example.org/x', 301)", GET),
    ("redirect_308", "return ngx.redirect('/x', 308)", GET),
    ("redirect_header", "ngx.header['X-Out'] = 'a' return ngx.redirect('/x', 302)", GET),
    ("set_header", "ngx.req.set_header('X-A', 'b') ngx.req.set_header('X-B', 5)", GET),
    ("set_header_list", "ngx.req.set_header('X-A', {'b', 'c'})", GET),
    ("set_header_again", "ngx.req.set_header('X-In', 'two')", GET),
    ("clear_header", "ngx.req.clear_header('X-In') ngx.req.set_header('User-Agent', nil)", GET),
    ("set_host", "ngx.req.set_header('Host', 'other.example.com')", GET),
    ("set_method", "ngx.req.set_method(ngx.HTTP_HEAD) ngx.req.set_method(ngx.HTTP_PUT)", GET),
    ("set_uri", "ngx.req.set_uri('/new/path')", GET),
    ("set_uri_escaped", "ngx.req.set_uri('/a b/c?d%e#f;g')", GET),
    ("set_uri_utf8", "ngx.req.set_uri('/\\xc3\\xa9')", GET),
    ("set_uri_decoded", "ngx.req.set_uri(ngx.var.uri .. '/x')", _get("/a%20b/c%2Fd?q=%41")),
    ("set_args", "ngx.req.set_uri_args('p=q&r=s')", GET),
    ("set_args_table", "ngx.req.set_uri_args({p = 'q r'})", GET),
    ("set_args_none", "ngx.req.set_uri_args({})", GET),
    ("set_var_args", "ngx.var.args = 'a=b'", GET),
    ("both", "ngx.req.set_uri('/n') ngx.req.set_uri_args({n = ngx.var.arg_x})", GET),
    ("args_as_sent", "ngx.req.set_header('X-Args', ngx.var.args)", _get("/?a=%20b&c")),
    ("uri_dots", "ngx.say(ngx.var.uri)", _get("/a/./b/../c//d%2e%2e/%41")),
    ("uri_dots_end", "ngx.say(ngx.var.uri)", _get("/a/b/..")),
    ("uri_trailing", "ngx.say(ngx.var.uri)", _get("/a/b/./")),
    (
        "host_port",
        "ngx.say(ngx.var.host, ' ', ngx.var.http_host)",
        ("GET / HTTP/1.1", "Host: WWW.Example.com:8080"),
    ),
    (
        "cookies",
        "ngx.say(ngx.var.cookie_sid, ngx.var.cookie_THEME, tostring(ngx.var.cookie_no))",
        _get("/", "Cookie: sid=abc; theme=dark"),
    ),
    (
        "many_headers",
        "local h = ngx.req.get_headers() ngx.say(type(h['x-in']), h['x-in'][2])",
        _get("/", "X-In: two"),
    ),
    ("headers_limit", "local h, err = ngx.req.get_headers(2) ngx.say(err)", GET),
    ("args_limit", "local a, err = ngx.req.get_uri_args(1) ngx.say(a.x, tostring(a.y), err)", GET),
    (
        "args_kinds",
        "local a = ngx.req.get_uri_args() ngx.say(type(a.a), a.b == '', #a.c, a['d e'], a.f)",
        _get("/?a&b=&c=1&c=2&d%20e=g+h&f=%E9"),
    ),
    (
        "gmatch",
        "for m in ngx.re.gmatch('a1 b2 c3', '([a-z])([0-9])') do ngx.print(m[2], m[1]) end",
        GET,
    ),
    ("gmatch_empty", "for m in ngx.re.gmatch('ab', 'x*') do ngx.print('<', m[0], '>') end", GET),
    (
        "re_pos",
        "local c = {pos = 2} local m = ngx.re.match('1234, hello', '[0-9]+', '', c)"
        " ngx.say(m[0], ' ', c.pos)",
        GET,
    ),
    (
        "re_named",
        "local m = ngx.re.match('2024-05', '(?<y>\\\\d+)-(?<m>\\\\d+)') ngx.say(m.y, m.m, #m)",
        GET,
    ),
    ("re_bad", "local m, err = ngx.re.match('a', '(') ngx.say(m == nil, type(err))", GET),
    ("ctx", "ngx.ctx.a = 1 ngx.ctx.b = ngx.ctx.a + 1 ngx.say(ngx.ctx.b)", GET),
    ("ctx_replaced", "ngx.ctx = {a = 5} ngx.say(ngx.ctx.a)", GET),
    ("globals", "x = 1 ngx.say(x, _G.x, rawget(_G, 'x'))", GET),
    (
        "redirect_map",
        "local map = {['/a/b'] = '/c', ['/old'] = '/new'} local to = map[ngx.var.uri]"
        " if to then return ngx.redirect(to, 301) end",
        GET,
    ),
    (
        "token",
        "local token = ngx.var.arg_token if token ~= ngx.md5('secret' .. ngx.var.uri) then"
        " return ngx.exit(ngx.HTTP_FORBIDDEN) end",
        GET,
    ),
    (
        "token_right",
        "local token = ngx.var.arg_token if token ~= ngx.md5('secret' .. ngx.var.uri) then"
        " return ngx.exit(ngx.HTTP_FORBIDDEN) end",
        _get("/x?token=5ae7ba97b9f9b3d38b23c4d8a76cb5e6"),
    ),
    (
        "signed",
        "local sign = ngx.encode_base64(ngx.hmac_sha1('key', ngx.var.uri))"
        " ngx.req.set_header('X-Sign', sign)",
        GET,
    ),
    (
        "basic_auth",
        "local auth = ngx.var.http_authorization or ''"
        " local text = ngx.decode_base64(auth:match('^Basic (.+)$') or '')"
        " local user = text and text:match('^(.-):') ngx.say(user or 'nobody')",
        _get("/", "Authorization: Basic dXNlcjpwYXNz"),
    ),
    (
        "prefix",
        "local rest = ngx.re.match(ngx.var.uri, '^/a(/.*)$', 'jo')"
        " if rest then ngx.req.set_uri(rest[1]) end",
        GET,
    ),
    (
        "prefix_lua",
        "local rest = ngx.var.uri:match('^/a(/.*)$') if rest then ngx.req.set_uri(rest, false) end",
        GET,
    ),
    (
        "languages",
        "local best = (ngx.var.http_accept_language or 'en'):match('^%a+')"
        " ngx.req.set_uri('/' .. best .. ngx.var.uri)",
        _get("/x", "Accept-Language: de-CH, en"),
    ),
    (
        "sorted",
        "local t = {} for k in pairs(ngx.req.get_uri_args()) do t[#t + 1] = k end table.sort(t)"
        " ngx.say(table.concat(t, ','))",
        _get("/?c=1&a=2&b=3"),
    ),
    *(
        (
            f"template {template}",
            f"{_SHOW} show(ngx.re.sub('xay', '(a)', [==[{template}]==]))"
            f" show(ngx.re.gsub('xaya', '(q)', [==[{template}]==]))",
            GET,
        )
        for template in _TEMPLATES
    ),
    *(
        (f"sent {target} {headers}", _SHOW + _READ + _HEADERS + _RAW, _get(target, *headers))
        for target, *headers in (
            ("/a",),
            ("/a?",),
            ("/a?x",),
            ("/a?x=&X=2",),
            ("/a/../b/%2e%2e/c%20d//e?x=%20",),
            ("/", "Content-Length: 0"),
            ("/", "Content-Length: 00"),
            ("/", "Accept:", "Cookie: a=1"),
            ("/", "TE: trailers", "Keep-Alive: timeout=5"),
            ("/", "Upgrade: h2c", "Proxy-Connection: a", "Proxy: b", "Proxy-Authorization: c"),
        )
    ),
    *(
        (f"rewritten {target}", _SHOW + _REWRITE + _READ + _RAW, _get(target))
        for target in ("/a%20b?x=1", "/", "/a?x=y%00")
    ),
    ("rewritten and sent on", _REWRITE, _get("/a%20b?x=1")),
    ("whole_url", _SHOW + _READ + _RAW, ("GET http://www.example.com/p?x=1 HTTP/1.1", *GET[1:])),
    ("header_emptied", "ngx.req.set_header('X-In', '') ngx.req.set_header('X-A', '')", GET),
    ("header_of_nothing", "ngx.req.set_header('X-In', {}) ngx.req.set_header('X-A', {})", GET),
    (
        "header_odd",
        "for _, v in ipairs{5, true, false, 1.5, 1e100} do"
        " ngx.req.set_header('X-A' .. tostring(v), v) end",
        GET,
    ),
    ("header_of_list", "ngx.req.set_header('X-A', {1, true, 'x'})", GET),
    (
        "header_odd_name",
        "ngx.req.set_header(5, 6) ngx.req.set_header('a b', 'c')"
        " ngx.req.set_header('X\\r\\nY: z', 'v') ngx.req.set_header('\\xe4(', 'v')",
        GET,
    ),
    (
        "header_controls",
        "for i = 0, 31 do ngx.req.set_header('X-' .. i, 'a' .. string.char(i) .. 'b')"
        " end ngx.req.set_header('X-127', 'a\\127b')",
        GET,
    ),
    (
        "clear_odd",
        "ngx.req.clear_header(nil) ngx.req.clear_header('') ngx.req.clear_header('a b')"
        " ngx.req.clear_header(5) ngx.req.clear_header({})",
        GET,
    ),
    ("reply_emptied", "ngx.header['X-Out'] = 'a' ngx.header['X-Out'] = '' ngx.say('b')", GET),
    ("reply_of_empty", "ngx.header['X-Out'] = {'1', ''} ngx.say('b')", GET),
    (
        "reply_of_empties",
        "ngx.header['X-Out'] = {'', ''} ngx.say(tostring(ngx.header['X-Out']))",
        GET,
    ),
    ("reply_emptied_on_reply", "ngx.header['X-Out'] = 'a' ngx.header['X-Out'] = ''", GET),
    ("reply_controls", "ngx.header['X-Out'] = 'a\\r\\nX-Evil: b' ngx.say('b')", GET),
    ("status_999", "ngx.status = 999 ngx.say('a')", GET),
    ("status_600", "ngx.status = 600.5 ngx.say(ngx.status)", GET),
    ("status_0", "ngx.status = 0 ngx.say('a')", GET),
    ("status_text", "ngx.status = '404' ngx.say('a')", GET),
    ("exit_999", "ngx.exit(999)", GET),
    ("exit_text", "ngx.exit('403')", GET),
    ("exit_nil", "ngx.exit(nil)", GET),
    ("redirect_empty", "ngx.redirect('')", GET),
    ("redirect_nil", "ngx.redirect(nil)", GET),
    ("redirect_status_nil", "ngx.redirect('/x', nil)", GET),
    ("redirect_status_text", "ngx.redirect('/x', '301')", GET),
    ("redirect_long", "ngx.redirect(('/x'):rep(10000))", GET),
    ("redirect_line_end", "ngx.redirect('/a\\r\\nX-Evil: b')", GET),
    ("args_controls", "ngx.req.set_uri_args('a\\r\\nb\\0')", GET),
    ("args_removed", "ngx.var.args = nil ngx.req.set_header('X-Q', tostring(ngx.var.args))", GET),
    ("args_emptied", "ngx.req.set_uri_args({}) ngx.req.set_header('X-Q', ngx.var.args)", GET),
    (
        "args_all",
        "local a, e = ngx.req.get_uri_args(0) local n = 0 for _ in pairs(a) do n = n + 1 end"
        " ngx.say(n, e)",
        _get("/?" + "&".join(f"k{n}=1" for n in range(150))),
    ),
    (
        "args_first",
        "local a, e = ngx.req.get_uri_args() local n = 0 for _ in pairs(a) do n = n + 1 end"
        " ngx.say(n, e)",
        _get("/?" + "&".join(f"k{n}=1" for n in range(150))),
    ),
    (
        "args_into",
        "local t = {old = 1} local a, e = ngx.req.get_uri_args(1, t)"
        " ngx.say(a == t, t.old, t.x, t.y, e)",
        GET,
    ),
    (
        "escape_kinds",
        "for kind = 0, 6 do local kept = {} for i = 0, 255 do local c = string.char(i)"
        " if ngx.escape_uri(c, kind) == c then kept[#kept + 1] = i end end"
        " ngx.say(kind, ' ', table.concat(kept, ' ')) end",
        GET,
    ),
    *(
        (f"say {what}", f"ngx.say({what})", GET)
        for what in (
            "",
            "nil",
            "nil, nil",
            "true",
            "{}",
            "{'a', {'b', 1, true, nil}}",
            "{{}, {}}",
            "{a = 1}",
            "{1, nil, 3}",
            "{1, a = 2}",
            "{[2] = 'b'}",
            "{[1.5] = 'a'}",
            "{[0] = 'a'}",
            "{print}",
            "print",
            "ngx.null",
            "{ngx.null, 'x'}",
            "coroutine.create(function() end)",
            "setmetatable({'q'}, {__tostring = function() return 'T' end})",
        )
    ),
    *(
        (f"log {what}", f"ngx.log(ngx.ERR, {what}) ngx.say('logged')", GET)
        for what in (
            "nil",
            "true",
            "1.5",
            "ngx.null",
            "{}",
            "print",
            "{print}",
            "setmetatable({}, {__tostring = function() return 'T' end})",
        )
    ),
    (
        "split",
        "local function str_split(s, sep) local t = {}"
        " for one in s:gmatch('([^' .. (sep or '%s') .. ']+)') do t[#t + 1] = one end return t end"
        " local split = utils and utils.str_split or str_split"
        " for _, c in ipairs{{' a  b\\tc\\n'}, {'a,b;;c', ',;'}, {'a.-b', '.-'}, {'', ','},"
        " {'a-z', 'a-c'},"
        " {',,', ','}, {'a]b', ']'}, {'a^b', '^'}, {'x%y', '%%'}, {5.5, '.'}} do"
        " ngx.say(table.concat(split(tostring(c[1]), c[2]), '|')) end",
        GET,
    ),
    ("error_500", "error('boom')", GET),
    ("nil_call", "nothing()", GET),
    ("discard", "ngx.req.discard_body() ngx.exit(405)", GET),
    (
        "http_1_0",
        "ngx.say(ngx.req.http_version(), ngx.var.server_protocol) ngx.exit(200)",
        ("GET / HTTP/1.0", "Host: a.example.com"),
    ),
)
