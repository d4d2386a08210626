"""What EndpointSlices of Kubernetes mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.catalogues.base import Failed, Listing, Report
from slardar.catalogues.endpoint_slices import Slice, listing_of
from slardar.catalogues.http import AskError, decoded
from slardar.model.service import Listed, parse_service
from tests.stand_ins import endpoint, slice_of

A, B = Listed("10.0.0.1", 8080), Listed("10.0.0.2", 8080)
TWO_PORTS = [
    {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"},
    {"name": "admin", "port": 9090, "protocol": "TCP"},
    {"name": "dns", "port": 53, "protocol": "UDP"},
]


def listing(*slices: dict[str, Any], port: str = "") -> Report:
    """What these slices list."""
    return listing_of(decoded(json.dumps(slices).encode(), list[Slice]), port)


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({}, "up"),
        ({"ready": None, "serving": None, "terminating": None}, "up"),
        ({"ready": False, "serving": False}, None),
        ({"ready": False, "serving": True}, None),
        ({"ready": False, "serving": True, "terminating": True}, "drain"),
        ({"ready": False, "serving": False, "terminating": True}, None),
        ({"ready": False, "serving": None, "terminating": True}, None),
        # A service that publishes addresses that are not ready.
        ({"ready": True, "serving": True, "terminating": True}, "drain"),
    ],
)
def test_conditions(conditions: dict[str, Any], state: Any) -> None:
    """What is not known counts as the API says; what ends and still serves is drained."""
    wanted = () if state is None else ((Listed("10.0.0.1", 8080, state=state),),)
    assert listing(slice_of("a", endpoint("10.0.0.1", **conditions))) == Listing(wanted)


def test_endpoint_without_conditions() -> None:
    """All is unknown."""
    bare = {"addresses": ["10.0.0.1"], "conditions": None, "targetRef": None}
    assert listing(slice_of("a", bare)) == Listing(((A,),))


@pytest.mark.parametrize(
    ("ports", "wanted", "port"),
    [
        ([{"port": 8080}], "", 8080),
        ([{"name": "", "port": 8080, "protocol": None}], "", 8080),
        (TWO_PORTS, "http", 8080),
        (TWO_PORTS, "9090", 9090),
        (TWO_PORTS, "", None),
        (TWO_PORTS, "dns", None),
        (TWO_PORTS, "53", None),
        (TWO_PORTS, "htt", None),
        ([{"name": "a", "port": 80}, {"name": "b", "port": 80}], "a", 80),
        ([{"name": "a", "port": 80}, {"name": "b", "port": 80}], "b", 80),
        ([{"name": "a", "port": 80}, {"name": "b", "port": 80}], "", 80),
        ([], "8080", 8080),
        (None, "8080", 8080),
        (None, "http", None),
        (None, "", None),
        ([{"name": "http", "port": None}], "http", None),
        ([{"name": "http", "port": 65536}], "http", None),
    ],
)
def test_port(ports: Any, wanted: str, port: int | None) -> None:
    """By name or by number, or the only one; a slice without it is named."""
    found = listing(slice_of("a", endpoint("10.0.0.1"), ports=ports), port=wanted)
    if port is None:
        what = f"a port {wanted}".rstrip()
        reason = f"1 of the slices cannot be used: a (without {what} that can be used)"
        assert found == Failed(reason)
    else:
        assert found == Listing(((Listed("10.0.0.1", port),),))


def test_slices_of_one_service_are_merged() -> None:
    """An endpoint that moves from one slice to another is in both for a while; the order of the
    slices does not matter."""
    slices = [
        slice_of("a", endpoint("10.0.0.2"), endpoint("10.0.0.1", ready=False, terminating=True)),
        slice_of("b", endpoint("10.0.0.1")),
        slice_of("c"),
    ]
    assert listing(*slices) == listing(*reversed(slices)) == Listing(((A, B),))


def test_slices_have_ports_of_their_own() -> None:
    """While pods of two versions run, the number of a named port may differ."""
    slices = slice_of("a", endpoint("10.0.0.1")), slice_of("b", endpoint("10.0.0.2"), port=9090)
    found = listing(*slices, port="http")
    assert found == Listing(((A, Listed("10.0.0.2", 9090)),))
    # Some of them can be used.
    found = listing(*slices, port="8080")
    note = "1 of the slices cannot be used: b (without a port 8080 that can be used)"
    assert found == Listing(((A,),), note=note)


def test_both_families() -> None:
    """A pod with addresses of both is one server, and one with an address of IPv6 alone is, too."""
    six = slice_of(
        "a", endpoint("2001:DB8::1", pod="x"), endpoint("2001:db8::2", pod="y"), family="IPv6"
    )
    four = slice_of("b", endpoint("10.0.0.1", "10.0.0.9", pod="x"))
    assert listing(six, four) == Listing(((A, Listed("2001:db8::2", 8080)),))
    only_name = slice_of("c", endpoint("Web.example"), endpoint("a b"), family="FQDN")
    assert listing(only_name, port="http") == Listing(
        ((Listed("web.example.", 8080),),),
        note="1 of the slices cannot be used: c (without an address that can be used)",
    )


def test_service_without_a_pod() -> None:
    """Its slice has no endpoint and no port, and that is no mistake."""
    assert listing(slice_of("a", ports=None)) == listing() == Listing(())


@pytest.mark.parametrize(
    "text",
    [
        b"[{}]",
        b'[{"metadata": []}]',
        b'[{"metadata": {}, "endpoints": [{"addresses": "10.0.0.1"}]}]',
        b'[{"metadata": {}, "endpoints": [{"conditions": {"ready": "yes"}}]}]',
        b'[{"metadata": {}, "ports": [{"port": "http"}]}]',
    ],
)
def test_slices_that_cannot_be_read(text: bytes) -> None:
    """The reason is one line."""
    with pytest.raises(AskError, match="it sends what cannot be read: "):
        decoded(text, list[Slice])


BITS = st.sampled_from([None, False, True])
ENDPOINTS = st.builds(
    lambda address, pod, ready, serving, terminating: endpoint(
        *address, pod=pod, ready=ready, serving=serving, terminating=terminating
    ),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "é", "fe80::1%a b"]), max_size=2),
    st.sampled_from(["", "x", "y"]),
    BITS,
    BITS,
    BITS,
)


@given(
    st.lists(
        st.builds(
            lambda name, endpoints, port, family: slice_of(
                name, *endpoints, port=port, family=family
            ),
            st.text(max_size=3),
            st.lists(ENDPOINTS, max_size=4),
            st.integers(-1, 70000),
            st.sampled_from(["IPv4", "IPv6", "FQDN", "other"]),
        ),
        max_size=4,
    ),
    st.sampled_from(["", "http", "8080", "x"]),
)
def test_every_answer_makes_an_upstream_or_says_why_not(
    slices: list[dict[str, Any]], port: str
) -> None:
    """Nothing in a slice can stop the service, and no place is named twice."""
    found = listing(*slices, port=port)
    if isinstance(found, Failed):
        assert found.reason.isprintable()
        return
    service = parse_service("web", {"dns_service": "web"}, "services.web")
    servers = service.upstream(found.levels).servers
    assert len({(server.host, server.port) for server in servers}) == len(servers)
