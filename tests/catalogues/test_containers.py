"""What containers of Docker mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.catalogues.base import Failed, Listing
from slardar.catalogues.containers import Container, listing_of
from slardar.catalogues.http import AskError, decoded
from slardar.model.service import Listed, parse_service
from tests.stand_ins import container

HOST = "192.0.2.1"


def read(*containers: dict[str, Any]) -> list[Container]:
    """Containers as Docker lists them."""
    return decoded(json.dumps(containers).encode(), list[Container])


def published(port: int, kind: str = "tcp") -> dict[str, Any]:
    return {"IP": "0.0.0.0", "PrivatePort": port, "PublicPort": port + 1000, "Type": kind}


@pytest.mark.parametrize(
    ("more", "server"),
    [
        ({}, Listed("172.17.0.2", 80)),
        ({"labels": {"slardar.port": "81", "slardar.weight": "7"}}, Listed("172.17.0.2", 81, 7)),
        ({"labels": {"slardar.weight": "0"}}, Listed("172.17.0.2", 80, 0)),
        # Published for both families, and a port that is not of TCP.
        ({"ports": [published(80), published(80), published(53, "udp")]}, Listed("172.17.0.2", 80)),
        (
            {"networks": {"a": "10.1.0.2", "b": "10.2.0.2"}, "labels": {"slardar.network": "b"}},
            Listed("10.2.0.2", 80),
        ),
        ({"networks": {"a": "", "b": "10.2.0.2"}}, Listed("10.2.0.2", 80)),
        ({"networks": {"a": "2001:DB8::2"}}, Listed("2001:db8::2", 80)),
        (
            {"mode": "host", "networks": {"host": ""}, "labels": {"slardar.port": "81"}},
            Listed(HOST, 81),
        ),
    ],
)
def test_server_of_a_container(more: dict[str, Any], server: Listed) -> None:
    """Its address and port in its network; published ports do not matter."""
    assert listing_of(read(container("one", **more)), HOST) == Listing(((server,),))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"ports": []}, "no port is exposed, and slardar.port does not say which"),
        ({"ports": None}, "no port is exposed, and slardar.port does not say which"),
        (
            {"ports": [published(80), published(81)]},
            "several ports are exposed, and slardar.port does not say which",
        ),
        ({"labels": {"slardar.port": "http"}}, "slardar.port is no port"),
        ({"labels": {"slardar.port": "65536"}}, "slardar.port is no port"),
        ({"labels": {"slardar.port": "0"}}, "slardar.port is no port"),
        ({"labels": {"slardar.weight": "-1"}}, "slardar.weight is no weight"),
        ({"labels": {"slardar.weight": "1000000001"}}, "slardar.weight is no weight"),
        (
            {"networks": {"a": "10.1.0.2", "b": "10.2.0.2"}},
            "it is in several networks, and slardar.network does not say which",
        ),
        ({"labels": {"slardar.network": "b"}}, "no address in slardar.network"),
        ({"networks": {}}, "it has no address"),
        ({"networks": {"a": "fe80::1%a b"}}, "it has no address"),
        (
            {"mode": "host", "ports": []},
            "no port is exposed, and slardar.port does not say which",
        ),
    ],
)
def test_container_that_cannot_be_a_server(more: dict[str, Any], why: str) -> None:
    """It is left out, with a note; if no other is there, the last servers stay."""
    wrong, good = container("wrong", **more), container("good", address="172.17.0.3")
    note = f"1 of the containers cannot be used: wrong ({why})"
    assert listing_of(read(wrong, good), HOST) == Listing(((Listed("172.17.0.3", 80),),), note=note)
    assert listing_of(read(wrong), HOST) == Failed(note)


def test_two_containers_at_one_place() -> None:
    """They are one server with both weights, as in the network of the host."""
    labels = {"slardar.port": "81", "slardar.weight": "3"}
    found = read(*(container(name, mode="host", labels=labels) for name in "ab"))
    assert listing_of(found, HOST) == Listing(((Listed(HOST, 81, 6),),))


def test_order_of_containers_is_no_change() -> None:
    """Docker lists the newest first."""
    found = read(container("a"), container("b", address="172.17.0.10"))
    assert listing_of(found, HOST) == listing_of(reversed(found), HOST)
    assert listing_of([], HOST) == Listing(())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[",
        b"{}",
        b"null",
        b"[5]",
        b'[{"Id": 5}]',
        b'[{"Id": "a", "Labels": []}]',
        b'[{"Id": "a", "Ports": [{"PrivatePort": 65536}]}]',
        b'[{"Id": "a", "NetworkSettings": {"Networks": {"a": "b"}}}]',
        b'[{"Id": "\xff"}]',
        b'[{"Id": "a", "x": ' + b"[" * 100_000,
    ],
)
def test_answer_that_cannot_be_read(text: bytes) -> None:
    """The reason is one line."""
    with pytest.raises(AskError, match="it sends what cannot be read: ") as caught:
        decoded(text, list[Container])
    assert "\n" not in str(caught.value)


LABELS = st.dictionaries(
    st.sampled_from(["slardar.port", "slardar.weight", "slardar.network"]),
    st.one_of(st.integers(-1, 70000).map(str), st.text(max_size=8)),
)
ADDRESSES = st.sampled_from(["", "10.0.0.1", "10.0.0.2", "::1", "x", "fe80::1%é", "010.0.0.1"])
NETWORKS = st.dictionaries(st.text(max_size=4), ADDRESSES, max_size=3)
PORTS = st.lists(st.integers(1, 65535).map(published), max_size=2)


@given(
    st.lists(
        st.builds(
            lambda labels, networks, ports, mode: container(
                "a", labels=labels, networks=networks, ports=ports, mode=mode
            ),
            LABELS,
            NETWORKS,
            PORTS,
            st.sampled_from(["default", "host", "container:b"]),
        ),
        max_size=6,
    )
)
def test_every_answer_makes_an_upstream_or_says_why_not(containers: list[dict[str, Any]]) -> None:
    """Nothing that labels say can stop the service."""
    found = listing_of(read(*containers), HOST)
    if isinstance(found, Failed):
        assert found.reason.isprintable()
        return
    assert found.note.isprintable()
    service = parse_service("web", {"dns_service": "web"}, "services.web")
    assert len(service.upstream(found.levels).servers) == sum(map(len, found.levels))
