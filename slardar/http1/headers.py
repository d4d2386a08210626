"""Which headers concern one connection only, and how they are read.

RFC 9110 7.6.1: an intermediary removes the headers of the connection, including those
that ``Connection`` names, and writes the headers that the next connection needs.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "FORBIDDEN_TRAILERS",
    "KEPT",
    "OF_TRUSTED",
    "REPLY_SPECIAL",
    "REQUEST_SPECIAL",
    "TAKEN_OUT",
    "drop_named",
    "named_to_drop",
    "spellings",
    "starts",
    "tokens",
]


def spellings(name: bytes) -> list[bytes]:
    """The name with each ``-`` as it is and as ``_``."""
    first, *more = name.split(b"-")
    found = [first]
    for part in more:
        found = [known + dash + part for known in found for dash in (b"-", b"_")]
    return found


_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)

_TAKEN: Final = _HOP_BY_HOP | {
    b"content-length",
    b"expect",
    b"host",
    b"http2-settings",
    b"proxy",
    b"proxy-authorization",
    b"x-client-cert-subject",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-request-id",
    b"x-slardar-explain",
}

#: Headers of a request that do not pass unchanged: the parser takes them out, and they
#: are written anew or dropped.  ``http2-settings`` belongs to an upgrade to h2c, which
#: is never offered; ``proxy`` is no header of HTTP but becomes ``HTTP_PROXY`` in
#: CGI programs (CVE-2016-5385); ``proxy-authorization`` and ``x-slardar-explain``, which
#: holds a token of the control channel, are meant for slardar.  ``x-client-cert-subject`` is
#: what slardar itself has verified.  CGI and WSGI programs
#: cannot tell ``X_Forwarded_For`` from ``X-Forwarded-For``, so these names are dropped
#: when any ``-`` of them is a ``_`` (nginx drops every name with ``_``).
REQUEST_SPECIAL: Final = frozenset(each for name in _TAKEN for each in spellings(name))

#: Headers of a request that pass from a trusted peer only (:mod:`slardar.http1.forwarded`).
#: Unlike those above, slardar does not write them itself, and a hook may.
OF_TRUSTED: Final = frozenset((b"forwarded", b"x-real-ip"))

#: All headers that the parser takes out of a request.
TAKEN_OUT: Final = REQUEST_SPECIAL | {each for name in OF_TRUSTED for each in spellings(name)}

#: Headers of a reply that do not pass unchanged.
REPLY_SPECIAL: Final = _HOP_BY_HOP | {b"content-length"}

#: Headers that stay although ``Connection`` names them: without them the message would
#: mean something else, or seem to come from somebody else.
KEPT: Final = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"cookie",
        b"date",
        b"forwarded",
        b"host",
        b"set-cookie",
        b"transfer-encoding",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    )
)

#: Fields that are never passed on in a trailer (RFC 9110 6.5.1): they concern framing,
#: routing, authentication, tracing, or how to read the content.
FORBIDDEN_TRAILERS: Final = (
    _HOP_BY_HOP
    | TAKEN_OUT
    | frozenset(
        (
            b"age",
            b"authorization",
            b"cache-control",
            b"content-encoding",
            b"content-range",
            b"content-type",
            b"cookie",
            b"date",
            b"expires",
            b"if-match",
            b"if-modified-since",
            b"if-none-match",
            b"if-range",
            b"if-unmodified-since",
            b"location",
            b"max-forwards",
            b"pragma",
            b"range",
            b"retry-after",
            b"set-cookie",
            b"traceparent",
            b"tracestate",
            b"trailer",
            b"vary",
            b"www-authenticate",
            b"proxy-authenticate",
        )
    )
)


def tokens(value: bytes) -> list[bytes]:
    """The lower-case members of a comma-separated list."""
    if b"," not in value:
        return [value.strip().lower()]
    return [part.strip().lower() for part in value.split(b",")]


def starts(names: frozenset[bytes]) -> tuple[tuple[bool, ...] | None, ...]:
    """Tells from two bytes of a header line that its name is none of ``names``.

    The item at ``line[0]`` is ``None`` for nearly half of the lines of a usual head.  Else its
    item at ``line[2]`` is false for most other lines.  If it is true, the name must be looked up.
    (Looking up a slice in a set would make an object and a hash for each line.  Python looks
    into a tuple more quickly than into bytes.)
    """
    rows: list[set[int] | None] = [None] * 256
    for name in names:
        for start in (name.lower() + b":", name.upper() + b":"):
            row = rows[start[0]] = rows[start[0]] or set()
            row.update((start[2:3].lower()[0], start[2:3].upper()[0]))
    return tuple(None if row is None else tuple(code in row for code in range(256)) for row in rows)


def named_to_drop(named: list[bytes]) -> set[bytes]:
    """The names of the headers that are removed, of those that ``Connection`` names."""
    return {name for name in named if name not in _PLAIN and name not in KEPT}


def drop_named(lines: list[bytes], named: list[bytes]) -> None:
    """Remove the headers that ``Connection`` names from a list of header lines."""
    gone = named_to_drop(named)
    lines[1:] = [line for line in lines[1:] if line.partition(b":")[0].lower() not in gone]


_PLAIN: Final = frozenset((b"", b"close", b"keep-alive", b"upgrade", b"te"))
