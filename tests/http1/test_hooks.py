"""Requests that hooks answer or change, and replies that they change, on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from slardar.config import Hooks
from slardar.hooks.runner import Runner
from slardar.hooks.script import HookFailure
from slardar.model.networks import Networks
from slardar.testing.playbook import Playbook
from tests.dataplane.kit import logged
from tests.hooks.kit import Action, FakeEngine, hook, hooks
from tests.http1.lines import (
    CHUNKED_OK,
    CONTINUE,
    GET,
    GET_10,
    GET_10_KEPT,
    OK,
    SWITCHING,
    UPGRADE,
    body_of,
    get,
    paths,
    post,
    post_chunked,
    reply,
    statuses,
)

HEAD = GET.replace(b"GET", b"HEAD", 1)
NewPlay = Callable[..., Playbook]


def runner(request: Action | None = None, response: Action | None = None, **rest: Any) -> Runner:
    """A runner of one script, with one action for requests and one for replies."""
    actions = {"request": request, "reply:response": response}
    engine = FakeEngine(actions={name: action for name, action in actions.items() if action})
    made = Runner(Hooks(**rest), lambda: 0.0, engines=lambda *_: engine)
    made.load(hooks(hook("script.*", " ".join(engine.actions.keys() & actions.keys()))))
    return made


def rejecting(path: str = "/no", status: int = 403) -> Runner:
    """Answers requests for ``path`` and for /in, and lets other requests go on."""
    return runner(
        lambda request, _: request.reject(status) if request.path in (path, "/in") else None
    )


def changing(**values: Any) -> Runner:
    """Sets attributes of every request."""

    def action(request: Any, _: Any) -> None:
        for name, value in values.items():
            setattr(request, name, value)

    return runner(action)


# Requests that are answered.


def test_answer_keeps_the_connection(new_play: NewPlay) -> None:
    """The answer ends a request without a body; no server gets the request."""
    play = new_play(hooks=rejecting())
    play.client_sends(get("/no", "Accept: application/json"))
    got = play.client_gets()
    assert statuses(got) == [403]
    assert b"Connection:" not in got
    assert json.loads(body_of(got)) == {"status": 403, "msg": "Forbidden"}
    assert play.origins == []
    assert statuses(play.exchange(get("/yes"), OK)) == [200]
    assert play.host.refusals == 1


def test_answers_in_a_pipeline_are_in_order(new_play: NewPlay) -> None:
    """Answers stand in order before, between and after replies of a server."""
    play = new_play(hooks=rejecting())
    play.client_sends(get("/no") + get("/1") + get("/no") + get("/no") + get("/2") + get("/no"))
    assert statuses(play.client_gets()) == [403]
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200, 403, 403]
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200, 403]
    assert paths(b"".join(play.origin_gets(n) for n in range(len(play.origins)))) == [b"/1", b"/2"]


def test_thousands_of_answers_in_a_row(new_play: NewPlay) -> None:
    """Their handling is a loop and no recursion."""
    play = new_play(hooks=rejecting())
    play.client_sends(get("/no") * 3000)
    assert statuses(play.client_gets()) == [403] * 3000
    assert play.connection.is_idle


@pytest.mark.parametrize(
    "request_of",
    [
        post(b"body"), post(b"x" * 60_000), post(b"body", "Expect: 100-continue"),
        post_chunked() + b"4\r\nbody\r\n0\r\n\r\n",
        post_chunked() + b"4;a=b\r\nbody\r\n3\r\nxyz\r\n0\r\nX: trailer\r\n\r\n",
    ],
)  # fmt: skip
def test_answer_to_a_body_that_is_here_keeps_the_connection(
    new_play: NewPlay, request_of: bytes
) -> None:
    """The body is dropped, and the bytes after it are the next request."""
    play = new_play(hooks=rejecting())
    play.client_sends(request_of + get("/next") + request_of + GET)
    assert statuses(play.client_gets()) == [403]
    play.origin_sends(OK)
    got = play.client_gets()
    assert statuses(got) == [200, 403]
    assert b"Connection: close" not in got
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]
    assert paths(play.origin_gets()) == [b"/next", b"/"]
    assert len(play.origins) == 1


@pytest.mark.parametrize(
    "request_of",
    [
        post(b"body")[:-1], post(b"body", "Expect: 100-continue")[:-4], post_chunked(),
        post_chunked() + b"4\r\nbody\r\n", post_chunked() + b"4\r\nbody\r\n0\r\n",
        post_chunked() + b"4\r\nbodyX\r\n0\r\n\r\n", post_chunked() + b"zz\r\n",
    ],
)  # fmt: skip
def test_answer_to_a_body_that_is_coming_ends_the_connection(
    new_play: NewPlay, request_of: bytes
) -> None:
    """The rest is read and dropped for a while, and never taken for a request."""
    play = new_play(hooks=rejecting())
    play.client_sends(request_of)
    got = play.client_gets()
    assert statuses(got) == [403]
    assert b"Connection: close" in got
    assert b"100 Continue" not in got
    play.client_sends(b"y" + GET)
    assert play.client_gets() == b""
    assert play.client.finished
    assert len(play.host.began) == 1
    play.pass_time(6)
    assert play.client.closed


def test_answer_to_a_body_that_comes_bytewise(new_play: NewPlay) -> None:
    """The connection ends unless the whole body has arrived with the end of the head."""
    play = new_play(hooks=rejecting())
    play.client_sends_bytewise(post(b"body"))
    got = play.client_gets()
    assert statuses(got) == [403]
    assert b"Connection: close" in got


def test_body_that_is_too_large_is_refused_before_hooks_see_it(new_play: NewPlay) -> None:
    """It is refused as without hooks."""
    play = new_play(hooks=rejecting(), max_body=3)
    play.client_sends(post(b"body"))
    assert statuses(play.client_gets()) == [413]
    assert play.host.began == []


def test_answer_to_a_client_that_wants_to_go(new_play: NewPlay) -> None:
    """The answer has ``Connection: close``, and the connection closes."""
    play = new_play(hooks=rejecting())
    play.client_sends(get("/no", "Connection: close"))
    assert b"Connection: close" in play.client_gets()
    assert play.client.closed


def test_answer_while_draining(new_play: NewPlay) -> None:
    """The answer is the last on its connection, with or without a body."""
    play = new_play(hooks=rejecting(), draining=True)
    play.client_sends(post(b"body"))
    got = play.client_gets()
    assert statuses(got) == [403]
    assert b"Connection: close" in got
    assert play.client.finished


@pytest.mark.parametrize(("request_of", "kept"), [(GET_10, False), (GET_10_KEPT, True)])
def test_answer_to_http_10(new_play: NewPlay, request_of: bytes, kept: bool) -> None:
    """The answer has its length, and the connection is kept only if the client asked for it."""
    play = new_play(hooks=runner(lambda request, _: request.respond(200, "hi")))
    play.client_sends(request_of)
    got = play.client_gets()
    assert b"\r\nContent-Length: 2\r\n" in got
    assert body_of(got) == b"hi"
    assert (b"Connection: keep-alive" in got) is kept
    assert play.client.closed is not kept


def test_answer_to_head(new_play: NewPlay) -> None:
    """Only the head is sent, with the length that the body would have."""
    play = new_play(hooks=runner(lambda request, _: request.respond(200, "hello", {"X-A": "1"})))
    play.client_sends(HEAD + GET)
    head, rest = play.client_gets().split(b"\r\n\r\n", 1)
    assert b"\r\nContent-Length: 5" in head
    assert statuses(rest) == [200]
    assert body_of(rest) == b"hello"


@pytest.mark.parametrize("status", [204, 304])
def test_answer_without_a_body(new_play: NewPlay, status: int) -> None:
    """No body is sent, whatever the hook gave: the next reply is where the client expects it."""
    play = new_play(hooks=runner(lambda request, _: request.respond(status, "hello")))
    play.client_sends(GET + GET)
    first, second, rest = play.client_gets().split(b"\r\n\r\n")
    assert (statuses(first), statuses(second), rest) == ([status], [status], b"")
    assert b"Content-Length" not in first


def test_redirect(new_play: NewPlay) -> None:
    """The target becomes exactly one header, whatever text the hook gave."""
    play = new_play(hooks=runner(lambda request, _: request.redirect("/x" + request.uri, 301)))
    play.client_sends(get("/a%0d%0aX:y?z"))
    got = play.client_gets()
    assert statuses(got) == [301]
    assert b"\r\nLocation: /x/a%0d%0aX:y?z\r\n" in got
    assert b"\r\nContent-Length: 0\r\n" in got


def test_big_answer_to_a_client_that_takes_nothing(new_play: NewPlay) -> None:
    """Only one answer waits, and the next request waits until it is taken."""
    play = new_play(hooks=runner(lambda request, _: request.respond(200, b"x" * 200_000)))
    play.client.stall()
    play.client_sends(GET * 5)
    assert len(play.host.began) == 1
    play.client_drains()
    assert statuses(play.client_gets()) == [200] * 5


def test_broken_hook_is_a_500(new_play: NewPlay) -> None:
    """The reply gives no details, and has the form that the client accepts."""

    def fails(request: Any, _: Any) -> None:
        raise RuntimeError("secret")

    with logged():
        play = new_play(hooks=runner(fails))
        play.client_sends(get("/", "Accept: text/html"))
    got = play.client_gets()
    assert statuses(got) == [500]
    assert b"a hook failed" in got
    assert b"secret" not in got
    assert b"Content-Type: text/html" in got


# No reply at all.


def test_444_closes_without_a_reply(new_play: NewPlay) -> None:
    """Replies before it are still sent."""
    play = new_play(hooks=rejecting(status=444))
    assert statuses(play.exchange(get("/1") + get("/no") + get("/2"), OK)) == [200]
    assert play.client.closed
    assert len(play.host.began) == 2


@pytest.mark.parametrize("request_of", [post(b"body"), post(b"body")[:-1], post_chunked(), GET_10])
def test_444_with_a_body(new_play: NewPlay, request_of: bytes) -> None:
    """A body that has arrived or is arriving is not read."""
    play = new_play(hooks=runner(lambda request, _: request.reject(444)))
    play.client_sends(request_of)
    assert play.client_gets() == b""
    assert play.client.closed


def test_444_behind_a_reply_that_is_not_taken(new_play: NewPlay) -> None:
    """The reply before it goes out first, in its own time."""
    play = new_play(hooks=rejecting(status=444))
    play.client_sends(get("/1"))
    play.client.stall()
    play.origin_sends(reply(b"x" * 60_000))
    play.client_sends(get("/no"))
    assert not play.client.closed
    play.client_drains()
    assert len(body_of(play.client_gets())) == 60_000
    assert play.client.closed


def test_444_instead_of_a_reply(new_play: NewPlay) -> None:
    """This also works when a server has sent a reply already."""
    play = new_play(hooks=runner(None, lambda request, response: request.reject(444)))
    assert play.exchange(GET, OK) == b""
    assert play.client.closed
    assert play.origin.closed


# Requests that are changed.


def test_changed_request_is_what_the_server_gets(new_play: NewPlay) -> None:
    """The server gets the new method, target, Host and headers, and the client's body."""

    def action(request: Any, _: Any) -> None:
        request.method, request.path, request.host = "PUT", "/new", "b.test"
        request.headers["X-A"] = "1"
        request.headers.remove("Accept")

    play = new_play(hooks=runner(action))
    play.client_sends(post(b"body", "Accept: */*"))
    got = play.origin_gets()
    assert got.startswith(b"PUT /new HTTP/1.1\r\nHost: b.test\r\n")
    assert b"\r\nX-A: 1\r\n" in got
    assert b"Accept" not in got
    assert b"\r\nX-Forwarded-Host: a.test\r\n" in got
    assert b"\r\nContent-Length: 4\r\n" in got
    assert body_of(got) == b"body"
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]


WHO = {
    "python/script.*": """
def on_request(request):
    seen = request.headers
    request.headers["X-Seen"] = "|".join([request.client, seen.get("X-Forwarded-For", "-"),
        seen.get("X-Forwarded-Proto", "-"), seen.get("X-Real-IP", "-"), seen.get("Forwarded", "-")])
""",
    "lua/script.*": """
local var = ngx.var
ngx.req.set_header("X-Seen", table.concat({var.remote_addr, var.http_x_forwarded_for or "-",
    var.http_x_forwarded_proto or "-", var.http_x_real_ip or "-", var.http_forwarded or "-"}, "|"))
ngx.req.set_header("X-Peer", var.realip_remote_addr .. " " .. var.proxy_add_x_forwarded_for)
""",
}


@pytest.mark.parametrize("name", WHO)
def test_whom_a_hook_sees(new_play: NewPlay, name: str) -> None:
    """Hooks of both languages see the believed client, and what is believed of the headers."""
    made = Runner(Hooks(), lambda: 0.0)
    made.load(hooks(hook(name, WHO[name])))
    play = new_play(hooks=made)
    lines = ("X-Forwarded-For: 6.6.6.6, 1.1.1.1", "X-Forwarded-Proto: https",
             "X-Real-IP: 1.1.1.1", "Forwarded: for=6.6.6.6")  # fmt: skip
    for trusted, seen in (
        ((), b"192.0.2.7|6.6.6.6, 1.1.1.1|-|-|-"),
        (("192.0.2.7",), b"1.1.1.1|6.6.6.6, 1.1.1.1|https|1.1.1.1|for=6.6.6.6"),
    ):
        play.host.trusted = Networks(trusted)
        play.client_sends(get("/a", *lines))
        got = play.origin_gets()
        assert b"\r\nX-Seen: " + seen + b"\r\n" in got
        if name.startswith("lua"):
            peer = b"192.0.2.7 6.6.6.6, 1.1.1.1, 192.0.2.7"
            assert b"\r\nX-Peer: " + peer + b"\r\n" in got
        play.origin_sends(OK)


def test_what_a_hook_says_of_the_client(new_play: NewPlay) -> None:
    """A hook may set these headers for anybody; slardar's Forwarded tells the client's Host."""

    def action(request: Any, _: Any) -> None:
        request.host = "b.test"
        request.headers["X-Real-IP"] = request.client
        request.headers["X-Forwarded-Proto"] = "https"
        request.headers["Forwarded"] = "for=9.9.9.9"

    play = new_play(hooks=runner(action), sends_forwarded=True)
    play.client_sends(get("/a", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6"))
    lines = play.origin_gets().split(b"\r\n")
    assert {
        b"Host: b.test",
        b"X-Real-IP: 192.0.2.7",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: a.test",
        b"Forwarded: for=9.9.9.9, for=192.0.2.7;proto=http;host=a.test",
    } <= set(lines)
    assert b"6.6.6.6" not in b"".join(lines)


def test_retry_sends_what_the_hook_made_of_it(new_play: NewPlay) -> None:
    """The next server gets the changed request; the hook is not asked again."""
    calls: list[str] = []

    def action(request: Any, _: Any) -> None:
        calls.append(request.path)
        request.path = "/new"
        request.headers.add("X-A", "1")

    play = new_play(2, hooks=runner(action))
    play.client_sends(get("/old"))
    play.origin_breaks()
    assert len(play.origins) == 2
    for number in (0, 1):
        got = play.origin_gets(number)
        assert paths(got) == [b"/new"]
        assert got.count(b"X-A: 1") == got.count(b"X-Forwarded-For") == 1
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]
    assert calls == ["/old"]


def test_method_of_the_hook_decides_whether_it_is_tried_again(new_play: NewPlay) -> None:
    """A server that got a POST may have acted on it."""
    play = new_play(2, hooks=changing(method="POST"))
    play.client_sends(GET)
    assert b"\r\nContent-Length: 0\r\n" in play.origin_gets()
    play.origin_breaks()
    assert statuses(play.client_gets()) == [502]
    again = new_play(2, hooks=changing(method="PUT"))
    again.client_sends(post(b"body"))
    again.origin_breaks()
    assert body_of(again.origin_gets()) == b"body"
    again.origin_sends(OK)
    assert statuses(again.client_gets()) == [200]


REPLIES = [
    (reply(b"hello"), b"hello", False),
    (CHUNKED_OK + b"5\r\nhello\r\n0\r\n\r\n", b"hello", False),
    (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    (reply(b"x" * 200_000), b"x" * 200_000, False),
    (CHUNKED_OK + b"".join(b"4000\r\n%b\r\n" % (b"y" * 0x4000) for _ in range(20)) + b"0\r\n\r\n",
     b"y" * 0x4000 * 20, False),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "body", "ends"), REPLIES)
@pytest.mark.parametrize("piecewise", [False, True])
def test_client_that_asked_for_a_head_gets_no_body(
    new_play: NewPlay, sent: bytes, body: bytes, ends: bool, piecewise: bool
) -> None:
    """This holds although the hook makes it a GET for the server: the next reply is in its
    place."""
    play = new_play(hooks=changing(method="GET"))
    play.client_sends(HEAD)
    assert play.origin_gets().startswith(b"GET / ")
    size = 777 if piecewise else len(sent)
    for start in range(0, len(sent), size):
        play.origin_sends(sent[start : start + size])
    if ends:
        play.origin_ends()
    got = play.client_gets()
    assert statuses(got) == [200]
    assert body_of(got) == b""
    assert b"Transfer-Encoding" not in got
    assert b"Connection: close" not in got
    if b"Content-Length" in sent:
        assert b"\r\nContent-Length: %d\r\n" % len(body) in got
    assert play.exchange(GET, OK).endswith(b"\r\n\r\nhi")
    assert all(peer.live.active == 0 for peer in play.selection.peers)


@pytest.mark.parametrize("length", [None, 5, 0])
def test_client_that_asked_for_all_gets_an_empty_body(
    new_play: NewPlay, length: int | None
) -> None:
    """This holds if the hook makes it a HEAD for the server; the client does not wait for more."""
    play = new_play(hooks=changing(method="HEAD"))
    play.client_sends(GET)
    assert play.origin_gets().startswith(b"HEAD / ")
    lines = "" if length is None else f"Content-Length: {length}\r\n"
    play.origin_sends(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())
    got = play.client_gets()
    assert b"\r\nContent-Length: 0\r\n" in got
    assert got.count(b"Content-Length") == 1
    got = play.exchange(GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert b"\r\nContent-Length: 0\r\n" in got
    assert b"Transfer-Encoding" not in got
    assert len(play.origins) == 1, "the server's connection is kept"


def test_upgrade_with_hooks(new_play: NewPlay) -> None:
    """A hook sees the request; from the 101 on no hook sees anything."""
    seen: list[Any] = []

    def action(request: Any, _: Any) -> None:
        seen.append(request.headers["upgrade"])
        request.headers["X-A"] = "1"

    play = new_play(hooks=runner(action, lambda request, response: seen.append(response.status)))
    play.client_sends(UPGRADE)
    got = play.origin_gets()
    assert b"\r\nX-A: 1\r\n" in got
    assert b"\r\nUpgrade: websocket\r\n" in got
    play.origin_sends(SWITCHING + b"hello")
    assert statuses(play.client_gets()) == [101]
    play.client_sends(b"frames")
    assert play.origin_gets() == b"frames"
    assert seen == ["websocket"]


def test_upgrade_that_is_refused_by_a_hook(new_play: NewPlay) -> None:
    """The refusal is a reply like any other, and the connection goes on."""
    play = new_play(hooks=rejecting("/chat", 401))
    play.client_sends(UPGRADE)
    assert statuses(play.client_gets()) == [401]
    assert statuses(play.exchange(GET, OK)) == [200]


def test_interim_replies_pass_by_the_hooks(new_play: NewPlay) -> None:
    """Hooks see the final reply only."""
    seen: list[int] = []
    play = new_play(hooks=runner(None, lambda request, response: seen.append(response.status)))
    assert play.exchange(post(b"body", "Expect: 100-continue")[:-4], CONTINUE) == CONTINUE
    play.client_sends(b"body")
    play.origin_sends(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    assert statuses(play.client_gets()) == [103, 200]
    assert seen == [200]


# Replies that are changed.


def touched(request: Any, response: Any) -> None:
    """The change that these tests make to replies."""
    response.status = 418
    response.headers.remove("Server")
    response.headers["X-A"] = "1"
    response.headers.add("Set-Cookie", "a=1")


@pytest.mark.parametrize(("sent", "body", "ends"), REPLIES)
@pytest.mark.parametrize("piecewise", [False, True])
def test_changed_reply(
    new_play: NewPlay, sent: bytes, body: bytes, ends: bool, piecewise: bool
) -> None:
    """Status and headers change; the body is the server's, framed as usual."""
    play = new_play(hooks=runner(None, touched))
    play.client_sends(GET)
    sent = sent.replace(b"\r\n", b"\r\nServer: x\r\n", 1)
    size = 777 if piecewise else len(sent)
    for start in range(0, len(sent), size):
        play.origin_sends(sent[start : start + size])
    if ends:
        play.origin_ends()
    got = play.client_gets()
    head, _, rest = got.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 418 I'm a Teapot"
    assert b"X-A: 1" in lines
    assert b"Set-Cookie: a=1" in lines
    assert b"Server: x" not in lines
    if b"Transfer-Encoding: chunked" in lines:
        from slardar.http1.framing import ChunkedDecoder

        decoder = ChunkedDecoder(502)
        assert b"".join(decoder.feed(rest)) == body
        assert decoder.done
    else:
        assert b"Content-Length: %d" % len(body) in lines
        assert rest == body
    # Health and counters depend on the server's own reply.
    assert play.selection.outcomes == [("10.0.0.1:80", False, 200)]


def test_reply_in_pieces_is_seen_once(new_play: NewPlay) -> None:
    """The hook sees it when its head is complete."""
    seen: list[int] = []
    play = new_play(hooks=runner(None, lambda request, response: seen.append(response.status)))
    play.client_sends(GET)
    for byte in OK:
        play.origin_sends(bytes((byte,)))
    assert seen == [200]
    assert play.client_gets().endswith(b"hi")


def test_reply_to_head_is_changed(new_play: NewPlay) -> None:
    """Its length stays as the server declared it."""
    play = new_play(hooks=runner(None, touched))
    got = play.exchange(HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert statuses(got) == [418]
    assert b"\r\nContent-Length: 5\r\n" in got


def test_304_that_becomes_204_has_no_length(new_play: NewPlay) -> None:
    """RFC 9110 8.6."""
    play = new_play(hooks=runner(None, lambda request, response: setattr(response, "status", 204)))
    got = play.exchange(GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
    assert statuses(got) == [204]
    assert b"Content-Length" not in got


@pytest.mark.parametrize("servers", [0, 1])
def test_hooks_see_errors_of_ours(new_play: NewPlay, servers: int) -> None:
    """They see the reason, the upstream, and the server that failed; they change status and
    headers, and the connection goes on."""
    seen: list[Any] = []

    def look(request: Any, response: Any) -> None:
        seen.append((response.status, response.error, request.upstream))
        touched(request, response)

    play = new_play(servers, hooks=runner(None, look))
    for _ in range(2):
        play.client_sends(GET)
        if servers:
            play.origin_breaks()
        got = play.client_gets()
        assert statuses(got) == [418]
        assert b"\r\nX-A: 1\r\n" in got
        assert b"Connection:" not in got
        assert json.loads(body_of(got))["status"] == 502
    reason = "Connection reset by peer" if servers else "no upstream for host 'a.test'"
    assert seen == [(502, reason, "fake" if servers else None)] * 2
    assert play.host.refused_with == [502, 502]


def test_servers_replies_have_no_error(new_play: NewPlay) -> None:
    """So a hook can tell them from slardar's own, whatever the status is."""
    seen: list[Any] = []
    play = new_play(hooks=runner(None, lambda request, response: seen.append(response.error)))
    play.client_sends(GET)
    play.origin_sends(reply(b"no", status="502 Bad Gateway"))
    assert seen == [None]


@pytest.mark.parametrize("status", [408, 413, 400])
def test_hooks_see_what_became_of_the_body(new_play: NewPlay, status: int) -> None:
    """Hooks also see slardar's own reply to a body that does not arrive, is too large or is
    malformed."""
    seen: list[Any] = []
    made = runner(None, lambda request, response: seen.append((response.status, response.error)))
    play = new_play(hooks=made, max_body=8)
    if status == 408:
        play.client_sends(post(b"body")[:-1])
        play.pass_time(61)
    else:
        play.client_sends(post_chunked() + (b"ff\r\n" + b"x" * 99 if status == 413 else b"zz\r\n"))
    assert statuses(play.client_gets()) == [status]
    assert [one for one, _ in seen] == [status]


def test_hook_answers_instead_of_an_error_of_ours(new_play: NewPlay) -> None:
    """The hook is not asked about its own answer; 444 means no reply at all."""
    calls: list[int] = []

    def instead(request: Any, response: Any) -> None:
        calls.append(response.status)
        request.respond(203, "sorry")

    play = new_play(hooks=runner(None, instead))
    play.client_sends(GET)
    play.origin_breaks()
    got = play.client_gets()
    assert (statuses(got), body_of(got), calls) == ([203], b"sorry", [502])
    for servers in (0, 1):
        play = new_play(servers, hooks=runner(None, lambda request, _: request.reject(444)))
        play.client_sends(GET)
        if servers:
            play.origin_breaks()
        assert play.client_gets() == b""
        assert play.client.closed


def test_hook_that_fails_on_an_error_of_ours(new_play: NewPlay) -> None:
    """The reply becomes a 500, or stays; the hook is not asked again, and is suspended after
    five failures."""

    def fails(request: Any, response: Any) -> None:
        calls.append(response.status)
        raise HookFailure("error", "line 1: it raises")

    for on_error, status in (("reject", 500), ("continue", 502)):
        calls: list[int] = []
        play = new_play(hooks=runner(None, fails, on_error=on_error))
        with logged():
            play.client_sends(GET)
            play.origin_breaks()
        assert statuses(play.client_gets()) == [status]
        assert calls == [502]


def test_reply_that_is_dropped_for_another_is_not_seen(new_play: NewPlay) -> None:
    """Hooks only see the reply that the client would get."""
    seen: list[int] = []
    play = new_play(2, hooks=runner(None, lambda request, response: seen.append(response.status)))
    play.selection.failed_statuses = frozenset((503,))
    play.client_sends(GET)
    play.origin_sends(reply(b"no", status="503 Service Unavailable"))
    play.origin_sends(OK)
    assert statuses(play.client_gets()) == [200]
    assert seen == [200]


# Replies that are replaced.


def replacing(request: Any, response: Any) -> None:
    """Answers instead of servers' errors."""
    if response.status >= 500 or request.path == "/no":
        request.respond(200, "sorry", {"X-Was": response.status})


@pytest.mark.parametrize(
    "sent",
    [reply(b"oops"), reply(b"x" * 200_000)[:70_000], CHUNKED_OK + b"4\r\noops\r\n", CHUNKED_OK,
     b"HTTP/1.1 200 OK\r\n\r\noo", reply(b"oops") + b"HTTP/1.1 200 OK\r\n"],
)  # fmt: skip
def test_replaced_reply(new_play: NewPlay, sent: bytes) -> None:
    """The client gets the other reply whole, and its connection goes on; the server's
    connection is not used again, because it holds the rest of the first reply."""
    play = new_play(hooks=runner(None, replacing))
    got = play.exchange(get("/no"), sent)
    assert statuses(got) == [200]
    assert b"\r\nX-Was: 200\r\n" in got
    assert b"\r\nContent-Length: 5\r\n" in got
    assert body_of(got) == b"sorry"
    assert play.origin.closed
    assert play.selection.peers[0].pool.idle == []
    assert play.selection.outcomes == [("10.0.0.1:80", False, 200)]
    assert play.selection.failures == []
    assert (play.host.exchanges, play.selection.peers[0].live.active) == (0, 0)
    play.client_sends(GET)
    assert len(play.origins) == 2
    play.origin_sends(OK)
    assert play.client_gets().endswith(b"hi")


def test_replaced_reply_to_head(new_play: NewPlay) -> None:
    """The other reply has no body either."""
    play = new_play(hooks=runner(None, replacing))
    play.client_sends(HEAD.replace(b" / ", b" /no ") + GET)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    got = play.client_gets()
    assert b"\r\nContent-Length: 5\r\n" in got
    assert body_of(got) == b""
    play.origin_sends(OK)
    assert play.client_gets().endswith(b"hi")


def test_replaced_failure_is_a_failure(new_play: NewPlay) -> None:
    """The server is judged by its own reply, whatever the client gets."""
    play = new_play(hooks=runner(None, replacing))
    play.selection.failed_statuses = frozenset((503,))
    assert body_of(play.exchange(GET, reply(b"no", status="503 Service Unavailable"))) == b"sorry"
    assert play.selection.outcomes == [("10.0.0.1:80", True, 503)]
    assert len(play.selection.failures) == 1


def test_reply_replaced_while_the_body_is_coming(new_play: NewPlay) -> None:
    """The rest of the body is dropped, and never taken for requests; the connection ends."""
    play = new_play(
        hooks=runner(None, lambda request, response: request.reject(403)),
    )
    got = play.exchange(post(b"body" * 100)[:-7], OK)
    assert statuses(got) == [403]
    assert b"Connection: close" in got
    play.client_sends(b"dy\r\n\r\n" + GET)
    assert play.client_gets() == b""
    assert len(play.host.began) == 1
    assert play.origin.closed


def test_reply_replaced_for_a_pipeline(new_play: NewPlay) -> None:
    """Requests after it wait as usual."""
    play = new_play(hooks=runner(None, replacing))
    play.client_sends(post(b"body").replace(b"/in", b"/no") + get("/1") + get("/no"))
    play.origin_sends(OK)
    play.origin_sends(OK)
    play.origin_sends(OK)
    got = play.client_gets()
    assert statuses(got) == [200] * 3
    assert re.findall(rb"sorry|hi", got) == [b"sorry", b"hi", b"sorry"]
    assert play.host.exchanges == 0
    assert play.connection.is_idle
    assert [outcome[2] for outcome in play.selection.outcomes] == [200] * 3


def test_broken_reply_hook_is_a_500(new_play: NewPlay) -> None:
    """With another setting the client gets the server's reply."""

    def fails(request: Any, response: Any) -> None:
        response.headers["X-Half"] = "1"
        raise RuntimeError

    with logged():
        for on_error, status in (("reject", 500), ("continue", 200)):
            play = new_play(hooks=runner(None, fails, on_error=on_error))
            got = play.exchange(GET, OK)
            assert statuses(got) == [status]
            assert b"X-Half" not in got


def test_client_that_leaves_is_not_answered(new_play: NewPlay) -> None:
    """No hook sees its reply."""
    seen: list[int] = []
    play = new_play(hooks=runner(None, lambda request, response: seen.append(response.status)))
    play.client_sends(GET)
    play.client_leaves()
    assert play.origin.closed
    assert seen == []


@pytest.mark.parametrize("status", [444, 403])
def test_half_closed_client_of_a_hook_gets_no_byte_too_many(new_play: NewPlay, status: int) -> None:
    """While a hook may still close without a reply, no probing byte is sent; so a 444 sends no
    byte, and a reply is whole."""
    play = new_play(hooks=runner(None, lambda request, response: request.reject(status)))
    play.client.deliver(GET)
    play.client_ends()
    assert play.client.probed == 1
    play.pass_time(30)
    assert play.client_gets() == b""
    play.origin_sends(OK)
    got = play.client_gets()
    assert statuses(got) == ([] if status == 444 else [403])
    assert got == b"" or got.startswith(b"HTTP/1.1 403 ")
    assert play.client.closed
    assert not play.client.aborted


@pytest.mark.parametrize("sent", [b"", b"x" * 20_000])
def test_no_reply_ends_an_upload_at_once(new_play: NewPlay, sent: bytes) -> None:
    """No reply is on its way that reading the rest of the body would save."""
    play = new_play(hooks=rejecting(status=444))
    play.client_sends(post(b"x" * 30_000)[:-30_000] + sent)
    assert play.client.closed
    assert play.client_gets() == b""


def test_no_reply_behind_one_that_is_on_its_way(new_play: NewPlay) -> None:
    """The reply before it is sent completely."""
    play = new_play(hooks=rejecting(status=444))
    play.client.stall()
    play.client_sends(get("/yes") + post(b"x" * 30_000)[:-10_000])
    play.origin_sends(reply(b"y" * 10_000))
    assert not play.client.closed
    play.client_drains()
    assert body_of(play.client_gets()) == b"y" * 10_000
    assert play.client.finished or play.client.closed


def test_half_closed_client_gets_its_answer(new_play: NewPlay) -> None:
    """It gets a hook's answer as it gets a server's reply."""
    play = new_play(hooks=runner(None, replacing))
    play.client_sends(get("/no"))
    play.client_ends()
    play.pass_time(2)
    play.origin_sends(OK)
    got = play.client_gets()
    assert statuses(got) == [200]
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body_of(got) == b"sorry"
    assert play.client.closed


def test_hooks_see_the_reply_that_won(new_play: NewPlay) -> None:
    """Of two attempts on one request, they see one reply, and may replace it."""
    seen: list[int] = []

    def action(_: Any, response: Any) -> None:
        seen.append(response.status)
        if response.status == 201:
            response.status = 202

    play = new_play(2, hooks=runner(None, action))
    play.selection.hedge_after = 0.05
    for number, status in ((0, 202), (1, 200)):
        play.client_sends(GET)
        play.pass_time(0.06)
        answer = "201 Created" if status == 202 else "200 OK"
        live = [origin for origin in play.origins if not origin.closed]
        live[number].deliver(reply(b"x", status=answer))
        play.settle()
        assert statuses(play.client_gets()) == [status]
    assert seen == [201, 200]
