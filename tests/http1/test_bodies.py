"""Bodies that wait for hooks: the bytes on the wire, and the bytes held meanwhile."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from slardar.config import Hooks
from slardar.hooks.report import ShadowReport
from slardar.hooks.runner import Runner
from slardar.http1 import bodies
from slardar.http1.bodies import BodyRoom, WaitingBody
from slardar.testing.playbook import Playbook
from tests.dataplane.kit import logged
from tests.hooks.kit import hook, hooks
from tests.http1.lines import (
    CONTINUE,
    GET,
    OK,
    body_of,
    get,
    paths,
    post,
    post_chunked,
    statuses,
)

NewPlay = Callable[..., Playbook]

#: Rejects requests without a token in their form, and notes the bodies seen.
CHECK = """
from urllib.parse import parse_qsl

def on_request(request):
    if dict(parse_qsl(request.body.decode("utf-8", "replace"))).get("token") != "yes":
        return request.reject(403)
    request.headers["X-Size"] = len(request.body)
"""
UPPER = """
def on_request(request):
    request.body = request.body.upper()
"""
LUA_UPPER = """
ngx.req.read_body()
ngx.req.set_body_data((ngx.req.get_body_data() or "none"):upper())
"""
#: Shows whether a body was there, was too large, or was not read.
LUA_SHOW = """
ngx.req.read_body()
local data = ngx.req.get_body_data()
ngx.req.set_header("X-Size", data and #data or "nil")
"""
ASKS = 'def on_request(request):\n    request.headers["X-Large"] = str(request.body_too_large)\n'
BLIND = 'def on_request(request):\n    request.headers["X-Seen"] = "1"\n'


@pytest.fixture
def run(new_play: NewPlay) -> Iterator[Callable[..., Playbook]]:
    """A play with real hooks: the code of ``script.*``, in Python unless Lua is asked for."""
    runners: list[Runner] = []

    def make(code: str, servers: int = 1, modules: Any = None, **settings: Any) -> Playbook:
        made = Runner(Hooks(), lambda: 0.0)
        runners.append(made)
        language = "python" if "def on_" in code else "lua"
        used = {f"{language}/modules.{name}": text for name, text in (modules or {}).items()}
        with logged() as lines:
            named = hook(f"{language}/script.*", code)
            made.load(hooks(named, *(hook(name, text) for name, text in used.items())))
        assert not lines, lines
        return new_play(servers, hooks=made, **settings)

    yield make
    for one in runners:
        one.load({})


def header(head: bytes, name: str) -> str | None:
    """The value of a header of a head."""
    for line in head.split(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        key, _, value = line.partition(": ")
        if key.lower() == name.lower():
            return value
    return None


# The request waits.


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        (post(b"token=yes"), 200), (post(b"token=no"), 403), (post(b""), 403),
        (post_chunked() + b"5\r\ntoken\r\n4\r\n=yes\r\n0\r\n\r\n", 200),
        (post_chunked() + b"9\r\ntoken=yes\r\n0\r\nX-T: 1\r\n\r\n", 200),
        (post_chunked() + b"8\r\ntoken=no\r\n0\r\n\r\n", 403), (post_chunked() + b"0\r\n\r\n", 403),
    ],
)  # fmt: skip
def test_hook_decides_by_the_body(
    run: Callable[..., Playbook], request_of: bytes, status: int, bytewise: bool
) -> None:
    """The hook sees the whole body, in whatever pieces it arrives; the server gets the body
    once, and the connection goes on whatever the hook answers."""
    play = run(CHECK)
    for _ in range(3):
        for _ in range(2):
            (play.client_sends_bytewise if bytewise else play.client_sends)(request_of)
            if status == 200:
                got = play.origin_gets()
                assert header(got, "x-size") == "9"
                trailers = b"X-T" in request_of
                whole = b"9\r\ntoken=yes\r\n0\r\nX-T: 1\r\n\r\n"
                assert body_of(got) == (whole if trailers else b"token=yes")
                assert header(got, "content-length") == (None if trailers else "9")
                play.origin_sends(OK)
            answer = play.client_gets()
            assert statuses(answer) == [status]
            assert b"Connection" not in answer
    assert len(play.origins) <= 1
    assert len(play.host.bodies) == 0
    assert play.host.bodies.free == bodies.ROOM


def test_pipelined_bodies_are_seen_in_order(run: Callable[..., Playbook]) -> None:
    """The hook sees each body when its request's turn comes."""
    play = run(CHECK)
    yes, no = post(b"token=yes"), post_chunked() + b"8\r\ntoken=no\r\n0\r\n\r\n"
    play.client_sends(no + yes + no + get("/") + yes)
    assert statuses(play.client_gets()) == [403]
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200, 403, 403]
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]
    assert paths(play.origin_gets()) == [b"/in", b"/in"]


def test_nothing_waits_without_a_hook_that_reads(run: Callable[..., Playbook]) -> None:
    """The head goes to the server at once, and the body as it arrives."""
    play = run(BLIND)
    play.client_sends(post(b"hello")[:-5])
    assert header(play.origin_gets(), "x-seen") == "1"
    play.client_sends(b"he")
    assert play.origin_gets() == b"he"
    assert len(play.host.bodies) == 0


def test_only_the_host_with_such_a_hook_waits(new_play: NewPlay) -> None:
    """Bodies for other hosts go on as they arrive."""
    made = Runner(Hooks(), lambda: 0.0)
    made.load(hooks(hook("script.other.test", CHECK), hook("script.a.test", BLIND)))
    play = new_play(hooks=made)
    play.client_sends(post(b"hello")[:-5])
    assert len(play.origins) == 1
    other = new_play(hooks=made)
    other.client_sends(post(b"hello")[:-5].replace(b"a.test", b"other.test"))
    assert other.origins == []
    made.load({})


def test_module_that_reads_is_found(run: Callable[..., Playbook]) -> None:
    """A body also waits if a module reads it, or a module of the module, in both languages."""
    code = 'm = require("modules.a")\n\ndef on_request(request):\n    m.look(request)\n'
    inner = 'b = require("modules.b")\n\ndef look(request):\n    b.look(request)\n'
    last = "def look(request):\n    request.headers['X-Size'] = len(request.body)\n"
    play = run(code, modules={"a": inner, "b": last})
    play.client_sends_bytewise(post(b"hello"))
    assert header(play.origin_gets(), "x-size") == "5"
    lua = run(
        'require("modules.a").look()',
        modules={
            "a": 'return { look = function() return require("modules.b").look() end,'
            ' b = require("modules.b") }',
            "b": f"return {{ look = function() {LUA_SHOW} end }}",
        },
    )
    lua.client_sends_bytewise(post(b"hello"))
    assert header(lua.origin_gets(), "x-size") == "5"


def test_name_that_is_put_together_is_told(run: Callable[..., Playbook]) -> None:
    """No body waits for a name that code puts together; the log says what to write instead."""
    play = run('ngx.req["read" .. "_body"]()')
    with logged() as lines:
        play.client_sends(post(b"hello"))
    assert statuses(play.client_gets()) == [500]
    assert "write ngx.req.read_body" in str(lines)
    # A request without a body does not wait.
    play = run('ngx.req["read" .. "_body"]() ngx.say(tostring(ngx.req.get_body_data()))')
    play.client_sends(GET)
    assert body_of(play.client_gets()) == b"nil\n"


@pytest.mark.parametrize("script", ["on_request", "on_response"])
def test_reply_sees_the_body_too(run: Callable[..., Playbook], script: str) -> None:
    """A hook of replies alone also gets the body that was waited for."""
    more = "def on_request(request):\n    pass\n" if script == "on_request" else ""
    play = run(
        more + "def on_response(request, response):\n"
        "    response.headers['X-Size'] = len(request.body)\n"
    )
    play.client_sends_bytewise(post(b"hello"))
    play.origin_sends(OK)
    assert header(play.client_gets(), "x-size") == "5"


@pytest.mark.parametrize("how", ["canary", "shadow", "previous"])
def test_any_version_may_read(new_play: NewPlay, how: str) -> None:
    """A canary, a shadow and a version that steps in have the body, too."""
    made = Runner(Hooks(), lambda: 0.0)
    fails = "def on_request(request):\n    1 // 0\n"
    if how == "canary":
        made.load(hooks(hook("script.*", BLIND, staged=UPPER, canary=100)))
    elif how == "shadow":
        made.load(hooks(hook("script.*", BLIND, staged=UPPER, shadow=True)))
    else:
        made.load(hooks(hook("script.*", fails, previous=UPPER, on_error="previous")))
    play = new_play(hooks=made)
    with logged():
        play.client_sends_bytewise(post(b"hello"))
    assert body_of(play.origin_gets()) == (b"hello" if how == "shadow" else b"HELLO")
    if how == "shadow":
        (report,) = [one for one in made.reports() if isinstance(one, ShadowReport)]
        (example,) = map(json.loads, report.examples)
        assert example["staged"]["body"] == "HELLO"
        assert example["active"]["body"] is None
    made.load({})


def test_hook_that_fails_leaves_the_body(run: Callable[..., Playbook]) -> None:
    """No change of a failed hook is applied."""
    made = Runner(Hooks(on_error="continue"), lambda: 0.0)
    code = "def on_request(request):\n    request.body = b'new'\n    1 // 0\n"
    made.load(hooks(hook("script.*", code)))
    play = run(BLIND)
    play.host.hooks = made
    with logged():
        play.client_sends(post(b"hello"))
    assert body_of(play.origin_gets()) == b"hello"
    made.load({})


def test_scripts_see_the_body_of_those_before(new_play: NewPlay) -> None:
    """Each script sees the body that the script before it has set: Lua's for every host, then
    Python's, then the host's own."""
    made = Runner(Hooks(), lambda: 0.0)
    add = 'ngx.req.read_body() ngx.req.set_body_data((ngx.req.get_body_data() or "") .. "1")'
    more = "def on_request(request):\n    request.body += b'2'\n"
    last = "def on_request(request):\n    request.headers['X-Size'] = len(request.body)\n"
    made.load(hooks(hook("lua/script.*", add), hook("script.*", more), hook("script.a.test", last)))
    play = new_play(hooks=made)
    play.client_sends(post(b"0"))
    got = play.origin_gets()
    assert (body_of(got), header(got, "x-size")) == (b"012", "3")
    play.origin_sends(OK)
    play.client_sends(GET)
    assert body_of(play.origin_gets()) == b"12"
    made.load({})


# Bodies that are too large for hooks.


@pytest.mark.parametrize("chunked", [False, True])
def test_large_body_goes_on_as_it_comes(run: Callable[..., Playbook], chunked: bool) -> None:
    """Lua gets nil, as in nginx, and Python is told that the body is too large; the server
    gets every byte, and no more than the limit is held."""
    for code, name, value in ((LUA_SHOW, "x-size", "nil"), (ASKS, "x-large", "True")):
        play = run(code, hook_body=1000)
        body = bytes(range(256)) * 8
        if chunked:
            play.client_sends(post_chunked())
            for start in range(0, 1000, 250):
                play.client_sends(b"fa\r\n" + body[start : start + 250] + b"\r\n")
            assert play.origins == []
            assert play.host.bodies.free == bodies.ROOM - 1000
            play.client_sends(b"418\r\n" + body[1000:] + b"\r\n")
        else:
            play.client_sends(post(body)[:-2000])
        assert play.host.bodies.free == bodies.ROOM
        got = play.origin_gets()
        assert header(got, name) == value
        play.client_sends(b"0\r\n\r\n" if chunked else body[-2000:])
        got = body_of(got) + play.origin_gets()
        assert got.endswith(body[-200:] + (b"\r\n0\r\n\r\n" if chunked else b""))
        assert len(got) >= len(body)
        play.origin_sends(OK)
        answer = play.client_gets()
        assert statuses(answer) == [200]
        assert b"Connection" not in answer


@pytest.mark.parametrize("size", [999, 1000, 1001])
@pytest.mark.parametrize("chunked", [False, True])
def test_limit_is_exact(run: Callable[..., Playbook], size: int, chunked: bool) -> None:
    """A body of exactly the limit is seen; one more byte is too many."""
    play = run(LUA_SHOW, hook_body=1000)
    if chunked:
        play.client_sends(post_chunked() + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))
    else:
        play.client_sends(post(b"x" * size))
    assert header(play.origin_gets(), "x-size") == (str(size) if size <= 1000 else "nil")


def test_reading_a_large_one_in_python_is_a_413(run: Callable[..., Playbook]) -> None:
    """The hook ends there, cannot catch this, and has not failed."""
    play = run(
        "def on_request(request):\n"
        "    try:\n"
        "        len(request.body)\n"
        "    except Exception:\n"
        "        request.headers['X-Caught'] = '1'\n"
        "    finally:\n"
        "        request.headers['X-Finally'] = '1'\n",
        hook_body=3,
    )
    for _ in range(7):
        play.client_sends(post(b"body"))
        answer = play.client_gets()
        assert statuses(answer) == [413]
        assert b"Connection" not in answer
    assert play.origins == []
    play.client_sends(post(b"abc"))
    assert header(play.origin_gets(), "x-finally") == "1"


def test_large_one_that_is_answered_takes_the_next_request(run: Callable[..., Playbook]) -> None:
    """The next request is served after a chunked body that passes the limit and ends in one
    read."""
    play = run("ngx.req.read_body() if not ngx.req.get_body_data() then ngx.exit(403) end",
               hook_body=3)  # fmt: skip
    large = post_chunked() + b"4\r\nbody\r\n0\r\n\r\n"
    play.client_sends(large + post(b"abc")[:-1])
    play.client_sends(b"c" + large + GET)
    assert statuses(play.client_gets()) == [403]
    assert body_of(play.origin_gets()) == b"abc"
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200, 403, 403]


def test_answer_in_the_middle_of_a_read(run: Callable[..., Playbook]) -> None:
    """The rest of the read belongs to the next request, wherever the read ends."""
    strict = "def on_request(request):\n    request.headers['X-Size'] = len(request.body)\n"
    large = post_chunked() + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"
    for after in (post(b"abc")[:-1], post(b"abc")[:-3], post_chunked() + b"2\r\nab\r\n1\r\n"):
        play = run(strict, hook_body=3)
        play.client_sends(large[:-14])
        play.client_sends(large[-14:] + after)
        assert statuses(play.client_gets()) == [413]
        assert play.origins == []
        play.client_sends(b"abc"[2 if b"ab" in after else 0 :])
        if b"chunked" in after:
            play.client_sends(b"\r\n0\r\n\r\n")
        got = play.origin_gets()
        assert header(got, "x-size") == "3"
        assert len(body_of(got)) == 3
        play.origin_sends(OK)
        assert statuses(play.client_gets()) == [200]


def test_answer_in_front_of_one_that_streams(run: Callable[..., Playbook]) -> None:
    """No byte of an answered request's body gets into the next request's body."""
    play = run("ngx.req.read_body() if ngx.var.http_transfer_encoding then ngx.exit(403) end",
               hook_body=3)  # fmt: skip
    play.client_sends(post_chunked() + b"2\r\nab\r\n")
    play.client_sends(b"2\r\ncd\r\n0\r\n\r\n" + post(b"0123456789")[:-4])
    assert statuses(play.client_gets()) == [403]
    assert body_of(play.origin_gets()) == b"012345"
    play.client_sends(b"6789")
    assert play.origin_gets() == b"6789"


def test_thousands_of_bodies_in_a_row(run: Callable[..., Playbook]) -> None:
    """Their handling is a loop and no recursion."""
    play = run(CHECK)
    play.client_sends((post(b"token=no") + post_chunked() + b"1\r\nx\r\n0\r\n\r\n") * 1500)
    assert statuses(play.client_gets()) == [403] * 3000
    assert play.connection.is_idle


# A body of the hook's own.


@pytest.mark.parametrize("code", [UPPER, LUA_UPPER])
@pytest.mark.parametrize(
    "request_of", [post(b"hello"), post_chunked() + b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"]
)
def test_new_body_is_sent_with_its_length(
    run: Callable[..., Playbook], code: str, request_of: bytes
) -> None:
    """The server gets the new body with its length, and no byte of the client's."""
    play = run(code)
    play.client_sends(request_of + request_of)
    for _ in range(2):
        got = play.origin_gets()
        assert body_of(got) == b"HELLO"
        assert header(got, "content-length") == "5"
        assert header(got, "transfer-encoding") is None
        play.origin_sends(OK)
    answer = play.client_gets()
    assert statuses(answer) == [200, 200]
    assert b"Connection" not in answer


def test_new_body_is_sent_again(run: Callable[..., Playbook]) -> None:
    """Each attempt sends it, even if ``retry_buffer`` keeps no body."""
    play = run(UPPER, servers=3, retry_buffer=0)
    play.client_sends(post(b"hello" * 2000, method="PUT"))
    for _ in range(2):
        assert body_of(play.origin_gets()) == b"HELLO" * 2000
        play.origin_breaks()
    assert body_of(play.origin_gets()) == b"HELLO" * 2000
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]


def test_body_that_was_seen_is_sent_again(run: Callable[..., Playbook]) -> None:
    """The client's own body is sent again, too, with its former framing."""
    trailed = post_chunked(method="PUT") + b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
    for request_of in (post(b"hello", method="PUT"), trailed):
        play = run(LUA_SHOW, servers=2, retry_buffer=0)
        play.client_sends(request_of)
        first = body_of(play.origin_gets())
        play.origin_breaks()
        assert body_of(play.origin_gets()) == first
        play.origin_sends(OK)
        assert statuses(play.client_gets()) == [200]


def test_request_without_a_body_can_get_one(run: Callable[..., Playbook]) -> None:
    """A hook can give it a body, and can remove the body of another request."""
    play = run('def on_request(request):\n    request.body = "neu: ä"\n')
    play.client_sends(GET)
    got = play.origin_gets()
    assert (header(got, "content-length"), body_of(got)) == ("7", "neu: ä".encode())
    play.origin_sends(OK)
    play = run("def on_request(request):\n    request.body = b''\n")
    for request_of in (post(b"hello"), post_chunked() + b"5\r\nhello\r\n0\r\n\r\n"):
        play.client_sends(request_of)
        got = play.origin_gets()
        assert (header(got, "content-length"), body_of(got)) == ("0", b"")
        play.origin_sends(OK)
        assert statuses(play.client_gets()) == [200]


@pytest.mark.parametrize("chunked", [False, True])
def test_new_body_for_one_that_is_still_coming(run: Callable[..., Playbook], chunked: bool) -> None:
    """The rest of the client's body is dropped, and never taken for a request."""
    play = run('ngx.req.read_body() ngx.req.set_body_data("new")', hook_body=10)
    begin = post_chunked() + b"14\r\n" if chunked else post(b"x" * 20)[:-20]
    play.client_sends(begin + b"x" * 15)
    got = play.origin_gets()
    assert (header(got, "content-length"), body_of(got)) == ("3", b"new")
    play.client_sends(b"x" * 5 + (b"\r\n0\r\n\r\n" if chunked else b""))
    assert play.origin_gets() == b""
    assert statuses(play.exchange(GET, OK)) == [200]
    assert body_of(play.origin_gets()) == b"new"
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]


def test_reply_before_the_rest_of_such_a_body(run: Callable[..., Playbook]) -> None:
    """The reply goes out at once, and then the connection ends."""
    play = run("ngx.req.discard_body()")
    play.client_sends(post(b"x" * 20)[:-5])
    assert body_of(play.origin_gets()) == b""
    play.origin_sends(OK)
    answer = play.client_gets()
    assert statuses(answer) == [200]
    assert b"Connection: close" in answer


@pytest.mark.parametrize("value", ["None", "1", "['a']", "'\\ud800'"])
def test_what_is_no_body(run: Callable[..., Playbook], value: str) -> None:
    """The assignment raises at once, and the hook may catch it."""
    play = run(
        "def on_request(request):\n"
        "    try:\n"
        f"        request.body = {value}\n"
        "    except ValueError as error:\n"
        "        request.respond(200, str(error))\n"
    )
    play.client_sends(post(b"hello"))
    assert b"expected bytes or text of at most 1048576 bytes" in play.client_gets()


# 100 Continue.


def test_client_is_told_to_go_on(run: Callable[..., Playbook]) -> None:
    """slardar sends the 100 itself, once, and does not ask the server."""
    play = run(CHECK)
    request_of = post(b"token=yes", "Expect: 100-continue")
    for _ in range(2):
        play.client_sends(request_of[:-9])
        assert play.client_gets() == CONTINUE
        assert play.origins == [] or play.origin_gets() == b""
        play.client_sends(b"token=yes")
        assert header(play.origin_gets(), "expect") is None
        play.origin_sends(OK)
        assert statuses(play.client_gets()) == [200]


def test_client_that_does_not_wait_is_not_told(run: Callable[..., Playbook]) -> None:
    """A client whose body has begun to arrive gets no 100 (RFC 9110 10.1.1)."""
    play = run(CHECK)
    play.client_sends(post(b"token=no", "Expect: 100-continue")[:-1])
    assert play.client_gets() == b""
    play.client_sends(b"o")
    assert statuses(play.client_gets()) == [403]


def test_large_body_is_for_the_server_to_ask_for(run: Callable[..., Playbook]) -> None:
    """No hook gets a large body, so the server decides whether it wants it."""
    play = run(ASKS, hook_body=3)
    play.client_sends(post(b"body", "Expect: 100-continue")[:-4])
    assert play.client_gets() == b""
    assert header(play.origin_gets(), "expect") == "100-continue"
    play.origin_sends(CONTINUE)
    assert play.client_gets() == CONTINUE
    play.client_sends(b"body")
    assert play.origin_gets() == b"body"
    # The size of a chunked body is known only later.
    play = run(ASKS, hook_body=3)
    play.client_sends(post_chunked("Expect: 100-continue"))
    assert play.client_gets() == CONTINUE
    play.client_sends(b"4\r\nbody\r\n")
    assert header(play.origin_gets(), "expect") is None


# What can go wrong meanwhile.


def test_body_that_does_not_come(run: Callable[..., Playbook]) -> None:
    """408 after ``client_body``, and nothing is held."""
    play = run(CHECK)
    play.client_sends(post(b"token=yes")[:-1])
    play.pass_time(59)
    assert play.client_gets() == b""
    play.pass_time(2)
    assert statuses(play.client_gets()) == [408]
    assert play.host.bodies.free == bodies.ROOM


@pytest.mark.parametrize(("end", "status"), [("client_ends", 400), ("client_leaves", None)])
def test_client_that_stops(run: Callable[..., Playbook], end: str, status: int | None) -> None:
    """No hook sees half of a body, and no byte of it is held."""
    for request_of in (post(b"token=yes")[:-1], post_chunked() + b"9\r\ntoken=yes\r\n"):
        play = run(CHECK)
        play.client_sends(request_of)
        assert play.host.bodies.free < bodies.ROOM
        getattr(play, end)()
        assert statuses(play.client_gets()) == ([status] if status else [])
        assert play.host.bodies.free == bodies.ROOM
        assert play.host.began == []


def test_malformed_and_endless_bodies(run: Callable[..., Playbook]) -> None:
    """They are refused as without hooks."""
    for rest, status in ((b"zz\r\n", 400), (b"ffffff\r\n" + b"x" * 20, 413)):
        play = run(CHECK, max_body=10)
        play.client_sends(post_chunked() + rest)
        assert statuses(play.client_gets()) == [status]
        assert play.host.bodies.free == bodies.ROOM


def test_hooks_that_go_while_a_body_comes(run: Callable[..., Playbook]) -> None:
    """The request goes on without hooks, with its body."""
    play = run(CHECK)
    play.client_sends(post(b"token=no")[:-1])
    play.host.hooks = None
    play.client_sends(b"o")
    assert body_of(play.origin_gets()) == b"token=no"
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]


def test_no_upstream_for_a_body_that_is_here(run: Callable[..., Playbook]) -> None:
    """502, and the connection goes on."""
    play = run(LUA_SHOW, servers=0)
    with logged():
        play.client_sends(post(b"hello") + post(b"hello"))
    answer = play.client_gets()
    assert statuses(answer) == [502, 502]
    assert b"Connection" not in answer


# Room.


def test_slowest_are_given_up(run: Callable[..., Playbook]) -> None:
    """If there is no room for all, the bodies that began first are given up; clients that send
    at once never lose theirs."""
    room = BodyRoom(10_000)
    with ExitStack() as stack:
        plays = []
        for _ in range(20):
            play = run(LUA_SHOW)
            play.host.bodies = room
            plays.append(play)
            play.client_sends(post(b"x" * 1000)[:-1])
            fast = run(LUA_SHOW)
            fast.host.bodies = room
            fast.client_sends(post(b"x" * 5000))
            assert header(fast.origin_gets(), "x-size") == "5000"
        assert room.free >= 0
        given_up = [statuses(play.client_gets()) for play in plays]
        kept = given_up.index([])
        assert 0 < kept < 20
        assert given_up == [[503]] * kept + [[]] * (20 - kept)
        for play in plays[kept:]:
            play.client_sends(b"x")
            assert header(play.origin_gets(), "x-size") == "1000"
        stack.close()
    assert (room.free, len(room)) == (10_000, 0)


def test_one_that_finds_no_room_at_all(run: Callable[..., Playbook]) -> None:
    """A body that is larger than the room is given up itself."""
    play = run(LUA_SHOW)
    play.host.bodies = BodyRoom(100)
    play.client_sends(post(b"x" * 1000))
    assert statuses(play.client_gets()) == [503]
    assert play.host.bodies.free == 100


def test_room_is_counted_right() -> None:
    """The count is right after bodies are added, ended and given up in any order."""

    class Owner:
        def __init__(self) -> None:
            self.body: Any = None
            self.given_up = False

        def give_up_body(self) -> None:
            self.given_up = True

    room = BodyRoom(1000)
    alive: list[Owner] = []
    held: dict[int, int] = {}
    sizes = itertools.cycle((1, 70, 300, 0, 450, 33))
    for step in range(2000):
        if step % 3 == 0:
            owner = Owner()
            owner.body = WaitingBody(room, owner, 400, -1)
            alive.append(owner)
            held[id(owner)] = 0
        owner = alive[step * 7 % len(alive)]
        size = next(sizes)
        owner.body.add(b"x" * size)
        if owner.body.is_large:
            owner.given_up = True
            owner.body.end()
        else:
            held[id(owner)] += size
        if step % 5 == 0 and not owner.given_up:
            assert len(owner.body.take()) == held[id(owner)]
            owner.body.end()
            owner.given_up = True
        alive = [one for one in alive if not one.given_up]
        assert room.free == 1000 - sum(held[id(one)] for one in alive)
        assert room.free >= 0
        if not alive:
            alive.append(Owner())
            alive[0].body = WaitingBody(room, alive[0], 400, -1)
            held[id(alive[0])] = 0


def test_pieces_of_a_byte_take_no_more_room(run: Callable[..., Playbook]) -> None:
    """One object holds all pieces of a body."""

    class Owner:
        def give_up_body(self) -> None:
            raise AssertionError

    body = WaitingBody(BodyRoom(), Owner(), 65536, -1)
    tracemalloc.start()
    for _ in range(60_000):
        body.add(b"x")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 100_000


def test_body_behind_a_request_under_way(run: Callable[..., Playbook]) -> None:
    """A client that sends too far ahead of its replies is paused, and read again when its next
    request needs the rest of its body."""
    play = run(LUA_SHOW)
    play.client_sends(get("/"))
    body = b"x" * 60_000
    whole = post(body)
    play.client_sends(whole[:20_000])
    assert play.client.paused
    play.origin_gets()
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]
    assert not play.client.paused
    play.client_sends(whole[20_000:])
    assert header(play.origin_gets(), "x-size") == "60000"
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]


def test_body_is_in_one_account_or_the_other(run: Callable[..., Playbook]) -> None:
    """It takes room among the waiting bodies until hooks have seen the request; from then on
    the request holds it."""
    play = run(LUA_SHOW)
    room, connection = play.host.bodies, play.connection
    play.client_sends(post(b"x" * 5000)[:-1])
    assert (room.held, connection.held) == (4999, 0)
    steps: list[Any] = []
    play.client.put_off = lambda step, key="": steps.append(step) or True
    play.host.begin_with = begin_later(play)
    play.client_sends(b"x")
    assert (room.held, connection.held) == (5000, 0)
    (step,) = steps
    step()
    assert (room.held, connection.held) == (0, 5000)
    play.origin_gets()
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]
    assert (room.held, connection.held) == (0, 0)


def test_one_that_waits_for_hooks_may_be_given_up(run: Callable[..., Playbook]) -> None:
    """A body may be given up while its request waits for its turn; the turn then does nothing."""
    play = run(LUA_SHOW)
    play.host.bodies = BodyRoom(6000)
    steps: list[Any] = []
    play.client.put_off = lambda step, key="": steps.append(step) or True
    play.host.begin_with = begin_later(play)
    play.client_sends(post(b"x" * 5000))
    other = run(LUA_SHOW)
    other.host.bodies = play.host.bodies
    other.client_sends(post(b"x" * 5000))
    assert statuses(play.client_gets()) == [503]
    (step,) = steps
    step()
    assert not play.client_gets()
    assert header(other.origin_gets(), "x-size") == "5000"
    assert play.host.bodies.free == 6000


def begin_later(play: Playbook) -> Callable[..., None]:
    """Begin a request whose body has arrived, as a data plane does: in the hooks' turn."""
    begin = play.host.begin_with

    def put_off(downstream: Any, request: Any, body: Any, channel: Any) -> None:
        def step() -> None:
            if downstream.waits_for(request):
                exchange = begin(downstream, request, body)
                if exchange is not None:
                    downstream.begun(exchange)
            else:
                assert body.data is None, "nobody holds what was given up"

        channel.put_off(step)

    return put_off
