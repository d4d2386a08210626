"""What a hook reads of a request and of a reply, and what it may write."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.effects import seen_reply, seen_request
from slardar.hooks.engine import Engine
from slardar.hooks.errno import ERRNOS, make_errno
from slardar.hooks.objects import (
    READABLE,
    WRITABLE,
    HookAnswer,
    HookRequest,
    HookResponse,
    Query,
)
from slardar.hooks.script import Script
from tests.hooks.kit import reply_of, request_of


def seen(*headers: str, **rest: Any) -> HookRequest:
    """The request with these parts, as a hook sees it."""
    return seen_request(request_of(*headers, **rest), {})


#: What no line of a head may have in it, and what has no place in a text at all.
BREAKS = ("\r", "\n", "\0", "\r\nX: y", "\x0b", "\x7f", "\ud800")


# Reading.


def test_request_is_what_the_client_sent() -> None:
    """Method, host without port, path and query as sent, client and scheme."""
    request = seen("X-A: 1", method="POST", target="/a%20b?c=d%20e&c=f", host="WWW.a.test:8080")
    assert request.method == "POST"
    assert request.host == "www.a.test"
    assert request.uri == "/a%20b?c=d%20e&c=f"
    assert (request.path, request.query_string) == ("/a%20b", "c=d%20e&c=f")
    assert request.query.get_all("c") == ["d e", "f"]
    assert (request.client, request.scheme, request.minor) == ("192.0.2.7", "http", 1)
    assert request.headers["host"] == "WWW.a.test:8080"
    assert (request.upstream, request.hash_key, request.cluster_key) == (None, None, None)
    assert request.context == {}


def test_request_without_host() -> None:
    """A request of HTTP/1.0 may have no Host, and then its host is empty."""
    from slardar.http1.request import parse_request

    request = seen_request(parse_request(b"GET / HTTP/1.0\r\n\r\n"), {})
    assert request.host == ""
    assert request.headers.get("host") is None
    assert request.minor == 0


def test_body_is_told_by_its_headers_only() -> None:
    """A hook reads Content-Length and Transfer-Encoding, and never writes them."""
    assert seen("Content-Length: 5", method="POST").headers["content-length"] == "5"
    assert seen("Transfer-Encoding: chunked").headers["transfer-encoding"] == "chunked"
    expecting = seen("Content-Length: 5", "Expect: 100-continue", method="POST").headers
    assert expecting["expect"] == "100-continue"
    upgrading = seen("Connection: Upgrade", "Upgrade: websocket").headers
    assert upgrading["upgrade"] == "websocket"


@pytest.mark.parametrize(
    ("lines", "cookies"),
    [
        ([], {}),
        (["Cookie: a=1; b=2"], {"a": "1", "b": "2"}),
        (["Cookie: a=1", "cookie: b=2; a=3"], {"a": "1", "b": "2"}),
        (['Cookie: a="x y"; =; c; d=e=f'], {"a": "x y", "d": "e=f", "": ""}),
    ],
)
def test_cookies(lines: list[str], cookies: dict[str, str]) -> None:
    """The first cookie of a name counts; a piece without "=" is no cookie."""
    assert seen(*lines).cookies == cookies


# The target.


def test_path_is_replaced_and_the_query_stays() -> None:
    """Characters that no URL can have are escaped, and escapes stay."""
    request = seen(target="/a?b=1")
    request.path = "/x y/%41/é?#"
    assert request.uri == "/x%20y/%41/%C3%A9%3F%23?b=1"
    assert request.uri_changed


def test_query_string_is_replaced_and_the_path_stays() -> None:
    """An empty query removes the question mark."""
    request = seen(target="/a?b=1")
    request.query_string = "x=y z&q=?#"
    assert request.uri == "/a?x=y%20z&q=?%23"
    assert request.query["x"] == "y z"
    request.query_string = ""
    assert request.uri == "/a"


def test_query_that_was_written_outlives_a_new_path() -> None:
    """In either order, and through a query that the hook kept."""
    request = seen(target="/a?b=1")
    query = request.query
    query["c"] = 2
    request.path = "/x"
    query["d"] = "3"
    assert request.uri == "/x?b=1&c=2&d=3"
    request.uri = "/y?z=1"
    assert request.uri == "/y?z=1"
    assert request.query.items() == [("z", "1")]


def test_question_mark_alone_is_kept_as_sent() -> None:
    """A target that no hook has written stays as sent."""
    request = seen(target="/a?")
    assert (request.uri, request.uri_changed) == ("/a?", False)


@pytest.mark.parametrize(
    "text", ["", "a", "/a b", "/a#b", "/a\tb", "/é", "*", "http://a/", None, 5]
)
def test_uri_that_is_none_is_refused(text: Any) -> None:
    """It goes on the wire unchanged, so it must be a path of ASCII without blanks."""
    request = seen()
    with pytest.raises(ValueError, match="uri: expected a path with its query, got"):
        request.uri = text
    assert (request.uri, request.uri_changed) == ("/a?b=1", False)


@pytest.mark.parametrize("key", ["uri", "path", "query_string", "method", "host"])
@pytest.mark.parametrize("text", [*BREAKS, "/" + "x" * 33000])
def test_target_takes_no_line_break(key: str, text: str) -> None:
    """Nor other controls, nor a value that is no text, nor too many characters."""
    request = seen()
    before = request.uri, request.method, request.host
    with pytest.raises(ValueError, match=key):
        setattr(request, key, text)
    with pytest.raises(ValueError, match=key):
        setattr(request, key, "/a" + text)
    assert (request.uri, request.method, request.host) == before
    assert request.written == ()
    assert (request.uri_changed, request.headers_changed) == (False, False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "M-SEARCH", "PURGE"])
def test_method_that_slardar_serves(method: str) -> None:
    """A hook may set each method that a client may use."""
    request = seen()
    request.method = method
    assert request.method == method
    assert "method" in request.written


@pytest.mark.parametrize(
    "method", ["", "get", "CONNECT", "PRI", "FROB", "G ET", "GET\n", "DESCRIBE", None, 1]
)
def test_method_that_no_client_may_use_is_refused(method: Any) -> None:
    """A hook must not set it either, so no server ever gets it."""
    request = seen()
    with pytest.raises(ValueError, match="method: expected a method such as GET"):
        request.method = method
    assert request.method == "GET"


@pytest.mark.parametrize("host", ["", "a b", "a,b", "a/b", "a:99999", "a@b", "[::g]", ".a", "a..b"])
def test_host_that_is_none_is_refused(host: str) -> None:
    """Host decides where the request goes, in slardar and behind it."""
    request = seen()
    with pytest.raises(ValueError, match=r"(?i)host"):
        request.host = host
    assert request.host == "www.a.test"


def test_host_is_set_with_its_port() -> None:
    """It is read without the port, in lower case."""
    request = seen()
    request.host = "Other.Test:81"
    assert (request.host, request.headers["Host"]) == ("other.test", "Other.Test:81")
    request.host = "[::1]:82"
    assert request.host == "::1"


# Keys.


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("upstream", ["a", None, "x" * 255], ["", "x" * 256, 5, ["a"]]),
        ("hash_key", ["a", None, "x" * 32768], ["x" * 32769, 5, ["a"]]),
        ("cluster_key", ["a", None, ("a", "b")], [5, [5], ["a"] * 65, {"a": 1}]),
    ],
)
def test_choices(key: str, good: list[Any], bad: list[Any]) -> None:
    """They are texts of limited length, or None; a wrong value changes nothing."""
    request = seen()
    for value in good:
        setattr(request, key, value)
        assert getattr(request, key) == value
    assert key in request.written
    for value in bad:
        with pytest.raises(ValueError, match=f"{key}: expected"):
            setattr(request, key, value)
        assert getattr(request, key) == good[-1]


def test_clusters_are_kept_as_they_were() -> None:
    """What a hook does to its list afterwards changes nothing."""
    request = seen()
    names = ["a", "b"]
    request.cluster_key = names
    names.append("c")
    assert request.cluster_key == ("a", "b")


# Answers.


def test_reject() -> None:
    """The proxy makes an error; a later call replaces the first."""
    request = seen()
    request.reject(403)
    request.reject(404, "no such thing")
    assert request.answer is not None
    assert (request.answer.status, request.answer.message) == (404, "no such thing")


@pytest.mark.parametrize(
    "arguments", [(399,), (600,), ("403",), (True,), (403.0,), (403, 5), (403, "\ud800"),
                  (403, "x" * (1 << 21))],
)  # fmt: skip
def test_reject_of_something_else_is_refused(arguments: Any) -> None:
    """The request stays unanswered."""
    request = seen()
    with pytest.raises(ValueError, match="reject: expected"):
        request.reject(*arguments)
    assert request.answer is None


def test_respond() -> None:
    """Body and headers are sent as they are; a body gets a type."""
    request = seen()
    request.respond(200, "hé", {"X-A": "1", "Set-Cookie": ["a=1", "b=2"]})
    answer = request.answer
    assert answer is not None
    assert answer.body == "hé".encode()
    assert answer.headers == [
        b"X-A: 1",
        b"Set-Cookie: a=1",
        b"Set-Cookie: b=2",
        b"Content-Type: text/plain; charset=utf-8",
    ]
    request.respond(204)
    assert request.answer is not None
    assert (request.answer.body, request.answer.headers) == (b"", [])
    request.respond(200, b"{}", [("content-type", "application/json")])
    assert request.answer.headers == [b"content-type: application/json"]


@pytest.mark.parametrize(
    "arguments",
    [
        (199,), (600,), ("200",), (200, 5), (200, b"x" * (1 << 20) + b"y"), (200, "\ud800"),
        (200, "", {"X": "a\r\nb"}), (200, "", {"X\n": "a"}), (200, "", {"Content-Length": "5"}),
        (200, "", {"Transfer-Encoding": "chunked"}), (200, "", {"Connection": "close"}),
        (200, "", [("X", "a")] * 300), (200, "", {"X": "€"}),
    ],
)  # fmt: skip
def test_respond_with_something_else_is_refused(arguments: Any) -> None:
    """No header that frames the reply, none with a line break, and no endless body."""
    request = seen()
    with pytest.raises(ValueError, match=r"expected|proxy's"):
        request.respond(*arguments)
    assert request.answer is None


def test_redirect() -> None:
    """The place is escaped where the value of a header must be."""
    request = seen()
    request.redirect("https://b.test/é x?a=b#c", 301)
    assert request.answer is not None
    assert request.answer.status == 301
    assert request.answer.headers == [b"Location: https://b.test/%C3%A9%20x?a=b#c"]


@pytest.mark.parametrize(
    "arguments",
    [("",), ("/", 300), ("/", 200), ("/", True), (5,), ("/" * 33000,)]
    + [(f"/{text}",) for text in BREAKS],
)
def test_redirect_to_something_else_is_refused(arguments: Any) -> None:
    """Above all line breaks, which would begin the next header."""
    request = seen()
    with pytest.raises(ValueError, match="redirect: expected"):
        request.redirect(*arguments)
    assert request.answer is None


def test_exit() -> None:
    """The answer is an error of errno; errno.OK takes an answer back."""
    request = seen()
    request.exit(ERRNOS["HTTP_FORBIDDEN"])
    assert request.answer is not None
    assert (request.answer.status, request.answer.code) == (403, 403)
    request.exit(make_errno(40301001, "not yours"))
    assert (request.answer.status, request.answer.code) == (403, 40301001)
    request.exit(ERRNOS["OK"])
    assert request.answer is None
    request.exit(403)
    assert (request.answer.status, request.answer.message, request.answer.code) == (403, "", None)
    request.exit(204)
    assert (request.answer.status, request.answer.message) == (204, None)
    for wrong in (199, 600, True, 403.0, "403", None, 40301001):
        with pytest.raises(ValueError, match="exit: expected one of errno or a status"):
            request.exit(wrong)


# Replies.


def test_response_is_what_the_server_sent() -> None:
    """The status and the headers, with the length."""
    response = seen_reply(reply_of("Content-Length: 5", "X-A: 1", status="404 Not Found"))
    assert response.status == 404
    assert response.headers.items() == [("Content-Length", "5"), ("X-A", "1")]
    assert seen_reply(reply_of("Transfer-Encoding: chunked")).headers["transfer-encoding"]


def test_status_is_changed_within_its_kind() -> None:
    """The server's status has decided whether the reply has a body."""
    response = HookResponse(200, b"HTTP/1.1 200 OK", None)
    response.status = 503
    assert response.status == 503
    for value in (204, 304, 199, 600, "200", True, 200.0):
        with pytest.raises(ValueError, match="status: "):
            response.status = value  # type: ignore[assignment]
    bodiless = HookResponse(304, b"HTTP/1.1 304 Not Modified", None)
    bodiless.status = 204
    with pytest.raises(ValueError, match="204 cannot become 200"):
        bodiless.status = 200
    assert (response.status, bodiless.status) == (503, 204)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
def test_framing_of_a_reply_is_not_a_hooks(name: str) -> None:
    """A hook reads these headers and never writes them; removing one has no effect."""
    response = seen_reply(reply_of("Content-Length: 5"))
    with pytest.raises(ValueError, match="proxy's to write"):
        response.headers[name] = "1"
    response.headers.remove(name)
    assert response.headers["content-length"] == "5"


# The query.


def test_query_is_read_whole() -> None:
    """A rule sees every field that a server would see, however many there are."""
    query = Query("a&" * 4000 + "evil=1")
    assert query["evil"] == "1"
    assert len(query.get_all("a")) == 4000


def test_query_reads() -> None:
    """The fields are decoded, in order, with empty values; they read as a mapping."""
    query = Query("a=1&b=&a=x+y%26&c&&%C3%A9=%ff")
    assert query.items() == [("a", "1"), ("b", ""), ("a", "x y&"), ("c", ""), ("é", "\udcff")]
    assert (query["a"], query.get("b"), query.get("z", 5)) == ("1", "", 5)
    assert (list(query), len(query), "c" in query, "z" in query) == (
        ["a", "b", "c", "é"], 4, True, False,
    )  # fmt: skip
    assert query.values() == ["1", "", "x y&", "", "\udcff"]
    with pytest.raises(KeyError):
        query["z"]
    assert not query.changed


def test_query_writes() -> None:
    """set replaces all values of a name, add adds one, remove removes all; the text is escaped."""
    query = Query("a=1&b=2&a=3&r=%ff")
    query["a"] = "x&y"
    query.add("b", 5)
    query["c"] = ["1", 2]
    assert query.text == "b=2&r=%FF&a=x%26y&b=5&c=1&c=2"
    del query["b"]
    query.remove("nothing")
    assert query.text == "r=%FF&a=x%26y&c=1&c=2"
    query["c"] = []
    assert "c" not in query


@pytest.mark.parametrize("value", [None, 1.5, True, b"x", "\ud800", "x" * 33000, ["a", None], {}])
def test_query_takes_texts(value: Any) -> None:
    """It also takes numbers; a refused value changes nothing."""
    query = Query("a=1")
    for write in (query.set, query.add):
        with pytest.raises(ValueError, match="query: expected"):
            write("a", value)
    assert (query.text, query.changed) == ("a=1", False)


def test_query_does_not_grow_without_end() -> None:
    """A target has a limit; a query that the client sent too long may be made shorter."""
    query = Query("a=1")
    with pytest.raises(ValueError, match="at most 32768"):
        query.set("b", ["é" * 100] * 400)
    for _ in range(79):
        query.add("b", "x" * 400)
    with pytest.raises(ValueError, match="at most 32768"):
        query.set("c", ["x" * 100] * 40)
    assert 31600 < len(query.text) <= 32768
    long = Query("&".join(f"n{n}={'y' * 90}" for n in range(480)))
    with pytest.raises(ValueError, match="at most 32768"):
        long.add("z", "1")
    long.set("n1", "short")
    long.remove("n2")
    assert long.get("n1") == "short"


# What scripts may name.


@pytest.mark.parametrize("kind", list(READABLE))
def test_names_for_scripts_are_there(kind: type) -> None:
    """Each listed name exists and is public, and each that can be set has a check."""
    for name in READABLE[kind] | WRITABLE[kind]:
        assert not name.startswith("_")
        assert hasattr(kind, name), name
    one = seen() if kind is HookRequest else seen_reply(reply_of())
    for name in WRITABLE[kind]:
        with pytest.raises(ValueError, match="expected"):
            setattr(one, name, object())
    assert "answer" not in READABLE[kind]
    assert "written" not in READABLE[kind]


def test_objects_show_themselves() -> None:
    """The repr is one short line, for whoever looks for a mistake."""
    request = seen()
    assert repr(request) == "<HookRequest GET /a?b=1>"
    assert repr(seen_reply(reply_of())) == "<HookResponse 200>"
    assert repr(request.query) == "<Query b=1>"
    assert repr(HookAnswer(403)) == "<HookAnswer 403>"
    assert "www.a.test" in repr(request.headers)


def test_engines_are_to_be_written() -> None:
    """The methods of the base classes raise NotImplementedError."""
    engine = Engine(0.05, {}, lambda level, text: None)
    for call in (
        lambda: engine.check("script.a", ""),
        lambda: engine.load("script.a", "", {}),
        lambda: Script().on_request(seen()),
        lambda: Script().on_response(seen(), seen_reply(reply_of())),
    ):
        with pytest.raises(NotImplementedError):
            call()
    Script().close()


@pytest.mark.parametrize("size", [0, 1, 1024, 8191, 30000])
def test_what_a_client_sends_is_no_mistake_of_the_hook(size: int) -> None:
    """No client can make a hook fail that adds to the target, or takes its key from a header.

    Whoever could make it fail could have it suspended.
    """
    sent = "x" * min(size, 8190)
    request = seen(target="/" + sent)
    request.path = "/v1" + request.path
    assert request.uri == "/v1/" + sent
    request.query["from"] = sent
    request.hash_key = "k" * size
    request.cluster_key = "k" * size
    assert request.hash_key == ("k" * size or None)
