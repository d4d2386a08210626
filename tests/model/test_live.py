"""What outlives a change of configuration, and what goes with its server."""

from __future__ import annotations

from slardar.model.live import Live, Peer
from slardar.model.server import Server


def test_server_keeps_its_state() -> None:
    """The same upstream, host and port always give the same object."""
    live = Live()
    one = live.server("a", "h", 1)
    one.active = 3
    assert live.server("a", "h", 1) is one
    assert len(live) == 1


def test_each_upstream_has_its_own() -> None:
    """A server in two upstreams has two states; so has a host with two ports."""
    live = Live()
    found = {id(live.server(*key)) for key in [("a", "h", 1), ("b", "h", 1), ("a", "h", 2)]}
    assert len(found) == len(live) == 3


def test_forgotten_server_begins_anew() -> None:
    """Other servers keep their states; requests under way may finish on the old state."""
    live = Live()
    old, kept = live.server("a", "h", 1), live.server("a", "h", 2)
    old.fails = 5
    live.forget("a", [("h", 1), ("never seen", 9)])
    assert live.server("a", "h", 2) is kept
    assert live.server("a", "h", 1) is not old
    assert live.server("a", "h", 1).fails == 0
    old.active -= 1
    assert live.server("a", "h", 1).active == 0


def test_new_server_is_unchecked() -> None:
    """It has had no requests, and may get some."""
    state = Live().server("a", "h", 1)
    assert (state.status, state.active, state.requests, state.failures) == ("unchecked", 0, 0, 0)
    assert (state.down_until, state.fails, state.fail_num, state.msg) == (0, 0, 0, "")
    assert state.ewma is state.effective_weight is None
    assert repr(state) == "<ServerLive unchecked active=0 fails=0>"


def test_peers_of_two_snapshots_share_what_is_live() -> None:
    """A new weight is a new peer over the same counters."""
    live = Live()
    before = Peer(Server("::1", 80), live.server("a", "::1", 80))
    after = Peer(Server("::1", 80, weight=5), live.server("a", "::1", 80))
    assert before.live is after.live
    assert (before.weight, after.weight) == (1, 5)
    assert (after.host, after.port, after.key) == ("::1", 80, "[::1]:80")
    assert repr(after) == "<Peer [::1]:80 weight=5 <ServerLive unchecked active=0 fails=0>>"
