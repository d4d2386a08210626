"""Hooks: whatever they write, the head is exactly what they meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote

from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.hooks.effects import apply_reply, apply_request, seen_reply, seen_request
from slardar.hooks.headers import Headers
from slardar.hooks.objects import HookRequest, Query
from slardar.http1.headers import REPLY_SPECIAL, REQUEST_SPECIAL
from slardar.http1.reply import parse_reply
from slardar.http1.request import parse_request
from slardar.http1.writer import RequestIds, request_head

steady = settings(derandomize=True, deadline=None, max_examples=100, database=None)

#: Texts with every character that could end a line.
_breaks = st.sampled_from(["\r\n", "\n", "\r", "\0", "\r\nX: y", "\r\n\r\n", "\x0b", "\x85"])
_any_text = st.text(max_size=12) | st.builds(lambda a, b: a + b, st.text(max_size=4), _breaks)
_names = st.sampled_from(
    ["X", "x", "X-A", "x-a", "Accept", "Cookie", "Host", "X-Forwarded-For", "X-Request-Id",
     "X-Forwarded-Host", "X-Forwarded-Proto", "Content-Length", "Transfer-Encoding",
     "Connection", "Upgrade", "TE", "Expect", "Proxy", "X_Forwarded_For", "Keep-Alive"]
) | _any_text  # fmt: skip
_values: Any = _any_text | st.integers() | st.lists(_any_text, max_size=3) | st.none()
_hosts = st.sampled_from(["b.test", "B.test:81", "[::1]:82", "", "a b"]) | _any_text

_operation: Any = st.one_of(
    st.tuples(st.just("set"), _names, _values),
    st.tuples(st.just("add"), _names, _values),
    st.tuples(st.just("remove"), _names),
    st.tuples(st.just("pop"), _names),
    st.tuples(st.just("setdefault"), _names, _values),
    st.tuples(st.just("update"), st.dictionaries(_names, _values, max_size=3)),
)
_field_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def _done(call: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a hook was allowed to do this."""
    try:
        call(*arguments)
    except ValueError:
        return False
    return True


@steady
@given(st.lists(_operation, max_size=12))
def test_headers_never_hold_a_line_break(operations: list[tuple[Any, ...]]) -> None:
    """They also hold no header of the connection, and nothing but a name and a value."""
    special = {"host": True, "connection": False, "content-length": False}
    found = Headers(b"\r\nAccept: */*\r\nx-a: 1", None, special, b"a.test")
    for name, *arguments in operations:
        _done(getattr(found, name), *arguments)
    for line in [*found.lines, *found.own.values()]:
        assert not set(line) & set(b"\r\n\0")
    for line in found.lines:
        name, colon, _ = line.partition(b":")
        assert name
        assert colon
        assert not set(name.lower()) - set(b"!#$%&'*+.^_`|~-0123456789abcdefghijklmnopqrstuvwxyz")
        assert name.lower() not in (b"connection", b"content-length", b"host")


@steady
@given(st.sampled_from(["X", "x-a", "Accept", "New"]), st.lists(_any_text, min_size=1, max_size=3))
def test_what_is_read_is_what_was_written(name: str, values: list[str]) -> None:
    """All values come back in order, without the blanks around them."""
    found = Headers(b"\r\nAccept: */*\r\nX-A: 1\r\nx: 2", {}, {})
    before = list(found.lines)
    if _done(found.set, name, values):
        assert found.get_all(name.swapcase()) == [value.strip(" \t") for value in values]
        assert found[name] == values[0].strip(" \t")
        others = [
            line for line in before if not line.lower().startswith(name.lower().encode() + b":")
        ]
        kept = [line for line in found.lines if line in before]
        assert [line for line in kept if line in others] == others
    else:
        assert found.lines == before


def _act(seen: HookRequest, operation: tuple[Any, ...]) -> None:
    """Do one thing to a request, as a hook does."""
    name, *arguments = operation
    if name in ("uri", "path", "query_string", "method", "host"):
        _done(setattr, seen, name, arguments[0])
    elif name == "query":
        _done(seen.query.set, *arguments)
    else:
        _done(getattr(seen.headers, name), *arguments)


_deed = _operation | st.one_of(
    st.tuples(st.just("uri"), st.sampled_from(["/", "/x?y=z", "/%zz", "//b", "/a b"]) | _any_text),
    st.tuples(st.just("path"), _any_text.map(lambda text: "/" + text)),
    st.tuples(st.just("query_string"), _any_text),
    st.tuples(st.just("query"), _any_text, _values),
    st.tuples(st.just("method"), st.sampled_from(["GET", "POST", "HEAD", "X"]) | _any_text),
    st.tuples(st.just("host"), _hosts),
)
_requests = st.sampled_from(
    [
        b"GET /a?b=1&b=2 HTTP/1.1\r\nHost: a.test\r\nx-a: 1\r\nAccept: */*\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 7\r\nX-A:2\r\n\r\n",
        b"PUT /%ff HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ]
)


@steady
@given(_requests, st.lists(_deed, max_size=10))
def test_head_that_is_sent_is_what_the_hook_meant(
    head: bytes, operations: list[tuple[Any, ...]]
) -> None:
    """It is one request, framed as the client's was, with exactly the target, the host and the
    headers that the hook would read back."""
    request = parse_request(head)
    length, upgrade = request.length, request.upgrade
    seen = seen_request(request, {})
    for operation in operations:
        _act(seen, operation)
    apply_request(seen, request)
    written = request_head(request, RequestIds(b"id"), "10.0.0.1:80")
    assert written.count(b"\r\n\r\n") == 1
    sent = parse_request(written)
    assert (sent.method, sent.uri, sent.host) == (seen.method, seen.uri, seen.host)
    assert (sent.length, sent.upgrade) == (length, upgrade)
    assert (sent.host, sent.uri) == (request.host, request.uri)
    own = {name.decode() for name in REQUEST_SPECIAL}
    meant = [(name, value) for name, value in seen.headers.items() if name.lower() not in own]
    passed = [
        (name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))
        for name, _, value in (line.partition(b":") for line in sent.lines[1:])
    ]
    assert passed == meant


@steady
@given(st.lists(_operation, max_size=8), st.integers(190, 610))
def test_reply_that_is_sent_is_what_the_hook_meant(
    operations: list[tuple[Any, ...]], status: int
) -> None:
    """It is one head, framed as the server's was."""
    reply = parse_reply(
        b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\n", b"GET"
    )
    seen = seen_reply(reply)
    for name, *arguments in operations:
        _done(getattr(seen.headers, name), *arguments)
    _done(setattr, seen, "status", status)
    apply_reply(seen, reply)
    # The head as a connection writes it.
    sent = parse_reply(
        b"\r\n".join((*reply.lines, b"Content-Length: %d" % reply.length, b"", b"")), b"GET"
    )
    assert (sent.status, sent.length) == (seen.status, 5)
    names = {line.partition(b":")[0].lower() for line in reply.lines[1:]}
    assert not names & REPLY_SPECIAL


@steady
@given(st.lists(st.tuples(_field_texts, _field_texts | st.integers(0, 99)), max_size=8))
def test_query_reads_what_it_wrote(fields: list[tuple[str, Any]]) -> None:
    """It comes back through the URL, and Python's own parser reads it, too."""
    query = Query("")
    for name, value in fields:
        query.add(name, value)
    text = query.text
    assert text.isascii()
    assert not set(text) & set("\r\n\0 #")
    expected = [(name, str(value)) for name, value in fields]
    assert Query(text).items() == expected
    assert parse_qsl(text, keep_blank_values=True) == expected


@steady
@given(st.text(st.sampled_from("ab=&+%;20Cé\ud800\udcff\r\n"), max_size=20))
def test_any_query_is_read(text: str) -> None:
    """It is read as by Python's parser; a query to which no field is written goes on unchanged."""
    url = quote(text, safe="=&+%;", errors="surrogateescape") if "\ud800" not in text else "a"
    query = Query(url)
    assert query.items() == parse_qsl(url, keep_blank_values=True, errors="surrogateescape")
    assert Query(query.text).items() == query.items()
    assert not query.changed


@steady
@given(_any_text, _any_text)
def test_query_takes_any_text_or_says_no(name: str, value: str) -> None:
    """A text that it takes puts no line break into the URL."""
    query = Query("a=1")
    if _done(query.set, name, value):
        assert Query(query.text)[name] == value
    else:
        assert query.text == "a=1"
    assert not set(query.text) & set("\r\n\0 #")


#: Headers of one connection, or of the framing, that a client may send, in any case.
_connection_lines = st.sampled_from(
    ["Connection: keep-alive", "connection: TE, close", "CONNECTION: foo", "TE: trailers",
     "te: gzip", "Keep-Alive: timeout=5, max=9", "Proxy-Connection: keep-alive",
     "Upgrade: websocket", "HTTP2-Settings: AAA", "Proxy: http://x", "Proxy-Authorization: b",
     "Expect: 100-continue", "Keep-Alive:", "x_forwarded_for: 1.2.3.4"]
)  # fmt: skip
_framing = st.sampled_from(
    [(), ("Content-Length: 0",), ("content-length: 007",), ("Transfer-Encoding: chunked",)]
)


@steady
@given(st.lists(_connection_lines, max_size=6), _framing, st.lists(_operation, max_size=6))
def test_what_belongs_to_the_connection_is_read_and_not_written(
    lines: list[str], framing: tuple[str, ...], operations: list[tuple[Any, ...]]
) -> None:
    """A hook reads each value as it was sent, before and after it has tried to write; the
    server gets what it would get without the hook."""
    head = "\r\n".join(["PUT /a HTTP/1.1", "Host: a.test", "X-A: 1", *lines, *framing, "", ""])
    plain, request = parse_request(head.encode()), parse_request(head.encode())
    seen = seen_request(request, None)
    sent = [tuple(line.split(":", 1)) for line in (*lines, *framing) if "_" not in line]
    for _ in range(2):
        for name in {name.lower() for name, _ in sent}:
            values = [value.strip() for known, value in sent if known.lower() == name]
            assert seen.headers.get_all(name.upper()) == values
            assert seen.headers[name] == values[0]
            assert name in seen.headers
            assert name in list(seen.headers)
        pairs = [
            (name, value) for name, value in seen.headers.items() if (name, " " + value) in sent
        ]
        assert pairs == [(name, value[1:]) for name, value in sent if value]
        assert "x_forwarded_for" not in seen.headers
        for operation in operations:
            if str(operation[1]).lower() not in ("x-a", "x"):
                _done(_act, seen, operation)
    apply_request(seen, request)

    def of_connection(head: bytes) -> list[bytes]:
        names = {name.encode() for name, _ in sent} | {b"connection", b"content-length"}
        lower = {name.lower() for name in names}
        return [line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() in lower]

    ids = RequestIds(b"x")
    assert of_connection(request_head(request, ids, "f")) == of_connection(
        request_head(plain, ids, "f")
    )
    assert request.length == plain.length
    assert request.keep_alive == plain.keep_alive
