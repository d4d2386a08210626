"""What is expected of a configuration: how it is written, and how it is compared."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.testing.expectations import Asked, Outcome, asked, read_expectations

GOOD = Outcome("a", ("s:1", "s:2"), 200, {"x-a": "1, 2"}, "", {"host": "a"}, "GET /")
REFUSED = Outcome(None, (), 403, {}, "no", None, None)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("GET http://a/x?y#z", Asked("GET", "http", "a", "/x?y")),
        ("a", Asked("GET", "http", "a", "/")),
        ("POST https://a:8443/", Asked("POST", "https", "a:8443", "/")),
        ("a/b", Asked("GET", "http", "a", "/b")),
    ],
)
def test_requests(line: str, wanted: Asked) -> None:
    assert asked(line) == wanted


def test_client() -> None:
    """Its address is in the form that the data plane has of it, with every Python."""
    assert asked("a", client="2001:DB8::1").client == "2001:db8::1"
    assert asked("a", client="::FFFF:a00:4").client == "::ffff:10.0.0.4"


@pytest.mark.parametrize(
    ("written", "differences"),
    [
        ({}, []),
        ({"upstream": "a", "servers": ["s:2", "s:1"], "status": 200}, []),
        ({"headers": {"X-A": "1, 2", "X-B": None}, "sent": {"HOST": "a"}}, []),
        ({"upstream": None}, ['upstream: expected none, got "a"']),
        ({"servers": ["s:1"]}, ['servers: expected ["s:1"], got ["s:1","s:2"]']),
        ({"status": 404}, ["status: expected 404, got 200"]),
        (
            {"headers": {"X-A": "1", "X-B": "2"}, "sent_line": "GET /y"},
            [
                'sent_line: expected "GET /y", got "GET /"',
                'headers.X-A: expected "1", got "1, 2"',
                'headers.X-B: expected "2", got none',
            ],
        ),
        ({"sent": {"Host": None}}, ['sent.Host: expected none, got "a"']),
    ],
)
def test_differences(written: dict[str, Any], differences: list[str]) -> None:
    (one,) = read_expectations([{"request": "http://a/", **written}], "expect")
    assert one.differences(GOOD) == differences


def test_request_that_no_server_gets() -> None:
    (one,) = read_expectations([{"request": "a", "sent": {"X": None}}], "expect")
    assert one.differences(REFUSED) == ["sent: no server gets this request"]
    (one,) = read_expectations([{"request": "a", "upstream": None, "servers": []}], "expect")
    assert one.differences(REFUSED) == []


def test_name() -> None:
    named, plain = read_expectations(
        [{"request": "a/x", "name": "cart"}, {"request": {"url": "a/x", "method": "PUT"}}], "expect"
    )
    assert (named.name, plain.name) == ("cart", "PUT http://a/x")


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (None, ["e: expected a list of expectations"]),
        ([], ["e: expected a list of expectations"]),
        ("x", ["e: expected a list of expectations"]),
        ([{"status": 200}], ["e[0]: expected a request"]),
        ([{"request": "a", "code": 200}], ["e[0]: object contains unknown field `code`"]),
        ([{"request": "a", "status": "x"}], ["e[0].status: expected `int`, got `str`"]),
        ([{"request": "http://["}], ["e[0].request: expected METHOD http://HOST/PATH"]),
        ([{"request": "ftp://a"}], ["e[0].request: expected METHOD http://HOST/PATH"]),
        ([{"request": "GET /"}], ["e[0].request: expected METHOD http://HOST/PATH"]),
        ([{"request": "http://a/\r\nX: y"}], ["e[0].request: expected METHOD http://HOST/PATH"]),
        ([{"request": {"url": "a", "client": "x"}}], ["e[0].request.client: expected an IP"]),
        ([{"request": {"url": "a", "headers": {"A": "b\r\nc"}}}], ["e[0].request.headers: "]),
        (
            [{"request": {}}, {"request": "ftp://a"}],
            ["e[0].request: object", "e[1].request: expected"],
        ),
    ],
)
def test_mistakes(raw: Any, lines: list[str]) -> None:
    with pytest.raises(ConfigError) as found:
        read_expectations(raw, "e")
    assert len(found.value.problems) == len(lines)
    for problem, line in zip(found.value.problems, lines, strict=True):
        assert problem.startswith(line), problem
        assert "\n" not in problem
