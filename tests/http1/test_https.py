"""Redirects to https, and Strict-Transport-Security."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slardar.http1.client import ClientConnection
from slardar.http1.https import hsts_line, https_url
from slardar.http1.interfaces import HookedRequest, HooksBase
from slardar.http1.proxy_header import Ends
from slardar.http1.record import BY_SLARDAR
from slardar.http1.request import Request, Told, parse_request
from slardar.http1.tls import TlsFacts
from slardar.model.listener import ListenerSpec
from slardar.model.networks import Networks
from slardar.testing.playbook import Playbook
from tests.http1.lines import GET, GET_10, OK, get, post, post_chunked, reply, statuses

NewPlay = Callable[..., Playbook]
HSTS = hsts_line(300, False, False)


@pytest.fixture
def plain(new_play: NewPlay) -> Playbook:
    """A client without TLS, of a plane that redirects."""
    play = new_play(redirects=True, hsts=HSTS)
    play.host.certificates = {"a.test"}
    return play


@pytest.fixture
def secure(new_play: NewPlay) -> Playbook:
    """A client with TLS, of a plane with HSTS."""
    play = new_play(redirects=True, hsts=HSTS)
    play.host.certificates = {"a.test"}
    play.client.tls = TlsFacts("TLSv1.3", "a.test", b"", None)
    return play


def redirected(data: bytes) -> bytes:
    """The place in the only reply, which is a redirect."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 308 Permanent Redirect\r\n")
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert b"Strict-Transport-Security" not in head
    return head.partition(b"\r\nLocation: ")[2].partition(b"\r\n")[0]


# Where to.


@pytest.mark.parametrize(
    ("host", "came_to", "ports", "port", "place"),
    [
        # TLS on its usual port, whatever the other one is.
        (b"a.test", 80, [443], 0, b"a.test"),
        (b"a.test:8080", 8080, [8443, 443], 0, b"a.test"),
        # Another port, and the client sees which ports there are.
        (b"a.test:8080", 8080, [8443], 0, b"a.test:8443"),
        (b"a.test", 80, [8443], 0, b"a.test:8443"),
        (b"a.test:80", 80, [8443, 9443], 0, b"a.test:8443"),
        # The client sees other ones.
        (b"a.test", 8080, [8443], 0, b"a.test"),
        (b"a.test", 0, [8443], 0, b"a.test"),
        # Somebody else speaks TLS.
        (b"a.test:8080", 8080, [], 0, b"a.test"),
        # It is said.
        (b"a.test:8080", 8080, [443], 9443, b"a.test:9443"),
        (b"a.test:8080", 8080, [8443], 443, b"a.test"),
        (b"[2001:DB8::1]:8080", 8080, [8443], 0, b"[2001:db8::1]:8443"),
        (b"[2001:db8::1]", 80, [443], 0, b"[2001:db8::1]"),
        (b"[2001:db8::1]", 8080, [8443], 0, b"[2001:db8::1]"),
        (b"A.Test.:80", 80, [443], 0, b"a.test"),
    ],
)
def test_port_of_https(
    host: bytes, came_to: int, ports: list[int], port: int, place: bytes
) -> None:
    """443 is left out."""
    request = parse_request(b"GET /a?b HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    assert https_url(request, came_to, ports, port) == b"https://" + place + b"/a?b"


# Redirects.


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        (GET, b"/"),
        (GET_10, b"/"),
        (get("/a%20b?c=d&e=%0d%0a"), b"/a%20b?c=d&e=%0d%0a"),
        # Still at this host.
        (get("//evil.test/"), b"//evil.test/"),
        (get("/\\evil.test"), b"/\\evil.test"),
        (get("/@evil.test"), b"/@evil.test"),
        (get("http://a.test/x?y"), b"/x?y"),
        (get("http://a.test?y"), b"/?y"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", b""),
        (b"HEAD /x HTTP/1.1\r\nHost: a.test\r\n\r\n", b"/x"),
        (get("/", "X-Forwarded-Proto: https"), b"/"),
        (get("/", "X-Forwarded-Host: evil.test"), b"/"),
        (get("/chat", "Connection: Upgrade", "Upgrade: websocket"), b"/chat"),
    ],
)
def test_request_goes_to_the_same_target(plain: Playbook, sent: bytes, place: bytes) -> None:
    """And to the host that it has asked for, whatever it is."""
    plain.client_sends(sent)
    data = plain.client_gets()
    if sent.startswith(b"HEAD"):
        assert data.endswith(b"\r\n\r\n")
        assert b"\r\nLocation: https://a.test/x\r\n" in data
    else:
        assert redirected(data) == b"https://a.test" + place
    assert plain.host.began == []
    assert plain.host.refused_with == [308]
    (record,) = plain.observer.records
    assert (record.status, record.answered_by) == (308, BY_SLARDAR)
    assert record.error == "this host is served over https"


@pytest.mark.parametrize(("header", "place"), [(False, b"a.test:8443"), (True, b"a.test")])
def test_port_of_the_connection_counts(plain: Playbook, header: bool, place: bytes) -> None:
    """The port that a PROXY protocol header tells is another machine's, as its port of TLS is."""
    plain.client.ends = Ends("192.0.2.7", 1, "192.0.2.8", 80)
    listener = ListenerSpec("x", "tcp:8080", proxy_protocol=header)
    plain.connection = ClientConnection(plain.host, b"192.0.2.7", listener)
    plain.client.protocol = plain.connection
    plain.connection.attach(plain.client)
    plain.client_sends(GET)
    assert redirected(plain.client_gets()) == b"https://" + place + b"/"


@pytest.mark.parametrize(
    "sent",
    [
        get("/").replace(b"a.test", b"b.test"),
        get("/").replace(b"a.test", b"evil.test:443"),
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
def test_host_without_a_certificate_is_served_as_it_is(plain: Playbook, sent: bytes) -> None:
    """Nobody is sent to a name that is not ours."""
    plain.client_sends(sent)
    assert plain.origin_gets()
    plain.origin_sends(OK)
    assert plain.client_gets().startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n", 400),
        (b"GET /a\nb HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    ],
)
def test_malformed_requests_are_refused_as_ever(plain: Playbook, sent: bytes, status: int) -> None:
    """They have no place to go to."""
    plain.client_sends(sent)
    data = plain.client_gets()
    assert statuses(data) == [status]
    assert b"Location" not in data


@pytest.mark.parametrize(("proto", "goes"), [(b"https", False), (b"http", True), (b"x", True)])
def test_trusted_proxy_has_spoken_tls(plain: Playbook, proto: bytes, goes: bool) -> None:
    """It says so; else it would be sent round in circles."""
    plain.host.trusted = Networks(["192.0.2.7"])
    plain.client_sends(get("/", "X-Forwarded-Proto: " + proto.decode()))
    if goes:
        assert redirected(plain.client_gets()) == b"https://a.test/"
    else:
        assert plain.origin_gets()
        plain.origin_sends(OK)
        # The proxy is who speaks to browsers.
        assert plain.client_gets() == OK


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (GET, True),
        (GET_10, False),
        (post(b"x" * 10), True),
        (post_chunked() + b"3\r\nabc\r\n0\r\n\r\n", True),
        (post(b"")[:-4] + b"\r\nExpect: 100-continue\r\n\r\n", True),
        # The body would have to be read over.
        (post(b"x" * 10)[:-1], False),
        (post_chunked("Expect: 100-continue"), False),
        (post_chunked() + b"3\r\nab", False),
    ],
)
def test_connection_goes_on_where_the_body_allows_it(
    plain: Playbook, sent: bytes, kept: bool
) -> None:
    """No 100 is sent for a body that nobody wants."""
    plain.client_sends(sent)
    data = plain.client_gets()
    assert statuses(data) == [308]
    assert (b"\r\nConnection: close\r\n" not in data) == kept
    if kept:
        plain.client_sends(get("/2") + get("/3").replace(b"a.test", b"b.test"))
        assert redirected(plain.client_gets()) == b"https://a.test/2"
        assert plain.origin_gets().startswith(b"GET /3 ")
        plain.origin_sends(OK)


def test_nothing_is_redirected_unless_it_is_set(new_play: NewPlay) -> None:
    """Nor over TLS."""
    play = new_play()
    play.host.certificates = {"a.test"}
    play.client_sends(GET)
    play.origin_sends(OK)
    assert play.client_gets() == OK


# HSTS.


@pytest.mark.parametrize(
    ("max_age", "subdomains", "preload", "value"),
    [
        (0, False, False, b"max-age=0"),
        (300, True, False, b"max-age=300; includeSubDomains"),
        (31536000, True, True, b"max-age=31536000; includeSubDomains; preload"),
    ],
)
def test_line_of_hsts(max_age: int, subdomains: bool, preload: bool, value: bytes) -> None:
    """RFC 6797 6.1."""
    line = hsts_line(max_age, subdomains, preload)
    assert line == b"Strict-Transport-Security: " + value


@pytest.mark.parametrize(
    ("sent", "added"),
    [(GET, True), (GET_10, True), (get("/").replace(b"a.test", b"b.test"), False)],
)
def test_reply_over_tls_has_it(secure: Playbook, sent: bytes, added: bool) -> None:
    """If the name has a certificate; once, whatever the number of requests."""
    secure.client_sends(sent)
    secure.origin_sends(OK)
    assert secure.client_gets().count(HSTS + b"\r\n") == added


@pytest.mark.parametrize("name", ["Strict-Transport-Security", "strict-transport-SECURITY"])
def test_server_has_set_it(secure: Playbook, name: str) -> None:
    """Its own value counts."""
    secure.client_sends(GET)
    secure.origin_sends(reply(b"x", f"{name}: max-age=0"))
    data = secure.client_gets()
    assert data.lower().count(b"strict-transport-security") == 1
    assert b": max-age=0\r\n" in data


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"x", "Content-Length: 1"), 400),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", 400),
        (GET, 502),
    ],
)
def test_replies_of_slardar_have_it(new_play: NewPlay, sent: bytes, status: int) -> None:
    """Also to what is no request: then the name of the handshake counts."""
    play = new_play(servers=0, hsts=HSTS)
    play.host.certificates = {"a.test"}
    play.client.tls = TlsFacts("TLSv1.3", "a.test", b"", None)
    play.client_sends(sent)
    data = play.client_gets()
    assert statuses(data) == [status]
    assert data.count(HSTS + b"\r\n") == 1


def test_replies_without_tls_never_have_it(plain: Playbook) -> None:
    """RFC 6797 7.2; whoever is connected could have written them."""
    plain.host.redirects = False
    plain.client_sends(GET)
    plain.origin_sends(OK)
    plain.client_sends(b"nonsense\r\n\r\n")
    data = plain.client_gets()
    assert statuses(data) == [200, 400]
    assert b"Strict-Transport-Security" not in data


def test_host_of_the_client_counts(secure: Playbook) -> None:
    """A hook may send the request to a server by another one."""

    class Renaming(HooksBase):
        """Renames the host."""

        def request(self, request: Request) -> HookedRequest | None:
            """See the base."""
            request.told = Told(False)
            request.told.authority, request.authority = request.authority, b"inner.test"
            request.host = "inner.test"
            return None

    secure.host.hooks = Renaming()
    secure.client_sends(GET)
    assert b"Host: inner.test" in secure.origin_gets()
    secure.origin_sends(OK)
    assert HSTS in secure.client_gets()


def test_interim_replies_have_none(secure: Playbook) -> None:
    """The final one has it."""
    secure.client_sends(GET)
    secure.origin_sends(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert b"Strict" not in secure.client_gets()
    secure.origin_sends(OK)
    assert HSTS in secure.client_gets()
