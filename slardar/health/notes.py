"""What slardar does with a server beyond its health, in words for a person."""

from __future__ import annotations

from slardar.model.live import ServerLive

__all__ = ["notes_of"]


def notes_of(live: ServerLive, now: float) -> dict[str, str]:
    """The keys of an upstream that change what this server gets at ``now`` (monotonic
    seconds), each with how and why; empty for most servers."""
    notes = {}
    if live.ejected_until > now:
        notes["outlier"] = f"ejected for {live.ejected_until - now:.0f} s more: {live.ejected_msg}"
    if live.share < 1:
        notes["slow_start"] = f"it has {live.share:.2f} of its weight, and climbs"
    return notes
