"""Who may call the control channel, and where it may listen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from slardar.config import Token
from slardar.control.auth import Gate, RefusedError, check_endpoint
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
        gate.admit(head, is_unix)
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
    caller = Gate(()).admit(Head(Host=[host]), False)
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
    assert Gate(()).admit(Head(Host=["slardar"]), True).is_admin
    head = Head(Host=["control.example.com"], Authorization=["Bearer s3cret"])
    assert Gate([token("s3cret")]).admit(head, False).name == "ops"


def test_request_without_host_is_no_browser() -> None:
    """HTTP/1.0 has no Host."""
    assert Gate(()).admit(Head(), False).is_admin


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
    assert Gate(()).admit(head, False).is_admin


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
    assert Gate(()).admit(Head(Host=[host], Origin=[origin]), False).is_admin


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
    callers = [gate.admit(Head(Authorization=[f"bearer {text}"]), False) for text in "abc"]
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
