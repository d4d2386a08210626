"""HTTP/1: laws for any bytes, any pieces, and any good message."""

from __future__ import annotations

import itertools
from typing import Any

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slardar.http1.framing import ChunkedDecoder, chunk, last_chunk
from slardar.http1.headers import KEPT, TAKEN_OUT, drop_named, tokens
from slardar.http1.heads import CHUNKED, UNTIL_CLOSE, BadMessage, judge
from slardar.http1.reply import parse_reply
from slardar.http1.request import Request, normal_host, parse_request
from slardar.http1.writer import RequestIds, request_head

steady = settings(derandomize=True, deadline=None, max_examples=100, database=None)

# Bytes that resemble HTTP, so that parsers read far into them.
_PARTS = [
    b"GET", b"POST", b"OPTIONS", b"CONNECT", b"PRI", b"FROB", b" ", b"  ", b"\t", b"/", b"/a?b",
    b"*", b"http://", b"app", b"a@", b":80", b":", b"#", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0",
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b"\x0b", b"\xff", b"Host: app\r\n", b"Host:",
    b"Content-Length: ", b"0", b"5", b"007", b"-1", b"0" * 5000, b"9" * 20,
    b"Transfer-Encoding: ", b"chunked", b"identity", b",", b";", b"Connection: ", b"close",
    b"Upgrade: ", b"upgrade", b"websocket", b"h2c", b"TE: trailers", b"Expect: 100-continue",
    b"X: y", b"Trailer", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 ", b"HTTP/1.1 101 ",
    b"X-Forwarded-For: ", b"X_Forwarded_For: x",
]  # fmt: skip
_likely = st.lists(st.sampled_from(_PARTS), max_size=24).map(b"".join)
_heads = st.one_of(st.binary(max_size=200), _likely).map(lambda data: data + b"\r\n\r\n")
_request_heads = st.one_of(
    _heads, _heads.map(lambda data: b"GET /a HTTP/1.1\r\nHost: app\r\n" + data)
)
_reply_heads = st.one_of(_heads, _heads.map(lambda data: b"HTTP/1.1 200 OK\r\n" + data))


def _first_head(data: bytes) -> bytes:
    """The first head, cut as a connection cuts it."""
    return data[: data.index(b"\r\n\r\n") + 4]


def _parsed(parse: Any, *arguments: Any) -> Any:
    """The result of ``parse``, or its BadMessage; no other exception may be raised."""
    try:
        return parse(*arguments)
    except BadMessage as error:
        return error


def _described(outcome: Any) -> Any:
    """All fields of a request, or the reason of its refusal."""
    if isinstance(outcome, BadMessage):
        return outcome.status, outcome.message
    values = {name: getattr(outcome, name) for name in dir(outcome) if name[0] != "_"}
    if isinstance(outcome, Request) and outcome.told is not None:
        values["told"] = _described(outcome.told)
    return {name: value for name, value in values.items() if not callable(value)}


_plain = b"GET /a HTTP/1.1\r\nHost: app\r\n\r\n"
_closing = b"GET /a HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"


@steady
@example([_closing, _plain])
@example([b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\n", _plain])
@example([b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n", _plain])
@example([b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n", _plain])
@example([b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", _plain])
@given(st.lists(st.one_of(_request_heads.map(_first_head), st.just(_plain)), max_size=6))
def test_no_head_is_judged_by_the_one_before(heads: list[bytes]) -> None:
    """llhttp's parsers are used again; earlier heads make no difference."""
    for head in heads:
        used = _described(_parsed(parse_request, head))
        judge._parser = None
        assert used == _described(_parsed(parse_request, head))
        # The next head is parsed after this one again.
        _parsed(parse_request, head)


class _Told:
    """Keeps llhttp's callbacks for a head."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.ended = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.ended += 1


def _told(parser: type, head: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that llhttp sees in a head, which it must take for exactly one."""
    told = _Told()
    try:
        parser(told).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    assert told.ended == 1
    return told.headers


def _split(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon
        fields.append((name, value.strip(b" \t")))
    return fields


@steady
@given(_request_heads)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"0" * 5000 + b"\r\n\r\n")
def test_any_bytes_as_a_request(data: bytes) -> None:
    """They are a request or BadMessage; the lines that pass are those that llhttp saw, in
    order."""
    head = _first_head(data)
    request = _parsed(parse_request, head)
    if isinstance(request, BadMessage):
        assert request.status in (400, 414, 417, 431, 501)
        return
    told = _told(httptools.HttpRequestParser, head)
    assert request.length >= CHUNKED
    assert request.raw_uri[:1] == b"/" or request.raw_uri == b"*"
    passed = _split(request.lines[1:])
    assert [field for field in told if field in passed] == passed
    assert not {name.lower() for name, _ in passed} & TAKEN_OUT
    gone = {name.lower() for name, _ in told} - {name.lower() for name, _ in passed}
    named = [tokens(value) for name, value in told if name.lower() == b"connection"]
    assert gone <= TAKEN_OUT.union(*named)
    # Balancers and logs can read it, and it can be written.
    assert (request.method, request.uri, request.host) != ("", "", "")
    written = request_head(request, RequestIds(), "10.0.0.1:80")
    assert b"\r" not in written.replace(b"\r\n", b"")
    assert b"\n" not in written.replace(b"\r\n", b"")
    assert b"\0" not in written
    assert written.index(b"\r\n\r\n") == len(written) - 4


@steady
@given(_reply_heads, st.sampled_from([b"GET", b"HEAD", b"POST"]))
def test_any_bytes_as_a_reply(data: bytes, verb: bytes) -> None:
    """They are a reply or BadMessage (502); the lines that pass are those that llhttp saw."""
    head = _first_head(data)
    reply = _parsed(parse_reply, head, verb)
    if isinstance(reply, BadMessage):
        assert reply.status == 502
        return
    told = _told(httptools.HttpResponseParser, head)
    assert reply.length >= UNTIL_CLOSE
    passed = _split(reply.lines[1:])
    assert [field for field in told if field in passed] == passed
    for line in reply.lines:
        assert not set(line) & set(b"\r\n\0")


@steady
@given(st.binary(max_size=60))
def test_any_bytes_as_a_host(data: bytes) -> None:
    """They are a name in its normal form, or BadMessage."""
    try:
        name = normal_host(data)
    except BadMessage:
        return
    assert name == name.lower()
    assert not set(name) & set("[]/@, \r\n\0")
    assert normal_host(f"[{name}]".encode() if ":" in name else name.encode()) == name


_names = st.text("abXZ-0!", min_size=1, max_size=8).map(str.encode)
_values = st.text('a,;:="\t \x21\x7e\x80\xff', max_size=12).map(
    lambda text: text.strip(" \t").encode("latin-1")
)
_headers = st.lists(
    st.tuples(_names, _values).filter(lambda field: field[0].lower() not in TAKEN_OUT),
    max_size=8,
)
_bodies = st.one_of(
    st.just((b"", 0)),
    st.just((b"Transfer-Encoding: chunked\r\n", CHUNKED)),
    st.integers(1, 2**63).map(lambda size: (b"Content-Length: %d\r\n" % size, size)),
)


@steady
@given(
    st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH"]),
    st.text("abc/%.?=&;:@~!$'()*+,-_", max_size=30).map(lambda text: b"/" + text.encode()),
    _headers,
    _bodies,
    st.ip_addresses().map(str),
)
def test_round_trip(
    verb: bytes,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    body: tuple[bytes, int],
    address: str,
) -> None:
    """A request that is parsed, written and parsed again is the same request, with the
    client's address after the earlier ones."""
    lines = [b"%b: %b" % field for field in headers]
    head = b"\r\n".join(
        (b"%b %b HTTP/1.1" % (verb, target), b"Host: App:81", *lines, body[0] + b"\r\n")
    )
    first = parse_request(head)
    first.peer = address.encode()
    second = parse_request(request_head(first, RequestIds(b"x"), "unused"))
    assert (second.raw_method, second.raw_uri, second.length) == (verb, target, body[1])
    assert (second.authority, second.host, second.minor) == (b"App:81", "app", 1)
    assert second.lines[1:] == lines
    assert (second.forwarded_for, second.forwarded_host) == (address.encode(), b"App:81")
    assert (second.forwarded_proto, second.request_id) == (b"http", b"x00000001")
    second.peer = b"192.0.2.9"
    third = parse_request(request_head(second, RequestIds(b"y"), "unused"))
    assert third.forwarded_for == address.encode() + b", 192.0.2.9"
    assert third.request_id == b"x00000001"


@steady
@given(st.lists(_names, max_size=8), _headers)
def test_connection_removes_what_it_names(
    named: list[bytes], headers: list[tuple[bytes, bytes]]
) -> None:
    """It removes all of these headers, no others, and never a protected one."""
    named = [name.lower() for name in named] + [name.lower() for name, _ in headers[::2]]
    lines = [b"", *(b"%b: %b" % field for field in headers)]
    kept = [
        line
        for line, (name, _) in zip(lines[1:], headers, strict=True)
        if name.lower() not in named or name.lower() in KEPT
    ]
    drop_named(lines, named)
    assert lines == [b"", *kept]


# Chunks.


def _reference(data: bytes) -> tuple[bytes, bytes] | None:
    """Content and rest of a chunked body without extensions; ``None`` if it is not one."""
    content = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end or not 1 <= len(line) <= 15 or set(line) - set(b"0123456789abcdefABCDEF"):
            return None
        size = int(line, 16)
        if not size:
            return (content, data[2:]) if data[:2] == b"\r\n" else None
        if data[size : size + 2] != b"\r\n":
            return None
        content += data[:size]
        data = data[size + 2 :]


def _feed(data: bytes, cuts: list[int]) -> tuple[bytes, ChunkedDecoder] | BadMessage:
    decoder, content = ChunkedDecoder(400), b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for start, end in itertools.pairwise(edges):
            content += b"".join(decoder.feed(data[start:end]))
    except BadMessage as error:
        return error
    return content, decoder


_cuts = st.lists(st.integers(0, 1 << 16), max_size=12)
_CHUNK_PARTS = [
    b"0", b"5", b"a", b"0005", b"-", b"g", b" ", b";", b";x=y", b"\r\n", b"\r", b"\n", b"hello",
    b"\0", b"0\r\n\r\n", b"5\r\nhello\r\n", b"X: y\r\n", b"1" * 16, b"\xff",
]  # fmt: skip
_chunk_parts = st.lists(
    st.sampled_from(_CHUNK_PARTS),
    max_size=10,
).map(b"".join)


@steady
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=20), _cuts)
def test_chunks_equal_the_reference(contents: list[bytes], rest: bytes, cuts: list[int]) -> None:
    """Content and rest equal the reference's, in whatever pieces the bytes arrive."""
    data = b"".join(chunk([piece]) for piece in contents) + last_chunk([]) + rest
    found = _feed(data, cuts)
    assert not isinstance(found, BadMessage)
    content, decoder = found
    assert decoder.done
    assert _reference(data) == (content, decoder.rest) == (b"".join(contents), rest)


@steady
@given(st.one_of(_chunk_parts, st.binary(max_size=60)), _cuts)
def test_any_bytes_as_chunks(data: bytes, cuts: list[int]) -> None:
    """They are content or BadMessage, the same for any pieces; what the reference accepts, the
    decoder accepts."""
    whole, pieces = _feed(data, []), _feed(data, cuts)
    wanted = _reference(data)
    if isinstance(whole, BadMessage) or isinstance(pieces, BadMessage):
        assert type(whole) is type(pieces)
        assert wanted is None
        return
    content, decoder = whole
    assert content == pieces[0]
    state: list[Any] = [(d.done, d.rest, d.trailers) for d in (decoder, pieces[1])]
    assert state[0] == state[1]
    if wanted is not None:
        assert decoder.done
        assert wanted == (content, decoder.rest)


@steady
@given(st.lists(st.tuples(_names, _values), max_size=5), _cuts)
def test_trailers_round_trip(fields: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """Permitted trailers come out as they went in."""
    lines = [b"%b: %b" % field for field in fields if field[0].lower() not in TAKEN_OUT]
    found = _feed(last_chunk(lines), cuts)
    assert not isinstance(found, BadMessage)
    assert found[1].done
    assert found[1].trailers == lines


def test_reference_refuses() -> None:
    """The reference does not accept everything."""
    for data in (b"", b"0\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"g\r\n\r\n", b"0x1\r\na\r\n0\r\n\r\n"):
        assert _reference(data) is None
    with pytest.raises(BadMessage):
        raise _feed(b"g\r\n", [])  # type: ignore[misc]
