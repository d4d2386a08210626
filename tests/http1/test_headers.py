"""Which headers concern one connection only."""

from __future__ import annotations

import pytest

from slardar.http1.headers import (
    FORBIDDEN_TRAILERS,
    KEPT,
    REPLY_SPECIAL,
    REQUEST_SPECIAL,
    TAKEN_OUT,
    drop_named,
    starts,
    tokens,
)

#: RFC 9110 7.6.1.
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"transfer-encoding",
    b"upgrade",
}


def test_hop_by_hop_is_special() -> None:
    """None of them passes in either direction, nor in a trailer."""
    assert HOP_BY_HOP <= REQUEST_SPECIAL
    assert HOP_BY_HOP <= REPLY_SPECIAL
    assert HOP_BY_HOP <= FORBIDDEN_TRAILERS


@pytest.mark.parametrize("names", [TAKEN_OUT, REPLY_SPECIAL])
def test_starts_find_every_special_name(names: frozenset[bytes]) -> None:
    """They are found in any mix of cases, also if the name is shorter than three letters."""
    rows = starts(names)
    for name in names:
        for spelling in (name.lower(), name.upper(), name.title(), name.swapcase()):
            line = spelling + b":"
            row = rows[line[0]]
            assert row is not None
            assert row[line[2]]


def test_starts_pass_what_most_lines_are() -> None:
    """The usual headers of browsers need no lookup."""
    rows = starts(TAKEN_OUT)
    for line in (b"Accept: */*", b"Referer: /", b"Sec-Fetch-Mode: cors"):
        assert rows[line[0]] is None
    for line in (b"User-Agent: x", b"Cookie: a=b", b"Cache-Control: no-cache"):
        row = rows[line[0]]
        assert row is not None
        assert not row[line[2]]


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"close", [b"close"]),
        (b" Close\t", [b"close"]),
        (b"Keep-Alive, X-Foo ,x", [b"keep-alive", b"x-foo", b"x"]),
        (b"", [b""]),
        (b",a,", [b"", b"a", b""]),
    ],
)
def test_tokens(value: bytes, members: list[bytes]) -> None:
    """Members of a list are in lower case and without blanks."""
    assert tokens(value) == members


def test_drop_named() -> None:
    """Every line of a named header goes; the first element is no header."""
    lines = [b"x-foo", b"X-Foo: 1", b"A: b", b"x-foo:2", b"X-Foobar: 3"]
    drop_named(lines, [b"x-foo", b"close"])
    assert lines == [b"x-foo", b"A: b", b"X-Foobar: 3"]


def test_drop_named_keeps_what_matters() -> None:
    """``Connection`` cannot remove headers of framing, routing, credentials or content."""
    lines = [b"", *(name.title() + b": x" for name in sorted(KEPT))]
    before = list(lines)
    drop_named(lines, [*KEPT, b"", b"close", b"keep-alive", b"upgrade", b"te"])
    assert lines == before


def test_trailers_that_are_forbidden() -> None:
    """RFC 9110 6.5.1: framing, routing, authentication, modifiers, content format."""
    assert {
        b"content-length",
        b"host",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"content-type",
        b"content-encoding",
        b"cache-control",
        b"if-none-match",
        b"range",
        b"x-forwarded-for",
        b"x_forwarded_for",
        b"trailer",
    } <= FORBIDDEN_TRAILERS
