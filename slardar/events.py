"""What happens in slardar, as events: told by every part, read by any number of readers.

A part publishes a typed value with a function, and knows nothing of readers.  :class:`EventLog`
keeps the last events in a ring.  A reader is a :class:`Subscription`: a place in the ring.  So a
reader has no buffer of its own, and publishing costs the same with none and with a hundred of them.
Readers are woken a little later, in slices of time, and a reader that the ring has overtaken is
lost: nobody waits for it.  How events travel to a reader is the business of a control channel.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec
from msgspec import Struct, structs

from slardar.model.change import Kind

__all__ = [
    "KINDS",
    "AcmeState",
    "CertificateExpiry",
    "Changed",
    "Entry",
    "Event",
    "EventLog",
    "EventsAsked",
    "Gap",
    "Health",
    "HookState",
    "LostError",
    "More",
    "Publish",
    "Store",
    "Subscription",
    "Worker",
    "ignore",
    "kind_of",
]

#: Events that are kept.  A hundred changes a second fill the ring in 80 seconds.
_SIZE = 8192
#: Seconds between an event and the waking of readers.  Events that come together are sent
#: together.
_PAUSE = 0.02
#: Seconds for which readers are woken before everybody else has a turn.
_SLICE = 0.005
#: Bytes that a reader gets at one time; the last event may go beyond.
_PIECE = 65536
#: Characters of a reason.
_MAX_REASON = 300


class Changed(Struct, frozen=True):
    """A thing of the configuration has changed; the store holds the change."""

    #: As in the history.
    kind: Kind
    #: The name of the upstream or the service, or the hook's language and name; empty for what
    #: there is one of.
    name: str
    version: int
    who: str


class More(Struct, frozen=True, tag_field="kind", tag="more"):
    """A version has changed so many things that only the first were told."""

    version: int
    count: int


class Health(Struct, frozen=True, tag_field="kind", tag="health"):
    """The health of a server has changed."""

    upstream: str
    #: ``HOST:PORT``.
    server: str
    status: Literal["unchecked", "ok", "unstable", "err"]
    #: What was wrong; empty if nothing is.
    reason: str = ""
    #: For an ejected server: the seconds after which it is back, which no event tells.
    seconds: float | None = None


class HookState(Struct, frozen=True, tag_field="kind", tag="hook_state"):
    """A hook has failed, or it does not run any more."""

    #: Language and name: ``lua/script.www.example.com``.
    name: str
    state: Literal["failed", "suspended"]
    reason: str = ""


class Worker(Struct, frozen=True, tag_field="kind", tag="worker"):
    """A worker serves, has ended by itself, or has grown too large and is replaced."""

    name: str
    state: Literal["started", "ended", "replaced"]
    pid: int | None
    reason: str = ""


class Store(Struct, frozen=True, tag_field="kind", tag="store"):
    """The store takes no change (``error``), is away (``stale``), has lost what is served
    (``held``), or all is well again (``back``)."""

    status: Literal["error", "stale", "held", "back"]
    reason: str = ""


class AcmeState(Struct, frozen=True, tag_field="kind", tag="acme_state"):
    """A CA has signed a certificate, the first of a host or another one, or it could not be got."""

    #: The name of the host.
    name: str
    state: Literal["got", "renewed", "failed"]
    reason: str = ""


class CertificateExpiry(Struct, frozen=True, tag_field="kind", tag="certificate_expiry"):
    """A certificate in use expires soon, or has expired."""

    #: Its name in the store, or its file.
    name: str
    state: Literal["expiring", "expired"]
    #: When, in epoch seconds.
    expires: int


class Gap(Struct, frozen=True, tag_field="kind", tag="gap"):
    """A reader that comes back has missed events that are not kept any more."""


Event: TypeAlias = (
    Changed | More | Health | HookState | Worker | Store | AcmeState | CertificateExpiry | Gap
)

#: The kinds of events that can be asked for.  The others say that some events are missing.
KINDS = frozenset(
    (
        *(kind for kind in get_args(Kind) if kind != "acme"),
        *("acme_state", "certificate_expiry", "health", "hook_state", "store", "worker"),
    )
)

#: How a part tells of an event.  It returns at once and never raises.
Publish = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Publish to nobody."""


def kind_of(event: Event) -> str:
    """The value of ``kind`` in the event's JSON."""
    return event.kind if isinstance(event, Changed) else str(type(event).__struct_config__.tag)


class Entry(NamedTuple):
    """An event as readers get it."""

    #: By which a reader says where to go on; empty for an event that only this reader gets.
    id: str
    event: Event
    #: One JSON object, with the ``time`` of the event in epoch seconds.
    data: bytes


class LostError(Exception):
    """The ring has overtaken a reader."""


class EventLog:
    """The last events, and who reads them.

    ``reactor`` gives turns; ``clock`` gives epoch seconds.  For the reactor's thread only.
    """

    def __init__(
        self, reactor: Any, clock: Callable[[], float] = time.time, size: int = _SIZE
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        # Ids of another process, or of this one before it was started again, mean nothing here.
        self._instance = f"{int(clock() * 1000):x}"
        self._ring: list[Entry | None] = [None] * size
        #: The number of the next event.
        self._next = 0
        self._readers: dict[Subscription, None] = {}
        #: The readers that are yet to be woken in this round, the number of the next event when it
        #: began, and the call that goes on with it or begins another.
        self._waiting: list[Subscription] = []
        self._told = 0
        self._call: Any = None

    def publish(self, event: Event) -> None:
        """Keep an event and tell the readers, a little later."""
        reason = getattr(event, "reason", "")
        if reason:
            # An error may quote the name of a file, which need not be text.
            text = reason[:_MAX_REASON].encode("utf-8", "replace").decode()
            event = structs.replace(event, reason=text)
        number, self._next = self._next, self._next + 1
        entry = Entry(self._id(self._next), event, _to_json(event, self._clock()))
        self._ring[number % len(self._ring)] = entry
        if self._readers and self._call is None:
            self._call = self._reactor.callLater(_PAUSE, self._begin_round)

    def subscribe(
        self,
        wake: Callable[[], None],
        accepts: Callable[[Event], bool] | None = None,
        after: str = "",
    ) -> Subscription:
        """Begin to read: what comes from now on, or what came after the event with the id
        ``after``.  If that one is not kept any more, a :class:`Gap` comes first, and then all that
        is kept.

        ``accepts`` chooses events, and must be quick.  ``wake`` is called when there may be new
        ones; it takes them with :meth:`Subscription.take`, and must neither block nor raise.
        """
        place, has_gap = self._place_after(after) if after else (self._next, False)
        reader = Subscription(self, wake, accepts, place, has_gap)
        self._readers[reader] = None
        return reader

    @property
    def readers(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def _place_after(self, after: str) -> tuple[int, bool]:
        instance, _, text = after.rpartition("-")
        if instance == self._instance and text.isascii() and text.isdigit() and len(text) < 19:
            place = int(text)
            if self._first <= place <= self._next:
                return place, False
        return self._first, True

    def _id(self, place: int) -> str:
        """The id with which a reader says that it has read all events before ``place``."""
        return f"{self._instance}-{place}"

    @property
    def _first(self) -> int:
        """The number of the oldest event that is kept."""
        return max(0, self._next - len(self._ring))

    def _begin_round(self) -> None:
        self._waiting, self._told = list(self._readers), self._next
        self._wake_some()

    def _wake_some(self) -> None:
        """Wake readers for a slice of time; those that are left have their turn later."""
        self._call = None
        until = time.monotonic() + _SLICE
        while self._waiting:
            reader = self._waiting.pop()
            if reader in self._readers:
                reader.wake()
            if time.monotonic() > until and self._waiting:
                self._call = self._reactor.callLater(0, self._wake_some)
                return
        if self._next != self._told and self._readers:
            self._call = self._reactor.callLater(_PAUSE, self._begin_round)

    # For subscriptions.

    def _read(self, reader: Subscription) -> list[Entry]:
        if reader.place < self._first:
            raise LostError
        found = []
        size = 0
        while reader.place < self._next and size < _PIECE:
            entry = self._ring[reader.place % len(self._ring)]
            assert entry is not None
            reader.place += 1
            if reader.accepts is None or reader.accepts(entry.event):
                found.append(entry)
                size += len(entry.data)
        return found

    def _is_behind(self, reader: Subscription) -> bool:
        return reader.place < self._next

    def _leave(self, reader: Subscription) -> None:
        self._readers.pop(reader, None)


class EventsAsked:
    """What somebody wants to read, before there is a way to tell the reader.

    It is the answer of an operation; the control channel makes a reader of it.
    """

    def __init__(self, log: EventLog, accepts: Callable[[Event], bool], after: str) -> None:
        self._log = log
        self._accepts = accepts
        self._after = after

    def subscribe(self, wake: Callable[[], None]) -> Subscription:
        """Begin to read; see :meth:`EventLog.subscribe`."""
        return self._log.subscribe(wake, self._accepts, self._after)


class Subscription:
    """One reader of an :class:`EventLog`: a place in it."""

    __slots__ = ("_has_gap", "_log", "accepts", "place", "wake")

    def __init__(
        self,
        log: EventLog,
        wake: Callable[[], None],
        accepts: Callable[[Event], bool] | None,
        place: int,
        has_gap: bool,
    ) -> None:
        self._log = log
        self.wake = wake
        self.accepts = accepts
        #: The number of the next event.
        self.place = place
        self._has_gap = has_gap

    def take(self) -> list[Entry]:
        """The next events, oldest first: some 64 KiB at most.

        :raise LostError: if the next one is not kept any more.
        """
        if not self._has_gap:
            return self._log._read(self)
        self._has_gap = False
        gap = Gap()
        return [Entry("", gap, _to_json(gap, self._log._clock())), *self._log._read(self)]

    @property
    def id(self) -> str:
        """By which the reader says where to go on: after all that it has taken or not accepted."""
        return self._log._id(self.place)

    @property
    def is_behind(self) -> bool:
        """Whether there is more to take, accepted or not."""
        return self._has_gap or self._log._is_behind(self)

    def close(self) -> None:
        """Read no more.  A second call does nothing."""
        self._log._leave(self)


def _to_json(event: Event, now: float) -> bytes:
    # No event is an empty object: each has its kind.
    return msgspec.json.encode(event)[:-1] + b',"time":%.3f}' % now
