"""Why a request goes, or has gone, where: what ``GET /explain`` and ``GET /decision/ID`` answer.

Values only, in the form in which they are answered.  A worker sends them to the director, so every
text has a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from slardar.dataplane.decision import Decision, LevelDecision
from slardar.hooks.rehearsal import HookEffect, Lines, lines_of, plain, short
from slardar.hooks.trial import changes_of, shown_request
from slardar.http1.own_replies import NO_REPLY
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.model.routes import written_routes

__all__ = [
    "AttemptTold",
    "CandidateTold",
    "DecisionTold",
    "Explanation",
    "Refusal",
    "explanation_of",
]

#: Characters of a text, and candidates in a record that is kept.
_MAX_TEXT = 1000
_MAX_KEPT = 200

Text = Annotated[str, Meta(max_length=_MAX_TEXT)]
Number = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]


class CandidateTold(Struct, frozen=True):
    """One server of the upstream."""

    #: ``host:port``.
    server: Text
    #: ``ok``, ``err``, ``unstable`` or ``unchecked``.
    status: Text
    #: Why it does not get the request; empty if it may get it.
    reason: Text
    #: The name of its level, or the place of the level in the list.
    level: Text
    weight: Number
    #: Requests under way on it, of this process.
    active: Number
    #: What it gets beyond its health, and why.
    note: Text


class Refusal(Struct, frozen=True):
    """The reply that slardar makes itself."""

    status: Annotated[int, Meta(ge=0, le=999)]
    reason: Text


class Explanation(Struct, frozen=True):
    """Where a request goes, and why."""

    #: ``None`` if it goes to none.
    upstream: Text | None
    #: What leads there: ``route``, ``host``, ``wildcard``, ``default``, ``hook`` or ``resource``;
    #: empty if nothing does.
    by: Text
    #: The route that fits; ``None`` if none does.
    route: dict[str, Any] | None
    #: The hooks that see the request, in their order, with what they do.
    hooks: tuple[HookEffect, ...]
    #: What hooks have chosen, for the hash balancers and for named clusters.
    hash_key: Text | None
    cluster_key: Any
    #: The level that serves: its name, or its place in the list.
    level: Text | None
    #: The upstream's ``mode``.
    balancer: Text
    #: The server that gets the request; ``None`` if none does, or if nobody can tell.
    server: Text | None
    #: Why ``server`` cannot be told, or what else there is to know; empty as a rule.
    note: Text
    candidates: tuple[CandidateTold, ...]
    #: So few servers are in service that health is ignored.
    panic: bool
    #: No server is in service, and one that only its failures keep out is asked.
    last_resort: bool
    #: slardar's own reply, or a hook's; ``None`` if a server is asked.
    refusal: Refusal | None
    #: Candidates that are left out here, for there are very many.
    more: Number = 0
    #: What hooks, all of them together, have changed of the request's head: the lines that are gone
    #: (``-``) and that are new (``+``).
    changes: Lines = ()
    #: The version of the configuration, and who has decided.
    version: Number = 0
    worker: Text = ""


class AttemptTold(Struct, frozen=True):
    """One attempt on one server.  Times are in seconds since the request came."""

    server: Text
    started: Seconds
    #: When a new connection was there; ``None`` on one that was used before.
    connected: Seconds | None
    first_byte: Seconds | None
    ended: Seconds | None
    #: The status of the server's reply; 0 if none came.
    status: Annotated[int, Meta(ge=0, le=999)]
    #: The kind of failure, and the failure for people; empty if it did not fail.
    failure: Text
    error: Text


class DecisionTold(Struct, frozen=True):
    """What was decided for one request, and what became of it."""

    id: Text
    #: When the request came, in epoch seconds.
    time: Annotated[float, Meta(ge=0, le=1e11)]
    client: Text
    method: Text
    host: Text
    uri: Text
    decision: Explanation
    attempts: tuple[AttemptTold, ...]
    retries: Number
    #: Seconds for which it waited until a server had room, and in all.
    queued: Seconds
    seconds: Seconds
    #: The status that the client got; 0 if it got none.
    status: Annotated[int, Meta(ge=0, le=999)]
    #: ``server``, ``hook``, ``slardar`` or empty for nobody.
    answered_by: Text
    #: The server that was tried last.
    server: Text
    #: Why slardar itself answered, or what broke.
    error: Text
    #: Whether the request has ended.
    is_over: bool


def explanation_of(
    decision: Decision,
    request: Request,
    effects: Sequence[HookEffect],
    answer: Reply | None,
    version: int,
    worker: str,
    before: Request | None,
    is_kept: bool = False,
) -> Explanation:
    """The explanation of ``decision`` about ``request``, as hooks have left it.

    ``before`` is the request as its client sent it.  ``answer`` is the reply that a hook has made.
    ``is_kept``: candidates are left out if there are very many; those that got a chance stay.
    """
    choice, preview = decision.choice, decision.preview
    refusal: Refusal | None = None
    levels: Sequence[LevelDecision] = ()
    server = note = None
    if answer is not None:
        status = answer.status if answer.status == NO_REPLY else answer.client_status()
        refusal = Refusal(status, "a hook answers")
    elif preview is None:
        refusal = Refusal(502, short(decision.reason))
    else:
        levels, server = preview.levels, preview.server
        if preview.refusal is not None and not decision.waits:
            refusal = Refusal(preview.refusal[0], short(preview.refusal[1]))
        elif decision.waits:
            note = "the request waits until a name of the upstream's servers is looked up"
        elif server is None:
            note = f"the balancer {decision.balancer} does not tell which one it will pick"
    changes: Sequence[str] = ()
    if before is not None:
        changes = changes_of(shown_request(before), shown_request(request))
    serving = next((level for level in levels if level.serves), None)
    candidates = [
        CandidateTold(
            short(one.server),
            one.status,
            short(one.reason),
            short(level.label),
            one.weight,
            one.active,
            short(one.note),
        )
        for level in levels
        for one in level.candidates
    ]
    more = 0
    if is_kept and len(candidates) > _MAX_KEPT:
        # The one that is picked first, then those that could have been.
        candidates.sort(key=lambda one: (one.server != server, one.reason != ""))
        more = len(candidates) - _MAX_KEPT
        del candidates[_MAX_KEPT:]
    return Explanation(
        None if choice.upstream is None else short(choice.upstream),
        choice.by,
        None if choice.route is None else written_routes((choice.route,))[0],
        tuple(effects),
        None if request.hash_key is None else short(request.hash_key),
        plain(request.cluster_key),
        None if serving is None else short(serving.label),
        short(decision.balancer),
        server,
        short(note or ""),
        tuple(candidates),
        preview is not None and preview.is_panic,
        preview is not None and preview.is_last_resort,
        refusal,
        more,
        lines_of(changes),
        version,
        worker,
    )
