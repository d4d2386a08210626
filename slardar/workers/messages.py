"""The messages between director and worker, as typed values in JSON.

The format is JSON because JSON carries no code: a hook may find a way to take over a
worker, and the director reads what this worker sends.  So every number of a worker's
message is checked.  The director's messages are trusted.

Upstreams travel in their parsed form (:class:`slardar.model.server.Upstream`).  Measured
with 10,000 upstreams of 10 servers: a worker reads this form in 0.2 s; it would unpickle
the upstreams in 0.35 s, and parse their sources in 2 s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, structs

from slardar.config import Control, Settings, Tls
from slardar.dataplane.balancer_errors import BalancerError
from slardar.dataplane.explanation import DecisionTold, Explanation
from slardar.health.verdicts import Epoch, Extra, Heartbeat, Name, Port, Status, Text, Verdict
from slardar.hooks.report import HookReport, ShadowReport
from slardar.model.hook import Hook
from slardar.model.listener import ListenerSpec
from slardar.model.routes import Route
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Challenges, Keyring, Pair, ServerTls, TicketKeys
from slardar.observers.counted import Counted, Present
from slardar.observers.spans import Spans

__all__ = [
    "Addresses",
    "BalancerReport",
    "Begin",
    "Delta",
    "Done",
    "Drain",
    "Explain",
    "FindDecision",
    "FromWorker",
    "Grown",
    "HookFailed",
    "HookHeavy",
    "Listening",
    "Ping",
    "Reopen",
    "Report",
    "ServerReport",
    "SuspendHook",
    "TakeKeyring",
    "TakeSettings",
    "TakeTickets",
    "TimeServers",
    "ToWorker",
    "Told",
    "UpstreamReport",
    "Verdicts",
    "Whole",
    "WorkerSocket",
    "changed_keyring",
    "decode_answer",
    "decode_from_worker",
    "decode_keyring",
    "decode_to_worker",
    "decode_whole",
    "delta",
    "encode",
    "keyring_change",
    "lean_settings",
    "raw",
    "whole",
]

_Value = TypeVar("_Value")
_Config = TypeVar("_Config", "Whole", "Delta")

#: At most the largest integer that a double holds exactly; no counter comes near it.
Counter = Annotated[int, Meta(ge=0, le=2**53)]
#: The counters of an upstream by name (:meth:`slardar.model.live.UpstreamLive.counts`).
Counts = Annotated[dict[Annotated[str, Meta(max_length=40)], Counter], Meta(max_length=20)]
Version = Annotated[int, Meta(ge=0, le=2**53)]
#: The addresses of names, each with its family, IPv4 first; none: none was found.
Found = dict[str, tuple[tuple[int, str], ...]]


class Verdicts(Struct, tag="verdicts", frozen=True):
    """What is new of servers' health: by requests, both ways; and by heartbeats, which
    only the director knows."""

    requests: tuple[Verdict, ...] = ()
    heartbeats: tuple[Heartbeat, ...] = ()
    #: What keeps servers from requests beside that, both ways.
    extras: tuple[Extra, ...] = ()


class Addresses(Struct, tag="addresses", frozen=True):
    """What the director has found for names of servers that are new or changed, and which
    names it is looking up again."""

    found: Found
    again: tuple[str, ...] = ()


class Whole(Struct, tag="whole", frozen=True):
    """The whole configuration."""

    version: int
    upstreams: tuple[Upstream, ...]
    routes: tuple[Route, ...]
    default_upstream: str | None
    hooks: tuple[Hook, ...] = ()
    #: As :attr:`slardar.model.snapshot.Snapshot.settings` has them.
    settings: dict[str, str] = {}
    #: The store's certificates, and their keys.
    certificates: dict[str, Pair] = {}
    challenges: Challenges = Challenges()
    #: What is in the files of upstreams' ``tls``, once each (see :func:`_lean`).
    texts: dict[str, str] = {}


class WorkerSocket(Struct, frozen=True):
    """A listening socket that is a worker's."""

    #: Its place among the sockets that the process was started with: the descriptor is
    #: ``commands.FIRST_SOCKET`` plus this number.
    place: int
    #: The listener that it is a socket of.
    listener: ListenerSpec
    #: Whether other workers accept on it, too.
    shared: bool = False


class Begin(Struct, tag="begin", frozen=True):
    """The first message to a worker: what it is to serve, and how."""

    #: Its number: 0 is ``worker-0``.
    number: int
    settings: Settings
    #: A :class:`Whole`, encoded once for all workers.
    snapshot: msgspec.Raw
    #: Its listening sockets.
    sockets: tuple[WorkerSocket, ...]
    #: How many sockets the process was started with; it closes those that are not in
    #: ``sockets``.
    inherited: int
    #: What is known of servers' health now, and the addresses of servers' names.
    health: Verdicts = Verdicts()
    addresses: Found = {}
    #: The versions of hooks that are suspended, by their marks
    #: (:func:`slardar.hooks.loaded.mark_of`), and for some of them the reason.
    suspended: tuple[int, ...] = ()
    reasons: dict[int, str] = {}
    #: The versions of hooks that must not be loaded, and why.
    refused: dict[int, str] = {}
    #: How many workers there are.
    count: int = 1
    #: The certificates for clients, and their keys: a Keyring, encoded once for all workers.
    keyring: msgspec.Raw = msgspec.Raw(b"{}")
    #: What session tickets are sealed with; ``None``: each worker has keys of its own.
    tickets: TicketKeys | None = None


class Delta(Struct, tag="delta", frozen=True):
    """What leads from one version of the configuration to another.

    A worker takes it only if it is at version ``base``; any other worker is sent the whole.
    """

    base: int
    version: int
    upstreams: tuple[Upstream, ...]
    #: The names of upstreams that are removed.
    gone: tuple[str, ...]
    #: ``None``: the routes stay as they are.
    routes: tuple[Route, ...] | None
    default_upstream: str | None
    #: The hooks that are new or changed, and the keys (language and name) of hooks that are
    #: removed.
    hooks: tuple[Hook, ...] = ()
    gone_hooks: tuple[tuple[str, str], ...] = ()
    #: The settings that are new or changed, and the names of those that are removed.
    settings: dict[str, str] = {}
    gone_settings: tuple[str, ...] = ()
    #: The store's certificates that are new or changed, and the names of those that are removed.
    certificates: dict[str, Pair] = {}
    gone_certificates: tuple[str, ...] = ()
    #: ``None``: CAs are answered what they were.
    challenges: Challenges | None = None
    texts: dict[str, str] = {}


class SuspendHook(Struct, tag="suspend", frozen=True):
    """Stop running this version of a hook."""

    mark: int
    #: Shown to operators; empty if the version has failed too often.
    reason: str = ""


class TakeSettings(Struct, tag="settings", frozen=True):
    """Use those of these settings from now on that ``IPlane.take_settings`` names."""

    settings: Settings


class TakeKeyring(Struct, tag="keyring", frozen=True):
    """Use other certificates for handshakes from now on: there may be ten thousand, of which one
    has changed."""

    #: How many pairs the worker has, and the places of those that are no more, in order.
    count: int
    gone: tuple[int, ...]
    #: With the pairs that are new, which come behind the others.
    keyring: Keyring


class TakeTickets(Struct, tag="tickets", frozen=True):
    """Seal session tickets with these keys from now on."""

    tickets: TicketKeys | None


class Reopen(Struct, tag="reopen", frozen=True):
    """Open the files of access logs anew."""


class TimeServers(Struct, tag="time", frozen=True):
    """Time the replies of each server for so many seconds from now on."""

    seconds: float


class Explain(Struct, tag="explain", frozen=True):
    """Explain where a request would go: a :class:`Told` comes before the answer."""

    #: Tells this question from others.
    number: int
    #: The head of the request, and the client's address.
    head: bytes
    client: str


class FindDecision(Struct, tag="decision", frozen=True):
    """Tell what was decided for a request: a :class:`Told` comes before the answer."""

    number: int
    id: str


class Ping(Struct, tag="ping", frozen=True):
    """A worker whose reactor runs answers at once."""


class Drain(Struct, tag="drain", frozen=True):
    """Take no new connections, finish what is under way within ``seconds``, and end.

    A second message of this kind can shorten the time, and counts from when it comes.
    """

    seconds: float
    #: Seconds that clients without a request stay; ``None``: as the data plane has it by
    #: default.
    grace: float | None = None


class Listening(Struct, tag="listening", frozen=True):
    """The worker's sockets that were bound without listening do listen now."""


class Done(Struct, tag="done", frozen=True):
    """The worker's answer to any message of the director."""

    #: The version of the configuration that the worker serves.
    version: Version
    #: Why the worker could not do what it was told; empty if it could.
    error: Text = ""
    #: The worker could not apply a :class:`Delta`, because it is at another version.
    stale: bool = False


class ServerReport(Struct, array_like=True, frozen=True):
    """One server's counters in a worker, since the worker began, and its health there."""

    upstream: Name
    host: Name
    port: Port
    requests: Counter
    failures: Counter
    active: Counter
    status: Status
    fail_num: Counter
    last_modified: Epoch
    message: Text
    #: What the server gets beyond its health (:mod:`slardar.health.notes`).
    notes: Annotated[dict[Name, Text], Meta(max_length=10)] = {}


class BalancerReport(Struct, array_like=True, frozen=True):
    """An error that the balancer of an upstream has raised in a worker."""

    upstream: Name
    about: BalancerError


class UpstreamReport(Struct, array_like=True, frozen=True):
    """The counters of an upstream in a worker, since the worker began."""

    upstream: Name
    counts: Counts


class Report(Struct, tag="report", frozen=True):
    """A worker's counters, once a second; of servers and hooks, those that have changed."""

    version: Version
    accepted: Counter
    requests: Counter
    refused: Counter
    connections: Counter
    active: Counter
    tunnels: Counter
    servers: tuple[ServerReport, ...] = ()
    hooks: tuple[HookReport, ...] = ()
    shadows: tuple[ShadowReport, ...] = ()
    #: The upstreams whose balancers have failed since the report before.
    balancers: tuple[BalancerReport, ...] = ()
    #: The upstreams whose counters have changed since the report before.
    upstreams: tuple[UpstreamReport, ...] = ()
    access_log_dropped: Counter = 0
    #: Requests whose spans found no room on their way to the director.
    spans_dropped: Counter = 0


class HookFailed(Struct, tag="failed", frozen=True):
    """A version of a hook has failed."""

    mark: Annotated[int, Meta(ge=0, le=2**32)]


class HookHeavy(Struct, tag="heavy", frozen=True):
    """The worker has suspended a version of a hook, which holds too much memory."""

    mark: Annotated[int, Meta(ge=0, le=2**32)]
    reason: Text


class Grown(Struct, tag="grown", frozen=True):
    """The worker has taken much more memory than its hooks hold: it must be replaced."""


class Told(Struct, tag="told", frozen=True):
    """What a worker was asked for; neither of the two, if it does not know.

    A message of its own, because an answer has a limit of 64 KiB.
    """

    number: Annotated[int, Meta(ge=0, le=2**53)]
    explanation: Explanation | None = None
    decision: DecisionTold | None = None


ToWorker = (
    Begin
    | Whole
    | Delta
    | SuspendHook
    | TakeSettings
    | TakeKeyring
    | TakeTickets
    | Reopen
    | TimeServers
    | Verdicts
    | Addresses
    | Explain
    | FindDecision
    | Ping
    | Drain
    | Listening
)
FromWorker = Report | Verdicts | HookFailed | HookHeavy | Grown | Counted | Present | Told | Spans

_to_worker: Any = msgspec.json.Decoder(ToWorker)
_whole = msgspec.json.Decoder(Whole)
_keyring = msgspec.json.Decoder(Keyring)
_from_worker = msgspec.json.Decoder(FromWorker)
_answer = msgspec.json.Decoder(Done)


def encode(message: Struct) -> bytes:
    """The bytes of a message."""
    return msgspec.json.encode(message)


def raw(data: bytes) -> msgspec.Raw:
    """An encoded message, to become a part of another one."""
    return msgspec.Raw(data)


def decode_to_worker(data: bytes) -> ToWorker:
    """A message of the director."""
    message: ToWorker = _to_worker.decode(data)
    if isinstance(message, Delta):
        return _with_texts(message)
    return _with_texts(message) if isinstance(message, Whole) else message


def decode_whole(data: msgspec.Raw) -> Whole:
    """The message in ``Begin.snapshot``."""
    return _with_texts(_whole.decode(data))


def decode_keyring(data: msgspec.Raw) -> Keyring:
    """The certificates in ``Begin.keyring``."""
    return _keyring.decode(data)


def decode_from_worker(data: bytes) -> FromWorker:
    """A message that a worker sent by itself.  Raises ValueError for anything else."""
    message: FromWorker = _decoded(_from_worker, data)
    return message


def decode_answer(data: bytes) -> Done:
    """A worker's answer.  Raises ValueError for anything else."""
    answer: Done = _decoded(_answer, data)
    return answer


def _decoded(decoder: Any, data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it sent what is no message: {error}") from None


def lean_settings(settings: Settings) -> Settings:
    """The settings that a worker needs.

    Upstreams, routes and settings of hooks are left out, because they come in the snapshot;
    services, because the director follows them; the store's URL, because it is a secret; the
    files in ``tls``, because certificates come by themselves.  Of the tokens, the hashes of
    admins' stay, without who has them: requests may bring one of these tokens.
    """
    tokens = tuple(
        structs.replace(one, name="admin")
        for one in settings.control.tokens
        if one.role == "admin" and not one.names
    )
    control = Control(tokens=tokens)
    return structs.replace(
        settings,
        upstreams={},
        services={},
        routes=(),
        settings={},
        store="",
        control=control,
        tls=Tls(redirect=settings.tls.redirect, hsts=settings.tls.hsts),
    )


def whole(snapshot: Snapshot) -> Whole:
    """The message that carries a snapshot."""
    texts: dict[str, str] = {}
    return Whole(
        snapshot.version,
        tuple(_lean(upstream, texts) for upstream in snapshot.upstreams.values()),
        snapshot.routes,
        snapshot.default_upstream,
        tuple(map(_lean_hook, snapshot.hooks.values())),
        dict(snapshot.settings),
        dict(snapshot.certificates),
        snapshot.challenges,
        texts,
    )


def delta(base: Snapshot, snapshot: Snapshot, changed: Collection[str]) -> Delta:
    """The message that leads from ``base`` to ``snapshot``; ``changed`` names the
    upstreams that differ."""
    found = snapshot.upstreams
    hooks, known = snapshot.hooks, base.hooks
    differ = [hook for key, hook in hooks.items() if known.get(key) is not hook]
    # A worker is not told of a version that is staged and that no request sees.
    new = [(known.get(hook.key), _lean_hook(hook)) for hook in differ]
    settings, gone_settings = _changed(base.settings, snapshot.settings)
    certificates, gone_certificates = _changed(base.certificates, snapshot.certificates)
    texts: dict[str, str] = {}
    return Delta(
        base.version,
        snapshot.version,
        tuple(_lean(found[name], texts) for name in changed if name in found),
        tuple(name for name in changed if name not in found),
        None if snapshot.routes is base.routes else snapshot.routes,
        snapshot.default_upstream,
        tuple(hook for old, hook in new if old is None or _lean_hook(old) != hook),
        tuple(key for key in known if key not in hooks),
        settings,
        gone_settings,
        certificates,
        gone_certificates,
        None if snapshot.challenges is base.challenges else snapshot.challenges,
        texts,
    )


def keyring_change(before: Keyring, after: Keyring) -> TakeKeyring:
    """The message that leads a worker from one keyring to another.  A pair that has not changed
    must be the same object in both."""
    kept, known = set(map(id, after.pairs)), set(map(id, before.pairs))
    return TakeKeyring(
        len(before.pairs),
        tuple(place for place, pair in enumerate(before.pairs) if id(pair) not in kept),
        structs.replace(after, pairs=tuple(one for one in after.pairs if id(one) not in known)),
    )


def changed_keyring(before: Keyring, change: TakeKeyring) -> Keyring:
    """The keyring to which a change leads.  Raises ValueError if it was made for another one."""
    if change.count != len(before.pairs):
        raise ValueError(f"expected {change.count} certificates, have {len(before.pairs)}")
    kept = list(before.pairs)
    for place in reversed(change.gone):
        del kept[place]
    return structs.replace(change.keyring, pairs=(*kept, *change.keyring.pairs))


def _changed(
    before: Mapping[str, _Value], after: Mapping[str, _Value]
) -> tuple[dict[str, _Value], tuple[str, ...]]:
    """What is new or changed in a table, and the names that have left it."""
    if after is before:
        return {}, ()
    new = {
        name: value
        for name, value in after.items()
        if (known := before.get(name)) is not value and known != value
    }
    return new, tuple(name for name in before if name not in after)


def _lean_hook(hook: Hook) -> Hook:
    """The hook without a staged version that no request sees yet."""
    return hook if hook.canary or hook.shadow else structs.replace(hook, staged=None)


def _lean(upstream: Upstream, texts: dict[str, str]) -> Upstream:
    """The upstream without what only the control plane needs.  (The digest is also too
    large for a number in JSON.)

    What is in the files of its ``tls`` goes to ``texts``, by the hash that takes its place: a
    file with CAs is large, and thousands of upstreams may name the same.
    """
    lean = structs.replace(upstream, source={}, digest=0, unknown=())
    if not upstream.all_tls:
        return lean

    def named(text: str) -> str:
        if not text:
            return ""
        name = hashlib.sha256(text.encode()).hexdigest()
        texts[name] = text
        return name

    return _with_tls(lean, named)


def _with_texts(message: _Config) -> _Config:
    """The message with the texts in their places."""
    texts = message.texts
    if not texts:
        return message
    upstreams = tuple(
        _with_tls(upstream, lambda name: texts[name] if name else "")
        if upstream.all_tls
        else upstream
        for upstream in message.upstreams
    )
    return structs.replace(message, upstreams=upstreams, texts={})


def _with_tls(upstream: Upstream, change: Callable[[str], str]) -> Upstream:
    def changed(tls: ServerTls | None) -> ServerTls | None:
        if tls is None:
            return None
        return structs.replace(tls, ca=change(tls.ca), cert=change(tls.cert), key=change(tls.key))

    own = {key: changed(tls) for key, tls in upstream.server_tls.items()}
    return structs.replace(upstream, tls=changed(upstream.tls), server_tls=own)
