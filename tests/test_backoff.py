"""How long a client waits before it tries again."""

from __future__ import annotations

from slardar.backoff import backoff


def test_pauses_grow_to_a_bound() -> None:
    """Each is twice as long as the one before; any number of failures may come."""
    pauses = [backoff(0.5, 3.0, failures, lambda: 1.0) for failures in (0, 1, 2, 3, 10**6)]
    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_half_of_a_pause_is_drawn_by_lot() -> None:
    assert backoff(0.5, 3.0, 1, lambda: 0.0) == 0.5
    assert backoff(0.5, 3.0, 10, lambda: 0.0) == 1.5
    assert len({backoff(1.0, 1.0, 0) for _ in range(100)}) > 50
