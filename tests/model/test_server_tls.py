"""The key ``tls`` of upstreams and of servers."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.model.parse import merge_upstream, parse_upstream
from slardar.model.server import Upstream
from slardar.model.service import parse_service
from slardar.model.shown import without_password
from slardar.model.tls import ServerTls
from tests.fake_plugins import FakePlugins

S = {"host": "10.0.0.1", "port": 80}
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


def parsed(**keys: Any) -> Upstream:
    """An upstream with these keys."""
    return parse_upstream("a", {"servers": [S], **keys}, "x", FakePlugins())


@pytest.mark.parametrize(
    ("tls", "found"),
    [
        (False, None),
        (True, ServerTls()),
        ({}, ServerTls()),
        ({"verify": False}, ServerTls(verify=False)),
        ({"server_name": "B.example"}, ServerTls(server_name="b.example")),
        ({"server_name": "[::1]"}, ServerTls(server_name="::1")),
        ({"ca": "/ca.pem"}, ServerTls(ca_file="/ca.pem")),
        ({"ca": PEM}, ServerTls(ca=PEM)),
        ({"cert": "/c"}, ServerTls(cert_file="/c", key_file="/c")),
        ({"cert": "/c", "key": "/k"}, ServerTls(cert_file="/c", key_file="/k")),
        ({"alpn": []}, ServerTls(alpn=())),
        ({"alpn": ["http/1.0"]}, ServerTls(alpn=("http/1.0",))),
    ],
)
def test_what_may_be_written(tls: Any, found: ServerTls | None) -> None:
    """Of an upstream and of a server it means the same."""
    upstream = parsed(tls=tls)
    assert upstream.tls == found
    assert upstream.tls_of(upstream.servers[0]) == found
    of_server = parse_upstream("a", {"servers": [{**S, "tls": tls}]}, "x", FakePlugins())
    assert of_server.tls is None
    assert of_server.tls_of(of_server.servers[0]) == found


def test_server_wins() -> None:
    """Also one that is spoken to in the clear."""
    servers = [
        S,
        {"host": "b.Example", "port": 1, "tls": False},
        {"host": "::1", "port": 2, "tls": {"server_name": "c"}},
        {"host": "d", "port": 3, "backup": True, "tls": {"verify": False}},
    ]
    upstream = parsed(servers=servers, tls=True)
    assert [upstream.tls_of(server) for server in upstream.servers] == [
        ServerTls(),
        None,
        ServerTls(server_name="c"),
        ServerTls(verify=False),
    ]
    assert len(upstream.all_tls) == 3


@pytest.mark.parametrize(
    ("tls", "lines"),
    [
        ("yes", ["x.tls: expected true, false or an object, got"]),
        ({"verfy": True}, ['x.tls.verfy: unknown key (did you mean "verify"?)']),
        ({"verify": 1, "ca": 2}, ["x.tls.verify: expected true or false", "x.tls.ca: expected a"]),
        ({"cert": PEM}, ["x.tls.cert: expected the path of a file, and not what is in it"]),
        ({"key": PEM, "cert": "c"}, ["x.tls.key: expected the path of a file, and not what"]),
        ({"key": "k"}, ["x.tls.cert: is missing"]),
        ({"server_name": "a b"}, ['x.tls.server_name: expected a DNS name or an address, got "a']),
        ({"alpn": ["\u00e9"]}, ["x.tls.alpn[0]: expected 1 to 255 ASCII characters"]),
        ({"alpn": ["a"] * 11}, ["x.tls.alpn: expected at most 10 protocols"]),
        ({"alpn": "h2"}, ["x.tls.alpn: expected a list of strings"]),
    ],
)
def test_what_is_refused(tls: Any, lines: list[str]) -> None:
    """With the key's path, and nothing of a key."""
    with pytest.raises(ConfigError) as caught:
        parsed(tls=tls)
    assert len(caught.value.problems) == len(lines)
    for problem, line in zip(caught.value.problems, lines, strict=True):
        assert problem.startswith(line)
        assert "BEGIN" not in problem


def test_two_levels_with_two_ways() -> None:
    """A server is one, whichever levels it is in."""
    cluster = [{"servers": [{**S, "tls": True}]}, {"servers": [{**S, "tls": False}]}]
    with pytest.raises(ConfigError) as caught:
        parse_upstream("a", {"cluster": cluster}, "x", FakePlugins())
    (line,) = caught.value.problems
    assert line == "x.cluster[1].servers[0].tls: 10.0.0.1:80 has another tls in another level"


@pytest.mark.parametrize("where", ["upstream", "server"])
def test_heartbeats_of_mysql_do_not_go_over_tls(where: str) -> None:
    """MySQL begins TLS inside of its own protocol."""
    keys: dict[str, Any] = {"tls": True} if where == "upstream" else {}
    servers = [S if where == "upstream" else {**S, "tls": True}]
    with pytest.raises(ConfigError, match=r"x\.typ: expected another one with tls: MySQL begins"):
        parsed(servers=servers, typ="mysql", **keys)
    parsed(servers=servers, typ="mysql", enable=False, **keys)
    parsed(servers=servers, typ="redis", **keys)


def test_files_that_were_not_read_are_not_used() -> None:
    """Without them a server would be believed that must not be."""
    assert ServerTls().is_read
    assert not parsed(tls={"ca": "/ca.pem"}).tls.is_read  # type: ignore[union-attr]
    assert not parsed(tls={"cert": "/c"}).tls.is_read  # type: ignore[union-attr]


def test_what_is_in_files_is_nowhere_shown() -> None:
    """Neither in answers nor in what is logged of a value."""

    class Reading(FakePlugins):
        def read_tls(self, options: Any, where: str) -> ServerTls:
            return ServerTls(cert="CERT", key="SECRET", cert_file="/c", key_file="/k")

    plugins = Reading()
    upstream = merge_upstream(None, "a", {"servers": [S], "tls": {"cert": "/c"}}, "x", plugins)
    assert upstream.tls is not None
    assert upstream.tls.key == "SECRET"
    assert without_password(upstream)["tls"] == {"cert": "/c"}
    assert "SECRET" not in repr(upstream)
    service = parse_service("a", {"dns_service": "_a._tcp.b", "tls": {"cert": "/c"}}, "x", plugins)
    assert "SECRET" not in repr(service)
    # It follows the servers that are listed.
    assert service.upstream(()).tls == upstream.tls


def test_other_files_are_another_upstream() -> None:
    """Though it is written alike."""
    one, two = ServerTls(ca="1", ca_file="/c"), ServerTls(ca="2", ca_file="/c")
    found = []
    for tls in (one, two, two):

        class Reading(FakePlugins):
            def read_tls(self, options: Any, where: str, tls: ServerTls = tls) -> ServerTls:
                return tls

        found.append(parse_upstream("a", {"servers": [S], "tls": {"ca": "/c"}}, "x", Reading()))
    assert not found[0].same_as(found[1])
    assert found[1].same_as(found[2])
