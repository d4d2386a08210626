"""What the client of a CA keeps in the store: its account, and the orders for certificates.

Nodes that share a store share both.  An order of a name is one value, ``order/NAME``.  A node takes
the order by writing itself into it, with the revision that it has seen, so at most one node has it.
The answers for the CA are in the value, too, so every node gives them.

Somebody else may write to the store, so a value may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from slardar.model.tls import Challenges, Pair

__all__ = [
    "ACCOUNT",
    "Account",
    "Answer",
    "HostState",
    "Order",
    "order_key",
    "read_challenges",
    "read_value",
]

T = TypeVar("T", bound=Struct)

#: The name of the account's value.
ACCOUNT: Final = "account"
_ORDER: Final = "order/"

Line = Annotated[str, Meta(max_length=1000)]
Pem = Annotated[str, Meta(max_length=16384)]
#: Epoch seconds.
Time = Annotated[float, Meta(ge=0, le=2**40)]


class Account(Struct, frozen=True, omit_defaults=True):
    """The account at a CA.  Whoever has its key may act as its owner."""

    #: The URL of the CA's directory.
    directory: Line
    #: The private key, in PEM.
    key: Pem
    #: The URL of the account; empty until the CA has made it.
    uri: Line = ""
    #: The address that the CA knows.
    email: Line = ""

    def __repr__(self) -> str:
        return f"<Account {self.uri or self.directory}>"


class Answer(Struct, frozen=True, omit_defaults=True):
    """What a CA is answered that asks for one name."""

    #: HTTP-01: the token, and the body of the reply.
    token: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{0,256}\Z")] = ""
    text: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{0,512}\Z")] = ""
    #: TLS-ALPN-01: the certificate and its key, in PEM.
    cert: Pem = ""
    key: Pem = ""

    def __repr__(self) -> str:
        return "<Answer>"


class Order(Struct, frozen=True, omit_defaults=True):
    """What is known of the order of a name: who has it, or when it is tried again."""

    #: The node that has the order; empty if none has it.
    node: Line = ""
    #: When the node took it, and until when it has it.
    began: Time = 0
    until: Time = 0
    #: Failures in a row, the time before which there is no next try, and what was wrong.
    failures: Annotated[int, Meta(ge=0, le=2**31)] = 0
    next: Time = 0
    error: Line = ""
    #: The type of challenge that failed last; empty if none did.
    kind: Line = ""
    answer: Answer | None = None


class HostState(Struct, frozen=True):
    """How it is with the certificate of a host, for the status.  Times are in epoch seconds."""

    #: ``ok``, ``ordering``, ``waiting`` (for its turn, or another node has the order), ``failed``
    #: (it is tried again), or ``other`` (a certificate that was not got by ACME is in use).
    status: str
    expires: float = 0.0
    #: When it is renewed, or tried again.
    next: float = 0.0
    #: What was wrong the last time.
    error: str = ""
    failures: int = 0
    #: The node that has the order.
    node: str = ""


def order_key(name: str) -> str:
    """The name of the value for the order of a host."""
    return f"{_ORDER}{name}"


def read_value(kind: type[T], value: object) -> T:
    """A value of the store.  Raises ValueError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def read_challenges(
    values: Mapping[str, Any], known: Challenges
) -> tuple[Challenges, dict[str, str]]:
    """What CAs are answered, and why orders cannot be read, by their names.

    The answers are ``known`` if they are the same.
    """
    http: dict[str, str] = {}
    tls: dict[str, Pair] = {}
    failed: dict[str, str] = {}
    for name, value in values.items():
        if not name.startswith(_ORDER):
            continue
        host = name[len(_ORDER) :]
        try:
            answer = read_value(Order, value).answer
        except ValueError as error:
            failed[name] = str(error)
            continue
        if answer is None:
            continue
        if answer.token:
            http[answer.token] = answer.text
        if answer.cert:
            tls[host] = Pair(f"ACME: {host}", answer.cert, answer.key, (host,), "ec", 0)
    found = Challenges(http, tls)
    return (known if found == known else found), failed
