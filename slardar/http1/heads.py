"""The grammar and the headers that heads of requests and replies share.

The grammar is llhttp's, through httptools: it refuses bare CR or LF, folded
lines, blanks before a colon, control characters, and lengths that disagree.  (This needs
httptools 0.6.4: the llhttp of httptools 0.6.2 accepts folded lines in replies.)
Where the extension was built, llhttp is asked about unusual heads only: :mod:`slardar.http1.scan`.
:mod:`slardar.http1.request` and :mod:`slardar.http1.reply` decide what llhttp leaves
open: which versions, targets and hosts are accepted, which headers concern one
connection only, and how the body is delimited.

A head is fed to llhttp as a whole, after its end has been found.  The body is not fed, so
the place where a message ends is never in doubt.  llhttp judges the head; the parsers
then split the head into lines and pass the lines on unchanged.  (Measured for ten headers:
a callback for each header costs 2.0 µs, judging without callbacks 0.5 µs, and splitting
with a look at two bytes of each line 0.7 µs.)
"""

from __future__ import annotations

from typing import Any, Final

import httptools

from slardar.http1.headers import REPLY_SPECIAL, TAKEN_OUT, spellings

__all__ = [
    "CHUNKED",
    "UNTIL_CLOSE",
    "BadMessage",
    "find_header",
    "judge",
]

#: Values of ``length`` for bodies whose size is not known beforehand.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

#: The methods of the heads that :mod:`slardar.http1.scan` reads, which gives these very objects.
GET: Final = b"GET"
METHODS: Final = (GET, b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE")

#: Digits of the largest Content-Length that llhttp accepts (2**64 - 1).  llhttp also
#: accepts any number of leading zeros; int() refuses more than 4,300 digits.
LENGTH_DIGITS: Final = 20


class BadMessage(Exception):
    """A message that is refused; ``status`` is the status that the client gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Whole:
    """A listener of httptools that notes one event: the message is complete."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def on_message_complete(self) -> None:
        self.complete = True


class _Judge:
    """Feeds heads to llhttp, which refuses a head that is not HTTP.

    A request parser is used again after a complete message, which a request without a
    body is: making a parser costs more than feeding it.  If a used parser refuses a head,
    a new parser judges it again, and only the new parser's refusal counts.
    """

    __slots__ = ("_make_reply_parser", "_make_request_parser", "_parser", "_whole")

    def __init__(self) -> None:
        self._make_request_parser: Any = httptools.HttpRequestParser
        self._make_reply_parser: Any = httptools.HttpResponseParser
        self._whole = _Whole()
        self._parser: Any = None

    def request(self, head: bytes) -> None:
        """Judge the head of a request; raises httptools' errors."""
        whole = self._whole
        whole.complete = False
        parser = self._parser
        if parser is not None:
            try:
                parser.feed_data(head)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                whole.complete = False
            else:
                if not whole.complete:
                    self._parser = None
                return
        self._parser = None
        parser = self._make_request_parser(whole)
        parser.feed_data(head)
        if whole.complete:
            self._parser = parser

    def reply(self, head: bytes) -> None:
        """Judge the head of a reply; raises httptools' errors."""
        self._make_reply_parser(NOTHING).feed_data(head)


NOTHING: Final = object()
#: The one judge of the process.  Its methods return before anybody else can call them.
judge: Final = _Judge()


def find_header(lines: list[bytes], name: str) -> str | None:
    """The first value of ``name`` in a list of header lines, or ``None``."""
    wanted = name.lower().encode("latin-1") + b":"
    size = len(wanted)
    for line in lines:
        if line[:size].lower() == wanted:
            return line[size:].strip(b" \t").decode("latin-1")
    return None


# What the parser does with a header line: pass it on unchanged, drop it, or read it as the
# header that the constant names.
PASSES: Final = -1
DROPPED: Final = 0
HOST_NAME: Final = 1
CONNECTION: Final = 2
CONTENT_LENGTH: Final = 3
CODING: Final = 4
EXPECT: Final = 5
UPGRADE: Final = 6
TE: Final = 7
FORWARDED_FOR: Final = 8
FORWARDED_HOST: Final = 9
FORWARDED_PROTO: Final = 10
REQUEST_ID: Final = 11
EXPLAIN: Final = 12
FORWARDED: Final = 13
REAL_IP: Final = 14

_MEANINGS: Final[dict[bytes, int]] = {
    b"host": HOST_NAME,
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": CODING,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"te": TE,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-host": FORWARDED_HOST,
    b"x-forwarded-proto": FORWARDED_PROTO,
    b"x-request-id": REQUEST_ID,
    b"forwarded": FORWARDED,
    b"x-real-ip": REAL_IP,
    # Read and not only dropped, for it holds a token whatever its spelling is.
    **dict.fromkeys(spellings(b"x-slardar-explain"), EXPLAIN),
}


#: Frequent headers that :func:`slardar.http1.headers.starts` cannot tell from the names above.
#: They stand in the tables so that the first lookup finds them.
_USUAL = (
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-security-policy",
    b"content-type",
    b"x-requested-with",
)


def _spelled(names: frozenset[bytes]) -> dict[bytes, int]:
    """The meanings of header lines, by name in its usual spellings."""
    meanings = dict.fromkeys(_USUAL, PASSES)
    meanings.update((name, _MEANINGS.get(name, DROPPED)) for name in names)
    return {
        spelled: meaning
        for name, meaning in meanings.items()
        for spelled in (name, name.title(), name.upper())
    }


OF_REQUEST: Final[dict[bytes, int]] = _spelled(TAKEN_OUT)
OF_REPLY: Final[dict[bytes, int]] = _spelled(REPLY_SPECIAL)

#: The usual header lines that keep a connection open.
KEEP_ALIVE: Final = frozenset(
    (b"Connection: keep-alive", b"Connection: Keep-Alive", b"connection: keep-alive")
)


def field(line: bytes, meanings: dict[bytes, int]) -> tuple[int, bytes]:
    """The meaning of a header line, and its value.

    The meaning is the name's in ``meanings``, or ``PASSES`` for other names.  Nearly all
    lines that come here are spelled and spaced in the usual way, and need one lookup.
    """
    parts = line.split(b": ", 1)
    if len(parts) == 2:
        value = parts[1]
        if value and value[0] > 32 and value[-1] > 32:
            meaning = meanings.get(parts[0])
            if meaning is not None:
                return meaning, value
    colon = line.find(b":")
    meaning = meanings.get(line[:colon].lower())
    return PASSES if meaning is None else meaning, line[colon + 1 :].strip(b" \t")


def joined(known: bytes | None, value: bytes) -> bytes | None:
    """The value of a list header after one more line ``value`` (RFC 9110 5.6.1).

    ``known`` is the value of the lines before it.  An empty line adds nothing.
    """
    if not value:
        return known
    return value if known is None else known + b", " + value
