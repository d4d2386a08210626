"""What two generations say to each other: typed messages in JSON.

The two may be of different versions of slardar, so a field that one of them does not
know is left alone, and one that is new needs a default.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from slardar.model.change import StoredState

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
    """What a successor is started with; it travels in its environment."""

    #: The predecessor.
    pid: int
    #: The descriptor of the link, and that of the standard error to be.
    link: int
    stderr: int
    sockets: tuple[HandedSockets, ...]


class Hello(Struct, tag="hello", frozen=True):
    """The successor is there; its first message."""

    pid: int


class WantsStore(Struct, tag="store", frozen=True):
    """The successor needs nothing but the store; answered with :class:`State`."""


class Serving(Struct, tag="serving", frozen=True):
    """The successor serves: the predecessor is to drain from now on.

    It does once it has answered this, and never comes back.
    """

    #: Which of the handed sockets it uses, by their places in :class:`Handed`.
    taken: tuple[int, ...]


class Failed(Struct, tag="failed", frozen=True):
    """The successor cannot start, and ends."""

    reason: str


class End(Struct, tag="end", frozen=True):
    """Drain no longer than ``seconds`` from now, and tell those before you."""

    seconds: float


class Verdict(Struct, frozen=True):
    """A server that requests have put out of service."""

    upstream: str
    host: str
    port: int
    #: Seconds for which it takes no request.
    down_for: float
    message: str


class State(Struct, tag="state", frozen=True):
    """The store is free; what it held if it keeps nothing, and what is known beside it."""

    stored: StoredState | None = None
    health: tuple[Verdict, ...] = ()


class Generation(Struct, frozen=True):
    """A process that serves still; ``age`` is in seconds."""

    pid: int
    age: float
    connections: int


class Generations(Struct, tag="generations", frozen=True):
    """The predecessor and those before it, newest first; once a second."""

    generations: tuple[Generation, ...]


class GiveUp(Struct, tag="give-up", frozen=True):
    """The predecessor goes on by itself: the successor is to end."""

    reason: str


FromSuccessor = Hello | WantsStore | Serving | Failed | End
FromPredecessor = State | Generations | GiveUp

#: The answer to :class:`Serving` of a predecessor that has given up.
REFUSED = b"no"

_handed = msgspec.json.Decoder(Handed)
_from_successor: Any = msgspec.json.Decoder(FromSuccessor)
_from_predecessor: Any = msgspec.json.Decoder(FromPredecessor)


def encode(message: Struct) -> bytes:
    """A message as it travels."""
    return msgspec.json.encode(message)


def decode_handed(text: str) -> Handed:
    """What the environment says.  Raises ValueError (msgspec's) for anything else."""
    return _handed.decode(text)


def decode_from_successor(data: bytes) -> FromSuccessor:
    """What a successor sent.  Raises ValueError, as above."""
    message: FromSuccessor = _from_successor.decode(data)
    return message


def decode_from_predecessor(data: bytes) -> FromPredecessor:
    """What a predecessor sent.  Raises ValueError, as above."""
    message: FromPredecessor = _from_predecessor.decode(data)
    return message
