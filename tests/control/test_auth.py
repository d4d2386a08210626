"""Who may call the control channel, and where it may listen."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence

import pytest
from twisted.internet.task import Clock

from slardar.config import Token
from slardar.control.auth import Gate, RefusedError, check_endpoint
from slardar.control.guesses import MAX_WRONG, WAIT
from slardar.errors import ConfigError


def token(text: str, name: str = "ops", role: str = "admin") -> Token:
    """A token as the file has it."""
    return Token(name, hashlib.sha256(text.encode()).hexdigest(), role)  # type: ignore[arg-type]


class Head(dict[str, Sequence[str]]):
    """The headers of a request."""

    def __call__(self, name: str) -> Sequence[str]:
        return self.get(name, [])


def refusal(gate: Gate, is_unix: bool = False, **headers: list[str]) -> tuple[int, str]:
    """The status and message with which a request with these headers is refused."""
    head = Head({name.replace("_", "-"): values for name, values in headers.items()})
    with pytest.raises(RefusedError) as caught:
        gate.admit(head, None if is_unix else "127.0.0.1")
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:1995",
        "10.1.2.3:1995",
        "[::1]:1995",
        "[fe80::1%eth0]",
        "localhost",
        "LocalHost:1995",
        "localhost.:1995",
        "slardar.localhost:1995",
    ],
)
def test_names_of_this_machine_are_taken_without_tokens(host: str) -> None:
    """An address or localhost can only mean this machine."""
    caller = Gate(()).admit(Head(Host=[host]), "127.0.0.1")
    assert (caller.name, caller.is_admin) == ("http", True)


@pytest.mark.parametrize(
    "host",
    ["evil.com", "evil.com:1995", "127.0.0.1.evil.com", "localhost.evil.com", "::1", "", "a b"],
)
def test_rebound_names_are_refused_without_tokens(host: str) -> None:
    """A website may control the DNS of any other name."""
    status, message = refusal(Gate(()), Host=[host])
    assert status == 403
    assert "Host" in message


def test_any_host_is_taken_over_a_unix_socket_and_with_tokens() -> None:
    """No browser reaches a unix socket; no website knows a token."""
    assert Gate(()).admit(Head(Host=["slardar"]), None).is_admin
    head = Head(Host=["control.example.com"], Authorization=["Bearer s3cret"])
    assert Gate([token("s3cret")]).admit(head, "127.0.0.1").name == "ops"


def test_request_without_host_is_no_browser() -> None:
    """HTTP/1.0 has no Host."""
    assert Gate(()).admit(Head(), "127.0.0.1").is_admin


def test_two_hosts_are_refused() -> None:
    """It is not clear which of them is meant."""
    assert refusal(Gate(()), Host=["localhost", "localhost"])[0] == 400


@pytest.mark.parametrize("is_unix", [False, True])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "junk"])
def test_cross_site_requests_are_refused(site: str, is_unix: bool) -> None:
    """``Sec-Fetch-Site`` tells where the request comes from."""
    assert refusal(Gate(()), is_unix, Host=["localhost"], Sec_Fetch_Site=[site])[0] == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_own_pages_and_typed_addresses_are_admitted(site: str) -> None:
    """Browsers send ``none`` for an address that a person typed."""
    head = Head({"Host": ["localhost"], "Sec-Fetch-Site": [site]})
    assert Gate(()).admit(head, "127.0.0.1").is_admin


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com",
        "null",
        "http://localhost",
        "http://localhost:1996",
        "http://localhost:1995.evil.com",
        "localhost:1995",
        "",
    ],
)
def test_other_origins_are_refused(origin: str) -> None:
    """The origin must be exactly the authority of the request."""
    status, message = refusal(Gate(()), Host=["localhost:1995"], Origin=[origin])
    assert (status, "Origin" in message) == (403, True)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:1995", "localhost:1995"),
        ("http://LOCALHOST:1995", "localhost:1995"),
        ("http://localhost", "localhost:80"),
        ("https://127.0.0.1:443", "127.0.0.1"),
        ("http://[::1]:1995", "[::1]:1995"),
    ],
)
def test_own_origin_is_admitted(origin: str, host: str) -> None:
    """The dashboard's own calls have it; a default port may be left out."""
    assert Gate(()).admit(Head(Host=[host], Origin=[origin]), "127.0.0.1").is_admin


def test_tokens_do_not_excuse_another_origin() -> None:
    """A page with a stolen token is still refused."""
    gate = Gate([token("s3cret")])
    headers = {"Host": ["localhost"], "Origin": ["http://evil.com"]}
    assert refusal(gate, **headers, Authorization=["Bearer s3cret"])[0] == 403


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["Bearer"],
        ["Bearer "],
        ["Bearer wrong"],
        ["Bearer s3cre"],
        ["Bearer s3cret extra"],
        ["Basic s3cret"],
        ["s3cret"],
        ["Bearer s3cret", "Bearer s3cret"],
        ["Bearer \xe9\xff"],
    ],
)
def test_wrong_tokens_are_refused_and_not_shown(values: list[str]) -> None:
    """The reply is 401, and its message has no part of the token."""
    status, message = refusal(Gate([token("s3cret")]), Host=["localhost"], Authorization=values)
    assert status == 401
    assert "s3cre" not in message


def test_digest_is_not_a_token() -> None:
    """A reader of the file cannot call with the digest."""
    known = token("s3cret")
    assert refusal(Gate([known]), Authorization=[f"Bearer {known.sha256}"])[0] == 401


def test_each_token_has_its_name_and_role() -> None:
    """Neither the place in the list nor the spelling of the digest matters."""
    second = token("b", "second", "read")
    upper = Token(second.name, second.sha256.upper(), second.role)
    gate = Gate([token("a", "first"), upper, token("c", "third")])
    callers = [gate.admit(Head(Authorization=[f"bearer {text}"]), "127.0.0.1") for text in "abc"]
    assert [caller.name for caller in callers] == ["first", "second", "third"]
    assert [caller.is_admin for caller in callers] == [True, False, True]


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:1995:interface=127.0.0.1",
        "tcp:1995:interface=127.9.9.9:backlog=5",
        "tcp:port=1995:interface=localhost",
        "tcp:1995:127.0.0.1",
        r"tcp6:1995:interface=\:\:1",
        r"tcp:1995:interface=\:\:1",
        r"ssl:1995:privateKey=a.pem:interface=127.0.0.1",
        "ssl:1995:a.pem:b.pem:TLSv1_METHOD:127.0.0.1",
        "unix:slardar.sock:mode=600",
        "unix:address=/run/slardar.sock",
        "systemd:domain=UNIX:index=0",
        "systemd:UNIX:0",
    ],
)
def test_private_endpoints_need_no_token(endpoint: str) -> None:
    """Loopback addresses and unix sockets are reachable from this machine only."""
    check_endpoint(endpoint, ())


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:1995",
        "tcp:1995:interface=",
        "tcp:1995:interface=0.0.0.0",
        "tcp:1995:interface=10.0.0.1",
        "tcp:1995:interface=example.com",
        "tcp6:1995",
        r"tcp6:1995:interface=\:\:",
        "tcp:1995:0.0.0.0",
        r"tcp:1995:interface=0.0.0.0\:127.0.0.1",
        "ssl:1995:127.0.0.1",
        "systemd:domain=INET:index=0",
        "systemd",
        "haproxy:tcp:1995:interface=127.0.0.1",
        "onion:1995",
        "",
    ],
)
def test_public_endpoints_need_a_token(endpoint: str) -> None:
    """An endpoint that cannot be judged counts as public; the line names the key and the
    endpoint."""
    with pytest.raises(ConfigError) as caught:
        check_endpoint(endpoint, ())
    (line,) = caught.value.problems
    assert line.startswith("control.http: expected an endpoint of the loopback interface")
    assert line.endswith(endpoint)
    check_endpoint(endpoint, [token("s3cret")])


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::5", True),
        (None, True),
        ("11.1.2.3", False),
        ("127.0.0.1", False),
        ("2001:db9::5", False),
        ("fe80::1%eth0", False),
        ("nonsense", False),
    ],
)
def test_only_networks_of_allow_may_call(peer: str | None, admitted: bool) -> None:
    """``None`` is a unix socket, which has no network: its mode says who may call."""
    networks = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32")]
    for tokens in ((), (token("right"),)):
        gate = Gate(tokens, networks)
        head = Head(Host=["localhost"], Authorization=["Bearer right"])
        if admitted:
            assert gate.admit(head, peer).is_admin
        else:
            with pytest.raises(RefusedError, match=r"control\.allow") as caught:
                gate.admit(head, peer)
            assert caught.value.status == 403


def test_who_guesses_tokens_has_to_wait() -> None:
    """Even the right token is refused then: else a guesser would learn that it is right."""
    clock = Clock()
    gate = Gate([token("right")], (), clock.seconds)
    for _ in range(MAX_WRONG):
        for values in ([], ["Bearer wrong"]):  # without a token, nothing is guessed
            with pytest.raises(RefusedError) as caught:
                gate.admit(Head(Authorization=values), "10.0.0.1")
            assert (caught.value.status, caught.value.wait) == (401, 0)
    right = Head(Authorization=["Bearer right"])
    with pytest.raises(RefusedError) as caught:
        gate.admit(right, "10.0.0.1")
    assert (caught.value.status, caught.value.wait) == (429, WAIT)
    assert gate.admit(right, "10.0.0.2").is_admin
    clock.advance(WAIT)
    assert gate.admit(right, "10.0.0.1").is_admin
