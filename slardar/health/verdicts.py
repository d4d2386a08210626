"""Verdicts on servers' health, as processes tell them to each other: many at a time.

A worker sends them to the director, which tells the other workers; and a process that is
replaced gives them to its successor.  Every value that a worker sends is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct

from slardar.model.live import ServerLive

__all__ = [
    "MAX_TEXT",
    "Ejection",
    "Epoch",
    "Extra",
    "Heartbeat",
    "Hint",
    "Name",
    "Port",
    "Status",
    "Text",
    "Verdict",
    "by_upstream",
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
    fail_num: Annotated[int, Meta(ge=0, le=2**53)] = 0
    #: What the server says of itself, such as its version and role.
    about: dict[str, str | int] = {}


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


def hint_of(upstream: str, host: str, port: int, live: ServerLive, now: float) -> Hint:
    """What holds of the hints in ``live`` at ``now``."""
    weight = live.weight if live.has_hinted_weight else None
    return Hint(upstream, host, port, max(0.0, live.full_until - now), live.drains, weight)


#: What keeps a server from requests, or changes its weight, beside its health.
Extra: TypeAlias = Ejection | Hint

AVerdict = TypeVar("AVerdict", Verdict, Heartbeat, Extra)


def by_upstream(verdicts: Iterable[AVerdict]) -> dict[str, list[AVerdict]]:
    """The verdicts on servers of each upstream, in their order."""
    grouped: dict[str, list[AVerdict]] = {}
    for verdict in verdicts:
        grouped.setdefault(verdict.upstream, []).append(verdict)
    return grouped
