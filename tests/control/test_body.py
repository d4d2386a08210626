"""Bodies of control calls: which are read, and the messages about the others."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.control.body import read_json, read_upstream
from slardar.errors import ConfigError, PartlyReadError


def refusal(data: bytes) -> str:
    """The message with which a body is refused as JSON."""
    with pytest.raises(ConfigError) as caught:
        read_json(data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (
            b'{"a": [1, -2.5, true, null, "\\u00e9\\ud83d\\ude00"]}',
            {"a": [1, -2.5, True, None, "é😀"]},
        ),
        (b" [] ", []),
        (b"9223372036854775807", 2**63 - 1),
        (b"[" * 64 + b"]" * 64, None),
    ],
)
def test_json_is_read(data: bytes, value: Any) -> None:
    """Any JSON of reasonable depth is read."""
    assert value is None or read_json(data) == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "body: expected JSON, got nothing"),
        (b'{"a": 1,\n "b" 2}', "body: line 2, column 6: expected JSON"),
        (b"{} {}", "body: line 1, column 4: expected JSON: Extra data"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', 'body: the key "c" is given twice'),
        (b"[NaN]", "body: expected a number, got NaN"),
        (b"[-Infinity]", "body: expected a number, got -Infinity"),
        (b"[1e999]", "too large"),
        (b"[9223372036854775808]", "too large"),
        (b"[" + b"9" * 10000 + b"]", "too large"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"\xff\xfe", "body: expected UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "body: expected text without a byte order mark (BOM)"),
        (b'"\x00"', "expected JSON"),
        (b"[" * 65 + b"]" * 65, "at most 64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "at most 64 levels"),
        (b"[" * 1_000_000, "at most 64 levels"),
        (b"[" * 1_000_000 + b"]" * 1_000_000, "at most 64 levels"),
    ],
)
def test_bad_json_is_refused(data: bytes, message: str) -> None:
    """The message is one line that names the place or the value."""
    line = refusal(data)
    assert message in line
    assert len(line) < 200
    assert "\n" not in line


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No other exception than ConfigError is raised."""
    for content_type in ("", "application/json", "text/plain"):
        with contextlib.suppress(ConfigError):
            read_upstream(data, content_type)


@pytest.mark.parametrize("content_type", ["", "application/x-www-form-urlencoded", "text/plain"])
def test_first_byte_tells_json_from_text(content_type: str) -> None:
    """The content type of curl does not matter."""
    assert read_upstream(b' {"servers": []}', content_type) == {"servers": []}
    body = read_upstream(b"server 127.0.0.1:8089;server 127.0.0.1:8088;", content_type)
    assert [server["port"] for server in body["servers"]] == [8089, 8088]


def test_body_that_is_said_to_be_json_is_json() -> None:
    """The error is then about JSON."""
    with pytest.raises(ConfigError, match="line 1, column 1: expected JSON"):
        read_upstream(b"server 127.0.0.1:80;", "application/json; charset=utf-8")


@pytest.mark.parametrize("data", [b"127.0.0.1:80", b"servers 127.0.0.1:80;", b";;"])
def test_bad_text_is_refused(data: bytes) -> None:
    """The line says what was expected."""
    with pytest.raises(ConfigError, match="expected server HOST:PORT"):
        read_upstream(data, "text/plain")


def test_every_mistake_of_a_text_is_told() -> None:
    """The error also has the content of the text, to look for more mistakes."""
    with pytest.raises(PartlyReadError) as caught:
        read_json(
            b'{"a": NaN, "b": [1e999, {"c": 1, "c": 2}], "a": "\\ud800", "d": 1' + b"0" * 30 + b"}"
        )
    assert caught.value.problems == (
        "body: expected a number, got NaN",
        'body: the number "1e999" is too large',
        'body: the key "c" is given twice',
        'body: the number "1' + "0" * 30 + '" is too large',
        'body: the key "a" is given twice',
    )
    assert caught.value.value == {"a": 1, "b": [1, {"c": 1}], "d": 1}


def test_mistakes_without_number_are_bounded() -> None:
    """A megabyte of mistakes gets a short answer."""
    with pytest.raises(ConfigError) as caught:
        read_json(b"[" + b"NaN," * 250_000 + b"NaN]")
    assert len(caught.value.problems) == 1000
    assert str(caught.value).endswith("; and 900 more")
    assert len(str(caught.value)) < 10_000


def test_byte_order_mark_is_named_in_either_form() -> None:
    """It is also named before dyups' text, which is assumed for a body without a brace."""
    for body in (b'\xef\xbb\xbf{"servers": []}', b"\xef\xbb\xbfserver 127.0.0.1:80;"):
        with pytest.raises(ConfigError, match="byte order mark"):
            read_upstream(body, "")
