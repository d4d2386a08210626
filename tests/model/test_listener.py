"""Listeners as values: their ids, and what of their connections follows from them."""

from __future__ import annotations

import msgspec
import pytest

from slardar.config import parse_settings
from slardar.model.listener import UNNAMED, ListenerSpec, spec_of, verify_options


def test_listeners_of_the_settings_have_ids_that_stay() -> None:
    """Whatever stands before them, and though two have the same endpoint."""
    few = parse_settings({"listen": ["tcp:80", "tcp:0", "tcp:0"]}).listeners
    assert [(one.id, one.endpoint) for one in few] == [
        ("tcp:80", "tcp:80"),
        ("tcp:0", "tcp:0"),
        ("tcp:0#2", "tcp:0"),
    ]
    more = parse_settings({"listen": ["unix:x", "tcp:0", "tcp:80", "tcp:0"]}).listeners
    assert {*few} < {*more}
    assert spec_of("tcp:80") in few


def test_listener_behind_a_proxy_has_the_endpoint_of_its_socket() -> None:
    """The prefix is a part of its id alone."""
    one, other, plain = parse_settings(
        {"listen": ["haproxy:tcp:0", "haproxy:tcp:0", "tcp:0"]}
    ).listeners
    assert (one.id, one.endpoint, one.proxy_protocol) == ("haproxy:tcp:0", "tcp:0", True)
    assert (other.id, other.endpoint, other.proxy_protocol) == ("haproxy:tcp:0#2", "tcp:0", True)
    assert (plain.id, plain.endpoint, plain.proxy_protocol) == ("tcp:0", "tcp:0", False)


def test_listener_is_plain_http_unless_it_says_otherwise() -> None:
    """And it finds the upstream of each request."""
    plain = spec_of("tcp:80")
    assert (plain.protocol, plain.tls, plain.proxy_protocol) == ("http", False, False)
    assert (plain.upstream, UNNAMED.protocol, UNNAMED.tls) == (None, "http", False)


def test_listener_travels() -> None:
    """As it does to workers."""
    spec = ListenerSpec("a", "tcp:1", "tcp", True, True, "up")
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ListenerSpec) == spec


@pytest.mark.parametrize(
    ("endpoint", "socket", "secure", "proxied"),
    [
        ("tcp:1:interface=a", "tcp:1:interface=a", False, False),
        ("tls:1:interface=a", "tcp:1:interface=a", True, False),
        ("tls6:1", "tcp6:1", True, False),
        ("haproxy:tls:1", "tcp:1", True, True),
        ("haproxy:tcp:1", "tcp:1", False, True),
        (r"tls:1:ca=a\:b:interface=\:\::verify=require", r"tcp:1:interface=\:\:", True, False),
        (r"tcp:1:verify=require", r"tcp:1:verify=require", False, False),
    ],
)
def test_what_comes_first_on_a_connection(
    endpoint: str, socket: str, secure: bool, proxied: bool
) -> None:
    """The socket is the one without, so that an upgrade may take it over all the same."""
    spec = spec_of(endpoint)
    assert (spec.id, spec.endpoint) == (endpoint, socket)
    assert (spec.tls, spec.proxy_protocol) == (secure, proxied)
    assert spec.protocol == ("https" if secure else "http")


@pytest.mark.parametrize(
    ("endpoint", "verify", "ca"),
    [
        ("tls:1", None, ""),
        ("tls:1:verify=require", "require", ""),
        (r"haproxy:tls6:1:verify=optional:ca=C\:\\a\=b:interface=\:\:", "optional", r"C:\a=b"),
        ("tls:1:ca=a=b:verify=none", "none", "a=b"),
        # Nobody gets in by a mistake.
        ("tls:1:verify=requires", "require", ""),
        ("tls:1:ca=a", "require", "a"),
        ("tcp:1:verify=require", None, ""),
    ],
)
def test_what_clients_of_a_listener_have_to_show(
    endpoint: str, verify: str | None, ca: str
) -> None:
    """With the escapes of Twisted's strings."""
    spec = spec_of(endpoint)
    assert (spec.verify, spec.ca) == (verify, ca)
    assert bool(verify_options(endpoint)) == (verify is not None)
