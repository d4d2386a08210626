"""What etcd's gateway says: its answers as structures, and what can be wrong with them.

Nothing that a server sends is trusted.  Numbers are those of Go's ``int64``; a text is shown on one
line of bounded length.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from slardar.errors import StoreError

__all__ = [
    "AwayError",
    "ErrorAnswer",
    "Header",
    "KeyValue",
    "RangeAnswer",
    "RefusedError",
    "TokenAnswer",
    "TooLargeError",
    "TxnAnswer",
    "WatchEvent",
    "WatchLine",
    "WatchResult",
    "printable",
    "read_answer",
    "read_error",
]

T = TypeVar("T")

#: The codes of gRPC by which a call was certainly not carried out.
_NOT_DONE: Final = frozenset((3, 5, 7, 8, 9, 11, 12, 16))
#: What etcd says when a token has expired, is missing, or is older than a change of users.
_TOKEN: Final = (
    "invalid auth token",
    "user name is empty",
    "revision of auth store is old",
    "revision in header is old",
)

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Header(msgspec.Struct):
    """What each answer begins with."""

    revision: Number = 0


class KeyValue(msgspec.Struct):
    """A key, its value, and the revision that has written it."""

    key: bytes
    value: bytes = b""
    mod_revision: Number = 0


class RangeAnswer(msgspec.Struct):
    """Keys; ``count`` is how many there are in the range, ``kvs`` may have fewer."""

    header: Header
    kvs: list[KeyValue] = []
    more: bool = False
    count: Number = 0


class TxnAnswer(msgspec.Struct):
    """Whether a transaction's comparisons held."""

    header: Header
    succeeded: bool = False


class WatchEvent(msgspec.Struct):
    """One key that was written or removed."""

    kv: KeyValue
    type: Literal["PUT", "DELETE"] = "PUT"


class WatchResult(msgspec.Struct):
    """What a watch tells at a time."""

    header: Header
    created: bool = False
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: Number = 0
    #: More of this result follows.
    fragment: bool = False
    events: list[WatchEvent] = []


class TokenAnswer(msgspec.Struct):
    """What a user is given for a password."""

    token: str


class ErrorAnswer(msgspec.Struct):
    """Why etcd does not do what it is asked to do."""

    #: A text; of a stream an object with ``message``.
    error: Any = ""
    message: str = ""
    code: Number = 0

    @property
    def text(self) -> str:
        """etcd's words; empty if it has none."""
        error = self.error
        if isinstance(error, dict):
            error = error.get("message", "")
        return self.message or str(error)


class WatchLine(msgspec.Struct):
    """One line of a watch."""

    result: WatchResult | None = None
    error: Any = None


class AwayError(StoreError):
    """A member could not be asked, or not to the end: another member may know better."""

    def __init__(self, message: str, unsent: bool = False, lost: bool = False) -> None:
        super().__init__(message)
        #: Nothing was carried out, for certain.
        self.unsent = unsent
        #: The connection has ended before there was an answer.
        self.lost = lost


class RefusedError(StoreError):
    """etcd has answered that it does not do what it is asked to do."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        #: etcd's own words.
        self.text = text

    @property
    def is_about_token(self) -> bool:
        """Whether another token may help."""
        return any(words in self.text for words in _TOKEN)


class TooLargeError(StoreError):
    """An answer is larger than the caller wants it."""


def printable(text: str) -> str:
    """What a server has said, on one line of at most 200 characters."""
    text = " ".join(text[:1000].split())
    text = "".join(one if one.isprintable() else "?" for one in text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def read_answer(name: str, body: bytes, answer: type[T]) -> T:
    """An answer as a structure.  Raises AwayError if it is something else."""
    try:
        return msgspec.json.decode(body, type=answer, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = printable(str(error))
        raise AwayError(f"{name}: its answer makes no sense: {reason}") from None


def read_error(name: str, code: int, body: bytes) -> StoreError:
    """What an answer says whose HTTP status is not 200."""
    try:
        answer = read_answer(name, body, ErrorAnswer)
    except AwayError:
        answer = ErrorAnswer()
    text = printable(answer.text)
    if not text:
        return AwayError(f"{name}: HTTP status {code}", unsent=code in (404, 429))
    if answer.code in _NOT_DONE:
        return RefusedError(f"{name}: {text}", text)
    # A member without a leader has not even looked at the call.
    return AwayError(f"{name}: {text}", unsent=text == "etcdserver: no leader")
