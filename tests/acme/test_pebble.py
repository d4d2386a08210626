"""Orders at the real Pebble, with a clock that the tests put forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as running  # noqa: TID251
from twisted.internet.task import deferLater

from slardar.acme.orders import Orders
from slardar.config import parse_settings
from slardar.events import AcmeState, Event
from slardar.model.tls import Keyring
from slardar.stores.memory import MemoryStore
from tests.control.fakes import FakePlane, make_actions
from tests.integration.pebble import Pebble
from tests.integration.programs import PATIENCE

reactor: Any = running
pytestmark = pytest.mark.real
A = "a.example"


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        await deferLater(reactor, 0.02)


@pytest_twisted.ensureDeferred
async def test_renewal(tmp_path: Path) -> None:
    """Of a certificate for 90 days after 60 of them, with the same account."""
    pebble = Pebble(tmp_path / "ca", PEBBLE_VA_ALWAYS_VALID="1", PEBBLE_WFE_NONCEREJECT="20")
    ahead = 0.0
    actions = make_actions(MemoryStore(), FakePlane())
    actions.clock = lambda: time.time() + ahead
    events: list[Event] = []
    orders = Orders(reactor, actions, Keyring, events.append, False)
    try:
        pebble.ready()
        acme = {"hosts": [A], "directory": pebble.directory, "ca": pebble.ca}
        orders.start(parse_settings({"tls": {"acme": acme}}))
        await until(lambda: AcmeState(A, "got") in events)
        first = dict(actions.held.certificates[A])
        ahead = 59 * 86400.0
        orders.look_soon()
        await until(lambda: pebble.output.count("GET /dir") > 2)
        assert pebble.orders == 1
        ahead = 60 * 86400.0 + 60
        orders.look_soon()
        await until(lambda: AcmeState(A, "renewed") in events)
        second = actions.held.certificates[A]
        assert second["cert"] != first["cert"]
        assert second["key"] != first["key"]
        assert (pebble.orders, pebble.accounts) == (2, 1)
        assert orders.states()[A].status == "ok"
    finally:
        await orders.stop()
        pebble.end()
