"""Chunked bodies, read and written."""

from __future__ import annotations

import pytest

from slardar.http1.framing import LAST_CHUNK, ChunkedDecoder, are_tiny, chunk, last_chunk
from slardar.http1.heads import BadMessage


def decode(data: bytes, size: int | None = None, status: int = 400) -> tuple[bytes, ChunkedDecoder]:
    """The content of ``data``, fed in pieces of ``size``."""
    decoder = ChunkedDecoder(status)
    size = size or len(data)
    content = b"".join(
        piece
        for start in range(0, len(data), size)
        for piece in decoder.feed(data[start : start + size])
    )
    return content, decoder


@pytest.mark.parametrize("size", [None, 1, 2, 3])
@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n00a\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b'5;a="b;c" \xff\r\nhello\r\n0;x\r\n\r\n', b"hello"),
        (b"5 \t\r\nhello\r\n0 ;x\r\n\r\n", b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5;" + b"x" * 1020 + b"\r\nhello\r\n0\r\n\r\n", b"hello"),
    ],
)
def test_content(data: bytes, content: bytes, size: int | None) -> None:
    """The same content comes out in whatever pieces the bytes arrive."""
    found, decoder = decode(data, size)
    assert found == content
    assert decoder.done
    assert (decoder.rest, decoder.trailers) == (b"", [])


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"0x5\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b" 5\r\n",
        b"5 5\r\n",
        b"5\n",
        b"5\r\r\n",
        b"5;\0\r\n",
        b"5;\r;\r\n",
        b"1" * 16 + b"\r\n",
        b"5;" + b"x" * 1023 + b"\r\n",
        b"x" * 2000,
        b"1\r\nab",
        b"1\r\na\n",
        b"1\r\na\rb",
        b"0\r\n\n",
        b"0\r\nX\r\n",
        b"0\r\n: y\r\n",
        b"0\r\nX : y\r\n",
        b"0\r\n X: y\r\n",
        b"0\r\nX: \0\r\n",
        b"0\r\nX: y\n",
        b"0\r\nX: " + b"y" * 17000,
        b"0\r\n" + b"X: yyyyyyyyyyyy\r\n" * 1200,
    ],
)
@pytest.mark.parametrize("status", [400, 502])
def test_malformed(data: bytes, size: int | None, status: int) -> None:
    """It is refused as soon as possible, with 400 for a client and 502 for a server."""
    with pytest.raises(BadMessage) as caught:
        decode(data, size, status)
    assert caught.value.status == status


@pytest.mark.parametrize("before", [b"1\r\na\r\n", b"0f;x=y\r\n0123456789abcde\r\n"])
@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize(
    "line",
    [
        b"", b"g", b"0x5", b"-5", b"+5", b" 5", b"5 5", b"5_5", b"5;\0", b"5;\r;", b"\xb25",
        b"1" * 16, b"5;" + b"x" * 1021, b"5;" + b"x" * 5000, b"5\n",
    ],
)  # fmt: skip
def test_malformed_behind_others(line: bytes, size: int | None, before: bytes) -> None:
    """The fast way for many chunks accepts nothing that the other way refuses."""
    for end in (b"\r\nhello\r\n", b"\nhello\r\n"):
        with pytest.raises(BadMessage):
            decode(before * 3 + line + end, size)
    with pytest.raises(BadMessage):
        decode(before * 3 + b"5\r\nhello" + b"x\r\n" + before, size)


def test_way_for_many_chunks_is_as_the_other() -> None:
    """Both ways give the same content for sizes in any spelling, with and without extensions,
    cut anywhere."""
    sizes = [*range(1, 40), 127, 128, 255, 256, 257, 4095, 4096, 70000]
    forms = ("%x", "%X", "%02x", "%02X", "%05x", "%x \t", "%x;a", '%x ;a="\xff"', "%x;" + "b" * 900)
    data, content = b"", b""
    for number, size in enumerate(sizes * len(forms)):
        piece = bytes([number % 256]) * size
        content += piece
        line = (forms[number % len(forms)] % size).encode("latin-1")
        data += line + b"\r\n" + piece + b"\r\n"
    data += b"0\r\nX: y\r\n\r\nGET"
    for step in (None, 1, 7, 1000, 65537):
        found, decoder = decode(data, step)
        assert found == content
        assert (decoder.done, decoder.trailers, decoder.rest) == (True, [b"X: y"], b"GET")


@pytest.mark.parametrize("status", [400, 502])
@pytest.mark.parametrize("size", [None, 1000])
@pytest.mark.parametrize("line", [b"1;" + b"x" * 1000, b"000000000000001;" + b"x" * 150])
def test_chunks_of_hardly_any_content(line: bytes, size: int | None, status: int) -> None:
    """Many are refused before they are a megabyte; a few pass."""
    one = line + b"\r\nx\r\n"
    found, _ = decode(one * 50 + b"2710\r\n" + b"x" * 10000 + b"\r\n", size)
    assert len(found) == 10050
    with pytest.raises(BadMessage) as caught:
        decode(one * (1000000 // len(one)), size, status)
    assert caught.value.status == status


@pytest.mark.parametrize("size", [None, 6, 1000])
@pytest.mark.parametrize(
    "one",
    [
        b"1\r\nx\r\n",
        b"00000001\r\nx\r\n",
        b"1;chunk-signature=" + b"0123456789abcdef" * 4 + b"\r\nx\r\n",
        b"400;" + b"x" * 1000 + b"\r\n" + b"x" * 1024 + b"\r\n",
    ],
)
def test_honest_chunks_pass_for_ever(one: bytes, size: int | None) -> None:
    """Small chunks pass: a clock that ticks, tokens of a text, signed pieces."""
    decoder = ChunkedDecoder(400)
    data = one * (400_000 // len(one))
    for start in range(0, len(data), size or len(data)):
        decoder.feed(data[start : start + (size or len(data))])
    assert not decoder.done


def test_many_small_pieces_are_known() -> None:
    """A reader of such a body reads less at once."""
    assert are_tiny([b"x"] * 20, 120)
    assert not are_tiny([b"x" * 100] * 20, 2100)
    assert not are_tiny([], 100)


def test_rest() -> None:
    """Bytes after the body are kept, also if they arrive later."""
    decoder = ChunkedDecoder(400)
    assert decoder.feed(b"1\r\na\r\n0\r\n\r\nGET ") == [b"a"]
    assert decoder.feed(b"/") == []
    assert decoder.done
    assert decoder.rest == b"GET /"


def test_pieces_of_a_chunk() -> None:
    """Content goes on before its chunk is complete; the decoder is not done before the last
    byte."""
    decoder = ChunkedDecoder(400)
    assert decoder.feed(b"5\r\nhe") == [b"he"]
    assert decoder.feed(b"llo") == [b"llo"]
    assert decoder.feed(b"\r\n0\r\n\r") == []
    assert not decoder.done
    assert decoder.feed(b"\n") == []
    assert decoder.done


def test_trailers() -> None:
    """Trailers that frame, route or authenticate are dropped, the others stay unchanged."""
    _, decoder = decode(
        b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\nHOST: x\r\ntransfer-encoding: x\r\n"
        b"Authorization: x\r\nX-Forwarded-For: x\r\nSet-Cookie: x\r\nEmpty:\r\n\r\n",
        1,
    )
    assert decoder.done
    assert decoder.trailers == [b"X-Sum: 1", b"Empty:"]


def test_writing() -> None:
    """The decoder reads what the encoder writes."""
    assert chunk([b"hello, ", b"world"]) == b"c\r\nhello, world\r\n"
    assert last_chunk([]) == LAST_CHUNK
    assert last_chunk([b"A: b", b"C: d"]) == b"0\r\nA: b\r\nC: d\r\n\r\n"
    content, decoder = decode(chunk([b"a", b"b"]) + chunk([b"c"]) + last_chunk([b"A: b"]))
    assert (content, decoder.trailers, decoder.done) == (b"abc", [b"A: b"], True)


@pytest.mark.parametrize(
    "data", [b"zz", b"-", b"5 5", b"5;\0", b"1\r\na\r\nx", b"0\r\n: ", b"0\r\nX y", b"5\rx"]
)
@pytest.mark.parametrize("size", [None, 1])
def test_line_that_never_ends(data: bytes, size: int | None) -> None:
    """A malformed line is refused before its CRLF, which may never come."""
    with pytest.raises(BadMessage):
        decode(data, size, 502)


@pytest.mark.parametrize(
    "data", [b"f", b"0f", b"f ", b"f\t;", b"f;a=\xff", b"f\r", b"0\r\n", b"0\r\nX", b"0\r\nX: y\r"]
)
def test_line_that_goes_on(data: bytes) -> None:
    """A line that may still become correct is waited for, in whatever pieces."""
    for size in (None, 1):
        decode(data, size, 502)
