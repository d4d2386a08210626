"""The clients of a simulation."""

from __future__ import annotations

from slardar.http1.reply import parse_reply
from slardar.simulation.clients import Cookies, request_of
from slardar.simulation.load import Arrival


def test_cookies_are_kept_for_each_client_as_long_as_they_say() -> None:
    """A later one of the same name takes the place of the former one."""
    cookies = Cookies()

    def give(client: str, now: float, *values: str) -> None:
        lines = "".join(f"set-cookie: {value}\r\n" for value in values)
        head = f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n".encode()
        cookies.take(client, parse_reply(head, b"GET"), now)

    give("a", 0, "one=1; Path=/; Max-Age=10; HttpOnly", "two=x=y")
    give("b", 0, "one=2; Max-Age=soon")
    assert cookies.header("a", 9.9) == "one=1; two=x=y"
    assert cookies.header("a", 10) == "two=x=y"
    assert cookies.header("b", 1e6) == "one=2"
    assert cookies.header("c", 0) == ""
    give("a", 5, "one=3; max-age=10")
    assert cookies.header("a", 14) == "one=3; two=x=y"


def test_request_as_a_client_sends_it() -> None:
    """A body where the method has one, and the cookies."""
    request = request_of(Arrival(0.0, "PUT", "/a?b", "10.0.0.1"), 12, "one=1")
    assert (request.method, request.uri, request.length) == ("PUT", "/a?b", 12)
    assert (request.client, request.get_header("Cookie")) == ("10.0.0.1", "one=1")
    request = request_of(Arrival(0.0, "GET", "/", "10.0.0.1"), 12)
    assert (request.length, request.get_header("Cookie")) == (0, None)
