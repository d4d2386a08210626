"""Scripts of a rewrite phase, as people write them for ngx_lua, to be run in both worlds.

Each is a name, the code, and where it matters the request's head.  What comes out must be
the same in nginx and here: the answer, or what the server gets.
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
    ("error_500", "error('boom')", GET),
    ("nil_call", "nothing()", GET),
    ("discard", "ngx.req.discard_body() ngx.exit(405)", GET),
    (
        "http_1_0",
        "ngx.say(ngx.req.http_version(), ngx.var.server_protocol) ngx.exit(200)",
        ("GET / HTTP/1.0", "Host: a.example.com"),
    ),
)
