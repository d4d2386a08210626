"""Bodies: where they end, and how they are written.

llhttp can decode chunks too, but it does not stop at the end of a message, so bytes of
the next message could be read as part of this one.  The decoder here stops at the end.
The grammar is RFC 9112 7.1, read strictly: lines end with CRLF, sizes are hexadecimal
digits, extensions and trailers are bounded.
"""

from __future__ import annotations

import re
from typing import Final

from slardar.http1.headers import FORBIDDEN_TRAILERS
from slardar.http1.heads import BadMessage

__all__ = ["LAST_CHUNK", "ChunkedDecoder", "are_tiny", "chunk", "last_chunk"]

#: Bytes of one chunk-size line, extensions included; nginx and Go allow about
#: as much.  Extensions are skipped and not passed on.
_MAX_SIZE_LINE = 1024
_MAX_TRAILERS = 16384

#: The overhead of a chunk is every byte of it that is not content.  Each chunk may have
#: this many bytes of overhead, and two more for each byte of content: chunks of one byte
#: with a signature as extension pass for ever.  Overhead beyond this allowance is summed
#: up over the body; a chunk that uses less than its allowance lowers the sum.  The sum may
#: reach :data:`_MAX_EXCESS`.  Go's net/http has this rule with 16 bytes and 16 KiB.
_ALLOWED: Final = 128
_MAX_EXCESS: Final = 65536

#: The size lines of chunks below 256 bytes, with the CRLF before and after each line.
#: Matching the grammar takes three times as long as looking here, which matters for a body
#: in chunks of one byte.
_SIZES: Final[dict[bytes, int]] = {
    b"\r\n%b\r\n" % digits: int(digits, 16)
    for number in range(1, 256)
    for digits in (b"%x" % number, b"%X" % number, b"%02x" % number, b"%02X" % number)
}
_SHORTEST: Final = 5

# 15 digits are 2**60 bytes: larger than any body, smaller than any overflow.
# A chunk extension is visible text; quotes need not be understood to find CRLF.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
# A complete size line, after the CRLF that ends the chunk before it.
_NEXT = re.compile(rb"\r\n" + _SIZE_LINE.pattern + rb"\r\n")
# The beginning of a size line, and the beginning of a trailer or of the last line.
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?")
_TRAILER_BEGUN = re.compile(rb"\r?|[!#$%&'*+.^_`|~0-9A-Za-z-]+(?::[\t\x20-\x7e\x80-\xff]*\r?)?")
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")

LAST_CHUNK = b"0\r\n\r\n"

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedDecoder:
    """Decodes a chunked body, in whatever pieces it arrives.

    ``status`` is the status of the :class:`BadMessage` that is raised: 400 for a client's
    body, 502 for a server's.
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
        #: Bytes of overhead beyond the allowance of the chunks so far; see ``_ALLOWED``.
        self._excess = 0
        self._trailer_size = 0
        #: Trailer fields that may be passed on, as lines without CRLF.
        self.trailers: list[bytes] = []
        #: Once ``done``: the bytes that follow the body.
        self.rest = b""

    @property
    def done(self) -> bool:
        return self._state == _DONE

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of content in ``data``; look at ``done`` afterwards.

        Raises :class:`BadMessage` at the first byte that breaks the grammar.
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
        """Append to ``pieces`` the content of each complete chunk from ``position`` on.

        ``position`` is where the content of the chunk before ends.  Returns where the
        content of the last complete chunk ends.
        """
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
        """Count the overhead of a chunk with ``size`` bytes of content.

        ``length`` is the length of its size line without CRLF.
        """
        excess = self._excess + length + 4 - _ALLOWED - 2 * size
        self._excess = excess if excess > 0 else 0
        if excess > _MAX_EXCESS:
            raise BadMessage(self._status, "the chunks of the body have too little content")

    def _take_line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """The next complete line without CRLF, and where it ends.

        If the line is not complete, its bytes are kept and the line is ``None``.
        """
        held = self._line
        limit = _MAX_TRAILERS if self._state == _TRAILERS else _MAX_SIZE_LINE
        end = data.find(b"\n", position)
        line = held + data[position : end + 1 if end >= 0 else len(data)]
        if len(line) > limit or (self._state == _DATA_END and line not in (b"\r", b"\r\n")):
            raise BadMessage(self._status, "a chunk of the body is malformed")
        if end < 0:
            # Refuse a malformed line now: the end of the line may never come.
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
    """Whether ``size`` bytes of a chunked body came in so many pieces that the reader
    should read less at once: one piece takes about as long as 64 bytes."""
    return len(pieces) << 6 > size


def chunk(pieces: list[bytes]) -> bytes:
    """``pieces`` as one chunk; at least one piece must not be empty."""
    return b"%x\r\n%b\r\n" % (sum(map(len, pieces)), b"".join(pieces))


def last_chunk(trailers: list[bytes]) -> bytes:
    """The last chunk of a chunked body, with its trailers."""
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(trailers) if trailers else LAST_CHUNK
