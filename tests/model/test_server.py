"""Servers and upstreams as values."""

from __future__ import annotations

import pytest

from slardar.model.parse import parse_upstream
from slardar.model.server import Server, Upstream, servers_gone


@pytest.mark.parametrize(
    ("host", "key"), [("1.2.3.4", "1.2.3.4:80"), ("a.b", "a.b:80"), ("::1", "[::1]:80")]
)
def test_key_is_host_and_port(host: str, key: str) -> None:
    """A host with colons is in brackets."""
    assert Server(host, 80).key == key


def test_servers_are_values() -> None:
    """Servers with equal fields are equal, and no field can be changed."""
    assert Server("a", 1) == Server("a", 1)
    assert Server("a", 1) != Server("a", 1, weight=2)
    with pytest.raises(AttributeError):
        Server("a", 1).weight = 2  # type: ignore[misc]


def test_servers_of_an_upstream_are_those_of_its_levels() -> None:
    """They are in order, level by level."""
    servers = [{"host": name, "port": 1, "backup": name == "a"} for name in "abc"]
    upstream = parse_upstream("u", {"servers": servers}, "u")
    assert [server.host for server in upstream.servers] == ["b", "c", "a"]


def test_servers_gone_are_those_that_only_the_old_one_has() -> None:
    """By host and port, in whatever level, and however else they have changed."""

    def upstream(*servers: tuple[str, int], **keys: object) -> Upstream:
        body = {"servers": [{"host": host, "port": port, **keys} for host, port in servers]}
        return parse_upstream("u", body, "u")

    old = upstream(("a", 1), ("a", 2), ("b", 1))
    assert servers_gone(old, upstream(("b", 1), ("c", 1), weight=7, backup=True)) == {
        ("a", 1),
        ("a", 2),
    }
    assert servers_gone(old, old) == servers_gone(None, old) == servers_gone(None, None) == set()
    assert servers_gone(old, None) == {("a", 1), ("a", 2), ("b", 1)}
