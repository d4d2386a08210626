"""Where a request would go, and why: what explaining shows, and acting does.

Values only.  The router fills them in (:meth:`slardar.dataplane.proxy.DataPlane.decide`) with
the choices and the rules by which it serves.
"""

from __future__ import annotations

from typing import NamedTuple

from slardar.model.snapshot import Choice

__all__ = ["Candidate", "Decision", "LevelDecision", "Preview"]


class Candidate(NamedTuple):
    """One server of a level."""

    #: ``host:port``.
    server: str
    #: What is known of its health: ``ok``, ``err``, ``unstable`` or ``unchecked``.
    status: str
    #: The configured weight.
    weight: int
    #: Requests under way on it, of this process.
    active: int
    #: Why it gets no request now; empty if it may get this one.
    reason: str
    #: What it gets beyond its health, and why (:mod:`slardar.health.notes`).
    note: str = ""


class LevelDecision(NamedTuple):
    """One level of the upstream, in the order in which levels are asked."""

    #: Empty if the level has no name.
    name: str
    #: The request gets one of this level's candidates without a reason.
    serves: bool
    candidates: tuple[Candidate, ...]
    #: Its name, or its place in the list of levels.
    label: str = ""


class Preview(NamedTuple):
    """What an upstream would do with a request now."""

    levels: tuple[LevelDecision, ...]
    #: The server, as ``host:port``; ``None`` if there is none, or if the balancer draws lots
    #: or cannot tell.
    server: str | None
    #: No server is in service, and one that only its failures keep out is asked instead.
    is_last_resort: bool
    #: Status and reason of the reply if no server can be asked; ``None`` if one can.
    refusal: tuple[int, str] | None
    #: So few servers are in service that health is ignored (:mod:`slardar.health.panic`).
    is_panic: bool = False


class Decision(NamedTuple):
    """What would become of a request now, if no hook saw it."""

    choice: Choice
    #: The upstream's ``mode``; empty if no upstream can serve.
    balancer: str
    #: ``None`` if no upstream can serve; ``reason`` says why then.
    preview: Preview | None
    reason: str
    #: The request waits until one of the upstream's servers is looked up.
    waits: bool = False
