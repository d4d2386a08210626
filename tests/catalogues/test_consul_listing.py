"""Which servers an answer of Consul lists."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.catalogues.base import Failed, Listing
from slardar.catalogues.consul_listing import listing_of, read_instances
from slardar.model.consul_query import ConsulQuery
from slardar.model.service import Listed, parse_service

WEB = ConsulQuery("web")
WITH_WARNINGS = ConsulQuery("web", passing=False)


def entry(name: str = "web-1", port: int = 80, node: str = "n1", **keys: Any) -> dict[str, Any]:
    """An instance as Consul shows it: ``checks`` are states by the ids of checks."""
    address = keys.pop("node_address", "10.0.0.1")
    checks = keys.pop("checks", {"serfHealth": "passing"})
    return {
        "Node": {"Node": node, "Address": address, "Datacenter": "dc1", "Meta": {"a": "b"}},
        "Service": {
            "ID": name,
            "Service": "web",
            "Tags": ["v1"],
            "Address": "",
            "Port": port,
            "Weights": {"Passing": 1, "Warning": 1},
            "Meta": None,
            **keys,
        },
        "Checks": [
            {"CheckID": key, "Status": state, "Output": ""} for key, state in checks.items()
        ],
    }


def listed(*entries: dict[str, Any], query: ConsulQuery = WEB, near: str = "") -> Listing:
    found = listing_of(read_instances(json.dumps(entries).encode()), query, near)
    assert isinstance(found, Listing)
    return found


def one(*entries: dict[str, Any], query: ConsulQuery = WEB) -> Listed:
    """The only server that these list, without a note."""
    found = listed(*entries, query=query)
    assert found.note == ""
    ((server,),) = found.levels
    return server


@pytest.mark.parametrize(
    ("keys", "host"),
    [
        ({}, "10.0.0.1"),
        ({"Address": "10.0.0.9"}, "10.0.0.9"),
        ({"Address": "Web-1.Example"}, "web-1.example"),
        ({"Address": "2001:DB8:0::1"}, "2001:db8::1"),
        ({"node_address": "fe80::1%eth0"}, "fe80::1%eth0"),
    ],
)
def test_address(keys: dict[str, Any], host: str) -> None:
    """It is the service's, or else the node's."""
    assert one(entry(**keys)) == Listed(host, 80)


@pytest.mark.parametrize(
    ("checks", "passing", "with_warnings"),
    [
        ({}, "up", "up"),
        ({"a": "passing", "b": "passing"}, "up", "up"),
        ({"a": "passing", "b": "warning"}, None, "up"),
        ({"a": "warning", "b": "critical"}, None, None),
        ({"serfHealth": "critical", "b": "passing"}, None, None),
        ({"a": "strange"}, None, None),
        ({"_node_maintenance": "critical", "a": "passing"}, "drain", "drain"),
        ({"_service_maintenance:web-1": "critical"}, "drain", "drain"),
        ({"_service_maintenance:web-1": "critical", "a": "warning"}, None, "drain"),
        ({"_service_maintenance:web-1": "critical", "a": "critical"}, None, None),
    ],
)
def test_health(checks: dict[str, str], passing: str | None, with_warnings: str | None) -> None:
    """The worst check counts.  Maintenance is none: it drains an instance that is well."""
    for query, wanted in ((WEB, passing), (WITH_WARNINGS, with_warnings)):
        levels = listed(entry(checks=checks), query=query).levels
        assert [server.state for level in levels for server in level] == [wanted] * bool(wanted)


@pytest.mark.parametrize(
    ("state", "weights", "meta", "weight"),
    [
        ("passing", None, {}, 1),
        ("passing", {"Passing": 7, "Warning": 2}, {}, 7),
        ("warning", {"Passing": 7, "Warning": 2}, {}, 2),
        ("warning", {"Passing": 7, "Warning": 0}, {}, 0),
        ("passing", {"Passing": 7, "Warning": 2}, {"weight": "5"}, 5),
        ("warning", {"Passing": 7, "Warning": 2}, {"weight": "5"}, 2),
        ("passing", {"Passing": -3}, {}, 0),
        ("passing", {"Passing": 10**12}, {}, 10**9),
    ],
)
def test_weight(state: str, weights: Any, meta: dict[str, str], weight: int) -> None:
    """It is the definition's for the state; ``Meta`` stands for that of an instance that passes."""
    found = one(entry(Weights=weights, Meta=meta, checks={"a": state}), query=WITH_WARNINGS)
    assert found.weight == weight


def test_keys_of_a_server() -> None:
    """They are read as what they are; other keys of ``Meta`` are not ours."""
    meta = {
        "max_fails": "3",
        "fail_timeout": "2.5",
        "max_conns": "40",
        "version": "x",
        "state": "?",
    }
    assert one(entry(Meta=meta)) == Listed(
        "10.0.0.1", 80, max_fails=3, fail_timeout=2.5, max_conns=40
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight", "heavy"),
        ("weight", "-1"),
        ("max_fails", ""),
        ("max_fails", "1.5"),
        ("fail_timeout", "10s"),
        ("fail_timeout", "nan"),
        ("max_conns", "99999999999"),
        ("backup", "yes"),
    ],
)
def test_wrong_key_of_a_server(key: str, value: str) -> None:
    """It is noted with its instance, and the others hold."""
    rest = {"weight": "4", "max_fails": "2"}
    found = listed(entry(Meta={**rest, key: value}))
    ((server,),) = found.levels
    assert found.note.startswith(f"web-1: Meta {key}: expected ")
    assert server.weight == (1 if key == "weight" else 4)
    assert server.max_fails == (None if key == "max_fails" else 2)


def test_backups_and_near_servers_are_levels() -> None:
    """The near ones are first, the backups last; no level is empty."""
    far, near = entry("a", 1, "n1"), entry("b", 2, "n2")
    backup = entry("c", 3, "n2", Meta={"backup": "true"})
    one, two, three = (Listed("10.0.0.1", port) for port in (1, 2, 3))
    assert listed(far, near, backup).levels == ((one, two), (three,))
    assert listed(far, near, backup, near="n2").levels == ((two,), (one,), (three,))
    assert listed(far, backup, near="n2").levels == ((one,), (three,))
    assert listed(backup).levels == ((three,),)
    service = parse_service("web", {"consul_service": "web"}, "services.web")
    cluster = service.upstream(((one, two), (three,))).source["cluster"]
    assert [len(level["servers"]) for level in cluster] == [2, 1]


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ({"port": 0}, "web-1: cannot be reached at 10.0.0.1:0"),
        ({"port": 70000}, "web-1: cannot be reached at 10.0.0.1:70000"),
        ({"Address": "a b"}, "web-1: cannot be reached at a b:80"),
        ({"node_address": ""}, "web-1: cannot be reached at :80"),
    ],
)
def test_instance_that_cannot_be_reached(keys: dict[str, Any], note: str) -> None:
    """It is left out and noted; where it is the only one, the answer is a failure."""
    odd, good = entry(**keys), entry("web-2", 81)
    assert listed(odd, good) == Listing(((Listed("10.0.0.1", 81),),), note=note)
    assert listing_of(read_instances(json.dumps([odd]).encode()), WEB) == Failed(note)


def test_two_instances_at_one_address() -> None:
    """The first id counts."""
    found = listed(entry("b", Meta={"weight": "2"}), entry("a", Meta={"weight": "3"}))
    assert found.levels == ((Listed("10.0.0.1", 80, 3),),)
    assert found.note == "b: 10.0.0.1:80 is listed already"


def test_long_note_is_cut() -> None:
    """It names three things and says how many there are besides."""
    found = listed(entry("a", 1), *(entry(f"w{number}\n", 0) for number in range(5)))
    assert found.note.count("cannot be reached") == 3
    assert found.note.endswith("; and 2 more")
    assert "\n" not in found.note


def test_containers_of_one_host() -> None:
    """What Registrator registers: one node, many ports, ids of host, container and port."""
    ports = (32770, 32768, 32769)
    found = listed(*(entry(f"host:web-{port}:80", port) for port in ports))
    assert found == Listing((tuple(Listed("10.0.0.1", port) for port in sorted(ports)),))


def test_no_instance() -> None:
    """It is no failure, nor is it meant."""
    assert listed() == Listing(())
    assert listed(entry(checks={"a": "critical"}, port=0)) == Listing(())


@pytest.mark.parametrize(
    "answer",
    [None, {}, "x", [1], [{}], [{"Node": {}, "Service": {"Port": "x"}}], [{"Service": None}]],
)
def test_garbage_is_no_answer(answer: Any) -> None:
    """It raises, whatever it is."""
    with pytest.raises(ValueError, match=r"."):
        read_instances(json.dumps(answer).encode())


@given(st.permutations([entry(f"w{n}", n % 3 + 1, f"n{n % 2}") for n in range(1, 7)]))
def test_order_of_instances_does_not_matter(entries: list[dict[str, Any]]) -> None:
    """The same instances are the same listing."""
    assert listed(*entries) == listed(*sorted(entries, key=lambda one: one["Service"]["ID"]))
