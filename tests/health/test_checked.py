"""Heartbeats and requests, each with a say of its own."""

from __future__ import annotations

import pytest

from slardar.health.checked import note_checked, shown
from slardar.health.rules import is_available, note_failure, note_success, set_status
from slardar.health.shared import note_back, note_out
from slardar.model.live import ServerLive
from slardar.model.server import Server

SERVER = Server("10.0.0.1", 80, max_fails=1, fail_timeout=10)


@pytest.mark.parametrize(
    ("status", "in_service"),
    [("unchecked", True), ("ok", True), ("unstable", True), ("err", False)],
)
def test_only_err_keeps_a_server_out(status: str, in_service: bool) -> None:
    """For ever, until heartbeats say otherwise."""
    live = ServerLive()
    assert note_checked(live, status, 1.0, "why") is not in_service
    assert is_available(live, SERVER, 1e12) is in_service
    assert note_checked(live, status, 2.0, "why") is False
    assert note_checked(live, "ok", 3.0, "") is not in_service
    assert is_available(live, SERVER, 0.0)


def test_requests_do_not_overrule_heartbeats() -> None:
    """Neither here nor from another process."""
    live = ServerLive()
    note_checked(live, "err", 1.0, "no answer")
    note_success(live, SERVER, 100.0)
    note_back(live)
    note_failure(live, SERVER, 100.0, True, "refused")
    note_success(live, SERVER, 111.0)
    assert not is_available(live, SERVER, 200.0)
    assert (live.status, live.checked, live.checked_msg) == ("ok", "err", "no answer")


def test_heartbeats_do_not_overrule_requests() -> None:
    """A server that requests have put out has its time to wait, however it answers."""
    live = ServerLive()
    note_out(live, SERVER, 100.0, 10.0, True, "refused")
    assert not note_checked(live, "ok", 101.0, "")
    assert not is_available(live, SERVER, 109.0)
    assert is_available(live, SERVER, 110.0)


@pytest.mark.parametrize(
    ("requests", "heartbeats", "expected"),
    [
        ("unchecked", "unchecked", "unchecked"),
        ("unchecked", "ok", "ok"),
        ("ok", "unchecked", "ok"),
        ("ok", "err", "err"),
        ("err", "ok", "err"),
        ("unstable", "ok", "unstable"),
        ("ok", "unstable", "unstable"),
        ("unstable", "err", "err"),
    ],
)
def test_the_worse_is_shown(requests: str, heartbeats: str, expected: str) -> None:
    """With its own time and reason."""
    live = ServerLive()
    note_checked(live, heartbeats, 7.0, "heartbeat")
    set_status(live, requests, "request")
    live.last_modified = 8.0
    found = shown(live)
    assert found.status == expected
    by_heartbeats = expected == heartbeats != requests
    assert found.since == (7.0 if by_heartbeats else 8.0)
    if expected != "unchecked":
        assert found.message == ("heartbeat" if by_heartbeats else "request")
