"""What slardar does with a server beyond its health, in words for a person."""

from __future__ import annotations

from slardar.health.flaps import held_for, penalty_at
from slardar.model.live import ServerLive

__all__ = ["notes_of"]


def notes_of(live: ServerLive, now: float) -> dict[str, str]:
    """The keys of an upstream that change what this server gets at ``now`` (monotonic
    seconds), each with how and why; empty for most servers."""
    notes = {}
    if live.ejected_until > now:
        notes["outlier"] = f"ejected for {live.ejected_until - now:.0f} s more: {live.ejected_msg}"
    penalty = penalty_at(live.penalty, live.flapped_at, now)
    if live.down_until > now and held_for(penalty, 1.0):
        notes["max_fails"] = (
            f"held back for {live.down_until - now:.0f} s more, since it goes out of service"
            " again and again"
        )
    hints = []
    if live.drains:
        hints.append("drain")
    if live.full_until > now:
        hints.append("full")
    if live.has_hinted_weight:
        hints.append(f"weight={live.weight:g}")
    if hints:
        notes["hints"] = f"the server has said: {', '.join(hints)}"
    if live.share < 1:
        notes["slow_start"] = f"it has {live.share:.2f} of its weight, and climbs"
    return notes
