"""What may stand after ``consul:``."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.plugins import check_store
from slardar.stores.consul import from_place, read_place
from slardar.stores.consul_tree import ConsulPlace

PLACES: list[tuple[str, dict[str, Any]]] = [
    ("http://a:8500/config/slardar/", {}),
    ("http://a/config/slardar", {}),
    ("https://a/config/slardar", {"scheme": "https", "agents": (("a", 8501),)}),
    ("http://a,b:1,[::1]:2/x/", {"agents": (("a", 8500), ("b", 1), ("::1", 2)), "prefix": "x/"}),
    ("http://a/a%20b//c/", {"prefix": "a b//c/"}),
    ("http://a/config/slardar/?dc=b&wait=30s&stale=1", {"dc": "b", "wait": 30, "stale": True}),
    ("http://a/config/slardar/?wait=10m&stale=0", {"wait": 600}),
    ("http://a/config/slardar/?token_file=/run/t", {"token_file": "/run/t"}),
    (
        "https://a:1/config/slardar/?ca=/c.pem&cert=/a.pem&key=/k.pem",
        {
            "scheme": "https",
            "agents": (("a", 1),),
            "ca": "/c.pem",
            "cert": "/a.pem",
            "key": "/k.pem",
        },
    ),
]


@pytest.mark.parametrize(("place", "wanted"), PLACES)
def test_places(place: str, wanted: dict[str, Any]) -> None:
    """Agents, place and options."""
    usual = {"scheme": "http", "agents": (("a", 8500),), "prefix": "config/slardar/"}
    assert read_place(place, "secret") == ConsulPlace(token="secret", **{**usual, **wanted})


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "consul: expected http://HOST:8500/config/slardar/ after it, http or https"),
        ("a:8500/config/", "expected http://HOST:8500/config/slardar/ after it"),
        ("ftp://a/config/", "expected http://HOST:8500/config/slardar/ after it"),
        ("http:///config/", "expected http://HOST:8500/config/slardar/ after it"),
        ("http://a", "expected keys below a place of their own"),
        ("http://a/", "expected keys below a place of their own"),
        ("http://a:x/c/", "expected HOST or HOST:PORT, got 'a:x'"),
        ("http://a:70000/c/", "expected HOST or HOST:PORT, got 'a:70000'"),
        ("http://a:0/c/", "expected HOST or HOST:PORT, got 'a:0'"),
        ("http://a b/c/", "expected HOST or HOST:PORT, got 'a b'"),
        ("http://a,,b/c/", "expected HOST or HOST:PORT, got ''"),
        ("http://[::1/c/", "consul: "),
        ("http://me:secret@a/c/", "expected no user and no password"),
        ("http://a/c/#d", "expected nothing after #"),
        ("http://a/c/?dcs=x", "expected options among ca, cert, dc, key, stale, token_file, wait"),
        ("http://a/c/?dc=x&dc=y", "expected the option dc once"),
        ("http://a/c/?dc", "expected a value of the option dc"),
        ("http://a/c/?stale=yes", "expected 0 or 1 as the option stale, got 'yes'"),
        ("http://a/c/?wait=5", "expected from 1s to 10m as the option wait, got '5'"),
        ("http://a/c/?wait=0s", "expected from 1s to 10m as the option wait, got '0s'"),
        ("http://a/c/?wait=11m", "expected from 1s to 10m as the option wait, got '11m'"),
        ("http://a/c/?ca=/c.pem", "expected https with the option ca"),
        ("https://a/c/?key=/c.pem", "expected the option cert with key"),
    ],
)
def test_places_that_are_none(place: str, said: str) -> None:
    """Each is refused with one line that says what was expected, and has no password."""
    with pytest.raises(ConfigError) as caught:
        from_place(place, None)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_store_is_checked_without_a_connection() -> None:
    """``--check`` reads the URL, and asks nobody."""
    check_store("consul:http://agent.invalid:8500/config/slardar/")
    with pytest.raises(ConfigError, match=r"^store: consul: expected keys below"):
        check_store("consul:http://agent.invalid:8500/")
