"""Parts of ngx, slardar, errno, utils and cjson that test_nginx.py cannot compare."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.objects import HookRequest, HookResponse
from tests.hooks.kit import settings_of
from tests.hooks.lua.helpers import failure, make_engine, make_request, run, said


def answer(engine: Any, code: str, request: HookRequest | None = None) -> Any:
    """What the client gets."""
    made = run(engine, code, request).answer
    assert made is not None
    return made


class TestAnswers:
    def test_the_readme_of_upyun(self, engine: Any) -> None:
        """The example in upyun/slardar's README rejects a DELETE, and nothing else."""
        code = "if ngx.get_method() == 'DELETE' then return ngx.exit(403) end"
        assert answer(engine, code, make_request(method="DELETE")).status == 403
        assert run(engine, code).answer is None

    def test_errno(self, engine: Any) -> None:
        """slardar.exit answers with the error's status, code and message."""
        made = answer(engine, "return slardar.exit(errno.EXIT_TRY_CODE)")
        assert (made.status, made.code, made.message) == (400, 40099999, "exit try code")
        made = answer(engine, "return slardar.exit(50300000)")
        assert (made.status, made.code, made.message) == (503, 50300000, "unknown error")

    @pytest.mark.parametrize(
        ("what", "message"),
        [("errno.HTTP_FORBIDDEN", "forbidden"), ("403", "forbidden"),
         ("{code = 403, msg = 'no \u4f60'}", "no \u4f60"), ("{code = 403}", "forbidden")],
    )  # fmt: skip
    def test_exit_with_a_plain_status(self, engine: Any, what: str, message: str) -> None:
        """slardar.exit with a plain status does what ngx.exit does.

        The client gets no error code, but what the script has said or set before.
        """
        made = answer(engine, f"ngx.header['X-A'] = 'b' return slardar.exit({what})")
        assert (made.status, made.code, made.message) == (403, None, message)
        assert made.headers == [b"X-A: b"]
        made = answer(engine, f"ngx.say('a') return slardar.exit({what})")
        assert (made.status, made.body) == (200, b"a\n")

    def test_errno_of_its_own(self, engine: Any) -> None:
        """An error that a script makes itself has the status of its first three digits."""
        made = answer(engine, "slardar.exit({code = 40301001, msg = 'not h\u00e9re'})")
        assert (made.status, made.code, made.message) == (403, 40301001, "not h\u00e9re")

    def test_errno_ok(self, engine: Any) -> None:
        """errno.OK ends the script, and the request goes on."""
        assert run(engine, "slardar.exit(errno.OK) ngx.exit(403)").answer is None

    def test_errno_entries(self, engine: Any) -> None:
        """An entry has a code, a status and a message, is found by its code, and compares."""
        code = """
            local e = errno.HTTP_FORBIDDEN
            ngx.say(e.code, e.httpcode, e.msg, tostring(e), e == errno.from_code(403), e[1], e[2])
        """
        assert said(engine, code) == "403403forbidden403true403forbidden"

    @pytest.mark.parametrize(
        ("what", "shown"),
        [("NOPE", "NOPE"), ("from_code(1)", "1"), ("from_code()", "nil"), ("from_code('x')", "x"),
         ("from_code({})", "table: 0x0"), ("from_code(0/0)", "nan"), ("from_code(1/0)", "inf"),
         ("from_code(true)", "true"), ("from_code(403.5)", "403.5"), ("from_code('')", "")],
    )  # fmt: skip
    def test_unknown_errno(self, what: str, shown: str) -> None:
        """An unknown name or code is UNKNOWN_ERR, and the log gets a line."""
        engine = make_engine()
        made = answer(engine, f"return slardar.exit(errno.{what})")
        assert (made.status, made.code, made.message) == (503, 50300000, "unknown error")
        assert engine.lines == [("error", f"script.x: unknown error: {shown}")]

    def test_close(self, engine: Any) -> None:
        """444 closes without a reply, even if the script has said something."""
        made = answer(engine, "ngx.header['X-A'] = 'b' ngx.say('x') ngx.exit(444)")
        assert (made.status, made.body, made.headers) == (444, b"", [])
        assert answer(engine, "ngx.exit(ngx.ERROR)").status == 444

    def test_order_of_headers(self, engine: Any) -> None:
        """Headers that a script sets go with its answer, even with an error or a redirect."""
        for ending in ("ngx.exit(403)", "ngx.redirect('/x')", "slardar.exit(errno.HTTP_NOT_FOUND)"):
            made = answer(engine, f"ngx.header.x_a = 'b' {ending}")
            assert b"x-a: b" in made.headers

    def test_headers_of_nginx_itself(self, engine: Any) -> None:
        """Setting Content-Length, as scripts do, has no effect: the proxy writes it."""
        made = answer(engine, "ngx.header['Content-Length'] = 99 ngx.print('ab')")
        assert made.headers == [b"Content-Type: text/plain"]

    def test_redirect_to_utf8(self, engine: Any) -> None:
        """A place beyond ASCII is percent-encoded once, and a % in it stays."""
        made = answer(engine, "ngx.redirect('/\u00e9%20a?b=%41', 301)")
        assert made.headers == [b"Location: /%C3%A9%20a?b=%41"]

    def test_redirect_after_say(self, engine: Any) -> None:
        """After the script has said something it cannot redirect."""
        assert "after sending" in failure(engine, "ngx.say('x') ngx.redirect('/y')")[1]

    def test_last_header_wins(self, engine: Any) -> None:
        """A header that is set again replaces the first value; after the head it is too late."""
        made = answer(engine, "ngx.header.X = 'a' ngx.header.X = 'b' ngx.say() ngx.header.X = 'c'")
        assert b"X: b" in made.headers
        assert made.body == b"\n"

    def test_failed_answers_do_not_stay(self, engine: Any) -> None:
        """What a script said before it failed does not reach the next request."""
        failure(engine, "ngx.status = 410 ngx.header.X = 'a' ngx.say('x') error('y')")
        made = answer(engine, "ngx.say('z')")
        assert (made.status, made.body) == (200, b"z\n")
        assert made.headers == [b"Content-Type: text/plain"]


class TestReplies:
    def test_added(self, engine: Any) -> None:
        """Headers that a script sets while the request goes on replace those of the server's
        reply."""
        script = engine.load(
            "script.x", "ngx.header['X-A'] = {'1', '2'} ngx.header.Server = 'me'", {}
        )
        request = make_request()
        script.on_request(request)
        assert request.answer is None
        response = HookResponse(200, b"HTTP/1.1 200 OK\r\nServer: theirs\r\nX-B: c", None)
        assert script.on_replies
        script.on_response(request, response)
        assert response.headers.get_all("x-a") == ["1", "2"]
        assert response.headers.get_all("server") == ["me"]
        assert response.headers.get("x-b") == "c"

    def test_of_two_scripts(self, engine: Any) -> None:
        """Headers of two scripts for one request are both set."""
        request = make_request()
        for name, value in (("A", "1"), ("B", "2"), ("A", "3")):
            engine.load("script.x", f"ngx.header['{name}'] = '{value}'", {}).on_request(request)
        response = HookResponse(200, b"HTTP/1.1 200 OK", None)
        engine.load("script.x", "ngx.header.x = nil", {}).on_response(request, response)
        assert sorted(response.headers.items()) == [("A", "3"), ("B", "2")]

    def test_nothing_added(self, engine: Any) -> None:
        """A script that set nothing leaves the reply alone."""
        script = engine.load("script.x", "local x = ngx.header", {})
        request, response = make_request(), HookResponse(200, b"HTTP/1.1 200 OK\r\nA: b", None)
        script.on_request(request)
        script.on_response(request, response)
        assert not response.headers_changed


class TestChoosing:
    def test_upstream_and_keys(self, engine: Any) -> None:
        """A script chooses the upstream, the hash key and the clusters."""
        request = run(
            engine,
            "slardar.set_upstream('u') slardar.set_hash_key('h') slardar.set_cluster_key('a', 'b')",
        )
        assert (request.upstream, request.hash_key) == ("u", "h")
        assert run(engine, "slardar.set_cluster_key('a')").cluster_key == "a"
        assert run(engine, "slardar.set_cluster_key({'a', 'b'})").cluster_key == ("a", "b")

    def test_variables(self, engine: Any) -> None:
        """A script chooses these by variables, too, as configurations of nginx do."""
        request = run(engine, "ngx.var.upstream = 'u' ngx.var.hash_key = ngx.var.remote_addr")
        assert (request.upstream, request.hash_key) == ("u", "192.0.2.7")
        assert said(engine, "ngx.var.upstream = 'u' ngx.say(ngx.var.upstream)") == "u"

    def test_back_to_none(self, engine: Any) -> None:
        """nil leaves the choice to routes and Host again."""
        request = run(engine, "slardar.set_upstream('u') slardar.set_upstream(nil)")
        assert request.upstream is None

    def test_host(self, engine: Any) -> None:
        """A Host that a script sets is the Host of the request."""
        request = run(engine, "ngx.req.set_header('host', 'other.example.com')")
        assert request.host == "other.example.com"
        assert request.headers_changed


class TestVariables:
    def test_own(self, engine: Any) -> None:
        """Variables that begin with x_ belong to the script, and last as long as the request."""
        code = """
            local var = ngx.var
            ngx.print(tostring(var.x_a), var.x_error_code) var.x_a = 5 ngx.say(var.x_a)
        """
        for _ in range(2):
            assert said(engine, code) == "nil-5"

    def test_error_code_of_the_original(self, engine: Any) -> None:
        """A script may set x_error_code, as scripts for upyun/slardar do."""
        assert said(engine, "ngx.var.x_error_code = 403 ngx.say(ngx.var.x_error_code)") == "403"

    def test_addresses_and_times(self, engine: Any) -> None:
        """A script reads the client's address, the times and the id of the request."""
        code = """
            ngx.say(ngx.var.remote_addr, " ", #ngx.var.binary_remote_addr, " ",
                #ngx.var.request_id, " ", ngx.var.request_id == ngx.var.request_id, " ",
                ngx.var.msec - ngx.now() < 1, " ",
                ngx.var.time_iso8601:match("^%d+%-%d+%-%d+T") ~= nil, " ",
                #ngx.var.time_local, " ", ngx.var.https == "", " ",
                ngx.var.proxy_add_x_forwarded_for)
        """
        assert said(engine, code) == "192.0.2.7 4 32 true true true 26 true 192.0.2.7"

    def test_latin_1(self, engine: Any) -> None:
        """Every byte of a header arrives and goes on unchanged."""
        every = "".join(chr(code) for code in (*range(0x20, 0x7F), *range(0x80, 0x100)))
        request = make_request(headers=(f"X-In: x{every}x",))
        run(engine, "ngx.req.set_header('X-Out', ngx.var.http_x_in)", request)
        assert request.headers.get("x-out") == f"x{every}x"


class TestSettings:
    def test_values(self, engine: Any) -> None:
        """Settings are tables, texts, numbers and booleans; null is cjson.null."""
        code = """
            local a = slardar.myargs
            ngx.say(a.arg0, a.arg1[2], a.arg1[3] == cjson.null, slardar.name, slardar.on,
                tostring(slardar.none), slardar.myargs == a)
        """
        assert said(engine, code) == "0twotrue\xc3\xa9truenil" + "true"

    def test_copies(self, engine: Any) -> None:
        """A change of a setting by a script is gone with the request."""
        code = "ngx.say(slardar.myargs.arg0) slardar.myargs.arg0 = 7"
        script = engine.load("script.x", code, {})
        for _ in range(2):
            request = make_request()
            script.on_request(request)
            assert request.answer is not None
            assert request.answer.body == b"0\n"

    def test_current(self) -> None:
        """The next request sees a setting that has changed."""
        settings = settings_of({"n": 1})
        engine = make_engine(settings=settings)
        assert said(engine, "ngx.say(slardar.n)") == "1"
        settings.take({"n": "2"})
        engine.settings_changed()
        assert said(engine, "ngx.say(slardar.n)") == "2"


class TestUtils:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            ("table.concat(utils.str_split('a,b,,c', ','), '|')", "a|b|c"),
            ("#utils.str_split('', ',')", "0"),
            ("table.concat(utils.str_split('a.b', '.'), '|')", "a|b"),
            ("utils.str_join({'a', 'b'}, '-')", "a-b"),
            ("utils.basename('/a/b/c.txt')", "/a/b/c.txt"),
            ("select('#', utils.basename('/a/b/'))", "1"),
            ("utils.filename('a.b.txt')", "a.btxt"),
            ("utils.filename('a.')", "a"),
            ("utils.filename('abc')", "abc"),
            ("utils.null(nil), utils.null(ngx.null), utils.null(false)", "truetruefalse"),
            ("require('modules.utils') == utils, require('modules.errno') == errno", "truetrue"),
        ],
    )
    def test_utils(self, engine: Any, expression: str, wanted: str) -> None:
        """The functions of utils do what upyun/slardar's did."""
        assert said(engine, f"ngx.say({expression})") == wanted

    def test_sorted_pairs(self, engine: Any) -> None:
        """Pairs come in the order of their keys, or in an order that the script gives."""
        code = """
            local t = {b = 1, a = 3, c = 2}
            for k, v in utils.sorted_pairs(t) do ngx.print(k, v) end
            for k, v in utils.sorted_pairs(t, function(t, a, b) return t[a] < t[b] end) do
                ngx.print(k, v)
            end
        """
        assert said(engine, code) == "a3b1c2b1c2a3"


class TestJson:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            ("cjson.encode({1, 'a', true, cjson.null})", '[1,"a",true,null]'),
            ("cjson.encode({})", "{}"),
            ("cjson.encode(cjson.empty_array)", "[]"),
            ("cjson.encode({a = {b = {}}})", '{"a":{"b":{}}}'),
            ("cjson.encode({[1] = 1, [3] = 3})", "[1,null,3]"),
            ("cjson.encode({[1] = 1, x = 2}):len()", "13"),
            (
                "cjson.encode(0.1), cjson.encode(1e15), cjson.encode(1/3)",
                "0.11e+150.33333333333333",
            ),
            ("cjson.encode('a\"b\\\\c/d\\n\\1\\127')", '"a\\"b\\\\c\\/d\\n\\u0001\\u007f"'),
            ("cjson.encode(ngx.null), cjson.encode(nil)", "nullnull"),
            ('cjson.decode(\'{"a":[1,2,{"b":null}]}\').a[3].b == cjson.null', "true"),
            ("cjson.decode('[1e2,-0.5,true,false]')[2]", "-0.5"),
            ("cjson.decode('\"\\\\u00e9\\\\ud83d\\\\ude00\\\\n\\\\/\"') == 'é😀\\n/'", "true"),
            ("cjson.decode(' \\n [ ] ')[1] == nil", "true"),
            ("cjson.null == ngx.null, require('cjson') == cjson", "truetrue"),
            ("select('#', require('cjson.safe').decode(nil))", "2"),
            ("type(select(2, require('cjson.safe').decode(ngx.var.arg_none)))", "string"),
            (
                "tostring(require('cjson.safe').decode(true)), require('cjson.safe').decode(5)",
                "nil5",
            ),
            ("pcall(require('cjson.safe').decode) == false", "true"),
            ("(require('cjson.safe').decode('{')) == nil", "true"),
            (
                "select(2, require('cjson.safe').decode('[1,]'))",
                "Expected value but found ']' at character 4",
            ),
            (
                "select(2, require('cjson.safe').encode(print))",
                "Cannot serialise function: type not supported",
            ),
        ],
    )
    def test_values(self, engine: Any, expression: str, wanted: str) -> None:
        """JSON is written and read as lua-cjson does it."""
        assert said(engine, f"ngx.say({expression})") == wanted

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[1,]",
            "[1 2]",
            '{"a"}',
            '{"a":}',
            "{a:1}",
            "nul",
            "tru",
            '"a',
            '"\\x"',
            '"\\ud800"',
            "01x",
            "-",
            "1e",
            "[1]]",
            '"a\nb"',
            "NaN",
            "Infinity",
        ],
    )
    def test_refused(self, engine: Any, text: str) -> None:
        """A text that is no JSON raises an error at the line of the script."""
        kind, message = failure(engine, f"cjson.decode([==[{text}]==])")
        assert kind == "error"
        assert message.startswith("script.x: line ")

    @pytest.mark.parametrize("value", ["0/0", "1/0", "{[true] = 1}", "print", "{1, [1000] = 2}"])
    def test_not_written(self, engine: Any, value: str) -> None:
        """A value that JSON does not have raises an error."""
        assert "Cannot serialise" in failure(engine, f"cjson.encode({value})")[1]

    def test_there_and_back(self, engine: Any) -> None:
        """A document stays the same when it is written and read."""
        code = """
            local text = '{"a":[1,2.5,"x",{"b":[[],{"c":true}]}],"d":"e"}'
            local again = cjson.decode(cjson.encode(cjson.decode(text)))
            ngx.say(again.a[2], again.a[4].b[2].c, again.d)
        """
        assert said(engine, code) == "2.5truee"


class TestRegex:
    @pytest.mark.parametrize(
        ("pattern", "part"),
        [
            ("(?=a)", "needs backtracking"),
            ("(?!a)", "needs backtracking"),
            ("(?<=a)b", "needs backtracking"),
            ("(?<!a)b", "needs backtracking"),
            ("(?>a)", "needs backtracking"),
            (r"(a)\\1", "backreference"),
            (r"(?<n>a)\\k<n>", "backreference"),
            ("a++", "bad repetition"),
            ("(", "missing )"),
            ("a" * 5000, "at most 4096 bytes"),
        ],
    )
    def test_not_available(self, engine: Any, pattern: str, part: str) -> None:
        """For what RE2 cannot do, a script gets an error that says so."""
        code = f"local m, e = ngx.re.match('aab', '{pattern}') ngx.say(tostring(m), e)"
        text = said(engine, code)
        assert text.startswith("nilregular expression: ")
        assert part in text

    def test_every_function(self, engine: Any) -> None:
        """Each function tells in its own way that an expression cannot be used."""
        code = """
            ngx.say(select(3, ngx.re.find('a', '(')), select(2, ngx.re.gmatch('a', '(')),
                select(3, ngx.re.sub('a', '(', '')), select(2, ngx.re.match('a', '(')))
        """
        assert said(engine, code) == "regular expression: missing ): (" * 4

    def test_extended(self, engine: Any) -> None:
        """x leaves out blanks and comments, except in a class and behind a backslash."""
        code = r"""
            local m = ngx.re.match("a b-c", [[ (a) [ ] \w  # a comment
                (?# another) \- ( c ) ]], "x")
            ngx.say(m[0], m[2])
        """
        assert said(engine, code) == "a b-cc"

    def test_bytes(self, engine: Any) -> None:
        """Without u an expression matches bytes, with u characters."""
        code = r"""
            ngx.say(#ngx.re.match("é", ".")[0], #ngx.re.match("é", ".", "u")[0],
                ngx.re.match("\255\0x", "\\x00x")[0] == "\0x")
        """
        assert said(engine, code) == "12true"


class TestLibraries:
    @pytest.mark.parametrize(
        "code",
        [
            "('a'):find('[a')",
            "('a'):match('(')",
            "('a'):match(('a*'):rep(20) .. '%1')",
            "for _ in ('a'):gmatch('%') do end",
            "('a'):rep({})",
            "('a'):rep(2e6)",
            "string.format('%d', 'x')",
            "string.upper()",
            "table.insert(nil, 1)",
            "table.concat({{}})",
            "tostring(setmetatable({}, {__tostring = function() return 1 .. {} end}))",
            "cjson.decode('[')",
            "ngx.hmac_sha1()",
            "ngx.decode_base64()",
            "ngx.escape_uri('a', 'b')",
            "ngx.encode_base64('a', 1)",
            "ngx.decode_args('a', 'b')",
            "ngx.http_time('1')",
            "ngx.parse_http_time(1)",
            "ngx.exit('x')",
            "ngx.redirect('/', nil)",
            "ngx.flush(1)",
            "ngx.log(ngx.ERR, {})",
            "ngx.say({a = 1})",
            "ngx.print(print)",
            "ngx.req.set_header('', 'c')",
            "ngx.req.set_header(nil, 'c')",
            "ngx.req.get_headers('x')",
            "ngx.req.get_uri_args('x')",
            "ngx.var.host = 1",
            "ngx.re.match('a', 'a', 'q')",
            "ngx.re.match('a', nil)",
            "ngx.re.find('a', 'a', '', 1)",
            "ngx.re.find('a', 'a', '', nil, 'x')",
            "ngx.re.match('a', 'a', '', {pos = 'x'})",
            "ngx.re.gsub('a', 'a', function() error('x') end)",
            "require('modules.' .. 'x')",
            "slardar.exit()",
            "utils.str_split()",
            "utils.str_split('a', '')",
            "utils.basename('x')",
        ],
    )
    def test_where(self, engine: Any, code: str) -> None:
        """An error that a function of slardar raises names the line of the script."""
        kind, message = failure(engine, f"local x = 1\n{code} x = 2")
        assert kind == "error"
        assert message.startswith("script.x: line 2: "), message

    @pytest.mark.parametrize(
        ("code", "wanted"),
        [
            (
                "local t = {} table.insert(t, 'a') table.insert(t, 1, 'b')"
                " ngx.say(t[1], t[2], table.remove(t), #t)",
                "baa1",
            ),
            (
                "local t = {5, 2, 8, 1, 9, 3, 7, 4, 6, 0, 5, 2} table.sort(t)"
                " ngx.say(table.concat(t, ''))",
                "012234556789",
            ),
            (
                "local t = {} for i = 1, 1000 do t[i] = (i * 7919) % 1000 end"
                " table.sort(t, function(a, b) return a > b end) ngx.say(t[1], t[500], t[1000])",
                "9995000",
            ),
            (
                "local t = {} for i = 1, 5000 do t[i] = i end ngx.say(#table.concat(t, ','))",
                "23892",
            ),
            (
                "ngx.say(table.concat({}, ','), table.concat({1}, ','), table.maxn({1, [5] = 2}))",
                "15",
            ),
            ("ngx.say(math.random() < 1, math.random(5) <= 5, math.randomseed(1))", "truetrue"),
            ("ngx.say(debug.traceback('x'))", "x"),
            ("print('hello', 1)", None),
            ("ngx.say(tostring(1e100), tostring(true), tostring('a'))", "1e+100truea"),
            ("ngx.say(os.date('!%H:%M', 3600), os.time() - ngx.time() <= 1)", "01:00true"),
            (
                "local f = assert(loadstring('return 1 + 1'))"
                " ngx.say(f(), loadstring('x x') == nil)",
                "2true",
            ),
            (
                "ngx.say(string.format('%s|%10s|%q', setmetatable({}, {__tostring = function()"
                " return 'T' end}), 'a', 'b\\nc'))",
                'T|         a|"b\\\nc"',
            ),
            (
                "local co = coroutine.create(function(a) local b = coroutine.yield(a) return b end)"
                " ngx.say(coroutine.resume(co, 1)) ngx.print(coroutine.resume(co, 2))"
                " ngx.print(coroutine.status(co), coroutine.resume(co))",
                "true1\ntrue2deadfalsecannot resume dead coroutine",
            ),
        ],
    )
    def test_libraries(self, engine: Any, code: str, wanted: str | None) -> None:
        """Lua's own libraries do what they do in Lua."""
        if wanted is None:
            assert run(engine, code).answer is None
        else:
            assert said(engine, code) == wanted

    def test_sort_is_stable(self, engine: Any) -> None:
        """Sorting keeps the order of equal items, and sorts a thousand well within the budget."""
        code = """
            local t = {} for i = 1, 1001 do t[i] = {(i * 7919) % 97, i} end
            table.sort(t, function(a, b) return a[1] < b[1] end)
            for i = 2, #t do
                local a, b = t[i - 1], t[i]
                if a[1] > b[1] or a[1] == b[1] and a[2] > b[2] then ngx.say("wrong") end
            end
        """
        assert run(engine, code).answer is None

    def test_sort_agrees(self, engine: Any) -> None:
        """Numbers, texts and more items than C sorts come out in order."""
        for made in ("(i * 7919) % 1009", "tostring((i * 7919) % 1009)"):
            for count in (0, 1, 2, 7, 8, 9, 17, 500, 1500):
                code = f"""
                    local t, sum = {{}}, 0
                    for i = 1, {count} do t[i] = {made} sum = sum + t[i] end
                    table.sort(t)
                    for i = 1, #t do
                        sum = sum - t[i]
                        if i > 1 and t[i] < t[i - 1] then ngx.say("wrong") end
                    end
                    if sum ~= 0 or #t ~= {count} then ngx.say("lost") end
                """
                assert run(engine, code).answer is None

    def test_log(self) -> None:
        """Levels of ngx become slardar's, values are joined, and print logs a notice."""
        engine = make_engine()
        run(engine, "ngx.log(ngx.ERR, 'a', nil, 1, true, ngx.null) ngx.log(ngx.WARN, 'w')"
                    " print('p') ngx.log(ngx.DEBUG, 'é')")  # fmt: skip
        assert engine.lines == [
            ("error", "script.x: anil1truenull"),
            ("warn", "script.x: w"),
            ("info", "script.x: p"),
            ("debug", "script.x: é"),
        ]

    def test_log_has_an_end(self) -> None:
        """A call logs at most a hundred lines."""
        engine = make_engine()
        run(engine, "for i = 1, 150 do ngx.log(ngx.INFO, i) end")
        assert len(engine.lines) == 100
