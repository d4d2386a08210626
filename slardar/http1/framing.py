"""Bodies: where they end, and how they are written.

llhttp could decode chunks too, but says only afterwards how much it took; with a
decoder that knows where the message ends, the bytes behind it are never touched
by the wrong message.  The grammar is RFC 9112 7.1, without its leniencies: CRLF
only, hexadecimal digits only, bounded extensions, bounded trailers.
"""

from __future__ import annotations

import re
from typing import Final

from slardar.http1.headers import FORBIDDEN_TRAILERS
from slardar.http1.heads import BadMessage

__all__ = ["LAST_CHUNK", "ChunkedDecoder", "are_tiny", "chunk", "last_chunk"]

#: Bytes of one chunk-size line, extensions included; nginx and Go allow about
#: as much.  Extensions are read over and not passed on.
_MAX_SIZE_LINE = 1024
_MAX_TRAILERS = 16384

#: Bytes that a chunk may have beside its content without being counted, and two more for
#: each byte of content: a signature as an extension of one byte passes for ever.  What is
#: beyond that, less what other chunks leave of theirs, may come to :data:`_MAX_EXCESS`.
#: The rule is that of Go's net/http, which allows 16 bytes and 16 KiB.
_ALLOWED: Final = 128
_MAX_EXCESS: Final = 65536

#: The sizes of small chunks, as they are written in one and in two digits, and with what
#: stands before and behind.  To match the grammar takes three times as long, which matters
#: where each chunk is a byte.
_SIZES: Final[dict[bytes, int]] = {
    b"\r\n%b\r\n" % digits: int(digits, 16)
    for number in range(1, 256)
    for digits in (b"%x" % number, b"%X" % number, b"%02x" % number, b"%02X" % number)
}
_SHORTEST: Final = 5

# 15 digits are 2**60 bytes: larger than any body, smaller than any overflow.
# A chunk extension is visible text; quotes need not be understood to find CRLF.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
# One that stands whole behind the content of another chunk.
_NEXT = re.compile(rb"\r\n" + _SIZE_LINE.pattern + rb"\r\n")
# What may still become a size line, and a trailer or the last line.
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?")
_TRAILER_BEGUN = re.compile(rb"\r?|[!#$%&'*+.^_`|~0-9A-Za-z-]+(?::[\t\x20-\x7e\x80-\xff]*\r?)?")
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")

LAST_CHUNK = b"0\r\n\r\n"

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedDecoder:
    """Takes a chunked body apart, in whatever pieces it arrives.

    ``status`` is what :class:`BadMessage` carries: 400 for a client's body, 502
    for a server's.
    """

    __slots__ = (
        "_excess",
        "_line",
        "_remaining",
        "_state",
        "_status",
        "_trailer_size",
        "rest",
        "trailers",
    )

    def __init__(self, status: int) -> None:
        self._status = status
        self._state = _SIZE
        self._line = b""
        self._remaining = 0
        #: Bytes beside the content that were more than chunks need.
        self._excess = 0
        self._trailer_size = 0
        #: Trailer fields that may be passed on, as lines without CRLF.
        self.trailers: list[bytes] = []
        #: Once ``done``: what came behind the body.
        self.rest = b""

    @property
    def done(self) -> bool:
        return self._state == _DONE

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of content in ``data``; look at ``done`` afterwards.

        Raises :class:`BadMessage` at the first byte that cannot be right.
        """
        pieces: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            state = self._state
            if state == _DATA:
                piece = data[position : position + self._remaining]
                position += len(piece)
                self._remaining -= len(piece)
                pieces.append(piece)
                if not self._remaining:
                    self._state = _DATA_END
                    if not self._line:
                        position = self._take_whole(data, position, pieces)
            elif state == _DONE:
                self.rest += data[position:]
                break
            else:
                line, position = self._take_line(data, position)
                if line is None:
                    break
                self._line_arrived(line)
        return pieces

    def _take_whole(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Take the chunks behind one that ends at ``position``, as far as they are here as
        a whole; answers where the content of the last one ends."""
        while True:
            start = position + _SHORTEST
            size = _SIZES.get(data[position:start])
            if size is None:
                start += 1
                size = _SIZES.get(data[position:start])
            if size is None:
                match = _NEXT.match(data, position)
                if match is None:
                    return position
                start = match.end()
                size = int(match[1], 16)
            end = start + size
            length = start - position - 4
            if not size or end > len(data) or length + 2 > _MAX_SIZE_LINE:
                return position
            if length + 4 > _ALLOWED or self._excess:
                self._count(length, size)
            pieces.append(data[start:end])
            position = end

    def _count(self, length: int, size: int) -> None:
        """Count what a chunk of ``size`` bytes has beside them; ``length`` is that of its
        line, without its end."""
        excess = self._excess + length + 4 - _ALLOWED - 2 * size
        self._excess = excess if excess > 0 else 0
        if excess > _MAX_EXCESS:
            raise BadMessage(self._status, "the chunks of the body have too little content")

    def _take_line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """The next whole line (without CRLF) and where it ends; else keep what there is."""
        held = self._line
        limit = _MAX_TRAILERS if self._state == _TRAILERS else _MAX_SIZE_LINE
        end = data.find(b"\n", position)
        line = held + data[position : end + 1 if end >= 0 else len(data)]
        if len(line) > limit or (self._state == _DATA_END and line not in (b"\r", b"\r\n")):
            raise BadMessage(self._status, "a chunk of the body is malformed")
        if end < 0:
            # What is wrong is refused now: its end may never come.
            begun = _TRAILER_BEGUN if self._state == _TRAILERS else _SIZE_BEGUN
            if self._state != _DATA_END and begun.fullmatch(line) is None:
                raise BadMessage(self._status, "a line of the chunked body is malformed")
            self._line = line
            return None, len(data)
        self._line = b""
        if line[-2:] != b"\r\n":
            raise BadMessage(self._status, "a line of the chunked body does not end with CRLF")
        return line[:-2], end + 1

    def _line_arrived(self, line: bytes) -> None:
        if self._state == _SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise BadMessage(self._status, "a chunk size of the body is malformed")
            size = self._remaining = int(match[1], 16)
            self._state = _DATA if size else _TRAILERS
            self._count(len(line), size)
        elif self._state == _DATA_END:
            self._state = _SIZE
        elif line:
            self._trailer_size += len(line)
            match = _TRAILER.fullmatch(line)
            if match is None or self._trailer_size > _MAX_TRAILERS:
                raise BadMessage(self._status, "a trailer of the body is malformed")
            if match[1].lower() not in FORBIDDEN_TRAILERS:
                self.trailers.append(line)
        else:
            self._state = _DONE


def are_tiny(pieces: list[bytes], size: int) -> bool:
    """Whether ``size`` bytes of a chunked body were so many pieces that whoever reads it
    should read less at once: a piece takes about as long as 64 bytes."""
    return len(pieces) << 6 > size


def chunk(pieces: list[bytes]) -> bytes:
    """``pieces`` as one chunk; they must not be empty together."""
    return b"%x\r\n%b\r\n" % (sum(map(len, pieces)), b"".join(pieces))


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body, with its trailers."""
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(trailers) if trailers else LAST_CHUNK
