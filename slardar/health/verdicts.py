"""Verdicts on servers' health, as processes tell them to each other: many at a time.

A worker sends them to the director, which tells the other workers; and a process that is
replaced gives them to its successor.  Every value that a worker sends is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct

from slardar.health.flaps import penalty_at
from slardar.model.live import ServerLive

__all__ = [
    "MAX_TEXT",
    "NO_HISTORY",
    "Climb",
    "Ejection",
    "Epoch",
    "Extra",
    "Flap",
    "Heartbeat",
    "Hint",
    "History",
    "Name",
    "Port",
    "Status",
    "Text",
    "Verdict",
    "by_upstream",
    "flap_of",
    "hint_of",
]

#: A DNS name has 253 characters at most, an upstream's name no more than 255.
Name = Annotated[str, Meta(max_length=255)]
Port = Annotated[int, Meta(ge=1, le=65535)]
#: Why a server failed, for a person.
Text = Annotated[str, Meta(max_length=1000)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
#: Seconds since 1970.
Epoch = Annotated[float, Meta(ge=0, le=1e11)]
Status = Literal["unchecked", "ok", "err", "unstable"]
#: Failures in a row, or good results in a row.
Count = Annotated[int, Meta(ge=0, le=2**53)]
#: The penalty of flap damping (:mod:`slardar.health.flaps`).
Penalty = Annotated[float, Meta(ge=0, le=1e6)]
#: Penalties below this one are not told: half an hour after it was 1 a penalty is near it.
_LEAST_PENALTY = 0.01

#: Characters of a text that are sent; the rest is cut off.
MAX_TEXT = 300


class Verdict(Struct, frozen=True):
    """Requests have put a server out of service, or brought it back."""

    upstream: Name
    host: Name
    port: Port
    #: Seconds for which it gets no request; 0: it is back.
    down_for: Seconds
    message: Text
    fail_num: Count = 0
    #: It is not back, though ``down_for`` is 0: its time is over, and no request has succeeded
    #: since.
    on_probation: bool = False


class History(Struct, frozen=True, omit_defaults=True):
    """What heartbeats remember of a server beside its status, for a process that goes on with
    them."""

    #: Its results keep it out of service, unless it is the last one; and those in a row since
    #: that were no ``err``.
    has_failed: bool = False
    goods: Count = 0
    #: Flap damping: the penalty when it failed last, at ``flapped_at``, and until when it is held
    #: back.
    penalty: Penalty = 0.0
    flapped_at: Epoch = 0.0
    held_until: Epoch = 0.0


NO_HISTORY = History()


class Heartbeat(Struct, frozen=True):
    """What heartbeats say of a server, until they say something else."""

    upstream: Name
    host: Name
    port: Port
    #: A server that is ``err`` gets no request.
    status: Status
    #: Since when.
    since: Epoch
    message: Text
    #: Heartbeats in a row that were not good.
    fail_num: Count = 0
    #: What the server says of itself, such as its version and role.
    about: dict[str, str | int] = {}
    history: History = NO_HISTORY


class Ejection(Struct, frozen=True, tag="ejection"):
    """A server is ejected as an outlier (:mod:`slardar.health.outliers`), or is back before
    its time."""

    upstream: Name
    host: Name
    port: Port
    #: Seconds for which it gets no request; 0: it is back.
    seconds: Seconds
    #: How often it was ejected, without the times that are forgotten.
    times: Annotated[int, Meta(ge=0, le=1000)]
    message: Text
    #: For a process that begins: the ejection was over so many seconds ago, and counts when the
    #: server is ejected again.  ``None`` everywhere else.
    calm: Seconds | None = None


class Hint(Struct, frozen=True, tag="hint"):
    """Everything that a server has said of itself and that holds
    (:mod:`slardar.health.hints`)."""

    upstream: Name
    host: Name
    port: Port
    #: Seconds for which it is full, and whether it wants no requests.
    full_for: Seconds
    drains: bool
    #: Its weight instead of the configured one.
    weight: Annotated[float, Meta(ge=0, le=1e9)] | None


class Flap(Struct, frozen=True, tag="flap"):
    """Requests have put a server out of service again and again
    (:mod:`slardar.health.flaps`); for a process that begins."""

    upstream: Name
    host: Name
    port: Port
    #: The penalty that is left now.
    penalty: Penalty


class Climb(Struct, frozen=True, tag="climb"):
    """The weight of a server climbs (:mod:`slardar.health.slow_start`); for a process that
    begins."""

    upstream: Name
    host: Name
    port: Port
    #: Seconds since it began to.
    seconds: Seconds
    #: The level (:attr:`slardar.model.server.Upstream.labels`) in which it does; empty: the first
    #: level that has the server.
    level: Name = ""


def flap_of(
    upstream: str, host: str, port: int, penalty: float, at: float, now: float
) -> Flap | None:
    """What is left at ``now`` of a penalty that was computed at ``at``; ``None`` if it is too
    little to matter."""
    left = penalty_at(penalty, at, now)
    return Flap(upstream, host, port, min(left, 1e6)) if left >= _LEAST_PENALTY else None


def hint_of(upstream: str, host: str, port: int, live: ServerLive, now: float) -> Hint:
    """What holds of the hints in ``live`` at ``now``."""
    weight = live.weight if live.has_hinted_weight else None
    return Hint(upstream, host, port, max(0.0, live.full_until - now), live.drains, weight)


#: What keeps a server from requests or changes its weight beside its health, or did so before.
Extra: TypeAlias = Ejection | Hint | Flap | Climb

AVerdict = TypeVar("AVerdict", Verdict, Heartbeat, Extra)


def by_upstream(verdicts: Iterable[AVerdict]) -> dict[str, list[AVerdict]]:
    """The verdicts on servers of each upstream, in their order."""
    grouped: dict[str, list[AVerdict]] = {}
    for verdict in verdicts:
        grouped.setdefault(verdict.upstream, []).append(verdict)
    return grouped
