"""The first message of a TLS client: what is read in it, and what is refused."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.dataplane.client_hello import (
    DECODE_ERROR,
    ILLEGAL_PARAMETER,
    MAX_HELLO,
    PROTOCOL_VERSION,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    BadHello,
    ClientHello,
    HelloReader,
    is_plain_http,
)


def of_openssl(name: str | None, protocols: Sequence[str] = ()) -> bytes:
    """The hello of a real client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def vector(size: int, data: bytes) -> bytes:
    """Some bytes behind their length."""
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    """An extension of a hello."""
    return kind.to_bytes(2, "big") + vector(2, data)


def server_name(name: bytes, kind: int = 0) -> bytes:
    """The extension with the name of the server."""
    return extension(0, vector(2, bytes((kind,)) + vector(2, name)))


def body(*extensions: bytes, session: bytes = b"", suites: bytes = b"\x13\x01") -> bytes:
    """A hello without its head."""
    start = b"\x03\x03" + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, b"\0")
    return start + vector(2, b"".join(extensions)) if extensions else start


def message(content: bytes, kind: int = 1) -> bytes:
    """A message of the handshake."""
    return bytes((kind,)) + vector(3, content)


def records(data: bytes, size: int = MAX_HELLO) -> bytes:
    """The records of a message, with ``size`` bytes each."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def found(data: bytes) -> tuple[str, tuple[bytes, ...]] | None:
    """What is read in bytes that come at once."""
    hello = HelloReader().feed(data)
    return None if hello is None else (hello.name, hello.protocols)


@pytest.mark.parametrize(
    ("name", "protocols", "expected"),
    [
        ("A.Example", ["h2", "http/1.1"], ("a.example", (b"h2", b"http/1.1"))),
        ("x" * 60 + ".example", [], ("x" * 60 + ".example", ())),
        (None, ["http/1.1"], ("", (b"http/1.1",))),
        (None, [], ("", ())),
        # An address is no name, so clients leave it out.
        ("127.0.0.1", [], ("", ())),
    ],
)
def test_hello_of_a_real_client(
    name: str | None, protocols: list[str], expected: tuple[str, tuple[bytes, ...]]
) -> None:
    """However OpenSSL writes it."""
    assert found(of_openssl(name, protocols)) == expected


#: Two kilobytes, as with a key share that a quantum computer does not break.
LONG = message(body(extension(51, bytes(1200)), server_name(b"long.example"), extension(21, b"")))


@pytest.mark.parametrize("data", [of_openssl("a.example"), records(LONG), records(LONG, 100)])
def test_hello_that_comes_in_two_pieces(data: bytes) -> None:
    """Wherever it is split; it is not there before its last byte."""
    expected = found(data)
    assert expected is not None
    for at in range(1, len(data)):
        reader = HelloReader()
        assert reader.feed(data[:at]) is None, at
        hello = reader.feed(data[at:])
        assert hello is not None
        assert (hello.name, hello.protocols) == expected
        assert reader.raw == data


def test_hello_that_comes_byte_by_byte() -> None:
    """As a slow client sends it."""
    reader = HelloReader()
    seen: list[ClientHello | None] = [reader.feed(bytes((byte,))) for byte in records(LONG)]
    assert seen[:-1] == [None] * (len(seen) - 1)
    hello = seen[-1]
    assert hello is not None
    assert hello.name == "long.example"


def test_largest_hello() -> None:
    """One byte more is refused, as soon as its length is known."""
    room = MAX_HELLO - len(body(server_name(b"a.example"), extension(21, b"")))
    largest = message(body(server_name(b"a.example"), extension(21, bytes(room))))
    assert len(largest) == MAX_HELLO + 4
    assert found(records(largest)) == ("a.example", ())
    larger = message(body(server_name(b"a.example"), extension(21, bytes(room + 1))))
    with pytest.raises(BadHello, match="longer than 16384 bytes"):
        HelloReader().feed(records(larger)[:9])


def test_bytes_behind_the_hello_are_kept() -> None:
    """They are OpenSSL's business."""
    reader = HelloReader()
    data = of_openssl("a.example") + b"\x17\x03\x03"
    assert reader.feed(data) is not None
    assert reader.raw == data


@pytest.mark.parametrize(
    ("data", "description", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", UNEXPECTED_MESSAGE, "does not begin with a TLS handshake"),
        (b"\x80\x2e\x01\x03\x01", UNEXPECTED_MESSAGE, "does not begin with a TLS handshake"),
        (b"\x17\x03\x03\0\x01x", UNEXPECTED_MESSAGE, "does not begin with a TLS handshake"),
        (b"\x16\x02", PROTOCOL_VERSION, "is not one of TLS"),
        (b"\x16\x03\x01\0\0", UNEXPECTED_MESSAGE, "is empty"),
        (b"\x16\x03\x01\x40\x01", RECORD_OVERFLOW, "is too long"),
        (b"\x16\x03\x01\0\x05\x02", UNEXPECTED_MESSAGE, "is not a hello"),
        (records(message(b"", kind=2)), UNEXPECTED_MESSAGE, "is not a hello"),
        (records(message(bytes(MAX_HELLO)), 2), DECODE_ERROR, "too many records"),
        (records(message(b"")), DECODE_ERROR, "is malformed"),
        (records(message(body(session=bytes(33)))), DECODE_ERROR, "is malformed"),
        (records(message(body(suites=b""))), DECODE_ERROR, "is malformed"),
        (records(message(body(suites=b"\x13\x01\x13"))), DECODE_ERROR, "is malformed"),
        (records(message(body() + b"\0")), DECODE_ERROR, "is malformed"),
        (records(message(body(b"\0\0\0\x09"))), DECODE_ERROR, "is malformed"),
        (records(message(body(server_name(b"a")) + b"\0")), DECODE_ERROR, "is malformed"),
        (records(message(body(server_name(b"a"), server_name(b"b")))), ILLEGAL_PARAMETER, "twice"),
        (records(message(body(*[extension(21, b"")] * 2))), ILLEGAL_PARAMETER, "twice"),
        (records(message(body(extension(0, b"")))), DECODE_ERROR, "malformed"),
        (records(message(body(extension(0, b"\0\0")))), DECODE_ERROR, "malformed"),
        (records(message(body(server_name(b"")))), DECODE_ERROR, "malformed"),
        (records(message(body(server_name(b"a", kind=1)))), DECODE_ERROR, "malformed server name"),
        (records(message(body(server_name(b"a\0b")))), ILLEGAL_PARAMETER, "no name of a server"),
        (records(message(body(server_name(b"a\r\nb")))), ILLEGAL_PARAMETER, "no name of a server"),
        (records(message(body(server_name(b"a..b")))), ILLEGAL_PARAMETER, "no name of a server"),
        (records(message(body(server_name(b".a")))), ILLEGAL_PARAMETER, "no name of a server"),
        (records(message(body(server_name(b"*.a")))), ILLEGAL_PARAMETER, "no name of a server"),
        (records(message(body(server_name(b"a" * 256)))), ILLEGAL_PARAMETER, "no name of a server"),
        (records(message(body(extension(16, b"")))), DECODE_ERROR, "malformed"),
        (records(message(body(extension(16, b"\0\0")))), DECODE_ERROR, "malformed"),
        (records(message(body(extension(16, b"\0\x02\0a")))), DECODE_ERROR, "malformed"),
        (records(message(body(extension(16, b"\0\x02\x01a\0")))), DECODE_ERROR, "protocols"),
    ],
)  # fmt: skip
def test_hostile_hello(data: bytes, description: int, reason: str) -> None:
    """It is refused, with the alert that says why."""
    with pytest.raises(BadHello, match=reason) as caught:
        HelloReader().feed(data)
    assert caught.value.description == description


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int) -> None:
    """No other error leaves the reader, whatever is changed in a hello."""
    good = records(message(body(server_name(b"a.example"), extension(16, b"\0\x03\x02h2"))))
    for data in (noise, good[:at] + noise, good[:at] + noise + good[at + len(noise) :]):
        try:
            hello = HelloReader().feed(data)
        except BadHello:
            continue
        assert hello is None or isinstance(hello, ClientHello)


@pytest.mark.parametrize(
    ("data", "is_http"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"G", True),
        (b"OPTIONS *", True),
        (b"get /", False),
        (b"\x16\x03\x01", False),
        (b"SSH-2.0-OpenSSH", False),
        (b"", False),
    ],
)
def test_requests_in_the_clear_are_told_apart(data: bytes, is_http: bool) -> None:
    """Of those, the sender gets a reply that can be read."""
    assert is_plain_http(data) is is_http
