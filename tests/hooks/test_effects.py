"""What hooks see of the proxy's requests and replies, and how their changes are applied."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import slardar.hooks
from slardar.hooks.effects import (
    apply_reply,
    apply_request,
    make_reply,
    seen_reply,
    seen_request,
)
from slardar.hooks.errno import ERRNOS
from slardar.hooks.objects import HookAnswer, HookRequest, HookResponse
from slardar.http1.request import Request
from slardar.http1.writer import RequestIds, request_head
from tests.hooks.kit import reply_of, request_of


def after(action: Callable[[HookRequest], Any], *headers: str, **rest: Any) -> Request:
    """A request to which ``action``, as a hook, was applied."""
    request = request_of(*headers, **rest)
    seen = seen_request(request, {})
    action(seen)
    apply_request(seen, request)
    return request


def head(request: Request) -> list[str]:
    """The lines that the server gets."""
    written = request_head(request, RequestIds(b"id"), "10.0.0.1:80")
    assert written.endswith(b"\r\n\r\n")
    return written[:-4].decode("latin-1").split("\r\n")


def test_nothing_done_is_nothing_changed() -> None:
    """A hook that only reads leaves the very same lines."""
    request = request_of("X-A: 1", "x-b:2")
    lines, before = request.head_lines(), list(request.head_lines())
    seen = seen_request(request, {})
    assert seen.headers["x-b"] == "2"
    assert seen.query["b"] == "1"
    apply_request(seen, request)
    assert request.head_lines() is lines
    assert request.head_lines() == before
    assert request.raw_uri == b"/a?b=1"


def test_what_is_not_applied_is_not_there() -> None:
    """A hook that fails half-way has changed nothing of the request."""
    request = request_of("X-A: 1", "X-Forwarded-For: 10.1.1.1")
    before = head(request_of("X-A: 1", "X-Forwarded-For: 10.1.1.1"))
    seen = seen_request(request, {})
    seen.headers["X-A"] = "2"
    seen.headers.remove("X-Forwarded-For")
    seen.host = "b.test"
    seen.path = "/x"
    seen.method = "POST"
    seen.hash_key = "k"
    assert head(request) == before
    assert request.hash_key is None


def test_method_target_and_keys() -> None:
    """Each is changed alone, and a POST without a body says so."""

    def action(seen: HookRequest) -> None:
        seen.method = "POST"
        seen.path = "/x y"
        seen.query["c"] = "2"
        seen.hash_key = "k"
        seen.cluster_key = ["dc1", "dc2"]

    request = after(action)
    lines = head(request)
    assert lines[0] == "POST /x%20y?b=1&c=2 HTTP/1.1"
    assert "Content-Length: 0" in lines
    assert (request.uri, request.path) == ("/x%20y?b=1&c=2", "/x%20y")
    assert (request.hash_key, request.cluster_key) == ("k", ("dc1", "dc2"))


def test_changed_host_is_the_host() -> None:
    """Routes and the server get the new Host, and the server is told which one the client sent."""
    request = after(lambda seen: setattr(seen, "host", "B.test:81"))
    assert (request.host, request.authority) == ("b.test", b"B.test:81")
    lines = head(request)
    assert lines[1] == "Host: B.test:81"
    assert "X-Forwarded-Host: www.a.test" in lines


def test_forwarded_host_of_a_hook_wins() -> None:
    """It even replaces the one that the client has sent."""

    def action(seen: HookRequest) -> None:
        seen.host = "b.test"
        seen.headers["X-Forwarded-Host"] = "c.test"

    assert "X-Forwarded-Host: c.test" in head(after(action))
    kept = after(lambda seen: setattr(seen, "host", "b.test"), "X-Forwarded-Host: d.test")
    assert "X-Forwarded-Host: d.test" in head(kept)


def test_forwarding_headers() -> None:
    """The proxy starts from the values that a hook leaves.

    A hook may remove the client's value or set another one; an empty value counts as none.
    """

    def action(seen: HookRequest) -> None:
        seen.headers.remove("X-Forwarded-For")
        seen.headers["X-Forwarded-Proto"] = "https"
        seen.headers["X-Request-Id"] = ""

    sent = ("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: x", "X-Request-Id: mine")
    lines = head(after(action, *sent))
    assert "X-Forwarded-For: 192.0.2.7" in lines
    assert "X-Forwarded-Proto: https" in lines
    assert "X-Request-Id: id00000001" in lines
    emptied = head(after(lambda seen: seen.headers.set("X-Forwarded-For", ""), *sent))
    assert "X-Forwarded-For: 192.0.2.7" in emptied
    added = head(after(lambda seen: seen.headers.add("X-Forwarded-For", "2.2.2.2"), *sent))
    assert "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.7" in added


def test_framing_stays_the_proxys() -> None:
    """Whatever a hook writes, the body is framed as the client sent it."""

    def action(seen: HookRequest) -> None:
        for name in ("Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade"):
            with pytest.raises(ValueError, match="proxy's to write"):
                seen.headers[name] = "7"
            with pytest.raises(ValueError, match="proxy's to write"):
                seen.headers.add(name, "7")
            seen.headers.remove(name)
            seen.headers.pop(name)
        seen.method = "GET"

    lines = head(after(action, "Content-Length: 5", "Expect: 100-continue", method="POST"))
    assert lines[0].startswith("GET ")
    assert "Content-Length: 5" in lines
    assert "Expect: 100-continue" in lines


def test_what_the_client_sent_is_kept() -> None:
    """A hook reads the head, its line and its target as sent, whatever hooks have changed."""

    def action(seen: HookRequest) -> None:
        seen.method, seen.uri, seen.host = "PUT", "/new?x=1", "b.test"
        seen.headers["X-A"] = "2"
        seen.headers.remove("X-B")

    sent = "POST /a%20b?c HTTP/1.1\r\nHost: www.a.test\r\nX-A: 1\r\nX-B: 1\r\n\r\n"
    request = request_of("X-A: 1", "X-B: 1", method="POST", target="/a%20b?c")
    for _ in range(2):
        seen = seen_request(request, None)
        for _ in range(2):
            assert seen.sent_head == sent
            assert seen.sent_line == "POST /a%20b?c HTTP/1.1"
            assert seen.sent_uri == "/a%20b?c"
            action(seen)
        apply_request(seen, request)
    assert head(request)[0] == "PUT /new?x=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("/", "/"),
        ("/?http://b/c", "/?http://b/c"),
        ("http://a.test/b?c", "/b?c"),
        ("HTTPS://a.test:81/b//c?d/e", "/b//c?d/e"),
        ("http://a.test", "/"),
        ("http://a.test?b/c", "/?b/c"),
        ("*", "*"),
    ],
)
def test_target_as_it_was_sent(target: str, uri: str) -> None:
    """A whole URL becomes a path, as in the parser."""
    is_whole = target[0] not in "/*"
    request = request_of(method="OPTIONS", target=target, host="" if is_whole else "a.test")
    seen = seen_request(request, None)
    assert seen.sent_uri == uri
    if target != "http://a.test":
        # Of OPTIONS that is "*", RFC 9112 3.2.4.
        assert seen.sent_uri == request.raw_uri.decode()


def test_request_made_by_hand_has_a_head_too() -> None:
    """A tool may make a request without a client."""
    seen = HookRequest(b"GET", b"/a?b", b"\r\nX-A: 1", host=b"a.test")
    assert seen.sent_head == "GET /a?b HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n\r\n"
    assert (seen.sent_line, seen.sent_uri) == ("GET /a?b HTTP/1.1", "/a?b")


def test_reply_has_the_headers_of_its_connection() -> None:
    """A hook reads them, and no client gets them."""
    reply = reply_of("Connection: keep-alive, X-B", "Keep-Alive: timeout=5", "X-A: 1")
    seen = seen_reply(reply)
    assert seen.headers["connection"] == "keep-alive, X-B"
    assert seen.headers.items() == [
        ("Connection", "keep-alive, X-B"), ("Keep-Alive", "timeout=5"), ("X-A", "1"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="proxy's to write"):
        seen.headers["Keep-Alive"] = "timeout=6"
    seen.headers.remove("Keep-Alive")
    seen.headers["X-A"] = "2"
    assert seen.headers["keep-alive"] == "timeout=5"
    apply_reply(seen, reply)
    assert reply.head_lines() == [b"HTTP/1.1 200 OK", b"X-A: 2"]


def test_next_hook_sees_what_the_one_before_did() -> None:
    """The next hook sees the headers, the target and the choices."""
    request = after(lambda seen: seen.headers.set("X-A", "1"))
    request.hash_key, request.cluster_key = "k", ("dc1",)
    seen = seen_request(request, {"x": 1}, "other")
    assert seen.headers["x-a"] == "1"
    assert (seen.upstream, seen.hash_key, seen.cluster_key) == ("other", "k", ("dc1",))
    assert seen.context == {"x": 1}
    # Seen is not written.
    assert seen.written == ()


# Answers.


def test_error_takes_the_clients_form() -> None:
    """The error is JSON, or a page for a browser; without a text it has the status's phrase."""
    reply, body = make_reply(HookAnswer(403, "no <b>"), None)
    assert (reply.status, json.loads(body)) == (403, {"status": 403, "msg": "no <b>"})
    assert (reply.length, reply.declared, reply.keep_alive) == (len(body), len(body), True)
    reply, body = make_reply(HookAnswer(403, ""), "text/html")
    assert b"Content-Type: text/html; charset=utf-8" in reply.head_lines()
    assert b"<p>Forbidden</p>" in body
    _, body = make_reply(HookAnswer(403, "no <b>"), "text/html")
    assert b"no &lt;b&gt;" in body


def test_exit_is_json_with_its_code() -> None:
    """It is JSON even for a browser, since programs look at the code."""
    error = ERRNOS["HTTP_FORBIDDEN"]
    reply, body = make_reply(HookAnswer(error.httpcode, error.msg, code=error.code), "text/html")
    assert b"X-Error-Code: 403" in reply.head_lines()
    assert json.loads(body) == {"status": 403, "msg": "forbidden", "code": 403}


def test_answer_is_sent_as_it_is() -> None:
    """The reply has the answer's headers, and the length of its body."""
    reply, body = make_reply(HookAnswer(200, None, b"hi", [b"X-A: 1"]), "text/html")
    assert reply.head_lines() == [b"HTTP/1.1 200 OK", b"X-A: 1"]
    assert (body, reply.length, reply.declared) == (b"hi", 2, 2)
    reply, body = make_reply(HookAnswer(599, None), None)
    assert reply.head_lines() == [b"HTTP/1.1 599 Error"]
    assert body == b""


@pytest.mark.parametrize(
    "answer", [HookAnswer(204), HookAnswer(304), HookAnswer(304, "not modified")]
)
def test_answer_without_a_body_has_no_length(answer: HookAnswer) -> None:
    """A length of 0 would be wrong for the page that is not sent."""
    reply, _ = make_reply(answer, None)
    assert reply.declared == -1


def test_no_reply_is_empty() -> None:
    """For a 444 the connection closes, so its reply is empty."""
    reply, body = make_reply(HookAnswer(444, "text", b"body", [b"X: y"]), None)
    assert (reply.status, reply.head_lines(), body) == (444, [], b"")


# Replies.


def test_reply_is_changed() -> None:
    """The status line and the headers change, while the server's health is judged by its own
    status."""
    reply = reply_of("Server: x", "X-A: 1", "Content-Length: 2")
    seen = seen_reply(reply)
    seen.status = 503
    seen.headers.remove("server")
    seen.headers.add("Set-Cookie", "a=1")
    apply_reply(seen, reply)
    assert reply.head_lines() == [
        b"HTTP/1.1 503 Service Unavailable",
        b"X-A: 1",
        b"Set-Cookie: a=1",
    ]
    assert (reply.status, reply.length, reply.declared) == (200, 2, 2)


def test_next_hook_sees_the_changed_reply() -> None:
    """The next hook sees the status that the client would get now."""
    reply = reply_of("Content-Length: 2")
    first = seen_reply(reply)
    first.status = 503
    apply_reply(first, reply)
    second = seen_reply(reply)
    assert second.status == 503
    apply_reply(second, reply)
    assert reply.head_lines()[0] == b"HTTP/1.1 503 Service Unavailable"


def test_untouched_reply_is_untouched() -> None:
    """Even an uncommon reason phrase stays."""
    reply = reply_of("X-A:1", status="200 Fine")
    lines = list(reply.head_lines())
    seen = seen_reply(reply)
    assert seen.headers["x-a"] == "1"
    apply_reply(seen, reply)
    assert reply.head_lines() == lines


def test_no_content_has_no_length() -> None:
    """A hook may make a 204 of a 304 that declared a length."""
    reply = reply_of("Content-Length: 5", status="304 Not Modified")
    seen = seen_reply(reply)
    seen.status = 204
    apply_reply(seen, reply)
    assert reply.declared == -1
    other: HookResponse = seen_reply(reply_of(status="204 No Content"))
    assert other.status == 204


def test_hooks_know_heads_by_their_methods() -> None:
    """Only Request and Reply know how a head keeps its lines."""
    knowing = {"slardar.http1.request", "slardar.http1.reply"}
    looked_at = set()
    for path in Path(slardar.hooks.__path__[0]).rglob("*.py"):
        tree = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        imported = {
            (node.module, alias.name)
            for node in tree
            if isinstance(node, ast.ImportFrom) and node.module in knowing
            for alias in node.names
        }
        if {name for _, name in imported} & {"Request", "Reply"}:
            looked_at.add(path.name)
            names = {node.attr for node in tree if isinstance(node, ast.Attribute)}
            assert "lines" not in names, path
    assert looked_at == {"effects.py", "rehearsal.py", "runner.py", "trial.py"}
