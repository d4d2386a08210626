"""Servers and upstreams as values."""

from __future__ import annotations

import pytest

from slardar.model.parse import parse_upstream
from slardar.model.server import Server


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
