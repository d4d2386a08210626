"""Headers that a script sets wait in Lua for the end of the call, and nobody can tell."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.script import HookFailure
from tests.hooks.lua.helpers import failure, make_engine, make_request, run, said

#: From the second time on a name is known, and its header waits.
KNOWN = "ngx.req.set_header('X-A', '0') ngx.req.set_header('X-B', '0') "


def pairs(request: Any) -> list[tuple[str, str]]:
    """The headers whose names begin with X-."""
    return [pair for pair in request.headers.items() if pair[0].lower().startswith("x-")]


def test_set_at_the_end(engine: Any) -> None:
    """When the script has ended, the headers are set, each with its last value."""
    code = KNOWN + "for i = 1, 5 do ngx.req.set_header('X-A', 'v' .. i) end"
    assert pairs(run(engine, code)) == [("X-A", "v5"), ("X-B", "0")]


def test_each_way_to_end(engine: Any) -> None:
    """A script that ends early, and lets the request go on, has set what it set before."""
    for end in ("return", "ngx.exit(ngx.OK)", "pcall(error) ngx.exit(ngx.DECLINED)"):
        code = f"{KNOWN} ngx.req.set_header('X-B', 'b') do {end} end ngx.req.set_header('X-B', 'c')"
        assert pairs(run(engine, code)) == [("X-A", "0"), ("X-B", "b")]


@pytest.mark.parametrize(
    "read",
    [
        "ngx.req.get_headers()['x-a']",
        "ngx.var.http_x_a",
    ],
)
def test_reads_see_it(engine: Any, read: str) -> None:
    """Every function that reads headers sees what was set before."""
    code = KNOWN + f"ngx.req.set_header('X-A', 'seen') ngx.say({read})"
    assert said(engine, code) == "seen"


def test_order(engine: Any) -> None:
    """Headers are set, cleared, and set with several values in this order."""
    code = KNOWN + (
        "ngx.req.set_header('X-A', '1') ngx.req.clear_header('X-A')"
        " ngx.req.set_header('X-B', '1') ngx.req.set_header('X-B', {'2', '3'})"
        " ngx.req.set_header('X-A', '4')"
    )
    assert sorted(pairs(run(engine, code))) == [("X-A", "4"), ("X-B", "2"), ("X-B", "3")]


def test_wrong_values(engine: Any) -> None:
    """A value is escaped, or removes the header, even if the name is known.

    A value that may not be set raises at the line of the script.
    """
    for value, wanted in (
        (r"'a\nX-C: b'", ("X-A", "a%0AX-C: b")),
        (r"'\0'", ("X-A", "%00")),
        ("'x'..string.char(127)", ("X-A", "x%7F")),
        ("''", None),
        ("{'', ''}", None),
    ):
        request = run(engine, f"{KNOWN}\nngx.req.set_header('X-A', {value})")
        assert pairs(request) == [*([wanted] if wanted else []), ("X-B", "0")]
    for name in ("Host", "hOST"):
        code = f"ngx.req.set_header('{name}', 'a.test')\nngx.req.set_header('{name}', 'a b')"
        assert failure(engine, code)[1].startswith("script.x: line 2: host: ")


def test_failure_leaves_nothing(engine: Any) -> None:
    """What a failed script has set reaches neither its request nor the next one."""
    request = make_request()
    script = engine.load(
        "script.x",
        KNOWN
        + "if ngx.req.get_method() == 'PUT' then ngx.req.set_header('X-A', 'bad') error() end",
        {},
    )
    script.on_request(make_request())
    with pytest.raises(HookFailure):
        script.on_request(make_request(method="PUT"))
    script.on_request(request)
    assert pairs(request) == [("X-A", "0"), ("X-B", "0")]


def test_many(engine: Any) -> None:
    """More headers than may wait are set, too."""
    code = "for k = 1, 2 do for i = 1, 100 do ngx.req.set_header('X-' .. i, k .. 'v' .. i) end end"
    assert pairs(run(engine, code)) == [(f"X-{i}", f"2v{i}") for i in range(1, 101)]
    code = KNOWN + "for i = 1, 9 do ngx.req.set_header('X-A', ('x'):rep(1000) .. i) end"
    assert pairs(run(engine, code)) == [("X-A", "x" * 1000 + "9"), ("X-B", "0")]


def test_no_room(engine: Any) -> None:
    """If a request has no room left, an error is raised at the script's line, which may catch
    it."""
    run(engine, KNOWN)
    full = tuple(f"N{number}: 1" for number in range(255))
    code = "ngx.req.set_header('X-A', '1')\nngx.req.set_header('X-B', '1')"
    with pytest.raises(HookFailure, match="line 2: expected at most 256 headers"):
        run(engine, code, make_request(headers=full))
    large = tuple(f"N{number}: {'x' * 8180}" for number in range(8))
    with pytest.raises(HookFailure, match="line 1: expected headers of at most 65536 bytes"):
        run(engine, code.replace("'1'", "('1'):rep(60)"), make_request(headers=large))
    caught = "ngx.req.set_header('X-A', '1') ngx.say(pcall(ngx.req.set_header, 'X-B', '1'))"
    assert said(engine, caught, make_request(headers=full)).startswith("false")


def test_method(engine: Any) -> None:
    """The method is the request's, and then what the script has set."""
    code = (
        "ngx.print(ngx.req.get_method()) ngx.req.set_method(ngx.HTTP_PUT) ngx.say(ngx.get_method())"
    )
    for method in ("GET", "POST", "HEAD"):
        assert said(engine, code, make_request(method=method)) == f"{method}PUT"


def test_environment(engine: Any) -> None:
    """A call finds no global of another call, and _G is its own."""
    for way in (
        "x = 1",
        "_G.x = 1",
        "rawset(_G, 'x', 1)",
        "getfenv().x = 1",
        "rawset(getfenv(), 'x', 1)",
    ):
        script = engine.load(
            "script.x", f"if x or rawget(_G, 'x') then ngx.say('seen') end {way}", {}
        )
        for _ in range(3):
            request = make_request()
            script.on_request(request)
            assert request.answer is None
    assert (
        said(engine, "y = 1 ngx.say(_G.y, _G._G == _G, getfenv() == _G, rawget(_G, 'y'))")
        == "1truetrue1"
    )


def test_limit_follows_use() -> None:
    """A call may take its memory, however what is in use has changed between calls."""
    engine = make_engine()
    large = engine.load(
        "script.x", "local s = ('x'):rep(1048576) local t = {s .. 1, s .. 2, s .. 3}", {}
    )
    small = engine.load("script.y", "local t = {} for i = 1, 200 do t[i] = 'y' .. i end", {})
    greedy = engine.load(
        "script.z",
        "local s = ('z'):rep(1048576) local t = {} for i = 1, 9 do t[i] = s .. i end",
        {},
    )
    for _ in range(20):
        large.on_request(make_request())
        small.on_request(make_request())
        with pytest.raises(HookFailure, match="at most 8 MiB of memory"):
            greedy.on_request(make_request())
        engine.runtime.collect()


def test_call_that_only_python_saw_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may run out of its budget after the script has returned.

    The next call gets nothing of what that call had set or kept.
    """
    engine = make_engine()

    def recovers(api: Any) -> float:
        engine.runtime._recover()
        return 1.1

    monkeypatch.setattr("slardar.hooks.lua.api.Api.http_version", recovers)
    engine = make_engine()
    run(engine, KNOWN)
    request = run(engine, "ngx.ctx.x = 1 ngx.req.set_header('X-A', 'lost') ngx.req.http_version()")
    assert pairs(request) == []
    request = run(engine, "ngx.req.set_header('X-B', tostring(ngx.ctx.x))")
    assert pairs(request) == [("X-B", "nil")]


#: A value that is another one in each request.
NEW = "ngx.req.set_header('X-A', ngx.var.arg_x)"


@pytest.mark.parametrize(
    ("code", "numbers"),
    [
        ("ngx.req.set_header('X-A', 'a')", 1),
        ("ngx.req.set_header('x-two', ' a ')", 1),
        ("ngx.req.set_header('X-A', ngx.var.arg_y)", 2),
        (NEW, 16),
        ("ngx.req.set_header('X-A', 'a') ngx.req.set_header('X-B', 'b')", 0),
        ("ngx.req.set_header('X-Forwarded-For', '192.0.2.1')", 0),
        (f"ngx.req.set_header('X-A', '{'a' * 189}')", 1),
        (f"ngx.req.set_header('X-A', '{'a' * 190}')", 0),
    ],
)
def test_numbers(engine: Any, code: str, numbers: int) -> None:
    """Lua returns a header with a value that it has returned before as a number, and the request
    is what a new script makes of it."""
    script = engine.load("script.x", code, {})
    for number in range(40):
        asked, same = (
            make_request(f"/?x={number}&y={number % 2}", headers=("X-Two: 1", "A: b", "x-two: 2"))
            for _ in range(2)
        )
        script.on_request(asked)
        run(engine, code, same)
        assert asked.headers.items() == same.headers.items()
        assert asked.headers_changed
    assert len(script._learned) == numbers


def test_numbers_are_known_once(engine: Any) -> None:
    """A header with a number waits, is seen, replaced, and lost with a failure like any other."""
    script = engine.load(
        "script.x",
        "ngx.req.set_header('X-A', 'a') local what = ngx.var.arg_what"
        " if what == 'more' then ngx.req.set_header('X-A', 'b') ngx.req.set_header('X-B', 'c')"
        " elseif what == 'clear' then ngx.req.clear_header('X-A')"
        " elseif what == 'fail' then error('x') elseif what == 'end' then ngx.exit(ngx.OK)"
        " elseif what == 'global' then made = 1 end",
        {},
    )
    quick = engine.load(
        "script.x",
        "local method = ngx.req.get_method() ngx.req.set_header('X-A', 'a')"
        " if method == 'PUT' then ngx.req.set_header('X-B', 'b') end",
        {},
    )
    late = engine.load(
        "script.x",
        "local method = ngx.req.get_method() if method == 'PUT' then error('x') end"
        " ngx.req.set_header('X-C', 'c') if method == 'POST' then error('y') end",
        {},
    )
    for _ in range(5):
        for what, wanted in (
            ("", [("X-A", "a")]),
            ("more", [("X-A", "b"), ("X-B", "c")]),
            ("clear", []),
            ("end", [("X-A", "a")]),
            ("fail", None),
            ("global", [("X-A", "a")]),
        ):
            asked = make_request(f"/?what={what}")
            if wanted is None:
                with pytest.raises(HookFailure, match="x"):
                    script.on_request(asked)
            else:
                script.on_request(asked)
                assert pairs(asked) == wanted
        for method, wanted in (
            ("GET", [("X-A", "a")]),
            ("PUT", [("X-A", "a"), ("X-B", "b")]),
            ("GET", [("X-A", "a")]),
        ):
            asked = make_request(method=method)
            quick.on_request(asked)
            assert pairs(asked) == wanted
        for method in ("GET", "PUT", "GET", "POST"):
            asked = make_request(method=method)
            if method == "GET":
                late.on_request(asked)
                assert pairs(asked) == [("X-C", "c")]
            else:
                with pytest.raises(HookFailure):
                    late.on_request(asked)
                assert pairs(asked) == []
    assert quick._learned == [(b"x-a", b"\r\nX-A: a")]
    assert late._learned == [(b"x-c", b"\r\nX-C: c")]


@pytest.mark.parametrize("rest", ["", "made = 1", "ngx.exit(ngx.OK)", "pcall(error)"])
def test_number_is_learned_once_whatever_the_end(engine: Any, rest: str) -> None:
    """Also where the end of a call has more to do, Lua tells the number and not the header."""
    script = engine.load("script.x", f"ngx.req.set_header('X-A', 'a') {rest}", {})
    for _ in range(5):
        asked = make_request()
        script.on_request(asked)
        assert pairs(asked) == [("X-A", "a")]
    assert script._learned == [(b"x-a", b"\r\nX-A: a")]


def test_number_in_a_full_head(engine: Any) -> None:
    """Where the head may have no room, the header is set at once, and is refused at its line."""
    script = engine.load("script.x", "ngx.req.set_header('X-A', 'a')", {})
    for _ in range(3):
        script.on_request(make_request())
    full = make_request(headers=tuple(f"X: {number}" for number in range(256)))
    with pytest.raises(HookFailure, match="line 1: expected at most 256 headers"):
        script.on_request(full)
    assert not full.headers_changed
    script.on_request(almost := make_request(headers=tuple(f"X: {n}" for n in range(255))))
    assert almost.headers["x-a"] == "a"
