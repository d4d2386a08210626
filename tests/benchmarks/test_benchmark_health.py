"""What health costs: the two that are compared, and the servers that get heartbeats."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from benchmarks.health import KEYS, OFF, ON, spread_of
from benchmarks.heartbeats import KINDS, hosts
from slardar.model.parse import parse_upstream

SERVERS: dict[str, Any] = {"servers": [{"host": "127.0.0.1", "port": 1}]}


def test_one_has_all_and_the_other_nothing() -> None:
    """Heartbeats, retry budget and outliers."""
    found = {state: parse_upstream("a", {**SERVERS, **keys}, "a") for state, keys in KEYS.items()}
    assert found[ON].enable
    assert found[ON].retry_budget is not None
    assert found[ON].outlier is not None
    assert not found[OFF].enable
    assert found[OFF].retry_budget is None
    assert found[OFF].outlier is None


def test_ratios_are_taken_within_a_turn() -> None:
    """The median, and the bounds of the middle half: a turn on a slow machine counts alike."""
    ratios = (1.0, 1.01, 1.02, 1.03, 9.0)
    turns = [{OFF: 10.0 * speed, ON: 10.0 * speed * ratio} for speed, ratio in enumerate(ratios, 1)]
    assert spread_of(turns) == pytest.approx((1.01, 1.02, 1.03))


def test_servers_are_different_addresses_of_this_machine() -> None:
    """As many as are asked for."""
    found = {ip_address(host) for host in hosts(10_000)}
    assert len(found) == 10_000
    assert all(address.is_loopback for address in found)


@pytest.mark.parametrize("kind", KINDS)
def test_heartbeats_are_of_their_kind(kind: str) -> None:
    """They are what an upstream of this kind gets."""
    assert parse_upstream("a", {**SERVERS, **KINDS[kind]}, "a").probe.typ == kind
