"""The messages between two generations, as typed values in JSON.

The generations may run different versions of slardar.  So a field that the receiver does
not know is ignored, and every new field needs a default.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from slardar.catalogues.watch import KnownService
from slardar.health.verdicts import Extra, Heartbeat, Verdict
from slardar.model.change import StoredState
from slardar.model.tls import TicketKeys
from slardar.observers.counted import Counted

__all__ = [
    "REFUSED",
    "End",
    "Failed",
    "FromPredecessor",
    "FromSuccessor",
    "Generation",
    "Generations",
    "GiveUp",
    "Handed",
    "HandedSockets",
    "Hello",
    "KeptState",
    "Serving",
    "State",
    "Verdict",
    "WantsStore",
    "decode_from_predecessor",
    "decode_from_successor",
    "decode_handed",
    "encode",
]


class HandedSockets(Struct, frozen=True):
    """The listening sockets of one endpoint, as descriptors of the successor."""

    #: ``listen`` or ``control``: the key that names the endpoint in the settings.
    purpose: str
    endpoint: str
    descriptors: tuple[int, ...]
    #: The id of the listener that they are for; empty if they are for none.
    listener: str = ""


class Handed(Struct, frozen=True):
    """What a successor is started with; it travels in the successor's environment."""

    #: The predecessor's process id.
    pid: int
    #: The descriptor of the link.
    link: int
    #: The descriptor that becomes the successor's standard error.
    stderr: int
    sockets: tuple[HandedSockets, ...]


class Hello(Struct, tag="hello", frozen=True):
    """The successor's first message: it runs."""

    pid: int


class WantsStore(Struct, tag="store", frozen=True):
    """The successor has all it needs except the store.  The predecessor sends
    :class:`State`."""


class Serving(Struct, tag="serving", frozen=True):
    """The successor serves: the predecessor must drain.

    Once the predecessor has answered this message, it drains and ends.
    """

    #: The sockets that the successor uses, by their places in ``Handed.sockets``.
    taken: tuple[int, ...]


class Failed(Struct, tag="failed", frozen=True):
    """The successor cannot start, and is about to end."""

    reason: str


class End(Struct, tag="end", frozen=True):
    """The predecessor must end within ``seconds``, and pass this on to its own predecessor."""

    seconds: float


class KeptState(Struct, frozen=True):
    """What was served of a store that lives elsewhere (:class:`slardar.interfaces.IKeptStore`)."""

    url: str
    state: StoredState
    #: When the store was last known to hold it; ``None``: now.
    known_until: float | None = None


class State(Struct, tag="state", frozen=True):
    """The predecessor has let go of the store."""

    #: What the store held, if its content ends with the process; else ``None``.
    stored: StoredState | None = None
    #: The servers that requests have put out of service, and what heartbeats say of servers.
    health: tuple[Verdict, ...] = ()
    checked: tuple[Heartbeat, ...] = ()
    #: What keeps servers from requests beside that.
    extras: tuple[Extra, ...] = ()
    #: What catalogues have listed for services.
    services: tuple[KnownService, ...] = ()
    #: The version of the configuration: what a catalogue has changed is not counted in the store.
    version: int = 0
    #: What was counted so far.
    counted: Counted | None = None
    #: What is known of a store that lives elsewhere.
    kept: KeptState | None = None
    #: What session tickets are sealed with, and since when, in seconds; ``None``: they are not
    #: shared.
    tickets: TicketKeys | None = None
    tickets_age: float = 0.0


class Generation(Struct, frozen=True):
    """A process that still serves; ``age`` is in seconds."""

    pid: int
    age: float
    connections: int


class Generations(Struct, tag="generations", frozen=True):
    """The predecessor and the processes before it, newest first; sent once a second."""

    generations: tuple[Generation, ...]
    #: What the predecessor has counted since it told the last time.
    counted: Counted | None = None


class GiveUp(Struct, tag="give-up", frozen=True):
    """The predecessor goes on serving: the successor must end."""

    reason: str


FromSuccessor = Hello | WantsStore | Serving | Failed | End
FromPredecessor = State | Generations | GiveUp

#: What a predecessor that has given up answers to :class:`Serving`.
REFUSED = b"no"

_handed = msgspec.json.Decoder(Handed)
_from_successor: Any = msgspec.json.Decoder(FromSuccessor)
_from_predecessor: Any = msgspec.json.Decoder(FromPredecessor)


def encode(message: Struct) -> bytes:
    """The bytes of a message."""
    return msgspec.json.encode(message)


def decode_handed(text: str) -> Handed:
    """The value of the environment variable.  Raises ValueError for anything else."""
    return _handed.decode(text)


def decode_from_successor(data: bytes) -> FromSuccessor:
    """A message of a successor.  Raises ValueError for anything else."""
    message: FromSuccessor = _from_successor.decode(data)
    return message


def decode_from_predecessor(data: bytes) -> FromPredecessor:
    """A message of a predecessor.  Raises ValueError for anything else."""
    message: FromPredecessor = _from_predecessor.decode(data)
    return message
